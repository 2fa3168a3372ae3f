//! `kura record …`: writing, reading and finding records.

mod body;
mod change;
mod get;
mod hold;
mod list;
mod put;
mod several;
mod show;

pub(super) use list::{DOES_NOT_OPEN, count, print, whole};

use clap::Subcommand;
use kura_client::{Outcome, RequestId};

use super::acting::ClientOption;
use super::exit::Failure;
use super::output::Output;
use super::receipt;

/// `kura record …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a record from a file or standard input, of any length.
    Put(Box<put::Arguments>),
    /// The records of a participant that the actor may see.
    List(list::ListArguments),
    /// Read a record into a file or to standard output, or several into a directory.
    Get(get::Arguments),
    /// What is told of a record beside its body: parts, people, relations, signature. It is a read.
    Show(show::Arguments),
    /// The versions of a record.
    History(list::HistoryArguments),
    /// Hide a record from all but its author's facility.
    Hide(change::HideArguments),
    /// Show a hidden record again.
    Unhide(change::HideArguments),
    /// Narrow a record to addressees. It cannot be widened again.
    Narrow(change::NarrowArguments),
    /// Put a legal hold on a record (registrars): its participant is not erased until it is released.
    Hold(hold::Arguments),
    /// Release a legal hold (another registrar).
    Release(hold::Arguments),
    /// Records addressed to the facility.
    Inbox(list::InboxArguments),
    /// What became of a write.
    Outcome {
        /// The request of the write, as an error or a receipt told it.
        request: RequestId,
        #[command(flatten)]
        client: ClientOption,
    },
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Put(arguments) => put::run(*arguments, output).await,
        Command::List(arguments) => list::list(arguments, output).await,
        Command::Get(arguments) => get::run(arguments, output).await,
        Command::Show(arguments) => show::run(arguments, output).await,
        Command::Hold(arguments) => hold::run(arguments, true, output).await,
        Command::Release(arguments) => hold::run(arguments, false, output).await,
        Command::History(arguments) => list::history(arguments, output).await,
        Command::Hide(arguments) => change::hide(arguments, true, output).await,
        Command::Unhide(arguments) => change::hide(arguments, false, output).await,
        Command::Narrow(arguments) => change::narrow(arguments, output).await,
        Command::Inbox(arguments) => list::inbox(arguments, output).await,
        Command::Outcome { request, client } => outcome(request, &client, output).await,
    }
}

async fn outcome(request: RequestId, client: &ClientOption, output: Output) -> Result<(), Failure> {
    match client.connect().await?.outcome(request).await? {
        Outcome::Committed(receipt) => receipt::print(&receipt, output),
        other => Err(other.committed().map_or_else(Failure::from, |_| Failure::failed("no outcome"))),
    }
}
