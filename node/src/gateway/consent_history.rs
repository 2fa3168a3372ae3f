//! A participant's consents and grants: those of now in the participant's row, every one that ever was in the history.
//!
//! Invariants
//! - The participant's row holds the consent entered last and at most [`FACILITIES_MAX`] grants, each with a few facts of
//!   fixed size; texts are in the history alone. So it has a bound, whatever there was before, and what takes access
//!   away always fits into a command.
//! - A consent or a grant has one row in the history from the command on that enters it; what ends it rewrites that row.
//!   A withdrawal rewrites the consent's row alone: it is the end of every grant made under it.
//! - Nothing is forgotten, and times never run backwards within a participant: every time can be asked for.
//! - What changes the history rewrites the participant's row: whoever expects the one expects the other.
//! - Whoever takes part again begins without grants.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_cluster::row::{Grant, Participant, ParticipationConsent, PresentConsent, PresentGrant, RowKey, StoredRow};
use kura_cluster::word::HistoryKind;
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::GatewayError;
use super::attempt::{Attempt, broken, damaged};
use super::limits::FACILITIES_MAX;
use super::participant::Known;

/// As it is now. Not the gateway's own clock: what another gateway entered may lie a little ahead of it.
pub const NOW_MS: u64 = u64::MAX;
/// Rows of the history read at a time.
const SCAN_ROWS: usize = 256;
/// Bytes of a cursor: which enrolment (1), time (8) and number (4) of a grant's row.
const CURSOR_BYTES: usize = 13;
/// Bytes of a history key before time and number: table, pseudonym, kind.
const KEY_PREFIX_BYTES: usize = 18;

/// Who ended something, on which evidence.
pub struct End<'a> {
    /// The facility that entered it, or empty for the participant.
    pub by: &'a str,
    /// Reference to the evidence.
    pub evidence: &'a str,
}

/// A participant's row in the making, with what of the history changes beside it.
pub struct Consents<'r> {
    pseudonym: Pseudonym,
    /// The row; the caller puts it.
    pub row: &'r mut Participant,
    /// When: the gateway's clock, and not before the newest change.
    at_ms: u64,
}

impl<'r> Consents<'r> {
    /// Changes a participant's consents, at the attempt's time.
    pub fn of(attempt: &Attempt<'_>, pseudonym: &Pseudonym, row: &'r mut Participant) -> Consents<'r> {
        let at_ms = attempt.now_ms.max(row.changed_ms);
        row.changed_ms = at_ms;
        Consents { pseudonym: *pseudonym, row, at_ms }
    }

    /// Enters a consent: it is the one that counts.
    pub fn enter_consent(&mut self, attempt: &mut Attempt<'_>, consent: ParticipationConsent) {
        let history_number = self.next_number();
        let consent = ParticipationConsent { entered_ms: self.at_ms, ..consent };
        attempt.put(&self.key(HistoryKind::Consent, self.at_ms, history_number), Revision::ABSENT, &consent);
        self.row.consent = Some(PresentConsent {
            signed_day: consent.signed_day,
            entered_ms: self.at_ms,
            entered_by: consent.entered_by,
            withdrawn_ms: 0,
            history_number,
            review_id: consent.review_id,
        });
    }

    /// Enters a grant.
    pub fn enter_grant(&mut self, attempt: &mut Attempt<'_>, grant: Grant) -> Result<(), GatewayError> {
        if self.row.grants.len() >= FACILITIES_MAX {
            let why = format!(
                "cannot be named: the participant names {FACILITIES_MAX} facilities, the limit; take a grant back first"
            );
            return Err(GatewayError::invalid("facility", why));
        }
        let history_number = self.next_number();
        let consent = self.row.consent.as_ref().ok_or(GatewayError::Damaged { what: "participant" })?;
        let grant = Grant {
            granted_ms: self.at_ms,
            consent_ms: consent.entered_ms,
            consent_number: consent.history_number,
            ..grant
        };
        attempt.put(&self.key(HistoryKind::Grant, self.at_ms, history_number), Revision::ABSENT, &grant);
        self.row.grants.push(PresentGrant {
            by_participant: grant.entered_by.is_empty(),
            facility: grant.facility,
            granted_ms: self.at_ms,
            history_number,
            review_id: grant.review_id,
        });
        Ok(())
    }

    /// The participant confirms what a facility had entered.
    pub fn confirm_grant(&mut self, attempt: &mut Attempt<'_>, facility: &str) -> Result<(), GatewayError> {
        let at_ms = self.at_ms;
        let Some(place) = self.row.grants.iter().position(|grant| grant.facility == facility) else { return Ok(()) };
        self.row.grants[place].by_participant = true;
        let confirmed = self.row.grants[place].clone();
        self.rewrite::<Grant>(attempt, HistoryKind::Grant, (confirmed.granted_ms, confirmed.history_number), |row| {
            row.confirmed_ms = at_ms;
        })
    }

    /// Ends the grants that `which` names.
    pub fn end_grants(
        &mut self,
        attempt: &mut Attempt<'_>,
        end: &End<'_>,
        which: impl Fn(&str) -> bool,
    ) -> Result<(), GatewayError> {
        let at_ms = self.at_ms;
        let (ended, kept) = std::mem::take(&mut self.row.grants).into_iter().partition(|grant| which(&grant.facility));
        self.row.grants = kept;
        let ended: Vec<PresentGrant> = ended;
        for grant in ended {
            self.rewrite::<Grant>(attempt, HistoryKind::Grant, (grant.granted_ms, grant.history_number), |row| {
                row.revoked_ms = at_ms;
                row.revoked_by = end.by.into();
                row.revocation_evidence = end.evidence.into();
            })?;
        }
        Ok(())
    }

    /// Ends the present consent, and with it every grant.
    pub fn end_consent(&mut self, attempt: &mut Attempt<'_>, end: &End<'_>) -> Result<(), GatewayError> {
        let at_ms = self.at_ms;
        self.row.grants.clear();
        let Some(consent) = self.row.consent.as_mut() else { return Ok(()) };
        consent.withdrawn_ms = at_ms;
        let place = (consent.entered_ms, consent.history_number);
        self.rewrite::<ParticipationConsent>(attempt, HistoryKind::Consent, place, |row| {
            row.withdrawn_ms = at_ms;
            row.withdrawn_by = end.by.into();
            row.withdrawal_evidence = end.evidence.into();
        })
    }

    fn next_number(&mut self) -> u32 {
        let number = self.row.history_rows;
        self.row.history_rows = number.saturating_add(1);
        number
    }

    fn key(&self, kind: HistoryKind, entered_ms: u64, number: u32) -> RowKey {
        RowKey::history(&self.pseudonym, kind, entered_ms, number)
    }

    fn rewrite<T: prost::Message + Default + Clone + 'static>(
        &self,
        attempt: &mut Attempt<'_>,
        kind: HistoryKind,
        (entered_ms, number): (u64, u32),
        change: impl FnOnce(&mut T),
    ) -> Result<(), GatewayError> {
        let key = self.key(kind, entered_ms, number);
        let before = attempt.load::<T>(&key)?;
        let mut row = before.value.map(|row| (*row).clone()).ok_or_else(|| damaged(&key))?;
        change(&mut row);
        attempt.put(&key, before.revision, &row);
        Ok(())
    }
}

/// The facilities whose grants ended under an enrolment and that are not named there now: those of a duplicate that
/// became an alias as they were then.
pub fn ended_in(attempt: &Attempt<'_>, pseudonym: &Pseudonym) -> Result<BTreeSet<String>, GatewayError> {
    let mut withdrawals = Withdrawals::default();
    let (mut ended, mut open) = (BTreeSet::new(), BTreeSet::new());
    let mut after = None;
    loop {
        let rows = rows_after(attempt, pseudonym, after.as_ref(), SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        for (key, stored) in &rows {
            let grant: Grant = attempt.open_scanned(key, stored)?;
            let is_open = grant.revoked_ms == 0 && withdrawals.of(attempt, pseudonym, &grant)?.withdrawn_ms == 0;
            let facilities = if is_open { &mut open } else { &mut ended };
            facilities.insert(grant.facility);
        }
    }
    ended.retain(|facility| !open.contains(facility));
    Ok(ended)
}

fn rows_after(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<(RowKey, StoredRow)>, GatewayError> {
    let prefix = RowKey::history_of(pseudonym, HistoryKind::Grant);
    let after = after.map(|key| &key.as_bytes()[..]);
    attempt.database.snapshot().scan(&prefix, after, limit).map_err(broken)
}

/// The consents under which grants were made, each opened once: how they ended.
#[derive(Default)]
struct Withdrawals(BTreeMap<(Pseudonym, u32), ParticipationConsent>);

impl Withdrawals {
    fn of(
        &mut self,
        attempt: &Attempt<'_>,
        pseudonym: &Pseudonym,
        grant: &Grant,
    ) -> Result<&ParticipationConsent, GatewayError> {
        use std::collections::btree_map::Entry;
        match self.0.entry((*pseudonym, grant.consent_number)) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(place) => {
                let key = RowKey::history(pseudonym, HistoryKind::Consent, grant.consent_ms, grant.consent_number);
                let consent = attempt.look::<ParticipationConsent>(&key)?.value.ok_or_else(|| damaged(&key))?;
                Ok(place.insert((*consent).clone()))
            }
        }
    }
}

/// Where a page of grants begins, and how many there are on it.
#[derive(Debug, Clone)]
pub struct Page {
    /// Of which enrolment: 0 the participant's own, then those that became aliases.
    place: u8,
    /// After this time and number of it, if after any.
    after: Option<[u8; CURSOR_BYTES - 1]>,
    limit: usize,
}

impl Page {
    /// Reads a cursor of an earlier page; empty: the first one.
    pub fn parse(cursor: &[u8], limit: usize) -> Result<Page, GatewayError> {
        let Some((place, rest)) = cursor.split_first() else { return Ok(Page { place: 0, after: None, limit }) };
        let after = rest.try_into().map_err(|_| {
            let why = format!("is no cursor of such a list: it has {} bytes, one of these has 13", cursor.len());
            GatewayError::invalid("after", why)
        })?;
        Ok(Page { place: *place, after: Some(after), limit })
    }

    /// Whether it is the first one.
    pub fn is_first(&self) -> bool {
        self.after.is_none()
    }
}

/// What there was at a time: the consent entered last, and a page of the grants made until then, each with its end if
/// that had come: the participant's own first, then those of duplicate enrolments. None if nothing had been entered.
pub fn as_of(
    attempt: &Attempt<'_>,
    known: &Known,
    at_ms: u64,
    page: &Page,
) -> Result<Option<v1::ShowReply>, GatewayError> {
    let Some(consent) = consent_as_of(attempt, &known.pseudonym, at_ms)? else { return Ok(None) };
    let withdrawn = Some(&consent).filter(|c| (1..=at_ms).contains(&c.withdrawn_ms)).cloned().unwrap_or_default();
    let mut reply = v1::ShowReply {
        entered_ms: consent.entered_ms,
        entered_by: consent.entered_by.clone(),
        consent: Some(signed(consent)),
        withdrawn_ms: withdrawn.withdrawn_ms,
        withdrawn_by: withdrawn.withdrawn_by,
        withdrawal_evidence: withdrawn.withdrawal_evidence,
        ..v1::ShowReply::default()
    };
    let mut withdrawals = Withdrawals::default();
    let mut after = page.after;
    for (place, pseudonym) in known.pseudonyms().into_iter().enumerate().skip(page.place.into()) {
        let prefix = RowKey::history_of(&pseudonym, HistoryKind::Grant);
        let after = after.take().map(|after| RowKey::from_bytes([&prefix.as_bytes()[..], &after].concat().into()));
        let room = page.limit - reply.grants.len();
        let rows = rows_after(attempt, &pseudonym, after.as_ref(), room + 1)?;
        let alias = place.checked_sub(1).and_then(|place| known.row.aliases.get(place));
        for (key, stored) in rows {
            let grant: Grant = attempt.open_scanned(&key, &stored)?;
            if grant.granted_ms > at_ms {
                break;
            }
            if reply.grants.len() == page.limit {
                reply.more = true;
                return Ok(Some(reply));
            }
            let ends = [
                (grant.revoked_ms, &grant.revoked_by[..], &grant.revocation_evidence[..]),
                withdrawals.of(attempt, &pseudonym, &grant).map(|consent| {
                    (consent.withdrawn_ms, &consent.withdrawn_by[..], &consent.withdrawal_evidence[..])
                })?,
                // What was named under a duplicate only, ended when it became an alias.
                alias.map_or((0, "", ""), |alias| (alias.at_ms, "", &alias.evidence)),
            ];
            let end =
                ends.into_iter().find(|(ended_ms, ..)| *ended_ms != 0).filter(|(ended_ms, ..)| *ended_ms <= at_ms);
            let (revoked_ms, revoked_by, evidence) = end.unwrap_or_default();
            let number = alias.map(|alias| alias.number.clone()).unwrap_or_default();
            reply.last = cursor(place, &key);
            reply.grants.push(v1::GrantSummary {
                revoked_ms,
                revoked_by: revoked_by.into(),
                revocation_evidence: evidence.into(),
                confirmed_ms: Some(grant.confirmed_ms)
                    .filter(|confirmed_ms| *confirmed_ms <= at_ms)
                    .unwrap_or_default(),
                number,
                facility: grant.facility,
                granted_ms: grant.granted_ms,
                entered_by: grant.entered_by,
                by_beneficiary: grant.by_beneficiary,
                evidence: grant.evidence,
            });
        }
    }
    Ok(Some(reply))
}

/// The place of a row among all of a participant's enrolments.
fn cursor(place: usize, key: &RowKey) -> Bytes {
    // At most 16 aliases.
    let place = u8::try_from(place).unwrap_or(u8::MAX);
    [&[place][..], key.as_bytes().get(KEY_PREFIX_BYTES..).unwrap_or_default()].concat().into()
}

fn consent_as_of(
    attempt: &Attempt<'_>,
    pseudonym: &Pseudonym,
    at_ms: u64,
) -> Result<Option<ParticipationConsent>, GatewayError> {
    let prefix = RowKey::history_of(pseudonym, HistoryKind::Consent);
    let before = at_ms.checked_add(1).map(|ms| RowKey::history(pseudonym, HistoryKind::Consent, ms, 0));
    let before = before.as_ref().map(|key| &key.as_bytes()[..]);
    let found = attempt.database.snapshot().scan_back(&prefix, before, 1).map_err(broken)?;
    found.first().map(|(key, stored)| attempt.open_scanned(key, stored)).transpose()
}

fn signed(consent: ParticipationConsent) -> v1::SignedConsent {
    v1::SignedConsent {
        signed_day: consent.signed_day,
        proxy: consent.proxy,
        proxy_relation: consent.proxy_relation,
        evidence: consent.evidence,
        own_records: consent.own_records,
        secondary_use: consent.secondary_use,
    }
}
