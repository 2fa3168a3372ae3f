//! Erasure of participants who have left: asked for, approved, stopped, shown.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{Client, Person, Shared, erasures};
use crate::error::{ErasureError, Family, WriteFamily};
use crate::fault::Failure;
use crate::id::{ParticipantNumber, RequestId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::pages::{Listing, Page};
use crate::receipt::Receipt;
use crate::word::{Action, ActorKind, ErasureState};

/// An erasure, as far as it has come.
#[derive(Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its id; entries of the journal that belong to it name it as their act.
    pub id: [u8; 16],
    /// The participant's number, until the keys are destroyed.
    pub participant: Option<ParticipantNumber>,
    /// How far it has come.
    pub state: ErasureState,
    /// Who asked for it.
    pub asked_by: Option<ErasureActor>,
    /// When, in milliseconds since 1970-01-01 UTC, like all times here; 0: not yet.
    pub asked_ms: u64,
    /// Reference to the evidence.
    pub evidence: String,
    /// Who approved it.
    pub approved_by: Option<ErasureActor>,
    /// When.
    pub approved_ms: u64,
    /// From then on the keys are destroyed; until then it can be stopped.
    pub grace_until_ms: u64,
    /// Who stopped it.
    pub stopped_by: Option<ErasureActor>,
    /// When.
    pub stopped_ms: u64,
    /// Why.
    pub stop_reason: String,
    /// When the keys were destroyed.
    pub erased_ms: u64,
    /// When the last row of the participant was deleted.
    pub swept_ms: u64,
    /// Members report that they hold nothing of the log up to this index.
    pub keys_last_index: u64,
    /// What members reported.
    pub reports: Vec<ErasureReport>,
    /// Exports and generations that still hold the keys. Not filled yet: an empty list says nothing about
    /// archives and exports.
    pub exports: Vec<String>,
    /// Members that were removed without having reported.
    pub unreported_members: Vec<String>,
    /// When every member had reported.
    pub certified_ms: u64,
    /// Timeline in which the keys were destroyed.
    pub timeline: u64,
}

impl fmt::Debug for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erasure").field("state", &self.state).field("reports", &self.reports).finish_non_exhaustive()
    }
}

/// Who did something about an erasure.
#[derive(Clone, PartialEq, Eq)]
pub struct ErasureActor {
    /// A participant, a registrar.
    pub kind: ActorKind,
    /// The registrar's name; a participant's number.
    pub name: String,
}

impl fmt::Debug for ErasureActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureActor").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A member's word on what is left of the keys on its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureReport {
    /// The member.
    pub member: String,
    /// Its Raft id.
    pub raft_id: u64,
    /// Its log is purged up to here.
    pub purged_index: u64,
    /// The log's files are rewritten without it.
    pub log_compacted: bool,
    /// The files of keys and rows are rewritten without it.
    pub keys_compacted: bool,
    /// No checkpoint or snapshot of before is left.
    pub checkpoints_gone: bool,
    /// When it said so; 0: it has said nothing yet.
    pub at_ms: u64,
    /// All of it, up to what is asked.
    pub complete: bool,
    /// The archive that the member writes, if it writes one.
    pub archive: Option<ErasureArchive>,
}

/// What an archive still has of an erased participant, as the member told that writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureArchive {
    /// Log index of its last entry.
    pub index: u64,
    /// Log index of its key ledger.
    pub ledger_index: u64,
    /// Its ledger, the only place of an archive with keys, was written without these keys. Copies of the archive
    /// (`kura archive export`) are not known here.
    pub keys_gone: bool,
    /// Numbers of the generations whose bases and segments may hold sealed rows, which nothing opens any more.
    pub generations: Vec<u64>,
}

/// What the journal has of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureEvent {
    /// Asked, approved, stopped, erased, certified.
    pub action: Action,
    /// Position of the entry.
    pub journal_position: u64,
    /// When.
    pub at_ms: u64,
    /// The entry's leaf in the journal's tree, with which its holder can demand a proof that it is there.
    pub journal_leaf: Option<[u8; 32]>,
}

/// An erasure and what the journal has of it: once it is certified, its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownErasure {
    /// The erasure.
    pub erasure: Erasure,
    /// Oldest first.
    pub events: Vec<ErasureEvent>,
    /// The cluster.
    pub cluster: [u8; 16],
    /// Position of the journal entry of this look.
    pub journal_position: u64,
}

#[derive(Clone)]
enum What {
    Ask,
    Approve,
    Stop,
}

/// A step of an erasure; `.await` runs it.
#[must_use = "nothing is changed until it is awaited"]
pub struct ErasureChange {
    shared: Arc<Shared>,
    actor: Option<Result<v1::Actor, crate::fault::Invalid>>,
    number: ParticipantNumber,
    what: What,
    words: String,
    request: RequestId,
}

impl ErasureChange {
    /// Repeats an earlier request.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    async fn run(self) -> Result<Receipt, ErasureError> {
        let field = if matches!(self.what, What::Stop) { "reason" } else { "evidence" };
        limit::text(field, &self.words).map_err(ErasureError::from_invalid)?;
        let actor = self.actor.transpose().map_err(ErasureError::from_invalid)?;
        let (shared, request) = (&self.shared, self.request);
        let attempt = |channel| {
            let (actor, request, words) = (actor.clone(), request.wire(), self.words.clone());
            let (participant, what) = (self.number.reveal().to_owned(), self.what.clone());
            async move {
                let mut client = erasures(channel);
                let receipt = match what {
                    What::Ask => {
                        client.ask(v1::AskErasureRequest { actor, request, participant, evidence: words }).await?
                    }
                    What::Approve => client.approve(v1::ApproveErasureRequest { request, participant }).await?,
                    What::Stop => {
                        client.stop(v1::StopErasureRequest { actor, request, participant, reason: words }).await?
                    }
                };
                shared.receipt(receipt.into_inner())
            }
        };
        shared.call(None, attempt).await.map_err(|failed| ErasureError::from_failed(failed, request))
    }
}

impl IntoFuture for ErasureChange {
    type Output = Result<Receipt, ErasureError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

impl Person {
    fn change_erasure(&self, what: What, words: String) -> ErasureChange {
        ErasureChange {
            shared: Arc::clone(&self.acting.shared),
            actor: Some(self.acting.actor.to_wire()),
            number: self.number,
            what,
            words,
            request: RequestId::new(),
        }
    }

    /// Asks to be erased, after having left. A registrar approves it; then the grace period runs.
    pub fn ask_erasure(&self) -> ErasureChange {
        self.change_erasure(What::Ask, String::new())
    }

    /// Stops their erasure, as long as the keys are there.
    pub fn stop_erasure(&self, reason: impl Into<String>) -> ErasureChange {
        self.change_erasure(What::Stop, reason.into())
    }

    /// How far their erasure has come. Once the keys are destroyed, nobody is known under the number any more.
    ///
    /// # Errors
    /// [`ErasureError`].
    pub async fn erasure(&self) -> Result<ShownErasure, ErasureError> {
        let actor = self.acting.actor.to_wire().map_err(ErasureError::from_invalid)?;
        show(&self.acting.shared, Some(actor), &self.number).await
    }
}

/// Erasures, for registrars and auditors. Made by [`Client::erasures`].
#[derive(Clone)]
pub struct Erasures {
    shared: Arc<Shared>,
}

impl Erasures {
    pub(crate) fn new(client: &Client) -> Self {
        Self { shared: Arc::clone(&client.shared) }
    }

    fn change(&self, number: &ParticipantNumber, what: What, words: String) -> ErasureChange {
        let shared = Arc::clone(&self.shared);
        ErasureChange { shared, actor: None, number: *number, what, words, request: RequestId::new() }
    }

    /// Asks for the erasure of a participant who has left, with a reference to the evidence. Registrars.
    pub fn ask(&self, number: &ParticipantNumber, evidence: impl Into<String>) -> ErasureChange {
        self.change(number, What::Ask, evidence.into())
    }

    /// Approves an erasure that somebody else asked for: the grace period begins. Registrars.
    pub fn approve(&self, number: &ParticipantNumber) -> ErasureChange {
        self.change(number, What::Approve, String::new())
    }

    /// Stops an erasure, as long as the keys are there. Registrars.
    pub fn stop(&self, number: &ParticipantNumber, reason: impl Into<String>) -> ErasureChange {
        self.change(number, What::Stop, reason.into())
    }

    /// How far an erasure has come. The number still finds it once the participant is erased.
    ///
    /// # Errors
    /// [`ErasureError`].
    pub async fn show(&self, number: &ParticipantNumber) -> Result<ShownErasure, ErasureError> {
        show(&self.shared, None, number).await
    }

    /// Every erasure ever asked for.
    pub fn list(&self) -> ErasureList {
        ErasureList { shared: Arc::clone(&self.shared), state: None, page: PAGE_ITEMS_MAX }
    }
}

/// A list of erasures, made by [`Erasures::list`].
#[must_use = "nothing is asked until it is streamed"]
pub struct ErasureList {
    shared: Arc<Shared>,
    state: Option<ErasureState>,
    page: u32,
}

impl ErasureList {
    /// Only those that have come so far.
    pub fn state(mut self, state: ErasureState) -> Self {
        self.state = Some(state);
        self
    }

    /// Erasures to ask for at a time, 1 to 1,000 (the default). Each page is journalled.
    pub fn page(mut self, erasures: u32) -> Self {
        self.page = erasures;
        self
    }

    /// The erasures, page by page as they are read.
    pub fn stream(self) -> Listing<Erasure, ErasureError> {
        let (shared, limit) = (self.shared, self.page);
        let state = self.state.map_or(0, ErasureState::number);
        Listing::paged(Bytes::new(), move |after: Bytes| {
            let shared = Arc::clone(&shared);
            async move {
                limit::page(limit).map_err(ErasureError::from_invalid)?;
                let attempt = |channel| {
                    let ask = v1::ListErasuresRequest { state, after: after.clone(), limit };
                    let after = after.clone();
                    async move { page(erasures(channel).list(ask).await?.into_inner(), &after) }
                };
                shared.call(None, attempt).await.map_err(|failed| ErasureError::from_fault(failed.fault))
            }
        })
    }
}

fn page(reply: v1::ListErasuresReply, after: &Bytes) -> Result<Page<Erasure, Bytes>, Failure> {
    if reply.more && reply.last == *after {
        return Err(Failure::broken("a page that does not tell where the next begins"));
    }
    let items = reply.erasures.into_iter().map(Erasure::from_wire).collect::<Result<_, _>>()?;
    Ok(Page { items, next: reply.more.then_some(reply.last) })
}

async fn show(
    shared: &Arc<Shared>,
    actor: Option<v1::Actor>,
    number: &ParticipantNumber,
) -> Result<ShownErasure, ErasureError> {
    let ask = v1::ShowErasureRequest { actor, participant: number.reveal().to_owned() };
    let attempt = |channel| {
        let ask = ask.clone();
        async move { shown(erasures(channel).show(ask).await?.into_inner()) }
    };
    shared.call(None, attempt).await.map_err(|failed| ErasureError::from_fault(failed.fault))
}

fn shown(reply: v1::ShowErasureReply) -> Result<ShownErasure, Failure> {
    let event = |event: v1::ErasureEvent| -> Result<ErasureEvent, Failure> {
        Ok(ErasureEvent {
            action: Action::from_number(event.action).map_err(unknown)?,
            journal_position: event.journal_position,
            at_ms: event.at_ms,
            journal_leaf: event.journal_leaf[..].try_into().ok(),
        })
    };
    Ok(ShownErasure {
        erasure: Erasure::from_wire(reply.erasure.ok_or_else(|| Failure::broken("an erasure that is none"))?)?,
        events: reply.events.into_iter().map(event).collect::<Result<_, _>>()?,
        cluster: reply.cluster_id[..].try_into().map_err(|_| Failure::broken("a cluster id of a wrong length"))?,
        journal_position: reply.journal_position,
    })
}

fn unknown(error: crate::word::UnknownWord) -> Failure {
    Failure::broken(error.to_string())
}

impl Erasure {
    pub(crate) fn from_wire(wire: v1::Erasure) -> Result<Self, Failure> {
        let report = |report: v1::ErasureReport| ErasureReport {
            member: report.member,
            raft_id: report.raft_id,
            purged_index: report.purged_index,
            log_compacted: report.log_compacted,
            keys_compacted: report.keys_compacted,
            checkpoints_gone: report.checkpoints_gone,
            at_ms: report.at_ms,
            complete: report.complete,
            archive: report.archive.map(|held| ErasureArchive {
                index: held.index,
                ledger_index: held.ledger_index,
                keys_gone: held.keys_gone,
                generations: held.generations,
            }),
        };
        Ok(Self {
            id: wire.id[..].try_into().map_err(|_| Failure::broken("an erasure's id of a wrong length"))?,
            participant: match wire.participant.is_empty() {
                true => None,
                false => Some(wire.participant.parse().map_err(|_| Failure::broken("a malformed participant number"))?),
            },
            state: ErasureState::from_number(wire.state).map_err(unknown)?,
            asked_by: actor(wire.asked_by)?,
            asked_ms: wire.asked_ms,
            evidence: wire.evidence,
            approved_by: actor(wire.approved_by)?,
            approved_ms: wire.approved_ms,
            grace_until_ms: wire.grace_until_ms,
            stopped_by: actor(wire.stopped_by)?,
            stopped_ms: wire.stopped_ms,
            stop_reason: wire.stop_reason,
            erased_ms: wire.erased_ms,
            swept_ms: wire.swept_ms,
            keys_last_index: wire.keys_last_index,
            reports: wire.reports.into_iter().map(report).collect(),
            exports: wire.exports,
            unreported_members: wire.unreported_members,
            certified_ms: wire.certified_ms,
            timeline: wire.timeline,
        })
    }
}

fn actor(wire: Option<v1::Actor>) -> Result<Option<ErasureActor>, Failure> {
    let actor = |actor: v1::Actor| {
        Ok(ErasureActor { kind: ActorKind::from_number(actor.kind).map_err(unknown)?, name: actor.name })
    };
    wire.map(actor).transpose()
}
