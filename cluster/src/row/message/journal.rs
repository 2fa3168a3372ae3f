//! Journal entries, and what is kept of a remembered request.

use bytes::Bytes;
use prost::Message;

/// An actor as the application server stated it.
#[derive(Clone, PartialEq, Message)]
pub struct ActorRow {
    /// [`crate::word::ActorKind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Facility, for a facility's user.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// User, registrar, auditor, operator; for a participant the number.
    #[prost(string, tag = "3")]
    pub name: String,
    /// [`crate::word::Method`].
    #[prost(uint32, tag = "4")]
    pub method: u32,
    /// When the actor was authenticated.
    #[prost(uint64, tag = "5")]
    pub authenticated_ms: u64,
    /// Fingerprint of the credential used, or empty.
    #[prost(bytes = "bytes", tag = "6")]
    pub credential_sha256: Bytes,
    /// The application that stated it, or the certificate's name for others.
    #[prost(string, tag = "7")]
    pub application: String,
    /// SHA-256 of the public key of an office's own certificate, or empty: a further certificate for the
    /// same key makes no second person.
    #[prost(bytes = "bytes", tag = "8")]
    pub key_sha256: Bytes,
}

/// A journal entry.
#[derive(Clone, PartialEq, Message)]
pub struct JournalEntry {
    /// The gateway's clock.
    #[prost(uint64, tag = "1")]
    pub at_ms: u64,
    /// Who.
    #[prost(message, optional, tag = "2")]
    pub actor: Option<ActorRow>,
    /// [`crate::word::Action`].
    #[prost(uint32, tag = "3")]
    pub action: u32,
    /// Subject's pseudonym, or empty.
    #[prost(bytes = "bytes", tag = "4")]
    pub pseudonym: Bytes,
    /// Record, or empty.
    #[prost(bytes = "bytes", tag = "5")]
    pub record_id: Bytes,
    /// Version, or 0.
    #[prost(uint32, tag = "6")]
    pub version: u32,
    /// [`crate::word::Class`], or 0.
    #[prost(uint32, tag = "7")]
    pub class: u32,
    /// Number of the [`crate::consent::Basis`] if permitted, or 0.
    #[prost(uint32, tag = "8")]
    pub basis: u32,
    /// Number of the [`crate::consent::Denial`] if denied, or 0.
    #[prost(uint32, tag = "9")]
    pub denial: u32,
    /// [`crate::word::Purpose`], or 0.
    #[prost(uint32, tag = "10")]
    pub purpose: u32,
    /// The other party: facility granted, revoked or registered; setting changed; member.
    #[prost(string, tag = "11")]
    pub object: String,
    /// Gateway that decided.
    #[prost(string, tag = "12")]
    pub gateway: String,
    /// The client's request id, or empty.
    #[prost(bytes = "bytes", tag = "13")]
    pub request_id: Bytes,
    /// How many alike this entry stands for, 0 and 1: one.
    #[prost(uint32, tag = "14")]
    pub count: u32,
    /// Reason given (emergency, hiding), or empty.
    #[prost(string, tag = "15")]
    pub reason: String,
    /// First byte asked for, of a resumed or partial read.
    #[prost(uint64, tag = "16")]
    pub range_start: u64,
    /// The emergency episode, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "17")]
    pub episode_id: Bytes,
    /// Records given out in an access to several: 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "18")]
    pub record_ids: Vec<Bytes>,
    /// The act, review or erasure that it belongs to, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "19")]
    pub act_id: Bytes,
    // 20 was the ids of refused records without their reasons.
    /// Records that were asked for in the same access and refused, each with its reason.
    #[prost(message, repeated, tag = "21")]
    pub refused_records: Vec<RefusedRecord>,
    /// The actor was permitted and told nothing about the subject: its own list does not name the subject either, since
    /// it would name nobody for a number that is not enrolled.
    #[prost(bool, tag = "22")]
    pub found_nothing: bool,
    /// Where it was written first, of what was salvaged from a former timeline.
    #[prost(message, optional, tag = "23")]
    pub salvaged: Option<SalvagedFrom>,
    /// Records that the actor was let in to and that do not open: nothing of them was handed out. 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "24")]
    pub damaged_record_ids: Vec<Bytes>,
}

/// Where something that was salvaged was written first.
#[derive(Clone, PartialEq, Message)]
pub struct SalvagedFrom {
    /// The former timeline.
    #[prost(uint64, tag = "1")]
    pub timeline: u64,
    /// Its log index there.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// When it was decided there, by that gateway's clock.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// The recovery staff who offered it again.
    #[prost(string, tag = "4")]
    pub by: String,
    /// Of a restriction, which is applied on the office of whoever offers it: who asked for it then. Otherwise absent, as
    /// the entry's actor is the one of then.
    #[prost(message, optional, tag = "5")]
    pub actor: Option<ActorRow>,
}

/// A record that was refused in an access to several.
#[derive(Clone, PartialEq, Message)]
pub struct RefusedRecord {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub record_id: Bytes,
    /// Number of the [`crate::consent::Denial`].
    #[prost(uint32, tag = "2")]
    pub denial: u32,
}

impl JournalEntry {
    /// Denied as a whole: every record that was asked for is refused for the same reason.
    pub fn deny(&mut self, denial: u32) {
        self.denial = denial;
        self.refused_records.iter_mut().for_each(|refused| refused.denial = denial);
    }

    /// How many refusals it stands for, by itself.
    pub fn refusals(&self) -> u32 {
        match u32::try_from(self.refused_records.len()).unwrap_or(u32::MAX) {
            0 if self.denial != 0 => 1,
            refused => refused,
        }
    }
}

/// What a client needs to be told again about a remembered request.
#[derive(Clone, PartialEq, Message)]
pub struct ReceiptRow {
    /// Record, or empty for a consent command.
    #[prost(bytes = "bytes", tag = "1")]
    pub record_id: Bytes,
    /// Version, or 0.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// A revocation of what was not granted: nothing was there to end.
    #[prost(bool, tag = "3")]
    pub nothing_to_end: bool,
    /// A grant of what was granted already, where whoever asks may know: nothing changed.
    #[prost(bool, tag = "4")]
    pub granted_before: bool,
}
