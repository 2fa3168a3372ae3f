//! What every member of a Kura cluster must agree on.
//!
//! Pure: no input or output, no clock, no randomness, no runtime, no storage engine. Times, nonces
//! and keys are arguments. The rooms, lower floors first:
//!
//! - [`id`]: identifiers, parsed once at the edge, redacted when printed
//! - [`word`]: the closed vocabularies (record classes, facility kinds, professions, …)
//! - [`hexadecimal()`], [`from_hexadecimal`]: bytes as digits, and back
//! - [`row`]: tables, row keys, and the messages that rows hold once opened
//! - [`seal`]: ciphers, key wrapping, keyed hashes, sealed rows and blocks
//! - [`keyring`]: the epoch keys under the root key
//! - [`rewrap`]: data keys that pass from an old epoch to the newest, and the old one's end
//! - [`timeline`]: the recovery key's certificates of the cluster's fence numbers
//! - [`command`]: the replicated optimistic transaction and its outcome
//! - [`digest`], [`tree`]: additive row digests and the journal's Merkle tree
//! - [`apply`]: the deterministic state machine, over a [`apply::View`]
//! - [`drill`]: synthetic participants, whose data keys a key of their own wraps
//! - [`head`]: what a member has at a log index, signed by it
//! - [`archive`]: what the backup's archive is made of: manifests, segments, the key ledger; which of it is kept
//! - [`consent`]: facts in, `Permit` or `Deny` out
//!
//! Invariants
//! - [`apply`] opens nothing, knows no rule, and depends on nothing but its arguments.
//! - Every persisted or replicated form carries a format version and is covered by frozen vectors.

pub mod apply;
pub mod archive;
pub mod command;
pub mod consent;
pub mod digest;
pub mod drill;
pub mod head;
mod hexadecimal;
pub mod id;
pub mod keyring;
pub mod rewrap;
pub mod row;
pub mod seal;
pub mod share;
mod signed;
pub mod timeline;
pub mod tree;
pub mod word;

#[cfg(test)]
mod fuzz;

pub use command::{Command, Outcome};
pub use hexadecimal::{from_hexadecimal, hexadecimal};
pub use id::{ClusterId, ContentId, ParticipantNumber, Pseudonym, RecordId, Revision};
