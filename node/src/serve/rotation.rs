//! The way of a next root key to every voter, before it comes into use.
//!
//! Invariants
//! - It comes into use only after a majority of the voters has it durably; whoever was away asks a voter that
//!   has it (`serve::unseal`).
//! - A voter takes one only for a rotation that an operator and a registrar approved, by its own applied state,
//!   and only if a restart would find the key that wraps it.
//! - Where confirmed shares restore the present root key, the next one comes into use after confirmed shares
//!   restore that one, too: losing all voters never loses everything. People may waive it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use kura_cluster::Revision;
use kura_cluster::row::{RotationRow, RowKey, Table};
use kura_cluster::seal::Key;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use openraft::async_runtime::WatchReceiver;
use prost::Message;
use tonic::Status;

use super::{Node, peers};
use crate::custody::{Known, Next};
use crate::gateway::rotation::{self, Stands};
use crate::gateway::{Caller, GatewayError};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::MemberRole;
use crate::random;

/// How long a voter may take to have applied the rotation and to store the key.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often is looked whether the newest keyring is opened.
const OPENED_INTERVAL: Duration = Duration::from_millis(50);

const WAITS_FOR_REGISTRAR: u32 = 1;
const WAITS_FOR_OPERATOR: u32 = 2;
const WAITS_FOR_SHARES: u32 = 3;
const DONE: u32 = 4;

/// Asks for a rotation, and carries an approved one as far as it can go. Asked again, it goes on where it was.
pub async fn rotate(
    node: &Node,
    caller: &Caller,
    request: &v1::RotateKeysRequest,
) -> Result<v1::RotateKeysReply, Status> {
    let _one_at_a_time = node.rotating.lock().await;
    let reply = |state, epoch| v1::RotateKeysReply { state, epoch, ..v1::RotateKeysReply::default() };
    node.gateway.unsealed()?;
    let present = || Known::read(&node.store.database()).map_err(|error| Status::internal(error.to_string()));
    let epoch = present()?.epoch;
    let (row, revision) = match node.gateway.ask_rotation(caller, request.kind, request.without_shares).await? {
        Stands::WaitsForRegistrar => return Ok(reply(WAITS_FOR_REGISTRAR, epoch)),
        Stands::WaitsForOperator => return Ok(reply(WAITS_FOR_OPERATOR, epoch)),
        Stands::Done(epoch) => return Ok(reply(DONE, epoch)),
        Stands::Approved(row, revision) => (row, revision),
    };
    let next = next_key(node, caller, &row, revision).await?;
    let (voters_ready, voters_missing) = hand_out(node, &next).await;
    if voters_ready.len() <= voters_missing.len() {
        let why = format!(
            "only {} of {} voters have the next root key ({} do not answer)",
            voters_ready.len(),
            voters_ready.len() + voters_missing.len(),
            voters_missing.join(", ")
        );
        return Err(GatewayError::Unavailable { why }.into());
    }
    let known = present()?;
    let present = known.root_check_value.is_some_and(|root| known.is_covered(root));
    if present && !row.without_shares && !known.is_covered(next.key.check_value()) {
        return Ok(v1::RotateKeysReply { voters_ready, voters_missing, ..reply(WAITS_FOR_SHARES, epoch) });
    }
    let epoch = node.gateway.finish_root_rotation(caller, &next.key).await?;
    tracing::warn!("a new root key is in use");
    Ok(v1::RotateKeysReply { voters_ready, voters_missing, ..reply(DONE, epoch) })
}

/// The next root key: the one that this node has, if it is the one that was drawn, else a fresh one.
async fn next_key(node: &Node, caller: &Caller, row: &RotationRow, revision: Revision) -> Result<Next, Status> {
    let vault = node.gateway.unsealed()?;
    if let Some(held) = node.custody.next()
        && row.next_check_value[..] == held.key.check_value()
    {
        let next = Next { revision, key: held.key };
        if held.revision != revision {
            // The same key, under a row that names other people by now.
            keep(node, vault.root(), &next)?;
        }
        return Ok(next);
    }
    let known = Known::read(&node.store.database()).map_err(|error| Status::internal(error.to_string()))?;
    if known.prepared_check_value().is_some_and(|drawn| known.is_covered(drawn)) {
        // Its holders exist: it is not for this node to throw it away.
        let why = "another voter has the next root key, whose shares are confirmed; ask that one";
        return Err(GatewayError::Unavailable { why: why.into() }.into());
    }
    opened_newest(node).await;
    may_take(node, vault.root()).map_err(Status::failed_precondition)?;
    let key = Arc::new(random::key());
    let revision = node.gateway.begin_root_rotation(caller, &key).await?;
    let next = Next { revision, key };
    keep(node, vault.root(), &next)?;
    Ok(next)
}

/// Keeps the next root key on this voter's own disk.
fn keep(node: &Node, present: &Key, next: &Next) -> Result<(), Status> {
    may_take(node, present).map_err(Status::failed_precondition)?;
    let taken = tokio::task::block_in_place(|| node.custody.take_next(present, next.clone()));
    taken.map_err(|error| Status::internal(error.to_string()))
}

/// Hands it to every other voter: who has it now, this node among them, and who has not.
async fn hand_out(node: &Node, next: &Next) -> (Vec<String>, Vec<String>) {
    let membership = node.raft.metrics().borrow_watched().membership_config.clone();
    let voters: Vec<_> = membership.membership().voter_ids().collect();
    let others = peers::others(node).into_iter();
    let others: Vec<_> = others.filter(|(id, m)| voters.contains(id) && m.role == MemberRole::Voter).collect();
    let handed = others.iter().map(|(_, member)| async move {
        let channel = node.channels.channel(member, Lane::Control)?;
        let mut request = tonic::Request::new(v1::TakeRootKeyRequest {
            cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
            root_key: Bytes::copy_from_slice(next.key.expose_bytes()),
            timeline: next.revision.timeline,
            index: next.revision.index,
        });
        request.set_timeout(2 * TAKE_TIMEOUT);
        let taken = tokio::time::timeout(2 * TAKE_TIMEOUT, PeerClient::new(channel).take_root_key(request)).await;
        taken.map_err(|_| "no answer in time".to_owned())?.map_err(|status| status.message().to_owned())
    });
    let (mut ready, mut missing) = (vec![node.config.name.clone()], Vec::new());
    for ((_, member), taken) in others.iter().zip(join_all(handed).await) {
        match taken {
            Ok(_) => ready.push(member.name.clone()),
            Err(error) => {
                tracing::warn!(voter = %member.name, %error, "the next root key was not taken");
                missing.push(member.name.clone());
            }
        }
    }
    (ready, missing)
}

/// Waits, for a moment, until this voter has opened the newest keyring: another rotation may just have ended.
async fn opened_newest(node: &Node) {
    let end = Instant::now() + TAKE_TIMEOUT;
    let newest = || node.store.published().summary.table(Table::Keyring).revision;
    while node.custody.opened() != Some(newest()) && Instant::now() < end {
        tokio::time::sleep(OPENED_INTERVAL).await;
    }
}

/// Whether this voter can keep a next root key so that a restart finds it.
fn may_take(node: &Node, present: &Key) -> Result<(), String> {
    let known = Known::read(&node.store.database()).map_err(|error| error.to_string())?;
    let Some(provider) = node.custody.provider() else { return Err("this member holds no keys".into()) };
    if node.custody.opened() != Some(node.store.published().summary.table(Table::Keyring).revision) {
        return Err("this voter has not opened the newest keyring yet".into());
    }
    match provider.gives(present, &known).map_err(|error| error.to_string())? {
        true => Ok(()),
        false => Err(format!(
            "a restart of this voter would not find the present root key by its provider ({}): mend that first",
            provider.word()
        )),
    }
}

/// Takes the next root key from the voter that carries an approved rotation.
pub async fn take_next(node: &Node, from: &str, request: v1::TakeRootKeyRequest) -> Result<(), Status> {
    let vault = node.gateway.unsealed()?;
    let bytes = <[u8; 32]>::try_from(&request.root_key[..]);
    let mut bytes = bytes.map_err(|_| Status::from(GatewayError::invalid("root_key", "a root key has 32 bytes")))?;
    let key = Arc::new(Key::from_bytes(&mut bytes));
    let revision = Revision { timeline: request.timeline, index: request.index };
    if !node.store.applied(revision.index, Instant::now() + TAKE_TIMEOUT).await {
        return Err(GatewayError::Unavailable { why: "this voter is behind".into() }.into());
    }
    let found = node.store.database().row(&RowKey::rotation()).map_err(|error| Status::internal(error.to_string()))?;
    let approved =
        found.filter(|row| row.header.revision == revision).and_then(|row| RotationRow::decode(row.value).ok());
    let is_approved =
        approved.is_some_and(|row| rotation::is_approved(&row) && row.next_check_value[..] == key.check_value());
    if !is_approved {
        return Err(Status::failed_precondition("no operator and registrar have approved this root key"));
    }
    if node.custody.next().is_some_and(|next| next.revision == revision && next.key == key) {
        return Ok(());
    }
    keep(node, vault.root(), &Next { revision, key })?;
    tracing::warn!(%from, "the next root key was taken; it comes into use later");
    Ok(())
}
