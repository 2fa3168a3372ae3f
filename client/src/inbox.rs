//! A facility's inbox: records addressed to it; and the participants who granted it.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{ActingClient, consents, records};
use crate::error::{Family, ListError};
use crate::fault::{Failure, Invalid};
use crate::id::{InboxCursor, ParticipantNumber, RecordId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::list::next_page;
use crate::pages::Listing;

/// A record addressed to the actor's facility.
#[derive(Clone, PartialEq, Eq)]
pub struct InboxItem {
    /// Whose record it is.
    pub participant: ParticipantNumber,
    /// The record.
    pub record: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// When it was addressed to the facility, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
}

impl fmt::Debug for InboxItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxItem").field("version", &self.version).field("at_ms", &self.at_ms).finish_non_exhaustive()
    }
}

/// What an inbox tells of one place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxEntry {
    /// What was addressed to the facility.
    Record(InboxItem),
    /// Something was addressed to the facility and does not open: whose record it is, nobody can say. The record itself
    /// may open, and is in its participant's list then.
    Damaged {
        /// Where in the inbox.
        place: InboxCursor,
    },
}

impl InboxEntry {
    /// What was addressed to the facility, if it opens.
    pub fn opened(self) -> Option<InboxItem> {
        match self {
            InboxEntry::Record(item) => Some(item),
            InboxEntry::Damaged { .. } => None,
        }
    }
}

/// A page of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPage {
    /// What came, oldest first.
    pub items: Vec<InboxEntry>,
    /// Where the next page begins: store it once the items are dealt with. None as long as nothing
    /// was ever addressed to the facility.
    pub cursor: Option<InboxCursor>,
    /// Whether there is more at once.
    pub more: bool,
}

/// A read of an inbox, made by [`ActingClient::inbox`]; `.await` gives one page.
#[must_use = "nothing is read until it is awaited"]
pub struct Inbox {
    acting: ActingClient,
    since: Option<InboxCursor>,
    limit: u32,
}

/// A participant who granted the actor's facility.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantedParticipant {
    /// Who.
    pub participant: ParticipantNumber,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub granted_ms: u64,
}

impl fmt::Debug for GrantedParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedParticipant").field("granted_ms", &self.granted_ms).finish_non_exhaustive()
    }
}

fn number(text: &str) -> Result<ParticipantNumber, Failure> {
    text.parse().map_err(|_| Failure::broken("a participant number that is none"))
}

impl ActingClient {
    /// The records addressed to the actor's facility since a cursor of an earlier page, or from the
    /// oldest. Each page is journalled.
    pub fn inbox(&self, since: Option<InboxCursor>) -> Inbox {
        Inbox { acting: self.clone(), since, limit: PAGE_ITEMS_MAX }
    }

    /// The participants who granted the actor's facility, page by page as they are read. Each page
    /// is journalled.
    pub fn granted(&self) -> Listing<GrantedParticipant, ListError> {
        let acting = self.clone();
        Listing::paged(Bytes::new(), move |after| {
            let acting = acting.clone();
            async move {
                let actor = acting.actor.to_wire().map_err(ListError::from_invalid)?;
                let ask = v1::GrantedRequest { actor: Some(actor), after, limit: PAGE_ITEMS_MAX };
                let attempt = |channel| {
                    let ask = ask.clone();
                    async move {
                        let reply = consents(channel).granted(ask).await?.into_inner();
                        let item = |granted: v1::GrantedParticipant| {
                            let participant = number(&granted.participant)?;
                            Ok(GrantedParticipant { participant, granted_ms: granted.granted_ms })
                        };
                        let items = reply.participants.into_iter().map(item).collect::<Result<_, Failure>>()?;
                        next_page(items, reply.more.then_some(reply.last))
                    }
                };
                let page = Arc::clone(&acting.shared).call(None, attempt).await;
                page.map_err(|failed| ListError::from_fault(failed.fault))
            }
        })
    }
}

impl Inbox {
    /// Items to ask for, 1 to 1,000 (the default).
    pub fn limit(mut self, items: u32) -> Self {
        self.limit = items;
        self
    }

    fn request(&self) -> Result<v1::InboxRequest, Invalid> {
        limit::page(self.limit)?;
        Ok(v1::InboxRequest {
            actor: Some(self.acting.actor.to_wire()?),
            since: self.since.map_or_else(Bytes::new, InboxCursor::to_wire),
            limit: self.limit,
        })
    }

    async fn run(self) -> Result<InboxPage, ListError> {
        let ask = self.request().map_err(ListError::from_invalid)?;
        let since = self.since;
        let attempt = |channel| {
            let ask = ask.clone();
            async move { page(records(channel).inbox(ask).await?.into_inner(), since) }
        };
        self.acting.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
    }
}

fn page(reply: v1::InboxReply, since: Option<InboxCursor>) -> Result<InboxPage, Failure> {
    let cursor = if reply.cursor.is_empty() {
        since
    } else {
        Some(InboxCursor::from_wire(&reply.cursor).ok_or_else(|| Failure::broken("a cursor of a wrong length"))?)
    };
    if reply.more && cursor == since {
        return Err(Failure::broken("a page that does not tell where the next begins"));
    }
    let item = |item: v1::InboxItem| {
        if !item.damaged_at.is_empty() {
            let place = InboxCursor::from_wire(&item.damaged_at);
            let place = place.ok_or_else(|| Failure::broken("a cursor of a wrong length"))?;
            return Ok(InboxEntry::Damaged { place });
        }
        Ok(InboxEntry::Record(InboxItem {
            participant: number(&item.participant)?,
            record: RecordId::from_wire(&item.record_id)
                .ok_or_else(|| Failure::broken("a record id of a wrong length"))?,
            version: item.version,
            at_ms: item.at_ms,
        }))
    };
    let items = reply.items.into_iter().map(item).collect::<Result<_, Failure>>()?;
    Ok(InboxPage { items, cursor, more: reply.more })
}

impl IntoFuture for Inbox {
    type Output = Result<InboxPage, ListError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
