//! The clock of a lone voter leaps: nobody else's can be asked.

use std::time::Duration;

use kura_client::{PutError, Reason, now_ms};

use super::clock::Clock;
use super::world::{HOSPITAL, SOON, World, note, until};

const HOUR_MS: i64 = 3_600_000;
/// Longer than anybody is believed to have been away.
const MONTH_MS: i64 = 31 * 24 * HOUR_MS;
const SHORT: Duration = Duration::from_millis(700);
const TOLERATED_MS: u64 = 10_000;

async fn refuses(world: &World, number: &kura_client::ParticipantNumber) {
    let doctor = world.doctor(HOSPITAL);
    until("a refusal", SOON, async || match doctor.put(number, note()).bytes("at no time").time_limit(SHORT).await {
        Err(PutError::Later(later)) if later.reason() == Reason::Clock => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => panic!("it decided by a clock that has leapt"),
    })
    .await;
    let status = world.operator.operations().status().await.unwrap();
    assert!(status.members[0].trouble.contains("kura node clock-is-right"), "{:?}", status.members[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_voter_follows_no_leap_of_its_clock_until_people_say_that_it_is_right() {
    let clock = Clock::new();
    let mut world = World::run_by(clock.kura("*"), 1, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "before").await;
    let doctor = world.doctor(HOSPITAL);

    // Set forward by mistake while it runs: nothing is decided, and nothing moved once it is right again.
    clock.set(HOUR_MS);
    refuses(&world, &number).await;
    clock.set(0);
    until("a write by the right clock", SOON, async || {
        doctor.put(&number, note()).bytes("after").time_limit(SHORT).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let latest = now_ms() + TOLERATED_MS;
    let seen = world.person(number).accesses().stream().take(usize::MAX).await.unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|access| access.at_ms < latest), "{seen:?}");

    // One that starts after a month asks, too. What people said of another time does not count.
    clock.say_right(world.cluster.layout(), "voter-1");
    clock.set(MONTH_MS);
    world.cluster.restart("voter-1").await.unwrap();
    refuses(&world, &number).await;
    clock.say_right(world.cluster.layout(), "voter-1");
    until("a read after a month", SOON, async || {
        let read = doctor.get(&number, record).time_limit(SHORT).await.map_err(|error| error.to_string())?;
        read.bytes().await.map_err(|error| error.to_string())
    })
    .await;
}
