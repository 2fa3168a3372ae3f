//! Actors: on whose behalf a request is made. The cluster journals them as they are stated here.
//!
//! Invariant: an [`Actor`] always states how and when it was authenticated. Nothing here is printed
//! by `Debug` but the kind.

use std::fmt;

use bytes::Bytes;
use kura_proto::v1;

use crate::client::{ActingClient, Client, Person};
use crate::date::now_ms;
use crate::fault::Invalid;
use crate::id::ParticipantNumber;
use crate::limit;
use crate::word::{ActorKind, Method};

/// A stated actor: who, and how and when authenticated.
#[derive(Clone, PartialEq, Eq)]
pub struct Actor {
    kind: ActorKind,
    facility: String,
    name: String,
    method: Method,
    authenticated_ms: u64,
    credential_sha256: Option<[u8; 32]>,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("kind", &self.kind).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Actor {
    fn new(kind: ActorKind, name: String, method: Method, authenticated_ms: u64) -> Self {
        Self { kind, facility: String::new(), name, method, authenticated_ms, credential_sha256: None }
    }

    /// Adds the SHA-256 of the credential used (of a card's certificate, say).
    #[must_use]
    pub fn credential(mut self, sha256: [u8; 32]) -> Self {
        self.credential_sha256 = Some(sha256);
        self
    }

    /// What kind of actor it is.
    pub fn kind(&self) -> ActorKind {
        self.kind
    }

    pub(crate) fn to_wire(&self) -> Result<v1::Actor, Invalid> {
        if self.kind == ActorKind::FacilityUser {
            limit::outside_id("facility", &self.facility)?;
        }
        limit::outside_id("user", &self.name)?;
        Ok(v1::Actor {
            kind: self.kind.number(),
            facility: self.facility.clone(),
            name: self.name.clone(),
            method: self.method.number(),
            authenticated_ms: self.authenticated_ms,
            credential_sha256: self.credential_sha256.map_or_else(Bytes::new, |sum| Bytes::copy_from_slice(&sum)),
        })
    }
}

/// A facility's user, not authenticated yet.
#[derive(Clone)]
pub struct User {
    facility: String,
    user: String,
}

impl User {
    /// A user of one facility, both as the registry names them (1 to 128 bytes each).
    pub fn at(facility: impl Into<String>, user: impl Into<String>) -> Self {
        Self { facility: facility.into(), user: user.into() }
    }

    /// States how and when (milliseconds since 1970-01-01 UTC) the user was authenticated.
    pub fn authenticated(self, method: Method, at_ms: u64) -> Actor {
        Actor { facility: self.facility, ..Actor::new(ActorKind::FacilityUser, self.user, method, at_ms) }
    }
}

/// A participant, not authenticated yet.
#[derive(Clone)]
pub struct Participant {
    number: ParticipantNumber,
}

impl Participant {
    /// The participant of a number.
    pub fn numbered(number: ParticipantNumber) -> Self {
        Self { number }
    }

    /// States how and when (milliseconds since 1970-01-01 UTC) the participant was authenticated.
    pub fn authenticated(self, method: Method, at_ms: u64) -> ParticipantActor {
        let name = self.number.reveal().to_owned();
        let actor = Actor::new(ActorKind::Participant, name, method, at_ms);
        ParticipantActor { number: self.number, actor }
    }
}

/// A participant as an actor: what [`Client::act`] makes a [`Person`] of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantActor {
    number: ParticipantNumber,
    actor: Actor,
}

impl ParticipantActor {
    /// Adds the SHA-256 of the credential used (of a card's certificate, say).
    #[must_use]
    pub fn credential(self, sha256: [u8; 32]) -> Self {
        Self { actor: self.actor.credential(sha256), ..self }
    }
}

impl From<ParticipantActor> for Actor {
    fn from(participant: ParticipantActor) -> Self {
        participant.actor
    }
}

macro_rules! staff {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            name: String,
        }

        impl $name {
            /// By name (1 to 128 bytes).
            pub fn named(name: impl Into<String>) -> Self {
                Self { name: name.into() }
            }

            /// States how and when (milliseconds since 1970-01-01 UTC) they were authenticated.
            pub fn authenticated(self, method: Method, at_ms: u64) -> Actor {
                Actor::new($kind, self.name, method, at_ms)
            }
        }

        impl From<$name> for Actor {
            /// Authenticated just now, by the certificate of this client.
            fn from(staff: $name) -> Self {
                staff.authenticated(Method::Certificate, now_ms())
            }
        }

        impl Stated for $name {
            type Client = ActingClient;

            fn acting(self, client: &Client) -> ActingClient {
                ActingClient::new(client, self.into())
            }
        }
    };
}

staff!(
    /// A registrar of the network's support centre.
    Registrar, ActorKind::Registrar);
staff!(
    /// An auditor of the network's support centre.
    Auditor, ActorKind::Auditor);
staff!(
    /// An operator of the cluster.
    Operator, ActorKind::Operator);

/// What [`Client::act`] takes: an actor, and which client it makes.
pub trait Stated: sealed::Sealed {
    /// The client that acts for it.
    type Client;

    /// The client that acts for it.
    fn acting(self, client: &Client) -> Self::Client;
}

impl Stated for Actor {
    type Client = ActingClient;

    fn acting(self, client: &Client) -> ActingClient {
        ActingClient::new(client, self)
    }
}

impl Stated for ParticipantActor {
    type Client = Person;

    fn acting(self, client: &Client) -> Person {
        Person::new(ActingClient::new(client, self.actor), self.number)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Actor {}
    impl Sealed for super::ParticipantActor {}
    impl Sealed for super::Registrar {}
    impl Sealed for super::Auditor {}
    impl Sealed for super::Operator {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_checked_before_it_is_sent_and_not_printed() {
        let clerk = User::at("F0012", "u-0192").authenticated(Method::Card, 7).credential([9; 32]);
        let wire = clerk.to_wire().unwrap();
        assert_eq!((wire.kind, wire.facility.as_str(), wire.name.as_str()), (1, "F0012", "u-0192"));
        assert_eq!((wire.method, wire.authenticated_ms, wire.credential_sha256.len()), (1, 7, 32));
        let printed = format!("{clerk:?}");
        assert!(!printed.contains("F0012") && !printed.contains("u-0192"), "{printed}");
        assert_eq!(User::at("", "u").authenticated(Method::Card, 7).to_wire().unwrap_err().field(), Some("facility"));
        assert_eq!(User::at("F", "").authenticated(Method::Card, 7).to_wire().unwrap_err().field(), Some("user"));

        let number = "0043001234567890".parse().unwrap();
        let person = Participant::numbered(number).authenticated(Method::TwoFactor, 7);
        assert!(!format!("{person:?}").contains("0043"));
        assert_eq!(Actor::from(person).to_wire().unwrap().name, "0043001234567890");
    }
}
