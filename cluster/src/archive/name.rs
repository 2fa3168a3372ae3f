//! Names of objects, below the archive's root.

use std::fmt;

use super::Sha256Hash;
use crate::{from_hexadecimal, hexadecimal};

/// An object of an archive. Its name says what it must hold, so that objects put in each other's place are
/// found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// A manifest of a generation, by its number. Both numbers in 20 digits, so that names sort by them.
    Manifest {
        /// Number of the manifest that holds the generation's base.
        generation: u64,
        /// Its own number, from 1.
        sequence: u64,
    },
    /// A file of a base, by its content.
    File(Sha256Hash),
    /// A segment, by its first log index and its content.
    Segment {
        /// First log index.
        first: u64,
        /// SHA-256 of its bytes.
        sha256: Sha256Hash,
    },
    /// A part of the key ledger, by its content. These alone are ever replaced.
    Keys(Sha256Hash),
    /// A compression dictionary, by its content.
    Dictionary(Sha256Hash),
}

impl ObjectName {
    /// The folder of all manifests.
    pub const MANIFESTS: &'static str = "manifests";
    /// The folder of all bases' files.
    pub const FILES: &'static str = "files";
    /// The folder of all segments.
    pub const SEGMENTS: &'static str = "segments";
    /// The folder of the key ledger.
    pub const KEYS: &'static str = "keys";
    /// The folder of dictionaries.
    pub const DICTIONARIES: &'static str = "dictionaries";

    /// All folders.
    pub const FOLDERS: [&'static str; 5] =
        [Self::MANIFESTS, Self::SEGMENTS, Self::FILES, Self::KEYS, Self::DICTIONARIES];

    /// The folder of a generation's manifests.
    pub fn generation_folder(generation: u64) -> String {
        format!("{}/{generation:020}", Self::MANIFESTS)
    }

    /// Reads a name; `None` for whatever no archive holds.
    pub fn parse(text: &str) -> Option<ObjectName> {
        let (folder, rest) = text.split_once('/')?;
        match folder {
            Self::MANIFESTS => {
                let (generation, sequence) = rest.split_once('/')?;
                Some(ObjectName::Manifest { generation: number(generation)?, sequence: number(sequence)? })
            }
            Self::FILES => Some(ObjectName::File(hash(rest)?)),
            Self::SEGMENTS => {
                let (first, sha256) = rest.split_once('-')?;
                Some(ObjectName::Segment { first: number(first)?, sha256: hash(sha256)? })
            }
            Self::KEYS => Some(ObjectName::Keys(hash(rest)?)),
            Self::DICTIONARIES => Some(ObjectName::Dictionary(hash(rest)?)),
            _ => None,
        }
    }

    /// The SHA-256 that its bytes must have; a manifest's is in the manifest after it.
    pub fn sha256(&self) -> Option<Sha256Hash> {
        match self {
            ObjectName::Manifest { .. } => None,
            ObjectName::File(sha256)
            | ObjectName::Keys(sha256)
            | ObjectName::Dictionary(sha256)
            | ObjectName::Segment { sha256, .. } => Some(*sha256),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, sha256) = match self {
            ObjectName::Manifest { generation, sequence } => {
                return write!(f, "{}/{generation:020}/{sequence:020}", Self::MANIFESTS);
            }
            ObjectName::Segment { first, sha256 } => {
                return write!(f, "{}/{first:020}-{}", Self::SEGMENTS, hexadecimal(sha256));
            }
            ObjectName::File(sha256) => (Self::FILES, sha256),
            ObjectName::Keys(sha256) => (Self::KEYS, sha256),
            ObjectName::Dictionary(sha256) => (Self::DICTIONARIES, sha256),
        };
        write!(f, "{folder}/{}", hexadecimal(sha256))
    }
}

fn number(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// In lower case alone: an object has one name.
fn hash(digits: &str) -> Option<Sha256Hash> {
    from_hexadecimal(digits).filter(|_| !digits.bytes().any(|byte| byte.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_frozen_and_come_back() {
        let ab = "ab".repeat(32);
        let table = [
            (
                ObjectName::Manifest { generation: 7, sequence: 12 },
                "manifests/00000000000000000007/00000000000000000012".to_owned(),
            ),
            (ObjectName::File([0xab; 32]), format!("files/{ab}")),
            (ObjectName::Segment { first: 9, sha256: [0xab; 32] }, format!("segments/00000000000000000009-{ab}")),
            (ObjectName::Keys([0xab; 32]), format!("keys/{ab}")),
            (ObjectName::Dictionary([0xab; 32]), format!("dictionaries/{ab}")),
        ];
        for (name, text) in table {
            assert_eq!(name.to_string(), text);
            assert_eq!(ObjectName::parse(&text), Some(name));
            assert_eq!(ObjectName::parse(&format!("{text}0")), None);
            assert_eq!(ObjectName::parse(&text[..text.len() - 1]), None);
        }
        for stranger in ["", "files", "files/../x", &format!("files/{}", "AB".repeat(32)), "other/1"] {
            assert_eq!(ObjectName::parse(stranger), None, "{stranger}");
        }
    }
}
