//! Makes a state at rest the only member of a new timeline, offline: what a take-over and a restore end with.
//!
//! The state keeps its rows. On top of them lie, at the next log index, the timeline's certificate, the only
//! member's row, what is served, and the journal entry that tells of it; at the one after, the membership. The log
//! begins empty behind both, as it does on a member that installed a snapshot. So openraft finds what it knows:
//! an applied membership of one voter, a log purged up to it, and a vote of its term. No entry of the log is
//! rewritten, and no learner has to be made a voter by a vote that nobody can give.
//!
//! Invariants
//! - Nobody begins a timeline without a certificate by the recovery key that the state itself names.
//! - The identity is written last: a directory without one starts nothing, and the work can be done anew on a
//!   fresh copy.
//! - The term is above every one that the source knew, so that log ids go on rising.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::apply::Batch;
use kura_cluster::command::JournalAppend;
use kura_cluster::consent::Basis;
use kura_cluster::row::{
    ActorRow, ClusterRow, JournalEntry, MemberRow, RowKey, ServiceRow, StoredRow, Table, TimelineCertificate,
};
use kura_cluster::seal::{Domain, Key, RowContext, RowName, index_hash, open_row, row, seal_row};
use kura_cluster::timeline::{Trust, check_successor, recovery_public_key, sign_timeline};
use kura_cluster::word::{Action, ActorKind, ServiceLevel};
use kura_cluster::{ClusterId, Command, Outcome, Revision};
use openraft::storage::RaftLogStorage;
use prost::Message;

use crate::gateway::attempt::JOURNAL_PREFIX;
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::init::{InitError, log_identity, write_recovery_ca};
use crate::raft::codec;
use crate::raft::log_store::LogStore;
use crate::raft::open::OpenError;
use crate::raft::types::{LogId, Member, MemberRole, Membership, NodeId, StoredMembership, Vote, log_id};
use crate::random::Nonces;
use crate::state::database::Progress;
use crate::state::{Database, DatabaseError, StateStore, first_database, use_first_database};
use crate::vault::{Vault, VaultError};

/// Name of the file with the members of the former timeline (a stored membership, docs/formats.md): they are told,
/// wherever they come back.
pub const FORMER_MEMBERS_FILE: &str = "former-members";

/// Members that a cluster can ever have approved.
const MEMBERS_MAX: usize = 10_000;

/// Why a state was not made the only member of a new timeline. The directory is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The state has no entry applied, no cluster row, or rows that do not open.
    #[error("the state's {0} is missing or not in a known form")]
    Form(&'static str),
    /// The state is of another cluster, or the certificate is not one that may follow.
    #[error("the timeline's certificate does not fit: {0}")]
    Timeline(#[from] kura_cluster::timeline::TimelineError),
    /// The certificate is of another index or for another key than this rewriting.
    #[error("the timeline's certificate names another {0}")]
    Certificate(&'static str),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// See [`OpenError`].
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The new log could not be written.
    #[error("the new log: {0}")]
    LogWrite(std::io::Error),
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The recovery CA's certificate could not be written.
    #[error(transparent)]
    Files(#[from] InitError),
    /// A file could not be written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The state refused the first command of the timeline.
    #[error("the timeline's first command was answered {0}")]
    Refused(String),
}

/// The one who begins a timeline, and why.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// The node's name, as in its certificate of role voter.
    pub name: String,
    /// Host and port at which others will reach it.
    pub address: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    pub key_sha256: [u8; 32],
    /// Highest term that the source of the state knows: of its vote or its last entry.
    pub term: u64,
    /// What is served at first.
    pub level: ServiceLevel,
    /// What the journal says of it: a take-over or a restore, from where, and what was waived. No participant's
    /// identifiers: every auditor reads it.
    pub object: String,
    /// Why, in the words of whoever did it.
    pub reason: String,
    /// When, by this machine's clock.
    pub at_ms: u64,
}

/// A timeline that was begun.
#[derive(Debug, Clone)]
pub struct Began {
    /// The only member.
    pub identity: NodeIdentity,
    /// The index at which the timeline begins; the last one of the former is the one before.
    pub began_index: u64,
    /// The last entry of the former timeline.
    pub former: LogId,
    /// Digest of the whole state after it.
    pub state_digest: [u8; 32],
    /// Position of its journal entry.
    pub journal_position: u64,
    /// Who the members were before.
    pub former_members: StoredMembership,
}

/// The certificate of the timeline that follows on a state at rest. `recovery` is the recovery key, see
/// [`open_recovery`](crate::custody::open_recovery).
///
/// # Errors
/// [`RewriteError::Form`] without anything applied, or [`RewriteError::Timeline`] if the key is another cluster's.
pub fn certify(
    database: &Database,
    recovery: &Key,
    beginning: &Beginning,
) -> Result<TimelineCertificate, RewriteError> {
    let (applied, _, _) = database.progress()?;
    let applied = applied.ok_or(RewriteError::Form("last applied entry"))?;
    let row = database.cluster_row()?.ok_or(RewriteError::Form("cluster row"))?;
    let cluster_id = ClusterId::from_slice(&row.cluster_id).map_err(|_| RewriteError::Form("cluster id"))?;
    Trust { cluster_id, recovery_public_key: recovery_public_key(recovery) }.check_row(&row)?;
    let newest = row.timelines.last().map_or(0, |certificate| certificate.timeline);
    let mut certificate = TimelineCertificate {
        timeline: newest + 1,
        began_index: applied.index + 1,
        at_ms: beginning.at_ms,
        voters: vec![Bytes::copy_from_slice(&beginning.key_sha256)],
        signature: Bytes::new(),
    };
    sign_timeline(recovery, &cluster_id, &mut certificate);
    Ok(certificate)
}

/// Makes the state under `data` the only member of the timeline that `certificate` is for. `database` is that state,
/// open, at rest, in the place that [`first_database`] tells, and durable afterwards; `data` holds no log and no
/// identity yet. `root` opens its keyring.
///
/// # Errors
/// [`RewriteError`].
pub async fn begin_timeline(
    data: &Path,
    database: Database,
    root: &Arc<Key>,
    certificate: &TimelineCertificate,
    beginning: &Beginning,
) -> Result<Began, RewriteError> {
    if NodeIdentity::exists(data) {
        return Err(IdentityFileError::Exists { path: data.join("identity") }.into());
    }
    if database.directory() != first_database(data)? {
        return Err(RewriteError::Form("place"));
    }
    let before = database.cluster_row()?.ok_or(RewriteError::Form("cluster row"))?;
    let cluster_id = ClusterId::from_slice(&before.cluster_id).map_err(|_| RewriteError::Form("cluster id"))?;
    let recovery_public_key =
        before.recovery_public_key[..].try_into().map_err(|_| RewriteError::Form("recovery key"))?;
    let store = StateStore::at_rest(database)?;
    let vault = Vault::unseal(root.clone(), cluster_id, &store)?;
    let database = store.database();
    let (applied, former_members, mut summary) = database.progress()?;
    let former = applied.ok_or(RewriteError::Form("last applied entry"))?;
    let row =
        ClusterRow { timelines: [&before.timelines[..], std::slice::from_ref(certificate)].concat(), ..before.clone() };
    check_successor(Some(&before), &row)?;
    if certificate.began_index != former.index + 1 {
        return Err(RewriteError::Certificate("log index"));
    }
    if certificate.voters != [Bytes::copy_from_slice(&beginning.key_sha256)] {
        return Err(RewriteError::Certificate("key"));
    }

    let members = Members::read(&database, &vault, &former_members)?;
    let raft_id = members.highest + 1;
    let member = Member {
        name: beginning.name.clone(),
        address: beginning.address.clone(),
        role: MemberRole::Voter,
        key_sha256: beginning.key_sha256,
        next_key_sha256: None,
    };
    let command = first_command(&vault, &members, &row, &member, raft_id, beginning);

    let term = former.committed_leader_id().term.max(beginning.term) + 1;
    let last = log_id(term, former.index + 2);
    summary.timeline = certificate.timeline;
    let mut batch = Batch::new(&*database, summary);
    let committed = match batch.apply(former.index + 1, &command.encode_to_vec().into())? {
        Outcome::Committed(committed) => committed,
        other => return Err(RewriteError::Refused(format!("{other:?}"))),
    };
    let (summary, rows) = batch.finish();
    let voters = vec![BTreeSet::from([raft_id])];
    let membership = Membership::new(voters, BTreeMap::from([(raft_id, member)]))
        .map_err(|error| RewriteError::Refused(error.to_string()))?;
    let membership = StoredMembership::new(Some(last), membership);
    database.write(rows.iter(), &Progress { applied: Some(last), membership: Some(&membership), summary: &summary })?;
    database.flush()?;
    use_first_database(data)?;

    let identity = NodeIdentity {
        cluster_id,
        cluster_name: before.name.clone(),
        raft_id,
        name: beginning.name.clone(),
        timeline: certificate.timeline,
        recovery_public_key,
        membership: StoredMembership::default(),
    };
    begin_log(data, &identity, term, last).await?;
    let path = data.join(FORMER_MEMBERS_FILE);
    crate::serve::checks::write(&path, &codec::encode_stored_membership(&former_members))
        .map_err(|source| RewriteError::File { path, source })?;
    if !before.recovery_ca_certificate.is_empty() {
        write_recovery_ca(data, &before.recovery_ca_certificate)?;
    }
    identity.write(data)?;
    Ok(Began {
        identity,
        began_index: former.index + 1,
        former,
        state_digest: kura_cluster::apply::state_digest(&summary),
        journal_position: committed.journal_first,
        former_members,
    })
}

/// An empty log behind the last entry, with a vote of its term: as after a snapshot was installed.
async fn begin_log(data: &Path, identity: &NodeIdentity, term: u64, last: LogId) -> Result<(), RewriteError> {
    let mut log = LogStore::open(&data.join("log"), log_identity(identity), &[])?;
    log.save_vote(&Vote::new(term, identity.raft_id)).await.map_err(RewriteError::LogWrite)?;
    log.purge(last).await.map_err(RewriteError::LogWrite)?;
    log.save_committed(Some(last)).await.map_err(RewriteError::LogWrite)?;
    // Votes are answered when they are safe, and after everything before them.
    log.save_vote(&Vote::new(term, identity.raft_id)).await.map_err(RewriteError::LogWrite)
}

/// Every member ever approved.
struct Members {
    highest: NodeId,
    /// Revisions of their rows, by key.
    revisions: BTreeMap<RowKey, Revision>,
}

impl Members {
    fn read(database: &Database, vault: &Vault, stored: &StoredMembership) -> Result<Members, RewriteError> {
        let mut highest = stored.membership().nodes().map(|(id, _)| *id).max().unwrap_or(0);
        let rows = database.snapshot().scan(&RowKey::whole_table(Table::Member), None, MEMBERS_MAX)?;
        let mut revisions = BTreeMap::new();
        for (key, row) in rows {
            let member = open_member(vault, &key, &row).ok_or(RewriteError::Form("member row"))?;
            highest = highest.max(member.raft_id);
            revisions.insert(key, row.header.revision);
        }
        Ok(Members { highest, revisions })
    }
}

fn open_member(vault: &Vault, key: &RowKey, stored: &StoredRow) -> Option<MemberRow> {
    let keyring = vault.epoch(row::peek_header(&stored.value).ok()?.key_version)?;
    let context = RowContext {
        cluster_id: &vault.cluster_id(),
        name: RowName::Full(key.as_bytes()),
        supersedes: stored.header.replaced,
        open_part_sha256: None,
    };
    let plain = open_row(&keyring.registry, keyring.epoch, &context, &stored.value).ok()?;
    MemberRow::decode(&plain[..]).ok()
}

/// The timeline's first command.
fn first_command(
    vault: &Vault,
    members: &Members,
    row: &ClusterRow,
    member: &Member,
    raft_id: NodeId,
    beginning: &Beginning,
) -> Command {
    let cluster_id = vault.cluster_id();
    let keyring = vault.keyring();
    let mut nonces = Nonces::new();
    let mut command = Command::new(beginning.at_ms);
    command.put(&RowKey::cluster(), row.encode_to_vec());
    let service = ServiceRow { level: beginning.level.number(), by: member.name.clone(), at_ms: beginning.at_ms };
    command.put(&RowKey::service(), service.encode_to_vec());

    let approved = MemberRow {
        name: member.name.clone(),
        role: 1,
        raft_id,
        key_sha256: Bytes::copy_from_slice(&member.key_sha256),
        operator: "recovery".into(),
        registrar: "recovery".into(),
        address: member.address.clone(),
        approved_ms: beginning.at_ms,
        ..MemberRow::default()
    };
    let key = RowKey::member(&index_hash(&keyring.index, Domain::Member, &[member.name.as_bytes()]));
    let supersedes = members.revisions.get(&key).copied().unwrap_or(Revision::ABSENT);
    let name = RowName::Full(key.as_bytes());
    let context = RowContext { cluster_id: &cluster_id, name, supersedes, open_part_sha256: None };
    let plain = approved.encode_to_vec();
    command.put(&key, seal_row(&keyring.registry, keyring.epoch, &context, &nonces.take(), &plain));

    let entry = JournalEntry {
        at_ms: beginning.at_ms,
        actor: Some(ActorRow { kind: ActorKind::Recovery.number(), name: member.name.clone(), ..ActorRow::default() }),
        action: Action::Recover.number(),
        basis: Basis::Cluster.number(),
        object: beginning.object.clone(),
        reason: beginning.reason.clone(),
        gateway: member.name.clone(),
        ..JournalEntry::default()
    };
    let name = RowName::Prefix(&JOURNAL_PREFIX);
    let context = RowContext { cluster_id: &cluster_id, name, supersedes: Revision::ABSENT, open_part_sha256: None };
    let entry = seal_row(&keyring.journal, keyring.epoch, &context, &nonces.take(), &entry.encode_to_vec());
    command.journal.push(JournalAppend { entry: entry.into(), index: vec![] });
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::{NewRecovery, NoPeers};
    use crate::raft::network::NetworkFactory;
    use crate::raft::types::{Applied, CommandBytes, Raft};
    use crate::state::StateMachine;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    fn member(name: &str, role: MemberRole) -> Member {
        Member { name: name.into(), address: "127.0.0.1:1".into(), role, key_sha256: [1; 32], next_key_sha256: None }
    }

    /// The state of a backup: three voters and itself as the learner, and nothing of a log.
    fn backup(data: &Path, recovery: &NewRecovery, root: &Key) -> Database {
        let identity = NodeIdentity {
            cluster_id: ClusterId([7; 16]),
            cluster_name: "kita".into(),
            raft_id: 1,
            name: "voter-1".into(),
            timeline: 0,
            recovery_public_key: recovery_public_key(&recovery.keys.timelines),
            membership: StoredMembership::default(),
        };
        let voter = member("voter-1", MemberRole::Voter);
        let command = crate::init::first_command(&identity, root, recovery, &voter, 3_600_000).encode_to_vec();
        let database = Database::open(&first_database(data).unwrap()).unwrap();
        let mut batch = Batch::new(&database, Default::default());
        assert!(matches!(batch.apply(4, &command.into()).unwrap(), Outcome::Committed(_)));
        let (summary, rows) = batch.finish();
        let nodes: BTreeMap<u64, Member> = [(1, MemberRole::Voter), (2, MemberRole::Voter), (9, MemberRole::Backup)]
            .map(|(id, role)| (id, member(&format!("node-{id}"), role)))
            .into();
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        let membership = StoredMembership::new(Some(log_id(3, 4)), membership);
        let progress = Progress { applied: Some(log_id(3, 4)), membership: Some(&membership), summary: &summary };
        database.write(rows.iter(), &progress).unwrap();
        database
    }

    fn beginning() -> Beginning {
        Beginning {
            name: "lone".into(),
            address: "127.0.0.1:2".into(),
            key_sha256: [8; 32],
            term: 5,
            level: ServiceLevel::Closed,
            object: "take-over".into(),
            reason: "test".into(),
            at_ms: crate::clock::now_ms(),
        }
    }

    async fn start(data: &Path, identity: &NodeIdentity) -> (Raft<StateMachine>, StateStore) {
        let log = LogStore::open(&data.join("log"), log_identity(identity), &[]).unwrap();
        let machine = StateMachine::open(data, identity.trust(), log.watch().synced()).unwrap();
        let store = machine.store();
        let network = NetworkFactory::new(
            identity.raft_id,
            identity.cluster_id,
            Arc::new(NoPeers),
            Arc::new(NoPeers),
            Arc::default(),
            Arc::default(),
            Arc::default(),
        );
        (crate::raft::start::start(identity.raft_id, network, log, machine).await.unwrap(), store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_learner_becomes_the_only_voter_and_leads_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let (recovery, root) = (NewRecovery::draw("kita").unwrap(), Arc::new(crate::random::key()));
        let database = backup(data, &recovery, &root);
        // What is written in place is neither the former nor the new after a power cut.
        let files = [FORMER_MEMBERS_FILE, crate::init::RECOVERY_CA_FILE].map(|name| data.join(name));
        let before = files.clone().map(|file| file.with_extension("before"));
        for (file, before) in files.iter().zip(&before) {
            std::fs::write(file, "before").unwrap();
            std::fs::hard_link(file, before).unwrap();
        }
        let beginning = beginning();
        let certificate = certify(&database, &recovery.keys.timelines, &beginning).unwrap();
        assert_eq!((certificate.timeline, certificate.began_index), (1, 5));
        let began = begin_timeline(data, database, &root, &certificate, &beginning).await.unwrap();
        assert_eq!((began.identity.raft_id, began.former), (10, log_id(3, 4)), "an id that nobody had");
        assert_eq!(NodeIdentity::read(data).unwrap(), began.identity);
        for (file, before) in files.iter().zip(&before) {
            assert!(std::fs::read(file).unwrap().len() > 10, "{}", file.display());
            assert_eq!(std::fs::read(before).unwrap(), b"before", "{} is written in place", file.display());
        }

        let mut index = 0;
        for _ in 0..2 {
            let (raft, store) = start(data, &began.identity).await;
            raft.runtime_config().elect(true);
            raft.wait(Some(SOON)).current_leader(10, "the only member leads").await.unwrap();
            let command = Command::new(crate::clock::now_ms()).encode_to_vec();
            let done = raft.client_write(CommandBytes(command.into())).await.unwrap();
            assert!(matches!(done.data, Applied(Some(Outcome::Committed(c))) if c.revision.timeline == 1));
            assert!(done.log_id.index > index.max(6), "{}", done.log_id);
            assert!(done.log_id.committed_leader_id().term > 5);
            index = done.log_id.index;
            let published = store.published();
            assert_eq!(published.membership.membership().voter_ids().collect::<Vec<_>>(), [10]);
            assert_eq!(published.membership.membership().nodes().count(), 1, "nobody of before is a member");
            raft.shutdown().await.unwrap();
            store.database().flush().unwrap();
        }
        let database = Database::open(&crate::state::current_database(data).unwrap()).unwrap();
        assert_eq!(database.cluster_row().unwrap().unwrap().timelines.len(), 2);
        let service = database.row(&RowKey::service()).unwrap().unwrap();
        assert_eq!(ServiceRow::decode(service.value).unwrap().level, ServiceLevel::Closed.number());
    }

    /// What a beginning is refused with, once the certificate or what it is for was changed.
    async fn refused(
        data: &Path,
        recovery: &NewRecovery,
        root: &Arc<Key>,
        change: impl FnOnce(&mut TimelineCertificate, &mut Beginning),
    ) -> String {
        let mut beginning = beginning();
        let database = backup(data, recovery, root);
        let mut certificate = certify(&database, &recovery.keys.timelines, &beginning).unwrap();
        change(&mut certificate, &mut beginning);
        let refused = begin_timeline(data, database, root, &certificate, &beginning).await.unwrap_err();
        assert!(!NodeIdentity::exists(data), "{refused}");
        refused.to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_timeline_begins_without_its_certificate_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let (recovery, root) = (NewRecovery::draw("kita").unwrap(), Arc::new(crate::random::key()));
        let (other, cluster) = (NewRecovery::draw("kita").unwrap(), ClusterId([7; 16]));
        let at = |name: &str| folder.path().join(name);
        let words = refused(&at("unsigned"), &recovery, &root, |certificate, _| certificate.at_ms += 1).await;
        assert!(words.contains("no certificate by the recovery key"), "{words}");
        let other_folder = at("other");
        let words = refused(&other_folder, &recovery, &root, |certificate, _| {
            sign_timeline(&other.keys.timelines, &cluster, certificate);
        });
        let words = words.await;
        assert!(words.contains("no certificate by the recovery key"), "{words}");
        let index_folder = at("index");
        let words = refused(&index_folder, &recovery, &root, |certificate, _| {
            certificate.began_index += 1;
            sign_timeline(&recovery.keys.timelines, &cluster, certificate);
        });
        let words = words.await;
        assert!(words.contains("another log index"), "{words}");
        let words = refused(&at("key"), &recovery, &root, |_, beginning| beginning.key_sha256 = [9; 32]).await;
        assert!(words.contains("another key"), "{words}");

        let (data, beginning) = (at("root"), beginning());
        let database = backup(&data, &recovery, &root);
        let certificate = certify(&database, &recovery.keys.timelines, &beginning).unwrap();
        assert!(certify(&database, &other.keys.timelines, &beginning).is_err(), "another cluster's recovery key");
        let wrong = Arc::new(crate::random::key());
        let refused = begin_timeline(&data, database, &wrong, &certificate, &beginning).await.unwrap_err();
        assert!(matches!(refused, RewriteError::Vault(VaultError::WrongRootKey)), "{refused}");
        assert!(!NodeIdentity::exists(&data));
    }
}
