//! What one decision costs, in µs: `cargo run --release -p kura-cluster --example decide`.
//!
//! Opened rows in, an answer out; loading, opening and journalling are not part of it. The participant has
//! the history of somebody with many facilities: 60 grants, of which the actor's is the last.

use std::hint::black_box;
use std::time::Instant;

use kura_cluster::consent::{Act, Actor, Emergency, Facts, RecordFacts, Settings, decide, visible};
use kura_cluster::row::{
    ActorRow, Application, EpisodeRow, Facility, Participant, PresentConsent, PresentGrant, RecordControl, User,
};
use kura_cluster::word::{Class, Purpose};

const GRANTS: usize = 60;
const FACILITIES: usize = 300;
const ROUNDS: u32 = 2_000_000;
const NOW_MS: u64 = 20_000 * 86_400_000;

fn main() {
    let person = ActorRow { kind: 1, facility: "F0299".into(), name: "u1".into(), ..ActorRow::default() };
    let application = Application {
        name: "app".into(),
        access_line: 1,
        facilities: (0..FACILITIES).map(|n| format!("F{n:04}")).collect(),
        status: 1,
        participants: true,
    };
    let facility =
        Facility { id: "F0299".into(), kind: 1, status: 1, access_line: 1, emergency: true, ..Facility::default() };
    let user = User { id: "u1".into(), facility: "F0299".into(), profession: 1, status: 1, ..User::default() };
    let grant = |n: usize| PresentGrant { facility: format!("F{n:04}"), granted_ms: 1, ..PresentGrant::default() };
    let participant = Participant {
        number: "0000000000000000".into(),
        consent: Some(PresentConsent { signed_day: 19_000, ..PresentConsent::default() }),
        grants: (FACILITIES - GRANTS..FACILITIES).map(grant).collect(),
        ..Participant::default()
    };
    let control = RecordControl {
        version: 1,
        author_facility: "F0001".into(),
        class: Class::LaboratoryResult.number(),
        clinical_day: 19_500,
        ..RecordControl::default()
    };
    let episode = EpisodeRow {
        number: participant.number.clone(),
        facility: "F0299".into(),
        user: "u1".into(),
        application: "app".into(),
        expires_ms: NOW_MS + 1,
        ..EpisodeRow::default()
    };
    let mut settings = Settings::default();
    settings.emergency_credential = false;
    let record = Some(RecordFacts { control: &control, alias_day: None });
    let read = Facts {
        now_ms: NOW_MS,
        actor: Actor::FacilityUser,
        person: &person,
        act: Act::Read { record },
        purpose: Some(Purpose::Care),
        emergency: None,
        application: Some(&application),
        facility: Some(&facility),
        user: Some(&user),
        participant: Some(&participant),
        settings: &settings,
        disaster: None,
    };
    let write = Facts {
        act: Act::Write {
            class: Class::LaboratoryResult,
            clinical_day: 19_500,
            addressees: &application.facilities[FACILITIES - 2..],
            earlier: None,
            body_day: None,
            related: None,
        },
        ..read.clone()
    };
    let emergency = Facts { emergency: Some(Emergency { episode: Some(&episode) }), ..read.clone() };
    let denied = Facts { participant: None, ..read.clone() };
    let first = Facility { id: "F0240".into(), ..facility.clone() };
    let first_user = User { facility: first.id.clone(), ..user.clone() };
    let small = Application { facilities: vec![first.id.clone()], ..application.clone() };
    let short = Facts { application: Some(&small), facility: Some(&first), user: Some(&first_user), ..read.clone() };
    let stored = settings.to_row();

    measure("read under a grant", || decide(black_box(&read)));
    measure("the same, nothing to search", || decide(black_box(&short)));
    measure("write to two addressees", || decide(black_box(&write)));
    measure("read under an emergency", || decide(black_box(&emergency)));
    measure("read of nobody (denied)", || decide(black_box(&denied)));
    measure("one row of a listing", || visible(black_box(&read), record));
    measure("settings from their row", || Settings::from_row(black_box(&stored)));
}

fn measure<T>(what: &str, decision: impl Fn() -> T) {
    let repeat = |times: u32| {
        for _ in 0..times {
            black_box(decision());
        }
    };
    repeat(ROUNDS / 10);
    let begun = Instant::now();
    repeat(ROUNDS);
    println!("{what:<27} {:>7.3} µs", begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}
