//! The Raft log as openraft sees it: [`LogStore`] writes, [`LogReader`] reads, [`LogWatch`] tells.
//!
//! Invariants
//! - openraft is the only writer; a [`LogStore`] is not cloned, so changes have one order.
//! - An append returns when its entries can be read, and its callback is called when they are safe.
//!   Votes and truncations return when they are safe: a snapshot that openraft installs next becomes
//!   durable elsewhere, and must not be so before the log has lost the tail that contradicts it.
//!   Purges return when they are queued: what they remove is in the state already.
//! - Reads come from memory but for entries older than [`RECENT_BYTES_MAX`] of log, which are read
//!   from RocksDB on a thread that may block. Each read is of one moment.
//!
//! [`RECENT_BYTES_MAX`]: super::log_memory::RECENT_BYTES_MAX

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::{Stream, TryStreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tokio::sync::{oneshot, watch};

use super::codec;
use super::database::{Database, Limits};
use super::log_copy::LogCopy;
use super::log_disk::{Change, Disk, RocksDisk};
use super::log_memory::{Memory, Part};
use super::log_writer::{Queue, Queued, Reports, Waiter, Writer};
use super::marks::{LogIdentity, Mark};
use super::open::{OpenError, OpenLog, next_index, open_log};
use super::types::{Entry, IoFlushed, LogId, LogState, TypeConfig, Vote};

/// Encoded bytes that one read for replication, or one step of a stream, returns at most; a larger
/// entry comes alone.
pub const READ_BYTES_MAX: usize = 4 << 20;
/// Entries that such a read returns at most.
pub const READ_ENTRIES_MAX: usize = 1024;

const READ_LIMITS: Limits = Limits { bytes: READ_BYTES_MAX, entries: READ_ENTRIES_MAX };

/// The log of one node, open for writing.
///
/// Dropping it writes what is queued, closes the directory and waits for that: a moment, or on a
/// full disk nothing but giving up what waits. Readers then fail.
pub struct LogStore {
    queue: Arc<Queue>,
    reader: LogReader,
    watch: LogWatch,
    /// Number of the change queued last.
    number: u64,
    writer: Option<JoinHandle<()>>,
    /// Index up to which this node's state has applied the log; 0 until the state says so.
    applied: Arc<AtomicU64>,
}

impl LogStore {
    /// Opens the log in `directory`, or makes it. Reads the whole log once, so it may take as long
    /// as the disk needs for that: call it where blocking is allowed.
    ///
    /// `peer_marks` are what peers remember of this node ([`LogWatch::mark`] at earlier times).
    ///
    /// # Errors
    /// [`OpenError`]: in use, damaged, less than was promised, or another node's.
    pub fn open(directory: &Path, identity: LogIdentity, peer_marks: &[Mark]) -> Result<Self, OpenError> {
        Self::open_with_disk(directory, identity, peer_marks, |disk| disk)
    }

    /// As [`Self::open`], with a disk put around the real one: for tests of failing disks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_disk<D: Disk>(
        directory: &Path,
        identity: LogIdentity,
        peer_marks: &[Mark],
        around: impl FnOnce(RocksDisk) -> D,
    ) -> Result<Self, OpenError> {
        let OpenLog { database, marks, recovered, lock } = open_log(directory, identity, peer_marks)?;
        // Under a vote newer than the marks file, which entry came first is not known.
        let mark = match marks.mark() {
            mark if mark.vote == recovered.vote => mark,
            _ => Mark { vote: recovered.vote, last: None },
        };
        let opened = recovered.mark();
        let (synced, synced_watch) = watch::channel(recovered.last);
        let (mark_sender, mark_watch) = watch::channel(mark);
        let (fatal, fatal_watch) = watch::channel(None);
        let (stalled, stalled_watch) = watch::channel(false);
        let memory = Arc::new(Mutex::new(Memory::new(&recovered, mark)));
        let queue = Arc::new(Queue::new());
        let writer = Writer {
            queue: Arc::clone(&queue),
            memory: Arc::clone(&memory),
            disk: around(RocksDisk::new(Arc::clone(&database))),
            database: Arc::clone(&database),
            marks,
            marks_synced_at: Instant::now(),
            reports: Reports { synced, mark: mark_sender, fatal, stalled },
            lock,
        };
        let writer = std::thread::Builder::new()
            .name("raft-log-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Io { path: directory.display().to_string(), error })?;
        Ok(Self {
            queue,
            reader: LogReader { memory, database: Arc::clone(&database) },
            watch: LogWatch {
                synced: synced_watch,
                mark: mark_watch,
                fatal: fatal_watch,
                stalled: stalled_watch,
                opened,
                database,
            },
            number: 0,
            writer: Some(writer),
            applied: Arc::default(),
        })
    }

    /// Entries up to what is told here are applied, and never truncated: call it before Raft starts.
    pub fn keep_applied(&mut self, applied: Arc<AtomicU64>) {
        self.applied = applied;
    }

    /// What this log reports of itself, for those who do not own it.
    pub fn watch(&self) -> LogWatch {
        self.watch.clone()
    }

    /// The mark of what is durable now.
    pub fn marks(&self) -> Mark {
        self.watch.mark()
    }

    /// Queues a change; `remember` makes it visible in memory at the same moment.
    async fn queue_change(
        &mut self,
        change: Change,
        bytes: usize,
        waiter: Waiter,
        remember: impl FnOnce(&mut Memory, u64),
    ) -> io::Result<()> {
        let room = self.queue.room(bytes).await.map_err(|closed| self.watch.failure().unwrap_or(closed))?;
        if let Some(failure) = self.watch.failure() {
            return Err(failure);
        }
        self.number += 1;
        let (mark, last) = {
            let mut memory = self.reader.memory();
            remember(&mut memory, self.number);
            (memory.mark, memory.last())
        };
        self.queue.push(Queued { number: self.number, change, bytes, mark, last, waiter, room });
        Ok(())
    }

    /// Queues a change and waits until it is safe.
    async fn change_durably(&mut self, change: Change, remember: impl FnOnce(&mut Memory)) -> io::Result<()> {
        let (sender, safe) = oneshot::channel();
        self.queue_change(change, 0, Waiter::Caller(sender), |memory, _| remember(memory)).await?;
        safe.await.map_err(|_| io::Error::other("the Raft log's writer has ended"))?
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the Raft log's writer panicked");
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        Ok(self.reader.memory().state())
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.change_durably(Change::Vote(vote), |memory| {
            memory.vote = Some(vote);
            memory.mark = memory.mark.after_vote(vote);
        })
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let change = Change::Committed(committed);
        self.queue_change(change, 0, Waiter::Nobody, |memory, _| memory.committed = committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.reader.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let sized: Vec<(Entry, usize)> =
            entries.iter().map(|entry| (entry.clone(), codec::entry_bytes(entry))).collect();
        self.reader.memory().check_append(&sized)?;
        let bytes = sized.iter().fold(0_usize, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let change = Change::Append(entries);
        self.queue_change(change, bytes, Waiter::Openraft(callback), |memory, number| {
            memory.append(sized, number);
        })
        .await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let applied = self.applied.load(Ordering::Acquire);
        if applied > 0 && next_index(last_log_id) <= applied {
            // Raft never asks for this, unless a majority has lost what it had promised.
            let kept = next_index(last_log_id).saturating_sub(1);
            return Err(io::Error::other(format!(
                "the leader asks to undo committed entries: everything after index {kept}, of which this node has \
                 applied up to {applied}. A majority of voters has lost acknowledged writes (was an older copy of a \
                 data directory put back?). Stop all members, keep their directories, and start from this one"
            )));
        }
        self.change_durably(Change::TruncateAfter(last_log_id), |memory| memory.truncate_after(last_log_id)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        if self.reader.memory().is_purged(log_id) {
            return Ok(());
        }
        let change = Change::Purge(log_id);
        self.queue_change(change, 0, Waiter::Nobody, |memory, _| memory.purge(log_id)).await
    }
}

/// Reads the log; cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    memory: Arc<Mutex<Memory>>,
    database: Arc<Database>,
}

impl LogReader {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of a range that the log has, and how many truncations it has seen.
    fn locate(&self, range: &impl RangeBounds<u64>) -> Located {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let memory = self.memory();
        let (start, end) = memory.clamp(start, end);
        Located { start, end, truncations: memory.truncations() }
    }

    /// The first entries of a part of the log, at least one. `None`: the log was cut meanwhile, at
    /// either end, and the part must be located again.
    async fn step(&self, part: Located, limits: Limits) -> io::Result<Option<Vec<Entry>>> {
        let Located { start, end, truncations } = part;
        let found = {
            let memory = self.memory();
            if memory.was_cut(truncations, start) {
                return Ok(None);
            }
            memory.part(start, end, limits)
        };
        let entries = match found {
            Part::Memory(entries) => entries,
            Part::Database(until) => {
                let database = Arc::clone(&self.database);
                let read = move || database.read_entries(start, until, limits);
                let entries = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
                if self.memory().was_cut(truncations, start) {
                    return Ok(None);
                }
                entries
            }
        };
        if entries.is_empty() {
            return Err(missing(start));
        }
        Ok(Some(entries))
    }
}

/// A part of the log, from `start` until `end` (exclusive), found at some moment.
#[derive(Clone, Copy)]
struct Located {
    start: u64,
    end: u64,
    truncations: u64,
}

fn missing(index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} is missing in the Raft log"))
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        'anew: loop {
            let mut part = self.locate(&range);
            let mut entries = Vec::new();
            while part.start < part.end {
                let Some(found) = self.step(part, Limits::NONE).await? else { continue 'anew };
                entries.extend(found);
                part.start = next_index(entries.last().map(|entry: &Entry| entry.log_id));
            }
            return Ok(entries);
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }

    /// Empty if the log does not have `start`: a follower must not be sent what comes later.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        loop {
            let part = self.locate(&(start..end));
            if part.start != start || part.start >= part.end {
                return Ok(Vec::new());
            }
            if let Some(entries) = self.step(part, READ_LIMITS).await? {
                return Ok(entries);
            }
        }
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let Located { start, end, .. } = self.locate(&range);
        let steps = stream::try_unfold((self.clone(), start), move |(reader, next)| async move {
            loop {
                if next >= end {
                    return Ok(None);
                }
                let part = reader.locate(&(next..end));
                if part.start != next || part.end != end {
                    return Err(missing(part.start.min(part.end)));
                }
                if let Some(entries) = reader.step(part, READ_LIMITS).await? {
                    let next = next_index(entries.last().map(|entry| entry.log_id));
                    return Ok(Some((stream::iter(entries.into_iter().map(Ok)), (reader, next))));
                }
            }
        });
        steps.try_flatten()
    }
}

/// What a log reports of itself; cheap to clone.
#[derive(Clone)]
pub struct LogWatch {
    synced: watch::Receiver<Option<LogId>>,
    mark: watch::Receiver<Mark>,
    fatal: watch::Receiver<Option<String>>,
    stalled: watch::Receiver<bool>,
    opened: Mark,
    database: Arc<Database>,
}

impl LogWatch {
    /// The last entry up to which the log is on stable storage here.
    pub fn synced(&self) -> watch::Receiver<Option<LogId>> {
        self.synced.clone()
    }

    /// Waits until the log is on stable storage here up to this entry. Nothing may be applied before.
    ///
    /// # Errors
    /// The log stopped or was closed.
    pub async fn wait_synced(&self, upto: LogId) -> io::Result<()> {
        let mut synced = self.synced.clone();
        let mut fatal = self.fatal.clone();
        tokio::select! {
            biased;
            reached = synced.wait_for(|synced| *synced >= Some(upto)) => {
                reached.map(drop).map_err(|_| self.failure().unwrap_or_else(closed))
            }
            _ = fatal.wait_for(Option::is_some) => Err(self.failure().unwrap_or_else(closed)),
        }
    }

    /// The mark of what is durable now, for this node's peers to keep.
    pub fn mark(&self) -> Mark {
        *self.mark.borrow()
    }

    /// What the log itself held when it was opened, to be held against what peers keep. [`Self::mark`] may
    /// say less then: its file is up to a second older than the log after a power cut.
    pub fn opened(&self) -> Mark {
        self.opened
    }

    /// Whether an entry that is said to have been here is not: the log ends before it, or has another one in its place.
    /// Of what was purged nothing is known any more. Blocking: one entry.
    ///
    /// # Errors
    /// RocksDB's, or an entry that cannot be read.
    pub fn lacks(&self, entry: LogId) -> io::Result<bool> {
        let found = self.database.read_entries(entry.index, entry.index.saturating_add(1), Limits::NONE)?;
        Ok(match found.first() {
            Some(found) => found.log_id != entry,
            None => self.synced.borrow().is_none_or(|last| last.index < entry.index),
        })
    }

    /// Why the log stopped for good, once it has. The process must end: no later change succeeds.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Whether the log waits for space on its disk.
    pub fn stalled(&self) -> watch::Receiver<bool> {
        self.stalled.clone()
    }

    /// Rewrites the log's files without what was purged; see [`log_clear`](super::log_clear). Blocking.
    ///
    /// # Errors
    /// RocksDB's, or the file system's.
    pub fn clear_purged(&self) -> io::Result<Option<u64>> {
        super::log_clear::clear_purged(&self.database)
    }

    /// Where its database lies.
    pub fn directory(&self) -> &Path {
        self.database.path()
    }

    /// Makes a copy of the log's tables at `into`, which must not exist: hard links. Blocking.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn checkpoint(&self, into: &Path) -> io::Result<LogCopy> {
        LogCopy::make(&self.database, into)
    }

    /// How often the log was synced since it was opened, as RocksDB counts it.
    pub fn wal_syncs(&self) -> u64 {
        self.database.wal_syncs()
    }

    fn failure(&self) -> Option<io::Error> {
        self.fatal.borrow().clone().map(io::Error::other)
    }
}

fn closed() -> io::Error {
    io::Error::other("the Raft log is closed")
}
