//! The schedule of faults of a seed.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::Kind;
use crate::seed::generator;

/// One slot: a fault, perhaps another that overlaps with it, and how long they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// What.
    pub kind: Kind,
    /// Chooses among equals.
    pub draw: usize,
    /// What comes on top, how long after, and a draw of its own.
    pub second: Option<(Kind, Duration, usize)>,
    /// From the last fault to the healing.
    pub hold: Duration,
    /// From the healing to the next slot.
    pub breath: Duration,
}

/// Draws slots without end: every kind once, in some order, then every kind once more.
#[derive(Debug)]
pub struct Slots {
    random: StdRng,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    hold_ms: (u64, u64),
}

impl Slots {
    /// Of a seed, over these kinds, each to last so many milliseconds at least and at most.
    pub fn new(seed: u64, kinds: &[Kind], hold_ms: (u64, u64)) -> Self {
        Self { random: generator(seed, "nemesis"), kinds: kinds.to_vec(), deck: Vec::new(), hold_ms }
    }
}

impl Iterator for Slots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.random);
        }
        let kind = self.deck.pop()?;
        let millis =
            |random: &mut StdRng, (from, to): (u64, u64)| Duration::from_millis(random.random_range(from..=to));
        let seconds: Vec<Kind> =
            self.kinds.iter().copied().filter(|second| second.overlaps() && !second.damages()).collect();
        // All are drawn whether they are used or not, so that a slot does not depend on the one before.
        let second = seconds.choose(&mut self.random).copied();
        let (pair, after) = (self.random.random_ratio(1, 2), millis(&mut self.random, (100, self.hold_ms.0)));
        let draws: [usize; 2] = [self.random.random_range(0..1_000), self.random.random_range(0..1_000)];
        let (hold, breath) = (millis(&mut self.random, self.hold_ms), millis(&mut self.random, (400, 1_500)));
        let second = second.filter(|second| pair && kind.overlaps() && *second != kind);
        Some(Slot { kind, draw: draws[0], second: second.map(|kind| (kind, after, draws[1])), hold, breath })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_repeats_and_meets_every_kind_before_any_twice() {
        let kinds: Vec<Kind> = Kind::all().collect();
        let slots = |seed| Slots::new(seed, &kinds, (3_000, 9_000)).take(3 * kinds.len()).collect::<Vec<_>>();
        assert_eq!(slots(7), slots(7));
        assert_ne!(slots(7), slots(8));
        let drawn = slots(7);
        for round in drawn.chunks(kinds.len()) {
            let met: std::collections::BTreeSet<Kind> = round.iter().map(|slot| slot.kind).collect();
            assert_eq!(met.len(), kinds.len());
        }
        let pairs: Vec<&Slot> = drawn.iter().filter(|slot| slot.second.is_some()).collect();
        assert!(pairs.len() > kinds.len() / 3, "pairs overlap");
        assert!(pairs.iter().all(|slot| slot.kind.overlaps()), "none overlaps what stands alone");
        let second = |slot: &&Slot| slot.second.map(|(kind, ..)| kind);
        assert!(pairs.iter().filter_map(second).all(|kind| !kind.damages()), "damage never comes on top");
    }
}
