//! Facilities' own ids: linked, linked anew, and looked up both ways.

use bytes::Bytes;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::LocalId;
use kura_cluster::row::{LINK_EVENTS_MAX, LinkEvent, LinkRow, Participant, ReceiptRow, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::word::Action;
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::attempt::{Attempt, broken};
use super::caller::{CallerRows, StatedActor};
use super::consents::{bounded, decide_on};
use super::limits::{FACILITY_LINKS_MAX, LINKS_MAX};
use super::participant::{Known, number};
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// Links a facility's own id to a participant.
    pub async fn link(&self, caller: &Caller, request: v1::LinkRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let local = local_id(&request.local_id)?;
        let done = self
            .transact(caller, Action::Link, Some(&asked), |attempt| {
                decide_on(attempt, caller, &number, Act::Link, |attempt, subject| {
                    let known = subject.known()?;
                    let facility = subject.facility_id();
                    let key = link_key(attempt, facility, &local);
                    let found = attempt.load::<LinkRow>(&key)?;
                    if let Some(row) = &found.value {
                        return match known.is(&row.pseudonym) {
                            true => Ok(()),
                            false => Err(GatewayError::InUse { field: "local_id", what: "another participant" }),
                        };
                    }
                    check_room(attempt, known, facility)?;
                    let row = LinkRow {
                        pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
                        facility: facility.into(),
                        local_id: local.reveal().into(),
                        linked_ms: attempt.now_ms,
                        linked_by_user: user_of(caller),
                        ..LinkRow::default()
                    };
                    put_link(attempt, &key, found.revision, &row, &known.pseudonym);
                    touch(attempt, known);
                    Ok(())
                })
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }

    /// Links a facility's own id to another participant than it names. Whom it named stays recorded, and
    /// both find it in their journals.
    pub async fn relink(&self, caller: &Caller, request: v1::RelinkRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let local = local_id(&request.local_id)?;
        bounded("reason", &request.reason)?;
        let done = self
            .transact(caller, Action::Relink, Some(&asked), |attempt| {
                attempt.entry.reason = request.reason.clone();
                let act = Act::Relink { reason: &request.reason };
                decide_on(attempt, caller, &number, act, |attempt, subject| {
                    relink(attempt, subject.known()?, subject.facility_id(), &local, caller, &request.reason)
                })
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }

    /// Finds the participant behind a facility's own id.
    pub async fn resolve(
        &self,
        caller: &Caller,
        request: v1::ResolveRequest,
    ) -> Result<v1::ResolveReply, GatewayError> {
        let local = local_id(&request.local_id)?;
        let done = self
            .transact(caller, Action::Resolve, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let facility = rows.facility().map(|f| f.id.clone()).unwrap_or_default();
                let key = link_key(attempt, &facility, &local);
                let link = attempt.load::<LinkRow>(&key)?;
                let facts = rows.facts(attempt.now_ms, Act::Resolve, None, None);
                let verdict = Verdict::of(decide(&facts), |_| {
                    let Some(link) = link.value else { return Ok(None) };
                    Ok(attempt.participant_of(&link.pseudonym)?.map(|known| known.row.number.clone()))
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        let participant =
            done.value.flatten().ok_or(GatewayError::NotFound { what: "a participant linked to this id" })?;
        Ok(v1::ResolveReply { participant, journal_position })
    }

    /// The actor's facility's own ids of a participant. Of a number that nobody has, and of one of whom the
    /// facility has no id, there are none.
    pub async fn reverse_resolve(
        &self,
        caller: &Caller,
        request: v1::ReverseResolveRequest,
    ) -> Result<v1::ReverseResolveReply, GatewayError> {
        let number = number(&request.participant)?;
        let done = self
            .transact(caller, Action::ReverseResolve, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let known = attempt.participant(&number)?;
                let participant = known.as_ref().map(|known| &*known.row);
                let facts = rows.facts(attempt.now_ms, Act::ReverseResolve, participant, None);
                let verdict = Verdict::of(decide(&facts), |_| match (&known, rows.facility()) {
                    (Some(known), Some(facility)) => links_of(attempt, known, Some(&facility.id)),
                    _ => Ok(Vec::new()),
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        Ok(v1::ReverseResolveReply { links: done.value.ok_or(GatewayError::Unknown)?, journal_position })
    }
}

fn local_id(text: &str) -> Result<LocalId, GatewayError> {
    LocalId::parse(text).map_err(|error| GatewayError::invalid("local_id", error))
}

fn link_key(attempt: &Attempt<'_>, facility: &str, local: &LocalId) -> RowKey {
    RowKey::hashed(Table::Link, &attempt.hash(Domain::LinkFacilityLocal, &[facility, local.reveal()]))
}

fn reverse_key(attempt: &Attempt<'_>, link: &LinkRow, pseudonym: &Pseudonym) -> RowKey {
    RowKey::link_reverse(pseudonym, &attempt.hash(Domain::LinkReverse, &[&link.facility, &link.local_id]))
}

fn user_of(caller: &Caller) -> String {
    match &caller.actor {
        StatedActor::FacilityUser { user, .. } => user.reveal().into(),
        _ => String::new(),
    }
}

fn put_link(attempt: &mut Attempt<'_>, key: &RowKey, replaces: Revision, row: &LinkRow, to: &Pseudonym) {
    attempt.put(key, replaces, row);
    let reverse = reverse_key(attempt, row, to);
    attempt.put(&reverse, Revision::ABSENT, row);
}

/// Whether a participant can be linked to one more id: no facility fills what is shown of the others'.
///
/// What is counted is expected: every link rewrites the participant.
fn check_room(attempt: &Attempt<'_>, known: &Known, facility: &str) -> Result<(), GatewayError> {
    let links = links_under(attempt, &known.pseudonym)?;
    let own = links.iter().filter(|link| link.facility == facility).count();
    let full = |whose: &str, most: usize| {
        Err(GatewayError::invalid(
            "local_id",
            format!("is one more than {most} of this participant, the limit of {whose}"),
        ))
    };
    if own >= FACILITY_LINKS_MAX {
        return full("a facility", FACILITY_LINKS_MAX);
    }
    if links.len() >= LINKS_MAX { full("all facilities", LINKS_MAX) } else { Ok(()) }
}

fn links_under(attempt: &Attempt<'_>, pseudonym: &Pseudonym) -> Result<Vec<LinkRow>, GatewayError> {
    let prefix = RowKey::links_of(pseudonym);
    let rows = attempt.database.snapshot().scan(&prefix, None, LINKS_MAX).map_err(broken)?;
    rows.iter().map(|(key, stored)| attempt.open_scanned(key, stored)).collect()
}

/// Rewritten unchanged: whoever decides on this participant notices that its ids changed.
fn touch(attempt: &mut Attempt<'_>, known: &Known) {
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &*known.row);
}

fn relink(
    attempt: &mut Attempt<'_>,
    known: &Known,
    facility: &str,
    local: &LocalId,
    caller: &Caller,
    reason: &str,
) -> Result<(), GatewayError> {
    let key = link_key(attempt, facility, local);
    let found = attempt.load::<LinkRow>(&key)?;
    let before = found.value.ok_or(GatewayError::NotFound { what: "a participant linked to this id" })?;
    if known.is(&before.pseudonym) {
        return Ok(());
    }
    if before.former.len() >= LINK_EVENTS_MAX {
        let why = format!("was linked anew {LINK_EVENTS_MAX} times, the limit; use another id");
        return Err(GatewayError::invalid("local_id", why));
    }
    check_room(attempt, known, facility)?;
    let former = Pseudonym::from_slice(&before.pseudonym).map_err(|_| super::attempt::damaged(&key))?;
    let mut row = LinkRow {
        pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
        linked_ms: attempt.now_ms,
        linked_by_user: user_of(caller),
        ..(*before).clone()
    };
    row.former.push(LinkEvent {
        pseudonym: before.pseudonym.clone(),
        linked_ms: before.linked_ms,
        relinked_ms: attempt.now_ms,
        relinked_by_user: user_of(caller),
        reason: reason.into(),
    });
    let stale = reverse_key(attempt, &before, &former);
    attempt.command.delete(&stale);
    put_link(attempt, &key, found.revision, &row, &known.pseudonym);
    touch(attempt, known);
    let formerly = attempt.load::<Participant>(&RowKey::participant(&former))?;
    if let Some(row) = formerly.value {
        attempt.put(&RowKey::participant(&former), formerly.revision, &*row);
    }
    attempt.entry_subjects.push(former);
    Ok(())
}

/// The ids of a participant, also those linked under a former number: a facility's own, or all.
pub fn links_of(
    attempt: &mut Attempt<'_>,
    known: &Known,
    facility: Option<&str>,
) -> Result<Vec<v1::Link>, GatewayError> {
    let mut links = Vec::new();
    for (nth, pseudonym) in known.pseudonyms().into_iter().enumerate() {
        if nth > 0 {
            // What changes its links rewrites it.
            attempt.load::<Participant>(&RowKey::participant(&pseudonym))?;
        }
        for row in links_under(attempt, &pseudonym)? {
            if facility.is_none_or(|facility| row.facility == facility) {
                links.push(told(row));
            }
        }
    }
    Ok(links)
}

fn told(row: LinkRow) -> v1::Link {
    let former = |event: LinkEvent| v1::FormerLink {
        linked_ms: event.linked_ms,
        relinked_ms: event.relinked_ms,
        relinked_by_user: event.relinked_by_user,
        reason: event.reason,
    };
    v1::Link {
        facility: row.facility,
        local_id: row.local_id,
        linked_ms: row.linked_ms,
        linked_by_user: row.linked_by_user,
        former: row.former.into_iter().map(former).collect(),
    }
}
