//! Reading a record: decide and journal, then verify, open and decompress its blocks.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::command::Committed;
use kura_cluster::consent::{Act, Facts, decide};
use kura_cluster::id::{ContentId, EpisodeId, RecordId};
use kura_cluster::row::{JournalEntry, Manifest, ManifestOpen, ReceiptRow, RecordControl, RowKey, SignatureCheck};
use kura_cluster::word::{Action, Purpose};
use kura_proto::v1;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, broken};
use super::body::{self, Place};
use super::caller::CallerRows;
use super::consents::bounded;
use super::emergency::{Episode, episode_id};
use super::participant::number;
use super::recheck::ReadingClock;
use super::service::Doing;
use super::transact::Verdict;
use super::unopened::{Damaged, Stored};
use super::{Caller, Gateway, GatewayError};

/// Data sent along with the header, so that a small body needs no second message.
const HEADER_DATA_BYTES_MAX: u64 = 64 << 10;
/// What errors call a record's manifest.
const RECORD: &str = "record";

/// A permitted read.
pub struct Reading {
    gateway: Arc<Gateway>,
    caller: Caller,
    asked: Question,
    place: Place,
    open: ManifestOpen,
    /// Part, block, and where the next byte lies in it.
    next: Cursor,
    remaining: u64,
    clock: ReadingClock,
}

/// A record asked for.
#[derive(Clone)]
pub(super) struct Question {
    pub number: kura_cluster::ParticipantNumber,
    pub record_id: RecordId,
    /// 0: the newest.
    pub version: u32,
    pub purpose: Purpose,
    pub range_start: u64,
    /// 0: to the end.
    pub range_length: u64,
    /// Only this part; empty: the whole body.
    pub part: String,
    /// The emergency under which it is asked.
    pub episode: Option<EpisodeId>,
}

impl Question {
    /// All of a record's newest version.
    pub fn whole(number: kura_cluster::ParticipantNumber, record_id: RecordId, purpose: Purpose) -> Question {
        Question {
            number,
            record_id,
            version: 0,
            purpose,
            range_start: 0,
            range_length: 0,
            part: String::new(),
            episode: None,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    part: usize,
    block: usize,
    /// Bytes of the block to pass over.
    skip: usize,
}

pub(super) struct Permitted {
    pub pseudonym: Pseudonym,
    pub control: Arc<RecordControl>,
    pub version: u32,
    /// Where the decision has opened it already.
    pub manifest: Option<Box<(ManifestOpen, Manifest)>>,
}

/// What may be handed out of a record: it, or that it does not open.
pub(super) type Answer = Result<Permitted, Damaged>;

impl Gateway {
    /// Decides and journals a read. Nothing of the record has left when this returns.
    pub async fn read(
        self: &Arc<Self>,
        caller: &Caller,
        request: v1::GetRequest,
    ) -> Result<(v1::RecordHeader, Reading), GatewayError> {
        let asked = Question {
            number: number(&request.participant)?,
            record_id: RecordId::from_slice(&request.record_id).map_err(|e| GatewayError::invalid("record_id", e))?,
            version: request.version,
            purpose: Gateway::purpose(caller, request.purpose)?,
            range_start: request.range_start,
            range_length: request.range_length,
            part: request.part,
            episode: episode_id(&request.episode_id)?,
        };
        bounded("part", &asked.part)?;
        if !asked.part.is_empty() && (asked.range_start, asked.range_length) != (0, 0) {
            return Err(GatewayError::invalid("part", "is given together with a range"));
        }
        let clock = ReadingClock::start();
        let done = self
            .transact(caller, Doing::look(Action::Get, asked.episode.as_ref()), None, |attempt| {
                Ok((decide_read(attempt, caller, &asked)?, ReceiptRow::default()))
            })
            .await?;
        let found = done.value.ok_or(GatewayError::Unknown)?.map_err(|_| GatewayError::Damaged { what: RECORD })?;
        Reading::open(self, caller, asked, found, &done.committed, clock)
    }

    /// Lists the versions of a record.
    pub async fn history(
        &self,
        caller: &Caller,
        request: v1::HistoryRequest,
    ) -> Result<v1::HistoryReply, GatewayError> {
        let record_id = RecordId::from_slice(&request.record_id).map_err(|e| GatewayError::invalid("record_id", e))?;
        let purpose = Gateway::purpose(caller, request.purpose)?;
        let mut asked = Question::whole(number(&request.participant)?, record_id, purpose);
        asked.episode = episode_id(&request.episode_id)?;
        let done = self
            .transact(caller, Doing::look(Action::History, asked.episode.as_ref()), None, |attempt| {
                let verdict = decide_read(attempt, caller, &asked)?.try_map(|found| {
                    let highest = match &found {
                        Ok(found) => found.control.version,
                        // What is the newest is not known, so that there is nothing to go through.
                        Err(damaged) if damaged.0.version == 0 => {
                            return Ok(vec![damaged.clone().told(&asked.record_id)]);
                        }
                        Err(damaged) => damaged.0.version,
                    };
                    let mut versions = Vec::new();
                    let entry = (attempt.entry.clone(), attempt.entry_facilities.clone());
                    for version in 1..=highest {
                        // Each is told to whoever may read it; the entry is about the record.
                        let earlier = Question { version, ..asked.clone() };
                        versions.extend(match decide_read(attempt, caller, &earlier)? {
                            Verdict::Denied(_) => None,
                            Verdict::Permitted { value: Err(damaged), .. } => Some(damaged.told(&asked.record_id)),
                            Verdict::Permitted { value: Ok(found), .. } => {
                                let (_, manifest) = found.manifest(attempt, &asked.record_id)?;
                                Some(summary(&asked.record_id, &found.control, &manifest))
                            }
                        });
                    }
                    (attempt.entry, attempt.entry_facilities) = entry;
                    if versions.iter().any(|version| version.damaged.is_some()) {
                        attempt.entry.damaged_record_ids = vec![Bytes::copy_from_slice(&asked.record_id.0)];
                    }
                    Ok(versions)
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        Ok(v1::HistoryReply { versions: done.value.ok_or(GatewayError::Unknown)?, journal_position })
    }
}

impl Permitted {
    /// Its manifest.
    pub fn manifest(&self, attempt: &Attempt<'_>, record: &RecordId) -> Result<(ManifestOpen, Manifest), GatewayError> {
        match &self.manifest {
            Some(opened) => Ok((**opened).clone()),
            None => load_manifest(attempt, &self.pseudonym, record, self.version),
        }
    }
}

/// Decides on a read of one record. One that does not open is decided on by what of it does.
pub(super) fn decide_read(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    asked: &Question,
) -> Result<Verdict<Answer>, GatewayError> {
    attempt.entry.record_id = Bytes::copy_from_slice(&asked.record_id.0);
    attempt.entry.purpose = asked.purpose.number();
    attempt.entry.range_start = asked.range_start;
    let rows = CallerRows::load(attempt, caller)?;
    let episode = asked.episode.as_ref().map(|id| Episode::load(attempt, id)).transpose()?;
    let known = attempt.participant(&asked.number)?;
    let mut found = None;
    let mut damaged = None;
    let mut earlier = None;
    if let Some(known) = &known {
        let home = attempt.home(known, &asked.record_id)?.pseudonym;
        let control = match attempt.stored_record(&home, &asked.record_id)? {
            // A version that was never written is no record; the one read names the class.
            Stored::Opens(control) => Some(control).filter(|control| asked.version <= control.version),
            Stored::Nothing => None,
            Stored::Damaged => {
                damaged = Some(Damaged::record());
                None
            }
        };
        // The control row tells of the newest version. An earlier one is decided on by what it is itself: else
        // a further version of another class or day would open what came before it. Of the days the earlier one counts:
        // what the author has dated back is of then in every version.
        let control = match control {
            Some(control) if asked.version != 0 && asked.version < control.version => {
                match find_manifest(attempt, &home, &asked.record_id, asked.version) {
                    // One that a restore took away is no record, either.
                    Ok(opened) => {
                        earlier = opened;
                        earlier.as_ref().map(|(_, manifest)| {
                            let clinical_day = manifest.clinical_day.min(control.clinical_day);
                            Arc::new(RecordControl { class: manifest.class, clinical_day, ..(*control).clone() })
                        })
                    }
                    // Nothing of it is told but that it is there: to whoever may see the record.
                    Err(error) if error.is_of_one_row() => {
                        damaged = Some(Damaged::version(&control, asked.version));
                        Some(control)
                    }
                    Err(error) => return Err(error),
                }
            }
            control => control,
        };
        found = control.map(|control| (home, control));
    }
    if let Some((_, control)) = &found {
        attempt.entry.class = control.class;
        attempt.entry.version = if asked.version == 0 { control.version } else { asked.version };
    }
    let record = known.as_ref().zip(found.as_ref()).map(|(known, (home, control))| known.record(home, control));
    let act = match (record, &damaged) {
        // Nobody can say who would see it: it is told to whoever is let in to the records.
        (None, Some(_)) => Act::ReadSeveral,
        (record, _) => Act::Read { record },
    };
    let facts = rows.facts(attempt.now_ms, act, known.as_ref().map(|k| &*k.row), Some(asked.purpose));
    let decision = decide(&Facts { emergency: episode.as_ref().map(Episode::facts), ..facts });
    Verdict::of(decision, |_| {
        if let Some(episode) = &episode {
            episode.mark(&mut attempt.entry);
        }
        let answer = match (found, damaged) {
            (_, Some(damaged)) => Err(damaged),
            (Some((pseudonym, control)), None) => {
                let version = if asked.version == 0 { control.version } else { asked.version };
                let loaded = || load_manifest(attempt, &pseudonym, &asked.record_id, version);
                match earlier.map_or_else(loaded, Ok) {
                    Ok(opened) => Ok(Permitted { pseudonym, control, version, manifest: Some(Box::new(opened)) }),
                    Err(error) if error.is_of_one_row() => Err(Damaged::version(&control, version)),
                    Err(error) => return Err(error),
                }
            }
            (None, None) => return Err(GatewayError::Damaged { what: "record-control" }),
        };
        match &answer {
            Ok(Permitted { manifest: Some(opened), .. }) if !asked.part.is_empty() => {
                // A part that is not there is told by whoever takes the read up: it was decided and is journalled.
                let range = part_range(&opened.1, &asked.part);
                attempt.entry.range_start = range.map_or(0, |range| range.start);
            }
            Ok(_) => {}
            Err(_) => attempt.entry.damaged_record_ids = vec![Bytes::copy_from_slice(&asked.record_id.0)],
        }
        Ok(answer)
    })
}

/// Which bytes of the whole body a part is.
fn part_range(manifest: &Manifest, name: &str) -> Option<Range<u64>> {
    let place = manifest.parts.iter().position(|part| part.name == name)?;
    let start = manifest.parts[..place].iter().map(|part| part.bytes).sum();
    Some(start..start + manifest.parts[place].bytes)
}

/// Manifests are immutable: they need no expectation.
pub fn load_manifest(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    record: &RecordId,
    version: u32,
) -> Result<(ManifestOpen, Manifest), GatewayError> {
    find_manifest(attempt, pseudonym, record, version)?.ok_or(GatewayError::Damaged { what: RECORD })
}

/// The same; `None` if there is no such version.
pub(super) fn find_manifest(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    record: &RecordId,
    version: u32,
) -> Result<Option<(ManifestOpen, Manifest)>, GatewayError> {
    let key = RowKey::record(pseudonym, record, version);
    let Some(stored) = attempt.database.row(&key).map_err(broken)? else { return Ok(None) };
    let opened = body::open_manifest(&key, &attempt.vault.cluster_id(), &stored, |context, sealed| {
        attempt.open_data(pseudonym, context, sealed)
    });
    opened.map(Some).ok_or_else(|| attempt.unopened(&key, &stored))
}

/// A record's control row as of its newest version that is there; `None` if none is. After a restore records go
/// back and control rows do not: these count versions that are no more, which are never issued again.
pub(super) fn there(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    record: &RecordId,
    control: Arc<RecordControl>,
) -> Result<Option<Arc<RecordControl>>, GatewayError> {
    // Only a restore takes versions away, and it begins a timeline.
    if attempt.timeline() == 0 {
        return Ok(Some(control));
    }
    let mut version = control.version;
    while version > 0 {
        let key = RowKey::record(pseudonym, record, version);
        if attempt.database.header(&key).map_err(broken)?.is_some() {
            break;
        }
        version -= 1;
    }
    if version == control.version || version == 0 {
        return Ok((version > 0).then_some(control));
    }
    let (_, manifest) = load_manifest(attempt, pseudonym, record, version)?;
    let (class, clinical_day) = (manifest.class, manifest.clinical_day);
    Ok(Some(Arc::new(RecordControl { version, class, clinical_day, ..(*control).clone() })))
}

/// What a caller is told of a record beside its body.
pub fn summary(record_id: &RecordId, control: &RecordControl, manifest: &Manifest) -> v1::RecordSummary {
    let [author, enterer, confirmer] =
        [&manifest.author, &manifest.enterer, &manifest.confirmer].map(|person| person.clone().unwrap_or_default());
    v1::RecordSummary {
        record_id: Bytes::copy_from_slice(&record_id.0),
        version: manifest.version,
        class: manifest.class,
        media_type: manifest.media_type.clone(),
        clinical_day: manifest.clinical_day,
        written_ms: manifest.written_ms,
        author_facility: author.facility,
        author_user: author.user,
        document_id: manifest.document_id.clone(),
        bytes: manifest.bytes,
        hidden: control.hidden,
        addressees: control.addressees.clone(),
        related_record_id: manifest.related_record_id.clone(),
        relation: manifest.relation,
        related_version: manifest.related_version,
        replaced_by: control.replaced_by.clone(),
        author_ms: author.at_ms,
        enterer_user: enterer.user,
        enterer_ms: enterer.at_ms,
        confirmer_user: confirmer.user,
        confirmer_ms: confirmer.at_ms,
        signed: !manifest.signature.is_empty(),
        signature_check: manifest.signature_check.as_ref().map_or(0, |check| check.result),
        damaged: None,
    }
}

fn told_check(check: SignatureCheck) -> v1::SignatureCheck {
    let SignatureCheck { result, at_ms, signer_sha256, timestamp_ms, why, timestamp_why } = check;
    v1::SignatureCheck { result, at_ms, signer_sha256, timestamp_ms, why, timestamp_why }
}

fn part_summary(part: &kura_cluster::row::Part) -> v1::PartSummary {
    v1::PartSummary {
        name: part.name.clone(),
        media_type: part.media_type.clone(),
        bytes: part.bytes,
        sha256: part.sha256.clone(),
    }
}

/// Blocks are full but for a part's last: a byte's place needs no search through them.
fn seek(manifest: &Manifest, start: u64) -> Cursor {
    let block_bytes = kura_cluster::seal::block::BLOCK_PLAINTEXT_BYTES_MAX as u64;
    let mut rest = start;
    for (part, described) in manifest.parts.iter().enumerate() {
        if rest < described.bytes {
            return Cursor { part, block: (rest / block_bytes) as usize, skip: (rest % block_bytes) as usize };
        }
        rest -= described.bytes;
    }
    Cursor { part: manifest.parts.len(), ..Cursor::default() }
}

impl Reading {
    /// Takes up what was permitted: what is told of the record, with the data of a short one, and the rest.
    pub(super) fn open(
        gateway: &Arc<Gateway>,
        caller: &Caller,
        mut asked: Question,
        found: Permitted,
        decided: &Committed,
        clock: ReadingClock,
    ) -> Result<(v1::RecordHeader, Reading), GatewayError> {
        // What is read here is immutable, and was decided on.
        let attempt = Attempt::begin(gateway, &JournalEntry::default())?;
        let (open, manifest) = match found.manifest {
            Some(opened) => *opened,
            None => load_manifest(&attempt, &found.pseudonym, &asked.record_id, found.version)?,
        };
        let data = attempt.data_key(&found.pseudonym, open.key_version)?;
        let cluster_id = attempt.vault.cluster_id();
        drop(attempt);
        asked.version = found.version;
        let range = match &asked.part[..] {
            "" => asked.range_start..manifest.bytes,
            name => part_range(&manifest, name).ok_or(GatewayError::NotFound { what: "a part of this name" })?,
        };
        if asked.range_start > manifest.bytes {
            let why = format!("lies beyond the body's {} bytes", manifest.bytes);
            return Err(GatewayError::invalid("range_start", why));
        }
        let rest = range.end - range.start;
        let remaining = if asked.range_length == 0 { rest } else { rest.min(asked.range_length) };
        let content_id =
            ContentId::from_slice(&open.content_id).map_err(|_| GatewayError::Damaged { what: "record" })?;
        let mut header = v1::RecordHeader {
            summary: Some(summary(&asked.record_id, &found.control, &manifest)),
            parts: manifest.parts.iter().map(part_summary).collect(),
            signature: manifest.signature.clone(),
            timestamp_token: manifest.timestamp_token.clone(),
            signature_result: manifest.signature_result.clone(),
            journal_position: decided.journal_first,
            index: decided.revision.index,
            timeline: decided.revision.timeline,
            data: Bytes::new(),
            signature_check: manifest.signature_check.clone().map(told_check),
        };
        let (place, next) = (Place { cluster_id, content_id, data }, seek(&manifest, range.start));
        let (gateway, caller) = (gateway.clone(), caller.clone());
        let mut reading = Reading { gateway, caller, asked, place, open, next, remaining, clock };
        if remaining <= HEADER_DATA_BYTES_MAX {
            let mut data = Vec::with_capacity(usize::try_from(remaining).unwrap_or(0));
            while let Some(chunk) = reading.next_block()? {
                data.extend_from_slice(&chunk);
            }
            header.data = data.into();
        }
        Ok((header, reading))
    }

    /// Whether all of it has been handed out.
    pub fn is_whole(&self) -> bool {
        self.remaining == 0
    }

    /// The next bytes, at most 1 MiB; `None` at the end. Decides again from time to time.
    pub async fn next(&mut self) -> Result<Option<Bytes>, GatewayError> {
        if self.is_whole() {
            return Ok(None);
        }
        self.clock.keep(&self.gateway, &self.caller, &self.asked).await?;
        tokio::task::block_in_place(|| self.next_block())
    }

    #[cfg(test)]
    pub(super) async fn check_again(&mut self, deadline: std::time::Instant) -> Result<(), GatewayError> {
        self.clock.check_again(&self.gateway, &self.caller, &self.asked, deadline).await
    }

    fn next_block(&mut self) -> Result<Option<Bytes>, GatewayError> {
        let damaged = || GatewayError::Damaged { what: "block" };
        while self.remaining > 0 {
            let Some(blocks) = self.open.parts.get(self.next.part) else { return Err(damaged()) };
            let Some(length) = blocks.lengths.get(self.next.block) else {
                self.next = Cursor { part: self.next.part + 1, ..Cursor::default() };
                continue;
            };
            let (part, index) = (self.next.part as u16, self.next.block as u32);
            let last = self.next.block + 1 == blocks.lengths.len();
            let expected = &blocks.sha256s[32 * self.next.block..32 * (self.next.block + 1)];
            let key = self.place.block_key(part, index);
            let stored = self.gateway.store.database().row(&key).map_err(broken)?.ok_or_else(damaged)?;
            let sealed = &stored.value;
            let unopened = || self.gateway.unopened.note(&key, stored.header.revision);
            if sealed.len() != *length as usize || Sha256::digest(sealed)[..] != *expected {
                return Err(unopened());
            }
            let plain = self.place.open(part, index, last, sealed).map_err(|_| unopened())?;
            let skip = self.next.skip;
            self.next = Cursor { part: self.next.part, block: self.next.block + 1, skip: 0 };
            let plain = Bytes::from(plain).slice(skip..);
            let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(plain.len());
            if take > 0 {
                self.remaining -= take as u64;
                return Ok(Some(plain.slice(..take)));
            }
        }
        Ok(None)
    }
}
