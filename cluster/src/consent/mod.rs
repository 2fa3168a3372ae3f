//! Consent: facts in, [`Decision::Permit`] or [`Decision::Deny`] out.
//!
//! [`decide`] is a pure function over rows that the gateway has opened. It fetches nothing, so that
//! every rule is a line of test data (`cases.txt`) and every decision can be repeated.
//!
//! Invariants
//! - What is not permitted by a rule is denied; the first rule that fails names the reason.
//! - The checks run from the caller inwards: application, facility, user, then participant, then
//!   record. A caller that is not entitled learns nothing of the participant.
//! - No rule depends on anything but the facts: whatever it used can be expected by the command.

mod facts;
mod reason;
mod settings;

pub use facts::{Act, Actor, Facts, RecordFacts};
pub use reason::{Basis, Denial};
pub use settings::Settings;

use crate::row::{Facility, Participant, ParticipationConsent};
use crate::word::{AccessLine, Class, Purpose, Status};

/// Milliseconds by which Japan time is ahead of UTC; it has no summer time.
pub const JAPAN_OFFSET_MS: u64 = 9 * 3_600_000;

/// The day in Japan of a time, in days since 1970-01-01.
pub fn japan_day(at_ms: u64) -> i32 {
    i32::try_from((at_ms + JAPAN_OFFSET_MS) / 86_400_000).unwrap_or(i32::MAX)
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Permitted.
    Permit {
        /// On which ground.
        basis: Basis,
        /// Earliest time at which a fact that the decision rests on expires; 0: none does.
        valid_until_ms: u64,
    },
    /// Denied.
    Deny {
        /// Why: for the journal. Callers see what [`Denial::is_uniform`] lets them see.
        reason: Denial,
    },
}

/// Decides one act.
pub fn decide(facts: &Facts<'_>) -> Decision {
    match rule(facts) {
        Ok(basis) => Decision::Permit { basis, valid_until_ms: 0 },
        Err(reason) => Decision::Deny { reason },
    }
}

type Ruling = Result<Basis, Denial>;

fn rule(facts: &Facts<'_>) -> Ruling {
    if facts.purpose == Some(Purpose::Secondary) {
        return Err(Denial::PurposeReserved);
    }
    match facts.actor {
        Actor::Registrar => registrar(facts.act),
        Actor::FacilityUser => {
            let facility = facility_user(facts)?;
            facility_act(facts, facility)
        }
        Actor::Participant => {
            application(facts)?;
            participant_act(facts)
        }
    }
}

fn registrar(act: Act<'_>) -> Ruling {
    match act {
        Act::Register => Ok(Basis::Registrar),
        _ => Err(Denial::ActorMayNot),
    }
}

/// The application itself: registered and active, and allowed to state participants if it does.
fn application(facts: &Facts<'_>) -> Result<AccessLine, Denial> {
    let application = facts.application.ok_or(Denial::ApplicationUnknown)?;
    active(application.status, Denial::ApplicationNotActive)?;
    if matches!(facts.actor, Actor::Participant) && !application.participants {
        return Err(Denial::ApplicationParticipants);
    }
    AccessLine::from_number(application.access_line).map_err(|_| Denial::ApplicationNotActive)
}

/// The facility's user: everything about the caller's side.
fn facility_user<'a>(facts: &Facts<'a>) -> Result<&'a Facility, Denial> {
    let line = application(facts)?;
    let facility = facts.facility.ok_or(Denial::FacilityUnknown)?;
    if !facts.application.is_some_and(|a| a.facilities.contains(&facility.id)) {
        return Err(Denial::ApplicationFacility);
    }
    active(facility.status, Denial::FacilityNotActive)?;
    if facility.access_line != line.number() {
        return Err(Denial::AccessLine);
    }
    let user = facts.user.ok_or(Denial::UserUnknown)?;
    active(user.status, Denial::UserNotActive)?;
    if user.facility != facility.id {
        return Err(Denial::UserUnknown);
    }
    // A registered credential must be the one that was used.
    if !user.credential_sha256.is_empty() && user.credential_sha256 != facts.credential_sha256 {
        return Err(Denial::Credential);
    }
    Ok(facility)
}

fn active(status: u32, otherwise: Denial) -> Result<(), Denial> {
    if status == Status::Active.number() { Ok(()) } else { Err(otherwise) }
}

fn facility_act(facts: &Facts<'_>, facility: &Facility) -> Ruling {
    match facts.act {
        Act::Enrol { signed_day, evidence } => enrol(facts, signed_day, evidence),
        Act::Link => taking_part(facts).map(|_| Basis::Enrolment),
        // Its own ids, its own inbox, its own grants: what the facility knows anyway.
        Act::Resolve | Act::Inbox | Act::ListGranted => Ok(Basis::OwnFacility),
        Act::Grant { beneficiary, evidence } => {
            taking_part(facts)?;
            has_evidence(evidence)?;
            may_benefit(beneficiary)
        }
        Act::Revoke { evidence } | Act::Withdraw { evidence } => {
            taking_part(facts)?;
            has_evidence(evidence)?;
            Ok(Basis::Evidence)
        }
        Act::ShowConsent => granted(facts, facility).map(|_| Basis::Grant),
        Act::Write { class, clinical_day, addressees, earlier } => {
            let consent = granted(facts, facility)?;
            writable(facts, facility, class)?;
            dated(facts, consent, clinical_day)?;
            addressed(facts, addressees)?;
            match earlier {
                Some(record) => {
                    authored(facts, facility, consent, Some(record))?;
                    narrows(record, addressees)
                }
                None => Ok(Basis::Grant),
            }
        }
        Act::List => granted(facts, facility).map(|_| Basis::Grant),
        Act::Read { record } => {
            let consent = granted(facts, facility)?;
            visible(facts, facility, consent, record)
        }
        Act::Hide { record } => {
            let consent = granted(facts, facility)?;
            authored(facts, facility, consent, record)
        }
        Act::Narrow { record, addressees } => {
            let consent = granted(facts, facility)?;
            authored(facts, facility, consent, record)?;
            addressed(facts, addressees)?;
            narrows(record.ok_or(Denial::NoSuchRecord)?, addressees)
        }
        Act::ListAccesses | Act::Register => Err(Denial::ActorMayNot),
    }
}

fn participant_act(facts: &Facts<'_>) -> Ruling {
    match facts.act {
        Act::Grant { beneficiary, .. } => {
            taking_part(facts)?;
            may_benefit(beneficiary).map(|_| Basis::Own)
        }
        Act::Revoke { .. } | Act::Withdraw { .. } => taking_part(facts).map(|_| Basis::Own),
        // Who looked stays visible after a withdrawal; so does the consent itself.
        Act::ShowConsent | Act::ListAccesses => facts.participant.map(|_| Basis::Own).ok_or(Denial::NotEnrolled),
        _ => Err(Denial::ActorMayNot),
    }
}

fn enrol(facts: &Facts<'_>, signed_day: i32, evidence: &str) -> Ruling {
    if facts.participant.is_some_and(|p| present_consent(p).is_some()) {
        return Err(Denial::AlreadyEnrolled);
    }
    if signed_day > japan_day(facts.now_ms) {
        return Err(Denial::FutureDate);
    }
    has_evidence(evidence)?;
    Ok(Basis::Enrolment)
}

fn has_evidence(evidence: &str) -> Result<(), Denial> {
    if evidence.is_empty() { Err(Denial::NoEvidence) } else { Ok(()) }
}

fn may_benefit(beneficiary: Option<&Facility>) -> Ruling {
    let beneficiary = beneficiary.ok_or(Denial::BeneficiaryUnknown)?;
    active(beneficiary.status, Denial::BeneficiaryUnknown)?;
    Ok(Basis::Evidence)
}

/// The consent under which a participant takes part now, if any.
pub fn present_consent(participant: &Participant) -> Option<&ParticipationConsent> {
    participant.consents.last().filter(|c| c.withdrawn_ms == 0)
}

/// Whether a facility is among those that a participant names now.
pub fn is_granted(participant: &Participant, facility: &str) -> bool {
    participant.grants.iter().any(|g| g.facility == facility && g.revoked_ms == 0)
}

fn taking_part<'a>(facts: &Facts<'a>) -> Result<&'a ParticipationConsent, Denial> {
    let participant = facts.participant.ok_or(Denial::NotEnrolled)?;
    present_consent(participant).ok_or(Denial::Withdrawn)
}

fn granted<'a>(facts: &Facts<'a>, facility: &Facility) -> Result<&'a ParticipationConsent, Denial> {
    let consent = taking_part(facts)?;
    let participant = facts.participant.ok_or(Denial::NotEnrolled)?;
    if is_granted(participant, &facility.id) { Ok(consent) } else { Err(Denial::NotGranted) }
}

fn writable(facts: &Facts<'_>, facility: &Facility, class: Class) -> Result<(), Denial> {
    match class {
        Class::Personal => Err(Denial::ClassReserved),
        // Over SSL-VPN laboratory results and prescriptions cannot be uploaded.
        Class::LaboratoryResult | Class::Prescription if facility.access_line == AccessLine::SslVpn.number() => {
            Err(Denial::AccessLineClass)
        }
        _ if facts.user.is_none() => Err(Denial::UserUnknown),
        _ => Ok(()),
    }
}

fn dated(facts: &Facts<'_>, consent: &ParticipationConsent, clinical_day: i32) -> Result<(), Denial> {
    if clinical_day < consent.signed_day {
        return Err(Denial::BeforeConsent);
    }
    // One day of grace: an application's clock may be ahead around midnight.
    if clinical_day > japan_day(facts.now_ms).saturating_add(1) {
        return Err(Denial::FutureDate);
    }
    Ok(())
}

/// Addressees must be among the facilities that the participant named.
fn addressed(facts: &Facts<'_>, addressees: &[String]) -> Result<(), Denial> {
    let participant = facts.participant.ok_or(Denial::NotEnrolled)?;
    match addressees.iter().all(|a| is_granted(participant, a)) {
        true => Ok(()),
        false => Err(Denial::AddresseeNotGranted),
    }
}

fn narrows(record: RecordFacts<'_>, addressees: &[String]) -> Ruling {
    let before = &record.control.addressees;
    let within = before.is_empty() || (!addressees.is_empty() && addressees.iter().all(|a| before.contains(a)));
    if within { Ok(Basis::Grant) } else { Err(Denial::Widens) }
}

/// Whether a record is the facility's own. Another's that the facility may not even see is refused as
/// if it were not there.
fn authored(
    facts: &Facts<'_>,
    facility: &Facility,
    consent: &ParticipationConsent,
    record: Option<RecordFacts<'_>>,
) -> Ruling {
    let found = record.ok_or(Denial::NoSuchRecord)?;
    if found.control.author_facility == facility.id {
        return Ok(Basis::Grant);
    }
    visible(facts, facility, consent, record)?;
    Err(Denial::NotAuthor)
}

/// Whether a facility's user may see a record: what a read asks once and a listing of every row.
pub fn visible(
    facts: &Facts<'_>,
    facility: &Facility,
    consent: &ParticipationConsent,
    record: Option<RecordFacts<'_>>,
) -> Ruling {
    let record = record.ok_or(Denial::NoSuchRecord)?;
    let own = record.control.author_facility == facility.id;
    if record.control.hidden && !own {
        return Err(Denial::Hidden);
    }
    if record.control.clinical_day < consent.signed_day {
        return Err(Denial::BeforeConsent);
    }
    let addressees = &record.control.addressees;
    if !own && !addressees.is_empty() && !addressees.contains(&facility.id) {
        return Err(Denial::NotAddressee);
    }
    let class = Class::from_number(record.control.class).map_err(|_| Denial::ProfessionClass)?;
    let profession = facts.user.map_or(0, |u| u.profession);
    if !facts.settings.may_see(profession, class) {
        return Err(Denial::ProfessionClass);
    }
    Ok(if own { Basis::OwnRecord } else { Basis::Grant })
}

#[cfg(test)]
mod tests;
