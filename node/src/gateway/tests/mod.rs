//! Gateways over one voter in this process: real log, real state, the commands as they are; no network.

mod accesses;
mod acts;
mod aliases;
mod alike;
mod consents;
mod custody;
mod damaged;
mod drill;
mod edges;
mod emergency;
mod erasure;
mod fence;
mod history;
mod inbox;
mod journal;
mod leaderless;
mod levels;
mod limits;
mod looks;
mod low_space;
mod members;
mod oneself;
mod puts;
mod recheck;
mod records;
mod redated;
mod repeated;
mod rewrap;
mod rotation;
mod salvage;
mod two_people;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use kura_cluster::consent::Settings;
use kura_cluster::id::RecordId;
use kura_cluster::row::{JournalEntry, RecordControl, RowKey, SettingsRow, Table};
use kura_cluster::seal::Domain;
use kura_cluster::timeline::recovery_public_key;
use kura_cluster::word::Action;
use kura_cluster::{ClusterId, Outcome};
use kura_proto::v1;
use prost::Message;
use sha2::Digest;
use tempfile::TempDir;

use super::attempt::Attempt;
use super::group::Group;
use super::propose::{LeaderLink, Proposer};
use super::stage::{Begun, Upload};
use super::{Caller, Gateway, GatewayError};
use crate::certificates::{Identity, Role, Serial};
use crate::identity::NodeIdentity;
use crate::init::{NewRecovery, NoPeers, first_command, log_identity};
use crate::raft::log_store::LogStore;
use crate::raft::network::NetworkFactory;
use crate::raft::types::{CommandBytes, Member, MemberRole, NodeId, Raft};
use crate::random;
use crate::reach::Reach;
use crate::snapshot::{FileHashes, Transfers};
use crate::space::{Marks, Space};
use crate::state::{StateMachine, StateStore};
use crate::vault::Vault;

const PATIENCE: Duration = Duration::from_secs(30);
const NUMBER: &str = "0043001234567890";
const HOSPITAL: &str = "hospital-01";
const DOCTOR: &str = "doctor-1";
const BLOCK_BYTES: usize = 1 << 20;

/// Waits until the clock shows another millisecond: what is told as of a time, and the order of a queue, are told
/// by the millisecond.
fn next_millisecond() {
    let began = crate::clock::now_ms();
    while crate::clock::now_ms() == began {
        std::thread::yield_now();
    }
}

/// The only voter leads; there is nobody to forward to.
struct NoLink;

impl LeaderLink for NoLink {
    fn channel(&self, _: NodeId) -> Option<tonic::transport::Channel> {
        None
    }
}

/// A voter with a hospital, its doctor, and a participant who names it.
struct Storehouse {
    raft: Raft<StateMachine>,
    store: StateStore,
    vault: super::propose::VaultSlot,
    space: Arc<Space>,
    /// The way to the leader that every test may use.
    proposer: Proposer,
    folder: TempDir,
}

impl Storehouse {
    async fn new() -> Storehouse {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let recovery = NewRecovery::draw("kita").unwrap();
        let identity = NodeIdentity {
            cluster_id: ClusterId(random::id()),
            cluster_name: "kita".into(),
            raft_id: 1,
            name: "voter-1".into(),
            timeline: 0,
            recovery_public_key: recovery_public_key(&recovery.keys.timelines),
            membership: Default::default(),
        };
        identity.write(data).unwrap();
        let log = LogStore::open(&data.join("log"), log_identity(&identity), &[]).unwrap();
        let machine = StateMachine::open(data, identity.trust(), log.watch().synced()).unwrap();
        let store = machine.store();
        let (transfers, hashes) = (Arc::new(Transfers::default()), Arc::new(FileHashes::default()));
        let (nobody, heads) = (Arc::new(NoPeers), Arc::default());
        let network = NetworkFactory::new(1, identity.cluster_id, nobody.clone(), nobody, transfers, hashes, heads);
        let raft = crate::raft::start::start(1, network, log, machine).await.unwrap();
        let member = Member {
            name: identity.name.clone(),
            address: "127.0.0.1:1".into(),
            role: MemberRole::Voter,
            key_sha256: [1; 32],
            next_key_sha256: None,
        };
        raft.initialize(BTreeMap::from([(1, member.clone())])).await.unwrap();
        raft.runtime_config().elect(true);
        raft.wait(Some(PATIENCE)).current_leader(1, "the only voter leads").await.unwrap();
        let root = random::key();
        let first = first_command(
            &identity,
            &root,
            &recovery,
            &member,
            kura_cluster::apply::Summary::default().request_window_ms,
        )
        .encode_to_vec();
        raft.client_write(CommandBytes(first.into())).await.unwrap();
        let vault = Vault::unseal(Arc::new(root), identity.cluster_id, &store).unwrap();
        let vault = Arc::new(ArcSwapOption::from_pointee(vault));
        let proposer = Proposer::start(raft.clone(), Group::start(raft.clone()), 1, Arc::new(NoLink), vault.clone());
        let space = Arc::new(Space::new(data, Marks { low_bytes: 0, reserve_bytes: 0 }));
        let storehouse = Storehouse { raft, store, vault, space, proposer, folder };
        storehouse.settle().await;
        storehouse
    }

    /// A gateway that remembers nothing yet.
    fn gateway(&self) -> Arc<Gateway> {
        self.gateway_through(self.proposer.clone())
    }

    fn gateway_through(&self, proposer: Proposer) -> Arc<Gateway> {
        let (store, vault, space) = (self.store.clone(), self.vault.clone(), self.space.clone());
        let gateway = Gateway::new("voter-1".into(), store, vault, proposer, space, Arc::new(Reach::default()));
        gateway.clock_offset_ms.store(0, std::sync::atomic::Ordering::Relaxed);
        Arc::new(gateway)
    }

    async fn settle(&self) {
        let gateway = self.gateway();
        let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
        let facility = v1::Facility {
            id: HOSPITAL.into(),
            name: "hospital".into(),
            kind: 1,
            status: 1,
            access_line: 1,
            ..Default::default()
        };
        let put = v1::PutFacilityRequest { request: request(), facility: Some(facility), ..Default::default() };
        gateway.put_facility(&registrar, put).await.unwrap();
        let user = v1::User {
            id: DOCTOR.into(),
            facility: HOSPITAL.into(),
            name: "doctor".into(),
            profession: 1,
            status: 1,
            ..Default::default()
        };
        let put = v1::PutUserRequest { request: request(), user: Some(user), ..Default::default() };
        gateway.put_user(&registrar, put).await.unwrap();
        let application = v1::Application {
            name: "karte".into(),
            access_line: 1,
            facilities: vec![HOSPITAL.into()],
            status: 1,
            ..Default::default()
        };
        let put =
            v1::PutApplicationRequest { request: request(), application: Some(application), ..Default::default() };
        let act_id = gateway.put_application(&registrar, put).await.unwrap().act_id;
        let second = Caller::parse(another_identity(Role::Registrar, "ueda"), None).unwrap();
        let asked = v1::ListActsRequest { act_id: act_id.clone(), ..Default::default() };
        let payload = gateway.list_acts(&second, asked).await.unwrap().acts.remove(0).payload;
        let payload_sha256 = Bytes::copy_from_slice(&sha2::Sha256::digest(&payload));
        let confirm = v1::ConfirmActRequest { request: request(), act_id, payload_sha256 };
        gateway.confirm_act(&second, confirm).await.unwrap();
        let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 1".into(), ..Default::default() };
        let enrol =
            v1::EnrolRequest { actor: None, request: request(), participant: NUMBER.into(), consent: Some(consent) };
        gateway.enrol(&doctor(), enrol).await.unwrap();
        let grant = v1::GrantRequest {
            actor: None,
            request: request(),
            participant: NUMBER.into(),
            facility: HOSPITAL.into(),
            evidence: "paper 1".into(),
        };
        gateway.grant(&doctor(), grant).await.unwrap();
    }

    /// The root key that opens the state.
    fn root(&self) -> Arc<kura_cluster::seal::Key> {
        self.vault.load_full().unwrap().root().clone()
    }

    /// Commits a draft as it is.
    async fn commit(&self, attempt: Attempt<'_>) {
        let command = attempt.command.encode_to_vec().into();
        drop(attempt);
        let proposed = self.proposer.propose(command, Instant::now() + PATIENCE).await.unwrap();
        assert!(matches!(proposed.outcome, Outcome::Committed(_)), "{proposed:?}");
        assert!(self.store.applied(proposed.index, Instant::now() + PATIENCE).await);
    }

    /// Changes a row of the registry as it is; one that is not there is made.
    async fn edit<T: Message + Default + Clone + 'static>(&self, key: &RowKey, change: impl FnOnce(&mut T)) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let loaded = attempt.load::<T>(key).unwrap();
        let mut row = loaded.value.map(|row| (*row).clone()).unwrap_or_default();
        change(&mut row);
        attempt.put(key, loaded.revision, &row);
        self.commit(attempt).await;
    }

    /// Changes a record's control row as it is.
    async fn edit_control(&self, record_id: &Bytes, change: impl FnOnce(&mut RecordControl)) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let known = attempt.participant(&super::participant::number(NUMBER).unwrap()).unwrap().unwrap();
        let record = RecordId::from_slice(record_id).unwrap();
        let home = attempt.home(&known, &record).unwrap();
        let data = attempt.data_key(&home.pseudonym, home.key_version).unwrap();
        let key = RowKey::record_control(&home.pseudonym, &record);
        let loaded = attempt.load_of::<RecordControl>(&key, &home.pseudonym).unwrap();
        let mut row = (*loaded.value.unwrap()).clone();
        change(&mut row);
        attempt.put_with(&key, &data, loaded.revision, &row);
        self.commit(attempt).await;
    }

    /// The same, of a row under a keyed hash.
    async fn edit_hashed<T: Message + Default + Clone + 'static>(
        &self,
        (table, domain): (Table, Domain),
        parts: &[&str],
        change: impl FnOnce(&mut T),
    ) {
        let gateway = self.gateway();
        let hash = Attempt::begin(&gateway, &JournalEntry::default()).unwrap().hash(domain, parts);
        self.edit(&RowKey::hashed(table, &hash), change).await;
    }

    /// Changes the settings.
    async fn set(&self, change: impl FnOnce(&mut Settings)) {
        let change = |row: &mut SettingsRow| {
            let mut settings = Settings::default();
            change(&mut settings);
            *row = settings.to_row();
        };
        self.edit(&RowKey::setting("network"), change).await;
    }

    /// The journal as auditors see it, oldest first, without their own looks.
    async fn journalled(&self) -> Vec<v1::Access> {
        let gateway = self.gateway();
        let page = v1::JournalPage { oldest_first: true, limit: 1_000, ..Default::default() };
        let request = v1::JournalRequest { page: Some(page), ..Default::default() };
        let mut found = gateway.list_journal(&auditor(), request).await.unwrap().accesses;
        found.retain(|entry| entry.action != Action::ListJournal.number());
        found
    }

    async fn close(self) {
        self.raft.shutdown().await.unwrap();
        drop(self.folder);
    }
}

fn identity(role: Role, name: &str) -> Arc<Identity> {
    Arc::new(Identity {
        role,
        name: name.into(),
        cluster: None,
        fingerprint: [2; 32],
        key_sha256: [3; 32],
        not_after: i64::MAX,
        serial: Serial { issuer: [4; 32], number: vec![5] },
    })
}

/// An identity with another certificate and another key.
fn another_identity(role: Role, name: &str) -> Arc<Identity> {
    Arc::new(Identity { fingerprint: [6; 32], key_sha256: [7; 32], ..(*identity(role, name)).clone() })
}

/// The hospital's doctor, stated by its application.
fn doctor() -> Caller {
    let actor = v1::Actor {
        kind: 1,
        facility: HOSPITAL.into(),
        name: DOCTOR.into(),
        method: 1,
        authenticated_ms: crate::clock::now_ms(),
        ..Default::default()
    };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

/// The participant, stated by the same application.
fn participant() -> Caller {
    let actor = v1::Actor { kind: 2, name: NUMBER.into(), method: 2, authenticated_ms: 1, ..Default::default() };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

fn auditor() -> Caller {
    Caller::parse(identity(Role::Auditor, "goto"), None).unwrap()
}

/// A fresh request id.
fn request() -> Option<v1::RequestId> {
    let mut id = crate::clock::now_ms().to_be_bytes()[2..].to_vec();
    id.extend_from_slice(&random::id()[..10]);
    Some(v1::RequestId { id: id.into() })
}

fn record() -> v1::NewRecord {
    v1::NewRecord { class: 6, media_type: "application/dicom".into(), clinical_day: 20_000, ..Default::default() }
}

fn begin(request: Option<v1::RequestId>) -> v1::PutBegin {
    v1::PutBegin { request, participant: NUMBER.into(), record: Some(record()), ..Default::default() }
}

fn part() -> v1::PutPart {
    v1::PutPart { name: "body".into(), media_type: "application/dicom".into() }
}

/// Bytes that tell their place.
fn body(length: usize) -> Bytes {
    (0..length.div_ceil(8) as u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

fn uploading(begun: Result<Begun<'_>, GatewayError>) -> Box<Upload<'_>> {
    match begun {
        Ok(Begun::Upload(upload)) => upload,
        Ok(Begun::Known(_)) => panic!("the request was used before"),
        Err(error) => panic!("{error}"),
    }
}

/// Everything of a record's version, and what is told with it.
async fn read(gateway: &Arc<Gateway>, record_id: &Bytes, version: u32) -> (v1::RecordHeader, Vec<u8>) {
    let get =
        v1::GetRequest { participant: NUMBER.into(), record_id: record_id.clone(), version, ..Default::default() };
    let (header, mut reading) = gateway.read(&doctor(), get).await.unwrap();
    let mut bytes = header.data.to_vec();
    while let Some(chunk) = reading.next().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    (header, bytes)
}
