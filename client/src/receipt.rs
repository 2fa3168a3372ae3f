//! Receipts: proof that a write was acknowledged.
//!
//! Format of the text, version 1, stable: nine fields joined by `:`
//! `kura1 : timeline : leader term : index : request id : record id : version : journal position : reach`,
//! numbers in decimal, ids in hexadecimal, the reach as its word; `repeated`, `nothing_to_end` and `granted_before` are not kept,
//! since they tell of the answer and not of the write. Version 2 (`kura2`) has a tenth field, the leaf of the journal
//! entry in hexadecimal; a receipt that does not know it is written as version 1.

use std::fmt;
use std::str::FromStr;

use kura_proto::v1;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{Hexadecimal, RecordId, RequestId, from_hexadecimal};

const FORMAT: &str = "kura1";
const FORMAT_WITH_LEAF: &str = "kura2";

/// How far a write had come when it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Durable on a majority of voters, and the backup outside the prefecture has synced it.
    BeyondPrefecture,
    /// Durable on a majority of voters; the backup had not confirmed it within the limit.
    /// [`crate::Client::outcome`] tells later.
    NotYetBeyond,
    /// Durable on a majority of voters; the cluster has no backup.
    NoBackup,
    /// Durable on a majority of voters; the backup was not waited for.
    NotAwaited,
}

impl Reach {
    const WORDS: [(Self, &'static str); 4] = [
        (Self::BeyondPrefecture, "beyond-prefecture"),
        (Self::NotYetBeyond, "not-yet-beyond"),
        (Self::NoBackup, "no-backup"),
        (Self::NotAwaited, "not-awaited"),
    ];

    /// The word for people and for the text of a receipt.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    fn from_number(number: u32) -> Option<Self> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::WORDS.get(place).map(|(reach, _)| *reach)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Proof that a write was acknowledged: it is durable on a majority of voters.
///
/// Worth storing: after a disaster, receipts are compared with the loss statement by timeline,
/// leader term and index. As text (`Display`, `FromStr`, serde) it has a stable format.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    timeline: u64,
    leader_term: u64,
    index: u64,
    request: RequestId,
    record: RecordId,
    version: u32,
    journal_position: u64,
    reach: Reach,
    repeated: bool,
    nothing_to_end: bool,
    granted_before: bool,
    journal_leaf: Option<[u8; 32]>,
}

impl Receipt {
    /// The cluster's timeline in which it was acknowledged.
    pub fn timeline(&self) -> u64 {
        self.timeline
    }

    /// Term of the leader that acknowledged it.
    pub fn leader_term(&self) -> u64 {
        self.leader_term
    }

    /// Log index of the write.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The write's request.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The record written; [`RecordId::NIL`] for a write that wrote none (consents, registry).
    pub fn record(&self) -> RecordId {
        self.record
    }

    /// The record's version, from 1; 0 if no record was written.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Position of the journal entry.
    pub fn journal_position(&self) -> u64 {
        self.journal_position
    }

    /// Leaf of that entry in the journal's tree: what [`crate::Journal::includes`] demands a proof of. Receipts
    /// read from texts of version 1 do not have it.
    pub fn journal_leaf(&self) -> Option<[u8; 32]> {
        self.journal_leaf
    }

    /// How far it had come when it was acknowledged.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether this tells again of an earlier run of the same request or document id.
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    /// Whether a grant was revoked that was not there: nothing changed, and the revocation stands in the journal.
    pub fn nothing_to_end(&self) -> bool {
        self.nothing_to_end
    }

    /// Whether a facility was named that the participant named already: nothing changed, and the grant stands in the
    /// journal. Told to the participant, and to facilities that the participant names.
    pub fn granted_before(&self) -> bool {
        self.granted_before
    }

    pub(crate) fn from_wire(wire: v1::Receipt) -> Option<Self> {
        Some(Self {
            timeline: wire.timeline,
            leader_term: wire.leader_term,
            index: wire.index,
            request: RequestId::from_wire(&wire.request_id)?,
            record: if wire.record_id.is_empty() { RecordId::NIL } else { RecordId::from_wire(&wire.record_id)? },
            version: wire.version,
            journal_position: wire.journal_position,
            reach: Reach::from_number(wire.reach)?,
            repeated: wire.repeated,
            nothing_to_end: wire.nothing_to_end,
            granted_before: wire.granted_before,
            journal_leaf: wire.journal_leaf[..].try_into().ok(),
        })
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("timeline", &self.timeline)
            .field("leader_term", &self.leader_term)
            .field("index", &self.index)
            .field("version", &self.version)
            .field("reach", &self.reach)
            .field("repeated", &self.repeated)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeline, leader_term, index, request, record, version, journal_position, reach, .. } = self;
        let format = if self.journal_leaf.is_some() { FORMAT_WITH_LEAF } else { FORMAT };
        write!(f, "{format}:{timeline}:{leader_term}:{index}:{request}:{record}:{version}:{journal_position}:{reach}")?;
        self.journal_leaf.iter().try_for_each(|leaf| write!(f, ":{}", Hexadecimal(leaf)))
    }
}

/// A text that is not a receipt of a version known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt: {field} is missing or malformed")]
pub struct ReceiptError {
    /// The part at fault.
    pub field: &'static str,
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        fn parsed<T: FromStr>(part: Option<&str>, field: &'static str) -> Result<T, ReceiptError> {
            // `+7` parses as a number, but is never written.
            part.filter(|p| !p.starts_with('+')).and_then(|p| p.parse().ok()).ok_or(ReceiptError { field })
        }
        let mut parts = text.split(':');
        let has_leaf = match parts.next() {
            Some(FORMAT) => false,
            Some(FORMAT_WITH_LEAF) => true,
            _ => return Err(ReceiptError { field: "format" }),
        };
        let receipt = Self {
            timeline: parsed(parts.next(), "timeline")?,
            leader_term: parsed(parts.next(), "leader term")?,
            index: parsed(parts.next(), "index")?,
            request: parsed(parts.next(), "request id")?,
            record: parsed(parts.next(), "record id")?,
            version: parsed(parts.next(), "version")?,
            journal_position: parsed(parts.next(), "journal position")?,
            reach: parts
                .next()
                .and_then(|word| Reach::WORDS.iter().find(|(_, w)| *w == word))
                .map(|(reach, _)| *reach)
                .ok_or(ReceiptError { field: "reach" })?,
            repeated: false,
            nothing_to_end: false,
            granted_before: false,
            journal_leaf: match has_leaf {
                true => {
                    let leaf = parts.next().and_then(|text| from_hexadecimal("journal leaf", text).ok());
                    Some(leaf.ok_or(ReceiptError { field: "journal leaf" })?)
                }
                false => None,
            },
        };
        parts.next().is_none().then_some(receipt).ok_or(ReceiptError { field: "end" })
    }
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was committed.
    Committed(Receipt),
    /// No write of the certificate that asks was committed under this request, and none ever will be. That says
    /// nothing of another certificate's write under the same request: only who wrote can ask.
    Absent,
    /// It is older than what the cluster remembers (the setting `request-window`).
    Forgotten,
}

/// A write that cannot be shown to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCommitted {
    /// No write of the certificate that asks was committed, and none ever will be.
    #[error(
        "no write of the application or office that asks was committed under this request, and none ever will be; one \
         that another certificate sent under it may well have been"
    )]
    Absent,
    /// The cluster no longer remembers.
    #[error("the write is older than what the cluster remembers: look for the record before writing it anew")]
    Forgotten,
}

impl Outcome {
    /// The receipt, if it was committed.
    ///
    /// # Errors
    /// [`NotCommitted`] otherwise.
    pub fn committed(self) -> Result<Receipt, NotCommitted> {
        match self {
            Self::Committed(receipt) => Ok(receipt),
            Self::Absent => Err(NotCommitted::Absent),
            Self::Forgotten => Err(NotCommitted::Forgotten),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "kura1:2:7:1234:018f0000000000000000000000000001:aa000000000000000000000000000002:3:99:not-yet-beyond";

    #[test]
    fn the_text_is_frozen_and_malformed_ones_are_refused() {
        let receipt: Receipt = TEXT.parse().unwrap();
        assert_eq!(receipt.to_string(), TEXT);
        assert_eq!((receipt.timeline(), receipt.leader_term(), receipt.index()), (2, 7, 1234));
        assert_eq!((receipt.version(), receipt.journal_position(), receipt.reach()), (3, 99, Reach::NotYetBeyond));
        let malformed = [
            (TEXT.replace("kura1", "kura3"), "format"),
            (TEXT.replace(":2:", ":+2:"), "timeline"),
            (TEXT.replace("018f", "018"), "request id"),
            (TEXT.replace("not-yet", "never"), "reach"),
            (format!("{TEXT}:"), "end"),
            (String::new(), "format"),
            (TEXT.split_at(20).0.to_owned(), "request id"),
        ];
        for (text, field) in malformed {
            assert_eq!(text.parse::<Receipt>(), Err(ReceiptError { field }), "{text}");
        }
    }

    #[test]
    fn the_leaf_makes_it_version_two() {
        let text = format!("{}:{}", TEXT.replace("kura1", "kura2"), "0f".repeat(32));
        let receipt: Receipt = text.parse().unwrap();
        assert_eq!((receipt.to_string(), receipt.journal_leaf()), (text.clone(), Some([0x0f; 32])));
        assert_eq!(TEXT.parse::<Receipt>().unwrap().journal_leaf(), None);
        let malformed = [
            (TEXT.replace("kura1", "kura2"), "journal leaf"),
            (text.replace("0f0f", "0f"), "journal leaf"),
            (text.replace("kura2", "kura1"), "end"),
            (format!("{text}:"), "end"),
        ];
        for (text, field) in malformed {
            assert_eq!(text.parse::<Receipt>(), Err(ReceiptError { field }), "{text}");
        }
    }

    #[test]
    fn every_reach_has_its_number() {
        let reaches: Vec<_> = (0..=5).map(Reach::from_number).collect();
        assert_eq!(
            reaches,
            [
                None,
                Some(Reach::BeyondPrefecture),
                Some(Reach::NotYetBeyond),
                Some(Reach::NoBackup),
                Some(Reach::NotAwaited),
                None
            ]
        );
    }
}
