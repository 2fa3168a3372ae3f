//! A manifest is signed and put into the chain, and the writer goes on from it.

use bytes::Bytes;
use kura_cluster::apply::Summary;
use kura_cluster::archive::manifest::{Content, MANIFEST_BYTES_MAX};
use kura_cluster::archive::{Manifest, ManifestError, SignedManifest};
use kura_cluster::head::Head;
use kura_cluster::seal::Dictionary;
use sha2::{Digest, Sha256};

use super::super::catalog::CatalogError;
use super::super::ledger::{self, Kept};
use super::super::store::StoreError;
use super::{Position, WriteError, Writer};
use crate::raft::types::LogId;

impl Writer {
    pub(super) fn manifest(
        &self,
        generation: u64,
        applied: LogId,
        summary: &Summary,
        content: Content,
        kept: &Kept,
    ) -> Result<Manifest, WriteError> {
        let before = self.position.as_ref();
        Ok(Manifest {
            sequence: before.map_or(0, |position| position.manifest.sequence) + 1,
            generation,
            previous_sha256: before.map(|position| position.sha256),
            head: Head::of(self.source.cluster_id, applied.index, summary),
            term: applied.committed_leader_id().term,
            parent: before.and_then(|position| position.manifest.parent),
            at_ms: (self.source.now_ms)(),
            clock_ms: summary.clock_ms,
            content,
            ledger: kept.reference,
            dictionaries: Dictionary::shipped().iter().map(|dictionary| *dictionary.sha256()).collect(),
            writer: self.source.name.clone(),
        })
    }

    /// Signs and publishes a manifest, and goes on from it.
    pub(super) async fn publish(&mut self, manifest: Manifest, kept: Kept) -> Result<(), WriteError> {
        let signed = self.source.signer.sign(manifest).ok_or(WriteError::NoSigner)?;
        // It is known again when this member has got another key.
        self.source.signers.keep(signed.key_sha256()).map_err(WriteError::Signers)?;
        let bytes = Bytes::from(signed.encode());
        let name = signed.manifest.name().to_string();
        match self.archive.put_new(&name, bytes.clone()).await {
            Err(StoreError::Exists { .. }) => self.recognize(&signed, &bytes).await?,
            put => put?,
        }
        let (former, mut position) = match self.position.take() {
            Some(Position { ledger, begun_ms, segment_bytes, expired, .. }) => {
                (ledger, (begun_ms, segment_bytes, expired))
            }
            None => (None, (signed.manifest.at_ms, 0, Vec::new())),
        };
        position.1 += signed.manifest.segments().iter().map(|segment| segment.bytes).sum::<u64>();
        let (begun_ms, segment_bytes, expired) = position;
        let position = Position {
            manifest: signed.manifest,
            sha256: Sha256::digest(&bytes).into(),
            ledger: Some(kept.clone()),
            begun_ms,
            segment_bytes,
            expired,
        };
        self.position = Some(position);
        match former {
            Some(former) => ledger::forget(&self.archive, &former, &kept).await?,
            None => ledger::sweep(&self.archive, &kept).await.map(drop)?,
        }
        // Only now: whoever waits for deleted keys to be gone goes by what is told.
        if let Some(position) = &self.position {
            self.tell(position);
        }
        Ok(())
    }

    /// A manifest of our number is there already: ours, whose answer was lost, or another writer's.
    async fn recognize(&mut self, own: &SignedManifest, bytes: &Bytes) -> Result<(), WriteError> {
        let name = own.manifest.name().to_string();
        let there = self.archive.get(&name, MANIFEST_BYTES_MAX as u64).await?;
        if there == *bytes {
            return Ok(());
        }
        match SignedManifest::decode(&there) {
            // What this node sent before it was restarted, and what came to be afterwards.
            Ok(found) if found.verify().is_ok() && found.key_sha256() == own.key_sha256() => {
                Err(WriteError::Store(StoreError::Exists { name }))
            }
            Ok(found) if found.verify().is_ok() => match self.source.signers.check(&found) {
                Ok(()) => Err(WriteError::OtherWriter(found.manifest.writer)),
                Err(unknown) => Err(unknown.into()),
            },
            Ok(_) => Err(CatalogError::Manifest { name: own.manifest.name(), source: ManifestError::Signature }.into()),
            Err(source) => Err(CatalogError::Manifest { name: own.manifest.name(), source }.into()),
        }
    }
}
