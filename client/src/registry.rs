//! The registry of facilities, users and applications, the settings, and acts that take two, for registrars.

mod act;
mod setting;

pub use act::{Act, Alias, Difference, Proposal};
pub use setting::{Disaster, Settings};

use std::sync::Arc;

use bytes::Bytes;
use kura_proto::v1;
use serde::Serialize;

use crate::client::{Client, Shared, consents, registry};
use crate::error::{Family, RegistryError, WriteFamily};
use crate::fault::{Failure, Invalid};
use crate::id::{ActId, ParticipantNumber, RequestId};
use crate::limit;
use crate::receipt::Receipt;
use crate::word::{AccessLine, FacilityKind, Profession, Status};

/// A facility.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Facility {
    /// Its id in the network, 1 to 128 bytes.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What kind of facility it is.
    pub kind: FacilityKind,
    /// Whether it takes part.
    pub status: Status,
    /// The line over which it reaches the network.
    pub access_line: AccessLine,
    /// Whether its physicians may open records in an emergency.
    pub emergency: bool,
    /// Its institution code (医療機関コード), ten digits, or empty.
    pub institution_code: String,
}

impl Facility {
    /// An active facility on the IP-VPN, not flagged for emergencies.
    pub fn new(id: impl Into<String>, name: impl Into<String>, kind: FacilityKind) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            kind,
            status: Status::Active,
            access_line: AccessLine::IpVpn,
            emergency: false,
            institution_code: String::new(),
        }
    }
}

/// A user of one facility.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Their facility.
    pub facility: String,
    /// Their id in it, 1 to 128 bytes.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Their profession.
    pub profession: Profession,
    /// Whether they take part.
    pub status: Status,
    /// SHA-256 of their credential, if one is registered.
    pub credential_sha256: Option<[u8; 32]>,
    /// Whether they may list the accesses of their facility's users.
    pub lists_accesses: bool,
}

impl User {
    /// An active user without a registered credential.
    pub fn new(
        facility: impl Into<String>,
        id: impl Into<String>,
        name: impl Into<String>,
        profession: Profession,
    ) -> Self {
        let (facility, id, name) = (facility.into(), id.into(), name.into());
        Self { facility, id, name, profession, status: Status::Active, credential_sha256: None, lists_accesses: false }
    }
}

/// An application: a server whose certificate names it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Application {
    /// Its name, as its certificate has it.
    pub name: String,
    /// The one line over which it reaches the network.
    pub access_line: AccessLine,
    /// The facilities whose users it may state.
    pub facilities: Vec<String>,
    /// Whether it takes part.
    pub status: Status,
    /// Whether it may state participants.
    pub participants: bool,
}

impl Application {
    /// An active application on the IP-VPN for these facilities, not for participants.
    pub fn new<I: IntoIterator<Item = T>, T: Into<String>>(name: impl Into<String>, facilities: I) -> Self {
        Self {
            name: name.into(),
            access_line: AccessLine::IpVpn,
            facilities: facilities.into_iter().map(Into::into).collect(),
            status: Status::Active,
            participants: false,
        }
    }
}

macro_rules! silent_debug {
    ($($name:ident),*) => { $(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("status", &self.status).finish_non_exhaustive()
            }
        }
    )* };
}
silent_debug!(Facility, User, Application);

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what takes two registrars is only proposed"]
pub struct Registered {
    /// The receipt, of the registration or of the proposal.
    pub receipt: Receipt,
    /// The act under which it was proposed, if it takes a second registrar; else it is done.
    pub proposed: Option<ActId>,
    /// What to look at again (a check digit that does not fit, say). Nothing was refused for it.
    pub warnings: Vec<String>,
}

impl Registered {
    /// The receipt of a registration that is done.
    ///
    /// # Errors
    /// The act, if it waits for a second registrar.
    pub fn done(self) -> Result<Receipt, ActId> {
        self.proposed.map_or(Ok(self.receipt), Err)
    }

    fn from_wire(shared: &Shared, reply: v1::RegisterReply) -> Result<Self, Failure> {
        let receipt =
            shared.receipt(reply.receipt.ok_or_else(|| Failure::broken("a registration without a receipt"))?)?;
        let proposed = match reply.act_id.is_empty() {
            true => None,
            false => Some(ActId::from_wire(&reply.act_id).ok_or_else(|| Failure::broken("a malformed act id"))?),
        };
        Ok(Self { receipt, proposed, warnings: reply.warnings })
    }
}

macro_rules! register {
    ($($(#[$doc:meta])* $run:ident: $call:ident, $request:ident { $field:ident: $type:ty };)+) => { $(
        $(#[$doc])*
        async fn $run(
            &self,
            row: &$type,
            before: Option<&$type>,
            reason: &str,
        ) -> Result<Registered, RegistryError> {
            limit::text("reason", reason).map_err(RegistryError::from_invalid)?;
            let wire = row.to_wire().map_err(RegistryError::from_invalid)?;
            let before = before.map(|before| before.to_wire()).transpose().map_err(RegistryError::from_invalid)?;
            let (shared, id) = (&self.shared, RequestId::new());
            let attempt = |channel| {
                let ask = v1::$request {
                    request: id.wire(),
                    $field: Some(wire.clone()),
                    before: before.clone(),
                    reason: reason.to_owned(),
                };
                async move { Registered::from_wire(shared, registry(channel).$call(ask).await?.into_inner()) }
            };
            shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
        }
    )+ };
}

/// The registry. Made by [`Client::registry`] of a client with a registrar's certificate.
///
/// What widens access for many takes two registrars: it is proposed ([`Registered::proposed`]), and done
/// when another registrar [confirms](Registry::confirm) it. Nothing that is registered is changed unless
/// the caller says what it knew it to be.
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
    reason: String,
}

impl Registry {
    pub(crate) fn new(client: &Client) -> Self {
        Self { shared: Arc::clone(&client.shared), reason: String::new() }
    }

    /// The same registry, for changes with a reason: the journal has it, and the second registrar sees it.
    #[must_use]
    pub fn because(&self, reason: impl Into<String>) -> Self {
        Self { shared: Arc::clone(&self.shared), reason: reason.into() }
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    register! {
        run_facility: put_facility, PutFacilityRequest { facility: Facility };
        run_user: put_user, PutUserRequest { user: User };
        run_application: put_application, PutApplicationRequest { application: Application };
        run_settings: put_settings, PutSettingsRequest { settings: Settings };
    }

    /// Registers a facility. One that is registered exactly so already is no error.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if it is registered otherwise.
    pub async fn add_facility(&self, facility: &Facility) -> Result<Registered, RegistryError> {
        self.run_facility(facility, None, &self.reason).await
    }

    /// Changes a facility from what the caller knows it to be.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if it is something else by now.
    pub async fn change_facility(&self, before: &Facility, after: &Facility) -> Result<Registered, RegistryError> {
        self.run_facility(after, Some(before), &self.reason).await
    }

    /// Registers a user of a facility that is registered.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if they are registered otherwise.
    pub async fn add_user(&self, user: &User) -> Result<Registered, RegistryError> {
        self.run_user(user, None, &self.reason).await
    }

    /// Changes a user from what the caller knows them to be.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if they are something else by now.
    pub async fn change_user(&self, before: &User, after: &User) -> Result<Registered, RegistryError> {
        self.run_user(after, Some(before), &self.reason).await
    }

    /// Proposes an application for facilities that are registered.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if it is registered otherwise, or proposed already.
    pub async fn add_application(&self, application: &Application) -> Result<Registered, RegistryError> {
        self.run_application(application, None, &self.reason).await
    }

    /// Changes an application from what the caller knows it to be.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] if it is something else by now.
    pub async fn change_application(
        &self,
        before: &Application,
        after: &Application,
    ) -> Result<Registered, RegistryError> {
        self.run_application(after, Some(before), &self.reason).await
    }

    /// Changes the settings from what the caller knows them to be. What becomes wider in any respect is
    /// proposed.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] names a setting out of its bounds, and the bounds;
    /// [`RegistryError::Conflict`] if they are something else by now.
    pub async fn change_settings(&self, before: &Settings, after: &Settings) -> Result<Registered, RegistryError> {
        self.run_settings(after, Some(before), &self.reason).await
    }

    /// Proposes that a duplicate enrolment becomes an alias of the participant who stays, on evidence that both are
    /// one person: it takes a second registrar. Both numbers then name the one who stays, whose consent and grants
    /// decide; facilities that were named only under the duplicate, or revoked under either number, have to be named
    /// anew. It cannot be undone.
    ///
    /// # Errors
    /// [`RegistryError::Denied`], with the reason `same-participant` if one is the other already.
    pub async fn alias(
        &self,
        stays: &ParticipantNumber,
        duplicate: &ParticipantNumber,
        evidence: &str,
    ) -> Result<Registered, RegistryError> {
        limit::text("evidence", evidence).map_err(RegistryError::from_invalid)?;
        let (shared, id) = (&self.shared, RequestId::new());
        let attempt = |channel| {
            let ask = v1::AliasRequest {
                request: id.wire(),
                participant: stays.reveal().to_owned(),
                duplicate: duplicate.reveal().to_owned(),
                evidence: evidence.to_owned(),
            };
            async move { Registered::from_wire(shared, consents(channel).alias(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| RegistryError::from_failed(failed, id))
    }

    /// All facilities.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn facilities(&self) -> Result<Vec<Facility>, RegistryError> {
        let attempt = |channel| async move {
            let reply = registry(channel).list_facilities(v1::ListRegistryRequest::default()).await?.into_inner();
            reply.facilities.into_iter().map(Facility::from_wire).collect::<Result<Vec<_>, _>>()
        };
        self.shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
    }

    /// The users of a facility.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn users(&self, facility: &str) -> Result<Vec<User>, RegistryError> {
        limit::outside_id("facility", facility).map_err(RegistryError::from_invalid)?;
        let attempt = |channel| async move {
            let ask = v1::ListRegistryRequest { facility: facility.to_owned() };
            let reply = registry(channel).list_users(ask).await?.into_inner();
            reply.users.into_iter().map(User::from_wire).collect::<Result<Vec<_>, _>>()
        };
        self.shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
    }

    /// All applications.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn applications(&self) -> Result<Vec<Application>, RegistryError> {
        let attempt = |channel| async move {
            let reply = registry(channel).list_applications(v1::ListRegistryRequest::default()).await?.into_inner();
            reply.applications.into_iter().map(Application::from_wire).collect::<Result<Vec<_>, _>>()
        };
        self.shared.call(None, attempt).await.map_err(|failed| RegistryError::from_fault(failed.fault))
    }
}

pub(crate) fn unknown(error: crate::word::UnknownWord) -> Failure {
    Failure::broken(error.to_string())
}

impl Facility {
    fn fields(&self) -> Vec<(String, String)> {
        vec![
            ("id".into(), self.id.clone()),
            ("name".into(), self.name.clone()),
            ("kind".into(), self.kind.to_string()),
            ("status".into(), self.status.to_string()),
            ("access_line".into(), self.access_line.to_string()),
            ("emergency".into(), self.emergency.to_string()),
            ("institution_code".into(), self.institution_code.clone()),
        ]
    }

    pub(crate) fn to_wire(&self) -> Result<v1::Facility, Invalid> {
        limit::outside_id("id", &self.id)?;
        limit::text("name", &self.name)?;
        limit::outside_id_or_empty("institution_code", &self.institution_code)?;
        Ok(v1::Facility {
            id: self.id.clone(),
            name: self.name.clone(),
            kind: self.kind.number(),
            status: self.status.number(),
            access_line: self.access_line.number(),
            emergency: self.emergency,
            institution_code: self.institution_code.clone(),
        })
    }

    pub(crate) fn from_wire(wire: v1::Facility) -> Result<Self, Failure> {
        Ok(Self {
            id: wire.id,
            name: wire.name,
            kind: FacilityKind::from_number(wire.kind).map_err(unknown)?,
            status: Status::from_number(wire.status).map_err(unknown)?,
            access_line: AccessLine::from_number(wire.access_line).map_err(unknown)?,
            emergency: wire.emergency,
            institution_code: wire.institution_code,
        })
    }
}

impl User {
    pub(crate) fn to_wire(&self) -> Result<v1::User, Invalid> {
        limit::outside_id("facility", &self.facility)?;
        limit::outside_id("id", &self.id)?;
        limit::text("name", &self.name)?;
        Ok(v1::User {
            id: self.id.clone(),
            facility: self.facility.clone(),
            name: self.name.clone(),
            profession: self.profession.number(),
            status: self.status.number(),
            credential_sha256: self.credential_sha256.map_or_else(Bytes::new, |sum| Bytes::copy_from_slice(&sum)),
            lists_accesses: self.lists_accesses,
        })
    }

    pub(crate) fn from_wire(wire: v1::User) -> Result<Self, Failure> {
        let wrong = |_| Failure::broken("a credential's SHA-256 of a wrong length");
        let credential = wire.credential_sha256;
        Ok(Self {
            facility: wire.facility,
            id: wire.id,
            name: wire.name,
            profession: Profession::from_number(wire.profession).map_err(unknown)?,
            status: Status::from_number(wire.status).map_err(unknown)?,
            credential_sha256: match credential.is_empty() {
                true => None,
                false => Some(credential.as_ref().try_into().map_err(wrong)?),
            },
            lists_accesses: wire.lists_accesses,
        })
    }
}

impl Application {
    fn fields(&self) -> Vec<(String, String)> {
        vec![
            ("name".into(), self.name.clone()),
            ("access_line".into(), self.access_line.to_string()),
            ("facilities".into(), self.facilities.join(", ")),
            ("status".into(), self.status.to_string()),
            ("participants".into(), self.participants.to_string()),
        ]
    }

    pub(crate) fn to_wire(&self) -> Result<v1::Application, Invalid> {
        limit::outside_id("name", &self.name)?;
        self.facilities.iter().try_for_each(|facility| limit::outside_id("facilities", facility))?;
        Ok(v1::Application {
            name: self.name.clone(),
            access_line: self.access_line.number(),
            facilities: self.facilities.clone(),
            status: self.status.number(),
            participants: self.participants,
        })
    }

    pub(crate) fn from_wire(wire: v1::Application) -> Result<Self, Failure> {
        Ok(Self {
            name: wire.name,
            access_line: AccessLine::from_number(wire.access_line).map_err(unknown)?,
            facilities: wire.facilities,
            status: Status::from_number(wire.status).map_err(unknown)?,
            participants: wire.participants,
        })
    }
}
