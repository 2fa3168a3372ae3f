//! When to make snapshots, and how much Raft log to keep: both by bytes.
//!
//! Invariants
//! - Nothing is purged that a snapshot does not hold.
//! - The log is kept from the lowest position that any member reports, or that the archive written here has
//!   reached, up to the cap; a transfer that progresses holds it, too.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;

use super::{Node, peers};
use crate::space::Level;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a snapshot waits for the next head. A leader lets a quarter of it pass.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// Looks at the log's size from time to time, for ever.
pub async fn retain(node: Arc<Node>) {
    let every_bytes = node.config.retention.snapshot_every_mib << 20;
    let cap_bytes = node.config.retention.log_max_mib << 20;
    let log = node.config.data.join("log");
    // Bytes of commands up to the last snapshot, counted as `Published::bytes` does, since this process
    // started. What the log held before that counts as new.
    let mut in_snapshot_bytes: u64 = 0;
    let mut before_start_bytes = tokio::task::block_in_place(|| directory_bytes(&log));
    let mut alarmed = false;
    // Up to where the space of purged entries was given back.
    let mut given_back = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let published = node.store.published();
        let metrics = node.raft.metrics().borrow_watched().clone();
        let snapshot = metrics.snapshot.map_or(0, |id| id.index);
        // A transfer that progresses keeps its snapshot and the log after it, until space runs out.
        let transferring = !node.transfers.all().is_empty() && node.space.level() == Level::Enough;
        let new_bytes = before_start_bytes + (published.bytes - in_snapshot_bytes);
        if new_bytes >= every_bytes && published.index() > snapshot && !transferring {
            // Flushing first keeps the checkpoint itself, which holds up applying, short.
            let flushed = tokio::task::spawn_blocking({
                let database = node.store.database();
                move || database.flush()
            });
            // Made where every member makes a head, so that the others can bear it out when it is sent.
            if matches!(flushed.await, Ok(Ok(())))
                && let Some(bytes) = node.store.make_snapshot_at_head(Instant::now() + HEAD_WAIT).await
                && node.raft.trigger().snapshot().await.is_ok()
            {
                (before_start_bytes, in_snapshot_bytes) = (0, bytes);
            }
        }
        let bytes = tokio::task::block_in_place(|| directory_bytes(&log));
        let over = bytes > cap_bytes;
        if over && !alarmed {
            tracing::error!(
                log_bytes = bytes,
                cap_bytes,
                "the Raft log is over its cap: members that lag will need a snapshot, an archive that lags a new base"
            );
        }
        alarmed = over;
        let held = if over { u64::MAX } else { lowest_position(&node) };
        let upto = snapshot.min(held);
        let purged = metrics.purged.map_or(0, |id| id.index);
        if over && purged > given_back && purged >= upto {
            // Nothing more may be purged: it is what was purged that is still there.
            let watch = node.log.clone();
            match tokio::task::spawn_blocking(move || watch.clear_purged()).await {
                Ok(Ok(_)) => given_back = purged,
                Ok(Err(error)) => tracing::warn!(%error, "the space of purged log entries could not be given back"),
                Err(error) => tracing::warn!(%error, "giving back the space of purged log entries failed"),
            }
        }
        if upto > purged && !transferring {
            let _ = node.raft.trigger().purge_log(upto).await;
        }
    }
}

/// The lowest synced index of all members; one that was never heard of holds everything.
fn lowest_position(node: &Node) -> u64 {
    let others = peers::others(node).into_iter();
    let lowest = others.map(|(id, _)| node.peers.heard(id).map_or(0, |heard| heard.reply.synced_index)).min();
    // So does the archive that is written here, also while it is not known how far it is.
    let archived = node.archive.as_ref().map(|archive| archive.needs_after());
    lowest.into_iter().chain(archived).min().unwrap_or(u64::MAX)
}

/// Bytes of all files in a directory and below it.
pub fn directory_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { directory_bytes(&entry.path()) } else { meta.len() })
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_folders_count() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("db");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(directory.path().join("a"), [0; 10]).unwrap();
        std::fs::write(below.join("b"), [0; 100]).unwrap();
        assert_eq!(directory_bytes(directory.path()), 110);
    }
}
