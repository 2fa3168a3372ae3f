//! The next root key on the disk of a voter, between the moment at which it is handed out and the one from
//! which the voter's provider gives it.
//!
//! File `root-key.next` in the data directory: format (1 byte, 1), check value of the root key that wraps it
//! (8), the revision of the rotation (timeline 8, log index 8, big endian), the wrapped key (81). Context of the
//! wrapping: `next`, cluster id (16), the revision (16).

use std::path::Path;
use std::sync::Arc;

use kura_cluster::seal::wrap::WRAPPED_KEY_BYTES;
use kura_cluster::seal::{CHECK_VALUE_BYTES, Key, unwrap_key, wrap_key};
use kura_cluster::share::CheckValue;
use kura_cluster::{ClusterId, Revision};

use crate::random::Nonces;
use crate::vault::{VaultError, aside, create_private, put_in_place, remove_if_there};

/// Its name.
pub(super) const FILE: &str = "root-key.next";

const FORMAT: u8 = 1;
const REVISION_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + CHECK_VALUE_BYTES + REVISION_BYTES;

/// A root key that was handed out and is not in use yet, or not yet given by the provider.
#[derive(Debug, Clone)]
pub struct Next {
    /// The revision of the rotation's row under which it was handed out.
    pub revision: Revision,
    /// The key.
    pub key: Arc<Key>,
}

fn revision_bytes(revision: &Revision) -> [u8; REVISION_BYTES] {
    let mut bytes = [0; REVISION_BYTES];
    bytes[..8].copy_from_slice(&revision.timeline.to_be_bytes());
    bytes[8..].copy_from_slice(&revision.index.to_be_bytes());
    bytes
}

fn context(cluster: &ClusterId, revision: &[u8]) -> Vec<u8> {
    [&b"next"[..], &cluster.0, revision].concat()
}

impl Next {
    /// Writes it, wrapped by the present root key; whole or not at all.
    pub(super) fn write(&self, path: &Path, cluster: &ClusterId, present: &Key) -> Result<(), VaultError> {
        let fault = |error: std::io::Error| VaultError::RootKeyFile { path: path.to_owned(), why: error.to_string() };
        let revision = revision_bytes(&self.revision);
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&present.check_value());
        bytes.extend_from_slice(&revision);
        bytes.extend_from_slice(&wrap_key(present, &Nonces::new().take(), &context(cluster, &revision), &self.key));
        let aside = aside(path);
        remove_if_there(&aside).map_err(fault)?;
        create_private(&aside, &bytes).map_err(fault)?;
        put_in_place(&aside, path).map_err(fault)
    }

    /// Reads it; `None` if there is none, or another root key wraps it.
    pub(super) fn read(path: &Path, cluster: &ClusterId, present: &Key) -> Result<Option<Next>, VaultError> {
        let Some(bytes) = read(path)? else { return Ok(None) };
        if bytes[1..1 + CHECK_VALUE_BYTES] != present.check_value() {
            return Ok(None);
        }
        let (head, wrapped) = bytes.split_at(HEAD_BYTES);
        let revision = &head[1 + CHECK_VALUE_BYTES..];
        let Ok(key) = unwrap_key(present, &context(cluster, revision), wrapped) else {
            return Err(VaultError::RootKeyFile { path: path.to_owned(), why: "it does not open".into() });
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let revision = Revision { timeline: number(&revision[..8]), index: number(&revision[8..]) };
        Ok(Some(Next { revision, key: Arc::new(key) }))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, VaultError> {
    let fault = |why: String| VaultError::RootKeyFile { path: path.to_owned(), why };
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() == HEAD_BYTES + WRAPPED_KEY_BYTES && bytes[0] == FORMAT => Ok(Some(bytes)),
        Ok(_) => Err(fault("it is not in a known form".into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(error.to_string())),
    }
}

/// Which root key wraps what the file holds, if there is one.
pub(super) fn base_check_value(path: &Path) -> Option<CheckValue> {
    read(path).ok()??[1..1 + CHECK_VALUE_BYTES].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn the_next_root_key_opens_with_the_present_one_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (cluster, present) = (ClusterId([7; 16]), random::key());
        assert!(Next::read(&path, &cluster, &present).unwrap().is_none());
        let revision = Revision { timeline: 1, index: 0x0102_0304_0506 };
        let next = Next { revision, key: Arc::new(random::key()) };
        next.write(&path, &cluster, &present).unwrap();
        let read = Next::read(&path, &cluster, &present).unwrap().unwrap();
        assert!(read.key == next.key && read.revision == revision);
        assert_eq!(base_check_value(&path), Some(present.check_value()));
        assert!(Next::read(&path, &cluster, &random::key()).unwrap().is_none());
        assert!(Next::read(&path, &ClusterId([8; 16]), &present).is_err());
        // A later one replaces it whole; the key itself is not in the file.
        let later = Next { revision, key: Arc::new(random::key()) };
        later.write(&path, &cluster, &present).unwrap();
        assert!(Next::read(&path, &cluster, &present).unwrap().unwrap().key == later.key);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(32).any(|window| window == later.key.expose_bytes()));
        for at in [0, 12, 60] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(Next::read(&path, &cluster, &present).is_err(), "{at}");
        }
        std::fs::write(&path, &bytes[1..]).unwrap();
        assert!(Next::read(&path, &cluster, &present).is_err());
    }
}
