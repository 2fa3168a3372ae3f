//! The journal: its tree is computed anew from the entries' hashes, after RFC 6962, section 2.1, and not by
//! the code under test.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::Report;
use super::view::View;
use crate::content::hexadecimal;
use crate::history::{Action, Entry, Outcome};

type Hash = [u8; 32];

/// The hash of an entry.
pub fn leaf(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(entry);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// A tree that grows by leaves: the roots of its full halves, the largest first.
#[derive(Default)]
struct Tree {
    leaves: u64,
    halves: Vec<Hash>,
}

impl Tree {
    fn push(&mut self, leaf: Hash) {
        let mut right = leaf;
        let mut before = self.leaves;
        while before & 1 == 1 {
            // There is a half for each bit of the number of leaves.
            let Some(left) = self.halves.pop() else { break };
            right = node(&left, &right);
            before >>= 1;
        }
        self.halves.push(right);
        self.leaves += 1;
    }

    fn root(&self) -> Hash {
        let mut halves = self.halves.iter().rev().copied();
        match halves.next() {
            Some(last) => halves.fold(last, |right, left| node(&left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let mut told: BTreeMap<&str, Vec<Option<Hash>>> = BTreeMap::new();
    for part in &view.leaves {
        let leaves = told.entry(&part.node).or_default();
        if part.from != leaves.len() as u64 {
            report.add("journal", format!("{} leaves entries out before {}", part.node, part.from));
        }
        leaves.extend(part.leaves.iter().map(|text| hash(text)));
    }
    let Some(longest) = told.values().max_by_key(|leaves| leaves.len()) else {
        if view.header.run == "chaos" {
            report.add("incomplete", "nobody told the journal's entries");
        }
        return;
    };
    for (node, leaves) in &told {
        if leaves.iter().zip(longest).any(|(one, other)| one.is_none() || one != other) {
            report.add("journal", format!("{node} tells other entries than another member"));
        }
    }
    heads(view, longest, report);
    names(view, longest.len() as u64, report);
    report.figure("journal entries hashed", longest.len());
}

fn hash(text: &str) -> Option<Hash> {
    let bytes: Option<Vec<u8>> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Every head that anybody saw is that of the first so many entries.
fn heads(view: &View<'_>, leaves: &[Option<Hash>], report: &mut Report) {
    let mut heads: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for head in view.statuses.iter().filter_map(|status| status.journal.as_ref()) {
        heads.entry(head.entries).or_default().push(&head.root);
    }
    let (mut tree, mut seen) = (Tree::default(), 0);
    let mut compare = |tree: &Tree, roots: &[&str], report: &mut Report| {
        let root = hexadecimal(&tree.root());
        seen += 1;
        if roots.iter().any(|told| *told != root) {
            report.add("journal", format!("a head of {} entries is not the root of those entries", tree.leaves));
        }
    };
    for leaf in leaves.iter().flatten() {
        if let Some(roots) = heads.remove(&tree.leaves) {
            compare(&tree, &roots, report);
        }
        tree.push(*leaf);
    }
    if let Some(roots) = heads.remove(&tree.leaves) {
        compare(&tree, &roots, report);
    }
    if let Some(entries) = heads.keys().next().filter(|_| !view.leaves.is_empty()) {
        // The last check comes after the entries were told: only its own head may be longer.
        let last = view.statuses.iter().filter_map(|status| status.journal.as_ref()).next_back();
        if heads.len() > 1 || last.is_none_or(|last| last.entries != *entries) {
            report.add("journal", format!("a head tells of {entries} entries, {} are there", tree.leaves));
        }
    }
    report.figure("heads of the journal", seen);
}

/// What each answer names is an entry about it.
fn names(view: &View<'_>, entries: u64, report: &mut Report) {
    let opened: HashMap<u64, &Entry> = view.entries.iter().map(|entry| (entry.position, *entry)).collect();
    let last = view.entries.iter().map(|entry| entry.position).max().unwrap_or(0);
    let mut found = 0_u64;
    for operation in &view.operations {
        let (position, denied) = match &operation.outcome {
            Outcome::Read { journal, .. } => (*journal, false),
            Outcome::Committed(receipt) => (receipt.journal, false),
            Outcome::Denied { entry: Some(entry) } => (*entry, true),
            _ => continue,
        };
        let id = operation.id;
        let Some(entry) = opened.get(&position).filter(|_| position < entries) else {
            if position >= entries || position <= last {
                report.add("journal", format!("operation {id} names entry {position}, which is not there"));
            }
            continue;
        };
        found += 1;
        // The person's own changes of consent name the facility, and are not made by it.
        let by_facility = matches!(operation.action, Action::Put { .. } | Action::Get { .. } | Action::List);
        let same = entry.denied == denied
            && entry.participant == operation.participant
            && (!by_facility || entry.facility == operation.facility);
        if !same {
            report.add("journal", format!("operation {id} names entry {position}, which is about something else"));
        }
    }
    report.figure("answers held against entries", found);
}

/// The root of entries whose hashes are given in hexadecimal.
#[cfg(test)]
pub(super) fn root_of(leaves: &[String]) -> String {
    let mut tree = Tree::default();
    leaves.iter().filter_map(|leaf| hash(leaf)).for_each(|leaf| tree.push(leaf));
    hexadecimal(&tree.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, as it stands there.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let half = many.len().next_power_of_two() / 2;
                node(&defined(&many[..half]), &defined(&many[half..]))
            }
        }
    }

    #[test]
    fn a_growing_tree_has_the_roots_of_the_definition() {
        let leaves: Vec<Hash> = (0..70_u8).map(|nth| leaf(&[nth])).collect();
        let mut tree = Tree::default();
        for length in 0..leaves.len() {
            assert_eq!(tree.root(), defined(&leaves[..length]), "{length}");
            tree.push(leaves[length]);
        }
        // The RFC's test vector of the empty tree, and a leaf of nothing.
        assert!(hexadecimal(&Tree::default().root()).starts_with("e3b0c44298fc1c14"));
        assert!(hexadecimal(&leaf(b"")).starts_with("6e340b9cffb37a98"));
    }
}
