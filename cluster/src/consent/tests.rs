//! The case table.

use super::*;
use crate::row::{Application, Grant, RecordControl, User};
use crate::word::Profession;

const DAY_MS: u64 = 86_400_000;

struct Case {
    act: String,
    actor: Actor,
    purpose: Option<Purpose>,
    credential: String,
    application: Option<Application>,
    facility: Option<Facility>,
    user: Option<User>,
    participant: Option<Participant>,
    record: Option<RecordControl>,
    beneficiary: Option<Facility>,
    addressees: Vec<String>,
    class: Class,
    day: i32,
    evidence: String,
}

fn facility(id: &str) -> Facility {
    Facility { id: id.into(), kind: 1, status: 1, access_line: 1, ..Facility::default() }
}

fn base(act: &str) -> Case {
    let grant = |facility: &str| Grant { facility: facility.into(), granted_ms: 1, ..Grant::default() };
    Case {
        act: act.into(),
        actor: Actor::FacilityUser,
        purpose: Some(Purpose::Care),
        credential: String::new(),
        application: Some(Application {
            name: "app".into(),
            access_line: 1,
            facilities: vec!["F1".into(), "F2".into()],
            status: 1,
            participants: true,
        }),
        facility: Some(facility("F1")),
        user: Some(User { id: "u1".into(), facility: "F1".into(), profession: 1, status: 1, ..User::default() }),
        participant: Some(Participant {
            consents: vec![ParticipationConsent { signed_day: 100, ..ParticipationConsent::default() }],
            grants: vec![grant("F1"), grant("F2")],
            ..Participant::default()
        }),
        record: Some(RecordControl {
            version: 1,
            author_facility: "F2".into(),
            class: Class::LaboratoryResult.number(),
            clinical_day: 150,
            ..RecordControl::default()
        }),
        beneficiary: Some(facility("F3")),
        addressees: vec![],
        class: Class::ReferralLetter,
        day: 180,
        evidence: "form 12".into(),
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

fn change(case: &mut Case, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let status = || Status::from_word(value).unwrap().number();
    let line = || AccessLine::from_word(value).unwrap().number();
    match key {
        "actor" => {
            case.actor = match value {
                "registrar" => Actor::Registrar,
                "participant" => Actor::Participant,
                other => panic!("actor {other}"),
            }
        }
        "purpose" => case.purpose = Some(Purpose::from_word(value).unwrap()),
        "credential" => case.credential = value.into(),
        "application" => case.application = None,
        "application.status" => case.application.as_mut().unwrap().status = status(),
        "application.facilities" => case.application.as_mut().unwrap().facilities = list(value),
        "application.line" => case.application.as_mut().unwrap().access_line = line(),
        "application.participants" => case.application.as_mut().unwrap().participants = value == "yes",
        "facility" => case.facility = None,
        "facility.status" => case.facility.as_mut().unwrap().status = status(),
        "facility.line" => case.facility.as_mut().unwrap().access_line = line(),
        "user" => case.user = None,
        "user.status" => case.user.as_mut().unwrap().status = status(),
        "user.facility" => case.user.as_mut().unwrap().facility = value.into(),
        "user.credential" => case.user.as_mut().unwrap().credential_sha256 = value.to_owned().into(),
        "user.profession" => case.user.as_mut().unwrap().profession = Profession::from_word(value).unwrap().number(),
        "participant" => case.participant = None,
        "withdrawn" => case.participant.as_mut().unwrap().consents[0].withdrawn_ms = 5,
        "revoked" => case.participant.as_mut().unwrap().grants[0].revoked_ms = 5,
        "grants" => case.participant.as_mut().unwrap().grants.retain(|g| list(value).contains(&g.facility)),
        "record" => case.record = None,
        "record.hidden" => case.record.as_mut().unwrap().hidden = true,
        "record.author" => case.record.as_mut().unwrap().author_facility = value.into(),
        "record.day" => case.record.as_mut().unwrap().clinical_day = value.parse().unwrap(),
        "record.addressees" => case.record.as_mut().unwrap().addressees = list(value),
        "beneficiary" => case.beneficiary = None,
        "beneficiary.status" => case.beneficiary.as_mut().unwrap().status = status(),
        "addressees" => case.addressees = list(value),
        "class" => case.class = Class::from_word(value).unwrap(),
        "day" => case.day = value.parse().unwrap(),
        "evidence" => case.evidence = value.into(),
        other => panic!("unknown change {other}"),
    }
}

fn answer(case: &Case) -> String {
    let record = case.record.as_ref().map(|control| RecordFacts { control });
    let evidence = &case.evidence[..];
    let write =
        |earlier| Act::Write { class: case.class, clinical_day: case.day, addressees: &case.addressees, earlier };
    let act = match &case.act[..] {
        "enrol" => Act::Enrol { signed_day: case.day, evidence },
        "link" => Act::Link,
        "resolve" => Act::Resolve,
        "grant" => Act::Grant { beneficiary: case.beneficiary.as_ref(), evidence },
        "revoke" => Act::Revoke { evidence },
        "withdraw" => Act::Withdraw { evidence },
        "show" => Act::ShowConsent,
        "accesses" => Act::ListAccesses,
        "write" => write(None),
        "version" => write(record),
        "list" => Act::List,
        "read" => Act::Read { record },
        "hide" => Act::Hide { record },
        "narrow" => Act::Narrow { record, addressees: &case.addressees },
        "inbox" => Act::Inbox,
        "granted" => Act::ListGranted,
        "register" => Act::Register,
        other => panic!("unknown act {other}"),
    };
    let decision = decide(&Facts {
        now_ms: 200 * DAY_MS,
        actor: case.actor,
        act,
        purpose: case.purpose,
        credential_sha256: case.credential.clone().into(),
        application: case.application.as_ref(),
        facility: case.facility.as_ref(),
        user: case.user.as_ref(),
        participant: case.participant.as_ref(),
        settings: &Settings::default(),
    });
    match decision {
        Decision::Permit { basis, .. } => format!("permit {}", basis.word()),
        Decision::Deny { reason } => format!("deny {}", reason.word()),
    }
}

#[test]
fn every_case_is_answered_as_written() {
    let mut seen = std::collections::HashSet::new();
    let mut wrong = Vec::new();
    let lines = include_str!("cases.txt").lines().enumerate();
    for (number, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [act, changes, expected] = fields[..] else { panic!("line {}: three fields", number + 1) };
        let mut case = base(act);
        changes.split_whitespace().for_each(|word| change(&mut case, word));
        let given = answer(&case);
        if given != expected {
            wrong.push(format!("line {}: {line}\n    answered {given}", number + 1));
        }
        seen.insert(given);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A reason without a case is a rule without a test.
    let unseen = Denial::ALL.iter().map(|d| format!("deny {}", d.word())).filter(|d| !seen.contains(d));
    assert_eq!(unseen.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_day_changes_at_midnight_in_japan() {
    assert_eq!(japan_day(15 * 3_600_000 - 1), 0);
    assert_eq!(japan_day(15 * 3_600_000), 1);
}
