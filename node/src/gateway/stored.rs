//! Whether a put asks for what is stored under its document id already.
//!
//! Invariants
//! - "Stored before" is answered only if nothing that is asked for is lost by it: the body, the class, the clinical day
//!   and the relation are those stored, and the record reaches nobody whom the put leaves out.
//! - What was narrowed after a put does not keep the same put from being repeated: it reaches fewer than it asked for.

use kura_cluster::id::RecordId;
use kura_cluster::row::{Manifest, ReceiptRow, RecordControl, RowKey};

use super::attempt::Attempt;
use super::new_record::NewRecord;
use super::put::Writing;
use super::read::find_manifest;
use super::rows::Loaded;
use super::{Caller, GatewayError};

/// The receipt of what is stored under the document id, if that is what is asked for: then nothing more is written.
/// `None`: it is to be written.
pub fn stored_before(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    writing: &Writing,
    record: &NewRecord,
    sha256: &[u8; 32],
) -> Result<Option<ReceiptRow>, GatewayError> {
    let Some((_, Loaded { value: Some(row), .. })) = &writing.document else { return Ok(None) };
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
    match difference(record, &control, &manifest) {
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

/// What of a put with the same body is not as it is stored.
fn difference(record: &NewRecord, control: &RecordControl, manifest: &Manifest) -> Option<&'static str> {
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
    let relation = record.related.as_ref().map(|asked| (asked.relation.number(), &asked.record.0[..], asked.version));
    let stored = (manifest.relation, &manifest.related_record_id[..], manifest.related_version);
    relation.is_some_and(|asked| asked != stored).then_some("another relation to another record, or none")
}
