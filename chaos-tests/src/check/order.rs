//! Order: log positions follow real time, and journal entries are nobody else's.

use std::collections::HashMap;

use super::Report;
use super::view::View;
use crate::history::{Action, Operation, Outcome, Revision};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    out_of_order(view, report);
    journal(view, report);
}

/// The log position that an operation tells.
fn position(operation: &Operation) -> Option<Revision> {
    match &operation.outcome {
        Outcome::Committed(receipt) => Some(receipt.at),
        Outcome::Read { at, .. } => Some(*at),
        _ => None,
    }
}

/// Whether the position was made by this very operation, between its call and its return.
fn fresh(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Committed(receipt) => !receipt.repeated && !matches!(operation.action, Action::Resolve { .. }),
        Outcome::Read { .. } => true,
        _ => false,
    }
}

fn out_of_order(view: &View<'_>, report: &mut Report) {
    let told = || view.operations.iter().filter_map(|operation| Some((*operation, position(operation)?)));
    let mut by_return: Vec<_> = told().collect();
    by_return.sort_by_key(|(operation, _)| operation.return_us);
    let mut by_call: Vec<_> = told().filter(|(operation, _)| fresh(operation)).collect();
    by_call.sort_by_key(|(operation, _)| operation.call_us);
    let mut returned = by_return.into_iter().peekable();
    let mut highest: Option<(Revision, u64)> = None;
    for (operation, at) in by_call {
        while let Some((earlier, reached)) = returned.next_if(|(earlier, _)| earlier.return_us < operation.call_us) {
            highest = highest.max(Some((reached, earlier.id)));
        }
        if let Some((reached, earlier)) = highest
            && at <= reached
        {
            let (id, index) = (operation.id, at.index);
            report.add(
                "out-of-order",
                format!(
                    "operation {id} at index {index} was called after operation {earlier} had returned with {}",
                    reached.index
                ),
            );
        }
    }
}

fn journal(view: &View<'_>, report: &mut Report) {
    // Who owns an entry: a read; a record, whoever tells of it; a change of consent by its position.
    #[derive(PartialEq, Eq, Clone, Copy)]
    enum Owner<'a> {
        Read(u64),
        Record(&'a str),
        Change(Revision),
    }
    let mut owners: HashMap<(u64, u64), (Owner<'_>, u64)> = HashMap::new();
    for operation in &view.operations {
        let (owner, at, entry) = match &operation.outcome {
            Outcome::Read { at, journal, .. } => (Owner::Read(operation.id), at, journal),
            Outcome::Committed(receipt) if receipt.record.is_empty() => {
                (Owner::Change(receipt.at), &receipt.at, &receipt.journal)
            }
            Outcome::Committed(receipt) => (Owner::Record(&receipt.record), &receipt.at, &receipt.journal),
            _ => continue,
        };
        let (known, first) = *owners.entry((at.timeline, *entry)).or_insert((owner, operation.id));
        if known != owner {
            let id = operation.id;
            report.add("journal-shared", format!("operations {first} and {id} name the same journal entry {entry}"));
        }
    }
    report.figure("journal entries named", owners.len());
}
