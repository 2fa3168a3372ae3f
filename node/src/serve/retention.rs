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
use crate::raft::types::RaftMetrics;
use crate::space::Level;

/// How often it is looked. What is purged while it is still in a memtable of the log is never written to a
/// table: under load, a second is a third of such a memtable.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often the log's files are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a snapshot waits for the next head. A leader lets a quarter of it pass.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// How long openraft is waited for to take a snapshot over that is made.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(5);

/// Looks at the log's size from time to time, for ever.
pub async fn retain(node: Arc<Node>) {
    let every_bytes = node.config.retention.snapshot_every_mib << 20;
    let cap_bytes = node.config.retention.log_max_mib << 20;
    let log = node.config.data.join("log");
    // Bytes of commands up to the last snapshot, counted as `Published::bytes` does, since this process
    // started. What the log held before that counts as new.
    let mut in_snapshot_bytes: u64 = 0;
    let mut before_start_bytes = tokio::task::block_in_place(|| directory_bytes(&log));
    let mut over = false;
    let mut counted: Option<Instant> = None;
    let mut snapshot_counted = 0;
    // Up to where the space of purged entries was given back.
    let mut given_back = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let published = node.store.published();
        let snapshot = last_snapshot(&node);
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
                let taken_over = node.raft.wait(Some(TAKE_OVER_WAIT));
                let is_new = |metrics: &RaftMetrics| metrics.snapshot.map_or(0, |id| id.index) > snapshot;
                let _ = taken_over.metrics(is_new, "the new snapshot").await;
            }
        }
        let counts = counted.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL);
        if counts {
            let bytes = tokio::task::block_in_place(|| directory_bytes(&log));
            if bytes > cap_bytes && !over {
                tracing::error!(
                    log_bytes = bytes,
                    cap_bytes,
                    "the Raft log is over its cap: members that lag will need a snapshot, an archive that lags a new base"
                );
            }
            over = bytes > cap_bytes;
            counted = Some(Instant::now());
        }
        // Over the cap nobody is waited for any longer than from one count to the next.
        let held = if over && counts { snapshot_counted.max(lowest_position(&node)) } else { lowest_position(&node) };
        if counts {
            snapshot_counted = last_snapshot(&node);
        }
        let upto = last_snapshot(&node).min(held);
        let purged = node.raft.metrics().borrow_watched().purged.map_or(0, |id| id.index);
        if over && counts && purged > given_back && purged >= upto {
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

/// Index of the last snapshot that openraft knows.
fn last_snapshot(node: &Node) -> u64 {
    node.raft.metrics().borrow_watched().snapshot.map_or(0, |id| id.index)
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
