//! What rows hold once opened (protobuf, proto3 semantics; the field numbers are the format).
//!
//! Times are milliseconds since 1970-01-01 UTC. Dates are days since 1970-01-01 in Japan time.
//! Numbers of vocabularies are those of [`crate::word`]. A field once given is never reused.

mod act;
mod cluster;
mod custody;
mod emergency;
mod erasure;
mod journal;
mod participant;
mod record;
mod registry;
mod setting;
mod staging;

pub use act::*;
pub use cluster::*;
pub use custody::*;
pub use emergency::*;
pub use erasure::*;
pub use journal::*;
pub use participant::*;
pub use record::*;
pub use registry::*;
pub use setting::*;
pub use staging::*;

#[cfg(test)]
mod tests;
