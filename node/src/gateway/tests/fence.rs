//! One gateway at a time works on an upload.

use std::time::Instant;

use kura_cluster::Outcome;
use kura_proto::v1;
use tokio::sync::mpsc;

use super::*;
use crate::gateway::propose::{Pending, Proposed};

/// Hands on what a gateway proposes, as it comes.
async fn hand_on(storehouse: &Storehouse, waiting: &mut mpsc::Receiver<Pending>) -> Proposed {
    let Pending { command, answer } = waiting.recv().await.unwrap();
    let proposed = storehouse.proposer.propose(command, Instant::now() + PATIENCE).await.unwrap();
    let _ = answer.send(Ok(proposed.clone()));
    proposed
}

/// Two seals of one block are different bytes. Were a late one taken, the manifest would account for
/// other bytes than lie there, on every member: an acknowledged record that nobody can read.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_gateway_has_on_its_way_is_fenced_off() {
    let storehouse = Storehouse::new().await;
    let (held, mut waiting) = Proposer::held();
    let former = storehouse.gateway_through(held);
    let latter = storehouse.gateway();
    let bytes = body(2 * BLOCK_BYTES + 12_345);
    let (request, caller) = (request(), doctor());

    let beginning = former.begin_upload(&caller, begin(request.clone()));
    let (begun, _) = tokio::join!(beginning, hand_on(&storehouse, &mut waiting));
    let mut abandoned = uploading(begun);
    abandoned.part(part()).await.unwrap();
    // A block is sealed when more comes: with this much, the first and, held back, the second.
    abandoned.data(bytes.slice(..BLOCK_BYTES + 1)).await.unwrap();
    let first = hand_on(&storehouse, &mut waiting).await;
    assert!(matches!(first.outcome, Outcome::Committed(_)), "{first:?}");
    assert_eq!(abandoned.settle_one().await.unwrap().bytes, BLOCK_BYTES as u64);
    abandoned.data(bytes.slice(BLOCK_BYTES + 1..2 * BLOCK_BYTES + 1)).await.unwrap();
    let late = waiting.recv().await.unwrap();

    let again = v1::PutBegin { resume_content: Bytes::copy_from_slice(&abandoned.content_id().0), ..begin(request) };
    let mut resumed = uploading(latter.begin_upload(&caller, again).await);
    let durable = resumed.durable();
    assert_eq!((durable.parts, durable.bytes), (1, BLOCK_BYTES as u64), "what was staged counts");
    resumed.part(part()).await.unwrap();
    resumed.data(bytes.slice(BLOCK_BYTES..)).await.unwrap();
    assert_eq!(resumed.settle_one().await.unwrap().bytes, 2 * BLOCK_BYTES as u64);

    let proposed = storehouse.proposer.propose(late.command, Instant::now() + PATIENCE).await.unwrap();
    assert!(matches!(proposed.outcome, Outcome::Conflict { .. }), "{proposed:?}");
    let _ = late.answer.send(Ok(proposed));
    let error = abandoned.settle_one().await.unwrap_err();
    assert!(matches!(error, GatewayError::NotFound { .. }), "{error}");

    let receipt = resumed.finish(v1::PutFinish::default()).await.unwrap();
    let (header, found) = read(&storehouse.gateway(), &receipt.record_id, 0).await;
    assert_eq!(header.summary.unwrap().bytes, bytes.len() as u64);
    assert!(found == bytes, "byte for byte");
    drop(abandoned);
    storehouse.close().await;
}

/// The same at the end: who was resumed from cannot commit any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_gateway_cannot_commit_what_another_goes_on_with() {
    let storehouse = Storehouse::new().await;
    let (former, latter) = (storehouse.gateway(), storehouse.gateway());
    let (request, caller) = (request(), doctor());
    let bytes = body(BLOCK_BYTES + 1);
    let mut abandoned = uploading(former.begin_upload(&caller, begin(request.clone())).await);
    abandoned.part(part()).await.unwrap();
    abandoned.data(bytes.clone()).await.unwrap();
    abandoned.settle_one().await.unwrap();

    let content = Bytes::copy_from_slice(&abandoned.content_id().0);
    let again = v1::PutBegin { resume_content: content, ..begin(request) };
    let mut resumed = uploading(latter.begin_upload(&caller, again).await);
    let error = abandoned.finish(v1::PutFinish::default()).await.unwrap_err();
    assert!(matches!(error, GatewayError::NotFound { .. } | GatewayError::Contended), "{error}");

    resumed.part(part()).await.unwrap();
    resumed.data(bytes.slice(BLOCK_BYTES..)).await.unwrap();
    let receipt = resumed.finish(v1::PutFinish::default()).await.unwrap();
    assert!(read(&latter, &receipt.record_id, 0).await.1 == bytes);
    storehouse.close().await;
}
