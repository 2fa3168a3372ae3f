//! Whether there is a leader that a majority follows, as far as this member can tell, and since when not.
//!
//! Invariant: what openraft last knew is not told as what is. A leader counts only while it says itself that a
//! majority acknowledges it. Only of a leader of an older build, which cannot say so, counts what this member's own
//! Raft knows, as long as it answers: else there would be no leader in the middle of a rolling upgrade.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::{Node, peers};
use crate::clock;
use crate::raft::leading::{LEADER_SILENCE, leads_with_majority};
use crate::raft::types::{MemberRole, NodeId};

/// When a leader was known last, in milliseconds since 1970.
#[derive(Debug)]
pub struct LastLed(AtomicU64);

impl Default for LastLed {
    fn default() -> Self {
        Self(AtomicU64::new(clock::now_ms()))
    }
}

/// Whether this node leads and a majority follows.
pub fn leads(node: &Node) -> bool {
    leads_with_majority(&node.raft.metrics().borrow_watched())
}

/// The leader by answers of this moment, this node's own among them. `believed` is whom this node's Raft follows.
pub fn leader_among(replies: &BTreeMap<NodeId, Option<v1::HelloReply>>, believed: Option<NodeId>) -> Option<NodeId> {
    let says_so = |id: NodeId, reply: &v1::HelloReply| reply.leads.unwrap_or(believed == Some(id));
    let leading =
        replies.iter().filter_map(|(id, reply)| Some((*id, reply.as_ref().filter(|reply| says_so(*id, reply))?)));
    // Two only around an election; then the newer.
    leading.max_by_key(|(_, reply)| reply.term).map(|(id, _)| id)
}

/// Whether there is a leader with a majority, by what was heard in the last seconds.
pub fn is_led(node: &Node) -> bool {
    let believed = believed(node);
    leads(node) || fresh(node).any(|(id, reply)| reply.leads.unwrap_or(believed == Some(id)))
}

/// Whom this node's Raft follows, whether or not that one still leads.
pub fn believed(node: &Node) -> Option<NodeId> {
    node.raft.metrics().borrow_watched().current_leader
}

/// Notes whether there is a leader now. Called each second.
pub fn note(node: &Node) {
    if is_led(node) {
        node.last_led.0.store(clock::now_ms(), Ordering::Relaxed);
    }
}

/// What keeps this member from a leader, in words; nothing while there is one, or was a moment ago.
pub fn missing(node: &Node) -> Option<String> {
    let since_ms = node.last_led.0.load(Ordering::Relaxed);
    if u128::from(clock::now_ms().saturating_sub(since_ms)) <= 2 * LEADER_SILENCE.as_millis() {
        return None;
    }
    let membership = node.raft.metrics().borrow_watched().membership_config.clone();
    let voters: Vec<NodeId> = membership.membership().voter_ids().collect();
    if voters.is_empty() {
        // Not a member yet.
        return None;
    }
    let answering = fresh(node).filter(|(id, _)| voters.contains(id)).count();
    let answering = answering + usize::from(voters.contains(&node.id()));
    let since = clock::in_japan(since_ms);
    Some(match answering > voters.len() / 2 {
        true => format!("no leader is known since {since}"),
        false => format!(
            "no leader since {since}: only {answering} of {} voters can be reached from here, no majority",
            voters.len()
        ),
    })
}

/// The other voters' last answers that are not old.
fn fresh(node: &Node) -> impl Iterator<Item = (NodeId, v1::HelloReply)> {
    let voters = peers::others(node).into_iter().filter(|(_, member)| member.role == MemberRole::Voter);
    let heard = voters.filter_map(|(id, _)| node.peers.heard(id).map(|heard| (id, heard)));
    heard.filter(|(_, heard)| heard.at.elapsed() < LEADER_SILENCE).map(|(id, heard)| (id, heard.reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_who_says_so_with_a_majority() {
        let says = |leads, term| Some(v1::HelloReply { leads: Some(leads), term, ..v1::HelloReply::default() });
        let among = |replies: [Option<v1::HelloReply>; 3]| leader_among(&(1..).zip(replies).collect(), Some(1));
        assert_eq!(among([says(false, 7), says(true, 7), None]), Some(2));
        assert_eq!(among([says(true, 7), None, says(true, 8)]), Some(3));
        assert_eq!(among([says(false, 7), None, None]), None);
    }

    #[test]
    fn a_leader_of_an_older_build_that_answers_is_whom_raft_follows() {
        let silent = |term| Some(v1::HelloReply { term, ..v1::HelloReply::default() });
        let says = |leads, term| Some(v1::HelloReply { leads: Some(leads), term, ..v1::HelloReply::default() });
        let among =
            |replies: [Option<v1::HelloReply>; 3], believed| leader_among(&(1..).zip(replies).collect(), believed);
        assert_eq!(among([silent(7), says(false, 7), silent(7)], Some(1)), Some(1));
        assert_eq!(among([silent(7), says(false, 7), silent(7)], None), None);
        assert_eq!(among([None, says(false, 7), silent(7)], Some(1)), None, "it does not answer");
        assert_eq!(among([silent(7), says(true, 8), silent(7)], Some(1)), Some(2), "the newer term");
    }
}
