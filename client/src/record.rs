//! Records as they are described: what a new one is, and what the cluster tells of those it holds.

use std::fmt;

use bytes::Bytes;
use kura_proto::v1;
use serde::Serialize;

use crate::date::Date;
use crate::fault::{Failure, Invalid};
use crate::id::{Hexadecimal, RecordId};
use crate::limit;
use crate::word::{Class, Relation, SignatureResult, UnknownWord};

/// A record to be written: everything but its body.
#[derive(Clone)]
pub struct NewRecord {
    class: Class,
    media_type: String,
    clinical_date: Date,
    document_id: String,
    former_document_ids: Vec<String>,
    addressees: Vec<String>,
    version_of: Option<RecordId>,
    related: Option<Related>,
    author: (String, u64),
    enterer: (String, u64),
    confirmer: (String, u64),
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
    /// A record of a class, in a media type (1 to 512 bytes), of a clinical date. Dates before the
    /// participant's consent are refused.
    pub fn new(class: Class, media_type: impl Into<String>, clinical_date: Date) -> Self {
        Self {
            class,
            media_type: media_type.into(),
            clinical_date,
            document_id: String::new(),
            former_document_ids: Vec::new(),
            addressees: Vec::new(),
            version_of: None,
            related: None,
            author: Default::default(),
            enterer: Default::default(),
            confirmer: Default::default(),
            signature: Bytes::new(),
            timestamp_token: Bytes::new(),
            signature_result: String::new(),
        }
    }

    /// A further version of a record as a list or history tells of it: of its class, as every version is, and in the
    /// media type and of the clinical date of the version told of.
    pub fn version_from(earlier: &Summary) -> Self {
        Self::new(earlier.class, earlier.media_type.clone(), earlier.clinical_date).version_of(earlier.record)
    }

    /// The author's own identifier of the document (1 to 128 bytes), unique in the facility. It
    /// makes the put idempotent even across restarts: the same document is written once. The same id is
    /// a conflict with another body, media type, class, clinical date or participant; with a stated relation,
    /// author, enterer, confirmer (or a time of theirs), signature, timestamp token or result that is not
    /// the one stored; and where the put leaves out somebody whom the stored record reaches. As a version of
    /// that record it is written.
    #[must_use]
    pub fn document_id(mut self, id: impl Into<String>) -> Self {
        self.document_id = id.into();
        self
    }

    /// Further identifiers under which the same document may be stored already (at most 16): then the put is repeated, as
    /// under its own. For identifiers that were derived from what has changed since, such as a participant's number that
    /// became an alias.
    #[must_use]
    pub fn former_document_ids<I: IntoIterator<Item = T>, T: Into<String>>(mut self, ids: I) -> Self {
        self.former_document_ids = ids.into_iter().map(Into::into).collect();
        self
    }

    /// Narrows the record to these facilities; without any, it goes to all that are granted.
    #[must_use]
    pub fn addressees<I: IntoIterator<Item = T>, T: Into<String>>(mut self, facilities: I) -> Self {
        self.addressees = facilities.into_iter().map(Into::into).collect();
        self
    }

    /// Writes a further version of a record instead of a new one. Another class than the record's is a conflict.
    #[must_use]
    pub fn version_of(mut self, record: RecordId) -> Self {
        self.version_of = Some(record);
        self
    }

    /// It stands in the place of another record of the same facility. That one stays as it is and visible
    /// to whom it was; lists tell that it was replaced.
    #[must_use]
    pub fn replaces(self, record: RecordId) -> Self {
        self.relates(Relation::Replaces, record)
    }

    /// It adds to another record, of any facility, that the actor may see.
    #[must_use]
    pub fn appends_to(self, record: RecordId) -> Self {
        self.relates(Relation::Appends, record)
    }

    /// It is another record, of any facility, that the actor may see, in another form.
    #[must_use]
    pub fn transforms(self, record: RecordId) -> Self {
        self.relates(Relation::Transforms, record)
    }

    fn relates(mut self, relation: Relation, record: RecordId) -> Self {
        self.related = Some(Related { relation, record, version: 0 });
        self
    }

    /// The version of the other record that [`NewRecord::replaces`], [`NewRecord::appends_to`] or
    /// [`NewRecord::transforms`] means, if not its highest.
    #[must_use]
    pub fn related_version(mut self, version: u32) -> Self {
        if let Some(related) = &mut self.related {
            related.version = version;
        }
        self
    }

    /// The author, if other than the actor: a user of the same facility.
    #[must_use]
    pub fn author(mut self, user: impl Into<String>) -> Self {
        self.author.0 = user.into();
        self
    }

    /// When the author finished it (milliseconds since 1970-01-01 UTC), if not just now.
    #[must_use]
    pub fn authored_at(mut self, at_ms: u64) -> Self {
        self.author.1 = at_ms;
        self
    }

    /// Who entered it, if other than the actor: a user of the same facility.
    #[must_use]
    pub fn enterer(mut self, user: impl Into<String>) -> Self {
        self.enterer.0 = user.into();
        self
    }

    /// When it was entered (milliseconds since 1970-01-01 UTC), if not just now.
    #[must_use]
    pub fn entered_at(mut self, at_ms: u64) -> Self {
        self.enterer.1 = at_ms;
        self
    }

    /// Who confirmed it, and when (milliseconds since 1970-01-01 UTC): a user of the same facility. Without
    /// this, nobody has.
    #[must_use]
    pub fn confirmed_by(mut self, user: impl Into<String>, at_ms: u64) -> Self {
        self.confirmer = (user.into(), at_ms);
        self
    }

    /// The author's signature over the body (all parts joined), a timestamp token over the same bytes (both
    /// empty if there is none) and what verifying them said. Kept as they are. Where the signature is CMS
    /// (RFC 5652, detached, DER) and authorities are configured, the cluster checks it, too, and keeps what it
    /// finds beside it; nothing is refused for that.
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
        limit::former_document_ids(&self.former_document_ids)?;
        limit::addressees(&self.addressees)?;
        limit::outside_id_or_empty("author_user", &self.author.0)?;
        limit::outside_id_or_empty("enterer_user", &self.enterer.0)?;
        limit::outside_id_or_empty("confirmer_user", &self.confirmer.0)?;
        if self.confirmer.0.is_empty() && self.confirmer.1 != 0 {
            return Err(Invalid::because("confirmer_user", "is empty, and a time of confirming is given"));
        }
        if let Some(related) = self.related {
            limit::record("related_record_id", related.record)?;
        }
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
            author_user: self.author.0.clone(),
            author_ms: self.author.1,
            enterer_user: self.enterer.0.clone(),
            enterer_ms: self.enterer.1,
            confirmer_user: self.confirmer.0.clone(),
            confirmer_ms: self.confirmer.1,
            related_record_id: self.related.map_or_else(Bytes::new, |related| related.record.to_wire()),
            relation: self.related.map_or(0, |related| related.relation.number()),
            related_version: self.related.map_or(0, |related| related.version),
            signature: self.signature.clone(),
            timestamp_token: self.timestamp_token.clone(),
            signature_result: self.signature_result.clone(),
            former_document_ids: self.former_document_ids.clone(),
        })
    }
}

/// Another record that one refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Related {
    /// How.
    pub relation: Relation,
    /// The other record.
    pub record: RecordId,
    /// Its version; 0: the highest.
    pub version: u32,
}

/// Who confirmed a record.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// A user of the author's facility.
    pub user: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
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
    /// When the author finished it, in milliseconds since 1970-01-01 UTC.
    pub authored_ms: u64,
    /// Who entered it: a user of the author's facility.
    pub enterer_user: String,
    /// When it was entered, in milliseconds since 1970-01-01 UTC.
    pub entered_ms: u64,
    /// Who confirmed it, if anyone.
    pub confirmation: Option<Confirmation>,
    /// The author's own identifier; empty if there is none.
    pub document_id: String,
    /// Length of the body, all parts, in bytes.
    pub bytes: u64,
    /// Whether it is hidden from all but its author's facility.
    pub hidden: bool,
    /// Facilities to which it is narrowed; empty: all that are granted.
    pub addressees: Vec<String>,
    /// Another record that this version refers to.
    pub related: Option<Related>,
    /// The record that replaces this one.
    pub replaced_by: Option<RecordId>,
    /// Whether it has a signature.
    pub signed: bool,
    /// What the cluster found of the signature when it was written; none: not checked.
    pub signature_check: Option<SignatureResult>,
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
        let unknown = |error: UnknownWord| Failure::broken(error.to_string());
        let id =
            |bytes: &Bytes| RecordId::from_wire(bytes).ok_or_else(|| Failure::broken("a record id of a wrong length"));
        Ok(Self {
            record: id(&wire.record_id)?,
            related: match wire.relation {
                0 => None,
                relation => Some(Related {
                    relation: Relation::from_number(relation).map_err(unknown)?,
                    record: id(&wire.related_record_id)?,
                    version: wire.related_version,
                }),
            },
            replaced_by: (!wire.replaced_by.is_empty()).then(|| id(&wire.replaced_by)).transpose()?,
            authored_ms: wire.author_ms,
            enterer_user: wire.enterer_user,
            entered_ms: wire.enterer_ms,
            confirmation: (!wire.confirmer_user.is_empty())
                .then_some(Confirmation { user: wire.confirmer_user, at_ms: wire.confirmer_ms }),
            signed: wire.signed,
            signature_check: match wire.signature_check {
                0 => None,
                result => Some(SignatureResult::from_number(result).map_err(unknown)?),
            },
            version: wire.version,
            class: Class::from_number(wire.class).map_err(unknown)?,
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

/// What a list, or the history of a record, tells of one record or version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all are records")]
pub enum Listed {
    /// What it is.
    Record(Summary),
    /// It is stored, and does not open. Whoever looks for the participant's records has to know that there is one more
    /// than they see.
    Damaged(DamagedRecord),
}

impl Listed {
    /// The record's id.
    pub fn record(&self) -> RecordId {
        match self {
            Listed::Record(summary) => summary.record,
            Listed::Damaged(damaged) => damaged.record,
        }
    }

    /// What it is, or that it does not open.
    ///
    /// # Errors
    /// [`DamagedRecord`].
    pub fn opened(self) -> Result<Summary, DamagedRecord> {
        match self {
            Listed::Record(summary) => Ok(summary),
            Listed::Damaged(damaged) => Err(damaged),
        }
    }

    pub(crate) fn from_wire(wire: v1::RecordSummary) -> Result<Self, Failure> {
        match wire.damaged {
            Some(_) => DamagedRecord::from_wire(wire).map(Listed::Damaged),
            None => Summary::from_wire(wire).map(Listed::Record),
        }
    }
}

/// A record, or a version of one, that is stored and does not open: what is known of it. Reading it fails, too; other
/// versions of it may open ([`crate::ActingClient::history`]). Its author may write it anew.
#[derive(Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("a record does not open: damaged")]
pub struct DamagedRecord {
    /// The record.
    pub record: RecordId,
    /// Always `true`: tells it from a [`Summary`] where both are written as JSON.
    pub damaged: bool,
    /// The version; none if nothing but the id is known. Then nobody can say either whether the filters of a list
    /// would take it, or whether the actor would see it if it opened.
    pub version: Option<u32>,
    /// What kind of record it is, if that is known.
    pub class: Option<Class>,
    /// The clinical date, if that is known.
    pub clinical_date: Option<Date>,
    /// The author's facility; empty if it is not known.
    pub author_facility: String,
}

impl fmt::Debug for DamagedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DamagedRecord")
            .field("version", &self.version)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

impl DamagedRecord {
    pub(crate) fn from_wire(wire: v1::RecordSummary) -> Result<Self, Failure> {
        let record = RecordId::from_wire(&wire.record_id);
        let known = wire.damaged.unwrap_or_default();
        Ok(Self {
            record: record.ok_or_else(|| Failure::broken("a record id of a wrong length"))?,
            damaged: true,
            version: (known.version != 0).then_some(known.version),
            class: Class::from_number(known.class).ok(),
            clinical_date: known.clinical_day.map(Date::from_days),
            author_facility: known.author_facility,
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

/// What the cluster found when it checked a signature itself, as the record was written.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct SignatureCheck {
    /// In short; none if there is a timestamp token only.
    pub result: Option<SignatureResult>,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// SHA-256 of the signer's certificate, if it is known, in hexadecimal.
    pub signer_sha256: String,
    /// Time in the timestamp token, if that is valid, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: Option<u64>,
    /// What is wrong with the signature, in words; empty: nothing.
    pub why: String,
    /// What is wrong with the timestamp token, in words; empty: nothing, or there is none.
    pub timestamp_why: String,
}

impl SignatureCheck {
    pub(crate) fn from_wire(wire: v1::SignatureCheck) -> Result<Self, Failure> {
        Ok(Self {
            result: match wire.result {
                0 => None,
                number => {
                    Some(SignatureResult::from_number(number).map_err(|error| Failure::broken(error.to_string()))?)
                }
            },
            at_ms: wire.at_ms,
            signer_sha256: Hexadecimal(&wire.signer_sha256).to_string(),
            timestamp_ms: (wire.timestamp_ms != 0).then_some(wire.timestamp_ms),
            why: wire.why,
            timestamp_why: wire.timestamp_why,
        })
    }
}
