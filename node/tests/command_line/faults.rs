//! Faults of a node's configuration: each ends with the documented code, and names the key and the file. And what is
//! found out about a command line before anybody is asked.

use std::fs;
use std::net::TcpListener;

use super::host::Site;
use super::words::{Case, NUMBER, check};

/// What stands in the configuration of the test's voter, and what in its place: `None` adds a line at the beginning.
type Change<'a> = (Option<&'a str>, &'a str);

/// A configuration with something else in it; it is `changed.toml`.
fn configure(site: &Site, changes: &[Change<'_>]) {
    let mut text = fs::read_to_string(site.folder("here").join("node.toml")).unwrap();
    for (from, to) in changes {
        text = match from {
            Some(from) => {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            }
            None => format!("{to}\n{text}"),
        };
    }
    fs::write(site.folder("here").join("changed.toml"), text).unwrap();
}

/// A voter that was made, and its CA, an operator, and a file that is nothing.
fn made() -> Site {
    let site = Site::new();
    site.kura("here", "ca create --directory ca --cluster kita");
    for (command, role, name) in [("node", "voter", "voter-1"), ("ca", "operator", "abe")] {
        site.kura(
            "here",
            &format!("{command} request --role {role} --name {name} --key {name}.key --request {name}.csr"),
        );
        site.kura("here", &format!("ca sign {name}.csr --directory ca --role {role} --name {name} --out {name}.pem"));
    }
    let folder = site.folder("here");
    let text = "name = \"voter-1\"\ndata = \"data\"\nlisten = \"127.0.0.1:1\"\nroot_key = \"root.key\"\n\
                peers = [{ name = \"voter-2\", address = \"127.0.0.1:1\" }]\n\
                [tls]\ncertificate = \"voter-1.pem\"\nprivate_key = \"voter-1.key\"\nauthorities = \"ca/ca.pem\"\n\
                revocation_lists = []\n";
    fs::write(folder.join("node.toml"), text).unwrap();
    let client = "ca = \"ca/ca.pem\"\ncertificate = \"abe.pem\"\nkey = \"abe.key\"\n\
                  [[endpoints]]\nname = \"voter-1\"\naddress = \"127.0.0.1:1\"\n";
    fs::write(folder.join("client.toml"), client).unwrap();
    fs::write(folder.join("file"), "x\n").unwrap();
    site.kura("here", "init --config node.toml --cluster kita");
    site
}

#[test]
fn a_fault_of_a_configuration_names_the_key_and_the_file() {
    let site = made();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (listens, elsewhere) = (format!("\"{address}\""), "\"192.0.2.1:7101\"");
    let (serve, init, join) =
        ("serve --config changed.toml", "init --config changed.toml --cluster kita", "join --config changed.toml");
    let new = (Some("\"data\""), "\"new\"");
    let key = (Some("\"root.key\""), "\"new.key\"");
    let cases: &[(i32, &str, &[Change<'_>], &[&str])] = &[
        (2, serve, &[(Some("voter-1.pem"), "gone.pem")], &["tls.certificate: ", "gone.pem", "No such file"]),
        (2, serve, &[(Some("voter-1.key"), "gone.key")], &["tls.private_key: ", "gone.key"]),
        (2, serve, &[(Some("voter-1.key"), "abe.key")], &["tls.", "abe.key"]),
        (2, serve, &[(Some("ca/ca.pem"), "file")], &["tls.authorities: ", "file holds no certificate"]),
        (2, serve, &[(Some("[]"), "[\"gone.list\"]")], &["tls.revocation_lists: ", "gone.list"]),
        (2, serve, &[(None, "signatures.ca = \"gone.ca\"")], &["signatures.ca", "gone.ca"]),
        (2, serve, &[(None, "log.level = \"loud\"")], &["log.level: ", "loud"]),
        (2, serve, &[(Some("\"data\""), "\"\"")], &["data: is empty"]),
        (5, serve, &[(Some("\"127.0.0.1:1\""), elsewhere)], &["listen: ", "192.0.2.1:7101"]),
        (8, serve, &[(Some("\"127.0.0.1:1\""), &listens)], &["listen: ", &address, "end the process"]),
        (4, serve, &[new], &["new", "kura init", "kura join"]),
        (2, init, &[new, key, (Some("voter-1.pem"), "gone.pem")], &["tls.certificate: ", "gone.pem"]),
        (2, init, &[new, key, (Some("voter-1.key"), "gone.key")], &["tls.private_key: ", "gone.key"]),
        (2, join, &[new, (Some("voter-1.pem"), "gone.pem")], &["tls.certificate: ", "gone.pem"]),
        (2, join, &[new, (Some("ca/ca.pem"), "file")], &["tls.authorities: ", "file"]),
        (2, join, &[new, (Some("root_key = \"root.key\"\n"), "")], &["root_key: "]),
        (2, join, &[new, (Some("\"voter-2\""), "\"voter 2\"")], &["peers: ", "voter 2"]),
        (2, join, &[new, (Some("peers = [{ name = \"voter-2\", address = \"127.0.0.1:1\" }]"), "")], &["peers: "]),
    ];
    for (code, words, changes, told) in cases {
        configure(&site, changes);
        let said = site.refused(*code, "here", words, b"");
        told.iter().for_each(|part| assert!(said.contains(part), "kura {words}, {changes:?}: {part:?}: {said}"));
        assert!(*code == 4 || said.contains("--config: configuration changed.toml: "), "kura {words}: {said}");
    }
    assert!(!site.folder("here").join("new").exists(), "nothing was made");
}

#[test]
fn what_was_typed_is_judged_before_anybody_is_asked() {
    let site = made();
    let table = "file,participant\na/b.pdf,0043001234567890\n";
    for (name, row) in [("absolute", "/a/b.pdf"), ("above", "../b.pdf"), ("round", "a/../b.pdf")] {
        fs::write(site.folder("here").join(name), format!("{table}{row},0043001234567890\n")).unwrap();
    }
    fs::write(site.folder("here").join("below"), table).unwrap();
    fs::create_dir(site.folder("here").join("folder")).unwrap();
    let case = |code, words: &str, told: &'static [&'static str]| -> Case { (code, "here", words.to_owned(), told) };
    let import = |table: &str| format!("import files folder --as F/u --client client.toml --participants {table}");
    check(
        &site,
        &[
            case(2, &import("absolute"), &["--participants", "absolute", "row 3", "not a path below", "nothing was"]),
            case(2, &import("above"), &["row 3", "not a path below"]),
            case(2, &import("round"), &["row 3", "not a path below"]),
            case(2, &import("nowhere"), &["--participants", "nowhere"]),
            case(
                2,
                "import ssmix2 folder --as F/u --client client.toml --participants below",
                &["--participants", "names files"],
            ),
            case(3, "key submit --client client.toml", &["it takes one of role recovery", "nothing was asked"]),
            case(2, "key verify-share", &["a share has 32 words", "word by word"]),
            case(2, "dev --data dev --voters 0", &["--voters", "1 voter at least"]),
            case(2, "status --timeout soon", &["--timeout", "it is not a whole number"]),
            case(2, "drill --config node.toml --drill-key nowhere", &["--drill-key", "nowhere"]),
            case(2, "drill --config node.toml --from nowhere", &["--from", "nowhere"]),
            case(4, "drill --config node.toml --from folder", &["--from", "folder", "no drill was recorded"]),
            case(2, "drill --config node.toml", &["--config", "names no archive"]),
            case(2, "restore plan --from nowhere", &["--from", "nowhere"]),
            case(2, "restore plan --from s3://b/p --storage nowhere", &["--storage", "nowhere"]),
            case(2, "restore verify --into folder --root-key nowhere", &["--root-key: there is no file nowhere"]),
            case(2, "archive list s3://b/p --storage nowhere", &["--storage", "nowhere"]),
            case(2, "archive list nowhere", &["PLACE", "nowhere"]),
            case(2, "participant alias 1 2 --evidence e", &["NUMBER", "16"]),
            case(2, "participant alias 0043001234567890 2 --evidence e", &["DUPLICATE", "16"]),
        ],
    );
    assert!(!site.folder("here").join("data/drill.json").exists(), "no drill was recorded");
    // For programs these are errors as any other.
    for (words, told) in [("status --json --timeout soon", "--timeout"), ("key rotate --json", "--epoch")] {
        let said = site.refused(2, "here", words, NUMBER);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert!(said["exit"] == 2 && said["error"].as_str().unwrap().contains(told), "{said}");
        assert!(said["next"].as_str().unwrap().contains("--help"), "{said}");
    }
}
