//! The way of a command to the leader and its outcome back.
//!
//! Proposals queue in one bounded channel. A task takes what is there and either adds it to the group for
//! the local Raft ([`Group`]), if this voter leads, or sends it down one stream to the leader. Clients never have
//! to know who leads.
//!
//! Invariants
//! - Bytes in flight are bounded by [`IN_FLIGHT_BYTES_MAX`].
//! - A proposal whose fate is unknown is proposed again: a write is recognised by its request, and a
//!   read's decision may leave a second journal entry, never none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use kura_cluster::Outcome;
use kura_cluster::command::OutcomeMessage;
use kura_cluster::seal::command_mac;
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::transport::Channel;

use super::GatewayError;
use super::group::{GROUP_COMMANDS_MAX, Group, Pending, QUEUE_COMMANDS_MAX};
use super::limits::LEADER_WAIT;
use crate::raft::types::{NodeId, Raft};
use crate::state::StateMachine;
use crate::vault::Vault;

/// Bytes of commands between `propose` and their outcome.
pub const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// One permit of the semaphore.
const PERMIT_BYTES: usize = 1024;
/// Pause before a proposal is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// A forwarded proposal without an answer for this long counts as unknown.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A proposal's outcome and where it was found.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// What became of it.
    pub outcome: Outcome,
    /// Term of the leader.
    pub term: u64,
    /// Its log index: local state has to reach it before anything is served.
    pub index: u64,
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It was not appended anywhere; the leader is another, or none.
    NotAppended(String),
    /// It may or may not take effect.
    Unknown(String),
}

/// How to reach another voter.
pub trait LeaderLink: Send + Sync + 'static {
    /// A channel to a member, if it is known.
    fn channel(&self, node: NodeId) -> Option<Channel>;
}

/// A cheap handle to the proposing task.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Pending>,
    permits: Arc<Semaphore>,
    proof: Arc<Mutex<Option<Proof>>>,
}

/// That a leader committed something which was proposed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// When it was proposed.
    pub begun: Instant,
    /// Its log index: whatever was acknowledged anywhere before it was proposed lies below.
    pub index: u64,
}

/// Keys for the MAC of forwarded commands; empty until unsealed.
pub type VaultSlot = Arc<arc_swap::ArcSwapOption<Vault>>;

impl Proposer {
    /// Starts the proposing task of a node.
    pub fn start(
        raft: Raft<StateMachine>,
        group: Group,
        id: NodeId,
        link: Arc<dyn LeaderLink>,
        vault: VaultSlot,
    ) -> Proposer {
        let (queue, waiting) = mpsc::channel(QUEUE_COMMANDS_MAX);
        tokio::spawn(run(raft, group, id, link, vault, waiting));
        Proposer::to(queue)
    }

    fn to(queue: mpsc::Sender<Pending>) -> Proposer {
        Proposer { queue, permits: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / PERMIT_BYTES)), proof: Arc::default() }
    }

    /// A proposer whose commands come out at the other end, for a test to hand on or to hold back.
    #[cfg(test)]
    pub(super) fn held() -> (Proposer, mpsc::Receiver<Pending>) {
        let (queue, waiting) = mpsc::channel(QUEUE_COMMANDS_MAX);
        (Proposer::to(queue), waiting)
    }

    fn note(&self, proof: Proof) {
        let mut newest = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|newest| newest.begun < proof.begun) {
            *newest = Some(proof);
        }
    }

    /// The proposal from here that was made last of those that were committed.
    pub fn proof(&self) -> Option<Proof> {
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if nothing had been committed lately.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for room for a command of so many bytes, until the deadline.
    pub(super) async fn room(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, GatewayError> {
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        let permit = self.permits.clone().acquire_many_owned(permits);
        match tokio::time::timeout_at(deadline.into(), permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(GatewayError::Overloaded),
        }
    }

    /// Proposes until there is an outcome or the deadline has passed.
    pub async fn propose(&self, command: Bytes, deadline: Instant) -> Result<Proposed, GatewayError> {
        let _room = self.room(command.len(), deadline).await?;
        self.propose_admitted(command, deadline).await
    }

    /// The same, of a command that has room.
    pub(super) async fn propose_admitted(&self, command: Bytes, deadline: Instant) -> Result<Proposed, GatewayError> {
        let mut unknown = false;
        // Since when no leader took it.
        let mut leaderless: Option<tokio::time::Instant> = None;
        loop {
            let asked = tokio::time::Instant::now();
            let (answer, outcome) = oneshot::channel();
            let pending = Pending { command: command.clone(), answer };
            if self.queue.send(pending).await.is_err() {
                return Err(GatewayError::Unavailable { why: "this node is stopping".into() });
            }
            let why = match tokio::time::timeout_at(deadline.into(), outcome).await {
                Ok(Ok(Ok(proposed))) => {
                    self.note(Proof { begun: asked.into_std(), index: proposed.index });
                    return Ok(proposed);
                }
                Ok(Ok(Err(Failure::NotAppended(why)))) => {
                    leaderless.get_or_insert(asked);
                    why
                }
                Ok(Ok(Err(Failure::Unknown(why)))) => {
                    (unknown, leaderless) = (true, None);
                    why
                }
                Ok(Err(_)) => {
                    (unknown, leaderless) = (true, None);
                    "the proposal was dropped".into()
                }
                // A leader has it and cannot commit it.
                Err(_) => return Err(GatewayError::Unknown),
            };
            let is_over = leaderless.is_some_and(|since| since.elapsed() >= LEADER_WAIT);
            if is_over || Instant::now() + RETRY_INTERVAL >= deadline {
                return Err(if unknown { GatewayError::Unknown } else { GatewayError::NoLeader { why } });
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

async fn run(
    raft: Raft<StateMachine>,
    group: Group,
    id: NodeId,
    link: Arc<dyn LeaderLink>,
    vault: VaultSlot,
    mut waiting: mpsc::Receiver<Pending>,
) {
    let mut forwarder: Option<Forwarder> = None;
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, GROUP_COMMANDS_MAX).await > 0 {
        let leader = raft.metrics().borrow_watched().current_leader;
        match leader {
            None => refuse(&mut batch, "no leader is known"),
            Some(leader) if leader == id => {
                for pending in batch.drain(..) {
                    group.push(pending).await;
                }
            }
            Some(leader) => {
                if forwarder.as_ref().is_none_or(|f| f.leader != leader || f.is_closed()) {
                    forwarder = Forwarder::start(leader, &link);
                }
                match &forwarder {
                    Some(forwarder) => forwarder.send(&mut batch, &vault).await,
                    None => refuse(&mut batch, "the leader's address is not known"),
                }
            }
        }
    }
}

fn refuse(batch: &mut Vec<Pending>, why: &str) {
    for pending in batch.drain(..) {
        let _ = pending.answer.send(Err(Failure::NotAppended(why.into())));
    }
}

/// One stream of proposals to the leader.
struct Forwarder {
    leader: NodeId,
    requests: mpsc::Sender<(v1::ProposeRequest, oneshot::Sender<Result<Proposed, Failure>>)>,
    numbers: std::sync::atomic::AtomicU64,
}

impl Forwarder {
    fn start(leader: NodeId, link: &Arc<dyn LeaderLink>) -> Option<Forwarder> {
        let channel = link.channel(leader)?;
        let (requests, waiting) = mpsc::channel(QUEUE_COMMANDS_MAX);
        tokio::spawn(forward(channel, waiting));
        Some(Forwarder { leader, requests, numbers: std::sync::atomic::AtomicU64::new(1) })
    }

    fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    async fn send(&self, batch: &mut Vec<Pending>, vault: &VaultSlot) {
        let Some(vault) = vault.load_full() else {
            return refuse(batch, "this node is sealed");
        };
        let keyring = vault.keyring();
        let Some(command_key) = &keyring.command_mac else {
            return refuse(batch, "this node has not opened the newest epoch of the keyring yet");
        };
        for Pending { command, answer } in batch.drain(..) {
            let id = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mac = Bytes::copy_from_slice(&command_mac(command_key, &command));
            let request = v1::ProposeRequest { id, command, mac, epoch: keyring.epoch };
            if let Err(mpsc::error::SendError((_, answer))) = self.requests.send((request, answer)).await {
                let _ = answer.send(Err(Failure::NotAppended("the stream to the leader has ended".into())));
            }
        }
    }
}

/// Runs one stream until either side ends it; whatever is unanswered then is unknown.
async fn forward(
    channel: Channel,
    mut waiting: mpsc::Receiver<(v1::ProposeRequest, oneshot::Sender<Result<Proposed, Failure>>)>,
) {
    let (outgoing, requests) = mpsc::channel(QUEUE_COMMANDS_MAX);
    let mut client =
        v1::peer_client::PeerClient::new(channel).max_decoding_message_size(8 << 20).max_encoding_message_size(8 << 20);
    let mut replies = match client.propose(tokio_stream::wrappers::ReceiverStream::new(requests)).await {
        Ok(replies) => replies.into_inner(),
        Err(status) => {
            waiting.close();
            while let Some((_, answer)) = waiting.recv().await {
                let _ = answer
                    .send(Err(Failure::NotAppended(format!("the leader cannot be reached: {}", status.message()))));
            }
            return;
        }
    };
    let mut unanswered: HashMap<u64, oneshot::Sender<Result<Proposed, Failure>>> = HashMap::new();
    let ended = loop {
        tokio::select! {
            next = waiting.recv() => {
                let Some((request, answer)) = next else { break "this node is stopping" };
                unanswered.insert(request.id, answer);
                if outgoing.send(request).await.is_err() {
                    break "the stream to the leader has ended";
                }
            }
            reply = replies.next() => match reply {
                Some(Ok(reply)) => {
                    if let Some(answer) = unanswered.remove(&reply.id) {
                        let _ = answer.send(read_reply(reply));
                    }
                }
                _ => break "the stream to the leader has ended",
            },
            () = tokio::time::sleep(FORWARD_TIMEOUT), if !unanswered.is_empty() => break "the leader does not answer",
        }
    };
    waiting.close();
    for (_, answer) in unanswered {
        let _ = answer.send(Err(Failure::Unknown(ended.into())));
    }
    while let Some((_, answer)) = waiting.recv().await {
        let _ = answer.send(Err(Failure::NotAppended(ended.into())));
    }
}

pub(crate) fn read_reply(reply: v1::ProposeReply) -> Result<Proposed, Failure> {
    match reply.error {
        0 => {
            let outcome =
                OutcomeMessage::decode(reply.outcome).ok().and_then(|message| Outcome::try_from(message).ok());
            let outcome = outcome.ok_or_else(|| Failure::Unknown("the leader's answer is not understood".into()))?;
            Ok(Proposed { outcome, term: reply.term, index: reply.index })
        }
        5 => Err(Failure::Unknown(reply.why)),
        _ => Err(Failure::NotAppended(reply.why)),
    }
}

/// What the leader answers to a forwarded proposal.
pub fn write_reply(id: u64, proposed: Result<Proposed, Failure>) -> v1::ProposeReply {
    match proposed {
        Ok(Proposed { outcome, term, index }) => v1::ProposeReply {
            id,
            outcome: OutcomeMessage::from(&outcome).encode_to_vec().into(),
            term,
            index,
            ..v1::ProposeReply::default()
        },
        Err(Failure::NotAppended(why)) => v1::ProposeReply { id, error: 1, why, ..v1::ProposeReply::default() },
        Err(Failure::Unknown(why)) => v1::ProposeReply { id, error: 5, why, ..v1::ProposeReply::default() },
    }
}
