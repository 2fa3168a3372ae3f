//! How far this node's archive is: for the status, the metrics, and the log, which is kept for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kura_proto::v1;

/// How long a position counts after the archive was last seen to work.
const AGE_MAX: Duration = Duration::from_secs(60);

/// What is known of the archive.
#[derive(Debug, Clone, Default)]
struct State {
    index: Option<u64>,
    at_ms: u64,
    worked: Option<Instant>,
    manifests: u64,
    ledger_index: u64,
    generations: Vec<(u64, u64)>,
    trouble: Option<String>,
    /// Whether that takes people: the chain that is there is somebody else's.
    is_foreign: bool,
}

/// What the writer says, and others read.
#[derive(Debug, Default)]
pub struct ArchiveTold {
    state: Mutex<State>,
    check: Mutex<v1::Scrub>,
}

/// How far the archive is, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivePoint {
    /// Log index of its last entry.
    pub index: u64,
    /// When its newest manifest was written.
    pub at_ms: u64,
    /// Number of that manifest.
    pub manifests: u64,
    /// Log index of its key ledger.
    pub ledger_index: u64,
}

impl ArchiveTold {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its writer's checks found, to be read and changed.
    pub fn check(&self) -> MutexGuard<'_, v1::Scrub> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive ends here, as it was just read or written.
    pub fn reached(&self, point: ArchivePoint) {
        let mut state = self.state();
        state.index = Some(point.index);
        (state.at_ms, state.manifests, state.ledger_index) = (point.at_ms, point.manifests, point.ledger_index);
        state.worked = Some(Instant::now());
        state.trouble = None;
        state.is_foreign = false;
    }

    /// Its generations, as they were just read or written: number and base's log index, ascending.
    pub fn has(&self, generations: Vec<(u64, u64)>) {
        self.state().generations = generations;
    }

    /// Its generations that have not expired, as far as they were read.
    pub fn generations(&self) -> Vec<(u64, u64)> {
        self.state().generations.clone()
    }

    /// Something does not work; `why` says what.
    pub fn fails(&self, why: String) {
        let mut state = self.state();
        (state.trouble, state.is_foreign) = (Some(why), false);
    }

    /// What is there is not what the cluster's members wrote: an alarm.
    pub fn fails_as_foreign(&self, why: String) {
        let mut state = self.state();
        (state.trouble, state.is_foreign) = (Some(why), true);
    }

    /// What people have to judge: that the chain which is there is somebody else's.
    pub fn foreign(&self) -> Option<String> {
        let state = self.state();
        state.trouble.clone().filter(|_| state.is_foreign)
    }

    /// Where the archive ends. `None` if it was not read yet, or has not worked for a while.
    pub fn point(&self) -> Option<ArchivePoint> {
        let state = self.state();
        let index = state.index?;
        let works = state.trouble.is_none() || state.worked.is_some_and(|at| at.elapsed() < AGE_MAX);
        works.then_some(ArchivePoint {
            index,
            at_ms: state.at_ms,
            manifests: state.manifests,
            ledger_index: state.ledger_index,
        })
    }

    /// The log is needed from the entry after this one; 0 while that is not known.
    pub fn needs_after(&self) -> u64 {
        self.state().index.unwrap_or(0)
    }

    /// What does not work, in words.
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_told_and_the_log_is_kept() {
        let told = ArchiveTold::default();
        assert_eq!((told.point(), told.needs_after(), told.trouble()), (None, 0, None));
        told.fails("the disk is full".into());
        assert_eq!(told.point(), None);
        let point = ArchivePoint { index: 7, at_ms: 1, manifests: 2, ledger_index: 3 };
        told.reached(point);
        assert_eq!((told.point(), told.needs_after(), told.trouble()), (Some(point), 7, None));
        told.fails("unreachable".into());
        assert_eq!((told.point(), told.needs_after()), (Some(point), 7), "for a moment");
        assert_eq!(told.foreign(), None);
        told.fails_as_foreign("another key".into());
        assert_eq!((told.foreign(), told.trouble()), (Some("another key".into()), Some("another key".into())));
        told.fails("unreachable".into());
        assert_eq!(told.foreign(), None);
        told.has(vec![(1, 4), (9, 40)]);
        assert_eq!(told.generations(), [(1, 4), (9, 40)]);
        told.state().worked = Instant::now().checked_sub(AGE_MAX);
        assert_eq!((told.point(), told.needs_after()), (None, 7));
    }
}
