//! What the rest of the node holds of the state: the database of the moment, the published summary,
//! and a way to wait until an index has been applied.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use kura_cluster::apply::{Summary, state_digest};
use kura_cluster::head::Head;
use tokio::sync::watch;

use super::database::{Database, DatabaseError};
use crate::raft::types::{LogId, StoredMembership};

/// Heads that wait to be signed; those of about a million entries.
const HEADS_WAITING_MAX: usize = 1024;

/// What became visible with the last applied batch.
#[derive(Debug, Clone)]
pub struct Published {
    /// Last applied entry.
    pub applied: Option<LogId>,
    /// Membership in force at it.
    pub membership: StoredMembership,
    /// The state's summary at it.
    pub summary: Arc<Summary>,
    /// Bytes of commands applied since this process started.
    pub bytes: u64,
}

impl Published {
    /// Index of the last applied entry, 0 before the first.
    pub fn index(&self) -> u64 {
        self.applied.as_ref().map_or(0, |id| id.index)
    }

    /// The digest of the whole state at it.
    pub fn digest(&self) -> [u8; 32] {
        state_digest(&self.summary)
    }
}

fn deletions(summary: &Summary) -> (u64, u32) {
    (summary.key_deletions_day, summary.key_deletions)
}

/// A cheap handle to the state.
#[derive(Clone)]
pub struct StateStore {
    database: Arc<ArcSwap<Database>>,
    published: watch::Sender<Arc<Published>>,
    /// Index of the last applied entry, for the log.
    applied_index: Arc<AtomicU64>,
    heads: Arc<Mutex<VecDeque<Head>>>,
    /// Day and number of the last deletions of keys.
    key_deletions: watch::Sender<(u64, u32)>,
    /// Whether a snapshot is to be made at the next head, and the index of the last one made so.
    snapshot: watch::Sender<HeadSnapshot>,
}

/// A snapshot at an index at which every member makes a head, so that others can bear it out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeadSnapshot {
    pub(super) wanted: bool,
    made_at: Option<u64>,
    /// Up to where it goes, as [`Published::bytes`] counts.
    bytes: u64,
}

impl StateStore {
    pub(super) fn new(database: Database, published: Published) -> StateStore {
        StateStore {
            database: Arc::new(ArcSwap::from_pointee(database)),
            applied_index: Arc::new(AtomicU64::new(published.index())),
            key_deletions: watch::Sender::new(deletions(&published.summary)),
            published: watch::Sender::new(Arc::new(published)),
            heads: Arc::default(),
            snapshot: watch::Sender::new(HeadSnapshot { wanted: true, ..HeadSnapshot::default() }),
        }
    }

    /// The state of a database that no node runs on.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn at_rest(database: Database) -> Result<StateStore, DatabaseError> {
        let (applied, membership, summary) = database.progress()?;
        Ok(StateStore::new(database, Published { applied, membership, summary: Arc::new(summary), bytes: 0 }))
    }

    /// The database of the moment. An installed snapshot replaces it: do not keep it for long.
    pub fn database(&self) -> Arc<Database> {
        self.database.load_full()
    }

    /// What was published last.
    pub fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// Follows what is published.
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// Waits until the entry at `index` has been applied here; `false` if it was not by the deadline, as
    /// on a member that no longer hears from the leader.
    pub async fn applied(&self, index: u64, deadline: Instant) -> bool {
        let mut watch = self.published.subscribe();
        let reached = watch.wait_for(|published| published.index() >= index);
        matches!(tokio::time::timeout_at(deadline.into(), reached).await, Ok(Ok(_)))
    }

    /// Index of the last applied entry, as it rises.
    pub fn applied_index(&self) -> Arc<AtomicU64> {
        self.applied_index.clone()
    }

    /// Tells when rows of keys were deleted here.
    pub fn key_deletions(&self) -> watch::Receiver<(u64, u32)> {
        self.key_deletions.subscribe()
    }

    /// Takes the heads that were noted since the last call, the lowest first.
    pub fn take_heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Index of the newest snapshot that was made at a head, once there is one.
    pub fn snapshot_at_head(&self) -> Option<u64> {
        self.snapshot.borrow().made_at
    }

    /// Has a snapshot made at the next head, and waits for it: up to where it goes, as [`Published::bytes`] counts;
    /// `None` if it was not made by the deadline, as when nothing is applied.
    pub async fn make_snapshot_at_head(&self, deadline: Instant) -> Option<u64> {
        self.snapshot.send_modify(|snapshot| snapshot.wanted = true);
        let mut watch = self.snapshot.subscribe();
        let made = watch.wait_for(|snapshot| !snapshot.wanted);
        if let Ok(Ok(made)) = tokio::time::timeout_at(deadline.into(), made).await {
            return Some(made.bytes);
        }
        // Else it would be made at any time later, also while a transfer reads the one before.
        self.snapshot.send_modify(|snapshot| snapshot.wanted = false);
        None
    }

    pub(super) fn note_heads(&self, noted: Vec<Head>) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.extend(noted);
        let surplus = heads.len().saturating_sub(HEADS_WAITING_MAX);
        heads.drain(..surplus);
    }

    /// Whether [`StateStore::make_snapshot_at_head`] waits for a head.
    pub fn snapshot_is_wanted(&self) -> bool {
        self.snapshot.borrow().wanted
    }

    pub(super) fn snapshot_is_made(&self, index: u64, bytes: u64) {
        self.snapshot.send_replace(HeadSnapshot { wanted: false, made_at: Some(index), bytes });
    }

    pub(super) fn publish(&self, published: Published) {
        self.applied_index.store(published.index(), Ordering::Release);
        let deleted = deletions(&published.summary);
        self.published.send_replace(Arc::new(published));
        self.key_deletions.send_if_modified(|before| std::mem::replace(before, deleted) != deleted);
    }

    pub(super) fn replace(&self, database: Database) -> Arc<Database> {
        self.database.swap(Arc::new(database))
    }
}
