//! The writer and the checks, on a state machine without a network: entries are applied, the log is a list.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::keys::bucket_of;
use kura_cluster::archive::{Fault, Manifest, ObjectName, SignedManifest};
use kura_cluster::command::JournalAppend;
use kura_cluster::row::{ClusterRow, RowKey, Table, TimelineCertificate};
use kura_cluster::seal::Key;
use kura_cluster::timeline::{Trust, recovery_public_key, sign_timeline};
use kura_cluster::{ClusterId, Command, Pseudonym};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use prost::Message;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;

use super::expire::HOLDS;
use super::export::{export, note};
use super::replay::Event;
use super::verify::{Level, Report, Request, verify};
use super::writer::{ReadLog, Settings, SignManifests, Source, WriteError, Writer};
use super::{ArchiveStore, ArchiveTold, catalog};
use crate::certificates::HeadSigner;
use crate::raft::types::{CommandBytes, Entry, EntryPayload, LogId, Membership, log_id};
use crate::snapshot::FileHashes;
use crate::state::StateMachine;

const CLUSTER: ClusterId = ClusterId([7; 16]);

type Log = Arc<Mutex<Vec<Entry>>>;

/// A backup: a state that follows a log.
struct Backup {
    directory: TempDir,
    machine: StateMachine,
    log: Log,
    signer: Arc<HeadSigner>,
    _synced: watch::Sender<Option<LogId>>,
}

fn signer() -> Arc<HeadSigner> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    Arc::new(HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap())
}

fn init() -> Bytes {
    let recovery = Key::from_bytes(&mut [6; 32]);
    let mut first = TimelineCertificate::default();
    sign_timeline(&recovery, &CLUSTER, &mut first);
    let row = ClusterRow {
        cluster_id: Bytes::copy_from_slice(&CLUSTER.0),
        recovery_public_key: Bytes::copy_from_slice(&recovery_public_key(&recovery)),
        timelines: vec![first],
        ..ClusterRow::default()
    };
    let mut command = Command::new(1);
    command.put(&RowKey::cluster(), row.encode_to_vec());
    command.put(&RowKey::keyring(1), secret(0));
    command.encode_to_vec().into()
}

/// A wrapped key that is found again by its bytes.
fn secret(n: u8) -> Vec<u8> {
    (0..3_u8).flat_map(|part| Sha256::digest([n, part])).take(81).collect()
}

fn key_row(n: u8) -> RowKey {
    RowKey::participant_key(&Pseudonym([n; 16]), 1)
}

impl Backup {
    async fn start() -> Backup {
        let directory = tempfile::tempdir().unwrap();
        let (synced, receiver) = watch::channel(Some(log_id(9, u64::MAX)));
        let trust =
            Trust { cluster_id: CLUSTER, recovery_public_key: recovery_public_key(&Key::from_bytes(&mut [6; 32])) };
        let machine = StateMachine::open(&directory.path().join("data"), trust, receiver).unwrap();
        let mut backup = Backup { directory, machine, log: Log::default(), signer: signer(), _synced: synced };
        let members = BTreeMap::from([(1, Default::default())]);
        let membership = Membership::new(vec![[1].into()], members).unwrap();
        backup.apply([EntryPayload::Membership(membership), EntryPayload::Blank]).await;
        backup.commands([init()]).await;
        backup
    }

    async fn apply(&mut self, payloads: impl IntoIterator<Item = EntryPayload>) {
        let first = self.log.lock().unwrap().len() as u64;
        let entries: Vec<Entry> =
            (first..).zip(payloads).map(|(index, payload)| Entry::new(log_id(1, index), payload)).collect();
        self.log.lock().unwrap().extend(entries.iter().cloned());
        let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }

    async fn commands(&mut self, commands: impl IntoIterator<Item = Bytes>) {
        self.apply(commands.into_iter().map(|command| EntryPayload::Normal(CommandBytes(command)))).await;
    }

    /// Enrols participants: a key, a row, a block, a journal entry each.
    async fn enrol(&mut self, numbers: impl IntoIterator<Item = u8>) {
        let command = |n: u8| {
            let mut command = Command::new(1_000 + u64::from(n));
            command.put(&key_row(n), secret(n));
            command.put(&RowKey::participant(&Pseudonym([n; 16])), vec![n; 50]);
            let content = kura_cluster::ContentId([n; 16]);
            command.put(&RowKey::block(&Pseudonym([n; 16]), &content, 0, 0), vec![n; 700]);
            command.journal.push(JournalAppend { entry: vec![n; 60].into(), index: vec![vec![n; 32].into()] });
            command.encode_to_vec().into()
        };
        self.commands(numbers.into_iter().map(command).collect::<Vec<Bytes>>()).await;
    }

    async fn erase(&mut self, n: u8) {
        let mut command = Command::new(2_000);
        command.delete(&key_row(n));
        self.commands([command.encode_to_vec().into()]).await;
    }

    fn index(&self) -> u64 {
        self.machine.store().published().index()
    }

    fn writer(&self, archive: ArchiveStore) -> Writer {
        self.writer_with(archive, settings())
    }

    fn writer_with(&self, archive: ArchiveStore, settings: Settings) -> Writer {
        let source = Source {
            cluster_id: CLUSTER,
            name: "backup-1".into(),
            store: self.machine.store(),
            log: Box::new(List(self.log.clone())),
            signer: Box::new(Signer(self.signer.clone())),
            hashes: Arc::new(FileHashes::default()),
            work: self.directory.path().join("work"),
            now_ms: crate::clock::now_ms,
        };
        Writer::new(source, archive, settings, Arc::new(ArchiveTold::default()))
    }
}

struct List(Log);

impl ReadLog for List {
    fn read(&self, from: u64, to: u64) -> BoxFuture<'_, std::io::Result<Vec<Entry>>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Some at a time.
        let found = log.iter().filter(|entry| (from..=to).contains(&entry.log_id.index)).take(3).cloned().collect();
        async move { Ok(found) }.boxed()
    }
}

struct Signer(Arc<HeadSigner>);

impl SignManifests for Signer {
    fn sign(&self, manifest: Manifest) -> Option<SignedManifest> {
        self.0.sign_manifest(manifest)
    }
}

/// Everything at once: each step writes what is there.
fn settings() -> Settings {
    Settings {
        segment_bytes: 2_000,
        segment_time: Duration::ZERO,
        base_every: Duration::from_secs(3600),
        base_every_bytes: u64::MAX,
        keep: KeepRules::ALL,
    }
}

/// Each step that finds anything begins a generation, once its files are sent ahead.
fn generations(keep: KeepRules) -> Settings {
    Settings { base_every: Duration::ZERO, keep, ..settings() }
}

fn in_directory(directory: &Path) -> ArchiveStore {
    ArchiveStore::open_or_make(directory.join("archive").to_str().unwrap()).unwrap()
}

async fn report(archive: &ArchiveStore, level: Level, generation: Option<u64>) -> Report {
    let scratch = tempfile::tempdir().unwrap();
    let request = Request {
        level,
        generation,
        trusted: vec![],
        witness: None,
        root_key: None,
        sample: 100,
        scratch: scratch.path(),
    };
    let silent = |_: Event| {};
    verify(archive, &request, &silent).await.unwrap()
}

async fn sound(archive: &ArchiveStore) -> Report {
    let found = report(archive, Level::Replay, None).await;
    assert_eq!(found.faults, []);
    found
}

/// Writes until there is a further generation: its files are sent ahead while segments go on.
async fn next_generation(backup: &mut Backup, writer: &mut Writer, archive: &ArchiveStore, n: u8) {
    let before = catalog::newest(archive).await.unwrap().unwrap().signed.manifest.generation;
    for _ in 0..500 {
        backup.enrol([n]).await;
        writer.step().await.unwrap();
        if catalog::newest(archive).await.unwrap().unwrap().signed.manifest.generation > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no further generation began");
}

/// Every object's bytes, by name.
async fn objects(archive: &ArchiveStore) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for folder in ObjectName::FOLDERS {
        let listed: Vec<_> = archive.list(folder).try_collect().await.unwrap();
        for (name, bytes) in listed {
            objects.insert(name.clone(), archive.get(&name, bytes).await.unwrap());
        }
    }
    objects
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

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

/// An archive of two generations with several segments, and what is in it.
async fn made(directory: &Path) -> (Backup, ArchiveStore) {
    let mut backup = Backup::start().await;
    let archive = in_directory(directory);
    backup.enrol(1..4).await;
    let mut writer = backup.writer_with(archive.clone(), generations(KeepRules::ALL));
    writer.step().await.unwrap();
    next_generation(&mut backup, &mut writer, &archive, 10).await;
    let mut writer = backup.writer(archive.clone());
    for n in 2..5 {
        backup.enrol(n * 10..n * 10 + 4).await;
        writer.step().await.unwrap();
    }
    (backup, archive)
}

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
    let witness = |size, root| super::verify::Witness { index: published.index(), size, root };
    let check = async |witness, level| {
        let scratch = tempfile::tempdir().unwrap();
        let request = Request {
            level,
            generation: None,
            trusted: vec![],
            witness: Some(witness),
            root_key: None,
            sample: 1,
            scratch: scratch.path(),
        };
        let silent = |_: Event| {};
        verify(&archive, &request, &silent).await.unwrap().faults
    };
    let good = witness(journal.size(), journal.root());
    assert_eq!(check(good, Level::Replay).await, []);
    let other = witness(journal.size() - 1, [3; 32]);
    assert_eq!(check(other, Level::Replay).await, [Fault::Journal { size: journal.size() - 1 }]);
    let newest = catalog::newest(&archive).await.unwrap().unwrap().signed.manifest;
    archive.delete(&newest.name().to_string()).await.unwrap();
    let found = check(good, Level::Files).await;
    assert!(matches!(found[..], [Fault::Short { .. }, ..]), "{found:?}");
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
            root_key: None,
            sample: 1,
            scratch: scratch.path(),
        };
        let silent = |_: Event| {};
        verify(&archive, &request, &silent).await.unwrap().faults
    };
    assert_eq!(check(backup.signer.key_sha256()).await, []);
    assert!(check([1; 32]).await.iter().all(|fault| matches!(fault, Fault::OtherKey { .. })));
}

/// Storage that works for some calls, and then no more: as if the process were killed.
#[derive(Debug)]
struct Dying {
    inner: Arc<InMemory>,
    left: AtomicU64,
}

impl std::fmt::Display for Dying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dying")
    }
}

impl Dying {
    fn call(&self) -> object_store::Result<()> {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        match spent {
            true => Err(object_store::Error::Generic { store: "dying", source: "it is dead".into() }),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl ObjectStore for Dying {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, how: PutOptions) -> object_store::Result<PutResult> {
        self.call()?;
        self.inner.put_opts(at, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &ObjectPath,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &ObjectPath, how: GetOptions) -> object_store::Result<GetResult> {
        self.call()?;
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        places: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        match self.call() {
            Ok(()) => self.inner.delete_stream(places),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, folder: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner.list(folder),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, folder: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.call()?;
        self.inner.list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, how: CopyOptions) -> object_store::Result<()> {
        self.call()?;
        self.inner.copy_opts(from, to, how).await
    }
}

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
    let mut writer = backup.writer_with(archive.clone(), Settings { base_every_bytes: SIZE, ..settings() });
    // Far less than the size, if nothing of before counted.
    for n in 40..44_u8 {
        backup.enrol([n]).await;
        writer.step().await.unwrap();
        // The base's files are sent ahead by a task.
        tokio::time::sleep(Duration::from_millis(200)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_are_noticed_and_another_clusters_archive_is_refused() {
    let mut one = Backup::start().await;
    let mut two = Backup::start().await;
    let archive = in_directory(one.directory.path());
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
    let later = export(&archive, &copy, 1, (1_002, 2_002), &silent).await.unwrap();
    assert!(later.objects > 0 && later.objects < first.objects, "{later:?}");
    assert!(later.deleted > 0, "the former ledger's keys");
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

#[test]
fn key_tables_are_those_of_the_ledger() {
    for table in Table::ALL {
        let key = [&[table.number()][..], &[0; 20]].concat();
        assert_eq!(bucket_of(&key).is_some(), table.holds_keys(), "{}", table.word());
    }
}
