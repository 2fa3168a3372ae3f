//! What the lines of the list ask of the facts.

use super::super::{Act, Change, Confirmation, Facts};
use crate::row::{ActorRow, CounterRow, DisasterRow, ErasureRow, Facility, Participant, RecordControl};
use crate::word::Relation;

pub fn here<'a>(f: &Facts<'a>) -> &'a Facility {
    f.facility.unwrap()
}

pub fn day_of(at_ms: u64) -> i64 {
    // Japan is nine hours ahead.
    (at_ms as i64 / 3_600_000 + 9) / 24
}

pub fn today(f: &Facts<'_>) -> i64 {
    day_of(f.now_ms)
}

pub fn signed_day(f: &Facts<'_>) -> i64 {
    let Act::Enrol { terms, .. } = f.act else { unreachable!() };
    terms.signed_day.into()
}

pub fn is_in(p: &Participant) -> bool {
    p.alias_of.is_empty() && p.consent.as_ref().is_some_and(|c| c.withdrawn_ms == 0)
}

pub fn names(p: &Participant, facility: &str) -> bool {
    p.grants.iter().any(|g| g.facility == facility)
}

pub fn consent_day(f: &Facts<'_>) -> i64 {
    f.participant.unwrap().consent.as_ref().unwrap().signed_day.into()
}

pub fn evidence<'a>(f: &Facts<'a>) -> &'a str {
    match f.act {
        Act::Grant { evidence, .. }
        | Act::Revoke { evidence, .. }
        | Act::Withdraw { evidence }
        | Act::IssueCard { evidence, .. }
        | Act::Alias { evidence, .. }
        | Act::Hold { evidence, .. }
        | Act::Release { evidence, .. }
        | Act::AskErasure { evidence, .. } => evidence,
        _ => unreachable!(),
    }
}

/// The day before which nothing is shown of the number under which a record lies.
fn alias_day(f: &Facts<'_>, r: &RecordControl) -> Option<i32> {
    let same = |other: &RecordControl| std::ptr::eq(other, r);
    let given = match f.act {
        Act::Read { record } | Act::Hide { record, .. } | Act::Narrow { record, .. } => vec![record],
        Act::Write { earlier, related, .. } => vec![earlier.flatten(), related.and_then(|to| to.record)],
        _ => vec![],
    };
    given.into_iter().flatten().find(|record| same(record.control)).and_then(|record| record.alias_day)
}

/// A version of a record that lies under an alias, and tells of a day before the alias's own consent.
pub fn version_too_old(f: &Facts<'_>, r: &RecordControl) -> bool {
    alias_day(f, r).is_some_and(|since| clinical_day(f) < i64::from(since))
}

/// A version with a body that the record has had under a day of before the consent, or before the alias's own.
pub fn body_too_old(f: &Facts<'_>, r: &RecordControl) -> bool {
    let Act::Write { body_day: Some(day), .. } = f.act else { return false };
    let since = alias_day(f, r).map_or(i64::MIN, i64::from).max(consent_day(f));
    i64::from(day) < since
}

/// The record that is read, held or released.
pub fn record<'a>(f: &Facts<'a>) -> Option<&'a RecordControl> {
    match f.act {
        Act::Read { record } | Act::Hold { record, .. } | Act::Release { record, .. } => record.map(|r| r.control),
        _ => unreachable!(),
    }
}

/// The record that is changed, if this changes one, if it is there.
pub fn changed<'a>(f: &Facts<'a>) -> Option<Option<&'a RecordControl>> {
    match f.act {
        Act::Write { earlier, .. } => earlier.map(|record| record.map(|r| r.control)),
        Act::Hide { record, .. } | Act::Narrow { record, .. } => Some(record.map(|r| r.control)),
        _ => unreachable!(),
    }
}

pub fn changes(f: &Facts<'_>, so: fn(&Facts<'_>, &RecordControl) -> bool) -> bool {
    changed(f).flatten().is_some_and(|record| so(f, record))
}

pub fn related<'a>(f: &Facts<'a>) -> Option<(Relation, Option<&'a RecordControl>)> {
    let Act::Write { related, .. } = f.act else { unreachable!() };
    related.map(|r| (r.relation, r.record.map(|r| r.control)))
}

pub fn refers(f: &Facts<'_>, so: fn(&Facts<'_>, Relation, &RecordControl) -> bool) -> bool {
    related(f).is_some_and(|(relation, record)| record.is_some_and(|record| so(f, relation, record)))
}

pub fn foreign(f: &Facts<'_>, r: &RecordControl) -> bool {
    r.author_facility != here(f).id
}

pub fn hidden_from_facility(f: &Facts<'_>, r: &RecordControl) -> bool {
    foreign(f, r) && r.hidden
}

pub fn not_addressed(f: &Facts<'_>, r: &RecordControl) -> bool {
    foreign(f, r) && !r.addressees.is_empty() && r.addressees.iter().all(|a| *a != here(f).id)
}

pub fn too_old(f: &Facts<'_>, r: &RecordControl) -> bool {
    let since = alias_day(f, r).map_or(i64::MIN, i64::from).max(consent_day(f));
    i64::from(r.clinical_day) < since
}

/// By the documented default table, as far as the walk goes: physicians and nurses see every class;
/// technicians letters, laboratory results, images, allergies and check-ups; clerks nothing.
pub fn unseen_class(f: &Facts<'_>, r: &RecordControl) -> bool {
    let seen: &[u32] = match f.user.unwrap().profession {
        1 | 4 => &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        5 => &[1, 3, 6, 7, 9],
        _ => &[],
    };
    !seen.contains(&r.class)
}

pub fn reaches_more(after: &[String], before: &[String]) -> bool {
    !before.is_empty() && (after.is_empty() || after.iter().any(|a| !before.contains(a)))
}

pub fn class(f: &Facts<'_>) -> u32 {
    let Act::Write { class, .. } = f.act else { unreachable!() };
    class.number()
}

pub fn clinical_day(f: &Facts<'_>) -> i64 {
    let Act::Write { clinical_day, .. } = f.act else { unreachable!() };
    clinical_day.into()
}

pub fn addressees<'a>(f: &Facts<'a>) -> &'a [String] {
    match f.act {
        Act::Write { addressees, .. } | Act::Narrow { addressees, .. } => addressees,
        _ => unreachable!(),
    }
}

pub fn in_emergency(f: &Facts<'_>) -> bool {
    f.emergency.is_some() || matches!(f.act, Act::OpenEmergency { .. })
}

pub fn disaster<'a>(f: &Facts<'a>) -> Option<&'a DisasterRow> {
    f.disaster.filter(|d| d.ended_by.is_none() && d.from_ms <= f.now_ms && f.now_ms < d.until_ms)
}

pub fn facility_entitled(f: &Facts<'_>) -> bool {
    let by_disaster =
        |d: &DisasterRow| d.facilities.iter().any(|id| *id == here(f).id) || d.facility_kinds.contains(&here(f).kind);
    here(f).emergency || disaster(f).is_some_and(by_disaster)
}

/// Emergencies opened lately, each with its cap.
pub fn opened(f: &Facts<'_>) -> [(u64, u64); 4] {
    let Act::OpenEmergency { counters, .. } = f.act else { unreachable!() };
    let settings = f.settings;
    let count = |row| counted(row, f.now_ms, settings.emergency_window_ms);
    [
        (count(counters.user), settings.emergency_user_max.into()),
        (count(counters.credential), settings.emergency_user_max.into()),
        (count(counters.facility), settings.emergency_facility_max.into()),
        (count(counters.application), settings.emergency_application_max.into()),
    ]
}

pub fn counted(row: Option<&CounterRow>, now_ms: u64, window_ms: u64) -> u64 {
    let Some(row) = row else { return 0 };
    row.slices.iter().filter(|s| s.last_ms + window_ms > now_ms).map(|s| u64::from(s.count)).sum()
}

/// Named by the participant who takes part, or the one that entered their consent.
pub fn acquainted(p: &Participant, facility: &str) -> bool {
    is_in(p) && (names(p, facility) || p.consent.as_ref().unwrap().entered_by == facility)
}

/// The participant named the facility with their own hand, or it was the first that enrolled them.
pub fn by_themselves(p: &Participant, facility: &str) -> bool {
    let consent = p.consent.as_ref().unwrap();
    let first = consent.entered_by == facility && consent.review_id.is_empty();
    first || p.grants.iter().any(|g| g.facility == facility && g.by_participant)
}

/// The facility grants itself, or gets one for one.
pub fn gains(f: &Facts<'_>) -> bool {
    let Act::Grant { beneficiary, returned, .. } = f.act else { unreachable!() };
    beneficiary.unwrap().id == here(f).id || counted(returned, f.now_ms, f.settings.own_grants_window_ms) > 0
}

/// What a second registrar confirms, if this is a confirmation.
pub fn confirmation<'a>(f: &Facts<'a>) -> Option<Confirmation<'a>> {
    match f.act {
        Act::Confirm(confirmation) => Some(confirmation),
        Act::Alias { second, .. } => second,
        _ => unreachable!(),
    }
}

pub fn erasure<'a>(f: &Facts<'a>) -> Option<&'a ErasureRow> {
    match f.act {
        Act::AskErasure { erasure, .. }
        | Act::ApproveErasure { erasure }
        | Act::StopErasure { erasure }
        | Act::Erase { erasure, .. }
        | Act::CertifyErasure { erasure, .. } => erasure,
        _ => unreachable!(),
    }
}

pub fn same(one: Option<&ActorRow>, other: &ActorRow) -> bool {
    let Some(one) = one else { return false };
    let key = &one.credential_sha256;
    if !key.is_empty() && *key == other.credential_sha256 {
        return true;
    }
    if !one.key_sha256.is_empty() && one.key_sha256 == other.key_sha256 {
        return true;
    }
    one.kind == other.kind && one.facility == other.facility && one.name == other.name
}

pub fn for_many(f: &Facts<'_>, change: &Change<'_>) -> bool {
    match change {
        Change::User => false,
        Change::Disaster | Change::Alias => true,
        Change::Facility { before, after } => {
            let threatens = f.disaster.filter(|d| d.ended_by.is_none() && d.until_ms > f.now_ms);
            let opens = |x: &Facility| {
                let listed =
                    threatens.is_some_and(|d| d.facility_kinds.contains(&x.kind) || d.facilities.contains(&x.id));
                x.status == 1 && (x.emergency || listed)
            };
            let (flagged, opened) = before.map_or((false, false), |b| (b.emergency, opens(b)));
            (after.emergency && !flagged) || (opens(after) && !opened)
        }
        Change::Application { before, after } => match before {
            None => true,
            Some(before) => {
                (after.access_line == 1 && before.access_line == 2)
                    || (after.participants && !before.participants)
                    || (after.status == 1 && before.status != 1)
                    || !after.facilities.iter().all(|facility| before.facilities.contains(facility))
            }
        },
        // Its own test walks the settings one by one.
        Change::Settings { before, after } => after.emergency_user_max > before.emergency_user_max,
    }
}
