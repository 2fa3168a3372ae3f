//! `kura archive verify`.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use kura_cluster::archive::{Fault, Sha256Hash};
use kura_cluster::hexadecimal;
use kura_cluster::seal::Key;
use serde::Serialize;

use super::Place;
use crate::archive::replay::Event;
use crate::archive::verify::{HeadFit, Level, Report, Request, Witness, verify};
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::files::unmade;
use crate::cli::given::{configuration, head, root_key, sha256};
use crate::cli::key::ask::gather;
use crate::cli::output::{Output, Progress, bytes, counted, moment, note};
use crate::clock::now_ms;
use crate::custody::Provider;
use crate::openings;

/// An archive that does not reach a head which was kept no longer ago than this may only be behind.
const HEAD_FRESH: Duration = Duration::from_secs(10 * 60);

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
    #[command(flatten)]
    root: Root,
    /// For --level open: about so many rows of each table, evenly spread, and the blocks of the records among them.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// For --level open: every row and every block.
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// A directory with room for a whole state, for --level replay and open; the system's for temporary files
    /// otherwise. What is made there is deleted.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
}

/// Where the root key comes from, for --level open.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Root {
    /// The root key, for --level open.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// For --level open: the root key from where this configuration of a voter has it, a file or a systemd credential;
    /// from shares, if it comes from those.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For --level open: the root key from shares, which are asked for once everything else was checked.
    #[arg(long)]
    shares: bool,
}

impl Arguments {
    /// What a run of these options cannot tell.
    fn not_checked(&self, level: Level) -> Vec<&'static str> {
        let of_level = match level {
            Level::Files => Some("the objects' contents: --level hash"),
            Level::Hash => Some("what the contents come to: --level replay"),
            Level::Replay => Some("whether what is sealed opens: --level open"),
            Level::Open if self.all => None,
            Level::Open => Some("rows beyond the sample, and older generations: --all, --generation"),
        };
        let of_generation = match self.generation {
            Some(_) => Some("the other generations' objects"),
            None if level == Level::Replay => Some("what older generations come to: --generation"),
            None => None,
        };
        not_vouched(!self.signed_by.is_empty(), self.head.is_some()).chain(of_level).chain(of_generation).collect()
    }
}

/// What opens.
enum Opens {
    Key(Key),
    Shares,
}

impl Root {
    fn find(&self) -> Result<Option<Opens>, Failure> {
        if let Some(path) = &self.root_key {
            return root_key(path).map(Opens::Key).map(Some);
        }
        if let Some(path) = &self.config {
            let config = configuration(path)?;
            let provider = config.root_key.as_ref().map(Provider::new);
            let provider = provider.ok_or_else(|| {
                Failure::usage(format!("--config: {} names no root_key: it takes a voter's", path.display()))
            })?;
            let key = provider.read().map_err(|error| Failure::usage(chain(&error)).of("--config: root_key"))?;
            return match (key, &provider) {
                (Some(key), _) => Ok(Some(Opens::Key(key))),
                (None, Provider::Shares) => Ok(Some(Opens::Shares)),
                (None, _) => {
                    Err(Failure::usage("--config: root_key: the root key is not where the configuration says")
                        .next("give it with --root-key FILE, or --shares"))
                }
            };
        }
        Ok(self.shares.then_some(Opens::Shares))
    }
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
    opened_blocks: u64,
    opened_bytes: u64,
    opened: Vec<Table>,
    keys: Vec<Signer>,
    holes: Vec<Hole>,
    /// What this run cannot tell, whatever it found.
    not_checked: Vec<&'static str>,
    /// How it stands to the kept head: `begins-with`, `reaches`, `beyond` or `another-journal`; null without one.
    head: Option<&'static str>,
    faults: Vec<String>,
}

/// What was opened of a table.
#[derive(Debug, Serialize)]
struct Table {
    table: &'static str,
    opened: u64,
    closed: u64,
    erased: u64,
}

#[derive(Debug, Serialize)]
struct Signer {
    sha256: String,
    manifests: u64,
}

#[derive(Debug, Serialize)]
struct Hole {
    before_generation: u64,
    first: u64,
    last: u64,
}

impl Told {
    fn of(report: &Report, not_checked: Vec<&'static str>) -> Self {
        let keys =
            report.keys.iter().map(|(sha256, manifests)| Signer { sha256: hexadecimal(sha256), manifests: *manifests });
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
            opened_blocks: report.opened.values().map(|table| table.blocks).sum(),
            opened_bytes: report.opened.values().map(|table| table.bytes).sum(),
            opened: (report.opened.iter())
                .map(|(&table, found)| Table {
                    table,
                    opened: found.opened,
                    closed: found.closed,
                    erased: found.erased,
                })
                .collect(),
            keys: keys.collect(),
            holes: holes.map(|&(before_generation, first, last)| Hole { before_generation, first, last }).collect(),
            not_checked,
            head: report.head.map(HeadFit::word),
            faults: report.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A directory that is deleted when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(wanted: Option<&Path>) -> Result<Scratch, Failure> {
        let parent = wanted.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("kura-verify-{}", hexadecimal(crate::random::id())));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| unmade("--scratch", &parent, &error))?;
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
    let opens = arguments.root.find()?;
    if (level == Level::Open) != opens.is_some() {
        return Err(Failure::usage("--level open takes the root key, and no other level does")
            .next("give it with --root-key FILE, --config FILE of a voter, or --shares"));
    }
    let scratch = Scratch::make(arguments.scratch.as_deref())?;
    let request = Request {
        level,
        generation: arguments.generation,
        trusted: arguments.signed_by.clone(),
        witness,
        scratch: &scratch.0,
    };
    let progress = Progress::bytes();
    let tell = |event: Event| match event {
        Event::Doing(words) => progress.say(words),
        Event::Bytes(count) => progress.add(count),
    };
    let (mut report, to_open) = verify(&store, &request, &tell).await?;
    if let (Some(to_open), Some(opens)) = (to_open, opens) {
        let root = match opens {
            Opens::Key(key) => key,
            Opens::Shares => {
                progress.keep("all else is checked; to open what is sealed takes shares of the root key");
                gather(&to_open.known().map_err(Failure::failed)?, &to_open.cluster_id()).await?
            }
        };
        let sample = if arguments.all { u64::MAX } else { arguments.sample };
        let what = match arguments.all {
            true => "kura archive verify, all rows".to_owned(),
            false => format!("kura archive verify, about {sample} rows of each table"),
        };
        note_opening(arguments.root.config.as_deref(), &what)?;
        tokio::task::block_in_place(|| to_open.open(root, sample, &mut report, &tell))?;
    }
    drop(progress);
    let told = Told::of(&report, arguments.not_checked(level));
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
    let signers = signers(&report.keys, !arguments.signed_by.is_empty());
    fields.extend(signers.into_iter().map(|words| ("signed by", words)));
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
        let which = if arguments.all { "all rows" } else { "a sample" };
        fields.push(("opened", format!("{} rows, {which}{erased}", told.opened_rows)));
        let contents = format!("{} blocks, {}, as their hashes say", told.opened_blocks, bytes(told.opened_bytes));
        fields.push(("contents", contents));
    }
    fields.extend(told.not_checked.iter().map(|words| ("not checked", (*words).to_owned())));
    if let (Some(fit), Some(witness)) = (report.head, &request.witness) {
        fields.push(("kept head", fit.words(witness.size)));
    }
    if report.faults.is_empty() {
        fields.push(("faults", "none in what was checked".into()));
    } else if level >= Level::Replay {
        fields.retain(|(name, _)| *name != "replayed");
    }
    for fault in &told.faults {
        fields.push(("FAULT", fault.clone()));
    }
    output.thing(&told, &fields)?;
    match report.faults.len() {
        0 => Ok(()),
        _ if report.faults.iter().all(Fault::is_lag) => Err(behind(&report.faults)),
        count => Err(Failure::new(Exit::Damaged, format!("the archive has {}", counted(count as u64, "fault")))
            .next(if report.faults.iter().any(|fault| matches!(fault, Fault::Short { .. })) {
                "an older copy: take a newer one. The archive itself: look whether its writer stands still (`kura status`); if it \
                 does not, its end was cut off: look for another copy of it (docs/operations.md, \"The archive\")"
            } else {
                "have what is named again from a copy, or begin a new base (docs/operations.md, \"The archive\")"
            })),
    }
}

/// What nobody can tell of an archive without the backup's key, or a head.
pub(in crate::cli) fn not_vouched(has_signers: bool, has_head: bool) -> impl Iterator<Item = &'static str> {
    let signers = (!has_signers).then_some(
        "who wrote it: any key was taken whose signatures fit. Who can write to the storage can make such a chain; name the \
         backup's key with --signed-by",
    );
    let head = (!has_head)
        .then_some("whether its newest part was cut off, and revocations with it: give a kept head with --head");
    signers.into_iter().chain(head)
}

/// Nothing is wrong but that the archive does not reach yet what was kept just now.
pub(in crate::cli) fn behind(faults: &[Fault]) -> Failure {
    let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Failure::new(Exit::Unavailable, words.join("; ")).next(format!(
        "wait for the archive to catch up (`kura status` tells how far it is), or take a newer copy, then run the same again \
         with the same file. If it still does not reach the head {} minutes after that was kept, its end was cut off or its \
         writer stands still",
        HEAD_FRESH.as_secs() / 60
    ))
}

/// Who signed an archive's manifests; whether only they might.
pub(in crate::cli) fn signers(keys: &BTreeMap<Sha256Hash, u64>, is_held: bool) -> Vec<String> {
    let held = match is_held {
        true => "",
        false => ": UNVERIFIED, anybody's key would do; hold it against the backup's as it was approved (--signed-by)",
    };
    keys.iter().map(|(key, manifests)| format!("{} ({manifests} manifests){held}", hexadecimal(key))).collect()
}

/// Leaves a note of what is about to be opened with the member that a configuration names, which journals it.
fn note_opening(config: Option<&Path>, what: &str) -> Result<(), Failure> {
    let data = config.map(configuration).transpose()?.map(|config| config.data);
    match data.filter(|data| data.is_dir()) {
        Some(data) => openings::note(&data, what, now_ms()).map_err(|error| Failure::failed(chain(&error))),
        None => {
            note("no journal will tell of this opening: no member's data is here to note it in; write it down by hand");
            Ok(())
        }
    }
}

/// A head that somebody kept; when, is told by its file's time.
pub(in crate::cli) fn witness(path: &Path) -> Result<Witness, Failure> {
    head("--head", path).map(|head| Witness::of(&head, is_fresh(path)))
}

/// Whether a head's file was written only just: an archive that does not reach it may then be behind.
pub(in crate::cli) fn is_fresh(path: &Path) -> bool {
    let kept = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    // A time to come is not trusted: then it is as if it had been kept long ago.
    let age = kept.ok().and_then(|kept| SystemTime::now().duration_since(kept).ok());
    age.is_some_and(|age| age <= HEAD_FRESH)
}
