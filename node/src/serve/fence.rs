//! Fencing off those whom a take-over has left behind: every member tells the newest timeline's certificate with each
//! hello and each answer to one, and the member that began a timeline looks for the former members, too.
//!
//! Invariant: who was shown a certificate that leaves it behind notes it durably before anything else, then stops: it
//! votes, leads and answers no more, now and after every restart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::row::TimelineCertificate;
use prost::Message;

use super::{Node, peers};
use crate::raft::codec;
use crate::recovery::fence;
use crate::recovery::membership::FORMER_MEMBERS_FILE;

/// Between two rounds of telling former members.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// The certificate of the newest timeline that this node knows, encoded; empty before the first take-over.
pub fn own(node: &Node) -> Bytes {
    let row = node.store.database().cluster_row().ok().flatten();
    let newest = row.and_then(|row| row.timelines.last().cloned()).filter(|newest| newest.timeline > 0);
    newest.map_or_else(Bytes::new, |newest| newest.encode_to_vec().into())
}

/// Takes what somebody showed; a certificate that leaves this node behind stops it.
pub fn take(node: &Node, shown: &Bytes) {
    if shown.is_empty() {
        return;
    }
    let Ok(certificate) = TimelineCertificate::decode(shown.clone()) else { return };
    if !fence::leaves_behind(&node.identity, &certificate) {
        return;
    }
    node.gateway.give_up();
    node.gate.lose();
    if node.fenced.borrow().is_some() {
        return;
    }
    let noted = tokio::task::block_in_place(|| fence::note(&node.config.data, &certificate));
    if let Err(error) = noted {
        // It stops all the same; a restart will be shown the certificate again.
        tracing::error!(%error, "that this node was left behind could not be noted");
    }
    let words = fence::words(&node.identity, &certificate);
    tracing::error!(timeline = certificate.timeline, "{words}");
    node.fenced.send_replace(Some(words));
}

/// Tells the members of the former timeline, wherever they come back, for ever.
pub async fn announce(node: Arc<Node>) {
    let path = node.config.data.join(FORMER_MEMBERS_FILE);
    let Ok(bytes) = tokio::fs::read(&path).await else { return };
    let Ok(former) = codec::decode_stored_membership(&bytes) else {
        return tracing::error!(path = %path.display(), "is not in a known form: former members are not told");
    };
    loop {
        let present = peers::others(&node);
        let is_present = |name: &str| name == node.config.name || present.iter().any(|(_, one)| one.name == name);
        let members: Vec<_> = former.membership().nodes().filter(|(_, member)| !is_present(&member.name)).collect();
        join_all(members.into_iter().map(|(_, member)| peers::announce(&node, member))).await;
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}
