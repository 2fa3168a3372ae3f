//! Streaming a body to the cluster, and going on elsewhere after a cut.
//!
//! Invariants
//! - Each attempt resumes the same content at the position that the cluster names; what it holds
//!   already is not sent again.
//! - Nothing can have been committed before the finish was sent, unless the cluster knows the request; after
//!   that a failure is in doubt.
//! - A request that the cluster knows is told its receipt for the same body only: the body is read to its
//!   end, but not sent.
//! - Waiting for the body's reader is not the cluster's delay: only the limit of the whole counts.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kura_proto::v1;
use kura_proto::v1::put_reply::Step as Reply;
use kura_proto::v1::put_request::Step as Ask;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::feed::{Feed, Step};
use super::window::{Outside, Position, Window};
use crate::call::Retry;
use crate::client::{Shared, records};
use crate::error::{PutError, WriteFamily};
use crate::fault::{Again, Failure, Fault};
use crate::id::RequestId;
use crate::receipt::Receipt;

/// Messages handed to the transport and not sent yet, at most.
const QUEUED_MESSAGES_MAX: usize = 2;

/// How an attempt ends without a receipt.
enum Cut {
    Failed(Failure),
    Body(io::Error),
}

impl From<Failure> for Cut {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<tonic::Status> for Cut {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(status.into())
    }
}

struct Upload<'a> {
    shared: &'a Shared,
    begin: v1::PutBegin,
    feed: Feed,
    fed: bool,
    window: Window,
    /// The content that a further attempt resumes; empty before the first position.
    content: Bytes,
    /// Whether any attempt sent the finish.
    finished: bool,
    /// Whether the cluster said that the request was committed before.
    known: bool,
}

pub(super) async fn upload(
    shared: &Shared,
    begin: v1::PutBegin,
    feed: Feed,
    first: Vec<Step>,
    request: RequestId,
    limit: Option<Duration>,
) -> Result<Receipt, PutError> {
    let mut window = Window::default();
    first.into_iter().for_each(|step| window.push(step));
    let mut upload =
        Upload { shared, begin, feed, fed: false, window, content: Bytes::new(), finished: false, known: false };
    let mut retry = Retry::transfer(shared, limit);
    loop {
        let failure = match upload.attempt(&mut retry).await {
            Ok(receipt) => return Ok(receipt),
            // Something was committed under this request, whatever the body would have turned out to be.
            Err(Cut::Body(_)) if upload.known => return Err(PutError::Unknown { request }),
            Err(Cut::Body(source)) => return Err(PutError::Body { source }),
            Err(Cut::Failed(failure)) => failure,
        };
        let failure = upload.judged(failure);
        retry.failed(failure).await.map_err(|failed| PutError::from_failed(failed, request))?;
    }
}

impl Upload<'_> {
    /// What a failed attempt means for the whole.
    fn judged(&mut self, failure: Failure) -> Failure {
        if self.finished || self.known {
            return failure;
        }
        let content_gone = matches!(failure.fault, Fault::Missing(_)) && !self.content.is_empty();
        if content_gone && self.window.is_whole() {
            self.content = Bytes::new();
            return Failure { again: Again::Soon, in_doubt: false, ..failure };
        }
        let failure = if content_gone { Failure::upload_lost() } else { failure };
        Failure { in_doubt: false, ..failure }
    }

    async fn attempt(&mut self, retry: &mut Retry<'_>) -> Result<Receipt, Cut> {
        let (send, queue) = mpsc::channel(QUEUED_MESSAGES_MAX);
        let begin = v1::PutBegin { resume_content: self.content.clone(), ..self.begin.clone() };
        // The queue is empty and its other end is here, so this cannot fail.
        let _ = send.try_send(message(Ask::Begin(begin)));
        let mut client = records(retry.channel());
        let opening = async {
            let mut replies = client.put(ReceiverStream::new(queue)).await?.into_inner();
            let first = replies.message().await?;
            Ok::<_, tonic::Status>((replies, first.and_then(|reply| reply.step)))
        };
        let (replies, first) = match timeout(retry.attempt_limit(), opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Failure::silent().into()),
        };
        match first {
            // An earlier attempt was committed after all, or an earlier run of the same request.
            Some(Reply::Known(_)) => {
                self.known = true;
                self.compare(replies, send, retry).await
            }
            // The body may have been read beyond what is kept for sending.
            Some(Reply::Position(_)) if self.known => Err(Failure::behind().into()),
            Some(Reply::Position(position)) => {
                self.resume(position)?;
                self.send(replies, send, retry).await
            }
            Some(Reply::Receipt(_)) => Err(Failure::broken("a receipt before the finish").into()),
            None => Err(Failure::broken("an upload without a position").into()),
        }
    }

    /// Reads the body to its end and tells its hashes only.
    async fn compare(
        &mut self,
        mut replies: Streaming<v1::PutReply>,
        send: mpsc::Sender<v1::PutRequest>,
        retry: &mut Retry<'_>,
    ) -> Result<Receipt, Cut> {
        let began = Instant::now();
        let feed = &mut self.feed;
        let reading = async {
            while feed.next().await?.is_some() {}
            Ok(())
        };
        timeout_at(retry.end(), reading).await.map_err(|_| Failure::overdue())?.map_err(Cut::Body)?;
        self.fed = true;
        retry.excuse(began.elapsed());
        let finish = self.finish();
        let asking = async {
            // If the stream is closed at the other end, the reply says why.
            let _ = send.send(finish).await;
            replies.message().await
        };
        match timeout(retry.attempt_limit(), asking).await {
            Ok(reply) => match reply?.and_then(|reply| reply.step) {
                Some(Reply::Receipt(receipt)) => Ok(self.shared.receipt(receipt)?),
                _ => Err(Failure::broken("an upload that ended without a receipt").into()),
            },
            Err(_) => Err(Failure::silent().into()),
        }
    }

    fn finish(&self) -> v1::PutRequest {
        message(Ask::Finish(v1::PutFinish { part_sha256: self.feed.hashes().to_vec() }))
    }

    /// Takes up the upload where the cluster has it.
    fn resume(&mut self, position: v1::PutPosition) -> Result<(), Failure> {
        if position.content_id.is_empty() {
            return Err(Failure::broken("an upload without a content id"));
        }
        match self.window.acknowledge(Position::from(&position)) {
            Ok(_) => {}
            Err(Outside::Before) => return Err(Failure::upload_lost()),
            Err(Outside::After) => return Err(Failure::broken("an upload ahead of what was sent")),
        }
        self.content = position.content_id;
        self.window.rewind();
        Ok(())
    }

    async fn send(
        &mut self,
        mut replies: Streaming<v1::PutReply>,
        send: mpsc::Sender<v1::PutRequest>,
        retry: &mut Retry<'_>,
    ) -> Result<Receipt, Cut> {
        let mut finish_sent = false;
        let mut open = true;
        let mut last_heard = Instant::now();
        loop {
            let to_send = self.window.next().is_some() || (self.fed && !finish_sent);
            let to_read = self.window.next().is_none() && !self.fed && self.window.has_room();
            // Unless the body keeps us waiting, the cluster owes a sign of life.
            let patience_ends = if to_read { retry.end() } else { last_heard + self.shared.timeouts.attempt() };
            tokio::select! {
                reply = replies.message() => {
                    if to_read {
                        retry.excuse(last_heard.elapsed());
                    }
                    last_heard = Instant::now();
                    match reply?.and_then(|reply| reply.step) {
                        Some(Reply::Position(position)) => {
                            match self.window.acknowledge(Position::from(&position)) {
                                Ok(true) => retry.progressed(),
                                // Positions may arrive late, after one that resuming has told.
                                Ok(false) | Err(Outside::Before) => {}
                                Err(Outside::After) => {
                                    return Err(Failure::broken("an upload ahead of what was sent").into());
                                }
                            }
                        }
                        Some(Reply::Receipt(receipt)) => return Ok(self.shared.receipt(receipt)?),
                        Some(Reply::Known(_)) | None => {
                            return Err(Failure::broken("an upload that ended without a receipt").into());
                        }
                    }
                }
                room = send.reserve(), if open && to_send => match room {
                    Ok(room) => {
                        last_heard = Instant::now();
                        room.send(match self.window.next() {
                            Some(step) => ask(step),
                            None => {
                                finish_sent = true;
                                self.finished = true;
                                self.finish()
                            }
                        });
                        self.window.advance();
                    }
                    // The stream is closed at the other end; the reply says why.
                    Err(_) => open = false,
                },
                step = self.feed.next(), if to_read => {
                    match step.map_err(Cut::Body)? {
                        Some(step) => self.window.push(step),
                        None => self.fed = true,
                    }
                    retry.excuse(last_heard.elapsed());
                    last_heard = Instant::now();
                }
                () = sleep_until(patience_ends.min(retry.end())) => {
                    let over = Instant::now() >= retry.end();
                    return Err(if over { Failure::overdue() } else { Failure::silent() }.into());
                }
            }
        }
    }
}

fn message(step: Ask) -> v1::PutRequest {
    v1::PutRequest { step: Some(step) }
}

fn ask(step: &Step) -> v1::PutRequest {
    message(match step {
        Step::Part { name, media_type, .. } => {
            Ask::Part(v1::PutPart { name: name.clone(), media_type: media_type.clone() })
        }
        Step::Data { bytes, .. } => Ask::Data(bytes.clone()),
    })
}
