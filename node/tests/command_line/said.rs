//! What commands say where somebody new to them would not know how to go on: who acts, what was so already, how a list
//! is narrowed, who has gone.

use std::fs;
use std::process::{Command, Stdio};

use super::host::{KURA, Site};
use super::words::{Case, NUMBER, check};

const AS: &str = "--client client.toml --as F-minato/u-7";
const SELF: &str = "--client client.toml --as-participant";

/// On the cluster that [`super::records::every_command`] leaves.
pub fn on_a_cluster(site: &Site) {
    let case = |code, host, words: String, told: &'static [&'static str]| -> Case { (code, host, words, told) };
    let nobody: &[&str] = &["for whom?", "--as-participant"];
    check(
        site,
        &[
            // Nothing is done in a participant's name that was not asked for in it.
            case(2, "hospital", "audit list - --client client.toml".into(), nobody),
            case(2, "hospital", "export - --out unasked --client client.toml".into(), nobody),
            case(2, "hospital", format!("audit list - --actor u-7 {SELF}"), &["--actor", "--facility"]),
            case(2, "hospital", format!("audit list --own-facility --action get {AS}"), &["--action", "--denied"]),
            case(2, "hospital", format!("record get - {} --json {AS}", "11".repeat(16)), &["--out FILE"]),
            case(4, "ca", "ca revoke --directory authority --name nobody --list revoked.pem".into(), &["--serial"]),
            case(2, "ca", "ca inspect revoked.pem".into(), &["revoked.pem"]),
        ],
    );
    assert!(!site.folder("hospital").join("unasked").exists());
    lists(site);
    records(site);
    certificates(site);
    readers_that_go(site);
    let well = site.try_kura("operator", "status --fail --client client.toml", b"");
    assert!([0, 12].contains(&well.code), "{}", well.err);
    assert_eq!(well.code == 12, well.err.contains("ALARM"), "{}", well.err);
}

/// The participant's own list is narrowed as others are.
fn lists(site: &Site) {
    let seen = |given: &str| site.kura_with("hospital", &format!("audit list - --json {given} {SELF}"), NUMBER).lines();
    let all = seen("--oldest-first");
    let position = |one: &serde_json::Value| one["journal_position"].as_u64().unwrap();
    assert!(all.is_sorted_by_key(position) && all.len() > 5);
    let denied = seen("--denied");
    assert!(!denied.is_empty() && denied.iter().all(|one| one["denial"] != ""), "{denied:?}");
    let grants = seen("--action grant --facility F-sakura");
    assert!(!grants.is_empty());
    assert!(grants.iter().all(|one| one["action"] == "grant" && one["object"] == "F-sakura"), "{grants:?}");
    assert!(seen("--until 2020-01-01").is_empty());
}

fn records(site: &Site) {
    let app = "hospital";
    // F-minato was named before.
    let again = format!("consent grant - F-minato --evidence paper-1 --json {AS}");
    assert_eq!(site.kura_with(app, &again, NUMBER).json()["granted_before"], true);
    let told = site.kura_with(app, &format!("consent grant - F-minato {SELF}"), NUMBER).out;
    assert!(String::from_utf8(told).unwrap().contains("named this facility already"));

    let listed = site.kura_with(app, &format!("record list - --class image --json {AS}"), NUMBER).lines();
    let record = listed[0]["record"].as_str().unwrap();
    let got = site.kura_with(app, &format!("record get - {record} --out again.dcm --json {AS}"), NUMBER).json();
    let length = fs::metadata(site.folder(app).join("again.dcm")).unwrap().len();
    assert_eq!((got["record"].as_str(), got["bytes"].as_u64()), (Some(record), Some(length)));
    assert_eq!((got["version"].as_u64(), got["file"].as_str()), (Some(1), Some("again.dcm")));
    assert!(got["journal_position"].as_u64().is_some_and(|position| position > 0), "{got}");
}

/// A certificate is revoked by its holder's name, where its file is gone.
fn certificates(site: &Site) {
    let request = "ca request --role recovery --name kato --cluster kita --key kato.key --request kato.csr --json";
    site.kura("ca", request);
    let sign = "ca sign kato.csr --directory authority --role recovery --name kato --out kato.pem --json";
    let signed = site.kura("ca", sign).json();
    let seen = site.kura("ca", "ca inspect kato.pem --json").json();
    for field in ["serial", "role", "name", "not_after_ms", "key_sha256"] {
        assert_eq!(seen[field], signed[field], "{field}");
    }
    assert_eq!(seen["key_sha256"], site.kura("ca", "ca inspect kato.csr --json").json()["key_sha256"]);
    fs::remove_file(site.folder("ca").join("kato.pem")).unwrap();
    // A list of its own: the one that the nodes read is left as it is.
    fs::copy(site.folder("ca").join("revoked.pem"), site.folder("ca").join("trial.pem")).unwrap();
    let revoke = "ca revoke --directory authority --name kato --list trial.pem --json";
    let revoked = site.kura("ca", revoke).json();
    assert_eq!((&revoked["serials"][0], revoked["serials"].as_array().unwrap().len()), (&signed["serial"], 1));
}

/// Whoever reads the output has gone: a code of its own, and not a word.
fn readers_that_go(site: &Site) {
    for words in ["status --client client.toml", "member list --json --client client.toml"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(KURA);
        command.args(words.split(' ')).current_dir(site.folder("operator")).env_remove("KURA_CLIENT");
        let ended = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(141), &b""[..]), "kura {words}");
    }
}
