//! Row keys.

use bytes::Bytes;

use super::Table;
use crate::id::{ActId, ContentId, EpisodeId, Pseudonym, RecordId, RequestId, ReviewId};
use crate::word::{HistoryKind, ReviewState};

/// Longest row key, table byte included.
pub const ROW_KEY_BYTES_MAX: usize = 96;

/// A row's full key: table number, then the table's own key.
///
/// Built by the constructors below, one per layout; never parsed from outside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(Bytes);

impl std::fmt::Debug for RowKey {
    // A row key is a pseudonymous name of a person's data: it must not reach a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.table() {
            Some(table) => write!(f, "RowKey({} …)", table.word()),
            None => f.write_str("RowKey(?)"),
        }
    }
}

impl RowKey {
    fn build(table: Table, parts: &[&[u8]]) -> RowKey {
        let mut bytes = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
        bytes.push(table.number());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        debug_assert!(bytes.len() <= ROW_KEY_BYTES_MAX);
        RowKey(bytes.into())
    }

    /// Takes bytes as they stand in a command or a database.
    pub fn from_bytes(bytes: Bytes) -> RowKey {
        RowKey(bytes)
    }

    /// The bytes, table number first.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The table, if the first byte names one.
    pub fn table(&self) -> Option<Table> {
        Table::from_number(*self.0.first()?)
    }

    /// The key that stands for a whole table in an expectation: its number alone.
    pub fn whole_table(table: Table) -> RowKey {
        RowKey::build(table, &[])
    }

    /// The cluster's own row.
    pub fn cluster() -> RowKey {
        RowKey::build(Table::Cluster, &[b"limits"])
    }

    /// Epoch keys: epoch, 4 bytes big endian.
    pub fn keyring(epoch: u32) -> RowKey {
        RowKey::build(Table::Keyring, &[&epoch.to_be_bytes()])
    }

    /// A setting by its (ASCII, built-in) name.
    pub fn setting(name: &str) -> RowKey {
        RowKey::build(Table::Setting, &[name.as_bytes()])
    }

    /// The sets of shares of the root key.
    pub fn share_sets() -> RowKey {
        RowKey::setting("shares")
    }

    /// The rotation that is under way.
    pub fn rotation() -> RowKey {
        RowKey::setting("rotation")
    }

    /// The synthetic participants of drills.
    pub fn drill() -> RowKey {
        RowKey::setting("drill")
    }

    /// What a recovered cluster serves.
    pub fn service() -> RowKey {
        RowKey::setting("service")
    }

    /// A row under one 32-byte keyed hash: facility, user, application, number, card, link, document id.
    pub fn hashed(table: Table, hash: &[u8; 32]) -> RowKey {
        RowKey::build(table, &[hash])
    }

    /// A participant.
    pub fn participant(pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::Participant, &[&pseudonym.0])
    }

    /// A consent or a grant of a participant: pseudonym, which of the two (1), when it was entered (8) and its number
    /// (4), big endian. So each kind lies in the order of time.
    pub fn history(pseudonym: &Pseudonym, kind: HistoryKind, entered_ms: u64, number: u32) -> RowKey {
        let parts: [&[u8]; 4] = [&pseudonym.0, &[kind as u8], &entered_ms.to_be_bytes(), &number.to_be_bytes()];
        RowKey::build(Table::ConsentHistory, &parts)
    }

    /// All consents, or all grants, of a participant.
    pub fn history_of(pseudonym: &Pseudonym, kind: HistoryKind) -> RowKey {
        RowKey::build(Table::ConsentHistory, &[&pseudonym.0, &[kind as u8]])
    }

    /// A participant's data key of a version, 4 bytes big endian.
    pub fn participant_key(pseudonym: &Pseudonym, version: u32) -> RowKey {
        RowKey::build(Table::ParticipantKey, &[&pseudonym.0, &version.to_be_bytes()])
    }

    /// All versions of a participant's data key.
    pub fn participant_keys(pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::ParticipantKey, &[&pseudonym.0])
    }

    /// The reverse of a link: pseudonym, then the link's hash.
    pub fn link_reverse(pseudonym: &Pseudonym, link: &[u8; 32]) -> RowKey {
        RowKey::build(Table::LinkReverse, &[&pseudonym.0, link])
    }

    /// All links of a participant.
    pub fn links_of(pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::LinkReverse, &[&pseudonym.0])
    }

    /// A record's control row.
    pub fn record_control(pseudonym: &Pseudonym, record: &RecordId) -> RowKey {
        RowKey::build(Table::RecordControl, &[&pseudonym.0, &record.0])
    }

    /// All control rows of a participant: the prefix of a listing.
    pub fn record_controls(pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::RecordControl, &[&pseudonym.0])
    }

    /// A record version's manifest; version, 4 bytes big endian, from 1.
    pub fn record(pseudonym: &Pseudonym, record: &RecordId, version: u32) -> RowKey {
        RowKey::build(Table::Record, &[&pseudonym.0, &record.0, &version.to_be_bytes()])
    }

    /// A block: part, 2 bytes, and index, 4 bytes, big endian.
    pub fn block(pseudonym: &Pseudonym, content: &ContentId, part: u16, index: u32) -> RowKey {
        RowKey::build(Table::Block, &[&pseudonym.0, &content.0, &part.to_be_bytes(), &index.to_be_bytes()])
    }

    /// All rows of a participant in a table whose keys begin with the pseudonym.
    pub fn rows_of(table: Table, pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(table, &[&pseudonym.0])
    }

    /// All blocks of a content: the prefix that a sweep deletes and a resumption counts.
    pub fn blocks(pseudonym: &Pseudonym, content: &ContentId) -> RowKey {
        RowKey::build(Table::Block, &[&pseudonym.0, &content.0])
    }

    /// An upload in progress. The pseudonym comes first, so that the sweeper can find key and blocks.
    pub fn staging(pseudonym: &Pseudonym, content: &ContentId) -> RowKey {
        RowKey::build(Table::Staging, &[&pseudonym.0, &content.0])
    }

    /// A part of an upload: its description; part 2 bytes big endian.
    pub fn staging_part(pseudonym: &Pseudonym, content: &ContentId, part: u16) -> RowKey {
        RowKey::build(Table::Staging, &[&pseudonym.0, &content.0, &part.to_be_bytes()])
    }

    /// A facility's inbox: the prefix that `apply` completes with log index and ordinal.
    pub fn inbox(facility: &[u8; 32]) -> RowKey {
        RowKey::build(Table::Inbox, &[facility])
    }

    /// An entry of a facility's inbox: log index 8 bytes, ordinal 4 bytes, big endian.
    pub fn inbox_entry(facility: &[u8; 32], index: u64, ordinal: u32) -> RowKey {
        RowKey::build(Table::Inbox, &[facility, &index.to_be_bytes(), &ordinal.to_be_bytes()])
    }

    /// A journal entry; position 8 bytes big endian, from 0, dense.
    pub fn journal(position: u64) -> RowKey {
        RowKey::build(Table::Journal, &[&position.to_be_bytes()])
    }

    /// A journal position under a keyed hash of its subject or facility.
    pub fn journal_index(hash: &[u8], position: u64) -> RowKey {
        RowKey::build(Table::JournalIndex, &[hash, &position.to_be_bytes()])
    }

    /// All journal positions under a keyed hash.
    pub fn journal_index_of(hash: &[u8; 32]) -> RowKey {
        RowKey::build(Table::JournalIndex, &[hash])
    }

    /// An inner node of the journal's tree: level, 1 byte; index within it, 8 bytes big endian.
    pub fn journal_tree(level: u8, index: u64) -> RowKey {
        RowKey::build(Table::JournalTree, &[&[level], &index.to_be_bytes()])
    }

    /// A remembered request: birth time 8 bytes big endian, then HMAC(application ‖ id).
    ///
    /// The birth time comes first so that the oldest lie together and can be forgotten in order.
    pub fn request(id: &RequestId, hash: &[u8; 32]) -> RowKey {
        RowKey::build(Table::Request, &[&id.born_ms().to_be_bytes(), hash])
    }

    /// A participant's mark in the list of those who granted a facility.
    pub fn grant_index(facility: &[u8; 32], pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::GrantIndex, &[facility, &pseudonym.0])
    }

    /// All participants who granted a facility.
    pub fn grants_of(facility: &[u8; 32]) -> RowKey {
        RowKey::build(Table::GrantIndex, &[facility])
    }

    /// An act of two registrars.
    pub fn act(id: &ActId) -> RowKey {
        RowKey::build(Table::Act, &[&id.0])
    }

    /// Something in the review queue: 1 byte (1 open, 2 closed), then its id, which begins with the
    /// birth time. Closing moves the row, so that the open ones lie together, oldest first.
    pub fn review(state: ReviewState, id: &ReviewId) -> RowKey {
        RowKey::build(Table::Review, &[&[state as u8], &id.0])
    }

    /// The review queue, open or closed.
    pub fn reviews(state: ReviewState) -> RowKey {
        RowKey::build(Table::Review, &[&[state as u8]])
    }

    /// A participant's erasure.
    pub fn erasure(pseudonym: &Pseudonym) -> RowKey {
        RowKey::build(Table::Erasure, &[&pseudonym.0])
    }

    /// That a number, or a card's serial, was an erased participant's.
    pub fn erased_number(hash: &[u8; 32]) -> RowKey {
        RowKey::build(Table::Erasure, &[hash])
    }

    /// The count of a day's erasures; day in Japan since 1970-01-01, 4 bytes big endian.
    pub fn erasure_day(day: i32) -> RowKey {
        RowKey::build(Table::Erasure, &[&day.to_be_bytes()])
    }

    /// An emergency episode.
    pub fn episode(id: &EpisodeId) -> RowKey {
        RowKey::build(Table::Emergency, &[&id.0])
    }

    /// A counter of emergencies, or of grants that a facility entered for itself, by the keyed hash of
    /// the user, facility or application.
    pub fn counter(hash: &[u8; 32]) -> RowKey {
        RowKey::build(Table::Emergency, &[hash])
    }

    /// An approved member by the keyed hash of its name.
    pub fn member(name_hash: &[u8; 32]) -> RowKey {
        RowKey::build(Table::Member, &[name_hash])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_frozen() {
        let hex = |key: RowKey| crate::hexadecimal(key.as_bytes());
        let (p, r, c) = (Pseudonym([0xaa; 16]), RecordId([0xbb; 16]), ContentId([0xcc; 16]));
        assert_eq!(hex(RowKey::cluster()), "016c696d697473");
        assert_eq!(hex(RowKey::keyring(1)), "0200000001");
        assert_eq!(hex(RowKey::record(&p, &r, 2)), format!("0d{}{}00000002", "aa".repeat(16), "bb".repeat(16)));
        assert_eq!(hex(RowKey::block(&p, &c, 1, 3)), format!("0f{}{}000100000003", "aa".repeat(16), "cc".repeat(16)));
        assert_eq!(hex(RowKey::inbox_entry(&[1; 32], 5, 6)), format!("11{}000000000000000500000006", "01".repeat(32)));
        assert_eq!(hex(RowKey::journal(9)), "120000000000000009");
        let (act, review, episode) = (ActId([0xdd; 16]), ReviewId([0xee; 16]), EpisodeId([0xff; 16]));
        assert_eq!(hex(RowKey::act(&act)), format!("15{}", "dd".repeat(16)));
        assert_eq!(hex(RowKey::review(ReviewState::Open, &review)), format!("1601{}", "ee".repeat(16)));
        assert_eq!(hex(RowKey::review(ReviewState::Closed, &review)), format!("1602{}", "ee".repeat(16)));
        assert_eq!(hex(RowKey::reviews(ReviewState::Closed)), "1602");
        let history = RowKey::history(&p, HistoryKind::Grant, 0x0102, 7);
        assert_eq!(hex(history), format!("1c{}02000000000000010200000007", "aa".repeat(16)));
        assert_eq!(hex(RowKey::history_of(&p, HistoryKind::Consent)), format!("1c{}01", "aa".repeat(16)));
        assert_eq!(hex(RowKey::erasure(&p)), format!("17{}", "aa".repeat(16)));
        assert_eq!(hex(RowKey::erasure_day(20_000)), "1700004e20");
        assert_eq!(hex(RowKey::erased_number(&[4; 32])), format!("17{}", "04".repeat(32)));
        assert_eq!(hex(RowKey::episode(&episode)), format!("18{}", "ff".repeat(16)));
        assert_eq!(hex(RowKey::counter(&[3; 32])), format!("18{}", "03".repeat(32)));
        assert_eq!(
            hex(RowKey::request(&RequestId([0; 16]), &[2; 32])),
            format!("190000000000000000{}", "02".repeat(32))
        );
    }

    #[test]
    fn a_row_key_does_not_print_its_bytes() {
        assert_eq!(format!("{:?}", RowKey::participant(&Pseudonym([0xab; 16]))), "RowKey(participant …)");
    }
}
