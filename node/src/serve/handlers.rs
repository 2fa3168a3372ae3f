//! The peer service's calls that are not Raft's.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;
use kura_cluster::command::encoded_at_ms;
use kura_cluster::seal::verify_command_mac;
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Node, archive_check, clear, heads, lag, majority, peers, rotation, scrub, seed, standing};
use crate::gateway::group::Pending;
use crate::gateway::limits::CLOCK_OFFSET_MS_MAX;
use crate::gateway::members::{is_approved, missing_approval};
use crate::gateway::propose::{Failure, write_reply};
use crate::raft::codec;
use crate::raft::gate::{Caller, Standing};
use crate::raft::network::MarkSink;
use crate::raft::types::{Member, MemberRole, NodeId};
use crate::rpc::peer::{PeerHandlers, ReplyStream};
use crate::snapshot::SnapshotManifest;

/// Replies waiting for one peer.
const REPLIES_WAITING_MAX: usize = 4096;
/// Log indexes whose lag one question asks for.
const BEHIND_ASKED_MAX: usize = 16;

/// Why a node does not join whose approval is of something else.
const OTHERWISE: &str = "this member was approved with another certificate or role";

/// See [`PeerHandlers`].
pub struct Handlers(pub Arc<Node>);

impl Handlers {
    /// Checks what only the leader can check of a forwarded proposal.
    ///
    /// Asked for each proposal: streams live long, and a voter may have been removed meanwhile.
    fn check(&self, from: NodeId, request: &v1::ProposeRequest) -> Result<(), (u32, &'static str)> {
        let node = &self.0;
        let metrics = node.raft.metrics();
        if !metrics.borrow_watched().membership_config.membership().voter_ids().any(|id| id == from) {
            return Err((1, "the proposer is no voter (any more)"));
        }
        let vault = node.gateway.vault.load_full().ok_or((1, "this node is sealed"))?;
        let keyring = vault.epoch(request.epoch).ok_or((1, "the proposal's epoch is not known here"))?;
        let command_key = keyring.command_mac.as_ref().ok_or((1, "the proposal's epoch has ended"))?;
        if !verify_command_mac(command_key, &request.command, &request.mac) {
            return Err((1, "the proposal was not made by an unsealed voter"));
        }
        let at_ms = encoded_at_ms(&request.command).ok_or((1, "the proposal is not a command"))?;
        let now_ms = node.gateway.now_ms().map_err(|_| (3, "the leader's clock is off"))?;
        if at_ms.abs_diff(now_ms) > 2 * CLOCK_OFFSET_MS_MAX {
            return Err((3, "the proposer's clock is off"));
        }
        node.space.check_reads().map_err(|_| (4, "the leader's disk is full"))
    }
}

#[tonic::async_trait]
impl PeerHandlers for Handlers {
    async fn propose(
        &self,
        from: NodeId,
        mut requests: Streaming<v1::ProposeRequest>,
    ) -> Result<ReplyStream<v1::ProposeReply>, Status> {
        let handlers = Handlers(self.0.clone());
        let (replies, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        let (handed_over, mut waiting) = mpsc::channel(REPLIES_WAITING_MAX);
        let refusals = replies.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let id = request.id;
                let answered = match handlers.check(from, &request) {
                    Ok(()) => {
                        let (answer, outcome) = oneshot::channel();
                        handlers.0.group.push(Pending { command: request.command, answer }).await;
                        handed_over.send((id, outcome)).await.is_ok()
                    }
                    Err((error, why)) => {
                        tracing::debug!(from, why, "a forwarded proposal was refused");
                        let why = why.into();
                        refusals
                            .send(Ok(v1::ProposeReply { id, error, why, ..v1::ProposeReply::default() }))
                            .await
                            .is_ok()
                    }
                };
                if !answered {
                    return;
                }
            }
        });
        // Outcomes come in the order in which the commands were handed over.
        tokio::spawn(async move {
            while let Some((id, outcome)) = waiting.recv().await {
                let ended = |_| Err(Failure::Unknown("the leader's Raft has ended".into()));
                if replies.send(Ok(write_reply(id, outcome.await.unwrap_or_else(ended)))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn hello(&self, caller: &Caller, request: v1::HelloRequest) -> Result<v1::HelloReply, Status> {
        super::fence::take(&self.0, &request.timeline_certificate);
        super::alone::hear(&self.0, caller, &request);
        if !is_known(&self.0, caller) {
            return Ok(hello_to_stranger(&self.0));
        }
        let mut reply = hello_to(&self.0, request.from);
        let asked = &request.behind_at[..request.behind_at.len().min(BEHIND_ASKED_MAX)];
        if !asked.is_empty() {
            reply.behind = lag::behind(&self.0, asked);
        }
        // What it has promised is kept here too, not by its leader alone: it may ask after any restart, and
        // the leader be gone. Only of the member that the connection's certificate names.
        let is_itself = |member: Member| member.name == caller.name && member.key_sha256[..] == caller.key_sha256[..];
        if !request.mark.is_empty() && self.0.member(request.from).is_some_and(is_itself) {
            self.0.marks.peer_mark(request.from, request.mark);
        }
        Ok(reply)
    }

    async fn timeline(&self, request: v1::TimelineRequest) -> Result<v1::TimelineReply, Status> {
        let node = &self.0;
        super::fence::take(node, &request.certificate);
        let timeline = node.store.published().summary.timeline;
        Ok(v1::TimelineReply { timeline, certificate: super::fence::own(node) })
    }

    async fn hand_root_key(&self, caller: &Caller, _: v1::RootKeyRequest) -> Result<v1::RootKeyReply, Status> {
        let node = &self.0;
        let vault = node.gateway.unsealed().map_err(Status::from)?;
        let approved = node.gateway.approved_member(&caller.name).map_err(Status::from)?;
        let approved_so = approved.is_some_and(|row| row.role == 1 && row.key_sha256[..] == caller.key_sha256[..]);
        if !approved_so || caller.role != Some(MemberRole::Voter) {
            return Err(Status::permission_denied("no operator and registrar have approved this voter"));
        }
        node.gateway.journal_handover(&caller.name).await.map_err(Status::from)?;
        tracing::warn!(to = %caller.name, "the root key is handed to an approved voter");
        Ok(v1::RootKeyReply { root_key: Bytes::copy_from_slice(vault.root().expose_bytes()) })
    }

    async fn take_root_key(
        &self,
        caller: &Caller,
        request: v1::TakeRootKeyRequest,
    ) -> Result<v1::TakeRootKeyReply, Status> {
        rotation::take_next(&self.0, &caller.name, request).await?;
        Ok(v1::TakeRootKeyReply {})
    }

    async fn join(&self, caller: &Caller, request: v1::JoinRequest) -> Result<v1::JoinReply, Status> {
        let node = &self.0;
        let known = node.gateway.known_member(&request.name).map_err(Status::from)?;
        let wanted = caller.role.unwrap_or(MemberRole::Voter);
        if let Some(words) = missing_approval(known.as_ref(), wanted) {
            return Err(Status::permission_denied(format!("this {wanted} is not approved: {words}")));
        }
        let approved = known.filter(is_approved).ok_or_else(|| Status::permission_denied(OTHERWISE))?;
        let role = if approved.role == 1 { MemberRole::Voter } else { MemberRole::Backup };
        if caller.role != Some(role) || approved.key_sha256[..] != caller.key_sha256[..] {
            return Err(Status::permission_denied(OTHERWISE));
        }
        let row = node.store.database().cluster_row().map_err(|error| Status::internal(error.to_string()))?;
        let membership = node.raft.metrics().borrow_watched().membership_config.clone();
        Ok(v1::JoinReply {
            membership: codec::encode_stored_membership(&membership).into(),
            cluster_row: row.unwrap_or_default().encode_to_vec().into(),
            raft_id: approved.raft_id,
            cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
            cluster_name: node.identity.cluster_name.clone(),
            timeline: node.store.published().summary.timeline,
        })
    }

    fn is_revoked(&self, caller: &Caller) -> bool {
        caller.serial.as_ref().is_some_and(|serial| self.0.tls.is_revoked(serial))
    }

    fn may_stand(&self) -> bool {
        standing::may_stand(&self.0)
    }

    async fn heads(&self, request: v1::HeadsRequest) -> Result<v1::HeadsReply, Status> {
        Ok(v1::HeadsReply { heads: self.0.heads.after(request.after_index) })
    }

    async fn clear(&self, request: v1::ClearRequest) -> Result<v1::ClearReply, Status> {
        Ok(clear::take(&self.0, &request))
    }

    async fn admit_snapshot(&self, from: NodeId, manifest: &SnapshotManifest, offered: &[Bytes]) -> Result<(), Status> {
        heads::admit_snapshot(&self.0, from, manifest, offered)
    }

    fn state_directory(&self) -> Option<PathBuf> {
        Some(self.0.store.database().directory().to_owned())
    }
}

/// Whether the caller shows itself as a member, in the newest membership that this node knows, or in that of its log.
fn is_known(node: &Node, caller: &Caller) -> bool {
    let own = node.raft.metrics().borrow_watched().membership_config.clone();
    let vouched = node.gate.vouched_beyond(&own);
    let mut members = [Some(own), vouched].into_iter().flatten();
    members.any(|stored| {
        stored.membership().nodes().any(|(_, member)| member.is_shown_by(&caller.name, &caller.key_sha256))
    })
}

/// What whoever is no member (any more, or yet) is told: by what it learns that it is none, and that it is left behind.
fn hello_to_stranger(node: &Node) -> v1::HelloReply {
    let told = hello_to(node, node.id());
    v1::HelloReply {
        stranger: true,
        node_id: told.node_id,
        clock_ms: told.clock_ms,
        version: told.version,
        timeline: told.timeline,
        timeline_certificate: told.timeline_certificate,
        membership: told.membership,
        key_sha256: told.key_sha256,
        term: told.term,
        leads: told.leads,
        ..v1::HelloReply::default()
    }
}

/// What this node says of itself.
pub fn hello_to(node: &Node, asker: NodeId) -> v1::HelloReply {
    let published = node.store.published();
    // What a seed that nobody has borne out holds is no second copy of anything.
    let synced = node.log.synced().borrow().filter(|_| node.seed.borrow().is_none());
    let metrics = node.raft.metrics().borrow_watched().clone();
    // Of the certificate in use: newer files may be unusable.
    let not_after = node.tls.status().not_after;
    v1::HelloReply {
        node_id: node.id(),
        clock_ms: crate::clock::now_ms(),
        applied_index: published.index(),
        synced_index: synced.map_or(0, |id| id.index),
        synced_term: synced.map_or(0, |id| id.committed_leader_id().term),
        state_digest: Bytes::copy_from_slice(&published.digest()),
        digest_index: published.index(),
        unsealed: node.gateway.vault.load().is_some(),
        disk_bytes: node.store.database().disk_bytes()
            + super::retention::directory_bytes(&node.config.data.join("log")),
        disk_free_bytes: node.space.free_bytes().unwrap_or(0),
        certificate_not_after_ms: u64::try_from(not_after).unwrap_or(0) * 1000,
        version: env!("CARGO_PKG_VERSION").into(),
        trouble: trouble(node),
        kept_mark: node.marks.kept_mark(asker).unwrap_or_default(),
        timeline: published.summary.timeline,
        term: metrics.current_term,
        // The committed one: what a leader has only proposed may come to nothing, and whoever is told that it was
        // removed goes by it.
        membership: codec::encode_stored_membership(&published.membership).into(),
        key_sha256: match node.tls.files_digest() == node.client_tls.files_digest() {
            true => Bytes::copy_from_slice(&node.tls.identity().key_sha256),
            false => Bytes::new(),
        },
        leads: Some(majority::leads(node)),
        archive: node.archive.as_ref().map(|archive| {
            let check = Some(archive.check().clone());
            let foreign = archive.foreign().unwrap_or_default();
            match archive.point() {
                Some(point) => v1::ArchiveReply {
                    known: true,
                    index: point.index,
                    at_ms: point.at_ms,
                    manifests: point.manifests,
                    ledger_index: point.ledger_index,
                    check,
                    starting: false,
                    foreign,
                },
                None => v1::ArchiveReply {
                    check,
                    starting: super::archive::is_starting(node, archive),
                    foreign,
                    ..v1::ArchiveReply::default()
                },
            }
        }),
        drill: node.drill.look(&node.config.data).map(|report| v1::DrillReply {
            at_ms: report.at_ms,
            milliseconds: report.milliseconds,
            index: report.index,
            failed: report.failed.clone().unwrap_or_default(),
        }),
        timeline_certificate: super::fence::own(node),
        applied_at_ms: published.summary.clock_ms,
        behind: Vec::new(),
        erasures_failed: node.erasures_failed.load(Ordering::Relaxed),
        scrub: Some(scrub::told(node)),
        closed_data_keys: node.closed_data_keys.load(Ordering::Relaxed),
        stranger: false,
    }
}

fn trouble(node: &Node) -> String {
    let mut words = Vec::new();
    words.extend(majority::missing(node));
    if *node.gate.standing().borrow() == Standing::Lost {
        words.push("its log lacks what it once promised: replace it".to_owned());
    }
    if let Err(why) = node.space.check_writes() {
        words.push(why);
    }
    if node.gateway.clock_is_off() {
        words.push(match peers::is_alone(&peers::others(node)) {
            false => "its clock is off".to_owned(),
            true => "its clock is far ahead of the cluster's time: set it right, or say that it is right, on its \
                     machine, with kura node clock-is-right"
                .to_owned(),
        });
    }
    if *node.log.stalled().borrow() {
        words.push("its log waits for disk space".to_owned());
    }
    if node.tls.status().stale {
        words.push(
            "its newest certificate files cannot be used, and the former ones stay in use: see its log".to_owned(),
        );
    }
    let own_key = node.tls.identity().key_sha256;
    if node.member(node.id()).is_some_and(|member| !member.keys().any(|key| key == own_key)) {
        words.push("its key is not the one that was approved for it".to_owned());
    }
    if let Some(seed) = &*node.seed.borrow() {
        words.push(seed::words(seed));
    }
    if let Some(why) = node.archive.as_ref().and_then(|archive| archive.trouble()) {
        words.push(format!("its archive: {why}"));
    }
    if let Some(archive) = &node.archive {
        words.extend(archive_check::alarm(&archive.check()));
    }
    if let Some(why) = node.custody.trouble() {
        words.push(why.to_owned());
    }
    if let Some(damage) = scrub::damage::known(node) {
        words.push(match node.scrubbing.goes_on_because() {
            Some(why) => format!("its files are DAMAGED, and it goes on, as {why}. Damaged: {damage}"),
            None => format!("its files are damaged, it stops if the others are enough without it: {damage}"),
        });
    }
    words.extend(node.gateway.unopened.trouble(&node.store.database()));
    let v1::Scrub { overdue, .. } = scrub::told(node);
    if !overdue.is_empty() {
        words.push(overdue);
    }
    for (name, index, tables) in heads::differences(node) {
        words.push(format!("its state is not {name}'s at index {index} ({tables})"));
    }
    words.join("; ")
}
