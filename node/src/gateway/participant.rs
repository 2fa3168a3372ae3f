//! Finding a participant: number → pseudonym → participant → data key.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::{NumberRow, Participant, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::{ParticipantNumber, Pseudonym, Revision};

use super::GatewayError;
use super::attempt::{Attempt, DataKey};

/// A participant as a decision uses it.
pub struct Known {
    /// Inside name.
    pub pseudonym: Pseudonym,
    /// Revision of the participant row.
    pub revision: Revision,
    /// The opened row.
    pub row: Arc<Participant>,
}

impl Attempt<'_> {
    /// Loads a participant by number and expects what was found: the participant row, or, for a number
    /// that nobody has, that nobody has it. The journal entry gets its subject.
    pub fn participant(&mut self, number: &ParticipantNumber) -> Result<Option<Known>, GatewayError> {
        let key = self.number_key(number);
        let found = self.look::<NumberRow>(&key)?;
        let Some(found_row) = found.value else {
            self.command.expect(&key, Revision::ABSENT);
            return Ok(None);
        };
        // An alias is resolved by its own row: what changes a number rewrites the participant.
        let pseudonym = Pseudonym::from_slice(&found_row.pseudonym).map_err(|_| super::attempt::damaged(&key))?;
        self.entry.pseudonym = Bytes::copy_from_slice(&pseudonym.0);
        let participant = self.load::<Participant>(&RowKey::participant(&pseudonym))?;
        Ok(participant.value.map(|row| Known { pseudonym, revision: participant.revision, row }))
    }

    /// Row key of a participant number.
    pub fn number_key(&self, number: &ParticipantNumber) -> RowKey {
        RowKey::hashed(Table::Number, &self.hash(Domain::Number, &[number.reveal()]))
    }

    /// A participant's data key of a version.
    pub fn data_key(&self, pseudonym: &Pseudonym, version: u32) -> Result<DataKey, GatewayError> {
        let found = self.vault.data_key(pseudonym, version, &self.database).map_err(|error| {
            tracing::error!(%error, "a data key cannot be opened");
            GatewayError::Damaged { what: "participant-key" }
        })?;
        let key = found.ok_or(GatewayError::NotFound { what: "the data key" })?;
        Ok(DataKey { pseudonym: *pseudonym, version, key })
    }
}

/// Parses the number in a request.
pub fn number(text: &str) -> Result<ParticipantNumber, GatewayError> {
    ParticipantNumber::parse(text).map_err(|error| GatewayError::invalid("participant", error))
}
