//! Additive digests of tables: the same set of rows has the same digest, whatever the order in
//! which they were written, and a row can be taken out again.
//!
//! The element of a row is SHA-256(table ‖ key length ‖ key ‖ revision ‖ SHA-256(value)); a table's
//! digest is the sum of its elements modulo 2^256 (AdHash: Bellare and Micciancio, 1997). It finds
//! faults, divergence and lost rows. It is no defence against someone who can write rows of their
//! choice into a member's database *and* spends a generalised-birthday search on them; against that
//! stand the seals and the journal's tree.

use sha2::{Digest as _, Sha256};

use crate::hexadecimal;
use crate::row::RowHeader;

/// A sum of row elements modulo 2^256; little-endian limbs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Digest([u64; 4]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = self.to_bytes();
        bytes.reverse();
        f.write_str(&hexadecimal(&bytes[..8]))
    }
}

impl Digest {
    /// The element of one row.
    pub fn of_row(row_key: &[u8], header: &RowHeader) -> Digest {
        let mut hash = Sha256::new();
        hash.update([u8::try_from(row_key.len()).unwrap_or(u8::MAX)]);
        hash.update(row_key);
        hash.update(header.revision.to_bytes());
        hash.update(header.value_sha256);
        Digest::from_bytes(hash.finalize().into())
    }

    /// Puts a row (or another sum) in.
    pub fn add(&mut self, other: Digest) {
        let mut carry = false;
        for (limb, more) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = limb.overflowing_add(more);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
    }

    /// Takes a row out.
    pub fn subtract(&mut self, other: Digest) {
        let mut borrow = false;
        for (limb, less) in self.0.iter_mut().zip(other.0) {
            let (rest, first) = limb.overflowing_sub(less);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, first || second);
        }
    }

    /// 32 bytes, little endian.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// From 32 bytes, little endian.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            *limb = u64::from_le_bytes(eight);
        }
        Digest(limbs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_does_not_matter_and_rows_can_leave(mut elements in proptest::collection::vec(any::<[u8; 32]>(), 1..20)) {
            let sum = |elements: &[[u8; 32]]| {
                let mut digest = Digest::default();
                elements.iter().for_each(|e| digest.add(Digest::from_bytes(*e)));
                digest
            };
            let forward = sum(&elements);
            elements.reverse();
            prop_assert_eq!(forward, sum(&elements));
            let mut less = forward;
            elements.iter().for_each(|e| less.subtract(Digest::from_bytes(*e)));
            prop_assert_eq!(less, Digest::default());
        }
    }

    #[test]
    fn carries_run_through_all_limbs() {
        let mut digest = Digest::from_bytes([0xff; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        digest.add(Digest::from_bytes(one));
        assert_eq!(digest, Digest::default());
        digest.subtract(Digest::from_bytes(one));
        assert_eq!(digest.to_bytes(), [0xff; 32]);
    }
}
