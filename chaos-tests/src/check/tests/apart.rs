//! What a run apart adds to a history: faults, rests, needs, the journal's entries. One that is good, and for
//! each rule those that break it.

use std::collections::BTreeSet;

use super::super::{check, journal};
use super::GOOD;
use crate::content::hexadecimal;
use crate::history::{Action, Entry, FaultResult, JournalHead, Leaves, Line, Machine, NemesisEvent, NotRun, Outcome};

/// More entries than any operation names.
const ENTRIES: u64 = 130;

const FURTHER: &str = r#"
{"line":"nemesis","round":1,"at_us":120,"event":"begin","fault":1,"kind":"lossy","nodes":["v1"],"leader":false,"result":"installed"}
{"line":"nemesis","round":1,"at_us":130,"event":"heal","fault":1,"done_us":131,"result":"installed","detail":"7 packets dropped"}
{"line":"nemesis","round":2,"at_us":221,"event":"begin","fault":2,"kind":"old-copy","nodes":["v1","v2"],"leader":false,"result":"installed"}
{"line":"nemesis","round":2,"at_us":225,"event":"heal","fault":2,"done_us":226,"result":"installed"}
{"line":"machine","at_us":290,"node":"v1","memory_mib":100,"descriptors":50,"disk_bytes":1048576}
{"line":"rest","at_us":291}
"#;

fn good() -> Vec<Line> {
    let mut lines: Vec<Line> =
        GOOD.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = lines.iter().position(|line| matches!(line, Line::FinalScan { .. })).unwrap();
    let further = FURTHER.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap());
    lines.splice(place..place, further);
    let Line::Header(header) = &mut lines[0] else { panic!("a header") };
    header.run = "chaos".into();
    header.kinds = vec!["lossy".into(), "old-copy".into()];
    header.floors.operations = 5;
    header.floors.faults = 2;
    header.bounds =
        serde_json::from_str(r#"{"memory_mib":200,"descriptors":60,"disk_factor":2,"disk_base_mib":1}"#).unwrap();
    let hashes: Vec<String> = (0..ENTRIES).map(|nth| hexadecimal(&journal::leaf(&nth.to_be_bytes()))).collect();
    let mut entries = Vec::new();
    for line in &mut lines {
        if let Line::Operation(operation) = line {
            let (position, denied) = match &mut operation.outcome {
                Outcome::Read { journal, .. } => (*journal, false),
                Outcome::Committed(receipt) => (receipt.journal, false),
                Outcome::Denied { entry } => (*entry.insert(90), true),
                _ => continue,
            };
            let by_facility = !matches!(operation.action, Action::Grant { .. } | Action::Revoke { .. });
            entries.push(Entry {
                position,
                action: "whatever".into(),
                facility: if by_facility { operation.facility.clone() } else { String::new() },
                participant: operation.participant.clone(),
                denied,
                count: 0,
            });
        }
    }
    for line in &mut lines {
        if let Line::Status(status) = line {
            let count = if status.settled { ENTRIES } else { 77 };
            let root = journal::root_of(&hashes[..count as usize]);
            status.journal = Some(JournalHead { entries: count, root });
        }
    }
    let end = lines.pop().unwrap();
    for (from, to) in [(0, 100), (100, ENTRIES as usize)] {
        for node in ["v1", "b1"] {
            lines.push(Line::Leaves(Leaves {
                node: node.into(),
                from: from as u64,
                leaves: hashes[from..to].to_vec(),
            }));
        }
    }
    lines.push(Line::Entries { entries });
    lines.push(end);
    lines
}

fn judge(spoil: impl Fn(&mut Line)) -> BTreeSet<&'static str> {
    let mut lines = good();
    lines.iter_mut().for_each(spoil);
    check(&lines).violations.into_iter().map(|violation| violation.rule).collect()
}

fn only(rule: &'static str, spoil: impl Fn(&mut Line)) {
    assert_eq!(judge(spoil), BTreeSet::from([rule]));
}

#[test]
fn a_good_history_of_a_run_apart_is_found_good() {
    let report = check(&good());
    assert!(report.is_good(), "{report}");
    assert!(report.to_string().contains("lossy"), "the table is told: {report}");
}

#[test]
fn faults_that_hit_nothing_and_those_that_could_not_be_set_up_are_no_pass() {
    only("not-run", |line| {
        if let Line::Header(header) = line {
            header.not_run.push(NotRun { kind: "sync-error".into(), why: "strace is missing".into() });
        }
    });
    for wanted in [FaultResult::Skipped, FaultResult::Indeterminate] {
        only("vacuous", |line| {
            if let Line::Nemesis(nemesis) = line
                && let NemesisEvent::Begin { fault: 1, result, .. } = &mut nemesis.event
            {
                *result = wanted;
            }
        });
    }
    // It was set, but no packet met it.
    only("vacuous", |line| {
        if let Line::Nemesis(nemesis) = line
            && let NemesisEvent::Heal { fault: 1, result, .. } = &mut nemesis.event
        {
            *result = FaultResult::Indeterminate;
        }
    });
    only("vacuous", |line| {
        if let Line::Header(header) = line {
            header.floors.operations = 1_000;
        }
    });
}

#[test]
fn an_old_copy_that_makes_a_majority_is_found() {
    only("old-copy", |line| {
        if let Line::Nemesis(nemesis) = line
            && let NemesisEvent::Begin { fault: 2, .. } = nemesis.event
        {
            nemesis.at_us = 205;
        }
    });
}

#[test]
fn an_error_that_names_the_damage_is_right_while_there_is_damage() {
    let failed = |kind: &'static str, error: &'static str| {
        judge(move |line| match line {
            Line::Nemesis(nemesis) => match &mut nemesis.event {
                NemesisEvent::Begin { fault: 1, kind: this, .. } => {
                    *this = kind.into();
                    nemesis.at_us = 195;
                }
                NemesisEvent::Heal { fault: 1, done_us, .. } => (nemesis.at_us, *done_us) = (205, 206),
                _ => {}
            },
            Line::Operation(operation) if operation.id == 10 => {
                operation.outcome = Outcome::Failed { error: error.into(), passing: false };
            }
            Line::Header(header) => header.kinds = vec!["old-copy".into()],
            _ => {}
        })
    };
    let (damaged, other) = ("a stored block does not open; see the runbook on damaged members", "a node failed");
    assert_eq!(failed("flip-state", damaged), BTreeSet::new());
    assert_eq!(failed("flip-state", other), BTreeSet::from(["error"]));
    assert_eq!(failed("lossy", damaged), BTreeSet::from(["error"]));
}

#[test]
fn a_node_that_needs_too_much_is_found() {
    let spoils: [fn(&mut Machine); 3] =
        [|one| one.memory_mib = 201, |one| one.descriptors = 61, |one| one.disk_bytes += 100];
    for spoil in spoils {
        only("needs", |line| {
            if let Line::Machine(machine) = line {
                spoil(machine);
            }
        });
    }
}

#[test]
fn a_journal_that_is_not_what_was_told_is_found() {
    only("journal", |line| {
        if let Line::Status(status) = line
            && let Some(head) = status.journal.as_mut().filter(|_| !status.settled)
        {
            head.entries += 1;
        }
    });
    only("journal", |line| {
        if let Line::Leaves(leaves) = line
            && leaves.node == "b1"
        {
            leaves.leaves[3] = leaves.leaves[4].clone();
        }
    });
    // What a read names is about another participant, was denied, or is not there.
    let spoils: [fn(&mut Entry); 4] = [
        |entry| entry.participant = "p9".into(),
        |entry| entry.denied = !entry.denied,
        |entry| entry.facility = "elsewhere".into(),
        |entry| entry.position = 3,
    ];
    for spoil in spoils {
        only("journal", |line| {
            if let Line::Entries { entries } = line {
                spoil(entries.iter_mut().find(|entry| entry.position == 104).unwrap());
            }
        });
    }
    assert_eq!(
        judge(|line| {
            if matches!(line, Line::Leaves(_)) {
                *line = Line::Rest { at_us: 409 };
            }
        }),
        BTreeSet::from(["incomplete"])
    );
}
