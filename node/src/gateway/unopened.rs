//! What is stored whole and does not open: told as such, beside what does.
//!
//! Invariants
//! - One record that does not open hides no other. It is told by its id, never left out: who looks for records must know
//!   that there is one more than they see.
//! - It is told to whoever would see it by its control row. If that does not open, nobody can say who would: then to
//!   whoever is let in to the participant's records, by nothing but its id.
//! - A state database that cannot be read is this node's fault, not a record's: the call fails, and another node may
//!   answer it.
//! - Operators hear of it, by the kind of row and without its key.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kura_cluster::id::RecordId;
use kura_cluster::row::{RecordControl, RowKey, Table};
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::GatewayError;
use super::attempt::{Attempt, broken, damaged};
use super::read::there;
use crate::state::Database;

/// Rows that are remembered; there may be more.
const REMEMBERED_MAX: usize = 100;

/// Rows that did not open here since this node started.
#[derive(Default)]
pub struct Unopened(Mutex<HashMap<RowKey, Revision>>);

impl Unopened {
    /// Notes a row and says why the call cannot use it.
    pub fn note(&self, key: &RowKey, revision: Revision) -> GatewayError {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = rows.get(key) != Some(&revision);
        if is_new && (rows.len() < REMEMBERED_MAX || rows.contains_key(key)) {
            rows.insert(key.clone(), revision);
        }
        damaged(key)
    }

    /// How many of each kind are still there as they were, by the kind's word.
    pub fn count(&self, database: &Database) -> BTreeMap<&'static str, usize> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was erased, or written anew, is told no more. What cannot be read now may be there.
        rows.retain(|key, revision| {
            database.header(key).map_or(true, |header| header.is_some_and(|header| header.revision == *revision))
        });
        let mut counts = BTreeMap::new();
        for key in rows.keys() {
            *counts.entry(key.table().map_or("row", Table::word)).or_default() += 1;
        }
        counts
    }

    /// What operators have to know of it.
    pub fn trouble(&self, database: &Database) -> Option<String> {
        let counts = self.count(database);
        let all: usize = counts.values().sum();
        let kinds: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let least = if all >= REMEMBERED_MAX { "at least " } else { "" };
        let rows = if all == 1 { "row does" } else { "rows do" };
        (all > 0).then(|| {
            format!(
                "{least}{all} stored {rows} not open ({}): see the runbook on records that do not open",
                kinds.join(", ")
            )
        })
    }
}

/// What is stored of a record.
pub enum Stored {
    /// Nothing, or nothing any more.
    Nothing,
    /// Its control row, as of its newest version that is there.
    Opens(Arc<RecordControl>),
    /// Something that does not open.
    Damaged,
}

impl Attempt<'_> {
    /// What is stored of a record, expected as it is, also where it does not open.
    pub fn stored_record(&mut self, home: &Pseudonym, record: &RecordId) -> Result<Stored, GatewayError> {
        let key = RowKey::record_control(home, record);
        let control = match self.load_of::<RecordControl>(&key, home) {
            Ok(loaded) => loaded.value,
            Err(error) if error.is_of_one_row() => {
                let header = self.database.header(&key).map_err(broken)?;
                self.command.expect(&key, header.map_or(Revision::ABSENT, |header| header.revision));
                return Ok(Stored::Damaged);
            }
            Err(error) => return Err(error),
        };
        let Some(control) = control else { return Ok(Stored::Nothing) };
        match there(self, home, record, control) {
            Ok(Some(control)) => Ok(Stored::Opens(control)),
            Ok(None) => Ok(Stored::Nothing),
            Err(error) if error.is_of_one_row() => Ok(Stored::Damaged),
            Err(error) => Err(error),
        }
    }
}

/// A record, or a version of one, that does not open.
#[derive(Debug, Clone, PartialEq)]
pub struct Damaged(pub v1::DamagedRecord);

impl Damaged {
    /// One of which nothing is known.
    pub fn record() -> Damaged {
        Damaged(v1::DamagedRecord::default())
    }

    /// The newest version of a record whose control row opens, or an earlier one, whose class and day that row does
    /// not tell.
    pub fn version(control: &RecordControl, version: u32) -> Damaged {
        let is_newest = version == control.version;
        Damaged(v1::DamagedRecord {
            version,
            class: if is_newest { control.class } else { 0 },
            clinical_day: is_newest.then_some(control.clinical_day),
            author_facility: control.author_facility.clone(),
        })
    }

    /// As lists tell of it, in the place of the record.
    pub fn told(self, record: &RecordId) -> v1::RecordSummary {
        let record_id = Bytes::copy_from_slice(&record.0);
        v1::RecordSummary { record_id, damaged: Some(self.0), ..v1::RecordSummary::default() }
    }
}
