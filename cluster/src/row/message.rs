//! What rows hold once opened (protobuf, proto3 semantics; the field numbers are the format).
//!
//! Times are milliseconds since 1970-01-01 UTC. Dates are days since 1970-01-01 in Japan time.
//! Numbers of vocabularies are those of [`crate::word`]. A field once given is never reused.

use bytes::Bytes;
use prost::Message;

/// The cluster's own row. Open: `apply` reads the limits, members read the rest before unsealing.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterRow {
    /// Form of everything persisted, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// 16 random bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub cluster_id: Bytes,
    /// The name that people type.
    #[prost(string, tag = "3")]
    pub name: String,
    /// How long requests are remembered.
    #[prost(uint64, tag = "4")]
    pub request_window_ms: u64,
    /// Rows of key tables that may be deleted in a day.
    #[prost(uint32, tag = "5")]
    pub key_deletions_per_day_max: u32,
    /// Public half of the recovery key (Ed25519, 32 bytes).
    #[prost(bytes = "bytes", tag = "6")]
    pub recovery_public_key: Bytes,
    /// Signed certificates of the timelines, oldest first.
    #[prost(message, repeated, tag = "7")]
    pub timelines: Vec<TimelineCertificate>,
}

/// A timeline, signed by the recovery key.
#[derive(Clone, PartialEq, Message)]
pub struct TimelineCertificate {
    /// The fence number.
    #[prost(uint64, tag = "1")]
    pub timeline: u64,
    /// Log index at which it began.
    #[prost(uint64, tag = "2")]
    pub began_index: u64,
    /// When it began.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// SHA-256 of the public keys of its first voters, sorted.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub voters: Vec<Bytes>,
    /// Ed25519 over `crate::keyring::timeline_statement`.
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// Epoch keys, each wrapped by the root key (index key: wrapped under every epoch, never changed).
#[derive(Clone, PartialEq, Message)]
pub struct KeyringRow {
    /// Epoch number, from 1.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
    /// Seals registry rows.
    #[prost(bytes = "bytes", tag = "2")]
    pub registry: Bytes,
    /// Seals journal entries.
    #[prost(bytes = "bytes", tag = "3")]
    pub journal: Bytes,
    /// Authenticates proposals between voters.
    #[prost(bytes = "bytes", tag = "4")]
    pub command_mac: Bytes,
    /// Wraps participants' data keys.
    #[prost(bytes = "bytes", tag = "5")]
    pub wrapping: Bytes,
    /// Keys the hashes in row keys.
    #[prost(bytes = "bytes", tag = "6")]
    pub index: Bytes,
    /// Private half of the recovery key until shares are made.
    #[prost(bytes = "bytes", tag = "7")]
    pub recovery_private_key: Bytes,
    /// Which root key wrapped them.
    #[prost(bytes = "bytes", tag = "8")]
    pub root_check_value: Bytes,
}

/// A facility.
#[derive(Clone, PartialEq, Message)]
pub struct Facility {
    /// The network's id for it.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// [`crate::word::FacilityKind`].
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// [`crate::word::AccessLine`].
    #[prost(uint32, tag = "5")]
    pub access_line: u32,
    /// May use emergency access.
    #[prost(bool, tag = "6")]
    pub emergency: bool,
    /// Ten-digit institution code, or empty.
    #[prost(string, tag = "7")]
    pub institution_code: String,
}

/// A user of one facility.
#[derive(Clone, PartialEq, Message)]
pub struct User {
    /// The user's id within the facility.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The facility.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// Name for people.
    #[prost(string, tag = "3")]
    pub name: String,
    /// [`crate::word::Profession`].
    #[prost(uint32, tag = "4")]
    pub profession: u32,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "5")]
    pub status: u32,
    /// SHA-256 of the credential (a physician's certificate), or empty.
    #[prost(bytes = "bytes", tag = "6")]
    pub credential_sha256: Bytes,
}

/// An application server.
#[derive(Clone, PartialEq, Message)]
pub struct Application {
    /// The name in its certificate.
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`crate::word::AccessLine`]: its one line.
    #[prost(uint32, tag = "2")]
    pub access_line: u32,
    /// The facilities for which it may speak.
    #[prost(string, repeated, tag = "3")]
    pub facilities: Vec<String>,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// Whether participants may be stated through it.
    #[prost(bool, tag = "5")]
    pub participants: bool,
}

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

/// What may change about a record after writing.
#[derive(Clone, PartialEq, Message)]
pub struct RecordControl {
    /// Highest version; versions are never reissued.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Facility whose user wrote it.
    #[prost(string, tag = "2")]
    pub author_facility: String,
    /// Facilities to which the author narrowed it; empty: every granted one.
    #[prost(string, repeated, tag = "3")]
    pub addressees: Vec<String>,
    /// Hidden: shown to none but the author's facility.
    #[prost(bool, tag = "4")]
    pub hidden: bool,
    /// Legal hold.
    #[prost(bool, tag = "5")]
    pub hold: bool,
    /// [`crate::word::Class`], repeated here so that a listing opens one small row a record.
    #[prost(uint32, tag = "6")]
    pub class: u32,
    /// Clinical day of the highest version, Japan time.
    #[prost(sint32, tag = "7")]
    pub clinical_day: i32,
    /// When the highest version was written.
    #[prost(uint64, tag = "8")]
    pub written_ms: u64,
}

/// The open part of a manifest: what a blind member needs to account for blocks.
#[derive(Clone, PartialEq, Message)]
pub struct ManifestOpen {
    /// 16 bytes; blocks lie under it.
    #[prost(bytes = "bytes", tag = "1")]
    pub content_id: Bytes,
    /// Version of the data key.
    #[prost(uint32, tag = "2")]
    pub key_version: u32,
    /// One per part, in order.
    #[prost(message, repeated, tag = "3")]
    pub parts: Vec<PartBlocks>,
}

/// The blocks of a part.
#[derive(Clone, PartialEq, Message)]
pub struct PartBlocks {
    /// Sealed length of each block, bytes.
    #[prost(uint32, repeated, tag = "1")]
    pub lengths: Vec<u32>,
    /// SHA-256 of each sealed block, joined.
    #[prost(bytes = "bytes", tag = "2")]
    pub sha256s: Bytes,
}

/// The sealed part of a manifest.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// [`crate::word::Class`].
    #[prost(uint32, tag = "1")]
    pub class: u32,
    /// Media type of the body.
    #[prost(string, tag = "2")]
    pub media_type: String,
    /// Clinical day, Japan time.
    #[prost(sint32, tag = "3")]
    pub clinical_day: i32,
    /// When it was written.
    #[prost(uint64, tag = "4")]
    pub written_ms: u64,
    /// Who is responsible for the content.
    #[prost(message, optional, tag = "5")]
    pub author: Option<Person>,
    /// Who entered it.
    #[prost(message, optional, tag = "6")]
    pub enterer: Option<Person>,
    /// The author's own id of the document, or empty.
    #[prost(string, tag = "7")]
    pub document_id: String,
    /// Parts, as many as in the open part.
    #[prost(message, repeated, tag = "8")]
    pub parts: Vec<Part>,
    /// Version, from 1.
    #[prost(uint32, tag = "9")]
    pub version: u32,
    /// Plaintext bytes of all parts.
    #[prost(uint64, tag = "10")]
    pub bytes: u64,
    /// SHA-256 over the parts' SHA-256s, joined.
    #[prost(bytes = "bytes", tag = "11")]
    pub body_sha256: Bytes,
    /// A detached signature over the exact bytes, or empty.
    #[prost(bytes = "bytes", tag = "12")]
    pub signature: Bytes,
    /// A timestamp token, or empty.
    #[prost(bytes = "bytes", tag = "13")]
    pub timestamp_token: Bytes,
    /// The application's verification result of the signature.
    #[prost(string, tag = "14")]
    pub signature_result: String,
    /// Who confirmed it.
    #[prost(message, optional, tag = "15")]
    pub confirmer: Option<Person>,
}

/// A named part of a body.
#[derive(Clone, PartialEq, Message)]
pub struct Part {
    /// Name, unique in the record.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Media type, or empty for the record's.
    #[prost(string, tag = "2")]
    pub media_type: String,
    /// Plaintext bytes.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// SHA-256 of the plaintext.
    #[prost(bytes = "bytes", tag = "4")]
    pub sha256: Bytes,
}

/// A user of a facility, at a time.
#[derive(Clone, PartialEq, Message)]
pub struct Person {
    /// The facility.
    #[prost(string, tag = "1")]
    pub facility: String,
    /// The user.
    #[prost(string, tag = "2")]
    pub user: String,
    /// When.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
}

/// Which record an author's document id names.
#[derive(Clone, PartialEq, Message)]
pub struct DocumentIdRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub record_id: Bytes,
    /// The version that carried it.
    #[prost(uint32, tag = "3")]
    pub version: u32,
    /// SHA-256 of the body, so that a repetition is told from a different document.
    #[prost(bytes = "bytes", tag = "4")]
    pub body_sha256: Bytes,
}

/// An upload in progress.
#[derive(Clone, PartialEq, Message)]
pub struct StagingRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// The facility whose user uploads.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// The user.
    #[prost(string, tag = "3")]
    pub user: String,
    /// The application.
    #[prost(string, tag = "4")]
    pub application: String,
    /// When it began.
    #[prost(uint64, tag = "5")]
    pub begun_ms: u64,
    /// Version of the data key that seals its blocks.
    #[prost(uint32, tag = "6")]
    pub key_version: u32,
    /// The sweeper has marked it: blocks are being deleted, nothing may use it.
    #[prost(bool, tag = "7")]
    pub aborted: bool,
}

/// A record addressed to a facility.
#[derive(Clone, PartialEq, Message)]
pub struct InboxRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub record_id: Bytes,
    /// The version written.
    #[prost(uint32, tag = "3")]
    pub version: u32,
    /// When.
    #[prost(uint64, tag = "4")]
    pub at_ms: u64,
    /// The participant's number, for the facility that it is addressed to.
    #[prost(string, tag = "5")]
    pub number: String,
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
}

/// A member approved to join.
#[derive(Clone, PartialEq, Message)]
pub struct MemberRow {
    /// Node name, as in its certificate.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 1 voter, 2 backup.
    #[prost(uint32, tag = "2")]
    pub role: u32,
    /// The Raft id assigned to it; never reused.
    #[prost(uint64, tag = "3")]
    pub raft_id: u64,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) with which it may join.
    #[prost(bytes = "bytes", tag = "4")]
    pub key_sha256: Bytes,
    /// The operator who approved it.
    #[prost(string, tag = "5")]
    pub operator: String,
    /// The registrar who approved it (voters only: it hands over the root key).
    #[prost(string, tag = "6")]
    pub registrar: String,
    /// Address at which peers reach it.
    #[prost(string, tag = "7")]
    pub address: String,
    /// When the last approval came.
    #[prost(uint64, tag = "8")]
    pub approved_ms: u64,
}

/// Settings of the network.
#[derive(Clone, PartialEq, Message)]
pub struct SettingsRow {
    /// Classes that each profession may see; a profession that is not listed sees none.
    #[prost(message, repeated, tag = "1")]
    pub professions: Vec<ProfessionClasses>,
}

/// A profession and the classes that it may see.
#[derive(Clone, PartialEq, Message)]
pub struct ProfessionClasses {
    /// [`crate::word::Profession`].
    #[prost(uint32, tag = "1")]
    pub profession: u32,
    /// [`crate::word::Class`]es.
    #[prost(uint32, repeated, tag = "2")]
    pub classes: Vec<u32>,
}

/// A part of an upload in progress.
#[derive(Clone, PartialEq, Message)]
pub struct StagingPartRow {
    /// Name, unique in the record.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Media type, or empty for the record's.
    #[prost(string, tag = "2")]
    pub media_type: String,
}
