//! Bounds of what a caller may hand in, checked before anything is sent.
//!
//! Invariant: a bound here is never tighter than the cluster's own; what the cluster bounds more
//! tightly comes back from it as [`Invalid`], too.

use crate::fault::Invalid;
use crate::id::RecordId;

/// Longest identifier given from outside (facility, user, local and document ids), in bytes of UTF-8.
pub const OUTSIDE_ID_BYTES_MAX: usize = 128;

/// Longest media type, in bytes.
pub const MEDIA_TYPE_BYTES_MAX: usize = 512;

/// Longest name of a part, in bytes of UTF-8.
pub const PART_NAME_BYTES_MAX: usize = 512;

/// Most parts of one record.
pub const PARTS_MAX: usize = 1024;

/// Most facilities that one record is narrowed to.
pub const ADDRESSEES_MAX: usize = 1024;

/// Most former document ids of one record.
pub const FORMER_DOCUMENT_IDS_MAX: usize = 16;

/// Longest free text (evidence, reason, proxy, names), in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Longest signature or timestamp token, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 256 << 10;

/// Most records of one [`crate::GetSeveral`].
pub const SEVERAL_RECORDS_MAX: usize = 64;

/// Most records, accesses or items in one page.
pub const PAGE_ITEMS_MAX: u32 = 1000;

pub(crate) fn outside_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    within(field, text.len(), 1, OUTSIDE_ID_BYTES_MAX)?;
    no_control(field, text)
}

/// An outside id, or nothing.
pub(crate) fn outside_id_or_empty(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() { Ok(()) } else { outside_id(field, text) }
}

pub(crate) fn media_type(field: &'static str, text: &str) -> Result<(), Invalid> {
    within(field, text.len(), 1, MEDIA_TYPE_BYTES_MAX)?;
    no_control(field, text)
}

pub(crate) fn text(field: &'static str, text: &str) -> Result<(), Invalid> {
    within(field, text.len(), 0, TEXT_BYTES_MAX)
}

pub(crate) fn bytes(field: &'static str, bytes: &[u8], most: usize) -> Result<(), Invalid> {
    within(field, bytes.len(), 0, most)
}

pub(crate) fn addressees(addressees: &[String]) -> Result<(), Invalid> {
    if addressees.len() > ADDRESSEES_MAX {
        return Err(Invalid::bound("addressees", format!("at most {ADDRESSEES_MAX} facilities"), addressees.len()));
    }
    addressees.iter().try_for_each(|facility| outside_id("addressees", facility))
}

pub(crate) fn former_document_ids(ids: &[String]) -> Result<(), Invalid> {
    const FIELD: &str = "former_document_ids";
    if ids.len() > FORMER_DOCUMENT_IDS_MAX {
        return Err(Invalid::bound(FIELD, format!("at most {FORMER_DOCUMENT_IDS_MAX} ids"), ids.len()));
    }
    ids.iter().try_for_each(|id| outside_id(FIELD, id))
}

pub(crate) fn record(field: &'static str, record: RecordId) -> Result<(), Invalid> {
    if record.is_nil() { Err(Invalid::because(field, "names no record")) } else { Ok(()) }
}

pub(crate) fn page(limit: u32) -> Result<(), Invalid> {
    within("limit", usize::try_from(limit).unwrap_or(usize::MAX), 1, PAGE_ITEMS_MAX as usize)
}

fn within(field: &'static str, length: usize, least: usize, most: usize) -> Result<(), Invalid> {
    if (least..=most).contains(&length) {
        return Ok(());
    }
    let unit = if field == "limit" { "items" } else { "bytes" };
    Err(Invalid::bound(field, format!("{least} to {most} {unit}"), length))
}

fn no_control(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.chars().any(char::is_control) {
        return Err(Invalid::because(field, "contains a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_names_its_field_and_limit_and_not_the_value() {
        let error = outside_id("facility", &"F".repeat(129)).unwrap_err();
        assert_eq!(error.field(), Some("facility"));
        assert_eq!(error.limit(), Some("1 to 128 bytes"));
        assert!(!error.to_string().contains("FF"), "{error}");
        assert!(outside_id("facility", "").is_err());
        assert!(outside_id("facility", "F\n1").is_err());
        assert!(outside_id("facility", "F0012").is_ok());
        assert!(record("record", RecordId::NIL).is_err());
        assert!(page(0).is_err() && page(1001).is_err() && page(1000).is_ok());
    }
}
