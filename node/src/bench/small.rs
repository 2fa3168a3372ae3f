//! Ingest and audited reads of small bodies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{Client, NewRecord, RecordId};

use super::bodies::SmallBody;
use super::load::{Load, Run, Trouble};
use super::place::Place;
use super::population::Population;
use crate::cli::{Failure, Progress};

/// Records that are remembered for reading; later ones are written all the same.
const REMEMBERED_MAX: usize = 1_000_000;
/// Records written before reads alone are measured.
const AHEAD: usize = 4_000;
/// How many of them at the same time.
const AHEAD_AT_ONCE: usize = 64;

/// A record that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Written {
    person: u32,
    body: u32,
    record: RecordId,
}

/// Writers and readers share it.
#[derive(Debug)]
pub(super) struct Small {
    clients: Vec<Client>,
    population: Arc<Population>,
    bodies: Vec<SmallBody>,
    turn: AtomicU64,
    written: Mutex<Vec<Written>>,
}

impl Small {
    pub fn new(clients: Vec<Client>, population: Arc<Population>, bodies: Vec<SmallBody>) -> Self {
        Self { clients, population, bodies, turn: AtomicU64::new(0), written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Vec<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the next body about anybody.
    async fn put(&self, client: usize) -> Result<u64, Trouble> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (person, place) = (self.population.anybody(), turn as usize % self.bodies.len());
        let body = &self.bodies[place];
        let document_id = format!("bench-{}-{turn}", self.population.tag);
        let record = NewRecord::new(body.class, body.media_type, body.day).document_id(document_id);
        let acting = self.population.writer(&self.clients[client % self.clients.len()], client);
        let receipt = acting.put(&self.population.people[person], record).bytes(body.bytes.clone()).await?;
        let mut written = self.written();
        if written.len() < REMEMBERED_MAX {
            written.push(Written { person: person as u32, body: place as u32, record: receipt.record() });
        }
        Ok(body.bytes.len() as u64)
    }

    /// Reads any record and compares it.
    async fn get(&self, client: usize) -> Result<u64, Trouble> {
        let Written { person, body, record } = {
            let written = self.written();
            written[rand::random_range(0..written.len())]
        };
        let acting = self.population.reader(&self.clients[client % self.clients.len()], client);
        let found = acting.get(&self.population.people[person as usize], record).await?.bytes().await?;
        if found != self.bodies[body as usize].bytes {
            return Err(Trouble::mismatch());
        }
        Ok(found.len() as u64)
    }
}

/// Measures writes.
pub(super) async fn ingest(small: &Arc<Small>, load: Load, place: &Place, progress: &Progress) -> Result<Run, Failure> {
    let small = Arc::clone(small);
    let operate = move |client| {
        let small = Arc::clone(&small);
        async move { small.put(client).await }
    };
    load.run("ingest", place, progress, operate).await
}

/// Measures reads; writes something to read if there is nothing yet.
pub(super) async fn read(small: &Arc<Small>, load: Load, place: &Place, progress: &Progress) -> Result<Run, Failure> {
    if small.written().is_empty() {
        progress.say("read: writing records to read");
        let ahead = stream::iter(0..AHEAD).map(Ok::<_, Trouble>);
        let wrote =
            ahead.try_for_each_concurrent(AHEAD_AT_ONCE, |client| async move { small.put(client).await.map(drop) });
        wrote.await.map_err(|trouble| Failure::failed(trouble.message))?;
    }
    let small = Arc::clone(small);
    let operate = move |client| {
        let small = Arc::clone(&small);
        async move { small.get(client).await }
    };
    load.run("read", place, progress, operate).await
}
