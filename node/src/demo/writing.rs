//! Records in, records out: every one byte-exact.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{ActingClient, Class, NewRecord, ParticipantNumber, RecordId};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::bodies::{self, Content, Draft, Print};
use super::cast::{CLINIC, Cast, Clients, HOSPITAL};
use super::report::Report;
use super::words::Words;
use crate::cli::{Exit, Failure, bytes};

/// Writes and reads that run at the same time.
const AT_ONCE: usize = 8;

/// A record that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub participant: usize,
    pub place: usize,
    pub class: Class,
    pub record: RecordId,
    pub document_id: String,
    pub print: Print,
}

/// Writes everything.
pub(super) async fn write(
    clients: &Clients,
    cast: &Cast,
    input: Option<&Path>,
    words: &mut Words,
    report: &mut Report,
) -> Result<Vec<Written>, Failure> {
    report.begin("write");
    let drafts: Box<dyn Iterator<Item = Result<Draft, Failure>> + Send> = match input {
        Some(path) => Box::new(bodies::folder(cast, path)?),
        None => Box::new(bodies::generated(cast)?.into_iter().map(Ok)),
    };
    let began = Instant::now();
    let mut written = Vec::new();
    let mut total = 0;
    {
        let mut puts =
            stream::iter(drafts).map(|draft| async move { put(clients, cast, draft?).await }).buffer_unordered(AT_ONCE);
        while let Some((one, found)) = puts.try_next().await? {
            total += one.print.bytes;
            words.add("document id", &one.document_id);
            found.add_to(words);
            written.push(one);
            report.progress().say(format!("write: {} records, {}", written.len(), bytes(total)));
        }
    }
    if written.is_empty() {
        return Err(Failure::usage("the folder has no files"));
    }
    let classes: BTreeSet<Class> = written.iter().map(|one| one.class).collect();
    let per_second = written.len() as f64 / began.elapsed().as_secs_f64();
    report.done(
        "from four facilities, sealed by the gateway before anything is replicated; the longest streamed, its length untold",
        format!("{} records of {} classes, {}, {per_second:.0} a second", written.len(), classes.len(), bytes(total)),
    );
    Ok(written)
}

/// What the search for leaks takes from a record.
struct Found {
    words: Vec<String>,
    head: Vec<u8>,
}

impl Found {
    fn add_to(&self, words: &mut Words) {
        self.words.iter().for_each(|word| words.add_word(word.as_bytes()));
        words.add_body(&self.head);
    }
}

async fn put(clients: &Clients, cast: &Cast, draft: Draft) -> Result<(Written, Found), Failure> {
    let Draft { participant, place, class, media_type, day, document_id, content } = draft;
    let acting = clients.author(&cast.places[place]);
    let number = &cast.people[participant].number;
    let (content, print, head) = tokio::task::spawn_blocking(move || {
        let (print, head) = content.print()?;
        Ok::<_, std::io::Error>((content, print, head))
    })
    .await
    .map_err(Failure::failed)??;
    let words = match &content {
        Content::Whole { words, .. } => words.clone(),
        Content::File(_) | Content::Made(_) => Vec::new(),
    };
    let record = NewRecord::new(class, media_type, day).document_id(&document_id);
    let receipt = acting.put(number, record).body(content.reader().await?).await?;
    let record = receipt.record();
    Ok((Written { participant, place, class, record, document_id, print }, Found { words, head }))
}

/// Reads everything back, as another permitted facility than the author's.
pub(super) async fn read_back(
    clients: &Clients,
    cast: &Cast,
    written: &[Written],
    report: &mut Report,
) -> Result<(), Failure> {
    report.begin("read back");
    let began = Instant::now();
    let total = check_all(clients, cast, written, |read| report.progress().say(format!("read back: {read}"))).await?;
    let per_second = written.len() as f64 / began.elapsed().as_secs_f64();
    report.done(
        "byte-exact, by a facility that the participant named and that is not the author; each read decided and journalled",
        format!("{} records, {}, {per_second:.0} a second", written.len(), bytes(total)),
    );
    Ok(())
}

/// Reads records and compares them; answers their bytes.
pub(super) async fn check_all(
    clients: &Clients,
    cast: &Cast,
    written: &[Written],
    progress: impl Fn(usize),
) -> Result<u64, Failure> {
    let mut reads = stream::iter(written)
        .map(|one| async move {
            let reader = if one.place == HOSPITAL { CLINIC } else { HOSPITAL };
            let acting = clients.author(&cast.places[reader]);
            let found = fetch(&acting, &cast.people[one.participant].number, one.record).await?;
            if found != one.print {
                let message =
                    format!("a {} came back with other bytes ({} of {})", one.class, found.bytes, one.print.bytes);
                return Err(Failure::new(Exit::Damaged, message));
            }
            Ok(found.bytes)
        })
        .buffer_unordered(AT_ONCE);
    let (mut count, mut total) = (0, 0);
    while let Some(length) = reads.try_next().await? {
        count += 1;
        total += length;
        progress(count);
    }
    Ok(total)
}

/// Reads one record.
pub(super) async fn fetch(
    acting: &ActingClient,
    number: &ParticipantNumber,
    record: RecordId,
) -> Result<Print, Failure> {
    let mut body = acting.get(number, record).await?.into_reader();
    Ok(print(&mut body).await?)
}

async fn print(body: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Print> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    loop {
        let chunk = body.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(Print { sha256: hash.finalize().into(), bytes: length });
        }
        hash.update(chunk);
        let count = chunk.len();
        length += count as u64;
        body.consume(count);
    }
}
