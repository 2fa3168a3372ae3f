//! `kura audit export`: the opened journal as NDJSON, one object a line, in order.
//!
//! Invariants
//! - Memory does not grow with the journal: entries are written as they come.
//! - A file is complete or not there ([`files::Output`]).

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::list::FilterOptions;
use super::told::Told;
use crate::cli::acting::ClientOption;
use crate::cli::exit::Failure;
use crate::cli::files;
use crate::cli::output::{Progress, moment, note, unwritten};

/// Between two looks of the progress at where it is.
const TOLD_EVERY: u64 = 1_000;

/// Options of `kura audit export`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// File to write; it must not exist. Standard output otherwise, and for `-`. It names participants and users: keep it
    /// as the records are kept.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { filter, out, client } = arguments;
    filter.check()?;
    let out = out.filter(|path| path.as_os_str() != "-");
    let out = out.map(|path| files::Output::begin_new("--out", &path)).transpose()?;
    let stream = filter.list(&client.connect().await?).oldest_first().stream();
    let entries = match out {
        None => write(stream, BufWriter::new(io::stdout())).await?,
        Some(out) => {
            let entries = write(stream, BufWriter::new(out.file()?)).await?;
            out.keep()?;
            entries
        }
    };
    note(&format!("{entries} entries"));
    Ok(())
}

async fn write(
    mut stream: kura_client::Listing<kura_client::Access, kura_client::ListError>,
    mut out: impl Write,
) -> Result<u64, Failure> {
    let progress = Progress::spinner();
    let failed = |error: io::Error| unwritten("cannot write the export", &error);
    let mut entries = 0_u64;
    while let Some(access) = stream.next().await {
        let access = access?;
        if entries.is_multiple_of(TOLD_EVERY) {
            progress.say(format!("{entries} entries, up to {}", moment(access.at_ms)));
        }
        let line = serde_json::to_vec(&Told::from(access)).map_err(Failure::failed)?;
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        entries += 1;
    }
    out.flush().map_err(failed)?;
    Ok(entries)
}
