//! Cuts at a moment that a directory shows: a transfer that is under way, a log whose files change, a snapshot that is
//! being taken. Directories are looked at as any reader would, by their files' names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Kind;
use super::act::Faults;
use super::setting::{Setting, Trouble};
use super::undo::{Undo, state_of};
use crate::cluster::{Cluster, ClusterError, LOOK};
use crate::scan;
use crate::site::network::Network;

/// Time between two looks at a directory that must not be missed.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// How long a moment is waited for: until megabytes were written, and a head was made after them.
const MOMENT: Duration = Duration::from_secs(150);

/// What a member that takes a full transfer receives, in kilobits a second: some seconds for what a run has written.
const TRANSFER_KBIT: u32 = 30_000;

impl Faults {
    /// Cuts the backup off and waits until more was written than the others keep of their logs. Answers whom.
    pub(super) async fn far(&self, cluster: &mut Cluster, fault: &mut Setting) -> Result<String, Trouble> {
        // More than what the log may keep, and time for the others to take a snapshot and purge.
        const BYTES: u64 = 20 << 20;
        const LEAST: Duration = Duration::from_secs(30);
        const LIMIT: Duration = Duration::from_secs(150);
        let _heavy = self.shared.heavy();
        let node = fault.target(cluster)?;
        let before = state_of(cluster, &node);
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
        Ok(node)
    }

    /// Lets the backup need a full transfer, slows what it receives, and cuts once files of the transfer are there:
    /// the backup by SIGKILL or by a power cut, or whoever leads by SIGKILL.
    pub(super) async fn cut_install(&self, cluster: &mut Cluster, fault: &mut Setting) -> Result<(), Trouble> {
        let node = self.far(cluster, fault).await?;
        let incoming = cluster.folder(&node).join("disk/data/snapshots/incoming");
        let before = files(&incoming);
        Network::slow_to(&node, TRANSFER_KBIT).await?;
        fault.undo.push(Undo::FastTo(node.clone()));
        Network::link(&node, true).await?;
        let arrives = |path: &Path| path.extension().is_some_and(|end| end == "part") && !before.contains(path);
        let part = moment(cluster, || files(&incoming).into_iter().find(|path| arrives(path))).await?;
        if part.is_none() {
            return Err(Trouble::Doubt("no transfer was seen".into()));
        }
        sleep(Duration::from_millis(fault.draw as u64 % 1_000)).await;
        match fault.draw % 3 {
            0 => fault.kill(cluster, &[node]).await?,
            1 => fault.cut_power(cluster, &[node]).await?,
            _ => {
                let leader = self.status().await.as_ref().and_then(scan::leader);
                let Some(leader) = leader else { return Err(Trouble::Doubt("nobody led by then".into())) };
                fault.kill(cluster, &[leader]).await?;
            }
        }
        let how = ["the backup killed", "the backup's power cut", "the sender killed"][fault.draw % 3];
        fault.detail = format!("{how} with {} files of the transfer there", files(&incoming).len());
        Ok(())
    }
}

impl Setting {
    /// A power cut at a voter some milliseconds after the names of its log's, or its snapshots', files changed.
    pub(super) async fn cut_at_change(&mut self, cluster: &mut Cluster) -> Result<(), Trouble> {
        let node = self.target(cluster)?;
        let (folder, within_ms) = if self.kind == Kind::PurgeCut { ("log", 30) } else { ("snapshots", 100) };
        let folder = cluster.folder(&node).join("disk/data").join(folder);
        let before = files(&folder);
        let changed = moment(cluster, || Some(files(&folder)).filter(|now| *now != before)).await?;
        let Some(now) = changed else {
            return Err(Trouble::Doubt(format!("its files did not change within {} s", MOMENT.as_secs())));
        };
        let wait_ms = self.draw as u64 % within_ms;
        sleep(Duration::from_millis(wait_ms)).await;
        self.cut_power(cluster, std::slice::from_ref(&node)).await?;
        let (come, gone) = (now.difference(&before).count(), before.difference(&now).count());
        self.detail = format!("{wait_ms} ms after {come} files came and {gone} went");
        Ok(())
    }
}

/// Waits for something to be seen; nothing if it is not in time.
async fn moment<T>(cluster: &mut Cluster, look: impl Fn() -> Option<T>) -> Result<Option<T>, ClusterError> {
    let end = Instant::now() + MOMENT;
    let mut checked = Instant::now();
    while Instant::now() < end {
        if let Some(seen) = look() {
            return Ok(Some(seen));
        }
        if checked.elapsed() > LOOK {
            cluster.check()?;
            checked = Instant::now();
        }
        sleep(CLOSE_LOOK).await;
    }
    Ok(None)
}

/// All files and folders below a directory; those that go meanwhile may be missing.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_come_and_go_are_seen_at_every_depth() {
        let directory = tempfile::tempdir().unwrap();
        assert!(files(&directory.path().join("none")).is_empty());
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        let before = files(directory.path());
        let file = directory.path().join("a/b/000007.log");
        std::fs::write(&file, "x").unwrap();
        let now = files(directory.path());
        assert_eq!(now.difference(&before).collect::<Vec<_>>(), [&file]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(files(directory.path()), before);
    }
}
