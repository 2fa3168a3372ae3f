//! One ordered stream of appends to one member.
//!
//! Invariants
//! - Answers come in the order of the requests and are handed on in it. After a refusal, a conflict
//!   or a higher vote the session is over; openraft begins the next one.
//! - At most [`IN_FLIGHT_MAX`] appends and about [`IN_FLIGHT_BYTES_MAX`] bytes are unanswered; no
//!   more is read from the log before. So a slow peer costs that much memory.
//! - The session owns the input, and no task does: dropping the session drops the input at once.
//!   openraft's next session waits for a lock that the input holds.
//! - Nobody is called before there is something to send: openraft waits before it gives the first append to a peer that
//!   failed, and a call that failed meanwhile would end the session, and the next one, at once.
//! - Nothing is sent over a connection of former certificates or revocation lists: the session ends, and the next one
//!   shows and asks for the present ones.
//! - While something is unanswered, each answer must come within the patience plus the time that
//!   the bytes in flight take on the slowest path. An idle session has no time limit: the
//!   connection's keepalive watches it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kura_proto::v1::peer_client::PeerClient;
use openraft::network::RPCTypes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{APPEND_BYTES_PER_SECOND_MIN, CallError, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, MarkSink, errors, v1};
use crate::raft::wire::{self, Append, Appended, Envelope};

type Replies = Streaming<v1::AppendReply>;
type Connecting = Pin<Box<dyn Future<Output = Result<Replies, Status>> + Send>>;

/// See [`Session`].
pub(super) type IsCurrent = Box<dyn Fn() -> bool + Send>;

enum Incoming {
    /// The peer has not answered at all yet; requests go out nevertheless.
    Connecting(Connecting),
    Connected(Box<Replies>),
}

impl Incoming {
    /// The next answer. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Option<v1::AppendReply>, Status> {
        if let Self::Connecting(connecting) = self {
            let replies = connecting.as_mut().await?;
            *self = Self::Connected(Box::new(replies));
        }
        match self {
            Self::Connected(replies) => replies.message().await,
            Self::Connecting(_) => Ok(None),
        }
    }
}

/// See the module.
pub(super) struct Session<S> {
    envelope: Envelope,
    marks: Arc<dyn MarkSink>,
    /// `None` once it has ended.
    input: Option<S>,
    /// `None` once the input has ended, which ends the request stream.
    requests: Option<mpsc::Sender<v1::AppendRequest>>,
    incoming: Incoming,
    /// Whether anything was sent.
    is_begun: bool,
    /// Encoded bytes of each append that is not answered.
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    patience: Duration,
    /// Whether the connection was made with the certificates and revocation lists of now.
    is_current: IsCurrent,
    /// When the last answer came, or, if nothing was in flight then, when something was sent.
    progress: Instant,
}

enum Event {
    Reply(Result<Option<v1::AppendReply>, Status>),
    Request(Option<Append>),
    TooLate,
}

impl<S> Session<S>
where
    S: Stream<Item = Append> + Unpin + Send + 'static,
{
    pub(super) fn new(
        mut client: PeerClient<Channel>,
        envelope: Envelope,
        marks: Arc<dyn MarkSink>,
        input: S,
        patience: Duration,
        is_current: IsCurrent,
    ) -> Self {
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT_MAX);
        let connecting: Connecting = Box::pin(async move {
            let outgoing = ReceiverStream::new(outgoing);
            client.append(outgoing).await.map(tonic::Response::into_inner)
        });
        Self {
            envelope,
            marks,
            input: Some(input),
            requests: Some(requests),
            incoming: Incoming::Connecting(connecting),
            is_begun: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            patience,
            is_current,
            progress: Instant::now(),
        }
    }

    /// The answers, until the input has ended and all are there, or the first that ends the session.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Appended, CallError>> + Send {
        futures_util::stream::unfold(Some(self), |session| async {
            let mut session = session?;
            let result = session.next().await?;
            let goes_on = matches!(result, Ok(Ok(_)));
            Some((result, goes_on.then_some(session)))
        })
    }

    async fn next(&mut self) -> Option<Result<Appended, CallError>> {
        loop {
            match self.event().await {
                Event::Reply(Ok(Some(reply))) => return Some(self.answered(reply)),
                Event::Reply(Ok(None)) if self.in_flight.is_empty() && self.input.is_none() => {
                    return None;
                }
                Event::Reply(Ok(None)) => return Some(Err(errors::ended_early())),
                Event::Reply(Err(status)) => return Some(Err(errors::of_status(&status))),
                Event::Request(Some(_)) if !(self.is_current)() => return Some(Err(errors::former_connection())),
                Event::Request(Some(append)) => self.send(&append),
                Event::Request(None) if !self.is_begun => return None,
                Event::Request(None) => {
                    self.input = None;
                    self.requests = None;
                    self.progress = Instant::now();
                }
                Event::TooLate => {
                    let (id, target) = (self.envelope.from, self.envelope.to);
                    let limit = self.limit();
                    return Some(Err(errors::timeout(RPCTypes::AppendEntries, id, target, limit)));
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let has_room = self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
        let waits = !self.in_flight.is_empty() || self.input.is_none();
        let deadline = self.progress + self.limit();
        let input = async {
            match &mut self.input {
                Some(input) if has_room => input.next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = self.incoming.next(), if self.is_begun => Event::Reply(reply),
            request = input => Event::Request(request),
            () = tokio::time::sleep_until(deadline), if waits => Event::TooLate,
        }
    }

    fn limit(&self) -> Duration {
        let bytes = Duration::from_millis((self.in_flight_bytes as u64).saturating_mul(1000));
        self.patience + bytes / APPEND_BYTES_PER_SECOND_MIN as u32
    }

    fn send(&mut self, append: &Append) {
        let kept = self.marks.kept_mark(self.envelope.to).unwrap_or_default();
        let request = wire::put_append(self.envelope.clone(), append, kept, self.marks.own_mark());
        let bytes = request.encoded_len();
        // The channel holds as many as may be in flight, so it is never full; and a closed one
        // means that the connection is gone, which the next reply will tell with a reason.
        if let Some(requests) = &self.requests {
            let _ = requests.try_send(request);
        }
        if self.in_flight.is_empty() {
            self.progress = Instant::now();
        }
        self.is_begun = true;
        self.in_flight.push_back(bytes);
        self.in_flight_bytes += bytes;
    }

    fn answered(&mut self, mut reply: v1::AppendReply) -> Result<Appended, CallError> {
        let Some(bytes) = self.in_flight.pop_front() else {
            return Err(errors::of_status(&Status::invalid_argument("an answer to nothing")));
        };
        self.in_flight_bytes -= bytes;
        self.progress = Instant::now();
        let mark = std::mem::take(&mut reply.own_mark);
        if !mark.is_empty() {
            self.marks.peer_mark(self.envelope.to, mark);
        }
        wire::take_appended(reply).map_err(errors::of_wire)
    }
}

#[cfg(test)]
mod tests;
