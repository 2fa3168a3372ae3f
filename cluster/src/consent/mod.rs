//! Consent: facts in, [`Decision::Permit`] or [`Decision::Deny`] out.
//!
//! [`decide`] is a pure function over rows that the gateway has opened. It fetches nothing, so that
//! every rule is a line of test data (`cases.txt`) and every decision can be repeated. The rules stand in
//! one file each for the caller's side, participants, records, emergencies, the registry and erasure;
//! docs/consent.md has them as a table.
//!
//! Invariants
//! - What is not permitted by a rule is denied; the first rule that fails names the reason.
//! - The checks run from the caller inwards: application, facility, user, purpose and everything else that the
//!   caller sent, then participant, then record. So a caller that is not entitled learns nothing of the participant:
//!   what is wrong with the call itself is answered whoever the number is, and the first reason that depends on the
//!   participant is a uniform one ([`Denial::is_uniform`]), unless the caller may know.
//! - No rule depends on anything but the facts: whatever it used can be expected by the command.
//! - A permit that rests on something that ends names the earliest such end.

mod caller;
mod emergency;
mod erasure;
mod facts;
mod participant;
mod reason;
mod record;
mod registry;
mod settings;

pub use emergency::{count_after, is_in_force, is_urgent};
pub use facts::{Act, Actor, Confirmation, ConsentTerms, Emergency, EmergencyCounters, Facts, RecordFacts, Related};
pub use participant::{
    is_granted, is_reviewed_enrolment, present_consent, present_grant, review_of_grant, reviews_of_standing,
};
pub use reason::{Basis, Denial};
pub use record::visible;
pub use registry::{Change, approval_counts, is_same_person};
pub use settings::{Settings, SettingsError};

use crate::word::Purpose;

/// Milliseconds by which Japan time is ahead of UTC; it has no summer time.
pub const JAPAN_OFFSET_MS: u64 = 9 * 3_600_000;

/// The day in Japan of a time, in days since 1970-01-01.
pub fn japan_day(at_ms: u64) -> i32 {
    i32::try_from(at_ms.saturating_add(JAPAN_OFFSET_MS) / 86_400_000).unwrap_or(i32::MAX)
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

/// A ground, and the earliest end of what it rests on (0: it does not end).
struct Ground {
    basis: Basis,
    valid_until_ms: u64,
}

impl From<Basis> for Ground {
    fn from(basis: Basis) -> Ground {
        Ground { basis, valid_until_ms: 0 }
    }
}

type Ruling = Result<Ground, Denial>;

/// Decides one act.
pub fn decide(facts: &Facts<'_>) -> Decision {
    match rule(facts) {
        Ok(Ground { basis, valid_until_ms }) => Decision::Permit { basis, valid_until_ms },
        Err(reason) => Decision::Deny { reason },
    }
}

fn rule(facts: &Facts<'_>) -> Ruling {
    if facts.purpose == Some(Purpose::Secondary) {
        return Err(Denial::PurposeReserved);
    }
    match facts.actor {
        Actor::FacilityUser => facility_user(facts),
        // Only facilities' users have emergencies.
        _ if facts.emergency.is_some() => Err(Denial::ActorMayNot),
        Actor::Participant => participant(facts),
        Actor::Registrar => registrar(facts),
        Actor::Auditor => auditor(facts),
        Actor::Cluster => cluster(facts),
        Actor::Recovery => salvage(facts),
        Actor::Operator => Err(Denial::ActorMayNot),
    }
}

fn facility_user(facts: &Facts<'_>) -> Ruling {
    let (facility, user) = caller::facility_user(facts)?;
    if facts.emergency.is_some() && !matches!(facts.act, Act::List | Act::Read { .. } | Act::ReadSeveral) {
        return Err(Denial::EmergencyReadOnly);
    }
    match facts.act {
        Act::Enrol { terms, erasure } => participant::enrol(facts, &terms, erasure),
        Act::Link => participant::link(facts, facility),
        Act::Relink { reason } => participant::relink(facts, facility, reason),
        // Its own ids, its own inbox, its own grants: what the facility knows anyway.
        Act::Resolve | Act::ReverseResolve | Act::Inbox | Act::ListGranted => Ok(Basis::OwnFacility.into()),
        Act::IssueCard { taken, evidence } => participant::issue_card_at(facts, facility, taken, evidence),
        Act::ResolveCard { card } => participant::resolve_card(card),
        Act::Grant { beneficiary, evidence, own_grants, returned, reviewed } => {
            let returned = (returned, reviewed);
            participant::grant_by_facility(facts, facility, (beneficiary, evidence), own_grants, returned)
        }
        Act::Revoke { named, registered, evidence } => {
            participant::revoke_by_facility(facts, facility, (named, registered), evidence)
        }
        Act::Withdraw { evidence } => participant::withdraw_by_facility(facts, evidence),
        Act::ShowConsent => participant::granted(facts, facility).map(|_| Basis::Grant.into()),
        Act::Write { class, clinical_day, addressees, earlier, body_day, related } => {
            record::write(facts, facility, class, clinical_day, addressees)?;
            record::version(facts, facility, (clinical_day, body_day), addressees, earlier)?;
            record::relate(facts, facility, addressees, related)?;
            Ok(Basis::Grant.into())
        }
        Act::List | Act::ReadSeveral => record::enter(facts, facility, user),
        Act::Read { record } => {
            let ground = record::enter(facts, facility, user)?;
            Ok(Ground { basis: visible(facts, record)?, ..ground })
        }
        Act::Hide { record, .. } => record::change_own(facts, facility, record),
        Act::Narrow { record, addressees } => record::narrow(facts, facility, record, addressees),
        Act::OpenEmergency { reason, counters } => emergency::open(facts, facility, user, reason, &counters),
        Act::ListFacilityAccesses if user.lists_accesses => Ok(Basis::OwnFacility.into()),
        _ => Err(Denial::ActorMayNot),
    }
}

fn participant(facts: &Facts<'_>) -> Ruling {
    caller::application(facts)?;
    match facts.act {
        Act::Grant { beneficiary, .. } => participant::may_benefit(beneficiary).map(|_| ())?,
        Act::List | Act::ReadSeveral | Act::Read { .. } => record::may_read_own(facts)?,
        Act::Revoke { registered, .. } => participant::may_be_revoked(registered)?,
        Act::Withdraw { .. } | Act::ShowConsent | Act::ListAccesses => {}
        Act::AskErasure { .. } | Act::StopErasure { .. } => {}
        _ => return Err(Denial::ActorMayNot),
    }
    participant::oneself(facts)?;
    match facts.act {
        Act::Grant { .. } => participant::taking_part(facts).map(|_| Basis::Own.into()),
        Act::Revoke { .. } | Act::Withdraw { .. } => participant::taking_part(facts).map(|_| Basis::Own.into()),
        // Who looked stays visible after a withdrawal; so does the consent itself.
        Act::ShowConsent | Act::ListAccesses => participant::enrolled(facts).map(|_| Basis::Own.into()),
        Act::List | Act::ReadSeveral => record::enter_own(facts),
        Act::Read { record } => {
            record::enter_own(facts)?;
            visible(facts, record).map(Ground::from)
        }
        Act::AskErasure { erasure, .. } => erasure::ask(facts, erasure).map(|()| Basis::Own.into()),
        Act::StopErasure { erasure } => {
            // First: else whoever asks about another number learns whether anybody is enrolled under it.
            participant::enrolled(facts)?;
            erasure::stop(facts, erasure).map(|()| Basis::Own.into())
        }
        _ => Err(Denial::ActorMayNot),
    }
}

fn registrar(facts: &Facts<'_>) -> Ruling {
    match facts.act {
        Act::Register { change } => registry::register(facts, &change)?,
        Act::Propose { .. } | Act::ListRegistry | Act::ListActs => {}
        Act::Confirm(confirmation) => return registry::confirm(facts, confirmation),
        Act::Reject { act } => registry::reject(act)?,
        Act::EndDisaster => emergency::end_disaster(facts)?,
        Act::IssueCard { taken, evidence } => participant::issue_card(facts, taken, evidence)?,
        Act::Alias { duplicate, evidence, second } => return participant::alias(facts, duplicate, evidence, second),
        Act::Hold { record, evidence } => record::hold(facts, record, evidence)?,
        Act::Release { record, evidence } => record::release(facts, record, evidence)?,
        Act::AskErasure { erasure, evidence } => {
            participant::has_evidence(evidence)?;
            erasure::ask(facts, erasure)?;
        }
        Act::ApproveErasure { erasure } => erasure::approve(facts, erasure)?,
        Act::StopErasure { erasure } => erasure::stop(facts, erasure)?,
        _ => return Err(Denial::ActorMayNot),
    }
    Ok(Basis::Registrar.into())
}

fn auditor(facts: &Facts<'_>) -> Ruling {
    match facts.act {
        Act::ListJournal | Act::ListReviews | Act::ListRegistry | Act::ListActs => {}
        Act::Review { review } => registry::review(review)?,
        _ => return Err(Denial::ActorMayNot),
    }
    Ok(Basis::Auditor.into())
}

fn cluster(facts: &Facts<'_>) -> Ruling {
    match facts.act {
        Act::Erase { erasure, day } => erasure::erase(facts, erasure, day)?,
        Act::CertifyErasure { erasure, members } => erasure::certify(erasure, members)?,
        _ => return Err(Denial::ActorMayNot),
    }
    Ok(Basis::Cluster.into())
}

/// What a former member's disk shows to have been taken away is taken away again by whoever salvages it, whatever became
/// of who asked for it then, and of their right to: nobody sees more by it.
fn salvage(facts: &Facts<'_>) -> Ruling {
    match facts.act {
        Act::Revoke { .. } | Act::Withdraw { .. } => participant::taking_part(facts).map(|_| ())?,
        Act::Hide { record, hidden: true } => record::of_enrolled(facts, record).map(|_| ())?,
        Act::Narrow { record, addressees } => record::narrow_again(facts, record, addressees)?,
        Act::Hold { record, evidence } => record::hold(facts, record, evidence)?,
        Act::AskErasure { erasure, .. } => erasure::ask(facts, erasure)?,
        _ => return Err(Denial::ActorMayNot),
    }
    Ok(Basis::Recovery.into())
}

#[cfg(test)]
mod tests;
