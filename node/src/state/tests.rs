//! The state machine with entries and without openraft: heads, snapshots made at them, and whose state it
//! takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use kura_cluster::head::Head;
use kura_cluster::row::{ClusterRow, RowKey, TimelineCertificate};
use kura_cluster::seal::Key;
use kura_cluster::timeline::{TimelineError, Trust, recovery_public_key, sign_timeline};
use kura_cluster::{ClusterId, Command, ContentId, Pseudonym};
use openraft::entry::RaftEntry;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use prost::Message;
use tokio::sync::watch;

use super::database::{Progress, cleared_by_a_thirty_second};
use super::machine::RaftSnapshot;
use super::{Database, DatabaseError, StateMachine, current_database};
use crate::raft::types::{CommandBytes, Entry, EntryPayload, LogId, log_id};
use crate::snapshot::{Snapshot, SnapshotManifest};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn key(n: u8) -> Key {
    Key::from_bytes(&mut [n; 32])
}

fn trust(recovery: u8) -> Trust {
    Trust { cluster_id: CLUSTER, recovery_public_key: recovery_public_key(&key(recovery)) }
}

/// The command that makes a cluster whose recovery key is `n`.
fn init(n: u8) -> Bytes {
    let mut first = TimelineCertificate::default();
    sign_timeline(&key(n), &CLUSTER, &mut first);
    let row = ClusterRow {
        format: kura_cluster::row::ROWS_FORMAT,
        cluster_id: Bytes::copy_from_slice(&CLUSTER.0),
        recovery_public_key: Bytes::copy_from_slice(&recovery_public_key(&key(n))),
        timelines: vec![first],
        ..ClusterRow::default()
    };
    let mut command = Command::new(1);
    command.put(&RowKey::cluster(), row.encode_to_vec());
    command.encode_to_vec().into()
}

fn write(n: u64) -> Bytes {
    let mut command = Command::new(n);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    command.put(&RowKey::hashed(kura_cluster::row::Table::Facility, &id), vec![0; 40]);
    command.encode_to_vec().into()
}

/// A new leader's entry, the cluster's first command, then writes, with a canary at 700.
fn log(last: u64) -> Vec<Entry> {
    let canary: Bytes = Command::new(700).encode_to_vec().into();
    let payload = |index| match index {
        1 => EntryPayload::Blank,
        2 => EntryPayload::Normal(CommandBytes(init(6))),
        700 => EntryPayload::Normal(CommandBytes(canary.clone())),
        index => EntryPayload::Normal(CommandBytes(write(index))),
    };
    (1..=last).map(|index| Entry::new(log_id(1, index), payload(index))).collect()
}

struct Member {
    machine: StateMachine,
    synced: watch::Sender<Option<LogId>>,
}

fn open(data: &Path, trust: Trust) -> Result<Member, DatabaseError> {
    let (synced, receiver) = watch::channel(Some(log_id(9, u64::MAX)));
    Ok(Member { machine: StateMachine::open(data, trust, receiver)?, synced })
}

impl Member {
    async fn apply(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        let entries: Vec<_> = entries.iter().map(|entry| Ok((entry.clone(), None))).collect();
        self.machine.apply(stream::iter(entries)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_makes_the_same_heads_however_its_log_is_cut() {
    let log = log(2100);
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut heads: Vec<Vec<Head>> = Vec::new();
    for (directory, cut) in directories.iter().zip([log.len(), 7]) {
        let mut member = open(directory.path(), trust(6)).unwrap();
        for entries in log.chunks(cut) {
            member.apply(entries).await.unwrap();
        }
        let store = member.machine.store();
        let noted = store.take_heads();
        assert_eq!(noted.iter().map(|head| head.index).collect::<Vec<_>>(), [1, 700, 1024, 2048]);
        assert_eq!(store.take_heads(), vec![]);
        heads.push(noted);
    }
    assert_eq!(heads[0], heads[1]);
    // Entry 2 wrote the cluster's row, all others up to 699 one row each.
    let rows: Vec<u64> = heads[0][1].tables.iter().map(|table| table.rows).collect();
    assert_eq!(rows, [1, 697]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_applied_that_the_local_log_has_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let mut member = open(directory.path(), trust(6)).unwrap();
    let (store, synced) = (member.machine.store(), member.synced.clone());
    let log = log(4);
    synced.send_replace(Some(log_id(1, 2)));
    member.apply(&log[..2]).await.unwrap();

    let mut applying = std::pin::pin!(member.apply(&log[2..]));
    assert!(applying.as_mut().now_or_never().is_none());
    // Entries of an earlier leader do not stand for it, however many there are.
    synced.send_replace(Some(log_id(0, 99)));
    assert!(applying.as_mut().now_or_never().is_none());
    assert_eq!(store.published().index(), 2);
    synced.send_replace(Some(log_id(1, 4)));
    applying.await.unwrap();
    assert_eq!(store.published().index(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_wanted_is_made_where_every_member_has_a_head() {
    let directory = tempfile::tempdir().unwrap();
    let mut member = open(directory.path(), trust(6)).unwrap();
    let log = log(1100);
    member.apply(&log[..500]).await.unwrap();
    let store = member.machine.store();
    assert_eq!(store.snapshot_at_head(), Some(1), "the first one after a start");
    let asked = tokio::spawn({
        let store = store.clone();
        async move { store.make_snapshot_at_head(Instant::now() + Duration::from_secs(30)).await }
    });
    while !store.snapshot_is_wanted() {
        tokio::task::yield_now().await;
    }
    member.apply(&log[500..690]).await.unwrap();
    assert_eq!(store.snapshot_at_head(), Some(1), "there was no head");
    member.apply(&log[690..]).await.unwrap();
    // Commands of one length each, all but the first few: 700 of 1100.
    let (made, all) = (asked.await.unwrap().expect("it was made in time"), store.published().bytes);
    assert!((all * 6 / 11..all * 8 / 11).contains(&made), "{made} of {all}");
    assert_eq!(store.snapshot_at_head(), Some(700));
    let index = |snapshot: &RaftSnapshot| snapshot.meta.last_log_id.unwrap().index;
    let current = member.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(index(&current), 700);
    let head = store.take_heads().into_iter().find(|head| head.index == 700).unwrap();
    assert_eq!(current.snapshot.manifest.state_digest, head.state_digest);
    // openraft is told of that one; the next time it gets one of the moment.
    for expected in [700, 1100] {
        let built = member.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        assert_eq!(index(&built), expected);
    }
}

/// RocksDB keeps every blob file without an end: it may be one that is being written.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_file_that_a_killed_node_left_unfinished_goes_with_the_first_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let mut member = open(data.path(), trust(6)).unwrap();
    let block = RowKey::block(&Pseudonym([1; 16]), &ContentId([2; 16]), 0, 0);
    let mut command = Command::new(9);
    command.put(&block, vec![7; 3000]);
    let mut log = log(10);
    log[8].payload = EntryPayload::Normal(CommandBytes(command.encode_to_vec().into()));
    member.apply(&log).await.unwrap();
    member.machine.store().database().flush().unwrap();
    drop(member);
    let database = data.path().join("state/database-0");
    let blobs = || {
        let files = std::fs::read_dir(&database).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "blob")).count()
    };
    assert_eq!(blobs(), 1);
    let leftover = database.join("000001.blob");
    for _ in 0..2 {
        std::fs::write(&leftover, [0; 100]).unwrap();
        let mut member = open(data.path(), trust(6)).unwrap();
        assert!(leftover.exists());
        member.machine.get_current_snapshot().await.unwrap().unwrap();
        assert!(!leftover.exists());
        assert_eq!(blobs(), 1, "the one with the block stays");
        let row = member.machine.store().database().row(&block).unwrap().unwrap();
        assert_eq!(row.value, vec![7; 3000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_a_merge_clears_is_set_anew_with_each_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let mut member = open(data.path(), trust(6)).unwrap();
    let database = member.machine.store().database();
    // As if there had been much more.
    database.bound_clearing_by(|_| 5_000_000_000).unwrap();
    assert!(cleared_by_a_thirty_second(database.directory()) > 0);
    // The first head makes a snapshot.
    member.apply(&log(3)).await.unwrap();
    assert_eq!(cleared_by_a_thirty_second(database.directory()), 0);
}

/// A cached key that is a slice of its command would keep the whole of it: many rows, all recent commands.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_not_kept_in_memory() {
    let data = tempfile::tempdir().unwrap();
    let mut member = open(data.path(), trust(6)).unwrap();
    let mut entries = log(10);
    member.apply(&entries).await.unwrap();
    let EntryPayload::Normal(CommandBytes(command)) = entries.remove(5).payload else { panic!("a command") };
    drop(entries);
    assert!(command.is_unique(), "something of the command is kept");
}

fn untrusted(error: &std::io::Error, expected: TimelineError) {
    assert!(error.to_string().contains(&expected.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_row_by_another_recovery_key_is_neither_applied_nor_opened() {
    let directory = tempfile::tempdir().unwrap();
    let mut member = open(directory.path(), trust(9)).unwrap();
    let error = member.apply(&log(5)).await.unwrap_err();
    untrusted(&error, TimelineError::OtherKey);
    // The first entry makes a head, and with it the first snapshot: a run of its own.
    assert_eq!(member.machine.store().published().index(), 1);
    assert_eq!(member.machine.store().database().cluster_row().unwrap(), None, "it was applied");
    drop(member);
    let mut member = open(directory.path(), trust(6)).unwrap();
    member.apply(&log(5)[1..]).await.unwrap();
    member.machine.store().database().flush().unwrap();
    drop(member);
    assert!(open(directory.path(), trust(6)).is_ok());
    let refused = open(directory.path(), trust(9)).err().unwrap();
    assert!(matches!(refused, DatabaseError::Untrusted { source: TimelineError::OtherKey, .. }), "{refused}");
    let elsewhere = Trust { cluster_id: ClusterId([8; 16]), ..trust(6) };
    let refused = open(directory.path(), elsewhere).err().unwrap();
    assert!(matches!(refused, DatabaseError::Untrusted { source: TimelineError::OtherCluster, .. }), "{refused}");
}

/// Raises a state's timeline, without a certificate.
fn raise(database: &Database) {
    let (applied, _, mut summary) = database.progress().unwrap();
    summary.timeline = 1;
    let nothing = std::collections::HashMap::new();
    database.write(nothing.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
    database.flush().unwrap();
}

/// A snapshot of a state, as it is received into a directory.
fn sent(database: &Database, into: &Path) -> Snapshot {
    let (applied, membership, summary) = database.progress().unwrap();
    let directory = into.join("sent");
    database.checkpoint(&directory).unwrap();
    let digest = kura_cluster::apply::state_digest(&summary);
    let timeline = summary.timeline;
    let manifest = SnapshotManifest::for_directory(&directory, CLUSTER, timeline, applied, &membership, digest);
    Snapshot { manifest: manifest.unwrap(), directory }
}

/// Whoever were handed the older one would lack the log after it, and be handed it again, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn once_a_snapshot_is_installed_no_older_one_is_handed_out() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sender = open(one.path(), trust(6)).unwrap();
    sender.apply(&log(700)).await.unwrap();
    let snapshot = sent(&sender.machine.store().database(), two.path());
    let mut receiver = open(two.path(), trust(6)).unwrap();
    receiver.apply(&log(3)).await.unwrap();
    let index = |current: Option<RaftSnapshot>| current.unwrap().meta.last_log_id.unwrap().index;
    assert_eq!(index(receiver.machine.get_current_snapshot().await.unwrap()), 1);
    // A file in the folder's place: no checkpoint can be made.
    let (snapshots, aside) = (two.path().join("snapshots"), two.path().join("aside"));
    fs::rename(&snapshots, &aside).unwrap();
    fs::write(&snapshots, "").unwrap();
    receiver.machine.install_snapshot(&snapshot.manifest.meta(), snapshot).await.unwrap();
    assert_eq!(receiver.machine.store().published().index(), 700);
    fs::remove_file(&snapshots).unwrap();
    fs::rename(&aside, &snapshots).unwrap();
    assert_eq!(index(receiver.machine.get_current_snapshot().await.unwrap()), 700);
}

/// RocksDB makes a new database where its pointer is lost, and removes what that one does not name at the next open.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_its_pointer_is_refused_however_often_and_keeps_its_files() {
    let data = tempfile::tempdir().unwrap();
    let mut member = open(data.path(), trust(6)).unwrap();
    member.apply(&log(5)).await.unwrap();
    member.machine.store().database().flush().unwrap();
    drop(member);
    let directory = current_database(data.path()).unwrap();
    fs::remove_file(directory.join("CURRENT")).unwrap();
    let files = || -> BTreeSet<_> { fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect() };
    let before = files();
    assert!(before.iter().any(|name| name.to_str().unwrap().ends_with(".sst")), "{before:?}");
    for _ in 0..2 {
        for refused in [open(data.path(), trust(6)).err(), current_database(data.path()).err()] {
            assert!(matches!(refused, Some(DatabaseError::Form { what: "CURRENT", .. })), "{refused:?}");
        }
        assert_eq!(files(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_timeline_without_its_certificate_is_neither_opened_nor_installed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sender = open(one.path(), trust(6)).unwrap();
    sender.apply(&log(700)).await.unwrap();
    let database = sender.machine.store().database();
    raise(&database);
    let snapshot = sent(&database, two.path());

    let mut receiver = open(two.path(), trust(6)).unwrap();
    receiver.apply(&log(3)).await.unwrap();
    let before = fs::read_to_string(two.path().join("state/CURRENT")).unwrap();
    let meta = snapshot.manifest.meta();
    let error = receiver.machine.install_snapshot(&meta, snapshot).await.unwrap_err();
    untrusted(&error, TimelineError::Uncertified { timeline: 1 });
    assert_eq!(fs::read_to_string(two.path().join("state/CURRENT")).unwrap(), before);
    assert_eq!(receiver.machine.store().published().index(), 3);

    drop((database, sender));
    let refused = open(one.path(), trust(6)).err().unwrap();
    let expected = TimelineError::Uncertified { timeline: 1 };
    assert!(matches!(refused, DatabaseError::Untrusted { source, .. } if source == expected), "{refused}");
}
