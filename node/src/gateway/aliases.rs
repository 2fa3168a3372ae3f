//! A duplicate enrolment becomes an alias of the participant who stays.
//!
//! Invariants
//! - Afterwards both numbers name one participant: the one who stays, whose consent and grants decide.
//! - Nothing moves: records, links and journal entries of the duplicate lie where they lay, and are found
//!   through the row of the one who stays ([`super::participant::Known::pseudonyms`]).
//! - Whoever stays is nobody's alias, so that one step always leads there.

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::consent::{Act, decide};
use kura_cluster::id::FacilityId;
use kura_cluster::row::{Alias, NumberRow, Participant, ReceiptRow, RowKey};
use kura_cluster::word::Action;
use kura_cluster::{ParticipantNumber, Revision};
use kura_proto::v1;
use std::sync::Arc;

use super::attempt::{Attempt, damaged};
use super::caller::CallerRows;
use super::consents::{bounded, grant_index_key};
use super::limits::ALIASES_MAX;
use super::participant::Known;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// An enrolment as it was made under a number, also if that number became an alias.
struct Enrolment {
    pseudonym: Pseudonym,
    revision: Revision,
    row: Arc<Participant>,
}

impl Gateway {
    /// Makes a duplicate an alias. Restrictive: facilities that were named only under the duplicate see
    /// nothing any more, so it waits for the backup.
    pub async fn alias(&self, caller: &Caller, request: v1::AliasRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let stays = number("participant", &request.participant)?;
        let duplicate = number("duplicate", &request.duplicate)?;
        bounded("evidence", &request.evidence)?;
        let done = self
            .transact(caller, Action::Alias, Some(&asked), |attempt| {
                attempt.entry.reason = request.evidence.clone();
                let rows = CallerRows::load(attempt, caller)?;
                let duplicate = enrolment(attempt, &duplicate)?;
                let stays = attempt.participant(&stays)?;
                let act = Act::Alias { duplicate: duplicate.as_ref().map(|d| &*d.row), evidence: &request.evidence };
                let participant = stays.as_ref().map(|known| &*known.row);
                let decision = decide(&rows.facts(attempt.now_ms, act, participant, None));
                let verdict = Verdict::of(decision, |_| match (&stays, &duplicate) {
                    (Some(stays), Some(duplicate)) => make_alias(attempt, stays, duplicate, caller, &request.evidence),
                    _ => Err(GatewayError::Damaged { what: "participant" }),
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, true).await)
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
    let found = attempt.load::<Participant>(&RowKey::participant(&pseudonym))?;
    Ok(found.value.map(|row| Enrolment { pseudonym, revision: found.revision, row }))
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
    for alias in &further {
        let former = Pseudonym::from_slice(&alias.pseudonym).map_err(|_| GatewayError::Damaged { what: "alias" })?;
        let key = RowKey::participant(&former);
        let found = attempt.load::<Participant>(&key)?;
        let before = found.value.ok_or_else(|| damaged(&key))?;
        attempt.put(&key, found.revision, &Participant { alias_of: own.clone(), ..(*before).clone() });
        point(attempt, &alias.number, &own, &alias.pseudonym, alias.at_ms)?;
    }
    row.aliases.extend(further);
    // An erasure looks at the row of the one who stays: no hold may be missed there.
    row.held_records = row.held_records.saturating_add(duplicate.row.held_records);
    row.aliases.push(Alias {
        number: duplicate.row.number.clone(),
        pseudonym: Bytes::copy_from_slice(&duplicate.pseudonym.0),
        at_ms: now_ms,
        registrar: caller.identity.name.clone(),
        evidence: evidence.into(),
    });
    attempt.put(&RowKey::participant(&stays.pseudonym), stays.revision, &row);
    let former =
        Participant { alias_of: own.clone(), aliases: Vec::new(), held_records: 0, ..(*duplicate.row).clone() };
    attempt.put(&RowKey::participant(&duplicate.pseudonym), duplicate.revision, &former);
    point(attempt, &duplicate.row.number, &own, &duplicate.pseudonym.0, now_ms)?;
    // The facilities named under the duplicate no longer list it.
    for grant in duplicate.row.grants.iter().filter(|grant| grant.revoked_ms == 0) {
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
    let number = ParticipantNumber::parse(number).map_err(|_| GatewayError::Damaged { what: "participant" })?;
    let key = attempt.number_key(&number);
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
