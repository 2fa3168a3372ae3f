//! Raft: openraft and everything that it stands on. openraft is named nowhere above this floor but in
//! the state machine and the node's assembly.

pub mod channels;
pub mod codec;
pub(crate) mod database;
pub mod gate;
pub mod leading;
mod log_clear;
mod log_copy;
pub mod log_disk;
pub mod log_memory;
pub mod log_store;
pub mod log_writer;
pub mod marks;
pub mod network;
pub mod open;
pub mod start;
pub mod survey;
pub mod types;
pub mod wire;

#[cfg(test)]
mod fuzz;
