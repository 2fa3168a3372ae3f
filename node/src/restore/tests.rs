//! Plans, and both replays, over archives that a backup without a network wrote. What needs the root key is run end to
//! end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use kura_cluster::apply::state_digest;
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::{Fault, ObjectName};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::apply::{ApplyError, Vouched, follow, replay};
use super::plan::{Plan, PlanError, Target, Wanted, plan};
use super::work::{WORK, WorkError, usable};
use crate::archive::replay::{Event, Replayed};
use crate::archive::tests::dying::Dying;
use crate::archive::tests::growing::Growing;
use crate::archive::tests::stage::{Backup, CLUSTER, generations, in_directory, next_generation};
use crate::archive::verify::Witness;
use crate::archive::{ArchiveStore, catalog};

/// What the state was at an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Was {
    index: u64,
    clock_ms: u64,
    digest: [u8; 32],
}

fn now(backup: &Backup) -> Was {
    let published = backup.machine.store().published();
    Was { index: published.index(), clock_ms: published.summary.clock_ms, digest: published.digest() }
}

/// Three generations, each with a moment after its base; the last is the archive's end.
async fn three_generations(archive: &ArchiveStore) -> (Backup, Vec<Was>) {
    let mut backup = Backup::start().await;
    backup.enrol(1..4).await;
    backup.writer(archive.clone()).step().await.unwrap();
    let mut moments = Vec::new();
    for generation in 0..3_u8 {
        if generation > 0 {
            let mut writer = backup.writer_with(archive.clone(), generations(KeepRules::ALL));
            next_generation(&mut backup, &mut writer, archive, 100 + generation).await;
        }
        let mut writer = backup.writer(archive.clone());
        for n in 0..3 {
            // Some entries to a manifest, so that a moment may lie within one.
            let first = 10 + 20 * generation + 4 * n;
            backup.enrol(first..first + 3).await;
            if n == 1 {
                moments.push(now(&backup));
                backup.enrol([first + 3]).await;
            }
            writer.step().await.unwrap();
        }
    }
    moments.push(now(&backup));
    (backup, moments)
}

fn silent(_: Event) {}

async fn planned(archive: &ArchiveStore, target: Target) -> Result<Plan, PlanError> {
    let wanted = Wanted { target, trusted: vec![], cluster_id: Some(CLUSTER), witness: None };
    plan(archive, &wanted, &silent).await
}

async fn replayed(archive: &ArchiveStore, plan: &Plan, into: &Path) -> Result<(), ApplyError> {
    replay(archive, plan, into, Vouched::Waived("a test".into()), &silent).await.map(drop)
}

/// What lies replayed in a target under a name.
fn state(into: &Path, name: &str) -> (u64, [u8; 32]) {
    let found = Replayed::reopen(&into.join(WORK).join(name)).unwrap();
    (found.applied.unwrap().index, state_digest(&found.summary))
}

/// Both states are what they were: the one at the moment, and the newest.
fn holds(into: &Path, plan: &Plan, then: &Was, newest: &Was) {
    if !plan.is_newest() {
        assert_eq!(state(into, "old"), (then.index, then.digest));
    }
    assert_eq!(state(into, "new"), (newest.index, newest.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_in_any_generation_comes_to_the_state_that_was_then() {
    let directory = tempfile::tempdir().unwrap();
    let archive = in_directory(directory.path());
    let (_backup, moments) = three_generations(&archive).await;
    let numbers = catalog::generations(&archive).await.unwrap();
    assert_eq!((numbers.len(), moments.len()), (3, 4));
    let newest = moments[3];
    for (place, then) in moments.iter().enumerate() {
        let plan = planned(&archive, Target::Index(then.index)).await.unwrap();
        assert_eq!((plan.faults.len(), plan.target.index, plan.newest.index), (0, then.index, newest.index));
        assert_eq!((plan.old.generation, plan.new.generation), (numbers[place.min(2)], numbers[2]), "{place}");
        assert_eq!((plan.is_newest(), plan.left_out.is_empty()), (place == 3, place == 3));
        // Later entries may be of the same moment of the cluster's clock.
        let by_time = planned(&archive, Target::Time(then.clock_ms)).await.unwrap();
        assert!(by_time.target.index >= then.index && by_time.target.clock_ms == then.clock_ms, "{:?}", by_time.target);
        let into = directory.path().join(format!("into-{place}"));
        replayed(&archive, &plan, &into).await.unwrap();
        holds(&into, &plan, then, &newest);
        // Once more, as after a cut before people gave their shares.
        replayed(&archive, &plan, &into).await.unwrap();
        holds(&into, &plan, then, &newest);
    }
    let first = planned(&archive, Target::Newest).await.unwrap().first;
    assert!(matches!(planned(&archive, Target::Index(first.index - 1)).await, Err(PlanError::TooEarly(_))));
    assert!(matches!(planned(&archive, Target::Index(newest.index + 1)).await, Err(PlanError::TooLate(_))));
    assert!(matches!(planned(&archive, Target::Time(newest.clock_ms + 1)).await, Err(PlanError::TooLate(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_cut_at_any_call_goes_on_to_the_same_states() {
    let inner = Arc::new(InMemory::new());
    let whole = ArchiveStore::over(inner.clone(), "whole");
    let (_backup, moments) = three_generations(&whole).await;
    let (then, newest) = (moments[0], moments[3]);
    let plan = planned(&whole, Target::Index(then.index)).await.unwrap();
    let (mut calls, mut cuts) = (0, 0);
    loop {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("data");
        let dying = ArchiveStore::over(Arc::new(Dying { inner: inner.clone(), left: AtomicU64::new(calls) }), "dying");
        let ended = replayed(&dying, &plan, &into).await;
        if ended.is_err() {
            cuts += 1;
            replayed(&whole, &plan, &into).await.unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
        }
        holds(&into, &plan, &then, &newest);
        if ended.is_ok() {
            break;
        }
        calls += 3;
    }
    assert!(cuts > 10, "it was cut {cuts} times only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_log_is_named_and_what_lies_around_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let archive = in_directory(directory.path());
    let mut backup = Backup::start().await;
    let mut writer = backup.writer(archive.clone());
    writer.step().await.unwrap();
    backup.enrol(1..4).await;
    writer.step().await.unwrap();
    let before = now(&backup);
    backup.enrol(4..12).await;
    // The log went over its cap and was purged.
    backup.log.lock().unwrap().retain(|entry| entry.log_id.index > before.index + 2);
    let newest = now(&backup);
    writer.step().await.unwrap();
    let hole = (before.index + 1, newest.index);
    assert!(hole.1 > hole.0 + 3, "{hole:?}");

    for index in [hole.0, hole.1 - 1] {
        match planned(&archive, Target::Index(index)).await {
            Err(PlanError::Hole { first, last }) => assert_eq!((first, last), (hole.0, hole.1 - 1)),
            other => panic!("{other:?}"),
        }
    }
    // A moment within it is that of the last entry before it.
    let within = planned(&archive, Target::Time(before.clock_ms + 2)).await.unwrap();
    assert_eq!(within.target.index, before.index);
    for then in [before, newest] {
        let plan = planned(&archive, Target::Index(then.index)).await.unwrap();
        assert_eq!(plan.holes.iter().map(|(_, first, last)| (*first, *last)).collect::<Vec<_>>(), [hole]);
        let into = directory.path().join(format!("into-{}", then.index));
        replayed(&archive, &plan, &into).await.unwrap();
        holds(&into, &plan, &then, &newest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_cut_off_or_altered_is_refused_and_gone_on_from_once_mended() {
    let directory = tempfile::tempdir().unwrap();
    let archive = in_directory(directory.path());
    let (_backup, moments) = three_generations(&archive).await;
    let newest = moments[3];
    let manifest = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    let segment = manifest.segments().last().unwrap().name().to_string();
    let into = directory.path().join("into");
    let sound = planned(&archive, Target::Newest).await.unwrap();
    let read = async |name: &str| {
        let length = archive.length(name).await.unwrap().unwrap();
        archive.get(name, length).await.unwrap()
    };

    let whole = read(&segment).await;
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        archive.replace(&segment, whole.slice(..cut)).await.unwrap();
        let plan = planned(&archive, Target::Newest).await.unwrap();
        let told: Vec<String> = plan.faults.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(&segment) && told[0].contains("cut off"), "{told:?}");
        assert!(matches!(replayed(&archive, &plan, &into).await, Err(ApplyError::Faults(_))));
        assert!(!into.exists(), "something was written");
    }
    // Torn after it was planned: what was replayed before stays, and is gone on from.
    archive.replace(&segment, whole.slice(..whole.len() - 1)).await.unwrap();
    let refused = replayed(&archive, &sound, &into).await.unwrap_err().to_string();
    assert!(refused.contains(&segment), "{refused}");
    let mut altered = whole.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    archive.replace(&segment, Bytes::from(altered)).await.unwrap();
    let refused = replayed(&archive, &sound, &into).await.unwrap_err().to_string();
    assert!(refused.contains(&segment), "{refused}");
    assert!(into.join(WORK).join("new").exists());
    archive.replace(&segment, whole).await.unwrap();

    // The newest manifest, cut off: its own fault, and an end that a kept head lies beyond.
    let name = manifest.name().to_string();
    let object = read(&name).await;
    archive.replace(&name, object.slice(..object.len() - 1)).await.unwrap();
    let plan = planned(&archive, Target::Newest).await.unwrap();
    assert!(plan.faults.iter().any(|fault| fault.to_string().contains(&name)), "{:?}", plan.faults);
    archive.delete(&name).await.unwrap();
    let witness = Witness {
        index: newest.index,
        size: manifest.head.journal_size,
        root: manifest.head.journal_root,
        is_fresh: false,
    };
    let wanted = Wanted { target: Target::Newest, trusted: vec![], cluster_id: None, witness: Some(witness) };
    let plan = super::plan::plan(&archive, &wanted, &silent).await.unwrap();
    assert!(matches!(plan.faults[..], [Fault::Short { .. }, ..]), "{:?}", plan.faults);
    archive.replace(&name, object).await.unwrap();

    replayed(&archive, &sound, &into).await.unwrap();
    holds(&into, &sound, &newest, &newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_empty_or_holds_the_same_restore_and_one_process_works_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let archive = in_directory(directory.path());
    let (_backup, moments) = three_generations(&archive).await;
    let into = directory.path().join("into");
    assert!(usable(&into).is_ok(), "it is not there yet");
    let first = planned(&archive, Target::Index(moments[0].index)).await.unwrap();
    let working = replay(&archive, &first, &into, Vouched::Waived(String::new()), &silent)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(replayed(&archive, &first, &into).await, Err(ApplyError::Work(WorkError::InUse(_)))));
    drop(working);
    assert!(usable(&into).is_ok(), "unfinished");
    let other = planned(&archive, Target::Index(moments[1].index)).await.unwrap();
    match replayed(&archive, &other, &into).await {
        Err(ApplyError::Work(WorkError::Other { found, asked, .. })) => assert_ne!(found, asked),
        other => panic!("{other:?}"),
    }
    std::fs::write(into.join("identity"), "of a member").unwrap();
    assert!(matches!(usable(&into), Err(WorkError::Member(_))));
    let elsewhere = directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("holiday.jpg"), "x").unwrap();
    assert!(matches!(replayed(&archive, &first, &elsewhere).await, Err(ApplyError::Work(WorkError::NotEmpty(_)))));
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1, "nothing was written");
}

/// The archive of a cluster that goes on grows between a cut and the next run, which is the same command.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_restore_to_the_end_goes_on_to_where_the_end_is_by_then() {
    let inner = Arc::new(InMemory::new());
    let archive = ArchiveStore::over(inner.clone(), "whole");
    let (mut backup, moments) = three_generations(&archive).await;
    let directory = tempfile::tempdir().unwrap();
    let into = |calls: u64| directory.path().join(format!("after-{calls}"));
    let before = planned(&archive, Target::Newest).await.unwrap();
    let moment = planned(&archive, Target::Index(moments[0].index)).await.unwrap();
    // Cut at calls all along it; the last run came to its merge.
    let (mut ends, mut calls) = (Vec::new(), 0);
    loop {
        let dying = ArchiveStore::over(Arc::new(Dying { inner: inner.clone(), left: AtomicU64::new(calls) }), "dying");
        let ended = replayed(&dying, &before, &into(calls)).await.is_ok();
        if into(calls).exists() {
            ends.push(calls);
        }
        if ended {
            break;
        }
        calls += 5;
    }
    assert!(ends.len() > 2, "it was cut {} times only", ends.len());
    let to_the_moment = directory.path().join("moment");
    replayed(&archive, &moment, &to_the_moment).await.unwrap();

    // Further entries; then a further generation.
    for step in 0..2_u8 {
        if step == 1 {
            let mut writer = backup.writer_with(archive.clone(), generations(KeepRules::ALL));
            next_generation(&mut backup, &mut writer, &archive, 110).await;
        }
        backup.enrol(120 + 10 * step..124 + 10 * step).await;
        backup.writer(archive.clone()).step().await.unwrap();
        let (newest, plan) = (now(&backup), planned(&archive, Target::Newest).await.unwrap());
        assert_eq!(plan.target.index, newest.index);
        for calls in &ends {
            replayed(&archive, &plan, &into(*calls)).await.unwrap_or_else(|error| panic!("after {calls}: {error}"));
            holds(&into(*calls), &plan, &newest, &newest);
        }
        // What restricts is newest, also of a restore to a moment; its records are not.
        let plan = planned(&archive, Target::Index(moments[0].index)).await.unwrap();
        replayed(&archive, &plan, &to_the_moment).await.unwrap();
        holds(&to_the_moment, &plan, &moments[0], &newest);
    }
    // Another restore is refused as before.
    let end = planned(&archive, Target::Newest).await.unwrap();
    let refused = replayed(&archive, &end, &to_the_moment).await;
    assert!(matches!(refused, Err(ApplyError::Work(WorkError::Other { .. }))), "{refused:?}");
}

/// Between planning and the end of the replays the backup writes on: a new participant's key makes another key ledger,
/// and the planned one is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_follows_an_archive_that_is_still_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let archive = in_directory(directory.path());
    let (mut backup, moments) = three_generations(&archive).await;
    for (name, target) in [("end", Target::Newest), ("moment", Target::Index(moments[1].index))] {
        let wanted = Wanted { target, trusted: vec![], cluster_id: Some(CLUSTER), witness: None };
        let before = plan(&archive, &wanted, &silent).await.unwrap();
        backup.enrol([if name == "end" { 200 } else { 210 }]).await;
        backup.writer(archive.clone()).step().await.unwrap();
        let newest = now(&backup);
        let into = directory.path().join(name);
        let refused = replayed(&archive, &before, &into).await.unwrap_err().to_string();
        assert!(refused.contains("keys/"), "{refused}");
        let vouched = Vouched::Waived("a test".into());
        follow(&archive, (before, &wanted), None, &into, &vouched, &silent).await.map(drop).unwrap();
        let after = plan(&archive, &wanted, &silent).await.unwrap();
        let then = if after.is_newest() { newest } else { moments[1] };
        holds(&into, &after, &then, &newest);
    }
    // What is missing for good stays a fault, and is not looked for for ever.
    let wanted = Wanted { target: Target::Newest, trusted: vec![], cluster_id: Some(CLUSTER), witness: None };
    let sound = plan(&archive, &wanted, &silent).await.unwrap();
    let (sequence, _) = *sound.new.manifests.last().unwrap();
    let last = catalog::manifest(&archive, sound.new.generation, sequence).await.unwrap().signed.manifest;
    let ledger = ObjectName::Keys(last.ledger.sha256).to_string();
    archive.delete(&ledger).await.unwrap();
    let into = directory.path().join("damaged");
    let vouched = Vouched::Waived("a test".into());
    let refused = follow(&archive, (sound, &wanted), None, &into, &vouched, &silent).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains(&ledger), "{refused}");
}

/// The ledger that the newest manifest named is gone a moment later; that is no fault of the archive.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_looks_again_where_the_archive_grew_meanwhile() {
    let before = Arc::new(InMemory::new());
    let (mut backup, _moments) = three_generations(&ArchiveStore::over(before.clone(), "before")).await;
    let after = Arc::new(InMemory::new());
    for object in before.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = before.get(&object.location).await.unwrap().bytes().await.unwrap();
        after.put(&object.location, bytes.into()).await.unwrap();
    }
    backup.enrol([220]).await;
    backup.writer(ArchiveStore::over(after.clone(), "after")).step().await.unwrap();
    let end = now(&backup).index;
    let mut seen = BTreeSet::new();
    for left in 0.. {
        let growing = Growing { before: before.clone(), after: after.clone(), left: AtomicU64::new(left) };
        let growing = Arc::new(growing);
        let plan = planned(&ArchiveStore::over(growing.clone(), "growing"), Target::Newest).await.unwrap();
        assert!(plan.faults.is_empty(), "after {left} calls: {:?}", plan.faults);
        seen.insert(plan.newest.index);
        if growing.left.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert_eq!((seen.len(), seen.last()), (2, Some(&end)), "before and after");
}
