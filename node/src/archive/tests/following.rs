//! The archive follows what is applied: segments, bases, the ledger, a hole.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::keys::bucket_of;
use kura_cluster::row::Table;

use super::super::catalog;
use super::super::verify::Level;
use super::super::writer::Settings;
use super::stage::{Backup, generations, has, in_directory, next_generation, objects, report, secret, settings, sound};
use crate::raft::types::EntryPayload;

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_follows_and_a_replay_comes_to_the_same_state() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    let mut writer = backup.writer(archive.clone());
    backup.enrol(1..5).await;
    assert!(writer.step().await.unwrap(), "the base");
    assert!(!writer.step().await.unwrap(), "nothing is new");
    for n in 1..4 {
        backup.enrol(n * 10..n * 10 + 5).await;
        backup.apply([EntryPayload::Blank]).await;
        assert!(writer.step().await.unwrap());
    }
    backup.commands([Bytes::from_static(b"no command at all")]).await;
    backup.erase(2).await;
    writer.step().await.unwrap();
    let found = sound(&archive).await;
    assert_eq!((found.index, found.generations, found.manifests), (backup.index(), 1, 5));
    assert_eq!(found.holes, []);
    let newest = catalog::newest(&archive).await.unwrap().unwrap();
    assert_eq!(newest.signed.key_sha256(), backup.signer.key_sha256());
    let state = backup.machine.store().published();
    assert_eq!(newest.signed.manifest.head.state_digest, state.digest());
    assert!(newest.signed.manifest.segments().iter().all(|segment| segment.bytes < 8_000), "closed by size");

    // After a restart it goes on from what the archive says, and a further generation continues the former.
    drop(writer);
    let mut writer = backup.writer_with(archive.clone(), generations(KeepRules::ALL));
    next_generation(&mut backup, &mut writer, &archive, 60).await;
    let found = sound(&archive).await;
    assert_eq!((found.generations, found.holes.len(), found.index), (2, 0, backup.index()));
    for generation in catalog::generations(&archive).await.unwrap() {
        let found = report(&archive, Level::Replay, Some(generation)).await;
        assert_eq!(found.faults, [], "generation {generation}");
    }
    let base = catalog::base(&archive, found.manifests).await.unwrap();
    assert!(base.continues);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapped_keys_are_in_the_ledger_alone_and_erased_ones_nowhere() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    backup.enrol(1..4).await;
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    backup.enrol(4..6).await;
    writer.step().await.unwrap();
    let held = objects(&archive).await;
    for n in 0..6 {
        let of_key: Vec<_> = held.iter().filter(|(_, bytes)| has(bytes, &secret(n)[..16])).collect();
        assert_eq!(of_key.len(), 1, "key {n} is in {:?}", of_key.iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert!(of_key[0].0.starts_with("keys/"), "{}", of_key[0].0);
    }
    assert!(held.iter().any(|(name, bytes)| name.starts_with("files/") && has(bytes, &[2; 700])), "the search finds");
    backup.erase(2).await;
    backup.erase(5).await;
    writer.step().await.unwrap();
    let held = objects(&archive).await;
    for n in [2, 5] {
        assert!(!held.values().any(|bytes| has(bytes, &secret(n)[..16])), "key {n} is still there");
    }
    assert!(held.values().any(|bytes| has(bytes, &secret(4)[..16])));
    sound(&archive).await;
    // Left behind by a writer that was killed: gone with the next start.
    let left = ObjectName::Keys([9; 32]);
    archive.replace(&left.to_string(), secret(2).into()).await.unwrap();
    backup.enrol([9]).await;
    backup.writer(archive.clone()).step().await.unwrap();
    assert_eq!(archive.length(&left.to_string()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_by_size_counts_what_was_written_before_a_restart() {
    const SIZE: u64 = 20_000;
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    // Each run of the writer writes a part of it only.
    for n in 1..40_u8 {
        let mut writer = backup.writer(archive.clone());
        backup.enrol([n]).await;
        writer.step().await.unwrap();
    }
    let segments = objects(&archive).await.into_iter().filter(|(name, _)| name.starts_with("segments/"));
    assert!(segments.map(|(_, bytes)| bytes.len() as u64).sum::<u64>() > SIZE);
    assert_eq!(catalog::generations(&archive).await.unwrap().len(), 1);
    // It closes no segment of its own: nothing but what was written before makes a base due.
    let hour = Duration::from_secs(3600);
    let by_size = Settings { base_every_bytes: SIZE, segment_bytes: usize::MAX, segment_time: hour, ..settings() };
    let mut writer = backup.writer_with(archive.clone(), by_size);
    backup.enrol([40]).await;
    // The base's files are sent ahead by a task.
    let since = Instant::now();
    while !writer.step().await.unwrap() && since.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(catalog::generations(&archive).await.unwrap().len(), 2, "no base by size was made");
    assert_eq!(sound(&archive).await.index, backup.index());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_log_is_told_and_a_base_begins_after_it() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    let before = backup.index();
    backup.enrol(1..5).await;
    // The log went over its cap and was purged.
    backup.log.lock().unwrap().retain(|entry| entry.log_id.index > before + 2);
    // Indexes are places in the list: keep them so.
    let kept = backup.index();
    assert!(writer.step().await.unwrap());
    let found = sound(&archive).await;
    assert_eq!(found.holes, [(2, before + 1, kept)]);
    assert_eq!((found.index, found.generations), (kept, 2));
}

#[test]
fn key_tables_are_those_of_the_ledger() {
    for table in Table::ALL {
        let key = [&[table.number()][..], &[0; 20]].concat();
        assert_eq!(bucket_of(&key).is_some(), table.holds_keys(), "{}", table.word());
    }
}
