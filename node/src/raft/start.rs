//! openraft's settings and its start.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::log_store::LogStore;
use super::network::NetworkFactory;
use super::types::{NodeId, Raft};
use crate::state::StateMachine;

/// Heartbeats of a leader.
const HEARTBEAT_MS: u64 = 150;
/// A follower that has heard nothing for this long (drawn between the two) stands for election.
const ELECTION_MS: (u64, u64) = (900, 1800);
/// For so long after a majority's last word to a leader none of them votes for another: openraft's lease.
pub const LEADER_LEASE: Duration = Duration::from_millis(ELECTION_MS.1);
/// Entries of one append over the network; their bytes are bounded by the log reader.
const PAYLOAD_ENTRIES_MAX: u64 = 512;
/// Entries of one append to the log; the log writer bounds bytes.
const APPEND_ENTRIES_MAX: u64 = 1024;
/// Calls waiting for openraft.
const API_CALLS_MAX: u64 = 1024;

/// openraft's settings, each with the trap that it avoids.
pub fn settings() -> Config {
    Config {
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        max_append_entries: Some(APPEND_ENTRIES_MAX),
        api_channel_size: Some(API_CALLS_MAX),
        // Snapshots and purges are ours, by bytes: built snapshots must not purge by themselves.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        // A restarted leader has to be elected again, or it would lead without the marks check.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // Turned on once the marks check has passed and the voter is unsealed.
        enable_elect: false,
        install_snapshot_timeout: 3_600_000,
        allow_log_reversion: Some(false),
        ..Config::default()
    }
}

/// Starts openraft. It does not stand for election until it is told to.
pub async fn start(
    id: NodeId,
    network: NetworkFactory,
    log: LogStore,
    machine: StateMachine,
) -> Result<Raft<StateMachine>, String> {
    let config = settings().validate().map_err(|error| error.to_string())?;
    Raft::new(id, Arc::new(config), network, log, machine).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traps_are_set_right() {
        let config = settings().validate().unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert!(!config.enable_elect);
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
        assert!(matches!(config.snapshot_policy, SnapshotPolicy::Never));
    }
}
