//! Wire messages and services of Kura, generated from the files under `kura/v1`.
//!
//! Besides them only names for numbers that several programs compare with live here: conversion to and from the core's
//! types happens at the edges.

#[allow(missing_docs, clippy::all)]
pub mod v1 {
    //! Version 1 of the protocol. The `.proto` files hold its documentation.
    tonic::include_proto!("kura.v1");
}

/// `agreement` of a `MemberStatus`; 0 is the answering node itself.
pub mod agreement {
    /// It had the same digests at the same log index.
    pub const EQUAL: u32 = 1;
    /// It had others.
    pub const DIFFERENT: u32 = 2;
    /// They could not be compared, or not lately.
    pub const UNKNOWN: u32 = 3;
}

/// `state` of a `ReplicationPoint`, an `ArchivePoint` and a `DrillPoint`.
pub mod point {
    /// It is known.
    pub const KNOWN: u32 = 1;
    /// It is not known.
    pub const NOT_KNOWN: u32 = 2;
    /// There is no backup, no archive, or was no drill.
    pub const NONE: u32 = 3;
}

/// The descriptors of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("kura");
