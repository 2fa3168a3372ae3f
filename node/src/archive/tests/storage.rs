//! Storage that fails, fills up, vanishes, or is another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kura_cluster::ClusterId;
use kura_cluster::archive::keep::KeepRules;
use object_store::memory::InMemory;

use super::super::writer::WriteError;
use super::super::{ArchiveStore, catalog};
use super::dying::Dying;
use super::stage::{Backup, generations, in_directory, secret, sound};

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_killed_at_any_moment_goes_on_without_a_hole() {
    let mut backup = Backup::start().await;
    backup.enrol(1..4).await;
    let (mut kills, mut calls) = (0, 0);
    loop {
        let inner = Arc::new(InMemory::new());
        let whole = ArchiveStore::over(inner.clone(), "whole");
        let dying = Dying { inner, left: AtomicU64::new(calls) };
        let mut writer = backup.writer_with(
            ArchiveStore::over(Arc::new(dying), "dying"),
            generations(KeepRules { last: 1, daily: 0, weekly: 0, monthly: 0 }),
        );
        let mut died = false;
        for n in 0..3_u8 {
            if calls == 0 || n > 0 {
                let number = u8::try_from(calls % 200).unwrap() + n;
                backup.enrol([number.max(4)]).await;
            }
            for _ in 0..3 {
                if writer.step().await.is_err() {
                    died = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if died {
                break;
            }
        }
        drop(writer);
        backup.enrol([200]).await;
        let mut writer = backup.writer(whole.clone());
        while writer.step().await.unwrap() {}
        let found = sound(&whole).await;
        assert_eq!((found.index, found.holes.len()), (backup.index(), 0), "killed after {calls} calls");
        kills += u64::from(died);
        if !died {
            break;
        }
        // The first calls one by one, later ones in steps: each round costs a replay.
        calls += if calls < 16 { 1 } else { 4 };
    }
    assert!(kills > 20, "it was killed {kills} times only");
}

/// A directory's object is written as `NAME#NUMBER` and renamed; whoever is killed in between leaves that file.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_unfinished_in_a_directory_goes_when_the_next_one_starts() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    let unfinished = ["keys", "files", "manifests/00000000000000000001", "manifests/00000000000000000007"]
        .map(|folder| backup.directory.path().join("archive").join(folder).join(format!("{}#1", "ab".repeat(32))));
    // Killed in the first generation, then later.
    for n in 1..3 {
        for file in &unfinished {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, secret(9)).unwrap();
        }
        backup.enrol([n]).await;
        backup.writer(archive.clone()).step().await.unwrap();
        for file in &unfinished {
            assert!(!file.exists(), "{file:?}");
        }
        assert!(!unfinished[3].parent().unwrap().exists(), "a generation that never began");
        sound(&archive).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_fails_leaves_what_it_sends_ahead_alone() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    backup.enrol(1..4).await;
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    let under_way = backup.directory.path().join("archive/files").join(format!("{}#1", "cd".repeat(32)));
    std::fs::write(&under_way, b"a base's file that is being sent").unwrap();
    writer.look_again();
    backup.enrol([9]).await;
    writer.step().await.unwrap();
    assert!(under_way.exists(), "it is this writer's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_is_full_is_told_holds_the_log_and_is_gone_on_from() {
    let mut backup = Backup::start().await;
    let inner = Arc::new(InMemory::new());
    let whole = ArchiveStore::over(inner.clone(), "whole");
    let full = Arc::new(Dying { inner, left: AtomicU64::new(u64::MAX) });
    let mut writer = backup.writer(ArchiveStore::over(full.clone(), "full"));
    while writer.step().await.unwrap() {}
    let (told, before) = (writer.told(), backup.index());
    assert_eq!((told.needs_after(), told.trouble()), (before, None));

    full.left.store(0, Ordering::SeqCst);
    backup.enrol(1..4).await;
    let writing = tokio::spawn(writer.run());
    let until = async |what: &str, is: &dyn Fn() -> bool| {
        for _ in 0..1000 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not come about");
    };
    until("trouble", &|| told.trouble().is_some()).await;
    assert!(told.trouble().unwrap().contains("it is dead"), "{:?}", told.trouble());
    // What is applied goes on, and the log is needed from where the archive ends.
    backup.enrol(4..8).await;
    assert_eq!(told.needs_after(), before);

    full.left.store(u64::MAX, Ordering::SeqCst);
    until("an archive that has caught up", &|| told.needs_after() == backup.index()).await;
    assert_eq!(told.trouble(), None);
    writing.abort();
    let found = sound(&whole).await;
    assert_eq!((found.index, found.holes.len()), (backup.index(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_are_noticed_and_another_clusters_archive_is_refused() {
    let mut one = Backup::start().await;
    let mut two = Backup::start().await;
    let archive = in_directory(one.directory.path());
    // Both are members: each knows the other's key.
    one.signers().keep(two.signer.key_sha256()).unwrap();
    two.signers().keep(one.signer.key_sha256()).unwrap();
    let (mut first, mut second) = (one.writer(archive.clone()), two.writer(archive.clone()));
    first.step().await.unwrap();
    two.enrol([1]).await;
    second.step().await.unwrap();
    // The first one knows nothing of that, and is about to write a manifest of the same number.
    one.enrol([2]).await;
    let refused = first.step().await.unwrap_err();
    assert!(matches!(&refused, WriteError::OtherWriter(name) if name == "backup-1"), "{refused}");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = in_directory(elsewhere.path());
    let mut writer = one.writer(other.clone());
    writer.step().await.unwrap();
    let newest = catalog::newest(&other).await.unwrap().unwrap().signed.manifest;
    let mut foreign = newest.clone();
    foreign.head.cluster_id = ClusterId([8; 16]);
    let signed = one.signer.sign_manifest(foreign).unwrap();
    other.replace(&newest.name().to_string(), signed.encode().into()).await.unwrap();
    let refused = one.writer(other).step().await.unwrap_err();
    assert!(matches!(refused, WriteError::OtherCluster), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_vanishes_is_not_begun_anew_in_its_place() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    backup.enrol([1]).await;
    let (there, away) = (backup.directory.path().join("archive"), backup.directory.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    std::fs::create_dir(&there).unwrap();
    assert!(matches!(writer.step().await, Err(WriteError::Gone)));
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0, "nothing was written there");
    std::fs::remove_dir(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    assert!(writer.step().await.unwrap());
    assert_eq!(sound(&archive).await.index, backup.index());
}
