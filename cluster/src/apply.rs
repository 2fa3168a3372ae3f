//! The state machine: blind, deterministic, the same few lines on every member.
//!
//! A [`Batch`] applies commands one after the other over a [`View`] of what the database holds,
//! keeping what they write in an overlay, so that a command sees all writes before it. The caller
//! then makes overlay, summary and applied index durable at once.
//!
//! Invariants
//! - The outcome and every written byte depend only on the summary, the rows and the command.
//! - A command takes effect whole or not at all: everything that can stop it is checked before the
//!   first write.
//! - The clock ([`Summary::clock_ms`]) never runs backwards.
//! - Rows that `apply` alone writes (journal, its index and tree, requests) cannot be touched by a
//!   command's writes.
//! - A view's error is not an outcome: it stops the member.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::command::{
    COMMAND_BYTES_MAX, COMMAND_FORMAT, COMMAND_ITEMS_MAX, Command, Committed, Outcome, Refusal, RequestRow, WriteKind,
};
use crate::id::Revision;
use crate::row::{ClusterRow, ROW_KEY_BYTES_MAX, RowHeader, RowKey, StoredRow, Table};
use crate::timeline::check_successor;
use crate::tree;

mod summary;

pub use summary::{Summary, SummaryError, TableSummary};

/// Remembered requests that one command may forget on its way.
pub const FORGET_ROWS_MAX: usize = 64;

/// How often, by the replicated clock, old requests are looked for.
pub const FORGET_INTERVAL_MS: u64 = 1_000;

/// Keyed hashes under which one journal entry can be found again.
pub const JOURNAL_INDEX_MAX: usize = 8;

const DAY_MS: u64 = 86_400_000;

/// What the database holds at the last durable batch.
pub trait View {
    /// Why the database could not answer; it stops the member.
    type Error;

    /// Revision and value hash of a row.
    fn header(&self, row: &[u8]) -> Result<Option<RowHeader>, Self::Error>;

    /// A whole row.
    fn row(&self, row: &[u8]) -> Result<Option<StoredRow>, Self::Error>;

    /// Keys of rows with `from ≤ key < to`, ascending, at most `limit`.
    fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, Self::Error>;
}

/// A batch of commands being applied.
pub struct Batch<'a, V> {
    view: &'a V,
    summary: Summary,
    /// `None` is a deleted row. In the order of the keys, as a database likes to be given them.
    rows: BTreeMap<Bytes, Option<StoredRow>>,
    /// Tables with rows in `rows`, a bit each by [`Table::place`]: most expectations are on others, and need no search.
    written: u64,
    /// What the view said of rows that this batch asked for: a row is expected, then put.
    asked: HashMap<Bytes, Option<RowHeader>>,
}

impl<'a, V: View> Batch<'a, V> {
    /// A batch on top of what `view` holds, of which `summary` is the summary.
    pub fn new(view: &'a V, summary: Summary) -> Batch<'a, V> {
        Batch { view, summary, rows: BTreeMap::new(), written: 0, asked: HashMap::new() }
    }

    /// Everything to be made durable: the new summary, and rows to set (`Some`) or delete (`None`).
    pub fn finish(self) -> (Summary, BTreeMap<Bytes, Option<StoredRow>>) {
        (self.summary, self.rows)
    }

    /// The summary so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Rows written so far.
    pub fn rows_written(&self) -> usize {
        self.rows.len()
    }

    /// Applies the entry at a log index. `index` must rise from call to call.
    pub fn apply(&mut self, index: u64, encoded: &Bytes) -> Result<Outcome, V::Error> {
        match decode(encoded) {
            Some(command) => self.run(index, &command, None),
            None => Ok(Outcome::Refused(Refusal::Malformed)),
        }
    }

    /// Applies an entry of an archive that lacks the values of key rows: `value_sha256s` are their hashes, in
    /// the order of the command's puts into tables that hold keys. Same outcome and same digests as the
    /// whole command's ([`crate::archive::strip`]).
    pub fn apply_stripped(
        &mut self,
        index: u64,
        encoded: &Bytes,
        value_sha256s: &[[u8; 32]],
    ) -> Result<Outcome, V::Error> {
        match decode(encoded) {
            Some(command) if command.writes.iter().filter(|w| puts_key(w)).count() == value_sha256s.len() => {
                self.run(index, &command, Some(value_sha256s))
            }
            _ => Ok(Outcome::Refused(Refusal::Malformed)),
        }
    }

    fn run(&mut self, index: u64, command: &Command, stripped: Option<&[[u8; 32]]>) -> Result<Outcome, V::Error> {
        self.summary.clock_ms = self.summary.clock_ms.max(command.at_ms);
        if let Some(known) = self.remembered(command)? {
            return Ok(known);
        }
        if command.probe {
            self.leave_tombstone(index, command);
            return Ok(Outcome::Absent);
        }
        if command.valid_until_ms != 0 && self.summary.clock_ms > command.valid_until_ms {
            return Ok(Outcome::Conflict { evaluated_at: index });
        }
        if !self.expectations_hold(command)? {
            return Ok(Outcome::Conflict { evaluated_at: index });
        }
        if !self.cluster_row_follows(command)? {
            return Ok(Outcome::Refused(Refusal::Timeline));
        }
        if !self.count_key_deletions(command) {
            return Ok(Outcome::Refused(Refusal::KeyDeletionCap));
        }
        let committed = self.write(index, command, stripped)?;
        self.forget_old_requests()?;
        Ok(Outcome::Committed(committed))
    }

    fn header(&mut self, row: &Bytes) -> Result<Option<RowHeader>, V::Error> {
        let is_written = table_of(row).is_some_and(|table| self.written & bit(table) != 0);
        if is_written && let Some(pending) = self.rows.get(row) {
            return Ok(pending.as_ref().map(|r| r.header));
        }
        if let Some(answer) = self.asked.get(row) {
            return Ok(*answer);
        }
        let answer = self.view.header(row)?;
        self.asked.insert(row.clone(), answer);
        Ok(answer)
    }

    fn set(&mut self, table: Table, key: Bytes, row: Option<StoredRow>) {
        self.written |= bit(table);
        self.rows.insert(key, row);
    }

    fn row(&self, row: &[u8]) -> Result<Option<StoredRow>, V::Error> {
        match self.rows.get(row) {
            Some(pending) => Ok(pending.clone()),
            None => self.view.row(row),
        }
    }

    /// The outcome of a request that was seen before or is too old to be told apart.
    fn remembered(&self, command: &Command) -> Result<Option<Outcome>, V::Error> {
        let Some(request) = &command.request else { return Ok(None) };
        if born_ms(&request.row) < self.summary.clock_ms.saturating_sub(self.summary.request_window_ms) {
            return Ok(Some(Outcome::Expired));
        }
        let Some(stored) = self.row(&request.row)? else { return Ok(None) };
        let Ok(known) = RequestRow::decode(stored.value) else {
            return Ok(Some(Outcome::Refused(Refusal::Malformed)));
        };
        Ok(Some(match (known.absent, command.probe) {
            (true, true) => Outcome::Absent,
            (true, false) => Outcome::Refused(Refusal::RequestGivenUp),
            (false, false) if known.sha256 != request.sha256 => Outcome::Refused(Refusal::RequestDiffers),
            (false, _) => Outcome::Committed(Committed {
                revision: Revision { timeline: known.timeline, index: known.index },
                journal_first: known.journal_first,
                journal_count: known.journal_count,
                receipt: known.receipt,
                remembered: true,
            }),
        }))
    }

    fn leave_tombstone(&mut self, index: u64, command: &Command) {
        let Some(request) = &command.request else { return };
        let row = RequestRow { absent: true, ..RequestRow::default() };
        self.put_new(index, request.row.clone(), row.encode_to_vec().into());
    }

    fn expectations_hold(&mut self, command: &Command) -> Result<bool, V::Error> {
        for expect in &command.expects {
            let expected = Revision { timeline: expect.timeline, index: expect.index };
            let found = match *expect.row {
                [number] => Table::from_number(number).map(|t| self.summary.tables[t.place()].revision),
                _ => self.header(&expect.row)?.map(|h| h.revision),
            };
            if found.unwrap_or(Revision::ABSENT) != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what a command does to the cluster's own row is what the recovery key has signed.
    fn cluster_row_follows(&self, command: &Command) -> Result<bool, V::Error> {
        let mut writes = command.writes.iter().filter(|w| table_of(&w.row) == Some(Table::Cluster)).peekable();
        if writes.peek().is_none() {
            return Ok(true);
        }
        let key = RowKey::cluster();
        let mut before = match self.row(key.as_bytes())? {
            Some(stored) => match ClusterRow::decode(stored.value) {
                Ok(row) => Some(row),
                Err(_) => return Ok(false),
            },
            None => None,
        };
        for write in writes {
            let put = write.kind() == WriteKind::Put && write.row == *key.as_bytes();
            let Some(after) = ClusterRow::decode(write.value.clone()).ok().filter(|_| put) else { return Ok(false) };
            if check_successor(before.as_ref(), &after).is_err() {
                return Ok(false);
            }
            before = Some(after);
        }
        Ok(true)
    }

    /// Counts deletions of key rows against the day's cap; `false` if it would be passed.
    fn count_key_deletions(&mut self, command: &Command) -> bool {
        let deletes_key = |w: &&crate::command::Write| {
            w.kind() == WriteKind::Delete && table_of(&w.row).is_some_and(Table::holds_keys)
        };
        let more = u32::try_from(command.writes.iter().filter(deletes_key).count()).unwrap_or(u32::MAX);
        if more == 0 {
            return true;
        }
        let day = self.summary.clock_ms / DAY_MS;
        let today = if self.summary.key_deletions_day == day { self.summary.key_deletions } else { 0 };
        match today.checked_add(more) {
            Some(sum) if sum <= self.summary.key_deletions_per_day_max => {
                (self.summary.key_deletions_day, self.summary.key_deletions) = (day, sum);
                true
            }
            _ => false,
        }
    }

    fn write(&mut self, index: u64, command: &Command, stripped: Option<&[[u8; 32]]>) -> Result<Committed, V::Error> {
        let revision = Revision { timeline: self.summary.timeline, index };
        let mut hashes = stripped.into_iter().flatten();
        for (ordinal, write) in (0_u32..).zip(&command.writes) {
            match write.kind() {
                WriteKind::Put => {
                    let value_sha256 = if puts_key(write) { hashes.next() } else { None };
                    self.put(index, write.row.clone(), write.value.clone(), value_sha256)?;
                }
                WriteKind::Delete => self.delete(index, &write.row)?,
                WriteKind::Append => {
                    let key = [&write.row[..], &index.to_be_bytes(), &ordinal.to_be_bytes()].concat();
                    self.put_new(index, key.into(), write.value.clone());
                }
                // `decode` lets no other kind through.
                WriteKind::Unknown => {}
            }
        }
        let journal_first = self.summary.journal.size();
        for entry in &command.journal {
            self.append_to_journal(index, entry);
        }
        let committed = Committed {
            revision,
            journal_first,
            journal_count: u32::try_from(command.journal.len()).unwrap_or(u32::MAX),
            receipt: Bytes::new(),
            remembered: false,
        };
        if let Some(request) = &command.request {
            let row = RequestRow {
                sha256: request.sha256.clone(),
                timeline: revision.timeline,
                index,
                journal_first,
                journal_count: committed.journal_count,
                receipt: request.receipt.clone(),
                absent: false,
            };
            // `remembered` has found no such row.
            self.put_new(index, request.row.clone(), row.encode_to_vec().into());
        }
        Ok(committed)
    }

    fn append_to_journal(&mut self, index: u64, entry: &crate::command::JournalAppend) {
        let position = self.summary.journal.size();
        let mut nodes = Vec::new();
        self.summary.journal.append(tree::leaf_hash(&entry.entry), |node| nodes.push(node));
        self.put_new(index, RowKey::journal(position).as_bytes().clone(), entry.entry.clone());
        for hash in &entry.index {
            self.put_new(index, RowKey::journal_index(hash, position).as_bytes().clone(), Bytes::new());
        }
        for node in nodes {
            let key = RowKey::journal_tree(node.level, node.index);
            self.put_new(index, key.as_bytes().clone(), Bytes::copy_from_slice(&node.hash));
        }
    }

    /// Puts a row of which it is known that it is not there: its key is new by construction, or was
    /// just looked for. Saves the lookup.
    fn put_new(&mut self, index: u64, key: Bytes, value: Bytes) {
        let Some(table) = table_of(&key) else { return };
        let row = StoredRow::new(Revision { timeline: self.summary.timeline, index }, Revision::ABSENT, value);
        self.summary.tables[table.place()].replace(&key, None, Some(&row));
        self.set(table, key, Some(row));
    }

    /// Puts a row; `stripped` is the hash of a value that is not at hand.
    fn put(&mut self, index: u64, key: Bytes, value: Bytes, stripped: Option<&[u8; 32]>) -> Result<(), V::Error> {
        let Some(table) = table_of(&key) else { return Ok(()) };
        if table == Table::Cluster
            && let Ok(row) = ClusterRow::decode(value.clone())
        {
            self.summary.take_limits(&row);
        }
        let before = self.header(&key)?;
        let replaced = before.map_or(Revision::ABSENT, |header| header.revision);
        let revision = Revision { timeline: self.summary.timeline, index };
        let row = match stripped {
            Some(value_sha256) => StoredRow::stripped(revision, replaced, *value_sha256),
            None => StoredRow::new(revision, replaced, value),
        };
        self.summary.tables[table.place()].replace(&key, before, Some(&row));
        self.set(table, key, Some(row));
        Ok(())
    }

    fn delete(&mut self, index: u64, key: &Bytes) -> Result<(), V::Error> {
        let (Some(table), Some(before)) = (table_of(key), self.header(key)?) else { return Ok(()) };
        let summary = &mut self.summary.tables[table.place()];
        summary.replace(key, Some(before), None);
        // A deletion changes the table too: expectations on the whole table must notice it.
        summary.revision = Revision { timeline: self.summary.timeline, index };
        self.set(table, key.clone(), None);
        Ok(())
    }

    /// The first keys of a range, as if the overlay had been written: which rows are forgotten must
    /// not depend on where a member happened to cut its batches.
    fn oldest_keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, V::Error> {
        let pending = || self.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let deleted = pending().filter(|(_, row)| row.is_none()).count();
        let mut keys = self.view.keys(from, to, limit + deleted)?;
        keys.retain(|key| !self.rows.contains_key(key));
        keys.extend(pending().filter(|(_, row)| row.is_some()).map(|(key, _)| key.clone()));
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(keys)
    }

    /// Forgets requests older than the window, a bounded number at a time.
    fn forget_old_requests(&mut self) -> Result<(), V::Error> {
        let summary = &self.summary;
        if summary.clock_ms < summary.forget_next_ms {
            return Ok(());
        }
        let floor_ms = summary.clock_ms.saturating_sub(summary.request_window_ms);
        let from = request_bound(summary.forget_from_ms);
        let to = request_bound(floor_ms);
        let old = self.oldest_keys(&from, &to, FORGET_ROWS_MAX)?;
        let all = old.len() < FORGET_ROWS_MAX;
        for key in &old {
            let Some(before) = self.header(key)? else { continue };
            self.summary.tables[Table::Request.place()].replace(key, Some(before), None);
            self.set(Table::Request, key.clone(), None);
        }
        if all {
            self.summary.forget_from_ms = floor_ms;
            self.summary.forget_next_ms = self.summary.clock_ms.saturating_add(FORGET_INTERVAL_MS);
        }
        Ok(())
    }
}

/// A table's bit among all.
fn bit(table: Table) -> u64 {
    const { assert!(Table::ALL.len() <= 64) };
    1 << table.place()
}

/// The clock of a command, as `apply` takes it; `None` of one that it refuses as malformed.
pub fn clock_of(encoded: &Bytes) -> Option<u64> {
    decode(encoded).map(|command| command.at_ms)
}

/// Decodes a command and checks everything that does not depend on state.
pub(crate) fn decode(encoded: &Bytes) -> Option<Command> {
    if encoded.len() > COMMAND_BYTES_MAX {
        return None;
    }
    let command = Command::decode(encoded.clone()).ok()?;
    let items = command.expects.len().max(command.writes.len()).max(command.journal.len());
    let shape =
        command.format == COMMAND_FORMAT && items <= COMMAND_ITEMS_MAX && (!command.probe || command.request.is_some());
    let expects = command.expects.iter().all(|e| is_row(&e.row, 1));
    let writes = command.writes.iter().all(|w| {
        let allowed = table_of(&w.row).is_some_and(|table| match w.kind() {
            // A row that `apply` completes is put without looking for it: nobody else may put one.
            WriteKind::Put => table.is_written_by_commands() && !table.is_appended_by_commands(),
            WriteKind::Delete => table.is_written_by_commands(),
            WriteKind::Append => table.is_appended_by_commands(),
            WriteKind::Unknown => false,
        });
        allowed && is_row(&w.row, 2)
    });
    // No hash twice: the rows of a position's index are put without looking for them.
    let journal = command.journal.iter().all(|j| {
        let distinct = (1..j.index.len()).all(|i| !j.index[..i].contains(&j.index[i]));
        j.index.len() <= JOURNAL_INDEX_MAX && distinct && j.index.iter().all(|hash| hash.len() == 32)
    });
    let request = command
        .request
        .iter()
        .all(|r| table_of(&r.row) == Some(Table::Request) && r.row.len() == 41 && r.sha256.len() == 32);
    (shape && expects && writes && journal && request).then_some(command)
}

/// Whether a write puts a row that holds a wrapped key.
pub(crate) fn puts_key(write: &crate::command::Write) -> bool {
    write.kind() == WriteKind::Put && table_of(&write.row).is_some_and(Table::holds_keys)
}

fn table_of(row: &[u8]) -> Option<Table> {
    Table::from_number(*row.first()?)
}

fn is_row(row: &[u8], shortest: usize) -> bool {
    // Twelve bytes are left for what an append adds.
    row.len() >= shortest && row.len() <= ROW_KEY_BYTES_MAX - 12 && table_of(row).is_some()
}

/// Birth time in a request's row key.
fn born_ms(row: &[u8]) -> u64 {
    row.get(1..9).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn request_bound(ms: u64) -> Vec<u8> {
    [&[Table::Request.number()][..], &ms.to_be_bytes()].concat()
}

/// One digest over all tables' digests and the journal's root: what members compare.
pub fn state_digest(summary: &Summary) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(summary.timeline.to_be_bytes());
    for table in &summary.tables {
        hash.update(table.rows.to_be_bytes());
        hash.update(table.digest.to_bytes());
    }
    hash.update(summary.journal.root());
    hash.finalize().into()
}

#[cfg(test)]
mod digest;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod tests;
