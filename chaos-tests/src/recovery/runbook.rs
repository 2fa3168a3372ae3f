//! The loss, and the recovery as docs/recovery.md has it: from the backup's disk and the shares alone.
//!
//! Invariants
//! - Nothing of a voter is left: neither its disk, nor its keys, nor the key of the prefecture's authority.
//! - After the loss only commands of the page are run, each as its form stands there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kura_client::{Config, Endpoint, ErasureState};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::RecoveryError;
use super::link::Quality;
use super::load::{ERASED, LEAVERS, Session, TIMEOUTS};
use super::notes::{Answer, Kind, Witness};
use super::stage::{BACKUP, Stage};
use crate::cluster::{LOOK, Role};

/// Client configurations by name.
const CLIENTS: [&str; 6] = ["application", "registrar-1", "registrar-2", "operator", "auditor", "recovery"];
/// Voters that join the one that took over.
const JOINING: [&str; 2] = ["voter-4", "voter-5"];
/// How long a step may take until it has its effect.
const EFFECT: Duration = Duration::from_secs(90);
/// A participant who stays.
const STAYS: usize = ERASED + LEAVERS;

/// What is written first after the loss.
pub const FIRST_WRITE: &[u8] = b"written after the loss";

/// A place in a log, as the statement has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Place {
    /// The term.
    pub term: u64,
    /// The index.
    pub index: u64,
}

/// An entry that the statement calls unconfirmed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Unconfirmed {
    /// Where it lies.
    pub place: Place,
    /// Its requests, in hexadecimal.
    pub requests: Vec<String>,
}

/// A table of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct TableTold {
    /// Its word.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// The statement of the take-over, as `kura recover report --json` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Statement {
    /// The new timeline.
    pub timeline: u64,
    /// The last entry that is there.
    pub last: Place,
    /// The last that was known to be committed.
    pub committed: Place,
    /// How many lie between the two.
    pub unconfirmed: u64,
    /// They.
    pub tail: Vec<Unconfirmed>,
    /// The replication point that it was held against.
    pub published_index: Option<u64>,
    /// How many entries below it are not there.
    pub missing_below_published: Option<u64>,
    /// The tables.
    pub tables: Vec<TableTold>,
}

impl Statement {
    /// Rows of a table, by its word.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.iter().find(|one| one.table == table).map_or(0, |one| one.rows)
    }
}

/// What is seen before anything can be erased again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtReads {
    /// Participants whose keys are destroyed.
    pub erased: Vec<usize>,
    /// Participants whose erasure was told, and whose record was read all the same.
    pub opened: Vec<usize>,
}

/// When what was served again, in milliseconds since the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// A record was read.
    pub first_read_ms: u64,
    /// A record was written.
    pub first_write_ms: u64,
    /// There were three voters.
    pub three_voters_ms: u64,
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::File { path: path.clone(), source }
}

impl Stage {
    /// All voters die at one moment, and everything of them is gone. The backup loses its power at the same moment,
    /// or goes on for a while.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn lose_the_prefecture(&mut self, power_cut: bool) -> Result<(), RecoveryError> {
        let voters = self.cluster.voters().to_vec();
        if power_cut {
            self.cluster.signal(BACKUP, Signal::STOP)?;
            let helper = self.cluster.site()?.power_cut();
            self.cluster.site()?.disk(BACKUP)?.cut_power(&helper).await?;
            let all: Vec<String> = voters.iter().cloned().chain([BACKUP.to_owned()]).collect();
            self.cluster.kill(&all).await?;
            let disk = self.cluster.site()?.disk(BACKUP)?;
            disk.unmount().await?;
            disk.mount().await?;
        } else {
            self.cluster.kill(&voters).await?;
        }
        for voter in &voters {
            self.cluster.site()?.disk(voter)?.unmount().await?;
            let folder = self.cluster.folder(voter);
            fs::remove_dir_all(&folder).map_err(file(&folder))?;
        }
        let authority = self.cluster.directory().join("ca");
        for entry in fs::read_dir(&authority).map_err(file(&authority))?.flatten() {
            if entry.file_name() != "ca.pem" {
                fs::remove_file(entry.path()).map_err(file(&entry.path()))?;
            }
        }
        self.commands.by_the_page = true;
        Ok(())
    }

    /// Everything from "Assess" to "Add voters". `published` is the last replication point that the witness saw.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn recover(
        &mut self,
        session: &Session,
        published: Option<u64>,
        told_erased: &[usize],
        lost: Instant,
    ) -> Result<(Statement, Times, AtReads), RecoveryError> {
        // Stop the node of the backup first. Nobody but the backup is left of all.
        self.cluster.stop().await?;
        self.link.set(Quality::NEAR);
        let data = format!("nodes/{BACKUP}/disk/data");
        let plan = format!("recover plan {data} --out plan.json");
        match published {
            Some(index) => self.commands.run(None, &format!("{plan} --published {index}"), &[]).await?,
            None => self.commands.run(None, &plan, &[]).await?,
        };
        let config = format!("nodes/{BACKUP}/config.toml");
        self.write_taken()?;
        let apply = format!("recover apply --plan plan.json --config {config} --ca new-ca --fenced");
        let typed = ["chaos".to_owned(), self.shares[0].clone(), self.shares[2].clone()];
        self.commands.call(None, &apply, &["the site burnt down"], &typed).await?;
        let told = self.commands.json(&format!("recover report --config {config}"), &[], &[]).await?;
        let statement: Statement = serde_json::from_value(told)
            .map_err(|error| RecoveryError::Command { command: "recover report".into(), message: error.to_string() })?;
        let verified = self.commands.json(&format!("recover verify --config {config}"), &[], &[]).await?;
        if verified["sound"] != Value::Bool(true) {
            return Err(RecoveryError::Unsound(verified.to_string()));
        }
        self.cluster.start_node(BACKUP)?;
        self.reach_the_backup()?;
        let client = self.cluster.client(Role::Application, None, TIMEOUTS).await?;
        // Notes of its own: what is done now was not done by the cluster that is lost.
        let session = Session { client, witness: Arc::new(Witness::default()), ..session.clone() };
        self.retried(None, "status --client clients/operator.toml --wait").await?;
        let mut times = Times::default();
        for step in ["emergency", "reads"] {
            self.retried(None, &format!("recover open {step} --client clients/recovery.toml")).await?;
        }
        let since = |lost: Instant| u64::try_from(lost.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = self.base[STAYS];
        self.until("a first read", || async {
            session.read(STAYS, record, crate::load::HOME).await;
            last_is_acknowledged(&session, Kind::Read)
        })
        .await?;
        times.first_read_ms = since(lost);
        let at_reads = self.at_reads(&session, told_erased).await?;
        self.retried(None, "recover open writes --client clients/recovery.toml").await?;
        self.until("a first write", || async { session.put(STAYS, FIRST_WRITE.to_vec()).await.is_some() }).await?;
        times.first_write_ms = since(lost);
        for voter in JOINING {
            self.join(voter).await?;
        }
        times.three_voters_ms = since(lost);
        Ok((statement, times, at_reads))
    }

    async fn at_reads(&mut self, session: &Session, told_erased: &[usize]) -> Result<AtReads, RecoveryError> {
        let registrar = self.cluster.client(Role::Registrar, None, TIMEOUTS).await?.erasures();
        let all = registrar.list().stream().take(self.asked.len() + 100).await;
        let all = all.map_err(|error| RecoveryError::Setup(format!("the list of erasures: {error}")))?;
        let gone = |state| matches!(state, ErasureState::Pending | ErasureState::Certified);
        let gone = all.iter().filter(|erasure| gone(erasure.state));
        let erased = gone.filter_map(|erasure| Some(self.asked.get(&erasure.id)?.0)).collect();
        let mut opened = Vec::new();
        for place in told_erased {
            session.read(*place, self.base[*place], crate::load::HOME).await;
            if last_is_acknowledged(session, Kind::Read) {
                opened.push(*place);
            }
        }
        Ok(AtReads { erased, opened })
    }

    /// As the page changes the backup's configuration: another data directory on the same disk, another
    /// certificate, a voter's root key.
    fn write_taken(&self) -> Result<(), RecoveryError> {
        let path = self.cluster.folder(BACKUP).join("config.toml");
        let text = fs::read_to_string(&path).map_err(file(&path))?;
        let taken = text
            .replace("\"disk/data\"", "\"disk/taken\"")
            .replace("\"node.pem\"", "\"voter.pem\"")
            .replace("\n[tls]", "\nroot_key = \"root.key\"\n[tls]");
        fs::write(&path, taken).map_err(file(&path))
    }

    /// Every client configuration names the backup, too.
    fn reach_the_backup(&self) -> Result<(), RecoveryError> {
        let address = self.cluster.site()?.network.address(BACKUP);
        for name in CLIENTS {
            let path = self.cluster.directory().join("clients").join(format!("{name}.toml"));
            let failed = |message: String| RecoveryError::Setup(message);
            // Relative paths stay as they are: the file is added to, as people would.
            let mut text = fs::read_to_string(&path).map_err(file(&path))?;
            text += &format!("\n[[endpoints]]\nname = \"{BACKUP}\"\naddress = \"{address}\"\n");
            fs::write(&path, text).map_err(file(&path))?;
            let config = Config::load(&path).map_err(|error| failed(error.to_string()))?;
            let wanted = Endpoint { name: BACKUP.into(), address: address.clone() };
            if !config.endpoints.contains(&wanted) {
                return Err(failed(format!("{} does not name the backup", path.display())));
            }
        }
        Ok(())
    }

    /// Key, request, certificate by the recovery authority, both approvals, join, start, add.
    async fn join(&mut self, voter: &str) -> Result<(), RecoveryError> {
        let folder = self.cluster.folder(voter);
        fs::create_dir_all(&folder).map_err(file(&folder))?;
        self.cluster.site_mut()?.add(voter, &folder).await?;
        let network = &self.cluster.site()?.network;
        let (host, address, backup) = (network.host(voter), network.address(voter), network.address(BACKUP));
        let [key, request, out] = ["key", "csr", "pem"].map(|end| format!("nodes/{voter}/node.{end}"));
        let named = format!("--role voter --name {voter}");
        let ask = format!("node request {named} --cluster chaos --also {host} --key {key} --request {request}");
        self.commands.run(None, &ask, &[]).await?;
        let sign = format!("ca sign {request} --directory new-ca {named} --also {host} --out {out}");
        self.commands.run(None, &sign, &[]).await?;
        let text = format!(
            "name = \"{voter}\"\ndata = \"disk/data\"\nlisten = \"0.0.0.0:7001\"\nadvertise = \"{address}\"\n\
             root_key = \"root.key\"\n[tls]\ncertificate = \"node.pem\"\nprivate_key = \"node.key\"\n\
             authorities = \"../../ca/ca.pem\"\n[[peers]]\nname = \"{BACKUP}\"\naddress = \"{backup}\"\n\
             [space]\nlow_mib = 160\nreserve_mib = 64\n"
        );
        let path = folder.join("config.toml");
        fs::write(&path, text).map_err(file(&path))?;
        for approver in ["operator", "registrar-1"] {
            let approve = format!("member approve {request} --address {address} --client clients/{approver}.toml");
            self.retried(None, &approve).await?;
        }
        self.retried(Some(voter), &format!("join --config nodes/{voter}/config.toml")).await?;
        self.cluster.start_node(voter)?;
        self.retried(None, &format!("member add-voter {voter} --client clients/operator.toml")).await
    }

    /// A command that may have to wait for what was started just before, as people would type it again.
    async fn retried(&mut self, node: Option<&str>, words: &str) -> Result<(), RecoveryError> {
        let end = Instant::now() + EFFECT;
        loop {
            self.cluster.check()?;
            match self.commands.run(node, words, &[]).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    async fn until<F: Future<Output = bool>>(
        &mut self,
        what: &'static str,
        attempt: impl Fn() -> F,
    ) -> Result<(), RecoveryError> {
        let end = Instant::now() + EFFECT;
        while !attempt().await {
            self.cluster.check()?;
            if Instant::now() >= end {
                return Err(RecoveryError::Late { what });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Where a node's log lies.
    pub fn log_of(&self, node: &str) -> PathBuf {
        self.cluster.folder(node).join("log.txt")
    }
}

/// Whether the last act of a kind was done.
fn last_is_acknowledged(session: &Session, kind: Kind) -> bool {
    let notes = session.witness.notes();
    let last = notes.deeds.iter().rev().find(|deed| deed.act.kind == kind);
    last.is_some_and(|deed| matches!(deed.answer, Some(Answer::Acknowledged(_))))
}
