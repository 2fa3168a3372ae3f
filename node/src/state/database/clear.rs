//! Rewriting the state's files without what was deleted.
//!
//! A deletion hides a row; older files keep its bytes until they are compacted. Here the families of keys and
//! of rows are compacted down to the last level, and the result is looked at: no file of before is left, and
//! no file of keys holds a deletion, under which something could be hidden still. What a reader holds open
//! stays on disk; then it is tried again.
//!
//! Blocks are left to the usual compaction: to rewrite them would rewrite everything, and without the key
//! they do not open.

use std::collections::BTreeSet;

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use super::families::{KEYS, ROWS};
use super::{Database, DatabaseError};
use crate::clear::are_gone;

impl Database {
    /// Rewrites all files of keys and rows; whether nothing of before is left of them. Takes as long as the
    /// disk needs for that. Blocking; reads and writes go on.
    pub fn clear_deleted(&self) -> Result<bool, DatabaseError> {
        self.flush()?;
        let before = self.files_of(&[KEYS, ROWS])?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for name in [KEYS, ROWS] {
            self.db.compact_range_cf_opt(self.family(name), None::<&[u8]>, None::<&[u8]>, &options);
        }
        let files = self.db.live_files().map_err(|source| self.failed(source))?;
        let hides = files.iter().any(|file| file.column_family_name == KEYS && file.num_deletions > 0);
        Ok(!hides && are_gone(&self.directory, &before))
    }

    fn files_of(&self, families: &[&str]) -> Result<BTreeSet<String>, DatabaseError> {
        let files = self.db.live_files().map_err(|source| self.failed(source))?;
        let of = files.into_iter().filter(|file| families.contains(&&file.column_family_name[..]));
        Ok(of.map(|file| file.name.trim_start_matches('/').to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use kura_cluster::apply::Summary;
    use kura_cluster::row::{RowKey, StoredRow, Table};
    use kura_cluster::{Pseudonym, Revision};

    use super::super::Progress;
    use super::*;

    fn write(database: &Database, rows: &[(Bytes, Option<StoredRow>)]) {
        let progress = Progress { applied: None, membership: None, summary: &Summary::default() };
        database.write(rows.iter().map(|(key, row)| (key, row)), &progress).unwrap();
    }

    /// How often bytes occur in the files of a directory.
    fn occurrences(directory: &Path, bytes: &[u8]) -> usize {
        // RocksDB deletes files meanwhile: one that is gone holds nothing.
        let read = |path: &Path| match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes.unwrap(),
        };
        let files = std::fs::read_dir(directory).unwrap().map(|entry| read(&entry.unwrap().path()));
        files.map(|file| file.windows(bytes.len()).filter(|window| *window == bytes).count()).sum()
    }

    #[test]
    fn what_was_deleted_is_in_no_file_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let key = |n| RowKey::participant_key(&Pseudonym([n; 16]), 1).as_bytes().clone();
        let number = |n| RowKey::hashed(Table::Number, &[n; 32]).as_bytes().clone();
        let row = |value: &'static [u8]| {
            Some(StoredRow::new(Revision { timeline: 0, index: 5 }, Revision::ABSENT, Bytes::from_static(value)))
        };
        write(&database, &[(key(1), row(b"wrapped-key-that-goes")), (key(2), row(b"wrapped-key-that-stays"))]);
        write(&database, &[(number(1), row(b"number-that-goes"))]);
        database.flush().unwrap();
        write(&database, &[(key(1), None), (number(1), None)]);
        database.flush().unwrap();
        let places = |bytes: &[u8]| occurrences(directory.path(), bytes);
        assert_eq!((places(b"wrapped-key-that-goes"), places(b"number-that-goes")), (1, 1));

        // Whoever looks at the state of before keeps it.
        let before = database.snapshot();
        write(&database, &[(key(2), row(b"wrapped-key-that-stays")), (key(3), row(b"wrapped-key-that-goes-too"))]);
        let held = database.snapshot();
        write(&database, &[(key(3), None)]);
        assert!(!database.clear_deleted().unwrap());
        assert!(places(b"wrapped-key-that-goes-too") > 0);
        drop((before, held));
        assert!(database.clear_deleted().unwrap());
        assert_eq!((places(b"wrapped-key-that-goes"), places(b"number-that-goes")), (0, 0));
        assert_eq!(places(b"wrapped-key-that-stays"), 1);
        assert!(database.clear_deleted().unwrap(), "clean files stay clean");
    }
}
