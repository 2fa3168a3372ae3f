//! Round 1 and 3: revocations, withdrawals, hidings, narrowings, holds, askings for an erasure.
//!
//! Invariant: an older restriction does not undo what its participant stated anew on the new timeline; that is told.

use bytes::Bytes;
use kura_cluster::consent::{present_consent, present_grant};
use kura_cluster::id::RecordId;
use kura_cluster::row::{
    Application, ErasureRow, Facility, Grant, ParticipationConsent, RecordControl, RowKey, Table, User,
};
use kura_cluster::word::{Action, HistoryKind, Status};
use kura_proto::v1;

use super::super::GatewayError;
use super::super::attempt::Attempt;
use super::super::caller::Salvaged;
use super::super::participant::Known;
use super::open::{Old, pseudonym_in};
use super::{Item, Outcome, Salvage, Told, request, told, told_of};
use crate::vault::Vault;

/// What a hiding's journal entry says.
const HIDDEN: &str = "hidden";

/// Whether an entry only takes something away.
pub(super) fn restricts(vault: &Vault, action: Action, old: &Old) -> bool {
    let inactive = |status: u32| status != Status::Active.number();
    match action {
        Action::Revoke | Action::Withdraw | Action::Narrow | Action::Hold => true,
        Action::AskErasure | Action::ApproveErasure | Action::StopErasure | Action::Erase => true,
        Action::Hide => old.entry.object == HIDDEN,
        Action::Facility | Action::User | Action::Application => {
            old.registry::<Facility>(vault, Table::Facility).is_some_and(|row| inactive(row.status))
                || old.registry::<User>(vault, Table::User).is_some_and(|row| inactive(row.status))
                || old.registry::<Application>(vault, Table::Application).is_some_and(|row| inactive(row.status))
        }
        _ => false,
    }
}

impl Salvage {
    /// Offers what restricts. In the last round what it restricts has come, or will not.
    pub(super) async fn restrict(&mut self, item: &Item, last: bool) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        match item.action {
            Action::Revoke => {
                self.ended.insert((entry.pseudonym.clone(), entry.object.clone()), item.index);
            }
            Action::Withdraw => {
                self.ended.insert((entry.pseudonym.clone(), String::new()), item.index);
            }
            Action::Hide | Action::Narrow | Action::Hold | Action::AskErasure => {}
            _ => return Ok(told(Outcome::ByHand, "enter it again, first of all")),
        }
        let Some(digits) = item.number.clone() else {
            return Ok(told(Outcome::Unreadable, "its participant is not known here: erased, or never enrolled here"));
        };
        let Some(known) = self.known(&digits)? else {
            return match last {
                true => Ok(told(Outcome::There, "nobody is enrolled under this number here")),
                false => self.remember(item),
            };
        };
        match item.action {
            Action::Revoke => self.revoke(item, digits, &known).await,
            Action::Withdraw => self.withdraw(item, digits, &known).await,
            Action::AskErasure => self.ask_erasure(item, digits, &known).await,
            _ => self.restrict_record(item, digits, &known, last).await,
        }
    }

    async fn revoke(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if present_grant(&known.row, &entry.object).is_none() {
            return Ok(told(Outcome::There, "not granted here"));
        }
        if present_grant(&known.row, &entry.object).is_some_and(|grant| grant.granted_ms > entry.at_ms) {
            return Ok(told(Outcome::Refused, "granted anew on the new timeline"));
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.history::<Grant>(&vault, HistoryKind::Grant).unwrap_or_default();
        let ask = v1::RevokeRequest {
            request: request(entry),
            participant,
            facility: entry.object.clone(),
            evidence: self.evidence(item, &row.revocation_evidence),
            ..v1::RevokeRequest::default()
        };
        match self.caller(item, restricting()) {
            Ok(caller) => told_of(self.gateway.revoke(&caller, ask).await),
            Err(why) => Ok(told(Outcome::ByHand, why)),
        }
    }

    async fn withdraw(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        match present_consent(&known.row) {
            None => return Ok(told(Outcome::There, "they take no part here")),
            Some(consent) if consent.entered_ms > entry.at_ms => {
                return Ok(told(Outcome::Refused, "they took part anew on the new timeline"));
            }
            Some(_) => {}
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.history::<ParticipationConsent>(&vault, HistoryKind::Consent).unwrap_or_default();
        let ask = v1::WithdrawRequest {
            request: request(entry),
            participant,
            evidence: self.evidence(item, &row.withdrawal_evidence),
            ..v1::WithdrawRequest::default()
        };
        match self.caller(item, restricting()) {
            Ok(caller) => told_of(self.gateway.withdraw(&caller, ask).await),
            Err(why) => Ok(told(Outcome::ByHand, why)),
        }
    }

    async fn ask_erasure(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if self.is_in_journal(known, entry)? {
            return Ok(told(Outcome::There, ""));
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.registry::<ErasureRow>(&vault, Table::Erasure).unwrap_or_default();
        let ask = v1::AskErasureRequest {
            request: request(entry),
            participant,
            evidence: self.evidence(item, &row.evidence),
            ..v1::AskErasureRequest::default()
        };
        match self.caller(item, restricting()) {
            Ok(caller) => told_of(self.gateway.ask_erasure(&caller, ask).await),
            Err(why) => Ok(told(Outcome::ByHand, why)),
        }
    }

    /// Hiding, narrowing, holding. A record that is not here may come in round 2: then it comes back restricted.
    async fn restrict_record(
        &mut self,
        item: &Item,
        participant: String,
        known: &Known,
        last: bool,
    ) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        let Ok(record) = RecordId::from_slice(&entry.record_id) else {
            return Ok(told(Outcome::Unreadable, "without a record"));
        };
        let Some(now) = self.control_now(known, &record)? else {
            return match last {
                true => Ok(told(Outcome::Refused, "its record did not come back")),
                false => self.remember(item),
            };
        };
        let then = self.control_then(&Attempt::begin(&self.gateway, entry)?, item)?;
        let Some(then) = then else {
            return Ok(told(Outcome::Unreadable, "what it wrote does not open"));
        };
        let record_id = Bytes::copy_from_slice(&record.0);
        let (request, at_ms) = (request(entry), entry.at_ms);
        let caller = match self.caller(item, restricting()) {
            Ok(caller) => caller,
            Err(why) => return Ok(told(Outcome::ByHand, why)),
        };
        let there = || Ok(told(Outcome::There, ""));
        match item.action {
            Action::Hide if now.hidden => there(),
            Action::Narrow if now.addressees == then.addressees => there(),
            Action::Hold if now.hold => there(),
            Action::Hold if self.is_in_journal(known, entry)? => {
                Ok(told(Outcome::Refused, "released on the new timeline"))
            }
            Action::Hide if self.is_in_journal(known, entry)? => {
                Ok(told(Outcome::Refused, "shown again on the new timeline"))
            }
            // Addressees are only ever narrowed, on either timeline: what is narrower stays.
            Action::Narrow if !now.addressees.is_empty() && now.written_ms > at_ms => {
                Ok(told(Outcome::Refused, "a version of the new timeline has its own addressees"))
            }
            Action::Hide => {
                let reason = entry.reason.clone();
                let ask = v1::HideRequest { request, participant, record_id, hidden: true, reason, actor: None };
                told_of(self.gateway.hide(&caller, ask).await)
            }
            Action::Narrow => {
                let addressees = then.addressees;
                let ask = v1::NarrowRequest { request, participant, record_id, addressees, actor: None };
                told_of(self.gateway.narrow(&caller, ask).await)
            }
            _ => {
                let evidence = self.evidence(item, &entry.reason);
                let ask = v1::HoldRequest { request, participant, record_id, hold: true, evidence };
                told_of(self.gateway.hold(&caller, ask).await)
            }
        }
    }

    /// Remembers how a record was restricted that is not here yet: it comes back so, or not at all.
    fn remember(&mut self, item: &Item) -> Result<Told, GatewayError> {
        if let (Action::Hide | Action::Narrow, Ok(record)) =
            (item.action, RecordId::from_slice(&item.old.entry.record_id))
        {
            let then = self.control_then(&Attempt::begin(&self.gateway, &item.old.entry)?, item)?;
            let Some(then) = then else {
                return Ok(told(Outcome::Unreadable, "what it wrote does not open"));
            };
            let restricted = self.restricted.entry(record).or_default();
            restricted.hidden |= then.hidden;
            restricted.addressees = then.addressees;
        }
        Ok(told(Outcome::Later, ""))
    }

    /// The control row that an entry wrote.
    pub(super) fn control_then(
        &self,
        attempt: &Attempt<'_>,
        item: &Item,
    ) -> Result<Option<RecordControl>, GatewayError> {
        for (key, value) in item.old.puts(Table::RecordControl) {
            // What a record replaces is marked in the same command.
            if !key.as_bytes().ends_with(&item.old.entry.record_id) {
                continue;
            }
            let version = kura_cluster::seal::row::peek_header(value).map(|header| header.key_version);
            let (Some(home), Ok(version)) = (pseudonym_in(&key), version) else { return Ok(None) };
            let Some(data) = self.tail.data_key(attempt, &home, version)? else { return Ok(None) };
            return Ok(item.old.sealed_by(&attempt.vault, (&key, value), &data));
        }
        Ok(None)
    }

    /// The control row of a participant's record, as it is here now.
    pub(super) fn control_now(&self, known: &Known, record: &RecordId) -> Result<Option<RecordControl>, GatewayError> {
        let mut attempt = Attempt::begin(&self.gateway, &Default::default())?;
        let home = attempt.home(known, record)?;
        let key = RowKey::record_control(&home.pseudonym, record);
        Ok(attempt.look_of::<RecordControl>(&key, &home.pseudonym)?.value.map(|row| (*row).clone()))
    }
}

fn restricting() -> Salvaged {
    Salvaged { restricts: true, ..Salvaged::default() }
}
