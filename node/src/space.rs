//! Disk space: writes stop below the low-water mark, reads' journal entries go on into the reserve,
//! and when that is spent reads stop too. All of it recovers without a restart.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

/// The marks, in bytes of free space.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Below this, writes are refused.
    pub low_bytes: u64,
    /// Below this, reads are refused too: their journal entries would not fit.
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

/// Watches the free space of the data directory's file system.
#[derive(Debug)]
pub struct Space {
    directory: PathBuf,
    marks: Marks,
    level: AtomicU8,
}

impl Space {
    /// Watches a directory. Call [`Space::look`] from time to time.
    pub fn new(directory: &Path, marks: Marks) -> Space {
        let space = Space { directory: directory.to_owned(), marks, level: AtomicU8::new(0) };
        space.look();
        space
    }

    /// Bytes free for this process.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Looks at the file system and sets the level. An answer that cannot be had changes nothing.
    pub fn look(&self) -> Level {
        if let Ok(free) = self.free_bytes() {
            let level = self.marks.level(free);
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
            _ => Err(format!("less than {} MiB are free; writes are refused until there is space", self.marks.low_bytes >> 20)),
        }
    }

    /// Whether reads' journal entries fit.
    pub fn check_reads(&self) -> Result<(), String> {
        match self.level() {
            Level::Spent => Err(format!(
                "less than {} MiB are free; reads are refused too, as they could not be journalled",
                self.marks.reserve_bytes >> 20
            )),
            _ => Ok(()),
        }
    }
}

impl Marks {
    fn level(&self, free_bytes: u64) -> Level {
        match free_bytes {
            free if free < self.reserve_bytes => Level::Spent,
            free if free < self.low_bytes => Level::Low,
            _ => Level::Enough,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_on_longer_than_writes_and_both_come_back() {
        let marks = Marks { low_bytes: 100, reserve_bytes: 10 };
        assert_eq!([100, 99, 10, 9, 0, 500].map(|free| marks.level(free)), [
            Level::Enough, Level::Low, Level::Low, Level::Spent, Level::Spent, Level::Enough
        ]);
        let directory = tempfile::tempdir().unwrap();
        let space = Space::new(directory.path(), Marks { low_bytes: u64::MAX, reserve_bytes: 0 });
        assert_eq!(space.level(), Level::Low);
        assert!(space.check_writes().unwrap_err().contains("writes are refused"));
        assert!(space.check_reads().is_ok());
        let roomy = Space::new(directory.path(), Marks { low_bytes: 1, reserve_bytes: 1 });
        assert!(roomy.check_writes().is_ok());
    }
}
