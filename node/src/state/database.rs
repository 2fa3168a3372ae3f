//! The state's RocksDB instance: options, column families, reads by row key.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use kura_cluster::apply::{Summary, View};
use kura_cluster::row::{ClusterRow, RowHeader, RowKey, StoredRow, Table};
use kura_cluster::timeline::{TimelineError, Trust};
use prost::Message;
use quick_cache::sync::Cache;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, ErrorKind, ReadOptions, WriteBatch, WriteOptions};

use crate::raft::codec;
use crate::raft::types::{LogId, StoredMembership};
use crate::space::{is_full, recovers_by_itself};

mod clear;
mod families;
mod snapshot;

use families::Rewrites;
#[cfg(test)]
pub(super) use families::cleared_by_a_thirty_second;
pub use snapshot::{Cursor, Snapshot};

const APPLIED_KEY: &[u8] = b"applied";
const MEMBERSHIP_KEY: &[u8] = b"membership";
const SUMMARY_KEY: &[u8] = b"summary";

/// Bytes of a batch beside its rows, and of a row beside its key and value, at most: batches are made in one
/// piece, as growing by doubling would leave as much behind again.
const BATCH_BYTES: usize = 4 << 10;
const ROW_BYTES: usize = 96;
/// Row headers kept in memory, so that expectations on hot rows read nothing.
const HEADERS_CACHED: usize = 150_000;
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
    /// Files of it are missing, or not what RocksDB wrote.
    #[error("state database in {directory} is damaged: {source}; replace this member (`kura member replace`)")]
    Damaged {
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
            DatabaseError::RocksDb { source, .. } => recovers_by_itself(source.as_ref()),
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

/// Whether RocksDB could not open because its own files are damaged or missing: no restart mends that.
pub fn lacks_files(error: &rocksdb::Error) -> bool {
    let text: &str = error.as_ref();
    error.kind() == ErrorKind::Corruption || text.contains("No such file") || text.contains("does not exist")
}

/// An open state database.
pub struct Database {
    db: DB,
    directory: PathBuf,
    /// Written by the apply path alone.
    headers: Cache<Bytes, RowHeader>,
    /// Of each family with blob files, how often the part of them that a merge clears is halved.
    cleared: [AtomicU32; families::WITH_BLOBS.len()],
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
        Self::open_with(directory, Rewrites::All)
    }

    /// Opens a database to replay into. What is deleted meanwhile stays in blob files, sealed, until the member that it
    /// becomes clears them: that would write all others again and again.
    pub fn open_to_replay(directory: &Path) -> Result<Database, DatabaseError> {
        Self::open_with(directory, Rewrites::Tables)
    }

    /// Opens a checkpoint's copy, whose files are to stay as they are: nothing is compacted.
    pub fn open_copy(directory: &Path) -> Result<Database, DatabaseError> {
        Self::open_with(directory, Rewrites::Nothing)
    }

    /// Opens a database for a look that changes none of its files; writing to it fails.
    pub fn look(directory: &Path) -> Result<Database, DatabaseError> {
        let (options, families) = families::options(Rewrites::Nothing);
        let db = DB::open_cf_descriptors_read_only(&options, directory, families, false)
            .map_err(|source| DatabaseError::RocksDb { directory: directory.to_owned(), source })?;
        Ok(Self::of(db, directory))
    }

    fn open_with(directory: &Path, rewrites: Rewrites) -> Result<Database, DatabaseError> {
        let (options, families) = families::options(rewrites);
        let db = DB::open_cf_descriptors(&options, directory, families).map_err(|source| {
            let directory = directory.to_owned();
            // "block checksum mismatch" names no lock.
            let text: &str = source.as_ref();
            if text.contains("lock hold by current process") || text.contains("While lock file") {
                return DatabaseError::InUse { directory };
            }
            match lacks_files(&source) {
                true => DatabaseError::Damaged { directory, source },
                false => DatabaseError::RocksDb { directory, source },
            }
        })?;
        let database = Self::of(db, directory);
        if rewrites == Rewrites::All {
            database.bound_clearing()?;
        }
        Ok(database)
    }

    fn of(db: DB, directory: &Path) -> Database {
        Database {
            db,
            directory: directory.to_owned(),
            headers: Cache::new(HEADERS_CACHED),
            cleared: Default::default(),
            damage: OnceLock::new(),
        }
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
        let families = families::ALL.map(|name| self.family(name));
        self.db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default()).map_err(|source| self.failed(source))
    }

    /// Keeps what a merge of tables clears of blob files in proportion to what it brings, as the state grows: call it from
    /// time to time.
    pub fn bound_clearing(&self) -> Result<(), DatabaseError> {
        self.bound_clearing_by(|name| self.blob_bytes(name))
    }

    /// The same, of so many bytes of a family.
    pub(super) fn bound_clearing_by(&self, blob_bytes: impl Fn(&str) -> u64) -> Result<(), DatabaseError> {
        for (name, known) in families::WITH_BLOBS.iter().zip(&self.cleared) {
            let halvings = families::halvings(blob_bytes(name));
            if known.load(Ordering::Relaxed) != halvings {
                let (option, value) = families::cleared_part(halvings);
                let set = self.db.set_options_cf(self.family(name), &[(option, &value)]);
                set.map_err(|source| self.failed(source))?;
                known.store(halvings, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn blob_bytes(&self, name: &str) -> u64 {
        let bytes = self.db.property_int_value_cf(self.family(name), "rocksdb.live-blob-file-size");
        bytes.ok().flatten().unwrap_or(0)
    }

    /// Drops everything that holds keys and closes the database. Their files are unlinked here; a checkpoint's
    /// source keeps its own links. Answers the names of these files, for whoever must not touch one that is
    /// still there.
    pub fn drop_keys(self) -> Result<Vec<String>, DatabaseError> {
        let Database { mut db, directory, .. } = self;
        let failed = |source| DatabaseError::RocksDb { directory: directory.clone(), source };
        let live = db.live_files().map_err(failed)?;
        let of_keys = live.into_iter().filter(|file| file.column_family_name == families::KEYS);
        let names = of_keys.map(|file| file.name.trim_start_matches('/').to_owned()).collect();
        db.drop_cf(families::KEYS).map_err(failed)?;
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
        match self.known_header(key) {
            Some(header) => Ok(Some(header)),
            None => self.read_header(key.as_bytes()),
        }
    }

    /// A row's header, if it is at hand. `None`: the row may be there or not.
    pub fn known_header(&self, key: &RowKey) -> Option<RowHeader> {
        self.headers.get(key.as_bytes())
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
            families::ALL
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
        self.family(families::of(row))
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
