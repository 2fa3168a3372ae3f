//! `kura member scrub`: has a member check its own files, and waits for what it finds.

use std::time::Duration;

use kura_client::operations::Operations;
use kura_client::{Client, Endpoint, OperationError, wire};

use crate::cli::acting::ClientOption;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, Progress, note};
use crate::cli::status::endpoint;
use crate::cli::status::scrub::{DAMAGED, Scrub, in_words};

const LOOK: Duration = Duration::from_millis(300);
/// A member that found damage asks the others before it ends or goes on.
const DECIDES: Duration = Duration::from_secs(10);
/// Looks in a row that get no answer before the member counts as gone.
const SILENT_LOOKS_MAX: u32 = 10;

/// Runs it.
pub(super) async fn run(client: &ClientOption, at: &str, waits: bool, output: Output) -> Result<(), Failure> {
    let mut config = client.config()?;
    let endpoint = match endpoint(&config, at)? {
        Some(endpoint) => endpoint,
        // A configuration names voters as a rule; the cluster knows its backup, too.
        None => found(&client.connect().await?.operations(), at).await?,
    };
    let name = endpoint.name.clone();
    config.endpoints = vec![endpoint];
    let operations = Client::connect(config).await?.operations();
    let mut scrub = operations.scrub_member(&name).await?;
    if waits {
        scrub = ended(&operations, &name).await?;
    }
    if output.json {
        output.line(&Scrub::from(&scrub))?;
    } else {
        note(&format!("{name}: {}", in_words(Some(&scrub))));
    }
    match scrub.result {
        DAMAGED if !scrub.running => Err(damaged(&name, &scrub.words, &goes_on_because(&operations, &name).await)),
        3 if waits => {
            Err(Failure::new(Exit::Unavailable, format!("{name} could not check its files: {}", scrub.words))
                .next("see its log; then try again, or look at `kura status` when it has checked them by itself"))
        }
        _ => Ok(()),
    }
}

async fn found(operations: &Operations, name: &str) -> Result<Endpoint, Failure> {
    let status = operations.status().await?;
    let member = status.members.iter().find(|member| member.name == name);
    let member = member.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("{name} is not a member"))
            .next("check the name: `kura member list` shows the members")
    })?;
    Ok(Endpoint { name: member.name.clone(), address: member.address.clone() })
}

fn damaged(name: &str, words: &str, goes_on_because: &str) -> Failure {
    let failure = |told: String| Failure::new(Exit::Damaged, told);
    match goes_on_because {
        "" => failure(format!("{name} is damaged: {words}"))
            .next("it has stopped; rebuild it under a new id: kura member replace"),
        why => failure(format!("{name} is damaged, and goes on, as {why}. Damaged: {words}")).next(
            "start the members that are down, or replace the other damaged one (kura member replace): then this one \
             stops by itself, and is replaced; where several are damaged at a time, look for one cause first",
        ),
    }
}

/// Why a damaged member goes on; empty if it has stopped.
async fn goes_on_because(operations: &Operations, name: &str) -> String {
    let end = tokio::time::Instant::now() + DECIDES;
    while tokio::time::Instant::now() < end {
        let Ok(status) = operations.status_of(name).await else { break };
        let own = status.members.into_iter().find(|member| member.name == name);
        let why = own.and_then(|member| member.scrub).unwrap_or_default().goes_on_because;
        if !why.is_empty() {
            return why;
        }
        tokio::time::sleep(LOOK).await;
    }
    String::new()
}

async fn ended(operations: &Operations, name: &str) -> Result<wire::Scrub, Failure> {
    let progress = Progress::spinner();
    let mut silent = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        match operations.status_of(name).await {
            Ok(status) => {
                silent = 0;
                let own = status.members.iter().find(|member| member.name == name);
                let scrub = own.and_then(|member| member.scrub.clone()).unwrap_or_default();
                if !scrub.running {
                    return Ok(scrub);
                }
                if scrub.waiting {
                    progress.wait_for("the check of another member");
                    continue;
                }
                progress.wait_for(&format!("{} %", scrub.bytes_done * 100 / scrub.bytes_total.max(1)));
            }
            Err(error @ OperationError::Later(_)) => {
                silent += 1;
                if silent > SILENT_LOOKS_MAX {
                    let told = format!("{name} does not answer any more: {error}");
                    return Err(Failure::new(Exit::Unavailable, told)
                        .next("a member that finds damage stops: see `kura status`, then its log"));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
