//! Participants' cards: issued, replaced, looked up. A serial is apart from the number and given once.

use bytes::Bytes;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::CardSerial;
use kura_cluster::row::{CardRow, ErasedNumberRow, Participant, ReceiptRow, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::word::Action;
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::CallerRows;
use super::consents::{bounded, decide_on};
use super::limits::CARDS_MAX;
use super::participant::{Known, number};
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// Issues a card, or one in the place of another: the former tells nothing from then on.
    pub async fn issue_card(
        &self,
        caller: &Caller,
        request: v1::IssueCardRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let serial = serial(&request.serial)?;
        bounded("evidence", &request.evidence)?;
        let done = self
            .transact(caller, Action::Card, Some(&asked), |attempt| {
                attempt.entry.reason = request.evidence.clone();
                let key = card_key(attempt, serial.reveal());
                let found = attempt.load::<CardRow>(&key)?;
                let spent = attempt.erased_card_key(serial.reveal());
                let taken = found.value.is_some() || attempt.load::<ErasedNumberRow>(&spent)?.value.is_some();
                let act = Act::IssueCard { taken, evidence: &request.evidence };
                decide_on(attempt, caller, &number, act, |attempt, subject| {
                    let known = subject.known()?;
                    if known.row.cards >= CARDS_MAX {
                        let why =
                            format!("would be one more than the {CARDS_MAX} cards that a participant can have had");
                        return Err(GatewayError::invalid("serial", why));
                    }
                    replace_cards(attempt, known)?;
                    let row = CardRow {
                        pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
                        serial: serial.reveal().into(),
                        issued_ms: attempt.now_ms,
                        replaced_ms: 0,
                        issued_by: Some(caller.journalled()),
                        evidence: request.evidence.clone(),
                    };
                    attempt.put(&key, found.revision, &row);
                    let mut row = (*known.row).clone();
                    row.card_serial = serial.reveal().into();
                    row.cards += 1;
                    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
                    Ok(())
                })
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }

    /// The participant whose present card has a serial.
    pub async fn resolve_card(
        &self,
        caller: &Caller,
        request: v1::ResolveCardRequest,
    ) -> Result<v1::ResolveReply, GatewayError> {
        let serial = serial(&request.serial)?;
        let done = self
            .transact(caller, Action::ResolveCard, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let key = card_key(attempt, serial.reveal());
                let card = attempt.load::<CardRow>(&key)?.value;
                let act = Act::ResolveCard { card: card.as_deref() };
                let verdict = Verdict::of(decide(&rows.facts(attempt.now_ms, act, None, None)), |_| {
                    let card = card.as_deref().ok_or(GatewayError::Damaged { what: "number" })?;
                    Ok(attempt.participant_of(&card.pseudonym)?.map(|known| known.row.number.clone()))
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        let participant = done.value.flatten().ok_or(GatewayError::NotFound { what: "the card's participant" })?;
        Ok(v1::ResolveReply { participant, journal_position })
    }
}

fn serial(text: &str) -> Result<CardSerial, GatewayError> {
    CardSerial::parse(text).map_err(|error| GatewayError::invalid("serial", error))
}

pub(super) fn card_key(attempt: &Attempt<'_>, serial: &str) -> RowKey {
    RowKey::hashed(Table::Number, &attempt.hash(Domain::Card, &[serial]))
}

/// Replaces the present card, and those that were issued under numbers that became aliases.
fn replace_cards(attempt: &mut Attempt<'_>, known: &Known) -> Result<(), GatewayError> {
    replace_card(attempt, &known.row.card_serial)?;
    for former in known.pseudonyms().into_iter().skip(1) {
        let key = RowKey::participant(&former);
        let found = attempt.load::<Participant>(&key)?;
        if let Some(row) = found.value.filter(|row| !row.card_serial.is_empty()) {
            replace_card(attempt, &row.card_serial)?;
            attempt.put(&key, found.revision, &Participant { card_serial: String::new(), ..(*row).clone() });
        }
    }
    Ok(())
}

fn replace_card(attempt: &mut Attempt<'_>, serial: &str) -> Result<(), GatewayError> {
    if serial.is_empty() {
        return Ok(());
    }
    let key = card_key(attempt, serial);
    let found = attempt.load::<CardRow>(&key)?;
    if let Some(row) = found.value {
        attempt.put(&key, found.revision, &CardRow { replaced_ms: attempt.now_ms, ..(*row).clone() });
    }
    Ok(())
}
