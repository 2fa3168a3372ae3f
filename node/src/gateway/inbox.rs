//! What a facility finds addressed to it, and who named it.

use bytes::Bytes;
use kura_cluster::consent::{Act, decide, is_granted, present_consent, present_grant};
use kura_cluster::id::RecordId;
use kura_cluster::row::{
    GrantIndexRow, InboxRow, JournalEntry, Participant, ReceiptRow, RecordControl, RowKey, StoredRow,
};
use kura_cluster::seal::Domain;
use kura_cluster::word::Action;
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::attempt::{Attempt, broken};
use super::caller::CallerRows;
use super::limits::ATTEMPTS_MAX;
use super::list::{TABLES, page, pseudonym_at_end};
use super::transact::{Done, Verdict};
use super::{Caller, Gateway, GatewayError};

/// Bytes of an inbox cursor: log index and ordinal.
const CURSOR_BYTES: usize = 12;

/// A facility that may see what it asks for, and the tables that this was decided on.
struct Own {
    facility: String,
    tables: [Revision; TABLES.len()],
}

impl Own {
    /// Whether nothing of them has changed before a view.
    fn holds(&self, attempt: &Attempt<'_>) -> bool {
        TABLES.map(|table| attempt.table_revision(table)) == self.tables
    }
}

impl Gateway {
    /// One page of the records addressed to the actor's facility, oldest first. Participants who no
    /// longer name the facility, or have left, are passed over, and so are records that were hidden or narrowed since.
    pub async fn inbox(&self, caller: &Caller, request: v1::InboxRequest) -> Result<v1::InboxReply, GatewayError> {
        if !matches!(request.since.len(), 0 | CURSOR_BYTES) {
            return Err(GatewayError::invalid(
                "since",
                format!("has {} bytes, a cursor has {CURSOR_BYTES}", request.since.len()),
            ));
        }
        for _ in 0..ATTEMPTS_MAX {
            let done = self.own_facility(caller, Action::Inbox, Act::Inbox).await?;
            let own = done.value.ok_or(GatewayError::Unknown)?;
            if let Some(mut reply) = tokio::task::block_in_place(|| self.inbox_of(&own, &request))? {
                reply.journal_position = done.committed.journal_first;
                return Ok(reply);
            }
        }
        Err(GatewayError::Contended)
    }

    /// Reads one page; `None` if what was decided on has changed before.
    fn inbox_of(&self, own: &Own, request: &v1::InboxRequest) -> Result<Option<v1::InboxReply>, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        if !own.holds(&attempt) {
            return Ok(None);
        }
        let facility = &own.facility[..];
        let snapshot = attempt.database.snapshot();
        let prefix = RowKey::inbox(&attempt.hash(Domain::InboxFacility, &[facility]));
        let after = (!request.since.is_empty()).then(|| [&prefix.as_bytes()[..], &request.since].concat());
        let limit = page(request.limit);
        let rows = snapshot.scan(&prefix, after.as_deref(), limit + 1).map_err(broken)?;
        let more = rows.len() > limit;
        let mut reply = v1::InboxReply { more, cursor: request.since.clone(), ..v1::InboxReply::default() };
        for (key, stored) in rows.into_iter().take(limit) {
            let bytes = key.as_bytes();
            reply.cursor = bytes.slice(bytes.len() - CURSOR_BYTES..);
            match self.inbox_item(&attempt, &key, &stored, facility) {
                Ok(item) => reply.items.extend(item),
                // Whose it is, and whether they still name the facility, nobody can say.
                Err(error) if error.is_of_one_row() => {
                    reply.items.push(v1::InboxItem { damaged_at: reply.cursor.clone(), ..v1::InboxItem::default() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(reply))
    }

    /// What was addressed to a facility, if the participant still names it and the record still reaches it.
    fn inbox_item(
        &self,
        attempt: &Attempt<'_>,
        key: &RowKey,
        stored: &StoredRow,
        facility: &str,
    ) -> Result<Option<v1::InboxItem>, GatewayError> {
        let row: InboxRow = attempt.open_scanned(key, stored)?;
        let is_shown = self.names(attempt, &row.pseudonym, facility)? && reaches(attempt, &row, facility)?;
        Ok(is_shown.then_some(v1::InboxItem {
            participant: row.number,
            record_id: row.record_id,
            version: row.version,
            at_ms: row.at_ms,
            damaged_at: Bytes::new(),
        }))
    }

    /// One page of the participants who name the actor's facility.
    pub async fn granted(
        &self,
        caller: &Caller,
        request: v1::GrantedRequest,
    ) -> Result<v1::GrantedReply, GatewayError> {
        if !matches!(request.after.len(), 0 | 16) {
            return Err(GatewayError::invalid("after", "is not a cursor of an earlier page"));
        }
        for _ in 0..ATTEMPTS_MAX {
            let done = self.own_facility(caller, Action::ListGranted, Act::ListGranted).await?;
            let own = done.value.ok_or(GatewayError::Unknown)?;
            if let Some(mut reply) = tokio::task::block_in_place(|| self.granted_to(&own, &request))? {
                reply.journal_position = done.committed.journal_first;
                return Ok(reply);
            }
        }
        Err(GatewayError::Contended)
    }

    /// Reads one page; `None` if what was decided on has changed before.
    fn granted_to(&self, own: &Own, request: &v1::GrantedRequest) -> Result<Option<v1::GrantedReply>, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        if !own.holds(&attempt) {
            return Ok(None);
        }
        let facility = &own.facility[..];
        let snapshot = attempt.database.snapshot();
        let prefix = RowKey::grants_of(&attempt.hash(Domain::GrantIndex, &[facility]));
        let after = (!request.after.is_empty()).then(|| [&prefix.as_bytes()[..], &request.after].concat());
        let limit = page(request.limit);
        let rows = snapshot.scan(&prefix, after.as_deref(), limit + 1).map_err(broken)?;
        let mut reply =
            v1::GrantedReply { more: rows.len() > limit, last: request.after.clone(), ..v1::GrantedReply::default() };
        for (key, stored) in rows.into_iter().take(limit) {
            let pseudonym = pseudonym_at_end(&key).ok_or_else(|| super::attempt::damaged(&key))?;
            reply.last = Bytes::copy_from_slice(&pseudonym.0);
            if !self.names(&attempt, &pseudonym.0, facility)? {
                continue;
            }
            let row: GrantIndexRow = match attempt.open_scanned(&key, &stored) {
                Err(error) if error.is_of_one_row() => {
                    from_participant(&attempt, &pseudonym, facility)?.ok_or(error)?
                }
                row => row?,
            };
            reply.participants.push(v1::GrantedParticipant { participant: row.number, granted_ms: row.granted_ms });
        }
        Ok(Some(reply))
    }

    async fn own_facility(&self, caller: &Caller, action: Action, act: Act<'_>) -> Result<Done<Own>, GatewayError> {
        self.transact(caller, action, None, |attempt| {
            let rows = CallerRows::load(attempt, caller)?;
            let facts = rows.facts(attempt.now_ms, act, None, None);
            let decision = decide(&facts);
            let verdict = Verdict::of(decision, |_| {
                let facility = rows.facility().map(|f| f.id.clone()).unwrap_or_default();
                Ok(Own { facility, tables: TABLES.map(|table| attempt.table_revision(table)) })
            })?;
            Ok((verdict, ReceiptRow::default()))
        })
        .await
    }

    /// Whether a participant takes part and names a facility at this moment; of a former number, whether
    /// the one who stays does.
    fn names(&self, attempt: &Attempt<'_>, pseudonym: &[u8], facility: &str) -> Result<bool, GatewayError> {
        let Ok(pseudonym) = Pseudonym::from_slice(pseudonym) else { return Ok(false) };
        let mut participant = attempt.look::<Participant>(&RowKey::participant(&pseudonym))?.value;
        if let Some(former) = participant.as_ref().filter(|row| !row.alias_of.is_empty()) {
            let Ok(stays) = Pseudonym::from_slice(&former.alias_of) else { return Ok(false) };
            participant = attempt.look::<Participant>(&RowKey::participant(&stays))?.value;
        }
        Ok(participant.is_some_and(|p| present_consent(&p).is_some() && is_granted(&p, facility)))
    }
}

/// Whether a record still reaches a facility to which it was addressed once: it was not hidden since, nor narrowed to
/// others. A list shows it on the same terms.
fn reaches(attempt: &Attempt<'_>, row: &InboxRow, facility: &str) -> Result<bool, GatewayError> {
    let (Ok(pseudonym), Ok(record)) = (Pseudonym::from_slice(&row.pseudonym), RecordId::from_slice(&row.record_id))
    else {
        return Ok(false);
    };
    let key = RowKey::record_control(&pseudonym, &record);
    let Some(control) = attempt.look_of::<RecordControl>(&key, &pseudonym)?.value else { return Ok(false) };
    let is_addressed = control.addressees.is_empty() || control.addressees.iter().any(|one| one == facility);
    Ok(control.author_facility == facility || (!control.hidden && is_addressed))
}

/// What the index tells of a grant, taken from the participant's own row.
fn from_participant(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    facility: &str,
) -> Result<Option<GrantIndexRow>, GatewayError> {
    let participant = attempt.look::<Participant>(&RowKey::participant(pseudonym))?.value;
    Ok(participant.and_then(|participant| {
        let granted_ms = present_grant(&participant, facility)?.granted_ms;
        Some(GrantIndexRow { number: participant.number.clone(), granted_ms })
    }))
}
