//! A restore from a backup's archive, beside the cluster that goes on.

use std::fs;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::found::{COMMAND, config, file};
use super::{Cluster, ClusterError, LOOK};

/// A restore: of which archive, into which place. Paths are below the cluster's directory.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The place's name: it has a disk and a certificate of role voter, as a new machine would.
    pub place: String,
    from: String,
    into: String,
    root_key: String,
    config: String,
}

/// How the members of before are known to be down.
const REHEARSED: [&str; 2] = ["--not-fenced", "a rehearsal that is never served"];
const KILLED: [&str; 4] = ["--fenced", "all of them were killed", "--open", "writes"];

impl Restore {
    fn apply<'a>(&'a self, fence: &[&'a str]) -> Vec<&'a str> {
        let [without, why] = ["--without-head", "none was kept in this run"];
        let place = ["--from", &self.from, "--into", &self.into, "--config", &self.config];
        [&place[..], &[without, why, "--reason", "a rehearsal"], fence].concat()
    }
}

impl Cluster {
    /// Makes a place for a restore, once the backup's archive is one that can be restored from.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn prepare_restore(&mut self, backup: &str, place: &str) -> Result<Restore, ClusterError> {
        let (from, root_key) = (format!("nodes/{backup}/archive"), format!("nodes/{place}/root.key"));
        let restore = Restore {
            place: place.to_owned(),
            from,
            into: format!("nodes/{place}/disk/data"),
            root_key,
            config: config(place),
        };
        let end = Instant::now() + COMMAND;
        while let Err(error) = self.kura("restore plan", &["--from", &restore.from]).await {
            // A backup that is new has to write its first base.
            if Instant::now() >= end {
                return Err(error);
            }
            self.check()?;
            sleep(LOOK).await;
        }
        self.place(place, false).await?;
        let keys = self.voters.iter().map(|voter| self.folder(voter).join("root.key"));
        let key = keys.into_iter().find(|key| key.exists());
        let key = key.ok_or_else(|| ClusterError::Client("no voter has a root key's file".into()))?;
        let to = self.directory.join(&restore.root_key);
        fs::copy(&key, &to).map_err(file(&to))?;
        Ok(restore)
    }

    /// Begins it, or goes on with it; dropping what is answered kills it.
    ///
    /// # Errors
    /// [`ClusterError::File`].
    pub fn begin_restore(&self, restore: &Restore) -> Result<Child, ClusterError> {
        let mut command = Command::new(self.command_line());
        command.args(["restore", "apply"]).args(restore.apply(&REHEARSED)).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(file(self.command_line()))
    }

    /// Runs it to its end, checks what came out, and clears it away.
    ///
    /// # Errors
    /// [`ClusterError::Command`] if either fails.
    pub async fn finish_restore(&mut self, restore: Restore) -> Result<(), ClusterError> {
        let report = self.directory.join(&restore.into).join("restore-report.json");
        if !report.exists() {
            self.kura("restore apply", &restore.apply(&REHEARSED)).await?;
        }
        self.kura("restore verify", &["--into", &restore.into, "--root-key", &restore.root_key]).await?;
        let site = self.site_mut()?;
        site.clear(&restore.place).await?;
        Ok(())
    }

    /// Kills every member for good, restores what the archive has, and serves it: a cluster of one voter, on a new
    /// timeline, that takes writes.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn serve_restored(&mut self, restore: Restore) -> Result<(), ClusterError> {
        let members = self.nodes();
        self.kill(&members).await?;
        self.kura("restore apply", &restore.apply(&KILLED)).await?;
        self.kura("restore verify", &["--into", &restore.into, "--root-key", &restore.root_key]).await?;
        self.backups.clear();
        self.voters = vec![restore.place.clone()];
        self.write_clients()?;
        self.start_node(&restore.place)?;
        self.retried("status", &["--client", "clients/operator.toml", "--wait"]).await
    }
}
