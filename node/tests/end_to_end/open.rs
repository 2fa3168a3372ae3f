//! `kura archive verify --level open`: what is sealed in an archive opens with the root key, from wherever that comes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kura_client::{Class, Date, NewRecord};

use super::archive::caught_up;
use super::memory::Made;
use super::world::{HOSPITAL, KURA, World, folder, quick_segments};

const RECORDS: u64 = 12;
const BIG: u64 = 3 << 20;

/// Verifies with the level *open*; `typed` goes through a pipe.
fn verify(place: &Path, scratch: &Path, arguments: &[&str], typed: &[String]) -> Output {
    let mut command = Command::new(KURA);
    command.args(["archive", "verify", "--level", "open", "--json"]).arg(place);
    command.arg("--scratch").arg(scratch).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever needs no shares may have ended already.
    typed.iter().for_each(|words| drop(writeln!(stdin, "{words}")));
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> serde_json::Value {
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(output.status.success(), "{told}");
    told
}

fn opened(told: &serde_json::Value, table: &str) -> u64 {
    let tables = told["opened"].as_array().unwrap();
    tables.iter().find(|found| found["table"] == table).unwrap()["opened"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_opens_by_file_configuration_or_shares_and_nothing_without() {
    let mut world = World::configured(1, 1, quick_segments).await;
    let layout = world.cluster.layout().clone();
    let number = world.enrol(1).await;
    for _ in 1..RECORDS {
        world.put(&number, "a short note").await;
    }
    let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
    world.doctor(HOSPITAL).put(&number, image).body(Made::noise(7, BIG)).await.unwrap();
    let (shares, fingerprint) = world.split("voter-1", "2", "2").await;
    world.confirm(&fingerprint).await;
    caught_up(&world, world.operator.operations().status().await.unwrap().committed_index).await;
    world.cluster.stop().await.unwrap();

    let (archive, scratch) = (layout.archive("backup-1"), folder());
    let (root_key, config) = (layout.root_key("voter-1"), layout.node_config("voter-1"));
    let (root_key, config) = (root_key.to_str().unwrap(), config.to_str().unwrap());
    let all = told(&verify(&archive, scratch.path(), &["--all", "--config", config], &[]));
    assert_eq!((opened(&all, "record"), opened(&all, "participant-key")), (RECORDS, 1), "{all}");
    assert_eq!(all["opened_bytes"], BIG + (RECORDS - 1) * "a short note".len() as u64, "{all}");
    assert_eq!(all["opened_blocks"], 3 + RECORDS - 1, "{all}");
    // People type the words of their shares once all else was checked.
    let by_shares = told(&verify(&archive, scratch.path(), &["--all", "--shares"], &shares));
    assert_eq!(by_shares, all);
    // A sample of one of each table is one record, and what belongs to it.
    let one = told(&verify(&archive, scratch.path(), &["--sample", "1", "--root-key", root_key], &[]));
    assert_eq!(opened(&one, "record"), 1, "{one}");
    assert!(one["opened_rows"].as_u64().unwrap() < all["opened_rows"].as_u64().unwrap(), "{one} {all}");

    let usage = |arguments: &[&str]| verify(&archive, scratch.path(), arguments, &[]).status.code();
    assert_eq!(usage(&[]), Some(2), "no key");
    assert_eq!(usage(&["--all", "--sample", "3", "--root-key", root_key]), Some(2));
    assert_eq!(usage(&["--shares", "--root-key", root_key]), Some(2));
    let backup = layout.node_config("backup-1");
    assert_eq!(usage(&["--config", backup.to_str().unwrap()]), Some(2), "a backup has no root key");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing stays of it");
}
