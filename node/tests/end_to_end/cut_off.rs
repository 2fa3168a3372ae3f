//! A voter that hears from no majority any more hands nothing out, also not of a download that was running.

use std::time::{Duration, Instant};

use kura_client::{Class, Date, NewRecord};
use kura_node::dev::Signal;
use tokio::io::AsyncReadExt;

use super::memory::Made;
use super::world::{CLINIC, HOSPITAL, World};

const MIB: usize = 1 << 20;
const BODY_MIB: usize = 64;
/// What a reader takes so slowly that the body lasts well beyond the limit.
const PACE: Duration = Duration::from_millis(500);
/// The check's interval, its search for a proof, the client's own attempts, and a busy machine.
const ENDED: Duration = Duration::from_secs(10 + 10 + 25);

#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_a_voter_without_a_majority_ends() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
    let body = Made::noise(7, (BODY_MIB * MIB) as u64);
    let record = world.doctor(HOSPITAL).put(&number, image).body(body).await.unwrap().record();
    world.settled().await;
    let left = world.voters().remove(0);
    let read = world.doctor_at(&left, CLINIC).await.get(&number, record).await.unwrap();
    let mut reader = read.into_reader();
    for name in world.voters().into_iter().filter(|name| *name != left) {
        world.cluster.kill(&name, Signal::KILL).await.unwrap();
    }
    let began = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    let (mut piece, mut taken) = (vec![0; MIB], 0);
    let error = loop {
        pace.tick().await;
        match reader.read_exact(&mut piece).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < BODY_MIB, "all of it was handed out");
    };
    assert!(error.to_string().contains("majority"), "{error}");
    assert!(began.elapsed() < ENDED, "{:?}", began.elapsed());
}
