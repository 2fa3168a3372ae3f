//! Consent: nothing is read after a revocation, nothing refused under a grant.
//!
//! A refusal without a journal entry was only counted. It rests on the state of the gateway that was asked,
//! which may lag behind a grant that another one acknowledged; how many such there were is told, not judged.
//!
//! When a run begins, every participant has named every facility.

use std::collections::BTreeMap;

use super::Report;
use super::view::{Fate, View};
use crate::history::{Action, Outcome, Revision};

/// A grant or revocation that happened or may have.
struct Change {
    call_us: u64,
    /// When it was known to have happened; none: nobody knows whether it did.
    known_us: Option<u64>,
    at: Option<Revision>,
}

impl Change {
    /// Whether it was over before a time.
    fn before(&self, at_us: u64) -> bool {
        self.known_us.is_some_and(|known_us| known_us < at_us)
    }
}

/// All changes of one participant and facility.
#[derive(Default)]
struct Changes {
    grants: Vec<Change>,
    revocations: Vec<Change>,
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let mut all: BTreeMap<(&str, &str), Changes> = BTreeMap::new();
    for write in &view.writes {
        let operation = write.operation;
        let (known_us, at) = match write.fate {
            Fate::Never => continue,
            Fate::Committed { receipt, known_us } => (Some(known_us), Some(receipt.at)),
            Fate::Open => (None, None),
        };
        let change = Change { call_us: operation.call_us, known_us, at };
        let changes = all.entry((&operation.participant, &operation.facility));
        match operation.action {
            Action::Grant { .. } => changes.or_default().grants.push(change),
            Action::Revoke { .. } => changes.or_default().revocations.push(change),
            _ => {}
        }
    }
    let none = Changes::default();
    let mut counted = 0_u64;
    for operation in &view.operations {
        let changes = all.get(&(operation.participant.as_str(), operation.facility.as_str())).unwrap_or(&none);
        let (id, call_us, return_us) = (operation.id, operation.call_us, operation.return_us);
        match (&operation.action, &operation.outcome) {
            (Action::Get { .. }, Outcome::Read { at, .. }) => {
                if changes.revoked_throughout(call_us, return_us) {
                    report.add("read-after-revocation", format!("operation {id} was called after the acknowledgement"));
                } else if changes.revoked_at(*at) {
                    report.add(
                        "read-after-revocation",
                        format!("operation {id} was decided at index {} after it", at.index),
                    );
                }
            }
            (Action::Put { .. } | Action::Get { .. } | Action::List, Outcome::Denied { entry })
                if changes.granted_throughout(call_us, return_us) =>
            {
                if entry.is_none() && view.header.run != "crash" {
                    counted += 1;
                    continue;
                }
                report.add("refused-under-grant", format!("operation {id} was refused though nothing was taken back"));
            }
            _ => {}
        }
    }
    report.figure("counted refusals under a grant", counted);
}

impl Changes {
    /// Whether some revocation was over before the call, and no grant can have followed it before the return.
    fn revoked_throughout(&self, call_us: u64, return_us: u64) -> bool {
        let holds = |revocation: &Change| {
            revocation.before(call_us)
                && !self.grants.iter().any(|grant| grant.call_us < return_us && !grant.before(revocation.call_us))
        };
        self.revocations.iter().any(holds)
    }

    /// Whether the last change below a log position is a revocation; not if some position is unknown.
    fn revoked_at(&self, at: Revision) -> bool {
        let last =
            |changes: &[Change]| changes.iter().filter_map(|change| change.at).filter(|change| *change < at).max();
        let all_known = self.grants.iter().all(|grant| grant.at.is_some());
        all_known
            && last(&self.revocations).is_some_and(|revoked| last(&self.grants).is_none_or(|granted| granted < revoked))
    }

    /// Whether no revocation can have held at any time between call and return.
    fn granted_throughout(&self, call_us: u64, return_us: u64) -> bool {
        let granted = self.grants.iter().filter(|grant| grant.before(call_us)).map(|grant| grant.call_us).max();
        let over = |revocation: &Change| {
            revocation.call_us > return_us || granted.is_some_and(|granted_us| revocation.before(granted_us))
        };
        self.revocations.iter().all(over)
    }
}
