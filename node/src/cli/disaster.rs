//! `kura disaster …`: a declared disaster.

use clap::{Args, Subcommand};
use kura_client::registry::Disaster;
use kura_client::{FacilityKind, Profession, now_ms};
use serde::Serialize;

use super::acting::ClientOption;
use super::exit::{Exit, Failure};
use super::given::text;
use super::output::{Output, moment};
use super::receipt;
use super::registry::Because;

/// `kura disaster …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Propose a disaster: who may open emergencies beside those who always may. A second registrar confirms.
    Declare(DeclareArguments),
    /// The disaster declared last, and whether it is in force (registrars, auditors).
    Show(ClientOption),
    /// End it before its time. One registrar is enough.
    End(Because),
}

/// Options of `kura disaster declare`.
#[derive(Debug, Args)]
pub struct DeclareArguments {
    /// Its name.
    #[arg(value_parser = text)]
    name: String,
    /// How many hours from now it lasts, also if it is confirmed later.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=2160))]
    hours: u64,
    /// A profession that may open emergencies, beside physicians.
    #[arg(long)]
    profession: Vec<Profession>,
    /// A kind of facility that needs no flag.
    #[arg(long)]
    kind: Vec<FacilityKind>,
    /// A facility that needs no flag.
    #[arg(long, value_parser = text)]
    facility: Vec<String>,
    /// By what the caps on emergencies are multiplied.
    #[arg(long, default_value_t = 1)]
    caps_factor: u32,
    #[command(flatten)]
    because: Because,
}

#[derive(Debug, Serialize)]
struct Told {
    in_force: bool,
    #[serde(flatten)]
    disaster: Disaster,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Declare(arguments) => {
            let DeclareArguments { name, hours, profession, kind, facility, caps_factor, because } = arguments;
            let disaster = Disaster {
                professions: profession,
                facility_kinds: kind,
                facilities: facility,
                caps_factor,
                ..Disaster::until(name, now_ms() + hours * 3_600_000)
            };
            receipt::print_registered(&because.registry().await?.declare_disaster(&disaster).await?, output)
        }
        Command::Show(client) => {
            let found = client.connect().await?.registry().disaster().await?;
            let (disaster, in_force) = found.ok_or_else(|| {
                Failure::new(Exit::NotFound, "no disaster was ever declared")
                    .next("`kura disaster declare` proposes one")
            })?;
            let told = Told { in_force, disaster };
            let one = &told.disaster;
            let words = |words: Vec<&'static str>| words.join(", ");
            let mut fields = vec![
                ("disaster", one.name.clone()),
                ("in force", if in_force { "yes".into() } else { "no".to_owned() }),
                ("from", moment(one.from_ms)),
                ("until", moment(one.until_ms)),
                ("professions", words(one.professions.iter().map(|profession| profession.word()).collect())),
                ("kinds", words(one.facility_kinds.iter().map(|kind| kind.word()).collect())),
                ("facilities", one.facilities.join(", ")),
                ("caps times", one.caps_factor.to_string()),
                ("declared by", one.declared_by.join(", ")),
            ];
            if !one.ended_by.is_empty() {
                fields.push(("ended by", one.ended_by.clone()));
            }
            output.thing(&told, &fields)
        }
        Command::End(because) => receipt::print(&because.registry().await?.end_disaster().await?, output),
    }
}
