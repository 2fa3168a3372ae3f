//! A drill that opens: synthetic participants in the cluster, in its archive, and in what is restored from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use kura_node::dev::ClientFile;

use super::archive::caught_up;
use super::world::{HOSPITAL, KURA, World, folder, listed, quick_segments};

fn kura(arguments: &[&str], paths: &[(&str, &Path)]) -> (Output, serde_json::Value) {
    let mut command = Command::new(KURA);
    command.args(arguments);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    let output = command.output().unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_opens_what_was_prepared_and_no_other_key_does() {
    let world = World::configured(1, 1, quick_segments).await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let layout = world.cluster.layout();
    let (config, operator) = (layout.node_config("backup-1"), layout.client(ClientFile::Operator));
    let kept = folder();
    let (key, other) = (kept.path().join("drill.key"), kept.path().join("other.key"));
    let drill = |key: &Path| {
        kura(&["--json", "drill"], &[("--config", &config), ("--scratch", kept.path()), ("--drill-key", key)])
    };

    // Without a key there is no drill that opens; prepared twice, with the same key.
    let (missing, _) = drill(&key);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let mut index = 0;
    for _ in 0..2 {
        let (output, told) = kura(&["--json", "drill", "prepare"], &[("--drill-key", &key), ("--client", &operator)]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!((&told["participants"], &told["blocks"]), (&4.into(), &6.into()), "{told}");
        index = told["index"].as_u64().unwrap();
    }
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let status = world.operator.keys().status().await.unwrap();
    assert_eq!((status.data_keys, status.data_keys_under_older_epochs), (1, 0), "nobody counts them");
    assert_eq!(listed(&world.doctor(HOSPITAL), &number).await.len(), 1);
    caught_up(&world, index).await;

    let (output, report) = drill(&key);
    assert!(output.status.success(), "{report} {output:?}");
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() == 6 && report["opened"] == true, "{report}");
    let told = steps[5]["told"].as_str().unwrap();
    assert!(told.starts_with("4 synthetic participants, 6 blocks, 2803000 bytes"), "{told}");

    // The root key is none, here or there; another key opens nothing, and the drill has failed.
    let root = layout.root_key("voter-1");
    let (output, _) = kura(&["--json", "drill", "prepare"], &[("--drill-key", &root), ("--client", &operator)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("root key"), "{output:?}");
    fs::write(&other, format!("{}\n", "5a".repeat(32))).unwrap();
    let (output, report) = drill(&other);
    assert_eq!(output.status.code(), Some(7), "{report}");
    assert!(report["opened"] == false && report["failed"].as_str().unwrap().contains("not the drill key"), "{report}");

    // Whoever has the root key still opens all of the archive, and misses nothing.
    let voter = layout.node_config("voter-1");
    let archive = layout.archive("backup-1");
    let (output, told) = kura(
        &["--json", "archive", "verify", archive.to_str().unwrap(), "--level", "open", "--all"],
        &[("--config", &voter)],
    );
    assert!(output.status.success(), "{told} {output:?}");
}
