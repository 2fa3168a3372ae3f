//! How far the snapshots that this node sends have got: for people, and for the purge policy, which
//! keeps the log and the snapshot of a transfer that progresses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::SnapshotManifest;
use crate::raft::types::{LogId, NodeId};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The files' hashes are computed, or looked up.
    Hashing,
    /// The receiver has been asked what it holds.
    Offered,
    /// Pieces are on their way.
    Sending,
    /// Everything is there; the receiver takes it over.
    Installing,
    /// The last attempt failed. The receiver keeps what arrived.
    Interrupted,
}

/// One transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferProgress {
    /// The snapshot.
    pub snapshot_id: [u8; 16],
    /// Its last entry: the log after it is needed.
    pub last_log_id: Option<LogId>,
    /// What is being done.
    pub phase: Phase,
    /// Bytes that the receiver holds, or that are on their way to it; while hashing, bytes hashed.
    pub bytes_done: u64,
    /// Bytes of the snapshot.
    pub bytes_total: u64,
    /// Bytes sent to this target, over all attempts until it was forgotten.
    pub bytes_sent: u64,
    /// When anything last moved.
    pub moved: Instant,
}

/// The transfers to each target, until they are installed.
#[derive(Debug, Default)]
pub struct Transfers {
    by_target: Mutex<BTreeMap<NodeId, TransferProgress>>,
}

impl Transfers {
    /// The transfers that are not finished.
    pub fn all(&self) -> BTreeMap<NodeId, TransferProgress> {
        self.by_target().clone()
    }

    pub(super) fn begin(&self, target: NodeId, manifest: &SnapshotManifest) {
        let mut by_target = self.by_target();
        let bytes_sent = by_target.get(&target).map_or(0, |before| before.bytes_sent);
        let progress = TransferProgress {
            snapshot_id: manifest.snapshot_id,
            last_log_id: manifest.last_log_id,
            phase: Phase::Hashing,
            bytes_done: 0,
            bytes_total: manifest.bytes(),
            bytes_sent,
            moved: Instant::now(),
        };
        by_target.insert(target, progress);
    }

    pub(super) fn enter(&self, target: NodeId, phase: Phase, bytes_done: u64) {
        self.change(target, |progress| {
            progress.phase = phase;
            progress.bytes_done = bytes_done;
            progress.moved = Instant::now();
        });
    }

    pub(super) fn hashed(&self, target: NodeId, bytes: u64) {
        self.change(target, |progress| {
            progress.bytes_done += bytes;
            progress.moved = Instant::now();
        });
    }

    pub(super) fn sent(&self, target: NodeId, bytes: u64) {
        self.change(target, |progress| {
            progress.bytes_done += bytes;
            progress.bytes_sent += bytes;
            progress.moved = Instant::now();
        });
    }

    /// The attempt ended without an installation. What was sent stays sent.
    pub(super) fn interrupt(&self, target: NodeId) {
        self.change(target, |progress| progress.phase = Phase::Interrupted);
    }

    /// Forgets the transfer to a target: it is installed, or this node no longer leads.
    pub fn forget(&self, target: NodeId) {
        self.by_target().remove(&target);
    }

    pub(super) fn get(&self, target: NodeId) -> Option<TransferProgress> {
        self.by_target().get(&target).copied()
    }

    fn change(&self, target: NodeId, change: impl FnOnce(&mut TransferProgress)) {
        if let Some(progress) = self.by_target().get_mut(&target) {
            change(progress);
        }
    }

    fn by_target(&self) -> MutexGuard<'_, BTreeMap<NodeId, TransferProgress>> {
        self.by_target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
