//! What this member has cleared from its disk: not only deleted, but gone from every file.
//!
//! Deleting a row leaves its bytes in older files of a database, in checkpoints that link them, and in the log
//! entry that once wrote it. An erasure is certified only when every member has told that nothing of that is
//! left, each as the log index up to which it holds.
//!
//! Invariants
//! - What is told is about the files that are in use now: another state database, as a snapshot brings it, has
//!   cleared nothing yet.
//! - Nothing of it is kept across a restart: it is done again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kura_cluster::row::{ERASURE_NAMES_MAX, ErasureArchive, ErasureReport};

/// What arrived of a snapshot and has not grown for this long, will not.
const RECEPTION_AGE_MAX: Duration = Duration::from_secs(60);
/// How long files that nobody needs may take to disappear, and views of before to be given up.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Log indexes up to which nothing that was deleted is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// The log is purged up to here.
    pub purged: u64,
    /// What was purged is in no file of the log any more.
    pub log: u64,
    /// What was deleted is in no file of keys and rows any more.
    pub keys: u64,
    /// … and in no checkpoint.
    pub checkpoints: u64,
}

impl Cleared {
    /// What it says of keys that the log told of up to an index.
    pub fn report(self, member: &str, raft_id: u64, keys_last_index: u64, at_ms: u64) -> ErasureReport {
        ErasureReport {
            member: member.to_owned(),
            raft_id,
            purged_index: self.purged,
            log_compacted: self.log >= keys_last_index,
            keys_compacted: self.keys >= keys_last_index,
            checkpoints_gone: self.checkpoints >= keys_last_index,
            at_ms,
            archive: None,
        }
    }

    /// Whether nothing of before an index is left anywhere.
    pub fn covers(self, index: u64) -> bool {
        self.purged.min(self.log).min(self.keys).min(self.checkpoints) >= index
    }
}

/// What the archive that a member writes holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveHolds {
    /// Log index of its last entry.
    pub index: u64,
    /// Log index of its key ledger.
    pub ledger_index: u64,
    /// Number and base's log index of each generation, ascending.
    pub generations: Vec<(u64, u64)>,
}

impl ArchiveHolds {
    /// What it may still have of rows that were deleted up to an index.
    pub fn of_rows_until(&self, keys_last_index: u64) -> ErasureArchive {
        let before = self.generations.iter().filter(|(_, base_index)| *base_index < keys_last_index);
        ErasureArchive {
            index: self.index,
            ledger_index: self.ledger_index,
            generations: before.map(|(number, _)| *number).take(ERASURE_NAMES_MAX).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    wanted: u64,
    /// The state database of which `keys` and `checkpoints` hold.
    database: PathBuf,
    cleared: Cleared,
    /// What was applied when the state's files were clean: checkpoints of later are clean, too.
    clean_since: u64,
}

/// What is asked of this member, and how far it has got.
#[derive(Debug, Default)]
pub struct Clearing(Mutex<State>);

impl Clearing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks that everything be cleared that was deleted up to a log index.
    pub fn want(&self, index: u64) {
        let mut state = self.state();
        state.wanted = state.wanted.max(index);
    }

    /// The index that is asked for and not reached yet, with what is cleared by now.
    pub fn missing(&self, database: &Path) -> Option<(u64, Cleared)> {
        let cleared = self.cleared(database);
        let wanted = self.state().wanted;
        (wanted > 0 && !cleared.covers(wanted)).then_some((wanted, cleared))
    }

    /// What is cleared, if this is the state database in use.
    pub fn cleared(&self, database: &Path) -> Cleared {
        let state = self.state();
        match state.database == database {
            true => state.cleared,
            false => Cleared { keys: 0, checkpoints: 0, ..state.cleared },
        }
    }

    /// The state's files hold nothing that was deleted up to an index. Found clean with `clean_since` applied.
    pub fn note_keys(&self, database: &Path, index: u64, clean_since: u64) {
        let mut state = self.state();
        state.database = database.to_owned();
        state.cleared.keys = index;
        state.cleared.checkpoints = 0;
        state.clean_since = clean_since;
    }

    /// From which index on checkpoints are clean.
    pub fn clean_since(&self) -> u64 {
        self.state().clean_since
    }

    /// No checkpoint of before is left.
    pub fn note_checkpoints(&self) {
        let mut state = self.state();
        state.cleared.checkpoints = state.cleared.keys;
    }

    /// The log is purged up to an index.
    pub fn note_purged(&self, index: u64) {
        self.state().cleared.purged = index;
    }

    /// The log's files hold nothing up to an index.
    pub fn note_log(&self, index: u64) {
        self.state().cleared.log = index;
    }
}

/// Whether every checkpoint, and every state database but the one in use, is gone that was made before
/// `clean_since` was applied.
pub fn only_clean_checkpoints(data: &Path, database: &Path, clean_since: u64) -> bool {
    let mut snapshots = entries(&data.join("snapshots")).into_iter().filter(|path| !path.ends_with("incoming"));
    let is_clean = |path: PathBuf| checkpoint_index(&path).is_some_and(|index| index > clean_since);
    let mut databases = entries(&data.join("state")).into_iter().filter(|path| path.is_dir());
    snapshots.all(is_clean) && databases.all(|path| path == database)
}

/// What arrives, or arrived, of another member's snapshot. `stale`: nothing of it has grown for a while.
pub fn reception(data: &Path) -> Option<Reception> {
    let parts = entries(&data.join("snapshots").join("incoming"));
    if parts.is_empty() {
        return None;
    }
    let newest = parts.iter().filter_map(|path| path.metadata().ok()?.modified().ok()).max();
    let age = newest.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
    Some(Reception { stale: age > RECEPTION_AGE_MAX })
}

/// Files of a snapshot of another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Nothing of it has grown for a while.
    pub stale: bool,
}

/// Waits a while until none of these files is in a directory any more.
pub fn are_gone(directory: &Path, files: &BTreeSet<String>) -> bool {
    comes_true(|| !files.iter().any(|file| directory.join(file).exists()))
}

/// Waits a while until something holds.
pub fn comes_true(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + GONE_TIMEOUT;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The applied index of a checkpoint, by its directory's name.
fn checkpoint_index(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_has_cleared_nothing() {
        let clearing = Clearing::default();
        let (one, other) = (Path::new("state/database-0"), Path::new("state/database-1"));
        assert_eq!(clearing.missing(one), None, "nothing is asked");
        clearing.want(7);
        clearing.want(5);
        clearing.note_keys(one, 9, 11);
        clearing.note_checkpoints();
        clearing.note_purged(8);
        assert_eq!(clearing.missing(one).map(|(wanted, _)| wanted), Some(7), "the log is not compacted");
        clearing.note_log(8);
        assert_eq!(clearing.missing(one), None);
        assert!(clearing.cleared(one).report("voter-1", 1, 8, 0).is_complete(8));
        let report = clearing.cleared(other).report("voter-1", 1, 7, 0);
        assert!(report.log_compacted && !report.keys_compacted && !report.checkpoints_gone, "{report:?}");
        // Cleaning anew begins with checkpoints that are not known.
        clearing.note_keys(one, 12, 13);
        assert_eq!((clearing.cleared(one).checkpoints, clearing.clean_since()), (0, 13));
    }

    #[test]
    fn old_checkpoints_and_databases_are_noticed() {
        let data = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(data.path().join(path)).unwrap();
        let gone = |path: &str| std::fs::remove_dir_all(data.path().join(path)).unwrap();
        make("state/database-1");
        make("snapshots/incoming");
        let is_clean = || only_clean_checkpoints(data.path(), &data.path().join("state/database-1"), 41);
        assert!(is_clean());
        make("snapshots/00000000000000000042-00ab");
        assert!(is_clean());
        for old in ["snapshots/00000000000000000041-00ab", "snapshots/what-is-this", "state/database-0"] {
            make(old);
            assert!(!is_clean(), "{old}");
            gone(old);
        }
        assert_eq!(reception(data.path()), None);
        std::fs::write(data.path().join("snapshots/incoming/part"), "x").unwrap();
        assert_eq!(reception(data.path()), Some(Reception { stale: false }));
    }
}
