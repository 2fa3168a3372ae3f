//! Adding a member, or one in another's place.
//!
//! Invariants
//! - Nothing is changed before the member has answered under the id that was approved for it: a membership holds
//!   nobody who was never there.
//! - Each step can be repeated: asked again, it goes on where it was.
//! - It ends: with a member, or with what is in the way, once the member has not answered for a while.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kura_proto::v1;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;
use tonic::Status;

use super::{OperationsService, refused, say, say_why};
use crate::gateway::{Caller, GatewayError};
use crate::raft::types::{Member, MemberRole, Membership, NodeId};
use crate::serve::peers::{self, HelloError};

/// Between two looks at a member that catches up.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A new voter may lag by this many entries when it becomes one.
const CATCH_UP_ENTRIES: u64 = 64;
/// How long a member that was just started may take until it answers.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// How long one that catches up may be silent.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// After this long without a further entry it is said.
const SLOW: Duration = Duration::from_secs(10);

type Tell = mpsc::Sender<Result<v1::MemberProgress, Status>>;

fn role_word(role: MemberRole) -> &'static str {
    if role == MemberRole::Voter { "voter" } else { "backup" }
}

/// Whether a member is asked for as what it was approved as; 0 asks for no role.
pub(super) fn check_role(member: &Member, asked: u32) -> Result<(), GatewayError> {
    let asked = match asked {
        0 => return Ok(()),
        1 => MemberRole::Voter,
        2 => MemberRole::Backup,
        _ => return Err(GatewayError::invalid("role", "is 1 (voter) or 2 (backup)")),
    };
    if asked == member.role {
        return Ok(());
    }
    let (name, is, asked) = (&member.name, role_word(member.role), role_word(asked));
    Err(GatewayError::Contradicts {
        field: "role",
        why: format!(
            "{name} was approved as a {is}, and not as a {asked}: add it as what it is (`kura member add-{is} {name}`), or \
             have it request and be signed a certificate as a {asked} and be approved by that (`kura member approve FILE \
             --address HOST:PORT --anew`)"
        ),
    })
}

impl OperationsService {
    /// A member that has every approval, as it was approved, and its id.
    pub(super) async fn approved(&self, name: &str) -> Result<(NodeId, Member), Status> {
        let row = self.0.gateway.approved_member(name).map_err(Status::from)?;
        let row = row.ok_or_else(|| {
            Status::not_found(format!("{name} is not an approved member, or lacks one of the approvals that it needs"))
        })?;
        let role = if row.role == 1 { MemberRole::Voter } else { MemberRole::Backup };
        let key_sha256 = row.key_sha256[..].try_into().unwrap_or_default();
        Ok((row.raft_id, Member { name: row.name, address: row.address, role, key_sha256, next_key_sha256: None }))
    }

    /// Waits until the member answers under the id that was approved for it.
    async fn reach(&self, id: NodeId, member: &Member, tell: &Tell) -> Result<(), Status> {
        let Member { name, address, .. } = member;
        let end = Instant::now() + REACHED_WITHIN;
        loop {
            let error = match peers::hello(&self.0, id, member).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let HelloError::OtherId { told, .. } = error {
                return Err(other_id(member, id, told).into());
            }
            if Instant::now() >= end {
                let seconds = REACHED_WITHIN.as_secs();
                let why = format!(
                    "{name} was not reached at {address} for {seconds} s ({error}), and nothing was changed. If it does not \
                     run, start it there (`kura join` first, then `kura serve`); if its address or key is another, have it \
                     approved by that (`kura member approve --anew`)"
                );
                return Err(GatewayError::Unavailable { why }.into());
            }
            self.check_leads()?;
            say_why(tell, "reaching", id, (0, 0), &format!("at {address}: {error}")).await?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn check_leads(&self) -> Result<(), GatewayError> {
        match self.0.leads() {
            true => Ok(()),
            false => Err(GatewayError::Unavailable { why: "leadership has moved meanwhile".into() }),
        }
    }

    /// Adds a learner and reports until it has caught up.
    async fn catch_up(&self, id: NodeId, member: Member, tell: &Tell) -> Result<(), Status> {
        let raft = &self.0.raft;
        {
            let _changing = self.0.changing_members.lock().await;
            raft.add_learner(id, member.clone(), false).await.map_err(|error| refused(&error))?;
        }
        let (mut furthest, mut since) = (0, Instant::now());
        loop {
            let metrics = raft.metrics().borrow_watched().clone();
            let Some(replication) = &metrics.replication else {
                return Err(GatewayError::Unavailable { why: "leadership has moved meanwhile".into() }.into());
            };
            let matched = replication.get(&id).cloned().flatten().map_or(0, |log_id| log_id.index);
            let target = metrics.last_log_index.unwrap_or(0);
            if matched + CATCH_UP_ENTRIES >= target && matched > 0 {
                return say(tell, "catching up", id, matched, target).await;
            }
            if matched > furthest {
                (furthest, since) = (matched, Instant::now());
            }
            // Members are asked each second, whoever is being added among them.
            let silent = self.0.peers.heard(id).map_or(since.elapsed(), |heard| heard.at.elapsed());
            if silent >= SILENT_MAX && since.elapsed() >= SILENT_MAX {
                return Err(fell_silent(&member).into());
            }
            let why = match since.elapsed() {
                elapsed if elapsed < SLOW => String::new(),
                _ if silent >= SLOW => format!("it has not answered for {} s", silent.as_secs()),
                elapsed => {
                    format!("no entry for {} s: a snapshot may be on its way; its log says more", elapsed.as_secs())
                }
            };
            say_why(tell, "catching up", id, (matched, target), &why).await?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Adds an approved member, in the place of another if one is named.
    pub(super) async fn add(&self, name: &str, replaces: Option<(&str, &Caller)>, tell: &Tell) -> Result<(), Status> {
        let (id, member) = self.approved(name).await?;
        let old = replaces.map(|(old, _)| self.id_of(old)).transpose()?;
        let role = member.role;
        let membership = self.0.raft.metrics().borrow_watched().membership_config.clone();
        if let Some(old) = old {
            takes_place(membership.membership(), old, id, role)?;
        }
        if !membership.membership().voter_ids().any(|voter| voter == id) {
            say(tell, "joining", id, 0, 0).await?;
            self.reach(id, &member, tell).await?;
            self.catch_up(id, member, tell).await?;
        }
        say(tell, "changing membership", id, 0, 0).await?;
        let _changing = self.0.changing_members.lock().await;
        let raft = &self.0.raft;
        let membership = raft.metrics().borrow_watched().membership_config.clone();
        if membership.membership().get_node(&id).is_none() {
            return Err(
                GatewayError::Unavailable { why: format!("{name} was removed while it was being added") }.into()
            );
        }
        let mut voters: BTreeSet<NodeId> = membership.membership().voter_ids().collect();
        if role == MemberRole::Voter {
            voters.insert(id);
        }
        if let Some(old) = old {
            voters.remove(&old);
        }
        // One change: the new voter comes as the old one goes.
        raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await.map_err(|error| refused(&error))?;
        if let Some(old) = old {
            if let Some((name, caller)) = replaces {
                self.0.gateway.end_approval(caller, name, &format!("{name} goes")).await?;
            }
            raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([old])), false)
                .await
                .map_err(|error| refused(&error))?;
        }
        let index = self.0.store.published().index();
        say(tell, "done", id, index, index).await
    }
}

/// What runs under the member's name has another id than the one that was approved.
fn other_id(member: &Member, approved: NodeId, told: NodeId) -> GatewayError {
    let Member { name, address, .. } = member;
    GatewayError::Contradicts {
        field: "name",
        why: format!(
            "{name} was approved as member {approved}, and what answers for it at {address} is member {told}: its data \
             directory is from a former approval. Nothing was changed. On its machine: stop it, move the directory (`data` in \
             its configuration) away, `kura join` and `kura serve` again; then run the same again"
        ),
    }
}

fn fell_silent(member: &Member) -> GatewayError {
    let Member { name, address, role, .. } = member;
    let is = match role {
        MemberRole::Voter => "It is being added, and does not vote",
        MemberRole::Backup => "It is a member, and behind",
    };
    let seconds = SILENT_MAX.as_secs();
    let why = format!(
        "{name} was reached, and has not answered at {address} for {seconds} s now. {is}: start it and run the same again, \
         or take it out with `kura member remove {name}`"
    );
    GatewayError::Unavailable { why }
}

/// Whether a member can take another's place: it must not be there already, and be of the same role. One that an earlier
/// try has brought half of the way goes on.
fn takes_place(membership: &Membership, old: NodeId, new: NodeId, role: MemberRole) -> Result<(), Status> {
    let refused = |why: &str| Err(GatewayError::invalid("new", why).into());
    let votes = |id: NodeId| membership.voter_ids().any(|voter| voter == id);
    let role_of_old = membership.get_node(&old).map(|member| member.role);
    match (votes(old), votes(new)) {
        _ if old == new => refused("is the member that goes: it cannot take its own place"),
        _ if role_of_old != Some(role) => refused("is of another role than the member that goes"),
        (true, true) => refused("is a voter already: use `kura member remove` if the other is to go"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_added_as_what_it_was_approved_as() {
        let member = |role| Member { name: "m-9".into(), role, ..Member::default() };
        let (voter, backup) = (member(MemberRole::Voter), member(MemberRole::Backup));
        for (member, asked) in [(&voter, 0), (&voter, 1), (&backup, 0), (&backup, 2)] {
            check_role(member, asked).unwrap();
        }
        for (member, asked, is) in [(&voter, 2, "voter"), (&backup, 1, "backup")] {
            let words = check_role(member, asked).unwrap_err().to_string();
            assert!(words.contains("a voter") && words.contains("a backup"), "{words}");
            assert!(words.contains(&format!("kura member add-{is} m-9")), "{words}");
        }
        assert!(matches!(check_role(&voter, 3), Err(GatewayError::Invalid { field: "role", .. })));
    }
}
