//! `kura participant …`: enrolment, facilities' own ids, cards, duplicates.

use clap::{Args, Subcommand};
use kura_client::{Consent, Date, FormerLink};
use serde::Serialize;

use super::acting::{ActingOptions, ClientOption};
use super::consent;
use super::exit::Failure;
use super::given::text;
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
        #[arg(value_parser = text)]
        local_id: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Link the facility's own patient id, which names somebody else by mistake, to a participant.
    Relink {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        /// The facility's own id.
        #[arg(value_parser = text)]
        local_id: String,
        /// Why; it stays recorded.
        #[arg(long, value_parser = text)]
        reason: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// The facility's own patient ids of a participant, and what they were linked to before.
    Ids {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Issue a card, or one in the place of another (also registrars, with --as-registrar).
    Card {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        /// The card's serial; never given before.
        #[arg(value_parser = text)]
        serial: String,
        /// Reference to the evidence, or why the former card is replaced.
        #[arg(long, value_parser = text)]
        evidence: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// The participant who holds a card.
    ResolveCard {
        /// The card's serial.
        #[arg(value_parser = text)]
        serial: String,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Propose that a duplicate enrolment becomes an alias of the participant who stays (registrars). Another registrar
    /// confirms it. It cannot be undone.
    Alias {
        /// The number that stays; `-` reads a line of standard input.
        number: NumberArgument,
        /// The number that becomes its alias; `-` reads a line of standard input.
        duplicate: NumberArgument,
        /// Reference to the evidence that both are one person.
        #[arg(long, value_parser = text)]
        evidence: String,
        #[command(flatten)]
        client: ClientOption,
    },
    /// The participant behind the facility's own patient id.
    Resolve {
        /// The facility's own id.
        #[arg(value_parser = text)]
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
    #[arg(long, value_parser = text)]
    evidence: String,
    /// Who signed, if not the participant.
    #[arg(long, requires = "relation", value_parser = text)]
    proxy: Option<String>,
    /// The proxy's relation to the participant.
    #[arg(long, requires = "proxy", value_parser = text)]
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
        Command::Relink { number, local_id, reason, acting } => {
            let number = number.read()?;
            receipt::print(&acting.act(Some(&number)).await?.relink(&number, local_id, reason).await?, output)
        }
        Command::Ids { number, acting } => {
            let number = number.read()?;
            let links = acting.act(Some(&number)).await?.local_ids(&number).await?;
            output.list(&links, &["own id", "linked", "by", "before"], |link| {
                let before = |event: &FormerLink| {
                    format!("another until {} ({}: {})", moment(event.relinked_ms), event.relinked_by, event.reason)
                };
                let before: Vec<String> = link.former.iter().map(before).collect();
                vec![link.local_id.clone(), moment(link.linked_ms), link.linked_by.clone(), before.join("; ")]
            })
        }
        Command::Card { number, serial, evidence, acting } => {
            let number = number.read()?;
            let change = acting.act(Some(&number)).await?.issue_card(&number, serial).evidence(evidence);
            receipt::print(&change.await?, output)
        }
        Command::ResolveCard { serial, acting } => {
            let number = acting.act(None).await?.resolve_card(serial).await?;
            output.thing(&Resolved { participant: number.reveal() }, &[("participant", number.reveal().to_owned())])
        }
        Command::Alias { number, duplicate, evidence, client } => {
            let stays = match duplicate.is_standard_input() {
                true => number.read_before_more("NUMBER")?,
                false => number.read()?,
            };
            let duplicate = duplicate.read_as("DUPLICATE")?;
            let registered = client.connect().await?.registry().alias(&stays, &duplicate, &evidence).await?;
            receipt::print_registered(&registered, output)
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
