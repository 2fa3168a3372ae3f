//! Holds what was found after a recovery against what the witness had been told before. Looks at nothing else.
//!
//! Invariant: what could not be checked is told (`incomplete`, `vacuous`), and is no pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::findings::{Findings, Read};
use super::load::PARTICIPANTS;
use super::notes::{Deed, Kind, Notes};

/// What a run must come to, or it says nothing.
const FLOORS: [(&str, usize); 6] = [
    ("acknowledged writes", 40),
    ("reads", 15),
    ("restrictions that were acknowledged plainly", 3),
    ("erasures", 1),
    ("published replication points", 10),
    ("heads of the journal", 5),
];

/// Messages of one rule that are told.
const TOLD_MAX: usize = 5;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule.
    pub rule: String,
    /// What, in words.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VIOLATION {}: {}", self.rule, self.message)
    }
}

/// What was lost and what was not, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Writes of records that were acknowledged before the loss.
    pub puts: usize,
    /// Reads.
    pub reads: usize,
    /// Restrictions that were acknowledged plainly.
    pub plain: usize,
    /// Restrictions that were acknowledged with the note that the backup may lack them.
    pub noted: usize,
    /// Erasures that were told.
    pub erasures: usize,
    /// Replication points that were published, and questions that were answered UNKNOWN.
    pub points: usize,
    /// See `points`.
    pub unknown_points: usize,
    /// The last lag that was published, in milliseconds.
    pub last_lag_ms: Option<u64>,
    /// Entries between the last replication point that was published and the last entry that is there.
    pub beyond_point: u64,
    /// Entries that the statement calls unconfirmed.
    pub unconfirmed: u64,
    /// Log entries that somebody was told of, beyond the last one that is there.
    pub entries: u64,
    /// Acknowledgements, of reads, too, that are not there.
    pub acknowledgements: usize,
    /// From the first of these to the loss, in milliseconds: the loss window.
    pub window_ms: u64,
    /// Request ids of restrictions that are lost; each was acknowledged with the note.
    pub restrictions: Vec<String>,
}

/// The judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was lost.
    pub loss: Loss,
    /// What is wrong, the first of each rule.
    pub violations: Vec<Violation>,
    /// How often each rule was broken.
    pub told: BTreeMap<String, usize>,
}

impl Verdict {
    fn add(&mut self, rule: &str, message: String) {
        let told = self.told.entry(rule.to_owned()).or_default();
        *told += 1;
        if *told <= TOLD_MAX {
            self.violations.push(Violation { rule: rule.to_owned(), message });
        }
    }
}

/// Judges.
pub fn judge(notes: &Notes, found: &Findings) -> Verdict {
    let mut verdict = Verdict { loss: loss(notes, found), ..Verdict::default() };
    floors(notes, &mut verdict);
    points(notes, found, &mut verdict);
    lags(notes, &mut verdict);
    records(notes, found, &mut verdict);
    restrictions(notes, found, &mut verdict);
    tail(notes, found, &mut verdict);
    journal(notes, found, &mut verdict);
    erasures(notes, found, &mut verdict);
    notes.alarms.iter().for_each(|alarm| verdict.add("alarm", alarm.clone()));
    found.unasked.iter().for_each(|why| verdict.add("incomplete", why.clone()));
    verdict
}

/// The greatest index that was ever published as a replication point.
fn point(notes: &Notes) -> u64 {
    notes.published.iter().filter_map(|published| published.point).map(|(index, _)| index).max().unwrap_or(0)
}

fn is_plain(deed: &Deed) -> bool {
    deed.act.kind.restricts() && deed.acknowledged().is_some_and(|told| told.is_plain())
}

fn loss(notes: &Notes, found: &Findings) -> Loss {
    let last = found.statement.last.index;
    let restricts = |deed: &&Deed| deed.act.kind.restricts() && deed.acknowledged().is_some();
    let lost: Vec<&Deed> =
        notes.deeds.iter().filter(|deed| deed.acknowledged().is_some_and(|told| told.index > last)).collect();
    let first_us = lost.iter().map(|deed| deed.answered_us).min();
    let furthest = lost.iter().filter_map(|deed| deed.acknowledged()).map(|told| told.index).max();
    Loss {
        puts: notes.acknowledged(Kind::Put),
        reads: notes.acknowledged(Kind::Read),
        plain: notes.deeds.iter().filter(|deed| is_plain(deed)).count(),
        noted: notes.deeds.iter().filter(restricts).filter(|deed| !is_plain(deed)).count(),
        erasures: notes.erased.len(),
        points: notes.published.iter().filter(|published| published.point.is_some()).count(),
        unknown_points: notes.published.iter().filter(|published| published.point.is_none()).count(),
        last_lag_ms: notes.published.iter().rev().find_map(|published| published.point).map(|(_, behind)| behind),
        beyond_point: last.saturating_sub(point(notes)),
        unconfirmed: found.statement.unconfirmed,
        entries: furthest.map_or(0, |furthest| furthest - last),
        acknowledgements: lost.len(),
        window_ms: first_us.map_or(0, |first_us| notes.lost_us.saturating_sub(first_us) / 1_000),
        restrictions: lost
            .iter()
            .filter(|deed| deed.act.kind.restricts())
            .map(|deed| deed.act.request.clone())
            .collect(),
    }
}

fn floors(notes: &Notes, verdict: &mut Verdict) {
    for (what, least, reached) in reached(notes) {
        if reached < least {
            verdict.add("vacuous", format!("{reached} {what}, {least} are the least"));
        }
    }
}

fn reached(notes: &Notes) -> impl Iterator<Item = (&'static str, usize, usize)> {
    let reached = [
        notes.acknowledged(Kind::Put),
        notes.acknowledged(Kind::Read),
        notes.deeds.iter().filter(|deed| is_plain(deed)).count(),
        notes.erased.len(),
        notes.published.iter().filter(|published| published.point.is_some()).count(),
        notes.heads.len(),
    ];
    FLOORS.into_iter().zip(reached).map(|((what, least), reached)| (what, least, reached))
}

/// Whether a loss at this moment would say something.
pub fn is_worth_something(notes: &Notes) -> bool {
    reached(notes).all(|(_, least, reached)| reached >= least)
}

/// What was published as being at the backup is there, and the statement says so.
fn points(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let (point, statement) = (point(notes), &found.statement);
    if statement.last.index < point {
        let last = statement.last.index;
        verdict.add("lost", format!("the replication point {point} was published, the last entry is {last}"));
    }
    if statement.published_index != notes.last_point() {
        verdict.add("statement", "it was held against another replication point than the last".into());
    }
    if notes.last_point().is_some() && statement.missing_below_published != Some(0) {
        let missing = statement.missing_below_published;
        verdict.add("statement", format!("entries that it misses below the replication point: {missing:?}"));
    }
}

/// Whatever was acknowledged longer ago than the lag that was published lay within its index. And what was said to be
/// at the backup was published as being there from then on.
fn lags(notes: &Notes, verdict: &mut Verdict) {
    let mut told: Vec<(u64, u64, bool)> = Vec::new();
    for deed in &notes.deeds {
        told.extend(deed.acknowledged().map(|one| (deed.answered_us, one.index, is_plain(deed))));
    }
    for published in &notes.published {
        let Some((index, behind_ms)) = published.point else { continue };
        let until_us = published.asked_us.saturating_sub(behind_ms * 1_000);
        let beyond = told.iter().filter(|(at_us, of, _)| *at_us < until_us && *of > index);
        if let Some((at_us, of, _)) = beyond.min() {
            let ago_ms = (published.asked_us - at_us) / 1_000;
            verdict.add(
                "lag",
                format!("{behind_ms} ms behind at {index} was published, {of} had been acknowledged {ago_ms} ms ago"),
            );
        }
        let plain = told.iter().filter(|(at_us, of, plain)| *plain && *at_us < published.asked_us && *of > index);
        if let Some((_, of, _)) = plain.min() {
            verdict.add("plain", format!("{of} was acknowledged as being at the backup, which then told {index}"));
        }
    }
}

/// Participants of whom nothing is read any more, or perhaps nothing.
fn left(notes: &Notes) -> BTreeSet<usize> {
    notes.deeds.iter().filter(|deed| deed.act.kind == Kind::Withdraw).map(|deed| deed.act.place).collect()
}

fn records(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let (left, last) = (left(notes), found.statement.last.index);
    let mut written: BTreeSet<(usize, &str)> = BTreeSet::new();
    for deed in notes.deeds.iter().filter(|deed| deed.act.kind == Kind::Put) {
        written.insert((deed.act.place, &deed.act.sha256));
        let Some(told) = deed.acknowledged().filter(|told| told.index <= last) else { continue };
        let (place, record) = (deed.act.place, &told.record);
        match found.records.get(&(place, record.clone())) {
            Some(Read::Body(sha256)) if *sha256 == deed.act.sha256 => {}
            Some(Read::Body(_)) => verdict.add("wrong-bytes", format!("record {record} is not what was written")),
            Some(Read::Refused) if left.contains(&place) => {}
            Some(Read::Failed(why)) => verdict.add("incomplete", format!("record {record}: {why}")),
            _ => verdict.add("lost", format!("record {record} of index {}, the last entry is {last}", told.index)),
        }
    }
    for ((place, record), read) in &found.records {
        match read {
            Read::Body(sha256) if !written.contains(&(*place, sha256)) && *sha256 != after_the_loss() => {
                verdict.add("appeared", format!("record {record} of participant {place} was written by nobody"));
            }
            _ => {}
        }
    }
}

/// The SHA-256 of the only body that is written after the loss.
fn after_the_loss() -> String {
    crate::content::sha256(super::runbook::FIRST_WRITE)
}

fn restrictions(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let last = found.statement.last.index;
    for (number, deed) in notes.deeds.iter().enumerate().filter(|(_, deed)| deed.act.kind.restricts()) {
        let (act, Some(told)) = (&deed.act, deed.acknowledged()) else { continue };
        if told.index > last {
            if is_plain(deed) {
                let message =
                    format!("{:?} {} of index {} was acknowledged plainly", act.kind, act.request, told.index);
                verdict.add("undone", format!("{message}, the last entry is {last}"));
            }
            continue;
        }
        let given_back = act.kind == Kind::Revoke
            && notes.deeds.iter().any(|later| {
                let same = later.act.place == act.place && later.act.facility == act.facility;
                same && later.act.kind == Kind::Grant
                    && later.called_us > deed.called_us
                    && later.answer != Some(super::notes::Answer::Refused)
            });
        match found.probes.get(&number) {
            _ if given_back => {}
            Some(Read::Refused) => {}
            Some(Read::Body(_)) => {
                verdict.add(
                    "undone",
                    format!("after {:?} {}, of index {}, it is read", act.kind, act.request, told.index),
                );
            }
            Some(Read::Failed(why)) => verdict.add("incomplete", format!("a read after {}: {why}", act.request)),
            None => verdict.add("incomplete", format!("no read after {} was tried", act.request)),
        }
    }
}

/// What the statement calls unconfirmed is what lies beyond the last entry known to be committed, each by its request.
fn tail(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let statement = &found.statement;
    let (committed, last) = (statement.committed.index, statement.last.index);
    let listed: BTreeMap<u64, &[String]> =
        statement.tail.iter().map(|entry| (entry.place.index, &entry.requests[..])).collect();
    if statement.unconfirmed != last.saturating_sub(committed) || listed.len() as u64 != statement.unconfirmed {
        let (unconfirmed, listed) = (statement.unconfirmed, listed.len());
        verdict.add("statement", format!("{unconfirmed} unconfirmed, {listed} listed, of {committed} to {last}"));
    }
    if listed.keys().any(|index| *index <= committed || *index > last) {
        verdict.add("statement", "what it lists as unconfirmed lies elsewhere".into());
    }
    for deed in &notes.deeds {
        let Some(told) = deed.acknowledged().filter(|told| told.index > committed && told.index <= last) else {
            continue;
        };
        let named = |requests: &&[String]| deed.act.request.is_empty() || requests.contains(&deed.act.request);
        if !listed.get(&told.index).is_some_and(named) {
            verdict.add("statement", format!("index {} is beyond what was committed, and not named", told.index));
        }
    }
}

fn journal(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let last = found.statement.last.index;
    for deed in &notes.deeds {
        let Some(told) = deed.acknowledged().filter(|told| told.index <= last) else { continue };
        match found.journal.get(&told.journal) {
            Some(None) => {}
            Some(Some(place)) if *place == deed.act.place => {}
            Some(Some(_)) => verdict.add("journal", format!("entry {} is about somebody else", told.journal)),
            None => verdict.add("journal", format!("entry {} of index {} is not there", told.journal, told.index)),
        }
    }
    for why in found.heads.iter().flatten() {
        verdict.add("journal", format!("a head that was witnessed is not continued: {why}"));
    }
    for why in found.receipts.iter().flatten() {
        verdict.add("journal", format!("the entry of a receipt is not proved: {why}"));
    }
    if found.heads.is_empty() || found.receipts.is_empty() {
        verdict.add("vacuous", "no head, or no receipt, lies within the statement".into());
    }
}

fn erasures(notes: &Notes, found: &Findings, verdict: &mut Verdict) {
    let (point, at_reads) = (point(notes), &found.at_reads);
    for erased in &notes.erased {
        let there = notes.index_of_journal(erased.journal).is_some_and(|index| index <= point);
        if there && !at_reads.erased.contains(&erased.place) {
            verdict.add("erased", format!("the erasure of participant {} is lost", erased.place));
        }
    }
    for place in &at_reads.opened {
        verdict.add("erased", format!("a record of participant {place} was read after the recovery"));
    }
    // An erasure destroys the key and the number: of so many participants, so many are left.
    let expected = (PARTICIPANTS - at_reads.erased.len().min(PARTICIPANTS)) as u64;
    for table in ["participant-key", "number"] {
        let rows = found.statement.rows(table);
        if rows != expected {
            verdict.add("erased", format!("{rows} rows of {table}, {expected} participants are not erased"));
        }
    }
    found.erased_opens.iter().for_each(|what| verdict.add("erased", what.clone()));
    for place in &found.not_erased_again {
        verdict.add("erased", format!("participant {place} was erased, and is not erased again"));
    }
}

#[cfg(test)]
mod tests;
