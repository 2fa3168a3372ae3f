//! Segments that are read before they are wanted: one is read and hashed while another is replayed.
//!
//! Invariants
//! - At most [`AHEAD_MAX`] are held; what is not wanted any more is given up.
//! - They are those of [`get_silently`]: compared with their hash before anybody sees them.

use std::collections::VecDeque;

use bytes::Bytes;
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::segment::SEGMENT_BYTES_MAX;
use tokio::task::JoinHandle;

use super::replay::{ReplayError, get_silently};
use super::store::ArchiveStore;

/// Segments that are read, or lie there read, at the same time, beside the one that is replayed.
const AHEAD_MAX: usize = 2;

/// What is being read ahead.
#[derive(Default)]
pub struct Ahead(VecDeque<(ObjectName, Reading)>);

/// Ends with whoever wanted it.
struct Reading(JoinHandle<Result<Bytes, ReplayError>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ahead {
    /// Begins to read a segment, unless it is being read.
    pub fn begin(&mut self, store: &ArchiveStore, name: &ObjectName) {
        if self.0.iter().any(|(known, _)| known == name) {
            return;
        }
        if self.0.len() >= AHEAD_MAX {
            self.0.pop_front();
        }
        let (store, wanted) = (store.clone(), *name);
        let reading = tokio::spawn(async move { get_silently(&store, &wanted, SEGMENT_BYTES_MAX).await });
        self.0.push_back((*name, Reading(reading)));
    }

    /// A segment that was begun, or is read now.
    pub async fn take(&mut self, store: &ArchiveStore, name: &ObjectName) -> Result<Bytes, ReplayError> {
        let place = self.0.iter().position(|(known, _)| known == name);
        let Some((_, mut reading)) = place.and_then(|place| self.0.remove(place)) else {
            return get_silently(store, name, SEGMENT_BYTES_MAX).await;
        };
        match (&mut reading.0).await {
            Ok(read) => read,
            // Its task has gone: of a runtime that ends.
            Err(_) => get_silently(store, name, SEGMENT_BYTES_MAX).await,
        }
    }
}
