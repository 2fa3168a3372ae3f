//! openraft's state machine over the state database.
//!
//! Directories under the node's `state`:
//! - `CURRENT` names the database directory in use (`database-<n>`)
//! - an installed snapshot becomes `database-<n+1>`, then `CURRENT` is swapped, then the old one goes

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{FutureExt, Stream, StreamExt};
use kura_cluster::ClusterId;
use kura_cluster::apply::Batch;
use kura_cluster::row::{ClusterRow, RowKey};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use prost::Message;
use tokio::sync::watch;

use super::database::{Database, DatabaseError, Progress};
use super::store::{Published, StateStore};
use crate::raft::types::{Applied, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::snapshot::{Snapshot, SnapshotManifest};

/// Entries applied in one atomic write, at most.
const APPLY_ENTRIES_MAX: usize = 1024;
/// Bytes of commands applied in one atomic write, about.
const APPLY_BYTES_MAX: usize = 8 << 20;

/// Entries that are applied without handing the thread's other work over first: about a millisecond.
const INLINE_ENTRIES_MAX: usize = 32;
/// Their bytes.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// A Raft snapshot as openraft hands it around.
pub type RaftSnapshot = openraft::storage::Snapshot<
    crate::raft::types::CommittedLeaderId,
    crate::raft::types::NodeId,
    crate::raft::types::Member,
    Snapshot,
>;

/// The state machine of one node.
pub struct StateMachine {
    store: StateStore,
    state_directory: PathBuf,
    snapshots_directory: PathBuf,
    /// Number of the database directory in use.
    number: u64,
    /// What the local log has synced: nothing beyond it is applied.
    synced: watch::Receiver<Option<LogId>>,
    current: Option<(SnapshotMeta, Snapshot)>,
}

impl StateMachine {
    /// Opens (or makes) the state under a data directory.
    pub fn open(data: &Path, synced: watch::Receiver<Option<LogId>>) -> Result<StateMachine, DatabaseError> {
        let state_directory = data.join("state");
        let snapshots_directory = data.join("snapshots");
        make_directory(&state_directory)?;
        make_directory(&snapshots_directory)?;
        let number = read_current(&state_directory)?;
        let database = Database::open(&database_directory(&state_directory, number))?;
        write_current(&state_directory, number)?;
        remove_others(&state_directory, number);
        remove_built_snapshots(&snapshots_directory);
        let (applied, membership, summary) = database.progress()?;
        let published = Published { applied, membership, summary: Arc::new(summary), bytes: 0 };
        let store = StateStore::new(database, published);
        Ok(StateMachine { store, state_directory, snapshots_directory, number, synced, current: None })
    }

    /// The handle for the rest of the node.
    pub fn store(&self) -> StateStore {
        self.store.clone()
    }

    /// Waits until the local log has synced everything up to an entry. Ids are compared whole: an entry
    /// of an older term at the same index is not this one.
    async fn wait_synced(&mut self, last: LogId) -> io::Result<()> {
        let synced = self.synced.wait_for(|id| *id >= Some(last)).await;
        synced.map(|_| ()).map_err(|_| io::Error::other("the log writer has stopped"))
    }

    /// Applies a run of entries in one atomic write and answers those who wait.
    fn apply_run(&mut self, run: Vec<EntryResponder<TypeConfig>>) -> Result<(), DatabaseError> {
        let database = self.store.database();
        let before = self.store.published();
        let mut batch = Batch::new(&*database, (*before.summary).clone());
        let (mut applied, mut membership) = (before.applied, before.membership.clone());
        let mut answers = Vec::with_capacity(run.len());
        let mut bytes = before.bytes;
        for (entry, responder) in run {
            let id = entry.log_id();
            bytes += payload_bytes(&entry.payload) as u64;
            let outcome = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => Some(batch.apply(id.index, &command.0)?),
                EntryPayload::Membership(new) => {
                    membership = StoredMembership::new(Some(id), new.clone());
                    None
                }
            };
            applied = Some(id);
            if let Some(responder) = responder {
                answers.push((responder, Applied(outcome)));
            }
        }
        let (summary, rows) = batch.finish();
        let changed = Some(&membership).filter(|new| **new != before.membership);
        database.write(rows.iter(), &Progress { applied, membership: changed, summary: &summary })?;
        self.store.publish(Published { applied, membership, summary: Arc::new(summary), bytes });
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    /// Makes a checkpoint of exactly what is applied now and describes it.
    fn build(&mut self) -> Result<(SnapshotMeta, Snapshot), DatabaseError> {
        let published = self.store.published();
        let database = self.store.database();
        let name = format!("{:020}-{:016x}", published.index(), random_number());
        let directory = self.snapshots_directory.join(name);
        database.checkpoint(&directory)?;
        let manifest = SnapshotManifest::for_directory(
            &directory,
            cluster_id(&database)?,
            published.summary.timeline,
            published.applied,
            &published.membership,
            published.digest(),
        )
        .map_err(|source| DatabaseError::File {
            path: directory.clone(),
            source: io::Error::other(source.to_string()),
        })?;
        let meta = SnapshotMeta { last_log_id: published.applied, last_membership: published.membership.clone() };
        let snapshot = Snapshot { manifest, directory: directory.clone() };
        self.current = Some((meta.clone(), snapshot.clone()));
        remove_snapshots_but(&self.snapshots_directory, &directory);
        Ok((meta, snapshot))
    }

    fn install(&mut self, meta: &SnapshotMeta, snapshot: &Snapshot) -> Result<(), DatabaseError> {
        let next = self.number + 1;
        let directory = database_directory(&self.state_directory, next);
        std::fs::rename(&snapshot.directory, &directory).map_err(file_error(&snapshot.directory))?;
        sync_directory(&self.state_directory)?;
        let database = Database::open(&directory)?;
        let (applied, membership, summary) = database.progress()?;
        let found = kura_cluster::apply::state_digest(&summary);
        if applied != meta.last_log_id || found != snapshot.manifest.state_digest {
            return Err(DatabaseError::Form { directory, what: "an installed snapshot's last applied id or digest" });
        }
        write_current(&self.state_directory, next)?;
        self.number = next;
        let old = self.store.replace(database);
        let bytes = self.store.published().bytes;
        self.store.publish(Published { applied, membership, summary: Arc::new(summary), bytes });
        drop(old);
        remove_others(&self.state_directory, next);
        self.build().map(|_| ())
    }
}

/// The cluster's id, from its open row; zeros before `init` has been applied.
pub fn cluster_id(database: &Database) -> Result<ClusterId, DatabaseError> {
    let row = database.row(&RowKey::cluster())?.and_then(|row| ClusterRow::decode(row.value).ok());
    Ok(row.and_then(|row| ClusterId::from_slice(&row.cluster_id).ok()).unwrap_or_default())
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = BuiltSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let published = self.store.published();
        Ok((published.applied, published.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(first) = entries.next().await {
            let mut run = vec![first?];
            let mut bytes = payload_bytes(&run[0].0.payload);
            while run.len() < APPLY_ENTRIES_MAX
                && bytes < APPLY_BYTES_MAX
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                let next = next?;
                bytes += payload_bytes(&next.0.payload);
                run.push(next);
            }
            if let Some((entry, _)) = run.last() {
                self.wait_synced(entry.log_id()).await?;
            }
            // Handing this thread's other work over costs more than applying a few small commands.
            match run.len() <= INLINE_ENTRIES_MAX && bytes <= INLINE_BYTES_MAX {
                true => self.apply_run(run)?,
                false => tokio::task::block_in_place(|| self.apply_run(run))?,
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> BuiltSnapshot {
        // The checkpoint is made here, synchronously with the applied index; the builder only hands it over.
        BuiltSnapshot(Some(tokio::task::block_in_place(|| self.build()).map_err(io::Error::from)))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot) -> Result<(), io::Error> {
        tokio::task::block_in_place(|| self.install(meta, &snapshot)).map_err(io::Error::from)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        // After a restart nothing is remembered, and nothing has to be: a checkpoint costs no time.
        if self.current.is_none() && self.store.published().applied.is_some() {
            tokio::task::block_in_place(|| self.build())?;
        }
        Ok(self.current.clone().map(|(meta, snapshot)| RaftSnapshot { meta, snapshot }))
    }
}

/// A snapshot that was already made.
pub struct BuiltSnapshot(Option<io::Result<(SnapshotMeta, Snapshot)>>);

impl RaftSnapshotBuilder<TypeConfig> for BuiltSnapshot {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let built = self.0.take().ok_or_else(|| io::Error::other("a snapshot builder builds once"))?;
        built.map(|(meta, snapshot)| RaftSnapshot { meta, snapshot })
    }
}

fn payload_bytes(payload: &EntryPayload) -> usize {
    match payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn random_number() -> u64 {
    rand::random()
}

fn database_directory(state: &Path, number: u64) -> PathBuf {
    state.join(format!("database-{number}"))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DatabaseError {
    let path = path.to_owned();
    move |source| DatabaseError::File { path, source }
}

fn make_directory(path: &Path) -> Result<(), DatabaseError> {
    std::fs::create_dir_all(path).map_err(file_error(path))
}

fn sync_directory(path: &Path) -> Result<(), DatabaseError> {
    std::fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(file_error(path))
}

/// Reads the number of the database in use; 0 if there is none yet.
fn read_current(state: &Path) -> Result<u64, DatabaseError> {
    let path = state.join("CURRENT");
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .strip_prefix("database-")
            .and_then(|number| number.parse().ok())
            .ok_or(DatabaseError::Form { directory: state.to_owned(), what: "CURRENT" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(file_error(&path)(error)),
    }
}

/// Swaps the pointer: written aside, synced, renamed, directory synced.
fn write_current(state: &Path, number: u64) -> Result<(), DatabaseError> {
    use std::io::Write;
    let aside = state.join("CURRENT.new");
    let write = || {
        let mut file = std::fs::File::create(&aside)?;
        writeln!(file, "database-{number}")?;
        file.sync_all()?;
        std::fs::rename(&aside, state.join("CURRENT"))
    };
    write().map_err(file_error(&aside))?;
    sync_directory(state)
}

/// Removes databases that `CURRENT` does not name. Left over they cost space only: next start tries again.
fn remove_others(state: &Path, number: u64) {
    let keep = database_directory(state, number);
    for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir()
            && path != keep
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "an old state database could not be removed");
        }
    }
}

fn remove_built_snapshots(snapshots: &Path) {
    remove_snapshots_but(snapshots, Path::new(""));
}

/// Removes built snapshots but one. Receptions in progress (`incoming`) are not touched.
fn remove_snapshots_but(snapshots: &Path, keep: &Path) {
    for entry in std::fs::read_dir(snapshots).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == keep || path.ends_with("incoming") {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "an old snapshot could not be removed");
        }
    }
}
