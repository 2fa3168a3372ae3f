//! Legal hold of a record: put by a registrar, released by another. Whoever is held is not erased.
//!
//! Invariant: putting and releasing rewrite the record's control row *and* the participant's, which counts
//! what is held, so that an erasure, which expects the participant's row, cannot miss a hold.

use bytes::Bytes;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::RecordId;
use kura_cluster::row::{ReceiptRow, RecordControl, RowKey};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::CallerRows;
use super::consents::bounded;
use super::participant::number;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// Puts a legal hold on a record, or releases it.
    pub async fn hold(&self, caller: &Caller, request: v1::HoldRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        bounded("evidence", &request.evidence)?;
        let action = if request.hold { Action::Hold } else { Action::Release };
        let done = self
            .transact(caller, action, Some(&asked), |attempt| {
                attempt.entry.reason = request.evidence.clone();
                change(attempt, caller, &request)
            })
            .await?;
        // What keeps records from being destroyed is better known beyond the prefecture, too.
        Ok(self.receipt(&done, &asked, request.hold).await)
    }
}

fn change(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    request: &v1::HoldRequest,
) -> Result<(Verdict<()>, ReceiptRow), GatewayError> {
    let number = number(&request.participant)?;
    let record_id = RecordId::from_slice(&request.record_id).map_err(|e| GatewayError::invalid("record_id", e))?;
    attempt.entry.record_id = Bytes::copy_from_slice(&record_id.0);
    let rows = CallerRows::load(attempt, caller)?;
    let known = attempt.participant(&number)?;
    let mut found = None;
    if let Some(known) = &known {
        let home = attempt.home(known, &record_id)?;
        let key = RowKey::record_control(&home.pseudonym, &record_id);
        let loaded = attempt.load_of::<RecordControl>(&key, &home.pseudonym)?;
        found = loaded.value.map(|control| (known, home, key, loaded.revision, control));
    }
    let record = found.as_ref().map(|(known, home, .., control)| known.record(&home.pseudonym, control));
    let evidence = &request.evidence[..];
    let act = match request.hold {
        true => Act::Hold { record, evidence },
        false => Act::Release { record, evidence },
    };
    let decision = decide(&rows.facts(attempt.now_ms, act, known.as_ref().map(|k| &*k.row), None));
    let version = found.as_ref().map_or(0, |(.., control)| control.version);
    let verdict = Verdict::of(decision, |_| {
        let (known, home, key, revision, control) = found.ok_or(GatewayError::Damaged { what: "record-control" })?;
        let (mut control, mut participant) = ((*control).clone(), (*known.row).clone());
        if request.hold {
            control.hold_ms = attempt.now_ms;
            control.hold_by = Some(caller.asker());
            control.hold_evidence = request.evidence.clone();
            participant.held_records = participant.held_records.saturating_add(1);
        } else {
            (control.hold_ms, control.hold_by, control.hold_evidence) = Default::default();
            participant.held_records = participant.held_records.saturating_sub(1);
        }
        control.hold = request.hold;
        let data = attempt.data_key(&home.pseudonym, home.key_version)?;
        attempt.put_with(&key, &data, revision, &control);
        attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &participant);
        Ok(())
    })?;
    Ok((verdict, ReceiptRow { record_id: Bytes::copy_from_slice(&record_id.0), version, ..ReceiptRow::default() }))
}
