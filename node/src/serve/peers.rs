//! What the other members say of themselves: asked each second, and of backups more often while someone
//! waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::Command;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use openraft::async_runtime::WatchReceiver;
use prost::Message;

use super::{Node, fence, majority, removed};
use crate::gateway::denials::COUNT_INTERVAL;
use crate::gateway::limits::CLOCK_OFFSET_MS_MAX;
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::codec;
use crate::raft::gate::Standing;
use crate::raft::marks::Mark;
use crate::raft::network::MarkSink;
use crate::raft::types::{Member, MemberRole, NodeId, StoredMembership};
use crate::{clock, leap};

const INTERVAL: Duration = Duration::from_secs(1);
/// The same, before any voter was heard.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
const WAITING_INTERVAL: Duration = Duration::from_millis(20);
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at unfinished uploads.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// A leader writes an entry when it has written none for this long.
const CANARY_INTERVAL: Duration = Duration::from_secs(2);
/// A leader writes such an entry also when no other has made a head for this long.
const HEAD_AGE_MAX: Duration = Duration::from_secs(15);

/// A member's last answer.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What it said.
    pub reply: v1::HelloReply,
    /// When.
    pub at: Instant,
    /// The same by this node's clock, milliseconds since 1970.
    pub at_ms: u64,
}

/// The last answers by Raft id.
#[derive(Debug, Default)]
pub struct Peers(Mutex<BTreeMap<NodeId, Heard>>);

impl Peers {
    /// What a member said last.
    pub fn heard(&self, id: NodeId) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn note(&self, id: NodeId, reply: v1::HelloReply) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Heard { reply, at: Instant::now(), at_ms: clock::now_ms() });
    }
}

/// Why a member did not say what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It was not reached, did not answer in time, or refused; in words.
    #[error("{0}")]
    Unheard(String),
    /// What answers under its name and key has another id: its data directory is from before it was approved anew.
    #[error("it answers as member {told}, and not as member {asked}")]
    OtherId {
        /// Who was asked.
        asked: NodeId,
        /// Who answers.
        told: NodeId,
    },
}

/// Asks one member; also measures how far its clock is from ours.
pub async fn hello(node: &Node, id: NodeId, member: &Member) -> Result<v1::HelloReply, HelloError> {
    hello_asking(node, id, member, Vec::new()).await
}

/// The same; a leader also says how far these log indexes are behind.
pub async fn hello_asking(
    node: &Node,
    id: NodeId,
    member: &Member,
    behind_at: Vec<u64>,
) -> Result<v1::HelloReply, HelloError> {
    let channel = node.channels.channel(member, Lane::Control).map_err(HelloError::Unheard)?;
    let mut client = PeerClient::new(channel);
    let mut request = tonic::Request::new(v1::HelloRequest {
        from: node.id(),
        cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
        clock_ms: clock::now_ms(),
        // Before its own check this node's log may lack what it once promised: nothing to be kept.
        mark: match *node.gate.standing().borrow() {
            Standing::Open => node.marks.own_mark(),
            _ => Bytes::new(),
        },
        timeline_certificate: fence::own(node),
        behind_at,
        kept_mark: node.marks.kept_mark(id).unwrap_or_default(),
        membership_entry: Mark { vote: None, last: *node.store.published().membership.log_id() }.encode().into(),
        kept_head: match member.role {
            MemberRole::Voter => node.heads.newest_signed_of(id).unwrap_or_default(),
            MemberRole::Backup => Bytes::new(),
        },
    });
    request.set_timeout(HELLO_TIMEOUT);
    let answer = tokio::time::timeout(HELLO_TIMEOUT, client.hello(request)).await;
    let unheard = |words: &str| HelloError::Unheard(words.to_owned());
    let reply =
        answer.map_err(|_| unheard("no answer in time"))?.map_err(|status| unheard(status.message()))?.into_inner();
    // What it knows of the cluster counts by its key, under whichever id; what it has counts as its own alone.
    fence::take(node, &reply.timeline_certificate);
    take_word(node, member, &reply);
    if reply.node_id != id {
        return Err(HelloError::OtherId { asked: id, told: reply.node_id });
    }
    // It is there, and what it left out is not 0.
    if reply.stranger {
        return Ok(reply);
    }
    node.peers.note(id, reply.clone());
    if member.role == MemberRole::Backup {
        node.gateway.reach.report(id, reply.synced_term, reply.synced_index);
    }
    Ok(reply)
}

/// Every other member, in the newest membership of this node's log.
pub fn others(node: &Node) -> Vec<(NodeId, Member)> {
    others_in(node, &node.raft.metrics().borrow_watched().membership_config.clone())
}

/// The same, in a membership.
pub fn others_in(node: &Node, stored: &StoredMembership) -> Vec<(NodeId, Member)> {
    let members = stored.membership().nodes().filter(|(id, _)| **id != node.id());
    members.map(|(id, member)| (*id, member.clone())).collect()
}

/// Others that a newer membership has, for which someone vouched: this node's log may be behind.
fn newcomers(node: &Node, known: &[(NodeId, Member)]) -> Vec<(NodeId, Member)> {
    let own = node.raft.metrics().borrow_watched().membership_config.clone();
    let Some(vouched) = node.gate.vouched_beyond(&own) else { return Vec::new() };
    let newer = others_in(node, &vouched).into_iter();
    newer.filter(|(id, member)| !known.iter().any(|(known, old)| known == id && old == member)).collect()
}

/// What a voter says of the membership counts here: it has shown the key under which we know it.
fn take_word(node: &Node, member: &Member, reply: &v1::HelloReply) {
    if member.role == MemberRole::Voter
        && let Ok(membership) = codec::decode_stored_membership(&reply.membership)
    {
        node.gate.vouch(membership);
    }
}

/// Keeps asking, for ever.
pub async fn follow(node: Arc<Node>) {
    loop {
        let members = others(&node);
        let newcomers = newcomers(&node, &members);
        let all = members.iter().chain(&newcomers);
        node.channels.learn(all.clone().map(|(_, member)| member));
        join_all(all.map(|(id, member)| hello(&node, *id, member))).await;
        removed::look(&node);
        judge_clock(&node, &members);
        majority::note(&node);
        if node.gateway.clock_is_off()
            && node.leads()
            && let Some(successor) = super::most_advanced(&node)
        {
            tracing::warn!(successor, "this leader's clock is off: handing over leadership");
            let _ = node.raft.trigger().transfer_leader(successor).await;
        }
        // Until its clock has been compared, this node neither decides nor stands.
        let compared = node.gateway.clock_offset_ms.load(Ordering::Relaxed) != clock::NOT_COMPARED;
        let next = Instant::now() + if compared { INTERVAL } else { FIRST_INTERVAL };
        while Instant::now() < next {
            tokio::time::sleep(WAITING_INTERVAL).await;
            if node.gateway.reach.is_awaited() {
                let backups = members.iter().filter(|(_, member)| member.role == MemberRole::Backup);
                join_all(backups.map(|(id, member)| hello(&node, *id, member))).await;
            }
        }
    }
}

/// Compares this node's clock with the other voters'.
fn judge_clock(node: &Node, members: &[(NodeId, Member)]) {
    let voters = members.iter().filter(|(_, member)| member.role == MemberRole::Voter);
    let told = voters.map(|(id, _)| {
        let heard = node.peers.heard(*id)?;
        Some(clock::Told { clock_ms: heard.reply.clock_ms, age: heard.at.elapsed() })
    });
    let (now_ms, now) = (clock::now_ms(), Instant::now());
    let was_off = node.gateway.clock_is_off();
    let own_counts = !was_off && node.gateway.steady.goes_on(now_ms, now);
    let Some(mut offset_ms) = clock::ahead_of_median_ms(now_ms, own_counts, told) else {
        let silent = members.iter().filter(|(_, member)| member.role == MemberRole::Voter);
        *node.gateway.silent_voters.lock().unwrap_or_else(PoisonError::into_inner) =
            silent.map(|(_, member)| member.name.clone()).collect();
        return;
    };
    if is_alone(members) {
        offset_ms = leap_ms(node, now_ms, now);
    } else if offset_ms.unsigned_abs() <= CLOCK_OFFSET_MS_MAX {
        node.gateway.lone.believe(now_ms, now);
    }
    node.gateway.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
    node.gateway.steady.compared(now_ms, now);
    match (was_off, node.gateway.clock_is_off()) {
        (false, true) => {
            tracing::error!(offset_ms, "this node's clock is off; it stops deciding until that is mended");
        }
        (true, false) => tracing::info!(offset_ms, "this node's clock is right again"),
        _ => {}
    }
}

/// Whether no other voter's clock can be asked.
pub fn is_alone(members: &[(NodeId, Member)]) -> bool {
    members.iter().all(|(_, member)| member.role != MemberRole::Voter)
}

/// How far a lone voter's clock is ahead of where it can be, unless people say that it is right.
fn leap_ms(node: &Node, now_ms: u64, now: Instant) -> i64 {
    let lone = &node.gateway.lone;
    let ahead_ms = lone.ahead_ms(node.store.published().summary.clock_ms, now_ms, now);
    if ahead_ms != 0 && leap::is_said_right(&node.config.data, now_ms) {
        tracing::warn!(ahead_ms, "this node's clock has leapt, and people say that it is right: it is believed");
        lone.believe(now_ms, now);
        return 0;
    }
    i64::try_from(ahead_ms).unwrap_or(i64::MAX)
}

/// Journals counted denials, for ever.
pub async fn journal_denials(node: Arc<Node>) {
    loop {
        tokio::time::sleep(COUNT_INTERVAL).await;
        if let Err(error) = node.gateway.journal_counted_denials().await {
            tracing::warn!(%error, "counted denials could not be journalled");
        }
    }
}

/// Journals refused certificates that name an application, for ever.
pub async fn journal_refusals(node: Arc<Node>) {
    let Some(mut refusals) = node.tls.refusals().take() else { return };
    while let Some(refused) = refusals.recv().await {
        if let Err(error) = node.gateway.journal_refused(&refused).await {
            tracing::warn!(%error, "a refused certificate could not be journalled");
        }
    }
}

/// While this node leads, sweeps uploads that nobody finished.
pub async fn sweep(node: Arc<Node>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        if node.leads()
            && let Err(error) = node.gateway.sweep().await
        {
            tracing::warn!(%error, "unfinished uploads could not be swept; trying again later");
        }
    }
}

/// While this node leads and nothing is written, writes an entry from time to time: so that lag and
/// clocks are known to be what they are, and not what they were. Under a light load it does so, too, lest
/// members have nothing to compare.
pub async fn beat(node: Arc<Node>) {
    let mut last = 0;
    let mut head = (0, Instant::now());
    loop {
        tokio::time::sleep(CANARY_INTERVAL).await;
        let index = node.store.published().index();
        if node.heads.newest() != head.0 {
            head = (node.heads.newest(), Instant::now());
        }
        // Large entries fill the log long before the next head is due by its index.
        let due = index == last || head.1.elapsed() >= HEAD_AGE_MAX || node.store.snapshot_is_wanted();
        // A leader whose clock is off must not move the cluster's time.
        if node.leads()
            && due
            && node.space.check_reads().is_ok()
            && let Ok(now_ms) = node.gateway.now_ms()
        {
            let command = Command::new(now_ms).encode_to_vec();
            let deadline = Instant::now() + CANARY_INTERVAL;
            if let Err(error) = node.gateway.proposer.propose(command.into(), deadline).await {
                tracing::debug!(%error, "the canary was not committed");
            }
        }
        last = node.store.published().index();
    }
}
