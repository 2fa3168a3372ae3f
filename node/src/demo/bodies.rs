//! Records to be written: generated ones of every class, or the files of a folder.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use kura_client::{Class, Date};
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::cast::{CARE, CLINIC, Cast, HOSPITAL, PHARMACY};
use crate::cli::Failure;
use crate::folder::Folder;
use crate::samples::{Body, Generator, Kind, Sample};

/// Generated records of each kind.
const COPIES: usize = 4;
/// Length of the one long record, which is sent without telling its length.
const LONG_BYTES: u64 = 12 * 1024 * 1024;
/// How much of a file is searched for words.
const HEAD_BYTES: usize = 256 * 1024;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A record to be written.
#[derive(Debug)]
pub(super) struct Draft {
    pub participant: usize,
    pub place: usize,
    pub class: Class,
    pub media_type: String,
    pub day: Date,
    pub document_id: String,
    pub content: Content,
}

/// Its body.
#[derive(Debug)]
pub(super) enum Content {
    /// In memory, with its distinctive words.
    Whole { bytes: Bytes, words: Vec<String> },
    /// In a file.
    File(PathBuf),
    /// Made while it is read.
    Made(Body),
}

/// What a body is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    pub sha256: [u8; 32],
    pub bytes: u64,
}

impl Print {
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::digest(bytes).into(), bytes: bytes.len() as u64 }
    }
}

impl Content {
    /// Hash and length, and the head for words. Blocking for files and made ones.
    pub fn print(&self) -> std::io::Result<(Print, Vec<u8>)> {
        let mut body: Box<dyn Read> = match self {
            Self::Whole { bytes, .. } => return Ok((Print::of(bytes), bytes[..bytes.len().min(HEAD_BYTES)].to_vec())),
            Self::File(path) => Box::new(std::fs::File::open(path)?),
            Self::Made(body) => Box::new(body.clone()),
        };
        let (mut hash, mut length, mut head) = (Sha256::new(), 0, Vec::new());
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = body.read(&mut chunk)?;
            if count == 0 {
                return Ok((Print { sha256: hash.finalize().into(), bytes: length }, head));
            }
            hash.update(&chunk[..count]);
            length += count as u64;
            if head.len() < HEAD_BYTES {
                head.extend_from_slice(&chunk[..count]);
            }
        }
    }

    /// The body, to be sent.
    pub async fn reader(self) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Ok(match self {
            Self::Whole { bytes, .. } => Box::new(std::io::Cursor::new(bytes)),
            Self::File(path) => Box::new(tokio::fs::File::open(path).await?),
            Self::Made(body) => {
                let chunks = stream::unfold(body, |mut body| async move {
                    let mut chunk = vec![0; CHUNK_BYTES];
                    match body.read(&mut chunk) {
                        Ok(0) => None,
                        Ok(count) => {
                            chunk.truncate(count);
                            Some((Ok(Bytes::from(chunk)), body))
                        }
                        Err(error) => Some((Err(error), body)),
                    }
                });
                Box::new(StreamReader::new(Box::pin(chunks)))
            }
        })
    }
}

/// Where a class is written; hospital and clinic take turns.
fn place_of(class: Class, turn: usize) -> usize {
    match class {
        Class::Dispensing => PHARMACY,
        Class::CareRecord => CARE,
        _ if turn.is_multiple_of(2) => HOSPITAL,
        _ => CLINIC,
    }
}

/// Generated records: some of every kind, and a long one.
pub(super) fn generated(cast: &Cast) -> Result<Vec<Draft>, Failure> {
    let mut generator = Generator::new(cast.seed);
    let mut drafts = Vec::new();
    for turn in 0..Kind::ALL.len() * COPIES {
        let kind = Kind::ALL[turn % Kind::ALL.len()];
        drafts.push(draft(cast, &mut generator, kind, turn)?);
    }
    let long = generator.body(LONG_BYTES, false);
    drafts.push(Draft {
        participant: 0,
        place: HOSPITAL,
        class: Class::Image,
        media_type: "application/dicom".into(),
        day: latest_day(),
        document_id: format!("doc-{}-long", cast.tag),
        content: Content::Made(long),
    });
    Ok(drafts)
}

/// The next generated record of a kind.
pub(super) fn draft(cast: &Cast, generator: &mut Generator, kind: Kind, turn: usize) -> Result<Draft, Failure> {
    let class: Class = kind.class_word().parse().map_err(Failure::failed)?;
    let place = place_of(class, turn / Kind::ALL.len());
    let participant = turn % cast.people.len();
    let day = latest_day();
    let about = cast.people[participant].index;
    let Sample { media_type, bytes, words, document_id, .. } =
        generator.sample_about(kind, about, &cast.places[place].sample, day.days());
    // The generator's id carries the facility's; this one stands for itself, and is of this run only.
    let digits = document_id.rsplit('-').next().unwrap_or_default();
    Ok(Draft {
        participant,
        place,
        class,
        media_type: media_type.to_owned(),
        day,
        document_id: format!("doc-{}-{digits}", cast.tag),
        content: Content::Whole { bytes: bytes.into(), words },
    })
}

/// The last clinical day of generated records, but never in the future.
fn latest_day() -> Date {
    Date::today().min(Date::from_days(crate::samples::CLINICAL_DAY_LAST))
}

/// The files of a folder, looked at as they are asked for.
pub(super) fn folder(cast: &Cast, path: &Path) -> Result<impl Iterator<Item = Result<Draft, Failure>>, Failure> {
    let today = Date::today();
    let found = Folder::open(path).map_err(Failure::usage)?;
    let (people, tag) = (cast.people.len(), cast.tag.clone());
    Ok(found.enumerate().map(move |(turn, file)| {
        let class: Class = file.what.class_word.parse().map_err(Failure::failed)?;
        Ok(Draft {
            participant: turn % people,
            place: place_of(class, turn),
            class,
            media_type: file.what.media_type.to_owned(),
            // A date may be a slip of the pen; the network takes none from the future.
            day: Date::from_days(file.what.day.map_or(today.days(), |day| day.clamp(-25_567, today.days()))),
            document_id: format!("doc-{tag}-{turn:08}"),
            content: Content::File(file.path),
        })
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn generated_records_are_of_every_class_and_come_as_they_are_checked() {
        let cast = Cast::new(7, false);
        let drafts = generated(&cast).unwrap();
        let classes: BTreeSet<Class> = drafts.iter().map(|draft| draft.class).collect();
        assert_eq!(classes.len(), Class::ALL.len() - 1, "all but the reserved one");
        let ids: BTreeSet<&str> = drafts.iter().map(|draft| draft.document_id.as_str()).collect();
        assert_eq!(ids.len(), drafts.len());
        for draft in drafts {
            let (print, _) = draft.content.print().unwrap();
            let mut bytes = Vec::new();
            draft.content.reader().await.unwrap().read_to_end(&mut bytes).await.unwrap();
            assert_eq!(Print::of(&bytes), print);
        }
    }

    #[test]
    fn every_file_of_a_folder_becomes_a_record() {
        let folder_of_files = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder_of_files.path().join("deep")).unwrap();
        std::fs::write(folder_of_files.path().join("note.txt"), "a note").unwrap();
        std::fs::write(folder_of_files.path().join("deep/empty"), "").unwrap();
        let cast = Cast::new(7, true);
        let drafts: Vec<Draft> = folder(&cast, folder_of_files.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(drafts.len(), 2);
        assert!(drafts.iter().all(|draft| draft.day <= Date::today()));
        assert!(folder(&cast, Path::new("/nowhere/at/all")).is_err());
    }
}
