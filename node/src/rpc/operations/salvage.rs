//! `Salvage`: a former member's disk, offered in lock step: one reply to each request.
//!
//! Invariant: a run ends, and lets the next one apply, when its caller has gone, is silent for [`SILENT_MAX`], or when this
//! node leads no longer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use kura_cluster::row::{RowKey, TimelineCertificate};
use kura_cluster::tree::leaf_hash;
use kura_proto::v1::{self, salvage_reply, salvage_request};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::gateway::attempt::broken;
use crate::gateway::salvage::{Disk, Salvage};
use crate::gateway::{Caller, GatewayError};
use crate::serve::{Node, majority};
use crate::state::Database;

type Replies = ReceiverStream<Result<v1::SalvageReply, Status>>;

/// How long a caller may take for its next step: it reads an old disk between two. Then another run may begin.
const SILENT_MAX: Duration = Duration::from_secs(120);

/// Both directions of the call.
struct Line<S> {
    steps: S,
    replies: mpsc::Sender<Result<v1::SalvageReply, Status>>,
}

fn silent<T>(_: T) -> Status {
    let limit = SILENT_MAX.as_secs();
    Status::deadline_exceeded(format!(
        "the caller was silent for {limit} s: what was done is found, run the same again"
    ))
}

impl<S: Stream<Item = Result<v1::SalvageRequest, Status>> + Send + Unpin> Line<S> {
    async fn say(&mut self, step: salvage_reply::Step) -> Result<(), Status> {
        let reply = v1::SalvageReply { step: Some(step) };
        let said = timeout(SILENT_MAX, self.replies.send(Ok(reply))).await.map_err(silent)?;
        said.map_err(|_| Status::cancelled("the caller has gone"))
    }

    async fn next(&mut self) -> Result<Option<salvage_request::Step>, Status> {
        let message = timeout(SILENT_MAX, self.steps.next()).await.map_err(silent)?;
        Ok(message.transpose()?.and_then(|message| message.step))
    }
}

impl<S: Stream<Item = Result<v1::SalvageRequest, Status>> + Send + Unpin> Disk for Line<S> {
    async fn block(&mut self, key: &RowKey) -> Result<Option<Bytes>, GatewayError> {
        let gone = |_| GatewayError::Unavailable { why: "the caller has gone".into() };
        self.say(salvage_reply::Step::Wanted(key.as_bytes().clone())).await.map_err(gone)?;
        match self.next().await.map_err(gone)? {
            Some(salvage_request::Step::Block(block)) => Ok(block.value),
            _ => Err(GatewayError::invalid("step", "a block was wanted")),
        }
    }
}

/// Serves one run.
pub(super) fn serve(node: Arc<Node>, caller: Caller, steps: Streaming<v1::SalvageRequest>) -> Response<Replies> {
    let (replies, receiver) = mpsc::channel(1);
    let mut line = Line { steps, replies };
    tokio::spawn(async move {
        if let Err(status) = run(&node, &caller, &mut line).await {
            let _ = line.replies.send(Err(status)).await;
        }
    });
    Response::new(ReceiverStream::new(receiver))
}

async fn run(node: &Node, caller: &Caller, line: &mut Line<Streaming<v1::SalvageRequest>>) -> Result<(), Status> {
    let Some(salvage_request::Step::Begin(begin)) = line.next().await? else {
        return Err(GatewayError::invalid("step", "a salvage starts with begin").into());
    };
    let begun = began(node, &begin)?;
    let timelines = (begin.timeline, begun.journal_size);
    let mut salvage = Salvage::begin(node.gateway.clone(), caller, timelines, begin.apply).await?;
    line.say(salvage_reply::Step::Begun(begun)).await?;
    while let Some(step) = line.next().await? {
        let reply = match step {
            salvage_request::Step::Leaf(asked) => {
                let row = node.store.database().row(&RowKey::journal(asked.position)).map_err(broken)?;
                let leaf = row.map_or_else(Bytes::new, |row| Bytes::copy_from_slice(&leaf_hash(&row.value)));
                salvage_reply::Step::Leaf(leaf)
            }
            salvage_request::Step::Entry(entry) => {
                if !majority::leads(node) {
                    let why = "this node leads no longer: what was done is found, run the same again".into();
                    return Err(GatewayError::Unavailable { why }.into());
                }
                let told = salvage.offer(entry, line).await?;
                salvage_reply::Step::Told(told)
            }
            salvage_request::Step::Begin(_) | salvage_request::Step::Block(_) => {
                return Err(GatewayError::invalid("step", "is not expected here").into());
            }
        };
        line.say(reply).await?;
    }
    Ok(())
}

/// Holds what the disk's holder says against this cluster, and tells where the timelines parted.
fn began(node: &Node, begin: &v1::SalvageBegin) -> Result<v1::SalvageBegun, GatewayError> {
    let row = node.store.database().cluster_row().map_err(broken)?;
    let row = row.ok_or(GatewayError::Damaged { what: "cluster" })?;
    if begin.cluster_id != row.cluster_id {
        return Err(GatewayError::invalid("cluster_id", "is another cluster's"));
    }
    if begin.apply && begin.cluster_name != row.name {
        return Err(GatewayError::invalid("cluster_name", "is not this cluster's: nothing was done"));
    }
    let follows = |certificate: &&TimelineCertificate| certificate.timeline == begin.timeline.saturating_add(1);
    let next = row.timelines.iter().find(follows).ok_or_else(|| {
        GatewayError::invalid("timeline", "is the present one, or not known: there is nothing beyond it")
    })?;
    let timeline = row.timelines.last().map_or(0, |certificate| certificate.timeline);
    let size = node.store.published().summary.journal.size();
    let journal_size = entries_before(&node.store.database(), size, next.began_index)?;
    Ok(v1::SalvageBegun { timeline, began_index: next.began_index, journal_size })
}

/// How many of the journal's first `size` entries were written below a log index.
fn entries_before(database: &Database, size: u64, index: u64) -> Result<u64, GatewayError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let header = database.header(&RowKey::journal(middle)).map_err(broken)?;
        let header = header.ok_or(GatewayError::Damaged { what: "journal" })?;
        if header.revision.index < index { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_hangs_is_not_waited_for_longer_than_a_step_may_take() {
        let (replies, _unread) = mpsc::channel(1);
        let mut line = Line { steps: futures_util::stream::pending(), replies };
        let began = tokio::time::Instant::now();
        assert_eq!(line.next().await.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(began.elapsed(), SILENT_MAX);
        // One reply fits; nobody takes it.
        line.say(salvage_reply::Step::Leaf(Bytes::new())).await.unwrap();
        let unsaid = line.say(salvage_reply::Step::Leaf(Bytes::new())).await.unwrap_err();
        assert_eq!((unsaid.code(), began.elapsed()), (Code::DeadlineExceeded, 2 * SILENT_MAX));
    }
}
