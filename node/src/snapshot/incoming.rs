//! The directory in which a snapshot's files arrive.
//!
//! A file lies under its SHA-256 and length: `<hash>-<length>.part` while it grows, `.whole` once it
//! is complete. [`IncomingFiles::assemble`] makes `assembled-<snapshot id>` of them, which the state
//! machine takes away.
//!
//! Invariants
//! - A `.whole` file has had its hash checked and was synced before it got that name.
//! - What arrived is kept by content: it serves any snapshot of any leader that has the same file.
//! - A finished table or blob file may be shared with a database by hard link; all others are copied,
//!   because RocksDB writes to some of them.

use std::collections::HashSet;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kura_cluster::hexadecimal;
use sha2::{Digest, Sha256};

use super::manifest::SnapshotManifest;
use super::{FileHashes, Snapshot};

/// How long files that the newest offer does not name are kept, if there is room for them.
pub const LEFTOVER_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const ASSEMBLED: &str = "assembled-";
const BUFFER_BYTES: usize = 256 << 10;

/// A file's content, as its hash and length name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) sha256: [u8; 32],
    pub(super) bytes: u64,
}

impl Content {
    fn name(&self, ending: &str) -> String {
        format!("{}-{}.{ending}", hexadecimal(self.sha256), self.bytes)
    }
}

/// The contents of a manifest's files; `None` if a hash is missing.
pub(super) fn contents(manifest: &SnapshotManifest) -> Option<Vec<Content>> {
    manifest.files.iter().map(|file| file.sha256.map(|sha256| Content { sha256, bytes: file.bytes })).collect()
}

/// See the module. All methods block.
#[derive(Debug)]
pub(super) struct IncomingFiles {
    directory: PathBuf,
}

impl IncomingFiles {
    /// Opens the directory, or makes it. What an interrupted installation assembled is removed: its
    /// files are still here.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let files = Self { directory };
        for entry in files.entries()? {
            if entry.file_name().to_string_lossy().starts_with(ASSEMBLED) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(files)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn entries(&self) -> io::Result<Vec<DirEntry>> {
        std::fs::read_dir(&self.directory)?.collect()
    }

    fn path(&self, content: &Content, ending: &str) -> PathBuf {
        self.directory.join(content.name(ending))
    }

    /// Bytes held of a content: all of them means that they are verified.
    pub(super) fn held(&self, content: &Content) -> io::Result<u64> {
        if self.path(content, "whole").exists() {
            return Ok(content.bytes);
        }
        let part = self.path(content, "part");
        match part.metadata() {
            // Whole, but not yet verified: the process ended in between.
            Ok(metadata) if metadata.len() == content.bytes => {
                let mut writer = self.writer(*content)?;
                match writer.finish() {
                    Ok(()) => Ok(content.bytes),
                    Err(FinishError::Damaged) => Ok(0),
                    Err(FinishError::Io(error)) => Err(error),
                }
            }
            Ok(metadata) if metadata.len() < content.bytes => Ok(metadata.len()),
            Ok(_) => std::fs::remove_file(part).map(|()| 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes a file of a database on this machine, if it has the wanted content. Only for files that
    /// RocksDB never changes. It is read each time: a remembered hash says nothing of a file that has rotted since.
    pub(super) fn adopt(&self, content: &Content, path: &Path) -> io::Result<bool> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() == content.bytes => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        if FileHashes::default().of(path)? != (content.bytes, content.sha256) {
            return Ok(false);
        }
        // RocksDB may delete it at any time: then it is fetched.
        Ok(std::fs::hard_link(path, self.path(content, "whole")).is_ok())
    }

    /// Opens a content for more of it, behind what is held.
    pub(super) fn writer(&self, content: Content) -> io::Result<PieceWriter> {
        let part = self.path(&content, "part");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part)?;
        let mut hash = Sha256::new();
        let mut held = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hash.update(&buffer[..count]);
                    held += count as u64;
                }
            }
        }
        let whole = self.path(&content, "whole");
        Ok(PieceWriter { content, file, part, whole, hash, held })
    }

    /// Bytes still to come.
    pub(super) fn lacking(&self, wanted: &[Content]) -> io::Result<u64> {
        wanted
            .iter()
            .try_fold(0_u64, |sum, content| Ok(sum.saturating_add(content.bytes.saturating_sub(self.held(content)?))))
    }

    /// Removes what is not wanted: all of it, or what has not grown for [`LEFTOVER_AGE_MAX`].
    pub(super) fn remove_others(&self, wanted: &[Content], all: bool) -> io::Result<()> {
        let wanted: HashSet<String> =
            wanted.iter().flat_map(|content| [content.name("part"), content.name("whole")]).collect();
        for entry in self.entries()? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.ends_with(".part") || name.ends_with(".whole");
            if !is_ours || wanted.contains(&*name) {
                continue;
            }
            let modified = entry.metadata()?.modified()?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if all || age > LEFTOVER_AGE_MAX {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes the snapshot's directory, durably. All contents must be whole.
    pub(super) fn assemble(&self, manifest: &SnapshotManifest) -> io::Result<Snapshot> {
        let id = hexadecimal(manifest.snapshot_id);
        let directory = self.directory.join(format!("{ASSEMBLED}{id}"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir(&directory)?;
        let contents = contents(manifest).unwrap_or_default();
        for (file, content) in manifest.files.iter().zip(&contents) {
            let (from, to) = (self.path(content, "whole"), directory.join(file.name.as_str()));
            if file.name.is_immutable() {
                std::fs::hard_link(from, to)?;
            } else {
                std::fs::copy(from, &to)?;
                File::open(&to)?.sync_all()?;
            }
        }
        let snapshot = Snapshot { manifest: manifest.clone(), directory };
        // Syncs the directory, too.
        snapshot.save()?;
        sync_directory(&self.directory)?;
        Ok(snapshot)
    }
}

/// Why a content did not become whole.
#[derive(Debug)]
pub(super) enum FinishError {
    /// Its hash is another. What was there is deleted.
    Damaged,
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for FinishError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A content that grows.
#[derive(Debug)]
pub(super) struct PieceWriter {
    content: Content,
    file: File,
    part: PathBuf,
    whole: PathBuf,
    hash: Sha256,
    held: u64,
}

impl PieceWriter {
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn is_complete(&self) -> bool {
        self.held >= self.content.bytes
    }

    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.held += data.len() as u64;
        Ok(())
    }

    /// Verifies, syncs and names what has arrived.
    pub(super) fn finish(&mut self) -> Result<(), FinishError> {
        let found: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if self.held != self.content.bytes || found != self.content.sha256 {
            std::fs::remove_file(&self.part)?;
            return Err(FinishError::Damaged);
        }
        self.file.sync_all()?;
        std::fs::rename(&self.part, &self.whole)?;
        if let Some(directory) = self.whole.parent() {
            sync_directory(directory)?;
        }
        Ok(())
    }
}

/// Makes new and renamed files' names durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
