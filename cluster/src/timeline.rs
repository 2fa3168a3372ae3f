//! Timelines: the cluster's fence numbers, each certified by the recovery key.
//!
//! The cluster's own row names the recovery key and holds the certificate of every timeline, oldest
//! first. Members pin the recovery key when they are made or join, and hold every cluster row that they
//! open, apply or are sent against it.
//!
//! Invariants
//! - A cluster row only grows: no certificate leaves it or changes, and its recovery key and CA stay.
//! - Nobody takes a state whose timeline has no certificate by the pinned key.

use bytes::Bytes;

use crate::id::ClusterId;
use crate::row::{ClusterRow, ROWS_FORMAT, TimelineCertificate};
use crate::seal::Key;

/// Timelines that a cluster can have.
pub const TIMELINES_MAX: usize = 1024;

/// The public half of a recovery key: Ed25519, 32 bytes.
pub type RecoveryPublicKey = [u8; 32];

/// Why a cluster row, or a timeline, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// The row is of another cluster.
    #[error("the cluster row is another cluster's")]
    OtherCluster,
    /// The row names another recovery key.
    #[error("the cluster row names another recovery key than the one that this member knows")]
    OtherKey,
    /// The rows are in another form than this version's.
    #[error("the rows are of form {found}, this version reads form {ROWS_FORMAT} alone")]
    RowsFormat {
        /// Their form.
        found: u32,
    },
    /// The new row names another recovery CA than the old one.
    #[error("the cluster row names another recovery CA than before")]
    OtherAuthority,
    /// No timeline, too many, or not ascending.
    #[error("the cluster row's timelines are none, more than {TIMELINES_MAX}, or not ascending")]
    Order,
    /// A certificate that the recovery key has not signed.
    #[error("timeline {timeline} has no certificate by the recovery key")]
    Uncertified {
        /// Which one.
        timeline: u64,
    },
    /// The new row lacks or changes a certificate that the old one had.
    #[error("the certificate of timeline {timeline} is missing or was changed")]
    Rewritten {
        /// Which one.
        timeline: u64,
    },
}

/// Whom a member belongs to, as it learnt when it was made or joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The key that certifies its timelines.
    pub recovery_public_key: RecoveryPublicKey,
}

impl Trust {
    /// Checks a cluster row: its cluster, its recovery key, and the signature of every timeline.
    ///
    /// # Errors
    /// [`TimelineError`], but for [`TimelineError::Rewritten`] and [`TimelineError::OtherAuthority`].
    pub fn check_row(&self, row: &ClusterRow) -> Result<(), TimelineError> {
        if row.cluster_id[..] != self.cluster_id.0 {
            return Err(TimelineError::OtherCluster);
        }
        if row.recovery_public_key[..] != self.recovery_public_key {
            return Err(TimelineError::OtherKey);
        }
        if row.format != ROWS_FORMAT {
            return Err(TimelineError::RowsFormat { found: row.format });
        }
        let ascending = row.timelines.is_sorted_by(|a, b| a.timeline < b.timeline);
        if !(1..=TIMELINES_MAX).contains(&row.timelines.len()) || !ascending {
            return Err(TimelineError::Order);
        }
        let signed = |certificate: &&TimelineCertificate| {
            timeline_is_signed(&self.recovery_public_key, &self.cluster_id, certificate)
        };
        match row.timelines.iter().find(|certificate| !signed(certificate)) {
            Some(certificate) => Err(TimelineError::Uncertified { timeline: certificate.timeline }),
            None => Ok(()),
        }
    }

    /// Checks a state: its cluster row, and that its timeline is one of the certified ones. A state
    /// without a cluster row is one from before the cluster's first command, on timeline 0.
    ///
    /// # Errors
    /// [`TimelineError`], but for [`TimelineError::Rewritten`].
    pub fn check_state(&self, row: Option<&ClusterRow>, timeline: u64) -> Result<(), TimelineError> {
        let certified = match row {
            Some(row) => {
                self.check_row(row)?;
                row.timelines.iter().any(|certificate| certificate.timeline == timeline)
            }
            None => timeline == 0,
        };
        if certified { Ok(()) } else { Err(TimelineError::Uncertified { timeline }) }
    }
}

/// Whether a cluster row may take the place of another (or be the first): the rule of `apply`.
///
/// # Errors
/// [`TimelineError`].
pub fn check_successor(before: Option<&ClusterRow>, after: &ClusterRow) -> Result<(), TimelineError> {
    let named = before.unwrap_or(after);
    let trust = Trust {
        cluster_id: ClusterId::from_slice(&named.cluster_id).map_err(|_| TimelineError::OtherCluster)?,
        recovery_public_key: named.recovery_public_key[..].try_into().map_err(|_| TimelineError::OtherKey)?,
    };
    let kept = before.map_or(&[][..], |before| &before.timelines);
    if let Some((_, lost)) =
        kept.iter().enumerate().find(|(place, certificate)| after.timelines.get(*place) != Some(certificate))
    {
        return Err(TimelineError::Rewritten { timeline: lost.timeline });
    }
    if named.recovery_ca_certificate != after.recovery_ca_certificate {
        return Err(TimelineError::OtherAuthority);
    }
    trust.check_row(after)
}

/// What the recovery key signs of a timeline: a tag, then every field with fixed lengths.
pub fn timeline_statement(cluster: &ClusterId, certificate: &TimelineCertificate) -> Vec<u8> {
    let mut bytes = b"kura-timeline-1".to_vec();
    bytes.extend_from_slice(&cluster.0);
    for number in [certificate.timeline, certificate.began_index, certificate.at_ms, certificate.voters.len() as u64] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for voter in &certificate.voters {
        bytes.extend_from_slice(&(voter.len() as u64).to_be_bytes());
        bytes.extend_from_slice(voter);
    }
    bytes
}

/// Signs a timeline with the private half of the recovery key (32 bytes, Ed25519 seed).
pub fn sign_timeline(recovery: &Key, cluster: &ClusterId, certificate: &mut TimelineCertificate) {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(recovery.expose_bytes());
    let signature = key.sign(&timeline_statement(cluster, certificate));
    certificate.signature = Bytes::copy_from_slice(&signature.to_bytes());
}

/// The public half of a recovery key.
pub fn recovery_public_key(recovery: &Key) -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(recovery.expose_bytes()).verifying_key().to_bytes()
}

/// Whether the recovery key signed a timeline.
pub fn timeline_is_signed(public_key: &[u8], cluster: &ClusterId, certificate: &TimelineCertificate) -> bool {
    let Ok(public_key) = public_key.try_into() else { return false };
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&public_key) else { return false };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(&certificate.signature) else { return false };
    key.verify_strict(&timeline_statement(cluster, certificate), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn key(n: u8) -> Key {
        Key::from_bytes(&mut [n; 32])
    }

    fn certificate(timeline: u64, recovery: u8) -> TimelineCertificate {
        let mut certificate = TimelineCertificate { timeline, began_index: 5 * timeline, ..Default::default() };
        sign_timeline(&key(recovery), &CLUSTER, &mut certificate);
        certificate
    }

    fn row(timelines: Vec<TimelineCertificate>) -> ClusterRow {
        ClusterRow {
            format: ROWS_FORMAT,
            cluster_id: Bytes::copy_from_slice(&CLUSTER.0),
            recovery_public_key: Bytes::copy_from_slice(&recovery_public_key(&key(6))),
            timelines,
            ..ClusterRow::default()
        }
    }

    #[test]
    fn a_timeline_is_signed_whole() {
        let cluster = ClusterId([7; 16]);
        let mut certificate =
            TimelineCertificate { timeline: 1, began_index: 5, voters: vec![vec![1; 32].into()], ..Default::default() };
        sign_timeline(&key(6), &cluster, &mut certificate);
        let public = recovery_public_key(&key(6));
        assert!(timeline_is_signed(&public, &cluster, &certificate));
        assert!(!timeline_is_signed(&public, &ClusterId([8; 16]), &certificate));
        certificate.began_index = 6;
        assert!(!timeline_is_signed(&public, &cluster, &certificate));
    }

    #[test]
    fn a_row_is_held_against_what_the_member_knows() {
        let trust = Trust { cluster_id: CLUSTER, recovery_public_key: recovery_public_key(&key(6)) };
        let good = row(vec![certificate(0, 6), certificate(1, 6)]);
        assert_eq!(trust.check_row(&good), Ok(()));
        let other = ClusterRow { cluster_id: Bytes::from_static(&[8; 16]), ..good.clone() };
        assert_eq!(trust.check_row(&other), Err(TimelineError::OtherCluster));
        // Rows of another form, earlier or later, are not read as if they were of this one.
        for found in [0, 1, ROWS_FORMAT + 1] {
            let other = ClusterRow { format: found, ..good.clone() };
            assert_eq!(trust.check_row(&other), Err(TimelineError::RowsFormat { found }));
        }
        // A row that is whole in itself, but signed by a key of someone else's.
        let mut forged = row(vec![certificate(0, 9), certificate(1, 9)]);
        forged.recovery_public_key = Bytes::copy_from_slice(&recovery_public_key(&key(9)));
        assert_eq!(check_successor(None, &forged), Ok(()));
        assert_eq!(trust.check_row(&forged), Err(TimelineError::OtherKey));
        let unsigned = row(vec![certificate(0, 6), certificate(1, 9)]);
        assert_eq!(trust.check_row(&unsigned), Err(TimelineError::Uncertified { timeline: 1 }));
        for timelines in [vec![], vec![certificate(1, 6), certificate(0, 6)], vec![certificate(0, 6); 2]] {
            assert_eq!(trust.check_row(&row(timelines)), Err(TimelineError::Order));
        }
    }

    #[test]
    fn a_state_needs_a_certificate_of_its_timeline() {
        let trust = Trust { cluster_id: CLUSTER, recovery_public_key: recovery_public_key(&key(6)) };
        let good = row(vec![certificate(0, 6), certificate(1, 6)]);
        for timeline in [0, 1] {
            assert_eq!(trust.check_state(Some(&good), timeline), Ok(()));
        }
        assert_eq!(trust.check_state(Some(&good), 2), Err(TimelineError::Uncertified { timeline: 2 }));
        // A row of another's making says nothing, whatever timelines it names.
        let unsigned = row(vec![certificate(0, 6), certificate(1, 9)]);
        assert_eq!(trust.check_state(Some(&unsigned), 0), Err(TimelineError::Uncertified { timeline: 1 }));
        assert_eq!(trust.check_state(None, 0), Ok(()));
        assert_eq!(trust.check_state(None, 1), Err(TimelineError::Uncertified { timeline: 1 }));
    }

    #[test]
    fn a_row_only_grows() {
        let before = row(vec![certificate(0, 6)]);
        assert_eq!(check_successor(None, &before), Ok(()));
        let more = row(vec![certificate(0, 6), certificate(1, 6)]);
        assert_eq!(check_successor(Some(&before), &more), Ok(()));
        assert_eq!(check_successor(Some(&more), &before), Err(TimelineError::Rewritten { timeline: 1 }));
        let mut moved = more.clone();
        moved.timelines[0] = TimelineCertificate { at_ms: 1, ..moved.timelines[0].clone() };
        assert_eq!(check_successor(Some(&before), &moved), Err(TimelineError::Rewritten { timeline: 0 }));
        let forged = row(vec![certificate(0, 6), certificate(1, 9)]);
        assert_eq!(check_successor(Some(&before), &forged), Err(TimelineError::Uncertified { timeline: 1 }));
        let mut own_key = row(vec![certificate(0, 6), certificate(1, 9)]);
        own_key.recovery_public_key = Bytes::copy_from_slice(&recovery_public_key(&key(9)));
        assert_eq!(check_successor(Some(&before), &own_key), Err(TimelineError::OtherKey));
        let other = ClusterRow { recovery_ca_certificate: Bytes::from_static(b"another CA"), ..more };
        assert_eq!(check_successor(Some(&before), &other), Err(TimelineError::OtherAuthority));
    }
}
