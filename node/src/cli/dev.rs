//! `kura dev`: a whole cluster on this machine until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure, not_made};
use super::files;
use super::output::{Output, Progress, note, table};
use crate::dev::{ClientFile, Cluster, DevError, Options};

/// How often children are looked after.
const LOOK: Duration = Duration::from_millis(500);

/// Options of `kura dev`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where everything lies; made if it is not there, gone on with if it is.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Voters.
    #[arg(long, default_value_t = 3)]
    voters: u32,
    /// Backup members.
    #[arg(long, default_value_t = 1)]
    backups: u32,
    /// First of two ports for each member; free ones are chosen without it.
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Told {
    directory: PathBuf,
    nodes: Vec<Node>,
    clients: Vec<PathBuf>,
    archives: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    address: String,
    metrics: String,
    process: Option<u32>,
    log: PathBuf,
}

impl From<DevError> for Failure {
    fn from(error: DevError) -> Self {
        let exit = match &error {
            // What is there already is something else, or somebody's.
            DevError::InUse { .. } | DevError::NotOurs { .. } | DevError::OtherSize { .. } => Exit::Conflict,
            DevError::Members { .. } | DevError::Plan { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        let failure = Failure::new(exit, super::chain(&error));
        match &error {
            DevError::File { .. } => not_made(&error),
            DevError::Members { .. } => failure.of("--voters and --backups"),
            DevError::NotOurs { .. } | DevError::OtherSize { .. } | DevError::Plan { .. } => failure.of("--data"),
            DevError::InUse { .. } => failure
                .of("--data")
                .next("end the `kura dev` or `kura demo` that runs there (Ctrl-C), or name another directory (--data)"),
            DevError::Ports { .. } => {
                failure.next("choose another --base-port, or leave it out: then free ones are found")
            }
            DevError::Ended { .. } => {
                failure.next("if another program has taken its port, end that one; then start the same again")
            }
            _ => failure,
        }
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { data, voters, backups, base_port } = arguments;
    files::folder("--data", &data)?;
    let cannot = |error| Failure::failed(format!("cannot wait for signals: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(cannot)?;
    let progress = Progress::spinner();
    let options = Options { voters, backups, base_port, shares: true, ..Options::new(data)? };
    let say = |words: &str| progress.say(words);
    let mut cluster = tokio::select! {
        started = Cluster::start(options, &say) => started?,
        // Dropping the start kills what it began; the next start begins anew.
        _ = interrupted.recv() => return Err(Failure::failed("interrupted before the cluster was up")),
        _ = terminated.recv() => return Err(Failure::failed("interrupted before the cluster was up")),
    };
    drop(progress);
    tell(&cluster, output)?;
    if let Some(words) = borne(voters) {
        note(&words);
    }
    loop {
        tokio::select! {
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            () = tokio::time::sleep(LOOK) => {
                if let Err(error) = cluster.check() {
                    note(&format!("{error}\n  the others go on; Ctrl-C and a new start bring it back"));
                }
            }
        }
    }
    note("stopping");
    let badly = cluster.stop().await?;
    if badly.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} did not stop in order; see their logs", badly.join(", "))))
}

/// What a number of voters does not bear, if that is not what people expect of it.
fn borne(voters: u32) -> Option<String> {
    let bears = voters.saturating_sub(1) / 2;
    match voters {
        1 | 2 => Some("note: fewer than 3 voters bear no loss: when one is down nothing is served".into()),
        _ if voters.is_multiple_of(2) => Some(format!(
            "note: {voters} voters bear the loss of {bears}, as {} do: more than half have to run",
            voters - 1
        )),
        _ => None,
    }
}

fn tell(cluster: &Cluster, output: Output) -> Result<(), Failure> {
    let layout = cluster.layout();
    let node = |member: &crate::dev::Member| Node {
        name: member.name.clone(),
        address: member.address(),
        metrics: format!("http://{}/metrics", member.metrics_address()),
        process: cluster.process_id(&member.name),
        log: layout.node_log(&member.name),
    };
    let told = Told {
        directory: layout.directory().to_owned(),
        nodes: cluster.plan().members.iter().map(node).collect(),
        clients: ClientFile::ALL.map(|file| layout.client(file)).to_vec(),
        archives: cluster.plan().members.iter().filter(|one| one.backup).map(|one| layout.archive(&one.name)).collect(),
    };
    if output.json {
        return output.line(&told);
    }
    let mut nodes = table(&["node", "address", "metrics", "process", "log"]);
    for Node { name, address, metrics, process, log } in told.nodes {
        let process = process.map_or_else(String::new, |id| id.to_string());
        nodes.add_row([name, address, metrics, process, log.display().to_string()]);
    }
    output.table(nodes)?;
    output.text("client configurations (for --client or KURA_CLIENT):")?;
    for path in told.clients {
        output.text(&format!("  {}", path.display()))?;
    }
    for path in told.archives {
        output.text(&format!("archive (for kura archive): {}", path.display()))?;
    }
    if layout.shares().exists() {
        output.text(&format!(
            "shares of the root key, 2 of 3, for trying recovery (kept like this here alone): {}",
            layout.shares().display()
        ))?;
    }
    output.text(&format!(
        "for example:\n  kura status --client {}\nCtrl-C stops the cluster; the same command starts it again.",
        layout.client(ClientFile::Operator).display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_their_number_of_voters_does_not_bear() {
        for (voters, told) in
            [(1, Some("no loss")), (2, Some("no loss")), (3, None), (4, Some("of 1, as 3 do")), (5, None)]
        {
            assert_eq!(borne(voters).is_some(), told.is_some(), "{voters}");
            assert!(borne(voters).is_none_or(|words| words.contains(told.unwrap_or_default())), "{voters}");
        }
    }
}
