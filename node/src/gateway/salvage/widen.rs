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
use super::super::caller::Salvaged;
use super::super::participant::Known;
use super::{Disk, Item, Outcome, Salvage, Told, request, tables, told, told_of};

const ENROL: &str = "enrol them again, if they still want it: the application that sent this finds the person by the request id in \
                     its own records (docs/recovery.md, \"Salvage\"); then run the same again for their records";
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
            && self.is_in_journal(known, item)?
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

    /// What somebody ended later is not to be entered again.
    fn grant(&self, item: &Item, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if is_granted(&known.row, &entry.object) {
            return Ok(told(Outcome::There, "granted here"));
        }
        let ends = ["", &entry.object].map(|whose| self.ended.get(&(entry.pseudonym.clone(), whose.to_owned())));
        if ends.into_iter().flatten().any(|end| *end > item.index) {
            return Ok(told(Outcome::Refused, "ended later on the former timeline"));
        }
        let mut is_ended = false;
        self.since(known, item, item.common, &[Action::Revoke, Action::Withdraw], |done| {
            let is_its = done.entry.action == Action::Withdraw.number() || done.entry.object == entry.object;
            is_ended |= done.is_newer && is_its;
        })?;
        Ok(match is_ended {
            true => told(Outcome::Refused, "ended since on the new timeline"),
            false => told(Outcome::ByHand, GRANT),
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
