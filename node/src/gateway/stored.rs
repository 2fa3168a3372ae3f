//! Whether a put asks for what is stored under its document id already.
//!
//! Invariants
//! - "Stored before" is answered only if nothing that is asked for is lost by it: the body, its media type, the class, the
//!   clinical day and whatever else is stated (a relation, author, enterer and confirmer with their times, signature,
//!   timestamp token and what verifying them said) are those stored, and the record reaches nobody whom the put leaves out.
//! - What is not stated is not asked for: who repeats a put may be another user than the one who made it.
//! - What was narrowed after a put does not keep the same put from being repeated: it reaches fewer than it asked for.

use kura_cluster::id::{RecordId, UserId};
use kura_cluster::row::{DocumentIdRow, Manifest, Person, ReceiptRow, RecordControl, RowKey};

use super::attempt::Attempt;
use super::caller::StatedActor;
use super::lost::document_key;
use super::new_record::NewRecord;
use super::put::Writing;
use super::read::find_manifest;
use super::rows::Loaded;
use super::{Caller, GatewayError};

/// The receipt of what is stored under the document id, or a former one, if that is what is asked for: then nothing more
/// is written. `None`: it is to be written.
pub fn stored_before(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    writing: &Writing,
    record: &NewRecord,
    sha256: &[u8; 32],
) -> Result<Option<ReceiptRow>, GatewayError> {
    let record = writing.again.as_ref().unwrap_or(record);
    if let Some((_, Loaded { value: Some(row), .. })) = &writing.document {
        return stored_under(attempt, caller, writing, record, (row, sha256));
    }
    let StatedActor::FacilityUser { facility, .. } = &caller.actor else { return Ok(None) };
    for id in &record.former_document_ids {
        let key = document_key(attempt, facility.reveal(), id.reveal());
        let row = attempt.load::<DocumentIdRow>(&key)?.value;
        // Whose document it is else is no business of this put, which does not claim the id.
        if let Some(row) = row.filter(|row| writing.known.is(&row.pseudonym)) {
            return stored_under(attempt, caller, writing, record, (&row, sha256));
        }
    }
    Ok(None)
}

fn stored_under(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    writing: &Writing,
    record: &NewRecord,
    (row, sha256): (&DocumentIdRow, &[u8; 32]),
) -> Result<Option<ReceiptRow>, GatewayError> {
    let in_use = |what| Err(GatewayError::InUse { field: "document_id", what });
    let stored = RecordId::from_slice(&row.record_id).map_err(|_| GatewayError::Damaged { what: "document-id" })?;
    let is_version = record.version_of == Some(stored);
    if !writing.known.is(&row.pseudonym) {
        return in_use("another document");
    }
    if row.body_sha256[..] != sha256[..] {
        // A further version of the same record may carry the same document id.
        return if is_version { Ok(None) } else { in_use("another document") };
    }
    // What is salvaged was perhaps sent again under another id, and is there then.
    if record.version_of.is_some() && !is_version && caller.salvaged.is_none() {
        return in_use("another record");
    }
    let home = attempt.home(&writing.known, &stored)?.pseudonym;
    let control = attempt.load_of::<RecordControl>(&RowKey::record_control(&home, &stored), &home)?.value;
    let manifest = find_manifest(attempt, &home, &stored, row.version)?;
    // A restore may have taken it away.
    let (Some(control), Some((_, manifest))) = (control, manifest) else { return Ok(None) };
    // Times that nobody stated are of each sending, and on an old disk none can be told from one that was stated.
    match difference(record, &control, &manifest, caller.salvaged.is_none()) {
        None => {
            Ok(Some(ReceiptRow { record_id: row.record_id.clone(), version: row.version, ..ReceiptRow::default() }))
        }
        Some(_) if is_version => Ok(None),
        Some(what) => Err(GatewayError::Contradicts {
            field: "document_id",
            why: format!(
                "document_id: the same body is stored under it with {what}; nothing was changed: write a version of that \
                 record, or narrow or hide it, or give another document id"
            ),
        }),
    }
}

/// What of a put with the same body is not as it is stored; `persons`: also who wrote, entered and confirmed it, and when.
fn difference(record: &NewRecord, control: &RecordControl, manifest: &Manifest, persons: bool) -> Option<&'static str> {
    let reaches = |one: &String| *one == control.author_facility || record.addressees.contains(one);
    let is_within =
        record.addressees.is_empty() || (!control.addressees.is_empty() && control.addressees.iter().all(reaches));
    if !is_within {
        return Some("other addressees");
    }
    if record.class.number() != manifest.class {
        return Some("another class");
    }
    if record.clinical_day != manifest.clinical_day {
        return Some("another clinical day");
    }
    if record.media_type != manifest.media_type {
        return Some("another media type");
    }
    let relation = record.related.as_ref().map(|asked| (asked.relation.number(), &asked.record.0[..], asked.version));
    let stored = (manifest.relation, &manifest.related_record_id[..], manifest.related_version);
    if relation.is_some_and(|asked| asked != stored) {
        return Some("another relation to another record, or none");
    }
    let signed = [(&record.signature, &manifest.signature), (&record.timestamp_token, &manifest.timestamp_token)];
    if signed.iter().any(|(asked, stored)| !asked.is_empty() && asked != stored)
        || !record.signature_result.is_empty() && record.signature_result != manifest.signature_result
    {
        return Some("another signature or result of verifying it, or none");
    }
    if !persons {
        return None;
    }
    if !is_by(record.author_user.as_ref(), record.author_ms, manifest.author.as_ref()) {
        return Some("another author, or time of authoring");
    }
    if !is_by(record.enterer_user.as_ref(), record.enterer_ms, manifest.enterer.as_ref()) {
        return Some("another enterer, or time of entering");
    }
    let is_confirmed = is_by(record.confirmer_user.as_ref(), record.confirmer_ms, manifest.confirmer.as_ref());
    (!is_confirmed).then_some("another confirmer, or time of confirming, or none")
}

/// Whether whoever is stated, and when, is who is stored.
fn is_by(user: Option<&UserId>, at_ms: u64, stored: Option<&Person>) -> bool {
    user.is_none_or(|user| stored.is_some_and(|stored| stored.user == user.reveal()))
        && (at_ms == 0 || stored.is_some_and(|stored| stored.at_ms == at_ms))
}
