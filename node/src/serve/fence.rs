//! Fencing off those whom a take-over has left behind: every member tells the newest timeline's certificate with each
//! hello and each answer to one, and the member that began a timeline looks for the former members, too.
//!
//! Invariants
//! - Who was shown a certificate that leaves it behind notes it durably before anything else, then stops: it votes, leads
//!   and answers no more, now and after every restart.
//! - Who was shown another certificate of its own timeline does the same, and tells its own members first: of two clusters
//!   on one timeline neither goes on until people have ended one ([`crate::recovery::fence`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderValue;
use kura_cluster::hexadecimal;
use kura_cluster::row::TimelineCertificate;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Node, ServeError, peers};
use crate::identity::NodeIdentity;
use crate::raft::channels::TlsChannels;
use crate::raft::codec;
use crate::recovery::fence;
use crate::recovery::membership::FORMER_MEMBERS_FILE;

/// Between two rounds of telling former members.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How long somebody who is shown a certificate may take to answer.
const SHOW_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a node takes no part any more, in words for whoever finds it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// The cluster has gone on without it, on a later timeline.
    Behind(String),
    /// Another cluster is on its timeline.
    Forked(String),
    /// Its disk is of an earlier time.
    Earlier(String),
}

impl From<Left> for ServeError {
    fn from(left: Left) -> ServeError {
        match left {
            Left::Behind(words) => ServeError::Fenced(words),
            Left::Forked(words) => ServeError::Forked(words),
            Left::Earlier(words) => ServeError::Earlier(words),
        }
    }
}

/// The certificate of the newest timeline that this node knows; none before the first take-over.
pub fn newest(node: &Node) -> Option<TimelineCertificate> {
    let row = node.store.database().cluster_row().ok().flatten()?;
    row.timelines.last().cloned().filter(|newest| newest.timeline > 0)
}

/// The same, encoded; empty before the first take-over.
pub fn own(node: &Node) -> Bytes {
    newest(node).map_or_else(Bytes::new, |newest| newest.encode_to_vec().into())
}

/// What each answer of this node names ([`kura_client::fork`]).
pub fn header(node: &Node) -> Option<HeaderValue> {
    if node.store.published().summary.timeline == 0 {
        return None;
    }
    // It does not change while a node runs: whoever sees a later timeline stops.
    if let Some(value) = node.timeline_header.get() {
        return Some(value.clone());
    }
    let newest = newest(node)?;
    let sha256: [u8; 32] = Sha256::digest(newest.encode_to_vec()).into();
    let mark = hexadecimal(&sha256[..16]);
    let value = HeaderValue::from_str(&format!("{}-{mark}", newest.timeline)).ok()?;
    Some(node.timeline_header.get_or_init(|| value).clone())
}

/// Takes what somebody showed; a certificate that leaves this node behind, or that forks its timeline, stops it.
pub fn take(node: &Node, shown: &Bytes) {
    if shown.is_empty() {
        return;
    }
    let Ok(certificate) = TimelineCertificate::decode(shown.clone()) else { return };
    let is_behind = fence::leaves_behind(&node.identity, &certificate);
    let is_forked = !is_behind && newest(node).is_some_and(|own| fence::forks(&node.identity, &own, &certificate));
    if !is_behind && !is_forked {
        return;
    }
    node.gateway.give_up();
    node.gate.lose();
    if node.fenced.borrow().is_some() || is_forked && node.fork.borrow().is_some() {
        return;
    }
    let data = &node.config.data;
    let noted = tokio::task::block_in_place(|| match is_behind {
        true => fence::note(data, &certificate),
        false => fence::note_fork(data, &certificate),
    });
    if let Err(error) = noted {
        // It stops all the same; a restart will be shown the certificate again.
        tracing::error!(%error, "what this node was shown of the cluster's timelines could not be noted");
    }
    if is_forked {
        node.fork.send_replace(Some(certificate));
        return;
    }
    let words = fence::words(&node.identity, &certificate);
    tracing::error!(timeline = certificate.timeline, "{words}");
    node.fenced.send_replace(Some(Left::Behind(words)));
}

/// Waits until another cluster is seen on this node's timeline, tells the other members of it, which may not be where that
/// one looks, then ends this node.
pub async fn end_of_fork(node: Arc<Node>) {
    let mut fork = node.fork.subscribe();
    let Ok(seen) = fork.wait_for(Option::is_some).await.map(|seen| seen.clone()) else { return };
    let Some(other) = seen else { return };
    let words = fence::fork_words(&other, "this node serves nothing any more");
    tracing::error!(timeline = other.timeline, "{words}");
    let (members, shown) = (peers::others(&node), Bytes::from(other.encode_to_vec()));
    let told = members.iter().map(|(_, one)| show(&node.channels, &node.identity, &one.name, &one.address, &shown));
    join_all(told).await;
    node.fenced.send_replace(Some(Left::Forked(words)));
}

/// Asks whoever has that name and address for its timeline, and shows it a certificate, unless that is empty. `None`: no
/// node of this cluster's id answers.
pub async fn show(
    channels: &TlsChannels,
    identity: &NodeIdentity,
    name: &str,
    address: &str,
    certificate: &Bytes,
) -> Option<v1::TimelineReply> {
    let channel = channels.by_name(name, address).ok()?;
    let mut request = tonic::Request::new(v1::TimelineRequest {
        cluster_id: Bytes::copy_from_slice(&identity.cluster_id.0),
        certificate: certificate.clone(),
    });
    request.set_timeout(SHOW_TIMEOUT);
    let told = tokio::time::timeout(SHOW_TIMEOUT, PeerClient::new(channel).timeline(request)).await;
    told.ok()?.ok().map(tonic::Response::into_inner)
}

/// Tells the members of the former timeline, wherever they come back, for ever; and hears whether another cluster has
/// begun from the same.
pub async fn announce(node: Arc<Node>) {
    let path = node.config.data.join(FORMER_MEMBERS_FILE);
    let Ok(bytes) = tokio::fs::read(&path).await else { return };
    let Ok(former) = codec::decode_stored_membership(&bytes) else {
        return tracing::error!(path = %path.display(), "is not in a known form: former members are not told");
    };
    loop {
        let present = peers::others(&node);
        // Who is a member now hears it with every hello. One of the same name elsewhere is somebody else.
        let is_present = |name: &str, address: &str| {
            name == node.config.name && address == node.config.advertised()
                || present.iter().any(|(_, one)| one.name == name && one.address == address)
        };
        let members = former.membership().nodes().map(|(_, member)| member);
        let members: Vec<_> = members.filter(|member| !is_present(&member.name, &member.address)).collect();
        join_all(members.into_iter().map(|member| announce_to(&node, &member.name, &member.address))).await;
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Shows the newest timeline's certificate to whoever has the name and address of a former member.
async fn announce_to(node: &Node, name: &str, address: &str) {
    let Some(reply) = show(&node.channels, &node.identity, name, address, &own(node)).await else { return };
    take(node, &reply.certificate);
    if reply.timeline < node.identity.timeline {
        tracing::warn!(
            name,
            timeline = reply.timeline,
            "a member of the former timeline answers: it was shown the certificate and stops"
        );
    }
}
