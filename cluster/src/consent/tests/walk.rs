//! `decide` held against the naive restatement over all combinations of facts: for each act the product
//! of small domains, in which every rule has something on either side of it.

use std::collections::BTreeSet;

use super::world;
use super::*;
use crate::row::{
    ActorRow, Application, DisasterRow, EpisodeRow, ErasureRow, Facility, Participant, RecordControl, User,
};
use crate::word::{ErasureState, Purpose};

const PURPOSES: [Option<Purpose>; 5] =
    [None, Some(Purpose::Care), Some(Purpose::Own), Some(Purpose::Audit), Some(Purpose::Secondary)];
const TEXTS: [&str; 2] = ["", "text"];

fn altered<T: Clone>(base: &T, alter: impl FnOnce(&mut T)) -> T {
    let mut row = base.clone();
    alter(&mut row);
    row
}

/// The domains, and what was seen.
struct Walk {
    applications: Vec<Option<Application>>,
    facilities: Vec<Option<Facility>>,
    users: Vec<Option<User>>,
    participants: Vec<Option<Participant>>,
    records: Vec<Option<RecordControl>>,
    few_records: Vec<Option<RecordControl>>,
    episodes: Vec<Option<Option<EpisodeRow>>>,
    disasters: Vec<Option<DisasterRow>>,
    erasures: Vec<Option<ErasureRow>>,
    settings: Settings,
    person: ActorRow,
    seen: BTreeSet<String>,
    count: u64,
}

impl Walk {
    fn new() -> Walk {
        let application = world::application();
        let facility = world::facility("F1");
        let user = world::user();
        let participant = world::participant();
        Walk {
            applications: vec![
                Some(application.clone()),
                None,
                Some(altered(&application, |a| a.status = 2)),
                Some(altered(&application, |a| a.facilities = vec!["F2".into()])),
                Some(altered(&application, |a| a.access_line = 2)),
                Some(altered(&application, |a| a.access_line = 9)),
                Some(altered(&application, |a| a.participants = false)),
            ],
            facilities: vec![
                Some(altered(&facility, |f| f.emergency = true)),
                Some(facility.clone()),
                None,
                Some(altered(&facility, |f| f.status = 3)),
                Some(altered(&facility, |f| (f.access_line, f.emergency) = (2, true))),
            ],
            users: vec![
                Some(user.clone()),
                Some(altered(&user, |u| u.credential_sha256 = "aa".into())),
                Some(altered(&user, |u| u.credential_sha256 = "bb".into())),
                Some(altered(&user, |u| u.profession = 4)),
                Some(altered(&user, |u| u.profession = 5)),
                Some(altered(&user, |u| (u.profession, u.lists_accesses) = (8, true))),
                Some(altered(&user, |u| u.status = 2)),
                Some(altered(&user, |u| u.facility = "F2".into())),
                None,
            ],
            participants: vec![
                Some(participant.clone()),
                None,
                Some(altered(&participant, |p| p.alias_of = "P9".into())),
                Some(altered(&participant, |p| p.grants.retain(|g| g.facility == "F2"))),
                // Named by another one's hand.
                Some(altered(&participant, |p| p.grants[0].by_participant = false)),
                // Enrolled by the facility, which nobody named yet, after every emergency was opened.
                Some(altered(&participant, |p| {
                    p.grants.retain(|g| g.facility == "F2");
                    let consent = p.consent.as_mut().unwrap();
                    (consent.entered_by, consent.history_number) = ("F1".into(), 3);
                })),
                // Taken back by the facility, which the other one named since.
                Some(altered(&participant, |p| {
                    let consent = p.consent.as_mut().unwrap();
                    (consent.entered_by, consent.review_id) = ("F1".into(), "review".into());
                    p.grants[0].by_participant = false;
                })),
                Some(world::withdrawn()),
                Some(altered(&world::withdrawn(), |p| p.held_records = 1)),
            ],
            records: records(&["F1", "F2"], &[99, 100], &[&[], &["F1"], &["F2"]], &[3, 7, 99]),
            few_records: records(&["F1", "F2"], &[99, 100], &[&[], &["F2"]], &[3]),
            episodes: vec![
                None,
                Some(None),
                Some(Some(world::episode())),
                Some(Some(altered(&world::episode(), |e| e.user = "u2".into()))),
                Some(Some(altered(&world::episode(), |e| e.facility = "F2".into()))),
                Some(Some(altered(&world::episode(), |e| e.application = "b".into()))),
                Some(Some(altered(&world::episode(), |e| e.number = "P2".into()))),
                Some(Some(altered(&world::episode(), |e| e.expires_ms = NOW_MS))),
            ],
            disasters: disasters(),
            erasures: [None]
                .into_iter()
                .chain(ErasureState::ALL.iter().map(|state| Some(world::erasure(*state))))
                .collect(),
            settings: Settings::default(),
            person: altered(&world::person(1, "u1"), |p| p.credential_sha256 = "aa".into()),
            seen: BTreeSet::new(),
            count: 0,
        }
    }
}

fn records(authors: &[&str], days: &[i32], addressees: &[&[&str]], classes: &[u32]) -> Vec<Option<RecordControl>> {
    let mut all = vec![None];
    for author in authors {
        for day in days {
            for to in addressees {
                for class in classes {
                    for hidden in [false, true] {
                        all.push(Some(RecordControl {
                            author_facility: (*author).into(),
                            clinical_day: *day,
                            addressees: to.iter().map(|id| (*id).to_owned()).collect(),
                            class: *class,
                            hidden,
                            ..world::record()
                        }));
                    }
                }
            }
        }
    }
    all
}

fn disasters() -> Vec<Option<DisasterRow>> {
    let widens =
        altered(&world::disaster(), |d| (d.professions, d.facility_kinds, d.caps_factor) = (vec![4, 8], vec![1], 2));
    vec![
        None,
        Some(world::disaster()),
        Some(widens.clone()),
        Some(altered(&world::disaster(), |d| d.facilities = vec!["F1".into()])),
        Some(altered(&widens, |d| d.until_ms = NOW_MS + 45 * MINUTE_MS)),
        Some(altered(&widens, |d| d.until_ms = NOW_MS)),
        Some(altered(&widens, |d| d.from_ms = NOW_MS + 1)),
        Some(altered(&widens, |d| d.ended_by = Some(world::person(3, "r1")))),
    ]
}

fn facts_of(record: &Option<RecordControl>) -> Option<RecordFacts<'_>> {
    under_alias(record, None)
}

/// The same, under a number that became an alias.
fn under_alias(record: &Option<RecordControl>, alias_day: Option<i32>) -> Option<RecordFacts<'_>> {
    record.as_ref().map(|control| RecordFacts { control, alias_day })
}

/// Decides both ways.
fn check(facts: &Facts<'_>, seen: &mut BTreeSet<String>, count: &mut u64) {
    let (given, expected) = (decide(facts), naive::answer(facts));
    let given_as = match given {
        Decision::Permit { basis, valid_until_ms } => Ok((basis, valid_until_ms)),
        Decision::Deny { reason } => Err(reason),
    };
    assert_eq!(given_as, expected, "\ndecide answers the left, the naive rules the right, of\n{facts:#?}");
    *count += 1;
    let word = match expected {
        Ok((basis, _)) => basis.word(),
        Err(reason) => reason.word(),
    };
    if !seen.contains(word) {
        seen.insert(word.to_owned());
    }
}

/// Walks what a facility's user does: every caller's side, every participant, and what is given beside.
macro_rules! as_user {
    ($walk:ident, $act:expr, purposes: $purposes:expr, emergencies: $episodes:expr, disasters: $disasters:expr) => {{
        let act = $act;
        for application in &$walk.applications {
            for facility in &$walk.facilities {
                for user in &$walk.users {
                    for participant in &$walk.participants {
                        for purpose in $purposes {
                            for episode in $episodes {
                                for disaster in $disasters {
                                    let facts = Facts {
                                        now_ms: NOW_MS,
                                        actor: Actor::FacilityUser,
                                        person: &$walk.person,
                                        act,
                                        purpose: *purpose,
                                        emergency: episode.as_ref().map(|e| Emergency { episode: e.as_ref() }),
                                        application: application.as_ref(),
                                        facility: facility.as_ref(),
                                        user: user.as_ref(),
                                        participant: participant.as_ref(),
                                        settings: &$walk.settings,
                                        disaster: disaster.as_ref(),
                                    };
                                    check(&facts, &mut $walk.seen, &mut $walk.count);
                                }
                            }
                        }
                    }
                }
            }
        }
    }};
    ($walk:ident, $act:expr) => {
        as_user!($walk, $act, purposes: &[Some(Purpose::Care)], emergencies: &$walk.episodes[..1], disasters: &[None])
    };
}

mod acts;

/// Walks what a participant does.
fn as_participant(walk: &mut Walk, act: Act<'_>) {
    let people = ["P1", "P8", "P2"].map(|name| world::person(2, name));
    for person in &people {
        for application in &walk.applications {
            for participant in &walk.participants {
                for purpose in PURPOSES {
                    for episode in &walk.episodes[..3] {
                        let facts = Facts {
                            now_ms: NOW_MS,
                            actor: Actor::Participant,
                            person,
                            act,
                            purpose,
                            emergency: episode.as_ref().map(|e| Emergency { episode: e.as_ref() }),
                            application: application.as_ref(),
                            facility: None,
                            user: None,
                            participant: participant.as_ref(),
                            settings: &walk.settings,
                            disaster: None,
                        };
                        check(&facts, &mut walk.seen, &mut walk.count);
                    }
                }
            }
        }
    }
}

/// Walks what the offices do.
fn as_office(walk: &mut Walk, act: Act<'_>) {
    let mut people = Vec::new();
    for (kind, actor) in
        [(3, Actor::Registrar), (4, Actor::Auditor), (5, Actor::Operator), (6, Actor::Recovery), (7, Actor::Cluster)]
    {
        for name in ["r1", "r2"] {
            for credential in ["", "aa", "bb"] {
                people.push((actor, altered(&world::person(kind, name), |p| p.credential_sha256 = credential.into())));
            }
        }
    }
    for (actor, person) in &people {
        for participant in &walk.participants {
            for purpose in [None, Some(Purpose::Care), Some(Purpose::Secondary)] {
                for episode in &walk.episodes[..3] {
                    for disaster in &walk.disasters {
                        let facts = Facts {
                            now_ms: NOW_MS,
                            actor: *actor,
                            person,
                            act,
                            purpose,
                            emergency: episode.as_ref().map(|e| Emergency { episode: e.as_ref() }),
                            application: None,
                            facility: None,
                            user: None,
                            participant: participant.as_ref(),
                            settings: &walk.settings,
                            disaster: disaster.as_ref(),
                        };
                        check(&facts, &mut walk.seen, &mut walk.count);
                    }
                }
            }
        }
    }
}

#[test]
fn decide_and_the_naive_rules_agree_on_every_combination_of_facts() {
    type Part = (&'static str, fn() -> Walk);
    let parts: [Part; 7] = [
        ("looking", acts::looking),
        ("opening emergencies", acts::opening),
        ("writing", acts::writing),
        ("consents", acts::consenting),
        ("registry and reviews", acts::registry),
        ("other offices", acts::offices),
        ("every act by everybody", acts::everybody),
    ];
    let walks = parts.map(|(name, walk)| (name, std::thread::spawn(walk)));
    let (mut seen, mut count) = (BTreeSet::new(), 0);
    for (name, walk) in walks {
        let walk = walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!("{name}: {} combinations", walk.count);
        count += walk.count;
        seen.extend(walk.seen);
    }
    println!("{count} combinations of facts, each decided twice");
    let words = Denial::ALL.iter().filter(|denial| **denial != Denial::Certificate).map(|d| d.word());
    let words = words.chain(Basis::ALL.iter().filter(|b| **b != Basis::Operator).map(|b| b.word()));
    let unseen: Vec<_> = words.filter(|word| !seen.contains(*word)).collect();
    assert!(unseen.is_empty(), "no combination leads to {unseen:?}");
    // A walk that became smaller by mistake walks past rules.
    assert!(count > 25_000_000, "{count} combinations");
}
