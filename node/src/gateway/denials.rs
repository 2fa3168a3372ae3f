//! Denials beyond a bucket per application and user become one counted entry a minute: a client that
//! hammers at a closed door must not fill the journal.
//!
//! Invariants
//! - Only denials are ever counted; a permitted access always has an entry of its own.
//! - The first [`BUCKET_DENIALS`] of a user, and one each [`REFILL_INTERVAL`] after that, have entries of
//!   their own. Of a read of several records each record refused counts, also where the others are handed out.
//! - The users remembered are bounded; beyond the bound everybody has entries of their own again.
//! - A count that was taken out is journalled or comes back. One whose proposal's fate is unknown comes
//!   back, too: such denials may be counted twice, never not at all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kura_cluster::Outcome;
use kura_cluster::consent::Denial;
use kura_cluster::row::{ActorRow, JournalEntry};
use prost::Message;

use super::attempt::Attempt;
use super::limits::PROPOSE_TIMEOUT;
use super::{Gateway, GatewayError};

/// Denials of one user that each have an entry of their own.
pub const BUCKET_DENIALS: u32 = 30;
/// After this long one more has.
pub const REFILL_INTERVAL: Duration = Duration::from_secs(2);
/// Counted denials are journalled this often.
pub const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Users remembered.
const USERS_MAX: usize = 10_000;

/// Application, facility and user (or other actor).
type User = (String, String, String);

struct Bucket {
    left: u32,
    filled: Instant,
    /// The newest denial that has no entry yet, standing for `count` of them.
    counted: Option<(JournalEntry, u32)>,
}

/// The buckets of one gateway.
#[derive(Default)]
pub struct Denials(Mutex<HashMap<User, Bucket>>);

impl Denials {
    /// Whether a denial has an entry of its own; if not, it is counted.
    pub fn has_own_entry(&self, entry: &JournalEntry, reason: Denial, now: Instant) -> bool {
        let actor = entry.actor.clone().unwrap_or_default();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let user = user_of(&actor);
        if !buckets.contains_key(&user) && buckets.len() >= USERS_MAX {
            return true;
        }
        let bucket = buckets.entry(user).or_insert_with(|| Bucket { left: BUCKET_DENIALS, filled: now, counted: None });
        bucket.refill(now);
        let mut last = entry.clone();
        last.deny(reason.number());
        if bucket.left > 0 {
            bucket.left = bucket.left.saturating_sub(last.refusals());
            return true;
        }
        let count = bucket.counted.as_ref().map_or(0, |(_, count)| *count).saturating_add(last.refusals());
        bucket.counted = Some((last, count));
        false
    }

    /// Counts refusals that stand in the entry of a permitted access.
    pub fn charge(&self, actor: &ActorRow, refusals: u32, now: Instant) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let user = user_of(actor);
        if refusals == 0 || !buckets.contains_key(&user) && buckets.len() >= USERS_MAX {
            return;
        }
        let bucket = buckets.entry(user).or_insert_with(|| Bucket { left: BUCKET_DENIALS, filled: now, counted: None });
        bucket.refill(now);
        bucket.left = bucket.left.saturating_sub(refusals);
    }

    /// Takes what was counted, and forgets users whose buckets are full again. A user with a count stays
    /// until the next time, since the count may come back.
    fn take_counted(&self, now: Instant) -> Vec<(JournalEntry, u32)> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, bucket| {
            bucket.refill(now);
            bucket.left < BUCKET_DENIALS || bucket.counted.is_some()
        });
        buckets.values_mut().filter_map(|bucket| bucket.counted.take()).collect()
    }

    /// Puts back a count that was not journalled; what was counted meanwhile is newer and stands for both.
    fn put_back(&self, entry: JournalEntry, count: u32, now: Instant) {
        let user = user_of(&entry.actor.clone().unwrap_or_default());
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(user).or_insert_with(|| Bucket { left: BUCKET_DENIALS, filled: now, counted: None });
        bucket.counted = Some(match bucket.counted.take() {
            Some((newer, more)) => (newer, more.saturating_add(count)),
            None => (entry, count),
        });
    }

    /// Journals each count by `journal`, which is given how long it may take, and puts back what fails.
    /// Answers the first failure.
    ///
    /// Failures of one round take [`PROPOSE_TIMEOUT`] altogether; the rest is then put back untried.
    /// Without a leader every user would take that long, and a gateway that ends waits for the round.
    async fn journal_by<F, R>(&self, mut journal: F) -> Result<(), GatewayError>
    where
        F: FnMut(JournalEntry, u32, Duration) -> R,
        R: Future<Output = Result<(), GatewayError>>,
    {
        let mut patience = PROPOSE_TIMEOUT;
        let mut first_failure = Ok(());
        for (entry, count) in self.take_counted(Instant::now()) {
            if !patience.is_zero() {
                let begun = Instant::now();
                let Err(error) = journal(entry.clone(), count, patience).await else { continue };
                patience = patience.saturating_sub(begun.elapsed());
                first_failure = first_failure.and(Err(error));
            }
            self.put_back(entry, count, Instant::now());
        }
        first_failure
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let intervals = now.saturating_duration_since(self.filled).as_millis() / REFILL_INTERVAL.as_millis();
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        if intervals > 0 {
            self.left = self.left.saturating_add(intervals).min(BUCKET_DENIALS);
            self.filled = now;
        }
    }
}

fn user_of(actor: &ActorRow) -> User {
    (actor.application.clone(), actor.facility.clone(), actor.name.clone())
}

impl Gateway {
    /// Journals the denials that were only counted, one entry a user.
    ///
    /// # Errors
    /// The first failure. What was not journalled is kept for the next time; the others were tried.
    pub async fn journal_counted_denials(&self) -> Result<(), GatewayError> {
        self.denials.journal_by(|entry, count, patience| self.journal_count(entry, count, patience)).await
    }

    async fn journal_count(&self, entry: JournalEntry, count: u32, patience: Duration) -> Result<(), GatewayError> {
        let command = {
            let mut attempt = Attempt::begin(self, &entry)?;
            attempt.entry.count = count;
            let facility = entry.actor.as_ref().map(|actor| actor.facility.clone()).unwrap_or_default();
            attempt.entry_facilities.extend(Some(facility).filter(|facility| !facility.is_empty()));
            attempt.journal_as_drafted();
            attempt.command.encode_to_vec()
        };
        match self.proposer.propose(command.into(), Instant::now() + patience).await?.outcome {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict { .. } => Err(GatewayError::Contended),
            _ => Err(GatewayError::Damaged { what: "command" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str) -> JournalEntry {
        let actor = ActorRow { name: user.into(), ..ActorRow::default() };
        JournalEntry { actor: Some(actor), ..JournalEntry::default() }
    }

    #[test]
    fn beyond_the_bucket_denials_are_counted_and_none_is_lost() {
        let denials = Denials::default();
        let now = Instant::now();
        let own = (0..100).filter(|_| denials.has_own_entry(&entry("a"), Denial::NotGranted, now)).count();
        assert_eq!(own, BUCKET_DENIALS as usize);
        assert!(denials.has_own_entry(&entry("b"), Denial::NotGranted, now), "another user has a bucket of their own");
        let counted = denials.take_counted(now);
        assert_eq!(counted.iter().map(|(_, count)| *count).sum::<u32>(), 100 - BUCKET_DENIALS);
        assert_eq!(counted[0].0.denial, Denial::NotGranted.number());
        assert!(denials.take_counted(now).is_empty());
        assert!(denials.has_own_entry(&entry("a"), Denial::NotGranted, now + REFILL_INTERVAL));
    }

    #[test]
    fn each_refused_record_of_a_call_counts() {
        let denials = Denials::default();
        let now = Instant::now();
        let refused =
            |records: usize| JournalEntry { refused_records: vec![Default::default(); records], ..entry("a") };
        denials.charge(&entry("a").actor.unwrap(), BUCKET_DENIALS - 1, now);
        assert!(denials.has_own_entry(&refused(64), Denial::NotGranted, now), "one was left");
        assert!(!denials.has_own_entry(&refused(64), Denial::NotGranted, now), "the first call spent the bucket");
        assert!(!denials.has_own_entry(&entry("a"), Denial::NotGranted, now));
        let counted = denials.take_counted(now);
        assert_eq!(counted.iter().map(|(_, count)| *count).sum::<u32>(), 65);
        denials.charge(&entry("b").actor.unwrap(), 64, now);
        assert!(!denials.has_own_entry(&entry("b"), Denial::NotGranted, now), "permitted calls spend it, too");
    }

    #[test]
    fn users_whose_buckets_are_full_are_forgotten() {
        let denials = Denials::default();
        let now = Instant::now();
        denials.has_own_entry(&entry("a"), Denial::NotGranted, now);
        denials.take_counted(now + REFILL_INTERVAL);
        assert!(denials.0.lock().unwrap().is_empty());
    }

    fn name(entry: &JournalEntry) -> String {
        entry.actor.as_ref().unwrap().name.clone()
    }

    #[tokio::test]
    async fn a_count_that_fails_comes_back_with_what_came_meanwhile_and_the_others_are_journalled() {
        let denials = Denials::default();
        // Later than every round of this test, so that no bucket refills.
        let later = Instant::now() + Duration::from_secs(3600);
        for user in ["a", "b", "c"] {
            for _ in 0..BUCKET_DENIALS + 40 {
                denials.has_own_entry(&entry(user), Denial::NotGranted, later);
            }
        }
        let mut tried = Vec::new();
        let failed = denials.journal_by(|counted, _, _| {
            let user = name(&counted);
            let outcome = if user == "b" { Err(GatewayError::Contended) } else { Ok(()) };
            if user == "b" {
                denials.has_own_entry(&entry("b"), Denial::Withdrawn, later);
            }
            tried.push(user);
            std::future::ready(outcome)
        });
        assert!(matches!(failed.await, Err(GatewayError::Contended)));
        tried.sort();
        assert_eq!(tried, ["a", "b", "c"]);

        let mut journalled = Vec::new();
        let round = denials.journal_by(|entry, count, _| {
            journalled.push((name(&entry), entry.denial, count));
            std::future::ready(Ok(()))
        });
        round.await.unwrap();
        assert_eq!(journalled, [("b".to_owned(), Denial::Withdrawn.number(), 41)]);
        assert!(denials.take_counted(Instant::now()).is_empty());
    }

    #[test]
    fn a_count_comes_back_to_a_user_who_was_forgotten() {
        let denials = Denials::default();
        denials.put_back(entry("a"), 7, Instant::now());
        denials.put_back(entry("a"), 5, Instant::now());
        let long_after = Instant::now() + REFILL_INTERVAL * (BUCKET_DENIALS + 1);
        let counted = denials.take_counted(long_after);
        assert_eq!(counted.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [12]);
    }
}
