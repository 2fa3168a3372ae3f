//! What is left for oversight of a participant who was erased: reviews that say who did what when, and name nobody.
//!
//! Invariant: a review stays, open or with its verdict: an erasure takes no act out of the auditors' sight. Episodes, whose
//! participant nobody finds any more, go.

use std::collections::BTreeSet;

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::row::{EpisodeRow, JournalEntry, ReviewRow, RowKey, Table};

use super::attempt::{Attempt, broken};
use super::limits::STAGE_COMMAND_ROWS;
use super::{Gateway, GatewayError};

/// Rows of a whole table looked at in one page.
const SCAN_ROWS: usize = 1024;
/// Bytes of an episode's key: table and id. Counters in the same table have longer ones.
const EPISODE_KEY_BYTES: usize = 17;

impl Gateway {
    /// Empties reviews of what names these participants, and deletes their emergencies.
    pub(super) async fn forget_in_reviews(&self, enrolments: &BTreeSet<Pseudonym>) -> Result<(), GatewayError> {
        loop {
            let found = tokio::task::block_in_place(|| {
                let attempt = Attempt::begin(self, &JournalEntry::default())?;
                named(&attempt, Table::Review, enrolments, |row: &ReviewRow| row.pseudonym.clone())
            })?;
            if found.is_empty() {
                break;
            }
            for keys in found.chunks(STAGE_COMMAND_ROWS) {
                let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
                for key in keys {
                    let review = attempt.load::<ReviewRow>(key)?;
                    // A verdict may have moved it: it is found again.
                    let Some(row) = review.value else { continue };
                    attempt.put(key, review.revision, &without_names(&row));
                }
                self.propose_step(attempt).await?;
            }
        }
        let found = tokio::task::block_in_place(|| {
            let attempt = Attempt::begin(self, &JournalEntry::default())?;
            named(&attempt, Table::Emergency, enrolments, |row: &EpisodeRow| row.pseudonym.clone())
        })?;
        for keys in found.chunks(STAGE_COMMAND_ROWS) {
            let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
            keys.iter().for_each(|key| attempt.command.delete(key));
            self.propose_step(attempt).await?;
        }
        Ok(())
    }
}

/// Texts may name somebody, too.
fn without_names(row: &ReviewRow) -> ReviewRow {
    ReviewRow {
        pseudonym: Bytes::new(),
        number: String::new(),
        duplicate: String::new(),
        reason: String::new(),
        note: String::new(),
        ..row.clone()
    }
}

/// Reviews, or episodes, that name one of these participants.
fn named<T: prost::Message + Default + Clone + 'static>(
    attempt: &Attempt<'_>,
    table: Table,
    enrolments: &BTreeSet<Pseudonym>,
    pseudonym: impl Fn(&T) -> Bytes,
) -> Result<Vec<RowKey>, GatewayError> {
    let snapshot = attempt.database.snapshot();
    let prefix = RowKey::whole_table(table);
    let mut found = Vec::new();
    let mut after: Option<RowKey> = None;
    loop {
        let from = after.as_ref().map(|key| &key.as_bytes()[..]);
        let rows = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, stored) in &rows {
            if table == Table::Emergency && key.as_bytes().len() != EPISODE_KEY_BYTES {
                continue;
            }
            let row: T = attempt.open_scanned(key, stored)?;
            if Pseudonym::from_slice(&pseudonym(&row)).is_ok_and(|named| enrolments.contains(&named)) {
                found.push(key.clone());
            }
        }
    }
}
