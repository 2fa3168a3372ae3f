//! Heads: what a member has at a log index, signed by it, so that members and outsiders can compare.
//!
//! A [`Head`] names cluster, timeline, log index, the journal's size and root, the digest of the whole
//! state and of each table that is not empty. Its [statement](Head::statement) has one encoding; two
//! members with the same state at the same index have equal statements. A [`SignedHead`] is a statement
//! with a member's signature and public key.
//!
//! The key is the one of the member's certificate, whose SHA-256 (SubjectPublicKeyInfo) everybody finds
//! in the membership. A statement begins with `kura-head-1`; kinds of keys and the form are those of every signed
//! statement (`signed`).
//!
//! Invariants
//! - Which entries make a head depends on the log alone ([`is_due`]): every member makes the same ones.
//! - Nothing here compares heads of different clusters, timelines or indexes: see [`Head::compare`].

use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::apply::{Summary, state_digest};
use crate::command::Command;
use crate::digest::Digest;
use crate::id::ClusterId;
use crate::row::Table;
use crate::signed::{self, Signed, SignedError};
use crate::tree::Hash;

/// Every entry whose index is a multiple of this makes a head.
pub const HEAD_INTERVAL: u64 = 1024;

/// An encoded command that is longer than this is no canary.
pub const CANARY_BYTES_MAX: usize = 32;

/// Bytes of an encoded [`SignedHead`], at most.
pub const SIGNED_HEAD_BYTES_MAX: usize = 16 << 10;

const TAG: &[u8] = b"kura-head-1";
const FIXED_BYTES: usize = TAG.len() + 16 + 3 * 8 + 32 + 32 + 1;
const TABLE_BYTES: usize = 1 + 8 + 32;

/// Whether the entry at `index` makes a head. `command` is the encoded command; `None` for an entry
/// without one (a new leader's first entry, a membership), which always makes one.
///
/// Entries at multiples of [`HEAD_INTERVAL`] do, and canaries: commands that only say the time.
pub fn is_due(index: u64, command: Option<&Bytes>) -> bool {
    match command {
        None => true,
        Some(_) if index.is_multiple_of(HEAD_INTERVAL) => true,
        Some(command) if command.len() > CANARY_BYTES_MAX => false,
        Some(command) => Command::decode(command.clone())
            .is_ok_and(|found| found == Command { at_ms: found.at_ms, ..Command::new(0) }),
    }
}

/// A table in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHead {
    /// Which table: its number, as a newer version may have more.
    pub number: u8,
    /// Rows in it.
    pub rows: u64,
    /// Sum of the rows' elements.
    pub digest: Digest,
}

/// What a member has at a log index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its fence number.
    pub timeline: u64,
    /// The entry after which it was taken.
    pub index: u64,
    /// Entries in the journal.
    pub journal_size: u64,
    /// Root of the journal's tree.
    pub journal_root: Hash,
    /// See [`state_digest`].
    pub state_digest: [u8; 32],
    /// The tables that are not empty, ascending by number.
    pub tables: Vec<TableHead>,
}

/// How two heads stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Same cluster, timeline and index, and the same state.
    Equal,
    /// Same cluster, timeline and index, but not the same state: the tables that differ, by their words.
    /// Empty if only the journal's root or the whole state's digest differ.
    Different(Vec<&'static str>),
    /// They are not about the same moment: nothing can be said.
    Incomparable,
}

/// Why bytes are no head, or a head proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a signed head of a known form.
    #[error("not a signed head of a known form")]
    Form,
    /// Signed by a key that is not the member's.
    #[error("the head is signed by another key than the member's")]
    OtherKey,
    /// The key is neither ECDSA over P-256 nor Ed25519.
    #[error("the head's key is of a kind that signs no heads")]
    Kind,
    /// The signature does not fit.
    #[error("the head's signature is wrong")]
    Signature,
}

impl From<SignedError> for HeadError {
    fn from(error: SignedError) -> HeadError {
        match error {
            SignedError::Form => HeadError::Form,
            SignedError::Kind => HeadError::Kind,
            SignedError::Signature => HeadError::Signature,
        }
    }
}

impl Head {
    /// The head of a state whose last applied entry is at `index`.
    pub fn of(cluster_id: ClusterId, index: u64, summary: &Summary) -> Head {
        let tables = Table::ALL.iter().filter_map(|table| {
            let found = summary.table(*table);
            let empty = found.rows == 0 && found.digest == Digest::default();
            (!empty).then_some(TableHead { number: table.number(), rows: found.rows, digest: found.digest })
        });
        Head {
            cluster_id,
            timeline: summary.timeline,
            index,
            journal_size: summary.journal.size(),
            journal_root: summary.journal.root(),
            state_digest: state_digest(summary),
            tables: tables.collect(),
        }
    }

    /// What is signed: `kura-head-1`, cluster id (16), timeline (8), index (8), journal size (8), journal
    /// root (32), state digest (32), number of tables (1), and of each table its number (1), rows (8) and
    /// digest (32). Numbers are big endian.
    pub fn statement(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.tables.len() * TABLE_BYTES);
        bytes.extend_from_slice(TAG);
        bytes.extend_from_slice(&self.cluster_id.0);
        for number in [self.timeline, self.index, self.journal_size] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.journal_root);
        bytes.extend_from_slice(&self.state_digest);
        // Table numbers are bytes, and each stands once.
        bytes.push(u8::try_from(self.tables.len()).unwrap_or(u8::MAX));
        for table in &self.tables {
            bytes.push(table.number);
            bytes.extend_from_slice(&table.rows.to_be_bytes());
            bytes.extend_from_slice(&table.digest.to_bytes());
        }
        bytes
    }

    /// Reads a statement; only the one encoding of a head is taken.
    ///
    /// # Errors
    /// [`HeadError::Form`].
    pub fn parse(statement: &[u8]) -> Result<Head, HeadError> {
        let mut rest = statement.strip_prefix(TAG).ok_or(HeadError::Form)?;
        let head = Head {
            cluster_id: ClusterId(take(&mut rest)?),
            timeline: u64::from_be_bytes(take(&mut rest)?),
            index: u64::from_be_bytes(take(&mut rest)?),
            journal_size: u64::from_be_bytes(take(&mut rest)?),
            journal_root: take(&mut rest)?,
            state_digest: take(&mut rest)?,
            tables: {
                let [count] = take(&mut rest)?;
                let table = |_| {
                    let [number] = take(&mut rest)?;
                    let rows = u64::from_be_bytes(take(&mut rest)?);
                    Ok::<_, HeadError>(TableHead { number, rows, digest: Digest::from_bytes(take(&mut rest)?) })
                };
                (0..count).map(table).collect::<Result<Vec<_>, _>>()?
            },
        };
        let ascending = head.tables.is_sorted_by(|a, b| a.number < b.number);
        if rest.is_empty() && ascending { Ok(head) } else { Err(HeadError::Form) }
    }

    /// Compares with another member's head. Only heads of one cluster, timeline and index compare.
    pub fn compare(&self, other: &Head) -> Comparison {
        let moment = |head: &Head| (head.cluster_id, head.timeline, head.index);
        if moment(self) != moment(other) {
            return Comparison::Incomparable;
        }
        if self == other {
            return Comparison::Equal;
        }
        let find = |head: &Head, number| head.tables.iter().find(|table| table.number == number).copied();
        let differs = |table: &&Table| find(self, table.number()) != find(other, table.number());
        Comparison::Different(Table::ALL.iter().filter(differs).map(|table| table.word()).collect())
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], HeadError> {
    let (taken, after) = rest.split_first_chunk().ok_or(HeadError::Form)?;
    *rest = after;
    Ok(*taken)
}

/// A head with a member's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// What the member says.
    pub head: Head,
    /// The member's public key (SubjectPublicKeyInfo, DER).
    pub public_key: Bytes,
    /// Over [`Head::statement`].
    pub signature: Bytes,
}

impl SignedHead {
    /// SHA-256 of the public key, as it stands in the membership.
    pub fn key_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.public_key).into()
    }

    /// Checks that the member with this key (SHA-256 of its SubjectPublicKeyInfo) has signed it.
    ///
    /// # Errors
    /// [`HeadError::OtherKey`], [`HeadError::Kind`], [`HeadError::Signature`].
    pub fn verify(&self, key_sha256: &[u8; 32]) -> Result<(), HeadError> {
        if self.key_sha256() != *key_sha256 {
            return Err(HeadError::OtherKey);
        }
        Ok(signed::check(&self.public_key, &self.head.statement(), &self.signature)?)
    }

    /// The form in which heads travel and are kept: format, statement, public key, signature.
    pub fn encode(&self) -> Vec<u8> {
        Signed::encoded(self.head.statement(), &self.public_key, &self.signature)
    }

    /// Reads an encoded signed head. Says nothing of the signature: see [`Self::verify`].
    ///
    /// # Errors
    /// [`HeadError::Form`].
    pub fn decode(bytes: &[u8]) -> Result<SignedHead, HeadError> {
        let Signed { statement, public_key, signature, .. } = Signed::read(bytes, SIGNED_HEAD_BYTES_MAX)?;
        Ok(SignedHead { head: Head::parse(&statement)?, public_key, signature })
    }
}

#[cfg(test)]
mod tests;
