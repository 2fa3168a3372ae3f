//! Checking the cluster's proofs (RFC 6962), with another implementation than the one that makes them.
//!
//! Invariant: nothing that a node sends makes a check panic; what is not of the right form proves nothing.

use bytes::Bytes;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::{Digest, Sha256};

use super::JournalHead;

/// A tree's size beyond which nothing is believed: the checks count nodes, not only leaves.
const SIZE_MAX: u64 = 1 << 62;

/// Hash of a leaf: SHA-256(0x00 ‖ entry).
pub fn leaf(entry: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// Whether the journal of one head begins with that of another.
pub fn is_consistent(older: &JournalHead, newer: &JournalHead, proof: &[Bytes]) -> bool {
    let Some(proof) = joined(proof).filter(|_| newer.size <= SIZE_MAX) else { return false };
    if older.size == 0 {
        let nothing: [u8; 32] = Sha256::digest([]).into();
        return proof.is_empty() && older.root == nothing;
    }
    let Ok(proof) = ConsistencyProof::<Sha256>::try_from_bytes(proof) else { return false };
    root(newer).verify_consistency(&root(older), &proof).is_ok()
}

/// Whether a head's journal has a sealed entry at a position.
pub fn is_included(head: &JournalHead, position: u64, entry: &Bytes, proof: &[Bytes]) -> bool {
    let Some(proof) = joined(proof).filter(|_| head.size <= SIZE_MAX) else { return false };
    let Ok(proof) = InclusionProof::<Sha256>::try_from_bytes(proof) else { return false };
    root(head).verify_inclusion(entry, position, &proof).is_ok()
}

/// The complete subtrees of a head's journal, if that is what they are: their number is that of the bits of the
/// size, and joined from the right they make its root.
pub fn peaks_of(head: &JournalHead, peaks: &[Bytes]) -> Option<Vec<[u8; 32]>> {
    let peaks: Vec<[u8; 32]> = peaks.iter().map(|peak| peak[..].try_into().ok()).collect::<Option<_>>()?;
    if peaks.len() != head.size.count_ones() as usize {
        return None;
    }
    let join = |right: [u8; 32], left: &[u8; 32]| {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    };
    let found = match peaks.split_last() {
        None => Sha256::digest([]).into(),
        Some((last, others)) => others.iter().rev().fold(*last, join),
    };
    (found == head.root).then_some(peaks)
}

fn root(head: &JournalHead) -> RootHash<Sha256> {
    RootHash::new(head.root.into(), head.size)
}

/// A proof's hashes in one piece, if each is one.
fn joined(hashes: &[Bytes]) -> Option<Vec<u8>> {
    hashes.iter().all(|hash| hash.len() == 32).then(|| hashes.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    }

    fn head(size: u64, root: [u8; 32]) -> JournalHead {
        JournalHead { cluster_id: [0; 16], timeline: 0, index: 0, size, root }
    }

    fn wire(hashes: &[[u8; 32]]) -> Vec<Bytes> {
        hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
    }

    /// Three leaves: ((a b) c).
    #[test]
    fn true_proofs_are_believed_and_others_are_not() {
        let entries = [Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c")];
        let [a, b, c] = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
        let two = head(2, node(a, b));
        let three = head(3, node(two.root, c));
        let nothing = head(0, Sha256::digest([]).into());
        assert!(is_consistent(&two, &three, &wire(&[c])));
        assert!(is_consistent(&three, &three, &[]));
        assert!(is_consistent(&nothing, &three, &[]));
        assert!(is_included(&three, 1, &entries[1], &wire(&[a, c])));
        assert!(is_included(&three, 2, &entries[2], &wire(&[two.root])));
        assert_eq!(peaks_of(&three, &wire(&[two.root, c])), Some(vec![two.root, c]));
        assert_eq!(peaks_of(&nothing, &[]), Some(vec![]));

        assert!(!is_consistent(&two, &three, &wire(&[b])));
        assert!(!is_consistent(&two, &three, &[]));
        assert!(!is_consistent(&two, &three, &wire(&[c, c])));
        assert!(!is_consistent(&two, &three, &[Bytes::from_static(b"short")]));
        assert!(!is_consistent(&three, &two, &wire(&[c])));
        assert!(!is_consistent(&head(0, a), &three, &[]));
        assert!(!is_consistent(&head(3, a), &three, &[]));
        assert!(!is_included(&three, 0, &entries[1], &wire(&[a, c])));
        assert!(!is_included(&three, 3, &entries[1], &wire(&[a, c])));
        assert!(!is_included(&three, 1, &entries[2], &wire(&[a, c])));
        assert!(!is_included(&nothing, 0, &entries[0], &[]));
        assert_eq!(peaks_of(&three, &wire(&[c, two.root])), None);
        assert_eq!(peaks_of(&three, &wire(&[three.root])), None);
        // Sizes that no tree has are refused, not computed with.
        for size in [SIZE_MAX + 1, u64::MAX] {
            assert!(!is_consistent(&two, &head(size, a), &wire(&[c])));
            assert!(!is_included(&head(size, a), size - 1, &entries[0], &wire(&[a])));
        }
        assert!(!is_consistent(&head(u64::MAX, a), &head(u64::MAX, a), &[]));
        assert!(!is_included(&head(SIZE_MAX, a), SIZE_MAX - 1, &entries[0], &wire(&[a])));
    }
}
