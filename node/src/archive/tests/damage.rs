//! Whatever is done to an archive is found by the check of its level, and named.

use bytes::Bytes;
use kura_cluster::archive::Fault;

use super::super::catalog;
use super::super::replay::Event;
use super::super::verify::{HeadFit, Level, Request, Witness, verify};
use super::stage::{has, made, objects, report, secret, sound};

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_each_kind_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let (_backup, archive) = made(directory.path()).await;
    sound(&archive).await;
    let whole = objects(&archive).await;
    let segments: Vec<&String> = whole.keys().filter(|name| name.starts_with("segments/")).collect();
    let manifests: Vec<&String> = whole.keys().filter(|name| name.starts_with("manifests/")).collect();
    let file = whole.keys().find(|name| name.starts_with("files/") && whole[*name].len() > 600).unwrap();
    let bucket = whole.keys().find(|name| name.starts_with("keys/") && has(&whole[*name], &secret(3)[..16])).unwrap();
    let (last_segment, last_manifest) = (segments[segments.len() - 1], manifests[manifests.len() - 1]);
    let flipped = |name: &String, at: usize| {
        let mut bytes = whole[name].to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let cut = |name: &String| whole[name].slice(..whole[name].len() - 1);
    type Change<'a> = (&'a str, Vec<(&'a String, Option<Bytes>)>, Level, Vec<&'a str>);
    let changes: Vec<Change<'_>> = vec![
        ("a byte cut off a segment", vec![(last_segment, Some(cut(last_segment)))], Level::Files, vec!["cut off"]),
        ("the same, looked into", vec![(last_segment, Some(cut(last_segment)))], Level::Hash, vec!["cut off at entry"]),
        (
            "a byte more",
            vec![(last_segment, Some([&whole[last_segment][..], b"x"].concat().into()))],
            Level::Files,
            vec!["instead of"],
        ),
        ("a byte changed", vec![(last_segment, Some(flipped(last_segment, 200)))], Level::Hash, vec!["checksum"]),
        ("a segment gone", vec![(segments[1], None)], Level::Files, vec!["missing"]),
        (
            "two segments swapped",
            vec![(segments[0], Some(whole[segments[1]].clone())), (segments[1], Some(whole[segments[0]].clone()))],
            Level::Hash,
            vec!["in its place stands a segment of the entries"],
        ),
        ("a base's file changed", vec![(file, Some(flipped(file, 300)))], Level::Hash, vec!["altered"]),
        ("a base's file gone", vec![(file, None)], Level::Files, vec!["missing"]),
        ("a manifest gone", vec![(manifests[1], None)], Level::Files, vec!["are missing"]),
        ("a manifest changed", vec![(manifests[1], Some(flipped(manifests[1], 60)))], Level::Files, vec!["manifests/"]),
        (
            "an old manifest as the newest",
            vec![(last_manifest, Some(whole[manifests[manifests.len() - 2]].clone()))],
            Level::Files,
            vec!["in its place stands manifest"],
        ),
        ("a key changed", vec![(bucket, Some(flipped(bucket, 40)))], Level::Hash, vec!["altered"]),
        ("a key gone", vec![(bucket, None)], Level::Hash, vec!["missing"]),
    ];
    for (what, change, level, words) in changes {
        for (name, bytes) in &change {
            match bytes {
                Some(bytes) => archive.replace(name, bytes.clone()).await.unwrap(),
                None => archive.delete(name).await.unwrap(),
            }
        }
        // Whoever looks deeper finds it, too.
        for deeper in [Level::Hash, Level::Replay].into_iter().filter(|deeper| *deeper > level) {
            assert!(!report(&archive, deeper, None).await.faults.is_empty(), "{what}: not found at {deeper:?}");
        }
        let found = report(&archive, level, None).await;
        let told: Vec<String> = found.faults.iter().map(Fault::to_string).collect();
        assert!(!told.is_empty(), "{what}: nothing was found");
        for (name, _) in &change {
            let number = name.rsplit('/').next().unwrap().trim_start_matches('0');
            let is_named = told.iter().any(|fault| fault.contains(name.as_str()) || fault.contains(number));
            assert!(is_named, "{what}: {name} is not named in {told:?}");
        }
        for word in words {
            assert!(told.iter().any(|fault| fault.contains(word)), "{what}: {word:?} is not in {told:?}");
        }
        for (name, _) in &change {
            archive.replace(name, whole[*name].clone()).await.unwrap();
        }
    }
    sound(&archive).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_end_is_found_by_whoever_kept_a_head_and_another_journal_by_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let (backup, archive) = made(directory.path()).await;
    let published = backup.machine.store().published();
    let journal = &published.summary.journal;
    let witness = |size, root| Witness { index: published.index(), size, root, is_fresh: false };
    let check = async |witness, level| {
        let scratch = tempfile::tempdir().unwrap();
        let request =
            Request { level, generation: None, trusted: vec![], witness: Some(witness), scratch: scratch.path() };
        let silent = |_: Event| {};
        verify(&archive, &request, &silent).await.unwrap().0.faults
    };
    let good = witness(journal.size(), journal.root());
    assert_eq!(check(good, Level::Replay).await, []);
    let told = async |witness, level| {
        let scratch = tempfile::tempdir().unwrap();
        let request =
            Request { level, generation: None, trusted: vec![], witness: Some(witness), scratch: scratch.path() };
        let silent = |_: Event| {};
        verify(&archive, &request, &silent).await.unwrap().0.head
    };
    assert_eq!(told(good, Level::Replay).await, Some(HeadFit::Begins));
    let other = witness(journal.size() - 1, [3; 32]);
    assert_eq!(check(other, Level::Replay).await, [Fault::Journal { size: journal.size() - 1 }]);
    let newest = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    archive.delete(&newest.name().to_string()).await.unwrap();
    let found = check(good, Level::Files).await;
    assert!(matches!(found[..], [Fault::Short { .. }, ..]), "{found:?}");
    assert!(!found.iter().any(Fault::is_lag), "what was kept long ago is not waited for");
    // Of a head that was only just kept nobody can say more than that it is not there yet.
    let found = check(Witness { is_fresh: true, ..good }, Level::Files).await;
    assert!(matches!(found[..], [Fault::Behind { .. }, ..]), "{found:?}");
    assert_eq!(told(good, Level::Files).await, Some(HeadFit::Beyond));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_than_the_named_ones_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (backup, archive) = made(directory.path()).await;
    let scratch = tempfile::tempdir().unwrap();
    let check = async |key: [u8; 32]| {
        let request = Request {
            level: Level::Files,
            generation: None,
            trusted: vec![key],
            witness: None,
            scratch: scratch.path(),
        };
        let silent = |_: Event| {};
        verify(&archive, &request, &silent).await.unwrap().0.faults
    };
    assert_eq!(check(backup.signer.key_sha256()).await, []);
    assert!(check([1; 32]).await.iter().all(|fault| matches!(fault, Fault::OtherKey { .. })));
}
