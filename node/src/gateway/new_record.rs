//! A record to be written, parsed and bounded: everything but its body.
//!
//! Author, enterer and confirmer are kept as the application states them, like the actor itself: users of
//! the actor's facility, not held against the registry (a record may be older than the registry is).

use bytes::Bytes;
use kura_cluster::ParticipantNumber;
use kura_cluster::id::{DocumentId, FacilityId, RecordId, UserId};
use kura_cluster::word::{Class, Relation};
use kura_proto::v1;

use super::GatewayError;
use super::consents::bounded;
use super::limits::{FACILITIES_MAX, FORMER_DOCUMENT_IDS_MAX, REQUEST_AHEAD_MS_MAX, SIGNATURE_BYTES_MAX};
use super::participant::number;

/// A record to be written, parsed.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Participant.
    pub number: ParticipantNumber,
    /// Class.
    pub class: Class,
    /// Media type.
    pub media_type: String,
    /// Clinical day.
    pub clinical_day: i32,
    /// The author's own id.
    pub document_id: Option<DocumentId>,
    /// Further ids under which the same document may be stored.
    pub former_document_ids: Vec<DocumentId>,
    /// Addressees, sorted and distinct.
    pub addressees: Vec<String>,
    /// The record of which this is a version.
    pub version_of: Option<RecordId>,
    /// Another record that it refers to.
    pub related: Option<NewRelation>,
    /// The author if not the actor.
    pub author_user: Option<UserId>,
    /// When the author finished it; 0: now.
    pub author_ms: u64,
    /// The enterer if not the actor.
    pub enterer_user: Option<UserId>,
    /// When it was entered; 0: now.
    pub enterer_ms: u64,
    /// Who confirmed it, if anyone.
    pub confirmer_user: Option<UserId>,
    /// When; 0: now.
    pub confirmer_ms: u64,
    /// A detached signature over the exact bytes, or empty.
    pub signature: Bytes,
    /// A timestamp token, or empty.
    pub timestamp_token: Bytes,
    /// What the application found when it verified them.
    pub signature_result: String,
}

/// How a new record refers to another.
#[derive(Debug, Clone)]
pub struct NewRelation {
    /// How.
    pub relation: Relation,
    /// To which.
    pub record: RecordId,
    /// Its version; 0: the highest.
    pub version: u32,
}

impl NewRecord {
    /// Parses and bounds everything but the body.
    pub fn parse(participant: &str, record: Option<&v1::NewRecord>) -> Result<NewRecord, GatewayError> {
        let record = record.ok_or_else(|| GatewayError::invalid("record", "is missing"))?;
        let number = number(participant)?;
        check_media_type("media_type", &record.media_type)?;
        bounded("signature_result", &record.signature_result)?;
        for (field, bytes) in [("signature", &record.signature), ("timestamp_token", &record.timestamp_token)] {
            if bytes.len() > SIGNATURE_BYTES_MAX {
                let why = format!("has {} bytes, the limit is {SIGNATURE_BYTES_MAX}", bytes.len());
                return Err(GatewayError::invalid(field, why));
            }
        }
        if record.confirmer_user.is_empty() && record.confirmer_ms != 0 {
            return Err(GatewayError::invalid("confirmer_user", "is missing: a time of confirming is given"));
        }
        Ok(NewRecord {
            number,
            class: Class::from_number(record.class).map_err(|e| GatewayError::invalid("class", e))?,
            media_type: record.media_type.clone(),
            clinical_day: record.clinical_day,
            document_id: (!record.document_id.is_empty())
                .then(|| DocumentId::parse(&record.document_id))
                .transpose()
                .map_err(|e| GatewayError::invalid("document_id", e))?,
            former_document_ids: former_document_ids(&record.former_document_ids)?,
            addressees: addressees(&record.addressees)?,
            version_of: (!record.record_id.is_empty())
                .then(|| RecordId::from_slice(&record.record_id))
                .transpose()
                .map_err(|e| GatewayError::invalid("record_id", e))?,
            related: related(record)?,
            author_user: user("author_user", &record.author_user)?,
            author_ms: record.author_ms,
            enterer_user: user("enterer_user", &record.enterer_user)?,
            enterer_ms: record.enterer_ms,
            confirmer_user: user("confirmer_user", &record.confirmer_user)?,
            confirmer_ms: record.confirmer_ms,
            signature: record.signature.clone(),
            timestamp_token: record.timestamp_token.clone(),
            signature_result: record.signature_result.clone(),
        })
    }

    /// Nothing is authored, entered or confirmed in the future; clocks may differ a little.
    pub fn check_times(&self, now_ms: u64) -> Result<(), GatewayError> {
        let latest_ms = now_ms.saturating_add(REQUEST_AHEAD_MS_MAX);
        for (field, at_ms) in
            [("author_ms", self.author_ms), ("enterer_ms", self.enterer_ms), ("confirmer_ms", self.confirmer_ms)]
        {
            if at_ms > latest_ms {
                let why = format!("lies in the future, by more than {} s", REQUEST_AHEAD_MS_MAX / 1000);
                return Err(GatewayError::invalid(field, why));
            }
        }
        Ok(())
    }
}

fn former_document_ids(given: &[String]) -> Result<Vec<DocumentId>, GatewayError> {
    const FIELD: &str = "former_document_ids";
    if given.len() > FORMER_DOCUMENT_IDS_MAX {
        let why = format!("{} are given, the limit is {FORMER_DOCUMENT_IDS_MAX}", given.len());
        return Err(GatewayError::invalid(FIELD, why));
    }
    given.iter().map(|id| DocumentId::parse(id).map_err(|e| GatewayError::invalid(FIELD, e))).collect()
}

fn addressees(given: &[String]) -> Result<Vec<String>, GatewayError> {
    if given.len() > FACILITIES_MAX {
        let why = format!("{} are given, the limit is {FACILITIES_MAX}", given.len());
        return Err(GatewayError::invalid("addressees", why));
    }
    for addressee in given {
        FacilityId::parse(addressee).map_err(|e| GatewayError::invalid("addressees", e))?;
    }
    let mut addressees = given.to_vec();
    addressees.sort();
    addressees.dedup();
    Ok(addressees)
}

fn related(record: &v1::NewRecord) -> Result<Option<NewRelation>, GatewayError> {
    if record.related_record_id.is_empty() {
        return match (record.relation, record.related_version) {
            (0, 0) => Ok(None),
            _ => Err(GatewayError::invalid("related_record_id", "is missing: a relation is given")),
        };
    }
    let other =
        RecordId::from_slice(&record.related_record_id).map_err(|e| GatewayError::invalid("related_record_id", e))?;
    if record.related_record_id == record.record_id {
        return Err(GatewayError::invalid("related_record_id", "is the record itself; a further version needs none"));
    }
    let relation = Relation::from_number(record.relation).map_err(|e| GatewayError::invalid("relation", e))?;
    Ok(Some(NewRelation { relation, record: other, version: record.related_version }))
}

/// A media type: `type/subtype`, and whatever parameters follow (RFC 9110, 8.3.1).
pub fn check_media_type(field: &'static str, text: &str) -> Result<(), GatewayError> {
    bounded(field, text)?;
    let kind = text.split(';').next().unwrap_or_default().trim_end();
    let is_token = |word: &str| !word.is_empty() && word.bytes().all(is_token_byte);
    match kind.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype)) {
        true => Ok(()),
        false if text.is_empty() => Err(GatewayError::invalid(field, "is empty")),
        false => Err(GatewayError::invalid(field, "is no type/subtype, such as application/pdf")),
    }
}

/// Bytes of a token (RFC 9110, 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn user(field: &'static str, id: &str) -> Result<Option<UserId>, GatewayError> {
    let parse = || UserId::parse(id).map_err(|error| GatewayError::invalid(field, error));
    (!id.is_empty()).then(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::NewRecord {
        v1::NewRecord { class: 8, media_type: "text/plain".into(), clinical_day: 20_000, ..Default::default() }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let parse = |record: v1::NewRecord| NewRecord::parse("4300000000000001", Some(&record));
        assert!(parse(wire()).is_ok());
        let id = || Bytes::from_static(&[7; 16]);
        let long = "u".repeat(129);
        let wrong = [
            ("media_type", v1::NewRecord { media_type: String::new(), ..wire() }),
            ("class", v1::NewRecord { class: 99, ..wire() }),
            ("author_user", v1::NewRecord { author_user: long.clone(), ..wire() }),
            ("enterer_user", v1::NewRecord { enterer_user: long.clone(), ..wire() }),
            ("confirmer_user", v1::NewRecord { confirmer_user: "u\n".into(), ..wire() }),
            ("confirmer_user", v1::NewRecord { confirmer_ms: 5, ..wire() }),
            ("former_document_ids", v1::NewRecord { former_document_ids: vec![String::new()], ..wire() }),
            ("former_document_ids", v1::NewRecord { former_document_ids: vec!["d".into(); 17], ..wire() }),
            ("relation", v1::NewRecord { related_record_id: id(), ..wire() }),
            ("relation", v1::NewRecord { related_record_id: id(), relation: 4, ..wire() }),
            ("related_record_id", v1::NewRecord { relation: 1, ..wire() }),
            ("related_record_id", v1::NewRecord { related_version: 1, ..wire() }),
            ("related_record_id", v1::NewRecord { related_record_id: Bytes::from_static(b"7"), relation: 1, ..wire() }),
            ("related_record_id", v1::NewRecord { related_record_id: id(), record_id: id(), relation: 1, ..wire() }),
            ("signature", v1::NewRecord { signature: vec![0; SIGNATURE_BYTES_MAX + 1].into(), ..wire() }),
        ];
        for (field, record) in wrong {
            match parse(record).unwrap_err() {
                GatewayError::Invalid { field: named, .. } => assert_eq!(named, field),
                other => panic!("{field}: {other}"),
            }
        }
    }

    #[test]
    fn a_media_type_has_a_type_and_a_subtype() {
        let checked = |text| check_media_type("media_type", text);
        for good in
            ["text/plain", "x-application/hl7-v2+er7; charset=iso-2022-jp", "a/b", "text/plain ;charset=\"a b\""]
        {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for wrong in
            ["", " ", "nonsense", "/", "a/", "/b", "a/b/c", "a b/c", "text/plain, text/html", "文書/pdf", "; a/b"]
        {
            assert!(matches!(checked(wrong), Err(GatewayError::Invalid { field: "media_type", .. })), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_done_in_the_future() {
        let now_ms = 1_000_000_000;
        for ahead_ms in [0, REQUEST_AHEAD_MS_MAX] {
            let at_ms = now_ms + ahead_ms;
            let stated = v1::NewRecord { author_ms: at_ms, enterer_ms: at_ms, ..wire() };
            let stated = v1::NewRecord { confirmer_user: "u".into(), confirmer_ms: at_ms, ..stated };
            let record = NewRecord::parse("4300000000000001", Some(&stated)).unwrap();
            assert_eq!(record.check_times(now_ms), Ok(()));
            assert!(record.check_times(now_ms - 1).is_err() == (ahead_ms == REQUEST_AHEAD_MS_MAX));
        }
    }
}
