//! A voter whose own log knows no other one: it has nobody to ask about its disk, and would lead by itself. The disk of a
//! cluster's first days, put back years later, is such a one. But those whom it does not know, know it, and ask it each
//! second: they are listened to, before it may lead and ever after.
//!
//! Invariants
//! - Only a voter of this cluster, by its certificate, is listened to; and what it says is held against this log: an
//!   entry that was promised, and that is not there, stops this member for good.
//! - What this misses: others that speak only after it has begun to lead, and until they do.

use std::time::{Duration, Instant};

use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::{Node, scrub};
use crate::raft::gate::{Caller, Standing};
use crate::raft::marks::Mark;
use crate::raft::types::{MemberRole, StoredMembership};

/// How long the others have to speak: they ask each second.
const LISTEN: Duration = Duration::from_millis(2500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A directory that was only just made holds no more entries; nothing was ever served from it.
const FRESH_INDEX_MAX: u64 = 4;

/// Whether this node is the only voter that its log knows.
pub fn is_alone(node: &Node, membership: &StoredMembership) -> bool {
    membership.membership().voter_ids().eq([node.id()])
}

/// Waits until the others had their say; `false` if they had any.
pub async fn listen(node: &Node) -> bool {
    let is_fresh = node.log.opened().last.is_none_or(|last| last.index <= FRESH_INDEX_MAX);
    let until = Instant::now() + if is_fresh { Duration::ZERO } else { LISTEN };
    while Instant::now() < until && *node.gate.standing().borrow() == Standing::Closed {
        tokio::time::sleep(LOOK).await;
    }
    *node.gate.standing().borrow() == Standing::Closed
}

/// Hears what somebody says it keeps of this node.
pub fn hear(node: &Node, caller: &Caller, request: &v1::HelloRequest) {
    let membership = node.raft.metrics().borrow_watched().membership_config.clone();
    let is_voter = caller.role == Some(MemberRole::Voter);
    if !is_voter || !is_alone(node, &membership) || node.member(request.from).is_some() {
        return;
    }
    // What it keeps of this member; and the entry by which it came in: that one took this member's consent.
    let claims = [&request.kept_mark, &request.membership_entry].into_iter();
    let entries = claims.filter_map(|claim| Mark::decode(claim).ok()?.last);
    let lacked = entries.map(|entry| (entry, tokio::task::block_in_place(|| node.log.lacks(entry))));
    let Some((last, lacks)) = lacked.into_iter().find(|(_, lacks)| !matches!(lacks, Ok(false))) else { return };
    if let Err(error) = lacks {
        return tracing::error!(%error, "the log could not be read");
    }
    if node.fenced.borrow().is_some() {
        return;
    }
    let words = format!(
        "this member's disk is of an earlier time: {}, a voter that its log does not know, tells of entry {last} that it had, and that is \
         not there",
        caller.name
    );
    tracing::error!("{words}");
    node.gateway.give_up();
    node.gate.lose();
    scrub::damage::keep(&node.config.data, &words);
    let next =
        "It serves nothing. Rebuild it under a new id: `kura member replace`. Keep the directory until that is done";
    node.fenced.send_replace(Some(format!("{words}. {next}")));
}
