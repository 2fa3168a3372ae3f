//! The archive of a real backup: follows, comes to the voters' digests, is missed when it fails, opens with the
//! root key alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kura_client::wire;
use kura_node::dev::{ClientFile, Signal};

use super::world::{HOSPITAL, KURA, SOON, World, folder, quick_segments, until};

/// Runs `kura archive …`.
fn kura(arguments: &[&str]) -> Output {
    Command::new(KURA).arg("archive").args(arguments).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits until the archive has everything that is applied, idle canaries apart.
pub async fn caught_up(world: &World, index: u64) -> wire::ArchivePoint {
    let operations = world.operator.operations();
    until("an archive that has caught up", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let point = status.archive_point.clone().ok_or("no archive point is told")?;
        match point.state == 1 && point.index >= index {
            true => Ok(point),
            false => Err(format!("{point:?}")),
        }
    })
    .await
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_comes_to_the_voters_digests_and_opens_with_the_root_key_alone() {
    let mut world = World::configured(1, 1, quick_segments).await;
    let layout = world.cluster.layout().clone();
    let archive = layout.archive("backup-1");
    let place = archive.to_str().unwrap();
    for nth in 1..4 {
        let number = world.enrol(nth).await;
        world.put(&number, "kept in the archive").await;
    }
    let written = world.operator.operations().status().await.unwrap().committed_index;
    let point = caught_up(&world, written).await;
    assert_eq!(point.member, "backup-1");
    assert!(point.seconds_behind <= 10 && point.ledger_index > 0 && point.ledger_index <= point.index, "{point:?}");

    // Somebody keeps a head: what is archived later must go on from it.
    let kept = folder();
    let head = kept.path().join("head");
    let client = layout.client(ClientFile::Auditor);
    let told = Command::new(KURA).args(["audit", "head", "--file"]).arg(&head).arg("--client").arg(&client).output();
    assert!(told.unwrap().status.success());
    let number = world.enrol(9).await;
    world.put(&number, "after the head").await;
    let written = world.operator.operations().status().await.unwrap().committed_index;
    caught_up(&world, written).await;

    // Stopped in order, everything applied by everybody; then the archive is read with nobody there.
    let status = world.settled().await;
    let root_key = layout.root_key("voter-1");
    world.cluster.stop().await.unwrap();
    let scratch = kept.path().to_str().unwrap();
    let replayed =
        kura(&["verify", place, "--level", "replay", "--scratch", scratch, "--head", head.to_str().unwrap(), "--json"]);
    let told = json(&replayed);
    assert!(replayed.status.success(), "{told}");
    assert!(told["faults"].as_array().unwrap().is_empty() && told["holes"].as_array().unwrap().is_empty(), "{told}");
    assert!(told["replayed_entries"].as_u64().unwrap() > 10, "{told}");
    let journal = status.journal_size;
    assert!(told["journal_size"].as_u64().unwrap() >= journal, "{told} {journal}");

    let opened = kura(&[
        "verify",
        place,
        "--level",
        "open",
        "--scratch",
        scratch,
        "--root-key",
        root_key.to_str().unwrap(),
        "--json",
    ]);
    let told = json(&opened);
    assert!(opened.status.success(), "{told}");
    assert!(told["opened_rows"].as_u64().unwrap() > 30 && told["erased_rows"] == 0, "{told}");
    let other = kept.path().join("other.key");
    fs::write(&other, format!("{}\n", "5a".repeat(32))).unwrap();
    let closed =
        kura(&["verify", place, "--level", "open", "--scratch", scratch, "--root-key", other.to_str().unwrap()]);
    assert_eq!(closed.status.code(), Some(3), "{closed:?}");

    // Damage is found by whoever has nothing but the directory.
    let segment = files(&archive.join("segments")).into_iter().next_back().unwrap();
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    let damaged = kura(&["verify", place, "--level", "hash"]);
    let text = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert_eq!(damaged.status.code(), Some(7), "{text}");
    assert!(text.contains(segment.file_name().unwrap().to_str().unwrap()), "{text}");
    fs::write(&segment, &whole).unwrap();

    // A copy on another medium is an archive, and a second run sends nothing.
    let disk = kept.path().join("disk");
    let copy = disk.to_str().unwrap();
    assert!(kura(&["export", place, "--to", copy]).status.success());
    let again = json(&kura(&["export", place, "--to", copy, "--json"]));
    assert_eq!(again["sent_objects"], 0, "{again}");
    assert!(kura(&["verify", copy, "--level", "replay", "--scratch", scratch]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_is_told_and_gone_on_from_and_a_restart_leaves_no_hole() {
    let mut world = World::configured(1, 1, quick_segments).await;
    let layout = world.cluster.layout().clone();
    let archive = layout.archive("backup-1");
    let number = world.enrol(1).await;
    let written = world.operator.operations().status().await.unwrap().committed_index;
    caught_up(&world, written).await;

    // Somebody unmounts it.
    let away = archive.with_extension("away");
    fs::rename(&archive, &away).unwrap();
    fs::create_dir_all(&archive).unwrap();
    world.put(&number, "while it is away").await;
    let operations = world.operator.operations();
    until("trouble", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let backup = status.members.iter().find(|member| member.name == "backup-1").unwrap();
        if backup.trouble.contains("archive") { Ok(()) } else { Err(format!("{:?}", backup.trouble)) }
    })
    .await;
    // The cluster goes on.
    world.doctor(HOSPITAL).put(&number, super::world::note()).bytes("meanwhile").await.unwrap();
    fs::remove_dir_all(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    let written = world.operator.operations().status().await.unwrap().committed_index;
    caught_up(&world, written).await;

    for nth in 2..5 {
        world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
        let number = world.enrol(nth).await;
        world.put(&number, "while the backup is down").await;
        world.cluster.restart("backup-1").await.unwrap();
    }
    let written = world.operator.operations().status().await.unwrap().committed_index;
    caught_up(&world, written).await;
    world.cluster.stop().await.unwrap();
    let scratch = folder();
    let replayed = kura(&[
        "verify",
        archive.to_str().unwrap(),
        "--level",
        "replay",
        "--scratch",
        scratch.path().to_str().unwrap(),
        "--json",
    ]);
    let told = json(&replayed);
    assert!(replayed.status.success(), "{told}");
    assert!(told["holes"].as_array().unwrap().is_empty(), "{told}");
}
