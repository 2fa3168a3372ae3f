//! Once a revocation is acknowledged, no read that starts later succeeds, on any voter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kura_client::{ActingClient, Client, GetError, ParticipantNumber, RecordId};
use kura_node::dev::{ClientFile, Signal};
use rustix::process::{Pid, kill_process};

use super::world::{CLINIC, SOON, World, person_through, until};

/// Reads that wait for a follower that sleeps.
const QUEUED: usize = 24;

const READERS_A_VOTER: usize = 3;
const ROUNDS: usize = 6;
/// Reads that a reader makes before the revocation, and begins after it.
const READS: usize = 6;

#[derive(Debug, Clone, Copy)]
struct Read {
    reader: usize,
    began: Instant,
    permitted: bool,
}

#[derive(Default)]
struct Shared {
    reads: Mutex<Vec<Read>>,
    stop: AtomicBool,
}

impl Shared {
    /// Whether every reader has enough reads of a kind.
    fn enough(&self, readers: usize, counts: impl Fn(&Read) -> bool) -> Result<(), String> {
        let reads = self.reads.lock().unwrap();
        let few = (0..readers)
            .find(|reader| reads.iter().filter(|read| read.reader == *reader && counts(read)).count() < READS);
        few.map_or(Ok(()), |reader| Err(format!("reader {reader} has too few reads")))
    }
}

async fn keep_reading(
    acting: ActingClient,
    number: ParticipantNumber,
    record: RecordId,
    reader: usize,
    shared: Arc<Shared>,
) {
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let permitted = match acting.get(&number, record).await {
            Ok(read) => read.bytes().await.is_ok(),
            Err(GetError::Denied(_)) => false,
            Err(other) => panic!("{other}"),
        };
        shared.reads.lock().unwrap().push(Read { reader, began, permitted });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_that_begins_after_an_acknowledged_revocation_succeeds_anywhere() {
    let world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "seen while it may be").await;
    let voters = world.voters();
    for round in 0..ROUNDS {
        world.person(number).grant(CLINIC).await.unwrap();
        let shared = Arc::new(Shared::default());
        let mut readers = Vec::new();
        for place in 0..voters.len() * READERS_A_VOTER {
            let acting = world.doctor_at(&voters[place % voters.len()], CLINIC).await;
            readers.push(tokio::spawn(keep_reading(acting, number, record, place, Arc::clone(&shared))));
        }
        let count = readers.len();
        until("reads", SOON, async || shared.enough(count, |read| read.permitted)).await;
        let config = world.cluster.client_config_at(ClientFile::Application, &voters[round % voters.len()]);
        let through = Client::connect(config.unwrap()).await.unwrap();
        person_through(&through, number).revoke(CLINIC).await.unwrap();
        let acknowledged = Instant::now();
        until("reads after it", SOON, async || shared.enough(count, |read| read.began > acknowledged)).await;
        shared.stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        let reads = shared.reads.lock().unwrap();
        let late: Vec<_> = reads.iter().filter(|read| read.began > acknowledged && read.permitted).collect();
        assert!(late.is_empty(), "round {round}: {} reads were permitted: {late:?}", late.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_slept_through_a_revocation_permits_nothing_by_what_it_knew() {
    let world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "seen while it may be").await;
    let leader = world.leader().await;
    let followers: Vec<String> = world.voters().into_iter().filter(|name| *name != leader).collect();
    let config = world.cluster.client_config_at(ClientFile::Application, &leader).unwrap();
    let through_leader = Client::connect(config).await.unwrap();
    for round in 0..ROUNDS {
        let follower = &followers[round % followers.len()];
        person_through(&through_leader, number).grant(CLINIC).await.unwrap();
        let acting = world.doctor_at(follower, CLINIC).await;
        acting.get(&number, record).await.unwrap().bytes().await.unwrap();

        signal_node(&world, follower, Signal::STOP);
        person_through(&through_leader, number).revoke(CLINIC).await.unwrap();
        // Invoked after the acknowledgement, answered by a node that has yet to hear of it.
        let begun = Arc::new(AtomicUsize::new(0));
        let reads: Vec<_> = (0..QUEUED)
            .map(|_| {
                let (acting, begun) = (acting.clone(), Arc::clone(&begun));
                tokio::spawn(async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    acting.get(&number, record).await.map(drop)
                })
            })
            .collect();
        until("reads under way", SOON, async || match begun.load(Ordering::Relaxed) {
            QUEUED => Ok(()),
            begun => Err(format!("{begun} begun")),
        })
        .await;
        signal_node(&world, follower, Signal::CONT);
        for read in reads {
            let answer = read.await.unwrap();
            assert!(matches!(answer, Err(GetError::Denied(_))), "round {round}: {answer:?}");
        }
    }
}

/// Stops or wakes a node.
fn signal_node(world: &World, node: &str, signal: Signal) {
    let process = i32::try_from(world.cluster.process_id(node).unwrap()).unwrap();
    kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
}
