//! `kura record list|history|inbox`: finding records.

use clap::Args;
use kura_client::{
    Class, DamagedRecord, Date, EmergencyId, InboxCursor, InboxEntry, Listed, Purpose, RecordId, Summary,
};
use serde::Serialize;

use crate::cli::acting::ActingOptions;
use crate::cli::exit::{DAMAGED, Exit, Failure};
use crate::cli::given::{in_order, text};
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, bytes, counted, moment, note};

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

/// The note on what is stored and does not open.
pub(in crate::cli) const DOES_NOT_OPEN: &str = "DOES NOT OPEN: damaged";
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
    let (mut all, mut damaged) = (0, 0);
    while let Some(listed) = stream.next().await {
        let listed = listed?;
        all += 1;
        damaged += u64::from(matches!(listed, Listed::Damaged(_)));
        // A program gets each as it comes; a table needs them all to fit its columns.
        if output.json {
            output.line(&listed)?;
        } else {
            kept.push(listed);
        }
    }
    if !output.json {
        print(&kept, output)?;
    }
    whole(damaged, all, "record")
}

/// Prints records.
pub(in crate::cli) fn print(records: &[Listed], output: Output) -> Result<(), Failure> {
    output.list(records, &HEADING, row)
}

/// Fails, after all was told, if some of it did not open.
pub(in crate::cli) fn whole(damaged: u64, all: u64, one: &str) -> Result<(), Failure> {
    let does = if damaged == 1 { "does" } else { "do" };
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Damaged, format!("{damaged} of {} {does} not open: damaged", counted(all, one)))
            .next(DAMAGED)),
    }
}

/// How many of these do not open, and how many there are.
pub(in crate::cli) fn count(listed: &[Listed]) -> (u64, u64) {
    let damaged = listed.iter().filter(|one| matches!(one, Listed::Damaged(_))).count();
    (damaged as u64, listed.len() as u64)
}

/// Runs `kura record history`.
pub async fn history(arguments: HistoryArguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    let acting = arguments.acting.act(Some(&number)).await?;
    let versions = match arguments.emergency {
        Some(emergency) => acting.emergency(&number, emergency).history(arguments.record).await?,
        None => acting.history(&number, arguments.record).await?,
    };
    output.list(&versions, &HISTORY_HEADING, history_row)?;
    let (damaged, all) = count(&versions);
    whole(damaged, all, "version")
}

fn row(listed: &Listed) -> Vec<String> {
    let mut row = vec![listed.record().to_string()];
    match listed {
        Listed::Record(summary) => {
            row.extend(about(summary));
            row.push(notes(summary));
        }
        Listed::Damaged(damaged) => {
            row.extend(about_damaged(damaged));
            row.push(DOES_NOT_OPEN.into());
        }
    }
    row
}

/// All are of one record, and differ by when they were written.
fn history_row(listed: &Listed) -> Vec<String> {
    let (about, written, notes) = match listed {
        Listed::Record(summary) => (about(summary), moment(summary.written_ms), notes(summary)),
        Listed::Damaged(damaged) => (about_damaged(damaged), String::new(), DOES_NOT_OPEN.into()),
    };
    about.into_iter().chain([written, notes]).collect()
}

fn about_damaged(damaged: &DamagedRecord) -> [String; 6] {
    fn told(known: Option<impl ToString>) -> String {
        known.map_or_else(String::new, |known| known.to_string())
    }
    let (version, class, date) = (told(damaged.version), told(damaged.class), told(damaged.clinical_date));
    [version, class, date, String::new(), String::new(), damaged.author_facility.clone()]
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
#[serde(untagged)]
enum Item {
    Record {
        participant: String,
        record: RecordId,
        version: u32,
        at_ms: u64,
        /// Where to go on after this page.
        cursor: Option<InboxCursor>,
    },
    Damaged {
        /// Always `true`.
        damaged: bool,
        /// Where in the inbox.
        place: InboxCursor,
        cursor: Option<InboxCursor>,
    },
}

impl Item {
    fn of(entry: InboxEntry, cursor: Option<InboxCursor>) -> Item {
        match entry {
            InboxEntry::Record(item) => Item::Record {
                participant: item.participant.reveal().to_owned(),
                record: item.record,
                version: item.version,
                at_ms: item.at_ms,
                cursor,
            },
            InboxEntry::Damaged { place } => Item::Damaged { damaged: true, place, cursor },
        }
    }

    fn row(&self) -> Vec<String> {
        match self {
            Item::Record { participant, record, version, at_ms, .. } => {
                vec![participant.clone(), record.to_string(), version.to_string(), moment(*at_ms), String::new()]
            }
            Item::Damaged { place, .. } => {
                let note = format!("{DOES_NOT_OPEN}, at {place}");
                [String::new(), String::new(), String::new(), String::new(), note].into()
            }
        }
    }
}

/// Runs `kura record inbox`.
pub async fn inbox(arguments: InboxArguments, output: Output) -> Result<(), Failure> {
    let acting = arguments.acting.act(None).await?;
    let mut cursor = arguments.since;
    let mut items = Vec::new();
    loop {
        let page = acting.inbox(cursor).await?;
        cursor = page.cursor;
        items.extend(page.items.into_iter().map(|entry| Item::of(entry, cursor)));
        if !page.more {
            break;
        }
    }
    output.list(&items, &["participant", "record", "version", "addressed", "note"], Item::row)?;
    if let (Some(cursor), false) = (cursor, output.json) {
        note(&format!("go on with --since {cursor}"));
    }
    let damaged = items.iter().filter(|item| matches!(item, Item::Damaged { .. })).count();
    whole(damaged as u64, items.len() as u64, "place")
}
