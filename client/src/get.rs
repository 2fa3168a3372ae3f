//! Reading records.
//!
//! Invariants
//! - A body is complete or an error: it ends only after every announced byte has come.
//! - The last bytes of a part are handed out only after its SHA-256 was found right, if the part was
//!   read from its beginning.
//! - A read that is cut off goes on at another node as a request of its own, decided and journalled
//!   anew, pinned to the same version.

mod body;
mod several;
mod verify;

use std::fmt;
use std::future::IntoFuture;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use kura_proto::v1;
use tokio::io::AsyncBufRead;
use tokio_util::io::StreamReader;

use crate::client::{ActingClient, Person};
use crate::error::{Family, GetError};
use crate::fault::{Failure, Invalid};
use crate::id::{EmergencyId, ParticipantNumber, RecordId};
use crate::limit;
use crate::pages::Listing;
use crate::record::{Part, SignatureCheck, Summary};
use crate::word::Purpose;

use body::Body;

pub use several::{GetSeveral, OneOfSeveral, RefusedRecord, Several, SeveralRecord};

/// The largest body that [`Record::bytes`] gathers in memory.
pub const GATHERED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A read of a record, made by [`ActingClient::get`]; `.await` begins it.
#[must_use = "nothing is read until it is awaited"]
pub struct Get {
    acting: ActingClient,
    number: ParticipantNumber,
    record: RecordId,
    version: u32,
    purpose: Purpose,
    range: (Bound<u64>, Bound<u64>),
    part: String,
    limit: Option<Duration>,
    emergency: Option<EmergencyId>,
}

impl ActingClient {
    /// Reads a record of a participant, for [`Purpose::Care`] if no other is stated.
    pub fn get(&self, number: &ParticipantNumber, record: RecordId) -> Get {
        Get {
            acting: self.clone(),
            number: *number,
            record,
            version: 0,
            purpose: Purpose::Care,
            range: (Bound::Unbounded, Bound::Unbounded),
            part: String::new(),
            limit: None,
            emergency: None,
        }
    }
}

impl Person {
    /// Reads one of their records, for [`Purpose::Own`].
    pub fn get(&self, record: RecordId) -> Get {
        self.acting.get(&self.number, record).purpose(Purpose::Own)
    }
}

impl Get {
    /// Another version than the newest that the actor may see.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// What the access is for.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Under an emergency that the actor opened.
    pub fn under(mut self, emergency: EmergencyId) -> Self {
        self.emergency = Some(emergency);
        self
    }

    /// Only these bytes of the body, all parts joined in their order.
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        self.range = (range.start_bound().cloned(), range.end_bound().cloned());
        self
    }

    /// Only the part of this name, whole; not together with [`Get::range`].
    pub fn part(mut self, name: impl Into<String>) -> Self {
        self.part = name.into();
        self
    }

    /// A time limit for the whole read, instead of the configuration's.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn request(&self) -> Result<v1::GetRequest, Invalid> {
        limit::record("record_id", self.record)?;
        let overflow = || Invalid::because("range", "lies beyond every body");
        let range_start = match self.range.0 {
            Bound::Included(first) => first,
            Bound::Excluded(before) => before.checked_add(1).ok_or_else(overflow)?,
            Bound::Unbounded => 0,
        };
        let end = match self.range.1 {
            Bound::Included(last) => Some(last.checked_add(1).ok_or_else(overflow)?),
            Bound::Excluded(end) => Some(end),
            Bound::Unbounded => None,
        };
        let range_length = match end {
            None => 0,
            Some(end) if end > range_start => end - range_start,
            Some(_) => return Err(Invalid::because("range", "is empty")),
        };
        limit::bytes("part", self.part.as_bytes(), limit::PART_NAME_BYTES_MAX)?;
        if !self.part.is_empty() && (range_start, range_length) != (0, 0) {
            return Err(Invalid::because("part", "is given together with a range"));
        }
        Ok(v1::GetRequest {
            actor: Some(self.acting.actor.to_wire()?),
            participant: self.number.reveal().to_owned(),
            record_id: self.record.to_wire(),
            version: self.version,
            purpose: self.purpose.number(),
            range_start,
            range_length,
            episode_id: self.emergency.map_or_else(Bytes::new, EmergencyId::to_wire),
            part: self.part.clone(),
        })
    }

    async fn run(self) -> Result<Record, GetError> {
        let request = self.request().map_err(GetError::from_invalid)?;
        let (header, body) = Body::open(Arc::clone(&self.acting.shared), request, self.limit).await?;
        Ok(Record { header, body })
    }
}

impl IntoFuture for Get {
    type Output = Result<Record, GetError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// What precedes a body.
pub(crate) struct Header {
    summary: Summary,
    parts: Vec<Part>,
    signature: Bytes,
    timestamp_token: Bytes,
    signature_result: String,
    signature_check: Option<SignatureCheck>,
    journal_position: u64,
    timeline: u64,
    index: u64,
}

impl Header {
    pub(crate) fn from_wire(wire: v1::RecordHeader) -> Result<Self, Failure> {
        let summary = wire.summary.ok_or_else(|| Failure::broken("a header without a summary"))?;
        let header = Self {
            summary: Summary::from_wire(summary)?,
            parts: wire.parts.into_iter().map(Part::from_wire).collect::<Result<_, _>>()?,
            signature: wire.signature,
            timestamp_token: wire.timestamp_token,
            signature_result: wire.signature_result,
            signature_check: wire.signature_check.map(SignatureCheck::from_wire).transpose()?,
            journal_position: wire.journal_position,
            timeline: wire.timeline,
            index: wire.index,
        };
        let of_parts = header.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.bytes));
        if of_parts != Some(header.summary.bytes) {
            return Err(Failure::broken("a header whose parts do not make up its length"));
        }
        Ok(header)
    }
}

/// A record being read: what it is, and its body still to come. Dropping it ends the read.
pub struct Record {
    header: Header,
    body: Body,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("summary", &self.header.summary).finish_non_exhaustive()
    }
}

impl Record {
    /// What it is.
    pub fn summary(&self) -> &Summary {
        &self.header.summary
    }

    /// Its parts, in their order.
    pub fn parts(&self) -> &[Part] {
        &self.header.parts
    }

    /// Which bytes of the whole body a part is (counted from 0): what to hand to [`Get::range`].
    pub fn part_range(&self, place: usize) -> Option<Range<u64>> {
        let bytes = self.header.parts.get(place)?.bytes;
        let start = self.header.parts[..place].iter().map(|part| part.bytes).sum();
        Some(start..start + bytes)
    }

    /// Which bytes of the whole body are coming.
    pub fn range(&self) -> Range<u64> {
        self.body.range()
    }

    /// The author's signature; empty if there is none.
    pub fn signature(&self) -> &Bytes {
        &self.header.signature
    }

    /// The timestamp token on the signature; empty if there is none.
    pub fn timestamp_token(&self) -> &Bytes {
        &self.header.timestamp_token
    }

    /// What verifying the signature said when it was written.
    pub fn signature_result(&self) -> &str {
        &self.header.signature_result
    }

    /// What the cluster itself found then; none: it did not check.
    pub fn signature_check(&self) -> Option<&SignatureCheck> {
        self.header.signature_check.as_ref()
    }

    /// Position of the journal entry of this read.
    pub fn journal_position(&self) -> u64 {
        self.header.journal_position
    }

    /// Timeline and log index at which consent was decided.
    pub fn decided_at(&self) -> (u64, u64) {
        (self.header.timeline, self.header.index)
    }

    /// The body, as chunks of at most 4 MiB.
    pub fn into_stream(self) -> Listing<Bytes, GetError> {
        Listing::from_stream(self.body.into_stream())
    }

    /// The body, as a reader. Its errors hold a [`GetError`] and never look like the end.
    pub fn into_reader(self) -> impl AsyncBufRead + Send + Unpin + 'static {
        StreamReader::new(self.body.into_stream().map_err(std::io::Error::from).boxed())
    }

    /// The body in memory, up to [`GATHERED_BYTES_MAX`].
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Invalid`] for a longer one.
    pub async fn bytes(self) -> Result<Bytes, GetError> {
        let range = self.range();
        let length = range.end - range.start;
        if length > GATHERED_BYTES_MAX {
            let given = usize::try_from(length).unwrap_or(usize::MAX);
            let limit = format!("at most {GATHERED_BYTES_MAX} bytes in memory");
            return Err(GetError::from_invalid(Invalid::bound("body", limit, given)));
        }
        let mut chunks = self.into_stream();
        let mut gathered = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            if gathered.is_empty() && chunk.len() as u64 == length {
                return Ok(match chunks.next().await {
                    Some(further) => further?,
                    None => chunk,
                });
            }
            gathered.extend_from_slice(&chunk);
        }
        Ok(gathered.freeze())
    }
}

impl From<GetError> for std::io::Error {
    fn from(error: GetError) -> Self {
        use std::io::ErrorKind;
        let kind = match &error {
            GetError::Denied(_) | GetError::Unfit(_) => ErrorKind::PermissionDenied,
            GetError::EndedEarly { .. } => ErrorKind::UnexpectedEof,
            GetError::WrongHash { .. } | GetError::Damaged(_) | GetError::Broken(_) => ErrorKind::InvalidData,
            GetError::NotFound(_) => ErrorKind::NotFound,
            GetError::Invalid(_) => ErrorKind::InvalidInput,
            GetError::Later(_) => ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
