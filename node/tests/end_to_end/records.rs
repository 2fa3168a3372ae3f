//! Records beyond one body: several under one entry, relations, people, parts, legal hold.

use std::fs;
use std::process::{Command, Output, Stdio};

use kura_client::{
    Action, ChangeError, Class, Date, GetError, NewRecord, OneOfSeveral, ParticipantNumber, PutError, RecordId,
    Relation, now_ms,
};
use kura_node::dev::ClientFile;

use super::memory::Made;
use super::world::{CLINIC, DOCTOR, HOSPITAL, KURA, OUTSIDER, World, folder, listed, note, versions};

/// The program, for the doctor of a facility.
fn kura(world: &World, facility: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(KURA);
    command.args(arguments).args(["--as", &format!("{facility}/{DOCTOR}")]);
    command.arg("--client").arg(world.cluster.layout().client(ClientFile::Application)).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn denied(result: Result<kura_client::Receipt, PutError>) -> String {
    match result {
        Err(PutError::Denied(denial)) => denial.reason().unwrap_or("refused").to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Reads several; of each its body, or none if it was refused.
async fn several(
    acting: &kura_client::ActingClient,
    number: &ParticipantNumber,
    records: &[RecordId],
) -> Result<Vec<(RecordId, Option<Vec<u8>>)>, GetError> {
    let mut several = acting.get_several(number, records.iter().copied()).await?;
    let mut found = Vec::new();
    while let Some(one) = several.next().await {
        found.push(match one? {
            OneOfSeveral::Refused(refused) => {
                assert_eq!(refused.reason, None, "as uniform as a read of one");
                (refused.record, None)
            }
            OneOfSeveral::Record(record) => {
                let id = record.summary().record;
                (id, Some(record.bytes().await?.to_vec()))
            }
            OneOfSeveral::Damaged(damaged) => panic!("nothing is damaged here: {damaged:?}"),
        });
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_records_are_read_under_one_entry_and_none_tells_more_than_alone() {
    let world = World::start(2, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic, outsider) = (world.doctor(HOSPITAL), world.doctor(CLINIC), world.doctor(OUTSIDER));
    let open = world.put(&number, "open").await;
    let long = Made::text(3, 3 << 20).gather().await;
    let big = hospital.put(&number, note()).bytes(long.clone()).await.unwrap().record();
    let hidden = world.put(&number, "hidden").await;
    hospital.hide(&number, hidden).await.unwrap();
    let narrowed = world.put(&number, "narrowed").await;
    hospital.narrow(&number, narrowed, [HOSPITAL]).await.unwrap();
    let nothing = RecordId::from_bytes([7; 16]);
    let asked = [hidden, big, nothing, open, narrowed];

    let seen = several(&clinic, &number, &asked).await.unwrap();
    let expected =
        [(hidden, None), (big, Some(long)), (nothing, None), (open, Some(b"open".to_vec())), (narrowed, None)];
    assert!(seen == expected, "in the order asked for");
    for (record, body) in &seen {
        let alone = clinic.get(&number, *record).await;
        assert_eq!(alone.is_ok(), body.is_some());
    }
    // The participant sees all but what is hidden; the author's facility that, too.
    let person = world.person(number);
    let own = several(person.acting(), &number, &[hidden, narrowed]).await;
    assert!(matches!(own, Err(GetError::Denied(_))), "for the purpose of care participants read nothing: {own:?}");
    let mut own = person.get_several([hidden, narrowed]).await.unwrap();
    assert!(matches!(own.next().await, Some(Ok(OneOfSeveral::Refused(_)))));
    assert!(matches!(own.next().await, Some(Ok(OneOfSeveral::Record(_)))));
    assert!(own.next().await.is_none());
    drop(own);
    assert!(several(&hospital, &number, &asked).await.unwrap().iter().filter(|(_, body)| body.is_some()).count() == 4);
    assert!(matches!(several(&outsider, &number, &asked).await, Err(GetError::Denied(_))), "refused as a whole");

    let entries = person.accesses().stream().take(usize::MAX).await.unwrap();
    let of_clinic: Vec<_> =
        entries.iter().filter(|one| one.action == Action::GetSeveral && one.facility == CLINIC).collect();
    let [entry] = of_clinic[..] else { panic!("one entry: {of_clinic:?}") };
    let refused = |entry: &kura_client::Access| -> Vec<(RecordId, String)> {
        entry.refused_records.iter().map(|refused| (refused.record, refused.denial.clone())).collect()
    };
    let reasons = [(hidden, "hidden"), (nothing, "no-such-record"), (narrowed, "not-addressee")];
    assert_eq!(&entry.records[..], &[big, open][..]);
    assert_eq!(refused(entry), reasons.map(|(record, reason)| (record, reason.to_owned())));
    assert_eq!(entry.basis, "grant");
    let denied = entries.iter().find(|one| one.facility == OUTSIDER).unwrap();
    assert_eq!(denied.denial, "not-granted");
    assert_eq!(refused(denied), asked.map(|record| (record, "not-granted".to_owned())));
    assert!(denied.records.is_empty());

    // Into a directory, by the command line: what is refused does not keep the rest.
    let to = folder();
    let into = to.path().join("several");
    let ids = asked.map(|id| id.to_string());
    let mut arguments = vec!["record", "get", number.reveal()];
    arguments.extend(ids.iter().map(String::as_str));
    arguments.extend(["--to", into.to_str().unwrap(), "--json"]);
    let output = kura(&world, CLINIC, &arguments);
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(into.join(format!("{open}.txt"))).unwrap(), b"open");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 2, "nothing of the others");

    world.person(number).revoke(CLINIC).await.unwrap();
    assert!(matches!(several(&clinic, &number, &[open]).await, Err(GetError::Denied(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_refers_to_another_by_its_rules_and_lists_tell_of_it() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let first = world.put(&number, "first").await;
    let summary = async |acting: &kura_client::ActingClient, record| {
        listed(acting, &number).await.into_iter().find(|one| one.record == record).unwrap()
    };

    let replacing = hospital.put(&number, note().replaces(first)).bytes("second").await.unwrap().record();
    // What was replaced stays and is read as before; both tell of each other.
    assert_eq!(clinic.get(&number, first).await.unwrap().bytes().await.unwrap(), "first");
    assert_eq!(summary(&clinic, first).await.replaced_by, Some(replacing));
    let related = summary(&clinic, replacing).await.related.unwrap();
    assert_eq!((related.relation, related.record, related.version), (Relation::Replaces, first, 0));
    assert_eq!(clinic.get(&number, first).await.unwrap().summary().replaced_by, Some(replacing));
    // A further version of what was replaced does not forget it.
    hospital.put(&number, note().version_of(first)).bytes("first, corrected").await.unwrap();
    let history = versions(&clinic, &number, first).await;
    assert!(history.len() == 2 && history.iter().all(|version| version.replaced_by == Some(replacing)));

    // Replacing is the author's; adding and transforming for whoever sees it, to nobody further.
    assert_eq!(denied(clinic.put(&number, note().replaces(first)).bytes("x").await), "not-author");
    let addition = note().appends_to(first).related_version(1);
    let addition = clinic.put(&number, addition).bytes("addition").await.unwrap().record();
    let related = summary(&hospital, addition).await.related.unwrap();
    assert_eq!((related.relation, related.record, related.version), (Relation::Appends, first, 1));
    assert_eq!(summary(&hospital, first).await.replaced_by, Some(replacing), "adding replaces nothing");
    let later = note().transforms(first).related_version(3);
    assert_eq!(denied(clinic.put(&number, later).bytes("x").await), "refused", "no such version");
    let missing = note().transforms(RecordId::from_bytes([7; 16]));
    assert_eq!(denied(clinic.put(&number, missing).bytes("x").await), "refused");
    let narrow = hospital.put(&number, note().addressees([HOSPITAL])).bytes("narrow").await.unwrap().record();
    assert_eq!(denied(clinic.put(&number, note().appends_to(narrow)).bytes("x").await), "refused", "not seen");
    assert_eq!(denied(hospital.put(&number, note().appends_to(narrow)).bytes("x").await), "widens");
    hospital.put(&number, note().transforms(narrow).addressees([HOSPITAL])).bytes("y").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn author_enterer_and_confirmer_are_told_with_their_times() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let plain = world.put(&number, "by the actor").await;
    let now = now_ms();
    let record = note().author("doctor-9").authored_at(now - 3_000).enterer("clerk-4").entered_at(now - 2_000);
    let record = record.confirmed_by("doctor-7", now - 1_000);
    let stated = hospital.put(&number, record).bytes("stated").await.unwrap().record();
    for summary in [
        clinic.get(&number, stated).await.unwrap().summary().clone(),
        versions(&clinic, &number, stated).await.remove(0),
        listed(&clinic, &number).await.into_iter().find(|one| one.record == stated).unwrap(),
    ] {
        assert_eq!((&summary.author_user[..], summary.authored_ms), ("doctor-9", now - 3_000));
        assert_eq!((&summary.enterer_user[..], summary.entered_ms), ("clerk-4", now - 2_000));
        let confirmation = summary.confirmation.unwrap();
        assert_eq!((&confirmation.user[..], confirmation.at_ms), ("doctor-7", now - 1_000));
    }
    let summary = clinic.get(&number, plain).await.unwrap().summary().clone();
    assert_eq!((&summary.author_user[..], &summary.enterer_user[..]), (DOCTOR, DOCTOR));
    assert_eq!((summary.authored_ms, summary.entered_ms), (summary.written_ms, summary.written_ms));
    assert!(summary.confirmation.is_none());
    let future = note().confirmed_by("doctor-7", now + 3_600_000);
    let refused = hospital.put(&number, future).bytes("tomorrow").await.unwrap_err();
    assert_eq!(refused.field(), Some("confirmer_ms"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_many_parts_comes_back_part_by_part() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let image = || NewRecord::new(Class::Image, "application/dicom", Date::today());
    // In one message, and staged: some parts are longer than a block, some are empty.
    let lengths: [fn(u64) -> u64; 2] = [|n| n % 5, |n| if n == 3 { (1 << 20) + 5 } else { n % 700 }];
    for length in lengths {
        let bodies = async |n: u64| Made::noise(n + 1, length(n)).gather().await;
        let mut put = hospital.put(&number, image());
        for n in 0..1024 {
            put = put.part(format!("slice {n}"), "application/dicom", Made::noise(n + 1, length(n)));
        }
        let record = put.await.unwrap().record();
        let whole = clinic.get(&number, record).await.unwrap();
        assert_eq!(whole.parts().len(), 1024);
        let mut expected = Vec::new();
        for n in 0..1024 {
            expected.extend(bodies(n).await);
        }
        assert!(whole.bytes().await.unwrap() == expected);
        for n in [0, 3, 699, 1023] {
            let part = clinic.get(&number, record).part(format!("slice {n}")).await.unwrap();
            assert_eq!(part.range().end - part.range().start, length(n));
            assert!(part.bytes().await.unwrap() == bodies(n).await, "part {n}");
        }
        let missing = clinic.get(&number, record).part("slice 1024").await.unwrap_err();
        assert!(matches!(missing, GetError::NotFound(_)), "{missing}");
    }
    let mut many = hospital.put(&number, image());
    for n in 0..1025 {
        many = many.part_bytes(format!("slice {n}"), "a/b", "");
    }
    assert_eq!(many.await.unwrap_err().field(), Some("parts"));

    // By the command line.
    let files = folder();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("letter"), "Dear colleague").unwrap();
    fs::write(path("scan"), vec![7; 2 << 20]).unwrap();
    let (letter, scan) = (format!("letter={},text/plain", path("letter")), format!("scan={}", path("scan")));
    let put = ["record", "put", number.reveal(), "--class", "document", "--part", &letter, "--part", &scan];
    let told = text(&kura(&world, HOSPITAL, &[&put[..], &["--json"]].concat()));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let record = told["record"].as_str().unwrap();
    let part = ["record", "get", number.reveal(), record, "--part", "letter"];
    assert_eq!(text(&kura(&world, CLINIC, &part)), "Dear colleague");
    let shown = text(&kura(&world, CLINIC, &["record", "show", number.reveal(), record, "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let parts: Vec<_> = shown["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!((parts, &shown["parts"][0]["media_type"]), (vec!["letter", "scan"], &"text/plain".into()));
    let into = path("into");
    text(&kura(&world, CLINIC, &["record", "get", number.reveal(), record, "--to", &into]));
    let into = files.path().join("into").join(record);
    assert_eq!(fs::read(into.join("1-letter.txt")).unwrap(), b"Dear colleague");
    assert_eq!(fs::read(into.join("2-scan")).unwrap(), vec![7; 2 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrar_holds_a_record_and_another_releases_it() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "held").await;
    let first = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let second = world.cluster.client(ClientFile::Registrar2).await.unwrap().registry();
    let reason = |result: Result<kura_client::Receipt, ChangeError>| match result {
        Err(ChangeError::Denied(denial)) => denial.reason().unwrap_or("refused").to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(first.hold(&number, record).await), "no-evidence");
    let receipt = first.hold(&number, record).evidence("order 12").await.unwrap();
    assert_eq!(receipt.record(), record);
    assert_eq!(reason(second.hold(&number, record).evidence("order 12").await), "hold-state");
    assert_eq!(reason(first.release(&number, record).evidence("lifted").await), "same-person");
    // It is read, versioned and hidden as ever.
    let hospital = world.doctor(HOSPITAL);
    hospital.put(&number, note().version_of(record)).bytes("held, corrected").await.unwrap();
    hospital.hide(&number, record).await.unwrap();
    assert_eq!(hospital.get(&number, record).await.unwrap().bytes().await.unwrap(), "held, corrected");
    // By the command line, by the other registrar; also of one who has left.
    world.person(number).withdraw().await.unwrap();
    let mut release = Command::new(KURA);
    release.args(["record", "release", number.reveal(), &record.to_string(), "--evidence", "lifted", "--client"]);
    let output = release.arg(world.cluster.layout().client(ClientFile::Registrar2)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(reason(second.release(&number, record).evidence("lifted").await), "hold-state");
    // A record that is not there, and one of nobody: nothing more is told.
    let nothing = RecordId::from_bytes([7; 16]);
    assert_eq!(reason(first.hold(&number, nothing).evidence("order").await), "refused");
    let nobody = super::world::number(9);
    assert_eq!(reason(first.hold(&nobody, record).evidence("order").await), "refused");
    // Not an application's: it has no call for it.
    let unfit = world.application.registry().hold(&number, record).evidence("order").await;
    assert!(matches!(unfit, Err(ChangeError::Unfit(_))), "{unfit:?}");
    let actions: Vec<Action> =
        world.person(number).accesses().stream().take(usize::MAX).await.unwrap().iter().map(|one| one.action).collect();
    assert!(actions.contains(&Action::Hold) && actions.contains(&Action::Release), "{actions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_kept_and_what_the_node_finds_is_shown() {
    const BODY: &str = include_str!("../../src/signature/vectors/body");
    let files = folder();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let signature = include_bytes!("../../src/signature/vectors/sha256.p7s");
    fs::write(path("ca.pem"), include_bytes!("../../src/signature/vectors/ca.pem")).unwrap();
    fs::write(path("body"), BODY).unwrap();
    fs::write(path("body.p7s"), signature).unwrap();
    fs::write(path("body.tst"), include_bytes!("../../src/signature/vectors/token.tst")).unwrap();
    let ca = path("ca.pem");
    let world = World::configured(1, 0, |node| super::world::set(node, "signatures", "ca", ca.clone())).await;
    let number = world.enrol(1).await;
    let put = |body: &str| {
        let arguments = ["record", "put", number.reveal(), body, "--class", "document", "--media-type", "text/plain"];
        let (signature, token) = (path("body.p7s"), path("body.tst"));
        let signed = ["--signature", &signature, "--timestamp", &token, "--signature-result", "valid", "--json"];
        let told = text(&kura(&world, HOSPITAL, &[&arguments[..], &signed[..]].concat()));
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["record"].as_str().unwrap().to_owned()
    };
    let (good, bad) = (put(&path("body")), put(&path("body.tst")));
    let show = |record: &str| {
        let told = text(&kura(&world, CLINIC, &["record", "show", number.reveal(), record, "--json"]));
        serde_json::from_str::<serde_json::Value>(&told).unwrap()
    };
    let shown = show(&good);
    assert_eq!((&shown["check"]["result"], &shown["check"]["why"]), (&"valid".into(), &"".into()));
    assert_eq!(shown["signature_result"], "valid");
    // A wrong one refuses nothing: what was received is kept, and what was found stands beside it.
    let shown = show(&bad);
    let check = &shown["check"];
    assert_eq!((&check["result"], &check["why"]), (&"invalid".into(), &"is over other bytes".into()));
    assert_eq!(check["timestamp_why"], "is over other bytes");
    let record = world.doctor(CLINIC).get(&number, bad.parse().unwrap()).await.unwrap();
    assert_eq!(record.signature()[..], signature[..]);
    let listed = listed(&world.doctor(CLINIC), &number).await;
    let found =
        |id: &str| listed.iter().find(|one| one.record.to_string() == id).unwrap().signature_check.unwrap().word();
    assert_eq!((found(&good), found(&bad)), ("valid", "invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_stay_what_they_were_while_records_are_added() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let mut before = Vec::new();
    for _ in 0..23 {
        before.push(world.put(&number, "there before").await);
    }
    let mut list = clinic.list(&number).page(5).stream();
    let mut seen = Vec::new();
    while let Some(summary) = list.next().await {
        seen.push(summary.unwrap().record());
        // Wherever new ones fall in the order.
        hospital.put(&number, note()).bytes("added").await.unwrap();
    }
    let mut sorted = seen.clone();
    sorted.sort_by_key(|record| *record.as_bytes());
    sorted.dedup();
    assert_eq!(sorted, seen, "in order, none twice");
    assert!(before.iter().all(|record| seen.contains(record)), "none left out");
}
