//! Where reads come from, their limits, and what they see while the log changes.

use futures_util::TryStreamExt;
use kura_node::raft::log_memory::RECENT_BYTES_MAX;
use kura_node::raft::log_store::{READ_BYTES_MAX, READ_ENTRIES_MAX};
use kura_node::raft::types::{Entry, IoFlushed, log_id};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tempfile::tempdir;

use super::{all, append, entries, entry, open};

const MEBIBYTE: usize = 1 << 20;

#[tokio::test]
async fn replication_reads_are_limited_by_bytes_and_count() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    // Together less than memory keeps: at its edge a read returns what lies on one side.
    append(&mut store, entries(1, 0..5, MEBIBYTE)).await;
    append(&mut store, vec![entry(1, 5, 2 * READ_BYTES_MAX)]).await;
    append(&mut store, entries(1, 6..6 + 2 * READ_ENTRIES_MAX as u64, 1)).await;
    // From memory, then from the database.
    for _ in 0..2 {
        let mut reader = store.get_log_reader().await;
        let first = reader.limited_get_log_entries(0, 100).await.unwrap();
        assert_eq!(first, entries(1, 0..3, MEBIBYTE), "a header each does not fit a fourth");
        let large = reader.limited_get_log_entries(5, 100).await.unwrap();
        assert_eq!(large, [entry(1, 5, 2 * READ_BYTES_MAX)]);
        let many = reader.limited_get_log_entries(6, 1 << 40).await.unwrap();
        assert_eq!(many, entries(1, 6..6 + READ_ENTRIES_MAX as u64, 1));
        assert_eq!(reader.limited_get_log_entries(3, 3).await.unwrap(), []);
        assert_eq!(reader.limited_get_log_entries(1 << 20, 1 << 21).await.unwrap(), []);
        drop(store);
        store = open(directory.path()).unwrap();
    }
}

#[tokio::test]
async fn old_entries_come_from_the_database_and_meet_the_new_ones() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let count = 2 * (RECENT_BYTES_MAX / MEBIBYTE) as u64;
    for index in 0..count {
        append(&mut store, vec![entry(1, index, MEBIBYTE)]).await;
    }
    let expected = entries(1, 0..count, MEBIBYTE);
    assert!(all(&mut store).await == expected);
    let mut reader = store.get_log_reader().await;
    let middle = count / 2 - 3..count / 2 + 5;
    let part = reader.try_get_log_entries(middle.clone()).await.unwrap();
    assert!(part == entries(1, middle, MEBIBYTE));

    let streamed: Vec<Entry> = reader.entries_stream(..).await.try_collect().await.unwrap();
    assert!(streamed == expected);
    // Truncated into what memory has dropped; what follows is new.
    store.truncate_after(Some(log_id(1, 5))).await.unwrap();
    append(&mut store, entries(2, 6..9, 10)).await;
    let expected = [entries(1, 0..6, MEBIBYTE), entries(2, 6..9, 10)].concat();
    assert!(all(&mut store).await == expected);
    assert!(reader.try_get_log_entries(4..7).await.unwrap() == expected[4..7]);
}

#[tokio::test]
async fn a_stream_reads_on_while_the_log_grows_and_is_purged_behind_it() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..10, MEBIBYTE)).await;
    drop(store);
    let mut store = open(directory.path()).unwrap();
    let mut reader = store.get_log_reader().await;
    let mut stream = std::pin::pin!(reader.entries_stream(0..10).await);
    for index in 0..3 {
        assert!(stream.try_next().await.unwrap().unwrap() == entry(1, index, MEBIBYTE));
    }
    append(&mut store, entries(1, 10..12, MEBIBYTE)).await;
    store.truncate_after(Some(log_id(1, 10))).await.unwrap();
    store.purge(log_id(1, 2)).await.unwrap();
    for index in 3..10 {
        assert!(stream.try_next().await.unwrap().unwrap() == entry(1, index, MEBIBYTE));
    }
    assert!(stream.try_next().await.unwrap().is_none());

    // What is purged before it was read is an error, not an early end.
    let mut reader = store.get_log_reader().await;
    let mut stream = std::pin::pin!(reader.entries_stream(3..10).await);
    store.purge(log_id(1, 6)).await.unwrap();
    assert!(stream.try_next().await.is_err());
}

#[tokio::test]
async fn an_append_that_leaves_a_hole_or_overwrites_is_refused() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..3, 10)).await;
    for wrong in [vec![entry(1, 4, 10)], vec![entry(2, 2, 10)], vec![entry(1, 3, 1), entry(1, 5, 1)]] {
        assert!(store.append(wrong, IoFlushed::noop()).await.is_err());
    }
    assert_eq!(all(&mut store).await, entries(1, 0..3, 10));
}

/// Readers that read on and on while the log is cut under them see it before, between or after.
/// Most of the log is in the database, its end in memory, and the cut goes through the former.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_of_one_moment() {
    const OLD: u64 = 4000;
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let mut log = entries(1, 0..OLD, 500);
    append(&mut store, log.clone()).await;
    for term in 2..30 {
        drop(store);
        store = open(directory.path()).unwrap();
        let end = entries(term - 1, log.len() as u64..OLD + 500, 10);
        append(&mut store, end.clone()).await;
        log.extend(end);

        let mut reader = store.get_log_reader().await;
        let (began, begun) = tokio::sync::oneshot::channel();
        let (finish, mut finished) = tokio::sync::oneshot::channel::<()>();
        let reading = tokio::spawn(async move {
            let mut seen = vec![reader.try_get_log_entries(..).await.unwrap()];
            began.send(()).unwrap();
            while finished.try_recv().is_err() {
                seen.push(reader.try_get_log_entries(..).await.unwrap());
                seen.dedup();
            }
            seen
        });
        begun.await.unwrap();
        let cut = 1000 + (term as usize * 997) % 2000;
        let mut moments = vec![log.clone()];
        log.truncate(cut);
        moments.push(log.clone());
        store.truncate_after(log.last().map(|entry| entry.log_id)).await.unwrap();
        let new = entries(term, cut as u64..OLD, 500);
        log.extend(new.clone());
        moments.push(log.clone());
        append(&mut store, new).await;
        finish.send(()).unwrap();
        for seen in reading.await.unwrap() {
            assert!(moments.contains(&seen), "cut at {cut} in term {term}: {} entries", seen.len());
        }
    }
}
