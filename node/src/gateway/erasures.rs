//! Erasure as people meet it: asked for, approved, stopped, shown. What destroys is in [`super::erase`].

use bytes::Bytes;
use kura_cluster::ParticipantNumber;
use kura_cluster::Pseudonym;
use kura_cluster::consent::{Act, Denial, Settings, decide};
use kura_cluster::row::{
    ActorRow, ErasedNumberRow, ErasureRow, JournalEntry, Participant, ReceiptRow, RowKey, StoredRow, Table,
};
use kura_cluster::seal::{Domain, index_hash};
use kura_cluster::word::{Action, ActorKind, ErasureState};
use kura_proto::v1;

use super::attempt::{Attempt, broken, damaged};
use super::caller::{CallerRows, StatedActor};
use super::consents::bounded;
use super::journal::{Filter, Journal, Stretch};
use super::limits::ALIASES_MAX;
use super::list::page;
use super::participant::{Known, number};
use super::rows::Loaded;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// Bytes of an erasure's key: table and pseudonym. Days and spent numbers have others.
const ERASURE_KEY_BYTES: usize = 1 + 16;
/// Rows of erasures read at a time.
const SCAN_ROWS: usize = 256;
/// What is told of an erasure from the journal.
const EVENTS: [Action; 5] =
    [Action::AskErasure, Action::ApproveErasure, Action::StopErasure, Action::Erase, Action::CertifyErasure];
/// Events told at most: an erasure can be asked for and stopped again and again.
const EVENTS_MAX: usize = 256;

/// A participant with every duplicate enrolment that became an alias of theirs.
pub struct Whole {
    /// The participant, with the holds of all of them.
    pub row: Participant,
    /// The pseudonyms, the participant's own first, and the digits of each enrolment's number.
    pub enrolments: Vec<(Pseudonym, String)>,
}

impl Attempt<'_> {
    /// Row key of the mark that a number was an erased participant's.
    pub fn erased_number_key(&self, number: &str) -> RowKey {
        RowKey::erased_number(&self.hash(Domain::ErasedNumber, &["number", number]))
    }

    /// Row key of the mark that a card's serial was an erased participant's.
    pub fn erased_card_key(&self, serial: &str) -> RowKey {
        RowKey::erased_number(&self.hash(Domain::ErasedNumber, &["card", serial]))
    }

    /// The erasure behind a number: of a participant who is there, or of one who is erased. What was looked
    /// at is expected, so that an erasure that begins or ends meanwhile is noticed.
    pub fn erasure_of(
        &mut self,
        number: &ParticipantNumber,
        known: Option<&Known>,
    ) -> Result<Option<(Pseudonym, Loaded<ErasureRow>)>, GatewayError> {
        let pseudonym = match known {
            Some(known) => known.pseudonym,
            None => {
                let key = self.erased_number_key(number.reveal());
                let Some(spent) = self.load::<ErasedNumberRow>(&key)?.value else { return Ok(None) };
                Pseudonym::from_slice(&spent.pseudonym).map_err(|_| damaged(&key))?
            }
        };
        let erasure = self.load::<ErasureRow>(&RowKey::erasure(&pseudonym))?;
        self.entry.pseudonym = Bytes::copy_from_slice(&pseudonym.0);
        Ok(Some((pseudonym, erasure)))
    }

    /// The pseudonyms of the enrolments that were erased with a number, if it is one of theirs.
    pub fn erased(&mut self, number: &ParticipantNumber) -> Result<Option<Vec<Pseudonym>>, GatewayError> {
        Ok(self.erasure_of(number, None)?.map(|(pseudonym, erasure)| {
            let duplicates = erasure.value.iter().flat_map(|row| &row.duplicates);
            let duplicates = duplicates.filter_map(|id| Pseudonym::from_slice(id).ok());
            std::iter::once(pseudonym).chain(duplicates).collect()
        }))
    }

    /// A participant and all their duplicate enrolments; each row is expected.
    pub fn whole(&mut self, pseudonym: &Pseudonym, row: &Participant) -> Result<Whole, GatewayError> {
        let mut whole = Whole { row: row.clone(), enrolments: vec![(*pseudonym, row.number.clone())] };
        let mut waiting = row.aliases.clone();
        while let Some(alias) = waiting.pop() {
            let key = |_| damaged(&RowKey::participant(pseudonym));
            let duplicate = Pseudonym::from_slice(&alias.pseudonym).map_err(key)?;
            if whole.enrolments.iter().any(|(known, _)| *known == duplicate) {
                continue;
            }
            if whole.enrolments.len() > ALIASES_MAX {
                let why = format!("has more than {ALIASES_MAX} duplicate enrolments, the limit");
                return Err(GatewayError::invalid("participant", why));
            }
            if let Some(row) = self.load::<Participant>(&RowKey::participant(&duplicate))?.value {
                whole.row.held_records = whole.row.held_records.saturating_add(row.held_records);
                waiting.extend(row.aliases.iter().cloned());
            }
            whole.enrolments.push((duplicate, alias.number));
        }
        Ok(whole)
    }
}

impl Gateway {
    /// Asks that a participant who has left be erased.
    pub async fn ask_erasure(
        &self,
        caller: &Caller,
        request: v1::AskErasureRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        bounded("evidence", &request.evidence)?;
        self.change_erasure(caller, Action::AskErasure, &asked, &number, &request.evidence, |row, change| {
            *row = ErasureRow {
                pseudonym: row.pseudonym.clone(),
                state: ErasureState::Asked.number(),
                asked_by: Some(change.by),
                asked_ms: change.now_ms,
                evidence: request.evidence.clone(),
                ..ErasureRow::default()
            };
        })
        .await
    }

    /// Approves an erasure: the grace period begins.
    pub async fn approve_erasure(
        &self,
        caller: &Caller,
        request: v1::ApproveErasureRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        self.change_erasure(caller, Action::ApproveErasure, &asked, &number, "", |row, change| {
            row.state = ErasureState::Approved.number();
            row.approved_by = Some(change.by);
            row.approved_ms = change.now_ms;
            row.grace_until_ms = change.now_ms.saturating_add(change.settings.erasure_grace_ms);
        })
        .await
    }

    /// Stops an erasure, as long as the keys are there.
    pub async fn stop_erasure(
        &self,
        caller: &Caller,
        request: v1::StopErasureRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        bounded("reason", &request.reason)?;
        self.change_erasure(caller, Action::StopErasure, &asked, &number, &request.reason, |row, change| {
            row.state = ErasureState::Stopped.number();
            row.stopped_by = Some(change.by);
            row.stopped_ms = change.now_ms;
            row.stop_reason.clone_from(&request.reason);
        })
        .await
    }

    /// One of the three acts; `words` are the evidence of an asking, the reason of a stopping.
    async fn change_erasure(
        &self,
        caller: &Caller,
        action: Action,
        asked: &Asked,
        number: &ParticipantNumber,
        words: &str,
        change: impl Fn(&mut ErasureRow, Change),
    ) -> Result<v1::Receipt, GatewayError> {
        let done = self
            .transact(caller, action, Some(asked), |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let settings = attempt.settings()?;
                let known = attempt.participant(number)?;
                let erasure = attempt.erasure_of(number, known.as_ref())?;
                let whole = known.as_ref().map(|known| attempt.whole(&known.pseudonym, &known.row)).transpose()?;
                let present = erasure.as_ref().and_then(|(_, loaded)| loaded.value.as_deref());
                let act = match action {
                    Action::AskErasure => Act::AskErasure { erasure: present, evidence: words },
                    Action::ApproveErasure => Act::ApproveErasure { erasure: present },
                    _ => {
                        attempt.entry.reason = words.to_owned();
                        Act::StopErasure { erasure: present }
                    }
                };
                let participant = whole.as_ref().map(|whole| &whole.row);
                let decision = decide(&rows.facts(attempt.now_ms, act, participant, None));
                let verdict = Verdict::of(decision, |_| {
                    let (pseudonym, loaded) = erasure.as_ref().ok_or(GatewayError::Damaged { what: "erasure" })?;
                    let mut row = loaded.value.as_deref().cloned().unwrap_or_default();
                    row.pseudonym = Bytes::copy_from_slice(&pseudonym.0);
                    change(&mut row, Change { now_ms: attempt.now_ms, by: caller.asker(), settings });
                    attempt.entry.act_id = row.pseudonym.clone();
                    attempt.put(&RowKey::erasure(pseudonym), loaded.revision, &row);
                    Ok(())
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        // Each step is told as done once it outlives the prefecture: a stop that was lost with it would let the keys
        // be destroyed, and an asking that was lost would leave them.
        Ok(self.receipt(&done, asked, true).await)
    }

    /// How far an erasure has come. Participants see their own until they are erased, registrars and auditors
    /// any.
    pub async fn show_erasure(
        &self,
        caller: &Caller,
        request: v1::ShowErasureRequest,
    ) -> Result<v1::ShowErasureReply, GatewayError> {
        let number = number(&request.participant)?;
        // A participant sees what is kept of them, an office what is in progress.
        let (action, act) = match caller.actor {
            StatedActor::Office(_) => (Action::ShowErasure, Act::ListActs),
            _ => (Action::ShowConsent, Act::ShowConsent),
        };
        let done = self
            .transact(caller, action, None, |attempt| {
                attempt.entry.object = Table::Erasure.word().into();
                let rows = CallerRows::load(attempt, caller)?;
                let known = attempt.participant(&number)?;
                let erasure = attempt.erasure_of(&number, known.as_ref())?;
                if rows.facility().is_some() {
                    return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default()));
                }
                let row = known.as_ref().map(|known| &*known.row);
                let verdict = Verdict::of(decide(&rows.facts(attempt.now_ms, act, row, None)), |_| {
                    let number = row.map(|row| row.number.clone()).unwrap_or_default();
                    let found = erasure.and_then(|(pseudonym, loaded)| Some((pseudonym, loaded.value?)));
                    Ok(found.map(|(pseudonym, row)| (pseudonym, told(&row, number))))
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        let found = done.value.flatten().ok_or(GatewayError::NotFound { what: "an erasure of this participant" })?;
        let (pseudonym, erasure) = found;
        let events = tokio::task::block_in_place(|| self.erasure_events(&pseudonym, journal_position))?;
        let cluster_id = Bytes::copy_from_slice(&self.unsealed()?.cluster_id().0);
        Ok(v1::ShowErasureReply { erasure: Some(erasure), events, cluster_id, journal_position })
    }

    /// What the journal below a position has of an erasure.
    fn erasure_events(&self, pseudonym: &Pseudonym, before: u64) -> Result<Vec<v1::ErasureEvent>, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let journal = Journal::new(&attempt, &snapshot);
        let hash = index_hash(&attempt.vault.keyring().index, Domain::JournalSubject, &[&pseudonym.0]);
        let actions = EVENTS.map(Action::number).to_vec();
        let filter = Filter { actions, index: vec![hash], ..Filter::default() };
        let mut events = Vec::new();
        let mut stretch = Stretch { cursor: 0, limit: EVENTS_MAX, oldest_first: true, before };
        loop {
            let next = journal.page(&filter, stretch, |position, entry| {
                // A refusal changed nothing.
                if entry.denial == 0 {
                    events.push(v1::ErasureEvent {
                        action: entry.action,
                        journal_position: position,
                        at_ms: entry.at_ms,
                        journal_leaf: self.journal_leaf(position),
                    });
                }
                Ok(())
            })?;
            if !next.more || events.len() >= EVENTS_MAX {
                return Ok(events);
            }
            stretch.cursor = next.cursor;
        }
    }

    /// One page of all erasures. For registrars and auditors.
    pub async fn list_erasures(
        &self,
        caller: &Caller,
        request: v1::ListErasuresRequest,
    ) -> Result<v1::ListErasuresReply, GatewayError> {
        if request.state != 0 {
            ErasureState::from_number(request.state).map_err(|e| GatewayError::invalid("state", e))?;
        }
        let after = match request.after.len() {
            0 => None,
            _ => Some(Pseudonym::from_slice(&request.after).map_err(|e| GatewayError::invalid("after", e))?),
        };
        let done = self
            .transact(caller, Action::ListErasures, None, |attempt| {
                attempt.entry.object = Table::Erasure.word().into();
                let rows = CallerRows::load(attempt, caller)?;
                let decision = decide(&rows.facts(attempt.now_ms, Act::ListActs, None, None));
                Ok((Verdict::of(decision, |_| Ok(()))?, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        let limit = page(request.limit);
        let mut reply = v1::ListErasuresReply { journal_position, ..v1::ListErasuresReply::default() };
        tokio::task::block_in_place(|| {
            let attempt = Attempt::begin(self, &JournalEntry::default())?;
            each_erasure(&attempt, after, |attempt, pseudonym, row| {
                if request.state != 0 && row.state != request.state {
                    return Ok(true);
                }
                if reply.erasures.len() == limit {
                    reply.more = true;
                    return Ok(false);
                }
                let participant = attempt.look::<Participant>(&RowKey::participant(&pseudonym))?.value;
                let number = participant.map(|row| row.number.clone()).unwrap_or_default();
                reply.last = Bytes::copy_from_slice(&pseudonym.0);
                reply.erasures.push(told(row, number));
                Ok(true)
            })
        })?;
        Ok(reply)
    }
}

/// What a change of an erasure needs to know.
struct Change {
    now_ms: u64,
    by: ActorRow,
    settings: Settings,
}

/// Hands each erasure to `take`, until it says `false`.
pub fn each_erasure(
    attempt: &Attempt<'_>,
    after: Option<Pseudonym>,
    mut take: impl FnMut(&Attempt<'_>, Pseudonym, &ErasureRow) -> Result<bool, GatewayError>,
) -> Result<(), GatewayError> {
    let snapshot = attempt.database.snapshot();
    let prefix = RowKey::whole_table(Table::Erasure);
    let mut after = after.map(|pseudonym| RowKey::erasure(&pseudonym));
    loop {
        let from = after.as_ref().map(|key| &key.as_bytes()[..]);
        let rows: Vec<(RowKey, StoredRow)> = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, stored) in rows.iter().filter(|(key, _)| key.as_bytes().len() == ERASURE_KEY_BYTES) {
            let row: ErasureRow = attempt.open_scanned(key, stored)?;
            let pseudonym = Pseudonym::from_slice(&key.as_bytes()[1..]).map_err(|_| damaged(key))?;
            if !take(attempt, pseudonym, &row)? {
                return Ok(());
            }
        }
    }
}

fn told(row: &ErasureRow, participant: String) -> v1::Erasure {
    let report = |report: &kura_cluster::row::ErasureReport| v1::ErasureReport {
        member: report.member.clone(),
        raft_id: report.raft_id,
        purged_index: report.purged_index,
        log_compacted: report.log_compacted,
        keys_compacted: report.keys_compacted,
        checkpoints_gone: report.checkpoints_gone,
        at_ms: report.at_ms,
        complete: row.swept_ms != 0 && report.is_complete(row.keys_last_index),
        archive: report.archive.as_ref().map(|held| v1::ErasureArchive {
            index: held.index,
            ledger_index: held.ledger_index,
            keys_gone: row.swept_ms != 0 && held.index >= row.keys_last_index,
            generations: held.generations.clone(),
        }),
    };
    v1::Erasure {
        id: row.pseudonym.clone(),
        participant,
        state: row.state,
        asked_by: row.asked_by.clone().map(person),
        asked_ms: row.asked_ms,
        evidence: row.evidence.clone(),
        approved_by: row.approved_by.clone().map(person),
        approved_ms: row.approved_ms,
        grace_until_ms: row.grace_until_ms,
        stopped_by: row.stopped_by.clone().map(person),
        stopped_ms: row.stopped_ms,
        stop_reason: row.stop_reason.clone(),
        erased_ms: row.erased_ms,
        swept_ms: row.swept_ms,
        keys_last_index: row.keys_last_index,
        reports: row.reports.iter().map(report).collect(),
        exports: row.exports.clone(),
        unreported_members: row.unreported_members.clone(),
        certified_ms: row.certified_ms,
        timeline: row.erased_timeline,
    }
}

fn person(row: ActorRow) -> v1::Actor {
    v1::Actor {
        kind: row.kind,
        facility: row.facility,
        name: row.name,
        method: row.method,
        authenticated_ms: row.authenticated_ms,
        credential_sha256: row.credential_sha256,
    }
}

/// Who the cluster is when it acts by itself.
pub fn cluster_as_actor(name: &str) -> ActorRow {
    ActorRow { kind: ActorKind::Cluster.number(), name: name.to_owned(), ..ActorRow::default() }
}
