//! Clearing what was deleted from this member's files, when the leader asks for it.
//!
//! In this order, each step looked at again until it holds: the state's files are rewritten without what was
//! deleted; a checkpoint of the clean state takes the place of the old ones; the log is purged up to that
//! checkpoint ([`super::retention`]) and its files rewritten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::Node;
use crate::clear::{ArchiveHolds, Cleared, only_clean_checkpoints, reception};
use crate::space::Level;

const INTERVAL: Duration = Duration::from_secs(1);
/// Pause after files of before were still there: something reads them.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long a checkpoint waits for the next head.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// Clears what is asked for, for ever.
pub async fn follow(node: Arc<Node>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let database = node.store.database();
        let Some((wanted, cleared)) = node.clearing.missing(database.directory()) else { continue };
        drop(database);
        if node.space.level() != Level::Enough {
            continue;
        }
        clear_state(&node, wanted, cleared).await;
        clear_checkpoints(&node, wanted).await;
        clear_log(&node, wanted, cleared).await;
    }
}

/// What this member has cleared, as its files are now.
pub fn cleared(node: &Node) -> Cleared {
    let cleared = node.clearing.cleared(node.store.database().directory());
    // The archive that is written here counts as a checkpoint: its key ledger must have followed, and no base
    // be in the making.
    let archived = super::archive::cleared(node);
    // So does the copy that is being checked.
    let kept = if super::scrub::has_copies(&node.config.data) { 0 } else { archived };
    let cleared = Cleared { checkpoints: cleared.checkpoints.min(kept), ..cleared };
    // Whatever arrives may hold anything.
    match reception(&node.config.data) {
        Some(_) => Cleared { checkpoints: 0, ..cleared },
        None => cleared,
    }
}

/// Takes the leader's wish and tells how far it has come.
pub fn take(node: &Node, request: &v1::ClearRequest) -> v1::ClearReply {
    // Nothing is asked that this member has not applied: it could not know what was deleted.
    if request.index <= node.store.published().index() {
        node.clearing.want(request.index);
    }
    let cleared = cleared(node);
    v1::ClearReply {
        purged_index: cleared.purged,
        log_index: cleared.log,
        keys_index: cleared.keys,
        checkpoints_index: cleared.checkpoints,
        archive: super::archive::holds(node).map(|holds| v1::ArchiveHolds {
            index: holds.index,
            ledger_index: holds.ledger_index,
            generations: holds.generations.into_iter().map(generation).collect(),
        }),
    }
}

fn generation((number, base_index): (u64, u64)) -> v1::ArchiveGeneration {
    v1::ArchiveGeneration { number, base_index }
}

/// What another member told of its archive.
pub fn told_archive(reply: &v1::ClearReply) -> Option<ArchiveHolds> {
    reply.archive.as_ref().map(|holds| ArchiveHolds {
        index: holds.index,
        ledger_index: holds.ledger_index,
        generations: holds.generations.iter().map(|generation| (generation.number, generation.base_index)).collect(),
    })
}

/// What another member told.
pub fn told(reply: &v1::ClearReply) -> Cleared {
    Cleared {
        purged: reply.purged_index,
        log: reply.log_index,
        keys: reply.keys_index,
        checkpoints: reply.checkpoints_index,
    }
}

async fn clear_state(node: &Node, wanted: u64, cleared: Cleared) {
    let applied = node.store.published().index();
    if cleared.keys >= wanted || applied < wanted {
        return;
    }
    let database = node.store.database();
    let directory = database.directory().to_owned();
    match tokio::task::spawn_blocking(move || database.clear_deleted()).await {
        Ok(Ok(true)) => node.clearing.note_keys(&directory, applied, node.store.published().index()),
        Ok(Ok(false)) => tokio::time::sleep(RETRY_INTERVAL).await,
        Ok(Err(error)) => tracing::warn!(%error, "deleted rows could not be cleared from the state's files"),
        Err(_) => {}
    }
}

async fn clear_checkpoints(node: &Node, wanted: u64) {
    let database = node.store.database().directory().to_owned();
    let cleared = node.clearing.cleared(&database);
    if cleared.keys < wanted {
        return;
    }
    if reception(&node.config.data).is_some_and(|reception| reception.stale) {
        let receiver = node.snapshots.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || receiver.clear()).await {
            tracing::warn!(%error, "what arrived of a snapshot could not be removed");
        }
    }
    let is_clean = only_clean_checkpoints(&node.config.data, &database, node.clearing.clean_since());
    if is_clean && cleared.checkpoints < wanted {
        node.clearing.note_checkpoints();
    }
    let metrics = node.raft.metrics().borrow_watched().clone();
    let is_held = metrics.snapshot.as_ref().map_or(0, |id| id.index) >= wanted
        || metrics.purged.as_ref().map_or(0, |id| id.index) >= wanted;
    // A transfer that goes on keeps its checkpoint until it has ended.
    if (!is_clean || !is_held)
        && node.transfers.all().is_empty()
        && node.store.make_snapshot_at_head(Instant::now() + HEAD_WAIT).await.is_some()
    {
        let _ = node.raft.trigger().snapshot().await;
    }
}

async fn clear_log(node: &Node, wanted: u64, cleared: Cleared) {
    let purged = node.raft.metrics().borrow_watched().purged.as_ref().map_or(0, |id| id.index);
    node.clearing.note_purged(purged);
    if cleared.log >= wanted || purged < wanted {
        return;
    }
    let log = node.log.clone();
    match tokio::task::spawn_blocking(move || log.clear_purged()).await {
        Ok(Ok(Some(index))) => node.clearing.note_log(index),
        Ok(Ok(None)) => tokio::time::sleep(RETRY_INTERVAL).await,
        Ok(Err(error)) => tracing::warn!(%error, "purged entries could not be cleared from the log's files"),
        Err(_) => {}
    }
}
