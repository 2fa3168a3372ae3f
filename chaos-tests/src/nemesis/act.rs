//! Setting faults and taking them back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kura_client::operations::Operations;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Kind;
use super::setting::{Setting, Trouble, skip};
use super::undo::Undo;
use crate::cluster::{Cluster, ClusterError, LOOK, QUICK, Role, missing_member};
use crate::history::{FaultResult, Line, Members, Nemesis, NemesisEvent};
use crate::load::Shared;
use crate::scan;
use crate::site::network::Network;

/// From a death to the next start where nobody shall wait for it.
const SHORT: Duration = Duration::from_millis(300);

/// How long a fault waits for somebody to lead.
const LED: Duration = Duration::from_secs(3);

/// How long all members may take to be there before one of them is damaged.
pub(super) const WHOLE: Duration = Duration::from_secs(30);

/// A fault that is there.
#[derive(Debug)]
struct Active {
    number: u32,
    nodes: Vec<String>,
    undo: Vec<Undo>,
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
    pub(super) async fn status(&self) -> Option<kura_client::wire::StatusReply> {
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
            Kind::BackupFar => {
                self.far(cluster, fault).await?;
                Ok(())
            }
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
                fault.alone(cluster).await?;
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
            Kind::ShortWrite => fault.short_write(cluster),
            Kind::InstallCut => self.cut_install(cluster, fault).await,
            Kind::PurgeCut | Kind::SnapshotCut => {
                let _heavy = self.shared.heavy();
                fault.cut_at_change(cluster).await
            }
            Kind::AddVoter | Kind::RemoveVoter | Kind::AddBackup | Kind::RemoveBackup => {
                fault.alone(cluster).await?;
                self.change_members(cluster, fault).await
            }
            Kind::RestoreCut => fault.cut_restore(cluster).await,
            Kind::Upgrade => {
                fault.alone(cluster).await?;
                fault.upgrade(cluster).await
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
}
