//! Receipts, as they are printed after a write.

use kura_client::registry::Registered;
use kura_client::{Reach, Receipt};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::{Output, note};

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
    #[serde(skip_serializing_if = "is_false")]
    nothing_to_end: bool,
    #[serde(skip_serializing_if = "is_false")]
    granted_before: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
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
        nothing_to_end: receipt.nothing_to_end(),
        granted_before: receipt.granted_before(),
    };
    let mut fields = Vec::new();
    if let (Some(record), Some(version)) = (&told.record, told.version) {
        fields.push(("record", record.clone()));
        fields.push(("version", version.to_string()));
    }
    if told.nothing_to_end {
        fields.push(("note", "nothing was granted to this facility: there was nothing to revoke".into()));
    }
    if told.granted_before {
        fields.push(("note", "the participant named this facility already: nothing was changed".into()));
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

/// A registration, as it is printed.
#[derive(Debug, Serialize)]
struct RegisteredTold {
    receipt: Receipt,
    /// The act that waits for a second registrar, if it takes one.
    proposed: Option<String>,
    request: String,
    journal_position: u64,
    warnings: Vec<String>,
}

/// Prints that a change would change nothing, and was not asked for: it is so already.
pub fn print_unchanged(output: Output) -> Result<(), Failure> {
    output.thing(
        &serde_json::json!({ "unchanged": true }),
        &[("unchanged", "it is so already: nothing was asked for".into())],
    )
}

/// Prints what became of a registration. What is only proposed ends with a code of its own.
pub fn print_registered(registered: &Registered, output: Output) -> Result<(), Failure> {
    let Registered { receipt, proposed, warnings } = registered;
    let told = RegisteredTold {
        receipt: *receipt,
        proposed: proposed.map(|act| act.to_string()),
        request: receipt.request().to_string(),
        journal_position: receipt.journal_position(),
        warnings: warnings.clone(),
    };
    let mut fields = vec![match &told.proposed {
        Some(act) => ("proposed as act", act.clone()),
        None => ("committed", words(receipt)),
    }];
    fields.push(("receipt", receipt.to_string()));
    output.thing(&told, &fields)?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    told.proposed.map_or(Ok(()), |act| {
        let message = format!("proposed as act {act}: it takes a second registrar and is not done yet");
        let next = format!(
            "another registrar looks at it with `kura act show {act}` and confirms with `kura act confirm {act}`"
        );
        Err(Failure::new(Exit::Proposed, message).next(next))
    })
}
