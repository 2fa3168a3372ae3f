//! Who may say what to this node over the peer service.
//!
//! Invariants
//! - [`judge`] is a pure function of the call, the caller's certificate and this node's view; the
//!   [`Gate`] only holds that view.
//! - Until the marks check has passed, and ever after the log was found to lack what it once held,
//!   the node neither votes nor takes entries.
//! - A backup never leads, never stands and never proposes: neither with its certificate, nor under
//!   its id or its name.
//! - A caller whose id is in our membership shows that member's name *and the key that was approved for
//!   it*: a certificate of the right name with another key is nobody.
//! - Our membership may be older than a leader's or a candidate's, and only what they send makes it
//!   newer. So a newer membership counts, too, that a voter whom we know has told us, or that we were
//!   given when we joined ([`Gate::vouch`]). Whoever is in neither is refused as a leader or candidate;
//!   a node without any membership takes a voter's certificate. Removed voters are kept out by their
//!   revoked certificates, and meanwhile by terms, the lease and pre-vote.
//! - To have a member rewrite its files takes one of the voters that this member knows.
//! - *Proposals* are judged by the leader, whose membership is the newest: there the caller must be one
//!   of its voters. Whom an operator and a registrar have approved to join, and to have the root key,
//!   is a row of the state: those who answer these calls look there.
//! - When free space is spent, the reserve included, entries and snapshots are refused, heartbeats are
//!   not: the node keeps its leader and recovers without an election.

use std::fmt;
use std::sync::Arc;

use kura_cluster::ClusterId;
use tokio::sync::watch;
use tonic::Status;

use super::codec::CodecError;
use super::marks::Mark;
use super::types::{Member, MemberRole, NodeId, StoredMembership};
use super::wire::Envelope;
use crate::certificates::Serial;

/// What a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Entries from a leader.
    Append,
    /// An append without entries.
    Heartbeat,
    /// A vote.
    Vote,
    /// Whether a vote would be given.
    PreVote,
    /// To stand, or to let another stand.
    TransferLeader,
    /// To take a snapshot: offer, pieces or installation.
    Snapshot,
    /// To propose commands here.
    Propose,
    /// Marks, clock and positions.
    Hello,
    /// The timeline.
    Timeline,
    /// Signed heads.
    Heads,
    /// To clear what was deleted from its files.
    Clear,
    /// The root key.
    HandRootKey,
    /// A Raft id.
    Join,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 13] = [
        Self::Append,
        Self::Heartbeat,
        Self::Vote,
        Self::PreVote,
        Self::TransferLeader,
        Self::Snapshot,
        Self::Propose,
        Self::Hello,
        Self::Timeline,
        Self::Heads,
        Self::Clear,
        Self::HandRootKey,
        Self::Join,
    ];

    /// Whether only a leader or a candidate says this.
    pub fn is_leaders(self) -> bool {
        use Call::*;
        matches!(self, Append | Heartbeat | Vote | PreVote | TransferLeader | Snapshot)
    }

    fn is_for_voters(self) -> bool {
        self.is_leaders() || matches!(self, Self::Propose | Self::Clear | Self::HandRootKey)
    }

    fn needs_space(self) -> bool {
        matches!(self, Self::Append | Self::Snapshot)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Heartbeat => "heartbeat",
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::TransferLeader => "leader transfer",
            Self::Snapshot => "snapshot",
            Self::Propose => "proposal",
            Self::Hello => "hello",
            Self::Timeline => "timeline",
            Self::Heads => "heads",
            Self::Clear => "clearing",
            Self::HandRootKey => "root key handover",
            Self::Join => "join",
        })
    }
}

/// Who calls, by the certificate of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The certificate's name.
    pub name: String,
    /// The certificate's role; `None` if it is no node's.
    pub role: Option<MemberRole>,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub key_sha256: [u8; 32],
    /// The certificate's number on revocation lists; `None` where connections have no certificate.
    pub serial: Option<Serial>,
}

/// How far the node may take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The marks check has not passed yet.
    Closed,
    /// It has passed.
    Open,
    /// A peer keeps a mark that this node's log does not reach: it must be rebuilt under a new id.
    Lost,
}

/// What [`judge`] goes by.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// This node's Raft id.
    pub me: NodeId,
    /// This node's cluster; `None` until it knows.
    pub cluster_id: Option<ClusterId>,
    /// The newest membership in this node's log; empty on a new node.
    pub membership: &'a StoredMembership,
    /// A membership that was vouched for; it counts if it is newer.
    pub vouched: Arc<StoredMembership>,
    /// See [`Standing`].
    pub standing: Standing,
    /// Whether free space is spent, the reserve included.
    pub space_spent: bool,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate was revoked after the connection was made.
    #[error("the certificate was revoked")]
    Revoked,
    /// The certificate is no node's.
    #[error("only nodes may call this service")]
    NotANode,
    /// A backup tries what only voters do.
    #[error("{0}: not from a backup")]
    Backup(Call),
    /// The id belongs to another name.
    #[error("member {id} is not {name}")]
    OtherName {
        /// The id that the caller gave.
        id: NodeId,
        /// The name in its certificate.
        name: String,
    },
    /// The name is a member's, the key is not the one that was approved for it.
    #[error("{name} shows another key than the one that was approved for it")]
    OtherKey {
        /// The name in the certificate.
        name: String,
    },
    /// A leader or a candidate that is in no membership known here.
    #[error("{name} is no member, as far as this node knows")]
    Stranger {
        /// The name in the certificate.
        name: String,
    },
    /// A proposal by someone who is not among the voters.
    #[error("{0} is not a voter of this cluster")]
    NotAVoter(String),
    /// The caller belongs to another cluster.
    #[error("the message is for another cluster")]
    OtherCluster,
    /// The message is for another node.
    #[error("the message is for member {to}, this is member {me}")]
    OtherReceiver {
        /// For whom it is.
        to: NodeId,
        /// Who we are.
        me: NodeId,
    },
    /// See [`Standing::Closed`].
    #[error("this node has not yet shown that its log is whole")]
    Closed,
    /// See [`Standing::Lost`].
    #[error("this node's log lacks what it once held: it must be rebuilt under a new id")]
    Lost,
    /// Free space is spent, the reserve included.
    #[error("this node has no disk space left for {0}")]
    SpaceSpent(Call),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            Refusal::Revoked => Status::unauthenticated(words),
            Refusal::NotANode
            | Refusal::Backup(_)
            | Refusal::OtherName { .. }
            | Refusal::OtherKey { .. }
            | Refusal::Stranger { .. }
            | Refusal::NotAVoter(_) => Status::permission_denied(words),
            Refusal::OtherCluster | Refusal::OtherReceiver { .. } | Refusal::Lost => Status::failed_precondition(words),
            Refusal::Closed => Status::unavailable(words),
            Refusal::SpaceSpent(_) => Status::resource_exhausted(words),
        }
    }
}

/// Whether `caller` may make `call`. `envelope` is the message's own statement, where it has one.
///
/// # Errors
/// The first [`Refusal`] that applies; what concerns the caller comes before what concerns us.
pub fn judge(call: Call, caller: &Caller, envelope: Option<&Envelope>, view: View<'_>) -> Result<(), Refusal> {
    let role = caller.role.ok_or(Refusal::NotANode)?;
    if call.is_for_voters() {
        let named_backup =
            view.members().any(|(_, member)| member.name == caller.name && member.role == MemberRole::Backup);
        if role == MemberRole::Backup || named_backup {
            return Err(Refusal::Backup(call));
        }
    }
    if let Some(envelope) = envelope {
        judge_sender(call, caller, envelope.from, &view)?;
        if view.cluster_id.is_some_and(|id| envelope.cluster_id[..] != id.0) {
            return Err(Refusal::OtherCluster);
        }
        if envelope.to != view.me {
            return Err(Refusal::OtherReceiver { to: envelope.to, me: view.me });
        }
    }
    if matches!(call, Call::Propose | Call::Clear) {
        let membership = view.membership.membership();
        let mut voters = membership.voter_ids().filter_map(|id| membership.get_node(&id));
        if !voters.any(|member| member.is_shown_by(&caller.name, &caller.key_sha256)) {
            return Err(Refusal::NotAVoter(caller.name.clone()));
        }
    }
    // The pieces of a snapshot name no sender.
    if call.is_leaders()
        && envelope.is_none()
        && view.knows_members()
        && !view.members().any(|(_, member)| member.is_shown_by(&caller.name, &caller.key_sha256))
    {
        return Err(Refusal::Stranger { name: caller.name.clone() });
    }
    if call.is_leaders() {
        match view.standing {
            Standing::Closed => return Err(Refusal::Closed),
            Standing::Lost => return Err(Refusal::Lost),
            Standing::Open => {}
        }
    }
    if call.needs_space() && view.space_spent {
        return Err(Refusal::SpaceSpent(call));
    }
    Ok(())
}

/// Whether the caller is the member that its message says it is.
fn judge_sender(call: Call, caller: &Caller, from: NodeId, view: &View<'_>) -> Result<(), Refusal> {
    let name = || caller.name.clone();
    let mut known = view.members().filter(|(id, _)| *id == from).map(|(_, member)| member).peekable();
    if known.peek().is_some() {
        let mut named = known.filter(|member| member.name == caller.name).peekable();
        if named.peek().is_none() {
            return Err(Refusal::OtherName { id: from, name: name() });
        }
        return match named.any(|member| member.is_shown_by(&caller.name, &caller.key_sha256)) {
            true => Ok(()),
            false => Err(Refusal::OtherKey { name: name() }),
        };
    }
    if call.is_leaders() && view.knows_members() {
        return Err(Refusal::Stranger { name: name() });
    }
    // A member that is being added asks under an id that is not known here yet, never under a known name.
    let mut named = view.members().filter(|(_, member)| member.name == caller.name).peekable();
    let is_nobody = named.peek().is_some() && !named.any(|(_, m)| m.is_shown_by(&caller.name, &caller.key_sha256));
    if is_nobody { Err(Refusal::OtherKey { name: name() }) } else { Ok(()) }
}

impl View<'_> {
    /// Every member of the memberships that count.
    fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        let vouched = Some(&*self.vouched).filter(|vouched| is_newer(vouched, self.membership));
        [Some(self.membership), vouched]
            .into_iter()
            .flatten()
            .flat_map(|stored| stored.membership().nodes().map(|(id, member)| (*id, member)))
    }

    fn knows_members(&self) -> bool {
        self.members().next().is_some()
    }
}

/// Whether a membership comes from a later entry than another.
fn is_newer(one: &StoredMembership, other: &StoredMembership) -> bool {
    one.log_id() > other.log_id()
}

/// Whether a log that has got to `own` has lost something that a peer's `kept` mark stands for.
/// Empty marks stand for nothing.
///
/// # Errors
/// A mark that cannot be read.
pub fn has_lost(own: &[u8], kept: &[u8]) -> Result<bool, CodecError> {
    let decode = |bytes: &[u8]| if bytes.is_empty() { Ok(Mark::default()) } else { Mark::decode(bytes) };
    Ok(!decode(own)?.covers(&decode(kept)?))
}

/// What the node knows of itself that decides who may call.
#[derive(Debug)]
pub struct Gate {
    me: NodeId,
    vouched: watch::Sender<Arc<StoredMembership>>,
    cluster_id: watch::Sender<Option<ClusterId>>,
    standing: watch::Sender<Standing>,
    space_spent: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate.
    pub fn new(me: NodeId, cluster_id: Option<ClusterId>) -> Self {
        Self {
            me,
            vouched: watch::Sender::default(),
            cluster_id: watch::Sender::new(cluster_id),
            standing: watch::Sender::new(Standing::Closed),
            space_spent: watch::Sender::new(false),
        }
    }

    /// The marks check has passed. Does nothing on a log that was found to lack something.
    pub fn open(&self) {
        self.standing.send_if_modified(|standing| {
            let opens = *standing == Standing::Closed;
            if opens {
                *standing = Standing::Open;
            }
            opens
        });
    }

    /// The log was found to lack what it once held. Nothing in this process opens the gate again.
    pub fn lose(&self) {
        self.standing.send_replace(Standing::Lost);
    }

    /// The node has learnt its cluster.
    pub fn set_cluster_id(&self, cluster_id: ClusterId) {
        self.cluster_id.send_replace(Some(cluster_id));
    }

    /// A membership that comes from someone to be trusted: from the cluster when this node joined it, or
    /// from a voter that showed the key under which this node knows it. The newest one is kept.
    pub fn vouch(&self, membership: StoredMembership) {
        self.vouched.send_if_modified(|vouched| {
            let newer = is_newer(&membership, vouched);
            if newer {
                *vouched = Arc::new(membership);
            }
            newer
        });
    }

    /// The members of a vouched membership, if it is newer than the own one: they are asked, too.
    pub fn vouched_beyond(&self, membership: &StoredMembership) -> Option<Arc<StoredMembership>> {
        let vouched = Arc::clone(&self.vouched.borrow());
        is_newer(&vouched, membership).then_some(vouched)
    }

    /// Free space is spent, or there is some again.
    pub fn set_space_spent(&self, spent: bool) {
        self.space_spent.send_replace(spent);
    }

    /// How far the node may take part. Whoever lets it stand for election watches this: only an
    /// open gate's node stands.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// This node's view, with the membership that its log holds now.
    pub fn view<'a>(&self, membership: &'a StoredMembership) -> View<'a> {
        View {
            me: self.me,
            cluster_id: *self.cluster_id.borrow(),
            membership,
            vouched: Arc::clone(&self.vouched.borrow()),
            standing: *self.standing.borrow(),
            space_spent: *self.space_spent.borrow(),
        }
    }
}

#[cfg(test)]
mod tests;
