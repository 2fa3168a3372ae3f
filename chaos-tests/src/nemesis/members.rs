//! Members that come and go under load, and members that go over to another binary.

use std::time::Duration;

use super::Kind;
use super::act::Faults;
use super::setting::{Setting, Trouble, skip};
use super::undo::Undo;
use crate::cluster::{Cluster, missing_member};

/// How long a member may take to be there again with another binary.
const FOLLOWED: Duration = Duration::from_secs(120);

impl Faults {
    /// The first half of a change of members; the second comes when it is taken back.
    pub(super) async fn change_members(&mut self, cluster: &mut Cluster, fault: &mut Setting) -> Result<(), Trouble> {
        let backup = matches!(fault.kind, Kind::AddBackup | Kind::RemoveBackup);
        if matches!(fault.kind, Kind::AddVoter | Kind::AddBackup) {
            let new = cluster.add(backup).await?;
            fault.nodes.push(new.clone());
            // Any of them goes again, perhaps the new one, perhaps the leader.
            let all = if backup { cluster.backups() } else { cluster.voters() };
            let goes = all[fault.draw % all.len()].clone();
            fault.detail = format!("{new} came; {goes} is to go");
            fault.undo.push(Undo::Remove(goes));
        } else {
            let goes = if backup { cluster.backups().first().cloned() } else { Some(fault.target(cluster)?) };
            let Some(goes) = goes else { return skip("there is no backup") };
            fault.undo.push(Undo::Add { backup });
            cluster.remove_member(&goes).await?;
            fault.detail = format!("{goes} went");
            fault.nodes = vec![goes];
        }
        Ok(self.members_changed(cluster).await?)
    }
}

impl Setting {
    /// All but the leader go over to this release's binary; the leader follows when it is taken back.
    pub(super) async fn upgrade(&mut self, cluster: &mut Cluster) -> Result<(), Trouble> {
        if !cluster.is_of_previous() {
            return skip("every member has this release's binary");
        }
        let Some(leader) = self.leader.clone() else { return skip("nobody leads") };
        self.nodes = cluster.nodes();
        self.nodes.retain(|node| *node != leader);
        self.undo.push(Undo::Upgrade(leader.clone()));
        for node in &self.nodes {
            cluster.upgrade(node).await?;
            cluster.wait_until("every member", FOLLOWED, missing_member).await?;
        }
        self.detail = format!("all but {leader}, which led");
        self.nodes.push(leader);
        Ok(())
    }
}
