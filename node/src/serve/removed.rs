//! A node that was removed and goes on running must not answer as if it were a member.
//!
//! It learns of it from its own state, or from a voter whose key it knows, which tells the newest committed membership
//! with each answer ([`super::peers`]). A node that reaches nobody cannot know: its status says since
//! when there is no leader.
//!
//! Invariant: what was learnt is noted in the data directory before it is told, and outlives a restart.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Node;
use crate::clock::now_ms;
use crate::raft::types::StoredMembership;
use crate::removed::{Removed, judge};

/// Whether this node was seen among the members since it started.
#[derive(Debug, Default)]
pub struct WasMember(AtomicBool);

/// The newest committed membership that this node knows: that it has applied, or that a voter has and told.
pub fn newest_membership(node: &Node) -> StoredMembership {
    let own = node.store.published().membership.clone();
    node.gate.vouched_beyond(&own).map_or(own, |vouched| (*vouched).clone())
}

/// Looks whether this node was removed, or is a member again. Called each second.
pub fn look(node: &Node) {
    if node.member(node.id()).is_some() {
        node.was_member.0.store(true, Ordering::Relaxed);
    }
    let before = node.gateway.removed();
    let was_member = node.was_member.0.load(Ordering::Relaxed);
    let now = judge(node.id(), &newest_membership(node), was_member, before, now_ms());
    if now == before {
        return;
    }
    let noted = tokio::task::block_in_place(|| match now {
        Some(removed) => removed.write(&node.config.data),
        None => Removed::forget(&node.config.data),
    });
    if let Err(error) = noted {
        tracing::error!(%error, "whether this node is a member could not be noted");
    }
    match now {
        Some(_) => {
            tracing::error!("this node is not a member of its cluster any more: it answers nothing but its status")
        }
        None => tracing::warn!("this node is a member again"),
    }
    node.gateway.set_removed(now);
}
