//! How far committed writes have got beyond the prefecture: what the backup members have synced.

use std::collections::BTreeMap;
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

/// The last synced position (term, index) of each backup member, by Raft id; `None`: never heard of.
#[derive(Debug)]
pub struct Reach(watch::Sender<BTreeMap<u64, Option<(u64, u64)>>>);

impl Default for Reach {
    fn default() -> Reach {
        Reach(watch::Sender::new(BTreeMap::new()))
    }
}

impl Reach {
    /// Sets which backup members there are; positions of those that stay are kept.
    pub fn set_backups(&self, backups: impl IntoIterator<Item = u64>) {
        let backups: Vec<u64> = backups.into_iter().collect();
        self.0.send_if_modified(|known| {
            let before = known.len();
            known.retain(|id, _| backups.contains(id));
            let gone = known.len() != before;
            let mut new = false;
            for id in backups {
                new |= !known.contains_key(&id);
                known.entry(id).or_default();
            }
            gone || new
        });
    }

    /// Whether someone waits at present.
    pub fn is_awaited(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Notes what a backup member reports as synced.
    pub fn report(&self, backup: u64, term: u64, index: u64) {
        self.0.send_if_modified(|known| match known.get_mut(&backup) {
            Some(position) if *position < Some((term, index)) => {
                *position = Some((term, index));
                true
            }
            _ => false,
        });
    }

    /// Waits until a backup has synced the entry that a leader of `term` acknowledged at `index`.
    ///
    /// A log whose last synced entry is of this term or a later one, at this index or beyond, contains
    /// every entry that was committed up to it in this term.
    pub async fn wait(&self, term: u64, index: u64) -> Reached {
        self.wait_for(term, index, REACH_TIMEOUT).await
    }

    async fn wait_for(&self, term: u64, index: u64, limit: Duration) -> Reached {
        let mut watch = self.0.subscribe();
        let covered = |known: &BTreeMap<u64, Option<(u64, u64)>>| {
            known.is_empty() || known.values().flatten().any(|(t, i)| *t >= term && *i >= index)
        };
        match tokio::time::timeout(limit, watch.wait_for(covered)).await {
            Ok(Ok(known)) if known.is_empty() => Reached::NoBackup,
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
        assert_eq!(reach.wait(1, 5).await, Reached::NoBackup);
        reach.set_backups([9]);
        assert_eq!(reach.wait(1, 5).await, Reached::NotYet);
        reach.report(9, 1, 4);
        assert_eq!(reach.wait(1, 5).await, Reached::NotYet);
        // An older term's entry at a higher index proves nothing.
        assert_eq!(reach.wait(2, 3).await, Reached::NotYet);
        reach.report(9, 1, 5);
        assert_eq!(reach.wait(1, 5).await, Reached::BeyondPrefecture);
        reach.report(7, 9, 99);
        assert_eq!(reach.wait(9, 99).await, Reached::NotYet, "not a backup");
        reach.set_backups([]);
        assert_eq!(reach.wait(9, 99).await, Reached::NoBackup);
    }
}
