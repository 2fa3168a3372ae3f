//! Being left behind: a member of a former timeline that sees the certificate of a later one takes no part any more,
//! now and after every restart.
//!
//! The certificate lies in the file `fenced` of the data directory, as the cluster row has it (protobuf). Whoever
//! shows one need not be trusted: the recovery key, which the member knows from its first day, has signed it.
//!
//! Two certificates of one timeline number are a fork: the cluster was taken over, or restored, twice from what was of the
//! same timeline. No number and no moment tells which of the two people go on with, so neither does: a member that is shown
//! the other's certificate notes it in the file `forked`, and serves nothing until people say that the other has ended.

use std::io::Write;
use std::path::Path;

use kura_cluster::row::TimelineCertificate;
use kura_cluster::timeline::timeline_is_signed;
use prost::Message;

use crate::identity::NodeIdentity;
use crate::raft::marks::sync_directory;

/// Its name.
const FILE: &str = "fenced";
/// The name of the other's certificate.
const FORKED_FILE: &str = "forked";

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

/// What a member of a forked timeline says. `what` is what it does now: "it serves nothing any more", say.
pub fn fork_words(other: &TimelineCertificate, what: &str) -> String {
    let began = time::OffsetDateTime::from_unix_timestamp((other.at_ms / 1000).cast_signed());
    let began = began.ok().and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    format!(
        "two clusters of this id are on timeline {}: the other one began at log index {}, {}. The cluster was taken over or \
         restored twice, and each would acknowledge what the other does not know: {what}",
        other.timeline,
        other.began_index,
        began.unwrap_or_else(|| "at an unknown time".into()),
    )
}

/// Whether a certificate is of another cluster on this member's own timeline: `own` is the certificate that the member's
/// state has of it.
pub fn forks(identity: &NodeIdentity, own: &TimelineCertificate, other: &TimelineCertificate) -> bool {
    other.timeline == own.timeline
        && other != own
        && timeline_is_signed(&identity.recovery_public_key, &identity.cluster_id, other)
}

/// The certificate that a member was shown, if one was.
///
/// # Errors
/// A note that cannot be read, or is damaged: it was written by somebody who was left behind, and is no reason
/// to go on.
pub fn read(data: &Path) -> std::io::Result<Option<TimelineCertificate>> {
    read_from(data, FILE)
}

/// The certificate of the other cluster on its timeline that a member was shown, if one was.
///
/// # Errors
/// As [`read`].
pub fn read_fork(data: &Path) -> std::io::Result<Option<TimelineCertificate>> {
    read_from(data, FORKED_FILE)
}

fn read_from(data: &Path, name: &str) -> std::io::Result<Option<TimelineCertificate>> {
    match std::fs::read(data.join(name)) {
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
    note_in(data, FILE, certificate)
}

/// Notes the other cluster's certificate durably: every later start refuses, until [`forget_fork`].
///
/// # Errors
/// What the system says.
pub fn note_fork(data: &Path, other: &TimelineCertificate) -> std::io::Result<()> {
    note_in(data, FORKED_FILE, other)
}

/// People say that the other cluster has ended.
///
/// # Errors
/// What the system says.
pub fn forget_fork(data: &Path) -> std::io::Result<()> {
    crate::vault::remove_if_there(&data.join(FORKED_FILE))
}

fn note_in(data: &Path, name: &str, certificate: &TimelineCertificate) -> std::io::Result<()> {
    let path = data.join(name);
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

    fn identity(key: &kura_cluster::seal::Key) -> NodeIdentity {
        NodeIdentity {
            cluster_id: ClusterId([3; 16]),
            cluster_name: "kita".into(),
            raft_id: 2,
            name: "voter-2".into(),
            timeline: 1,
            recovery_public_key: recovery_public_key(key),
            membership: StoredMembership::default(),
        }
    }

    #[test]
    fn another_certificate_of_the_own_number_is_a_fork() {
        let (key, other) = (crate::random::key(), crate::random::key());
        let identity = identity(&key);
        let certificate = |timeline, began_index, key| {
            let mut certificate = TimelineCertificate { timeline, began_index, ..Default::default() };
            sign_timeline(key, &identity.cluster_id, &mut certificate);
            certificate
        };
        let own = certificate(1, 9, &key);
        assert!(forks(&identity, &own, &certificate(1, 10, &key)));
        assert!(!forks(&identity, &own, &own), "its own");
        assert!(!forks(&identity, &own, &certificate(1, 10, &other)), "nobody's");
        assert!(!forks(&identity, &own, &certificate(2, 10, &key)), "a later one leaves it behind");
        assert!(!forks(&identity, &own, &certificate(0, 1, &key)), "an earlier one is left behind itself");
        let folder = tempfile::tempdir().unwrap();
        note_fork(folder.path(), &certificate(1, 10, &key)).unwrap();
        assert_eq!(read_fork(folder.path()).unwrap(), Some(certificate(1, 10, &key)));
        assert_eq!(read(folder.path()).unwrap(), None, "a fork is not being left behind");
        forget_fork(folder.path()).unwrap();
        assert_eq!(read_fork(folder.path()).unwrap(), None);
    }

    #[test]
    fn only_a_later_timeline_by_the_known_key_leaves_behind() {
        let (key, other) = (crate::random::key(), crate::random::key());
        let identity = identity(&key);
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
