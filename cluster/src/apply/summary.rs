//! The state machine's small, always-resident summary.

use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::id::Revision;
use crate::row::{ClusterRow, RowHeader, StoredRow, Table};
use crate::tree::Peaks;

/// How long requests are remembered until the cluster's own row says otherwise.
pub const REQUEST_WINDOW_DEFAULT_MS: u64 = 3_600_000;

/// Key rows that may be deleted in a day until the cluster's own row says otherwise.
pub const KEY_DELETIONS_PER_DAY_DEFAULT: u32 = 20;

/// What a member knows of one table without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableSummary {
    /// Revision of the table's last change.
    pub revision: Revision,
    /// Rows in it.
    pub rows: u64,
    /// Sum of the rows' elements.
    pub digest: Digest,
}

impl TableSummary {
    pub(super) fn replace(&mut self, key: &[u8], before: Option<RowHeader>, after: Option<&StoredRow>) {
        if let Some(before) = before {
            self.digest.subtract(Digest::of_row(key, &before));
            self.rows -= 1;
        }
        if let Some(after) = after {
            self.digest.add(Digest::of_row(key, &after.header));
            self.rows += 1;
            self.revision = after.header.revision;
        }
    }
}

/// The whole of what `apply` keeps beside the rows. Written with every batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The cluster's fence number.
    pub timeline: u64,
    /// Highest gateway clock seen.
    pub clock_ms: u64,
    /// By [`Table::place`].
    pub tables: [TableSummary; Table::ALL.len()],
    /// The journal's tree.
    pub journal: Peaks,
    /// How long requests are remembered.
    pub request_window_ms: u64,
    /// Birth times below this have been forgotten.
    pub forget_from_ms: u64,
    /// Clock at which to look again.
    pub forget_next_ms: u64,
    /// Cap on deletions of key rows.
    pub key_deletions_per_day_max: u32,
    /// Day (of the clock) of the count.
    pub key_deletions_day: u64,
    /// Deletions on that day.
    pub key_deletions: u32,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            timeline: 0,
            clock_ms: 0,
            tables: [TableSummary::default(); Table::ALL.len()],
            journal: Peaks::default(),
            request_window_ms: REQUEST_WINDOW_DEFAULT_MS,
            forget_from_ms: 0,
            forget_next_ms: 0,
            key_deletions_per_day_max: KEY_DELETIONS_PER_DAY_DEFAULT,
            key_deletions_day: 0,
            key_deletions: 0,
        }
    }
}

impl Summary {
    /// What is known of a table.
    pub fn table(&self, table: Table) -> &TableSummary {
        &self.tables[table.place()]
    }

    /// Counts a row's change that no command made: of a restore, offline. The table's own revision stays.
    pub fn replace_row(&mut self, table: Table, key: &[u8], before: Option<RowHeader>, after: Option<&StoredRow>) {
        let counted = &mut self.tables[table.place()];
        let revision = counted.revision;
        counted.replace(key, before, after);
        counted.revision = revision;
    }

    pub(super) fn take_limits(&mut self, row: &ClusterRow) {
        if row.request_window_ms != 0 {
            self.request_window_ms = row.request_window_ms;
        }
        if row.key_deletions_per_day_max != 0 {
            self.key_deletions_per_day_max = row.key_deletions_per_day_max;
        }
    }

    /// The persisted form.
    pub fn encode(&self) -> Vec<u8> {
        SummaryMessage {
            format: FORMAT,
            timeline: self.timeline,
            clock_ms: self.clock_ms,
            tables: self.tables.iter().map(TableMessage::from).collect(),
            journal_size: self.journal.size(),
            journal_peaks: self.journal.hashes().iter().map(|h| Bytes::copy_from_slice(h)).collect(),
            request_window_ms: self.request_window_ms,
            forget_from_ms: self.forget_from_ms,
            forget_next_ms: self.forget_next_ms,
            key_deletions_per_day_max: self.key_deletions_per_day_max,
            key_deletions_day: self.key_deletions_day,
            key_deletions: self.key_deletions,
        }
        .encode_to_vec()
    }

    /// Reads the persisted form. Tables added by a later version are empty in an older summary.
    pub fn decode(bytes: &[u8]) -> Result<Summary, SummaryError> {
        let message = SummaryMessage::decode(bytes).map_err(|_| SummaryError)?;
        if message.format != FORMAT || message.tables.len() > Table::ALL.len() {
            return Err(SummaryError);
        }
        let mut tables = [TableSummary::default(); Table::ALL.len()];
        for (table, message) in tables.iter_mut().zip(&message.tables) {
            *table = message.try_into()?;
        }
        let peaks = message.journal_peaks.iter().map(|h| h[..].try_into().map_err(|_| SummaryError));
        let peaks = peaks.collect::<Result<Vec<[u8; 32]>, _>>()?;
        Ok(Summary {
            timeline: message.timeline,
            clock_ms: message.clock_ms,
            tables,
            journal: Peaks::from_parts(message.journal_size, peaks).ok_or(SummaryError)?,
            request_window_ms: message.request_window_ms,
            forget_from_ms: message.forget_from_ms,
            forget_next_ms: message.forget_next_ms,
            key_deletions_per_day_max: message.key_deletions_per_day_max,
            key_deletions_day: message.key_deletions_day,
            key_deletions: message.key_deletions,
        })
    }
}

/// A summary that is not in a known form: the database is damaged or from the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state's summary is not in a known form")]
pub struct SummaryError;

const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct SummaryMessage {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    timeline: u64,
    #[prost(uint64, tag = "3")]
    clock_ms: u64,
    #[prost(message, repeated, tag = "4")]
    tables: Vec<TableMessage>,
    #[prost(uint64, tag = "5")]
    journal_size: u64,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    journal_peaks: Vec<Bytes>,
    #[prost(uint64, tag = "7")]
    request_window_ms: u64,
    #[prost(uint64, tag = "8")]
    forget_from_ms: u64,
    #[prost(uint64, tag = "9")]
    forget_next_ms: u64,
    #[prost(uint32, tag = "10")]
    key_deletions_per_day_max: u32,
    #[prost(uint64, tag = "11")]
    key_deletions_day: u64,
    #[prost(uint32, tag = "12")]
    key_deletions: u32,
}

#[derive(Clone, PartialEq, Message)]
struct TableMessage {
    #[prost(uint64, tag = "1")]
    timeline: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    rows: u64,
    #[prost(bytes = "bytes", tag = "4")]
    digest: Bytes,
}

impl From<&TableSummary> for TableMessage {
    fn from(table: &TableSummary) -> TableMessage {
        TableMessage {
            timeline: table.revision.timeline,
            index: table.revision.index,
            rows: table.rows,
            digest: Bytes::copy_from_slice(&table.digest.to_bytes()),
        }
    }
}

impl TryFrom<&TableMessage> for TableSummary {
    type Error = SummaryError;

    fn try_from(message: &TableMessage) -> Result<TableSummary, SummaryError> {
        Ok(TableSummary {
            revision: Revision { timeline: message.timeline, index: message.index },
            rows: message.rows,
            digest: Digest::from_bytes(message.digest[..].try_into().map_err(|_| SummaryError)?),
        })
    }
}
