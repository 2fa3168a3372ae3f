//! Documents whose record a restore took away, and that are written again.
//!
//! A restore takes bodies back to a moment; what restricts them stays as it is newest: the control row, and the document
//! id that leads to it. An application that lost a document sends it again under the same document id. It becomes the next
//! version of the same record, so that what was hidden, narrowed or held stays so.
//!
//! Invariants
//! - The record keeps its id; no version number is issued twice.
//! - It comes back for nobody whom the control row or the put leaves out.
//! - Nothing is looked for before the first restore: only one takes versions away, and it begins a timeline.

use kura_cluster::id::RecordId;
use kura_cluster::row::{DocumentIdRow, RecordControl, RowKey, Table};
use kura_cluster::seal::Domain;

use super::attempt::{Attempt, broken};
use super::caller::StatedActor;
use super::new_record::NewRecord;
use super::{Caller, GatewayError};

/// What is to be written instead of a put whose document's record lost the version that the document id names: a version
/// of that record. `None`: it is no such put.
pub fn again(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    record: &NewRecord,
) -> Result<Option<NewRecord>, GatewayError> {
    let StatedActor::FacilityUser { facility, .. } = &caller.actor else { return Ok(None) };
    if attempt.timeline() == 0 || record.version_of.is_some() {
        return Ok(None);
    }
    for id in record.document_id.iter().chain(&record.former_document_ids) {
        let key = document_key(attempt, facility.reveal(), id.reveal());
        let Some(row) = attempt.load::<DocumentIdRow>(&key)?.value else { continue };
        let Some(known) = attempt.participant(&record.number)?.filter(|known| known.is(&row.pseudonym)) else {
            return Ok(None);
        };
        let lost = RecordId::from_slice(&row.record_id).map_err(|_| GatewayError::Damaged { what: "document-id" })?;
        let home = attempt.home(&known, &lost)?.pseudonym;
        if attempt.database.header(&RowKey::record(&home, &lost, row.version)).map_err(broken)?.is_some() {
            return Ok(None);
        }
        let control = attempt.load_of::<RecordControl>(&RowKey::record_control(&home, &lost), &home)?.value;
        return Ok(control.map(|control| NewRecord {
            version_of: Some(lost),
            addressees: within(&control, &record.addressees),
            ..record.clone()
        }));
    }
    Ok(None)
}

/// The row key of an author's own id of a document.
pub fn document_key(attempt: &Attempt<'_>, facility: &str, document_id: &str) -> RowKey {
    RowKey::hashed(Table::DocumentId, &attempt.hash(Domain::DocumentId, &[facility, document_id]))
}

/// Whom a record reaches that is put again: nobody whom it did not reach, nor whom the put leaves out. If that would be
/// nobody, whom the put names: `decide` refuses that as a widening.
fn within(control: &RecordControl, asked: &[String]) -> Vec<String> {
    if control.addressees.is_empty() {
        return asked.to_vec();
    }
    if asked.is_empty() {
        return control.addressees.clone();
    }
    let both: Vec<String> = asked.iter().filter(|one| control.addressees.contains(one)).cloned().collect();
    if both.is_empty() { asked.to_vec() } else { both }
}
