//! Writing a record: what both ways in (one message, or a staged upload) commit.

use bytes::Bytes;
use kura_cluster::consent::{Act, Related, decide};
use kura_cluster::id::{ContentId, RecordId, UserId};
use kura_cluster::row::{
    DocumentIdRow, InboxRow, Manifest, Part, Person, ReceiptRow, RecordControl, RowKey, SignatureCheck,
};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, Class, Relation};
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, DataKey};
use super::body::{self, PartDraft, Place, body_sha256, check_sha256, seal_part};
use super::caller::{CallerRows, StatedActor};
use super::consents::bounded;
use super::limits::{PARTS_MAX, VERSIONS_MAX, WHOLE_BYTES_MAX};
use super::lost;
use super::new_record::{NewRecord, NewRelation, check_media_type};
use super::participant::Known;
use super::read::find_manifest;
use super::rows::Loaded;
use super::stored::stored_before;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};
use crate::random;

/// What a decision to write found.
pub struct Writing {
    /// The participant.
    pub known: Known,
    /// The present data key under which the record lies.
    pub data: DataKey,
    control: Option<Loaded<RecordControl>>,
    related: Option<RelatedRow>,
    /// What is written instead, if a restore took the document's record away: a version of that.
    pub again: Option<NewRecord>,
    /// The row of its document id, if it has one.
    pub document: Option<(RowKey, Loaded<DocumentIdRow>)>,
}

/// The control row of the record that a new one refers to, with the data key under which that lies: it may be a
/// former number's.
struct RelatedRow {
    key: RowKey,
    data: DataKey,
    loaded: Loaded<RecordControl>,
}

/// Decides whether a record may be written; on permission `write` drafts the rows. `body_sha256` is the body's, once it
/// is known: an upload is decided on before it has come, and again with it.
pub fn decide_write<T>(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    (record, body_sha256): (&NewRecord, Option<&[u8; 32]>),
    write: impl FnOnce(&mut Attempt<'_>, Writing) -> Result<T, GatewayError>,
) -> Result<Verdict<T>, GatewayError> {
    record.check_times(attempt.now_ms)?;
    let again = lost::again(attempt, caller, record)?;
    let record = again.as_ref().unwrap_or(record);
    let rows = CallerRows::load(attempt, caller)?;
    attempt.entry.class = record.class.number();
    let known = attempt.participant(&record.number)?;
    // A further version lies where its record does, also where that is a former number's.
    let home = match (&known, &record.version_of) {
        (Some(known), Some(id)) => Some(attempt.home(known, id)?),
        (known, _) => known.as_ref().map(Known::own_home),
    };
    let data = home.map(|home| attempt.data_key(&home.pseudonym, home.key_version)).transpose()?;
    let mut control = None;
    if let (Some(id), Some(data)) = (&record.version_of, &data) {
        attempt.entry.record_id = Bytes::copy_from_slice(&id.0);
        let key = RowKey::record_control(&data.pseudonym, id);
        control = Some(attempt.load_of::<RecordControl>(&key, &data.pseudonym)?);
    }
    let mut related = None;
    if let (Some(other), Some(known)) = (&record.related, &known) {
        let home = attempt.home(known, &other.record)?;
        let data = attempt.data_key(&home.pseudonym, home.key_version)?;
        let key = RowKey::record_control(&home.pseudonym, &other.record);
        let loaded = attempt.load_of::<RecordControl>(&key, &home.pseudonym)?;
        related = Some(RelatedRow { key, data, loaded });
    }
    let earlier = control.as_ref().and_then(|loaded| loaded.value.clone());
    let other = related.as_ref().and_then(|related| related.loaded.value.clone());
    let earlier = known.as_ref().zip(data.as_ref()).zip(earlier.as_deref());
    let earlier = earlier.map(|((known, data), control)| known.record(&data.pseudonym, control));
    let other = known.as_ref().zip(related.as_ref()).zip(other.as_deref());
    let other = other.map(|((known, related), control)| known.record(&related.data.pseudonym, control));
    let body_day = match (&record.version_of, body_sha256, &data, earlier) {
        (Some(id), Some(sha256), Some(data), Some(earlier)) => {
            day_of_body(attempt, &data.pseudonym, id, earlier.control.version, sha256)?
        }
        _ => None,
    };
    let act = Act::Write {
        class: record.class,
        clinical_day: record.clinical_day,
        addressees: &record.addressees,
        earlier: record.version_of.as_ref().map(|_| earlier),
        body_day,
        related: record.related.as_ref().map(|asked| Related {
            relation: asked.relation,
            // A version that was never written is no record.
            record: other.filter(|found| asked.version <= found.control.version),
        }),
    };
    let facts = rows.facts(attempt.now_ms, act, known.as_ref().map(|k| &*k.row), None);
    Verdict::of(decide(&facts), |_| {
        let (Some(known), Some(data)) = (known, data) else {
            return Err(GatewayError::Damaged { what: "participant" });
        };
        keeps_class(record, control.as_ref())?;
        let facility = rows.facility().map(|f| f.id.clone()).unwrap_or_default();
        let document = match &record.document_id {
            Some(id) => {
                let key = lost::document_key(attempt, &facility, id.reveal());
                let loaded = attempt.load::<DocumentIdRow>(&key)?;
                Some((key, loaded))
            }
            None => None,
        };
        write(attempt, Writing { known, data, control, related, again: again.clone(), document })
    })
}

/// The earliest clinical day under which a record has had this body. Manifests are immutable; versions that a restore
/// took away, or that do not open, tell of none.
fn day_of_body(
    attempt: &Attempt<'_>,
    home: &Pseudonym,
    record: &RecordId,
    versions: u32,
    body_sha256: &[u8; 32],
) -> Result<Option<i32>, GatewayError> {
    let mut earliest: Option<i32> = None;
    for version in 1..=versions {
        let manifest = match find_manifest(attempt, home, record, version) {
            Err(error) if error.is_of_one_row() => None,
            found => found?.map(|(_, manifest)| manifest),
        };
        if let Some(manifest) = manifest.filter(|manifest| manifest.body_sha256[..] == body_sha256[..]) {
            earliest = Some(earliest.map_or(manifest.clinical_day, |day| day.min(manifest.clinical_day)));
        }
    }
    Ok(earliest)
}

/// A version is of its record's class: who may see a record goes by that.
fn keeps_class(record: &NewRecord, control: Option<&Loaded<RecordControl>>) -> Result<(), GatewayError> {
    let stored = control.and_then(|loaded| loaded.value.as_ref()).map(|control| control.class);
    match stored.and_then(|number| Class::from_number(number).ok()) {
        Some(stored) if stored != record.class => Err(GatewayError::Contradicts {
            field: "class",
            why: format!(
                "class: the record is a {}, and its versions are, too: who may see it goes by the class; if it was \
                 the wrong one, write a record of its own that replaces this one, and hide this one",
                stored.word()
            ),
        }),
        _ => Ok(()),
    }
}

/// A finished body: where it lies and what it is.
pub struct Body {
    /// Where.
    pub place: Place,
    /// Its parts.
    pub parts: Vec<PartDraft>,
    /// What was found of its signature, if that was checked.
    pub signature_check: Option<SignatureCheck>,
}

/// Drafts the rows of a record version over blocks that lie in place (or in the same command), under the name under
/// which the record will lie.
pub fn write_record(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    record: &NewRecord,
    writing: &Writing,
    body: &Body,
    record_id: RecordId,
) -> Result<ReceiptRow, GatewayError> {
    let StatedActor::FacilityUser { facility, user, .. } = &caller.actor else {
        return Err(GatewayError::invalid("actor", "only a facility's user writes records"));
    };
    let record = writing.again.as_ref().unwrap_or(record);
    let record_id = record.version_of.unwrap_or(record_id);
    let pseudonym = writing.data.pseudonym;
    // Staged before its participant became another's alias: the blocks lie under the former name and its key, and
    // would not open under the one who stays. A further key version of the same name is no such thing.
    if body.place.data.pseudonym != pseudonym {
        return Err(GatewayError::NotFound {
            what: "the upload (its participant became another's alias meanwhile: send it again from the start)",
        });
    }
    let (control_revision, earlier) = match &writing.control {
        Some(loaded) => (loaded.revision, loaded.value.as_deref()),
        None => (Revision::ABSENT, None),
    };
    let version = earlier.map_or(1, |control| control.version + 1);
    if version > VERSIONS_MAX {
        let why = format!("has {VERSIONS_MAX} versions, the limit: write a new record that replaces it");
        return Err(GatewayError::invalid("record_id", why));
    }
    attempt.entry.record_id = Bytes::copy_from_slice(&record_id.0);
    attempt.entry.version = version;

    let at_ms = attempt.now_ms;
    let person = |user: &UserId, stated_ms: u64| Person {
        facility: facility.reveal().into(),
        user: user.reveal().into(),
        at_ms: if stated_ms == 0 { at_ms } else { stated_ms },
    };
    let related_id = record.related.as_ref().map_or_else(Bytes::new, |r| Bytes::copy_from_slice(&r.record.0));
    let (open, parts) = body::account(&body.place, &body.parts);
    let hashes: Vec<[u8; 32]> = body.parts.iter().map(PartDraft::sha256).collect();
    let manifest = Manifest {
        class: record.class.number(),
        media_type: record.media_type.clone(),
        clinical_day: record.clinical_day,
        written_ms: at_ms,
        author: Some(person(record.author_user.as_ref().unwrap_or(user), record.author_ms)),
        enterer: Some(person(record.enterer_user.as_ref().unwrap_or(user), record.enterer_ms)),
        confirmer: record.confirmer_user.as_ref().map(|user| person(user, record.confirmer_ms)),
        document_id: record.document_id.as_ref().map(|id| id.reveal().to_owned()).unwrap_or_default(),
        bytes: parts.iter().map(|part: &Part| part.bytes).sum(),
        parts,
        version,
        body_sha256: Bytes::copy_from_slice(&body_sha256(&hashes)),
        signature: record.signature.clone(),
        timestamp_token: record.timestamp_token.clone(),
        signature_result: record.signature_result.clone(),
        relation: record.related.as_ref().map_or(0, |related| related.relation.number()),
        related_record_id: related_id,
        related_version: record.related.as_ref().map_or(0, |related| related.version),
        signature_check: body.signature_check.clone(),
    };
    let manifest_key = RowKey::record(&pseudonym, &record_id, version);
    let nonce = attempt.nonce();
    let value = body::seal_manifest(&manifest_key, &body.place, &nonce, &open, &manifest);
    attempt.command.expect(&manifest_key, Revision::ABSENT);
    attempt.command.put(&manifest_key, value);

    let control_key = RowKey::record_control(&pseudonym, &record_id);
    if writing.control.is_none() {
        attempt.command.expect(&control_key, Revision::ABSENT);
    }
    let control = RecordControl {
        version,
        author_facility: facility.reveal().into(),
        addressees: record.addressees.clone(),
        class: record.class.number(),
        clinical_day: record.clinical_day,
        written_ms: at_ms,
        // Hiding, hold and what replaces it outlast a further version.
        hidden: earlier.is_some_and(|control| control.hidden) || caller.salvaged.as_ref().is_some_and(|s| s.hidden),
        ..earlier.cloned().unwrap_or_default()
    };
    attempt.put_with(&control_key, &writing.data, control_revision, &control);
    if let (Some(NewRelation { relation: Relation::Replaces, .. }), Some(RelatedRow { key, data, loaded })) =
        (&record.related, &writing.related)
    {
        // It stays as it is, and visible to whom it was; lists tell that another stands in its place.
        let replaced = loaded.value.as_deref().ok_or(GatewayError::Damaged { what: "record-control" })?;
        let replaced = RecordControl { replaced_by: Bytes::copy_from_slice(&record_id.0), ..replaced.clone() };
        attempt.put_with(key, data, loaded.revision, &replaced);
    }

    if let Some((key, loaded)) = &writing.document {
        let row = DocumentIdRow {
            pseudonym: Bytes::copy_from_slice(&pseudonym.0),
            record_id: Bytes::copy_from_slice(&record_id.0),
            version,
            body_sha256: manifest.body_sha256.clone(),
        };
        attempt.put(key, loaded.revision, &row);
    }
    for addressee in &record.addressees {
        let inbox = RowKey::inbox(&attempt.hash(Domain::InboxFacility, &[addressee]));
        let row = InboxRow {
            pseudonym: Bytes::copy_from_slice(&pseudonym.0),
            record_id: Bytes::copy_from_slice(&record_id.0),
            version,
            at_ms,
            number: writing.known.row.number.clone(),
        };
        attempt.append(&inbox, &row);
    }
    Ok(ReceiptRow { record_id: Bytes::copy_from_slice(&record_id.0), version, ..ReceiptRow::default() })
}

/// What a put asks for, whichever way its body comes: the body is part of it by its hash. `request` has
/// no parts.
pub fn asked(request: &v1::PutWholeRequest, body_sha256: &[u8; 32]) -> Result<Asked, GatewayError> {
    let parts = vec![v1::WholePart { sha256: Bytes::copy_from_slice(body_sha256), ..v1::WholePart::default() }];
    Asked::parse(request.request.as_ref(), &v1::PutWholeRequest { parts, ..request.clone() })
}

/// The id of a record: of which it is a version, or that it had on a former timeline, or a new one.
pub fn id_of(caller: &Caller, record: &NewRecord) -> RecordId {
    let former = caller.salvaged.as_ref().and_then(|salvaged| salvaged.record_id);
    record.version_of.or(former).unwrap_or_else(|| RecordId(random::id()))
}

/// Whether a version may reach fewer than the record did: then it is restrictive, as narrowing is.
pub fn may_narrow(record: &NewRecord) -> bool {
    record.version_of.is_some() && !record.addressees.is_empty()
}

impl Gateway {
    /// Writes a record whose body came in one message.
    pub async fn put_whole(
        &self,
        caller: &Caller,
        mut request: v1::PutWholeRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let parts = std::mem::take(&mut request.parts);
        check_parts(&parts)?;
        let hashes: Vec<[u8; 32]> = parts.iter().map(|part| Sha256::digest(&part.data).into()).collect();
        for (part, hash) in parts.iter().zip(&hashes) {
            check_sha256(&part.sha256, hash)?;
        }
        let body_hash = body_sha256(&hashes);
        let asked = asked(&request, &body_hash)?;
        let record = NewRecord::parse(&request.participant, request.record.as_ref())?;
        // Found out once, and only for a record that may be written.
        let mut signature_check: Option<Option<SignatureCheck>> = None;
        let content_id = ContentId(random::id());
        let record_id = id_of(caller, &record);
        let done = self
            .transact(caller, Action::Put, Some(&asked), |attempt| {
                let mut receipt = ReceiptRow::default();
                let verdict = decide_write(attempt, caller, (&record, Some(&body_hash)), |attempt, writing| {
                    if let Some(before) = stored_before(attempt, caller, &writing, &record, &body_hash)? {
                        receipt = before;
                        return Ok(true);
                    }
                    let place =
                        Place { cluster_id: attempt.vault.cluster_id(), content_id, data: writing.data.clone() };
                    let mut drafts = Vec::with_capacity(parts.len());
                    for (number, part) in (0_u16..).zip(&parts) {
                        let mut draft = PartDraft::new(part.name.clone(), part.media_type.clone());
                        let mut sealed = Vec::new();
                        seal_part(
                            &place,
                            number,
                            &mut draft,
                            &part.data,
                            || attempt.nonce(),
                            |key, bytes| sealed.push((key, bytes)),
                        );
                        for (key, bytes) in sealed {
                            attempt.command.put(&key, bytes);
                        }
                        drafts.push(draft);
                    }
                    let check = || self.check_signature(&record, &parts, attempt.now_ms);
                    let check = signature_check.get_or_insert_with(check).clone();
                    let body = Body { place, parts: drafts, signature_check: check };
                    receipt = write_record(attempt, caller, &record, &writing, &body, record_id)?;
                    Ok(false)
                })?;
                Ok((verdict, receipt))
            })
            .await?;
        let mut receipt = self.receipt(&done, &asked, request.beyond_prefecture || may_narrow(&record)).await;
        receipt.repeated |= done.value == Some(true);
        Ok(receipt)
    }
}

impl Gateway {
    /// Checks the signature over a body in one message. It takes longer than a task of the runtime may.
    fn check_signature(&self, record: &NewRecord, parts: &[v1::WholePart], now_ms: u64) -> Option<SignatureCheck> {
        let mut check = self.signatures.begin(&record.signature, &record.timestamp_token)?;
        Some(tokio::task::block_in_place(|| {
            parts.iter().for_each(|part| check.update(&part.data));
            check.finish(now_ms)
        }))
    }
}

fn check_parts(parts: &[v1::WholePart]) -> Result<(), GatewayError> {
    if parts.is_empty() || parts.len() > PARTS_MAX {
        return Err(GatewayError::invalid("parts", format!("{} are given; there are 1 to {PARTS_MAX}", parts.len())));
    }
    let bytes: usize = parts.iter().map(|part| part.data.len()).sum();
    if bytes > WHOLE_BYTES_MAX {
        return Err(GatewayError::invalid(
            "parts",
            format!("{bytes} bytes in one message, the limit is {WHOLE_BYTES_MAX}; stream longer bodies"),
        ));
    }
    let mut names = std::collections::HashSet::new();
    for part in parts {
        check_part(&part.name, &part.media_type)?;
        if !names.insert(&part.name[..]) {
            return Err(GatewayError::invalid("parts.name", "two parts have the same name"));
        }
    }
    Ok(())
}

/// Bounds of a part's description.
pub fn check_part(name: &str, media_type: &str) -> Result<(), GatewayError> {
    bounded("parts.name", name)?;
    check_media_type("parts.media_type", media_type)?;
    if name.is_empty() { Err(GatewayError::invalid("parts.name", "is empty")) } else { Ok(()) }
}
