//! The sealing room: everything that turns plaintext into bytes that may be replicated, stored,
//! archived and carried between members, and back.
//!
//! - [`Key`]: 32 secret bytes
//! - [`cipher`]: XAES-256-GCM, the only cipher
//! - [`row`]: sealed registry, record, control, inbox and journal rows
//! - [`block`]: compressed and sealed blocks of bodies
//! - [`dictionary`]: zstd dictionaries for blocks
//! - [`wrap`]: keys sealed under keys
//! - [`hash`]: keyed hashes for row keys, and the MAC of commands
//!
//! Invariants
//! - Nonces and key bytes are arguments. Who draws 24 fresh random bytes for each message may seal
//!   any number of messages under one key (the reason for XAES-256-GCM: 192-bit nonces).
//! - Each form's associated data begins with an eight-byte tag of its own, so that a row does not
//!   open as a block or as a wrapped key, and has one reading only: fixed fields, lengths before
//!   what varies.
//! - Opening checks lengths before it allocates, never panics on outside bytes, and tells no more
//!   than [`DoesNotOpen`].
//! - Key bytes are wiped when dropped and never printed. Plaintexts are the caller's to look after:
//!   buffers that held one go back to the allocator as they are.

pub mod block;
pub mod cipher;
pub mod dictionary;
pub mod hash;
mod key;
pub mod row;
#[cfg(test)]
pub(crate) mod testing;
pub mod wrap;

pub use block::{BlockContext, BlockOpener, BlockSealer, SealedBlock};
pub use cipher::{NONCE_BYTES, Nonce};
pub use dictionary::Dictionary;
pub use hash::{Domain, command_mac, index_hash, verify_command_mac};
pub use key::{CHECK_VALUE_BYTES, KEY_BYTES, Key};
pub use row::{RowContext, RowName, open_row, seal_row};
pub use wrap::{unwrap_key, wrap_key};

/// Sealed bytes did not open: wrong key, wrong place, damaged, cut, or in no known form.
///
/// Which of these it was is not told, and for most of them cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not open")]
pub struct DoesNotOpen;

/// Takes the first `N` bytes off `bytes`; `None` if there are fewer.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
