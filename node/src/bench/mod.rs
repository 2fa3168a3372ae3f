//! `kura bench`: how fast a cluster takes records in and hands them out, and what that costs.
//!
//! Invariants
//! - Everything goes through the client crate, as applications do it: mutual TLS, consent decided and
//!   access journalled for each operation, hashes verified; what is read is compared with what was
//!   written.
//! - Nothing is measured while something else is prepared. Every member has caught up before a phase
//!   begins.
//! - An operation that failed, or a member that did not catch up, ends the command non-zero, after the
//!   figures.

mod bodies;
mod large;
mod latency;
mod load;
mod machine;
mod place;
mod population;
mod report;
mod small;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use kura_client::Client;

use crate::cli::{Exit, Failure, Output, Progress, note};

use large::Large;
use load::Load;
use machine::Machine;
use place::Place;
use population::Population;
use report::{Before, Report};
use small::Small;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Writes of small bodies.
    Ingest,
    /// Audited reads of records that were written.
    Read,
    /// A few large bodies, up and down.
    Large,
}

/// A cluster that runs already.
#[derive(Debug, Clone)]
pub struct Existing {
    /// Client configuration of an application.
    pub client: PathBuf,
    /// Client configurations of two registrars, for registering.
    pub registrars: [PathBuf; 2],
    /// Client configuration of an operator, for the status.
    pub operator: PathBuf,
}

/// What to measure, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// A cluster that runs already; without it one is started.
    pub existing: Option<Existing>,
    /// Where the started cluster lies; without it a temporary directory, deleted afterwards.
    pub data: Option<PathBuf>,
    /// Voters of the started cluster.
    pub voters: u32,
    /// Backup members of the started cluster.
    pub backups: u32,
    /// A folder whose files are written in turn, instead of generated FHIR.
    pub input: Option<PathBuf>,
    /// Clients at the same time, at least 1.
    pub clients: usize,
    /// Connections to each voter, at least 1.
    pub connections: usize,
    /// Measured time of ingest and of reads.
    pub measured: Duration,
    /// Time before, which does not count.
    pub warm_up: Duration,
    /// Participants among whom records are spread, at least 1.
    pub participants: usize,
    /// Bytes of a large body.
    pub large_bytes: u64,
    /// Large bodies at the same time.
    pub streams: usize,
    /// What to measure, in the order of the declaration.
    pub phases: Vec<Phase>,
    /// Seed of the generated bodies.
    pub seed: u64,
}

/// Measures and prints.
///
/// # Errors
/// If nothing could be measured, or an operation failed.
pub async fn run(options: Options, output: Output) -> Result<(), Failure> {
    let (directory, temporary) = match (&options.data, &options.existing) {
        (Some(directory), _) => (directory.clone(), false),
        (None, None) => (place::temporary(), true),
        // Only the cost of a synced write is measured there.
        (None, Some(_)) => (std::env::temp_dir(), false),
    };
    let ended = tokio::select! {
        ended = measure(&options, &directory, output) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            Err(Failure::failed(interrupted.map_or_else(|error| error.to_string(), |()| "interrupted".into())))
        }
    };
    match ended {
        Err(failure) if temporary => Err(failure.next(format!("the cluster is kept in {}", directory.display()))),
        _ if temporary => {
            // What is left of a temporary directory harms nobody.
            let _ = std::fs::remove_dir_all(&directory);
            ended
        }
        _ => ended,
    }
}

async fn measure(options: &Options, directory: &Path, output: Output) -> Result<(), Failure> {
    let progress = Progress::spinner();
    let (input, seed) = (options.input.clone(), options.seed);
    progress.say("reading bodies");
    let bodies = blocking(move || bodies::load(input.as_deref(), seed)).await?;
    let place = Place::open(options, directory, &progress).await?;
    for (name, id) in place.processes() {
        progress.keep(&format!("{name} is process {id}"));
    }
    progress.say("measuring the disk");
    let disk = directory.to_owned();
    let machine = blocking(move || Ok(Machine::measure(&disk)?)).await?;

    let clients = place.connect(options.connections).await?;
    let population = Population::settle(&clients, &place.registrars, options.participants, &progress).await?;
    let total: usize = bodies.iter().map(|body| body.bytes.len()).sum();
    let mut report = Report {
        machine,
        voters: 0,
        backups: 0,
        leader: String::new(),
        clients: options.clients,
        participants: options.participants,
        body_bytes_mean: (total / bodies.len()) as u64,
        bodies: bodies.len(),
        phases: Vec::new(),
        nodes: Vec::new(),
    };
    let population = Arc::new(population);
    let small = Arc::new(Small::new(clients.clone(), Arc::clone(&population), bodies));
    let ended = phases(options, &mut report, &place, &clients, &population, &small, &progress).await;
    // What was measured is told, whatever came after it.
    let finished = report.finish(&place).await;
    progress.past(|| report.print(output))?;
    progress.say("stopping");
    place.close().await?;
    drop(progress);
    ended.and(finished)?;
    judge(&report)
}

/// Measures what was asked for, one after the other.
async fn phases(
    options: &Options,
    report: &mut Report,
    place: &Place,
    clients: &[Client],
    population: &Arc<Population>,
    small: &Arc<Small>,
    progress: &Progress,
) -> Result<(), Failure> {
    let load = Load { clients: options.clients, warm_up: options.warm_up, measured: options.measured };
    if options.phases.contains(&Phase::Ingest) {
        let before = Before::look(place, progress).await?;
        let run = small::ingest(small, load, place, progress).await?;
        report.phases.push(before.phase("ingest", load.clients, true, run, place, progress).await?);
    }
    if options.phases.contains(&Phase::Read) {
        let before = Before::look(place, progress).await?;
        let run = small::read(small, load, place, progress).await?;
        report.phases.push(before.phase("read", load.clients, false, run, place, progress).await?);
    }
    if options.phases.contains(&Phase::Large) {
        let large = Large { streams: options.streams, bytes: options.large_bytes, seed: options.seed };
        let before = Before::look(place, progress).await?;
        let (run, sent) = large.up(clients, population, place, progress).await?;
        report.phases.push(before.phase("large up", large.streams, true, run, place, progress).await?);
        let before = Before::look(place, progress).await?;
        let run = large.down(sent, clients, population, place, progress).await?;
        report.phases.push(before.phase("large down", large.streams, false, run, place, progress).await?);
    }
    Ok(())
}

/// Whether all operations went well and every member kept up.
fn judge(report: &Report) -> Result<(), Failure> {
    if report.errors() == 0 {
        let behind: Vec<String> = report.behind().collect();
        return match behind.is_empty() {
            true => Ok(()),
            false => Err(Failure::failed(behind.join("; "))),
        };
    }
    for phase in &report.phases {
        if let Some(first) = &phase.first_error {
            note(&format!("{}: the first failure was: {first}", phase.phase));
        }
    }
    Err(Failure::new(Exit::Damaged, format!("{} operations failed", report.errors())))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::failed)?
}
