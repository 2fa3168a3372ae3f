//! `kura facility …`, `kura user …`, `kura app …`: the registry, for registrars.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kura_client::registry::{Application, Facility, Registry, User};
use kura_client::{AccessLine, FacilityKind, Profession, Status};

use super::acting::{ClientOption, fingerprint};
use super::exit::{Exit, Failure};
use super::given::{new_facility, text};
use super::output::{Output, short};
use super::receipt;

/// `kura facility …`.
#[derive(Debug, Subcommand)]
pub enum FacilityCommand {
    /// Register a facility. With --emergency it is proposed to a second registrar.
    Add(FacilityArguments),
    /// Change what is said of a facility, and nothing else.
    Change(FacilityChange),
    /// All facilities.
    List(ClientOption),
}

/// Options of `kura facility add`.
#[derive(Debug, Args)]
pub struct FacilityArguments {
    /// Its id in the network: 1 to 128 bytes, without a slash.
    #[arg(value_parser = new_facility)]
    id: String,
    /// Its name.
    #[arg(long, value_parser = text)]
    name: String,
    /// hospital, clinic, dental-clinic, pharmacy, care, home-nursing or community-support.
    #[arg(long)]
    kind: FacilityKind,
    /// active, suspended or left.
    #[arg(long, default_value = "active")]
    status: Status,
    /// ip-vpn or ssl-vpn.
    #[arg(long, default_value = "ip-vpn")]
    access_line: AccessLine,
    /// Its physicians may open records in an emergency.
    #[arg(long)]
    emergency: bool,
    /// Its institution code (医療機関コード), ten digits.
    #[arg(long, default_value = "")]
    institution_code: String,
    #[command(flatten)]
    because: Because,
}

/// Where and why.
#[derive(Debug, Args)]
pub struct Because {
    /// Why: for the journal, and for the second registrar if it takes one.
    #[arg(long, value_parser = text)]
    reason: Option<String>,
    #[command(flatten)]
    client: ClientOption,
}

impl Because {
    /// The registry, for changes with this reason.
    pub async fn registry(self) -> Result<Registry, Failure> {
        Ok(self.client.connect().await?.registry().because(self.reason.unwrap_or_default()))
    }
}

/// Options of `kura facility change`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("changed").required(true).multiple(true)
    .args(["name", "kind", "status", "access_line", "emergency", "institution_code"])))]
pub struct FacilityChange {
    /// Its id in the network.
    #[arg(value_parser = text)]
    id: String,
    /// Its name.
    #[arg(long, value_parser = text)]
    name: Option<String>,
    /// hospital, clinic, dental-clinic, pharmacy, care, home-nursing or community-support.
    #[arg(long)]
    kind: Option<FacilityKind>,
    /// active, suspended or left.
    #[arg(long)]
    status: Option<Status>,
    /// ip-vpn or ssl-vpn.
    #[arg(long)]
    access_line: Option<AccessLine>,
    /// Whether its physicians may open records in an emergency; setting it takes two registrars.
    #[arg(long, value_name = "true|false")]
    emergency: Option<bool>,
    /// Its institution code (医療機関コード), ten digits, or nothing.
    #[arg(long)]
    institution_code: Option<String>,
    #[command(flatten)]
    because: Because,
}

/// `kura user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Register a user of a facility.
    Add(UserArguments),
    /// Change what is said of a user, and nothing else.
    Change(UserChange),
    /// The users of a facility.
    List {
        /// The facility.
        #[arg(value_parser = text)]
        facility: String,
        #[command(flatten)]
        client: ClientOption,
    },
}

/// Options of `kura user add`.
#[derive(Debug, Args)]
pub struct UserArguments {
    /// The facility.
    #[arg(value_parser = text)]
    facility: String,
    /// The user's id in it.
    #[arg(value_parser = text)]
    id: String,
    /// Their name.
    #[arg(long, value_parser = text)]
    name: String,
    /// physician, dentist, pharmacist, nurse, technician, therapist, care-worker or clerk.
    #[arg(long)]
    profession: Profession,
    /// active, suspended or left.
    #[arg(long, default_value = "active")]
    status: Status,
    /// The certificate (PEM or DER) of the card with which they must act.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// They may list what the users of their facility accessed.
    #[arg(long)]
    lists_accesses: bool,
    #[command(flatten)]
    because: Because,
}

/// Options of `kura user change`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("changed").required(true).multiple(true)
    .args(["name", "profession", "status", "credential", "no_credential", "lists_accesses"])))]
pub struct UserChange {
    /// The facility.
    #[arg(value_parser = text)]
    facility: String,
    /// The user's id in it.
    #[arg(value_parser = text)]
    id: String,
    /// Their name.
    #[arg(long, value_parser = text)]
    name: Option<String>,
    /// physician, dentist, pharmacist, nurse, technician, therapist, care-worker or clerk.
    #[arg(long)]
    profession: Option<Profession>,
    /// active, suspended or left.
    #[arg(long)]
    status: Option<Status>,
    /// The certificate (PEM or DER) of the card with which they must act.
    #[arg(long, value_name = "FILE", group = "card")]
    credential: Option<PathBuf>,
    /// No card is registered for them any more.
    #[arg(long, group = "card")]
    no_credential: bool,
    /// Whether they may list what the users of their facility accessed.
    #[arg(long, value_name = "true|false")]
    lists_accesses: Option<bool>,
    #[command(flatten)]
    because: Because,
}

/// `kura app …`.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Propose an application; a second registrar confirms it.
    Add(AppArguments),
    /// Change what is said of an application, and nothing else. What widens it is proposed.
    Change(AppChange),
    /// All applications.
    List(ClientOption),
}

/// Options of `kura app add`.
#[derive(Debug, Args)]
pub struct AppArguments {
    /// Its name, as in its certificate.
    #[arg(value_parser = text)]
    name: String,
    /// ip-vpn or ssl-vpn.
    #[arg(long, default_value = "ip-vpn")]
    access_line: AccessLine,
    /// A facility for whose users it may speak.
    #[arg(long, value_parser = text)]
    facility: Vec<String>,
    /// active, suspended or left.
    #[arg(long, default_value = "active")]
    status: Status,
    /// It may speak for participants.
    #[arg(long)]
    participants: bool,
    #[command(flatten)]
    because: Because,
}

/// Options of `kura app change`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("changed").required(true).multiple(true)
    .args(["access_line", "add_facility", "drop_facility", "status", "participants"])))]
pub struct AppChange {
    /// Its name, as in its certificate.
    #[arg(value_parser = text)]
    name: String,
    /// ip-vpn or ssl-vpn.
    #[arg(long)]
    access_line: Option<AccessLine>,
    /// A further facility for whose users it may speak.
    #[arg(long, value_parser = text)]
    add_facility: Vec<String>,
    /// A facility for whose users it may no longer speak.
    #[arg(long, value_parser = text)]
    drop_facility: Vec<String>,
    /// active, suspended or left.
    #[arg(long)]
    status: Option<Status>,
    /// Whether it may speak for participants.
    #[arg(long, value_name = "true|false")]
    participants: Option<bool>,
    #[command(flatten)]
    because: Because,
}

fn not_registered(what: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no such {what} is registered"))
        .next(format!("register it with `kura {what} add`"))
}

/// Tells a facility that is not registered from one without users.
async fn check_facility(registry: &Registry, id: &str) -> Result<(), Failure> {
    match registry.facilities().await?.iter().any(|one| one.id == id) {
        true => Ok(()),
        false => Err(Failure::new(Exit::NotFound, format!("facility-unknown: {id} is not registered"))
            .next("check the facility's id: `kura facility list` shows them")),
    }
}

/// Runs `kura facility …`.
pub async fn facility(command: FacilityCommand, output: Output) -> Result<(), Failure> {
    match command {
        FacilityCommand::Add(arguments) => {
            let FacilityArguments { id, name, kind, status, access_line, emergency, institution_code, because } =
                arguments;
            let facility = Facility { id, name, kind, status, access_line, emergency, institution_code };
            receipt::print_registered(&because.registry().await?.add_facility(&facility).await?, output)
        }
        FacilityCommand::Change(change) => {
            let registry = change.because.registry().await?;
            let known = registry.facilities().await?.into_iter().find(|one| one.id == change.id);
            let before = known.ok_or_else(|| not_registered("facility"))?;
            let after = Facility {
                id: change.id,
                name: change.name.unwrap_or_else(|| before.name.clone()),
                kind: change.kind.unwrap_or(before.kind),
                status: change.status.unwrap_or(before.status),
                access_line: change.access_line.unwrap_or(before.access_line),
                emergency: change.emergency.unwrap_or(before.emergency),
                institution_code: change.institution_code.unwrap_or_else(|| before.institution_code.clone()),
            };
            if before == after {
                return receipt::print_unchanged(output);
            }
            receipt::print_registered(&registry.change_facility(&before, &after).await?, output)
        }
        FacilityCommand::List(client) => {
            let facilities = client.connect().await?.registry().facilities().await?;
            output.list(&facilities, &["facility", "name", "kind", "status", "line", "emergency", "code"], |one| {
                let Facility { id, name, kind, status, access_line, emergency, institution_code } = one;
                let emergency = if *emergency { "yes" } else { "" };
                vec![
                    id.clone(),
                    name.clone(),
                    kind.to_string(),
                    status.to_string(),
                    access_line.to_string(),
                    emergency.into(),
                    institution_code.clone(),
                ]
            })
        }
    }
}

/// Runs `kura user …`.
pub async fn user(command: UserCommand, output: Output) -> Result<(), Failure> {
    match command {
        UserCommand::Add(arguments) => {
            let UserArguments { facility, id, name, profession, status, credential, lists_accesses, because } =
                arguments;
            let credential_sha256 = credential.as_deref().map(fingerprint).transpose()?;
            let user = User { facility, id, name, profession, status, credential_sha256, lists_accesses };
            receipt::print_registered(&because.registry().await?.add_user(&user).await?, output)
        }
        UserCommand::Change(change) => {
            let registry = change.because.registry().await?;
            let known = registry.users(&change.facility).await?.into_iter().find(|one| one.id == change.id);
            let Some(before) = known else {
                check_facility(&registry, &change.facility).await?;
                return Err(not_registered("user"));
            };
            let credential_sha256 = match &change.credential {
                Some(path) => Some(fingerprint(path)?),
                None if change.no_credential => None,
                None => before.credential_sha256,
            };
            let after = User {
                facility: change.facility,
                id: change.id,
                name: change.name.unwrap_or_else(|| before.name.clone()),
                profession: change.profession.unwrap_or(before.profession),
                status: change.status.unwrap_or(before.status),
                credential_sha256,
                lists_accesses: change.lists_accesses.unwrap_or(before.lists_accesses),
            };
            if before == after {
                return receipt::print_unchanged(output);
            }
            receipt::print_registered(&registry.change_user(&before, &after).await?, output)
        }
        UserCommand::List { facility, client } => {
            let registry = client.connect().await?.registry();
            let users = registry.users(&facility).await?;
            if users.is_empty() {
                check_facility(&registry, &facility).await?;
            }
            output.list(&users, &["facility", "user", "name", "profession", "status", "credential"], |user| {
                let credential = user.credential_sha256.map_or_else(String::new, |sum| short(&sum));
                let User { facility, id, name, profession, status, .. } = user.clone();
                vec![facility, id, name, profession.to_string(), status.to_string(), credential]
            })
        }
    }
}

/// Runs `kura app …`.
pub async fn app(command: AppCommand, output: Output) -> Result<(), Failure> {
    match command {
        AppCommand::Add(arguments) => {
            let AppArguments { name, access_line, facility, status, participants, because } = arguments;
            let application = Application { name, access_line, facilities: facility, status, participants };
            receipt::print_registered(&because.registry().await?.add_application(&application).await?, output)
        }
        AppCommand::Change(change) => {
            let registry = change.because.registry().await?;
            let known = registry.applications().await?.into_iter().find(|one| one.name == change.name);
            let before = known.ok_or_else(|| not_registered("app"))?;
            if let Some(other) = change.drop_facility.iter().find(|one| !before.facilities.contains(one)) {
                let why = format!("--drop-facility: the application does not speak for {other}");
                return Err(Failure::new(Exit::NotFound, why)
                    .next("`kura app list` shows for which facilities it speaks; nothing was changed"));
            }
            let mut facilities = before.facilities.clone();
            facilities.retain(|facility| !change.drop_facility.contains(facility));
            facilities.extend(change.add_facility.into_iter().filter(|facility| !before.facilities.contains(facility)));
            let after = Application {
                name: change.name,
                access_line: change.access_line.unwrap_or(before.access_line),
                facilities,
                status: change.status.unwrap_or(before.status),
                participants: change.participants.unwrap_or(before.participants),
            };
            if before == after {
                return receipt::print_unchanged(output);
            }
            receipt::print_registered(&registry.change_application(&before, &after).await?, output)
        }
        AppCommand::List(client) => {
            let applications = client.connect().await?.registry().applications().await?;
            output.list(&applications, &["application", "line", "status", "participants", "facilities"], |one| {
                let participants = if one.participants { "yes" } else { "" };
                vec![
                    one.name.clone(),
                    one.access_line.to_string(),
                    one.status.to_string(),
                    participants.into(),
                    one.facilities.join(", "),
                ]
            })
        }
    }
}
