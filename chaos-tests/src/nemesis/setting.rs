//! A fault on its way: whom it hits, and the steps that several kinds share.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Kind;
use super::act::WHOLE;
use super::undo::Undo;
use crate::cluster::{Cluster, LOOK, missing_member};
use crate::load::Shared;
use crate::site::network::Filter;

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

/// A fault on its way.
pub(super) struct Setting {
    pub number: u32,
    pub kind: Kind,
    pub draw: usize,
    pub leader: Option<String>,
    pub busy: BTreeSet<String>,
    pub nodes: Vec<String>,
    pub undo: Vec<Undo>,
    pub detail: String,
}

impl Setting {
    /// Sees to it that no other fault is there, and that every member is.
    pub(super) async fn alone(&self, cluster: &mut Cluster) -> Result<(), Trouble> {
        if !self.busy.is_empty() {
            return skip("some member has another fault");
        }
        match cluster.wait_until("every member", WHOLE, missing_member).await {
            Ok(_) => Ok(()),
            Err(late) => skip(&format!("not every member is there: {late}")),
        }
    }

    /// The node that the kind aims at, which then belongs to the fault.
    pub(super) fn target(&mut self, cluster: &Cluster) -> Result<String, Trouble> {
        let leader = || {
            let any = || cluster.voters()[self.draw % cluster.voters().len()].clone();
            self.leader.clone().filter(|leader| cluster.voters().contains(leader)).unwrap_or_else(any)
        };
        let node = match self.kind {
            Kind::KillBackup | Kind::FullBackup | Kind::BackupFar | Kind::InstallCut => {
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
            Kind::SyncError
            | Kind::SlowSync
            | Kind::ShortWrite
            | Kind::PurgeCut
            | Kind::SnapshotCut
            | Kind::RemoveVoter
            | Kind::Renew => Some(cluster.voters()[self.draw % cluster.voters().len()].clone()),
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

    pub(super) fn filters(&mut self, cluster: &Cluster) -> Result<Vec<Filter>, Trouble> {
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
    pub(super) async fn trace(&mut self, cluster: &mut Cluster, how: &str) -> Result<(), Trouble> {
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
    pub(super) async fn cut_power(&mut self, cluster: &mut Cluster, nodes: &[String]) -> Result<(), Trouble> {
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

    pub(super) async fn damage(&mut self, cluster: &mut Cluster, shared: &Shared) -> Result<(), Trouble> {
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
