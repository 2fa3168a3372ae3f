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
/// Looks in a row that get no answer before the member counts as gone.
const SILENT_LOOKS_MAX: u32 = 10;

/// Runs it.
pub(super) async fn run(client: &ClientOption, at: &str, waits: bool, output: Output) -> Result<(), Failure> {
    let mut config = client.config()?;
    let endpoint = match endpoint(&config, at) {
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
        DAMAGED if !scrub.running => Err(damaged(&name, &scrub.words)),
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

fn damaged(name: &str, words: &str) -> Failure {
    Failure::new(Exit::Damaged, format!("{name} is damaged: {words}"))
        .next("it has stopped; rebuild it under a new id: kura member replace")
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
