//! Who this data directory belongs to: cluster, Raft id, name; and whom it trusts from its first start:
//! the recovery key, and the members of the day on which it joined. Written once by `init` or `join`.

use std::io;
use std::path::{Path, PathBuf};

use kura_cluster::ClusterId;
use kura_cluster::timeline::{RecoveryPublicKey, Trust};
use prost::Message;

use crate::raft::codec;
use crate::raft::types::StoredMembership;

const FORMAT: u32 = 1;
const FILE: &str = "identity";

/// Why the identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// There is none: the node was neither made by `init` nor joined.
    #[error("{path} does not exist: run `kura init` (first voter) or `kura join` first")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{path} exists: this data directory belongs to a member already")]
    Exists {
        /// Where it lies.
        path: PathBuf,
    },
    /// It is not in a known form.
    #[error("{path} is not in a known form")]
    Form {
        /// Where it lies.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Where it lies.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A member's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its name for people.
    pub cluster_name: String,
    /// The Raft id, never reused.
    pub raft_id: u64,
    /// The node's name.
    pub name: String,
    /// Timeline at which it joined.
    pub timeline: u64,
    /// Certifies the cluster's timelines.
    pub recovery_public_key: RecoveryPublicKey,
    /// The membership when it joined: who may lead it until its own log says more. Empty for the first.
    pub membership: StoredMembership,
}

#[derive(Clone, PartialEq, Message)]
struct IdentityMessage {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    cluster_id: Vec<u8>,
    #[prost(string, tag = "3")]
    cluster_name: String,
    #[prost(uint64, tag = "4")]
    raft_id: u64,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(uint64, tag = "6")]
    timeline: u64,
    #[prost(bytes = "vec", tag = "7")]
    recovery_public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    membership: Vec<u8>,
}

impl NodeIdentity {
    /// Reads the identity of a data directory.
    pub fn read(data: &Path) -> Result<NodeIdentity, IdentityFileError> {
        let path = data.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityFileError::Missing { path }),
            Err(source) => return Err(IdentityFileError::File { path, source }),
        };
        let message = IdentityMessage::decode(&bytes[..]).ok().filter(|m| m.format == FORMAT && m.raft_id != 0);
        let message = message.ok_or_else(|| IdentityFileError::Form { path: path.clone() })?;
        let form = || IdentityFileError::Form { path: path.clone() };
        let cluster_id = ClusterId::from_slice(&message.cluster_id).map_err(|_| form())?;
        let recovery_public_key = message.recovery_public_key[..].try_into().map_err(|_| form())?;
        let membership = codec::decode_stored_membership(&message.membership).map_err(|_| form())?;
        Ok(NodeIdentity {
            cluster_id,
            cluster_name: message.cluster_name,
            raft_id: message.raft_id,
            name: message.name,
            timeline: message.timeline,
            recovery_public_key,
            membership,
        })
    }

    /// Whose state this member may hold.
    pub fn trust(&self) -> Trust {
        Trust { cluster_id: self.cluster_id, recovery_public_key: self.recovery_public_key }
    }

    /// Whether a data directory has an identity.
    pub fn exists(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    /// Where it lies.
    pub fn path(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// Makes a data directory, which only its owner may open.
    pub fn make_directory(data: &Path) -> Result<(), IdentityFileError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
        made.and_then(|()| keep_private(data))
            .map_err(|source| IdentityFileError::File { path: data.to_owned(), source })
    }

    /// Writes the identity of a new member, making the data directory.
    pub fn write(&self, data: &Path) -> Result<(), IdentityFileError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        NodeIdentity::make_directory(data)?;
        let path = data.join(FILE);
        let message = IdentityMessage {
            format: FORMAT,
            cluster_id: self.cluster_id.0.to_vec(),
            cluster_name: self.cluster_name.clone(),
            raft_id: self.raft_id,
            name: self.name.clone(),
            timeline: self.timeline,
            recovery_public_key: self.recovery_public_key.to_vec(),
            membership: codec::encode_stored_membership(&self.membership),
        };
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&message.encode_to_vec())?;
            file.sync_all()?;
            std::fs::File::open(data)?.sync_all()
        };
        write().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => IdentityFileError::Exists { path: path.clone() },
            _ => IdentityFileError::File { path: path.clone(), source },
        })
    }
}

/// Lets nobody but the owner into a data directory, whatever made it: what lies below need not care.
///
/// # Errors
/// What the system says.
pub fn keep_private(data: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(data)?.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_is_written_once_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        assert!(matches!(NodeIdentity::read(&data), Err(IdentityFileError::Missing { .. })));
        let identity = NodeIdentity {
            cluster_id: ClusterId([3; 16]),
            cluster_name: "kumamoto".into(),
            raft_id: 2,
            name: "voter-2".into(),
            timeline: 0,
            recovery_public_key: [4; 32],
            membership: StoredMembership::default(),
        };
        identity.write(&data).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        keep_private(&data).unwrap();
        assert_eq!(mode(&data), 0o700, "also one that was made by an older version");
        assert_eq!(NodeIdentity::read(&data).unwrap(), identity);
        assert!(matches!(identity.write(&data), Err(IdentityFileError::Exists { .. })));
        std::fs::write(data.join(FILE), b"\xff").unwrap();
        assert!(matches!(NodeIdentity::read(&data), Err(IdentityFileError::Form { .. })));
    }
}
