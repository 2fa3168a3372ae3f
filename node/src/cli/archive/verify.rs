//! `kura archive verify`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kura_client::JournalHead;
use serde::Serialize;

use super::Place;
use crate::archive::replay::Event;
use crate::archive::verify::{Level, Report, Request, Witness, verify};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, Progress, bytes, hexadecimal, moment, note};
use crate::vault::read_root_key;

/// How much is looked at, each with all of the ones before it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelName {
    /// The chain of manifests; every object is there, with its length.
    Files,
    /// Every object's content.
    Hash,
    /// Base and segments come to the state that each manifest names.
    Replay,
    /// What is sealed in that state opens with the root key.
    Open,
}

/// Options of `kura archive verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How much to look at.
    #[arg(long, value_enum, default_value_t = LevelName::Hash)]
    level: LevelName,
    /// Only this generation's objects. Otherwise all are looked at, and the newest is replayed.
    #[arg(long)]
    generation: Option<u64>,
    /// Only this key (SHA-256, hexadecimal) may have signed: the backup's, as it was approved. Can be given more
    /// than once.
    #[arg(long, value_name = "SHA256", value_parser = sha256)]
    signed_by: Vec<[u8; 32]>,
    /// A head of the journal that somebody kept (`kura audit head`): the archive must reach it, and a replay must
    /// come to it. Without one nobody can tell that the newest part was cut off.
    #[arg(long, value_name = "HEAD_FILE")]
    head: Option<PathBuf>,
    /// The root key, for --level open.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// For --level open: about so many rows of each table, evenly spread.
    #[arg(long, default_value_t = 10_000)]
    sample: u64,
    /// A directory with room for a whole state, for --level replay and open; the system's for temporary files
    /// otherwise. What is made there is deleted.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
}

pub(in crate::cli) fn sha256(text: &str) -> Result<[u8; 32], &'static str> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("a SHA-256 has 64 hexadecimal digits");
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| "not hexadecimal")?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| "not hexadecimal")?;
    }
    Ok(bytes)
}

#[derive(Debug, Serialize)]
struct Told {
    generations: u64,
    manifests: u64,
    objects: u64,
    bytes: u64,
    index: u64,
    journal_size: u64,
    at_ms: u64,
    replayed_entries: u64,
    opened_rows: u64,
    erased_rows: u64,
    keys: Vec<Key>,
    holes: Vec<Hole>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Key {
    sha256: String,
    manifests: u64,
}

#[derive(Debug, Serialize)]
struct Hole {
    before_generation: u64,
    first: u64,
    last: u64,
}

impl From<&Report> for Told {
    fn from(report: &Report) -> Self {
        let keys =
            report.keys.iter().map(|(sha256, manifests)| Key { sha256: hexadecimal(sha256), manifests: *manifests });
        let holes = report.holes.iter();
        Told {
            generations: report.generations,
            manifests: report.manifests,
            objects: report.objects,
            bytes: report.bytes,
            index: report.index,
            journal_size: report.journal_size,
            at_ms: report.at_ms,
            replayed_entries: report.replayed,
            opened_rows: report.opened.values().map(|table| table.opened).sum(),
            erased_rows: report.opened.values().map(|table| table.erased).sum(),
            keys: keys.collect(),
            holes: holes.map(|&(before_generation, first, last)| Hole { before_generation, first, last }).collect(),
            faults: report.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A directory that is deleted when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(wanted: Option<&Path>) -> Result<Scratch, Failure> {
        let parent = wanted.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("kura-verify-{}", hexadecimal(&crate::random::id())));
        let made = std::fs::create_dir(&path);
        made.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            note(&format!("{} could not be deleted: {error}", self.0.display()));
        }
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let store = arguments.place.open()?;
    let witness = arguments.head.as_deref().map(witness).transpose()?;
    let level = match arguments.level {
        LevelName::Files => Level::Files,
        LevelName::Hash => Level::Hash,
        LevelName::Replay => Level::Replay,
        LevelName::Open => Level::Open,
    };
    let root_key = match &arguments.root_key {
        Some(path) => {
            let key = read_root_key(path).map_err(Failure::usage)?;
            Some(key.ok_or_else(|| Failure::usage(format!("{} is not there", path.display())))?)
        }
        None if level == Level::Open => {
            return Err(Failure::usage("--level open takes the root key").next("give it with --root-key FILE"));
        }
        None => None,
    };
    let scratch = Scratch::make(arguments.scratch.as_deref())?;
    let request = Request {
        level,
        generation: arguments.generation,
        trusted: arguments.signed_by.clone(),
        witness,
        root_key,
        sample: arguments.sample,
        scratch: &scratch.0,
    };
    let progress = Progress::bytes();
    let tell = |event: Event| match event {
        Event::Doing(words) => progress.say(words),
        Event::Bytes(count) => progress.add(count),
    };
    let report = verify(&store, &request, &tell).await?;
    drop(progress);
    let told = Told::from(&report);
    let mut fields = vec![
        ("generations", report.generations.to_string()),
        ("manifests", report.manifests.to_string()),
        ("objects", format!("{}, {}", report.objects, bytes(report.bytes))),
        (
            "ends at",
            format!(
                "index {}, journal of {} entries, written {}",
                report.index,
                report.journal_size,
                moment(report.at_ms)
            ),
        ),
    ];
    for key in &told.keys {
        let held = if arguments.signed_by.is_empty() { ", which nothing was held against" } else { "" };
        fields.push(("signed by", format!("{} ({} manifests){held}", key.sha256, key.manifests)));
    }
    for hole in &told.holes {
        let Hole { before_generation, first, last } = hole;
        fields.push(("never archived", format!("entries {first} to {last}, before generation {before_generation}")));
    }
    if level >= Level::Replay {
        fields.push(("replayed", format!("{} entries, digests as the manifests name them", report.replayed)));
    }
    if level >= Level::Open {
        let erased =
            if told.erased_rows > 0 { format!(", {} of erased participants", told.erased_rows) } else { String::new() };
        fields.push(("opened", format!("{} rows{erased}", told.opened_rows)));
    }
    if report.faults.is_empty() {
        fields.push(("faults", "none".into()));
    } else if level >= Level::Replay {
        fields.retain(|(name, _)| *name != "replayed");
    }
    for fault in &told.faults {
        fields.push(("FAULT", fault.clone()));
    }
    output.thing(&told, &fields)?;
    if arguments.head.is_none() && !output.json {
        note("without a kept head (--head) nobody can tell whether the newest part was cut off");
    }
    match report.faults.len() {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Damaged, format!("the archive has {count} faults"))
            .next("have what is named again from a copy, or begin a new base (docs/operations.md, \"The archive\")")),
    }
}

pub(in crate::cli) fn witness(path: &Path) -> Result<Witness, Failure> {
    let head = JournalHead::read(path)
        .map_err(|error| Failure::usage(format!("{} holds no head: {error}", path.display())))?;
    Ok(Witness { index: head.index(), size: head.size(), root: head.root() })
}
