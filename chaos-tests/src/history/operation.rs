//! What a client did, and what came of it.

use serde::{Deserialize, Serialize};

/// A position in the cluster's log. Ordered as the cluster's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The timeline.
    pub timeline: u64,
    /// The log index.
    pub index: u64,
}

/// What a client did, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// From 1, unique in the history.
    pub id: u64,
    /// The client.
    pub client: String,
    /// The node asked, where the client could ask no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The participant concerned.
    pub participant: String,
    /// The facility that acts, or that a grant or revocation names.
    pub facility: String,
    /// When it was called.
    pub call_us: u64,
    /// When it returned.
    pub return_us: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub action: Action,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Write a record.
    Put {
        /// The request id, in hexadecimal.
        request: String,
        /// The author's document id, if one was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        /// SHA-256 of the body, in hexadecimal.
        body_sha256: String,
        /// Length of the body.
        body_bytes: u64,
    },
    /// Read a record.
    Get {
        /// The record.
        record: String,
    },
    /// List a participant's records.
    List,
    /// Name a facility.
    Grant {
        /// The request id.
        request: String,
    },
    /// Take it back.
    Revoke {
        /// The request id.
        request: String,
    },
    /// Ask what became of a write.
    Resolve {
        /// The request id of the write.
        of: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// A write was acknowledged; also of [`Action::Resolve`], if it was committed.
    Committed(Committed),
    /// A record came, all of it.
    Read {
        /// SHA-256 of the bytes that came, in hexadecimal.
        sha256: String,
        /// How many came.
        bytes: u64,
        /// The version.
        version: u32,
        /// Where it was decided.
        at: Revision,
        /// The journal entry that the reply names.
        journal: u64,
    },
    /// A list came, all of it.
    Listed {
        /// The records.
        records: Vec<ListedRecord>,
    },
    /// Of [`Action::Resolve`]: not committed, and never will be.
    Absent,
    /// Of [`Action::Resolve`]: no longer remembered.
    Forgotten,
    /// Refused for lack of consent.
    Denied {
        /// Its journal entry, unless it was only counted.
        #[serde(default, rename = "journal", skip_serializing_if = "Option::is_none")]
        entry: Option<u64>,
    },
    /// What was named is not there.
    Missing,
    /// It certainly did nothing.
    Failed {
        /// The error.
        error: String,
        /// Whether the cluster could not do it just then; otherwise something is wrong.
        passing: bool,
    },
    /// It may have been committed, or may still be.
    Unknown {
        /// The error.
        error: String,
    },
}

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The record; empty if none was written.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The log position.
    pub at: Revision,
    /// Term of the leader that acknowledged it.
    pub term: u64,
    /// The journal entry.
    pub journal: u64,
    /// How far it had come.
    pub reach: String,
    /// Whether it tells again of an earlier write.
    pub repeated: bool,
}

/// A record in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRecord {
    /// The record.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The document id; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document: String,
}
