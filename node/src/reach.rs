//! How far committed writes have got beyond the prefecture: what the backup members have synced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use crate::gateway::limits::REACH_TIMEOUT;

/// How far a write had got when it was answered. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// A backup member has synced it.
    BeyondPrefecture = 1,
    /// Committed; the backup did not report it within the limit.
    NotYet = 2,
    /// Committed; the membership has no backup.
    NoBackup = 3,
    /// Nobody asked to wait.
    NotWaited = 4,
}

/// The last synced position (term, index) that each member reported, by Raft id.
#[derive(Debug)]
pub struct Reach(watch::Sender<BTreeMap<u64, (u64, u64)>>);

impl Default for Reach {
    fn default() -> Reach {
        Reach(watch::Sender::new(BTreeMap::new()))
    }
}

impl Reach {
    /// Whether someone waits at present.
    pub fn is_awaited(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Notes what a backup member reports as synced.
    pub fn report(&self, backup: u64, term: u64, index: u64) {
        self.0.send_if_modified(|known| {
            let position = known.entry(backup).or_default();
            let moved = *position < (term, index);
            *position = (*position).max((term, index));
            moved
        });
    }

    /// Waits until one of `backups` (those of the membership at this moment) has synced the entry that a
    /// leader of `term` acknowledged at `index`.
    ///
    /// A log whose last synced entry is of this term or a later one, at this index or beyond, contains
    /// every entry that was committed up to it in this term.
    pub async fn wait(&self, backups: &BTreeSet<u64>, term: u64, index: u64) -> Reached {
        self.wait_for(backups, term, index, REACH_TIMEOUT).await
    }

    async fn wait_for(&self, backups: &BTreeSet<u64>, term: u64, index: u64, limit: Duration) -> Reached {
        if backups.is_empty() {
            return Reached::NoBackup;
        }
        let mut watch = self.0.subscribe();
        let covered = |known: &BTreeMap<u64, (u64, u64)>| {
            known.iter().any(|(id, (t, i))| backups.contains(id) && *t >= term && *i >= index)
        };
        match tokio::time::timeout(limit, watch.wait_for(covered)).await {
            Ok(Ok(_)) => Reached::BeyondPrefecture,
            _ => Reached::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn plain_success_only_when_a_backup_has_it() {
        let reach = Reach::default();
        let (none, nine) = (BTreeSet::new(), BTreeSet::from([9]));
        assert_eq!(reach.wait(&none, 1, 5).await, Reached::NoBackup);
        // A backup that was never heard of is a backup all the same.
        assert_eq!(reach.wait(&nine, 1, 5).await, Reached::NotYet);
        reach.report(9, 1, 4);
        assert_eq!(reach.wait(&nine, 1, 5).await, Reached::NotYet);
        // An older term's entry at a higher index proves nothing.
        assert_eq!(reach.wait(&nine, 2, 3).await, Reached::NotYet);
        reach.report(9, 1, 5);
        assert_eq!(reach.wait(&nine, 1, 5).await, Reached::BeyondPrefecture);
        reach.report(7, 9, 99);
        assert_eq!(reach.wait(&nine, 9, 99).await, Reached::NotYet, "not a backup");
        reach.report(9, 1, 3);
        assert_eq!(reach.wait(&nine, 1, 5).await, Reached::BeyondPrefecture, "reports never go back");
    }
}
