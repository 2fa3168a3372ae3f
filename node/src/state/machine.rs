//! openraft's state machine over the state database.
//!
//! Directories under the node's `state`:
//! - `CURRENT` names the database directory in use (`database-<n>`)
//! - an installed snapshot becomes `database-<n+1>`, then `CURRENT` is swapped, then the old one goes

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use kura_cluster::apply::Batch;
use kura_cluster::head::{self, Head};
use kura_cluster::row::{ClusterRow, RowKey, StoredRow};
use kura_cluster::timeline::Trust;
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
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

/// Entries that are applied without handing the thread's other work over first: a few milliseconds, which a tenth of an
/// ingest's CPU was spent to save.
const INLINE_ENTRIES_MAX: usize = 128;
/// Their bytes.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// How often what found no space is tried again.
const SPACE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

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
    /// Whose state it may hold.
    trust: Trust,
    /// What the local log has synced: nothing beyond it is applied.
    synced: watch::Receiver<Option<LogId>>,
    current: Option<(SnapshotMeta, Snapshot)>,
    /// Blob files that were there before the database was opened, until the first snapshot tells which of them it has.
    blobs_before: Vec<PathBuf>,
    /// Whether `current` was made at a head and openraft has not been told of it yet.
    is_fresh: bool,
}

impl StateMachine {
    /// Opens (or makes) the state under a data directory. Refuses a state of another cluster than the
    /// trusted one, or of a timeline without a certificate.
    pub fn open(
        data: &Path,
        trust: Trust,
        synced: watch::Receiver<Option<LogId>>,
    ) -> Result<StateMachine, DatabaseError> {
        let state_directory = data.join("state");
        let snapshots_directory = data.join("snapshots");
        make_directory(&state_directory)?;
        make_directory(&snapshots_directory)?;
        let current = read_current(&state_directory)?;
        let number = current.unwrap_or(0);
        let directory = database_directory(&state_directory, number);
        // A pointer that is lost or damaged must not look like a new node: nothing is made in its place.
        let is_damaged = match current {
            Some(_) => !is_database(&directory),
            None => has_databases_but(&state_directory, &directory)?,
        };
        if is_damaged {
            return Err(DatabaseError::Form { directory: state_directory, what: "CURRENT" });
        }
        let blobs_before = blob_files(&directory);
        let database = Database::open(&directory)?;
        let (applied, membership, summary) = database.progress()?;
        database.check(&trust, summary.timeline)?;
        if current.is_none() && applied.is_some() {
            return Err(DatabaseError::Form { directory: state_directory, what: "CURRENT" });
        }
        write_current(&state_directory, number)?;
        remove_others(&state_directory, number);
        remove_built_snapshots(&snapshots_directory);
        let published = Published { applied, membership, summary: Arc::new(summary), bytes: 0 };
        let store = StateStore::new(database, published);
        Ok(StateMachine {
            store,
            state_directory,
            snapshots_directory,
            number,
            trust,
            synced,
            current: None,
            blobs_before,
            is_fresh: false,
        })
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

    /// The index of a run's last entry, if a snapshot is wanted there.
    fn wanted_snapshot(&self, run: &[EntryResponder<TypeConfig>]) -> Option<u64> {
        let (entry, _) = run.last()?;
        let is_due = self.store.snapshot_is_wanted() && makes_head(entry.log_id(), &entry.payload);
        is_due.then(|| entry.log_id().index)
    }

    /// Works out what a run of entries changes.
    fn prepare(&self, run: Vec<EntryResponder<TypeConfig>>) -> Result<Prepared, DatabaseError> {
        let database = self.store.database();
        let before = self.store.published();
        let mut batch = Batch::new(&*database, (*before.summary).clone());
        let (mut applied, mut membership) = (before.applied, before.membership.clone());
        let mut answers = Vec::with_capacity(run.len());
        let mut heads = Vec::new();
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
            if makes_head(id, &entry.payload) {
                heads.push(Head::of(self.trust.cluster_id, id.index, batch.summary()));
            }
            if let Some(responder) = responder {
                answers.push((responder, Applied(outcome)));
            }
        }
        let (summary, rows) = batch.finish();
        if let Some(Some(row)) = rows.get(RowKey::cluster().as_bytes()) {
            self.check_cluster_row(row, summary.timeline)?;
        }
        let is_new_membership = membership != before.membership;
        let published = Published { applied, membership, summary: Arc::new(summary), bytes };
        Ok(Prepared { rows, published, is_new_membership, heads, answers })
    }

    /// Writes a run's changes, all or none. After a failure they can be written again.
    fn write(&self, run: &Prepared) -> Result<(), DatabaseError> {
        let Published { applied, membership, summary, .. } = &run.published;
        let membership = run.is_new_membership.then_some(membership);
        self.store.database().write(run.rows.iter(), &Progress { applied: *applied, membership, summary })
    }

    /// Shows a run's changes and answers those who wait.
    fn publish(&self, run: Prepared) {
        self.store.note_heads(run.heads);
        self.store.publish(run.published);
        for (responder, answer) in run.answers {
            responder.send(answer);
        }
    }

    /// `apply` holds each cluster row against the one before; this holds it against what this member
    /// learnt when it joined, so that the first one, too, is the right one.
    fn check_cluster_row(&self, stored: &StoredRow, timeline: u64) -> Result<(), DatabaseError> {
        let directory = || self.store.database().directory().to_owned();
        let row = ClusterRow::decode(stored.value.clone())
            .map_err(|_| DatabaseError::Form { directory: directory(), what: "the cluster's row" })?;
        let checked = self.trust.check_state(Some(&row), timeline);
        checked.map_err(|source| DatabaseError::Untrusted { directory: directory(), source })
    }

    /// Makes a checkpoint of exactly what is applied now and describes it.
    fn build(&mut self) -> Result<(SnapshotMeta, Snapshot), DatabaseError> {
        let published = self.store.published();
        let database = self.store.database();
        let name = format!("{:020}-{:016x}", published.index(), random_number());
        let directory = self.snapshots_directory.join(name);
        database.checkpoint(&directory)?;
        remove_unfinished(std::mem::take(&mut self.blobs_before), &directory);
        let manifest = SnapshotManifest::for_directory(
            &directory,
            self.trust.cluster_id,
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
        self.is_fresh = false;
        remove_snapshots_but(&self.snapshots_directory, &directory);
        if let Err(error) = database.bound_clearing() {
            tracing::warn!(%error, "how much a merge of tables clears could not be set; trying again");
        }
        Ok((meta, snapshot))
    }

    /// Makes the snapshot that is wanted at a head. One that fails (most often for want of space) is tried
    /// again at the next head: it must not stop the node.
    fn build_at_head(&mut self, index: u64) {
        match self.build() {
            Ok(_) => {
                self.is_fresh = true;
                self.store.snapshot_is_made(index, self.store.published().bytes);
            }
            Err(error) => tracing::warn!(%error, "no snapshot could be made; trying again"),
        }
    }

    /// Puts a received snapshot in the state's place. After a failure for want of space it can be called
    /// again.
    fn install(&mut self, meta: &SnapshotMeta, snapshot: &Snapshot) -> Result<(), DatabaseError> {
        let next = self.number + 1;
        let directory = database_directory(&self.state_directory, next);
        if !directory.exists() {
            std::fs::rename(&snapshot.directory, &directory).map_err(file_error(&snapshot.directory))?;
        }
        sync_directory(&self.state_directory)?;
        let database = Database::open(&directory)?;
        let (applied, membership, summary) = database.progress()?;
        let found = kura_cluster::apply::state_digest(&summary);
        if applied != meta.last_log_id || found != snapshot.manifest.state_digest {
            return Err(DatabaseError::Form { directory, what: "an installed snapshot's last applied id or digest" });
        }
        database.check(&self.trust, summary.timeline)?;
        write_current(&self.state_directory, next)?;
        self.number = next;
        self.blobs_before.clear();
        let old = self.store.replace(database);
        let bytes = self.store.published().bytes;
        self.store.publish(Published { applied, membership, summary: Arc::new(summary), bytes });
        drop(old);
        remove_others(&self.state_directory, next);
        // It is installed. A snapshot of it can be made later, when there is space; the older one serves nobody.
        self.current = None;
        if let Err(error) = self.build() {
            tracing::warn!(%error, "no snapshot of the installed state could be made yet");
        }
        Ok(())
    }
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
            // A snapshot that is wanted is made where every member makes a head: the run ends there.
            while run.len() < APPLY_ENTRIES_MAX
                && bytes < APPLY_BYTES_MAX
                && self.wanted_snapshot(&run).is_none()
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                let next = next?;
                bytes += payload_bytes(&next.0.payload);
                run.push(next);
            }
            if let Some((entry, _)) = run.last() {
                self.wait_synced(entry.log_id()).await?;
            }
            let snapshot = self.wanted_snapshot(&run);
            let is_quick = run.len() <= INLINE_ENTRIES_MAX && bytes <= INLINE_BYTES_MAX && snapshot.is_none();
            // Handing this thread's other work over costs more than applying a few small commands.
            let run = match is_quick {
                true => self.prepare(run)?,
                false => tokio::task::block_in_place(|| self.prepare(run))?,
            };
            until_there_is_space(|| match is_quick {
                true => self.write(&run),
                false => tokio::task::block_in_place(|| self.write(&run)),
            })
            .await?;
            self.publish(run);
            if let Some(index) = snapshot {
                tokio::task::block_in_place(|| self.build_at_head(index));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> BuiltSnapshot {
        if self.is_fresh
            && let Some(made) = self.current.clone()
        {
            self.is_fresh = false;
            return BuiltSnapshot(Some(Ok(made)));
        }
        // The checkpoint is made here, synchronously with the applied index; the builder only hands it over.
        let built = until_there_is_space(|| tokio::task::block_in_place(|| self.build())).await;
        BuiltSnapshot(Some(built.map_err(io::Error::from)))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot) -> Result<(), io::Error> {
        let install = || tokio::task::block_in_place(|| self.install(meta, &snapshot));
        until_there_is_space(install).await.map_err(io::Error::from)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        // After a restart nothing is remembered, and nothing has to be: a checkpoint costs no time.
        if self.current.is_none() && self.store.published().applied.is_some() {
            until_there_is_space(|| tokio::task::block_in_place(|| self.build())).await?;
        }
        Ok(self.current.clone().map(|(meta, snapshot)| RaftSnapshot { meta, snapshot }))
    }
}

/// What a run of entries changes, and who waits for it.
struct Prepared {
    rows: BTreeMap<Bytes, Option<StoredRow>>,
    published: Published,
    is_new_membership: bool,
    heads: Vec<Head>,
    answers: Vec<(ApplyResponder<TypeConfig>, Applied)>,
}

/// Tries until it works or something other than space is missing: any error that reaches openraft ends the
/// node. RocksDB looks for space by itself after a failed flush, and takes writes again when it finds some.
async fn until_there_is_space<T>(mut step: impl FnMut() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    let mut waits = false;
    loop {
        match step() {
            Err(error) if error.is_full() => {
                if !waits {
                    tracing::error!(%error, "no space left: the state waits for space");
                }
                waits = true;
                tokio::time::sleep(SPACE_RETRY_INTERVAL).await;
            }
            result => {
                if waits && result.is_ok() {
                    tracing::info!("the state is written again");
                }
                return result;
            }
        }
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

fn makes_head(id: LogId, payload: &EntryPayload) -> bool {
    let command = match payload {
        EntryPayload::Normal(command) => Some(&command.0),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    };
    head::is_due(id.index, command)
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

/// Whether a directory holds a database. Where RocksDB's own pointer is lost, it would make a new one there, and at the
/// next open remove every file that this one does not name.
fn is_database(directory: &Path) -> bool {
    directory.join("CURRENT").exists()
}

/// Whether there are databases other than the first.
fn has_databases_but(state: &Path, first: &Path) -> Result<bool, DatabaseError> {
    let entries = std::fs::read_dir(state).map_err(file_error(state))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.any(|path| path.is_dir() && path != first))
}

/// The directory of the database that the state under a data directory uses.
///
/// # Errors
/// [`DatabaseError::Form`] if there is none, or the pointer to it is damaged.
pub fn current_database(data: &Path) -> Result<PathBuf, DatabaseError> {
    let state = data.join("state");
    let number = read_current(&state)?;
    let directory = number.map(|number| database_directory(&state, number)).filter(|directory| is_database(directory));
    directory.ok_or(DatabaseError::Form { directory: state, what: "CURRENT" })
}

/// Where the first database of a data directory lies, which a recovery makes there; makes the directory above it.
///
/// # Errors
/// [`DatabaseError::File`].
pub fn first_database(data: &Path) -> Result<PathBuf, DatabaseError> {
    let state = data.join("state");
    make_directory(&state)?;
    Ok(database_directory(&state, 0))
}

/// Has a data directory use its first database, durably.
///
/// # Errors
/// [`DatabaseError::File`].
pub fn use_first_database(data: &Path) -> Result<(), DatabaseError> {
    write_current(&data.join("state"), 0)
}

/// Reads the number of the database in use, if there is one yet.
fn read_current(state: &Path) -> Result<Option<u64>, DatabaseError> {
    let path = state.join("CURRENT");
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .strip_prefix("database-")
            .and_then(|number| number.parse().ok())
            .map(Some)
            .ok_or(DatabaseError::Form { directory: state.to_owned(), what: "CURRENT" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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

fn blob_files(database: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(database).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "blob")).collect()
}

/// Removes blob files of before the start that a checkpoint lacks: a node was killed while it wrote them. RocksDB keeps
/// those, as it cannot tell them from one that is being written; their numbers are not given again.
fn remove_unfinished(blobs_before: Vec<PathBuf>, checkpoint: &Path) {
    for path in blobs_before {
        let is_used = path.file_name().is_none_or(|name| checkpoint.join(name).exists());
        if is_used {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "a blob file that was left unfinished is removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an unfinished blob file could not be removed");
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(kind: io::ErrorKind) -> DatabaseError {
        file_error(Path::new("CURRENT.new"))(kind.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_waited_for_and_any_other_error_is_told() {
        let mut left = 3;
        let written = until_there_is_space(|| match left {
            0 => Ok("written"),
            _ => {
                left -= 1;
                Err(failing(io::ErrorKind::StorageFull))
            }
        });
        assert_eq!(written.await.unwrap(), "written");
        let mut tries = 0;
        let failed = until_there_is_space(|| -> Result<(), _> {
            tries += 1;
            Err(failing(io::ErrorKind::PermissionDenied))
        });
        assert!(failed.await.is_err());
        assert_eq!(tries, 1);
    }
}
