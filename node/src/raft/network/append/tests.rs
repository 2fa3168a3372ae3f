//! Sessions with peers that behave badly.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use kura_proto::v1::peer_server::{Peer, PeerServer};
use openraft::errors::RPCError;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Endpoint;
use tonic::{Request, Response};

use super::*;
use crate::raft::types::{CommandBytes, Entry, EntryPayload, LogId, NodeId, Vote, log_id};

/// Answers so many appends, then waits or hangs up.
struct Peculiar {
    answers: usize,
    hangs_up: bool,
    seen: Arc<AtomicUsize>,
    news: Arc<Notify>,
}

type Answer<T> = Result<Response<T>, Status>;

fn nothing<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl Peer for Peculiar {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<v1::AppendReply, Status>> + Send>>;
    type ProposeStream = stream::Empty<Result<v1::ProposeReply, Status>>;

    async fn append(&self, request: Request<Streaming<v1::AppendRequest>>) -> Answer<Self::AppendStream> {
        let (answers, hangs_up) = (self.answers, self.hangs_up);
        let (seen, news) = (self.seen.clone(), self.news.clone());
        let replies = stream::unfold(request.into_inner(), move |mut requests| {
            let (seen, news) = (seen.clone(), news.clone());
            async move {
                loop {
                    let request = requests.message().await.ok()??;
                    let count = seen.fetch_add(1, Ordering::SeqCst) + 1;
                    news.notify_one();
                    if count <= answers {
                        let last = request.entries.len() as u64 + request.previous.unwrap().index;
                        let reply = wire::put_appended(&Ok(Some(log_id(1, last))), request.own_mark);
                        return Some((Ok(reply), requests));
                    }
                    if hangs_up {
                        return None;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn vote(&self, _: Request<v1::VoteRequest>) -> Answer<v1::VoteReply> {
        nothing()
    }
    async fn pre_vote(&self, _: Request<v1::VoteRequest>) -> Answer<v1::VoteReply> {
        nothing()
    }
    async fn transfer_leader(&self, _: Request<v1::TransferRequest>) -> Answer<v1::TransferReply> {
        nothing()
    }
    async fn offer_snapshot(&self, _: Request<v1::SnapshotOffer>) -> Answer<v1::SnapshotWanted> {
        nothing()
    }
    async fn send_snapshot(&self, _: Request<Streaming<v1::SnapshotPiece>>) -> Answer<v1::SnapshotPiecesReply> {
        nothing()
    }
    async fn install_snapshot(&self, _: Request<v1::InstallRequest>) -> Answer<v1::InstallReply> {
        nothing()
    }
    async fn propose(&self, _: Request<Streaming<v1::ProposeRequest>>) -> Answer<Self::ProposeStream> {
        nothing()
    }
    async fn heads(&self, _: Request<v1::HeadsRequest>) -> Answer<v1::HeadsReply> {
        nothing()
    }
    async fn clear(&self, _: Request<v1::ClearRequest>) -> Answer<v1::ClearReply> {
        nothing()
    }

    async fn hello(&self, _: Request<v1::HelloRequest>) -> Answer<v1::HelloReply> {
        nothing()
    }
    async fn timeline(&self, _: Request<v1::TimelineRequest>) -> Answer<v1::TimelineReply> {
        nothing()
    }
    async fn hand_root_key(&self, _: Request<v1::RootKeyRequest>) -> Answer<v1::RootKeyReply> {
        nothing()
    }
    async fn take_root_key(&self, _: Request<v1::TakeRootKeyRequest>) -> Answer<v1::TakeRootKeyReply> {
        nothing()
    }
    async fn join(&self, _: Request<v1::JoinRequest>) -> Answer<v1::JoinReply> {
        nothing()
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<(NodeId, Bytes)>>);

impl MarkSink for Told {
    fn peer_mark(&self, node: NodeId, mark: Bytes) {
        self.0.lock().unwrap().push((node, mark));
    }
    fn kept_mark(&self, _: NodeId) -> Option<Bytes> {
        None
    }
    fn own_mark(&self) -> Bytes {
        Bytes::from_static(b"mark")
    }
    fn opened_mark(&self) -> Bytes {
        Bytes::new()
    }
}

struct Meeting {
    seen: Arc<AtomicUsize>,
    news: Arc<Notify>,
    told: Arc<Told>,
    client: PeerClient<Channel>,
    is_current: Arc<AtomicBool>,
}

async fn meet(answers: usize, hangs_up: bool) -> Meeting {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (seen, news): (Arc<AtomicUsize>, Arc<Notify>) = Default::default();
    let peer = Peculiar { answers, hangs_up, seen: seen.clone(), news: news.clone() };
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(32 << 20)
        .initial_connection_window_size(32 << 20)
        .add_service(PeerServer::new(peer).max_decoding_message_size(super::super::MESSAGE_BYTES_MAX));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let is_current = Arc::new(AtomicBool::new(true));
    Meeting { seen, news, told: Arc::default(), client: PeerClient::new(channel), is_current }
}

impl Meeting {
    fn session<S>(&self, input: S, patience: Duration) -> Session<S>
    where
        S: Stream<Item = Append> + Unpin + Send + 'static,
    {
        let envelope = Envelope { from: 1, to: 2, cluster_id: Bytes::from_static(&[7; 16]) };
        let is_current = self.is_current.clone();
        let is_current = Box::new(move || is_current.load(Ordering::SeqCst));
        Session::new(self.client.clone(), envelope, self.told.clone(), input, patience, is_current)
    }
}

fn append(index: u64, bytes: usize) -> Append {
    let payload = EntryPayload::Normal(CommandBytes(vec![b'.'; bytes].into()));
    let entries = vec![Entry { log_id: log_id(1, index), payload }];
    Append { vote: Vote::new_committed(1, 1), prev_log_id: Some(log_id(1, index - 1)), entries, leader_commit: None }
}

/// Says when it is dropped, and never ends.
struct Endless {
    next: u64,
    bytes: usize,
    taken: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

impl Stream for Endless {
    type Item = Append;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Append>> {
        self.next += 1;
        self.taken.fetch_add(1, Ordering::SeqCst);
        std::task::Poll::Ready(Some(append(self.next, self.bytes)))
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_session_ends_with_its_input_and_hands_marks_on() {
    let meeting = meet(usize::MAX, false).await;
    let input = stream::iter((1..=200).map(|index| append(index, 10)));
    let results: Vec<_> = meeting.session(input, LONG).into_stream().collect().await;
    let matched: Vec<LogId> = results.into_iter().map(|result| result.unwrap().unwrap().unwrap()).collect();
    assert_eq!(matched, (1..=200).map(|index| log_id(1, index)).collect::<Vec<_>>());
    let told = meeting.told.0.lock().unwrap();
    assert_eq!(told.len(), 200);
    assert!(told.iter().all(|(node, mark)| *node == 2 && &mark[..] == b"mark"));
}

#[tokio::test]
async fn nothing_more_goes_over_a_connection_of_former_certificates() {
    let meeting = meet(usize::MAX, false).await;
    let (more, input) = tokio::sync::mpsc::unbounded_channel();
    let input = tokio_stream::wrappers::UnboundedReceiverStream::new(input);
    let mut answers = Box::pin(meeting.session(input, LONG).into_stream());
    more.send(append(1, 10)).unwrap();
    answers.next().await.unwrap().unwrap().unwrap();
    meeting.is_current.store(false, Ordering::SeqCst);
    more.send(append(2, 10)).unwrap();
    assert!(matches!(answers.next().await, Some(Err(RPCError::Network(_)))));
    assert!(answers.next().await.is_none());
    assert_eq!(meeting.seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_silent_peer_costs_bounded_memory_and_time() {
    for (bytes, most) in [(10, IN_FLIGHT_MAX), (1 << 20, IN_FLIGHT_BYTES_MAX >> 20)] {
        let meeting = meet(0, false).await;
        let (taken, dropped): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let input = Endless { next: 0, bytes, taken: taken.clone(), dropped: dropped.clone() };
        let session = meeting.session(input, LONG);
        let mut answers = Box::pin(session.into_stream());
        loop {
            tokio::select! {
                answer = answers.next() => panic!("{answer:?}"),
                () = meeting.news.notified() => {}
            }
            if meeting.seen.load(Ordering::SeqCst) == most {
                break;
            }
        }
        // All that fits has arrived there; polling on takes no more.
        assert!(tokio::time::timeout(Duration::from_millis(50), answers.next()).await.is_err());
        assert_eq!(taken.load(Ordering::SeqCst), most);
        assert_eq!(meeting.seen.load(Ordering::SeqCst), most);
        assert!(!dropped.load(Ordering::SeqCst));
        drop(answers);
        assert!(dropped.load(Ordering::SeqCst), "openraft waits for a lock that the input holds");
    }

    let meeting = meet(1, false).await;
    let input = stream::iter([append(1, 10), append(2, 10)]).chain(stream::pending());
    let results: Vec<_> = meeting.session(input, Duration::from_millis(200)).into_stream().collect().await;
    assert_eq!(results.len(), 2);
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(RPCError::Timeout(_))));
}

#[tokio::test]
async fn a_peer_that_is_down_is_not_called_before_there_is_something_to_send() {
    let mut meeting = meet(0, false).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let nobody = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
    meeting.client = PeerClient::new(nobody);
    let (begin, begun) = tokio::sync::oneshot::channel();
    let input = Box::pin(stream::once(async move {
        begun.await.unwrap();
        append(1, 10)
    }));
    let mut answers = Box::pin(meeting.session(input, LONG).into_stream());
    // A call now would be refused at once, as these are.
    for _ in 0..20 {
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
        let early = tokio::time::timeout(Duration::from_millis(10), answers.next()).await;
        assert!(early.is_err(), "openraft would begin the next session without waiting: {early:?}");
    }
    begin.send(()).unwrap();
    assert!(matches!(answers.next().await, Some(Err(RPCError::Unreachable(_)))));
}

#[tokio::test]
async fn an_idle_session_waits() {
    let meeting = meet(1, false).await;
    let input = stream::iter([append(1, 10)]).chain(stream::pending());
    // Long enough for an answer on a busy machine.
    let mut answers = Box::pin(meeting.session(input, Duration::from_secs(1)).into_stream());
    assert!(answers.next().await.unwrap().is_ok());
    assert!(tokio::time::timeout(Duration::from_millis(1_500), answers.next()).await.is_err());
}

#[tokio::test]
async fn the_time_limit_grows_with_what_is_in_flight() {
    let meeting = meet(0, false).await;
    let mut session = meeting.session(stream::pending(), Duration::from_secs(1));
    assert_eq!(session.limit(), Duration::from_secs(1));
    session.send(&append(1, 1 << 20));
    session.send(&append(2, 1 << 20));
    let limit = session.limit().as_secs_f64();
    assert!((9.0..9.1).contains(&limit), "{limit}");
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_tried_again_and_one_that_is_away_later() {
    let meeting = meet(1, true).await;
    let input = stream::iter([append(1, 10), append(2, 10)]);
    let results: Vec<_> = meeting.session(input, LONG).into_stream().collect().await;
    assert!(matches!(&results[..], [Ok(Ok(_)), Err(RPCError::Network(_))]), "{results:?}");

    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let channel = Endpoint::from_shared(format!("http://{away}")).unwrap().connect_lazy();
    let meeting = Meeting { client: PeerClient::new(channel), ..meeting };
    let results: Vec<_> = meeting.session(stream::iter([append(1, 10)]), LONG).into_stream().collect().await;
    assert!(matches!(&results[..], [Err(RPCError::Unreachable(_))]), "{results:?}");
}
