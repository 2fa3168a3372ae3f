//! A duplicate enrolment becomes an alias of the participant who stays: proposed by one registrar, done when another
//! confirms it.
//!
//! Invariants
//! - Afterwards both numbers name one participant: the one who stays, whose consent and grants decide.
//! - A facility whose grant was revoked under either number has none afterwards: restrictions add up. So do the days
//!   of consent: of a duplicate's records nothing is shown that is older than either.
//! - Nothing moves: records, links and journal entries of the duplicate lie where they lay, and are found
//!   through the row of the one who stays ([`super::participant::Known::pseudonyms`]).
//! - Whoever stays is nobody's alias, so that one step always leads there.
//! - What is proposed names pseudonyms: an act is kept, and tells no number of anybody who was erased since.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::consent::{Act, Change, Decision, Denial, decide, is_granted};
use kura_cluster::id::{ActId, FacilityId};
use kura_cluster::row::{ActRow, Alias, AliasProposal, NumberRow, Participant, ReceiptRow, ReviewRow, RowKey};
use kura_cluster::word::{ActKind, ActState, Action, ReviewKind};
use kura_cluster::{ParticipantNumber, Revision};
use kura_proto::v1;
use prost::Message;

use super::acts::{Confirming, close};
use super::attempt::{Attempt, damaged};
use super::caller::CallerRows;
use super::consent_history::{Consents, End, ended_in};
use super::consents::{bounded, grant_index_key};
use super::limits::ALIASES_MAX;
use super::participant::Known;
use super::register::{Proposal, propose};
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError, reviews};

/// An enrolment as it was made under a number, also if that number became an alias.
struct Enrolment {
    pseudonym: Pseudonym,
    revision: Revision,
    row: Arc<Participant>,
    /// Revision of the number's row, which changes if the number names another participant.
    number_revision: Revision,
}

impl Gateway {
    /// Proposes to a second registrar that a duplicate becomes an alias.
    pub async fn alias(&self, caller: &Caller, request: v1::AliasRequest) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let stays = number("participant", &request.participant)?;
        let duplicate = number("duplicate", &request.duplicate)?;
        bounded("evidence", &request.evidence)?;
        let id = ActId(asked.id.0);
        let done = self
            .transact(caller, Action::Alias, Some(&asked), |attempt| {
                attempt.entry.reason = request.evidence.clone();
                let rows = CallerRows::load(attempt, caller)?;
                let duplicate = enrolment(attempt, &duplicate)?;
                let stays = attempt.participant(&stays)?;
                let evidence = &request.evidence[..];
                let act = Act::Alias { duplicate: duplicate.as_ref().map(|d| &*d.row), evidence, second: None };
                let participant = stays.as_ref().map(|known| &*known.row);
                let facts = rows.facts(attempt.now_ms, act, participant, None);
                let verdict = match (decide(&facts), &stays, &duplicate) {
                    (Decision::Deny { reason: Denial::SecondRegistrar }, Some(stays), Some(duplicate)) => {
                        attempt.entry.action = Action::Propose.number();
                        attempt.entry.act_id = Bytes::copy_from_slice(&id.0);
                        attempt.entry_subjects.push(duplicate.pseudonym);
                        let act = Act::Propose { change: Change::Alias };
                        let decision = decide(&rows.facts(attempt.now_ms, act, participant, None));
                        let expires_ms = attempt.now_ms.saturating_add(rows.settings().act_ms);
                        Verdict::of(decision, |_| {
                            propose(attempt, caller, &id, proposal(stays, duplicate, evidence, expires_ms))
                        })?
                    }
                    (decision, ..) => Verdict::of(decision, |_| Ok(()))?,
                };
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let act_id = self.proposed(&id)?;
        let receipt = self.receipt(&done, &asked, false).await;
        Ok(v1::RegisterReply { receipt: Some(receipt), act_id, warnings: Vec::new() })
    }
}

fn proposal(stays: &Known, duplicate: &Enrolment, evidence: &str, expires_ms: u64) -> Proposal {
    let payload = AliasProposal {
        stays: Bytes::copy_from_slice(&stays.pseudonym.0),
        duplicate: Bytes::copy_from_slice(&duplicate.pseudonym.0),
        evidence: evidence.into(),
    };
    Proposal {
        kind: ActKind::Alias,
        object: duplicate.pseudonym.to_hex(),
        payload: payload.encode_to_vec(),
        field: "evidence",
        base: duplicate.number_revision,
        expires_ms,
        reason: evidence.into(),
    }
}

fn proposed(act: &ActRow) -> Result<(Pseudonym, Pseudonym, String), GatewayError> {
    let broken = || GatewayError::Damaged { what: "act" };
    let AliasProposal { stays, duplicate, evidence } =
        AliasProposal::decode(act.payload.clone()).map_err(|_| broken())?;
    let pseudonym = |id: &[u8]| Pseudonym::from_slice(id).map_err(|_| broken());
    Ok((pseudonym(&stays)?, pseudonym(&duplicate)?, evidence))
}

/// The revision of the duplicate's number, as it is now; absent if nobody has it any more.
pub fn present(attempt: &Attempt<'_>, act: &ActRow) -> Result<Revision, GatewayError> {
    let (_, duplicate, _) = proposed(act)?;
    let Some(row) = attempt.look::<Participant>(&RowKey::participant(&duplicate))?.value else {
        return Ok(Revision::ABSENT);
    };
    let number = stored_number(&row.number)?;
    Ok(attempt.look::<NumberRow>(&attempt.number_key(&number))?.revision)
}

/// The number that stays and the duplicate, as far as they are still there.
pub fn numbers(attempt: &Attempt<'_>, act: &ActRow) -> Result<(String, String), GatewayError> {
    let (stays, duplicate, _) = proposed(act)?;
    let number = |pseudonym: &Pseudonym| {
        let row = attempt.look::<Participant>(&RowKey::participant(pseudonym))?.value;
        Ok::<_, GatewayError>(row.map(|row| row.number.clone()).unwrap_or_default())
    };
    Ok((number(&stays)?, number(&duplicate)?))
}

fn stored_number(number: &str) -> Result<ParticipantNumber, GatewayError> {
    ParticipantNumber::parse(number).map_err(|_| GatewayError::Damaged { what: "participant" })
}

impl Confirming<'_> {
    /// Makes the duplicate an alias, if everything still is as the rules demand.
    pub fn confirm_alias(&self, attempt: &mut Attempt<'_>) -> Result<Verdict<()>, GatewayError> {
        let act = self.found.value.as_deref().ok_or(GatewayError::Damaged { what: "act" })?;
        let (stays, duplicate, evidence) = proposed(act)?;
        attempt.entry.reason.clone_from(&evidence);
        // Whoever became another's alias since is not the one who was shown.
        let stays = attempt.participant_of(&stays.0)?.filter(|known| known.pseudonym == stays);
        let duplicate = enrolment_of(attempt, duplicate)?;
        let base = duplicate.as_ref().map_or(Revision::ABSENT, |found| found.number_revision);
        let joined = Act::Alias {
            duplicate: duplicate.as_ref().map(|found| &*found.row),
            evidence: &evidence,
            second: Some(self.confirmation(base)),
        };
        let participant = stays.as_ref().map(|known| &*known.row);
        let decision = decide(&self.rows.facts(attempt.now_ms, joined, participant, None));
        Verdict::of(decision, |_| {
            let (Some(stays), Some(duplicate)) = (&stays, &duplicate) else {
                return Err(GatewayError::Damaged { what: "participant" });
            };
            make_alias(attempt, stays, duplicate, self.caller, &evidence)?;
            let review = ReviewRow {
                kind: ReviewKind::Alias.number(),
                pseudonym: Bytes::copy_from_slice(&stays.pseudonym.0),
                number: stays.row.number.clone(),
                duplicate: duplicate.row.number.clone(),
                actor: Some(self.caller.journalled()),
                reason: evidence.clone(),
                ..ReviewRow::default()
            };
            let act_id = attempt.entry.act_id.clone();
            reviews::queue(attempt, review);
            attempt.entry.act_id = act_id;
            close(attempt, self.caller, self.found, ActState::Confirmed)
        })
    }
}

fn number(field: &'static str, text: &str) -> Result<ParticipantNumber, GatewayError> {
    ParticipantNumber::parse(text).map_err(|error| GatewayError::invalid(field, error))
}

fn enrolment(attempt: &mut Attempt<'_>, number: &ParticipantNumber) -> Result<Option<Enrolment>, GatewayError> {
    let key = attempt.number_key(number);
    let Some(found) = attempt.load::<NumberRow>(&key)?.value else { return Ok(None) };
    let own = if found.alias { &found.former_pseudonym } else { &found.pseudonym };
    let pseudonym = Pseudonym::from_slice(own).map_err(|_| damaged(&key))?;
    enrolment_of(attempt, pseudonym)
}

fn enrolment_of(attempt: &mut Attempt<'_>, pseudonym: Pseudonym) -> Result<Option<Enrolment>, GatewayError> {
    let found = attempt.load::<Participant>(&RowKey::participant(&pseudonym))?;
    let Some(row) = found.value else { return Ok(None) };
    let key = attempt.number_key(&stored_number(&row.number)?);
    let number_revision = attempt.load::<NumberRow>(&key)?.revision;
    Ok(Some(Enrolment { pseudonym, revision: found.revision, row, number_revision }))
}

fn make_alias(
    attempt: &mut Attempt<'_>,
    stays: &Known,
    duplicate: &Enrolment,
    caller: &Caller,
    evidence: &str,
) -> Result<(), GatewayError> {
    let now_ms = attempt.now_ms;
    let own = Bytes::copy_from_slice(&stays.pseudonym.0);
    let mut row = (*stays.row).clone();
    // What was an alias of the duplicate is one of the participant who stays.
    let further = duplicate.row.aliases.clone();
    if row.aliases.len() + 1 + further.len() > ALIASES_MAX {
        let why = format!("would have more than {ALIASES_MAX} aliases, the limit");
        return Err(GatewayError::invalid("participant", why));
    }
    let mut revoked = tokio::task::block_in_place(|| ended_in(attempt, &duplicate.pseudonym))?;
    for alias in &further {
        let former = Pseudonym::from_slice(&alias.pseudonym).map_err(|_| GatewayError::Damaged { what: "alias" })?;
        let key = RowKey::participant(&former);
        let found = attempt.load::<Participant>(&key)?;
        let before = found.value.ok_or_else(|| damaged(&key))?;
        // What was named again under the duplicate counts for it and its aliases.
        let ended = tokio::task::block_in_place(|| ended_in(attempt, &former))?;
        revoked.extend(ended.into_iter().filter(|facility| !is_granted(&duplicate.row, facility)));
        attempt.put(&key, found.revision, &Participant { alias_of: own.clone(), ..(*before).clone() });
        point(attempt, &alias.number, &own, &alias.pseudonym, alias.at_ms)?;
    }
    let duplicates_day = duplicate.row.consent.as_ref().map(|consent| consent.signed_day);
    row.aliases.extend(further.into_iter().map(|alias| Alias {
        // Its records were shown within both consents.
        consent_day: alias.consent_day.max(duplicates_day),
        ..alias
    }));
    // An erasure looks at the row of the one who stays: no hold may be missed there.
    row.held_records = row.held_records.saturating_add(duplicate.row.held_records);
    row.aliases.push(Alias {
        number: duplicate.row.number.clone(),
        pseudonym: Bytes::copy_from_slice(&duplicate.pseudonym.0),
        at_ms: now_ms,
        registrar: caller.identity.name.clone(),
        evidence: evidence.into(),
        consent_day: duplicates_day,
    });
    revoked.retain(|facility| is_granted(&row, facility));
    let mut consents = Consents::of(attempt, &stays.pseudonym, &mut row);
    consents.end_grants(attempt, &End { by: "", evidence }, |named| revoked.contains(named))?;
    for facility in &revoked {
        let facility = FacilityId::parse(facility).map_err(|_| GatewayError::Damaged { what: "participant" })?;
        let key = grant_index_key(attempt, &facility, &stays.pseudonym);
        attempt.command.delete(&key);
    }
    attempt.put(&RowKey::participant(&stays.pseudonym), stays.revision, &row);
    // Whom it named stands in its history; nothing is decided on its row any more.
    let former = Participant {
        alias_of: own.clone(),
        aliases: Vec::new(),
        grants: Vec::new(),
        held_records: 0,
        ..(*duplicate.row).clone()
    };
    attempt.put(&RowKey::participant(&duplicate.pseudonym), duplicate.revision, &former);
    point(attempt, &duplicate.row.number, &own, &duplicate.pseudonym.0, now_ms)?;
    // The facilities named under the duplicate no longer list it.
    for grant in &duplicate.row.grants {
        let facility = FacilityId::parse(&grant.facility).map_err(|_| GatewayError::Damaged { what: "participant" })?;
        let key = grant_index_key(attempt, &facility, &duplicate.pseudonym);
        attempt.command.delete(&key);
    }
    attempt.entry_subjects.push(duplicate.pseudonym);
    Ok(())
}

/// Makes a number name the participant who stays.
fn point(
    attempt: &mut Attempt<'_>,
    number: &str,
    stays: &Bytes,
    former: &[u8],
    aliased_ms: u64,
) -> Result<(), GatewayError> {
    let key = attempt.number_key(&stored_number(number)?);
    let found = attempt.load::<NumberRow>(&key)?;
    let row = NumberRow {
        pseudonym: stays.clone(),
        alias: true,
        aliased_ms,
        former_pseudonym: Bytes::copy_from_slice(former),
    };
    attempt.put(&key, found.revision, &row);
    Ok(())
}
