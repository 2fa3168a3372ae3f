//! What the cluster told of itself and of its journal.

use serde::{Deserialize, Serialize};

/// Hashes of journal entries as one node tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// The node.
    pub node: String,
    /// The position of the first.
    pub from: u64,
    /// RFC 6962 leaf hashes, in hexadecimal.
    pub leaves: Vec<String>,
}

/// A journal entry as an auditor is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub position: u64,
    /// What was done or asked for.
    pub action: String,
    /// The facility that acted; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub facility: String,
    /// The participant concerned, if it takes part in the run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub participant: String,
    /// Whether it was denied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
    /// How many like it it stands for; 0: only itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A head of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHead {
    /// How many entries there were.
    pub entries: u64,
    /// The root of their tree, in hexadecimal.
    pub root: String,
}

/// What the cluster told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When.
    pub at_us: u64,
    /// The timeline.
    pub timeline: u64,
    /// The leader, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The journal's head at the node that told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalHead>,
    /// Whether this closes a check for which every member must be there and equal.
    pub settled: bool,
    /// The members that answered.
    pub members: Vec<MemberStatus>,
}

/// A member that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its applied index.
    pub applied: u64,
    /// The index of the digest.
    pub digest_index: u64,
    /// The digest of its state, in hexadecimal.
    pub digest: String,
    /// What it says is wrong with it; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}
