//! A cluster that has lost its majority says so: soon, in the status, and without a figure that is no more true.

use std::process::Stdio;
use std::time::{Duration, Instant};

use kura_client::registry::Facility;
use kura_client::{FacilityKind, ListError, OperationError, Reason, RegistryError, wire};
use kura_node::dev::{ClientFile, Cluster, Signal};

use super::world::{HOSPITAL, KURA, SOON, World, number, until};

const UNKNOWN: u32 = 2;
const NOT_COMPARED: u32 = 3;

/// The client's limit for a cluster without a leader, one attempt that was under way, and a busy machine.
const TOLD: Duration = Duration::from_secs(25);

fn kura(cluster: &Cluster, words: &[&str]) -> std::process::Output {
    let config = cluster.layout().client(ClientFile::Operator);
    std::process::Command::new(KURA).args(words).arg("--client").arg(config).stdin(Stdio::null()).output().unwrap()
}

fn member<'s>(status: &'s wire::StatusReply, name: &str) -> &'s wire::MemberStatus {
    status.members.iter().find(|member| member.name == name).unwrap()
}

/// The status as one member tells it, once it knows that there is no leader.
async fn leaderless(world: &World, node: &str) -> wire::StatusReply {
    let operations = world.operator.operations();
    until("trouble about the leader", SOON, async || {
        let status = operations.status_of(node).await.map_err(|error| error.to_string())?;
        let trouble = &member(&status, node).trouble;
        if trouble.contains("no leader since") { Ok(status) } else { Err(format!("{trouble:?}")) }
    })
    .await
}

/// Who is left of three voters tells what is so, whether it led or followed.
async fn told_by_who_is_left(mut world: World, left: &str, dead: &[String]) {
    let before = world.settled().await;
    for name in dead {
        world.cluster.kill(name, Signal::KILL).await.unwrap();
    }
    let began = Instant::now();
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let added = registry.add_facility(&Facility::new("F-late", "late", FacilityKind::Clinic)).await.unwrap_err();
    let took = began.elapsed();
    let is_leaderless = matches!(&added, RegistryError::Later(later) if later.reason() == Reason::NoLeader);
    assert!(is_leaderless || matches!(added, RegistryError::Unknown { .. }), "{added}");
    assert!(took < TOLD, "{took:?}: {added}");

    let status = leaderless(&world, left).await;
    assert_eq!((status.leader_id, status.replication_point.as_ref().unwrap().state), (0, UNKNOWN), "{status:?}");
    let trouble = &member(&status, left).trouble;
    assert!(trouble.contains("only 1 of 3 voters") && trouble.contains("+09:00"), "{trouble}");
    for name in dead {
        let silent = member(&status, name);
        assert_eq!((silent.reachable, silent.agreement, silent.leader), (false, NOT_COMPARED, false), "{silent:?}");
    }
    let backup = member(&status, "backup-1");
    assert!(backup.reachable && backup.lag_entries == -1 && status.committed_index >= before.committed_index);
    assert!(backup.trouble.contains("no leader since"), "{backup:?}");

    // By now nothing is in doubt any more: nobody takes the proposal.
    let began = Instant::now();
    let error = registry.add_facility(&Facility::new("F-later", "later", FacilityKind::Clinic)).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Later(later) if later.reason() == Reason::NoLeader), "{error}");
    assert!(error.to_string().contains("nothing was committed"), "{error}");
    assert!(began.elapsed() < TOLD);
    let listed = world.doctor(HOSPITAL).list(&number(1)).stream().take(1).await.unwrap_err();
    assert!(matches!(&listed, ListError::Later(later) if later.reason() == Reason::NoLeader), "{listed}");
    let handed = world.operator.operations().transfer_leader(None).await.unwrap_err();
    assert!(matches!(&handed, OperationError::Later(later) if later.reason() == Reason::NoLeader), "{handed}");

    let began = Instant::now();
    let waited = kura(&world.cluster, &["status", "--wait", "--timeout", "3"]);
    let errors = String::from_utf8_lossy(&waited.stderr);
    assert_eq!(waited.status.code(), Some(5), "{errors}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}: {errors}", began.elapsed());
    assert!(errors.contains("waiting: there is no leader") && errors.contains("next: "), "{errors}");
    let shown = kura(&world.cluster, &["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    for words in ["NONE", "UNKNOWN", "no leader since"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    for name in dead {
        world.cluster.restart(name).await.unwrap();
    }
    world.settled().await;
    until("no trouble", SOON, async || {
        let status = world.operator.operations().status().await.map_err(|error| error.to_string())?;
        match status.members.iter().find(|member| !member.trouble.is_empty()) {
            Some(member) => Err(format!("{}: {}", member.name, member.trouble)),
            None if status.leader_id == 0 => Err("no leader".to_owned()),
            None => Ok(()),
        }
    })
    .await;
    let facilities = registry.facilities().await.unwrap();
    assert!(facilities.iter().all(|facility| facility.id != "F-later"), "{facilities:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_says_that_there_is_none() {
    let world = World::start(3, 1).await;
    let leader = world.leader().await;
    let dead: Vec<String> = world.voters().into_iter().filter(|name| *name != leader).collect();
    told_by_who_is_left(world, &leader, &dead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_a_majority_does_not_name_the_leader_that_was() {
    let world = World::start(3, 1).await;
    let leader = world.leader().await;
    let left = world.voters().into_iter().find(|name| *name != leader).unwrap();
    let dead: Vec<String> = world.voters().into_iter().filter(|name| *name != left).collect();
    told_by_who_is_left(world, &left, &dead).await;
}
