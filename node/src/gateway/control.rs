//! What an author changes about a record after writing it: hiding and narrowing, which restrict, and showing again
//! what was hidden, which does not.

use bytes::Bytes;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::{FacilityId, RecordId};
use kura_cluster::row::{ReceiptRow, RecordControl, RowKey};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::CallerRows;
use super::consents::bounded;
use super::limits::FACILITIES_MAX;
use super::participant::number;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// Hides a record from all but its author's facility, or shows it again.
    pub async fn hide(&self, caller: &Caller, request: v1::HideRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        bounded("reason", &request.reason)?;
        let action = if request.hidden { Action::Hide } else { Action::Unhide };
        let change = Change::Hidden(request.hidden);
        let done = self
            .transact(caller, action, Some(&asked), |attempt| {
                attempt.entry.reason = request.reason.clone();
                attempt.entry.object = if request.hidden { "hidden".into() } else { "shown".into() };
                change.draft(attempt, caller, &request.participant, &request.record_id)
            })
            .await?;
        Ok(self.receipt(&done, &asked, request.hidden).await)
    }

    /// Narrows a record to addressees.
    pub async fn narrow(&self, caller: &Caller, request: v1::NarrowRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        if request.addressees.is_empty() || request.addressees.len() > FACILITIES_MAX {
            let why = format!("{} are given; there are 1 to {FACILITIES_MAX}", request.addressees.len());
            return Err(GatewayError::invalid("addressees", why));
        }
        for addressee in &request.addressees {
            FacilityId::parse(addressee).map_err(|e| GatewayError::invalid("addressees", e))?;
        }
        let change = Change::Addressees(&request.addressees);
        let done = self
            .transact(caller, Action::Narrow, Some(&asked), |attempt| {
                change.draft(attempt, caller, &request.participant, &request.record_id)
            })
            .await?;
        Ok(self.receipt(&done, &asked, true).await)
    }
}

/// What changes.
#[derive(Clone, Copy)]
enum Change<'a> {
    Hidden(bool),
    Addressees(&'a [String]),
}

impl Change<'_> {
    fn draft(
        self,
        attempt: &mut Attempt<'_>,
        caller: &Caller,
        participant: &str,
        record_id: &Bytes,
    ) -> Result<(Verdict<()>, ReceiptRow), GatewayError> {
        let number = number(participant)?;
        let record_id = RecordId::from_slice(record_id).map_err(|e| GatewayError::invalid("record_id", e))?;
        attempt.entry.record_id = Bytes::copy_from_slice(&record_id.0);
        let rows = CallerRows::load(attempt, caller)?;
        let known = attempt.participant(&number)?;
        let mut found = None;
        if let Some(known) = &known {
            let home = attempt.home(known, &record_id)?;
            let data = attempt.data_key(&home.pseudonym, home.key_version)?;
            let key = RowKey::record_control(&home.pseudonym, &record_id);
            let control = attempt.load_of::<RecordControl>(&key, &home.pseudonym)?;
            found = Some((home.pseudonym, data, key, control));
        }
        let control = found.as_ref().and_then(|(.., loaded)| loaded.value.clone());
        let record = known.as_ref().zip(found.as_ref()).zip(control.as_deref());
        let record = record.map(|((known, (home, ..)), control)| known.record(home, control));
        let act = match self {
            Change::Hidden(hidden) => Act::Hide { record, hidden },
            Change::Addressees(addressees) => Act::Narrow { record, addressees },
        };
        let facts = rows.facts(attempt.now_ms, act, known.as_ref().map(|k| &*k.row), None);
        let decision = decide(&facts);
        let version = control.as_ref().map_or(0, |c| c.version);
        let verdict = Verdict::of(decision, |_| {
            let (Some((_, data, key, loaded)), Some(control)) = (&found, &control) else {
                return Err(GatewayError::Damaged { what: "record-control" });
            };
            let mut control = (**control).clone();
            match self {
                Change::Hidden(hidden) => control.hidden = hidden,
                Change::Addressees(addressees) => control.addressees = addressees.to_vec(),
            }
            attempt.put_with(key, data, loaded.revision, &control);
            Ok(())
        })?;
        Ok((verdict, ReceiptRow { record_id: Bytes::copy_from_slice(&record_id.0), version, ..ReceiptRow::default() }))
    }
}
