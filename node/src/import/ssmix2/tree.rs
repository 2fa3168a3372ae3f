//! The folders of an SS-MIX2 standard storage: patients one after the other, and all files of one.
//!
//! Invariants
//! - In order of their names, so that two runs over the same storage do the same.
//! - Memory: the names of one level of folders, and of one patient's files.
//! - Nothing is passed over silently: what does not lie as the guideline says comes out as a line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::report::{Line, Outcome, reason};
use super::name::{Flag, Name, is_day_word, is_place_of};

/// A patient's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// The facility's patient id: the folder's name.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Where it is below the root.
    pub relative: String,
}

/// A message's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Where it is below the root.
    pub relative: String,
    /// When it was sent to the storage.
    pub moment: String,
    /// Its flag.
    pub flag: Flag,
    /// The clinical day.
    pub day: i32,
    /// Its document id.
    pub document_id: String,
    /// Its record class.
    pub class_word: &'static str,
    /// Bytes when it was found.
    pub bytes: u64,
}

/// The versions of one record, oldest first, by what they have in common.
pub type Chains = BTreeMap<String, Vec<Entry>>;

/// What lies in a folder, in order: names that are UTF-8, and whether they are folders.
struct Listed {
    folders: Vec<String>,
    files: Vec<(String, u64)>,
}

fn list(path: &Path, relative: &str, lines: &mut Vec<Line>) -> Listed {
    let mut listed = Listed { folders: Vec::new(), files: Vec::new() };
    let line = |name: &str, outcome, reason| Line::because(join(relative, name), outcome, reason, 0);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(_) => {
            lines.push(Line::because(relative, Outcome::Refused, reason::UNREADABLE, 0));
            return listed;
        }
    };
    for entry in entries {
        let Ok(entry) = entry else {
            lines.push(Line::because(relative, Outcome::Refused, reason::UNREADABLE, 0));
            break;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        match (entry.file_type(), entry.file_name().to_str().is_some()) {
            (Ok(kind), true) if kind.is_dir() => listed.folders.push(name),
            (Ok(kind), true) if kind.is_file() => {
                let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                listed.files.push((name, bytes));
            }
            (Ok(kind), false) if kind.is_dir() || kind.is_file() => {
                lines.push(line(&name, Outcome::Skipped, reason::OUTSIDE_LAYOUT));
            }
            (Ok(_), _) => lines.push(line(&name, Outcome::Skipped, reason::NOT_A_FILE)),
            (Err(_), _) => lines.push(line(&name, Outcome::Refused, reason::UNREADABLE)),
        }
    }
    listed.folders.sort_unstable();
    listed.files.sort_unstable();
    listed
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn outside(relative: &str, files: Vec<(String, u64)>, lines: &mut Vec<Line>) {
    lines.extend(
        files
            .into_iter()
            .map(|(name, bytes)| Line::because(join(relative, &name), Outcome::Skipped, reason::OUTSIDE_LAYOUT, bytes)),
    );
}

/// Every patient's folder, and lines for what is none. `each` answers whether to go on.
pub fn patients(root: &Path, mut each: impl FnMut(Result<Patient, Vec<Line>>) -> bool) {
    let mut lines = Vec::new();
    let top = list(root, "", &mut lines);
    outside("", top.files, &mut lines);
    for first in top.folders {
        let above = list(&root.join(&first), &first, &mut lines);
        outside(&first, above.files, &mut lines);
        for second in above.folders {
            let (path, relative) = (root.join(&first).join(&second), join(&first, &second));
            let found = list(&path, &relative, &mut lines);
            outside(&relative, found.files, &mut lines);
            for id in found.folders {
                let (path, relative) = (path.join(&id), join(&relative, &id));
                if !is_place_of(&first, &second, &id) {
                    lines.push(Line::because(relative, Outcome::Skipped, reason::OUTSIDE_LAYOUT, 0));
                } else if !each(Ok(Patient { id, path, relative })) {
                    return;
                }
            }
            if !lines.is_empty() && !each(Err(std::mem::take(&mut lines))) {
                return;
            }
        }
    }
    if !lines.is_empty() {
        each(Err(lines));
    }
}

/// All files of a patient: those in their places as chains, and lines for the others.
pub fn files(patient: &Patient) -> (Chains, Vec<Line>) {
    let (mut chains, mut lines) = (Chains::new(), Vec::new());
    let days = list(&patient.path, &patient.relative, &mut lines);
    outside(&patient.relative, days.files, &mut lines);
    for day in days.folders {
        let (path, relative) = (patient.path.join(&day), join(&patient.relative, &day));
        if !is_day_word(&day) {
            lines.push(Line::because(relative, Outcome::Skipped, reason::OUTSIDE_LAYOUT, 0));
            continue;
        }
        let kinds = list(&path, &relative, &mut lines);
        outside(&relative, kinds.files, &mut lines);
        for kind in kinds.folders {
            let (path, relative) = (path.join(&kind), join(&relative, &kind));
            let found = list(&path, &relative, &mut lines);
            for folder in found.folders {
                lines.push(Line::because(join(&relative, &folder), Outcome::Skipped, reason::OUTSIDE_LAYOUT, 0));
            }
            for (name, bytes) in found.files {
                match entry(patient, &day, &kind, &name) {
                    Ok((chain, mut entry)) => {
                        (entry.path, entry.relative, entry.bytes) = (path.join(&name), join(&relative, &name), bytes);
                        chains.entry(chain).or_default().push(entry);
                    }
                    Err(reason) => {
                        lines.push(Line::because(join(&relative, &name), Outcome::SetAside, reason, bytes));
                    }
                }
            }
        }
    }
    for chain in chains.values_mut() {
        chain.sort_by(|one, other| (&one.moment, one.flag).cmp(&(&other.moment, other.flag)));
    }
    (chains, lines)
}

fn entry(patient: &Patient, day: &str, kind: &str, name: &str) -> Result<(String, Entry), &'static str> {
    let name = Name::parse(name).ok_or(reason::NAME_MALFORMED)?;
    if (&name.patient, name.day_word.as_str(), name.kind.as_str()) != (&patient.id, day, kind) {
        return Err(reason::PATH_DIFFERS);
    }
    let entry = Entry {
        path: PathBuf::new(),
        relative: String::new(),
        flag: name.flag,
        day: name.day(),
        document_id: name.document_id(),
        class_word: super::name::class_word(kind),
        bytes: 0,
        moment: name.moment.clone(),
    };
    Ok((name.chain(), entry))
}
