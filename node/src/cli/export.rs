//! `kura export`: a participant's own complete copy.

use std::path::PathBuf;

use clap::Args;

use super::acting::ActingOptions;
use super::exit::Failure;
use super::files;
use super::number::NumberArgument;
use super::output::{Output, Progress, bytes};
use super::record::{self, DOES_NOT_OPEN};
use crate::export::{Export, Reader, run as make};

/// Options of `kura export`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// Where the copy goes: a folder that is empty or not there yet. Run the same again to go on with a
    /// copy that was cut. It holds records in the clear.
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { number, out, acting } = arguments;
    let number = number.read()?;
    files::fits_folder("--out", &out)?;
    let reader = match acting.person(&number).await? {
        Some(person) => Reader::Participant(person),
        None if acting.user.is_some() => Reader::FacilityUser(acting.act(None).await?),
        None => {
            return Err(Failure::usage(
                "--as-registrar: a copy is made for the participant or for a user of a facility",
            )
            .next("add --as-participant or --as FACILITY/USER"));
        }
    };
    let progress = Progress::bytes();
    let manifest = make(&Export { reader, number, directory: out.clone() }, &progress).await?;
    drop(progress);
    let told = |count: Option<u64>| count.map_or("not open to this actor".into(), |count| count.to_string());
    let mut fields = vec![
        ("copy", out.display().to_string()),
        ("records", told(manifest.records)),
        ("versions", manifest.versions.to_string()),
        ("size", bytes(manifest.bytes)),
        ("journal entries", told(manifest.journal_entries)),
        ("sha256 of SHA256SUMS", manifest.sums_sha256.clone()),
    ];
    if manifest.damaged > 0 {
        fields.insert(3, (DOES_NOT_OPEN, manifest.damaged.to_string()));
    }
    output.thing(&manifest, &fields)?;
    record::whole(manifest.damaged, manifest.versions + manifest.damaged, "version")
}
