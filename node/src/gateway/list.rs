//! Listing what a facility's user may see of a participant's records.

use bytes::Bytes;
use kura_cluster::consent::{Act, RecordFacts, decide, visible};
use kura_cluster::id::RecordId;
use kura_cluster::row::{Participant, ReceiptRow, RecordControl, RowKey, Table};
use kura_cluster::word::Action;
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;
use std::sync::Arc;

use super::attempt::{Attempt, broken, damaged};
use super::caller::CallerRows;
use super::limits::{ATTEMPTS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use super::participant::{Known, number};
use super::read::{load_manifest, summary};
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::state::database::Snapshot;

/// Control rows read at a time.
const SCAN_ROWS: usize = 256;

struct Listing {
    pseudonym: Pseudonym,
    /// Where records lie: under the participant's own pseudonym, then under those of former numbers.
    homes: Vec<Pseudonym>,
    participant: Arc<Participant>,
    revision: Revision,
    rows: CallerRows,
    tables: Vec<Revision>,
}

const TABLES: [Table; 4] = [Table::Setting, Table::Application, Table::Facility, Table::User];

impl Gateway {
    /// One page of a participant's records.
    pub async fn list(&self, caller: &Caller, request: v1::ListRequest) -> Result<v1::ListReply, GatewayError> {
        let number = number(&request.participant)?;
        let purpose = Gateway::purpose(caller, request.purpose)?;
        for class in &request.classes {
            kura_cluster::word::Class::from_number(*class).map_err(|e| GatewayError::invalid("classes", e))?;
        }
        let after = match request.after.len() {
            0 => None,
            16 => Some(request.after.clone()),
            other => return Err(GatewayError::invalid("after", format!("has {other} bytes, a record id has 16"))),
        };
        let limit = page(request.limit);
        for _ in 0..ATTEMPTS_MAX {
            let done = self
                .transact(caller, Action::List, None, |attempt| {
                    attempt.entry.purpose = purpose.number();
                    let rows = CallerRows::load(attempt, caller)?;
                    let known = attempt.participant(&number)?;
                    let facts = rows.facts(attempt.now_ms, Act::List, known.as_ref().map(|k| &*k.row), Some(purpose));
                    let decision = decide(&facts);
                    let verdict = Verdict::of(decision, |_| {
                        let known = known.ok_or(GatewayError::Damaged { what: "participant" })?;
                        let tables = TABLES.map(|table| attempt.table_revision(table)).to_vec();
                        let homes = known.pseudonyms();
                        let Known { pseudonym, revision, row: participant } = known;
                        Ok(Listing { pseudonym, homes, participant, revision, rows, tables })
                    })?;
                    Ok((verdict, ReceiptRow::default()))
                })
                .await?;
            let listing = done.value.ok_or(GatewayError::Unknown)?;
            let page = tokio::task::block_in_place(|| self.page(&listing, &request, after.as_ref(), limit))?;
            if let Some(mut reply) = page {
                reply.journal_position = done.committed.journal_first;
                return Ok(reply);
            }
        }
        Err(GatewayError::Contended)
    }

    /// Reads one page from one view; `None` if what was decided on has changed before that view.
    fn page(
        &self,
        listing: &Listing,
        request: &v1::ListRequest,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Option<v1::ListReply>, GatewayError> {
        let attempt = Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let pseudonym = listing.pseudonym;
        let present = snapshot.row(&RowKey::participant(&pseudonym)).map_err(broken)?.map(|row| row.header.revision);
        let tables_hold =
            TABLES.iter().zip(&listing.tables).all(|(table, then)| attempt.table_revision(*table) == *then);
        if present != Some(listing.revision) || !tables_hold {
            return Ok(None);
        }
        let facts = listing.rows.facts(attempt.now_ms, Act::List, Some(&listing.participant), None);
        let mut reply = v1::ListReply::default();
        let last = after.and_then(|id| RecordId::from_slice(id).ok());
        let (first, mut after) = match last {
            None => (0, None),
            Some(id) => begins_after(&snapshot, &listing.homes, &id)?,
        };
        for pseudonym in &listing.homes[first..] {
            let prefix = RowKey::record_controls(pseudonym);
            let mut from = after.take();
            loop {
                let rows =
                    snapshot.scan(&prefix, from.as_ref().map(|key| &key.as_bytes()[..]), SCAN_ROWS).map_err(broken)?;
                let ended = rows.len() < SCAN_ROWS;
                for (key, stored) in rows {
                    let control = open_control(&attempt, &key, &stored, pseudonym)?;
                    let record_id = record_of(&key)?;
                    from = Some(key);
                    let record = Some(RecordFacts { control: &control });
                    if !wanted(request, &control) || visible(&facts, record).is_err() {
                        continue;
                    }
                    if reply.records.len() == limit {
                        reply.more = true;
                        return Ok(Some(reply));
                    }
                    let (_, manifest) = load_manifest(&attempt, pseudonym, &record_id, control.version)?;
                    reply.last = Bytes::copy_from_slice(&record_id.0);
                    reply.records.push(summary(&record_id, &control, &manifest));
                }
                if ended {
                    break;
                }
            }
        }
        Ok(Some(reply))
    }
}

/// Where a list goes on after a record: in which of the places, and after which row.
fn begins_after(
    snapshot: &Snapshot<'_>,
    homes: &[Pseudonym],
    last: &RecordId,
) -> Result<(usize, Option<RowKey>), GatewayError> {
    for (place, home) in homes.iter().enumerate().skip(1) {
        let key = RowKey::record_control(home, last);
        if snapshot.row(&key).map_err(broken)?.is_some() {
            return Ok((place, Some(key)));
        }
    }
    Ok((0, homes.first().map(|own| RowKey::record_control(own, last))))
}

fn open_control(
    attempt: &Attempt<'_>,
    key: &RowKey,
    stored: &kura_cluster::row::StoredRow,
    pseudonym: &Pseudonym,
) -> Result<RecordControl, GatewayError> {
    use kura_cluster::seal::{RowContext, RowName};
    let cluster_id = attempt.vault.cluster_id();
    let context = RowContext {
        cluster_id: &cluster_id,
        name: RowName::Full(key.as_bytes()),
        supersedes: stored.header.replaced,
        open_part_sha256: None,
    };
    let plain = attempt.open_data(pseudonym, &context, &stored.value);
    plain.and_then(|plain| prost::Message::decode(&plain[..]).ok()).ok_or_else(|| damaged(key))
}

/// The record id in a control row's key: table byte, pseudonym, record id.
fn record_of(key: &RowKey) -> Result<RecordId, GatewayError> {
    key.as_bytes().get(17..33).and_then(|id| RecordId::from_slice(id).ok()).ok_or_else(|| damaged(key))
}

fn wanted(request: &v1::ListRequest, control: &RecordControl) -> bool {
    let class = request.classes.is_empty() || request.classes.contains(&control.class);
    let (since, until) = (request.since_day, request.until_day);
    let period = (since, until) == (0, 0) || (since..=until).contains(&control.clinical_day);
    let author = request.author_facility.is_empty() || control.author_facility == request.author_facility;
    class && period && author
}

/// Rows of a page, within bounds.
pub fn page(asked: u32) -> usize {
    let rows = if asked == 0 { PAGE_ROWS_DEFAULT } else { asked.min(PAGE_ROWS_MAX) };
    rows as usize
}

/// The pseudonym in a key that ends with one.
pub fn pseudonym_at_end(key: &RowKey) -> Option<Pseudonym> {
    let bytes = key.as_bytes();
    bytes.len().checked_sub(16).and_then(|at| Pseudonym::from_slice(&bytes[at..]).ok())
}
