//! Grants that a facility's users enter: those by which the facility gains, and those for people whom it does not
//! know at first hand, are counted within a window, and queued for review.
//!
//! Invariant: which grants these are, [`review_of_grant`] says alone, here as in the decision.

use bytes::Bytes;
use kura_cluster::consent::{Settings, count_after, review_of_grant, reviews_of_standing};
use kura_cluster::id::{FacilityId, ReviewId};
use kura_cluster::row::{CounterRow, ReviewRow, RowKey};
use kura_cluster::seal::Domain;
use kura_cluster::word::{ReviewKind, ReviewState, ReviewVerdict};

use super::attempt::Attempt;
use super::participant::Known;
use super::rows::Loaded;
use super::{Caller, GatewayError, reviews};

/// The counters of a facility whose user is about to name a facility.
pub struct EnteredGrants {
    facility: String,
    named: String,
    own_key: RowKey,
    own: Loaded<CounterRow>,
    /// What is entered for another facility, and what that one entered for this one.
    mutual: Option<(RowKey, Loaded<CounterRow>, Loaded<CounterRow>)>,
    reviewed: bool,
}

impl EnteredGrants {
    /// Loads the counters and expects them, if a facility's user acts.
    pub fn load(
        attempt: &mut Attempt<'_>,
        caller: &Caller,
        named: &FacilityId,
        known: Option<&Known>,
    ) -> Result<Option<EnteredGrants>, GatewayError> {
        let Some(facility) = caller.facility() else { return Ok(None) };
        let (facility, named) = (facility.reveal().to_owned(), named.reveal().to_owned());
        let own_key = RowKey::counter(&attempt.hash(Domain::OwnGrants, &[&facility]));
        let own = attempt.load(&own_key)?;
        let mut mutual = None;
        if facility != named {
            let made_key = RowKey::counter(&attempt.hash(Domain::GrantsFor, &[&facility, &named]));
            let returned_key = RowKey::counter(&attempt.hash(Domain::GrantsFor, &[&named, &facility]));
            let made = attempt.load(&made_key)?;
            mutual = Some((made_key, made, attempt.load(&returned_key)?));
        }
        let reviewed = is_reviewed(attempt, &facility, known)?;
        Ok(Some(EnteredGrants { facility, named, own_key, own, mutual, reviewed }))
    }

    /// What was counted of the facility.
    pub fn own(&self) -> Option<&CounterRow> {
        self.own.value.as_deref()
    }

    /// What the facility that is named entered for this one.
    pub fn returned(&self) -> Option<&CounterRow> {
        self.mutual.as_ref().and_then(|(.., returned)| returned.value.as_deref())
    }

    /// Whether that by which the facility knows the participant was found in order.
    pub fn reviewed(&self) -> bool {
        self.reviewed
    }

    /// Counts one more, and queues it if it is to be looked at. Answers why it is, and the id of the review.
    pub fn enter(
        &self,
        attempt: &mut Attempt<'_>,
        caller: &Caller,
        settings: &Settings,
        known: &Known,
        evidence: &str,
    ) -> Option<(ReviewKind, Bytes)> {
        let (window_ms, now_ms) = (settings.own_grants_window_ms, attempt.now_ms);
        if let Some((key, made, _)) = &self.mutual {
            attempt.put(key, made.revision, &count_after(made.value.as_deref(), window_ms, now_ms));
        }
        let kind = review_of_grant(
            &known.row,
            (&self.facility, &self.named),
            self.returned(),
            self.reviewed,
            settings,
            now_ms,
        )?;
        attempt.put(&self.own_key, self.own.revision, &count_after(self.own(), window_ms, now_ms));
        let review = ReviewRow {
            kind: kind.number(),
            pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
            number: known.row.number.clone(),
            facility: self.named.clone(),
            actor: Some(caller.journalled()),
            reason: evidence.into(),
            ..ReviewRow::default()
        };
        Some((kind, reviews::queue(attempt, review)))
    }
}

/// Whether auditors found in order that by which a facility knows a participant. Each verdict, given or not, is expected.
fn is_reviewed(attempt: &mut Attempt<'_>, facility: &str, known: Option<&Known>) -> Result<bool, GatewayError> {
    let mut reviewed = false;
    for id in known.into_iter().flat_map(|known| reviews_of_standing(facility, &known.row)) {
        let id = ReviewId::from_slice(id).map_err(|_| GatewayError::Damaged { what: "participant" })?;
        let closed = attempt.load::<ReviewRow>(&RowKey::review(ReviewState::Closed, &id))?.value;
        reviewed |= closed.is_some_and(|row| row.verdict == ReviewVerdict::Justified.number());
    }
    Ok(reviewed)
}
