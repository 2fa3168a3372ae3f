//! Setting faults and taking them back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kura_client::operations::Operations;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Kind;
use super::undo::Undo;
use crate::cluster::{Cluster, ClusterError, LOOK, QUICK, Role, missing_member};
use crate::history::{FaultResult, Line, Members, Nemesis, NemesisEvent};
use crate::load::Shared;
use crate::scan;
use crate::site::network::{Filter, Network};

/// From a death to the next start where nobody shall wait for it.
const SHORT: Duration = Duration::from_millis(300);

/// How long a fault waits for somebody to lead.
const LED: Duration = Duration::from_secs(3);

/// How long all members may take to be there before one of them is damaged.
const WHOLE: Duration = Duration::from_secs(30);

/// Why a fault was not set.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It must not or cannot be now.
    Skip(String),
    /// Something failed half way.
    Doubt(String),
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Doubt(error.to_string())
    }
}

pub(super) fn skip<T>(why: &str) -> Result<T, Trouble> {
    Err(Trouble::Skip(why.into()))
}

/// A fault that is there.
#[derive(Debug)]
struct Active {
    number: u32,
    nodes: Vec<String>,
    undo: Vec<Undo>,
}

/// A fault on its way.
pub(super) struct Setting {
    pub number: u32,
    pub kind: Kind,
    pub draw: usize,
    pub leader: Option<String>,
    busy: BTreeSet<String>,
    pub nodes: Vec<String>,
    pub undo: Vec<Undo>,
    pub detail: String,
}

/// All faults of a run.
pub struct Faults {
    pub(super) shared: Arc<Shared>,
    operations: Operations,
    number: u32,
    active: Vec<Active>,
}

impl Faults {
    /// None yet.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub async fn new(cluster: &Cluster, shared: &Arc<Shared>) -> Result<Self, ClusterError> {
        let operations = cluster.client(Role::Operator, None, QUICK).await?.operations();
        Ok(Self { shared: Arc::clone(shared), operations, number: 0, active: Vec::new() })
    }

    fn record(&self, round: u32, at_us: u64, event: NemesisEvent) {
        self.shared.recorder.write(&Line::Nemesis(Nemesis { round, at_us, event }));
    }

    /// Sets a fault, and says in words what came of it. What happens is recorded either way.
    pub async fn begin(&mut self, cluster: &mut Cluster, round: u32, kind: Kind, draw: usize) -> String {
        self.number += 1;
        let status = self.status().await;
        if let Some(reply) = &status {
            scan::record_status(&self.shared, reply, false);
        }
        let mut setting = Setting {
            number: self.number,
            kind,
            draw,
            leader: status.as_ref().and_then(scan::leader),
            busy: self.active.iter().flat_map(|active| active.nodes.iter().cloned()).collect(),
            nodes: Vec::new(),
            undo: Vec::new(),
            detail: String::new(),
        };
        let set = self.set(cluster, &mut setting).await;
        let (result, detail) = match set {
            Ok(()) => (FaultResult::Installed, setting.detail),
            Err(Trouble::Skip(why)) => (FaultResult::Skipped, why),
            Err(Trouble::Doubt(why)) => (FaultResult::Indeterminate, why),
        };
        let leader = setting.leader.is_some_and(|leader| setting.nodes.contains(&leader));
        let words = format!("{} ({}) {detail}", kind.word(), setting.nodes.join(" "));
        let event = NemesisEvent::Begin {
            fault: self.number,
            kind: kind.word().into(),
            nodes: setting.nodes.clone(),
            leader,
            result,
            detail,
        };
        self.record(round, self.shared.recorder.now_us(), event);
        if result != FaultResult::Skipped || !setting.undo.is_empty() {
            self.active.push(Active { number: self.number, nodes: setting.nodes, undo: setting.undo });
        }
        match result {
            FaultResult::Installed => words,
            FaultResult::Skipped => format!("skipped: {words}"),
            FaultResult::Indeterminate => format!("indeterminate: {words}"),
        }
    }

    /// What the cluster tells; it is given a moment to tell who leads.
    async fn status(&self) -> Option<kura_client::wire::StatusReply> {
        let end = Instant::now() + LED;
        loop {
            let status = self.operations.status().await.ok();
            if Instant::now() >= end || status.as_ref().is_some_and(|reply| reply.leader_id != 0) {
                return status;
            }
            sleep(LOOK).await;
        }
    }

    /// Takes all faults back, the last first.
    ///
    /// # Errors
    /// [`ClusterError`]: then the cluster is not as it should be, and the run cannot go on.
    pub async fn heal(&mut self, cluster: &mut Cluster, round: u32) -> Result<(), ClusterError> {
        while let Some(mut active) = self.active.pop() {
            let at_us = self.shared.recorder.now_us();
            let (mut hit, mut seen) = (true, Vec::new());
            while let Some(undo) = active.undo.pop() {
                let told = undo.run(cluster, active.number, self).await?;
                hit &= told.hit;
                seen.extend(told.seen);
            }
            let result = if hit { FaultResult::Installed } else { FaultResult::Indeterminate };
            let done_us = self.shared.recorder.now_us();
            self.record(
                round,
                at_us,
                NemesisEvent::Heal { fault: active.number, done_us, result, detail: seen.join(", ") },
            );
        }
        for node in cluster.nodes() {
            if !cluster.runs(&node) {
                cluster.check()?;
                cluster.start_node(&node)?;
            }
            cluster.excuse(&node, false);
        }
        Ok(())
    }

    /// Records who is a member now, and asks those from now on.
    pub(super) async fn members_changed(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        self.operations = cluster.client(Role::Operator, None, QUICK).await?.operations();
        self.shared.recorder.write(&Line::Members(Members {
            at_us: self.shared.recorder.now_us(),
            voters: cluster.voters().to_vec(),
            backups: cluster.backups().to_vec(),
        }));
        Ok(())
    }

    async fn set(&mut self, cluster: &mut Cluster, fault: &mut Setting) -> Result<(), Trouble> {
        match fault.kind {
            Kind::KillLeader | Kind::KillFollower | Kind::KillBackup => {
                let node = fault.target(cluster)?;
                fault.kill(cluster, &[node]).await
            }
            Kind::KillAll => {
                if !fault.busy.is_empty() {
                    return skip("some member has another fault");
                }
                let nodes = cluster.nodes();
                fault.kill(cluster, &nodes).await?;
                sleep(SHORT).await;
                fault.undo.clear();
                nodes.iter().try_for_each(|node| cluster.start_node(node))?;
                Ok(())
            }
            Kind::PauseLeader | Kind::PauseFollower => {
                let node = fault.target(cluster)?;
                cluster.signal(&node, Signal::STOP)?;
                fault.undo.push(Undo::Continue(node));
                Ok(())
            }
            Kind::IsolateLeader => {
                let node = fault.target(cluster)?;
                fault.undo.push(Undo::Link(node.clone()));
                Ok(Network::link(&node, false).await?)
            }
            Kind::CutLeader | Kind::DeafLeader | Kind::MuteLeader | Kind::OnePeer | Kind::Lossy => {
                let filters = fault.filters(cluster)?;
                let at: BTreeSet<String> = filters.iter().map(|filter| filter.at.clone()).collect();
                for filter in &filters {
                    cluster.site()?.network.filter(fault.number, std::slice::from_ref(filter)).await?;
                }
                fault.undo.push(Undo::Unfilter(at.into_iter().collect()));
                Ok(())
            }
            Kind::Flapping => {
                let node = fault.target(cluster)?;
                fault.undo.push(Undo::Link(node.clone()));
                fault.undo.push(Undo::flap(node));
                Ok(())
            }
            Kind::Swizzle => {
                if !fault.busy.is_empty() {
                    return skip("some member has another fault");
                }
                let mut nodes = cluster.nodes();
                let places = nodes.len();
                nodes.rotate_left(fault.draw % places);
                fault.nodes.clone_from(&nodes);
                for (nth, node) in nodes.iter().enumerate() {
                    fault.undo.push(Undo::Link(nodes[(nth + 1 + fault.draw % (places - 1)) % places].clone()));
                    Network::link(node, false).await?;
                    sleep(SHORT).await;
                }
                Ok(())
            }
            Kind::Slow => {
                let node = fault.target(cluster)?;
                Network::slow(&node, 1_000).await?;
                fault.undo.push(Undo::Fast(node));
                Ok(())
            }
            Kind::BackupFar => self.far(cluster, fault).await,
            Kind::Clock => {
                let site = cluster.site()?;
                let Some(node) = site.clock_of().map(str::to_owned) else {
                    return skip("no member's clock can be set");
                };
                if !cluster.voters().contains(&node) || fault.busy.contains(&node) {
                    return skip("the member whose clock can be set is gone or has another fault");
                }
                fault.nodes.push(node);
                site.set_clock(3_600_000)?;
                fault.undo.push(Undo::Clock);
                Ok(())
            }
            Kind::FullLeader | Kind::FullFollower | Kind::FullBackup => {
                let node = fault.target(cluster)?;
                fault.undo.push(Undo::Empty(node.clone()));
                Ok(cluster.site()?.disk(&node)?.fill()?)
            }
            Kind::SyncError => fault.trace(cluster, "error=EIO").await,
            Kind::SlowSync => fault.trace(cluster, "delay_enter=300000").await,
            Kind::FreezeLeader => {
                let node = fault.target(cluster)?;
                fault.undo.push(Undo::Thaw(cluster.site()?.disk(&node)?.freeze().await?));
                Ok(())
            }
            Kind::PowerCutLeader => {
                let node = fault.target(cluster)?;
                fault.cut_power(cluster, &[node]).await
            }
            Kind::PowerCutVoters => {
                if !fault.busy.is_empty() {
                    return skip("some member has another fault");
                }
                let voters = cluster.voters().to_vec();
                fault.cut_power(cluster, &voters).await
            }
            Kind::FlipLog | Kind::CutLog | Kind::FlipState | Kind::OldCopy => {
                if !fault.busy.is_empty() {
                    return skip("some member has another fault");
                }
                if let Err(late) = cluster.wait_until("every member", WHOLE, missing_member).await {
                    return skip(&format!("not every member is there: {late}"));
                }
                fault.damage(cluster, &self.shared).await
            }
            Kind::HandOver => {
                fault.nodes.extend(fault.leader.clone());
                match self.operations.transfer_leader(None).await {
                    Ok(leader) => fault.detail = format!("to {leader}"),
                    Err(error) => return skip(&error.to_string()),
                }
                Ok(())
            }
            Kind::Rolling => {
                let mut nodes = cluster.nodes();
                nodes.sort_by_key(|node| fault.leader.as_ref() == Some(node));
                fault.nodes.clone_from(&nodes);
                for node in &nodes {
                    cluster.restart(node).await?;
                    cluster.wait_until("every member", WHOLE, missing_member).await?;
                }
                Ok(())
            }
            Kind::ReplaceLeader => {
                let node = fault.target(cluster)?;
                fault.undo.push(Undo::Relieve(node));
                Ok(())
            }
            Kind::Renew => {
                let node = fault.target(cluster)?;
                Ok(cluster.renew(&node).await?)
            }
        }
    }

    /// Cuts the backup off and waits until more was written than the others keep of their logs.
    async fn far(&self, cluster: &mut Cluster, fault: &mut Setting) -> Result<(), Trouble> {
        // More than what the log may keep, and time for the others to take a snapshot and purge.
        const BYTES: u64 = 20 << 20;
        const LEAST: Duration = Duration::from_secs(30);
        const LIMIT: Duration = Duration::from_secs(120);
        let node = fault.target(cluster)?;
        let before = super::undo::state_of(cluster, &node);
        fault.undo.push(Undo::Caught { node: node.clone(), before });
        fault.undo.push(Undo::Link(node.clone()));
        Network::link(&node, false).await?;
        let (first, end) = (self.shared.written_bytes(), Instant::now() + LIMIT);
        sleep(LEAST).await;
        while self.shared.written_bytes() - first < BYTES {
            if Instant::now() >= end {
                return Err(Trouble::Doubt("too little was written meanwhile".into()));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Setting {
    /// The node that the kind aims at, which then belongs to the fault.
    fn target(&mut self, cluster: &Cluster) -> Result<String, Trouble> {
        let leader = || {
            let any = || cluster.voters()[self.draw % cluster.voters().len()].clone();
            self.leader.clone().filter(|leader| cluster.voters().contains(leader)).unwrap_or_else(any)
        };
        let node = match self.kind {
            Kind::KillBackup | Kind::FullBackup | Kind::BackupFar => {
                cluster.backups().get(self.draw % cluster.backups().len().max(1)).cloned()
            }
            Kind::KillFollower
            | Kind::PauseFollower
            | Kind::FullFollower
            | Kind::OnePeer
            | Kind::FlipLog
            | Kind::CutLog
            | Kind::FlipState
            | Kind::OldCopy => self.other(cluster, &[leader()]),
            Kind::SyncError | Kind::SlowSync | Kind::Renew => {
                Some(cluster.voters()[self.draw % cluster.voters().len()].clone())
            }
            _ => Some(leader()),
        };
        match node {
            Some(node) if !self.busy.contains(&node) => {
                self.nodes.push(node.clone());
                Ok(node)
            }
            Some(node) => skip(&format!("{node} has another fault")),
            None => skip("there is no such member without a fault"),
        }
    }

    /// A voter that is none of these and has no other fault.
    pub(super) fn other(&self, cluster: &Cluster, not: &[String]) -> Option<String> {
        let free: Vec<&String> =
            cluster.voters().iter().filter(|voter| !not.contains(voter) && !self.busy.contains(*voter)).collect();
        free.get(self.draw % free.len().max(1)).map(|voter| (*voter).clone())
    }

    /// SIGKILL; the nodes start again when the fault is taken back.
    pub(super) async fn kill(&mut self, cluster: &mut Cluster, nodes: &[String]) -> Result<(), Trouble> {
        if nodes.iter().any(|node| !cluster.runs(node)) {
            return skip("somebody does not run");
        }
        for node in nodes {
            if !self.nodes.contains(node) {
                self.nodes.push(node.clone());
            }
        }
        self.undo.push(Undo::Start(nodes.to_vec()));
        Ok(cluster.kill(nodes).await?)
    }

    fn filters(&mut self, cluster: &Cluster) -> Result<Vec<Filter>, Trouble> {
        if self.kind == Kind::Lossy {
            self.nodes = cluster.nodes();
            let lossy = |node: &String| Filter { at: node.clone(), from: Vec::new(), percent: 30 };
            return Ok(self.nodes.iter().map(lossy).collect());
        }
        let node = self.target(cluster)?;
        let mut others: Vec<String> = cluster.nodes().into_iter().filter(|other| *other != node).collect();
        if self.kind == Kind::OnePeer {
            // The one that reaches it is a voter.
            let voters: Vec<String> = others.iter().filter(|other| cluster.voters().contains(other)).cloned().collect();
            let one = &voters[self.draw % voters.len()];
            others.retain(|other| other != one);
            self.detail = format!("only {one} reaches it");
        }
        let deaf = Filter { at: node.clone(), from: others.clone(), percent: 100 };
        let mute = others.into_iter().map(|at| Filter { at, from: vec![node.clone()], percent: 100 });
        Ok(match self.kind {
            Kind::DeafLeader => vec![deaf],
            Kind::MuteLeader => mute.collect(),
            _ => mute.chain([deaf]).collect(),
        })
    }

    /// Lets every sync of a voter fail or wait, by a tracer.
    async fn trace(&mut self, cluster: &mut Cluster, how: &str) -> Result<(), Trouble> {
        let node = self.target(cluster)?;
        let Some((_, id)) = cluster.ids().into_iter().find(|(name, _)| *name == node) else {
            return skip("it does not run");
        };
        let excused = self.kind == Kind::SyncError;
        if excused {
            cluster.excuse(&node, true);
            self.undo.push(Undo::Restart(node.clone()));
        }
        let told = cluster.folder(&node).join(format!("strace-{}.txt", self.number));
        self.undo.push(Undo::trace(id, how, told)?);
        Ok(())
    }

    /// Stops nodes, cuts the power of their disks, kills them; then the disks come back, and the nodes.
    async fn cut_power(&mut self, cluster: &mut Cluster, nodes: &[String]) -> Result<(), Trouble> {
        self.nodes = nodes.to_vec();
        if nodes.iter().any(|node| !cluster.runs(node)) {
            return skip("somebody does not run");
        }
        let helper = cluster.site()?.power_cut();
        for node in nodes {
            cluster.signal(node, Signal::STOP)?;
        }
        for node in nodes {
            cluster.site()?.disk(node)?.cut_power(&helper).await?;
        }
        cluster.kill(nodes).await?;
        for node in nodes {
            let disk = cluster.site()?.disk(node)?;
            disk.unmount().await?;
            disk.mount().await?;
            cluster.start_node(node)?;
        }
        Ok(())
    }

    async fn damage(&mut self, cluster: &mut Cluster, shared: &Shared) -> Result<(), Trouble> {
        use super::damage::{Part, cut, flip};
        let node = self.target(cluster)?;
        let data = cluster.site()?.disk(&node)?.path().join("data");
        if self.kind == Kind::OldCopy {
            return self.old_copy(cluster, shared, &node, &data).await;
        }
        self.kill(cluster, std::slice::from_ref(&node)).await?;
        let draw = self.draw as u64 * 7_919;
        let done = match self.kind {
            Kind::FlipLog => flip(&data, Part::LogTail, draw),
            Kind::CutLog => cut(&data, Part::LogTail),
            _ => flip(&data, Part::State, draw),
        };
        match done {
            Ok(detail) => self.detail = detail,
            Err(error) => return skip(&error.to_string()),
        }
        // It is not as it was: it must be replaced, whether it notices or not.
        self.undo = vec![Undo::Replace(node.clone())];
        cluster.excuse(&node, true);
        cluster.start_node(&node)?;
        Ok(())
    }

    /// A voter comes back as it was some time ago, and is needed for a majority at once.
    async fn old_copy(
        &mut self,
        cluster: &mut Cluster,
        shared: &Shared,
        node: &str,
        data: &std::path::Path,
    ) -> Result<(), Trouble> {
        const WRITES: u64 = 40;
        // Peers hear each second how far a member is; what they have not heard they cannot miss.
        const AGE: Duration = Duration::from_secs(5);
        const LIMIT: Duration = Duration::from_secs(20);
        let this = [node.to_owned()];
        let old = data.with_file_name("data.old");
        let words = |from: &std::path::Path, to: &std::path::Path| [from.to_owned(), to.to_owned()];
        let copy = async |from: &std::path::Path, to: &std::path::Path| {
            let [from, to] = words(from, to);
            crate::site::tool::call("cp", &["-a".as_ref(), from.as_os_str(), to.as_os_str()]).await
        };
        self.kill(cluster, &this).await?;
        copy(data, &old).await?;
        cluster.start_node(node)?;
        self.undo.clear();
        if let Err(late) = cluster.wait_until("every member", WHOLE, missing_member).await {
            return skip(&format!("it did not come back: {late}"));
        }
        let (before, end) = (shared.acknowledged(), Instant::now() + LIMIT);
        sleep(AGE).await;
        while shared.acknowledged() - before < WRITES && Instant::now() < end {
            sleep(LOOK).await;
        }
        let written = shared.acknowledged() - before;
        cluster.kill(&this).await?;
        self.undo = vec![Undo::Replace(node.to_owned())];
        std::fs::remove_dir_all(data)?;
        std::fs::rename(&old, data)?;
        if written < WRITES {
            return Err(Trouble::Doubt(format!("only {written} writes lie between the copy and now")));
        }
        cluster.excuse(node, true);
        let Some(other) = self.other(cluster, &this) else { return skip("there is no other voter") };
        // The other goes first: from then on only the old copy could make a majority.
        self.kill(cluster, &[other]).await?;
        cluster.start_node(node)?;
        self.detail = format!("{written} writes behind; another is down");
        Ok(())
    }
}
