//! Grants that a facility's user enters for the user's own facility: counted within a window, marked, and
//! queued for review.

use bytes::Bytes;
use kura_cluster::consent::{Settings, count_after};
use kura_cluster::id::FacilityId;
use kura_cluster::row::{CounterRow, ReviewRow, RowKey};
use kura_cluster::seal::Domain;
use kura_cluster::word::ReviewKind;

use super::attempt::Attempt;
use super::participant::Known;
use super::rows::Loaded;
use super::{Caller, GatewayError, reviews};

/// The counter of a facility that is about to be named by its own user.
pub struct OwnGrants {
    key: RowKey,
    counter: Loaded<CounterRow>,
}

impl OwnGrants {
    /// Loads the counter and expects it, if the facility named is the actor's own.
    pub fn load(
        attempt: &mut Attempt<'_>,
        caller: &Caller,
        named: &FacilityId,
    ) -> Result<Option<OwnGrants>, GatewayError> {
        if caller.facility() != Some(named) {
            return Ok(None);
        }
        let key = RowKey::counter(&attempt.hash(Domain::OwnGrants, &[named.reveal()]));
        let counter = attempt.load(&key)?;
        Ok(Some(OwnGrants { key, counter }))
    }

    /// What rules look at.
    pub fn counter(&self) -> Option<&CounterRow> {
        self.counter.value.as_deref()
    }

    /// Counts one more and queues it for review. Answers the id of the review.
    pub fn enter(
        &self,
        attempt: &mut Attempt<'_>,
        caller: &Caller,
        settings: &Settings,
        known: &Known,
        evidence: &str,
    ) -> Bytes {
        let after = count_after(self.counter(), settings.own_grants_window_ms, attempt.now_ms);
        attempt.put(&self.key, self.counter.revision, &after);
        let actor = caller.journalled();
        let review = ReviewRow {
            kind: ReviewKind::OwnGrant.number(),
            pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
            number: known.row.number.clone(),
            facility: actor.facility.clone(),
            actor: Some(actor),
            reason: evidence.into(),
            ..ReviewRow::default()
        };
        reviews::queue(attempt, review)
    }
}
