//! The command line of `kura`, as people type it; and, once the prefecture is lost, as the runbook has it.
//!
//! Invariant: a command that does not end well is an error with its words. After the loss, one whose form does not
//! stand in docs/recovery.md is not run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::RecoveryError;
use crate::site::network::Network;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(180);

/// The page that people recover by.
const RUNBOOK: &str = include_str!("../../../docs/recovery.md");

/// The command line, in a cluster's directory.
#[derive(Debug, Clone)]
pub struct Commands {
    executable: PathBuf,
    directory: PathBuf,
    /// Whether only the runbook's commands are run.
    pub by_the_page: bool,
}

impl Commands {
    /// Of a binary, in a directory.
    pub fn new(executable: PathBuf, directory: &Path) -> Self {
        Self { executable, directory: directory.to_owned(), by_the_page: false }
    }

    /// Runs a command at a node, or outside of all; what it printed.
    ///
    /// # Errors
    /// [`RecoveryError::Command`].
    pub async fn run(&self, node: Option<&str>, words: &str, typed: &[String]) -> Result<String, RecoveryError> {
        self.call(node, words, &[], typed).await
    }

    /// The same, with words that have blanks.
    ///
    /// # Errors
    /// [`RecoveryError::Command`].
    pub async fn call(
        &self,
        node: Option<&str>,
        words: &str,
        more: &[&str],
        typed: &[String],
    ) -> Result<String, RecoveryError> {
        let failed = |message: String| RecoveryError::Command { command: words.to_owned(), message };
        if self.by_the_page && !is_in_the_runbook(words) {
            return Err(failed("is no command of docs/recovery.md".into()));
        }
        let mut all = node.map_or_else(Vec::new, Network::enter);
        all.push(self.executable.display().to_string());
        all.extend(words.split(' ').chain(more.iter().copied()).map(str::to_owned));
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).current_dir(&self.directory).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            let typed: String = typed.iter().map(|line| format!("{line}\n")).collect();
            // One that refuses early does not read it.
            let _ = stdin.write_all(typed.as_bytes()).await;
        }
        match timeout(LIMIT, child.wait_with_output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(Ok(output)) => Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("does not end within {} s", LIMIT.as_secs()))),
        }
    }

    /// Runs a command with `--json`; what it told.
    ///
    /// # Errors
    /// [`RecoveryError::Command`].
    pub async fn json(&self, words: &str, more: &[&str], typed: &[String]) -> Result<Value, RecoveryError> {
        let told = self.call(None, words, &[&["--json"], more].concat(), typed).await?;
        let line = told.lines().find(|line| line.starts_with('{')).unwrap_or_default();
        let failed = |error: serde_json::Error| RecoveryError::Command {
            command: words.to_owned(),
            message: format!("{error}: {told}"),
        };
        serde_json::from_str(line).map_err(failed)
    }

    /// Has the root key split: each holder reads a share and types it back. Answers the shares and the set's
    /// fingerprint.
    ///
    /// # Errors
    /// [`RecoveryError::Command`].
    pub async fn split(&self, voter: &str, holders: usize) -> Result<(Vec<String>, String), RecoveryError> {
        let words = format!(
            "--json key split --config nodes/{voter}/config.toml --threshold 2 --holders {holders} --client clients/operator.toml"
        );
        let failed = |message: String| RecoveryError::Command { command: words.clone(), message };
        let mut command = Command::new(&self.executable);
        command.args(words.split(' ')).current_dir(&self.directory).kill_on_drop(true);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let (Some(mut stdin), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no pipes".into()));
        };
        let ceremony = async {
            let (mut lines, mut shares) = (BufReader::new(out).lines(), Vec::new());
            for _ in 0..holders {
                let line = lines.next_line().await?.unwrap_or_default();
                let share = line.split_once(": ").map(|(_, share)| share.to_owned()).unwrap_or_default();
                stdin.write_all(format!("{share}\n").as_bytes()).await?;
                shares.push(share);
            }
            let told = lines.next_line().await?.unwrap_or_default();
            let told: Value = serde_json::from_str(&told)?;
            Ok::<_, std::io::Error>((shares, told["fingerprint"].as_str().unwrap_or_default().to_owned()))
        };
        let (shares, fingerprint) = match timeout(LIMIT, ceremony).await {
            Ok(done) => done.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("does not end within {} s", LIMIT.as_secs()))),
        };
        let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
        match status.success() && shares.iter().all(|share| !share.is_empty()) {
            true => Ok((shares, fingerprint)),
            false => Err(failed(status.to_string())),
        }
    }
}

/// Whether the page has a command of this form: the same subcommand with each of these options.
fn is_in_the_runbook(words: &str) -> bool {
    let words: Vec<&str> = words.split(' ').collect();
    let is_plain = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.contains(['/', '.']);
    // A member's name has a digit.
    let subcommand = words.iter().take_while(is_plain).filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    let subcommand: Vec<&str> = subcommand.copied().collect();
    let options: Vec<&str> = words.iter().copied().filter(|word| word.starts_with("--")).collect();
    let has = |line: &str| {
        let begins = line.split(' ').skip_while(|word| *word != "kura").skip(1);
        let common = begins.zip(&subcommand).take_while(|(one, other)| one == *other).count();
        common == subcommand.len() && options.iter().all(|option| line.contains(option))
    };
    RUNBOOK.lines().filter(|line| line.starts_with("$ ")).any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_page_has_is_run() {
        for there in [
            "recover plan nodes/backup-1/disk/data --out plan.json --published 20",
            "recover apply --plan plan.json --config nodes/backup-1/config.toml --ca new-ca --fenced",
            "recover open writes --client clients/recovery.toml",
            "member add-voter voter-4 --client clients/operator.toml",
            "node request --role voter --name voter-4 --cluster chaos --also 10.77.0.15 --key node.key --request node.csr",
            "status --client clients/operator.toml --wait",
        ] {
            assert!(is_in_the_runbook(there), "{there}");
        }
        for absent in [
            "recover apply --root-key root.key",
            "record put 1 2",
            "recover open writes --force",
            "recover open all",
            "init",
        ] {
            assert!(!is_in_the_runbook(absent), "{absent}");
        }
    }
}
