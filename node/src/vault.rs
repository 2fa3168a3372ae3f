//! The opened keys of an unsealed voter.
//!
//! Invariants
//! - A backup member never makes one: it is given no root key.
//! - Keys are wiped when the vault goes; data keys are kept opened for a bounded number of
//!   participants, and no longer than their rows are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kura_cluster::keyring::Keyring;
use kura_cluster::row::{KeyringRow, ParticipantKeyRow, RowKey, Table};
use kura_cluster::seal::{DoesNotOpen, Key};
use kura_cluster::{ClusterId, Pseudonym};
use prost::Message;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use crate::state::{Database, DatabaseError};

/// Data keys kept opened.
const DATA_KEYS_CACHED: usize = 20_000;

/// Why the keys are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The root key file is not there.
    #[error("no root key at {path}; an unsealed voter can hand it over once this member is approved")]
    NoRootKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The root key file cannot be read, or is not 32 bytes in hexadecimal.
    #[error("root key at {path}: {why}")]
    RootKeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The state holds no keyring yet: the cluster was not made, or this member is not caught up.
    #[error("no keyring in the state yet")]
    NoKeyring,
    /// The keyring does not open with this root key.
    #[error("the keyring does not open with this root key: it belongs to another cluster or was rotated")]
    WrongRootKey,
    /// The state cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Root key, epoch keys, data keys.
pub struct Vault {
    cluster_id: ClusterId,
    root: Arc<Key>,
    epochs: BTreeMap<u32, Keyring>,
    data_keys: Cache<(Pseudonym, u32), Arc<Key>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({} epochs)", self.epochs.len())
    }
}

impl Vault {
    /// Opens the keyring in the state with the root key.
    pub fn unseal(root: Arc<Key>, cluster_id: ClusterId, database: &Database) -> Result<Vault, VaultError> {
        let rows = database.snapshot().scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX)?;
        let mut epochs = BTreeMap::new();
        for (_, row) in rows {
            let row = KeyringRow::decode(row.value).map_err(|_| VaultError::WrongRootKey)?;
            let keyring = Keyring::unwrap(&root, &cluster_id, &row).map_err(|_| VaultError::WrongRootKey)?;
            epochs.insert(keyring.epoch, keyring);
        }
        if epochs.is_empty() {
            return Err(VaultError::NoKeyring);
        }
        Ok(Vault { cluster_id, root, epochs, data_keys: Cache::new(DATA_KEYS_CACHED) })
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The root key, to hand to an approved voter.
    pub fn root(&self) -> &Key {
        &self.root
    }

    /// The epoch whose keys seal new rows.
    pub fn keyring(&self) -> &Keyring {
        self.epochs.values().next_back().expect("a vault has an epoch")
    }

    /// An older epoch's keys, to open what they sealed.
    pub fn epoch(&self, epoch: u32) -> Option<&Keyring> {
        self.epochs.get(&epoch)
    }

    /// A participant's data key, opened from its row if it is not at hand.
    pub fn data_key(
        &self,
        pseudonym: &Pseudonym,
        version: u32,
        database: &Database,
    ) -> Result<Option<Arc<Key>>, VaultError> {
        if let Some(key) = self.data_keys.get(&(*pseudonym, version)) {
            return Ok(Some(key));
        }
        let Some(row) = database.row(&RowKey::participant_key(pseudonym, version))? else { return Ok(None) };
        let row = ParticipantKeyRow::decode(row.value).map_err(|_| VaultError::WrongRootKey)?;
        let opened = self
            .epoch(row.epoch)
            .ok_or(DoesNotOpen)
            .and_then(|keyring| keyring.unwrap_data_key(&self.cluster_id, pseudonym, &row));
        let key = Arc::new(opened.map_err(|_| VaultError::WrongRootKey)?);
        self.data_keys.insert((*pseudonym, version), key.clone());
        // Deleted between reading and keeping it: whoever forgets deleted keys may have been here before.
        if database.header(&RowKey::participant_key(pseudonym, version))?.is_none() {
            self.data_keys.remove(&(*pseudonym, version));
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// Forgets opened data keys whose rows are gone. The last user of one wipes it.
    pub fn forget_missing(&self, database: &Database) {
        self.data_keys.retain(|(pseudonym, version), _| {
            !matches!(database.header(&RowKey::participant_key(pseudonym, *version)), Ok(None))
        });
    }
}

/// Reads a root key from a file: 64 hexadecimal digits.
pub fn read_root_key(path: &Path) -> Result<Key, VaultError> {
    let fault = |why: String| VaultError::RootKeyFile { path: path.to_owned(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(VaultError::NoRootKey { path: path.to_owned() });
        }
        Err(error) => return Err(fault(error.to_string())),
    };
    let digits = text.trim();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fault("it must be 64 hexadecimal digits".into()));
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|error| fault(error.to_string()))?;
    }
    Ok(Key::from_bytes(&mut bytes))
}

/// Writes a root key to a new file that only its owner can read.
pub fn write_root_key(path: &Path, key: &Key) -> Result<(), VaultError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut digits = Zeroizing::new(String::with_capacity(65));
    for byte in key.expose_bytes() {
        digits.push_str(&format!("{byte:02x}"));
    }
    digits.push('\n');
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(digits.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| VaultError::RootKeyFile { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_file_comes_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        assert!(matches!(read_root_key(&path), Err(VaultError::NoRootKey { .. })));
        let key = crate::random::key();
        write_root_key(&path, &key).unwrap();
        assert!(read_root_key(&path).unwrap() == key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_root_key(&path, &key).is_err(), "never overwritten");
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(read_root_key(&path), Err(VaultError::RootKeyFile { .. })));
    }
}
