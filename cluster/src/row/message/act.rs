//! Rows of the support centre: acts that take two registrars, and the review queue.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

/// Longest payload of an act, bytes: an application with its 512 facilities, each id at its longest.
pub const ACT_PAYLOAD_BYTES_MAX: usize = 80 << 10;

/// An act that takes two registrars: proposed by one, done when another confirms it.
#[derive(Clone, PartialEq, Message)]
pub struct ActRow {
    /// 16 bytes: 6 bytes birth time (milliseconds, big endian), then randomness.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// [`crate::word::ActKind`].
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// [`crate::word::ActState`].
    #[prost(uint32, tag = "3")]
    pub state: u32,
    /// What it is about: the facility's id, the application's name, the setting's name, the duplicate's pseudonym in
    /// hexadecimal digits.
    #[prost(string, tag = "4")]
    pub object: String,
    /// The row to be written, encoded; at most [`ACT_PAYLOAD_BYTES_MAX`].
    #[prost(bytes = "bytes", tag = "5")]
    pub payload: Bytes,
    /// SHA-256 of the payload: what the second registrar confirms.
    #[prost(bytes = "bytes", tag = "6")]
    pub payload_sha256: Bytes,
    /// Timeline of the revision of the row that it would replace; 0 with index 0: none.
    #[prost(uint64, tag = "7")]
    pub base_timeline: u64,
    /// Log index of that revision. If the row has changed since, the act is stale.
    #[prost(uint64, tag = "8")]
    pub base_index: u64,
    /// Who proposed it.
    #[prost(message, optional, tag = "9")]
    pub proposed_by: Option<ActorRow>,
    /// When.
    #[prost(uint64, tag = "10")]
    pub proposed_ms: u64,
    /// Who confirmed or rejected it.
    #[prost(message, optional, tag = "11")]
    pub closed_by: Option<ActorRow>,
    /// When, or 0.
    #[prost(uint64, tag = "12")]
    pub closed_ms: u64,
    /// From then on it can no longer be confirmed.
    #[prost(uint64, tag = "13")]
    pub expires_ms: u64,
    /// Reason given by the proposer.
    #[prost(string, tag = "14")]
    pub reason: String,
}

/// Something that an auditor looks at afterwards.
#[derive(Clone, PartialEq, Message)]
pub struct ReviewRow {
    /// 16 bytes: 6 bytes birth time (milliseconds, big endian), then randomness.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// [`crate::word::ReviewKind`].
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// [`crate::word::ReviewState`]. The row key says open or closed as well.
    #[prost(uint32, tag = "3")]
    pub state: u32,
    /// When it was queued.
    #[prost(uint64, tag = "4")]
    pub queued_ms: u64,
    /// The participant concerned, 16 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub pseudonym: Bytes,
    /// Their number, for the auditor.
    #[prost(string, tag = "6")]
    pub number: String,
    /// Who did it.
    #[prost(message, optional, tag = "7")]
    pub actor: Option<ActorRow>,
    /// Reason or evidence that was given.
    #[prost(string, tag = "8")]
    pub reason: String,
    /// The emergency episode, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "9")]
    pub episode_id: Bytes,
    /// The facility that was granted, or empty.
    #[prost(string, tag = "10")]
    pub facility: String,
    /// Who reviewed it.
    #[prost(message, optional, tag = "11")]
    pub reviewer: Option<ActorRow>,
    /// When, or 0.
    #[prost(uint64, tag = "12")]
    pub reviewed_ms: u64,
    /// [`crate::word::ReviewVerdict`], or 0.
    #[prost(uint32, tag = "13")]
    pub verdict: u32,
    /// The reviewer's note.
    #[prost(string, tag = "14")]
    pub note: String,
    /// Of a duplicate enrolment that became an alias: the number that did. `number` is the one that stays.
    #[prost(string, tag = "15")]
    pub duplicate: String,
}

/// What is confirmed of a duplicate enrolment that shall become an alias. By pseudonyms: an act outlives an erasure,
/// after which no number is kept.
#[derive(Clone, PartialEq, Message)]
pub struct AliasProposal {
    /// The participant who stays, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub stays: Bytes,
    /// The duplicate enrolment, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub duplicate: Bytes,
    /// Reference to the evidence that both are one person.
    #[prost(string, tag = "3")]
    pub evidence: String,
}

/// A count within a sliding window, whose length a setting says: emergencies of a user, a credential, a facility, an
/// application; grants that a facility's users entered. Tags 1 and 2 were a fixed window's.
#[derive(Clone, PartialEq, Message)]
pub struct CounterRow {
    /// What was counted, oldest first. Each slice spans at most an eighth of the window, or of its age: what is older than
    /// the window is kept for a longer one.
    #[prost(message, repeated, tag = "3")]
    pub slices: Vec<CounterSlice>,
}

/// Part of a count.
#[derive(Clone, PartialEq, Message)]
pub struct CounterSlice {
    /// When its oldest was counted.
    #[prost(uint64, tag = "1")]
    pub began_ms: u64,
    /// When its newest was counted.
    #[prost(uint64, tag = "2")]
    pub last_ms: u64,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub count: u32,
}
