//! `kura archive status`, `list`, `hold`, `release`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use kura_client::now_ms;
use kura_cluster::archive::keep::{KeepRules, Reason};
use kura_cluster::hexadecimal;
use kura_proto::v1;
use serde::Serialize;

use super::Place;
use crate::archive::check::NOTE;
use crate::archive::expire::{HOLDS, Plan, garbage, holds, plan};
use crate::archive::store::is_remote;
use crate::archive::{ArchiveStore, StoreError, catalog, export};
use crate::cli::exit::{Exit, Failure};
use crate::cli::given::{configuration, text};
use crate::cli::output::{Output, bytes, moment};
use crate::cli::status::scrub::{Scrub, in_words};
use crate::serve::checks;

/// No note of a check is longer.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Options of `kura archive status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    place: Place,
    /// Fail (exit code 7) if its newest manifest is older than so many seconds.
    #[arg(long, value_name = "SECONDS")]
    fail_if_older: Option<u64>,
}

/// Options of `kura archive list`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The backup's configuration: shows what its rules keep, and what would go with the next generation.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Options of `kura archive hold` and `release`.
#[derive(Debug, Args)]
pub struct HoldArguments {
    #[command(flatten)]
    place: Place,
    /// The generation, as `kura archive list` shows it.
    generation: u64,
    /// Why, for whoever lists it later.
    #[arg(long, value_parser = text)]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Told {
    cluster_id: String,
    timeline: u64,
    index: u64,
    at_ms: u64,
    age_seconds: u64,
    journal_size: u64,
    journal_root: String,
    manifest: u64,
    generation: u64,
    generations: usize,
    ledger_index: u64,
    writer: String,
    key_sha256: String,
    /// What its writer's last check found, as the note in it says, which is not signed; null: there is none.
    checked: Option<Scrub>,
    /// Whether the storage says that it keeps versions of what is replaced or deleted. Of a directory nobody knows.
    versions: Option<bool>,
    /// Of a copy: until when its keys may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_until_ms: Option<u64>,
}

/// Runs `kura archive status`.
pub async fn status(arguments: StatusArguments, output: Output) -> Result<(), Failure> {
    let store = arguments.place.open()?;
    let generations = catalog::generations(&store).await?.len();
    let found = catalog::newest(&store).await?;
    let found = found.ok_or_else(no_archive)?;
    let note = export::note(&store).await?;
    let (manifest, key) = (&found.signed.manifest, found.signed.key_sha256());
    let age_ms = now_ms().saturating_sub(manifest.at_ms);
    let checked = checked(&store).await?;
    let versions = match is_remote(store.place()) {
        true => Some(store.keeps_versions(&manifest.name().to_string()).await?),
        false => None,
    };
    let told = Told {
        cluster_id: hexadecimal(manifest.head.cluster_id.0),
        timeline: manifest.head.timeline,
        index: manifest.index(),
        at_ms: manifest.at_ms,
        age_seconds: age_ms / 1000,
        journal_size: manifest.head.journal_size,
        journal_root: hexadecimal(manifest.head.journal_root),
        manifest: manifest.sequence,
        generation: manifest.generation,
        generations,
        ledger_index: manifest.ledger.index,
        writer: manifest.writer.clone(),
        key_sha256: hexadecimal(key),
        checked: checked.as_ref().map(Scrub::from),
        versions,
        keys_until_ms: note.as_ref().map(|note| note.expires_ms),
    };
    let mut fields = vec![
        ("cluster", format!("{}, timeline {}", told.cluster_id, told.timeline)),
        ("ends at", format!("index {}, written {}, {} s ago", told.index, moment(told.at_ms), told.age_seconds)),
        ("journal", format!("{} entries, root {}", told.journal_size, told.journal_root)),
        ("manifest", format!("{} of generation {}", told.manifest, told.generation)),
        ("generations", told.generations.to_string()),
        ("key ledger", format!("of index {}", told.ledger_index)),
        ("written by", format!("{}, key {}", told.writer, told.key_sha256)),
        ("checked", checked.as_ref().map_or("no note of its writer's checks".into(), |check| in_words(Some(check)))),
        ("versions", in_versions(versions).into()),
    ];
    if let Some(note) = &note {
        let words = match note.expires_ms < now_ms() {
            true => format!("PAST since {}: bring this copy up to date, or destroy it", moment(note.expires_ms)),
            false => format!("until {}", moment(note.expires_ms)),
        };
        fields.push(("a copy, with keys", words));
    }
    output.thing(&told, &fields)?;
    match arguments.fail_if_older {
        Some(limit) if age_ms > limit.saturating_mul(1000) => Err(Failure::new(
            Exit::Damaged,
            format!("the newest manifest is {} s old, the limit is {limit} s", told.age_seconds),
        )
        .next("look at `kura status`, and at the backup's log")),
        _ => Ok(()),
    }
}

/// What the storage does with what is replaced or deleted. Object lock it never tells of.
fn in_versions(versions: Option<bool>) -> &'static str {
    match versions {
        Some(true) => "KEPT by the bucket: those below keys/ must end within a day, see docs/operations.md",
        Some(false) => "the bucket tells of none: nothing brings back what somebody deletes",
        None => "UNKNOWN: a directory; its file system may keep snapshots",
    }
}

/// The note of the writer's checks, if there is a readable one.
async fn checked(store: &ArchiveStore) -> Result<Option<v1::Scrub>, StoreError> {
    match store.get(NOTE, NOTE_BYTES_MAX).await {
        Ok(bytes) => Ok(checks::decode(&bytes)),
        Err(StoreError::Missing { .. } | StoreError::Long { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There is a directory, and nothing of an archive in it.
fn no_archive() -> Failure {
    Failure::new(Exit::NotFound, "there is no archive here: no manifest was found")
        .next("name the directory that `archive.place` of the backup's configuration names, or a copy of it")
}

#[derive(Debug, Serialize)]
struct Row {
    generation: u64,
    manifests: usize,
    timeline: u64,
    first_index: u64,
    last_index: u64,
    begun_ms: u64,
    ended_ms: u64,
    continues: bool,
    base_files: usize,
    base_bytes: u64,
    segment_bytes: u64,
    held: bool,
    kept: Option<Vec<&'static str>>,
}

/// Runs `kura archive list`.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let store = arguments.place.open()?;
    let rules = match &arguments.config {
        Some(path) => {
            let config = configuration(path)?;
            let archive =
                config.archive.ok_or_else(|| Failure::usage("--config: this node's configuration has no [archive]"))?;
            Some(archive.keep.rules())
        }
        None => None,
    };
    let planned = match &rules {
        Some(rules) => Some(plan_now(&store, rules).await?),
        None => None,
    };
    let held = holds(&store).await?;
    let kept: BTreeMap<u64, Vec<Reason>> = planned.as_ref().map(|plan| plan.kept.clone()).unwrap_or_default();
    let mut rows = Vec::new();
    let generations = catalog::generations(&store).await?;
    if generations.is_empty() {
        return Err(no_archive());
    }
    for generation in generations {
        let reasons = kept.get(&generation).cloned().unwrap_or_default();
        let words = rules.is_some().then(|| reasons.iter().map(|reason| reason.word()).collect());
        rows.push(row(&store, generation, held.contains(&generation), words).await?);
    }
    output.list(&rows, &["generation", "from", "to", "entries", "timeline", "base", "segments", "kept"], |row| {
        vec![
            row.generation.to_string(),
            moment(row.begun_ms),
            moment(row.ended_ms),
            format!("{} to {}{}", row.first_index, row.last_index, if row.continues { "" } else { ", not continued" }),
            row.timeline.to_string(),
            // With a no-break space: how many files and manifests these are, --json tells.
            bytes(row.base_bytes).replace(' ', "\u{a0}"),
            bytes(row.segment_bytes).replace(' ', "\u{a0}"),
            match &row.kept {
                Some(words) if words.is_empty() => "EXPIRES with the next".into(),
                Some(words) => words.join(" "),
                None if row.held => "held".into(),
                None => String::new(),
            },
        ]
    })?;
    if let Some(planned) = planned.filter(|planned| !planned.expiring.is_empty() && !output.json) {
        let garbage = garbage(&store, &planned).await?;
        let size = garbage.iter().map(|(_, bytes)| bytes).sum();
        crate::cli::note(&format!("with them would go {} objects, {}", garbage.len(), bytes(size)));
    }
    Ok(())
}

/// What the rules say now, without a generation that begins.
async fn plan_now(store: &ArchiveStore, rules: &KeepRules) -> Result<Plan, Failure> {
    let expired = catalog::expired(store).await?;
    Ok(plan(store, rules, &expired, None).await?)
}

async fn row(
    store: &ArchiveStore,
    generation: u64,
    held: bool,
    kept: Option<Vec<&'static str>>,
) -> Result<Row, Failure> {
    let sequences = catalog::manifests(store, generation).await?;
    let (mut row, mut segment_bytes) = (None, 0);
    for sequence in &sequences {
        let manifest = catalog::manifest(store, generation, *sequence).await?.signed.manifest;
        segment_bytes += manifest.segments().iter().map(|segment| segment.bytes).sum::<u64>();
        let base = manifest.base();
        let row = row.get_or_insert_with(|| Row {
            generation,
            manifests: sequences.len(),
            timeline: manifest.head.timeline,
            first_index: manifest.index(),
            last_index: 0,
            begun_ms: manifest.clock_ms,
            ended_ms: 0,
            continues: base.is_some_and(|base| base.continues) || generation == 1,
            base_files: base.map_or(0, |base| base.files.len()),
            base_bytes: base.map_or(0, |base| base.files.iter().map(|file| file.bytes).sum()),
            segment_bytes: 0,
            held,
            kept: kept.clone(),
        });
        (row.last_index, row.ended_ms, row.segment_bytes) = (manifest.index(), manifest.clock_ms, segment_bytes);
    }
    row.ok_or_else(|| Failure::new(Exit::Damaged, format!("generation {generation} has no manifest")))
}

#[derive(Debug, Serialize)]
struct Held {
    generation: u64,
    held: bool,
}

/// Runs `kura archive hold`.
pub async fn hold(arguments: HoldArguments, output: Output) -> Result<(), Failure> {
    let Some(reason) = arguments.reason else {
        return Err(Failure::usage("a hold takes a --reason").next("say why, for whoever may release it"));
    };
    let store = arguments.place.open()?;
    let generation = arguments.generation;
    if !catalog::generations(&store).await?.contains(&generation) {
        return Err(Failure::new(Exit::NotFound, format!("the archive has no generation {generation}"))
            .next("`kura archive list` shows them"));
    }
    store.replace(&format!("{HOLDS}/{generation:020}"), reason.into_bytes().into()).await?;
    let told = Held { generation, held: true };
    output.thing(&told, &[("generation", generation.to_string()), ("held", "yes".into())])
}

/// Runs `kura archive release`.
pub async fn release(arguments: HoldArguments, output: Output) -> Result<(), Failure> {
    let store = arguments.place.open()?;
    let generation = arguments.generation;
    if !holds(&store).await?.contains(&generation) {
        return Err(Failure::new(Exit::NotFound, format!("generation {generation} is not held"))
            .next("`kura archive list` shows which are"));
    }
    store.delete(&format!("{HOLDS}/{generation:020}")).await?;
    let told = Held { generation, held: false };
    output.thing(&told, &[("generation", generation.to_string()), ("held", "no".into())])
}
