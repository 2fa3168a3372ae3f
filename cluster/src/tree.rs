//! The journal's Merkle tree (RFC 6962 §2.1 hashing), kept incrementally.
//!
//! [`Peaks`] is all that a member needs to append and to tell the root: one hash for each one-bit of
//! the size. Inner nodes are kept as rows only at every eighth level ([`STORED_LEVEL_STEP`]), so that
//! the tree costs one small row for 256 entries and any proof still reads at most 256 neighbours a step.
//! [`inclusion`], [`consistency`] and [`peaks`] are made from them.

use sha2::{Digest, Sha256};

mod proof;

pub use proof::{NODES_READ_MAX, Nodes, ProofError, consistency, inclusion, peaks};

/// Inner nodes are stored at levels that are multiples of this.
pub const STORED_LEVEL_STEP: u8 = 8;

/// A node's hash.
pub type Hash = [u8; 32];

/// Hash of a leaf: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The complete subtrees that make up a tree of some size, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peaks {
    size: u64,
    hashes: Vec<Hash>,
}

/// A complete inner node that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Height: 0 is a leaf.
    pub level: u8,
    /// Its place among the nodes of its level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Peaks {
    /// Takes peaks as they were stored; `None` if their number does not fit the size.
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Option<Peaks> {
        (size.count_ones() as usize == hashes.len()).then_some(Peaks { size, hashes })
    }

    /// Leaves so far; the position of the next.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes, largest subtree first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf; hands every inner node that becomes complete at a stored level to `store`.
    pub fn append(&mut self, leaf: Hash, mut store: impl FnMut(Node)) {
        let mut hash = leaf;
        let mut level = 0_u8;
        // Each trailing one-bit of the size is a peak that the new leaf completes.
        while self.size >> level & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            if level.is_multiple_of(STORED_LEVEL_STEP) {
                store(Node { level, index: self.size >> level, hash });
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root: RFC 6962's MTH; of an empty tree SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.hashes.iter().rev();
        match peaks.next() {
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// MTH straight from RFC 6962 §2.1, recursively.
    pub(crate) fn naive_root(entries: &[Vec<u8>]) -> Hash {
        match entries {
            [] => Sha256::digest([]).into(),
            [one] => leaf_hash(one),
            many => {
                let split = (many.len() as u64).next_power_of_two() as usize / 2;
                node_hash(&naive_root(&many[..split]), &naive_root(&many[split..]))
            }
        }
    }

    #[test]
    fn the_incremental_root_is_the_rfcs() {
        let entries: Vec<Vec<u8>> = (0..600_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let mut peaks = Peaks::default();
        let mut stored = Vec::new();
        assert_eq!(peaks.root(), naive_root(&[]));
        for (i, entry) in entries.iter().enumerate() {
            peaks.append(leaf_hash(entry), |node| stored.push(node));
            if i < 70 || i % 97 == 0 {
                assert_eq!(peaks.root(), naive_root(&entries[..=i]), "at {i}");
            }
        }
        assert_eq!(stored.len(), 2);
        assert_eq!((stored[1].level, stored[1].index), (8, 1));
        assert_eq!(stored[1].hash, naive_root(&entries[256..512]));
        assert_eq!(Peaks::from_parts(peaks.size(), peaks.hashes().to_vec()), Some(peaks.clone()));
        assert_eq!(Peaks::from_parts(peaks.size() + 1, peaks.hashes().to_vec()), None);
    }
}
