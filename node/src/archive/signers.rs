//! Whose manifests the writer of an archive goes on from, and its own check takes for the newest: only those of keys
//! that the cluster approved. Who can write to the storage could else put a chain there that others restore from.
//!
//! Known are, by the SHA-256 of the public key:
//! - the keys of the members, and this node's own;
//! - those that were known when this node last looked (`archive-signers` below `data`): a member that was removed since,
//!   its own key of before it got another one;
//! - those that people name (`archive.signed_by`): of a former backup, whose archive is gone on with.
//!
//! Invariants
//! - Only what was known by one of the others is ever kept in the file.
//! - The newest manifest vouches for all before it, each of which it names by its hash, directly or not: their signers
//!   may be known to nobody any more.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kura_cluster::archive::{Sha256Hash, SignedManifest};
use kura_cluster::{from_hexadecimal, hexadecimal};

const FILE: &str = "archive-signers";
/// Keys that are read of the file at most: it grows by one with each new key of a member that writes an archive.
const KEYS_MAX: usize = 4096;

/// A manifest that nobody known has signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} is signed by the key {key}, which is no member's of this cluster and was none's that wrote here: nothing is \
     written over or after it. If it was a former backup's, as it was approved, name it in archive.signed_by; if not, \
     somebody else writes to this storage: keep it as evidence, and configure an empty place (docs/operations.md, \
     \"The archive\")"
)]
pub struct UnknownSigner {
    /// The manifest's object.
    pub name: String,
    /// SHA-256 of the key, hexadecimal.
    pub key: String,
}

type Members = Box<dyn Fn() -> Vec<Sha256Hash> + Send + Sync>;

/// The known keys.
pub struct Signers {
    path: PathBuf,
    named: BTreeSet<Sha256Hash>,
    members: Members,
    kept: Mutex<BTreeSet<Sha256Hash>>,
}

impl Signers {
    /// Reads what is kept below a data directory. `members` tells the keys of the present members, this node's own among
    /// them; `named` are those that people named.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(data: &Path, named: impl IntoIterator<Item = Sha256Hash>, members: Members) -> io::Result<Signers> {
        let path = data.join(FILE);
        let kept = read(&path)?;
        Ok(Signers { path, named: named.into_iter().collect(), members, kept: Mutex::new(kept) })
    }

    fn is_known(&self, key: &Sha256Hash) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.contains(key) || self.named.contains(key) || (self.members)().contains(key)
    }

    /// Whether the signer of a manifest, whose signature fits, is known.
    ///
    /// # Errors
    /// [`UnknownSigner`].
    pub fn check(&self, signed: &SignedManifest) -> Result<(), UnknownSigner> {
        let key = signed.key_sha256();
        match self.is_known(&key) {
            true => Ok(()),
            false => Err(UnknownSigner { name: signed.manifest.name().to_string(), key: hexadecimal(key) }),
        }
    }

    /// Keeps a known key, durably: it counts when its member is gone, too.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(&self, key: Sha256Hash) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.insert(key) {
            return Ok(());
        }
        let written = write(&self.path, &kept);
        if written.is_err() {
            kept.remove(&key);
        }
        written
    }
}

/// Keeps the keys that signed the archive which a new member was seeded from: the cluster, or people, named them.
///
/// # Errors
/// The file system's.
pub fn keep(data: &Path, keys: &BTreeSet<Sha256Hash>) -> io::Result<()> {
    let path = data.join(FILE);
    let mut kept = read(&path)?;
    kept.extend(keys);
    write(&path, &kept)
}

/// Lines that are no key count for nothing.
fn read(path: &Path) -> io::Result<BTreeSet<Sha256Hash>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(text.lines().filter_map(from_hexadecimal).take(KEYS_MAX).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, keys: &BTreeSet<Sha256Hash>) -> io::Result<()> {
    let lines: String = keys.iter().map(|key| format!("{}\n", hexadecimal(key))).collect();
    crate::serve::checks::write(path, lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_known_stay_known_and_others_never_become_so() {
        let data = tempfile::tempdir().unwrap();
        let [member, former, named, nobody] = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let open =
            |members: Vec<Sha256Hash>| Signers::read(data.path(), [named], Box::new(move || members.clone())).unwrap();
        let signers = open(vec![member, former]);
        assert!([member, former, named].iter().all(|key| signers.is_known(key)) && !signers.is_known(&nobody));
        signers.keep(former).unwrap();
        signers.keep(former).unwrap();
        let later = open(vec![member]);
        assert!(later.is_known(&former) && !later.is_known(&nobody));
        assert!(!open(vec![]).is_known(&member), "who never signed is not kept");
        // Lines that are none count for nothing.
        let path = data.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}\nnonsense\n{}", &text[1..], "04".repeat(31))).unwrap();
        let damaged = open(vec![]);
        assert!(!damaged.is_known(&former) && !damaged.is_known(&nobody));
    }
}
