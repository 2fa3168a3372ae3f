//! Carrying erasures out, while this node leads: due ones, what is to be swept, members' reports. And on every
//! gateway, forgetting what was opened of an erased participant.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::row::Table;
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;

use super::{Node, clear, peers};
use crate::gateway::erase::{Step, Told, UnderWay};
use crate::gateway::{Gateway, GatewayError};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::{Member, NodeId};

const INTERVAL: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before an erasure is looked at again that may not be carried out yet.
const WAIT_MS: u64 = 60_000;

/// Until when nothing has to be looked at, unless the table of erasures changes.
#[derive(Default)]
struct Rest {
    revision: Revision,
    until_ms: u64,
}

/// Carries erasures out, for ever.
pub async fn carry_out(node: Arc<Node>) {
    let mut rest = Rest::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if !node.leads() || node.gateway.vault.load().is_none() {
            rest = Rest::default();
            // Whoever leads tells.
            node.erasures_failed.store(0, Ordering::Relaxed);
            continue;
        }
        if let Err(error) = look(&node, &mut rest).await {
            rest = Rest::default();
            tracing::warn!(%error, "an erasure could not be carried on; trying again");
        }
    }
}

async fn look(node: &Node, rest: &mut Rest) -> Result<(), GatewayError> {
    let gateway = &node.gateway;
    let now_ms = gateway.now_ms()?;
    // Nor is anything swept.
    if !gateway.serves_writes()? {
        return Ok(());
    }
    let revision = node.store.published().summary.table(Table::Erasure).revision;
    if revision == rest.revision && now_ms < rest.until_ms {
        return Ok(());
    }
    let under_way = tokio::task::block_in_place(|| gateway.erasures_under_way())?;
    let mut until_ms = u64::MAX;
    let mut failed = 0;
    let (mut unswept, mut reporting) = (Vec::new(), Vec::new());
    for one in under_way {
        match one {
            UnderWay::Grace(_, grace_until_ms) if grace_until_ms > now_ms => until_ms = until_ms.min(grace_until_ms),
            UnderWay::Grace(pseudonym, _) => {
                until_ms = until_ms.min(now_ms + WAIT_MS);
                match erase(node, &pseudonym).await {
                    Ok(true) => unswept.push(pseudonym),
                    Ok(false) => {}
                    Err(error) => failed += fails("the keys of a due erasure were not destroyed", &error),
                }
            }
            UnderWay::Unswept(pseudonym) => unswept.push(pseudonym),
            UnderWay::Reporting(pseudonym, keys_last_index) => reporting.push((pseudonym, keys_last_index)),
        }
    }
    if !unswept.is_empty() {
        failed += sweep(gateway, &unswept).await;
    }
    if let Some(upto) = reporting.iter().map(|(_, index)| *index).max() {
        until_ms = now_ms;
        let members = ask_all(node, upto).await;
        for (pseudonym, _) in &reporting {
            if let Err(error) = gateway.report_erasure(pseudonym, &members).await {
                failed += fails("the members' reports of an erasure were not kept", &error);
            }
        }
    }
    node.erasures_failed.store(failed, Ordering::Relaxed);
    if failed > 0 {
        until_ms = until_ms.min(now_ms + WAIT_MS);
    }
    *rest = Rest { revision, until_ms };
    Ok(())
}

/// Sweeps all together, or else each for itself: how many could not be.
async fn sweep(gateway: &Gateway, unswept: &[Pseudonym]) -> u64 {
    let Err(error) = gateway.sweep_erased(unswept).await else {
        tracing::info!(erasures = unswept.len(), "the rows of erased participants are swept");
        return 0;
    };
    const WHAT: &str = "the rows of erased participants were not swept";
    if unswept.len() == 1 {
        return fails(WHAT, &error);
    }
    let mut failed = 0;
    for pseudonym in unswept {
        if let Err(error) = gateway.sweep_erased(&[*pseudonym]).await {
            failed += fails(WHAT, &error);
        }
    }
    failed
}

/// Counts one that fails; the others go on.
fn fails(what: &str, error: &GatewayError) -> u64 {
    tracing::error!(%error, "{what}; tried again in a minute");
    1
}

/// What people have to do about erasures that a member could not carry on when it looked last.
pub fn alarm(failed: u64, member: &str) -> Option<String> {
    (failed > 0).then(|| {
        let them = if failed == 1 {
            "an erasure that is due cannot".to_owned()
        } else {
            format!("{failed} erasures that are due cannot")
        };
        format!("{member}: {them} be carried on: its log says why; it tries again every minute")
    })
}

/// Whether the keys of a due one are destroyed now.
async fn erase(node: &Node, pseudonym: &Pseudonym) -> Result<bool, GatewayError> {
    match node.gateway.erase(pseudonym).await? {
        Step::Done => {
            tracing::warn!("the keys of a participant are destroyed: their erasure is pending");
            return Ok(true);
        }
        Step::Waits(reason) => tracing::warn!(reason = reason.word(), "a due erasure waits"),
        Step::Capped => tracing::warn!("a due erasure waits: the day's cap on deletions of keys is reached"),
        Step::Overtaken | Step::NotServed => {}
    }
    Ok(false)
}

/// Asks every present member, this one too, to clear what was deleted up to an index, and how far it has come.
async fn ask_all(node: &Node, index: u64) -> Vec<Told> {
    let request =
        v1::ClearRequest { from: node.id(), cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0), index };
    let others = peers::others(node);
    let answers = join_all(others.iter().map(|(_, member)| ask(node, member, &request))).await;
    let others = others.into_iter().zip(answers);
    let tells = |id, name, reply: Option<v1::ClearReply>| Told {
        id,
        name,
        cleared: reply.as_ref().map(clear::told),
        archive: reply.as_ref().and_then(clear::told_archive),
    };
    let mut told: Vec<Told> = others.map(|((id, member), reply)| tells(id, member.name, reply)).collect();
    told.push(tells(node.id(), node.config.name.clone(), Some(clear::take(node, &request))));
    told.sort_by_key(|told: &Told| -> NodeId { told.id });
    told
}

async fn ask(node: &Node, member: &Member, request: &v1::ClearRequest) -> Option<v1::ClearReply> {
    let channel = node.channels.channel(member, Lane::Control).ok()?;
    let mut request = tonic::Request::new(request.clone());
    request.set_timeout(CALL_TIMEOUT);
    let answer = tokio::time::timeout(CALL_TIMEOUT, PeerClient::new(channel).clear(request)).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// Forgets what was opened of a participant as soon as keys are deleted here, for ever.
pub async fn forget(node: Arc<Node>) {
    let mut deletions = node.store.key_deletions();
    while deletions.changed().await.is_ok() {
        tokio::task::block_in_place(|| node.gateway.forget_erased());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasures_that_fail_are_told_by_their_number_and_member() {
        assert_eq!(alarm(0, "voter-2"), None);
        let words = [1, 3].map(|failed| alarm(failed, "voter-2").unwrap());
        assert!(words[0].starts_with("voter-2: an erasure that is due cannot"), "{words:?}");
        assert!(words[1].starts_with("voter-2: 3 erasures that are due cannot"), "{words:?}");
    }
}
