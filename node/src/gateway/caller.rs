//! Who calls, and for whom: the certificate's identity and the actor that it states.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::ParticipantNumber;
use kura_cluster::consent::{Act, Actor, Facts, Settings};
use kura_cluster::id::{FacilityId, RecordId, UserId};
use kura_cluster::row::{ActorRow, Application, DisasterRow, Facility, Participant, RowKey, SalvagedFrom, Table, User};
use kura_cluster::seal::Domain;
use kura_cluster::word::{ActorKind, Method, Purpose};
use kura_proto::v1;

use super::attempt::Attempt;
use super::{Gateway, GatewayError};
use crate::certificates::{Identity, Role};

/// An authenticated caller and the actor that it states.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose certificate it is.
    pub identity: Arc<Identity>,
    /// For whom it speaks.
    pub actor: StatedActor,
    /// Present if this is a write of a former timeline that is offered again.
    pub salvaged: Option<Arc<Salvaged>>,
}

/// A write of a former timeline that is offered again, for the actor who made it.
#[derive(Debug, Clone, Default)]
pub struct Salvaged {
    /// Where it was written first, and who offers it.
    pub from: SalvagedFrom,
    /// The client's request id then. It is journalled and by it repetitions are found; too old to be remembered.
    pub request_id: Bytes,
    /// The id of the record that it wrote: receipts of then go on naming it.
    pub record_id: Option<RecordId>,
    /// Whether that record was hidden afterwards: it comes back hidden.
    pub hidden: bool,
    /// Whether it only narrows what others see: then it is decided on the office of whoever offers it, and takes effect
    /// before anything is open.
    pub restricts: bool,
    /// Decided only: nothing is written or journalled.
    pub rehearsed: bool,
}

/// An actor, parsed.
#[derive(Debug, Clone)]
pub enum StatedActor {
    /// A facility's user.
    FacilityUser {
        /// The facility.
        facility: FacilityId,
        /// The user.
        user: UserId,
        /// As stated.
        statement: Statement,
    },
    /// A participant.
    Participant {
        /// Their number.
        number: ParticipantNumber,
        /// As stated.
        statement: Statement,
    },
    /// The holder of the certificate: registrars and others of the network's own offices.
    Office(ActorKind),
}

/// How the actor was authenticated, as the application states it.
#[derive(Debug, Clone)]
pub struct Statement {
    method: Method,
    authenticated_ms: u64,
    credential_sha256: Bytes,
}

impl Caller {
    /// Parses the actor that a call states; offices state none.
    pub fn parse(identity: Arc<Identity>, actor: Option<&v1::Actor>) -> Result<Caller, GatewayError> {
        let actor = match identity.role {
            Role::Application => stated(actor.ok_or_else(|| GatewayError::invalid("actor", "is missing"))?)?,
            Role::Registrar => StatedActor::Office(ActorKind::Registrar),
            Role::Auditor => StatedActor::Office(ActorKind::Auditor),
            Role::Operator => StatedActor::Office(ActorKind::Operator),
            Role::Recovery => StatedActor::Office(ActorKind::Recovery),
            Role::Voter | Role::Backup => StatedActor::Office(ActorKind::Cluster),
        };
        Ok(Caller { identity, actor, salvaged: None })
    }

    /// The actor as the journal keeps it.
    pub fn journalled(&self) -> ActorRow {
        let application = self.identity.name.clone();
        match &self.actor {
            StatedActor::FacilityUser { facility, user, statement } => ActorRow {
                kind: ActorKind::FacilityUser.number(),
                facility: facility.reveal().into(),
                name: user.reveal().into(),
                method: statement.method.number(),
                authenticated_ms: statement.authenticated_ms,
                credential_sha256: statement.credential_sha256.clone(),
                application,
                ..ActorRow::default()
            },
            StatedActor::Participant { number, statement } => ActorRow {
                kind: ActorKind::Participant.number(),
                facility: String::new(),
                name: number.reveal().into(),
                method: statement.method.number(),
                authenticated_ms: statement.authenticated_ms,
                credential_sha256: statement.credential_sha256.clone(),
                application,
                ..ActorRow::default()
            },
            StatedActor::Office(kind) => ActorRow {
                kind: kind.number(),
                name: self.identity.name.clone(),
                method: Method::Certificate.number(),
                credential_sha256: Bytes::copy_from_slice(&self.identity.fingerprint),
                application,
                key_sha256: Bytes::copy_from_slice(&self.identity.key_sha256),
                ..ActorRow::default()
            },
        }
    }

    /// Who asks: of a restriction that is salvaged, whoever asked for it then. Nobody is a second person to themselves.
    pub fn asker(&self) -> ActorRow {
        let then = self.salvaged.as_ref().and_then(|salvaged| salvaged.from.actor.clone());
        then.unwrap_or_else(|| self.journalled())
    }

    /// Whether it is recovery staff who salvage a restriction.
    fn takes_away_again(&self) -> bool {
        matches!(self.actor, StatedActor::Office(ActorKind::Recovery))
            && self.salvaged.as_ref().is_some_and(|salvaged| salvaged.restricts)
    }

    /// The facility of a facility's user.
    pub fn facility(&self) -> Option<&FacilityId> {
        match &self.actor {
            StatedActor::FacilityUser { facility, .. } => Some(facility),
            _ => None,
        }
    }
}

fn stated(actor: &v1::Actor) -> Result<StatedActor, GatewayError> {
    let statement = Statement {
        method: Method::from_number(actor.method).map_err(|e| GatewayError::invalid("actor.method", e))?,
        authenticated_ms: actor.authenticated_ms,
        credential_sha256: sha256_or_empty("actor.credential_sha256", &actor.credential_sha256)?,
    };
    let invalid = |field| move |error: kura_cluster::id::IdError| GatewayError::invalid(field, error);
    match ActorKind::from_number(actor.kind) {
        Ok(ActorKind::FacilityUser) => Ok(StatedActor::FacilityUser {
            facility: FacilityId::parse(&actor.facility).map_err(invalid("actor.facility"))?,
            user: UserId::parse(&actor.name).map_err(invalid("actor.name"))?,
            statement,
        }),
        Ok(ActorKind::Participant) => Ok(StatedActor::Participant {
            number: ParticipantNumber::parse(&actor.name).map_err(invalid("actor.name"))?,
            statement,
        }),
        Ok(_) => Err(GatewayError::invalid("actor.kind", "an application speaks for facility users and participants")),
        Err(error) => Err(GatewayError::invalid("actor.kind", error)),
    }
}

/// A SHA-256, or nothing.
pub fn sha256_or_empty(field: &'static str, bytes: &Bytes) -> Result<Bytes, GatewayError> {
    match bytes.len() {
        0 | 32 => Ok(bytes.clone()),
        other => Err(GatewayError::invalid(field, format!("has {other} bytes, a SHA-256 has 32"))),
    }
}

/// The caller's side of the facts, as opened rows.
pub struct CallerRows {
    actor: Actor,
    person: ActorRow,
    application: Option<Arc<Application>>,
    facility: Option<Arc<Facility>>,
    user: Option<Arc<User>>,
    settings: Settings,
    disaster: Option<Arc<DisasterRow>>,
}

impl CallerRows {
    /// Opens the rows that every decision uses. Their tables are expected whole: they change rarely.
    pub fn load(attempt: &mut Attempt<'_>, caller: &Caller) -> Result<CallerRows, GatewayError> {
        let settings = attempt.settings()?;
        let disaster = attempt.disaster()?;
        for table in [Table::Application, Table::Facility, Table::User] {
            attempt.expect_table(table);
        }
        let application = load_application(attempt, &caller.identity.name)?;
        let mut rows = CallerRows {
            actor: Actor::Operator,
            person: caller.journalled(),
            application,
            facility: None,
            user: None,
            settings,
            disaster,
        };
        match &caller.actor {
            StatedActor::FacilityUser { facility, user, .. } => {
                rows.actor = Actor::FacilityUser;
                rows.facility = load_facility(attempt, facility.reveal())?;
                rows.user = load_user(attempt, facility.reveal(), user.reveal())?;
                attempt.entry_facilities.push(facility.reveal().into());
            }
            StatedActor::Participant { .. } => rows.actor = Actor::Participant,
            StatedActor::Office(ActorKind::Registrar) => rows.actor = Actor::Registrar,
            StatedActor::Office(ActorKind::Auditor) => rows.actor = Actor::Auditor,
            StatedActor::Office(_) if caller.takes_away_again() => {
                rows.actor = Actor::Recovery;
                attempt.entry_facilities.extend(Some(caller.asker().facility).filter(|facility| !facility.is_empty()));
            }
            StatedActor::Office(_) => {
                let takes = "application or registrar or auditor".to_owned();
                return Err(GatewayError::Role { role: caller.identity.role.to_string(), takes });
            }
        }
        Ok(rows)
    }

    /// The actor's facility.
    pub fn facility(&self) -> Option<&Facility> {
        self.facility.as_deref()
    }

    /// The actor, if registered as a user of that facility.
    pub fn user(&self) -> Option<&User> {
        self.user.as_deref()
    }

    /// The network's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The facts of an act.
    pub fn facts<'a>(
        &'a self,
        now_ms: u64,
        act: Act<'a>,
        participant: Option<&'a Participant>,
        purpose: Option<Purpose>,
    ) -> Facts<'a> {
        Facts {
            now_ms,
            actor: self.actor,
            person: &self.person,
            act,
            purpose,
            emergency: None,
            application: self.application.as_deref(),
            facility: self.facility.as_deref(),
            user: self.user.as_deref(),
            participant,
            settings: &self.settings,
            disaster: self.disaster.as_deref(),
        }
    }
}

/// A facility by its id, without expecting it.
pub fn load_facility(attempt: &Attempt<'_>, id: &str) -> Result<Option<Arc<Facility>>, GatewayError> {
    let key = RowKey::hashed(Table::Facility, &attempt.hash(Domain::Facility, &[id]));
    Ok(attempt.look(&key)?.value)
}

fn load_user(attempt: &Attempt<'_>, facility: &str, user: &str) -> Result<Option<Arc<User>>, GatewayError> {
    let key = RowKey::hashed(Table::User, &attempt.hash(Domain::User, &[facility, user]));
    Ok(attempt.look(&key)?.value)
}

fn load_application(attempt: &Attempt<'_>, name: &str) -> Result<Option<Arc<Application>>, GatewayError> {
    let key = RowKey::hashed(Table::Application, &attempt.hash(Domain::Application, &[name]));
    Ok(attempt.look(&key)?.value)
}

impl Gateway {
    /// Parses the purpose of an access; none stated is care (or the participant's own use).
    pub fn purpose(caller: &Caller, number: u32) -> Result<Purpose, GatewayError> {
        match number {
            0 if matches!(caller.actor, StatedActor::Participant { .. }) => Ok(Purpose::Own),
            0 => Ok(Purpose::Care),
            given => Purpose::from_number(given).map_err(|e| GatewayError::invalid("purpose", e)),
        }
    }
}
