//! Where changes of the log become durable: one write, one sync.
//!
//! [`Disk`] is the seam between the writer, which decides what is written together and who is told
//! when, and RocksDB. Tests put disks there that fail, fill up or wait.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{WriteBatch, WriteOptions};

use super::codec;
use super::database::{Database, ENTRIES, ENTRIES_END, META, family};
use super::marks::Mark;
use super::open::{COMMITTED_KEY, PURGED_KEY, VOTE_KEY, next_index, open_checked};
use super::types::{Entry, LogId, Vote};
use crate::space::message_says_full;

/// Free space, beyond the write-ahead log's own size, that opening the database again needs.
const REOPEN_FREE_BYTES: u64 = 8 << 20;

/// Bytes in a batch of an entry beside its value, at most, and of any other change.
const KEY_BYTES: usize = 32;
const CHANGE_BYTES: usize = 256;

/// One change of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Entries after the log's end.
    Append(Vec<Entry>),
    /// For whom this node votes.
    Vote(Vote),
    /// How far the log is known to be committed. May be lost: it is found out again.
    Committed(Option<LogId>),
    /// Nothing after this entry remains.
    TruncateAfter(Option<LogId>),
    /// Nothing up to this entry remains.
    Purge(LogId),
}

impl Change {
    /// Whether the change must be on stable storage before anybody may rely on it.
    ///
    /// A purge need not for itself, but the files that it empties are deleted only after its sync.
    pub(super) fn needs_sync(&self) -> bool {
        !matches!(self, Change::Committed(_))
    }
}

/// Why a group was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space left. Nothing of the group counts as written; it can be written again later.
    #[error("no space left on the Raft log's disk: {0}")]
    Full(String),
    /// Anything else. What the disk holds now is unknown.
    #[error("the Raft log's disk failed: {0}")]
    Failed(String),
}

/// Makes changes durable.
pub trait Disk: Send + 'static {
    /// Writes all changes in their order, or none of them. With `sync`, returns only once they and
    /// everything written before are on stable storage. Writing the same changes again is harmless.
    ///
    /// # Errors
    /// [`DiskError`]: whether the same changes may be tried again after [`Self::recover`].
    fn write(&mut self, changes: &[Change], sync: bool) -> Result<(), DiskError>;

    /// Called from time to time after [`DiskError::Full`] until it succeeds: gets the disk into a
    /// state in which a write can succeed again. The log must then still reach `at_least`.
    ///
    /// # Errors
    /// [`DiskError::Full`] as long as there is too little space.
    fn recover(&mut self, at_least: &Mark) -> Result<(), DiskError>;
}

/// The log's RocksDB as a [`Disk`].
pub struct RocksDisk {
    database: Arc<Database>,
}

impl RocksDisk {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

impl Disk for RocksDisk {
    fn write(&mut self, changes: &[Change], sync: bool) -> Result<(), DiskError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.database
            .with(|rocks| {
                let mut batch = WriteBatch::with_capacity_bytes(batch_bytes(changes));
                put_changes(rocks, changes, &mut batch);
                rocks.write_opt(batch, &options)?;
                if sync {
                    delete_purged_files(rocks, changes);
                }
                Ok(())
            })
            .map_err(|error| DiskError::Failed(error.to_string()))?
            .map_err(|error: rocksdb::Error| disk_error(&error))
    }

    fn recover(&mut self, at_least: &Mark) -> Result<(), DiskError> {
        // Opening writes out what the write-ahead log holds; until that fits, readers are better
        // served by the database that is open.
        let path = self.database.path();
        let needed = wal_bytes(path).map_err(|error| DiskError::Failed(error.to_string()))?;
        let needed = needed.saturating_add(REOPEN_FREE_BYTES);
        let free = rustix::fs::statvfs(path)
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
            .map_err(|error| DiskError::Failed(format!("statvfs: {error}")))?;
        if free < needed {
            return Err(DiskError::Full(format!("{free} bytes free, {needed} needed")));
        }
        let reopened = self.database.reopen(|path| open_checked(path, false, &[*at_least]).map(|(open, _)| open));
        reopened.map_err(|error| match error.is_full() {
            true => DiskError::Full(error.to_string()),
            false => DiskError::Failed(error.to_string()),
        })
    }
}

/// About the bytes of a batch. Growing by doubling would leave as much behind again.
fn batch_bytes(changes: &[Change]) -> usize {
    let of = |change: &Change| match change {
        Change::Append(entries) => entries.iter().map(|entry| codec::entry_bytes(entry) + KEY_BYTES).sum(),
        _ => CHANGE_BYTES,
    };
    CHANGE_BYTES + changes.iter().map(of).sum::<usize>()
}

fn put_changes(rocks: &rocksdb::DB, changes: &[Change], batch: &mut WriteBatch) {
    let (entries, meta) = (family(rocks, ENTRIES), family(rocks, META));
    let mut value = Vec::new();
    for change in changes {
        match change {
            Change::Append(appended) => {
                for entry in appended {
                    value.clear();
                    value.reserve_exact(codec::entry_bytes(entry));
                    codec::put_entry(entry, &mut value);
                    batch.put_cf(entries, entry.log_id.index.to_be_bytes(), &value);
                }
            }
            Change::Vote(vote) => batch.put_cf(meta, VOTE_KEY, codec::encode_vote(vote)),
            Change::Committed(Some(id)) => {
                batch.put_cf(meta, COMMITTED_KEY, codec::encode_log_id(*id));
            }
            Change::Committed(None) => batch.delete_cf(meta, COMMITTED_KEY),
            Change::TruncateAfter(after) => {
                batch.delete_range_cf(entries, &next_index(*after).to_be_bytes()[..], ENTRIES_END);
            }
            Change::Purge(upto) => {
                batch.delete_range_cf(entries, [0; 8], next_index(Some(*upto)).to_be_bytes());
                batch.put_cf(meta, PURGED_KEY, codec::encode_log_id(*upto));
            }
        }
    }
}

/// Gives back at once the space of files that hold nothing but purged entries. The purge itself is
/// durable by now, else a crash could leave a log that begins too late.
fn delete_purged_files(rocks: &rocksdb::DB, changes: &[Change]) {
    let purged = changes.iter().rev().find_map(|change| match change {
        Change::Purge(upto) => Some(*upto),
        _ => None,
    });
    let Some(upto) = purged else { return };
    // This end is inclusive, unlike `delete_range`'s: a file whose last entry is the first one kept must stay.
    // Only space is at stake: compaction drops the same entries later.
    if let Err(error) = rocks.delete_file_in_range_cf(family(rocks, ENTRIES), [0; 8], upto.index.to_be_bytes()) {
        tracing::warn!(%error, "files of purged log entries stay until the next compaction");
    }
}

fn disk_error(error: &rocksdb::Error) -> DiskError {
    match message_says_full(error.as_ref()) {
        true => DiskError::Full(error.to_string()),
        false => DiskError::Failed(error.to_string()),
    }
}

/// Size of the write-ahead log files in a database directory, in bytes.
fn wal_bytes(path: &Path) -> std::io::Result<u64> {
    let mut bytes = 0_u64;
    for file in std::fs::read_dir(path)? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "log") {
            bytes = bytes.saturating_add(file.metadata()?.len());
        }
    }
    Ok(bytes)
}
