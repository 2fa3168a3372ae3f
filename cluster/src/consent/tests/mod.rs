//! The rules three times: as `decide` has them, as a table of cases, and as a flat list of what is
//! forbidden that is held against `decide` over all combinations of facts.

use super::*;

mod cases;
mod counting;
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
    let counted = |row: &crate::row::CounterRow, now_ms| super::emergency::count_within(Some(row), 800, now_ms);
    let first = count_after(None, 800, 1_000);
    let second = count_after(Some(&first), 800, 1_099);
    // Within an eighth of the window they go together, with the newer one.
    assert_eq!((second.slices.len(), counted(&second, 1_898), counted(&second, 1_899)), (1, 2, 0));
    let third = count_after(Some(&second), 800, 1_100);
    assert_eq!(
        (third.slices.len(), counted(&third, 1_898), counted(&third, 1_899), counted(&third, 1_900)),
        (2, 3, 1, 0)
    );
    // What has gone is kept for a longer window, and a clock that lags behind loses nothing.
    let fourth = count_after(Some(&third), 800, 1_899);
    assert_eq!((counted(&fourth, 1_899), super::emergency::count_within(Some(&fourth), 900, 1_899)), (2, 4));
    assert_eq!(counted(&count_after(Some(&third), 800, 900), 900), 4);
}

#[test]
fn no_window_of_any_place_holds_more_than_the_cap() {
    const CAP: u32 = 10;
    const WINDOW_MS: u64 = 86_400_000;
    // As an attacker would: everything at the end of a window, everything again when the next one begins, and then
    // whenever something is to be had.
    let tries = (0..3_000_u64).map(|n| WINDOW_MS - 1_000 + n * 100).chain((1..400).map(|n| WINDOW_MS + n * 600_000));
    let (mut row, mut opened) = (None, Vec::new());
    for now_ms in tries {
        if super::emergency::count_within(row.as_ref(), WINDOW_MS, now_ms) < CAP {
            row = Some(count_after(row.as_ref(), WINDOW_MS, now_ms));
            opened.push(now_ms);
        }
        assert!(row.as_ref().is_none_or(|row| row.slices.len() <= 24));
    }
    let within = |from: &u64| opened.iter().filter(|at| (*from..from + WINDOW_MS).contains(*at)).count();
    assert!(opened.iter().all(|from| within(from) <= CAP as usize), "{opened:?}");
    assert!(opened.len() >= 3 * CAP as usize, "what has gone makes room: {opened:?}");
}

#[test]
fn whoever_enrols_is_told_that_a_number_is_taken_and_no_more() {
    let told: Vec<_> = Denial::ALL.iter().filter(|denial| denial.as_told() != **denial).map(|d| d.word()).collect();
    assert_eq!(told, ["before-withdrawal", "erasure-begun"]);
    assert!(Denial::ALL.iter().all(|denial| denial.is_uniform() == denial.as_told().is_uniform()));
}

#[test]
fn allergies_come_first() {
    let urgent: Vec<_> = crate::word::Class::ALL.iter().filter(|class| is_urgent(**class)).map(|c| c.word()).collect();
    assert_eq!(urgent, ["allergy"]);
}

#[test]
fn an_alias_takes_part_under_the_number_that_stays_alone() {
    let consent = Some(crate::row::PresentConsent { signed_day: 1, ..Default::default() });
    let stays = crate::row::Participant { consent, ..Default::default() };
    let alias = crate::row::Participant { alias_of: vec![1; 16].into(), ..stays.clone() };
    assert!(present_consent(&stays).is_some());
    assert!(present_consent(&alias).is_none());
}
