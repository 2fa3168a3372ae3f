//! One node as a process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::layout::CONFIG;
use super::{DevError, Layout};

/// How long a node may take to drain and hand over before it is killed.
const DRAIN: Duration = Duration::from_secs(20);

/// How much of a log's end is shown.
const TAIL_BYTES: u64 = 2_000;

/// A node that runs.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `kura serve` on the configuration in a node's folder.
    pub fn serve(executable: &Path, layout: &Layout, name: &str) -> Result<Self, DevError> {
        let log = layout.node_log(name);
        let mut command = Command::new(executable);
        command.args(["serve", "--config", CONFIG]).current_dir(layout.node(name));
        command.arg("--exit-with-parent").arg(std::process::id().to_string());
        let child = spawn(&mut command, executable, &log)?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Its process id; none once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Says how it ended, if it has.
    pub fn ended(&mut self) -> Option<DevError> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.end(status)),
            Err(error) => Some(DevError::file(&self.log)(error)),
        }
    }

    fn end(&self, status: ExitStatus) -> DevError {
        DevError::Ended {
            node: self.name.clone(),
            status: status.to_string(),
            log: self.log.clone(),
            message: tail(&self.log),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), DevError> {
        let gone = || DevError::NoSuchNode(self.name.clone());
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or_else(gone)?;
        kill_process(id, signal).map_err(|_| gone())
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> Result<ExitStatus, DevError> {
        self.child.wait().await.map_err(DevError::file(&self.log))
    }

    /// SIGTERM, then time to drain, then SIGKILL. Whether it ended by itself and well.
    pub async fn stop(mut self) -> Result<bool, DevError> {
        if self.child.id().is_none() || self.signal(Signal::TERM).is_err() {
            return Ok(false);
        }
        match tokio::time::timeout(DRAIN, self.child.wait()).await {
            Ok(status) => Ok(status.map_err(DevError::file(&self.log))?.success()),
            Err(_) => {
                self.child.kill().await.map_err(DevError::file(&self.log))?;
                Ok(false)
            }
        }
    }
}

/// Runs a command (`kura init`, `kura join`) on the configuration in a node's folder to its end; its
/// words go to the node's log.
pub(super) async fn run(
    executable: &Path,
    layout: &Layout,
    node: &str,
    command: &'static str,
    further: &[&str],
) -> Result<(), DevError> {
    let log = layout.node_log(node);
    let mut call = Command::new(executable);
    call.args([command, "--config", CONFIG]).args(further).current_dir(layout.node(node));
    let mut child = spawn(&mut call, executable, &log)?;
    let status = child.wait().await.map_err(DevError::file(executable))?;
    if status.success() {
        return Ok(());
    }
    Err(DevError::Command { command, node: node.to_owned(), message: tail(&log), log })
}

fn spawn(command: &mut Command, executable: &Path, log: &Path) -> Result<Child, DevError> {
    let file = OpenOptions::new().create(true).append(true).open(log).map_err(DevError::file(log))?;
    let again = file.try_clone().map_err(DevError::file(log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(again);
    // A process group of its own: Ctrl-C in the terminal reaches only us, who stop it in order.
    command.process_group(0).kill_on_drop(true);
    command.spawn().map_err(DevError::file(executable))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    if lines.is_empty() { "it said nothing".into() } else { lines.into_iter().rev().collect::<Vec<_>>().join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_fails_tells_what_it_said_last() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        std::fs::create_dir_all(layout.node("voter-1")).unwrap();
        // A shell runs the file named by its first argument: this stands in for `kura init`.
        std::fs::write(layout.node("voter-1").join("init"), "echo one; echo two >&2; exit \"$3\"").unwrap();
        let shell = Path::new("/bin/sh");
        run(shell, &layout, "voter-1", "init", &["0"]).await.unwrap();
        let error = run(shell, &layout, "voter-1", "init", &["3"]).await.unwrap_err();
        assert!(error.to_string().contains("two"), "{error}");
    }

    #[tokio::test]
    async fn a_process_is_stopped_in_order_and_its_end_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.txt");
        let start = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(script);
            let child = spawn(&mut command, Path::new("/bin/sh"), &log).unwrap();
            Process { name: "voter-1".into(), log: log.clone(), child }
        };
        let mut good = start("trap 'echo drained; exit 0' TERM; echo up; while :; do sleep 0.05; done");
        while !std::fs::read_to_string(&log).unwrap().contains("up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(good.ended().is_none());
        assert!(good.stop().await.unwrap());
        assert!(std::fs::read_to_string(&log).unwrap().contains("drained"));

        let mut bad = start("echo no space; exit 7");
        bad.wait().await.unwrap();
        let ended = bad.ended().unwrap().to_string();
        assert!(ended.contains("exit status: 7") && ended.contains("no space"), "{ended}");
    }
}
