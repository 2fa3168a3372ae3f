//! A record of the old log: opened block by block, and written again under the present keys.
//!
//! Invariants
//! - A record comes back whole or not at all: every block's hash and place, every part's hash are checked.
//! - It keeps its id and its version's number: receipts of then name it. Where another version of that number was
//!   written since, it is refused.
//! - Memory is bounded: a short body is held whole, of a longer one a block.

use kura_cluster::Revision;
use kura_cluster::id::{ContentId, RecordId};
use kura_cluster::row::{Manifest, ManifestOpen, RecordControl, RowKey, StoredRow, Table};
use kura_cluster::seal::{open_row, row};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::super::attempt::{Attempt, DataKey, broken};
use super::super::body::{Place, open_manifest};
use super::super::caller::{Salvaged, StatedActor};
use super::super::limits::WHOLE_BYTES_MAX;
use super::super::new_record::NewRecord;
use super::super::participant::Known;
use super::super::put::decide_write;
use super::super::stage::Begun;
use super::super::stored::stored_before;
use super::super::transact::Verdict;
use super::super::{Caller, GatewayError};
use super::open::pseudonym_in;
use super::widen::wire;
use super::{Disk, Item, Outcome, Salvage, Told, request, told, told_of};

/// A record's version, opened but for its body.
pub(super) struct Found {
    pub record: RecordId,
    version: u32,
    data: DataKey,
    open: ManifestOpen,
    pub manifest: Manifest,
    pub control: RecordControl,
}

/// Why a body did not come.
enum Missing {
    /// In words.
    Because(&'static str),
    /// The run cannot go on.
    Error(GatewayError),
}

impl From<GatewayError> for Missing {
    fn from(error: GatewayError) -> Missing {
        Missing::Error(error)
    }
}

impl Salvage {
    /// Offers a record's version.
    pub(super) async fn bring(
        &mut self,
        item: &Item,
        participant: String,
        known: &Known,
        disk: &mut impl Disk,
    ) -> Result<Told, GatewayError> {
        let found = match self.found(item, known)? {
            Ok(found) => found,
            Err(why) => return Ok(told(Outcome::Unreadable, why)),
        };
        if let Some(done) = self.before(&found, known)? {
            return Ok(done);
        }
        let restricted = self.restricted.get(&found.record);
        let salvaged = Salvaged {
            record_id: Some(found.record),
            hidden: restricted.is_some_and(|restricted| restricted.hidden),
            ..Salvaged::default()
        };
        let mut wire_record = new_record(&found);
        if let Some(restricted) = restricted.filter(|restricted| !restricted.addressees.is_empty()) {
            let own = &mut wire_record.addressees;
            match own.is_empty() {
                true => own.clone_from(&restricted.addressees),
                // A later version may have been for fewer.
                false => own.retain(|addressee| restricted.addressees.contains(addressee)),
            }
            if own.is_empty() {
                return Ok(told(Outcome::ByHand, "nobody is left to whom it was addressed and narrowed"));
            }
        }
        let record = match NewRecord::parse(&participant, Some(&wire_record)) {
            Ok(record) => record,
            Err(error) => return Ok((Outcome::Refused, error.to_string())),
        };
        let caller = match self.caller(item, salvaged) {
            Ok(caller) => caller,
            Err(why) => return Ok(told(Outcome::ByHand, why)),
        };
        if !matches!(&caller.actor, StatedActor::FacilityUser { facility, .. }
            if facility.reveal() == found.control.author_facility)
        {
            return Ok(told(Outcome::Unreadable, "its rows do not fit its journal entry"));
        }
        // Decided before its body is asked for. What is refused is journalled, if this run applies.
        let body_sha256 = &found.manifest.body_sha256[..];
        let Ok(body_sha256) = body_sha256.try_into() else {
            return Ok(told(Outcome::Unreadable, "its manifest is malformed"));
        };
        match self.decided(&caller, &record, body_sha256).await {
            Ok(false) => {}
            Ok(true) => return Ok(told(Outcome::There, "the same document is there")),
            Err(error) => return told_of(Err(error)),
        }
        if !self.apply {
            self.brought.insert(found.record, found.version);
            return Ok(told(Outcome::Applied, ""));
        }
        let ask = v1::PutWholeRequest {
            request: request(&item.old.entry),
            participant,
            record: Some(wire_record),
            ..v1::PutWholeRequest::default()
        };
        let written = match found.manifest.bytes <= WHOLE_BYTES_MAX as u64 {
            true => self.write_whole(&caller, ask, &found, disk).await,
            false => self.write_long(&caller, ask, &found, disk).await,
        };
        let done = match written {
            Ok(receipt) => told_of(Ok(receipt))?,
            Err(Missing::Because(why)) => told(Outcome::Unreadable, why),
            Err(Missing::Error(error)) => told_of(Err(error))?,
        };
        if done.0 == Outcome::Applied {
            self.brought.insert(found.record, found.version);
        }
        Ok(done)
    }

    /// Opens manifest and control row; `Err` says why they are not what they should be.
    pub(super) fn found(&self, item: &Item, known: &Known) -> Result<Result<Found, &'static str>, GatewayError> {
        let entry = &item.old.entry;
        let attempt = Attempt::begin(&self.gateway, entry)?;
        let Ok(record) = RecordId::from_slice(&entry.record_id) else { return Ok(Err("without a record")) };
        let Some((key, value)) = item.old.puts(Table::Record).next() else { return Ok(Err("without a manifest")) };
        let Some(home) = pseudonym_in(&key).filter(|home| key == RowKey::record(home, &record, entry.version)) else {
            return Ok(Err("its rows do not fit its journal entry"));
        };
        let stored = StoredRow::new(Revision::ABSENT, Revision::ABSENT, value.clone());
        let mut data = None;
        let opened = open_manifest(&key, &attempt.vault.cluster_id(), &stored, |context, sealed| {
            let version = row::peek_header(sealed).ok()?.key_version;
            let key = self.tail.data_key(&attempt, &home, version).ok()??;
            let plain = open_row(&key.key, key.version, context, sealed).ok();
            data = Some(key);
            plain
        });
        let (Some((open, manifest)), Some(data)) = (opened, data) else {
            return Ok(Err("it does not open: its key was destroyed, or it is damaged"));
        };
        let Some(control) = self.control_then(&attempt, item)? else {
            return Ok(Err("its control row does not open"));
        };
        let is_theirs = entry.pseudonym == home.0[..] || known.is(&home.0);
        if !is_theirs || manifest.version != entry.version || open.key_version != data.version {
            return Ok(Err("its rows do not fit its journal entry"));
        }
        // Another version's control row, as genuine as this one's, may be for more: it does not come back with this.
        if control.version != entry.version || control.written_ms != manifest.written_ms {
            return Ok(Err("its control row is another version's"));
        }
        Ok(Ok(Found { record, version: entry.version, data, open, manifest, control }))
    }

    /// What is said of a version that is here already, or does not fit on what is here.
    fn before(&self, found: &Found, known: &Known) -> Result<Option<Told>, GatewayError> {
        let now = self.control_now(known, &found.record)?.map_or(0, |control| control.version);
        let now = now.max(self.brought.get(&found.record).copied().unwrap_or(0));
        if now + 1 == found.version {
            return Ok(None);
        }
        if now < found.version {
            return Ok(Some(told(Outcome::Refused, "an earlier version of it is not here")));
        }
        Ok(Some(match self.manifest_now(known, &found.record, found.version)? {
            Some(manifest) if manifest.body_sha256 == found.manifest.body_sha256 => told(Outcome::There, ""),
            _ => told(Outcome::Refused, "another version of that number was written since"),
        }))
    }

    /// The manifest of a version as it is here now.
    pub(super) fn manifest_now(
        &self,
        known: &Known,
        record: &RecordId,
        version: u32,
    ) -> Result<Option<Manifest>, GatewayError> {
        let mut attempt = Attempt::begin(&self.gateway, &Default::default())?;
        let home = attempt.home(known, record)?.pseudonym;
        let key = RowKey::record(&home, record, version);
        let Some(stored) = attempt.database.row(&key).map_err(broken)? else { return Ok(None) };
        let opened = open_manifest(&key, &attempt.vault.cluster_id(), &stored, |context, sealed| {
            attempt.open_data(&home, context, sealed)
        });
        Ok(opened.map(|(_, manifest)| manifest))
    }

    /// Decides a writing without doing it: whether its document is there already. A refusal is journalled, if this run
    /// applies.
    async fn decided(&self, caller: &Caller, record: &NewRecord, body_sha256: &[u8; 32]) -> Result<bool, GatewayError> {
        let mut rehearsing = caller.clone();
        if let Some(salvaged) = &caller.salvaged {
            rehearsing.salvaged = Some(Salvaged { rehearsed: true, ..(**salvaged).clone() }.into());
        }
        let decide = async |caller: &Caller| {
            let done = self.gateway.transact(caller, Action::Put, None, |attempt| {
                let asked = (record, Some(body_sha256));
                let verdict: Verdict<bool> = decide_write(attempt, caller, asked, |attempt, writing| {
                    Ok(stored_before(attempt, caller, &writing, record, body_sha256)?.is_some())
                })?;
                Ok((verdict, Default::default()))
            });
            Ok(done.await?.value == Some(true))
        };
        match decide(&rehearsing).await {
            Err(GatewayError::Denied { .. }) if self.apply => decide(caller).await,
            decided => decided,
        }
    }

    /// One block of the old body, opened.
    async fn block(
        &self,
        found: &Found,
        place: &Place,
        (part, index): (usize, usize),
        disk: &mut impl Disk,
    ) -> Result<Vec<u8>, Missing> {
        const DAMAGED: Missing = Missing::Because("a block of its body is damaged");
        let blocks = &found.open.parts[part];
        let last = index + 1 == blocks.lengths.len();
        let (part, number) = (u16::try_from(part).unwrap_or(u16::MAX), u32::try_from(index).unwrap_or(u32::MAX));
        let sealed = disk.block(&place.block_key(part, number)).await?;
        let sealed = sealed.ok_or(Missing::Because("a block of its body is not on the disk"))?;
        let hash: [u8; 32] =
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &sealed)).into();
        if blocks.sha256s.get(32 * index..32 * index + 32) != Some(&hash[..]) {
            return Err(DAMAGED);
        }
        tokio::task::block_in_place(|| place.open(part, number, last, &sealed)).map_err(|_| DAMAGED)
    }

    fn place(&self, found: &Found) -> Result<Place, Missing> {
        let content_id =
            ContentId::from_slice(&found.open.content_id).map_err(|_| Missing::Because("its manifest is malformed"))?;
        let cluster_id = self.gateway.unsealed()?.cluster_id();
        Ok(Place { cluster_id, content_id, data: found.data.clone() })
    }

    async fn write_whole(
        &self,
        caller: &Caller,
        mut ask: v1::PutWholeRequest,
        found: &Found,
        disk: &mut impl Disk,
    ) -> Result<v1::Receipt, Missing> {
        let place = self.place(found)?;
        for (number, part) in found.manifest.parts.iter().enumerate() {
            let mut data = Vec::new();
            for index in 0..found.open.parts[number].lengths.len() {
                data.extend(self.block(found, &place, (number, index), disk).await?);
                if data.len() > WHOLE_BYTES_MAX {
                    return Err(Missing::Because("its body is longer than its manifest says"));
                }
            }
            ask.parts.push(v1::WholePart {
                name: part.name.clone(),
                media_type: part.media_type.clone(),
                data: data.into(),
                sha256: wire(&part.sha256),
            });
        }
        Ok(self.gateway.put_whole(caller, ask).await?)
    }

    async fn write_long(
        &self,
        caller: &Caller,
        ask: v1::PutWholeRequest,
        found: &Found,
        disk: &mut impl Disk,
    ) -> Result<v1::Receipt, Missing> {
        let place = self.place(found)?;
        let begin = v1::PutBegin {
            request: ask.request,
            participant: ask.participant,
            record: ask.record,
            ..v1::PutBegin::default()
        };
        let mut upload = match self.gateway.begin_upload(caller, begin).await? {
            Begun::Upload(upload) => upload,
            Begun::Known(_) => return Err(Missing::Because("its application is repeating it")),
        };
        for (number, part) in found.manifest.parts.iter().enumerate() {
            upload.part(v1::PutPart { name: part.name.clone(), media_type: part.media_type.clone() }).await?;
            for index in 0..found.open.parts[number].lengths.len() {
                upload.data(self.block(found, &place, (number, index), disk).await?.into()).await?;
            }
        }
        let part_sha256 = found.manifest.parts.iter().map(|part| wire(&part.sha256)).collect();
        Ok(upload.finish(v1::PutFinish { part_sha256 }).await?)
    }
}

/// What the application sent, as far as it was kept.
fn new_record(found: &Found) -> v1::NewRecord {
    let manifest = &found.manifest;
    let (author, enterer) = (manifest.author.clone().unwrap_or_default(), manifest.enterer.clone().unwrap_or_default());
    let confirmer = manifest.confirmer.clone().unwrap_or_default();
    v1::NewRecord {
        class: manifest.class,
        media_type: manifest.media_type.clone(),
        clinical_day: manifest.clinical_day,
        document_id: manifest.document_id.clone(),
        addressees: found.control.addressees.clone(),
        record_id: if found.version > 1 { wire(&found.record.0) } else { Default::default() },
        author_user: author.user,
        signature: manifest.signature.clone(),
        timestamp_token: manifest.timestamp_token.clone(),
        signature_result: manifest.signature_result.clone(),
        related_record_id: manifest.related_record_id.clone(),
        relation: manifest.relation,
        related_version: manifest.related_version,
        author_ms: author.at_ms,
        enterer_user: enterer.user,
        enterer_ms: enterer.at_ms,
        confirmer_user: confirmer.user,
        confirmer_ms: confirmer.at_ms,
        former_document_ids: Vec::new(),
    }
}
