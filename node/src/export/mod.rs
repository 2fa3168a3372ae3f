//! `kura export`: a participant's own complete copy, as far as the actor may see it.
//!
//! ```text
//! DIRECTORY/
//!   manifest.json      what this is, for whom, by whom, counts, the SHA-256 of SHA256SUMS
//!   SHA256SUMS         every other file, as `sha256sum --check` reads it
//!   consents.json      what the participant has consented to
//!   journal.ndjson     who accessed what, one entry a line, newest first
//!   index.ndjson       every version of every record, one a line; what does not open with `damaged`, and no folder
//!   records/2024-04-01_laboratory-result_<record>_v1/
//!     record.json      what the record is, and of each of its files length and SHA-256
//!     1-body.json      its parts, in their order
//!     signature.p7s, timestamp.tsr
//! ```
//!
//! Invariants
//! - The cluster is spoken to only through `kura_client`; the actor is a parameter, and what it may
//!   not see is not in the copy. The manifest says for whom it was made.
//! - A target that holds anything else is refused. While a copy is made a marker lies in it; the
//!   manifest comes last, and then the marker goes: what has a manifest is complete.
//! - A copy that was cut goes on: a record's folder is there only as a whole, and its files are
//!   hashed again before they are taken over; what the actor may see no more is removed. Another participant's or
//!   actor's copy is refused.
//! - What is stored and does not open is named, counted, and keeps nothing else out of the copy.
//! - Bodies are streamed; their SHA-256 is compared with what the cluster names.

mod reader;
mod record;
mod sums;
mod target;

use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{ListError, Listed, ParticipantNumber, now_ms};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::cli::{AccessRow, ConsentsTold, Failure, Progress};
pub use reader::Reader;
use record::Entry;
pub(crate) use record::{PART_NAME_MAX, ending, safe};
use sums::Sums;
use target::Target;

/// Format of the copy; it grows with every change that a reader must know of.
const FORMAT: u32 = 2;
/// Records that are fetched at the same time.
const AT_ONCE: usize = 4;

/// A copy to be made.
#[derive(Debug)]
pub struct Export {
    /// Who asks, and how.
    pub reader: Reader,
    /// Whose copy it is.
    pub number: ParticipantNumber,
    /// Where it goes: a folder that is empty, not there yet, or holds a copy that was cut.
    pub directory: PathBuf,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Format of the copy.
    pub format: u32,
    /// Whose it is.
    pub participant: String,
    /// For whom it was made: `participant`, or `facility-user`. It holds what that actor may see.
    pub actor: &'static str,
    /// When it was complete, in milliseconds since 1970-01-01 UTC.
    pub made_ms: u64,
    /// Records; none if they are not open to the actor.
    pub records: Option<u64>,
    /// Versions of records.
    pub versions: u64,
    /// Versions that are stored and do not open: the index names them, with `damaged`.
    pub damaged: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Entries of the journal; none if the actor may not list them.
    pub journal_entries: Option<u64>,
    /// SHA-256 of `SHA256SUMS`.
    pub sums_sha256: String,
}

/// Makes a copy.
///
/// # Errors
/// Why it is not complete; the same can be run again to go on.
pub async fn run(export: &Export, progress: &Progress) -> Result<Manifest, Failure> {
    let Export { reader, number, directory } = export;
    // Asked before anything is made: who gets no copy leaves no folder behind.
    let consents = ConsentsTold::from(reader.consents(number).await?);
    let target = Target::open(directory, number, reader.word()).await?;
    let mut sums = Sums::default();

    let text = serde_json::to_vec_pretty(&consents).map_err(Failure::failed)?;
    sums.add("consents.json", &text);
    target.write("consents.json", &text).await?;

    let counts = records(export, &target, &mut sums, progress).await?;
    let open = counts.is_some();
    let Counts { records, versions, damaged, bytes } = counts.unwrap_or_default();
    // Last, so that the reads of this very copy stand in it.
    let journal_entries = journal(export, &target, &mut sums).await?;

    // An earlier run that was cut may have fetched what is hidden by now.
    target.keep_only(sums.names()).await?;
    let text = sums.text();
    target.write("SHA256SUMS", text.as_bytes()).await?;
    let manifest = Manifest {
        format: FORMAT,
        participant: number.reveal().to_owned(),
        actor: reader.word(),
        made_ms: now_ms(),
        records: open.then_some(records),
        versions,
        damaged,
        bytes,
        journal_entries,
        sums_sha256: sums::hexadecimal_of(text.as_bytes()),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(Failure::failed)?;
    target.finish(&text).await?;
    Ok(manifest)
}

#[derive(Default)]
struct Counts {
    records: u64,
    versions: u64,
    damaged: u64,
    bytes: u64,
}

/// Every version of every record that the actor may see, and the index of them; none if they are not open to the actor:
/// what else there is, is the participant's all the same.
async fn records(
    export: &Export,
    target: &Target,
    sums: &mut Sums,
    progress: &Progress,
) -> Result<Option<Counts>, Failure> {
    let Export { reader, number, .. } = export;
    let mut listed = reader.list(number);
    let first = match listed.next().await {
        Some(Err(ListError::Denied(_))) => return Ok(None),
        first => first,
    };
    let listed = stream::iter(first).chain(listed).map_err(Failure::from);
    let versions = listed.map_ok(|newest| versions(reader, number, newest)).try_buffered(AT_ONCE);
    let each = versions.map_ok(|versions| stream::iter(versions.into_iter().map(Ok))).try_flatten();
    let saved = each.map_ok(|listed| record::save_listed(reader, number, target, listed, progress));
    let mut saved = std::pin::pin!(saved.try_buffered(AT_ONCE));
    let (mut index, mut counts, mut last) = (Lines::create(target, "index.ndjson").await?, Counts::default(), None);
    while let Some(entry) = saved.try_next().await? {
        let record = match &entry {
            Entry::Saved(saved) => {
                counts.versions += 1;
                counts.bytes += saved.summary.bytes;
                sums.extend(saved.sums());
                saved.summary.record
            }
            Entry::Damaged(damaged) => {
                counts.damaged += 1;
                damaged.record
            }
        };
        counts.records += u64::from(last.replace(record) != Some(record));
        index.add(&entry).await?;
    }
    index.finish(sums).await?;
    Ok(Some(counts))
}

/// All versions of a record, oldest first, from its newest one.
async fn versions(reader: &Reader, number: &ParticipantNumber, newest: Listed) -> Result<Vec<Listed>, Failure> {
    let highest = match &newest {
        Listed::Record(summary) => Some(summary.version),
        Listed::Damaged(damaged) => damaged.version,
    };
    match highest {
        // Of one whose versions nobody knows a history tells no more.
        None | Some(1) => Ok(vec![newest]),
        Some(_) => Ok(reader.history(number, newest.record()).await?),
    }
}

/// The participant's list of accesses; none if the actor may not list them.
async fn journal(export: &Export, target: &Target, sums: &mut Sums) -> Result<Option<u64>, Failure> {
    let mut accesses = export.reader.accesses(&export.number);
    let mut lines = None;
    let mut count = 0;
    loop {
        let access = match accesses.next().await {
            None => break,
            Some(Err(ListError::Denied(_))) if lines.is_none() => return Ok(None),
            Some(access) => access?,
        };
        let lines = match &mut lines {
            Some(lines) => lines,
            none => none.insert(Lines::create(target, "journal.ndjson").await?),
        };
        lines.add(&AccessRow::from(access)).await?;
        count += 1;
    }
    if let Some(lines) = lines {
        lines.finish(sums).await?;
    }
    Ok(Some(count))
}

/// A file of one JSON object a line, there only once it is finished.
struct Lines<'a> {
    target: &'a Target,
    name: &'static str,
    temporary: PathBuf,
    out: BufWriter<File>,
    hash: sums::Running,
}

impl<'a> Lines<'a> {
    async fn create(target: &'a Target, name: &'static str) -> Result<Self, Failure> {
        let temporary = target.temporary(name);
        let out = BufWriter::new(target::create(&temporary).await?);
        Ok(Lines { target, name, temporary, out, hash: sums::Running::default() })
    }

    async fn add(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(Failure::failed)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.out.write_all(&text).await.map_err(|error| cannot_write(&self.temporary, &error))
    }

    async fn finish(mut self, sums: &mut Sums) -> Result<(), Failure> {
        let failed = |error: std::io::Error| cannot_write(&self.temporary, &error);
        self.out.flush().await.map_err(failed)?;
        self.out.get_ref().sync_all().await.map_err(failed)?;
        self.target.put_in_place(&self.temporary, self.name).await?;
        sums.extend([(self.name.to_owned(), self.hash.hexadecimal())]);
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}
