//! Listing what a facility's user may see of a participant's records.
//!
//! Under an emergency what is urgent comes first: the records are gone through twice, and the cursor tells
//! which time it is.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::consent::{Act, Facts, decide, is_urgent, visible};
use kura_cluster::id::RecordId;
use kura_cluster::row::{Participant, ReceiptRow, RecordControl, RowKey, StoredRow, Table};
use kura_cluster::word::{Action, Class};
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::attempt::{Attempt, broken, damaged};
use super::caller::CallerRows;
use super::emergency::{Episode, episode_id};
use super::limits::{ATTEMPTS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use super::participant::{Known, number, record_under};
use super::read::{load_manifest, summary, there};
use super::service::Doing;
use super::transact::Verdict;
use super::unopened::Damaged;
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
    episode: Option<Episode>,
    tables: Vec<Revision>,
}

/// Which records are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// All.
    Only,
    /// Under an emergency, the urgent ones.
    Urgent = 1,
    /// Under an emergency, the others.
    Others = 2,
}

impl Pass {
    fn takes(self, class: u32) -> bool {
        let urgent = Class::from_number(class).is_ok_and(is_urgent);
        match self {
            Pass::Only => true,
            Pass::Urgent => urgent,
            Pass::Others => !urgent,
        }
    }

    fn next(self) -> Option<Pass> {
        (self == Pass::Urgent).then_some(Pass::Others)
    }
}

/// Where a page begins: in which pass, after which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    pass: Pass,
    after: Option<RecordId>,
}

impl Place {
    /// The record's id; under an emergency the pass before it, 1 byte.
    fn parse(cursor: &[u8], in_emergency: bool) -> Result<Place, GatewayError> {
        let id = |id: &[u8]| RecordId::from_slice(id).ok();
        let (length, place) = match (cursor, in_emergency) {
            ([], false) => (16, Some(Place { pass: Pass::Only, after: None })),
            ([], true) => (17, Some(Place { pass: Pass::Urgent, after: None })),
            (rest, false) => (16, id(rest).map(|id| Place { pass: Pass::Only, after: Some(id) })),
            ([1, rest @ ..], true) => (17, id(rest).map(|id| Place { pass: Pass::Urgent, after: Some(id) })),
            ([2, rest @ ..], true) => (17, id(rest).map(|id| Place { pass: Pass::Others, after: Some(id) })),
            (_, true) => (17, None),
        };
        let why = || format!("is no cursor of such a list: it has {} bytes, one of these has {length}", cursor.len());
        place.ok_or_else(|| GatewayError::invalid("after", why()))
    }

    fn cursor(pass: Pass, record: &RecordId) -> Bytes {
        match pass {
            Pass::Only => Bytes::copy_from_slice(&record.0),
            pass => Bytes::from([&[pass as u8][..], &record.0].concat()),
        }
    }
}

/// What a decision on whoever asks rests on, beside the rows of whom it is about.
pub(super) const TABLES: [Table; 4] = [Table::Setting, Table::Application, Table::Facility, Table::User];

impl Gateway {
    /// One page of a participant's records.
    pub async fn list(&self, caller: &Caller, request: v1::ListRequest) -> Result<v1::ListReply, GatewayError> {
        let number = number(&request.participant)?;
        let purpose = Gateway::purpose(caller, request.purpose)?;
        for class in &request.classes {
            kura_cluster::word::Class::from_number(*class).map_err(|e| GatewayError::invalid("classes", e))?;
        }
        let episode = episode_id(&request.episode_id)?;
        let place = Place::parse(&request.after, episode.is_some())?;
        let limit = page(request.limit);
        for _ in 0..ATTEMPTS_MAX {
            let done = self
                .transact(caller, Doing::look(Action::List, episode.as_ref()), None, |attempt| {
                    attempt.entry.purpose = purpose.number();
                    let rows = CallerRows::load(attempt, caller)?;
                    let episode = episode.as_ref().map(|id| Episode::load(attempt, id)).transpose()?;
                    let known = attempt.participant(&number)?;
                    let facts = rows.facts(attempt.now_ms, Act::List, known.as_ref().map(|k| &*k.row), Some(purpose));
                    let decision = decide(&Facts { emergency: episode.as_ref().map(Episode::facts), ..facts });
                    let verdict = Verdict::of(decision, |_| {
                        if let Some(episode) = &episode {
                            episode.mark(&mut attempt.entry);
                        }
                        let known = known.ok_or(GatewayError::Damaged { what: "participant" })?;
                        let tables = TABLES.map(|table| attempt.table_revision(table)).to_vec();
                        let homes = known.pseudonyms();
                        let Known { pseudonym, revision, row: participant } = known;
                        Ok(Listing { pseudonym, homes, participant, revision, rows, episode, tables })
                    })?;
                    Ok((verdict, ReceiptRow::default()))
                })
                .await?;
            let listing = done.value.ok_or(GatewayError::Unknown)?;
            let page = tokio::task::block_in_place(|| self.page(&listing, &request, place, limit))?;
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
        begins: Place,
        limit: usize,
    ) -> Result<Option<v1::ListReply>, GatewayError> {
        let attempt = Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let pseudonym = listing.pseudonym;
        let present = snapshot.row(&RowKey::participant(&pseudonym)).map_err(broken)?.map(|row| row.header.revision);
        let tables_hold =
            TABLES.iter().zip(&listing.tables).all(|(table, then)| attempt.table_revision(*table) == *then);
        let episode_holds = listing.episode.as_ref().map_or(Ok(true), |episode| episode.holds(&snapshot))?;
        if present != Some(listing.revision) || !tables_hold || !episode_holds {
            return Ok(None);
        }
        let facts = Facts {
            emergency: listing.episode.as_ref().map(Episode::facts),
            ..listing.rows.facts(attempt.now_ms, Act::List, Some(&listing.participant), None)
        };
        let (attempt, snapshot, facts) = (&attempt, &snapshot, &facts);
        let gather = Gather { attempt, snapshot, facts, participant: &listing.participant, request, limit };
        let mut reply = v1::ListReply::default();
        let mut place = Some(begins);
        while let Some(Place { pass, after }) = place {
            let (first, mut after) = match after {
                None => (0, None),
                Some(id) => begins_after(snapshot, &listing.homes, &id)?,
            };
            for home in &listing.homes[first..] {
                reply.more = gather.records(pass, home, after.take(), &mut reply)?;
                if reply.more {
                    return Ok(Some(reply));
                }
            }
            place = pass.next().map(|pass| Place { pass, after: None });
        }
        Ok(Some(reply))
    }
}

/// One page in the making.
struct Gather<'p> {
    attempt: &'p Attempt<'p>,
    snapshot: &'p Snapshot<'p>,
    facts: &'p Facts<'p>,
    participant: &'p Participant,
    request: &'p v1::ListRequest,
    limit: usize,
}

impl Gather<'_> {
    /// Adds what lies under one pseudonym after a row; whether the page is full before the end of it.
    fn records(
        &self,
        pass: Pass,
        home: &Pseudonym,
        mut after: Option<RowKey>,
        reply: &mut v1::ListReply,
    ) -> Result<bool, GatewayError> {
        let prefix = RowKey::record_controls(home);
        loop {
            let from = after.as_ref().map(|key| &key.as_bytes()[..]);
            let rows = self.snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
            let ended = rows.len() < SCAN_ROWS;
            for (key, stored) in rows {
                let record_id = record_of(&key)?;
                let seen = self.seen(pass, home, &record_id, (&key, &stored))?;
                after = Some(key);
                let Some(seen) = seen else { continue };
                if reply.records.len() == self.limit {
                    return Ok(true);
                }
                reply.last = Place::cursor(pass, &record_id);
                reply.records.push(self.told(home, &record_id, seen)?);
            }
            if ended {
                return Ok(false);
            }
        }
    }

    /// Whether the list tells of a record, by its control row. Of one that does not open nobody can say whether it was
    /// asked for: it is told, and under an emergency with what is urgent, as it may be.
    fn seen(
        &self,
        pass: Pass,
        home: &Pseudonym,
        record_id: &RecordId,
        (key, stored): (&RowKey, &StoredRow),
    ) -> Result<Option<Seen>, GatewayError> {
        let damaged = (pass != Pass::Others).then_some(Seen::Damaged);
        let control = match open_control(self.attempt, key, stored, home) {
            Ok(control) => Arc::new(control),
            Err(error) if error.is_of_one_row() => return Ok(damaged),
            Err(error) => return Err(error),
        };
        let is_visible =
            |control: &RecordControl| visible(self.facts, Some(record_under(self.participant, home, control))).is_ok();
        let control = match there(self.attempt, home, record_id, control.clone()) {
            Ok(Some(control)) => control,
            Ok(None) => return Ok(None),
            Err(error) if error.is_of_one_row() => return Ok(damaged.filter(|_| is_visible(&control))),
            Err(error) => return Err(error),
        };
        let wanted = pass.takes(control.class) && wanted(self.request, &control);
        Ok((wanted && is_visible(&control)).then_some(Seen::Record(control)))
    }

    fn told(&self, home: &Pseudonym, record_id: &RecordId, seen: Seen) -> Result<v1::RecordSummary, GatewayError> {
        let Seen::Record(control) = seen else { return Ok(Damaged::record().told(record_id)) };
        match load_manifest(self.attempt, home, record_id, control.version) {
            Ok((_, manifest)) => Ok(summary(record_id, &control, &manifest)),
            Err(error) if error.is_of_one_row() => Ok(Damaged::version(&control, control.version).told(record_id)),
            Err(error) => Err(error),
        }
    }
}

/// What of a record a list tells.
enum Seen {
    /// It, by its control row.
    Record(Arc<RecordControl>),
    /// That it is there and does not open.
    Damaged,
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
    stored: &StoredRow,
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
    plain.and_then(|plain| prost::Message::decode(&plain[..]).ok()).ok_or_else(|| attempt.unopened(key, stored))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_one_of_another_list_is_refused() {
        let record = RecordId([7; 16]);
        for (pass, in_emergency) in [(Pass::Only, false), (Pass::Urgent, true), (Pass::Others, true)] {
            let cursor = Place::cursor(pass, &record);
            assert_eq!(Place::parse(&cursor, in_emergency).unwrap(), Place { pass, after: Some(record) });
            assert!(Place::parse(&cursor, !in_emergency).is_err());
        }
        assert_eq!(Place::parse(&[], true).unwrap(), Place { pass: Pass::Urgent, after: None });
        for wrong in [&[3; 17][..], &[0; 17], &[1], &[1; 15], &[1; 18]] {
            let error = Place::parse(wrong, true).unwrap_err();
            assert!(matches!(error, GatewayError::Invalid { field: "after", .. }), "{error}");
        }
    }
}
