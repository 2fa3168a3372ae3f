//! Emergency access and its review: from the physician's call to the lists of all who look at it afterwards.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kura_client::registry::{Disaster, User as RegisteredUser};
use kura_client::{
    Access, ActingClient, Action, Class, Client, Consent, Date, EmergencyError, GetError, ListError, Method, NewRecord,
    OneOfSeveral, ParticipantNumber, Profession, Purpose, ReviewError, ReviewKind, ReviewVerdict, User, now_ms,
};
use kura_node::dev::ClientFile;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::world::{CLINIC, DOCTOR, HOSPITAL, KURA, OUTSIDER, World, confirm, number};

const REASON: &str = "unconscious, ambulance 3";
/// What the physician's card holds, for these tests.
static CARD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let card = rcgen::generate_simple_self_signed(vec!["card".into()]).unwrap();
    card.cert.der().to_vec()
});
const BODY: &str = "penicillin: anaphylaxis in 2019";

/// A facility for emergencies whose doctor has the card.
async fn prepare(world: &World, facility: &str) {
    world.emergency_room(facility, Sha256::digest(&*CARD).into()).await;
}

/// The doctor with the card.
fn physician(client: &Client, facility: &str) -> ActingClient {
    let actor = User::at(facility, DOCTOR).authenticated(Method::Card, now_ms());
    client.act(actor.credential(Sha256::digest(&*CARD).into()))
}

/// Notes of the hospital and, last, an allergy.
async fn write_records(world: &World, number: &ParticipantNumber, notes: usize) {
    for nth in 0..notes {
        world.doctor(HOSPITAL).put(number, super::world::note()).bytes(format!("note {nth}")).await.unwrap();
    }
    let allergy = NewRecord::new(Class::Allergy, "text/plain", Date::today()).addressees([HOSPITAL]);
    world.doctor(HOSPITAL).put(number, allergy).bytes(BODY).await.unwrap();
}

fn of_emergency(accesses: &[Access]) -> Vec<&Access> {
    accesses.iter().filter(|access| access.basis == "emergency").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_physician_has_the_allergy_at_once_and_everybody_concerned_sees_it() {
    let world = World::start(3, 1).await;
    let number = world.enrol(1).await;
    write_records(&world, &number, 20).await;
    prepare(&world, OUTSIDER).await;
    let doctor = physician(&world.application, OUTSIDER);
    let refused = doctor.list(&number).stream().take(1).await.unwrap_err();
    assert!(matches!(&refused, ListError::Denied(denial) if denial.reason().is_none()), "{refused}");

    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let (emergency, records) = doctor.open_emergency(&number, REASON).and_list().await.unwrap();
        let body = emergency.get(records[0].record()).await.unwrap().bytes().await.unwrap();
        took.push(began.elapsed());
        let first = records[0].clone().opened().unwrap();
        assert_eq!((records.len(), first.class, &body[..]), (21, Class::Allergy, BODY.as_bytes()));
    }
    took.sort();
    println!("from open_emergency to the allergy's bytes: median {:?}, longest {:?}", took[4], took[8]);

    // Under one emergency, through every voter, and for its participant alone.
    let emergency = doctor.open_emergency(&number, REASON).await.unwrap();
    assert!(emergency.expires_ms().unwrap() > now_ms() + 30 * 60_000);
    for voter in world.voters() {
        let config = world.cluster.client_config_at(ClientFile::Application, &voter).unwrap();
        let through = physician(&Client::connect_lazily(config).await.unwrap(), OUTSIDER);
        let again = through.emergency(&number, emergency.id());
        let records = again.list().class(Class::Allergy).stream().take(9).await.unwrap();
        assert_eq!(again.history(records[0].record()).await.unwrap().len(), 1);
        again.get(records[0].record()).await.unwrap().bytes().await.unwrap();
        let mut several = again.get_several([records[0].record()]).await.unwrap();
        assert!(matches!(several.next().await, Some(Ok(OneOfSeveral::Record(_)))));
    }
    let other = world.enrol(2).await;
    let refused = doctor.list(&other).under(emergency.id()).stream().take(1).await.unwrap_err();
    assert!(matches!(&refused, ListError::Denied(denial) if denial.reason() == Some("emergency-unknown")), "{refused}");
    // A tenth was the last in the window.
    let capped = doctor.open_emergency(&number, REASON).await.unwrap_err();
    assert!(matches!(&capped, EmergencyError::Denied(d) if d.reason() == Some("emergency-cap")), "{capped}");

    let openings = 10;
    let accesses = openings + 2 * 9 + 3 * 4;
    // The participant: each with basis, reason and purpose; the facility, not the person.
    let own = world.person(number).accesses().stream().take(usize::MAX).await.unwrap();
    let marked = of_emergency(&own);
    assert_eq!(marked.len(), accesses);
    for access in &marked {
        assert_eq!((access.reason.as_str(), access.facility.as_str(), access.actor.as_str()), (REASON, OUTSIDER, ""));
        assert_eq!(access.purpose, Some(Purpose::Care));
    }
    // The facility: its own users'.
    let facility = doctor.facility_accesses().stream().take(usize::MAX).await.unwrap();
    let marked = of_emergency(&facility);
    assert!(marked.len() == accesses && marked.iter().all(|a| a.actor == DOCTOR && a.participant == Some(number)));
    // The auditor: the queue, and all that was read under one of them.
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap();
    let queue = auditor.reviews().open().take(usize::MAX).await.unwrap();
    let queue: Vec<_> = queue.into_iter().filter(|review| review.kind == ReviewKind::Emergency).collect();
    assert_eq!(queue.len(), openings);
    let last = &queue[openings - 1];
    assert_eq!((last.participant, last.emergency, &last.reason[..]), (number, Some(emergency.id()), REASON));
    assert_eq!((&last.facility[..], &last.actor[..], &last.application[..]), (OUTSIDER, DOCTOR, "application"));
    let journal = auditor.journal().list().participant(&number).stream().take(usize::MAX).await.unwrap();
    let under = journal.iter().filter(|access| access.episode == Some(*emergency.id().as_bytes())).count();
    assert_eq!(under, 1 + 3 * 4, "its opening, and four accesses through each voter");

    auditor.reviews().close(last.id, ReviewVerdict::Justified).note("as the ambulance says").await.unwrap();
    let twice = auditor.reviews().close(last.id, ReviewVerdict::Unjustified).await.unwrap_err();
    assert!(matches!(&twice, ReviewError::Denied(denial) if denial.reason() == Some("review-state")), "{twice}");
    let found = auditor.reviews().find(last.id).await.unwrap();
    let verdict = found.verdict.as_ref().unwrap();
    assert_eq!((verdict.verdict, &verdict.note[..]), (ReviewVerdict::Justified, "as the ambulance says"));
    assert_eq!(auditor.reviews().closed().take(9).await.unwrap(), [found]);
    let own = world.person(number).accesses().stream().take(9).await.unwrap();
    let told = own.iter().find(|access| access.action == Action::Review).unwrap();
    assert_eq!((&told.object[..], &told.reason[..]), ("justified", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawal_ends_an_emergency_and_taking_part_again_names_nobody() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    write_records(&world, &number, 1).await;
    prepare(&world, OUTSIDER).await;
    let doctor = physician(&world.application, OUTSIDER);
    let emergency = doctor.open_emergency(&number, REASON).await.unwrap();
    let records = emergency.list().stream().take(9).await.unwrap();
    world.person(number).withdraw().await.unwrap();
    let left = emergency.get(records[0].record()).await.unwrap_err();
    assert!(matches!(&left, GetError::Denied(denial) if denial.reason().is_none()), "{left}");
    let withdrawn = now_ms();
    let again = Consent::signed_on(Date::today()).by_proxy("Hanako", "mother").evidence("paper 2");
    world.doctor(HOSPITAL).enrol(&number, again).await.unwrap();
    for facility in [HOSPITAL, CLINIC] {
        let refused = world.doctor(facility).list(&number).stream().take(1).await.unwrap_err();
        assert!(matches!(refused, ListError::Denied(_)), "{facility} was named before the withdrawal: {refused}");
    }
    let consents = world.person(number).consents().await.unwrap();
    assert_eq!((&consents.consent.proxy[..], &consents.consent.proxy_relation[..]), ("Hanako", "mother"));
    assert!(consents.grants.len() == 2 && consents.grants.iter().all(|grant| grant.revoked_ms.is_some()));
    let person = world.person(number);
    let then = person.acting().consents_as_of(&number, withdrawn.min(consents.entered_ms - 1)).await.unwrap();
    assert!(then.withdrawn_ms.is_some() && then.consent.evidence == "paper 1");
    let before = person.acting().consents_as_of(&number, then.entered_ms - 1).await.unwrap_err();
    assert!(matches!(before, ListError::NotFound(_)), "{before}");
    // What is dated before the new consent stays closed in an emergency, too.
    let emergency = doctor.open_emergency(&number, REASON).await.unwrap();
    assert_eq!(emergency.list().stream().take(9).await.unwrap().len(), 2, "of today");
}

/// Runs `kura` with a client's configuration.
fn kura(world: &World, file: ClientFile, words: &[&str]) -> Output {
    let mut command = std::process::Command::new(KURA);
    command.args(words).arg("--client").arg(world.cluster.layout().client(file));
    tokio::task::block_in_place(|| command.output().unwrap())
}

#[track_caller]
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refused(output: &Output, code: i32, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(words) && error.contains("next") && !error.contains("4300"), "{error}");
}

fn card(folder: &Path) -> PathBuf {
    let path = folder.join("card.der");
    std::fs::write(&path, &*CARD).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_command_line_from_opening_to_the_verdict() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    write_records(&world, &number, 2).await;
    prepare(&world, OUTSIDER).await;
    let folder = tempfile::tempdir().unwrap();
    let (card, whom) = (card(folder.path()), format!("{OUTSIDER}/{DOCTOR}"));
    let (app, auditor) = (ClientFile::Application, ClientFile::Auditor);
    let acting = ["--as", &whom, "--method", "card", "--credential", card.to_str().unwrap()];
    let with = |words: &[&'static str]| [words, &acting[..]].concat();
    let number = number.reveal();

    let without_card = ["emergency", "open", number, "--reason", REASON, "--as", &whom];
    refused(&kura(&world, app, &without_card), 3, "credential");
    let elsewhere = ["emergency", "open", number, "--reason", REASON, "--as", &format!("{CLINIC}/{DOCTOR}")];
    refused(&kura(&world, app, &elsewhere), 3, "emergency-facility");
    let opened = lines(&kura(
        &world,
        app,
        &[&with(&["emergency", "open", "--reason", REASON, "--json"])[..], &[number]].concat(),
    ));
    let told = &opened[0];
    let emergency = told["emergency"].as_str().unwrap();
    let records = told["records"].as_array().unwrap();
    assert_eq!((records.len(), &records[0]["class"]), (3, &"allergy".into()));
    let record = records[0]["record"].as_str().unwrap();
    let person = kura(&world, app, &[&with(&["emergency", "open", "--reason", REASON])[..], &[number]].concat());
    let shown = String::from_utf8_lossy(&person.stdout).into_owned();
    let (first, next) = (shown.find("allergy").unwrap(), shown.find("care-record").unwrap());
    assert!(first < next, "{shown}");

    let under = ["--emergency", emergency];
    let listed = lines(&kura(&world, app, &[&with(&["record", "list", "--json"])[..], &under, &[number]].concat()));
    assert_eq!(listed.iter().map(|one| one["record"].as_str().unwrap()).next(), Some(record));
    let body = kura(&world, app, &[&with(&["record", "get"])[..], &under, &[number, record]].concat());
    assert_eq!(String::from_utf8_lossy(&body.stdout), BODY, "{}", String::from_utf8_lossy(&body.stderr));
    let history =
        lines(&kura(&world, app, &[&with(&["record", "history", "--json"])[..], &under, &[number, record]].concat()));
    assert_eq!(history.len(), 1);
    let unknown = ["--emergency", "00000000000000000000000000000000", number];
    refused(&kura(&world, app, &[&with(&["record", "list"])[..], &unknown].concat()), 4, "emergency-unknown");

    let queue = lines(&kura(&world, auditor, &["review", "list", "--json"]));
    let review = queue.iter().find(|one| one["emergency"] == emergency).unwrap()["review"].as_str().unwrap().to_owned();
    let shown = &lines(&kura(&world, auditor, &["review", "show", &review, "--json"]))[0];
    assert_eq!((&shown["reason"], &shown["participant"]), (&REASON.into(), &number.into()));
    let done: Vec<_> = shown["accesses"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(done, ["emergency", "list", "list", "get", "history"]);
    let close = ["review", "close", &review, "--verdict", "unjustified", "--note", "nobody knows of it"];
    lines(&kura(&world, auditor, &[&close[..], &["--json"]].concat()));
    refused(&kura(&world, auditor, &close), 3, "review-state");
    let closed = lines(&kura(&world, auditor, &["review", "list", "--closed", "--json"]));
    assert_eq!(
        (&closed[0]["review"], &closed[0]["verdict"]["verdict"]),
        (&review.as_str().into(), &"unjustified".into())
    );
    // Nobody else has a queue.
    for file in [app, ClientFile::Registrar1, ClientFile::Operator] {
        assert_eq!(kura(&world, file, &["review", "list"]).status.code(), Some(3), "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_disaster_lets_a_nurse_in_until_it_is_ended() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    write_records(&world, &number, 1).await;
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let nurse = RegisteredUser::new(OUTSIDER, "nurse-1", "name of the nurse", Profession::Nurse);
    registry.add_user(&nurse).await.unwrap().done().unwrap();
    let nurse = world.application.act(User::at(OUTSIDER, "nurse-1").authenticated(Method::TwoFactor, now_ms()));
    let refused = nurse.open_emergency(&number, REASON).await.unwrap_err();
    assert!(matches!(&refused, EmergencyError::Denied(d) if d.reason() == Some("emergency-facility")), "{refused}");
    let mut quake = Disaster::until("earthquake", now_ms() + 3_600_000);
    quake.professions.push(Profession::Nurse);
    quake.facilities.push(OUTSIDER.into());
    confirm(&world.cluster, registry.declare_disaster(&quake).await.unwrap()).await;
    let (emergency, records) = nurse.open_emergency(&number, REASON).and_list().await.unwrap();
    assert_eq!((records.len(), records[0].clone().opened().unwrap().class), (2, Class::Allergy));
    registry.end_disaster().await.unwrap();
    let ended = emergency.list().stream().take(1).await.unwrap_err();
    assert!(matches!(&ended, ListError::Denied(d) if d.reason() == Some("emergency-facility")), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_oneself_is_in_the_queue_and_in_the_participants_list() {
    let world = World::start(1, 0).await;
    let number = number(1);
    let consent = Consent::signed_on("2020-01-01".parse().unwrap()).evidence("paper 1");
    let hospital = world.doctor(HOSPITAL);
    hospital.enrol(&number, consent).await.unwrap();
    hospital.grant(&number, HOSPITAL).evidence("paper 2").await.unwrap();
    hospital.grant(&number, CLINIC).evidence("paper 2").await.unwrap();
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap();
    let queue = auditor.reviews().open().take(9).await.unwrap();
    let [review] = &queue[..] else { panic!("{queue:?}") };
    assert_eq!((review.kind, &review.granted[..], &review.reason[..]), (ReviewKind::OwnGrant, HOSPITAL, "paper 2"));
    let consents = world.person(number).consents().await.unwrap();
    let marks: Vec<_> = consents.grants.iter().map(|grant| (&grant.facility[..], grant.by_beneficiary)).collect();
    assert_eq!(marks, [(HOSPITAL, true), (CLINIC, false)]);
    let own = world.person(number).accesses().stream().take(9).await.unwrap();
    assert_eq!(own.iter().filter(|access| access.action == Action::Grant).count(), 2);
}
