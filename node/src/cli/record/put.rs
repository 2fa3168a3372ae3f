//! `kura record put`: a body of any length, in constant memory.

use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use clap::Args;
use kura_client::{Class, Date, NewRecord, RecordId, RequestId};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, Progress};
use crate::cli::receipt;

/// Options of `kura record put`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input, as the line before the body if
    /// that comes from there, too.
    number: NumberArgument,
    /// The body; `-` reads it from standard input.
    file: PathBuf,
    /// What it is: referral-letter, discharge-summary, laboratory-result, prescription, dispensing,
    /// image, allergy, care-record, checkup or document.
    #[arg(long)]
    class: Class,
    /// Its media type.
    #[arg(long, default_value = "application/octet-stream")]
    media_type: String,
    /// The clinical date, YYYY-MM-DD; today without it.
    #[arg(long, value_name = "DAY")]
    date: Option<Date>,
    /// The author's own id of the document: the same one is written once, however often it is put.
    #[arg(long, value_name = "ID")]
    document_id: Option<String>,
    /// A facility to which it is narrowed.
    #[arg(long, value_name = "FACILITY")]
    to: Vec<String>,
    /// A further version of this record.
    #[arg(long, value_name = "RECORD")]
    version_of: Option<RecordId>,
    /// The author, if another user of the same facility.
    #[arg(long, value_name = "USER")]
    author: Option<String>,
    /// Wait until the backup outside the prefecture has it.
    #[arg(long)]
    beyond_prefecture: bool,
    /// Repeat an earlier request.
    #[arg(long)]
    request: Option<RequestId>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    let body = open(&arguments.file).await?;
    let date = arguments.date.unwrap_or_else(Date::today);
    let mut record = NewRecord::new(arguments.class, arguments.media_type, date).addressees(arguments.to);
    if let Some(id) = arguments.document_id {
        record = record.document_id(id);
    }
    if let Some(earlier) = arguments.version_of {
        record = record.version_of(earlier);
    }
    if let Some(author) = arguments.author {
        record = record.author(author);
    }
    let acting = arguments.acting.act(Some(&number)).await?;
    let progress = Progress::bytes();
    let mut put = acting.put(&number, record).body(Counted { body, progress: progress.clone() });
    if arguments.beyond_prefecture {
        put = put.beyond_prefecture();
    }
    if let Some(request) = arguments.request {
        put = put.request(request);
    }
    let receipt = put.await?;
    drop(progress);
    receipt::print(&receipt, output)
}

type Body = Pin<Box<dyn AsyncRead + Send>>;

async fn open(path: &Path) -> Result<Body, Failure> {
    if path == Path::new("-") {
        let cannot = |error| Failure::usage(format!("cannot read standard input: {error}"));
        return Ok(Box::pin(standard_input().map_err(cannot)?));
    }
    let file = File::open(path).await;
    Ok(Box::pin(file.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?))
}

/// Standard input from where it stands: reading the number may have fetched more than its line.
fn standard_input() -> std::io::Result<impl AsyncRead + Send> {
    let mut input = std::io::stdin().lock();
    let fetched = input.fill_buf()?.to_vec();
    input.consume(fetched.len());
    let rest = File::from_std(std::fs::File::from(input.as_fd().try_clone_to_owned()?));
    Ok(std::io::Cursor::new(fetched).chain(rest))
}

/// A body whose bytes are counted as they are read.
struct Counted {
    body: Body,
    progress: Progress,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = self.body.as_mut().poll_read(cx, into);
        self.progress.add((into.filled().len() - before) as u64);
        read
    }
}
