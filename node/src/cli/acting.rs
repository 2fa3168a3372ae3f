//! Which cluster a command talks to, and for whom it acts.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use kura_client::{
    ActingClient, Actor, Client, Config, Method, Participant, ParticipantNumber, Person, Registrar, User, now_ms,
};
use sha2::{Digest, Sha256};

use super::exit::{Exit, Failure};
use super::given;
use crate::certificates::{Identity, Role};

/// The client configuration.
#[derive(Debug, Clone, Args)]
pub struct ClientOption {
    /// Client configuration (TOML): endpoints, CA, certificate and key.
    #[arg(long, env = "KURA_CLIENT", value_name = "FILE")]
    pub client: Option<PathBuf>,
}

impl ClientOption {
    /// The configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        let path = self.client.as_deref().ok_or_else(|| {
            Failure::usage("no client configuration given")
                .next("name one with --client FILE or KURA_CLIENT; `kura dev` writes them to DIR/clients")
        })?;
        Ok(Config::load(path)?)
    }

    /// Refuses a certificate that is not of a role, before anybody is asked for anything.
    pub fn must_be(&self, role: Role) -> Result<(), Failure> {
        let own = self.identity()?.role;
        match own == role {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::Denied,
                format!("a certificate of role {own} may not do this: it takes one of role {role}"),
            )
            .next("use the client configuration of such a role (--client); nothing was asked")),
        }
    }

    /// Who the configuration's certificate is for.
    fn identity(&self) -> Result<Identity, Failure> {
        let path = self.config()?.certificate;
        let der = given::certificate("--client: certificate", &path)?;
        let wrong = |error| Failure::usage(format!("--client: certificate: {}: {error}", path.display()));
        Identity::from_der(&der).map_err(wrong)
    }

    /// A connection.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.config()?).await?)
    }
}

/// A facility's user as `FACILITY/USER`. A user id may contain a slash, a facility id may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacilityUser {
    facility: String,
    user: String,
}

impl FacilityUser {
    /// The facility.
    pub fn facility(&self) -> &str {
        &self.facility
    }
}

impl FromStr for FacilityUser {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((facility, user)) if !facility.is_empty() && !user.is_empty() => {
                Ok(Self { facility: facility.to_owned(), user: user.to_owned() })
            }
            _ => Err("write FACILITY/USER"),
        }
    }
}

/// For whom a command acts. One of the three ways must be chosen.
#[derive(Debug, Clone, Args)]
pub struct ActingOptions {
    /// Where the cluster is.
    #[command(flatten)]
    pub connection: ClientOption,
    /// Act for a user of a facility.
    #[arg(long = "as", value_name = "FACILITY/USER", group = "who")]
    pub user: Option<FacilityUser>,
    /// Act for the participant named.
    #[arg(long, group = "who")]
    pub as_participant: bool,
    /// Act as a registrar (with a registrar's client configuration).
    #[arg(long, value_name = "NAME", group = "who")]
    pub as_registrar: Option<String>,
    /// How the user or participant was authenticated: card, two-factor, password or certificate.
    /// It is journalled as stated.
    #[arg(long, default_value = "password")]
    pub method: Method,
    /// The certificate (PEM or DER) with which they authenticated; its SHA-256 is journalled.
    #[arg(long, value_name = "FILE")]
    pub credential: Option<PathBuf>,
}

impl ActingOptions {
    /// Connects and acts. `participant` is whom `--as-participant` means.
    pub async fn act(&self, participant: Option<&ParticipantNumber>) -> Result<ActingClient, Failure> {
        let actor = self.actor(participant)?;
        Ok(self.connection.connect().await?.act(actor))
    }

    /// Connects and acts for the participant; none if another actor was chosen.
    pub async fn person(&self, number: &ParticipantNumber) -> Result<Option<Person>, Failure> {
        if self.user.is_some() || self.as_registrar.is_some() {
            return Ok(None);
        }
        if !self.as_participant {
            return Err(nobody());
        }
        let mut participant = Participant::numbered(*number).authenticated(self.method, now_ms());
        if let Some(path) = &self.credential {
            participant = participant.credential(fingerprint(path)?);
        }
        Ok(Some(self.connection.connect().await?.act(participant)))
    }

    /// The cluster goes by the certificate alone: a registrar who is named has to be its holder.
    pub fn check_registrar(&self) -> Result<(), Failure> {
        let Some(name) = &self.as_registrar else { return Ok(()) };
        let identity = self.connection.identity()?;
        if (identity.role, &identity.name) == (Role::Registrar, name) {
            return Ok(());
        }
        let why = format!("--as-registrar {name}: this certificate is of {} {}", identity.role, identity.name);
        Err(Failure::usage(why)
            .next("name the registrar in whose client configuration this is (--client), or leave the option out"))
    }

    fn actor(&self, participant: Option<&ParticipantNumber>) -> Result<Actor, Failure> {
        let now = now_ms();
        if let Some(name) = &self.as_registrar {
            self.check_registrar()?;
            return Ok(Registrar::named(name).into());
        }
        let mut actor: Actor = match (&self.user, self.as_participant, participant) {
            (Some(FacilityUser { facility, user }), ..) => User::at(facility, user).authenticated(self.method, now),
            (None, true, Some(number)) => Participant::numbered(*number).authenticated(self.method, now).into(),
            (None, true, None) => return Err(Failure::usage("--as-participant has no participant here")),
            (None, false, _) => {
                return Err(nobody());
            }
        };
        if let Some(path) = &self.credential {
            actor = actor.credential(fingerprint(path)?);
        }
        Ok(actor)
    }
}

/// What is done in somebody's name is journalled as theirs: it is never guessed whose.
fn nobody() -> Failure {
    Failure::usage("for whom? Nothing is done without an actor").next("add --as FACILITY/USER or --as-participant")
}

/// SHA-256 of the DER of the certificate that `--credential` names.
pub(super) fn fingerprint(path: &Path) -> Result<[u8; 32], Failure> {
    Ok(Sha256::digest(given::certificate("--credential", path)?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facility_user_is_split_at_the_first_slash() {
        let user: FacilityUser = "F0012/ward/7".parse().unwrap();
        assert_eq!((user.facility.as_str(), user.user.as_str()), ("F0012", "ward/7"));
        for wrong in ["", "F0012", "F0012/", "/u"] {
            assert!(wrong.parse::<FacilityUser>().is_err(), "{wrong:?}");
        }
    }
}
