//! How this node speaks to other members: openraft's network over the peer service.
//!
//! Invariants
//! - Entries travel over one ordered stream per target ([`append`]), heartbeats and votes over a
//!   connection of their own, snapshots over a third ([`Lane`]).
//! - Every request says its cluster, its sender and its receiver. Appends carry both sides' marks,
//!   their replies the receiver's; both are handed to the [`MarkSink`].
//! - Nothing that a peer does or says is a fatal error here, nor is a local snapshot file that
//!   cannot be read: openraft would stop the node. All become errors after which it tries again.
//! - A peer that cannot be reached, or refuses, is tried again after [`BACKOFF_MIN`] and then twice
//!   as long each time, up to [`BACKOFF_MAX`]. Heartbeats do not wait for that.

mod append;
mod errors;

use std::future::Future;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use kura_cluster::ClusterId;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RPCTypes,
    RaftNetworkFactory,
};
use openraft::raft::SnapshotResponse;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::channels::{Lane, PeerChannels};
use super::types::{CommittedLeaderId, Member, NodeId, TypeConfig, Vote};
use super::wire::{self, Append, Appended, Envelope};
use crate::heads::Heads;
use crate::snapshot::{FileHashes, Snapshot, SnapshotSender, Transfers};

/// Bytes of one message to or from a peer, but for snapshot manifests. The log reader makes appends
/// of at most 4 MiB, or of one entry.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes of entries sent to one peer and not yet answered; one append may go beyond it. Enough for
/// 1 Gbit/s over 60 ms.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// Appends sent to one peer and not yet answered.
pub const IN_FLIGHT_MAX: usize = 64;
/// How long an answer to appends may take before their size is counted: a sync on a busy disk.
pub const APPEND_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The slowest path that entries are sent over: each this many bytes in flight give a second more.
pub const APPEND_BYTES_PER_SECOND_MIN: usize = 256 << 10;
/// The first wait after a peer could not be reached.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest such wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The failure of one call.
pub(crate) type CallError = RPCError<TypeConfig>;
/// What openraft wants sent as a snapshot.
type RaftSnapshot = openraft::storage::Snapshot<CommittedLeaderId, NodeId, Member, Snapshot>;

/// Where marks come from and go to ([`super::marks::Mark`], encoded). All of it is quick: it runs
/// once for each append.
pub trait MarkSink: Send + Sync + 'static {
    /// A member has told its mark. It may be older than the one kept: the highest counts.
    fn peer_mark(&self, node: NodeId, mark: Bytes);
    /// The mark kept of a member.
    fn kept_mark(&self, node: NodeId) -> Option<Bytes>;
    /// This node's own mark. It never goes down.
    fn own_mark(&self) -> Bytes;
    /// What this node's log held when it was opened. After a power cut the own mark says less at first.
    fn opened_mark(&self) -> Bytes;
}

struct Shared {
    me: NodeId,
    cluster_id: Bytes,
    channels: Arc<dyn PeerChannels>,
    marks: Arc<dyn MarkSink>,
    transfers: Arc<Transfers>,
    hashes: Arc<FileHashes>,
    heads: Arc<Heads>,
}

/// Makes a [`Network`] for each member that openraft speaks to.
#[derive(Clone)]
pub struct NetworkFactory {
    shared: Arc<Shared>,
}

impl NetworkFactory {
    /// For the member `me` of a cluster. `transfers` shows the snapshots being sent; `hashes` is
    /// best shared with the receiving side; `heads` bear out the snapshots.
    pub fn new(
        me: NodeId,
        cluster_id: ClusterId,
        channels: Arc<dyn PeerChannels>,
        marks: Arc<dyn MarkSink>,
        transfers: Arc<Transfers>,
        hashes: Arc<FileHashes>,
        heads: Arc<Heads>,
    ) -> Self {
        let cluster_id = Bytes::copy_from_slice(&cluster_id.0);
        Self { shared: Arc::new(Shared { me, cluster_id, channels, marks, transfers, hashes, heads }) }
    }

    fn network(&self, target: NodeId, member: &Member, append_lane: Lane) -> Network {
        Network { shared: Arc::clone(&self.shared), target, member: member.clone(), append_lane }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Network {
        self.network(target, member, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, member: &Member) -> Network {
        self.network(target, member, Lane::Control)
    }
}

/// This node's side of what it says to one member.
pub struct Network {
    shared: Arc<Shared>,
    target: NodeId,
    member: Member,
    /// Where appends go: entries and heartbeats do not share a connection.
    append_lane: Lane,
}

impl Network {
    fn envelope(&self) -> Envelope {
        let cluster_id = self.shared.cluster_id.clone();
        Envelope { from: self.shared.me, to: self.target, cluster_id }
    }

    fn client(&self, lane: Lane) -> Result<PeerClient<Channel>, CallError> {
        let channel = self
            .shared
            .channels
            .channel(&self.member, lane)
            .map_err(|why| CallError::Unreachable(Unreachable::from_string(why)))?;
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn call<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let limit = option.soft_ttl();
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(errors::of_status(&status)),
            Err(_) => Err(errors::timeout(action, self.shared.me, self.target, limit)),
        }
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(successors(Some(BACKOFF_MIN), |wait| Some((*wait * 2).min(BACKOFF_MAX)))))
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<Appended, CallError>>, CallError>>
    where
        S: Stream<Item = Append> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let channels = Arc::clone(&self.shared.channels);
            // Asked first: what changes meanwhile ends the session, and is not missed.
            let generation = channels.generation();
            let client = self.client(self.append_lane)?;
            let is_current = Box::new(move || channels.generation() == generation);
            let patience = match self.append_lane {
                Lane::Control => option.soft_ttl(),
                Lane::Append | Lane::Bulk => option.soft_ttl().max(APPEND_TIMEOUT_MIN),
            };
            let marks = Arc::clone(&self.shared.marks);
            let session = append::Session::new(client, self.envelope(), marks, input, patience, is_current);
            let output: BoxStream<'s, _> = Box::pin(session.into_stream());
            Ok(output)
        })
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(&mut self, request: wire::VoteRequest, option: RPCOption) -> Result<wire::VoteResponse, CallError> {
        let message = wire::put_vote_request(self.envelope(), &request);
        let mut client = self.client(Lane::Control)?;
        let reply = self.call(RPCTypes::Vote, &option, client.vote(message)).await?;
        wire::take_vote_response(reply).map_err(errors::of_wire)
    }

    async fn pre_vote(
        &mut self,
        request: wire::VoteRequest,
        option: RPCOption,
    ) -> Result<wire::VoteResponse, CallError> {
        let message = wire::put_vote_request(self.envelope(), &request);
        let mut client = self.client(Lane::Control)?;
        let reply = self.call(RPCTypes::Vote, &option, client.pre_vote(message)).await?;
        wire::take_vote_response(reply).map_err(errors::of_wire)
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        request: wire::TransferRequest,
        option: RPCOption,
    ) -> Result<wire::TransferResponse, CallError> {
        let message = wire::put_transfer(self.envelope(), &request);
        let mut client = self.client(Lane::Control)?;
        let reply = self.call(RPCTypes::TransferLeader, &option, client.transfer_leader(message)).await?;
        wire::take_transfer_response(&request, reply).map_err(errors::of_wire)
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = Snapshot;

    /// `option` is not used: how long a snapshot takes depends on its size, and the sender gives up
    /// when nothing moves.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client(Lane::Bulk).map_err(errors::of_streaming)?;
        let sender = SnapshotSender {
            client,
            envelope: self.envelope(),
            vote,
            transfers: Arc::clone(&self.shared.transfers),
            hashes: Arc::clone(&self.shared.hashes),
            heads: Arc::clone(&self.shared.heads),
        };
        tokio::select! {
            sent = sender.send(&snapshot.snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tracing::warn!(target_id = self.target, %error, "a snapshot was not taken over");
                    Err(errors::of_snapshot(error))
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}
