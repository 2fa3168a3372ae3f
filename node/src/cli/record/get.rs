//! `kura record get`: a body of any length, in constant memory; several by [`super::several`].
//!
//! Invariants
//! - A file of the name asked for is there only if all of it is ([`files::Output`]).
//! - Nothing is read, and no access journalled, before it is known that the file can be made.

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use kura_client::{EmergencyId, ParticipantNumber, Purpose, Record, RecordId};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::files;
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, Progress, bytes, note, unwritten};
use crate::cli::record::several;

/// Options of `kura record get`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record; several with --to, up to 64, under one decision and one journal entry.
    #[arg(required = true)]
    record: Vec<RecordId>,
    /// Where the body goes, into a file that only its owner may read; without it, to standard output, which --json does not
    /// go with. An existing file is replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A directory in which each record gets a file named by its id, or a directory of its parts.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "version", "range", "part"])]
    to: Option<PathBuf>,
    /// Another version than the newest.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// Only the part of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "range")]
    part: Option<String>,
    /// What for: care, own or audit.
    #[arg(long)]
    purpose: Option<Purpose>,
    /// Only these bytes, FIRST..END (END excluded; may be left out).
    #[arg(long, value_name = "FIRST..END")]
    range: Option<Span>,
    /// Under an emergency that the user opened.
    #[arg(long, value_name = "ID")]
    emergency: Option<EmergencyId>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    end: Option<u64>,
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write FIRST..END, such as 0..1048576 or 1048576..";
        let (first, end) = text.split_once("..").ok_or(WRONG)?;
        let first = if first.is_empty() { 0 } else { first.parse().map_err(|_| WRONG)? };
        let end = if end.is_empty() { None } else { Some(end.parse().map_err(|_| WRONG)?) };
        if end.is_some_and(|end: u64| end <= first) { Err(WRONG) } else { Ok(Self { first, end }) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.first)?;
        self.end.map_or(Ok(()), |end| write!(f, "{end}"))
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    files::unless_ended(get(arguments, number, output)).await
}

async fn get(arguments: Arguments, number: ParticipantNumber, output: Output) -> Result<(), Failure> {
    if let Some(to) = &arguments.to {
        let acting = arguments.acting.act(Some(&number)).await?;
        let mut get = acting.get_several(&number, arguments.record.clone()).purpose(purpose(&arguments));
        if let Some(emergency) = arguments.emergency {
            get = get.under(emergency);
        }
        return several::run(get, to, output).await;
    }
    let [record] = arguments.record[..] else {
        return Err(Failure::usage("several records are given").next("name a directory for them with --to DIR"));
    };
    // Before anything is asked and journalled.
    if output.json && arguments.out.is_none() {
        return Err(Failure::usage("--json: the body itself goes to standard output")
            .next("name a file for the body (--out FILE) or a directory (--to DIR), or leave out --json"));
    }
    let out = arguments.out.as_deref().map(|path| files::Output::begin("--out", path)).transpose()?;
    let record = read(&arguments, &number, record).await?;
    let progress = Progress::bytes();
    let length = record.range().end - record.range().start;
    let mut into = match &out {
        Some(out) => File::from_std(out.file()?),
        None => {
            let cannot = |error| Failure::failed(format!("cannot write to standard output: {error}"));
            File::from_std(std::io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?.into())
        }
    };
    let summary = record.summary();
    let told = (summary.record, summary.version, record.journal_position());
    pour(record.into_reader(), &mut into, &progress).await?;
    drop(progress);
    let (Some(out), Some(path)) = (out, &arguments.out) else { return Ok(()) };
    out.keep()?;
    let (record, version, journal_position) = told;
    if output.json {
        let file = path.clone();
        let told = Told { record: record.to_string(), version, bytes: length, journal_position, file };
        return output.line(&told);
    }
    note(&format!("{} in {}", bytes(length), path.display()));
    Ok(())
}

/// What was written into a file.
#[derive(Debug, Serialize)]
struct Told {
    record: String,
    version: u32,
    /// Of the body, or of the part or range that was asked for.
    bytes: u64,
    journal_position: u64,
    file: PathBuf,
}

fn purpose(arguments: &Arguments) -> Purpose {
    match arguments.purpose {
        Some(purpose) => purpose,
        None if arguments.acting.as_participant => Purpose::Own,
        None => Purpose::Care,
    }
}

async fn read(arguments: &Arguments, number: &ParticipantNumber, record: RecordId) -> Result<Record, Failure> {
    let acting = arguments.acting.act(Some(number)).await?;
    let mut get = acting.get(number, record).purpose(purpose(arguments));
    if let Some(part) = &arguments.part {
        get = get.part(part);
    }
    if let Some(version) = arguments.version {
        get = get.version(version);
    }
    if let Some(emergency) = arguments.emergency {
        get = get.under(emergency);
    }
    match arguments.range {
        Some(Span { first, end: Some(end) }) => get = get.range(first..end),
        Some(Span { first, end: None }) => get = get.range(first..),
        None => {}
    }
    Ok(get.await?)
}

async fn pour(
    mut body: impl AsyncBufRead + Unpin,
    out: &mut (impl AsyncWrite + Unpin),
    progress: &Progress,
) -> Result<(), Failure> {
    loop {
        let chunk = body.fill_buf().await?;
        let length = chunk.len();
        if length == 0 {
            break;
        }
        out.write_all(chunk).await.map_err(|error| unwritten("cannot write", &error))?;
        body.consume(length);
        progress.add(length as u64);
    }
    out.flush().await.map_err(|error| unwritten("cannot write", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!("0..10".parse(), Ok(Span { first: 0, end: Some(10) }));
        assert_eq!("..10".parse(), Ok(Span { first: 0, end: Some(10) }));
        assert_eq!("5..".parse(), Ok(Span { first: 5, end: None }));
        for wrong in ["", "5", "5..5", "6..5", "a..b", "-1..5"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?}");
        }
    }
}
