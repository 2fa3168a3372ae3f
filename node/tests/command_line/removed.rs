//! A node that was removed and goes on running does not answer as if it were a member.

use std::fs;
use std::time::{Duration, Instant};

use super::host::Site;

/// On a cluster from which `name`, which still runs at `address`, was removed a moment ago.
pub fn says_so(site: &Site, name: &str, address: &str) {
    let at = format!("status --at {name}={address} --json --client client.toml");
    let end = Instant::now() + Duration::from_secs(30);
    let told = loop {
        let told = site.kura("operator", &at).json();
        if !told["removed_ms"].is_null() {
            break told;
        }
        assert!(Instant::now() < end, "it does not learn that it was removed: {told}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let members = told["members"].as_array().unwrap();
    assert!(members.iter().all(|member| member["name"] != name), "it is not among the members: {told}");
    assert!(members.iter().any(|member| member["leader"] == true), "it tells what the others say: {told}");
    let shown = site.kura("operator", &at.replace(" --json", ""));
    let out = String::from_utf8_lossy(&shown.out).into_owned();
    assert!(out.trim_start().starts_with("REMOVED"), "{out}");
    assert!(shown.err.contains("ALARM") && shown.err.contains("join it anew"), "{}", shown.err);

    for (host, words) in [
        ("operator", "audit head"),
        ("operator", "key status"),
        ("operator", "member hand-over"),
        ("registrar", "facility list"),
        ("registrar", "audit verify"),
        ("hospital", "participant granted --as F-minato/u-7"),
    ] {
        let config = site.folder(host).join("client.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (head, _) = text.split_once("[[endpoints]]").unwrap();
        let alone = format!("{head}[[endpoints]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        fs::write(site.folder(host).join("alone.toml"), alone).unwrap();
        let refused = site.refused(5, host, &format!("{words} --client alone.toml"), b"");
        for part in [name, "not a member of this cluster any more", "join it anew under another name"] {
            assert!(refused.contains(part), "kura {words}: {part:?} is not told: {refused}");
        }
    }
}
