//! Uploads of any length: blocks are staged through Raft in bounded commands, invisible until one
//! command commits manifest, record control and inbox, expecting and deleting the staging row.
//!
//! Invariants
//! - Memory is constant: one block being filled, and [`COMMANDS_IN_FLIGHT_MAX`] commands on their way.
//! - Every staged block expects the staging row: once the sweeper has marked it aborted, nothing more
//!   can be staged or committed under it.
//! - One gateway at a time: going on with an upload rewrites its staging row, which fences off whatever
//!   another gateway still has on its way. (Two seals of one block are different bytes: a late one would
//!   not be the one that the manifest accounts for.)
//! - Consent is decided at the beginning and again at the end.
//! - What is durable is known from the rows alone, so any voter can go on with an upload.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kura_cluster::command::RequestRow;
use kura_cluster::id::ContentId;
use kura_cluster::row::{ReceiptRow, RowKey, StagingPartRow, StagingRow};
use kura_cluster::seal::block::BLOCK_PLAINTEXT_BYTES_MAX;
use kura_cluster::word::Action;
use kura_cluster::{Command, Outcome, Revision};
use kura_proto::v1;
use prost::Message;
use tokio::task::JoinHandle;

use super::attempt::{Attempt, broken};
use super::body::{PartDraft, Place, body_sha256, check_sha256};
use super::caller::StatedActor;
use super::limits::{BODY_BYTES_MAX, PARTS_MAX, PROPOSE_TIMEOUT, STAGE_COMMAND_BYTES, STAGE_COMMAND_ROWS};
use super::new_record::NewRecord;
use super::propose::{Proposed, Proposer};
use super::put::{self, Body, check_part, decide_write, write_record};
use super::stored::stored_before;
use super::transact::{ANOTHER_REQUEST, GIVEN_UP, Verdict};
use super::{Caller, Gateway, GatewayError};
use crate::random;
use crate::signature::Check;

/// Staging commands on their way at a time.
const COMMANDS_IN_FLIGHT_MAX: usize = 4;

/// An upload in progress on this voter.
pub struct Upload<'g> {
    gateway: &'g Gateway,
    caller: Caller,
    /// What is asked for, but for the body.
    request: v1::PutWholeRequest,
    record: NewRecord,
    place: Place,
    staging: Revision,
    parts: Vec<PartDraft>,
    /// The check of its signature, if it has one that is checked.
    signature: Option<Check>,
    /// The block being filled of the last part.
    filling: BytesMut,
    bytes: u64,
    command: Command,
    /// Plaintext bytes in `command`: however well they compress, the client hears of them soon.
    command_bytes: usize,
    in_flight: VecDeque<(Position, JoinHandle<Result<(), GatewayError>>)>,
    durable: Position,
    nonces: random::Nonces,
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Parts begun.
    pub parts: u32,
    /// Bytes of the last of them.
    pub bytes: u64,
    /// Bytes of all parts.
    pub bytes_total: u64,
}

impl Gateway {
    /// Begins an upload, or goes on with one. For a request that is known here to have been committed only
    /// the body's hashes are wanted.
    pub async fn begin_upload(&self, caller: &Caller, begin: v1::PutBegin) -> Result<Begun<'_>, GatewayError> {
        let request = v1::PutWholeRequest {
            actor: begin.actor.clone(),
            request: begin.request.clone(),
            participant: begin.participant.clone(),
            record: begin.record.clone(),
            parts: Vec::new(),
            beyond_prefecture: begin.beyond_prefecture,
        };
        let record = NewRecord::parse(&begin.participant, begin.record.as_ref())?;
        let without_body = put::asked(&request, &body_sha256([]))?;
        let vault = self.unsealed()?;
        let row = without_body.row(&vault, &caller.identity.name);
        if let Some(stored) = self.store.database().row(&row).map_err(broken)? {
            let known = RequestRow::decode(stored.value).map_err(|_| super::attempt::damaged(&row))?;
            if known.absent {
                return Err(GatewayError::RequestId { why: GIVEN_UP });
            }
            let waits = request.beyond_prefecture || put::may_narrow(&record);
            let application = caller.identity.name.clone();
            return Ok(Begun::Known(Box::new(Repeated { request, application, sha256: known.sha256, waits })));
        }
        let resumed =
            (!begin.resume_content.is_empty()).then(|| ContentId::from_slice(&begin.resume_content)).transpose();
        let resumed = resumed.map_err(|e| GatewayError::invalid("resume_content", e))?;
        let content_id = resumed.unwrap_or_else(|| ContentId(random::id()));
        let StatedActor::FacilityUser { facility, user, .. } = &caller.actor else {
            return Err(GatewayError::invalid("actor", "only a facility's user writes records"));
        };
        let row = |pseudonym: &[u8], key_version, begun_ms| StagingRow {
            pseudonym: Bytes::copy_from_slice(pseudonym),
            facility: facility.reveal().into(),
            user: user.reveal().into(),
            application: caller.identity.name.clone(),
            begun_ms,
            key_version,
            aborted: false,
        };
        let done = self
            .transact(caller, Action::Stage, None, |attempt| {
                let verdict = decide_write(attempt, caller, (&record, None), |attempt, writing| {
                    let data = writing.data;
                    let key = RowKey::staging(&data.pseudonym, &content_id);
                    let found = attempt.load_of::<StagingRow>(&key, &data.pseudonym)?;
                    let fresh = row(&data.pseudonym.0, data.version, attempt.now_ms);
                    match (&found.value, resumed) {
                        (None, None) => {
                            attempt.put_with(&key, &data, Revision::ABSENT, &fresh);
                            Ok(data)
                        }
                        // Rewritten: from here on nothing is staged or committed that another gateway
                        // still has on its way for this upload. What it staged before can be counted.
                        (Some(before), Some(_)) if is_same(before, &fresh) => {
                            // All blocks of a content are sealed by one version.
                            let data = attempt.data_key(&data.pseudonym, before.key_version)?;
                            attempt.put_with(&key, &data, found.revision, &**before);
                            Ok(data)
                        }
                        _ => Err(GatewayError::NotFound { what: "an upload of this caller under this content id" }),
                    }
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let data = done.value.ok_or(GatewayError::Unknown)?;
        let cluster_id = self.unsealed()?.cluster_id();
        let signature = self.signatures.begin(&record.signature, &record.timestamp_token);
        let mut upload = Upload {
            gateway: self,
            caller: caller.clone(),
            request,
            record,
            place: Place { cluster_id, content_id, data },
            staging: done.committed.revision,
            parts: Vec::new(),
            signature,
            filling: BytesMut::new(),
            bytes: 0,
            command: Command::default(),
            command_bytes: 0,
            in_flight: VecDeque::new(),
            durable: Position::default(),
            nonces: random::Nonces::new(),
        };
        if resumed.is_some() {
            tokio::task::block_in_place(|| upload.recount())?;
        }
        Ok(Begun::Upload(Box::new(upload)))
    }
}

/// How an upload begins.
pub enum Begun<'g> {
    /// Data is wanted.
    Upload(Box<Upload<'g>>),
    /// The request id was used before.
    Known(Box<Repeated>),
}

/// A request that was committed before, until it has named its body: a receipt is told only for the body
/// that is stored.
pub struct Repeated {
    request: v1::PutWholeRequest,
    application: String,
    sha256: Bytes,
    /// Whether it is restrictive, or was to reach beyond the prefecture: then it is never told as done without saying
    /// how far it has reached.
    waits: bool,
}

impl Repeated {
    /// The receipt, if all that is asked for is what was committed, the body included.
    pub async fn finish(self, gateway: &Gateway, finish: &v1::PutFinish) -> Result<v1::Receipt, GatewayError> {
        let hashes: Result<Vec<[u8; 32]>, _> = finish.part_sha256.iter().map(|hash| hash[..].try_into()).collect();
        let hashes = hashes.ok().filter(|hashes| !hashes.is_empty()).ok_or_else(|| {
            let why = "each part's SHA-256 (32 bytes) is needed: the request was committed before";
            GatewayError::invalid("part_sha256", why)
        })?;
        if put::asked(&self.request, &body_sha256(&hashes))?.sha256 != self.sha256[..] {
            return Err(GatewayError::RequestId { why: ANOTHER_REQUEST });
        }
        let ask = v1::OutcomeRequest { request: self.request.request };
        let told = gateway.recall(&self.application, ask, self.waits).await?;
        told.receipt.ok_or(GatewayError::Expired)
    }
}

fn is_same(before: &StagingRow, now: &StagingRow) -> bool {
    !before.aborted
        && before.facility == now.facility
        && before.user == now.user
        && before.application == now.application
}

impl Upload<'_> {
    /// The content id, to resume with.
    pub fn content_id(&self) -> ContentId {
        self.place.content_id
    }

    /// What is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Rebuilds the account of the parts from the rows: lengths, hashes, and the running SHA-256.
    fn recount(&mut self) -> Result<(), GatewayError> {
        let entry = kura_cluster::row::JournalEntry::default();
        let attempt = Attempt::begin(self.gateway, &entry)?;
        for number in 0..PARTS_MAX {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let key = RowKey::staging_part(&self.place.data.pseudonym, &self.place.content_id, number);
            let Some(row) = attempt.look_of::<StagingPartRow>(&key, &self.place.data.pseudonym)?.value else { break };
            let mut part = PartDraft::new(row.name.clone(), row.media_type.clone());
            for index in 0.. {
                let Some(stored) = attempt.database.row(&self.place.block_key(number, index)).map_err(broken)? else {
                    break;
                };
                // A part's last block is sealed as such; which one it is shows when it opens.
                let open = |last| self.place.open(number, index, last, &stored.value).ok();
                let (plain, last) = match open(false) {
                    Some(plain) => (plain, false),
                    None => (open(true).ok_or(GatewayError::Damaged { what: "block" })?, true),
                };
                part.account(stored.value.len(), &stored.header.value_sha256, &plain);
                if let Some(check) = &mut self.signature {
                    check.update(&plain);
                }
                if last {
                    part.complete = true;
                    break;
                }
            }
            self.bytes += part.bytes;
            self.parts.push(part);
        }
        self.durable = self.position();
        Ok(())
    }

    fn position(&self) -> Position {
        Position {
            parts: u32::try_from(self.parts.len()).unwrap_or(u32::MAX),
            bytes: self.parts.last().map_or(0, |part| part.bytes),
            bytes_total: self.bytes,
        }
    }

    /// Begins the next part; the one before is complete.
    pub async fn part(&mut self, part: v1::PutPart) -> Result<(), GatewayError> {
        check_part(&part.name, &part.media_type)?;
        // After a resumption the client begins the open part again: it goes on.
        if let Some(last) = self.parts.last()
            && last.name == part.name
            && !last.complete
            && self.filling.is_empty()
        {
            return Ok(());
        }
        if self.parts.iter().any(|before| before.name == part.name) {
            return Err(GatewayError::invalid("parts.name", "two parts have the same name"));
        }
        if self.parts.len() >= PARTS_MAX {
            return Err(GatewayError::invalid("parts", format!("more than {PARTS_MAX} parts")));
        }
        self.end_part().await?;
        let number = u16::try_from(self.parts.len()).unwrap_or(u16::MAX);
        let row = StagingPartRow { name: part.name.clone(), media_type: part.media_type.clone() };
        let key = RowKey::staging_part(&self.place.data.pseudonym, &self.place.content_id, number);
        let cluster_id = self.place.cluster_id;
        let context = kura_cluster::seal::RowContext {
            cluster_id: &cluster_id,
            name: kura_cluster::seal::RowName::Full(key.as_bytes()),
            supersedes: Revision::ABSENT,
            open_part_sha256: None,
        };
        let nonce = self.nonces.take();
        let data = &self.place.data;
        let sealed = kura_cluster::seal::seal_row(&data.key, data.version, &context, &nonce, &row.encode_to_vec());
        self.command.put(&key, sealed);
        self.parts.push(PartDraft::new(part.name, part.media_type));
        Ok(())
    }

    /// Takes data of the last part.
    pub async fn data(&mut self, mut data: Bytes) -> Result<(), GatewayError> {
        if self.parts.last().is_none_or(|part| part.complete) {
            return Err(GatewayError::invalid("data", "comes before any part was begun"));
        }
        self.bytes += data.len() as u64;
        if self.bytes > BODY_BYTES_MAX {
            return Err(GatewayError::invalid(
                "data",
                format!("the body is longer than {BODY_BYTES_MAX} bytes, the limit"),
            ));
        }
        while !data.is_empty() {
            // A full block goes only when more comes: the last one has to be sealed as such.
            if self.filling.len() == BLOCK_PLAINTEXT_BYTES_MAX {
                self.seal_block(false).await?;
            }
            let room = BLOCK_PLAINTEXT_BYTES_MAX - self.filling.len();
            self.filling.extend_from_slice(&data.split_to(room.min(data.len())));
        }
        Ok(())
    }

    async fn end_part(&mut self) -> Result<(), GatewayError> {
        match self.parts.last() {
            Some(part) if !part.complete => {
                self.seal_block(true).await?;
                if let Some(part) = self.parts.last_mut() {
                    part.complete = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn seal_block(&mut self, last: bool) -> Result<(), GatewayError> {
        let number = u16::try_from(self.parts.len().saturating_sub(1)).unwrap_or(u16::MAX);
        let Some(part) = self.parts.last_mut() else { return Ok(()) };
        let index = part.blocks();
        let nonce = self.nonces.take();
        let (place, filling, check) = (&self.place, &self.filling, &mut self.signature);
        let sealed = tokio::task::block_in_place(|| {
            let sealed = place.seal(number, index, last, &nonce, filling);
            part.account(sealed.bytes.len(), &sealed.sha256, filling);
            if let Some(check) = check {
                check.update(filling);
            }
            sealed
        });
        self.command_bytes += self.filling.len();
        self.filling.clear();
        self.command.put(&self.place.block_key(number, index), sealed.bytes);
        // Small blocks gather; a further large one would push the command over its bound, and the
        // client keeps what is not yet durable in a window of a few MiB.
        if self.command_bytes >= STAGE_COMMAND_BYTES || self.command.writes.len() >= STAGE_COMMAND_ROWS {
            self.send().await?;
        }
        Ok(())
    }

    /// Proposes what has gathered.
    pub(super) async fn send(&mut self) -> Result<(), GatewayError> {
        if self.command.writes.is_empty() {
            return Ok(());
        }
        self.gateway.space.check_writes().map_err(|why| GatewayError::LowSpace { why })?;
        let mut command = std::mem::take(&mut self.command);
        self.command_bytes = 0;
        command.format = kura_cluster::command::COMMAND_FORMAT;
        command.at_ms = self.gateway.now_ms()?;
        command.expect(&self.place.staging_key(), self.staging);
        while self.in_flight.len() >= COMMANDS_IN_FLIGHT_MAX {
            self.settle_one().await?;
        }
        let task = tokio::spawn(stage(self.gateway.proposer.clone(), command.encode_to_vec().into()));
        self.in_flight.push_back((self.position_without_filling(), task));
        Ok(())
    }

    fn position_without_filling(&self) -> Position {
        let position = self.position();
        Position { bytes_total: self.parts.iter().map(|part| part.bytes).sum(), ..position }
    }

    /// Whether commands are on their way.
    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Waits until the oldest command on its way is durable, and tells how far the upload is then.
    /// Nothing is lost if the wait is given up.
    pub async fn settle_one(&mut self) -> Result<Position, GatewayError> {
        let Some((position, task)) = self.in_flight.front_mut() else { return Ok(self.durable) };
        let settled = task.await.map_err(|_| GatewayError::Unknown);
        self.durable = *position;
        self.in_flight.pop_front();
        settled??;
        Ok(self.durable)
    }

    /// Ends the last part, makes everything durable and commits the record.
    pub async fn finish(mut self, finish: v1::PutFinish) -> Result<v1::Receipt, GatewayError> {
        if self.parts.is_empty() {
            return Err(GatewayError::invalid("parts", "none was begun"));
        }
        self.end_part().await?;
        self.send().await?;
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        let hashes: Vec<[u8; 32]> = self.parts.iter().map(PartDraft::sha256).collect();
        if !finish.part_sha256.is_empty() && finish.part_sha256.len() != hashes.len() {
            let why = format!("{} are given for {} parts", finish.part_sha256.len(), hashes.len());
            return Err(GatewayError::invalid("part_sha256", why));
        }
        for (given, found) in finish.part_sha256.iter().zip(&hashes) {
            check_sha256(given, found)?;
        }
        let body_hash = body_sha256(&hashes);
        let asked = put::asked(&self.request, &body_hash)?;
        let Upload { gateway, caller, request, record, place, staging, parts, mut signature, .. } = self;
        let parts_count = parts.len();
        let mut body = Body { place, parts, signature_check: None };
        let record_id = put::id_of(&caller, &record);
        let done = gateway
            .transact(&caller, Action::Put, Some(&asked), |attempt| {
                let mut receipt = ReceiptRow::default();
                let verdict: Verdict<bool> =
                    decide_write(attempt, &caller, (&record, Some(&body_hash)), |attempt, writing| {
                        if let Some(before) = stored_before(attempt, &caller, &writing, &record, &body_hash)? {
                            // The blocks stay staged under their staging row until the sweeper takes them.
                            receipt = before;
                            return Ok(true);
                        }
                        // Only for a record that may be written, and once; it takes longer than a task of the runtime may.
                        if let Some(check) = signature.take() {
                            body.signature_check = Some(tokio::task::block_in_place(|| check.finish(attempt.now_ms)));
                        }
                        let key = body.place.staging_key();
                        attempt.command.expect(&key, staging);
                        attempt.command.delete(&key);
                        for number in 0..parts_count {
                            let number = u16::try_from(number).unwrap_or(u16::MAX);
                            attempt.command.delete(&RowKey::staging_part(
                                &body.place.data.pseudonym,
                                &body.place.content_id,
                                number,
                            ));
                        }
                        receipt = write_record(attempt, &caller, &record, &writing, &body, record_id)?;
                        Ok(false)
                    })?;
                Ok((verdict, receipt))
            })
            .await?;
        let mut receipt = gateway.receipt(&done, &asked, request.beyond_prefecture || put::may_narrow(&record)).await;
        receipt.repeated |= done.value == Some(true);
        Ok(receipt)
    }
}

async fn stage(proposer: Proposer, command: Bytes) -> Result<(), GatewayError> {
    let Proposed { outcome, .. } = proposer.propose(command, Instant::now() + PROPOSE_TIMEOUT).await?;
    match outcome {
        Outcome::Committed(_) => Ok(()),
        _ => Err(GatewayError::NotFound { what: "the upload: it was committed or given up meanwhile" }),
    }
}
