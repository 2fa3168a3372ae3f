//! Wire messages and services of Kura, generated from the files under `kura/v1`.
//!
//! Nothing else lives here: conversion to and from the core's types happens at the edges.

#[allow(missing_docs, clippy::all)]
pub mod v1 {
    //! Version 1 of the protocol. The `.proto` files hold its documentation.
    tonic::include_proto!("kura.v1");
}

/// The descriptors of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("kura");
