//! Lists of records, their versions, and what an author changes about them later.

use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{ActingClient, Person, Shared, records};
use crate::date::Date;
use crate::error::{ChangeError, Failed, Family, ListError, WriteFamily};
use crate::fault::{Failure, Invalid};
use crate::id::{EmergencyId, ParticipantNumber, RecordId, RequestId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::pages::{Listing, Page};
use crate::receipt::Receipt;
use crate::record::Listed;
use crate::word::{Class, Purpose};

/// A list of records, made by [`ActingClient::list`].
#[must_use = "nothing is asked until it is streamed"]
pub struct List {
    acting: ActingClient,
    number: ParticipantNumber,
    classes: Vec<Class>,
    since: Option<Date>,
    until: Option<Date>,
    author_facility: String,
    purpose: Purpose,
    page: u32,
    emergency: Option<EmergencyId>,
}

impl ActingClient {
    /// The records of a participant that the actor may see, for [`Purpose::Care`] if no other is
    /// stated.
    pub fn list(&self, number: &ParticipantNumber) -> List {
        List {
            acting: self.clone(),
            number: *number,
            classes: Vec::new(),
            since: None,
            until: None,
            author_facility: String::new(),
            purpose: Purpose::Care,
            page: PAGE_ITEMS_MAX,
            emergency: None,
        }
    }

    /// The versions of a record that the actor may see, oldest first.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn history(&self, number: &ParticipantNumber, record: RecordId) -> Result<Vec<Listed>, ListError> {
        history(self, number, record, Purpose::Care, None).await
    }

    pub(crate) async fn history_under(
        &self,
        number: &ParticipantNumber,
        record: RecordId,
        emergency: EmergencyId,
    ) -> Result<Vec<Listed>, ListError> {
        history(self, number, record, Purpose::Care, Some(emergency)).await
    }

    /// Hides a record from all but its author's facility.
    pub fn hide(&self, number: &ParticipantNumber, record: RecordId) -> Change {
        Change::new(self, number, record, What::Hidden { hidden: true, reason: String::new() })
    }

    /// Shows a hidden record again.
    pub fn unhide(&self, number: &ParticipantNumber, record: RecordId) -> Change {
        Change::new(self, number, record, What::Hidden { hidden: false, reason: String::new() })
    }

    /// Narrows a record to these facilities. An author can narrow, never widen.
    pub fn narrow<I: IntoIterator<Item = T>, T: Into<String>>(
        &self,
        number: &ParticipantNumber,
        record: RecordId,
        addressees: I,
    ) -> Change {
        let addressees = addressees.into_iter().map(Into::into).collect();
        Change::new(self, number, record, What::Narrowed { addressees })
    }
}

impl Person {
    /// Their records, for [`Purpose::Own`].
    pub fn list(&self) -> List {
        self.acting.list(&self.number).purpose(Purpose::Own)
    }

    /// The versions of one of their records, oldest first.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn history(&self, record: RecordId) -> Result<Vec<Listed>, ListError> {
        history(&self.acting, &self.number, record, Purpose::Own, None).await
    }
}

impl List {
    /// Only records of this class; called again, of these classes.
    pub fn class(mut self, class: Class) -> Self {
        self.classes.push(class);
        self
    }

    /// Only records of a clinical date on or after this day.
    pub fn since(mut self, date: Date) -> Self {
        self.since = Some(date);
        self
    }

    /// Only records of a clinical date on or before this day.
    pub fn until(mut self, date: Date) -> Self {
        self.until = Some(date);
        self
    }

    /// Only records written by this facility.
    pub fn author_facility(mut self, facility: impl Into<String>) -> Self {
        self.author_facility = facility.into();
        self
    }

    /// What the access is for.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Under an emergency that the actor opened: allergies come first then.
    pub fn under(mut self, emergency: EmergencyId) -> Self {
        self.emergency = Some(emergency);
        self
    }

    /// Records to ask for at a time, 1 to 1,000 (the default). Each page is an entry in the journal.
    pub fn page(mut self, records: u32) -> Self {
        self.page = records;
        self
    }

    /// The records, page by page as they are read.
    pub fn stream(self) -> Listing<Listed, ListError> {
        let shared = Arc::clone(&self.acting.shared);
        let request = self.request();
        Listing::paged(Bytes::new(), move |after| {
            let shared = Arc::clone(&shared);
            let request = request.clone();
            async move {
                let ask = v1::ListRequest { after, ..request.map_err(ListError::from_invalid)? };
                list_page(&shared, ask).await.map_err(|failed| ListError::from_fault(failed.fault))
            }
        })
    }

    fn request(&self) -> Result<v1::ListRequest, Invalid> {
        limit::outside_id_or_empty("author_facility", &self.author_facility)?;
        limit::page(self.page)?;
        if self.since.zip(self.until).is_some_and(|(since, until)| since > until) {
            return Err(Invalid::because("since", "is after until: no day is between them"));
        }
        let epoch = Some(Date::from_days(0));
        if self.since == epoch && self.until == epoch {
            return Err(Invalid::because(
                "since",
                "is 1970-01-01, as until is, which cannot be asked for alone: ask for a day more",
            ));
        }
        // 0 and 0 means no bound, so one bound alone needs another that bounds nothing.
        let (since_day, until_day) = match (self.since, self.until) {
            (None, None) => (0, 0),
            (since, until) => (since.map_or(i32::MIN, Date::days), until.map_or(i32::MAX, Date::days)),
        };
        Ok(v1::ListRequest {
            actor: Some(self.acting.actor.to_wire()?),
            participant: self.number.reveal().to_owned(),
            classes: self.classes.iter().map(|class| class.number()).collect(),
            since_day,
            until_day,
            author_facility: self.author_facility.clone(),
            purpose: self.purpose.number(),
            after: Bytes::new(),
            limit: self.page,
            episode_id: self.emergency.map_or_else(Bytes::new, EmergencyId::to_wire),
        })
    }
}

/// One page: the replies of one call, which all belong to one decision.
async fn list_page(shared: &Shared, ask: v1::ListRequest) -> Result<Page<Listed, Bytes>, Failed> {
    let attempt = |channel| {
        let ask = ask.clone();
        async move {
            let most = usize::try_from(ask.limit).unwrap_or(usize::MAX);
            let mut replies = records(channel).list(ask).await?.into_inner();
            let mut items: Vec<Listed> = Vec::new();
            let mut next = None;
            while let Some(reply) = replies.message().await? {
                if items.len() + reply.records.len() > most {
                    return Err(Failure::broken("a page longer than asked for"));
                }
                for summary in reply.records {
                    items.push(Listed::from_wire(summary)?);
                }
                next = reply.more.then_some(reply.last);
            }
            next_page(items, next)
        }
    };
    shared.call(None, attempt).await
}

/// A page that tells of more must tell where, or it would come again for ever.
pub(crate) fn next_page<T>(items: Vec<T>, next: Option<Bytes>) -> Result<Page<T, Bytes>, Failure> {
    match next {
        Some(next) if next.is_empty() => Err(Failure::broken("a page that does not tell where the next begins")),
        next => Ok(Page { items, next }),
    }
}

async fn history(
    acting: &ActingClient,
    number: &ParticipantNumber,
    record: RecordId,
    purpose: Purpose,
    emergency: Option<EmergencyId>,
) -> Result<Vec<Listed>, ListError> {
    limit::record("record_id", record).map_err(ListError::from_invalid)?;
    let ask = v1::HistoryRequest {
        actor: Some(acting.actor.to_wire().map_err(ListError::from_invalid)?),
        participant: number.reveal().to_owned(),
        record_id: record.to_wire(),
        purpose: purpose.number(),
        episode_id: emergency.map_or_else(Bytes::new, EmergencyId::to_wire),
    };
    let attempt = |channel| {
        let ask = ask.clone();
        async move {
            let reply = records(channel).history(ask).await?.into_inner();
            reply.versions.into_iter().map(Listed::from_wire).collect::<Result<Vec<_>, _>>()
        }
    };
    acting.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
}

#[derive(Clone)]
enum What {
    Hidden { hidden: bool, reason: String },
    Narrowed { addressees: Vec<String> },
}

/// A change of who may see a record, made by [`ActingClient::hide`], [`ActingClient::unhide`] and
/// [`ActingClient::narrow`]; `.await` runs it. Restrictive ones wait for the backup, up to the
/// cluster's limit: see [`Receipt::reach`].
#[must_use = "nothing is changed until it is awaited"]
pub struct Change {
    acting: ActingClient,
    number: ParticipantNumber,
    record: RecordId,
    what: What,
    request: RequestId,
}

impl Change {
    fn new(acting: &ActingClient, number: &ParticipantNumber, record: RecordId, what: What) -> Self {
        Self { acting: acting.clone(), number: *number, record, what, request: RequestId::new() }
    }

    /// Why a record is hidden or shown again; journalled. Narrowing has none.
    pub fn reason(mut self, text: impl Into<String>) -> Self {
        if let What::Hidden { reason, .. } = &mut self.what {
            *reason = text.into();
        }
        self
    }

    /// Repeats an earlier request.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    async fn run(self) -> Result<Receipt, ChangeError> {
        let actor = self.check().map_err(ChangeError::from_invalid)?;
        let (shared, request) = (&self.acting.shared, self.request);
        let participant = self.number.reveal().to_owned();
        let record_id = self.record.to_wire();
        let attempt = |channel| {
            let (actor, participant) = (Some(actor.clone()), participant.clone());
            let (record_id, what, request) = (record_id.clone(), self.what.clone(), request.wire());
            async move {
                let mut client = records(channel);
                let receipt = match what {
                    What::Hidden { hidden, reason } => {
                        let ask = v1::HideRequest { actor, request, participant, record_id, hidden, reason };
                        client.hide(ask).await?
                    }
                    What::Narrowed { addressees } => {
                        let ask = v1::NarrowRequest { actor, request, participant, record_id, addressees };
                        client.narrow(ask).await?
                    }
                };
                shared.receipt(receipt.into_inner())
            }
        };
        shared.call(None, attempt).await.map_err(|failed| ChangeError::from_failed(failed, request))
    }

    fn check(&self) -> Result<v1::Actor, Invalid> {
        limit::record("record_id", self.record)?;
        match &self.what {
            What::Hidden { reason, .. } => limit::text("reason", reason)?,
            What::Narrowed { addressees } if addressees.is_empty() => {
                return Err(Invalid::because("addressees", "is empty: name at least one facility"));
            }
            What::Narrowed { addressees } => limit::addressees(addressees)?,
        }
        self.acting.actor.to_wire()
    }
}

impl IntoFuture for Change {
    type Output = Result<Receipt, ChangeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
