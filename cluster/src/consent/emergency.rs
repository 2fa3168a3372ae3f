//! Emergency access and the declared disaster.
//!
//! Invariants
//! - It stands in for grants and addressees and for nothing else: consent date, withdrawal, hiding and
//!   the profession × class table hold as ever.
//! - It reads records and does nothing else.
//! - What it rests on ends, and the permit names the earliest end.

use super::participant::taking_part;
use super::{Basis, Denial, Emergency, EmergencyCounters, Facts, Ground, Ruling, caller};
use crate::row::{CounterRow, CounterSlice, DisasterRow, Facility, User};
use crate::word::{Class, Profession};

/// A counter keeps what it counted in slices that span at most this part of its window, or of their age.
const SLICES: u64 = 8;
/// The longest window that a setting can say: what is older is not kept.
pub const WINDOW_MS_MAX: u64 = 30 * 86_400_000;

/// How many a counter counted within the last `window_ms`. Slices go as a whole when their newest is too old, so that
/// a little more may be counted than there was, never less, whatever the window was before: there is no boundary around
/// which twice as much fits. If it was never longer, that is at most what lies within an eighth of it before it.
pub fn count_within(counter: Option<&CounterRow>, window_ms: u64, now_ms: u64) -> u32 {
    let slices = counter.map_or(&[][..], |row| &row.slices);
    slices.iter().filter(|slice| is_within(slice, window_ms, now_ms)).fold(0, |sum, s| sum.saturating_add(s.count))
}

/// A counter after one more. What lies before the window is kept, the coarser the older: the window may be made longer.
pub fn count_after(counter: Option<&CounterRow>, window_ms: u64, now_ms: u64) -> CounterRow {
    let before = counter.map_or(&[][..], |row| &row.slices);
    let one = CounterSlice { began_ms: now_ms, last_ms: now_ms, count: 1 };
    let mut slices: Vec<CounterSlice> = Vec::with_capacity(before.len() + 1);
    for slice in before.iter().filter(|slice| is_within(slice, WINDOW_MS_MAX, now_ms)).chain([&one]) {
        let may_span_ms = window_ms.max(now_ms.saturating_sub(slice.last_ms)) / SLICES;
        match slices.last_mut() {
            Some(older) if slice.last_ms.saturating_sub(older.began_ms) < may_span_ms => {
                older.last_ms = older.last_ms.max(slice.last_ms);
                older.count = older.count.saturating_add(slice.count);
            }
            _ => slices.push(slice.clone()),
        }
    }
    CounterRow { slices }
}

fn is_within(slice: &CounterSlice, window_ms: u64, now_ms: u64) -> bool {
    now_ms < slice.last_ms.saturating_add(window_ms)
}

/// Whether a disaster is declared at a time, and not ended.
pub fn is_in_force(disaster: &DisasterRow, now_ms: u64) -> bool {
    disaster.ended_by.is_none() && (disaster.from_ms..disaster.until_ms).contains(&now_ms)
}

/// Whether a disaster that was declared is not over: it may have yet to begin.
pub fn is_open(disaster: &DisasterRow, now_ms: u64) -> bool {
    disaster.ended_by.is_none() && now_ms < disaster.until_ms
}

/// Whether a disaster lets a facility open emergencies, by its id or its kind.
pub fn names_facility(disaster: &DisasterRow, facility: &Facility) -> bool {
    disaster.facilities.contains(&facility.id) || disaster.facility_kinds.contains(&facility.kind)
}

/// Whether records of a class come first in a listing under an emergency.
pub fn is_urgent(class: Class) -> bool {
    class == Class::Allergy
}

/// Opens an emergency.
pub fn open(
    facts: &Facts<'_>,
    facility: &Facility,
    user: &User,
    reason: &str,
    counters: &EmergencyCounters<'_>,
) -> Ruling {
    caller::purpose(facts)?;
    let entitled = entitled(facts, facility, user)?;
    if reason.is_empty() {
        return Err(Denial::NoReason);
    }
    let capped = within_caps(facts, counters)?;
    taking_part(facts)?;
    Ok(Ground { basis: Basis::Emergency, valid_until_ms: earliest(&[entitled, capped]) })
}

/// Goes on under an emergency that was opened before.
pub fn enter(facts: &Facts<'_>, facility: &Facility, user: &User, emergency: &Emergency<'_>) -> Ruling {
    let through = facts.application.map_or("", |a| &a.name[..]);
    let own = |whose: &(&str, &str, &str)| *whose == (&facility.id[..], &user.id[..], through);
    let episode =
        emergency.episode.filter(|e| own(&(&e.facility, &e.user, &e.application))).ok_or(Denial::EmergencyUnknown)?;
    let entitled = entitled(facts, facility, user)?;
    if facts.now_ms >= episode.expires_ms {
        return Err(Denial::EmergencyExpired);
    }
    // Before anything about the participant: else an emergency for one would tell who else is enrolled.
    if facts.participant.is_none_or(|p| p.number != episode.number) {
        return Err(Denial::EmergencyUnknown);
    }
    // It ended with the consent under which it was opened, for good: not even that there is another is told.
    // By its number: gateways' clocks differ. Rows of before there was the number tell the time alone.
    let consent = taking_part(facts)?;
    let was_it =
        episode.consent_number.map_or(episode.opened_ms >= consent.entered_ms, |n| n == consent.history_number);
    if !was_it {
        return Err(Denial::Withdrawn);
    }
    Ok(Ground { basis: Basis::Emergency, valid_until_ms: earliest(&[entitled, episode.expires_ms]) })
}

/// Ends the declared disaster, also before it has begun.
pub fn end_disaster(facts: &Facts<'_>) -> Result<(), Denial> {
    match facts.disaster {
        Some(disaster) if is_open(disaster, facts.now_ms) => Ok(()),
        _ => Err(Denial::NoDisaster),
    }
}

/// Whether facility and user are for emergencies, by themselves or through a disaster: then its end.
fn entitled(facts: &Facts<'_>, facility: &Facility, user: &User) -> Result<u64, Denial> {
    let disaster = in_force(facts);
    let mut until_ms = 0;
    if !facility.emergency {
        let widened =
            disaster.filter(|disaster| names_facility(disaster, facility)).ok_or(Denial::EmergencyFacility)?;
        until_ms = widened.until_ms;
    }
    if user.profession != Profession::Physician.number() {
        let widened =
            disaster.filter(|d| d.professions.contains(&user.profession)).ok_or(Denial::EmergencyProfession)?;
        return Ok(widened.until_ms);
    }
    // That the credential used is the registered one was seen to; here there must be one.
    if facts.settings.emergency_credential && user.credential_sha256.is_empty() {
        return Err(Denial::Credential);
    }
    Ok(until_ms)
}

/// Whether user, credential, facility and application have some left; the end of the disaster if only it gives more.
fn within_caps(facts: &Facts<'_>, counters: &EmergencyCounters<'_>) -> Result<u64, Denial> {
    let settings = facts.settings;
    let mut until_ms = 0;
    for (counter, most) in [
        (counters.user, settings.emergency_user_max),
        (counters.credential, settings.emergency_user_max),
        (counters.facility, settings.emergency_facility_max),
        (counters.application, settings.emergency_application_max),
    ] {
        let count = count_within(counter, settings.emergency_window_ms, facts.now_ms);
        if count >= most {
            let raised = |d: &&DisasterRow| count < most.saturating_mul(d.caps_factor);
            until_ms = in_force(facts).filter(raised).ok_or(Denial::EmergencyCap)?.until_ms;
        }
    }
    Ok(until_ms)
}

fn in_force<'a>(facts: &Facts<'a>) -> Option<&'a DisasterRow> {
    facts.disaster.filter(|disaster| is_in_force(disaster, facts.now_ms))
}

/// The earliest of some ends; 0 is no end.
fn earliest(ends: &[u64]) -> u64 {
    ends.iter().copied().filter(|end| *end != 0).min().unwrap_or(0)
}
