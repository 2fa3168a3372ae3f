//! Starts that could make a second cluster: the first one on a new timeline, and one after a fork. Whether a cluster of
//! this id still lives is asked before anybody is shown the certificate that would end it.
//!
//! Invariants
//! - Nobody who is asked here is shown a certificate: asking ends nothing.
//! - A cluster that answers on this timeline under another certificate, or on a later timeline, keeps the node from
//!   starting, whatever people say: neither of the two would know of the other.
//! - A majority of the former voters that answers on an earlier timeline keeps the node from starting, unless people say
//!   that it is to be ended. Fewer of them can decide nothing any more: a take-over goes on.
//! - Once a node of the new timeline has started it is not asked again: who comes back then is told.
//! - Asked are the addresses of the former members, of the own ones and of the configured peers. A cluster that has none
//!   of them is not noticed.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::row::TimelineCertificate;
use kura_cluster::timeline::timeline_is_signed;
use kura_proto::v1;
use prost::Message;

use super::{Said, ServeError, fence};
use crate::config::NodeConfig;
use crate::identity::NodeIdentity;
use crate::raft::channels::TlsChannels;
use crate::raft::codec;
use crate::raft::types::StoredMembership;
use crate::recovery::membership::FORMER_MEMBERS_FILE;
use crate::state::StateStore;

/// Its file says that a node has started on this directory since the timeline began.
const STARTED_FILE: &str = "former-members-asked";

/// Asks who else there is, if this is the first start on a new timeline, or one after a fork.
///
/// # Errors
/// [`ServeError::OtherLives`] and [`ServeError::FormerLives`], as the module says; files that cannot be read.
pub async fn ask(
    config: &NodeConfig,
    identity: &NodeIdentity,
    store: &StateStore,
    channels: &TlsChannels,
    said: Said,
    after_fork: bool,
) -> Result<(), ServeError> {
    let former = former_members(&config.data);
    let former = former.map_err(|source| ServeError::Io { what: "the former members", source })?;
    let is_first = former.is_some() && !has_started(&config.data);
    if !is_first && !after_fork {
        return Ok(());
    }
    let former = former.unwrap_or_default();
    let own = store.database().cluster_row()?.and_then(|row| row.timelines.last().cloned());
    let own = own.ok_or_else(|| ServeError::Fatal("its state has no certificate of a timeline".into()))?;
    let published = store.published();
    let members = former.membership().nodes().chain(published.membership.membership().nodes());
    let members = members.filter(|(id, _)| **id != identity.raft_id).map(|(_, one)| (&one.name[..], &one.address[..]));
    let peers = config.peers.iter().map(|peer| (&peer.name[..], &peer.address[..]));
    let asked: Vec<(&str, &str)> = members.chain(peers).collect::<BTreeSet<_>>().into_iter().collect();
    let answers = asked.iter().map(async |(name, address)| {
        let reply = fence::show(channels, identity, name, address, &Bytes::new()).await?;
        Some((*name, *address, reply))
    });
    let answers: Vec<_> = join_all(answers).await.into_iter().flatten().collect();

    let others: Vec<(&str, u64)> = answers
        .iter()
        .filter_map(|(name, _, reply)| other_timeline(identity, &own, reply).map(|timeline| (*name, timeline)))
        .collect();
    if let Some(timeline) = others.iter().map(|(_, timeline)| *timeline).max() {
        let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
        return Err(ServeError::OtherLives { alive: names.join(", "), timeline });
    }
    let voter_ids: Vec<u64> = former.membership().voter_ids().collect();
    let voters = former.membership().nodes().filter(|(id, _)| voter_ids.contains(id));
    let lives = |name: &str, address: &str| {
        answers.iter().any(|(n, a, reply)| *n == name && *a == address && reply.timeline < identity.timeline)
    };
    let alive: Vec<&str> =
        voters.filter(|(_, one)| lives(&one.name, &one.address)).map(|(_, one)| &one.name[..]).collect();
    if !is_first || said.end_former || alive.len() <= voter_ids.len() / 2 {
        return Ok(());
    }
    Err(ServeError::FormerLives { alive: alive.join(", "), voters: voter_ids.len(), timeline: identity.timeline })
}

/// The timeline of a cluster that goes on beside this one: on the same number under another certificate, or on a later
/// one. What the recovery key has not signed counts for nothing.
fn other_timeline(identity: &NodeIdentity, own: &TimelineCertificate, reply: &v1::TimelineReply) -> Option<u64> {
    let told = TimelineCertificate::decode(reply.certificate.clone()).ok()?;
    let is_other = told.timeline >= own.timeline
        && told != *own
        && timeline_is_signed(&identity.recovery_public_key, &identity.cluster_id, &told);
    is_other.then_some(told.timeline)
}

/// Notes that the node has started: from now on former members are told, and not asked.
///
/// # Errors
/// What the system says.
pub fn note_start(data: &Path) -> io::Result<()> {
    match former_members(data)? {
        Some(_) if !has_started(data) => std::fs::File::create(data.join(STARTED_FILE))?.sync_all(),
        _ => Ok(()),
    }
}

/// Whether a node has started here since the timeline began.
fn has_started(data: &Path) -> bool {
    data.join(STARTED_FILE).exists()
}

/// The members of the former timeline, with the node that began this one.
fn former_members(data: &Path) -> io::Result<Option<StoredMembership>> {
    let bytes = match std::fs::read(data.join(FORMER_MEMBERS_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    codec::decode_stored_membership(&bytes).map(Some).map_err(|error| io::Error::other(error.to_string()))
}
