//! The rules once more, naively: one flat list of what is forbidden, in order, for whom and for what.
//! Nothing here calls the rules of the module or any of its helpers.

mod asks;

use super::{Act, Actor, Basis, Denial, Facts};
use crate::word::Relation;
use asks::*;

// Sets of actors.
const USER: u8 = 1;
const SELF: u8 = 2;
const REGISTRAR: u8 = 4;
const AUDITOR: u8 = 8;
const CLUSTER: u8 = 16;
const OPERATOR: u8 = 32;
const RECOVERY: u8 = 64;
const OFFICES: u8 = REGISTRAR | AUDITOR | CLUSTER | OPERATOR | RECOVERY;
const ANYBODY: u8 = USER | SELF | OFFICES;

// Sets of acts.
const ENROL: u64 = 1;
const LINK: u64 = 1 << 1;
const RELINK: u64 = 1 << 2;
const RESOLVE: u64 = 1 << 3;
const REVERSE: u64 = 1 << 4;
const CARD: u64 = 1 << 5;
const RESOLVE_CARD: u64 = 1 << 6;
const ALIAS: u64 = 1 << 7;
const GRANT: u64 = 1 << 8;
const REVOKE: u64 = 1 << 9;
const WITHDRAW: u64 = 1 << 10;
const SHOW: u64 = 1 << 11;
const ACCESSES: u64 = 1 << 12;
const WRITE: u64 = 1 << 13;
const LIST: u64 = 1 << 14;
const READ: u64 = 1 << 15;
const SEVERAL: u64 = 1 << 16;
const HIDE: u64 = 1 << 17;
const NARROW: u64 = 1 << 18;
const HOLD: u64 = 1 << 19;
const RELEASE: u64 = 1 << 20;
const OPEN: u64 = 1 << 21;
const INBOX: u64 = 1 << 22;
const GRANTED: u64 = 1 << 23;
const FACILITY_ACCESSES: u64 = 1 << 24;
const JOURNAL: u64 = 1 << 25;
const REVIEWS: u64 = 1 << 26;
const REVIEW: u64 = 1 << 27;
const REGISTRY: u64 = 1 << 28;
const REGISTER: u64 = 1 << 29;
const PROPOSE: u64 = 1 << 30;
const CONFIRM: u64 = 1 << 31;
const REJECT: u64 = 1 << 32;
const ACTS: u64 = 1 << 33;
const END_DISASTER: u64 = 1 << 34;
const ASK: u64 = 1 << 35;
const APPROVE: u64 = 1 << 36;
const STOP: u64 = 1 << 37;
const ERASE: u64 = 1 << 38;
const CERTIFY: u64 = 1 << 39;
const ANYTHING: u64 = u64::MAX;

const LOOK: u64 = LIST | READ | SEVERAL;
const USERS_ACTS: u64 = ENROL
    | LINK
    | RELINK
    | RESOLVE
    | REVERSE
    | CARD
    | RESOLVE_CARD
    | GRANT
    | REVOKE
    | WITHDRAW
    | SHOW
    | WRITE
    | LOOK
    | HIDE
    | NARROW
    | OPEN
    | INBOX
    | GRANTED
    | FACILITY_ACCESSES;
const SELFS_ACTS: u64 = GRANT | REVOKE | WITHDRAW | SHOW | ACCESSES | LOOK | ASK | STOP;
const REGISTRARS_ACTS: u64 = REGISTER
    | PROPOSE
    | CONFIRM
    | REJECT
    | ACTS
    | REGISTRY
    | END_DISASTER
    | CARD
    | ALIAS
    | HOLD
    | RELEASE
    | ASK
    | APPROVE
    | STOP;
const AUDITORS_ACTS: u64 = JOURNAL | REVIEWS | REVIEW | REGISTRY | ACTS;
const CLUSTERS_ACTS: u64 = ERASE | CERTIFY;
const SALVAGED_ACTS: u64 = REVOKE | WITHDRAW | HIDE | NARROW | HOLD | ASK;

/// One line: for these actors and acts this is the answer if the facts are so.
struct Forbidden {
    why: Denial,
    whom: u8,
    what: u64,
    when: fn(&Facts<'_>) -> bool,
}

const fn line(why: Denial, whom: u8, what: u64, when: fn(&Facts<'_>) -> bool) -> Forbidden {
    Forbidden { why, whom, what, when }
}

/// The first line that holds is the answer.
const FORBIDDEN: &[Forbidden] = &[
    line(Denial::PurposeReserved, ANYBODY, ANYTHING, |f| f.purpose.is_some_and(|p| p.number() == 4)),
    // Offices and their acts.
    line(Denial::ActorMayNot, SELF | OFFICES, ANYTHING, |f| f.emergency.is_some()),
    line(Denial::ActorMayNot, OPERATOR, ANYTHING, |_| true),
    line(Denial::ActorMayNot, REGISTRAR, !REGISTRARS_ACTS, |_| true),
    line(Denial::ActorMayNot, AUDITOR, !AUDITORS_ACTS, |_| true),
    line(Denial::ActorMayNot, CLUSTER, !CLUSTERS_ACTS, |_| true),
    line(Denial::ActorMayNot, RECOVERY, !SALVAGED_ACTS, |_| true),
    line(Denial::ActorMayNot, RECOVERY, HIDE, |f| matches!(f.act, Act::Hide { hidden: false, .. })),
    // The caller's side.
    line(Denial::ApplicationUnknown, USER | SELF, ANYTHING, |f| f.application.is_none()),
    line(Denial::ApplicationNotActive, USER | SELF, ANYTHING, |f| f.application.unwrap().status != 1),
    line(Denial::ApplicationParticipants, SELF, ANYTHING, |f| !f.application.unwrap().participants),
    line(Denial::ApplicationNotActive, USER | SELF, ANYTHING, |f| !matches!(f.application.unwrap().access_line, 1 | 2)),
    line(Denial::FacilityUnknown, USER, ANYTHING, |f| f.facility.is_none()),
    line(Denial::ApplicationFacility, USER, ANYTHING, |f| {
        !f.application.unwrap().facilities.iter().any(|id| *id == here(f).id)
    }),
    line(Denial::FacilityNotActive, USER, ANYTHING, |f| here(f).status != 1),
    line(Denial::AccessLine, USER, ANYTHING, |f| here(f).access_line != f.application.unwrap().access_line),
    line(Denial::UserUnknown, USER, ANYTHING, |f| f.user.is_none()),
    line(Denial::UserNotActive, USER, ANYTHING, |f| f.user.unwrap().status != 1),
    line(Denial::UserUnknown, USER, ANYTHING, |f| f.user.unwrap().facility != here(f).id),
    line(Denial::Credential, USER, ANYTHING, |f| {
        let registered = &f.user.unwrap().credential_sha256;
        !registered.is_empty() && f.person.credential_sha256 != *registered
    }),
    line(Denial::EmergencyReadOnly, USER, !LOOK, |f| f.emergency.is_some()),
    line(Denial::ActorMayNot, USER, !USERS_ACTS, |_| true),
    line(Denial::ActorMayNot, USER, FACILITY_ACCESSES, |f| !f.user.unwrap().lists_accesses),
    line(Denial::ActorMayNot, SELF, !SELFS_ACTS, |_| true),
    line(Denial::ActorMayNot, SELF, LOOK, |f| !f.settings.participants_read),
    line(Denial::NoPurpose, USER | SELF, LOOK | OPEN, |f| f.purpose.is_none()),
    line(Denial::PurposeActor, USER, LOOK | OPEN, |f| f.purpose.unwrap().number() != 1),
    line(Denial::PurposeActor, SELF, LOOK, |f| f.purpose.unwrap().number() != 2),
    // What else was sent, whoever it is about.
    line(Denial::FutureDate, USER, ENROL, |f| signed_day(f) > today(f)),
    line(Denial::NoEvidence, USER, ENROL, |f| matches!(f.act, Act::Enrol { terms, .. } if terms.evidence.is_empty())),
    line(
        Denial::ProxyRelation,
        USER,
        ENROL,
        |f| matches!(f.act, Act::Enrol { terms, .. } if !terms.proxy.is_empty() && terms.proxy_relation.is_empty()),
    ),
    line(
        Denial::PurposeReserved,
        USER,
        ENROL,
        |f| matches!(f.act, Act::Enrol { terms, .. } if terms.own_records || terms.secondary_use),
    ),
    line(Denial::NoReason, USER, RELINK, |f| matches!(f.act, Act::Relink { reason: "" })),
    line(Denial::NoEvidence, USER, GRANT | REVOKE | WITHDRAW | CARD, |f| evidence(f).is_empty()),
    line(Denial::NoEvidence, REGISTRAR, CARD | ALIAS | HOLD | RELEASE | ASK, |f| evidence(f).is_empty()),
    line(Denial::NoEvidence, RECOVERY, HOLD, |f| evidence(f).is_empty()),
    line(Denial::FacilityUnknown, USER | SELF, REVOKE, |f| matches!(f.act, Act::Revoke { registered: false, .. })),
    line(
        Denial::BeneficiaryUnknown,
        USER | SELF,
        GRANT,
        |f| matches!(f.act, Act::Grant { beneficiary, .. } if beneficiary.is_none_or(|b| b.status != 1)),
    ),
    line(Denial::ClassReserved, USER, WRITE, |f| class(f) == 11),
    line(Denial::AccessLineClass, USER, WRITE, |f| here(f).access_line == 2 && matches!(class(f), 3 | 4)),
    line(Denial::FutureDate, USER, WRITE, |f| clinical_day(f) > today(f) + 1),
    // The cap, for nobody's sake but the facility's own; also for people whom it does not know, enrolled or not, or knows
    // through a facility's hand that nobody looked at.
    line(Denial::OwnGrants, USER, GRANT, |f| {
        let Act::Grant { own_grants, reviewed, .. } = f.act else { unreachable!() };
        let count = counted(own_grants, f.now_ms, f.settings.own_grants_window_ms);
        let at_first_hand = |p| acquainted(p, &here(f).id) && (reviewed || by_themselves(p, &here(f).id));
        count >= f.settings.own_grants_max.into() && (gains(f) || !f.participant.is_some_and(at_first_hand))
    }),
    line(Denial::AnotherPerson, SELF, ANYTHING, |f| {
        f.participant
            .is_some_and(|p| p.number != f.person.name && p.aliases.iter().all(|alias| alias.number != f.person.name))
    }),
    // What a second registrar confirms: an act.
    line(Denial::ActUnknown, REGISTRAR, REJECT, |f| matches!(f.act, Act::Reject { act: None })),
    line(Denial::ActClosed, REGISTRAR, REJECT, |f| matches!(f.act, Act::Reject { act: Some(act) } if act.state != 1)),
    line(Denial::ActUnknown, REGISTRAR, CONFIRM | ALIAS, |f| confirmation(f).is_some_and(|c| c.act.is_none())),
    line(Denial::ActClosed, REGISTRAR, CONFIRM | ALIAS, |f| confirmation(f).is_some_and(|c| c.act.unwrap().state != 1)),
    line(Denial::ActExpired, REGISTRAR, CONFIRM | ALIAS, |f| {
        confirmation(f).is_some_and(|c| c.act.unwrap().expires_ms <= f.now_ms)
    }),
    line(Denial::SamePerson, REGISTRAR, CONFIRM | ALIAS, |f| {
        let proposer = confirmation(f).map(|c| c.act.unwrap().proposed_by.as_ref());
        proposer.is_some_and(|by| by.is_none() || same(by, f.person))
    }),
    line(Denial::ActStale, REGISTRAR, CONFIRM | ALIAS, |f| {
        confirmation(f).is_some_and(|c| {
            let act = c.act.unwrap();
            (c.base.timeline, c.base.index) != (act.base_timeline, act.base_index)
                || *c.payload_sha256 != act.payload_sha256
        })
    }),
    // The erasure itself, whoever it is of.
    line(Denial::ErasureState, REGISTRAR, APPROVE, |f| erasure(f).is_none_or(|e| e.state != 1)),
    line(Denial::ErasureState, REGISTRAR, STOP, |f| erasure(f).is_none_or(|e| e.state > 2)),
    line(Denial::SamePerson, REGISTRAR, APPROVE, |f| {
        let asker = erasure(f).unwrap().asked_by.as_ref();
        asker.is_none() || same(asker, f.person)
    }),
    // Emergencies, the caller's side.
    line(Denial::EmergencyUnknown, USER, LOOK, |f| {
        f.emergency.is_some_and(|emergency| match emergency.episode {
            None => true,
            Some(e) => {
                e.facility != here(f).id || e.user != f.user.unwrap().id || e.application != f.application.unwrap().name
            }
        })
    }),
    line(Denial::EmergencyFacility, USER, OPEN | LOOK, |f| in_emergency(f) && !facility_entitled(f)),
    line(Denial::EmergencyProfession, USER, OPEN | LOOK, |f| {
        let profession = f.user.unwrap().profession;
        in_emergency(f) && profession != 1 && !disaster(f).is_some_and(|d| d.professions.contains(&profession))
    }),
    line(Denial::Credential, USER, OPEN | LOOK, |f| {
        let user = f.user.unwrap();
        in_emergency(f) && user.profession == 1 && f.settings.emergency_credential && user.credential_sha256.is_empty()
    }),
    line(Denial::EmergencyExpired, USER, LOOK, |f| {
        f.emergency.is_some_and(|emergency| emergency.episode.unwrap().expires_ms <= f.now_ms)
    }),
    line(Denial::EmergencyUnknown, USER, LOOK, |f| {
        f.emergency.is_some_and(|e| f.participant.is_none_or(|p| p.number != e.episode.unwrap().number))
    }),
    line(Denial::NoReason, USER, OPEN, |f| matches!(f.act, Act::OpenEmergency { reason: "", .. })),
    line(Denial::EmergencyCap, USER, OPEN, |f| {
        let factor = disaster(f).map_or(1, |d| u64::from(d.caps_factor.max(1)));
        opened(f).iter().any(|(count, cap)| *count >= cap * factor)
    }),
    // The participant.
    line(Denial::AlreadyEnrolled, USER, ENROL, |f| f.participant.is_some_and(|p| is_in(p) || !p.alias_of.is_empty())),
    line(
        Denial::ErasureBegun,
        USER,
        ENROL,
        |f| matches!(f.act, Act::Enrol { erasure: Some(erasure), .. } if erasure.state != 3),
    ),
    line(Denial::BeforeWithdrawal, USER, ENROL, |f| {
        let left = f.participant.map_or(0, |p| p.consent.as_ref().unwrap().withdrawn_ms);
        left > 0 && signed_day(f) < day_of(left)
    }),
    line(Denial::CardUnknown, USER, RESOLVE_CARD, |f| match f.act {
        Act::ResolveCard { card: Some(card) } => card.replaced_ms != 0,
        _ => true,
    }),
    line(Denial::NotEnrolled, ANYBODY, NEEDS_PARTICIPANT, |f| f.participant.is_none_or(|p| !p.alias_of.is_empty())),
    line(Denial::ErasureState, SELF, STOP, |f| erasure(f).is_none_or(|e| e.state > 2)),
    line(Denial::NotEnrolled, REGISTRAR, ALIAS, |f| matches!(f.act, Act::Alias { duplicate: None, .. })),
    line(Denial::SameParticipant, REGISTRAR, ALIAS, |f| {
        let Act::Alias { duplicate: Some(duplicate), .. } = f.act else { unreachable!() };
        !duplicate.alias_of.is_empty() || duplicate.number == f.participant.unwrap().number
    }),
    line(Denial::Withdrawn, REGISTRAR, ALIAS, |f| {
        let Act::Alias { duplicate: Some(duplicate), .. } = f.act else { unreachable!() };
        !is_in(duplicate)
    }),
    line(Denial::Withdrawn, ANYBODY & !RECOVERY, NEEDS_CONSENT & !LOOK, |f| !is_in(f.participant.unwrap())),
    // Whoever has left looks at their own records, and nobody else does.
    line(Denial::Withdrawn, ANYBODY & !RECOVERY & !SELF, LOOK, |f| !is_in(f.participant.unwrap())),
    line(Denial::Withdrawn, RECOVERY, REVOKE | WITHDRAW, |f| !is_in(f.participant.unwrap())),
    line(Denial::Withdrawn, USER, LOOK, |f| {
        let now = f.participant.unwrap().consent.as_ref().unwrap();
        f.emergency.and_then(|e| e.episode).is_some_and(|e| {
            // Of an earlier build's it is not known under which one it was opened.
            if e.consent_number.is_none() {
                e.opened_ms < now.entered_ms
            } else {
                e.consent_number != Some(now.history_number)
            }
        })
    }),
    // A facility is shown the consent of those who take part only; the participant always.
    line(Denial::Withdrawn, USER, SHOW, |f| !is_in(f.participant.unwrap())),
    line(Denial::NotGranted, USER, SHOW | WRITE | LOOK | HIDE | NARROW, |f| {
        f.emergency.is_none() && !names(f.participant.unwrap(), &here(f).id)
    }),
    line(Denial::StillTakesPart, ANYBODY, ASK | APPROVE | ERASE, |f| is_in(f.participant.unwrap())),
    line(Denial::LegalHold, ANYBODY, ASK | APPROVE | ERASE, |f| f.participant.unwrap().held_records != 0),
    // What a facility does only for those whom it knows.
    line(Denial::NotGranted, USER, LINK | RELINK | CARD, |f| !acquainted(f.participant.unwrap(), &here(f).id)),
    line(Denial::NotGranted, USER, REVOKE, |f| {
        let Act::Revoke { named, .. } = f.act else { unreachable!() };
        let p = f.participant.unwrap();
        !names(p, named) && !acquainted(p, &here(f).id)
    }),
    line(Denial::CardInUse, USER | REGISTRAR, CARD, |f| matches!(f.act, Act::IssueCard { taken: true, .. })),
    line(Denial::SecondRegistrar, REGISTRAR, ALIAS, |f| matches!(f.act, Act::Alias { second: None, .. })),
    // Reading a record.
    line(Denial::NoSuchRecord, USER | SELF, READ, |f| record(f).is_none()),
    line(Denial::Hidden, USER, READ, |f| hidden_from_facility(f, record(f).unwrap())),
    line(Denial::Hidden, SELF, READ, |f| record(f).unwrap().hidden),
    line(Denial::BeforeConsent, USER | SELF, READ, |f| too_old(f, record(f).unwrap())),
    line(Denial::NotAddressee, USER, READ, |f| f.emergency.is_none() && not_addressed(f, record(f).unwrap())),
    line(Denial::ProfessionClass, USER, READ, |f| unseen_class(f, record(f).unwrap())),
    // Writing.
    line(Denial::BeforeConsent, USER, WRITE, |f| clinical_day(f) < consent_day(f)),
    line(Denial::AddresseeNotGranted, USER, WRITE, |f| addressees(f).iter().any(|a| !names(f.participant.unwrap(), a))),
    // The record that is changed: of a further version, hidden, narrowed.
    line(Denial::NoSuchRecord, USER | RECOVERY, WRITE | HIDE | NARROW, |f| changed(f) == Some(None)),
    line(Denial::Hidden, USER, WRITE | HIDE | NARROW, |f| changes(f, hidden_from_facility)),
    line(Denial::BeforeConsent, USER, WRITE | HIDE | NARROW, |f| changes(f, |f, r| foreign(f, r) && too_old(f, r))),
    line(Denial::NotAddressee, USER, WRITE | HIDE | NARROW, |f| changes(f, not_addressed)),
    line(Denial::ProfessionClass, USER, WRITE | HIDE | NARROW, |f| {
        changes(f, |f, r| foreign(f, r) && unseen_class(f, r))
    }),
    line(Denial::NotAuthor, USER, WRITE | HIDE | NARROW, |f| changes(f, foreign)),
    line(Denial::AddresseeNotGranted, USER, NARROW, |f| {
        addressees(f).iter().any(|a| !names(f.participant.unwrap(), a))
    }),
    line(Denial::BeforeConsent, USER, WRITE, |f| changes(f, version_too_old)),
    line(Denial::BeforeConsent, USER, WRITE, |f| changes(f, body_too_old)),
    line(Denial::Widens, RECOVERY, NARROW, |f| {
        changes(f, |f, r| addressees(f) != [&r.author_facility[..]] && reaches_more(addressees(f), &r.addressees))
    }),
    line(Denial::Widens, USER, WRITE | NARROW, |f| changes(f, |f, r| reaches_more(addressees(f), &r.addressees))),
    // The record that is referred to.
    line(Denial::NoSuchRecord, USER, WRITE, |f| related(f).is_some_and(|(_, record)| record.is_none())),
    line(Denial::Hidden, USER, WRITE, |f| refers(f, |f, _, r| hidden_from_facility(f, r))),
    line(Denial::BeforeConsent, USER, WRITE, |f| {
        refers(f, |f, relation, r| too_old(f, r) && (foreign(f, r) || relation != Relation::Replaces))
    }),
    line(Denial::NotAddressee, USER, WRITE, |f| refers(f, |f, _, r| not_addressed(f, r))),
    line(Denial::ProfessionClass, USER, WRITE, |f| {
        refers(f, |f, relation, r| unseen_class(f, r) && (foreign(f, r) || relation != Relation::Replaces))
    }),
    line(Denial::NotAuthor, USER, WRITE, |f| {
        refers(f, |f, relation, r| relation == Relation::Replaces && foreign(f, r))
    }),
    line(Denial::Widens, USER, WRITE, |f| refers(f, |f, _, r| reaches_more(addressees(f), &r.addressees))),
    // Legal hold.
    line(Denial::NoSuchRecord, REGISTRAR | RECOVERY, HOLD | RELEASE, |f| record(f).is_none()),
    line(Denial::HoldState, REGISTRAR | RECOVERY, HOLD, |f| record(f).unwrap().hold),
    line(Denial::HoldState, REGISTRAR, RELEASE, |f| !record(f).unwrap().hold),
    line(Denial::SamePerson, REGISTRAR, RELEASE, |f| same(record(f).unwrap().hold_by.as_ref(), f.person)),
    // The registry.
    line(Denial::SecondRegistrar, REGISTRAR, REGISTER, |f| match f.act {
        Act::Register { change } => for_many(f, &change),
        _ => unreachable!(),
    }),
    line(Denial::NoDisaster, REGISTRAR, END_DISASTER, |f| {
        f.disaster.is_none_or(|d| d.ended_by.is_some() || d.until_ms <= f.now_ms)
    }),
    line(Denial::ReviewState, AUDITOR, REVIEW, |f| match f.act {
        Act::Review { review: Some(review) } => review.state != 1,
        _ => true,
    }),
    // Erasure.
    line(Denial::ErasureState, SELF | REGISTRAR | RECOVERY, ASK, |f| erasure(f).is_some_and(|e| e.state != 3)),
    line(Denial::ErasureState, CLUSTER, ERASE, |f| erasure(f).is_none_or(|e| e.state != 2)),
    line(Denial::ErasureState, CLUSTER, CERTIFY, |f| erasure(f).is_none_or(|e| e.state != 4)),
    line(Denial::GracePeriod, CLUSTER, ERASE, |f| f.now_ms < erasure(f).unwrap().grace_until_ms),
    line(Denial::ErasureCap, CLUSTER, ERASE, |f| {
        let Act::Erase { day: Some(day), .. } = f.act else { return false };
        i64::from(day.day) == today(f) && day.erased >= f.settings.erasures_day_max
    }),
    line(Denial::ErasureReports, CLUSTER, CERTIFY, |f| {
        let Act::CertifyErasure { erasure: Some(erasure), members } = f.act else { unreachable!() };
        let done: Vec<u64> = (erasure.reports.iter())
            .filter(|r| r.log_compacted && r.keys_compacted && r.checkpoints_gone)
            .filter(|r| r.purged_index >= erasure.keys_last_index)
            .map(|r| r.raft_id)
            .collect();
        erasure.swept_ms == 0 || members.is_empty() || members.iter().any(|m| !done.contains(m))
    }),
];

/// Acts that are about a participant who is, or was, enrolled.
const NEEDS_PARTICIPANT: u64 = NEEDS_CONSENT | SHOW | ACCESSES | HOLD | RELEASE | ASK | APPROVE | STOP | ERASE;
/// … and takes part.
const NEEDS_CONSENT: u64 =
    LINK | RELINK | CARD | ALIAS | GRANT | REVOKE | WITHDRAW | WRITE | LOOK | HIDE | NARROW | OPEN;

/// What the rules answer: a ground and its end, or why not.
pub fn answer(facts: &Facts<'_>) -> Result<(Basis, u64), Denial> {
    let (who, what) = (actor(facts.actor), act(&facts.act));
    let applies = |line: &&Forbidden| line.whom & who != 0 && line.what & what != 0;
    if let Some(forbidden) = FORBIDDEN.iter().filter(applies).find(|line| (line.when)(facts)) {
        return Err(forbidden.why);
    }
    let basis = match (who, what) {
        (USER, LIST | READ | SEVERAL) if facts.emergency.is_some() => Basis::Emergency,
        (USER, READ) if !foreign(facts, record(facts).unwrap()) => Basis::OwnRecord,
        (USER, OPEN) => Basis::Emergency,
        (USER, ENROL | LINK | RELINK | CARD | RESOLVE_CARD) => Basis::Enrolment,
        (USER, RESOLVE | REVERSE | INBOX | GRANTED | FACILITY_ACCESSES) => Basis::OwnFacility,
        (USER, GRANT | REVOKE | WITHDRAW) => Basis::Evidence,
        (USER, _) => Basis::Grant,
        (SELF, _) => Basis::Own,
        (REGISTRAR, _) => Basis::Registrar,
        (AUDITOR, _) => Basis::Auditor,
        (CLUSTER, _) => Basis::Cluster,
        (RECOVERY, _) => Basis::Recovery,
        other => panic!("nobody forbade {other:?}"),
    };
    Ok((basis, ends(facts, what).into_iter().min().unwrap_or(0)))
}

/// Everything that ends of what a permit rests on.
fn ends(facts: &Facts<'_>, what: u64) -> Vec<u64> {
    let mut ends = Vec::new();
    if what & (CONFIRM | ALIAS) != 0 {
        ends.extend(confirmation(facts).map(|c| c.act.unwrap().expires_ms));
    }
    if facts.actor == Actor::FacilityUser && in_emergency(facts) && what & (OPEN | LOOK) != 0 {
        ends.extend(facts.emergency.and_then(|emergency| emergency.episode).map(|episode| episode.expires_ms));
        let over_cap = what == OPEN && opened(facts).iter().any(|(count, cap)| count >= cap);
        if !here(facts).emergency || facts.user.unwrap().profession != 1 || over_cap {
            ends.push(disaster(facts).unwrap().until_ms);
        }
    }
    ends
}

fn actor(actor: Actor) -> u8 {
    match actor {
        Actor::FacilityUser => USER,
        Actor::Participant => SELF,
        Actor::Registrar => REGISTRAR,
        Actor::Auditor => AUDITOR,
        Actor::Cluster => CLUSTER,
        Actor::Recovery => RECOVERY,
        Actor::Operator => OPERATOR,
    }
}

fn act(act: &Act<'_>) -> u64 {
    match act {
        Act::Enrol { .. } => ENROL,
        Act::Link => LINK,
        Act::Relink { .. } => RELINK,
        Act::Resolve => RESOLVE,
        Act::ReverseResolve => REVERSE,
        Act::IssueCard { .. } => CARD,
        Act::ResolveCard { .. } => RESOLVE_CARD,
        Act::Alias { .. } => ALIAS,
        Act::Grant { .. } => GRANT,
        Act::Revoke { .. } => REVOKE,
        Act::Withdraw { .. } => WITHDRAW,
        Act::ShowConsent => SHOW,
        Act::ListAccesses => ACCESSES,
        Act::Write { .. } => WRITE,
        Act::List => LIST,
        Act::Read { .. } => READ,
        Act::ReadSeveral => SEVERAL,
        Act::Hide { .. } => HIDE,
        Act::Narrow { .. } => NARROW,
        Act::Hold { .. } => HOLD,
        Act::Release { .. } => RELEASE,
        Act::OpenEmergency { .. } => OPEN,
        Act::Inbox => INBOX,
        Act::ListGranted => GRANTED,
        Act::ListFacilityAccesses => FACILITY_ACCESSES,
        Act::ListJournal => JOURNAL,
        Act::ListReviews => REVIEWS,
        Act::Review { .. } => REVIEW,
        Act::ListRegistry => REGISTRY,
        Act::Register { .. } => REGISTER,
        Act::Propose { .. } => PROPOSE,
        Act::Confirm(_) => CONFIRM,
        Act::Reject { .. } => REJECT,
        Act::ListActs => ACTS,
        Act::EndDisaster => END_DISASTER,
        Act::AskErasure { .. } => ASK,
        Act::ApproveErasure { .. } => APPROVE,
        Act::StopErasure { .. } => STOP,
        Act::Erase { .. } => ERASE,
        Act::CertifyErasure { .. } => CERTIFY,
    }
}
