//! The backup's writer: follows what is applied here, and puts it into the archive.
//!
//! A round ends with a manifest. It takes a view of the state at some index, sends the log entries up to that
//! index as segments, writes the ledger of that view if keys changed, publishes a manifest with the view's
//! digests. A base is made of a checkpoint in the same way, after a round up to the checkpoint's index.
//!
//! - `segments`: the log entries of a round, and its manifest
//! - `generation`: a base, and what expires with it
//! - `publish`: a manifest put into the chain
//! - `mend`: objects made again that a check found damaged
//!
//! Invariants
//! - The position is the newest manifest's; whatever fails in a round, the next one begins there again.
//! - Nothing is written after a manifest whose signer the cluster does not know ([`super::signers`]), nor after another one
//!   than was read or written here last: then people are told.
//! - A manifest is published with *put if absent*. If another one is there, another writer is at work: one of
//!   ours, of before a restart, is gone on from; another's stops this writer until the node is restarted.

mod generation;
mod mend;
mod publish;
mod segments;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use kura_cluster::ClusterId;
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::archive::manifest::{Gap, MANIFEST_BYTES_MAX};
use kura_cluster::archive::{Manifest, ObjectName, Sha256Hash, SignedManifest};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::base::{BaseError, Sent};
use super::catalog::{self, CatalogError};
use super::check::Mend;
use super::ledger::{self, Kept, LedgerError};
use super::signers::{Signers, UnknownSigner};
use super::store::{ArchiveStore, StoreError};
use super::told::{ArchivePoint, ArchiveTold};
use super::unfinished::remove_unfinished;
use crate::raft::types::Entry;
use crate::snapshot::FileHashes;
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
    /// What is there was signed by nobody whom the cluster knows.
    #[error(transparent)]
    Signer(#[from] UnknownSigner),
    /// The file of known signers.
    #[error("the keys that may sign the archive cannot be kept: {0}")]
    Signers(std::io::Error),
    /// The manifest after which the next one was to come is another one by now.
    #[error(
        "{0} is not the one that was read or written here: somebody else has replaced it. Nothing is written after it; \
         what is there is read anew"
    )]
    Replaced(ObjectName),
    /// An entry that no segment takes.
    #[error("entry {0} is too large for a segment")]
    Entry(u64),
}

impl WriteError {
    /// Whether trying again is of no use.
    fn is_final(&self) -> bool {
        matches!(self, WriteError::OtherCluster | WriteError::LaterTimeline { .. } | WriteError::OtherWriter(_))
    }

    /// Whether somebody else than the cluster's members wrote what is there.
    fn is_foreign(&self) -> bool {
        matches!(
            self,
            WriteError::Signer(_) | WriteError::Replaced(_) | WriteError::OtherCluster | WriteError::OtherWriter(_)
        )
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
    /// Whose manifests are gone on from.
    pub signers: Arc<Signers>,
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
    /// Whether what a killed writer left is removed. Once: later this one's own would be taken for it.
    is_tidy: bool,
    /// Bytes applied when the last round ended, and when that was.
    round: (u64, Instant),
    /// Files of the next base that are sent ahead.
    ahead: Option<JoinHandle<Result<Sent, WriteError>>>,
    is_ahead: bool,
    mends: Option<mpsc::Receiver<Mend>>,
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
            is_tidy: false,
            round: (0, Instant::now()),
            ahead: None,
            is_ahead: false,
            mends: None,
        }
    }

    /// Has it make objects again that a check finds damaged, between its rounds.
    pub fn mending(mut self, mends: mpsc::Receiver<Mend>) -> Writer {
        self.mends = Some(mends);
        self
    }

    /// Has it read anew where the archive ends, as after a failure.
    #[cfg(test)]
    pub(super) fn look_again(&mut self) {
        self.is_known = false;
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
                    match error.is_foreign() {
                        true => self.told.fails_as_foreign(words),
                        false => self.told.fails(words),
                    }
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
        self.mend_asked().await;
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
            return if self.position.is_some() { Err(WriteError::Gone) } else { self.tidy().await };
        };
        // Another cluster's is told as such; beyond that nothing that it says counts before its signer is known.
        let is_ours = found.signed.manifest.head.cluster_id == self.source.cluster_id;
        if is_ours {
            self.source.signers.check(&found.signed)?;
        }
        let key = found.signed.key_sha256();
        let manifest = found.signed.manifest;
        let own = self.source.store.published().summary.timeline;
        if !is_ours {
            return Err(WriteError::OtherCluster);
        }
        if manifest.head.timeline > own {
            return Err(WriteError::LaterTimeline { found: manifest.head.timeline, own });
        }
        let base = catalog::manifest(&self.archive, manifest.generation, manifest.generation).await?;
        // What has expired, it says.
        self.source.signers.check(&base.signed)?;
        self.source.signers.keep(key).map_err(WriteError::Signers)?;
        let base = base.signed.manifest;
        self.tidy().await?;
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

    async fn tidy(&mut self) -> Result<(), WriteError> {
        if !self.is_tidy {
            let removed = remove_unfinished(&self.archive).await?;
            if removed > 0 {
                tracing::info!(removed, "what a writer that was killed left unfinished in the archive is removed");
            }
            self.is_tidy = true;
        }
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
            let index = match catalog::manifest(&self.archive, number, number).await {
                Ok(base) => base.signed.manifest.index(),
                // It may hold anything, so it is taken to hold everything. Nothing is written after it.
                Err(error) if error.is_of_the_object() => {
                    tracing::error!(%error, "an older generation cannot be restored: bring this object back from a copy");
                    0
                }
                Err(error) => return Err(error.into()),
            };
            generations.push((number, index));
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

    /// Whether the archive still ends where it did: nothing is written into an empty mount point, nor after a manifest that
    /// somebody put in the place of the one that is known.
    async fn check_place(&self) -> Result<(), WriteError> {
        let Some(position) = &self.position else { return Ok(()) };
        let name = position.manifest.name();
        match self.archive.get(&name.to_string(), MANIFEST_BYTES_MAX as u64).await {
            Ok(bytes) if Sha256::digest(&bytes)[..] == position.sha256 => Ok(()),
            Ok(_) | Err(StoreError::Long { .. }) => Err(WriteError::Replaced(name)),
            Err(error) if error.is_missing() => Err(WriteError::Gone),
            Err(error) => Err(error.into()),
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
