//! The review queue: emergencies, and grants that a facility entered for itself, for auditors to look at.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{Client, Shared, audit};
use crate::error::{Family, ListError, ReviewError, WriteFamily};
use crate::fault::Failure;
use crate::id::{EmergencyId, ParticipantNumber, RequestId, ReviewId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::list::next_page;
use crate::pages::Listing;
use crate::receipt::Receipt;
use crate::word::{ActorKind, ReviewKind, ReviewVerdict};

/// Something in the review queue.
#[derive(Clone, PartialEq, Eq)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// What it is.
    pub kind: ReviewKind,
    /// When it was queued, in milliseconds since 1970-01-01 UTC.
    pub queued_ms: u64,
    /// Whom it concerns.
    pub participant: ParticipantNumber,
    /// What kind of actor did it.
    pub actor_kind: ActorKind,
    /// The actor's facility.
    pub facility: String,
    /// The actor.
    pub actor: String,
    /// The application that stated the actor.
    pub application: String,
    /// The reason or the evidence that was given.
    pub reason: String,
    /// The emergency, if it is one.
    pub emergency: Option<EmergencyId>,
    /// The facility that was granted; empty for an emergency and an alias.
    pub granted: String,
    /// The number that became an alias of the participant's, if that is what it is about.
    pub duplicate: Option<ParticipantNumber>,
    /// The verdict, if one was given.
    pub verdict: Option<Verdict>,
}

/// What an auditor found.
#[derive(Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The auditor.
    pub by: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// Whether it was in order.
    pub verdict: ReviewVerdict,
    /// The auditor's note.
    pub note: String,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.as_ref().map(|verdict| verdict.verdict);
        f.debug_struct("Review").field("kind", &self.kind).field("verdict", &verdict).finish_non_exhaustive()
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

impl Review {
    pub(crate) fn from_wire(wire: v1::ReviewItem) -> Result<Self, Failure> {
        let unknown = |error: crate::word::UnknownWord| Failure::broken(error.to_string());
        let actor = wire.actor.ok_or_else(|| Failure::broken("a review without an actor"))?;
        Ok(Self {
            id: ReviewId::from_wire(&wire.review_id).ok_or_else(|| Failure::broken("a malformed review id"))?,
            kind: ReviewKind::from_number(wire.kind).map_err(unknown)?,
            queued_ms: wire.queued_ms,
            participant: wire.participant.parse().map_err(|_| Failure::broken("a malformed participant number"))?,
            actor_kind: ActorKind::from_number(actor.kind).map_err(unknown)?,
            facility: actor.facility,
            actor: actor.name,
            application: wire.application,
            reason: wire.reason,
            emergency: EmergencyId::from_wire(&wire.episode_id),
            granted: wire.facility,
            duplicate: match &wire.duplicate[..] {
                "" => None,
                number => Some(number.parse().map_err(|_| Failure::broken("a malformed participant number"))?),
            },
            verdict: match wire.verdict {
                0 => None,
                number => Some(Verdict {
                    by: wire.reviewer,
                    at_ms: wire.reviewed_ms,
                    verdict: ReviewVerdict::from_number(number).map_err(unknown)?,
                    note: wire.note,
                }),
            },
        })
    }
}

/// The review queue. Made by [`Client::reviews`] of a client with an auditor's certificate.
#[derive(Clone)]
pub struct Reviews {
    shared: Arc<Shared>,
}

impl Client {
    /// The review queue; needs an auditor's certificate.
    ///
    /// ```no_run
    /// # async fn example(kura: kura_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use kura_client::ReviewVerdict;
    ///
    /// let mut open = kura.reviews().open();
    /// while let Some(review) = open.next().await {
    ///     let review = review?;
    ///     println!("{}: {} by {}: {}", review.id, review.kind, review.facility, review.reason);
    ///     kura.reviews().close(review.id, ReviewVerdict::Justified).note("as the ambulance says").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reviews(&self) -> Reviews {
        Reviews { shared: Arc::clone(&self.shared) }
    }
}

impl Reviews {
    /// What waits for a verdict, oldest first. Each page is journalled.
    pub fn open(&self) -> Listing<Review, ListError> {
        self.list(false)
    }

    /// What has a verdict, oldest first. Each page is journalled.
    pub fn closed(&self) -> Listing<Review, ListError> {
        self.list(true)
    }

    fn list(&self, closed: bool) -> Listing<Review, ListError> {
        let shared = Arc::clone(&self.shared);
        Listing::paged(Bytes::new(), move |after| {
            let shared = Arc::clone(&shared);
            async move {
                let ask = v1::ListReviewsRequest { closed, after, limit: PAGE_ITEMS_MAX, ..Default::default() };
                let attempt = |channel| {
                    let ask = ask.clone();
                    async move {
                        let reply = audit(channel).list_reviews(ask).await?.into_inner();
                        let next = reply.more.then_some(reply.last);
                        let items = reply.reviews.into_iter().map(Review::from_wire).collect::<Result<_, _>>()?;
                        next_page(items, next)
                    }
                };
                shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
            }
        })
    }

    /// One of them, with or without a verdict. That it was looked at shows in the participant's list.
    ///
    /// # Errors
    /// [`ListError`]; [`ListError::NotFound`] if there is none of this id.
    pub async fn find(&self, review: ReviewId) -> Result<Review, ListError> {
        let ask = v1::ListReviewsRequest { review_id: review.to_wire(), ..Default::default() };
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let mut reply = audit(channel).list_reviews(ask).await?.into_inner();
                Review::from_wire(reply.reviews.pop().ok_or_else(|| Failure::broken("a review that is none"))?)
            }
        };
        self.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
    }

    /// Gives a verdict, once: a second one is denied with the reason `review-state`.
    pub fn close(&self, review: ReviewId, verdict: ReviewVerdict) -> CloseReview {
        let (shared, request) = (Arc::clone(&self.shared), RequestId::new());
        CloseReview { shared, review, verdict, note: String::new(), request }
    }
}

/// A verdict to be given, made by [`Reviews::close`]; `.await` gives it.
#[must_use = "nothing is changed until it is awaited"]
pub struct CloseReview {
    shared: Arc<Shared>,
    review: ReviewId,
    verdict: ReviewVerdict,
    note: String,
    request: RequestId,
}

impl CloseReview {
    /// A note for auditors, at most 512 bytes. The participant sees the verdict, not the note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Repeats an earlier request.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    async fn run(self) -> Result<Receipt, ReviewError> {
        limit::text("note", &self.note).map_err(ReviewError::from_invalid)?;
        let (shared, request) = (&self.shared, self.request);
        let ask = v1::ReviewRequest {
            request: request.wire(),
            review_id: self.review.to_wire(),
            verdict: self.verdict.number(),
            note: self.note,
        };
        let attempt = |channel| {
            let ask = ask.clone();
            async move { shared.receipt(audit(channel).review(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| ReviewError::from_failed(failed, request))
    }
}

impl IntoFuture for CloseReview {
    type Output = Result<Receipt, ReviewError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
