//! The status: the cluster as one node sees it, asked at this moment.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::row::Table;
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use crate::heads::Agreement;
use crate::raft::types::{Member, MemberRole, NodeId, RaftMetrics};
use crate::serve::{Node, heads, majority, peers};

const EQUAL: u32 = 1;
const DIFFERENT: u32 = 2;
const UNKNOWN: u32 = 3;

/// The cluster as this node sees it: members are asked at this moment, and who does not answer is
/// unknown, not as it was.
pub async fn status(node: &Node) -> v1::StatusReply {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let others = peers::others(node);
    let answers =
        join_all(others.iter().map(|(id, member)| async move { (*id, peers::hello(node, *id, member).await.ok()) }))
            .await;
    let mut replies: BTreeMap<NodeId, Option<v1::HelloReply>> = answers.into_iter().collect();
    replies.insert(node.id(), Some(crate::serve::own_hello(node)));
    let leader = majority::leader_among(&replies, majority::believed(node));
    let last = replies.values().flatten().map(|reply| reply.synced_index).max().unwrap_or(0);
    let agreements = heads::agreements(node);
    let members = metrics.membership_config.membership().nodes().map(|(id, member)| {
        let reply = replies.get(id).and_then(Option::as_ref);
        let status = member_status(*id, member, leader, last, reply);
        agreements.get(id).map_or(status.clone(), |agreement| with_agreement(status, agreement))
    });
    let published = node.store.published();
    v1::StatusReply {
        cluster_name: node.identity.cluster_name.clone(),
        cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
        timeline: published.summary.timeline,
        node: node.config.name.clone(),
        leader_id: leader.unwrap_or(0),
        term: metrics.current_term,
        members: members.collect(),
        committed_index: metrics.local_committed.map_or(0, |id| id.index),
        replication_point: Some(replication_point(node, &metrics, leader, last, &replies)),
        archive_point: Some(archive_point(node, &metrics, leader, last, &replies)),
        journal_size: published.summary.journal.size(),
        journal_root: Bytes::copy_from_slice(&published.summary.journal.root()),
        alarms: crate::custody::Known::read(&node.store.database())
            .map_or_else(|_| vec!["the state of this node cannot be read".into()], |known| known.alarms()),
        tables: Table::ALL
            .iter()
            .map(|table| {
                let summary = published.summary.table(*table);
                v1::TableStatus {
                    name: table.word().into(),
                    rows: summary.rows,
                    digest: Bytes::copy_from_slice(&summary.digest.to_bytes()),
                }
            })
            .collect(),
    }
}

fn member_status(
    id: NodeId,
    member: &Member,
    leader: Option<NodeId>,
    last: u64,
    reply: Option<&v1::HelloReply>,
) -> v1::MemberStatus {
    let known = reply.cloned().unwrap_or_default();
    let clock_ms = i64::try_from(crate::clock::now_ms()).unwrap_or(0);
    v1::MemberStatus {
        raft_id: id,
        name: member.name.clone(),
        address: member.address.clone(),
        role: if member.role == MemberRole::Voter { 1 } else { 2 },
        reachable: reply.is_some(),
        leader: leader == Some(id),
        unsealed: known.unsealed,
        applied_index: known.applied_index,
        synced_index: known.synced_index,
        // Without a leader nobody knows where the log ends.
        lag_entries: reply
            .filter(|_| leader.is_some())
            .map_or(-1, |reply| i64::try_from(last.saturating_sub(reply.applied_index)).unwrap_or(-1)),
        state_digest: known.state_digest,
        digest_index: known.digest_index,
        disk_bytes: known.disk_bytes,
        disk_free_bytes: known.disk_free_bytes,
        certificate_not_after_ms: known.certificate_not_after_ms,
        version: known.version,
        clock_offset_ms: reply.map_or(0, |reply| i64::try_from(reply.clock_ms).unwrap_or(0) - clock_ms),
        trouble: known.trouble,
        key_sha256: Bytes::copy_from_slice(&member.key_sha256),
        ..v1::MemberStatus::default()
    }
}

fn with_agreement(status: v1::MemberStatus, agreement: &Agreement) -> v1::MemberStatus {
    let (agreement, agreement_index, tables) = match agreement {
        // Who does not answer now is not equal now, however fresh the last comparison.
        Agreement::Equal { index } if !status.reachable => (UNKNOWN, *index, &[][..]),
        Agreement::Equal { index } => (EQUAL, *index, &[][..]),
        Agreement::Different { index, tables } => (DIFFERENT, *index, &tables[..]),
        Agreement::Unknown { last_equal } => (UNKNOWN, *last_equal, &[][..]),
    };
    let different_tables = tables.iter().map(|word| (*word).to_owned()).collect();
    v1::MemberStatus { agreement, agreement_index, different_tables, ..status }
}

/// How far the best backup is behind the log; unknown is unknown. What it has beyond the last committed entry
/// does not count: it may never be.
fn replication_point(
    node: &Node,
    metrics: &RaftMetrics,
    leader: Option<NodeId>,
    last: u64,
    replies: &BTreeMap<NodeId, Option<v1::HelloReply>>,
) -> v1::ReplicationPoint {
    const KNOWN: u32 = 1;
    const NOT_KNOWN: u32 = 2;
    const NO_BACKUP: u32 = 3;
    let membership = metrics.membership_config.membership();
    let backups: Vec<NodeId> =
        membership.nodes().filter(|(_, m)| m.role == MemberRole::Backup).map(|(id, _)| *id).collect();
    if backups.is_empty() {
        return v1::ReplicationPoint { state: NO_BACKUP, ..v1::ReplicationPoint::default() };
    }
    let committed = metrics.local_committed.map_or(0, |id| id.index);
    let best = backups.iter().filter_map(|id| replies.get(id)?.as_ref()).map(|reply| reply.synced_index).max();
    // Without a leader nobody knows how long the log is.
    match best.filter(|_| leader.is_some()) {
        None => v1::ReplicationPoint { state: NOT_KNOWN, ..v1::ReplicationPoint::default() },
        Some(index) => match node.peers.lag_at(index) {
            Some((since, bytes_behind)) => v1::ReplicationPoint {
                state: KNOWN,
                index: index.min(committed),
                entries_behind: last.saturating_sub(index),
                bytes_behind,
                seconds_behind: since.as_secs(),
            },
            None => v1::ReplicationPoint { state: NOT_KNOWN, index, ..v1::ReplicationPoint::default() },
        },
    }
}

/// How far the best archive is behind the log; unknown is unknown.
fn archive_point(
    node: &Node,
    metrics: &RaftMetrics,
    leader: Option<NodeId>,
    last: u64,
    replies: &BTreeMap<NodeId, Option<v1::HelloReply>>,
) -> v1::ArchivePoint {
    const KNOWN: u32 = 1;
    const NOT_KNOWN: u32 = 2;
    const NO_ARCHIVE: u32 = 3;
    let membership = metrics.membership_config.membership();
    let backups: Vec<(NodeId, &Member)> =
        membership.nodes().filter(|(_, m)| m.role == MemberRole::Backup).map(|(id, member)| (*id, member)).collect();
    let told = |id: &NodeId| replies.get(id)?.as_ref();
    let best = backups
        .iter()
        .filter_map(|(id, member)| Some((told(id)?.archive?, member)))
        .filter(|(archive, _)| archive.known)
        .max_by_key(|(archive, _)| archive.index);
    let Some((archive, member)) = best else {
        // A backup that does not answer may well write one.
        let none = backups.iter().all(|(id, _)| told(id).is_some_and(|reply| reply.archive.is_none()));
        return v1::ArchivePoint { state: if none { NO_ARCHIVE } else { NOT_KNOWN }, ..v1::ArchivePoint::default() };
    };
    let point = v1::ArchivePoint {
        state: NOT_KNOWN,
        index: archive.index,
        at_ms: archive.at_ms,
        manifests: archive.manifests,
        ledger_index: archive.ledger_index,
        member: member.name.clone(),
        ..v1::ArchivePoint::default()
    };
    // Without a leader nobody knows how long the log is.
    match node.peers.lag_at(archive.index).filter(|_| leader.is_some()) {
        Some((since, bytes_behind)) => v1::ArchivePoint {
            state: KNOWN,
            entries_behind: last.saturating_sub(archive.index),
            bytes_behind,
            seconds_behind: since.as_secs(),
            ..point
        },
        None => point,
    }
}
