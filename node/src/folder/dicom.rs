//! The few data elements of a DICOM file (PS3.10) that say whose it is, which one and of which day.
//!
//! A reader of its own, not a crate: only elements up to Patient ID are looked at, in the two
//! uncompressed byte orders, and nothing of an image is ever decoded.
//!
//! Invariants
//! - Nothing is read past the bytes given, no value is copied but the few asked for, and nesting is
//!   bounded by [`DEPTH_MAX`]: a damaged or hostile file gives fewer answers, never a panic.
//! - Elements stand in ascending order, so that the first one past Patient ID ends the search.

use super::day::compact_day;
use super::patient::{PatientId, Patients};
use super::recognize::{Form, Recognized};

/// Deepest nesting of sequences that is followed.
const DEPTH_MAX: usize = 16;
const UNDEFINED: u32 = u32::MAX;

type Tag = (u16, u16);
const TRANSFER_SYNTAX: Tag = (0x0002, 0x0010);
const SOP_INSTANCE: Tag = (0x0008, 0x0018);
const PATIENT_ID: Tag = (0x0010, 0x0020);
const ITEM: Tag = (0xfffe, 0xe000);
const ITEM_END: Tag = (0xfffe, 0xe00d);
const SEQUENCE_END: Tag = (0xfffe, 0xe0dd);

/// Whether the file has the preamble of PS3.10.
pub(super) fn has_preamble(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// What a file with the preamble says.
pub(super) fn recognize(bytes: &[u8]) -> Recognized {
    let mut seen = Recognized::of(Form::Dicom, "image", "application/dicom");
    let Some(mut elements) = data_set(bytes) else { return seen };
    while let Some(element) = elements.next_at(0) {
        let value = std::str::from_utf8(element.value).unwrap_or_default().trim_matches(['\0', ' ']);
        match element.tag {
            SOP_INSTANCE if is_unique_id(value) => seen.document_id = Some(format!("urn:oid:{value}")),
            // Of study, series, acquisition, content: the first that is there.
            (0x0008, 0x0020..=0x0023) => seen.day = seen.day.or(compact_day(value)),
            PATIENT_ID => {
                let mut patients = Patients::default();
                patients.add([PatientId::local(value)]);
                seen.patients = patients;
            }
            tag if tag > PATIENT_ID => break,
            _ => {}
        }
    }
    seen
}

/// PS3.5, 9.1: digits and dots, at most 64 characters.
fn is_unique_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// The data set after the file meta information, in its transfer syntax; none if that is compressed
/// as a whole (deflated) or does not stand there.
fn data_set(bytes: &[u8]) -> Option<Elements<'_>> {
    let mut meta = Elements { bytes: bytes.get(132..)?, big_endian: false, explicit: true };
    let mut syntax = None;
    loop {
        let before = meta.bytes;
        let mut ahead = Elements { bytes: before, ..meta };
        if ahead.tag()?.0 != 0x0002 {
            break;
        }
        let element = meta.next_at(0)?;
        if element.tag == TRANSFER_SYNTAX {
            syntax = Some(std::str::from_utf8(element.value).ok()?.trim_matches(['\0', ' ']));
        }
    }
    let (big_endian, explicit) = match syntax? {
        "1.2.840.10008.1.2" => (false, false),
        "1.2.840.10008.1.2.2" => (true, true),
        "1.2.840.10008.1.2.1.99" => return None,
        _ => (false, true),
    };
    Some(Elements { bytes: meta.bytes, big_endian, explicit })
}

struct Element<'a> {
    tag: Tag,
    /// Empty for a sequence.
    value: &'a [u8],
}

/// Elements one after the other.
#[derive(Clone, Copy)]
struct Elements<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    explicit: bool,
}

impl<'a> Elements<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn tag(&mut self) -> Option<Tag> {
        Some((self.short()?, self.short()?))
    }

    /// The next element; a sequence of undefined length is passed over.
    fn next_at(&mut self, depth: usize) -> Option<Element<'a>> {
        let tag = self.tag()?;
        if tag.0 == 0xfffe {
            // Items and their ends have a length and no representation.
            let length = self.long()?;
            let value =
                if tag == ITEM && length == UNDEFINED { &[] } else { self.take(usize::try_from(length).ok()?)? };
            return Some(Element { tag, value });
        }
        let (length, representation) = self.length()?;
        if length == UNDEFINED {
            // PS3.5, 6.2.2: an unknown representation of undefined length is written implicitly.
            let explicit = self.explicit;
            self.explicit &= representation != *b"UN";
            self.pass_sequence(depth + 1)?;
            self.explicit = explicit;
            return Some(Element { tag, value: &[] });
        }
        let value = self.take(usize::try_from(length).ok()?)?;
        Some(Element { tag, value })
    }

    fn length(&mut self) -> Option<(u32, [u8; 2])> {
        if !self.explicit {
            return Some((self.long()?, *b"  "));
        }
        let representation: [u8; 2] = self.take(2)?.try_into().ok()?;
        // PS3.5, 7.1.2: these have two reserved bytes and a length of 32 bits.
        const LONG: [&[u8; 2]; 13] =
            [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
        let length = if LONG.contains(&&representation) {
            self.take(2)?;
            self.long()?
        } else {
            self.short()?.into()
        };
        Some((length, representation))
    }

    /// Passes over the items of a sequence of undefined length.
    fn pass_sequence(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        loop {
            match self.tag()? {
                SEQUENCE_END => return self.take(4).map(|_| ()),
                ITEM => match self.long()? {
                    UNDEFINED => while self.next_at(depth)?.tag != ITEM_END {},
                    length => drop(self.take(usize::try_from(length).ok()?)?),
                },
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file in one of the three readable forms, with two sequences of undefined length before the
    /// patient's id.
    fn file(syntax: &str, big: bool, explicit: bool) -> Vec<u8> {
        let mut bytes = [&[0; 128][..], b"DICM"].concat();
        let mut put = |tag: Tag, kind: &[u8; 2], value: &[u8], big: bool, explicit: bool, undefined: bool| {
            let two = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
            let four = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
            bytes.extend(two(tag.0));
            bytes.extend(two(tag.1));
            let length = if undefined { UNDEFINED } else { value.len() as u32 };
            match (explicit && tag.0 != 0xfffe, kind) {
                (true, b"SQ" | b"UN") => {
                    bytes.extend(kind);
                    bytes.extend([0, 0]);
                    bytes.extend(four(length));
                }
                (true, _) => {
                    bytes.extend(kind);
                    bytes.extend(two(length as u16));
                }
                _ => bytes.extend(four(length)),
            }
            bytes.extend(value);
        };
        put(TRANSFER_SYNTAX, b"UI", syntax.as_bytes(), false, true, false);
        put(SOP_INSTANCE, b"UI", b"1.2.3\0", big, explicit, false);
        put((8, 0x20), b"DA", b"20240229", big, explicit, false);
        put((8, 0x1110), b"SQ", b"", big, explicit, true);
        put(ITEM, b"  ", b"", big, explicit, true);
        put(PATIENT_ID, b"LO", b"inside", big, explicit, false);
        put(ITEM_END, b"  ", b"", big, explicit, false);
        put(SEQUENCE_END, b"  ", b"", big, explicit, false);
        put((8, 0x1140), b"UN", b"", big, explicit, true);
        put(ITEM, b"  ", b"12345678", big, false, false);
        put(SEQUENCE_END, b"  ", b"", big, false, false);
        put(PATIENT_ID, b"LO", b"00-123 ", big, explicit, false);
        put((0x10, 0x30), b"DA", b"19700101", big, explicit, false);
        bytes
    }

    #[test]
    fn every_readable_form_is_read_and_a_deflated_one_is_not() {
        for (syntax, big, explicit) in [
            ("1.2.840.10008.1.2", false, false),
            ("1.2.840.10008.1.2.1\0", false, true),
            ("1.2.840.10008.1.2.2\0", true, true),
            ("1.2.840.10008.1.2.4.90", false, true),
        ] {
            let seen = recognize(&file(syntax, big, explicit));
            assert_eq!(seen.document_id.as_deref(), Some("urn:oid:1.2.3"), "{syntax}");
            assert_eq!(seen.day, compact_day("20240229"), "{syntax}");
            assert_eq!(seen.patients.only(), Some(&[PatientId::local("00-123")][..]), "{syntax}");
        }
        // An empty study date leaves it to the next.
        let mut dated = file("1.2.840.10008.1.2.1\0", false, true);
        let at = dated.windows(4).position(|w| w == [8, 0, 0x20, 0]).unwrap();
        dated.splice(at..at, *b"\x08\0\x20\0DA\0\0");
        dated[at + 10] = 0x21;
        assert_eq!(recognize(&dated).day, compact_day("20240229"));
        let deflated = recognize(&file("1.2.840.10008.1.2.1.99", false, true));
        assert_eq!((deflated.document_id, deflated.patients.count()), (None, 0));
    }

    #[test]
    fn sequences_too_deep_end_the_search() {
        const BEGIN: [u8; 20] = *b"\x08\0\x41\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff";
        const END: [u8; 16] = *b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0";
        let nested = |depth: usize| {
            let mut bytes = file("1.2.840.10008.1.2.1\0", false, true);
            let at = bytes.windows(6).position(|w| w == b"\x08\0\x10\x11SQ").unwrap();
            bytes.splice(at..at, [BEGIN.repeat(depth), END.repeat(depth)].concat());
            recognize(&bytes).patients.count()
        };
        assert_eq!((nested(1), nested(DEPTH_MAX), nested(DEPTH_MAX + 1)), (1, 1, 0));
        assert_eq!(nested(100_000), 0);
    }

    proptest! {
        #[test]
        fn nothing_panics(
            form in 0_usize..3,
            at in 132_usize..330,
            with in proptest::collection::vec(any::<u8>(), 0..40),
            cut in 0_usize..200,
        ) {
            let (syntax, big, explicit) =
                [("1.2.840.10008.1.2", false, false), ("1.2.840.10008.1.2.1\0", false, true), ("1.2.840.10008.1.2.2\0", true, true)][form];
            let mut bytes = file(syntax, big, explicit);
            let at = at.min(bytes.len());
            bytes.splice(at..at, with);
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            let _ = recognize(&bytes);
            let _ = recognize(&bytes[..at.min(bytes.len())]);
        }
    }
}
