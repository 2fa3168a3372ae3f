//! `kura audit …`: who accessed what, and whether the journal is what it was.

mod export;
mod list;
mod signed;
mod told;
mod verify;

use clap::Subcommand;

use super::exit::Failure;
use super::output::Output;

pub(super) use told::FULL_HEADING;
pub(crate) use told::{HEADING, Told};

/// `kura audit …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who accessed a participant's records, for the participant (NUMBER --as-participant). With --all the whole
    /// journal, for auditors; with --own-facility what the users of one's facility did.
    List(list::Arguments),
    /// The journal's newest head: how many entries, and the root of the tree over them.
    Head(verify::HeadArguments),
    /// Check the journal: fetch its sealed entries, compute its root, and hold it against an older head.
    Verify(verify::Arguments),
    /// Print the journal as NDJSON, oldest first; for auditors.
    Export(export::Arguments),
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(arguments, output).await,
        Command::Head(arguments) => verify::head(arguments, output).await,
        Command::Verify(arguments) => verify::run(arguments, output).await,
        Command::Export(arguments) => export::run(arguments).await,
    }
}
