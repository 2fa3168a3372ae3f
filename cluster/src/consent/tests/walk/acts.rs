//! The acts, each with the facts that it looks at.

use super::super::*;
use super::{PURPOSES, TEXTS, Walk, altered, as_office, as_participant, check, facts_of, under_alias, world};
use crate::id::Revision;
use crate::row::{ActRow, Application, CardRow, ErasureDayRow, Facility, ReviewRow};
use crate::word::{Class, ErasureState, Purpose, Relation};

/// Days of the consent under a number that became an alias: none, an earlier and a later one than the participant's.
const ALIAS_DAYS: [Option<i32>; 3] = [None, Some(99), Some(101)];

/// Listing and reading.
pub fn looking() -> Walk {
    let mut walk = Walk::new();
    for act in [Act::List, Act::ReadSeveral] {
        as_user!(walk, act, purposes: &PURPOSES, emergencies: &walk.episodes, disasters: &walk.disasters);
    }
    for record in &walk.records {
        let act = Act::Read { record: facts_of(record) };
        as_user!(walk, act, purposes: &[Some(Purpose::Care)], emergencies: &walk.episodes, disasters: &walk.disasters[..5]);
    }
    for record in &walk.few_records {
        for alias_day in ALIAS_DAYS {
            let act = Act::Read { record: under_alias(record, alias_day) };
            as_user!(walk, act, purposes: &PURPOSES, emergencies: &walk.episodes[..3], disasters: &[None]);
        }
    }
    walk
}

/// Opening emergencies.
pub fn opening() -> Walk {
    let mut walk = Walk::new();
    let counts = |cap: u32| {
        let over = world::counter_of(2 * cap, NOW_MS - DAY_MS);
        [None, Some(world::counter(cap - 1)), Some(world::counter(cap)), Some(world::counter(2 * cap)), Some(over)]
    };
    let (users, facilities, applications) = (counts(10), counts(50), counts(200));
    for credential in [true, false] {
        walk.settings.emergency_credential = credential;
        for user in &users {
            for facility in &facilities[1..] {
                for application in &applications[1..4] {
                    for reason in TEXTS {
                        let counters = EmergencyCounters {
                            user: user.as_ref(),
                            credential: None,
                            facility: facility.as_ref(),
                            application: application.as_ref(),
                        };
                        let act = Act::OpenEmergency { reason, counters };
                        let episodes = &walk.episodes[..1];
                        as_user!(walk, act, purposes: &PURPOSES[..2], emergencies: episodes, disasters: &walk.disasters);
                    }
                }
            }
        }
    }
    for credential in &users {
        let counters = EmergencyCounters { credential: credential.as_ref(), ..EmergencyCounters::default() };
        let act = Act::OpenEmergency { reason: "text", counters };
        as_user!(walk, act, purposes: &PURPOSES[1..2], emergencies: &walk.episodes[..1], disasters: &walk.disasters);
    }
    walk.settings.emergency_credential = true;
    for episode in [1, 2] {
        let act = Act::OpenEmergency { reason: "text", counters: EmergencyCounters::default() };
        let episodes = &walk.episodes[episode..=episode];
        as_user!(walk, act, purposes: &PURPOSES, emergencies: episodes, disasters: &walk.disasters);
    }
    walk
}

/// Writing, narrowing, hiding.
pub fn writing() -> Walk {
    let mut walk = Walk::new();
    let lists: [Vec<String>; 4] = [vec![], vec!["F1".into()], vec!["F2".into()], vec!["F2".into(), "F3".into()]];
    let days = [99, 100, 201, 202];
    let classes = [Class::ReferralLetter, Class::LaboratoryResult, Class::Prescription, Class::Personal];
    let write = |class, clinical_day, addressees, earlier, related| Act::Write {
        class,
        clinical_day,
        addressees,
        earlier,
        body_day: None,
        related,
    };
    // What is written, to whom, as a version of what.
    for class in classes {
        for day in days {
            for addressees in &lists {
                as_user!(walk, write(class, day, addressees, None, None));
            }
        }
    }
    for addressees in &lists {
        for record in &walk.records {
            as_user!(walk, write(Class::ReferralLetter, 150, addressees, Some(facts_of(record)), None));
            as_user!(walk, Act::Narrow { record: facts_of(record), addressees });
            for relation in Relation::ALL {
                let related = Some(Related { relation: *relation, record: facts_of(record) });
                as_user!(walk, write(Class::ReferralLetter, 150, addressees, None, related));
            }
        }
    }
    // As a version of one and with reference to another.
    for earlier in &walk.few_records {
        for record in &walk.few_records {
            for relation in Relation::ALL {
                let related = Some(Related { relation: *relation, record: facts_of(record) });
                let addressees = &lists[2];
                as_user!(walk, write(Class::ReferralLetter, 150, addressees, Some(facts_of(earlier)), related));
            }
        }
    }
    for record in &walk.records {
        for hidden in [false, true] {
            as_user!(walk, Act::Hide { record: facts_of(record), hidden });
        }
    }
    // What lies under a number that became an alias.
    for record in &walk.few_records {
        for alias_day in ALIAS_DAYS {
            let (record, addressees) = (under_alias(record, alias_day), &lists[2]);
            as_user!(walk, Act::Hide { record, hidden: true });
            as_user!(walk, Act::Narrow { record, addressees });
            for clinical_day in [100, 101] {
                for body_day in [None, Some(99), Some(100), Some(101)] {
                    let (class, earlier) = (Class::ReferralLetter, Some(record));
                    as_user!(walk, Act::Write { class, clinical_day, addressees, earlier, body_day, related: None });
                }
            }
            for relation in Relation::ALL {
                let related = Some(Related { relation: *relation, record });
                as_user!(walk, write(Class::ReferralLetter, 150, addressees, None, related));
            }
        }
    }
    walk
}

/// Enrolment, cards, grants, withdrawal.
pub fn consenting() -> Walk {
    let mut walk = Walk::new();
    for signed_day in [149, 150, 200, 201] {
        for evidence in TEXTS {
            for (proxy, proxy_relation) in [("", ""), ("", "mother"), ("Mother", ""), ("Mother", "mother")] {
                for (own_records, secondary_use) in [(false, false), (true, false), (false, true)] {
                    for erasure in &walk.erasures {
                        let terms =
                            ConsentTerms { signed_day, proxy, proxy_relation, evidence, own_records, secondary_use };
                        as_user!(walk, Act::Enrol { terms, erasure: erasure.as_ref() });
                    }
                }
            }
        }
    }
    let beneficiaries = [
        None,
        Some(world::facility("F1")),
        Some(world::facility("F3")),
        Some(altered(&world::facility("F1"), |f| f.status = 2)),
    ];
    let counts =
        [None, Some(world::counter(99)), Some(world::counter(100)), Some(world::counter_of(100, NOW_MS - DAY_MS))];
    for evidence in TEXTS {
        for beneficiary in beneficiaries.iter().map(Option::as_ref) {
            for own_grants in counts.iter().map(Option::as_ref) {
                for returned in [None, Some(&counts[1]), Some(&counts[3])].map(|row| row.and_then(Option::as_ref)) {
                    for reviewed in [false, true] {
                        let act = Act::Grant { beneficiary, evidence, own_grants, returned, reviewed };
                        as_user!(walk, act);
                        as_participant(&mut walk, act);
                    }
                }
            }
        }
        for taken in [false, true] {
            as_user!(walk, Act::IssueCard { taken, evidence });
            as_office(&mut walk, Act::IssueCard { taken, evidence });
        }
        for act in [
            Act::Revoke { named: "F2", registered: true, evidence },
            Act::Revoke { named: "F3", registered: true, evidence },
            Act::Revoke { named: "F3", registered: false, evidence },
            Act::Withdraw { evidence },
            Act::Relink { reason: evidence },
        ] {
            as_user!(walk, act);
            as_participant(&mut walk, act);
            as_office(&mut walk, act);
        }
    }
    let cards = [None, Some(CardRow::default()), Some(CardRow { replaced_ms: 5, ..CardRow::default() })];
    for card in cards.iter().map(Option::as_ref) {
        as_user!(walk, Act::ResolveCard { card });
    }
    walk
}

/// Erasure, legal hold, aliases.
pub fn offices() -> Walk {
    let mut walk = Walk::new();
    erasure(&mut walk);
    let held = |name: &str| {
        altered(&world::record(), |r| {
            (r.hold, r.hold_by) = (true, Some(altered(&world::person(3, name), |p| p.credential_sha256 = "bb".into())));
        })
    };
    for record in [None, Some(world::record()), Some(held("r1")), Some(held("r3"))] {
        for evidence in TEXTS {
            as_office(&mut walk, Act::Hold { record: facts_of(&record), evidence });
            as_office(&mut walk, Act::Release { record: facts_of(&record), evidence });
        }
    }
    // What is hidden and narrowed again from a former member's disk.
    for record in walk.few_records.clone() {
        for hidden in [false, true] {
            as_office(&mut walk, Act::Hide { record: facts_of(&record), hidden });
        }
        for addressees in [&[][..], &["F2".to_owned()], &["F2".to_owned(), "F3".to_owned()]] {
            as_office(&mut walk, Act::Narrow { record: facts_of(&record), addressees });
        }
    }
    let duplicate = altered(&world::participant(), |p| p.number = "P2".into());
    let duplicates = [
        None,
        Some(duplicate.clone()),
        Some(world::participant()),
        Some(altered(&duplicate, |p| p.alias_of = "P9".into())),
        Some(altered(&duplicate, |p| world::leave(p, 5))),
    ];
    for evidence in TEXTS {
        for duplicate in duplicates.iter().map(Option::as_ref) {
            as_office(&mut walk, Act::Alias { duplicate, evidence, second: None });
            for act in acts().iter().map(Option::as_ref) {
                let base = Revision { timeline: 0, index: 7 };
                let second = Some(Confirmation { act, base, payload_sha256: b"seven" });
                as_office(&mut walk, Act::Alias { duplicate, evidence, second });
            }
        }
    }
    walk
}

/// What one registrar changes, what two do, and reviews.
pub fn registry() -> Walk {
    let mut walked = Walk::new();
    let walk = &mut walked;
    // No participant is looked at, and a disaster only for facilities.
    walk.participants.truncate(2);
    let mut facilities = Vec::new();
    for status in [1, 2, 3] {
        for emergency in [false, true] {
            for kind in [1, 2] {
                facilities.push(Facility { status, emergency, kind, ..world::facility("F1") });
            }
        }
    }
    let others = facilities.clone().into_iter().chain([altered(&facilities[0], |f| f.access_line = 2)]);
    for after in &facilities {
        for before in others.clone().map(Some).chain([None]) {
            let change = Change::Facility { before: before.as_ref(), after };
            as_office(walk, Act::Register { change });
        }
    }
    walk.disasters.truncate(1);
    let mut applications = Vec::new();
    for status in [1, 2] {
        for participants in [false, true] {
            for access_line in [1, 2] {
                for ids in [&["F1"][..], &["F2"], &["F1", "F2"], &[]] {
                    let facilities = ids.iter().map(|id| (*id).to_owned()).collect();
                    applications.push(Application {
                        status,
                        participants,
                        access_line,
                        facilities,
                        ..world::application()
                    });
                }
            }
        }
    }
    let settings = [9, 10, 11].map(|cap| altered(&Settings::default(), |s| s.emergency_user_max = cap));
    let mut changes = vec![Change::User, Change::Disaster, Change::Alias];
    changes.push(Change::Facility { before: None, after: &facilities[0] });
    for after in &applications {
        let before = applications.iter().map(Some).chain([None]);
        changes.extend(before.map(|before| Change::Application { before, after }));
    }
    for before in &settings {
        changes.extend(settings.iter().map(|after| Change::Settings { before, after }));
    }
    for change in changes {
        as_office(walk, Act::Register { change });
        as_office(walk, Act::Propose { change });
    }
    let acts = acts();
    for act in acts.iter().map(Option::as_ref) {
        for base in [(0, 7), (0, 8), (1, 7)].map(|(timeline, index)| Revision { timeline, index }) {
            for payload_sha256 in [&b"seven"[..], b"eight", b""] {
                as_office(walk, Act::Confirm(Confirmation { act, base, payload_sha256 }));
            }
        }
        as_office(walk, Act::Reject { act });
    }
    let reviews = [None, Some(1), Some(2)].map(|state| state.map(|state| ReviewRow { state, ..ReviewRow::default() }));
    for review in reviews.iter().map(Option::as_ref) {
        as_office(walk, Act::Review { review });
    }
    walked
}

/// Acts, each in another state.
fn acts() -> Vec<Option<ActRow>> {
    let mut acts: Vec<Option<ActRow>> = vec![None];
    for state in [1, 2, 3] {
        for expires_ms in [NOW_MS, NOW_MS + 1] {
            for proposed_by in [None, Some("r1"), Some("r2")] {
                for credential in ["", "aa"] {
                    let by = |name| altered(&world::person(3, name), |p| p.credential_sha256 = credential.into());
                    let proposed_by = proposed_by.map(by);
                    acts.push(Some(ActRow { state, expires_ms, proposed_by, ..world::act() }));
                }
            }
        }
    }
    acts
}

fn erasure(walk: &mut Walk) {
    let mut erasures = walk.erasures.clone();
    for state in ErasureState::ALL {
        let row = world::erasure(*state);
        erasures.push(Some(altered(&row, |e| e.grace_until_ms = NOW_MS + 1)));
        erasures.push(Some(altered(&row, |e| e.asked_by = None)));
        erasures.push(Some(altered(&row, |e| e.asked_by = Some(world::person(2, "r1")))));
        erasures.push(Some(altered(&row, |e| e.reports[0].purged_index = 49)));
        erasures.push(Some(altered(&row, |e| e.reports[0].log_compacted = false)));
        erasures.push(Some(altered(&row, |e| e.reports[0].keys_compacted = false)));
        erasures.push(Some(altered(&row, |e| e.reports[0].checkpoints_gone = false)));
        erasures.push(Some(altered(&row, |e| e.swept_ms = 0)));
    }
    let days = [None, Some((200, 9)), Some((200, 10)), Some((199, 10))];
    let days = days.map(|day| day.map(|(day, erased)| ErasureDayRow { day, erased }));
    for erasure in erasures.iter().map(Option::as_ref) {
        for evidence in TEXTS {
            as_office(walk, Act::AskErasure { erasure, evidence });
            as_participant(walk, Act::AskErasure { erasure, evidence });
        }
        as_office(walk, Act::ApproveErasure { erasure });
        as_office(walk, Act::StopErasure { erasure });
        as_participant(walk, Act::StopErasure { erasure });
        for day in days.iter().map(Option::as_ref) {
            as_office(walk, Act::Erase { erasure, day });
        }
        for members in [&[][..], &[1], &[2], &[1, 2], &[1, 2, 3]] {
            as_office(walk, Act::CertifyErasure { erasure, members });
        }
    }
}

/// Every act by every actor: who may do what at all.
pub fn everybody() -> Walk {
    let mut walk = Walk::new();
    let (record, erasure, act) = (world::record(), world::erasure(ErasureState::Asked), world::act());
    let (review, card) = (ReviewRow { state: 1, ..ReviewRow::default() }, CardRow::default());
    let beneficiary = world::facility("F3");
    let duplicate = altered(&world::participant(), |p| p.number = "P2".into());
    let record = Some(RecordFacts { control: &record, alias_day: None });
    let (erasure, act) = (Some(&erasure), Some(&act));
    let terms = ConsentTerms {
        signed_day: 180,
        proxy: "",
        proxy_relation: "",
        evidence: "text",
        own_records: false,
        secondary_use: false,
    };
    let change = Change::User;
    let acts = [
        Act::Enrol { terms, erasure: None },
        Act::Link,
        Act::Relink { reason: "text" },
        Act::Resolve,
        Act::ReverseResolve,
        Act::IssueCard { taken: false, evidence: "text" },
        Act::ResolveCard { card: Some(&card) },
        Act::Alias { duplicate: Some(&duplicate), evidence: "text", second: None },
        Act::Grant {
            beneficiary: Some(&beneficiary),
            evidence: "text",
            own_grants: None,
            returned: None,
            reviewed: false,
        },
        Act::Revoke { named: "F2", registered: true, evidence: "text" },
        Act::Withdraw { evidence: "text" },
        Act::ShowConsent,
        Act::ListAccesses,
        Act::Write {
            class: Class::Document,
            clinical_day: 150,
            addressees: &[],
            earlier: None,
            body_day: None,
            related: None,
        },
        Act::List,
        Act::Read { record },
        Act::ReadSeveral,
        Act::Hide { record, hidden: true },
        Act::Hide { record, hidden: false },
        Act::Narrow { record, addressees: &[] },
        Act::Hold { record, evidence: "text" },
        Act::Release { record, evidence: "text" },
        Act::OpenEmergency { reason: "text", counters: EmergencyCounters::default() },
        Act::Inbox,
        Act::ListGranted,
        Act::ListFacilityAccesses,
        Act::ListJournal,
        Act::ListReviews,
        Act::Review { review: Some(&review) },
        Act::ListRegistry,
        Act::Register { change },
        Act::Propose { change },
        Act::Confirm(Confirmation { act, base: Revision { timeline: 0, index: 7 }, payload_sha256: b"seven" }),
        Act::Reject { act },
        Act::ListActs,
        Act::EndDisaster,
        Act::AskErasure { erasure: None, evidence: "text" },
        Act::ApproveErasure { erasure },
        Act::StopErasure { erasure },
        Act::Erase { erasure, day: None },
        Act::CertifyErasure { erasure, members: &[1] },
    ];
    for participants_read in [true, false] {
        walk.settings.participants_read = participants_read;
        for act in acts {
            as_user!(walk, act, purposes: &PURPOSES, emergencies: &walk.episodes[..3], disasters: &[None]);
            as_participant(&mut walk, act);
            as_office(&mut walk, act);
        }
    }
    walk.settings.participants_read = true;
    for record in walk.records.clone() {
        as_participant(&mut walk, Act::Read { record: facts_of(&record) });
    }
    walk
}
