//! The case table.

use super::world;
use super::*;
use crate::id::Revision;
use crate::row::{
    ActRow, ActorRow, Application, CardRow, CounterRow, DisasterRow, EpisodeRow, ErasureDayRow, ErasureRow, Facility,
    Participant, RecordControl, ReviewRow, User,
};
use crate::word::{
    AccessLine, ActState, ActorKind, Class, ErasureState, Profession, Purpose, Relation, ReviewState, Status,
};

/// Facts with their owners.
struct Case {
    act: String,
    actor: ActorKind,
    person: ActorRow,
    purpose: Option<Purpose>,
    application: Option<Application>,
    facility: Option<Facility>,
    user: Option<User>,
    participant: Option<Participant>,
    record: Option<RecordControl>,
    alias_day: Option<i32>,
    body_day: Option<i32>,
    related: Option<(Relation, Option<RecordControl>)>,
    beneficiary: Option<Facility>,
    duplicate: Option<Participant>,
    addressees: Vec<String>,
    class: Class,
    day: i32,
    evidence: String,
    reason: String,
    proxy: String,
    relation: String,
    own_records: bool,
    secondary_use: bool,
    emergency: Option<Option<EpisodeRow>>,
    disaster: Option<DisasterRow>,
    counters: [Option<CounterRow>; 4],
    own_grants: Option<CounterRow>,
    returned: Option<CounterRow>,
    reviewed: bool,
    named: String,
    registered: bool,
    card: Option<CardRow>,
    taken: bool,
    review: Option<ReviewRow>,
    pending: Option<ActRow>,
    base: u64,
    payload: String,
    erasure: Option<ErasureRow>,
    erased: ErasureDayRow,
    members: Vec<u64>,
    change: String,
    settings: Settings,
}

fn base(act: &str) -> Case {
    let erasure = match act {
        "approve-erasure" | "stop-erasure" => Some(world::erasure(ErasureState::Asked)),
        "erase" => Some(world::erasure(ErasureState::Approved)),
        "certify-erasure" => Some(world::erasure(ErasureState::Pending)),
        _ => None,
    };
    Case {
        act: act.into(),
        actor: ActorKind::FacilityUser,
        person: world::person(1, "u1"),
        purpose: Some(Purpose::Care),
        application: Some(world::application()),
        facility: Some(world::facility("F1")),
        user: Some(world::user()),
        participant: Some(world::participant()),
        record: Some(world::record()),
        alias_day: None,
        body_day: None,
        related: None,
        beneficiary: Some(world::facility("F3")),
        duplicate: Some(Participant { number: "P2".into(), ..world::participant() }),
        addressees: vec![],
        class: Class::ReferralLetter,
        day: 180,
        evidence: "form 12".into(),
        reason: "unconscious".into(),
        proxy: String::new(),
        relation: String::new(),
        own_records: false,
        secondary_use: false,
        emergency: None,
        disaster: None,
        counters: [None, None, None, None],
        own_grants: None,
        returned: None,
        reviewed: false,
        named: "F2".into(),
        registered: true,
        card: Some(CardRow::default()),
        taken: false,
        review: Some(ReviewRow { state: ReviewState::Open.number(), ..ReviewRow::default() }),
        pending: Some(world::act()),
        base: 7,
        payload: "seven".into(),
        erasure,
        erased: ErasureDayRow { day: 200, erased: 0 },
        members: vec![1, 2],
        change: "user".into(),
        settings: Settings::default(),
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

fn numbers<T>(value: &str, number: impl Fn(&str) -> T) -> Vec<T> {
    list(value).iter().map(|word| number(word)).collect()
}

/// Minutes from now, with their sign.
fn at(value: &str) -> u64 {
    let minutes: i64 = value.parse().unwrap();
    NOW_MS.checked_add_signed(minutes * MINUTE_MS as i64).unwrap()
}

fn change(case: &mut Case, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    match key.split_once('.').map_or(key, |(whose, _)| whose) {
        "application" | "facility" | "user" | "person" => change_caller(case, key, value),
        "record" | "related" => change_record(case, key, value),
        "emergency" | "episode" | "disaster" | "opened" => change_emergency(case, key, value),
        "participant" | "withdrawn" | "revoked" | "second-hand" | "grants" | "alias" | "held" | "consent" => {
            change_participant(case, key, value);
        }
        "act" | "base" | "payload" | "erasure" | "erased" | "members" | "review" | "change" => {
            change_office(case, key, value);
        }
        _ => change_rest(case, key, value),
    }
}

fn change_caller(case: &mut Case, key: &str, value: &str) {
    let status = || Status::from_word(value).unwrap().number();
    let line = || AccessLine::from_word(value).unwrap().number();
    match key {
        "application" => case.application = None,
        "application.status" => case.application.as_mut().unwrap().status = status(),
        "application.facilities" => case.application.as_mut().unwrap().facilities = list(value),
        "application.line" => case.application.as_mut().unwrap().access_line = line(),
        "application.participants" => case.application.as_mut().unwrap().participants = value == "yes",
        "facility" => case.facility = None,
        "facility.status" => case.facility.as_mut().unwrap().status = status(),
        "facility.line" => case.facility.as_mut().unwrap().access_line = line(),
        "facility.emergency" => case.facility.as_mut().unwrap().emergency = true,
        "user" => case.user = None,
        "user.status" => case.user.as_mut().unwrap().status = status(),
        "user.facility" => case.user.as_mut().unwrap().facility = value.into(),
        "user.credential" => case.user.as_mut().unwrap().credential_sha256 = value.to_owned().into(),
        "user.profession" => case.user.as_mut().unwrap().profession = Profession::from_word(value).unwrap().number(),
        "user.lists-accesses" => case.user.as_mut().unwrap().lists_accesses = true,
        "person" => case.person.name = value.into(),
        "person.credential" => case.person.credential_sha256 = value.to_owned().into(),
        "person.key" => case.person.key_sha256 = value.to_owned().into(),
        other => panic!("unknown change {other}"),
    }
}

fn change_participant(case: &mut Case, key: &str, value: &str) {
    match key {
        "participant" => case.participant = None,
        "withdrawn" => world::leave(case.participant.as_mut().unwrap(), 150 * DAY_MS),
        "revoked" => drop(case.participant.as_mut().unwrap().grants.remove(0)),
        "grants" => {
            case.participant.as_mut().unwrap().grants.retain(|g| list(value).contains(&g.facility));
        }
        "second-hand" => case.participant.as_mut().unwrap().grants[0].by_participant = false,
        "alias" => case.participant.as_mut().unwrap().alias_of = "P9".into(),
        "held" => case.participant.as_mut().unwrap().held_records = 1,
        "consent.by" => case.participant.as_mut().unwrap().consent.as_mut().unwrap().entered_by = value.into(),
        "consent.again" => case.participant.as_mut().unwrap().consent.as_mut().unwrap().review_id = "review".into(),
        "consent.number" => {
            case.participant.as_mut().unwrap().consent.as_mut().unwrap().history_number = value.parse().unwrap();
        }
        "consent.entered" => case.participant.as_mut().unwrap().consent.as_mut().unwrap().entered_ms = at(value),
        other => panic!("unknown change {other}"),
    }
}

fn change_record(case: &mut Case, key: &str, value: &str) {
    match key {
        "record" => case.record = None,
        "record.hidden" => case.record.as_mut().unwrap().hidden = true,
        "record.author" => case.record.as_mut().unwrap().author_facility = value.into(),
        "record.alias-day" => case.alias_day = Some(value.parse().unwrap()),
        "record.day" => case.record.as_mut().unwrap().clinical_day = value.parse().unwrap(),
        "record.addressees" => case.record.as_mut().unwrap().addressees = list(value),
        "record.held-by" => {
            let record = case.record.as_mut().unwrap();
            record.hold = true;
            record.hold_by = Some(world::person(3, value));
        }
        "related" => case.related = Some((Relation::from_word(value).unwrap(), Some(world::record()))),
        "related.missing" => case.related.as_mut().unwrap().1 = None,
        "related.day" => {
            case.related.as_mut().unwrap().1.as_mut().unwrap().clinical_day = value.parse().unwrap();
        }
        "related.author" => case.related.as_mut().unwrap().1.as_mut().unwrap().author_facility = value.into(),
        "related.hidden" => case.related.as_mut().unwrap().1.as_mut().unwrap().hidden = true,
        "related.addressees" => case.related.as_mut().unwrap().1.as_mut().unwrap().addressees = list(value),
        other => panic!("unknown change {other}"),
    }
}

fn change_emergency(case: &mut Case, key: &str, value: &str) {
    let profession = |word: &str| Profession::from_word(word).unwrap().number();
    match key {
        "emergency" => {
            case.emergency = Some((value != "none").then(world::episode));
        }
        "episode.user" => case.emergency.as_mut().unwrap().as_mut().unwrap().user = value.into(),
        "episode.facility" => case.emergency.as_mut().unwrap().as_mut().unwrap().facility = value.into(),
        "episode.application" => case.emergency.as_mut().unwrap().as_mut().unwrap().application = value.into(),
        "episode.participant" => case.emergency.as_mut().unwrap().as_mut().unwrap().number = value.into(),
        "episode.consent" => case.emergency.as_mut().unwrap().as_mut().unwrap().consent_number = None,
        "episode.expires" => case.emergency.as_mut().unwrap().as_mut().unwrap().expires_ms = at(value),
        "disaster" => case.disaster = Some(world::disaster()),
        "disaster.from" => case.disaster.as_mut().unwrap().from_ms = at(value),
        "disaster.until" => case.disaster.as_mut().unwrap().until_ms = at(value),
        "disaster.professions" => case.disaster.as_mut().unwrap().professions = numbers(value, profession),
        "disaster.facilities" => case.disaster.as_mut().unwrap().facilities = list(value),
        "disaster.kinds" => {
            let kind = |word: &str| crate::word::FacilityKind::from_word(word).unwrap().number();
            case.disaster.as_mut().unwrap().facility_kinds = numbers(value, kind);
        }
        "disaster.factor" => case.disaster.as_mut().unwrap().caps_factor = value.parse().unwrap(),
        "disaster.ended" => case.disaster.as_mut().unwrap().ended_by = Some(world::person(3, "r1")),
        "opened.user" => case.counters[0] = Some(world::counter(value.parse().unwrap())),
        "opened.facility" => case.counters[1] = Some(world::counter(value.parse().unwrap())),
        "opened.application" => case.counters[2] = Some(world::counter(value.parse().unwrap())),
        "opened.credential" => case.counters[3] = Some(world::counter(value.parse().unwrap())),
        "opened.since" => {
            case.counters.iter_mut().flatten().for_each(|row| *row = world::counter_of(row.slices[0].count, at(value)));
        }
        other => panic!("unknown change {other}"),
    }
}

fn change_office(case: &mut Case, key: &str, value: &str) {
    let person = || match value {
        "P1" => world::person(2, value),
        name => world::person(3, name),
    };
    match key {
        "act" => case.pending = None,
        "act.state" => case.pending.as_mut().unwrap().state = ActState::from_word(value).unwrap().number(),
        "act.by" => case.pending.as_mut().unwrap().proposed_by = Some(person()),
        "act.credential" => {
            case.pending.as_mut().unwrap().proposed_by.as_mut().unwrap().credential_sha256 = value.to_owned().into();
        }
        "act.key" => {
            case.pending.as_mut().unwrap().proposed_by.as_mut().unwrap().key_sha256 = value.to_owned().into();
        }
        "act.expires" => case.pending.as_mut().unwrap().expires_ms = at(value),
        "base" => case.base = value.parse().unwrap(),
        "payload" => case.payload = value.into(),
        "erasure" if value == "none" => case.erasure = None,
        "erasure" => case.erasure = Some(world::erasure(ErasureState::from_word(value).unwrap())),
        "erasure.by" => case.erasure.as_mut().unwrap().asked_by = Some(person()),
        "erasure.grace" => case.erasure.as_mut().unwrap().grace_until_ms = at(value),
        "erasure.purged" => case.erasure.as_mut().unwrap().reports[1].purged_index = value.parse().unwrap(),
        "erasure.unswept" => case.erasure.as_mut().unwrap().swept_ms = 0,
        "erasure.checkpoints" => case.erasure.as_mut().unwrap().reports[1].checkpoints_gone = false,
        "erased" => case.erased.erased = value.parse().unwrap(),
        "erased.day" => case.erased.day = value.parse().unwrap(),
        "members" => case.members = numbers(value, |n| n.parse().unwrap()),
        "review" => {
            case.review = (value != "none")
                .then(|| ReviewRow { state: ReviewState::from_word(value).unwrap().number(), ..ReviewRow::default() });
        }
        "change" => case.change = value.into(),
        other => panic!("unknown change {other}"),
    }
}

fn change_rest(case: &mut Case, key: &str, value: &str) {
    match key {
        "actor" => {
            case.actor = ActorKind::from_word(value).unwrap();
            let name = match case.actor {
                ActorKind::Participant => "P1",
                ActorKind::Registrar => "r1",
                _ => "somebody",
            };
            case.person = world::person(case.actor.number(), name);
            if case.actor == ActorKind::Participant {
                case.purpose = Some(Purpose::Own);
            }
        }
        "purpose" if value == "none" => case.purpose = None,
        "purpose" => case.purpose = Some(Purpose::from_word(value).unwrap()),
        "beneficiary" if value == "none" => case.beneficiary = None,
        "beneficiary" => case.beneficiary = Some(world::facility(value)),
        "beneficiary.status" => {
            case.beneficiary.as_mut().unwrap().status = Status::from_word(value).unwrap().number();
        }
        "own-grants" => case.own_grants = Some(world::counter(value.parse().unwrap())),
        "own-grants.since" => {
            case.own_grants = case.own_grants.take().map(|row| world::counter_of(row.slices[0].count, at(value)));
        }
        "returned" => case.returned = Some(world::counter_of(1, at(value))),
        "reviewed" => case.reviewed = true,
        "named" => case.named = value.into(),
        "registered" => case.registered = value == "yes",
        "duplicate" if value == "none" => case.duplicate = None,
        "duplicate" => case.duplicate.as_mut().unwrap().number = value.into(),
        "duplicate.withdrawn" => world::leave(case.duplicate.as_mut().unwrap(), 5),
        "duplicate.alias" => case.duplicate.as_mut().unwrap().alias_of = "P9".into(),
        "addressees" => case.addressees = list(value),
        "class" => case.class = Class::from_word(value).unwrap(),
        "body-day" => case.body_day = Some(value.parse().unwrap()),
        "day" => case.day = value.parse().unwrap(),
        "evidence" => case.evidence = value.into(),
        "reason" => case.reason = value.into(),
        "proxy" => case.proxy = value.into(),
        "relation" => case.relation = value.into(),
        "own-records" => case.own_records = true,
        "secondary-use" => case.secondary_use = true,
        "card" if value == "none" => case.card = None,
        "card" => case.card.as_mut().unwrap().replaced_ms = 5,
        "taken" => case.taken = true,
        "settings.participants-read" => case.settings.participants_read = value == "yes",
        "settings.emergency-credential" => case.settings.emergency_credential = value == "yes",
        "settings.own-grants" => case.settings.own_grants_max = value.parse().unwrap(),
        other => panic!("unknown change {other}"),
    }
}

/// Runs `with` on the change of the registry that a case names.
fn with_change<T>(name: &str, with: impl FnOnce(Change<'_>) -> T) -> T {
    let (what, how) = name.split_once('-').unwrap_or((name, ""));
    match what {
        "user" => with(Change::User),
        "disaster" => with(Change::Disaster),
        "alias" => with(Change::Alias),
        "facility" => {
            let (before, after) = facility_change(how);
            with(Change::Facility { before: before.as_ref(), after: &after })
        }
        "application" => {
            let (before, after) = application_change(how);
            with(Change::Application { before: before.as_ref(), after: &after })
        }
        "settings" => {
            let emergency_user_max = if how == "widen" { 11 } else { 1 };
            let mut after = Settings::default();
            after.emergency_user_max = emergency_user_max;
            with(Change::Settings { before: &Settings::default(), after: &after })
        }
        other => panic!("unknown change of the registry {other}"),
    }
}

fn facility_change(how: &str) -> (Option<Facility>, Facility) {
    let plain = world::facility("F1");
    let flagged = |status| Facility { emergency: true, status, ..world::facility("F1") };
    match how {
        "" => (None, plain),
        "new-flagged" => (None, flagged(1)),
        "flag" => (Some(plain), flagged(1)),
        "flag-suspended" => (Some(plain), flagged(2)),
        "unflag" => (Some(flagged(1)), plain),
        "flagged-suspend" => (Some(flagged(1)), flagged(2)),
        "flagged-back" => (Some(flagged(2)), flagged(1)),
        "same" => (Some(plain.clone()), plain),
        "renamed" => (Some(plain.clone()), Facility { name: "new".into(), ..plain }),
        "back" => (Some(Facility { status: 2, ..plain.clone() }), plain),
        "becomes-hospital" => (Some(Facility { kind: 2, ..plain.clone() }), plain),
        "becomes-clinic" => (Some(plain.clone()), Facility { kind: 2, ..plain }),
        other => panic!("unknown change of a facility {other}"),
    }
}

fn application_change(how: &str) -> (Option<Application>, Application) {
    let plain = world::application();
    let with = |alter: fn(&mut Application)| {
        let mut application = world::application();
        alter(&mut application);
        application
    };
    match how {
        "new" => (None, plain),
        "same" => (Some(plain.clone()), plain),
        "add-facility" => (Some(plain), with(|a| a.facilities.push("F3".into()))),
        "swap-facility" => (Some(plain), with(|a| a.facilities[1] = "F3".into())),
        "drop-facility" => (Some(plain), with(|a| a.facilities.truncate(1))),
        "narrow-line" => (Some(plain), with(|a| a.access_line = 2)),
        "widen-line" => (Some(with(|a| a.access_line = 2)), plain),
        "participants" => (Some(with(|a| a.participants = false)), plain),
        "suspend" => (Some(plain), with(|a| a.status = 2)),
        "back" => (Some(with(|a| a.status = 2)), plain),
        other => panic!("unknown change of an application {other}"),
    }
}

fn answer(case: &Case) -> String {
    with_change(&case.change, |change| answer_with(case, change))
}

fn answer_with(case: &Case, change: Change<'_>) -> String {
    let record = case.record.as_ref().map(|control| RecordFacts { control, alias_day: case.alias_day });
    let related = case.related.as_ref().map(|(relation, control)| Related {
        relation: *relation,
        record: control.as_ref().map(|control| RecordFacts { control, alias_day: case.alias_day }),
    });
    let (evidence, reason) = (&case.evidence[..], &case.reason[..]);
    let erasure = case.erasure.as_ref();
    let write = |earlier| Act::Write {
        class: case.class,
        clinical_day: case.day,
        addressees: &case.addressees,
        earlier,
        body_day: case.body_day,
        related,
    };
    let terms = ConsentTerms {
        signed_day: case.day,
        proxy: &case.proxy,
        proxy_relation: &case.relation,
        evidence,
        own_records: case.own_records,
        secondary_use: case.secondary_use,
    };
    let [user, facility, application, credential] = [0, 1, 2, 3].map(|place: usize| case.counters[place].as_ref());
    let confirmation = Confirmation {
        act: case.pending.as_ref(),
        base: Revision { timeline: 0, index: case.base },
        payload_sha256: case.payload.as_bytes(),
    };
    let act = match &case.act[..] {
        "enrol" => Act::Enrol { terms, erasure },
        "link" => Act::Link,
        "relink" => Act::Relink { reason },
        "resolve" => Act::Resolve,
        "reverse-resolve" => Act::ReverseResolve,
        "issue-card" => Act::IssueCard { taken: case.taken, evidence },
        "resolve-card" => Act::ResolveCard { card: case.card.as_ref() },
        "alias" => Act::Alias { duplicate: case.duplicate.as_ref(), evidence, second: None },
        "confirm-alias" => Act::Alias { duplicate: case.duplicate.as_ref(), evidence, second: Some(confirmation) },
        "grant" => Act::Grant {
            beneficiary: case.beneficiary.as_ref(),
            evidence,
            own_grants: case.own_grants.as_ref(),
            returned: case.returned.as_ref(),
            reviewed: case.reviewed,
        },
        "revoke" => Act::Revoke { named: &case.named, registered: case.registered, evidence },
        "withdraw" => Act::Withdraw { evidence },
        "show" => Act::ShowConsent,
        "accesses" => Act::ListAccesses,
        "write" => write(None),
        "version" => write(Some(record)),
        "list" => Act::List,
        "read" => Act::Read { record },
        "read-several" => Act::ReadSeveral,
        "hide" => Act::Hide { record, hidden: true },
        "show-again" => Act::Hide { record, hidden: false },
        "narrow" => Act::Narrow { record, addressees: &case.addressees },
        "hold" => Act::Hold { record, evidence },
        "release" => Act::Release { record, evidence },
        "open-emergency" => {
            Act::OpenEmergency { reason, counters: EmergencyCounters { user, credential, facility, application } }
        }
        "inbox" => Act::Inbox,
        "granted" => Act::ListGranted,
        "facility-accesses" => Act::ListFacilityAccesses,
        "journal" => Act::ListJournal,
        "reviews" => Act::ListReviews,
        "review" => Act::Review { review: case.review.as_ref() },
        "registry" => Act::ListRegistry,
        "register" => Act::Register { change },
        "propose" => Act::Propose { change },
        "confirm" => Act::Confirm(confirmation),
        "reject" => Act::Reject { act: case.pending.as_ref() },
        "acts" => Act::ListActs,
        "end-disaster" => Act::EndDisaster,
        "ask-erasure" => Act::AskErasure { erasure, evidence },
        "approve-erasure" => Act::ApproveErasure { erasure },
        "stop-erasure" => Act::StopErasure { erasure },
        "erase" => Act::Erase { erasure, day: Some(&case.erased) },
        "certify-erasure" => Act::CertifyErasure { erasure, members: &case.members },
        other => panic!("unknown act {other}"),
    };
    let decision = decide(&Facts {
        now_ms: NOW_MS,
        actor: match case.actor {
            ActorKind::FacilityUser => Actor::FacilityUser,
            ActorKind::Participant => Actor::Participant,
            ActorKind::Registrar => Actor::Registrar,
            ActorKind::Auditor => Actor::Auditor,
            ActorKind::Operator | ActorKind::Application => Actor::Operator,
            ActorKind::Recovery => Actor::Recovery,
            ActorKind::Cluster => Actor::Cluster,
        },
        person: &case.person,
        act,
        purpose: case.purpose,
        emergency: case.emergency.as_ref().map(|episode| Emergency { episode: episode.as_ref() }),
        application: case.application.as_ref(),
        facility: case.facility.as_ref(),
        user: case.user.as_ref(),
        participant: case.participant.as_ref(),
        settings: &case.settings,
        disaster: case.disaster.as_ref(),
    });
    match decision {
        Decision::Permit { basis, valid_until_ms: 0 } => format!("permit {}", basis.word()),
        Decision::Permit { basis, valid_until_ms } => {
            format!("permit {} until +{}", basis.word(), (valid_until_ms - NOW_MS) / MINUTE_MS)
        }
        Decision::Deny { reason } => format!("deny {}", reason.word()),
    }
}

#[test]
fn every_case_is_answered_as_written() {
    let mut seen = std::collections::HashSet::new();
    let mut wrong = Vec::new();
    let lines = include_str!("../cases.txt").lines().enumerate();
    for (number, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [act, changes, expected] = fields[..] else { panic!("line {}: three fields", number + 1) };
        let mut case = base(act);
        changes.split_whitespace().for_each(|word| change(&mut case, word));
        let given = answer(&case);
        if given != expected {
            wrong.push(format!("line {}: {line}\n    answered {given}", number + 1));
        }
        seen.insert(given.split(" until").next().unwrap().to_owned());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A reason or a ground without a case is a rule without a test.
    // Certificates are refused before any rule is asked.
    let ruled = Denial::ALL.iter().filter(|denial| **denial != Denial::Certificate);
    let reasons = ruled.map(|d| format!("deny {}", d.word()));
    // Operators' acts (approving members) do not pass `decide`.
    let grounds = Basis::ALL.iter().filter(|b| **b != Basis::Operator).map(|b| format!("permit {}", b.word()));
    let unseen: Vec<_> = reasons.chain(grounds).filter(|answer| !seen.contains(answer)).collect();
    assert_eq!(unseen, Vec::<String>::new());
}
