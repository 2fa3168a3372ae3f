//! The log's RocksDB: options, column families, reading, and being closed and opened again.
//!
//! Column family `entries`: index (u64, big-endian) → encoded entry. Column family `meta`: vote,
//! committed, purged and the directory's identity, encoded by [`codec`](super::codec).
//!
//! Invariants
//! - The write-ahead log is on, and it alone orders writes: whatever survives of it is a prefix.
//! - RocksDB has no call to leave the read-only state that it enters after a failed write, so a
//!   database that ran out of space is closed and opened again ([`Database::reopen`]). Readers wait
//!   meanwhile; they never see it closed before [`Database::close`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, InfoLogger,
    LogLevel, Options, ReadOptions,
};

use super::codec::{self, CodecError};
use super::types::Entry;

/// Column family of the entries.
pub(super) const ENTRIES: &str = "entries";
/// Column family of everything else.
pub(super) const META: &str = "meta";
/// Above every entry's key: the end of "all of them".
pub(super) const ENTRIES_END: &[u8] = &[0xff; 9];

/// Two of these at most. Longer than the log between two snapshots (`retention.snapshot_every_mib`), so
/// that most entries are purged before they leave one: what is purged here is never written to a table.
const ENTRIES_BUFFER_BYTES: usize = 32 << 20;
const META_BUFFER_BYTES: usize = 1 << 20;
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Older write-ahead log files are given up (by writing out what they hold) beyond this total.
const WAL_BYTES_MAX: u64 = 192 << 20;
/// Open table files, of about 64 MiB each.
const TABLES_OPEN_MAX: i32 = 256;
/// RocksDB's last warnings, kept to name the file when it refuses to open.
const WARNINGS_MAX: usize = 32;
const REOPEN_POLL: Duration = Duration::from_millis(50);

/// Limits of one read. At least one entry is returned if the log has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Encoded bytes after which no further entry is taken.
    pub bytes: usize,
    /// Entries at most.
    pub entries: usize,
}

impl Limits {
    /// Everything.
    pub(super) const NONE: Limits = Limits { bytes: usize::MAX, entries: usize::MAX };
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the log is closed")]
    Closed,
    #[error("RocksDB: {0}")]
    Database(#[from] rocksdb::Error),
    #[error("entry at key {key:?}: {error}")]
    Entry { key: Box<[u8]>, error: CodecError },
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        Self::other(error)
    }
}

/// RocksDB's warnings while it was open or tried to be, newest last.
#[derive(Clone, Default)]
pub(super) struct Warnings(Arc<Mutex<VecDeque<String>>>);

impl Warnings {
    fn note(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == WARNINGS_MAX {
            lines.pop_front();
        }
        lines.push_back(text.to_owned());
    }

    /// The file that RocksDB complained about first.
    pub(super) fn damaged_file(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find_map(|line| file_in(line))
    }
}

/// The first database file named in one of RocksDB's messages.
pub(crate) fn file_in(message: &str) -> Option<String> {
    message
        .split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';' | '(' | ')' | '[' | ']'))
        .filter_map(|word| word.rsplit('/').next())
        .find(|word| {
            let digits = |stem: &str| !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
            word.strip_suffix(".log").is_some_and(digits)
                || word.strip_suffix(".sst").is_some_and(digits)
                || word.strip_suffix(".blob").is_some_and(digits)
                || word.strip_prefix("MANIFEST-").is_some_and(digits)
        })
        .map(str::to_owned)
}

/// An open RocksDB and what it was opened with.
pub(super) struct OpenDatabase {
    pub(super) rocks: DB,
    options: Options,
}

/// Opens the database at `path`.
pub(super) fn open_rocks(
    path: &Path,
    recovery: DBRecoveryMode,
    create: bool,
    warnings: &Warnings,
) -> Result<OpenDatabase, rocksdb::Error> {
    let options = database_options(recovery, create, warnings);
    let rocks = DB::open_cf_descriptors(&options, path, families())?;
    Ok(OpenDatabase { rocks, options })
}

/// Opens the database at `path` for a look that changes no byte of it.
pub(super) fn open_rocks_read_only(
    path: &Path,
    recovery: DBRecoveryMode,
    warnings: &Warnings,
) -> Result<DB, rocksdb::Error> {
    let options = database_options(recovery, false, warnings);
    DB::open_cf_descriptors_read_only(&options, path, families(), false)
}

fn database_options(recovery: DBRecoveryMode, create: bool, warnings: &Warnings) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_wal_recovery_mode(recovery);
    options.set_paranoid_checks(true);
    options.set_manual_wal_flush(false);
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(TABLES_OPEN_MAX);
    options.set_max_background_jobs(2);
    options.set_manifest_preallocation_size(64 << 10);
    // Table files are written out as they grow, so that a big flush does not delay a sync.
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    let warnings = warnings.clone();
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, move |level, text| {
        // Header lines are levelled above errors but only list the options.
        if matches!(level, LogLevel::Warn | LogLevel::Error | LogLevel::Fatal) {
            warnings.note(text);
            tracing::warn!(target: "rocksdb", log = "raft", "{text}");
        }
    }));
    options
}

fn families() -> [ColumnFamilyDescriptor; 2] {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(64 << 10);
    blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    let options = |buffer_bytes| {
        let mut options = Options::default();
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(buffer_bytes);
        options.set_max_write_buffer_number(2);
        options.set_target_file_size_base(64 << 20);
        options.set_max_bytes_for_level_base(512 << 20);
        options.set_block_based_table_factory(&blocks);
        options
    };
    [
        ColumnFamilyDescriptor::new(ENTRIES, options(ENTRIES_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(META, options(META_BUFFER_BYTES)),
    ]
}

/// A column family that [`families`] opened.
pub(super) fn family<'a>(rocks: &'a DB, name: &str) -> &'a ColumnFamily {
    rocks.cf_handle(name).expect("both families are opened or created with the database")
}

enum Slot {
    Open(OpenDatabase),
    Reopening,
    Closed,
}

/// The database as its users share it.
pub(super) struct Database {
    path: PathBuf,
    slot: RwLock<Slot>,
}

impl Database {
    /// Shares an open database.
    pub(super) fn new(path: PathBuf, open: OpenDatabase) -> Self {
        Self { path, slot: RwLock::new(Slot::Open(open)) }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the open database; waits while it is being opened again.
    pub(super) fn with<T>(&self, work: impl FnOnce(&DB) -> T) -> Result<T, ReadError> {
        loop {
            match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
                Slot::Open(open) => return Ok(work(&open.rocks)),
                Slot::Closed => return Err(ReadError::Closed),
                Slot::Reopening => {}
            }
            std::thread::sleep(REOPEN_POLL);
        }
    }

    /// Closes the database and opens it with `open`. If that fails, the next call tries again.
    pub(super) fn reopen<E>(&self, open: impl FnOnce(&Path) -> Result<OpenDatabase, E>) -> Result<(), E> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Slot::Reopening;
        *slot = Slot::Open(open(&self.path)?);
        Ok(())
    }

    /// Closes the database for good; other handles then read [`ReadError::Closed`].
    pub(super) fn close(&self) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Slot::Closed;
    }

    /// How often the write-ahead log was synced since the database was opened.
    pub(super) fn wal_syncs(&self) -> u64 {
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(open) => open.options.get_ticker_count(Ticker::WalFileSynced),
            Slot::Reopening | Slot::Closed => 0,
        }
    }

    /// Reads entries from `start` until `end` (exclusive) or the limits; stops at a hole.
    pub(super) fn read_entries(&self, start: u64, end: u64, limits: Limits) -> Result<Vec<Entry>, ReadError> {
        self.with(|rocks| read_entries(rocks, start, end, limits))?
    }
}

/// Reads entries of a database that is open somehow; see [`Database::read_entries`].
pub(super) fn read_entries(rocks: &DB, start: u64, end: u64, limits: Limits) -> Result<Vec<Entry>, ReadError> {
    let mut read_options = ReadOptions::default();
    read_options.set_iterate_upper_bound(end.to_be_bytes());
    // Each entry is read about once: the cache is for index blocks.
    read_options.fill_cache(false);
    let mut rows = rocks.raw_iterator_cf_opt(family(rocks, ENTRIES), read_options);
    rows.seek(start.to_be_bytes());
    let mut entries = Vec::new();
    let mut bytes = 0_usize;
    let mut next = start;
    while let Some((key, value)) = rows.item() {
        if key != next.to_be_bytes() {
            break;
        }
        let full = entries.len() >= limits.entries || bytes.saturating_add(value.len()) > limits.bytes;
        if full && !entries.is_empty() {
            break;
        }
        let entry = codec::decode_entry(&Bytes::copy_from_slice(value))
            .map_err(|error| ReadError::Entry { key: key.into(), error })?;
        if entry.log_id.index != next {
            let error = CodecError::Choice { form: "entry's index", value: u32::MAX };
            return Err(ReadError::Entry { key: key.into(), error });
        }
        bytes = bytes.saturating_add(value.len());
        entries.push(entry);
        next = next.saturating_add(1);
        rows.next();
    }
    rows.status()?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_messages() {
        let line = "[db_impl_open.cc:1168] /var/lib/kura/log/db/000014.log: dropping 96 bytes; Corruption";
        assert_eq!(file_in(line).as_deref(), Some("000014.log"));
        let line = "Corruption: block checksum mismatch in a/000010.sst offset 7";
        assert_eq!(file_in(line).as_deref(), Some("000010.sst"));
        assert_eq!(file_in("file db/MANIFEST-000005, truncated").as_deref(), Some("MANIFEST-000005"));
        assert_eq!(file_in("Corruption: checksum mismatch .log"), None);
    }
}
