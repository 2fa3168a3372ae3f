//! Round 1 and 3: revocations, withdrawals, hidings, narrowings, holds, askings for an erasure. Whom a version was for is
//! a narrowing, too; its body comes in round 2, or does not.
//!
//! Invariants
//! - They are applied on the office of whoever salvages, whatever became of who asked for them, and of their right to:
//!   somebody who has left wanted it no less. The journal names both.
//! - An older restriction does not undo what its participant or author stated later; that is told.
//! - What its application sent again under another id is restricted as the record that is not here would be.

use bytes::Bytes;
use kura_cluster::consent::{present_consent, present_grant};
use kura_cluster::id::RecordId;
use kura_cluster::row::{
    Application, ErasureRow, Facility, Grant, JournalEntry, ParticipationConsent, RecordControl, RowKey, Table, User,
};
use kura_cluster::word::{Action, HistoryKind, Status};
use kura_proto::v1;

use super::super::GatewayError;
use super::super::attempt::Attempt;
use super::super::participant::Known;
use super::open::{Old, pseudonym_in};
use super::{Item, Outcome, Salvage, Told, request, told, told_of};
use crate::vault::Vault;

/// Of a row of the old log.
const UNOPENED: &str = "what it wrote does not open";

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
        let known = self.known(&digits)?;
        match (item.action, known) {
            (Action::Revoke, Some(known)) => self.revoke(item, digits, &known).await,
            (Action::Withdraw, Some(known)) => self.withdraw(item, digits, &known).await,
            (Action::AskErasure, Some(known)) => self.ask_erasure(item, digits, &known).await,
            (_, Some(known)) => self.restrict_record(item, digits, &known, last).await,
            (_, None) if last => Ok(told(Outcome::There, "nobody is enrolled under this number here")),
            (Action::Hide | Action::Narrow, None) => match self.wish(item)? {
                Some(wish) => Ok(self.remember(item, wish)),
                None => Ok(told(Outcome::Unreadable, UNOPENED)),
            },
            _ => Ok(told(Outcome::Later, "")),
        }
    }

    /// What a version narrows its record to: at least one. None: it is no version for fewer, or it does not open.
    pub(super) fn narrowing(&self, item: &Item) -> Result<Option<Vec<String>>, GatewayError> {
        let entry = &item.old.entry;
        if item.action != Action::Put || entry.version < 2 {
            return Ok(None);
        }
        let then = self.control_then(&Attempt::begin(&self.gateway, entry)?, item)?;
        let then = then.filter(|then| then.version == entry.version && !then.addressees.is_empty());
        Ok(then.map(|then| then.addressees))
    }

    /// Offers whom a version was for, whatever becomes of its body: its author wanted the record to be seen by no others.
    pub(super) async fn restrict_version(&mut self, item: &Item, last: bool) -> Result<Told, GatewayError> {
        let later = told(Outcome::Later, "");
        let Some(digits) = item.number.clone() else { return Ok(later) };
        match self.known(&digits)? {
            Some(known) => self.restrict_record(item, digits, &known, last).await,
            None => Ok(self.wish(item)?.map_or(later, |wish| self.remember(item, wish))),
        }
    }

    /// Whether a restriction was in force here and was undone, or something else is the later will. `record` is empty if
    /// it is about none.
    fn is_overtaken(
        &self,
        known: &Known,
        item: &Item,
        record: &[u8],
        (later, is): (Action, impl Fn(&JournalEntry) -> bool),
    ) -> Result<bool, GatewayError> {
        let mut found = false;
        // From the beginning: what is in this journal is no news, and may have been undone since by anybody who might. Whoever
        // offers it says that it is of another disk; nothing but this tells.
        self.since(known, item, 0, &[item.action, later], |done| {
            let of_record = done.entry.record_id == record;
            found |= of_record && item.is(done.entry);
            found |= of_record && done.is_newer && done.entry.action == later.number() && is(done.entry);
        })?;
        Ok(found)
    }

    async fn revoke(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if present_grant(&known.row, &entry.object).is_none() {
            return Ok(told(Outcome::There, "not granted here"));
        }
        if self.is_overtaken(known, item, &[], (Action::Grant, |later| later.object == entry.object))? {
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
        told_of(self.gateway.revoke(&self.in_office(item), ask).await)
    }

    async fn withdraw(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if present_consent(&known.row).is_none() {
            return Ok(told(Outcome::There, "they take no part here"));
        }
        if self.is_overtaken(known, item, &[], (Action::Enrol, |_| true))? {
            return Ok(told(Outcome::Refused, "they took part anew on the new timeline"));
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.history::<ParticipationConsent>(&vault, HistoryKind::Consent).unwrap_or_default();
        let ask = v1::WithdrawRequest {
            request: request(entry),
            participant,
            evidence: self.evidence(item, &row.withdrawal_evidence),
            ..v1::WithdrawRequest::default()
        };
        told_of(self.gateway.withdraw(&self.in_office(item), ask).await)
    }

    async fn ask_erasure(&self, item: &Item, participant: String, known: &Known) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        if self.is_in_journal(known, item)? {
            return Ok(told(Outcome::There, ""));
        }
        if self.is_overtaken(known, item, &[], (Action::StopErasure, |_| true))? {
            return Ok(told(Outcome::Refused, "stopped on the new timeline"));
        }
        let vault = self.gateway.unsealed()?;
        let row = item.old.registry::<ErasureRow>(&vault, Table::Erasure).unwrap_or_default();
        let ask = v1::AskErasureRequest {
            request: request(entry),
            participant,
            evidence: self.evidence(item, &row.evidence),
            ..v1::AskErasureRequest::default()
        };
        told_of(self.gateway.ask_erasure(&self.in_office(item), ask).await)
    }

    /// Hiding, narrowing, holding. A record that is not here may come in round 2: then it comes back restricted. Or it
    /// was sent again.
    async fn restrict_record(
        &mut self,
        item: &Item,
        participant: String,
        known: &Known,
        last: bool,
    ) -> Result<Told, GatewayError> {
        let Ok(record) = RecordId::from_slice(&item.old.entry.record_id) else {
            return Ok(told(Outcome::Unreadable, "without a record"));
        };
        let Some(wish) = self.wish(item)? else {
            return Ok(told(Outcome::Unreadable, UNOPENED));
        };
        let (is_here, copies) = (self.control_now(known, &record)?.is_some(), self.copies(item, known, &record)?);
        if !is_here && !last && copies.sure.is_empty() {
            return Ok(self.remember(item, wish));
        }
        let targets = is_here.then_some((record, false)).into_iter();
        let mut done = None;
        for target in targets.chain(copies.sure.into_iter().map(|copy| (copy, true))) {
            let one = self.restrict_one(item, participant.clone(), known, &wish, target).await?;
            // What is not in force is told first, then what was done.
            let rank =
                |told: &Told| [Outcome::There, Outcome::Applied, Outcome::Refused].iter().position(|o| *o == told.0);
            if done.as_ref().is_none_or(|before| rank(before) < rank(&one)) {
                done = Some(one);
            }
        }
        let mut open = Vec::new();
        for (copy, position) in &copies.unsure {
            if self.control_now(known, copy)?.is_some_and(|now| !wish.is_fulfilled(&now)) {
                open.push(position.to_string());
            }
        }
        Ok(match done {
            _ if !open.is_empty() => (Outcome::ByHand, wish.by_hand(&open.join(", "))),
            Some(done) => done,
            None if self.brought.contains_key(&record) => told(Outcome::Applied, "its record comes back so"),
            None if copies.unsure.is_empty() => told(Outcome::Refused, "its record did not come back"),
            None => told(Outcome::There, "what has the same content is so already"),
        })
    }

    /// Restricts a record that is here, or a copy of one that is not.
    async fn restrict_one(
        &self,
        item: &Item,
        participant: String,
        known: &Known,
        wish: &Wish,
        (record, is_copy): (RecordId, bool),
    ) -> Result<Told, GatewayError> {
        let entry = &item.old.entry;
        let Some(now) = self.control_now(known, &record)? else {
            return Ok(told(Outcome::Refused, "its record is not here any more"));
        };
        if wish.is_fulfilled(&now) {
            return Ok(told(Outcome::There, ""));
        }
        let record_id = Bytes::copy_from_slice(&record.0);
        let is_overtaken = match wish {
            Wish::Hidden => self.is_overtaken(known, item, &record.0, (Action::Unhide, |_| true))?,
            Wish::Held => self.is_overtaken(known, item, &record.0, (Action::Release, |_| true))?,
            // A copy repeats whom the first was addressed to before it was narrowed.
            Wish::Addressees(_) if is_copy || now.addressees.is_empty() => false,
            Wish::Addressees(_) => self.is_overtaken(known, item, &record.0, (Action::Put, |_| true))?,
        };
        if is_overtaken {
            return Ok(told(Outcome::Refused, wish.overtaken()));
        }
        let (caller, request) = (self.in_office(item), request(entry));
        let answer = match wish {
            Wish::Hidden => {
                let reason = entry.reason.clone();
                let ask = v1::HideRequest { request, participant, record_id, hidden: true, reason, actor: None };
                self.gateway.hide(&caller, ask).await
            }
            Wish::Addressees(then) => {
                let addressees = narrowed(&now, then);
                let ask = v1::NarrowRequest { request, participant, record_id, addressees, actor: None };
                self.gateway.narrow(&caller, ask).await
            }
            Wish::Held => {
                let evidence = self.evidence(item, &entry.reason);
                let ask = v1::HoldRequest { request, participant, record_id, hold: true, evidence };
                self.gateway.hold(&caller, ask).await
            }
        };
        let (outcome, why) = told_of(answer)?;
        let why = if is_copy && why.is_empty() { "to what was sent again under another id".into() } else { why };
        Ok((outcome, why))
    }

    /// What an entry wanted of a record; none: what it wrote does not open.
    fn wish(&self, item: &Item) -> Result<Option<Wish>, GatewayError> {
        Ok(match item.action {
            Action::Hide => Some(Wish::Hidden),
            Action::Narrow => {
                let then = self.control_then(&Attempt::begin(&self.gateway, &item.old.entry)?, item)?;
                // Nobody narrows to everybody: that is the row of something else.
                then.filter(|then| !then.addressees.is_empty()).map(|then| Wish::Addressees(then.addressees))
            }
            Action::Put => self.narrowing(item)?.map(Wish::Addressees),
            _ => Some(Wish::Held),
        })
    }

    /// Remembers how a record was restricted that is not here yet: it comes back so, or not at all.
    fn remember(&mut self, item: &Item, wish: Wish) -> Told {
        if let Ok(record) = RecordId::from_slice(&item.old.entry.record_id) {
            let restricted = self.restricted.entry(record).or_default();
            match wish {
                Wish::Hidden => restricted.hidden = true,
                Wish::Addressees(then) => restricted.addressees = then,
                // It does not change who sees it, and comes in the last round.
                Wish::Held => {}
            }
        }
        told(Outcome::Later, "")
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

/// What is said of a version for fewer, by what became of its body and of whom it was for.
pub(super) fn of_version(body: Told, narrowed: Told) -> Told {
    match (body.0, narrowed.0) {
        (_, Outcome::ByHand) | (Outcome::Applied | Outcome::There, Outcome::Refused) => narrowed,
        (Outcome::Refused | Outcome::Unreadable | Outcome::ByHand, Outcome::Applied | Outcome::There) => {
            (body.0, format!("{}; its record is for no more than it was for", body.1))
        }
        _ => body,
    }
}

/// What is wanted of a record.
enum Wish {
    Hidden,
    /// For these alone; at least one.
    Addressees(Vec<String>),
    Held,
}

impl Wish {
    fn is_fulfilled(&self, now: &RecordControl) -> bool {
        match self {
            Wish::Hidden => now.hidden,
            Wish::Addressees(then) => narrowed(now, then) == now.addressees,
            Wish::Held => now.hold,
        }
    }

    fn overtaken(&self) -> &'static str {
        match self {
            Wish::Hidden => "shown again on the new timeline",
            Wish::Addressees(_) => "a version of the new timeline has its own addressees",
            Wish::Held => "released on the new timeline",
        }
    }

    /// What people do about records with the same content, which were written at these positions of the journal.
    fn by_hand(&self, positions: &str) -> String {
        let command = match self {
            Wish::Hidden => "kura record hide - RECORD --reason WHY --as FACILITY/USER",
            Wish::Addressees(_) => "kura record narrow - RECORD --to FACILITY --as FACILITY/USER",
            Wish::Held => "kura record hold - RECORD --evidence WHAT --client REGISTRAR",
        };
        format!(
            "the same content was sent again under another id, at position {positions} of the journal: an auditor finds \
             RECORD there (kura audit list --all --action put --json), and if it is the same: {command}"
        )
    }
}

/// Whom a record is addressed to once it is narrowed as it was then: nobody whom either leaves out. If that is nobody,
/// its author, who sees it anyway.
fn narrowed(now: &RecordControl, then: &[String]) -> Vec<String> {
    if now.addressees.is_empty() {
        return then.to_vec();
    }
    let kept: Vec<String> = now.addressees.iter().filter(|one| then.contains(one)).cloned().collect();
    if kept.is_empty() { vec![now.author_facility.clone()] } else { kept }
}
