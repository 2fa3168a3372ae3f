//! `kura record list|history|inbox`: finding records.

use clap::Args;
use kura_client::{Class, Date, EmergencyId, InboxCursor, Purpose, RecordId, Summary};
use serde::Serialize;

use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::given::{in_order, text};
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, bytes, moment, note};

/// Options of `kura record list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// Only this class.
    #[arg(long)]
    class: Vec<Class>,
    /// Only since this clinical day, YYYY-MM-DD.
    #[arg(long, value_name = "DAY")]
    since: Option<Date>,
    /// Only until this clinical day, YYYY-MM-DD.
    #[arg(long, value_name = "DAY")]
    until: Option<Date>,
    /// Only written by this facility.
    #[arg(long, value_name = "FACILITY", value_parser = text)]
    author_facility: Option<String>,
    /// What for: care, own or audit.
    #[arg(long)]
    purpose: Option<Purpose>,
    /// Under an emergency that the user opened: allergies come first.
    #[arg(long, value_name = "ID")]
    emergency: Option<EmergencyId>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Options of `kura record history`.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record.
    record: RecordId,
    /// Under an emergency that the user opened.
    #[arg(long, value_name = "ID")]
    emergency: Option<EmergencyId>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Options of `kura record inbox`.
#[derive(Debug, Args)]
pub struct InboxArguments {
    /// Only since the cursor of an earlier run.
    #[arg(long, value_name = "CURSOR")]
    since: Option<InboxCursor>,
    #[command(flatten)]
    acting: ActingOptions,
}

const HEADING: [&str; 8] = ["record", "version", "class", "of", "media type", "size", "author", "note"];
const HISTORY_HEADING: [&str; 8] = ["version", "class", "of", "media type", "size", "author", "written", "note"];

/// Runs `kura record list`.
pub async fn list(arguments: ListArguments, output: Output) -> Result<(), Failure> {
    in_order(arguments.since, arguments.until)?;
    let number = arguments.number.read()?;
    let purpose = match arguments.purpose {
        Some(purpose) => purpose,
        None if arguments.acting.as_participant => Purpose::Own,
        None => Purpose::Care,
    };
    let mut list = arguments.acting.act(Some(&number)).await?.list(&number).purpose(purpose);
    for class in arguments.class {
        list = list.class(class);
    }
    if let Some(since) = arguments.since {
        list = list.since(since);
    }
    if let Some(until) = arguments.until {
        list = list.until(until);
    }
    if let Some(facility) = arguments.author_facility {
        list = list.author_facility(facility);
    }
    if let Some(emergency) = arguments.emergency {
        list = list.under(emergency);
    }
    let mut stream = list.stream();
    let mut kept = Vec::new();
    while let Some(summary) = stream.next().await {
        let summary = summary?;
        // A program gets each as it comes; a table needs them all to fit its columns.
        if output.json {
            output.line(&summary)?;
        } else {
            kept.push(summary);
        }
    }
    if output.json { Ok(()) } else { print(&kept, output) }
}

/// Prints records.
pub(in crate::cli) fn print(records: &[Summary], output: Output) -> Result<(), Failure> {
    output.list(records, &HEADING, row)
}

/// Runs `kura record history`.
pub async fn history(arguments: HistoryArguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    let acting = arguments.acting.act(Some(&number)).await?;
    let versions = match arguments.emergency {
        Some(emergency) => acting.emergency(&number, emergency).history(arguments.record).await?,
        None => acting.history(&number, arguments.record).await?,
    };
    output.list(&versions, &HISTORY_HEADING, history_row)
}

fn row(summary: &Summary) -> Vec<String> {
    let mut row = vec![summary.record.to_string()];
    row.extend(about(summary));
    row.push(notes(summary));
    row
}

/// All are of one record, and differ by when they were written.
fn history_row(summary: &Summary) -> Vec<String> {
    let mut row = about(summary).to_vec();
    row.extend([moment(summary.written_ms), notes(summary)]);
    row
}

fn about(summary: &Summary) -> [String; 6] {
    [
        summary.version.to_string(),
        summary.class.to_string(),
        summary.clinical_date.to_string(),
        summary.media_type.clone(),
        bytes(summary.bytes),
        format!("{}/{}", summary.author_facility, summary.author_user),
    ]
}

fn notes(summary: &Summary) -> String {
    let mut notes = Vec::new();
    if summary.hidden {
        notes.push("hidden".to_owned());
    }
    if !summary.addressees.is_empty() {
        notes.push(format!("to {}", summary.addressees.join(", ")));
    }
    if let Some(related) = &summary.related {
        notes.push(format!("{} {}", related.relation, related.record));
    }
    if let Some(other) = &summary.replaced_by {
        notes.push(format!("replaced by {other}"));
    }
    if let Some(confirmation) = &summary.confirmation {
        notes.push(format!("confirmed by {}", confirmation.user));
    }
    if summary.signed {
        let found = summary.signature_check.map_or("not checked", |result| result.word());
        notes.push(format!("signature {found}"));
    }
    notes.join("; ")
}

#[derive(Debug, Serialize)]
struct Item {
    participant: String,
    record: RecordId,
    version: u32,
    at_ms: u64,
    /// Where to go on after this page.
    cursor: Option<InboxCursor>,
}

/// Runs `kura record inbox`.
pub async fn inbox(arguments: InboxArguments, output: Output) -> Result<(), Failure> {
    let acting = arguments.acting.act(None).await?;
    let mut cursor = arguments.since;
    let mut items = Vec::new();
    loop {
        let page = acting.inbox(cursor).await?;
        cursor = page.cursor;
        let item = |item: kura_client::InboxItem| Item {
            participant: item.participant.reveal().to_owned(),
            record: item.record,
            version: item.version,
            at_ms: item.at_ms,
            cursor,
        };
        items.extend(page.items.into_iter().map(item));
        if !page.more {
            break;
        }
    }
    output.list(&items, &["participant", "record", "version", "addressed"], |item| {
        vec![item.participant.clone(), item.record.to_string(), item.version.to_string(), moment(item.at_ms)]
    })?;
    if let (Some(cursor), false) = (cursor, output.json) {
        note(&format!("go on with --since {cursor}"));
    }
    Ok(())
}
