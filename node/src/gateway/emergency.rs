//! Emergencies: opening one, and reading under one.
//!
//! Invariants
//! - Opening one rewrites the counters of user, facility and application and queues a review, all in the
//!   command that makes the episode. Reading under it writes the journal and nothing else.
//! - Whatever is read under an episode expects the episode's row.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::consent::{Act, Emergency, EmergencyCounters, count_after, decide, present_consent};
use kura_cluster::id::EpisodeId;
use kura_cluster::row::{CounterRow, EpisodeRow, JournalEntry, ReceiptRow, ReviewRow, RowKey};
use kura_cluster::seal::{Domain, index_hash};
use kura_cluster::word::{Action, Purpose, ReviewKind};
use kura_cluster::{ParticipantNumber, Revision};
use kura_proto::v1;

use super::attempt::{Attempt, broken, damaged};
use super::caller::CallerRows;
use super::consents::bounded;
use super::participant::number;
use super::rows::Loaded;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError, reviews};
use crate::state::database::Snapshot;

/// Parses the id of the emergency under which something is asked; empty: none.
pub fn episode_id(bytes: &[u8]) -> Result<Option<EpisodeId>, GatewayError> {
    match bytes {
        [] => Ok(None),
        bytes => EpisodeId::from_slice(bytes).map(Some).map_err(|e| GatewayError::invalid("episode_id", e)),
    }
}

/// The emergency under which something is asked, as its decision uses it.
pub struct Episode {
    key: RowKey,
    found: Loaded<EpisodeRow>,
}

impl Episode {
    /// Opens its row and expects it as it is, also that it is not there. The journal entry names it.
    pub fn load(attempt: &mut Attempt<'_>, id: &EpisodeId) -> Result<Episode, GatewayError> {
        attempt.entry.episode_id = Bytes::copy_from_slice(&id.0);
        let key = RowKey::episode(id);
        let found = attempt.load(&key)?;
        Ok(Episode { key, found })
    }

    /// What rules look at.
    pub fn facts(&self) -> Emergency<'_> {
        Emergency { episode: self.found.value.as_deref() }
    }

    /// Marks the entry of a permitted access with the reason: each of them tells the participant.
    pub fn mark(&self, entry: &mut JournalEntry) {
        entry.reason = self.found.value.as_ref().map(|row| row.reason.clone()).unwrap_or_default();
    }

    /// Whether it is in a view as it was when it was decided on.
    pub fn holds(&self, snapshot: &Snapshot<'_>) -> Result<bool, GatewayError> {
        let present = snapshot.row(&self.key).map_err(broken)?.map(|row| row.header.revision);
        Ok(present.unwrap_or(Revision::ABSENT) == self.found.revision)
    }
}

impl Gateway {
    /// Opens an emergency. Asked again, the same request is told the same emergency.
    pub async fn open_emergency(
        &self,
        caller: &Caller,
        request: v1::OpenEmergencyRequest,
    ) -> Result<v1::OpenEmergencyReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        // A blank is no reason: the denial is journalled.
        bounded("reason", request.reason.trim())?;
        let done = self
            .transact(caller, Action::Emergency, Some(&asked), |attempt| {
                let verdict = open(attempt, caller, &asked, &number, request.reason.trim())?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let attempt = Attempt::begin(self, &JournalEntry::default())?;
        let id = episode_of(&attempt, caller, &asked);
        let key = RowKey::episode(&id);
        let episode = attempt.look::<EpisodeRow>(&key)?.value.ok_or_else(|| damaged(&key))?;
        Ok(v1::OpenEmergencyReply {
            receipt: Some(self.receipt(&done, &asked, false).await),
            episode_id: Bytes::copy_from_slice(&id.0),
            expires_ms: episode.expires_ms,
        })
    }
}

/// The id follows from the request, so that a repetition finds the episode.
fn episode_of(attempt: &Attempt<'_>, caller: &Caller, asked: &Asked) -> EpisodeId {
    let hash = asked.hash(&attempt.vault, &caller.identity.name);
    let mut id = EpisodeId::default();
    id.0.copy_from_slice(&hash[..16]);
    id
}

fn open(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    asked: &Asked,
    number: &ParticipantNumber,
    reason: &str,
) -> Result<Verdict<()>, GatewayError> {
    attempt.entry.reason = reason.into();
    attempt.entry.purpose = Purpose::Care.number();
    let rows = CallerRows::load(attempt, caller)?;
    let counters = Counters::load(attempt, caller)?;
    let known = attempt.participant(number)?;
    let act = Act::OpenEmergency { reason, counters: counters.facts() };
    let facts = rows.facts(attempt.now_ms, act, known.as_ref().map(|k| &*k.row), Some(Purpose::Care));
    let decision = decide(&facts);
    Verdict::of(decision, |_| {
        let known = known.ok_or(GatewayError::Damaged { what: "participant" })?;
        let consent_number = present_consent(&known.row).map(|consent| consent.history_number);
        counters.count(attempt, rows.settings().emergency_window_ms);
        let (id, actor) = (episode_of(attempt, caller, asked), caller.journalled());
        let id = Bytes::copy_from_slice(&id.0);
        attempt.entry.episode_id = id.clone();
        let pseudonym = Bytes::copy_from_slice(&known.pseudonym.0);
        let review = ReviewRow {
            kind: ReviewKind::Emergency.number(),
            pseudonym: pseudonym.clone(),
            number: known.row.number.clone(),
            actor: Some(actor.clone()),
            reason: reason.into(),
            episode_id: id.clone(),
            ..ReviewRow::default()
        };
        let review_id = reviews::queue(attempt, review);
        let episode = EpisodeRow {
            id,
            pseudonym,
            number: known.row.number.clone(),
            facility: actor.facility,
            user: actor.name,
            application: actor.application,
            reason: reason.into(),
            opened_ms: attempt.now_ms,
            expires_ms: attempt.now_ms.saturating_add(rows.settings().emergency_ms),
            review_id,
            consent_number,
        };
        let key = RowKey::episode(&episode_of(attempt, caller, asked));
        attempt.put(&key, Revision::ABSENT, &episode);
        Ok(())
    })
}

/// The counters of the actor's user, facility, application and, if one was used, credential, in this order; none for
/// other actors. By the credential one person is known under several user ids.
struct Counters(Vec<(RowKey, Loaded<CounterRow>)>);

impl Counters {
    fn load(attempt: &mut Attempt<'_>, caller: &Caller) -> Result<Counters, GatewayError> {
        let actor = caller.journalled();
        if caller.facility().is_none() {
            return Ok(Counters(Vec::new()));
        }
        let mut hashes = vec![
            attempt.hash(Domain::EmergencyUser, &[&actor.facility, &actor.name]),
            attempt.hash(Domain::EmergencyFacility, &[&actor.facility]),
            attempt.hash(Domain::EmergencyApplication, &[&actor.application]),
        ];
        if !actor.credential_sha256.is_empty() {
            let index_key = &attempt.vault.keyring().index;
            hashes.push(index_hash(index_key, Domain::EmergencyCredential, &[&actor.credential_sha256]));
        }
        let load = |hash: &[u8; 32]| {
            let key = RowKey::counter(hash);
            let loaded = attempt.load(&key)?;
            Ok((key, loaded))
        };
        hashes.iter().map(load).collect::<Result<_, _>>().map(Counters)
    }

    fn facts(&self) -> EmergencyCounters<'_> {
        let nth = |nth: usize| self.0.get(nth).and_then(|(_, loaded)| loaded.value.as_deref());
        EmergencyCounters { user: nth(0), facility: nth(1), application: nth(2), credential: nth(3) }
    }

    fn count(&self, attempt: &mut Attempt<'_>, window_ms: u64) {
        for (key, loaded) in &self.0 {
            let counter: Option<&Arc<CounterRow>> = loaded.value.as_ref();
            let after = count_after(counter.map(|row| &**row), window_ms, attempt.now_ms);
            attempt.put(key, loaded.revision, &after);
        }
    }
}
