//! Synthetic participants, under a key of their own: what a drill opens.
//!
//! A drill restores the state without the root key, and so can open nothing of real participants. Beside them the cluster
//! keeps a few that nobody is: a data key each, drawn for this, wrapped by the *drill key*, which people keep where drills
//! run; and blocks, sealed, stored and archived as all others. What was sealed is told by its hash, in the open
//! ([`DrillRow`](crate::row::DrillRow)).
//!
//! Invariants
//! - The drill key wraps nothing but these data keys, under a context that no other wrapping has, and no row of another
//!   table is sealed by them.
//! - Their rows of wrapped keys name the epoch 0, which no keyring has: no gateway opens them, and a rotation leaves them.
//! - They have no number, and no row of a participant: nothing finds, lists, counts or erases them as one.

use crate::id::{ClusterId, Pseudonym};
use crate::rewrap::epoch_of;
use crate::row::{ParticipantKeyRow, StoredRow};
use crate::seal::{DoesNotOpen, Key, Nonce, unwrap_key, wrap_key};

/// Stands for the drill key, where rows of wrapped keys name their epoch.
pub const EPOCH: u32 = 0;

/// The version of their data keys.
pub const KEY_VERSION: u32 = 1;

/// Wraps the data key of a synthetic participant.
pub fn wrap(drill: &Key, cluster: &ClusterId, pseudonym: &Pseudonym, key: &Key, nonce: &Nonce) -> ParticipantKeyRow {
    let wrapped = wrap_key(drill, nonce, &context(cluster, pseudonym), key);
    ParticipantKeyRow { version: KEY_VERSION, epoch: EPOCH, wrapped: wrapped.into() }
}

/// Opens what [`wrap`] made.
///
/// # Errors
/// [`DoesNotOpen`]; also what an epoch wrapped.
pub fn unwrap(
    drill: &Key,
    cluster: &ClusterId,
    pseudonym: &Pseudonym,
    row: &ParticipantKeyRow,
) -> Result<Key, DoesNotOpen> {
    match (row.epoch, row.version) {
        (EPOCH, KEY_VERSION) => unwrap_key(drill, &context(cluster, pseudonym), &row.wrapped),
        _ => Err(DoesNotOpen),
    }
}

/// Whether a row of a wrapped key is a synthetic participant's; needs no key.
pub fn is_synthetic(stored: &StoredRow) -> bool {
    epoch_of(stored) == Some(EPOCH)
}

fn context(cluster: &ClusterId, pseudonym: &Pseudonym) -> Vec<u8> {
    [&b"drill"[..], &cluster.0, &pseudonym.0, &KEY_VERSION.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::id::Revision;
    use crate::keyring::Keyring;

    fn key(n: u8) -> Key {
        Key::from_bytes(&mut [n; 32])
    }

    #[test]
    fn only_the_drill_key_opens_it_and_the_drill_key_opens_nothing_else() {
        let (cluster, one, two) = (ClusterId([7; 16]), Pseudonym([1; 16]), Pseudonym([2; 16]));
        let row = wrap(&key(9), &cluster, &one, &key(33), &[1; 24]);
        assert!(unwrap(&key(9), &cluster, &one, &row) == Ok(key(33)));
        assert!(unwrap(&key(8), &cluster, &one, &row).is_err());
        assert!(unwrap(&key(9), &cluster, &two, &row).is_err());
        assert!(unwrap(&key(9), &ClusterId([8; 16]), &one, &row).is_err());
        let stored = |row: &ParticipantKeyRow| {
            StoredRow::new(Revision { timeline: 0, index: 1 }, Revision::ABSENT, row.encode_to_vec().into())
        };
        assert!(is_synthetic(&stored(&row)));
        // Were the drill key an epoch's wrapping key by mistake, what it wraps would still not be the same.
        let keyring = Keyring {
            epoch: 1,
            timeline: 0,
            registry: key(1),
            journal: key(2),
            command_mac: Some(key(3)),
            wrapping: Some(key(9)),
            index: key(5),
        };
        assert!(keyring.unwrap_data_key(&cluster, &one, &row).is_err());
        let real = keyring.wrap_data_key(&cluster, &one, KEY_VERSION, &key(44), &[2; 24]).unwrap();
        assert!(!is_synthetic(&stored(&real)));
        assert!(unwrap(&key(9), &cluster, &one, &real).is_err());
        assert!(unwrap(&key(9), &cluster, &one, &ParticipantKeyRow { epoch: EPOCH, ..real }).is_err());
    }
}
