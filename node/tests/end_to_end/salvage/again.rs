//! What went on meanwhile: people who left, records that were sent again, runs that broke off.

use std::collections::BTreeMap;

use kura_client::{ActorKind, RequestId, Status, wire};
use kura_node::recovery::salvage::{OldDisk, run};
use tokio::sync::Notify;

use super::super::clock::Clock;
use super::super::world::confirm;
use super::*;

/// Records that are offered in the run that breaks off.
const MANY: u64 = 6;
/// Entries after which it does: a record, what narrows it, and another record.
const CUT_AFTER: u64 = 4;
/// How far the old prefecture's clock is ahead; a take-over bears it.
const AHEAD_MS: i64 = 5 * 60_000;

async fn sees(application: &Client, facility: &str, number: &ParticipantNumber) -> Vec<kura_client::RecordId> {
    listed(&doctor_through(application, facility), number).await.into_iter().map(|one| one.record).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_away_is_taken_away_whatever_became_of_who_asked_for_it() {
    let mut world = World::start(1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let (one, two, duplicate) = (world.enrol(1).await, world.enrol(2).await, world.enrol(3).await);
    let office = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    confirm(&world.cluster, office.alias(&two, &duplicate, "form 9").await.unwrap()).await;
    for number in [one, two] {
        world.person(number).grant(OUTSIDER).await.unwrap();
    }
    let hidden = world.put(&one, "hidden there").await;
    let narrowed = clinic.put(&one, note()).bytes("narrowed there").await.unwrap().record();
    let left = world.put(&one, "left as it is").await;
    let theirs = world.put(&two, "of one who is enrolled twice").await;
    world.settled().await;

    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    hospital.hide(&one, hidden).await.unwrap();
    clinic.narrow(&one, narrowed, [HOSPITAL]).await.unwrap();
    world.person(duplicate).revoke(OUTSIDER).await.unwrap();

    // Since: the hospital is not named any more, the clinic's doctor has left, the two numbers are one person's.
    let after = After::of(&mut world, staff).await;
    after.open(&["emergency", "reads"]).await;
    person_through(&after.application, one).revoke(HOSPITAL).await.unwrap();
    let registry = after.registrar.registry();
    let doctor = registry.users(CLINIC).await.unwrap().remove(0);
    let gone = kura_client::registry::User { status: Status::Left, ..doctor.clone() };
    registry.change_user(&doctor, &gone).await.unwrap().done().unwrap();
    let outsider = doctor_through(&after.application, OUTSIDER);
    assert_eq!(sees(&after.application, OUTSIDER, &one).await.len(), 3, "what the backup has");
    outsider.get(&two, theirs).await.unwrap().bytes().await.unwrap();

    let ran = after.apply().await;
    let told = ran.json();
    for action in ["hide", "narrow", "revoke"] {
        assert_eq!(became(&told, action, "applied").len(), 1, "{action}: {told}");
    }
    assert_eq!(sees(&after.application, OUTSIDER, &one).await, [left]);
    let denied = outsider.get(&two, theirs).await.map(drop);
    assert!(matches!(denied, Err(GetError::Denied(_))), "{denied:?}");

    // The staff did it, and the journal names who asked for it, also to the participant.
    let journal = after.journal().await;
    let mut asked = BTreeMap::new();
    for entry in journal.iter().filter(|entry| entry.salvaged.is_some()) {
        assert_eq!((entry.actor_kind, &entry.actor[..], &entry.basis[..]), (ActorKind::Recovery, "rec-1", "recovery"));
        let from = entry.salvaged.clone().unwrap();
        asked.insert(entry.action.to_string(), (from.facility, from.actor));
    }
    let of = |facility: &str| (facility.to_owned(), super::super::world::DOCTOR.to_owned());
    let expected = [
        ("hide", of(HOSPITAL)),
        ("narrow", of(CLINIC)),
        ("revoke", (String::new(), ActorKind::Participant.word().to_owned())),
    ];
    assert_eq!(asked, expected.map(|(action, who)| (action.to_owned(), who)).into());
    let own = person_through(&after.application, one).accesses().stream().take(usize::MAX).await.unwrap();
    assert_eq!(own.iter().filter(|entry| entry.salvaged.is_some()).count(), 2);

    // Nothing is left to do.
    let again = after.apply().await.json();
    assert_eq!(again["counts"].get("applied"), None, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_again_is_restricted_as_the_first_was() {
    let mut world = World::start(1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let hospital = world.doctor(HOSPITAL);
    let one = world.enrol(1).await;
    world.settled().await;

    // Restricted after it was written, all beyond the backup.
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    let named = hospital.put(&one, note().document_id("doc-1")).bytes("has a name").await.unwrap().record();
    hospital.hide(&one, named).await.unwrap();
    let request = RequestId::new();
    let asked = hospital.put(&one, note()).request(request).bytes("has its request").await.unwrap().record();
    hospital.hide(&one, asked).await.unwrap();
    let alike = hospital.put(&one, note()).bytes("has neither").await.unwrap().record();
    hospital.narrow(&one, alike, [HOSPITAL]).await.unwrap();

    // Its application heard nothing of it that lasts, and sends all of it again, before the disk turns up.
    let after = After::of(&mut world, staff).await;
    after.open(&["emergency", "reads", "writes"]).await;
    let hospital = doctor_through(&after.application, HOSPITAL);
    let named = hospital.put(&one, note().document_id("doc-1")).bytes("has a name").await.unwrap().record();
    let asked = hospital.put(&one, note()).request(request).bytes("has its request").await.unwrap().record();
    let again = hospital.put(&one, note()).bytes("has neither").await.unwrap().record();
    let other = hospital.put(&one, note().document_id("doc-2")).bytes("something else").await.unwrap().record();
    let mut seen = sees(&after.application, CLINIC, &one).await;
    seen.sort();
    let mut all = [named, asked, again, other];
    all.sort();
    assert_eq!(seen, all);

    let ran = after.apply().await;
    ran.refused(9, "1 are for people to do again");
    let told = report(&ran);
    assert_eq!(became(&told, "hide", "applied").len(), 2, "{told}");
    assert_eq!(became(&told, "put", "there").len(), 2, "{told}");
    let by_hand = became(&told, "narrow", "by-hand");
    assert_eq!(by_hand.len(), 1, "{told}");
    let why = by_hand[0]["why"].as_str().unwrap();
    assert!(why.contains("kura record narrow - RECORD --to FACILITY"), "{why}");
    let journal = after.journal().await;
    let position = journal.iter().find(|entry| entry.record == Some(again)).unwrap().journal_position;
    assert!(why.contains(&format!("position {position} ")), "{why}");
    // What only has the same content waits for people, and is theirs to tell apart.
    let mut seen = sees(&after.application, CLINIC, &one).await;
    seen.sort();
    let mut all = [again, other];
    all.sort();
    assert_eq!(seen, all);

    hospital.narrow(&one, again, [HOSPITAL]).await.unwrap();
    let told = after.apply().await.json();
    assert_eq!((told["counts"].get("applied"), told["counts"].get("BY HAND")), (None, None), "{told}");
    assert_eq!(sees(&after.application, CLINIC, &one).await, [other]);
    // Its author may show it again: the older will is over.
    hospital.unhide(&one, named).await.unwrap();
    after.apply().await.refused(9, "1 were refused");
    assert!(sees(&after.application, CLINIC, &one).await.contains(&named));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_broke_off_goes_on_and_what_was_refused_comes_once_it_is_mended() {
    let mut world = World::start(1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let (one, two) = (world.enrol(1).await, world.enrol(2).await);
    world.settled().await;

    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    let mut requests = Vec::new();
    for nth in 0..MANY {
        let receipt = hospital.put(&one, note()).bytes(format!("record {nth}")).await.unwrap();
        if nth == 0 {
            hospital.narrow(&one, receipt.record(), [HOSPITAL, CLINIC]).await.unwrap();
            hospital.narrow(&one, receipt.record(), [HOSPITAL]).await.unwrap();
        }
        requests.push(receipt.request());
    }
    let long = hospital.put(&one, note()).bytes(long_body()).await.unwrap().record();
    let refused = clinic.put(&two, note()).bytes("of the clinic").await.unwrap();

    let after = After::of(&mut world, staff).await;
    after.open(&["emergency", "reads", "writes"]).await;
    person_through(&after.application, two).revoke(CLINIC).await.unwrap();

    // Cut in the middle: some records are there, the others are not.
    let scratch = after.folder.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let disk = OldDisk::open(&after.old, &scratch).await.unwrap();
    let client = Client::connect(after.staff.clone()).await.unwrap();
    let begin = wire::SalvageBegin {
        cluster_id: disk.cluster_id().0.to_vec().into(),
        timeline: disk.timeline(),
        apply: true,
        cluster_name: after.name.clone(),
    };
    let mut line = client.operations().salvage(begin).await.unwrap();
    let cut = Notify::new();
    tokio::select! {
        done = run(&disk, &mut line, true, |step| if step.round == 2 && step.done == CUT_AFTER { cut.notify_one() }) => {
            panic!("it was not cut: {done:?}");
        }
        () = cut.notified() => {}
    }
    drop((line, disk));
    let hospital = doctor_through(&after.application, HOSPITAL);

    // The next one may begin as soon as the first is seen to be gone, and does the rest.
    let ran = until("a run after the first", SOON, async || match after.apply().await {
        ran if ran.is("another salvage is under way") => Err(ran.out),
        ran => Ok(ran),
    })
    .await;
    ran.refused(9, "1 were refused");
    let told = report(&ran);
    assert_eq!(became(&told, "put", "refused")[0]["why"], "not-granted", "{told}");
    assert_eq!(became(&told, "narrow", "there").len(), 2, "{told}");
    let there = became(&told, "put", "there").len();
    assert!((2..MANY as usize).contains(&there), "{told}");
    assert_eq!(became(&told, "put", "applied").len() + there, MANY as usize + 1, "{told}");
    assert_eq!(listed(&hospital, &one).await.len() as u64, MANY + 1);
    assert_eq!(hospital.get(&one, long).await.unwrap().bytes().await.unwrap(), long_body());
    assert_eq!(sees(&after.application, CLINIC, &one).await.len() as u64, MANY, "all but the one that was narrowed");

    // Mended: it comes, and alone.
    person_through(&after.application, two).grant(CLINIC).await.unwrap();
    let told = after.apply().await.json();
    assert_eq!((&told["counts"]["applied"], became(&told, "put", "applied").len()), (&Value::from(1), 1), "{told}");
    let clinic = doctor_through(&after.application, CLINIC);
    assert_eq!(clinic.get(&two, refused.record()).await.unwrap().bytes().await.unwrap(), b"of the clinic"[..]);
    requests.push(refused.request());
    let journal = after.journal().await;
    for request in requests {
        let puts = journal
            .iter()
            .filter(|entry| entry.request == Some(request) && entry.action == Action::Put && entry.denial.is_empty());
        assert_eq!(puts.count(), 1, "nothing twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newer_is_told_by_the_log_where_the_old_prefectures_clock_was_ahead() {
    let clock = Clock::new();
    clock.set(AHEAD_MS);
    let mut world = World::run_by(clock.kura("voter-1"), 1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let (one, two) = (world.enrol(1).await, world.enrol(2).await);
    world.settled().await;
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    for number in [one, two] {
        world.person(number).revoke(CLINIC).await.unwrap();
    }

    // One of them names the clinic again: earlier by the clock, later by the log.
    let after = After::of(&mut world, staff).await;
    after.open(&["emergency", "reads", "writes"]).await;
    person_through(&after.application, one).grant(CLINIC).await.unwrap();
    let ran = after.apply().await;
    ran.refused(9, "1 were refused");
    let told = report(&ran);
    assert_eq!(became(&told, "revoke", "refused")[0]["why"], "granted anew on the new timeline", "{told}");
    assert_eq!(became(&told, "revoke", "applied").len(), 1, "{told}");
    assert_eq!(sees(&after.application, CLINIC, &one).await, []);
    let denied = doctor_through(&after.application, CLINIC).list(&two).stream().take(1).await;
    assert!(denied.is_err(), "{denied:?}");
}
