//! Lists of the opened journal: all of it for auditors, and for a facility what its own users did.

use std::sync::Arc;

use kura_proto::v1;

use crate::access::Access;
use crate::client::{ActingClient, Shared, audit};
use crate::date::Date;
use crate::error::{Family, ListError};
use crate::fault::{Failure, Invalid};
use crate::id::ParticipantNumber;
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::pages::{Listing, Page};
use crate::word::Action;

/// What an auditor lists, made by [`crate::Journal::list`].
#[must_use = "nothing is asked until it is streamed"]
pub struct JournalList {
    shared: Arc<Shared>,
    request: v1::JournalRequest,
    stretch: v1::JournalPage,
}

/// What the users of the actor's facility did, made by [`ActingClient::facility_accesses`].
#[must_use = "nothing is asked until it is streamed"]
pub struct FacilityAccesses {
    acting: ActingClient,
    request: v1::FacilityAccessesRequest,
    stretch: v1::JournalPage,
}

impl ActingClient {
    /// What the users of the actor's facility did, or tried: for a user with the right to list it
    /// ([`crate::registry::User::lists_accesses`]).
    pub fn facility_accesses(&self) -> FacilityAccesses {
        FacilityAccesses { acting: self.clone(), request: v1::FacilityAccessesRequest::default(), stretch: whole() }
    }
}

fn whole() -> v1::JournalPage {
    v1::JournalPage { limit: PAGE_ITEMS_MAX, ..v1::JournalPage::default() }
}

macro_rules! common {
    ($name:ident) => {
        impl $name {
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

            /// From the oldest on; the newest come first otherwise.
            pub fn oldest_first(mut self) -> Self {
                self.stretch.oldest_first = true;
                self
            }

            /// From this position on, oldest first.
            pub fn starting_at(mut self, position: u64) -> Self {
                self.stretch.cursor = position;
                self.oldest_first()
            }

            /// Only positions of the journal below this one.
            pub fn before(mut self, position: u64) -> Self {
                self.stretch.before = position;
                self
            }

            /// Entries to ask for at a time, 1 to 1,000 (the default). Each page is journalled.
            pub fn page(mut self, entries: u32) -> Self {
                self.stretch.limit = entries;
                self
            }
        }
    };
}
common!(JournalList);
common!(FacilityAccesses);

impl JournalList {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), request: v1::JournalRequest::default(), stretch: whole() }
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

    /// Only actors of this name: a user's id, a participant's number, an office's or application's name.
    pub fn actor(mut self, name: impl Into<String>) -> Self {
        self.request.actor = name.into();
        self
    }

    /// Only what came through this application.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.request.application = name.into();
        self
    }

    /// Only what is about this participant. That it was listed shows in the participant's own list.
    pub fn participant(mut self, number: &ParticipantNumber) -> Self {
        self.request.participant = number.reveal().to_owned();
        self
    }

    /// The entries, page by page as they are read. What is journalled after the first page was asked for is
    /// not among them.
    pub fn stream(self) -> Listing<Access, ListError> {
        let Self { shared, request, stretch } = self;
        let checked = limit::outside_id_or_empty("facility", &request.facility)
            .and_then(|()| limit::outside_id_or_empty("actor", &request.actor))
            .and_then(|()| limit::outside_id_or_empty("application", &request.application));
        paged(shared, stretch, checked.map(|()| request), |channel, request, page| async move {
            Ok(audit(channel).list(v1::JournalRequest { page: Some(page), ..request }).await?.into_inner())
        })
    }
}

impl FacilityAccesses {
    /// Only this user's.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.request.user = user.into();
        self
    }

    /// The entries, page by page as they are read. What is journalled after the first page was asked for is
    /// not among them.
    pub fn stream(self) -> Listing<Access, ListError> {
        let Self { acting, request, stretch } = self;
        let checked = limit::outside_id_or_empty("user", &request.user).and_then(|()| acting.actor.to_wire());
        let request = checked.map(|actor| v1::FacilityAccessesRequest { actor: Some(actor), ..request });
        paged(acting.shared, stretch, request, |channel, request, page| async move {
            let ask = v1::FacilityAccessesRequest { page: Some(page), ..request };
            Ok(audit(channel).facility_accesses(ask).await?.into_inner())
        })
    }
}

fn paged<R, F>(
    shared: Arc<Shared>,
    stretch: v1::JournalPage,
    request: Result<R, Invalid>,
    ask: impl Fn(crate::fork::Way, R, v1::JournalPage) -> F + Clone + Send + Sync + 'static,
) -> Listing<Access, ListError>
where
    R: Clone + Send + Sync + 'static,
    F: Future<Output = Result<v1::JournalReply, Failure>> + Send,
{
    let request = limit::page(stretch.limit).and(request);
    Listing::paged(stretch, move |stretch: v1::JournalPage| {
        let (shared, request, ask) = (Arc::clone(&shared), request.clone(), ask.clone());
        async move {
            let request = request.map_err(ListError::from_invalid)?;
            let attempt = |channel| {
                let reply = ask(channel, request.clone(), stretch);
                async move { page(reply.await?, stretch) }
            };
            shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
        }
    })
}

fn page(reply: v1::JournalReply, asked: v1::JournalPage) -> Result<Page<Access, v1::JournalPage>, Failure> {
    let onward = match (asked.oldest_first, asked.cursor) {
        (true, cursor) => reply.cursor > cursor,
        (false, 0) => reply.cursor > 0,
        (false, cursor) => (1..cursor).contains(&reply.cursor),
    };
    if reply.more && !onward {
        return Err(Failure::broken("a page that does not tell where the next begins"));
    }
    // The list ends where it began to be asked for, though each page adds an entry.
    let before = if asked.before == 0 { reply.journal_position } else { asked.before };
    let next = reply.more.then_some(v1::JournalPage { cursor: reply.cursor, before, ..asked });
    let items = reply.accesses.into_iter().map(Access::from_wire).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}
