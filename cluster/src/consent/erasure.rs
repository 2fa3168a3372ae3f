//! Erasure: asked for by one, approved by another, stoppable until the keys are destroyed.

use super::participant::{enrolled, present_consent};
use super::registry::is_same_person;
use super::{Denial, Facts, japan_day};
use crate::row::{ErasureDayRow, ErasureRow};
use crate::word::ErasureState;

/// Whether no erasure is on its way or done: none was asked for, or it was stopped.
pub fn is_idle(erasure: Option<&ErasureRow>) -> Result<(), Denial> {
    match erasure.is_none_or(|erasure| is(erasure, ErasureState::Stopped)) {
        true => Ok(()),
        false => Err(Denial::ErasureState),
    }
}

/// Asks for it: for one who has left, and of whom no record is held.
pub fn ask(facts: &Facts<'_>, erasure: Option<&ErasureRow>) -> Result<(), Denial> {
    has_left(facts)?;
    is_idle(erasure)
}

/// Approves it: a registrar, never who asked.
pub fn approve(facts: &Facts<'_>, erasure: Option<&ErasureRow>) -> Result<(), Denial> {
    // Before anything about the participant: of somebody about whom nothing was asked for, nothing is told.
    let erasure = erasure.filter(|erasure| is(erasure, ErasureState::Asked)).ok_or(Denial::ErasureState)?;
    if erasure.asked_by.as_ref().is_none_or(|by| is_same_person(by, facts.person)) {
        return Err(Denial::SamePerson);
    }
    has_left(facts)
}

/// Stops it: the participant or any registrar, as long as the keys are there.
pub fn stop(facts: &Facts<'_>, erasure: Option<&ErasureRow>) -> Result<(), Denial> {
    let on_its_way = |erasure: &ErasureRow| is(erasure, ErasureState::Asked) || is(erasure, ErasureState::Approved);
    match erasure.is_some_and(on_its_way) {
        true => enrolled(facts).map(|_| ()),
        false => Err(Denial::ErasureState),
    }
}

/// Destroys the keys: after the grace period, and so many on a day.
pub fn erase(facts: &Facts<'_>, erasure: Option<&ErasureRow>, day: Option<&ErasureDayRow>) -> Result<(), Denial> {
    has_left(facts)?;
    let erasure = erasure.filter(|erasure| is(erasure, ErasureState::Approved)).ok_or(Denial::ErasureState)?;
    if facts.now_ms < erasure.grace_until_ms {
        return Err(Denial::GracePeriod);
    }
    let today = japan_day(facts.now_ms);
    match day.is_some_and(|day| day.day == today && day.erased >= facts.settings.erasures_day_max) {
        true => Err(Denial::ErasureCap),
        false => Ok(()),
    }
}

/// Certifies it: everything is swept, and every present member has reported that it holds nothing any more.
pub fn certify(erasure: Option<&ErasureRow>, members: &[u64]) -> Result<(), Denial> {
    let erasure = erasure.filter(|erasure| is(erasure, ErasureState::Pending)).ok_or(Denial::ErasureState)?;
    let reported = |member: &u64| {
        erasure.reports.iter().any(|report| report.raft_id == *member && report.is_complete(erasure.keys_last_index))
    };
    match erasure.swept_ms != 0 && !members.is_empty() && members.iter().all(reported) {
        true => Ok(()),
        false => Err(Denial::ErasureReports),
    }
}

fn has_left(facts: &Facts<'_>) -> Result<(), Denial> {
    let participant = enrolled(facts)?;
    if present_consent(participant).is_some() {
        return Err(Denial::StillTakesPart);
    }
    if participant.held_records > 0 { Err(Denial::LegalHold) } else { Ok(()) }
}

fn is(erasure: &ErasureRow, state: ErasureState) -> bool {
    erasure.state == state.number()
}
