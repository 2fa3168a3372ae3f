//! Stopping the leader in order: it hands over, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kura_client::{Outcome, ParticipantNumber, PutError, RequestId};
use kura_node::dev::Signal;

use super::world::{HOSPITAL, SOON, World, listed, note, until};

const WRITERS: usize = 6;
/// Acknowledged writes before and after each stop.
const WRITES: usize = 60;
/// How often each signal is sent; the best of each counts, so that a busy machine does not decide.
const ROUNDS: usize = 2;

#[derive(Default)]
struct Log {
    acknowledged: Vec<String>,
    in_doubt: Vec<(RequestId, String)>,
    last: Option<Instant>,
    longest: Duration,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    turn: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    fn acknowledged(&self) -> usize {
        self.log.lock().unwrap().acknowledged.len()
    }

    async fn wait(&self, wanted: usize) {
        until("acknowledged writes", SOON, async || match self.acknowledged() {
            count if count >= wanted => Ok(()),
            count => Err(format!("{count} of {wanted}")),
        })
        .await;
    }
}

async fn keep_writing(acting: kura_client::ActingClient, number: ParticipantNumber, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let document = format!("document {}", shared.turn.fetch_add(1, Ordering::Relaxed));
        let put = acting.put(&number, note().document_id(&document)).bytes(document.clone());
        let put = put.await;
        let mut log = shared.log.lock().unwrap();
        match put {
            Ok(_) => {
                let now = Instant::now();
                if let Some(last) = log.last.replace(now) {
                    log.longest = log.longest.max(now - last);
                }
                log.acknowledged.push(document);
            }
            Err(PutError::Unknown { request }) => log.in_doubt.push((request, document)),
            Err(error) => assert!(error.may_retry(), "{error}"),
        }
    }
}

/// The longest time without an acknowledged write around the leader's end.
async fn pause(world: &mut World, shared: &Shared, signal: Signal) -> Duration {
    let leader = world.leader().await;
    shared.wait(shared.acknowledged() + WRITES).await;
    shared.log.lock().unwrap().longest = Duration::ZERO;
    world.cluster.kill(&leader, signal).await.unwrap();
    let operations = world.operator.operations();
    until("another leader", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        match super::world::leader_of(&status) {
            Some(other) if other != leader => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    shared.wait(shared.acknowledged() + WRITES).await;
    let longest = shared.log.lock().unwrap().longest;
    world.cluster.restart(&leader).await.unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over_faster_than_an_election_and_loses_nothing() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let shared = Arc::new(Shared::default());
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(keep_writing(world.doctor(HOSPITAL), number, Arc::clone(&shared)))).collect();
    let mut best = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, signal) in [("handed over", Signal::TERM), ("killed", Signal::KILL)] {
            let longest = pause(&mut world, &shared, signal).await;
            println!("{name}: {longest:?} without an acknowledged write");
            best.entry(name).and_modify(|least: &mut Duration| *least = longest.min(*least)).or_insert(longest);
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    println!("longest pause of {WRITERS} writers: {best:?}");
    assert!(best["handed over"] * 2 < best["killed"], "{best:?}");

    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for summary in listed(&world.doctor(HOSPITAL), &number).await {
        *found.entry(summary.document_id).or_default() += 1;
    }
    let log = std::mem::take(&mut *shared.log.lock().unwrap());
    let lost: Vec<_> = log.acknowledged.iter().filter(|document| found.get(*document) != Some(&1)).collect();
    assert!(lost.is_empty(), "acknowledged, and not there exactly once: {lost:?}");
    for (request, document) in log.in_doubt {
        let committed = matches!(world.application.outcome(request).await.unwrap(), Outcome::Committed(_));
        assert_eq!(found.contains_key(&document), committed, "{document}");
    }
    world.settled().await;
}
