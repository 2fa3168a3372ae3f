//! Whether the state with which this member was seeded is the cluster's: a voter's signed head at an index that both
//! have come to decides. Until then this member counts for nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{Node, heads};
use crate::heads::Agreement;
use crate::raft::types::MemberRole;
use crate::seed::Seed;

/// Between two looks at the comparisons.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is said of a member that was seeded and is not borne out yet.
pub fn words(seed: &Seed) -> String {
    format!(
        "its state was seeded from an archive up to entry {}, and counts for nothing until a voter's signed head bears it out",
        seed.index
    )
}

/// Waits until the seed is borne out, or refuted; then notes it.
pub async fn follow(node: Arc<Node>) {
    loop {
        let seed = node.seed.borrow().clone();
        let Some(seed) = seed else { return };
        if seed.refused.is_some() {
            return;
        }
        match verdict(&node, &seed) {
            Some(Ok(index)) => match Seed::remove(&node.config.data) {
                Ok(()) => {
                    tracing::info!(
                        index,
                        seeded = seed.index,
                        "the state that was seeded is the cluster's: it counts from now on"
                    );
                    let _ = node.seed.send_replace(None);
                }
                Err(error) => tracing::warn!(%error, "the note of the seed could not be removed; trying again"),
            },
            Some(Err(refused)) => {
                let seed = seed.refuted(refused);
                if let Err(error) = seed.write(&node.config.data) {
                    tracing::warn!(%error, "the note of the seed could not be written");
                }
                let _ = node.seed.send_replace(Some(seed));
            }
            None => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The index at which a voter has signed the same, or in words where one has signed otherwise.
fn verdict(node: &Node, seed: &Seed) -> Option<Result<u64, String>> {
    let mut equal = None;
    for (id, agreement) in heads::agreements(node) {
        let Some(voter) = node.member(id).filter(|member| member.role == MemberRole::Voter) else { continue };
        match agreement {
            Agreement::Different { index, tables } => {
                return Some(Err(format!(
                    "{} has signed other tables at entry {index}: {}",
                    voter.name,
                    tables.join(", ")
                )));
            }
            Agreement::Equal { index } if index > seed.index => equal = Some(Ok(index)),
            Agreement::Equal { .. } | Agreement::Unknown { .. } => {}
        }
    }
    equal
}
