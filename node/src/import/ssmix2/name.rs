//! Where a message lies in an SS-MIX2 standard storage, and what its name says.
//!
//! Source: "SS-MIX2 standardized storage: structure and construction guideline", version 1.2
//! (Japan Association for Medical Informatics), chapters on folders and on file names.
//!
//! `PID[0..3]/PID[3..6]/PID/day/kind/PID_day_kind_order_moment_department_flag`, where the day is
//! `YYYYMMDD` or `-`, the kind is one of the guideline's (`ADT-00`, `OMP-01`, …), the moment has 17
//! digits (`YYYYMMDDhhmmss` and milliseconds) and the flag is one digit.

use kura_cluster::hexadecimal;
use sha2::{Digest, Sha256};

use crate::folder::compact_day;

/// Longest name of a file, in bytes; file systems have no longer ones.
const NAME_BYTES_MAX: usize = 255;
/// Longest document id, in bytes.
const DOCUMENT_ID_BYTES_MAX: usize = kura_client::limit::OUTSIDE_ID_BYTES_MAX;
/// Digits of a moment.
const MOMENT_DIGITS: usize = 17;

/// The condition flag at the end of a name, in ascending order of what counts if two files of one
/// moment differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// 2: a past version.
    Past,
    /// 1: the present version.
    Live,
    /// 0: deleted.
    Deleted,
}

/// A name of seven parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    /// The facility's patient id.
    pub patient: String,
    /// The folder of the clinical day: `YYYYMMDD`, or `-` for kinds without one.
    pub day_word: String,
    /// The kind of message.
    pub kind: String,
    /// The order's number, or another that tells messages of a kind and day apart.
    pub order: String,
    /// When it was sent to the storage: 17 digits.
    pub moment: String,
    /// The department.
    pub department: String,
    /// The condition flag.
    pub flag: Flag,
}

impl Name {
    /// Takes a name apart; none if it does not have the seven parts.
    pub fn parse(name: &str) -> Option<Name> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let parts: Vec<&str> = name.split('_').collect();
        let [patient, day_word, kind, order, moment, department, flag] = parts[..] else { return None };
        let flag = match flag {
            "0" => Flag::Deleted,
            "1" => Flag::Live,
            "2" => Flag::Past,
            _ => return None,
        };
        let empty = [patient, kind, order, department].iter().any(|part| part.is_empty());
        let moment_sound = moment.len() == MOMENT_DIGITS && moment.bytes().all(|b| b.is_ascii_digit());
        let days_sound = is_day_word(day_word) && compact_day(moment).is_some();
        if empty || !moment_sound || !days_sound || name.chars().any(char::is_control) {
            return None;
        }
        let own = str::to_owned;
        Some(Name {
            patient: own(patient),
            day_word: own(day_word),
            kind: own(kind),
            order: own(order),
            moment: own(moment),
            department: own(department),
            flag,
        })
    }

    /// The clinical day in Japan, in days from 1970-01-01: the folder's, or for kinds without one
    /// the day on which the message was sent.
    pub fn day(&self) -> i32 {
        // Both were looked at when the name was taken apart.
        compact_day(&self.day_word).or_else(|| compact_day(&self.moment)).unwrap_or_default()
    }

    /// What all versions of one record have in common, as the beginning of their document ids. The
    /// department belongs to it: two departments can hold a message of the same kind, day and
    /// customary number, and neither is a version of the other.
    pub fn chain(&self) -> String {
        let Name { patient, day_word, kind, order, department, .. } = self;
        let text = format!("{patient}_{day_word}_{kind}_{order}_{department}");
        let room = DOCUMENT_ID_BYTES_MAX - "ssmix2//".len() - MOMENT_DIGITS;
        if text.len() <= room {
            return format!("ssmix2/{text}/");
        }
        format!("ssmix2/sha256:{}/", hexadecimal(Sha256::digest(&text)))
    }

    /// The document id of this version. The flag is not part of it: it changes while the content
    /// stays.
    pub fn document_id(&self) -> String {
        format!("{}{}", self.chain(), self.moment)
    }
}

/// Chain and moment of a document id that [`Name::document_id`] made.
pub fn apart(document_id: &str) -> Option<(&str, &str)> {
    let at = document_id.starts_with("ssmix2/").then(|| document_id.rfind('/'))??;
    let (chain, moment) = document_id.split_at_checked(at + 1)?;
    (moment.len() == MOMENT_DIGITS).then_some((chain, moment))
}

/// Whether a folder can be one of a clinical day.
pub fn is_day_word(word: &str) -> bool {
    word == "-" || (word.len() == 8 && compact_day(word).is_some())
}

/// Whether a patient's folder lies in the folders of its first characters.
pub fn is_place_of(first: &str, second: &str, patient: &str) -> bool {
    let mut characters = patient.chars();
    let three = |characters: &mut std::str::Chars<'_>| characters.by_ref().take(3).collect::<String>();
    !first.is_empty() && three(&mut characters) == first && three(&mut characters) == second
}

/// The record class of a kind of message (docs/operations.md has the table).
pub fn class_word(kind: &str) -> &'static str {
    match kind {
        "ADT-61" => "allergy",
        // Orders of medicines and injections.
        "OMP-01" | "OMP-02" => "prescription",
        // What was dispensed, and what was given.
        "OMP-11" => "dispensing",
        "OMP-12" => "care-record",
        // Results of the laboratory and of physiological examinations.
        "OML-11" | "OMG-13" => "laboratory-result",
        _ => "document",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "0001234_20240229_OMP-01_000123_20240301120000123_01_1";

    #[test]
    fn a_name_has_seven_parts() {
        let name = Name::parse(NAME).unwrap();
        assert_eq!((name.patient.as_str(), name.flag), ("0001234", Flag::Live));
        assert_eq!(Some(name.day()), compact_day("20240229"));
        assert_eq!(name.document_id(), "ssmix2/0001234_20240229_OMP-01_000123_01/20240301120000123");
        assert_eq!(apart(&name.document_id()), Some((name.chain().as_str(), "20240301120000123")));
        let undated = Name::parse(&NAME.replace("20240229", "-")).unwrap();
        assert_eq!(Some(undated.day()), compact_day("20240301"));
        for wrong in [
            String::new(),
            NAME.replace("_1", "_3"),
            NAME.replace("_01_", "_"),
            format!("{NAME}_1"),
            NAME.replace("20240229", "20240230"),
            NAME.replace("20240229", ""),
            NAME.replace("20240301120000123", "2024030112000012"),
            NAME.replace("20240301120000123", "20241301120000123"),
            NAME.replace("000123_", "_"),
            NAME.replace("OMP-01", "OMP\n01"),
            NAME.replace("000123", &"9".repeat(300)),
        ] {
            assert!(Name::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_flag_and_nothing_else_stays_out_of_the_document_id() {
        let id = |name: &str| Name::parse(name).unwrap().document_id();
        let changed = |from: &str, to: &str| id(&NAME.replacen(from, to, 1));
        assert_eq!(id(NAME), id(&format!("{}0", &NAME[..NAME.len() - 1])));
        for (from, to) in [
            ("0001234", "0001235"),
            ("20240229", "20240228"),
            ("OMP-01", "OMP-02"),
            ("_000123_", "_000124_"),
            ("12000012", "12000013"),
            ("_01_1", "_02_1"),
        ] {
            assert_ne!(id(NAME), changed(from, to), "{from}");
        }
        let long = changed("_000123_", &format!("_{}_", "9".repeat(120)));
        assert!(long.len() <= DOCUMENT_ID_BYTES_MAX && apart(&long).is_some(), "{long}");
        for foreign in ["", "ssmix2/", "ssmix2/x/2024", "fhir/x/20240301120000123", "ssmix2"] {
            assert_eq!(apart(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn folders_and_kinds() {
        assert!(is_place_of("000", "123", "0001234") && is_place_of("あいう", "えお", "あいうえお"));
        assert!(!is_place_of("000", "124", "0001234") && !is_place_of("", "", ""));
        assert!(is_day_word("-") && is_day_word("20240229") && !is_day_word("20240230") && !is_day_word("2024022912"));
        for kind in ["ADT-61", "OMP-01", "OMP-11", "OMP-12", "OML-11", "OMG-13", "ADT-00", "PPR-01", "XYZ"] {
            assert!(class_word(kind).parse::<kura_client::Class>().is_ok(), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}", parts in proptest::collection::vec("[0-9A-Za-z漢-]{0,9}", 0..9)) {
            for name in [text, parts.join("_")] {
                if let Some(name) = Name::parse(&name) {
                    prop_assert!(name.document_id().len() <= DOCUMENT_ID_BYTES_MAX || !name.document_id().is_ascii());
                    prop_assert!(apart(&name.document_id()).is_some());
                }
                let _ = is_place_of(&name_part(&name, 0), &name_part(&name, 1), &name);
            }
        }
    }

    fn name_part(name: &str, nth: usize) -> String {
        name.split('_').nth(nth).unwrap_or_default().to_owned()
    }
}
