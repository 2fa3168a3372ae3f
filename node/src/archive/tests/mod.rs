//! The writer and the checks, on a state machine without a network: entries are applied, the log is a list.

mod copies;
mod damage;
mod expiry;
mod following;
pub(crate) mod stage;
mod storage;
