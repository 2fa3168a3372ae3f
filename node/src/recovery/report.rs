//! The statement of a take-over: what was taken over, what is known to be there, what is unconfirmed, what nobody
//! knows. Written into the new data directory, and copied wherever people need it.
//!
//! Invariants
//! - An unconfirmed entry is listed by place, time, action and request id, which clients can compare with their
//!   receipts; no participant, record or body is in it.
//! - What was lost beyond the last entry cannot be counted from what survives: it is UNKNOWN unless somebody had seen
//!   the replication point.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::found::{Known, Place};

/// Its name in the data directory.
pub const FILE: &str = "recovery-report.json";
const FORMAT: u32 = 1;
/// Unconfirmed entries that are listed one by one.
pub const TAIL_MAX: usize = 10_000;

/// An entry beyond the last one that was known to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailEntry {
    /// Where it lies.
    pub place: Place,
    /// The clock of the gateway that proposed it.
    pub at_ms: u64,
    /// What it came to when it was replayed: `committed`, `conflict`, `expired`, `refused`, `absent`; of an entry
    /// without a command `none`.
    pub outcome: String,
    /// What it did, by its journal entries' words.
    pub actions: Vec<String>,
    /// Request ids, in hexadecimal.
    pub requests: Vec<String>,
    /// Rows that it wrote: 0 for a read.
    pub writes: usize,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its form.
    pub format: u32,
    /// The name that people type.
    pub cluster_name: String,
    /// Hexadecimal.
    pub cluster_id: String,
    /// When it was taken over, by this machine's clock.
    pub at_ms: u64,
    /// Which directory was taken over, and whose it was.
    pub from: PathBuf,
    /// Its fingerprint when it was.
    pub fingerprint: String,
    /// `voter` or `backup`.
    pub from_kind: String,
    /// The new timeline.
    pub timeline: u64,
    /// The index at which it begins.
    pub began_index: u64,
    /// The only member.
    pub member: String,
    /// Its Raft id.
    pub raft_id: u64,
    /// The last entry of the former timeline that is there.
    pub last: Place,
    /// The cluster's clock at it: what was acknowledged later is lost.
    pub last_at_ms: u64,
    /// The last entry that was known to be committed. Everything up to it is there.
    pub committed: Place,
    /// Entries beyond it: there, but nobody here knows whether they were acknowledged.
    pub unconfirmed: u64,
    /// They, one by one, at most [`TAIL_MAX`].
    pub tail: Vec<TailEntry>,
    /// The last replication point that somebody had seen; nothing: UNKNOWN.
    pub published_index: Option<u64>,
    /// Entries below that point that are not here; nothing: UNKNOWN.
    pub missing_below_published: Option<u64>,
    /// How the former members are known to be fenced, or the waiver.
    pub fenced: String,
    /// Who may still live somewhere.
    pub former: Vec<Known>,
    /// Entries in the journal, with that of the take-over, and the root of the tree over them, in hexadecimal.
    pub journal_size: u64,
    /// See `journal_size`.
    pub journal_root: String,
    /// Digest of the whole state, in hexadecimal.
    pub state_digest: String,
    /// Rows and digest of each table, in hexadecimal.
    pub tables: Vec<TableTold>,
}

/// A table as it was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTold {
    /// Its word.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Sum of the rows' digests, in hexadecimal.
    pub digest: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no report of this version.
    #[error("{path} is not a report that this version knows")]
    Form {
        /// Which file.
        path: PathBuf,
    },
}

impl Report {
    /// The form that this version writes.
    pub const FORMAT: u32 = FORMAT;

    /// Writes it into a data directory.
    ///
    /// # Errors
    /// [`ReportError::File`].
    pub fn write(&self, data: &Path) -> Result<(), ReportError> {
        use std::io::Write;
        let path = data.join(FILE);
        let failed = |source| ReportError::File { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let mut file = std::fs::File::create(&path).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads the one of a data directory.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn read(data: &Path) -> Result<Report, ReportError> {
        let path = data.join(FILE);
        let bytes = std::fs::read(&path).map_err(|source| ReportError::File { path: path.clone(), source })?;
        let report: Option<Report> = serde_json::from_slice(&bytes).ok();
        report.filter(|report| report.format == FORMAT).ok_or(ReportError::Form { path })
    }
}
