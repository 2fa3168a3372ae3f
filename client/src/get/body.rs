//! The bytes of a record on their way here, across cuts.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use kura_proto::v1;
use kura_proto::v1::get_reply::Step as Reply;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::Header;
use super::verify::{Verifier, WrongPart};
use crate::call::Retry;
use crate::client::{Shared, records};
use crate::error::{Family, GetError};
use crate::fault::{Failure, Fault, Invalid};
use crate::pool::Lease;
use crate::record::Part;

/// A body that has begun to come.
pub(crate) struct Body {
    shared: Arc<Shared>,
    /// What asked for it, pinned to the version that came.
    request: v1::GetRequest,
    replies: Streaming<v1::GetReply>,
    /// The node that answers.
    lease: Lease,
    /// Data that came with the header.
    ahead: Bytes,
    range: Range<u64>,
    /// The next byte to hand out.
    position: u64,
    verifier: Verifier,
    parts: Vec<Part>,
    /// When all must be over.
    end: Instant,
}

/// An answered request: its header, first data and what follows.
struct Opened {
    header: Header,
    ahead: Bytes,
    replies: Streaming<v1::GetReply>,
}

impl Body {
    pub async fn open(
        shared: Arc<Shared>,
        mut request: v1::GetRequest,
        limit: Option<Duration>,
    ) -> Result<(Header, Self), GetError> {
        let mut retry = Retry::transfer(&shared, limit);
        let Opened { header, ahead, replies } = open(&shared, &request, &mut retry).await?;
        let (end, lease) = (retry.end(), retry.lease());
        let bytes = header.summary.bytes;
        if request.range_start > bytes {
            return Err(GetError::from_invalid(Invalid::because("range", "begins after the body's end")));
        }
        let last = match request.range_length {
            0 => bytes,
            length => request.range_start.saturating_add(length).min(bytes),
        };
        let range = match &request.part[..] {
            "" => request.range_start..last,
            name => part_range(&header.parts, name)
                .ok_or_else(|| GetError::from_fault(Failure::broken("a body without the part asked for").fault))?,
        };
        // A cut read goes on by the bytes that are left.
        request.part.clear();
        request.version = header.summary.version;
        let verifier = Verifier::new(&header.parts, range.start);
        let (position, parts) = (range.start, header.parts.clone());
        let mut body = Self { shared, request, replies, lease, ahead, range, position, verifier, parts, end };
        // A body without bytes has a hash, too.
        body.verify(&[])?;
        Ok((header, body))
    }

    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, GetError>> + Send + 'static {
        stream::unfold(Some(self), |body| async move {
            let mut body = body?;
            match body.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The next bytes, verified; nothing after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, GetError> {
        loop {
            if !self.ahead.is_empty() {
                let bytes = std::mem::take(&mut self.ahead);
                if bytes.len() as u64 > self.range.end - self.position {
                    return Err(GetError::from_fault(Failure::broken("more bytes than announced").fault));
                }
                self.verify(&bytes)?;
                self.position += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if self.position == self.range.end {
                return self.finish().await;
            }
            let limit = self.shared.timeouts.attempt().min(self.end.saturating_duration_since(Instant::now()));
            let failure = match timeout(limit, self.replies.message()).await {
                Ok(Ok(Some(v1::GetReply { step: Some(Reply::Data(bytes)) }))) => {
                    self.ahead = bytes;
                    continue;
                }
                Ok(Ok(Some(_))) => Failure::broken("a second header"),
                Ok(Ok(None)) => {
                    // The node says that this is all, and it is not: going on would hide it.
                    let bytes = self.position - self.range.start;
                    return Err(GetError::EndedEarly { bytes, expected: self.range.end - self.range.start });
                }
                Ok(Err(status)) => status.into(),
                Err(_) if Instant::now() >= self.end => Failure::overdue(),
                Err(_) => Failure::silent(),
            };
            self.resume(failure).await?;
        }
    }

    /// Hears the node out, so that the call ends in order. Everything has come and was verified, so
    /// a failure no longer matters; more bytes than announced do.
    async fn finish(&mut self) -> Result<Option<Bytes>, GetError> {
        match timeout(self.shared.timeouts.attempt(), self.replies.message()).await {
            Ok(Ok(Some(_))) => Err(GetError::from_fault(Failure::broken("more bytes than announced").fault)),
            _ => Ok(None),
        }
    }

    fn verify(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        self.verifier.update(self.position, bytes).map_err(|WrongPart(part)| GetError::WrongHash { part })
    }

    /// Asks for the rest, as a new request.
    async fn resume(&mut self, failure: Failure) -> Result<(), GetError> {
        let shared = Arc::clone(&self.shared);
        let mut retry = Retry::until(&shared, self.lease.clone(), self.end);
        retry.failed(failure).await.map_err(|failed| GetError::from_fault(failed.fault))?;
        self.request.range_start = self.position;
        self.request.range_length = self.range.end - self.position;
        let opened = open(&shared, &self.request, &mut retry).await?;
        let same = opened.header.summary.version == self.request.version && opened.header.parts == self.parts;
        if !same {
            let fault: Fault = Failure::broken("another body than the one that was cut off").fault;
            return Err(GetError::from_fault(fault));
        }
        self.ahead = opened.ahead;
        self.replies = opened.replies;
        self.lease = retry.lease();
        Ok(())
    }
}

/// Which bytes of the whole body a part is.
fn part_range(parts: &[Part], name: &str) -> Option<Range<u64>> {
    let place = parts.iter().position(|part| part.name == name)?;
    let start = parts[..place].iter().map(|part| part.bytes).sum();
    Some(start..start + parts[place].bytes)
}

/// Asks until a header comes.
async fn open(shared: &Shared, request: &v1::GetRequest, retry: &mut Retry<'_>) -> Result<Opened, GetError> {
    loop {
        let attempt = async {
            let mut replies = records(retry.channel()).get(request.clone()).await?.into_inner();
            let Some(v1::GetReply { step: Some(Reply::Header(mut header)) }) = replies.message().await? else {
                return Err(Failure::broken("a read without a header"));
            };
            shared.follow(header.timeline)?;
            let ahead = std::mem::take(&mut header.data);
            Ok(Opened { header: Header::from_wire(header)?, ahead, replies })
        };
        let failure = match timeout(retry.attempt_limit(), attempt).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::silent(),
        };
        retry.failed(failure).await.map_err(|failed| GetError::from_fault(failed.fault))?;
    }
}
