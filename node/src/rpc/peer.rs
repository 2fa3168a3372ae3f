//! The service that members call on each other.
//!
//! Invariants
//! - Every call passes the gate first ([`crate::raft::gate`]), on long streams each message does. A
//!   certificate that is revoked ends its holder's streams.
//! - What comes from a peer is converted and checked before openraft sees it; openraft's own
//!   assertions on peers' honesty are never reached.
//! - Raft's messages and snapshots are answered here; what needs keys, clocks or the leader's
//!   queue is answered by the [`PeerHandlers`].

mod append;
mod snapshot;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use kura_proto::v1;
use kura_proto::v1::peer_server::{Peer, PeerServer};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::sync::Mutex as AsyncMutex;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::certificates::{PeerInfo, Role};
use crate::raft::gate::{Call, Caller, Gate, Refusal, judge};
use crate::raft::network::{MESSAGE_BYTES_MAX, MarkSink};
use crate::raft::types::{MemberRole, NodeId, Raft, StoredMembership, TypeConfig, Vote};
use crate::raft::wire::{self, Envelope, WireError};
use crate::snapshot::{Snapshot, SnapshotManifest, SnapshotReceiver};

/// Answers over a stream.
pub type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The calls that are not Raft's. The gate has let them pass.
#[tonic::async_trait]
pub trait PeerHandlers: Send + Sync + 'static {
    /// Proposes the commands of the voter `from`, which has shown that voter's certificate. The
    /// commands' MACs are not checked yet.
    async fn propose(
        &self,
        from: NodeId,
        requests: Streaming<v1::ProposeRequest>,
    ) -> Result<ReplyStream<v1::ProposeReply>, Status>;

    /// This member's signed heads. Answered also while the gate is closed.
    async fn heads(&self, request: v1::HeadsRequest) -> Result<v1::HeadsReply, Status>;

    /// Clears what was deleted from this member's files, and tells how far it has come. Answered also while
    /// the gate is closed.
    async fn clear(&self, request: v1::ClearRequest) -> Result<v1::ClearReply, Status>;

    /// Marks, clock and positions. Answered also while the gate is closed.
    async fn hello(&self, caller: &Caller, request: v1::HelloRequest) -> Result<v1::HelloReply, Status>;

    /// This member's timeline; takes the certificate that is shown. Answered also while the gate is closed.
    async fn timeline(&self, request: v1::TimelineRequest) -> Result<v1::TimelineReply, Status>;

    /// The root key. The caller shows a voter's certificate; whether it is approved is the answerer's
    /// to find out.
    async fn hand_root_key(&self, caller: &Caller, request: v1::RootKeyRequest) -> Result<v1::RootKeyReply, Status>;

    /// Takes the next root key of an approved rotation. The caller is a voter of the membership.
    async fn take_root_key(
        &self,
        caller: &Caller,
        request: v1::TakeRootKeyRequest,
    ) -> Result<v1::TakeRootKeyReply, Status>;

    /// The Raft id that was approved for the caller.
    async fn join(&self, caller: &Caller, request: v1::JoinRequest) -> Result<v1::JoinReply, Status>;

    /// Whether the caller's certificate is on a revocation list by now. Asked with every message:
    /// connections live long.
    fn is_revoked(&self, caller: &Caller) -> bool;

    /// Whether this node may stand for election: an unsealed voter.
    fn may_stand(&self) -> bool;

    /// Whether this node takes such a snapshot from the member `from`: its timeline, and its digest as
    /// another member signed it, in one of the encoded `heads` or one that is held here. Asked before
    /// anything of it is sent.
    async fn admit_snapshot(&self, from: NodeId, manifest: &SnapshotManifest, heads: &[Bytes]) -> Result<(), Status>;

    /// Where this node's state database is now: an offered snapshot's files are looked for there.
    fn state_directory(&self) -> Option<PathBuf>;
}

/// How a connection's certificate is found in a request.
pub type Identify = fn(&Extensions) -> Option<Caller>;

/// The caller by its certificate, as the node's TLS puts it into each request.
pub fn by_certificate(extensions: &Extensions) -> Option<Caller> {
    let identity = &extensions.get::<PeerInfo>()?.identity;
    let role = match identity.role {
        Role::Voter => Some(MemberRole::Voter),
        Role::Backup => Some(MemberRole::Backup),
        Role::Application | Role::Registrar | Role::Auditor | Role::Operator | Role::Recovery => None,
    };
    Some(Caller {
        name: identity.name.clone(),
        role,
        key_sha256: identity.key_sha256,
        serial: Some(identity.serial.clone()),
    })
}

/// What [`PeerService`] is made of.
pub struct PeerParts<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    /// openraft's handle.
    pub raft: Raft<S>,
    /// Who may say what.
    pub gate: Arc<Gate>,
    /// Where marks come from and go to.
    pub marks: Arc<dyn MarkSink>,
    /// The calls that are not Raft's.
    pub handlers: Arc<dyn PeerHandlers>,
    /// Where snapshots arrive.
    pub snapshots: Arc<SnapshotReceiver>,
    /// [`by_certificate`], but in tests without TLS.
    pub identify: Identify,
}

/// See the module.
pub struct PeerService<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    parts: Arc<PeerParts<S>>,
    /// Held while an offer is looked through and while a snapshot is installed.
    installing: Arc<AsyncMutex<()>>,
}

impl<S> PeerService<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    /// The service, with its limits on messages.
    pub fn server(parts: PeerParts<S>) -> PeerServer<Self> {
        let service = Self { parts: Arc::new(parts), installing: Arc::new(AsyncMutex::new(())) };
        PeerServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn leader_vote(&self, envelope: &Envelope, vote: Option<v1::Vote>) -> Result<Vote, Status> {
        wire::take_leader_vote(envelope.from, vote).map_err(malformed)
    }
}

impl<S> PeerParts<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        (self.identify)(request.extensions())
            .ok_or_else(|| Status::unauthenticated("the connection shows no certificate"))
    }

    /// The newest membership in the log.
    fn membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.raft.metrics().borrow_watched().membership_config)
    }

    fn own_vote(&self) -> Vote {
        self.raft.metrics().borrow_watched().vote
    }

    fn check(&self, call: Call, caller: &Caller, envelope: Option<&Envelope>) -> Result<(), Refusal> {
        let membership = self.membership();
        let judged = match self.handlers.is_revoked(caller) {
            true => Err(Refusal::Revoked),
            false => judge(call, caller, envelope, self.gate.view(&membership)),
        };
        judged.inspect_err(|refusal| {
            tracing::debug!(%call, name = %caller.name, %refusal, "a peer's call was refused");
        })
    }
}

impl<S> PeerParts<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    /// The caller as a voter of the newest membership, that may propose here.
    fn voter(&self, caller: &Caller) -> Result<NodeId, Refusal> {
        self.check(Call::Propose, caller, None)?;
        let membership = self.membership();
        let membership = membership.membership();
        let is_caller =
            |id: &NodeId| membership.get_node(id).is_some_and(|m| m.is_shown_by(&caller.name, &caller.key_sha256));
        membership.voter_ids().find(is_caller).ok_or_else(|| Refusal::NotAVoter(caller.name.clone()))
    }
}

fn malformed(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// openraft has stopped; the node is about to.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this node's Raft has stopped: {error}"))
}

fn own_name(caller: &Caller, name: &str) -> Result<(), Status> {
    if caller.name == name {
        return Ok(());
    }
    Err(Status::permission_denied("a node may ask for itself only"))
}

#[tonic::async_trait]
impl<S> Peer for PeerService<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    type AppendStream = ReplyStream<v1::AppendReply>;
    type ProposeStream = ReplyStream<v1::ProposeReply>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let caller = self.parts.caller(&request)?;
        let replies = append::replies(Arc::clone(&self.parts), caller, request.into_inner());
        Ok(Response::new(replies))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        let request = self.candidate(Call::Vote, request)?;
        let response = self.parts.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::put_vote_response(&response)))
    }

    async fn pre_vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        let request = self.candidate(Call::PreVote, request)?;
        let response = self.parts.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::put_vote_response(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferReply>, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let envelope = Envelope { from: request.from, to: request.to, cluster_id: request.cluster_id.clone() };
        self.parts.check(Call::TransferLeader, &caller, Some(&envelope))?;
        if request.successor == envelope.to && !self.parts.handlers.may_stand() {
            return Err(Status::failed_precondition("this node may not lead now"));
        }
        let request = wire::take_transfer(request).map_err(malformed)?;
        let response = self.parts.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(wire::put_transfer_response(&response)))
    }

    async fn offer_snapshot(
        &self,
        request: Request<v1::SnapshotOffer>,
    ) -> Result<Response<v1::SnapshotWanted>, Status> {
        self.take_offer(request).await.map(Response::new)
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotPiece>>,
    ) -> Result<Response<v1::SnapshotPiecesReply>, Status> {
        self.take_pieces(request).await.map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<v1::InstallRequest>,
    ) -> Result<Response<v1::InstallReply>, Status> {
        self.install(request).await.map(Response::new)
    }

    async fn propose(
        &self,
        request: Request<Streaming<v1::ProposeRequest>>,
    ) -> Result<Response<Self::ProposeStream>, Status> {
        let caller = self.parts.caller(&request)?;
        let from = self.parts.voter(&caller)?;
        self.parts.handlers.propose(from, request.into_inner()).await.map(Response::new)
    }

    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloReply>, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let to = *self.parts.raft.node_id();
        let envelope = Envelope { from: request.from, to, cluster_id: request.cluster_id.clone() };
        self.parts.check(Call::Hello, &caller, Some(&envelope))?;
        self.parts.handlers.hello(&caller, request).await.map(Response::new)
    }

    async fn timeline(&self, request: Request<v1::TimelineRequest>) -> Result<Response<v1::TimelineReply>, Status> {
        let caller = self.parts.caller(&request)?;
        self.parts.check(Call::Timeline, &caller, None)?;
        let request = request.into_inner();
        let membership = self.parts.membership();
        if self.parts.gate.view(&membership).cluster_id.is_none_or(|id| request.cluster_id[..] != id.0) {
            return Err(Refusal::OtherCluster.into());
        }
        self.parts.handlers.timeline(request).await.map(Response::new)
    }

    async fn heads(&self, request: Request<v1::HeadsRequest>) -> Result<Response<v1::HeadsReply>, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let to = *self.parts.raft.node_id();
        let envelope = Envelope { from: request.from, to, cluster_id: request.cluster_id.clone() };
        self.parts.check(Call::Heads, &caller, Some(&envelope))?;
        self.parts.handlers.heads(request).await.map(Response::new)
    }

    async fn clear(&self, request: Request<v1::ClearRequest>) -> Result<Response<v1::ClearReply>, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let to = *self.parts.raft.node_id();
        let envelope = Envelope { from: request.from, to, cluster_id: request.cluster_id.clone() };
        self.parts.check(Call::Clear, &caller, Some(&envelope))?;
        self.parts.handlers.clear(request).await.map(Response::new)
    }

    async fn hand_root_key(&self, request: Request<v1::RootKeyRequest>) -> Result<Response<v1::RootKeyReply>, Status> {
        let caller = self.parts.caller(&request)?;
        self.parts.check(Call::HandRootKey, &caller, None)?;
        let request = request.into_inner();
        own_name(&caller, &request.name)?;
        let membership = self.parts.membership();
        let view = self.parts.gate.view(&membership);
        if view.cluster_id.is_none_or(|id| request.cluster_id[..] != id.0) {
            return Err(Refusal::OtherCluster.into());
        }
        self.parts.handlers.hand_root_key(&caller, request).await.map(Response::new)
    }

    async fn take_root_key(
        &self,
        request: Request<v1::TakeRootKeyRequest>,
    ) -> Result<Response<v1::TakeRootKeyReply>, Status> {
        let caller = self.parts.caller(&request)?;
        self.parts.voter(&caller)?;
        let request = request.into_inner();
        let membership = self.parts.membership();
        if self.parts.gate.view(&membership).cluster_id.is_none_or(|id| request.cluster_id[..] != id.0) {
            return Err(Refusal::OtherCluster.into());
        }
        self.parts.handlers.take_root_key(&caller, request).await.map(Response::new)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let caller = self.parts.caller(&request)?;
        self.parts.check(Call::Join, &caller, None)?;
        own_name(&caller, &request.get_ref().name)?;
        self.parts.handlers.join(&caller, request.into_inner()).await.map(Response::new)
    }
}

impl<S> PeerService<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    fn candidate(&self, call: Call, request: Request<v1::VoteRequest>) -> Result<wire::VoteRequest, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let envelope = Envelope { from: request.from, to: request.to, cluster_id: request.cluster_id.clone() };
        self.parts.check(call, &caller, Some(&envelope))?;
        wire::take_vote_request(request).map_err(malformed)
    }
}

#[cfg(test)]
mod tests;
