//! Who accessed a participant's records: the participant's own list.

use kura_cluster::consent::{Act, Basis, Denial, decide};
use kura_cluster::row::{JournalEntry, ReceiptRow, RowKey};
use kura_cluster::seal::{Domain, index_hash};
use kura_cluster::word::Action;
use kura_proto::v1;

use super::attempt::{Attempt, broken, open_journal_entry};
use super::caller::CallerRows;
use super::list::page;
use super::participant::number;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};

impl Gateway {
    /// One page of the accesses to a participant's records, newest first.
    pub async fn accesses(
        &self,
        caller: &Caller,
        request: v1::AccessesRequest,
    ) -> Result<v1::AccessesReply, GatewayError> {
        let number = number(&request.participant)?;
        caller.may_concern(&number)?;
        let done = self
            .transact(caller, Action::ListAccesses, None, |attempt| {
                let rows = CallerRows::load(attempt, caller)?;
                let known = attempt.participant(&number)?;
                let facts = rows.facts(attempt.now_ms, Act::ListAccesses, known.as_ref().map(|k| &*k.row), None);
                let decision = decide(&facts);
                let verdict = Verdict::of(decision, |_| {
                    known.map(|k| k.pseudonym).ok_or(GatewayError::Damaged { what: "participant" })
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let pseudonym = done.value.ok_or(GatewayError::Unknown)?;
        let mut reply = tokio::task::block_in_place(|| self.accesses_of(&pseudonym, &request))?;
        reply.journal_position = done.committed.journal_first;
        Ok(reply)
    }

    fn accesses_of(
        &self,
        pseudonym: &kura_cluster::Pseudonym,
        request: &v1::AccessesRequest,
    ) -> Result<v1::AccessesReply, GatewayError> {
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let hash = index_hash(&attempt.vault.keyring().index, Domain::JournalSubject, &[&pseudonym.0]);
        let after = (request.after != 0).then(|| RowKey::journal_index(&hash, request.after));
        let limit = page(request.limit);
        let keys = snapshot
            .scan_back(&RowKey::journal_index_of(&hash), after.as_ref().map(|key| &key.as_bytes()[..]), limit + 1)
            .map_err(broken)?;
        let mut reply = v1::AccessesReply { more: keys.len() > limit, ..v1::AccessesReply::default() };
        for (key, _) in keys.into_iter().take(limit) {
            let position = position_at_end(&key).ok_or_else(|| super::attempt::damaged(&key))?;
            let row = RowKey::journal(position);
            let stored = snapshot.row(&row).map_err(broken)?.ok_or_else(|| super::attempt::damaged(&row))?;
            let entry =
                open_journal_entry(&attempt.vault, &stored.value).ok_or_else(|| super::attempt::damaged(&row))?;
            if entry.at_ms < request.since_ms {
                reply.more = false;
                break;
            }
            reply.last = position;
            reply.accesses.push(access(position, entry));
        }
        Ok(reply)
    }
}

/// The journal position at the end of an index key.
fn position_at_end(key: &RowKey) -> Option<u64> {
    let bytes = key.as_bytes();
    let at = bytes.len().checked_sub(8)?;
    bytes[at..].try_into().ok().map(u64::from_be_bytes)
}

fn access(journal_position: u64, entry: JournalEntry) -> v1::Access {
    let actor = entry.actor.unwrap_or_default();
    v1::Access {
        journal_position,
        at_ms: entry.at_ms,
        application: actor.application,
        actor: Some(v1::Actor {
            kind: actor.kind,
            facility: actor.facility,
            name: actor.name,
            method: actor.method,
            authenticated_ms: actor.authenticated_ms,
            credential_sha256: actor.credential_sha256,
        }),
        action: entry.action,
        record_id: entry.record_id,
        version: entry.version,
        class: entry.class,
        basis: Basis::from_number(entry.basis).map_or("", Basis::word).into(),
        denial: Denial::from_number(entry.denial).map_or("", Denial::word).into(),
        purpose: entry.purpose,
        object: entry.object,
        reason: entry.reason,
        count: entry.count.max(1),
    }
}
