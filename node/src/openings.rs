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
//! - Whoever writes notes, or takes away what is journalled, holds the lock of the data directory (`flock`): commands and the
//!   member are processes apart, and none may lose what another has just written.
//! - A note is journalled at least once; after a power cut, or a lost answer, perhaps twice.
//! - Damaged notes are told of in the journal, and set aside, never cut off: `openings-damaged-<n>`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

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
/// What is read of the file at most: one that is longer was not written here.
const READ_BYTES_MAX: u64 = 2 * BYTES_MAX;
/// Bytes of the words of what was opened.
const WHAT_BYTES_MAX: usize = 512;
/// No note is longer.
const NOTE_BYTES_MAX: usize = WHAT_BYTES_MAX + 128;
/// A file of notes that are all in the journal begins anew beyond this.
const KEPT_BYTES_MAX: u64 = 64 << 10;
/// How long somebody else's note or look is waited for: both take moments.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two tries to have the lock.
const LOCK_LOOK: Duration = Duration::from_millis(5);

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

/// What is to be journalled next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// For the journal, an entry.
    pub words: String,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A note, by its hash.
    Note([u8; 32]),
    /// What follows the notes that can be read.
    Damage,
}

/// Notes that something is about to be opened. `what` is cut at [`WHAT_BYTES_MAX`].
///
/// # Errors
/// [`OpeningError`]: then nothing may be opened.
pub fn note(data: &Path, what: &str, at_ms: u64) -> Result<(), OpeningError> {
    let shown = || data.display().to_string();
    let failed = |source| OpeningError::File { data: shown(), source };
    let _locked = lock(data).map_err(failed)?;
    let notes = read(data).map_err(failed)?;
    if notes.whole_bytes > BYTES_MAX {
        return Err(OpeningError::Full { data: shown() });
    }
    let previous = match (notes.is_damaged, notes.openings.last()) {
        // Nothing has this hash: that something is missing is told of in the journal.
        (true, _) => Some(Sha256::digest(what).into()),
        (false, Some(last)) => Some(sha256(last)),
        (false, None) => journalled(data).map_err(failed)?,
    };
    let uid = rustix::process::getuid().as_raw();
    let previous_sha256 = previous.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default();
    let opening = Opening { format: FORMAT, at_ms, what: cut(what).into(), uid, previous_sha256 };
    let written = || {
        if notes.is_damaged {
            set_aside(data)?;
        }
        let path = data.join(FILE);
        let mut file = fs::File::options().create(true).append(true).mode(0o600).open(&path)?;
        if !notes.is_damaged {
            // One that a power cut tore: nothing was opened after it.
            file.set_len(notes.whole_bytes)?;
        }
        // Its member reads it, whoever runs this.
        let owner = fs::metadata(data)?;
        if uid == 0 {
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(&opening.encode_length_delimited_to_vec())?;
        file.sync_all()?;
        fs::File::open(data)?.sync_all()
    };
    written().map_err(failed)
}

/// Locks the notes of a data directory, as long as the answer lives; for nobody who holds the lock already.
fn lock(data: &Path) -> io::Result<fs::File> {
    let directory = fs::File::open(data)?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= until => {
                let words =
                    format!("its notes of openings are locked by another process for {} s", LOCK_WAIT.as_secs());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, words));
            }
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_LOOK),
        }
    }
}

fn cut(what: &str) -> &str {
    &what[..what.floor_char_boundary(WHAT_BYTES_MAX)]
}

/// Damaged notes stay, for people, under a name that no others take.
fn set_aside(data: &Path) -> io::Result<()> {
    let free = (1..u32::MAX).map(|n| data.join(format!("{FILE}-damaged-{n}"))).find(|path| !path.exists());
    fs::rename(data.join(FILE), free.ok_or_else(|| io::Error::other("too many damaged files of notes"))?)
}

/// The notes in the file.
#[derive(Debug, Default)]
struct Notes {
    openings: Vec<Opening>,
    /// Bytes of the file up to the last one that can be read.
    whole_bytes: u64,
    /// More follows than a note that a power cut tore.
    is_damaged: bool,
}

fn read(data: &Path) -> io::Result<Notes> {
    let mut bytes = Vec::new();
    match fs::File::open(data.join(FILE)) {
        Ok(file) => file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Notes::default()),
        Err(error) => return Err(error),
    };
    let mut rest = &bytes[..];
    let mut notes = Notes::default();
    while !rest.is_empty() {
        match Opening::decode_length_delimited(&mut rest) {
            Ok(opening) if opening.format == FORMAT => notes.openings.push(opening),
            _ => break,
        }
        notes.whole_bytes = (bytes.len() - rest.len()) as u64;
    }
    let rest = &bytes[notes.whole_bytes as usize..];
    let is_torn = match prost::decode_length_delimiter(rest) {
        Ok(length) => prost::length_delimiter_len(length) + length > rest.len() && rest.len() < NOTE_BYTES_MAX,
        Err(_) => rest.len() < prost::length_delimiter_len(NOTE_BYTES_MAX),
    };
    notes.is_damaged = !rest.is_empty() && !is_torn;
    Ok(notes)
}

fn journalled(data: &Path) -> io::Result<Option<[u8; 32]>> {
    match fs::read(data.join(JOURNALLED)) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What waits for the journal, in order.
///
/// # Errors
/// The file system's.
pub fn pending(data: &Path) -> io::Result<Vec<Pending>> {
    let _locked = lock(data)?;
    waiting(data)
}

/// The same for who holds the lock.
fn waiting(data: &Path) -> io::Result<Vec<Pending>> {
    let notes = read(data)?;
    let before = journalled(data)?;
    let known = notes.openings.iter().position(|one| Some(sha256(one)) == before);
    let mut previous = before;
    let mut waiting = Vec::new();
    // A file that was begun anew goes on from what is journalled; an older one put back does not.
    for opening in &notes.openings[known.map_or(0, |place| place + 1)..] {
        let follows = opening.previous_sha256[..] == previous.map_or(Vec::new(), |hash| hash.to_vec())[..];
        let gap = if follows { "" } else { "; notes before this one were taken out, altered, or put back" };
        let hash = sha256(opening);
        previous = Some(hash);
        waiting.push(Pending { words: format!("{}{gap}", in_words(opening)), step: Step::Note(hash) });
    }
    if notes.is_damaged {
        let words = "notes of what was opened offline are damaged, and set aside in the data directory".into();
        waiting.push(Pending { words, step: Step::Damage });
    }
    Ok(waiting)
}

fn in_words(opening: &Opening) -> String {
    let at = crate::clock::in_japan(opening.at_ms);
    format!("opened offline at {at} by the system's user {}: {}", opening.uid, cut(&opening.what))
}

/// Notes that one that was pending is in the journal.
///
/// # Errors
/// The file system's: it is journalled again.
pub fn done(data: &Path, pending: &Pending) -> io::Result<()> {
    let _locked = lock(data)?;
    let last = match pending.step {
        Step::Note(hash) => hash,
        // Whoever noted something since has set it aside, and begun a file anew.
        Step::Damage if !read(data)?.is_damaged => return Ok(()),
        Step::Damage => return set_aside(data),
    };
    crate::serve::checks::write(&data.join(JOURNALLED), &last)?;
    let path = data.join(FILE);
    if fs::metadata(&path)?.len() > KEPT_BYTES_MAX && waiting(data)?.is_empty() {
        fs::remove_file(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(data: &Path) -> Vec<String> {
        pending(data).unwrap().into_iter().map(|one| one.words).collect()
    }

    #[test]
    fn openings_are_told_once_in_order_and_one_that_was_taken_out_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(pending(data).unwrap(), []);
        note(data, "restore verify", 1_000).unwrap();
        note(data, "recover verify", 2_000).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.len() == 2 && waits[0].words.ends_with(": restore verify"), "{waits:?}");
        // One is journalled, then no leader is there for the other: it alone is left.
        done(data, &waits[0]).unwrap();
        assert_eq!(pending(data).unwrap(), waits[1..]);
        // One more comes while it is being journalled.
        note(data, "archive verify", 3_000).unwrap();
        done(data, &waits[1]).unwrap();
        let waits = pending(data).unwrap();
        assert!(waits.len() == 1 && waits[0].words.ends_with(": archive verify"), "{waits:?}");
        done(data, &waits[0]).unwrap();
        assert_eq!(pending(data).unwrap(), []);

        // The file is taken away with a note in it: the next note does not go on from what is journalled.
        let before = fs::read(data.join(FILE)).unwrap();
        note(data, "archive verify", 4_000).unwrap();
        note(data, "archive verify", 5_000).unwrap();
        let both = fs::read(data.join(FILE)).unwrap();
        let one = (both.len() - before.len()) / 2;
        let without_the_first = [&before[..], &both[before.len() + one..]].concat();
        fs::write(data.join(FILE), without_the_first).unwrap();
        let told = words(data);
        assert!(told.len() == 1 && told[0].contains("taken out"), "{told:?}");
        // Torn by a power cut: what is whole counts, and the next one stands after it.
        fs::write(data.join(FILE), &both[..both.len() - 1]).unwrap();
        assert_eq!(words(data).len(), 1);
        note(data, "after the cut", 6_000).unwrap();
        let told = words(data);
        assert!(told.len() == 2 && told[1].ends_with(": after the cut"), "{told:?}");
    }

    #[test]
    fn damaged_notes_are_told_of_once_and_stay_for_people() {
        for opens_again in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path();
            note(data, "recover verify", 1).unwrap();
            let first_bytes = fs::read(data.join(FILE)).unwrap().len();
            note(data, "recover verify", 2).unwrap();
            note(data, "recover verify", 3).unwrap();
            let mut bytes = fs::read(data.join(FILE)).unwrap();
            // The form of the second note: after its length and the field's tag.
            bytes[first_bytes + 2] ^= 2;
            fs::write(data.join(FILE), &bytes).unwrap();
            let expected = if opens_again {
                note(data, "recover verify", 4).unwrap();
                "taken out"
            } else {
                "damaged"
            };
            let waits = pending(data).unwrap();
            assert!(waits.last().unwrap().words.contains(expected), "{waits:?}");
            for one in &waits {
                done(data, one).unwrap();
            }
            assert_eq!(pending(data).unwrap(), []);
            assert_eq!(fs::read(data.join("openings-damaged-1")).unwrap(), bytes, "the evidence");
        }
    }

    /// More than a file of notes holds before it begins anew.
    const BESIDE: u64 = 100;
    const COMMANDS: u64 = 3;

    #[test]
    fn commands_beside_a_member_that_journals_their_notes_lose_none() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let mut told = Vec::new();
        std::thread::scope(|scope| {
            let command = |number: u64| {
                move || {
                    for nth in 0..BESIDE {
                        let name = format!("command {number} note {nth} ");
                        let what = format!("{name}{}", "x".repeat(WHAT_BYTES_MAX - name.len()));
                        note(data, &what, number * BESIDE + nth).unwrap();
                    }
                }
            };
            let commands: Vec<_> = (0..COMMANDS).map(|number| scope.spawn(command(number))).collect();
            loop {
                let all_ended = commands.iter().all(|one| one.is_finished());
                let waits = pending(data).unwrap();
                if all_ended && waits.is_empty() {
                    break;
                }
                for one in waits {
                    done(data, &one).unwrap();
                    told.push(one.words);
                }
            }
        });
        assert_eq!(told.len() as u64, COMMANDS * BESIDE, "each once");
        for number in 0..COMMANDS {
            for nth in 0..BESIDE {
                let name = format!(": command {number} note {nth} ");
                assert!(told.iter().any(|words| words.contains(&name)), "{name} was lost");
            }
        }
        assert!(told.iter().all(|words| !words.contains("taken out")), "and none seems to be missing");
        assert!(!data.join("openings-damaged-1").exists());
    }

    #[test]
    fn what_is_noted_after_damage_was_seen_is_not_set_aside_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        fs::write(data.join(FILE), vec![0xff; 600]).unwrap();
        let seen = pending(data).unwrap();
        note(data, "meanwhile", 1).unwrap();
        done(data, &seen[0]).unwrap();
        let told = words(data);
        assert!(told.len() == 1 && told[0].contains("meanwhile"), "{told:?}");
    }

    #[test]
    fn words_and_files_have_a_bound_and_a_long_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let long = "長".repeat(40_000);
        for at_ms in 0..=KEPT_BYTES_MAX / WHAT_BYTES_MAX as u64 {
            note(data, &long, at_ms).unwrap();
        }
        for one in pending(data).unwrap() {
            assert!(one.words.len() < NOTE_BYTES_MAX);
            done(data, &one).unwrap();
        }
        assert!(!data.join(FILE).exists());
        note(data, "after it", 9).unwrap();
        assert!(words(data).len() == 1 && !words(data)[0].contains("taken out"), "and no word of a gap");
        assert!(matches!(note(&data.join("none"), "x", 1), Err(OpeningError::File { .. })));
        fs::write(data.join(FILE), vec![0xff; 3 << 20]).unwrap();
        assert!(words(data).len() == 1 && words(data)[0].contains("damaged"));
    }
}
