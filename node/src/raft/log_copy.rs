//! A copy of the log's tables, to be read apart from the running log.
//!
//! Invariant: the copy shares its tables with the log and is opened for reading only; nothing is written.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DBRecoveryMode, ReadOptions};

use super::codec;
use super::database::{Database, ENTRIES, Warnings, family, open_rocks_read_only};

/// Never flushes: what is in memory is not what is checked.
const NO_FLUSH: u64 = u64::MAX;

/// See the module.
pub struct LogCopy(PathBuf);

impl LogCopy {
    pub(super) fn make(database: &Database, into: &Path) -> io::Result<LogCopy> {
        let made = database.with(|rocks| Checkpoint::new(rocks)?.create_checkpoint_with_log_size(into, NO_FLUSH));
        made?.map_err(io::Error::other)?;
        // The write-ahead files are read where they lie; replaying them here would take their size in memory.
        for file in fs::read_dir(into)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::remove_file(path)?;
            }
        }
        Ok(LogCopy(into.to_owned()))
    }

    /// Reads every entry in the tables; tells `seen` their bytes, and ends with its error.
    ///
    /// # Errors
    /// RocksDB's, which name the damaged file; `InvalidData` for an entry that is none; `seen`'s.
    pub fn check(&self, seen: &mut dyn FnMut(u64) -> io::Result<()>) -> io::Result<()> {
        let warnings = Warnings::default();
        let rocks = open_rocks_read_only(&self.0, DBRecoveryMode::PointInTime, &warnings).map_err(io::Error::other)?;
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut rows = rocks.raw_iterator_cf_opt(family(&rocks, ENTRIES), options);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let id = codec::entry_log_id(value).map_err(|error| invalid(format!("an entry: {error}")))?;
            if key != id.index.to_be_bytes() {
                return Err(invalid(format!("entry {id} lies under another index")));
            }
            seen((key.len() + value.len()) as u64)?;
            rows.next();
        }
        rows.status().map_err(io::Error::other)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
