//! What a decision rests on.

use bytes::Bytes;

use super::Settings;
use crate::row::{Application, Facility, Participant, RecordControl, User};
use crate::word::{Class, Purpose};

/// Who acts, as far as rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A facility's user, stated by an application.
    FacilityUser,
    /// The participant, stated by an application.
    Participant,
    /// A registrar, by its own certificate.
    Registrar,
}

/// A record as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct RecordFacts<'a> {
    /// Its control row.
    pub control: &'a RecordControl,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// Enrol a participant, or take part again after a withdrawal.
    Enrol {
        /// Day of the consent, Japan time.
        signed_day: i32,
        /// Reference to the evidence.
        evidence: &'a str,
    },
    /// Link the facility's own id.
    Link,
    /// Look up a participant by the facility's own id.
    Resolve,
    /// Name a facility that may see the records.
    Grant {
        /// The facility named, if it is registered.
        beneficiary: Option<&'a Facility>,
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Take a grant back.
    Revoke {
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Leave.
    Withdraw {
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Show consent and grants.
    ShowConsent,
    /// List who accessed the records.
    ListAccesses,
    /// Write a record.
    Write {
        /// Its class.
        class: Class,
        /// Its clinical day, Japan time.
        clinical_day: i32,
        /// Facilities to which it is narrowed; empty: every granted one.
        addressees: &'a [String],
        /// The record of which this is a further version.
        earlier: Option<RecordFacts<'a>>,
    },
    /// List records; each is then asked for by [`super::visible`].
    List,
    /// Read a record or its history.
    Read {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
    },
    /// Hide a record, or show it again.
    Hide {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
    },
    /// Narrow a record to addressees.
    Narrow {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
        /// The addressees that stay.
        addressees: &'a [String],
    },
    /// Read the facility's inbox.
    Inbox,
    /// List who granted the facility.
    ListGranted,
    /// Register or change a facility, a user or an application.
    Register,
}

/// Everything that a decision may look at.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The gateway's clock.
    pub now_ms: u64,
    /// Who acts.
    pub actor: Actor,
    /// What is to be done.
    pub act: Act<'a>,
    /// Purpose stated, for accesses.
    pub purpose: Option<Purpose>,
    /// Fingerprint of the credential used, or empty.
    pub credential_sha256: Bytes,
    /// The application behind the certificate, if it is registered.
    pub application: Option<&'a Application>,
    /// The actor's facility, if it is registered.
    pub facility: Option<&'a Facility>,
    /// The actor, if registered as a user.
    pub user: Option<&'a User>,
    /// The participant, if enrolled.
    pub participant: Option<&'a Participant>,
    /// The network's settings.
    pub settings: &'a Settings,
}
