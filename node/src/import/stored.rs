//! What of a participant's records is stored already, as far as the importing user may see it.
//!
//! It tells where a chain of versions goes on, and spares sending what a document id that is the
//! content's hash shows to be stored. A user whose profession may not see a class imports it all the
//! same: every write happens once by its document id.

use std::collections::HashMap;

use kura_client::{ActingClient, ListError, Listed, ParticipantNumber, Purpose, RecordId, Summary};

use crate::cli::Failure;

/// The newest version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// Length of the body.
    pub bytes: u64,
    /// Whether it is hidden.
    pub hidden: bool,
}

/// The newest versions of a participant's records from one facility, by document id.
#[derive(Debug, Default)]
pub struct Stored(HashMap<String, Newest>);

impl Stored {
    /// Lists them. Where listing is refused there are none: writing will tell why.
    ///
    /// # Errors
    /// Why the run must stop.
    pub async fn load(acting: &ActingClient, number: &ParticipantNumber, facility: &str) -> Result<Stored, Failure> {
        let mut list = acting.list(number).author_facility(facility).purpose(Purpose::Care).stream();
        let mut stored = HashMap::new();
        while let Some(item) = list.next().await {
            let summary: Summary = match item {
                Ok(Listed::Record(summary)) => summary,
                // Under which document id it was written is not known; the cluster tells whether an id is in use.
                Ok(Listed::Damaged(_)) => continue,
                Err(ListError::Denied(_)) => return Ok(Stored::default()),
                Err(error) => return Err(error.into()),
            };
            if summary.document_id.is_empty() {
                continue;
            }
            let Summary { record, version, bytes, hidden, .. } = summary;
            stored.insert(summary.document_id, Newest { record, version, bytes, hidden });
        }
        Ok(Stored(stored))
    }

    /// The record whose newest version has this document id.
    pub fn document(&self, id: &str) -> Option<Newest> {
        self.0.get(id).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Newest)> {
        self.0.iter().map(|(id, newest)| (id.as_str(), *newest))
    }
}
