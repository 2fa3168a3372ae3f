//! A restore from the backup's archive, while the cluster goes on and the archive grows, on a disk of its own: killed, or
//! its power cut, at moments of its work, and then run to its end.
//!
//! Invariant: that a restore which was cut comes to its end, and its result passes `kura restore verify`, is required:
//! otherwise the run ends.

use std::time::Duration;

use tokio::time::sleep;

use super::setting::{Setting, Trouble, skip};
use super::undo::Undo;
use crate::cluster::Cluster;

/// Cuts of one restore.
const CUTS: u64 = 3;

impl Setting {
    /// Begins a restore and cuts it, some times; it comes to its end when the fault is taken back.
    pub(super) async fn cut_restore(&mut self, cluster: &mut Cluster) -> Result<(), Trouble> {
        let Some(backup) = cluster.backups().get(self.draw % cluster.backups().len().max(1)).cloned() else {
            return skip("there is no backup");
        };
        let restore = cluster.prepare_restore(&backup, &format!("restored-{}", self.number)).await?;
        let place = restore.place.clone();
        self.nodes.push(backup);
        let mut cuts = Vec::new();
        for nth in 0..CUTS {
            let wait_ms = (self.draw as u64 * 7 + nth * 331) % 1_200;
            let mut child = cluster.begin_restore(&restore)?;
            sleep(Duration::from_millis(wait_ms)).await;
            if child.try_wait()?.is_some() {
                // It had come to its end, or had failed: then it fails again below, and is told.
                break;
            }
            let power = (self.draw as u64 + nth).is_multiple_of(2);
            if power {
                let site = cluster.site()?;
                site.disk(&place)?.cut_power(&site.power_cut()).await?;
            }
            child.kill().await?;
            if power {
                let disk = cluster.site()?.disk(&place)?;
                disk.unmount().await?;
                disk.mount().await?;
            }
            cuts.push(format!("{} after {wait_ms} ms", if power { "power cut" } else { "killed" }));
        }
        self.detail = cuts.join(", ");
        self.undo.push(Undo::Restore { restore, cuts: cuts.len() as u64 });
        Ok(())
    }
}
