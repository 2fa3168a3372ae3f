//! Clients that do the same again and again, for a time.
//!
//! Invariants
//! - Each client has one operation under way at a time (a closed loop).
//! - Counted are operations that ended within the measured time; what ended in the warm-up or after
//!   is not, except in the bytes of all. Failures count whenever they happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kura_client::{GetError, PutError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::latency::Latencies;
use super::place::{Place, Used};
use crate::cli::{Failure, Progress, chain};

/// A client that failed waits so long, lest failing fast is all that it does.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between two signs of progress.
const LOOK: Duration = Duration::from_millis(250);

/// An operation that failed.
#[derive(Debug)]
pub(super) struct Trouble {
    /// One word for what kind of failure it is.
    pub kind: &'static str,
    /// What was told.
    pub message: String,
}

impl Trouble {
    /// Other bytes came back than were written.
    pub fn mismatch() -> Self {
        Self { kind: "mismatch", message: "a record came back with other bytes".into() }
    }
}

macro_rules! trouble_from {
    ($($error:ident { $($variant:ident $word:literal)* })*) => { $(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                let kind = match &error {
                    $error::Denied(_) => "denied",
                    $error::Invalid(_) => "invalid",
                    $error::NotFound(_) => "not-found",
                    $error::Unfit(_) => "unfit",
                    $error::Later(_) => "later",
                    $error::Broken(_) => "broken",
                    $($error::$variant { .. } => $word,)*
                    _ => "other",
                };
                Self { kind, message: chain(&error) }
            }
        }
    )* };
}

trouble_from! {
    PutError { Unknown "unknown" Conflict "conflict" Expired "expired" Body "body" }
    GetError { EndedEarly "ended-early" WrongHash "wrong-hash" }
}

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub clients: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub operations: u64,
    /// Bytes of the operations that count.
    pub bytes: u64,
    /// Bytes of all operations, also before and after the measured time.
    pub bytes_of_all: u64,
    pub latencies: Latencies,
    pub errors: BTreeMap<&'static str, u64>,
    /// What the first failure told.
    pub first_error: Option<String>,
}

impl Done {
    fn add(&mut self, other: Done) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.bytes_of_all += other.bytes_of_all;
        self.latencies.add(&other.latencies);
        other.errors.into_iter().for_each(|(kind, count)| *self.errors.entry(kind).or_default() += count);
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Counts a failure.
    pub fn failed(&mut self, trouble: Trouble) {
        *self.errors.entry(trouble.kind).or_default() += 1;
        self.first_error.get_or_insert(trouble.message);
    }
}

/// What was done in the measured time, and what the processes used for it.
#[derive(Debug)]
pub(super) struct Run {
    pub done: Done,
    pub seconds: f64,
    /// At the beginning and the end of the measured time.
    pub used: (Used, Used),
}

impl Load {
    /// Runs an operation, which is given the client's number and answers its bytes.
    pub async fn run<O, F>(self, what: &str, place: &Place, progress: &Progress, operate: O) -> Result<Run, Failure>
    where
        O: Fn(usize) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64, Trouble>> + Send,
    {
        let operate = Arc::new(operate);
        let ended = Arc::new(AtomicU64::new(0));
        let start = Instant::now() + self.warm_up;
        let end = start + self.measured;
        let mut workers = JoinSet::new();
        for client in 0..self.clients {
            let (operate, ended) = (Arc::clone(&operate), Arc::clone(&ended));
            workers.spawn(async move {
                let mut done = Done::default();
                loop {
                    let began = Instant::now();
                    if began >= end {
                        return done;
                    }
                    match operate(client).await {
                        Ok(bytes) => {
                            let now = Instant::now();
                            done.bytes_of_all += bytes;
                            if now >= start && now < end {
                                done.operations += 1;
                                done.bytes += bytes;
                                done.latencies.record(now - began);
                            }
                            ended.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(trouble) => {
                            done.failed(trouble);
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            });
        }
        progress.say(format!("{what}: warming up"));
        tokio::time::sleep_until(start).await;
        let (before, base) = (place.used()?, ended.load(Ordering::Relaxed));
        while Instant::now() < end {
            tokio::time::sleep_until((Instant::now() + LOOK).min(end)).await;
            let (count, seconds) = (ended.load(Ordering::Relaxed) - base, start.elapsed().as_secs_f64());
            progress.say(format!("{what}: {:.0} a second", count as f64 / seconds));
        }
        let after = place.used()?;
        let mut all = Done::default();
        while let Some(done) = workers.join_next().await {
            all.add(done.map_err(|error| Failure::failed(format!("a client of the bench failed: {error}")))?);
        }
        Ok(Run { done: all, seconds: self.measured.as_secs_f64(), used: (before, after) })
    }
}
