//! Salvage: offering what a former member's disk has, sealed, to a recovered cluster. For recovery staff; used by
//! `kura recover salvage`.
//!
//! Invariants
//! - One request is under way at a time, and each has one answer.
//! - A run that breaks off is begun anew: what was done is found there.

use bytes::Bytes;
use kura_proto::v1::{self, salvage_reply, salvage_request};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::operations;
use crate::error::{Failed, OperationError};
use crate::fault::Failure;
use crate::operations::{Operations, STEP_LIMIT, of_write};

/// A run under way. Made by [`Operations::salvage`].
pub struct Salvage {
    requests: mpsc::Sender<v1::SalvageRequest>,
    replies: Streaming<v1::SalvageReply>,
    begun: v1::SalvageBegun,
}

impl Operations {
    /// Begins a run. Only the leader serves one: the others are asked until it is found.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Invalid`] for another cluster's disk, the present timeline's, or a wrong
    /// name of the cluster.
    pub async fn salvage(&self, begin: v1::SalvageBegin) -> Result<Salvage, OperationError> {
        let begun = self.once(|channel| {
            let begin = begin.clone();
            async move {
                let (requests, queue) = mpsc::channel(1);
                let first = v1::SalvageRequest { step: Some(salvage_request::Step::Begin(begin)) };
                // It is the first in an empty queue.
                let _ = requests.send(first).await;
                let mut replies = operations(channel).salvage(ReceiverStream::new(queue)).await?.into_inner();
                match replies.message().await?.and_then(|reply| reply.step) {
                    Some(salvage_reply::Step::Begun(begun)) => Ok(Salvage { requests, replies, begun }),
                    _ => Err(Failure::broken("a salvage was not begun")),
                }
            }
        });
        begun.await
    }
}

impl Salvage {
    /// Where the timelines parted, as the cluster knows.
    pub fn begun(&self) -> &v1::SalvageBegun {
        &self.begun
    }

    /// The leaf of an entry of the cluster's journal; empty: there is none.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn leaf(&mut self, position: u64) -> Result<Bytes, OperationError> {
        match self.ask(salvage_request::Step::Leaf(v1::SalvageLeaf { position })).await? {
            salvage_reply::Step::Leaf(leaf) => Ok(leaf),
            _ => Err(broken("not a leaf")),
        }
    }

    /// Offers an entry of the former log. `block` answers the value of a block's row, if the disk has it.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn offer(
        &mut self,
        entry: v1::SalvageEntry,
        mut block: impl FnMut(Bytes) -> Option<Bytes>,
    ) -> Result<v1::SalvageTold, OperationError> {
        let mut step = salvage_request::Step::Entry(entry);
        loop {
            match self.ask(step).await? {
                salvage_reply::Step::Told(told) => return Ok(told),
                salvage_reply::Step::Wanted(row) => {
                    step = salvage_request::Step::Block(v1::SalvageBlock { value: block(row) });
                }
                _ => return Err(broken("neither an answer nor a wish")),
            }
        }
    }

    async fn ask(&mut self, step: salvage_request::Step) -> Result<salvage_reply::Step, OperationError> {
        // If the other end has closed, its reply says why.
        let _ = self.requests.send(v1::SalvageRequest { step: Some(step) }).await;
        let failure = match timeout(STEP_LIMIT, self.replies.message()).await {
            Ok(Ok(Some(v1::SalvageReply { step: Some(step) }))) => return Ok(step),
            Ok(Ok(_)) => Failure::broken("the salvage ended before it was done"),
            Ok(Err(status)) => status.into(),
            Err(_) => Failure::silent(),
        };
        Err(of_write(Failed { in_doubt: failure.in_doubt, fault: failure.fault }))
    }
}

fn broken(what: &str) -> OperationError {
    let failure = Failure::broken(what.to_owned());
    of_write(Failed { in_doubt: failure.in_doubt, fault: failure.fault })
}
