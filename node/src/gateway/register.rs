//! Registering: what one registrar may do is done, what takes two is proposed to a second one.
//!
//! Invariants
//! - Nothing that is registered changes unless the caller says how it knew it: a registration that nobody
//!   looked at is never overwritten.
//! - Of one thing at most one proposal is open, so that a second registrar cannot confirm the wrong one.
//! - An act has the id of the request that proposed it: a repeated request is told the same act.
//! - What is registered already as it shall be is no change, and no conflict.

use bytes::Bytes;
use kura_cluster::Revision;
use kura_cluster::consent::{Act, Change, Decision, Denial, decide};
use kura_cluster::id::ActId;
use kura_cluster::row::{ACT_PAYLOAD_BYTES_MAX, ActRow, ActorRow, ReceiptRow, RowKey, Table};
use kura_cluster::word::{ActKind, ActState, Action};
use kura_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::alike::refuse_alike;
use super::attempt::{Attempt, broken};
use super::caller::CallerRows;
use super::consents::bounded;
use super::limits::{ACT_MS_MAX, ACTS_OPEN_MAX, REQUEST_AHEAD_MS_MAX};
use super::service::Doing;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// A row that registrars write.
pub trait Registrable: Message + Default + Clone + PartialEq + 'static {
    /// What the journal calls a registration.
    const ACTION: Action;
    /// What an act of two registrars about it is called; none if it never takes two.
    const ACT: Option<ActKind>;
    /// The field that tells it from others of its kind.
    const FIELD: &'static str;

    /// Where it lies.
    fn key(&self, attempt: &Attempt<'_>) -> RowKey;

    /// What people call it.
    fn object(&self) -> String;

    /// The facility in whose journal its registration is found.
    fn facility(&self) -> Option<&str> {
        None
    }

    /// Whether nobody may do anything by it: it was suspended, or has left.
    fn is_inactive(&self) -> bool {
        false
    }

    /// Where it has an id of its own, and the id that people tell it by; none if it has no such id.
    fn name(&self) -> Option<(&str, &str)> {
        None
    }

    /// What holds where no row lies.
    fn absent() -> Option<Self> {
        None
    }

    /// Hands the change to `judge`, as rules look at it.
    fn change<R>(before: Option<&Self>, after: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R;

    /// Holds it against what is registered; every row that is looked at is expected.
    fn check(&self, attempt: &mut Attempt<'_>) -> Result<(), GatewayError>;

    /// As it is written when a second registrar has confirmed it.
    fn confirmed(self, _proposed_by: Option<&ActorRow>, _confirmed_by: &ActorRow) -> Self {
        self
    }
}

/// What a registrar asks for.
pub struct Registration<T> {
    /// As it shall be.
    pub row: T,
    /// As the registrar knows it to be; none: not registered yet.
    pub before: Option<T>,
    /// Why.
    pub reason: String,
    /// What to look at again.
    pub warnings: Vec<String>,
}

impl Gateway {
    /// Registers, or proposes what takes two registrars.
    pub async fn register<T: Registrable>(
        &self,
        caller: &Caller,
        asked: Asked,
        registration: Registration<T>,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let Registration { row, before, reason, warnings } = registration;
        bounded("reason", &reason)?;
        let id = ActId(asked.id.0);
        let doing = Doing { registers_inactive: row.is_inactive(), ..T::ACTION.into() };
        let done = self
            .transact(caller, doing, Some(&asked), |attempt| {
                attempt.entry.object = row.object();
                attempt.entry.reason = reason.clone();
                attempt.entry_facilities.extend(row.facility().map(str::to_owned));
                let rows = CallerRows::load(attempt, caller)?;
                let key = row.key(attempt);
                let found = attempt.load::<T>(&key)?;
                let present = found.value.as_deref().cloned().or_else(T::absent);
                may_replace(present.as_ref(), before.as_ref(), &row)?;
                if present.is_none() {
                    tokio::task::block_in_place(|| refuse_alike(attempt, &row, &key))?;
                }
                row.check(attempt)?;
                let now_ms = attempt.now_ms;
                let decide_on = |act: fn(Change<'_>) -> Act<'_>| {
                    T::change(present.as_ref(), &row, |change| decide(&rows.facts(now_ms, act(change), None, None)))
                };
                let verdict = match decide_on(|change| Act::Register { change }) {
                    Decision::Deny { reason: Denial::SecondRegistrar } => {
                        attempt.entry.action = Action::Propose.number();
                        attempt.entry.act_id = Bytes::copy_from_slice(&id.0);
                        Verdict::of(decide_on(|change| Act::Propose { change }), |_| {
                            let proposal = Proposal {
                                kind: T::ACT.ok_or(GatewayError::Damaged { what: "act" })?,
                                object: row.object(),
                                payload: row.encode_to_vec(),
                                field: T::FIELD,
                                base: found.revision,
                                expires_ms: now_ms.saturating_add(rows.settings().act_ms),
                                reason: reason.clone(),
                            };
                            propose(attempt, caller, &id, proposal)
                        })?
                    }
                    decision => Verdict::of(decision, |_| {
                        if present.as_ref() != Some(&row) {
                            attempt.put(&key, found.revision, &row);
                        }
                        Ok(())
                    })?,
                };
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let act_id = self.proposed(&id)?;
        let receipt = self.receipt(&done, &asked, false).await;
        Ok(v1::RegisterReply { receipt: Some(receipt), act_id, warnings })
    }

    /// The id of an act, if a request made one; else empty.
    pub(super) fn proposed(&self, id: &ActId) -> Result<Bytes, GatewayError> {
        Ok(if self.is_act(id)? { Bytes::copy_from_slice(&id.0) } else { Bytes::new() })
    }

    fn is_act(&self, id: &ActId) -> Result<bool, GatewayError> {
        let found = self.store.database().header(&RowKey::act(id)).map_err(broken)?;
        Ok(found.is_some())
    }
}

/// Whether what is registered is what the caller knows: nothing changes unseen. The same again is no change.
fn may_replace<T: Registrable>(present: Option<&T>, before: Option<&T>, row: &T) -> Result<(), GatewayError> {
    match (present, before) {
        (None, None) => Ok(()),
        (Some(present), None) if present == row => Ok(()),
        (Some(_), None) => Err(GatewayError::Registered { field: T::FIELD }),
        (Some(present), Some(before)) if present == before => Ok(()),
        (Some(_), Some(_)) => Err(GatewayError::Changed),
        (None, Some(_)) => Err(GatewayError::NotFound { what: "the registration to be changed" }),
    }
}

/// What is proposed to a second registrar.
pub struct Proposal {
    /// What kind of act it is.
    pub kind: ActKind,
    /// What it is about: of one kind and object one act is open.
    pub object: String,
    /// What is confirmed.
    pub payload: Vec<u8>,
    /// The field that is too long if the payload is.
    pub field: &'static str,
    /// Revision of the row for which it is proposed.
    pub base: Revision,
    /// From then on it can no longer be confirmed.
    pub expires_ms: u64,
    /// Why.
    pub reason: String,
}

/// Drafts an act.
pub fn propose(attempt: &mut Attempt<'_>, caller: &Caller, id: &ActId, proposal: Proposal) -> Result<(), GatewayError> {
    let Proposal { kind, object, payload, field, base, expires_ms, reason } = proposal;
    let kind = kind.number();
    if payload.len() > ACT_PAYLOAD_BYTES_MAX {
        let why = format!("takes {} bytes, the limit is {ACT_PAYLOAD_BYTES_MAX}", payload.len());
        return Err(GatewayError::invalid(field, why));
    }
    attempt.expect_table(Table::Act);
    let open = open_acts(attempt)?;
    if let Some(act) = open.iter().find(|act| act.kind == kind && act.object == object) {
        let id = ActId::from_slice(&act.id).map_err(|_| GatewayError::Damaged { what: "act" })?;
        return Err(GatewayError::ProposedBefore { act: id.to_hex() });
    }
    if open.len() >= ACTS_OPEN_MAX {
        let why = format!("{ACTS_OPEN_MAX} acts wait for their second registrar, the limit; close some first");
        return Err(GatewayError::invalid("act", why));
    }
    let key = RowKey::act(id);
    if attempt.load::<ActRow>(&key)?.value.is_some() {
        return Err(GatewayError::InUse { field: "request", what: "another registrar's act" });
    }
    let act = ActRow {
        id: Bytes::copy_from_slice(&id.0),
        kind,
        state: ActState::Proposed.number(),
        object,
        payload_sha256: Bytes::copy_from_slice(&Sha256::digest(&payload)),
        payload: payload.into(),
        base_timeline: base.timeline,
        base_index: base.index,
        proposed_by: Some(caller.journalled()),
        proposed_ms: attempt.now_ms,
        expires_ms,
        reason,
        ..ActRow::default()
    };
    attempt.put(&key, Revision::ABSENT, &act);
    Ok(())
}

/// The acts that can still be confirmed. Ids begin with the birth time, so that only as far back is
/// looked as an act can wait.
fn open_acts(attempt: &Attempt<'_>) -> Result<Vec<ActRow>, GatewayError> {
    let now_ms = attempt.now_ms;
    let snapshot = attempt.database.snapshot();
    let prefix = RowKey::whole_table(Table::Act);
    let mut after = Some(RowKey::act(&oldest_open(now_ms)));
    let mut open = Vec::new();
    loop {
        let rows =
            snapshot.scan(&prefix, after.as_ref().map(|key| &key.as_bytes()[..]), ACTS_OPEN_MAX).map_err(broken)?;
        let ended = rows.len() < ACTS_OPEN_MAX;
        for (key, stored) in rows {
            let act: ActRow = attempt.open_scanned(&key, &stored)?;
            if is_open(&act, now_ms) {
                open.push(act);
            }
            after = Some(key);
        }
        if ended {
            return Ok(open);
        }
    }
}

/// Below the id of every act that can be open.
pub fn oldest_open(now_ms: u64) -> ActId {
    // A request may be as old as the cluster remembers requests; an hour, and a day is more than enough.
    let born_ms = now_ms.saturating_sub(ACT_MS_MAX + 24 * 3_600_000 + REQUEST_AHEAD_MS_MAX);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&born_ms.to_be_bytes()[2..]);
    ActId(id)
}

/// Whether an act waits for its second registrar and can still be confirmed.
pub fn is_open(act: &ActRow, now_ms: u64) -> bool {
    act.state == ActState::Proposed.number() && now_ms < act.expires_ms
}
