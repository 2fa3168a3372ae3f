//! Against RFC 6962's recursion written down naively, its own example, and another implementation.

use std::cell::RefCell;
use std::collections::HashMap;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;

use super::*;
use crate::hexadecimal;
use crate::tree::leaf_hash;
use crate::tree::tests::naive_root;

/// What a member stores of a tree, and which reads were made.
#[derive(Default)]
struct Stored {
    peaks: Peaks,
    entries: Vec<Vec<u8>>,
    nodes: HashMap<(u8, u64), Hash>,
    read: RefCell<u64>,
}

impl Stored {
    fn of(size: u64) -> Stored {
        let mut stored = Stored::default();
        for position in 0..size {
            stored.append(position.to_be_bytes().to_vec());
        }
        stored
    }

    fn append(&mut self, entry: Vec<u8>) {
        self.peaks.append(leaf_hash(&entry), |node| {
            self.nodes.insert((node.level, node.index), node.hash);
        });
        self.entries.push(entry);
    }

    fn root(&self, size: u64) -> Hash {
        naive_root(&self.entries[..size as usize])
    }
}

impl Nodes for Stored {
    type Error = (u8, u64);

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, (u8, u64)> {
        assert!((1..=NODES_READ_MAX).contains(&count) && level.is_multiple_of(STORED_LEVEL_STEP));
        *self.read.borrow_mut() += count;
        let one = |index| match level {
            0 => self.entries.get(index as usize).map(|entry| leaf_hash(entry)),
            _ => self.nodes.get(&(level, index)).copied(),
        };
        (first..first + count).map(|index| one(index).ok_or((level, index))).collect()
    }
}

/// PATH(m, D[n]) straight from RFC 6962 §2.1.1.
fn naive_path(position: usize, entries: &[Vec<u8>]) -> Vec<Hash> {
    if entries.len() == 1 {
        return vec![];
    }
    let split = entries.len().next_power_of_two() / 2;
    let (left, right) = entries.split_at(split);
    let (mut path, sibling) = match position < split {
        true => (naive_path(position, left), right),
        false => (naive_path(position - split, right), left),
    };
    path.push(naive_root(sibling));
    path
}

/// SUBPROOF(m, D[n], b) straight from RFC 6962 §2.1.2.
fn naive_subproof(older: usize, entries: &[Vec<u8>], whole: bool) -> Vec<Hash> {
    if older == entries.len() {
        return if whole { vec![] } else { vec![naive_root(entries)] };
    }
    let split = entries.len().next_power_of_two() / 2;
    let (left, right) = entries.split_at(split);
    let (mut proof, other) = match older <= split {
        true => (naive_subproof(older, left, whole), right),
        false => (naive_subproof(older - split, right, false), left),
    };
    proof.push(naive_root(other));
    proof
}

fn digests(hashes: &[Hash]) -> Vec<ct_merkle::digest::Output<sha2::Sha256>> {
    hashes.iter().map(|hash| (*hash).into()).collect()
}

fn is_included(entry: &Vec<u8>, position: u64, size: u64, root: Hash, proof: &[Hash]) -> bool {
    let proof = InclusionProof::<sha2::Sha256>::from_digests(&digests(proof));
    RootHash::new(root.into(), size).verify_inclusion(entry, position, &proof).is_ok()
}

fn is_consistent(older: (u64, Hash), newer: (u64, Hash), proof: &[Hash]) -> bool {
    let proof = ConsistencyProof::<sha2::Sha256>::from_digests(&digests(proof));
    let (older, newer) = (RootHash::new(older.1.into(), older.0), RootHash::new(newer.1.into(), newer.0));
    newer.verify_consistency(&older, &proof).is_ok()
}

#[test]
fn every_proof_of_small_trees_is_the_rfcs() {
    let stored = Stored::of(40);
    for size in 1..=40_u64 {
        let entries = &stored.entries[..size as usize];
        for position in 0..size {
            assert_eq!(inclusion(&stored, position, size), Ok(naive_path(position as usize, entries)));
        }
        for older in 1..=size {
            assert_eq!(consistency(&stored, older, size), Ok(naive_subproof(older as usize, entries, true)));
        }
        assert_eq!(consistency(&stored, 0, size), Ok(vec![]));
        assert_eq!(peaks(&stored, size).unwrap().root(), naive_root(entries));
    }
}

/// The example of RFC 6962 §2.1.3: seven leaves, and the tree at sizes 3, 4 and 6.
#[test]
fn the_rfcs_example_comes_out() {
    let stored = Stored::of(7);
    let leaf = |position: usize| leaf_hash(&stored.entries[position]);
    let (a, b, c, d, e, f, j) = (leaf(0), leaf(1), leaf(2), leaf(3), leaf(4), leaf(5), leaf(6));
    let (g, h, i) = (node_hash(&a, &b), node_hash(&c, &d), node_hash(&e, &f));
    let (k, l) = (node_hash(&g, &h), node_hash(&i, &j));
    assert_eq!(peaks(&stored, 7).unwrap().root(), node_hash(&k, &l));
    assert_eq!(inclusion(&stored, 0, 7), Ok(vec![b, h, l]));
    assert_eq!(inclusion(&stored, 3, 7), Ok(vec![c, g, l]));
    assert_eq!(inclusion(&stored, 4, 7), Ok(vec![f, j, k]));
    assert_eq!(inclusion(&stored, 6, 7), Ok(vec![i, k]));
    assert_eq!(consistency(&stored, 3, 7), Ok(vec![c, d, g, l]));
    assert_eq!(consistency(&stored, 4, 7), Ok(vec![l]));
    assert_eq!(consistency(&stored, 6, 7), Ok(vec![i, j, k]));
}

/// Leaves and roots of the Certificate Transparency project's reference tree of eight entries.
#[test]
fn the_reference_trees_roots_come_out() {
    let entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut stored = Stored::default();
    for (entry, root) in entries.iter().zip(roots) {
        stored.append(base16ct::lower::decode_vec(entry).unwrap());
        let size = stored.entries.len() as u64;
        assert_eq!(hexadecimal(peaks(&stored, size).unwrap().root()), *root, "at {size}");
    }
}

#[test]
fn what_lies_beyond_the_tree_has_no_proof() {
    let stored = Stored::of(5);
    assert_eq!(inclusion(&stored, 5, 5), Err(ProofError::OutOfRange));
    assert_eq!(inclusion(&stored, 0, 0), Err(ProofError::OutOfRange));
    assert_eq!(consistency(&stored, 6, 5), Err(ProofError::OutOfRange));
    // A size that the tree has not reached asks for what is not there.
    assert_eq!(inclusion(&stored, 0, 6), Err(ProofError::Nodes((0, 5))));
    assert_eq!(inclusion(&stored, 0, u64::MAX).map_err(|e| matches!(e, ProofError::Nodes(_))), Err(true));
    assert_eq!(consistency(&stored, 1, u64::MAX).map_err(|e| matches!(e, ProofError::Nodes(_))), Err(true));
    assert_eq!(peaks(&stored, 0).unwrap(), Peaks::default());
}

#[test]
fn a_proof_reads_few_neighbours_however_large_the_tree() {
    let stored = Stored::of(70_000);
    for size in [70_000, 65_536, 65_535, 513] {
        for position in [0, 1, 255, 256, 511, size / 2, size - 1] {
            *stored.read.borrow_mut() = 0;
            let proof = inclusion(&stored, position, size).unwrap();
            let levels = u64::from(size.ilog2() / u32::from(STORED_LEVEL_STEP)) + 1;
            assert!(*stored.read.borrow() < levels * 4 * NODES_READ_MAX, "{} at {position}", stored.read.borrow());
            let entry = &stored.entries[position as usize];
            assert!(is_included(entry, position, size, peaks(&stored, size).unwrap().root(), &proof));
        }
    }
}

proptest! {
    #[test]
    fn proofs_convince_another_implementation_and_altered_ones_do_not(
        size in 1_u64..1_500, at in 0.0..1.0_f64, bit in 0_usize..256, place: prop::sample::Index,
    ) {
        let stored = Stored::of(size);
        let root = stored.root(size);
        let position = (at * size as f64) as u64;
        let entry = &stored.entries[position as usize];
        let proof = inclusion(&stored, position, size).unwrap();
        prop_assert!(is_included(entry, position, size, root, &proof));

        let older = position + 1;
        let proof_of_older = consistency(&stored, older, size).unwrap();
        prop_assert!(is_consistent((older, stored.root(older)), (size, root), &proof_of_older));
        prop_assert_eq!(peaks(&stored, older).unwrap().root(), stored.root(older));

        // Another entry, position, size or root; a hash altered, missing or added.
        let flip = |hash: &mut Hash| hash[bit / 8] ^= 1 << (bit % 8);
        let mut other = entry.clone();
        other[7] ^= 1;
        prop_assert!(!is_included(&other, position, size, root, &proof));
        let mut false_root = root;
        flip(&mut false_root);
        prop_assert!(!is_included(entry, position, size, false_root, &proof));
        prop_assert!(!is_consistent((older, stored.root(older)), (size, false_root), &proof_of_older));
        let mut false_older = stored.root(older);
        flip(&mut false_older);
        prop_assert!(!is_consistent((older, false_older), (size, root), &proof_of_older));
        if size > 1 {
            let elsewhere = (position + 1) % size;
            prop_assert!(!is_included(entry, elsewhere, size, root, &proof));
        }
        for (mut altered, of_older) in [(proof.clone(), false), (proof_of_older.clone(), true)] {
            let convinces = |proof: &[Hash]| match of_older {
                false => is_included(entry, position, size, root, proof),
                true => is_consistent((older, stored.root(older)), (size, root), proof),
            };
            let mut longer = altered.clone();
            longer.push(root);
            prop_assert!(!convinces(&longer));
            if altered.is_empty() {
                continue;
            }
            prop_assert!(!convinces(&altered[1..]));
            flip(place.get_mut(&mut altered));
            prop_assert!(!convinces(&altered));
        }
    }
}
