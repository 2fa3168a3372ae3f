//! A chain that somebody else put into the storage: nothing is written over or after it, and people are told.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::archive::{Manifest, Sha256Hash};
use kura_cluster::hexadecimal;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;

use super::super::check::{Mends, Pace, check};
use super::super::signers::Signers;
use super::super::writer::WriteError;
use super::super::{ArchiveStore, catalog};
use super::stage::{Backup, made, objects, sound};
use crate::certificates::HeadSigner;

fn stranger() -> HeadSigner {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap()
}

async fn newest(archive: &ArchiveStore) -> (Manifest, Sha256Hash) {
    let found = catalog::newest(archive).await.unwrap().unwrap();
    (found.signed.manifest, found.sha256)
}

/// A manifest that goes on from the newest, by the stranger.
async fn go_on(archive: &ArchiveStore, signer: &HeadSigner) {
    let (mut manifest, sha256) = newest(archive).await;
    assert!(manifest.base().is_none(), "segments follow here");
    (manifest.sequence, manifest.previous_sha256) = (manifest.sequence + 1, Some(sha256));
    put(archive, signer, manifest).await;
}

/// Puts a manifest in its place, whatever is there.
async fn put(archive: &ArchiveStore, signer: &HeadSigner, manifest: Manifest) {
    let name = manifest.name().to_string();
    archive.replace(&name, Bytes::from(signer.sign_manifest(manifest).unwrap().encode())).await.unwrap();
}

fn names(refused: &WriteError, signer: &HeadSigner) -> bool {
    let key = hexadecimal(signer.key_sha256());
    matches!(refused, WriteError::Signer(unknown) if unknown.key == key) && refused.to_string().contains("signed_by")
}

/// What a check of the archive by this backup comes to.
async fn faults(archive: &ArchiveStore, signers: &Signers) -> Vec<String> {
    let (mends, asked) = Mends::channel();
    drop(asked);
    let silent = |_: u64| {};
    check(archive, signers, &mends, Pace::new(u64::MAX / 2000, &silent)).await.unwrap().words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_newest_manifest_is_named_and_never_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    assert_eq!(faults(&archive, &backup.signers()).await, Vec::<String>::new());
    // One writer runs, another one starts after it.
    let mut running = backup.writer(archive.clone());
    running.step().await.unwrap();
    let stranger = stranger();
    go_on(&archive, &stranger).await;
    let before = objects(&archive).await;
    backup.enrol(70..74).await;
    for writer in [&mut running, &mut backup.writer(archive.clone())] {
        let refused = writer.step().await.unwrap_err();
        assert!(names(&refused, &stranger), "{refused}");
    }
    let manifests = |objects: &std::collections::BTreeMap<String, Bytes>| {
        objects.iter().filter(|(name, _)| name.starts_with("manifests/")).map(|(n, b)| (n.clone(), b.clone())).collect()
    };
    let (then, now): (Vec<_>, Vec<_>) = (manifests(&before), manifests(&objects(&archive).await));
    assert_eq!(then, now, "no manifest came, went or changed");
    let told = faults(&archive, &backup.signers()).await;
    assert!(told.len() == 1 && told[0].contains("was not looked at") && told[0].contains("signed_by"), "{told:?}");

    // Moved away by people: it goes on from its own.
    let foreign = newest(&archive).await.0.name().to_string();
    archive.delete(&foreign).await.unwrap();
    assert!(backup.writer(archive.clone()).step().await.unwrap());
    assert_eq!(sound(&archive).await.index, backup.index());
    assert_eq!(faults(&archive, &backup.signers()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_place_of_its_own_manifests_is_not_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    let stranger = stranger();
    let mut running = backup.writer(archive.clone());
    running.step().await.unwrap();
    let (own, _) = newest(&archive).await;
    put(&archive, &stranger, own.clone()).await;
    let before = objects(&archive).await;
    backup.enrol(70..74).await;
    let refused = running.step().await.unwrap_err();
    assert!(matches!(&refused, WriteError::Replaced(name) if *name == own.name()), "{refused}");
    assert_eq!(objects(&archive).await, before, "nothing was written");
    let refused = backup.writer(archive.clone()).step().await.unwrap_err();
    assert!(names(&refused, &stranger), "{refused}");
    archive
        .replace(&own.name().to_string(), backup.signer.sign_manifest(own.clone()).unwrap().encode().into())
        .await
        .unwrap();

    // The generation's first one, which says what has expired.
    let base = catalog::manifest(&archive, own.generation, own.generation).await.unwrap().signed.manifest;
    put(&archive, &stranger, base).await;
    let refused = backup.writer(archive.clone()).step().await.unwrap_err();
    assert!(names(&refused, &stranger), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_key_of_its_own_is_remembered_and_a_former_backup_s_is_named_by_people() {
    let directory = tempfile::tempdir().unwrap();
    let (mut backup, archive) = made(directory.path()).await;
    // Its key is renewed: the membership has only the new one.
    let former = std::mem::replace(&mut backup.signer, Arc::new(stranger()));
    backup.enrol(70..74).await;
    assert!(backup.writer(archive.clone()).step().await.unwrap());
    sound(&archive).await;
    assert_eq!(faults(&archive, &backup.signers()).await, Vec::<String>::new());

    // Another backup goes on with the place of one that is gone.
    let next = Backup::start().await;
    let refused = next.writer(archive.clone()).step().await.unwrap_err();
    assert!(matches!(refused, WriteError::Signer(_)), "{refused}");
    let data = tempfile::tempdir().unwrap();
    let named = |keys: Vec<Sha256Hash>| Signers::read(data.path(), keys, Box::new(Vec::new)).unwrap();
    let newest = catalog::newest(&archive).await.unwrap().unwrap().signed;
    assert!(named(vec![former.key_sha256()]).check(&newest).is_err());
    assert!(named(vec![backup.signer.key_sha256()]).check(&newest).is_ok());
}
