//! The opened keys of an unsealed voter.
//!
//! Invariants
//! - A backup member never makes one: it is given no root key.
//! - Keys are wiped when the vault goes; data keys are kept opened for a bounded number of
//!   participants, and no longer than their rows are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kura_cluster::keyring::Keyring;
use kura_cluster::row::{KeyringRow, ParticipantKeyRow, RowKey, Table};
use kura_cluster::seal::{DoesNotOpen, Key};
use kura_cluster::{ClusterId, Pseudonym};
use prost::Message;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use crate::state::{Database, DatabaseError, StateStore};

/// Data keys kept opened.
const DATA_KEYS_CACHED: usize = 20_000;

/// Why the keys are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
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
    store: StateStore,
    /// The newest epoch when this vault was made: its keys seal new rows.
    newest: Arc<Keyring>,
    epochs: Mutex<BTreeMap<u32, Arc<Keyring>>>,
    data_keys: Cache<(Pseudonym, u32), Arc<Key>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault(epoch {})", self.newest.epoch)
    }
}

impl Vault {
    /// Opens the keyring in the state with the root key.
    pub fn unseal(root: Arc<Key>, cluster_id: ClusterId, store: &StateStore) -> Result<Vault, VaultError> {
        let rows = store.database().snapshot().scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX)?;
        let mut epochs = BTreeMap::new();
        for (_, row) in rows {
            let row = KeyringRow::decode(row.value).map_err(|_| VaultError::WrongRootKey)?;
            let keyring = Keyring::unwrap(&root, &cluster_id, &row).map_err(|_| VaultError::WrongRootKey)?;
            epochs.insert(keyring.epoch, Arc::new(keyring));
        }
        let (_, newest) = epochs.last_key_value().ok_or(VaultError::NoKeyring)?;
        let (newest, store) = (newest.clone(), store.clone());
        let epochs = Mutex::new(epochs);
        Ok(Vault { cluster_id, root, store, newest, epochs, data_keys: Cache::new(DATA_KEYS_CACHED) })
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The root key, to hand to an approved voter.
    pub fn root(&self) -> &Arc<Key> {
        &self.root
    }

    /// The epoch whose keys seal new rows.
    pub fn keyring(&self) -> &Keyring {
        &self.newest
    }

    /// The newest epoch that this member has applied: for a moment after a rotation a later one than
    /// [`Self::keyring`]'s. Data keys are wrapped under no other. `None`: another root key wraps it by now.
    pub fn newest(&self) -> Option<Arc<Keyring>> {
        let mut newest = self.newest.clone();
        loop {
            let next = newest.epoch.saturating_add(1);
            newest = match self.epoch(next) {
                Some(next) => next,
                None => {
                    let header = self.store.database().header(&RowKey::keyring(next));
                    return matches!(header, Ok(None)).then_some(newest);
                }
            };
        }
    }

    /// Another epoch's keys, to open what they sealed. One that is younger than this vault is looked up: its
    /// keys were applied before anything that they sealed.
    pub fn epoch(&self, epoch: u32) -> Option<Arc<Keyring>> {
        if epoch == self.newest.epoch {
            return Some(self.newest.clone());
        }
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyring) = epochs.get(&epoch) {
            return Some(keyring.clone());
        }
        let row = self.store.database().row(&RowKey::keyring(epoch)).ok()??;
        let row = KeyringRow::decode(row.value).ok()?;
        let keyring = Arc::new(Keyring::unwrap(&self.root, &self.cluster_id, &row).ok()?);
        epochs.insert(epoch, keyring.clone());
        Some(keyring)
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

/// Reads a root key from a file: 64 hexadecimal digits. `None`: there is no file.
pub fn read_root_key(path: &Path) -> Result<Option<Key>, VaultError> {
    let fault = |why: String| VaultError::RootKeyFile { path: path.to_owned(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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
    Ok(Some(Key::from_bytes(&mut bytes)))
}

/// Writes a root key to a new file that only its owner can read. Never over another.
pub fn write_root_key(path: &Path, key: &Key) -> Result<(), VaultError> {
    let mut digits = Zeroizing::new(String::with_capacity(65));
    for byte in key.expose_bytes() {
        // Digit by digit: formatting would leave copies on the heap.
        for half in [byte >> 4, byte & 15] {
            digits.push(char::from_digit(u32::from(half), 16).expect("four bits are one digit"));
        }
    }
    digits.push('\n');
    create_private(path, digits.as_bytes())
        .map_err(|error| VaultError::RootKeyFile { path: path.to_owned(), why: error.to_string() })
}

/// Puts another root key in the place of the one in a file: whole or not at all, also across a power cut.
pub fn replace_root_key(path: &Path, key: &Key) -> Result<(), VaultError> {
    let fault = |error: std::io::Error| VaultError::RootKeyFile { path: path.to_owned(), why: error.to_string() };
    let aside = aside(path);
    remove_if_there(&aside).map_err(fault)?;
    write_root_key(&aside, key)?;
    put_in_place(&aside, path).map_err(fault)
}

/// The name under which a file is written before it takes its place.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Creates a file for its owner only, synced.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file, if there is one.
pub(crate) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames a file over another, durably.
pub(crate) fn put_in_place(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_file_comes_back_is_private_and_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        assert!(read_root_key(&path).unwrap().is_none());
        let (key, other) = (crate::random::key(), crate::random::key());
        write_root_key(&path, &key).unwrap();
        assert!(read_root_key(&path).unwrap() == Some(key));
        assert!(write_root_key(&path, &other).is_err(), "never overwritten");
        // What a power cut left behind is in nobody's way.
        std::fs::write(aside(&path), "half").unwrap();
        replace_root_key(&path, &other).unwrap();
        assert!(read_root_key(&path).unwrap() == Some(other));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(read_root_key(&path), Err(VaultError::RootKeyFile { .. })));
    }
}
