//! The status for programs. Names are those of the protocol; digests in hexadecimal.
//!
//! Invariant: what a member did not say at this moment is null, and `why` says why.

use kura_client::wire;
use kura_cluster::hexadecimal;
use kura_proto::agreement::{DIFFERENT, EQUAL};
use kura_proto::point::{KNOWN, NONE};
use serde::Serialize;

use super::lag::Point;
use super::role;
use super::scrub::Scrub;

#[derive(Debug, Serialize)]
pub(super) struct Told {
    cluster_name: String,
    cluster_id: String,
    timeline: u64,
    node: String,
    leader_id: u64,
    term: u64,
    committed_index: u64,
    applied_index: u64,
    applied_at_ms: u64,
    clock_ms: u64,
    clock_offset_ms: Option<i64>,
    started_ms: u64,
    /// Since when the answering node knows that it is not a member any more; null: it is one, as far as it knows.
    removed_ms: Option<u64>,
    shares: String,
    journal_size: u64,
    journal_root: String,
    replication_point: Point,
    archive_point: Point,
    /// The last check of the archive by its writer; null if nobody says.
    archive_check: Option<Scrub>,
    last_drill: Option<Drill>,
    alarms: Vec<String>,
    /// In what the cluster is weaker than it should be, perhaps on purpose.
    warnings: Vec<String>,
    members: Vec<Member>,
    tables: Vec<Table>,
}

#[derive(Debug, Serialize)]
struct Drill {
    state: &'static str,
    at_ms: u64,
    milliseconds: u64,
    index: u64,
    failed: String,
    member: String,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    rows: u64,
    digest: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Member {
    raft_id: u64,
    name: String,
    address: String,
    role: &'static str,
    /// A voter to be: it does not vote yet.
    being_added: bool,
    reachable: bool,
    why: Option<String>,
    last_heard_ms: Option<u64>,
    /// Whether that was before the answering node started; null: nothing is known.
    last_heard_before_start: Option<bool>,
    last_applied_index: Option<u64>,
    last_applied_at_ms: Option<u64>,
    leader: bool,
    unsealed: Option<bool>,
    applied_index: Option<u64>,
    synced_index: Option<u64>,
    lag_entries: Option<u64>,
    state_digest: Option<String>,
    digest_index: Option<u64>,
    agreement: &'static str,
    agreement_index: u64,
    different_tables: Vec<String>,
    disk_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    certificate_not_after_ms: Option<u64>,
    version: Option<String>,
    clock_offset_ms: Option<i64>,
    trouble: Option<String>,
    key_sha256: String,
    scrub: Option<Scrub>,
}

impl Member {
    /// A member of a status that was told by one that started at `started_ms`.
    pub(super) fn of(member: &wire::MemberStatus, started_ms: u64) -> Self {
        let heard = |value: u64| (member.last_heard_ms > 0).then_some(value);
        let why = match (member.reachable, member.last_heard_ms) {
            (true, _) if member.withheld => {
                Some("it holds the member that was asked for none, and tells it nothing".to_owned())
            }
            (true, _) if member.lag_entries < 0 => Some("there is no leader: lag_entries is unknown".to_owned()),
            (true, _) => None,
            (false, 0) => {
                Some(format!("it does not answer, and was not heard since {started_ms}; of before nothing is kept"))
            }
            (false, at_ms) if member.last_heard_before_start => {
                Some(format!("it does not answer, and was not heard since {started_ms}; before that last at {at_ms}"))
            }
            (false, at_ms) => Some(format!("it does not answer; last heard at {at_ms}")),
        };
        macro_rules! known {
            ($value:expr) => {
                (member.reachable && !member.withheld).then(|| $value)
            };
        }
        Self {
            raft_id: member.raft_id,
            name: member.name.clone(),
            address: member.address.clone(),
            role: role(member.role),
            being_added: member.being_added,
            reachable: member.reachable,
            why,
            last_heard_ms: heard(member.last_heard_ms),
            last_heard_before_start: (member.last_heard_ms > 0).then_some(member.last_heard_before_start),
            last_applied_index: heard(member.last_applied_index),
            last_applied_at_ms: heard(member.last_applied_at_ms),
            leader: member.leader,
            unsealed: known!(member.unsealed),
            applied_index: known!(member.applied_index),
            synced_index: known!(member.synced_index),
            lag_entries: u64::try_from(member.lag_entries).ok(),
            state_digest: known!(hexadecimal(&member.state_digest)),
            digest_index: known!(member.digest_index),
            agreement: match member.agreement {
                0 => "asked",
                EQUAL => "equal",
                DIFFERENT => "different",
                _ => "unknown",
            },
            agreement_index: member.agreement_index,
            different_tables: member.different_tables.clone(),
            disk_bytes: known!(member.disk_bytes),
            disk_free_bytes: known!(member.disk_free_bytes),
            certificate_not_after_ms: known!(member.certificate_not_after_ms),
            version: known!(member.version.clone()),
            clock_offset_ms: known!(member.clock_offset_ms),
            trouble: known!(member.trouble.clone()),
            key_sha256: hexadecimal(&member.key_sha256),
            scrub: known!(member.scrub.as_ref().map(Scrub::from)).flatten(),
        }
    }
}

impl From<&wire::StatusReply> for Told {
    fn from(reply: &wire::StatusReply) -> Self {
        let table = |one: &wire::TableStatus| Table {
            name: one.name.clone(),
            rows: one.rows,
            digest: hexadecimal(&one.digest),
        };
        Self {
            cluster_name: reply.cluster_name.clone(),
            cluster_id: hexadecimal(&reply.cluster_id),
            timeline: reply.timeline,
            node: reply.node.clone(),
            leader_id: reply.leader_id,
            term: reply.term,
            committed_index: reply.committed_index,
            applied_index: reply.applied_index,
            applied_at_ms: reply.applied_at_ms,
            clock_ms: reply.clock_ms,
            clock_offset_ms: reply.clock_offset_ms,
            started_ms: reply.started_ms,
            removed_ms: Some(reply.removed_ms).filter(|since_ms| *since_ms > 0),
            shares: reply.shares.clone(),
            journal_size: reply.journal_size,
            journal_root: hexadecimal(&reply.journal_root),
            replication_point: Point::replication(reply),
            archive_point: Point::archive(reply),
            archive_check: reply.archive_point.as_ref().and_then(|point| point.check.as_ref()).map(Scrub::from),
            last_drill: reply.drill.as_ref().map(|drill| Drill {
                state: match drill.state {
                    KNOWN => "known",
                    NONE => "none",
                    _ => "unknown",
                },
                at_ms: drill.at_ms,
                milliseconds: drill.milliseconds,
                index: drill.index,
                failed: drill.failed.clone(),
                member: drill.member.clone(),
            }),
            alarms: reply.alarms.clone(),
            warnings: reply.warnings.clone(),
            members: reply.members.iter().map(|member| Member::of(member, reply.started_ms)).collect(),
            tables: reply.tables.iter().map(table).collect(),
        }
    }
}
