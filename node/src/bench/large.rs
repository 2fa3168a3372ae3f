//! A few large bodies at the same time, up and then down.
//!
//! Invariant: bodies are made while they are sent and made again while they are compared; none is
//! ever held.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use kura_client::{Class, Client, Date, NewRecord, RecordId};
use tokio::time::Instant;
use tokio_util::io::StreamReader;

use super::load::{Done, Run, Trouble};
use super::place::Place;
use super::population::Population;
use crate::cli::{Failure, Progress};
use crate::samples::Body;

/// Bytes made at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Large {
    pub streams: usize,
    pub bytes: u64,
    pub seed: u64,
}

/// A body that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    stream: usize,
    record: RecordId,
}

impl Large {
    /// Noise, as compressed images are.
    fn body(&self, stream: usize) -> Body {
        Body::new(self.seed.wrapping_add(stream as u64), self.bytes, false)
    }

    /// Sends all; answers what was acknowledged, too.
    pub async fn up(
        self,
        clients: &[Client],
        population: &Arc<Population>,
        place: &Place,
        progress: &Progress,
    ) -> Result<(Run, Vec<Sent>), Failure> {
        progress.say(format!("large: {} streams up", self.streams));
        let run = self.measure(place, |nth| {
            let (client, population) = (clients[nth % clients.len()].clone(), Arc::clone(population));
            async move {
                let record = NewRecord::new(Class::Image, "application/dicom", Date::today())
                    .document_id(format!("bench-{}-large-{nth}", population.tag));
                let number = population.people[nth % population.people.len()];
                let put = population.writer(&client, nth).put(&number, record).body(reader(self.body(nth)));
                Ok(put.await?.record())
            }
        });
        let (run, records) = run.await?;
        Ok((run, records.into_iter().map(|(stream, record)| Sent { stream, record }).collect()))
    }

    /// Reads all back and compares them.
    pub async fn down(
        self,
        sent: Vec<Sent>,
        clients: &[Client],
        population: &Arc<Population>,
        place: &Place,
        progress: &Progress,
    ) -> Result<Run, Failure> {
        progress.say(format!("large: {} streams down", sent.len()));
        let down = Self { streams: sent.len(), ..self };
        let run = down.measure(place, |nth| {
            let Sent { stream, record } = sent[nth];
            // Another gateway than the one that sealed it.
            let (client, population) = (clients[(stream + 1) % clients.len()].clone(), Arc::clone(population));
            async move {
                let number = population.people[stream % population.people.len()];
                let mut chunks = population.reader(&client, nth).get(&number, record).await?.into_stream();
                let mut expected = self.body(stream);
                let mut made = Vec::new();
                while let Some(chunk) = chunks.next().await {
                    let chunk = chunk?;
                    made.resize(chunk.len(), 0);
                    if expected.read_exact(&mut made).is_err() || made != chunk {
                        return Err(Trouble::mismatch());
                    }
                }
                if expected.left() > 0 { Err(Trouble::mismatch()) } else { Ok(()) }
            }
        });
        Ok(run.await?.0)
    }

    async fn measure<T, F>(self, place: &Place, stream: impl Fn(usize) -> F) -> Result<(Run, Vec<(usize, T)>), Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let before = place.used()?;
        let start = Instant::now();
        let streams = (0..self.streams).map(|nth| {
            let running = tokio::spawn(stream(nth));
            async move { (nth, running.await, start.elapsed()) }
        });
        let (mut done, mut results) = (Done::default(), Vec::new());
        for (nth, ended, took) in join_all(streams).await {
            match ended.map_err(|error| Failure::failed(format!("a client of the bench failed: {error}")))? {
                Ok(result) => {
                    done.operations += 1;
                    done.bytes += self.bytes;
                    done.bytes_of_all += self.bytes;
                    done.latencies.record(took);
                    results.push((nth, result));
                }
                Err(trouble) => done.failed(trouble),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok((Run { done, seconds, used: (before, place.used()?) }, results))
    }
}

/// A body as the client takes it, its length untold.
fn reader(body: Body) -> impl tokio::io::AsyncRead + Send + 'static {
    let chunks = stream::unfold(body, |mut body| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match body.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return Some((Err(error), body)),
            }
        }
        chunk.truncate(filled);
        (filled > 0).then(|| (Ok(Bytes::from(chunk)), body))
    });
    StreamReader::new(Box::pin(chunks))
}
