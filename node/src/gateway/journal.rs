//! Reading the opened journal: where a time lies, and pages of what passes a filter.
//!
//! Invariants
//! - One page looks at no more than [`SCAN_ENTRIES_MAX`] entries, however few of them pass.
//! - Entries are found by position. The clocks of gateways differ, so positions are only almost in order
//!   of time: by no more than [`DISORDER_MS_MAX`].
//! - Who may see what of an entry is decided here alone, by [`View`].

use kura_cluster::consent::{Basis, Denial};
use kura_cluster::id::Pseudonym;
use kura_cluster::row::{ActorRow, JournalEntry, Participant, RefusedRecord, RowKey, StoredRow, Table};
use kura_cluster::word::{Action, ActorKind};
use kura_proto::v1;

use super::GatewayError;
use super::attempt::{Attempt, broken, damaged, open_journal_entry};
use crate::state::database::Snapshot;

/// Entries that one page opens, at most.
pub const SCAN_ENTRIES_MAX: u64 = 5_000;

/// How much later than an entry before it an entry's time may be said to be earlier. A leader refuses what
/// is more than 10 s off its clock; two leaders' clocks differ by at most 10 s; twice as much is given.
pub const DISORDER_MS_MAX: u64 = 60_000;

/// Rows read at a time.
const SCAN_ROWS: u64 = 256;

/// Which entries are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// At or after this time, if not 0.
    pub since_ms: u64,
    /// Before this time, if not 0.
    pub until_ms: u64,
    /// Only these actions; none: all.
    pub actions: Vec<u32>,
    /// Only the users of this facility, if not empty.
    pub users_of: String,
    /// Only what this facility's users did or what is about it, if not empty.
    pub concerns: String,
    /// Only actors of this name, if not empty.
    pub actor: String,
    /// Only through this application, if not empty.
    pub application: String,
    /// Only denials.
    pub denied_only: bool,
    /// Only positions under one of these keyed hashes of a subject or facility; none: all positions.
    pub index: Vec<[u8; 32]>,
}

/// Which stretch of a list a page is.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// From the oldest on: the next position to look at. From the newest back: the one above it; 0: the end.
    pub cursor: u64,
    /// Entries at most.
    pub limit: usize,
    /// Direction.
    pub oldest_first: bool,
    /// Only positions below this one.
    pub before: u64,
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// As in [`Stretch`].
    pub cursor: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// Whose list it is.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// The participant's: everything about themselves; the person at a facility only if that is shown.
    Participant {
        /// Whether the name of a facility's user is shown.
        shows_person: bool,
    },
    /// A facility's, about its own users. What it was refused tells nothing of the participant.
    Facility,
    /// An auditor's: everything.
    Auditor,
}

/// The journal at one moment.
pub struct Journal<'s> {
    attempt: &'s Attempt<'s>,
    snapshot: &'s Snapshot<'s>,
}

impl<'s> Journal<'s> {
    /// What `snapshot` holds of it.
    pub fn new(attempt: &'s Attempt<'s>, snapshot: &'s Snapshot<'s>) -> Journal<'s> {
        Journal { attempt, snapshot }
    }

    /// Hands one page of entries to `take`, in the order that was asked for.
    pub fn page(
        &self,
        filter: &Filter,
        stretch: Stretch,
        mut take: impl FnMut(u64, JournalEntry) -> Result<(), GatewayError>,
    ) -> Result<Next, GatewayError> {
        let (mut low, mut high) = self.bounds(filter, stretch.before)?;
        match (stretch.oldest_first, stretch.cursor) {
            (true, cursor) => low = low.max(cursor),
            (false, 0) => {}
            (false, cursor) => high = high.min(cursor),
        }
        let (mut looked_at, mut taken) = (0, 0);
        while low < high {
            let found = self.positions(filter, low, high, stretch.oldest_first)?;
            if found.is_empty() {
                break;
            }
            for (position, entry) in found {
                if taken == stretch.limit || looked_at == SCAN_ENTRIES_MAX {
                    return Ok(Next { cursor: if stretch.oldest_first { low } else { high }, more: true });
                }
                looked_at += 1;
                if stretch.oldest_first {
                    low = position + 1
                } else {
                    high = position
                }
                let entry = self.open(position, entry)?;
                if passes(filter, &entry) {
                    take(position, entry)?;
                    taken += 1;
                }
            }
        }
        Ok(Next { cursor: if stretch.oldest_first { high } else { 0 }, more: false })
    }

    /// Positions that can hold what the filter's times ask for: low ≤ position < high.
    fn bounds(&self, filter: &Filter, before: u64) -> Result<(u64, u64), GatewayError> {
        let low = match filter.since_ms {
            0 => 0,
            since_ms => {
                begins(before, since_ms.saturating_sub(DISORDER_MS_MAX), |place| Ok(self.open(place, None)?.at_ms))?
            }
        };
        let high = match filter.until_ms {
            0 => before,
            until_ms => {
                begins(before, until_ms.saturating_add(DISORDER_MS_MAX), |place| Ok(self.open(place, None)?.at_ms))?
            }
        };
        Ok((low, high))
    }

    fn open(&self, position: u64, stored: Option<StoredRow>) -> Result<JournalEntry, GatewayError> {
        let key = RowKey::journal(position);
        let stored = match stored {
            Some(stored) => Some(stored),
            None => self.snapshot.row(&key).map_err(broken)?,
        };
        let opened = stored.and_then(|row| open_journal_entry(&self.attempt.vault, &row.value));
        opened.ok_or_else(|| damaged(&key))
    }

    /// The next positions of a range, with their rows where these were read on the way.
    fn positions(
        &self,
        filter: &Filter,
        low: u64,
        high: u64,
        upwards: bool,
    ) -> Result<Vec<(u64, Option<StoredRow>)>, GatewayError> {
        let rows = usize::try_from(SCAN_ROWS.min(high - low)).unwrap_or(usize::MAX);
        if filter.index.is_empty() {
            let whole = RowKey::whole_table(Table::Journal);
            return self.scan(&whole, RowKey::journal, (low, high), upwards, rows, true);
        }
        // The first of each are enough for the first of all: an entry may lie under several.
        let mut positions = Vec::with_capacity(rows);
        for hash in &filter.index {
            let at = |position| RowKey::journal_index(hash, position);
            positions.extend(self.scan(&RowKey::journal_index_of(hash), at, (low, high), upwards, rows, false)?);
        }
        positions.sort_by_key(|(position, _)| *position);
        positions.dedup_by_key(|(position, _)| *position);
        if !upwards {
            positions.reverse();
        }
        positions.truncate(rows);
        Ok(positions)
    }

    /// The next positions of a range under one prefix.
    fn scan(
        &self,
        prefix: &RowKey,
        at: impl Fn(u64) -> RowKey,
        (low, high): (u64, u64),
        upwards: bool,
        rows: usize,
        with_rows: bool,
    ) -> Result<Vec<(u64, Option<StoredRow>)>, GatewayError> {
        let found = match (upwards, low) {
            (true, 0) => self.snapshot.scan(prefix, None, rows),
            (true, low) => self.snapshot.scan(prefix, Some(&at(low - 1).as_bytes()[..]), rows),
            (false, _) => self.snapshot.scan_back(prefix, Some(&at(high).as_bytes()[..]), rows),
        };
        let mut positions = Vec::with_capacity(rows);
        for (key, row) in found.map_err(broken)? {
            let position = position_at_end(&key).ok_or_else(|| damaged(&key))?;
            if (low..high).contains(&position) {
                positions.push((position, Some(row).filter(|_| with_rows)));
            }
        }
        Ok(positions)
    }

    /// An entry as a list shows it.
    pub fn access(&self, position: u64, entry: JournalEntry, view: View) -> Result<v1::Access, GatewayError> {
        let actor = entry.actor.unwrap_or_default();
        let mut access = v1::Access {
            journal_position: position,
            at_ms: entry.at_ms,
            application: actor.application.clone(),
            actor: Some(stated(actor)),
            action: entry.action,
            record_id: entry.record_id,
            version: entry.version,
            class: entry.class,
            basis: Basis::from_number(entry.basis).map_or("", Basis::word).into(),
            denial: Denial::from_number(entry.denial).map_or("", Denial::word).into(),
            purpose: entry.purpose,
            object: entry.object,
            reason: entry.reason,
            count: entry.count.max(1),
            record_ids: entry.record_ids,
            damaged_record_ids: entry.damaged_record_ids,
            refused_records: entry.refused_records.into_iter().map(|refused| refused_told(refused, view)).collect(),
            salvaged: entry.salvaged.map(|from| v1::SalvagedFrom {
                timeline: from.timeline,
                index: from.index,
                at_ms: from.at_ms,
                by: from.by,
                actor: from.actor.map(stated),
            }),
            ..v1::Access::default()
        };
        match view {
            View::Participant { shows_person } => {
                let then = access.salvaged.as_mut().and_then(|from| from.actor.as_mut());
                let people = access.actor.as_mut().into_iter().chain(then);
                for person in people.filter(|a| !shows_person && a.kind == ActorKind::FacilityUser.number()) {
                    (person.name, person.credential_sha256) = Default::default();
                }
                // The verdict is the participant's to know; the auditor's note is the auditors'.
                if access.action == Action::Review.number() {
                    access.reason.clear();
                }
            }
            View::Facility => match Denial::from_number(entry.denial) {
                // As the call was answered: nobody learns by asking who is enrolled, or what there is.
                Some(denial) if denial.is_uniform() => {
                    access.denial = UNIFORM_WORD.into();
                    (access.class, access.version) = (0, 0);
                }
                Some(denial) => access.denial = denial.as_told().word().into(),
                None if entry.found_nothing => {}
                None => access.participant = self.number(&entry.pseudonym)?,
            },
            View::Auditor => {
                access.participant = self.number(&entry.pseudonym)?;
                access.gateway = entry.gateway;
                access.request_id = entry.request_id;
                access.range_start = entry.range_start;
                access.episode_id = entry.episode_id;
                access.act_id = entry.act_id;
            }
        }
        Ok(access)
    }

    /// The number of an entry's subject; empty if there is none, or no longer.
    fn number(&self, pseudonym: &[u8]) -> Result<String, GatewayError> {
        let Ok(pseudonym) = Pseudonym::from_slice(pseudonym) else { return Ok(String::new()) };
        let row = self.attempt.look::<Participant>(&RowKey::participant(&pseudonym))?;
        Ok(row.value.map(|participant| participant.number.clone()).unwrap_or_default())
    }
}

/// An actor as it was stated.
pub fn stated(actor: ActorRow) -> v1::Actor {
    v1::Actor {
        kind: actor.kind,
        facility: actor.facility,
        name: actor.name,
        method: actor.method,
        authenticated_ms: actor.authenticated_ms,
        credential_sha256: actor.credential_sha256,
    }
}

fn refused_told(refused: RefusedRecord, view: View) -> v1::RefusedAccess {
    let denial = match (Denial::from_number(refused.denial), view) {
        (Some(denial), View::Facility) if denial.is_uniform() => UNIFORM_WORD,
        (denial, _) => denial.map_or("", Denial::word),
    };
    v1::RefusedAccess { record_id: refused.record_id, denial: denial.into() }
}

/// What a facility's list says instead of a reason that is a participant's own business.
pub const UNIFORM_WORD: &str = "refused";

/// Where entries of a time begin among the first `size`: what lies before is older than `at_ms` plus the disorder,
/// what lies from there on is not older than `at_ms` less the disorder. Looks at one entry for each bit of the size.
fn begins(size: u64, at_ms: u64, time_of: impl Fn(u64) -> Result<u64, GatewayError>) -> Result<u64, GatewayError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        if time_of(middle)? < at_ms { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// The journal position at the end of a key of the journal or its index.
pub fn position_at_end(key: &RowKey) -> Option<u64> {
    let bytes = key.as_bytes();
    let at = bytes.len().checked_sub(8)?;
    bytes[at..].try_into().ok().map(u64::from_be_bytes)
}

fn passes(filter: &Filter, entry: &JournalEntry) -> bool {
    let actor = entry.actor.as_ref();
    let is = |wanted: &str, found: Option<&String>| wanted.is_empty() || found.is_some_and(|found| found == wanted);
    let time = entry.at_ms >= filter.since_ms && (filter.until_ms == 0 || entry.at_ms < filter.until_ms);
    let action = filter.actions.is_empty() || filter.actions.contains(&entry.action);
    let user = filter.users_of.is_empty()
        || actor.is_some_and(|a| a.kind == ActorKind::FacilityUser.number() && a.facility == filter.users_of);
    let then = entry.salvaged.as_ref().and_then(|from| from.actor.as_ref());
    let concerns = filter.concerns.is_empty()
        || entry.object == filter.concerns
        || actor.into_iter().chain(then).any(|a| a.facility == filter.concerns);
    let denied = !filter.denied_only || entry.denial != 0;
    time && action
        && user
        && concerns
        && denied
        && is(&filter.actor, actor.map(|a| &a.name))
        && is(&filter.application, actor.map(|a| &a.application))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_that_are_almost_in_order_are_found(
            steps in proptest::collection::vec((0_u64..40_000, 0..=DISORDER_MS_MAX / 2), 0..300), at: prop::sample::Index,
        ) {
            // Positions rise with a true time, of which each clock is off by no more than half the disorder.
            let mut true_ms = DISORDER_MS_MAX;
            let times: Vec<u64> = steps
                .iter()
                .enumerate()
                .map(|(n, (step, off))| {
                    true_ms += step;
                    if n % 2 == 0 { true_ms + off } else { true_ms - off }
                })
                .collect();
            let size = times.len() as u64;
            let asked = if times.is_empty() { 5 } else { times[at.index(times.len())] };
            let found = begins(size, asked, |place| Ok(times[place as usize])).unwrap() as usize;
            prop_assert!(times[..found].iter().all(|time| *time < asked + DISORDER_MS_MAX));
            prop_assert!(times[found..].iter().all(|time| time + DISORDER_MS_MAX >= asked));
        }
    }
}
