//! A participant's own copy: complete, checkable, and never mixed with anything.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kura_client::{Class, Date, GetError, NewRecord, ParticipantNumber};
use kura_cluster::hexadecimal;
use kura_node::dev::ClientFile;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::memory::Made;
use super::world::{CLINIC, DOCTOR, HOSPITAL, KURA, OUTSIDER, World, folder};

/// A copy for a facility's doctor, or for the participant.
fn export(world: &World, number: &ParticipantNumber, to: &Path, facility: &str) -> Output {
    let mut command = Command::new(KURA);
    command.args(["export", number.reveal(), "--json", "--out"]).arg(to);
    match facility {
        "" => command.arg("--as-participant"),
        facility => command.args(["--as", &format!("{facility}/{DOCTOR}")]),
    };
    command.arg("--client").arg(world.cluster.layout().client(ClientFile::Application)).stdin(Stdio::null());
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("4300"), "{error}");
    output.status.code().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// Every file of a copy, below it.
fn files(folder: &Path, below: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(below).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files(folder, &entry.path(), into),
            false => into.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
        }
    }
}

/// Checks a copy as its holder would: every file has its line and its hash.
fn check(copy: &Path) -> Value {
    let sums = fs::read_to_string(copy.join("SHA256SUMS")).unwrap();
    let manifest = json(&copy.join("manifest.json"));
    assert_eq!(manifest["sums_sha256"], hash(sums.as_bytes()));
    let mut named = vec!["SHA256SUMS".to_owned(), "manifest.json".to_owned()];
    for line in sums.lines() {
        let (sha256, name) = line.split_once("  ").unwrap();
        assert_eq!(hash(&fs::read(copy.join(name)).unwrap()), sha256, "{name}");
        named.push(name.to_owned());
    }
    let mut there = Vec::new();
    files(copy, copy, &mut there);
    named.sort();
    there.sort();
    assert_eq!(there, named, "nothing is in the copy that no sum covers");
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_holds_what_the_actor_may_see_and_goes_on_after_a_cut() {
    let world = World::start(2, 0).await;
    let number = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let day: Date = "2024-02-29".parse().unwrap();
    let letter = || NewRecord::new(Class::ReferralLetter, "text/plain", day).document_id("letter 1");
    let first = hospital.put(&number, letter()).bytes("dear colleague").await.unwrap();
    hospital.put(&number, letter().version_of(first.record())).bytes("dear friend").await.unwrap();
    let series = NewRecord::new(Class::Image, "application/dicom", day);
    let series = hospital
        .put(&number, series)
        .part("../slice", "application/dicom", Made::noise(1, 3 << 20))
        .part_bytes("report", "application/pdf", "%PDF-1.7")
        .await
        .unwrap();
    let hidden =
        hospital.put(&number, NewRecord::new(Class::Document, "text/plain", day)).bytes("wrong").await.unwrap();
    hospital.hide(&number, hidden.record()).await.unwrap();

    let target = folder();
    let copy = target.path().join("copy");
    let output = export(&world, &number, &copy, HOSPITAL);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = check(&copy);
    assert_eq!((&manifest["records"], &manifest["versions"]), (&3.into(), &4.into()));
    assert_eq!((&manifest["participant"], &manifest["actor"]), (&number.reveal().into(), &"facility-user".into()));
    let letters = |version: u32| format!("records/2024-02-29_referral-letter_{}_v{version}", first.record());
    assert_eq!(fs::read(copy.join(letters(1)).join("1-body.txt")).unwrap(), b"dear colleague");
    assert_eq!(fs::read(copy.join(letters(2)).join("1-body.txt")).unwrap(), b"dear friend");
    let images = copy.join(format!("records/2024-02-29_image_{}_v1", series.record()));
    assert_eq!(fs::metadata(images.join("1-_._slice.dcm")).unwrap().len(), 3 << 20);
    assert_eq!(fs::read(images.join("2-report.pdf")).unwrap(), b"%PDF-1.7");
    let index = fs::read_to_string(copy.join("index.ndjson")).unwrap();
    let index: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(index.len(), 4);
    assert!(index.iter().any(|line| line["record"] == hidden.record().to_string() && line["hidden"] == true));
    assert_eq!(json(&copy.join("consents.json"))["grants"].as_array().unwrap().len(), 2);

    // A complete copy is not touched again; neither is a folder that holds anything else.
    assert_eq!(code(&export(&world, &number, &copy, HOSPITAL)), 8);
    check(&copy);

    // Another facility's copy lacks what is hidden from it, and who is not named gets none.
    let other = target.path().join("other");
    assert_eq!(code(&export(&world, &number, &other, CLINIC)), 0);
    assert_eq!(check(&other)["records"], 2);
    let none = target.path().join("none");
    assert_eq!(code(&export(&world, &number, &none, OUTSIDER)), 3);
    assert!(!none.exists());

    // The participant's own has everything that is not hidden, and who looked.
    let own = target.path().join("own");
    assert_eq!(code(&export(&world, &number, &own, "")), 0);
    let manifest = check(&own);
    assert_eq!(
        (&manifest["actor"], &manifest["records"], &manifest["versions"]),
        (&"participant".into(), &2.into(), &3.into())
    );
    let journal = fs::read_to_string(own.join("journal.ndjson")).unwrap();
    let journal: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(manifest["journal_entries"], journal.len());
    let acts = |actor: &str, action: &str| {
        journal.iter().filter(|entry| entry["actor_kind"] == actor && entry["action"] == action).count()
    };
    assert_eq!(
        (acts("participant", "get"), acts("facility-user", "get")),
        (3, 4 + 3),
        "each read is in it, this copy's too"
    );
    assert_eq!(fs::read(own.join(letters(1)).join("1-body.txt")).unwrap(), b"dear colleague");

    // As a cut leaves it: no manifest, the marker, one record missing, one half, one damaged.
    let marker = serde_json::json!({"format": 2, "participant": number.reveal(), "actor": "facility-user"});
    fs::write(copy.join("INCOMPLETE.json"), marker.to_string()).unwrap();
    fs::remove_file(copy.join("manifest.json")).unwrap();
    fs::rename(copy.join(letters(1)), copy.join(format!("{}.part", letters(1)))).unwrap();
    fs::write(copy.join(letters(2)).join("1-body.txt"), "dear fiend!").unwrap();
    let kept = fs::metadata(images.join("record.json")).unwrap().modified().unwrap();
    let strange = world.enrol(2).await;
    assert_eq!(code(&export(&world, &strange, &copy, HOSPITAL)), 8, "another participant's");
    assert_eq!(code(&export(&world, &number, &copy, HOSPITAL)), 0);
    assert_eq!(check(&copy)["versions"], 4);
    assert_eq!(fs::read(copy.join(letters(2)).join("1-body.txt")).unwrap(), b"dear friend");
    assert_eq!(fs::metadata(images.join("record.json")).unwrap().modified().unwrap(), kept, "taken over, not fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_left_takes_their_own_copy_along_and_nobody_else_gets_one() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let day: Date = "2024-02-29".parse().unwrap();
    let letter = NewRecord::new(Class::ReferralLetter, "text/plain", day);
    let first = hospital.put(&number, letter.clone()).bytes("dear colleague").await.unwrap().record();
    hospital.put(&number, letter.version_of(first)).bytes("dear friend").await.unwrap();
    let hidden =
        hospital.put(&number, NewRecord::new(Class::Document, "text/plain", day)).bytes("wrong").await.unwrap();
    hospital.hide(&number, hidden.record()).await.unwrap();
    world.person(number).withdraw().await.unwrap();

    let target = folder();
    let own = target.path().join("own");
    let output = export(&world, &number, &own, "");
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = check(&own);
    let told = (&manifest["records"], &manifest["versions"], &manifest["damaged"]);
    assert_eq!(told, (&1.into(), &2.into(), &0.into()), "what they saw last: all but what is hidden");
    let letters = own.join(format!("records/2024-02-29_referral-letter_{first}_v2"));
    assert_eq!(fs::read(letters.join("1-body.txt")).unwrap(), b"dear friend");
    assert!(json(&own.join("consents.json"))["withdrawn_ms"].is_u64());
    let journal = fs::read_to_string(own.join("journal.ndjson")).unwrap();
    assert!(journal.contains(r#""action":"withdraw""#) && journal.contains(r#""actor_kind":"participant""#));

    // For nobody else: neither whoever wrote it nor an emergency, and the refusal is the uniform one.
    for facility in [HOSPITAL, CLINIC, OUTSIDER] {
        let none = target.path().join(facility);
        assert_eq!(code(&export(&world, &number, &none, facility)), 3);
        assert!(!none.exists());
        let refused = world.doctor(facility).get(&number, first).await.unwrap_err();
        assert!(matches!(&refused, GetError::Denied(denial) if denial.reason().is_none()), "{refused}");
    }
    // Until the keys are destroyed: also while an erasure waits.
    world.person(number).ask_erasure().await.unwrap();
    let again = target.path().join("again");
    assert_eq!(code(&export(&world, &number, &again, "")), 0);
    assert_eq!(check(&again)["records"], 1);
}
