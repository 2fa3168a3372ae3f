//! Reading several records under one decision and one journal entry.
//!
//! Invariants
//! - Records come in the order asked for, each one once: shown, refused, or told not to open.
//! - A record that does not open, or not to its end, keeps no other from being read.
//! - A body is complete or an error, and its parts' hashes are checked, as for a read of one.
//! - After a cut, the record that was cut goes on as a read of its own, pinned to its version, and what is
//!   left as one further read of several; each is decided and journalled anew.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;
use kura_proto::v1::get_several_reply::Step;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::body::Body;
use super::verify::{Verifier, WrongPart};
use super::{GATHERED_BYTES_MAX, Header};
use crate::call::Retry;
use crate::client::{ActingClient, Person, Shared, records};
use crate::error::{Family, GetError};
use crate::fault::{Damage, Failure, Invalid};
use crate::id::{EmergencyId, ParticipantNumber, RecordId};
use crate::limit::{self, SEVERAL_RECORDS_MAX};
use crate::pool::Lease;
use crate::record::{DamagedRecord, Part, SignatureCheck, Summary};
use crate::word::Purpose;

/// A read of several records of one participant, made by [`ActingClient::get_several`]; `.await` begins it.
#[must_use = "nothing is read until it is awaited"]
pub struct GetSeveral {
    acting: ActingClient,
    number: ParticipantNumber,
    records: Vec<RecordId>,
    purpose: Purpose,
    limit: Option<Duration>,
    emergency: Option<EmergencyId>,
}

impl ActingClient {
    /// Reads 1 to [`SEVERAL_RECORDS_MAX`] records of a participant, the newest version of each, for
    /// [`Purpose::Care`] if no other is stated.
    pub fn get_several(&self, number: &ParticipantNumber, records: impl IntoIterator<Item = RecordId>) -> GetSeveral {
        let records = records.into_iter().collect();
        let (acting, purpose) = (self.clone(), Purpose::Care);
        GetSeveral { acting, number: *number, records, purpose, limit: None, emergency: None }
    }
}

impl Person {
    /// Reads several of their records, for [`Purpose::Own`].
    pub fn get_several(&self, records: impl IntoIterator<Item = RecordId>) -> GetSeveral {
        self.acting.get_several(&self.number, records).purpose(Purpose::Own)
    }
}

impl GetSeveral {
    /// What the access is for.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Under an emergency that the actor opened.
    pub fn under(mut self, emergency: EmergencyId) -> Self {
        self.emergency = Some(emergency);
        self
    }

    /// A time limit for the whole read, instead of the configuration's.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn request(&self) -> Result<v1::GetSeveralRequest, Invalid> {
        let count = self.records.len();
        if !(1..=SEVERAL_RECORDS_MAX).contains(&count) {
            return Err(Invalid::bound("record_ids", format!("1 to {SEVERAL_RECORDS_MAX} records"), count));
        }
        self.records.iter().try_for_each(|record| limit::record("record_ids", *record))?;
        Ok(v1::GetSeveralRequest {
            actor: Some(self.acting.actor.to_wire()?),
            participant: self.number.reveal().to_owned(),
            record_ids: Vec::new(),
            purpose: self.purpose.number(),
            episode_id: self.emergency.map_or_else(Bytes::new, EmergencyId::to_wire),
        })
    }

    async fn run(self) -> Result<Several, GetError> {
        let request = self.request().map_err(GetError::from_invalid)?;
        let shared = Arc::clone(&self.acting.shared);
        let mut retry = Retry::transfer(&shared, self.limit);
        let left: VecDeque<RecordId> = self.records.into();
        let opened = open(&request, &left, &mut retry).await?;
        let (end, lease) = (retry.end(), retry.lease());
        Ok(Several { shared, request, left, opened: Some(opened), lease, end, current: None })
    }
}

impl IntoFuture for GetSeveral {
    type Output = Result<Several, GetError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// Several records being read. Dropping it ends the read.
pub struct Several {
    shared: Arc<Shared>,
    /// What asked for it, without the records.
    request: v1::GetSeveralRequest,
    /// Records of which nothing has come yet.
    left: VecDeque<RecordId>,
    opened: Option<Opened>,
    /// The node that answers.
    lease: Lease,
    /// When all must be over.
    end: Instant,
    current: Option<Current>,
}

struct Opened {
    first: Option<Step>,
    replies: Streaming<v1::GetSeveralReply>,
}

/// The record that is coming.
struct Current {
    header: Header,
    /// Data that came with the header.
    ahead: Bytes,
    position: u64,
    verifier: Verifier,
    /// The rest of it, after a cut.
    rest: Option<Body>,
    /// What was still to come of it does not open.
    is_damaged: bool,
}

/// One of several records.
#[derive(Debug)]
pub enum OneOfSeveral<'s> {
    /// It may be seen.
    Record(SeveralRecord<'s>),
    /// It may not, or is not there.
    Refused(RefusedRecord),
    /// It is stored, and does not open.
    Damaged(DamagedRecord),
}

/// In the place of a record.
enum Instead {
    Refused(RefusedRecord),
    Damaged(DamagedRecord),
}

/// A record that was refused where others were not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// The record asked for.
    pub record: RecordId,
    /// The reason's word, where reading this record alone would tell it; none for the uniform refusal.
    pub reason: Option<String>,
}

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Several").field("left", &self.left.len()).finish_non_exhaustive()
    }
}

impl Several {
    /// The next record; nothing after the last. What was not taken of the one before is passed over.
    ///
    /// # Errors
    /// [`GetError`]; the read is over then.
    pub async fn next(&mut self) -> Option<Result<OneOfSeveral<'_>, GetError>> {
        match self.advance().await {
            Ok(Some(Some(Instead::Refused(refused)))) => Some(Ok(OneOfSeveral::Refused(refused))),
            Ok(Some(Some(Instead::Damaged(damaged)))) => Some(Ok(OneOfSeveral::Damaged(damaged))),
            Ok(Some(None)) => Some(Ok(OneOfSeveral::Record(SeveralRecord { several: self }))),
            Ok(None) => None,
            Err(error) => {
                self.left.clear();
                (self.current, self.opened) = (None, None);
                Some(Err(error))
            }
        }
    }

    /// Goes on to the next record: what comes in its place, or (none) one that is current now.
    async fn advance(&mut self) -> Result<Option<Option<Instead>>, GetError> {
        loop {
            match self.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // One that does not open to its end keeps no other from being read.
                Err(GetError::Damaged(_)) if self.current.as_ref().is_some_and(|current| current.is_damaged) => break,
                Err(error) => return Err(error),
            }
        }
        self.current = None;
        let Some(expected) = self.left.front().copied() else {
            self.hear_out().await;
            return Ok(None);
        };
        let other = || GetError::from_fault(Failure::broken("another record than the one asked for").fault);
        match self.step().await? {
            Step::Header(mut wire) => {
                self.shared.follow(wire.timeline).map_err(|failure| GetError::from_fault(failure.fault))?;
                let ahead = std::mem::take(&mut wire.data);
                let header = Header::from_wire(wire).map_err(|failure| GetError::from_fault(failure.fault))?;
                if header.summary.record != expected {
                    return Err(other());
                }
                let verifier = Verifier::new(&header.parts, 0);
                let mut current = Current { header, ahead, position: 0, verifier, rest: None, is_damaged: false };
                // A body without bytes has a hash, too.
                current.take(&Bytes::new())?;
                self.left.pop_front();
                self.current = Some(current);
                Ok(Some(None))
            }
            Step::Refused(refused) => {
                if RecordId::from_wire(&refused.record_id) != Some(expected) {
                    return Err(other());
                }
                self.left.pop_front();
                let reason = (!refused.reason.is_empty()).then_some(refused.reason);
                Ok(Some(Some(Instead::Refused(RefusedRecord { record: expected, reason }))))
            }
            Step::Damaged(wire) => {
                let damaged = DamagedRecord::from_wire(wire);
                let damaged = damaged.map_err(|failure| GetError::from_fault(failure.fault))?;
                if damaged.record != expected {
                    return Err(other());
                }
                self.left.pop_front();
                Ok(Some(Some(Instead::Damaged(damaged))))
            }
            Step::Data(_) => Err(GetError::from_fault(Failure::broken("more bytes than announced").fault)),
        }
    }

    /// The next bytes of the current record, verified; nothing after the last.
    async fn chunk(&mut self) -> Result<Option<Bytes>, GetError> {
        let chunk = self.chunk_or_damage().await;
        if let (Err(GetError::Damaged(_)), Some(current)) = (&chunk, &mut self.current) {
            current.is_damaged = true;
        }
        chunk
    }

    async fn chunk_or_damage(&mut self) -> Result<Option<Bytes>, GetError> {
        const DAMAGED: &str = "the rest of the record does not open";
        let Some(current) = &mut self.current else { return Ok(None) };
        if current.is_damaged {
            return Err(GetError::Damaged(Damage(DAMAGED.into())));
        }
        let bytes = current.header.summary.bytes;
        if !current.ahead.is_empty() {
            let ahead = std::mem::take(&mut current.ahead);
            current.take(&ahead)?;
            return Ok(Some(ahead));
        }
        if current.position == bytes {
            return Ok(None);
        }
        loop {
            let Some(current) = &mut self.current else { return Ok(None) };
            if let Some(rest) = &mut current.rest {
                let ended = GetError::EndedEarly { bytes: current.position, expected: bytes };
                let data = rest.next().await?.ok_or(ended)?;
                current.take(&data)?;
                return Ok(Some(data));
            }
            let failure = match self.message().await {
                Ok(Some(Step::Data(data))) => {
                    if let Some(current) = &mut self.current {
                        current.take(&data)?;
                    }
                    return Ok(Some(data));
                }
                Ok(Some(Step::Damaged(_))) => return Err(GetError::Damaged(Damage(DAMAGED.into()))),
                // The node says that this is all, and it is not: going on would hide it.
                Ok(_) => return Err(GetError::EndedEarly { bytes: current_position(&self.current), expected: bytes }),
                Err(failure) => failure,
            };
            self.resume(failure).await?;
        }
    }

    /// The next message of the present reply.
    async fn message(&mut self) -> Result<Option<Step>, Failure> {
        let limit = self.shared.timeouts.attempt().min(self.end.saturating_duration_since(Instant::now()));
        let Some(opened) = &mut self.opened else { return Err(Failure::silent()) };
        if let Some(first) = opened.first.take() {
            return Ok(Some(first));
        }
        match timeout(limit, opened.replies.message()).await {
            Ok(Ok(reply)) => Ok(reply.and_then(|reply| reply.step)),
            Ok(Err(status)) => Err(status.into()),
            Err(_) if Instant::now() >= self.end => Err(Failure::overdue()),
            Err(_) => Err(Failure::silent()),
        }
    }

    /// Has the rest of the current record come as a read of its own.
    async fn resume(&mut self, failure: Failure) -> Result<(), GetError> {
        self.opened = None;
        let shared = Arc::clone(&self.shared);
        let mut retry = Retry::until(&shared, self.lease.clone(), self.end);
        retry.failed(failure).await.map_err(|failed| GetError::from_fault(failed.fault))?;
        self.lease = retry.lease();
        let Some(current) = &mut self.current else { return Ok(()) };
        let Summary { record, version, .. } = &current.header.summary;
        let request = v1::GetRequest {
            actor: self.request.actor.clone(),
            participant: self.request.participant.clone(),
            record_id: record.to_wire(),
            version: *version,
            purpose: self.request.purpose,
            range_start: current.position,
            range_length: 0,
            episode_id: self.request.episode_id.clone(),
            part: String::new(),
        };
        let limit = self.end.saturating_duration_since(Instant::now());
        let (header, body) = Body::open(shared, request, Some(limit)).await?;
        if header.summary.version != current.header.summary.version || header.parts != current.header.parts {
            let fault = Failure::broken("another body than the one that was cut off").fault;
            return Err(GetError::from_fault(fault));
        }
        current.rest = Some(body);
        Ok(())
    }

    /// The next record's beginning, asked for anew after a cut.
    async fn step(&mut self) -> Result<Step, GetError> {
        let shared = Arc::clone(&self.shared);
        let mut retry = Retry::until(&shared, self.lease.clone(), self.end);
        if self.opened.is_some() {
            match self.message().await {
                Ok(Some(step)) => return Ok(step),
                Ok(None) => {
                    let fault = Failure::broken("an end before every record had come").fault;
                    return Err(GetError::from_fault(fault));
                }
                Err(failure) => {
                    retry.failed(failure).await.map_err(|failed| GetError::from_fault(failed.fault))?;
                }
            }
        }
        let mut opened = open(&self.request, &self.left, &mut retry).await?;
        self.lease = retry.lease();
        let first = opened.first.take();
        self.opened = Some(opened);
        first.ok_or_else(|| GetError::from_fault(Failure::broken("a reply without a record").fault))
    }

    /// Hears the node out, so that the call ends in order.
    async fn hear_out(&mut self) {
        if let Some(mut opened) = self.opened.take() {
            let _ = timeout(self.shared.timeouts.attempt(), opened.replies.message()).await;
        }
    }
}

fn current_position(current: &Option<Current>) -> u64 {
    current.as_ref().map_or(0, |current| current.position)
}

impl Current {
    /// Takes bytes that came: verifies them and counts them.
    fn take(&mut self, bytes: &Bytes) -> Result<(), GetError> {
        if bytes.len() as u64 > self.header.summary.bytes - self.position {
            return Err(GetError::from_fault(Failure::broken("more bytes than announced").fault));
        }
        self.verifier.update(self.position, bytes).map_err(|WrongPart(part)| GetError::WrongHash { part })?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// One record of several. Its body is taken before the next one is asked for.
pub struct SeveralRecord<'s> {
    several: &'s mut Several,
}

impl fmt::Debug for SeveralRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeveralRecord").field("summary", self.summary()).finish_non_exhaustive()
    }
}

impl SeveralRecord<'_> {
    fn header(&self) -> &Header {
        // Made by `Several::next` only where one is current, and nothing changes that while it is borrowed.
        &self.several.current.as_ref().expect("a record that is handed out is current").header
    }

    /// What it is.
    pub fn summary(&self) -> &Summary {
        &self.header().summary
    }

    /// Its parts, in their order.
    pub fn parts(&self) -> &[Part] {
        &self.header().parts
    }

    /// The author's signature; empty if there is none.
    pub fn signature(&self) -> &Bytes {
        &self.header().signature
    }

    /// The timestamp token; empty if there is none.
    pub fn timestamp_token(&self) -> &Bytes {
        &self.header().timestamp_token
    }

    /// What verifying the signature said when it was written.
    pub fn signature_result(&self) -> &str {
        &self.header().signature_result
    }

    /// What the cluster itself found then; none: it did not check.
    pub fn signature_check(&self) -> Option<&SignatureCheck> {
        self.header().signature_check.as_ref()
    }

    /// Position of the journal entry, which names all records that were handed out.
    pub fn journal_position(&self) -> u64 {
        self.header().journal_position
    }

    /// The next bytes of the body, at most 4 MiB; nothing after the last.
    ///
    /// # Errors
    /// [`GetError`]; after [`GetError::Damaged`] the next record can still be read.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, GetError> {
        self.several.chunk().await
    }

    /// The body in memory, up to [`GATHERED_BYTES_MAX`].
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Invalid`] for a longer one.
    pub async fn bytes(mut self) -> Result<Bytes, GetError> {
        let length = self.summary().bytes;
        if length > GATHERED_BYTES_MAX {
            let given = usize::try_from(length).unwrap_or(usize::MAX);
            let limit = format!("at most {GATHERED_BYTES_MAX} bytes in memory");
            return Err(GetError::from_invalid(Invalid::bound("body", limit, given)));
        }
        let mut gathered = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() as u64 == length {
                return Ok(chunk);
            }
            gathered.extend_from_slice(&chunk);
        }
        Ok(gathered.freeze())
    }
}

/// Asks until something comes.
async fn open(
    request: &v1::GetSeveralRequest,
    left: &VecDeque<RecordId>,
    retry: &mut Retry<'_>,
) -> Result<Opened, GetError> {
    let record_ids = left.iter().map(|record| record.to_wire()).collect();
    let request = v1::GetSeveralRequest { record_ids, ..request.clone() };
    loop {
        let attempt = async {
            let mut replies = records(retry.channel()).get_several(request.clone()).await?.into_inner();
            let first = replies.message().await?.and_then(|reply| reply.step);
            match first {
                Some(first) => Ok(Opened { first: Some(first), replies }),
                None => Err(Failure::broken("a reply without a record")),
            }
        };
        let failure = match timeout(retry.attempt_limit(), attempt).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::silent(),
        };
        retry.failed(failure).await.map_err(|failed| GetError::from_fault(failed.fault))?;
    }
}
