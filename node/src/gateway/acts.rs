//! Acts that take two registrars: listed, confirmed, rejected. They are proposed by [`super::register`].
//!
//! Invariants
//! - Confirming writes the row in place of the revision for which it was proposed, and closes the act, in
//!   one command: it happens once, or the act is stale.
//! - What is confirmed is what the second registrar was shown, by its SHA-256.

use bytes::Bytes;
use kura_cluster::Revision;
use kura_cluster::consent::{Act, Confirmation, decide};
use kura_cluster::id::ActId;
use kura_cluster::row::{ActRow, ActorRow, Application, DisasterRow, Facility, JournalEntry, ReceiptRow};
use kura_cluster::row::{RowKey, SettingsRow, Table};
use kura_cluster::word::{ActKind, ActState, Action};
use kura_proto::v1;

use super::attempt::{Attempt, broken, damaged};
use super::caller::CallerRows;
use super::consents::bounded;
use super::limits::ACTS_REPLY_BYTES;
use super::list::page;
use super::register::{Registrable, is_open, oldest_open};
use super::rows::Loaded;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError, aliases};

/// Acts read at a time.
const SCAN_ROWS: usize = 64;

impl Gateway {
    /// One page of the acts, oldest first.
    pub async fn list_acts(
        &self,
        caller: &Caller,
        request: v1::ListActsRequest,
    ) -> Result<v1::ListActsReply, GatewayError> {
        let only = match request.act_id.is_empty() {
            true => None,
            false => Some(act_id("act_id", &request.act_id)?),
        };
        let after = match request.after.is_empty() {
            true => None,
            false => Some(act_id("after", &request.after)?),
        };
        let done = self
            .transact(caller, Action::ListActs, None, |attempt| {
                attempt.entry.act_id = request.act_id.clone();
                let rows = CallerRows::load(attempt, caller)?;
                let decision = decide(&rows.facts(attempt.now_ms, Act::ListActs, None, None));
                Ok((Verdict::of(decision, |_| Ok(()))?, ReceiptRow::default()))
            })
            .await?;
        let mut reply = tokio::task::block_in_place(|| match only {
            Some(id) => self.one_act(&id),
            None => self.page_of_acts(&request, after),
        })?;
        reply.journal_position = done.committed.journal_first;
        Ok(reply)
    }

    fn one_act(&self, id: &ActId) -> Result<v1::ListActsReply, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let act = attempt.look::<ActRow>(&RowKey::act(id))?.value.ok_or(GatewayError::NotFound { what: "the act" })?;
        Ok(v1::ListActsReply { acts: vec![told(&attempt, &act)?], ..v1::ListActsReply::default() })
    }

    fn page_of_acts(
        &self,
        request: &v1::ListActsRequest,
        after: Option<ActId>,
    ) -> Result<v1::ListActsReply, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let prefix = RowKey::whole_table(Table::Act);
        let first = if request.closed { None } else { Some(oldest_open(attempt.now_ms)) };
        let mut after = after.max(first).map(|id| RowKey::act(&id));
        let limit = page(request.limit);
        let mut bytes = 0;
        let mut reply = v1::ListActsReply::default();
        loop {
            let from = after.as_ref().map(|key| &key.as_bytes()[..]);
            let rows = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
            let ended = rows.len() < SCAN_ROWS;
            for (key, stored) in rows {
                let act: ActRow = attempt.open_scanned(&key, &stored)?;
                after = Some(key);
                if !request.closed && !is_open(&act, attempt.now_ms) {
                    continue;
                }
                if reply.acts.len() == limit || bytes >= ACTS_REPLY_BYTES {
                    reply.more = true;
                    return Ok(reply);
                }
                let act = told(&attempt, &act)?;
                bytes += act.payload.len() + act.before.len();
                reply.last = act.id.clone();
                reply.acts.push(act);
            }
            if ended {
                return Ok(reply);
            }
        }
    }

    /// Confirms what another registrar proposed: it is done at once.
    pub async fn confirm_act(
        &self,
        caller: &Caller,
        request: v1::ConfirmActRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let id = act_id("act_id", &request.act_id)?;
        if request.payload_sha256.len() != 32 {
            let why = format!("has {} bytes, a SHA-256 has 32", request.payload_sha256.len());
            return Err(GatewayError::invalid("payload_sha256", why));
        }
        let mut restrictive = false;
        let done = self
            .transact(caller, Action::Confirm, Some(&asked), |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let found = load_act(attempt, &id)?;
                let kind = found.value.as_ref().map(|act| ActKind::from_number(act.kind));
                restrictive = matches!(kind, Some(Ok(ActKind::Alias)));
                let confirming = Confirming { caller, rows: &rows, found: &found, sha256: &request.payload_sha256 };
                let verdict = match kind {
                    None => confirming.decide(attempt, Revision::ABSENT, |_| Ok(()))?,
                    Some(Ok(ActKind::Facility)) => confirming.confirm::<Facility>(attempt)?,
                    Some(Ok(ActKind::Application)) => confirming.confirm::<Application>(attempt)?,
                    Some(Ok(ActKind::Settings)) => confirming.confirm::<SettingsRow>(attempt)?,
                    Some(Ok(ActKind::Disaster)) => confirming.confirm::<DisasterRow>(attempt)?,
                    Some(Ok(ActKind::Alias)) => {
                        // It is about a participant, who is not loaded yet.
                        self.check_service(caller, Action::Alias.into())?;
                        confirming.confirm_alias(attempt)?
                    }
                    Some(Err(_)) => return Err(damaged(&RowKey::act(&id))),
                };
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, restrictive).await)
    }

    /// Rejects what was proposed, or takes it back.
    pub async fn reject_act(
        &self,
        caller: &Caller,
        request: v1::RejectActRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let id = act_id("act_id", &request.act_id)?;
        bounded("reason", &request.reason)?;
        let done = self
            .transact(caller, Action::Reject, Some(&asked), |attempt| {
                attempt.entry.reason = request.reason.clone();
                let rows = CallerRows::load(attempt, caller)?;
                let found = load_act(attempt, &id)?;
                let act = Act::Reject { act: found.value.as_deref() };
                let verdict = Verdict::of(decide(&rows.facts(attempt.now_ms, act, None, None)), |_| {
                    close(attempt, caller, &found, ActState::Rejected)
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }
}

fn act_id(field: &'static str, bytes: &[u8]) -> Result<ActId, GatewayError> {
    ActId::from_slice(bytes).map_err(|error| GatewayError::invalid(field, error))
}

fn load_act(attempt: &mut Attempt<'_>, id: &ActId) -> Result<Loaded<ActRow>, GatewayError> {
    attempt.entry.act_id = Bytes::copy_from_slice(&id.0);
    let found = attempt.load::<ActRow>(&RowKey::act(id))?;
    attempt.entry.object = found.value.as_ref().map(|act| act.object.clone()).unwrap_or_default();
    Ok(found)
}

/// A confirmation under way.
pub struct Confirming<'c> {
    /// Who confirms.
    pub caller: &'c Caller,
    /// The caller's side.
    pub rows: &'c CallerRows,
    /// The act.
    pub found: &'c Loaded<ActRow>,
    /// SHA-256 of what the second registrar was shown.
    pub sha256: &'c [u8],
}

impl Confirming<'_> {
    /// As rules look at it, for a row that is at a revision now.
    pub fn confirmation(&self, base: Revision) -> Confirmation<'_> {
        Confirmation { act: self.found.value.as_deref(), base, payload_sha256: self.sha256 }
    }

    fn decide(
        &self,
        attempt: &mut Attempt<'_>,
        base: Revision,
        write: impl FnOnce(&mut Attempt<'_>) -> Result<(), GatewayError>,
    ) -> Result<Verdict<()>, GatewayError> {
        let act = Act::Confirm(self.confirmation(base));
        Verdict::of(decide(&self.rows.facts(attempt.now_ms, act, None, None)), |_| write(attempt))
    }

    fn confirm<T: Registrable>(&self, attempt: &mut Attempt<'_>) -> Result<Verdict<()>, GatewayError> {
        let act = self.found.value.as_deref().ok_or(GatewayError::Damaged { what: "act" })?;
        let row = T::decode(act.payload.clone()).map_err(|_| GatewayError::Damaged { what: "act" })?;
        attempt.entry_facilities.extend(row.facility().map(str::to_owned));
        let key = row.key(attempt);
        let base = attempt.load::<T>(&key)?.revision;
        self.decide(attempt, base, |attempt| {
            // What it names may have gone since it was proposed, and bounds may have become tighter.
            row.check(attempt)?;
            let by = self.caller.journalled();
            attempt.put(&key, base, &row.confirmed(act.proposed_by.as_ref(), &by));
            close(attempt, self.caller, self.found, ActState::Confirmed)
        })
    }
}

/// Closes an act.
pub fn close(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    found: &Loaded<ActRow>,
    state: ActState,
) -> Result<(), GatewayError> {
    let act = found.value.as_deref().ok_or(GatewayError::Damaged { what: "act" })?;
    let id = ActId::from_slice(&act.id).map_err(|_| GatewayError::Damaged { what: "act" })?;
    let closed = ActRow {
        state: state.number(),
        closed_by: Some(caller.journalled()),
        closed_ms: attempt.now_ms,
        ..act.clone()
    };
    attempt.put(&RowKey::act(&id), found.revision, &closed);
    Ok(())
}

/// An act as registrars and auditors see it.
fn told(attempt: &Attempt<'_>, act: &ActRow) -> Result<v1::Act, GatewayError> {
    let proposed = act.state == ActState::Proposed.number();
    let present = match ActKind::from_number(act.kind) {
        _ if !proposed => None,
        Ok(ActKind::Facility) => Some(present::<Facility>(attempt, act)?),
        Ok(ActKind::Application) => Some(present::<Application>(attempt, act)?),
        Ok(ActKind::Settings) => Some(present::<SettingsRow>(attempt, act)?),
        Ok(ActKind::Disaster) => Some(present::<DisasterRow>(attempt, act)?),
        Ok(ActKind::Alias) => Some((aliases::present(attempt, act)?, Bytes::new())),
        Err(_) => return Err(GatewayError::Damaged { what: "act" }),
    };
    let proposed_for = Revision { timeline: act.base_timeline, index: act.base_index };
    let stale = present.as_ref().is_some_and(|(revision, _)| *revision != proposed_for);
    let (participant, duplicate) = match ActKind::from_number(act.kind) {
        Ok(ActKind::Alias) => aliases::numbers(attempt, act)?,
        _ => Default::default(),
    };
    let before = present.filter(|_| !stale).map(|(_, row)| row).unwrap_or_default();
    Ok(v1::Act {
        id: act.id.clone(),
        kind: act.kind,
        state: act.state,
        object: act.object.clone(),
        payload: act.payload.clone(),
        before,
        proposed_by: act.proposed_by.as_ref().map(actor),
        proposed_ms: act.proposed_ms,
        closed_by: act.closed_by.as_ref().map(actor),
        closed_ms: act.closed_ms,
        expires_ms: act.expires_ms,
        reason: act.reason.clone(),
        expired: proposed && attempt.now_ms >= act.expires_ms,
        stale,
        participant,
        duplicate,
    })
}

/// The row that an act would replace, as it is now.
fn present<T: Registrable>(attempt: &Attempt<'_>, act: &ActRow) -> Result<(Revision, Bytes), GatewayError> {
    let row = T::decode(act.payload.clone()).map_err(|_| GatewayError::Damaged { what: "act" })?;
    let found = attempt.look::<T>(&row.key(attempt))?;
    let present = found.value.as_deref().cloned().or_else(T::absent);
    Ok((found.revision, present.map(|row| row.encode_to_vec().into()).unwrap_or_default()))
}

/// An actor of an office as it is told.
pub fn actor(row: &ActorRow) -> v1::Actor {
    v1::Actor {
        kind: row.kind,
        facility: row.facility.clone(),
        name: row.name.clone(),
        method: row.method,
        authenticated_ms: row.authenticated_ms,
        credential_sha256: row.credential_sha256.clone(),
    }
}
