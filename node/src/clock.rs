//! The wall clock, and whether it can be trusted.
//!
//! Invariants
//! - A node's clock is held against the voters' median, its own voice among them: one clock alone, however
//!   wrong, moves nobody else.
//! - A clock that is set is not trusted before it was compared anew, and has no voice in that.
//! - Nobody is judged by what was heard long ago, or by nobody: then the former judgement stands.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::{format_description, offset};

/// Answers older than this do not count.
pub const HEARD_MAX: Duration = Duration::from_secs(3);

/// Stands for an offset that is not known yet: a node that has just started decides nothing before it has
/// compared its clock.
pub const NOT_COMPARED: i64 = i64::MIN;

/// How far the wall clock may move otherwise than the clock that nobody can set, in milliseconds, between two
/// comparisons: clocks are slewed by far less, and a thread that waits between two looks shows no more.
const SET_MS_MAX: u64 = 1_000;

/// Notices that the wall clock was set since it was compared. Voters compare each second, and a command of
/// that second would move the cluster's time.
#[derive(Debug, Default)]
pub struct Steady(Mutex<Option<(u64, Instant)>>);

impl Steady {
    /// The wall clock, which showed `wall_ms` at a moment, has been compared. The judgement must be known to
    /// everybody before.
    pub fn compared(&self, wall_ms: u64, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((wall_ms, at));
    }

    /// Whether the wall clock, which shows `wall_ms` at a moment, has gone on from the last comparison as time
    /// does. Without one there is nothing to say.
    pub fn goes_on(&self, wall_ms: u64, at: Instant) -> bool {
        let compared = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        compared.is_none_or(|(then_ms, then)| {
            let passed_ms = u64::try_from(at.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX);
            then_ms.saturating_add(passed_ms).abs_diff(wall_ms) <= SET_MS_MAX
        })
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in milliseconds since 1970 as Japan reads it, to the second, with its offset; empty for 0.
pub fn in_japan(at_ms: u64) -> String {
    const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second]+09:00");
    let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    if at_ms == 0 {
        return String::new();
    }
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.checked_to_offset(offset!(+9)));
    // What no calendar holds is told as it is.
    at.and_then(|at| at.format(FORM).ok()).unwrap_or_else(|| format!("{at_ms} ms since 1970"))
}

/// What a voter said of its clock.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Its clock when it answered, in milliseconds since 1970.
    pub clock_ms: u64,
    /// How long ago that was.
    pub age: Duration,
}

/// How far a clock that shows `now_ms` is ahead of the voters' median, in milliseconds (negative: behind).
/// `others` has an item for each other voter, empty if it was never heard. `None` if there are others and
/// none of them was heard lately. Without a voice of its own (`own_counts`), because it was set or is off, the
/// clock is judged by the others alone: of two, that one is wrong which has just been set.
pub fn ahead_of_median_ms(
    now_ms: u64,
    own_counts: bool,
    others: impl IntoIterator<Item = Option<Told>>,
) -> Option<i64> {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let mut alone = true;
    let mut ahead: Vec<i64> = Vec::new();
    for told in others {
        alone = false;
        if let Some(Told { clock_ms, age }) = told.filter(|told| told.age < HEARD_MAX) {
            let theirs = signed(clock_ms).saturating_add(signed(age.as_millis().try_into().unwrap_or(u64::MAX)));
            ahead.push(signed(now_ms).saturating_sub(theirs));
        }
    }
    if ahead.is_empty() && !alone {
        return None;
    }
    if own_counts || alone {
        ahead.push(0);
    }
    ahead.sort_unstable();
    // With an even number the smaller deviation counts: two clocks alone cannot tell which is off.
    let (low, high) = (ahead[(ahead.len() - 1) / 2], ahead[ahead.len() / 2]);
    Some(if low.unsigned_abs() <= high.unsigned_abs() { low } else { high })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn moments_say_where_they_are_read() {
        assert_eq!(in_japan(1_711_897_200_000), "2024-04-01 00:00:00+09:00");
        assert_eq!(in_japan(0), "");
    }
    const HOUR_MS: i64 = 3_600_000;

    /// Clocks of the other voters, as far ahead of ours; `None` for one that was not heard.
    fn judge(others: &[Option<i64>]) -> Option<i64> {
        judged(true, others)
    }

    fn judged(own_counts: bool, others: &[Option<i64>]) -> Option<i64> {
        let told = |ahead: i64| Told { clock_ms: NOW_MS.saturating_add_signed(ahead), age: Duration::ZERO };
        ahead_of_median_ms(NOW_MS, own_counts, others.iter().map(|other| other.map(told)))
    }

    #[test]
    fn the_median_of_the_voters_counts() {
        let table: &[(&[Option<i64>], Option<i64>)] = &[
            // A sole voter is right; one who hears nobody does not know.
            (&[], Some(0)),
            (&[None, None], None),
            // Two clocks cannot tell which of them is off.
            (&[Some(HOUR_MS)], Some(0)),
            (&[Some(HOUR_MS), None], Some(0)),
            // Of three, the one that is off is told, and only that one.
            (&[Some(HOUR_MS), Some(HOUR_MS + 3)], Some(-HOUR_MS)),
            (&[Some(-HOUR_MS), Some(-HOUR_MS - 3)], Some(HOUR_MS)),
            (&[Some(HOUR_MS), Some(20)], Some(-20)),
            (&[Some(-HOUR_MS), Some(20)], Some(0)),
            (&[Some(HOUR_MS), Some(-HOUR_MS)], Some(0)),
            // Of four, two against two leaves both; three outvote one.
            (&[Some(HOUR_MS), Some(HOUR_MS), Some(5)], Some(-5)),
            (&[Some(HOUR_MS), Some(HOUR_MS), Some(HOUR_MS)], Some(-HOUR_MS)),
            (&[Some(HOUR_MS), Some(HOUR_MS), None, None], Some(-HOUR_MS)),
        ];
        for (others, expected) in table {
            assert_eq!(judge(others), *expected, "{others:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_has_no_voice() {
        assert_eq!(judged(false, &[]), Some(0), "a sole voter is right");
        assert_eq!(judged(false, &[None, None]), None);
        assert_eq!(judged(false, &[Some(-HOUR_MS), None]), Some(HOUR_MS), "the other one of two is believed");
        assert_eq!(judged(false, &[Some(7), None]), Some(-7));
        assert_eq!(judged(false, &[Some(-HOUR_MS), Some(7)]), Some(-7), "the nearer one of two others");
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_until_it_is_compared() {
        let (steady, at) = (Steady::default(), Instant::now());
        assert!(steady.goes_on(NOW_MS, at), "nothing was compared");
        steady.compared(NOW_MS, at);
        let day = Duration::from_secs(86_400);
        for (moved_ms, goes_on) in [(0, true), (900, true), (-900, true), (1_100, false), (-1_100, false)] {
            for later in [Duration::ZERO, day] {
                let wall_ms = (NOW_MS + later.as_millis() as u64).saturating_add_signed(moved_ms);
                assert_eq!(steady.goes_on(wall_ms, at + later), goes_on, "{moved_ms} ms");
            }
        }
        steady.compared(NOW_MS + 3_600_000, at + day);
        assert!(steady.goes_on(NOW_MS + 3_600_010, at + day + Duration::from_millis(10)));
    }

    #[test]
    fn what_was_heard_ages_and_is_forgotten() {
        let told = |clock_ms, age_ms| Some(Told { clock_ms, age: Duration::from_millis(age_ms) });
        let at = |ago_ms: u64| told(NOW_MS - ago_ms, ago_ms);
        assert_eq!(ahead_of_median_ms(NOW_MS, true, [at(0), at(2_999)]), Some(0));
        assert_eq!(ahead_of_median_ms(NOW_MS, true, [told(NOW_MS, 2_000), told(NOW_MS, 2_000)]), Some(-2_000));
        assert_eq!(ahead_of_median_ms(NOW_MS, true, [told(0, 3_000), told(0, 3_000)]), None);
        assert_eq!(ahead_of_median_ms(NOW_MS, true, [told(0, 3_000), at(10)]), Some(0));
    }

    #[test]
    fn senseless_clocks_are_only_far_off() {
        let told = |clock_ms| Some(Told { clock_ms, age: Duration::ZERO });
        assert!(ahead_of_median_ms(0, true, [told(u64::MAX), told(u64::MAX)]).unwrap() < -HOUR_MS);
        assert!(ahead_of_median_ms(u64::MAX, true, [told(0), told(0)]).unwrap() > HOUR_MS);
    }
}
