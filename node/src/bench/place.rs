//! Where is measured: a cluster made for it, or one that runs already.
//!
//! Invariants
//! - Connections are spread evenly over the voters: each has one node only, so none moves.
//! - Processes are looked at only where they are this command's own children.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kura_client::{Client, Config, Endpoint, wire};
use kura_proto::point::{KNOWN, NONE};
use serde::Serialize;
use tokio::time::Instant;

use super::Options;
use super::machine::{Usage, busy_seconds};
use crate::cli::{Failure, Progress, note};
use crate::dev::{self, ClientFile, Cluster};

/// How long members may take to catch up before and after a phase.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster to measure.
#[derive(Debug)]
pub(super) struct Place {
    cluster: Option<Cluster>,
    config: Config,
    /// For registering; two people.
    pub registrars: [Client; 2],
    /// For the status; acts as an operator.
    pub status: Client,
}

/// What was used up to a moment.
#[derive(Debug, Clone)]
pub(super) struct Used {
    /// By each node of [`Place::processes`], and last by this process.
    pub processes: Vec<Usage>,
    /// Processor time of everything on the machine.
    pub busy_seconds: f64,
}

/// Disk space of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    pub name: String,
    pub bytes: u64,
}

/// A member that had not applied everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Behind {
    pub name: String,
    /// How many entries it lacked; `None` if it did not answer.
    pub entries: Option<i64>,
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entries {
            Some(entries) => write!(f, "{} lacks {entries} entries", self.name),
            None => write!(f, "{} does not answer", self.name),
        }
    }
}

/// What waiting for every member came to.
#[derive(Debug, Default)]
pub(super) struct CaughtUp {
    /// The last status; `None` if there was none.
    pub status: Option<wire::StatusReply>,
    /// How long it took, or was waited.
    pub waited: Duration,
    /// Whether there was a leader and nobody was behind in the end.
    pub complete: bool,
    /// Who was behind in the end.
    pub behind: Vec<Behind>,
}

impl Place {
    /// Starts a cluster, or connects to the one that the options name.
    pub async fn open(options: &Options, directory: &Path, progress: &Progress) -> Result<Self, Failure> {
        if let Some(existing) = &options.existing {
            let config = Config::load(&existing.client)?;
            let [first, second] = &existing.registrars;
            let first = Client::connect(Config::load(first)?).await?;
            let registrars = [first, Client::connect(Config::load(second)?).await?];
            let status = Client::connect(Config::load(&existing.operator)?).await?;
            return Ok(Self { cluster: None, config, registrars, status });
        }
        let say = |step: &str| progress.say(format!("cluster: {step}"));
        let dev = dev::Options { voters: options.voters, backups: options.backups, ..dev::Options::new(directory)? };
        let cluster = Cluster::start(dev, &say).await?;
        let config = cluster.client_config(ClientFile::Application)?;
        let registrars = [cluster.client(ClientFile::Registrar1).await?, cluster.client(ClientFile::Registrar2).await?];
        let status = cluster.client(ClientFile::Operator).await?;
        Ok(Self { cluster: Some(cluster), config, registrars, status })
    }

    /// Connections of the application, so many to each voter; neighbours go to different ones.
    pub async fn connect(&self, to_each: usize) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for endpoint in std::iter::repeat_n(&self.config.endpoints, to_each).flatten() {
            let endpoint = Endpoint { name: endpoint.name.clone(), address: endpoint.address.clone() };
            clients.push(Client::connect(Config { endpoints: vec![endpoint], ..self.config.clone() }).await?);
        }
        Ok(clients)
    }

    /// Names and process ids of the nodes, if they are this process's own.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let members = cluster.plan().members.iter();
        members.filter_map(|member| Some((member.name.clone(), cluster.process_id(&member.name)?))).collect()
    }

    /// What has been used up to now.
    pub fn used(&self) -> Result<Used, Failure> {
        let cannot = |error| Failure::failed(format!("cannot tell what a process uses: {error}"));
        let nodes = self.processes().into_iter().map(|(_, id)| Some(id));
        let processes = nodes.chain([None]).map(Usage::of).collect::<std::io::Result<_>>();
        Ok(Used { processes: processes.map_err(cannot)?, busy_seconds: busy_seconds().map_err(cannot)? })
    }

    /// Waits until no member is behind, or [`CATCH_UP_LIMIT`] has passed.
    ///
    /// # Errors
    /// If the status is refused for good.
    pub async fn caught_up(&self, progress: &Progress) -> Result<CaughtUp, Failure> {
        let began = Instant::now();
        let mut now = CaughtUp::default();
        loop {
            match self.status.operations().status().await {
                Ok(reply) => {
                    now.behind = behind(&reply);
                    now.complete = now.behind.is_empty() && reply.leader_id != 0;
                    now.status = Some(reply);
                }
                Err(error) if error.may_retry() => now.complete = false,
                Err(error) => return Err(error.into()),
            }
            now.waited = began.elapsed();
            if now.complete || now.waited >= CATCH_UP_LIMIT {
                return Ok(now);
            }
            progress.say(now.behind.first().map_or_else(|| "there is no leader".to_owned(), Behind::to_string));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the archive, if there is one, has what was written so far: participants' keys take it a while.
    /// After [`CATCH_UP_LIMIT`] it goes on and says so.
    ///
    /// # Errors
    /// If the status is refused for good.
    pub async fn archived(&self, progress: &Progress) -> Result<(), Failure> {
        let began = Instant::now();
        let mut upto = None;
        loop {
            match self.status.operations().status().await {
                Ok(wire::StatusReply { archive_point: Some(point), .. }) if point.state != NONE => {
                    // The log moves on, if only by canaries: it never has everything.
                    let seen = (point.state == KNOWN).then_some(point.index + point.entries_behind);
                    upto = upto.or(seen);
                    if upto.is_some_and(|upto| point.index >= upto) {
                        return Ok(());
                    }
                }
                Ok(_) => return Ok(()),
                Err(error) if error.may_retry() => {}
                Err(error) => return Err(error.into()),
            }
            if began.elapsed() >= CATCH_UP_LIMIT {
                note("the archive has not caught up: what it writes is measured with the rest");
                return Ok(());
            }
            progress.say("the archive catches up");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the cluster if it is this command's own.
    pub async fn close(self) -> Result<(), Failure> {
        let Some(mut cluster) = self.cluster else { return Ok(()) };
        let badly = cluster.stop().await?;
        match badly.is_empty() {
            true => Ok(()),
            false => Err(Failure::failed(format!("{} did not stop in order", badly.join(", ")))),
        }
    }
}

/// The members that have not applied everything.
fn behind(status: &wire::StatusReply) -> Vec<Behind> {
    let late = status.members.iter().filter(|member| !member.reachable || member.lag_entries != 0);
    late.map(|member| Behind { name: member.name.clone(), entries: member.reachable.then_some(member.lag_entries) })
        .collect()
}

/// The disk space of each member.
pub(super) fn disks(status: &wire::StatusReply) -> Vec<Disk> {
    status.members.iter().map(|member| Disk { name: member.name.clone(), bytes: member.disk_bytes }).collect()
}

/// A temporary directory for the cluster: /var/tmp lies on a disk where /tmp may be memory.
pub(super) fn temporary() -> PathBuf {
    let on_disk = Path::new("/var/tmp");
    let parent = if on_disk.is_dir() { on_disk.to_owned() } else { std::env::temp_dir() };
    parent.join(format!("kura-bench-{:08x}", rand::random::<u32>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_entries_or_does_not_answer_is_behind() {
        let member = |name: &str, reachable, lag_entries| wire::MemberStatus {
            name: name.into(),
            reachable,
            lag_entries,
            ..Default::default()
        };
        let members = vec![member("a", true, 0), member("b", true, 7), member("c", false, 0)];
        let found = behind(&wire::StatusReply { members, ..Default::default() });
        let words: Vec<String> = found.iter().map(Behind::to_string).collect();
        assert_eq!(words, ["b lacks 7 entries", "c does not answer"]);
    }
}
