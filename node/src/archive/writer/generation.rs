//! A generation begins: a base made of a checkpoint, its files sent, what has expired deleted.

use std::collections::BTreeSet;

use bytes::Bytes;
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::keep::Candidate;
use kura_cluster::archive::manifest::{Base, Content, Parent};
use kura_cluster::seal::Dictionary;

use super::super::base::BaseCopy;
use super::super::expire;
use super::super::ledger::{self, Changed};
use super::{Position, WriteError, Writer};

impl Writer {
    pub(super) fn base_is_due(&self, position: &Position) -> bool {
        let age_ms = (self.source.now_ms)().saturating_sub(position.begun_ms);
        u128::from(age_ms) >= self.settings.base_every.as_millis()
            || position.segment_bytes >= self.settings.base_every_bytes
    }

    /// Sends the next base's files while segments go on; answers whether that is done.
    pub(super) async fn is_sent_ahead(&mut self) -> Result<bool, WriteError> {
        if self.is_ahead {
            return Ok(true);
        }
        match &self.ahead {
            Some(task) if !task.is_finished() => Ok(false),
            Some(_) => {
                if let Some(task) = self.ahead.take() {
                    task.await.map_err(|error| std::io::Error::other(error.to_string()))??;
                }
                self.is_ahead = true;
                Ok(true)
            }
            None => {
                let database = self.source.store.database();
                let (work, hashes) = (self.source.work.clone(), self.source.hashes.clone());
                let (archive, cluster_id) = (self.archive.clone(), self.source.cluster_id);
                self.ahead = Some(tokio::spawn(async move {
                    let make = move || BaseCopy::make(&database, &work, "ahead", cluster_id)?.strip(&hashes);
                    let files = tokio::task::spawn_blocking(make).await;
                    let files = files.map_err(|error| std::io::Error::other(error.to_string()))??;
                    Ok(files.send_ahead(&archive).await?)
                }));
                Ok(false)
            }
        }
    }

    /// Makes a base: a generation begins.
    pub(super) async fn begin_generation(&mut self) -> Result<(), WriteError> {
        if let Some(task) = self.ahead.take() {
            task.abort();
        }
        self.check_place().await?;
        let database = self.source.store.database();
        let (work, cluster_id) = (self.source.work.clone(), self.source.cluster_id);
        let copy = tokio::task::spawn_blocking(move || BaseCopy::make(&database, &work, "base", cluster_id)).await;
        let copy = copy.map_err(|error| std::io::Error::other(error.to_string()))??;
        let (applied, summary, row, continues, kept) = {
            let view = copy.view();
            let (applied, _, summary) = view.progress()?;
            let Some(applied) = applied else { return Ok(()) };
            let row = view.cluster_row()?;
            // What was applied since the last manifest goes into the former generation, if it can.
            let mut continues = false;
            if let Some(position) = &self.position {
                let pending = self.pending(position.manifest.index() + 1);
                continues = self.publish_segments(pending, &view).await?
                    && self.position.as_ref().is_some_and(|now| now.manifest.index() == applied.index);
            }
            let former = self.position.as_ref().and_then(|position| position.ledger.as_ref()).filter(|_| continues);
            let changed = if continues { Changed::Buckets(BTreeSet::new()) } else { Changed::All };
            let at = (summary.timeline, applied.index);
            let kept = ledger::write(&self.archive, &view, cluster_id, at, former, &changed).await?;
            (applied, summary, row, continues, kept)
        };
        let hashes = self.source.hashes.clone();
        let files = tokio::task::spawn_blocking(move || copy.strip(&hashes)).await;
        let files = files.map_err(|error| std::io::Error::other(error.to_string()))??;
        let sent = files.send(&self.archive).await?;
        for dictionary in Dictionary::shipped().iter() {
            let bytes = Bytes::copy_from_slice(dictionary.bytes());
            self.archive.put(&ObjectName::Dictionary(*dictionary.sha256()), bytes).await?;
        }
        let sequence = self.position.as_ref().map_or(0, |position| position.manifest.sequence) + 1;
        let begins = Candidate { generation: sequence, clock_ms: summary.clock_ms, is_held: false };
        let expired = self.position.as_ref().map(|position| position.expired.clone()).unwrap_or_default();
        let plan = expire::plan(&self.archive, &self.settings.keep, &expired, Some(begins)).await?;
        let (key_headers_bytes, key_headers_sha256) = files.key_headers();
        let base = Base {
            files: files.files(),
            key_headers_bytes,
            key_headers_sha256,
            continues,
            expired: plan.expired.clone(),
        };
        let mut manifest = self.manifest(sequence, applied, &summary, Content::Base(base), &kept)?;
        manifest.parent = row.and_then(|row| {
            let place = row.timelines.iter().position(|timeline| timeline.timeline == summary.timeline)?;
            let parent = row.timelines.get(place.checked_sub(1)?)?;
            Some(Parent { timeline: parent.timeline, began_index: row.timelines[place].began_index })
        });
        self.publish(manifest, kept).await?;
        if let Some(position) = &mut self.position {
            position.begun_ms = position.manifest.at_ms;
            (position.segment_bytes, position.expired) = (0, plan.expired.clone());
            tracing::info!(
                generation = position.manifest.generation,
                index = position.manifest.index(),
                files = sent.files,
                bytes = sent.bytes,
                continues,
                "a generation of the archive begins"
            );
        }
        self.is_ahead = false;
        let swept = expire::sweep(&self.archive, &plan).await?;
        if swept.objects > 0 {
            tracing::info!(objects = swept.objects, bytes = swept.bytes, "expired generations are deleted");
        }
        self.tell_generations().await
    }
}
