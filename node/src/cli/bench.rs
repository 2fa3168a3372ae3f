//! `kura bench`: measure a cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use super::files;
use super::output::Output;
use crate::bench::{self, Existing, Options, Phase};

/// Options of `kura bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the cluster lies that is started: a new directory, or one of an earlier `kura dev` of the
    /// same size. Without it a temporary one, which is deleted afterwards.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Measure a cluster that runs already: client configuration of an application. Facilities and
    /// participants of the bench stay in it for good.
    #[arg(long, value_name = "FILE", requires_all = ["registrar", "second_registrar", "operator"], conflicts_with_all = ["data", "voters", "backups"])]
    client: Option<PathBuf>,
    /// Client configuration of a registrar of that cluster.
    #[arg(long, value_name = "FILE", requires = "client")]
    registrar: Option<PathBuf>,
    /// Client configuration of another registrar of that cluster, who confirms the bench's application.
    #[arg(long, value_name = "FILE", requires = "client")]
    second_registrar: Option<PathBuf>,
    /// Client configuration of an operator of that cluster, for its status.
    #[arg(long, value_name = "FILE", requires = "client")]
    operator: Option<PathBuf>,
    /// Voters of the cluster that is started.
    #[arg(long, default_value_t = 3)]
    voters: u32,
    /// Backup members of the cluster that is started.
    #[arg(long, default_value_t = 1)]
    backups: u32,
    /// Records to write: every file of this folder in turn, instead of generated FHIR of 4.2 KB on average.
    #[arg(long, value_name = "FOLDER")]
    input: Option<PathBuf>,
    /// Clients at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Connections to each voter, shared by the clients.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    connections: u32,
    /// Measured time of ingest and of reads.
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Time before that, which does not count.
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,
    /// Participants among whom the records are spread.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    participants: u32,
    /// Length of a large body.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=8_192))]
    large: u64,
    /// Large bodies at the same time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    streams: u32,
    /// Measure only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Phase>,
    /// Seed of the generated bodies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { client, registrar, second_registrar, operator, .. } = &arguments;
    let existing = match (client.clone(), registrar.clone(), second_registrar.clone(), operator.clone()) {
        (Some(client), Some(first), Some(second), Some(operator)) => {
            Some(Existing { client, registrars: [first, second], operator })
        }
        _ => None,
    };
    if let Some(input) = &arguments.input {
        files::readable_folder("--input", input)?;
    }
    if let Some(data) = &arguments.data {
        files::folder("--data", data)?;
    }
    let phases = match arguments.only.is_empty() {
        true => vec![Phase::Ingest, Phase::Read, Phase::Large],
        false => arguments.only,
    };
    let options = Options {
        existing,
        data: arguments.data,
        voters: arguments.voters,
        backups: arguments.backups,
        input: arguments.input,
        clients: arguments.clients as usize,
        connections: arguments.connections as usize,
        measured: Duration::from_secs(arguments.seconds),
        warm_up: Duration::from_secs(arguments.warm_up),
        participants: arguments.participants as usize,
        large_bytes: arguments.large << 20,
        streams: arguments.streams as usize,
        phases,
        seed: arguments.seed,
    };
    bench::run(options, output).await
}
