//! A cluster whose members can be stopped and whose lines can be counted and cut.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::ClusterId;
use kura_proto::v1;
use openraft::errors::{ClientWriteError, RaftError};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint};
use tonic::{Extensions, Request, Status, Streaming};

use super::storage::{MemoryLog, MemoryMachine, State};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::gate::{Caller, Gate};
use crate::raft::marks::Mark;
use crate::raft::network::{MarkSink, NetworkFactory};
use crate::raft::types::{CommandBytes, Member, MemberRole, NodeId, Raft, log_id};
use crate::rpc::peer::{PeerHandlers, PeerParts, PeerService, ReplyStream};
use crate::snapshot::{FileHashes, SnapshotManifest, SnapshotReceiver, Transfers};

pub(super) const CLUSTER_ID: [u8; 16] = [7; 16];
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Without TLS a member says who it is in the user agent: `n1/voter`.
fn identify(extensions: &Extensions) -> Option<Caller> {
    extensions.get::<Caller>().cloned()
}

fn read_agent(mut request: Request<()>) -> Result<Request<()>, Status> {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
    let parsed = agent.and_then(|agent| agent.split(' ').next()?.split_once('/'));
    if let Some((name, role)) = parsed {
        let role = match role {
            "voter" => Some(MemberRole::Voter),
            "backup" => Some(MemberRole::Backup),
            _ => None,
        };
        let caller = Caller { name: name.into(), role, key_sha256: [0; 32], serial: None };
        request.extensions_mut().insert(caller);
    }
    Ok(request)
}

/// Each member's way to the others: direct, unless a detour is set.
pub(super) struct Channels {
    agent: String,
    pub(super) detours: Mutex<HashMap<(String, Lane), SocketAddr>>,
    kept: Mutex<HashMap<(String, Lane), Channel>>,
}

impl Channels {
    pub(super) fn of(agent: &str) -> Arc<Self> {
        Arc::new(Self { agent: agent.into(), detours: Mutex::default(), kept: Mutex::default() })
    }
}

impl PeerChannels for Channels {
    fn channel(&self, member: &Member, lane: Lane) -> Result<Channel, String> {
        let key = (member.name.clone(), lane);
        let detour = self.detours.lock().unwrap().get(&key).map(ToString::to_string);
        let address = detour.unwrap_or_else(|| member.address.clone());
        let make = || {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            endpoint.user_agent(self.agent.clone()).unwrap().connect_lazy()
        };
        Ok(self.kept.lock().unwrap().entry(key).or_insert_with(make).clone())
    }
}

/// Marks that were told, and own ones that tests set.
pub(super) struct Marks {
    pub(super) kept: Mutex<BTreeMap<NodeId, Bytes>>,
    pub(super) own: Mutex<Bytes>,
    pub(super) opened: Mutex<Bytes>,
}

impl MarkSink for Marks {
    fn peer_mark(&self, node: NodeId, mark: Bytes) {
        self.kept.lock().unwrap().insert(node, mark);
    }

    fn kept_mark(&self, node: NodeId) -> Option<Bytes> {
        self.kept.lock().unwrap().get(&node).cloned()
    }

    fn own_mark(&self) -> Bytes {
        self.own.lock().unwrap().clone()
    }

    fn opened_mark(&self) -> Bytes {
        self.opened.lock().unwrap().clone()
    }
}

pub(super) fn mark(index: u64) -> Bytes {
    Mark { vote: None, last: Some(log_id(1, index)) }.encode().into()
}

struct Handlers;

#[tonic::async_trait]
impl PeerHandlers for Handlers {
    async fn propose(
        &self,
        from: NodeId,
        _: Streaming<v1::ProposeRequest>,
    ) -> Result<ReplyStream<v1::ProposeReply>, Status> {
        let reply = v1::ProposeReply { id: from, ..Default::default() };
        Ok(Box::pin(futures_util::stream::iter([Ok(reply)])))
    }

    async fn hello(&self, _: &Caller, request: v1::HelloRequest) -> Result<v1::HelloReply, Status> {
        Ok(v1::HelloReply { node_id: request.from, ..Default::default() })
    }

    async fn timeline(&self, _: v1::TimelineRequest) -> Result<v1::TimelineReply, Status> {
        Ok(v1::TimelineReply::default())
    }

    async fn hand_root_key(&self, _: &Caller, _: v1::RootKeyRequest) -> Result<v1::RootKeyReply, Status> {
        Ok(v1::RootKeyReply::default())
    }

    async fn take_root_key(&self, _: &Caller, _: v1::TakeRootKeyRequest) -> Result<v1::TakeRootKeyReply, Status> {
        Ok(v1::TakeRootKeyReply::default())
    }

    async fn join(&self, _: &Caller, _: v1::JoinRequest) -> Result<v1::JoinReply, Status> {
        Ok(v1::JoinReply { raft_id: 9, ..Default::default() })
    }

    fn is_revoked(&self, caller: &Caller) -> bool {
        caller.name == "revoked"
    }

    fn may_stand(&self) -> bool {
        true
    }

    async fn heads(&self, _: v1::HeadsRequest) -> Result<v1::HeadsReply, Status> {
        Ok(v1::HeadsReply::default())
    }

    async fn clear(&self, _: v1::ClearRequest) -> Result<v1::ClearReply, Status> {
        Ok(v1::ClearReply::default())
    }

    async fn admit_snapshot(&self, _: NodeId, _: &SnapshotManifest, _: &[Bytes]) -> Result<(), Status> {
        Ok(())
    }

    fn state_directory(&self) -> Option<PathBuf> {
        None
    }
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) raft: Raft<MemoryMachine>,
    pub(super) gate: Arc<Gate>,
    pub(super) marks: Arc<Marks>,
    pub(super) channels: Arc<Channels>,
    pub(super) transfers: Arc<Transfers>,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) address: SocketAddr,
    pub(super) hashes: Arc<FileHashes>,
    snapshots: Arc<SnapshotReceiver>,
    pub(super) directory: TempDir,
}

impl Node {
    pub(super) async fn start(id: NodeId) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = openraft::Config {
            heartbeat_interval: 100,
            election_timeout_min: 1500,
            election_timeout_max: 3000,
            max_payload_entries: 16,
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: 0,
            enable_pre_vote: Some(true),
            ..Default::default()
        };
        let cluster_id = ClusterId(CLUSTER_ID);
        let channels = Channels::of(&format!("n{id}/voter"));
        let marks = Arc::new(Marks { kept: Mutex::default(), own: Mutex::new(mark(id)), opened: Mutex::default() });
        let (transfers, hashes) = (Arc::new(Transfers::default()), Arc::new(FileHashes::default()));
        let factory = NetworkFactory::new(
            id,
            cluster_id,
            channels.clone(),
            marks.clone(),
            transfers.clone(),
            hashes.clone(),
            Arc::default(),
        );
        let state = Arc::new(Mutex::new(State::default()));
        let machine = MemoryMachine { directory: directory.path().into(), state: state.clone() };
        let config = Arc::new(config.validate().unwrap());
        let raft = Raft::new(id, config, factory, MemoryLog::default(), machine).await.unwrap();
        let incoming = directory.path().join("incoming");
        let snapshots = Arc::new(SnapshotReceiver::open(incoming, 0).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::new(id, Some(cluster_id)));
        gate.open();
        let node =
            Arc::new(Self { id, raft, gate, marks, channels, transfers, state, address, hashes, snapshots, directory });
        node.serve(listener);
        node
    }

    fn serve(&self, listener: TcpListener) {
        let service = PeerService::server(PeerParts {
            raft: self.raft.clone(),
            gate: self.gate.clone(),
            marks: self.marks.clone(),
            handlers: Arc::new(Handlers),
            snapshots: self.snapshots.clone(),
            identify,
        });
        let server = tonic::transport::Server::builder().layer(InterceptorLayer::new(read_agent)).add_service(service);
        tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
    }

    pub(super) fn member(&self) -> Member {
        let name = format!("n{}", self.id);
        Member { name, address: self.address.to_string(), ..Member::default() }
    }

    pub(super) async fn write(&self, command: impl Into<Bytes>) -> u64 {
        let command = CommandBytes(command.into());
        let start = Instant::now();
        loop {
            // On a busy machine the lease may be late. Then nothing was appended.
            match self.raft.client_write(command.clone()).await {
                Ok(written) => return written.log_id.index,
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(start.elapsed() < PATIENCE, "no lease");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn applied(&self, index: u64) {
        let wait = self.raft.wait(Some(PATIENCE));
        wait.applied_index_at_least(Some(index), "applied").await.unwrap();
    }

    pub(super) fn commands(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().commands.clone()
    }
}

/// Nodes 1 to 3, not yet a cluster.
pub(super) async fn strangers() -> Vec<Arc<Node>> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id).await);
    }
    nodes
}

/// Makes all of them voters, of which 1 leads.
pub(super) async fn unite(nodes: &[Arc<Node>]) {
    let members: BTreeMap<NodeId, Member> = nodes.iter().map(|node| (node.id, node.member())).collect();
    for node in &nodes[1..] {
        node.raft.runtime_config().elect(false);
    }
    nodes[0].raft.initialize(members).await.unwrap();
    nodes[0].raft.wait(Some(PATIENCE)).current_leader(1, "leads").await.unwrap();
}

/// Voters 1 to 3, of which 1 leads.
pub(super) async fn three() -> Vec<Arc<Node>> {
    let nodes = strangers().await;
    unite(&nodes).await;
    nodes
}
