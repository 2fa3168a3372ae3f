//! Custody of the root key: sets of shares, and a rotation that is under way; and what a recovered cluster serves.
//! Open: a sealed member needs the first, and neither helps to find a key or a share.

use bytes::Bytes;
use prost::Message;

use super::Approval;

/// The sets of shares that count, or wait for their second person: under the setting `shares`.
#[derive(Clone, PartialEq, Message)]
pub struct ShareSetsRow {
    /// At most one confirmed and one waiting for each of the present root key and the one prepared.
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<ShareSetRow>,
}

/// A split of a root key, of which every holder has read the share back.
#[derive(Clone, PartialEq, Message)]
pub struct ShareSetRow {
    /// How many shares restore the key.
    #[prost(uint32, tag = "1")]
    pub threshold: u32,
    /// Check value of the root key, 8 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub root_check_value: Bytes,
    /// Check value of each share, 8 bytes, in order of their numbers.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub share_check_values: Vec<Bytes>,
    /// When the last holder had read the share back, by the gateway's clock.
    #[prost(uint64, tag = "4")]
    pub split_ms: u64,
    /// The operator who recorded it.
    #[prost(string, tag = "5")]
    pub operator: String,
    /// The registrar who confirmed it; empty: it does not count yet.
    #[prost(string, tag = "6")]
    pub registrar: String,
    /// When it was confirmed.
    #[prost(uint64, tag = "7")]
    pub confirmed_ms: u64,
    /// Whose key the operator's recording came with, and when; a set without it cannot be confirmed any more.
    #[prost(message, optional, tag = "8")]
    pub operator_approval: Option<Approval>,
}

/// A rotation that is approved, or being approved: under the setting `rotation`.
#[derive(Clone, PartialEq, Message)]
pub struct RotationRow {
    /// 1 root key, 2 epoch keys.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The operator who approved it.
    #[prost(string, tag = "2")]
    pub operator: String,
    /// The registrar who approved it.
    #[prost(string, tag = "3")]
    pub registrar: String,
    /// When it was first asked for.
    #[prost(uint64, tag = "4")]
    pub asked_ms: u64,
    /// Whether the root key changes before shares of the next one are confirmed.
    #[prost(bool, tag = "5")]
    pub without_shares: bool,
    /// Check value of the next root key, 8 bytes, once it was drawn and is being handed out.
    #[prost(bytes = "bytes", tag = "6")]
    pub next_check_value: Bytes,
    /// Whose key the operator's approval came with, and when; without it the name does not count.
    #[prost(message, optional, tag = "7")]
    pub operator_approval: Option<Approval>,
    /// The same of the registrar's.
    #[prost(message, optional, tag = "8")]
    pub registrar_approval: Option<Approval>,
}

/// What a cluster serves since its timeline began: under the setting `service`. Without the row, everything.
#[derive(Clone, PartialEq, Message)]
pub struct ServiceRow {
    /// [`crate::word::ServiceLevel`].
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Who opened it so far, by the certificate's name; at first the name of the member that began the timeline.
    #[prost(string, tag = "2")]
    pub by: String,
    /// When.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
}

/// The synthetic participants of drills: under the setting `drill`. Open: whoever opens them has no root key
/// ([`crate::drill`]).
#[derive(Clone, PartialEq, Message)]
pub struct DrillRow {
    /// Check value of the drill key that wraps their data keys, 8 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub key_check_value: Bytes,
    /// When they were made, or made anew.
    #[prost(uint64, tag = "2")]
    pub prepared_ms: u64,
    /// The operator who had them made.
    #[prost(string, tag = "3")]
    pub operator: String,
    /// One each.
    #[prost(message, repeated, tag = "4")]
    pub canaries: Vec<CanaryRow>,
}

/// A synthetic participant and its one body.
#[derive(Clone, PartialEq, Message)]
pub struct CanaryRow {
    /// 16 bytes. There is a row of its wrapped data key (version 1), and no other of a participant.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// 16 bytes; blocks of part 0 lie under it.
    #[prost(bytes = "bytes", tag = "2")]
    pub content_id: Bytes,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub blocks: u32,
    /// Bytes of the body.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Its SHA-256.
    #[prost(bytes = "bytes", tag = "5")]
    pub sha256: Bytes,
}
