//! What a file is, by its content, and where that says nothing, by its name.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use kura_cluster::hexadecimal;
use sha2::{Digest, Sha256};

use super::patient::Patients;
use super::{dicom, fhir, hl7, xml};

/// Bytes at the start of a file that are looked at.
pub const PREFIX_BYTES: u64 = 64 * 1024;
/// JSON, XML and HL7 up to this length are read through. Longer ones are judged by their start, which
/// does not tell whether they speak of one patient only.
pub const READ_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest document id, in bytes: the client's bound.
const DOCUMENT_ID_BYTES_MAX: usize = kura_client::limit::OUTSIDE_ID_BYTES_MAX;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// FHIR, as JSON or XML: a resource or a bundle.
    Fhir,
    /// HL7 v2 in its pipe form.
    Hl7,
    /// DICOM with the preamble of PS3.10.
    Dicom,
    /// HL7 CDA.
    Cda,
    /// PDF.
    Pdf,
    /// Anything else.
    Other,
}

impl Form {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Form::Fhir => "fhir",
            Form::Hl7 => "hl7",
            Form::Dicom => "dicom",
            Form::Cda => "cda",
            Form::Pdf => "pdf",
            Form::Other => "other",
        }
    }
}

/// What a file seems to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognized {
    /// Its form.
    pub form: Form,
    /// The record class, as in settings.
    pub class_word: &'static str,
    /// The media type.
    pub media_type: &'static str,
    /// Days from 1970-01-01 in Japan time, if the content tells.
    pub day: Option<i32>,
    /// The document's own id, if the content has one that is unique by its standard; at most
    /// 128 bytes.
    pub document_id: Option<String>,
    /// Whom it is about, if the content tells.
    pub patients: Patients,
}

impl Recognized {
    pub(super) fn of(form: Form, class_word: &'static str, media_type: &'static str) -> Recognized {
        let patients = Patients::default();
        Recognized { form, class_word, media_type, day: None, document_id: None, patients }
    }
}

/// A document id in a name space of ours: as it is if it fits, else its SHA-256.
pub(super) fn named_id(space: &str, text: &str) -> String {
    let id = format!("{space}/{text}");
    if id.len() <= DOCUMENT_ID_BYTES_MAX && !id.chars().any(char::is_control) {
        return id;
    }
    format!("{space}/sha256:{}", hexadecimal(Sha256::digest(text)))
}

/// Looks at a file; gives what it was before it was looked at, too. Fails only where the file cannot
/// be read.
pub fn file(path: &Path) -> io::Result<(Recognized, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    let mut bytes = Vec::new();
    (&file).take(PREFIX_BYTES).read_to_end(&mut bytes)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = starts_with_mark(&bytes, b'{') || starts_with_mark(&bytes, b'<') || hl7::Message::find(&bytes).is_some();
    let mut whole = length <= PREFIX_BYTES;
    if text && !whole && length <= READ_BYTES_MAX {
        (&file).take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
        whole = true;
    }
    let mut seen = content(&bytes, &name);
    if text && !whole {
        seen.patients = Patients::default();
    }
    Ok((seen, metadata))
}

/// Judges a file by its start (or, for text, all of it) and its name.
pub(crate) fn content(bytes: &[u8], name: &str) -> Recognized {
    if starts_with_mark(bytes, b'{') {
        return fhir::recognize(bytes).unwrap_or_else(|| Recognized::of(Form::Other, "document", "application/json"));
    }
    if let Some(message) = hl7::Message::find(bytes) {
        return hl7::recognize(message, name);
    }
    if dicom::has_preamble(bytes) {
        return dicom::recognize(bytes);
    }
    for (start, form, class_word, media_type) in [
        (&b"%PDF-"[..], Form::Pdf, "document", "application/pdf"),
        (b"\xff\xd8\xff", Form::Other, "image", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", Form::Other, "image", "image/png"),
        (b"II*\0", Form::Other, "image", "image/tiff"),
        (b"MM\0*", Form::Other, "image", "image/tiff"),
    ] {
        if bytes.starts_with(start) {
            return Recognized::of(form, class_word, media_type);
        }
    }
    if starts_with_mark(bytes, b'<')
        && let Some(seen) = xml::recognize(bytes)
    {
        return seen;
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let (class_word, media_type) = match ending.as_str() {
        "dcm" | "dicom" => ("image", "application/dicom"),
        "pdf" => ("document", "application/pdf"),
        _ if !bytes.is_empty() && is_text(bytes) => ("document", "text/plain; charset=utf-8"),
        _ => ("document", "application/octet-stream"),
    };
    Recognized::of(Form::Other, class_word, media_type)
}

/// Whether the first mark, after a byte order mark and spaces, is this one.
fn starts_with_mark(bytes: &[u8], mark: u8) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&mark)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn oddities_are_documents() {
        let seen = |bytes: &[u8], name: &str| {
            let seen = content(bytes, name);
            assert_eq!((seen.day, seen.document_id, seen.patients.count()), (None, None, 0), "{name}");
            (seen.form, seen.class_word, seen.media_type)
        };
        let bytes = "application/octet-stream";
        assert_eq!(seen(b"", "empty"), (Form::Other, "document", bytes));
        assert_eq!(seen(b"\0\x01", "two.bin"), (Form::Other, "document", bytes));
        assert_eq!(seen(b"", "x.pdf"), (Form::Other, "document", "application/pdf"));
        assert_eq!(seen(b"# Readme", "README.md"), (Form::Other, "document", "text/plain; charset=utf-8"));
        assert_eq!(seen(b"{\"a\":1", "x.json"), (Form::Other, "document", "application/json"));
        assert_eq!(seen(b"%PDF-1.7\n\xff", "x"), (Form::Pdf, "document", "application/pdf"));
        assert_eq!(seen(b"\xff\xd8\xff\xe0", "x.bin"), (Form::Other, "image", "image/jpeg"));
        assert_eq!(seen(b"MSH|^~\\&|", "x"), (Form::Hl7, "document", "x-application/hl7-v2+er7"));
        assert_eq!(seen(b"<?xml version=\"1.0\"?><a/>", "x"), (Form::Other, "document", "application/xml"));
        let cut = "あ".repeat(30_000).into_bytes()[..PREFIX_BYTES as usize].to_vec();
        assert_eq!(content(&cut, "x").media_type, "text/plain; charset=utf-8");
    }

    #[test]
    fn an_id_that_does_not_fit_becomes_its_hash() {
        assert_eq!(named_id("fhir", "a"), "fhir/a");
        for odd in ["x".repeat(200), "a\u{7}b".into()] {
            let id = named_id("fhir", &odd);
            assert_eq!((id.len(), id.starts_with("fhir/sha256:")), (76, true), "{id}");
        }
    }

    #[test]
    fn text_too_long_to_be_read_through_names_no_patient() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let written = |start: &str, length: u64, end: &str| {
            let fill = " ".repeat(usize::try_from(length).unwrap() - start.len() - end.len());
            std::fs::write(&path, format!("{start}{fill}{end}")).unwrap();
            file(&path).unwrap().0
        };
        let resource = r#"{"resourceType":"Patient","id":"7","recordedDate":"1970-01-02""#;
        let message = "MSH|^~\\&|A|B|C|D|19700102||ADT^A08|1\rPID|||7\rNTE|";
        for (start, end, form) in [(resource, "}", Form::Fhir), (message, "\rPID|||8", Form::Hl7)] {
            let through = written(start, READ_BYTES_MAX, end);
            assert_eq!((through.form, through.patients.count()), (form, if form == Form::Fhir { 1 } else { 2 }));
            let beyond = written(start, READ_BYTES_MAX + 1, end);
            assert_eq!((beyond.form, beyond.patients.count(), beyond.day), (form, 0, Some(1)));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(start in 0_usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let start = [&b"{\"resourceType\":\"Bundle\",\"entry\":"[..], b"<?xml?><ClinicalDocument><id", b"MSH|^~\\&|", b"%PDF-", b""][start];
            let _ = content(&[start, &bytes].concat(), "x");
        }

        #[test]
        fn no_json_panics(text in r##"(\{|\}|\[|\]|,|:|"resourceType"|"Bundle"|"Patient"|"entry"|"resource"|"identifier"|"subject"|"reference"|"#1"|"system"|"value"|1|null){0,40}"##) {
            let _ = content(format!("{{{text}").as_bytes(), "x");
        }
    }
}
