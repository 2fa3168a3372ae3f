//! Making an object of the archive again that was found damaged or missing: from what this member still has.
//!
//! Invariants
//! - What is put has the hash that its name says: else nothing is put.
//! - Keys are put only while the present ledger names them: nobody's who was erased comes back.

use bytes::Bytes;
use kura_cluster::archive::manifest::SegmentRef;
use kura_cluster::archive::{ObjectName, SegmentBuilder, Sha256Hash};
use kura_cluster::seal::Dictionary;
use sha2::{Digest, Sha256};

use super::super::check::Damaged;
use super::super::ledger;
use super::segments::archived;
use super::{WriteError, Writer};
use crate::snapshot::{FileHashes, FileName};

/// Below the writer's directory for work.
const FOLDER: &str = "mend";

const COPY: &str = "bring it back under its name from a copy of the archive, if there is one; generations that do not name it are whole";

impl Writer {
    /// Does what a check asks for.
    pub(super) async fn mend_asked(&mut self) {
        while let Some(mend) = self.mends.as_mut().and_then(|mends| mends.try_recv().ok()) {
            let done = match self.mend(&mend.damaged).await {
                Ok(done) => done,
                Err(error) => Err(format!("making it again failed: {error}")),
            };
            // Who asked may have ended.
            let _ = mend.answer.send(done);
        }
    }

    async fn mend(&self, damaged: &Damaged) -> Result<Result<(), String>, WriteError> {
        let made = match (damaged.name, &damaged.segment) {
            (ObjectName::File(sha256), _) => return self.mend_file(sha256, damaged.bytes).await,
            (ObjectName::Segment { .. }, Some((timeline, segment))) => self.segment(*timeline, segment).await?,
            (ObjectName::Keys(sha256), _) => match self.keys(sha256)? {
                None => return Ok(Err("its keys have changed: the next manifest names others in its place".into())),
                made => made,
            },
            (ObjectName::Dictionary(sha256), _) => {
                let known = Dictionary::shipped();
                known.iter().find(|known| *known.sha256() == sha256).map(|known| Bytes::copy_from_slice(known.bytes()))
            }
            _ => None,
        };
        let Some(bytes) = made.filter(|bytes| damaged.name.sha256() == Some(Sha256::digest(bytes).into())) else {
            let has = match damaged.name {
                ObjectName::Segment { .. } => "its entries are not in this member's log any more",
                _ => "this member does not have it any more",
            };
            return Ok(Err(format!("{has}: {COPY}")));
        };
        self.archive.replace(&damaged.name.to_string(), bytes).await?;
        Ok(Ok(()))
    }

    /// A segment anew, if the log still has its entries.
    async fn segment(&self, timeline: u64, segment: &SegmentRef) -> Result<Option<Bytes>, WriteError> {
        let mut builder = SegmentBuilder::new(self.source.cluster_id, timeline, segment.first);
        while builder.next_index() <= segment.last {
            let from = builder.next_index();
            let entries = self.source.log.read(from, segment.last).await?;
            if entries.first().map(|entry| entry.log_id.index) != Some(from) {
                return Ok(None);
            }
            if !entries.iter().all(|entry| builder.push(&archived(entry))) {
                return Ok(None);
            }
        }
        Ok(Some(builder.finish()))
    }

    /// A part of the present ledger, if it is one and its keys are what they were.
    fn keys(&self, sha256: Sha256Hash) -> Result<Option<Bytes>, WriteError> {
        let Some(kept) = self.position.as_ref().and_then(|position| position.ledger.as_ref()) else { return Ok(None) };
        let encoded = if kept.reference.sha256 == sha256 {
            Some(kept.ledger.encode())
        } else {
            let Some(bucket) = kept.ledger.buckets.iter().find(|bucket| bucket.sha256 == sha256) else {
                return Ok(None);
            };
            let database = self.source.store.database();
            let view = database.snapshot();
            tokio::task::block_in_place(|| ledger::bucket(&view, bucket.number))?.map(|bucket| bucket.encode())
        };
        Ok(encoded.map(Bytes::from).filter(|bytes| Sha256Hash::from(Sha256::digest(bytes)) == sha256))
    }

    /// A base's file, if this member's database still has it. It is read anew: its own disk may have changed it.
    async fn mend_file(&self, sha256: Sha256Hash, bytes: u64) -> Result<Result<(), String>, WriteError> {
        let database = self.source.store.database();
        let folder = self.source.work.join(FOLDER);
        let copy = folder.clone();
        let find = move || {
            match std::fs::remove_dir_all(&copy) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => std::fs::create_dir_all(&copy)?,
            }
            // Links: the database may do away with its own while this is sent.
            let directory = copy.join("database");
            database.checkpoint(&directory).map_err(|error| std::io::Error::other(error.to_string()))?;
            let hashes = FileHashes::default();
            for file in std::fs::read_dir(&directory)? {
                let file = file?;
                let name = file.file_name();
                let is_table =
                    name.to_str().and_then(|name| FileName::parse(name).ok()).is_some_and(|n| n.is_immutable());
                if is_table && file.metadata()?.len() == bytes && hashes.of(&file.path())?.1 == sha256 {
                    return Ok(Some(file.path()));
                }
            }
            Ok(None)
        };
        let found = tokio::task::spawn_blocking(find).await.map_err(std::io::Error::other)?;
        let sent = match found {
            Ok(Some(path)) => {
                let name = ObjectName::File(sha256);
                self.archive.replace_file(&name, &path, bytes).await.map(|()| Ok(())).map_err(WriteError::from)
            }
            Ok(None) => Ok(Err(format!("this member does not have it any more: {COPY}"))),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(%error, "what an object of the archive was made again from could not be removed");
        }
        sent
    }
}
