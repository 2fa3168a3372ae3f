//! A cluster that is lost with all its members, and served again from its backup's archive, under load.
//!
//! A load works on three voters and a backup, and rests; the archive takes up what there is. Everybody is killed. What
//! `kura restore apply` makes of the archive is started as a cluster of one, on a new timeline; two voters join it; the
//! same load goes on, and whoever leads is killed under it and comes back.
//!
//! What must come of it is what the [checker](crate::check) holds any history to, over the loss as over any other fault:
//! the archive had everything, so nothing that was acknowledged is lost, no consent went back, what was written before
//! is not written again, one journal continues the other, and voters have one digest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kura_client::{now_ms, wire};
use kura_proto::point::KNOWN;
use tokio::time::{Instant, sleep};

use super::ScenarioError;
use crate::check;
use crate::cluster::{Cluster, LOOK, QUICK, Role};
use crate::history::{self, FORMAT, Floors, Header, Line, Members, Nemesis, NemesisEvent, Recorder};
use crate::load::{Load, Scale, Shared};
use crate::scan;
use crate::site::Site;

const DISK_MIB: u64 = 1_536;
const SCALE: Scale = Scale { clients: 6, participants: 12, groups: 2, pace_ms: 40, large: 10, each_max: 290 };
/// Acknowledged writes before the loss, after it before a voter is killed, and after that.
const WRITES: u64 = 60;
/// How long each may take.
const WORK: Duration = Duration::from_secs(60);
/// How long the archive may take to have everything.
const ARCHIVED: Duration = Duration::from_secs(60);
const PLACE: &str = "restored-1";

/// Runs it.
///
/// # Errors
/// [`ScenarioError`].
pub async fn run(seed: u64, directory: &Path, say: &dyn Fn(&str)) -> Result<(), ScenarioError> {
    say("three voters and a backup with an archive, each with a network and a disk of its own");
    let mut site = Site::open(directory, DISK_MIB).await?;
    site.give_archives();
    let mut cluster = Cluster::found(directory, site, 3, 1).await?;
    let cast = Load::set_up(&cluster, seed, SCALE.participants).await?;
    let path = directory.join("history.jsonl");
    let shared = Arc::new(Shared::new(Recorder::create(path.clone(), header(seed, &cluster))?, cast));
    let mut load = Load::start(&cluster, &shared, seed, SCALE).await?;
    worked(&mut cluster, &shared).await?;
    load.pause().await?;
    scan::settle(&mut cluster, &shared).await?;
    let target = cluster.client(Role::Operator, None, QUICK).await?.operations().status().await;
    let target = target.map_err(|error| ScenarioError::Setup(error.to_string()))?.committed_index;
    cluster.wait_until("an archive that has everything", ARCHIVED, |reply| missing_in_archive(reply, target)).await?;

    say(&format!("everybody is killed; the archive has {} records", shared.acknowledged()));
    let backup = cluster.backups().first().cloned().ok_or_else(|| ScenarioError::Setup("there is no backup".into()))?;
    let restore = cluster.prepare_restore(&backup, PLACE).await?;
    cluster.serve_restored(restore).await?;
    for _ in 0..2 {
        cluster.add(false).await?;
    }
    let (at_us, voters) = (shared.recorder.now_us(), cluster.voters().to_vec());
    say(&format!("served again by {}", voters.join(", ")));
    shared.recorder.write(&Line::Members(Members { at_us, voters, backups: Vec::new() }));
    // What was acknowledged before the loss is read, and listed, everywhere, before anything else is done.
    scan::scan(&cluster, &shared, shared.known_from(0)).await?;

    load.reconnect(&cluster).await?;
    load.go_on();
    worked(&mut cluster, &shared).await?;
    kill_leader(&mut cluster, &shared, say).await?;
    worked(&mut cluster, &shared).await?;
    load.stop().await?;
    say("everything is read");
    scan::settle(&mut cluster, &shared).await?;
    shared.recorder.write(&Line::FinalScan { at_us: shared.recorder.now_us() });
    scan::scan(&cluster, &shared, shared.known_from(0)).await?;
    scan::journal(&cluster, &shared).await?;
    scan::settle(&mut cluster, &shared).await?;
    cluster.stop().await?;
    shared.recorder.end()?;
    let report = check::check(&history::read(&path)?);
    say(&report.to_string());
    if report.is_good() { Ok(()) } else { Err(ScenarioError::Broken("see the violations above".into())) }
}

fn header(seed: u64, cluster: &Cluster) -> Header {
    Header {
        format: FORMAT,
        run: "restored".into(),
        seed,
        version: cluster.version().to_owned(),
        began_ms: now_ms(),
        voters: cluster.voters().to_vec(),
        backups: cluster.backups().to_vec(),
        floors: Floors {
            writes: 3 * WRITES,
            reads: WRITES,
            revocations: 3,
            kills: 1,
            leader_kills: 1,
            ..Floors::default()
        },
        ..Header::default()
    }
}

/// Waits until so many more writes were acknowledged.
async fn worked(cluster: &mut Cluster, shared: &Shared) -> Result<(), ScenarioError> {
    let (end, before) = (Instant::now() + WORK, shared.acknowledged());
    while shared.acknowledged() < before + WRITES {
        cluster.check()?;
        if Instant::now() >= end {
            let writes = shared.acknowledged() - before;
            return Err(ScenarioError::Setup(format!("{writes} writes in {} s, not {WRITES}", WORK.as_secs())));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// What keeps an archive from having everything up to an index.
fn missing_in_archive(reply: &wire::StatusReply, index: u64) -> Option<String> {
    match &reply.archive_point {
        Some(point) if point.state == KNOWN && point.index >= index => None,
        Some(point) => Some(format!("it has come to {} of {index}", point.index)),
        None => Some("nothing is told of an archive".into()),
    }
}

async fn kill_leader(cluster: &mut Cluster, shared: &Shared, say: &dyn Fn(&str)) -> Result<(), ScenarioError> {
    let leads = |reply: &wire::StatusReply| scan::leader(reply).is_none().then(|| "nobody leads".to_owned());
    let status = cluster.wait_until("a leader", WORK, leads).await?;
    let leader: Vec<String> = scan::leader(&status).into_iter().collect();
    let writes_under_way = shared.writes_under_way();
    cluster.kill(&leader).await?;
    let event = NemesisEvent::Kill { target: "leader".into(), nodes: leader.clone(), leader: true, writes_under_way };
    shared.recorder.write(&Line::Nemesis(Nemesis { round: 1, at_us: shared.recorder.now_us(), event }));
    say(&format!("{} is killed", leader.join("")));
    // The other two elect first.
    worked(cluster, shared).await?;
    leader.iter().try_for_each(|node| cluster.start_node(node))?;
    let event = NemesisEvent::Start { nodes: leader };
    shared.recorder.write(&Line::Nemesis(Nemesis { round: 1, at_us: shared.recorder.now_us(), event }));
    Ok(())
}
