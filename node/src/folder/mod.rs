//! A folder of files as records: what `import files`, and `--input` of demo and bench, walk.
//!
//! Invariants
//! - Every file is yielded, whatever it is: a README is a document like any other, an empty or a
//!   damaged file is yielded as it is. What cannot be yielded (symbolic links, sockets, what may
//!   not be opened, folders too deep) is counted in the [`Report`], never passed over silently.
//! - Memory is bounded: one open folder a level, at most [`DEPTH_MAX`] levels; files are looked
//!   into, not kept; the caller reads them by path. So the order is the file system's.
//! - What a file is ([`Recognized`]) is a guess from content first, name second. It says nothing
//!   about whether the content is right, and never fails: what is not known is a `document` of
//!   `application/octet-stream`.
//! - Paths can name patients (SS-MIX2 folders do): `Display` of a report shows none.

mod day;
mod dicom;
mod fhir;
mod fhir_patient;
pub mod hl7;
mod patient;
pub(crate) mod recognize;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, ReadDir};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use day::compact_day;
pub use patient::{PatientId, Patients};
pub use recognize::{Form, Recognized};

/// Deepest level of folders that is entered.
pub const DEPTH_MAX: usize = 64;
/// Problems that are kept with their paths; further ones are only counted.
pub const PROBLEMS_MAX: usize = 100;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies below the folder, with `/` between parts; what is not UTF-8 is replaced.
    pub relative: String,
    /// Where to read it.
    pub path: PathBuf,
    /// What it seems to be.
    pub what: Recognized,
    /// Bytes when it was looked at. 0 is possible.
    pub length: u64,
    /// When it had been changed last when it was looked at, where the file system tells.
    pub modified: Option<SystemTime>,
}

/// Something that could not be yielded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it lies below the folder.
    pub relative: String,
    /// What is the matter.
    pub what: String,
    /// Whether it may be a file that only could not be read, and not something that is none.
    pub unreadable: bool,
}

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files yielded.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders entered.
    pub folders: u64,
    /// Files of 0 bytes, among the files.
    pub empty_files: u64,
    /// Files that tell no day, among the files.
    pub days_unknown: u64,
    /// Files by record class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Files by media type.
    pub media_types: BTreeMap<&'static str, u64>,
    /// How many things could not be yielded.
    pub problems: u64,
    /// The first [`PROBLEMS_MAX`] of them.
    pub first_problems: Vec<Problem>,
}

/// The folder could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("the input folder could not be read: {0}")]
pub struct OpenFolderError(#[from] std::io::Error);

/// Walks a folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    open: Vec<ReadDir>,
    report: Report,
}

impl Folder {
    /// Opens a folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Folder, OpenFolderError> {
        let root = root.into();
        let open = vec![fs::read_dir(&root)?];
        Ok(Folder { root, open, report: Report { folders: 1, ..Report::default() } })
    }

    /// What was seen so far; complete once the iterator has ended.
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn problem(&self, path: &Path, what: impl Into<String>) -> Problem {
        Problem { relative: self.relative(path), what: what.into(), unreadable: false }
    }

    fn unreadable(&self, path: &Path, error: &std::io::Error) -> Problem {
        Problem { unreadable: true, ..self.problem(path, error.to_string()) }
    }

    fn relative(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    fn enter(&mut self, path: &Path) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.problem(path, format!("deeper than {DEPTH_MAX} folders")));
        }
        let entries = fs::read_dir(path).map_err(|error| self.unreadable(path, &error))?;
        self.report.folders += 1;
        self.open.push(entries);
        Ok(())
    }

    fn look(&mut self, path: PathBuf) -> Result<Found, Problem> {
        let (what, metadata) = recognize::file(&path).map_err(|error| self.unreadable(&path, &error))?;
        let length = metadata.len();
        let report = &mut self.report;
        report.files += 1;
        report.bytes += length;
        report.empty_files += u64::from(length == 0);
        report.days_unknown += u64::from(what.day.is_none());
        *report.classes.entry(what.class_word).or_default() += 1;
        *report.media_types.entry(what.media_type).or_default() += 1;
        Ok(Found { relative: self.relative(&path), path, what, length, modified: metadata.modified().ok() })
    }

    /// The next file, or something that could not be yielded, which is also counted.
    pub fn step(&mut self) -> Option<Result<Found, Problem>> {
        let step = self.walk()?;
        if let Err(problem) = &step {
            self.report.problems += 1;
            if self.report.first_problems.len() < PROBLEMS_MAX {
                self.report.first_problems.push(problem.clone());
            }
        }
        Some(step)
    }

    fn walk(&mut self) -> Option<Result<Found, Problem>> {
        while let Some(entries) = self.open.last_mut() {
            let entry = match entries.next() {
                None => {
                    self.open.pop();
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    // Reading on from a failed position may never end: this folder is given up.
                    self.open.pop();
                    let what = format!("a folder could not be read to its end: {error}");
                    return Some(Err(Problem { unreadable: true, ..self.problem(&self.root, what) }));
                }
            };
            let path = entry.path();
            let problem = match entry.file_type() {
                Ok(kind) if kind.is_dir() => match self.enter(&path) {
                    Ok(()) => continue,
                    Err(problem) => problem,
                },
                Ok(kind) if kind.is_file() => return Some(self.look(path)),
                // Followed, a link could lead out of the folder or round in circles.
                Ok(kind) if kind.is_symlink() => self.problem(&path, "a symbolic link, not followed"),
                Ok(_) => self.problem(&path, "neither a file nor a folder"),
                Err(error) => self.unreadable(&path, &error),
            };
            return Some(Err(problem));
        }
        None
    }
}

impl Iterator for Folder {
    type Item = Found;

    /// The next file. Problems are counted in the report.
    fn next(&mut self) -> Option<Found> {
        loop {
            if let Ok(found) = self.step()? {
                return Some(found);
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} bytes, in {} folders", self.files, self.bytes, self.folders)?;
        for (count, what) in [
            (self.empty_files, "empty"),
            (self.days_unknown, "without a day of their own"),
            (self.problems, "could not be read and were left out"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        for table in [&self.classes, &self.media_types] {
            let counts: Vec<String> = table.iter().map(|(word, count)| format!("{word} {count}")).collect();
            write!(f, "\n{}", counts.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
