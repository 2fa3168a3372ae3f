//! Acts that take two registrars: proposed by one, done when another confirms.

use std::fmt;

use kura_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Application, Disaster, Facility, Registry, Settings, unknown};
use crate::client::registry;
use crate::error::{Family, RegistryError, WriteFamily};
use crate::fault::Failure;
use crate::id::{ActId, ParticipantNumber, RequestId};
use crate::limit;
use crate::pages::{Listing, Page};
use crate::receipt::Receipt;
use crate::word::{ActKind, ActState};

/// An act that takes two registrars.
#[derive(Clone, PartialEq, Eq)]
pub struct Act {
    /// Its id.
    pub id: ActId,
    /// How far it has come.
    pub state: ActState,
    /// Whether it waited too long: it can no longer be confirmed.
    pub expired: bool,
    /// Whether what it would replace has changed since: it can no longer be confirmed.
    pub stale: bool,
    /// What was proposed.
    pub proposal: Proposal,
    /// The registrar who proposed it.
    pub proposed_by: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub proposed_ms: u64,
    /// Why.
    pub reason: String,
    /// From then on it can no longer be confirmed.
    pub expires_ms: u64,
    /// The registrar who confirmed or rejected it; empty if nobody has.
    pub closed_by: String,
    /// When that was.
    pub closed_ms: Option<u64>,
    /// SHA-256 of what was proposed, byte by byte: what a confirmation names.
    pub sha256: [u8; 32],
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Act").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// What was proposed: what is registered (none if nothing is, or if the act is closed or stale), and what shall be.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "before and after say what they are")]
pub enum Proposal {
    /// A facility.
    Facility { before: Option<Facility>, after: Facility },
    /// An application.
    Application { before: Option<Application>, after: Application },
    /// The settings.
    Settings { before: Option<Box<Settings>>, after: Box<Settings> },
    /// A duplicate enrolment becomes an alias.
    Alias(Alias),
    /// A disaster.
    Disaster { before: Option<Disaster>, after: Disaster },
}

/// That two enrolments are of one person.
#[derive(Clone, PartialEq, Eq)]
pub struct Alias {
    /// The number that stays; none once its participant is erased.
    pub stays: Option<ParticipantNumber>,
    /// The number that becomes its alias.
    pub duplicate: Option<ParticipantNumber>,
    /// Reference to the evidence.
    pub evidence: String,
}

impl Alias {
    fn from_wire(participant: &str, duplicate: &str, payload: v1::AliasProposal) -> Result<Self, Failure> {
        let number = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Failure::broken("a malformed participant number")),
        };
        Ok(Self { stays: number(participant)?, duplicate: number(duplicate)?, evidence: payload.evidence })
    }

    fn fields(&self) -> Vec<Field> {
        let told = |number: &Option<ParticipantNumber>| number.map(|n| n.reveal().to_owned()).unwrap_or_default();
        vec![
            ("stays".into(), told(&self.stays)),
            ("duplicate".into(), told(&self.duplicate)),
            ("evidence".into(), self.evidence.clone()),
        ]
    }
}

/// One field that an act changes, in words for people.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The field.
    pub field: String,
    /// As it is; empty if nothing is registered.
    pub before: String,
    /// As it shall be.
    pub after: String,
}

impl Act {
    /// What it is about.
    pub fn kind(&self) -> ActKind {
        match self.proposal {
            Proposal::Facility { .. } => ActKind::Facility,
            Proposal::Application { .. } => ActKind::Application,
            Proposal::Settings { .. } => ActKind::Settings,
            Proposal::Disaster { .. } => ActKind::Disaster,
            Proposal::Alias(_) => ActKind::Alias,
        }
    }

    /// The facility's id, the application's name, the disaster's name, the duplicate number; empty for the settings.
    pub fn object(&self) -> &str {
        match &self.proposal {
            Proposal::Facility { after, .. } => &after.id,
            Proposal::Application { after, .. } => &after.name,
            Proposal::Settings { .. } => "",
            Proposal::Disaster { after, .. } => &after.name,
            Proposal::Alias(alias) => alias.duplicate.as_ref().map_or("", ParticipantNumber::reveal),
        }
    }

    /// The fields that it changes. Of an act that is closed or stale, every field that it would have written.
    pub fn differences(&self) -> Vec<Difference> {
        match &self.proposal {
            Proposal::Facility { before, after } => differ(before.as_ref().map(Facility::fields), after.fields()),
            Proposal::Application { before, after } => differ(before.as_ref().map(Application::fields), after.fields()),
            Proposal::Settings { before, after } => {
                differ(before.as_ref().map(|before| before.fields()), after.fields())
            }
            Proposal::Disaster { before, after } => differ(before.as_ref().map(Disaster::fields), after.fields()),
            Proposal::Alias(alias) => differ(None, alias.fields()),
        }
    }

    pub(crate) fn from_wire(wire: v1::Act) -> Result<Self, Failure> {
        let malformed = || Failure::broken("a malformed act");
        // What is shown is read from the very bytes whose hash is confirmed.
        let payload = &wire.payload[..];
        let before = &wire.before[..];
        let kind = ActKind::from_number(wire.kind).map_err(unknown)?;
        let proposal = match kind {
            ActKind::Facility => Proposal::Facility {
                before: decoded(before)?.map(Facility::from_wire).transpose()?,
                after: Facility::from_wire(decoded(payload)?.ok_or_else(malformed)?)?,
            },
            ActKind::Application => Proposal::Application {
                before: decoded(before)?.map(Application::from_wire).transpose()?,
                after: Application::from_wire(decoded(payload)?.ok_or_else(malformed)?)?,
            },
            ActKind::Settings => Proposal::Settings {
                before: decoded(before)?.map(Settings::from_wire).transpose()?.map(Box::new),
                after: Box::new(Settings::from_wire(decoded(payload)?.ok_or_else(malformed)?)?),
            },
            ActKind::Disaster => Proposal::Disaster {
                before: decoded(before)?.map(Disaster::from_wire).transpose()?,
                after: Disaster::from_wire(decoded(payload)?.ok_or_else(malformed)?)?,
            },
            ActKind::Alias => Proposal::Alias(Alias::from_wire(
                &wire.participant,
                &wire.duplicate,
                decoded(payload)?.ok_or_else(malformed)?,
            )?),
        };
        let name = |actor: Option<v1::Actor>| actor.map(|actor| actor.name).unwrap_or_default();
        Ok(Self {
            id: ActId::from_wire(&wire.id).ok_or_else(malformed)?,
            state: ActState::from_number(wire.state).map_err(unknown)?,
            expired: wire.expired,
            stale: wire.stale,
            sha256: Sha256::digest(payload).into(),
            proposal,
            proposed_by: name(wire.proposed_by),
            proposed_ms: wire.proposed_ms,
            reason: wire.reason,
            expires_ms: wire.expires_ms,
            closed_by: name(wire.closed_by),
            closed_ms: (wire.closed_ms != 0).then_some(wire.closed_ms),
        })
    }
}

fn decoded<T: Message + Default>(bytes: &[u8]) -> Result<Option<T>, Failure> {
    match bytes.is_empty() {
        true => Ok(None),
        false => T::decode(bytes).map(Some).map_err(|_| Failure::broken("a malformed act")),
    }
}

/// A field and its content, in words for people.
pub(super) type Field = (String, String);

fn differ(before: Option<Vec<Field>>, after: Vec<Field>) -> Vec<Difference> {
    let before = before.unwrap_or_default();
    let was = |field: &str| before.iter().find(|(name, _)| name == field).map(|(_, content)| content.clone());
    after
        .into_iter()
        .map(|(field, after)| Difference { before: was(&field).unwrap_or_default(), field, after })
        .filter(|one| one.before != one.after)
        .collect()
}

impl Registry {
    /// The acts that wait for a second registrar, oldest first; with `closed` all acts that ever were.
    pub fn acts(&self, closed: bool) -> Listing<Act, RegistryError> {
        let shared = self.shared.clone();
        Listing::paged(bytes::Bytes::new(), move |after| {
            let shared = shared.clone();
            async move {
                let ask = v1::ListActsRequest { closed, after, ..v1::ListActsRequest::default() };
                let attempt = |channel| {
                    let ask = ask.clone();
                    async move {
                        let reply = registry(channel).list_acts(ask).await?.into_inner();
                        let next = reply.more.then_some(reply.last);
                        let items = reply.acts.into_iter().map(Act::from_wire).collect::<Result<Vec<_>, _>>()?;
                        Ok(Page { items, next })
                    }
                };
                shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
            }
        })
    }

    /// One act, open or closed.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if there is none of this id.
    pub async fn act(&self, id: ActId) -> Result<Act, RegistryError> {
        let ask = v1::ListActsRequest { act_id: id.to_wire(), ..v1::ListActsRequest::default() };
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let acts = registry(channel).list_acts(ask).await?.into_inner().acts;
                Act::from_wire(acts.into_iter().next().ok_or_else(|| Failure::broken("no act"))?)
            }
        };
        self.shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
    }

    /// Confirms an act as it was shown: it is done at once. Takes another registrar than who proposed it.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] with the reason `same-person`, `act-expired`, `act-stale` or `act-closed`.
    pub async fn confirm(&self, act: &Act) -> Result<Receipt, RegistryError> {
        let (shared, id) = (&self.shared, RequestId::new());
        let attempt = |channel| {
            let payload_sha256 = bytes::Bytes::copy_from_slice(&act.sha256);
            let ask = v1::ConfirmActRequest { request: id.wire(), act_id: act.id.to_wire(), payload_sha256 };
            async move { shared.receipt(registry(channel).confirm_act(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
    }

    /// Rejects an act, or takes it back.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] with the reason `act-unknown` or `act-closed`.
    pub async fn reject(&self, act: ActId) -> Result<Receipt, RegistryError> {
        let reason = self.reason();
        limit::text("reason", reason).map_err(RegistryError::from_invalid)?;
        let (shared, id) = (&self.shared, RequestId::new());
        let attempt = |channel| {
            let ask = v1::RejectActRequest { request: id.wire(), act_id: act.to_wire(), reason: reason.to_owned() };
            async move { shared.receipt(registry(channel).reject_act(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
    }
}
