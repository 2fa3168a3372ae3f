//! How far a node's log had certainly got, remembered outside the log itself.
//!
//! RocksDB alone cannot tell a log that ends early from one whose end was lost. A [`Mark`] can: it
//! is written to a small file after each group that was synced, and it rides in the node's appends
//! to its peers, which keep the highest. A log that opens below a mark has lost what it once
//! promised, and its node must not vote again under its id.
//!
//! The marks file has two slots. Each holds a record: length u16, then body, then the first 8 bytes
//! of the body's SHA-256 (a checksum, not a signature). The body is the format version, a sequence
//! number, the directory's identity, and the mark. The valid slot with the highest number counts.
//!
//! Invariants
//! - A mark never claims what is not durable: the log is synced first, then the mark is written.
//! - The slot that was synced last is not written again before the other one is synced, so that a
//!   power cut leaves at least one valid slot.
//! - A mark's log id counts only what was appended under the mark's vote. Between a new leader's
//!   vote and its first append a follower may truncate; after that append its log is a prefix of the
//!   leader's, which never shrinks. So an honest node's marks never go down. (Writes reach the log in
//!   order: a log that still holds the vote still holds all that was written before it.)
//!
//! What this misses: a whole directory put back to an older state (the marks file with it) on a node
//! none of whose peers that know better answers (peers write down what they keep each second, so one
//! that lost power may lack the last second; one that is silent is waited for a few seconds only); and
//! up to a second of marks after a power cut, if in that second the disk also lost what it said was
//! synced.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::BufMut;
use kura_cluster::ClusterId;
use sha2::{Digest, Sha256};

use super::codec::{self, CodecError};
use super::types::{LogId, NodeId, Vote};

/// Bytes from one slot to the next: a slot never shares a disk sector with the other.
const SLOT_BYTES: u64 = 4096;
const CHECKSUM_BYTES: usize = 8;
const FORM: &str = "mark";

/// A point that a node's log had reached durably. The vote is compared first, then the log id.
///
/// Two marks with votes for different candidates of one term do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Default)]
pub struct Mark {
    /// The vote that was saved.
    pub vote: Option<Vote>,
    /// The last entry appended under that vote, if any was.
    pub last: Option<LogId>,
}

impl Mark {
    /// Encodes the mark, for peers.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![codec::FORMAT];
        self.put_fields(&mut out);
        out
    }

    /// Decodes a mark from a peer.
    ///
    /// # Errors
    /// Anything but exactly one mark of this format version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (mark, rest) = Self::take_fields(codec::body(FORM, bytes)?)?;
        codec::ended(FORM, rest)?;
        Ok(mark)
    }

    /// Whether a node that has got here lacks nothing that `other` stands for.
    pub fn covers(&self, other: &Mark) -> bool {
        self >= other
    }

    /// The mark after this vote.
    pub(super) fn after_vote(self, vote: Vote) -> Self {
        if self.vote == Some(vote) { self } else { Self { vote: Some(vote), last: None } }
    }

    /// The mark after an append up to `last`.
    pub(super) fn after_append(self, last: LogId) -> Self {
        Self { last: Some(last), ..self }
    }

    /// The mark after a truncation that leaves `last` as the log's end.
    pub(super) fn after_truncate(self, last: Option<LogId>) -> Self {
        Self { last: self.last.min(last), ..self }
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        codec::put_optional_vote_fields(self.vote.as_ref(), out);
        codec::put_optional_log_id_fields(self.last, out);
    }

    fn take_fields(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (vote, rest) = codec::take_optional_vote(FORM, bytes)?;
        let (last, rest) = codec::take_optional_log_id(FORM, rest)?;
        Ok((Self { vote, last }, rest))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vote {
            Some(vote) => write!(f, "vote {vote}")?,
            None => f.write_str("no vote")?,
        }
        match &self.last {
            Some(last) => write!(f, ", log up to {last}"),
            None => f.write_str(", no entry under it"),
        }
    }
}

/// Whose log a directory holds. A directory is opened only by the node that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node's Raft id.
    pub node_id: NodeId,
    /// The cluster's fence number: a take-over starts new logs.
    pub timeline: u64,
}

impl LogIdentity {
    /// Cluster id, node id and timeline, 32 bytes.
    pub(super) fn put_fields(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.cluster_id.0);
        out.put_u64(self.node_id);
        out.put_u64(self.timeline);
    }

    pub(super) fn take_fields<'a>(form: &'static str, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), CodecError> {
        let (cluster_id, rest) =
            bytes.split_first_chunk::<16>().ok_or(CodecError::Short { form, length: bytes.len() })?;
        let (node_id, rest) = codec::take_u64(form, rest)?;
        let (timeline, rest) = codec::take_u64(form, rest)?;
        Ok((Self { cluster_id: ClusterId(*cluster_id), node_id, timeline }, rest))
    }
}

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster_id, node_id, timeline } = self;
        write!(f, "node {node_id} of cluster {} on timeline {timeline}", cluster_id.to_hex())
    }
}

/// Why a marks file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Neither slot holds a valid record.
    #[error("neither slot holds a valid record")]
    Damaged,
    /// Another node's file.
    #[error("it belongs to {0}")]
    OtherIdentity(LogIdentity),
    /// Written by another version of this program.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The open marks file.
#[derive(Debug)]
pub(super) struct MarksFile {
    file: File,
    identity: LogIdentity,
    mark: Mark,
    sequence: u64,
    /// The slot that is safe on disk; the other one is written.
    synced_slot: u64,
    dirty: bool,
}

impl MarksFile {
    /// Makes the file, durably, with an empty mark.
    pub(super) fn create(path: &Path, identity: LogIdentity) -> Result<Self, MarksError> {
        let unfinished = path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
        // Both slots at once, so that later writes need no new space on most file systems.
        file.write_all_at(&[0; 2 * SLOT_BYTES as usize], 0)?;
        let mut marks = Self { file, identity, mark: Mark::default(), sequence: 0, synced_slot: 1, dirty: false };
        marks.write(Mark::default())?;
        marks.sync()?;
        marks.file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        sync_directory(path)?;
        Ok(marks)
    }

    /// Opens the file; [`Self::mark`] then says what it held.
    pub(super) fn open(path: &Path, identity: LogIdentity) -> Result<Self, MarksError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // What was written before a crash of this process counts from now on.
        file.sync_all()?;
        let Record { slot, sequence, identity: found, mark } = newest_record(&file)?;
        if found != identity {
            return Err(MarksError::OtherIdentity(found));
        }
        Ok(Self { file, identity, mark, sequence, synced_slot: slot, dirty: false })
    }

    /// The mark written last.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether a mark was written that [`Self::sync`] has not made durable.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Writes the mark, not yet durably. Writing it again after an error is safe.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let sequence = self.sequence.saturating_add(1);
        let mut body = vec![codec::FORMAT];
        body.put_u64(sequence);
        self.identity.put_fields(&mut body);
        mark.put_fields(&mut body);
        let mut record = Vec::with_capacity(body.len() + 2 + CHECKSUM_BYTES);
        record.put_u16(u16::try_from(body.len()).expect("a mark has less than 200 bytes"));
        record.put_slice(&body);
        record.put_slice(&Sha256::digest(&body)[..CHECKSUM_BYTES]);
        self.dirty = true;
        self.file.write_all_at(&record, (1 - self.synced_slot) * SLOT_BYTES)?;
        self.sequence = sequence;
        self.mark = mark;
        Ok(())
    }

    /// Makes the mark written last durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.synced_slot = 1 - self.synced_slot;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Whose a marks file is and what it holds; nothing is changed.
pub(super) fn look(path: &Path) -> Result<(LogIdentity, Mark), MarksError> {
    newest_record(&File::open(path)?).map(|record| (record.identity, record.mark))
}

fn newest_record(file: &File) -> Result<Record, MarksError> {
    let mut newest: Option<Record> = None;
    let mut unreadable = None;
    for slot in 0..2 {
        match read_slot(file, slot)? {
            Some(Ok(record)) if newest.as_ref().is_none_or(|n| n.sequence < record.sequence) => {
                newest = Some(record);
            }
            Some(Err(error)) => unreadable = Some(error),
            _ => {}
        }
    }
    newest.ok_or_else(|| unreadable.map_or(MarksError::Damaged, MarksError::Codec))
}

pub(super) struct Record {
    slot: u64,
    sequence: u64,
    identity: LogIdentity,
    mark: Mark,
}

/// `None`: nothing valid there. `Some(Err)`: whole, but of another format.
fn read_slot(file: &File, slot: u64) -> io::Result<Option<Result<Record, CodecError>>> {
    let mut bytes = [0; SLOT_BYTES as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], slot * SLOT_BYTES + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let Some(body) = bytes[..filled].get(2..2 + length) else { return Ok(None) };
    let Some(checksum) = bytes[..filled].get(2 + length..2 + length + CHECKSUM_BYTES) else {
        return Ok(None);
    };
    if length == 0 || Sha256::digest(body)[..CHECKSUM_BYTES] != *checksum {
        return Ok(None);
    }
    Ok(Some(read_body(slot, body)))
}

pub(super) fn read_body(slot: u64, body: &[u8]) -> Result<Record, CodecError> {
    let (sequence, rest) = codec::take_u64(FORM, codec::body(FORM, body)?)?;
    let (identity, rest) = LogIdentity::take_fields(FORM, rest)?;
    let (mark, rest) = Mark::take_fields(rest)?;
    codec::ended(FORM, rest)?;
    Ok(Record { slot, sequence, identity, mark })
}

/// Makes a new or renamed file's name durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::log_id;

    fn identity() -> LogIdentity {
        LogIdentity { cluster_id: ClusterId([7; 16]), node_id: 3, timeline: 1 }
    }

    fn mark(term: u64, index: u64) -> Mark {
        Mark { vote: Some(Vote::new_committed(term, 1)), last: Some(log_id(term, index)) }
    }

    #[test]
    fn marks_compare_by_vote_first() {
        let voted = Mark { vote: Some(Vote::new(5, 2)), last: None };
        assert!(voted.covers(&mark(4, 900)));
        assert!(!mark(4, 900).covers(&voted));
        assert!(mark(4, 900).covers(&mark(4, 900)));
        assert!(!mark(4, 899).covers(&mark(4, 900)));
        assert!(mark(4, 0).covers(&Mark::default()));
        let other_candidate = Mark { vote: Some(Vote::new(5, 3)), last: None };
        assert!(!voted.covers(&other_candidate) && !other_candidate.covers(&voted));
    }

    #[test]
    fn a_new_vote_forgets_the_log_id_and_a_truncation_lowers_it() {
        let vote = Vote::new(5, 2);
        assert_eq!(mark(4, 9).after_vote(vote), Mark { vote: Some(vote), last: None });
        assert_eq!(mark(4, 9).after_vote(Vote::new_committed(4, 1)), mark(4, 9));
        assert_eq!(mark(4, 9).after_truncate(Some(log_id(4, 5))), mark(4, 5));
        assert_eq!(mark(4, 9).after_truncate(Some(log_id(4, 12))), mark(4, 9));
        assert_eq!(mark(4, 9).after_truncate(None).last, None);
    }

    #[test]
    fn frozen_encoding() {
        let bytes = mark(2, 258).encode();
        let expected = [
            1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, // vote 2, node 1, committed
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2, // log id 2.258
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Mark::decode(&bytes), Ok(mark(2, 258)));
        assert_eq!(Mark::decode(&[1, 0, 0]), Ok(Mark::default()));
        for end in 0..bytes.len() {
            assert!(Mark::decode(&bytes[..end]).is_err());
        }
        assert!(Mark::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Mark::decode(&[1, 2, 0]).is_err());
        assert!(Mark::decode(&[2, 0, 0]).is_err());
    }

    #[test]
    fn the_synced_slot_survives_any_tear_of_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("marks");
        let mut marks = MarksFile::create(&path, identity()).unwrap();
        marks.write(mark(1, 5)).unwrap();
        marks.sync().unwrap();
        let before = std::fs::read(&path).unwrap();
        marks.write(mark(1, 6)).unwrap();
        marks.write(mark(1, 7)).unwrap();
        let after = std::fs::read(&path).unwrap();
        assert_eq!(MarksFile::open(&path, identity()).unwrap().mark(), mark(1, 7));

        let changed: Vec<usize> = (0..after.len()).filter(|&i| before[i] != after[i]).collect();
        for cut in changed {
            let torn = [&after[..=cut], &before[cut + 1..]].concat();
            std::fs::write(&path, torn).unwrap();
            let found = MarksFile::open(&path, identity()).unwrap().mark();
            assert!(found == mark(1, 5) || found == mark(1, 7), "{found}");
        }
    }

    #[test]
    fn damage_and_strangers_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("marks");
        drop(MarksFile::create(&path, identity()).unwrap());
        let other = LogIdentity { timeline: 2, ..identity() };
        let refused = MarksFile::open(&path, other).unwrap_err();
        assert!(matches!(refused, MarksError::OtherIdentity(found) if found == identity()));

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..10]).unwrap();
        assert!(matches!(MarksFile::open(&path, identity()), Err(MarksError::Damaged)));
        let mut flipped = whole;
        flipped[12] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(matches!(MarksFile::open(&path, identity()), Err(MarksError::Damaged)));
    }
}
