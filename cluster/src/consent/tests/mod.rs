//! The rules three times: as `decide` has them, as a table of cases, and as a flat list of what is
//! forbidden that is held against `decide` over all combinations of facts.

use super::*;

mod cases;
mod fuzz;
mod naive;
mod walk;
mod world;

const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;
/// Every case happens on day 200.
const NOW_MS: u64 = 200 * DAY_MS;

#[test]
fn the_day_changes_at_midnight_in_japan() {
    assert_eq!(japan_day(15 * 3_600_000 - 1), 0);
    assert_eq!(japan_day(15 * 3_600_000), 1);
    assert_eq!(japan_day(u64::MAX), i32::MAX);
}

#[test]
fn a_counter_counts_within_its_window() {
    let first = count_after(None, 100, 1_000);
    assert_eq!((first.began_ms, first.count), (1_000, 1));
    let second = count_after(Some(&first), 100, 1_099);
    assert_eq!((second.began_ms, second.count), (1_000, 2));
    // At the window's end a new one begins; so it does for a counter from nowhere.
    let anew = count_after(Some(&second), 100, 1_100);
    assert_eq!((anew.began_ms, anew.count), (1_100, 1));
}

#[test]
fn allergies_come_first() {
    let urgent: Vec<_> = crate::word::Class::ALL.iter().filter(|class| is_urgent(**class)).map(|c| c.word()).collect();
    assert_eq!(urgent, ["allergy"]);
}

#[test]
fn an_alias_takes_part_under_the_number_that_stays_alone() {
    let consents = vec![crate::row::ParticipationConsent { signed_day: 1, ..Default::default() }];
    let stays = crate::row::Participant { consents, ..Default::default() };
    let alias = crate::row::Participant { alias_of: vec![1; 16].into(), ..stays.clone() };
    assert!(present_consent(&stays).is_some());
    assert!(present_consent(&alias).is_none());
}
