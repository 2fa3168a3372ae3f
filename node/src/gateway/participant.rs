//! Finding a participant: number → pseudonym → participant → data key.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::consent::RecordFacts;
use kura_cluster::id::RecordId;
use kura_cluster::row::{NumberRow, Participant, RecordControl, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::{ParticipantNumber, Pseudonym, Revision};

use super::GatewayError;
use super::attempt::{Attempt, DataKey, broken};

/// A participant as a decision uses it.
pub struct Known {
    /// Inside name.
    pub pseudonym: Pseudonym,
    /// Revision of the participant row.
    pub revision: Revision,
    /// The opened row.
    pub row: Arc<Participant>,
}

/// Where a record lies: under the participant's own pseudonym, or under that of a former enrolment that
/// became an alias. What is decided, is decided on the participant who stays.
#[derive(Debug, Clone, Copy)]
pub struct Home {
    /// Whose key and rows.
    pub pseudonym: Pseudonym,
    /// Present version of the data key.
    pub key_version: u32,
}

impl Known {
    /// The pseudonyms under which records and links of the participant lie: their own, then those of
    /// former enrolments, oldest alias first.
    pub fn pseudonyms(&self) -> Vec<Pseudonym> {
        let former = self.row.aliases.iter().filter_map(|alias| Pseudonym::from_slice(&alias.pseudonym).ok());
        std::iter::once(self.pseudonym).chain(former).collect()
    }

    /// Whether a pseudonym is the participant's own or a former one.
    pub fn is(&self, pseudonym: &[u8]) -> bool {
        self.pseudonym.0 == pseudonym || self.row.aliases.iter().any(|alias| alias.pseudonym == pseudonym)
    }

    /// A record that lies under one of these pseudonyms, as rules look at it.
    pub fn record<'r>(&self, home: &Pseudonym, control: &'r RecordControl) -> RecordFacts<'r> {
        record_under(&self.row, home, control)
    }

    /// Where new records lie.
    pub fn own_home(&self) -> Home {
        Home { pseudonym: self.pseudonym, key_version: self.row.key_version }
    }
}

impl Attempt<'_> {
    /// Where a record of a participant lies. Records never move, so that only the row of a former
    /// enrolment is expected, for its key's version.
    pub fn home(&mut self, known: &Known, record: &RecordId) -> Result<Home, GatewayError> {
        for former in known.pseudonyms().into_iter().skip(1) {
            let key = RowKey::record_control(&former, record);
            if self.database.header(&key).map_err(broken)?.is_some() {
                let row = self.load::<Participant>(&RowKey::participant(&former))?.value;
                let key_version = row.ok_or(GatewayError::Damaged { what: "participant" })?.key_version;
                return Ok(Home { pseudonym: former, key_version });
            }
        }
        Ok(known.own_home())
    }

    /// The participant behind a pseudonym that some row names: the one who stays, if it is a former one's.
    /// Every row is expected; the journal entry gets its subject.
    pub fn participant_of(&mut self, pseudonym: &[u8]) -> Result<Option<Known>, GatewayError> {
        let malformed = |_| GatewayError::Damaged { what: "participant" };
        let mut pseudonym = Pseudonym::from_slice(pseudonym).map_err(malformed)?;
        let mut found = self.load::<Participant>(&RowKey::participant(&pseudonym))?;
        // Whoever stays is nobody's alias.
        if let Some(former) = found.value.as_ref().filter(|row| !row.alias_of.is_empty()) {
            pseudonym = Pseudonym::from_slice(&former.alias_of).map_err(malformed)?;
            found = self.load::<Participant>(&RowKey::participant(&pseudonym))?;
        }
        self.entry.pseudonym = Bytes::copy_from_slice(&pseudonym.0);
        Ok(found.value.map(|row| Known { pseudonym, revision: found.revision, row }))
    }

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

/// A participant's record, as rules look at it: what lies under a former number keeps the consent that held there.
pub fn record_under<'r>(participant: &Participant, home: &Pseudonym, control: &'r RecordControl) -> RecordFacts<'r> {
    let former = participant.aliases.iter().find(|alias| alias.pseudonym[..] == home.0);
    RecordFacts { control, alias_day: former.and_then(|alias| alias.consent_day) }
}

/// Parses the number in a request.
pub fn number(text: &str) -> Result<ParticipantNumber, GatewayError> {
    ParticipantNumber::parse(text).map_err(|error| GatewayError::invalid("participant", error))
}
