//! Rewriting the log's files without what was purged.
//!
//! A purge marks entries as deleted; their bytes stay in the write-ahead log and in tables. Here both families
//! are written out, which begins a new write-ahead log, and compacted down to the last level. Then it is looked
//! at whether every file of before is gone.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use super::codec;
use super::database::{Database, ENTRIES, META, family};
use super::open::PURGED_KEY;
use crate::clear::are_gone;

/// Rewrites the files of the log. Tells up to which index nothing of it is left; `None` if nothing is purged
/// yet, or something still reads files of before. Blocking; reads and writes go on.
///
/// # Errors
/// RocksDB's, or the file system's.
pub(super) fn clear_purged(database: &Database) -> io::Result<Option<u64>> {
    let before = files(database.path())?;
    let purged = database.with(|rocks| -> Result<_, rocksdb::Error> {
        let purged = rocks.get_cf(family(rocks, META), PURGED_KEY)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for name in [ENTRIES, META] {
            rocks.flush_cf(family(rocks, name))?;
        }
        for name in [ENTRIES, META] {
            rocks.compact_range_cf_opt(family(rocks, name), None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(purged)
    })?;
    let Some(purged) = purged.map_err(io::Error::other)? else { return Ok(None) };
    let purged = codec::decode_log_id(&purged).map_err(io::Error::other)?;
    Ok(are_gone(database.path(), &before).then_some(purged.index))
}

/// The names of all tables and write-ahead logs.
fn files(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sst") || name.ends_with(".log") {
            names.insert(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kura_cluster::ClusterId;
    use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

    use crate::raft::log_store::LogStore;
    use crate::raft::marks::LogIdentity;
    use crate::raft::types::{CommandBytes, Entry, EntryPayload, log_id};

    fn entry(index: u64, words: &'static str) -> Entry {
        Entry {
            log_id: log_id(1, index),
            payload: EntryPayload::Normal(CommandBytes(Bytes::from_static(words.as_bytes()))),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_purged_is_in_no_file_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let identity = LogIdentity { cluster_id: ClusterId([9; 16]), node_id: 2, timeline: 0 };
        let mut log = LogStore::open(directory.path(), identity, &[]).unwrap();
        let holds = |words: &str| {
            let files = std::fs::read_dir(directory.path().join("db")).unwrap();
            files
                .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
                .any(|bytes| bytes.windows(words.len()).any(|window| window == words.as_bytes()))
        };
        let watch = log.watch();
        assert_eq!(watch.clear_purged().unwrap(), None, "nothing was ever purged");
        log.blocking_append([entry(0, "first"), entry(1, "the-entry-that-goes"), entry(2, "the-entry-that-stays")])
            .await
            .unwrap();
        assert!(holds("the-entry-that-goes"));
        log.purge(log_id(1, 1)).await.unwrap();
        // Purges are queued; what is appended after one is synced after it.
        log.blocking_append([entry(3, "later")]).await.unwrap();
        assert!(holds("the-entry-that-goes"), "purging alone leaves its bytes");
        assert_eq!(watch.clear_purged().unwrap(), Some(1));
        assert!(!holds("the-entry-that-goes") && holds("the-entry-that-stays"));
        let mut reader = log.get_log_reader().await;
        let left = reader.try_get_log_entries(0..).await.unwrap();
        assert_eq!(left.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [2, 3]);
        drop((log, reader, watch));
        let mut again = LogStore::open(directory.path(), identity, &[]).unwrap();
        assert_eq!(again.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 3)));
    }
}
