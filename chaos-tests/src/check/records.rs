//! Records: none lost, none changed, none written twice, none out of nowhere.
//!
//! A write of which nobody knows what became of it, which `incomplete` tells, may have made one record that is seen: that one
//! did not come out of nowhere. Of a history that ends early nothing is said to have: what was under way then is not in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Report;
use super::view::{Fate, View, request};
use crate::history::{Action, ListedRecord, Operation, Outcome};

/// A record that was committed.
struct Expected<'a> {
    participant: &'a str,
    sha256: &'a str,
    bytes: u64,
    version: u32,
    /// When somebody knew.
    known_us: u64,
}

type AllExpected<'a> = HashMap<&'a str, Expected<'a>>;

/// A write in doubt, and the record that is taken for its own.
struct Doubt<'a> {
    write: &'a Operation,
    record: Option<&'a str>,
}

/// All writes in doubt.
struct Doubts<'a> {
    all: Vec<Doubt<'a>>,
    /// Whether the history has every write.
    whole: bool,
}

impl<'a> Doubts<'a> {
    fn of(view: &View<'a>) -> Self {
        let open = view.writes.iter().filter(|write| write.fate == Fate::Open);
        let all = open.map(|write| Doubt { write: write.operation, record: None }).collect();
        Self { all, whole: view.end.is_some() }
    }

    /// Whether one of them that fits may have made a record that `seen` tells of. It made no other from then on.
    fn explain(&mut self, seen: &Operation, record: &'a str, fits: impl Fn(&Action) -> bool) -> bool {
        let may = |doubt: &Doubt<'_>| {
            let write = doubt.write;
            write.participant == seen.participant && write.call_us < seen.return_us && fits(&write.action)
        };
        let known = self.all.iter().position(|doubt| doubt.record == Some(record));
        let place = known.or_else(|| self.all.iter().position(|doubt| doubt.record.is_none() && may(doubt)));
        let Some(doubt) = place.map(|place| &mut self.all[place]).filter(|doubt| may(doubt)) else { return false };
        doubt.record = Some(record);
        true
    }

    /// The rule that a record breaks which nothing explains.
    fn rule(&self) -> &'static str {
        if self.whole { "appeared" } else { "incomplete" }
    }
}

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let expected = expected(view, report);
    let mut doubts = Doubts::of(view);
    answers_agree(view, report);
    reads(view, &expected, &mut doubts, report);
    lists(view, &expected, &mut doubts, report);
    final_scan(view, &expected, report);
    report.figure("records", expected.len());
    report.figure("records of writes in doubt", doubts.all.iter().filter(|doubt| doubt.record.is_some()).count());
}

/// Every committed record, once.
fn expected<'a>(view: &View<'a>, report: &mut Report) -> AllExpected<'a> {
    let mut expected = AllExpected::new();
    let mut documents: BTreeMap<&str, (&str, u32)> = BTreeMap::new();
    for write in &view.writes {
        let Action::Put { document, body_sha256, body_bytes, .. } = &write.operation.action else { continue };
        let Fate::Committed { receipt, known_us } = write.fate else { continue };
        let (id, record) = (write.operation.id, receipt.record.as_str());
        if let Some(document) = document {
            let written = *documents.entry(document).or_insert((record, receipt.version));
            if written != (record, receipt.version) {
                report.add(
                    "written-twice",
                    format!("operation {id} wrote a document of which there was a record already"),
                );
            }
        }
        let one = expected.entry(record).or_insert(Expected {
            participant: &write.operation.participant,
            sha256: body_sha256,
            bytes: *body_bytes,
            version: receipt.version,
            known_us,
        });
        if one.sha256 != body_sha256 || one.version != receipt.version {
            report.add("written-twice", format!("operation {id} was told the record of another body"));
        }
        one.known_us = one.known_us.min(known_us);
    }
    expected
}

/// What is told of one request never changes.
fn answers_agree(view: &View<'_>, report: &mut Report) {
    let by_request: HashMap<&str, &Operation> =
        view.writes.iter().filter_map(|write| Some((request(&write.operation.action)?, write.operation))).collect();
    for (request, answers) in &view.resolved {
        let first = by_request.get(request).filter(|first| matches!(first.outcome, Outcome::Committed(_)));
        let told =
            first.copied().into_iter().chain(answers.iter().copied()).filter_map(|answer| match &answer.outcome {
                Outcome::Committed(receipt) => Some((answer.id, Some((&receipt.record, receipt.version, receipt.at)))),
                Outcome::Absent => Some((answer.id, None)),
                _ => None,
            });
        let told: Vec<_> = told.collect();
        for pair in told.windows(2) {
            if pair[0].1 != pair[1].1 {
                let (one, other) = (pair[0].0, pair[1].0);
                report.add(
                    "written-twice",
                    format!("operations {one} and {other} were told different outcomes of one request"),
                );
            }
        }
    }
}

fn reads<'a>(view: &View<'a>, expected: &AllExpected<'_>, doubts: &mut Doubts<'a>, report: &mut Report) {
    for operation in &view.operations {
        let Action::Get { record } = &operation.action else { continue };
        let id = operation.id;
        match (&operation.outcome, expected.get(record.as_str())) {
            (Outcome::Read { sha256, .. }, None) => {
                let wrote =
                    |action: &Action| matches!(action, Action::Put { body_sha256, .. } if body_sha256 == sha256);
                if !doubts.explain(operation, record, wrote) {
                    let message = format!("operation {id} read a record that no write is known to have made");
                    report.add(doubts.rule(), message);
                }
            }
            (Outcome::Read { sha256, bytes, version, .. }, Some(one))
                if sha256 != one.sha256 || *bytes != one.bytes || *version != one.version =>
            {
                let written = format!("{} bytes of version {}", one.bytes, one.version);
                let message =
                    format!("operation {id}: {bytes} bytes of version {version} came, {written} were written");
                report.add("wrong-bytes", message);
            }
            (Outcome::Missing, Some(one)) if one.known_us < operation.call_us => {
                report.add("lost", format!("operation {id} did not find a record that was acknowledged before"));
            }
            _ => {}
        }
    }
}

fn lists<'a>(view: &View<'a>, expected: &AllExpected<'_>, doubts: &mut Doubts<'a>, report: &mut Report) {
    let mut of_participant: BTreeMap<&str, Vec<(&str, &Expected<'_>)>> = BTreeMap::new();
    for (record, one) in expected {
        of_participant.entry(one.participant).or_default().push((record, one));
    }
    for operation in &view.operations {
        let id = operation.id;
        let Outcome::Listed { records } = &operation.outcome else {
            if operation.action == Action::List && operation.outcome == Outcome::Missing {
                report.add("lost", format!("operation {id}: a participant is not there"));
            }
            continue;
        };
        let listed: HashMap<&str, &ListedRecord> = records.iter().map(|one| (one.record.as_str(), one)).collect();
        let documents: Vec<&str> =
            records.iter().map(|one| one.document.as_str()).filter(|one| !one.is_empty()).collect();
        let distinct: HashSet<&&str> = documents.iter().collect();
        if listed.len() != records.len() || distinct.len() != documents.len() {
            report.add("written-twice", format!("operation {id} lists a record or a document twice"));
        }
        let participant = operation.participant.as_str();
        let mut lost = 0;
        for (record, one) in of_participant.get(participant).map_or(&[][..], Vec::as_slice) {
            match listed.get(record) {
                None if one.known_us < operation.call_us => lost += 1,
                Some(found) if found.version != one.version => {
                    let message = format!("operation {id} lists version {} instead of {}", found.version, one.version);
                    report.add("wrong-bytes", message);
                }
                _ => {}
            }
        }
        if lost > 0 {
            report.add("lost", format!("operation {id} does not list {lost} records that were acknowledged before"));
        }
        let strange = records.iter().filter(|one| match expected.get(one.record.as_str()) {
            Some(known) => known.participant != participant,
            None => {
                let named = |action: &Action| {
                    matches!(action, Action::Put { document, .. } if document.as_deref().unwrap_or("") == one.document)
                };
                !doubts.explain(operation, &one.record, named)
            }
        });
        let strange = strange.count();
        if strange > 0 {
            let message = format!("operation {id} lists {strange} records that no write is known to have made");
            report.add(doubts.rule(), message);
        }
    }
}

/// Every record was read, and every list asked for, on every voter.
fn final_scan(view: &View<'_>, expected: &AllExpected<'_>, report: &mut Report) {
    let Some(final_us) = view.final_us else { return };
    let mut read: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for operation in view.operations.iter().filter(|operation| operation.call_us >= final_us) {
        let Some(node) = operation.node.as_deref() else { continue };
        match (&operation.action, &operation.outcome) {
            (Action::Get { record }, Outcome::Read { .. }) => drop(read.entry(node).or_default().insert(record)),
            (Action::List, Outcome::Listed { .. }) => {
                listed.entry(node).or_default().insert(&operation.participant);
            }
            _ => {}
        }
    }
    for voter in view.last_voters() {
        let found = read.get(voter.as_str());
        let unread = expected.keys().filter(|record| !found.is_some_and(|found| found.contains(*record))).count();
        if unread > 0 {
            let all = expected.len();
            report.add(
                "lost",
                format!("{unread} of {all} acknowledged records were not read on {voter} in the final scan"),
            );
        }
        let participants: BTreeSet<&str> = expected.values().map(|one| one.participant).collect();
        let lists = listed.get(voter.as_str());
        let unlisted = participants.iter().filter(|one| !lists.is_some_and(|lists| lists.contains(*one))).count();
        if unlisted > 0 {
            report.add(
                "incomplete",
                format!("the lists of {unlisted} participants were not read on {voter} in the final scan"),
            );
        }
    }
}
