//! Bad input: each is refused with the documented code, by the option's name, and says what to do next.

use std::fs;

use kura_node::dev::free_ports;

use super::host::Site;

pub const NUMBER: &[u8] = b"0043001234567890\n";
/// No act, record or review has it.
const NOBODYS: &str = "00112233445566778899aabbccddeeff";

/// A code, a host, what is typed there, and what has to be told. Words are parted by single spaces: two are an empty
/// argument between them, a tab is a blank one.
pub type Case = (i32, &'static str, String, &'static [&'static str]);

pub fn check(site: &Site, cases: &[Case]) {
    for (code, host, words, told) in cases {
        let said = site.refused(*code, host, words, NUMBER);
        told.iter().for_each(|part| assert!(said.contains(part), "kura {words}: {part:?} is not told: {said}"));
    }
}

/// On the cluster that [`super::records::every_command`] leaves.
pub fn on_a_cluster(site: &Site) {
    let office = |words: &str| format!("{words} --client client.toml");
    let user = |words: &str| format!("{words} --client client.toml --as F-minato/u-7");
    let person = |words: &str| format!("{words} --client client.toml --as-participant");
    let put = |given: &str| user(&format!("record put - letter.txt --class document {given}"));
    check(
        site,
        &[
            (2, "registrar", office("facility change F-minato --name x --reason "), &["--reason"]),
            (2, "registrar", office("facility change F-minato --name x --reason \t"), &["--reason"]),
            (2, "registrar", office("facility change F-minato --name \t"), &["--name"]),
            (2, "registrar", office("facility change F-minato --reason form"), &["--status"]),
            (2, "registrar", office("user change F-minato u-7"), &["--profession"]),
            (
                4,
                "registrar",
                office("user add F-nowhere u-1 --name x --profession clerk"),
                &["facility-unknown", "list"],
            ),
            (4, "registrar", office(&format!("act show {NOBODYS}")), &["next: ", "kura act list"]),
            (4, "registrar", office("erasure show -"), &["next: ", "kura erasure list"]),
            (4, "operator", office("member scrub nosuch"), &["next: ", "kura member list"]),
            (4, "operator", office("member remove nosuch"), &["next: ", "kura member list"]),
            (3, "registrar", office("review list"), &["it takes one of role auditor", "such a role"]),
            (2, "hospital", put("--media-type nonsense"), &["--media-type", "type/subtype"]),
            (2, "hospital", put("--media-type "), &["--media-type"]),
            (2, "hospital", put("--document-id \t"), &["--document-id"]),
            (2, "hospital", put("--date 2026-02-30"), &["--date"]),
            (2, "hospital", user("record put - nosuch.txt --class document"), &["cannot read nosuch.txt"]),
            (4, "hospital", user("consent revoke - F-sakuro --evidence paper-9"), &["facility-unknown", "next: "]),
            (4, "hospital", person("consent revoke - F-sakuro"), &["facility-unknown", "next: "]),
            (3, "hospital", user(&format!("record get - {NOBODYS}")), &["the record's id"]),
        ],
    );
    // What would change nothing is not asked for.
    let same = "facility change F-minato --status active --json --client client.toml";
    assert_eq!(site.kura("registrar", same).json(), serde_json::json!({ "unchanged": true }));
    // The slip of the pen stands in the participant's list, as refused.
    let seen = site.kura_with("hospital", "audit list - --as-participant --json --client client.toml", NUMBER).lines();
    let slips = seen.iter().filter(|one| one["object"] == "F-sakuro" && one["denial"] == "facility-unknown");
    assert_eq!(slips.count(), 2, "{seen:?}");
    let told = site.kura_with("hospital", "audit list - --as-participant --client client.toml", NUMBER).out;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("about") && told.contains("F-sakura"), "{told}");
}

#[test]
fn what_is_asked_of_no_cluster_says_what_to_do_as_well() {
    let site = Site::new();
    let port = free_ports(1, None).unwrap()[0];
    site.kura("here", "ca create --directory ca --cluster kita");
    for (command, role, name) in [("node", "voter", "voter-1"), ("ca", "operator", "abe")] {
        site.kura(
            "here",
            &format!(
                "{command} request --role {role} --name {name} --cluster kita --key {name}.key --request {name}.csr"
            ),
        );
        site.kura("here", &format!("ca sign {name}.csr --directory ca --role {role} --name {name} --out {name}.pem"));
    }
    let node = format!(
        "name = \"voter-1\"\ndata = \"data\"\nlisten = \"127.0.0.1:1\"\nroot_key = \"root.key\"\n\
         peers = [{{ name = \"voter-2\", address = \"127.0.0.1:{port}\" }}]\n\
         [tls]\ncertificate = \"voter-1.pem\"\nprivate_key = \"voter-1.key\"\nauthorities = \"ca/ca.pem\"\n"
    );
    fs::write(site.folder("here").join("node.toml"), node).unwrap();
    let client = format!(
        "ca = \"ca/ca.pem\"\ncertificate = \"abe.pem\"\nkey = \"abe.key\"\n\
         [[endpoints]]\nname = \"voter-2\"\naddress = \"127.0.0.1:{port}\"\n"
    );
    fs::write(site.folder("here").join("client.toml"), client).unwrap();
    let case = |code, words: &str, told: &'static [&'static str]| -> Case { (code, "here", words.to_owned(), told) };
    check(
        &site,
        &[
            case(4, "archive list .", &["no archive here", "archive.place"]),
            case(4, "archive status .", &["no archive here", "archive.place"]),
            case(2, "archive list nosuch", &["nosuch", "next: "]),
            case(2, "archive hold . 1", &["--reason"]),
            case(2, "archive hold . 1 --reason \t", &["--reason"]),
            case(2, "recover apply --plan p --config c --fenced \t", &["--fenced"]),
            case(2, "status --client nosuch.toml", &["nosuch.toml", "next: "]),
            case(2, "status --wait --timeout 0 --client client.toml", &["--timeout"]),
            case(5, "status --wait --timeout 1 --client client.toml", &["not settled within 1 s"]),
            case(5, "join --config node.toml", &["voter-2", "start a member"]),
            case(2, "member approve nosuch.csr --address 127.0.0.1:1 --client client.toml", &["nosuch.csr"]),
            case(2, "audit verify --from nosuch --client client.toml", &["nosuch"]),
        ],
    );
}
