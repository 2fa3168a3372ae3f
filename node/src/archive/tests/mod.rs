//! The writer and the checks, on a state machine without a network: entries are applied, the log is a list.

mod checked;
mod copies;
mod damage;
pub(crate) mod dying;
mod expiry;
mod following;
mod foreign;
pub(crate) mod growing;
pub(crate) mod stage;
mod storage;
