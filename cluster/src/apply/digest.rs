//! What the state's digest covers: every table, the journal, the timeline.

use super::{Summary, state_digest};
use crate::digest::Digest;
use crate::row::Table;

#[test]
fn the_digest_of_the_state_covers_every_table_the_journal_and_the_timeline() {
    let state = Summary::default();
    let same = state_digest(&state);
    let differs = |change: &dyn Fn(&mut Summary)| {
        let mut other = state.clone();
        change(&mut other);
        state_digest(&other) != same
    };
    for place in 0..Table::ALL.len() {
        assert!(differs(&|other| other.tables[place].rows = 1), "rows of {:?}", Table::ALL[place]);
        let digest = Digest::from_bytes([7; 32]);
        assert!(differs(&|other| other.tables[place].digest = digest), "digest of {:?}", Table::ALL[place]);
    }
    assert!(differs(&|other| other.journal.append([7; 32], |_| {})), "the journal");
    assert!(differs(&|other| other.timeline = 1), "the timeline");
    // How far the clock is, and what is counted by the day, follows from the log and is in no table.
    assert!(!differs(&|other| other.clock_ms = 1));
}
