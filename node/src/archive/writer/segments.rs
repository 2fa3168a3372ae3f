//! A round: the log entries up to a view of the state, as segments, and a manifest with the view's digests.

use std::collections::BTreeSet;

use kura_cluster::archive::keys::bucket_of;
use kura_cluster::archive::manifest::{Content, SegmentRef};
use kura_cluster::archive::{ArchivedEntry, Payload, SegmentBuilder, strip};
use kura_cluster::command::{Command, WriteKind};
use prost::Message;
use sha2::{Digest, Sha256};

use super::super::ledger::{self, Changed};
use super::{WriteError, Writer};
use crate::raft::codec;
use crate::raft::types::{Entry, EntryPayload};
use crate::state::database::Snapshot;

/// The entries that are wanted are not in the log any more.
enum Stretch {
    Whole,
    Hole { from: u64 },
}

/// Segments being made and sent.
pub(super) struct Pending {
    builder: SegmentBuilder,
    sent: Vec<SegmentRef>,
    changed: BTreeSet<u32>,
}

impl Writer {
    /// A round. Answers `false` if the log lacks the entries: a base is needed.
    pub(super) async fn write_segments(&mut self) -> Result<bool, WriteError> {
        self.check_place().await?;
        let Some(position) = &self.position else { return Ok(false) };
        let first = position.manifest.index() + 1;
        let mut pending = self.pending(first);
        // The bulk first, so that the view is held for the rest only.
        let upto = self.source.store.published().index();
        if let Stretch::Hole { from } = self.collect(&mut pending, upto).await? {
            self.tell_of_hole(from);
            return Ok(false);
        }
        let database = self.source.store.database();
        let view = database.snapshot();
        self.publish_segments(pending, &view).await
    }

    pub(super) fn pending(&self, first: u64) -> Pending {
        let timeline = self.position.as_ref().map_or(0, |position| position.manifest.head.timeline);
        let builder = SegmentBuilder::new(self.source.cluster_id, timeline, first);
        Pending { builder, sent: Vec::new(), changed: BTreeSet::new() }
    }

    /// Collects the rest of the entries up to a view's index, and publishes them with its digests.
    pub(super) async fn publish_segments(
        &mut self,
        mut pending: Pending,
        view: &Snapshot<'_>,
    ) -> Result<bool, WriteError> {
        let (applied, _, summary) = view.progress()?;
        let Some(applied) = applied else { return Ok(false) };
        let Some(position) = &self.position else { return Ok(false) };
        if applied.index <= position.manifest.index() {
            return Ok(true);
        }
        if summary.timeline != position.manifest.head.timeline {
            return Ok(false);
        }
        if let Stretch::Hole { from } = self.collect(&mut pending, applied.index).await? {
            self.tell_of_hole(from);
            return Ok(false);
        }
        self.close(&mut pending).await?;
        let changed = Changed::Buckets(pending.changed);
        let at = (summary.timeline, applied.index);
        let former = position.ledger.as_ref();
        let kept = ledger::write(&self.archive, view, self.source.cluster_id, at, former, &changed).await?;
        let generation = position.manifest.generation;
        let content = Content::Segments(pending.sent);
        let manifest = self.manifest(generation, applied, &summary, content, &kept)?;
        self.publish(manifest, kept).await?;
        Ok(true)
    }

    fn tell_of_hole(&self, from: u64) {
        tracing::error!(
            from,
            "entries that the archive lacks are not in the log any more: it begins anew with a base, and has a hole before it"
        );
    }

    /// Adds the entries up to `upto` to segments, sending each that is full.
    async fn collect(&self, pending: &mut Pending, upto: u64) -> Result<Stretch, WriteError> {
        while pending.builder.next_index() <= upto {
            let from = pending.builder.next_index();
            let entries = self.source.log.read(from, upto).await?;
            if entries.first().map(|entry| entry.log_id.index) != Some(from) {
                return Ok(Stretch::Hole { from });
            }
            for entry in entries {
                let archived = archived(&entry);
                note_changed(&entry, &mut pending.changed);
                if !pending.builder.push(&archived) {
                    return Err(WriteError::Entry(archived.index));
                }
                if pending.builder.bytes() >= self.settings.segment_bytes {
                    self.close(pending).await?;
                }
            }
        }
        Ok(Stretch::Whole)
    }

    /// Closes and sends a segment.
    async fn close(&self, pending: &mut Pending) -> Result<(), WriteError> {
        if pending.builder.is_empty() {
            return Ok(());
        }
        let next = pending.builder.next_index();
        let timeline = self.position.as_ref().map_or(0, |position| position.manifest.head.timeline);
        let next_builder = SegmentBuilder::new(self.source.cluster_id, timeline, next);
        let builder = std::mem::replace(&mut pending.builder, next_builder);
        let first = builder.first_index();
        let bytes = builder.finish();
        let sha256 = Sha256::digest(&bytes).into();
        let segment = SegmentRef { first, last: next - 1, bytes: bytes.len() as u64, sha256 };
        self.archive.put(&segment.name(), bytes).await?;
        pending.sent.push(segment);
        Ok(())
    }
}

/// An entry as segments hold it.
pub(super) fn archived(entry: &Entry) -> ArchivedEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(command) => strip(&command.0),
        EntryPayload::Membership(membership) => Payload::Membership(codec::encode_membership(membership).into()),
    };
    ArchivedEntry { term: entry.log_id.committed_leader_id().term, index: entry.log_id.index, payload }
}

/// Notes the buckets of the ledger that an entry may change.
fn note_changed(entry: &Entry, changed: &mut BTreeSet<u32>) {
    let EntryPayload::Normal(command) = &entry.payload else { return };
    let Ok(command) = Command::decode(command.0.clone()) else { return };
    let writes = command.writes.iter().filter(|write| matches!(write.kind(), WriteKind::Put | WriteKind::Delete));
    changed.extend(writes.filter_map(|write| bucket_of(&write.row)));
}
