//! Enrolment, grants, revocations, withdrawal, and showing them.

use bytes::Bytes;
use kura_cluster::consent::{
    Act, Basis, ConsentTerms, Denial, decide, is_granted, is_reviewed_enrolment, present_grant,
};
use kura_cluster::id::{FacilityId, UNSEEN, is_blank, is_unseen};
use kura_cluster::row::{
    Grant, GrantIndexRow, NumberRow, Participant, ParticipationConsent, ReceiptRow, ReviewRow, RowKey,
};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, ReviewKind};
use kura_cluster::{ParticipantNumber, Pseudonym, Revision};
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::{CallerRows, load_facility};
use super::consent_history::{self, Consents, End};
use super::limits::{CONSENT_DAY_FIRST, TEXT_BYTES_MAX};
use super::links::links_of;
use super::list::page;
use super::own_grants::EnteredGrants;
use super::participant::{Known, number};
use super::transact::{Asked, Done, Verdict};
use super::{Caller, Gateway, GatewayError, reviews};
use crate::random;

const KEY_VERSION_FIRST: u32 = 1;

impl Gateway {
    /// Enrols a participant, or takes up a new consent after a withdrawal.
    pub async fn enrol(&self, caller: &Caller, request: v1::EnrolRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let consent = request.consent.as_ref().ok_or_else(|| GatewayError::invalid("consent", "is missing"))?;
        for (field, text) in
            [("proxy", &consent.proxy), ("proxy_relation", &consent.proxy_relation), ("evidence", &consent.evidence)]
        {
            bounded(field, text)?;
        }
        // The future is refused by a rule: it is journalled.
        if consent.signed_day < CONSENT_DAY_FIRST {
            return Err(GatewayError::invalid("signed_day", "lies before 1900-01-01, the limit"));
        }
        let done = self
            .transact(caller, Action::Enrol, Some(&asked), |attempt| {
                let terms = ConsentTerms {
                    signed_day: consent.signed_day,
                    proxy: &consent.proxy,
                    proxy_relation: &consent.proxy_relation,
                    evidence: &consent.evidence,
                    own_records: consent.own_records,
                    secondary_use: consent.secondary_use,
                };
                let rows = CallerRows::load(attempt, caller)?;
                let known = attempt.participant(&number)?;
                let erasure = attempt.erasure_of(&number, known.as_ref())?.and_then(|(_, loaded)| loaded.value);
                let act = Act::Enrol { terms, erasure: erasure.as_deref() };
                let decision = decide(&rows.facts(attempt.now_ms, act, known.as_ref().map(|known| &*known.row), None));
                let verdict = Verdict::of(decision, |basis| {
                    let subject = Subject { rows, known, basis };
                    let consent = ParticipationConsent {
                        signed_day: consent.signed_day,
                        proxy: consent.proxy.clone(),
                        proxy_relation: consent.proxy_relation.clone(),
                        evidence: consent.evidence.clone(),
                        entered_by: subject.facility_id().to_owned(),
                        entered_by_user: subject.user_id().to_owned(),
                        ..ParticipationConsent::default()
                    };
                    match &subject.known {
                        Some(known) => enrol_again(attempt, caller, known, consent),
                        None => enrol_new(attempt, &number, consent)?,
                    }
                    Ok(())
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }

    /// Names a facility that may see a participant's records.
    pub async fn grant(&self, caller: &Caller, request: v1::GrantRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let named = FacilityId::parse(&request.facility).map_err(|e| GatewayError::invalid("facility", e))?;
        bounded("evidence", &request.evidence)?;
        let done = self
            .transact(caller, Action::Grant, Some(&asked), |attempt| {
                attempt.entry.object = named.reveal().into();
                attempt.entry_facilities.push(named.reveal().into());
                let beneficiary = load_facility(attempt, named.reveal())?;
                let known = attempt.participant(&number)?;
                let counted = EnteredGrants::load(attempt, caller, &named, known.as_ref())?;
                let act = Act::Grant {
                    beneficiary: beneficiary.as_deref(),
                    evidence: &request.evidence,
                    own_grants: counted.as_ref().and_then(EnteredGrants::own),
                    returned: counted.as_ref().and_then(EnteredGrants::returned),
                    reviewed: counted.as_ref().is_some_and(EnteredGrants::reviewed),
                };
                let mut receipt = ReceiptRow::default();
                let (verdict, _) = decide_on(attempt, caller, &number, act, |attempt, subject| {
                    let known = subject.known()?;
                    match present_grant(&known.row, named.reveal()) {
                        Some(present) if subject.basis == Basis::Own && !present.by_participant => {
                            return known
                                .change(attempt, |attempt, consents| consents.confirm_grant(attempt, named.reveal()));
                        }
                        Some(_) => {
                            // Whom the participant names is told to those only who may see it anyway.
                            receipt.granted_before =
                                subject.basis == Basis::Own || is_granted(&known.row, subject.facility_id());
                            return Ok(());
                        }
                        None => {}
                    }
                    let settings = subject.rows.settings();
                    let review = counted
                        .as_ref()
                        .and_then(|counted| counted.enter(attempt, caller, settings, known, &request.evidence));
                    let by_beneficiary = matches!(review, Some((ReviewKind::OwnGrant, _)));
                    let entered = Grant {
                        facility: named.reveal().into(),
                        entered_by: subject.facility_id().into(),
                        entered_by_user: subject.user_id().into(),
                        by_beneficiary,
                        evidence: request.evidence.clone(),
                        review_id: review.map(|(_, id)| id).unwrap_or_default(),
                        ..Grant::default()
                    };
                    grant(attempt, known, &named, entered)
                })?;
                Ok((verdict, receipt))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }

    /// Takes a grant back. Restrictive: waits for the backup.
    pub async fn revoke(&self, caller: &Caller, request: v1::RevokeRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        let named = FacilityId::parse(&request.facility).map_err(|e| GatewayError::invalid("facility", e))?;
        bounded("evidence", &request.evidence)?;
        let by = caller.asker().facility;
        let done = self
            .transact(caller, Action::Revoke, Some(&asked), |attempt| {
                attempt.entry.object = named.reveal().into();
                attempt.entry_facilities.push(named.reveal().into());
                let registered = load_facility(attempt, named.reveal())?.is_some();
                let act = Act::Revoke { named: named.reveal(), registered, evidence: &request.evidence };
                let mut receipt = ReceiptRow::default();
                let (verdict, _) = decide_on(attempt, caller, &number, act, |attempt, subject| {
                    let known = subject.known()?;
                    // Revoking what is not granted is no error: the participant's will is the same. It is journalled, and
                    // writes no row: else anybody with some evidence could make every read and write of this
                    // participant decide anew, again and again.
                    receipt.nothing_to_end = !is_granted(&known.row, named.reveal());
                    if receipt.nothing_to_end {
                        return Ok(());
                    }
                    known.change(attempt, |attempt, consents| {
                        consents.end_grants(attempt, &End { by: &by, evidence: &request.evidence }, |now| {
                            now == named.reveal()
                        })
                    })?;
                    let key = grant_index_key(attempt, &named, &known.pseudonym);
                    attempt.command.delete(&key);
                    Ok(())
                })?;
                Ok((verdict, receipt))
            })
            .await?;
        Ok(self.receipt(&done, &asked, true).await)
    }

    /// Ends a participant's taking part. Restrictive: waits for the backup.
    pub async fn withdraw(&self, caller: &Caller, request: v1::WithdrawRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let number = number(&request.participant)?;
        bounded("evidence", &request.evidence)?;
        let by = caller.asker().facility;
        let done = self
            .transact(caller, Action::Withdraw, Some(&asked), |attempt| {
                let act = Act::Withdraw { evidence: &request.evidence };
                decide_on(attempt, caller, &number, act, |attempt, subject| {
                    subject.known()?.change(attempt, |attempt, consents| {
                        consents.end_consent(attempt, &End { by: &by, evidence: &request.evidence })
                    })
                })
            })
            .await?;
        Ok(self.receipt(&done, &asked, true).await)
    }

    /// Shows a participant's consent and a page of the grants, now or as of a time.
    pub async fn show_consent(&self, caller: &Caller, request: v1::ShowRequest) -> Result<v1::ShowReply, GatewayError> {
        let number = number(&request.participant)?;
        let page = consent_history::Page::parse(&request.after, page(request.limit))?;
        let done = self
            .transact(caller, Action::ShowConsent, None, |attempt| {
                let as_of_ms = if request.as_of_ms == 0 { consent_history::NOW_MS } else { request.as_of_ms };
                decide_on(attempt, caller, &number, Act::ShowConsent, |attempt, subject| {
                    let known = subject.known()?;
                    let shown = consent_history::as_of(attempt, known, as_of_ms, &page)?;
                    let Some(mut reply) = shown else { return Ok(None) };
                    if page.is_first() {
                        reply.links = links_shown(attempt, known, subject)?;
                        reply.local_ids = reply.links.iter().map(|link| local_id(link, subject)).collect();
                    }
                    if known.row.number != number.reveal() {
                        reply.alias_of = known.row.number.clone();
                    }
                    Ok(Some(reply))
                })
            })
            .await?;
        let Done { value, committed, .. } = done;
        let journal_position = committed.journal_first;
        let shown = value.ok_or(GatewayError::Unknown)?;
        let reply = shown.ok_or(GatewayError::NotFound { what: "a consent at that time" })?;
        Ok(v1::ShowReply { journal_position, ..reply })
    }
}

/// Whom a permitted consent command is about, and by whom.
pub(super) struct Subject {
    pub rows: CallerRows,
    pub known: Option<Known>,
    pub basis: Basis,
}

impl Subject {
    /// The participant: whatever but enrolment is permitted, is permitted for one who is known.
    pub fn known(&self) -> Result<&Known, GatewayError> {
        self.known.as_ref().ok_or(GatewayError::Damaged { what: "participant" })
    }

    /// The acting user's facility; empty for the participant's own acts.
    pub fn facility_id(&self) -> &str {
        self.rows.facility().map_or("", |facility| &facility.id)
    }

    /// The acting user; empty for the participant's own acts.
    fn user_id(&self) -> &str {
        self.rows.user().map_or("", |user| &user.id)
    }
}

impl Known {
    /// Changes their consents: the row, and what of the history changes beside it.
    fn change(
        &self,
        attempt: &mut Attempt<'_>,
        change: impl FnOnce(&mut Attempt<'_>, &mut Consents<'_>) -> Result<(), GatewayError>,
    ) -> Result<(), GatewayError> {
        let mut row = (*self.row).clone();
        change(attempt, &mut Consents::of(attempt, &self.pseudonym, &mut row))?;
        attempt.put(&RowKey::participant(&self.pseudonym), self.revision, &row);
        Ok(())
    }
}

/// Decides on a participant; on permission `write` drafts the rows.
pub(super) fn decide_on<T>(
    attempt: &mut Attempt<'_>,
    caller: &Caller,
    number: &ParticipantNumber,
    act: Act<'_>,
    write: impl FnOnce(&mut Attempt<'_>, &Subject) -> Result<T, GatewayError>,
) -> Result<(Verdict<T>, ReceiptRow), GatewayError> {
    let rows = CallerRows::load(attempt, caller)?;
    let known = attempt.participant(number)?;
    let decision = decide(&rows.facts(attempt.now_ms, act, known.as_ref().map(|known| &*known.row), None));
    let verdict = Verdict::of(decision, |basis| write(attempt, &Subject { rows, known, basis }))?;
    Ok((verdict, ReceiptRow::default()))
}

/// Takes part again. Auditors look at it: the facility knows the participant from then on.
fn enrol_again(attempt: &mut Attempt<'_>, caller: &Caller, known: &Known, consent: ParticipationConsent) {
    let mut row = (*known.row).clone();
    let mut review_id = Bytes::new();
    if is_reviewed_enrolment(Some(&row)) {
        let review = ReviewRow {
            kind: ReviewKind::ReEnrolment.number(),
            pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
            number: row.number.clone(),
            facility: consent.entered_by.clone(),
            actor: Some(caller.journalled()),
            reason: consent.evidence.clone(),
            ..ReviewRow::default()
        };
        review_id = reviews::queue(attempt, review);
    }
    let consent = ParticipationConsent { review_id, ..consent };
    Consents::of(attempt, &known.pseudonym, &mut row).enter_consent(attempt, consent);
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
}

fn enrol_new(
    attempt: &mut Attempt<'_>,
    number: &ParticipantNumber,
    consent: ParticipationConsent,
) -> Result<(), GatewayError> {
    let pseudonym = Pseudonym(random::id());
    attempt.entry.pseudonym = Bytes::copy_from_slice(&pseudonym.0);
    let number_key = attempt.number_key(number);
    let number_row = NumberRow { pseudonym: Bytes::copy_from_slice(&pseudonym.0), ..NumberRow::default() };
    attempt.put(&number_key, Revision::ABSENT, &number_row);
    let mut row =
        Participant { number: number.reveal().into(), key_version: KEY_VERSION_FIRST, ..Participant::default() };
    Consents::of(attempt, &pseudonym, &mut row).enter_consent(attempt, consent);
    attempt.put(&RowKey::participant(&pseudonym), Revision::ABSENT, &row);
    attempt.put_data_key(&pseudonym, KEY_VERSION_FIRST, &random::key())
}

fn grant(attempt: &mut Attempt<'_>, known: &Known, named: &FacilityId, entered: Grant) -> Result<(), GatewayError> {
    known.change(attempt, |attempt, consents| consents.enter_grant(attempt, entered))?;
    let key = grant_index_key(attempt, named, &known.pseudonym);
    let index = attempt.load::<GrantIndexRow>(&key)?;
    let mark = GrantIndexRow { number: known.row.number.clone(), granted_ms: attempt.now_ms };
    attempt.put(&key, index.revision, &mark);
    Ok(())
}

pub(super) fn grant_index_key(attempt: &Attempt<'_>, facility: &FacilityId, pseudonym: &Pseudonym) -> RowKey {
    RowKey::grant_index(&attempt.hash(Domain::GrantIndex, &[facility.reveal()]), pseudonym)
}

/// A facility sees its own ids, the participant all of them.
fn links_shown(attempt: &mut Attempt<'_>, known: &Known, subject: &Subject) -> Result<Vec<v1::Link>, GatewayError> {
    match subject.rows.facility().map(|facility| facility.id.clone()) {
        Some(facility) => links_of(attempt, known, Some(&facility)),
        None if subject.basis == Basis::Own => {
            let mut links = links_of(attempt, known, None)?;
            // As in the list of accesses: the facility always, the person only if a setting says so.
            if !subject.rows.settings().accesses_show_person {
                links.iter_mut().for_each(without_people);
            }
            Ok(links)
        }
        None => Ok(Vec::new()),
    }
}

fn without_people(link: &mut v1::Link) {
    link.linked_by_user.clear();
    link.former.iter_mut().for_each(|former| former.relinked_by_user.clear());
}

fn local_id(link: &v1::Link, subject: &Subject) -> String {
    match subject.rows.facility() {
        Some(_) => link.local_id.clone(),
        None => format!("{}/{}", link.facility, link.local_id),
    }
}

/// A free text within its bound: a length, and no characters that nobody sees. What is given says something.
pub fn bounded(field: &'static str, text: &str) -> Result<(), GatewayError> {
    if text.chars().any(char::is_control) {
        return Err(GatewayError::invalid(field, "contains a control character"));
    }
    if text.chars().any(is_unseen) {
        return Err(GatewayError::invalid(field, format!("contains {UNSEEN}")));
    }
    if !text.is_empty() && is_blank(text) {
        return Err(GatewayError::invalid(field, "is blank"));
    }
    match text.len() {
        length if length > TEXT_BYTES_MAX => {
            Err(GatewayError::invalid(field, format!("has {length} bytes, the limit is {TEXT_BYTES_MAX}")))
        }
        _ => Ok(()),
    }
}

/// What a caller is told of a denial; none: the uniform refusal.
pub fn told(reason: Denial) -> Option<&'static str> {
    (!reason.is_uniform()).then(|| reason.as_told().word())
}
