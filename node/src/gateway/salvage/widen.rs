//! Round 2: enrolments, grants, links and records. What else was done is for people to do again.
//!
//! Invariant: what was ended later, on either timeline, is not offered.

use bytes::Bytes;
use kura_cluster::consent::is_granted;
use kura_cluster::row::{Grant, LinkRow, ParticipationConsent, Table};
use kura_cluster::word::{Action, HistoryKind};
use kura_proto::v1;

use super::super::GatewayError;
use super::super::attempt::Attempt;
use super::super::caller::Salvaged;
use super::super::consent_history::ended_since;
use super::super::participant::Known;
use super::{Disk, Item, Outcome, Salvage, Told, request, tables, told, told_of};

const WAITS: &str = "decided once its participant is enrolled";

impl Salvage {
    /// Offers what does not restrict.
    pub(super) async fn widen(&mut self, item: &Item, disk: &mut impl Disk) -> Result<Told, GatewayError> {
        match item.action {
            Action::Enrol | Action::Grant | Action::Link | Action::Put => {}
            // Uploads under way, the cluster's own doings, and what only counted or showed something.
            Action::Stage | Action::Sweep | Action::CertifyErasure | Action::Recover | Action::Open => {
                return Ok(told(Outcome::Nothing, ""));
            }
            _ if tables(&item.old).all(|table| matches!(table, Table::Emergency | Table::Staging | Table::Block)) => {
                return Ok(told(Outcome::Nothing, ""));
            }
            _ => return Ok(told(Outcome::ByHand, "it may widen what somebody sees: enter it again")),
        }
        let Some(digits) = item.number.clone() else {
            return Ok(told(Outcome::Unreadable, "its participant is not known here: erased, or never enrolled here"));
        };
        let known = self.known(&digits)?;
        if let Some(known) = &known
            && self.is_in_journal(known, &item.old.entry)?
        {
            return Ok(told(Outcome::There, ""));
        }
        if item.action == Action::Enrol {
            return self.enrol(item, digits, known.as_ref()).await;
        }
        let Some(known) = known else {
            return Ok(match self.enrolled.contains(&digits) {
                true => told(Outcome::Applied, WAITS),
                false => told(Outcome::Refused, "its participant is not enrolled here"),
            });
        };
        match item.action {
            Action::Grant => self.grant(item, digits, &known).await,
            Action::Link => self.link(item, digits).await,
            _ => self.bring(item, digits, &known, disk).await,
        }
    }

    /// Why what lets others in again is not offered.
    fn ended(&self, item: &Item, facility: &str, known: Option<&Known>) -> Result<Option<&'static str>, GatewayError> {
        let entry = &item.old.entry;
        let later = |facility: &str| {
            let end = self.ended.get(&(entry.pseudonym.clone(), facility.to_owned()));
            end.is_some_and(|end| *end > item.index)
        };
        if later("") || (!facility.is_empty() && later(facility)) {
            return Ok(Some("ended later on the former timeline"));
        }
        let Some(known) = known else { return Ok(None) };
        let attempt = Attempt::begin(&self.gateway, entry)?;
        let since = ended_since(&attempt, &known.pseudonym, facility, entry.at_ms)?;
        Ok(since.then_some("ended since on the new timeline"))
    }

    async fn enrol(&mut self, item: &Item, participant: String, known: Option<&Known>) -> Result<Told, GatewayError> {
        if let Some(why) = self.ended(item, "", known)? {
            return Ok(told(Outcome::Refused, why));
        }
        let vault = self.gateway.unsealed()?;
        let Some(consent) = item.old.history::<ParticipationConsent>(&vault, HistoryKind::Consent) else {
            return Ok(told(Outcome::Unreadable, "the consent does not open"));
        };
        let ask = v1::EnrolRequest {
            request: request(&item.old.entry),
            participant: participant.clone(),
            consent: Some(v1::SignedConsent {
                signed_day: consent.signed_day,
                proxy: consent.proxy,
                proxy_relation: consent.proxy_relation,
                evidence: consent.evidence,
                own_records: consent.own_records,
                secondary_use: consent.secondary_use,
            }),
            ..v1::EnrolRequest::default()
        };
        let done = match self.caller(item, Salvaged::default()) {
            Ok(caller) => told_of(self.gateway.enrol(&caller, ask).await)?,
            Err(why) => told(Outcome::ByHand, why),
        };
        if done.0 == Outcome::Applied {
            self.enrolled.push(participant);
        }
        Ok(done)
    }

    async fn grant(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if is_granted(&known.row, &entry.object) {
            return Ok(told(Outcome::There, "granted here"));
        }
        if let Some(why) = self.ended(item, &entry.object, Some(known))? {
            return Ok(told(Outcome::Refused, why));
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.history::<Grant>(&vault, HistoryKind::Grant).unwrap_or_default();
        let ask = v1::GrantRequest {
            request: request(entry),
            participant,
            facility: entry.object.clone(),
            evidence: row.evidence,
            ..v1::GrantRequest::default()
        };
        match self.caller(item, Salvaged::default()) {
            Ok(caller) => told_of(self.gateway.grant(&caller, ask).await),
            Err(why) => Ok(told(Outcome::ByHand, why)),
        }
    }

    async fn link(&self, item: &Item, participant: String) -> Result<Told, GatewayError> {
        let vault = self.gateway.unsealed()?;
        let Some(row) = item.old.registry::<LinkRow>(&vault, Table::Link) else {
            return Ok(told(Outcome::Unreadable, "the link does not open"));
        };
        let ask = v1::LinkRequest {
            request: request(&item.old.entry),
            participant,
            local_id: row.local_id,
            ..v1::LinkRequest::default()
        };
        match self.caller(item, Salvaged::default()) {
            Ok(caller) => told_of(self.gateway.link(&caller, ask).await),
            Err(why) => Ok(told(Outcome::ByHand, why)),
        }
    }
}

/// The bytes of a SHA-256 for the wire.
pub(super) fn wire(hash: &[u8]) -> Bytes {
    Bytes::copy_from_slice(hash)
}
