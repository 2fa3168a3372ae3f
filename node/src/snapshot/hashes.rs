//! SHA-256 of files, computed when first needed and then remembered.
//!
//! Invariants
//! - A remembered hash counts only while device, inode, length and time of change of content are all
//!   what they were. RocksDB never rewrites a finished table or blob file, and hard links share the
//!   inode, so the files of one database are hashed once over all of its snapshots.
//! - A file that changes while it is read is hashed again later: what it was before is compared with
//!   what it is after.
//! - At most [`HASHES_MAX`] are remembered, in memory; beyond it all are forgotten.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

/// Hashes remembered: some 10 MB.
pub const HASHES_MAX: usize = 100_000;
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// By device and inode.
type Known = HashMap<(u64, u64), (Stamp, [u8; 32])>;

/// See the module.
#[derive(Debug, Default)]
pub struct FileHashes {
    known: Mutex<Known>,
}

impl FileHashes {
    /// The file's length and SHA-256. Blocking; reads the file if its hash is not known.
    ///
    /// # Errors
    /// The file system's.
    pub fn of(&self, path: &Path) -> io::Result<(u64, [u8; 32])> {
        let mut file = File::open(path)?;
        let (inode, stamp) = stamp_of(&file.metadata()?);
        if let Some((known, sha256)) = self.known().get(&inode)
            && *known == stamp
        {
            return Ok((stamp.bytes, *sha256));
        }
        let sha256 = hash_of(&mut file)?;
        if stamp_of(&file.metadata()?).1 == stamp {
            let mut known = self.known();
            if known.len() >= HASHES_MAX {
                known.clear();
            }
            known.insert(inode, (stamp, sha256));
        }
        Ok((stamp.bytes, sha256))
    }

    /// Whether the file still has the hash that is remembered of it: reads it, and does not change
    /// what is remembered, so that a file that has rotted never passes for a good one. True if
    /// nothing is remembered. Blocking.
    ///
    /// # Errors
    /// The file system's.
    pub fn holds(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let (inode, stamp) = stamp_of(&file.metadata()?);
        let remembered = self.known().get(&inode).filter(|(known, _)| *known == stamp).copied();
        match remembered {
            Some((_, sha256)) => Ok(hash_of(&mut file)? == sha256),
            None => Ok(true),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp_of(metadata: &Metadata) -> ((u64, u64), Stamp) {
    let stamp = Stamp { bytes: metadata.len(), modified_s: metadata.mtime(), modified_ns: metadata.mtime_nsec() };
    ((metadata.dev(), metadata.ino()), stamp)
}

fn hash_of(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_hash_is_reused_only_for_the_same_untouched_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let write = |content: &str, seconds| {
            let file = File::options().create(true).truncate(true).write(true).open(&path).unwrap();
            io::Write::write_all(&mut &file, content.as_bytes()).unwrap();
            file.set_modified(at(seconds)).unwrap();
        };
        let sha256 = |content: &str| -> [u8; 32] { Sha256::digest(content).into() };
        let hashes = FileHashes::default();
        write("old", 1000);
        assert_eq!(hashes.of(&path).unwrap(), (3, sha256("old")));

        // Same inode, length and time: believed without reading, also under another name.
        write("new", 1000);
        let link = directory.path().join("b");
        std::fs::hard_link(&path, &link).unwrap();
        assert_eq!(hashes.of(&path).unwrap(), (3, sha256("old")));
        assert_eq!(hashes.of(&link).unwrap(), (3, sha256("old")));
        assert!(!hashes.holds(&path).unwrap());
        assert_eq!(hashes.of(&path).unwrap(), (3, sha256("old")));
        write("old", 1000);
        assert!(hashes.holds(&path).unwrap());

        write("now", 1001);
        assert_eq!(hashes.of(&path).unwrap(), (3, sha256("now")));
        write("longer", 1001);
        assert_eq!(hashes.of(&path).unwrap(), (6, sha256("longer")));
        // Another inode with the same length and time.
        let other = directory.path().join("c");
        std::fs::write(&other, "strong").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(at(1001)).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(hashes.of(&path).unwrap(), (6, sha256("strong")));
    }
}
