//! An unfinished restore in its target: `restore-work`, which goes with the last step.
//!
//! Under it lie `note` (which restore this is), `lock`, `files` (base files by their hash, whole and synced),
//! `new` and `old` (the replayed states; `.base` and `.part` before they are whole), and `result` (the data
//! directory in the making).
//!
//! Invariants
//! - A target that holds anything but an unfinished restore of the same is never touched.
//! - An archive that is still written to may have grown since: what restricts is as it is at the end that the last run
//!   found, never at the one that an earlier run found.
//! - A name without `.base` or `.part` is durable and goes on from where it is.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kura_cluster::archive::Sha256Hash;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::identity::NodeIdentity;

/// Folder of the work in the target.
pub const WORK: &str = "restore-work";
const NOTE: &str = "note";
const FORMAT: u32 = 1;
/// Moved last: nothing serves without it.
const IDENTITY: &str = "identity";

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// There is a member already.
    #[error("{0} is a member's data directory already: restore into an empty one")]
    Member(String),
    /// There is something else.
    #[error("{0} is not empty: restore into an empty directory, or one that is not there yet")]
    NotEmpty(String),
    /// There is another restore.
    #[error(
        "{directory} holds an unfinished restore of {found}, not of {asked}: finish that one, or remove {directory}"
    )]
    Other {
        /// The target.
        directory: String,
        /// What it is.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// Another process is at it.
    #[error("another restore is at work in {0}")]
    InUse(String),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Adds the path to what the system says.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> WorkError {
    let path = path.to_owned();
    move |source| WorkError::File { path, source }
}

/// The manifest that the newest state was replayed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merging {
    pub generation: u64,
    pub sequence: u64,
    pub sha256: Sha256Hash,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    format: u32,
    cluster_id: String,
    target_index: u64,
    /// Whether it goes to the archive's end, wherever that lies by now.
    #[serde(default)]
    to_end: bool,
    old_generation: u64,
    new_generation: u64,
    /// Set once nothing is replayed any more: the rows are being merged, or are.
    merging: Option<Merging>,
}

/// Up to where a plan replays what restricts.
pub(super) fn end_of(plan: &Plan) -> Merging {
    let (sequence, sha256) = plan.new.manifests.last().copied().unwrap_or_default();
    Merging { generation: plan.new.generation, sequence, sha256 }
}

impl Note {
    fn of(plan: &Plan) -> Note {
        Note {
            format: FORMAT,
            cluster_id: plan.cluster_id.to_hex(),
            target_index: plan.target.index,
            to_end: plan.to_end,
            old_generation: plan.old.generation,
            new_generation: plan.new.generation,
            merging: None,
        }
    }

    fn words(&self) -> String {
        let Note { cluster_id, target_index, .. } = self;
        match self.to_end {
            true => format!("cluster {cluster_id} to the archive's end"),
            false => format!("cluster {cluster_id} to entry {target_index}"),
        }
    }

    /// Whether both are of the same restore. Generations, and where the archive ends, may have changed since.
    fn is_same(&self, other: &Note) -> bool {
        let target = |note: &Note| (!note.to_end).then_some(note.target_index);
        (self.format, &self.cluster_id, target(self)) == (other.format, &other.cluster_id, target(other))
    }
}

/// Whether a restore could begin, or go on, in a target; looks only.
///
/// # Errors
/// [`WorkError`].
pub fn usable(into: &Path) -> Result<(), WorkError> {
    let shown = || into.display().to_string();
    let unfinished = into.join(WORK).join(NOTE).exists();
    if NodeIdentity::exists(into) {
        return Err(WorkError::Member(shown()));
    }
    let is_empty = match fs::read_dir(into) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == WORK)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(at(into)(error)),
    };
    if unfinished || is_empty { Ok(()) } else { Err(WorkError::NotEmpty(shown())) }
}

/// A claimed target.
pub(super) struct Work {
    into: PathBuf,
    folder: PathBuf,
    note: Note,
    /// What of an earlier run is gone on with, in words.
    pub resumed: Option<&'static str>,
    _lock: File,
}

impl Work {
    /// Claims a target for a plan: an empty one, or one with an unfinished restore of the same.
    pub fn claim(into: &Path, plan: &Plan) -> Result<Work, WorkError> {
        let shown = || into.display().to_string();
        let folder = into.join(WORK);
        usable(into)?;
        let unfinished = folder.join(NOTE).exists();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
        crate::identity::keep_private(into).map_err(at(into))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WorkError::InUse(shown())),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let mut work = Work { into: into.to_owned(), folder, note: Note::of(plan), resumed: None, _lock: lock };
        if unfinished {
            let path = work.path(NOTE);
            let text = fs::read(&path).map_err(at(&path))?;
            let found: Note = serde_json::from_slice(&text).map_err(|error| at(&path)(error.into()))?;
            work.resume(found, &end_of(plan))?;
        }
        work.write_note()?;
        Ok(work)
    }

    /// Takes over what an earlier run left.
    fn resume(&mut self, found: Note, end: &Merging) -> Result<(), WorkError> {
        if !found.is_same(&self.note) {
            let (directory, found, asked) = (self.into.display().to_string(), found.words(), self.note.words());
            return Err(WorkError::Other { directory, found, asked });
        }
        if found.new_generation == self.note.new_generation && found.old_generation == self.note.old_generation {
            self.note.merging = found.merging.filter(|merging| merging == end);
            self.resumed = Some("going on with an unfinished restore");
            return Ok(());
        }
        // The newest base is another: only what lies there by its hash, and the state at the moment, stay.
        let keeps_old = found.old_generation == self.note.old_generation;
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let keeps = |name: &std::ffi::OsStr| {
                name == NOTE || name == "lock" || name == "files" || (keeps_old && name == "old")
            };
            if !path.file_name().is_some_and(keeps) {
                remove(&path)?;
            }
        }
        self.resumed = Some("the archive has a newer base by now: beginning with that");
        sync(&self.folder)
    }

    fn write_note(&self) -> Result<(), WorkError> {
        let path = self.folder.join(NOTE);
        let text = serde_json::to_vec_pretty(&self.note).map_err(|error| at(&path)(error.into()))?;
        write_whole(&path, &text)
    }

    /// A path of the work.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether something of the work is there, whole.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Makes a folder anew, empty.
    pub fn anew(&self, name: &str) -> Result<PathBuf, WorkError> {
        let path = self.path(name);
        remove(&path)?;
        fs::create_dir_all(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Gives what is whole its name, durably.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), WorkError> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(at(&from))?;
        sync(&self.folder)
    }

    /// What the rows are merged at, once they are.
    pub fn merging(&self) -> Option<&Merging> {
        self.note.merging.as_ref()
    }

    /// Notes that nothing is replayed any more.
    pub fn begin_merging(&mut self, merging: Merging) -> Result<(), WorkError> {
        self.note.merging = Some(merging);
        self.write_note()
    }

    /// Moves the finished data directory into its place, and ends the work.
    pub fn install(self) -> Result<(), WorkError> {
        let result = self.path("result");
        let entries = fs::read_dir(&result).map_err(at(&result))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(at(&result))?;
        names.sort_by_key(|name| name == IDENTITY);
        for name in names {
            let (from, to) = (result.join(&name), self.into.join(&name));
            // Left over by a run that was cut just here.
            remove(&to)?;
            sync(&self.into)?;
            fs::rename(&from, &to).map_err(at(&from))?;
        }
        sync(&self.into)?;
        // Without the note the rest is only space.
        let note = self.folder.join(NOTE);
        fs::remove_file(&note).map_err(at(&note))?;
        remove(&self.folder)
    }
}

/// Writes a file whole or not at all, durably.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WorkError> {
    use io::Write;
    let aside = path.with_extension("new");
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(at(path))?;
    path.parent().map_or(Ok(()), sync)
}

pub(super) fn sync(directory: &Path) -> Result<(), WorkError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Removes a file or a folder, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), WorkError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}
