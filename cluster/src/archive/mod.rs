//! What the backup's archive is made of, and how it is checked and thinned out. Forms and rules only: who
//! writes and reads objects is `node::archive`.
//!
//! An archive is a directory of immutable objects ([`ObjectName`]):
//!
//! - a **base** is the state at a log index: the files of a checkpoint without its key rows, and the
//!   [headers](keys::KeyHeaders) of those;
//! - a **segment** holds the log entries after it, key rows' values left out ([`strip`]);
//! - the **key ledger** holds the wrapped keys, of the newest state only, apart from all history;
//! - a [`Manifest`] names one base or some segments, the ledger of its moment, and what the state was at its
//!   last entry. It names the manifest before it by its hash, and is signed by the backup. A base and what
//!   follows it up to the next base is a **generation**.
//!
//! Invariants
//! - No wrapped key is in a base, a segment or a manifest: an erased participant's keys are gone from the
//!   archive once the ledger has been written anew.
//! - A base and the segments after it, replayed, have the digests that the manifests name.
//! - Manifests are numbered without a gap. Expired ones are named by the newest base's manifest, so that what
//!   was taken away by somebody else is missing.

pub mod chain;
pub mod keep;
pub mod keys;
pub mod manifest;
mod name;
pub mod segment;
mod strip;

pub use chain::{Chain, Fault};
pub use manifest::{Manifest, ManifestError, SignedManifest};
pub use name::ObjectName;
pub use segment::{ArchivedEntry, Payload, Segment, SegmentBuilder, SegmentError};
pub use strip::strip;

/// SHA-256 of an object's bytes.
pub type Sha256Hash = [u8; 32];

/// Takes the first `N` bytes off `bytes`; `None` if there are fewer.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
