//! Shares of the root key: Shamir's scheme over GF(256), each share as 32 words that a person can write down.
//!
//! A [`ShareSet`] is what may be known of a split: which root key (by its check value), how many shares
//! restore it, and a check value of each share. A [`Share`] names its set by the set's fingerprint, so that a
//! share of another set, or a wrong one, is refused at once and by itself.
//!
//! Invariants
//! - Fewer shares than the threshold tell nothing about the key; nothing in a set helps to find it or a share.
//! - What comes out of [`Gathering`] is the key that was split, or nothing: it is held against the set's
//!   check value.
//! - Shares and the key are never printed, and wiped when dropped. Errors repeat no word.
//! - Nothing here draws randomness; the caller brings it.

mod gather;
mod shamir;
mod words;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::hexadecimal;
use crate::id::ClusterId;
use crate::row::ShareSetRow;
use crate::seal::hash::{share_check_value, share_set_proof};
use crate::seal::{CHECK_VALUE_BYTES, KEY_BYTES, Key};

pub use gather::{GatherError, Gathered, Gathering};
pub use shamir::{SplitError, split};
pub use words::WORDS_PER_SHARE;

/// Fewest shares that a threshold may ask for: one alone would be the key itself.
pub const THRESHOLD_MIN: u8 = 2;
/// Most holders of a set.
pub const HOLDERS_MAX: u8 = 16;
/// Length of a set's fingerprint.
pub const FINGERPRINT_BYTES: usize = 5;
/// Length of a share as bytes.
pub const SHARE_BYTES: usize = 3 + FINGERPRINT_BYTES + KEY_BYTES + CHECKSUM_BYTES;

const CHECKSUM_BYTES: usize = 4;
const FORMAT: u8 = 1;

/// A set's short name: the first bytes of the SHA-256 of everything that is known of it.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

/// The check value of a root key or of a share: see [`Key::check_value`].
pub type CheckValue = [u8; CHECK_VALUE_BYTES];

/// Why something is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Too few or too many words.
    #[error("a share has {WORDS_PER_SHARE} words, these are {found}")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// A word that the list does not have.
    #[error("word {place} is not in the word list")]
    Word {
        /// Which one, from 1.
        place: usize,
    },
    /// The words do not belong together: one is wrong, or two changed places.
    #[error("the checksum does not fit: a word is wrong or in another's place")]
    Checksum,
    /// Another format, or numbers that no split has.
    #[error("this is not a share in a known form")]
    Form,
}

/// A holder's share.
pub struct Share {
    /// Its number in the set, from 1.
    pub index: u8,
    /// How many shares of the set restore the key.
    pub threshold: u8,
    /// Its set.
    pub set: Fingerprint,
    /// The points of the polynomials at `index`, one for each byte of the key.
    body: Key,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({} of set {}, …)", self.index, hexadecimal(self.set))
    }
}

/// Constant in time where it matters.
impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        (self.index, self.threshold, self.set) == (other.index, other.threshold, other.set) && self.body == other.body
    }
}

impl Eq for Share {}

impl Share {
    /// The check value by which its set knows it.
    pub fn check_value(&self) -> CheckValue {
        share_check_value(&self.body, self.index)
    }
}

/// What may be known of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSet {
    /// How many shares restore the key.
    pub threshold: u8,
    /// Check value of the root key that was split.
    pub root_check_value: CheckValue,
    /// Check value of each share, in order of their numbers.
    pub share_check_values: Vec<CheckValue>,
}

impl ShareSet {
    /// How many holders it has.
    pub fn holders(&self) -> usize {
        self.share_check_values.len()
    }

    /// SHA-256 of everything that is known of it, and of the cluster.
    pub fn digest(&self, cluster: &ClusterId) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"kura-set");
        hash.update(cluster.0);
        hash.update(self.root_check_value);
        hash.update([self.threshold, self.share_check_values.len() as u8]);
        for value in &self.share_check_values {
            hash.update(value);
        }
        hash.finalize().into()
    }

    /// Its short name.
    pub fn fingerprint(&self, cluster: &ClusterId) -> Fingerprint {
        let mut short = [0; FINGERPRINT_BYTES];
        short.copy_from_slice(&self.digest(cluster)[..FINGERPRINT_BYTES]);
        short
    }

    /// What shows that whoever describes this set has the root key.
    pub fn proof(&self, cluster: &ClusterId, root: &Key) -> [u8; 32] {
        share_set_proof(root, &self.digest(cluster))
    }

    /// Checks the proof; constant in time.
    pub fn is_proved(&self, cluster: &ClusterId, root: &Key, proof: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        root.check_value() == self.root_check_value && self.proof(cluster, root).as_slice().ct_eq(proof).into()
    }

    /// The set as a row or a message describes it; `None` if no split has such numbers.
    pub fn read(threshold: u32, root_check_value: &[u8], share_check_values: &[Bytes]) -> Option<ShareSet> {
        let threshold = u8::try_from(threshold).ok()?;
        let holders = u8::try_from(share_check_values.len()).ok()?;
        is_possible(threshold, holders).then_some(())?;
        let values: Result<Vec<CheckValue>, _> = share_check_values.iter().map(|value| value[..].try_into()).collect();
        Some(ShareSet {
            threshold,
            root_check_value: root_check_value.try_into().ok()?,
            share_check_values: values.ok()?,
        })
    }

    /// The set that a row tells of.
    pub fn from_row(row: &ShareSetRow) -> Option<ShareSet> {
        ShareSet::read(row.threshold, &row.root_check_value, &row.share_check_values)
    }
}

/// Whether a split into so many shares, of which so many restore the key, can be made.
pub fn is_possible(threshold: u8, holders: u8) -> bool {
    (THRESHOLD_MIN..=HOLDERS_MAX).contains(&threshold) && (threshold..=HOLDERS_MAX).contains(&holders)
}

#[cfg(test)]
mod tests;
