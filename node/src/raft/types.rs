//! The types that openraft is instantiated with, and their short names.
//!
//! Invariants
//! - One leader per term (`leader_id_std`): a term and a log index identify an entry, so that a
//!   row's revision needs no node id.
//! - [`CommandBytes`] is the encoded command exactly as the gateway made it. Nothing in this module
//!   opens it, and printing it shows its length only.
//! - openraft is named through these aliases, so that its next release touches one place.

use std::fmt;

use bytes::Bytes;
use kura_cluster::{Outcome, hexadecimal};

openraft::declare_raft_types!(
    /// What openraft is instantiated with.
    pub TypeConfig:
        D = CommandBytes,
        R = Applied,
        NodeId = NodeId,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// A Raft id: given once, never used again, not even by the same machine after its disk was wiped.
pub type NodeId = u64;
/// Who leads or wants to lead: (term, node id).
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>;
/// A leader that a quorum elected, named by its term alone.
pub type CommittedLeaderId = openraft::vote::leader_id_std::CommittedLeaderId<u64>;
/// Term and index of one entry. Ordered by term first.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// For whom a node voted, and whether a quorum agreed. Two candidates of one term do not compare.
pub type Vote = openraft::Vote<LeaderId>;
/// What an entry carries.
pub type EntryPayload = openraft::EntryPayload<CommandBytes, NodeId, Member>;
/// One entry of the log.
pub type Entry = openraft::Entry<CommittedLeaderId, EntryPayload>;
/// Voters (two sets of them during a change) and all members' descriptions.
pub type Membership = openraft::Membership<NodeId, Member>;
/// A membership and the entry it came from.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, NodeId, Member>;
/// First and last position of the log.
pub type LogState = openraft::storage::LogState<TypeConfig>;
/// What openraft wants called when an append is durable.
pub type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;
/// What openraft says about a snapshot.
pub type SnapshotMeta = openraft::storage::SnapshotMeta<CommittedLeaderId, NodeId, Member>;
/// openraft's handle, over the state machine `S`.
pub type Raft<S> = openraft::Raft<TypeConfig, S>;
/// openraft's view of itself, for gauges and status pages.
pub type RaftMetrics = openraft::RaftMetrics<TypeConfig>;

/// The id of the entry with this term and index.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// An encoded command, cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandBytes(pub Bytes);

impl fmt::Display for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `apply` answers: the outcome of a command, or nothing for blank and membership entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied(pub Option<Outcome>);

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "outcome" } else { "no outcome" })
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberRole {
    /// Votes, may lead, and is a gateway.
    #[default]
    Voter,
    /// Keeps a copy without keys; never votes, leads or proposes.
    Backup,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Backup => "backup",
        })
    }
}

/// A member as the membership describes it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The node's name, as in its certificate.
    pub name: String,
    /// Host and port of its peer service.
    pub address: String,
    /// What it may do.
    pub role: MemberRole,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER), as it was approved.
    pub key_sha256: [u8; 32],
    /// While it changes its key: the approved new one. Until that is done both are its own. Boxed, since
    /// it is rare and openraft's errors carry members about.
    pub next_key_sha256: Option<Box<[u8; 32]>>,
}

impl Member {
    /// The keys (SHA-256 of SubjectPublicKeyInfo) with which it may show itself.
    pub fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        [Some(self.key_sha256), self.next_key_sha256.as_deref().copied()].into_iter().flatten()
    }

    /// Whether a node that shows this name and key is this member.
    pub fn is_shown_by(&self, name: &str, key_sha256: &[u8; 32]) -> bool {
        self.name == name && self.keys().any(|key| key == *key_sha256)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.role, self.name, self.address)
    }
}

/// openraft prints members with `Debug` in its log lines: the fingerprint is cut to a few digits.
impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (key {}…)", hexadecimal(&self.key_sha256[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_entry_says_nothing_of_the_command() {
        let entry =
            Entry { log_id: log_id(3, 7), payload: EntryPayload::Normal(CommandBytes(Bytes::from_static(b"secret"))) };
        assert_eq!(entry.to_string(), "3.7:normal:command of 6 bytes");
        assert!(!format!("{entry:?}").contains("secret"));
        assert!(!format!("{entry:?}").contains("115"));
    }
}
