//! Reading several records of one participant: one decision and one journal entry for all of them.
//!
//! Invariants
//! - The call is let in as a whole; then each record is asked for as reading it alone would ask, and
//!   expected by the command whether it is shown, refused or not there.
//! - What is told of a refused record is what reading it alone would tell.
//! - The journal entry names what was handed out, and what was refused with each one's reason. It is committed
//!   and applied here before the first byte leaves.
//! - A record whose turn comes later than the limit for a running read is decided on anew before anything of it
//!   leaves; each is checked for itself.
//! - Each record refused counts as a denial of this user.
//! - A record that does not open, or not to its end, is told as such in its place, and keeps no other from being read.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kura_cluster::command::Committed;
use kura_cluster::consent::{Act, Denial, Facts, decide, visible};
use kura_cluster::id::{EpisodeId, RecordId};
use kura_cluster::row::{ReceiptRow, RecordControl, RefusedRecord};
use kura_cluster::word::{Action, Purpose};
use kura_cluster::{ParticipantNumber, Pseudonym};
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::CallerRows;
use super::consents::told;
use super::emergency::{Episode, episode_id};
use super::limits::SEVERAL_RECORDS_MAX;
use super::participant::number;
use super::read::{Permitted, Question, Reading, load_manifest};
use super::recheck::ReadingClock;
use super::service::Doing;
use super::transact::Verdict;
use super::unopened::{Damaged, Stored};
use super::{Caller, Gateway, GatewayError};

/// Each record asked for, and what may be handed out of it.
pub(super) type Answers = VecDeque<(RecordId, Result<Permitted, Withheld>)>;

/// Why nothing is handed out of one.
#[derive(Debug, PartialEq)]
pub(super) enum Withheld {
    /// It may not be seen, or is not there.
    Refused(Denial),
    /// It does not open.
    Damaged(Damaged),
}

/// What is asked of each of them alike.
#[derive(Clone, Copy)]
pub(super) struct Alike {
    pub number: ParticipantNumber,
    pub purpose: Purpose,
    /// The emergency under which it is asked.
    pub episode: Option<EpisodeId>,
}

/// A permitted read of several records, handed out one after the other.
pub struct SeveralReading {
    gateway: Arc<Gateway>,
    caller: Caller,
    asked: Alike,
    decided: Committed,
    left: Answers,
    current: Option<(RecordId, Reading)>,
    /// Of the decision on all of them.
    clock: ReadingClock,
}

/// What comes next.
pub enum Step {
    /// A record begins, with the data of a short one.
    Header(Box<v1::RecordHeader>),
    /// Further data of it, at most 1 MiB.
    Data(Bytes),
    /// A record is refused.
    Refused(v1::RefusedRecord),
    /// A record, or the rest of the present one, does not open.
    Damaged(Box<v1::RecordSummary>),
}

impl Gateway {
    /// Decides and journals a read of several records. Nothing of them has left when this returns.
    pub async fn read_several(
        self: &Arc<Self>,
        caller: &Caller,
        request: v1::GetSeveralRequest,
    ) -> Result<SeveralReading, GatewayError> {
        let asked = Alike {
            number: number(&request.participant)?,
            purpose: Gateway::purpose(caller, request.purpose)?,
            episode: episode_id(&request.episode_id)?,
        };
        let records = wanted(&request.record_ids)?;
        let mut refusals = 0;
        let clock = ReadingClock::start();
        let done = self
            .transact(caller, Doing::look(Action::GetSeveral, asked.episode.as_ref()), None, |attempt| {
                let verdict = decide_several(attempt, caller, &asked, &records)?;
                refusals = attempt.entry.refusals();
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        self.denials.charge(&caller.journalled(), refusals, Instant::now());
        Ok(SeveralReading {
            gateway: self.clone(),
            caller: caller.clone(),
            asked,
            decided: done.committed,
            left: done.value.ok_or(GatewayError::Unknown)?,
            current: None,
            clock,
        })
    }
}

fn wanted(ids: &[Bytes]) -> Result<Vec<RecordId>, GatewayError> {
    if ids.is_empty() || ids.len() > SEVERAL_RECORDS_MAX {
        let why = format!("{} are given; there are 1 to {SEVERAL_RECORDS_MAX}", ids.len());
        return Err(GatewayError::invalid("record_ids", why));
    }
    let records: Result<Vec<_>, _> = ids.iter().map(|id| RecordId::from_slice(id)).collect();
    let records = records.map_err(|error| GatewayError::invalid("record_ids", error))?;
    let distinct: HashSet<[u8; 16]> = records.iter().map(|record| record.0).collect();
    match distinct.len() == records.len() {
        true => Ok(records),
        false => Err(GatewayError::invalid("record_ids", "one is given twice")),
    }
}

/// Decides on all of them; of each whether it may be seen.
pub(super) fn decide_several(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    asked: &Alike,
    records: &[RecordId],
) -> Result<Verdict<Answers>, GatewayError> {
    let named = |record: &RecordId| Bytes::copy_from_slice(&record.0);
    attempt.entry.purpose = asked.purpose.number();
    // What a denial of the whole is about; its reason is theirs.
    let asked_for = |record: &RecordId| RefusedRecord { record_id: named(record), denial: 0 };
    attempt.entry.refused_records = records.iter().map(asked_for).collect();
    let rows = CallerRows::load(attempt, caller)?;
    let episode = asked.episode.as_ref().map(|id| Episode::load(attempt, id)).transpose()?;
    let known = attempt.participant(&asked.number)?;
    let facts = Facts {
        emergency: episode.as_ref().map(Episode::facts),
        ..rows.facts(attempt.now_ms, Act::ReadSeveral, known.as_ref().map(|k| &*k.row), Some(asked.purpose))
    };
    Verdict::of(decide(&facts), |_| {
        if let Some(episode) = &episode {
            episode.mark(&mut attempt.entry);
        }
        let known = known.as_ref().ok_or(GatewayError::Damaged { what: "participant" })?;
        let mut found = Answers::with_capacity(records.len());
        for record in records {
            let pseudonym = attempt.home(known, record)?.pseudonym;
            let answer = match attempt.stored_record(&pseudonym, record)? {
                Stored::Damaged => Err(Withheld::Damaged(Damaged::record())),
                Stored::Nothing => Err(Withheld::Refused(Denial::NoSuchRecord)),
                Stored::Opens(control) => match visible(&facts, Some(known.record(&pseudonym, &control))) {
                    Err(reason) => Err(Withheld::Refused(reason)),
                    Ok(_) => permitted(attempt, pseudonym, record, control)?,
                },
            };
            found.push_back((*record, answer));
        }
        attempt.entry.refused_records.clear();
        for (record, answer) in &found {
            let record_id = named(record);
            match answer {
                Ok(_) => attempt.entry.record_ids.push(record_id),
                Err(Withheld::Damaged(_)) => attempt.entry.damaged_record_ids.push(record_id),
                Err(Withheld::Refused(reason)) => {
                    let refused = RefusedRecord { record_id, denial: reason.number() };
                    attempt.entry.refused_records.push(refused);
                }
            }
        }
        Ok(found)
    })
}

/// What may be handed out of a record that may be seen. Manifests may be long: it is opened again in its turn.
fn permitted(
    attempt: &Attempt<'_>,
    pseudonym: Pseudonym,
    record: &RecordId,
    control: Arc<RecordControl>,
) -> Result<Result<Permitted, Withheld>, GatewayError> {
    let version = control.version;
    match load_manifest(attempt, &pseudonym, record, version) {
        Ok(_) => Ok(Ok(Permitted { pseudonym, version, control, manifest: None })),
        Err(error) if error.is_of_one_row() => Ok(Err(Withheld::Damaged(Damaged::version(&control, version)))),
        Err(error) => Err(error),
    }
}

impl SeveralReading {
    /// Puts the decision on all of them back by so much.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: std::time::Duration) {
        self.clock.age(by);
    }

    /// What comes next; `None` at the end. Decides again from time to time, as a read of one does.
    pub async fn next(&mut self) -> Result<Option<Step>, GatewayError> {
        if let Some((record, reading)) = &mut self.current {
            match reading.next().await {
                Ok(Some(data)) => return Ok(Some(Step::Data(data))),
                Ok(None) => self.current = None,
                Err(error) if error.is_of_one_row() => {
                    let damaged = Damaged::record().told(record);
                    self.current = None;
                    return Ok(Some(Step::Damaged(Box::new(damaged))));
                }
                Err(error) => return Err(error),
            }
        }
        let Some((record, answer)) = self.left.pop_front() else { return Ok(None) };
        let found = match answer {
            Ok(found) => found,
            Err(Withheld::Damaged(damaged)) => return Ok(Some(Step::Damaged(Box::new(damaged.told(&record))))),
            Err(Withheld::Refused(reason)) => {
                let record_id = Bytes::copy_from_slice(&record.0);
                let reason = told(reason).unwrap_or_default().to_owned();
                return Ok(Some(Step::Refused(v1::RefusedRecord { record_id, reason })));
            }
        };
        let Alike { number, purpose, episode } = self.asked;
        let asked = Question { episode, ..Question::whole(number, record, purpose) };
        // What a check of another record found says nothing of this one, which was decided on when the read began.
        let mut clock = self.clock;
        clock.keep(&self.gateway, &self.caller, &asked).await?;
        let damaged = Damaged::version(&found.control, found.version);
        let opened = tokio::task::block_in_place(|| {
            Reading::open(&self.gateway, &self.caller, asked, found, &self.decided, clock)
        });
        let (header, reading) = match opened {
            Ok(opened) => opened,
            Err(error) if error.is_of_one_row() => return Ok(Some(Step::Damaged(Box::new(damaged.told(&record))))),
            Err(error) => return Err(error),
        };
        self.current = Some((record, reading));
        Ok(Some(Step::Header(Box::new(header))))
    }
}
