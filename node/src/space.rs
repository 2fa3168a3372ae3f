//! Disk space: writes stop below the low-water mark, reads' journal entries go on, and when the rest is
//! gone they live off a preallocated reserve; when that is spent, reads stop too. All of it recovers
//! without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::FallocateFlags;

const RESERVE_FILE: &str = "space-reserve";

/// Free space below which even the journal entries of reads may fail: the reserve is given up here.
const LAST_BYTES: u64 = 32 << 20;

/// The marks.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Below this many free bytes writes are refused.
    pub low_bytes: u64,
    /// Bytes held by the reserve file. 0: none.
    pub reserve_bytes: u64,
}

/// What fits at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Enough = 0,
    /// Reads only.
    Low = 1,
    /// Nothing.
    Spent = 2,
}

/// Whether a system error means that the disk, or the quota on it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether one of RocksDB's messages means that; for whoever opens the database again. RocksDB's C interface returns
/// text only.
pub(crate) fn message_says_full(message: &str) -> bool {
    recovers_by_itself(message) || message.contains("Disk quota exceeded")
}

/// Whether one of RocksDB's messages means a full disk, after which it goes on by itself when there is space. After any
/// other failed flush, also for want of quota, it takes no write any more until it is opened again.
pub(crate) fn recovers_by_itself(message: &str) -> bool {
    message.contains("No space left on device")
}

/// Watches the free space of the data directory's file system.
#[derive(Debug)]
pub struct Space {
    directory: PathBuf,
    marks: Marks,
    level: AtomicU8,
}

impl Space {
    /// Watches a directory, and makes the reserve if there is room for it. Call [`Space::look`] from
    /// time to time.
    pub fn new(directory: &Path, marks: Marks) -> Space {
        let space = Space { directory: directory.to_owned(), marks, level: AtomicU8::new(0) };
        space.look();
        space
    }

    /// Bytes free for this process.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Looks at the file system, makes or gives up the reserve, and sets the level. An answer that cannot
    /// be had changes nothing.
    pub fn look(&self) -> Level {
        if let Ok(free) = self.free_bytes() {
            let held = self.reserve_is_held();
            let level = self.marks.level(free, held);
            match level {
                Level::Enough if !held && free > self.marks.low_bytes.saturating_add(self.marks.reserve_bytes) => {
                    self.make_reserve();
                }
                Level::Low if held && free < LAST_BYTES => self.give_up_reserve(),
                _ => {}
            }
            let before = self.level.swap(level as u8, Ordering::Relaxed);
            if before != level as u8 {
                tracing::warn!(free_bytes = free, ?level, "the level of free disk space has changed");
            }
        }
        self.level()
    }

    /// The level of the last look.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Enough,
            1 => Level::Low,
            _ => Level::Spent,
        }
    }

    /// Whether writes fit.
    pub fn check_writes(&self) -> Result<(), String> {
        match self.level() {
            Level::Enough => Ok(()),
            _ => Err(format!(
                "less than {} MiB are free; writes are refused until there is space",
                self.marks.low_bytes >> 20
            )),
        }
    }

    /// Whether reads' journal entries fit.
    pub fn check_reads(&self) -> Result<(), String> {
        match self.level() {
            Level::Spent => Err(format!(
                "less than {} MiB are free and the reserve is spent; reads are refused too, as they could not be journalled",
                LAST_BYTES >> 20
            )),
            _ => Ok(()),
        }
    }

    fn reserve(&self) -> PathBuf {
        self.directory.join(RESERVE_FILE)
    }

    fn reserve_is_held(&self) -> bool {
        self.marks.reserve_bytes > 0 && self.reserve().exists()
    }

    fn make_reserve(&self) {
        if self.marks.reserve_bytes == 0 {
            return;
        }
        let path = self.reserve();
        let make = || {
            let file = std::fs::File::create(&path)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.marks.reserve_bytes)?;
            file.sync_all()
        };
        if let Err(error) = make() {
            tracing::warn!(%error, "the reserve of disk space could not be made");
            let _ = std::fs::remove_file(&path);
        }
    }

    fn give_up_reserve(&self) {
        match std::fs::remove_file(self.reserve()) {
            Ok(()) => tracing::error!("the disk is full: reads go on from the reserve; make space now"),
            Err(error) => tracing::error!(%error, "the reserve of disk space could not be given up"),
        }
    }
}

impl Marks {
    fn level(&self, free_bytes: u64, reserve_is_held: bool) -> Level {
        match free_bytes {
            free if free < LAST_BYTES && !reserve_is_held => Level::Spent,
            free if free < self.low_bytes => Level::Low,
            _ => Level::Enough,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::open::OpenError;
    use crate::state::DatabaseError;

    #[test]
    fn reads_go_on_longer_than_writes_and_both_come_back() {
        let marks = Marks { low_bytes: 4 * LAST_BYTES, reserve_bytes: LAST_BYTES };
        let levels = |held| {
            [4 * LAST_BYTES, 4 * LAST_BYTES - 1, LAST_BYTES, LAST_BYTES - 1, 0].map(|free| marks.level(free, held))
        };
        assert_eq!(levels(true), [Level::Enough, Level::Low, Level::Low, Level::Low, Level::Low]);
        assert_eq!(levels(false), [Level::Enough, Level::Low, Level::Low, Level::Spent, Level::Spent]);
    }

    #[test]
    fn the_reserve_is_really_allocated_and_given_up() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let space = Space::new(directory.path(), Marks { low_bytes: 1, reserve_bytes: 1 << 20 });
        let reserve = directory.path().join(RESERVE_FILE);
        assert!(reserve.metadata().unwrap().blocks() * 512 >= 1 << 20);
        assert!(space.check_writes().is_ok());
        space.give_up_reserve();
        assert!(!reserve.exists());
        space.look();
        assert!(reserve.exists(), "made again once there is space");
    }

    /// An error of RocksDB that says this: it names the directory in which there is no database.
    fn error(words: &str) -> rocksdb::Error {
        let directory = tempfile::tempdir().unwrap();
        rocksdb::DB::open(&rocksdb::Options::default(), directory.path().join(words)).unwrap_err()
    }

    #[test]
    fn who_goes_on_after_which_words() {
        for (words, state_waits, log_waits) in [
            ("No space left on device", true, true),
            ("Disk quota exceeded", false, true),
            ("Permission denied", false, false),
        ] {
            let source = error(words);
            assert!(source.as_ref().contains(words), "{source}");
            let of_the_log = OpenError::Database(source.clone());
            let of_the_state = DatabaseError::RocksDb { directory: PathBuf::new(), source };
            assert_eq!((of_the_state.is_full(), of_the_log.is_full()), (state_waits, log_waits), "{words}");
        }
    }

    #[test]
    fn below_the_mark_the_refusal_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::new(directory.path(), Marks { low_bytes: u64::MAX, reserve_bytes: 0 });
        assert_eq!(space.level(), Level::Low);
        assert!(space.check_writes().unwrap_err().contains("writes are refused"));
        assert!(space.check_reads().is_ok());
    }
}
