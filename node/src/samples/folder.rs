//! A folder of files as records, instead of generated samples: `--input`.
//!
//! Invariants
//! - Every file is yielded, whatever it is: a README is a document like any other, an empty or a
//!   damaged file is yielded as it is. What cannot be yielded (symbolic links, sockets, what may
//!   not be opened, folders too deep) is counted in the [`Report`], never passed over silently.
//! - Memory is bounded: one open folder a level, at most [`DEPTH_MAX`] levels; files are looked
//!   into, not kept; the caller reads them by path. So the order is the file system's.
//! - Class, media type and clinical day are guesses from content first, name second. They say
//!   nothing about whether the content is right, and a guess never fails: what is not known is a
//!   `document` of `application/octet-stream` on the default day.
//! - Paths can name patients (SS-MIX2 folders do): `Display` of a report shows none.

mod fhir;
mod guess;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, ReadDir};
use std::path::{Path, PathBuf};

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
    /// The record class, as in settings.
    pub class_word: &'static str,
    /// The media type.
    pub media_type: &'static str,
    /// Days from 1970-01-01 in Japan time: what the content says, else the default.
    pub clinical_day: i32,
    /// Whether the content said the day.
    pub day_known: bool,
    /// Bytes when it was looked at. 0 is possible.
    pub length: u64,
}

/// Something that could not be yielded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it lies below the folder.
    pub relative: String,
    /// What is the matter.
    pub what: String,
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
    /// Files on the default day, among the files.
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
    default_day: i32,
    report: Report,
}

impl Folder {
    /// Opens a folder; `default_day` (days from 1970-01-01, Japan time) is for files that tell none.
    pub fn open(root: impl Into<PathBuf>, default_day: i32) -> Result<Folder, OpenFolderError> {
        let root = root.into();
        let open = vec![fs::read_dir(&root)?];
        Ok(Folder { root, open, default_day, report: Report { folders: 1, ..Report::default() } })
    }

    /// What was seen so far; complete once the iterator has ended.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Counts something that cannot be yielded.
    fn problem(&mut self, path: &Path, what: impl Into<String>) {
        self.report.problems += 1;
        if self.report.first_problems.len() < PROBLEMS_MAX {
            let relative = self.relative(path);
            self.report.first_problems.push(Problem { relative, what: what.into() });
        }
    }

    fn relative(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    fn enter(&mut self, path: &Path) {
        if self.open.len() >= DEPTH_MAX {
            return self.problem(path, format!("deeper than {DEPTH_MAX} folders"));
        }
        match fs::read_dir(path) {
            Ok(entries) => {
                self.report.folders += 1;
                self.open.push(entries);
            }
            Err(error) => self.problem(path, error.to_string()),
        }
    }

    fn look(&mut self, path: PathBuf) -> Option<Found> {
        let relative = self.relative(&path);
        let (guess, length) = match guess::file(&path) {
            Ok(looked) => looked,
            Err(error) => {
                self.problem(&path, error.to_string());
                return None;
            }
        };
        let report = &mut self.report;
        report.files += 1;
        report.bytes += length;
        report.empty_files += u64::from(length == 0);
        report.days_unknown += u64::from(guess.day.is_none());
        *report.classes.entry(guess.class_word).or_default() += 1;
        *report.media_types.entry(guess.media_type).or_default() += 1;
        Some(Found {
            relative,
            path,
            class_word: guess.class_word,
            media_type: guess.media_type,
            clinical_day: guess.day.unwrap_or(self.default_day),
            day_known: guess.day.is_some(),
            length,
        })
    }
}

impl Iterator for Folder {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
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
                    let root = self.root.clone();
                    self.problem(&root, format!("a folder could not be read to its end: {error}"));
                    continue;
                }
            };
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.enter(&path),
                Ok(kind) if kind.is_file() => {
                    if let Some(found) = self.look(path) {
                        return Some(found);
                    }
                }
                // Followed, a link could lead out of the folder or round in circles.
                Ok(kind) if kind.is_symlink() => self.problem(&path, "a symbolic link, not followed"),
                Ok(_) => self.problem(&path, "neither a file nor a folder"),
                Err(error) => self.problem(&path, error.to_string()),
            }
        }
        None
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
