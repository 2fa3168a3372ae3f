//! `kura recover …`: taking a cluster over from what survives of it (docs/recovery.md).

mod apply;
mod give_back;
mod look;
mod salvage;

use clap::{Args, Subcommand};

use super::acting::ClientOption;
use super::exit::{Exit, Failure, chain, not_made};
use super::output::Output;
use crate::recovery::found::FoundError;
use crate::recovery::plan::PlanError;
use crate::recovery::take::TakeError;

/// `kura recover …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at what survives without changing it, rank it, say what may be lost and what has to be fenced.
    Plan(look::PlanArguments),
    /// Take over from the best of a plan into a new data directory, as the only member of a new timeline.
    Apply(apply::Arguments),
    /// Read every row of a taken-over directory and hold it against its report; its node must not run.
    Verify(look::VerifyArguments),
    /// Show the statement of a take-over: what is there, what is unconfirmed, what nobody knows.
    Report(look::ReportArguments),
    /// Offer what a former member's disk has that the cluster lacks, what restricts first: a rehearsal, or --apply.
    Salvage(salvage::Arguments),
    /// Serve the next step to applications: emergency, then reads, then writes.
    Open(OpenArguments),
    /// The way back to a prefecture that stands again: what is done, and what is next. Changes nothing.
    GiveBack(give_back::Arguments),
}

/// Options of `kura recover open`.
#[derive(Debug, Args)]
pub struct OpenArguments {
    /// What is to be served from now on.
    #[arg(value_enum)]
    step: Step,
    #[command(flatten)]
    client: ClientOption,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Step {
    /// Emergencies alone.
    Emergency,
    /// All reads, and what restricts: revoking, withdrawing, hiding, narrowing, asking for an erasure.
    Reads,
    /// Everything.
    Writes,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    // Keys and shares must not land in a core file.
    crate::serve::forbid_core_dumps();
    match command {
        Command::Plan(arguments) => look::plan(arguments, output).await,
        Command::Apply(arguments) => apply::run(arguments, output).await,
        Command::Verify(arguments) => look::verify(arguments, output),
        Command::Report(arguments) => look::report(arguments, output),
        Command::Salvage(arguments) => salvage::run(arguments, output).await,
        Command::Open(arguments) => open(arguments, output).await,
        Command::GiveBack(arguments) => give_back::run(arguments, output).await,
    }
}

async fn open(arguments: OpenArguments, output: Output) -> Result<(), Failure> {
    let (level, word, next) = match arguments.step {
        Step::Emergency => (2, "emergencies", "kura recover open reads"),
        Step::Reads => (3, "reads, and what restricts", "kura recover open writes"),
        Step::Writes => (4, "everything", "add voters: kura member approve, kura join, kura member add-voter"),
    };
    let former = arguments.client.connect().await?.operations().open_service(level).await?;
    let words = if former >= level { "was served already" } else { "is served now" };
    let told = serde_json::json!({ "level": level, "former": former });
    output.thing(&told, &[(words, word.to_owned()), ("next", next.to_owned())])
}

fn plan_failure(error: &PlanError) -> Failure {
    let words = chain(error);
    match error {
        PlanError::Found(FoundError::InUse { .. }) => Failure::new(Exit::Conflict, words),
        PlanError::Found(FoundError::Neither { .. }) => Failure::usage(words)
            .next("name what `data` or `archive.place` of a former member's configuration named, or a copy of it"),
        PlanError::Sources | PlanError::OtherCluster { .. } => Failure::usage(words),
        PlanError::OnlyArchives => Failure::new(Exit::NotFound, words),
        PlanError::Changed { .. } => Failure::new(Exit::Conflict, words).next("kura recover plan"),
        PlanError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Conflict, words).next("name another file with --out: a plan is not overwritten")
        }
        PlanError::File { .. } => not_made(error),
        PlanError::Form { .. } => {
            Failure::usage(words).next("name the file that `kura recover plan --out` of this version has written")
        }
        _ => Failure::new(Exit::Damaged, words),
    }
}

fn take_failure(error: &TakeError) -> Failure {
    match error {
        TakeError::Plan(error) => plan_failure(error),
        TakeError::Target { .. } => Failure::new(Exit::Conflict, chain(error))
            .next("write the data directory's new name into the configuration; nothing was changed"),
        TakeError::Done { .. } => Failure::new(Exit::Conflict, chain(error)),
        TakeError::Place { .. } => Failure::usage(chain(error)).next("nothing was changed"),
        TakeError::OtherRootKey { .. } => Failure::new(Exit::Conflict, chain(error)).next(
            "find out whose key it is: it may be another cluster's only copy. Name another file for the root key in the \
             configuration, or move this one away; nothing was changed",
        ),
        TakeError::NoRootKey => Failure::usage(chain(error)),
        TakeError::Recovery(_) => Failure::new(Exit::Damaged, chain(error)).next(
            "the key is not this cluster's present root key: find the shares of the set that `kura recover apply` names",
        ),
        _ => Failure::new(Exit::Damaged, chain(error)).next("nothing was changed; take another survivor, or mend this"),
    }
}
