//! Rows of an upload in progress.

use bytes::Bytes;
use prost::Message;

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
