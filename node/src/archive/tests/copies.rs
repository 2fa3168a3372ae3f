//! A copy on another medium is an archive.

use bytes::Bytes;

use super::super::export::{ExportError, export, note};
use super::super::replay::Event;
use super::super::{ArchiveStore, catalog};
use super::stage::{has, made, objects, secret, sound};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_an_archive_and_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    let copy = ArchiveStore::open_or_make(directory.path().join("disk").to_str().unwrap()).unwrap();
    let silent = |_: Event| {};
    let first = export(&archive, &copy, 1, (1_000, 2_000), &silent).await.unwrap();
    assert_eq!((first.generations, first.index), (1, backup.index()));
    assert_eq!(note(&copy).await.unwrap().unwrap().expires_ms, 2_000);
    sound(&copy).await;
    let again = export(&archive, &copy, 1, (1_001, 2_001), &silent).await.unwrap();
    assert_eq!((again.objects, again.deleted), (0, 0));

    backup.erase(3).await;
    backup.enrol([99]).await;
    backup.writer(archive.clone()).step().await.unwrap();
    let unfinished = directory.path().join("disk/keys").join(format!("{}#12", "ab".repeat(32)));
    std::fs::write(&unfinished, secret(3)).unwrap();
    let later = export(&archive, &copy, 1, (1_002, 2_002), &silent).await.unwrap();
    assert!(later.objects > 0 && later.objects < first.objects, "{later:?}");
    assert!(later.deleted > 0, "the former ledger's keys");
    assert!(!unfinished.exists(), "an export that was killed left a key");
    assert_eq!(later.index, backup.index());
    sound(&copy).await;
    assert!(!objects(&copy).await.values().any(|bytes| has(bytes, &secret(3)[..16])), "erased, and still there");

    // A cut one is gone on with; something else is refused.
    let newest = catalog::newest(&copy).await.unwrap().unwrap().signed.manifest;
    copy.delete(&newest.name().to_string()).await.unwrap();
    copy.delete(&newest.segments()[0].name().to_string()).await.unwrap();
    let mended = export(&archive, &copy, 1, (1_003, 2_003), &silent).await.unwrap();
    assert_eq!((mended.objects, mended.index), (2, backup.index()));
    sound(&copy).await;
    let stranger = ArchiveStore::open_or_make(directory.path().join("other").to_str().unwrap()).unwrap();
    stranger.replace("holiday.jpg", Bytes::from_static(b"x")).await.unwrap();
    assert!(export(&archive, &stranger, 1, (1, 2), &silent).await.is_err());
    let rotten = objects(&archive).await.into_keys().find(|name| name.starts_with("segments/")).unwrap();
    let third = ArchiveStore::open_or_make(directory.path().join("third").to_str().unwrap()).unwrap();
    archive.replace(&rotten, Bytes::from_static(b"rotten")).await.unwrap();
    assert!(export(&archive, &third, 9, (1, 2), &silent).await.is_err());
    assert_eq!(third.length(&rotten).await.unwrap(), None, "what is rotten is not copied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_off_ends_where_it_did_before() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    let copy = ArchiveStore::open_or_make(directory.path().join("disk").to_str().unwrap()).unwrap();
    let silent = |_: Event| {};
    export(&archive, &copy, 1, (1, 2), &silent).await.unwrap();
    let before = catalog::newest(&copy).await.unwrap().unwrap().signed.manifest;
    // Each manifest has another ledger.
    for n in [1, 2] {
        backup.erase(n).await;
        backup.enrol([90 + n]).await;
        backup.writer(archive.clone()).step().await.unwrap();
    }
    let last = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    assert!(last.sequence >= before.sequence + 2);
    let name = last.segments()[0].name().to_string();
    let segment = archive.get(&name, u64::MAX).await.unwrap();
    archive.delete(&name).await.unwrap();
    export(&archive, &copy, 1, (1, 2), &silent).await.unwrap_err();
    assert_eq!(catalog::newest(&copy).await.unwrap().unwrap().signed.manifest.sequence, before.sequence);
    sound(&copy).await;
    archive.replace(&name, segment).await.unwrap();
    export(&archive, &copy, 1, (1, 2), &silent).await.unwrap();
    assert_eq!(catalog::newest(&copy).await.unwrap().unwrap().signed.manifest.sequence, last.sequence);
    sound(&copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_archive_of_the_cluster_stays_as_it_is() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_former, former) = made(directories[0].path()).await;
    let (_present, present) = made(directories[1].path()).await;
    let copy = ArchiveStore::open_or_make(directories[0].path().join("disk").to_str().unwrap()).unwrap();
    let silent = |_: Event| {};
    export(&former, &copy, 9, (1, 2), &silent).await.unwrap();
    let before = objects(&copy).await;
    let refused = export(&present, &copy, 9, (1, 2), &silent).await.unwrap_err();
    assert!(matches!(refused, ExportError::OtherArchive(_)), "{refused}");
    assert_eq!(objects(&copy).await, before);
}
