//! Voters that are cut off in the middle of a download, while on the other side the participant takes the consent back.
//!
//! Five voters. Two visitors read a large record slowly, each from one voter that is all it knows: one from the leader,
//! one from a follower. Then every line from these two to other members is cut; both still hear their clients, and the
//! leader still believes that it leads. The other three elect, and the revocation is acknowledged there.
//!
//! What must come of it: no bytes are taken up later than [`TAKEN_UP`] after the acknowledgement, so that after it only
//! what was already on its way arrives; each download ends within [`ENDED`] of the cut, with an error that may be
//! retried, and never whole; no new read is answered at a voter that is cut off. Healed, all members agree, and both
//! voters refuse.

use std::path::Path;
use std::time::Duration;

use kura_client::{Class, Client, Date, GetError, NewRecord, ParticipantNumber, RecordId, Timeouts, wire};
use rand::{Rng, RngExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::ScenarioError;
use crate::cluster::{Cluster, LOOK, QUICK, Role, unsettled};
use crate::load::{Cast, HOME, Load, PATIENT, VISITORS, physician};
use crate::scan;
use crate::seed::generator;
use crate::site::Site;
use crate::site::network::{Filter, Network};

const VOTERS: usize = 5;
const DISK_MIB: u64 = 1_024;
const MIB: u64 = 1 << 20;
/// A record that a reader at its pace takes much longer for than the bound.
const BODY_BYTES: u64 = 48 * MIB;
const PACE_EACH_MIB: Duration = Duration::from_millis(800);
/// Of it, what has come when the lines are cut.
const TAKEN_MIB: std::ops::RangeInclusive<u64> = 2..=6;
/// Until when after the acknowledgement of a revocation a gateway may take bytes up (docs/architecture.md).
const TAKEN_UP: Duration = Duration::from_secs(10);
/// What may be on its way then: the buffers of a connection and of its two ends.
const ON_ITS_WAY_MAX: u64 = 12 * MIB;
/// How long a voter that is cut off may take to end a download: it decides again every 10 s, and looks for a proof of
/// being current for 10 s; then the reader's own attempts, and a busy machine.
const ENDED: Duration = Duration::from_secs(10 + 10 + CALL_MS / 1_000 + 10);
/// The reader: it waits for longer than a voter looks for its proof, so that it hears what comes of that.
const READER: Timeouts = Timeouts { connect_ms: 1_000, attempt_ms: 12_000, call_ms: CALL_MS, transfer_ms: 120_000 };
const CALL_MS: u64 = 14_000;
/// How long the three may take to elect and acknowledge.
const REVOKED: Duration = Duration::from_secs(40);
const SETTLE: Duration = Duration::from_secs(60);
/// New reads that a voter refuses at least while it is cut off.
const ASKED_MIN: u32 = 3;
/// The number of the one fault, in the names of its filters.
const FAULT: u32 = 1;
/// The participant of the scenario.
const PLACE: usize = 0;

/// What a download came to.
struct Ended {
    at: Instant,
    bytes: u64,
    /// Of these, what came in later than [`TAKEN_UP`] after the acknowledgement.
    late: u64,
    /// `None`: it ended whole.
    error: Option<GetError>,
}

/// Runs it.
///
/// # Errors
/// [`ScenarioError`].
pub async fn run(seed: u64, directory: &Path, say: &dyn Fn(&str)) -> Result<(), ScenarioError> {
    say("five voters, each with a network and a disk of its own");
    let site = Site::open(directory, DISK_MIB).await?;
    let mut cluster = Cluster::found(directory, site, VOTERS, 0).await?;
    let cast = Load::set_up(&cluster, seed, 1).await?;
    let mut random = generator(seed, "cut-download");
    let record = write(&cluster, &cast, &mut random).await?;
    let settled = |reply: &wire::StatusReply| unsettled(reply, VOTERS);
    let status = cluster.wait_until("the same digest on every member", SETTLE, settled).await?;
    let leader = scan::leader(&status).ok_or_else(|| setup("nobody leads"))?;
    let (mut voters, draw) = (cluster.voters().to_vec(), random.random_range(1..VOTERS));
    voters.sort_by_key(|voter| *voter != leader);
    voters.swap(1, draw);
    let (left, others) = voters.split_at(2);
    // Whether the two still hear each other: they are no majority either way.
    let (paired, taken) = (random.random_ratio(1, 2), random.random_range(TAKEN_MIB) * MIB);
    let how = if paired { "together" } else { "each alone" };
    say(&format!("{} (which leads) and {} will be cut off, {how}, at {} MiB", left[0], left[1], taken / MIB));

    let (revoked, is_revoked) = watch::channel(None);
    let (mut reading, mut progress) = (Vec::new(), Vec::new());
    for voter in left {
        let client = cluster.client(Role::Application, Some(voter), READER).await?;
        let (told, bytes) = watch::channel(0);
        reading.push(tokio::spawn(read(client, *cast.number(PLACE), record, is_revoked.clone(), told)));
        progress.push(bytes);
    }
    for bytes in &mut progress {
        let come = timeout(SETTLE, bytes.wait_for(|bytes| *bytes >= taken)).await;
        come.map_err(|_| setup("no bytes came"))?.map_err(|_| setup("a download ended before the cut"))?;
    }
    let at = cut(&cluster, left, others, paired).await?;
    let cut_at = Instant::now();
    revoke(&cluster, &cast, others).await?;
    let revoked_at = Instant::now();
    revoked.send_replace(Some(revoked_at));
    say(&format!("revoked on the other side {} ms after the cut", (revoked_at - cut_at).as_millis()));
    let mut asked = 0;
    while !reading.iter().all(tokio::task::JoinHandle::is_finished) {
        if cut_at.elapsed() > ENDED {
            return Err(ScenarioError::Broken(format!("a download goes on {} s after the cut", ENDED.as_secs())));
        }
        refused_at(&cluster, &cast, left, record).await?;
        asked += 1;
        cluster.check()?;
    }
    for (voter, ended) in left.iter().zip(reading) {
        let ended = ended.await.map_err(|error| setup(&error.to_string()))??;
        say(&format!("{voter}: {}", judge(voter, &ended, cut_at)?));
    }
    say(&format!("healing; meanwhile {asked} new reads were refused at each of them"));
    if asked < ASKED_MIN {
        return Err(setup("the voters were hardly asked while they were cut off"));
    }
    for node in at {
        if Network::unfilter(FAULT, &node).await? == 0 {
            return Err(setup(&format!("nothing was dropped at {node}")));
        }
    }
    cluster.wait_until("the same digest on every member", SETTLE, settled).await?;
    for voter in cluster.voters().to_vec() {
        denied_at(&cluster, &cast, &voter, record).await?;
    }
    say("all members agree, and every voter denies");
    Ok(cluster.stop().await?)
}

fn setup(what: &str) -> ScenarioError {
    ScenarioError::Setup(what.to_owned())
}

async fn write(cluster: &Cluster, cast: &Cast, random: &mut impl Rng) -> Result<RecordId, ScenarioError> {
    let client = cluster.client(Role::Application, None, PATIENT).await?;
    let mut body = vec![0; BODY_BYTES as usize];
    random.fill_bytes(&mut body);
    let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
    let put = physician(&client, HOME).put(cast.number(PLACE), image).body(std::io::Cursor::new(body));
    put.await.map(|receipt| receipt.record()).map_err(|error| setup(&format!("the record: {error}")))
}

/// Reads at its pace until the revocation's bound is over, and then as fast as it can.
async fn read(
    client: Client,
    number: ParticipantNumber,
    record: RecordId,
    revoked: watch::Receiver<Option<Instant>>,
    told: watch::Sender<u64>,
) -> Result<Ended, ScenarioError> {
    let get = physician(&client, VISITORS[0]).get(&number, record).await;
    let mut stream = get.map_err(|error| setup(&format!("a download: {error}")))?.into_stream();
    let is_over = || revoked.borrow().is_some_and(|at| at.elapsed() > TAKEN_UP);
    let (begun, mut bytes, mut late) = (Instant::now(), 0, 0);
    loop {
        let next = stream.next().await;
        let at = Instant::now();
        match next {
            Some(Ok(chunk)) => {
                bytes += chunk.len() as u64;
                if is_over() {
                    late += chunk.len() as u64;
                }
                told.send_replace(bytes);
            }
            Some(Err(error)) => return Ok(Ended { at, bytes, late, error: Some(error) }),
            None => return Ok(Ended { at, bytes, late, error: None }),
        }
        let pace = PACE_EACH_MIB.mul_f64(bytes as f64 / MIB as f64);
        while begun.elapsed() < pace && !is_over() {
            sleep(LOOK).await;
        }
    }
}

/// Cuts the lines, and answers the nodes that have filters now.
async fn cut(
    cluster: &Cluster,
    left: &[String],
    others: &[String],
    paired: bool,
) -> Result<Vec<String>, ScenarioError> {
    let mut filters: Vec<Filter> =
        others.iter().map(|at| Filter { at: at.clone(), from: left.to_vec(), percent: 100 }).collect();
    for at in left {
        let partner = left.iter().filter(|other| *other != at && !paired);
        filters.push(Filter { at: at.clone(), from: others.iter().chain(partner).cloned().collect(), percent: 100 });
    }
    cluster.site()?.network.filter(FAULT, &filters).await?;
    Ok(filters.into_iter().map(|filter| filter.at).collect())
}

/// Has the participant take the consent back, by a client that knows the others alone.
async fn revoke(cluster: &Cluster, cast: &Cast, others: &[String]) -> Result<(), ScenarioError> {
    let mut config = cluster.config(Role::Application, None, QUICK)?;
    config.endpoints.retain(|endpoint| others.contains(&endpoint.name));
    let client = Client::connect_lazily(config).await.map_err(|error| setup(&error.to_string()))?;
    let end = Instant::now() + REVOKED;
    loop {
        match cast.person(&client, PLACE).revoke(VISITORS[0]).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(setup(&format!("the revocation: {error}"))),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// A voter that is cut off answers no new read.
async fn refused_at(cluster: &Cluster, cast: &Cast, left: &[String], record: RecordId) -> Result<(), ScenarioError> {
    for voter in left {
        let client = cluster.client(Role::Application, Some(voter), QUICK).await?;
        if physician(&client, VISITORS[0]).get(cast.number(PLACE), record).await.is_ok() {
            let what = format!("{voter}, cut off, answers a read that was called after the revocation");
            return Err(ScenarioError::Broken(what));
        }
    }
    Ok(())
}

async fn denied_at(cluster: &Cluster, cast: &Cast, voter: &str, record: RecordId) -> Result<(), ScenarioError> {
    let client = cluster.client(Role::Application, Some(voter), PATIENT).await?;
    match physician(&client, VISITORS[0]).get(cast.number(PLACE), record).await {
        Err(GetError::Denied(_)) => Ok(()),
        Err(error) => Err(ScenarioError::Broken(format!("{voter}, healed, does not deny but says: {error}"))),
        Ok(_) => Err(ScenarioError::Broken(format!("{voter}, healed, hands out what was revoked"))),
    }
}

/// Holds a download against what is promised, and says in words what came of it.
fn judge(voter: &str, ended: &Ended, cut_at: Instant) -> Result<String, ScenarioError> {
    let (after, mib) = (ended.at - cut_at, |bytes: u64| bytes as f64 / MIB as f64);
    let broken = |what: String| Err(ScenarioError::Broken(format!("a download from {voter}, cut off, {what}")));
    let Some(error) = &ended.error else { return broken(format!("ended whole, {after:?} after the cut")) };
    if ended.bytes >= BODY_BYTES {
        return broken("delivered its last bytes".into());
    }
    if ended.late > ON_ITS_WAY_MAX {
        return broken(format!("delivered {:.1} MiB after the bound", mib(ended.late)));
    }
    if after > ENDED {
        return broken(format!("ended {after:?} after the cut"));
    }
    if !error.may_retry() {
        return broken(format!("ended as if for good: {error}"));
    }
    let [came, late] = [ended.bytes, ended.late].map(mib);
    Ok(format!("ended {:.1} s after the cut, at {came:.1} MiB ({late:.1} late): {error}", after.as_secs_f64()))
}
