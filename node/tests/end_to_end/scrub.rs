//! Flipped bytes in members' files: found, named, never served; the member stops, stays stopped, is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kura_client::{GetError, ParticipantNumber, RecordId};
use kura_node::dev::{ClientFile, Cluster, DevError, Signal};
use kura_node::state::current_database;

use super::world::{CLINIC, KURA, SOON, World, set, until};

pub const DAMAGED: Option<i32> = Some(7);

/// Without a pause between checks on request.
pub fn any_time(table: &mut toml::Table) {
    set(table, "scrub", "asked_minutes", 0);
}

pub fn scrub(cluster: &Cluster, member: &str) -> Output {
    let config = cluster.layout().client(ClientFile::Operator);
    let mut command = Command::new(KURA);
    command.args(["member", "scrub", member, "--json", "--client"]).arg(config).stdin(Stdio::null()).output().unwrap()
}

/// The largest file of a directory with an ending.
pub fn largest(directory: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    files
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap_or_else(|| panic!("no .{extension} in {directory:?}"))
}

/// Flips a bit at a place of a file, in place.
pub fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// A body that compresses to nothing smaller, so that its blocks lie in blob files.
pub fn noise(nth: u8) -> Vec<u8> {
    let mut state = u64::from(nth) + 1;
    let bytes = (0..5_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    bytes.collect()
}

/// Has a damaged member check its files: it names the file, stops, and does not start again.
async fn is_found(world: &mut World, member: &str, file: &Path) {
    let found = scrub(&world.cluster, member);
    let (out, errors) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert_eq!(found.status.code(), DAMAGED, "{out} {errors}");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(errors.contains(name) && errors.contains("kura member replace"), "{out} {errors}");
    has_stopped(world, member, name).await;
}

async fn has_stopped(world: &mut World, member: &str, name: &str) {
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let config = world.cluster.layout().node_config(member);
    let again = Command::new(KURA).args(["serve", "--config"]).arg(config).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), DAMAGED, "{errors}");
    assert!(errors.contains(name) && errors.contains("kura member replace"), "{errors}");
}

/// Reads through one member until it does not answer any more: each answer is an error, or right.
async fn never_wrong(world: &World, member: &str, number: &ParticipantNumber, records: &[(RecordId, Vec<u8>)]) {
    let clinic = world.doctor_at(member, CLINIC).await;
    for (record, body) in records {
        let read = match clinic.get(number, *record).await {
            Ok(read) => read.bytes().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(bytes) => assert!(bytes == body[..], "wrong bytes were served"),
            Err(GetError::Denied(denied)) => panic!("{denied:?}"),
            Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_are_found_named_and_never_served_and_the_member_is_replaced() {
    let mut world = World::configured(3, 1, any_time).await;
    let number = world.enrol(1).await;
    let mut records = Vec::new();
    for nth in 0..20_u8 {
        let body = noise(nth);
        let put = world.doctor(super::world::HOSPITAL).put(&number, super::world::note());
        records.push((put.bytes(body.clone()).await.unwrap().record(), body));
    }
    world.settled().await;
    let layout = world.cluster.layout().clone();

    let whole = scrub(&world.cluster, "backup-1");
    let told = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(whole.status.success() && told.contains("\"whole\""), "{told} {whole:?}");
    assert!(!layout.node_data("backup-1").join("scrub-work").exists(), "copies are left");

    // A stopped member's blocks. Stopping writes out what is in memory.
    let leader = world.leader().await;
    let voter = world.voters().into_iter().find(|name| *name != leader).unwrap();
    world.cluster.kill(&voter, Signal::TERM).await.unwrap();
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let database = current_database(&layout.node_data(&voter)).unwrap();
    let blob = largest(&database, "blob");
    flip(&blob, fs::metadata(&blob).unwrap().len() / 2);
    world.cluster.restart(&voter).await.unwrap();
    is_found(&mut world, &voter, &blob).await;

    world.cluster.discard(&voter).await.unwrap();
    world.cluster.enlist_voter("voter-4").await.unwrap();
    let steps = world.operator.operations().replace_member(&voter, "voter-4").await.unwrap();
    steps.take(usize::MAX).await.unwrap();
    never_wrong(&world, "voter-4", &number, &records).await;

    // A running member whose blocks are damaged: whoever reads them there gets an error, and it stops by itself.
    let reader = world.voters().into_iter().find(|name| *name != leader && name != "voter-4").unwrap();
    world.cluster.kill(&reader, Signal::TERM).await.unwrap();
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    world.cluster.restart(&reader).await.unwrap();
    until("an unsealed voter", SOON, async || {
        let status = world.operator.operations().status().await.map_err(|error| error.to_string())?;
        let member = status.members.iter().find(|member| member.name == reader).ok_or("it is no member")?;
        if member.reachable && member.unsealed { Ok(()) } else { Err(format!("{member:?}")) }
    })
    .await;
    let blob = largest(&current_database(&layout.node_data(&reader)).unwrap(), "blob");
    // In the middle of each record's body.
    let length = fs::metadata(&blob).unwrap().len();
    (0..20).for_each(|nth| flip(&blob, length * (2 * nth + 1) / 40));
    never_wrong(&world, &reader, &number, &records).await;
    has_stopped(&mut world, &reader, blob.file_name().unwrap().to_str().unwrap()).await;
    never_wrong(&world, &leader, &number, &records).await;

    // A running member's log. One member is away already: the other goes on until that one is replaced.
    let log = largest(&layout.node_data("backup-1").join("log/db"), "log");
    flip(&log, 5_000);
    let found = scrub(&world.cluster, "backup-1");
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    let name = log.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(found.status.code(), DAMAGED, "{errors}");
    assert!(errors.contains(&name) && errors.contains(&format!("goes on, as {reader} is damaged, too")), "{errors}");
    world.cluster.discard(&reader).await.unwrap();
    world.cluster.enlist_voter("voter-5").await.unwrap();
    let steps = world.operator.operations().replace_member(&reader, "voter-5").await.unwrap();
    steps.take(usize::MAX).await.unwrap();
    has_stopped(&mut world, "backup-1", &name).await;
    let status = world.operator.operations().status().await.unwrap();
    let backup = status.members.iter().find(|member| member.name == "backup-1").unwrap();
    assert!(!backup.reachable && backup.scrub.as_ref().is_some_and(|scrub| scrub.result == 2), "{backup:?}");
}
