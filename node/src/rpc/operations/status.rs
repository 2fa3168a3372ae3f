//! The status: the cluster as one node sees it, asked at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::row::Table;
use kura_proto::agreement::{DIFFERENT, EQUAL, UNKNOWN};
use kura_proto::point::{KNOWN, NONE, NOT_KNOWN};
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::strength;
use crate::clock;
use crate::custody::Known;
use crate::gateway::service;
use crate::heads::Agreement;
use crate::raft::types::{Member, MemberRole, NodeId, StoredMembership};
use crate::serve::removed::newest_membership;
use crate::serve::{Node, archive_check, erasures, heads, lag, majority, peers, rewrap};

/// What is to be done with a node that was removed.
const REMOVED: &str = "Stop it, and delete its data directory; or join it anew under another name";

/// The cluster as this node sees it: members are asked at this moment, and who does not answer is
/// unknown, not as it was.
pub async fn status(node: &Node) -> v1::StatusReply {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let removed = node.gateway.removed();
    // Of a node that was removed only others know the members.
    let membership = match removed {
        Some(_) => Arc::new(newest_membership(node)),
        None => metrics.membership_config.clone(),
    };
    let others = peers::others_in(node, &membership);
    let answers =
        join_all(others.iter().map(|(id, member)| async move { (*id, peers::hello(node, *id, member).await.ok()) }))
            .await;
    let mut replies: BTreeMap<NodeId, Option<v1::HelloReply>> = answers.into_iter().collect();
    replies.insert(node.id(), Some(crate::serve::own_hello(node)));
    let leader = majority::leader_among(&replies, majority::believed(node));
    // Who holds this node for a stranger says no more than whether it leads.
    let strangers: BTreeSet<NodeId> = replies
        .iter()
        .filter(|(_, reply)| reply.as_ref().is_some_and(|reply| reply.stranger))
        .map(|(id, _)| *id)
        .collect();
    let is_stranger = |id: &NodeId| strangers.contains(id);
    replies.iter_mut().filter(|(id, _)| is_stranger(id)).for_each(|(_, reply)| *reply = None);
    let last = replies.values().flatten().map(|reply| reply.synced_index).max().unwrap_or(0);
    let agreements = heads::agreements(node);
    let members = membership.membership().nodes().map(|(id, member)| {
        let reply = replies.get(id).and_then(Option::as_ref);
        let status = member_status(*id, member, leader, last, reply);
        let being_added = strength::is_being_added(membership.membership(), *id);
        let withheld = is_stranger(id);
        let reachable = status.reachable || withheld;
        let status = v1::MemberStatus { being_added, withheld, reachable, ..with_last_word(status, node) };
        agreements.get(id).map_or(status.clone(), |agreement| with_agreement(status, agreement))
    });
    let published = node.store.published();
    let (replication_point, archive_point) = lag::points(node, leader, &replies).await;
    let known = Known::read(&node.store.database());
    let mut alarms =
        known.as_ref().map_or_else(|_| vec!["the state of this node cannot be read".into()], Known::alarms);
    alarms.extend(lag::alarms(&node.config.alarm, &replication_point, &archive_point));
    let check = archive_point.check.as_ref().and_then(archive_check::alarm);
    alarms.extend(check.map(|words| format!("{}: {words}", archive_point.member)));
    if let Err(error) = node.gateway.check_member() {
        alarms.push(format!("{error}. {REMOVED}"));
    }
    for (id, member) in membership.membership().nodes() {
        let Some(Some(reply)) = replies.get(id) else { continue };
        alarms.extend(rewrap::alarm(reply.closed_data_keys, &member.name));
        let foreign = reply.archive.as_ref().map(|archive| &archive.foreign).filter(|words| !words.is_empty());
        alarms.extend(foreign.map(|words| format!("{}: its archive: {words}", member.name)));
        alarms.extend(erasures::alarm(reply.erasures_failed, &member.name));
    }
    alarms.extend(service::level(&node.store.database()).ok().and_then(service::alarm));
    let began = node.store.database().cluster_row().ok().flatten().and_then(|mut row| row.timelines.pop());
    let began = began.unwrap_or_default();
    v1::StatusReply {
        timeline_keys_sha256: began.voters,
        timeline_began_ms: began.at_ms,
        cluster_name: node.identity.cluster_name.clone(),
        cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
        timeline: published.summary.timeline,
        node: node.config.name.clone(),
        leader_id: leader.unwrap_or(0),
        term: metrics.current_term,
        members: members.collect(),
        committed_index: metrics.local_committed.map_or(0, |id| id.index),
        replication_point: Some(replication_point),
        archive_point: Some(archive_point),
        drill: Some(drill(&membership, &replies)),
        removed_ms: removed.map_or(0, |removed| removed.since_ms),
        journal_size: published.summary.journal.size(),
        journal_root: Bytes::copy_from_slice(&published.summary.journal.root()),
        alarms,
        warnings: strength::warnings(membership.membership()),
        applied_index: published.index(),
        applied_at_ms: published.summary.clock_ms,
        clock_ms: clock::now_ms(),
        clock_offset_ms: Some(node.gateway.clock_offset_ms.load(Ordering::Relaxed))
            .filter(|offset_ms| *offset_ms != clock::NOT_COMPARED && is_compared(node)),
        shares: known.map_or_else(|_| String::new(), |known| known.in_words()),
        started_ms: node.started_ms,
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
    let clock_ms = i64::try_from(clock::now_ms()).unwrap_or(0);
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
        scrub: known.scrub,
        ..v1::MemberStatus::default()
    }
}

/// Whether this node's clock was held against another voter's in the last seconds, or there is no other.
fn is_compared(node: &Node) -> bool {
    let mut voters = peers::others(node).into_iter().filter(|(_, member)| member.role == MemberRole::Voter).peekable();
    voters.peek().is_none()
        || voters.any(|(id, _)| node.peers.heard(id).is_some_and(|heard| heard.at.elapsed() < clock::HEARD_MAX))
}

/// What a member that may not answer now said last.
fn with_last_word(status: v1::MemberStatus, node: &Node) -> v1::MemberStatus {
    let Some(heard) = node.peers.heard(status.raft_id) else {
        return match node.heard_before.of(status.raft_id, &status.name) {
            Some(before) => v1::MemberStatus {
                last_heard_ms: before.at_ms,
                last_applied_index: before.applied_index,
                last_applied_at_ms: before.applied_at_ms,
                last_heard_before_start: true,
                ..status
            },
            None => status,
        };
    };
    v1::MemberStatus {
        last_heard_ms: heard.at_ms,
        last_applied_index: heard.reply.applied_index,
        last_applied_at_ms: heard.reply.applied_at_ms,
        // A member that found damage stops: it is not there to say so again.
        scrub: status.scrub.clone().or(heard.reply.scrub),
        ..status
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

/// The newest drill that a member tells of; unknown is unknown.
fn drill(membership: &StoredMembership, replies: &BTreeMap<NodeId, Option<v1::HelloReply>>) -> v1::DrillPoint {
    let told = membership.membership().nodes().map(|(id, member)| (replies.get(id).and_then(Option::as_ref), member));
    let told: Vec<(Option<&v1::HelloReply>, &Member)> = told.collect();
    let newest = told
        .iter()
        .filter_map(|(reply, member)| Some((reply.as_ref()?.drill.as_ref()?, member)))
        .max_by_key(|(drill, _)| drill.at_ms);
    match newest {
        Some((drill, member)) => v1::DrillPoint {
            state: KNOWN,
            at_ms: drill.at_ms,
            milliseconds: drill.milliseconds,
            index: drill.index,
            failed: drill.failed.clone(),
            member: member.name.clone(),
        },
        None => {
            let answered = |(reply, member): &(Option<&v1::HelloReply>, &Member)| {
                reply.is_some() || member.role != MemberRole::Backup
            };
            let state = if told.iter().all(answered) { NONE } else { NOT_KNOWN };
            v1::DrillPoint { state, ..v1::DrillPoint::default() }
        }
    }
}
