//! The review queue: what auditors look at afterwards.
//!
//! Invariants
//! - What is queued is queued by the command that does it.
//! - A verdict is given once: it moves the row from the open ones to the closed ones, expecting the open
//!   one as it was shown and no closed one.

use bytes::Bytes;
use kura_cluster::Revision;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::ReviewId;
use kura_cluster::row::{JournalEntry, ReceiptRow, ReviewRow, RowKey};
use kura_cluster::word::{Action, ReviewState, ReviewVerdict};
use kura_proto::v1;

use super::attempt::{Attempt, broken};
use super::caller::CallerRows;
use super::consents::bounded;
use super::list::page;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};
use crate::random;

/// Queues something; the journal entry names it. Answers its id.
pub fn queue(attempt: &mut Attempt<'_>, row: ReviewRow) -> Bytes {
    let id = ReviewId(random::born_id(attempt.now_ms));
    let bytes = Bytes::copy_from_slice(&id.0);
    attempt.entry.act_id = bytes.clone();
    let row = ReviewRow { id: bytes.clone(), state: ReviewState::Open.number(), queued_ms: attempt.now_ms, ..row };
    attempt.put(&RowKey::review(ReviewState::Open, &id), Revision::ABSENT, &row);
    bytes
}

impl Gateway {
    /// One page of the queue, oldest first, or one thing of it.
    pub async fn list_reviews(
        &self,
        caller: &Caller,
        request: v1::ListReviewsRequest,
    ) -> Result<v1::ListReviewsReply, GatewayError> {
        let only = match &request.review_id[..] {
            [] => None,
            id => Some(ReviewId::from_slice(id).map_err(|e| GatewayError::invalid("review_id", e))?),
        };
        if !matches!(request.after.len(), 0 | 16) {
            let why = format!("has {} bytes, a cursor has 16", request.after.len());
            return Err(GatewayError::invalid("after", why));
        }
        let state = if request.closed { ReviewState::Closed } else { ReviewState::Open };
        let done = self
            .transact(caller, Action::ListReviews, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let mut found = None;
                match &only {
                    Some(id) => {
                        attempt.entry.act_id = Bytes::copy_from_slice(&id.0);
                        for state in ReviewState::ALL {
                            let row = attempt.load::<ReviewRow>(&RowKey::review(*state, id))?.value;
                            found = found.or(row);
                        }
                        // Who looks into what is about a participant is seen by that participant.
                        attempt.entry.pseudonym = found.as_ref().map(|r| r.pseudonym.clone()).unwrap_or_default();
                    }
                    None => attempt.entry.object = state.word().into(),
                }
                let decision = decide(&rows.facts(attempt.now_ms, Act::ListReviews, None, None));
                Ok((Verdict::of(decision, |_| Ok(found))?, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        let found = done.value.ok_or(GatewayError::Unknown)?;
        let reply = match (only, found) {
            (Some(_), Some(row)) => v1::ListReviewsReply { reviews: vec![told(&row)], ..Default::default() },
            (Some(_), None) => return Err(GatewayError::NotFound { what: "a review of this id" }),
            (None, _) => tokio::task::block_in_place(|| self.reviews_page(state, &request))?,
        };
        Ok(v1::ListReviewsReply { journal_position, ..reply })
    }

    fn reviews_page(
        &self,
        state: ReviewState,
        request: &v1::ListReviewsRequest,
    ) -> Result<v1::ListReviewsReply, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let prefix = RowKey::reviews(state);
        let after = (!request.after.is_empty()).then(|| [&prefix.as_bytes()[..], &request.after].concat());
        let limit = page(request.limit);
        let rows = attempt.database.snapshot().scan(&prefix, after.as_deref(), limit + 1).map_err(broken)?;
        let mut reply = v1::ListReviewsReply { more: rows.len() > limit, ..Default::default() };
        for (key, stored) in rows.into_iter().take(limit) {
            let row: ReviewRow = attempt.open_scanned(&key, &stored)?;
            reply.last = row.id.clone();
            reply.reviews.push(told(&row));
        }
        Ok(reply)
    }

    /// Gives a verdict.
    pub async fn review(&self, caller: &Caller, request: v1::ReviewRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let id = ReviewId::from_slice(&request.review_id).map_err(|e| GatewayError::invalid("review_id", e))?;
        let verdict = ReviewVerdict::from_number(request.verdict).map_err(|e| GatewayError::invalid("verdict", e))?;
        bounded("note", &request.note)?;
        let done = self
            .transact(caller, Action::Review, Some(&asked), |attempt| {
                attempt.entry.act_id = Bytes::copy_from_slice(&id.0);
                attempt.entry.object = verdict.word().into();
                attempt.entry.reason.clone_from(&request.note);
                let rows = CallerRows::load(attempt, caller)?;
                let open_key = RowKey::review(ReviewState::Open, &id);
                let open = attempt.load::<ReviewRow>(&open_key)?.value;
                if let Some(row) = &open {
                    attempt.entry.pseudonym = row.pseudonym.clone();
                    attempt.entry_facilities.extend(row.actor.as_ref().map(|actor| actor.facility.clone()));
                }
                let decision = decide(&rows.facts(attempt.now_ms, Act::Review { review: open.as_deref() }, None, None));
                let verdict = Verdict::of(decision, |_| {
                    let open = open.ok_or(GatewayError::Damaged { what: "review" })?;
                    let closed = ReviewRow {
                        state: ReviewState::Closed.number(),
                        reviewer: Some(caller.journalled()),
                        reviewed_ms: attempt.now_ms,
                        verdict: verdict.number(),
                        note: request.note.clone(),
                        ..(*open).clone()
                    };
                    let closed_key = RowKey::review(ReviewState::Closed, &id);
                    let before = attempt.load::<ReviewRow>(&closed_key)?.revision;
                    attempt.put(&closed_key, before, &closed);
                    attempt.command.delete(&open_key);
                    Ok(())
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }
}

fn told(row: &ReviewRow) -> v1::ReviewItem {
    let actor = row.actor.clone().unwrap_or_default();
    v1::ReviewItem {
        review_id: row.id.clone(),
        kind: row.kind,
        state: row.state,
        queued_ms: row.queued_ms,
        participant: row.number.clone(),
        application: actor.application,
        actor: Some(v1::Actor {
            kind: actor.kind,
            facility: actor.facility,
            name: actor.name,
            method: actor.method,
            authenticated_ms: actor.authenticated_ms,
            credential_sha256: actor.credential_sha256,
        }),
        reason: row.reason.clone(),
        episode_id: row.episode_id.clone(),
        facility: row.facility.clone(),
        reviewer: row.reviewer.as_ref().map(|reviewer| reviewer.name.clone()).unwrap_or_default(),
        reviewed_ms: row.reviewed_ms,
        verdict: row.verdict,
        note: row.note.clone(),
        duplicate: row.duplicate.clone(),
    }
}
