//! The oracle over positions: a participant's answers, sorted by the log positions that they tell, must
//! follow one from the other. That the positions follow real time is the rule `out-of-order`; together they
//! are an order that explains everything that tells a position, found in O(n log n).

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::view::{Fate, View};
use crate::history::{Action, Outcome, Revision};

/// What happened at a position.
enum Event<'a> {
    Written { record: &'a str, facility: &'a str },
    Consent { facility: &'a str, named: bool },
    Read { record: &'a str, facility: &'a str },
}

#[derive(Default)]
struct State<'a> {
    /// Facilities that are not named; all are when a run begins.
    revoked: BTreeSet<&'a str>,
    records: BTreeSet<&'a str>,
}

impl<'a> State<'a> {
    fn apply(&mut self, event: &Event<'a>) {
        match event {
            Event::Written { record, .. } => drop(self.records.insert(record)),
            Event::Consent { facility, named: true } => drop(self.revoked.remove(facility)),
            Event::Consent { facility, named: false } => drop(self.revoked.insert(facility)),
            Event::Read { .. } => {}
        }
    }

    fn allows(&self, event: &Event<'_>) -> bool {
        match event {
            Event::Written { facility, .. } => !self.revoked.contains(facility),
            Event::Read { record, facility } => !self.revoked.contains(facility) && self.records.contains(record),
            Event::Consent { .. } => true,
        }
    }
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let mut participants: BTreeMap<&str, Vec<(Revision, u64, Event<'_>)>> = BTreeMap::new();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for write in &view.writes {
        let operation = write.operation;
        let receipt = match write.fate {
            Fate::Committed { receipt, .. } => receipt,
            Fate::Never => continue,
            // Whether it happened, nobody knows: the rule `incomplete` says so.
            Fate::Open => {
                open.insert(&operation.participant);
                continue;
            }
        };
        let facility = operation.facility.as_str();
        let event = match &operation.action {
            Action::Put { .. } => Event::Written { record: &receipt.record, facility },
            Action::Grant { .. } => Event::Consent { facility, named: true },
            Action::Revoke { .. } => Event::Consent { facility, named: false },
            _ => continue,
        };
        participants.entry(&operation.participant).or_default().push((receipt.at, operation.id, event));
    }
    for operation in &view.operations {
        if let (Action::Get { record }, Outcome::Read { at, .. }) = (&operation.action, &operation.outcome) {
            let event = Event::Read { record, facility: &operation.facility };
            participants.entry(&operation.participant).or_default().push((*at, operation.id, event));
        }
    }
    let mut replayed = 0;
    for (participant, mut events) in participants {
        if open.contains(participant) {
            continue;
        }
        events.sort_by_key(|(at, id, _)| (*at, *id));
        replayed += events.len();
        let mut state = State::default();
        // What shares a position may stand in any order there: it is held against before and after.
        for group in events.chunk_by(|(one, ..), (next, ..)| one == next) {
            let allowed: Vec<bool> = group.iter().map(|(_, _, event)| state.allows(event)).collect();
            group.iter().for_each(|(_, _, event)| state.apply(event));
            for ((at, id, event), before) in group.iter().zip(allowed) {
                if !before && (group.len() == 1 || !state.allows(event)) {
                    let index = at.index;
                    report
                        .add("replay", format!("operation {id} does not follow from what stands before index {index}"));
                }
            }
        }
    }
    report.figure("answers replayed", replayed);
}
