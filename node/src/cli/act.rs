//! `kura act …`: what takes two registrars.

use clap::{Args, Subcommand};
use kura_client::registry::{Act, Difference};
use kura_client::{ActId, ActState};
use kura_cluster::hexadecimal;
use serde::Serialize;

use super::acting::ClientOption;
use super::exit::Failure;
use super::output::{Output, moment, note, readable, shown, table};
use super::receipt;
use super::registry::Because;

/// `kura act …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The acts that wait for a second registrar, oldest first (registrars, auditors).
    List(ListArguments),
    /// What an act will change: before and after (registrars, auditors).
    Show(ShowArguments),
    /// Confirm what another registrar proposed, as it is shown: it is done at once.
    Confirm(ShowArguments),
    /// Reject what was proposed, or take it back.
    Reject(RejectArguments),
}

/// Options of `kura act list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Also those that were confirmed, rejected, or have expired.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura act show` and `confirm`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The act's id.
    id: ActId,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura act reject`.
#[derive(Debug, Args)]
pub struct RejectArguments {
    /// The act's id.
    id: ActId,
    #[command(flatten)]
    because: Because,
}

/// An act, as it is printed.
#[derive(Debug, Serialize)]
struct Told {
    act: String,
    kind: &'static str,
    object: String,
    state: &'static str,
    reason: String,
    proposed_by: String,
    proposed_ms: u64,
    expires_ms: u64,
    closed_by: String,
    closed_ms: Option<u64>,
    sha256: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change>,
}

/// A field that an act changes.
#[derive(Debug, Serialize)]
struct Change {
    field: String,
    /// None: what is there by now is not what it was proposed for.
    before: Option<String>,
    after: String,
}

impl Told {
    fn of(act: &Act, with_changes: bool) -> Self {
        // What a closed act replaced, and what a stale one would replace by now, is not what it was proposed for.
        let is_fresh = act.state == ActState::Proposed && !act.stale;
        let change = |Difference { field, before, after }| Change { field, before: is_fresh.then_some(before), after };
        let changes = if with_changes { act.differences().into_iter().map(change).collect() } else { Vec::new() };
        Self {
            act: act.id.to_string(),
            kind: act.kind().word(),
            object: act.object().to_owned(),
            state: state(act),
            reason: act.reason.clone(),
            proposed_by: act.proposed_by.clone(),
            proposed_ms: act.proposed_ms,
            expires_ms: act.expires_ms,
            closed_by: act.closed_by.clone(),
            closed_ms: act.closed_ms,
            sha256: hexadecimal(act.sha256),
            changes,
        }
    }
}

fn state(act: &Act) -> &'static str {
    match act.state {
        ActState::Proposed if act.expired => "expired",
        ActState::Proposed if act.stale => "stale",
        state => state.word(),
    }
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List(ListArguments { all, client }) => {
            let mut acts = client.connect().await?.registry().acts(all);
            let mut items = Vec::new();
            while let Some(act) = acts.next().await {
                items.push(Told::of(&act?, false));
            }
            // Few enough columns that an id stays in one line; `act show` has the rest.
            output.list(&items, &["act", "kind", "about", "state", "proposed by", "expires"], |one| {
                vec![
                    one.act.clone(),
                    one.kind.into(),
                    one.object.clone(),
                    one.state.into(),
                    one.proposed_by.clone(),
                    moment(one.expires_ms),
                ]
            })
        }
        Command::Show(ShowArguments { id, client }) => {
            let told = Told::of(&client.connect().await?.registry().act(id).await?, true);
            let mut fields = vec![
                ("act", told.act.clone()),
                ("kind", told.kind.into()),
                ("about", told.object.clone()),
                ("state", told.state.into()),
                ("proposed", format!("{} by {}", moment(told.proposed_ms), told.proposed_by)),
                ("reason", told.reason.clone()),
                ("expires", moment(told.expires_ms)),
            ];
            if let Some(at_ms) = told.closed_ms {
                fields.push(("closed", format!("{} by {}", moment(at_ms), told.closed_by)));
            }
            output.thing(&told, &fields)?;
            if output.json { Ok(()) } else { output.text(&changes(&told)) }
        }
        Command::Confirm(ShowArguments { id, client }) => {
            let registry = client.connect().await?.registry();
            let act = registry.act(id).await?;
            // What is confirmed is what stands here, whatever the cluster shows to others.
            if state(&act) == ActState::Proposed.word() {
                note(&changes(&Told::of(&act, true)));
            }
            receipt::print(&registry.confirm(&act).await?, output)
        }
        Command::Reject(RejectArguments { id, because }) => {
            receipt::print(&because.registry().await?.reject(id).await?, output)
        }
    }
}

/// Field by field. Of an act that is closed or stale only what it asks for: what it was to replace is not kept.
fn changes(told: &Told) -> String {
    let is_fresh = told.changes.iter().all(|change| change.before.is_some());
    let mut rows = if is_fresh { table(&["field", "before", "after"]) } else { table(&["field", "as proposed"]) };
    for Change { field, before, after } in &told.changes {
        let after = readable(field, after);
        match before {
            Some(before) => rows.add_row([field.clone(), readable(field, before), after]),
            None => rows.add_row([field.clone(), after]),
        };
    }
    shown(rows)
}
