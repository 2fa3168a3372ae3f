//! The leader is killed in the middle of writing; what was acknowledged is there, what was not
//! known is found out, and the killed node catches up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join, try_join_all};
use kura_client::{Client, NewRecord, Outcome, PutError, RequestId, Timeouts, wire};

use super::bodies::{self, Content, Draft, Print};
use super::cast::{Cast, Clients, HOSPITAL, author_through};
use super::report::Report;
use super::words::Words;
use super::writing::{Written, check_all};
use crate::cli::{Exit, Failure, unsettled};
use crate::dev::{ClientFile, Cluster, Signal};
use crate::samples::{Generator, Kind};

/// Writers at the same time: half of them patient, half of them with short time limits, so that
/// some writes end without an answer.
const WRITERS: usize = 8;
/// Acknowledged writes before the leader is killed, and after.
const BEFORE: usize = 80;
const AFTER: usize = 80;
/// Longest time for all of it.
const LIMIT: Duration = Duration::from_secs(40);
/// A node that was killed must have caught up within this.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Time limits of the impatient writers: shorter than an election.
const HASTY: Timeouts = Timeouts { connect_ms: 300, attempt_ms: 300, call_ms: 500, transfer_ms: 1_000 };

#[derive(Debug, Default)]
struct Log {
    acknowledged: Vec<Written>,
    in_doubt: Vec<(RequestId, Written)>,
    not_done: usize,
    last: Option<Instant>,
    longest_gap: Duration,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    stop: AtomicBool,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self, written: Written) {
        let mut log = self.log();
        let now = Instant::now();
        if let Some(last) = log.last.replace(now) {
            log.longest_gap = log.longest_gap.max(now - last);
        }
        log.acknowledged.push(written);
    }
}

/// Kills the leader under writing and checks every write. Answers the node's name.
pub(super) async fn kill_leader(
    cluster: &mut Cluster,
    clients: &Clients,
    cast: &Cast,
    words: &mut Words,
    report: &mut Report,
) -> Result<String, Failure> {
    report.begin("leader killed");
    let mut config = cluster.client_config(ClientFile::Application)?;
    config.timeouts = HASTY;
    let hasty = Client::connect(config).await?;
    let operator = cluster.client(ClientFile::Operator).await?;
    let shared = Shared::default();
    let writers = (0..WRITERS).map(|nth| {
        let client = if nth % 2 == 0 { &clients.application } else { &hasty };
        writer(client, cast, &shared, nth)
    });
    let killer = async {
        let killed = kill(cluster, &operator, &shared, report).await;
        // Also on failure, or the writers would write for ever.
        shared.stop.store(true, Ordering::Relaxed);
        killed
    };
    let (killed, wrote) = join(killer, try_join_all(writers)).await;
    let killed = killed?;
    wrote?.iter().flatten().for_each(|id| words.add("document id", id));

    let log = std::mem::take(&mut *shared.log());
    let (resolved, absent) = resolve(clients, log.in_doubt).await?;
    let (in_doubt, committed) = (resolved.len() + absent.len(), resolved.len());
    let all: Vec<Written> = log.acknowledged.iter().cloned().chain(resolved).collect();
    check_all(clients, cast, &all, |read| report.progress().say(format!("leader killed: read back {read}"))).await?;
    check_lists(clients, cast, &all, &absent).await?;
    report.done(
        format!(
            "SIGKILL to {killed}, the leader, while {WRITERS} clients wrote: every acknowledged write is there byte-exact, once; \
             of {in_doubt} without an answer the cluster told what became"
        ),
        format!(
            "{} acknowledged, 0 lost; {committed} of {in_doubt} in doubt were committed; longest pause {:.1} s",
            log.acknowledged.len(),
            log.longest_gap.as_secs_f64()
        ),
    );
    Ok(killed)
}

async fn kill(cluster: &mut Cluster, operator: &Client, shared: &Shared, report: &Report) -> Result<String, Failure> {
    let end = Instant::now() + LIMIT;
    acknowledged(shared, BEFORE, end, report).await?;
    let status = operator.operations().status().await?;
    let leader = status.members.iter().find(|member| member.raft_id == status.leader_id && status.leader_id != 0);
    let name = leader.ok_or_else(|| Failure::failed("no leader is known"))?.name.clone();
    cluster.kill(&name, Signal::KILL).await?;
    let then = shared.log().acknowledged.len();
    acknowledged(shared, then + AFTER, end, report).await?;
    Ok(name)
}

async fn acknowledged(shared: &Shared, wanted: usize, end: Instant, report: &Report) -> Result<(), Failure> {
    loop {
        let count = shared.log().acknowledged.len();
        report.progress().say(format!("leader killed: {count} acknowledged writes"));
        if count >= wanted {
            return Ok(());
        }
        if Instant::now() >= end {
            let message = format!("only {count} of {wanted} writes were acknowledged within {} s", LIMIT.as_secs());
            return Err(Failure::failed(message));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes until it is told to stop; answers the document ids that it used.
async fn writer(client: &Client, cast: &Cast, shared: &Shared, nth: usize) -> Result<Vec<String>, Failure> {
    const KINDS: [Kind; 3] = [Kind::FhirAllergy, Kind::FhirCondition, Kind::FhirLaboratory];
    let mut generator = Generator::new(cast.seed.wrapping_add(1 + nth as u64));
    let mut ids = Vec::new();
    for turn in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let kind = KINDS[turn % KINDS.len()];
        let Draft { class, media_type, day, document_id, content, .. } =
            bodies::draft(cast, &mut generator, kind, nth + turn * WRITERS)?;
        let Content::Whole { bytes, .. } = content else { continue };
        let participant = (nth + turn) % cast.people.len();
        let acting = author_through(client, &cast.places[HOSPITAL]);
        let record = NewRecord::new(class, media_type, day).document_id(&document_id);
        let print = Print::of(&bytes);
        ids.push(document_id.clone());
        let put = acting.put(&cast.people[participant].number, record).bytes(bytes).await;
        let written = |record| Written { participant, place: HOSPITAL, class, record, document_id, print };
        match put {
            Ok(receipt) => shared.acknowledged(written(receipt.record())),
            Err(PutError::Unknown { request }) => {
                shared.log().in_doubt.push((request, written(kura_client::RecordId::NIL)));
            }
            Err(error) if error.may_retry() => {
                shared.log().not_done += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ids)
}

/// Asks what became of the writes without an answer: those committed, and those that never will be.
async fn resolve(
    clients: &Clients,
    in_doubt: Vec<(RequestId, Written)>,
) -> Result<(Vec<Written>, Vec<Written>), Failure> {
    let (mut committed, mut absent) = (Vec::new(), Vec::new());
    for (request, written) in in_doubt {
        match clients.application.outcome(request).await? {
            Outcome::Committed(receipt) => committed.push(Written { record: receipt.record(), ..written }),
            Outcome::Absent => absent.push(written),
            Outcome::Forgotten => return Err(Failure::failed("the cluster forgot a write of this minute")),
        }
    }
    Ok((committed, absent))
}

/// Every write that counts is listed once, and none that was told to be absent.
async fn check_lists(clients: &Clients, cast: &Cast, there: &[Written], absent: &[Written]) -> Result<(), Failure> {
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    let doctor = clients.author(&cast.places[HOSPITAL]);
    for one in &cast.people {
        let mut list = doctor.list(&one.number).stream();
        while let Some(one) = list.next().await {
            let summary = one?.opened().map_err(|damaged| Failure::new(Exit::Damaged, damaged))?;
            *listed.entry(summary.document_id).or_default() += 1;
        }
    }
    let times = |one: &Written| listed.get(&one.document_id).copied().unwrap_or(0);
    let wrong = |message: String| Err(Failure::new(Exit::Damaged, message));
    match (there.iter().filter(|one| times(one) != 1).count(), absent.iter().filter(|one| times(one) != 0).count()) {
        (0, 0) => Ok(()),
        (0, appeared) => wrong(format!("{appeared} writes appeared that were told to be absent")),
        (lost, _) => wrong(format!("{lost} acknowledged writes are not listed exactly once")),
    }
}

/// Starts the killed node again and waits until every member has the same digests.
pub(super) async fn catch_up(
    cluster: &mut Cluster,
    killed: &str,
    report: &mut Report,
) -> Result<wire::StatusReply, Failure> {
    report.begin("catch-up");
    cluster.restart(killed).await?;
    let settled = |reply: &wire::StatusReply| unsettled(reply).map_or(Ok(()), Err);
    let status = cluster.wait_until("the same digests on every member", CATCH_UP_LIMIT, settled).await?;
    let index = status.members.first().map_or(0, |member| member.digest_index);
    report.done(
        format!("{killed} started again and caught up; every member tells the same digest at the same index"),
        format!("{} members equal at index {index}", status.members.len()),
    );
    Ok(status)
}
