//! How far the snapshots that this node sends have got: for people, and for the purge policy, which
//! keeps the log and the snapshot of a transfer that progresses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SnapshotManifest;
use crate::raft::types::{LogId, NodeId};

/// How long an interrupted transfer counts as one that will go on: openraft tries again within
/// seconds, unless this node no longer leads or the target is gone.
pub const INTERRUPTED_AGE_MAX: Duration = Duration::from_secs(120);

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
    /// The transfers that are not finished: under way, or interrupted at most
    /// [`INTERRUPTED_AGE_MAX`] ago. So whoever waits for there to be none does not wait for ever.
    pub fn all(&self) -> BTreeMap<NodeId, TransferProgress> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> BTreeMap<NodeId, TransferProgress> {
        let mut by_target = self.by_target();
        by_target.retain(|_, progress| {
            let age = now.saturating_duration_since(progress.moved);
            progress.phase != Phase::Interrupted || age <= INTERRUPTED_AGE_MAX
        });
        by_target.clone()
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
        self.change(target, |progress| {
            progress.phase = Phase::Interrupted;
            progress.moved = Instant::now();
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_transfer_that_goes_on_is_told_of_for_long() {
        let manifest = super::super::tests::manifest(1, &[("000001.sst", b"four")]);
        let transfers = Transfers::default();
        transfers.begin(4, &manifest);
        transfers.begin(5, &manifest);
        transfers.enter(5, Phase::Sending, 1);
        transfers.sent(5, 3);
        transfers.interrupt(4);
        let later = |age| transfers.at(Instant::now() + age);
        assert_eq!(later(Duration::ZERO).into_keys().collect::<Vec<_>>(), [4, 5]);
        let found = later(INTERRUPTED_AGE_MAX + Duration::from_secs(60));
        let (target, progress) = found.into_iter().next().unwrap();
        assert_eq!((target, progress.bytes_done, progress.bytes_sent, progress.bytes_total), (5, 4, 3, 4));
        assert!(transfers.get(4).is_none());
        transfers.forget(5);
        assert!(transfers.all().is_empty());
    }
}
