//! The backup's writer: follows what is applied here, and puts it into the archive.
//!
//! A round ends with a manifest. It takes a view of the state at some index, sends the log entries up to that
//! index as segments, writes the ledger of that view if keys changed, publishes a manifest with the view's
//! digests. A base is made of a checkpoint in the same way, after a round up to the checkpoint's index.
//!
//! Invariants
//! - The position is the newest manifest's; whatever fails in a round, the next one begins there again.
//! - A manifest is published with *put if absent*. If another one is there, another writer is at work: one of
//!   ours, of before a restart, is gone on from; another's stops this writer until the node is restarted.
//! - A hole in the log does not pass in silence: a new base begins, and its manifest says so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use kura_cluster::ClusterId;
use kura_cluster::apply::Summary;
use kura_cluster::archive::keep::{Candidate, KeepRules};
use kura_cluster::archive::keys::bucket_of;
use kura_cluster::archive::manifest::{Base, Content, Gap, Parent, SegmentRef};
use kura_cluster::archive::{
    ArchivedEntry, Manifest, ObjectName, Payload, SegmentBuilder, Sha256Hash, SignedManifest, strip,
};
use kura_cluster::command::{Command, WriteKind};
use kura_cluster::head::Head;
use kura_cluster::seal::Dictionary;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::base::{BaseCopy, BaseError, Sent};
use super::catalog::{self, CatalogError};
use super::expire;
use super::ledger::{self, Changed, Kept, LedgerError};
use super::store::{ArchiveStore, StoreError};
use super::told::{ArchivePoint, ArchiveTold};
use crate::raft::codec;
use crate::raft::types::{Entry, EntryPayload, LogId};
use crate::snapshot::FileHashes;
use crate::state::database::Snapshot;
use crate::state::{DatabaseError, StateStore};

/// The first wait after a failure; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_millis(200);

/// The folder of segments.
const SEGMENTS: &str = "segments";

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The storage: full, unreachable, forbidden.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive's newest manifest cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The key ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The state here.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Making a base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The log here.
    #[error("the Raft log: {0}")]
    Log(#[from] std::io::Error),
    /// This node's key signs nothing.
    #[error("this node's key is of a kind that signs no manifests (ECDSA over P-256 and Ed25519 do)")]
    NoSigner,
    /// The archive is another cluster's.
    #[error("the archive is another cluster's: configure an empty place")]
    OtherCluster,
    /// The archive is of a later timeline than this node.
    #[error("the archive is of timeline {found}, this node of {own}: the cluster was taken over without it")]
    LaterTimeline {
        /// The archive's.
        found: u64,
        /// This node's.
        own: u64,
    },
    /// The archive that was there is gone: unmounted, most likely.
    #[error("the archive's newest manifest is gone: is its place mounted?")]
    Gone,
    /// Another member writes into it.
    #[error("another member ({0}) writes into this archive: give each its own place, then restart this node")]
    OtherWriter(String),
    /// An entry that no segment takes.
    #[error("entry {0} is too large for a segment")]
    Entry(u64),
}

impl WriteError {
    /// Whether trying again is of no use.
    fn is_final(&self) -> bool {
        matches!(self, WriteError::OtherCluster | WriteError::LaterTimeline { .. } | WriteError::OtherWriter(_))
    }
}

/// Reads the log. The entries from `from` on, up to `to` (inclusive) or some limit; none if the log lacks
/// `from`.
pub trait ReadLog: Send + Sync {
    /// See the trait.
    fn read(&self, from: u64, to: u64) -> BoxFuture<'_, std::io::Result<Vec<Entry>>>;
}

/// Signs manifests with the key of the node's certificate.
pub trait SignManifests: Send + Sync {
    /// `None` if the key is of a kind that signs none.
    fn sign(&self, manifest: Manifest) -> Option<SignedManifest>;
}

/// What the writer reads of its node.
pub struct Source {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node's name.
    pub name: String,
    /// The state.
    pub store: StateStore,
    /// The log.
    pub log: Box<dyn ReadLog>,
    /// The node's key.
    pub signer: Box<dyn SignManifests>,
    /// Hashes of files.
    pub hashes: Arc<FileHashes>,
    /// A directory on the state's file system, for bases being made.
    pub work: PathBuf,
    /// The clock, milliseconds since 1970.
    pub now_ms: fn() -> u64,
}

/// How it is written.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes after which a segment is closed.
    pub segment_bytes: usize,
    /// Time after which one is closed that has anything.
    pub segment_time: Duration,
    /// Age of a generation at which the next begins.
    pub base_every: Duration,
    /// Bytes of segments in a generation at which the next begins.
    pub base_every_bytes: u64,
    /// Which generations are kept.
    pub keep: KeepRules,
}

/// Where the archive ends.
struct Position {
    manifest: Manifest,
    sha256: Sha256Hash,
    ledger: Option<Kept>,
    /// Of the present generation.
    begun_ms: u64,
    segment_bytes: u64,
    expired: Vec<Gap>,
}

/// The writer.
pub struct Writer {
    source: Source,
    archive: ArchiveStore,
    settings: Settings,
    told: Arc<ArchiveTold>,
    position: Option<Position>,
    /// Whether the archive was looked at.
    is_known: bool,
    /// Bytes applied when the last round ended, and when that was.
    round: (u64, Instant),
    /// Files of the next base that are sent ahead.
    ahead: Option<JoinHandle<Result<Sent, WriteError>>>,
    is_ahead: bool,
}

/// The entries that are wanted are not in the log any more.
enum Stretch {
    Whole,
    Hole { from: u64 },
}

/// Segments being made and sent.
struct Pending {
    builder: SegmentBuilder,
    sent: Vec<SegmentRef>,
    changed: BTreeSet<u32>,
}

impl Writer {
    /// A writer that has not looked at the archive yet.
    pub fn new(source: Source, archive: ArchiveStore, settings: Settings, told: Arc<ArchiveTold>) -> Writer {
        Writer {
            source,
            archive,
            settings,
            told,
            position: None,
            is_known: false,
            round: (0, Instant::now()),
            ahead: None,
            is_ahead: false,
        }
    }

    /// What it tells of itself.
    #[cfg(test)]
    pub(super) fn told(&self) -> Arc<ArchiveTold> {
        self.told.clone()
    }

    /// Writes for ever, or until that is of no use.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.step().await {
                Ok(_) => {
                    backoff = BACKOFF_MIN;
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => {
                    let words = error.to_string();
                    if self.told.trouble().as_ref() != Some(&words) {
                        tracing::error!(error = %words, "the archive could not be written; the log is kept for it up to its cap");
                    }
                    self.told.fails(words);
                    if error.is_final() {
                        return;
                    }
                    // What is really there may be more than what is known: it is read again.
                    self.is_known = false;
                    tokio::time::sleep(backoff).await;
                    backoff = (2 * backoff).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Does what is due, if anything is; answers whether something was written.
    ///
    /// # Errors
    /// [`WriteError`]. The archive is as whole as it was.
    pub async fn step(&mut self) -> Result<bool, WriteError> {
        if !self.is_known {
            self.recover().await?;
            self.is_known = true;
        }
        let published = self.source.store.published();
        if published.applied.is_none() {
            return Ok(false);
        }
        let Some(position) = &self.position else {
            self.begin_generation().await?;
            return Ok(true);
        };
        let is_later = published.summary.timeline > position.manifest.head.timeline;
        let beyond = published.index() > position.manifest.index();
        if !is_later && !beyond {
            return Ok(false);
        }
        let base_is_due = self.base_is_due(position);
        if base_is_due && self.is_sent_ahead().await? {
            self.begin_generation().await?;
            return Ok(true);
        }
        let bytes = published.bytes.saturating_sub(self.round.0);
        let is_due =
            bytes >= self.settings.segment_bytes as u64 || self.round.1.elapsed() >= self.settings.segment_time;
        if !is_later && !is_due {
            return Ok(false);
        }
        self.round = (published.bytes, Instant::now());
        if !is_later && self.write_segments().await? {
            return Ok(true);
        }
        self.begin_generation().await?;
        Ok(true)
    }

    /// Reads where the archive ends.
    async fn recover(&mut self) -> Result<(), WriteError> {
        let Some(found) = catalog::newest(&self.archive).await? else {
            // An archive is begun where there was none, not where one has vanished.
            return if self.position.is_some() { Err(WriteError::Gone) } else { Ok(()) };
        };
        let manifest = found.signed.manifest;
        let own = self.source.store.published().summary.timeline;
        if manifest.head.cluster_id != self.source.cluster_id {
            return Err(WriteError::OtherCluster);
        }
        if manifest.head.timeline > own {
            return Err(WriteError::LaterTimeline { found: manifest.head.timeline, own });
        }
        let base = catalog::manifest(&self.archive, manifest.generation, manifest.generation).await?;
        let base = base.signed.manifest;
        let ledger = ledger::read(&self.archive, &manifest.ledger).await?;
        match &ledger {
            Some(kept) => {
                let deleted = ledger::sweep(&self.archive, kept).await?;
                if deleted > 0 {
                    tracing::info!(deleted, "keys that the archive's ledger does not name any more are deleted");
                }
            }
            None => tracing::error!("the archive's key ledger is missing or damaged: it is written anew"),
        }
        let expired = base.base().map(|base| base.expired.clone()).unwrap_or_default();
        let (begun_ms, sha256) = (base.at_ms, found.sha256);
        let segment_bytes = self.segment_bytes(base.index(), manifest.index()).await?;
        self.tell_generations().await?;
        let position = Position { manifest, sha256, ledger, begun_ms, segment_bytes, expired };
        self.tell(&position);
        self.position = Some(position);
        Ok(())
    }

    /// Bytes of the segments of a generation: what lies after its base, by their names.
    async fn segment_bytes(&self, base: u64, last: u64) -> Result<u64, WriteError> {
        let mut listed = self.archive.list(SEGMENTS);
        let mut total = 0;
        while let Some((name, bytes)) = listed.try_next().await? {
            let segment = ObjectName::parse(&name);
            if matches!(segment, Some(ObjectName::Segment { first, .. }) if first > base && first <= last) {
                total += bytes;
            }
        }
        Ok(total)
    }

    /// Tells which generations are there: what was deleted since they began lies in them, sealed.
    async fn tell_generations(&self) -> Result<(), WriteError> {
        let mut generations = Vec::new();
        for number in catalog::generations(&self.archive).await? {
            let base = catalog::manifest(&self.archive, number, number).await?;
            generations.push((number, base.signed.manifest.index()));
        }
        self.told.has(generations);
        Ok(())
    }

    fn tell(&self, position: &Position) {
        self.told.reached(ArchivePoint {
            index: position.manifest.index(),
            at_ms: position.manifest.at_ms,
            manifests: position.manifest.sequence,
            ledger_index: position.manifest.ledger.index,
        });
    }

    fn base_is_due(&self, position: &Position) -> bool {
        let age_ms = (self.source.now_ms)().saturating_sub(position.begun_ms);
        u128::from(age_ms) >= self.settings.base_every.as_millis()
            || position.segment_bytes >= self.settings.base_every_bytes
    }

    /// Sends the next base's files while segments go on; answers whether that is done.
    async fn is_sent_ahead(&mut self) -> Result<bool, WriteError> {
        if self.is_ahead {
            return Ok(true);
        }
        match &self.ahead {
            Some(task) if !task.is_finished() => Ok(false),
            Some(_) => {
                if let Some(task) = self.ahead.take() {
                    task.await.map_err(|error| std::io::Error::other(error.to_string()))??;
                }
                self.is_ahead = true;
                Ok(true)
            }
            None => {
                let database = self.source.store.database();
                let (work, hashes) = (self.source.work.clone(), self.source.hashes.clone());
                let (archive, cluster_id) = (self.archive.clone(), self.source.cluster_id);
                self.ahead = Some(tokio::spawn(async move {
                    let make = move || BaseCopy::make(&database, &work, "ahead", cluster_id)?.strip(&hashes);
                    let files = tokio::task::spawn_blocking(make).await;
                    let files = files.map_err(|error| std::io::Error::other(error.to_string()))??;
                    Ok(files.send_ahead(&archive).await?)
                }));
                Ok(false)
            }
        }
    }

    /// A round. Answers `false` if the log lacks the entries: a base is needed.
    async fn write_segments(&mut self) -> Result<bool, WriteError> {
        self.check_place().await?;
        let Some(position) = &self.position else { return Ok(false) };
        let first = position.manifest.index() + 1;
        let mut pending = self.pending(first);
        // The bulk first, so that the view is held for the rest only.
        let upto = self.source.store.published().index();
        if let Stretch::Hole { from } = self.collect(&mut pending, upto).await? {
            self.tell_of_hole(from);
            return Ok(false);
        }
        let database = self.source.store.database();
        let view = database.snapshot();
        self.publish_segments(pending, &view).await
    }

    /// Whether the archive is still where it was: nothing is written into an empty mount point.
    async fn check_place(&self) -> Result<(), WriteError> {
        let Some(position) = &self.position else { return Ok(()) };
        match self.archive.length(&position.manifest.name().to_string()).await? {
            Some(_) => Ok(()),
            None => Err(WriteError::Gone),
        }
    }

    fn pending(&self, first: u64) -> Pending {
        let timeline = self.position.as_ref().map_or(0, |position| position.manifest.head.timeline);
        let builder = SegmentBuilder::new(self.source.cluster_id, timeline, first);
        Pending { builder, sent: Vec::new(), changed: BTreeSet::new() }
    }

    /// Collects the rest of the entries up to a view's index, and publishes them with its digests.
    async fn publish_segments(&mut self, mut pending: Pending, view: &Snapshot<'_>) -> Result<bool, WriteError> {
        let (applied, _, summary) = view.progress()?;
        let Some(applied) = applied else { return Ok(false) };
        let Some(position) = &self.position else { return Ok(false) };
        if applied.index <= position.manifest.index() {
            return Ok(true);
        }
        if summary.timeline != position.manifest.head.timeline {
            return Ok(false);
        }
        if let Stretch::Hole { from } = self.collect(&mut pending, applied.index).await? {
            self.tell_of_hole(from);
            return Ok(false);
        }
        self.close(&mut pending).await?;
        let changed = Changed::Buckets(pending.changed);
        let at = (summary.timeline, applied.index);
        let former = position.ledger.as_ref();
        let kept = ledger::write(&self.archive, view, self.source.cluster_id, at, former, &changed).await?;
        let generation = position.manifest.generation;
        let content = Content::Segments(pending.sent);
        let manifest = self.manifest(generation, applied, &summary, content, &kept)?;
        self.publish(manifest, kept).await?;
        Ok(true)
    }

    fn tell_of_hole(&self, from: u64) {
        tracing::error!(
            from,
            "entries that the archive lacks are not in the log any more: it begins anew with a base, and has a hole before it"
        );
    }

    /// Adds the entries up to `upto` to segments, sending each that is full.
    async fn collect(&self, pending: &mut Pending, upto: u64) -> Result<Stretch, WriteError> {
        while pending.builder.next_index() <= upto {
            let from = pending.builder.next_index();
            let entries = self.source.log.read(from, upto).await?;
            if entries.first().map(|entry| entry.log_id.index) != Some(from) {
                return Ok(Stretch::Hole { from });
            }
            for entry in entries {
                let archived = archived(&entry);
                note_changed(&entry, &mut pending.changed);
                if !pending.builder.push(&archived) {
                    return Err(WriteError::Entry(archived.index));
                }
                if pending.builder.bytes() >= self.settings.segment_bytes {
                    self.close(pending).await?;
                }
            }
        }
        Ok(Stretch::Whole)
    }

    /// Closes and sends a segment.
    async fn close(&self, pending: &mut Pending) -> Result<(), WriteError> {
        if pending.builder.is_empty() {
            return Ok(());
        }
        let next = pending.builder.next_index();
        let timeline = self.position.as_ref().map_or(0, |position| position.manifest.head.timeline);
        let next_builder = SegmentBuilder::new(self.source.cluster_id, timeline, next);
        let builder = std::mem::replace(&mut pending.builder, next_builder);
        let first = builder.first_index();
        let bytes = builder.finish();
        let sha256 = Sha256::digest(&bytes).into();
        let segment = SegmentRef { first, last: next - 1, bytes: bytes.len() as u64, sha256 };
        self.archive.put(&segment.name(), bytes).await?;
        pending.sent.push(segment);
        Ok(())
    }

    /// Makes a base: a generation begins.
    async fn begin_generation(&mut self) -> Result<(), WriteError> {
        if let Some(task) = self.ahead.take() {
            task.abort();
        }
        self.check_place().await?;
        let database = self.source.store.database();
        let (work, cluster_id) = (self.source.work.clone(), self.source.cluster_id);
        let copy = tokio::task::spawn_blocking(move || BaseCopy::make(&database, &work, "base", cluster_id)).await;
        let copy = copy.map_err(|error| std::io::Error::other(error.to_string()))??;
        let (applied, summary, row, continues, kept) = {
            let view = copy.view();
            let (applied, _, summary) = view.progress()?;
            let Some(applied) = applied else { return Ok(()) };
            let row = view.cluster_row()?;
            // What was applied since the last manifest goes into the former generation, if it can.
            let mut continues = false;
            if let Some(position) = &self.position {
                let pending = self.pending(position.manifest.index() + 1);
                continues = self.publish_segments(pending, &view).await?
                    && self.position.as_ref().is_some_and(|now| now.manifest.index() == applied.index);
            }
            let former = self.position.as_ref().and_then(|position| position.ledger.as_ref()).filter(|_| continues);
            let changed = if continues { Changed::Buckets(BTreeSet::new()) } else { Changed::All };
            let at = (summary.timeline, applied.index);
            let kept = ledger::write(&self.archive, &view, cluster_id, at, former, &changed).await?;
            (applied, summary, row, continues, kept)
        };
        let hashes = self.source.hashes.clone();
        let files = tokio::task::spawn_blocking(move || copy.strip(&hashes)).await;
        let files = files.map_err(|error| std::io::Error::other(error.to_string()))??;
        let sent = files.send(&self.archive).await?;
        for dictionary in Dictionary::shipped().iter() {
            let bytes = Bytes::copy_from_slice(dictionary.bytes());
            self.archive.put(&ObjectName::Dictionary(*dictionary.sha256()), bytes).await?;
        }
        let sequence = self.position.as_ref().map_or(0, |position| position.manifest.sequence) + 1;
        let begins = Candidate { generation: sequence, clock_ms: summary.clock_ms, is_held: false };
        let expired = self.position.as_ref().map(|position| position.expired.clone()).unwrap_or_default();
        let plan = expire::plan(&self.archive, &self.settings.keep, &expired, Some(begins)).await?;
        let (key_headers_bytes, key_headers_sha256) = files.key_headers();
        let base = Base {
            files: files.files(),
            key_headers_bytes,
            key_headers_sha256,
            continues,
            expired: plan.expired.clone(),
        };
        let mut manifest = self.manifest(sequence, applied, &summary, Content::Base(base), &kept)?;
        manifest.parent = row.and_then(|row| {
            let place = row.timelines.iter().position(|timeline| timeline.timeline == summary.timeline)?;
            let parent = row.timelines.get(place.checked_sub(1)?)?;
            Some(Parent { timeline: parent.timeline, began_index: row.timelines[place].began_index })
        });
        self.publish(manifest, kept).await?;
        if let Some(position) = &mut self.position {
            position.begun_ms = position.manifest.at_ms;
            (position.segment_bytes, position.expired) = (0, plan.expired.clone());
            tracing::info!(
                generation = position.manifest.generation,
                index = position.manifest.index(),
                files = sent.files,
                bytes = sent.bytes,
                continues,
                "a generation of the archive begins"
            );
        }
        self.is_ahead = false;
        let swept = expire::sweep(&self.archive, &plan).await?;
        if swept.objects > 0 {
            tracing::info!(objects = swept.objects, bytes = swept.bytes, "expired generations are deleted");
        }
        self.tell_generations().await
    }

    fn manifest(
        &self,
        generation: u64,
        applied: LogId,
        summary: &Summary,
        content: Content,
        kept: &Kept,
    ) -> Result<Manifest, WriteError> {
        let before = self.position.as_ref();
        Ok(Manifest {
            sequence: before.map_or(0, |position| position.manifest.sequence) + 1,
            generation,
            previous_sha256: before.map(|position| position.sha256),
            head: Head::of(self.source.cluster_id, applied.index, summary),
            term: applied.committed_leader_id().term,
            parent: before.and_then(|position| position.manifest.parent),
            at_ms: (self.source.now_ms)(),
            clock_ms: summary.clock_ms,
            content,
            ledger: kept.reference,
            dictionaries: Dictionary::shipped().iter().map(|dictionary| *dictionary.sha256()).collect(),
            writer: self.source.name.clone(),
        })
    }

    /// Signs and publishes a manifest, and goes on from it.
    async fn publish(&mut self, manifest: Manifest, kept: Kept) -> Result<(), WriteError> {
        let signed = self.source.signer.sign(manifest).ok_or(WriteError::NoSigner)?;
        let bytes = Bytes::from(signed.encode());
        let name = signed.manifest.name().to_string();
        match self.archive.put_new(&name, bytes.clone()).await {
            Err(StoreError::Exists { .. }) => self.recognize(&signed, &bytes).await?,
            put => put?,
        }
        let (former, mut position) = match self.position.take() {
            Some(Position { ledger, begun_ms, segment_bytes, expired, .. }) => {
                (ledger, (begun_ms, segment_bytes, expired))
            }
            None => (None, (signed.manifest.at_ms, 0, Vec::new())),
        };
        position.1 += signed.manifest.segments().iter().map(|segment| segment.bytes).sum::<u64>();
        let (begun_ms, segment_bytes, expired) = position;
        let position = Position {
            manifest: signed.manifest,
            sha256: Sha256::digest(&bytes).into(),
            ledger: Some(kept.clone()),
            begun_ms,
            segment_bytes,
            expired,
        };
        self.position = Some(position);
        match former {
            Some(former) => ledger::forget(&self.archive, &former, &kept).await?,
            None => ledger::sweep(&self.archive, &kept).await.map(drop)?,
        }
        // Only now: whoever waits for deleted keys to be gone goes by what is told.
        if let Some(position) = &self.position {
            self.tell(position);
        }
        Ok(())
    }

    /// A manifest of our number is there already: ours, whose answer was lost, or another writer's.
    async fn recognize(&mut self, own: &SignedManifest, bytes: &Bytes) -> Result<(), WriteError> {
        let name = own.manifest.name().to_string();
        let there = self.archive.get(&name, kura_cluster::archive::manifest::MANIFEST_BYTES_MAX as u64).await?;
        if there == *bytes {
            return Ok(());
        }
        match SignedManifest::decode(&there) {
            // What this node sent before it was restarted, and what came to be afterwards.
            Ok(found) if found.verify().is_ok() && found.key_sha256() == own.key_sha256() => {
                Err(WriteError::Store(StoreError::Exists { name }))
            }
            Ok(found) => Err(WriteError::OtherWriter(found.manifest.writer)),
            Err(source) => Err(CatalogError::Manifest { name: own.manifest.name(), source }.into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = &self.ahead {
            task.abort();
        }
    }
}

/// An entry as segments hold it.
fn archived(entry: &Entry) -> ArchivedEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(command) => strip(&command.0),
        EntryPayload::Membership(membership) => Payload::Membership(codec::encode_membership(membership).into()),
    };
    ArchivedEntry { term: entry.log_id.committed_leader_id().term, index: entry.log_id.index, payload }
}

/// Notes the buckets of the ledger that an entry may change.
fn note_changed(entry: &Entry, changed: &mut BTreeSet<u32>) {
    let EntryPayload::Normal(command) = &entry.payload else { return };
    let Ok(command) = Command::decode(command.0.clone()) else { return };
    let writes = command.writes.iter().filter(|write| matches!(write.kind(), WriteKind::Put | WriteKind::Delete));
    changed.extend(writes.filter_map(|write| bucket_of(&write.row)));
}
