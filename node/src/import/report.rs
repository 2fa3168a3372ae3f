//! What became of each file, and of all of them together.
//!
//! Invariants
//! - Every file that was met, or that the table of participants names, has exactly one line, with one of five outcomes.
//! - The totals hold counts of closed words only; names of files stand in the lines, which go to the
//!   file that was asked for and nowhere else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use kura_client::RecordId;
use serde::Serialize;

use crate::cli::files::{unmade, unreadable};
use crate::cli::{Exit, Failure};

/// Longest line of a report that is looked at.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is a record now, or a version of one.
    Stored,
    /// It was stored before.
    Repeated,
    /// It contradicts itself or its place, and was stored under nobody. A person must look at it.
    SetAside,
    /// It is none of the records that are imported.
    Skipped,
    /// It is a record, but not one that could be stored.
    Refused,
}

impl Outcome {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Stored => "stored",
            Outcome::Repeated => "repeated",
            Outcome::SetAside => "set aside",
            Outcome::Skipped => "skipped",
            Outcome::Refused => "refused",
        }
    }
}

/// Why a file was set aside, skipped or refused, by outcome.
pub mod reason {
    /// Set aside: the message is not about the patient of its path.
    pub const PATIENT_DIFFERS: &str = "patient-differs";
    /// Set aside: the message names no patient.
    pub const NO_PATIENT: &str = "no-patient";
    /// Set aside: the file speaks of several patients.
    pub const SEVERAL_PATIENTS: &str = "several-patients";
    /// Set aside: what names the participant leads to different ones.
    pub const PARTICIPANTS_DIFFER: &str = "participants-differ";
    /// Set aside: a file in a place of messages is none.
    pub const NOT_HL7: &str = "not-hl7";
    /// Set aside: the name does not have the seven parts of SS-MIX2.
    pub const NAME_MALFORMED: &str = "name-malformed";
    /// Set aside: the name says another patient, day or kind than the folders do.
    pub const PATH_DIFFERS: &str = "path-differs";
    /// Set aside: a later version is stored already, and versions only go forward.
    pub const LATER_STORED: &str = "later-stored";
    /// Set aside: longer than a message can be.
    pub const TOO_LONG: &str = "too-long";
    /// Skipped: outside the layout of SS-MIX2.
    pub const OUTSIDE_LAYOUT: &str = "outside-layout";
    /// Skipped: of no form that is imported, and not named in the table of participants.
    pub const NOT_A_RECORD: &str = "not-a-record";
    /// Skipped: no bytes. Refused, if the table of participants names it.
    pub const EMPTY: &str = "empty";
    /// Skipped: a link, a socket, a folder too deep.
    pub const NOT_A_FILE: &str = "not-a-file";
    /// Refused: it names no patient, nor does the table of participants name it.
    pub const NAMES_NO_PATIENT: &str = "names-no-patient";
    /// Refused: what it says of its patient leads to no participant.
    pub const PARTICIPANT_UNKNOWN: &str = "participant-unknown";
    /// Refused: no consent of the participant covers it (the cluster's uniform refusal).
    pub const NO_CONSENT: &str = "no-consent";
    /// Refused: the document id names another content already, or another participant's.
    pub const ID_IN_USE: &str = "id-in-use";
    /// Refused: neither the content nor the caller tells the clinical day.
    pub const DAY_UNKNOWN: &str = "day-unknown";
    /// Refused: a field is outside the cluster's bounds.
    pub const INVALID: &str = "invalid";
    /// Refused: it could not be read to its end, or changed meanwhile.
    pub const UNREADABLE: &str = "unreadable";
    /// Refused: stored, but could not be hidden as its flag asks. Look at it at once.
    pub const NOT_HIDDEN: &str = "not-hidden";
    /// Refused: the table of participants names it, and it is not in the folder.
    pub const MISSING: &str = "missing";
    /// Refused: a node failed on it.
    pub const NODE_FAILED: &str = "node-failed";
}

/// What became of one file.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Where it lies below the folder, with `/` between parts.
    pub file: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, unless stored or repeated: one of [`reason`], or the cluster's word for a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More about it, without names or numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Whether the record was hidden by this run.
    pub hidden: bool,
    /// Whether its hiding had reached the backup when it was acknowledged; none if nothing was hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond_prefecture: Option<bool>,
    /// Bytes of the file, if it was looked at.
    pub bytes: u64,
}

impl Line {
    /// A file of an outcome that needs no reason.
    pub fn new(file: impl Into<String>, outcome: Outcome, bytes: u64) -> Line {
        Line {
            file: file.into(),
            outcome,
            reason: None,
            detail: None,
            record: None,
            version: None,
            hidden: false,
            beyond_prefecture: None,
            bytes,
        }
    }

    /// A file that was not stored, and why.
    pub fn because(file: impl Into<String>, outcome: Outcome, reason: impl Into<String>, bytes: u64) -> Line {
        Line { reason: Some(reason.into()), ..Line::new(file, outcome, bytes) }
    }
}

/// Files of one outcome for one reason.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Count {
    /// What became of them.
    pub outcome: Outcome,
    /// Why; empty for stored and repeated ones.
    pub reason: String,
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All of a run.
#[derive(Debug)]
pub struct Report {
    out: Option<BufWriter<File>>,
    counts: BTreeMap<(Outcome, String), (u64, u64)>,
    hidden: u64,
    not_beyond: u64,
}

/// The totals, as they are printed.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Files met.
    pub files: u64,
    /// Records that were hidden by this run.
    pub hidden: u64,
    /// Of these, hidings that had not reached the backup when they were acknowledged.
    pub hidden_not_yet_beyond: u64,
    /// By outcome and reason.
    pub counts: Vec<Count>,
}

impl Totals {
    /// Whether a person must look at something.
    pub fn needs_a_look(&self) -> bool {
        self.counts.iter().any(|count| matches!(count.outcome, Outcome::SetAside | Outcome::Refused))
    }

    /// Whether anything is in the cluster by this run, or was before.
    pub fn took_something(&self) -> bool {
        self.of(Outcome::Stored) + self.of(Outcome::Repeated) > 0
    }

    /// Files of an outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts.iter().filter(|count| count.outcome == outcome).map(|count| count.files).sum()
    }
}

impl Report {
    /// Whether a file can take the place of a report: it is not there, empty, or one of before. Whoever names the table
    /// of participants, or a record, must not lose it.
    ///
    /// # Errors
    /// Exit code 8 for another file, 2 for what is none or cannot be read.
    pub fn check(path: &Path) -> Result<(), Failure> {
        let mut first = Vec::new();
        let read =
            File::open(path).and_then(|file| BufReader::new(file.take(LINE_BYTES_MAX)).read_until(b'\n', &mut first));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable("--report", path, &error)),
            Ok(_) => {}
        }
        let line: Option<serde_json::Value> = serde_json::from_slice(&first).ok();
        let is_line = line.is_some_and(|line| line["file"].is_string() && line["outcome"].is_string());
        if first.is_empty() || is_line {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Conflict,
            format!("--report: {} is there, and is no report of an import", path.display()),
        )
        .next("name another file: only a report of before is replaced"))
    }

    /// A report, with each line also into a file if one is named. A report of before is replaced; only its owner may read
    /// it.
    ///
    /// # Errors
    /// As [`Report::check`], and exit code 2 if it cannot be made.
    pub fn to(path: Option<&Path>) -> Result<Report, Failure> {
        let out = path.map(|path| {
            Report::check(path)?;
            let mut options = OpenOptions::new();
            let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
            // One of before may be open to others.
            let opened = opened.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)).map(|()| file));
            opened.map(BufWriter::new).map_err(|error| unmade("--report", path, &error))
        });
        Ok(Report { out: out.transpose()?, counts: BTreeMap::new(), hidden: 0, not_beyond: 0 })
    }

    /// Counts a file, and writes its line.
    pub fn add(&mut self, line: &Line) -> Result<(), Failure> {
        let (files, bytes) = self.counts.entry((line.outcome, line.reason.clone().unwrap_or_default())).or_default();
        *files += 1;
        *bytes += line.bytes;
        self.hidden += u64::from(line.hidden);
        self.not_beyond += u64::from(line.beyond_prefecture == Some(false));
        let Some(out) = &mut self.out else { return Ok(()) };
        let text = serde_json::to_string(line).map_err(Failure::failed)?;
        writeln!(out, "{text}").map_err(|error| Failure::failed(format!("cannot write the report: {error}")))
    }

    /// Ends the report; the file is synced.
    pub fn finish(mut self) -> Result<Totals, Failure> {
        if let Some(out) = &mut self.out {
            let synced = out.flush().and_then(|()| out.get_ref().sync_all());
            synced.map_err(|error| Failure::failed(format!("cannot write the report: {error}")))?;
        }
        let count = |((outcome, reason), (files, bytes))| Count { outcome, reason, files, bytes };
        let counts: Vec<Count> = self.counts.into_iter().map(count).collect();
        Ok(Totals {
            files: counts.iter().map(|count| count.files).sum(),
            hidden: self.hidden,
            hidden_not_yet_beyond: self.not_beyond,
            counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_line_and_a_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.ndjson");
        std::fs::write(&path, "{\"file\":\"x\",\"outcome\":\"stored\"}\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut report = Report::to(Some(&path)).unwrap();
        report.add(&Line::new("a", Outcome::Stored, 5)).unwrap();
        let hidden = Line { hidden: true, beyond_prefecture: Some(false), ..Line::new("b", Outcome::Repeated, 3) };
        report.add(&hidden).unwrap();
        for file in ["c", "d"] {
            report.add(&Line::because(file, Outcome::SetAside, reason::NO_PATIENT, 2)).unwrap();
        }
        let totals = report.finish().unwrap();
        assert_eq!((totals.files, totals.hidden, totals.hidden_not_yet_beyond), (4, 1, 1));
        assert_eq!((totals.of(Outcome::Stored), totals.of(Outcome::SetAside)), (1, 2));
        assert!(totals.needs_a_look());
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[2]["outcome"], &lines[2]["reason"]), (&"set-aside".into(), &"no-patient".into()));
        assert!(!std::fs::exists(folder.path().join("x")).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn only_a_report_of_before_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("who.csv");
        for other in ["patient,participant\n7,0043001234567890\n", "{\"file\": 7}\n", "x"] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(Report::to(Some(&path)).unwrap_err().exit, Exit::Conflict, "{other:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other, "it stays");
        }
        std::fs::write(&path, "").unwrap();
        Report::to(Some(&path)).unwrap();
        for wrong in [folder.path().to_owned(), path.join("below"), folder.path().join("nowhere/report")] {
            assert_eq!(Report::to(Some(&wrong)).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn stored_and_skipped_need_no_look() {
        let mut report = Report::to(None).unwrap();
        report.add(&Line::new("a", Outcome::Stored, 5)).unwrap();
        report.add(&Line::because("b", Outcome::Skipped, reason::EMPTY, 0)).unwrap();
        assert!(!report.finish().unwrap().needs_a_look());
    }
}
