//! `kura import files`: a folder of FHIR, HL7 v2, DICOM, CDA and PDF files, recognised by content.
//!
//! Invariants
//! - A file that speaks of several patients is set aside. One that no form is recognised in is
//!   skipped, unless the table of participants names it.
//! - The document id is the content's own where its standard makes that unique, else the SHA-256 of
//!   the bytes with the participant's number: a second run stores nothing again, whatever the files are called then, and
//!   whatever number became the other's alias.
//! - Only an id that is the content's hash spares sending; under any other id the cluster compares the
//!   content, and another one than it holds is refused.
//! - A file that the table of participants names, and that is not there or empty, is refused.
//! - What is sent is what was recognised: a file that was changed in between is refused.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kura_client::{Class, Date, NewRecord, ParticipantNumber};
use kura_cluster::hexadecimal;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;

use super::participants::Unfound;
use super::report::{Line, Outcome, Report, reason};
use super::stored::Stored;
use super::write::{Refusal, put};
use super::{Done, Import, drive};
use crate::cli::{Failure, Progress};
use crate::folder::{Folder, Form, Found, Problem};

/// Participants whose stored records are remembered: some 200 bytes a record.
const REMEMBERED_MAX: usize = 32;
/// Bytes that are hashed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What the files of a run share.
struct Files {
    /// The clinical day of files that tell none.
    date: Option<Date>,
    stored: Cache<ParticipantNumber, Arc<Stored>>,
}

/// Imports a folder; `date` is the clinical day of files that neither they nor the table tell.
///
/// # Errors
/// Why the run stopped before its end; what was stored until then is stored.
pub async fn run(
    import: Arc<Import>,
    date: Option<Date>,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), Failure> {
    let folder = Folder::open(&import.directory).map_err(Failure::usage)?;
    let files = Arc::new(Files { date, stored: Cache::new(REMEMBERED_MAX) });
    let work = |import: Arc<Import>, unit| {
        let files = Arc::clone(&files);
        async move { work(&import, &files, unit).await }
    };
    drive(Arc::clone(&import), |_, units| walk(folder, units), work, report, progress).await?;
    missing(&import, report)
}

/// Files that the table names and the folder lacks: somebody expects them to be imported.
fn missing(import: &Import, report: &mut Report) -> Result<(), Failure> {
    // A folder of that name is not met as a file.
    let is_missing = |file: &&str| import.directory.join(file).symlink_metadata().map_or(true, |found| found.is_dir());
    let missing = || import.participants.table().files().into_iter().filter(is_missing);
    let missing: Vec<&str> = tokio::task::block_in_place(|| missing().collect());
    missing.into_iter().try_for_each(|file| report.add(&Line::because(file, Outcome::Refused, reason::MISSING, 0)))
}

/// Entries of a folder, for the progress bar.
pub fn count(root: &Path) -> u64 {
    fn below(path: &Path, depth: usize) -> u64 {
        let Ok(entries) = std::fs::read_dir(path) else { return 1 };
        let each = |entry: std::fs::DirEntry| match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => below(&entry.path(), depth - 1),
            _ => 1,
        };
        entries.flatten().map(each).sum()
    }
    below(root, crate::folder::DEPTH_MAX)
}

type Unit = Result<Found, Problem>;

fn walk(mut folder: Folder, units: &mpsc::Sender<Unit>) {
    while let Some(unit) = folder.step() {
        if units.blocking_send(unit).is_err() {
            break;
        }
    }
}

async fn work(import: &Import, files: &Files, unit: Unit) -> Done {
    let found = match unit {
        Ok(found) => found,
        Err(Problem { relative, what, unreadable }) => {
            let (outcome, reason) = match unreadable {
                true => (Outcome::Refused, reason::UNREADABLE),
                false => (Outcome::Skipped, reason::NOT_A_FILE),
            };
            return Done::one(Line { detail: Some(what), ..Line::because(relative, outcome, reason, 0) });
        }
    };
    match import_one(import, files, &found).await {
        Ok(line) => Done::one(line),
        Err(Unfound::Refusal(refusal)) => Done::one(refusal.line(&found.relative, found.length)),
        Err(Unfound::Stop(failure)) => Done { lines: Vec::new(), stop: Some(failure) },
    }
}

async fn import_one(import: &Import, files: &Files, found: &Found) -> Result<Line, Unfound> {
    let refuse = |refusal| Err(Unfound::Refusal(refusal));
    let named = import.participants.table().file(&found.relative);
    if found.length == 0 {
        return refuse(match named {
            // Somebody expects it to be imported.
            Some(_) => Refusal::refused(reason::EMPTY),
            None => Refusal::skipped(reason::EMPTY),
        });
    }
    if found.what.form == Form::Other && named.is_none() {
        return refuse(Refusal::skipped(reason::NOT_A_RECORD));
    }
    if found.what.patients.count() > 1 {
        return refuse(Refusal::set_aside(reason::SEVERAL_PATIENTS));
    }
    let ids = found.what.patients.only().unwrap_or_default();
    if ids.is_empty() && named.is_none() {
        return refuse(Refusal::refused(reason::NAMES_NO_PATIENT));
    }
    let number = import.participants.find(&import.acting, ids, Some(&found.relative)).await?;
    // A person who wrote a day into the table knows better than a guess from the content.
    let day = named.and_then(|(_, date)| date).or(found.what.day.map(Date::from_days)).or(files.date);
    let Some(day) = day else { return refuse(Refusal::refused(reason::DAY_UNKNOWN)) };

    let sha256 = match hash(found).await {
        Ok(sha256) => sha256,
        Err(_) => return refuse(Refusal::refused(reason::UNREADABLE)),
    };
    let (document_id, former) = match &found.what.document_id {
        // Lists tell no hash: only the cluster can say whether it holds this content under the id.
        Some(id) => (id.clone(), Vec::new()),
        None => {
            let person = import.participants.person(&import.acting, &number).await.map_err(Unfound::Stop)?;
            let id = id_by_content(&person.number, &sha256);
            let former: Vec<String> = person.former.iter().map(|number| id_by_content(number, &sha256)).collect();
            let load = async || Stored::load(&import.acting, &number, &import.facility).await.map(Arc::new);
            let stored = files.stored.get_or_insert_async(&number, load()).await.map_err(Unfound::Stop)?;
            let mut ids = std::iter::once(&id).chain(&former);
            let known = ids.find_map(|id| stored.document(id)).filter(|newest| newest.bytes == found.length);
            if let Some(newest) = known {
                return Ok(Line {
                    record: Some(newest.record),
                    version: Some(newest.version),
                    ..Line::new(&found.relative, Outcome::Repeated, found.length)
                });
            }
            (id, former)
        }
    };
    let class: Class = found.what.class_word.parse().map_err(|e| Unfound::Stop(Failure::failed(e)))?;
    let record = NewRecord::new(class, found.what.media_type, day);
    let record = record.document_id(document_id).former_document_ids(former);
    let body = async || Ok(Same { file: File::open(&found.path).await?, hash: Sha256::new(), expected: sha256 });
    match put(&import.acting, &number, &record, body).await.map_err(Unfound::Stop)? {
        Ok(receipt) => Ok(Line {
            record: Some(receipt.record()),
            version: Some(receipt.version()),
            ..Line::new(
                &found.relative,
                if receipt.repeated() { Outcome::Repeated } else { Outcome::Stored },
                found.length,
            )
        }),
        Err(refusal) => refuse(refusal),
    }
}

/// The document id of a file that has none of its own: the same content for the same participant is one document.
/// The same leaflet handed to two people is two.
fn id_by_content(number: &ParticipantNumber, sha256: &[u8; 32]) -> String {
    let hash = Sha256::new().chain_update(number.reveal()).chain_update(sha256).finalize();
    format!("sha256:{}", hexadecimal(hash))
}

/// The SHA-256 of a file that has not changed since it was recognised.
async fn hash(found: &Found) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(&found.path).await?;
    let metadata = file.metadata().await?;
    if (metadata.len(), metadata.modified().ok()) != (found.length, found.modified) {
        return Err(changed());
    }
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk).await? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&chunk[..count]),
        }
    }
}

fn changed() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "the file changed while it was read")
}

/// A file that ends only if it held the bytes that were expected, and else with an error.
struct Same {
    file: File,
    hash: Sha256,
    expected: [u8; 32],
}

impl AsyncRead for Same {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        std::task::ready!(Pin::new(&mut self.file).poll_read(cx, into))?;
        let read = &into.filled()[before..];
        if read.is_empty() && into.remaining() > 0 {
            let digest: [u8; 32] = self.hash.clone().finalize().into();
            return Poll::Ready(if digest == self.expected { Ok(()) } else { Err(changed()) });
        }
        self.hash.update(read);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &Path) -> Found {
        Folder::open(path).unwrap().next().unwrap()
    }

    #[tokio::test]
    async fn a_file_that_changes_between_recognition_and_end_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pdf");
        std::fs::write(&path, "%PDF-1.7 one").unwrap();
        let seen = found(folder.path());
        let expected = hash(&seen).await.unwrap();
        let read = async || {
            let mut same = Same { file: File::open(&path).await?, hash: Sha256::new(), expected };
            let mut bytes = Vec::new();
            same.read_to_end(&mut bytes).await.map(|_| bytes)
        };
        assert_eq!(read().await.unwrap(), b"%PDF-1.7 one");
        std::fs::write(&path, "%PDF-1.7 two").unwrap();
        assert_eq!(read().await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
        std::fs::write(&path, "%PDF-1.7 longer").unwrap();
        assert_eq!(hash(&seen).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }

    #[test]
    fn entries_are_counted_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/round")).unwrap();
        assert_eq!(count(folder.path()), 2);
    }
}
