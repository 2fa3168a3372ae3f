//! Identifiers. Each is parsed once, at the edge, into a type that cannot hold a bad value.
//!
//! Invariants
//! - Nothing that names a person, a place of care, a document or a record appears in `Debug`.
//! - A participant number has no `Display`: [`ParticipantNumber::reveal`] is the one way out.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::date::now_ms;

/// Digits of a participant number.
pub const PARTICIPANT_NUMBER_DIGITS: usize = 16;

/// A text that is not an identifier of its kind. Does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The participant number does not have exactly 16 ASCII digits.
    #[error("a participant number is exactly {PARTICIPANT_NUMBER_DIGITS} digits; given were {length} characters{}", if *.digits { "" } else { ", not all of them digits" })]
    Number {
        /// Characters given.
        length: usize,
        /// Whether all of them were ASCII digits.
        digits: bool,
    },
    /// The identifier is not of its length in hexadecimal.
    #[error(
        "{what}: {digits} hexadecimal digits are needed, as lists and receipts show them; given were {length} characters"
    )]
    Hexadecimal {
        /// What was parsed.
        what: &'static str,
        /// Digits needed.
        digits: usize,
        /// Characters given.
        length: usize,
    },
}

/// The 16-digit number under which a participant is known in the prefecture.
///
/// Not printed by `Debug`, so that it cannot reach a log by accident.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantNumber([u8; PARTICIPANT_NUMBER_DIGITS]);

impl ParticipantNumber {
    /// The digits. Not for logs.
    pub fn reveal(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for ParticipantNumber {
    type Err = IdError;

    /// Parses exactly sixteen ASCII digits; separators are refused rather than guessed at.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match <[u8; PARTICIPANT_NUMBER_DIGITS]>::try_from(text.as_bytes()) {
            Ok(bytes) if digits => Ok(Self(bytes)),
            _ => Err(IdError::Number { length: text.chars().count(), digits }),
        }
    }
}

impl fmt::Debug for ParticipantNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParticipantNumber(…)")
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) struct Hexadecimal<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Exactly `2 * N` hexadecimal digits of either case.
pub(crate) fn from_hexadecimal<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], IdError> {
    let wrong = || IdError::Hexadecimal { what, digits: 2 * N, length: text.chars().count() };
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

macro_rules! hexadecimal_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            pub(crate) fn to_wire(self) -> Bytes {
                Bytes::copy_from_slice(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hexadecimal($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Hexadecimal(&self.0).fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hexadecimal_id!(
    /// A record of one participant, all its versions: 16 bytes; written as 32 hexadecimal digits.
    RecordId, 16, "record id");
hexadecimal_id!(
    /// Identity of a write: 6 bytes birth time (milliseconds, big endian) and 10 random bytes;
    /// written as 32 hexadecimal digits.
    ///
    /// A write repeated under its request id happens once, however often it is sent, as long as
    /// the cluster remembers it; [`crate::Client::outcome`] tells what became of it.
    RequestId, 16, "request id");
hexadecimal_id!(
    /// An act of two registrars: 16 bytes; written as 32 hexadecimal digits. Names nobody.
    #[derive(Debug)]
    ActId, 16, "act id");
hexadecimal_id!(
    /// Where a facility has read its inbox up to: 12 bytes; written as 24 hexadecimal digits.
    InboxCursor, 12, "inbox cursor");
hexadecimal_id!(
    /// An emergency that was opened: 16 bytes; written as 32 hexadecimal digits. It is of use to the user who
    /// opened it, through the same application, and to nobody else.
    EmergencyId, 16, "emergency id");
hexadecimal_id!(
    /// Something in the review queue: 16 bytes; written as 32 hexadecimal digits.
    ReviewId, 16, "review id");

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordId(…)")
    }
}

impl fmt::Debug for InboxCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboxCursor(…)")
    }
}

impl fmt::Debug for EmergencyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmergencyId(…)")
    }
}

impl fmt::Debug for ReviewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReviewId(…)")
    }
}

impl RecordId {
    /// The nil id, all zero: what a receipt of a write that wrote no record has.
    pub const NIL: Self = Self([0; 16]);

    /// Whether this names no record.
    pub fn is_nil(&self) -> bool {
        *self == Self::NIL
    }
}

impl RequestId {
    /// Draws a new id, born now.
    pub fn new() -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now_ms().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&rand::random::<[u8; 10]>());
        Self(bytes)
    }

    /// When it was drawn, in milliseconds since 1970-01-01 UTC.
    pub fn born_ms(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }

    pub(crate) fn wire(self) -> Option<kura_proto::v1::RequestId> {
        Some(kura_proto::v1::RequestId { id: self.to_wire() })
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId(born {} ms)", self.born_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_sixteen_digits_and_never_printed() {
        let number: ParticipantNumber = "0043001234567890".parse().unwrap();
        assert_eq!(number.reveal(), "0043001234567890");
        assert!(!format!("{number:?}").contains("0043"));
        for bad in ["", "004300123456789", "00430012345678901", "0043 01234567890", "００４３００１２３４５６７８９０"]
        {
            let error = bad.parse::<ParticipantNumber>().unwrap_err();
            assert!(matches!(error, IdError::Number { .. }), "{bad}");
        }
        assert!(!"004300123456789".parse::<ParticipantNumber>().unwrap_err().to_string().contains("0043"));
    }

    #[test]
    fn ids_come_back_from_their_text() {
        let request = RequestId::new();
        assert_eq!(request.to_string().parse(), Ok(request));
        assert!(now_ms().abs_diff(request.born_ms()) < 60_000);
        assert_ne!(request, RequestId::new());
        for bad in ["", "00", "zz000000000000000000000000000000", "+0000000000000000000000000000000"] {
            assert!(bad.parse::<RecordId>().is_err(), "{bad}");
        }
    }
}
