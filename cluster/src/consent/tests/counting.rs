//! Counters held against the plain list of what was counted, under windows that change.

use proptest::prelude::*;

use super::super::emergency::{WINDOW_MS_MAX, count_after, count_within};
use crate::row::CounterRow;

const HOUR_MS: u64 = 3_600_000;
/// Slices of a counter at most: of each two neighbours that were not joined, the ages differ by an eighth.
const SLICES_MAX: usize = 128;

fn window() -> impl Strategy<Value = u64> {
    prop_oneof![Just(HOUR_MS), Just(24 * HOUR_MS), Just(WINDOW_MS_MAX), HOUR_MS..=WINDOW_MS_MAX]
}

/// Events: how long after the one before, under which window.
fn events() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let pause = prop_oneof![0..1_000_u64, 0..HOUR_MS, 0..24 * HOUR_MS, 0..20 * 24 * HOUR_MS];
    prop::collection::vec((pause, window()), 1..120)
}

proptest! {
    #[test]
    fn no_window_undercounts_whatever_it_was_before(events in events(), later in 0..WINDOW_MS_MAX, asked in window()) {
        let (mut row, mut now_ms, mut all, mut longest) = (None::<CounterRow>, 1, Vec::new(), 0);
        for (pause, window_ms) in events {
            now_ms += pause;
            row = Some(count_after(row.as_ref(), window_ms, now_ms));
            all.push(now_ms);
            longest = longest.max(window_ms);
            prop_assert!(row.as_ref().unwrap().slices.len() <= SLICES_MAX);
        }
        for at_ms in [now_ms, now_ms + later] {
            let within = |window_ms: u64| all.iter().filter(|event| at_ms < *event + window_ms).count() as u32;
            let counted = count_within(row.as_ref(), asked, at_ms);
            prop_assert!(counted >= within(asked), "{counted} of {} within {asked} ms", within(asked));
            if longest <= asked {
                let most = within(asked + asked / 8);
                prop_assert!(counted <= most, "{counted} of at most {most} within {asked} ms and an eighth");
            }
        }
    }

    #[test]
    fn a_counter_stays_small_under_a_steady_stream(pause in 1_000..HOUR_MS, window_ms in window()) {
        let mut row = None;
        for n in 0..3_000 {
            row = Some(count_after(row.as_ref(), window_ms, 1 + n * pause));
        }
        prop_assert!(row.unwrap().slices.len() <= SLICES_MAX);
    }
}
