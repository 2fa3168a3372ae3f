//! `kura emergency …`: a physician reads a participant's records without being named by them.

use clap::{Args, Subcommand};
use kura_client::{EmergencyId, Listed, Receipt};
use serde::Serialize;

use super::acting::ActingOptions;
use super::exit::Failure;
use super::given::text;
use super::number::NumberArgument;
use super::output::{Output, moment, note};
use super::record;

/// `kura emergency …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open an emergency and list the participant's records, allergies first. The participant sees the reason;
    /// auditors look at each emergency.
    Open(OpenArguments),
}

/// Options of `kura emergency open`.
#[derive(Debug, Args)]
pub struct OpenArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// Why: the participant and the auditors read it.
    #[arg(long, value_parser = text)]
    reason: String,
    #[command(flatten)]
    acting: ActingOptions,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    emergency: EmergencyId,
    expires_ms: Option<u64>,
    receipt: Option<&'a Receipt>,
    records: &'a [Listed],
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let Command::Open(OpenArguments { number, reason, acting }) = command;
    let number = number.read()?;
    let (emergency, records) = acting.act(Some(&number)).await?.open_emergency(&number, reason).and_list().await?;
    let (expires_ms, receipt) = (emergency.expires_ms(), emergency.receipt());
    let told = Told { emergency: emergency.id(), expires_ms, receipt, records: &records };
    let until = expires_ms.map_or_else(String::new, moment);
    output.thing(&told, &[("emergency", told.emergency.to_string()), ("until", until)])?;
    if !output.json {
        record::print(&records, output)?;
        note(&format!("go on with --emergency {}: kura record get, show, list, history", told.emergency));
    }
    let (damaged, all) = record::count(&records);
    record::whole(damaged, all, "record")
}
