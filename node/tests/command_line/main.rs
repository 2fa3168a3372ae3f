//! The command line against real nodes: from bare hosts to a cluster as docs/operations.md walks it,
//! then every client command, with the documented exit codes.

mod faults;
mod given;
mod host;
mod local;
mod packaging;
mod records;
mod removed;
mod said;
mod words;

use std::fs;
use std::time::{Duration, Instant};

use host::Site;
use kura_node::dev::free_ports;

/// Hosts by name and port.
struct Node {
    name: &'static str,
    role: &'static str,
    address: String,
}

fn nodes() -> Vec<Node> {
    let names = [
        ("voter-1", "voter"),
        ("voter-2", "voter"),
        ("voter-3", "voter"),
        ("backup-1", "backup"),
        ("voter-4", "voter"),
    ];
    let ports = free_ports(names.len(), None).unwrap();
    let node = |((name, role), port)| Node { name, role, address: format!("127.0.0.1:{port}") };
    names.into_iter().zip(ports).map(node).collect()
}

/// A key and a request made on their host, carried to the CA, signed there, carried back.
fn certify(site: &Site, host: &str, role: &str, name: &str) {
    let command = if matches!(role, "voter" | "backup") { "node" } else { "ca" };
    let request =
        format!("{command} request --role {role} --name {name} --cluster kita --key own.key --request own.csr --json");
    let made = site.kura(host, &request).json();
    site.copy(&format!("{host}/own.csr"), &format!("ca/{name}.csr"));
    let seen = site.kura("ca", &format!("ca inspect {name}.csr --json")).json();
    assert_eq!(made["key_sha256"], seen["key_sha256"]);
    let signed =
        format!("ca sign {name}.csr --directory authority --role {role} --name {name} --out {name}.pem --json");
    assert_eq!(site.kura("ca", &signed).json()["key_sha256"], seen["key_sha256"]);
    site.copy(&format!("ca/{name}.pem"), &format!("{host}/own.pem"));
    site.copy("ca/authority/ca.pem", &format!("{host}/ca.pem"));
    assert!(!site.root.path().join("ca/own.key").exists(), "private keys stay on their hosts");
}

fn configure(site: &Site, node: &Node, all: &[Node]) {
    let peers: Vec<String> = all
        .iter()
        .filter(|other| other.name != node.name && other.role == "voter")
        .map(|other| format!("{{ name = \"{}\", address = \"{}\" }}", other.name, other.address))
        .collect();
    let root_key = if node.role == "voter" { "root_key = \"root.key\"" } else { "" };
    let text = format!(
        "name = \"{}\"\ndata = \"data\"\nlisten = \"{}\"\n{root_key}\npeers = [{}]\n\
         [tls]\ncertificate = \"own.pem\"\nprivate_key = \"own.key\"\nauthorities = \"ca.pem\"\n\
         revocation_lists = [\"revoked.pem\"]\n\
         [space]\nlow_mib = 64\nreserve_mib = 16\n",
        node.name,
        node.address,
        peers.join(", ")
    );
    fs::write(site.folder(node.name).join("node.toml"), text).unwrap();
}

fn client(site: &Site, host: &str, all: &[Node]) {
    let mut text = "ca = \"ca.pem\"\ncertificate = \"own.pem\"\nkey = \"own.key\"\n".to_owned();
    for node in all.iter().filter(|node| node.role == "voter") {
        text += &format!("[[endpoints]]\nname = \"{}\"\naddress = \"{}\"\n", node.name, node.address);
    }
    fs::write(site.folder(host).join("client.toml"), text).unwrap();
}

/// From bare hosts to three voters and a backup.
fn build(site: &mut Site, all: &[Node]) {
    site.kura("ca", "ca create --directory authority --cluster kita --json");
    assert!(
        site.refused(8, "ca", "ca create --directory authority --cluster kita", b"")
            .contains("a CA in authority already")
    );
    // A list that names a certificate which was never issued: nodes have one from the beginning.
    let begun =
        site.kura("ca", "ca revoke --directory authority --serial 0a01 --list revoked.pem --new-list --json").json();
    assert_eq!(begun["revoked"], 1);
    for node in all {
        certify(site, node.name, node.role, node.name);
        site.copy("ca/revoked.pem", &format!("{}/revoked.pem", node.name));
        configure(site, node, all);
    }
    for (host, role, name) in [
        ("operator", "operator", "abe"),
        ("registrar", "registrar", "ito"),
        ("second", "registrar", "ueda"),
        ("hospital", "application", "karte"),
    ] {
        certify(site, host, role, name);
        client(site, host, all);
    }
    site.refused(2, "ca", "ca sign voter-1.csr --directory nowhere --role voter --name voter-1 --out x.pem", b"");
    site.refused(2, "ca", "ca sign voter-1.csr --directory authority --role backup --name voter-1 --out x.pem", b"");

    site.kura("voter-1", "init --config node.toml --cluster kita");
    site.serve("voter-1", &all[0].address);
    site.kura("operator", "status --wait --client client.toml");
    for node in &all[1..4] {
        join(site, node, if node.role == "voter" { "add-voter" } else { "add-backup" });
    }
}

/// One more member: approved, joined, started, added.
fn join(site: &mut Site, node: &Node, add: &str) {
    enter(site, node);
    site.kura("operator", &format!("member {add} {} --client client.toml", node.name));
}

fn enter(site: &mut Site, node: &Node) {
    let Node { name, role, address } = node;
    // Whose approval is missing is told, with the command that gives it.
    let asked = |missing: &str| {
        let refused = site.refused(3, name, "join --config node.toml", b"");
        let approve = format!("kura member approve own.pem --address {address}");
        assert!(refused.contains(missing) && refused.contains(&approve), "{missing}: {refused}");
    };
    let is_voter = *role == "voter";
    asked(if is_voter {
        "the approvals of an operator and of a registrar are missing"
    } else {
        "an operator's approval"
    });
    for host in ["operator", "registrar"] {
        site.copy(&format!("ca/{name}.csr"), &format!("{host}/{name}.csr"));
    }
    let approve = format!("member approve {name}.csr --address {address} --client client.toml --json");
    let (first, second, missing) = match *name {
        "voter-3" => ("registrar", "operator", "an operator's approval is missing"),
        _ => ("operator", "registrar", "a registrar's approval is missing"),
    };
    let by_first = site.kura(first, &approve).json();
    assert_eq!(by_first["complete"], !is_voter, "a voter takes both");
    if is_voter {
        asked(missing);
        assert_eq!(site.kura(second, &approve).json()["complete"], true);
    }
    site.refused(
        3,
        "hospital",
        &format!("member approve ../ca/{name}.csr --address {address} --client client.toml"),
        b"",
    );
    site.kura(name, "join --config node.toml");
    let again = site.refused(8, name, "join --config node.toml", b"");
    assert!(again.contains("kura serve --config node.toml") && !again.contains("member approve"), "{again}");
    site.serve(name, address);
}

/// Leadership goes where it is sent, and to nobody who cannot have it.
fn hand_over(site: &Site) {
    let leader = || {
        let status = site.kura("operator", "status --wait --json --client client.toml").json();
        let led = status["members"].as_array().unwrap().iter().find(|member| member["leader"] == true);
        led.unwrap_or_else(|| panic!("{status}"))["name"].as_str().unwrap().to_owned()
    };
    for wanted in ["voter-3", "voter-1"] {
        let told = site.kura("operator", &format!("member hand-over {wanted} --json --client client.toml")).json();
        assert_eq!((told["leader"].as_str(), &leader()[..]), (Some(wanted), wanted));
    }
    let told = site.kura("operator", "member hand-over --json --client client.toml").json();
    assert!(["voter-2", "voter-3"].contains(&told["leader"].as_str().unwrap()), "{told}");
    let before = leader();
    for (code, nobody) in [(2, "backup-1"), (4, "voter-9")] {
        site.refused(code, "operator", &format!("member hand-over {nobody} --client client.toml"), b"");
    }
    site.refused(3, "hospital", "member hand-over voter-1 --client client.toml", b"");
    assert_eq!(leader(), before);
}

/// A certificate that the CA revokes opens nothing any more, once the list has reached the nodes.
fn revoke(site: &Site, all: &[Node]) {
    certify(site, "former", "operator", "mori");
    client(site, "former", all);
    site.kura("former", "status --client client.toml");
    site.refused(2, "ca", "ca revoke --directory authority --list revoked.pem", b"");
    site.refused(2, "ca", "ca revoke --directory authority --serial zz --list revoked.pem", b"");
    let mistyped =
        site.refused(2, "ca", "ca revoke --directory authority --certificate mori.pem --list revokd.pem", b"");
    assert!(mistyped.contains("revokd.pem is not there") && mistyped.contains("--new-list"), "{mistyped}");
    assert!(!site.folder("ca").join("revokd.pem").exists(), "no list that nobody looks at");
    site.refused(8, "ca", "ca revoke --directory authority --serial 0a02 --list revoked.pem --new-list", b"");
    site.refused(2, "ca", "ca revoke --directory nowhere --certificate mori.pem --list revoked.pem", b"");
    let revoke = "ca revoke --directory authority --certificate mori.pem --list revoked.pem --json";
    assert_eq!(site.kura("ca", revoke).json()["revoked"], 2, "the list keeps what was in it");
    assert_eq!(site.kura("ca", revoke).json()["revoked"], 2, "a certificate is revoked once");
    for node in all {
        site.copy("ca/revoked.pem", &format!("{}/revoked.pem", node.name));
    }
    // Nodes look at their files every few seconds.
    let end = Instant::now() + Duration::from_secs(30);
    let refusal = loop {
        let answer = site.try_kura("former", "status --client client.toml", b"");
        if answer.code != 0 {
            break answer;
        }
        assert!(Instant::now() < end, "the revoked certificate still opens");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(refusal.err.contains("revoked"), "{}: {}", refusal.code, refusal.err);
    site.kura("operator", "status --client client.toml");
}

#[test]
fn from_bare_hosts_to_a_cluster_and_every_command_on_it() {
    let all = nodes();
    let mut site = Site::new();
    build(&mut site, &all);

    let status = site.kura("operator", "status --wait --json --client client.toml").json();
    let members = status["members"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    for member in members {
        let backup = member["name"] == "backup-1";
        assert_eq!(member["role"], if backup { "backup" } else { "voter" });
        assert_eq!(member["unsealed"], !backup, "{member}");
        assert_eq!(member["state_digest"], members[0]["state_digest"]);
    }
    let key = fs::read_to_string(site.folder("voter-1").join("root.key")).unwrap();
    assert_eq!(fs::read_to_string(site.folder("voter-3").join("root.key")).unwrap(), key);
    assert!(!site.folder("backup-1").join("root.key").exists(), "the backup has no key");
    let shown = String::from_utf8(site.kura("operator", "status --tables --client client.toml").out).unwrap();
    assert!(shown.contains("voter-2") && shown.contains("leads") && shown.contains("sealed"), "{shown}");

    records::every_command(&site);
    words::on_a_cluster(&site);
    given::on_a_cluster(&site);
    said::on_a_cluster(&site);
    hand_over(&site);
    revoke(&site, &all);

    // A dead machine is replaced by another in one change.
    site.kill("voter-2");
    enter(&mut site, &all[4]);
    site.kura("operator", "member replace voter-2 voter-4 --client client.toml");
    let after = site.kura("operator", "member list --json --client client.toml").lines();
    let mut names: Vec<&str> = after.iter().map(|member| member["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["backup-1", "voter-1", "voter-3", "voter-4"]);
    site.kura("operator", "status --wait --client client.toml");
    records::still_readable(&site);
    site.kura("operator", "member remove backup-1 --yes --client client.toml");
    assert_eq!(site.kura("operator", "member list --json --client client.toml").lines().len(), 3);
    removed::says_so(&site, "backup-1", &all[3].address);
    site.kura("operator", "member remove voter-4 --yes --client client.toml");
    removed::says_so(&site, "voter-4", &all[4].address);
    // It remembers, and the others go on.
    site.kill("voter-4");
    site.serve("voter-4", &all[4].address);
    removed::says_so(&site, "voter-4", &all[4].address);
    site.kura("operator", "status --wait --client client.toml");
    site.stop();
}
