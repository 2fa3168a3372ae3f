//! What is shipped beside the program: the example configurations load, show the defaults, and ask for nothing that the
//! units keep from the service.

use std::fs;
use std::path::Path;

use kura_client::{Config, Timeouts};
use kura_node::config::NodeConfig;

const NODE: &str = include_str!("../../../packaging/node.example.toml");
const CLIENT: &str = include_str!("../../../packaging/client.example.toml");
const SERVICE: &str = include_str!("../../../packaging/kura.service");
const MANUAL: &str = include_str!("../../../docs/operations.md");

fn load(folder: &Path, text: &str) -> NodeConfig {
    let path = folder.join("node.toml");
    fs::write(&path, text).unwrap();
    NodeConfig::load(&path).unwrap()
}

/// The example of a backup: what is commented out for it is there, and it has no root key.
fn of_a_backup() -> String {
    let line = |line: &str| match line.strip_prefix("# ") {
        // Keys and sections; not the sentences, nor what stands for S3.
        Some(key) if key.starts_with("[archive") || key.contains(" = ") && !key.contains("s3://") => key.to_owned(),
        _ => line.to_owned(),
    };
    let archive = NODE.find("# [archive]").expect("the example has a section for the archive");
    let (before, from) = NODE.split_at(archive);
    let before: Vec<&str> = before.lines().filter(|line| !line.starts_with("root_key")).collect();
    let from: Vec<String> = from.lines().filter(|line| !line.contains("storage = ")).map(line).collect();
    format!("{}\n{}", before.join("\n"), from.join("\n"))
}

#[test]
fn the_nodes_example_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let least = "name = \"backup-1\"\ndata = \"d\"\nlisten = \"127.0.0.1:1\"\n[tls]\ncertificate = \"c\"\n\
                 private_key = \"k\"\nauthorities = \"a\"\n[archive]\nplace = \"/srv/archive/kura\"\n";
    let (shown, least) = (load(folder.path(), &of_a_backup()), load(folder.path(), least));
    let sections = |config: &NodeConfig| {
        let NodeConfig { space, retention, alarm, scrub, archive, .. } = config;
        [
            format!("{space:?}"),
            format!("{retention:?}"),
            format!("{alarm:?}"),
            format!("{scrub:?}"),
            format!("{archive:?}"),
        ]
    };
    assert_eq!(sections(&shown), sections(&least));
    load(folder.path(), NODE);
}

#[test]
fn the_clients_example_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.toml");
    fs::write(&path, CLIENT).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.timeouts, Timeouts::default());
    assert!(config.journal_head.is_some() && config.endpoints.len() == 3);
}

#[test]
fn the_unit_lets_the_service_write_what_the_example_and_the_manual_name() {
    let line = |key: &str| SERVICE.lines().find_map(|line| line.strip_prefix(key));
    assert_eq!(line("ProtectSystem="), Some("strict"));
    let mut writable = vec![format!("/var/lib/{}", line("StateDirectory=").unwrap())];
    writable.extend(line("ReadWritePaths=").into_iter().flat_map(str::split_whitespace).map(|path| {
        path.strip_prefix('-').expect("a path that a voter lacks must not keep it from starting").to_owned()
    }));
    let folder = tempfile::tempdir().unwrap();
    let (voter, backup) = (load(folder.path(), NODE), load(folder.path(), &of_a_backup()));
    let place = backup.archive.unwrap().place;
    for path in [voter.data.to_str().unwrap(), &place] {
        assert!(writable.iter().any(|root| Path::new(path).starts_with(root)), "{path} is not below {writable:?}");
    }
    assert!(MANUAL.contains(&format!("place = \"{place}\"")), "the manual names another place than the example");
}
