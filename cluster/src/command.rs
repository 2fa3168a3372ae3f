//! The replicated optimistic transaction and its outcome.
//!
//! A command names what its decision was based on (`expects`), what it writes and what the journal
//! gets. `apply` does all of it or nothing. Encoded as protobuf with a format number; the encoded
//! bytes travel unchanged from the gateway through the log to every member.

use bytes::Bytes;
use prost::Message;

use crate::id::Revision;

/// The only format so far.
pub const COMMAND_FORMAT: u32 = 1;

/// Longest encoded command, in bytes: one sealed block of 1 MiB and its company.
pub const COMMAND_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most rows that one command may expect, write or journal, each.
pub const COMMAND_ITEMS_MAX: usize = 4096;

/// One transaction.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// [`COMMAND_FORMAT`].
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Present for writes; absent for reads, whose attempts are each decided anew.
    #[prost(message, optional, tag = "2")]
    pub request: Option<Request>,
    /// The gateway's clock, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// Earliest expiry that the decision rests on; 0 stands for none.
    #[prost(uint64, tag = "4")]
    pub valid_until_ms: u64,
    /// Rows (or whole tables) and the revisions that the decision used.
    #[prost(message, repeated, tag = "5")]
    pub expects: Vec<Expect>,
    /// Rows to put, delete or append.
    #[prost(message, repeated, tag = "6")]
    pub writes: Vec<Write>,
    /// Entries for the journal, in order.
    #[prost(message, repeated, tag = "7")]
    pub journal: Vec<JournalAppend>,
    /// Only asks for a remembered request, leaving a tombstone where there is none.
    #[prost(bool, tag = "8")]
    pub probe: bool,
}

/// What [`Command::at_ms`] is read as, where nothing else of a command matters.
#[derive(Clone, PartialEq, Message)]
struct CommandTime {
    #[prost(uint64, tag = "3")]
    at_ms: u64,
}

/// The time in an encoded command, without taking the rest of it apart. `None`: it is none.
pub fn encoded_at_ms(command: &Bytes) -> Option<u64> {
    CommandTime::decode(command.clone()).ok().map(|time| time.at_ms)
}

/// A write's identity, by which repeating it is recognised.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Full row key in the request table: birth time and HMAC(application ‖ id).
    #[prost(bytes = "bytes", tag = "1")]
    pub row: Bytes,
    /// SHA-256 of the request: the same id with another request is an error.
    #[prost(bytes = "bytes", tag = "2")]
    pub sha256: Bytes,
    /// What the client is told again, sealed.
    #[prost(bytes = "bytes", tag = "3")]
    pub receipt: Bytes,
}

/// A row, or (key of one byte) a whole table, and its revision; index 0: absent, or never written.
#[derive(Clone, PartialEq, Message)]
pub struct Expect {
    /// Row key, table number first.
    #[prost(bytes = "bytes", tag = "1")]
    pub row: Bytes,
    /// Timeline of the revision.
    #[prost(uint64, tag = "2")]
    pub timeline: u64,
    /// Log index of the revision.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum WriteKind {
    /// Not a kind.
    Unknown = 0,
    /// Sets the row.
    Put = 1,
    /// Removes the row, if it is there.
    Delete = 2,
    /// Sets a new row whose key `apply` completes with log index and ordinal.
    Append = 3,
}

/// One row to write.
#[derive(Clone, PartialEq, Message)]
pub struct Write {
    /// Kind.
    #[prost(enumeration = "WriteKind", tag = "1")]
    pub kind: i32,
    /// Row key, table number first; for an append its prefix.
    #[prost(bytes = "bytes", tag = "2")]
    pub row: Bytes,
    /// Value; empty for a delete.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
}

/// One entry for the journal.
#[derive(Clone, PartialEq, Message)]
pub struct JournalAppend {
    /// The sealed entry.
    #[prost(bytes = "bytes", tag = "1")]
    pub entry: Bytes,
    /// Keyed hashes (32 bytes each) of subject and facility under which it is found again.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub index: Vec<Bytes>,
}

impl Command {
    /// An empty command of the present format.
    pub fn new(at_ms: u64) -> Command {
        Command { format: COMMAND_FORMAT, at_ms, ..Command::default() }
    }

    /// Adds an expectation, once. Another revision of the same row is another expectation: both cannot be met, and it
    /// is decided anew.
    pub fn expect(&mut self, row: &crate::row::RowKey, revision: Revision) {
        let expect = Expect { row: row.as_bytes().clone(), timeline: revision.timeline, index: revision.index };
        if !self.expects.contains(&expect) {
            self.expects.push(expect);
        }
    }

    /// Adds a put.
    pub fn put(&mut self, row: &crate::row::RowKey, value: impl Into<Bytes>) {
        self.write(WriteKind::Put, row, value.into());
    }

    /// Adds a delete.
    pub fn delete(&mut self, row: &crate::row::RowKey) {
        self.write(WriteKind::Delete, row, Bytes::new());
    }

    /// Adds an append under a prefix.
    pub fn append(&mut self, prefix: &crate::row::RowKey, value: impl Into<Bytes>) {
        self.write(WriteKind::Append, prefix, value.into());
    }

    fn write(&mut self, kind: WriteKind, row: &crate::row::RowKey, value: Bytes) {
        self.writes.push(Write { kind: kind.into(), row: row.as_bytes().clone(), value });
    }
}

/// What became of a command: the same on every member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it took effect, now or (for a remembered request) before.
    Committed(Committed),
    /// Something that the decision used has changed, or its time has passed: decide anew once
    /// `evaluated_at` has been applied.
    Conflict {
        /// Log index at which it was found.
        evaluated_at: u64,
    },
    /// The request's id is older than the window: whether it ever ran is not known any more.
    Expired,
    /// A probe found nothing, and the request can never run any more.
    Absent,
    /// The command can never take effect as it is.
    Refused(Refusal),
}

/// A command that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Revision of everything that it wrote.
    pub revision: Revision,
    /// Position of its first journal entry.
    pub journal_first: u64,
    /// Number of its journal entries.
    pub journal_count: u32,
    /// The sealed receipt, if it is told again: empty for a first time.
    pub receipt: Bytes,
    /// Whether this is an earlier run of the same request.
    pub remembered: bool,
}

/// Why a command can never take effect as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not a command of a known format, or break a bound.
    Malformed = 1,
    /// The same request id came with a different request.
    RequestDiffers = 2,
    /// The request was declared absent by a probe.
    RequestGivenUp = 3,
    /// The day's cap on deletions of keys is reached.
    KeyDeletionCap = 4,
    /// The cluster's own row would lose, change or gain what the recovery key has not signed.
    Timeline = 5,
}

impl Refusal {
    /// The refusal of a number on the wire.
    pub fn from_number(number: u32) -> Option<Refusal> {
        use Refusal::*;
        [Malformed, RequestDiffers, RequestGivenUp, KeyDeletionCap, Timeline].into_iter().find(|r| *r as u32 == number)
    }
}

/// A remembered request as it lies in its row.
#[derive(Clone, PartialEq, Message)]
pub struct RequestRow {
    /// SHA-256 of the request; empty for a tombstone.
    #[prost(bytes = "bytes", tag = "1")]
    pub sha256: Bytes,
    /// Timeline of the outcome.
    #[prost(uint64, tag = "2")]
    pub timeline: u64,
    /// Log index of the outcome.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// First journal position.
    #[prost(uint64, tag = "4")]
    pub journal_first: u64,
    /// Journal entries.
    #[prost(uint32, tag = "5")]
    pub journal_count: u32,
    /// The sealed receipt.
    #[prost(bytes = "bytes", tag = "6")]
    pub receipt: Bytes,
    /// A probe found nothing: the request never ran and never will.
    #[prost(bool, tag = "7")]
    pub absent: bool,
}

/// An outcome as it crosses the wire between members.
#[derive(Clone, PartialEq, Message)]
pub struct OutcomeMessage {
    /// 1 committed, 2 conflict, 3 expired, 4 absent, 5 refused.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Timeline, for committed.
    #[prost(uint64, tag = "2")]
    pub timeline: u64,
    /// Log index: of the revision, or at which a conflict was found.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// First journal position.
    #[prost(uint64, tag = "4")]
    pub journal_first: u64,
    /// Journal entries.
    #[prost(uint32, tag = "5")]
    pub journal_count: u32,
    /// Sealed receipt.
    #[prost(bytes = "bytes", tag = "6")]
    pub receipt: Bytes,
    /// Told again.
    #[prost(bool, tag = "7")]
    pub remembered: bool,
    /// Number of the refusal.
    #[prost(uint32, tag = "8")]
    pub refusal: u32,
}

impl From<&Outcome> for OutcomeMessage {
    fn from(outcome: &Outcome) -> OutcomeMessage {
        let mut message = OutcomeMessage::default();
        match outcome {
            Outcome::Committed(committed) => {
                message.kind = 1;
                message.timeline = committed.revision.timeline;
                message.index = committed.revision.index;
                message.journal_first = committed.journal_first;
                message.journal_count = committed.journal_count;
                message.receipt = committed.receipt.clone();
                message.remembered = committed.remembered;
            }
            Outcome::Conflict { evaluated_at } => {
                message.kind = 2;
                message.index = *evaluated_at;
            }
            Outcome::Expired => message.kind = 3,
            Outcome::Absent => message.kind = 4,
            Outcome::Refused(refusal) => {
                message.kind = 5;
                message.refusal = *refusal as u32;
            }
        }
        message
    }
}

impl TryFrom<OutcomeMessage> for Outcome {
    type Error = UnknownOutcome;

    fn try_from(message: OutcomeMessage) -> Result<Outcome, UnknownOutcome> {
        Ok(match message.kind {
            1 => Outcome::Committed(Committed {
                revision: Revision { timeline: message.timeline, index: message.index },
                journal_first: message.journal_first,
                journal_count: message.journal_count,
                receipt: message.receipt,
                remembered: message.remembered,
            }),
            2 => Outcome::Conflict { evaluated_at: message.index },
            3 => Outcome::Expired,
            4 => Outcome::Absent,
            5 => Outcome::Refused(Refusal::from_number(message.refusal).ok_or(UnknownOutcome)?),
            _ => return Err(UnknownOutcome),
        })
    }
}

/// An outcome of a kind that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an outcome of an unknown kind")]
pub struct UnknownOutcome;
