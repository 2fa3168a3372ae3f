//! The cluster as a library: start, stop, kill, restart, and the clients' configurations.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kura_client::{Client, Config, wire};
use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use super::layout::{ClientFile, Layout};
use super::plan::{Member, Plan};
use super::process::Process;
use super::{DevError, Signal, first_start, ports, shares};

/// How long all members may take to answer after a start.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything lies; made if it is not there.
    pub directory: PathBuf,
    /// Voters, at least 1.
    pub voters: u32,
    /// Backup members.
    pub backups: u32,
    /// First of two ports for each member; free ones are chosen without it. Used by the first start only.
    pub base_port: Option<u16>,
    /// Whether the first start also makes shares of the root key.
    pub shares: bool,
    /// The `kura` executable.
    pub executable: PathBuf,
}

impl Options {
    /// Three voters and a backup, run by this executable itself; no shares of the root key.
    ///
    /// # Errors
    /// [`DevError::File`] if this process cannot tell its own executable.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, DevError> {
        let executable = std::env::current_exe().map_err(DevError::file("the kura executable"))?;
        Ok(Self { directory: directory.into(), voters: 3, backups: 1, base_port: None, shares: false, executable })
    }
}

/// A running cluster. Dropping it kills its nodes; [`Cluster::stop`] lets them drain.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    plan: Plan,
    executable: PathBuf,
    processes: BTreeMap<String, Process>,
    /// Held as long as the cluster is.
    _lock: Lock,
}

/// A claimed directory.
#[derive(Debug)]
struct Lock(File);

/// A child that is just being started holds the file open, too, until it runs its own program: closing alone would
/// give the directory back a moment later.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Cluster {
    /// Starts the cluster of a directory, making it if there is none, and waits until every member
    /// answers. `say` is told each step.
    ///
    /// # Errors
    /// [`DevError`]; nodes that were started are stopped again.
    pub async fn start(options: Options, say: &(dyn Fn(&str) + Sync)) -> Result<Self, DevError> {
        let directory = &options.directory;
        fs::create_dir_all(directory).map_err(DevError::file(directory))?;
        let directory = fs::canonicalize(directory).map_err(DevError::file(directory))?;
        let layout = Layout::new(directory);
        let (plan, lock) = Self::claim(&layout, &options)?;
        let mut cluster =
            Self { layout, plan, executable: options.executable, processes: BTreeMap::new(), _lock: lock };
        if cluster.plan.complete {
            say("starting the nodes");
            for member in cluster.plan.members.clone() {
                cluster.spawn(&member)?;
            }
        } else {
            first_start::run(&mut cluster, say).await?;
        }
        say("waiting for every member");
        cluster.wait_ready(READY_LIMIT).await?;
        if !cluster.plan.complete {
            if options.shares {
                say("making shares of the root key");
                shares::make(&cluster).await?;
            }
            cluster.plan.complete = true;
            cluster.plan.save(&cluster.layout)?;
        }
        Ok(cluster)
    }

    fn claim(layout: &Layout, options: &Options) -> Result<(Plan, Lock), DevError> {
        let path = layout.directory().to_owned();
        let known = Plan::load(layout)?;
        if known.is_none() {
            let mut entries = fs::read_dir(&path).map_err(DevError::file(&path))?;
            if entries.any(|entry| entry.is_ok_and(|entry| entry.path() != layout.lock())) {
                return Err(DevError::NotOurs { path });
            }
        }
        let lock = File::create(layout.lock()).map_err(DevError::file(layout.lock()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DevError::InUse { path });
        }
        let lock = Lock(lock);
        let plan = match known {
            Some(plan) => {
                let size = (plan.voters().count() as u32, plan.backups().count() as u32);
                if size != (options.voters, options.backups) {
                    return Err(DevError::OtherSize { path, voters: size.0, backups: size.1 });
                }
                plan
            }
            None => {
                let plan = Plan::new(options.voters, options.backups, options.base_port)?;
                plan.save(layout)?;
                plan
            }
        };
        Ok((plan, lock))
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The members.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn executable(&self) -> &Path {
        &self.executable
    }

    pub(super) fn put(&mut self, name: &str, process: Process) {
        self.processes.insert(name.to_owned(), process);
    }

    fn member(&self, name: &str) -> Result<&Member, DevError> {
        let found = self.plan.members.iter().find(|member| member.name == name);
        found.ok_or_else(|| DevError::NoSuchNode(name.to_owned()))
    }

    /// A client configuration, with every voter as an endpoint.
    ///
    /// # Errors
    /// [`DevError::Refused`] if the file does not load.
    pub fn client_config(&self, file: ClientFile) -> Result<Config, DevError> {
        Config::load(self.layout.client(file)).map_err(|error| DevError::refused("the client configuration", &error))
    }

    /// A client configuration that talks to one member only.
    ///
    /// # Errors
    /// [`DevError::NoSuchNode`], [`DevError::Refused`].
    pub fn client_config_at(&self, file: ClientFile, node: &str) -> Result<Config, DevError> {
        let member = self.member(node)?;
        let endpoint = kura_client::Endpoint { name: member.name.clone(), address: member.address() };
        Ok(Config { endpoints: vec![endpoint], ..self.client_config(file)? })
    }

    /// A connection to any voter.
    ///
    /// # Errors
    /// [`DevError::Refused`].
    pub async fn client(&self, file: ClientFile) -> Result<Client, DevError> {
        first_start::connect(self.client_config(file)?).await
    }

    /// A connection to one member only.
    ///
    /// # Errors
    /// [`DevError::NoSuchNode`], [`DevError::Refused`].
    pub async fn client_at(&self, file: ClientFile, node: &str) -> Result<Client, DevError> {
        first_start::connect(self.client_config_at(file, node)?).await
    }

    /// The process id of a running node.
    pub fn process_id(&self, node: &str) -> Option<u32> {
        self.processes.get(node)?.id()
    }

    /// The first node that ended by itself since the last look, as an error; it is then no longer
    /// counted as running.
    ///
    /// # Errors
    /// [`DevError::Ended`].
    pub fn check(&mut self) -> Result<(), DevError> {
        let ended = self.processes.iter_mut().find_map(|(name, process)| Some((name.clone(), process.ended()?)));
        match ended {
            None => Ok(()),
            Some((name, error)) => {
                self.processes.remove(&name);
                Err(error)
            }
        }
    }

    /// Sends a signal to a node; after SIGKILL waits until it is gone.
    ///
    /// # Errors
    /// [`DevError::NoSuchNode`] if it does not run.
    pub async fn kill(&mut self, node: &str, signal: Signal) -> Result<(), DevError> {
        let missing = || DevError::NoSuchNode(node.to_owned());
        let process = self.processes.get_mut(node).ok_or_else(missing)?;
        process.signal(signal)?;
        if signal == Signal::KILL {
            process.wait().await?;
            self.processes.remove(node);
        }
        Ok(())
    }

    /// Starts a node that does not run, and waits until it takes connections.
    ///
    /// # Errors
    /// [`DevError`].
    pub async fn restart(&mut self, node: &str) -> Result<(), DevError> {
        let member = self.member(node)?.clone();
        if let Some(running) = self.processes.remove(node) {
            running.stop().await?;
        }
        self.spawn(&member)?;
        first_start::wait_for_port(self, &member).await
    }

    /// Makes a further voter on the documented path (key, certificate, both approvals, join) and starts
    /// it. It is no member yet: an operator adds it, or replaces another member by it.
    ///
    /// # Errors
    /// [`DevError`].
    pub async fn enlist_voter(&mut self, name: &str) -> Result<(), DevError> {
        let member = self.plan_member(name, false)?;
        first_start::prepare(self, &member).await?;
        first_start::enlist(self, &member).await
    }

    /// Makes a further backup up to where it can join: key, certificate, configuration without an archive, approval.
    ///
    /// # Errors
    /// [`DevError`].
    pub async fn prepare_backup(&mut self, name: &str) -> Result<(), DevError> {
        let member = self.plan_member(name, true)?;
        first_start::prepare(self, &member).await
    }

    fn plan_member(&mut self, name: &str, backup: bool) -> Result<Member, DevError> {
        let ports = ports::free(2, None)?;
        let member = Member { name: name.to_owned(), backup, port: ports[0], metrics_port: ports[1] };
        self.plan.members.push(member.clone());
        self.plan.save(&self.layout)?;
        Ok(member)
    }

    /// Kills a node, deletes all that it wrote and forgets it here. Whether it still belongs to the
    /// membership is the operator's affair.
    ///
    /// # Errors
    /// [`DevError`].
    pub async fn discard(&mut self, name: &str) -> Result<(), DevError> {
        self.member(name)?;
        if self.processes.contains_key(name) {
            self.kill(name, Signal::KILL).await?;
        }
        let folder = self.layout.node(name);
        fs::remove_dir_all(&folder).map_err(DevError::file(folder))?;
        self.plan.members.retain(|member| member.name != name);
        self.plan.save(&self.layout)
    }

    fn spawn(&mut self, member: &Member) -> Result<(), DevError> {
        let process = Process::serve(&self.executable, &self.layout, &member.name)?;
        self.put(&member.name, process);
        Ok(())
    }

    /// Waits until there is a leader and every member answers.
    ///
    /// # Errors
    /// [`DevError::Late`], [`DevError::Ended`].
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<wire::StatusReply, DevError> {
        let wanted = self.plan.members.len();
        self.wait_until("every member", limit, |reply| {
            let silent = reply.members.iter().find(|member| !member.reachable);
            match silent {
                _ if reply.leader_id == 0 => Err("there is no leader".into()),
                Some(member) => Err(format!("{} does not answer", member.name)),
                None if reply.members.len() < wanted => Err(format!("only {} members", reply.members.len())),
                None => Ok(()),
            }
        })
        .await
    }

    /// Waits until a status satisfies a condition, which otherwise says what is missing.
    ///
    /// # Errors
    /// [`DevError::Late`] with what was missing last, [`DevError::Ended`].
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&wire::StatusReply) -> Result<(), String>,
    ) -> Result<wire::StatusReply, DevError> {
        let config = self.client_config(ClientFile::Operator)?;
        let client = Client::connect_lazily(config).await.map_err(|error| DevError::refused("connecting", &error))?;
        let end = Instant::now() + limit;
        let mut last = "no answer".to_owned();
        loop {
            self.check()?;
            if Instant::now() >= end {
                return Err(DevError::Late { what: what.to_owned(), seconds: limit.as_secs(), last });
            }
            match client.operations().status().await {
                Ok(reply) => match condition(&reply) {
                    Ok(()) => return Ok(reply),
                    Err(missing) => last = missing,
                },
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops every node: SIGTERM, and SIGKILL for those that do not drain in time. Answers those
    /// that did not end well.
    ///
    /// # Errors
    /// [`DevError`].
    pub async fn stop(&mut self) -> Result<Vec<String>, DevError> {
        let processes = std::mem::take(&mut self.processes);
        let stopping = processes.into_iter().map(|(name, process)| async move { (name, process.stop().await) });
        let mut badly = Vec::new();
        for (name, stopped) in futures_util::future::join_all(stopping).await {
            if !stopped? {
                badly.push(name);
            }
        }
        Ok(badly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &Path) -> Options {
        Options { executable: "/bin/false".into(), ..Options::new(directory).unwrap() }
    }

    #[test]
    fn a_directory_is_claimed_once_and_only_if_it_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (plan, lock) = Cluster::claim(&layout, &options(directory.path())).unwrap();
        assert!(matches!(Cluster::claim(&layout, &options(directory.path())), Err(DevError::InUse { .. })));
        drop(lock);
        let (again, lock) = Cluster::claim(&layout, &options(directory.path())).unwrap();
        assert_eq!(again, plan);
        drop(lock);
        let larger = Options { voters: 5, ..options(directory.path()) };
        assert!(matches!(Cluster::claim(&layout, &larger), Err(DevError::OtherSize { voters: 3, .. })));

        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.txt"), "mine").unwrap();
        let layout = Layout::new(other.path());
        assert!(matches!(Cluster::claim(&layout, &options(other.path())), Err(DevError::NotOurs { .. })));
    }

    #[tokio::test]
    async fn a_first_start_that_fails_names_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let error = Cluster::start(options(directory.path()), &|_| {}).await.unwrap_err();
        assert!(
            matches!(&error, DevError::Command { command: "init", log, .. } if log.ends_with("voter-1/log.txt")),
            "{error}"
        );
    }
}
