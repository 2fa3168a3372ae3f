//! The Raft log on a real RocksDB: openraft's own suite, durability, refusals, failing disks.

mod codec;
mod disk;
mod model;
mod reading;
mod recovery;
mod suite;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kura_cluster::ClusterId;
use kura_node::raft::log_store::LogStore;
use kura_node::raft::marks::{LogIdentity, Mark};
use kura_node::raft::open::OpenError;
use kura_node::raft::types::{CommandBytes, Entry, EntryPayload, Vote, log_id};
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

fn identity() -> LogIdentity {
    LogIdentity { cluster_id: ClusterId([9; 16]), node_id: 2, timeline: 0 }
}

fn open(directory: &Path) -> Result<LogStore, OpenError> {
    LogStore::open(directory, identity(), &[])
}

/// A command of this many bytes that differ from entry to entry.
fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let body: Vec<u8> = (0..bytes).map(|i| (index as usize * 31 + i) as u8).collect();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(CommandBytes(Bytes::from(body))) }
}

fn entries(term: u64, indexes: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, bytes)).collect()
}

/// Appends and waits for the callback.
async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    store.blocking_append(entries).await.unwrap();
}

async fn all(store: &mut LogStore) -> Vec<Entry> {
    store.get_log_reader().await.try_get_log_entries(0..).await.unwrap()
}

async fn vote(store: &mut LogStore) -> Option<Vote> {
    store.get_log_reader().await.read_vote().await.unwrap()
}

fn mark(term: u64, index: u64) -> Mark {
    Mark { vote: Some(Vote::new_committed(term, 1)), last: Some(log_id(term, index)) }
}

/// The write-ahead log files of a log directory, by name.
fn wal_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory.join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// The one write-ahead log file with something in it.
fn wal_file(directory: &Path) -> PathBuf {
    let filled = |path: &PathBuf| std::fs::metadata(path).unwrap().len() > 0;
    let files: Vec<PathBuf> = wal_files(directory).into_iter().filter(filled).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}
