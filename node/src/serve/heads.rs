//! Signing this node's heads, telling and comparing them, and holding offered snapshots against them.
//!
//! All of it runs beside the apply path, which only notes heads: a signature and, for each other member,
//! a verification for 1,024 entries, and a call to each member a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use openraft::async_runtime::WatchReceiver;
use tonic::Status;

use super::{Node, peers};
use crate::heads::{Agreement, Claim, HEADS_TOLD_MAX, Testimony, hear};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::{Member, NodeId};
use crate::snapshot::SnapshotManifest;

const INTERVAL: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Signs, tells and compares, for ever.
pub async fn follow(node: Arc<Node>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(index) = node.store.snapshot_at_head() {
            node.heads.pin(index);
        }
        sign(&node);
        let others = peers::others(&node);
        node.heads.keep_members(|id| others.iter().any(|(other, _)| *other == id));
        join_all(others.iter().map(|(id, member)| ask(&node, *id, member))).await;
    }
}

fn sign(node: &Node) {
    let signer = node.tls.head_signer();
    for head in node.store.take_heads() {
        let signed = signer.as_ref().and_then(|signer| signer.sign(head.clone()));
        for id in node.heads.note(head, signed) {
            alarm(node, id);
        }
    }
}

/// Asks a member for its heads. Whatever goes wrong leaves the comparison unknown.
async fn ask(node: &Node, id: NodeId, member: &Member) {
    let Ok(channel) = node.channels.channel(member, Lane::Control) else { return };
    let mut request = tonic::Request::new(v1::HeadsRequest {
        from: node.id(),
        cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
        after_index: node.heads.newest_of(id),
    });
    request.set_timeout(CALL_TIMEOUT);
    let answer = tokio::time::timeout(CALL_TIMEOUT, PeerClient::new(channel).heads(request)).await;
    let Ok(Ok(reply)) = answer else { return };
    let (mut taken, mut refused) = (0, None);
    for encoded in reply.into_inner().heads.into_iter().take(HEADS_TOLD_MAX) {
        match node.heads.take(id, member.keys(), encoded) {
            Ok(differs) => {
                taken += 1;
                if differs {
                    alarm(node, id);
                }
            }
            // Heads from before a renewal of the member's key are followed by such as can be taken.
            Err(error) => refused = Some(error),
        }
    }
    if let (0, Some(error)) = (taken, refused) {
        tracing::warn!(member = %member.name, %error, "no head is taken: this member cannot be compared");
    }
}

fn alarm(node: &Node, id: NodeId) {
    if let Agreement::Different { index, tables } = node.heads.agreement(id, Instant::now()) {
        let member = node.member(id).map(|member| member.name).unwrap_or_default();
        tracing::error!(
            %member, index, tables = %tables.join(" "),
            "this member's state and another's are not the same at the same log index: one of the two is wrong; compare with the others (`kura status`) and replace the wrong one"
        );
    }
}

/// How every other member stands to this one.
pub fn agreements(node: &Node) -> BTreeMap<NodeId, Agreement> {
    let now = Instant::now();
    peers::others(node).into_iter().map(|(id, _)| (id, node.heads.agreement(id, now))).collect()
}

/// The members whose state differs: name, index, and the tables in words.
pub fn differences(node: &Node) -> Vec<(String, u64, String)> {
    let named = agreements(node).into_iter().filter_map(|(id, agreement)| match agreement {
        Agreement::Different { index, tables } => {
            let name = node.member(id).map(|member| member.name).unwrap_or_default();
            let tables = if tables.is_empty() { "no single table".into() } else { tables.join(", ") };
            Some((name, index, tables))
        }
        Agreement::Equal { .. } | Agreement::Unknown { .. } => None,
    });
    named.collect()
}

/// Whether this node takes a snapshot that `from` offers: not of an older timeline, and not if another
/// member has signed another digest at its index.
///
/// Members are those that this node knows, and in the manifest those that it does not: a node that is new
/// knows nobody, and takes from its leader who the others are.
pub fn admit_snapshot(node: &Node, from: NodeId, manifest: &SnapshotManifest, offered: &[Bytes]) -> Result<(), Status> {
    if manifest.timeline < node.store.published().summary.timeline {
        return Err(Status::failed_precondition("the snapshot is of an older timeline"));
    }
    let index = manifest.last_log_id.map_or(0, |last| last.index);
    let claim = Claim {
        cluster_id: manifest.cluster_id,
        timeline: manifest.timeline,
        index,
        state_digest: manifest.state_digest,
        sender: from,
    };
    let own = node.raft.metrics().borrow_watched().membership_config.clone();
    let mut members: BTreeMap<NodeId, &Member> =
        manifest.membership.membership().nodes().map(|(id, member)| (*id, member)).collect();
    members.extend(own.membership().nodes().map(|(id, member)| (*id, member)));
    let name = |id: &NodeId| members.get(id).map(|member| member.name.clone()).unwrap_or_default();
    let heads = offered.iter().cloned().chain(node.heads.at(index));
    match hear(&claim, heads, members.iter().map(|(id, member)| (*id, *member))) {
        Testimony::Confirmed(witnesses) => {
            let by = witnesses.iter().map(&name).collect::<Vec<_>>().join(" ");
            tracing::info!(index, from = %name(&from), %by, "an offered snapshot is borne out by other members' signed heads");
            Ok(())
        }
        Testimony::Nobody => {
            tracing::warn!(
                index, from = %name(&from),
                "no member but its sender has signed anything at the index of an offered snapshot: it is taken on the sender's word"
            );
            Ok(())
        }
        Testimony::Contradicted(witness) => {
            tracing::error!(
                index, from = %name(&from), by = %name(&witness),
                "an offered snapshot is refused: another member has signed another digest at its index; find out which of the two is wrong (`kura status`) and remove it"
            );
            Err(Status::failed_precondition(format!(
                "{} has signed another digest at index {index} than the snapshot has",
                name(&witness)
            )))
        }
    }
}
