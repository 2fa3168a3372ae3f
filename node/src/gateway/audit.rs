//! The journal for auditors, and for facilities what their own users did.

use kura_cluster::consent::{Act, decide};
use kura_cluster::id::{FacilityId, OUTSIDE_ID_BYTES_MAX};
use kura_cluster::row::{JournalEntry, ReceiptRow};
use kura_cluster::seal::{Domain, index_hash};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::accesses::subject_hashes;
use super::attempt::Attempt;
use super::caller::CallerRows;
use super::journal::{Filter, Journal, Stretch, View};
use super::list::page;
use super::participant::number;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};

/// Actions that a list can be narrowed to.
const ACTIONS_MAX: usize = 64;

impl Gateway {
    /// One page of the journal, for an auditor.
    pub async fn list_journal(
        &self,
        caller: &Caller,
        request: v1::JournalRequest,
    ) -> Result<v1::JournalReply, GatewayError> {
        let mut filter = Filter {
            since_ms: request.since_ms,
            until_ms: request.until_ms,
            actions: actions(&request.actions)?,
            actor: name("actor", &request.actor)?,
            application: name("application", &request.application)?,
            denied_only: request.denied_only,
            ..Filter::default()
        };
        let facility = given(&request.facility, FacilityId::parse, "facility")?;
        let participant = if request.participant.is_empty() { None } else { Some(number(&request.participant)?) };
        let done = self
            .transact(caller, Action::ListJournal, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                if let Some(facility) = &facility {
                    attempt.entry.object = facility.reveal().into();
                    attempt.entry_facilities.push(facility.reveal().into());
                }
                // Who asks about a participant is seen by that participant.
                let subject = match &participant {
                    Some(number) => match attempt.participant(number)? {
                        Some(known) => Some(known.pseudonyms()),
                        // The journal of an erased participant stays.
                        None => attempt.erased(number)?,
                    },
                    None => None,
                };
                let verdict = Verdict::of(decide(&rows.facts(attempt.now_ms, Act::ListJournal, None, None)), |_| {
                    let key = &attempt.vault.keyring().index;
                    Ok(match (&participant, subject, &facility) {
                        (Some(_), Some(subject), _) => Which::Indexed(subject_hashes(key, &subject)),
                        (Some(_), None, _) => Which::Nothing,
                        (None, _, Some(facility)) => Which::Indexed(vec![index_hash(
                            key,
                            Domain::JournalFacility,
                            &[facility.reveal().as_bytes()],
                        )]),
                        (None, _, None) => Which::All,
                    })
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let position = done.committed.journal_first;
        filter.index = match done.value.ok_or(GatewayError::Unknown)? {
            Which::Nothing => return Ok(v1::JournalReply { journal_position: position, ..Default::default() }),
            Which::Indexed(hashes) => hashes,
            Which::All => Vec::new(),
        };
        if let (Some(_), Some(facility)) = (&participant, &facility) {
            // One index serves; the other is looked at entry by entry.
            filter.concerns = facility.reveal().into();
        }
        tokio::task::block_in_place(|| self.journal_page(&filter, request.page, position, View::Auditor))
    }

    /// One page of what the users of the actor's facility did.
    pub async fn facility_accesses(
        &self,
        caller: &Caller,
        request: v1::FacilityAccessesRequest,
    ) -> Result<v1::JournalReply, GatewayError> {
        let user = name("user", &request.user)?;
        let done = self
            .transact(caller, Action::FacilityAccesses, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                attempt.entry.object.clone_from(&user);
                let facts = rows.facts(attempt.now_ms, Act::ListFacilityAccesses, None, None);
                let verdict = Verdict::of(decide(&facts), |_| {
                    let facility = rows.facility().map(|facility| facility.id.clone()).unwrap_or_default();
                    let hash = attempt.hash(Domain::JournalFacility, &[&facility]);
                    Ok((facility, hash))
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let (facility, hash) = done.value.ok_or(GatewayError::Unknown)?;
        let filter = Filter {
            since_ms: request.since_ms,
            until_ms: request.until_ms,
            users_of: facility,
            actor: user,
            denied_only: request.denied_only,
            index: vec![hash],
            ..Filter::default()
        };
        let position = done.committed.journal_first;
        tokio::task::block_in_place(|| self.journal_page(&filter, request.page, position, View::Facility))
    }

    /// What lies below the list's own entry.
    fn journal_page(
        &self,
        filter: &Filter,
        asked: Option<v1::JournalPage>,
        journal_position: u64,
        view: View,
    ) -> Result<v1::JournalReply, GatewayError> {
        let asked = asked.unwrap_or_default();
        let before = if asked.before == 0 { journal_position } else { asked.before.min(journal_position) };
        let (cursor, oldest_first) = (asked.cursor, asked.oldest_first);
        let stretch = Stretch { cursor, limit: page(asked.limit), oldest_first, before };
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let journal = Journal::new(&attempt, &snapshot);
        let mut reply = v1::JournalReply { journal_position, ..v1::JournalReply::default() };
        let next = journal.page(filter, stretch, |position, entry| {
            reply.accesses.push(journal.access(position, entry, view)?);
            Ok(())
        })?;
        (reply.cursor, reply.more) = (next.cursor, next.more);
        Ok(reply)
    }
}

/// Which entries can be meant.
enum Which {
    All,
    Indexed(Vec<[u8; 32]>),
    Nothing,
}

pub(super) fn actions(numbers: &[u32]) -> Result<Vec<u32>, GatewayError> {
    if numbers.len() > ACTIONS_MAX {
        return Err(GatewayError::invalid(
            "actions",
            format!("{} are given, the limit is {ACTIONS_MAX}", numbers.len()),
        ));
    }
    let known = |number: &u32| Action::from_number(*number).map(Action::number);
    numbers.iter().map(known).collect::<Result<_, _>>().map_err(|e| GatewayError::invalid("actions", e))
}

fn given<T, E: std::fmt::Display>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    field: &'static str,
) -> Result<Option<T>, GatewayError> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|e| GatewayError::invalid(field, e))
}

/// A name to look for; names of all kinds of actors have the bound of outside ids.
pub(super) fn name(field: &'static str, text: &str) -> Result<String, GatewayError> {
    if text.len() > OUTSIDE_ID_BYTES_MAX {
        return Err(GatewayError::invalid(
            field,
            format!("has {} bytes, the limit is {OUTSIDE_ID_BYTES_MAX}", text.len()),
        ));
    }
    Ok(text.to_owned())
}
