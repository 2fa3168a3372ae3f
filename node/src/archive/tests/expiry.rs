//! What expires goes, what is kept or held stays whole.

use bytes::Bytes;
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::{Fault, ObjectName};

use super::super::catalog;
use super::super::expire::HOLDS;
use super::super::verify::Level;
use super::stage::{Backup, generations, in_directory, next_generation, objects, report, sound};

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_goes_and_what_is_kept_or_held_stays_whole() {
    let mut backup = Backup::start().await;
    let archive = in_directory(backup.directory.path());
    let keep = KeepRules { last: 2, daily: 0, weekly: 0, monthly: 0 };
    let mut writer = backup.writer_with(archive.clone(), generations(keep));
    backup.enrol(1..3).await;
    writer.step().await.unwrap();
    archive.replace(&format!("{HOLDS}/{:020}", 1), Bytes::from_static(b"court")).await.unwrap();
    let mut bytes_at_most = 0;
    for n in 10..16 {
        next_generation(&mut backup, &mut writer, &archive, n).await;
        let found = sound(&archive).await;
        bytes_at_most = bytes_at_most.max(found.bytes);
    }
    let generations = catalog::generations(&archive).await.unwrap();
    assert_eq!((generations.len(), generations[0]), (3, 1), "{generations:?}");
    for generation in &generations {
        assert_eq!(report(&archive, Level::Replay, Some(*generation)).await.faults, [], "{generation}");
    }
    // Released, it goes with the next; nothing that nobody names stays.
    archive.delete(&format!("{HOLDS}/{:020}", 1)).await.unwrap();
    next_generation(&mut backup, &mut writer, &archive, 20).await;
    let generations = catalog::generations(&archive).await.unwrap();
    assert!(generations.len() == 2 && generations[0] > 1, "{generations:?}");
    sound(&archive).await;
    let mut named = std::collections::BTreeSet::new();
    for generation in generations {
        for sequence in catalog::manifests(&archive, generation).await.unwrap() {
            let manifest = catalog::manifest(&archive, generation, sequence).await.unwrap().signed.manifest;
            named.extend(manifest.objects().into_iter().map(|(name, _)| name.to_string()));
        }
    }
    let held = objects(&archive).await;
    let left: Vec<_> = held
        .keys()
        .filter(|name| name.starts_with("files/") || name.starts_with("segments/"))
        .filter(|name| !named.contains(*name))
        .collect();
    assert_eq!(left, Vec::<&String>::new());
    // A manifest that somebody takes away is still missed.
    let newest = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    let first = *catalog::generations(&archive).await.unwrap().first().unwrap();
    archive.delete(&ObjectName::Manifest { generation: first, sequence: first }.to_string()).await.unwrap();
    let told = report(&archive, Level::Files, Some(newest.generation)).await.faults;
    assert!(told.iter().any(|fault| matches!(fault, Fault::ManifestsMissing { .. })), "{told:?}");
}
