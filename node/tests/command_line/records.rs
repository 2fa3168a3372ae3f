//! The commands of registrars and applications.

use std::fs;

use super::host::Site;

const NUMBER: &[u8] = b"0043001234567890\n";
const AS: &str = "--client client.toml --as F-minato/u-7";
const OTHER: &str = "--client client.toml --as F-sakura/u-9";
const SELF: &str = "--client client.toml --as-participant";

/// Each command once, and what it must refuse.
pub fn every_command(site: &Site) {
    registry(site);
    let app = "hospital";
    site.kura_with(app, &format!("participant enrol - --signed-on 2024-04-01 --evidence paper-1 {AS}"), NUMBER);
    // What the cluster refuses has its own exit code where it has one, and says what to do.
    let again = format!("participant enrol - --signed-on 2024-04-01 --evidence paper-1 {AS}");
    let nobody = "record list - --client client.toml --as F-minato/u-99".to_owned();
    let nowhere = format!("consent grant - F-nowhere --evidence paper-2 {AS}");
    for (code, words, word) in
        [(8, again, "already-enrolled"), (4, nobody, "user-unknown"), (4, nowhere, "beneficiary-unknown")]
    {
        let refused = site.refused(code, app, &words, NUMBER);
        assert!(refused.contains(word) && refused.contains("\n  next: "), "{refused}");
    }
    site.kura_with(app, &format!("participant link - 00-123-45 {AS}"), NUMBER);
    let resolved = site.kura(app, &format!("participant resolve 00-123-45 --json {AS}")).json();
    assert_eq!(resolved["participant"], "0043001234567890");
    let receipt = site.kura_with(app, &format!("consent grant - F-minato --json {SELF}"), NUMBER).json();
    numbers(site);
    let outcome = format!("record outcome {} --client client.toml --json", receipt["request"].as_str().unwrap());
    assert_eq!(site.kura(app, &outcome).json()["index"], receipt["index"]);
    let fresh = kura_client::RequestId::new();
    site.refused(4, app, &format!("record outcome {fresh} --client client.toml"), b"");
    // Who asks with another certificate is not sent to write it again.
    let outcome = format!("record outcome {} --client client.toml", receipt["request"].as_str().unwrap());
    let others = site.refused(4, "registrar", &outcome, b"");
    assert!(others.contains("another certificate") && others.contains("next: ask with the client config"), "{others}");
    site.kura(app, &outcome);
    // Born in May 2024: older than what the cluster remembers.
    site.refused(6, app, &format!("record outcome {} --client client.toml", "018f".repeat(8)), b"");

    // Number and body both from standard input: the number is the first line.
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let put = "record put - - --class image --media-type application/dicom --date 2024-05-01 --document-id doc-1";
    let both = [NUMBER, &body].concat();
    let first = site.kura_with(app, &format!("{put} --json {AS}"), &both).json();
    let again = site.kura_with(app, &format!("{put} --json {AS}"), &both).json();
    assert_eq!((&again["record"], &again["repeated"]), (&first["record"], &true.into()), "one document, one record");
    let other = site.refused(8, app, &format!("{put} {AS}"), &[NUMBER, b"another body"].concat());
    assert!(!other.contains("doc-1") && !other.contains("0043"), "{other}");
    // What would be lost by a repetition is not acknowledged by one.
    for more in ["--signature-result valid", "--author u-8", "--confirmer u-7", "--enterer u-8"] {
        let refused = site.refused(8, app, &format!("{put} {more} {AS}"), &both);
        assert!(refused.contains("--document-id: the same body is stored under it with another"), "{refused}");
    }
    // A pipe that failed leaves nothing, and nothing is no document.
    site.refused(2, app, &format!("record put - - --class document {AS}"), NUMBER);
    let record = first["record"].as_str().unwrap();

    let got = site.kura_with(app, &format!("record get - {record} {AS}"), NUMBER);
    assert_eq!(got.out, body);
    site.kura_with(app, &format!("record get - {record} --out scan.dcm {AS}"), NUMBER);
    assert_eq!(fs::read(site.folder(app).join("scan.dcm")).unwrap(), body);
    let part = site.kura_with(app, &format!("record get - {record} --range 1048570..1048590 {AS}"), NUMBER);
    assert_eq!(part.out, body[1_048_570..1_048_590]);
    site.refused(2, app, &format!("record get 004300 {record} {AS}"), b"");
    let denied = site.refused(3, app, &format!("record get - {record} --out no.dcm {OTHER}"), NUMBER);
    assert!(!denied.contains("0043"));
    let left: Vec<String> = fs::read_dir(site.folder(app))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().all(|name| !name.starts_with("no.dcm")), "{left:?}");
    site.refused(2, app, &format!("record get - {record} {record} --to many {AS}"), NUMBER);
    assert!(!site.folder(app).join("many").exists(), "what was refused leaves no folder");
    site.refused(2, app, "record list - --client client.toml", NUMBER);
    site.refused(2, app, "record list - --as F-minato/u-7 --client missing.toml", NUMBER);

    let listed = site.kura_with(app, &format!("record list - --class image --json {AS}"), NUMBER).lines();
    assert_eq!((listed.len(), listed[0]["record"].as_str()), (1, Some(record)));
    consent(site, record);
}

fn registry(site: &Site) {
    let with = "--client client.toml";
    site.refused(3, "hospital", &format!("facility add F-minato --name Minato --kind hospital {with}"), b"");
    for id in ["F-minato", "F-sakura"] {
        site.kura("registrar", &format!("facility add {id} --name {id} --kind hospital {with}"));
    }
    site.kura("registrar", &format!("user add F-minato u-7 --name Abe --profession physician {with}"));
    site.kura("registrar", &format!("user add F-sakura u-9 --name Ueda --profession physician {with}"));
    site.kura("registrar", &format!("facility add F-minato --name F-minato --kind hospital {with}"));
    site.refused(8, "registrar", &format!("facility add F-minato --name other --kind hospital {with}"), b"");
    site.refused(4, "registrar", &format!("user add F-9 u-1 --name Abe --profession nurse {with}"), b"");
    let warned = site.kura("registrar", &format!("facility change F-minato --institution-code 1311001233 {with}"));
    assert!(warned.err.contains("check digit"), "{}", warned.err);
    two_registrars(site, with);
    assert_eq!(site.kura("registrar", &format!("facility list --json {with}")).lines().len(), 2);
    assert_eq!(site.kura("registrar", &format!("user list F-minato --json {with}")).lines()[0]["id"], "u-7");
    assert_eq!(site.kura("registrar", &format!("app list --json {with}")).lines()[0]["participants"], true);
}

/// What takes two is proposed, and done by the other.
fn two_registrars(site: &Site, with: &str) {
    let add = format!("app add karte --facility F-minato --facility F-sakura --participants --json {with}");
    let proposed = site.try_kura("registrar", &add, b"");
    assert_eq!(proposed.code, 10, "{}", proposed.err);
    assert!(proposed.err.contains("kura act confirm"), "{}", proposed.err);
    let act = proposed.json()["proposed"].as_str().unwrap().to_owned();
    assert!(site.kura("registrar", &format!("app list --json {with}")).lines().is_empty());
    site.refused(8, "registrar", &add, b"");
    assert_eq!(site.kura("second", &format!("act list --json {with}")).json()["act"], act[..]);
    let shown = site.kura("second", &format!("act show {act} {with}"));
    let shown = String::from_utf8_lossy(&shown.out).into_owned();
    assert!(shown.contains("F-minato, F-sakura") && shown.contains("ito"), "{shown}");
    site.refused(3, "registrar", &format!("act confirm {act} {with}"), b"");
    site.kura("second", &format!("act confirm {act} {with}"));
    site.refused(8, "second", &format!("act reject {act} {with}"), b"");
    site.refused(4, "second", &format!("act show {} {with}", "00".repeat(16)), b"");
    assert_eq!(site.kura("second", &format!("act list --all --json {with}")).json()["state"], "confirmed");

    let error = site.refused(2, "registrar", &format!("setting set emergency_ms=1 {with}"), b"");
    assert!(error.contains("emergency_ms") && error.contains("300000 to 86400000"), "{error}");
    site.refused(2, "registrar", &format!("setting set nonsense=1 {with}"), b"");
    site.kura("registrar", &format!("setting set emergency_ms=1800000 {with}"));
    assert_eq!(site.kura("second", &format!("setting show --json {with}")).json()["emergency_ms"], 1_800_000);
    fs::write(site.folder("registrar").join("professions.toml"), "clerk = [\"allergy\"]\n").unwrap();
    let wider = format!("setting set --professions professions.toml --json {with}");
    let wider = site.try_kura("registrar", &wider, b"");
    assert_eq!(wider.code, 10, "{}", wider.err);
    let act = wider.json()["proposed"].as_str().unwrap().to_owned();
    let changes = site.kura("second", &format!("act show {act} --json {with}")).json()["changes"].clone();
    let expected = serde_json::json!([{"field": "professions.clerk", "before": "", "after": "allergy"}]);
    assert_eq!(changes, expected);
    site.kura("registrar", &format!("act reject {act} --reason mistaken {with}"));

    site.refused(4, "registrar", &format!("disaster show {with}"), b"");
    let declare = format!("disaster declare flood --hours 2 --profession nurse --kind hospital --json {with}");
    let declared = site.try_kura("registrar", &declare, b"");
    assert_eq!(declared.code, 10, "{}", declared.err);
    let act = declared.json()["proposed"].as_str().unwrap().to_owned();
    site.kura("second", &format!("act confirm {act} {with}"));
    assert_eq!(site.kura("registrar", &format!("disaster show --json {with}")).json()["in_force"], true);
    site.kura("second", &format!("disaster end --reason over {with}"));
    assert_eq!(site.kura("registrar", &format!("disaster show --json {with}")).json()["in_force"], false);
    site.refused(4, "second", &format!("disaster end {with}"), b"");
}

/// Cards, ids, and a second enrolment of the same person.
fn numbers(site: &Site) {
    const OTHER_NUMBER: &[u8] = b"0043001234567891\n";
    let app = "hospital";
    site.kura_with(app, &format!("participant card - C-1 --evidence paper-1 {AS}"), NUMBER);
    let registrar = "--client client.toml --as-registrar ito";
    let whose = site.refused(2, app, &format!("participant card - C-2 --evidence lost {registrar}"), NUMBER);
    assert!(whose.contains("this certificate is of application"), "{whose}");
    site.refused(2, "second", &format!("participant card - C-2 --evidence lost {registrar}"), NUMBER);
    site.kura_with("registrar", &format!("participant card - C-2 --evidence lost {registrar}"), NUMBER);
    site.refused(4, app, &format!("participant resolve-card C-1 {AS}"), b"");
    let held = site.kura(app, &format!("participant resolve-card C-2 --json {AS}")).json();
    assert_eq!(held["participant"], "0043001234567890");

    site.kura_with(app, &format!("participant enrol - --signed-on 2024-04-01 --evidence paper-8 {AS}"), OTHER_NUMBER);
    let taken = site.refused(8, app, &format!("participant link - 00-123-45 {AS}"), OTHER_NUMBER);
    assert!(taken.contains("kura participant relink"), "{taken}");
    site.kura_with(app, &format!("participant relink - 00-123-45 --reason mistyped {AS}"), OTHER_NUMBER);
    let ids = site.kura_with(app, &format!("participant ids - --json {AS}"), OTHER_NUMBER).json();
    assert_eq!((&ids["local_id"], &ids["former"][0]["reason"]), (&"00-123-45".into(), &"mistyped".into()));
    assert!(site.kura_with(app, &format!("participant ids - --json {AS}"), NUMBER).lines().is_empty());

    let both = [NUMBER, OTHER_NUMBER].concat();
    // One number for each run: none is passed over.
    for words in ["consent withdraw - --evidence form-7", "record list -", "erasure show -"] {
        let more = site.refused(2, app, &format!("{words} {AS}"), &both);
        assert!(more.contains("NUMBER: more than one") && more.contains("once for each"), "{words}: {more}");
        assert!(!more.contains("0043"), "{more}");
    }
    let three = [NUMBER, OTHER_NUMBER, OTHER_NUMBER].concat();
    let more = site.refused(2, "registrar", "participant alias - - --evidence form-9 --client client.toml", &three);
    assert!(more.contains("DUPLICATE: more than one"), "{more}");
    let alias = "participant alias - - --evidence form-9 --client client.toml";
    site.refused(3, app, alias, &both);
    let proposed = site.try_kura("registrar", &format!("{alias} --json"), &both);
    assert_eq!(proposed.code, 10, "{}", proposed.err);
    let act = proposed.json()["proposed"].as_str().unwrap().to_owned();
    let shown = site.kura("second", &format!("act show {act} --json --client client.toml")).json();
    assert_eq!((&shown["kind"], &shown["changes"][1]["field"]), (&"alias".into(), &"duplicate".into()));
    site.refused(3, "registrar", &format!("act confirm {act} --client client.toml"), b"");
    site.kura("second", &format!("act confirm {act} --client client.toml"));
    site.refused(3, "registrar", alias, &both);
    let ids = site.kura_with(app, &format!("participant ids - --json {AS}"), NUMBER).json();
    assert_eq!(ids["local_id"], "00-123-45");
    let shown = site.kura_with(app, &format!("participant show - --json {AS}"), OTHER_NUMBER).json();
    assert_eq!(shown["alias_of"], "0043001234567890");
    let resolved = site.kura(app, &format!("participant resolve 00-123-45 --json {AS}")).json();
    assert_eq!(resolved["participant"], "0043001234567890");
}

fn consent(site: &Site, record: &str) {
    let app = "hospital";
    site.kura_with(app, &format!("consent grant - F-sakura --evidence paper-2 {AS}"), NUMBER);
    site.kura_with(app, &format!("record get - {record} --out other.dcm {OTHER}"), NUMBER);
    assert_eq!(site.kura(app, &format!("participant granted --json {OTHER}")).lines().len(), 1);
    site.kura_with(app, &format!("record hide - {record} --reason wrong {AS}"), NUMBER);
    let shown = site.kura_with(app, &format!("record show - {record} {AS}"), NUMBER);
    assert!(String::from_utf8(shown.out).unwrap().contains("hidden"), "whoever still sees it sees that");
    site.refused(3, app, &format!("record get - {record} {OTHER}"), NUMBER);
    site.kura_with(app, &format!("record unhide - {record} {AS}"), NUMBER);
    site.kura_with(app, &format!("record get - {record} --out other.dcm {OTHER}"), NUMBER);

    fs::write(site.folder(app).join("letter.txt"), "a letter").unwrap();
    let letter = "record put - letter.txt --class referral-letter --media-type text/plain --to F-sakura --json";
    let letter = site.kura_with(app, &format!("{letter} {AS}"), NUMBER).json();
    let letter = letter["record"].as_str().unwrap();
    let inbox = site.kura(app, &format!("record inbox --json {OTHER}")).lines();
    assert_eq!((inbox.len(), inbox[0]["record"].as_str()), (1, Some(letter)));
    let cursor = inbox[0]["cursor"].as_str().unwrap();
    assert!(site.kura(app, &format!("record inbox --json --since {cursor} {OTHER}")).lines().is_empty());
    let version = format!("record put - letter.txt --to F-sakura --version-of {letter} --json {AS}");
    // What amends is of the day of what it amends, which only its author knows.
    site.refused(2, app, &version, NUMBER);
    let version = format!("{version} --date 2024-05-01");
    assert_eq!(site.kura_with(app, &version, NUMBER).json()["version"], 2);
    // What is not said is as it was; another class would show it to others.
    let versions = site.kura_with(app, &format!("record history - {letter} --json {AS}"), NUMBER).lines();
    assert_eq!(versions.len(), 2);
    assert!(versions.iter().all(|one| one["class"] == "referral-letter" && one["media_type"] == "text/plain"));
    let other = site.refused(8, app, &format!("{version} --class image"), NUMBER);
    assert!(other.contains("class: the record is a referral-letter"), "{other}");
    site.kura_with(app, &format!("record narrow - {record} --to F-minato {AS}"), NUMBER);
    site.refused(3, app, &format!("record get - {record} {OTHER}"), NUMBER);

    let revoked = site.kura_with(app, &format!("consent revoke - F-sakura --json {SELF}"), NUMBER).json();
    assert!(revoked.get("nothing_to_end").is_none(), "{revoked}");
    // Once more there is nothing to revoke: said, and no failure.
    let again = site.kura_with(app, &format!("consent revoke - F-sakura --json {SELF}"), NUMBER).json();
    assert_eq!(again["nothing_to_end"], true);
    let told = site.kura_with(app, &format!("consent revoke - F-sakura {SELF}"), NUMBER).out;
    assert!(String::from_utf8(told).unwrap().contains("nothing was granted to this facility"));
    site.refused(3, app, &format!("record list - {OTHER}"), NUMBER);
    let shown = site.kura_with(app, &format!("consent show - --json {SELF}"), NUMBER).json();
    let grants = shown["grants"].as_array().unwrap();
    assert_eq!(grants.iter().filter(|grant| grant["revoked_ms"].is_null()).count(), 1);
    let seen = site.kura_with(app, "audit list - --as-participant --json --client client.toml", NUMBER).lines();
    assert!(seen.iter().any(|access| access["facility"] == "F-sakura" && access["denial"] == "hidden"), "{seen:?}");
    assert!(seen.iter().any(|access| access["facility"] == "F-sakura" && access["basis"] == "grant"));
}

/// What was written is still there.
pub fn still_readable(site: &Site) {
    let listed = site.kura_with("hospital", &format!("record list - --class image --json {AS}"), NUMBER).lines();
    let record = listed[0]["record"].as_str().unwrap().to_owned();
    let got = site.kura_with("hospital", &format!("record get - {record} {AS}"), NUMBER);
    assert_eq!(got.out, fs::read(site.folder("hospital").join("scan.dcm")).unwrap());

    site.kura_with("hospital", &format!("consent withdraw - {SELF}"), NUMBER);
    site.refused(3, "hospital", &format!("record get - {record} {AS}"), NUMBER);
}
