//! Made-up notes and findings: good ones, and ones with one thing wrong.

use kura_client::JournalHead;

use super::*;
use crate::recovery::load::{ERASED, LEAVERS};
use crate::recovery::notes::{Acknowledged, Act, Answer, Erased, Head, Published};
use crate::recovery::runbook::{AtReads, Place, Statement, TableTold, Unconfirmed};

const STAYS: usize = ERASED + LEAVERS;
/// The last entry that is there; the last known to be committed; the last replication point.
const LAST: u64 = 400;
const COMMITTED: u64 = 390;
const POINT: u64 = 350;
/// An erasure's place in the journal.
const ERASED_AT: u64 = 95;

fn act(kind: Kind, place: usize, nth: u64) -> Act {
    Act {
        kind,
        place,
        facility: "visitor-1".into(),
        record: String::new(),
        request: if kind == Kind::Read { String::new() } else { format!("{nth:032x}") },
        sha256: if kind == Kind::Put { format!("body {nth}") } else { String::new() },
    }
}

/// One every 10 ms, at an index of its own, acknowledged 1 ms later; as being at the backup 1,100 ms later.
fn deed(kind: Kind, place: usize, index: u64, reach: &str) -> Deed {
    let told = Acknowledged {
        timeline: 0,
        index,
        journal: index,
        record: if kind == Kind::Put { format!("record {index}") } else { String::new() },
        sha256: String::new(),
        reach: reach.into(),
    };
    let called_us = index * 10_000;
    let takes_us = if told.is_plain() { 1_100_000 } else { 1_000 };
    let answer = Some(Answer::Acknowledged(told));
    Deed { act: act(kind, place, index), called_us, answered_us: called_us + takes_us, answer }
}

/// A run in which nothing is wrong: an entry each 10 ms, the backup one second behind, lost at 450, there up to 400.
fn good() -> (Notes, Findings) {
    let mut notes = Notes::default();
    for index in 1..=450 {
        let deed = match index {
            95 => continue,
            200 | 210 | 300 => deed(Kind::Revoke, STAYS, index, "beyond-prefecture"),
            380 | 430 => deed(Kind::Revoke, STAYS + 1, index, "not-yet-beyond"),
            _ if index % 3 == 0 => deed(Kind::Read, STAYS, index, ""),
            _ => deed(Kind::Put, STAYS, index, "not-awaited"),
        };
        notes.deeds.push(deed);
    }
    for index in (150..=POINT).step_by(10) {
        let asked_us = (index + 100) * 10_000;
        notes.published.push(Published { asked_us, arrived_us: asked_us + 5_000, point: Some((index, 1_000)) });
        notes.heads.push(Head { at_us: asked_us, head: JournalHead::new([1; 16], 0, index, index + 1, [2; 32]) });
    }
    notes.published.push(Published { asked_us: 4_450_000, arrived_us: 4_470_000, point: None });
    notes.erased.push(Erased { at_us: 970_000, place: 0, journal: ERASED_AT });
    notes.lost_us = 4_505_000;

    let mut found = Findings {
        statement: Statement {
            timeline: 1,
            last: Place { term: 1, index: LAST },
            committed: Place { term: 1, index: COMMITTED },
            unconfirmed: LAST - COMMITTED,
            published_index: Some(POINT),
            missing_below_published: Some(0),
            ..Statement::default()
        },
        at_reads: AtReads { erased: vec![0], opened: Vec::new() },
        heads: vec![None],
        receipts: vec![None],
        ..Findings::default()
    };
    let left = PARTICIPANTS as u64 - 1;
    found.statement.tables =
        ["participant-key", "number"].map(|table| TableTold { table: table.into(), rows: left }).to_vec();
    for (number, deed) in notes.deeds.iter().enumerate() {
        let told = deed.acknowledged().unwrap();
        if told.index > LAST {
            continue;
        }
        found.journal.insert(told.journal, Some(deed.act.place));
        match deed.act.kind {
            Kind::Put => {
                let body = Read::Body(deed.act.sha256.clone());
                found.records.insert((deed.act.place, told.record.clone()), body);
            }
            kind if kind.restricts() => drop(found.probes.insert(number, Read::Refused)),
            _ => {}
        }
        if told.index > COMMITTED {
            let place = Place { term: 1, index: told.index };
            found.statement.tail.push(Unconfirmed { place, requests: vec![deed.act.request.clone()] });
        }
    }
    (notes, found)
}

/// The rules that are broken, once something is changed.
fn rules(change: impl FnOnce(&mut Notes, &mut Findings)) -> Vec<String> {
    let (mut notes, mut found) = good();
    change(&mut notes, &mut found);
    judge(&notes, &found).told.into_keys().collect()
}

#[test]
fn a_good_run_is_clean_and_its_loss_is_counted() {
    let (notes, found) = good();
    let verdict = judge(&notes, &found);
    assert_eq!(verdict.violations, []);
    let loss = verdict.loss;
    assert_eq!((loss.plain, loss.noted, loss.erasures), (3, 2, 1));
    assert_eq!((loss.entries, loss.acknowledgements, loss.beyond_point), (50, 50, 50));
    // The first that is lost was acknowledged at 401 * 10 + 1 ms.
    assert_eq!(loss.window_ms, 494);
    assert_eq!(loss.restrictions, [format!("{:032x}", 430)]);
    assert_eq!((loss.points, loss.unknown_points, loss.last_lag_ms), (21, 1, Some(1_000)));
}

#[test]
fn what_was_published_must_be_there() {
    let short = |_: &mut Notes, found: &mut Findings| {
        found.statement.last.index = POINT - 1;
        found.statement.committed.index = POINT - 1;
        (found.statement.unconfirmed, found.statement.tail) = (0, Vec::new());
        found.statement.missing_below_published = Some(1);
    };
    let broken = rules(short);
    assert!(["lost", "statement"].iter().all(|rule| broken.iter().any(|one| one == rule)), "{broken:?}");
    assert_eq!(rules(|_, found| found.statement.published_index = None), ["statement"]);
}

#[test]
fn a_lag_must_not_be_understated() {
    let less = |by: u64| {
        rules(move |notes, _| {
            for (_, behind_ms) in notes.published.iter_mut().filter_map(|one| one.point.as_mut()) {
                *behind_ms -= by;
            }
        })
    };
    assert_eq!(less(1_000), ["lag"]);
    assert_eq!(less(20), ["lag"]);
    assert_eq!(less(0), [""; 0]);
}

#[test]
fn what_is_said_to_be_at_the_backup_must_be() {
    // Acknowledged as being there before the backup told that it had it.
    let early = |notes: &mut Notes, _: &mut Findings| {
        let deed = notes.deeds.iter_mut().find(|deed| deed.acknowledged().unwrap().index == 300).unwrap();
        deed.answered_us = 3_100_000;
        let late = Published { asked_us: 3_200_000, arrived_us: 3_210_000, point: Some((220, 1_000)) };
        notes.published.push(late);
    };
    assert!(rules(early).contains(&"plain".to_owned()));
    let plain = |notes: &mut Notes, _: &mut Findings| {
        let deed = notes.deeds.iter_mut().find(|deed| deed.acknowledged().unwrap().index == 430).unwrap();
        deed.answered_us = 4_504_000;
        deed.answer = deed.answer.clone().map(|answer| match answer {
            Answer::Acknowledged(told) => {
                Answer::Acknowledged(Acknowledged { reach: "beyond-prefecture".into(), ..told })
            }
            other => other,
        });
    };
    assert_eq!(rules(plain), ["undone"]);
}

#[test]
fn records_are_whole_and_were_written() {
    let record = |index: u64| (STAYS, format!("record {index}"));
    assert_eq!(rules(|_, found| drop(found.records.remove(&record(400)))), ["lost"]);
    assert_eq!(rules(|_, found| drop(found.records.insert(record(100), Read::Refused))), ["lost"]);
    let other = Read::Body("body 101".into());
    assert_eq!(rules(|_, found| drop(found.records.insert(record(100), other))), ["wrong-bytes"]);
    let strange = Read::Body("nobody's".into());
    assert_eq!(rules(|_, found| drop(found.records.insert(record(999), strange))), ["appeared"]);
    // Whoever was not answered may have written it.
    let open = |notes: &mut Notes, found: &mut Findings| {
        notes.deeds.push(Deed { answer: None, ..deed(Kind::Put, STAYS, 999, "") });
        found.records.insert((STAYS, "record 999".into()), Read::Body("body 999".into()));
    };
    assert_eq!(rules(open), [""; 0]);
    let failed = Read::Failed("no answer".into());
    assert_eq!(rules(|_, found| drop(found.records.insert(record(100), failed))), ["incomplete"]);
}

#[test]
fn no_restriction_is_undone_unless_it_was_given_back() {
    let opens = |notes: &Notes, found: &mut Findings, index: u64| {
        let number = notes.deeds.iter().position(|deed| deed.acknowledged().unwrap().index == index).unwrap();
        found.probes.insert(number, Read::Body(String::new()));
    };
    assert_eq!(rules(|notes, found| opens(notes, found, 300)), ["undone"]);
    // Also of one with the note, if it is there.
    assert_eq!(rules(|notes, found| opens(notes, found, 380)), ["undone"]);
    let given = |notes: &mut Notes, found: &mut Findings| {
        opens(notes, found, 380);
        notes.deeds.push(Deed { answer: None, ..deed(Kind::Grant, STAYS + 1, 440, "") });
    };
    assert_eq!(rules(given), [""; 0]);
    assert_eq!(rules(|_, found| found.probes.clear()), ["incomplete"]);
}

#[test]
fn the_statement_names_what_is_unconfirmed() {
    assert_eq!(rules(|_, found| drop(found.statement.tail.pop())), ["statement"]);
    assert_eq!(rules(|_, found| found.statement.unconfirmed += 1), ["statement"]);
    assert_eq!(rules(|_, found| found.statement.tail[0].requests.clear()), ["statement"]);
}

#[test]
fn the_journal_goes_on_from_what_was_witnessed() {
    assert_eq!(rules(|_, found| _ = found.journal.remove(&390)), ["journal"]);
    assert_eq!(rules(|_, found| _ = found.journal.insert(390, Some(0))), ["journal"]);
    assert_eq!(rules(|_, found| found.heads.push(Some("rewritten".into()))), ["journal"]);
    assert_eq!(rules(|_, found| found.receipts.push(Some("not there".into()))), ["journal"]);
    assert_eq!(rules(|_, found| found.heads.clear()), ["vacuous"]);
    assert_eq!(rules(|notes, _| notes.alarms.push("rewritten".into())), ["alarm"]);
}

#[test]
fn nothing_that_was_erased_opens() {
    // The key is there still.
    assert_eq!(rules(|_, found| found.statement.tables[0].rows += 1), ["erased"]);
    assert_eq!(rules(|_, found| found.at_reads.opened.push(0)), ["erased"]);
    assert_eq!(rules(|_, found| found.erased_opens.push("enrolled again".into())), ["erased"]);
    assert_eq!(rules(|_, found| found.not_erased_again.push(0)), ["erased"]);
    let lost = |_: &mut Notes, found: &mut Findings| {
        found.at_reads.erased.clear();
        found.statement.tables.iter_mut().for_each(|table| table.rows += 1);
    };
    assert_eq!(rules(lost), ["erased"]);
}

#[test]
fn a_run_that_did_little_or_could_not_ask_is_no_pass() {
    assert_eq!(rules(|notes, _| notes.heads.clear()), ["vacuous"]);
    assert_eq!(rules(|_, found| found.unasked.push("a list".into())), ["incomplete"]);
    let few = judge(&Notes::default(), &Findings::default());
    assert!(few.told["vacuous"] >= 6, "{few:?}");
}
