//! Rows of emergency access: episodes and the declared disaster.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

/// Names that a declared disaster widens at most, each list.
pub const DISASTER_NAMES_MAX: usize = 512;

/// An emergency: one user reads one participant's records for a while. Its reads expect this row and
/// write nothing but the journal; opening it rewrites the counters.
#[derive(Clone, PartialEq, Message)]
pub struct EpisodeRow {
    /// The first 16 bytes of the keyed hash of application and request that opened it: asked again, the
    /// same request finds it.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// Whose records, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub pseudonym: Bytes,
    /// Their number at that time.
    #[prost(string, tag = "3")]
    pub number: String,
    /// The facility of the user.
    #[prost(string, tag = "4")]
    pub facility: String,
    /// The user.
    #[prost(string, tag = "5")]
    pub user: String,
    /// The application.
    #[prost(string, tag = "6")]
    pub application: String,
    /// The reason given.
    #[prost(string, tag = "7")]
    pub reason: String,
    /// When it was opened.
    #[prost(uint64, tag = "8")]
    pub opened_ms: u64,
    /// From then on nothing is read under it.
    #[prost(uint64, tag = "9")]
    pub expires_ms: u64,
    /// Its row in the review queue, 16 bytes.
    #[prost(bytes = "bytes", tag = "10")]
    pub review_id: Bytes,
    /// Number, in the history, of the consent under which it was opened: it ends with that one. Absent in rows of before
    /// there was this; there the times tell.
    #[prost(uint32, optional, tag = "11")]
    pub consent_number: Option<u32>,
}

/// A declared disaster: widens who may use emergency access, until its end. At most one at a time, under
/// the setting `disaster`; declared by two registrars, ended by one.
#[derive(Clone, PartialEq, Message)]
pub struct DisasterRow {
    /// Name for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// From when.
    #[prost(uint64, tag = "2")]
    pub from_ms: u64,
    /// Until when, exclusive.
    #[prost(uint64, tag = "3")]
    pub until_ms: u64,
    /// [`crate::word::Profession`]s that may use emergency access beside physicians.
    #[prost(uint32, repeated, tag = "4")]
    pub professions: Vec<u32>,
    /// [`crate::word::FacilityKind`]s whose facilities need no flag.
    #[prost(uint32, repeated, tag = "5")]
    pub facility_kinds: Vec<u32>,
    /// Facilities that need no flag; at most [`DISASTER_NAMES_MAX`].
    #[prost(string, repeated, tag = "6")]
    pub facilities: Vec<String>,
    /// The caps of emergency access are multiplied by this; 0 and 1: they stay as they are.
    #[prost(uint32, tag = "7")]
    pub caps_factor: u32,
    /// Who proposed it.
    #[prost(message, optional, tag = "8")]
    pub proposed_by: Option<ActorRow>,
    /// Who confirmed it.
    #[prost(message, optional, tag = "9")]
    pub confirmed_by: Option<ActorRow>,
    /// Who ended it early, if anyone.
    #[prost(message, optional, tag = "10")]
    pub ended_by: Option<ActorRow>,
}
