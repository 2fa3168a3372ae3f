//! Records as they are described: what a new one is, and what the cluster tells of those it holds.

use std::fmt;

use bytes::Bytes;
use kura_proto::v1;
use serde::Serialize;

use crate::date::Date;
use crate::fault::{Failure, Invalid};
use crate::id::RecordId;
use crate::limit;
use crate::word::Class;

/// A record to be written: everything but its body.
#[derive(Clone)]
pub struct NewRecord {
    class: Class,
    media_type: String,
    clinical_date: Date,
    document_id: String,
    addressees: Vec<String>,
    version_of: Option<RecordId>,
    author_user: String,
    signature: Bytes,
    timestamp_token: Bytes,
    signature_result: String,
}

impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRecord").field("class", &self.class).finish_non_exhaustive()
    }
}

impl NewRecord {
    /// A record of a class, in a media type (1 to 255 bytes), of a clinical date. Dates before the
    /// participant's consent are refused.
    pub fn new(class: Class, media_type: impl Into<String>, clinical_date: Date) -> Self {
        Self {
            class,
            media_type: media_type.into(),
            clinical_date,
            document_id: String::new(),
            addressees: Vec::new(),
            version_of: None,
            author_user: String::new(),
            signature: Bytes::new(),
            timestamp_token: Bytes::new(),
            signature_result: String::new(),
        }
    }

    /// The author's own identifier of the document (1 to 128 bytes), unique in the facility. It
    /// makes the put idempotent even across restarts: the same document is written once, and the
    /// same id with another body is a conflict.
    #[must_use]
    pub fn document_id(mut self, id: impl Into<String>) -> Self {
        self.document_id = id.into();
        self
    }

    /// Narrows the record to these facilities; without any, it goes to all that are granted.
    #[must_use]
    pub fn addressees<I: IntoIterator<Item = T>, T: Into<String>>(mut self, facilities: I) -> Self {
        self.addressees = facilities.into_iter().map(Into::into).collect();
        self
    }

    /// Writes a further version of a record instead of a new one.
    #[must_use]
    pub fn version_of(mut self, record: RecordId) -> Self {
        self.version_of = Some(record);
        self
    }

    /// The author, if other than the actor: a user of the same facility.
    #[must_use]
    pub fn author(mut self, user: impl Into<String>) -> Self {
        self.author_user = user.into();
        self
    }

    /// The author's signature over the body, a timestamp token on it (both empty if there is none)
    /// and what verifying them said. Kept as they are.
    #[must_use]
    pub fn signature(mut self, signature: Bytes, timestamp_token: Bytes, result: impl Into<String>) -> Self {
        self.signature = signature;
        self.timestamp_token = timestamp_token;
        self.signature_result = result.into();
        self
    }

    pub(crate) fn media_type(&self) -> &str {
        &self.media_type
    }

    pub(crate) fn to_wire(&self) -> Result<v1::NewRecord, Invalid> {
        limit::media_type("media_type", &self.media_type)?;
        limit::outside_id_or_empty("document_id", &self.document_id)?;
        limit::addressees(&self.addressees)?;
        limit::outside_id_or_empty("author_user", &self.author_user)?;
        limit::bytes("signature", &self.signature, limit::SIGNATURE_BYTES_MAX)?;
        limit::bytes("timestamp_token", &self.timestamp_token, limit::SIGNATURE_BYTES_MAX)?;
        limit::text("signature_result", &self.signature_result)?;
        if let Some(record) = self.version_of {
            limit::record("record_id", record)?;
        }
        Ok(v1::NewRecord {
            class: self.class.number(),
            media_type: self.media_type.clone(),
            clinical_day: self.clinical_date.days(),
            document_id: self.document_id.clone(),
            addressees: self.addressees.clone(),
            record_id: self.version_of.map_or_else(Bytes::new, RecordId::to_wire),
            author_user: self.author_user.clone(),
            signature: self.signature.clone(),
            timestamp_token: self.timestamp_token.clone(),
            signature_result: self.signature_result.clone(),
        })
    }
}

/// One version of a record, as lists and headers tell of it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The record.
    pub record: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// What kind of record it is.
    pub class: Class,
    /// Media type of the body.
    pub media_type: String,
    /// The clinical date.
    pub clinical_date: Date,
    /// When it was written, in milliseconds since 1970-01-01 UTC.
    pub written_ms: u64,
    /// The author's facility.
    pub author_facility: String,
    /// The author.
    pub author_user: String,
    /// The author's own identifier; empty if there is none.
    pub document_id: String,
    /// Length of the body, all parts, in bytes.
    pub bytes: u64,
    /// Whether it is hidden from all but its author's facility.
    pub hidden: bool,
    /// Facilities to which it is narrowed; empty: all that are granted.
    pub addressees: Vec<String>,
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary")
            .field("version", &self.version)
            .field("class", &self.class)
            .field("bytes", &self.bytes)
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}

impl Summary {
    pub(crate) fn from_wire(wire: v1::RecordSummary) -> Result<Self, Failure> {
        Ok(Self {
            record: RecordId::from_wire(&wire.record_id)
                .ok_or_else(|| Failure::broken("a record id of a wrong length"))?,
            version: wire.version,
            class: Class::from_number(wire.class).map_err(|error| Failure::broken(error.to_string()))?,
            media_type: wire.media_type,
            clinical_date: Date::from_days(wire.clinical_day),
            written_ms: wire.written_ms,
            author_facility: wire.author_facility,
            author_user: wire.author_user,
            document_id: wire.document_id,
            bytes: wire.bytes,
            hidden: wire.hidden,
            addressees: wire.addressees,
        })
    }
}

/// A part of a record's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Part {
    pub(crate) fn from_wire(wire: v1::PartSummary) -> Result<Self, Failure> {
        let sha256 =
            wire.sha256.as_ref().try_into().map_err(|_| Failure::broken("a part's SHA-256 of a wrong length"))?;
        Ok(Self { name: wire.name, media_type: wire.media_type, bytes: wire.bytes, sha256 })
    }
}
