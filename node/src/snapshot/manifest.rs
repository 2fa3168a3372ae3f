//! What a snapshot says it is.
//!
//! Encoded: the format version (now 1), then the prost message [`SnapshotMessage`].
//!
//! Invariants
//! - A file name is one that RocksDB gives to a file of a database, and so never leads out of a
//!   directory.
//! - Files are ascending by name, each once; their lengths add up without overflow.
//! - Each manifest has one encoding, and nothing else decodes to it. Decoding never panics.
//! - Hashes are absent in a manifest that was just made: making one costs no reading.

use std::fmt;
use std::io;
use std::path::Path;

use kura_cluster::ClusterId;
use prost::Message;

use super::MANIFEST_FILE;
use crate::raft::codec::{self, CodecError};
use crate::raft::types::{LogId, SnapshotMeta, StoredMembership};

/// The format version that this program writes, and the only one it reads.
const FORMAT: u8 = 1;
/// Bytes of an encoded manifest: some 200,000 files.
pub const MANIFEST_BYTES_MAX: usize = 15 << 20;

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Nothing there, or written by another version of this program.
    #[error("the snapshot manifest has the format version {0:?}, this program reads version 1")]
    Version(Option<u8>),
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error("the snapshot manifest has {0} bytes")]
    Length(usize),
    /// Not the message, or not in its one encoding.
    #[error("the snapshot manifest is malformed: {0}")]
    Malformed(String),
    /// The log id or membership in it.
    #[error("the snapshot manifest is malformed: {0}")]
    Codec(#[from] CodecError),
    /// A name that RocksDB does not give, in quotes as escaped.
    #[error("{0:?} is not the name of a database's file")]
    Name(String),
}

/// The name of a file in a RocksDB directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// Takes `digits.sst`, `digits.blob`, `digits.log`, `MANIFEST-digits`, `OPTIONS-digits` and
    /// `CURRENT`, with 1 to 20 digits.
    ///
    /// # Errors
    /// [`ManifestError::Name`] for everything else.
    pub fn parse(name: &str) -> Result<Self, ManifestError> {
        let is_number = |digits: &str| (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let known = name == "CURRENT"
            || name
                .split_once('.')
                .is_some_and(|(number, kind)| is_number(number) && matches!(kind, "sst" | "blob" | "log"))
            || name
                .split_once('-')
                .is_some_and(|(kind, number)| is_number(number) && matches!(kind, "MANIFEST" | "OPTIONS"));
        if known { Ok(Self(name.into())) } else { Err(ManifestError::Name(name.into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether RocksDB never changes the file once it is complete, so that two directories may share it.
    pub fn is_immutable(&self) -> bool {
        self.0.ends_with(".sst") || self.0.ends_with(".blob")
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the directory.
    pub name: FileName,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, once computed.
    pub sha256: Option<[u8; 32]>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotManifest {
    /// 16 random bytes, drawn for this snapshot.
    pub snapshot_id: [u8; 16],
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The cluster's fence number.
    pub timeline: u64,
    /// The last entry applied to it.
    pub last_log_id: Option<LogId>,
    /// The last membership applied to it.
    pub membership: StoredMembership,
    /// The digest of its tables.
    pub state_digest: [u8; 32],
    /// Its files, ascending by name.
    pub files: Vec<SnapshotFile>,
}

/// One file as it is written.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileMessage {
    /// See [`FileName::parse`].
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its length.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// 32 bytes, or none if not yet computed.
    #[prost(bytes = "vec", tag = "3")]
    pub sha256: Vec<u8>,
}

/// A manifest as it is written.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotMessage {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub snapshot_id: Vec<u8>,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub cluster_id: Vec<u8>,
    /// The cluster's fence number.
    #[prost(uint64, tag = "3")]
    pub timeline: u64,
    /// As the log encodes it; empty if nothing was applied.
    #[prost(bytes = "vec", tag = "4")]
    pub last_log_id: Vec<u8>,
    /// As the log encodes it, with the entry that it came from.
    #[prost(bytes = "vec", tag = "5")]
    pub membership: Vec<u8>,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub state_digest: Vec<u8>,
    /// Ascending by name.
    #[prost(message, repeated, tag = "7")]
    pub files: Vec<FileMessage>,
}

impl SnapshotManifest {
    /// The manifest of a checkpoint's directory, with a new id. Looks at names and lengths only.
    ///
    /// # Errors
    /// The file system's, or `InvalidData` if there is anything that RocksDB does not put there
    /// (but for a manifest of ours).
    pub fn for_directory(
        directory: &Path,
        cluster_id: ClusterId,
        timeline: u64,
        last_log_id: Option<LogId>,
        membership: &StoredMembership,
        state_digest: [u8; 32],
    ) -> io::Result<Self> {
        let refused = |error: ManifestError| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == MANIFEST_FILE {
                continue;
            }
            let metadata = entry.metadata()?;
            if !metadata.is_file() {
                return Err(refused(ManifestError::Name(name.into_owned())));
            }
            let name = FileName::parse(&name).map_err(refused)?;
            files.push(SnapshotFile { name, bytes: metadata.len(), sha256: None });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            snapshot_id: rand::random(),
            cluster_id,
            timeline,
            last_log_id,
            membership: membership.clone(),
            state_digest,
            files,
        })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Whether every file's hash is known.
    pub fn is_hashed(&self) -> bool {
        self.files.iter().all(|file| file.sha256.is_some())
    }

    /// What openraft wants to know of it.
    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }

    /// Encodes the manifest.
    pub fn encode(&self) -> Vec<u8> {
        let message = SnapshotMessage {
            snapshot_id: self.snapshot_id.to_vec(),
            cluster_id: self.cluster_id.0.to_vec(),
            timeline: self.timeline,
            last_log_id: self.last_log_id.map(codec::encode_log_id).unwrap_or_default(),
            membership: codec::encode_stored_membership(&self.membership),
            state_digest: self.state_digest.to_vec(),
            files: self
                .files
                .iter()
                .map(|file| FileMessage {
                    name: file.name.as_str().into(),
                    bytes: file.bytes,
                    sha256: file.sha256.map(Vec::from).unwrap_or_default(),
                })
                .collect(),
        };
        let mut out = vec![FORMAT];
        out.extend(message.encode_to_vec());
        out
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// Anything but the one encoding of a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Length(bytes.len()));
        }
        let Some((&FORMAT, body)) = bytes.split_first() else {
            return Err(ManifestError::Version(bytes.first().copied()));
        };
        let message = SnapshotMessage::decode(body).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        if message.encode_to_vec() != body {
            return Err(ManifestError::Malformed("not in its canonical encoding".into()));
        }
        let last_log_id = match &message.last_log_id[..] {
            [] => None,
            bytes => Some(codec::decode_log_id(bytes)?),
        };
        let files = message.files.iter().map(take_file).collect::<Result<Vec<_>, _>>()?;
        if !files.is_sorted_by(|a, b| a.name < b.name) {
            return Err(ManifestError::Malformed("files are not ascending".into()));
        }
        if files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes)).is_none() {
            return Err(ManifestError::Malformed("files are longer than any disk".into()));
        }
        Ok(Self {
            snapshot_id: exactly("snapshot id", &message.snapshot_id)?,
            cluster_id: ClusterId(exactly("cluster id", &message.cluster_id)?),
            timeline: message.timeline,
            last_log_id,
            membership: codec::decode_stored_membership(&message.membership)?,
            state_digest: exactly("state digest", &message.state_digest)?,
            files,
        })
    }
}

fn take_file(file: &FileMessage) -> Result<SnapshotFile, ManifestError> {
    let sha256 = match &file.sha256[..] {
        [] => None,
        bytes => Some(exactly("file's hash", bytes)?),
    };
    Ok(SnapshotFile { name: FileName::parse(&file.name)?, bytes: file.bytes, sha256 })
}

fn exactly<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], ManifestError> {
    bytes.try_into().map_err(|_| ManifestError::Malformed(format!("{field} has {} bytes, not {N}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::types::{Member, Membership, log_id};

    fn manifest() -> SnapshotManifest {
        let members = BTreeMap::from([(1, Member { name: "a".into(), ..Member::default() })]);
        let membership = Membership::new(vec![BTreeSet::from([1])], members).unwrap();
        let file = |name: &str, bytes, sha256| SnapshotFile { name: FileName::parse(name).unwrap(), bytes, sha256 };
        SnapshotManifest {
            snapshot_id: [1; 16],
            cluster_id: ClusterId([2; 16]),
            timeline: 3,
            last_log_id: Some(log_id(4, 5)),
            membership: StoredMembership::new(Some(log_id(4, 2)), membership),
            state_digest: [6; 32],
            files: vec![file("000007.sst", 300, Some([8; 32])), file("CURRENT", 16, None)],
        }
    }

    kura_fuzz::target!(
        /// Only the one encoding of a manifest is taken.
        fuzz_manifests,
        vec![manifest().encode()],
        |bytes| {
            if let Ok(manifest) = SnapshotManifest::decode(bytes) {
                assert_eq!(manifest.encode(), bytes);
                assert!(manifest.files.iter().all(|file| !file.name.as_str().contains('/')));
            }
        }
    );

    fn message() -> SnapshotMessage {
        SnapshotMessage::decode(&manifest().encode()[1..]).unwrap()
    }

    fn decode(message: &SnapshotMessage) -> Result<SnapshotManifest, ManifestError> {
        SnapshotManifest::decode(&[&[FORMAT][..], &message.encode_to_vec()].concat())
    }

    #[test]
    fn frozen_encoding() {
        let expected = [
            "01",
            "0a10",
            &"01".repeat(16),
            "1210",
            &"02".repeat(16),
            "1803",
            "2211",
            "01",
            "0000000000000004",
            "0000000000000005",
            "2a42",
            "01",
            "01",
            "0000000000000004",
            "0000000000000002",
            "0a030a0101",
            "1229",
            "0801",
            "120161",
            "2001",
            "2a20",
            &"00".repeat(32),
            "3220",
            &"06".repeat(32),
            "3a31",
            "0a0a3030303030372e737374",
            "10ac02",
            "1a20",
            &"08".repeat(32),
            "3a0b",
            "0a0743555252454e54",
            "1010",
        ];
        assert_eq!(kura_cluster::hexadecimal(manifest().encode()), expected.concat());
        assert_eq!(SnapshotManifest::decode(&manifest().encode()), Ok(manifest()));
        assert_eq!(manifest().bytes(), 316);
        assert!(!manifest().is_hashed());
    }

    #[test]
    fn malformed_manifests_are_refused() {
        let whole = manifest().encode();
        let mut decodable = 0;
        for end in 0..whole.len() {
            if let Ok(shorter) = SnapshotManifest::decode(&whole[..end]) {
                // Cut between two files. The message that carries it would be cut, too.
                assert!(shorter.files.len() < manifest().files.len(), "{end}");
                decodable += 1;
            }
        }
        assert_eq!(decodable, manifest().files.len());
        assert!(SnapshotManifest::decode(&[&whole[..], &[0]].concat()).is_err());
        // A field that this version does not know.
        assert!(SnapshotManifest::decode(&[&whole[..], &[0x40, 1]].concat()).is_err());
        assert_eq!(SnapshotManifest::decode(&[2, 0]), Err(ManifestError::Version(Some(2))));
        let long = vec![FORMAT; MANIFEST_BYTES_MAX + 1];
        assert_eq!(SnapshotManifest::decode(&long), Err(ManifestError::Length(long.len())));
        assert!(decode(&message()).is_ok());
        let changes: [fn(&mut SnapshotMessage); 9] = [
            |m| m.snapshot_id.push(0),
            |m| m.cluster_id.clear(),
            |m| m.state_digest.truncate(31),
            |m| m.last_log_id.truncate(16),
            |m| m.membership.clear(),
            |m| m.files.swap(0, 1),
            |m| m.files[1] = m.files[0].clone(),
            |m| m.files[0].sha256.truncate(31),
            |m| m.files.iter_mut().for_each(|file| file.bytes = u64::MAX),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = message();
            change(&mut changed);
            assert!(decode(&changed).is_err(), "change {number}");
        }
    }

    #[test]
    fn only_names_that_rocksdb_gives() {
        for name in ["1.sst", "000012.blob", "000003.log", "MANIFEST-000004", "OPTIONS-7", "CURRENT"] {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
            let mut changed = message();
            changed.files.truncate(1);
            changed.files[0].name = name.into();
            assert!(decode(&changed).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "/",
            "../1.sst",
            "/1.sst",
            "a/1.sst",
            "1.sst/",
            "1.sst\0",
            ".sst",
            "x.sst",
            "1.sst.sst",
            "1.SST",
            "+1.sst",
            "MANIFEST-",
            "MANIFEST-1-2",
            "MANIFEST-../1",
            "CURRENT.dbtmp",
            "LOCK",
            "IDENTITY",
            "kura-snapshot",
            "123456789012345678901.sst",
        ] {
            assert_eq!(FileName::parse(name), Err(ManifestError::Name(name.into())));
            let mut changed = message();
            changed.files.truncate(1);
            changed.files[0].name = name.into();
            assert_eq!(decode(&changed), Err(ManifestError::Name(name.into())));
        }
    }

    #[test]
    fn a_directory_is_described_without_reading_its_files() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [("CURRENT", "x"), ("000007.sst", "four"), (MANIFEST_FILE, "ours")] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let describe = || {
            let SnapshotManifest { cluster_id, timeline, last_log_id, membership, state_digest, .. } = manifest();
            SnapshotManifest::for_directory(
                directory.path(),
                cluster_id,
                timeline,
                last_log_id,
                &membership,
                state_digest,
            )
        };
        let found = describe().unwrap();
        let files: Vec<_> = found.files.iter().map(|f| (f.name.as_str(), f.bytes, f.sha256)).collect();
        assert_eq!(files, [("000007.sst", 4, None), ("CURRENT", 1, None)]);
        assert_ne!(found.snapshot_id, describe().unwrap().snapshot_id);
        let SnapshotManifest { snapshot_id, files, .. } = found.clone();
        assert_eq!(found, SnapshotManifest { snapshot_id, files, ..manifest() });
        std::fs::write(directory.path().join("stranger"), "").unwrap();
        assert!(describe().is_err());
    }
}
