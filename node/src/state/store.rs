//! What the rest of the node holds of the state: the database of the moment, the published summary,
//! and a way to wait until an index has been applied.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use kura_cluster::apply::{Summary, state_digest};
use tokio::sync::watch;

use super::database::Database;
use crate::raft::types::{LogId, StoredMembership};

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

/// A cheap handle to the state.
#[derive(Clone)]
pub struct StateStore {
    database: Arc<ArcSwap<Database>>,
    published: watch::Sender<Arc<Published>>,
}

impl StateStore {
    pub(super) fn new(database: Database, published: Published) -> StateStore {
        StateStore {
            database: Arc::new(ArcSwap::from_pointee(database)),
            published: watch::Sender::new(Arc::new(published)),
        }
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

    pub(super) fn publish(&self, published: Published) {
        self.published.send_replace(Arc::new(published));
    }

    pub(super) fn replace(&self, database: Database) -> Arc<Database> {
        self.database.swap(Arc::new(database))
    }
}
