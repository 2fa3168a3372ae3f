//! Moving a member to a new key, as its people approved it.
//!
//! Invariants
//! - The membership has the new key beside the old one before the member shows it, so that no member ever
//!   meets a key that it cannot know; it has the new one alone only once the member shows it on what it
//!   takes and on what it makes.
//! - Each step can be repeated: asked again, it goes on where it was.

use std::collections::BTreeMap;
use std::time::Duration;

use kura_proto::v1;
use openraft::ChangeMembers;
use tokio::sync::mpsc;
use tonic::Status;

use super::{refused, say};
use crate::gateway::{Caller, GatewayError};
use crate::raft::types::{Member, NodeId};
use crate::serve::{Node, own_hello, peers};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Changes the key of a member of the membership; on the leader.
pub(super) async fn renew(
    node: &Node,
    caller: &Caller,
    id: NodeId,
    tell: &mpsc::Sender<Result<v1::MemberProgress, Status>>,
) -> Result<(), Status> {
    let member = node.member(id).ok_or_else(no_member)?;
    let approved = node.gateway.approved_next_key(&member.name).map_err(Status::from)?;
    let key = approved.ok_or_else(|| {
        Status::failed_precondition(format!(
            "no other key is (fully) approved for {}: `kura member approve --renew-key` first",
            member.name
        ))
    })?;
    if member.key_sha256 != key {
        say(tell, "changing membership", id, 0, 0).await?;
        set(node, id, |member| Member { next_key_sha256: Some(Box::new(key)), ..member }).await?;
        wait_for(node, id, &member, key, tell).await?;
        say(tell, "changing membership", id, 0, 0).await?;
        set(node, id, |member| Member { key_sha256: key, next_key_sha256: None, ..member }).await?;
    }
    node.gateway.take_next_key(caller, &member.name, key).await.map_err(Status::from)?;
    let index = node.store.published().index();
    say(tell, "done", id, index, index).await
}

fn no_member() -> Status {
    Status::not_found("it is not a member any more")
}

async fn set(node: &Node, id: NodeId, change: impl FnOnce(Member) -> Member) -> Result<(), Status> {
    // Whoever is removed meanwhile must not come back by this.
    let _changing = node.changing_members.lock().await;
    let present = node.member(id).ok_or_else(no_member)?;
    let member = change(present.clone());
    if present == member {
        return Ok(());
    }
    // Only a key changes: name, address and role stay, and so does every quorum.
    let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
    node.raft.change_membership(change, true).await.map(drop).map_err(|error| refused(&error))
}

/// Waits until the member shows the key; until the caller has gone, if need be.
async fn wait_for(
    node: &Node,
    id: NodeId,
    member: &Member,
    key: [u8; 32],
    tell: &mpsc::Sender<Result<v1::MemberProgress, Status>>,
) -> Result<(), Status> {
    loop {
        let reply = match id == node.id() {
            true => Ok(own_hello(node)),
            false => peers::hello(node, id, member).await,
        };
        if reply.is_ok_and(|reply| reply.key_sha256[..] == key) {
            return Ok(());
        }
        if !node.leads() {
            return Err(GatewayError::Unavailable { why: "leadership has moved; ask again".into() }.into());
        }
        say(tell, "waiting for the new key", id, 0, 0).await?;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
