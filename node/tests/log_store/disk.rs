//! When things become durable, and what happens when the disk does not do as it is told.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use kura_node::raft::log_disk::{Change, Disk, DiskError, RocksDisk};
use kura_node::raft::log_memory::RECENT_BYTES_MAX;
use kura_node::raft::log_store::LogStore;
use kura_node::raft::marks::Mark;
use kura_node::raft::types::{Entry, IoFlushed, TypeConfig, Vote, log_id};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tempfile::tempdir;
use tokio::sync::oneshot;

use super::{all, append, entries, entry, identity, mark, open};

type Flushed = oneshot::Receiver<Result<(), std::io::Error>>;

/// Appends without waiting.
async fn submit(store: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<Flushed> {
    let (sender, flushed) = TypeConfig::oneshot();
    store.append(entries, IoFlushed::signal(sender)).await?;
    Ok(flushed)
}

fn bytes_in(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("db")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn the_space_of_purged_entries_is_given_back_when_asked_for() {
    const MIB: u64 = 1 << 20;
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    for first in (0..120).step_by(10) {
        append(&mut store, entries(1, first..first + 10, MIB as usize)).await;
    }
    store.purge(log_id(1, 117)).await.unwrap();
    append(&mut store, entries(1, 120..121, 10)).await;
    let before = bytes_in(directory.path());
    assert!(before > 60 * MIB, "{before}: there is nothing to give back");
    assert_eq!(store.watch().clear_purged().unwrap(), Some(117));
    let after = bytes_in(directory.path());
    assert!(after < 8 * MIB, "{after} of {before}");
    let left: Vec<u64> = all(&mut store).await.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(left, [118, 119, 120]);
    drop(store);
    assert_eq!(all(&mut open(directory.path()).unwrap()).await.len(), 3);
}

/// Says when a write begins, and lets it happen when told; then says what it was told to say.
struct Gate {
    disk: RocksDisk,
    begun: mpsc::Sender<(usize, bool)>,
    go: mpsc::Receiver<Result<(), DiskError>>,
}

impl Disk for Gate {
    fn write(&mut self, changes: &[Change], sync: bool) -> Result<(), DiskError> {
        // A test that does not look may have dropped its end.
        let _ = self.begun.send((changes.len(), sync));
        let answer = self.go.recv().unwrap();
        self.disk.write(changes, sync).and(answer)
    }

    fn recover(&mut self, at_least: &Mark) -> Result<(), DiskError> {
        self.disk.recover(at_least)
    }
}

struct Gated {
    store: LogStore,
    begun: mpsc::Receiver<(usize, bool)>,
    go: mpsc::Sender<Result<(), DiskError>>,
}

fn open_gated(directory: &Path) -> Gated {
    let (begun_sender, begun) = mpsc::channel();
    let (go, go_receiver) = mpsc::channel();
    let store = LogStore::open_with_disk(directory, identity(), &[], |disk| Gate {
        disk,
        begun: begun_sender,
        go: go_receiver,
    });
    Gated { store: store.unwrap(), begun, go }
}

#[tokio::test]
async fn the_callback_comes_after_the_sync_and_readers_do_not_wait() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let watch = store.watch();
    let syncs = watch.wal_syncs();
    let mut flushed = submit(&mut store, entries(1, 0..3, 10)).await.unwrap();
    assert_eq!(begun.recv().unwrap(), (1, true));

    // The writer is inside the write: nothing is promised, everything can be read.
    assert!(flushed.try_recv().is_err());
    assert_eq!(*watch.synced().borrow(), None);
    assert_eq!(watch.mark(), Mark::default());
    assert_eq!(watch.wal_syncs(), syncs);
    assert_eq!(all(&mut store).await, entries(1, 0..3, 10));
    assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 2)));

    go.send(Ok(())).unwrap();
    flushed.await.unwrap().unwrap();
    assert_eq!(*watch.synced().borrow(), Some(log_id(1, 2)));
    assert_eq!(watch.mark(), Mark { vote: None, last: Some(log_id(1, 2)) });
    assert_eq!(watch.wal_syncs(), syncs + 1, "RocksDB synced its write-ahead log once");
    watch.wait_synced(log_id(1, 2)).await.unwrap();
}

#[tokio::test]
async fn what_waits_while_one_sync_runs_shares_the_next() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let syncs = store.watch().wal_syncs();
    let first = submit(&mut store, entries(1, 0..1, 10)).await.unwrap();
    assert_eq!(begun.recv().unwrap(), (1, true));
    let mut rest = Vec::new();
    for index in 1..=500 {
        rest.push(submit(&mut store, vec![entry(1, index, 100)]).await.unwrap());
    }
    go.send(Ok(())).unwrap();
    assert_eq!(begun.recv().unwrap(), (500, true));
    go.send(Ok(())).unwrap();
    first.await.unwrap().unwrap();
    for flushed in rest {
        flushed.await.unwrap().unwrap();
    }
    assert_eq!(store.watch().wal_syncs() - syncs, 2, "501 appends, two syncs");
    drop(store);
    assert_eq!(all(&mut open(directory.path()).unwrap()).await.len(), 501);
}

#[tokio::test]
async fn what_is_not_written_stays_in_memory() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let count = RECENT_BYTES_MAX as u64 / (1 << 20) + 8;
    let mut waiting = Vec::new();
    for index in 0..count {
        waiting.push(submit(&mut store, vec![entry(1, index, 1 << 20)]).await.unwrap());
    }
    assert!(all(&mut store).await == entries(1, 0..count, 1 << 20));
    drop(begun);
    for _ in 0..count {
        go.send(Ok(())).unwrap();
    }
    drop(store);
    drop(waiting);
    assert!(all(&mut open(directory.path()).unwrap()).await == entries(1, 0..count, 1 << 20));
}

#[tokio::test]
async fn a_vote_waits_for_its_sync_and_committed_for_nothing() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let watch = store.watch();
    let voting = tokio::spawn(async move {
        store.save_vote(&Vote::new(4, 2)).await.unwrap();
        store
    });
    let (begun, begin) = tokio::task::spawn_blocking(move || {
        let begin = begun.recv().unwrap();
        (begun, begin)
    })
    .await
    .unwrap();
    assert_eq!(begin, (1, true));
    assert!(!voting.is_finished());
    assert_eq!(watch.mark(), Mark::default());
    go.send(Ok(())).unwrap();
    let mut store = voting.await.unwrap();
    assert_eq!(watch.mark(), Mark { vote: Some(Vote::new(4, 2)), last: None });

    store.save_committed(Some(log_id(3, 9))).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(3, 9)));
    assert_eq!(begun.recv().unwrap(), (1, false), "committed alone is written without a sync");
    go.send(Ok(())).unwrap();
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(3, 9)));
}

/// A snapshot that is installed next must not be safe before it: the log's end would be older than the state's.
#[tokio::test]
async fn a_truncation_waits_for_its_sync() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    go.send(Ok(())).unwrap();
    append(&mut store, entries(1, 0..10, 10)).await;
    assert_eq!(begun.recv().unwrap(), (1, true));
    let truncating = tokio::spawn(async move {
        store.truncate_after(Some(log_id(1, 4))).await.unwrap();
        store
    });
    let begin = tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
    assert_eq!(begin, (1, true));
    let has_waited = !truncating.is_finished();
    // Else the log could not be closed.
    go.send(Ok(())).unwrap();
    let mut store = truncating.await.unwrap();
    assert!(has_waited);
    assert_eq!(store.marks(), Mark { vote: None, last: Some(log_id(1, 4)) });
    assert_eq!(all(&mut store).await, entries(1, 0..5, 10));
}

/// Answers each write from a list, then does as it is told.
struct Scripted {
    disk: RocksDisk,
    answers: Arc<Mutex<Vec<DiskError>>>,
    recoveries: Arc<Mutex<Vec<DiskError>>>,
    recovered: Arc<Mutex<u32>>,
}

impl Disk for Scripted {
    fn write(&mut self, changes: &[Change], sync: bool) -> Result<(), DiskError> {
        match self.answers.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => self.disk.write(changes, sync),
        }
    }

    fn recover(&mut self, at_least: &Mark) -> Result<(), DiskError> {
        match self.recoveries.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => {
                *self.recovered.lock().unwrap() += 1;
                self.disk.recover(at_least)
            }
        }
    }
}

struct Script {
    store: LogStore,
    answers: Arc<Mutex<Vec<DiskError>>>,
    recoveries: Arc<Mutex<Vec<DiskError>>>,
    recovered: Arc<Mutex<u32>>,
}

fn open_scripted(directory: &Path) -> Script {
    let (answers, recoveries, recovered) = <(Arc<_>, Arc<_>, Arc<_>)>::default();
    let store = LogStore::open_with_disk(directory, identity(), &[], |disk| Scripted {
        disk,
        answers: Arc::clone(&answers),
        recoveries: Arc::clone(&recoveries),
        recovered: Arc::clone(&recovered),
    });
    Script { store: store.unwrap(), answers, recoveries, recovered }
}

fn full() -> DiskError {
    DiskError::Full("No space left on device".into())
}

#[tokio::test]
async fn one_failed_sync_stops_the_log_for_good() {
    let directory = tempdir().unwrap();
    let Script { mut store, answers, .. } = open_scripted(directory.path());
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    append(&mut store, entries(1, 0..5, 10)).await;
    answers.lock().unwrap().push(DiskError::Failed("IO error: fsync: Input/output error".into()));
    let watch = store.watch();

    let flushed = submit(&mut store, entries(1, 5..6, 10)).await.unwrap();
    let error = flushed.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "the Raft log's disk failed: IO error: fsync: Input/output error");
    assert_eq!(watch.fatal().borrow().as_deref(), Some(error.as_str()));
    assert_eq!(watch.mark(), mark(1, 4));

    // The disk would write again, but what it holds is not known.
    let later = submit(&mut store, entries(1, 6..7, 10)).await.unwrap_err();
    assert_eq!(later.to_string(), error);
    let later = store.save_vote(&Vote::new(2, 2)).await.unwrap_err();
    assert_eq!(later.to_string(), error);
    assert_eq!(store.save_committed(None).await.unwrap_err().to_string(), error);
    assert_eq!(store.truncate_after(None).await.unwrap_err().to_string(), error);
    assert_eq!(store.purge(log_id(1, 3)).await.unwrap_err().to_string(), error);
    assert_eq!(watch.wait_synced(log_id(1, 5)).await.unwrap_err().to_string(), error);
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(all(&mut store).await, entries(1, 0..5, 10));
}

#[tokio::test]
async fn changes_behind_a_failed_sync_fail_too() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let first = submit(&mut store, entries(1, 0..1, 10)).await.unwrap();
    begun.recv().unwrap();
    let second = submit(&mut store, entries(1, 1..2, 10)).await.unwrap();
    go.send(Err(DiskError::Failed("fsync".into()))).unwrap();
    for flushed in [first, second] {
        let error = flushed.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the Raft log's disk failed: fsync");
    }
    assert!(begun.try_recv().is_err(), "the second was not even tried");
    drop(store);
}

#[tokio::test]
async fn a_crash_between_a_truncation_and_its_mark_loses_nothing() {
    let directory = tempdir().unwrap();
    let Gated { mut store, go, .. } = open_gated(directory.path());
    go.send(Ok(())).unwrap();
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    go.send(Ok(())).unwrap();
    append(&mut store, entries(1, 0..10, 10)).await;
    // Written, but not known to be: the mark of after the truncation is never written.
    go.send(Err(DiskError::Failed("crash".into()))).unwrap();
    store.truncate_after(Some(log_id(1, 4))).await.unwrap_err();
    drop(store);
    assert_eq!(all(&mut open(directory.path()).unwrap()).await, entries(1, 0..5, 10));
}

#[tokio::test]
async fn who_waits_for_a_writer_that_panicked_hears_of_it() {
    let directory = tempdir().unwrap();
    let Gated { mut store, begun, go } = open_gated(directory.path());
    let first = submit(&mut store, entries(1, 0..1, 10)).await.unwrap();
    begun.recv().unwrap();
    let second = submit(&mut store, entries(1, 1..2, 10)).await.unwrap();
    // The writer panics in the gate: whoever waits must hear of it.
    drop((begun, go));
    assert!(second.await.unwrap().is_err());
    assert!(first.await.is_err(), "dropped with the thread that held it");
    assert!(store.save_vote(&Vote::new(1, 1)).await.is_err());
    assert!(store.watch().fatal().borrow().is_some());
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let directory = tempdir().unwrap();
    let Script { mut store, answers, recoveries, recovered } = open_scripted(directory.path());
    let watch = store.watch();
    store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    append(&mut store, entries(1, 0..5, 10)).await;
    let mut stalled = watch.stalled();
    assert!(!*stalled.borrow());

    *recoveries.lock().unwrap() = vec![full()];
    *answers.lock().unwrap() = vec![full(), full()];
    let mut flushed = submit(&mut store, entries(1, 5..8, 10)).await.unwrap();
    stalled.wait_for(|stalled| *stalled).await.unwrap();
    assert!(flushed.try_recv().is_err());
    assert_eq!(all(&mut store).await, entries(1, 0..8, 10), "readers are served meanwhile");

    flushed.await.unwrap().unwrap();
    stalled.wait_for(|stalled| !*stalled).await.unwrap();
    // Full twice at the write, once at the recovery; RocksDB itself was opened again both times.
    assert_eq!(*recovered.lock().unwrap(), 2);
    assert!(watch.fatal().borrow().is_none());
    assert_eq!(watch.mark(), mark(1, 7));
    append(&mut store, entries(1, 8..9, 10)).await;
    drop(store);
    assert_eq!(all(&mut open(directory.path()).unwrap()).await, entries(1, 0..9, 10));
}

#[tokio::test]
async fn closing_does_not_wait_for_space() {
    let directory = tempdir().unwrap();
    let Script { mut store, answers, recoveries, .. } = open_scripted(directory.path());
    append(&mut store, entries(1, 0..5, 10)).await;
    *answers.lock().unwrap() = vec![full()];
    *recoveries.lock().unwrap() = vec![full(); 1_000_000];
    let mut stalled = store.watch().stalled();
    let flushed = submit(&mut store, entries(1, 5..6, 10)).await.unwrap();
    stalled.wait_for(|stalled| *stalled).await.unwrap();
    drop(store);
    assert!(flushed.await.unwrap().is_err());
    assert_eq!(all(&mut open(directory.path()).unwrap()).await, entries(1, 0..5, 10));
}

#[tokio::test]
async fn readers_outlive_the_log_but_do_not_keep_the_directory() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    append(&mut store, entries(1, 0..5, 10)).await;
    drop(store);
    let mut store = open(directory.path()).unwrap();
    let mut reader = store.get_log_reader().await;
    drop(store);
    assert!(reader.try_get_log_entries(0..5).await.is_err(), "nothing is in memory after opening");
    drop(open(directory.path()).unwrap());
}
