//! `kura erasure …`: erasing participants who have left.

use clap::{Args, Subcommand};
use kura_client::{Erasure, ErasureActor, ErasureChange, ErasureEvent, ErasureState, ShownErasure};
use kura_cluster::hexadecimal;
use serde::Serialize;

use super::acting::{ActingOptions, ClientOption};
use super::exit::{Exit, Failure};
use super::given::text;
use super::number::NumberArgument;
use super::output::{Output, moment, table};
use super::receipt;

/// `kura erasure …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask that a participant who has left be erased (a registrar; with --as-participant the participant).
    Ask {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        /// Reference to the evidence; a registrar must give one.
        #[arg(long, value_parser = text)]
        evidence: Option<String>,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Approve an erasure that somebody else asked for: the grace period begins (registrars).
    Approve {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        #[command(flatten)]
        connection: ClientOption,
    },
    /// Stop an erasure, as long as the keys are there (a registrar; with --as-participant the participant).
    Stop {
        /// The participant's number; `-` reads it from standard input.
        number: NumberArgument,
        /// Why.
        #[arg(long, value_parser = text)]
        reason: Option<String>,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Every erasure, or those that have come so far (registrars, auditors).
    List {
        /// asked, approved, stopped, pending or certified.
        #[arg(long)]
        state: Option<ErasureState>,
        #[command(flatten)]
        connection: ClientOption,
    },
    /// How far an erasure has come, and what each member has reported (registrars, auditors; with
    /// --as-participant the participant).
    Show(ShowArguments),
    /// The certificate of an erasure; exit code 5 while it is not certified (registrars, auditors).
    Certificate(ShowArguments),
}

/// Options of `kura erasure show` and `certificate`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The participant's number, also after they are erased; `-` reads it from standard input.
    number: NumberArgument,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Ask { number, evidence, acting } => {
            let number = number.read()?;
            let change = match acting.as_participant {
                true => person(&acting, &number).await?.ask_erasure(),
                false => office(&acting).await?.ask(&number, evidence.unwrap_or_default()),
            };
            change_it(change, output).await
        }
        Command::Approve { number, connection } => {
            let number = number.read()?;
            change_it(connection.connect().await?.erasures().approve(&number), output).await
        }
        Command::Stop { number, reason, acting } => {
            let number = number.read()?;
            let change = match acting.as_participant {
                true => person(&acting, &number).await?.stop_erasure(reason.unwrap_or_default()),
                false => office(&acting).await?.stop(&number, reason.unwrap_or_default()),
            };
            change_it(change, output).await
        }
        Command::List { state, connection } => list(state, &connection, output).await,
        Command::Show(arguments) => {
            let shown = shown(arguments).await?;
            print(&shown, output)
        }
        Command::Certificate(arguments) => {
            let shown = shown(arguments).await?;
            if shown.erasure.state != ErasureState::Certified {
                let why = format!("the erasure is {}: there is no certificate yet", shown.erasure.state);
                return Err(Failure::new(Exit::Unavailable, why).next(until_certified(shown.erasure.state)));
            }
            print(&shown, output)
        }
    }
}

/// What is missing before there is a certificate.
fn until_certified(state: ErasureState) -> &'static str {
    match state {
        ErasureState::Asked => "another registrar approves it: `kura erasure approve NUMBER`",
        ErasureState::Approved => "wait for the end of the grace period: `kura erasure show NUMBER` tells when that is",
        ErasureState::Stopped => "it was stopped; ask anew if it shall go on: `kura erasure ask NUMBER`",
        _ => "`kura erasure show NUMBER` tells which members have not reported yet",
    }
}

async fn change_it(change: ErasureChange, output: Output) -> Result<(), Failure> {
    receipt::print(&change.await?, output)
}

async fn person(
    acting: &ActingOptions,
    number: &kura_client::ParticipantNumber,
) -> Result<kura_client::Person, Failure> {
    acting.person(number).await?.ok_or_else(not_for_users)
}

async fn office(acting: &ActingOptions) -> Result<kura_client::Erasures, Failure> {
    if acting.user.is_some() {
        return Err(not_for_users());
    }
    acting.check_registrar()?;
    Ok(acting.connection.connect().await?.erasures())
}

fn not_for_users() -> Failure {
    Failure::usage("erasure is the participant's and the registrars'")
        .next("use --as-participant, or a registrar's client configuration without --as")
}

async fn shown(arguments: ShowArguments) -> Result<ShownErasure, Failure> {
    let number = arguments.number.read()?;
    Ok(match arguments.acting.as_participant {
        true => person(&arguments.acting, &number).await?.erasure().await?,
        false => office(&arguments.acting).await?.show(&number).await?,
    })
}

async fn list(state: Option<ErasureState>, connection: &ClientOption, output: Output) -> Result<(), Failure> {
    let mut list = connection.connect().await?.erasures().list();
    if let Some(state) = state {
        list = list.state(state);
    }
    let mut erasures = list.stream();
    let mut items = Vec::new();
    while let Some(erasure) = erasures.next().await {
        items.push(Told::from(&erasure?));
    }
    output.list(&items, &["erasure", "participant", "state", "asked", "approved", "grace ends", "erased"], |told| {
        vec![
            told.id.clone(),
            told.participant.clone().unwrap_or_default(),
            told.state.to_string(),
            moment(told.asked_ms),
            moment(told.approved_ms),
            moment(told.grace_until_ms),
            moment(told.erased_ms),
        ]
    })
}

#[derive(Debug, Serialize)]
struct Told {
    id: String,
    participant: Option<String>,
    state: ErasureState,
    asked_by: Option<Who>,
    asked_ms: u64,
    evidence: String,
    approved_by: Option<Who>,
    approved_ms: u64,
    grace_until_ms: u64,
    stopped_by: Option<Who>,
    stopped_ms: u64,
    stop_reason: String,
    erased_ms: u64,
    swept_ms: u64,
    keys_last_index: u64,
    reports: Vec<Report>,
    exports: Vec<String>,
    unreported_members: Vec<String>,
    certified_ms: u64,
    timeline: u64,
}

#[derive(Debug, Serialize)]
struct Who {
    kind: kura_client::ActorKind,
    name: String,
}

#[derive(Debug, Serialize)]
struct Report {
    member: String,
    raft_id: u64,
    purged_index: u64,
    log_compacted: bool,
    keys_compacted: bool,
    checkpoints_gone: bool,
    at_ms: u64,
    complete: bool,
    archive: Option<Archive>,
}

#[derive(Debug, Serialize)]
struct Archive {
    index: u64,
    ledger_index: u64,
    keys_gone: bool,
    generations: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Event {
    action: kura_client::Action,
    journal_position: u64,
    at_ms: u64,
    journal_leaf: Option<String>,
}

/// What is printed of one erasure: also its certificate.
#[derive(Debug, Serialize)]
struct Certificate {
    cluster: String,
    #[serde(flatten)]
    erasure: Told,
    events: Vec<Event>,
}

impl From<&ErasureActor> for Who {
    fn from(actor: &ErasureActor) -> Self {
        Self { kind: actor.kind, name: actor.name.clone() }
    }
}

impl From<&Erasure> for Told {
    fn from(erasure: &Erasure) -> Self {
        let who = |actor: &Option<ErasureActor>| actor.as_ref().map(Who::from);
        let report = |report: &kura_client::ErasureReport| Report {
            member: report.member.clone(),
            raft_id: report.raft_id,
            purged_index: report.purged_index,
            log_compacted: report.log_compacted,
            keys_compacted: report.keys_compacted,
            checkpoints_gone: report.checkpoints_gone,
            at_ms: report.at_ms,
            complete: report.complete,
            archive: report.archive.as_ref().map(|held| Archive {
                index: held.index,
                ledger_index: held.ledger_index,
                keys_gone: held.keys_gone,
                generations: held.generations.clone(),
            }),
        };
        Self {
            id: hexadecimal(erasure.id),
            participant: erasure.participant.map(|number| number.reveal().to_owned()),
            state: erasure.state,
            asked_by: who(&erasure.asked_by),
            asked_ms: erasure.asked_ms,
            evidence: erasure.evidence.clone(),
            approved_by: who(&erasure.approved_by),
            approved_ms: erasure.approved_ms,
            grace_until_ms: erasure.grace_until_ms,
            stopped_by: who(&erasure.stopped_by),
            stopped_ms: erasure.stopped_ms,
            stop_reason: erasure.stop_reason.clone(),
            erased_ms: erasure.erased_ms,
            swept_ms: erasure.swept_ms,
            keys_last_index: erasure.keys_last_index,
            reports: erasure.reports.iter().map(report).collect(),
            exports: erasure.exports.clone(),
            unreported_members: erasure.unreported_members.clone(),
            certified_ms: erasure.certified_ms,
            timeline: erasure.timeline,
        }
    }
}

impl From<&ErasureEvent> for Event {
    fn from(event: &ErasureEvent) -> Self {
        Self {
            action: event.action,
            journal_position: event.journal_position,
            at_ms: event.at_ms,
            journal_leaf: event.journal_leaf.map(hexadecimal),
        }
    }
}

/// What is known of the archive that a member writes.
fn archive(report: &Report) -> Option<String> {
    let held = report.archive.as_ref()?;
    let keys = match held.keys_gone {
        true => format!("the keys are gone from its ledger (archived up to {})", held.index),
        false => format!("its ledger may still hold the keys (archived up to {})", held.index),
    };
    let numbers: Vec<String> = held.generations.iter().map(u64::to_string).collect();
    let rows = match numbers.is_empty() {
        true => "no generation has rows of before".to_owned(),
        false => format!("sealed rows may lie in generation {} until it expires", numbers.join(", ")),
    };
    Some(format!("of {}: {keys}; {rows}", report.member))
}

fn print(shown: &ShownErasure, output: Output) -> Result<(), Failure> {
    let told = Certificate {
        cluster: hexadecimal(shown.cluster),
        erasure: Told::from(&shown.erasure),
        events: shown.events.iter().map(Event::from).collect(),
    };
    let erasure = &told.erasure;
    let by =
        |who: &Option<Who>, at_ms| who.as_ref().map(|who| format!("{} by {} {}", moment(at_ms), who.kind, who.name));
    let mut fields = vec![("cluster", told.cluster.clone()), ("erasure", erasure.id.clone())];
    fields.extend(erasure.participant.clone().map(|number| ("participant", number)));
    fields.push(("state", erasure.state.to_string()));
    fields.extend(by(&erasure.asked_by, erasure.asked_ms).map(|words| ("asked", words)));
    if !erasure.evidence.is_empty() {
        fields.push(("evidence", erasure.evidence.clone()));
    }
    fields.extend(by(&erasure.approved_by, erasure.approved_ms).map(|words| ("approved", words)));
    fields.extend(by(&erasure.stopped_by, erasure.stopped_ms).map(|words| ("stopped", words)));
    for (name, at_ms) in [
        ("grace period ends", erasure.grace_until_ms),
        ("keys destroyed", erasure.erased_ms),
        ("rows swept", erasure.swept_ms),
        ("certified", erasure.certified_ms),
    ] {
        if at_ms != 0 {
            fields.push((name, moment(at_ms)));
        }
    }
    if erasure.erased_ms != 0 {
        let none = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        fields.push(("log index", format!("{} (timeline {})", erasure.keys_last_index, erasure.timeline)));
        // Nobody fills it yet: its being empty must not look like an answer.
        let exports = if erasure.exports.is_empty() { "not known".into() } else { erasure.exports.join(", ") };
        fields.push(("exports with keys", exports));
        fields.push(("removed, no report", none(&erasure.unreported_members)));
        let mut archives: Vec<String> = erasure.reports.iter().filter_map(archive).collect();
        if archives.is_empty() {
            archives.push("no present member has told of one".into());
        }
        fields.push(("archive", archives.join("; ")));
    }
    output.thing(&told, &fields)?;
    if output.json {
        return Ok(());
    }
    if !erasure.reports.is_empty() {
        let mut reports = table(&["member", "log purged to", "log", "keys", "checkpoints", "reported"]);
        for report in &erasure.reports {
            let word = |done: bool| if done { "gone".to_owned() } else { "not yet".to_owned() };
            reports.add_row([
                report.member.clone(),
                report.purged_index.to_string(),
                word(report.log_compacted),
                word(report.keys_compacted),
                word(report.checkpoints_gone),
                if report.complete { moment(report.at_ms) } else { String::new() },
            ]);
        }
        output.table(reports)?;
    }
    let mut events = table(&["journal position", "what", "when", "leaf"]);
    for event in &told.events {
        events.add_row([
            event.journal_position.to_string(),
            event.action.to_string(),
            moment(event.at_ms),
            event.journal_leaf.clone().unwrap_or_default(),
        ]);
    }
    output.table(events)
}
