//! A version for fewer is a narrowing: it takes effect first, whatever becomes of its body.

use super::*;

async fn sees(application: &Client, facility: &str, number: &ParticipantNumber) -> Vec<kura_client::RecordId> {
    listed(&doctor_through(application, facility), number).await.into_iter().map(|one| one.record).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_version_was_for_holds_before_anything_else_comes_and_whatever_becomes_of_its_body() {
    let mut world = World::start(1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let one = world.enrol(1).await;
    world.person(one).grant(OUTSIDER).await.unwrap();
    let refused = clinic.put(&one, note()).bytes("to all").await.unwrap().record();
    let comes = world.put(&one, "to all").await;
    world.settled().await;

    // Versions for fewer, beyond the backup; the last of a record that the backup never had.
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    clinic.put(&one, note().version_of(refused).addressees([CLINIC])).bytes("to its author").await.unwrap();
    hospital.put(&one, note().version_of(comes).addressees([HOSPITAL, CLINIC])).bytes("to two").await.unwrap();
    let new = hospital.put(&one, note()).bytes("new, to all").await.unwrap().record();
    hospital.put(&one, note().version_of(new).addressees([HOSPITAL])).bytes("new, to one").await.unwrap();

    let after = After::of(&mut world, staff).await;
    after.open(&["emergency", "reads"]).await;
    person_through(&after.application, one).revoke(CLINIC).await.unwrap();
    assert_eq!(sees(&after.application, OUTSIDER, &one).await.len(), 2, "what the backup has");
    let rehearsed = after.salvage(&[], "").await.json();
    let puts = became(&rehearsed, "put", "applied").into_iter().chain(became(&rehearsed, "put", "refused"));
    assert_eq!(puts.filter(|one| one["restricts"] == true).count(), 3, "{rehearsed}");
    assert_eq!(sees(&after.application, OUTSIDER, &one).await.len(), 2, "a rehearsal writes nothing");

    // Bodies wait until writes are open; whom they are for does not.
    after.apply().await.refused(5, "opened step by step");
    assert_eq!(sees(&after.application, OUTSIDER, &one).await, []);
    assert_eq!(sees(&after.application, HOSPITAL, &one).await, [comes], "nothing of the others' body has come");

    after.open(&["writes"]).await;
    let ran = after.apply().await;
    ran.refused(9, "were refused");
    let told = report(&ran);
    let why: Vec<&str> = became(&told, "put", "refused").into_iter().map(|one| one["why"].as_str().unwrap()).collect();
    assert_eq!(why.len(), 2, "{told}");
    // Its author is named no more; the other one's addressee is not.
    assert!(why[0].starts_with("not-granted; its record is for no more"), "{told}");
    assert!(why[1].starts_with("addressee-not-granted; its record is for no more"), "{told}");
    assert_eq!(became(&told, "put", "applied").len(), 2, "{told}");
    assert_eq!(sees(&after.application, OUTSIDER, &one).await, []);
    let hospital = doctor_through(&after.application, HOSPITAL);
    let mut seen = sees(&after.application, HOSPITAL, &one).await;
    seen.sort();
    let mut both = [comes, new];
    both.sort();
    assert_eq!(seen, both);
    assert_eq!(hospital.get(&one, new).await.unwrap().bytes().await.unwrap(), b"new, to one"[..]);

    // Named again, it comes; and once more nothing is left to do.
    person_through(&after.application, one).grant(CLINIC).await.unwrap();
    let told = after.apply().await.json();
    assert_eq!((&told["counts"]["applied"], became(&told, "put", "applied").len()), (&Value::from(2), 2), "{told}");
    assert_eq!(after.apply().await.json()["counts"].get("applied"), None);
    assert_eq!(sees(&after.application, OUTSIDER, &one).await, []);
}
