//! Whether a leader still has its majority.
//!
//! openraft leaves a leader that nobody acknowledges in office, and a follower goes on naming the last leader
//! that it knew. Neither says that anything can be committed.

use std::time::Duration;

use openraft::Instant as _;

use super::start::LEADER_LEASE;
use super::types::RaftMetrics;

/// A leader that no majority has acknowledged for this long has none; a member that has not heard of a leader for
/// this long knows none. Twenty heartbeats; longer than an election takes.
pub const LEADER_SILENCE: Duration = Duration::from_secs(3);

/// Whether a node leads and, as far as it knows, a majority of the voters follows.
pub fn leads_with_majority(metrics: &RaftMetrics) -> bool {
    is_acknowledged_within(LEADER_SILENCE, metrics)
}

/// Whether a node leads and nobody else can lead yet: none has acknowledged what it does not know.
pub fn leads_alone(metrics: &RaftMetrics) -> bool {
    is_acknowledged_within(LEADER_LEASE, metrics)
}

fn is_acknowledged_within(silence: Duration, metrics: &RaftMetrics) -> bool {
    if metrics.current_leader != Some(metrics.id) || !metrics.state.is_leader() {
        return false;
    }
    // A sole voter needs nobody's word, and openraft notes none.
    let is_sole = metrics.membership_config.membership().voter_ids().all(|id| id == metrics.id);
    // One just elected has a majority's votes, and no acknowledgement yet.
    is_sole || metrics.last_quorum_acked.is_none_or(|acked| acked.elapsed() < silence)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use openraft::metrics::SerdeInstant;
    use openraft::{Membership, ServerState, StoredMembership};

    use super::*;
    use crate::raft::types::Member;

    fn metrics(voters: &[u64], acked: Option<Duration>) -> RaftMetrics {
        let nodes: BTreeMap<u64, Member> = (1..=4).map(|id| (id, Member::default())).collect();
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let membership = Membership::new(vec![voters], nodes).unwrap();
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.current_leader = Some(1);
        metrics.state = ServerState::Leader;
        metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
        metrics.last_quorum_acked = acked.map(|ago| SerdeInstant::new(openraft::TokioInstant::now() - ago));
        metrics
    }

    #[test]
    fn a_leader_that_nobody_acknowledges_has_no_majority() {
        let now = Duration::ZERO;
        assert!(leads_with_majority(&metrics(&[1, 2, 3], Some(now))));
        assert!(leads_with_majority(&metrics(&[1, 2, 3], None)), "just elected");
        assert!(leads_alone(&metrics(&[1, 2, 3], Some(now))));
        let lease_is_over = metrics(&[1, 2, 3], Some(LEADER_LEASE));
        assert!(leads_with_majority(&lease_is_over) && !leads_alone(&lease_is_over), "another may lead");
        assert!(!leads_with_majority(&metrics(&[1, 2, 3], Some(LEADER_SILENCE))));
        assert!(leads_with_majority(&metrics(&[1], Some(LEADER_SILENCE))), "a sole voter");
        let mut follower = metrics(&[1, 2, 3], Some(now));
        follower.current_leader = Some(2);
        assert!(!leads_with_majority(&follower));
        let mut former = metrics(&[1, 2, 3], Some(now));
        former.state = ServerState::Follower;
        assert!(!leads_with_majority(&former));
    }
}
