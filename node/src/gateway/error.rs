//! What a gateway answers when it does not do what was asked. One place maps it to gRPC
//! ([`crate::rpc::status`]).

use kura_cluster::consent::Denial;

use crate::clock::in_japan;

/// What is damaged where the local state cannot be read at all.
pub const DATABASE: &str = "database";

/// Why nothing (or nothing more) was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Denied, and journalled.
    #[error("denied")]
    Denied {
        /// The true reason. Callers see it only where it is about themselves.
        reason: Denial,
        /// Position of the journal entry.
        journal_position: u64,
    },
    /// A field is malformed or out of its bounds.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong, with the limit.
        why: String,
    },
    /// Something that the caller is permitted to ask for is not there.
    #[error("{what} is not there")]
    NotFound {
        /// What was asked for.
        what: &'static str,
    },
    /// A registrar names a facility that is not registered.
    #[error("facility-unknown: {id} is not registered")]
    Unregistered {
        /// Its id: the registrar sent it.
        id: String,
    },
    /// The document id names another document already, or the id is taken.
    #[error("{field} is in use by {what}")]
    InUse {
        /// Which field.
        field: &'static str,
        /// What uses it.
        what: &'static str,
    },
    /// What is asked for is not what was approved, or what is there.
    #[error("{why}")]
    Contradicts {
        /// Which field.
        field: &'static str,
        /// What is there, and what to do.
        why: String,
    },
    /// An act about the same waits for its second registrar, stale or not.
    #[error(
        "act {act} about the same is open: another registrar confirms it (`kura act confirm {act}`), or any rejects it, \
         as it has to be if it is stale (`kura act reject {act}`)"
    )]
    ProposedBefore {
        /// Its id, in hexadecimal.
        act: String,
    },
    /// Something else is registered under it.
    #[error("{field} is registered, and otherwise: look at it, and change it instead of adding it")]
    Registered {
        /// What tells it from others.
        field: &'static str,
    },
    /// What is registered is not what the caller knows.
    #[error("it was changed meanwhile: look at it again, and change what is there now")]
    Changed,
    /// Decisions kept being overtaken by others' writes.
    #[error("too many concurrent changes to the same rows; try again")]
    Contended,
    /// No leader took the proposal, so nothing was committed.
    #[error("no leader: as far as this node can tell the cluster has no majority ({why}); nothing was committed")]
    NoLeader {
        /// What is known.
        why: String,
    },
    /// This node cannot do it at present, another may; nothing was committed.
    #[error("{why}; try again")]
    Unavailable {
        /// What is known.
        why: String,
    },
    /// This node was removed from the cluster and goes on running; nothing was committed.
    #[error(
        "{name} is not a member of this cluster any more, as it knows since {}: what it has is old", in_japan(*.since_ms)
    )]
    Removed {
        /// Its name.
        name: String,
        /// Since when it knows, in milliseconds since 1970.
        since_ms: u64,
    },
    /// After a recovery, not served to applications yet; nothing was committed.
    #[error("{why}")]
    NotOpened {
        /// How far it is opened.
        why: String,
    },
    /// The proposal was sent, and its fate is not known: ask for the outcome, or repeat the request.
    #[error("the outcome is not known; ask for it, or repeat the same request")]
    Unknown,
    /// The request id is older than the window.
    #[error("the request id is older than the window in which requests are remembered")]
    Expired,
    /// The same request id came with another request, or was given up.
    #[error("the request id was used before: {why}")]
    RequestId {
        /// How.
        why: &'static str,
    },
    /// More is in flight than this node takes.
    #[error("too much in flight at this node; try again")]
    Overloaded,
    /// Disk space is below the low-water mark.
    #[error("the disk of this node is nearly full: {why}")]
    LowSpace {
        /// Which mark.
        why: String,
    },
    /// This node's clock is off.
    #[error("this node's clock is off by more than the limit; it does not decide until that is mended")]
    Clock,
    /// This node has no keys at hand.
    #[error("this node is sealed: {why}")]
    Sealed {
        /// Why.
        why: String,
    },
    /// A stored row does not open or is not in a known form. The node says which, without its key.
    #[error("a stored {what} does not open; see the runbook on damaged members")]
    Damaged {
        /// What kind of row.
        what: &'static str,
    },
    /// The caller's certificate is not valid (any more).
    #[error("client certificate: {why}")]
    Certificate {
        /// What is wrong.
        why: &'static str,
    },
    /// The caller's certificate does not allow this call.
    #[error("a certificate of role {role} may not do this: it takes one of role {takes}")]
    Role {
        /// The role's word.
        role: String,
        /// The words of the roles that may.
        takes: String,
    },
    /// The day's cap on deletions of keys is reached.
    #[error("the day's cap on deletions of keys is reached; try again tomorrow or raise it with two registrars")]
    KeyDeletionCap,
}

impl GatewayError {
    /// Whether it is one stored row that does not open; others may.
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, GatewayError::Damaged { what } if *what != DATABASE)
    }

    /// A malformed field.
    pub fn invalid(field: &'static str, why: impl std::fmt::Display) -> GatewayError {
        GatewayError::Invalid { field, why: why.to_string() }
    }
}
