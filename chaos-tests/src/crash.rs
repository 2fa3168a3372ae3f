//! Rounds of SIGKILL at random moments under writing, to any node.
//!
//! Each round lets the load run, kills some nodes and starts them again; the next does not wait for
//! them to catch up. Every tenth round, and at the end after a kill of everything, the load rests
//! and the cluster is checked in full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kura_client::now_ms;
use kura_client::operations::Operations;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, ClusterError, LOOK, QUICK, Role};
use crate::history::{FORMAT, Floors, Header, HistoryError, Line, Nemesis, NemesisEvent, Recorder};
use crate::load::{Load, LoadError, Scale, Shared};
use crate::scan;
use crate::seed::generator;

/// Rounds between two full checks.
pub const CHECK_EVERY: u32 = 10;

/// Acknowledged writes after a start for which most rounds wait, so that a kill meets a working cluster.
const WRITES_BEFORE_KILL: u64 = 5;

/// How long a cluster whose nodes all run may take to acknowledge writes again.
const RECOVERY: Duration = Duration::from_secs(45);

/// From the first of those writes to the kill, in milliseconds.
const LIVE_MS: std::ops::RangeInclusive<u64> = 0..=500;

/// From the kill to the start, in milliseconds.
const DEAD_MS: std::ops::RangeInclusive<u64> = 0..=700;

/// What a round aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The leader.
    Leader,
    /// A voter that does not lead.
    Follower,
    /// A backup.
    Backup,
    /// The leader and another voter: those left cannot go on.
    TwoVoters,
    /// The leader and a backup.
    LeaderAndBackup,
    /// All voters.
    Voters,
    /// All members.
    All,
}

impl Target {
    /// What ten rounds aim at, in some order.
    const DECK: [Self; 10] = [
        Self::Leader,
        Self::Leader,
        Self::Leader,
        Self::Follower,
        Self::Follower,
        Self::Backup,
        Self::TwoVoters,
        Self::LeaderAndBackup,
        Self::Voters,
        Self::All,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Backup => "backup",
            Self::TwoVoters => "two-voters",
            Self::LeaderAndBackup => "leader-and-backup",
            Self::Voters => "voters",
            Self::All => "all",
        }
    }

    /// The nodes. Where the leader is not known, any voter stands for it.
    fn nodes(self, voters: &[String], backups: &[String], leader: Option<&str>, draw: usize) -> Vec<String> {
        let first = leader.and_then(|leader| voters.iter().position(|voter| voter == leader));
        let first = first.unwrap_or(draw % voters.len());
        let after = |step: usize| voters[(first + step) % voters.len()].clone();
        let other = 1 + draw % (voters.len() - 1).max(1);
        let backup = || backups.get(draw % backups.len().max(1)).cloned();
        match self {
            Self::Leader => vec![after(0)],
            Self::Follower => vec![after(other)],
            Self::Backup => backup().into_iter().collect(),
            Self::TwoVoters => vec![after(0), after(other)],
            Self::LeaderAndBackup => [after(0)].into_iter().chain(backup()).collect(),
            Self::Voters => voters.to_vec(),
            Self::All => voters.iter().chain(backups).cloned().collect(),
        }
    }
}

/// One round, as the seed has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// What it aims at.
    pub target: Target,
    /// Whether it waits for the cluster to work again; one round in five does not.
    pub waits: bool,
    /// From then to the kill.
    pub live: Duration,
    /// From the kill to the start.
    pub dead: Duration,
    /// Chooses among equals.
    pub draw: usize,
}

/// The schedule of a seed.
pub fn schedule(seed: u64, rounds: u32) -> Vec<Round> {
    let mut random = generator(seed, "crash");
    let mut deck: Vec<Target> = Vec::new();
    (0..rounds).map(|_| round(&mut random, &mut deck)).collect()
}

fn round(random: &mut StdRng, deck: &mut Vec<Target>) -> Round {
    if deck.is_empty() {
        deck.extend(Target::DECK);
        deck.shuffle(random);
    }
    Round {
        // The deck was filled just now.
        target: deck.pop().unwrap_or(Target::Leader),
        waits: !random.random_ratio(1, 5),
        live: Duration::from_millis(random.random_range(LIVE_MS)),
        dead: Duration::from_millis(random.random_range(DEAD_MS)),
        draw: *[0, 1, 2, 3, 4, 5].choose(random).unwrap_or(&0),
    }
}

/// What a run of so many rounds must reach.
pub fn floors(rounds: u32) -> Floors {
    let rounds = u64::from(rounds);
    Floors {
        writes: 8 * rounds,
        reads: 2 * rounds,
        revocations: rounds / 5,
        kills: rounds,
        // Half of each deck aims at the leader; now and then nobody knows who it is.
        leader_kills: rounds / 5,
        kills_under_writing: rounds / 4,
        ..Floors::default()
    }
}

/// Why a run did not come to its end. What the cluster did wrong is judged from the history, unless
/// it kept the run from going on.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The cluster did not come back.
    #[error("before round {round}: only {writes} writes were acknowledged within {} s with all nodes running", RECOVERY.as_secs())]
    Silent {
        /// The round.
        round: u32,
        /// How many were acknowledged.
        writes: u64,
    },
}

/// A run and where it lies; its directory stays until [`Run::remove`].
pub struct Run {
    cluster: Cluster,
    seed: u64,
    schedule: Vec<Round>,
}

impl Run {
    /// A cluster for a run.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn prepare(seed: u64, rounds: u32) -> Result<Self, ClusterError> {
        Ok(Self { cluster: Cluster::start().await?, seed, schedule: schedule(seed, rounds) })
    }

    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        self.cluster.directory()
    }

    /// The history.
    pub fn history(&self) -> PathBuf {
        self.directory().join("history.jsonl")
    }

    /// Runs all rounds and writes the history. `say` is told of each round.
    ///
    /// # Errors
    /// [`CrashError`]; the history then ends early.
    pub async fn run(&mut self, say: impl Fn(&str)) -> Result<(), CrashError> {
        let cast = Load::set_up(&self.cluster, self.seed, Scale::CRASH.participants).await?;
        let recorder = Recorder::create(self.history(), self.header())?;
        let shared = Arc::new(Shared::new(recorder, cast));
        let mut rounds = Rounds::begin(&mut self.cluster, Arc::clone(&shared), self.seed).await?;
        let result = rounds.all(&self.schedule, &say).await;
        shared.recorder.flush();
        result?;
        self.cluster.stop().await?;
        shared.recorder.end()?;
        Ok(())
    }

    fn header(&self) -> Header {
        let rounds = u32::try_from(self.schedule.len()).unwrap_or(u32::MAX);
        Header {
            format: FORMAT,
            run: "crash".into(),
            seed: self.seed,
            rounds,
            version: self.cluster.version().to_owned(),
            began_ms: now_ms(),
            voters: self.cluster.voters().to_vec(),
            backups: self.cluster.backups().to_vec(),
            floors: floors(rounds),
            ..Header::default()
        }
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// [`ClusterError::File`].
    pub fn remove(self) -> Result<(), ClusterError> {
        self.cluster.remove()
    }
}

struct Rounds<'a> {
    cluster: &'a mut Cluster,
    shared: Arc<Shared>,
    load: Option<Load>,
    operations: Operations,
    /// Records before this place were read on every voter in a check.
    checked: usize,
}

impl<'a> Rounds<'a> {
    async fn begin(cluster: &'a mut Cluster, shared: Arc<Shared>, seed: u64) -> Result<Self, CrashError> {
        let load = Some(Load::start(cluster, &shared, seed, Scale::CRASH).await?);
        let operations = cluster.client(Role::Operator, None, QUICK).await?.operations();
        Ok(Self { cluster, shared, load, operations, checked: 0 })
    }

    async fn all(&mut self, schedule: &[Round], say: &impl Fn(&str)) -> Result<(), CrashError> {
        for (number, round) in (1..).zip(schedule) {
            let killed = self.round(number, round).await?;
            say(&format!(
                "round {number}: {} ({}), {} writes",
                round.target.word(),
                killed.join(" "),
                self.shared.acknowledged()
            ));
            if number % CHECK_EVERY == 0 {
                self.check().await?;
                say(&format!("round {number}: checked"));
            }
        }
        let last = u32::try_from(schedule.len()).unwrap_or(u32::MAX);
        self.finish(last).await?;
        say(&format!("final scan done, {} writes", self.shared.acknowledged()));
        Ok(())
    }

    async fn round(&mut self, number: u32, round: &Round) -> Result<Vec<String>, CrashError> {
        if round.waits {
            self.wait_for_writes(number).await?;
        }
        sleep(round.live).await;
        let status = self.operations.status().await.ok();
        if let Some(reply) = &status {
            scan::record_status(&self.shared, reply, false);
        }
        let leader = status.as_ref().and_then(scan::leader);
        let (voters, backups) = (self.cluster.voters(), self.cluster.backups());
        let nodes = round.target.nodes(voters, backups, leader.as_deref(), round.draw);
        self.kill(number, round.target.word(), &nodes, leader.as_deref()).await?;
        sleep(round.dead).await;
        self.start(number, &nodes)?;
        Ok(nodes)
    }

    async fn wait_for_writes(&mut self, round: u32) -> Result<(), CrashError> {
        let before = self.shared.acknowledged();
        let end = Instant::now() + RECOVERY;
        loop {
            let writes = self.shared.acknowledged() - before;
            if writes >= WRITES_BEFORE_KILL {
                return Ok(());
            }
            self.cluster.check()?;
            if Instant::now() >= end {
                return Err(CrashError::Silent { round, writes });
            }
            sleep(LOOK).await;
        }
    }

    async fn kill(
        &mut self,
        round: u32,
        target: &str,
        nodes: &[String],
        leader: Option<&str>,
    ) -> Result<(), CrashError> {
        let (at_us, writes_under_way) = (self.shared.recorder.now_us(), self.shared.writes_under_way());
        self.cluster.kill(nodes).await?;
        let leader = leader.is_some_and(|leader| nodes.iter().any(|node| node == leader));
        let event = NemesisEvent::Kill { target: target.into(), nodes: nodes.to_vec(), leader, writes_under_way };
        self.shared.recorder.write(&Line::Nemesis(Nemesis { round, at_us, event }));
        Ok(())
    }

    fn start(&mut self, round: u32, nodes: &[String]) -> Result<(), CrashError> {
        let at_us = self.shared.recorder.now_us();
        nodes.iter().try_for_each(|node| self.cluster.start_node(node))?;
        let event = NemesisEvent::Start { nodes: nodes.to_vec() };
        self.shared.recorder.write(&Line::Nemesis(Nemesis { round, at_us, event }));
        Ok(())
    }

    /// With the load at rest: what was acknowledged since the last check is read on every voter, all
    /// lists are, and all members agree.
    async fn check(&mut self) -> Result<(), CrashError> {
        if let Some(load) = &mut self.load {
            load.pause().await?;
        }
        scan::settle(self.cluster, &self.shared).await?;
        let records = self.shared.known_from(self.checked);
        self.checked += records.len();
        scan::scan(self.cluster, &self.shared, records).await?;
        scan::settle(self.cluster, &self.shared).await?;
        self.shared.recorder.flush();
        if let Some(load) = &mut self.load {
            load.go_on();
        }
        Ok(())
    }

    /// Everything is killed once more; then every acknowledged record is read on every voter.
    async fn finish(&mut self, round: u32) -> Result<(), CrashError> {
        if let Some(load) = self.load.take() {
            load.stop().await?;
        }
        let nodes = self.cluster.nodes();
        self.kill(round, "end", &nodes, None).await?;
        self.start(round, &nodes)?;
        scan::settle(self.cluster, &self.shared).await?;
        self.shared.recorder.write(&Line::FinalScan { at_us: self.shared.recorder.now_us() });
        self.checked = 0;
        self.check().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_repeats_and_ten_rounds_meet_every_target() {
        assert_eq!(schedule(7, 30), schedule(7, 30));
        assert_eq!(schedule(7, 30)[..10], schedule(7, 10));
        assert_ne!(schedule(7, 30), schedule(8, 30));
        for ten in schedule(7, 30).chunks(10) {
            for target in Target::DECK {
                assert!(ten.iter().any(|round| round.target == target), "{target:?}");
            }
        }
    }

    #[test]
    fn targets_are_the_nodes_they_say() {
        let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (voters, backups) = (names(&["v1", "v2", "v3"]), names(&["b1"]));
        for draw in 0..6 {
            let nodes = |target: Target| target.nodes(&voters, &backups, Some("v2"), draw);
            assert_eq!(nodes(Target::Leader), ["v2"]);
            assert!(["v1", "v3"].contains(&nodes(Target::Follower)[0].as_str()));
            assert_eq!(nodes(Target::Backup), ["b1"]);
            let two = nodes(Target::TwoVoters);
            assert!(two.len() == 2 && two[0] == "v2" && two[1] != "v2");
            assert_eq!(nodes(Target::LeaderAndBackup), ["v2", "b1"]);
            assert_eq!(nodes(Target::Voters), voters);
            assert_eq!(nodes(Target::All).len(), 4);
            assert_eq!(Target::Leader.nodes(&voters, &backups, None, draw).len(), 1);
        }
    }
}
