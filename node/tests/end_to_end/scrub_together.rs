//! Checks of several members: one after another; and what is damaged everywhere ends nobody who is needed.

use std::process::{Command, Stdio};

use kura_client::wire;
use kura_node::dev::{ClientFile, DevError};

use super::scrub::{DAMAGED, any_time, flip, largest, noise, scrub};
use super::world::{CLINIC, HOSPITAL, KURA, SOON, World, note, set, until};

/// Read twice at 1 MiB a second, and once more in the log: a check takes some seconds.
const BODIES: u8 = 200;

/// Asks a member to check its files, and does not wait for it.
fn ask(world: &World, member: &str) {
    let config = world.cluster.layout().client(ClientFile::Operator);
    let mut command = Command::new(KURA);
    command.args(["member", "scrub", member, "--no-wait", "--client"]).arg(config).stdin(Stdio::null());
    let asked = command.output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
}

async fn scrubs(world: &World) -> Vec<(String, wire::Scrub)> {
    let status = world.operator.operations().status().await.unwrap();
    let of = |member: wire::MemberStatus| (member.name, member.scrub.unwrap_or_default());
    status.members.into_iter().filter(|member| member.reachable).map(of).collect()
}

/// All members are asked at one moment; each checks, and no two at a time.
async fn all_check_one_after_another(world: &World) {
    let before: Vec<(String, wire::Scrub)> = scrubs(world).await;
    world.voters().iter().for_each(|voter| ask(world, voter));
    let (mut waited, mut seen) = (false, 0);
    until("a check of each", 4 * SOON, async || {
        let now = scrubs(world).await;
        let checking: Vec<&str> =
            now.iter().filter(|(_, scrub)| scrub.running && !scrub.waiting).map(|(name, _)| &name[..]).collect();
        assert!(checking.len() <= 1, "{checking:?} check at one moment");
        seen += checking.len();
        waited |= now.iter().any(|(_, scrub)| scrub.waiting);
        let is_new = |(name, scrub): &(String, wire::Scrub)| {
            let ended_ms = before.iter().find(|(other, _)| other == name).map_or(0, |(_, scrub)| scrub.ended_ms);
            !scrub.running && scrub.ended_ms > ended_ms
        };
        if now.iter().all(is_new) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(waited && seen > 0, "nothing was seen of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_check_in_turn_and_the_same_damage_everywhere_leaves_a_majority() {
    let mut world = World::configured(3, 0, |table| {
        any_time(table);
        set(table, "scrub", "mib_per_second", 1);
    })
    .await;
    let number = world.enrol(1).await;
    for nth in 0..BODIES {
        world.doctor(HOSPITAL).put(&number, note()).bytes(noise(nth)).await.unwrap();
    }
    world.settled().await;
    all_check_one_after_another(&world).await;

    // The same fault in all of them.
    let layout = world.cluster.layout().clone();
    let voters = world.voters();
    let logs: Vec<_> = voters.iter().map(|name| largest(&layout.node_data(name).join("log/db"), "log")).collect();
    logs.iter().for_each(|log| flip(log, 5_000));
    let first = scrub(&world.cluster, &voters[0]);
    assert_eq!(first.status.code(), DAMAGED, "{first:?}");
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for voter in &voters[1..] {
        let found = scrub(&world.cluster, voter);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), DAMAGED, "{errors}");
        assert!(errors.contains("goes on, as") && errors.contains("is damaged, too"), "{errors}");
    }
    // Both have asked and decided. The cluster goes on, through either of them, and says what it knows.
    for voter in &voters[1..] {
        let doctor = world.doctor_at(voter, CLINIC).await;
        let record = until("a write", SOON, async || {
            let put = doctor.put(&number, note()).bytes("in spite of it").await;
            put.map(|receipt| receipt.record()).map_err(|error| error.to_string())
        })
        .await;
        let read = until("a read", SOON, async || {
            let read = doctor.get(&number, record).await.map_err(|error| error.to_string())?;
            read.bytes().await.map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(read, "in spite of it");
    }
    let status = world.operator.operations().status().await.unwrap();
    for voter in &voters[1..] {
        let member = status.members.iter().find(|member| member.name == *voter).unwrap();
        assert!(member.reachable && member.trouble.contains("DAMAGED, and it goes on"), "{member:?}");
        assert!(!layout.node_data(voter).join("damaged").exists(), "it would not start again");
    }

    // What was the cause is mended. A restart forgets nothing; a new check finds all whole.
    flip(&logs[1], 5_000);
    world.cluster.restart(&voters[1]).await.unwrap();
    let own = async |world: &World| {
        let operations = world.operator.operations();
        until("its word", SOON, async || {
            let status = operations.status_of(&voters[1]).await.map_err(|error| error.to_string())?;
            status.members.into_iter().find(|member| member.name == voters[1]).ok_or_else(|| "it is no member".into())
        })
        .await
    };
    let member = own(&world).await;
    assert!(member.scrub.as_ref().is_some_and(|scrub| !scrub.damage.is_empty()), "{member:?}");
    let again = scrub(&world.cluster, &voters[1]);
    assert!(again.status.success(), "{again:?}");
    let member = own(&world).await;
    assert!(member.scrub.as_ref().is_some_and(|scrub| scrub.damage.is_empty() && scrub.result == 1), "{member:?}");
    assert!(!member.trouble.contains("amaged"), "{member:?}");
}
