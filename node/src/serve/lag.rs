//! How far the backup and the archive are behind the log, as the log's leader knows it.
//!
//! Invariants
//! - A lag is never understated: whatever was acknowledged longer ago than the time that is told lies within
//!   the index it is told of. So the time counts from the last look at which the log ended there or before.
//! - Only what a leader saw of its own term counts: a follower may not know where the log ends, and a former
//!   leader does not know what another has acknowledged since. What is further back is UNKNOWN; so is everything once
//!   another may lead.
//! - A backup's last entry counts only if it is of the leader's term: one of a former leader's may be no entry of the log,
//!   and be in the place of one that was acknowledged.
//! - A lag that is not known raises the same alarm as one that is too long; but for an archive in the first seconds after
//!   its backup's start, while nothing has failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kura_proto::point::{KNOWN, NONE, NOT_KNOWN};
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::{Node, majority, peers};
use crate::config::AlarmConfig;
use crate::raft::leading::leads_alone;
use crate::raft::types::{Member, MemberRole, NodeId};

/// Between two looks at the log's end.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two comparisons with the limits of the configuration.
const ALARM_INTERVAL: Duration = Duration::from_secs(2);
/// Ends of the log that are remembered. When there are more, every second one of the older half is forgotten:
/// what is told of long ago becomes coarser, and longer.
const ENDS_KEPT: usize = 4096;

/// Why an archive is not known whose backup has just started: no alarm yet.
const NOT_READ_YET: &str = "not read yet, the backup has just started";

/// Where the log ended, at the last look at which it did.
#[derive(Debug, Clone, Copy)]
struct End {
    seen: Instant,
    index: u64,
    bytes: u64,
}

/// How far an index is behind the log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Entries.
    pub entries: u64,
    /// Bytes of commands.
    pub bytes: u64,
    /// Whatever was acknowledged longer ago is within the index.
    pub time: Duration,
}

#[derive(Debug, Default)]
struct History {
    term: u64,
    since: Option<Instant>,
    ends: Vec<End>,
}

/// Where the log ended when, while this node leads; and what was found with it last.
#[derive(Debug, Default)]
pub struct Lag {
    history: Mutex<History>,
    told: Mutex<Option<Points>>,
}

/// Both points, as this leader knows them.
#[derive(Debug, Clone)]
pub struct Points {
    /// Of the best backup.
    pub replication: v1::ReplicationPoint,
    /// Of the best archive.
    pub archive: v1::ArchivePoint,
    /// What is wrong with them, in words.
    pub alarms: Vec<String>,
}

impl History {
    fn note(&mut self, term: u64, index: u64, bytes: u64, now: Instant) {
        if self.term != term {
            *self = History { term, since: Some(now), ends: Vec::new() };
        }
        match self.ends.last_mut() {
            // Entries are applied, and counted, after they are in the log.
            Some(last) if last.index >= index => (last.seen, last.bytes) = (now, last.bytes.max(bytes)),
            _ => self.ends.push(End { seen: now, index, bytes }),
        }
        if self.ends.len() > ENDS_KEPT {
            let older = ENDS_KEPT / 2;
            let mut nth = 0;
            self.ends.retain(|_| {
                nth += 1;
                nth > older || nth % 2 == 1
            });
        }
    }

    fn behind(&self, index: u64, now: Instant) -> Result<Behind, String> {
        let Some(last) = self.ends.last() else { return Err("its leader has not looked at the log yet".into()) };
        if index >= last.index {
            return Ok(Behind { entries: 0, bytes: 0, time: Duration::ZERO });
        }
        let within = self.ends.partition_point(|end| end.index <= index);
        let Some(end) = within.checked_sub(1).and_then(|place| self.ends.get(place)) else {
            let leading = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)).as_secs();
            return Err(format!("it is further behind than its leader remembers, which leads since {leading} s"));
        };
        Ok(Behind {
            entries: last.index - index,
            bytes: last.bytes.saturating_sub(end.bytes),
            time: now.saturating_duration_since(end.seen),
        })
    }
}

impl Lag {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this leader found last; nothing if it does not lead.
    pub fn told(&self) -> Option<Points> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, points: Option<Points>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = points;
    }
}

/// Notes where the log ends; answers whether this node leads.
fn note(node: &Node) -> bool {
    if !majority::leads(node) {
        return false;
    }
    let published = node.store.published();
    let metrics = node.raft.metrics().borrow_watched().clone();
    // Nothing is acknowledged that is not in the leader's log, but an entry may be elsewhere before it is applied
    // here.
    let end = metrics.last_log_index.unwrap_or(0).max(published.index());
    node.lag.history().note(metrics.current_term, end, published.bytes, Instant::now());
    true
}

/// How far each index is behind, if this node leads: at this moment.
pub fn behind(node: &Node, indexes: &[u64]) -> Vec<v1::Behind> {
    if !note(node) {
        return Vec::new();
    }
    if !leads_alone(&node.raft.metrics().borrow_watched()) {
        let why = "its leader has lost touch with the others, of which one may lead by now".to_owned();
        return vec![v1::Behind { why, ..v1::Behind::default() }; indexes.len()];
    }
    let history = node.lag.history();
    let now = Instant::now();
    let told = indexes.iter().map(|index| match history.behind(*index, now) {
        Ok(Behind { entries, bytes, time }) => v1::Behind {
            known: true,
            entries,
            bytes,
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            why: String::new(),
        },
        Err(why) => v1::Behind { why, ..v1::Behind::default() },
    });
    told.collect()
}

/// Both points by members' answers of this moment, and what their leader says of how far they are behind.
pub async fn points(
    node: &Node,
    leader: Option<NodeId>,
    replies: &BTreeMap<NodeId, Option<v1::HelloReply>>,
) -> (v1::ReplicationPoint, v1::ArchivePoint) {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let is_backup = |(_, member): &(&NodeId, &Member)| member.role == MemberRole::Backup;
    let backups: Vec<(NodeId, String)> =
        membership.nodes().filter(is_backup).map(|(id, member)| (*id, member.name.clone())).collect();
    let (synced_term, mut replication) = replication_of(&backups, replies);
    let mut archive = archive_of(&backups, replies);
    let asked = [replication.index, archive.index];
    let wanted = |state: u32| state == KNOWN;
    if replication.state == NOT_KNOWN {
        replication.why.push_str(&last_word(node, &backups));
    }
    if !wanted(replication.state) && !wanted(archive.state) {
        return (replication, archive);
    }
    let told = told_by_leader(node, leader, &asked).await;
    let of = |place: usize| match &told {
        Ok(told) => told.behind.get(place).cloned().unwrap_or_default(),
        Err(why) => v1::Behind { why: why.clone(), ..v1::Behind::default() },
    };
    /// Both points tell the same of how far they are behind.
    macro_rules! tell {
        ($point:ident, $behind:expr) => {
            if wanted($point.state) {
                let v1::Behind { known, entries, bytes, milliseconds, why } = $behind;
                $point.state = if known { KNOWN } else { NOT_KNOWN };
                ($point.entries_behind, $point.bytes_behind, $point.why) = (entries, bytes, why);
                ($point.milliseconds_behind, $point.seconds_behind) = (milliseconds, milliseconds.div_ceil(1000));
            }
        };
    }
    tell!(replication, told.as_ref().map_or_else(|_| of(0), |told| told.held(synced_term, of(0))));
    tell!(archive, of(1));
    (replication, archive)
}

/// What the backups said last: no lag, since nobody knows what has become of them.
fn last_word(node: &Node, backups: &[(NodeId, String)]) -> String {
    let heard = backups.iter().filter_map(|(id, name)| Some((node.peers.heard(*id)?, name)));
    match heard.max_by_key(|(heard, _)| heard.at) {
        Some((heard, name)) => format!(
            "; {name} did last {} s ago and had index {}",
            heard.at.elapsed().as_secs(),
            heard.reply.synced_index
        ),
        None => {
            let before = backups.iter().filter_map(|(id, name)| node.heard_before.of(*id, name));
            let before = before.max_by_key(|contact| contact.at_ms).map(|contact| {
                let at = crate::clock::in_japan(contact.at_ms);
                format!(
                    "; {} did last at {at}, before this start, and had applied index {}",
                    contact.name, contact.applied_index
                )
            });
            let started = crate::clock::in_japan(node.started_ms);
            format!("; none did since {started}{}", before.unwrap_or_default())
        }
    }
}

/// A leader's answer.
#[derive(Debug)]
struct Told {
    term: u64,
    behind: Vec<v1::Behind>,
}

impl Told {
    /// How far a backup is behind whose last entry is of a term.
    fn held(&self, synced_term: u64, behind: v1::Behind) -> v1::Behind {
        match self.term == synced_term {
            true => behind,
            false => {
                let why = "it has not synced anything yet that its present leader wrote".into();
                v1::Behind { why, ..v1::Behind::default() }
            }
        }
    }
}

async fn told_by_leader(node: &Node, leader: Option<NodeId>, indexes: &[u64]) -> Result<Told, String> {
    // Without a leader nobody knows how long the log is.
    let leader = leader.ok_or("there is no leader, so nobody knows where the log ends")?;
    let told = if leader == node.id() {
        let behind = behind(node, indexes);
        Told { term: node.raft.metrics().borrow_watched().current_term, behind }
    } else {
        let member = node.member(leader).ok_or("the leader is no member here")?;
        let answer = peers::hello_asking(node, leader, &member, indexes.to_vec()).await;
        let answer = answer.map_err(|why| format!("the leader does not say: {why}"))?;
        Told { term: answer.term, behind: answer.behind }
    };
    if told.behind.len() == indexes.len() { Ok(told) } else { Err("the leader has just changed".into()) }
}

/// The backup that has synced most, and of which term its last entry is; the point is taken for known until the leader
/// says otherwise.
fn replication_of(
    backups: &[(NodeId, String)],
    replies: &BTreeMap<NodeId, Option<v1::HelloReply>>,
) -> (u64, v1::ReplicationPoint) {
    if backups.is_empty() {
        return (0, v1::ReplicationPoint { state: NONE, ..v1::ReplicationPoint::default() });
    }
    let answers = backups.iter().filter_map(|(id, name)| Some((replies.get(id)?.as_ref()?, name)));
    match answers.map(|(reply, name)| (reply.synced_term, reply.synced_index, name)).max() {
        Some((term, index, name)) => (
            term,
            v1::ReplicationPoint { state: KNOWN, index, member: name.clone(), ..v1::ReplicationPoint::default() },
        ),
        None => {
            let why = "no backup answers".into();
            (0, v1::ReplicationPoint { state: NOT_KNOWN, why, ..v1::ReplicationPoint::default() })
        }
    }
}

/// The archive that reaches furthest.
fn archive_of(backups: &[(NodeId, String)], replies: &BTreeMap<NodeId, Option<v1::HelloReply>>) -> v1::ArchivePoint {
    let answers = || backups.iter().filter_map(|(id, name)| Some((replies.get(id)?.as_ref()?, name)));
    let known =
        answers().filter_map(|(reply, name)| Some((reply.archive.as_ref().filter(|archive| archive.known)?, name)));
    if let Some((archive, name)) = known.max_by_key(|(archive, _)| archive.index) {
        return v1::ArchivePoint {
            state: KNOWN,
            index: archive.index,
            at_ms: archive.at_ms,
            manifests: archive.manifests,
            ledger_index: archive.ledger_index,
            member: name.clone(),
            check: archive.check.clone(),
            ..v1::ArchivePoint::default()
        };
    }
    // A backup that does not answer may well write one.
    let silent = answers().count() < backups.len();
    let writes = answers().any(|(reply, _)| reply.archive.is_some());
    let starting = answers().filter_map(|(reply, _)| reply.archive.as_ref()).all(|archive| archive.starting);
    let (state, why) = match (silent, writes) {
        (true, _) => (NOT_KNOWN, "no backup answers"),
        (false, true) if starting => (NOT_KNOWN, NOT_READ_YET),
        (false, true) => (NOT_KNOWN, "its archive was not read yet, or has not worked for a while"),
        (false, false) => (NONE, ""),
    };
    v1::ArchivePoint { state, why: why.into(), ..v1::ArchivePoint::default() }
}

/// What the two points say to people; empty: all is well.
pub fn alarms(limits: &AlarmConfig, replication: &v1::ReplicationPoint, archive: &v1::ArchivePoint) -> Vec<String> {
    let one = |what: &str, state, seconds, why: &str, most: u64| match state {
        KNOWN if seconds > most => Some(format!("{what} is {seconds} s behind, more than {most} s")),
        NOT_KNOWN if why == NOT_READ_YET => None,
        NOT_KNOWN => Some(format!("how far {what} is behind is UNKNOWN: {why}")),
        _ => None,
    };
    let (r, a) = (replication, archive);
    let found = [
        one("the backup", r.state, r.seconds_behind, &r.why, limits.replication_seconds_max),
        one("the archive", a.state, a.seconds_behind, &a.why, limits.archive_seconds_max),
    ];
    found.into_iter().flatten().collect()
}

/// Notes where the log ends, for ever, while this node leads.
pub async fn follow(node: Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        note(&node);
    }
}

/// While this node leads, compares both points with the limits, and says what changes.
pub async fn watch(node: Arc<Node>) {
    let mut before = Vec::new();
    loop {
        tokio::time::sleep(ALARM_INTERVAL).await;
        if !majority::leads(&node) {
            before.clear();
            node.lag.tell(None);
            continue;
        }
        let heard = peers::others(&node).into_iter().map(|(id, _)| {
            let heard = node.peers.heard(id).filter(|heard| heard.at.elapsed() < crate::clock::HEARD_MAX);
            (id, heard.map(|heard| heard.reply))
        });
        let (replication, archive) = points(&node, Some(node.id()), &heard.collect()).await;
        let alarms = alarms(&node.config.alarm, &replication, &archive);
        // What is told of how long it has lasted changes; that there is something, seldom.
        if alarms.len() > before.len() {
            alarms.iter().for_each(|alarm| tracing::error!("{alarm}"));
        } else if alarms.is_empty() && !before.is_empty() {
            tracing::info!("backup and archive are within their limits again");
        }
        before.clone_from(&alarms);
        node.lag.tell(Some(Points { replication, archive, alarms }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lag_counts_from_the_last_look_that_the_index_covered() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut history = History::default();
        assert!(history.behind(5, at(0)).is_err(), "nothing was seen yet");
        history.note(3, 10, 1000, at(0));
        history.note(3, 10, 1000, at(4));
        history.note(3, 12, 1500, at(5));
        history.note(3, 15, 1700, at(6));
        // What was in the log is applied, and counted, a moment later.
        history.note(3, 15, 1800, at(6));
        let none = Behind { entries: 0, bytes: 0, time: Duration::ZERO };
        assert_eq!(history.behind(15, at(60)), Ok(none), "idle, and nothing is missing");
        // Entry 13 came after the look at 5 s: not later than 6 s, but perhaps just after 5 s.
        assert_eq!(history.behind(12, at(9)), Ok(Behind { entries: 3, bytes: 300, time: 4 * SECOND }));
        assert_eq!(history.behind(10, at(9)), Ok(Behind { entries: 5, bytes: 800, time: 5 * SECOND }));
        assert_eq!(history.behind(11, at(9)), Ok(Behind { entries: 4, bytes: 800, time: 5 * SECOND }));
        let error = history.behind(9, at(9)).unwrap_err();
        assert!(error.contains("since 9 s"), "{error}");
        // What was seen in an earlier term is no word on what others did in between.
        history.note(4, 15, 1800, at(10));
        assert!(history.behind(12, at(11)).is_err());
    }

    #[test]
    fn what_is_long_ago_becomes_coarser_and_never_shorter() {
        let start = Instant::now();
        let mut history = History::default();
        let looks = 5 * ENDS_KEPT as u64;
        for nth in 0..looks {
            history.note(1, nth, nth, start + Duration::from_secs(nth));
        }
        assert!(history.ends.len() <= ENDS_KEPT);
        let now = start + Duration::from_secs(looks);
        for index in (0..looks - 1).step_by(97) {
            let true_age = Duration::from_secs(looks - index);
            let told = history.behind(index, now).unwrap().time;
            assert!(told >= true_age && told <= true_age + Duration::from_secs(looks / 2), "{index}: {told:?}");
        }
    }

    #[test]
    fn what_is_too_far_behind_and_what_is_unknown_are_alarms() {
        let limits = AlarmConfig { replication_seconds_max: 30, archive_seconds_max: 60 };
        let replication = |state, seconds_behind| v1::ReplicationPoint {
            state,
            seconds_behind,
            why: "no backup answers".into(),
            ..v1::ReplicationPoint::default()
        };
        let none = v1::ArchivePoint { state: NONE, ..v1::ArchivePoint::default() };
        let said = |point| alarms(&limits, &point, &none);
        assert_eq!(said(replication(KNOWN, 30)), Vec::<String>::new());
        assert_eq!(said(replication(NONE, 0)), Vec::<String>::new());
        assert!(said(replication(KNOWN, 31))[0].contains("31 s"));
        assert!(said(replication(NOT_KNOWN, 0))[0].contains("UNKNOWN: no backup answers"));
        let late = v1::ArchivePoint { state: KNOWN, seconds_behind: 61, ..v1::ArchivePoint::default() };
        assert!(alarms(&limits, &replication(KNOWN, 0), &late)[0].contains("the archive is 61 s behind"));
    }

    #[test]
    fn an_archive_that_is_not_read_yet_is_unknown_and_an_alarm_only_when_it_should_have_been() {
        let limits = AlarmConfig { replication_seconds_max: 30, archive_seconds_max: 60 };
        let backups = [(7, "a".to_owned()), (8, "b".to_owned())];
        let says = |archives: [Option<bool>; 2]| {
            let reply = |starting: bool| {
                let archive = Some(v1::ArchiveReply { starting, ..v1::ArchiveReply::default() });
                v1::HelloReply { archive, ..v1::HelloReply::default() }
            };
            let replies = [7, 8].into_iter().zip(archives).map(|(id, starting)| (id, starting.map(reply)));
            let point = archive_of(&backups, &replies.collect());
            assert_eq!(point.state, NOT_KNOWN);
            alarms(&limits, &v1::ReplicationPoint { state: KNOWN, ..Default::default() }, &point).len()
        };
        assert_eq!(says([Some(true), Some(true)]), 0);
        assert_eq!(says([Some(true), Some(false)]), 1, "one of them has failed, or has had its time");
        assert_eq!(says([Some(true), None]), 1, "one is silent");
    }

    #[test]
    fn the_best_backup_counts_and_silence_is_no_figure() {
        let backups = [(7, "a".to_owned()), (8, "b".to_owned())];
        let says = |synced_index, archive| Some(v1::HelloReply { synced_index, archive, ..v1::HelloReply::default() });
        let archive = |known, index| Some(v1::ArchiveReply { known, index, ..v1::ArchiveReply::default() });
        let of = |a, b| {
            let replies = BTreeMap::from([(7, a), (8, b)]);
            let ((_, r), a) = (replication_of(&backups, &replies), archive_of(&backups, &replies));
            ((r.state, r.index, r.member), (a.state, a.index, a.member))
        };
        let nobody = || String::new();
        assert_eq!(of(None, None), ((NOT_KNOWN, 0, nobody()), (NOT_KNOWN, 0, nobody())));
        assert_eq!(of(says(5, None), says(9, None)), ((KNOWN, 9, "b".into()), (NONE, 0, nobody())));
        assert_eq!(of(says(5, None), None), ((KNOWN, 5, "a".into()), (NOT_KNOWN, 0, nobody())));
        assert_eq!(of(says(5, archive(true, 4)), None).1, (KNOWN, 4, "a".into()));
        assert_eq!(of(says(5, archive(false, 4)), says(6, None)).1, (NOT_KNOWN, 0, nobody()));
        assert_eq!(replication_of(&[], &BTreeMap::new()).1.state, NONE);
    }

    #[test]
    fn what_a_former_leader_sent_is_no_entry_of_the_log_until_the_present_one_says_so() {
        let says = |synced_term, synced_index| v1::HelloReply { synced_term, synced_index, ..Default::default() };
        let replies = BTreeMap::from([(7, Some(says(3, 99))), (8, Some(says(4, 20)))]);
        let (term, point) = replication_of(&[(7, "a".to_owned()), (8, "b".to_owned())], &replies);
        assert_eq!((term, point.index, &point.member[..]), (4, 20, "b"), "the longer log is of the newer term");
        let behind = v1::Behind { known: true, entries: 5, ..v1::Behind::default() };
        let told = Told { term: 5, behind: vec![behind.clone()] };
        assert_eq!(told.held(5, behind.clone()), behind);
        let held = told.held(term, behind);
        assert!(!held.known && held.entries == 0 && held.why.contains("present leader"), "{held:?}");
    }
}
