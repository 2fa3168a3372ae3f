//! The caller's side: application, facility, user, purpose.

use super::{Actor, Denial, Facts};
use crate::row::{Facility, User};
use crate::word::{AccessLine, Purpose, Status};

/// The application itself: registered and active, and allowed to state participants if it does.
pub fn application(facts: &Facts<'_>) -> Result<AccessLine, Denial> {
    let application = facts.application.ok_or(Denial::ApplicationUnknown)?;
    active(application.status, Denial::ApplicationNotActive)?;
    if facts.actor == Actor::Participant && !application.participants {
        return Err(Denial::ApplicationParticipants);
    }
    AccessLine::from_number(application.access_line).map_err(|_| Denial::ApplicationNotActive)
}

/// The facility's user: everything about the caller's side but the purpose.
pub fn facility_user<'a>(facts: &Facts<'a>) -> Result<(&'a Facility, &'a User), Denial> {
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
    if !user.credential_sha256.is_empty() && user.credential_sha256 != facts.person.credential_sha256 {
        return Err(Denial::Credential);
    }
    Ok((facility, user))
}

/// Every access to records has a purpose, and each kind of actor has one.
pub fn purpose(facts: &Facts<'_>) -> Result<(), Denial> {
    match (facts.actor, facts.purpose) {
        (_, None) => Err(Denial::NoPurpose),
        (Actor::FacilityUser, Some(Purpose::Care)) | (Actor::Participant, Some(Purpose::Own)) => Ok(()),
        _ => Err(Denial::PurposeActor),
    }
}

/// Whether a status is that of one who takes part.
pub fn active(status: u32, otherwise: Denial) -> Result<(), Denial> {
    if status == Status::Active.number() { Ok(()) } else { Err(otherwise) }
}
