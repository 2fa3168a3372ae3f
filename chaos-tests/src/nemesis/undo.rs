//! Taking a fault back, and telling whether it came to anything.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::act::Faults;
use super::setting::Trouble;
use super::short::Limit;
use crate::cluster::{Cluster, ClusterError, LOOK, Restore};
use crate::site::disk::Frozen;
use crate::site::network::Network;
use crate::site::tool::ToolError;

/// The half of a period in which a cable goes in and out.
const FLAP: Duration = Duration::from_millis(350);

/// How long a backup may take for a full transfer.
const TRANSFER: Duration = Duration::from_secs(60);

/// How long a tracer may take to let go.
const DETACH: Duration = Duration::from_secs(10);

/// One step back.
#[derive(Debug)]
pub(super) enum Undo {
    /// Start nodes that are down.
    Start(Vec<String>),
    /// SIGKILL, if it still runs, and start.
    Restart(String),
    /// SIGCONT.
    Continue(String),
    /// Put the cable back.
    Link(String),
    /// Take the fault's filters away.
    Unfilter(Vec<String>),
    /// Full speed.
    Fast(String),
    /// The right time.
    Clock,
    /// Space on the disk.
    Empty(String),
    /// Let the file system go on.
    Thaw(Frozen),
    /// Let the tracer go.
    Trace { child: Child, told: PathBuf },
    /// Stop the flapping.
    Flap { stop: oneshot::Sender<()>, task: JoinHandle<u64> },
    /// Look whether the backup took a full transfer.
    Caught { node: String, before: String },
    /// Replace the member.
    Replace(String),
    /// Replace the member while it runs.
    Relieve(String),
    /// No limit on the length of files: the node is killed, if it still runs, and started.
    Short { node: String, limit: Limit },
    /// Let the node receive at full speed.
    FastTo(String),
    /// Remove the member.
    Remove(String),
    /// Add a member.
    Add { backup: bool },
    /// Run the restore to its end, and check it.
    Restore { restore: Restore, cuts: u64 },
    /// Let the last node go over to this release's binary.
    Upgrade(String),
}

/// What was seen when a step was taken back.
pub(super) struct Told {
    /// Whether the fault came to anything, as far as this step can tell.
    pub hit: bool,
    pub seen: Option<String>,
}

impl Told {
    fn seen(words: String) -> Self {
        Self { hit: true, seen: Some(words) }
    }

    const NOTHING: Self = Self { hit: true, seen: None };

    fn count(count: u64, of: &str) -> Self {
        Self { hit: count > 0, seen: Some(format!("{count} {of}")) }
    }
}

impl Undo {
    /// Puts a tracer on a process, which does something to each sync.
    pub(super) fn trace(id: u32, how: &str, told: PathBuf) -> Result<Self, Trouble> {
        let inject = format!("inject=fdatasync,fsync:{how}");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=fdatasync,fsync", "-e", &inject, "-p", &id.to_string(), "-o"]);
        command.arg(&told).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(Self::Trace { child: command.spawn()?, told })
    }

    /// Lets a cable go in and out from now on.
    pub(super) fn flap(node: String) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut changes = 0;
            loop {
                changes += u64::from(Network::link(&node, changes % 2 == 1).await.is_ok());
                tokio::select! {
                    _ = &mut stopped => return changes,
                    () = sleep(FLAP) => {}
                }
            }
        });
        Self::Flap { stop, task }
    }

    /// Takes the step.
    pub(super) async fn run(
        self,
        cluster: &mut Cluster,
        fault: u32,
        faults: &mut Faults,
    ) -> Result<Told, ClusterError> {
        match self {
            Self::Start(nodes) => {
                for node in nodes {
                    if !cluster.runs(&node) {
                        cluster.start_node(&node)?;
                    }
                }
            }
            Self::Restart(node) => {
                let ended = !cluster.runs(&node);
                end(cluster, &node).await?;
                cluster.excuse(&node, false);
                cluster.start_node(&node)?;
                let words = if ended { "it had ended by itself" } else { "it still ran" };
                return Ok(Told { hit: true, seen: Some(words.into()) });
            }
            Self::Continue(node) => cluster.signal(&node, Signal::CONT)?,
            Self::Link(node) => Network::link(&node, true).await?,
            Self::Unfilter(nodes) => {
                let mut dropped = 0;
                for node in nodes {
                    dropped += Network::unfilter(fault, &node).await?;
                }
                return Ok(Told::count(dropped, "packets dropped"));
            }
            Self::Fast(node) => return Ok(Told::count(Network::fast(&node).await?, "packets held back or dropped")),
            Self::Clock => cluster.site()?.set_clock(0)?,
            Self::Empty(node) => cluster.site()?.disk(&node)?.empty()?,
            Self::Thaw(frozen) => frozen.thaw().await?,
            Self::Trace { child, told } => return Ok(detach(child, &told).await?),
            Self::Flap { stop, task } => {
                let _ = stop.send(());
                return Ok(Told::count(task.await.unwrap_or(0), "changes of the cable"));
            }
            Self::Caught { node, before } => {
                let end = Instant::now() + TRANSFER;
                while state_of(cluster, &node) == before && Instant::now() < end {
                    cluster.check()?;
                    sleep(LOOK).await;
                }
                let caught = state_of(cluster, &node) != before;
                let words = if caught { "a full transfer was taken" } else { "the log was enough" };
                return Ok(Told { hit: caught, seen: Some(words.into()) });
            }
            Self::Relieve(node) => {
                // What is no member any more may end by itself.
                cluster.excuse(&node, true);
                let new = cluster.replace(&node).await?;
                end(cluster, &node).await?;
                cluster.excuse(&node, false);
                faults.members_changed(cluster).await?;
                return Ok(Told { hit: true, seen: Some(format!("{new} took its place")) });
            }
            Self::Short { node, limit } => {
                let ended = !cluster.runs(&node);
                end(cluster, &node).await?;
                let told = limit.told(ended);
                cluster.excuse(&node, false);
                cluster.start_node(&node)?;
                return Ok(told);
            }
            Self::FastTo(node) => {
                return Ok(Told::count(Network::fast_to(&node).await?, "packets to it held back or dropped"));
            }
            Self::Remove(node) => {
                cluster.remove_member(&node).await?;
                faults.members_changed(cluster).await?;
                return Ok(Told::seen(format!("{node} went")));
            }
            Self::Add { backup } => {
                let new = cluster.add(backup).await?;
                faults.members_changed(cluster).await?;
                return Ok(Told::seen(format!("{new} came")));
            }
            Self::Restore { restore, cuts } => {
                cluster.finish_restore(restore).await?;
                return Ok(Told::count(cuts, "cuts; then it came to its end and was verified"));
            }
            Self::Upgrade(node) => {
                cluster.upgrade(&node).await?;
                return Ok(Told::seen(format!("{node} followed")));
            }
            Self::Replace(node) => {
                let ended = !cluster.runs(&node);
                end(cluster, &node).await?;
                let new = cluster.replace(&node).await?;
                cluster.excuse(&node, false);
                faults.members_changed(cluster).await?;
                let words = if ended { "it had ended by itself" } else { "it ran until then" };
                return Ok(Told { hit: true, seen: Some(format!("{words}; {new} took its place")) });
            }
        }
        Ok(Told::NOTHING)
    }
}

/// Kills a node, if it still runs.
async fn end(cluster: &mut Cluster, node: &str) -> Result<(), ClusterError> {
    if cluster.runs(node) {
        cluster.kill(&[node.to_owned()]).await?;
    }
    cluster.check()
}

/// Which database holds a node's state: a full transfer brings another one.
pub(super) fn state_of(cluster: &Cluster, node: &str) -> String {
    let path = cluster.folder(node).join("disk/data/state/CURRENT");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Ends a tracer, so that the process goes on without it, and counts what it did.
async fn detach(mut child: Child, told: &Path) -> Result<Told, ToolError> {
    let failed = |message: String| ToolError { command: "strace".into(), message };
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // If it ended with its process, there is nothing to tell it.
        let _ = kill_process(id, Signal::INT);
    }
    if tokio::time::timeout(DETACH, child.wait()).await.is_err() {
        child.kill().await.map_err(|error| failed(error.to_string()))?;
    }
    let text = std::fs::read(told).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let count = text.lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED")).count();
    Ok(Told::count(count as u64, "syncs"))
}
