//! The replicated state on this machine: a RocksDB instance without a write-ahead log (the Raft log
//! is its log), written by the apply path alone and read by every gateway.
//!
//! - [`database`]: the RocksDB instance, its column families and its reads
//! - [`machine`]: openraft's state machine over it
//! - [`store`]: what the rest of the node holds: reads, the published summary, waiting for an index
//!
//! Invariants
//! - Rows, summary, last applied id and membership change in one atomic write, on blank and
//!   membership entries too; RocksDB flushes all column families atomically.
//! - Only what the local log has synced is applied.
//! - An error in `apply` stops the node: a member that cannot apply must not answer.

pub mod database;
pub mod machine;
pub mod store;
#[cfg(test)]
mod tests;

pub use database::{Database, DatabaseError};
pub use machine::{StateMachine, current_database, first_database, use_first_database};
pub use store::{Published, StateStore};
