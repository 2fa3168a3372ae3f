//! Participants' consents: enrolling, linking, granting, revoking, withdrawing, and showing them.

use std::fmt;
use std::future::IntoFuture;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{ActingClient, Person, consents};
use crate::date::Date;
use crate::error::{ConsentError, Family, ListError, WriteFamily};
use crate::fault::{Failure, Invalid};
use crate::id::{ParticipantNumber, RequestId};
use crate::limit;
use crate::receipt::Receipt;

/// A signed consent to take part.
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// The day it was signed: only information dated on or after it is shared.
    pub signed_on: Date,
    /// Who signed, if not the participant; else empty.
    pub proxy: String,
    /// The proxy's relation to the participant; empty without one.
    pub proxy_relation: String,
    /// Reference to the evidence: where the paper lies, say.
    pub evidence: String,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent").field("signed_on", &self.signed_on).finish_non_exhaustive()
    }
}

impl Consent {
    /// Signed by the participant on a day.
    pub fn signed_on(date: Date) -> Self {
        Self { signed_on: date, proxy: String::new(), proxy_relation: String::new(), evidence: String::new() }
    }

    /// Signed by someone else for them, in a relation to them.
    #[must_use]
    pub fn by_proxy(mut self, proxy: impl Into<String>, relation: impl Into<String>) -> Self {
        self.proxy = proxy.into();
        self.proxy_relation = relation.into();
        self
    }

    /// With a reference to the evidence.
    #[must_use]
    pub fn evidence(mut self, reference: impl Into<String>) -> Self {
        self.evidence = reference.into();
        self
    }

    fn to_wire(&self) -> Result<v1::SignedConsent, Invalid> {
        limit::text("proxy", &self.proxy)?;
        limit::text("proxy_relation", &self.proxy_relation)?;
        limit::text("evidence", &self.evidence)?;
        Ok(v1::SignedConsent {
            signed_day: self.signed_on.days(),
            proxy: self.proxy.clone(),
            proxy_relation: self.proxy_relation.clone(),
            evidence: self.evidence.clone(),
            ..v1::SignedConsent::default()
        })
    }

    fn from_wire(wire: v1::SignedConsent) -> Self {
        let v1::SignedConsent { signed_day, proxy, proxy_relation, evidence, .. } = wire;
        Self { signed_on: Date::from_days(signed_day), proxy, proxy_relation, evidence }
    }
}

/// What a participant has consented to.
#[derive(Clone, PartialEq, Eq)]
pub struct Consents {
    /// The consent to take part.
    pub consent: Consent,
    /// When it was entered, in milliseconds since 1970-01-01 UTC.
    pub entered_ms: u64,
    /// The facility that entered it.
    pub entered_by: String,
    /// When the participant withdrew, if they did.
    pub withdrawn_ms: Option<u64>,
    /// The facility that entered the withdrawal; empty for the participant.
    pub withdrawn_by: String,
    /// Reference to the withdrawal's evidence.
    pub withdrawal_evidence: String,
    /// The facilities named, also those revoked since, oldest first; those named under a duplicate enrolment at the end.
    pub grants: Vec<Grant>,
    /// The facilities' own ids of the participant that the actor may see.
    pub local_ids: Vec<String>,
    /// The same ids with their history.
    pub links: Vec<Link>,
    /// The number that stays, if it was asked under one that became its alias.
    pub alias_of: Option<ParticipantNumber>,
    /// Position of the journal entry of this look.
    pub journal_position: u64,
}

/// A facility's own id of a participant.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// The facility.
    pub facility: String,
    /// Its own id.
    pub local_id: String,
    /// Since when it names this participant, in milliseconds since 1970-01-01 UTC.
    pub linked_ms: u64,
    /// The user who linked it.
    pub linked_by: String,
    /// That it named others before, oldest first; not whom.
    pub former: Vec<FormerLink>,
}

/// That a facility's own id named another participant before.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
pub struct FormerLink {
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub linked_ms: u64,
    /// Until when.
    pub relinked_ms: u64,
    /// The user who linked it anew.
    pub relinked_by: String,
    /// Why.
    pub reason: String,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("linked_ms", &self.linked_ms).finish_non_exhaustive()
    }
}

impl fmt::Debug for FormerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormerLink").field("relinked_ms", &self.relinked_ms).finish_non_exhaustive()
    }
}

impl Link {
    fn from_wire(wire: v1::Link) -> Self {
        let former = |event: v1::FormerLink| FormerLink {
            linked_ms: event.linked_ms,
            relinked_ms: event.relinked_ms,
            relinked_by: event.relinked_by_user,
            reason: event.reason,
        };
        Self {
            facility: wire.facility,
            local_id: wire.local_id,
            linked_ms: wire.linked_ms,
            linked_by: wire.linked_by_user,
            former: wire.former.into_iter().map(former).collect(),
        }
    }
}

impl fmt::Debug for Consents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consents")
            .field("withdrawn_ms", &self.withdrawn_ms)
            .field("grants", &self.grants.len())
            .finish_non_exhaustive()
    }
}

/// A facility that the participant named.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The facility.
    pub facility: String,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub granted_ms: u64,
    /// When it was revoked, if it was.
    pub revoked_ms: Option<u64>,
    /// Who entered it.
    pub entered_by: String,
    /// Whether the facility itself entered it.
    pub by_beneficiary: bool,
    /// Reference to the evidence.
    pub evidence: String,
    /// The facility that entered the revocation; empty for the participant. A withdrawal ends every grant.
    pub revoked_by: String,
    /// Reference to the revocation's evidence.
    pub revocation_evidence: String,
    /// When the participant confirmed what a facility had entered, if they did.
    pub confirmed_ms: Option<u64>,
    /// The number under which it was made, if that became an alias since: it ended then at the latest.
    pub under: Option<ParticipantNumber>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("granted_ms", &self.granted_ms)
            .field("revoked_ms", &self.revoked_ms)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum What {
    Enrol(Consent),
    Link { local_id: String },
    Relink { local_id: String, reason: String },
    IssueCard { serial: String },
    Grant { facility: String },
    Revoke { facility: String },
    Withdraw,
}

/// A change of consents; `.await` runs it. Revoking and withdrawing wait for the backup, up to the
/// cluster's limit: see [`Receipt::reach`].
#[must_use = "nothing is changed until it is awaited"]
pub struct ConsentChange {
    acting: ActingClient,
    number: ParticipantNumber,
    what: What,
    evidence: String,
    request: RequestId,
}

impl ActingClient {
    fn change(&self, number: &ParticipantNumber, what: What) -> ConsentChange {
        let (acting, request) = (self.clone(), RequestId::new());
        ConsentChange { acting, number: *number, what, evidence: String::new(), request }
    }

    /// Enrols a participant on a signed consent.
    pub fn enrol(&self, number: &ParticipantNumber, consent: Consent) -> ConsentChange {
        self.change(number, What::Enrol(consent))
    }

    /// Links the actor's facility's own patient id (1 to 128 bytes) to a participant.
    pub fn link(&self, number: &ParticipantNumber, local_id: impl Into<String>) -> ConsentChange {
        self.change(number, What::Link { local_id: local_id.into() })
    }

    /// Links the actor's facility's own patient id, which names somebody else by mistake, to a participant.
    /// That it named another stays recorded with the reason.
    pub fn relink(
        &self,
        number: &ParticipantNumber,
        local_id: impl Into<String>,
        reason: impl Into<String>,
    ) -> ConsentChange {
        self.change(number, What::Relink { local_id: local_id.into(), reason: reason.into() })
    }

    /// Issues a card (its serial: 1 to 128 bytes, never given before), or one in the place of another,
    /// which tells nothing from then on. Takes [evidence](ConsentChange::evidence). Also for a
    /// [registrar](crate::Registrar).
    pub fn issue_card(&self, number: &ParticipantNumber, serial: impl Into<String>) -> ConsentChange {
        self.change(number, What::IssueCard { serial: serial.into() })
    }

    /// Enters that the participant named a facility.
    pub fn grant(&self, number: &ParticipantNumber, facility: impl Into<String>) -> ConsentChange {
        self.change(number, What::Grant { facility: facility.into() })
    }

    /// Enters that the participant took back a grant.
    pub fn revoke(&self, number: &ParticipantNumber, facility: impl Into<String>) -> ConsentChange {
        self.change(number, What::Revoke { facility: facility.into() })
    }

    /// Enters that the participant left.
    pub fn withdraw(&self, number: &ParticipantNumber) -> ConsentChange {
        self.change(number, What::Withdraw)
    }

    /// The participant behind the actor's facility's own patient id.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn resolve(&self, local_id: impl Into<String>) -> Result<ParticipantNumber, ListError> {
        let local_id = local_id.into();
        limit::outside_id("local_id", &local_id).map_err(ListError::from_invalid)?;
        let actor = self.actor.to_wire().map_err(ListError::from_invalid)?;
        let ask = v1::ResolveRequest { actor: Some(actor), local_id };
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let reply = consents(channel).resolve(ask).await?.into_inner();
                reply.participant.parse().map_err(|_| Failure::broken("a participant number that is none"))
            }
        };
        self.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
    }

    /// The participant whose present card has a serial.
    ///
    /// # Errors
    /// [`ListError::Denied`] with the reason `card-unknown`, also for a card that was replaced.
    pub async fn resolve_card(&self, serial: impl Into<String>) -> Result<ParticipantNumber, ListError> {
        let serial = serial.into();
        limit::outside_id("serial", &serial).map_err(ListError::from_invalid)?;
        let actor = self.actor.to_wire().map_err(ListError::from_invalid)?;
        let ask = v1::ResolveCardRequest { actor: Some(actor), serial };
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let reply = consents(channel).resolve_card(ask).await?.into_inner();
                reply.participant.parse().map_err(|_| Failure::broken("a participant number that is none"))
            }
        };
        self.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
    }

    /// The actor's facility's own ids of a participant; none if it has none, or nobody has this number.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn local_ids(&self, number: &ParticipantNumber) -> Result<Vec<Link>, ListError> {
        let actor = self.actor.to_wire().map_err(ListError::from_invalid)?;
        let ask = v1::ReverseResolveRequest { actor: Some(actor), participant: number.reveal().to_owned() };
        let attempt = |channel| {
            let ask = ask.clone();
            async move { Ok(consents(channel).reverse_resolve(ask).await?.into_inner().links) }
        };
        let links = self.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))?;
        Ok(links.into_iter().map(Link::from_wire).collect())
    }

    /// What a participant has consented to, as it is now.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn consents(&self, number: &ParticipantNumber) -> Result<Consents, ListError> {
        self.consents_as_of(number, 0).await
    }

    /// What a participant had consented to at a time (milliseconds since 1970-01-01 UTC; 0: now).
    ///
    /// # Errors
    /// [`ListError`]; [`ListError::NotFound`] if no consent had been entered by then.
    pub async fn consents_as_of(&self, number: &ParticipantNumber, as_of_ms: u64) -> Result<Consents, ListError> {
        let (mut all, mut after) = self.consents_page(number, as_of_ms, Bytes::new()).await?;
        while let Some(next) = after {
            let (page, further) = self.consents_page(number, as_of_ms, next).await?;
            all.grants.extend(page.grants);
            after = further;
        }
        Ok(all)
    }

    /// A page of grants with the consent, and where the next one begins, if there is one. Each is journalled.
    async fn consents_page(
        &self,
        number: &ParticipantNumber,
        as_of_ms: u64,
        after: Bytes,
    ) -> Result<(Consents, Option<Bytes>), ListError> {
        let actor = self.actor.to_wire().map_err(ListError::from_invalid)?;
        let (actor, participant) = (Some(actor), number.reveal().to_owned());
        let ask = v1::ShowRequest { actor, participant, as_of_ms, after: after.clone(), limit: 0 };
        let attempt = |channel| {
            let (ask, after) = (ask.clone(), after.clone());
            async move {
                let reply = consents(channel).show(ask).await?.into_inner();
                let next = reply.more.then(|| reply.last.clone());
                // A page that leads nowhere would be asked for again and again.
                if next.as_ref().is_some_and(|next| next.is_empty() || *next == after) {
                    return Err(Failure::broken("a page of grants that does not lead on"));
                }
                Ok((shown(reply)?, next))
            }
        };
        self.shared.call(None, attempt).await.map_err(|failed| ListError::from_fault(failed.fault))
    }
}

fn granted(wire: v1::GrantSummary) -> Result<Grant, Failure> {
    Ok(Grant {
        facility: wire.facility,
        granted_ms: wire.granted_ms,
        revoked_ms: (wire.revoked_ms != 0).then_some(wire.revoked_ms),
        entered_by: wire.entered_by,
        by_beneficiary: wire.by_beneficiary,
        evidence: wire.evidence,
        revoked_by: wire.revoked_by,
        revocation_evidence: wire.revocation_evidence,
        confirmed_ms: (wire.confirmed_ms != 0).then_some(wire.confirmed_ms),
        under: number_if_any(&wire.number)?,
    })
}

fn number_if_any(digits: &str) -> Result<Option<ParticipantNumber>, Failure> {
    match digits.is_empty() {
        true => Ok(None),
        false => Ok(Some(digits.parse().map_err(|_| Failure::broken("a participant number that is none"))?)),
    }
}

fn shown(reply: v1::ShowReply) -> Result<Consents, Failure> {
    Ok(Consents {
        consent: Consent::from_wire(reply.consent.ok_or_else(|| Failure::broken("consents without a consent"))?),
        entered_ms: reply.entered_ms,
        entered_by: reply.entered_by,
        withdrawn_by: reply.withdrawn_by,
        withdrawal_evidence: reply.withdrawal_evidence,
        withdrawn_ms: (reply.withdrawn_ms != 0).then_some(reply.withdrawn_ms),
        grants: reply.grants.into_iter().map(granted).collect::<Result<_, _>>()?,
        local_ids: reply.local_ids,
        links: reply.links.into_iter().map(Link::from_wire).collect(),
        alias_of: number_if_any(&reply.alias_of)?,
        journal_position: reply.journal_position,
    })
}

impl Person {
    /// Names a facility that may see the records from now on.
    pub fn grant(&self, facility: impl Into<String>) -> ConsentChange {
        self.acting.grant(&self.number, facility)
    }

    /// Takes back a grant: once this is acknowledged, no read of that facility that starts later
    /// succeeds.
    pub fn revoke(&self, facility: impl Into<String>) -> ConsentChange {
        self.acting.revoke(&self.number, facility)
    }

    /// Leaves: ends all reads and writes.
    pub fn withdraw(&self) -> ConsentChange {
        self.acting.withdraw(&self.number)
    }

    /// What they have consented to.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn consents(&self) -> Result<Consents, ListError> {
        self.acting.consents(&self.number).await
    }
}

impl ConsentChange {
    /// A reference to the evidence, for grants, revocations, withdrawals and cards (an enrolment has it in
    /// its [`Consent`], a link has none).
    pub fn evidence(mut self, reference: impl Into<String>) -> Self {
        self.evidence = reference.into();
        self
    }

    /// Repeats an earlier request.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    fn check(&self) -> Result<v1::Actor, Invalid> {
        limit::text("evidence", &self.evidence)?;
        match &self.what {
            What::Enrol(consent) => drop(consent.to_wire()?),
            What::Link { local_id } => limit::outside_id("local_id", local_id)?,
            What::Relink { local_id, reason } => {
                limit::outside_id("local_id", local_id)?;
                limit::text("reason", reason)?;
            }
            What::IssueCard { serial } => limit::outside_id("serial", serial)?,
            What::Grant { facility } | What::Revoke { facility } => limit::outside_id("facility", facility)?,
            What::Withdraw => {}
        }
        self.acting.actor.to_wire()
    }

    async fn run(self) -> Result<Receipt, ConsentError> {
        let actor = self.check().map_err(ConsentError::from_invalid)?;
        let (shared, request) = (&self.acting.shared, self.request);
        let attempt = |channel| {
            let (actor, request) = (Some(actor.clone()), request.wire());
            let (participant, evidence) = (self.number.reveal().to_owned(), self.evidence.clone());
            let what = self.what.clone();
            async move {
                let mut client = consents(channel);
                let receipt = match what {
                    What::Enrol(consent) => {
                        let consent = Some(consent.to_wire().map_err(Failure::invalid)?);
                        client.enrol(v1::EnrolRequest { actor, request, participant, consent }).await?
                    }
                    What::Link { local_id } => {
                        client.link(v1::LinkRequest { actor, request, participant, local_id }).await?
                    }
                    What::Relink { local_id, reason } => {
                        client.relink(v1::RelinkRequest { actor, request, participant, local_id, reason }).await?
                    }
                    What::IssueCard { serial } => {
                        client
                            .issue_card(v1::IssueCardRequest { actor, request, participant, serial, evidence })
                            .await?
                    }
                    What::Grant { facility } => {
                        client.grant(v1::GrantRequest { actor, request, participant, facility, evidence }).await?
                    }
                    What::Revoke { facility } => {
                        client.revoke(v1::RevokeRequest { actor, request, participant, facility, evidence }).await?
                    }
                    What::Withdraw => {
                        client.withdraw(v1::WithdrawRequest { actor, request, participant, evidence }).await?
                    }
                };
                shared.receipt(receipt.into_inner())
            }
        };
        shared.call(None, attempt).await.map_err(|failed| ConsentError::from_failed(failed, request))
    }
}

impl IntoFuture for ConsentChange {
    type Output = Result<Receipt, ConsentError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
