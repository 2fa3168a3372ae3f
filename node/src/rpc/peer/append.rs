//! The receiving side of a stream of appends.
//!
//! Invariants
//! - Replies come in the order of the requests, each only once its entries are durable here.
//! - A refused message ends the stream, after the replies to all before it.
//! - At most [`PENDING_BYTES_MAX`] of entries of one stream wait for the log, but for one message.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use kura_proto::v1;
use openraft::storage::RaftStateMachine;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};

use super::{PeerParts, ReplyStream, malformed, stopped};
use crate::raft::gate::{Call, Caller, has_lost};
use crate::raft::network::IN_FLIGHT_BYTES_MAX;
use crate::raft::types::TypeConfig;
use crate::raft::wire::{self, Append, Envelope};
use crate::snapshot::Snapshot;

/// Twice what an honest leader sends before it waits.
const PENDING_BYTES_MAX: usize = 2 * IN_FLIGHT_BYTES_MAX;
/// The semaphore counts in units, as its numbers are small.
const UNIT_BYTES: usize = 1 << 10;

struct Input<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    parts: Arc<PeerParts<S>>,
    caller: Caller,
    messages: Streaming<v1::AppendRequest>,
    room: Arc<Semaphore>,
    pending: mpsc::UnboundedSender<OwnedSemaphorePermit>,
    refused: Arc<Mutex<Option<Status>>>,
}

/// Answers a stream of appends.
pub(super) fn replies<S>(
    parts: Arc<PeerParts<S>>,
    caller: Caller,
    messages: Streaming<v1::AppendRequest>,
) -> ReplyStream<v1::AppendReply>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    let refused = Arc::new(Mutex::new(None));
    let (pending, mut answered) = mpsc::unbounded_channel();
    let input = Input {
        parts: Arc::clone(&parts),
        caller,
        messages,
        room: Arc::new(Semaphore::new(PENDING_BYTES_MAX / UNIT_BYTES)),
        pending,
        refused: Arc::clone(&refused),
    };
    let output = parts.raft.stream_append(input.into_stream());
    let output = output.map(move |appended| {
        // The permits come in the order of the requests, and so do the answers.
        drop(answered.try_recv());
        let appended = appended.map_err(stopped)?;
        Ok(wire::put_appended(&appended, parts.marks.own_mark()))
    });
    let refusal =
        futures_util::stream::once(async move { refused.lock().unwrap_or_else(PoisonError::into_inner).take() });
    Box::pin(output.chain(refusal.filter_map(|refused| async { refused.map(Err) })))
}

impl<S> Input<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    fn into_stream(self) -> impl Stream<Item = Append> + Send + 'static {
        futures_util::stream::unfold(self, |mut input| async {
            match input.next().await {
                Ok(append) => append.map(|append| (append, input)),
                Err(status) => {
                    *input.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Append>, Status> {
        let Some(message) = self.messages.message().await? else { return Ok(None) };
        let units = (message.encoded_len() / UNIT_BYTES).min(PENDING_BYTES_MAX / UNIT_BYTES);
        let permit = Arc::clone(&self.room)
            .acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX))
            .await
            .map_err(stopped)?;
        let append = self.admit(message)?;
        // Fails only when nobody waits for answers any more.
        let _ = self.pending.send(permit);
        Ok(Some(append))
    }

    /// Whether the log has lost what a peer keeps a mark of: one of since it was opened, or of before.
    fn has_lost(&self, kept: &[u8]) -> Result<bool, Status> {
        let lacks = |own: &[u8]| {
            has_lost(own, kept).map_err(|error| Status::invalid_argument(format!("the kept mark: {error}")))
        };
        let marks = &self.parts.marks;
        Ok(lacks(&marks.own_mark())? && lacks(&marks.opened_mark())?)
    }

    fn admit(&self, mut message: v1::AppendRequest) -> Result<Append, Status> {
        let from = message.from;
        let envelope = Envelope { from, to: message.to, cluster_id: message.cluster_id.clone() };
        let call = if message.entries.is_empty() { Call::Heartbeat } else { Call::Append };
        self.parts.check(call, &self.caller, Some(&envelope))?;
        let kept = std::mem::take(&mut message.kept_mark);
        if !kept.is_empty() && self.has_lost(&kept)? {
            tracing::error!(
                from,
                "a peer keeps a mark that this node's log does not reach: it has lost what it once held"
            );
            self.parts.gate.lose();
            self.parts.check(call, &self.caller, Some(&envelope))?;
        }
        let own_mark = std::mem::take(&mut message.own_mark);
        let append = wire::take_append(message).map_err(malformed)?;
        if !own_mark.is_empty() {
            self.parts.marks.peer_mark(from, own_mark);
        }
        Ok(append)
    }
}
