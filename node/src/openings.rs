//! Openings beside the cluster: rehearsals that open sealed rows with the root key, at rest, where no gateway journals. Each
//! is written down in the member's data directory before anything is opened, and brought into the journal by that member
//! once it serves.
//!
//! Invariants
//! - Nothing is opened before the note of it is on stable storage; where it cannot be, nothing is opened.
//! - Each note has the hash of the one before it, also of one that is in the journal already: whoever takes one out of
//!   their middle, alters one, or puts an old file back, is told of in the journal. (Whoever takes away the last ones
//!   before the member serves is not; and whoever has the root key and the files can open them with programs that
//!   write nothing. No program here can prevent that.)
//! - A note is journalled at least once; after a power cut perhaps twice.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

/// The notes, below `data`.
const FILE: &str = "openings";
/// SHA-256 of the last one that is in the journal, 32 bytes.
const JOURNALLED: &str = "openings-journalled";
const FORMAT: u32 = 1;
/// Beyond this the member has to serve first, which journals them.
const BYTES_MAX: u64 = 1 << 20;
/// A file of notes that are all in the journal begins anew beyond this.
const KEPT_BYTES_MAX: u64 = 64 << 10;

/// Why an opening could not be noted.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// A file operation failed.
    #[error("the note of this opening cannot be written below {data}: {source}; nothing was opened")]
    File {
        /// The data directory.
        data: String,
        /// What the system says.
        source: io::Error,
    },
    /// Too many wait.
    #[error("below {data} wait more notes of openings than fit: let its member serve first, which journals them")]
    Full {
        /// The data directory.
        data: String,
    },
}

/// A note.
#[derive(Clone, PartialEq, Message)]
struct Opening {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// When, by this machine's clock, milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    at_ms: u64,
    /// By which command, and how much. Names no identifiers.
    #[prost(string, tag = "3")]
    what: String,
    /// The system's user.
    #[prost(uint32, tag = "4")]
    uid: u32,
    /// SHA-256 of the encoded note before it; empty: there was none.
    #[prost(bytes = "bytes", tag = "5")]
    previous_sha256: Bytes,
}

fn sha256(opening: &Opening) -> [u8; 32] {
    Sha256::digest(opening.encode_to_vec()).into()
}

/// What is to be journalled: words, and up to where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// For the journal, each an entry.
    pub words: Vec<String>,
    last: Option<[u8; 32]>,
}

/// Notes that something is about to be opened.
///
/// # Errors
/// [`OpeningError`]: then nothing may be opened.
pub fn note(data: &Path, what: &str, at_ms: u64) -> Result<(), OpeningError> {
    let shown = || data.display().to_string();
    let failed = |source| OpeningError::File { data: shown(), source };
    let (openings, whole_bytes) = read(data).map_err(failed)?;
    let previous = match openings.last() {
        Some(last) => Some(sha256(last)),
        None => journalled(data).map_err(failed)?,
    };
    let uid = rustix::process::getuid().as_raw();
    let previous_sha256 = previous.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default();
    let opening = Opening { format: FORMAT, at_ms, what: what.into(), uid, previous_sha256 };
    if whole_bytes > BYTES_MAX {
        return Err(OpeningError::Full { data: shown() });
    }
    let written = || {
        let mut file = fs::File::options().create(true).append(true).open(data.join(FILE))?;
        // One that a power cut tore: nothing was opened after it.
        file.set_len(whole_bytes)?;
        file.write_all(&opening.encode_length_delimited_to_vec())?;
        file.sync_all()?;
        fs::File::open(data)?.sync_all()
    };
    written().map_err(failed)
}

/// The notes, and the bytes of the file that read as such.
fn read(data: &Path) -> io::Result<(Vec<Opening>, u64)> {
    let bytes = match fs::read(data.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut rest, mut whole_bytes) = (&bytes[..], 0);
    let mut openings = Vec::new();
    while !rest.is_empty() {
        match Opening::decode_length_delimited(&mut rest) {
            Ok(opening) if opening.format == FORMAT => openings.push(opening),
            _ => break,
        }
        whole_bytes = (bytes.len() - rest.len()) as u64;
    }
    Ok((openings, whole_bytes))
}

fn journalled(data: &Path) -> io::Result<Option<[u8; 32]>> {
    match fs::read(data.join(JOURNALLED)) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What waits for the journal.
///
/// # Errors
/// The file system's.
pub fn pending(data: &Path) -> io::Result<Pending> {
    let (openings, _) = read(data)?;
    let mut is_whole = true;
    let before = journalled(data)?;
    let known = openings.iter().position(|one| Some(sha256(one)) == before);
    let first = known.map_or(0, |place| place + 1);
    let mut previous = before;
    // A file that was begun anew goes on from what is journalled; an older one put back does not.
    for opening in &openings[first..] {
        is_whole &= opening.previous_sha256[..] == previous.map_or(Vec::new(), |hash| hash.to_vec())[..];
        previous = Some(sha256(opening));
    }
    let mut words: Vec<String> = openings[first..].iter().map(in_words).collect();
    if !is_whole && !words.is_empty() {
        words.push("the notes of openings do not follow one another: some were taken out, altered, or put back".into());
    }
    Ok(Pending { words, last: previous.filter(|_| first < openings.len()) })
}

fn in_words(opening: &Opening) -> String {
    let at = crate::clock::in_japan(opening.at_ms);
    format!("opened offline at {at} by the system's user {}: {}", opening.uid, opening.what)
}

/// Notes that what was pending is in the journal.
///
/// # Errors
/// The file system's: it is journalled again.
pub fn done(data: &Path, pending: &Pending) -> io::Result<()> {
    let Some(last) = pending.last else { return Ok(()) };
    crate::serve::checks::write(&data.join(JOURNALLED), &last)?;
    let path = data.join(FILE);
    if fs::metadata(&path)?.len() > KEPT_BYTES_MAX && self::pending(data)?.words.is_empty() {
        fs::remove_file(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_told_once_in_order_and_one_that_was_taken_out_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(pending(data).unwrap(), Pending::default());
        note(data, "restore verify", 1_000).unwrap();
        note(data, "recover verify", 2_000).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.words.len() == 2 && waits.words[0].ends_with(": restore verify"), "{waits:?}");
        // One more comes while these are being journalled.
        note(data, "archive verify", 3_000).unwrap();
        done(data, &waits).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.words.len() == 1 && waits.words[0].ends_with(": archive verify"), "{waits:?}");
        done(data, &waits).unwrap();
        assert_eq!(pending(data).unwrap().words, Vec::<String>::new());

        // The file is taken away with a note in it: the next note does not go on from what is journalled.
        let before = fs::read(data.join(FILE)).unwrap();
        note(data, "archive verify", 4_000).unwrap();
        note(data, "archive verify", 5_000).unwrap();
        let both = fs::read(data.join(FILE)).unwrap();
        let one = (both.len() - before.len()) / 2;
        let without_the_first = [&before[..], &both[before.len() + one..]].concat();
        fs::write(data.join(FILE), without_the_first).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.words.len() == 2 && waits.words[1].contains("taken out"), "{waits:?}");
        // Torn by a power cut: what is whole counts, and the next one stands after it.
        fs::write(data.join(FILE), &both[..both.len() - 1]).unwrap();
        assert_eq!(pending(data).unwrap().words.len(), 1);
        note(data, "after the cut", 6_000).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.words.len() == 2 && waits.words[1].ends_with(": after the cut"), "{waits:?}");
    }

    #[test]
    fn a_long_file_begins_anew_and_goes_on_from_what_is_journalled() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let long = "x".repeat(40_000);
        for at_ms in 1..=2 {
            note(data, &long, at_ms).unwrap();
        }
        done(data, &pending(data).unwrap()).unwrap();
        assert!(!data.join(FILE).exists());
        note(data, "after it", 9).unwrap();
        assert_eq!(pending(data).unwrap().words.len(), 1, "and no word of a gap");
        assert!(matches!(note(&data.join("none"), "x", 1), Err(OpeningError::File { .. })));
    }
}
