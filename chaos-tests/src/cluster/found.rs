//! A cluster apart, made on the documented way from bare hosts: authority, requests, certificates,
//! configurations, `init`, approvals, `join`, `add`. The command line does all of it, as people would.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kura_client::{Config, Endpoint, Timeouts};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, ClusterError, LOOK, binary, version};
use crate::site::Site;
use crate::site::network::{Network, PORT};

/// How long one command may take; adding a member waits for it to catch up.
pub(super) const COMMAND: Duration = Duration::from_secs(120);

/// The cluster's name.
const NAME: &str = "chaos";

/// Clients: role and name.
const CLIENTS: [(&str, &str); 5] = [
    ("application", "application"),
    ("registrar", "registrar-1"),
    ("registrar", "registrar-2"),
    ("operator", "operator"),
    ("auditor", "auditor"),
];

/// Log since the last snapshot that makes a new one, and log kept for a member that lags, in MiB: small, so
/// that a member that was away for long needs a full transfer.
const SNAPSHOT_EVERY_MIB: u64 = 3;
const LOG_MAX_MIB: u64 = 9;

/// Marks of free space, in MiB: disks are small.
const LOW_MIB: u64 = 160;
const RESERVE_MIB: u64 = 64;

impl Cluster {
    /// Makes a cluster in a site of its own.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn found(directory: &Path, site: Site, voters: usize, backups: usize) -> Result<Self, ClusterError> {
        Self::found_by(None, directory, site, voters, backups).await
    }

    /// As [`Cluster::found`], by the binary of an earlier release, if one is named: its nodes and its command line, until
    /// every node was upgraded.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn found_by(
        previous: Option<&Path>,
        directory: &Path,
        site: Site,
        voters: usize,
        backups: usize,
    ) -> Result<Self, ClusterError> {
        let executable = binary()?;
        let mut told = version(&executable).await?;
        let previous = match previous {
            Some(path) => {
                let path = fs::canonicalize(path).map_err(file(path))?;
                told = format!("{} upgraded to {told}", version(&path).await?);
                Some(path)
            }
            None => None,
        };
        let mut cluster = Self {
            executable,
            previous,
            upgraded: Default::default(),
            version: told,
            directory: directory.to_owned(),
            voters: Vec::new(),
            backups: Vec::new(),
            running: Default::default(),
            excused: Default::default(),
            site: Some(site),
        };
        fs::create_dir_all(directory.join("clients")).map_err(file(directory))?;
        cluster.kura("ca create", &["--directory", "ca", "--cluster", NAME]).await?;
        for (role, name) in CLIENTS {
            cluster.certificate(role, name).await?;
        }
        cluster.begin("voter-1").await?;
        for nth in 2..=voters {
            cluster.enlist(&format!("voter-{nth}"), false).await?;
        }
        for nth in 1..=backups {
            cluster.enlist(&format!("backup-{nth}"), true).await?;
        }
        cluster.check_roles().await?;
        Ok(cluster)
    }

    /// The site of a cluster apart.
    ///
    /// # Errors
    /// [`ClusterError::Client`] if this is none.
    pub fn site(&self) -> Result<&Site, ClusterError> {
        self.site.as_ref().ok_or_else(|| ClusterError::Client("this cluster has no site of its own".into()))
    }

    /// As [`Cluster::site`], to be changed.
    ///
    /// # Errors
    /// As [`Cluster::site`].
    pub fn site_mut(&mut self) -> Result<&mut Site, ClusterError> {
        self.site.as_mut().ok_or_else(|| ClusterError::Client("this cluster has no site of its own".into()))
    }

    async fn begin(&mut self, first: &str) -> Result<(), ClusterError> {
        self.place(first, false).await?;
        self.kura("init", &["--config", &config(first), "--cluster", NAME]).await?;
        self.start_node(first)?;
        self.voters.push(first.to_owned());
        self.write_clients()?;
        let end = Instant::now() + COMMAND;
        loop {
            self.check()?;
            match self.kura("status", &["--client", "clients/operator.toml", "--wait"]).await {
                Ok(_) => return Ok(()),
                // It may not listen yet.
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Makes a node's place, request, certificate and configuration.
    pub(super) async fn place(&mut self, node: &str, backup: bool) -> Result<(), ClusterError> {
        let folder = self.folder(node);
        // The archive's place is made beforehand, as its configuration wants it.
        let folders = if backup { folder.join("archive") } else { folder.clone() };
        fs::create_dir_all(&folders).map_err(file(&folders))?;
        let site = self.site_mut()?;
        site.add(node, &folder).await?;
        let (host, role) = (site.network.host(node), if backup { "backup" } else { "voter" });
        let (key, request) = (format!("nodes/{node}/node.key"), request(node));
        let named = ["--role", role, "--name", node];
        let files = ["--cluster", NAME, "--also", &host, "--key", &key, "--request", &request];
        self.kura("node request", &[&named[..], &files].concat()).await?;
        self.sign(node, backup, &format!("nodes/{node}/node.pem")).await?;
        let text = self.node_file(node, backup)?;
        let path = folder.join("config.toml");
        fs::write(&path, text).map_err(file(&path))
    }

    /// Has the authority sign a node's request.
    async fn sign(&self, node: &str, backup: bool, out: &str) -> Result<(), ClusterError> {
        let (request, host) = (request(node), self.site()?.network.host(node));
        let role = if backup { "backup" } else { "voter" };
        let words = ["--directory", "ca", "--role", role, "--name", node, "--also", &host, "--out", out];
        self.kura("ca sign", &[&[&request[..]], &words[..]].concat()).await.map(drop)
    }

    /// Renews a node's certificate under load: the same key, a new file renamed over the old one.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn renew(&self, node: &str) -> Result<(), ClusterError> {
        let fresh = format!("nodes/{node}/node.new.pem");
        self.sign(node, self.backups.iter().any(|backup| backup == node), &fresh).await?;
        let path = self.directory.join(&fresh);
        fs::rename(&path, self.folder(node).join("node.pem")).map_err(file(&path))
    }

    async fn certificate(&self, role: &str, name: &str) -> Result<(), ClusterError> {
        let [key, request, out] = ["key", "csr", "pem"].map(|end| format!("clients/{name}.{end}"));
        let named = ["--role", role, "--name", name];
        let files = ["--cluster", NAME, "--key", &key, "--request", &request];
        self.kura("ca request", &[&named[..], &files].concat()).await?;
        let files = ["--directory", "ca", "--out", &out];
        self.kura("ca sign", &[&[&request[..]], &named[..], &files].concat()).await.map(drop)
    }

    fn node_file(&self, node: &str, backup: bool) -> Result<String, ClusterError> {
        let site = self.site()?;
        let (network, address) = (&site.network, site.reached_at(node));
        let archive = if backup && site.has_archives() { "[archive]\nplace = \"archive\"\n" } else { "" };
        let root_key = if backup { "" } else { "root_key = \"root.key\"\n" };
        let peer =
            |voter: &String| format!("[[peers]]\nname = \"{voter}\"\naddress = \"{}\"\n", network.address(voter));
        let peers: String = self.voters.iter().map(peer).collect();
        Ok(format!(
            "name = \"{node}\"\ndata = \"disk/data\"\nlisten = \"0.0.0.0:{PORT}\"\nadvertise = \"{address}\"\n{root_key}\
             [tls]\ncertificate = \"node.pem\"\nprivate_key = \"node.key\"\nauthorities = \"../../ca/ca.pem\"\n{peers}\
             [space]\nlow_mib = {LOW_MIB}\nreserve_mib = {RESERVE_MIB}\n\
             [retention]\nsnapshot_every_mib = {SNAPSHOT_EVERY_MIB}\nlog_max_mib = {LOG_MAX_MIB}\n\
             [log]\nformat = \"text\"\nlevel = \"info,openraft=error\"\n{archive}"
        ))
    }

    /// All clients know all voters.
    pub(super) fn write_clients(&self) -> Result<(), ClusterError> {
        let network = &self.site()?.network;
        let endpoint = |voter: &String| Endpoint { name: voter.clone(), address: network.address(voter) };
        for (role, name) in CLIENTS {
            let config = Config {
                application: (role == "application").then(|| name.to_owned()),
                ca: "../ca/ca.pem".into(),
                certificate: format!("{name}.pem").into(),
                key: format!("{name}.key").into(),
                revocation_lists: Vec::new(),
                journal_head: None,
                endpoints: self.voters.iter().map(endpoint).collect(),
                timeouts: Timeouts::default(),
            };
            let text = config.to_toml().map_err(|error| ClusterError::Client(error.to_string()))?;
            let path = self.directory.join("clients").join(format!("{name}.toml"));
            fs::write(&path, text).map_err(file(&path))?;
        }
        Ok(())
    }

    /// Approves a node, lets it join and starts it.
    pub(super) async fn bring(&mut self, node: &str, backup: bool) -> Result<(), ClusterError> {
        self.place(node, backup).await?;
        let address = self.site()?.reached_at(node);
        let request = request(node);
        let approvers: &[&str] =
            if backup { &["clients/operator.toml"] } else { &["clients/operator.toml", "clients/registrar-1.toml"] };
        for client in approvers {
            self.kura("member approve", &[&request, "--address", &address, "--client", client]).await?;
        }
        self.kura_at(Some(node), "join", &["--config", &config(node)]).await?;
        self.start_node(node)
    }

    pub(super) async fn kura(&self, command: &'static str, arguments: &[&str]) -> Result<String, ClusterError> {
        self.kura_at(None, command, arguments).await
    }

    pub(super) async fn kura_at(
        &self,
        node: Option<&str>,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<String, ClusterError> {
        let failed = |message: String| ClusterError::Command { command, message };
        let mut words = node.map_or_else(Vec::new, Network::enter);
        words.push(self.command_line().display().to_string());
        words.extend(command.split(' ').chain(arguments.iter().copied()).map(str::to_owned));
        let mut called = Command::new(&words[0]);
        called.args(&words[1..]).current_dir(&self.directory).stdin(Stdio::null()).kill_on_drop(true);
        match timeout(COMMAND, called.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(Ok(output)) => Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("does not end within {} s", COMMAND.as_secs()))),
        }
    }
}

pub(super) fn config(node: &str) -> String {
    format!("nodes/{node}/config.toml")
}

fn request(node: &str) -> String {
    format!("nodes/{node}/node.csr")
}

pub(super) fn file(path: &Path) -> impl Fn(std::io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::File { path: path.clone(), source }
}
