//! The archive: written by the backup member, checked by anybody who has it. Its forms are
//! `kura_cluster::archive`'s.
//!
//! - [`store`]: objects in a directory, or in the S3-compatible [`storage`]
//! - [`catalog`]: generations and manifests
//! - [`writer`], with [`base`], [`ledger`] and [`expire`]: what the backup does
//! - [`check`]: the writer's own check, on a timer; what is damaged is made again
//! - [`signers`]: whose manifests it goes on from
//! - [`told`]: how far it is
//! - [`unfinished`]: what a killed writer left in a directory
//! - [`verify`], [`replay`], [`scrub`] and [`open`]: the checks, offline
//! - [`export`]: a copy on another medium
//!
//! Invariants
//! - How far the archive is stands in the archive alone: a writer that starts reads it there.
//! - A manifest is published after everything that it names, only where none of its number is, and only after one whose
//!   signer the cluster approved.
//! - Nothing here holds up the cluster: what fails is told, and tried again.

mod ahead;
pub mod base;
pub mod catalog;
pub mod check;
pub mod expire;
pub mod export;
pub mod ledger;
pub mod open;
pub mod replay;
pub mod scrub;
pub mod signers;
pub mod storage;
pub mod store;
pub mod told;
mod unfinished;
pub mod verify;
pub mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use store::{ArchiveStore, StoreError};
pub use told::ArchiveTold;
