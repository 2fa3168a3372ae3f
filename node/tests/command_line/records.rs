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
    site.kura_with(app, &format!("participant link - 00-123-45 {AS}"), NUMBER);
    let resolved = site.kura(app, &format!("participant resolve 00-123-45 --json {AS}")).json();
    assert_eq!(resolved["participant"], "0043001234567890");
    let receipt = site.kura_with(app, &format!("consent grant - F-minato --json {SELF}"), NUMBER).json();
    let outcome = format!("record outcome {} --client client.toml --json", receipt["request"].as_str().unwrap());
    assert_eq!(site.kura(app, &outcome).json()["index"], receipt["index"]);
    let fresh = kura_client::RequestId::new();
    site.refused(4, app, &format!("record outcome {fresh} --client client.toml"), b"");
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
    site.kura("registrar", &format!("app add karte --facility F-minato --facility F-sakura --participants {with}"));
    assert_eq!(site.kura("registrar", &format!("facility list --json {with}")).lines().len(), 2);
    assert_eq!(site.kura("registrar", &format!("user list F-minato --json {with}")).lines()[0]["id"], "u-7");
    assert_eq!(site.kura("registrar", &format!("app list --json {with}")).lines()[0]["participants"], true);
}

fn consent(site: &Site, record: &str) {
    let app = "hospital";
    site.kura_with(app, &format!("consent grant - F-sakura --evidence paper-2 {AS}"), NUMBER);
    site.kura_with(app, &format!("record get - {record} --out other.dcm {OTHER}"), NUMBER);
    assert_eq!(site.kura(app, &format!("participant granted --json {OTHER}")).lines().len(), 1);
    site.kura_with(app, &format!("record hide - {record} --reason wrong {AS}"), NUMBER);
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
    let version =
        format!("record put - letter.txt --class referral-letter --to F-sakura --version-of {letter} --json {AS}");
    assert_eq!(site.kura_with(app, &version, NUMBER).json()["version"], 2);
    assert_eq!(site.kura_with(app, &format!("record history - {letter} --json {AS}"), NUMBER).lines().len(), 2);
    site.kura_with(app, &format!("record narrow - {record} --to F-minato {AS}"), NUMBER);
    site.refused(3, app, &format!("record get - {record} {OTHER}"), NUMBER);

    site.kura_with(app, &format!("consent revoke - F-sakura {SELF}"), NUMBER);
    site.refused(3, app, &format!("record list - {OTHER}"), NUMBER);
    let shown = site.kura_with(app, &format!("consent show - --json {SELF}"), NUMBER).json();
    let grants = shown["grants"].as_array().unwrap();
    assert_eq!(grants.iter().filter(|grant| grant["revoked_ms"].is_null()).count(), 1);
    let seen = site.kura_with(app, "audit list - --json --client client.toml", NUMBER).lines();
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
