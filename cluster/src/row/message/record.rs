//! Rows of a record: control, manifest, document id, inbox.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

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
    /// Since when it is held, or 0.
    #[prost(uint64, tag = "9")]
    pub hold_ms: u64,
    /// The registrar who put the hold.
    #[prost(message, optional, tag = "10")]
    pub hold_by: Option<ActorRow>,
    /// Reference to the hold's evidence.
    #[prost(string, tag = "11")]
    pub hold_evidence: String,
    /// The record (16 bytes) that replaces it, or empty.
    #[prost(bytes = "bytes", tag = "12")]
    pub replaced_by: Bytes,
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
    /// [`crate::word::Relation`] to another record, or 0.
    #[prost(uint32, tag = "16")]
    pub relation: u32,
    /// The other record, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "17")]
    pub related_record_id: Bytes,
    /// Its version, or 0 for the highest.
    #[prost(uint32, tag = "18")]
    pub related_version: u32,
    /// What this cluster found when it checked the signature itself.
    #[prost(message, optional, tag = "19")]
    pub signature_check: Option<SignatureCheck>,
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

/// What this cluster found when it checked a signature itself.
#[derive(Clone, PartialEq, Message)]
pub struct SignatureCheck {
    /// [`crate::word::SignatureResult`]; 0: there is a timestamp token only.
    #[prost(uint32, tag = "1")]
    pub result: u32,
    /// When.
    #[prost(uint64, tag = "2")]
    pub at_ms: u64,
    /// SHA-256 of the signer's certificate, or empty.
    #[prost(bytes = "bytes", tag = "3")]
    pub signer_sha256: Bytes,
    /// Time in the timestamp token, if that is valid, or 0.
    #[prost(uint64, tag = "4")]
    pub timestamp_ms: u64,
    /// What is wrong with the signature, in words; empty: nothing, or there is none.
    #[prost(string, tag = "5")]
    pub why: String,
    /// What is wrong with the timestamp token, in words; empty: nothing, or there is none.
    #[prost(string, tag = "6")]
    pub timestamp_why: String,
}
