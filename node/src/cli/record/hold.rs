//! `kura record hold|release`: legal hold, for registrars.

use clap::Args;
use kura_client::RecordId;

use crate::cli::acting::ClientOption;
use crate::cli::exit::Failure;
use crate::cli::given::text;
use crate::cli::number::NumberArgument;
use crate::cli::output::Output;
use crate::cli::receipt;

/// Options of `kura record hold` and `release`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record.
    record: RecordId,
    /// Reference to the order, or to what lifts it; journalled.
    #[arg(long, value_name = "WORDS", value_parser = text)]
    evidence: String,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(arguments: Arguments, hold: bool, output: Output) -> Result<(), Failure> {
    let Arguments { number, record, evidence, client } = arguments;
    let number = number.read()?;
    let registry = client.connect().await?.registry();
    let change = if hold { registry.hold(&number, record) } else { registry.release(&number, record) };
    receipt::print(&change.evidence(evidence).await?, output)
}
