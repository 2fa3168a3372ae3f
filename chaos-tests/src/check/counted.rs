//! Refusals that were only counted: what the journal counts is never less than what clients were told.
//!
//! A gateway keeps a count for up to a minute, or as long as it knows no leader, and loses it if its process
//! ends without being asked to. Which gateway a client asked is not known, so that a refusal is held against
//! the journal only if nothing ended any voter within [`KEPT_US`] after it, and if as much time was left before
//! the entries were told.

use std::collections::{BTreeMap, HashSet};

use super::Report;
use super::view::View;
use crate::history::{NemesisEvent, Operation, Outcome};
use crate::nemesis::Kind;

/// Three times as long as a gateway keeps a count while it has a leader, and some, in microseconds.
const KEPT_US: u64 = 200_000_000;

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let Some(final_us) = view.final_us.filter(|_| !view.entries.is_empty()) else { return };
    let ends = voters_ended(view);
    let kept = |return_us: u64| {
        let until_us = return_us.saturating_add(KEPT_US);
        until_us <= final_us && !ends.iter().any(|(from_us, to_us)| *from_us <= until_us && return_us <= *to_us)
    };
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for operation in &view.operations {
        if matches!(operation.outcome, Outcome::Denied { entry: None }) && kept(operation.return_us) {
            *told.entry(&operation.facility).or_default() += 1;
        }
    }
    // An entry that a refusal names is that one's own: it counts nobody else's.
    let named = |operation: &Operation| match operation.outcome {
        Outcome::Denied { entry } => entry,
        _ => None,
    };
    let own: HashSet<u64> = view.operations.iter().filter_map(|operation| named(operation)).collect();
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in view.entries.iter().filter(|entry| entry.denied && !own.contains(&entry.position)) {
        *counted.entry(&entry.facility).or_default() += u64::from(entry.count);
    }
    report.figure("counted refusals held to it", told.values().sum::<u64>());
    for (facility, told) in told {
        let counted = counted.get(facility).copied().unwrap_or(0);
        if counted < told {
            let message =
                format!("{told} refusals to {facility} have no entry of their own, and the journal counts {counted}");
            report.add("uncounted", message);
        }
    }
}

/// From when to when voters ended or may have.
fn voters_ended(view: &View<'_>) -> Vec<(u64, u64)> {
    let mut ends = Vec::new();
    let mut open = BTreeMap::new();
    for nemesis in &view.nemeses {
        let at_us = nemesis.at_us;
        match &nemesis.event {
            NemesisEvent::Kill { .. } => ends.push((at_us, at_us)),
            NemesisEvent::Begin { fault, kind, .. } if !Kind::of(kind).is_some_and(Kind::spares_voters) => {
                open.insert(*fault, at_us);
            }
            NemesisEvent::Heal { fault, done_us, .. } => {
                ends.extend(open.remove(fault).map(|begin_us| (begin_us, *done_us)));
            }
            NemesisEvent::Begin { .. } | NemesisEvent::Start { .. } => {}
        }
    }
    ends.extend(open.into_values().map(|begin_us| (begin_us, u64::MAX)));
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Line;

    const LINES: &str = r#"
{"line":"header","format":1,"run":"chaos","seed":1,"rounds":1,"version":"kura 0","began_ms":0,"voters":["v1"],"backups":[],"floors":{"writes":0,"reads":0,"revocations":0,"kills":0,"leader_kills":0,"kills_under_writing":0}}
{"line":"operation","id":1,"client":"c0","participant":"p0","facility":"visitor","call_us":1000000,"return_us":1000001,"action":"list","outcome":"denied"}
{"line":"operation","id":2,"client":"c0","participant":"p0","facility":"visitor","call_us":1000002,"return_us":1000003,"action":"list","outcome":"denied"}
{"line":"operation","id":3,"client":"c0","participant":"p0","facility":"visitor","call_us":1000004,"return_us":1000005,"action":"list","outcome":"denied","journal":4}
{"line":"nemesis","round":1,"at_us":9000000,"event":"begin","fault":1,"kind":"KIND","nodes":["v1"],"leader":true,"result":"installed"}
{"line":"nemesis","round":1,"at_us":9500000,"event":"heal","fault":1,"done_us":9600000,"result":"installed"}
{"line":"final-scan","at_us":FINAL}
{"line":"entries","entries":[{"position":4,"action":"list","facility":"visitor","denied":true,"count":1},{"position":5,"action":"list","facility":"visitor","denied":true,"count":COUNT},{"position":6,"action":"list","facility":"home","denied":true,"count":7}]}
"#;

    /// How many violations there are, and how many refusals were judged.
    fn judge(kind: &str, final_us: &str, count: &str) -> (usize, String) {
        let text = LINES.replace("KIND", kind).replace("FINAL", final_us).replace("COUNT", count);
        let lines: Vec<Line> =
            text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut report = Report::default();
        check(&View::of(&lines).unwrap(), &mut report);
        assert!(report.violations.iter().all(|violation| violation.rule == "uncounted"));
        (report.violations.len(), report.figures[0].1.clone())
    }

    #[test]
    fn a_count_that_is_too_low_is_found_where_it_must_be_there() {
        assert_eq!(judge("lossy", "300000000", "2"), (0, "2".into()));
        // Told twice, as one whose proposal's fate was unknown.
        assert_eq!(judge("lossy", "300000000", "4"), (0, "2".into()));
        assert_eq!(judge("lossy", "300000000", "1"), (1, "2".into()));
        assert_eq!(judge("kill-leader", "300000000", "1"), (0, "0".into()), "it may have gone with the process");
        assert_eq!(judge("lossy", "200000000", "1"), (0, "0".into()), "it may still come");
    }
}
