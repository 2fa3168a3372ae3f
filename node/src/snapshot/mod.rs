//! Snapshots: checkpoints of the state database that travel between members as files.
//!
//! A snapshot is a directory of RocksDB's files (hard links, made in constant time) and a
//! [`SnapshotManifest`] that says what it is. [`SnapshotSender`] offers it with the hash of every
//! file, sends what the receiver lacks and has it installed; [`SnapshotReceiver`] keeps what arrives
//! under its hash, so that a transfer goes on where it was cut, also under another snapshot or
//! another leader that has the same files.

mod hashes;
mod incoming;
mod manifest;
mod progress;
mod receiver;
mod sender;

use std::io;
use std::path::PathBuf;

pub use hashes::{FileHashes, HASHES_MAX};
pub use incoming::LEFTOVER_AGE_MAX;
pub use manifest::{FileName, MANIFEST_BYTES_MAX, ManifestError, SnapshotFile, SnapshotManifest};
pub use progress::{INTERRUPTED_AGE_MAX, Phase, TransferProgress, Transfers};
pub use receiver::{Offered, ReceiveError, Reception, SnapshotReceiver};
pub use sender::{PIECE_BYTES, SendError, SnapshotSender};

/// The file in a snapshot's directory that holds its encoded manifest. RocksDB ignores it.
pub const MANIFEST_FILE: &str = "kura-snapshot";

/// A snapshot on this machine: what openraft calls its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it holds.
    pub manifest: SnapshotManifest,
    /// Where its files are.
    pub directory: PathBuf,
}

impl Snapshot {
    /// Writes the manifest beside the files, durably.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self) -> io::Result<()> {
        let path = self.directory.join(MANIFEST_FILE);
        let unfinished = self.directory.join("kura-snapshot.new");
        let file = std::fs::File::create(&unfinished)?;
        io::Write::write_all(&mut &file, &self.manifest.encode())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        incoming::sync_directory(&self.directory)
    }

    /// Reads the manifest of a directory that [`Self::save`] has written to. The files themselves
    /// are not looked at.
    ///
    /// # Errors
    /// The file system's, or `InvalidData` with a [`ManifestError`].
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        let bytes = std::fs::read(directory.join(MANIFEST_FILE))?;
        let manifest =
            SnapshotManifest::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Self { manifest, directory })
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
