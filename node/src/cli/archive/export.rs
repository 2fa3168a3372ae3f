//! `kura archive export`.

use std::path::PathBuf;

use clap::Args;
use kura_client::now_ms;
use serde::Serialize;

use super::Place;
use crate::archive::ArchiveStore;
use crate::archive::export::{Exported, export};
use crate::archive::replay::Event;
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Progress, bytes, moment, note};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Options of `kura archive export`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// An empty directory, or one that holds a copy made before.
    #[arg(long, value_name = "DIRECTORY")]
    to: PathBuf,
    /// How many of the newest generations. Older ones in the copy are deleted.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    generations: u32,
    /// For how many days its wrapped keys may be kept. Somebody who is erased meanwhile stays in the copy until
    /// it is brought up to date or destroyed.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3660))]
    keys_days: u64,
}

#[derive(Debug, Serialize)]
struct Told {
    generations: u64,
    first_generation: u64,
    index: u64,
    sent_objects: u64,
    sent_bytes: u64,
    deleted_objects: u64,
    keys_until_ms: u64,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let from = arguments.place.open()?;
    let target = arguments.to.display().to_string();
    let to = ArchiveStore::open_or_make(&target).map_err(|error| Failure::from(error).of("--to"))?;
    let made_ms = now_ms();
    let keys_until_ms = made_ms + arguments.keys_days * DAY_MS;
    let progress = Progress::bytes();
    let tell = |event: Event| match event {
        Event::Doing(words) => progress.say(words),
        Event::Bytes(count) => progress.add(count),
    };
    let generations = usize::try_from(arguments.generations).unwrap_or(usize::MAX);
    let exported = export(&from, &to, generations, (made_ms, keys_until_ms), &tell).await?;
    drop(progress);
    let Exported { generations, first_generation, index, objects, bytes: sent_bytes, deleted } = exported;
    let told = Told {
        generations,
        first_generation,
        index,
        sent_objects: objects,
        sent_bytes,
        deleted_objects: deleted,
        keys_until_ms,
    };
    let fields = [
        ("copy", target.clone()),
        ("generations", format!("{generations}, from generation {first_generation} on, up to index {index}")),
        ("sent", format!("{objects} objects, {}", bytes(sent_bytes))),
        ("deleted", format!("{deleted} objects")),
        ("keys until", moment(keys_until_ms)),
    ];
    output.thing(&told, &fields)?;
    note(&format!("check it where it will be kept: kura archive verify {target} --level replay"));
    Ok(())
}
