//! Members that come, go, take each other's place, and go over to another binary.

use std::path::Path;

use tokio::time::{Instant, sleep};

use super::found::COMMAND;
use super::{Cluster, ClusterError, LOOK, QUICK, Role};

impl Cluster {
    pub(super) async fn enlist(&mut self, node: &str, backup: bool) -> Result<(), ClusterError> {
        self.bring(node, backup).await?;
        let add = if backup { "member add-backup" } else { "member add-voter" };
        self.retried(add, &[node, "--client", "clients/operator.toml"]).await?;
        (if backup { &mut self.backups } else { &mut self.voters }).push(node.to_owned());
        self.write_clients()
    }

    /// Replaces a voter, whether it runs or not, by a new one of another name, and answers the name. The old
    /// one is no member from then on; whether its process ends is left to the caller.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn replace(&mut self, old: &str) -> Result<String, ClusterError> {
        let new = self.free_name("voter")?;
        self.voters.retain(|voter| voter != old);
        self.write_clients()?;
        let site = self.site_mut()?;
        if site.clock_of() == Some(old) {
            site.give_clock(&new);
        }
        self.bring(&new, false).await?;
        self.retried("member replace", &[old, &new, "--client", "clients/operator.toml"]).await?;
        self.voters.push(new.clone());
        self.write_clients()?;
        Ok(new)
    }

    /// A command that may have to wait until the node listens, or until somebody leads.
    pub(super) async fn retried(&mut self, command: &'static str, arguments: &[&str]) -> Result<(), ClusterError> {
        let end = Instant::now() + COMMAND;
        loop {
            self.check()?;
            match self.kura(command, arguments).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// A name that no node has had.
    fn free_name(&self, role: &str) -> Result<String, ClusterError> {
        let taken = |name: &String| self.folder(name).exists();
        let name = (1..100).map(|nth| format!("{role}-{nth}")).find(|name| !taken(name));
        name.ok_or_else(|| ClusterError::Client("no name is left".into()))
    }

    /// Adds a member under a new name, and answers the name.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn add(&mut self, backup: bool) -> Result<String, ClusterError> {
        let new = self.free_name(if backup { "backup" } else { "voter" })?;
        let voters = self.voters.clone();
        let site = self.site_mut()?;
        if !backup && site.clock_of().is_some_and(|node| !voters.iter().any(|voter| voter == node)) {
            site.give_clock(&new);
        }
        self.enlist(&new, backup).await?;
        Ok(new)
    }

    /// Removes a member, and ends it. From the first attempt on it may end by itself.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn remove_member(&mut self, node: &str) -> Result<(), ClusterError> {
        self.voters.retain(|voter| voter != node);
        self.backups.retain(|backup| backup != node);
        self.write_clients()?;
        self.excuse(node, true);
        let end = Instant::now() + COMMAND;
        while let Err(error) = self.kura("member remove", &[node, "--yes", "--client", "clients/operator.toml"]).await {
            self.check()?;
            // An attempt without an answer may have done it.
            if self.is_no_member(node).await {
                break;
            }
            if Instant::now() >= end {
                return Err(error);
            }
            sleep(LOOK).await;
        }
        if self.runs(node) {
            self.kill(&[node.to_owned()]).await?;
        }
        self.excuse(node, false);
        Ok(())
    }

    async fn is_no_member(&self, node: &str) -> bool {
        let Ok(client) = self.client(Role::Operator, None, QUICK).await else { return false };
        let status = client.operations().status().await;
        status.is_ok_and(|reply| reply.leader_id != 0 && reply.members.iter().all(|member| member.name != node))
    }

    /// The binary that a node runs when it is started.
    pub(super) fn executable_of(&self, node: &str) -> &Path {
        match &self.previous {
            Some(previous) if !self.upgraded.contains(node) => previous,
            _ => &self.executable,
        }
    }

    /// The binary whose command line is used: the earlier one's, until every node was upgraded.
    pub(super) fn command_line(&self) -> &Path {
        self.previous.as_ref().unwrap_or(&self.executable)
    }

    /// Whether there are nodes that run the earlier release's binary.
    pub fn is_of_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Stops a node in order and starts it with this release's binary. After the last one nothing is the earlier's.
    ///
    /// # Errors
    /// [`ClusterError::Process`].
    pub async fn upgrade(&mut self, node: &str) -> Result<(), ClusterError> {
        self.upgraded.insert(node.to_owned());
        self.restart(node).await?;
        if self.nodes().iter().all(|node| self.upgraded.contains(node)) {
            self.previous = None;
        }
        Ok(())
    }
}
