//! One node as a process.
//!
//! Invariants
//! - A process that is dropped is killed; one whose run dies with it ends by itself.
//! - That a node died of our SIGKILL, and not of something before, is read from its exit status.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::site::Launch;

/// How long a node may take to drain after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

/// How much of a log's end is shown.
const TAIL_LINES: usize = 12;

/// Why a node is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {path}: {source}")]
    Start {
        /// The executable or the log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended without being told to.
    #[error("{node} ended by itself ({status}); the end of its log:\n{tail}")]
    Ended {
        /// The node.
        node: String,
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// It did not end as it should.
    #[error("{node} did not stop in order ({how}); the end of its log:\n{tail}")]
    BadStop {
        /// The node.
        node: String,
        /// What happened.
        how: String,
        /// The last lines of its log.
        tail: String,
    },
    /// The system refused.
    #[error("{node}: {source}")]
    System {
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
}

/// A node that runs.
#[derive(Debug)]
pub struct Process {
    node: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `kura serve` in a node's folder; it writes to `log.txt` there.
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn serve(executable: &Path, folder: &Path, node: &str, launch: &Launch) -> Result<Self, ProcessError> {
        let log = folder.join("log.txt");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::Start { path, source }
        };
        let file = OpenOptions::new().create(true).append(true).open(&log).map_err(failed(&log))?;
        let again = file.try_clone().map_err(failed(&log))?;
        // Whatever comes before must become the node itself, under its process id.
        let words: Vec<&OsStr> = launch.before.iter().map(OsStr::new).chain([executable.as_os_str()]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config", "config.toml", "--exit-with-parent", &std::process::id().to_string()]);
        command.current_dir(folder).stdin(Stdio::null()).stdout(file).stderr(again);
        // A group of its own: Ctrl-C in the terminal reaches the run, not the nodes.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(failed(executable))?;
        Ok(Self { node: node.to_owned(), log, child })
    }

    fn system(&self, source: impl Into<io::Error>) -> ProcessError {
        ProcessError::System { node: self.node.clone(), source: source.into() }
    }

    fn ended(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended { node: self.node.clone(), status, tail: tail(&self.log) }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] if not.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(error) => Err(self.system(error)),
        }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] if it no longer runs, [`ProcessError::System`].
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        self.check()?;
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| self.system(io::Error::other("has no process id")))?;
        kill_process(id, signal).map_err(|error| self.system(error))
    }

    /// Waits until it has died of SIGKILL, which was sent.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] if it died of something else.
    pub async fn killed(mut self) -> Result<(), ProcessError> {
        let status = self.child.wait().await.map_err(|error| self.system(error))?;
        if status.signal() == Some(Signal::KILL.as_raw()) { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Sends SIGTERM and waits until it has drained and ended.
    ///
    /// # Errors
    /// [`ProcessError::BadStop`] if it takes too long (it is then killed) or ends with an error.
    pub async fn stop(mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)?;
        let bad = |how: String| ProcessError::BadStop { node: self.node.clone(), how, tail: tail(&self.log) };
        match tokio::time::timeout(DRAIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(bad(status.to_string())),
            Ok(Err(error)) => Err(bad(error.to_string())),
            Err(_) => Err(bad(format!("not within {} s", DRAIN.as_secs()))),
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
