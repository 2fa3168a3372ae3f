//! Faults: what came of each, and the table for people.

use std::collections::BTreeMap;

use super::Report;
use super::view::View;
use crate::history::{Action, FaultResult, NemesisEvent, Operation, Outcome};

/// How long after a fault's end a pause in writing still counts as its own, in microseconds.
const AFTER_US: u64 = 20_000_000;

/// A damaged node may be asked before its fault is written down, in microseconds.
const START_US: u64 = 2_000_000;

/// A fault, from its begin to its end.
struct Fault<'a> {
    kind: &'a str,
    begin_us: u64,
    heal_us: u64,
    done_us: u64,
    result: FaultResult,
}

fn all<'a>(view: &View<'a>) -> Vec<Fault<'a>> {
    let mut faults: BTreeMap<u32, Fault<'a>> = BTreeMap::new();
    for nemesis in &view.nemeses {
        match &nemesis.event {
            NemesisEvent::Begin { fault, kind, result, .. } => {
                let (at_us, result) = (nemesis.at_us, *result);
                faults.insert(*fault, Fault { kind, begin_us: at_us, heal_us: at_us, done_us: at_us, result });
            }
            NemesisEvent::Heal { fault, done_us, result, .. } => {
                if let Some(known) = faults.get_mut(fault) {
                    (known.heal_us, known.done_us) = (nemesis.at_us, *done_us);
                    // What hit nothing was not there; what was skipped stays so.
                    if known.result == FaultResult::Installed {
                        known.result = *result;
                    }
                }
            }
            _ => {}
        }
    }
    faults.into_values().collect()
}

/// Whether an error is the right one for damage that was done to a node just then: it must name it.
pub(super) fn explains(view: &View<'_>, operation: &Operation, error: &str) -> bool {
    let damage = |fault: &Fault<'_>| {
        fault.kind == "flip-state"
            && fault.begin_us.saturating_sub(START_US) <= operation.return_us
            && operation.call_us <= fault.done_us
    };
    error.contains("damaged") && all(view).iter().any(damage)
}

/// How many faults of each kind hit.
pub(super) fn hits<'a>(view: &View<'a>) -> BTreeMap<&'a str, u64> {
    let mut hits = BTreeMap::new();
    for fault in all(view).iter().filter(|fault| fault.result == FaultResult::Installed) {
        *hits.entry(fault.kind).or_default() += 1;
    }
    hits
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let faults = all(view);
    if faults.is_empty() {
        return;
    }
    let acknowledged = acknowledged(view);
    old_copies(view, &faults, report);
    report.table = vec![["fault", "hit", "skipped", "indeterminate", "worst pause"].map(str::to_owned).to_vec()];
    let mut kinds: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for fault in &faults {
        let row = kinds.entry(fault.kind).or_default();
        let place = match fault.result {
            FaultResult::Installed => 0,
            FaultResult::Skipped => 1,
            FaultResult::Indeterminate => 2,
        };
        row[place] += 1;
        if fault.result != FaultResult::Skipped {
            // Up to the next fault that does not overlap with this one.
            let next = faults.iter().map(|other| other.begin_us).find(|begin_us| *begin_us > fault.done_us);
            let to_us = next.unwrap_or(u64::MAX).min(fault.done_us + AFTER_US);
            row[3] = row[3].max(pause(view, &acknowledged, fault.begin_us, to_us));
        }
    }
    for (kind, [hit, skipped, doubt, pause]) in kinds {
        let seconds = format!("{:.1} s", pause as f64 / 1e6);
        report.table.push(vec![kind.into(), hit.to_string(), skipped.to_string(), doubt.to_string(), seconds]);
    }
    availability(view, &acknowledged, report);
}

/// When the load's own writes were acknowledged, in order.
fn acknowledged(view: &View<'_>) -> Vec<u64> {
    let own = view.operations.iter().filter(|operation| operation.node.is_none());
    let writes = own.filter(|operation| !matches!(operation.action, Action::Resolve { .. }));
    let done =
        writes.filter(|operation| matches!(&operation.outcome, Outcome::Committed(receipt) if !receipt.repeated));
    let mut times: Vec<u64> = done.map(|operation| operation.return_us).collect();
    times.sort_unstable();
    times
}

/// The longest time without an acknowledged write that meets a window in which the load worked.
fn pause(view: &View<'_>, acknowledged: &[u64], from_us: u64, to_us: u64) -> u64 {
    let mut worst = 0;
    for (begin, end) in view.stretches() {
        let (begin, end) = (begin.max(from_us.saturating_sub(AFTER_US)), end.min(to_us));
        let inside = acknowledged.iter().copied().filter(|at| (begin..=end).contains(at));
        let mut last = None;
        for at in inside {
            if let Some(last) = last
                && at > from_us
            {
                worst = worst.max(at - last);
            }
            last = Some(at);
        }
    }
    worst
}

fn availability(view: &View<'_>, acknowledged: &[u64], report: &mut Report) {
    let own = || view.operations.iter().filter(|operation| operation.node.is_none());
    let unanswered = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Unknown { .. });
    let all = own().count();
    let answered = own().filter(|operation| !unanswered(&operation.outcome)).count();
    let (mut seconds, mut silent) = (0_u64, 0_u64);
    let last_us = acknowledged.last().copied().unwrap_or(0);
    for (begin, end) in view.stretches() {
        for second in begin / 1_000_000..end.min(last_us) / 1_000_000 {
            seconds += 1;
            let from = acknowledged.partition_point(|at| *at < second * 1_000_000);
            silent += u64::from(acknowledged.get(from).is_none_or(|at| *at >= (second + 1) * 1_000_000));
        }
    }
    let each_second = if seconds == 0 { 0.0 } else { all as f64 / seconds as f64 };
    report.figure("operations a second", format!("{each_second:.0}"));
    report.figure("answered", format!("{answered} of {all} ({:.2} %)", 100.0 * answered as f64 / all.max(1) as f64));
    report.figure("seconds with a write", format!("{} of {seconds}", seconds - silent));
}

/// While one voter is down and another is an old copy, the third is no majority: nothing is acknowledged.
fn old_copies(view: &View<'_>, faults: &[Fault<'_>], report: &mut Report) {
    let hit = |fault: &&Fault<'_>| fault.kind == "old-copy" && fault.result == FaultResult::Installed;
    for fault in faults.iter().filter(hit) {
        let within = |from: u64, to: u64| from > fault.begin_us && to < fault.heal_us;
        let own = view.operations.iter().filter(|operation| within(operation.call_us, operation.return_us));
        let fresh = own.filter(|operation| match &operation.outcome {
            Outcome::Committed(receipt) => !receipt.repeated && !matches!(operation.action, Action::Resolve { .. }),
            Outcome::Read { .. } => true,
            _ => false,
        });
        let count = fresh.count();
        if count > 0 {
            report.add("old-copy", format!("{count} operations were decided by a majority that an old copy made"));
        }
    }
}
