//! The full check of a cluster at rest: every acknowledged record on every voter, every list, and the
//! same digest on every member. It only asks and records; the checker judges.

use std::sync::Arc;
use std::time::Duration;

use kura_client::wire;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::check::journal::leaf;
use crate::cluster::{Cluster, ClusterError, Role, unsettled};
use crate::content::hexadecimal;
use crate::history::{Entry, JournalHead, Leaves, Line, MemberStatus, Outcome, Status};
use crate::load::{HOME, Known, LoadError, PATIENT, Session, Shared};

/// How long all members may take to come to the same state.
const SETTLE: Duration = Duration::from_secs(60);

/// Readers at one voter.
const READERS: usize = 4;

/// Entries in one line of the history.
const LEAVES_MAX: usize = 1_000;

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
        trouble: member.trouble.clone(),
    };
    shared.recorder.write(&Line::Status(Status {
        at_us: shared.recorder.now_us(),
        timeline: reply.timeline,
        leader: leader(reply),
        journal: (!reply.journal_root.is_empty())
            .then(|| JournalHead { entries: reply.journal_size, root: hexadecimal(&reply.journal_root) }),
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
        // Nobody connects it anew: the sender may go.
        let (_, client) = watch::channel(cluster.client(Role::Application, Some(voter), PATIENT).await?);
        for nth in 0..READERS {
            let name = format!("scan-{voter}-{nth}");
            let session = Session::new(Arc::clone(shared), name, Some(voter.clone()), client.clone(), client.clone());
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
    for place in (nth..session.shared().cast.participants()).step_by(READERS) {
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

/// Records the whole journal: the hash of every entry, as a voter and as a backup tell them, and what an
/// auditor is told of each. The cluster must be at rest.
///
/// # Errors
/// [`LoadError`], if anybody does not tell.
pub async fn journal(cluster: &Cluster, shared: &Shared) -> Result<(), LoadError> {
    let failed = |error: &dyn std::fmt::Display| LoadError::setup("the journal's entries", error);
    for node in cluster.voters().iter().take(1).chain(cluster.backups()) {
        let journal = cluster.client(Role::Operator, Some(node), PATIENT).await?.journal();
        let head = journal.head().await.map_err(|error| failed(&error))?;
        let mut sealed = journal.sealed(0, head.size());
        let mut part = Leaves { node: node.clone(), from: 0, leaves: Vec::new() };
        while let Some(entry) = sealed.next().await {
            let entry = entry.map_err(|error| failed(&error))?;
            part.leaves.push(hexadecimal(&leaf(&entry)));
            if part.leaves.len() == LEAVES_MAX {
                let from = part.from + LEAVES_MAX as u64;
                let full = std::mem::replace(&mut part, Leaves { node: node.clone(), from, leaves: Vec::new() });
                shared.recorder.write(&Line::Leaves(full));
            }
        }
        shared.recorder.write(&Line::Leaves(part));
    }
    let auditor = cluster.client(Role::Auditor, None, PATIENT).await?;
    let mut list = auditor.journal().list().stream();
    let mut entries = Vec::new();
    while let Some(access) = list.next().await {
        let access = access.map_err(|error| failed(&error))?;
        let participant = access.participant.and_then(|number| shared.cast.label_of(&number)).unwrap_or_default();
        entries.push(Entry {
            position: access.journal_position,
            action: access.action.to_string(),
            facility: access.facility,
            participant,
            denied: !access.denial.is_empty(),
            count: access.count,
        });
    }
    entries.chunks(LEAVES_MAX).for_each(|part| shared.recorder.write(&Line::Entries { entries: part.to_vec() }));
    Ok(())
}
