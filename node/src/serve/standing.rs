//! Whether this node may take part and stand: the marks check, the keys, the space on its disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;

use super::{Node, alone, peers};
use crate::certificates::Role;
use crate::raft::gate::Standing;
use crate::raft::marks::Mark;
use crate::raft::types::MemberRole;
use crate::space::Level;

const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// How long voters that do not answer are waited for once another has.
const SILENT_WAIT: Duration = Duration::from_secs(3);
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Asks all other voters at once what they keep of this node, then opens the gate or closes it for good: one that keeps
/// more than the log has is enough, whatever the others say. It opens when all have answered; or, if the log covers
/// what somebody keeps, when the others have been silent for [`SILENT_WAIT`]: a mark that a voter kept while others wrote
/// without it may be an old one. One that keeps nothing (a new voter, or one that lost its file) does not know. A
/// sole voter listens ([`super::alone`]); a backup, which never votes, and a node that is in no membership yet, ask
/// nobody; a voter to be is content with an answer of any kind.
pub async fn check_marks(node: Arc<Node>) {
    let mut covered_since: Option<Instant> = None;
    loop {
        let membership = node.raft.metrics().borrow_watched().membership_config.clone();
        let voters: Vec<_> = membership.membership().voter_ids().collect();
        let is_backup = node.tls.identity().role == Role::Backup;
        if voters.is_empty() || is_backup {
            return node.gate.open();
        }
        if alone::is_alone(&node, &membership) {
            return if alone::listen(&node).await {
                node.gate.open()
            };
        }
        let votes = voters.contains(&node.id());
        let others = peers::others(&node).into_iter().filter(|(_, member)| member.role == MemberRole::Voter);
        let asked = others.map(async |(id, member)| (peers::hello(&node, id, &member).await, member));
        let (mut silent, mut is_covered) = (Vec::new(), false);
        for (reply, member) in join_all(asked).await {
            let kept = match reply {
                Ok(reply) if reply.kept_mark.is_empty() => {
                    is_covered |= !votes;
                    continue;
                }
                Ok(reply) => Mark::decode(&reply.kept_mark).ok(),
                Err(_) => None,
            };
            match kept {
                None => silent.push(member.name),
                Some(kept) if node.log.opened().covers(&kept) => is_covered = true,
                Some(kept) => {
                    tracing::error!(
                        asked = %member.name, %kept, own = %node.log.opened(),
                        "this node's log lacks what it once promised: replace this member under a new id (`kura member replace`)"
                    );
                    node.gateway.give_up();
                    return node.gate.lose();
                }
            }
        }
        if silent.is_empty() {
            tracing::info!("the log covers what was promised to every other voter");
            return node.gate.open();
        }
        if is_covered && covered_since.get_or_insert_with(Instant::now).elapsed() >= SILENT_WAIT {
            tracing::warn!(silent = silent.join(", "), "the log covers what was promised, as far as voters answer");
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
