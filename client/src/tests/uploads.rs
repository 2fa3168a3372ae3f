//! Writing: small and large bodies, cuts at any moment, and what is known afterwards.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};
use tonic::Status;

use super::cluster::{BLOCK_BYTES, CONTENT, Cluster, Whim, brisk};
use super::{body, doctor, image, number};
use crate::put::WHOLE_READ_BYTES_MAX;
use crate::{Committed, Outcome, PutError, Reason, RecordId};

/// A reader that counts what is taken from it, and fails at its end if told so.
struct Counted {
    bytes: io::Cursor<Vec<u8>>,
    taken: Arc<AtomicUsize>,
    fails: bool,
}

impl Counted {
    fn new(bytes: Vec<u8>) -> (Self, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        (Self { bytes: io::Cursor::new(bytes), taken: Arc::clone(&taken), fails: false }, taken)
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.taken.fetch_add(read, Ordering::SeqCst);
        if read == 0 && self.fails { Poll::Ready(Err(io::Error::other("the disk is gone"))) } else { polled }
    }
}

fn hash(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_go_in_one_message_and_larger_ones_stream() {
    let cluster = Cluster::start(1, brisk()).await;
    for length in [0, 1, 4200, WHOLE_READ_BYTES_MAX] {
        let bytes = body(length);
        let receipt = doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(bytes.clone())).await;
        assert_eq!(receipt.unwrap().record(), RecordId::from_bytes([0xaa; 16]));
        let (_, whole) = cluster.store().wholes.pop().expect("one message");
        assert_eq!(whole.parts.len(), 1);
        assert!(whole.parts[0].data == bytes && whole.parts[0].sha256 == hash(&bytes), "{length}");
    }
    let two = doctor(&cluster.client)
        .put(&number(), image())
        .part("letter", "text/xml", io::Cursor::new(b"<a/>".to_vec()))
        .part_bytes("signature", "application/pkcs7", &b"sig"[..]);
    two.await.unwrap();
    let (_, whole) = cluster.store().wholes.pop().unwrap();
    let parts: Vec<_> = whole.parts.iter().map(|part| (part.name.as_str(), part.data.as_ref())).collect();
    assert_eq!(parts, [("letter", &b"<a/>"[..]), ("signature", &b"sig"[..])]);
    assert_eq!(whole.parts[1].sha256, hash(b"sig"));

    let bytes = body(WHOLE_READ_BYTES_MAX + 1);
    doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(bytes.clone())).await.unwrap();
    assert!(cluster.store().wholes.is_empty());
    assert!(cluster.store().committed == Some(vec![bytes]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upload_goes_on_at_another_node_without_sending_what_is_durable() {
    let cluster = Cluster::start(3, brisk()).await;
    let (first, second) = (body(9 * BLOCK_BYTES + 12_345), body(2 * BLOCK_BYTES + 7));
    // Node 0 dies in the middle of the first part, node 1 in the middle of the second.
    cluster.whims(0, [Whim::DiesAt(5 * BLOCK_BYTES + 300_000)]);
    cluster.whims(1, [Whim::DiesAt(5 * BLOCK_BYTES)]);
    let put = doctor(&cluster.client)
        .put(&number(), image())
        .part("first", "m/m", io::Cursor::new(first.clone()))
        .part("second", "m/m", io::Cursor::new(second.clone()));
    let request = put.request_id();
    assert_eq!(put.await.unwrap().request(), request);

    let store = cluster.store();
    let expected: Vec<_> = [&first, &second].map(|part| hash(part)).into();
    assert_eq!(store.finish, expected);
    assert!(store.committed == Some(vec![first.clone(), second.clone()]), "every byte once, in order");
    let begins: Vec<_> = store.begins.iter().map(|(node, begin)| (*node, begin.resume_content.as_ref())).collect();
    assert_eq!(begins, [(0, &b""[..]), (1, &CONTENT[..]), (2, &CONTENT[..])]);
    assert!(store.begins.iter().all(|(_, begin)| begin.request == request.wire()));
    // Each node got what was not durable yet, and nothing before it.
    let durable_at_first = 5 * BLOCK_BYTES;
    assert!(store.brought[0] >= durable_at_first);
    let total = first.len() + second.len();
    let durable_at_second = durable_at_first + store.brought[1] - store.brought[2..].iter().sum::<usize>();
    assert!(durable_at_second <= total);
    assert!(store.brought[1] + durable_at_first <= total);
    assert!(store.brought[2] < total - durable_at_first - 3 * BLOCK_BYTES, "brought {:?}", store.brought);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_is_kept_within_a_bound_and_the_body_waits() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, vec![Whim::Forgetful; 50]);
    cluster.whims(1, vec![Whim::Forgetful; 50]);
    let (reader, taken) = Counted::new(body(16 * BLOCK_BYTES));
    let error = doctor(&cluster.client).put(&number(), image()).body(reader).await.unwrap_err();
    let PutError::Later(later) = &error else { panic!("{error}") };
    assert_eq!(later.reason(), Reason::Deadline);
    assert_eq!((error.may_retry(), error.was_committed()), (true, Committed::No));
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken <= 4 * BLOCK_BYTES + 256 * 1024, "{taken} bytes held");
    assert!(cluster.store().begins.len() > 1, "it was tried again before giving up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_not_told_of_is_told_by_the_next_node() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, [Whim::DiesAfterCommit]);
    let bytes = body(3 * BLOCK_BYTES);
    doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(bytes.clone())).await.unwrap();
    assert_eq!(cluster.store().begins.len(), 2);
    assert_eq!(cluster.store().brought[1], 0);
    assert!(cluster.store().committed == Some(vec![bytes]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_upload_is_told_its_receipt_for_the_same_body_only() {
    let cluster = Cluster::start(3, brisk()).await;
    let bytes = body(6 * BLOCK_BYTES);
    let put = |bytes: &[u8]| doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(bytes.to_vec()));
    let first = put(&bytes).await.unwrap();
    assert_eq!(put(&bytes).request(first.request()).await.unwrap().record(), first.record());
    assert_eq!(cluster.store().brought.last(), Some(&0), "what is held already is not sent again");

    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    let error = put(&other).request(first.request()).await.unwrap_err();
    assert!(matches!(error, PutError::Conflict { .. }), "{error}");
    assert!(cluster.store().committed == Some(vec![bytes.clone()]), "and nothing was changed");

    // The body was read to its end: neither a cut nor a node that lags may have it sent in pieces.
    let begins = cluster.store().begins.len();
    cluster.client.shared.pool.set_current(0);
    cluster.whims(0, [Whim::DiesWhenKnown]);
    cluster.whims(1, [Whim::Behind]);
    put(&bytes).request(first.request()).await.unwrap();
    let asked: Vec<_> = cluster.store().begins[begins..].iter().map(|(node, _)| *node).collect();
    assert_eq!(asked, [0, 1, 2]);
    assert!(cluster.store().committed == Some(vec![bytes.clone()]));

    let (mut reader, _) = Counted::new(bytes);
    reader.fails = true;
    let repeated = doctor(&cluster.client).put(&number(), image()).body(reader).request(first.request());
    let error = repeated.await.unwrap_err();
    assert_eq!(error.was_committed(), Committed::Unknown, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_says_so_and_its_outcome_can_be_asked() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, [Whim::DiesAfterCommit]);
    cluster.nodes[1].die();
    let put = doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(body(3 * BLOCK_BYTES)));
    let id = put.request_id();
    let error = put.await.unwrap_err();
    assert!(matches!(error, PutError::Unknown { request } if request == id), "{error}");
    assert_eq!((error.may_retry(), error.was_committed()), (false, Committed::Unknown));

    let other = Cluster::start(1, brisk()).await;
    assert_eq!(other.client.outcome(id).await.unwrap(), Outcome::Absent);
    other.store().committed = Some(vec![]);
    assert_eq!(other.client.outcome(id).await.unwrap().committed().unwrap().request(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_of_a_small_write_has_the_same_request_and_doubt_remains_at_the_deadline() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, vec![Whim::Fails(Status::unavailable("cut")); 500]);
    cluster.whims(1, vec![Whim::Fails(Status::unavailable("cut")); 500]);
    let put = doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]);
    let id = put.request_id();
    let began = std::time::Instant::now();
    let error = put.await.unwrap_err();
    assert!(began.elapsed().as_millis() <= 1_300, "{:?}", began.elapsed());
    assert!(matches!(error, PutError::Unknown { request } if request == id), "{error}");
    let store = cluster.store();
    assert!(store.wholes.iter().all(|(_, whole)| whole.request == id.wire()));
    assert!([0, 1].iter().all(|place| store.wholes.iter().any(|(node, _)| node == place)), "both were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_final_unless_an_earlier_attempt_is_in_doubt() {
    let denied = || Whim::Fails(crate::fault::tests::status("denied", 1, 1));
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, [denied()]);
    let put = || doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]);
    let error = put().await.unwrap_err();
    assert!(matches!(&error, PutError::Denied(denial) if denial.journal_position() == Some(77)), "{error}");
    assert_eq!(cluster.store().wholes.len(), 1);

    // The first attempt may be committed yet: a refusal of the second proves nothing.
    cluster.whims(0, [Whim::Fails(Status::unavailable("cut"))]);
    cluster.whims(1, [denied()]);
    assert!(matches!(put().await.unwrap_err(), PutError::Unknown { .. }));

    // A node that says it did nothing leaves no doubt.
    cluster.client.shared.pool.set_current(0);
    cluster.whims(0, [Whim::Fails(crate::fault::tests::status("overloaded", 2, 1))]);
    cluster.whims(1, [denied()]);
    assert!(matches!(put().await.unwrap_err(), PutError::Denied(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_is_never_finished() {
    let cluster = Cluster::start(1, brisk()).await;
    for length in [10, 3 * BLOCK_BYTES] {
        let (mut reader, _) = Counted::new(body(length));
        reader.fails = true;
        let error = doctor(&cluster.client).put(&number(), image()).body(reader).await.unwrap_err();
        assert!(matches!(error, PutError::Body { .. }), "{error}");
        assert_eq!(error.was_committed(), Committed::No);
    }
    assert!(cluster.store().committed.is_none() && cluster.store().wholes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_cluster_swept_begins_anew_if_it_can() {
    let gone = || Whim::Fails(crate::fault::tests::status("not-found", 1, 1));
    let cluster = Cluster::start(3, brisk()).await;
    // Nothing was durable when node 0 died, so everything is still here.
    cluster.whims(0, [Whim::DiesAt(300_000)]);
    cluster.whims(1, [gone()]);
    let bytes = body(3 * BLOCK_BYTES);
    doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(bytes.clone())).await.unwrap();
    assert!(cluster.store().committed == Some(vec![bytes]));
    assert!(cluster.store().begins[2].1.resume_content.is_empty());

    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, [Whim::DiesAt(3 * BLOCK_BYTES)]);
    cluster.whims(1, [gone()]);
    let put = doctor(&cluster.client).put(&number(), image()).body(io::Cursor::new(body(6 * BLOCK_BYTES)));
    let error = put.await.unwrap_err();
    assert!(matches!(&error, PutError::Later(later) if later.reason() == Reason::UploadLost), "{error}");
    assert_eq!(error.was_committed(), Committed::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_checked_before_anything_is_sent() {
    let cluster = Cluster::start(1, brisk()).await;
    let doctor = doctor(&cluster.client);
    let long = image().document_id("d".repeat(129));
    let error = doctor.put(&number(), long).bytes(&b"x"[..]).await.unwrap_err();
    assert_eq!((error.field(), error.was_committed()), (Some("document_id"), Committed::No));
    let error = doctor.put(&number(), image()).await.unwrap_err();
    assert_eq!(error.field(), Some("parts"));
    assert!(error.to_string().contains("1024"), "{error}");
    assert!(cluster.store().wholes.is_empty() && cluster.store().begins.is_empty());
}
