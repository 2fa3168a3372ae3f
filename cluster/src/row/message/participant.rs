//! Rows of a participant: number, consents and grants, now and before, cards, data keys, links.

use bytes::Bytes;
use prost::Message;

use super::ActorRow;

/// A number's row: which participant it names.
#[derive(Clone, PartialEq, Message)]
pub struct NumberRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// Whether this number is an alias of another that stays.
    #[prost(bool, tag = "2")]
    pub alias: bool,
    /// When it became an alias, or 0.
    #[prost(uint64, tag = "3")]
    pub aliased_ms: u64,
    /// The participant that it named before, 16 bytes, or empty: that enrolment's own row stays there.
    #[prost(bytes = "bytes", tag = "4")]
    pub former_pseudonym: Bytes,
}

/// A participant: what every decision needs now, bounded whatever was before. What there was stands in the rows of
/// the history ([`ParticipationConsent`], [`Grant`]), each of which is written with this one.
#[derive(Clone, PartialEq, Message)]
pub struct Participant {
    /// The number that stays, for the participant's own lists.
    #[prost(string, tag = "1")]
    pub number: String,
    // Tags 2 and 3 were every consent and every grant that ever was.
    /// Current version of the data key.
    #[prost(uint32, tag = "4")]
    pub key_version: u32,
    /// Serial of the present card, or empty.
    #[prost(string, tag = "5")]
    pub card_serial: String,
    /// Duplicate enrolments that became aliases of this one, oldest first.
    #[prost(message, repeated, tag = "6")]
    pub aliases: Vec<Alias>,
    /// The participant (16 bytes) of whom this enrolment is a duplicate, or empty. If set, nothing is
    /// decided on this row any more: consent and grants are the other's.
    #[prost(bytes = "bytes", tag = "7")]
    pub alias_of: Bytes,
    /// Records under legal hold. Putting and releasing one rewrites this row, so that an erasure that
    /// expects it cannot miss a hold.
    #[prost(uint32, tag = "8")]
    pub held_records: u32,
    /// The consent that counts: the one entered last.
    #[prost(message, optional, tag = "9")]
    pub consent: Option<PresentConsent>,
    /// The facilities named now, in the order in which they were named; none after a withdrawal, and none of a
    /// duplicate that became an alias.
    #[prost(message, repeated, tag = "10")]
    pub grants: Vec<PresentGrant>,
    /// Time of the newest change in the history: none is entered with an earlier one.
    #[prost(uint64, tag = "11")]
    pub changed_ms: u64,
    /// Rows of the history so far; each has the number of those before it.
    #[prost(uint32, tag = "12")]
    pub history_rows: u32,
    /// Cards that were issued under this number, the present one too; those of before there was this are not counted.
    #[prost(uint32, tag = "13")]
    pub cards: u32,
}

/// The consent entered last, as far as decisions look at it.
#[derive(Clone, PartialEq, Message)]
pub struct PresentConsent {
    /// Day on which it was signed, Japan time: earlier information is not shared.
    #[prost(sint32, tag = "1")]
    pub signed_day: i32,
    /// When it was entered.
    #[prost(uint64, tag = "2")]
    pub entered_ms: u64,
    /// Facility that entered it.
    #[prost(string, tag = "3")]
    pub entered_by: String,
    /// When the participant withdrew, or 0.
    #[prost(uint64, tag = "4")]
    pub withdrawn_ms: u64,
    /// Number of its row in the history.
    #[prost(uint32, tag = "5")]
    pub history_number: u32,
    /// Its row in the review queue, 16 bytes, or empty: a facility took the participant back after a withdrawal.
    #[prost(bytes = "bytes", tag = "6")]
    pub review_id: Bytes,
}

/// A facility that the participant names now, as far as decisions look at it.
#[derive(Clone, PartialEq, Message)]
pub struct PresentGrant {
    /// The facility.
    #[prost(string, tag = "1")]
    pub facility: String,
    /// When it was granted.
    #[prost(uint64, tag = "2")]
    pub granted_ms: u64,
    /// Number of its row in the history.
    #[prost(uint32, tag = "3")]
    pub history_number: u32,
    /// Entered or confirmed by the participant themselves.
    #[prost(bool, tag = "4")]
    pub by_participant: bool,
    /// Its row in the review queue, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "5")]
    pub review_id: Bytes,
}

/// A consent to take part: a row of the history.
#[derive(Clone, PartialEq, Message)]
pub struct ParticipationConsent {
    /// Day on which it was signed, Japan time: earlier information is not shared.
    #[prost(sint32, tag = "1")]
    pub signed_day: i32,
    /// Who signed, if not the participant: the proxy's name.
    #[prost(string, tag = "2")]
    pub proxy: String,
    /// The proxy's relation.
    #[prost(string, tag = "3")]
    pub proxy_relation: String,
    /// Reference to the evidence (a paper form's number, a document's hash).
    #[prost(string, tag = "4")]
    pub evidence: String,
    /// When it was entered.
    #[prost(uint64, tag = "5")]
    pub entered_ms: u64,
    /// When the participant withdrew, or 0.
    #[prost(uint64, tag = "6")]
    pub withdrawn_ms: u64,
    /// Facility that entered it.
    #[prost(string, tag = "7")]
    pub entered_by: String,
    /// User who entered it.
    #[prost(string, tag = "8")]
    pub entered_by_user: String,
    /// Consent to keep records of the participant's own making. Reserved: refused today.
    #[prost(bool, tag = "9")]
    pub own_records: bool,
    /// Consent to secondary use. Reserved: refused today.
    #[prost(bool, tag = "10")]
    pub secondary_use: bool,
    /// Facility that entered the withdrawal, or empty for the participant.
    #[prost(string, tag = "11")]
    pub withdrawn_by: String,
    /// Reference to the withdrawal's evidence.
    #[prost(string, tag = "12")]
    pub withdrawal_evidence: String,
    /// Its row in the review queue, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "13")]
    pub review_id: Bytes,
}

/// A facility that the participant named: a row of the history. Where the consent under which it was named ended
/// first, that was its end; the withdrawal stands in the consent's row alone.
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// The facility.
    #[prost(string, tag = "1")]
    pub facility: String,
    /// When it was granted.
    #[prost(uint64, tag = "2")]
    pub granted_ms: u64,
    /// When it was revoked, or 0. A withdrawal leaves it 0.
    #[prost(uint64, tag = "3")]
    pub revoked_ms: u64,
    /// Facility that entered it, or empty for the participant.
    #[prost(string, tag = "4")]
    pub entered_by: String,
    /// Entered by its own beneficiary: marked for review.
    #[prost(bool, tag = "5")]
    pub by_beneficiary: bool,
    /// Reference to the evidence.
    #[prost(string, tag = "6")]
    pub evidence: String,
    /// User who entered it, or empty for the participant.
    #[prost(string, tag = "7")]
    pub entered_by_user: String,
    /// Facility that entered the revocation, or empty for the participant.
    #[prost(string, tag = "8")]
    pub revoked_by: String,
    /// Reference to the revocation's evidence.
    #[prost(string, tag = "9")]
    pub revocation_evidence: String,
    /// Its row in the review queue, 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "10")]
    pub review_id: Bytes,
    /// When the consent under which it was made was entered; with the next one, the key of that consent's row.
    #[prost(uint64, tag = "11")]
    pub consent_ms: u64,
    /// Number of that consent's row in the history.
    #[prost(uint32, tag = "12")]
    pub consent_number: u32,
    /// When the participant confirmed what a facility had entered, or 0.
    #[prost(uint64, tag = "13")]
    pub confirmed_ms: u64,
}

/// A participant who granted a facility.
#[derive(Clone, PartialEq, Message)]
pub struct GrantIndexRow {
    /// The participant's number.
    #[prost(string, tag = "1")]
    pub number: String,
    /// When it was granted.
    #[prost(uint64, tag = "2")]
    pub granted_ms: u64,
}

/// A participant's data key, wrapped.
#[derive(Clone, PartialEq, Message)]
pub struct ParticipantKeyRow {
    /// Version, from 1.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Epoch whose wrapping key wrapped it.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// The wrapped key.
    #[prost(bytes = "bytes", tag = "3")]
    pub wrapped: Bytes,
}

/// A facility's own id and the participant behind it.
#[derive(Clone, PartialEq, Message)]
pub struct LinkRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// The facility.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// Its own id.
    #[prost(string, tag = "3")]
    pub local_id: String,
    /// When it was linked.
    #[prost(uint64, tag = "4")]
    pub linked_ms: u64,
    /// User who linked it.
    #[prost(string, tag = "5")]
    pub linked_by_user: String,
    /// Whom it named before, oldest first; at most [`LINK_EVENTS_MAX`].
    #[prost(message, repeated, tag = "6")]
    pub former: Vec<LinkEvent>,
}

/// Times that a facility's own id may be linked anew.
pub const LINK_EVENTS_MAX: usize = 64;

/// That a facility's own id was linked to another participant.
#[derive(Clone, PartialEq, Message)]
pub struct LinkEvent {
    /// Whom it named until then, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// Since when.
    #[prost(uint64, tag = "2")]
    pub linked_ms: u64,
    /// Until when.
    #[prost(uint64, tag = "3")]
    pub relinked_ms: u64,
    /// User who linked it anew.
    #[prost(string, tag = "4")]
    pub relinked_by_user: String,
    /// The reason given.
    #[prost(string, tag = "5")]
    pub reason: String,
}

/// A duplicate enrolment that became an alias.
#[derive(Clone, PartialEq, Message)]
pub struct Alias {
    /// The number that became an alias.
    #[prost(string, tag = "1")]
    pub number: String,
    /// The duplicate enrolment, 16 bytes: its records lie under it.
    #[prost(bytes = "bytes", tag = "2")]
    pub pseudonym: Bytes,
    /// When.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// The registrar.
    #[prost(string, tag = "4")]
    pub registrar: String,
    /// Reference to the evidence.
    #[prost(string, tag = "5")]
    pub evidence: String,
    /// Day (Japan time) of the consent that held there when it became an alias: nothing older is shown of it. If it had
    /// become an alias of another duplicate before, the later of both days. Absent in rows of before this field.
    #[prost(sint32, optional, tag = "6")]
    pub consent_day: Option<i32>,
}

/// A card by its serial, which is apart from the number: a lost card is replaced under another serial,
/// and no serial is ever given twice. Lies in the number table under a hash domain of its own.
#[derive(Clone, PartialEq, Message)]
pub struct CardRow {
    /// Whose, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub pseudonym: Bytes,
    /// The serial.
    #[prost(string, tag = "2")]
    pub serial: String,
    /// When it was issued.
    #[prost(uint64, tag = "3")]
    pub issued_ms: u64,
    /// When another took its place, or 0: it is the present one.
    #[prost(uint64, tag = "4")]
    pub replaced_ms: u64,
    /// Who issued it.
    #[prost(message, optional, tag = "5")]
    pub issued_by: Option<ActorRow>,
    /// Evidence or reason given.
    #[prost(string, tag = "6")]
    pub evidence: String,
}
