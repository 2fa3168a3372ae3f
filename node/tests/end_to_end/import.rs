//! Existing records come in by the command line: once, byte for byte, under nobody else's name.

mod alias;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kura_client::registry::User as RegisteredUser;
use kura_client::{Class, ParticipantNumber, Profession, Summary};
use kura_node::dev::ClientFile;
use serde_json::Value;

use super::world::{CLINIC, DOCTOR, HOSPITAL, KURA, SOON, World, folder, listed, until, versions};

const PATIENT: &str = "0001234";
const ORDER: &str = "000/123/0001234/20240229/OMP-01/0001234_20240229_OMP-01";

/// `kura import` as a user of the hospital.
fn import(world: &World, what: &str, directory: &Path, user: &str, more: &[&str]) -> Command {
    let mut command = Command::new(KURA);
    command.args(["import", what]).arg(directory).args(["--as", &format!("{HOSPITAL}/{user}"), "--json"]);
    command.arg("--client").arg(world.cluster.layout().client(ClientFile::Application)).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
async fn run(mut command: Command) -> (i32, Totals) {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&stderr).into_owned();
    let text = String::from_utf8(stdout).unwrap();
    let totals: Value = serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{text} {error}"));
    for told in [text, error] {
        assert!(!told.contains(PATIENT) && !told.contains("4300"), "{told}");
    }
    (status.code().unwrap(), Totals(totals))
}

struct Totals(Value);

impl Totals {
    /// Files of an outcome and reason.
    fn of(&self, outcome: &str, reason: &str) -> u64 {
        let counts = self.0["counts"].as_array().unwrap();
        let found = counts.iter().find(|count| count["outcome"] == outcome && count["reason"] == reason);
        found.map_or(0, |count| count["files"].as_u64().unwrap())
    }

    fn hidden(&self) -> u64 {
        self.0["hidden"].as_u64().unwrap()
    }

    fn files(&self) -> u64 {
        self.0["files"].as_u64().unwrap()
    }
}

fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A message in ISO-2022-JP about a patient.
fn message(patient: &str, says: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|HIS|S|G|R|20240301120000||RDE^O11^RDE_O11|1|P|2.5||||||~ISO IR87||ISO 2022-1994\r\
         PID|0001||{patient}^^^^PI||\x1b$B45<T\x1b(B^\x1b$BB@O:\x1b(B^^^^^L^I\rNTE|1||{says}\r"
    )
    .into_bytes()
}

/// What is there under a document id, as an actor sees it.
async fn found(world: &World, facility: &str, number: &ParticipantNumber, document: &str) -> Option<Summary> {
    listed(&world.doctor(facility), number).await.into_iter().find(|summary| summary.document_id == document)
}

async fn body(world: &World, facility: &str, number: &ParticipantNumber, summary: &Summary) -> Vec<u8> {
    let record = world.doctor(facility).get(number, summary.record).version(summary.version).await.unwrap();
    record.bytes().await.unwrap().to_vec()
}

async fn linked(world: &World, nth: u64) -> ParticipantNumber {
    let number = world.enrol(nth).await;
    world.doctor(HOSPITAL).link(&number, PATIENT).await.unwrap();
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ss_mix2_storage_comes_in_once_and_follows_its_flags() {
    let world = World::start(2, 0).await;
    let number = linked(&world, 1).await;
    let storage = folder();
    let root = storage.path();
    let at = |order: &str, moment: u8, flag: u8| format!("{ORDER}_{order}_2024030{moment}000000000_01_{flag}");
    let document =
        |order: &str, moment: u8| format!("ssmix2/0001234_20240229_OMP-01_{order}_01/2024030{moment}000000000");
    put(root, &at("1", 1, 2), message(PATIENT, "first"));
    put(root, &at("1", 3, 1), message(PATIENT, "third"));
    put(root, &at("2", 1, 0), message(PATIENT, "deleted"));
    put(root, &at("3", 1, 2), message(PATIENT, "past without a live one"));
    put(root, &at("4", 1, 1), message("0001235", "about somebody else"));
    put(root, &at("5", 1, 1), b"\xfb\xfc");
    let early = "000/123/0001234/20191231/ADT-61/0001234_20191231_ADT-61_1_20191231000000000_-_1";
    put(root, early, message(PATIENT, "before the consent of 2020"));
    let unknown = "000/999/0009999/-/ADT-00/0009999_-_ADT-00_1_20240301000000000_-_1";
    put(root, unknown, message("0009999", "of nobody who takes part"));
    put(root, "LICENSE", "free");

    let report = root.with_extension("ndjson");
    let told = ["--report", report.to_str().unwrap()];
    let (code, totals) = run(import(&world, "ssmix2", root, DOCTOR, &told)).await;
    assert_eq!(code, 9);
    assert_eq!((totals.files(), totals.of("stored", ""), totals.hidden()), (9, 4, 2));
    assert_eq!(totals.of("set-aside", "patient-differs"), 1);
    assert_eq!(totals.of("set-aside", "not-hl7"), 1);
    assert_eq!(totals.of("refused", "before-consent"), 1);
    assert_eq!(totals.of("refused", "participant-unknown"), 1);
    assert_eq!(totals.of("skipped", "outside-layout"), 1);
    let lines: Vec<Value> =
        fs::read_to_string(&report).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 9);
    let mixed = lines.iter().find(|line| line["reason"] == "patient-differs").unwrap();
    assert_eq!(mixed["file"], at("4", 1, 1));
    fs::remove_file(&report).unwrap();

    // Others see what is live, and nothing else.
    let seen = listed(&world.doctor(CLINIC), &number).await;
    assert_eq!(seen.iter().map(|summary| summary.document_id.clone()).collect::<Vec<_>>(), [document("1", 3)]);
    assert_eq!((seen[0].version, seen[0].class), (2, Class::Prescription));
    assert_eq!(seen[0].clinical_date.to_string(), "2024-02-29");
    assert_eq!(seen[0].media_type, "x-application/hl7-v2+er7; charset=iso-2022-jp");
    assert_eq!(body(&world, CLINIC, &number, &seen[0]).await, message(PATIENT, "third"));
    let versions = versions(&world.doctor(CLINIC), &number, seen[0].record).await;
    assert_eq!(body(&world, CLINIC, &number, &versions[0]).await, message(PATIENT, "first"));
    for order in ["2", "3"] {
        assert!(found(&world, HOSPITAL, &number, &document(order, 1)).await.unwrap().hidden);
    }

    // Again: nothing is written, whoever runs it. A clerk sees no record, and still stores none twice.
    let clerk = RegisteredUser::new(HOSPITAL, "clerk-1", "name of the clerk", Profession::Clerk);
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    registry.add_user(&clerk).await.unwrap().done().unwrap();
    for user in [DOCTOR, "clerk-1"] {
        let (code, totals) = run(import(&world, "ssmix2", root, user, &[])).await;
        assert_eq!((code, totals.of("stored", ""), totals.of("repeated", "")), (9, 0, 4), "{user}");
    }
    assert_eq!(listed(&world.doctor(HOSPITAL), &number).await.len(), 3);

    // The storage goes on: 1 is amended, 2 is entered anew, and between them comes a latecomer.
    fs::rename(root.join(at("1", 3, 1)), root.join(at("1", 3, 2))).unwrap();
    put(root, &at("1", 4, 1), message(PATIENT, "fourth"));
    put(root, &at("2", 2, 1), message(PATIENT, "anew"));
    put(root, &at("1", 2, 2), message(PATIENT, "late"));
    let (_, totals) = run(import(&world, "ssmix2", root, DOCTOR, &[])).await;
    assert_eq!((totals.of("stored", ""), totals.of("set-aside", "later-stored"), totals.hidden()), (2, 1, 0));
    let amended = found(&world, CLINIC, &number, &document("1", 4)).await.unwrap();
    assert_eq!((amended.version, amended.record), (3, seen[0].record));
    assert_eq!(body(&world, CLINIC, &number, &amended).await, message(PATIENT, "fourth"));
    assert!(!found(&world, CLINIC, &number, &document("2", 2)).await.unwrap().hidden, "shown again");

    // Other content of the same length under a name that is stored: the newest version, and an earlier one.
    put(root, &at("1", 4, 1), message(PATIENT, "FOURTH"));
    put(root, &at("1", 1, 2), message(PATIENT, "FIRST"));
    let (code, totals) = run(import(&world, "ssmix2", root, DOCTOR, &[])).await;
    assert_eq!((code, totals.of("stored", ""), totals.of("refused", "id-in-use"), totals.hidden()), (9, 0, 2, 0));
    let still = found(&world, CLINIC, &number, &document("1", 4)).await.unwrap();
    assert_eq!((still.version, body(&world, CLINIC, &number, &still).await), (3, message(PATIENT, "fourth")));
    put(root, &at("1", 4, 1), message(PATIENT, "fourth"));
    put(root, &at("1", 1, 2), message(PATIENT, "first"));

    // A flag changes and nothing else does.
    fs::rename(root.join(at("1", 4, 1)), root.join(at("1", 4, 0))).unwrap();
    let (_, totals) = run(import(&world, "ssmix2", root, DOCTOR, &[])).await;
    assert_eq!((totals.of("stored", ""), totals.hidden()), (0, 1));
    assert!(found(&world, CLINIC, &number, &document("1", 4)).await.is_none());
    assert!(found(&world, HOSPITAL, &number, &document("1", 4)).await.unwrap().hidden);

    // What a person hid stays hidden.
    let anew = found(&world, HOSPITAL, &number, &document("2", 2)).await.unwrap();
    world.doctor(HOSPITAL).hide(&number, anew.record).await.unwrap();
    run(import(&world, "ssmix2", root, DOCTOR, &[])).await;
    assert!(found(&world, CLINIC, &number, &document("2", 2)).await.is_none());
}

/// A FHIR condition of a patient, who is named by the hospital's own id.
fn condition(patient: &str, says: &str) -> String {
    format!(
        r##"{{"resourceType":"Condition","contained":[{{"resourceType":"Patient","id":"p","identifier":[{{"type":{{"coding":[{{"code":"MR"}}]}},"system":"s","value":"{patient}"}}]}}],"subject":{{"reference":"#p"}},"recordedDate":"2024-02-29","note":[{{"text":"{says}"}}]}}"##
    )
}

fn bundle(id: &str, patients: &[&str]) -> String {
    let entry = |patient: &&str| format!(r#"{{"resource":{}}}"#, condition(patient, "in a bundle"));
    let entries: Vec<String> = patients.iter().map(entry).collect();
    let identifier = format!(r#"{{"system":"s","value":"{id}"}}"#);
    format!(r#"{{"resourceType":"Bundle","identifier":{identifier},"entry":[{}]}}"#, entries.join(","))
}

/// A DICOM file with an image of no use, of some megabytes.
fn dicom(patient: &str, instance: &str) -> Vec<u8> {
    let mut bytes = [&[0; 128][..], b"DICM"].concat();
    let mut element = |tag: [u8; 4], kind: &[u8; 2], value: &str| {
        let value = format!("{value}{}", if value.len() % 2 == 1 { " " } else { "" });
        bytes.extend(tag);
        bytes.extend(kind);
        bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(value.into_bytes());
    };
    element([2, 0, 0x10, 0], b"UI", "1.2.840.10008.1.2.1");
    element([8, 0, 0x18, 0], b"UI", instance);
    element([8, 0, 0x20, 0], b"DA", "20240228");
    element([0x10, 0, 0x20, 0], b"LO", patient);
    bytes.extend((0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_comes_in_by_what_its_files_hold() {
    let world = World::start(2, 0).await;
    let (number, other) = (linked(&world, 1).await, world.enrol(2).await);
    let files = folder();
    let root = files.path();
    put(root, "a/resource", condition(PATIENT, "one"));
    put(root, "a/bundle.json", bundle("b-1", &[PATIENT, PATIENT]));
    put(root, "image", dicom(PATIENT, "1.2.3"));
    put(root, "message.txt", message(PATIENT, "a message"));
    put(root, "scan.pdf", "%PDF-1.7 of the other");
    put(root, "letter.md", "# a letter that the table names");
    put(root, "mixed.json", bundle("b-2", &[PATIENT, "0001235"]));
    put(root, "taken.json", bundle("b-1", &[PATIENT]));
    put(root, "unknown.json", condition("0009999", "of nobody who takes part"));
    put(root, "nobody.pdf", "%PDF-1.7 of nobody");
    put(root, "contradicted.json", condition(PATIENT, "the table says another"));
    put(root, "undated.pdf", "%PDF-1.7 without a day");
    put(root, "README.md", "# not a record");
    put(root, "empty", "");
    put(root, "named-and-empty.pdf", "");
    std::os::unix::fs::symlink("/etc/hostname", root.join("link")).unwrap();
    let table = root.with_extension("csv");
    let rows = format!(
        "file,participant,date\nscan.pdf,{o},2024-02-27\nletter.md,{o},2024-02-27\ncontradicted.json,{o},\nundated.pdf,{o},\nnamed-and-empty.pdf,{o},2024-02-27\n",
        o = other.reveal()
    );
    fs::write(&table, rows).unwrap();
    let who = ["--participants", table.to_str().unwrap(), "--at-once", "1"];

    // One at a time in the folder's order: which of the two of one id comes first is not said.
    let (code, totals) = run(import(&world, "files", root, DOCTOR, &who)).await;
    assert_eq!((code, totals.files()), (9, 16));
    assert_eq!(totals.of("stored", ""), 6);
    assert_eq!(totals.of("refused", "id-in-use"), 1);
    assert_eq!(totals.of("set-aside", "several-patients"), 1);
    assert_eq!(totals.of("set-aside", "participants-differ"), 1);
    assert_eq!(totals.of("refused", "participant-unknown"), 1);
    assert_eq!(totals.of("refused", "names-no-patient"), 1);
    assert_eq!(totals.of("refused", "day-unknown"), 1);
    assert_eq!(totals.of("refused", "empty"), 1, "somebody expects it");
    assert_eq!((totals.of("skipped", "not-a-record"), totals.of("skipped", "empty")), (1, 1));
    assert_eq!(totals.of("skipped", "not-a-file"), 1);

    let mine = listed(&world.doctor(HOSPITAL), &number).await;
    assert_eq!(mine.len(), 4);
    let image = found(&world, CLINIC, &number, "urn:oid:1.2.3").await.unwrap();
    assert_eq!((image.class, image.clinical_date.to_string().as_str()), (Class::Image, "2024-02-28"));
    assert_eq!(body(&world, CLINIC, &number, &image).await, dicom(PATIENT, "1.2.3"));
    assert!(found(&world, CLINIC, &number, "fhir/Bundle/s|b-1").await.is_some());
    assert!(found(&world, CLINIC, &number, "hl7/RDE^O11/1").await.is_some());
    let theirs = listed(&world.doctor(HOSPITAL), &other).await;
    assert_eq!(theirs.len(), 2);
    assert!(theirs.iter().all(|summary| summary.clinical_date.to_string() == "2024-02-27"));

    // A second run stores nothing again, whatever the files are called; a day for the rest may be given.
    fs::rename(root.join("a/resource"), root.join("b")).unwrap();
    fs::rename(root.join("image"), root.join("image-2")).unwrap();
    let (code, totals) =
        run(import(&world, "files", root, DOCTOR, &[&who[..], &["--date", "2024-02-26"]].concat())).await;
    assert_eq!(
        (code, totals.of("stored", ""), totals.of("repeated", ""), totals.of("refused", "id-in-use")),
        (9, 1, 6, 1)
    );
    assert_eq!(listed(&world.doctor(HOSPITAL), &number).await.len(), 4);

    // Corrected under the same id, in the same length: told, and not taken for what is stored.
    let mut corrected = dicom(PATIENT, "1.2.3");
    *corrected.last_mut().unwrap() ^= 1;
    put(root, "image-2", &corrected);
    put(root, "message.txt", message(PATIENT, "A MESSAGE"));
    let (code, totals) = run(import(&world, "files", root, DOCTOR, &who)).await;
    assert_eq!(
        (code, totals.of("stored", ""), totals.of("repeated", ""), totals.of("refused", "id-in-use")),
        (9, 0, 4, 3)
    );
    assert_eq!(body(&world, CLINIC, &number, &image).await, dicom(PATIENT, "1.2.3"));

    // Usage: a table that names nobody, an actor who is none of a facility.
    fs::write(&table, "file,participant\nscan.pdf,4300\n").unwrap();
    let output = import(&world, "files", root, DOCTOR, &who).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && error.contains("row 2") && !error.contains("scan.pdf"), "{error}");
    // Everything would be refused for the same reason: the run stops at once.
    let output = import(&world, "files", root, "nobody", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_goes_on() {
    const FILES: usize = 400;
    let world = World::start(2, 0).await;
    let number = linked(&world, 1).await;
    let files = folder();
    for nth in 0..FILES {
        put(files.path(), &format!("{}/{nth}", nth % 7), condition(PATIENT, &format!("finding {nth}")));
    }
    let mut child = import(&world, "files", files.path(), DOCTOR, &["--at-once", "2"]).spawn().unwrap();
    let before = until("some records", SOON, async || {
        let count = listed(&world.doctor(HOSPITAL), &number).await.len();
        if count >= 5 { Ok(count) } else { Err(format!("{count} are there")) }
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    let cut = listed(&world.doctor(HOSPITAL), &number).await.len();
    assert!(before <= cut && cut < FILES, "{cut} of {FILES} came before the cut");

    let (code, totals) = run(import(&world, "files", files.path(), DOCTOR, &[])).await;
    assert_eq!(code, 0);
    // A write may have been on its way when the process was killed, and arrived after it was counted.
    assert!(totals.of("repeated", "") >= cut as u64);
    assert_eq!(totals.of("stored", "") + totals.of("repeated", ""), FILES as u64);
    let all = listed(&world.doctor(HOSPITAL), &number).await;
    let documents: std::collections::BTreeSet<_> = all.iter().map(|summary| &summary.document_id).collect();
    assert_eq!((all.len(), documents.len()), (FILES, FILES));
    let none: PathBuf = files.path().join("none");
    let output = import(&world, "files", &none, DOCTOR, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_leaflet_for_two_people_is_two_records() {
    let world = World::start(1, 0).await;
    let (first, second) = (world.enrol(1).await, world.enrol(2).await);
    let scans = folder();
    for name in ["a.pdf", "b.pdf"] {
        put(scans.path(), name, "%PDF-1.7 how to take this medicine");
    }
    let table = scans.path().with_extension("csv");
    let rows = format!("file,participant\na.pdf,{}\nb.pdf,{}\n", first.reveal(), second.reveal());
    fs::write(&table, rows).unwrap();
    let options = ["--participants", table.to_str().unwrap(), "--date", "2024-04-01"];
    for (outcome, times) in [("stored", 2), ("repeated", 2)] {
        let (code, totals) = run(import(&world, "files", scans.path(), DOCTOR, &options)).await;
        assert_eq!((code, totals.of(outcome, "")), (0, times), "{outcome}");
    }
    for number in [first, second] {
        assert_eq!(listed(&world.doctor(CLINIC), &number).await.len(), 1);
    }
    fs::remove_file(table).unwrap();
}
