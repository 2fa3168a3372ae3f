//! The rows on which the tests decide.

use crate::row::{
    ActRow, ActorRow, Alias, Application, CounterRow, CounterSlice, DisasterRow, EpisodeRow, ErasureReport, ErasureRow,
    Facility, Participant, PresentConsent, PresentGrant, RecordControl, User,
};
use crate::word::{ActState, Class, ErasureState, Profession};

use super::{DAY_MS, MINUTE_MS, NOW_MS};

pub fn facility(id: &str) -> Facility {
    Facility { id: id.into(), kind: 1, status: 1, access_line: 1, ..Facility::default() }
}

pub fn application() -> Application {
    Application {
        name: "app".into(),
        access_line: 1,
        facilities: vec!["F1".into(), "F2".into()],
        status: 1,
        participants: true,
    }
}

pub fn user() -> User {
    User {
        id: "u1".into(),
        facility: "F1".into(),
        profession: Profession::Physician.number(),
        status: 1,
        ..User::default()
    }
}

/// A person of an office, or a user or participant; `kind` is a number of `ActorKind`.
pub fn person(kind: u32, name: &str) -> ActorRow {
    let facility = if kind == 1 { "F1".into() } else { String::new() };
    ActorRow { kind, facility, name: name.into(), application: "app".into(), ..ActorRow::default() }
}

pub fn participant() -> Participant {
    let grant = |facility: &str| PresentGrant {
        facility: facility.into(),
        granted_ms: 1,
        by_participant: true,
        ..PresentGrant::default()
    };
    Participant {
        number: "P1".into(),
        consent: Some(PresentConsent { signed_day: 100, ..PresentConsent::default() }),
        grants: vec![grant("F1"), grant("F2")],
        aliases: vec![Alias { number: "P8".into(), ..Alias::default() }],
        ..Participant::default()
    }
}

/// Ends the consent, and with it every grant.
pub fn leave(row: &mut Participant, at_ms: u64) {
    row.consent.as_mut().unwrap().withdrawn_ms = at_ms;
    row.grants.clear();
}

/// Left on day 150.
pub fn withdrawn() -> Participant {
    let mut row = participant();
    leave(&mut row, 150 * DAY_MS);
    row
}

pub fn record() -> RecordControl {
    RecordControl {
        version: 1,
        author_facility: "F2".into(),
        class: Class::LaboratoryResult.number(),
        clinical_day: 150,
        ..RecordControl::default()
    }
}

/// Of u1 of F1 through app, for P1, for another half hour.
pub fn episode() -> EpisodeRow {
    EpisodeRow {
        number: "P1".into(),
        facility: "F1".into(),
        user: "u1".into(),
        application: "app".into(),
        opened_ms: NOW_MS - 30 * MINUTE_MS,
        expires_ms: NOW_MS + 30 * MINUTE_MS,
        consent_number: Some(0),
        ..EpisodeRow::default()
    }
}

/// In force for another 20 minutes; widens nothing yet.
pub fn disaster() -> DisasterRow {
    DisasterRow { from_ms: NOW_MS - DAY_MS, until_ms: NOW_MS + 20 * MINUTE_MS, ..DisasterRow::default() }
}

/// Proposed by r2 for a row that is at 0/7; another two hours to confirm it.
pub fn act() -> ActRow {
    ActRow {
        state: ActState::Proposed.number(),
        payload_sha256: "seven".into(),
        base_index: 7,
        proposed_by: Some(person(3, "r2")),
        expires_ms: NOW_MS + 120 * MINUTE_MS,
        ..ActRow::default()
    }
}

/// Asked for by r2; if approved, the grace period is over; if pending, all is swept, and members 1 and 2 have
/// reported.
pub fn erasure(state: ErasureState) -> ErasureRow {
    let report = |raft_id| ErasureReport {
        raft_id,
        purged_index: 50,
        log_compacted: true,
        keys_compacted: true,
        checkpoints_gone: true,
        ..ErasureReport::default()
    };
    ErasureRow {
        state: state.number(),
        asked_by: Some(person(3, "r2")),
        grace_until_ms: NOW_MS,
        keys_last_index: 50,
        reports: vec![report(1), report(2)],
        swept_ms: NOW_MS,
        ..ErasureRow::default()
    }
}

/// A count of an hour ago.
pub fn counter(count: u32) -> CounterRow {
    counter_of(count, NOW_MS - 60 * MINUTE_MS)
}

/// A count of some time.
pub fn counter_of(count: u32, at_ms: u64) -> CounterRow {
    CounterRow { slices: vec![CounterSlice { began_ms: at_ms - 1, last_ms: at_ms, count }] }
}
