//! Checks of a member's files against the checksums in them, and of its rows against its own digests.
//!
//! Copies are checked: checkpoints, which are hard links to the files themselves, opened apart, so that no cache
//! of the running node answers in the disk's place. The log's write-ahead files are read where they lie.
//!
//! Invariants
//! - Nothing here writes to what is checked.
//! - Damage names a file where one can be named. A check that could not run is no word on anything.
//! - Reading keeps to a pace that the caller sets, and ends when the caller says so.

mod files;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kura_cluster::apply::Summary;
use kura_cluster::digest::Digest;
use kura_cluster::row::Table;
use rocksdb::ErrorKind;
use sha2::{Digest as _, Sha256};

use crate::raft::database::file_in;
use crate::raft::log_store::LogWatch;
use crate::state::{Database, DatabaseError};

/// Why a check ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// Something is not what was once written.
    #[error("{file}: {what}")]
    Damaged {
        /// The file, or the database's directory if none can be named.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The check could not be carried through.
    #[error("{0}")]
    Failed(String),
    /// The caller ended it.
    #[error("ended before its end")]
    Ended,
}

/// Told how many bytes were read since the last call; may wait, and may end the check.
pub type Pace<'p> = &'p mut dyn FnMut(u64) -> Result<(), ScrubError>;

/// Bytes of the files in a directory that a check of it reads.
pub fn bytes_to_read(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = files.filter_map(|file| {
        let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
        // Blob files are read as files, and once more for their rows.
        Some(if is_blob_file(&file.path()) { 2 * length } else { length })
    });
    bytes.sum()
}

/// Checks a state's checkpoint; answers the log index that it is of.
///
/// # Errors
/// [`ScrubError`].
pub fn check_state(directory: &Path, pace: Pace<'_>) -> Result<u64, ScrubError> {
    check_blob_files(directory, pace)?;
    let database = Database::open_copy(directory).map_err(|error| of_state(&error, directory))?;
    let view = database.snapshot();
    let (applied, _, summary) = view.progress().map_err(|error| of_state(&error, directory))?;
    for table in Table::ALL {
        check_table(&view, &table, &summary, directory, pace)?;
    }
    Ok(applied.map_or(0, |id| id.index))
}

/// Names the damaged blob file of a database, if one is: RocksDB itself does not name those. A checkpoint made at `copy`,
/// which must not exist, tells which files count, and is removed: one that is being written has no end yet.
pub fn damaged_blob_file(database: &Database, copy: &Path) -> Option<String> {
    let found = match database.checkpoint(copy) {
        Ok(()) => check_blob_files(copy, &mut |_| Ok(())),
        Err(error) => {
            tracing::warn!(%error, "no copy could be made to look which file is damaged");
            return None;
        }
    };
    if let Err(error) = fs::remove_dir_all(copy) {
        tracing::warn!(%error, "the copy that was looked at could not be removed");
    }
    match found {
        Err(error @ ScrubError::Damaged { .. }) => Some(in_place(&error.to_string(), copy, database.directory())),
        _ => None,
    }
}

fn check_blob_files(directory: &Path, pace: Pace<'_>) -> Result<(), ScrubError> {
    let files = fs::read_dir(directory).map_err(|error| failed(directory, &error))?;
    let blobs: BTreeSet<PathBuf> = files.flatten().map(|file| file.path()).filter(|path| is_blob_file(path)).collect();
    blobs.iter().try_for_each(|path| files::check_blob_file(path, pace))
}

fn check_table(
    view: &crate::state::database::Snapshot<'_>,
    table: &Table,
    summary: &Summary,
    directory: &Path,
    pace: Pace<'_>,
) -> Result<(), ScrubError> {
    enum Found {
        Database(DatabaseError),
        Scrub(ScrubError),
    }
    impl From<DatabaseError> for Found {
        fn from(error: DatabaseError) -> Found {
            Found::Database(error)
        }
    }
    let wrong = |what: String| ScrubError::Damaged { file: directory.display().to_string(), what };
    let (mut rows, mut digest) = (0, Digest::default());
    let number = table.number();
    let walked = view.walk::<Found>(&[number], &[number + 1], |key, row| {
        if Sha256::digest(&row.value)[..] != row.header.value_sha256[..] {
            return Err(Found::Scrub(wrong(format!("a row of the table {} is not what its hash says", table.word()))));
        }
        rows += 1;
        digest.add(Digest::of_row(key, &row.header));
        pace((key.len() + row.value.len()) as u64).map_err(Found::Scrub)
    });
    walked.map_err(|found| match found {
        Found::Database(error) => of_state(&error, directory),
        Found::Scrub(error) => error,
    })?;
    let expected = summary.table(*table);
    if (rows, digest) != (expected.rows, expected.digest) {
        return Err(wrong(format!("the {rows} rows of the table {} are not those that were applied", table.word())));
    }
    Ok(())
}

/// Checks the log: its write-ahead files in place, and its tables in a checkpoint made at `copy`, which must not
/// exist and is left there.
///
/// # Errors
/// [`ScrubError`].
pub fn check_log(log: &LogWatch, copy: &Path, pace: Pace<'_>) -> Result<(), ScrubError> {
    let mut written_ahead = files::numbered(log.directory(), "log").map_err(|error| failed(log.directory(), &error))?;
    written_ahead.sort_unstable();
    let newest = written_ahead.last().map(|(number, _)| *number);
    for (number, path) in &written_ahead {
        match files::check_log_file(path, Some(*number) == newest, pace) {
            // Given up meanwhile, since its entries were written out or purged.
            Err(ScrubError::Failed(_)) if !path.exists() => {}
            other => other?,
        }
    }
    let entries = log.checkpoint(copy).map_err(|error| failed(copy, &error))?;
    let checked = entries.check(&mut |bytes| pace(bytes).map_err(io::Error::other));
    match checked {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast::<ScrubError>() {
            Ok(error) => Err(error),
            Err(error) => match file_in(&error.to_string()) {
                Some(file) => {
                    let file = log.directory().join(file).display().to_string();
                    Err(ScrubError::Damaged { file, what: error.to_string() })
                }
                None if error.kind() == io::ErrorKind::InvalidData => {
                    Err(ScrubError::Damaged { file: log.directory().display().to_string(), what: error.to_string() })
                }
                None => Err(ScrubError::Failed(error.to_string())),
            },
        },
    }
}

fn is_blob_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "blob")
}

fn of_state(error: &DatabaseError, directory: &Path) -> ScrubError {
    let is_damage = match error {
        DatabaseError::RocksDb { source, .. } | DatabaseError::Damaged { source, .. } => {
            source.kind() == ErrorKind::Corruption
        }
        DatabaseError::Form { .. } => true,
        _ => false,
    };
    let what = error.to_string();
    if !is_damage {
        return ScrubError::Failed(what);
    }
    // RocksDB blames the manifest, too, for a table whose properties it cannot read: its words say what it saw.
    let file = file_in(&what).filter(|file| !file.starts_with("MANIFEST"));
    let file = file.map_or_else(|| directory.to_owned(), |file| directory.join(file));
    ScrubError::Damaged { file: file.display().to_string(), what }
}

fn failed(path: &Path, error: &io::Error) -> ScrubError {
    ScrubError::Failed(format!("{}: {error}", path.display()))
}

/// The name of the file in `words` that says what is damaged where it really lies: copies are checked.
pub fn in_place(words: &str, copy: &Path, original: &Path) -> String {
    words.replace(&copy.display().to_string(), &original.display().to_string())
}

#[cfg(test)]
mod tests;
