//! What readers of the log see: positions, and the newest entries without touching the disk.
//!
//! Invariants
//! - It is ahead of the disk, never behind: a change is visible here as soon as it is queued.
//! - `recent` is the unbroken end of the log. Whatever lies between `purged` and its first entry has
//!   been written to the database, so that a reader finds each entry in one place or the other.
//! - An entry that is not written yet is never dropped from memory. Those are bounded by the
//!   writer's queue, the others by [`RECENT_BYTES_MAX`].

use std::collections::VecDeque;
use std::io;

use super::database::Limits;
use super::marks::Mark;
use super::open::{Recovered, next_index};
use super::types::{Entry, LogId, LogState, Vote};

/// Encoded bytes of written entries kept for replication and apply.
pub const RECENT_BYTES_MAX: usize = 16 << 20;

struct Recent {
    entry: Entry,
    bytes: usize,
    /// Number of the queued change that appended it.
    change: u64,
}

/// The log as its readers see it.
pub(super) struct Memory {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    purged: Option<LogId>,
    /// Index of the first entry, if there are any.
    first: u64,
    last: Option<LogId>,
    /// The mark once everything queued is durable.
    pub(super) mark: Mark,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// Number of the last change that is in the database.
    written: u64,
    /// Counts truncations: a reader that saw one begins anew.
    truncations: u64,
}

/// Where a part of a range is found.
pub(super) enum Part {
    /// Entries from memory; empty if the range lies outside the log.
    Memory(Vec<Entry>),
    /// Until this index (exclusive) they are in the database only.
    Database(u64),
}

impl Memory {
    pub(super) fn new(recovered: &Recovered, mark: Mark) -> Self {
        Self {
            vote: recovered.vote,
            committed: recovered.committed,
            purged: recovered.purged,
            first: next_index(recovered.purged),
            last: recovered.last,
            mark,
            recent: VecDeque::new(),
            recent_bytes: 0,
            written: 0,
            truncations: 0,
        }
    }

    pub(super) fn state(&self) -> LogState {
        LogState { last_purged_log_id: self.purged, last_log_id: self.last }
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Whether the log lost entries since it had this many truncations, or no longer has `start`.
    pub(super) fn was_cut(&self, truncations: u64, start: u64) -> bool {
        truncations != self.truncations || start < self.first
    }

    /// The part of `start..end` that the log contains.
    pub(super) fn clamp(&self, start: u64, end: u64) -> (u64, u64) {
        (start.max(self.first), end.min(next_index(self.last)))
    }

    fn recent_start(&self) -> u64 {
        self.recent.front().map_or(next_index(self.last), |recent| recent.entry.log_id.index)
    }

    /// Takes entries of a range that [`Self::clamp`] returned, or says that they are on disk.
    pub(super) fn part(&self, start: u64, end: u64, limits: Limits) -> Part {
        let recent_start = self.recent_start();
        if start >= end {
            return Part::Memory(Vec::new());
        }
        if start < recent_start {
            return Part::Database(end.min(recent_start));
        }
        let skip = usize::try_from(start - recent_start).unwrap_or(usize::MAX);
        let count = usize::try_from(end - start).unwrap_or(usize::MAX).min(limits.entries.max(1));
        let mut bytes = 0_usize;
        let entries = self
            .recent
            .iter()
            .skip(skip)
            .take(count)
            .enumerate()
            .take_while(|(position, recent)| {
                bytes = bytes.saturating_add(recent.bytes);
                *position == 0 || bytes <= limits.bytes
            })
            .map(|(_, recent)| recent.entry.clone())
            .collect();
        Part::Memory(entries)
    }

    /// Refuses entries that would leave a hole or overwrite; openraft truncates before it overwrites.
    pub(super) fn check_append(&self, entries: &[(Entry, usize)]) -> io::Result<()> {
        let mut last = self.last;
        for (entry, _) in entries {
            let id = entry.log_id;
            // An empty log that was never purged may begin anywhere; opening it again demands 0.
            if last.is_some() && id.index != next_index(last) {
                let text = format!("entry {id} cannot follow {last:?} in the Raft log");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            last = Some(id);
        }
        Ok(())
    }

    /// Adds checked entries, appended by the change of this number.
    pub(super) fn append(&mut self, entries: Vec<(Entry, usize)>, change: u64) {
        for (entry, bytes) in entries {
            if self.last.is_none() {
                self.first = entry.log_id.index;
            }
            self.last = Some(entry.log_id);
            self.mark = self.mark.after_append(entry.log_id);
            self.recent_bytes += bytes;
            self.recent.push_back(Recent { entry, bytes, change });
        }
        self.evict();
    }

    /// Removes what comes after `after`.
    pub(super) fn truncate_after(&mut self, after: Option<LogId>) {
        // What is purged is not there to be truncated.
        let after = match self.purged {
            Some(purged) if next_index(after) <= purged.index => Some(purged),
            _ => after,
        };
        if next_index(after) >= next_index(self.last) {
            return;
        }
        while let Some(recent) = self.recent.pop_back_if(|r| r.entry.log_id.index >= next_index(after)) {
            self.recent_bytes -= recent.bytes;
        }
        self.last = after;
        self.mark = self.mark.after_truncate(after);
        self.truncations += 1;
    }

    /// Whether nothing up to `upto` remains.
    pub(super) fn is_purged(&self, upto: LogId) -> bool {
        self.purged.is_some_and(|purged| upto.index <= purged.index)
    }

    /// Removes what comes up to `upto`, which is not purged yet.
    pub(super) fn purge(&mut self, upto: LogId) {
        while let Some(recent) = self.recent.pop_front_if(|r| r.entry.log_id.index <= upto.index) {
            self.recent_bytes -= recent.bytes;
        }
        self.purged = Some(upto);
        self.first = self.first.max(next_index(Some(upto)));
        if next_index(self.last) <= upto.index {
            self.last = Some(upto);
        }
    }

    /// Notes that all changes up to this number are in the database.
    pub(super) fn written(&mut self, change: u64) {
        self.written = change;
        self.evict();
    }

    fn evict(&mut self) {
        while self.recent_bytes > RECENT_BYTES_MAX {
            let written = self.written;
            let Some(recent) = self.recent.pop_front_if(|recent| recent.change <= written) else {
                return;
            };
            self.recent_bytes -= recent.bytes;
        }
    }
}
