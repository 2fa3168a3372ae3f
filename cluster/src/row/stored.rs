//! The form in which a row's value lies in the database and travels in snapshots.
//!
//! Shape: format byte (1: the row was new, 2: it replaced another), revision (timeline and index, 8
//! bytes big endian each), for format 2 the revision that it replaced (16 bytes), then, only if the
//! value is longer than [`HASH_INLINE_BYTES`], its SHA-256, then the value. Short values are hashed
//! on demand; for the others the hash beside the revision lets digests be kept without reading them.
//!
//! The replaced revision is what sealed rows are bound to: an old sealed value that someone puts back
//! by a new write does not open, because `apply` recorded what it really replaced.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::id::Revision;

const FORMAT_NEW: u8 = 1;
const FORMAT_REPLACING: u8 = 2;
/// Values up to this length carry no stored hash.
pub const HASH_INLINE_BYTES: usize = 32;

/// What stands in place of a value that an archive leaves out; the header keeps the value's own hash.
/// Longer than [`HASH_INLINE_BYTES`], so that the hash is stored and never computed from this.
const STRIPPED_VALUE: &[u8] = b"kura: the value of a key row, which no archive keeps";

/// SHA-256 of no bytes: most rows of the journal's index have no value.
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A row value that is not in any known form: the database is damaged or from the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored row is not in a known form")]
pub struct StoredRowError;

/// What `apply` needs to know of a row without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// Where the row was last written.
    pub revision: Revision,
    /// The revision that this one replaced; absent if the row was new.
    pub replaced: Revision,
    /// SHA-256 of its value.
    pub value_sha256: [u8; 32],
}

/// A row's value with its header.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Revision and hash.
    pub header: RowHeader,
    /// The (mostly sealed) value.
    pub value: Bytes,
}

impl std::fmt::Debug for StoredRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredRow({:?}, {} bytes)", self.header.revision, self.value.len())
    }
}

impl StoredRow {
    /// A row as `apply` makes it.
    pub fn new(revision: Revision, replaced: Revision, value: Bytes) -> StoredRow {
        let value_sha256 = if value.is_empty() { EMPTY_SHA256 } else { Sha256::digest(&value).into() };
        StoredRow { header: RowHeader { revision, replaced, value_sha256 }, value }
    }

    /// A row of which only the value's hash is known: a key row, as an archive's replay makes it. Its digest is
    /// that of the row with its value.
    pub fn stripped(revision: Revision, replaced: Revision, value_sha256: [u8; 32]) -> StoredRow {
        let value = Bytes::from_static(STRIPPED_VALUE);
        StoredRow { header: RowHeader { revision, replaced, value_sha256 }, value }
    }

    /// Whether its value was left out ([`StoredRow::stripped`]).
    pub fn is_stripped(&self) -> bool {
        is_stripped(&self.value)
    }

    /// The bytes before the value.
    pub fn prefix(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 16 + 16 + 32);
        bytes.push(if self.header.replaced.is_absent() { FORMAT_NEW } else { FORMAT_REPLACING });
        bytes.extend_from_slice(&self.header.revision.to_bytes());
        if !self.header.replaced.is_absent() {
            bytes.extend_from_slice(&self.header.replaced.to_bytes());
        }
        if self.value.len() > HASH_INLINE_BYTES {
            bytes.extend_from_slice(&self.header.value_sha256);
        }
        bytes
    }

    /// Reads the stored form; the value is a slice of `bytes`, not a copy.
    pub fn decode(bytes: &Bytes) -> Result<StoredRow, StoredRowError> {
        let (header, value_start) = decode_header(bytes)?;
        Ok(StoredRow { header, value: bytes.slice(value_start..) })
    }

    /// Reads the stored form where it lies: the header, and the value.
    pub fn split(bytes: &[u8]) -> Result<(RowHeader, &[u8]), StoredRowError> {
        let (header, value_start) = decode_header(bytes)?;
        Ok((header, &bytes[value_start..]))
    }

    /// Reads the header of a stored form without touching the value, if its hash is stored.
    pub fn decode_header(bytes: &[u8]) -> Result<RowHeader, StoredRowError> {
        decode_header(bytes).map(|(header, _)| header)
    }
}

/// Whether a value is the one that stands for a value that was left out ([`StoredRow::stripped`]).
pub fn is_stripped(value: &[u8]) -> bool {
    value == STRIPPED_VALUE
}

fn decode_header(bytes: &[u8]) -> Result<(RowHeader, usize), StoredRowError> {
    let fixed = match bytes.first() {
        Some(&FORMAT_NEW) => 17,
        Some(&FORMAT_REPLACING) => 33,
        _ => return Err(StoredRowError),
    };
    if bytes.len() < fixed {
        return Err(StoredRowError);
    }
    let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).map_err(|_| StoredRowError);
    let revision = Revision { timeline: number(1)?, index: number(9)? };
    let replaced = if fixed == 33 { Revision { timeline: number(17)?, index: number(25)? } } else { Revision::ABSENT };
    // Who replaced nothing has the other form: each row has one.
    if fixed == 33 && replaced.is_absent() {
        return Err(StoredRowError);
    }
    if bytes.len() - fixed <= HASH_INLINE_BYTES {
        let value_sha256 = Sha256::digest(&bytes[fixed..]).into();
        return Ok((RowHeader { revision, replaced, value_sha256 }, fixed));
    }
    // With a stored hash the rest is the hash and more than HASH_INLINE_BYTES of value.
    let value_start = fixed + 32;
    if bytes.len() <= value_start + HASH_INLINE_BYTES {
        return Err(StoredRowError);
    }
    let value_sha256 = bytes[fixed..value_start].try_into().map_err(|_| StoredRowError)?;
    Ok((RowHeader { revision, replaced, value_sha256 }, value_start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_value_has_its_own_hash() {
        let row = StoredRow::new(Revision { timeline: 0, index: 1 }, Revision::ABSENT, Bytes::new());
        assert_eq!(row.header.value_sha256, <[u8; 32]>::from(Sha256::digest(b"")));
    }

    proptest! {
        #[test]
        fn every_row_comes_back(timeline: u64, index: u64, replaced in 0_u64..3, value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let replaced = Revision { timeline: if replaced == 0 { 0 } else { timeline }, index: replaced };
            let row = StoredRow::new(Revision { timeline, index }, replaced, value.into());
            let mut bytes = row.prefix();
            bytes.extend_from_slice(&row.value);
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(StoredRow::decode_header(&bytes), Ok(row.header));
            prop_assert_eq!(StoredRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = StoredRow::decode(&bytes.into());
        }
    }

    #[test]
    fn a_stripped_row_keeps_the_hash_of_what_it_lacks() {
        let whole = StoredRow::new(Revision { timeline: 1, index: 2 }, Revision::ABSENT, Bytes::from_static(b"key"));
        let stripped = StoredRow::stripped(whole.header.revision, Revision::ABSENT, whole.header.value_sha256);
        let bytes = Bytes::from([&stripped.prefix()[..], &stripped.value].concat());
        let read = StoredRow::decode(&bytes).unwrap();
        assert!(read.is_stripped() && !whole.is_stripped());
        assert_eq!(read.header, whole.header);
    }

    #[test]
    fn the_form_is_frozen() {
        let (one, two) = (Revision { timeline: 1, index: 2 }, Revision { timeline: 1, index: 3 });
        let short = StoredRow::new(one, Revision::ABSENT, Bytes::from_static(b"abc"));
        assert_eq!(short.prefix(), [&[1][..], &1_u64.to_be_bytes(), &2_u64.to_be_bytes()].concat());
        let replacing = StoredRow::new(two, one, Bytes::from_static(b"abc"));
        assert_eq!(replacing.prefix(), [&[2][..], &two.to_bytes(), &one.to_bytes()].concat());
        assert_eq!(StoredRow::new(one, Revision::ABSENT, Bytes::from(vec![7; 33])).prefix().len(), 49);
        assert_eq!(StoredRow::decode(&Bytes::from_static(&[3; 40])), Err(StoredRowError));
        // A form that says that it replaced a row, and names none.
        let none = [&[2][..], &two.to_bytes(), &Revision { timeline: 5, index: 0 }.to_bytes(), b"abc"].concat();
        assert_eq!(StoredRow::decode(&none.into()), Err(StoredRowError));
    }
}
