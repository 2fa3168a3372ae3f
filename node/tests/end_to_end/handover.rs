//! Stopping the leader in order: it hands over, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kura_client::{Client, Outcome, ParticipantNumber, PutError, RequestId};
use kura_node::dev::{ClientFile, Signal};

use super::world::{HOSPITAL, SOON, World, doctor_through, leader_of, listed, note, until};

/// Each has a client of its own, which begins at any voter: some of them at the leader.
const WRITERS: usize = 9;
/// Writes of each writer that are acknowledged before and after each stop.
const WRITES: usize = 8;
/// How often each signal is sent; the best of each counts, so that a busy machine does not decide.
const ROUNDS: usize = 2;

#[derive(Default)]
struct Log {
    acknowledged: Vec<String>,
    in_doubt: Vec<(RequestId, String)>,
    /// Of each writer: how many were acknowledged, and when the last one was.
    counts: [usize; WRITERS],
    last: [Option<Instant>; WRITERS],
    /// The longest time that any writer was without an acknowledged write.
    longest: Duration,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    turn: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    /// Waits until every writer has written some more.
    async fn wait(&self) {
        let before = self.log.lock().unwrap().counts;
        until("writes of everybody", SOON, async || {
            let now = self.log.lock().unwrap().counts;
            let late = (0..WRITERS).find(|writer| now[*writer] < before[*writer] + WRITES);
            late.map_or(Ok(()), |writer| Err(format!("writer {writer} waits")))
        })
        .await;
    }
}

async fn keep_writing(client: Client, number: ParticipantNumber, writer: usize, shared: Arc<Shared>) {
    let acting = doctor_through(&client, HOSPITAL);
    while !shared.stop.load(Ordering::Relaxed) {
        let document = format!("document {}", shared.turn.fetch_add(1, Ordering::Relaxed));
        let put = acting.put(&number, note().document_id(&document)).bytes(document.clone()).await;
        let mut log = shared.log.lock().unwrap();
        match put {
            Ok(_) => {
                let now = Instant::now();
                if let Some(last) = log.last[writer].replace(now) {
                    log.longest = log.longest.max(now - last);
                }
                log.counts[writer] += 1;
                log.acknowledged.push(document);
            }
            Err(PutError::Unknown { request }) => log.in_doubt.push((request, document)),
            Err(error) => assert!(error.may_retry(), "{error}"),
        }
    }
}

/// The longest time that a writer waits around the leader's end.
async fn pause(world: &mut World, shared: &Shared, signal: Signal) -> Duration {
    let leader = world.leader().await;
    shared.wait().await;
    shared.log.lock().unwrap().longest = Duration::ZERO;
    world.cluster.kill(&leader, signal).await.unwrap();
    let operations = world.operator.operations();
    until("another leader", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        match leader_of(&status) {
            Some(other) if other != leader => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    shared.wait().await;
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
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = world.cluster.client(ClientFile::Application).await.unwrap();
        writers.push(tokio::spawn(keep_writing(client, number, writer, Arc::clone(&shared))));
    }
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
