//! Records: entering a participant's records, what is shown of them, writing, hiding, narrowing, holds.

use super::participant::{enrolled, granted, has_evidence, is_granted, last_consent, taking_part};
use super::registry::is_same_person;
use super::{Actor, Basis, Denial, Facts, RecordFacts, Related, Ruling, caller, emergency, japan_day};
use crate::row::{Facility, PresentConsent, RecordControl, User};
use crate::word::{AccessLine, Class, Relation};

/// Whether a facility's user may look for records of the participant at all.
pub fn enter(facts: &Facts<'_>, facility: &Facility, user: &User) -> Ruling {
    caller::purpose(facts)?;
    match &facts.emergency {
        Some(emergency) => emergency::enter(facts, facility, user, emergency),
        None => granted(facts, facility).map(|_| Basis::Grant.into()),
    }
}

/// Whether participants may read their own records, and this is what for.
pub fn may_read_own(facts: &Facts<'_>) -> Result<(), Denial> {
    if !facts.settings.participants_read {
        return Err(Denial::ActorMayNot);
    }
    caller::purpose(facts)
}

/// Whether the participant may look for records of their own: also one who has left, as long as the records are kept.
pub fn enter_own(facts: &Facts<'_>) -> Ruling {
    last_consent(facts).map(|_| Basis::Own.into())
}

/// Whether an actor may see a record: what a read asks once and a listing of every row. Only for one
/// whom [`super::decide`] has let in (`List`, `Read`, `ReadSeveral`) on the same facts.
pub fn visible(facts: &Facts<'_>, record: Option<RecordFacts<'_>>) -> Result<Basis, Denial> {
    match (facts.actor, facts.facility) {
        (Actor::FacilityUser, Some(facility)) => {
            let consent = taking_part(facts)?;
            visible_to_facility(facts, facility, consent, &record.ok_or(Denial::NoSuchRecord)?)
        }
        (Actor::Participant, _) => {
            let consent = last_consent(facts)?;
            visible_to_participant(consent, &record.ok_or(Denial::NoSuchRecord)?)
        }
        _ => Err(Denial::ActorMayNot),
    }
}

fn visible_to_facility(
    facts: &Facts<'_>,
    facility: &Facility,
    consent: &PresentConsent,
    record: &RecordFacts<'_>,
) -> Result<Basis, Denial> {
    let control = record.control;
    let own = control.author_facility == facility.id;
    // Not even in an emergency: what its author hid may be another person's, or wrong.
    if control.hidden && !own {
        return Err(Denial::Hidden);
    }
    since_consent(consent, record, control.clinical_day)?;
    let addressees = &control.addressees;
    let addressed = own || addressees.is_empty() || addressees.contains(&facility.id);
    if facts.emergency.is_none() && !addressed {
        return Err(Denial::NotAddressee);
    }
    let class = Class::from_number(control.class).map_err(|_| Denial::ProfessionClass)?;
    let profession = facts.user.map_or(0, |u| u.profession);
    if !facts.settings.may_see(profession, class) {
        return Err(Denial::ProfessionClass);
    }
    Ok(match own {
        _ if facts.emergency.is_some() => Basis::Emergency,
        true => Basis::OwnRecord,
        false => Basis::Grant,
    })
}

/// Addressees and professions are about facilities: a participant sees all but what is hidden. Whoever has left sees
/// what they saw last.
fn visible_to_participant(consent: &PresentConsent, record: &RecordFacts<'_>) -> Result<Basis, Denial> {
    if record.control.hidden {
        return Err(Denial::Hidden);
    }
    since_consent(consent, record, record.control.clinical_day)?;
    Ok(Basis::Own)
}

/// Nothing is shown that is older than the consent, nor, under a number that became an alias, what is older than the
/// consent that held there: joining two numbers widens neither.
fn since_consent(consent: &PresentConsent, record: &RecordFacts<'_>, day: i32) -> Result<(), Denial> {
    match day < consent.signed_day || record.alias_day.is_some_and(|since| day < since) {
        true => Err(Denial::BeforeConsent),
        false => Ok(()),
    }
}

/// Whether a facility may write a record of this class and day to these addressees.
pub fn write(
    facts: &Facts<'_>,
    facility: &Facility,
    class: Class,
    clinical_day: i32,
    addressees: &[String],
) -> Result<(), Denial> {
    match class {
        Class::Personal => return Err(Denial::ClassReserved),
        // Over SSL-VPN laboratory results and prescriptions cannot be uploaded.
        Class::LaboratoryResult | Class::Prescription if facility.access_line == AccessLine::SslVpn.number() => {
            return Err(Denial::AccessLineClass);
        }
        _ => {}
    }
    // One day of grace: an application's clock may be ahead around midnight.
    if clinical_day > japan_day(facts.now_ms).saturating_add(1) {
        return Err(Denial::FutureDate);
    }
    if clinical_day < granted(facts, facility)?.signed_day {
        return Err(Denial::BeforeConsent);
    }
    addressed(facts, addressees)
}

/// A further version is its author's, and reaches nobody whom the record did not. It lies where the record does, so
/// that the consent that held there bounds it, too. What the record has told of a day before the consent it does not
/// tell of a later one: the same body under another day is decided on by both.
pub fn version(
    facts: &Facts<'_>,
    facility: &Facility,
    (clinical_day, body_day): (i32, Option<i32>),
    addressees: &[String],
    earlier: Option<Option<RecordFacts<'_>>>,
) -> Result<(), Denial> {
    let Some(record) = earlier else { return Ok(()) };
    let control = authored(facts, facility, record)?;
    if let Some(record) = &record {
        let consent = taking_part(facts)?;
        since_consent(consent, record, clinical_day)?;
        if let Some(body_day) = body_day {
            since_consent(consent, record, body_day)?;
        }
    }
    narrows(control, addressees)
}

/// A record that refers to another: replacing is its author's; adding to it, or giving it in another
/// form, is for whoever sees it. It reaches nobody whom the other does not.
pub fn relate(
    facts: &Facts<'_>,
    facility: &Facility,
    addressees: &[String],
    related: Option<Related<'_>>,
) -> Result<(), Denial> {
    let Some(Related { relation, record }) = related else { return Ok(()) };
    let control = match relation {
        Relation::Replaces => authored(facts, facility, record)?,
        Relation::Appends | Relation::Transforms => {
            visible(facts, record)?;
            record.ok_or(Denial::NoSuchRecord)?.control
        }
    };
    narrows(control, addressees)
}

/// Hides a record or shows it again.
pub fn change_own(facts: &Facts<'_>, facility: &Facility, record: Option<RecordFacts<'_>>) -> Ruling {
    granted(facts, facility)?;
    authored(facts, facility, record)?;
    Ok(Basis::Grant.into())
}

/// Narrows a record to addressees.
pub fn narrow(
    facts: &Facts<'_>,
    facility: &Facility,
    record: Option<RecordFacts<'_>>,
    addressees: &[String],
) -> Ruling {
    granted(facts, facility)?;
    let control = authored(facts, facility, record)?;
    addressed(facts, addressees)?;
    narrows(control, addressees)?;
    Ok(Basis::Grant.into())
}

/// Addressees must be among the facilities that the participant named.
fn addressed(facts: &Facts<'_>, addressees: &[String]) -> Result<(), Denial> {
    let participant = enrolled(facts)?;
    match addressees.iter().all(|a| is_granted(participant, a)) {
        true => Ok(()),
        false => Err(Denial::AddresseeNotGranted),
    }
}

fn narrows(before: &RecordControl, addressees: &[String]) -> Result<(), Denial> {
    let before = &before.addressees;
    let within = before.is_empty() || (!addressees.is_empty() && addressees.iter().all(|a| before.contains(a)));
    if within { Ok(()) } else { Err(Denial::Widens) }
}

/// The record, if it is the facility's own. Another's that the facility may not even see is refused as
/// if it were not there.
fn authored<'a>(
    facts: &Facts<'_>,
    facility: &Facility,
    record: Option<RecordFacts<'a>>,
) -> Result<&'a RecordControl, Denial> {
    let control = record.ok_or(Denial::NoSuchRecord)?.control;
    if control.author_facility == facility.id {
        return Ok(control);
    }
    visible(facts, record)?;
    Err(Denial::NotAuthor)
}

/// Narrows a record as it was narrowed on a former timeline, also of a participant who has left: they may come back.
/// Where nobody is left who was addressed then and now, it is addressed to its author, who sees it anyway.
pub fn narrow_again(facts: &Facts<'_>, record: Option<RecordFacts<'_>>, addressees: &[String]) -> Result<(), Denial> {
    let control = of_enrolled(facts, record)?;
    match *addressees == [control.author_facility.clone()] {
        true => Ok(()),
        false => narrows(control, addressees),
    }
}

/// A record of one who takes part, or has left.
pub fn of_enrolled<'a>(facts: &Facts<'_>, record: Option<RecordFacts<'a>>) -> Result<&'a RecordControl, Denial> {
    enrolled(facts)?;
    Ok(record.ok_or(Denial::NoSuchRecord)?.control)
}

/// Puts a legal hold on a record, also of a participant who has left: it keeps them from being erased.
pub fn hold(facts: &Facts<'_>, record: Option<RecordFacts<'_>>, evidence: &str) -> Result<(), Denial> {
    has_evidence(evidence)?;
    let control = of_enrolled(facts, record)?;
    if control.hold { Err(Denial::HoldState) } else { Ok(()) }
}

/// Releases a legal hold: another registrar than the one who put it.
pub fn release(facts: &Facts<'_>, record: Option<RecordFacts<'_>>, evidence: &str) -> Result<(), Denial> {
    has_evidence(evidence)?;
    let control = of_enrolled(facts, record)?;
    if !control.hold {
        return Err(Denial::HoldState);
    }
    match control.hold_by.as_ref().is_some_and(|by| is_same_person(by, facts.person)) {
        true => Err(Denial::SamePerson),
        false => Ok(()),
    }
}
