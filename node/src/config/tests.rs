//! What a configuration file may say, and what is told of one that says something else.

use super::*;

const GOOD: &str = r#"
name = "voter-1"
data = "data"
listen = "127.0.0.1:7001"
root_key = "root.key"
[tls]
certificate = "node.pem"
private_key = "node.key"
authorities = "ca.pem"
"#;

fn load(text: &str) -> Result<NodeConfig, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    NodeConfig::load(&path)
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = load(GOOD).unwrap();
    assert!(config.data.is_absolute() && config.data.ends_with("data"));
    assert!(matches!(config.root_key, Some(RootKeyConfig::File(path)) if path.ends_with("root.key")));
    assert_eq!(config.advertise, None);
}

#[test]
fn the_key_of_a_file_that_a_message_names_is_told() {
    let config = load(&GOOD.replace("ca.pem", "node.pem.ca")).unwrap();
    let of = |path: &Path| config.key_of(&format!("cannot read {}: no such file", path.display()));
    assert_eq!(of(&config.tls.certificate), Some("tls.certificate"));
    assert_eq!(of(&config.tls.authorities), Some("tls.authorities"), "and not that of a path which it begins with");
    assert_eq!(of(&config.data.join("recovery-ca.pem")), None, "no key names it");
}

#[test]
fn a_root_key_comes_from_a_file_a_credential_or_shares() {
    let with = |value: &str| load(&GOOD.replace("root_key = \"root.key\"", &format!("root_key = {value}")));
    let credential = with("{ credential = \"root.key\" }").unwrap().root_key;
    assert_eq!(credential, Some(RootKeyConfig::Credential("root.key".into())));
    assert_eq!(with("{ shares = true }").unwrap().root_key, Some(RootKeyConfig::Shares));
    for wrong in ["{ shares = false }", "{}", "{ credential = \"a\", shares = true }", "{ credential = \"a/b\" }"] {
        let error = with(wrong).unwrap_err().to_string();
        assert!(error.contains("root_key"), "{wrong}: {error}");
    }
}

#[test]
fn unknown_keys_and_bad_values_are_named() {
    let says = |text: &str, word: &str| {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("config.toml"), "{error}");
    };
    says(&GOOD.replace("root_key", "rootkey"), "rootkey");
    says(&GOOD.replace("127.0.0.1:7001", "7001"), "listen");
    says(&GOOD.replace("voter-1", "voter 1"), "name");
    says(&format!("{GOOD}[log]\nformat = \"xml\"\n"), "log.format");
    for level in ["", "loud", "info,openraft=loud", "info,,debug"] {
        says(&format!("{GOOD}[log]\nlevel = \"{level}\"\n"), "log.level");
    }
    assert!(load(&format!("{GOOD}[log]\nlevel = \"WARN,openraft=error,kura_node[span]=debug\"\n")).is_ok());
    for (key, value) in [("data", "data"), ("tls.authorities", "ca.pem"), ("root_key", "root.key")] {
        says(&GOOD.replace(&format!("\"{value}\""), "\"\""), &format!("{key}: is empty"));
    }
    says(&format!("{GOOD}[signatures]\nca = \" \"\n"), "signatures.ca: is empty");
    says(&format!("{GOOD}[space]\nlow_mib = 1\n"), "space.reserve_mib");
    says("name = 1", "name");
    says(&format!("{GOOD}[alarm]\nreplication_seconds_max = 0\n"), "alarm.replication_seconds_max");
    says(&format!("{GOOD}[scrub]\nevery_hours = 0\n"), "scrub.every_hours");
    says(&format!("{GOOD}[scrub]\nasked_minutes = 1441\n"), "scrub.asked_minutes");
    let backup = GOOD.replace("root_key = \"root.key\"\n", "");
    let archive = |keys: &str| format!("{backup}[archive]\nplace = \"archive\"\n{keys}");
    let config = load(&archive("")).unwrap().archive.unwrap();
    assert!(Path::new(&config.place).is_absolute() && config.place.ends_with("archive"));
    assert_eq!((config.segment_mib, config.segment_seconds, config.keep.daily), (8, 5, 7));
    says(&archive("segment_mib = 0\n"), "archive.segment_mib");
    says(&archive("check_every_hours = 9000\n"), "archive.check_every_hours");
    says(&archive("check_mib_per_second = 0\n"), "archive.check_mib_per_second");
    says(&archive("url = 1\n"), "url");
    says(&archive("signed_by = [\"ab\"]\n"), "archive.signed_by");
    let named = load(&archive(&format!("signed_by = [\"{}\"]\n", "0a".repeat(32)))).unwrap().archive.unwrap();
    assert_eq!(named.signed_by(), [[10; 32]]);
    says(&archive("storage = \"s3.toml\"\n"), "archive.storage");
    let remote = |keys: &str| archive(keys).replace("place = \"archive\"", "place = \"s3://bucket/kura\"");
    says(&remote(""), "archive.storage");
    let config = load(&remote("storage = \"s3.toml\"\n")).unwrap().archive.unwrap();
    assert!(config.place == "s3://bucket/kura" && config.storage.unwrap().is_absolute());
    says(&archive("[archive.keep]\nlast = 0\n"), "archive.keep.last");
    says(&format!("{GOOD}[archive]\nplace = \"a\"\n"), "root_key");
}
