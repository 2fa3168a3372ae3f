//! Being left behind: a member of a former timeline that sees the certificate of a later one takes no part any more,
//! now and after every restart.
//!
//! The certificate lies in the file `fenced` of the data directory, as the cluster row has it (protobuf). Whoever
//! shows one need not be trusted: the recovery key, which the member knows from its first day, has signed it.

use std::io::Write;
use std::path::Path;

use kura_cluster::row::TimelineCertificate;
use kura_cluster::timeline::timeline_is_signed;
use prost::Message;

use crate::identity::NodeIdentity;
use crate::raft::marks::sync_directory;

/// Its name.
const FILE: &str = "fenced";

/// What a member that was left behind says.
pub fn words(identity: &NodeIdentity, certificate: &TimelineCertificate) -> String {
    format!(
        "this node is of timeline {}, and the cluster has gone on without it on timeline {} since log index {}: it \
         serves nothing any more. Keep its directory until `kura recover salvage` has looked at it, then join anew",
        identity.timeline, certificate.timeline, certificate.began_index
    )
}

/// Whether a certificate leaves this member behind: of a later timeline than the one on which it was made or joined,
/// and signed by the recovery key.
pub fn leaves_behind(identity: &NodeIdentity, certificate: &TimelineCertificate) -> bool {
    certificate.timeline > identity.timeline
        && timeline_is_signed(&identity.recovery_public_key, &identity.cluster_id, certificate)
}

/// The certificate that a member was shown, if one was.
///
/// # Errors
/// A note that cannot be read, or is damaged: it was written by somebody who was left behind, and is no reason
/// to go on.
pub fn read(data: &Path) -> std::io::Result<Option<TimelineCertificate>> {
    match std::fs::read(data.join(FILE)) {
        Ok(bytes) => TimelineCertificate::decode(&bytes[..]).map(Some).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes it durably: every later start refuses.
///
/// # Errors
/// What the system says.
pub fn note(data: &Path, certificate: &TimelineCertificate) -> std::io::Result<()> {
    let path = data.join(FILE);
    let aside = path.with_extension("new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(&certificate.encode_to_vec())?;
    file.sync_all()?;
    std::fs::rename(&aside, &path)?;
    sync_directory(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::StoredMembership;
    use kura_cluster::ClusterId;
    use kura_cluster::timeline::{recovery_public_key, sign_timeline};

    #[test]
    fn only_a_later_timeline_by_the_known_key_leaves_behind() {
        let (key, other) = (crate::random::key(), crate::random::key());
        let identity = NodeIdentity {
            cluster_id: ClusterId([3; 16]),
            cluster_name: "kita".into(),
            raft_id: 2,
            name: "voter-2".into(),
            timeline: 1,
            recovery_public_key: recovery_public_key(&key),
            membership: StoredMembership::default(),
        };
        let certificate = |timeline, key| {
            let mut certificate = TimelineCertificate { timeline, began_index: 9, ..Default::default() };
            sign_timeline(key, &identity.cluster_id, &mut certificate);
            certificate
        };
        assert!(leaves_behind(&identity, &certificate(2, &key)));
        assert!(!leaves_behind(&identity, &certificate(1, &key)), "its own");
        assert!(!leaves_behind(&identity, &certificate(2, &other)), "somebody else's");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        note(folder.path(), &certificate(2, &key)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(certificate(2, &key)));
        std::fs::write(folder.path().join(FILE), [0xff; 3]).unwrap();
        assert!(read(folder.path()).is_err(), "a damaged note is no leave to start");
    }
}
