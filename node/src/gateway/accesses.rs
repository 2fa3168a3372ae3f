//! Who accessed a participant's records: the participant's own list.

use kura_cluster::Pseudonym;
use kura_cluster::consent::{Act, decide};
use kura_cluster::row::{JournalEntry, ReceiptRow};
use kura_cluster::seal::{Domain, Key, index_hash};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::attempt::Attempt;
use super::audit::{actions, name};
use super::caller::CallerRows;
use super::journal::{Filter, Journal, Stretch, View};
use super::list::page;
use super::participant::number;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// One page of the accesses to a participant's records. What narrows it is shown in each entry, so that it tells
    /// nothing more.
    pub async fn accesses(
        &self,
        caller: &Caller,
        request: v1::AccessesRequest,
    ) -> Result<v1::AccessesReply, GatewayError> {
        let number = number(&request.participant)?;
        let filter = Filter {
            since_ms: request.since_ms,
            until_ms: request.until_ms,
            denied_only: request.denied_only,
            concerns: name("facility", &request.facility)?,
            application: name("application", &request.application)?,
            actions: actions(&request.actions)?,
            ..Filter::default()
        };
        let done = self
            .transact(caller, Action::ListAccesses, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let known = attempt.participant(&number)?;
                let facts = rows.facts(attempt.now_ms, Act::ListAccesses, known.as_ref().map(|k| &*k.row), None);
                let decision = decide(&facts);
                let verdict = Verdict::of(decision, |_| {
                    let known = known.ok_or(GatewayError::Damaged { what: "participant" })?;
                    let view = View::Participant { shows_person: rows.settings().accesses_show_person };
                    Ok((subject_hashes(&attempt.vault.keyring().index, &known.pseudonyms()), view))
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let (hashes, view) = done.value.ok_or(GatewayError::Unknown)?;
        let position = done.committed.journal_first;
        let mut reply = tokio::task::block_in_place(|| {
            self.accesses_of(Filter { index: hashes, ..filter }, view, &request, position + 1)
        })?;
        reply.journal_position = position;
        Ok(reply)
    }

    fn accesses_of(
        &self,
        filter: Filter,
        view: View,
        request: &v1::AccessesRequest,
        size: u64,
    ) -> Result<v1::AccessesReply, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let journal = Journal::new(&attempt, &snapshot);
        let before = if request.before == 0 { size } else { request.before.min(size) };
        let (cursor, oldest_first) = (request.after, request.oldest_first);
        let stretch = Stretch { cursor, limit: page(request.limit), oldest_first, before };
        let mut reply = v1::AccessesReply::default();
        let next = journal.page(&filter, stretch, |position, entry| {
            reply.accesses.push(journal.access(position, entry, view)?);
            Ok(())
        })?;
        (reply.last, reply.more) = (next.cursor, next.more);
        Ok(reply)
    }
}

/// Under which keyed hashes a participant's journal entries lie: the own one's, and those of former numbers.
pub fn subject_hashes(index_key: &Key, pseudonyms: &[Pseudonym]) -> Vec<[u8; 32]> {
    let hash = |pseudonym: &Pseudonym| index_hash(index_key, Domain::JournalSubject, &[&pseudonym.0]);
    pseudonyms.iter().map(hash).collect()
}
