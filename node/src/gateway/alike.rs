//! New ids that people take for one that is registered already: they differ in case, width or composition alone.
//!
//! Ids are compared byte by byte everywhere else, and those that were registered stay. A new one that is read as another is
//! refused where that other is: a facility among facilities, a user among those of one facility, an application among
//! applications. It takes a look at every row of the table, once for each new id.

use icu_normalizer::ComposingNormalizerBorrowed;
use kura_cluster::row::RowKey;

use super::GatewayError;
use super::attempt::{Attempt, broken};
use super::register::Registrable;

/// Rows read at a time.
const SCAN_ROWS: usize = 1_000;

/// An id as people read it: without differences of compatibility (full and half width, composition: NFKC) and of case.
pub fn folded(id: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let compatible = nfkc.normalize(id);
    // By way of upper case, so that ß is ss; once more, as some letters decompose when their case changes.
    let folded: String = compatible.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    nfkc.normalize(&folded).into_owned()
}

/// Refuses a new id that is read as one in the same place. The whole table is expected: of two that are registered at
/// one time, one sees the other.
pub fn refuse_alike<T: Registrable>(attempt: &mut Attempt<'_>, row: &T, key: &RowKey) -> Result<(), GatewayError> {
    let (Some((place, id)), Some(table)) = (row.name(), key.table()) else { return Ok(()) };
    attempt.expect_table(table);
    let (prefix, new) = (RowKey::whole_table(table), folded(id));
    let snapshot = attempt.database.snapshot();
    let mut after: Option<RowKey> = None;
    loop {
        let from = after.as_ref().map(|key| &key.as_bytes()[..]);
        let rows = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, stored) in &rows {
            let registered: T = match attempt.open_scanned(key, stored) {
                // It is noted for operators; what it is called nobody knows.
                Err(error) if error.is_of_one_row() => continue,
                row => row?,
            };
            if registered.name().is_some_and(|(there, id)| there == place && folded(id) == new) {
                return Err(GatewayError::Contradicts {
                    field: T::FIELD,
                    why: format!(
                        "{}: one that differs from it in case, width or composition alone is registered already, and people \
                         would take the one for the other: use that one, or choose another",
                        T::FIELD
                    ),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_as_the_same_is_the_same_and_nothing_else() {
        let same = [
            ("F0012", "Ｆ００１２"),
            ("doctor-1", "DOCTOR-1"),
            ("カルテ", "ｶﾙﾃ"),
            ("が", "か\u{3099}"),
            ("Straße", "STRASSE"),
            ("ΣΑΣ", "σας"),
            ("u１", "U1"),
        ];
        for (one, other) in same {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        for (one, other) in
            [("doctor-1", "doctor-2"), ("F0012", "F012"), ("山田", "山本"), ("か", "が"), ("O1", "01"), ("ひ", "ヒ")]
        {
            assert_ne!(folded(one), folded(other), "{one} {other}");
        }
    }
}
