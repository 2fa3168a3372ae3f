//! Linearizability, searched for: between two rests, a participant's answers must have an order that
//! respects real time and in which each follows from those before it. Positions are not looked at; the
//! search is porcupine's, after Wing, Gong and Lowe.
//!
//! Searches are exponential at worst. The load keeps a participant to some 300 operations and ten clients
//! between two rests; a search that does not end in time is a violation, not a pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation as Step, check_operations_timeout};

use super::Report;
use super::view::{Fate, View, request};
use crate::history::{Action, Operation, Outcome, Revision};

/// How long one search may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Records that a list may have to be one page, and so a thing of one moment.
const PAGE: usize = 1_000;

/// A participant: which facilities it names, and which of the stretch's records there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    named: u8,
    records: Vec<u64>,
}

impl State {
    fn has(&self, record: usize) -> bool {
        self.records.get(record / 64).is_some_and(|word| word >> (record % 64) & 1 == 1)
    }

    fn put(&mut self, record: usize) {
        if self.records.len() <= record / 64 {
            self.records.resize(record / 64 + 1, 0);
        }
        self.records[record / 64] |= 1 << (record % 64);
    }
}

/// One answer. Facilities are bits; records numbers in the stretch, none for those from before it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Begin { named: u8 },
    Put { facility: u8, record: Option<usize>, again: bool },
    Consent { facility: u8, named: bool },
    Read { facility: u8, record: Option<usize> },
    Missing { record: Option<usize> },
    Listed { facility: u8, records: Vec<u64> },
    Denied { facility: u8 },
}

#[derive(Debug, Clone)]
struct Participant;

impl Model for Participant {
    type State = State;
    type Op = Answer;
    type Metadata = ();

    fn init() -> State {
        State::default()
    }

    fn step(state: &State, answer: &Answer) -> (bool, State) {
        let mut next = state.clone();
        let named = |facility: &u8| state.named & facility != 0;
        let there = |record: &Option<usize>| record.is_none_or(|record| state.has(record));
        let holds = match answer {
            Answer::Begin { named } => {
                next.named = *named;
                true
            }
            Answer::Put { facility, record, again } => {
                let fresh = record.is_some_and(|record| !state.has(record));
                record.iter().for_each(|record| next.put(*record));
                named(facility) && (*again || fresh)
            }
            Answer::Consent { facility, named } => {
                next.named = if *named { state.named | facility } else { state.named & !facility };
                true
            }
            Answer::Read { facility, record } => named(facility) && there(record),
            Answer::Missing { record } => !there(record),
            Answer::Listed { facility, records } => {
                let longest = records.len().max(state.records.len());
                let word = |words: &[u64], at: usize| words.get(at).copied().unwrap_or(0);
                named(facility) && (0..longest).all(|at| word(records, at) == word(&state.records, at))
            }
            Answer::Denied { facility } => !named(facility),
        };
        (holds, next)
    }
}

/// What is known of a participant when a stretch begins.
#[derive(Default)]
struct Known<'a> {
    /// The last change of each facility; none: named.
    consents: BTreeMap<&'a str, (Revision, bool)>,
    records: BTreeSet<&'a str>,
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let fates: HashMap<u64, Fate<'_>> = view.writes.iter().map(|write| (write.operation.id, write.fate)).collect();
    let mut all: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in view.operations.iter().filter(|operation| operation.node.is_none()) {
        all.entry(&operation.participant).or_default().push(operation);
    }
    let (mut searches, mut most) = (0, 0);
    for (participant, operations) in all {
        let mut known = Known::default();
        for (begin, end) in view.stretches() {
            let within: Vec<&Operation> =
                operations.iter().copied().filter(|one| (begin..end).contains(&one.call_us)).collect();
            if within.iter().any(|one| fates.get(&one.id) == Some(&Fate::Open)) {
                // Whether it happened, nobody knows: the rule `incomplete` says so.
                break;
            }
            let steps = steps(&known, &within, &fates);
            (searches, most) = (searches + 1, steps.len().max(most));
            match check_operations_timeout(&steps, LIMIT) {
                CheckResult::Ok => {}
                CheckResult::Illegal => {
                    let message = format!("no order explains the answers about {participant} from {begin} µs on");
                    report.add("linearizable", message);
                }
                CheckResult::Unknown => {
                    let (count, limit) = (steps.len(), LIMIT.as_secs());
                    let message =
                        format!("{count} answers about {participant} from {begin} µs on: undecided in {limit} s");
                    report.add("linearizable", message);
                }
            }
            known.learn(&within, &fates);
        }
    }
    report.figure("linearizability searches", format!("{searches}, the longest of {most} answers"));
}

impl<'a> Known<'a> {
    /// What a stretch brought. Nothing of it is under way any more.
    fn learn(&mut self, operations: &[&'a Operation], fates: &HashMap<u64, Fate<'a>>) {
        for operation in operations {
            let Some(Fate::Committed { receipt, .. }) = fates.get(&operation.id) else { continue };
            let named = match operation.action {
                Action::Put { .. } => {
                    self.records.insert(&receipt.record);
                    continue;
                }
                Action::Grant { .. } => true,
                Action::Revoke { .. } => false,
                _ => continue,
            };
            let last = self.consents.entry(&operation.facility).or_insert((receipt.at, named));
            *last = (*last).max((receipt.at, named));
        }
    }
}

/// The answers of a stretch about one participant.
fn steps(known: &Known<'_>, operations: &[&Operation], fates: &HashMap<u64, Fate<'_>>) -> Vec<Step<Participant>> {
    let mut facilities: BTreeMap<&str, u8> = BTreeMap::new();
    let mut records: BTreeMap<&str, usize> = BTreeMap::new();
    for operation in operations {
        let next = 1_u8.checked_shl(facilities.len() as u32).unwrap_or(0);
        facilities.entry(&operation.facility).or_insert(next);
        if let (Action::Put { .. }, Some(Fate::Committed { receipt, .. })) =
            (&operation.action, fates.get(&operation.id))
            && !known.records.contains(receipt.record.as_str())
        {
            let next = records.len();
            records.entry(&receipt.record).or_insert(next);
        }
    }
    let is_named = |facility: &str| known.consents.get(facility).is_none_or(|(_, named)| *named);
    let named = facilities.iter().filter(|(name, _)| is_named(name)).fold(0, |all, (_, bit)| all | bit);
    let mut steps = vec![step(None, 0, 0, Answer::Begin { named })];
    for operation in operations {
        let facility = facilities[operation.facility.as_str()];
        // A record that no write is known to have made is another rule's.
        let place = |record: &str| records.get(record).copied();
        let mut return_us = operation.return_us;
        let answer = match (&operation.action, &operation.outcome) {
            (action, _) if request(action).is_some() => match (fates.get(&operation.id), &operation.outcome) {
                (Some(Fate::Committed { receipt, known_us }), _) => {
                    return_us = *known_us;
                    match action {
                        Action::Put { .. } => {
                            Answer::Put { facility, record: place(&receipt.record), again: receipt.repeated }
                        }
                        _ => Answer::Consent { facility, named: matches!(action, Action::Grant { .. }) },
                    }
                }
                // One that was only counted rests on what one gateway knew: see the rules of consent.
                (_, Outcome::Denied { entry: Some(_) }) if matches!(action, Action::Put { .. }) => {
                    Answer::Denied { facility }
                }
                _ => continue,
            },
            (Action::Get { record }, Outcome::Read { .. }) => Answer::Read { facility, record: place(record) },
            (Action::Get { record }, Outcome::Missing) => Answer::Missing { record: place(record) },
            (Action::Get { .. } | Action::List, Outcome::Denied { entry: Some(_) }) => Answer::Denied { facility },
            (Action::List, Outcome::Listed { records: listed }) if listed.len() < PAGE => {
                let mut state = State::default();
                listed.iter().filter_map(|one| place(&one.record)).for_each(|record| state.put(record));
                Answer::Listed { facility, records: state.records }
            }
            _ => continue,
        };
        steps.push(step(Some(&operation.client), operation.call_us, return_us, answer));
    }
    steps
}

fn step(client: Option<&str>, call_us: u64, return_us: u64, op: Answer) -> Step<Participant> {
    let time = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
    let client_id = client.and_then(|client| client.rsplit('-').next()?.parse().ok());
    // The beginning comes before everything, which times of 0 alone would not say.
    let (call_time, return_time) = if client.is_some() { (time(call_us), time(return_us)) } else { (-2, -1) };
    Step { client_id, call_time, return_time, op, metadata: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::generator;
    use rand::RngExt;

    /// A history that is linearizable, since it was made so: each answer holds at one moment, and its call and
    /// return lie around that moment. With the state at that moment.
    fn made(seed: u64, length: i64, width: i64) -> Vec<Step<Participant>> {
        let mut random = generator(seed, "linear");
        let mut state = State { named: 7, records: Vec::new() };
        let mut steps = vec![step(None, 0, 0, Answer::Begin { named: 7 })];
        let mut written = 0;
        for nth in 0..length {
            let facility = 1 << random.random_range(0..3);
            let answer = match random.random_range(0..10) {
                0..3 => {
                    written += 1;
                    Answer::Put { facility: 1, record: Some(written - 1), again: false }
                }
                3 | 4 => Answer::Consent { facility: 2, named: random.random() },
                5 => Answer::Listed { facility: 1, records: state.records.clone() },
                _ if state.named & facility == 0 => Answer::Denied { facility },
                _ if written == 0 => Answer::Missing { record: Some(0) },
                _ => Answer::Read { facility, record: Some(random.random_range(0..written)) },
            };
            let (holds, next) = Participant::step(&state, &answer);
            assert!(holds, "{answer:?}");
            state = next;
            let moment = nth * 10;
            let (call_time, return_time) =
                (moment - random.random_range(0..=width), moment + random.random_range(0..=width));
            steps.push(Step { client_id: None, call_time, return_time, op: answer, metadata: None });
        }
        steps.iter_mut().skip(1).for_each(|step| step.call_time = step.call_time.max(0));
        steps
    }

    fn verdict(steps: &[Step<Participant>]) -> CheckResult {
        check_operations_timeout(steps, LIMIT)
    }

    #[test]
    fn histories_that_were_made_from_an_order_are_found_to_have_one() {
        for seed in 0..40 {
            assert_eq!(verdict(&made(seed, 250, 40)), CheckResult::Ok, "seed {seed}");
        }
    }

    #[test]
    fn one_wrong_answer_among_hundreds_is_found() {
        let mut found = 0;
        for seed in 0..40 {
            // Nothing overlaps: every wrong answer is one that no order explains.
            let mut steps = made(seed, 250, 4);
            let place = 100 + (seed as usize % 100);
            steps[place].op = match &steps[place].op {
                Answer::Read { facility, .. } => Answer::Denied { facility: *facility },
                Answer::Denied { facility } => Answer::Read { facility: *facility, record: Some(0) },
                Answer::Listed { facility, records } => {
                    let fewer = records.iter().map(|word| word & (word.saturating_sub(1))).collect();
                    Answer::Listed { facility: *facility, records: fewer }
                }
                Answer::Put { facility, .. } => Answer::Put { facility: *facility, record: Some(0), again: false },
                _ => continue,
            };
            found += 1;
            assert_eq!(verdict(&steps), CheckResult::Illegal, "seed {seed}");
        }
        assert!(found > 25, "{found}");
    }

    #[test]
    fn a_search_that_does_not_end_in_time_says_so() {
        // Everything overlaps, and at the end is an answer that nothing explains.
        let mut steps = vec![step(None, 0, 0, Answer::Begin { named: 7 })];
        for record in 0..60 {
            steps.push(step(Some("client-1"), 0, 100, Answer::Put { facility: 1, record: Some(record), again: false }));
        }
        steps.push(step(Some("client-1"), 101, 102, Answer::Denied { facility: 1 }));
        assert_eq!(check_operations_timeout(&steps, Duration::from_millis(200)), CheckResult::Unknown);
    }
}
