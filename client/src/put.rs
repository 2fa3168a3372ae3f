//! Writing records.
//!
//! Invariants
//! - Nothing is held in memory beyond named bounds: [`WHOLE_READ_BYTES_MAX`] to see whether a body
//!   is small, [`REPLAY_BYTES_MAX`](window::REPLAY_BYTES_MAX) to go on after a cut. (Bytes handed
//!   in as such are the caller's.)
//! - Every attempt carries the same request id: the record is written once.

mod feed;
mod upload;
mod window;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;

use crate::client::{ActingClient, Shared, records};
use crate::error::{Family, PutError, WriteFamily};
use crate::fault::Invalid;
use crate::id::{ParticipantNumber, RequestId};
use crate::limit::{self, PARTS_MAX};
use crate::receipt::Receipt;
use crate::record::NewRecord;

use feed::{Feed, NewPart, Source, Step};

/// A body of an unknown length that ends within these bytes goes in one message.
pub const WHOLE_READ_BYTES_MAX: usize = 256 * 1024;

/// A body handed in as bytes goes in one message up to here: what the cluster takes in one.
pub const PUT_WHOLE_BYTES_MAX: usize = 1024 * 1024;

/// Name of the part that [`Put::body`] and [`Put::bytes`] make.
pub const BODY_PART: &str = "body";

/// A write of a record, made by [`ActingClient::put`]; `.await` runs it.
#[must_use = "nothing is written until it is awaited"]
pub struct Put {
    acting: ActingClient,
    number: ParticipantNumber,
    record: NewRecord,
    parts: Vec<NewPart>,
    request: RequestId,
    beyond_prefecture: bool,
    limit: Option<Duration>,
}

impl ActingClient {
    /// Writes a record, or a further version of one, of a participant.
    pub fn put(&self, number: &ParticipantNumber, record: NewRecord) -> Put {
        Put {
            acting: self.clone(),
            number: *number,
            record,
            parts: Vec::new(),
            request: RequestId::new(),
            beyond_prefecture: false,
            limit: None,
        }
    }
}

impl Put {
    /// Adds the body, of any length, in the record's media type. It is read as it is sent, and not
    /// to its end if the write fails.
    pub fn body(self, body: impl AsyncRead + Send + 'static) -> Self {
        let media_type = self.record.media_type().to_owned();
        self.part(BODY_PART, media_type, body)
    }

    /// Adds the body as bytes, in the record's media type.
    pub fn bytes(self, body: impl Into<Bytes>) -> Self {
        let media_type = self.record.media_type().to_owned();
        self.part_bytes(BODY_PART, media_type, body)
    }

    /// Adds a part; up to [`PARTS_MAX`] make up the body in their order.
    pub fn part(
        mut self,
        name: impl Into<String>,
        media_type: impl Into<String>,
        body: impl AsyncRead + Send + 'static,
    ) -> Self {
        let source = Source::Reader(Box::pin(body));
        self.parts.push(NewPart { name: name.into(), media_type: media_type.into(), source });
        self
    }

    /// Adds a part as bytes.
    pub fn part_bytes(
        mut self,
        name: impl Into<String>,
        media_type: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Self {
        let source = Source::Bytes(body.into());
        self.parts.push(NewPart { name: name.into(), media_type: media_type.into(), source });
        self
    }

    /// Waits until the backup outside the prefecture has synced it, up to the cluster's limit;
    /// [`Receipt::reach`] tells whether it has.
    pub fn beyond_prefecture(mut self) -> Self {
        self.beyond_prefecture = true;
        self
    }

    /// Repeats an earlier request: what was written under it is not written again. The body must
    /// be the same, else the answer is a [`PutError::Conflict`]: the cluster compares hashes, and a
    /// body that it holds already is read to its end here, but not sent.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    /// The request under which it will be written; worth storing before a write that must not be
    /// lost or doubled.
    pub fn request_id(&self) -> RequestId {
        self.request
    }

    /// A time limit for the whole write, instead of the configuration's.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn check(&self) -> Result<(v1::Actor, v1::NewRecord), Invalid> {
        if self.parts.is_empty() || self.parts.len() > PARTS_MAX {
            return Err(Invalid::bound("parts", format!("1 to {PARTS_MAX} parts"), self.parts.len()));
        }
        for part in &self.parts {
            limit::bytes("part name", part.name.as_bytes(), limit::PART_NAME_BYTES_MAX)?;
            limit::media_type("part media_type", &part.media_type)?;
        }
        Ok((self.acting.actor.to_wire()?, self.record.to_wire()?))
    }

    async fn run(self) -> Result<Receipt, PutError> {
        let (actor, record) = self.check().map_err(PutError::from_invalid)?;
        let begin = v1::PutBegin {
            actor: Some(actor),
            request: self.request.wire(),
            participant: self.number.reveal().to_owned(),
            record: Some(record),
            resume_content: Bytes::new(),
            beyond_prefecture: self.beyond_prefecture,
        };
        let shared = Arc::clone(&self.acting.shared);
        match gather(self.parts).await.map_err(|source| PutError::Body { source })? {
            Gathered::Whole(parts) => put_whole(&shared, begin, parts, self.request, self.limit).await,
            Gathered::Long { feed, first } => {
                upload::upload(&shared, begin, *feed, first, self.request, self.limit).await
            }
        }
    }
}

impl IntoFuture for Put {
    type Output = Result<Receipt, PutError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

enum Gathered {
    Whole(Vec<v1::WholePart>),
    Long { feed: Box<Feed>, first: Vec<Step> },
}

/// Reads until it is clear whether the body is small.
async fn gather(parts: Vec<NewPart>) -> std::io::Result<Gathered> {
    if let Some(whole) = whole_bytes(&parts) {
        return Ok(Gathered::Whole(whole));
    }
    let mut feed = Feed::new(parts);
    let mut first = Vec::new();
    let mut read = 0;
    while read <= WHOLE_READ_BYTES_MAX {
        match feed.next().await? {
            Some(step) => {
                read += step.data_bytes();
                first.push(step);
            }
            None => return Ok(Gathered::Whole(joined(first, &feed))),
        }
    }
    Ok(Gathered::Long { feed: Box::new(feed), first })
}

/// Parts that are bytes already, if all are and they fit one message.
fn whole_bytes(parts: &[NewPart]) -> Option<Vec<v1::WholePart>> {
    let mut total = 0;
    let mut whole = Vec::with_capacity(parts.len());
    for part in parts {
        let Source::Bytes(data) = &part.source else { return None };
        total += data.len();
        if total > PUT_WHOLE_BYTES_MAX {
            return None;
        }
        whole.push((part, data));
    }
    let make = |(part, data): (&NewPart, &Bytes)| v1::WholePart {
        name: part.name.clone(),
        media_type: part.media_type.clone(),
        data: data.clone(),
        sha256: Bytes::copy_from_slice(&Sha256::digest(data)),
    };
    Some(whole.into_iter().map(make).collect())
}

fn joined(steps: Vec<Step>, feed: &Feed) -> Vec<v1::WholePart> {
    let mut parts: Vec<v1::WholePart> = Vec::new();
    for step in steps {
        match step {
            Step::Part { number: _, name, media_type } => {
                let sha256 = feed.hashes().get(parts.len()).cloned().unwrap_or_default();
                parts.push(v1::WholePart { name, media_type, data: Bytes::new(), sha256 });
            }
            Step::Data { bytes, .. } => {
                if let Some(part) = parts.last_mut() {
                    part.data = if part.data.is_empty() { bytes } else { append(&part.data, &bytes) };
                }
            }
        }
    }
    parts
}

fn append(former: &Bytes, further: &Bytes) -> Bytes {
    let mut all = BytesMut::with_capacity(former.len() + further.len());
    all.extend_from_slice(former);
    all.extend_from_slice(further);
    all.freeze()
}

async fn put_whole(
    shared: &Shared,
    begin: v1::PutBegin,
    parts: Vec<v1::WholePart>,
    request: RequestId,
    limit: Option<Duration>,
) -> Result<Receipt, PutError> {
    let v1::PutBegin { actor, request: request_id, participant, record, beyond_prefecture, .. } = begin;
    let whole = v1::PutWholeRequest { actor, request: request_id, participant, record, parts, beyond_prefecture };
    let attempt = |channel| {
        let whole = whole.clone();
        async move { shared.receipt(records(channel).put_whole(whole).await?.into_inner()) }
    };
    shared.call(limit, attempt).await.map_err(|failed| PutError::from_failed(failed, request))
}
