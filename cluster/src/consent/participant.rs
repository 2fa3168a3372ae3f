//! Taking part: enrolment, ids and cards, grants, withdrawal.

use bytes::Bytes;

use super::caller::active;
use super::emergency::count_within;
use super::{Basis, Confirmation, ConsentTerms, Denial, Facts, Ruling, Settings, erasure, japan_day, registry};
use crate::row::{CardRow, CounterRow, ErasureRow, Facility, Participant, PresentConsent, PresentGrant};
use crate::word::ReviewKind;

/// The consent under which a participant takes part now, if any. A duplicate that became an alias has
/// none: the other enrolment's counts.
pub fn present_consent(participant: &Participant) -> Option<&PresentConsent> {
    participant.consent.as_ref().filter(|c| c.withdrawn_ms == 0 && participant.alias_of.is_empty())
}

/// Whether a facility is among those that a participant names now.
pub fn is_granted(participant: &Participant, facility: &str) -> bool {
    present_grant(participant, facility).is_some()
}

/// The grant by which a participant names a facility now.
pub fn present_grant<'a>(participant: &'a Participant, facility: &str) -> Option<&'a PresentGrant> {
    participant.grants.iter().find(|grant| grant.facility == facility)
}

/// How a facility has come to know a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It does not.
    Stranger,
    /// Through a facility's hand alone, another one's or its own, which nobody has looked at.
    SecondHand,
    /// The participant named it or confirmed that, it enrolled them when nobody knew them yet, or auditors found what
    /// it rests on in order.
    FirstHand,
}

/// `reviewed`: one of [`reviews_of_standing`] was found in order.
fn standing(facility: &str, participant: &Participant, reviewed: bool) -> Standing {
    let Some(consent) = present_consent(participant) else { return Standing::Stranger };
    let (grant, enrolled) = (present_grant(participant, facility), consent.entered_by == facility);
    let by_participant = grant.is_some_and(|grant| grant.by_participant);
    match grant.is_some() || enrolled {
        false => Standing::Stranger,
        true if by_participant || reviewed || (enrolled && consent.review_id.is_empty()) => Standing::FirstHand,
        true => Standing::SecondHand,
    }
}

/// The reviews of that by which a facility knows a participant: a verdict on either is one on its standing.
pub fn reviews_of_standing<'a>(facility: &str, participant: &'a Participant) -> impl Iterator<Item = &'a Bytes> {
    let consent = participant.consent.as_ref().filter(|consent| consent.entered_by == facility);
    let ids = [present_grant(participant, facility).map(|grant| &grant.review_id), consent.map(|c| &c.review_id)];
    ids.into_iter().flatten().filter(|id| !id.is_empty())
}

/// Whether a facility knows a participant: it is named, or its user entered the consent under which they take
/// part, before anybody was named.
fn knows(facility: &str, participant: &Participant) -> bool {
    standing(facility, participant, false) != Standing::Stranger
}

/// Why a grant that a facility's user enters is looked at afterwards, and counted. None: the facility knows the
/// participant at first hand, and names another one that did not name it.
///
/// `returned` counts the grants that the beneficiary's users entered for the facility; `reviewed`: one of
/// [`reviews_of_standing`] was found in order.
pub fn review_of_grant(
    participant: &Participant,
    (facility, beneficiary): (&str, &str),
    returned: Option<&CounterRow>,
    reviewed: bool,
    settings: &Settings,
    now_ms: u64,
) -> Option<ReviewKind> {
    if let Some(kind) = gains((facility, beneficiary), returned, settings, now_ms) {
        return Some(kind);
    }
    match standing(facility, participant, reviewed) {
        Standing::Stranger => Some(ReviewKind::StrangerGrant),
        Standing::SecondHand => Some(ReviewKind::SecondHandGrant),
        Standing::FirstHand => None,
    }
}

/// Whether an enrolment is looked at afterwards: a facility takes a participant back who had left, and knows them from
/// then on. Whom nobody knew before, an enrolment takes nothing from.
pub fn is_reviewed_enrolment(participant: Option<&Participant>) -> bool {
    participant.is_some_and(|participant| participant.consent.is_some())
}

/// Whether a facility gains by a grant that its user enters: it is named itself, or gets one for one.
fn gains(
    (facility, beneficiary): (&str, &str),
    returned: Option<&CounterRow>,
    settings: &Settings,
    now_ms: u64,
) -> Option<ReviewKind> {
    if beneficiary == facility {
        return Some(ReviewKind::OwnGrant);
    }
    let returned = count_within(returned, settings.own_grants_window_ms, now_ms);
    if returned > 0 { Some(ReviewKind::MutualGrant) } else { None }
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
pub fn taking_part<'a>(facts: &Facts<'a>) -> Result<&'a PresentConsent, Denial> {
    present_consent(enrolled(facts)?).ok_or(Denial::Withdrawn)
}

/// The consent under which the participant takes part, or took part last.
pub fn last_consent<'a>(facts: &Facts<'a>) -> Result<&'a PresentConsent, Denial> {
    enrolled(facts)?.consent.as_ref().ok_or(Denial::NotEnrolled)
}

/// That consent, if the participant names the facility.
pub fn granted<'a>(facts: &Facts<'a>, facility: &Facility) -> Result<&'a PresentConsent, Denial> {
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
    if terms.signed_day > japan_day(facts.now_ms) {
        return Err(Denial::FutureDate);
    }
    has_evidence(terms.evidence)?;
    if !terms.proxy.is_empty() && terms.proxy_relation.is_empty() {
        return Err(Denial::ProxyRelation);
    }
    if terms.own_records || terms.secondary_use {
        return Err(Denial::PurposeReserved);
    }
    if facts.participant.is_some_and(|p| present_consent(p).is_some() || !p.alias_of.is_empty()) {
        return Err(Denial::AlreadyEnrolled);
    }
    // An erasure on its way is stopped first, or it would destroy what is written from now on.
    erasure::is_idle(erasure).map_err(|_| Denial::ErasureBegun)?;
    // Taking part again begins anew: an old form cannot undo a withdrawal.
    let left_ms = facts.participant.and_then(|p| p.consent.as_ref()).map_or(0, |c| c.withdrawn_ms);
    if left_ms != 0 && terms.signed_day < japan_day(left_ms) {
        return Err(Denial::BeforeWithdrawal);
    }
    Ok(Basis::Enrolment.into())
}

/// Links a facility's own id: of one whom the facility knows, so that nobody learns by linking who is enrolled.
pub fn link(facts: &Facts<'_>, facility: &Facility) -> Ruling {
    known_to(facts, facility).map(|()| Basis::Enrolment.into())
}

/// Links a facility's own id to another participant: a mistake is put right, and says so.
pub fn relink(facts: &Facts<'_>, facility: &Facility, reason: &str) -> Ruling {
    if reason.is_empty() {
        return Err(Denial::NoReason);
    }
    link(facts, facility)
}

/// That the participant takes part and the facility knows them.
fn known_to(facts: &Facts<'_>, facility: &Facility) -> Result<(), Denial> {
    taking_part(facts)?;
    if knows(&facility.id, enrolled(facts)?) { Ok(()) } else { Err(Denial::NotGranted) }
}

/// A registrar issues a card, or one in the place of another. A serial is never given twice.
pub fn issue_card(facts: &Facts<'_>, taken: bool, evidence: &str) -> Result<(), Denial> {
    has_evidence(evidence)?;
    taking_part(facts)?;
    if taken { Err(Denial::CardInUse) } else { Ok(()) }
}

/// A facility's user does, for one whom the facility knows.
pub fn issue_card_at(facts: &Facts<'_>, facility: &Facility, taken: bool, evidence: &str) -> Ruling {
    has_evidence(evidence)?;
    known_to(facts, facility)?;
    issue_card(facts, taken, evidence).map(|()| Basis::Enrolment.into())
}

/// Whoever holds the present card may know the number.
pub fn resolve_card(card: Option<&CardRow>) -> Ruling {
    match card.is_some_and(|card| card.replaced_ms == 0) {
        true => Ok(Basis::Enrolment.into()),
        false => Err(Denial::CardUnknown),
    }
}

/// Makes a duplicate an alias: proposed by one registrar, done when another confirms it. Consent and grants of the
/// one who stays count; whoever has left under either number has left, so that nothing comes back through the other.
pub fn alias(
    facts: &Facts<'_>,
    duplicate: Option<&Participant>,
    evidence: &str,
    second: Option<Confirmation<'_>>,
) -> Ruling {
    has_evidence(evidence)?;
    let confirmed = second.map(|second| registry::confirm(facts, second)).transpose()?;
    let stays = enrolled(facts)?;
    let duplicate = duplicate.ok_or(Denial::NotEnrolled)?;
    if duplicate.number == stays.number || !duplicate.alias_of.is_empty() {
        return Err(Denial::SameParticipant);
    }
    if present_consent(stays).is_none() || present_consent(duplicate).is_none() {
        return Err(Denial::Withdrawn);
    }
    confirmed.ok_or(Denial::SecondRegistrar)
}

/// A facility's user enters that a participant names a facility. What is looked at afterwards is capped: what the
/// facility gains by, and what it enters for people whom it does not know at first hand. The cap is held whoever the
/// number is.
pub fn grant_by_facility(
    facts: &Facts<'_>,
    facility: &Facility,
    (beneficiary, evidence): (Option<&Facility>, &str),
    own_grants: Option<&CounterRow>,
    (returned, reviewed): (Option<&CounterRow>, bool),
) -> Ruling {
    has_evidence(evidence)?;
    let beneficiary = may_benefit(beneficiary)?;
    let settings = facts.settings;
    if count_within(own_grants, settings.own_grants_window_ms, facts.now_ms) >= settings.own_grants_max {
        let named = (&facility.id[..], &beneficiary.id[..]);
        let review = |participant| review_of_grant(participant, named, returned, reviewed, settings, facts.now_ms);
        if facts.participant.is_none_or(|participant| review(participant).is_some()) {
            return Err(Denial::OwnGrants);
        }
    }
    taking_part(facts).map(|_| Basis::Evidence.into())
}

/// A facility's user enters that a participant takes a grant back. One that is not there is taken back only by
/// facilities that know the participant: to others it would tell who is enrolled, and change nothing.
pub fn revoke_by_facility(
    facts: &Facts<'_>,
    facility: &Facility,
    (named, registered): (&str, bool),
    evidence: &str,
) -> Ruling {
    has_evidence(evidence)?;
    may_be_revoked(registered)?;
    taking_part(facts)?;
    if !is_granted(enrolled(facts)?, named) {
        known_to(facts, facility)?;
    }
    Ok(Basis::Evidence.into())
}

/// A facility's user enters that a participant leaves.
pub fn withdraw_by_facility(facts: &Facts<'_>, evidence: &str) -> Ruling {
    has_evidence(evidence)?;
    taking_part(facts).map(|_| Basis::Evidence.into())
}

/// An id that no facility has is a slip of the pen: taking back what it never had must not look done. Whether the
/// facility is active plays no part.
pub fn may_be_revoked(registered: bool) -> Result<(), Denial> {
    if registered { Ok(()) } else { Err(Denial::FacilityUnknown) }
}

/// Only a registered, active facility can be named.
pub fn may_benefit(beneficiary: Option<&Facility>) -> Result<&Facility, Denial> {
    let beneficiary = beneficiary.ok_or(Denial::BeneficiaryUnknown)?;
    active(beneficiary.status, Denial::BeneficiaryUnknown)?;
    Ok(beneficiary)
}
