//! Reading: whole and in ranges, across cuts, and never short or wrong without an error.

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;

use super::cluster::{BLOCK_BYTES, Cluster, RECORD, Whim, brisk};
use super::{body, doctor, number};
use crate::{GetError, Record, RecordId};

async fn get(cluster: &Cluster) -> Record {
    doctor(&cluster.client).get(&number(), RecordId::from_bytes(RECORD)).await.unwrap()
}

/// Reads to the end or an error; answers what came and the error.
async fn read(record: Record) -> (Vec<u8>, Option<std::io::Error>) {
    let mut bytes = Vec::new();
    let error = record.into_reader().read_to_end(&mut bytes).await.err();
    (bytes, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_read_whole_and_in_ranges() {
    let cluster = Cluster::start(1, brisk()).await;
    let parts = vec![body(100_000), vec![], body(200_001)];
    let whole = parts.concat();
    cluster.store().record = parts;
    let record = get(&cluster).await;
    assert_eq!((record.range(), record.summary().version), (0..300_001, 5));
    assert_eq!((record.part_range(2), record.part_range(3)), (Some(100_000..300_001), None));
    let (bytes, error) = read(record).await;
    assert!(bytes == whole && error.is_none(), "{error:?}");
    assert!(get(&cluster).await.bytes().await.unwrap() == whole);

    let id = RecordId::from_bytes(RECORD);
    let ranged = doctor(&cluster.client).get(&number(), id).range(99_990..=100_010).await.unwrap();
    assert!(ranged.bytes().await.unwrap() == whole[99_990..100_011]);
    let open = doctor(&cluster.client).get(&number(), id).range(300_000..).await.unwrap();
    assert!(open.bytes().await.unwrap() == whole[300_000..]);
    let empty = doctor(&cluster.client).get(&number(), id).range(7..7).await.unwrap_err();
    assert_eq!(empty.field(), Some("range"));
    let beyond = doctor(&cluster.client).get(&number(), id).range(300_002..).await.unwrap_err();
    assert_eq!(beyond.field(), Some("range"));

    let part = doctor(&cluster.client).get(&number(), id).part("p2").await.unwrap();
    assert_eq!(part.range(), 100_000..300_001);
    assert!(part.bytes().await.unwrap() == whole[100_000..]);
    let both = doctor(&cluster.client).get(&number(), id).part("p2").range(1..).await.unwrap_err();
    assert_eq!(both.field(), Some("part"));

    cluster.store().record = vec![vec![]];
    assert!(get(&cluster).await.bytes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_read_goes_on_elsewhere_as_a_request_of_its_own() {
    let cluster = Cluster::start(3, brisk()).await;
    // More than any window or socket on the way holds, so that a cut always leaves something.
    let whole = body(24 * BLOCK_BYTES + 17);
    cluster.store().record = vec![whole.clone()];
    let mut reader = get(&cluster).await.into_reader();
    let mut bytes = Vec::new();
    let mut read_at_cuts = Vec::new();
    for node in 0..2 {
        // What is under way already still comes; the cut shows once the next node is asked.
        while cluster.store().gets.len() <= node || bytes.len() < BLOCK_BYTES * (node + 1) {
            assert_ne!(reader.read_buf(&mut bytes).await.unwrap(), 0, "it ended before it was cut");
        }
        read_at_cuts.push(bytes.len() as u64);
        cluster.nodes[node].die();
    }
    let error = reader.read_to_end(&mut bytes).await.err();
    assert!(error.is_none(), "{error:?}");
    assert!(bytes == whole, "every byte once, in order");
    let gets = &cluster.store().gets;
    assert_eq!(gets.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(gets[0].1.version, 0);
    for (read, (former, (_, next))) in read_at_cuts.into_iter().zip(gets.iter().zip(&gets[1..])) {
        assert_eq!(next.version, 5, "pinned to the version that came first");
        assert!(next.range_start >= read, "nothing read is asked for again");
        assert_eq!(next.range_start + next.range_length, whole.len() as u64);
        assert_eq!(next.actor, former.1.actor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_read_that_is_cut() {
    let cluster = Cluster::start(2, brisk()).await;
    let whole = body(24 * BLOCK_BYTES);
    cluster.store().record = vec![whole.clone()];
    let record = get(&cluster).await;
    cluster.store().denies = true;
    cluster.nodes[0].die();
    let (bytes, error) = read(record).await;
    let error = error.expect("an error, not a short body");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(GetError::Denied(_))), "{error}");
    assert!(bytes.len() < whole.len() && whole.starts_with(&bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_end_is_an_error() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.store().record = vec![body(200_000)];
    for ends_at in [0, 1, 65_536, 199_999] {
        cluster.whims(0, [Whim::EndsAt(ends_at), Whim::EndsAt(ends_at)]);
        let (bytes, error) = read(get(&cluster).await).await;
        assert_eq!(bytes.len(), ends_at);
        assert_eq!(error.expect("an error").kind(), ErrorKind::UnexpectedEof);
        let error = get(&cluster).await.bytes().await.unwrap_err();
        assert!(matches!(error, GetError::EndedEarly { bytes, expected: 200_000 } if bytes == ends_at as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_an_error_before_the_last_of_them_are_out() {
    let cluster = Cluster::start(1, brisk()).await;
    cluster.store().record = vec![body(100_000), body(100_000)];
    for (flipped, part) in [(0, 1), (99_999, 1), (100_000, 2), (199_999, 2)] {
        cluster.whims(0, [Whim::Flips(flipped)]);
        let (bytes, error) = read(get(&cluster).await).await;
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let wrong = error.get_ref().unwrap().downcast_ref::<GetError>();
        assert!(matches!(wrong, Some(GetError::WrongHash { part: named }) if *named == part), "{error}");
        assert!(bytes.len() < part * 100_000, "the part was not handed out whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pauses_longer_than_every_limit_loses_nothing() {
    let cluster = Cluster::start(1, brisk()).await;
    let whole = body(2 * BLOCK_BYTES);
    cluster.store().record = vec![whole.clone()];
    let mut reader = get(&cluster).await.into_reader();
    let mut first = vec![0; 1000];
    reader.read_exact(&mut first).await.unwrap();
    // Longer than an attempt may take without an answer: the pause is the caller's, not the node's.
    tokio::time::sleep(std::time::Duration::from_millis(brisk().attempt_ms + 200)).await;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert!([first, rest].concat() == whole);
    assert_eq!(cluster.store().gets.len(), 1);
}
