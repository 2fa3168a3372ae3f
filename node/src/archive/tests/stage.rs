//! A backup without a network, its archive, and what is asked of both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::{FutureExt, TryStreamExt};
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::{Manifest, ObjectName, Sha256Hash, SignedManifest};
use kura_cluster::command::JournalAppend;
use kura_cluster::row::{ClusterRow, RowKey, TimelineCertificate};
use kura_cluster::seal::Key;
use kura_cluster::timeline::{Trust, recovery_public_key, sign_timeline};
use kura_cluster::{ClusterId, Command, Pseudonym};
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use prost::Message;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::replay::Event;
use super::super::signers::Signers;
use super::super::verify::{Level, Report, Request, verify};
use super::super::writer::{ReadLog, Settings, SignManifests, Source, Writer};
use super::super::{ArchiveStore, ArchiveTold, catalog};
use crate::certificates::HeadSigner;
use crate::raft::types::{CommandBytes, Entry, EntryPayload, LogId, Membership, log_id};
use crate::snapshot::FileHashes;
use crate::state::StateMachine;

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);

pub(crate) type Log = Arc<Mutex<Vec<Entry>>>;

/// A backup: a state that follows a log.
pub(crate) struct Backup {
    pub(crate) directory: TempDir,
    pub(crate) machine: StateMachine,
    pub(crate) log: Log,
    pub(crate) signer: Arc<HeadSigner>,
    _synced: watch::Sender<Option<LogId>>,
}

pub(crate) fn signer() -> Arc<HeadSigner> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    Arc::new(HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap())
}

pub(crate) fn init() -> Bytes {
    let recovery = Key::from_bytes(&mut [6; 32]);
    let mut first = TimelineCertificate::default();
    sign_timeline(&recovery, &CLUSTER, &mut first);
    let row = ClusterRow {
        format: kura_cluster::row::ROWS_FORMAT,
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
pub(crate) fn secret(n: u8) -> Vec<u8> {
    (0..3_u8).flat_map(|part| Sha256::digest([n, part])).take(81).collect()
}

pub(crate) fn key_row(n: u8) -> RowKey {
    RowKey::participant_key(&Pseudonym([n; 16]), 1)
}

impl Backup {
    pub(crate) async fn start() -> Backup {
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

    pub(crate) async fn apply(&mut self, payloads: impl IntoIterator<Item = EntryPayload>) {
        let first = self.log.lock().unwrap().len() as u64;
        let entries: Vec<Entry> =
            (first..).zip(payloads).map(|(index, payload)| Entry::new(log_id(1, index), payload)).collect();
        self.log.lock().unwrap().extend(entries.iter().cloned());
        let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }

    pub(crate) async fn commands(&mut self, commands: impl IntoIterator<Item = Bytes>) {
        self.apply(commands.into_iter().map(|command| EntryPayload::Normal(CommandBytes(command)))).await;
    }

    /// Enrols participants: a key, a row, a block, a journal entry each.
    pub(crate) async fn enrol(&mut self, numbers: impl IntoIterator<Item = u8>) {
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

    pub(crate) async fn erase(&mut self, n: u8) {
        let mut command = Command::new(2_000);
        command.delete(&key_row(n));
        self.commands([command.encode_to_vec().into()]).await;
    }

    pub(crate) fn index(&self) -> u64 {
        self.machine.store().published().index()
    }

    /// Its own key is the only member's.
    pub(crate) fn signers(&self) -> Arc<Signers> {
        known_to(self.directory.path(), self.signer.key_sha256())
    }

    pub(crate) fn writer(&self, archive: ArchiveStore) -> Writer {
        self.writer_with(archive, settings())
    }

    pub(crate) fn writer_with(&self, archive: ArchiveStore, settings: Settings) -> Writer {
        let source = Source {
            cluster_id: CLUSTER,
            name: "backup-1".into(),
            store: self.machine.store(),
            log: Box::new(List(self.log.clone())),
            signer: Box::new(Signer(self.signer.clone())),
            signers: self.signers(),
            hashes: Arc::new(FileHashes::default()),
            work: self.directory.path().join("work"),
            now_ms: crate::clock::now_ms,
        };
        Writer::new(source, archive, settings, Arc::new(ArchiveTold::default()))
    }
}

/// Knows one key.
pub(crate) fn known_to(data: &Path, key: Sha256Hash) -> Arc<Signers> {
    Arc::new(Signers::read(data, [], Box::new(move || vec![key])).unwrap())
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
pub(crate) fn settings() -> Settings {
    Settings {
        segment_bytes: 2_000,
        segment_time: Duration::ZERO,
        base_every: Duration::from_secs(3600),
        base_every_bytes: u64::MAX,
        keep: KeepRules::ALL,
    }
}

/// Each step that finds anything begins a generation, once its files are sent ahead.
pub(crate) fn generations(keep: KeepRules) -> Settings {
    Settings { base_every: Duration::ZERO, keep, ..settings() }
}

pub(crate) fn in_directory(directory: &Path) -> ArchiveStore {
    ArchiveStore::open_or_make(directory.join("archive").to_str().unwrap()).unwrap()
}

pub(crate) async fn report(archive: &ArchiveStore, level: Level, generation: Option<u64>) -> Report {
    let scratch = tempfile::tempdir().unwrap();
    let request = Request { level, generation, trusted: vec![], witness: None, scratch: scratch.path() };
    let silent = |_: Event| {};
    verify(archive, &request, &silent).await.unwrap().0
}

pub(crate) async fn sound(archive: &ArchiveStore) -> Report {
    let found = report(archive, Level::Replay, None).await;
    assert_eq!(found.faults, []);
    found
}

/// Writes until there is a further generation: its files are sent ahead while segments go on.
pub(crate) async fn next_generation(backup: &mut Backup, writer: &mut Writer, archive: &ArchiveStore, n: u8) {
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
pub(crate) async fn objects(archive: &ArchiveStore) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for folder in ObjectName::FOLDERS {
        let listed: Vec<_> = archive.list(folder).try_collect().await.unwrap();
        for (name, bytes) in listed {
            objects.insert(name.clone(), archive.get(&name, bytes).await.unwrap());
        }
    }
    objects
}

pub(crate) fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// An archive of two generations with several segments, and what is in it.
pub(crate) async fn made(directory: &Path) -> (Backup, ArchiveStore) {
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
