//! A run apart: faults of every kind under load, healing, checks, a final scan.
//!
//! Invariants
//! - The schedule follows from the seed; a run ends after a time, so a longer run of a seed begins with
//!   the schedule of a shorter one.
//! - Between two checks nothing stays broken: every fault is taken back at the end of its slot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kura_client::now_ms;
use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, ClusterError, LOOK};
use crate::history::{
    Bounds, FORMAT, Floors, Header, HistoryError, Line, Machine, Nemesis, NemesisEvent, NotRun, Recorder,
};
use crate::load::{Load, LoadError, Scale, Shared};
use crate::nemesis::Kind;
use crate::nemesis::act::Faults;
use crate::nemesis::plan::Slots;
use crate::scan;
use crate::seed::generator;
use crate::site::Site;
use crate::site::tool::ToolError;

/// Time between two full checks.
const CHECK_EVERY: Duration = Duration::from_secs(120);

/// Operations that deal with one participant between two rests: what a search for an order can take.
const EACH_MAX: u32 = 290;

/// As many for any participant call for a check: what is left must do for a slot.
const EACH_CHECK: u32 = 170;

/// How long a healed cluster may take to acknowledge writes again.
const RECOVERY: Duration = Duration::from_secs(60);

/// Writes that show that it does.
const WRITES: u64 = 10;

/// What a node may need: generous, against leaks and loops rather than for tuning.
const BOUNDS: Bounds = Bounds { memory_mib: 1_536, descriptors: 4_096, disk_factor: 8, disk_base_mib: 256 };

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// From the first fault to the last healing, about.
    pub length: Duration,
    /// Kinds of faults.
    pub kinds: Vec<Kind>,
    /// The shortest and longest time that a fault lasts, in milliseconds.
    pub hold_ms: (u64, u64),
    /// The load.
    pub scale: Scale,
    /// Operations that the load must come to, for each second of the length, or the run says nothing. On a
    /// machine too busy for that the run goes on until it has, for as long again.
    pub floor_each_second: u64,
    /// What could not be set up.
    pub not_run: Vec<NotRun>,
    /// The binary of an earlier release, with which the cluster begins.
    pub previous: Option<PathBuf>,
}

impl Plan {
    /// A short run of a few kinds: about a minute with everything, where the machine has time for it.
    pub fn smoke(seed: u64) -> Self {
        let kinds = [
            Kind::KillLeader,
            Kind::PauseLeader,
            Kind::IsolateLeader,
            Kind::CutLeader,
            Kind::OnePeer,
            Kind::Lossy,
            Kind::FullFollower,
            Kind::SyncError,
            Kind::PowerCutVoters,
        ];
        Self {
            seed,
            length: Duration::from_secs(36),
            kinds: kinds.to_vec(),
            hold_ms: (2_500, 3_500),
            scale: Scale { clients: 12, participants: 36, groups: 2, pace_ms: 60, large: 4, each_max: EACH_MAX },
            floor_each_second: 25,
            not_run: Vec::new(),
            previous: None,
        }
    }

    /// A run of every kind, but for the upgrade, which takes a binary to upgrade from ([`Plan::upgrade_from`]).
    pub fn long(seed: u64, minutes: u64) -> Self {
        Self {
            seed,
            length: Duration::from_secs(60 * minutes),
            kinds: Kind::all().filter(|kind| *kind != Kind::Upgrade).collect(),
            hold_ms: (5_000, 12_000),
            scale: Scale { clients: 20, participants: 120, groups: 2, pace_ms: 130, large: 2, each_max: EACH_MAX },
            floor_each_second: 60,
            not_run: Vec::new(),
            previous: None,
        }
    }

    /// Has the cluster begin with a binary of an earlier release, and go over to this one within the run.
    pub fn upgrade_from(&mut self, previous: PathBuf) {
        self.previous = Some(previous);
        if !self.kinds.contains(&Kind::Upgrade) {
            self.kinds.push(Kind::Upgrade);
        }
    }

    /// Room for what is written in that time, its log, and a snapshot that is on its way.
    fn disk_mib(&self) -> u64 {
        1_536 + 3 * self.length.as_secs()
    }

    /// Slots that meet every kind, if there is time for it, and for replacing members.
    fn slots(&self) -> u32 {
        let slots = 1_000 * self.length.as_secs() / (self.hold_ms.1 + 8_000);
        u32::try_from(self.kinds.len()).ok().filter(|kinds| slots >= u64::from(*kinds)).unwrap_or(0)
    }

    /// What the load must come to.
    fn operations(&self) -> u64 {
        self.length.as_secs() * self.floor_each_second
    }

    /// Faults that must hit.
    fn faults(&self) -> u32 {
        let slots = 1_000 * self.length.as_secs() / (self.hold_ms.1 + 3_000);
        u32::try_from(slots / 2).unwrap_or(u32::MAX)
    }

    fn header(&self, cluster: &Cluster) -> Header {
        let seconds = self.length.as_secs();
        Header {
            format: FORMAT,
            run: "chaos".into(),
            seed: self.seed,
            rounds: 0,
            version: cluster.version().to_owned(),
            began_ms: now_ms(),
            voters: cluster.voters().to_vec(),
            backups: cluster.backups().to_vec(),
            floors: Floors {
                operations: self.operations(),
                faults: u64::from(self.faults()),
                writes: seconds * 4,
                reads: seconds * 2,
                revocations: seconds / 6,
                ..Floors::default()
            },
            // A run that has time for every kind must have met every kind.
            kinds: if self.slots() > 0 {
                self.kinds.iter().map(|kind| kind.word().to_owned()).collect()
            } else {
                Vec::new()
            },
            not_run: self.not_run.clone(),
            bounds: Some(BOUNDS),
        }
    }
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program of the system.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The cluster did not come back.
    #[error("after slot {slot} only {writes} writes were acknowledged within {} s, with every fault healed", RECOVERY.as_secs())]
    Silent {
        /// The slot.
        slot: u32,
        /// How many were acknowledged.
        writes: u64,
    },
}

/// Where a run's history lies.
pub fn history(directory: &Path) -> PathBuf {
    directory.join("history.jsonl")
}

/// Runs a plan in a directory, in this process's namespaces, and writes the history. `say` is told each step.
///
/// # Errors
/// [`ChaosError`]; the history, if there is one, then ends early.
pub async fn run(plan: &Plan, directory: &Path, say: &dyn Fn(&str)) -> Result<(), ChaosError> {
    say("a site: namespaces, disks");
    let mut site = Site::open(directory, plan.disk_mib()).await?;
    site.set_clock(0)?;
    if plan.kinds.contains(&Kind::RestoreCut) {
        site.give_archives();
    }
    let previous = plan.previous.as_deref().filter(|_| plan.kinds.contains(&Kind::Upgrade));
    let mut cluster = Cluster::found_by(previous, directory, site, 3, 1).await?;
    if plan.kinds.contains(&Kind::Clock) {
        let which = generator(plan.seed, "clock").random_range(0..cluster.voters().len());
        let node = cluster.voters()[which].clone();
        cluster.site_mut()?.give_clock(&node);
        cluster.kill(std::slice::from_ref(&node)).await?;
        cluster.start_node(&node)?;
    }
    say("everybody is registered");
    let cast = Load::set_up(&cluster, plan.seed, plan.scale.participants).await?;
    let recorder = Recorder::create(history(directory), plan.header(&cluster))?;
    let shared = Arc::new(Shared::new(recorder, cast));
    let faults = Faults::new(&cluster, &shared).await?;
    let load = Some(Load::start(&cluster, &shared, plan.seed, plan.scale).await?);
    let mut run = Run { cluster, shared, faults, load, slot: 0, checked: 0 };
    let result = run.all(plan, say).await;
    run.shared.recorder.flush();
    result?;
    run.cluster.stop().await?;
    run.shared.recorder.end()?;
    Ok(())
}

struct Run {
    cluster: Cluster,
    shared: Arc<Shared>,
    faults: Faults,
    load: Option<Load>,
    slot: u32,
    /// Records before this place were read on every voter in a check.
    checked: usize,
}

impl Run {
    async fn all(&mut self, plan: &Plan, say: &dyn Fn(&str)) -> Result<(), ChaosError> {
        let (end, mut check) = (Instant::now() + plan.length, Instant::now() + CHECK_EVERY);
        self.wait_for_writes().await?;
        for slot in Slots::new(plan.seed, &plan.kinds, plan.hold_ms) {
            let now = Instant::now();
            let enough = self.shared.answered() >= plan.operations() && self.slot >= plan.slots().max(plan.faults());
            if now >= end && (enough || now >= end + plan.length) {
                break;
            }
            self.slot += 1;
            say(&format!(
                "slot {}: {}",
                self.slot,
                self.faults.begin(&mut self.cluster, self.slot, slot.kind, slot.draw).await
            ));
            if let Some((kind, after, draw)) = slot.second {
                sleep(after).await;
                say(&format!("   and {}", self.faults.begin(&mut self.cluster, self.slot, kind, draw).await));
            }
            sleep(slot.hold).await;
            self.cluster.check()?;
            let members = self.cluster.nodes();
            self.faults.heal(&mut self.cluster, self.slot).await?;
            if let (Some(load), true) = (&self.load, members != self.cluster.nodes()) {
                load.reconnect(&self.cluster).await?;
            }
            sleep(slot.breath).await;
            // Before writes are waited for: a long fault may have taken all operations that a participant may have
            // until a rest, and then nobody writes.
            if Instant::now() >= check || self.shared.busiest() >= EACH_CHECK {
                self.check().await?;
                say(&format!("checked, {} records", self.checked));
                check = Instant::now() + CHECK_EVERY;
            }
            self.wait_for_writes().await?;
        }
        say("the end: everything is killed, everything is read");
        self.finish().await
    }

    async fn wait_for_writes(&mut self) -> Result<(), ChaosError> {
        let before = self.shared.acknowledged();
        let end = Instant::now() + RECOVERY;
        loop {
            let writes = self.shared.acknowledged() - before;
            if writes >= WRITES {
                return Ok(());
            }
            self.cluster.check()?;
            if Instant::now() >= end {
                return Err(ChaosError::Silent { slot: self.slot, writes });
            }
            sleep(LOOK).await;
        }
    }

    /// With the load at rest: all members agree, and what was acknowledged since the last check is read on
    /// every voter.
    async fn check(&mut self) -> Result<(), ChaosError> {
        if let Some(load) = &mut self.load {
            load.pause().await?;
        }
        scan::settle(&mut self.cluster, &self.shared).await?;
        let records = self.shared.known_from(self.checked);
        self.checked += records.len();
        scan::scan(&self.cluster, &self.shared, records).await?;
        scan::settle(&mut self.cluster, &self.shared).await?;
        self.machines()?;
        self.shared.recorder.flush();
        if let Some(load) = &mut self.load {
            load.go_on();
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ChaosError> {
        if let Some(load) = self.load.take() {
            load.stop().await?;
        }
        // What they need after a run, before they begin anew.
        self.machines()?;
        let nodes = self.cluster.nodes();
        let at_us = self.shared.recorder.now_us();
        self.cluster.kill(&nodes).await?;
        let event =
            NemesisEvent::Kill { target: "end".into(), nodes: nodes.clone(), leader: false, writes_under_way: 0 };
        self.shared.recorder.write(&Line::Nemesis(Nemesis { round: self.slot, at_us, event }));
        nodes.iter().try_for_each(|node| self.cluster.start_node(node))?;
        scan::settle(&mut self.cluster, &self.shared).await?;
        self.shared.recorder.write(&Line::FinalScan { at_us: self.shared.recorder.now_us() });
        self.checked = 0;
        self.check().await?;
        scan::journal(&self.cluster, &self.shared).await?;
        scan::settle(&mut self.cluster, &self.shared).await?;
        Ok(())
    }

    /// Records what each node needs of the machine.
    fn machines(&self) -> Result<(), ChaosError> {
        for (node, id) in self.cluster.ids() {
            let process = PathBuf::from(format!("/proc/{id}"));
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
            let descriptors = std::fs::read_dir(process.join("fd")).map_or(0, Iterator::count) as u64;
            let disk_bytes = self.cluster.site()?.disk(&node)?.used()?;
            let at_us = self.shared.recorder.now_us();
            self.shared.recorder.write(&Line::Machine(Machine {
                at_us,
                node,
                memory_mib: kib >> 10,
                descriptors,
                disk_bytes,
            }));
        }
        Ok(())
    }
}
