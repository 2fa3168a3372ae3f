//! Manifests: what an archive holds, in order, signed by the backup.
//!
//! A manifest's statement is `kura-manifest-1` (ASCII) and a protobuf message in its one encoding. The object
//! is a protobuf message of statement, public key and signature, like a signed head's; the key is the one of
//! the backup's certificate (docs/decisions/0014). A manifest names the one before it by the SHA-256 of that
//! object's bytes.
//!
//! Invariants
//! - A manifest that decodes is consistent in itself: segments follow one another without a gap and end at
//!   its head's index; files and segments have hashes; a base names itself as its generation.
//! - Decoding never panics.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::segment::SEGMENT_BYTES_MAX;
use super::{ObjectName, Sha256Hash};
use crate::head::Head;
use crate::signed::{self, Signed, SignedError};

/// Bytes of an encoded manifest, at most: some 150,000 files.
pub const MANIFEST_BYTES_MAX: usize = 15 << 20;

const TAG: &[u8] = b"kura-manifest-1";
const FILE_NAME_BYTES_MAX: usize = 64;
const WRITER_BYTES_MAX: usize = 128;

/// Why bytes are no manifest, or one proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not a manifest of a known form.
    #[error("it is no manifest of a known form")]
    Form,
    /// It contradicts itself.
    #[error("it contradicts itself: {0}")]
    Content(&'static str),
    /// The key is of a kind that signs nothing here.
    #[error("it has a key of a kind that signs no manifests")]
    Kind,
    /// The signature does not fit: the manifest was altered, or is torn.
    #[error("its signature is wrong: it was altered")]
    Signature,
}

impl From<SignedError> for ManifestError {
    fn from(error: SignedError) -> ManifestError {
        match error {
            SignedError::Form => ManifestError::Form,
            SignedError::Kind => ManifestError::Kind,
            SignedError::Signature => ManifestError::Signature,
        }
    }
}

/// The timeline from which another came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its fence number.
    pub timeline: u64,
    /// Log index at which the present one began.
    pub began_index: u64,
}

/// A file of a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFile {
    /// Its name in the database's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Hash,
}

/// The state at the manifest's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Files of a checkpoint without its key rows, ascending by name.
    pub files: Vec<BaseFile>,
    /// Length of the object of key rows' headers.
    pub key_headers_bytes: u64,
    /// Its SHA-256.
    pub key_headers_sha256: Sha256Hash,
    /// Whether it is the state at which the manifest before it ended. If not, entries between the two were
    /// never archived: the writer says so, and why is in the backup's log.
    pub continues: bool,
    /// Manifests that have expired so far: in order, merged.
    pub expired: Vec<Gap>,
}

/// Manifests that are not there any more, since the rules of keeping said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Number of the first of them.
    pub first: u64,
    /// Number of the last of them.
    pub last: u64,
    /// SHA-256 of the manifest before the first; `None` if that is number 1.
    pub previous_sha256: Option<Sha256Hash>,
    /// SHA-256 of the last of them.
    pub last_sha256: Sha256Hash,
}

/// A segment that a manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRef {
    /// Log index of its first entry.
    pub first: u64,
    /// Log index of its last entry.
    pub last: u64,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Hash,
}

impl SegmentRef {
    /// Its object.
    pub fn name(&self) -> ObjectName {
        ObjectName::Segment { first: self.first, sha256: self.sha256 }
    }
}

/// What a manifest adds to the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The state at its index: a generation begins.
    Base(Base),
    /// Entries up to its index.
    Segments(Vec<SegmentRef>),
}

/// The key ledger that a manifest names. Only the newest manifest's is there to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRef {
    /// Log index at which a key last changed, or at which the ledger was written.
    pub index: u64,
    /// Length of its object.
    pub bytes: u64,
    /// SHA-256 of its object.
    pub sha256: Sha256Hash,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its number, from 1.
    pub sequence: u64,
    /// Number of the manifest that holds the generation's base; its own, if it does.
    pub generation: u64,
    /// SHA-256 of the manifest before it; `None` for the first.
    pub previous_sha256: Option<Sha256Hash>,
    /// Cluster, timeline, and the state at its last entry: journal's size and root, digests of the tables.
    pub head: Head,
    /// Term of that entry.
    pub term: u64,
    /// The timeline before the head's; `None` for the cluster's first.
    pub parent: Option<Parent>,
    /// The writer's clock.
    pub at_ms: u64,
    /// The cluster's clock at its last entry.
    pub clock_ms: u64,
    /// A base, or segments.
    pub content: Content,
    /// The newest key ledger.
    pub ledger: LedgerRef,
    /// SHA-256 of the compression dictionaries that blocks may use.
    pub dictionaries: Vec<Sha256Hash>,
    /// The member that wrote it: name, as in its certificate.
    pub writer: String,
}

impl Manifest {
    /// Its object.
    pub fn name(&self) -> ObjectName {
        ObjectName::Manifest { generation: self.generation, sequence: self.sequence }
    }

    /// Log index of its last entry.
    pub fn index(&self) -> u64 {
        self.head.index
    }

    /// The base, if it holds one.
    pub fn base(&self) -> Option<&Base> {
        match &self.content {
            Content::Base(base) => Some(base),
            Content::Segments(_) => None,
        }
    }

    /// The segments; none in a base's manifest.
    pub fn segments(&self) -> &[SegmentRef] {
        match &self.content {
            Content::Base(_) => &[],
            Content::Segments(segments) => segments,
        }
    }

    /// The objects that it names and their lengths, but for the ledger's. Those of bases may come twice.
    pub fn objects(&self) -> Vec<(ObjectName, u64)> {
        let mut objects: Vec<_> = self.segments().iter().map(|segment| (segment.name(), segment.bytes)).collect();
        if let Some(base) = self.base() {
            objects.extend(base.files.iter().map(|file| (ObjectName::File(file.sha256), file.bytes)));
            objects.push((ObjectName::File(base.key_headers_sha256), base.key_headers_bytes));
        }
        objects
    }

    /// What is signed.
    pub fn statement(&self) -> Vec<u8> {
        [TAG, &ManifestMessage::from(self).encode_to_vec()].concat()
    }

    /// Reads a statement; only the one encoding of a manifest is taken.
    ///
    /// # Errors
    /// [`ManifestError::Form`], [`ManifestError::Content`].
    pub fn parse(statement: &[u8]) -> Result<Manifest, ManifestError> {
        let body = statement.strip_prefix(TAG).ok_or(ManifestError::Form)?;
        let message = ManifestMessage::decode(body).map_err(|_| ManifestError::Form)?;
        let manifest = Manifest::try_from(&message)?;
        manifest.check()?;
        if manifest.statement() == statement { Ok(manifest) } else { Err(ManifestError::Form) }
    }

    fn check(&self) -> Result<(), ManifestError> {
        let refuse = |why| Err(ManifestError::Content(why));
        if self.sequence == 0 || self.generation == 0 || self.generation > self.sequence {
            return refuse("its numbers");
        }
        if self.previous_sha256.is_none() != (self.sequence == 1) {
            return refuse("what it follows");
        }
        if self.parent.is_some_and(|parent| parent.timeline >= self.head.timeline) {
            return refuse("the timeline from which it came");
        }
        match &self.content {
            Content::Base(base) => {
                let names = base.files.is_sorted_by(|a, b| a.name < b.name);
                let plain = |file: &BaseFile| {
                    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                    let length = (1..=FILE_NAME_BYTES_MAX).contains(&file.name.len());
                    length && file.name.bytes().all(allowed) && !file.name.starts_with('.')
                };
                if self.generation != self.sequence {
                    return refuse("its generation");
                }
                if !names || !base.files.iter().all(plain) {
                    return refuse("its base's files");
                }
                let gap = |gap: &Gap| {
                    gap.first >= 1
                        && gap.first <= gap.last
                        && gap.last < self.sequence
                        && gap.previous_sha256.is_none() == (gap.first == 1)
                };
                if !base.expired.iter().all(gap) || !base.expired.is_sorted_by(|a, b| a.last + 1 < b.first) {
                    return refuse("what has expired");
                }
            }
            Content::Segments(segments) => {
                if self.generation == self.sequence {
                    return refuse("its generation");
                }
                let whole = segments.iter().all(|s| s.first <= s.last && s.bytes <= SEGMENT_BYTES_MAX);
                let follow = segments.is_sorted_by(|a, b| a.last.checked_add(1) == Some(b.first));
                if !whole || !follow || segments.last().map(|last| last.last) != Some(self.head.index) {
                    return refuse("its segments");
                }
            }
        }
        Ok(())
    }
}

/// A manifest with the backup's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// What the backup says.
    pub manifest: Manifest,
    /// The backup's public key (SubjectPublicKeyInfo, DER).
    pub public_key: Bytes,
    /// Over [`Manifest::statement`].
    pub signature: Bytes,
}

impl SignedManifest {
    /// SHA-256 of the public key, as it stands in the membership.
    pub fn key_sha256(&self) -> Sha256Hash {
        Sha256::digest(&self.public_key).into()
    }

    /// Checks that the holder of its key has signed it. Whose key that is, is the caller's to ask.
    ///
    /// # Errors
    /// [`ManifestError::Kind`], [`ManifestError::Signature`].
    pub fn verify(&self) -> Result<(), ManifestError> {
        Ok(signed::check(&self.public_key, &self.manifest.statement(), &self.signature)?)
    }

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Signed::encoded(self.manifest.statement(), &self.public_key, &self.signature)
    }

    /// Reads an object. Says nothing of the signature: see [`Self::verify`].
    ///
    /// # Errors
    /// [`ManifestError::Form`], [`ManifestError::Content`].
    pub fn decode(bytes: &[u8]) -> Result<SignedManifest, ManifestError> {
        let Signed { statement, public_key, signature, .. } = Signed::read(bytes, MANIFEST_BYTES_MAX)?;
        Ok(SignedManifest { manifest: Manifest::parse(&statement)?, public_key, signature })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ManifestMessage {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(uint64, tag = "2")]
    generation: u64,
    #[prost(bytes = "bytes", tag = "3")]
    previous_sha256: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    head: Bytes,
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(message, optional, tag = "6")]
    parent: Option<ParentMessage>,
    #[prost(uint64, tag = "7")]
    at_ms: u64,
    #[prost(uint64, tag = "8")]
    clock_ms: u64,
    #[prost(message, optional, tag = "9")]
    base: Option<BaseMessage>,
    #[prost(message, repeated, tag = "10")]
    segments: Vec<SegmentMessage>,
    #[prost(message, optional, tag = "11")]
    ledger: Option<LedgerRefMessage>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    dictionaries: Vec<Bytes>,
    #[prost(string, tag = "13")]
    writer: String,
}

#[derive(Clone, PartialEq, Message)]
struct ParentMessage {
    #[prost(uint64, tag = "1")]
    timeline: u64,
    #[prost(uint64, tag = "2")]
    began_index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct BaseMessage {
    #[prost(message, repeated, tag = "1")]
    files: Vec<BaseFileMessage>,
    #[prost(uint64, tag = "2")]
    key_headers_bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    key_headers_sha256: Bytes,
    #[prost(bool, tag = "4")]
    continues: bool,
    #[prost(message, repeated, tag = "5")]
    expired: Vec<GapMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct BaseFileMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    sha256: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct GapMessage {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
    #[prost(bytes = "bytes", tag = "3")]
    previous_sha256: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    last_sha256: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct SegmentMessage {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(bytes = "bytes", tag = "4")]
    sha256: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct LedgerRefMessage {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    sha256: Bytes,
}

fn put_hash(hash: &Sha256Hash) -> Bytes {
    Bytes::copy_from_slice(hash)
}

fn put_optional_hash(hash: Option<&Sha256Hash>) -> Bytes {
    hash.map(put_hash).unwrap_or_default()
}

fn read_hash(bytes: &Bytes) -> Result<Sha256Hash, ManifestError> {
    bytes[..].try_into().map_err(|_| ManifestError::Form)
}

fn read_optional_hash(bytes: &Bytes) -> Result<Option<Sha256Hash>, ManifestError> {
    if bytes.is_empty() { Ok(None) } else { read_hash(bytes).map(Some) }
}

impl From<&Manifest> for ManifestMessage {
    fn from(manifest: &Manifest) -> ManifestMessage {
        let file = |file: &BaseFile| BaseFileMessage {
            name: file.name.clone(),
            bytes: file.bytes,
            sha256: put_hash(&file.sha256),
        };
        let gap = |gap: &Gap| GapMessage {
            first: gap.first,
            last: gap.last,
            previous_sha256: put_optional_hash(gap.previous_sha256.as_ref()),
            last_sha256: put_hash(&gap.last_sha256),
        };
        let base = manifest.base().map(|base| BaseMessage {
            files: base.files.iter().map(file).collect(),
            key_headers_bytes: base.key_headers_bytes,
            key_headers_sha256: put_hash(&base.key_headers_sha256),
            continues: base.continues,
            expired: base.expired.iter().map(gap).collect(),
        });
        let segment = |segment: &SegmentRef| SegmentMessage {
            first: segment.first,
            last: segment.last,
            bytes: segment.bytes,
            sha256: put_hash(&segment.sha256),
        };
        let LedgerRef { index, bytes, sha256 } = &manifest.ledger;
        ManifestMessage {
            sequence: manifest.sequence,
            generation: manifest.generation,
            previous_sha256: put_optional_hash(manifest.previous_sha256.as_ref()),
            head: manifest.head.statement().into(),
            term: manifest.term,
            parent: manifest.parent.map(|p| ParentMessage { timeline: p.timeline, began_index: p.began_index }),
            at_ms: manifest.at_ms,
            clock_ms: manifest.clock_ms,
            base,
            segments: manifest.segments().iter().map(segment).collect(),
            ledger: Some(LedgerRefMessage { index: *index, bytes: *bytes, sha256: put_hash(sha256) }),
            dictionaries: manifest.dictionaries.iter().map(put_hash).collect(),
            writer: manifest.writer.clone(),
        }
    }
}

impl TryFrom<&ManifestMessage> for Manifest {
    type Error = ManifestError;

    fn try_from(message: &ManifestMessage) -> Result<Manifest, ManifestError> {
        let file = |file: &BaseFileMessage| {
            Ok(BaseFile { name: file.name.clone(), bytes: file.bytes, sha256: read_hash(&file.sha256)? })
        };
        let gap = |gap: &GapMessage| {
            Ok(Gap {
                first: gap.first,
                last: gap.last,
                previous_sha256: read_optional_hash(&gap.previous_sha256)?,
                last_sha256: read_hash(&gap.last_sha256)?,
            })
        };
        let base = |base: &BaseMessage| {
            Ok::<_, ManifestError>(Base {
                files: base.files.iter().map(file).collect::<Result<_, ManifestError>>()?,
                key_headers_bytes: base.key_headers_bytes,
                key_headers_sha256: read_hash(&base.key_headers_sha256)?,
                continues: base.continues,
                expired: base.expired.iter().map(gap).collect::<Result<_, ManifestError>>()?,
            })
        };
        let segment = |segment: &SegmentMessage| {
            let sha256 = read_hash(&segment.sha256)?;
            Ok(SegmentRef { first: segment.first, last: segment.last, bytes: segment.bytes, sha256 })
        };
        let content = match (&message.base, message.segments.is_empty()) {
            (Some(found), true) => Content::Base(base(found)?),
            (None, false) => {
                Content::Segments(message.segments.iter().map(segment).collect::<Result<_, ManifestError>>()?)
            }
            _ => return Err(ManifestError::Content("it has neither a base nor segments, or both")),
        };
        let ledger = message.ledger.as_ref().ok_or(ManifestError::Form)?;
        if message.writer.len() > WRITER_BYTES_MAX {
            return Err(ManifestError::Form);
        }
        Ok(Manifest {
            sequence: message.sequence,
            generation: message.generation,
            previous_sha256: read_optional_hash(&message.previous_sha256)?,
            head: Head::parse(&message.head).map_err(|_| ManifestError::Form)?,
            term: message.term,
            parent: message.parent.as_ref().map(|p| Parent { timeline: p.timeline, began_index: p.began_index }),
            at_ms: message.at_ms,
            clock_ms: message.clock_ms,
            content,
            ledger: LedgerRef { index: ledger.index, bytes: ledger.bytes, sha256: read_hash(&ledger.sha256)? },
            dictionaries: message.dictionaries.iter().map(read_hash).collect::<Result<_, _>>()?,
            writer: message.writer.clone(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
