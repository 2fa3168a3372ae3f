//! Whether this node may take part and stand: the marks check, the keys, the space on its disk.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::{Node, peers};
use crate::certificates::Role;
use crate::raft::gate::Standing;
use crate::raft::marks::Mark;
use crate::raft::types::MemberRole;
use crate::space::Level;

const RETRY_INTERVAL: Duration = Duration::from_millis(300);
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Asks other voters what they keep of this node, then opens the gate or closes it for good. One that
/// keeps nothing (a new voter, or one that lost its file) does not know: then every other voter has to
/// say so. A sole voter, and a node that is in no membership yet, asks nobody.
pub async fn check_marks(node: Arc<Node>) {
    loop {
        let membership = node.raft.metrics().borrow_watched().membership_config.clone();
        let voters: Vec<_> = membership.membership().voter_ids().collect();
        if voters.is_empty() || voters == [node.id()] || !voters.contains(&node.id()) {
            return node.gate.open();
        }
        let mut is_unknown_to_all = true;
        for (id, member) in peers::others(&node) {
            if member.role != MemberRole::Voter {
                continue;
            }
            let reply = peers::hello(&node, id, &member).await;
            if reply.as_ref().is_ok_and(|reply| reply.kept_mark.is_empty()) {
                continue;
            }
            let Some(kept) = reply.ok().and_then(|reply| Mark::decode(&reply.kept_mark).ok()) else {
                is_unknown_to_all = false;
                continue;
            };
            if node.log.opened().covers(&kept) {
                tracing::info!(asked = %member.name, "the log covers what was promised");
                return node.gate.open();
            }
            tracing::error!(
                asked = %member.name, kept = %kept, own = %node.log.opened(),
                "this node's log lacks what it once promised: replace this member under a new id (`kura member replace`)"
            );
            node.gateway.give_up();
            return node.gate.lose();
        }
        if is_unknown_to_all {
            tracing::info!("no other voter was promised anything by this node");
            return node.gate.open();
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Lets the node stand for election while the gate is open and the voter unsealed, and never else.
pub async fn stand(node: Arc<Node>) {
    let mut standing = false;
    loop {
        let may = may_stand(&node);
        if may != standing {
            node.raft.runtime_config().elect(may);
            standing = may;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Whether this node may stand: a voter by its certificate, past the marks check, unsealed, its clock
/// right. One whose disk is low may stand, too: reads need a leader even when every disk is low.
pub fn may_stand(node: &Node) -> bool {
    let open = *node.gate.standing().borrow() == Standing::Open;
    let unsealed = node.gateway.vault.load().is_some();
    let clock = node.gateway.now_ms().is_ok();
    node.tls.identity().role == Role::Voter && open && unsealed && clock
}

/// Looks at the disk each second; a leader without space hands over.
pub async fn watch_space(node: Arc<Node>) {
    let mut tick = tokio::time::interval(SPACE_INTERVAL);
    loop {
        tick.tick().await;
        let level = tokio::task::block_in_place(|| node.space.look());
        // While space is low only writes are refused, at the gateways: reads' journal entries still have
        // to be replicated. When it is spent, nothing is taken.
        node.gate.set_space_spent(level == Level::Spent);
        if level != Level::Enough
            && node.leads()
            && let Some(successor) = roomy_voter(&node)
        {
            tracing::warn!(successor, "the disk is nearly full: handing over leadership");
            let _ = node.raft.trigger().transfer_leader(successor).await;
        }
    }
}

/// Another voter that answered just now and reports no trouble of its own.
fn roomy_voter(node: &Node) -> Option<u64> {
    let voters = peers::others(node).into_iter().filter(|(_, member)| member.role == MemberRole::Voter);
    let heard = voters.filter_map(|(id, _)| node.peers.heard(id).map(|heard| (id, heard)));
    let well = heard.filter(|(_, heard)| heard.at.elapsed() < 3 * SPACE_INTERVAL && heard.reply.trouble.is_empty());
    well.max_by_key(|(_, heard)| heard.reply.synced_index).map(|(id, _)| id)
}
