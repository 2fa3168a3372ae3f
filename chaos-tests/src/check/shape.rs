//! Whether the history is whole and the run was worth something.

use std::collections::HashSet;

use super::Report;
use super::view::{Fate, View};
use crate::history::{Action, FORMAT, NemesisEvent, Outcome};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    whole(view, report);
    answers(view, report);
    faults(view, report);
    floors(view, report);
}

fn whole(view: &View<'_>, report: &mut Report) {
    if view.header.format != FORMAT {
        report.add("incomplete", format!("format {} is not known, only {FORMAT}", view.header.format));
    }
    match view.end {
        None => report.add("incomplete", "the run did not come to its end"),
        Some(end) if end.operations != view.operations.len() as u64 => {
            let (told, found) = (end.operations, view.operations.len());
            report.add("incomplete", format!("{told} operations were written, {found} are here"));
        }
        Some(_) => {}
    }
    if view.final_us.is_none() {
        report.add("incomplete", "there is no final scan");
    }
    let mut ids = HashSet::new();
    for operation in &view.operations {
        if !ids.insert(operation.id) || operation.return_us < operation.call_us {
            report.add("incomplete", format!("operation {} is there twice or returned before its call", operation.id));
        }
    }
}

/// What the run is for must have been set up, and must have hit.
fn faults(view: &View<'_>, report: &mut Report) {
    for one in &view.header.not_run {
        report.add("not-run", format!("NOT RUN {}: {}", one.kind, one.why));
    }
    let hits = super::faults::hits(view);
    for kind in &view.header.kinds {
        if hits.get(kind.as_str()).is_none_or(|count| *count == 0) {
            report.add("vacuous", format!("no fault of kind {kind} hit"));
        }
    }
}

fn answers(view: &View<'_>, report: &mut Report) {
    for write in &view.writes {
        if write.fate == Fate::Open {
            report.add("incomplete", format!("nobody knows what became of operation {}", write.operation.id));
        }
    }
    for operation in &view.operations {
        match &operation.outcome {
            Outcome::Forgotten => {
                report.add("incomplete", format!("operation {}: the cluster forgot a write of this run", operation.id));
            }
            Outcome::Failed { error, passing: false } if !super::faults::explains(view, operation, error) => {
                report.add("error", format!("operation {} of {}: {error}", operation.id, operation.client));
            }
            _ => {}
        }
    }
}

fn floors(view: &View<'_>, report: &mut Report) {
    let acknowledged = |write: &&super::view::Write<'_>| matches!(write.operation.outcome, Outcome::Committed(_));
    let puts = || view.writes.iter().filter(|write| matches!(write.operation.action, Action::Put { .. }));
    let before = |at_us: u64| view.final_us.is_none_or(|final_us| at_us < final_us);
    let count = |wanted: fn(&Outcome) -> bool| {
        view.operations.iter().filter(|operation| before(operation.call_us) && wanted(&operation.outcome)).count()
            as u64
    };
    // Scans, which are of one node each, are no load: there are more of them the longer a run takes.
    let of_load = |wanted: fn(&Outcome) -> bool| {
        let asked = view.operations.iter().filter(|operation| operation.node.is_none() && before(operation.call_us));
        asked.filter(|operation| wanted(&operation.outcome)).count() as u64
    };
    let writes = puts().filter(acknowledged).count() as u64;
    let reads = of_load(|outcome| matches!(outcome, Outcome::Read { .. }));
    let revokes = view.writes.iter().filter(|write| matches!(write.operation.action, Action::Revoke { .. }));
    let revocations = revokes.filter(acknowledged).count() as u64;
    let kills: Vec<(bool, bool)> = view
        .nemeses
        .iter()
        .filter_map(|nemesis| match &nemesis.event {
            NemesisEvent::Kill { leader, writes_under_way, .. } => Some((*leader, *writes_under_way > 0)),
            _ => None,
        })
        .collect();
    let leader_kills = kills.iter().filter(|(leader, _)| *leader).count() as u64;
    let under_writing = kills.iter().filter(|(_, writing)| *writing).count() as u64;
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown { .. }));
    let answered = of_load(|outcome| !matches!(outcome, Outcome::Unknown { .. } | Outcome::Failed { .. }));
    let floors = &view.header.floors;
    let reached = [
        ("writes acknowledged", writes, floors.writes),
        ("reads", reads, floors.reads),
        ("revocations", revocations, floors.revocations),
        ("kills", kills.len() as u64, floors.kills),
        ("kills of the leader", leader_kills, floors.leader_kills),
        ("kills under writing", under_writing, floors.kills_under_writing),
        ("operations of the load", answered, floors.operations),
        ("faults that hit", super::faults::hits(view).values().sum(), floors.faults),
    ];
    report.figure("seed", view.header.seed);
    report.figure("version", &view.header.version);
    report.figure("operations", view.operations.len());
    for (name, found, floor) in reached {
        report.figure(name, found);
        if found < floor {
            report.add("vacuous", format!("{name}: {found}, at least {floor} are needed"));
        }
    }
    report.figure("outcomes unknown at first", unknown);
    report.figure("refused", count(|outcome| matches!(outcome, Outcome::Denied { .. })));
    report.figure("failed, passing", count(|outcome| matches!(outcome, Outcome::Failed { passing: true, .. })));
    report.figure("checked in the final scan", view.operations.iter().filter(|one| !before(one.call_us)).count());
}
