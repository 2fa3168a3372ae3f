//! `kura demo`: what Kura promises, shown on a cluster of its own and checked.
//!
//! Invariants
//! - Everything is done as applications and operators do it: real processes, the client crate,
//!   signals. Nothing looks into a node but the last step, which searches its files as a thief would.
//! - Every step checks what it shows, and a check that could not run is a failure. The first step
//!   that fails ends the demo; the cluster's directory is then kept.
//! - Ids of a run carry random digits: they cannot be in a file by chance, and runs on one directory
//!   do not meet.

mod backup;
mod bodies;
mod cast;
mod consent;
mod crash;
pub mod leak;
mod report;
mod words;
mod writing;

use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure, Output, note};
use crate::dev::{self, Cluster};

use cast::Cast;
use report::Report;
use words::Words;

/// What to show, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the cluster lies; without it a temporary directory, deleted if all went well.
    pub data: Option<PathBuf>,
    /// A folder whose files are written, instead of generated records.
    pub input: Option<PathBuf>,
    /// Seed of the generated people, places and records; drawn without it.
    pub seed: Option<u64>,
}

/// Runs the demo and prints its table.
///
/// # Errors
/// The first step that failed, after its row was printed.
pub async fn run(options: Options, output: Output) -> Result<(), Failure> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let (directory, temporary) = match options.data {
        Some(directory) => (directory, false),
        None => (std::env::temp_dir().join(format!("kura-demo-{:08x}", rand::random::<u32>())), true),
    };
    let mut report = Report::new(output);
    let ended = tokio::select! {
        ended = steps(&directory, options.input.as_deref(), seed, &mut report) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            Err(Failure::failed(interrupted.map_or_else(|error| error.to_string(), |()| "interrupted".into())))
        }
    };
    let failed = report.print(ended.as_ref().err())?;
    if let Err(failure) = ended {
        if failure.exit == Exit::Usage {
            // Nothing ran that could have written a log.
            return Err(Failure { message: format!("{failed}: {}", failure.message), ..failure });
        }
        let logs = dev::Layout::new(&directory).nodes().join("*").join("log.txt");
        return Err(Failure::new(failure.exit, format!("{failed}: {}", failure.message))
            .next(format!("read {}; `--seed {seed}` repeats the same people and records", logs.display())));
    }
    if temporary {
        // What is left of a temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        note(&format!("the cluster lies in {}: kura dev --data {0} starts it again", directory.display()));
    }
    Ok(())
}

async fn steps(directory: &Path, input: Option<&Path>, seed: u64, report: &mut Report) -> Result<(), Failure> {
    let mut words = Words::default();

    report.begin("cluster");
    let mut cluster = {
        let progress = report.progress();
        let say = |step: &str| progress.say(format!("cluster: {step}"));
        Cluster::start(dev::Options { shares: true, ..dev::Options::new(directory)? }, &say).await?
    };
    let members = &cluster.plan().members;
    let figure = format!("{} voters, {} backup", cluster.plan().voters().count(), cluster.plan().backups().count());
    report.done(format!("{} processes with mutual TLS, each with its own data directory", members.len()), figure);

    let clients = cast::Clients::connect(&cluster).await?;
    let cast = Cast::new(seed, input.is_some());
    cast::register(&clients, &cast, &mut words, report).await?;
    cast::enrol(&clients, &cast, &mut words, report).await?;

    let written = writing::write(&clients, &cast, input, &mut words, report).await?;
    writing::read_back(&clients, &cast, &written, report).await?;

    consent::access_line(&clients, &cast, report).await?;
    let shown = consent::grant_and_revoke(&cluster, &clients, &cast, &written, report).await?;
    consent::access_list(&clients, &cast, &shown, report).await?;

    let killed = crash::kill_leader(&mut cluster, &clients, &cast, &mut words, report).await?;
    let status = crash::catch_up(&mut cluster, &killed, report).await?;
    backup::check(&cluster, &status, report)?;

    report.begin("stop");
    let badly = cluster.stop().await?;
    if !badly.is_empty() {
        return Err(Failure::failed(format!("{} did not stop in order", badly.join(", "))));
    }
    report
        .done("SIGTERM: every node drained, handed over and ended", format!("{} nodes", cluster.plan().members.len()));
    search(&cluster, words, report).await
}

/// Looks for everything that must not be readable in everything that the nodes wrote.
async fn search(cluster: &Cluster, words: Words, report: &mut Report) -> Result<(), Failure> {
    report.begin("search for leaks");
    let folders = [cluster.layout().nodes(), cluster.layout().archives()];
    let control = cluster.layout().directory().join("leak-control.bin");
    let search = leak::Search::new(words.into_patterns()).map_err(Failure::failed)?;
    let progress = report.progress().clone();
    let looked = tokio::task::spawn_blocking(move || -> Result<_, leak::LeakError> {
        let planted = search.prove(&control)?;
        let mut found = leak::Found::default();
        for folder in folders.iter().filter(|folder| folder.exists()) {
            let say = |bytes| progress.say(format!("search for leaks: {}", crate::cli::bytes(bytes)));
            found.add(search.folder(folder, &say)?);
        }
        Ok((planted, found, search.patterns()))
    });
    let (planted, found, patterns) = looked.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
    if let Some(hit) = found.hits.first() {
        let place = format!("{} at byte {}", hit.path.display(), hit.offset);
        return Err(Failure::new(
            Exit::Damaged,
            format!("plaintext found {} times, first a {} in {place}", found.count, hit.what),
        ));
    }
    let shown = format!(
        "no number, id, name or word in any file of any node or archive; a control file with all {planted} of them was found out"
    );
    let figure = format!("{patterns} patterns, {} files, {}", found.files, crate::cli::bytes(found.bytes));
    report.done(shown, figure);
    Ok(())
}
