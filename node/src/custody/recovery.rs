//! What a recovery needs besides the root key, opened from any member's data directory: the recovery key, which
//! certifies timelines, and the recovery CA. The node must not run.

use std::path::Path;

use kura_cluster::keyring::RecoveryKeys;
use kura_cluster::row::{KeyringRow, RowKey, Table};
use kura_cluster::seal::Key;
use kura_cluster::timeline::{Trust, recovery_public_key};
use prost::Message;
use rustls_pki_types::CertificateDer;

use super::Known;
use crate::certificates::{Authority, RecoveryAuthorityError};
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::state::{Database, DatabaseError, current_database};

/// Why the recovery's keys were not opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The state has no keyring, or none in a known form.
    #[error("the state holds no keyring in a known form")]
    NoKeyring,
    /// It is another root key, or the shares of another set.
    #[error("the keyring does not open with this root key: it belongs to another cluster or was rotated")]
    WrongRootKey,
    /// The opened key is not the one that the member trusts.
    #[error("the recovery key in the keyring is not the one that this member was made with")]
    OtherKey,
    /// See [`RecoveryAuthorityError`].
    #[error(transparent)]
    Authority(#[from] RecoveryAuthorityError),
}

/// The recovery's keys, opened.
#[derive(Debug)]
pub struct Recovery {
    /// Whose directory it is.
    pub identity: NodeIdentity,
    /// Certifies timelines.
    pub timelines: Key,
    /// Signs certificates for nodes and people.
    pub authority: Authority,
    /// The sets of shares that the state knows, to gather shares by.
    pub known: Known,
}

/// Opens them. `root` comes from a provider, or from [`Gathering`](kura_cluster::share::Gathering) over shares
/// of a set that [`Known::read`] tells.
///
/// # Errors
/// [`RecoveryError`].
pub fn open_recovery(data: &Path, root: &Key) -> Result<Recovery, RecoveryError> {
    let identity = NodeIdentity::read(data)?;
    let database = Database::open(&current_database(data)?)?;
    let known = Known::read(&database)?;
    let Unwrapped { timelines, authority } = unwrap_recovery(&database, &identity.trust(), root)?;
    Ok(Recovery { identity, timelines, authority, known })
}

/// The recovery's keys of a database that is open already.
#[derive(Debug)]
pub struct Unwrapped {
    /// Certifies timelines.
    pub timelines: Key,
    /// Signs certificates for nodes and people.
    pub authority: Authority,
}

/// Opens the recovery's keys in a database's newest keyring, and holds them against what a member trusts.
///
/// # Errors
/// [`RecoveryError`].
pub fn unwrap_recovery(database: &Database, trust: &Trust, root: &Key) -> Result<Unwrapped, RecoveryError> {
    let rows = database.snapshot().scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX)?;
    let (_, newest) = rows.last().ok_or(RecoveryError::NoKeyring)?;
    let row = KeyringRow::decode(newest.value.clone()).map_err(|_| RecoveryError::NoKeyring)?;
    let RecoveryKeys { timelines, authority } =
        RecoveryKeys::unwrap(root, &trust.cluster_id, &row).map_err(|_| RecoveryError::WrongRootKey)?;
    if recovery_public_key(&timelines) != trust.recovery_public_key {
        return Err(RecoveryError::OtherKey);
    }
    let cluster = database.cluster_row()?.ok_or(RecoveryError::NoKeyring)?;
    let certificate = CertificateDer::from(cluster.recovery_ca_certificate.to_vec());
    Ok(Unwrapped { timelines, authority: Authority::of_recovery(certificate, &authority)? })
}
