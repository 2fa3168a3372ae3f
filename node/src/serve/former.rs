//! The first start on a new timeline: whether the former cluster still lives, asked before any of its members is shown
//! the certificate that ends it for good.
//!
//! Invariants
//! - Nobody who is asked here is shown a certificate: asking ends nothing.
//! - A majority of the former voters that answers keeps the node from starting, unless people say that it is to be
//!   ended. Fewer of them can decide nothing any more: a take-over goes on.
//! - Once a node of the new timeline has started it is not asked again: who comes back then is told.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;

use super::ServeError;
use crate::clock;
use crate::identity::NodeIdentity;
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::codec;
use crate::raft::types::{Member, StoredMembership};
use crate::recovery::membership::FORMER_MEMBERS_FILE;

/// Its file says that a node has started on this directory since the timeline began.
const STARTED_FILE: &str = "former-members-asked";
/// How long a former voter may take to answer: longer than among members, as this is asked once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the former voters, if this is the first start on a new timeline.
///
/// # Errors
/// [`ServeError::FormerLives`] if a majority of them answers; files that cannot be read.
pub async fn ask(data: &Path, identity: &NodeIdentity, channels: &dyn PeerChannels) -> Result<(), ServeError> {
    let Some(former) = unasked(data).map_err(|source| ServeError::Io { what: "the former members", source })? else {
        return Ok(());
    };
    let voter_ids: Vec<u64> = former.membership().voter_ids().collect();
    let voters: Vec<&Member> =
        former.membership().nodes().filter(|(id, _)| voter_ids.contains(id)).map(|(_, member)| member).collect();
    let answers = join_all(voters.iter().map(|voter| answers(identity, voter, channels))).await;
    let alive: Vec<&str> =
        voters.iter().zip(answers).filter(|(_, lives)| *lives).map(|(voter, _)| &voter.name[..]).collect();
    if alive.len() <= voters.len() / 2 {
        return Ok(());
    }
    Err(ServeError::FormerLives { alive: alive.join(", "), voters: voters.len(), timeline: identity.timeline })
}

/// Notes that the node has started: from now on former members are told, and not asked.
///
/// # Errors
/// What the system says.
pub fn note_start(data: &Path) -> io::Result<()> {
    match unasked(data)? {
        Some(_) => std::fs::File::create(data.join(STARTED_FILE))?.sync_all(),
        None => Ok(()),
    }
}

/// The former members of a timeline on which no node has started yet.
fn unasked(data: &Path) -> io::Result<Option<StoredMembership>> {
    if data.join(STARTED_FILE).exists() {
        return Ok(None);
    }
    let bytes = match std::fs::read(data.join(FORMER_MEMBERS_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    codec::decode_stored_membership(&bytes).map(Some).map_err(|error| io::Error::other(error.to_string()))
}

/// Whether somebody of an earlier timeline answers under that name and key.
async fn answers(identity: &NodeIdentity, voter: &Member, channels: &dyn PeerChannels) -> bool {
    let Ok(channel) = channels.channel(voter, Lane::Control) else { return false };
    let mut request = tonic::Request::new(v1::HelloRequest {
        from: identity.raft_id,
        cluster_id: Bytes::copy_from_slice(&identity.cluster_id.0),
        clock_ms: clock::now_ms(),
        ..v1::HelloRequest::default()
    });
    request.set_timeout(ANSWER_TIMEOUT);
    let told = tokio::time::timeout(ANSWER_TIMEOUT, PeerClient::new(channel).hello(request)).await;
    matches!(told, Ok(Ok(reply)) if reply.get_ref().timeline < identity.timeline)
}
