//! Changes of the membership that are asked for at once: each waits for the one before it, and none undoes another.

use kura_client::operations::MemberRole;
use kura_node::dev::ClientFile;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_wait_for_each_other_and_all_of_them_hold() {
    let mut world = World::start(1, 2).await;
    for name in ["voter-2", "voter-3"] {
        world.cluster.enlist_voter(name).await.unwrap();
    }
    world.settled().await;
    let add = async |name: &'static str| {
        let operator = world.cluster.client(ClientFile::Operator).await.unwrap();
        let steps =
            operator.operations().add_member(name, MemberRole::Voter).await.map_err(|error| error.to_string())?;
        steps.take(usize::MAX).await.map(drop).map_err(|error| error.to_string())
    };
    let remove = async |name: &'static str| {
        let operator = world.cluster.client(ClientFile::Operator).await.unwrap();
        operator.operations().remove_member(name, true).await.map(drop).map_err(|error| error.to_string())
    };
    let (second, third, one, two) =
        tokio::join!(add("voter-2"), add("voter-3"), remove("backup-1"), remove("backup-2"));
    for (what, done) in [("voter-2", second), ("voter-3", third), ("backup-1", one), ("backup-2", two)] {
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let status = world.operator.operations().status().await.unwrap();
    let mut names: Vec<&str> = status.members.iter().map(|member| &member.name[..]).collect();
    names.sort_unstable();
    assert_eq!(names, ["voter-1", "voter-2", "voter-3"]);
    assert!(status.members.iter().all(|member| member.role == 1 && !member.being_added), "{:?}", status.members);
}
