//! Rewriting the state's files without what was deleted.
//!
//! A deletion hides a row; older files keep its bytes until they are compacted. Here the families of keys and
//! of rows are compacted down to the last level, and the result is looked at: no file of before is left, and
//! no file of keys holds a deletion, under which something could be hidden still. What a reader holds open
//! stays on disk; then it is tried again.
//!
//! A compaction keeps what a view of before the deletion still sees, in new files. So it begins once no such view is
//! left: views of later, of which there are always some, see the deletion and are in nobody's way.
//!
//! Blocks are left to the usual compaction: to rewrite them would rewrite everything, and without the key
//! they do not open.

use std::collections::BTreeSet;

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use super::families::{KEYS, ROWS};
use super::{Database, DatabaseError};
use crate::clear::{are_gone, comes_true};

/// RocksDB's property: the sequence number of the oldest view that is held.
const OLDEST_VIEW: &str = "rocksdb.oldest-snapshot-sequence";

impl Database {
    /// Rewrites all files of keys and rows; whether nothing is left of what was deleted when this was called. Takes as
    /// long as the disk needs for that. Blocking; reads and writes go on.
    pub fn clear_deleted(&self) -> Result<bool, DatabaseError> {
        let now = self.db.latest_sequence_number();
        self.flush()?;
        // Before it begins: what a compaction keeps for a view stays when the view goes.
        if !comes_true(|| self.all_views_see(now)) {
            return Ok(false);
        }
        let mut before = self.tables_on_disk()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for name in [KEYS, ROWS] {
            self.db.compact_range_cf_opt(self.family(name), None::<&[u8]>, None::<&[u8]>, &options);
        }
        let files = self.db.live_files().map_err(|source| self.failed(source))?;
        let hides = files.iter().any(|file| file.column_family_name == KEYS && file.num_deletions > 0);
        // These hold neither keys nor such rows.
        for file in files.iter().filter(|file| ![KEYS, ROWS].contains(&&file.column_family_name[..])) {
            before.remove(file.name.trim_start_matches('/'));
        }
        Ok(!hides && are_gone(&self.directory, &before))
    }

    /// Whether every view that is held sees what was written up to `sequence`.
    fn all_views_see(&self, sequence: u64) -> bool {
        let oldest = self.db.property_int_value(OLDEST_VIEW);
        // 0: none is held.
        matches!(oldest, Ok(Some(oldest)) if oldest == 0 || oldest >= sequence)
    }

    /// The names of all tables, also of those that are in use no more and that somebody still reads.
    fn tables_on_disk(&self) -> Result<BTreeSet<String>, DatabaseError> {
        let failed = |source| DatabaseError::File { path: self.directory.clone(), source };
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".sst") {
                names.insert(name);
            }
        }
        Ok(names)
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

    fn key(n: u8) -> Bytes {
        RowKey::participant_key(&Pseudonym([n; 16]), 1).as_bytes().clone()
    }

    fn number(n: u8) -> Bytes {
        RowKey::hashed(Table::Number, &[n; 32]).as_bytes().clone()
    }

    fn row(value: &'static [u8]) -> Option<StoredRow> {
        Some(StoredRow::new(Revision { timeline: 0, index: 5 }, Revision::ABSENT, Bytes::from_static(value)))
    }

    #[test]
    fn what_was_deleted_is_in_no_file_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
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

    #[test]
    fn what_a_view_of_between_two_deletions_sees_is_not_called_gone() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        write(&database, &[(key(1), row(b"wrapped-key-that-goes")), (number(1), row(b"number-that-goes"))]);
        database.flush().unwrap();
        write(&database, &[(key(1), None)]);
        let between = database.snapshot();
        write(&database, &[(number(1), None)]);
        assert!(!database.clear_deleted().unwrap());
        assert_eq!(occurrences(directory.path(), b"number-that-goes"), 1);
        drop(between);
        // Views that see the deletion are in nobody's way: there are always some.
        let later = database.snapshot();
        assert!(database.clear_deleted().unwrap());
        assert_eq!(occurrences(directory.path(), b"number-that-goes"), 0);
        drop(later);
    }

    #[test]
    fn views_that_come_and_go_hold_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        write(&database, &[(number(1), row(b"number-that-goes"))]);
        database.flush().unwrap();
        write(&database, &[(number(1), None)]);
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let (begun, begins) = std::sync::mpsc::channel();
            let database = &database;
            // At each moment there is a view that is older than the last write.
            scope.spawn(move || {
                let mut held = database.snapshot();
                while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    write(database, &[(number(2), row(b"another"))]);
                    let next = database.snapshot();
                    write(database, &[(number(3), row(b"another"))]);
                    held = next;
                    let _ = begun.send(());
                    std::thread::yield_now();
                }
                drop(held);
            });
            begins.recv().unwrap();
            assert!(database.clear_deleted().unwrap());
            drop(stop);
        });
        assert_eq!(occurrences(directory.path(), b"number-that-goes"), 0);
    }

    #[test]
    fn a_file_that_is_read_is_not_called_gone_by_a_second_try_either() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        write(&database, &[(key(1), row(b"wrapped-key-that-goes")), (key(2), row(b"wrapped-key-that-stays"))]);
        database.flush().unwrap();
        write(&database, &[(key(1), None)]);
        let view = database.snapshot();
        let (from, to) = ([Table::ParticipantKey.number()], [Table::ParticipantKey.number() + 1]);
        let reader = view.cursor(&from, &to);
        for _ in 0..2 {
            assert!(!database.clear_deleted().unwrap());
            assert!(occurrences(directory.path(), b"wrapped-key-that-goes") > 0);
        }
        drop(reader);
        drop(view);
        assert!(database.clear_deleted().unwrap());
        assert_eq!(occurrences(directory.path(), b"wrapped-key-that-goes"), 0);
    }
}
