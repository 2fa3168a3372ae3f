//! For whom a copy is made: the participant, or a user of a facility. What is asked is the same; the
//! purpose that is stated and journalled differs.

use std::fmt;

use kura_client::{
    Access, ActingClient, Consents, Get, ListError, Listed, Listing, ParticipantNumber, Person, Purpose, RecordId,
};

/// Who reads.
#[derive(Clone)]
pub enum Reader {
    /// The participant, for their own use.
    Participant(Person),
    /// A user of a facility, for care: what the facility may see.
    FacilityUser(ActingClient),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Reader {
    /// The word in the manifest.
    pub fn word(&self) -> &'static str {
        match self {
            Reader::Participant(_) => "participant",
            Reader::FacilityUser(_) => "facility-user",
        }
    }

    fn acting(&self) -> &ActingClient {
        match self {
            Reader::Participant(person) => person.acting(),
            Reader::FacilityUser(user) => user,
        }
    }

    /// What the participant has consented to.
    pub async fn consents(&self, number: &ParticipantNumber) -> Result<Consents, ListError> {
        self.acting().consents(number).await
    }

    /// The newest versions of the records.
    pub fn list(&self, number: &ParticipantNumber) -> Listing<Listed, ListError> {
        match self {
            Reader::Participant(person) => person.list().stream(),
            Reader::FacilityUser(user) => user.list(number).purpose(Purpose::Care).stream(),
        }
    }

    /// The versions of a record, oldest first.
    pub async fn history(&self, number: &ParticipantNumber, record: RecordId) -> Result<Vec<Listed>, ListError> {
        match self {
            Reader::Participant(person) => person.history(record).await,
            Reader::FacilityUser(user) => user.history(number, record).await,
        }
    }

    /// A read of a version.
    pub fn get(&self, number: &ParticipantNumber, record: RecordId, version: u32) -> Get {
        match self {
            Reader::Participant(person) => person.get(record).version(version),
            Reader::FacilityUser(user) => user.get(number, record).version(version),
        }
    }

    /// Who accessed the records.
    pub fn accesses(&self, number: &ParticipantNumber) -> Listing<Access, ListError> {
        self.acting().accesses(number).stream()
    }
}
