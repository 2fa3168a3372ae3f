//! Two replayed states become one: of the tables that go back the rows of the old one, of all others those of the
//! new one.
//!
//! Both lie sorted, so that two cursors beside each other are enough. Left out of the old rows are
//!
//! - uploads that were under way, and their blocks: nobody will end them;
//! - what belongs to a participant of whom the new state has no data key. Records and blocks have the pseudonym in
//!   their key; document ids and inbox rows have it sealed, and are opened if the new state does not have them.
//!
//! A newer document id stays if the control row that it leads to is there: what is sent again under it becomes a version of
//! the same record, which is as hidden, narrowed and held as it was (`gateway::lost`).
//!
//! Remembered requests are forgotten: what they answered may not be there any more.
//!
//! If records do not go back, the old rows are the new ones: of blocks, which are nearly all bytes, only those are read that
//! could be left out, and the first of each participant.
//!
//! Invariants
//! - It is done whole, or again from a state that nothing was merged in: what it counts is of all rows.
//! - Rows keep their revision, so that what is sealed under it opens. Their table's digest is counted along.

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::apply::Summary;
use kura_cluster::id::RecordId;
use kura_cluster::row::{DocumentIdRow, InboxRow, RowHeader, RowKey, StoredRow, Table};
use kura_cluster::seal::{RowContext, RowName, open_row, row};
use prost::Message;

use super::left_out::LeftOut;
use crate::archive::replay::{Event, Tell};
use crate::raft::types::LogId;
use crate::state::database::{Cursor, Progress, Snapshot};
use crate::state::{Database, DatabaseError};
use crate::vault::Vault;

/// Rows written at a time.
const ROWS_MAX: usize = 4096;
/// Bytes of them, about.
const BYTES_MAX: usize = 8 << 20;
/// Row key of an inbox entry without what `apply` completed: table, facility.
const INBOX_PREFIX_BYTES: usize = 33;
/// Bytes of a row key up to and including pseudonym and content id.
const CONTENT_PREFIX_BYTES: usize = 33;
/// Bytes of a pseudonym.
const PSEUDONYM_BYTES: usize = 16;

/// What became of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Rows that are there afterwards.
    pub kept: u64,
    /// Rows that are newer than the target, and left out.
    pub newer: u64,
    /// Rows that came back.
    pub back: u64,
    /// Rows that did not: of participants whose keys are gone.
    pub erased: u64,
    /// Rows of uploads that were under way.
    pub unfinished: u64,
}

/// By table, of those that go back.
pub type Merged = Vec<(Table, Counted)>;

/// The state that is being put together.
pub struct Merger<'m> {
    /// The new state, which is changed.
    pub new: &'m Database,
    /// The old state; `None`: records do not go back.
    pub old: Option<&'m Database>,
    /// Opens what the pseudonym has to be read in.
    pub vault: &'m Vault,
    /// Last applied entry of the new state.
    pub applied: LogId,
    /// Its summary.
    pub summary: Summary,
    /// Restricted records whose bodies are left out; none yet.
    pub left_out: LeftOut,
}

impl Merger<'_> {
    /// Merges. Answers what became of it.
    ///
    /// # Errors
    /// The databases'.
    pub fn run(mut self, tell: Tell<'_>) -> Result<(Summary, Merged, LeftOut), DatabaseError> {
        let new = self.new.snapshot();
        let old = self.old.map(Database::snapshot);
        let mut merged = Merged::new();
        for table in Table::ALL.into_iter().filter(|table| table.goes_back()) {
            tell(Event::Doing(format!("rows of {}", table.word())));
            let counted = self.table(table, &new, old.as_ref().unwrap_or(&new))?;
            merged.push((table, counted));
        }
        self.forget_requests(&new)?;
        self.new.flush()?;
        Ok((self.summary, merged, self.left_out))
    }

    fn table(&mut self, table: Table, new: &Snapshot<'_>, old: &Snapshot<'_>) -> Result<Counted, DatabaseError> {
        let range = ([table.number()], [table.number() + 1]);
        let (mut there, mut then) = (new.cursor(&range.0, &range.1), old.cursor(&range.0, &range.1));
        let mut counted = Counted::default();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut known = Known::default();
        loop {
            let (now, was) = (there.item()?, then.item()?);
            let order = match (&now, &was) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((now, _)), Some((was, _))) => now.cmp(was),
            };
            let in_new = now.filter(|_| order.is_le());
            let mut in_old = was.filter(|_| order.is_ge());
            let mut fate = match &in_old {
                None => Fate::Newer,
                Some((key, _)) if table == Table::DocumentId && in_new != in_old => {
                    // Meanwhile its author may have given it to somebody else's record.
                    self.fate(table, key, false, &then, old, &mut known)?
                }
                Some((key, _)) => self.fate(table, key, in_new.is_some(), &then, old, &mut known)?,
            };
            if table == Table::DocumentId && fate != Fate::Stays && in_new.is_some() && self.leads_somewhere(&there)? {
                (fate, in_old) = (Fate::Stays, None);
            }
            match (fate, &in_new, &in_old) {
                (Fate::Stays, Some((key, now)), Some((_, was))) if now == was => {
                    if table == Table::Block && self.old.is_none() {
                        let next = next_doubtful(key, old)?;
                        there.seek(&next);
                        then.seek(&next);
                        continue;
                    }
                }
                (Fate::Stays, Some(_), None) => {}
                (Fate::Stays, now, Some((key, _))) => {
                    counted.back += 1;
                    if let Some(row) = then.row()? {
                        bytes += row.value.len();
                        batch.push((key.clone(), now.as_ref().map(|(_, header)| *header), Some(row)));
                    }
                }
                (fate, Some((key, header)), _) => {
                    counted.count(fate);
                    batch.push((key.clone(), Some(*header), None));
                }
                (fate, None, _) => counted.count(fate),
            }
            if table == Table::Record {
                self.left_out.pass(&in_new, fate, self.new, self.vault)?;
            }
            if order.is_le() {
                there.advance();
            }
            if order.is_ge() {
                then.advance();
            }
            if batch.len() >= ROWS_MAX || bytes >= BYTES_MAX {
                self.write(table, std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.write(table, batch)?;
        counted.kept = self.summary.table(table).rows;
        Ok(counted)
    }

    /// Whether a row of the old state stays.
    fn fate(
        &self,
        table: Table,
        key: &Bytes,
        is_in_new: bool,
        then: &Cursor<'_>,
        old: &Snapshot<'_>,
        known: &mut Known,
    ) -> Result<Fate, DatabaseError> {
        let pseudonym = match table {
            Table::Staging => return Ok(Fate::Unfinished),
            Table::Block if known.is_unfinished(key, old)? => return Ok(Fate::Unfinished),
            Table::DocumentId | Table::Inbox if is_in_new => return Ok(Fate::Stays),
            Table::DocumentId | Table::Inbox => match then.row()? {
                Some(row) => self.named(table, key, &row),
                None => None,
            },
            _ => key.get(1..17).and_then(|bytes| bytes.try_into().ok()).map(Pseudonym),
        };
        // One whose participant cannot be told does not come back.
        let Some(pseudonym) = pseudonym else { return Ok(Fate::Erased) };
        Ok(if known.has_key(&pseudonym, self.new)? { Fate::Stays } else { Fate::Erased })
    }

    /// Whether the record of a newer document id has a control row, and its participant keys.
    fn leads_somewhere(&self, there: &Cursor<'_>) -> Result<bool, DatabaseError> {
        let (Some((key, _)), Some(row)) = (there.item()?, there.row()?) else { return Ok(false) };
        let Some(row) = self.opened::<DocumentIdRow>(RowName::Full(&key), &row) else { return Ok(false) };
        let (Ok(pseudonym), Ok(record)) = (Pseudonym::from_slice(&row.pseudonym), RecordId::from_slice(&row.record_id))
        else {
            return Ok(false);
        };
        let new = self.new.snapshot();
        Ok(self.new.header(&RowKey::record_control(&pseudonym, &record))?.is_some()
            && !new.keys(&RowKey::participant_keys(&pseudonym), 1)?.is_empty())
    }

    /// The participant in a row that only the registry key opens.
    fn named(&self, table: Table, key: &Bytes, stored: &StoredRow) -> Option<Pseudonym> {
        let pseudonym = match table {
            Table::Inbox => {
                let prefix = RowName::Prefix(key.get(..INBOX_PREFIX_BYTES)?);
                self.opened::<InboxRow>(prefix, stored)?.pseudonym
            }
            _ => self.opened::<DocumentIdRow>(RowName::Full(key), stored)?.pseudonym,
        };
        Pseudonym::from_slice(&pseudonym).ok()
    }

    fn opened<T: Message + Default>(&self, name: RowName<'_>, stored: &StoredRow) -> Option<T> {
        let epoch = self.vault.epoch(row::peek_header(&stored.value).ok()?.key_version)?;
        let context = RowContext {
            cluster_id: &self.vault.cluster_id(),
            name,
            supersedes: stored.header.replaced,
            open_part_sha256: None,
        };
        let plain = open_row(&epoch.registry, epoch.epoch, &context, &stored.value).ok()?;
        T::decode(&plain[..]).ok()
    }

    fn forget_requests(&mut self, new: &Snapshot<'_>) -> Result<(), DatabaseError> {
        let number = Table::Request.number();
        let mut rows = new.cursor(&[number], &[number + 1]);
        let mut batch = Vec::new();
        while let Some((key, header)) = rows.item()? {
            batch.push((key, Some(header), None));
            rows.advance();
            if batch.len() >= ROWS_MAX {
                self.write(Table::Request, std::mem::take(&mut batch))?;
            }
        }
        self.write(Table::Request, batch)
    }

    fn write(
        &mut self,
        table: Table,
        rows: Vec<(Bytes, Option<RowHeader>, Option<StoredRow>)>,
    ) -> Result<(), DatabaseError> {
        for (key, before, after) in &rows {
            self.summary.replace_row(table, key, *before, after.as_ref());
        }
        let progress = Progress { applied: Some(self.applied), membership: None, summary: &self.summary };
        self.new.write(rows.iter().map(|(key, _, row)| (key, row)), &progress)
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Stays,
    Newer,
    Erased,
    Unfinished,
}

impl Counted {
    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Stays => {}
            Fate::Newer => self.newer += 1,
            Fate::Erased => self.erased += 1,
            Fate::Unfinished => self.unfinished += 1,
        }
    }
}

/// Before which key nothing can be left out, after a block that stays: the next block of the same participant that belongs to
/// an upload under way, or the next participant's first.
fn next_doubtful(block: &Bytes, view: &Snapshot<'_>) -> Result<Vec<u8>, DatabaseError> {
    let Some(content) = block.get(1..CONTENT_PREFIX_BYTES) else { return Ok([&block[..], &[0]].concat()) };
    let staging = |rest: &[u8]| [&[Table::Staging.number()], rest].concat();
    let participant = &content[..PSEUDONYM_BYTES];
    let uploads = view.scan(&RowKey::from_bytes(staging(participant).into()), Some(&staging(content)[..]), 1)?;
    if let Some((upload, _)) = uploads.first() {
        return Ok([&[Table::Block.number()], &upload.as_bytes()[1..]].concat());
    }
    let mut next = [&[Table::Block.number()], participant].concat();
    while let Some(last) = next.pop() {
        if let Some(more) = last.checked_add(1) {
            next.push(more);
            break;
        }
    }
    Ok(next)
}

/// What was looked up last: rows of one participant, and of one body, follow each other.
#[derive(Default)]
struct Known {
    participant: Option<(Pseudonym, bool)>,
    content: Option<(Bytes, bool)>,
}

impl Known {
    fn has_key(&mut self, pseudonym: &Pseudonym, new: &Database) -> Result<bool, DatabaseError> {
        if let Some((known, has)) = &self.participant
            && known == pseudonym
        {
            return Ok(*has);
        }
        let has = !new.snapshot().keys(&RowKey::participant_keys(pseudonym), 1)?.is_empty();
        self.participant = Some((*pseudonym, has));
        Ok(has)
    }

    /// Whether a block belongs to an upload that was under way in the old state.
    fn is_unfinished(&mut self, block: &Bytes, old: &Snapshot<'_>) -> Result<bool, DatabaseError> {
        let Some(prefix) = block.get(..CONTENT_PREFIX_BYTES) else { return Ok(false) };
        if let Some((known, is)) = &self.content
            && known == prefix
        {
            return Ok(*is);
        }
        let staging = [&[Table::Staging.number()], &prefix[1..]].concat();
        let is = !old.keys(&RowKey::from_bytes(staging.into()), 1)?.is_empty();
        self.content = Some((block.slice(..CONTENT_PREFIX_BYTES), is));
        Ok(is)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kura_cluster::apply::Batch;
    use kura_cluster::id::ContentId;
    use kura_cluster::timeline::recovery_public_key;

    use super::*;
    use crate::archive::scrub::scrub;
    use crate::identity::NodeIdentity;
    use crate::init::{NewRecovery, first_command};
    use crate::raft::types::{Member, MemberRole, StoredMembership, log_id};
    use crate::state::StateStore;

    const BLOCKS: u32 = 3;

    fn block(participant: u8, content: u8, index: u32) -> RowKey {
        RowKey::block(&Pseudonym([participant; 16]), &ContentId([content; 16]), 0, index)
    }

    /// What is left out does not depend on where it lies among what stays, and which is not looked at.
    #[test]
    fn what_was_under_way_or_is_erased_is_left_out_of_the_newest_state() {
        let folder = tempfile::tempdir().unwrap();
        let (recovery, root) = (NewRecovery::draw("kita").unwrap(), Arc::new(crate::random::key()));
        let identity = NodeIdentity {
            cluster_id: kura_cluster::ClusterId([7; 16]),
            cluster_name: "kita".into(),
            raft_id: 1,
            name: "voter-1".into(),
            timeline: 0,
            recovery_public_key: recovery_public_key(&recovery.keys.timelines),
            membership: StoredMembership::default(),
        };
        let address = "127.0.0.1:1".into();
        let voter = Member {
            name: "voter-1".into(),
            address,
            role: MemberRole::Voter,
            key_sha256: [1; 32],
            next_key_sha256: None,
        };
        let mut command = first_command(&identity, &root, &recovery, &voter, 600_000);
        // The last participant's pseudonym is the last there is.
        let (erased, under_way): (_, [(u8, u8); 5]) = ([0, 4], [(0, 9), (1, 3), (2, 1), (3, 9), (255, 255)]);
        let mut left = Vec::new();
        for participant in [0, 1, 2, 3, 4, 5, 255] {
            let pseudonym = Pseudonym([participant; 16]);
            if !erased.contains(&participant) {
                command.put(&RowKey::participant_key(&pseudonym, 1), vec![participant; 81]);
            }
            for content in [1, 2, 3, 4, 9, 255] {
                let is_under_way = under_way.contains(&(participant, content));
                if is_under_way {
                    let staging = [&[Table::Staging.number()][..], &[participant; 16], &[content; 16]].concat();
                    command.put(&RowKey::from_bytes(staging.into()), vec![1]);
                }
                for index in 0..BLOCKS {
                    let key = block(participant, content, index);
                    command.put(&key, vec![content; 700]);
                    if !is_under_way && !erased.contains(&participant) {
                        left.push(key);
                    }
                }
            }
        }
        let database = Database::open(&folder.path().join("state")).unwrap();
        let mut batch = Batch::new(&database, Summary::default());
        batch.apply(1, &command.encode_to_vec().into()).unwrap();
        let (summary, rows) = batch.finish();
        assert_eq!(summary.request_window_ms, 600_000, "as the cluster was begun");
        let applied = log_id(1, 1);
        let progress = Progress { applied: Some(applied), membership: None, summary: &summary };
        database.write(rows.iter(), &progress).unwrap();
        let store = StateStore::at_rest(database).unwrap();
        let vault = Vault::unseal(root, identity.cluster_id, &store).unwrap();
        let new = store.database();

        let merger = Merger { new: &new, old: None, vault: &vault, applied, summary, left_out: LeftOut::default() };
        let (summary, merged, _) = merger.run(&|_| {}).unwrap();
        let number = Table::Block.number();
        let mut found = Vec::new();
        new.snapshot()
            .walk::<DatabaseError>(&[number], &[number + 1], |key, _| {
                found.push(RowKey::from_bytes(Bytes::copy_from_slice(key)));
                Ok(())
            })
            .unwrap();
        assert_eq!(found, left);
        assert_eq!(scrub(&new, &summary).unwrap(), Vec::<&str>::new());
        let counted = merged.iter().find(|(table, _)| *table == Table::Block).unwrap().1;
        let (blocks, of_erased) = (u64::from(BLOCKS), 2 * 6);
        let expected = Counted {
            kept: left.len() as u64,
            unfinished: blocks * 5,
            erased: blocks * (of_erased - 1),
            ..Counted::default()
        };
        assert_eq!(counted, expected);
    }
}
