//! Making a cluster: offline, on the first voter.
//!
//! Draws the root key and the cluster's keys, starts a Raft of one voter without a network, and commits
//! one command as the actor `cluster`: the cluster's own row, the keyring, the first member, and the
//! journal entry that tells of it. The directory's identity comes last: with it the directory is a member's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kura_client::tls::{ClientTls, TlsFileError};
use kura_cluster::apply::Summary;
use kura_cluster::command::JournalAppend;
use kura_cluster::consent::Basis;
use kura_cluster::keyring::{Keyring, RecoveryKeys};
use kura_cluster::row::{ActorRow, ClusterRow, JournalEntry, MemberRow, ROWS_FORMAT, RowKey, TimelineCertificate};
use kura_cluster::seal::{Domain, Key, RowContext, RowName, index_hash, seal_row};
use kura_cluster::timeline::{recovery_public_key, sign_timeline};
use kura_cluster::word::{Action, ActorKind};
use kura_cluster::{ClusterId, Command, Outcome, Revision, hexadecimal};
use prost::Message;
use tonic::transport::Channel;

use crate::certificates::{Authority, Identity, RecoveryAuthorityError, Role, certificate_pem};
use crate::config::{NodeConfig, RootKeyConfig};
use crate::gateway::attempt::JOURNAL_PREFIX;
use crate::heads::Heads;
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::log_store::LogStore;
use crate::raft::marks::LogIdentity;
use crate::raft::network::{MarkSink, NetworkFactory};
use crate::raft::open::OpenError;
use crate::raft::types::{CommandBytes, Member, MemberRole, NodeId, StoredMembership};
use crate::random::{self, Nonces};
use crate::snapshot::{FileHashes, Transfers};
use crate::state::{DatabaseError, StateMachine};
use crate::vault::{VaultError, remove_if_there, write_root_key};

const FIRST_RAFT_ID: NodeId = 1;
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a new cluster is.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The name that people type.
    pub cluster_name: String,
    /// How long requests are remembered, in milliseconds: the window of the client's `outcome`.
    pub request_window_ms: u64,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct InitReport {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Where the root key lies. Whoever has it can read everything.
    pub root_key: PathBuf,
    /// Check value of the root key, to recognise a copy by.
    pub root_check_value: String,
    /// Where the recovery CA's certificate lies: for the bundle of every node and client.
    pub recovery_ca: PathBuf,
}

/// Why no cluster was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The configuration names no root key file.
    #[error(
        "root_key: the first voter's configuration must name a file for the root key; it can become a credential or shares afterwards"
    )]
    NoRootKey,
    /// The node's certificate is not a voter's, or not its own.
    #[error("the certificate {path}: {why}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate, key or authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A root key is there already.
    #[error("root_key: {path} is there already, and would be another cluster's")]
    RootKeyThere {
        /// The file.
        path: PathBuf,
    },
    /// The data directory has parts of a member, and nothing that says whose.
    #[error("{data} has parts of a cluster that was not made to its end ({parts})")]
    Cut {
        /// The data directory.
        data: PathBuf,
        /// Which, by their names.
        parts: String,
    },
    /// See [`RecoveryAuthorityError`].
    #[error(transparent)]
    Authority(#[from] RecoveryAuthorityError),
    /// The recovery CA's certificate could not be written.
    #[error("{path}: {source}")]
    RecoveryCa {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// See [`OpenError`].
    #[error(transparent)]
    Log(#[from] OpenError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The one-voter Raft did not do its part.
    #[error("the first entries could not be committed: {0}")]
    Raft(String),
}

/// Reads the certificate that a node shows, and checks that it is the node's own.
pub fn own_identity(path: &Path, name: &str) -> Result<Identity, InitError> {
    let fault = |why: String| InitError::Certificate { path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let chain = kura_client::tls::certificates(path, &pem).map_err(|error| fault(error.to_string()))?;
    let first = chain.first().ok_or_else(|| fault("holds no certificate".into()))?;
    let identity = Identity::from_der(first).map_err(|error| fault(error.to_string()))?;
    match identity.name == name {
        true => Ok(identity),
        false => Err(fault(format!("is for {}, this node is {name}", identity.name))),
    }
}

/// Makes a cluster of one voter in the configured data directory. Everything is checked first; a run that fails leaves
/// nothing behind, one that is killed what the next one names.
///
/// # Errors
/// [`InitError`].
pub async fn init(config: &NodeConfig, options: &InitOptions) -> Result<InitReport, InitError> {
    let Some(RootKeyConfig::File(root_file)) = config.root_key.clone() else { return Err(InitError::NoRootKey) };
    let certificate = own_identity(&config.tls.certificate, &config.name)?;
    if certificate.role != Role::Voter {
        let why = format!("has the role {}, the first member must be a voter", certificate.role);
        return Err(InitError::Certificate { path: config.tls.certificate.clone(), why });
    }
    ClientTls::load(config.tls_files())?;
    nothing_there(&config.data, &root_file)?;
    let recovery = NewRecovery::draw(&options.cluster_name)?;
    let identity = NodeIdentity {
        cluster_id: ClusterId(random::id()),
        cluster_name: options.cluster_name.clone(),
        raft_id: FIRST_RAFT_ID,
        name: config.name.clone(),
        timeline: 0,
        recovery_public_key: recovery_public_key(&recovery.keys.timelines),
        membership: StoredMembership::default(),
    };
    let root = random::key();
    write_root_key(&root_file, &root)?;
    match make(config, options.request_window_ms, &identity, &certificate, &recovery, &root).await {
        Ok(recovery_ca) => {
            let root_check_value = hexadecimal(root.check_value());
            Ok(InitReport { cluster_id: identity.cluster_id, root_key: root_file, root_check_value, recovery_ca })
        }
        Err(error) => {
            // What is left is named by the next run, which goes by what it finds.
            let _ = remove_if_there(&NodeIdentity::path(&config.data));
            let _ = remove_if_there(&root_file);
            for part in PARTS {
                let path = config.data.join(part);
                let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { remove_if_there(&path) };
            }
            Err(error)
        }
    }
}

/// What [`init`] makes in a data directory before the identity.
const PARTS: [&str; 4] = ["log", "state", "snapshots", RECOVERY_CA_FILE];

/// Refuses a data directory that is somebody's, or that a run which was cut has left, and a root key that is there.
fn nothing_there(data: &Path, root_file: &Path) -> Result<(), InitError> {
    if NodeIdentity::exists(data) {
        return Err(IdentityFileError::Exists { path: NodeIdentity::path(data) }.into());
    }
    let parts: Vec<&str> = PARTS.into_iter().filter(|part| data.join(part).symlink_metadata().is_ok()).collect();
    if !parts.is_empty() {
        return Err(InitError::Cut { data: data.to_owned(), parts: parts.join(", ") });
    }
    match root_file.symlink_metadata() {
        Ok(_) => Err(InitError::RootKeyThere { path: root_file.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Makes log, state and, last, the identity: with it the directory is a member's. Answers where the recovery CA's
/// certificate lies.
async fn make(
    config: &NodeConfig,
    request_window_ms: u64,
    identity: &NodeIdentity,
    certificate: &Identity,
    recovery: &NewRecovery,
    root: &Key,
) -> Result<PathBuf, InitError> {
    NodeIdentity::make_directory(&config.data)?;
    let recovery_ca = write_recovery_ca(&config.data, &recovery.certificate)?;
    let log = LogStore::open(&config.data.join("log"), log_identity(identity), &[])?;
    let machine = StateMachine::open(&config.data, identity.trust(), log.watch().synced())?;
    let store = machine.store();
    let network = NetworkFactory::new(
        FIRST_RAFT_ID,
        identity.cluster_id,
        Arc::new(NoPeers),
        Arc::new(NoPeers),
        Arc::new(Transfers::default()),
        Arc::new(FileHashes::default()),
        Arc::new(Heads::default()),
    );
    let failed = |error: &dyn std::fmt::Display| InitError::Raft(error.to_string());
    let raft = crate::raft::start::start(FIRST_RAFT_ID, network, log, machine).await.map_err(InitError::Raft)?;
    let member = Member {
        name: config.name.clone(),
        address: config.advertised().to_owned(),
        role: MemberRole::Voter,
        key_sha256: certificate.key_sha256,
        next_key_sha256: None,
    };
    raft.initialize(BTreeMap::from([(FIRST_RAFT_ID, member.clone())])).await.map_err(|e| failed(&e))?;
    raft.runtime_config().elect(true);
    raft.wait(Some(LEAD_TIMEOUT))
        .current_leader(FIRST_RAFT_ID, "the only voter leads")
        .await
        .map_err(|e| failed(&e))?;

    let command = first_command(identity, root, recovery, &member, request_window_ms);
    let response = raft.client_write(CommandBytes(command.encode_to_vec().into())).await.map_err(|e| failed(&e))?;
    match response.data.0 {
        Some(Outcome::Committed(_)) => {}
        other => return Err(InitError::Raft(format!("the first command was answered {other:?}"))),
    }
    raft.shutdown().await.map_err(|e| failed(&e))?;
    store.database().flush()?;
    identity.write(&config.data)?;
    Ok(recovery_ca)
}

/// The keys of a recovery and its CA's certificate, as a new cluster gets them.
pub(crate) struct NewRecovery {
    /// The private keys.
    pub keys: RecoveryKeys,
    /// The CA's certificate (DER).
    pub certificate: Vec<u8>,
}

impl NewRecovery {
    /// Draws them.
    pub fn draw(cluster_name: &str) -> Result<NewRecovery, RecoveryAuthorityError> {
        loop {
            let keys = RecoveryKeys { timelines: random::key(), authority: random::key() };
            match Authority::for_recovery(&keys.authority, cluster_name, time::OffsetDateTime::now_utc()) {
                Ok(certificate) => return Ok(NewRecovery { keys, certificate: certificate.to_vec() }),
                // Drawn bytes that are no key of the curve.
                Err(RecoveryAuthorityError::Key) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Name of the file with the recovery CA's certificate (PEM) in a data directory.
pub const RECOVERY_CA_FILE: &str = "recovery-ca.pem";

/// Writes the recovery CA's certificate into a data directory.
pub(crate) fn write_recovery_ca(data: &Path, der: &[u8]) -> Result<PathBuf, InitError> {
    let path = data.join(RECOVERY_CA_FILE);
    let written = crate::serve::checks::write(&path, certificate_pem(der).as_bytes());
    written.map_err(|source| InitError::RecoveryCa { path: path.clone(), source })?;
    Ok(path)
}

/// What the log's directory is bound to.
pub fn log_identity(identity: &NodeIdentity) -> LogIdentity {
    LogIdentity { cluster_id: identity.cluster_id, node_id: identity.raft_id, timeline: identity.timeline }
}

/// What makes a new log a cluster's.
pub(crate) fn first_command(
    identity: &NodeIdentity,
    root: &Key,
    recovery: &NewRecovery,
    member: &Member,
    request_window_ms: u64,
) -> Command {
    let now_ms = crate::clock::now_ms();
    let cluster_id = identity.cluster_id;
    let mut nonces = Nonces::new();
    let keyring = Keyring {
        epoch: 1,
        timeline: identity.timeline,
        registry: random::key(),
        journal: random::key(),
        command_mac: Some(random::key()),
        wrapping: Some(random::key()),
        index: random::key(),
    };
    let limits = Summary::default();
    let mut timeline = TimelineCertificate {
        timeline: 0,
        began_index: 0,
        at_ms: now_ms,
        voters: vec![Bytes::copy_from_slice(&member.key_sha256)],
        signature: Bytes::new(),
    };
    sign_timeline(&recovery.keys.timelines, &cluster_id, &mut timeline);
    let cluster = ClusterRow {
        format: ROWS_FORMAT,
        cluster_id: Bytes::copy_from_slice(&cluster_id.0),
        name: identity.cluster_name.clone(),
        request_window_ms,
        key_deletions_per_day_max: limits.key_deletions_per_day_max,
        recovery_public_key: Bytes::copy_from_slice(&identity.recovery_public_key),
        timelines: vec![timeline],
        recovery_ca_certificate: Bytes::copy_from_slice(&recovery.certificate),
    };
    let approved = MemberRow {
        name: member.name.clone(),
        role: 1,
        raft_id: FIRST_RAFT_ID,
        key_sha256: Bytes::copy_from_slice(&member.key_sha256),
        operator: "init".into(),
        registrar: "init".into(),
        address: member.address.clone(),
        approved_ms: now_ms,
        ..MemberRow::default()
    };
    let entry = JournalEntry {
        at_ms: now_ms,
        actor: Some(ActorRow { kind: ActorKind::Cluster.number(), name: member.name.clone(), ..ActorRow::default() }),
        action: Action::Init.number(),
        basis: Basis::Cluster.number(),
        object: identity.cluster_name.clone(),
        gateway: member.name.clone(),
        ..JournalEntry::default()
    };
    let context =
        |name| RowContext { cluster_id: &cluster_id, name, supersedes: Revision::ABSENT, open_part_sha256: None };
    let member_key = RowKey::member(&index_hash(&keyring.index, Domain::Member, &[member.name.as_bytes()]));
    let member_row = seal_row(
        &keyring.registry,
        1,
        &context(RowName::Full(member_key.as_bytes())),
        &nonces.take(),
        &approved.encode_to_vec(),
    );
    let entry = seal_row(
        &keyring.journal,
        1,
        &context(RowName::Prefix(&JOURNAL_PREFIX)),
        &nonces.take(),
        &entry.encode_to_vec(),
    );

    let mut command = Command::new(now_ms);
    command.expect(&RowKey::cluster(), Revision::ABSENT);
    command.put(&RowKey::cluster(), cluster.encode_to_vec());
    command.put(&RowKey::keyring(1), keyring.wrap(root, &cluster_id, &recovery.keys, || nonces.take()).encode_to_vec());
    command.put(&member_key, member_row);
    command.journal.push(JournalAppend { entry: entry.into(), index: vec![] });
    command
}

/// Nobody to talk to.
pub(crate) struct NoPeers;

impl PeerChannels for NoPeers {
    fn channel(&self, _: &Member, _: Lane) -> Result<Channel, String> {
        Err("a cluster being made has no peers".into())
    }
}

impl MarkSink for NoPeers {
    fn peer_mark(&self, _: NodeId, _: Bytes) {}

    fn kept_mark(&self, _: NodeId) -> Option<Bytes> {
        None
    }

    fn own_mark(&self) -> Bytes {
        Bytes::new()
    }

    fn opened_mark(&self) -> Bytes {
        Bytes::new()
    }
}
