//! Who accessed a participant's records, when, from where and on which basis.

use std::fmt;
use std::sync::Arc;

use kura_proto::v1;

use crate::client::{ActingClient, Person, consents};
use crate::date::Date;
use crate::error::{Family, ListError};
use crate::fault::{Failure, Invalid};
use crate::id::{ParticipantNumber, RecordId, RequestId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::pages::{Listing, Page};
use crate::word::{Action, ActorKind, Class, Method, Purpose};

/// One entry of the journal that concerns a participant.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Its position in the journal.
    pub journal_position: u64,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// What kind of actor it was.
    pub actor_kind: ActorKind,
    /// The actor's facility; empty for others than a facility's user.
    pub facility: String,
    /// The actor: user, participant number or name.
    pub actor: String,
    /// How the actor was authenticated; none for the cluster itself.
    pub method: Option<Method>,
    /// The application that stated the actor.
    pub application: String,
    /// What was done, or asked for.
    pub action: Action,
    /// The record, if it was about one.
    pub record: Option<RecordId>,
    /// The record's version; 0 if it was about none.
    pub version: u32,
    /// The record's class, if it was about one.
    pub class: Option<Class>,
    /// On which basis it was permitted; empty if it was denied.
    pub basis: String,
    /// Why it was denied; empty if it was permitted.
    pub denial: String,
    /// What it was for, if stated.
    pub purpose: Option<Purpose>,
    /// What it was about besides a record: the facility granted, say.
    pub object: String,
    /// The reason stated, if one was.
    pub reason: String,
    /// How many like it this entry counts; 0 and 1: itself.
    pub count: u32,
    /// Whom it is about, in an auditor's or a facility's list, if it tells.
    pub participant: Option<ParticipantNumber>,
    /// The gateway that decided; in an auditor's list only, like the rest.
    pub gateway: String,
    /// The write's request, if it was one.
    pub request: Option<RequestId>,
    /// First byte asked for, of a resumed or partial read.
    pub range_start: u64,
    /// The emergency under which it was done.
    pub episode: Option<[u8; 16]>,
    /// Records given out in an access to several.
    pub records: Vec<RecordId>,
    /// Records refused in an access to several, each with its reason.
    pub refused_records: Vec<RefusedAccess>,
    /// Records that the actor was let in to and that do not open: nothing of them was handed out.
    pub damaged_records: Vec<RecordId>,
    /// The act of two, review or erasure that it belongs to.
    pub act: Option<[u8; 16]>,
    /// Where it was written first, of what was salvaged from a former timeline after a recovery. The actor is the one of
    /// then; of a restriction, recovery staff.
    pub salvaged: Option<SalvagedFrom>,
}

/// Where something that was salvaged was written first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvagedFrom {
    /// The former timeline.
    pub timeline: u64,
    /// Its log index there, as in the receipt of then.
    pub index: u64,
    /// When it was decided there, in milliseconds since 1970.
    pub at_ms: u64,
    /// The recovery staff who offered it again.
    pub by: String,
    /// Of a restriction: the facility of whoever asked for it then, if it was a facility's user.
    pub facility: String,
    /// Of a restriction: who asked for it then, where that is shown; `participant` for the participant.
    pub actor: String,
}

/// A record that was refused in an access to several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAccess {
    /// The record.
    pub record: RecordId,
    /// Why it was refused; a facility's list has `refused` where the reason is the participant's business.
    pub denial: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("journal_position", &self.journal_position)
            .field("action", &self.action)
            .field("basis", &self.basis)
            .field("denial", &self.denial)
            .finish_non_exhaustive()
    }
}

impl Access {
    pub(crate) fn from_wire(wire: v1::Access) -> Result<Self, Failure> {
        let unknown = |error: crate::word::UnknownWord| Failure::broken(error.to_string());
        let actor = wire.actor.ok_or_else(|| Failure::broken("an access without an actor"))?;
        let record = if wire.record_id.is_empty() {
            None
        } else {
            let id = RecordId::from_wire(&wire.record_id);
            Some(id.ok_or_else(|| Failure::broken("a record id of a wrong length"))?)
        };
        Ok(Self {
            journal_position: wire.journal_position,
            at_ms: wire.at_ms,
            actor_kind: ActorKind::from_number(actor.kind).map_err(unknown)?,
            facility: actor.facility,
            actor: actor.name,
            method: Method::from_number(actor.method).ok(),
            application: wire.application,
            action: Action::from_number(wire.action).map_err(unknown)?,
            record,
            version: wire.version,
            class: Class::from_number(wire.class).ok(),
            basis: wire.basis,
            denial: wire.denial,
            purpose: Purpose::from_number(wire.purpose).ok(),
            object: wire.object,
            reason: wire.reason,
            count: wire.count,
            participant: match wire.participant.is_empty() {
                true => None,
                false => Some(wire.participant.parse().map_err(|_| Failure::broken("a malformed participant number"))?),
            },
            gateway: wire.gateway,
            request: RequestId::from_wire(&wire.request_id),
            range_start: wire.range_start,
            episode: wire.episode_id[..].try_into().ok(),
            records: records(&wire.record_ids)?,
            refused_records: wire.refused_records.into_iter().map(refused).collect::<Result<_, _>>()?,
            damaged_records: records(&wire.damaged_record_ids)?,
            act: wire.act_id[..].try_into().ok(),
            salvaged: wire.salvaged.map(|from| {
                let then = from.actor.unwrap_or_default();
                SalvagedFrom {
                    timeline: from.timeline,
                    index: from.index,
                    at_ms: from.at_ms,
                    by: from.by,
                    facility: then.facility,
                    actor: match ActorKind::from_number(then.kind) {
                        Ok(ActorKind::Participant) => ActorKind::Participant.word().to_owned(),
                        _ => then.name,
                    },
                }
            }),
        })
    }
}

fn records(ids: &[bytes::Bytes]) -> Result<Vec<RecordId>, Failure> {
    ids.iter().map(record).collect()
}

fn record(id: &bytes::Bytes) -> Result<RecordId, Failure> {
    RecordId::from_wire(id).ok_or_else(|| Failure::broken("a record id of a wrong length"))
}

fn refused(wire: v1::RefusedAccess) -> Result<RefusedAccess, Failure> {
    Ok(RefusedAccess { record: record(&wire.record_id)?, denial: wire.denial })
}

/// A list of accesses, made by [`Person::accesses`] and [`ActingClient::accesses`].
#[must_use = "nothing is asked until it is streamed"]
pub struct Accesses {
    acting: ActingClient,
    number: ParticipantNumber,
    request: v1::AccessesRequest,
}

impl ActingClient {
    /// Who accessed a participant's records.
    pub fn accesses(&self, number: &ParticipantNumber) -> Accesses {
        let request = v1::AccessesRequest { limit: PAGE_ITEMS_MAX, ..v1::AccessesRequest::default() };
        Accesses { acting: self.clone(), number: *number, request }
    }
}

impl Person {
    /// Who accessed their records.
    pub fn accesses(&self) -> Accesses {
        self.acting.accesses(&self.number)
    }
}

impl Accesses {
    /// Only since the beginning of this day in Japan.
    pub fn since(mut self, date: Date) -> Self {
        self.request.since_ms = date.begins_ms();
        self
    }

    /// Only up to the end of this day in Japan.
    pub fn until(mut self, date: Date) -> Self {
        self.request.until_ms = Date::from_days(date.days().saturating_add(1)).begins_ms();
        self
    }

    /// Only what was denied.
    pub fn denied_only(mut self) -> Self {
        self.request.denied_only = true;
        self
    }

    /// Only this action; said more than once, any of them.
    pub fn action(mut self, action: Action) -> Self {
        self.request.actions.push(action.number());
        self
    }

    /// Only what this facility's users did, or what is about it.
    pub fn facility(mut self, facility: impl Into<String>) -> Self {
        self.request.facility = facility.into();
        self
    }

    /// Only what came through this application.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.request.application = name.into();
        self
    }

    /// From the oldest on; the newest come first otherwise.
    pub fn oldest_first(mut self) -> Self {
        self.request.oldest_first = true;
        self
    }

    /// Accesses to ask for at a time, 1 to 1,000 (the default). Each page is journalled.
    pub fn page(mut self, accesses: u32) -> Self {
        self.request.limit = accesses;
        self
    }

    /// The accesses, page by page as they are read; the list's own first page is the newest of them. What is journalled
    /// after that page was asked for is not among them.
    pub fn stream(self) -> Listing<Access, ListError> {
        let shared = Arc::clone(&self.acting.shared);
        let request = self.request();
        Listing::paged((0, 0), move |(after, before)| {
            let shared = Arc::clone(&shared);
            let request = request.clone();
            async move {
                let ask = v1::AccessesRequest { after, before, ..request.map_err(ListError::from_invalid)? };
                let attempt = |channel| {
                    let ask = ask.clone();
                    async move { page(consents(channel).accesses(ask).await?.into_inner(), (after, before)) }
                };
                shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
            }
        })
    }

    fn request(&self) -> Result<v1::AccessesRequest, Invalid> {
        limit::page(self.request.limit)?;
        limit::outside_id_or_empty("facility", &self.request.facility)?;
        limit::outside_id_or_empty("application", &self.request.application)?;
        Ok(v1::AccessesRequest {
            actor: Some(self.acting.actor.to_wire()?),
            participant: self.number.reveal().to_owned(),
            ..self.request.clone()
        })
    }
}

fn page(reply: v1::AccessesReply, (after, before): (u64, u64)) -> Result<Page<Access, (u64, u64)>, Failure> {
    if reply.more && reply.last == after {
        return Err(Failure::broken("a page that does not tell where the next begins"));
    }
    // The list ends where it began to be asked for, though each page adds an entry.
    let before = if before == 0 { reply.journal_position.saturating_add(1) } else { before };
    let items = reply.accesses.into_iter().map(Access::from_wire).collect::<Result<_, _>>()?;
    Ok(Page { items, next: reply.more.then_some((reply.last, before)) })
}
