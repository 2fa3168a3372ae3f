//! What was done to the nodes, who belonged to the cluster, and what each needed of its machine.

use serde::{Deserialize, Serialize};

/// What was done to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nemesis {
    /// The round, from 1.
    pub round: u32,
    /// When it was done.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub event: NemesisEvent,
}

/// A kind of fault. Further kinds of faults are further variants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum NemesisEvent {
    /// SIGKILL, and the nodes were seen to die of it.
    Kill {
        /// What was aimed at.
        target: String,
        /// The nodes.
        nodes: Vec<String>,
        /// Whether the leader was among them, as far as anyone knew just before.
        leader: bool,
        /// Writes under way at that moment.
        writes_under_way: u64,
    },
    /// Nodes were started again.
    Start {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// A fault was to be set.
    Begin {
        /// Its number.
        fault: u32,
        /// Its kind.
        kind: String,
        /// The nodes.
        nodes: Vec<String>,
        /// Whether the leader was among them, as far as anyone knew just before.
        leader: bool,
        /// What came of it.
        result: FaultResult,
        /// Why not, or what was done.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A fault was taken back; the line's time is when that began.
    Heal {
        /// Its number.
        fault: u32,
        /// When it was over.
        done_us: u64,
        /// Whether it came to anything, as far as that can be told.
        result: FaultResult,
        /// What was seen of it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
}

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultResult {
    /// It was there.
    Installed,
    /// It was not set: it would have damaged a quorum, or there was nobody to do it to.
    Skipped,
    /// Nobody knows whether it was there.
    Indeterminate,
}

/// The members, from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// When.
    pub at_us: u64,
    /// The voters, by name.
    pub voters: Vec<String>,
    /// The backups, by name.
    pub backups: Vec<String>,
}

/// What a node needs of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// When.
    pub at_us: u64,
    /// The node.
    pub node: String,
    /// Resident memory, in MiB.
    pub memory_mib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Bytes in its data directory.
    pub disk_bytes: u64,
}
