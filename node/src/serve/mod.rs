//! One node, put together and run until it is told to stop.
//!
//! Order of start: TLS, identity, log (refuses damage), state, openraft (not standing), services, then
//! the tasks that open what must be opened: the gate after the marks check, the vault once there is a
//! root key and a keyring, elections when both are open. Order of stop: no new calls, leadership handed
//! over, openraft stopped, state flushed.

mod alone;
mod archive;
pub mod archive_check;
pub(crate) mod checks;
mod clear;
pub mod contacts;
mod drill;
pub mod erasures;
mod error;
mod fence;
mod former;
mod handlers;
pub mod heads;
pub mod lag;
mod logging;
pub mod majority;
pub mod marks;
mod openings;
pub mod peers;
pub mod removed;
mod retention;
pub mod rewrap;
pub mod rotation;
pub mod scrub;
mod seed;
mod standing;
mod unseal;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kura_client::fork::HEADER;
use kura_client::tls::ClientTls;
use kura_cluster::row::TimelineCertificate;
use kura_proto::v1::audit_server::AuditServer;
use kura_proto::v1::consents_server::ConsentsServer;
use kura_proto::v1::erasures_server::ErasuresServer;
use kura_proto::v1::keys_server::KeysServer;
use kura_proto::v1::operations_server::OperationsServer;
use kura_proto::v1::records_server::RecordsServer;
use kura_proto::v1::registry_server::RegistryServer;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogStorage;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::util::MapResponseLayer;

use crate::archive::ArchiveTold;
use crate::certificates::{ReloadingTls, certificate_pem, tls_incoming};
use crate::clear::Clearing;
use crate::config::NodeConfig;
use crate::custody::Custody;
use crate::gateway::Gateway;
use crate::gateway::group::Group;
use crate::gateway::propose::{LeaderLink, Proposer};
use crate::heads::Heads;
use crate::identity::NodeIdentity;
use crate::init::{RECOVERY_CA_FILE, log_identity, write_recovery_ca};
use crate::raft::channels::{Lane, PeerChannels, TlsChannels};
use crate::raft::gate::Gate;
use crate::raft::log_store::{LogStore, LogWatch};
use crate::raft::network::NetworkFactory;
use crate::raft::types::{Member, NodeId, Raft};
use crate::reach::Reach;
use crate::recovery;
use crate::rpc::keys::KeysService;
use crate::rpc::operations::OperationsService;
use crate::rpc::peer::{PeerParts, PeerService, by_certificate};
use crate::rpc::{CLIENT_MESSAGE_BYTES_MAX, Services};
use crate::seed::Seed;
use crate::signature::Checker;
use crate::snapshot::{FileHashes, SnapshotReceiver, Transfers};
use crate::space::{Marks as SpaceMarks, Space};
use crate::state::{StateMachine, StateStore};

pub use error::{Said, ServeError};

/// How often certificate files are looked at.
const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How soon it is noticed that Raft has ended by itself.
const RAFT_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a stopping leader waits for its successor.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long calls in progress may take after a stop was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// What a caller may send before it is read. Each upload can hold as much here while it waits for the
/// log; 100 MB a second at a round trip of 20 ms.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The same for all calls of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How long connections may take to close after that.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// What the node's tasks share.
pub struct Node {
    /// Its configuration.
    pub config: NodeConfig,
    /// Its identity.
    pub identity: NodeIdentity,
    /// openraft.
    pub raft: Raft<StateMachine>,
    /// The state.
    pub store: StateStore,
    /// The log's own reports.
    pub log: LogWatch,
    /// Commands for the local Raft, while it leads.
    pub group: Group,
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Who may say what over the peer service.
    pub gate: Arc<Gate>,
    /// Connections to members.
    pub channels: Arc<TlsChannels>,
    /// Members' marks.
    pub marks: Arc<marks::MarkStore>,
    /// What members said last.
    pub peers: Arc<peers::Peers>,
    /// When members were heard last before this start.
    pub heard_before: contacts::Before,
    /// How far backup and archive are behind, while this node leads.
    pub lag: lag::Lag,
    /// When this node started, milliseconds since 1970.
    pub started_ms: u64,
    /// When there was a leader last.
    pub last_led: majority::LastLed,
    /// Disk space.
    pub space: Arc<Space>,
    /// Own TLS, of the port.
    pub tls: Arc<ReloadingTls>,
    /// Own TLS, towards others.
    pub client_tls: Arc<ClientTls>,
    /// Snapshots being sent.
    pub transfers: Arc<Transfers>,
    /// Snapshots being received.
    pub snapshots: Arc<SnapshotReceiver>,
    /// What was cleared from this member's files.
    pub clearing: Clearing,
    /// Heads, own and others'.
    pub heads: Arc<Heads>,
    /// How far the archive is that this node writes; `None` if it writes none.
    pub archive: Option<Arc<ArchiveTold>>,
    /// The last drill on this machine.
    pub drill: drill::LastDrill,
    /// Where the root key comes from.
    pub custody: Arc<Custody>,
    /// Why this node takes no part any more, once it is known: it ends.
    pub fenced: tokio::sync::watch::Sender<Option<fence::Left>>,
    /// What each answer names of the timeline, once there is one.
    pub timeline_header: std::sync::OnceLock<http::HeaderValue>,
    /// The certificate of another cluster on this node's timeline, once it was shown one.
    pub fork: tokio::sync::watch::Sender<Option<TimelineCertificate>>,
    /// Held from the look at the voters that there are until they are others: of two changes at once the second would
    /// undo the first.
    pub changing_members: Arc<tokio::sync::Mutex<()>>,
    /// Whether it was seen among the members.
    pub was_member: removed::WasMember,
    /// What it was seeded with, as long as nobody has borne that out.
    pub seed: tokio::sync::watch::Sender<Option<Seed>>,
    /// Checks of its own files.
    pub scrubbing: scrub::Scrubbing,
    /// Data keys that did not open when they were to be re-wrapped, while this node leads; else 0.
    pub closed_data_keys: AtomicU64,
    /// Held by whoever rotates the root key here.
    pub rotating: tokio::sync::Mutex<()>,
    /// Erasures that could not be carried on at the last look, while this node leads.
    pub erasures_failed: AtomicU64,
}

impl Node {
    /// This node's Raft id.
    pub fn id(&self) -> NodeId {
        self.identity.raft_id
    }

    /// A member by its id, in the newest membership.
    pub fn member(&self, id: NodeId) -> Option<Member> {
        self.raft.metrics().borrow_watched().membership_config.membership().get_node(&id).cloned()
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.id())
    }
}

struct Link {
    raft: Raft<StateMachine>,
    channels: Arc<dyn PeerChannels>,
}

impl LeaderLink for Link {
    fn channel(&self, node: NodeId) -> Option<tonic::transport::Channel> {
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        let member = membership.membership().get_node(&node)?;
        self.channels.channel(member, Lane::Append).ok()
    }
}

/// Every member trusts the recovery CA, whatever bundle it was given. `init` and `join` leave its certificate in the
/// data directory; where it is gone or another, the state tells it, and the next look at the files takes it up.
fn trust_recovery_ca(config: &NodeConfig, store: &StateStore) -> Result<(), ServeError> {
    let Some(row) = store.database().cluster_row()? else { return Ok(()) };
    let der = &row.recovery_ca_certificate;
    let found = std::fs::read(config.data.join(RECOVERY_CA_FILE)).unwrap_or_default();
    if der.is_empty() || found == certificate_pem(der).as_bytes() {
        return Ok(());
    }
    write_recovery_ca(&config.data, der).map(drop).map_err(|error| ServeError::Fatal(error.to_string()))
}

/// Runs a node until SIGTERM or SIGINT, or until it cannot go on.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(config: NodeConfig, said: Said) -> Result<(), ServeError> {
    logging::start(&config.log);
    forbid_core_dumps();
    let identity = NodeIdentity::read(&config.data)?;
    if identity.name != config.name {
        return Err(ServeError::OtherNode {
            data: config.data.display().to_string(),
            found: identity.name,
            expected: config.name,
        });
    }
    let fence = recovery::fence::read(&config.data);
    if let Some(certificate) = fence.map_err(|source| ServeError::Io { what: "the note of being fenced", source })?
        && recovery::fence::leaves_behind(&identity, &certificate)
    {
        return Err(ServeError::Fenced(recovery::fence::words(&identity, &certificate)));
    }
    let fork = recovery::fence::read_fork(&config.data);
    let fork = fork.map_err(|source| ServeError::Io { what: "the note of another cluster on its timeline", source })?;
    if let Some(other) = fork.as_ref().filter(|_| !said.other_is_ended) {
        return Err(ServeError::Forked(recovery::fence::fork_words(other, "this node serves nothing")));
    }
    crate::identity::keep_private(&config.data)
        .map_err(|source| ServeError::Io { what: "permissions of the data directory", source })?;
    let damage = scrub::damage::noted(&config.data);
    if let Some(words) = damage.map_err(|source| ServeError::Io { what: "the note of damage", source })? {
        return Err(ServeError::Damaged(words));
    }
    let seed = Seed::read(&config.data).map_err(|source| ServeError::Io { what: "the note of its seed", source })?;
    if let Some(words) = seed.as_ref().and_then(|seed| seed.refused.clone()) {
        return Err(ServeError::Seed(words));
    }
    let left = crate::removed::Removed::read(&config.data);
    let left = left.map_err(|source| ServeError::Io { what: "the note of being removed", source })?;
    let tls = ReloadingTls::load(config.tls_files())?;
    let client_tls = ClientTls::load(config.tls_files())?;
    let channels = Arc::new(TlsChannels::new(client_tls.clone()));
    let signatures = config.signatures.ca.as_deref().map(Checker::load).transpose()?.unwrap_or_default();
    let space_marks =
        SpaceMarks { low_bytes: config.space.low_mib << 20, reserve_bytes: config.space.reserve_mib << 20 };
    let space = Arc::new(Space::new(&config.data, space_marks));
    let marks = marks::MarkStore::open(&config.data).map_err(|source| ServeError::Io { what: "peer marks", source })?;

    let mut log =
        tokio::task::block_in_place(|| LogStore::open(&config.data.join("log"), log_identity(&identity), &[]))?;
    let log_watch = log.watch();
    marks.watch_own(log_watch.clone());
    let machine = StateMachine::open(&config.data, identity.trust(), log_watch.synced())?;
    let store = machine.store();
    trust_recovery_ca(&config, &store)?;
    former::ask(&config, &identity, &store, &channels, said, fork.is_some()).await?;
    let log_reader = log.get_log_reader().await;
    log.keep_applied(store.applied_index());
    let hashes = Arc::new(FileHashes::default());
    let transfers = Arc::new(Transfers::default());
    let heads = Arc::new(Heads::default());
    let network = NetworkFactory::new(
        identity.raft_id,
        identity.cluster_id,
        channels.clone(),
        marks.clone(),
        transfers.clone(),
        hashes.clone(),
        heads.clone(),
    );
    let raft = crate::raft::start::start(identity.raft_id, network, log, machine).await.map_err(ServeError::Raft)?;
    let gate = Arc::new(Gate::new(identity.raft_id, Some(identity.cluster_id)));
    gate.vouch(identity.membership.clone());
    let vault = Arc::new(ArcSwapOption::empty());
    let link = Arc::new(Link { raft: raft.clone(), channels: channels.clone() });
    let group = Group::start(raft.clone());
    let proposer = Proposer::start(raft.clone(), group.clone(), identity.raft_id, link, vault.clone());
    let reach = Arc::new(Reach::default());
    let gateway = Gateway::new(config.name.clone(), store.clone(), vault, proposer, space.clone(), reach);
    let gateway = Arc::new(gateway.checking(signatures));
    gateway.set_removed(left);
    let incoming = config.data.join("snapshots").join("incoming");
    let snapshots = SnapshotReceiver::open(incoming, space_marks.low_bytes)
        .map(Arc::new)
        .map_err(|source| ServeError::Io { what: "incoming snapshots", source })?;
    archive::clear_work(&config.data);
    let archive = config.archive.is_some().then(Arc::default);
    let custody = Arc::new(Custody::new(identity.cluster_id, config.root_key.as_ref(), &config.data));
    scrub::clear_work(&config.data);
    let scrubbing = scrub::Scrubbing::read(&config.data);
    let node = Arc::new(Node {
        heard_before: contacts::Before::read(&config.data),
        drill: drill::LastDrill::default(),
        seed: tokio::sync::watch::Sender::new(seed),
        scrubbing,
        custody,
        closed_data_keys: AtomicU64::new(0),
        rotating: tokio::sync::Mutex::new(()),
        erasures_failed: Default::default(),
        fenced: tokio::sync::watch::Sender::default(),
        fork: tokio::sync::watch::Sender::default(),
        timeline_header: std::sync::OnceLock::new(),
        changing_members: Arc::default(),
        was_member: removed::WasMember::default(),
        config,
        identity,
        raft: raft.clone(),
        store,
        log: log_watch,
        group,
        gateway: gateway.clone(),
        gate: gate.clone(),
        channels,
        marks: marks.clone(),
        peers: Arc::new(peers::Peers::default()),
        lag: lag::Lag::default(),
        started_ms: crate::clock::now_ms(),
        last_led: majority::LastLed::default(),
        space,
        tls: tls.clone(),
        client_tls: client_tls.clone(),
        transfers,
        snapshots: snapshots.clone(),
        clearing: Clearing::default(),
        heads,
        archive,
    });

    let address = node.config.listen.clone();
    let listener = TcpListener::bind(&address).await.map_err(|source| ServeError::Listen { address, source })?;
    recovery::fence::forget_fork(&node.config.data)
        .map_err(|source| ServeError::Io { what: "the note of another cluster on its timeline", source })?;
    former::note_start(&node.config.data)
        .map_err(|source| ServeError::Io { what: "the note that former members were asked", source })?;
    let (cluster_id, heads) = (node.identity.cluster_id, node.heads.clone());
    let services = Services { gateway, cluster_id, heads, tls: tls.clone() };
    let peer = PeerService::server(PeerParts {
        raft,
        gate,
        marks,
        handlers: Arc::new(handlers::Handlers(node.clone())),
        snapshots,
        identify: by_certificate,
    });
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<RecordsServer<Services>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kura_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Raft(error.to_string()))?;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let of_timeline = node.clone();
    let naming_timeline = MapResponseLayer::new(move |mut answer: http::Response<tonic::body::Body>| {
        if let Some(value) = fence::header(&of_timeline) {
            answer.headers_mut().insert(HEADER, value);
        }
        answer
    });
    let server = tonic::transport::Server::builder()
        .layer(naming_timeline)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(peer)
        .add_service(RecordsServer::new(services.clone()).max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX))
        .add_service(ConsentsServer::new(services.clone()))
        .add_service(RegistryServer::new(services.clone()))
        .add_service(ErasuresServer::new(services.clone()))
        .add_service(AuditServer::new(services.clone()))
        .add_service(OperationsServer::new(OperationsService(node.clone())))
        .add_service(KeysServer::new(KeysService(node.clone())))
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(tls_incoming(listener, tls.clone()), wait_true(stopping));
    let server = tokio::spawn(server);

    let _reload = tls.watch(TLS_RELOAD_INTERVAL);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(reload_client_tls(client_tls));
    tasks.spawn(peers::follow(node.clone()));
    tasks.spawn(heads::follow(node.clone()));
    tasks.spawn(seed::follow(node.clone()));
    tasks.spawn(lag::follow(node.clone()));
    tasks.spawn(lag::watch(node.clone()));
    tasks.spawn(standing::check_marks(node.clone()));
    tasks.spawn(standing::stand(node.clone()));
    tasks.spawn(standing::watch_space(node.clone()));
    tasks.spawn(unseal::keep_unsealed(node.clone()));
    tasks.spawn(retention::retain(node.clone()));
    tasks.spawn(scrub::follow(node.clone()));
    tasks.spawn(scrub::watch(node.clone()));
    tasks.spawn(clear::follow(node.clone()));
    tasks.spawn(erasures::carry_out(node.clone()));
    tasks.spawn(erasures::forget(node.clone()));
    tasks.spawn(rewrap::carry_out(node.clone()));
    tasks.spawn(peers::beat(node.clone()));
    tasks.spawn(peers::sweep(node.clone()));
    tasks.spawn(peers::journal_denials(node.clone()));
    tasks.spawn(peers::journal_refusals(node.clone()));
    tasks.spawn(marks::persist(node.marks.clone()));
    tasks.spawn(contacts::follow(node.clone()));
    tasks.spawn(fence::announce(node.clone()));
    tasks.spawn(fence::end_of_fork(node.clone()));
    tasks.spawn(openings::follow(node.clone()));
    if let (Some(config), Some(told)) = (node.config.archive.clone(), node.archive.clone()) {
        tasks.spawn(archive::write(node.clone(), config, told, log_reader, hashes));
    }
    if let Some(address) = node.config.metrics_listen.clone() {
        tasks.spawn(crate::metrics::serve(address, node.clone()));
    }
    tracing::info!(node = %node.config.name, id = node.id(), listen = %node.config.listen, "serving");

    let end = wait_for_end(&node).await;
    if end.is_ok() {
        let _ = node.gateway.journal_counted_denials().await;
        hand_over(&node).await;
        // The server goes on meanwhile: the new leader has to reach this node so that it can answer.
        node.gateway.drain(DRAIN_TIMEOUT).await;
    }
    let _ = stop.send(true);
    let abort = server.abort_handle();
    if tokio::time::timeout(CLOSE_TIMEOUT, server).await.is_err() {
        // Streams between members do not end by themselves.
        abort.abort();
    }
    tasks.shutdown().await;
    let _ = node.raft.shutdown().await;
    if end.is_ok() {
        tokio::task::block_in_place(|| node.store.database().flush())?;
        node.marks.save().map_err(|source| ServeError::Io { what: "peer marks", source })?;
        tokio::task::block_in_place(|| contacts::save(&node, &mut Vec::new()));
    }
    tracing::info!(node = %node.config.name, "stopped");
    end
}

/// Keeps the certificate shown to others new. It is looked at before each connection anyway, but connections
/// live long: only a reload moves callers to new ones.
async fn reload_client_tls(tls: Arc<ClientTls>) {
    loop {
        tokio::time::sleep(TLS_RELOAD_INTERVAL).await;
        let tls = tls.clone();
        // Failures are logged and counted there.
        let _ = tokio::task::spawn_blocking(move || tls.reload_if_changed()).await;
    }
}

async fn wait_true(mut watch: tokio::sync::watch::Receiver<bool>) {
    let _ = watch.wait_for(|stop| *stop).await;
}

/// Waits for a signal, or for a reason to give up.
async fn wait_for_end(node: &Node) -> Result<(), ServeError> {
    let signals =
        signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = signals.map_err(|source| ServeError::Io { what: "signals", source })?;
    let mut fatal = node.log.fatal();
    let mut fenced = node.fenced.subscribe();
    let mut seed = node.seed.subscribe();
    let metrics = node.raft.metrics();
    // Looked at from time to time: waiting for changes would wake this task with every batch of entries.
    let mut look = tokio::time::interval(RAFT_LOOK_INTERVAL);
    let damage = scrub::damage::wait_for_end(node);
    tokio::pin!(damage);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            words = &mut damage => return Err(ServeError::Damaged(words)),
            stopped = fatal.wait_for(Option::is_some) => {
                let why = stopped.ok().and_then(|why| why.clone()).unwrap_or_else(|| "the log writer has ended".into());
                return Err(ServeError::LogFailed(why));
            }
            left = fenced.wait_for(Option::is_some) => {
                let left = left.ok().and_then(|left| left.clone());
                return Err(left.map_or_else(|| ServeError::Fenced(String::new()), ServeError::from));
            }
            refused = seed.wait_for(|seed| seed.as_ref().is_some_and(|seed| seed.refused.is_some())) => {
                let words = refused.ok().and_then(|seed| seed.as_ref()?.refused.clone());
                return Err(ServeError::Seed(words.unwrap_or_default()));
            }
            _ = look.tick() => {
                let state = metrics.borrow_watched().running_state.clone();
                if let Err(fatal) = state {
                    if let Some(words) = node.store.database().damage() {
                        scrub::damage::raft_has_ended(node, &words).await;
                        return Err(ServeError::Damaged(words));
                    }
                    return Err(ServeError::Fatal(format!("Raft ended: {fatal}")));
                }
            }
        }
    }
}

/// What this node says of itself.
pub fn own_hello(node: &Node) -> kura_proto::v1::HelloReply {
    handlers::hello_to(node, node.id())
}

/// A leader that stops hands over to the most advanced voter first.
async fn hand_over(node: &Node) {
    if !node.leads() {
        return;
    }
    let Some(successor) = most_advanced(node) else { return };
    if node.raft.trigger().transfer_leader(successor).await.is_err() {
        return;
    }
    let moved = async {
        let mut metrics = node.raft.metrics();
        while metrics.borrow_watched().current_leader == Some(node.id()) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(HANDOVER_TIMEOUT, moved).await;
}

/// The other voter that has replicated most, if this node leads.
pub fn most_advanced(node: &Node) -> Option<NodeId> {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let voters: Vec<NodeId> =
        metrics.membership_config.membership().voter_ids().filter(|id| *id != node.id()).collect();
    let replication = metrics.replication?;
    voters.into_iter().max_by_key(|id| replication.get(id).cloned().flatten().map(|log_id| log_id.index))
}

/// Keys must not land in a core file.
pub(crate) fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}
