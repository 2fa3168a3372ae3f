//! Receipts, as they are printed after a write.

use kura_client::{Reach, Receipt};
use serde::Serialize;

use super::exit::Failure;
use super::output::Output;

#[derive(Debug, Serialize)]
struct Told {
    receipt: Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    request: String,
    index: u64,
    journal_position: u64,
    reach: &'static str,
    repeated: bool,
}

/// Prints a receipt.
pub fn print(receipt: &Receipt, output: Output) -> Result<(), Failure> {
    let record = (!receipt.record().is_nil()).then(|| receipt.record().to_string());
    let told = Told {
        receipt: *receipt,
        version: record.is_some().then(|| receipt.version()),
        record,
        request: receipt.request().to_string(),
        index: receipt.index(),
        journal_position: receipt.journal_position(),
        reach: receipt.reach().word(),
        repeated: receipt.repeated(),
    };
    let mut fields = Vec::new();
    if let (Some(record), Some(version)) = (&told.record, told.version) {
        fields.push(("record", record.clone()));
        fields.push(("version", version.to_string()));
    }
    fields.push(("committed", words(receipt)));
    fields.push(("receipt", receipt.to_string()));
    output.thing(&told, &fields)
}

fn words(receipt: &Receipt) -> String {
    let reach = match receipt.reach() {
        Reach::BeyondPrefecture => "yes, and beyond the prefecture",
        Reach::NotYetBeyond => "yes, not yet beyond the prefecture (ask `kura record outcome` later)",
        Reach::NoBackup => "yes; the cluster has no backup",
        Reach::NotAwaited => "yes",
    };
    if receipt.repeated() { format!("{reach}; by an earlier run of the same write") } else { reach.to_owned() }
}
