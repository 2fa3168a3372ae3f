//! Data keys pass from the wrapping key of an old epoch to that of the newest, some in a command, until the old epoch
//! can end: its wrapping key and its command key are no longer kept. What it sealed stays as it is, and so do the keys
//! that open that.
//!
//! Nothing of it is new to `apply`: puts of key rows, which expect what they replace.
//!
//! Invariants
//! - No row is put that is wrapped under an epoch that is not the newest at its log index: every command that puts one
//!   expects it ([`expect_newest`]). So a look at a state that has an epoch sees every row that is wrapped under an
//!   older one, and once there is none there never will be.
//! - A row is put only in place of the very revision that was opened: a key that was destroyed meanwhile does not come
//!   back, and a newer one is not replaced.
//! - What comes out is the same key for the same participant and version; no sealed row or block is touched.
//! - An epoch of a former timeline does not end: disks that were left behind hold keys wrapped under it, and may yet be
//!   salvaged.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::command::Command;
use crate::drill;
use crate::id::{ClusterId, Pseudonym, Revision};
use crate::keyring::Keyring;
use crate::row::{KeyringRow, ParticipantKeyRow, RowKey, StoredRow};
use crate::seal::Nonce;

/// Expects that no epoch comes after this one.
pub fn expect_newest(command: &mut Command, epoch: u32) {
    command.expect(&RowKey::keyring(epoch.saturating_add(1)), Revision::ABSENT);
}

/// The epoch whose wrapping key wrapped a data key; needs no key. `None`: it is no row of a data key.
pub fn epoch_of(stored: &StoredRow) -> Option<u32> {
    ParticipantKeyRow::decode(stored.value.clone()).ok().map(|row| row.epoch)
}

/// What came of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drafted {
    /// Rows that are put anew.
    pub rewrapped: usize,
    /// Rows under an older epoch that do not open: they stay, and so does their epoch.
    pub closed: usize,
}

/// Drafts the re-wrapping of those of these rows that are wrapped under an epoch before `newest`; those of synthetic
/// participants are wrapped under none. `former` gives the
/// keys of an older epoch, `nonce` a fresh nonce a call.
pub fn draft(
    command: &mut Command,
    cluster: &ClusterId,
    newest: &Keyring,
    rows: &[(RowKey, StoredRow)],
    mut former: impl FnMut(u32) -> Option<Arc<Keyring>>,
    mut nonce: impl FnMut() -> Nonce,
) -> Drafted {
    let mut drafted = Drafted::default();
    for (key, stored) in rows {
        if epoch_of(stored).is_some_and(|epoch| epoch >= newest.epoch || epoch == drill::EPOCH) {
            continue;
        }
        match rewrapped(cluster, newest, key, stored, &mut former, nonce()) {
            Some(row) => {
                command.expect(key, stored.header.revision);
                command.put(key, row.encode_to_vec());
                drafted.rewrapped += 1;
            }
            None => drafted.closed += 1,
        }
    }
    if drafted.rewrapped > 0 {
        expect_newest(command, newest.epoch);
    }
    drafted
}

fn rewrapped(
    cluster: &ClusterId,
    newest: &Keyring,
    key: &RowKey,
    stored: &StoredRow,
    former: &mut impl FnMut(u32) -> Option<Arc<Keyring>>,
    nonce: Nonce,
) -> Option<ParticipantKeyRow> {
    let pseudonym = Pseudonym::from_slice(key.as_bytes().get(1..17)?).ok()?;
    let row = ParticipantKeyRow::decode(stored.value.clone()).ok()?;
    let data_key = former(row.epoch)?.unwrap_data_key(cluster, &pseudonym, &row).ok()?;
    newest.wrap_data_key(cluster, &pseudonym, row.version, &data_key, &nonce).ok()
}

/// Whether an epoch can end on a timeline, given that the newest is another and no data key is wrapped under it.
pub fn may_end(row: &KeyringRow, timeline: u64) -> bool {
    !has_ended(row) && row.timeline == timeline
}

/// Whether an epoch has ended.
pub fn has_ended(row: &KeyringRow) -> bool {
    row.wrapping.is_empty()
}

/// Drafts the end of an epoch of which no data key is left. The caller has looked at all of them in a state that has
/// `newest`, and expects the keyring as it is.
pub fn draft_end(command: &mut Command, row: &KeyringRow, newest: u32) {
    let ended = KeyringRow { wrapping: Bytes::new(), command_mac: Bytes::new(), ..row.clone() };
    expect_newest(command, newest);
    command.put(&RowKey::keyring(row.epoch), ended.encode_to_vec());
}

#[cfg(test)]
mod tests;
