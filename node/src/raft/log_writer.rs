//! The one thread that writes the log: many changes, one sync, then everybody is told.
//!
//! Changes are queued in the order in which openraft made them, and written in that order. All that
//! is queued when the thread looks, within [`GROUP_BYTES_MAX`] and [`GROUP_CHANGES_MAX`], is one
//! group: one atomic write and one sync.
//!
//! Invariants
//! - Nobody is told that a change is durable before the sync of its group, and the mark's write,
//!   have returned.
//! - After one failed write or sync nothing is written any more: every later change fails with the
//!   same words, and [`Reports::fatal`] says why. What a disk holds after that is not known, and
//!   trying again could confirm what was lost.
//! - A full disk is no failure: the group is kept and written again when there is space.
//! - Changes that wait are bounded by [`QUEUE_BYTES_MAX`], each counted as [`CHANGE_BYTES_MIN`] at
//!   least; who queues more, waits.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::database::Database;
use super::log_disk::{Change, Disk, DiskError};
use super::log_memory::Memory;
use super::marks::{Mark, MarksFile};
use super::types::{IoFlushed, LogId};
use crate::space::is_full;

/// Encoded bytes in one group; at least one change is taken.
pub const GROUP_BYTES_MAX: usize = 8 << 20;
/// Changes in one group.
pub const GROUP_CHANGES_MAX: usize = 1024;
/// Bytes of changes that wait to be written.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a change counts at least, so that the queue's length is bounded too.
pub const CHANGE_BYTES_MIN: usize = 4 << 10;
/// A mark waits no longer than this for its own sync.
pub const MARK_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
pub const FULL_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Who waits for a change.
pub(super) enum Waiter {
    Nobody,
    Openraft(IoFlushed),
    Caller(oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    fn tell(self, result: Result<(), &str>) {
        let result = result.map_err(io::Error::other);
        match self {
            Waiter::Nobody => {}
            Waiter::Openraft(callback) => callback.io_completed(result),
            // A caller that no longer waits needs no answer.
            Waiter::Caller(sender) => drop(sender.send(result)),
        }
    }
}

/// A queued change and what holds once it is durable.
pub(super) struct Queued {
    pub number: u64,
    pub change: Change,
    pub bytes: usize,
    pub mark: Mark,
    pub last: Option<LogId>,
    pub waiter: Waiter,
    /// Room in the queue, given back when this is dropped.
    pub room: OwnedSemaphorePermit,
}

enum Next {
    Group(Vec<Queued>),
    Idle,
    Closed,
}

/// The changes that wait.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Queued>,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }
    }

    /// Waits for room for a change of this size. A change larger than the queue gets all of it.
    pub(super) async fn room(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let bytes = bytes.clamp(CHANGE_BYTES_MIN, QUEUE_BYTES_MAX);
        let bytes = u32::try_from(bytes).expect("the queue's limit is below 4 GiB");
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        room.map_err(|_| io::Error::other("the Raft log is closed"))
    }

    pub(super) fn push(&self, queued: Queued) {
        self.lock().waiting.push_back(queued);
        self.arrived.notify_one();
    }

    /// Lets the writer end once it has written what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, wake_at: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if !state.waiting.is_empty() {
                return Next::Group(take_group(&mut state.waiting));
            }
            if state.closed {
                return Next::Closed;
            }
            let Some(wake_at) = wake_at else {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let pause = wake_at.saturating_duration_since(Instant::now());
            if pause.is_zero() {
                return Next::Idle;
            }
            let woken = self.arrived.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `pause`, or less if the queue is closed. Returns whether it is.
    fn closed_within(&self, pause: Duration) -> bool {
        let woken = self.arrived.wait_timeout_while(self.lock(), pause, |state| !state.closed);
        woken.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

fn take_group(waiting: &mut VecDeque<Queued>) -> Vec<Queued> {
    let mut bytes = 0_usize;
    let mut count = 0;
    for queued in waiting.iter().take(GROUP_CHANGES_MAX) {
        bytes = bytes.saturating_add(queued.bytes);
        if count > 0 && bytes > GROUP_BYTES_MAX {
            break;
        }
        count += 1;
    }
    waiting.drain(..count).collect()
}

/// What the writer reports as it goes.
pub(super) struct Reports {
    pub synced: watch::Sender<Option<LogId>>,
    pub mark: watch::Sender<Mark>,
    pub fatal: watch::Sender<Option<String>>,
    pub stalled: watch::Sender<bool>,
}

/// The writer thread's state.
pub(super) struct Writer<D> {
    pub queue: Arc<Queue>,
    pub memory: Arc<Mutex<Memory>>,
    pub database: Arc<Database>,
    pub disk: D,
    pub marks: MarksFile,
    pub marks_synced_at: Instant,
    pub reports: Reports,
    pub lock: File,
}

impl<D: Disk> Writer<D> {
    /// Writes until the queue is closed and empty, then closes the database.
    pub(super) fn run(mut self) {
        loop {
            let wake_at = self.marks.is_dirty().then(|| self.marks_synced_at + MARK_SYNC_INTERVAL);
            match self.queue.next(wake_at) {
                Next::Group(group) => self.write_group(group),
                Next::Idle => self.sync_idle_marks(),
                Next::Closed => break,
            }
        }
        self.sync_idle_marks();
    }

    fn write_group(&mut self, group: Vec<Queued>) {
        let (changes, told): (Vec<_>, Vec<_>) =
            group.into_iter().map(|q| (q.change, (q.number, q.mark, q.last, q.waiter, q.room))).unzip();
        let Some(&(number, mark, last, ..)) = told.last() else { return };
        let result = match self.failure() {
            Some(failure) => Err(failure),
            None => self.make_durable(&changes, told.iter().map(|told| told.1), mark),
        };
        match &result {
            Ok(synced) => {
                self.memory.lock().unwrap_or_else(PoisonError::into_inner).written(number);
                if *synced {
                    self.reports.mark.send_replace(mark);
                    self.reports.synced.send_replace(last);
                }
            }
            Err(failure) => self.stop(failure),
        }
        for (_, _, _, waiter, room) in told {
            waiter.tell(result.as_ref().map(|_| ()).map_err(String::as_str));
            drop(room);
        }
    }

    /// Returns whether the group was synced, or why the log stops.
    fn make_durable(
        &mut self,
        changes: &[Change],
        marks_on_the_way: impl Iterator<Item = Mark>,
        mark: Mark,
    ) -> Result<bool, String> {
        let sync = changes.iter().any(Change::needs_sync);
        // A truncation lowers the mark first: the log must never be below its mark.
        let before = self.marks.mark();
        let lowest = marks_on_the_way
            .filter(|mark| mark.vote == before.vote)
            .fold(before, |lowest, mark| lowest.after_truncate(mark.last));
        if lowest != before {
            self.until_there_is_space(|writer| writer.write_mark(lowest, true))?;
        }
        self.until_there_is_space(|writer| writer.disk.write(changes, sync))?;
        if sync && mark != self.marks.mark() {
            let voted = mark.vote != self.marks.mark().vote;
            let due = self.marks_synced_at.elapsed() >= MARK_SYNC_INTERVAL;
            self.until_there_is_space(|writer| writer.write_mark(mark, voted || due))?;
        }
        Ok(sync)
    }

    /// Tries until it works, the log is closed, or something other than space is missing.
    fn until_there_is_space(&mut self, mut step: impl FnMut(&mut Self) -> Result<(), DiskError>) -> Result<(), String> {
        let mut recovering = false;
        loop {
            let result = match recovering {
                true => {
                    let at_least = self.marks.mark();
                    self.disk.recover(&at_least).and_then(|()| step(self))
                }
                false => step(self),
            };
            match result {
                Ok(()) => {
                    if self.set_stalled(false) {
                        tracing::info!("the Raft log is written again");
                    }
                    return Ok(());
                }
                Err(DiskError::Failed(why)) => return Err(DiskError::Failed(why).to_string()),
                Err(DiskError::Full(why)) => {
                    recovering = true;
                    if self.set_stalled(true) {
                        tracing::error!(why, "no space left: the Raft log waits for space");
                    }
                    if self.queue.closed_within(FULL_RETRY_INTERVAL) {
                        return Err("the Raft log was closed while it waited for space".into());
                    }
                }
            }
        }
    }

    fn write_mark(&mut self, mark: Mark, sync: bool) -> Result<(), DiskError> {
        self.marks.write(mark).map_err(marks_error)?;
        if sync { self.sync_marks() } else { Ok(()) }
    }

    fn sync_marks(&mut self) -> Result<(), DiskError> {
        self.marks.sync().map_err(marks_error)?;
        self.marks_synced_at = Instant::now();
        Ok(())
    }

    /// Syncs the mark between groups. Space is not at stake: if it is missing, an older mark stays
    /// safe on disk, and the next group waits for space.
    fn sync_idle_marks(&mut self) {
        if !self.marks.is_dirty() || self.failure().is_some() {
            return;
        }
        // Written again, since a sync that failed before may have dropped what it could not write.
        match self.write_mark(self.marks.mark(), true) {
            Ok(()) => {}
            Err(error @ DiskError::Full(_)) => {
                self.marks_synced_at = Instant::now();
                tracing::warn!(%error, "the marks file was not synced");
            }
            Err(error @ DiskError::Failed(_)) => self.stop(&error.to_string()),
        }
    }

    /// Returns whether it changed.
    fn set_stalled(&self, stalled: bool) -> bool {
        self.reports.stalled.send_if_modified(|now| std::mem::replace(now, stalled) != stalled)
    }

    fn failure(&self) -> Option<String> {
        self.reports.fatal.borrow().clone()
    }

    fn stop(&self, why: &str) {
        self.reports.fatal.send_if_modified(|fatal| {
            if fatal.is_none() {
                tracing::error!(why, "the Raft log has stopped for good");
                *fatal = Some(why.to_owned());
                return true;
            }
            false
        });
    }
}

/// However the thread ends, nobody waits for it in vain, and the directory is free again.
impl<D> Drop for Writer<D> {
    fn drop(&mut self) {
        let why = "the Raft log's writer has ended";
        self.reports.fatal.send_if_modified(|fatal| {
            let panicked = std::thread::panicking() && fatal.is_none();
            if panicked {
                *fatal = Some(why.to_owned());
            }
            panicked
        });
        self.queue.room.close();
        for queued in std::mem::take(&mut self.queue.lock().waiting) {
            queued.waiter.tell(Err(why));
        }
        self.database.close();
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the Raft log's directory stays locked until the process ends");
        }
    }
}

fn marks_error(error: io::Error) -> DiskError {
    match is_full(&error) {
        true => DiskError::Full(format!("marks file: {error}")),
        false => DiskError::Failed(format!("marks file: {error}")),
    }
}
