//! What is there after opening again, and what is refused.

use std::fs;
use std::path::Path;

use kura_cluster::ClusterId;
use kura_node::raft::codec::encode_entry;
use kura_node::raft::log_store::LogStore;
use kura_node::raft::marks::{LogIdentity, Mark};
use kura_node::raft::open::OpenError;
use kura_node::raft::types::{Vote, log_id};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use rocksdb::{DB, DBRecoveryMode, IteratorMode, Options};
use tempfile::tempdir;

use super::{all, append, entries, entry, identity, mark, open, vote, wal_file, wal_files};

const LEADER: Vote = Vote { leader_id: kura_node::raft::types::LeaderId { term: 1, voted_for: 1 }, committed: true };

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

fn refused(directory: &Path) -> OpenError {
    open(directory).map(drop).unwrap_err()
}

/// The database without any of this program's checks.
fn raw(directory: &Path, recovery: Option<DBRecoveryMode>) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    if let Some(recovery) = recovery {
        options.set_wal_recovery_mode(recovery);
    }
    DB::open_cf(&options, directory.join("db"), ["entries", "meta"])
}

#[tokio::test]
async fn everything_is_there_again() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    assert_eq!(store.marks(), Mark::default());
    store.save_vote(&Vote::new(1, 2)).await.unwrap();
    store.save_vote(&LEADER).await.unwrap();
    append(&mut store, entries(1, 0..10, 100)).await;
    store.save_committed(Some(log_id(1, 7))).await.unwrap();
    assert_eq!(store.marks(), mark(1, 9));
    drop(store);

    let mut store = open(directory.path()).unwrap();
    assert_eq!(vote(&mut store).await, Some(LEADER));
    assert_eq!(all(&mut store).await, entries(1, 0..10, 100));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 7)));
    assert_eq!(store.marks(), mark(1, 9));
    assert_eq!(*store.watch().synced().borrow(), Some(log_id(1, 9)));
}

#[tokio::test]
async fn truncated_and_appended_again() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    store.save_vote(&LEADER).await.unwrap();
    append(&mut store, entries(1, 0..10, 100)).await;
    store.save_vote(&Vote::new_committed(2, 3)).await.unwrap();
    store.truncate_after(Some(log_id(1, 4))).await.unwrap();
    assert_eq!(all(&mut store).await, entries(1, 0..5, 100));
    append(&mut store, entries(2, 5..7, 50)).await;
    let expected = [entries(1, 0..5, 100), entries(2, 5..7, 50)].concat();
    assert_eq!(all(&mut store).await, expected);
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(all(&mut store).await, expected);
    assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(log_id(2, 6)));
}

#[tokio::test]
async fn a_truncation_alone_is_no_log_that_goes_back() {
    // Once under a new vote, as openraft does it, and once under the same.
    for new_vote in [true, false] {
        let directory = tempdir().unwrap();
        let mut store = open(directory.path()).unwrap();
        store.save_vote(&LEADER).await.unwrap();
        append(&mut store, entries(1, 0..10, 100)).await;
        if new_vote {
            store.save_vote(&Vote::new_committed(2, 3)).await.unwrap();
        }
        store.truncate_after(Some(log_id(1, 4))).await.unwrap();
        drop(store);
        let mut store = open(directory.path()).unwrap();
        assert_eq!(all(&mut store).await, entries(1, 0..5, 100));
        store.truncate_after(None).await.unwrap();
        drop(store);
        let mut store = open(directory.path()).unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, None);
    }
}

#[tokio::test]
async fn purged_entries_are_gone() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..10, 100)).await;
    store.purge(log_id(1, 6)).await.unwrap();
    assert_eq!(all(&mut store).await, entries(1, 7..10, 100));
    // An older purge changes nothing.
    store.purge(log_id(1, 2)).await.unwrap();
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(all(&mut store).await, entries(1, 7..10, 100));
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 6)));
    // Beyond the end, as after a snapshot; the log goes on after it.
    store.purge(log_id(3, 20)).await.unwrap();
    append(&mut store, entries(3, 21..23, 100)).await;
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(all(&mut store).await, entries(3, 21..23, 100));
    assert!(store.get_log_reader().await.limited_get_log_entries(20, 22).await.unwrap().is_empty());
}

/// A table below RocksDB's first level goes with a purge if all of it is purged, and only then.
#[tokio::test]
async fn the_first_entry_that_is_kept_stays_though_a_table_ends_with_it() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..10, 100)).await;
    // One table, whose last entry is the ninth, on the last level.
    store.watch().clear_purged().unwrap();
    append(&mut store, entries(1, 10..12, 100)).await;
    store.purge(log_id(1, 8)).await.unwrap();
    // Written after the purge, so that it is done.
    append(&mut store, entries(1, 12..13, 100)).await;
    drop(store);
    let mut store = open(directory.path()).expect("the entry after the purged ones is there");
    assert_eq!(all(&mut store).await, entries(1, 9..13, 100));
}

#[tokio::test]
async fn one_log_for_one_process_and_one_node() {
    let directory = tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let error = refused(directory.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(store);

    for other in [
        LogIdentity { cluster_id: ClusterId([8; 16]), ..identity() },
        LogIdentity { node_id: 3, ..identity() },
        LogIdentity { timeline: 1, ..identity() },
    ] {
        let error = LogStore::open(directory.path(), other, &[]).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::OtherIdentity { .. }), "{error}");
    }
    // Also where the marks file was put there by hand.
    let second = tempdir().unwrap();
    let other = LogIdentity { node_id: 3, ..identity() };
    drop(LogStore::open(second.path(), other, &[]).unwrap());
    fs::copy(second.path().join("marks"), directory.path().join("marks")).unwrap();
    let error = LogStore::open(directory.path(), other, &[]).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::OtherIdentity { .. }), "{error}");

    // Our own lock, without RocksDB's, and the other way round.
    let third = tempdir().unwrap();
    drop(open(third.path()).unwrap());
    let lock = fs::File::open(third.path().join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(refused(third.path()), OpenError::InUse { .. }));
    drop(lock);
    let third = tempdir().unwrap();
    drop(open(third.path()).unwrap());
    let _held = raw(third.path(), None).unwrap();
    assert!(matches!(refused(third.path()), OpenError::InUse { .. }));
}

#[tokio::test]
async fn a_flipped_bit_is_refused_where_rocksdb_alone_would_drop_the_rest() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    store.save_vote(&LEADER).await.unwrap();
    for index in 0..3000 {
        append(&mut store, vec![entry(1, index, 100)]).await;
    }
    drop(store);
    let wal = wal_file(directory.path());
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wal, &bytes).unwrap();

    // The trap: RocksDB as it comes opens this, without an error, and with about half of it.
    let trap = tempdir().unwrap();
    copy(directory.path(), trap.path());
    let rocks = raw(trap.path(), None).unwrap();
    let left = rocks.iterator_cf(rocks.cf_handle("entries").unwrap(), IteratorMode::Start).count();
    assert!((1000..2000).contains(&left), "{left}");

    // Refused, the file named, and refused again: looking at it changed nothing.
    for _ in 0..2 {
        let error = refused(directory.path());
        let OpenError::Damaged { file, .. } = &error else { panic!("{error}") };
        assert_eq!(*file, wal.file_name().unwrap().to_str().unwrap());
        assert!(error.to_string().contains("member replace"), "{error}");
        assert_eq!(fs::read(&wal).unwrap(), bytes);
    }
}

/// A log of entries 0 to 9 and then 10, all synced; its write-ahead log is cut at `cut` between
/// where it ended after entry 9 (0.0) and where it ends (1.0). The marks file is the one from before
/// entry 10 if `old_marks`, as if power had gone while entry 10 was being written.
async fn cut_in_last_record(directory: &Path, cut: f64, old_marks: bool) {
    let mut store = open(directory).unwrap();
    store.save_vote(&LEADER).await.unwrap();
    append(&mut store, entries(1, 0..10, 1000)).await;
    let wal = wal_file(directory);
    let before = fs::metadata(&wal).unwrap().len();
    let marks_before = fs::read(directory.join("marks")).unwrap();
    append(&mut store, entries(1, 10..11, 1000)).await;
    drop(store);
    let after = fs::metadata(&wal).unwrap().len();
    assert!(after > before + 1000);
    let length = before + ((after - before) as f64 * cut) as u64;
    fs::File::options().write(true).open(&wal).unwrap().set_len(length).unwrap();
    if old_marks {
        fs::write(directory.join("marks"), marks_before).unwrap();
    }
}

#[tokio::test]
async fn a_torn_end_that_was_never_confirmed_is_accepted() {
    let directory = tempdir().unwrap();
    cut_in_last_record(directory.path(), 0.5, true).await;
    // RocksDB itself sees a torn record there.
    let copied = tempdir().unwrap();
    copy(directory.path(), copied.path());
    let strict = raw(copied.path(), Some(DBRecoveryMode::AbsoluteConsistency)).map(drop);
    assert_eq!(strict.unwrap_err().kind(), rocksdb::ErrorKind::Corruption);

    let mut store = LogStore::open(directory.path(), identity(), &[mark(1, 9)]).unwrap();
    assert_eq!(all(&mut store).await, entries(1, 0..10, 1000));
    append(&mut store, entries(1, 10..12, 10)).await;
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(all(&mut store).await.len(), 12);
}

#[tokio::test]
async fn a_torn_end_that_was_confirmed_is_refused() {
    let directory = tempdir().unwrap();
    cut_in_last_record(directory.path(), 0.5, false).await;
    for _ in 0..2 {
        let error = refused(directory.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("log up to 1.10"), "{error}");
    }
    // The same where only a peer remembers.
    let directory = tempdir().unwrap();
    cut_in_last_record(directory.path(), 0.5, true).await;
    let peers = [mark(1, 4), mark(1, 10)];
    let error = LogStore::open(directory.path(), identity(), &peers).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_whole_log_below_a_mark_is_refused() {
    let directory = tempdir().unwrap();
    cut_in_last_record(directory.path(), 0.0, false).await;
    for _ in 0..2 {
        let error = refused(directory.path());
        let OpenError::BelowMark { found, mark: promised } = error else { panic!("{error}") };
        assert_eq!((found, promised), (mark(1, 9), mark(1, 10)));
    }
    // A log that is gone, while a peer remembers it.
    let directory = tempdir().unwrap();
    let error = LogStore::open(directory.path(), identity(), &[mark(1, 0)]).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::BelowMark { .. }), "{error}");
    // A write-ahead log file that is gone.
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..10, 1000)).await;
    drop(store);
    for file in wal_files(directory.path()) {
        fs::remove_file(file).unwrap();
    }
    refused(directory.path());
}

/// After a power cut: the log is whole, its marks file as old as its last sync. Peers keep newer marks.
#[tokio::test]
async fn a_marks_file_older_than_the_log_hides_nothing_that_the_log_holds() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..5, 100)).await;
    drop(store);
    let older = fs::read(directory.path().join("marks")).unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 5..10, 100)).await;
    let told_peers = store.watch().mark();
    drop(store);
    fs::write(directory.path().join("marks"), older).unwrap();

    let store = LogStore::open(directory.path(), identity(), &[]).unwrap();
    assert!(!store.watch().mark().covers(&told_peers), "the file is as new as the log: nothing is tested");
    assert!(store.watch().opened().covers(&told_peers));
}

#[tokio::test]
async fn holes_and_strange_keys_are_refused() {
    type Change = fn(&DB, &rocksdb::ColumnFamily);
    let changes: [(Change, &str); 4] = [
        (|rocks, family| rocks.delete_cf(family, 5_u64.to_be_bytes()).unwrap(), "after index 4"),
        (|rocks, family| rocks.delete_cf(family, 0_u64.to_be_bytes()).unwrap(), "after its beginning"),
        (
            |rocks, family| {
                rocks.put_cf(family, 10_u64.to_be_bytes(), encode_entry(&entry(1, 11, 5))).unwrap();
            },
            "under the key",
        ),
        (
            |rocks, family| {
                rocks.put_cf(family, 10_u64.to_be_bytes(), encode_entry(&entry(0, 10, 5))).unwrap();
            },
            "entry 0.10",
        ),
    ];
    for (change, words) in changes {
        let directory = tempdir().unwrap();
        let mut store = open(directory.path()).unwrap();
        append(&mut store, entries(1, 0..10, 100)).await;
        drop(store);
        let rocks = raw(directory.path(), None).unwrap();
        change(&rocks, rocks.cf_handle("entries").unwrap());
        drop(rocks);
        let error = refused(directory.path());
        assert!(matches!(error, OpenError::Hole { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(directory.path().join("db").to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn marks_and_log_come_together_or_not_at_all() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..2, 100)).await;
    drop(store);
    let marks = directory.path().join("marks");
    let whole = fs::read(&marks).unwrap();

    fs::remove_file(&marks).unwrap();
    assert!(matches!(refused(directory.path()), OpenError::MarksMissing { .. }));
    fs::write(&marks, &whole[..20]).unwrap();
    let error = refused(directory.path());
    assert!(matches!(&error, OpenError::Damaged { file, .. } if file.ends_with("marks")), "{error}");
    fs::write(&marks, &whole).unwrap();
    drop(open(directory.path()).unwrap());
    fs::remove_dir_all(directory.path().join("db")).unwrap();
    assert!(matches!(refused(directory.path()), OpenError::DatabaseMissing { .. }));

    // Making a directory was interrupted before its marks file: nothing was promised yet.
    let directory = tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    fs::remove_file(directory.path().join("marks")).unwrap();
    drop(open(directory.path()).unwrap());
}
