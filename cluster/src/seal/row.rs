//! Sealed rows: what lies in every table whose value is not open.
//!
//! Shape of a sealed row, numbers big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 4 | key version |
//! | 1 | 1 if the row supersedes a revision, else 0 |
//! | 0 or 16 | the superseded revision: timeline, log index (not 0) |
//! | 24 | nonce |
//! | any | ciphertext, as long as the plaintext (rows are not padded: their lengths show) |
//! | 16 | tag |
//!
//! Shape of the associated data: `kura-row`, format (1), cluster id (16), key version (4), superseded
//! revision (16, zeros if none), kind of the row's name (1: full key, 2: prefix), SHA-256 of the open
//! part (flag 1, then 32, zeros if none), length of the row's name (4), the name.
//!
//! Invariants
//! - A sealed row opens only in its cluster, under its row key, beside its open part, and for an
//!   opener who expects the revision that it superseded.
//! - The superseded revision in the header is for listing and offline checks. Only an opener who
//!   takes it from elsewhere (from what `apply` kept) is safe from an old value put back.

use crate::id::{ClusterId, Revision};

use super::cipher::{self, NONCE_BYTES, Nonce, TAG_BYTES};
use super::{DoesNotOpen, Key, take};

const FORMAT: u8 = 1;
const HEADER_BYTES_MAX: usize = 1 + 4 + 1 + 16 + NONCE_BYTES;

/// Which row it is: the bytes of its key, table number first, shorter than 4 GiB.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowName<'a> {
    /// The whole key.
    Full(&'a [u8]),
    /// The prefix that `apply` completes with log index and ordinal (inbox, journal).
    Prefix(&'a [u8]),
}

/// What a sealed row is bound to. Sealer and opener give the same, or the row does not open.
#[derive(Clone, Copy)]
pub struct RowContext<'a> {
    /// The cluster.
    pub cluster_id: &'a ClusterId,
    /// The row.
    pub name: RowName<'a>,
    /// The revision that this value replaces; [`Revision::ABSENT`] for a row that was not there, and
    /// for appended rows.
    pub supersedes: Revision,
    /// SHA-256 of the open part that stands beside the sealed one, if the row has one (manifests).
    pub open_part_sha256: Option<&'a [u8; 32]>,
}

/// What a sealed row says in the clear. Not authenticated until the row was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// The version of the key that sealed it.
    pub key_version: u32,
    /// The revision that it says it replaced; [`Revision::ABSENT`] for none.
    pub supersedes: Revision,
}

/// Seals a row's value. `nonce` is 24 fresh random bytes.
///
/// The result is 46 bytes longer than the plaintext, 62 if it supersedes a revision.
///
/// # Panics
///
/// If the row's name is 4 GiB or longer, or the plaintext longer than 64 GiB.
pub fn seal_row(key: &Key, key_version: u32, context: &RowContext<'_>, nonce: &Nonce, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES_MAX + plaintext.len() + TAG_BYTES);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&key_version.to_be_bytes());
    if context.supersedes.is_absent() {
        sealed.push(0);
    } else {
        sealed.push(1);
        sealed.extend_from_slice(&context.supersedes.to_bytes());
    }
    sealed.extend_from_slice(nonce);
    cipher::append_encrypted(&mut sealed, key, nonce, &associated_data(key_version, context), plaintext);
    sealed
}

/// Opens a sealed row: `key_version` is that of `key`, looked up by [`peek_header`].
pub fn open_row(key: &Key, key_version: u32, context: &RowContext<'_>, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let (header, nonce, body) = split(sealed).ok_or(DoesNotOpen)?;
    // Both stand in the associated data, too; here they only bind the header to it.
    if header.key_version != key_version || header.supersedes != canonical(context.supersedes) {
        return Err(DoesNotOpen);
    }
    cipher::decrypt(key, &nonce, &associated_data(key_version, context), body)
}

/// Reads the header, so that the opener can look up the key.
pub fn peek_header(sealed: &[u8]) -> Result<RowHeader, DoesNotOpen> {
    split(sealed).map(|(header, _, _)| header).ok_or(DoesNotOpen)
}

fn split(mut sealed: &[u8]) -> Option<(RowHeader, Nonce, &[u8])> {
    let [format] = take(&mut sealed)?;
    if format != FORMAT {
        return None;
    }
    let key_version = u32::from_be_bytes(take(&mut sealed)?);
    let supersedes = match take(&mut sealed)? {
        [0] => Revision::ABSENT,
        [1] => {
            let timeline = u64::from_be_bytes(take(&mut sealed)?);
            let index = u64::from_be_bytes(take(&mut sealed)?);
            Some(Revision { timeline, index }).filter(|revision| !revision.is_absent())?
        }
        _ => return None,
    };
    let nonce = take(&mut sealed)?;
    (sealed.len() >= TAG_BYTES).then_some((RowHeader { key_version, supersedes }, nonce, sealed))
}

/// Index 0 means absent on every timeline; only one of these revisions is written down.
fn canonical(revision: Revision) -> Revision {
    if revision.is_absent() { Revision::ABSENT } else { revision }
}

fn associated_data(key_version: u32, context: &RowContext<'_>) -> Vec<u8> {
    let (kind, name) = match context.name {
        RowName::Full(name) => (1, name),
        RowName::Prefix(name) => (2, name),
    };
    let mut bytes = Vec::with_capacity(83 + name.len());
    bytes.extend_from_slice(b"kura-row");
    bytes.push(FORMAT);
    bytes.extend_from_slice(&context.cluster_id.0);
    bytes.extend_from_slice(&key_version.to_be_bytes());
    bytes.extend_from_slice(&canonical(context.supersedes).to_bytes());
    bytes.push(kind);
    bytes.push(context.open_part_sha256.is_some().into());
    bytes.extend_from_slice(context.open_part_sha256.unwrap_or(&[0; 32]));
    let length = u32::try_from(name.len()).expect("row keys are far shorter than 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(name);
    bytes
}

#[cfg(test)]
mod tests;
