//! Whole clusters in one process over real connections: openraft, this service and the network, with
//! a log and a state machine in memory.

mod cluster;
mod line;
mod storage;
mod stories;

type RaftSnapshot = openraft::storage::Snapshot<
    crate::raft::types::CommittedLeaderId,
    crate::raft::types::NodeId,
    crate::raft::types::Member,
    crate::snapshot::Snapshot,
>;
