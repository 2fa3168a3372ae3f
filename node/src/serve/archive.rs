//! The archive's writer, put together with its node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_cluster::archive::{Manifest, SignedManifest};
use openraft::storage::RaftLogReader;

use super::removed::newest_membership;
use super::{Node, archive_check};
use crate::archive::check::Mends;
use crate::archive::signers::Signers;
use crate::archive::writer::{ReadLog, Settings, SignManifests, Source, Writer};
use crate::archive::{ArchiveStore, ArchiveTold, StoreError};
use crate::certificates::ReloadingTls;
use crate::clear::ArchiveHolds;
use crate::config::ArchiveConfig;
use crate::raft::log_store::LogReader;
use crate::raft::types::Entry;
use crate::snapshot::FileHashes;

/// Between two tries to reach a place that cannot be opened.
const OPEN_INTERVAL: Duration = Duration::from_secs(5);

/// After its node's start an archive that was not read yet is no alarm for so long.
const START_MAX: Duration = Duration::from_secs(15);

/// Whether the archive was not read yet because the node has just started. What has failed already has not.
pub fn is_starting(node: &Node, told: &ArchiveTold) -> bool {
    let age_ms = crate::clock::now_ms().checked_sub(node.started_ms);
    told.trouble().is_none() && age_ms.is_some_and(|age_ms| Duration::from_millis(age_ms) < START_MAX)
}

/// Where bases are made, below `data`.
const WORK: &str = "archive-work";

/// Up to which index the archive that is written here has let go of the keys that were deleted; without an
/// archive there are none.
pub fn cleared(node: &Node) -> u64 {
    let Some(told) = &node.archive else { return u64::MAX };
    let makes_base = std::fs::read_dir(node.config.data.join(WORK)).is_ok_and(|mut folder| folder.next().is_some());
    told.point().filter(|_| !makes_base).map_or(0, |point| point.index)
}

/// What the archive that is written here holds. `None`: none is written, or it is not known how far it is.
pub fn holds(node: &Node) -> Option<ArchiveHolds> {
    let told = node.archive.as_ref()?;
    let point = told.point()?;
    Some(ArchiveHolds { index: point.index, ledger_index: point.ledger_index, generations: told.generations() })
}

/// Removes what a base was being made from when the node ended: it links files of then.
pub fn clear_work(data: &Path) {
    match std::fs::remove_dir_all(data.join(WORK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "what a base was being made from could not be removed");
        }
        _ => {}
    }
}

struct Log(LogReader);

impl ReadLog for Log {
    fn read(&self, from: u64, to: u64) -> BoxFuture<'_, std::io::Result<Vec<Entry>>> {
        let mut reader = self.0.clone();
        async move { reader.limited_get_log_entries(from, to.saturating_add(1)).await }.boxed()
    }
}

struct Signer(Arc<ReloadingTls>);

impl SignManifests for Signer {
    fn sign(&self, manifest: Manifest) -> Option<SignedManifest> {
        self.0.head_signer()?.sign_manifest(manifest)
    }
}

/// Whose archive is gone on with: members', as the newest membership has them, and whom people name.
fn signers(node: &Arc<Node>, config: &ArchiveConfig) -> std::io::Result<Signers> {
    let of = node.clone();
    let members = move || {
        let membership = newest_membership(&of);
        let keys = membership.membership().nodes().flat_map(|(_, member)| member.keys());
        keys.chain([of.tls.identity().key_sha256]).collect()
    };
    Signers::read(&node.config.data, config.signed_by(), Box::new(members))
}

async fn open(config: &ArchiveConfig) -> Result<ArchiveStore, StoreError> {
    let archive = tokio::task::block_in_place(|| ArchiveStore::open_at(&config.place, config.storage.as_deref()))?;
    archive.check_conditional().await?;
    Ok(archive)
}

/// Writes the archive until the node stops. Its place must be there: one that is made here would be made
/// in an empty mount point, too.
pub async fn write(
    node: Arc<Node>,
    config: ArchiveConfig,
    told: Arc<ArchiveTold>,
    log: LogReader,
    hashes: Arc<FileHashes>,
) {
    // A state that nobody has borne out is not archived.
    if node.seed.subscribe().wait_for(Option::is_none).await.is_err() {
        return;
    }
    let archive = loop {
        match open(&config).await {
            Ok(archive) => break archive,
            Err(error) => {
                if told.trouble().is_none() {
                    tracing::error!(%error, "the archive cannot be opened; the log is kept for it up to its cap");
                }
                told.fails(error.to_string());
                tokio::time::sleep(OPEN_INTERVAL).await;
            }
        }
    };
    let signers = loop {
        match signers(&node, &config) {
            Ok(signers) => break Arc::new(signers),
            Err(error) => {
                told.fails(format!("who may have signed the archive cannot be read: {error}"));
                tokio::time::sleep(OPEN_INTERVAL).await;
            }
        }
    };
    let source = Source {
        signers: signers.clone(),
        cluster_id: node.identity.cluster_id,
        name: node.config.name.clone(),
        store: node.store.clone(),
        log: Box::new(Log(log)),
        signer: Box::new(Signer(node.tls.clone())),
        hashes,
        work: node.config.data.join(WORK),
        now_ms: crate::clock::now_ms,
    };
    let settings = Settings {
        segment_bytes: usize::try_from(config.segment_mib << 20).unwrap_or(usize::MAX),
        segment_time: Duration::from_secs(config.segment_seconds),
        base_every: Duration::from_secs(config.base_every_hours * 3600),
        base_every_bytes: config.base_every_mib << 20,
        keep: config.keep.rules(),
    };
    let (mends, asked) = Mends::channel();
    let data = node.config.data.clone();
    let writer = Writer::new(source, archive.clone(), settings, told.clone()).mending(asked);
    tokio::select! {
        () = writer.run() => {}
        () = archive_check::follow(told, archive, signers, mends, config, data) => {}
    }
}
