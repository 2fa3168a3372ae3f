//! Taking part: enrolment, ids and cards, grants, withdrawal.

use super::caller::active;
use super::emergency::count_within;
use super::{Basis, ConsentTerms, Denial, Facts, Ground, Ruling, erasure, japan_day};
use crate::row::{CardRow, CounterRow, ErasureRow, Facility, Participant, ParticipationConsent};

/// The consent under which a participant takes part now, if any. A duplicate that became an alias has
/// none: the other enrolment's counts.
pub fn present_consent(participant: &Participant) -> Option<&ParticipationConsent> {
    participant.consents.last().filter(|c| c.withdrawn_ms == 0 && participant.alias_of.is_empty())
}

/// Whether a facility is among those that a participant names now.
pub fn is_granted(participant: &Participant, facility: &str) -> bool {
    participant.grants.iter().any(|g| g.facility == facility && g.revoked_ms == 0)
}

/// The participant, whether they still take part or have left.
pub fn enrolled<'a>(facts: &Facts<'a>) -> Result<&'a Participant, Denial> {
    facts.participant.filter(|p| p.alias_of.is_empty()).ok_or(Denial::NotEnrolled)
}

/// A participant acts for themselves only, under their number or one that became its alias.
pub fn oneself(facts: &Facts<'_>) -> Result<(), Denial> {
    let own =
        |p: &Participant| p.number == facts.person.name || p.aliases.iter().any(|a| a.number == facts.person.name);
    match facts.participant.is_none_or(own) {
        true => Ok(()),
        false => Err(Denial::AnotherPerson),
    }
}

/// The consent under which the participant takes part.
pub fn taking_part<'a>(facts: &Facts<'a>) -> Result<&'a ParticipationConsent, Denial> {
    present_consent(enrolled(facts)?).ok_or(Denial::Withdrawn)
}

/// That consent, if the participant names the facility.
pub fn granted<'a>(facts: &Facts<'a>, facility: &Facility) -> Result<&'a ParticipationConsent, Denial> {
    let consent = taking_part(facts)?;
    match is_granted(enrolled(facts)?, &facility.id) {
        true => Ok(consent),
        false => Err(Denial::NotGranted),
    }
}

/// Whether evidence was named.
pub fn has_evidence(evidence: &str) -> Result<(), Denial> {
    if evidence.is_empty() { Err(Denial::NoEvidence) } else { Ok(()) }
}

/// Enrols, or takes part again.
pub fn enrol(facts: &Facts<'_>, terms: &ConsentTerms<'_>, erasure: Option<&ErasureRow>) -> Ruling {
    if facts.participant.is_some_and(|p| present_consent(p).is_some() || !p.alias_of.is_empty()) {
        return Err(Denial::AlreadyEnrolled);
    }
    // An erasure on its way is stopped first, or it would destroy what is written from now on.
    erasure::is_idle(erasure)?;
    if terms.signed_day > japan_day(facts.now_ms) {
        return Err(Denial::FutureDate);
    }
    // Taking part again begins anew: an old form cannot undo a withdrawal.
    let left_ms = facts.participant.and_then(|p| p.consents.last()).map_or(0, |c| c.withdrawn_ms);
    if left_ms != 0 && terms.signed_day < japan_day(left_ms) {
        return Err(Denial::BeforeWithdrawal);
    }
    has_evidence(terms.evidence)?;
    if !terms.proxy.is_empty() && terms.proxy_relation.is_empty() {
        return Err(Denial::ProxyRelation);
    }
    if terms.own_records || terms.secondary_use {
        return Err(Denial::PurposeReserved);
    }
    Ok(Basis::Enrolment.into())
}

/// Links a facility's own id, also before the facility is named.
pub fn link(facts: &Facts<'_>) -> Ruling {
    taking_part(facts).map(|_| Basis::Enrolment.into())
}

/// Links a facility's own id to another participant: a mistake is put right, and says so.
pub fn relink(facts: &Facts<'_>, reason: &str) -> Ruling {
    taking_part(facts)?;
    if reason.is_empty() {
        return Err(Denial::NoReason);
    }
    Ok(Basis::Enrolment.into())
}

/// Issues a card, or one in the place of another. A serial is never given twice.
pub fn issue_card(facts: &Facts<'_>, taken: bool, evidence: &str, basis: Basis) -> Ruling {
    taking_part(facts)?;
    has_evidence(evidence)?;
    if taken {
        return Err(Denial::CardInUse);
    }
    Ok(basis.into())
}

/// Whoever holds the present card may know the number.
pub fn resolve_card(card: Option<&CardRow>) -> Ruling {
    match card.is_some_and(|card| card.replaced_ms == 0) {
        true => Ok(Basis::Enrolment.into()),
        false => Err(Denial::CardUnknown),
    }
}

/// Makes a duplicate an alias. Consent and grants of the one who stays count; whoever has left under
/// either number has left, so that nothing comes back through the other.
pub fn alias(facts: &Facts<'_>, duplicate: Option<&Participant>, evidence: &str) -> Result<(), Denial> {
    let stays = enrolled(facts)?;
    let duplicate = duplicate.ok_or(Denial::NotEnrolled)?;
    if duplicate.number == stays.number || !duplicate.alias_of.is_empty() {
        return Err(Denial::SameParticipant);
    }
    if present_consent(stays).is_none() || present_consent(duplicate).is_none() {
        return Err(Denial::Withdrawn);
    }
    has_evidence(evidence)
}

/// A participant names a facility.
pub fn grant_by_participant(facts: &Facts<'_>, beneficiary: Option<&Facility>) -> Ruling {
    taking_part(facts)?;
    may_benefit(beneficiary).map(|_| Basis::Own.into())
}

/// A facility's user enters that a participant names a facility. For the own facility this is capped.
pub fn grant_by_facility(
    facts: &Facts<'_>,
    facility: &Facility,
    beneficiary: Option<&Facility>,
    evidence: &str,
    own_grants: Option<&CounterRow>,
) -> Ruling {
    taking_part(facts)?;
    has_evidence(evidence)?;
    let beneficiary = may_benefit(beneficiary)?;
    let settings = facts.settings;
    let entered = count_within(own_grants, settings.own_grants_window_ms, facts.now_ms);
    if beneficiary.id == facility.id && entered >= settings.own_grants_max {
        return Err(Denial::OwnGrants);
    }
    Ok(Basis::Evidence.into())
}

/// A facility's user enters that a participant takes a grant back, or leaves.
pub fn restrict_by_facility(facts: &Facts<'_>, evidence: &str) -> Ruling {
    taking_part(facts)?;
    has_evidence(evidence)?;
    Ok(Ground::from(Basis::Evidence))
}

fn may_benefit(beneficiary: Option<&Facility>) -> Result<&Facility, Denial> {
    let beneficiary = beneficiary.ok_or(Denial::BeneficiaryUnknown)?;
    active(beneficiary.status, Denial::BeneficiaryUnknown)?;
    Ok(beneficiary)
}
