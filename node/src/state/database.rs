//! The state's RocksDB instance: options, column families, reads by row key.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use kura_cluster::apply::{Summary, View};
use kura_cluster::row::{ClusterRow, RowHeader, RowKey, StoredRow, Table};
use kura_cluster::timeline::{TimelineError, Trust};
use prost::Message;
use quick_cache::sync::Cache;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, ErrorKind, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

use crate::raft::codec;
use crate::raft::types::{LogId, StoredMembership};
use crate::space::{is_full, message_says_full};

mod clear;

const META: &str = "default";
const ROWS: &str = "rows";
const KEYS: &str = "keys";
const BLOCKS: &str = "blocks";
const JOURNAL: &str = "journal";

const APPLIED_KEY: &[u8] = b"applied";
const MEMBERSHIP_KEY: &[u8] = b"membership";
const SUMMARY_KEY: &[u8] = b"summary";

/// Memory for memtables of all column families together: somewhat more than is applied between two
/// snapshots (`retention.snapshot_every_mib`), each of which writes them out.
const MEMTABLES_BYTES: usize = 36 << 20;
/// Bytes of a batch beside its rows, and of a row beside its key and value, at most: batches are made in one
/// piece, as growing by doubling would leave as much behind again.
const BATCH_BYTES: usize = 4 << 10;
const ROW_BYTES: usize = 96;
/// Memory for cached blocks of all column families together.
const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Blocks from this size live in blob files, where compaction does not rewrite them: nearly all.
const BLOB_BYTES_MIN: u64 = 512;
/// Journal entries as well: they are never rewritten, and read one after the other.
const JOURNAL_BLOB_BYTES_MIN: u64 = 64;
/// New tables that are merged into the older ones at a time: each merge rewrites those.
const TABLES_MERGED: i32 = 8;
/// Row headers kept in memory, so that expectations on hot rows read nothing.
const HEADERS_CACHED: usize = 50_000;
/// Open files kept by RocksDB.
const OPEN_FILES_MAX: i32 = 512;

/// Why the state could not be opened, read or written. All of them stop the node.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// RocksDB says no.
    #[error("state database in {directory}: {source}")]
    RocksDb {
        /// Where it lies.
        directory: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// Another process holds the directory.
    #[error("{directory} is in use by another process; stop it first")]
    InUse {
        /// Where it lies.
        directory: PathBuf,
    },
    /// A persisted form is not known: damage, or a newer version's data.
    #[error(
        "state database in {directory}: {what} is not in a known form; replace this member (`kura member replace`)"
    )]
    Form {
        /// Where it lies.
        directory: PathBuf,
        /// Which form.
        what: &'static str,
    },
    /// The state is another cluster's, or of a timeline that the recovery key has not certified.
    #[error("the state in {directory}: {source}; put back what belongs together, or replace this member")]
    Untrusted {
        /// Where it lies.
        directory: PathBuf,
        /// What is wrong.
        source: TimelineError,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl DatabaseError {
    /// Whether only space is missing: what failed can be tried again.
    pub fn is_full(&self) -> bool {
        match self {
            DatabaseError::RocksDb { source, .. } => message_says_full(source.as_ref()),
            DatabaseError::File { source, .. } => is_full(source),
            _ => false,
        }
    }
}

impl From<DatabaseError> for std::io::Error {
    fn from(error: DatabaseError) -> std::io::Error {
        std::io::Error::other(error.to_string())
    }
}

/// What one atomic write makes durable beside the rows.
pub struct Progress<'a> {
    /// Last applied entry.
    pub applied: Option<LogId>,
    /// Membership in force at it, if it has changed.
    pub membership: Option<&'a StoredMembership>,
    /// The state's summary after it.
    pub summary: &'a Summary,
}

/// An open state database.
pub struct Database {
    db: DB,
    directory: PathBuf,
    /// Written by the apply path alone.
    headers: Cache<Bytes, RowHeader>,
    /// The first thing that was read and was not what had been written.
    damage: OnceLock<String>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.directory.display())
    }
}

impl Database {
    /// Opens the database in a directory, making it if there is none.
    pub fn open(directory: &Path) -> Result<Database, DatabaseError> {
        Self::open_with(directory, true)
    }

    /// Opens a checkpoint's copy, whose files are to stay as they are: nothing is compacted.
    pub fn open_copy(directory: &Path) -> Result<Database, DatabaseError> {
        Self::open_with(directory, false)
    }

    /// Opens a database for a look that changes none of its files; writing to it fails.
    pub fn look(directory: &Path) -> Result<Database, DatabaseError> {
        let (options, families) = Self::options(true);
        let db = DB::open_cf_descriptors_read_only(&options, directory, families, false)
            .map_err(|source| DatabaseError::RocksDb { directory: directory.to_owned(), source })?;
        Ok(Self::of(db, directory))
    }

    fn options(compacts: bool) -> (Options, [ColumnFamilyDescriptor; 5]) {
        let cache = rocksdb::Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_log_level(rocksdb::LogLevel::Warn);
        options.set_paranoid_checks(true);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        // Not charged to the cache: memtables would push filters and indexes out, and every lookup of a
        // new key would read the disk.
        let buffers = rocksdb::WriteBufferManager::new_write_buffer_manager(MEMTABLES_BYTES, false);
        options.set_write_buffer_manager(&buffers);
        let families = [META, ROWS, KEYS, BLOCKS, JOURNAL].map(|name| {
            let mut options = family_options(name, &cache);
            options.set_disable_auto_compactions(!compacts);
            ColumnFamilyDescriptor::new(name, options)
        });
        (options, families)
    }

    fn open_with(directory: &Path, compacts: bool) -> Result<Database, DatabaseError> {
        let (options, families) = Self::options(compacts);
        let db = DB::open_cf_descriptors(&options, directory, families).map_err(|source| {
            let directory = directory.to_owned();
            // "block checksum mismatch" names no lock.
            let text: &str = source.as_ref();
            match text.contains("lock hold by current process") || text.contains("While lock file") {
                true => DatabaseError::InUse { directory },
                false => DatabaseError::RocksDb { directory, source },
            }
        })?;
        Ok(Self::of(db, directory))
    }

    fn of(db: DB, directory: &Path) -> Database {
        Database { db, directory: directory.to_owned(), headers: Cache::new(HEADERS_CACHED), damage: OnceLock::new() }
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Last applied id, membership and summary, as of the last durable write.
    pub fn progress(&self) -> Result<(Option<LogId>, StoredMembership, Summary), DatabaseError> {
        self.snapshot().progress()
    }

    /// The cluster's own row; `None` before `init` has been applied.
    pub fn cluster_row(&self) -> Result<Option<ClusterRow>, DatabaseError> {
        let Some(row) = self.row(&RowKey::cluster())? else { return Ok(None) };
        ClusterRow::decode(row.value).map(Some).map_err(|_| self.damaged("the cluster's row"))
    }

    /// Checks that the state is this cluster's, and its timeline a certified one.
    pub fn check(&self, trust: &Trust, timeline: u64) -> Result<(), DatabaseError> {
        let row = self.cluster_row()?;
        let checked = trust.check_state(row.as_ref(), timeline);
        checked.map_err(|source| DatabaseError::Untrusted { directory: self.directory.clone(), source })
    }

    /// Writes rows and progress atomically. Durable with the next flush; until then the Raft log holds it.
    pub fn write<'r>(
        &self,
        rows: impl Iterator<Item = (&'r Bytes, &'r Option<StoredRow>)> + Clone,
        progress: &Progress<'_>,
    ) -> Result<(), DatabaseError> {
        let bytes =
            rows.clone().map(|(key, row)| key.len() + row.as_ref().map_or(0, |row| row.value.len()) + ROW_BYTES);
        let mut batch = WriteBatch::with_capacity_bytes(BATCH_BYTES + bytes.sum::<usize>());
        let mut value = Vec::new();
        for (key, row) in rows.clone() {
            let family = self.family_of(key);
            match row {
                Some(row) => {
                    value.clear();
                    value.reserve_exact(row.value.len() + ROW_BYTES);
                    value.extend_from_slice(&row.prefix());
                    value.extend_from_slice(&row.value);
                    batch.put_cf(family, key, &value);
                }
                None => batch.delete_cf(family, key),
            }
        }
        if let Some(applied) = &progress.applied {
            batch.put(APPLIED_KEY, codec::encode_log_id(*applied));
        }
        if let Some(membership) = progress.membership {
            batch.put(MEMBERSHIP_KEY, codec::encode_stored_membership(membership));
        }
        batch.put(SUMMARY_KEY, progress.summary.encode());
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|source| self.failed(source))?;
        for (key, row) in rows {
            match row {
                // A key of its own: this one is a slice of the command, and would keep all of it in memory.
                Some(row) if keeps_header(key) => self.headers.insert(Bytes::copy_from_slice(key), row.header),
                Some(_) => {}
                None => {
                    self.headers.remove(key);
                }
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<(), DatabaseError> {
        let families = [META, ROWS, KEYS, BLOCKS, JOURNAL].map(|name| self.family(name));
        self.db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default()).map_err(|source| self.failed(source))
    }

    /// Drops everything that holds keys and closes the database. Their files are unlinked here; a checkpoint's
    /// source keeps its own links. Answers the names of these files, for whoever must not touch one that is
    /// still there.
    pub fn drop_keys(self) -> Result<Vec<String>, DatabaseError> {
        let Database { mut db, directory, .. } = self;
        let failed = |source| DatabaseError::RocksDb { directory: directory.clone(), source };
        let live = db.live_files().map_err(failed)?;
        let of_keys = live.into_iter().filter(|file| file.column_family_name == KEYS);
        let names = of_keys.map(|file| file.name.trim_start_matches('/').to_owned()).collect();
        db.drop_cf(KEYS).map_err(failed)?;
        Ok(names)
    }

    /// Makes a checkpoint: hard links, after a flush. Constant in memory; in time as well, but for
    /// what the memtables hold. `into` must not exist.
    pub fn checkpoint(&self, into: &Path) -> Result<(), DatabaseError> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|source| self.failed(source))?;
        checkpoint.create_checkpoint(into).map_err(|source| self.failed(source))
    }

    /// A whole row.
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, DatabaseError> {
        View::row(self, key.as_bytes())
    }

    /// A row's header.
    ///
    /// For readers beside the apply path: they use the cached headers but never add to them, since
    /// what they read may be overtaken before they could store it.
    pub fn header(&self, key: &RowKey) -> Result<Option<RowHeader>, DatabaseError> {
        match self.headers.get(key.as_bytes()) {
            Some(header) => Ok(Some(header)),
            None => self.read_header(key.as_bytes()),
        }
    }

    fn read_header(&self, row: &[u8]) -> Result<Option<RowHeader>, DatabaseError> {
        let found = self.db.get_pinned_cf(self.family_of(row), row).map_err(|source| self.failed(source))?;
        found.map(|bytes| StoredRow::decode_header(&bytes).map_err(|_| self.damaged("a row"))).transpose()
    }

    /// A view that does not change while it is held. Hold it shortly: it keeps old versions alive.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { database: self, snapshot: self.db.snapshot() }
    }

    /// Bytes of all live files.
    pub fn disk_bytes(&self) -> u64 {
        let of = |property| {
            [META, ROWS, KEYS, BLOCKS, JOURNAL]
                .iter()
                .filter_map(|name| self.db.property_int_value_cf(self.family(name), property).ok().flatten())
                .sum::<u64>()
        };
        of("rocksdb.total-sst-files-size") + of("rocksdb.live-blob-file-size")
    }

    /// What was found damaged by reading here, if anything was.
    pub fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    fn failed(&self, source: rocksdb::Error) -> DatabaseError {
        if source.kind() == ErrorKind::Corruption {
            let _ = self.damage.set(format!("{}: {source}", self.directory.display()));
        }
        DatabaseError::RocksDb { directory: self.directory.clone(), source }
    }

    fn damaged(&self, what: &'static str) -> DatabaseError {
        let _ = self.damage.set(format!("{}: {what} is not in a known form", self.directory.display()));
        DatabaseError::Form { directory: self.directory.clone(), what }
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    fn family_of(&self, row: &[u8]) -> &ColumnFamily {
        let name = match row.first().and_then(|n| Table::from_number(*n)) {
            Some(Table::Block) => BLOCKS,
            Some(Table::Journal | Table::JournalIndex | Table::JournalTree) => JOURNAL,
            Some(table) if table.holds_keys() => KEYS,
            _ => ROWS,
        };
        self.family(name)
    }
}

impl View for Database {
    type Error = DatabaseError;

    fn header(&self, row: &[u8]) -> Result<Option<RowHeader>, DatabaseError> {
        if let Some(header) = self.headers.get(row) {
            return Ok(Some(header));
        }
        let header = self.read_header(row)?;
        if let Some(header) = header
            && keeps_header(row)
        {
            self.headers.insert(Bytes::copy_from_slice(row), header);
        }
        Ok(header)
    }

    fn row(&self, row: &[u8]) -> Result<Option<StoredRow>, DatabaseError> {
        let found = self.db.get_cf(self.family_of(row), row).map_err(|source| self.failed(source))?;
        found.map(|bytes| StoredRow::decode(&bytes.into()).map_err(|_| self.damaged("a row"))).transpose()
    }

    fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, DatabaseError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut iterator = self.db.raw_iterator_cf_opt(self.family_of(from), options);
        iterator.seek(from);
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(key) = iterator.key()
        {
            keys.push(Bytes::copy_from_slice(key));
            iterator.next();
        }
        iterator.status().map_err(|source| self.failed(source))?;
        Ok(keys)
    }
}

/// Rows that decisions expect again and again, and whose keys are few.
fn keeps_header(row: &[u8]) -> bool {
    matches!(
        row.first().and_then(|n| Table::from_number(*n)),
        Some(
            Table::Setting
                | Table::Facility
                | Table::User
                | Table::Application
                | Table::Number
                | Table::Participant
                | Table::ParticipantKey
                | Table::RecordControl
                | Table::Staging
        )
    )
}

/// A consistent view of the database at one applied index.
pub struct Snapshot<'a> {
    database: &'a Database,
    snapshot: rocksdb::Snapshot<'a>,
}

impl Snapshot<'_> {
    /// A whole row.
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, DatabaseError> {
        let family = self.database.family_of(key.as_bytes());
        let found = self.snapshot.get_cf(family, key.as_bytes()).map_err(|source| self.database.failed(source))?;
        found.map(|bytes| StoredRow::decode(&bytes.into()).map_err(|_| self.database.damaged("a row"))).transpose()
    }

    /// Last applied id, membership and summary at this view.
    pub fn progress(&self) -> Result<(Option<LogId>, StoredMembership, Summary), DatabaseError> {
        let meta = |key: &[u8]| self.snapshot.get(key).map_err(|source| self.database.failed(source));
        let form = |what| self.database.damaged(what);
        let applied = match meta(APPLIED_KEY)? {
            Some(bytes) => Some(codec::decode_log_id(&bytes).map_err(|_| form("last applied id"))?),
            None => None,
        };
        let membership = match meta(MEMBERSHIP_KEY)? {
            Some(bytes) => codec::decode_stored_membership(&bytes).map_err(|_| form("membership"))?,
            None => StoredMembership::default(),
        };
        let summary = match meta(SUMMARY_KEY)? {
            Some(bytes) => Summary::decode(&bytes).map_err(|_| form("summary"))?,
            None => Summary::default(),
        };
        Ok((applied, membership, summary))
    }

    /// The cluster's own row at this view.
    pub fn cluster_row(&self) -> Result<Option<ClusterRow>, DatabaseError> {
        let Some(row) = self.row(&RowKey::cluster())? else { return Ok(None) };
        ClusterRow::decode(row.value).map(Some).map_err(|_| self.database.damaged("the cluster's row"))
    }

    /// Hands every row with `from ≤ key < to` to `look`, in order. Both lie in one table, or `to` is the
    /// number of the next. A row is a slice of memory that lives as long as the call.
    pub fn walk<E: From<DatabaseError>>(
        &self,
        from: &[u8],
        to: &[u8],
        mut look: impl FnMut(&[u8], StoredRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(from), options);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            let row = StoredRow::decode(&Bytes::copy_from_slice(value)).map_err(|_| self.database.damaged("a row"))?;
            look(key, row)?;
            iterator.next();
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(())
    }

    /// Rows with `from ≤ key < to`, one after the other; as for [`Snapshot::walk`].
    pub fn cursor(&self, from: &[u8], to: &[u8]) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(from), options);
        iterator.seek(from);
        Cursor { database: self.database, iterator }
    }

    /// Last applied id at this view.
    pub fn applied(&self) -> Result<Option<LogId>, DatabaseError> {
        let found = self.snapshot.get(APPLIED_KEY).map_err(|source| self.database.failed(source))?;
        found
            .map(|bytes| codec::decode_log_id(&bytes).map_err(|_| self.database.damaged("last applied id")))
            .transpose()
    }

    /// Rows whose key begins with `prefix`, in order, from the first key after `after` (a full key)
    /// if one is given, at most `limit`.
    pub fn scan(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        self.scan_in(prefix, after, limit, false)
    }

    /// The first keys that begin with `prefix`, at most `limit`; no value is read.
    pub fn keys(&self, prefix: &RowKey, limit: usize) -> Result<Vec<RowKey>, DatabaseError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix.as_bytes().to_vec()));
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(prefix.as_bytes()), options);
        iterator.seek_to_first();
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(key) = iterator.key()
        {
            keys.push(RowKey::from_bytes(Bytes::copy_from_slice(key)));
            iterator.next();
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(keys)
    }

    /// Like [`Snapshot::scan`], from the last key (or the last before `after`) downwards.
    pub fn scan_back(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        self.scan_in(prefix, after, limit, true)
    }

    fn scan_in(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
        back: bool,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        let prefix = prefix.as_bytes();
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix.to_vec()));
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(prefix), options);
        match (after, back) {
            (None, false) => iterator.seek_to_first(),
            (None, true) => iterator.seek_to_last(),
            (Some(after), false) => {
                iterator.seek(after);
                if iterator.key() == Some(after) {
                    iterator.next();
                }
            }
            (Some(after), true) => {
                iterator.seek_for_prev(after);
                if iterator.key() == Some(after) {
                    iterator.prev();
                }
            }
        }
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some((key, value)) = iterator.item()
        {
            let row = StoredRow::decode(&Bytes::copy_from_slice(value)).map_err(|_| self.database.damaged("a row"))?;
            rows.push((RowKey::from_bytes(Bytes::copy_from_slice(key)), row));
            if back { iterator.prev() } else { iterator.next() }
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(rows)
    }
}

/// Walks rows of a [`Snapshot`] at the caller's pace.
pub struct Cursor<'a> {
    database: &'a Database,
    iterator: rocksdb::DBRawIteratorWithThreadMode<'a, DB>,
}

impl Cursor<'_> {
    /// The present row's key and header; `None` at the end.
    pub fn item(&self) -> Result<Option<(Bytes, RowHeader)>, DatabaseError> {
        let Some((key, value)) = self.iterator.item() else {
            self.iterator.status().map_err(|source| self.database.failed(source))?;
            return Ok(None);
        };
        let header = StoredRow::decode_header(value).map_err(|_| self.database.damaged("a row"))?;
        Ok(Some((Bytes::copy_from_slice(key), header)))
    }

    /// The present row whole; `None` at the end.
    pub fn row(&self) -> Result<Option<StoredRow>, DatabaseError> {
        let value = self.iterator.value();
        let row = value.map(|value| StoredRow::decode(&Bytes::copy_from_slice(value)));
        row.transpose().map_err(|_| self.database.damaged("a row"))
    }

    /// Goes on to the next row.
    pub fn advance(&mut self) {
        self.iterator.next();
    }
}

fn family_options(name: &str, cache: &rocksdb::Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Everything of size is sealed: compression would find nothing.
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(MEMTABLES_BYTES / 2);
    options.set_max_write_buffer_number(2);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_level_zero_file_num_compaction_trigger(TABLES_MERGED);
    let blob_bytes_min = match name {
        BLOCKS => Some(BLOB_BYTES_MIN),
        JOURNAL => Some(JOURNAL_BLOB_BYTES_MIN),
        _ => None,
    };
    if let Some(bytes) = blob_bytes_min {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(bytes);
        options.set_enable_blob_gc(true);
        options.set_blob_file_size(256 << 20);
    }
    options
}
