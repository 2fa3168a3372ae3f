//! `kura drill`: rehearses a restore on the machine of a backup; and what it opens there, prepared in the cluster.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kura_cluster::seal::Key;

use super::acting::ClientOption;
use super::archive::{StorageOption, is_fresh, open};
use super::exit::{Exit, Failure, chain};
use super::files;
use super::given::{configuration, head, sha256};
use super::output::{Output, Progress, moment, note, table};
use crate::archive::catalog::{generations, newest};
use crate::archive::replay::Event;
use crate::archive::verify::Witness;
use crate::drill::{OPEN, Scratch, Wanted, run as drill};
use crate::vault::{VaultError, read_root_key, write_root_key};

/// Options of `kura drill`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration of the member that writes the archive; the report goes into its data directory.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// The drill key (`kura drill prepare`): the synthetic participants are opened, too.
    #[arg(long, value_name = "FILE")]
    drill_key: Option<PathBuf>,
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

/// What goes before drills.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store synthetic participants in the cluster, or store them anew, which drills open with a key of their own (an
    /// operator).
    Prepare(PrepareArguments),
}

/// Options of `kura drill prepare`.
#[derive(Debug, Args)]
pub struct PrepareArguments {
    /// The file of the drill key, for whoever runs drills; it is drawn if there is none. It opens nothing else.
    #[arg(long, value_name = "FILE")]
    drill_key: PathBuf,
    #[command(flatten)]
    client: ClientOption,
}

/// A key file, as the root key's.
fn key_file(path: &Path) -> Result<Option<Key>, Failure> {
    read_root_key(path).map_err(|error| unfit(path, error))
}

fn unfit(path: &Path, error: VaultError) -> Failure {
    let why = match error {
        VaultError::RootKeyFile { why, .. } => why,
        other => chain(&other),
    };
    Failure::usage(format!("--drill-key: {}: {why}", path.display()))
}

async fn prepare(arguments: PrepareArguments, output: Output) -> Result<(), Failure> {
    crate::serve::forbid_core_dumps();
    let client = arguments.client.connect().await?;
    let path = &arguments.drill_key;
    let key = match key_file(path)? {
        Some(key) => key,
        None => {
            // Written first: what it wraps must never be there without it.
            let key = crate::random::key();
            write_root_key(path, &key).map_err(|error| unfit(path, error))?;
            key
        }
    };
    let reply = client.keys().prepare_drill(key.expose_bytes()).await?;
    let told = serde_json::json!({
        "participants": reply.participants, "blocks": reply.blocks, "bytes": reply.bytes, "index": reply.index,
        "drill_key": path,
    });
    output.thing(
        &told,
        &[
            ("synthetic participants", reply.participants.to_string()),
            ("sealed", format!("{} bytes in {} blocks", reply.bytes, reply.blocks)),
            ("drill key", path.display().to_string()),
            ("next", format!("kura drill --drill-key, once the archive has index {}", reply.index)),
        ],
    )
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    if let Some(Command::Prepare(arguments)) = arguments.command {
        return prepare(arguments, output).await;
    }
    crate::serve::forbid_core_dumps();
    let config = arguments.config.as_ref().ok_or_else(|| Failure::usage("--config is needed"))?;
    let config = configuration(config)?;
    // The report goes there: found out before the rehearsal, not after it.
    files::readable_folder("--config: data", &config.data)?;
    let key = match &arguments.drill_key {
        None => None,
        Some(path) => {
            let missing = || {
                Failure::usage(format!("--drill-key: there is no file {}", path.display()))
                    .next("kura drill prepare draws one and stores what it opens")
            };
            Some(key_file(path)?.ok_or_else(missing)?)
        }
    };
    let place = arguments.from.as_deref().or(config.archive.as_ref().map(|archive| &archive.place[..]));
    let place = place.ok_or_else(|| {
        Failure::usage("--config: the configuration names no archive")
            .next("run it where the backup is, or name one with --from")
    })?;
    let configured = config.archive.as_ref().and_then(|archive| archive.storage.as_deref());
    let (option, configured) = match arguments.from {
        Some(_) => ("--from", None),
        None => ("--config: archive.place", configured),
    };
    let storage = match (arguments.storage.file.as_deref(), configured) {
        (None, Some(file)) => ("--config: archive.storage", Some(file)),
        (given, _) => ("--storage", given),
    };
    let store = open(option, place, storage)?;
    // An archive that was named for this once and is none says nothing of the cluster's: no drill has failed.
    if let Some(from) = &arguments.from
        && generations(&store).await?.is_empty()
    {
        return Err(Failure::new(
            Exit::NotFound,
            format!("--from: there is no archive in {from}: no manifest was found"),
        )
        .next("name the archive, or a copy of it; no drill was recorded"));
    }
    let head = arguments.head.as_deref().map(|path| head("--head", path)).transpose()?;
    // Whatever else is wrong with the archive is the drill's to find.
    if let (Some(head), Ok(Some(newest))) = (&head, newest(&store).await)
        && head.cluster_id() != newest.signed.manifest.head.cluster_id.0
    {
        return Err(Failure::usage("--head: the head is of another cluster than the archive")
            .next("name a head of this cluster (`kura audit head`); no drill was recorded"));
    }
    let scratch = Scratch::make(arguments.scratch.as_deref()).map_err(|error| {
        files::unmade("--scratch", arguments.scratch.as_deref().unwrap_or(&std::env::temp_dir()), &error)
    })?;
    let wanted = Wanted {
        store: &store,
        trusted: arguments.signed_by.clone(),
        witness: head.as_ref().zip(arguments.head.as_deref()).map(|(head, path)| Witness::of(head, is_fresh(path))),
        scratch: scratch.path(),
        key,
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
        if !report.opened && report.failed.is_none() {
            note("nothing that is sealed was opened: that takes --drill-key (kura drill prepare)");
        }
        if !report.head {
            note("without a kept head (--head) nobody can tell whether the archive's newest part was cut off");
        }
    }
    match report.failed {
        None => Ok(()),
        Some(why) => {
            let is_of_the_key = report.steps.last().is_some_and(|step| step.step == OPEN);
            Err(Failure::new(Exit::Damaged, format!("the drill failed: {why}")).next(match is_of_the_key {
                true => {
                    "give the key of the last `kura drill prepare` (--drill-key); or prepare anew, and run the drill once \
                     the archive has it"
                }
                false => "`kura archive verify --level replay` names everything that is wrong with the archive",
            }))
        }
    }
}
