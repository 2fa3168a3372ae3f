//! A backup's own check of its archive: what it finds is told and made again; and what is opened offline with the root
//! key comes into the journal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kura_client::wire;
use kura_cluster::hexadecimal;
use kura_node::dev::{ClientFile, DevError, Signal};

use sha2::{Digest, Sha256};

use super::archive::{caught_up, files};
use super::scrub::flip;
use super::world::{KURA, SOON, World, folder, until};

fn kura(arguments: &[&str]) -> Output {
    Command::new(KURA).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The archive's check, once it says what is wanted.
async fn check(world: &World, is: impl Fn(&wire::Scrub) -> bool) -> wire::Scrub {
    let operations = world.operator.operations();
    until("a check of the archive", 2 * SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let check = status.archive_point.and_then(|point| point.check).ok_or("nobody tells of one")?;
        if !check.running && is(&check) { Ok(check) } else { Err(format!("{check:?}")) }
    })
    .await
}

fn sha256(path: &Path) -> String {
    hexadecimal(Sha256::digest(fs::read(path).unwrap()))
}

async fn ends(world: &mut World, member: &str) {
    world.cluster.kill(member, Signal::TERM).await.unwrap();
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_rots_is_mended_or_an_alarm_and_an_opening_offline_is_journalled() {
    let mut world = World::start(1, 1).await;
    let layout = world.cluster.layout().clone();
    let archive = layout.archive("backup-1");
    let place = archive.to_str().unwrap();
    let number = world.enrol(1).await;
    world.put(&number, "kept in the archive").await;
    caught_up(&world, world.operator.operations().status().await.unwrap().committed_index).await;
    let first = check(&world, |check| check.result == 1).await;
    assert!(first.words.is_empty() && first.unchecked_since_ms == first.ended_ms, "{first:?}");

    // While nobody looks, objects change in place. The next check is due once the last is forgotten.
    ends(&mut world, "backup-1").await;
    let database = kura_node::state::current_database(&layout.node_data("backup-1")).unwrap();
    let mut archived = files(&database).into_iter().map(|path| archive.join("files").join(sha256(&path)));
    let table = archived.find(|path| path.exists()).expect("a base's file that the backup still has");
    let whole = fs::read(&table).unwrap();
    flip(&table, whole.len() as u64 / 2);
    // CURRENT is of one base alone.
    let files_there = files(&archive.join("files"));
    let lost = files_there.iter().find(|path| fs::read(path).unwrap().starts_with(b"MANIFEST-")).unwrap();
    flip(lost, 3);
    fs::remove_file(layout.node_data("backup-1").join("archive-check")).unwrap();
    world.cluster.restart("backup-1").await.unwrap();

    let found = check(&world, |check| check.result == 2).await;
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(found.words.contains(&name(lost)) && found.words.contains("a copy of the archive"), "{found:?}");
    assert!(found.words.contains(&name(&table)) && found.words.contains("made again"), "{found:?}");
    assert_eq!(fs::read(&table).unwrap(), whole);
    let status = world.operator.operations().status().await.unwrap();
    assert!(status.alarms.iter().any(|alarm| alarm.contains("archive is DAMAGED")), "{:?}", status.alarms);
    let backup = status.members.iter().find(|member| member.name == "backup-1").unwrap();
    assert!(backup.trouble.contains("archive is DAMAGED"), "{backup:?}");
    let offline = kura(&["archive", "status", place]);
    let words = String::from_utf8_lossy(&offline.stdout).into_owned();
    assert!(offline.status.success() && words.contains("DAMAGED") && words.contains("versions"), "{words}");

    // Put back by hand, the next check finds all whole.
    ends(&mut world, "backup-1").await;
    flip(lost, 3);
    fs::remove_file(layout.node_data("backup-1").join("archive-check")).unwrap();
    world.cluster.restart("backup-1").await.unwrap();
    check(&world, |check| check.result == 1).await;

    // Whoever opens what is sealed, to see whether it opens, leaves a trace.
    let scratch = folder();
    let config = layout.node_config("voter-1");
    let arguments = ["archive", "verify", place, "--level", "open", "--all", "--config", config.to_str().unwrap()];
    let opened = kura(&[&arguments[..], &["--scratch", scratch.path().to_str().unwrap()]].concat());
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let client = layout.client(ClientFile::Auditor);
    let list = ["audit", "list", "--all", "--action", "recover", "--json", "--client", client.to_str().unwrap()];
    until("an entry of it", SOON, async || {
        let listed = kura(&list);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let is_told = text.contains("opened offline") && text.contains("kura archive verify, all rows");
        if is_told { Ok(()) } else { Err(text) }
    })
    .await;
}
