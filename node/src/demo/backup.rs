//! The backup member: everything is on it, and nothing to open it with.

use std::fs;
use std::path::Path;

use kura_client::wire;
use kura_cluster::from_hexadecimal;

use super::leak::{Pattern, Search};
use super::report::Report;
use crate::cli::{Exit, Failure, bytes};
use crate::dev::Cluster;

/// Checks every backup against the leader and looks for the root key in its directory.
pub(super) fn check(cluster: &Cluster, status: &wire::StatusReply, report: &mut Report) -> Result<(), Failure> {
    report.begin("backup");
    let wrong = |message: String| Failure::new(Exit::Damaged, message);
    let layout = cluster.layout();
    let leader = status.members.iter().find(|member| member.raft_id == status.leader_id);
    let leader = leader.ok_or_else(|| Failure::failed("no leader is known"))?;
    let voter = cluster.plan().voters().next().ok_or_else(|| Failure::failed("there are no voters"))?;
    let search = Search::new(key_patterns(&layout.root_key(&voter.name))?).map_err(Failure::failed)?;
    // The same search must find the key where it is, or its silence elsewhere says nothing.
    let held = search.folder(&layout.node(&voter.name), &|_| {}).map_err(Failure::failed)?;
    if held.count == 0 {
        return Err(wrong(format!("the search for the root key does not find {}'s own", voter.name)));
    }
    let mut figure = Vec::new();
    for backup in cluster.plan().backups() {
        let name = &backup.name;
        let found = status.members.iter().find(|member| member.name == *name);
        let member = found.ok_or_else(|| Failure::failed(format!("{name} is not a member")))?;
        if (member.digest_index, &member.state_digest) != (leader.digest_index, &leader.state_digest) {
            return Err(wrong(format!("{name} and the leader differ at index {}", leader.digest_index)));
        }
        if member.unsealed || member.role != 2 {
            return Err(wrong(format!("{name} says that it is unsealed, or not a backup")));
        }
        if layout.root_key(name).exists() {
            return Err(wrong(format!("{name} has a root key file")));
        }
        let keys = search.folder(&layout.node(name), &|_| {}).map_err(Failure::failed)?;
        if keys.count > 0 {
            return Err(wrong(format!("the root key is in {name}'s directory")));
        }
        figure.push(format!(
            "{} with index {}, no key in {} files",
            bytes(keys.bytes),
            member.digest_index,
            keys.files
        ));
    }
    if figure.is_empty() {
        return Err(Failure::failed("there is no backup"));
    }
    report.done(
        "the backup holds every row (digest equal to the leader's at the same index), is sealed, and the root key is nowhere on it",
        figure.join("; "),
    );
    Ok(())
}

/// The root key as it may lie somewhere: its bytes, and their digits in either case.
fn key_patterns(path: &Path) -> Result<Vec<Pattern>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let digits = text.trim().to_ascii_lowercase();
    let raw: Option<[u8; 32]> = from_hexadecimal(&digits);
    let raw = raw.ok_or_else(|| Failure::failed("the root key file has another form"))?.to_vec();
    let pattern = |bytes: Vec<u8>| Pattern { what: "root key", bytes };
    Ok(vec![pattern(raw), pattern(digits.to_ascii_uppercase().into_bytes()), pattern(digits.into_bytes())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::Layout;

    #[test]
    fn the_root_key_is_known_in_each_form() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.node("voter-1")).unwrap();
        let path = layout.root_key("voter-1");
        fs::write(&path, format!("{}\n", "0aBc".repeat(16))).unwrap();
        let search = Search::new(key_patterns(&path).unwrap()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for form in [[0x0a, 0xbc].repeat(16), "0ABC".repeat(16).into_bytes(), "0abc".repeat(16).into_bytes()] {
            fs::write(elsewhere.path().join("000007.log"), [&b"before"[..], &form].concat()).unwrap();
            assert_eq!(search.folder(elsewhere.path(), &|_| {}).unwrap().count, 1);
        }
        fs::write(&path, "no key").unwrap();
        assert!(key_patterns(&path).is_err());
    }
}
