//! `kura record hide|unhide|narrow`: who may see a record.

use clap::Args;
use kura_client::RecordId;

use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::given::text;
use crate::cli::number::NumberArgument;
use crate::cli::output::Output;
use crate::cli::receipt;

/// Options of `kura record hide` and `unhide`.
#[derive(Debug, Args)]
pub struct HideArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record.
    record: RecordId,
    /// Why; journalled.
    #[arg(long, value_parser = text)]
    reason: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Options of `kura record narrow`.
#[derive(Debug, Args)]
pub struct NarrowArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record.
    record: RecordId,
    /// A facility that may still see it.
    #[arg(long, value_name = "FACILITY", required = true, value_parser = text)]
    to: Vec<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs `kura record hide` and `unhide`.
pub async fn hide(arguments: HideArguments, hidden: bool, output: Output) -> Result<(), Failure> {
    let HideArguments { number, record, reason, acting } = arguments;
    let number = number.read()?;
    let acting = acting.act(Some(&number)).await?;
    let change = if hidden { acting.hide(&number, record) } else { acting.unhide(&number, record) };
    receipt::print(&change.reason(reason.unwrap_or_default()).await?, output)
}

/// Runs `kura record narrow`.
pub async fn narrow(arguments: NarrowArguments, output: Output) -> Result<(), Failure> {
    let NarrowArguments { number, record, to, acting } = arguments;
    let number = number.read()?;
    receipt::print(&acting.act(Some(&number)).await?.narrow(&number, record, to).await?, output)
}
