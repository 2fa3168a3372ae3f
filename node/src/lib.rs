//! One Kura node: RocksDB, openraft, gateway, services and the command line.
//!
//! Lower floors first: [`certificates`], [`raft`], [`snapshot`], [`state`], [`archive`], [`vault`], [`custody`],
//! [`gateway`], [`recovery`], [`rpc`], [`serve`], and above them what people call: [`cli`], [`dev`], [`demo`], [`bench`],
//! [`import`], [`export`].

pub mod archive;
pub mod bench;
pub mod certificates;
pub mod clear;
pub mod cli;
pub mod clock;
pub mod config;
pub mod custody;
pub mod demo;
pub mod dev;
pub mod drill;
pub mod export;
pub mod folder;
pub mod gateway;
pub mod heads;
pub mod identity;
pub mod import;
pub mod init;
pub mod join;
pub mod leap;
pub mod metrics;
pub mod openings;
pub mod raft;
pub mod random;
pub mod reach;
pub mod recovery;
pub mod removed;
pub mod restore;
pub mod rpc;
pub mod samples;
pub mod scrub;
pub mod seed;
pub mod serve;
pub mod signature;
pub mod snapshot;
pub mod space;
pub mod state;
pub mod vault;

#[cfg(test)]
mod fuzz;
