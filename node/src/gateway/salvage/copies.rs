//! Records of the old log that their applications have sent again meanwhile: under another id, as they could not know what
//! became of the first.
//!
//! Invariant: a copy is sure only by what its author named: the request or the document, at the same facility, for the
//! same participant. The same content alone may be another document; then people look at it.

use bytes::Bytes;
use kura_cluster::id::RecordId;
use kura_cluster::row::Manifest;
use kura_cluster::word::Action;

use super::super::GatewayError;
use super::super::participant::Known;
use super::{Item, Salvage};

/// A record's version in the old log.
pub(super) struct Written {
    request_id: Bytes,
    facility: String,
    /// The author's own id of the document, or empty.
    document_id: String,
    body_sha256: Bytes,
}

impl Written {
    fn is_document(&self, manifest: &Manifest) -> bool {
        !self.document_id.is_empty() && self.document_id == manifest.document_id
    }

    /// The same content, and no document ids that tell the two apart.
    fn may_be(&self, manifest: &Manifest) -> bool {
        let told_apart = !self.document_id.is_empty() && !manifest.document_id.is_empty();
        self.body_sha256 == manifest.body_sha256 && !told_apart
    }
}

/// What was sent again of a record.
#[derive(Default)]
pub(super) struct Copies {
    /// By the same request or under the same document id.
    pub sure: Vec<RecordId>,
    /// With the same content, each with the journal position of its writing.
    pub unsure: Vec<(RecordId, u64)>,
}

impl Salvage {
    /// Keeps of a record's version by what a copy of it is known.
    pub(super) fn keep_written(&mut self, item: &Item) -> Result<(), GatewayError> {
        let known = item.number.as_deref().map(|digits| self.known(digits)).transpose()?;
        let Some(known) = known.flatten() else { return Ok(()) };
        let Ok(found) = self.found(item, &known)? else { return Ok(()) };
        let written = Written {
            request_id: item.old.entry.request_id.clone(),
            facility: found.control.author_facility,
            document_id: found.manifest.document_id,
            body_sha256: found.manifest.body_sha256,
        };
        self.written.entry(found.record).or_default().push(written);
        Ok(())
    }

    /// What was sent again of a record of the old log that is not here itself.
    pub(super) fn copies(&self, item: &Item, known: &Known, record: &RecordId) -> Result<Copies, GatewayError> {
        let mut copies = Copies::default();
        let Some(versions) = self.written.get(record) else { return Ok(copies) };
        let mut sent = Vec::new();
        self.since(known, item, item.common, &[Action::Put], |done| {
            let facility = done.entry.actor.as_ref().map(|actor| actor.facility.clone()).unwrap_or_default();
            match RecordId::from_slice(&done.entry.record_id) {
                // What is of the old log itself is no copy of another of it.
                Ok(id) if done.entry.salvaged.is_none() && !self.written.contains_key(&id) => {
                    sent.push((id, facility, done.position, done.entry.version, done.entry.request_id.clone()));
                }
                _ => {}
            }
        })?;
        for (id, facility, position, version, request_id) in sent {
            if copies.sure.contains(&id) {
                continue;
            }
            let theirs = || versions.iter().filter(|one| one.facility == facility);
            let is_request = theirs().any(|one| one.request_id == request_id);
            let manifest = self.manifest_now(known, &id, version)?;
            let is = |so: fn(&Written, &Manifest) -> bool| {
                manifest.as_ref().is_some_and(|manifest| theirs().any(|one| so(one, manifest)))
            };
            if is_request || is(Written::is_document) {
                copies.unsure.retain(|(unsure, _)| *unsure != id);
                copies.sure.push(id);
            } else if is(Written::may_be) && copies.unsure.iter().all(|(unsure, _)| *unsure != id) {
                copies.unsure.push((id, position));
            }
        }
        Ok(copies)
    }
}
