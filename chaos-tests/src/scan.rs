//! The full check of a cluster at rest: every acknowledged record on every voter, every list, and the
//! same digest on every member. It only asks and records; the checker judges.

use std::sync::Arc;
use std::time::Duration;

use kura_client::wire;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, ClusterError, Role, unsettled};
use crate::content::hexadecimal;
use crate::history::{Line, MemberStatus, Outcome, Status};
use crate::load::{HOME, Known, LoadError, PARTICIPANTS, PATIENT, Session, Shared};

/// How long all members may take to come to the same state.
const SETTLE: Duration = Duration::from_secs(60);

/// Readers at one voter.
const READERS: usize = 4;

/// Attempts at one read: a voter may still be catching up.
const ATTEMPTS: u32 = 3;

/// Waits until all members tell the same digest of the same index, and records what they told.
///
/// # Errors
/// [`ClusterError::Late`], with what was missing last.
pub async fn settle(cluster: &mut Cluster, shared: &Shared) -> Result<(), ClusterError> {
    let members = cluster.nodes().len();
    let what = "the same digest on every member";
    let reply = cluster.wait_until(what, SETTLE, |reply| unsettled(reply, members)).await?;
    record_status(shared, &reply, true);
    Ok(())
}

/// Records a status.
pub fn record_status(shared: &Shared, reply: &wire::StatusReply, settled: bool) {
    let member = |member: &wire::MemberStatus| MemberStatus {
        name: member.name.clone(),
        applied: member.applied_index,
        digest_index: member.digest_index,
        digest: hexadecimal(&member.state_digest),
    };
    shared.recorder.write(&Line::Status(Status {
        at_us: shared.recorder.now_us(),
        timeline: reply.timeline,
        leader: leader(reply),
        settled,
        members: reply.members.iter().filter(|one| one.reachable).map(member).collect(),
    }));
}

/// The leader's name, if one is known.
pub fn leader(reply: &wire::StatusReply) -> Option<String> {
    let leads = |member: &&wire::MemberStatus| reply.leader_id != 0 && member.raft_id == reply.leader_id;
    reply.members.iter().find(leads).map(|member| member.name.clone())
}

/// Reads records, and lists all participants, on every voter.
///
/// # Errors
/// [`LoadError`] if no client came about; what the cluster answers is only recorded.
pub async fn scan(cluster: &Cluster, shared: &Arc<Shared>, records: Vec<Known>) -> Result<(), LoadError> {
    let records = Arc::new(records);
    let mut tasks = JoinSet::new();
    for voter in cluster.voters() {
        let client = cluster.client(Role::Application, Some(voter), PATIENT).await?;
        for nth in 0..READERS {
            let name = format!("scan-{voter}-{nth}");
            let session = Session::new(Arc::clone(shared), name, Some(voter.clone()), client.clone());
            tasks.spawn(read(session, nth, Arc::clone(&records)));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

async fn read(session: Session, nth: usize, records: Arc<Vec<Known>>) {
    for known in records.iter().skip(nth).step_by(READERS) {
        for _ in 0..ATTEMPTS {
            if !passing(&session.get(known.place, known.record, HOME).await) {
                break;
            }
        }
    }
    for place in (nth..PARTICIPANTS).step_by(READERS) {
        for _ in 0..ATTEMPTS {
            if !passing(&session.list(place).await) {
                break;
            }
        }
    }
}

fn passing(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { passing: true, .. })
}
