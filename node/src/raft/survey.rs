//! A look at a stopped node's log that changes nothing: for a recovery, which has to judge what survives.
//!
//! Invariants
//! - What is looked at is a mirror ([`crate::recovery::mirror`]): RocksDB writes its own notes beside it.
//! - A log whose end is torn is read up to there, and the damage is told, never passed over.

use std::path::Path;

use rocksdb::{DB, DBRecoveryMode};

use super::database::{Limits, ReadError, Warnings, open_rocks_read_only, read_entries};
use super::log_store::{READ_BYTES_MAX, READ_ENTRIES_MAX};
use super::marks::{self, LogIdentity, Mark, MarksError};
use super::open::{OpenError, Recovered, next_index, scan};
use super::types::{Entry, LogId, Vote};

/// Why a log could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// See [`OpenError`].
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The marks file.
    #[error("the marks file: {0}")]
    Marks(#[from] MarksError),
    /// An entry could not be read.
    #[error("{0}")]
    Read(String),
}

impl From<ReadError> for SurveyError {
    fn from(error: ReadError) -> SurveyError {
        SurveyError::Read(error.to_string())
    }
}

/// A log that is looked at.
pub struct Survey {
    rocks: DB,
    recovered: Recovered,
    mark: Option<Mark>,
    torn: Option<String>,
}

impl Survey {
    /// Looks at the database in `database`, and at the marks file beside the original.
    ///
    /// # Errors
    /// [`SurveyError`].
    pub fn open(database: &Path, marks_file: &Path) -> Result<Survey, SurveyError> {
        let warnings = Warnings::default();
        let (rocks, torn) = match open_rocks_read_only(database, DBRecoveryMode::AbsoluteConsistency, &warnings) {
            Ok(rocks) => (rocks, None),
            Err(error) => {
                let rocks = open_rocks_read_only(database, DBRecoveryMode::PointInTime, &warnings)
                    .map_err(OpenError::Database)?;
                (rocks, Some(error.to_string()))
            }
        };
        let recovered = scan(&rocks, database)?;
        let mark = match marks_file.exists() {
            true => Some(marks::look(marks_file)?.1),
            false => None,
        };
        Ok(Survey { rocks, recovered, mark, torn })
    }

    /// Whose log it is.
    pub fn identity(&self) -> Option<LogIdentity> {
        self.recovered.identity
    }

    /// The vote that was saved last.
    pub fn vote(&self) -> Option<Vote> {
        self.recovered.vote
    }

    /// The last entry that this node knew to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.recovered.committed
    }

    /// The last entry that is there, or was purged.
    pub fn last(&self) -> Option<LogId> {
        self.recovered.last
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogId> {
        self.recovered.purged
    }

    /// How its end is torn, if it is.
    pub fn torn(&self) -> Option<&str> {
        self.torn.as_deref()
    }

    /// What the node had promised beyond what its log holds.
    pub fn lost(&self) -> Option<Mark> {
        self.mark.filter(|mark| !self.recovered.mark().covers(mark))
    }

    /// The first entries from an index on; none at the log's end.
    ///
    /// # Errors
    /// [`SurveyError::Read`].
    pub fn entries_from(&self, start: u64) -> Result<Vec<Entry>, SurveyError> {
        let limits = Limits { bytes: READ_BYTES_MAX, entries: READ_ENTRIES_MAX };
        Ok(read_entries(&self.rocks, start, next_index(self.recovered.last), limits)?)
    }

    /// One entry; none: it is not there.
    ///
    /// # Errors
    /// [`SurveyError::Read`].
    pub fn entry(&self, index: u64) -> Result<Option<Entry>, SurveyError> {
        let limits = Limits { bytes: READ_BYTES_MAX, entries: 1 };
        Ok(read_entries(&self.rocks, index, index + 1, limits)?.pop())
    }
}
