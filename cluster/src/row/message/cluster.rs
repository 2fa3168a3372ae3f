//! Rows of the cluster itself: what it is, its keys, its members.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

/// The form of all rows: [`ClusterRow::format`]. 1 kept every consent and every grant in the participant's row.
pub const ROWS_FORMAT: u32 = 2;

/// The cluster's own row. Open: `apply` reads the limits, members read the rest before unsealing.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterRow {
    /// Form of all rows, [`ROWS_FORMAT`]; a state of another one is refused.
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
    /// Certificate of the recovery CA (DER), trusted from the first day.
    #[prost(bytes = "bytes", tag = "8")]
    pub recovery_ca_certificate: Bytes,
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
    /// Ed25519 over `crate::timeline::timeline_statement`.
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// Epoch keys, each wrapped by the root key (index key: wrapped under every epoch, never changed). Of an epoch that has
/// ended two are empty: nothing needs them any more ([`crate::rewrap`]).
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
    /// Authenticates proposals between voters. Empty: the epoch has ended.
    #[prost(bytes = "bytes", tag = "4")]
    pub command_mac: Bytes,
    /// Wraps participants' data keys. Empty: the epoch has ended.
    #[prost(bytes = "bytes", tag = "5")]
    pub wrapping: Bytes,
    /// Keys the hashes in row keys.
    #[prost(bytes = "bytes", tag = "6")]
    pub index: Bytes,
    /// Private half of the recovery key.
    #[prost(bytes = "bytes", tag = "7")]
    pub recovery_private_key: Bytes,
    /// Which root key wrapped them.
    #[prost(bytes = "bytes", tag = "8")]
    pub root_check_value: Bytes,
    /// Private key of the recovery CA (P-256, its scalar).
    #[prost(bytes = "bytes", tag = "9")]
    pub recovery_ca_private_key: Bytes,
    /// The timeline on which the epoch began.
    #[prost(uint64, tag = "10")]
    pub timeline: u64,
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
    /// SHA-256 of the public key to which it is to change; empty if to none.
    #[prost(bytes = "bytes", tag = "9")]
    pub next_key_sha256: Bytes,
    /// The operator who approved the next key.
    #[prost(string, tag = "10")]
    pub next_operator: String,
    /// The registrar who approved the next key (voters only).
    #[prost(string, tag = "11")]
    pub next_registrar: String,
    /// Whose key the operator's approval came with, and when. Without it, as in rows of before there was this, the name
    /// counts for a present member only.
    #[prost(message, optional, tag = "12")]
    pub operator_approval: Option<Approval>,
    /// The same of the registrar's.
    #[prost(message, optional, tag = "13")]
    pub registrar_approval: Option<Approval>,
    /// The same of the operator's of the next key; without it the name does not count.
    #[prost(message, optional, tag = "14")]
    pub next_operator_approval: Option<Approval>,
    /// The same of the registrar's of the next key.
    #[prost(message, optional, tag = "15")]
    pub next_registrar_approval: Option<Approval>,
}

/// The approval of one of two people, with what tells whether the other is another person and whether it still counts
/// ([`crate::consent::approval_counts`]).
#[derive(Clone, PartialEq, Message)]
pub struct Approval {
    /// Who, with the certificate and its key.
    #[prost(message, optional, tag = "1")]
    pub by: Option<ActorRow>,
    /// When, by the gateway's clock.
    #[prost(uint64, tag = "2")]
    pub at_ms: u64,
    /// On which timeline.
    #[prost(uint64, tag = "3")]
    pub timeline: u64,
}
