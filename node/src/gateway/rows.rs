//! Opened rows, kept by revision: a hot participant is opened once, not at each access.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::{RowKey, Table};
use kura_cluster::{Pseudonym, Revision};
use quick_cache::sync::Cache;

use crate::state::Database;

/// Opened rows kept.
const ROWS_CACHED: usize = 8_000;

/// A row as a decision uses it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Its revision; [`Revision::ABSENT`] if it is not there.
    pub revision: Revision,
    /// The opened value.
    pub value: Option<Arc<T>>,
}

/// Opened rows by row key. A row counts only if its revision is still the present one.
pub struct RowCache(Cache<Bytes, (Revision, Arc<dyn Any + Send + Sync>)>);

impl Default for RowCache {
    fn default() -> RowCache {
        RowCache(Cache::new(ROWS_CACHED))
    }
}

impl RowCache {
    /// The opened row of exactly this revision.
    pub fn get<T: Any + Send + Sync>(&self, key: &Bytes, revision: Revision) -> Option<Arc<T>> {
        let (kept, value) = self.0.get(key)?;
        if kept == revision { value.downcast().ok() } else { None }
    }

    /// Forgets rows that are no longer there, and those of participants who are no longer there.
    pub fn forget_missing(&self, database: &Database) {
        let is_there = |key: &RowKey| !matches!(database.header(key), Ok(None));
        self.0.retain(|key, _| {
            let key = RowKey::from_bytes(key.clone());
            let participant = match key.table() {
                Some(
                    Table::RecordControl | Table::Record | Table::Staging | Table::LinkReverse | Table::ConsentHistory,
                ) => key.as_bytes().get(1..17).and_then(|id| Pseudonym::from_slice(id).ok()),
                _ => None,
            };
            match participant {
                Some(pseudonym) => is_there(&RowKey::participant(&pseudonym)),
                None => is_there(&key),
            }
        });
    }

    /// Keeps an opened row.
    pub fn keep<T: Any + Send + Sync>(&self, key: &[u8], revision: Revision, value: Arc<T>) {
        // A key of its own: a slice would keep what it was cut from in memory.
        self.0.insert(Bytes::copy_from_slice(key), (revision, value));
    }
}
