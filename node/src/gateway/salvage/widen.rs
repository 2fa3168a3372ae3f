//! Round 2: links and records. What else was done is for people to do again, enrolments and grants above all: a
//! withdrawal or a revocation may be on another disk, in a part that is damaged, or have been said on the new timeline
//! when there was nothing to end. Once people have entered them, records come with the next run.
//!
//! Invariant: nobody is let in.

use bytes::Bytes;
use kura_cluster::consent::is_granted;
use kura_cluster::row::{LinkRow, Table};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::super::GatewayError;
use super::super::attempt::Attempt;
use super::super::caller::Salvaged;
use super::super::consent_history::ended_since;
use super::super::participant::Known;
use super::{Disk, Item, Outcome, Salvage, Told, request, tables, told, told_of};

const ENROL: &str = "enrol them again, if they still want it, and run the same again for their records";
const GRANT: &str =
    "name the facility again, if the participant still wants it, and run the same again for its records";

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
            return Ok(match known {
                Some(_) => told(Outcome::There, "enrolled here"),
                None => told(Outcome::ByHand, ENROL),
            });
        }
        let Some(known) = known else {
            return Ok(told(
                Outcome::Refused,
                "its participant is not enrolled here: enrol them, and run the same again",
            ));
        };
        match item.action {
            Action::Grant => self.grant(item, &known),
            Action::Link => self.link(item, digits).await,
            _ => self.bring(item, digits, &known, disk).await,
        }
    }

    /// Why what let others in is over.
    fn ended(&self, item: &Item, facility: &str, known: &Known) -> Result<Option<&'static str>, GatewayError> {
        let entry = &item.old.entry;
        let later = |facility: &str| {
            let end = self.ended.get(&(entry.pseudonym.clone(), facility.to_owned()));
            end.is_some_and(|end| *end > item.index)
        };
        if later("") || (!facility.is_empty() && later(facility)) {
            return Ok(Some("ended later on the former timeline"));
        }
        let attempt = Attempt::begin(&self.gateway, entry)?;
        let since = ended_since(&attempt, &known.pseudonym, facility, entry.at_ms)?;
        Ok(since.then_some("ended since on the new timeline"))
    }

    fn grant(&self, item: &Item, known: &Known) -> Result<Told, GatewayError> {
        let facility = &item.old.entry.object;
        if is_granted(&known.row, facility) {
            return Ok(told(Outcome::There, "granted here"));
        }
        Ok(match self.ended(item, facility, known)? {
            Some(why) => told(Outcome::Refused, why),
            None => told(Outcome::ByHand, GRANT),
        })
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
