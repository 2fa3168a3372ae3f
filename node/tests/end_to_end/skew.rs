//! A voter whose wall clock is off: a real process that is told another time.

use std::time::Duration;

use kura_client::{GetError, PutError, Reason, now_ms};
use kura_node::dev::ClientFile;

use super::clock::Clock;
use super::world::{HOSPITAL, SOON, World, leader_of, note, until};

const HOUR_MS: i64 = 3_600_000;
/// The limit, and what passes while an answer is on its way.
const TOLERATED_MS: u64 = 10_000;
/// How long a handover that cannot be may keep the test.
const TOLD: Duration = Duration::from_secs(3);
/// Whose clock it is.
const SKEWED: &str = "voter-1";

async fn lead(world: &World) {
    let operations = world.operator.operations();
    until("the leadership of the voter with the other clock", SOON, async || {
        operations.transfer_leader(Some(SKEWED)).await.map_err(|error| error.to_string())?;
        match world.leader().await {
            leader if leader == SKEWED => Ok(()),
            other => Err(format!("{other} leads")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_clock_is_off_neither_decides_nor_leads_until_it_is_right() {
    let clock = Clock::new();
    let mut world = World::run_by(clock.kura(SKEWED), 3, 0).await;
    let number = world.enrol(1).await;
    let there = world.doctor_at(SKEWED, HOSPITAL).await;
    lead(&world).await;
    let record = there.put(&number, note()).bytes("before").await.unwrap().record();

    clock.set(HOUR_MS);
    let operations = world.operator.operations();
    until("another leader", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        match leader_of(&status) {
            Some(leader) if leader != SKEWED => Ok(()),
            _ => Err("it leads still".to_owned()),
        }
    })
    .await;

    // It decides nothing, and says why; the others do not mind.
    let is_refused = |error: &PutError| matches!(error, PutError::Later(later) if later.reason() == Reason::Clock);
    let error = there.put(&number, note()).bytes("at no time").await.unwrap_err();
    assert!(is_refused(&error), "{error}");
    assert!(error.may_retry() && error.was_committed() == kura_client::Committed::No, "{error}");
    let error = there.get(&number, record).await.map(drop).unwrap_err();
    assert!(matches!(&error, GetError::Later(later) if later.reason() == Reason::Clock), "{error}");
    world.doctor(HOSPITAL).put(&number, note()).bytes("meanwhile").await.unwrap();
    assert_eq!(world.doctor(HOSPITAL).get(&number, record).await.unwrap().bytes().await.unwrap(), "before");

    // It does not lead, not even if told to.
    let told = tokio::time::timeout(TOLD, operations.transfer_leader(Some(SKEWED))).await;
    assert!(!matches!(told, Ok(Ok(_))), "{told:?}");
    assert_ne!(world.leader().await, SKEWED);
    // Clocks are told as seen from the node that is asked.
    let beside = world.cluster.client_at(ClientFile::Operator, "voter-2").await.unwrap();
    let status = beside.operations().status().await.unwrap();
    let told = status.members.iter().find(|member| member.name == SKEWED).unwrap();
    assert!(told.trouble.contains("clock"), "{told:?}");
    assert!(told.clock_offset_ms.abs_diff(HOUR_MS) < TOLERATED_MS, "{told:?}");

    // One that starts with a wrong clock trusts it for no moment.
    world.cluster.restart(SKEWED).await.unwrap();
    let there = world.doctor_at(SKEWED, HOSPITAL).await;
    until("a refusal", SOON, async || match there.put(&number, note()).bytes("at no time").await {
        Ok(_) => panic!("it decided by a wrong clock"),
        Err(error) if is_refused(&error) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;

    clock.set(0);
    until("a decision", SOON, async || {
        there.put(&number, note()).bytes("after").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    lead(&world).await;
    there.put(&number, note()).bytes("as leader").await.unwrap();

    // And the cluster's time has not been moved.
    let latest = now_ms() + TOLERATED_MS;
    let seen = world.person(number).accesses().stream().take(usize::MAX).await.unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|access| access.at_ms < latest), "{seen:?}");
    world.settled().await;
}
