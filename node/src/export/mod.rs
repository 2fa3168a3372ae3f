//! `kura export`: a participant's own complete copy, as far as the actor may see it.
//!
//! ```text
//! DIRECTORY/
//!   manifest.json      what this is, for whom, by whom, counts, the SHA-256 of SHA256SUMS
//!   SHA256SUMS         every other file, as `sha256sum --check` reads it
//!   consents.json      what the participant has consented to
//!   journal.ndjson     who accessed what, one entry a line, newest first
//!   index.ndjson       every version of every record, one a line
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
//!   hashed again before they are taken over. Another participant's or actor's copy is refused.
//! - Bodies are streamed; their SHA-256 is compared with what the cluster names.

mod reader;
mod record;
mod sums;
mod target;

use std::path::{Path, PathBuf};

use futures_util::{TryStreamExt, stream};
use kura_client::{ListError, ParticipantNumber, Summary, now_ms};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::cli::{AccessRow, ConsentsTold, Failure, Progress};
pub use reader::Reader;
pub(crate) use record::{PART_NAME_MAX, ending, safe};
use sums::Sums;
use target::Target;

/// Format of the copy; it grows with every change that a reader must know of.
const FORMAT: u32 = 1;
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
    /// Records.
    pub records: u64,
    /// Versions of records.
    pub versions: u64,
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

    let (records, versions, bytes) = records(export, &target, &mut sums, progress).await?;
    // Last, so that the reads of this very copy stand in it.
    let journal_entries = journal(export, &target, &mut sums).await?;

    let text = sums.text();
    target.write("SHA256SUMS", text.as_bytes()).await?;
    let manifest = Manifest {
        format: FORMAT,
        participant: number.reveal().to_owned(),
        actor: reader.word(),
        made_ms: now_ms(),
        records,
        versions,
        bytes,
        journal_entries,
        sums_sha256: sums::hexadecimal_of(text.as_bytes()),
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(Failure::failed)?;
    target.finish(&text).await?;
    Ok(manifest)
}

/// Every version of every record that the actor may see, and the index of them.
async fn records(
    export: &Export,
    target: &Target,
    sums: &mut Sums,
    progress: &Progress,
) -> Result<(u64, u64, u64), Failure> {
    let Export { reader, number, .. } = export;
    let listed = reader.list(number).map_err(Failure::from);
    let versions = listed.map_ok(|newest| versions(reader, number, newest)).try_buffered(AT_ONCE);
    let each = versions.map_ok(|versions| stream::iter(versions.into_iter().map(Ok))).try_flatten();
    let saved = each.map_ok(|summary| record::save(reader, number, target, summary, progress));
    let mut saved = std::pin::pin!(saved.try_buffered(AT_ONCE));
    let (mut index, mut counts, mut last) = (Lines::create(target, "index.ndjson").await?, (0, 0, 0), None);
    while let Some(record) = saved.try_next().await? {
        let summary = &record.summary;
        counts.0 += u64::from(last.replace(summary.record) != Some(summary.record));
        counts.1 += 1;
        counts.2 += summary.bytes;
        index.add(&record).await?;
        sums.extend(record.sums());
    }
    index.finish(sums).await?;
    Ok(counts)
}

/// All versions of a record, oldest first, from its newest one.
async fn versions(reader: &Reader, number: &ParticipantNumber, newest: Summary) -> Result<Vec<Summary>, Failure> {
    if newest.version == 1 {
        return Ok(vec![newest]);
    }
    Ok(reader.history(number, newest.record).await?)
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
