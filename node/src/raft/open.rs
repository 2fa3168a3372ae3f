//! Opening a log directory: refuse damage, refuse less than was promised, refuse strangers.
//!
//! A directory holds `lock` (held while the log is open), `marks` ([`super::marks`]) and `db`, the
//! RocksDB.
//!
//! Invariants
//! - A write-ahead log that is not whole is opened only if what is left of it is at or above all
//!   marks: then what is missing was never acknowledged (a power cut while writing). That is found
//!   out by opening read-only, so that a refused directory keeps its evidence.
//! - Every log opened has no holes, its keys agree with its entries, and terms never go down.
//! - Refusals repeat: nothing here makes a refused directory look better to the next attempt.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{DB, DBRecoveryMode, ErrorKind, ReadOptions, WriteBatch, WriteOptions};

use super::codec::{self, CodecError};
use super::database::{
    Database, ENTRIES, META, OpenDatabase, Warnings, family, file_in, open_rocks, open_rocks_read_only,
};
use super::marks::{LogIdentity, Mark, MarksError, MarksFile, sync_directory};
use super::types::{LogId, Vote};
use crate::space::{is_full, message_says_full};
use crate::state::database::lacks_files;

/// Key of the vote in the column family `meta`.
pub(super) const VOTE_KEY: &[u8] = b"vote";
/// Key of the committed log id.
pub(super) const COMMITTED_KEY: &[u8] = b"committed";
/// Key of the last purged log id.
pub(super) const PURGED_KEY: &[u8] = b"purged";
const IDENTITY_KEY: &[u8] = b"identity";

const SCAN_READAHEAD_BYTES: usize = 2 << 20;

/// What to do with a log that lost what it promised. Never to be solved by deleting a file.
const REPLACE: &str = "Do not delete files here: this node must not vote again under its id. \
    Run `kura member replace` to rebuild it under a new one";

/// Why a log directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has the directory open.
    #[error("the log directory {directory} is in use by another process")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// Bytes that were once synced are wrong or missing.
    #[error("the Raft log is damaged in {file}: {detail}. {REPLACE}")]
    Damaged {
        /// The damaged file, or the directory if RocksDB does not say.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The log is whole but ends before a point that this node had confirmed.
    #[error("the Raft log goes back: it has {found}, but this node once confirmed {mark}. {REPLACE}")]
    BelowMark {
        /// What the log has.
        found: Mark,
        /// What it should have at least.
        mark: Mark,
    },
    /// Entries are missing in the middle, or keys and entries disagree.
    #[error("the Raft log in {directory} has a hole: after {} comes {found}. {REPLACE}", place(.after))]
    Hole {
        /// The log's database.
        directory: String,
        /// The last index in order; `None`: the log's beginning.
        after: Option<u64>,
        /// What was found there instead.
        found: String,
    },
    /// The log is not empty, and its marks file is gone.
    #[error("{file} is missing, so nobody can tell whether the Raft log is whole. {REPLACE}")]
    MarksMissing {
        /// The marks file.
        file: String,
    },
    /// There is a marks file and no log.
    #[error("{file} says that there was a Raft log here, but there is none. {REPLACE}")]
    DatabaseMissing {
        /// The marks file.
        file: String,
    },
    /// The directory belongs to another node, cluster or timeline.
    #[error("the log directory belongs to {found}, but this is {expected}")]
    OtherIdentity {
        /// Whose it is.
        found: LogIdentity,
        /// Who opened it.
        expected: LogIdentity,
    },
    /// Written in a form that this program does not read.
    #[error("the Raft log's {what} cannot be read: {error}")]
    Form {
        /// Which value.
        what: &'static str,
        /// Why not.
        error: CodecError,
    },
    /// The file system failed.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// RocksDB failed for another reason.
    #[error("RocksDB: {0}")]
    Database(#[from] rocksdb::Error),
}

impl OpenError {
    /// Whether space on the disk would help.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { error, .. } => is_full(error),
            Self::Database(error) => message_says_full(error.as_ref()),
            _ => false,
        }
    }
}

fn place(after: &Option<u64>) -> String {
    after.map_or_else(|| "its beginning".into(), |index| format!("index {index}"))
}

/// What a log holds, found by reading all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Recovered {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    /// The last entry, or the last purged one if there is none.
    pub last: Option<LogId>,
    pub identity: Option<LogIdentity>,
}

impl Recovered {
    /// What this log can be held against marks with.
    pub fn mark(&self) -> Mark {
        Mark { vote: self.vote, last: self.last }
    }

    fn is_empty(&self) -> bool {
        self.vote.is_none() && self.last.is_none() && self.committed.is_none()
    }
}

/// An open log directory.
pub(super) struct OpenLog {
    pub database: Arc<Database>,
    pub marks: MarksFile,
    pub recovered: Recovered,
    /// The lock on the directory; released when dropped.
    pub lock: File,
}

/// Opens the directory of `identity`'s log, or makes it if it holds neither marks nor a database.
pub(super) fn open_log(directory: &Path, identity: LogIdentity, peer_marks: &[Mark]) -> Result<OpenLog, OpenError> {
    std::fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
    let lock = take_lock(directory)?;
    let marks_path = directory.join("marks");
    let database_path = directory.join("db");
    let has_marks = exists(&marks_path)?;
    let has_database = exists(&database_path.join("CURRENT"))?;
    let marks_name = || marks_path.display().to_string();

    let mut marks = match (has_marks, has_database) {
        (true, false) => return Err(OpenError::DatabaseMissing { file: marks_name() }),
        (true, true) => {
            Some(MarksFile::open(&marks_path, identity).map_err(|error| marks_error(&marks_path, identity, error))?)
        }
        (false, _) => None,
    };
    let mut promised = peer_marks.to_vec();
    promised.extend(marks.as_ref().map(MarksFile::mark));

    let (open, recovered) = open_checked(&database_path, !has_database, &promised)?;
    match recovered.identity {
        Some(found) if found != identity => {
            return Err(OpenError::OtherIdentity { found, expected: identity });
        }
        Some(_) => {}
        None if has_marks || !recovered.is_empty() => {
            let file = database_path.display().to_string();
            return Err(OpenError::Damaged { file, detail: "whose log this is, is missing".into() });
        }
        // New, or making it was interrupted.
        None => write_identity(&open.rocks, identity)?,
    }
    if marks.is_none() {
        if !recovered.is_empty() {
            return Err(OpenError::MarksMissing { file: marks_name() });
        }
        sync_directory(&database_path).map_err(|error| io_error(directory, error))?;
        marks =
            Some(MarksFile::create(&marks_path, identity).map_err(|error| marks_error(&marks_path, identity, error))?);
    }
    let marks = marks.expect("opened or created above");
    Ok(OpenLog { database: Arc::new(Database::new(database_path, open)), marks, recovered, lock })
}

/// Opens the database of a log and checks it against itself and against the marks.
pub(super) fn open_checked(
    path: &Path,
    create: bool,
    promised: &[Mark],
) -> Result<(OpenDatabase, Recovered), OpenError> {
    let warnings = Warnings::default();
    let error = match open_rocks(path, DBRecoveryMode::AbsoluteConsistency, create, &warnings) {
        Ok(open) => {
            let recovered = scan(&open.rocks, path)?;
            return match unmet(&recovered, promised) {
                None => Ok((open, recovered)),
                Some(mark) => Err(OpenError::BelowMark { found: recovered.mark(), mark }),
            };
        }
        Err(error) => error,
    };
    if error.kind() != ErrorKind::Corruption {
        return Err(refusal(path, error));
    }
    let file =
        warnings.damaged_file().or_else(|| file_in(error.as_ref())).unwrap_or_else(|| path.display().to_string());
    let damaged = |detail: String| OpenError::Damaged { file: file.clone(), detail };

    // A torn end, or damage? Look without touching.
    let recovered = {
        let look = open_rocks_read_only(path, DBRecoveryMode::PointInTime, &warnings)
            .map_err(|second| damaged(second.to_string()))?;
        scan(&look, path)?
    };
    if let Some(mark) = unmet(&recovered, promised) {
        let found = recovered.mark();
        return Err(damaged(format!("{error}; what can be read has {found}, this node once confirmed {mark}")));
    }
    tracing::warn!(
        file,
        "the end of the Raft log was torn, as after a power cut; nothing that was confirmed is missing"
    );
    let open = open_rocks(path, DBRecoveryMode::PointInTime, false, &warnings).map_err(|error| refusal(path, error))?;
    let recovered = scan(&open.rocks, path)?;
    Ok((open, recovered))
}

/// A mark that the log does not reach.
fn unmet(recovered: &Recovered, promised: &[Mark]) -> Option<Mark> {
    promised.iter().find(|mark| !recovered.mark().covers(mark)).copied()
}

/// Reads the whole log once, in bounded memory and without copying commands.
pub(super) fn scan(rocks: &DB, path: &Path) -> Result<Recovered, OpenError> {
    let damaged = |error: rocksdb::Error| match error.kind() {
        ErrorKind::Corruption => OpenError::Damaged {
            file: file_in(error.as_ref()).unwrap_or_else(|| path.display().to_string()),
            detail: error.to_string(),
        },
        _ => OpenError::Database(error),
    };
    let read = |key: &[u8]| rocks.get_pinned_cf(family(rocks, META), key).map_err(damaged);
    let form = |what| move |error| OpenError::Form { what, error };

    let vote = read(VOTE_KEY)?.map(|b| codec::decode_vote(&b)).transpose().map_err(form("vote"))?;
    let committed = read(COMMITTED_KEY)?.map(|b| codec::decode_log_id(&b)).transpose();
    let committed = committed.map_err(form("committed log id"))?;
    let purged = read(PURGED_KEY)?.map(|b| codec::decode_log_id(&b)).transpose();
    let purged = purged.map_err(form("purged log id"))?;
    let identity = read(IDENTITY_KEY)?.map(|b| decode_identity(&b)).transpose();
    let identity = identity.map_err(form("identity"))?;

    let mut last = purged;
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(SCAN_READAHEAD_BYTES);
    let mut rows = rocks.raw_iterator_cf_opt(family(rocks, ENTRIES), options);
    rows.seek(next_index(last).to_be_bytes());
    while let Some((key, value)) = rows.item() {
        let after = last.map(|id| id.index);
        let hole = |found| OpenError::Hole { directory: path.display().to_string(), after, found };
        let id = codec::entry_log_id(value).map_err(|error| hole(format!("an entry whose {error}")))?;
        if key != id.index.to_be_bytes() {
            return Err(hole(format!("entry {id} under the key {key:02x?}")));
        }
        if id.index != next_index(last) || last.is_some_and(|last| id.leader_id < last.leader_id) {
            return Err(hole(format!("entry {id}")));
        }
        last = Some(id);
        rows.next();
    }
    rows.status().map_err(damaged)?;
    Ok(Recovered { vote, committed, purged, last, identity })
}

/// The index after `last`; 0 begins a log.
pub(super) fn next_index(last: Option<LogId>) -> u64 {
    last.map_or(0, |id| id.index.saturating_add(1))
}

fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let lock =
        File::options().write(true).create(true).truncate(false).open(&path).map_err(|error| io_error(&path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(in_use(directory)),
        Err(TryLockError::Error(error)) => Err(io_error(&path, error)),
    }
}

fn write_identity(rocks: &DB, identity: LogIdentity) -> Result<(), OpenError> {
    let mut value = vec![codec::FORMAT];
    identity.put_fields(&mut value);
    let mut batch = WriteBatch::default();
    batch.put_cf(family(rocks, META), IDENTITY_KEY, value);
    let mut options = WriteOptions::default();
    options.set_sync(true);
    Ok(rocks.write_opt(batch, &options)?)
}

pub(super) fn decode_identity(bytes: &[u8]) -> Result<LogIdentity, CodecError> {
    let (identity, rest) = LogIdentity::take_fields("identity", codec::body("identity", bytes)?)?;
    codec::ended("identity", rest)?;
    Ok(identity)
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|error| io_error(path, error))
}

fn refusal(path: &Path, error: rocksdb::Error) -> OpenError {
    let text: &str = error.as_ref();
    if text.contains("lock hold by current process") || text.contains("While lock file") {
        return in_use(path);
    }
    if lacks_files(&error) {
        let file = file_in(text).unwrap_or_else(|| path.display().to_string());
        return OpenError::Damaged { file, detail: error.to_string() };
    }
    OpenError::Database(error)
}

fn in_use(path: &Path) -> OpenError {
    OpenError::InUse { directory: path.display().to_string() }
}

fn io_error(path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { path: path.display().to_string(), error }
}

fn marks_error(path: &Path, identity: LogIdentity, error: MarksError) -> OpenError {
    let file = path.display().to_string();
    match error {
        MarksError::Io(error) => OpenError::Io { path: file, error },
        MarksError::OtherIdentity(found) => OpenError::OtherIdentity { found, expected: identity },
        MarksError::Damaged => OpenError::Damaged { file, detail: error.to_string() },
        MarksError::Codec(error) => OpenError::Form { what: "marks file", error },
    }
}
