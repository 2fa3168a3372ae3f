//! Members check their files one after another: a check costs reads, and may find what ends a member.
//!
//! A member that wants to check says so (it *waits*), and asks all others. It stands back for one that checks, and
//! for one that waits and has a lower Raft id. Then it says that it checks, and asks once more: of two that passed
//! the first question at one moment, at least one sees the other then, and waits again.
//!
//! Invariants
//! - Of two members that reach each other, and whose checks move on, only one checks. One that does not answer is
//!   passed over; without it nobody ends ([`super::damage`]) who is needed.
//! - Nobody waits for ever: a check that has not read a byte for [`STANDSTILL`] is passed over, too. Its disk may never
//!   answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kura_proto::v1;

use crate::serve::{Node, peers};

/// For so long a check under way may stand still, or one that nothing is in the way of not begin. Opening a large copy,
/// or deleting it, reads nothing for minutes.
const STANDSTILL: Duration = Duration::from_secs(30 * 60);

/// What another member said just now.
#[derive(Debug, Clone, Copy)]
struct Told {
    id: u64,
    checks: bool,
    waits: bool,
    bytes_done: u64,
}

/// Since when others stand still, as far as this member has asked while it waited.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<u64, Seen>);

/// What a member said, and since when it says the same.
#[derive(Debug, Clone, Copy)]
struct Seen {
    checks: bool,
    bytes_done: u64,
    since: Instant,
    passed_over: bool,
}

impl Patience {
    /// Leaves out who has stood still for too long. Who waits only stands still while nobody checks.
    fn heed(&mut self, told: Vec<Told>, now: Instant) -> Vec<Told> {
        let (checking, waiting): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|one| one.checks);
        let mut heeded: Vec<Told> = checking.into_iter().filter(|one| self.moves(one, false, now)).collect();
        let is_busy = !heeded.is_empty();
        heeded.extend(waiting.into_iter().filter(|one| self.moves(one, is_busy, now)));
        heeded
    }

    fn moves(&mut self, one: &Told, is_excused: bool, now: Instant) -> bool {
        let new = Seen { checks: one.checks, bytes_done: one.bytes_done, since: now, passed_over: false };
        let seen = self.0.entry(one.id).or_insert(new);
        if is_excused || (seen.checks, seen.bytes_done) != (new.checks, new.bytes_done) {
            *seen = new;
        }
        let moves = now.saturating_duration_since(seen.since) < STANDSTILL;
        if !moves && !seen.passed_over {
            seen.passed_over = true;
            tracing::warn!(member = one.id, "another member's check stands still: this one does not wait for it");
        }
        moves
    }
}

/// Whether this member may check its files now. If so it says that it does. `patience` is of the present wait.
pub(super) async fn has_come(node: &Node, patience: &mut Patience) -> bool {
    say(node, true);
    if !is_first(node.id(), &patience.heed(ask(node).await, Instant::now())) {
        return false;
    }
    say(node, false);
    if !is_alone(&patience.heed(ask(node).await, Instant::now())) {
        say(node, true);
        return false;
    }
    true
}

/// Says that this member waits for its turn, or that it checks.
fn say(node: &Node, waits: bool) {
    let mut told = node.scrubbing.told();
    (told.running, told.waiting) = (true, waits);
}

async fn ask(node: &Node) -> Vec<Told> {
    let asked = peers::others(node).into_iter().map(|(id, member)| async move {
        let reply = peers::hello(node, id, &member).await.ok()?;
        let v1::Scrub { running, waiting, bytes_done, .. } = reply.scrub.unwrap_or_default();
        Some(Told { id, checks: running && !waiting, waits: running && waiting, bytes_done })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether nobody checks, and nobody waits who goes first.
fn is_first(own: u64, others: &[Told]) -> bool {
    is_alone(others) && !others.iter().any(|other| other.waits && other.id < own)
}

fn is_alone(others: &[Told]) -> bool {
    !others.iter().any(|other| other.checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a member stands in [`has_come`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Step {
        Idle,
        Waits,
        /// It was first among those whom it asked; it does not check yet.
        WasFirst,
        /// It says that it checks, and has not asked again.
        Says,
        Checks,
    }

    /// One step of one member, seeing what the others say at that moment.
    fn next(own: usize, steps: &[Step]) -> Step {
        let told = |(place, step): (usize, &Step)| Told {
            id: place as u64,
            checks: *step >= Step::Says,
            waits: matches!(step, Step::Waits | Step::WasFirst),
            bytes_done: 0,
        };
        let others: Vec<Told> = steps.iter().enumerate().filter(|(place, _)| *place != own).map(told).collect();
        match steps[own] {
            Step::Idle => Step::Waits,
            Step::Waits if is_first(own as u64, &others) => Step::WasFirst,
            Step::WasFirst => Step::Says,
            Step::Says if is_alone(&others) => Step::Checks,
            Step::Checks => Step::Idle,
            Step::Waits | Step::Says => Step::Waits,
        }
    }

    /// Every order in which three members may take their steps, a question to all being one step.
    #[test]
    fn no_order_of_steps_has_two_check_and_everybody_comes_to_check() {
        let mut seen = std::collections::BTreeSet::new();
        let mut left = vec![[Step::Idle; 3]];
        while let Some(steps) = left.pop() {
            if !seen.insert(steps) {
                continue;
            }
            assert!(steps.iter().filter(|step| **step == Step::Checks).count() <= 1, "{steps:?}");
            for own in 0..3 {
                let mut after = steps;
                after[own] = next(own, &steps);
                left.push(after);
            }
        }
        for own in 0..3 {
            assert!(seen.iter().any(|steps| steps[own] == Step::Checks), "member {own} never checks");
        }
    }

    #[test]
    fn a_check_that_stands_still_holds_nobody_up_for_ever_and_one_that_moves_does() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let checks = |id, bytes_done| Told { id, checks: true, waits: false, bytes_done };
        let waits = |id| Told { id, checks: false, waits: true, bytes_done: 0 };
        let limit = STANDSTILL.as_secs();
        // Member 1 hangs; 2 waits before 3, who asks each second.
        let mut patience = Patience::default();
        for second in 0..limit {
            assert!(!is_first(3, &patience.heed(vec![checks(1, 7), waits(2)], at(second))), "{second}");
        }
        let mut others = patience.heed(vec![checks(1, 7), waits(2)], at(limit));
        assert!(is_alone(&others) && !is_first(3, &others), "2 goes first, and now has its time to begin");
        others = patience.heed(vec![checks(1, 7), checks(2, 0)], at(limit + 1));
        assert!(!is_alone(&others));
        // It reads a little now and then, for hours.
        for second in limit + 1..5 * limit {
            others = patience.heed(vec![checks(1, 7), checks(2, second / 600)], at(second));
            assert!(!is_alone(&others), "{second}");
        }
        // It is done; 1 reads on after all.
        assert!(is_first(3, &patience.heed(vec![checks(1, 7)], at(5 * limit))));
        assert!(!is_first(3, &patience.heed(vec![checks(1, 8)], at(5 * limit + 1))));
        // Who says that it waits and never begins, while nobody checks, is passed over as well.
        let mut patience = Patience::default();
        assert!(!is_first(3, &patience.heed(vec![waits(2)], at(0))));
        assert!(!is_first(3, &patience.heed(vec![waits(2)], at(limit - 1))));
        assert!(is_first(3, &patience.heed(vec![waits(2)], at(limit))));
    }
}
