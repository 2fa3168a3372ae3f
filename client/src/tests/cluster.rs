//! Pretended nodes over one shared store. A node's connections can be cut, and it can stay down.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use kura_proto::v1;
use kura_proto::v1::records_server::{Records, RecordsServer};
use kura_proto::v1::{get_reply, put_reply, put_request};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapResponseLayer;

use crate::client::{Client, Shared};
use crate::config::Timeouts;
use crate::fork::HEADER;
use crate::pool::{Dial, Pool};
use crate::tls::EndpointError;

/// Uploads become durable in blocks of this size.
pub const BLOCK_BYTES: usize = 1024 * 1024;

pub const CONTENT: [u8; 16] = [0xc0; 16];
pub const RECORD: [u8; 16] = [0xaa; 16];
pub const EPISODE: [u8; 16] = [0xee; 16];

/// What a node does with one call, instead of its best.
#[derive(Debug, Clone)]
pub enum Whim {
    /// Answers this.
    Fails(Status),
    /// Never answers.
    Silent,
    /// Cuts its connections and stays down once an upload has brought these bytes.
    DiesAt(usize),
    /// Cuts its connections and stays down after a commit, without telling of it.
    DiesAfterCommit,
    /// Cuts its connections and stays down instead of telling the receipt of what was committed before.
    DiesWhenKnown,
    /// Has not heard yet of what was committed.
    Behind,
    /// Ends a download in order after these bytes.
    EndsAt(usize),
    /// Changes one byte of a download.
    Flips(usize),
    /// Makes nothing durable.
    Forgetful,
    /// Answers on this timeline.
    Timeline(u64),
}

#[derive(Default)]
pub struct Store {
    pub whims: HashMap<usize, VecDeque<Whim>>,
    /// Durable bytes of the upload, part by part.
    pub durable: Vec<Vec<u8>>,
    pub committed: Option<Vec<Vec<u8>>>,
    /// SHA-256s handed in with the finish.
    pub finish: Vec<Bytes>,
    /// Node and request of every beginning of an upload.
    pub begins: Vec<(usize, v1::PutBegin)>,
    /// Bytes of data that each beginning brought.
    pub brought: Vec<usize>,
    pub wholes: Vec<(usize, v1::PutWholeRequest)>,
    pub gets: Vec<(usize, v1::GetRequest)>,
    pub severals: Vec<(usize, v1::GetSeveralRequest)>,
    pub lists: Vec<v1::ListRequest>,
    pub emergencies: Vec<v1::OpenEmergencyRequest>,
    /// The record that is read, part by part.
    pub record: Vec<Vec<u8>>,
    pub denies: bool,
    /// The record of lists that does not open.
    pub damages: Option<u8>,
}

impl Store {
    fn parts(&self) -> Vec<v1::PartSummary> {
        let part = |(place, part): (usize, &Vec<u8>)| v1::PartSummary {
            name: format!("p{place}"),
            media_type: "m/m".into(),
            bytes: part.len() as u64,
            sha256: Bytes::copy_from_slice(&Sha256::digest(part)),
        };
        self.record.iter().enumerate().map(part).collect()
    }
}

pub struct Node {
    place: usize,
    store: Arc<Mutex<Store>>,
    down: AtomicBool,
    cut: watch::Sender<u32>,
    /// What its answers name of the timeline.
    timeline: Mutex<Option<&'static str>>,
}

impl Node {
    /// Answers name a timeline from now on, as [`crate::fork`] has it.
    pub fn is_on(&self, timeline: &'static str) {
        *self.timeline.lock().unwrap() = Some(timeline);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn whim(&self) -> Option<Whim> {
        self.store().whims.get_mut(&self.place).and_then(VecDeque::pop_front)
    }

    pub fn die(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.cut.send_modify(|times| *times += 1);
    }

    fn receipt(&self, request: Option<v1::RequestId>, timeline: u64) -> v1::Receipt {
        v1::Receipt {
            timeline,
            leader_term: 1,
            index: 9,
            request_id: request.unwrap().id,
            record_id: Bytes::from_static(&RECORD),
            version: 1,
            journal_position: 3,
            reach: 4,
            repeated: false,
            nothing_to_end: false,
            granted_before: false,
            journal_leaf: Bytes::new(),
        }
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Served(Arc<Node>);

#[tonic::async_trait]
impl Records for Served {
    type PutStream = Replies<v1::PutReply>;
    type GetStream = Replies<v1::GetReply>;
    type GetSeveralStream = Replies<v1::GetSeveralReply>;
    type ListStream = Replies<v1::ListReply>;

    async fn put_whole(&self, request: Request<v1::PutWholeRequest>) -> Result<Response<v1::Receipt>, Status> {
        let request = request.into_inner();
        let whim = self.0.whim();
        self.0.store().wholes.push((self.0.place, request.clone()));
        let timeline = match whim {
            Some(Whim::Fails(status)) => return Err(status),
            Some(Whim::Silent) => std::future::pending().await,
            Some(Whim::Timeline(timeline)) => timeline,
            _ => 0,
        };
        Ok(Response::new(self.0.receipt(request.request, timeline)))
    }

    async fn put(&self, request: Request<Streaming<v1::PutRequest>>) -> Result<Response<Self::PutStream>, Status> {
        let (send, replies) = mpsc::channel(4);
        let node = Arc::clone(&self.0);
        let whim = node.whim();
        tokio::spawn(async move {
            if let Err(status) = take_upload(&node, whim, request.into_inner(), &send).await {
                let _ = send.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(replies).boxed()))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let whim = self.0.whim();
        let mut store = self.0.store();
        store.gets.push((self.0.place, request.clone()));
        if store.denies {
            return Err(crate::fault::tests::status("denied", 1, 1));
        }
        let parts = store.parts();
        let mut whole = store.record.concat();
        let bytes = whole.len() as u64;
        match whim {
            Some(Whim::Fails(status)) => return Err(status),
            Some(Whim::EndsAt(at)) => whole.truncate(at),
            Some(Whim::Flips(at)) => whole[at] ^= 1,
            _ => {}
        }
        let mut start = usize::try_from(request.range_start).unwrap().min(whole.len());
        let mut end = match request.range_length {
            0 => whole.len(),
            length => whole.len().min(start + usize::try_from(length).unwrap()),
        };
        if let Some(place) = parts.iter().position(|part| part.name == request.part) {
            start = parts[..place].iter().map(|part| usize::try_from(part.bytes).unwrap()).sum();
            end = start + usize::try_from(parts[place].bytes).unwrap();
        }
        let data = Bytes::from(whole).slice(start..end);
        let summary = v1::RecordSummary {
            record_id: Bytes::from_static(&RECORD),
            version: 5,
            class: 6,
            media_type: "m/m".into(),
            bytes,
            ..Default::default()
        };
        let header = v1::RecordHeader { summary: Some(summary), parts, ..Default::default() };
        let header = get_reply::Step::Header(header);
        let steps = (0..data.len())
            .step_by(64 * 1024)
            .map(move |from| get_reply::Step::Data(data.slice(from..data.len().min(from + 64 * 1024))));
        let replies = stream::iter(std::iter::once(header).chain(steps));
        let replies = replies.map(|step| Ok(v1::GetReply { step: Some(step) }));
        Ok(Response::new(replies.boxed()))
    }

    async fn get_several(
        &self,
        request: Request<v1::GetSeveralRequest>,
    ) -> Result<Response<Self::GetSeveralStream>, Status> {
        use v1::get_several_reply::Step;
        let request = request.into_inner();
        let whim = self.0.whim();
        let mut store = self.0.store();
        store.severals.push((self.0.place, request.clone()));
        let (parts, mut whole) = (store.parts(), store.record.concat());
        let bytes = whole.len() as u64;
        match whim {
            Some(Whim::Fails(status)) => return Err(status),
            Some(Whim::EndsAt(at)) => whole.truncate(at),
            Some(Whim::Flips(at)) => whole[at] ^= 1,
            _ => {}
        }
        let whole = Bytes::from(whole);
        // Each record has the same body; one whose id begins with 0xff is refused, with 0xdd does not open, with 0xde
        // not beyond its first bytes.
        let steps = request.record_ids.into_iter().flat_map(move |record_id| {
            if record_id[0] == 0xff {
                let refused = v1::RefusedRecord { record_id, reason: String::new() };
                return vec![Step::Refused(refused)];
            }
            let first = record_id[0];
            let damaged = Some(v1::DamagedRecord { version: 5, ..Default::default() });
            let damaged = v1::RecordSummary { record_id: record_id.clone(), damaged, ..Default::default() };
            if first == 0xdd {
                return vec![Step::Damaged(damaged)];
            }
            let summary = v1::RecordSummary { record_id, version: 5, class: 6, bytes, ..Default::default() };
            let header = v1::RecordHeader { summary: Some(summary), parts: parts.clone(), ..Default::default() };
            let data = (0..whole.len()).step_by(64 * 1024);
            let data = data.map(|from| Step::Data(whole.slice(from..whole.len().min(from + 64 * 1024))));
            let steps = std::iter::once(Step::Header(header)).chain(data);
            match first {
                0xde => steps.take(2).chain([Step::Damaged(damaged)]).collect(),
                _ => steps.collect(),
            }
        });
        let replies = stream::iter(steps.map(|step| Ok(v1::GetSeveralReply { step: Some(step) })));
        Ok(Response::new(replies.boxed()))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        self.0.store().lists.push(request.clone());
        // Records 1 to 5, known by the last byte of their ids.
        let after = request.after.last().copied().unwrap_or(0);
        let last = after.saturating_add(u8::try_from(request.limit).unwrap_or(u8::MAX)).min(5);
        let damages = self.0.store().damages;
        let summary = |n: u8| match damages == Some(n) {
            true => v1::RecordSummary {
                record_id: Bytes::copy_from_slice(&[n; 16]),
                damaged: Some(v1::DamagedRecord::default()),
                ..Default::default()
            },
            false => v1::RecordSummary {
                record_id: Bytes::copy_from_slice(&[n; 16]),
                version: u32::from(n),
                class: 6,
                ..Default::default()
            },
        };
        // One page in two replies, as long pages come.
        let reply = |from: u8, to: u8, more: bool| v1::ListReply {
            records: (from..=to).map(summary).collect(),
            last: Bytes::copy_from_slice(&[to; 16]),
            more,
            journal_position: 1,
        };
        let replies = vec![Ok(reply(after + 1, after + 1, true)), Ok(reply(after + 2, last, last < 5))];
        Ok(Response::new(stream::iter(replies).boxed()))
    }

    async fn history(&self, _: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        Err(Status::unimplemented("history"))
    }

    async fn hide(&self, _: Request<v1::HideRequest>) -> Result<Response<v1::Receipt>, Status> {
        Err(Status::unimplemented("hide"))
    }

    async fn open_emergency(
        &self,
        request: Request<v1::OpenEmergencyRequest>,
    ) -> Result<Response<v1::OpenEmergencyReply>, Status> {
        let request = request.into_inner();
        let receipt = Some(self.0.receipt(request.request.clone(), 0));
        let whim = self.0.whim();
        self.0.store().emergencies.push(request);
        if let Some(Whim::Fails(status)) = whim {
            return Err(status);
        }
        let episode_id = Bytes::from_static(&EPISODE);
        Ok(Response::new(v1::OpenEmergencyReply { receipt, episode_id, expires_ms: 3_600_000 }))
    }

    async fn narrow(&self, _: Request<v1::NarrowRequest>) -> Result<Response<v1::Receipt>, Status> {
        Err(Status::unimplemented("narrow"))
    }

    async fn hold(&self, _: Request<v1::HoldRequest>) -> Result<Response<v1::Receipt>, Status> {
        Err(Status::unimplemented("hold"))
    }

    async fn inbox(&self, _: Request<v1::InboxRequest>) -> Result<Response<v1::InboxReply>, Status> {
        Err(Status::unimplemented("inbox"))
    }

    async fn outcome(&self, request: Request<v1::OutcomeRequest>) -> Result<Response<v1::OutcomeReply>, Status> {
        let request = request.into_inner().request;
        let receipt = self.0.store().committed.is_some().then(|| self.0.receipt(request, 0));
        Ok(Response::new(v1::OutcomeReply { kind: if receipt.is_some() { 1 } else { 2 }, receipt }))
    }
}

/// Takes an upload as a node does: blocks become durable, and are acknowledged, one by one.
async fn take_upload(
    node: &Node,
    whim: Option<Whim>,
    mut asks: Streaming<v1::PutRequest>,
    replies: &mpsc::Sender<Result<v1::PutReply, Status>>,
) -> Result<(), Status> {
    use put_request::Step;
    let Some(Step::Begin(begin)) = asks.message().await?.and_then(|ask| ask.step) else {
        return Err(Status::invalid_argument("no beginning"));
    };
    let reply = |step| async move {
        let _ = replies.send(Ok(v1::PutReply { step: Some(step) })).await;
    };
    let committed = {
        let mut store = node.store();
        store.begins.push((node.place, begin.clone()));
        store.brought.push(0);
        if begin.resume_content.is_empty() {
            store.durable.clear();
        }
        store.committed.is_some() && !matches!(whim, Some(Whim::Behind))
    };
    if committed {
        reply(put_reply::Step::Known(v1::PutKnown {})).await;
        while let Some(ask) = asks.message().await? {
            match ask.step {
                Some(Step::Data(data)) => *node.store().brought.last_mut().unwrap() += data.len(),
                Some(Step::Finish(_)) if matches!(whim, Some(Whim::DiesWhenKnown)) => {
                    node.die();
                    std::future::pending::<()>().await;
                }
                Some(Step::Finish(finish)) if finish.part_sha256 == node.store().finish => {
                    reply(put_reply::Step::Receipt(node.receipt(begin.request, 0))).await;
                    return Ok(());
                }
                Some(Step::Finish(_)) => return Err(crate::fault::tests::status("conflict", 1, 1)),
                _ => {}
            }
        }
        return Ok(());
    }
    let (mut dies_at, mut durable_ever) = (usize::MAX, true);
    match whim {
        Some(Whim::Fails(status)) => return Err(status),
        Some(Whim::DiesAt(at)) => dies_at = at,
        Some(Whim::Forgetful) => durable_ever = false,
        _ => {}
    }
    let mut staged: Vec<Vec<u8>> = node.store().durable.clone();
    reply(put_reply::Step::Position(position(&staged))).await;
    while let Some(ask) = asks.message().await? {
        match ask.step {
            Some(Step::Part(_)) => {
                if durable_ever {
                    node.store().durable = staged.clone();
                }
                staged.push(Vec::new());
            }
            Some(Step::Data(data)) => {
                let brought = {
                    let mut store = node.store();
                    let brought = store.brought.last_mut().unwrap();
                    *brought += data.len();
                    *brought
                };
                staged.last_mut().unwrap().extend_from_slice(&data);
                let kept = node.store().durable.get(staged.len() - 1).map_or(0, Vec::len);
                let blocks = staged.last().unwrap().len() / BLOCK_BYTES * BLOCK_BYTES;
                if durable_ever && blocks > kept {
                    let durable = {
                        let mut store = node.store();
                        store.durable = staged.clone();
                        store.durable.last_mut().unwrap().truncate(blocks);
                        position(&store.durable)
                    };
                    reply(put_reply::Step::Position(durable)).await;
                }
                if brought >= dies_at {
                    node.die();
                    // The dead do not end their streams in order.
                    std::future::pending::<()>().await;
                }
            }
            Some(Step::Finish(finish)) => {
                {
                    let mut store = node.store();
                    store.finish = finish.part_sha256;
                    store.committed = Some(staged.clone());
                }
                if matches!(whim, Some(Whim::DiesAfterCommit)) {
                    node.die();
                    // The dead do not end their streams in order.
                    std::future::pending::<()>().await;
                }
                reply(put_reply::Step::Receipt(node.receipt(begin.request.clone(), 0))).await;
                return Ok(());
            }
            _ => return Err(Status::invalid_argument("a second beginning")),
        }
    }
    Ok(())
}

fn position(durable: &[Vec<u8>]) -> v1::PutPosition {
    v1::PutPosition {
        content_id: Bytes::from_static(&CONTENT),
        parts: u32::try_from(durable.len()).unwrap(),
        bytes: durable.last().map_or(0, |part| part.len() as u64),
        bytes_total: durable.iter().map(|part| part.len() as u64).sum(),
    }
}

pub struct Cluster {
    pub client: Client,
    pub nodes: Vec<Arc<Node>>,
    store: Arc<Mutex<Store>>,
}

impl Cluster {
    /// Nodes on loopback, and a client that begins at the first of them.
    pub async fn start(nodes: usize, timeouts: Timeouts) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let (mut started, mut addresses) = (Vec::new(), Vec::new());
        for place in 0..nodes {
            let (cut, _) = watch::channel(0);
            let node = Arc::new(Node {
                place,
                store: Arc::clone(&store),
                down: AtomicBool::new(false),
                cut,
                timeline: Mutex::default(),
            });
            addresses.push(serve(Arc::clone(&node)).await);
            started.push(node);
        }
        let names = (0..nodes).map(|place| format!("node-{place}")).collect();
        let pool = Pool::new(Box::new(PlainDial(addresses)), names).unwrap();
        pool.set_current(0);
        let client = Client { shared: Arc::new(Shared::new(pool, timeouts, None)) };
        Self { client, nodes: started, store }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// What a node does with its next calls.
    pub fn whims(&self, place: usize, whims: impl IntoIterator<Item = Whim>) {
        self.store().whims.insert(place, whims.into_iter().collect());
    }
}

/// Short limits, so that tests of deadlines are quick.
pub fn brisk() -> Timeouts {
    Timeouts { connect_ms: 500, attempt_ms: 400, call_ms: 1_200, transfer_ms: 20_000 }
}

pub(super) struct PlainDial(pub Vec<String>);

impl Dial for PlainDial {
    fn dial(&self, place: usize) -> Result<Channel, EndpointError> {
        Ok(tonic::transport::Endpoint::from_shared(self.0[place].clone()).unwrap().connect_lazy())
    }

    fn generation(&self) -> u64 {
        0
    }

    fn look(&self) {}
}

/// Serves a node behind a door that can be slammed; answers the door's address.
async fn serve(node: Arc<Node>) -> String {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (inside, outside) = (inner.local_addr().unwrap(), door.local_addr().unwrap());
    let service = RecordsServer::new(Served(Arc::clone(&node))).max_decoding_message_size(8 * 1024 * 1024);
    let of_timeline = Arc::clone(&node);
    let naming = MapResponseLayer::new(move |mut answer: http::Response<tonic::body::Body>| {
        if let Some(named) = *of_timeline.timeline.lock().unwrap() {
            answer.headers_mut().insert(HEADER, http::HeaderValue::from_static(named));
        }
        answer
    });
    let server = tonic::transport::Server::builder().layer(naming).add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(inner)));
    tokio::spawn(async move {
        loop {
            let Ok((mut caller, _)) = door.accept().await else { return };
            let mut cut = node.cut.subscribe();
            if node.down.load(Ordering::SeqCst) {
                continue;
            }
            tokio::spawn(async move {
                let Ok(mut callee) = TcpStream::connect(inside).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut caller, &mut callee) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    format!("http://{outside}")
}
