//! Replaying a generation: its base, then its segments, through the very `apply` of the members.
//!
//! Key rows are replayed without their values ([`StoredRow::stripped`]); [`put_keys`] puts the ledger's in.
//!
//! Invariants
//! - Nothing is used of an object before its hash was compared.
//! - Memory holds a few segments and one batch, however large the archive is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use kura_cluster::apply::{Batch, Summary};
use kura_cluster::archive::keys::{BUCKET_BYTES_MAX, Bucket, KeyHeaders, KeySums, LEDGER_BYTES_MAX, Ledger};
use kura_cluster::archive::manifest::Base;
use kura_cluster::archive::{ArchivedEntry, Fault, Manifest, ObjectName, Payload, Segment, Sha256Hash};
use kura_cluster::digest::Digest as RowDigest;
use kura_cluster::head::{Comparison, Head};
use kura_cluster::row::{RowHeader, StoredRow, Table};
use sha2::{Digest, Sha256};

use super::ahead::Ahead;
use super::scrub::scrub;
use super::store::{ArchiveStore, StoreError};
use crate::raft::codec::{self, CodecError};
use crate::raft::types::{LogId, StoredMembership, log_id};
use crate::state::database::Progress;
use crate::state::{Database, DatabaseError};

/// Entries applied in one atomic write, at most.
const ENTRIES_MAX: usize = 1024;
/// Bytes of them, about. The allocator gives buffers of 8 MiB back at once.
const BYTES_MAX: usize = 4 << 20;
/// Pieces of an object that are hashed and written at a time, at most.
const PIECES_MAX: usize = 32;
/// Key rows written at a time.
const KEY_ROWS_MAX: usize = 4096;

/// What goes on, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// In words.
    Doing(String),
    /// So many bytes were read.
    Bytes(u64),
}

/// Shows what goes on.
pub type Tell<'a> = &'a (dyn Fn(Event) + Sync);

/// Why a replay could not be made, beside faults of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The scratch database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The archive is at fault.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// A membership in it is in no known form.
    #[error("a membership at entry {index}: {source}")]
    Membership {
        /// The entry.
        index: u64,
        /// What is wrong.
        source: CodecError,
    },
}

impl From<Fault> for ReplayError {
    fn from(fault: Fault) -> ReplayError {
        ReplayError::Fault(Box::new(fault))
    }
}

/// A state that is being replayed.
pub struct Replayed {
    /// The database.
    pub database: Database,
    /// Its last applied entry.
    pub applied: Option<LogId>,
    /// The state's summary at it.
    pub summary: Summary,
    membership: StoredMembership,
    /// Entries replayed since the base.
    pub entries: u64,
    ahead: Ahead,
}

/// Reads an object whole and compares its hash.
pub async fn get(
    store: &ArchiveStore,
    name: &ObjectName,
    bytes_max: u64,
    tell: Tell<'_>,
) -> Result<Bytes, ReplayError> {
    let bytes = get_silently(store, name, bytes_max).await?;
    tell(Event::Bytes(bytes.len() as u64));
    Ok(bytes)
}

/// The same, and nobody is told.
pub(super) async fn get_silently(
    store: &ArchiveStore,
    name: &ObjectName,
    bytes_max: u64,
) -> Result<Bytes, ReplayError> {
    let missing = |error: StoreError| match error.is_missing() {
        true => ReplayError::from(Fault::Missing { name: *name }),
        false => error.into(),
    };
    let bytes = store.get(&name.to_string(), bytes_max).await.map_err(missing)?;
    match name.sha256() {
        Some(sha256) if <Sha256Hash>::from(Sha256::digest(&bytes)) != sha256 => {
            Err(Fault::Altered { name: *name }.into())
        }
        _ => Ok(bytes),
    }
}

/// Streams an object to a file, durably, and compares its hash.
pub(crate) async fn fetch(
    store: &ArchiveStore,
    name: &ObjectName,
    path: &Path,
    tell: Tell<'_>,
) -> Result<(), ReplayError> {
    let failed = |source| ReplayError::File { path: path.display().to_string(), source };
    let (_, pieces) = match store.stream(&name.to_string()).await {
        Err(error) if error.is_missing() => return Err(Fault::Missing { name: *name }.into()),
        found => found?,
    };
    // A connection hands out small ones.
    let mut pieces = pieces.ready_chunks(PIECES_MAX);
    let create = path.to_owned();
    let mut work = on_a_thread(move || Ok((std::fs::File::create(create)?, Sha256::new()))).await.map_err(failed)?;
    while let Some(pieces) = pieces.next().await {
        let pieces = pieces.into_iter().collect::<Result<Vec<_>, _>>()?;
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let step = move || {
            let (mut file, mut hash) = work;
            for piece in pieces {
                hash.update(&piece);
                file.write_all(&piece)?;
            }
            Ok((file, hash))
        };
        work = on_a_thread(step).await.map_err(failed)?;
        tell(Event::Bytes(bytes));
    }
    let (file, hash) = work;
    on_a_thread(move || file.sync_data()).await.map_err(failed)?;
    match Some(<Sha256Hash>::from(hash.finalize())) == name.sha256() {
        true => Ok(()),
        false => Err(Fault::Altered { name: *name }.into()),
    }
}

/// Hashing and writing of several files at the same time keeps several cores busy.
async fn on_a_thread<T: Send + 'static>(step: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(step).await.map_err(io::Error::other)?
}

impl Replayed {
    /// Makes a base's database in `directory`, which must not exist, and holds it against its manifest.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn begin(
        store: &ArchiveStore,
        manifest: &Manifest,
        base: &Base,
        directory: &Path,
        tell: Tell<'_>,
    ) -> Result<Replayed, ReplayError> {
        tell(Event::Doing(format!("base of generation {}", manifest.generation)));
        let failed = |source| ReplayError::File { path: directory.display().to_string(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        for file in &base.files {
            fetch(store, &ObjectName::File(file.sha256), &directory.join(&file.name), tell).await?;
        }
        Replayed::settle(store, manifest, base, directory, tell).await
    }

    /// The same, where the base's files lie in the directory already.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn settle(
        store: &ArchiveStore,
        manifest: &Manifest,
        base: &Base,
        directory: &Path,
        tell: Tell<'_>,
    ) -> Result<Replayed, ReplayError> {
        let name = manifest.name();
        let opened = tokio::task::block_in_place(|| Database::open_to_replay(directory));
        let database = opened.map_err(|error| Fault::Base { name, why: error.to_string() })?;
        put_key_headers(store, &database, manifest, base, tell).await?;
        let progress = tokio::task::block_in_place(|| database.progress());
        let (applied, membership, summary) = progress.map_err(|error| Fault::Base { name, why: error.to_string() })?;
        let replayed = Replayed { database, applied, summary, membership, entries: 0, ahead: Ahead::default() };
        if replayed.applied.map(|id| id.index) != Some(manifest.index()) {
            return Err(Fault::Base { name, why: "it is the state at another entry".into() }.into());
        }
        replayed.check(manifest)?;
        Ok(replayed)
    }

    /// Goes on with a replay that was cut: its database, as far as it was durable.
    ///
    /// # Errors
    /// The database's.
    pub fn reopen(directory: &Path) -> Result<Replayed, ReplayError> {
        let database = Database::open_to_replay(directory)?;
        let (applied, membership, summary) = database.progress()?;
        Ok(Replayed { database, applied, summary, membership, entries: 0, ahead: Ahead::default() })
    }

    /// Begins to read a segment that will be wanted soon, beside what is replayed until then.
    pub fn fetch_ahead(&mut self, store: &ArchiveStore, segment: &ObjectName) {
        self.ahead.begin(store, segment);
    }

    /// Replays the segments of the manifest that follows, up to `upto` at most, and holds the state against the
    /// manifest if its end was reached. Answers whether it was.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn go_on(
        &mut self,
        store: &ArchiveStore,
        manifest: &Manifest,
        upto: u64,
        tell: Tell<'_>,
    ) -> Result<bool, ReplayError> {
        let segments = manifest.segments();
        for (place, reference) in segments.iter().enumerate() {
            let next = self.applied.map_or(0, |id| id.index + 1);
            if next > upto {
                return Ok(false);
            }
            if reference.last < next {
                // Replayed before the cut.
                tell(Event::Bytes(reference.bytes));
                continue;
            }
            let name = reference.name();
            tell(Event::Doing(format!("entries {} to {}", reference.first, reference.last)));
            let bytes = self.ahead.take(store, &name).await?;
            tell(Event::Bytes(bytes.len() as u64));
            if let Some(following) = segments.get(place + 1).filter(|following| following.first <= upto) {
                self.fetch_ahead(store, &following.name());
            }
            let segment = Segment::open_whole(&bytes).map_err(|source| Fault::Segment { name, source })?;
            let (first, last) = (segment.first, segment.last_index());
            if (first, last) != (reference.first, reference.last) || segment.timeline != manifest.head.timeline {
                return Err(Fault::Swapped { name, first, last }.into());
            }
            if first > next {
                return Err(Fault::Hole { name: manifest.name(), first: next, last: first.saturating_sub(1) }.into());
            }
            tokio::task::block_in_place(|| self.apply(segment, name, upto))?;
        }
        if self.applied.map(|id| id.index) != Some(manifest.index()) {
            return Ok(false);
        }
        self.check(manifest)?;
        Ok(true)
    }

    fn apply(&mut self, segment: Segment, name: ObjectName, upto: u64) -> Result<(), ReplayError> {
        let mut run: Vec<ArchivedEntry> = Vec::new();
        let mut bytes = 0;
        let next = self.applied.map_or(0, |id| id.index + 1);
        for entry in segment {
            let entry = entry.map_err(|source| Fault::Segment { name, source })?;
            if entry.index > upto {
                break;
            }
            if entry.index < next {
                continue;
            }
            bytes += match &entry.payload {
                Payload::Command(command) | Payload::Stripped { command, .. } => command.len(),
                _ => 0,
            };
            run.push(entry);
            if run.len() >= ENTRIES_MAX || bytes >= BYTES_MAX {
                self.apply_run(std::mem::take(&mut run))?;
                bytes = 0;
            }
        }
        self.apply_run(run)
    }

    fn apply_run(&mut self, run: Vec<ArchivedEntry>) -> Result<(), ReplayError> {
        let Some(last) = run.last() else { return Ok(()) };
        let applied = Some(log_id(last.term, last.index));
        let mut batch = Batch::new(&self.database, self.summary.clone());
        let mut membership = None;
        self.entries += run.len() as u64;
        for entry in run {
            let index = entry.index;
            match entry.payload {
                Payload::Command(command) => batch.apply(index, &command).map(drop)?,
                Payload::Stripped { command, value_sha256s } => {
                    batch.apply_stripped(index, &command, &value_sha256s).map(drop)?;
                }
                Payload::Membership(bytes) => {
                    let new =
                        codec::decode_membership(&bytes).map_err(|source| ReplayError::Membership { index, source })?;
                    membership = Some(StoredMembership::new(Some(log_id(entry.term, index)), new));
                }
                Payload::Blank | Payload::Refused(_) => {}
            }
        }
        let (summary, rows) = batch.finish();
        let progress = Progress { applied, membership: membership.as_ref(), summary: &summary };
        self.database.write(rows.iter(), &progress)?;
        (self.applied, self.summary) = (applied, summary);
        if let Some(membership) = membership {
            self.membership = membership;
        }
        Ok(())
    }

    /// The membership in force.
    pub fn membership(&self) -> &StoredMembership {
        &self.membership
    }

    fn check(&self, manifest: &Manifest) -> Result<(), Fault> {
        let own = Head::of(manifest.head.cluster_id, manifest.index(), &self.summary);
        let tables = match own.compare(&manifest.head) {
            Comparison::Equal => return Ok(()),
            Comparison::Different(tables) => tables,
            // Another timeline than the base's.
            Comparison::Incomparable => Vec::new(),
        };
        Err(Fault::Differs { name: manifest.name(), index: manifest.index(), tables })
    }

    /// Reads every row: whether values have their hashes, and rows add up to their tables' digests. Answers
    /// the tables that do not.
    ///
    /// # Errors
    /// The database's.
    pub fn scrub(&self) -> Result<Vec<&'static str>, DatabaseError> {
        scrub(&self.database, &self.summary)
    }

    fn write_rows(&self, rows: &BTreeMap<Bytes, Option<StoredRow>>) -> Result<(), DatabaseError> {
        let progress = Progress { applied: self.applied, membership: None, summary: &self.summary };
        self.database.write(rows.iter(), &progress)
    }
}

/// Puts the rows without values in whose headers a base holds.
async fn put_key_headers(
    store: &ArchiveStore,
    database: &Database,
    manifest: &Manifest,
    base: &Base,
    tell: Tell<'_>,
) -> Result<(), ReplayError> {
    let object = ObjectName::File(base.key_headers_sha256);
    let broken = |why: &str| ReplayError::from(Fault::Base { name: manifest.name(), why: why.into() });
    let (_, mut pieces) = match store.stream(&object.to_string()).await {
        Err(error) if error.is_missing() => return Err(Fault::Missing { name: object }.into()),
        found => found?,
    };
    let (applied, _, summary) = database.progress()?;
    let mut hash = Sha256::new();
    let mut held: Vec<u8> = Vec::new();
    let mut expected: Option<u64> = None;
    let mut count = 0;
    let mut rows: BTreeMap<Bytes, Option<StoredRow>> = BTreeMap::new();
    let flush = |rows: &mut BTreeMap<Bytes, Option<StoredRow>>| {
        let progress = Progress { applied, membership: None, summary: &summary };
        let written = database.write(rows.iter(), &progress);
        rows.clear();
        written
    };
    while let Some(piece) = pieces.try_next().await? {
        tell(Event::Bytes(piece.len() as u64));
        hash.update(&piece);
        held.extend_from_slice(&piece);
        let mut rest = &held[..];
        if expected.is_none() {
            let Some((begin, after)) = rest.split_at_checked(KeyHeaders::BEGIN_BYTES) else { continue };
            let read = KeyHeaders::read_begin(begin, &manifest.head.cluster_id);
            expected = Some(read.map_err(|_| broken("its key headers are of no known form"))?);
            rest = after;
        }
        while let Some(found) = KeyHeaders::read(&mut rest).map_err(|_| broken("its key headers hold other rows"))? {
            let RowHeader { revision, replaced, value_sha256 } = found.header;
            rows.insert(found.row_key, Some(StoredRow::stripped(revision, replaced, value_sha256)));
            count += 1;
            if rows.len() >= KEY_ROWS_MAX {
                flush(&mut rows)?;
            }
        }
        held = rest.to_vec();
    }
    if Some(<Sha256Hash>::from(hash.finalize())) != object.sha256() {
        return Err(Fault::Altered { name: object }.into());
    }
    if !held.is_empty() || expected != Some(count) {
        return Err(broken("its key headers are cut off"));
    }
    flush(&mut rows)?;
    Ok(())
}

/// Reads the ledger that a manifest names, bucket by bucket, and hands each to `look`. Answers what its rows
/// add up to.
pub async fn read_ledger(
    store: &ArchiveStore,
    manifest: &Manifest,
    tell: Tell<'_>,
    mut look: impl FnMut(Bucket) -> Result<(), ReplayError>,
) -> Result<KeySums, ReplayError> {
    let name = ObjectName::Keys(manifest.ledger.sha256);
    let refused = |name: ObjectName, why: String| ReplayError::from(Fault::Ledger { name, why });
    let bytes = get(store, &name, LEDGER_BYTES_MAX as u64, tell).await?;
    let ledger = Ledger::decode(&bytes).map_err(|error| refused(name, error.to_string()))?;
    if ledger.cluster_id != manifest.head.cluster_id {
        return Err(refused(name, "it is another cluster's".into()));
    }
    let mut sums = KeySums::default();
    for reference in &ledger.buckets {
        let name = ObjectName::Keys(reference.sha256);
        let bytes = get(store, &name, BUCKET_BYTES_MAX as u64, tell).await?;
        let bucket = Bucket::decode(&bytes, reference.number).map_err(|error| refused(name, error.to_string()))?;
        bucket.add_to(&mut sums);
        look(bucket)?;
    }
    Ok(sums)
}

/// Bytes of a manifest's ledger with all of its buckets, each of which is there with its length.
///
/// # Errors
/// [`ReplayError::Fault`] names what is not.
pub async fn ledger_bytes(store: &ArchiveStore, manifest: &Manifest, tell: Tell<'_>) -> Result<u64, ReplayError> {
    let name = ObjectName::Keys(manifest.ledger.sha256);
    let bytes = get(store, &name, LEDGER_BYTES_MAX as u64, tell).await?;
    let ledger = Ledger::decode(&bytes).map_err(|error| Fault::Ledger { name, why: error.to_string() })?;
    let mut sum = bytes.len() as u64;
    for bucket in &ledger.buckets {
        let (name, expected) = (ObjectName::Keys(bucket.sha256), bucket.bytes);
        match store.length(&name.to_string()).await? {
            None => return Err(Fault::Missing { name }.into()),
            Some(found) if found != expected => return Err(Fault::CutOff { name, expected, found }.into()),
            Some(found) => sum += found,
        }
    }
    Ok(sum)
}

/// The newest row of the keyring in a manifest's ledger.
///
/// # Errors
/// [`ReplayError`]; a ledger without a keyring is a fault.
pub async fn newest_keyring(
    store: &ArchiveStore,
    manifest: &Manifest,
    tell: Tell<'_>,
) -> Result<StoredRow, ReplayError> {
    let name = ObjectName::Keys(manifest.ledger.sha256);
    let broken = |why: String| ReplayError::from(Fault::Ledger { name, why });
    let bytes = get(store, &name, LEDGER_BYTES_MAX as u64, tell).await?;
    let ledger = Ledger::decode(&bytes).map_err(|error| broken(error.to_string()))?;
    let keyring = ledger.buckets.iter().find(|bucket| bucket.number == 0);
    let keyring = keyring.ok_or_else(|| broken("it has no keyring".into()))?;
    let bytes = get(store, &ObjectName::Keys(keyring.sha256), BUCKET_BYTES_MAX as u64, tell).await?;
    let bucket = Bucket::decode(&bytes, 0).map_err(|error| broken(error.to_string()))?;
    bucket.rows.into_iter().next_back().map(|(_, row)| row).ok_or_else(|| broken("it has no keyring".into()))
}

/// Whether a ledger's rows are those that a manifest's digests count.
pub fn check_ledger(manifest: &Manifest, sums: &KeySums) -> Result<(), Fault> {
    let differs = |table: &&Table| {
        let expected = manifest.head.tables.iter().find(|found| found.number == table.number());
        let expected = expected.map_or((0, RowDigest::default()), |found| (found.rows, found.digest));
        sums.of(**table).is_some_and(|found| found != expected)
    };
    match Table::ALL.iter().find(differs) {
        None => Ok(()),
        Some(table) => Err(Fault::Ledger {
            name: ObjectName::Keys(manifest.ledger.sha256),
            why: format!("its rows of the table {} are not those of the newest manifest's digest", table.word()),
        }),
    }
}

/// Puts the wrapped keys of a ledger into a replayed state: of each row whose header is the ledger's. Answers how
/// many key rows have none in the ledger: those of erased participants, if the ledger is newer than the state.
pub async fn put_keys(
    store: &ArchiveStore,
    replayed: &Replayed,
    newest: &Manifest,
    tell: Tell<'_>,
) -> Result<u64, ReplayError> {
    let mut put = 0;
    read_ledger(store, newest, tell, |bucket| {
        tokio::task::block_in_place(|| {
            let mut rows = BTreeMap::new();
            for (key, row) in bucket.rows {
                let found = replayed.database.header(&kura_cluster::row::RowKey::from_bytes(key.clone()))?;
                if found == Some(row.header) {
                    rows.insert(key, Some(row));
                }
            }
            put += rows.len() as u64;
            replayed.write_rows(&rows).map_err(ReplayError::from)
        })
    })
    .await?;
    let held = [Table::Keyring, Table::ParticipantKey].map(|table| replayed.summary.table(table).rows);
    Ok(held.iter().sum::<u64>().saturating_sub(put))
}
