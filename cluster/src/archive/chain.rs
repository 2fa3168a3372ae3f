//! What can be wrong with an archive, and the check of its chain of manifests.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::manifest::{Gap, ManifestError, SignedManifest};
use super::{ObjectName, SegmentError, Sha256Hash};
use crate::head::Head;
use crate::hexadecimal;
use crate::id::ClusterId;

/// Something that is wrong with an archive. Each names the object, or the entries, at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Manifests are not there, and nothing says that they have expired.
    #[error("manifests {first} to {last} are missing")]
    ManifestsMissing {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// A manifest is torn, altered, or not signed by the key that it shows.
    #[error("{name}: {source}")]
    Manifest {
        /// Its object.
        name: ObjectName,
        /// What is wrong.
        source: ManifestError,
    },
    /// A manifest stands where another should.
    #[error("{name}: in its place stands manifest {sequence} of generation {generation}")]
    Misplaced {
        /// The object.
        name: ObjectName,
        /// The generation that the manifest says.
        generation: u64,
        /// The number that it says.
        sequence: u64,
    },
    /// A manifest is another cluster's.
    #[error("{name}: it is another cluster's")]
    OtherCluster {
        /// Its object.
        name: ObjectName,
    },
    /// A manifest is signed by a key that is not trusted.
    #[error("{name}: it is signed by the key {key}, which was not named")]
    OtherKey {
        /// Its object.
        name: ObjectName,
        /// SHA-256 of the key, hexadecimal.
        key: String,
    },
    /// The manifest before this one is not the one that it names.
    #[error("{name}: the manifest before it is not the one that it names: one of the two was replaced")]
    Chain {
        /// The later one's object.
        name: ObjectName,
    },
    /// Entries are in no segment, though the writer did not say so.
    #[error("{name}: entries {first} to {last} are missing before it")]
    Hole {
        /// The manifest's object.
        name: ObjectName,
        /// First missing log index.
        first: u64,
        /// Last missing log index.
        last: u64,
    },
    /// A manifest does not go on where the one before it ended, but before that.
    #[error("{name}: it goes back to entry {index}")]
    Back {
        /// The manifest's object.
        name: ObjectName,
        /// Where it begins.
        index: u64,
    },
    /// A base is not the state at which the manifest before it ended.
    #[error("{name}: its base is not the state that the manifest before it ended with")]
    BaseDiffers {
        /// The manifest's object.
        name: ObjectName,
    },
    /// An object is not there.
    #[error("{name}: missing")]
    Missing {
        /// The object.
        name: ObjectName,
    },
    /// An object is shorter than it was: torn, or cut off.
    #[error("{name}: cut off: {found} bytes of {expected}")]
    CutOff {
        /// The object.
        name: ObjectName,
        /// The length that its manifest names.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// An object is longer than it was.
    #[error("{name}: {found} bytes instead of {expected}")]
    Longer {
        /// The object.
        name: ObjectName,
        /// The length that its manifest names.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// An object's content is not the one that its name says.
    #[error("{name}: altered: its content is not the one of its name")]
    Altered {
        /// The object.
        name: ObjectName,
    },
    /// A segment whose content is another segment's.
    #[error("{name}: in its place stands a segment of the entries {first} to {last}")]
    Swapped {
        /// The object.
        name: ObjectName,
        /// First log index that it holds.
        first: u64,
        /// Last log index that it holds.
        last: u64,
    },
    /// A segment does not read as one.
    #[error("{name}: {source}")]
    Segment {
        /// The object.
        name: ObjectName,
        /// What is wrong.
        source: SegmentError,
    },
    /// A part of the key ledger does not read as one, or holds other keys than its manifest's digests say.
    #[error("{name}: the key ledger: {why}")]
    Ledger {
        /// The object.
        name: ObjectName,
        /// What is wrong.
        why: String,
    },
    /// A replay does not come to the state that a manifest names.
    #[error("{name}: replayed to entry {index}, the state is not the one it names ({})", if .tables.is_empty() { "no single table".into() } else { .tables.join(", ") })]
    Differs {
        /// The manifest's object.
        name: ObjectName,
        /// Its log index.
        index: u64,
        /// Words of the tables that differ.
        tables: Vec<&'static str>,
    },
    /// Rows whose digests do not add up to their table's: the base's own files.
    #[error("{name}: the rows in its base do not have the digest that it names ({})", .tables.join(", "))]
    Rows {
        /// The manifest's object.
        name: ObjectName,
        /// Words of the tables.
        tables: Vec<&'static str>,
    },
    /// A base that cannot be opened as a database.
    #[error("{name}: its base does not open: {why}")]
    Base {
        /// The manifest's object.
        name: ObjectName,
        /// What is wrong.
        why: String,
    },
    /// The archive does not reach yet what somebody has witnessed a short while ago: it cannot be told from lag.
    #[error(
        "the archive ends at entry {found} (journal of {journal} entries), behind {witness}, kept a short while ago"
    )]
    Behind {
        /// Last log index in it.
        found: u64,
        /// Entries of the journal in it.
        journal: u64,
        /// What was witnessed, in words.
        witness: String,
    },
    /// The archive ends before what somebody has witnessed long enough ago for it to have got there.
    #[error(
        "the archive ends at entry {found} (journal of {journal} entries), before {witness}, kept longer ago than an archive is \
         behind: its end was cut off, or its writer stands still, or this is an older copy of it"
    )]
    Short {
        /// Last log index in it.
        found: u64,
        /// Entries of the journal in it.
        journal: u64,
        /// What was witnessed, in words.
        witness: String,
    },
    /// The archived journal is not the one that somebody has witnessed.
    #[error("the journal's first {size} entries do not have the witnessed root: it is another journal")]
    Journal {
        /// Entries of the witnessed head.
        size: u64,
    },
    /// Sealed rows do not open with the keys that are given and the ledger.
    #[error("{rows} of {looked} sealed rows of the table {table} do not open")]
    DoesNotOpen {
        /// How many.
        rows: u64,
        /// Of how many that were looked at.
        looked: u64,
        /// The table's word.
        table: &'static str,
    },
}

impl Fault {
    /// Whether it is one that ends by itself, once the archive has caught up.
    pub fn is_lag(&self) -> bool {
        matches!(self, Fault::Behind { .. })
    }
}

/// What the next manifest is held against.
struct Seen {
    sequence: u64,
    sha256: Sha256Hash,
    /// `None` if it could not be read.
    head: Option<Head>,
}

/// Follows manifests in the order of their numbers. Remembers one of them.
pub struct Chain {
    cluster_id: Option<ClusterId>,
    trusted: Vec<Sha256Hash>,
    expired: Vec<Gap>,
    seen: Option<Seen>,
    keys: BTreeMap<Sha256Hash, u64>,
}

impl Chain {
    /// A check that takes the first manifest's cluster unless one is given, any key unless some are trusted,
    /// and lets those manifests be missing that the newest base's manifest says have expired.
    pub fn new(cluster_id: Option<ClusterId>, trusted: Vec<Sha256Hash>, expired: Vec<Gap>) -> Chain {
        Chain { cluster_id, trusted, expired, seen: None, keys: BTreeMap::new() }
    }

    /// The same for the manifests of a later generation alone: what comes before it is not looked at.
    pub fn beginning_anywhere(mut self) -> Chain {
        self.seen = Some(Seen { sequence: 0, sha256: [0; 32], head: None });
        self.expired.clear();
        self
    }

    /// Whether a manifest has expired: if it is still there, it waits to be deleted.
    pub fn is_expired(&self, sequence: u64) -> bool {
        self.expired.iter().any(|gap| (gap.first..=gap.last).contains(&sequence))
    }

    /// The keys that have signed, by SHA-256, and how many manifests each.
    pub fn keys(&self) -> &BTreeMap<Sha256Hash, u64> {
        &self.keys
    }

    /// Looks at the next manifest, the object of that name. What can be used of it is returned even if
    /// something is wrong with its place.
    pub fn push(
        &mut self,
        generation: u64,
        sequence: u64,
        bytes: &[u8],
        faults: &mut Vec<Fault>,
    ) -> Option<SignedManifest> {
        let name = ObjectName::Manifest { generation, sequence };
        let before = self.seen.take();
        let any_beginning = before.as_ref().is_some_and(|seen| seen.sequence == 0);
        let before = before.filter(|seen| seen.sequence > 0);
        let sha256 = Sha256::digest(bytes).into();
        let decoded = SignedManifest::decode(bytes).and_then(|signed| signed.verify().map(|()| signed));
        let signed = match decoded {
            Ok(signed) => signed,
            Err(source) => {
                faults.push(Fault::Manifest { name, source });
                self.seen = Some(Seen { sequence, sha256, head: None });
                return None;
            }
        };
        let manifest = &signed.manifest;
        if manifest.name() != name {
            let (generation, sequence) = (manifest.generation, manifest.sequence);
            faults.push(Fault::Misplaced { name, generation, sequence });
            self.seen = Some(Seen { sequence: self.place(&name), sha256, head: None });
            return None;
        }
        if *self.cluster_id.get_or_insert(manifest.head.cluster_id) != manifest.head.cluster_id {
            faults.push(Fault::OtherCluster { name });
        }
        let key = signed.key_sha256();
        if !self.trusted.is_empty() && !self.trusted.contains(&key) {
            faults.push(Fault::OtherKey { name, key: hexadecimal(key) });
        }
        *self.keys.entry(key).or_default() += 1;
        let follows = before.as_ref().map_or(0, |seen| seen.sequence) + 1 == sequence;
        match &before {
            _ if any_beginning => {}
            Some(seen) if follows => {
                if manifest.previous_sha256 != Some(seen.sha256) {
                    faults.push(Fault::Chain { name });
                }
                if let Some(head) = &seen.head {
                    self.check_range(head, &signed, faults);
                }
            }
            None if follows => {}
            seen => self.check_gap(seen.as_ref(), &signed, faults),
        }
        let head = Some(manifest.head.clone());
        self.seen = Some(Seen { sequence, sha256, head });
        Some(signed)
    }

    fn place(&self, name: &ObjectName) -> u64 {
        match name {
            ObjectName::Manifest { sequence, .. } => *sequence,
            _ => 0,
        }
    }

    /// A manifest that does not follow the one before it: what lies between must have expired.
    fn check_gap(&self, before: Option<&Seen>, signed: &SignedManifest, faults: &mut Vec<Fault>) {
        let manifest = &signed.manifest;
        let (first, last) = (before.map_or(0, |seen| seen.sequence) + 1, manifest.sequence - 1);
        let gap = self.expired.iter().find(|gap| gap.first == first && gap.last == last);
        match gap {
            None => faults.push(Fault::ManifestsMissing { first, last }),
            Some(gap) => {
                let joins = gap.previous_sha256 == before.map(|seen| seen.sha256)
                    && manifest.previous_sha256 == Some(gap.last_sha256);
                if !joins {
                    faults.push(Fault::Chain { name: manifest.name() });
                }
            }
        }
    }

    /// A manifest that follows: its entries, or its base, must follow as well.
    fn check_range(&self, before: &Head, signed: &SignedManifest, faults: &mut Vec<Fault>) {
        let manifest = &signed.manifest;
        let name = manifest.name();
        let Some(base) = manifest.base() else {
            let first = manifest.segments().first().map_or(0, |segment| segment.first);
            match first.cmp(&(before.index + 1)) {
                std::cmp::Ordering::Greater => {
                    faults.push(Fault::Hole { name, first: before.index + 1, last: first - 1 });
                }
                std::cmp::Ordering::Less => faults.push(Fault::Back { name, index: first }),
                std::cmp::Ordering::Equal if manifest.head.timeline != before.timeline => {
                    faults.push(Fault::Back { name, index: first });
                }
                std::cmp::Ordering::Equal => {}
            }
            return;
        };
        if base.continues {
            if manifest.head != *before {
                faults.push(Fault::BaseDiffers { name });
            }
        } else if (manifest.head.timeline, manifest.head.index) < (before.timeline, before.index) {
            faults.push(Fault::Back { name, index: manifest.head.index });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::{CLUSTER, base, follow, sign};
    use super::super::manifest::{Content, Manifest};
    use super::*;

    const KEY: u8 = 3;

    struct Archive(Vec<(u64, u64, Vec<u8>)>);

    impl Archive {
        /// Two generations: bases 1 and 4, segments up to 20 and 40.
        fn make() -> Archive {
            let mut archive = Archive(Vec::new());
            let first = archive.add(base(1, 4, None));
            let second = archive.then(&first, 9);
            let third = archive.then(&second, 20);
            let before = archive.bytes(3).clone();
            let mut next = base(4, 20, Some(&before));
            next.head = third.head.clone();
            let next = archive.add(next);
            let fifth = archive.then(&next, 30);
            archive.then(&fifth, 40);
            archive
        }

        fn add(&mut self, manifest: Manifest) -> Manifest {
            self.0.push((manifest.generation, manifest.sequence, sign(manifest.clone(), KEY).encode()));
            manifest
        }

        fn then(&mut self, before: &Manifest, last: u64) -> Manifest {
            let bytes = self.bytes(before.sequence).clone();
            self.add(follow(before, &bytes, last))
        }

        fn bytes(&self, sequence: u64) -> &Vec<u8> {
            &self.0.iter().find(|(_, found, _)| *found == sequence).unwrap().2
        }

        fn faults(&self, mut chain: Chain) -> Vec<Fault> {
            let mut faults = Vec::new();
            for (generation, sequence, bytes) in &self.0 {
                chain.push(*generation, *sequence, bytes, &mut faults);
            }
            faults
        }

        fn check(&self) -> Vec<Fault> {
            self.faults(Chain::new(Some(CLUSTER), vec![], vec![]))
        }
    }

    fn named(sequence: u64) -> ObjectName {
        ObjectName::Manifest { generation: if sequence < 4 { 1 } else { 4 }, sequence }
    }

    #[test]
    fn a_whole_archive_has_no_fault_and_its_keys_are_told() {
        let archive = Archive::make();
        assert_eq!(archive.check(), []);
        let key = sign(base(1, 4, None), KEY).key_sha256();
        let mut chain = Chain::new(None, vec![key], vec![]);
        let mut faults = Vec::new();
        for (generation, sequence, bytes) in &archive.0 {
            chain.push(*generation, *sequence, bytes, &mut faults);
        }
        assert_eq!((faults, chain.keys().get(&key)), (vec![], Some(&6)));
        let other = archive.faults(Chain::new(Some(CLUSTER), vec![[1; 32]], vec![]));
        assert!(other.len() == 6 && other.iter().all(|fault| matches!(fault, Fault::OtherKey { .. })));
        let elsewhere = archive.faults(Chain::new(Some(ClusterId([8; 16])), vec![], vec![]));
        assert!(elsewhere.iter().all(|fault| matches!(fault, Fault::OtherCluster { .. })));
    }

    #[test]
    fn a_missing_manifest_is_named() {
        for sequence in 1..=5 {
            let mut archive = Archive::make();
            archive.0.retain(|(_, found, _)| *found != sequence);
            assert_eq!(archive.check(), [Fault::ManifestsMissing { first: sequence, last: sequence }]);
        }
        let mut archive = Archive::make();
        archive.0.drain(..3);
        assert_eq!(archive.check(), [Fault::ManifestsMissing { first: 1, last: 3 }]);
        // Of the last ones only a witness knows.
        archive = Archive::make();
        archive.0.pop();
        assert_eq!(archive.check(), []);
    }

    #[test]
    fn an_altered_or_replaced_manifest_is_named() {
        let mut archive = Archive::make();
        let at = archive.0[1].2.len() / 2;
        archive.0[1].2[at] ^= 1;
        let faults = archive.check();
        assert!(matches!(&faults[0], Fault::Manifest { name, .. } if *name == named(2)), "{faults:?}");
        assert_eq!(faults[1..], [Fault::Chain { name: named(3) }]);
        // Another one, well signed, in its place.
        let mut archive = Archive::make();
        let signed = SignedManifest::decode(archive.bytes(2)).unwrap();
        let changed = Manifest { at_ms: 7, ..signed.manifest };
        archive.0[1].2 = sign(changed, KEY).encode();
        assert_eq!(archive.check(), [Fault::Chain { name: named(3) }]);
    }

    #[test]
    fn an_old_manifest_in_a_newer_ones_place_is_named() {
        let mut archive = Archive::make();
        archive.0[5].2 = archive.bytes(5).clone();
        assert_eq!(archive.check(), [Fault::Misplaced { name: named(6), generation: 4, sequence: 5 }]);
        let mut archive = Archive::make();
        let (one, two) = (archive.bytes(5).clone(), archive.bytes(6).clone());
        (archive.0[4].2, archive.0[5].2) = (two, one);
        let misplaced = |at, sequence| Fault::Misplaced { name: named(at), generation: 4, sequence };
        assert_eq!(archive.check(), [misplaced(5, 6), misplaced(6, 5)]);
    }

    #[test]
    fn entries_that_are_missing_or_come_twice_are_named() {
        for (first, fault) in
            [(12, Fault::Hole { name: named(3), first: 10, last: 11 }), (9, Fault::Back { name: named(3), index: 9 })]
        {
            let mut archive = Archive::make();
            let mut third = SignedManifest::decode(archive.bytes(3)).unwrap().manifest;
            let Content::Segments(segments) = &mut third.content else { panic!() };
            segments[0].first = first;
            archive.0[2].2 = sign(third, KEY).encode();
            archive.0.truncate(3);
            assert_eq!(archive.check(), [fault]);
        }
    }

    #[test]
    fn a_base_must_be_where_the_former_generation_ended_or_say_that_it_is_not() {
        let mut archive = Archive::make();
        archive.0.truncate(3);
        let before = archive.bytes(3).clone();
        let honest = |continues, index| {
            let mut manifest = base(4, index, Some(&before));
            let Content::Base(base) = &mut manifest.content else { panic!() };
            base.continues = continues;
            manifest
        };
        for (manifest, fault) in [
            (honest(true, 20), None),
            (honest(true, 25), Some(Fault::BaseDiffers { name: named(4) })),
            (honest(false, 25), None),
            (honest(false, 19), Some(Fault::Back { name: named(4), index: 19 })),
        ] {
            archive.0.truncate(3);
            archive.add(manifest);
            assert_eq!(archive.check(), Vec::from_iter(fault));
        }
    }

    #[test]
    fn expired_manifests_may_be_missing_and_no_others() {
        let mut archive = Archive::make();
        let gap =
            Gap { first: 1, last: 3, previous_sha256: None, last_sha256: Sha256::digest(archive.bytes(3)).into() };
        archive.0.drain(..3);
        let chain = |gap| Chain::new(Some(CLUSTER), vec![], vec![gap]);
        assert_eq!(archive.faults(chain(gap)), []);
        assert!(chain(gap).is_expired(3) && !chain(gap).is_expired(4));
        let forged = Gap { last_sha256: [1; 32], ..gap };
        assert_eq!(archive.faults(chain(forged)), [Fault::Chain { name: named(4) }]);
        let shorter = Gap { last: 2, ..gap };
        assert_eq!(archive.faults(chain(shorter)), [Fault::ManifestsMissing { first: 1, last: 3 }]);
        let of_one = Chain::new(Some(CLUSTER), vec![], vec![]).beginning_anywhere();
        assert_eq!(archive.faults(of_one), []);
    }
}
