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

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

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

/// A position in the cluster's log. Ordered as the cluster's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The timeline.
    pub timeline: u64,
    /// The log index.
    pub index: u64,
}

/// What a client did, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// From 1, unique in the history.
    pub id: u64,
    /// The client.
    pub client: String,
    /// The node asked, where the client could ask no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The participant concerned.
    pub participant: String,
    /// The facility that acts, or that a grant or revocation names.
    pub facility: String,
    /// When it was called.
    pub call_us: u64,
    /// When it returned.
    pub return_us: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub action: Action,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Write a record.
    Put {
        /// The request id, in hexadecimal.
        request: String,
        /// The author's document id, if one was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        /// SHA-256 of the body, in hexadecimal.
        body_sha256: String,
        /// Length of the body.
        body_bytes: u64,
    },
    /// Read a record.
    Get {
        /// The record.
        record: String,
    },
    /// List a participant's records.
    List,
    /// Name a facility.
    Grant {
        /// The request id.
        request: String,
    },
    /// Take it back.
    Revoke {
        /// The request id.
        request: String,
    },
    /// Ask what became of a write.
    Resolve {
        /// The request id of the write.
        of: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// A write was acknowledged; also of [`Action::Resolve`], if it was committed.
    Committed(Committed),
    /// A record came, all of it.
    Read {
        /// SHA-256 of the bytes that came, in hexadecimal.
        sha256: String,
        /// How many came.
        bytes: u64,
        /// The version.
        version: u32,
        /// Where it was decided.
        at: Revision,
        /// The journal entry that the reply names.
        journal: u64,
    },
    /// A list came, all of it.
    Listed {
        /// The records.
        records: Vec<ListedRecord>,
    },
    /// Of [`Action::Resolve`]: not committed, and never will be.
    Absent,
    /// Of [`Action::Resolve`]: no longer remembered.
    Forgotten,
    /// Refused for lack of consent.
    Denied {
        /// Its journal entry, unless it was only counted.
        #[serde(default, rename = "journal", skip_serializing_if = "Option::is_none")]
        entry: Option<u64>,
    },
    /// What was named is not there.
    Missing,
    /// It certainly did nothing.
    Failed {
        /// The error.
        error: String,
        /// Whether the cluster could not do it just then; otherwise something is wrong.
        passing: bool,
    },
    /// It may have been committed, or may still be.
    Unknown {
        /// The error.
        error: String,
    },
}

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The record; empty if none was written.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The log position.
    pub at: Revision,
    /// Term of the leader that acknowledged it.
    pub term: u64,
    /// The journal entry.
    pub journal: u64,
    /// How far it had come.
    pub reach: String,
    /// Whether it tells again of an earlier write.
    pub repeated: bool,
}

/// A record in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRecord {
    /// The record.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The document id; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document: String,
}

/// What was done to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nemesis {
    /// The round, from 1.
    pub round: u32,
    /// When it was done.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub event: NemesisEvent,
}

/// A kind of fault. Further kinds of faults are further variants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum NemesisEvent {
    /// SIGKILL, and the nodes were seen to die of it.
    Kill {
        /// What was aimed at.
        target: String,
        /// The nodes.
        nodes: Vec<String>,
        /// Whether the leader was among them, as far as anyone knew just before.
        leader: bool,
        /// Writes under way at that moment.
        writes_under_way: u64,
    },
    /// Nodes were started again.
    Start {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// A fault was to be set.
    Begin {
        /// Its number.
        fault: u32,
        /// Its kind.
        kind: String,
        /// The nodes.
        nodes: Vec<String>,
        /// Whether the leader was among them, as far as anyone knew just before.
        leader: bool,
        /// What came of it.
        result: FaultResult,
        /// Why not, or what was done.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A fault was taken back; the line's time is when that began.
    Heal {
        /// Its number.
        fault: u32,
        /// When it was over.
        done_us: u64,
        /// Whether it came to anything, as far as that can be told.
        result: FaultResult,
        /// What was seen of it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
}

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultResult {
    /// It was there.
    Installed,
    /// It was not set: it would have damaged a quorum, or there was nobody to do it to.
    Skipped,
    /// Nobody knows whether it was there.
    Indeterminate,
}

/// The members, from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// When.
    pub at_us: u64,
    /// The voters, by name.
    pub voters: Vec<String>,
    /// The backups, by name.
    pub backups: Vec<String>,
}

/// What a node needs of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// When.
    pub at_us: u64,
    /// The node.
    pub node: String,
    /// Resident memory, in MiB.
    pub memory_mib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Bytes in its data directory.
    pub disk_bytes: u64,
}

/// Hashes of journal entries as one node tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// The node.
    pub node: String,
    /// The position of the first.
    pub from: u64,
    /// RFC 6962 leaf hashes, in hexadecimal.
    pub leaves: Vec<String>,
}

/// A journal entry as an auditor is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub position: u64,
    /// What was done or asked for.
    pub action: String,
    /// The facility that acted; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub facility: String,
    /// The participant concerned, if it takes part in the run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub participant: String,
    /// Whether it was denied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
}

/// A head of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHead {
    /// How many entries there were.
    pub entries: u64,
    /// The root of their tree, in hexadecimal.
    pub root: String,
}

/// What the cluster told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When.
    pub at_us: u64,
    /// The timeline.
    pub timeline: u64,
    /// The leader, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The journal's head at the node that told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalHead>,
    /// Whether this closes a check for which every member must be there and equal.
    pub settled: bool,
    /// The members that answered.
    pub members: Vec<MemberStatus>,
}

/// A member that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its applied index.
    pub applied: u64,
    /// The index of the digest.
    pub digest_index: u64,
    /// The digest of its state, in hexadecimal.
    pub digest: String,
    /// What it says is wrong with it; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at_us: u64,
    /// Operations in the history.
    pub operations: u64,
}

/// Why a history was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not of the format.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

struct Sink {
    file: BufWriter<File>,
    operations: u64,
    /// The first failure: later writes do nothing, and [`Recorder::end`] tells it.
    failed: Option<io::Error>,
}

/// Writes a history. Shared by all of a run's tasks.
pub struct Recorder {
    path: PathBuf,
    began: Instant,
    sink: Mutex<Sink>,
}

impl Recorder {
    /// Begins a history; the run's time begins now.
    ///
    /// # Errors
    /// [`HistoryError::File`].
    pub fn create(path: impl Into<PathBuf>, header: Header) -> Result<Self, HistoryError> {
        let path = path.into();
        let file = File::create(&path).map_err(|source| HistoryError::File { path: path.clone(), source })?;
        let sink = Sink { file: BufWriter::new(file), operations: 0, failed: None };
        let recorder = Self { path, began: Instant::now(), sink: Mutex::new(sink) };
        recorder.write(&Line::Header(header));
        Ok(recorder)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Microseconds since the run began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line. A failure is told by [`Recorder::end`].
    pub fn write(&self, line: &Line) {
        write_line(&mut self.sink(), line);
    }

    /// Writes an operation, giving it the next id.
    pub fn operation(&self, operation: Operation) {
        let mut sink = self.sink();
        sink.operations += 1;
        let operation = Operation { id: sink.operations, ..operation };
        write_line(&mut sink, &Line::Operation(operation));
    }

    /// Writes what is still in memory to the file, so that it can be read while the run goes on.
    pub fn flush(&self) {
        let mut sink = self.sink();
        if let Err(error) = sink.file.flush() {
            sink.failed.get_or_insert(error);
        }
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// [`HistoryError::File`], also of any earlier line.
    pub fn end(&self) -> Result<(), HistoryError> {
        let at_us = self.now_us();
        let mut sink = self.sink();
        let end = End { at_us, operations: sink.operations };
        write_line(&mut sink, &Line::End(end));
        let flushed = sink.file.flush();
        match sink.failed.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(source) => Err(HistoryError::File { path: self.path.clone(), source }),
        }
    }
}

fn write_line(sink: &mut Sink, line: &Line) {
    if sink.failed.is_some() {
        return;
    }
    let written =
        serde_json::to_writer(&mut sink.file, line).map_err(io::Error::from).and_then(|()| sink.file.write_all(b"\n"));
    sink.failed = written.err();
}

/// Reads a history.
///
/// # Errors
/// [`HistoryError`], naming the line.
pub fn read(path: &Path) -> Result<Vec<Line>, HistoryError> {
    let failed = |source| HistoryError::File { path: path.to_owned(), source };
    let reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut lines = Vec::new();
    for (place, text) in reader.lines().enumerate() {
        let line = serde_json::from_str(&text.map_err(failed)?).map_err(|error| HistoryError::Line {
            path: path.to_owned(),
            line: place + 1,
            message: error.to_string(),
        })?;
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: &str = r#"{"line":"operation","id":1,"client":"writer-0","participant":"p00","facility":"home","call_us":5,"return_us":9,"action":"put","request":"aa","document":"d","body_sha256":"ff","body_bytes":3,"outcome":"committed","record":"r1","version":1,"at":{"timeline":0,"index":7},"term":2,"journal":4,"reach":"not-awaited","repeated":false}"#;

    fn header() -> Header {
        Header {
            format: FORMAT,
            run: "crash".into(),
            seed: 1,
            rounds: 0,
            version: "kura 0.1.0".into(),
            began_ms: 0,
            voters: vec!["voter-1".into()],
            backups: Vec::new(),
            ..Header::default()
        }
    }

    #[test]
    fn the_form_of_an_operation_is_frozen() {
        let line: Line = serde_json::from_str(OPERATION).unwrap();
        assert_eq!(serde_json::to_string(&line).unwrap(), OPERATION);
        let Line::Operation(operation) = line else { panic!("an operation") };
        assert!(matches!(operation.action, Action::Put { body_bytes: 3, .. }));
        assert!(matches!(operation.outcome, Outcome::Committed(Committed { journal: 4, .. })));
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path, header()).unwrap();
        let Line::Operation(operation) = serde_json::from_str(OPERATION).unwrap() else { panic!("an operation") };
        recorder.operation(operation.clone());
        recorder.operation(operation);
        recorder.end().unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], Line::Header(header()));
        assert!(matches!(&lines[2], Line::Operation(Operation { id: 2, .. })));
        assert!(matches!(lines[3], Line::End(End { operations: 2, .. })));

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        assert!(matches!(read(&path), Err(HistoryError::Line { line: 4, .. })));
    }
}
