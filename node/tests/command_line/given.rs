//! What is given on the command line and cannot be: files that cannot be read or made, days and numbers out of bounds,
//! what is not there. Each is refused with the documented code, by its option, before anything is asked or done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kura_client::Date;

use super::host::Site;
use super::words::{Case, NUMBER, check};

/// No record has it.
const NOBODYS: &str = "00112233445566778899aabbccddeeff";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A CA, a voter's configuration with its certificate, and what is none of them.
fn offline() -> Site {
    let site = Site::new();
    site.kura("here", "ca create --directory ca --cluster kita");
    site.kura("here", "node request --role voter --name voter-1 --cluster kita --key own.key --request own.csr");
    site.kura("here", "node request --role voter --name voter-2 --cluster kita --key other.key --request other.csr");
    site.kura("here", "ca sign own.csr --directory ca --role voter --name voter-1 --out own.pem");
    let folder = site.folder("here");
    configure(&site, "own.key");
    fs::write(folder.join("file"), "x\n").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    site
}

fn configure(site: &Site, key: &str) {
    let text = format!(
        "name = \"voter-1\"\ndata = \"data\"\nlisten = \"127.0.0.1:1\"\nroot_key = \"root.key\"\n\
         [tls]\ncertificate = \"own.pem\"\nprivate_key = \"{key}\"\nauthorities = \"ca/ca.pem\"\n"
    );
    fs::write(site.folder("here").join("node.toml"), text).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_or_made_ends_with_2_and_is_named_by_its_option() {
    let site = offline();
    let case = |code, words: &str, told: &'static [&'static str]| -> Case { (code, "here", words.to_owned(), told) };
    let sign = "ca sign own.csr --directory ca --role voter --name voter-1";
    check(
        &site,
        &[
            case(2, "ca create --directory file/ca", &["--directory", "file/ca"]),
            case(2, "ca create --directory file", &["--directory", "file"]),
            case(2, "ca create --directory other --days 0", &["--days", "1..=36500"]),
            case(2, "ca create --directory other --cluster \t", &["--cluster"]),
            case(2, "ca sign nowhere --directory ca --role voter --name voter-1 --out x.pem", &["nowhere"]),
            case(2, "ca sign file --directory ca --role voter --name voter-1 --out x.pem", &["signing request"]),
            case(
                2,
                "ca sign own.csr --directory empty --role voter --name voter-1 --out x.pem",
                &["--directory", "next: "],
            ),
            case(
                2,
                "ca sign own.csr --directory ca --role backup --name voter-1 --out x.pem",
                &["the role voter, and not backup", "--role"],
            ),
            case(
                2,
                "ca sign own.csr --directory ca --role voter --name voter-9 --out x.pem",
                &["the name voter-1, and not voter-9", "--name"],
            ),
            case(2, &format!("{sign} --out nowhere/x.pem"), &["--out", "nowhere/x.pem"]),
            case(2, &format!("{sign} --out empty/x.pem --days -1"), &["--days", "-1"]),
            case(8, &format!("{sign} --out own.pem"), &["--out", "own.pem"]),
            case(2, "ca revoke --directory ca --serial 01 --list nowhere/list --new-list", &["--list", "nowhere/list"]),
            case(2, "ca revoke --directory ca --serial 01 --list nowhere/list", &["--list", "--new-list"]),
            case(2, "ca revoke --directory ca --serial 01 --list file", &["--list", "file"]),
            case(2, "ca revoke --directory ca --serial 01 --list empty", &["--list", "empty"]),
            case(
                2,
                "ca revoke --directory ca --certificate file --list list --new-list",
                &["--certificate", "no certificate"],
            ),
            case(
                2,
                "ca revoke --directory ca --certificate nowhere --list list --new-list",
                &["--certificate", "nowhere"],
            ),
            case(2, "node request --role voter --name voter-1 --key nowhere/k --request r", &["--key", "nowhere/k"]),
            case(
                2,
                "node request --role voter --name voter-1 --key k --request nowhere/r",
                &["--request", "nowhere/r"],
            ),
            case(2, "node request --role voter --name a/b --key k --request r", &["--name"]),
            case(2, "node request --role voter --name v-1 --also a/b --key k --request r", &["--also"]),
            case(8, "node request --role voter --name v-1 --key own.key --request r", &["--key", "own.key"]),
            case(2, "dev --data file --voters 1 --backups 0", &["--data", "file"]),
            case(2, "dev --data file/below --voters 1 --backups 0", &["--data", "file/below"]),
            case(2, "demo --data file", &["--data", "file"]),
            case(2, "demo --data demo --input nowhere", &["--input", "nowhere"]),
            case(2, "bench --data bench --input file", &["--input", "file"]),
            case(2, "archive status file", &["file", "not a directory"]),
            case(2, "archive list file", &["file", "not a directory"]),
            case(2, "archive status nowhere", &["nowhere", "No such file"]),
            case(2, "archive status s3://bucket/prefix", &["--storage FILE", "Archive on S3"]),
            case(2, "archive list empty --config nowhere", &["--config", "nowhere"]),
            case(2, "archive export empty --to file", &["--to", "file"]),
            case(2, "archive verify empty --scratch nowhere", &["--scratch", "nowhere"]),
            case(2, "archive verify empty --head nowhere", &["--head", "nowhere"]),
            case(2, "archive verify empty --head file", &["--head", "holds no head"]),
            case(2, "archive verify empty --level open --root-key nowhere", &["--root-key", "nowhere"]),
            case(2, "recover plan empty --out nowhere/plan", &["--out", "nowhere/plan"]),
            case(8, "recover plan empty --out file", &["--out", "file"]),
            case(2, "recover plan empty --out plan", &["empty", "next: "]),
            case(2, "recover apply --plan nowhere --config node.toml --fenced x", &["--plan", "nowhere"]),
            case(2, "recover apply --plan empty --config node.toml --fenced x", &["--plan", "empty"]),
            case(2, "recover apply --plan file --config node.toml --fenced x", &["--plan", "kura recover plan"]),
            case(4, "recover verify --config node.toml", &["kura recover apply"]),
            case(4, "recover report --config node.toml", &["kura recover apply"]),
            case(2, "recover salvage --from nowhere --client nowhere", &["--from", "nowhere"]),
            case(2, "restore plan --from nowhere", &["nowhere"]),
            case(2, "restore verify --into nowhere", &["--into", "nowhere"]),
            case(4, "restore verify --into empty", &["--into", "kura restore apply"]),
            case(2, "restore verify --into empty --root-key nowhere", &["--root-key", "nowhere"]),
            case(2, "drill --config nowhere", &["--config", "nowhere"]),
            case(2, "drill --config node.toml --from empty", &["--config", "data"]),
            case(2, "serve --config nowhere", &["--config", "nowhere"]),
            case(2, "init --config nowhere --cluster kita", &["--config", "nowhere"]),
            case(2, "init --config node.toml --cluster kita --request-window 9", &["--request-window", "10..=1440"]),
            case(2, "audit head --file file --client nowhere", &["--file", "file"]),
            case(2, "audit verify --from file --client nowhere", &["--from", "file"]),
            case(2, "member approve own.csr --address h:1 --key-sha256 zz", &["--key-sha256", "64"]),
            case(2, "key rotate", &["--root", "--epoch"]),
            case(2, "key rotate --epoch --without-shares", &["--without-shares"]),
            case(2, "disaster declare flood --hours -1", &["--hours", "-1"]),
            case(2, "record list - --class nothing --as F/u", &["--class", "document"]),
        ],
    );
    // What is reserved is offered to nobody.
    let classes = site.refused(2, "here", "record list - --class nothing --as F/u", b"");
    let purposes = site.refused(2, "here", "record list - --purpose nothing --as F/u", b"");
    assert!(!classes.contains("personal") && !purposes.contains("secondary"), "{classes}{purposes}");
    // Nothing of all that was made.
    for nothing in ["nowhere", "x.pem", "k", "r", "plan", "plan.look", "list", "demo", "demo/nodes", "other"] {
        assert!(!site.folder("here").join(nothing).exists(), "{nothing} was made");
    }
}

#[test]
fn an_init_that_fails_leaves_nothing_and_works_once_it_is_mended() {
    let site = offline();
    let here = site.folder("here");
    let init = "init --config node.toml --cluster kita";
    configure(&site, "other.key");
    let refused = site.refused(2, "here", init, b"");
    assert!(refused.contains("--config") && refused.contains("nothing was made"), "{refused}");
    assert!(!here.join("data").exists() && !here.join("root.key").exists());
    configure(&site, "own.key");

    // Somebody's key is not overwritten, and the directory stays nobody's.
    fs::write(here.join("root.key"), "somebody's").unwrap();
    let refused = site.refused(8, "here", init, b"");
    assert!(refused.contains("root.key") && refused.contains("delete it"), "{refused}");
    assert!(!here.join("data").exists());
    fs::remove_file(here.join("root.key")).unwrap();

    // One that was cut has left parts: they are named.
    fs::create_dir_all(here.join("data/log")).unwrap();
    let refused = site.refused(8, "here", init, b"");
    assert!(refused.contains("(log)") && refused.contains("delete these"), "{refused}");
    fs::remove_dir_all(here.join("data")).unwrap();

    site.kura("here", init);
    assert_eq!((mode(&here.join("data")), mode(&here.join("root.key"))), (0o700, 0o600));
    let refused = site.refused(8, "here", init, b"");
    assert!(refused.contains("kura serve"), "{refused}");
}

/// On the cluster that [`super::records::every_command`] leaves.
pub fn on_a_cluster(site: &Site) {
    let office = |words: &str| format!("{words} --client client.toml");
    let user = |words: &str| format!("{words} --client client.toml --as F-minato/u-7");
    let person = |words: &str| format!("{words} --client client.toml --as-participant");
    let app = site.folder("hospital");
    fs::create_dir_all(app.join("folder")).unwrap();
    fs::write(app.join("who.csv"), "file,participant\nletter.txt,0043001234567890\nlost.txt,0043001234567890\n")
        .unwrap();
    fs::write(app.join("folder/letter.txt"), "a letter that a table names").unwrap();
    let tomorrow = Date::from_days(Date::today().days() + 1);
    let credential = |file: &str| office(&format!("user change F-minato u-7 --credential {file}"));
    let get = |given: &str| user(&format!("record get - {NOBODYS} {given}"));
    let import = |given: &str| user(&format!("import files folder --date 2024-05-01 {given}"));
    let journalled = journal(site);
    check(
        site,
        &[
            (2, "registrar", credential("client.toml"), &["--credential", "no certificate"]),
            (2, "registrar", credential("own.key"), &["--credential", "no certificate"]),
            (2, "registrar", credential("nowhere"), &["--credential", "nowhere"]),
            (2, "hospital", user("record list - --credential client.toml"), &["--credential", "no certificate"]),
            (2, "hospital", person("consent show - --as-of 1969-12-31"), &["--as-of", "1970-01-02"]),
            (2, "hospital", person(&format!("consent show - --as-of {tomorrow}")), &["--as-of", "today"]),
            (2, "hospital", person("audit list - --since 1960-01-01"), &["--since", "1970-01-02"]),
            (2, "second", office("audit export --until 1960-01-01"), &["--until", "1970-01-02"]),
            (2, "second", office("audit list --all --since 2024-05-02 --until 2024-05-01"), &["--since", "--until"]),
            (2, "hospital", user("record list - --since 2024-05-02 --until 2024-05-01"), &["--since", "--until"]),
            (2, "hospital", user("record list - --since 1970-01-01 --until 1970-01-01"), &["--since", "1970-01-01"]),
            (2, "hospital", person("audit list - --limit 0"), &["--limit"]),
            (2, "hospital", get("--version 0"), &["--version"]),
            (2, "hospital", get("--out nowhere/x"), &["--out", "nowhere/x"]),
            (2, "hospital", get("--out folder"), &["--out", "folder"]),
            (2, "hospital", get("--to who.csv"), &["--to", "who.csv"]),
            (2, "hospital", user("record put - folder --class document"), &["folder", "is a directory"]),
            (2, "hospital", user("record put - --part a=nowhere --class document"), &["--part", "nowhere"]),
            (2, "hospital", user("record put - who.csv --class document --signature nowhere"), &["--signature"]),
            (2, "hospital", person("export - --out who.csv"), &["--out", "who.csv"]),
            (2, "hospital", person("export - --out nowhere/copy"), &["--out", "nowhere/copy"]),
            (2, "hospital", import("--participants nowhere"), &["--participants"]),
            (8, "hospital", import("--participants who.csv --report who.csv"), &["--report", "who.csv"]),
            (2, "hospital", user("import files nowhere"), &["DIRECTORY", "nowhere"]),
            (2, "registrar", office("setting set act_ms=60000 act_ms=70000"), &["act_ms", "twice"]),
            (2, "registrar", office("setting set act_ms=-1"), &["act_ms", "0 or more"]),
            (2, "registrar", office("setting set --professions nowhere"), &["--professions", "nowhere"]),
            (2, "registrar", office("facility add F/1 --name x --kind clinic"), &["slash"]),
            (
                2,
                "registrar",
                office("disaster declare flood --hours 2000"),
                &["--hours", "2000.0 h", "h are permitted"],
            ),
            (4, "registrar", office("user list F-nowhere"), &["facility-unknown", "kura facility list"]),
            (4, "registrar", office("user change F-nowhere u-1 --name x"), &["facility-unknown", "kura facility list"]),
            (4, "registrar", office("user change F-minato u-nobody --name x"), &["kura user add"]),
            (4, "registrar", office("app change karte --drop-facility F-nowhere"), &["--drop-facility", "F-nowhere"]),
            (2, "operator", office("member scrub voter-1=x"), &["voter-1=x", "host:port"]),
            (2, "operator", office("status --at voter-1=x"), &["--at", "host:port"]),
            (4, "operator", office("member add-voter nobody"), &["nobody", "kura member approve"]),
            (
                8,
                "operator",
                office("member approve voter-2.csr --address 127.0.0.1:1"),
                &["present member", "kura member list"],
            ),
            (3, "registrar", office("key split --config nowhere --threshold 2 --holders 3"), &["role operator"]),
        ],
    );
    // None of it was asked as the participant or for a record: the journal has what the offices asked alone.
    assert_eq!(journal(site), journalled, "no access was journalled");
    assert_eq!(fs::read_to_string(app.join("who.csv")).unwrap().lines().count(), 3, "the table stays");
    site.refused(2, "operator", &office("audit head --file nowhere/head"), b"");

    // A file that the table names and that is missing is told.
    let report = import("--participants who.csv --report report.ndjson");
    site.refused(9, "hospital", &report, b"");
    let told = fs::read_to_string(app.join("report.ndjson")).unwrap();
    assert!(told.contains("\"lost.txt\",\"outcome\":\"refused\",\"reason\":\"missing\""), "{told}");
    // What holds people's data is its owner's alone, also where it was not before.
    fs::set_permissions(app.join("report.ndjson"), fs::Permissions::from_mode(0o644)).unwrap();
    site.refused(9, "hospital", &report, b"");
    let record = site.kura_with("hospital", &user("record list - --class image --json"), NUMBER).json();
    let record = record["record"].as_str().unwrap();
    site.kura_with("hospital", &user(&format!("record get - {record} --out private.dcm")), NUMBER);
    site.kura_with("hospital", &user(&format!("record get - {record} --to several/below")), NUMBER);
    site.kura_with("hospital", &user("export - --out copy"), NUMBER);
    for file in ["private.dcm", "report.ndjson", "copy/index.ndjson", "copy/consents.json"] {
        assert_eq!(mode(&app.join(file)), 0o600, "{file}");
    }
    for folder in ["several", "several/below", "copy", "copy/records"] {
        assert_eq!(mode(&app.join(folder)), 0o700, "{folder}");
    }
    for entry in fs::read_dir(app.join("several/below")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

/// What the participant's own list has, by position, without the entry of asking for it.
fn journal(site: &Site) -> Vec<String> {
    let seen = site.kura_with("hospital", "audit list - --as-participant --json --client client.toml", NUMBER).lines();
    let of_others = seen.iter().filter(|one| one["action"] != "list-accesses");
    of_others.map(|one| one["journal_position"].to_string()).collect()
}
