//! `kura participant …`: enrolment and facilities' own ids.

use clap::{Args, Subcommand};
use kura_client::{Consent, Date};
use serde::Serialize;

use super::acting::ActingOptions;
use super::consent;
use super::exit::Failure;
use super::number::NumberArgument;
use super::output::{Output, moment};
use super::receipt;

/// `kura participant …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol a participant on a signed consent.
    Enrol(EnrolArguments),
    /// What a participant consents to, and the facility's own ids of them.
    Show(consent::ShowArguments),
    /// Link the facility's own patient id to a participant.
    Link {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        /// The facility's own id.
        local_id: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// The participant behind the facility's own patient id.
    Resolve {
        /// The facility's own id.
        local_id: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// The participants who granted the facility.
    Granted(ActingOptions),
}

/// Options of `kura participant enrol`.
#[derive(Debug, Args)]
pub struct EnrolArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The day on which the consent was signed, YYYY-MM-DD.
    #[arg(long, value_name = "DAY")]
    signed_on: Date,
    /// Reference to the evidence: where the paper lies.
    #[arg(long)]
    evidence: String,
    /// Who signed, if not the participant.
    #[arg(long, requires = "relation")]
    proxy: Option<String>,
    /// The proxy's relation to the participant.
    #[arg(long, requires = "proxy")]
    relation: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

#[derive(Debug, Serialize)]
struct Resolved<'a> {
    participant: &'a str,
}

#[derive(Debug, Serialize)]
struct Granted {
    participant: String,
    granted_ms: u64,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Enrol(arguments) => enrol(arguments, output).await,
        Command::Show(arguments) => consent::show(arguments, output).await,
        Command::Link { number, local_id, acting } => {
            let number = number.read()?;
            receipt::print(&acting.act(Some(&number)).await?.link(&number, local_id).await?, output)
        }
        Command::Resolve { local_id, acting } => {
            let number = acting.act(None).await?.resolve(local_id).await?;
            output.thing(&Resolved { participant: number.reveal() }, &[("participant", number.reveal().to_owned())])
        }
        Command::Granted(acting) => {
            let mut granted = acting.act(None).await?.granted();
            let mut items = Vec::new();
            while let Some(one) = granted.next().await {
                let one = one?;
                items.push(Granted { participant: one.participant.reveal().to_owned(), granted_ms: one.granted_ms });
            }
            output.list(&items, &["participant", "since"], |one| vec![one.participant.clone(), moment(one.granted_ms)])
        }
    }
}

async fn enrol(arguments: EnrolArguments, output: Output) -> Result<(), Failure> {
    let EnrolArguments { number, signed_on, evidence, proxy, relation, acting } = arguments;
    let number = number.read()?;
    let mut consent = Consent::signed_on(signed_on).evidence(evidence);
    if let (Some(proxy), Some(relation)) = (proxy, relation) {
        consent = consent.by_proxy(proxy, relation);
    }
    receipt::print(&acting.act(Some(&number)).await?.enrol(&number, consent).await?, output)
}
