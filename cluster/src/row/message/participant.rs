//! Rows of a participant: number, consents and grants, data keys, links.

use bytes::Bytes;
use prost::Message;

/// A number's row: which participant it names.
#[derive(Clone, PartialEq, Message)]
pub struct NumberRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// Whether this number is an alias of another that stays.
    #[prost(bool, tag = "2")]
    pub alias: bool,
}

/// A participant.
#[derive(Clone, PartialEq, Message)]
pub struct Participant {
    /// The number that stays, for the participant's own lists.
    #[prost(string, tag = "1")]
    pub number: String,
    /// Every consent to take part, oldest first; the last one counts.
    #[prost(message, repeated, tag = "2")]
    pub consents: Vec<ParticipationConsent>,
    /// Every grant ever made, oldest first.
    #[prost(message, repeated, tag = "3")]
    pub grants: Vec<Grant>,
    /// Current version of the data key.
    #[prost(uint32, tag = "4")]
    pub key_version: u32,
}

/// A consent to take part.
#[derive(Clone, PartialEq, Message)]
pub struct ParticipationConsent {
    /// Day on which it was signed, Japan time: earlier information is not shared.
    #[prost(sint32, tag = "1")]
    pub signed_day: i32,
    /// Who signed, if not the participant: the proxy's name.
    #[prost(string, tag = "2")]
    pub proxy: String,
    /// The proxy's relation.
    #[prost(string, tag = "3")]
    pub proxy_relation: String,
    /// Reference to the evidence (a paper form's number, a document's hash).
    #[prost(string, tag = "4")]
    pub evidence: String,
    /// When it was entered.
    #[prost(uint64, tag = "5")]
    pub entered_ms: u64,
    /// When the participant withdrew, or 0.
    #[prost(uint64, tag = "6")]
    pub withdrawn_ms: u64,
    /// Facility that entered it.
    #[prost(string, tag = "7")]
    pub entered_by: String,
}

/// A facility that the participant named.
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// The facility.
    #[prost(string, tag = "1")]
    pub facility: String,
    /// When it was granted.
    #[prost(uint64, tag = "2")]
    pub granted_ms: u64,
    /// When it was revoked, or 0.
    #[prost(uint64, tag = "3")]
    pub revoked_ms: u64,
    /// Facility that entered it, or empty for the participant.
    #[prost(string, tag = "4")]
    pub entered_by: String,
    /// Entered by its own beneficiary: marked for review.
    #[prost(bool, tag = "5")]
    pub by_beneficiary: bool,
    /// Reference to the evidence.
    #[prost(string, tag = "6")]
    pub evidence: String,
}

/// A participant who granted a facility.
#[derive(Clone, PartialEq, Message)]
pub struct GrantIndexRow {
    /// The participant's number.
    #[prost(string, tag = "1")]
    pub number: String,
    /// When it was granted.
    #[prost(uint64, tag = "2")]
    pub granted_ms: u64,
}

/// A participant's data key, wrapped.
#[derive(Clone, PartialEq, Message)]
pub struct ParticipantKeyRow {
    /// Version, from 1.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Epoch whose wrapping key wrapped it.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// The wrapped key.
    #[prost(bytes = "bytes", tag = "3")]
    pub wrapped: Bytes,
}

/// A facility's own id and the participant behind it.
#[derive(Clone, PartialEq, Message)]
pub struct LinkRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// The facility.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// Its own id.
    #[prost(string, tag = "3")]
    pub local_id: String,
    /// When it was linked.
    #[prost(uint64, tag = "4")]
    pub linked_ms: u64,
}
