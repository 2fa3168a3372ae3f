//! Segments: log entries one after the other, each in a frame with a checksum.
//!
//! | bytes | what |
//! |---|---|
//! | 14 | `kura-segment-1` (ASCII) |
//! | 16 | cluster id |
//! | 8 | timeline |
//! | 8 | log index of the first entry |
//! | 4 | number of entries, at least 1 |
//! | any | a frame for each: length of the body (4), body, first 8 bytes of the body's SHA-256 |
//!
//! A body: kind (1), term (8), index (8), payload. Numbers are big endian. Kinds and payloads: 0 blank,
//! nothing; 1 command, its bytes; 2 membership, its bytes as the log has them; 3 stripped command: number of
//! hashes (4), the hashes (32 each), the command's bytes without key rows' values; 4 refused command: the
//! SHA-256 of its bytes.
//!
//! Invariants
//! - A segment has at least one entry; their indexes rise by one.
//! - Reading never panics, and what is read shares the memory of what was given.

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};

use super::{Sha256Hash, take};
use crate::command::COMMAND_BYTES_MAX;
use crate::id::ClusterId;

const TAG: &[u8] = b"kura-segment-1";
const HEADER_BYTES: usize = TAG.len() + 16 + 8 + 8 + 4;
const BODY_HEADER_BYTES: usize = 1 + 8 + 8;
const CHECKSUM_BYTES: usize = 8;
/// Bytes of a frame's body, at most. A command that was stripped is shorter than it was, but for hashes that
/// are longer than the values that they stand for.
pub const BODY_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// Bytes of a segment, at most: readers hold one in memory.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// What an entry carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A command, as it is in the log.
    Command(Bytes),
    /// A membership, encoded as in the log.
    Membership(Bytes),
    /// A command without the values of key rows.
    Stripped {
        /// The command; key rows' values are empty.
        command: Bytes,
        /// SHA-256 of each of these values, in the order of the writes.
        value_sha256s: Vec<Sha256Hash>,
    },
    /// A command that every member refused as malformed: SHA-256 of its bytes.
    Refused(Sha256Hash),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Blank => f.write_str("blank"),
            Payload::Command(bytes) => write!(f, "command of {} bytes", bytes.len()),
            Payload::Membership(bytes) => write!(f, "membership of {} bytes", bytes.len()),
            Payload::Stripped { command, value_sha256s } => {
                write!(f, "command of {} bytes without {} keys", command.len(), value_sha256s.len())
            }
            Payload::Refused(_) => f.write_str("refused command"),
        }
    }
}

/// An entry of the log, as an archive holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedEntry {
    /// Its leader's term.
    pub term: u64,
    /// Its log index.
    pub index: u64,
    /// What it carries.
    pub payload: Payload,
}

/// Why bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// It does not begin like one.
    #[error("it is no segment of a known form")]
    Form,
    /// It is another cluster's.
    #[error("it is another cluster's segment")]
    OtherCluster,
    /// It ends within the frame of this entry, or before it.
    #[error("it is cut off at entry {index}")]
    CutOff {
        /// The entry that is not whole.
        index: u64,
    },
    /// The frame of this entry does not have its checksum.
    #[error("entry {index} does not have its checksum")]
    Checksum {
        /// The entry.
        index: u64,
    },
    /// The body of this entry is not of a known form, though its checksum fits.
    #[error("entry {index} is not of a known form")]
    Body {
        /// The entry.
        index: u64,
    },
    /// Another entry stands where this one should.
    #[error("entry {found} stands where entry {expected} should")]
    Order {
        /// The index that should be there.
        expected: u64,
        /// The index that is there.
        found: u64,
    },
    /// Something follows the last entry.
    #[error("{bytes} bytes follow its last entry")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// A segment being made.
pub struct SegmentBuilder {
    bytes: Vec<u8>,
    first: u64,
    entries: u32,
}

impl SegmentBuilder {
    /// A segment that will begin with the entry at `first`.
    pub fn new(cluster_id: ClusterId, timeline: u64, first: u64) -> SegmentBuilder {
        let mut bytes = Vec::with_capacity(64 << 10);
        bytes.put_slice(TAG);
        bytes.put_slice(&cluster_id.0);
        bytes.put_u64(timeline);
        bytes.put_u64(first);
        bytes.put_u32(0);
        SegmentBuilder { bytes, first, entries: 0 }
    }

    /// Adds the next entry; `false`, and nothing is added, if it is not the next one or too large.
    #[must_use]
    pub fn push(&mut self, entry: &ArchivedEntry) -> bool {
        let start = self.bytes.len();
        if entry.index != self.next_index() {
            return false;
        }
        self.bytes.put_u32(0);
        put_body(entry, &mut self.bytes);
        let body = &self.bytes[start + 4..];
        let length = body.len();
        let checksum = Sha256::digest(body);
        match u32::try_from(length) {
            Ok(number) if length <= BODY_BYTES_MAX => {
                self.bytes[start..start + 4].copy_from_slice(&number.to_be_bytes());
                self.bytes.put_slice(&checksum[..CHECKSUM_BYTES]);
                self.entries += 1;
                true
            }
            _ => {
                self.bytes.truncate(start);
                false
            }
        }
    }

    /// The first index that it will hold.
    pub fn first_index(&self) -> u64 {
        self.first
    }

    /// The index of the entry that comes next.
    pub fn next_index(&self) -> u64 {
        self.first + u64::from(self.entries)
    }

    /// Whether it has no entry yet.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The whole segment.
    pub fn finish(mut self) -> Bytes {
        self.bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&self.entries.to_be_bytes());
        self.bytes.into()
    }
}

fn put_body(entry: &ArchivedEntry, out: &mut Vec<u8>) {
    let kind = match entry.payload {
        Payload::Blank => 0,
        Payload::Command(_) => 1,
        Payload::Membership(_) => 2,
        Payload::Stripped { .. } => 3,
        Payload::Refused(_) => 4,
    };
    out.put_u8(kind);
    out.put_u64(entry.term);
    out.put_u64(entry.index);
    match &entry.payload {
        Payload::Blank => {}
        Payload::Command(bytes) | Payload::Membership(bytes) => out.put_slice(bytes),
        Payload::Stripped { command, value_sha256s } => {
            // A command has at most 4,096 writes.
            out.put_u32(u32::try_from(value_sha256s.len()).unwrap_or(u32::MAX));
            value_sha256s.iter().for_each(|hash| out.put_slice(hash));
            out.put_slice(command);
        }
        Payload::Refused(hash) => out.put_slice(hash),
    }
}

/// A segment being read.
#[derive(Debug)]
pub struct Segment {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The cluster's fence number.
    pub timeline: u64,
    /// Log index of its first entry.
    pub first: u64,
    /// Number of entries that it says it has.
    pub entries: u32,
    rest: Bytes,
    read: u32,
    failed: bool,
    is_whole: bool,
}

impl Segment {
    /// Reads the header. The entries come from the iterator; an error ends it.
    ///
    /// # Errors
    /// [`SegmentError::Form`].
    pub fn open(bytes: &Bytes) -> Result<Segment, SegmentError> {
        let fields = || {
            let mut rest = bytes.strip_prefix(TAG)?;
            let cluster_id = ClusterId(take(&mut rest)?);
            let timeline = u64::from_be_bytes(take(&mut rest)?);
            let first = u64::from_be_bytes(take(&mut rest)?);
            let entries = u32::from_be_bytes(take(&mut rest)?);
            let end = first.checked_add(u64::from(entries))?;
            (entries > 0 && end > first).then_some((cluster_id, timeline, first, entries))
        };
        let (cluster_id, timeline, first, entries) = fields().ok_or(SegmentError::Form)?;
        let rest = bytes.slice(HEADER_BYTES..);
        Ok(Segment { cluster_id, timeline, first, entries, rest, read: 0, failed: false, is_whole: false })
    }

    /// The same, of bytes whose own hash was compared: the frames' checksums, which name what is damaged, are not looked at.
    ///
    /// # Errors
    /// [`SegmentError::Form`].
    pub fn open_whole(bytes: &Bytes) -> Result<Segment, SegmentError> {
        Ok(Segment { is_whole: true, ..Segment::open(bytes)? })
    }

    /// Log index of its last entry.
    pub fn last_index(&self) -> u64 {
        self.first + u64::from(self.entries) - 1
    }

    /// Reads every entry, and that nothing follows.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(self) -> Result<(), SegmentError> {
        let mut segment = self;
        segment.try_for_each(|entry| entry.map(drop))
    }

    fn frame(&mut self) -> Result<Option<ArchivedEntry>, SegmentError> {
        if self.read == self.entries {
            let bytes = self.rest.len();
            return if bytes == 0 { Ok(None) } else { Err(SegmentError::Trailing { bytes }) };
        }
        let index = self.first + u64::from(self.read);
        let cut = SegmentError::CutOff { index };
        let mut length = &self.rest[..];
        let length = u32::from_be_bytes(take(&mut length).ok_or(cut)?) as usize;
        if length > BODY_BYTES_MAX {
            return Err(SegmentError::Checksum { index });
        }
        if self.rest.len() < 4 + length + CHECKSUM_BYTES {
            return Err(cut);
        }
        let body = self.rest.slice(4..4 + length);
        let frame_bytes = 4 + length + CHECKSUM_BYTES;
        if !self.is_whole && Sha256::digest(&body)[..CHECKSUM_BYTES] != self.rest[4 + length..frame_bytes] {
            return Err(SegmentError::Checksum { index });
        }
        let entry = read_body(&body).ok_or(SegmentError::Body { index })?;
        if entry.index != index {
            return Err(SegmentError::Order { expected: index, found: entry.index });
        }
        self.rest = self.rest.slice(frame_bytes..);
        self.read += 1;
        Ok(Some(entry))
    }
}

impl Iterator for Segment {
    type Item = Result<ArchivedEntry, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.frame().transpose();
        self.failed = !matches!(entry, Some(Ok(_)));
        entry
    }
}

fn read_body(body: &Bytes) -> Option<ArchivedEntry> {
    let mut fields = &body[..];
    let [kind] = take(&mut fields)?;
    let term = u64::from_be_bytes(take(&mut fields)?);
    let index = u64::from_be_bytes(take(&mut fields)?);
    let payload = body.slice(BODY_HEADER_BYTES..);
    let payload = match kind {
        0 if payload.is_empty() => Payload::Blank,
        1 => Payload::Command(payload),
        2 => Payload::Membership(payload),
        3 => {
            let count = u32::from_be_bytes(take(&mut fields)?) as usize;
            if count > fields.len() / 32 {
                return None;
            }
            let value_sha256s = (0..count).map(|_| take(&mut fields)).collect::<Option<Vec<_>>>()?;
            Payload::Stripped { command: payload.slice(4 + 32 * count..), value_sha256s }
        }
        4 => Payload::Refused(payload[..].try_into().ok()?),
        _ => return None,
    };
    Some(ArchivedEntry { term, index, payload })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn entries() -> Vec<ArchivedEntry> {
        let payloads = [
            Payload::Blank,
            Payload::Command(Bytes::from_static(b"command")),
            Payload::Membership(Bytes::from_static(b"members")),
            Payload::Stripped { command: Bytes::from_static(b"keyless"), value_sha256s: vec![[1; 32], [2; 32]] },
            Payload::Refused([3; 32]),
        ];
        (5..).zip(payloads).map(|(index, payload)| ArchivedEntry { term: 2, index, payload }).collect()
    }

    fn segment() -> Bytes {
        let mut builder = SegmentBuilder::new(CLUSTER, 1, 5);
        assert!(entries().iter().all(|entry| builder.push(entry)));
        assert_eq!((builder.first_index(), builder.next_index()), (5, 10));
        builder.finish()
    }

    fn read(bytes: &Bytes) -> Result<Vec<ArchivedEntry>, SegmentError> {
        Segment::open(bytes)?.collect()
    }

    #[test]
    fn the_form_is_frozen_and_comes_back() {
        let bytes = segment();
        let expected = [
            &format!("6b7572612d7365676d656e742d31{}00000000000000010000000000000005", "07".repeat(16))[..],
            "00000005",
            "000000110000000000000000020000000000000005",
            "9e281b2df9a2280c",
            "000000180100000000000000020000000000000006636f6d6d616e64",
            "6b6a70655d100f54",
            "000000180200000000000000020000000000000007",
            "6d656d62657273",
            "0556c44254bf3f79",
            "0000005c03000000000000000200000000000000080000000201",
            &"01".repeat(31),
            &"02".repeat(32),
            "6b65796c657373",
            "1380aaf419b203bd",
            "00000031040000000000000002000000000000000903",
            &"03".repeat(31),
            "5dd09cf46f945fae",
        ];
        assert_eq!(crate::hexadecimal(&bytes), expected.concat());
        assert_eq!(read(&bytes).unwrap(), entries());
        let opened = Segment::open(&bytes).unwrap();
        assert_eq!((opened.first, opened.last_index(), opened.timeline), (5, 9, 1));
        assert!(opened.check().is_ok());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_found() {
        let bytes = segment();
        for end in 0..bytes.len() {
            assert!(read(&bytes.slice(..end)).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x10;
            // Cluster and timeline are the manifest's to check, which names the whole object's hash.
            let told = (TAG.len()..TAG.len() + 24).contains(&at);
            assert_eq!(read(&changed.into()).is_err(), !told, "byte {at}");
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert_eq!(read(&longer), Err(SegmentError::Trailing { bytes: 1 }));
    }

    #[test]
    fn entries_in_another_order_are_found() {
        let whole = entries();
        let mut builder = SegmentBuilder::new(CLUSTER, 1, 5);
        assert!(!builder.push(&whole[1]), "not the next one");
        assert!(builder.push(&whole[0]) && !builder.is_empty());
        let mut other = SegmentBuilder::new(CLUSTER, 1, 6);
        assert!(other.push(&whole[1]));
        // The frame of entry 6 in the place of entry 5.
        let mut forged = builder.finish().to_vec();
        forged.truncate(HEADER_BYTES);
        forged.extend_from_slice(&other.finish()[HEADER_BYTES..]);
        assert_eq!(read(&forged.into()), Err(SegmentError::Order { expected: 5, found: 6 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), header: bool,
        ) {
            if header {
                let mut whole = segment()[..HEADER_BYTES].to_vec();
                whole.append(&mut bytes);
                bytes = whole;
            }
            let _ = read(&bytes.into());
        }
    }
}
