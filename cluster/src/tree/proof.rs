//! Proofs about the journal's tree (RFC 6962 §2.1.1 and §2.1.2), made from what is stored of it.
//!
//! Only every eighth level is stored, so a hash between two stored levels is folded from at most
//! [`NODES_READ_MAX`] neighbours on the lower one. Proofs are checked where they are received, with
//! another implementation (docs/decisions/0016).
//!
//! Invariants
//! - Whatever size a proof is about, it is made from complete subtrees only; these never change as the
//!   tree grows.
//! - A proof reads fewer than `4 × NODES_READ_MAX` hashes for each eight levels of the tree.

use super::{Hash, Peaks, STORED_LEVEL_STEP, node_hash};

/// Hashes that one call of [`Nodes::hashes`] asks for, at most.
pub const NODES_READ_MAX: u64 = 1 << (STORED_LEVEL_STEP - 1);

/// What is stored of a tree.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;

    /// Hashes of complete nodes that lie side by side: `count` (1 to [`NODES_READ_MAX`]) of them from
    /// `first` on, on a level that is a multiple of [`STORED_LEVEL_STEP`]; level 0 are the leaves.
    ///
    /// # Errors
    /// Also if one of them is not there; never fewer than were asked for.
    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Self::Error>;
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// The position is not below the size, or the older size is beyond the newer.
    #[error("the position or the older size is beyond the tree")]
    OutOfRange,
    /// What is stored cannot be read.
    #[error("the stored nodes cannot be read")]
    Nodes(#[source] E),
}

/// Shows that the leaf at `position` is in the tree of the first `size` leaves: the siblings on the way
/// from the leaf to the root, RFC 6962's PATH(position, D\[size\]).
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `position < size`.
pub fn inclusion<N: Nodes>(nodes: &N, position: u64, size: u64) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if position >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut from, mut to) = (0, size);
    let mut siblings = Vec::new();
    while to - from > 1 {
        let middle = from + left_size(to - from);
        if position < middle {
            siblings.push((middle, to));
            to = middle;
        } else {
            siblings.push((from, middle));
            from = middle;
        }
    }
    upwards(nodes, siblings)
}

/// Shows that the tree of the first `older` leaves is the beginning of the tree of the first `newer`:
/// RFC 6962's PROOF(older, D\[newer\]). Of the empty tree nothing has to be shown.
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `older ≤ newer`.
pub fn consistency<N: Nodes>(nodes: &N, older: u64, newer: u64) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if older > newer {
        return Err(ProofError::OutOfRange);
    }
    if older == 0 {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, newer);
    let mut subtrees = Vec::new();
    while older < to {
        let middle = from + left_size(to - from);
        if older <= middle {
            subtrees.push((middle, to));
            to = middle;
        } else {
            subtrees.push((from, middle));
            from = middle;
        }
    }
    // The older tree itself is known to who asks; a part of it is not.
    if from > 0 {
        subtrees.push((from, to));
    }
    upwards(nodes, subtrees)
}

/// The complete subtrees of the first `size` leaves: what it takes to go on from there, and to tell the
/// root at that size.
///
/// # Errors
/// [`ProofError::Nodes`].
pub fn peaks<N: Nodes>(nodes: &N, size: u64) -> Result<Peaks, ProofError<N::Error>> {
    let mut hashes = Vec::new();
    let mut from = 0;
    while from < size {
        let level = (size - from).ilog2();
        hashes.push(subtree(nodes, level, from >> level)?);
        from += 1 << level;
    }
    Ok(Peaks { size, hashes })
}

/// Hashes of ranges that were found on the way down, in the order of the way up.
fn upwards<N: Nodes>(nodes: &N, ranges: Vec<(u64, u64)>) -> Result<Vec<Hash>, ProofError<N::Error>> {
    ranges.into_iter().rev().map(|(from, to)| range(nodes, from, to)).collect()
}

/// Leaves in the left half of a tree of `size` leaves: the largest power of two below it.
fn left_size(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// MTH of the leaves of a range as the splits by [`left_size`] yield them: complete subtrees, the largest
/// first, joined from the right.
fn range<N: Nodes>(nodes: &N, mut from: u64, to: u64) -> Result<Hash, ProofError<N::Error>> {
    let mut left = Vec::new();
    loop {
        let level = (to - from).ilog2();
        let hash = subtree(nodes, level, from >> level)?;
        from += 1 << level;
        if from == to {
            return Ok(left.iter().rfold(hash, |right, left| node_hash(left, &right)));
        }
        left.push(hash);
    }
}

/// The hash of a complete node on any level.
fn subtree<N: Nodes>(nodes: &N, level: u32, index: u64) -> Result<Hash, ProofError<N::Error>> {
    let above = level % u32::from(STORED_LEVEL_STEP);
    // Levels of a tree with 64-bit sizes fit a byte.
    let stored = u8::try_from(level - above).unwrap_or(u8::MAX);
    let mut hashes = nodes.hashes(stored, index << above, 1 << above).map_err(ProofError::Nodes)?;
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[pair.len() - 1])).collect();
    }
    hashes.pop().ok_or(ProofError::OutOfRange)
}

#[cfg(test)]
mod tests;
