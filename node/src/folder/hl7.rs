//! HL7 v2 messages in their pipe form: delimiters told apart from bytes of Japanese text, and the
//! few fields that say what a message is and whom it is about.
//!
//! In ISO-2022-JP (HL7 v2.5, 2.14.9.18; RFC 1468) the second byte of a kanji can be `|` or `^`.
//! Delimiters count only where the text is in ASCII or JIS X 0201 Roman; each segment begins so.

use super::day::compact_day;
use super::patient::{PatientId, Patients};
use super::recognize::{Form, Recognized, named_id};

const ESCAPE: u8 = 0x1b;

/// A message, looked at in place.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    field: u8,
    component: u8,
    repetition: u8,
}

impl<'a> Message<'a> {
    /// The first message: at the start, after a block's start byte (MLLP), or inside a batch.
    pub fn find(bytes: &'a [u8]) -> Option<Message<'a>> {
        let bytes = bytes.strip_prefix(b"\x0b").unwrap_or(bytes);
        let begins = bytes.first_chunk::<3>()?;
        let at = match begins {
            b"MSH" => 0,
            b"FHS" | b"BHS" => 1 + bytes.windows(4).position(|w| matches!(w, [b'\r' | b'\n', b'M', b'S', b'H']))?,
            _ => return None,
        };
        let bytes = &bytes[at..];
        let &[b'M', b'S', b'H', field, component, repetition, ..] = bytes else { return None };
        let sound = field.is_ascii_punctuation() && component.is_ascii_punctuation();
        sound.then_some(Message { bytes, field, component, repetition })
    }

    /// Its segments, without their ends.
    fn segments(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.split(|b| matches!(b, b'\r' | b'\n')).filter(|segment| !segment.is_empty())
    }

    fn nth_field(&self, segment: &'a [u8], nth: usize) -> &'a [u8] {
        pieces(segment, self.field).nth(nth).unwrap_or_default()
    }

    /// A field of the header by its number in the standard, MSH-1 being the delimiter itself.
    pub fn header(&self, number: usize) -> String {
        let header = self.segments().next().unwrap_or_default();
        let field = self.nth_field(header, number.saturating_sub(1));
        String::from_utf8_lossy(field).trim().to_owned()
    }

    /// A component of a field of the header, both by their numbers.
    fn header_component(&self, number: usize, component: usize) -> String {
        let header = self.segments().next().unwrap_or_default();
        let field = self.nth_field(header, number.saturating_sub(1));
        text(pieces(field, self.component).nth(component.saturating_sub(1)))
    }

    /// The patient's ids of each PID segment (PID-3, CX.1) that are a facility's own: of type PI or
    /// MR, or of none. A segment without any gives an empty list.
    pub fn patient_ids(&self) -> impl Iterator<Item = Vec<String>> {
        let message = *self;
        self.segments().filter(move |segment| is_named(segment, b"PID", message.field)).map(move |segment| {
            pieces(message.nth_field(segment, 3), message.repetition)
                .filter_map(|id| {
                    let mut parts = pieces(id, message.component);
                    let number = text(parts.next());
                    let kind = text(parts.nth(3));
                    let own = matches!(&kind[..], "" | "PI" | "MR");
                    (own && !number.is_empty() && number != "\"\"").then_some(number)
                })
                .collect()
        })
    }
}

fn is_named(segment: &[u8], name: &[u8; 3], field: u8) -> bool {
    segment.strip_prefix(name).is_some_and(|rest| rest.first().is_none_or(|b| *b == field))
}

fn text(piece: Option<&[u8]>) -> String {
    String::from_utf8_lossy(piece.unwrap_or_default()).trim().to_owned()
}

/// Pieces between delimiters, those inside Japanese text passed over.
fn pieces(bytes: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    // A segment begins in ASCII, and so does each piece of it.
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (mut at, mut ascii) = (0, true);
        while at < bytes.len() {
            if bytes[at] == ESCAPE {
                ascii = matches!(bytes.get(at + 1..at + 3), Some(b"(B" | b"(J"));
                at += 3;
            } else if ascii && bytes[at] == delimiter {
                rest = Some(&bytes[at + 1..]);
                return Some(&bytes[..at]);
            } else {
                at += 1;
            }
        }
        rest = None;
        Some(bytes)
    })
}

/// What a message seems to be.
pub(super) fn recognize(message: Message<'_>, name: &str) -> Recognized {
    let kind = message.header(9);
    let class_word = match kind.split('^').next().unwrap_or_default() {
        "ORU" | "OUL" => "laboratory-result",
        "RDE" | "OMP" | "ORM" => "prescription",
        "RDS" => "dispensing",
        "RAS" => "care-record",
        "REF" => "referral-letter",
        "ADT" if kind.starts_with("ADT^A60") => "allergy",
        _ => "document",
    };
    // SS-MIX2 file names: patient, clinical date or "-", kind, order, moment, department, flag.
    let parts: Vec<&str> = name.split('_').collect();
    let named = if parts.len() == 7 { compact_day(parts[1]) } else { None };
    let mut patients = Patients::default();
    for ids in message.patient_ids() {
        patients.add(ids.into_iter().map(PatientId::local));
    }
    let (event, control) = (kind.split('^').take(2).collect::<Vec<_>>().join("^"), message.header_component(10, 1));
    let document_id =
        (!event.is_empty() && !control.is_empty()).then(|| named_id("hl7", &format!("{event}/{control}")));
    Recognized {
        form: Form::Hl7,
        class_word,
        media_type: media_type(&message),
        day: named.or_else(|| compact_day(&message.header(7))),
        document_id,
        patients,
    }
}

/// The media type, with the character set if the message says that it is Japanese (MSH-18).
pub fn media_type(message: &Message<'_>) -> &'static str {
    let set = message.header(18);
    if set.contains("IR87") || set.contains("IR 87") {
        "x-application/hl7-v2+er7; charset=iso-2022-jp"
    } else {
        "x-application/hl7-v2+er7"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(message: &[u8]) -> Vec<Vec<String>> {
        Message::find(message).unwrap().patient_ids().collect()
    }

    #[test]
    fn delimiters_inside_japanese_text_do_not_count() {
        // 0x3C7C and 0x4A5E are kanji whose second bytes are | and ^.
        let header = b"MSH|^~\\&|\x1b$B<|J^\x1b(B|S|G|R|20240102030405||ADT^A08^ADT_A01|7|P|2.5||||||~ISO IR87\r";
        let message = [&header[..], b"PID|1|\x1b$B<|<|\x1b(B|0001^^^^PI~9^^^^NI~0002^^^X^MR\rPV1|PID\r"].concat();
        let found = Message::find(&message).unwrap();
        assert_eq!(found.header(7), "20240102030405");
        assert_eq!(found.header(9), "ADT^A08^ADT_A01");
        assert_eq!(media_type(&found), "x-application/hl7-v2+er7; charset=iso-2022-jp");
        assert_eq!(ids(&message), [["0001", "0002"]]);
        assert_eq!(recognize(found, "x").document_id.as_deref(), Some("hl7/ADT^A08/7"));
    }

    #[test]
    fn each_pid_segment_speaks_for_itself() {
        assert_eq!(
            ids(b"MSH|^~\\&|\rPID|1||5\rPID|2||\"\"\rPIDX|3||6\nPID|4||7^^^^PI\r\nPID"),
            [vec!["5"], vec![], vec!["7"], vec![]]
        );
        assert_eq!(ids(b"\x0bMSH#$%\\&#\rPID###a$1%b"), [["a", "b"]], "the message names its delimiters");
        assert_eq!(ids(b"FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|\rPID|||8"), [["8"]]);
        assert!(Message::find(b"MSH").is_none() && Message::find(b"").is_none() && Message::find(b"PID|1").is_none());
        assert!(Message::find(b"FHS|x\rPID|").is_none());
    }

    #[test]
    fn ss_mix2_names_tell_the_day() {
        let message = b"MSH|^~\\&|A|B|C|D|20240102030405||ADT^A60^ADT_A60|1|P|2.5||||||~ISO IR87\rPID|1\r";
        let seen = |name: &str| recognize(Message::find(message).unwrap(), name);
        let dated = seen("0000001_20231231_ADT-61_1_20240101000000000_01_1");
        assert_eq!((dated.class_word, dated.day), ("allergy", compact_day("20231231")));
        assert_eq!(seen("0000001_-_ADT-61_1_20240101000000000_01_1").day, compact_day("20240102"));
        assert_eq!(dated.patients.count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..40) {
            let whole = [b"MSH|^~\\&|A|B|C|D|2024||ADT^A08|1|P|2.5\rPID|||".as_slice(), &bytes].concat();
            for bytes in [&bytes[..], &whole[..], &whole[..whole.len() - cut.min(whole.len())]] {
                if let Some(message) = Message::find(bytes) {
                    let _ = recognize(message, "a_b_c_d_e_f_g");
                }
            }
        }
    }
}
