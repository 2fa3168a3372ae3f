//! Leaps of the clock where nobody else's can be asked: of a lone voter, and of the machine on which a cluster is taken
//! over or restored.
//!
//! The cluster's time never runs backwards: what a clock that is set forward by mistake has moved stays moved. Among
//! several voters the median judges ([`crate::clock`]). A lone voter's clock is held against what it showed before, and
//! against the cluster's time.
//!
//! Invariants
//! - A lone voter that runs follows no leap beyond [`LEAP_MS_MAX`]; one that has just started none beyond
//!   [`AWAY_MS_MAX`] from the cluster's last entry. It decides nothing until the clock is right or people say that it is.
//! - Being behind is no leap: it moves nothing.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::clock::in_japan;

/// How far a lone voter's clock may be ahead of what it showed before and the time that has passed since, in
/// milliseconds: less than the window of remembered requests, so that a clock that is set right again is believed.
pub const LEAP_MS_MAX: u64 = 10 * 60_000;
/// How long nobody may have written, in milliseconds, for a clock to be believed that nothing else speaks for: a lone
/// voter's that starts, or this machine's for a take-over. Power may be off for some days.
pub const AWAY_MS_MAX: u64 = 14 * 86_400_000;

/// In the data directory: the clock that people said is right.
const FILE: &str = "clock-is-right";

/// A lone voter's clock as it was believed last.
#[derive(Debug, Default)]
pub struct Lone(Mutex<Option<(u64, Instant)>>);

impl Lone {
    /// The wall clock, which shows `wall_ms` at a moment, is right: other voters or people say so.
    pub fn believe(&self, wall_ms: u64, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((wall_ms, at));
    }

    /// How far the wall clock is ahead of where it can be, in milliseconds; 0 if it is not, then it is believed.
    /// `cluster_ms` is the cluster's time here.
    pub fn ahead_ms(&self, cluster_ms: u64, wall_ms: u64, at: Instant) -> u64 {
        let mut believed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (expected_ms, may_ms) = match *believed {
            Some((then_ms, then)) => {
                let passed = at.saturating_duration_since(then).as_millis();
                let expected_ms = then_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
                (expected_ms.max(cluster_ms), LEAP_MS_MAX)
            }
            // A state without an entry tells no time.
            None if cluster_ms == 0 => (wall_ms, 0),
            None => (cluster_ms, AWAY_MS_MAX),
        };
        let ahead_ms = wall_ms.saturating_sub(expected_ms);
        if ahead_ms > may_ms {
            return ahead_ms;
        }
        *believed = Some((wall_ms, at));
        0
    }
}

/// Why a clock that shows `wall_ms` is not believed for going on after a cluster's last entry, in words; `None`: it is.
pub fn doubt(wall_ms: u64, last_ms: u64) -> Option<String> {
    let told =
        format!("this machine's clock shows {}, and the last entry is of {}", in_japan(wall_ms), in_japan(last_ms));
    if last_ms == 0 {
        return None;
    }
    if wall_ms.saturating_add(LEAP_MS_MAX) < last_ms {
        return Some(format!("{told}: the clock is behind it"));
    }
    match wall_ms.saturating_sub(last_ms) {
        since_ms if since_ms > AWAY_MS_MAX => Some(format!("{told}: {} days later", since_ms / 86_400_000)),
        _ => None,
    }
}

/// Notes in a data directory that people say the clock is right, which shows `wall_ms`.
///
/// # Errors
/// The file's.
pub fn say_right(data: &Path, wall_ms: u64) -> io::Result<()> {
    let path = data.join(FILE);
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, wall_ms.to_string())?;
    std::fs::rename(&unfinished, &path)
}

/// Whether people said so of a clock that shows `wall_ms` now. It counts once.
pub fn is_said_right(data: &Path, wall_ms: u64) -> bool {
    let path = data.join(FILE);
    let Ok(text) = std::fs::read_to_string(&path) else { return false };
    let right = text.trim().parse::<u64>().is_ok_and(|said_ms| said_ms.abs_diff(wall_ms) <= LEAP_MS_MAX);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "cannot be removed: it counts again");
    }
    right
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_lone_voter_that_runs_follows_no_leap_until_people_say_so() {
        let (lone, at) = (Lone::default(), Instant::now());
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS, at), 0);
        // An hour without an entry is an hour.
        let later = at + Duration::from_secs(3_600);
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS + 3_600_000, later), 0);
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS + 3_600_000 + LEAP_MS_MAX, later), 0);
        let ahead = NOW_MS + 3_600_000 + LEAP_MS_MAX + DAY_MS;
        assert_eq!(lone.ahead_ms(NOW_MS, ahead, later), DAY_MS);
        assert_eq!(lone.ahead_ms(NOW_MS, ahead + 1_000, later + Duration::from_secs(1)), DAY_MS, "still");
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS + 3_602_000, later + Duration::from_secs(2)), 0, "set right");
        lone.believe(ahead, later);
        assert_eq!(lone.ahead_ms(NOW_MS, ahead, later), 0);
    }

    #[test]
    fn being_behind_is_no_leap_and_going_back_to_the_clusters_time_neither() {
        let (lone, at) = (Lone::default(), Instant::now());
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS - 400 * DAY_MS, at), 0);
        assert_eq!(lone.ahead_ms(NOW_MS, NOW_MS + 1_000, at), 0, "its battery was empty, then it heard the time");
    }

    #[test]
    fn who_starts_may_have_been_off_for_days() {
        let at = Instant::now();
        assert_eq!(Lone::default().ahead_ms(NOW_MS, NOW_MS + AWAY_MS_MAX, at), 0);
        assert_eq!(Lone::default().ahead_ms(NOW_MS, NOW_MS + AWAY_MS_MAX + 1, at), AWAY_MS_MAX + 1);
        assert_eq!(Lone::default().ahead_ms(0, NOW_MS, at), 0, "an empty state tells no time");
    }

    #[test]
    fn a_clock_before_the_last_entry_or_long_after_it_is_told() {
        assert_eq!(doubt(NOW_MS, NOW_MS), None);
        assert_eq!(doubt(NOW_MS - LEAP_MS_MAX, NOW_MS), None);
        assert_eq!(doubt(NOW_MS + AWAY_MS_MAX, NOW_MS), None);
        assert_eq!(doubt(NOW_MS, 0), None);
        assert!(doubt(NOW_MS - LEAP_MS_MAX - 1, NOW_MS).unwrap().ends_with("the clock is behind it"));
        assert!(doubt(NOW_MS + 20 * DAY_MS, NOW_MS).unwrap().ends_with("20 days later"));
    }

    #[test]
    fn what_people_say_counts_once_and_for_the_clock_that_they_saw() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_said_right(folder.path(), NOW_MS));
        say_right(folder.path(), NOW_MS).unwrap();
        assert!(is_said_right(folder.path(), NOW_MS + 5_000));
        assert!(!is_said_right(folder.path(), NOW_MS + 5_000));
        say_right(folder.path(), NOW_MS).unwrap();
        assert!(!is_said_right(folder.path(), NOW_MS + DAY_MS));
    }
}
