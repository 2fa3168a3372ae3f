//! `Salvage`: a former member's disk, offered in lock step: one reply to each request.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::{RowKey, TimelineCertificate};
use kura_cluster::tree::leaf_hash;
use kura_proto::v1::{self, salvage_reply, salvage_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::gateway::attempt::broken;
use crate::gateway::salvage::{Disk, Salvage};
use crate::gateway::{Caller, GatewayError};
use crate::serve::Node;
use crate::state::Database;

type Replies = ReceiverStream<Result<v1::SalvageReply, Status>>;

/// Both directions of the call.
struct Line {
    steps: Streaming<v1::SalvageRequest>,
    replies: mpsc::Sender<Result<v1::SalvageReply, Status>>,
}

impl Line {
    async fn say(&self, step: salvage_reply::Step) -> Result<(), Status> {
        let reply = v1::SalvageReply { step: Some(step) };
        self.replies.send(Ok(reply)).await.map_err(|_| Status::cancelled("the caller has gone"))
    }

    async fn next(&mut self) -> Result<Option<salvage_request::Step>, Status> {
        Ok(self.steps.message().await?.and_then(|message| message.step))
    }
}

impl Disk for Line {
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

async fn run(node: &Node, caller: &Caller, line: &mut Line) -> Result<(), Status> {
    let Some(salvage_request::Step::Begin(begin)) = line.next().await? else {
        return Err(GatewayError::invalid("step", "a salvage starts with begin").into());
    };
    let begun = began(node, &begin)?;
    let mut salvage = Salvage::begin(node.gateway.clone(), caller, begin.timeline, begin.apply).await?;
    line.say(salvage_reply::Step::Begun(begun)).await?;
    while let Some(step) = line.next().await? {
        let reply = match step {
            salvage_request::Step::Leaf(asked) => {
                let row = node.store.database().row(&RowKey::journal(asked.position)).map_err(broken)?;
                let leaf = row.map_or_else(Bytes::new, |row| Bytes::copy_from_slice(&leaf_hash(&row.value)));
                salvage_reply::Step::Leaf(leaf)
            }
            salvage_request::Step::Entry(entry) => {
                let told = salvage.offer(entry.index, entry.command, entry.round, line).await?;
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
