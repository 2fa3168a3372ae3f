//! `kura audit …`: who accessed what, when, from where and on which basis.

use clap::{Args, Subcommand};
use kura_client::{Access, Date};
use serde::Serialize;

use super::acting::ActingOptions;
use super::exit::Failure;
use super::number::NumberArgument;
use super::output::{Output, moment};

/// `kura audit …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who accessed a participant's records; asked as the participant if nobody else is named.
    List(ListArguments),
}

/// Options of `kura audit list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// Only since this day in Japan, YYYY-MM-DD.
    #[arg(long, value_name = "DAY")]
    since: Option<Date>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// One access, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    journal_position: u64,
    at_ms: u64,
    actor_kind: &'static str,
    facility: String,
    actor: String,
    method: Option<&'static str>,
    application: String,
    action: String,
    record: Option<String>,
    version: u32,
    class: Option<&'static str>,
    basis: String,
    denial: String,
    purpose: Option<&'static str>,
    object: String,
    reason: String,
    count: u32,
}

/// Heading of the table of accesses.
pub(crate) const HEADING: [&str; 7] = ["when (Japan)", "facility", "who", "did", "class", "basis", "through"];

impl From<Access> for Told {
    fn from(access: Access) -> Self {
        Self {
            journal_position: access.journal_position,
            at_ms: access.at_ms,
            actor_kind: access.actor_kind.word(),
            facility: access.facility,
            actor: access.actor,
            method: access.method.map(|method| method.word()),
            application: access.application,
            action: access.action.to_string(),
            record: access.record.map(|record| record.to_string()),
            version: access.version,
            class: access.class.map(|class| class.word()),
            basis: access.basis,
            denial: access.denial,
            purpose: access.purpose.map(|purpose| purpose.word()),
            object: access.object,
            reason: access.reason,
            count: access.count,
        }
    }
}

impl Told {
    /// Position in the journal: the order of what happened.
    pub(crate) fn journal_position(&self) -> u64 {
        self.journal_position
    }

    /// The row of the table.
    pub(crate) fn row(&self) -> Vec<String> {
        let who = if self.actor_kind == "participant" { "the participant".into() } else { self.actor.clone() };
        let basis = if self.denial.is_empty() { self.basis.clone() } else { format!("DENIED: {}", self.denial) };
        vec![
            moment(self.at_ms),
            self.facility.clone(),
            who,
            self.action.clone(),
            self.class.unwrap_or_default().to_owned(),
            basis,
            self.application.clone(),
        ]
    }
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let Command::List(ListArguments { number, since, mut acting }) = command;
    let number = number.read()?;
    acting.as_participant |= acting.user.is_none() && acting.as_auditor.is_none();
    let mut accesses = acting.act(Some(&number)).await?.accesses(&number);
    if let Some(since) = since {
        accesses = accesses.since(since);
    }
    let mut stream = accesses.stream();
    let mut kept = Vec::new();
    while let Some(access) = stream.next().await {
        let told = Told::from(access?);
        // A program gets each as it comes; a table needs them all to fit its columns.
        if output.json {
            output.line(&told)?;
        } else {
            kept.push(told);
        }
    }
    if output.json { Ok(()) } else { output.list(&kept, &HEADING, Told::row) }
}
