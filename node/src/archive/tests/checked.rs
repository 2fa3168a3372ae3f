//! The writer's own check: what it finds, what is made again, and what is named because it cannot be.

use bytes::Bytes;
use futures_util::future::{Either, select};
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::keep::KeepRules;

use super::super::ArchiveStore;
use super::super::catalog;
use super::super::check::{Found, Mends, Pace, check};
use super::super::writer::Writer;
use super::stage::{
    Backup, generations, has, in_directory, key_row, known_to, made, next_generation, objects, secret, sound,
};

/// Checks, while a writer takes requests.
async fn checked(archive: &ArchiveStore, writer: Option<Writer>) -> Found {
    let newest = catalog::newest(archive).await.unwrap().unwrap();
    let unused = tempfile::tempdir().unwrap();
    let signers = known_to(unused.path(), newest.signed.key_sha256());
    let (mends, asked) = Mends::channel();
    let silent = |_: u64| {};
    let check = Box::pin(check(archive, &signers, &mends, Pace::new(u64::MAX / 2000, &silent)));
    let Some(writer) = writer else {
        drop(asked);
        return check.await.unwrap();
    };
    let mut writer = writer.mending(asked);
    let writing = Box::pin(async {
        loop {
            writer.step().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    match select(check, writing).await {
        Either::Left((found, _)) => found.unwrap(),
        Either::Right(((), _)) => unreachable!("it writes for ever"),
    }
}

async fn flip(archive: &ArchiveStore, name: &str, at: usize) {
    let mut bytes = objects(archive).await[name].to_vec();
    bytes[at] ^= 1;
    archive.replace(name, bytes.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_rot_at_their_length_are_named_and_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let (backup, archive) = made(directory.path()).await;
    let whole = objects(&archive).await;
    let found = checked(&archive, Some(backup.writer(archive.clone()))).await;
    assert_eq!((found.faults, found.mended, found.words.len()), (0, 0, 0), "{found:?}");
    assert_eq!(found.index, backup.index());

    let newest = *catalog::generations(&archive).await.unwrap().last().unwrap();
    let base = catalog::base(&archive, newest).await.unwrap();
    let table = base.files.iter().find(|file| file.name.ends_with(".sst")).unwrap();
    let table = ObjectName::File(table.sha256).to_string();
    let of = |folder: &str| whole.keys().filter(|name| name.starts_with(folder)).cloned().collect::<Vec<_>>();
    let (segments, dictionaries) = (of("segments/"), of("dictionaries/"));
    let bucket = of("keys/").into_iter().find(|name| has(&whole[name], &secret(3)[..16])).unwrap();
    let damaged = [&table, &segments[0], segments.last().unwrap(), &dictionaries[0], &bucket];
    for name in damaged {
        flip(&archive, name, whole[name].len() / 2).await;
    }
    archive.delete(&segments[1]).await.unwrap();
    let found = checked(&archive, Some(backup.writer(archive.clone()))).await;
    assert_eq!((found.faults, found.mended), (0, 6), "{found:?}");
    for name in damaged.into_iter().chain([&segments[1]]) {
        assert!(found.words.iter().any(|words| words.contains(name) && words.contains("made again")), "{name}");
        assert_eq!(archive.get(name, u64::MAX).await.unwrap(), whole[name], "{name}");
    }
    sound(&archive).await;
    // The list of the keys alone, without which no bucket is found.
    let ledger = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest.ledger;
    let ledger = ObjectName::Keys(ledger.sha256).to_string();
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    flip(&archive, &ledger, 60).await;
    let found = checked(&archive, Some(writer)).await;
    assert_eq!((found.faults, found.mended), (0, 1), "{found:?}");
    sound(&archive).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_any_more_is_named_with_what_to_do_and_nothing_wrong_is_put() {
    let directory = tempfile::tempdir().unwrap();
    let (backup, archive) = made(directory.path()).await;
    let whole = objects(&archive).await;
    let segment = whole.keys().find(|name| name.starts_with("segments/")).unwrap();
    let newest = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    let base = catalog::base(&archive, newest.generation).await.unwrap();
    let headers = ObjectName::File(base.key_headers_sha256).to_string();
    let first = ObjectName::Manifest { generation: 1, sequence: 1 }.to_string();
    // A writer that starts reads the bases' manifests; this one has.
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    flip(&archive, segment, 100).await;
    flip(&archive, &headers, 10).await;
    flip(&archive, &first, 60).await;
    // The log begins later by now.
    backup.log.lock().unwrap().drain(..backup.index() as usize - 1);
    let damaged = objects(&archive).await;
    let found = checked(&archive, Some(writer)).await;
    assert!(found.mended == 0 && found.faults >= 3, "{found:?}");
    for name in [segment, &headers, &first] {
        let words = found.words.iter().find(|words| words.contains(name.as_str()));
        assert!(words.is_some_and(|words| words.contains("a copy of the archive")), "{name}: {found:?}");
        assert_eq!(archive.get(name, u64::MAX).await.unwrap(), damaged[name], "nothing else was put there");
    }
    // Without a writer everything is only named.
    let found = checked(&archive, None).await;
    assert!(found.words.iter().any(|words| words.contains("writer has ended")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_erased_are_not_put_back_and_what_expires_meanwhile_is_no_finding() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    backup.enrol(1..4).await;
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    let bucket = objects(&archive).await.into_iter().find(|(_, bytes)| has(bytes, &secret(3)[..16])).unwrap().0;
    flip(&archive, &bucket, 50).await;
    // The state knows of the erasure, the archive not yet.
    backup.erase(3).await;
    assert!(backup.machine.store().database().row(&key_row(3)).unwrap().is_none());
    let found = checked(&archive, Some(writer)).await;
    let held = objects(&archive).await;
    assert!(held.values().all(|bytes| !has(bytes, &secret(3)[..16])), "{found:?}");

    let keep = KeepRules { last: 1, daily: 0, weekly: 0, monthly: 0 };
    let mut writer = backup.writer_with(archive.clone(), generations(keep));
    let segment = held.keys().find(|name| name.starts_with("segments/"));
    if let Some(segment) = segment {
        archive.replace(segment, Bytes::from_static(b"rot")).await.unwrap();
    }
    for n in 10..14 {
        next_generation(&mut backup, &mut writer, &archive, n).await;
    }
    let found = checked(&archive, Some(backup.writer(archive.clone()))).await;
    assert_eq!((found.faults, found.mended), (0, 0), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_generation_that_rots_keeps_nothing_from_being_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    let oldest = catalog::generations(&archive).await.unwrap()[0];
    let base = ObjectName::Manifest { generation: oldest, sequence: oldest }.to_string();
    flip(&archive, &base, 40).await;
    let mut writer = backup.writer(archive.clone());
    backup.enrol(60..64).await;
    writer.step().await.unwrap();
    writer.step().await.unwrap();
    let newest = catalog::newest(&archive).await.unwrap().unwrap();
    assert_eq!(newest.signed.manifest.index(), backup.index());
    let found = checked(&archive, Some(writer)).await;
    assert!(found.words.iter().any(|words| words.contains(&base)), "{found:?}");
    // Nor a new generation from beginning; but what the rotten one needs nobody can tell, and nothing is deleted.
    let before = catalog::generations(&archive).await.unwrap();
    let keep = KeepRules { last: 1, daily: 0, weekly: 0, monthly: 0 };
    let mut writer = backup.writer_with(archive.clone(), generations(keep));
    next_generation(&mut backup, &mut writer, &archive, 70).await;
    let after = catalog::generations(&archive).await.unwrap();
    assert!(after.len() > before.len() && after.starts_with(&before), "{before:?} {after:?}");
}
