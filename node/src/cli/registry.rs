//! `kura facility …`, `kura user …`, `kura app …`: the registry, for registrars.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kura_client::registry::{Application, Facility, User};
use kura_client::{AccessLine, FacilityKind, Profession, Status};

use super::acting::{ClientOption, fingerprint};
use super::exit::Failure;
use super::output::{Output, hexadecimal};
use super::receipt;

/// `kura facility …`.
#[derive(Debug, Subcommand)]
pub enum FacilityCommand {
    /// Register a facility, or change it to what is said.
    Add(FacilityArguments),
    /// All facilities.
    List(ClientOption),
}

/// Options of `kura facility add`.
#[derive(Debug, Args)]
pub struct FacilityArguments {
    /// Its id in the network.
    id: String,
    /// Its name.
    #[arg(long)]
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
    /// Its institution code (医療機関コード).
    #[arg(long, default_value = "")]
    institution_code: String,
    #[command(flatten)]
    client: ClientOption,
}

/// `kura user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Register a user of a facility, or change them to what is said.
    Add(UserArguments),
    /// The users of a facility.
    List {
        /// The facility.
        facility: String,
        #[command(flatten)]
        client: ClientOption,
    },
}

/// Options of `kura user add`.
#[derive(Debug, Args)]
pub struct UserArguments {
    /// The facility.
    facility: String,
    /// The user's id in it.
    id: String,
    /// Their name.
    #[arg(long)]
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
    client: ClientOption,
}

/// `kura app …`.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Register an application, or change it to what is said.
    Add(AppArguments),
    /// All applications.
    List(ClientOption),
}

/// Options of `kura app add`.
#[derive(Debug, Args)]
pub struct AppArguments {
    /// Its name, as in its certificate.
    name: String,
    /// ip-vpn or ssl-vpn.
    #[arg(long, default_value = "ip-vpn")]
    access_line: AccessLine,
    /// A facility for whose users it may speak.
    #[arg(long)]
    facility: Vec<String>,
    /// active, suspended or left.
    #[arg(long, default_value = "active")]
    status: Status,
    /// It may speak for participants.
    #[arg(long)]
    participants: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs `kura facility …`.
pub async fn facility(command: FacilityCommand, output: Output) -> Result<(), Failure> {
    match command {
        FacilityCommand::Add(arguments) => {
            let FacilityArguments { id, name, kind, status, access_line, emergency, institution_code, client } =
                arguments;
            let facility = Facility { id, name, kind, status, access_line, emergency, institution_code };
            receipt::print(&client.connect().await?.registry().put_facility(&facility).await?, output)
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
            let UserArguments { facility, id, name, profession, status, credential, lists_accesses, client } =
                arguments;
            let credential_sha256 = credential.as_deref().map(fingerprint).transpose()?;
            let user = User { facility, id, name, profession, status, credential_sha256, lists_accesses };
            receipt::print(&client.connect().await?.registry().put_user(&user).await?, output)
        }
        UserCommand::List { facility, client } => {
            let users = client.connect().await?.registry().users(&facility).await?;
            output.list(&users, &["facility", "user", "name", "profession", "status", "credential"], |user| {
                let credential = user.credential_sha256.map_or_else(String::new, |sum| hexadecimal(&sum[..6]));
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
            let AppArguments { name, access_line, facility, status, participants, client } = arguments;
            let application = Application { name, access_line, facilities: facility, status, participants };
            receipt::print(&client.connect().await?.registry().put_application(&application).await?, output)
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
