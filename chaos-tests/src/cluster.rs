//! The cluster under test: real `kura` processes on this machine.
//!
//! It is made by `kura dev`, which walks the documented way from bare hosts to a cluster, and is then
//! stopped; after that each node is run by itself, so that any of them can be killed. A cluster
//! [apart](found) walks that way itself: each of its nodes has a network namespace and a disk of its own.
//!
//! Invariants
//! - A missing binary is an error, never a reason to skip.
//! - The directory lies on a real disk, is removed after a run that went well and kept otherwise.

mod found;
mod members;
mod restoring;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kura_client::{Client, Config, Endpoint, Timeouts, wire};
use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::process::{Process, ProcessError};
use crate::site::tool::ToolError;
use crate::site::{Launch, Site};

pub use restoring::Restore;

/// Names the binary under test.
pub const BINARY_VARIABLE: &str = "KURA_BINARY";

/// Names the folder under which clusters lie.
pub const DIRECTORY_VARIABLE: &str = "KURA_CHAOS_DIRECTORY";

/// How long the first start may take.
const FIRST_START: Duration = Duration::from_secs(90);

/// Time between two looks at a condition.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// A member that is a backup, as the status has it.
const ROLE_BACKUP: u32 = 2;

/// Who talks to the cluster: the client configurations that it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An application.
    Application,
    /// A registrar.
    Registrar,
    /// Another registrar.
    SecondRegistrar,
    /// An operator.
    Operator,
    /// An auditor.
    Auditor,
}

impl Role {
    fn file(self) -> &'static str {
        match self {
            Self::Application => "application.toml",
            Self::Registrar => "registrar-1.toml",
            Self::SecondRegistrar => "registrar-2.toml",
            Self::Operator => "operator.toml",
            Self::Auditor => "auditor.toml",
        }
    }
}

/// Why the cluster is not there or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no binary to test.
    #[error(
        "{path} is not there: build it (cargo build --release -p kura-node --bin kura), or name it in {BINARY_VARIABLE}"
    )]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The binary did not do what it should.
    #[error("kura {command}: {message}")]
    Command {
        /// The command.
        command: &'static str,
        /// What it said.
        message: String,
    },
    /// A node.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program of the system, or a place.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// No client came about.
    #[error("client: {0}")]
    Client(String),
    /// Something did not come about in time.
    #[error("{what} did not come about within {seconds} s: {last}")]
    Late {
        /// What.
        what: String,
        /// The limit.
        seconds: u64,
        /// What was missing last.
        last: String,
    },
}

/// The binary under test.
///
/// # Errors
/// [`ClusterError::NoBinary`].
pub fn binary() -> Result<PathBuf, ClusterError> {
    let target = || {
        let folder = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        folder.unwrap_or_else(|| PathBuf::from("../target")).join("release/kura")
    };
    let path = std::env::var_os(BINARY_VARIABLE).map_or_else(target, PathBuf::from);
    // Nodes run in folders of their own: the path must not depend on ours.
    std::fs::canonicalize(&path).map_err(|_| ClusterError::NoBinary { path })
}

#[derive(Deserialize)]
struct Told {
    nodes: Vec<ToldNode>,
}

#[derive(Deserialize)]
struct ToldNode {
    name: String,
}

/// A cluster. Dropping it kills its nodes; its directory is kept unless [`Cluster::remove`] is called.
#[derive(Debug)]
pub struct Cluster {
    executable: PathBuf,
    /// What every node runs that has not been upgraded, until all have been.
    previous: Option<PathBuf>,
    upgraded: BTreeSet<String>,
    version: String,
    directory: PathBuf,
    voters: Vec<String>,
    backups: Vec<String>,
    running: BTreeMap<String, Process>,
    /// Nodes that may end by themselves, since something was done to them.
    excused: BTreeSet<String>,
    /// Where a cluster apart stands.
    site: Option<Site>,
}

impl Cluster {
    /// Makes a cluster of three voters and a backup, and starts it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn start() -> Result<Self, ClusterError> {
        let executable = binary()?;
        let version = version(&executable).await?;
        let parent = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let directory = TempDir::with_prefix_in("kura-chaos-", &parent)
            .map_err(|source| ClusterError::File { path: parent, source })?
            .keep();
        let names = first_start(&executable, &directory).await?;
        let (backups, voters) = names.into_iter().partition(|name| name.starts_with("backup"));
        let mut cluster = Self {
            executable,
            previous: None,
            upgraded: BTreeSet::new(),
            version,
            directory,
            voters,
            backups,
            running: BTreeMap::new(),
            excused: BTreeSet::new(),
            site: None,
        };
        for node in cluster.nodes() {
            cluster.start_node(&node)?;
        }
        cluster.check_roles().await?;
        Ok(cluster)
    }

    /// Names tell who is a backup only if the cluster says the same.
    async fn check_roles(&mut self) -> Result<(), ClusterError> {
        let reply = self.wait_until("every member", Duration::from_secs(60), missing_member).await?;
        let told: BTreeSet<&str> = reply
            .members
            .iter()
            .filter(|member| member.role == ROLE_BACKUP)
            .map(|member| member.name.as_str())
            .collect();
        if told == self.backups.iter().map(String::as_str).collect() {
            return Ok(());
        }
        Err(ClusterError::Command { command: "status", message: format!("tells other backups: {told:?}") })
    }

    /// What the binary says of itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The voters, by name.
    pub fn voters(&self) -> &[String] {
        &self.voters
    }

    /// The backups, by name.
    pub fn backups(&self) -> &[String] {
        &self.backups
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<String> {
        self.voters.iter().chain(&self.backups).cloned().collect()
    }

    /// A client configuration, with time limits of one's own; of one voter, if it is named, else of all.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub fn config(&self, role: Role, node: Option<&str>, timeouts: Timeouts) -> Result<Config, ClusterError> {
        let path = self.directory.join("clients").join(role.file());
        let mut config = Config::load(path).map_err(|error| ClusterError::Client(error.to_string()))?;
        config.endpoints.retain(|endpoint| node.is_none_or(|node| endpoint.name == node));
        if let (true, Some(node), Some(site)) = (config.endpoints.is_empty(), node, &self.site) {
            // A backup: it serves the journal's proofs, and no application asks it.
            config.endpoints.push(Endpoint { name: node.to_owned(), address: site.network.address(node) });
        }
        Ok(Config { timeouts, ..config })
    }

    /// A client, which connects with its first call.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub async fn client(&self, role: Role, node: Option<&str>, timeouts: Timeouts) -> Result<Client, ClusterError> {
        let config = self.config(role, node, timeouts)?;
        Client::connect_lazily(config).await.map_err(|error| ClusterError::Client(error.to_string()))
    }

    /// Starts a node that does not run. Does not wait for it.
    ///
    /// # Errors
    /// [`ClusterError::Process`].
    pub fn start_node(&mut self, node: &str) -> Result<(), ClusterError> {
        let launch = self.site.as_ref().map_or_else(Launch::default, |site| site.launch(node));
        let process = Process::serve(self.executable_of(node), &self.folder(node), node, &launch)?;
        self.running.insert(node.to_owned(), process);
        Ok(())
    }

    /// Kills nodes with SIGKILL, all signals sent before any death is waited for.
    ///
    /// # Errors
    /// [`ClusterError::Process`] if one of them had ended by itself.
    pub async fn kill(&mut self, nodes: &[String]) -> Result<(), ClusterError> {
        self.check()?;
        let mut dying = Vec::new();
        for node in nodes {
            if let Some(mut process) = self.running.remove(node) {
                process.signal(Signal::KILL)?;
                dying.push(process);
            }
        }
        for process in dying {
            process.killed().await?;
        }
        Ok(())
    }

    /// Whether all nodes that were started still run, but for those that are excused.
    ///
    /// # Errors
    /// [`ClusterError::Process`] of the first that does not.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        self.running.retain(|node, process| !self.excused.contains(node) || process.check().is_ok());
        self.running.values_mut().try_for_each(Process::check)?;
        Ok(())
    }

    /// From now on a node may end by itself, or no more.
    pub fn excuse(&mut self, node: &str, excused: bool) {
        if excused {
            self.excused.insert(node.to_owned());
        } else {
            self.excused.remove(node);
        }
    }

    /// Whether a node runs.
    pub fn runs(&mut self, node: &str) -> bool {
        self.running.get_mut(node).is_some_and(|process| process.check().is_ok())
    }

    /// The process ids of the nodes that run.
    pub fn ids(&self) -> Vec<(String, u32)> {
        self.running.iter().filter_map(|(node, process)| Some((node.clone(), process.id()?))).collect()
    }

    /// Sends a node a signal that does not end it.
    ///
    /// # Errors
    /// [`ClusterError::Process`] if it does not run.
    pub fn signal(&mut self, node: &str, signal: Signal) -> Result<(), ClusterError> {
        match self.running.get_mut(node) {
            Some(process) => Ok(process.signal(signal)?),
            None => Err(ClusterError::Client(format!("{node} does not run"))),
        }
    }

    /// A node's folder.
    pub fn folder(&self, node: &str) -> PathBuf {
        self.directory.join("nodes").join(node)
    }

    /// Stops a node with SIGTERM and starts it again. Does not wait for it.
    ///
    /// # Errors
    /// [`ClusterError::Process`] if it did not end well.
    pub async fn restart(&mut self, node: &str) -> Result<(), ClusterError> {
        if let Some(process) = self.running.remove(node) {
            process.stop().await?;
        }
        self.start_node(node)
    }

    /// Stops all nodes with SIGTERM.
    ///
    /// # Errors
    /// [`ClusterError::Process`] of the first that did not end well.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        let stops: Vec<_> =
            std::mem::take(&mut self.running).into_values().map(|process| tokio::spawn(process.stop())).collect();
        let mut first = Ok(());
        for stop in stops {
            let stopped = stop.await.unwrap_or_else(|error| {
                let (node, source) = ("a node".to_owned(), io::Error::other(error));
                Err(ProcessError::System { node, source })
            });
            first = first.and(stopped);
        }
        Ok(first?)
    }

    /// Removes the directory. All nodes must have been stopped.
    ///
    /// # Errors
    /// [`ClusterError::File`].
    pub fn remove(self) -> Result<(), ClusterError> {
        let path = &self.directory;
        std::fs::remove_dir_all(path).map_err(|source| ClusterError::File { path: path.clone(), source })
    }

    /// Waits until a status satisfies a condition, which otherwise says what is missing.
    ///
    /// # Errors
    /// [`ClusterError::Late`] with what was missing last, [`ClusterError::Process`] if a node ended.
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        missing: impl Fn(&wire::StatusReply) -> Option<String>,
    ) -> Result<wire::StatusReply, ClusterError> {
        let operator = self.client(Role::Operator, None, QUICK).await?.operations();
        let end = Instant::now() + limit;
        loop {
            self.check()?;
            let last = match operator.status().await {
                Ok(reply) => match missing(&reply) {
                    None => return Ok(reply),
                    Some(missing) => missing,
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                return Err(ClusterError::Late { what: what.to_owned(), seconds: limit.as_secs(), last });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Time limits for looking at a cluster that may be down.
pub const QUICK: Timeouts = Timeouts { connect_ms: 500, attempt_ms: 1_500, call_ms: 3_000, transfer_ms: 5_000 };

/// What keeps a cluster from being whole: no leader, or a member that does not answer.
pub fn missing_member(reply: &wire::StatusReply) -> Option<String> {
    if reply.leader_id == 0 {
        return Some("there is no leader".into());
    }
    reply.members.iter().find(|member| !member.reachable).map(|member| format!("{} does not answer", member.name))
}

/// What keeps a cluster from being settled: it is not whole, or not all have the same digest of the same index.
pub fn unsettled(reply: &wire::StatusReply, members: usize) -> Option<String> {
    if let Some(missing) = missing_member(reply) {
        return Some(missing);
    }
    if reply.members.len() != members {
        return Some(format!("{} members instead of {members}", reply.members.len()));
    }
    let first = reply.members.first()?;
    for member in &reply.members {
        let name = &member.name;
        if member.lag_entries != 0 || member.applied_index < reply.committed_index {
            return Some(format!("{name} is behind"));
        }
        if member.digest_index != first.digest_index || member.state_digest.is_empty() {
            return Some(format!("{name} and {} have not told digests of the same index", first.name));
        }
        if member.state_digest != first.state_digest {
            return Some(format!("{name} and {} differ at index {}", first.name, first.digest_index));
        }
    }
    None
}

async fn version(executable: &Path) -> Result<String, ClusterError> {
    let output = Command::new(executable).arg("--version").output().await;
    let output = output.map_err(|source| ClusterError::File { path: executable.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Has `kura dev` make the cluster, and stops it again. Answers the nodes' names.
async fn first_start(executable: &Path, directory: &Path) -> Result<Vec<String>, ClusterError> {
    let failed = |message: String| ClusterError::Command { command: "dev", message };
    let mut command = Command::new(executable);
    command.args(["dev", "--json", "--voters", "3", "--backups", "1", "--data"]).arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("its output cannot be read".into()));
    };
    let said = tokio::spawn(async move {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text).await;
        text
    });
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    let read = timeout(FIRST_START, stdout.read_line(&mut line)).await;
    let told = match read {
        Ok(Ok(length)) if length > 0 => serde_json::from_str::<Told>(&line).map_err(|error| failed(error.to_string())),
        Ok(Ok(_)) => Err(failed("it ended before the cluster was up".into())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("the cluster is not up after {} s", FIRST_START.as_secs()))),
    };
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // If it is gone already, its exit status below says so.
        let _ = rustix::process::kill_process(id, Signal::TERM);
    }
    let ended = timeout(FIRST_START, child.wait()).await;
    let said = || async { said.await.unwrap_or_default() };
    match (told, ended) {
        (Ok(told), Ok(Ok(status))) if status.success() => Ok(told.nodes.into_iter().map(|node| node.name).collect()),
        (Ok(_), Ok(Ok(status))) => Err(failed(format!("{status}: {}", said().await))),
        (Ok(_), Ok(Err(error))) => Err(failed(error.to_string())),
        (Ok(_), Err(_)) => Err(failed(format!("does not stop within {} s", FIRST_START.as_secs()))),
        (Err(ClusterError::Command { message, .. }), _) => Err(failed(format!("{message}: {}", said().await))),
        (Err(error), _) => Err(error),
    }
}
