//! `kura record show`: what is told of a record beside its body.

use clap::Args;
use kura_client::{EmergencyId, Part, Purpose, Record, RecordId, SignatureCheck, Summary};
use kura_cluster::hexadecimal;
use serde::Serialize;

use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, bytes, moment};

/// Options of `kura record show`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The record.
    record: RecordId,
    /// Another version than the newest.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// What for: care, own or audit.
    #[arg(long)]
    purpose: Option<Purpose>,
    /// Under an emergency that the user opened.
    #[arg(long, value_name = "ID")]
    emergency: Option<EmergencyId>,
    #[command(flatten)]
    acting: ActingOptions,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    parts: Vec<ToldPart<'a>>,
    signature_bytes: usize,
    timestamp_token_bytes: usize,
    signature_result: &'a str,
    check: Option<&'a SignatureCheck>,
}

#[derive(Debug, Serialize)]
struct ToldPart<'a> {
    name: &'a str,
    media_type: &'a str,
    bytes: u64,
    sha256: String,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    let purpose = match arguments.purpose {
        Some(purpose) => purpose,
        None if arguments.acting.as_participant => Purpose::Own,
        None => Purpose::Care,
    };
    let acting = arguments.acting.act(Some(&number)).await?;
    let mut get = acting.get(&number, arguments.record).purpose(purpose);
    if let Some(version) = arguments.version {
        get = get.version(version);
    }
    if let Some(emergency) = arguments.emergency {
        get = get.under(emergency);
    }
    print(&get.await?, output)
}

fn print(record: &Record, output: Output) -> Result<(), Failure> {
    let summary = record.summary();
    let told = Told {
        summary,
        parts: record.parts().iter().map(told_part).collect(),
        signature_bytes: record.signature().len(),
        timestamp_token_bytes: record.timestamp_token().len(),
        signature_result: record.signature_result(),
        check: record.signature_check(),
    };
    let at = |user: &str, at_ms| format!("{user}, {}", moment(at_ms));
    let mut fields = vec![
        ("record", summary.record.to_string()),
        ("version", summary.version.to_string()),
        ("class", summary.class.to_string()),
        ("of", summary.clinical_date.to_string()),
        ("media type", summary.media_type.clone()),
        ("size", bytes(summary.bytes)),
        ("facility", summary.author_facility.clone()),
        ("author", at(&summary.author_user, summary.authored_ms)),
        ("enterer", at(&summary.enterer_user, summary.entered_ms)),
    ];
    if let Some(confirmation) = &summary.confirmation {
        fields.push(("confirmed", at(&confirmation.user, confirmation.at_ms)));
    }
    fields.push(("written", moment(summary.written_ms)));
    if summary.hidden {
        fields.push(("hidden", "yes, from all but its author's facility".to_owned()));
    }
    if !summary.addressees.is_empty() {
        fields.push(("narrowed to", summary.addressees.join(", ")));
    }
    if let Some(related) = &summary.related {
        fields.push((related.relation.word(), related.record.to_string()));
    }
    if let Some(other) = &summary.replaced_by {
        fields.push(("replaced by", other.to_string()));
    }
    if summary.signed || !record.timestamp_token().is_empty() {
        fields.push(("signature, as stated", record.signature_result().to_owned()));
        fields.push(("signature, as checked", checked(record.signature_check())));
    }
    for part in &told.parts {
        fields.push(("part", format!("{}, {}, {}, {}", part.name, part.media_type, bytes(part.bytes), part.sha256)));
    }
    output.thing(&told, &fields)
}

fn told_part(part: &Part) -> ToldPart<'_> {
    ToldPart { name: &part.name, media_type: &part.media_type, bytes: part.bytes, sha256: hexadecimal(part.sha256) }
}

fn checked(check: Option<&SignatureCheck>) -> String {
    let Some(check) = check else { return "not checked".into() };
    let mut words = check.result.map_or("none", |result| result.word()).to_owned();
    if !check.why.is_empty() {
        words.push_str(&format!(": {}", check.why));
    }
    match check.timestamp_ms {
        Some(at_ms) => words.push_str(&format!("; timestamp of {}", moment(at_ms))),
        None if !check.timestamp_why.is_empty() => words.push_str(&format!("; timestamp: {}", check.timestamp_why)),
        None => {}
    }
    words
}
