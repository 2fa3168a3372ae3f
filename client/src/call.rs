//! Attempts, failover and deadlines: the one way in which everything is asked of the cluster.
//!
//! Invariants
//! - Every operation ends by its deadline. Transfers move their deadline as they progress, up to a
//!   limit for the whole.
//! - A write repeats its request id in every attempt, so it happens once. A failed operation knows
//!   whether any of its attempts may have been committed.
//! - The first attempts go to each endpoint once, almost at once; after that pauses grow, jittered.

use std::time::Duration;

use kura_proto::v1;

use tokio::time::{Instant, sleep, timeout};

use crate::client::Shared;
use crate::error::Failed;
use crate::fault::{Again, Failure, Fault};
use crate::fork::Way;
use crate::pool::Lease;
use crate::receipt::Receipt;

/// The longest first pause; each further one is twice as long.
const PAUSE_FIRST_MAX: Duration = Duration::from_millis(20);

/// The longest pause of all.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An attempt with less time than this would sooner leave doubt than succeed; it is not made.
const ATTEMPT_LEAST: Duration = Duration::from_millis(50);

/// The part of its patience for which a call goes on while nodes say that there is no leader: 10 s by default,
/// longer than the cluster takes to elect one.
const LEADERLESS_PART: u32 = 3;

/// Largest reply, in bytes: one block of a body with room around it.
pub(crate) const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One operation's attempts.
pub(crate) struct Retry<'a> {
    shared: &'a Shared,
    lease: Lease,
    /// Attempts that failed since the last progress.
    failures: u32,
    /// Attempts that failed for reasons of one node since the last progress.
    elsewhere: usize,
    in_doubt: bool,
    /// What a node said last since the last progress.
    told: Option<Fault>,
    /// What a node without a leader said first, and when that was asked.
    leaderless: Option<(Fault, Instant)>,
    /// When the attempt under way began.
    asked: Instant,
    /// How long it may take without progress.
    patience: Duration,
    deadline: Instant,
    /// When all must be over.
    end: Instant,
}

impl<'a> Retry<'a> {
    /// For a call that makes no progress but by succeeding.
    pub fn call(shared: &'a Shared, patience: Option<Duration>) -> Self {
        let patience = patience.unwrap_or_else(|| shared.timeouts.call());
        Self::new(shared, patience, patience)
    }

    /// For a transfer, with a limit for the whole.
    pub fn transfer(shared: &'a Shared, whole: Option<Duration>) -> Self {
        let whole = whole.unwrap_or_else(|| shared.timeouts.transfer());
        Self::new(shared, shared.timeouts.call().min(whole), whole)
    }

    /// For a transfer that was under way at a node and must be over at a time known already.
    pub fn until(shared: &'a Shared, lease: Lease, end: Instant) -> Self {
        let whole = end.saturating_duration_since(Instant::now());
        Self { lease, ..Self::new(shared, shared.timeouts.call(), whole) }
    }

    fn new(shared: &'a Shared, patience: Duration, whole: Duration) -> Self {
        let now = Instant::now();
        let lease = shared.pool.lease(shared.pool.current());
        let end = now + whole;
        let deadline = (now + patience).min(end);
        Self {
            shared,
            lease,
            failures: 0,
            elsewhere: 0,
            in_doubt: false,
            told: None,
            leaderless: None,
            asked: now,
            patience,
            deadline,
            end,
        }
    }

    /// The channel of the attempt to make now.
    pub fn channel(&self) -> Way {
        self.lease.channel.clone()
    }

    /// The node of the attempt that was made last.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// How long one attempt may be without an answer.
    pub fn attempt_limit(&self) -> Duration {
        self.shared.timeouts.attempt().min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// When all must be over.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// A transfer made progress: its patience begins anew.
    pub fn progressed(&mut self) {
        self.failures = 0;
        self.elsewhere = 0;
        self.leaderless = None;
        self.told = None;
        self.deadline = (Instant::now() + self.patience).min(self.end);
    }

    /// Time that was not the cluster's to answer for.
    pub fn excuse(&mut self, time: Duration) {
        self.deadline = (self.deadline + time).min(self.end);
    }

    /// Judges a failed attempt: pauses and answers if another is to be made.
    pub async fn failed(&mut self, failure: Failure) -> Result<(), Failed> {
        self.in_doubt |= failure.in_doubt;
        self.failures += 1;
        if failure.transport {
            self.shared.pool.failed(&self.lease);
        } else if failure.is_of_this_node() {
            self.shared.pool.pass_over(&self.lease);
        }
        if failure.is_leaderless() {
            self.leaderless.get_or_insert((failure.fault.clone(), self.asked));
        }
        if let Some((fault, since)) =
            self.leaderless.take_if(|(_, since)| since.elapsed() >= self.patience / LEADERLESS_PART)
        {
            tracing::debug!(seconds = since.elapsed().as_secs(), "there is no leader; giving up");
            return Err(Failed { in_doubt: self.in_doubt, fault });
        }
        let endpoints = self.shared.pool.len();
        let over = match failure.again {
            Again::Never => true,
            Again::Elsewhere => {
                self.elsewhere += 1;
                self.elsewhere >= endpoints
            }
            Again::Soon => false,
        };
        let pause = self.pause(endpoints);
        if over || Instant::now() + pause + ATTEMPT_LEAST > self.deadline {
            // What is wrong with the request itself is so in every attempt; no doubt is left.
            let certain = matches!(failure.fault, Fault::Invalid(_) | Fault::Unfit(_)) && !failure.in_doubt;
            // What a node says of the cluster says more than that another node was not reached.
            let fault = if failure.is_told() { None } else { self.told.take() };
            return Err(Failed { in_doubt: self.in_doubt && !certain, fault: fault.unwrap_or(failure.fault) });
        }
        if failure.is_told() {
            self.told = Some(failure.fault);
        }
        tracing::debug!(attempt = self.failures, node = %self.shared.pool.names()[self.lease.place], "attempt failed; trying again");
        sleep(pause).await;
        self.lease = self.shared.pool.lease(self.lease.place + 1);
        self.asked = Instant::now();
        Ok(())
    }

    fn pause(&self, endpoints: usize) -> Duration {
        let rounds = self.failures.saturating_sub(u32::try_from(endpoints).unwrap_or(u32::MAX));
        let longest = PAUSE_FIRST_MAX.saturating_mul(1 << rounds.min(16)).min(PAUSE_MAX);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }
}

impl Shared {
    /// Makes a call until it succeeds, fails for good or its deadline passes.
    pub async fn call<R, F>(&self, patience: Option<Duration>, attempt: impl Fn(Way) -> F) -> Result<R, Failed>
    where
        F: Future<Output = Result<R, Failure>>,
    {
        let mut retry = Retry::call(self, patience);
        loop {
            let limit = retry.attempt_limit();
            let failure = match timeout(limit, attempt(retry.channel())).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::silent(),
            };
            retry.failed(failure).await?;
        }
    }

    /// Takes a receipt if it is well formed and of no timeline that was left.
    pub fn receipt(&self, wire: v1::Receipt) -> Result<Receipt, Failure> {
        self.follow(wire.timeline)?;
        Receipt::from_wire(wire).ok_or_else(|| Failure::broken("a malformed receipt"))
    }
}
