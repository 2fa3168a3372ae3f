//! Identifiers. Each is parsed once, at the edge, into a type that cannot hold a bad value.
//!
//! Invariants
//! - Identifiers that name a person, a place of care or a document print as `…` in `Debug` and have
//!   no `Display`: they cannot reach a log line by accident. [`OutsideId::reveal`] is the one way out.
//! - Identifiers that Kura draws itself are 16 random bytes and say nothing.

use std::fmt;

/// Longest identifier given from outside (facility, user, local and document ids), in bytes of UTF-8.
pub const OUTSIDE_ID_BYTES_MAX: usize = 128;

/// Digits of a participant number.
pub const PARTICIPANT_NUMBER_DIGITS: usize = 16;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The participant number does not have exactly 16 ASCII digits.
    #[error("a participant number is exactly {PARTICIPANT_NUMBER_DIGITS} digits, given {length} characters{}", if *.digits { "" } else { ", not all digits" })]
    Number {
        /// Characters given.
        length: usize,
        /// Whether all of them were ASCII digits.
        digits: bool,
    },
    /// An outside identifier was empty.
    #[error("{field} is empty")]
    Empty {
        /// The field's name.
        field: &'static str,
    },
    /// An outside identifier was too long.
    #[error("{field} has {length} bytes, the limit is {OUTSIDE_ID_BYTES_MAX}")]
    Long {
        /// The field's name.
        field: &'static str,
        /// Bytes given.
        length: usize,
    },
    /// An outside identifier held a control character.
    #[error("{field} contains a control character")]
    Control {
        /// The field's name.
        field: &'static str,
    },
    /// An outside identifier held a character that nobody sees.
    #[error("{field} contains {UNSEEN}")]
    Unseen {
        /// The field's name.
        field: &'static str,
    },
    /// An outside identifier was nothing but blanks.
    #[error("{field} is blank")]
    Blank {
        /// The field's name.
        field: &'static str,
    },
    /// The institution code is not ten ASCII digits.
    #[error("an institution code is exactly {INSTITUTION_CODE_DIGITS} digits, given {length} characters")]
    InstitutionCode {
        /// Characters given.
        length: usize,
    },
    /// A fixed-size identifier had the wrong length.
    #[error("{field} has {length} bytes, it must have {expected}")]
    Length {
        /// The field's name.
        field: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes needed.
        expected: usize,
    },
}

/// What is said of a text with a character for which [`is_unseen`] holds.
pub const UNSEEN: &str = "an invisible character (one without width, or one that turns the direction of writing)";

/// Whether a character changes how a text reads, or compares, without being seen: two ids that look alike would
/// be two, and a name could read otherwise than it is. Those of Unicode's `Default_Ignorable_Code_Point` and
/// `Bidi_Control`, and line and paragraph separators; but for variation selectors, which Japanese names are
/// written with. Spaces of any width are seen.
pub fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Whether a text shows nothing: it is empty, or holds only white space and characters that stand on others.
pub fn is_blank(text: &str) -> bool {
    let shows_nothing = |character: char| {
        // Braille's blank pattern is no white space, but looks like it.
        character.is_whitespace()
            || character.is_control()
            || is_unseen(character)
            || matches!(character, '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
    };
    text.chars().all(shows_nothing)
}

/// The 16-digit number under which a participant is known in the prefecture. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantNumber([u8; PARTICIPANT_NUMBER_DIGITS]);

impl ParticipantNumber {
    /// Parses exactly sixteen ASCII digits; separators are refused rather than guessed at.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match <[u8; PARTICIPANT_NUMBER_DIGITS]>::try_from(text.as_bytes()) {
            Ok(bytes) if digits => Ok(Self(bytes)),
            _ => Err(IdError::Number { length: text.chars().count(), digits }),
        }
    }

    /// The digits, for keyed hashing and for the participant's own list.
    pub fn reveal(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ParticipantNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParticipantNumber(…)")
    }
}

impl std::str::FromStr for ParticipantNumber {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

macro_rules! outside_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses 1 to [`OUTSIDE_ID_BYTES_MAX`] bytes of UTF-8 without control characters and others that
            /// nobody sees, not all of it blank.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if text.is_empty() {
                    return Err(IdError::Empty { field: $field });
                }
                if text.len() > OUTSIDE_ID_BYTES_MAX {
                    return Err(IdError::Long { field: $field, length: text.len() });
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::Control { field: $field });
                }
                if text.chars().any(is_unseen) {
                    return Err(IdError::Unseen { field: $field });
                }
                if is_blank(text) {
                    return Err(IdError::Blank { field: $field });
                }
                Ok(Self(text.to_owned()))
            }

            /// The identifier itself. Not for logs.
            pub fn reveal(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

outside_id!(/** A facility, as the network's registry names it. */ FacilityId, "facility");
outside_id!(/** A user of one facility. */ UserId, "user");
outside_id!(/** A facility's own number for a patient. */ LocalId, "local id");
outside_id!(/** The author's own identifier of a document. */ DocumentId, "document id");
outside_id!(/** An application, as its certificate names it. */ ApplicationName, "application");
outside_id!(/** The serial of a participant's card; not the number. */ CardSerial, "card serial");

macro_rules! drawn_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Takes exactly 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length {
                    field: $field,
                    length: bytes.len(),
                    expected: 16,
                })
            }

            /// Parses 32 hexadecimal digits.
            pub fn from_hex(text: &str) -> Result<Self, IdError> {
                crate::from_hexadecimal(text).map(Self).ok_or_else(|| IdError::Length {
                    field: $field,
                    length: text.len() / 2,
                    expected: 16,
                })
            }

            /// The bytes in hexadecimal.
            pub fn to_hex(&self) -> String {
                crate::hexadecimal(self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

drawn_id!(/** The cluster itself; bound into everything sealed. */ ClusterId, "cluster id");
drawn_id!(/** A participant inside the store: 16 random bytes from enrolment; the leading bits are the slot. */ Pseudonym, "pseudonym");
drawn_id!(/** A record of one participant. */ RecordId, "record id");
drawn_id!(/** The content of one record version or upload: blocks lie under it. */ ContentId, "content id");
drawn_id!(/** An emergency episode. */ EpisodeId, "episode id");
drawn_id!(/** An act of two registrars: 6 bytes birth time, then randomness, so that they lie in order. */ ActId, "act id");
drawn_id!(/** Something in the review queue: 6 bytes birth time, then randomness, so that the oldest lie first. */ ReviewId, "review id");

/// The ten-digit code of a Japanese medical institution: prefecture (2), kind (1), number (6), check digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstitutionCode([u8; INSTITUTION_CODE_DIGITS]);

/// Digits of an institution code.
pub const INSTITUTION_CODE_DIGITS: usize = 10;

impl InstitutionCode {
    /// Parses exactly ten ASCII digits. The check digit is not looked at: codes in use are not refused
    /// for it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match <[u8; INSTITUTION_CODE_DIGITS]>::try_from(text.as_bytes()) {
            Ok(bytes) if digits => Ok(Self(bytes)),
            _ => Err(IdError::InstitutionCode { length: text.chars().count() }),
        }
    }

    /// Whether the last digit is the check digit of the nine before it: Luhn (ISO/IEC 7812-1 annex B),
    /// weights 2, 1, 2, … from the right. If not, whoever entered it should be warned.
    pub fn check_digit_fits(&self) -> bool {
        let digit = |byte: &u8| u32::from(byte - b'0');
        let (check, nine) = (digit(&self.0[9]), &self.0[..9]);
        let weighted = nine.iter().rev().map(digit).zip([2, 1].into_iter().cycle()).map(|(d, weight)| d * weight);
        let sum: u32 = weighted.map(|product| product / 10 + product % 10).sum();
        (10 - sum % 10) % 10 == check
    }
}

/// Where a row was last written: the cluster's timeline and the log index in it.
///
/// Ordered by timeline, then index; index 0 stands for "absent", as no entry has index 0 that
/// writes rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// Fence number of the cluster; 0 from `init` until the first take-over.
    pub timeline: u64,
    /// Raft log index.
    pub index: u64,
}

impl Revision {
    /// The revision of a row that is not there.
    pub const ABSENT: Revision = Revision { timeline: 0, index: 0 };

    /// Whether this stands for an absent row.
    pub fn is_absent(&self) -> bool {
        self.index == 0
    }

    /// 16 bytes, both numbers big endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.timeline.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.timeline, self.index)
    }
}

/// A request's id: the client's birth time in milliseconds since 1970 and 10 random bytes.
///
/// Shape: 6 bytes big endian milliseconds, then randomness (as in UUIDv7, RFC 9562 §5.7, without
/// its version bits). The birth time lets the state machine forget old requests by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// Takes exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Length {
            field: "request id",
            length: bytes.len(),
            expected: 16,
        })
    }

    /// Milliseconds since 1970 at which the client drew the id.
    pub fn born_ms(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId(born {})", self.born_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_sixteen_digits_and_never_printed() {
        let number = ParticipantNumber::parse("0043001234567890").unwrap();
        assert_eq!(number.reveal(), "0043001234567890");
        assert!(!format!("{number:?}").contains("0043"));
        for bad in ["", "004300123456789", "00430012345678901", "0043 01234567890", "００４３００１２３４５６７８９０"]
        {
            assert!(matches!(ParticipantNumber::parse(bad), Err(IdError::Number { .. })), "{bad}");
        }
    }

    #[test]
    fn outside_ids_have_bounds() {
        assert!(FacilityId::parse("F0012").is_ok());
        assert!(UserId::parse("医師０１").is_ok());
        assert_eq!(LocalId::parse(""), Err(IdError::Empty { field: "local id" }));
        assert!(matches!(DocumentId::parse(&"x".repeat(129)), Err(IdError::Long { length: 129, .. })));
        assert!(matches!(UserId::parse("a\nb"), Err(IdError::Control { .. })));
        for unseen in ["F\u{200b}0012", "\u{202e}2100F", "F0012\u{feff}", "F\u{ad}1", "\u{3164}", "F\u{2066}1\u{2069}"]
        {
            assert_eq!(FacilityId::parse(unseen), Err(IdError::Unseen { field: "facility" }), "{unseen:?}");
        }
        for blank in [" ", "\u{3000}\u{a0}", "\u{2800}", "\u{fe0f}"] {
            assert_eq!(LocalId::parse(blank), Err(IdError::Blank { field: "local id" }), "{blank:?}");
        }
        // Names with an ideographic space, half-width and combining marks, and an ideographic variation sequence.
        for japanese in ["佐藤　花子", "ｻﾄｳ ﾊﾅｺ", "か\u{3099}き", "葛\u{e0100}城", "病棟・３階（東）"]
        {
            assert!(UserId::parse(japanese).is_ok() && !is_blank(japanese), "{japanese:?}");
        }
        assert_eq!(format!("{:?}", FacilityId::parse("F0012").unwrap()), "FacilityId(…)");
    }

    #[test]
    fn an_institution_code_has_a_luhn_check_digit() {
        // By hand: 131100123 doubled at every second digit from the right: 6+2+2+0+0+1+2+3+2 = 18, so 2.
        assert!(InstitutionCode::parse("1311001232").unwrap().check_digit_fits());
        // The textbook's 7992739871 3, cut to nine digits: 992739871 → 2+7+7+9+6+7+4+9+9 = 60, so 0.
        assert!(InstitutionCode::parse("9927398710").unwrap().check_digit_fits());
        for wrong in ["1311001230", "1311001231", "1311001233", "1311001239", "3111001232"] {
            assert!(!InstitutionCode::parse(wrong).unwrap().check_digit_fits(), "{wrong}");
        }
        for bad in ["", "131100123", "13110012322", "13110012３2", "131100123x"] {
            assert!(matches!(InstitutionCode::parse(bad), Err(IdError::InstitutionCode { .. })), "{bad}");
        }
    }

    #[test]
    fn drawn_ids_round_trip_through_hex() {
        let id = RecordId([7; 16]);
        assert_eq!(RecordId::from_hex(&id.to_hex()), Ok(id));
        assert!(RecordId::from_hex("zz").is_err());
        assert!(RecordId::from_hex(&"+f".repeat(16)).is_err());
        assert!(RecordId::from_slice(&[1; 15]).is_err());
    }

    #[test]
    fn a_request_id_carries_its_birth() {
        let mut bytes = [9; 16];
        bytes[..6].copy_from_slice(&1_700_000_000_123_u64.to_be_bytes()[2..]);
        assert_eq!(RequestId(bytes).born_ms(), 1_700_000_000_123);
    }
}
