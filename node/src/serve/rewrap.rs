//! Re-wrapping data keys after a rotation of the epoch keys, while this node leads: the same commands as everybody's, in
//! small batches with a pause between them.
//!
//! Invariant: a look at all of the rows begins only once this voter has opened the newest keyring, so that it wraps under
//! that, and ends what it may end only if nothing was left. A data key that does not open keeps its epoch, is an alarm by
//! count, never by whose it is, and is looked at again: an erasure may have taken it away, a change of leader shows
//! whether another member's row opens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kura_cluster::Revision;
use kura_cluster::row::Table;

use super::Node;
use crate::custody::Known;
use crate::gateway::GatewayError;

const INTERVAL: Duration = Duration::from_secs(1);
/// Between two batches: others' commands come first.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);
/// How often one batch is tried again in one look.
const OVERTAKEN_MAX: u32 = 8;
/// Between two looks at rows some of which do not open.
const CLOSED_INTERVAL: Duration = Duration::from_secs(60);

/// What data keys that do not open say to people, as the member of this name found; none: nothing.
pub fn alarm(closed: u64, name: &str) -> Option<String> {
    let (keys, open) = if closed == 1 { ("data key", "does") } else { ("data keys", "do") };
    (closed > 0).then(|| {
        format!(
            "{closed} {keys} of participants {open} not open, as {name} found: what they seal cannot be read, and the \
             epochs that wrap them cannot end. Hand leadership to another voter (kura member hand-over): if the \
             alarm goes, {name}'s files are damaged"
        )
    })
}

/// Re-wraps, for ever.
pub async fn carry_out(node: Arc<Node>) {
    // The keyring at which nothing was left to do, and since when.
    let mut rest: Option<(Revision, Instant)> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        if !node.leads() || node.gateway.vault.load().is_none() {
            rest = None;
            node.closed_data_keys.store(0, Ordering::Relaxed);
            continue;
        }
        let revision = node.store.published().summary.table(Table::Keyring).revision;
        let are_closed = node.closed_data_keys.load(Ordering::Relaxed) > 0;
        let rests =
            rest.is_some_and(|(of, since)| of == revision && !(are_closed && since.elapsed() >= CLOSED_INTERVAL));
        if rests || node.custody.opened() != Some(revision) {
            continue;
        }
        match look(&node).await {
            Ok(true) => rest = Some((revision, Instant::now())),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "data keys could not be re-wrapped; trying again"),
        }
    }
}

/// `true`: nothing is left to do, as long as the keyring stays as it is.
async fn look(node: &Node) -> Result<bool, GatewayError> {
    let gateway = &node.gateway;
    // Not before a recovered cluster serves everything: people look first at what may be lost.
    if !gateway.serves_writes()? {
        return Ok(false);
    }
    let known = Known::read(&node.store.database()).map_err(crate::gateway::attempt::broken)?;
    if !known.has_older_epochs() {
        node.closed_data_keys.store(0, Ordering::Relaxed);
        return Ok(true);
    }
    let (mut after, mut rewrapped, mut closed, mut overtaken) = (None, 0, 0, 0);
    loop {
        if !node.leads() {
            return Ok(false);
        }
        let step = gateway.rewrap_step(after).await?;
        if step.overtaken {
            overtaken += 1;
            if overtaken > OVERTAKEN_MAX {
                return Ok(false);
            }
        }
        if step.overtaken || step.rewrapped > 0 {
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
        (rewrapped, closed) = (rewrapped + step.rewrapped, closed + step.closed);
        after = step.after;
        if after.is_none() && !step.overtaken {
            break;
        }
    }
    if rewrapped > 0 {
        tracing::info!(rewrapped, epoch = known.epoch, "data keys are wrapped under the newest epoch");
    }
    node.closed_data_keys.store(closed as u64, Ordering::Relaxed);
    if closed > 0 {
        tracing::error!(closed, "wrapped data keys do not open: their epochs stay");
        return Ok(true);
    }
    let ended = gateway.end_epochs(known.epoch).await?;
    if !ended.is_empty() {
        tracing::warn!(?ended, "epochs of the keyring have ended");
    }
    // What has ended is another keyring, at which the next look finds nothing.
    Ok(ended.is_empty() && overtaken == 0)
}
