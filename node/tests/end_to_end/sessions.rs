//! Entries go over no connection that was made under former certificates or revocation lists.

use std::process::{Command, Stdio};
use std::time::Duration;

use kura_client::wire;

use super::raw;
use super::world::{KURA, SOON, World, until};

/// Files are looked at every five seconds.
const RELOADED: Duration = Duration::from_secs(20);
/// Entries that the others have, and the one that is revoked has not.
const BEHIND: u64 = 5;

fn applied(status: &wire::StatusReply, name: &str) -> u64 {
    status
        .members
        .iter()
        .find(|member| member.name == name)
        .map_or(0, |member| member.last_applied_index.max(member.applied_index))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_sends_nothing_more_to_who_was_revoked_also_over_a_connection_that_stands() {
    let mut world = World::start(3, 0).await;
    // The leader alone has the list: whoever is revoked goes on taking what is sent.
    let list = raw::begin_revocation_list(&mut world, "voter-1").await;
    let number = world.enrol(1).await;
    world.settled().await;
    until("its leadership", SOON, async || {
        let operations = world.operator.operations();
        let _ = operations.transfer_leader(Some("voter-1")).await;
        let leader = world.leader().await;
        if leader == "voter-1" { Ok(()) } else { Err(leader) }
    })
    .await;
    world.put(&number, "to all").await;
    world.settled().await;

    let layout = world.cluster.layout();
    let mut revoke = Command::new(KURA);
    revoke.args(["ca", "revoke", "--directory"]).arg(layout.authority()).arg("--list").arg(&list);
    revoke.arg("--certificate").arg(layout.node("voter-2").join("node.pem")).stdin(Stdio::null());
    let revoked = revoke.output().unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    // The bystander sees both: it asks the one that is revoked itself.
    let bystander = world.cluster.client_at(kura_node::dev::ClientFile::Operator, "voter-3").await.unwrap();
    until("a voter that gets nothing more", RELOADED + SOON, async || {
        world.put(&number, "to the others").await;
        let status = bystander.operations().status_of("voter-3").await.map_err(|error| error.to_string())?;
        let (sent, kept) = (applied(&status, "voter-3"), applied(&status, "voter-2"));
        if kept > 0 && sent >= kept + BEHIND { Ok(()) } else { Err(format!("{kept} of {sent}")) }
    })
    .await;
    let status = world.operator.operations().status_of("voter-1").await.unwrap();
    let refused = status.members.iter().find(|member| member.name == "voter-2").unwrap();
    assert!(!refused.reachable, "nor is it greeted: {refused:?}");
    // Asked there: the one that gets nothing more knows of no leader.
    assert!(status.members.iter().any(|member| member.name == "voter-1" && member.leader), "{status:?}");
}
