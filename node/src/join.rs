//! Joining a cluster: asks its members for the Raft id that was approved for this node.

mod there;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kura_client::tls::{ChannelOptions, ClientTls, Endpoint, EndpointError, TlsFileError};
use kura_cluster::ClusterId;
use kura_cluster::archive::Sha256Hash;
use kura_cluster::row::ClusterRow;
use kura_cluster::timeline::{TimelineError, Trust};
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use prost::Message;
use tonic::{Code, Status};
use zeroize::Zeroize;

use crate::archive::ArchiveStore;
use crate::archive::replay::Tell;
use crate::certificates::Role;
use crate::config::{NodeConfig, RootKeyConfig};
use crate::identity::{IdentityFileError, NodeIdentity, keep_private};
use crate::init::{InitError, own_identity, write_recovery_ca};
use crate::raft::codec;
use crate::seed::{self, Grounds, SeedError};
use crate::vault::{VaultError, read_root_key, write_root_key};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub use there::{Approved, There};

/// What a joining node was given.
#[derive(Debug, Clone)]
pub struct JoinReport {
    /// Its Raft id.
    pub raft_id: u64,
    /// The cluster's name.
    pub cluster_name: String,
    /// Where the root key was put; voters only.
    pub root_key: Option<PathBuf>,
    /// The last log entry that it was seeded with, if it was.
    pub seeded_index: Option<u64>,
    /// The keys that signed what it was seeded with.
    pub seed_signed_by: BTreeSet<Sha256Hash>,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The configuration names nobody to ask.
    #[error("peers: name at least one member to ask")]
    NoPeers,
    /// A voter's configuration names no root key file, or a backup's names one.
    #[error("root_key: {0}")]
    RootKey(&'static str),
    /// A name or address of `peers` cannot be asked.
    #[error("peers: {0}")]
    Peer(EndpointError),
    /// Nobody answered with an id: an approval is missing, or is of another certificate.
    #[error("no member let this node join: {0}")]
    Refused(String),
    /// No member could be asked, or none that answers can do it now.
    #[error("no member could be asked: {0}")]
    Unreached(String),
    /// A member's answer makes no sense.
    #[error("{peer} answered with a malformed {what}")]
    Answer {
        /// Who.
        peer: String,
        /// Which field.
        what: &'static str,
    },
    /// A member says that it is on a timeline that the recovery key has not certified.
    #[error("{peer}: {source}")]
    Timeline {
        /// Who.
        peer: String,
        /// What is wrong.
        source: TimelineError,
    },
    /// See [`TlsFileError`].
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// See [`InitError::Certificate`].
    #[error(transparent)]
    Certificate(#[from] InitError),
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The data directory belongs to a member already.
    #[error("{0}")]
    There(Box<There>),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A root key's file is there, of another cluster or of before a rotation.
    #[error("root_key: {path} is there already and holds another key than this cluster's: it is not overwritten")]
    OtherRootKey {
        /// The configured file.
        path: PathBuf,
    },
    /// A voter takes its state from voters.
    #[error("only a backup member is seeded from an archive: a voter takes its state from voters")]
    SeededVoter,
    /// See [`SeedError`].
    #[error("not seeded: {0}")]
    Seed(#[from] SeedError),
}

/// An archive with which a new backup member is seeded, and where it is shown how that goes.
pub struct SeedFrom<'a> {
    /// The archive.
    pub store: &'a ArchiveStore,
    /// Keys (SHA-256 of SubjectPublicKeyInfo) that may have signed it, beside the members' own.
    pub signers: Vec<Sha256Hash>,
    /// See [`Tell`].
    pub tell: Tell<'a>,
}

/// Joins: writes the identity into the data directory and, for a voter, the root key into its file. A backup may be
/// seeded from an archive first ([`crate::seed`]).
pub async fn join(config: &NodeConfig, seed_from: Option<SeedFrom<'_>>) -> Result<JoinReport, JoinError> {
    let own = own_identity(&config.tls.certificate, &config.name)?;
    if seed_from.is_some() && own.role != Role::Backup {
        return Err(JoinError::SeededVoter);
    }
    let root_file = match (own.role, &config.root_key) {
        (Role::Voter, Some(RootKeyConfig::File(path))) => Some(path.clone()),
        // Handed over once it is served, and kept in memory alone.
        (Role::Voter, Some(RootKeyConfig::Credential(_) | RootKeyConfig::Shares)) => None,
        (Role::Voter, None) => {
            return Err(JoinError::RootKey("a voter's configuration must name a file, a credential or shares"));
        }
        (_, Some(_)) => return Err(JoinError::RootKey("a backup member holds no keys; remove the line")),
        (_, None) => None,
    };
    let tls = ClientTls::load(config.tls_files())?;
    if NodeIdentity::exists(&config.data) {
        return Err(JoinError::There(Box::new(There::look(config, &tls).await?)));
    }
    let (mut answers, mut is_refused) = (Vec::new(), false);
    for peer in &config.peers {
        let endpoint = Endpoint { name: peer.name.clone(), address: peer.address.clone() };
        match join_through(config, &tls, &endpoint, root_file.as_ref(), seed_from.as_ref()).await {
            Ok(report) => return Ok(report),
            Err(JoinError::Refused(why)) => {
                is_refused = true;
                answers.push(why);
            }
            Err(JoinError::Unreached(why)) => answers.push(why),
            Err(error) => return Err(error),
        }
    }
    Err(match answers.join("; ") {
        _ if answers.is_empty() => JoinError::NoPeers,
        answers if is_refused => JoinError::Refused(answers),
        answers => JoinError::Unreached(answers),
    })
}

/// What a member answered that did not let the node join; or that none was reached, or that it may be asked again.
fn not_let(name: &str, status: &Status) -> JoinError {
    let why = format!("{name}: {}", status.message());
    match status.code() {
        Code::PermissionDenied | Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument => {
            JoinError::Refused(why)
        }
        _ => JoinError::Unreached(why),
    }
}

async fn join_through(
    config: &NodeConfig,
    tls: &Arc<ClientTls>,
    endpoint: &Endpoint,
    root_file: Option<&PathBuf>,
    seed_from: Option<&SeedFrom<'_>>,
) -> Result<JoinReport, JoinError> {
    let channel = tls.channel(endpoint, &ChannelOptions::default()).map_err(JoinError::Peer)?;
    let mut client = PeerClient::new(channel);
    let mut request = tonic::Request::new(v1::JoinRequest { name: config.name.clone() });
    request.set_timeout(CALL_TIMEOUT);
    let reply = client.join(request).await.map_err(|status| not_let(&endpoint.name, &status))?.into_inner();
    let malformed = |what| JoinError::Answer { peer: endpoint.name.clone(), what };
    let cluster_id = ClusterId::from_slice(&reply.cluster_id).map_err(|_| malformed("cluster id"))?;
    if reply.raft_id == 0 {
        return Err(malformed("Raft id"));
    }
    let row = ClusterRow::decode(reply.cluster_row.clone()).map_err(|_| malformed("cluster row"))?;
    let recovery_public_key = row.recovery_public_key[..].try_into().map_err(|_| malformed("recovery key"))?;
    let trust = Trust { cluster_id, recovery_public_key };
    trust
        .check_state(Some(&row), reply.timeline)
        .map_err(|source| JoinError::Timeline { peer: endpoint.name.clone(), source })?;
    let membership = codec::decode_stored_membership(&reply.membership).map_err(|_| malformed("membership"))?;
    if let Some(path) = root_file {
        let request = v1::RootKeyRequest { name: config.name.clone(), cluster_id: reply.cluster_id.clone() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let handed = client.hand_root_key(request).await.map_err(|status| not_let(&endpoint.name, &status))?;
        let mut bytes: [u8; 32] = handed.into_inner().root_key[..].try_into().map_err(|_| malformed("root key"))?;
        let key = kura_cluster::seal::Key::from_bytes(&mut bytes);
        bytes.zeroize();
        // Somebody's perhaps only copy is not taken for this cluster's.
        match read_root_key(path)? {
            None => write_root_key(path, &key)?,
            Some(there) if there == key => {}
            Some(_) => return Err(JoinError::OtherRootKey { path: path.clone() }),
        }
    }
    let (mut seeded_index, mut seed_signed_by) = (None, BTreeSet::new());
    if let Some(SeedFrom { store, signers, tell }) = seed_from {
        std::fs::create_dir_all(&config.data)
            .and_then(|()| keep_private(&config.data))
            .map_err(|source| IdentityFileError::File { path: config.data.clone(), source })?;
        let members = membership.membership().nodes().flat_map(|(_, member)| member.keys());
        let signers = signers.iter().copied().chain(members).collect();
        let grounds = Grounds { trust: &trust, timeline: reply.timeline, signers };
        let (seed, signed_by) = seed::sow(store, &config.data, &grounds, *tell).await?;
        // An archive of the same writers may be this member's to go on with.
        crate::archive::signers::keep(&config.data, &signed_by)
            .map_err(|source| IdentityFileError::File { path: config.data.clone(), source })?;
        (seeded_index, seed_signed_by) = (Some(seed.index), signed_by);
    }
    let identity = NodeIdentity {
        cluster_id,
        cluster_name: reply.cluster_name.clone(),
        raft_id: reply.raft_id,
        name: config.name.clone(),
        timeline: reply.timeline,
        recovery_public_key,
        membership,
    };
    identity.write(&config.data)?;
    if !row.recovery_ca_certificate.is_empty() {
        write_recovery_ca(&config.data, &row.recovery_ca_certificate)?;
    }
    Ok(JoinReport {
        raft_id: reply.raft_id,
        cluster_name: reply.cluster_name,
        root_key: root_file.cloned(),
        seeded_index,
        seed_signed_by,
    })
}
