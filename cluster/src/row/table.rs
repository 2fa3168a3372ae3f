//! The tables.

/// A table of the replicated state. The number is the first byte of every row key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Cluster id, limits that `apply` itself needs, timeline certificates. Open.
    Cluster = 1,
    /// Epoch keys wrapped by the root key.
    Keyring = 2,
    /// Settings of the network.
    Setting = 3,
    /// Facilities.
    Facility = 4,
    /// Users of facilities.
    User = 5,
    /// Applications.
    Application = 6,
    /// Participant numbers and their aliases.
    Number = 7,
    /// Participants: consent and grants of now.
    Participant = 8,
    /// Wrapped data keys of participants.
    ParticipantKey = 9,
    /// A facility's own id to the participant.
    Link = 10,
    /// The participant to the facilities' own ids.
    LinkReverse = 11,
    /// What an author or a registrar changes about a record after writing it.
    RecordControl = 12,
    /// Record versions: manifests.
    Record = 13,
    /// The authors' document ids.
    DocumentId = 14,
    /// Sealed blocks of bodies.
    Block = 15,
    /// Uploads in progress.
    Staging = 16,
    /// Facilities' inboxes.
    Inbox = 17,
    /// Journal entries by position.
    Journal = 18,
    /// Journal positions by keyed hash of subject or facility.
    JournalIndex = 19,
    /// Inner nodes of the journal's Merkle tree, every eighth level.
    JournalTree = 20,
    /// Two-person acts in progress.
    Act = 21,
    /// The review queue.
    Review = 22,
    /// Erasures and their state.
    Erasure = 23,
    /// Emergency windows and episodes.
    Emergency = 24,
    /// Remembered requests. Open.
    Request = 25,
    /// Who granted a facility: facility to participants, for its list.
    GrantIndex = 26,
    /// Members approved to join, until they have joined.
    Member = 27,
    /// Every consent and every grant that participants ever gave, in the order of time.
    ConsentHistory = 28,
}

impl Table {
    /// All tables, in order of their numbers.
    pub const ALL: [Table; 28] = [
        Table::Cluster,
        Table::Keyring,
        Table::Setting,
        Table::Facility,
        Table::User,
        Table::Application,
        Table::Number,
        Table::Participant,
        Table::ParticipantKey,
        Table::Link,
        Table::LinkReverse,
        Table::RecordControl,
        Table::Record,
        Table::DocumentId,
        Table::Block,
        Table::Staging,
        Table::Inbox,
        Table::Journal,
        Table::JournalIndex,
        Table::JournalTree,
        Table::Act,
        Table::Review,
        Table::Erasure,
        Table::Emergency,
        Table::Request,
        Table::GrantIndex,
        Table::Member,
        Table::ConsentHistory,
    ];

    /// The table of a number.
    pub fn from_number(number: u8) -> Option<Table> {
        Table::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The number, the first byte of its row keys.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its place in [`Table::ALL`], for arrays with one element per table.
    pub fn place(self) -> usize {
        usize::from(self as u8) - 1
    }

    /// The word for status tables and documents.
    pub fn word(self) -> &'static str {
        match self {
            Table::Cluster => "cluster",
            Table::Keyring => "keyring",
            Table::Setting => "setting",
            Table::Facility => "facility",
            Table::User => "user",
            Table::Application => "application",
            Table::Number => "number",
            Table::Participant => "participant",
            Table::ParticipantKey => "participant-key",
            Table::Link => "link",
            Table::LinkReverse => "link-reverse",
            Table::RecordControl => "record-control",
            Table::Record => "record",
            Table::DocumentId => "document-id",
            Table::Block => "block",
            Table::Staging => "staging",
            Table::Inbox => "inbox",
            Table::Journal => "journal",
            Table::JournalIndex => "journal-index",
            Table::JournalTree => "journal-tree",
            Table::Act => "act",
            Table::Review => "review",
            Table::Erasure => "erasure",
            Table::Emergency => "emergency",
            Table::Request => "request",
            Table::GrantIndex => "grant-index",
            Table::Member => "member",
            Table::ConsentHistory => "consent-history",
        }
    }

    /// Whether a command may put and delete rows here. The others are written by `apply` alone.
    pub fn is_written_by_commands(self) -> bool {
        !matches!(self, Table::Journal | Table::JournalIndex | Table::JournalTree | Table::Request)
    }

    /// Whether a command may append rows here (`apply` completes the key).
    pub fn is_appended_by_commands(self) -> bool {
        matches!(self, Table::Inbox)
    }

    /// Whether its rows go back in time in a restore (docs/architecture.md, promise 5).
    pub fn goes_back(self) -> bool {
        matches!(self, Table::Record | Table::DocumentId | Table::Block | Table::Staging | Table::Inbox)
    }

    /// Whether its rows hold wrapped keys: they live in a column family of their own, are counted
    /// against the daily cap on deletions, and never enter the archive's history.
    pub fn holds_keys(self) -> bool {
        matches!(self, Table::Keyring | Table::ParticipantKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_plus_one() {
        for (place, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.place(), place);
            assert_eq!(Table::from_number(table.number()), Some(table));
        }
        assert_eq!(Table::from_number(0), None);
        assert_eq!(Table::from_number(29), None);
    }
}
