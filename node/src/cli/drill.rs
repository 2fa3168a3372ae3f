//! `kura drill`: rehearses a restore on the machine of a backup.

use std::path::PathBuf;

use clap::Args;

use super::archive::{StorageOption, sha256, witness};
use super::exit::{Exit, Failure, chain};
use super::output::{Output, Progress, moment, note, table};
use crate::archive::ArchiveStore;
use crate::archive::replay::Event;
use crate::config::NodeConfig;
use crate::drill::{Scratch, Wanted, run as drill};

/// Options of `kura drill`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration of the member that writes the archive; the report goes into its data directory.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Another archive than that of the configuration: a copy, for instance.
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    #[command(flatten)]
    storage: StorageOption,
    /// A directory with room for a whole state; the system's for temporary files otherwise. What is made there is
    /// deleted.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// A head of the journal that somebody kept elsewhere (`kura audit head`): what is restored must go on from it.
    #[arg(long, value_name = "HEAD_FILE")]
    head: Option<PathBuf>,
    /// Only this key (SHA-256, hexadecimal) may have signed: the backup's, as it was approved. Can be given more
    /// than once.
    #[arg(long, value_name = "SHA256", value_parser = sha256)]
    signed_by: Vec<[u8; 32]>,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let config = NodeConfig::load(&arguments.config).map_err(|error| Failure::usage(chain(&error)))?;
    let place = arguments.from.as_deref().or(config.archive.as_ref().map(|archive| &archive.place[..]));
    let place = place.ok_or_else(|| {
        Failure::usage("the configuration names no archive").next("run it where the backup is, or name one with --from")
    })?;
    let configured = config.archive.as_ref().and_then(|archive| archive.storage.as_deref());
    let storage = arguments.storage.file.as_deref().or(configured.filter(|_| arguments.from.is_none()));
    let store = ArchiveStore::open_at(place, storage)?;
    let scratch = Scratch::make(arguments.scratch.as_deref())
        .map_err(|error| Failure::usage(format!("the scratch directory: {error}")))?;
    let wanted = Wanted {
        store: &store,
        trusted: arguments.signed_by.clone(),
        witness: arguments.head.as_deref().map(witness).transpose()?,
        scratch: scratch.path(),
    };
    let progress = Progress::bytes();
    let tell = |event: Event| match event {
        Event::Doing(words) => progress.say(words),
        Event::Bytes(count) => progress.add(count),
    };
    let report = drill(wanted, &tell).await;
    drop(progress);
    let written = report.write(&config.data).map_err(|error| Failure::failed(chain(&error)))?;
    if output.json {
        output.line(&report)?;
    } else {
        let mut rows = table(&["step", "took", "found"]);
        for step in &report.steps {
            let told = if step.ok { step.told.clone() } else { format!("FAILED: {}", step.told) };
            rows.add_row([step.step.to_string(), format!("{:.1} s", step.milliseconds as f64 / 1000.0), told]);
        }
        output.table(rows)?;
        let archived = if report.archive_at_ms == 0 { "UNKNOWN".into() } else { moment(report.archive_at_ms) };
        output.thing(
            &(),
            &[
                ("restored", format!("index {}, a journal of {} entries", report.index, report.journal_size)),
                ("archive of", archived),
                ("took", format!("{:.1} s", report.milliseconds as f64 / 1000.0)),
                ("report", written.display().to_string()),
            ],
        )?;
        if !report.head {
            note("without a kept head (--head) nobody can tell whether the archive's newest part was cut off");
        }
    }
    match report.failed {
        None => Ok(()),
        Some(why) => Err(Failure::new(Exit::Damaged, format!("the drill failed: {why}"))
            .next("`kura archive verify --level replay` names everything that is wrong with the archive")),
    }
}
