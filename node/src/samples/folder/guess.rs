//! What a file is, by its first bytes, and where these say nothing, by its name.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use time::{Date, Month, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::fhir;

/// Bytes at the start of a file that are looked at.
const PREFIX_BYTES: u64 = 64 * 1024;
/// JSON up to this length is read through; longer JSON is judged by its start.
const JSON_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a file seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guess {
    pub class_word: &'static str,
    pub media_type: &'static str,
    /// Days from 1970-01-01 in Japan time, if the content tells.
    pub day: Option<i32>,
}

const fn guess(class_word: &'static str, media_type: &'static str, day: Option<i32>) -> Guess {
    Guess { class_word, media_type, day }
}

/// Looks at a file; gives its length, too. Fails only where the file cannot be read.
pub(super) fn file(path: &Path) -> io::Result<(Guess, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut prefix = Vec::new();
    (&file).take(PREFIX_BYTES).read_to_end(&mut prefix)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if starts_json(&prefix) && length > PREFIX_BYTES && length <= JSON_BYTES_MAX {
        (&file).take(JSON_BYTES_MAX).read_to_end(&mut prefix)?;
    }
    Ok((content(&prefix, &name), length))
}

/// Judges a file by its start (or, for JSON, all of it) and its name.
pub(super) fn content(bytes: &[u8], name: &str) -> Guess {
    if starts_json(bytes) {
        return json(bytes);
    }
    if let Some(message) = hl7_start(bytes) {
        return hl7(message, name);
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return guess("image", "application/dicom", dicom_day(bytes));
    }
    for (start, class_word, media_type) in [
        (&b"%PDF-"[..], "document", "application/pdf"),
        (b"\xff\xd8\xff", "image", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
        (b"II*\0", "image", "image/tiff"),
        (b"MM\0*", "image", "image/tiff"),
    ] {
        if bytes.starts_with(start) {
            return guess(class_word, media_type, None);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("<?xml")
        || start.starts_with("<ClinicalDocument")
        || start.contains("xmlns=\"http://hl7.org/fhir\"")
    {
        return xml(start);
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "dcm" | "dicom" => guess("image", "application/dicom", dicom_day(bytes)),
        "pdf" => guess("document", "application/pdf", None),
        _ if !bytes.is_empty() && is_text(bytes) => guess("document", "text/plain; charset=utf-8", None),
        _ => guess("document", "application/octet-stream", None),
    }
}

fn starts_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    matches!(bytes.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{'))
}

/// Text, though a last character may be cut by the end of the prefix.
fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_none() && bytes.len() as u64 >= PREFIX_BYTES => error.valid_up_to(),
        Err(_) => return false,
    };
    !bytes[..valid].contains(&0)
}

fn json(bytes: &[u8]) -> Guess {
    match fhir::outline(bytes) {
        Some(outline) => guess(outline.class_word, "application/fhir+json", outline.day),
        None => guess("document", "application/json", None),
    }
}

/// The first MSH segment: at the start, after a block's start byte (MLLP), or inside a batch.
fn hl7_start(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(b"\x0b").unwrap_or(bytes);
    if bytes.starts_with(b"MSH|") {
        return Some(bytes);
    }
    if bytes.starts_with(b"FHS|") || bytes.starts_with(b"BHS|") {
        let at = bytes.windows(5).position(|w| matches!(w, [b'\r' | b'\n', b'M', b'S', b'H', b'|']))?;
        return Some(&bytes[at + 1..]);
    }
    None
}

fn hl7(message: &[u8], name: &str) -> Guess {
    let header = message.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let fields: Vec<String> =
        header.split(|b| *b == b'|').map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    let field = |at: usize| fields.get(at).map(String::as_str).unwrap_or_default();
    // MSH-9 is the eighth after MSH, since MSH-1 is the delimiter itself.
    let class_word = match (field(8), field(8).split('^').next().unwrap_or_default()) {
        (_, "ORU" | "OUL") => "laboratory-result",
        (_, "RDE" | "OMP" | "ORM") => "prescription",
        (_, "RDS") => "dispensing",
        (_, "RAS") => "care-record",
        (_, "REF") => "referral-letter",
        (whole, "ADT") if whole.starts_with("ADT^A60") => "allergy",
        _ => "document",
    };
    let japanese = field(17).contains("IR87") || field(17).contains("IR 87");
    let media_type =
        if japanese { "x-application/hl7-v2+er7; charset=iso-2022-jp" } else { "x-application/hl7-v2+er7" };
    // SS-MIX2 file names: patient, clinical date or "-", kind, order, moment, department, flag.
    let parts: Vec<&str> = name.split('_').collect();
    let named = if parts.len() == 7 { compact_day(parts[1]) } else { None };
    guess(class_word, media_type, named.or_else(|| compact_day(field(6))))
}

/// Study Date (0008,0020), in whichever little-endian form it stands.
fn dicom_day(bytes: &[u8]) -> Option<i32> {
    bytes.windows(16).find_map(|w| match w {
        [8, 0, 0x20, 0, b'D', b'A', 8, 0, date @ ..] | [8, 0, 0x20, 0, 8, 0, 0, 0, date @ ..] => {
            compact_day(std::str::from_utf8(date).ok()?)
        }
        _ => None,
    })
}

fn xml(text: &str) -> Guess {
    if let Some(outline) = fhir::xml_outline(text) {
        return guess(outline.class_word, "application/fhir+xml", outline.day);
    }
    if !text.contains("<ClinicalDocument") {
        return guess("document", "application/xml", None);
    }
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let class_word = if says(&["健診", "健康診査", "健康診断"]) {
        "checkup"
    } else if says(&["退院", "18842-5"]) {
        "discharge-summary"
    } else if says(&["診療情報提供", "57133-1"]) {
        "referral-letter"
    } else {
        "document"
    };
    let day = text.split_once("<effectiveTime").and_then(|(_, rest)| {
        let (_, value) = rest.split_once("value=\"")?;
        compact_day(value)
    });
    guess(class_word, "application/xml", day)
}

/// The day of `YYYYMMDD…`.
pub(super) fn compact_day(text: &str) -> Option<i32> {
    day(text.get(..4)?, text.get(4..6)?, text.get(6..8)?)
}

/// The day, in Japan time, of a FHIR date or moment; a missing month or day counts as the first. A
/// moment without a zone is Japan's.
pub(super) fn fhir_day(text: &str) -> Option<i32> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        let japan = moment.checked_to_offset(UtcOffset::from_hms(9, 0, 0).ok()?)?;
        return since_epoch(japan.date());
    }
    day(text.get(..4)?, text.get(5..7).unwrap_or("01"), text.get(8..10).unwrap_or("01"))
}

fn day(year: &str, month: &str, day: &str) -> Option<i32> {
    if ![year, month, day].concat().bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    since_epoch(Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?)
}

/// Days from 1970-01-01; years that no living person's record can have are taken for mistakes.
fn since_epoch(date: Date) -> Option<i32> {
    const EPOCH: Date = time::macros::date!(1970 - 01 - 01);
    (1900..2100).contains(&date.year()).then(|| date.to_julian_day() - EPOCH.to_julian_day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_japans() {
        assert_eq!(fhir_day("1970-01-02"), Some(1));
        assert_eq!(fhir_day("1970-01"), Some(0));
        assert_eq!(fhir_day("1971"), Some(365));
        assert_eq!(fhir_day("1970-01-01T14:59:59Z"), Some(0));
        assert_eq!(fhir_day("1970-01-01T15:00:00Z"), Some(1));
        assert_eq!(fhir_day("1970-01-02T00:00:00.000+09:00"), Some(1));
        assert_eq!(compact_day("19700103123456"), Some(2));
        for wrong in ["", "19", "1970-13-01", "1970-02-30", "0001-01-01", "+197-01-01", "漢字漢字"] {
            assert_eq!(fhir_day(wrong), None, "{wrong}");
            assert_eq!(compact_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn oddities_are_documents() {
        let bytes = "application/octet-stream";
        assert_eq!(content(b"", "empty"), guess("document", bytes, None));
        assert_eq!(content(b"\0\x01", "two.bin"), guess("document", bytes, None));
        assert_eq!(content(b"", "x.pdf"), guess("document", "application/pdf", None));
        assert_eq!(content(b"# Readme", "README.md"), guess("document", "text/plain; charset=utf-8", None));
        assert_eq!(content(b"{\"a\":1", "x.json"), guess("document", "application/json", None));
        assert_eq!(content(b"%PDF-1.7\n\xff", "x"), guess("document", "application/pdf", None));
        assert_eq!(content(b"\xff\xd8\xff\xe0", "x.bin"), guess("image", "image/jpeg", None));
        assert_eq!(content(b"MSH|", "x"), guess("document", "x-application/hl7-v2+er7", None));
        assert_eq!(content("<?xml version=\"1.0\"?><a/>".as_bytes(), "x"), guess("document", "application/xml", None));
        let cut = [&"あ".repeat(30_000).into_bytes()[..PREFIX_BYTES as usize], &[]].concat();
        assert_eq!(content(&cut, "x").media_type, "text/plain; charset=utf-8");
    }

    #[test]
    fn ss_mix2_names_tell_the_day() {
        let message = b"MSH|^~\\&|A|B|C|D|20240102030405||ADT^A60^ADT_A60|1|P|2.5||||||~ISO IR87\rPID|1\r";
        let seen = content(message, "0000001_20231231_ADT-61_1_20240101000000000_01_1");
        assert_eq!(seen, guess("allergy", "x-application/hl7-v2+er7; charset=iso-2022-jp", fhir_day("2023-12-31")));
        let undated = content(message, "0000001_-_ADT-61_1_20240101000000000_01_1");
        assert_eq!(undated.day, fhir_day("2024-01-02"));
        let batch = content(&[b"FHS|^~\\&\r", &message[..]].concat(), "x");
        assert_eq!(batch.class_word, "allergy");
    }
}
