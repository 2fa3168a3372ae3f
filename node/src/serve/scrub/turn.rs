//! Members check their files one after another: a check costs reads, and may find what ends a member.
//!
//! A member that wants to check says so (it *waits*), and asks all others. It stands back for one that checks, and
//! for one that waits and has a lower Raft id. Then it says that it checks, and asks once more: of two that passed
//! the first question at one moment, at least one sees the other then, and waits again.
//!
//! Invariant: of two members that reach each other only one checks. One that does not answer is passed over; without it
//! nobody ends ([`super::damage`]) who is needed.

use futures_util::future::join_all;
use kura_proto::v1;

use crate::serve::{Node, peers};

/// What another member said just now.
#[derive(Debug, Clone, Copy)]
struct Told {
    id: u64,
    checks: bool,
    waits: bool,
}

/// Whether this member may check its files now. If so it says that it does.
pub(super) async fn has_come(node: &Node) -> bool {
    say(node, true);
    if !is_first(node.id(), &ask(node).await) {
        return false;
    }
    say(node, false);
    if !is_alone(&ask(node).await) {
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
        let v1::Scrub { running, waiting, .. } = reply.scrub.unwrap_or_default();
        Some(Told { id, checks: running && !waiting, waits: running && waiting })
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
}
