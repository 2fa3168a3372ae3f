//! Carrying erasures out, as the cluster: destroy the keys, sweep the rows, gather the members' reports,
//! certify.
//!
//! Invariants
//! - How far an erasure has come is read from rows alone, at each step anew: a gateway that is cut off at any
//!   point is followed by another that goes on there.
//! - Keys, numbers, present cards and the participant rows go in one command, which is small whatever there was of
//!   the participant. From then on nothing is found under the number, and whatever was decided before conflicts. Cards
//!   that were replaced tell nothing anyway, and are swept.
//! - Keys are destroyed only with room on the disk for what follows.
//! - Each sweeping command is bounded. Uploads go first: who still uploads gets a conflict and adds no block.
//! - It is certified only on answers that every present member gave after everything was swept, in one look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use kura_cluster::command::Refusal;
use kura_cluster::consent::{Act, Actor, Basis, Decision, Denial, Facts, Settings, decide, japan_day};
use kura_cluster::row::{
    CardRow, ERASURE_NAMES_MAX, ErasedNumberRow, ErasureDayRow, ErasureReport, ErasureRow, JournalEntry, LinkRow,
    MemberRow, Participant, RowKey, Table,
};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, ErasureState};
use kura_cluster::{Outcome, ParticipantNumber, Pseudonym, Revision};
use prost::Message;

use super::attempt::{Attempt, broken, damaged};
use super::cards::card_key;
use super::erasures::{cluster_as_actor, each_erasure};
use super::limits::{PROPOSE_TIMEOUT, STAGE_COMMAND_ROWS};
use super::{Gateway, GatewayError};
use crate::clear::{ArchiveHolds, Cleared};
use crate::raft::types::NodeId;

/// Rows of a whole table looked at in one page.
const SCAN_ROWS: usize = 1024;
/// Tables whose keys begin with the pseudonym, in the order in which they are swept.
const UNDER_PSEUDONYM: [Table; 5] =
    [Table::Staging, Table::Block, Table::Record, Table::RecordControl, Table::ConsentHistory];

/// An erasure that is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderWay {
    /// The grace period ends at this time.
    Grace(Pseudonym, u64),
    /// The keys are destroyed, rows are left.
    Unswept(Pseudonym),
    /// Members report; they hold nothing of the log up to here.
    Reporting(Pseudonym, u64),
}

/// A present member and what it said just now, if it answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its Raft id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// What it has cleared.
    pub cleared: Option<Cleared>,
    /// The archive that it writes, if it writes one.
    pub archive: Option<ArchiveHolds>,
}

/// Why a due erasure waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It took effect.
    Done,
    /// Someone else was faster; look again.
    Overtaken,
    /// Not now, for this reason.
    Waits(Denial),
    /// Not before a recovered cluster serves everything.
    NotServed,
    /// The day's cap on deletions of keys.
    Capped,
}

/// The field that all rows have that name a participant.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(bytes = "bytes", tag = "1")]
    pseudonym: Bytes,
}

impl Gateway {
    /// Every erasure that is approved or pending.
    pub fn erasures_under_way(&self) -> Result<Vec<UnderWay>, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let mut found = Vec::new();
        each_erasure(&attempt, None, |_, pseudonym, row| {
            match ErasureState::from_number(row.state) {
                Ok(ErasureState::Approved) => found.push(UnderWay::Grace(pseudonym, row.grace_until_ms)),
                Ok(ErasureState::Pending) if row.swept_ms == 0 => found.push(UnderWay::Unswept(pseudonym)),
                Ok(ErasureState::Pending) => found.push(UnderWay::Reporting(pseudonym, row.keys_last_index)),
                _ => {}
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Destroys the keys of a participant whose grace period is over, and all that leads to them.
    pub async fn erase(&self, pseudonym: &Pseudonym) -> Result<Step, GatewayError> {
        // After a recovery people look first at what may be lost, a stop of an erasure among it.
        if !self.serves_writes()? {
            return Ok(Step::NotServed);
        }
        // It cannot be taken back, and people cannot do all that they might to stop it.
        self.space.check_writes().map_err(|why| GatewayError::LowSpace { why })?;
        let drafted = tokio::task::block_in_place(|| self.draft_erase(pseudonym))?;
        let attempt = match drafted {
            Ok(attempt) => attempt,
            Err(reason) => return Ok(Step::Waits(reason)),
        };
        match self.propose_step(attempt).await? {
            Outcome::Committed(_) => Ok(Step::Done),
            Outcome::Refused(Refusal::KeyDeletionCap) => Ok(Step::Capped),
            _ => Ok(Step::Overtaken),
        }
    }

    fn draft_erase(&self, pseudonym: &Pseudonym) -> Result<Result<Attempt<'_>, Denial>, GatewayError> {
        let mut attempt = self.begin_as_cluster(Action::Erase, pseudonym)?;
        let settings = attempt.settings()?;
        let key = RowKey::erasure(pseudonym);
        let erasure = attempt.load::<ErasureRow>(&key)?;
        let day_key = RowKey::erasure_day(japan_day(attempt.now_ms));
        let day = attempt.load::<ErasureDayRow>(&day_key)?;
        let participant = attempt.load::<Participant>(&RowKey::participant(pseudonym))?;
        let whole = participant.value.as_deref().map(|row| attempt.whole(pseudonym, row)).transpose()?;
        let act = Act::Erase { erasure: erasure.value.as_deref(), day: day.value.as_deref() };
        let row = whole.as_ref().map(|whole| &whole.row);
        if let Err(reason) = decided(&attempt, act, row, &settings) {
            return Ok(Err(reason));
        }
        // What is permitted, is permitted for an erasure and a participant that are there.
        let (Some(before), Some(whole)) = (erasure.value, whole) else { return Err(damaged(&key)) };

        let mut keys_last_index = 0;
        for (enrolment, number) in &whole.enrolments {
            let keys = attempt.database.snapshot().keys(&RowKey::participant_keys(enrolment), STAGE_COMMAND_ROWS);
            for key in keys.map_err(broken)? {
                let Some(header) = attempt.database.header(&key).map_err(broken)? else { continue };
                keys_last_index = keys_last_index.max(header.revision.index);
                attempt.command.expect(&key, header.revision);
                attempt.command.delete(&key);
            }
            let key = RowKey::participant(enrolment);
            let card = attempt.look::<Participant>(&key)?.value.map(|row| row.card_serial.clone()).unwrap_or_default();
            attempt.command.delete(&key);
            let parsed = ParticipantNumber::parse(number).map_err(|_| damaged(&key))?;
            let number_key = attempt.number_key(&parsed);
            attempt.command.delete(&number_key);
            let spent = attempt.erased_number_key(number);
            put_spent(&mut attempt, &spent, pseudonym);
            if !card.is_empty() {
                let key = card_key(&attempt, &card);
                attempt.command.delete(&key);
                let spent = attempt.erased_card_key(&card);
                put_spent(&mut attempt, &spent, pseudonym);
            }
        }
        let duplicates = whole.enrolments.iter().skip(1);
        let row = ErasureRow {
            state: ErasureState::Pending.number(),
            erased_ms: attempt.now_ms,
            erased_timeline: self.store.published().summary.timeline,
            keys_last_index,
            duplicates: duplicates.map(|(enrolment, _)| Bytes::copy_from_slice(&enrolment.0)).collect(),
            ..(*before).clone()
        };
        attempt.put(&key, erasure.revision, &row);
        let today = japan_day(attempt.now_ms);
        let erased = day.value.as_deref().map_or(0, |day| day.erased).saturating_add(1);
        attempt.put(&day_key, day.revision, &ErasureDayRow { day: today, erased });
        attempt.permit(Basis::Cluster);
        Ok(Ok(attempt))
    }

    /// Deletes what is left of erased participants, some rows after the other, and says so in their erasures.
    pub async fn sweep_erased(&self, erased: &[Pseudonym]) -> Result<(), GatewayError> {
        let (mut enrolments, mut erased_with) = (BTreeSet::new(), BTreeMap::new());
        for pseudonym in erased {
            let attempt = Attempt::begin(self, &JournalEntry::default())?;
            let row = attempt.look::<ErasureRow>(&RowKey::erasure(pseudonym))?.value;
            let duplicates = row.iter().flat_map(|row| &row.duplicates).filter_map(|id| Pseudonym::from_slice(id).ok());
            for enrolment in duplicates.chain([*pseudonym]) {
                enrolments.insert(enrolment);
                erased_with.insert(enrolment, *pseudonym);
            }
        }
        for enrolment in &enrolments {
            for table in UNDER_PSEUDONYM {
                self.sweep_until_empty(|attempt| {
                    let prefix = RowKey::rows_of(table, enrolment);
                    attempt.database.snapshot().keys(&prefix, STAGE_COMMAND_ROWS).map_err(broken)
                })
                .await?;
            }
            self.sweep_until_empty(|attempt| links_of(attempt, enrolment)).await?;
        }
        for table in [Table::GrantIndex, Table::DocumentId, Table::Inbox] {
            self.sweep_table(table, &enrolments).await?;
        }
        self.sweep_cards(&erased_with).await?;
        self.forget_in_reviews(&enrolments).await?;
        for pseudonym in erased {
            self.mark_swept(pseudonym).await?;
        }
        Ok(())
    }

    /// Deletes the replaced cards of these enrolments, and marks their serials as those of the participant with whom each
    /// was erased. They are found by whom they name.
    async fn sweep_cards(&self, erased_with: &BTreeMap<Pseudonym, Pseudonym>) -> Result<(), GatewayError> {
        let enrolments = erased_with.keys().copied().collect();
        loop {
            let found = tokio::task::block_in_place(|| {
                let attempt = Attempt::begin(self, &JournalEntry::default())?;
                rows_naming(&attempt, Table::Number, &enrolments)
            })?;
            if found.is_empty() {
                return Ok(());
            }
            for keys in found.chunks(STAGE_COMMAND_ROWS / 2) {
                let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
                for key in keys {
                    // Whoever led before may have swept it.
                    let Some(card) = attempt.load::<CardRow>(key)?.value else { continue };
                    let with = Pseudonym::from_slice(&card.pseudonym).ok().and_then(|own| erased_with.get(&own));
                    let spent = attempt.erased_card_key(&card.serial);
                    if attempt.load::<ErasedNumberRow>(&spent)?.value.is_none() {
                        put_spent(&mut attempt, &spent, with.ok_or_else(|| damaged(key))?);
                    }
                    attempt.command.delete(key);
                }
                self.propose_step(attempt).await?;
            }
        }
    }

    /// Deletes what `find` finds until it finds nothing.
    async fn sweep_until_empty(
        &self,
        find: impl Fn(&Attempt<'_>) -> Result<Vec<RowKey>, GatewayError>,
    ) -> Result<(), GatewayError> {
        loop {
            let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
            let found = tokio::task::block_in_place(|| find(&attempt))?;
            if found.is_empty() {
                return Ok(());
            }
            found.iter().for_each(|key| attempt.command.delete(key));
            self.propose_step(attempt).await?;
        }
    }

    /// Looks through a whole table for rows that name one of these participants, and deletes them.
    async fn sweep_table(&self, table: Table, enrolments: &BTreeSet<Pseudonym>) -> Result<(), GatewayError> {
        let found = tokio::task::block_in_place(|| {
            let attempt = Attempt::begin(self, &JournalEntry::default())?;
            match table {
                // Its keys end with the pseudonym; nothing has to be opened.
                Table::GrantIndex => keys_ending_with(&attempt, table, enrolments),
                _ => rows_naming(&attempt, table, enrolments),
            }
        })?;
        for keys in found.chunks(STAGE_COMMAND_ROWS) {
            let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
            keys.iter().for_each(|key| attempt.command.delete(key));
            self.propose_step(attempt).await?;
        }
        Ok(())
    }

    /// Notes that nothing of a participant is left in any table, and up to where the log still tells of it.
    async fn mark_swept(&self, pseudonym: &Pseudonym) -> Result<(), GatewayError> {
        let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
        let key = RowKey::erasure(pseudonym);
        let erasure = attempt.load::<ErasureRow>(&key)?;
        let Some(before) = erasure.value.filter(|row| row.state == ErasureState::Pending.number()) else {
            return Ok(());
        };
        // All of the deletions are applied here.
        let keys_last_index = before.keys_last_index.max(self.store.published().index());
        let row = ErasureRow { swept_ms: attempt.now_ms, keys_last_index, ..(*before).clone() };
        attempt.put(&key, erasure.revision, &row);
        self.propose_step(attempt).await.map(|_| ())
    }

    /// Writes what members say into an erasure, and certifies it once all of them hold nothing.
    pub async fn report_erasure(&self, pseudonym: &Pseudonym, members: &[Told]) -> Result<Step, GatewayError> {
        let drafted = tokio::task::block_in_place(|| self.draft_report(pseudonym, members))?;
        match drafted {
            None => Ok(Step::Waits(Denial::ErasureReports)),
            Some(attempt) => match self.propose_step(attempt).await? {
                Outcome::Committed(_) => Ok(Step::Done),
                _ => Ok(Step::Overtaken),
            },
        }
    }

    fn draft_report(&self, pseudonym: &Pseudonym, members: &[Told]) -> Result<Option<Attempt<'_>>, GatewayError> {
        let mut attempt = self.begin_as_cluster(Action::CertifyErasure, pseudonym)?;
        let settings = attempt.settings()?;
        let key = RowKey::erasure(pseudonym);
        let erasure = attempt.load::<ErasureRow>(&key)?;
        let Some(before) = erasure.value else { return Err(damaged(&key)) };
        let mut row = (*before).clone();
        let mut all_just_now = true;
        for told in members {
            let report = told.cleared.map(|done| ErasureReport {
                archive: told.archive.as_ref().map(|holds| holds.of_rows_until(row.keys_last_index)),
                ..done.report(&told.name, told.id, row.keys_last_index, attempt.now_ms)
            });
            all_just_now &= report.as_ref().is_some_and(|report| report.is_complete(row.keys_last_index));
            take_report(&mut row, told, report);
        }
        let ids: Vec<u64> = members.iter().map(|told| told.id).collect();
        let act = Act::CertifyErasure { erasure: Some(&row), members: &ids };
        if all_just_now && decided(&attempt, act, None, &settings).is_ok() {
            row.unreported_members = removed_without_report(&attempt, &row, members)?;
            row.state = ErasureState::Certified.number();
            row.certified_ms = attempt.now_ms;
            attempt.permit(Basis::Cluster);
        }
        if row == *before {
            return Ok(None);
        }
        attempt.put(&key, erasure.revision, &row);
        Ok(Some(attempt))
    }

    fn begin_as_cluster(&self, action: Action, pseudonym: &Pseudonym) -> Result<Attempt<'_>, GatewayError> {
        let id = Bytes::copy_from_slice(&pseudonym.0);
        let entry = JournalEntry {
            actor: Some(cluster_as_actor(&self.name)),
            action: action.number(),
            pseudonym: id.clone(),
            act_id: id,
            ..JournalEntry::default()
        };
        Attempt::begin(self, &entry)
    }

    /// Proposes a step and waits until it is applied here, so that the next look sees it. A step that can never take
    /// effect is an error: tried again it would be the same.
    pub(super) async fn propose_step(&self, attempt: Attempt<'_>) -> Result<Outcome, GatewayError> {
        self.space.check_reads().map_err(|why| GatewayError::LowSpace { why })?;
        let command = attempt.command.encode_to_vec().into();
        drop(attempt);
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let proposed = self.proposer.propose(command, deadline).await?;
        match self.store.applied(proposed.index, deadline).await {
            true => match proposed.outcome {
                Outcome::Refused(Refusal::Malformed | Refusal::Timeline) => {
                    tracing::error!("a command of an erasure or of a passing of keys was refused as malformed");
                    Err(GatewayError::Damaged { what: "command" })
                }
                outcome => Ok(outcome),
            },
            false => Err(GatewayError::Unavailable { why: "this node does not hear from the leader".into() }),
        }
    }
}

/// Whether the cluster may do this now.
fn decided(
    attempt: &Attempt<'_>,
    act: Act<'_>,
    participant: Option<&Participant>,
    settings: &Settings,
) -> Result<(), Denial> {
    let person = attempt.entry.actor.clone().unwrap_or_default();
    let facts = Facts {
        now_ms: attempt.now_ms,
        actor: Actor::Cluster,
        person: &person,
        act,
        purpose: None,
        emergency: None,
        application: None,
        facility: None,
        user: None,
        participant,
        settings,
        disaster: None,
    };
    match decide(&facts) {
        Decision::Permit { .. } => Ok(()),
        Decision::Deny { reason } => Err(reason),
    }
}

fn put_spent(attempt: &mut Attempt<'_>, key: &RowKey, pseudonym: &Pseudonym) {
    let row = ErasedNumberRow { pseudonym: Bytes::copy_from_slice(&pseudonym.0), erased_ms: attempt.now_ms };
    // Numbers and serials are given once: nobody was erased under this one before.
    attempt.command.expect(key, Revision::ABSENT);
    attempt.put(key, Revision::ABSENT, &row);
}

/// Rows of a table under the registry key that name one of these participants.
fn rows_naming(
    attempt: &Attempt<'_>,
    table: Table,
    enrolments: &BTreeSet<Pseudonym>,
) -> Result<Vec<RowKey>, GatewayError> {
    let snapshot = attempt.database.snapshot();
    let prefix = RowKey::whole_table(table);
    let mut found = Vec::new();
    let mut after: Option<RowKey> = None;
    loop {
        let from = after.as_ref().map(|key| &key.as_bytes()[..]);
        let rows = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, stored) in &rows {
            let named: Names = attempt.open_scanned(key, stored)?;
            if Pseudonym::from_slice(&named.pseudonym).is_ok_and(|named| enrolments.contains(&named)) {
                found.push(key.clone());
            }
        }
    }
}

fn keys_ending_with(
    attempt: &Attempt<'_>,
    table: Table,
    enrolments: &BTreeSet<Pseudonym>,
) -> Result<Vec<RowKey>, GatewayError> {
    let snapshot = attempt.database.snapshot();
    let prefix = RowKey::whole_table(table);
    let mut found = Vec::new();
    let mut after: Option<RowKey> = None;
    loop {
        let from = after.as_ref().map(|key| &key.as_bytes()[..]);
        let rows = snapshot.scan(&prefix, from, SCAN_ROWS).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = Some(last.clone());
        let named = |key: &RowKey| super::list::pseudonym_at_end(key).is_some_and(|named| enrolments.contains(&named));
        found.extend(rows.into_iter().map(|(key, _)| key).filter(named));
    }
}

/// Links of a participant, both ways. One that names another by now is that one's.
fn links_of(attempt: &Attempt<'_>, pseudonym: &Pseudonym) -> Result<Vec<RowKey>, GatewayError> {
    let reverse = attempt.database.snapshot().scan(&RowKey::links_of(pseudonym), None, STAGE_COMMAND_ROWS / 2);
    let mut found = Vec::new();
    for (key, stored) in reverse.map_err(broken)? {
        let row: LinkRow = attempt.open_scanned(&key, &stored)?;
        let link =
            RowKey::hashed(Table::Link, &attempt.hash(Domain::LinkFacilityLocal, &[&row.facility, &row.local_id]));
        if attempt.look::<LinkRow>(&link)?.value.is_some_and(|link| link.pseudonym[..] == pseudonym.0) {
            found.push(link);
        }
        found.push(key);
    }
    Ok(found)
}

/// Keeps a member's newest report. Who does not answer keeps the one it gave, or gets an empty one, so that it
/// is known later who was there.
fn take_report(row: &mut ErasureRow, told: &Told, report: Option<ErasureReport>) {
    let upto = row.keys_last_index;
    // How far the archive is changes all the time, and is told with what matters.
    let archive = |r: &ErasureReport| r.archive.as_ref().map(|held| (held.index >= upto, held.generations.clone()));
    let says =
        |r: &ErasureReport| (r.purged_index >= upto, r.log_compacted, r.keys_compacted, r.checkpoints_gone, archive(r));
    let known = row.reports.iter_mut().find(|known| known.raft_id == told.id);
    match (known, report) {
        (Some(known), Some(report)) if says(known) != says(&report) => *known = report,
        (None, report) => {
            let empty = ErasureReport { member: told.name.clone(), raft_id: told.id, ..ErasureReport::default() };
            row.reports.push(report.unwrap_or(empty));
        }
        _ => {}
    }
}

/// Members that are no longer present and have not reported everything: those that were there when the keys
/// were destroyed, and all that were ever approved.
fn removed_without_report(
    attempt: &Attempt<'_>,
    row: &ErasureRow,
    members: &[Told],
) -> Result<Vec<String>, GatewayError> {
    let complete = |id: u64| row.reports.iter().any(|r| r.raft_id == id && r.is_complete(row.keys_last_index));
    let mut names: BTreeSet<String> =
        row.reports.iter().filter(|r| !complete(r.raft_id)).map(|r| r.member.clone()).collect();
    let prefix = RowKey::whole_table(Table::Member);
    let approved = attempt.database.snapshot().scan(&prefix, None, usize::MAX).map_err(broken)?;
    for (key, stored) in approved {
        let member: MemberRow = attempt.open_scanned(&key, &stored)?;
        if !complete(member.raft_id) {
            names.insert(member.name);
        }
    }
    for present in members {
        names.remove(&present.name);
    }
    Ok(names.into_iter().take(ERASURE_NAMES_MAX).collect())
}
