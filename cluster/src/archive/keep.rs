//! Which generations are kept, and why.
//!
//! Days, weeks (from Monday) and months are those of Japan. Of each of the last so many days, weeks and months
//! that have a generation, the newest one is kept.
//!
//! Invariant: the newest generation, and one that is held, are always kept.

use std::collections::BTreeMap;

use super::manifest::Gap;

/// Which day, week or month a moment is in.
type Period = fn(u64) -> i64;

const JAPAN_OFFSET_MS: u64 = 9 * 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// How many generations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepRules {
    /// The newest ones; 0 counts as 1.
    pub last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
}

impl KeepRules {
    /// Nothing ever expires.
    pub const ALL: KeepRules = KeepRules { last: u32::MAX, daily: 0, weekly: 0, monthly: 0 };
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Number of the generation.
    pub generation: u64,
    /// The cluster's clock at its base.
    pub clock_ms: u64,
    /// Whether somebody holds it.
    pub is_held: bool,
}

/// Why a generation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody holds it.
    Held,
    /// It is among the last ones.
    Last,
    /// It is the newest of its day.
    Daily,
    /// It is the newest of its week.
    Weekly,
    /// It is the newest of its month.
    Monthly,
    /// A manifest of it cannot be read, so that nothing can be said of it.
    Unreadable,
}

impl Reason {
    /// The word for tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Held => "held",
            Reason::Last => "last",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::Unreadable => "unreadable",
        }
    }
}

/// Judges generations, ascending by number: those that are kept, with every reason. All others expire.
pub fn keep(rules: &KeepRules, candidates: &[Candidate]) -> BTreeMap<u64, Vec<Reason>> {
    let mut kept: BTreeMap<u64, Vec<Reason>> = BTreeMap::new();
    let mut note = |generation: u64, reason| kept.entry(generation).or_default().push(reason);
    for held in candidates.iter().filter(|candidate| candidate.is_held) {
        note(held.generation, Reason::Held);
    }
    let newest_first = || candidates.iter().rev();
    for candidate in newest_first().take(count(rules.last).max(1)) {
        note(candidate.generation, Reason::Last);
    }
    let calendars: [(Reason, u32, Period); 3] = [
        (Reason::Daily, rules.daily, day),
        (Reason::Weekly, rules.weekly, week),
        (Reason::Monthly, rules.monthly, month),
    ];
    for (reason, wanted, period) in calendars {
        let mut periods: Vec<i64> = Vec::new();
        for candidate in newest_first() {
            let period = period(candidate.clock_ms);
            if periods.len() < count(wanted) && !periods.contains(&period) {
                periods.push(period);
                note(candidate.generation, reason);
            }
        }
    }
    kept.values_mut().for_each(|reasons| reasons.sort_unstable());
    kept
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn day(clock_ms: u64) -> i64 {
    i64::try_from((clock_ms.saturating_add(JAPAN_OFFSET_MS)) / DAY_MS).unwrap_or(i64::MAX)
}

/// Weeks since the one of 1970-01-01, a Thursday.
fn week(clock_ms: u64) -> i64 {
    (day(clock_ms).saturating_add(3)) / 7
}

fn month(clock_ms: u64) -> i64 {
    const EPOCH_JULIAN_DAY: i64 = 2_440_588;
    let julian_day = i32::try_from(day(clock_ms).saturating_add(EPOCH_JULIAN_DAY)).unwrap_or(i32::MAX);
    match time::Date::from_julian_day(julian_day) {
        Ok(date) => i64::from(date.year()) * 12 + i64::from(u8::from(date.month())),
        Err(_) => i64::MAX,
    }
}

/// Adds manifests that expire to those that have: in order, merged where they meet.
pub fn with_gap(expired: &[Gap], gap: Gap) -> Vec<Gap> {
    let mut all = expired.to_vec();
    all.push(gap);
    all.sort_unstable_by_key(|gap| gap.first);
    let mut merged: Vec<Gap> = Vec::new();
    for gap in all {
        match merged.last_mut() {
            Some(before) if before.last + 1 == gap.first => {
                (before.last, before.last_sha256) = (gap.last, gap.last_sha256);
            }
            _ => merged.push(gap),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: KeepRules = KeepRules { last: 0, daily: 0, weekly: 0, monthly: 0 };

    /// A moment in Japan.
    fn at(day: &str, hour: u64) -> u64 {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        let date = time::Date::parse(day, format).unwrap();
        let days = i64::from(date.to_julian_day()) - 2_440_588;
        u64::try_from(days).unwrap() * DAY_MS + hour * 3_600_000 - JAPAN_OFFSET_MS
    }

    fn candidates(moments: &[(&str, u64)]) -> Vec<Candidate> {
        let candidate = |(generation, (day, hour)): (u64, &(&str, u64))| Candidate {
            generation,
            clock_ms: at(day, *hour),
            is_held: false,
        };
        (1..).zip(moments).map(candidate).collect()
    }

    fn kept(rules: KeepRules, candidates: &[Candidate]) -> Vec<u64> {
        keep(&rules, candidates).into_keys().collect()
    }

    #[test]
    fn the_newest_of_each_day_week_and_month() {
        let all = candidates(&[
            ("2026-01-31", 23),
            ("2026-02-01", 0), // a Sunday
            ("2026-02-02", 1), // Monday: a new week
            ("2026-02-02", 23),
            ("2026-02-03", 0),
        ]);
        assert_eq!(kept(NONE, &all), [5], "the newest always stays");
        assert_eq!(kept(KeepRules { last: 2, ..NONE }, &all), [4, 5]);
        assert_eq!(kept(KeepRules { daily: 2, ..NONE }, &all), [4, 5]);
        assert_eq!(kept(KeepRules { daily: 9, ..NONE }, &all), [1, 2, 4, 5]);
        assert_eq!(kept(KeepRules { weekly: 2, ..NONE }, &all), [2, 5]);
        assert_eq!(kept(KeepRules { monthly: 2, ..NONE }, &all), [1, 5]);
        assert_eq!(kept(KeepRules::ALL, &all), [1, 2, 3, 4, 5]);
        let reasons = keep(&KeepRules { last: 1, daily: 1, weekly: 1, monthly: 1 }, &all);
        assert_eq!(reasons[&5], [Reason::Last, Reason::Daily, Reason::Weekly, Reason::Monthly]);
        assert!(kept(NONE, &[]).is_empty());
    }

    #[test]
    fn what_is_held_stays() {
        let mut all = candidates(&[("2026-01-01", 0), ("2026-01-02", 0), ("2026-01-03", 0)]);
        all[0].is_held = true;
        assert_eq!(keep(&NONE, &all), BTreeMap::from([(1, vec![Reason::Held]), (3, vec![Reason::Last])]));
    }

    #[test]
    fn gaps_merge_where_they_meet() {
        let gap = |first, last| Gap {
            first,
            last,
            previous_sha256: (first > 1).then_some([first as u8; 32]),
            last_sha256: [last as u8; 32],
        };
        assert_eq!(with_gap(&[], gap(4, 6)), [gap(4, 6)]);
        let joined = Gap { last_sha256: [9; 32], last: 9, ..gap(4, 6) };
        assert_eq!(with_gap(&[gap(4, 6)], gap(7, 9)), [joined]);
        assert_eq!(with_gap(&[gap(4, 6)], gap(8, 9)), [gap(4, 6), gap(8, 9)]);
        let whole = Gap { last: 9, last_sha256: [9; 32], ..gap(1, 3) };
        assert_eq!(with_gap(&[gap(1, 3), gap(7, 9)], gap(4, 6)), [whole]);
    }

    proptest! {
        #[test]
        fn the_newest_and_the_held_are_kept_whatever_the_rules(
            last in 0_u32..4, daily in 0_u32..4, weekly in 0_u32..4, monthly in 0_u32..4,
            moments in proptest::collection::vec((any::<u32>(), any::<bool>()), 1..20),
        ) {
            let all: Vec<Candidate> = (1..)
                .zip(moments)
                .map(|(generation, (s, is_held))| Candidate { generation, clock_ms: u64::from(s) * 1000, is_held })
                .collect();
            let rules = KeepRules { last, daily, weekly, monthly };
            let kept = keep(&rules, &all);
            prop_assert!(kept.contains_key(&(all.len() as u64)));
            prop_assert!(all.iter().filter(|c| c.is_held).all(|c| kept.contains_key(&c.generation)));
            prop_assert!(kept.values().all(|reasons| !reasons.is_empty()));
        }
    }
}
