//! What a restore has done, as a file beside the data: `restore-report.json`. No identifier of a person is in it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::left_out::Bodiless;

/// Name of the file in the restored data directory.
pub const FILE: &str = "restore-report.json";
const FORMAT: u32 = 1;
const BYTES_MAX: u64 = 1 << 20;

/// What became of the rows of a table that goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table's word.
    pub table: String,
    /// Rows that are there.
    pub kept: u64,
    /// Rows that are newer than the target, left out.
    pub newer_left_out: u64,
    /// Rows that had been changed or deleted since, and came back.
    pub came_back: u64,
    /// Rows of participants whose keys are gone, left out.
    pub erased_left_out: u64,
    /// Rows of uploads that were under way, left out.
    pub unfinished_left_out: u64,
}

/// A table of the restored state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// The table's word.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Their digest, hexadecimal.
    pub digest: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub format: u32,
    /// When it was finished, milliseconds since 1970.
    pub at_ms: u64,
    /// The archive, as it was given.
    pub from: String,
    /// The cluster, hexadecimal.
    pub cluster_id: String,
    /// Records are those of this entry.
    pub index: u64,
    /// The cluster's clock at it.
    pub clock_ms: u64,
    /// Everything else is as of this entry, the archive's last.
    pub newest_index: u64,
    /// The cluster's clock at it.
    pub newest_clock_ms: u64,
    /// Entries of the journal there.
    pub archived_journal_size: u64,
    /// Its root, hexadecimal: the last archived head, which the restored journal goes on from.
    pub archived_journal_root: String,
    /// Whether a witnessed head was held against it.
    pub head_checked: bool,
    /// Why none was, as it stands in the journal; empty if one was.
    pub waiver: String,
    /// How the former members are known to be fenced, or the waiver, as it stands in the journal; empty in reports of
    /// before this was asked.
    #[serde(default)]
    pub fenced: String,
    /// The new timeline.
    pub timeline: u64,
    /// Raft id of its first voter.
    pub raft_id: u64,
    /// Its name.
    pub voter: String,
    /// Log index at which the timeline begins.
    pub began_index: u64,
    /// Last applied entry of the restored state.
    pub applied_index: u64,
    /// Position of the journal's entry about this restore.
    pub journal_position: u64,
    /// Entries of the journal now.
    pub journal_size: u64,
    /// Its root, hexadecimal.
    pub journal_root: String,
    /// Digest of the whole state, hexadecimal.
    pub state_digest: String,
    /// Tables, with their digests.
    pub tables: Vec<TableDigest>,
    /// What became of the tables that go back.
    pub went_back: Vec<TableReport>,
    /// Tables that were kept as they are newest and differ from what they were at the target.
    pub kept_newer: Vec<String>,
    /// Entries that were never archived, first and last.
    pub holes: Vec<(u64, u64)>,
    /// Bytes read from the archive by the run that finished.
    pub bytes: u64,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
    /// Records that have no body any more and are hidden, narrowed or held all the same.
    #[serde(default)]
    pub restricted_left_out: u64,
    /// The first 2,000 of them.
    #[serde(default)]
    pub restricted: Vec<Bodiless>,
}

impl Report {
    /// The format that is written.
    pub const FORMAT: u32 = FORMAT;

    /// Reads the report in a data directory; `None` if it was not restored.
    ///
    /// # Errors
    /// What the system says, or that it is in no known form.
    pub fn read(data: &Path) -> std::io::Result<Option<Report>> {
        let path = data.join(FILE);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > BYTES_MAX => return Err(std::io::Error::other("it is too long")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let report: Report = serde_json::from_slice(&std::fs::read(&path)?)?;
        match report.format {
            FORMAT => Ok(Some(report)),
            _ => Err(std::io::Error::other("it is of a newer format")),
        }
    }
}
