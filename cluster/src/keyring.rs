//! The epoch keys, and how they lie wrapped under the root key.
//!
//! Root key → epoch keys (registry, journal, command MAC, wrapping) → data keys per participant. The
//! index key is as old as the cluster; every epoch's row wraps it again. Wrapping contexts name the
//! cluster, the epoch and the use, so that no wrapped key can stand in for another.
//!
//! Invariants
//! - Nothing here draws randomness; the caller brings fresh key bytes and nonces.
//! - An epoch that has ended ([`crate::rewrap`]) keeps what opens its rows, and neither wraps nor authenticates.

use bytes::Bytes;

use crate::id::{ClusterId, Pseudonym};
use crate::row::{KeyringRow, ParticipantKeyRow};
use crate::seal::{DoesNotOpen, Key, Nonce, unwrap_key, wrap_key};

/// The keys of one epoch, opened.
pub struct Keyring {
    /// Epoch number, from 1. It is the key version of rows that these keys seal.
    pub epoch: u32,
    /// The timeline on which it began.
    pub timeline: u64,
    /// Seals registry rows.
    pub registry: Key,
    /// Seals journal entries.
    pub journal: Key,
    /// Authenticates proposals between voters. `None`: the epoch has ended.
    pub command_mac: Option<Key>,
    /// Wraps participants' data keys. `None`: the epoch has ended.
    pub wrapping: Option<Key>,
    /// Keys the hashes in row keys.
    pub index: Key,
}

/// An epoch that has ended wraps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this epoch of the keyring has ended")]
pub struct Ended;

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring(epoch {})", self.epoch)
    }
}

/// The private keys of a recovery: they lie in the newest epoch's row, and are opened only for one.
pub struct RecoveryKeys {
    /// Signs timelines (Ed25519 seed).
    pub timelines: Key,
    /// The recovery CA's (P-256 scalar).
    pub authority: Key,
}

impl std::fmt::Debug for RecoveryKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKeys(…)")
    }
}

impl RecoveryKeys {
    /// Opens them from an epoch's row with the root key.
    ///
    /// # Errors
    /// [`DoesNotOpen`].
    pub fn unwrap(root: &Key, cluster: &ClusterId, row: &KeyringRow) -> Result<RecoveryKeys, DoesNotOpen> {
        let unwrap = |what: &str, wrapped: &[u8]| unwrap_key(root, &context(cluster, row.epoch, what), wrapped);
        Ok(RecoveryKeys {
            timelines: unwrap("recovery", &row.recovery_private_key)?,
            authority: unwrap("recovery-ca", &row.recovery_ca_private_key)?,
        })
    }
}

fn context(cluster: &ClusterId, epoch: u32, what: &str) -> Vec<u8> {
    [&cluster.0[..], &epoch.to_be_bytes(), what.as_bytes()].concat()
}

impl Keyring {
    /// Wraps every key under the root key; `nonces` yields a fresh nonce a call.
    pub fn wrap(
        &self,
        root: &Key,
        cluster: &ClusterId,
        recovery: &RecoveryKeys,
        mut nonce: impl FnMut() -> Nonce,
    ) -> KeyringRow {
        let mut wrap = |what: &str, key: &Key| -> Bytes {
            wrap_key(root, &nonce(), &context(cluster, self.epoch, what), key).into()
        };
        let command_mac = self.command_mac.as_ref().map(|key| wrap("command-mac", key));
        let wrapping = self.wrapping.as_ref().map(|key| wrap("wrapping", key));
        KeyringRow {
            epoch: self.epoch,
            registry: wrap("registry", &self.registry),
            journal: wrap("journal", &self.journal),
            command_mac: command_mac.unwrap_or_default(),
            wrapping: wrapping.unwrap_or_default(),
            index: wrap("index", &self.index),
            recovery_private_key: wrap("recovery", &recovery.timelines),
            root_check_value: Bytes::copy_from_slice(&root.check_value()),
            recovery_ca_private_key: wrap("recovery-ca", &recovery.authority),
            timeline: self.timeline,
        }
    }

    /// The keyring of the next epoch, which begins on `timeline`: fresh keys, but for the index key, which is as old as
    /// the cluster.
    pub fn next(&self, timeline: u64, mut fresh: impl FnMut() -> Key) -> Keyring {
        Keyring {
            epoch: self.epoch + 1,
            timeline,
            registry: fresh(),
            journal: fresh(),
            command_mac: Some(fresh()),
            wrapping: Some(fresh()),
            index: Key::from_bytes(&mut self.index.expose_bytes().clone()),
        }
    }

    /// Opens an epoch's row with the root key.
    pub fn unwrap(root: &Key, cluster: &ClusterId, row: &KeyringRow) -> Result<Keyring, DoesNotOpen> {
        let unwrap = |what: &str, wrapped: &[u8]| unwrap_key(root, &context(cluster, row.epoch, what), wrapped);
        let unwrap_unless_ended = |what: &str, wrapped: &[u8]| match wrapped.is_empty() {
            true => Ok(None),
            false => unwrap(what, wrapped).map(Some),
        };
        Ok(Keyring {
            epoch: row.epoch,
            timeline: row.timeline,
            registry: unwrap("registry", &row.registry)?,
            journal: unwrap("journal", &row.journal)?,
            command_mac: unwrap_unless_ended("command-mac", &row.command_mac)?,
            wrapping: unwrap_unless_ended("wrapping", &row.wrapping)?,
            index: unwrap("index", &row.index)?,
        })
    }

    /// Wraps a participant's data key. Whoever puts the row expects that this epoch is the newest
    /// ([`crate::rewrap::expect_newest`]): it could end meanwhile, and the key be lost.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn wrap_data_key(
        &self,
        cluster: &ClusterId,
        pseudonym: &Pseudonym,
        version: u32,
        key: &Key,
        nonce: &Nonce,
    ) -> Result<ParticipantKeyRow, Ended> {
        let wrapping = self.wrapping.as_ref().ok_or(Ended)?;
        let wrapped = wrap_key(wrapping, nonce, &data_key_context(cluster, pseudonym, version), key);
        Ok(ParticipantKeyRow { version, epoch: self.epoch, wrapped: wrapped.into() })
    }

    /// Opens a participant's data key that this epoch wrapped.
    pub fn unwrap_data_key(
        &self,
        cluster: &ClusterId,
        pseudonym: &Pseudonym,
        row: &ParticipantKeyRow,
    ) -> Result<Key, DoesNotOpen> {
        let wrapping = self.wrapping.as_ref().ok_or(DoesNotOpen)?;
        unwrap_key(wrapping, &data_key_context(cluster, pseudonym, row.version), &row.wrapped)
    }
}

fn data_key_context(cluster: &ClusterId, pseudonym: &Pseudonym, version: u32) -> Vec<u8> {
    [&b"data"[..], &cluster.0, &pseudonym.0, &version.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::from_bytes(&mut [n; 32])
    }

    fn recovery() -> RecoveryKeys {
        RecoveryKeys { timelines: key(6), authority: key(7) }
    }

    fn keyring() -> Keyring {
        Keyring {
            epoch: 1,
            timeline: 3,
            registry: key(1),
            journal: key(2),
            command_mac: Some(key(3)),
            wrapping: Some(key(4)),
            index: key(5),
        }
    }

    #[test]
    fn the_row_opens_only_with_its_root_key_in_its_cluster() {
        let (root, cluster) = (key(9), ClusterId([7; 16]));
        let mut n = 0;
        let row = keyring().wrap(&root, &cluster, &recovery(), || {
            n += 1;
            [n; 24]
        });
        let opened = Keyring::unwrap(&root, &cluster, &row).unwrap();
        assert!(opened.registry == key(1) && opened.index == key(5) && opened.timeline == 3);
        assert!(opened.command_mac == Some(key(3)) && opened.wrapping == Some(key(4)));
        assert!(Keyring::unwrap(&key(8), &cluster, &row).is_err());
        assert!(Keyring::unwrap(&root, &ClusterId([8; 16]), &row).is_err());
        let mut swapped = row.clone();
        std::mem::swap(&mut swapped.registry, &mut swapped.journal);
        assert!(Keyring::unwrap(&root, &cluster, &swapped).is_err());
        let opened = RecoveryKeys::unwrap(&root, &cluster, &row).unwrap();
        assert!(opened.timelines == key(6) && opened.authority == key(7));
        assert!(RecoveryKeys::unwrap(&key(8), &cluster, &row).is_err());
        let mut swapped = row.clone();
        std::mem::swap(&mut swapped.recovery_private_key, &mut swapped.recovery_ca_private_key);
        assert!(RecoveryKeys::unwrap(&root, &cluster, &swapped).is_err());
    }

    #[test]
    fn the_next_epoch_has_fresh_keys_and_the_same_index_key() {
        let mut n = 100;
        let next = keyring().next(4, || {
            n += 1;
            key(n)
        });
        assert_eq!((next.epoch, next.timeline), (2, 4));
        assert!(next.index == keyring().index);
        let (command_mac, wrapping) = (next.command_mac.as_ref().unwrap(), next.wrapping.as_ref().unwrap());
        let fresh = [&next.registry, &next.journal, command_mac, wrapping];
        for (at, one) in fresh.iter().enumerate() {
            assert!(fresh[at + 1..].iter().all(|other| other != one));
        }
        assert!(next.registry != keyring().registry);
    }

    #[test]
    fn a_data_key_opens_only_for_its_participant_and_version() {
        let (cluster, one, two) = (ClusterId([7; 16]), Pseudonym([1; 16]), Pseudonym([2; 16]));
        let row = keyring().wrap_data_key(&cluster, &one, 1, &key(33), &[1; 24]).unwrap();
        assert!(keyring().unwrap_data_key(&cluster, &one, &row).unwrap() == key(33));
        assert!(keyring().unwrap_data_key(&cluster, &two, &row).is_err());
        assert!(keyring().unwrap_data_key(&cluster, &one, &ParticipantKeyRow { version: 2, ..row }).is_err());
    }
}
