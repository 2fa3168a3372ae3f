//! Rows of erasure: its state, what members reported, how many were begun on a day, which numbers are spent.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

/// Members and exports that a certificate names at most, each list.
pub const ERASURE_NAMES_MAX: usize = 256;

/// The erasure of one participant. It stays for ever as the proof that there was one.
#[derive(Clone, PartialEq, Message)]
pub struct ErasureRow {
    /// Whose, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// [`crate::word::ErasureState`].
    #[prost(uint32, tag = "2")]
    pub state: u32,
    /// Who asked for it.
    #[prost(message, optional, tag = "3")]
    pub asked_by: Option<ActorRow>,
    /// When.
    #[prost(uint64, tag = "4")]
    pub asked_ms: u64,
    /// Reference to the evidence.
    #[prost(string, tag = "5")]
    pub evidence: String,
    /// Who approved it: a registrar, never who asked.
    #[prost(message, optional, tag = "6")]
    pub approved_by: Option<ActorRow>,
    /// When, or 0. The grace period begins here.
    #[prost(uint64, tag = "7")]
    pub approved_ms: u64,
    /// From then on the keys may be destroyed; it can be stopped until they are.
    #[prost(uint64, tag = "8")]
    pub grace_until_ms: u64,
    /// Who stopped it.
    #[prost(message, optional, tag = "9")]
    pub stopped_by: Option<ActorRow>,
    /// When, or 0.
    #[prost(uint64, tag = "10")]
    pub stopped_ms: u64,
    /// Why.
    #[prost(string, tag = "11")]
    pub stop_reason: String,
    /// When the keys were destroyed, or 0.
    #[prost(uint64, tag = "12")]
    pub erased_ms: u64,
    /// Timeline of the command that destroyed them.
    #[prost(uint64, tag = "13")]
    pub erased_timeline: u64,
    /// Log index up to which the log holds something of the participant: at first the last put of a key,
    /// once everything is swept the last deletion. Members report against it.
    #[prost(uint64, tag = "14")]
    pub keys_last_index: u64,
    /// What members reported, one each.
    #[prost(message, repeated, tag = "15")]
    pub reports: Vec<ErasureReport>,
    /// Exports and generations that still hold the keys; at most [`ERASURE_NAMES_MAX`].
    #[prost(string, repeated, tag = "16")]
    pub exports: Vec<String>,
    /// Members that were removed without having reported.
    #[prost(string, repeated, tag = "17")]
    pub unreported_members: Vec<String>,
    /// When every member had reported, or 0.
    #[prost(uint64, tag = "18")]
    pub certified_ms: u64,
    /// Duplicate enrolments that had become aliases, 16 bytes each: erased with it. Filled with `erased_ms`.
    #[prost(bytes = "bytes", repeated, tag = "19")]
    pub duplicates: Vec<Bytes>,
    /// When the last row of the participant was deleted, or 0. Members report only from then on.
    #[prost(uint64, tag = "20")]
    pub swept_ms: u64,
}

/// That a number, or a card's serial, was an erased participant's: neither is given out again. Lies in the
/// erasure table under a hash domain of its own.
#[derive(Clone, PartialEq, Message)]
pub struct ErasedNumberRow {
    /// Whose erasure, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// When the keys were destroyed.
    #[prost(uint64, tag = "2")]
    pub erased_ms: u64,
}

/// A member's word that nothing of a key is left on its disks.
#[derive(Clone, PartialEq, Message)]
pub struct ErasureReport {
    /// The member's name.
    #[prost(string, tag = "1")]
    pub member: String,
    /// Its Raft id.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Its log is purged up to here.
    #[prost(uint64, tag = "3")]
    pub purged_index: u64,
    /// The log was compacted and its write-ahead log rolled since.
    #[prost(bool, tag = "4")]
    pub log_compacted: bool,
    /// The column family of keys was compacted since.
    #[prost(bool, tag = "5")]
    pub keys_compacted: bool,
    /// No checkpoint or snapshot of before is left.
    #[prost(bool, tag = "6")]
    pub checkpoints_gone: bool,
    /// When.
    #[prost(uint64, tag = "7")]
    pub at_ms: u64,
    /// The archive that the member writes, if it writes one.
    #[prost(message, optional, tag = "8")]
    pub archive: Option<ErasureArchive>,
}

/// What an archive still has of an erased participant. Sealed rows lie in its bases and segments until these
/// expire; keys lie in its ledger alone.
#[derive(Clone, PartialEq, Message)]
pub struct ErasureArchive {
    /// Log index of its last entry. From `keys_last_index` on its ledger lacks the keys.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Log index of its key ledger.
    #[prost(uint64, tag = "2")]
    pub ledger_index: u64,
    /// Numbers of the generations that began before `keys_last_index`, ascending; at most [`ERASURE_NAMES_MAX`].
    #[prost(uint64, repeated, tag = "3")]
    pub generations: Vec<u64>,
}

impl ErasureReport {
    /// Whether the member holds nothing any more of keys whose last put lies at `keys_last_index`.
    pub fn is_complete(&self, keys_last_index: u64) -> bool {
        self.purged_index >= keys_last_index && self.log_compacted && self.keys_compacted && self.checkpoints_gone
    }
}

/// How many participants were erased on a day: the daily cap.
#[derive(Clone, PartialEq, Message)]
pub struct ErasureDayRow {
    /// Day in Japan, days since 1970-01-01.
    #[prost(sint32, tag = "1")]
    pub day: i32,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub erased: u32,
}
