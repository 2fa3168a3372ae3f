//! Looks that are decided at the same moment share a command.
//!
//! A look (a read, a list, a denial) writes its journal entry and nothing else. A command of its own costs every member an
//! entry of the log and a search for each row that the look expects, most of which looks of one moment have in common.
//! Who finds nobody waiting gathers for all who come until everything else that was ready has run; on an idle machine
//! nothing waits.
//!
//! Invariants
//! - A shared command expects whatever any of its looks expects, and is past its time once any of them is: all take
//!   effect at one index, or none does.
//! - Looks that expect different revisions of a row share none.
//! - Each look has an entry of its own and is told its position.
//! - What was overtaken is decided anew and proposed alone ([`super::transact`]): what is changed again and again holds up
//!   others' looks once. So is what was refused with others, of which one is to blame.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use kura_cluster::{Command, Outcome};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::GatewayError;
use super::group::STEPS_BACK;
use super::propose::{Proposed, Proposer};

/// Looks in a shared command: as many are decided anew when one of them is overtaken.
const SHARED_LOOKS_MAX: usize = 32;
/// Encoded bytes in a shared command, about, unless one of its looks alone has more.
const SHARED_BYTES_MAX: usize = 256 << 10;

/// A look and who waits for it.
struct Look {
    command: Command,
    bytes: usize,
    deadline: Instant,
    answer: Answer,
}

/// Where a look's outcome goes, and the room that it takes until then.
struct Answer {
    to: oneshot::Sender<Result<Proposed, GatewayError>>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Whether a command changes nothing but the journal.
pub(super) fn is_look(command: &Command) -> bool {
    command.request.is_none() && command.writes.is_empty() && !command.journal.is_empty()
}

/// Looks that wait to be proposed.
#[derive(Default)]
pub(super) struct Looks(Arc<Mutex<Vec<Look>>>);

impl Looks {
    /// Proposes a look, together with others of this moment.
    pub async fn propose(
        &self,
        proposer: &Proposer,
        command: Command,
        deadline: Instant,
    ) -> Result<Proposed, GatewayError> {
        let bytes = command.encoded_len();
        let room = proposer.room(bytes, deadline).await?;
        let (to, outcome) = oneshot::channel();
        let is_first = {
            let mut waiting = self.lock();
            waiting.push(Look { command, bytes, deadline, answer: Answer { to, _room: Some(room) } });
            waiting.len() == 1
        };
        if is_first {
            // Apart from this call: whoever gives up waiting leaves the others to be proposed.
            tokio::spawn(Looks(self.0.clone()).gather(proposer.clone()));
        }
        match tokio::time::timeout_at(deadline.into(), outcome).await {
            Ok(Ok(proposed)) => proposed,
            Ok(Err(_)) | Err(_) => Err(GatewayError::Unknown),
        }
    }

    async fn gather(self, proposer: Proposer) {
        for _ in 0..STEPS_BACK {
            tokio::task::yield_now().await;
        }
        let looks = std::mem::take(&mut *self.lock());
        for shared in share(looks) {
            tokio::spawn(shared.commit(proposer.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command of several looks.
struct Shared {
    command: Command,
    bytes: usize,
    /// Revision (timeline and index) by row.
    expected: HashMap<Bytes, (u64, u64)>,
    deadline: Instant,
    /// How many entries of the command are whose.
    answers: Vec<(u32, Answer)>,
}

/// Puts looks together, in the order in which they came.
fn share(looks: Vec<Look>) -> Vec<Shared> {
    let mut all: Vec<Shared> = Vec::new();
    for look in looks {
        match all.last_mut() {
            Some(shared) if shared.has_room(&look) => shared.add(look),
            _ => {
                let mut shared = Shared {
                    command: Command::new(look.command.at_ms),
                    bytes: 0,
                    expected: HashMap::with_capacity(look.command.expects.len()),
                    deadline: look.deadline,
                    answers: Vec::new(),
                };
                shared.add(look);
                all.push(shared);
            }
        }
    }
    all
}

impl Shared {
    fn has_room(&self, look: &Look) -> bool {
        self.answers.len() < SHARED_LOOKS_MAX
            && self.bytes + look.bytes <= SHARED_BYTES_MAX
            && look.command.expects.iter().all(|expect| {
                self.expected.get(&expect.row).is_none_or(|known| *known == (expect.timeline, expect.index))
            })
    }

    fn add(&mut self, look: Look) {
        let Look { command, bytes, deadline, answer } = look;
        let own = &mut self.command;
        own.at_ms = own.at_ms.max(command.at_ms);
        own.valid_until_ms = match (own.valid_until_ms, command.valid_until_ms) {
            (0, only) | (only, 0) => only,
            (one, other) => one.min(other),
        };
        for expect in command.expects {
            let revision = (expect.timeline, expect.index);
            // A look that contradicts itself takes effect nowhere: it must not here.
            if self.expected.insert(expect.row.clone(), revision) != Some(revision) {
                own.expects.push(expect);
            }
        }
        self.answers.push((command.journal.len() as u32, answer));
        own.journal.extend(command.journal);
        self.bytes += bytes;
        self.deadline = self.deadline.max(deadline);
    }

    async fn commit(self, proposer: Proposer) {
        let proposed = proposer.propose_admitted(self.command.encode_to_vec().into(), self.deadline).await;
        let is_alone = self.answers.len() == 1;
        let mut before = 0;
        for (entries, answer) in self.answers {
            let own =
                proposed.clone().map(|proposed| if is_alone { proposed } else { of_look(proposed, before, entries) });
            // A look that nobody waits for any more needs no answer.
            let _ = answer.to.send(own);
            before += entries;
        }
    }
}

/// What one of several looks is told of their command's outcome: its own entries come after `before` others.
fn of_look(mut proposed: Proposed, before: u32, entries: u32) -> Proposed {
    match &mut proposed.outcome {
        Outcome::Committed(committed) => {
            committed.journal_first += u64::from(before);
            committed.journal_count = entries;
        }
        outcome => *outcome = Outcome::Conflict { evaluated_at: proposed.index },
    }
    proposed
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use kura_cluster::Revision;
    use kura_cluster::command::{Committed, Expect, JournalAppend, Refusal};
    use proptest::prelude::*;

    use super::*;

    type Waiting = oneshot::Receiver<Result<Proposed, GatewayError>>;

    /// A look of a time that expects rows at indexes, with these entries.
    fn look(at_ms: u64, expects: &[(u8, u64)], entries: &[Bytes], valid_until_ms: u64) -> (Look, Waiting) {
        let expects = expects.iter().map(|&(row, index)| Expect { row: vec![2, row].into(), timeline: 0, index });
        let journal = entries.iter().map(|entry| JournalAppend { entry: entry.clone(), index: Vec::new() });
        let command =
            Command { valid_until_ms, expects: expects.collect(), journal: journal.collect(), ..Command::new(at_ms) };
        let (to, outcome) = oneshot::channel();
        let bytes = command.encoded_len();
        (Look { command, bytes, deadline: Instant::now(), answer: Answer { to, _room: None } }, outcome)
    }

    /// One with so many entries, which expects nothing.
    fn bare(entries: usize) -> (Look, Waiting) {
        look(7, &[], &vec![Bytes::from_static(b"entry"); entries], 0)
    }

    fn committed(journal_first: u64, journal_count: u32) -> Proposed {
        let revision = Revision { timeline: 0, index: 9 };
        let committed = Committed { revision, journal_first, journal_count, receipt: Bytes::new(), remembered: false };
        Proposed { outcome: Outcome::Committed(committed), term: 1, index: 9 }
    }

    /// Whether no row is expected at two revisions.
    fn is_plain(expects: &[(u8, u64)]) -> bool {
        expects.iter().all(|one| expects.iter().all(|other| other.0 != one.0 || other.1 == one.1))
    }

    proptest! {
        #[test]
        fn looks_share_what_all_of_them_can_expect_and_keep_their_order(
            drawn in proptest::collection::vec(
                (
                    0_u64..9,
                    proptest::collection::vec((0_u8..4, 0_u64..2), 0..4),
                    1_usize..3,
                    prop::sample::select(vec![0_u64, 5, 8]),
                ),
                1..80,
            ),
        ) {
            let entries_of = |n: usize, count| -> Vec<Bytes> { (0..count).map(|m| format!("{n}.{m}").into()).collect() };
            let looks = drawn.iter().enumerate().map(|(n, (at, expects, count, until))| {
                look(*at, expects, &entries_of(n, *count), *until).0
            });
            let mut first = 0;
            for shared in share(looks.collect()) {
                let own = &drawn[first..first + shared.answers.len()];
                prop_assert!(own.len() <= SHARED_LOOKS_MAX);
                let expected: Vec<(u8, u64)> =
                    shared.command.expects.iter().map(|expect| (expect.row[1], expect.index)).collect();
                for (_, expects, ..) in own {
                    prop_assert!(expects.iter().all(|expect| expected.contains(expect)));
                }
                // Whoever contradicts itself makes a command that contradicts itself.
                prop_assert!(!own.iter().all(|(_, expects, ..)| is_plain(expects)) || is_plain(&expected));
                let entries = own.iter().enumerate().flat_map(|(n, (_, _, count, _))| entries_of(first + n, *count));
                let journal = shared.command.journal.iter().map(|append| append.entry.clone());
                prop_assert_eq!(journal.collect::<Vec<_>>(), entries.collect::<Vec<_>>());
                let counts = shared.answers.iter().map(|(count, _)| *count as usize);
                prop_assert!(counts.eq(own.iter().map(|(_, _, count, _)| *count)));
                let earliest = own.iter().map(|(.., until)| *until).filter(|until| *until != 0).min().unwrap_or(0);
                prop_assert_eq!(shared.command.valid_until_ms, earliest);
                prop_assert_eq!(Some(shared.command.at_ms), own.iter().map(|(at, ..)| *at).max());
                prop_assert!(is_look(&shared.command));
                first += own.len();
            }
            prop_assert_eq!(first, drawn.len());
        }
    }

    #[test]
    fn what_expects_another_revision_or_is_too_much_begins_another_command() {
        let of = |looks: Vec<Look>| share(looks).iter().map(|shared| shared.answers.len()).collect::<Vec<_>>();
        let drawn = |expects: &[(u8, u64)]| look(7, expects, &[Bytes::from_static(b"entry")], 0).0;
        assert_eq!(of(vec![drawn(&[(1, 1)]), drawn(&[(1, 1), (2, 1)]), drawn(&[(2, 2)]), drawn(&[(1, 3)])]), [2, 2]);
        let long = || look(7, &[], &[vec![0; SHARED_BYTES_MAX * 2 / 3].into()], 0).0;
        assert_eq!(of(vec![long(), drawn(&[]), long(), long()]), [2, 1, 1]);
        assert_eq!(of((0..40).map(|_| drawn(&[])).collect()), [SHARED_LOOKS_MAX, 40 - SHARED_LOOKS_MAX]);
    }

    /// What looks with so many entries are told of the outcome of their command.
    async fn told(entries: &[usize], outcome: Proposed) -> Vec<Outcome> {
        let (proposer, mut queue) = Proposer::held();
        let (looks, waiting): (Vec<_>, Vec<_>) = entries.iter().map(|entries| bare(*entries)).unzip();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let shared = Shared { deadline, ..share(looks).remove(0) };
        let leader = async {
            let pending = queue.recv().await.unwrap();
            let command = Command::decode(pending.command).unwrap();
            assert_eq!(command.journal.len(), entries.iter().sum::<usize>());
            pending.answer.send(Ok(outcome)).unwrap();
        };
        tokio::join!(shared.commit(proposer), leader);
        join_all(waiting).await.into_iter().map(|told| told.unwrap().unwrap().outcome).collect()
    }

    #[tokio::test]
    async fn each_is_told_how_many_entries_came_before_its_own() {
        let expected = [(40, 1), (41, 3), (44, 1)].map(|(first, count)| committed(first, count).outcome);
        assert_eq!(told(&[1, 3, 1], committed(40, 5)).await, expected);
    }

    #[tokio::test]
    async fn what_is_refused_with_others_is_proposed_alone() {
        let refused = || Proposed { outcome: Outcome::Refused(Refusal::Malformed), ..committed(0, 0) };
        assert_eq!(told(&[1, 1], refused()).await, vec![Outcome::Conflict { evaluated_at: 9 }; 2]);
        assert_eq!(told(&[1], refused()).await, [Outcome::Refused(Refusal::Malformed)]);
    }
}
