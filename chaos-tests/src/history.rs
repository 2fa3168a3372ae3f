//! Histories: what the clients of a run saw and what was done to its nodes, as JSON lines.
//!
//! Format, version 1: one [`Line`] a line; a [`Header`] first, an [`End`] last. Times are
//! microseconds since the run began, on one monotonic clock. Participants and facilities appear
//! under labels of the run (`p03`, `home`), never under their numbers. Formats are made of this
//! module's own types; a change of their form raises [`FORMAT`].
//!
//! Invariants
//! - An operation is one line, written when it ended; one that never ended is in no history, and
//!   such a history has no [`End`].
//! - Lines lie in the order in which they were written, not in that of their times.

mod file;
mod nemesis;
mod operation;
mod told;

use serde::{Deserialize, Serialize};

pub use file::{HistoryError, Recorder, read};
pub use nemesis::{FaultResult, Machine, Members, Nemesis, NemesisEvent};
pub use operation::{Action, Committed, ListedRecord, Operation, Outcome, Revision};
pub use told::{Entry, JournalHead, Leaves, MemberStatus, Status};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first line.
    Header(Header),
    /// What a client did.
    Operation(Operation),
    /// What was done to the nodes.
    Nemesis(Nemesis),
    /// What the cluster told of itself.
    Status(Status),
    /// All clients of the load are at rest: nothing is under way, and no outcome is unknown.
    Rest {
        /// When, in microseconds.
        at_us: u64,
    },
    /// They go on.
    Work {
        /// When, in microseconds.
        at_us: u64,
    },
    /// The members changed.
    Members(Members),
    /// What a node needs of its machine.
    Machine(Machine),
    /// Hashes of the journal's entries, in order.
    Leaves(Leaves),
    /// What an auditor is told of the journal's entries.
    Entries {
        /// The entries, in any order.
        entries: Vec<Entry>,
    },
    /// From here on every operation is part of the final scan.
    FinalScan {
        /// When, in microseconds.
        at_us: u64,
    },
    /// The last line.
    End(End),
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The name of the run.
    pub run: String,
    /// The seed, from which the schedule follows.
    pub seed: u64,
    /// Rounds of faults.
    pub rounds: u32,
    /// What the binary under test says of itself.
    pub version: String,
    /// When the run began, in milliseconds since 1970-01-01 UTC.
    pub began_ms: u64,
    /// The voters, by name.
    pub voters: Vec<String>,
    /// The backups, by name.
    pub backups: Vec<String>,
    /// What a run must reach, or it says nothing.
    pub floors: Floors,
    /// Kinds of faults each of which must have hit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// What could not be set up here. Such a run is never whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_run: Vec<NotRun>,
    /// What a node may need of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

/// Something that could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotRun {
    /// The kind of fault.
    pub kind: String,
    /// Why.
    pub why: String,
}

/// What a node may need of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Resident memory, in MiB.
    pub memory_mib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Bytes on its disk for each byte of acknowledged bodies.
    pub disk_factor: u64,
    /// Bytes on its disk besides.
    pub disk_base_mib: u64,
}

/// What a run must reach, or it is vacuous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// Acknowledged writes of records.
    pub writes: u64,
    /// Successful reads outside the final scan.
    pub reads: u64,
    /// Acknowledged revocations.
    pub revocations: u64,
    /// Rounds in which every chosen node was killed.
    pub kills: u64,
    /// Of those, rounds in which the leader was among the killed.
    pub leader_kills: u64,
    /// Of those, rounds in which some write was under way.
    pub kills_under_writing: u64,
    /// Operations of the load that the cluster answered, in all.
    #[serde(default)]
    pub operations: u64,
    /// Faults that hit.
    #[serde(default)]
    pub faults: u64,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at_us: u64,
    /// Operations in the history.
    pub operations: u64,
}
