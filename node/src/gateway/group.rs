//! Commands at the leader: gathered for a moment, then handed to Raft in one call.
//!
//! Local commands and those that other voters forward come together here. A group lets everything else
//! that is ready to run go first, which on a busy machine brings it company: each group costs every
//! member a write, a sync and an apply. On an idle machine nothing waits.
//!
//! Invariants
//! - Commands reach Raft in the order in which they came.
//! - Every command is answered, or its answer is dropped, which counts as unknown.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use tokio::sync::{mpsc, oneshot};

use super::propose::{Failure, Proposed};
use crate::raft::leading::leads_with_majority;
use crate::raft::types::{CommandBytes, Raft};
use crate::state::StateMachine;

/// Commands waiting for the task.
pub const QUEUE_COMMANDS_MAX: usize = 4096;
/// Commands handed to Raft in one call.
pub const GROUP_COMMANDS_MAX: usize = 512;
/// How often a group steps back.
pub(super) const STEPS_BACK: u32 = 3;

/// A command and who waits for its outcome.
pub struct Pending {
    /// The encoded command.
    pub command: Bytes,
    /// Where the outcome goes.
    pub answer: oneshot::Sender<Result<Proposed, Failure>>,
}

/// A cheap handle to the gathering task.
#[derive(Clone)]
pub struct Group {
    queue: mpsc::Sender<Pending>,
}

impl Group {
    /// Starts the task.
    pub fn start(raft: Raft<StateMachine>) -> Group {
        let (queue, waiting) = mpsc::channel(QUEUE_COMMANDS_MAX);
        tokio::spawn(gather(raft, waiting));
        Group { queue }
    }

    /// Hands a command over; waits while too many are before it.
    pub async fn push(&self, pending: Pending) {
        if let Err(mpsc::error::SendError(pending)) = self.queue.send(pending).await {
            let _ = pending.answer.send(Err(Failure::NotAppended("this node is stopping".into())));
        }
    }
}

async fn gather(raft: Raft<StateMachine>, mut waiting: mpsc::Receiver<Pending>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, GROUP_COMMANDS_MAX).await > 0 {
        for _ in 0..STEPS_BACK {
            tokio::task::yield_now().await;
            while group.len() < GROUP_COMMANDS_MAX
                && let Ok(more) = waiting.try_recv()
            {
                group.push(more);
            }
        }
        // What Raft takes it keeps: without a majority it would neither commit nor give up.
        if is_left_alone(&raft) {
            for pending in group.drain(..) {
                let _ = pending.answer.send(Err(Failure::NotAppended(LEFT_ALONE.into())));
            }
            continue;
        }
        let (commands, answers): (Vec<_>, Vec<_>) = group.drain(..).map(|p| (p.command, p.answer)).unzip();
        let written = write_many(&raft, commands).await;
        // The next group need not wait for this one's outcomes.
        tokio::spawn(answer(written, answers));
    }
}

const LEFT_ALONE: &str = "no majority of the voters answers the leader";

fn is_left_alone(raft: &Raft<StateMachine>) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    metrics.current_leader == Some(metrics.id) && !leads_with_majority(&metrics)
}

async fn answer(
    written: Result<impl Stream<Item = Result<Proposed, Failure>> + Unpin, Failure>,
    answers: Vec<oneshot::Sender<Result<Proposed, Failure>>>,
) {
    let mut answers = answers.into_iter();
    match written {
        Ok(mut outcomes) => {
            while let (Some(outcome), Some(answer)) = (outcomes.next().await, answers.next()) {
                let _ = answer.send(outcome);
            }
        }
        Err(failure) => {
            for answer in answers {
                let _ = answer.send(Err(failure.clone()));
            }
        }
    }
}

/// Hands commands to the local Raft in one call; yields their outcomes in order.
async fn write_many(
    raft: &Raft<StateMachine>,
    commands: Vec<Bytes>,
) -> Result<impl Stream<Item = Result<Proposed, Failure>> + Send + Unpin + use<>, Failure> {
    let results = raft.client_write_many(commands.into_iter().map(CommandBytes)).await;
    let results = results.map_err(|fatal| Failure::Unknown(fatal.to_string()))?;
    Ok(results.map(|result| match result {
        Ok(Ok(response)) => Ok(Proposed {
            term: response.log_id.committed_leader_id().term,
            index: response.log_id.index,
            outcome: response
                .response
                .0
                .clone()
                .ok_or_else(|| Failure::Unknown("a command without an outcome".into()))?,
        }),
        Ok(Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. }))) => {
            Err(Failure::NotAppended(match leader_id {
                Some(_) => "leadership has moved".into(),
                None => "no leader is known".into(),
            }))
        }
        Ok(Err(other)) => Err(Failure::Unknown(other.to_string())),
        Err(fatal) => Err(Failure::Unknown(fatal.to_string())),
    }))
}
