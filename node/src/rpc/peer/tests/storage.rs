//! A log and a state machine in memory; snapshots are files, as the network wants them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use kura_cluster::ClusterId;
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};

use crate::raft::types::*;
use crate::snapshot::{Snapshot, SnapshotManifest};

#[derive(Default)]
struct LogContent {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Clone, Default)]
pub(super) struct MemoryLog(Arc<Mutex<LogContent>>);

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.0.lock().unwrap().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        let log = self.0.lock().unwrap();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        self.0.lock().unwrap().entries.extend(entries);
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.0.lock().unwrap().entries.split_off(&from);
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        let mut log = self.0.lock().unwrap();
        log.entries = log.entries.split_off(&(id.index + 1));
        log.purged = Some(id);
        Ok(())
    }
}

/// Bytes of each of the two large files of a snapshot.
pub(super) const FILE_BYTES: usize = 3 << 20;

pub(super) fn file_content(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..FILE_BYTES).map(|_| step()).collect()
}

#[derive(Default, Clone)]
pub(super) struct State {
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    pub(super) commands: Vec<Bytes>,
    pub(super) installed: usize,
    current: Option<(SnapshotMeta, Snapshot)>,
}

/// Remembers commands of up to 100 bytes; a snapshot has them, one a line, beside two large files.
#[derive(Clone)]
pub(super) struct MemoryMachine {
    pub(super) directory: PathBuf,
    pub(super) state: Arc<Mutex<State>>,
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.state.lock().unwrap();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            {
                let mut state = self.state.lock().unwrap();
                state.applied = Some(entry.log_id());
                match &entry.payload {
                    EntryPayload::Normal(command) => {
                        let start = command.0.slice(..command.0.len().min(100));
                        state.commands.push(start);
                    }
                    EntryPayload::Membership(membership) => {
                        state.membership = StoredMembership::new(Some(entry.log_id()), membership.clone());
                    }
                    EntryPayload::Blank => {}
                }
            }
            if let Some(responder) = responder {
                responder.send(Applied(None));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot) -> Result<(), io::Error> {
        let read = |name: &str| std::fs::read(snapshot.directory.join(name));
        for (name, seed) in [("000001.sst", 1), ("000002.sst", 2)] {
            assert!(read(name)? == file_content(seed), "{name}");
        }
        let commands = read("000003.sst")?;
        let lines = commands.split_inclusive(|byte| *byte == b'\n');
        let mut state = self.state.lock().unwrap();
        state.commands = lines.map(|line| Bytes::copy_from_slice(&line[..line.len() - 1])).collect();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.installed += 1;
        let directory = self.directory.join(format!("installed-{}", state.installed));
        std::fs::rename(&snapshot.directory, &directory)?;
        state.current = Some((meta.clone(), Snapshot { directory, ..snapshot }));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<super::RaftSnapshot>, io::Error> {
        let current = self.state.lock().unwrap().current.clone();
        Ok(current.map(|(meta, snapshot)| super::RaftSnapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<super::RaftSnapshot, io::Error> {
        let mut state = self.state.lock().unwrap();
        let index = state.applied.map_or(0, |id| id.index);
        let directory = self.directory.join(format!("built-{index}"));
        std::fs::create_dir_all(&directory)?;
        for (name, seed) in [("000001.sst", 1), ("000002.sst", 2)] {
            std::fs::write(directory.join(name), file_content(seed))?;
        }
        let lines: Vec<u8> = state.commands.iter().flat_map(|command| [&command[..], b"\n"].concat()).collect();
        std::fs::write(directory.join("000003.sst"), lines)?;
        std::fs::write(directory.join("CURRENT"), "")?;
        let cluster = ClusterId(super::cluster::CLUSTER_ID);
        let manifest =
            SnapshotManifest::for_directory(&directory, cluster, 0, state.applied, &state.membership, [0; 32])?;
        let meta = manifest.meta();
        let snapshot = Snapshot { manifest, directory };
        state.current = Some((meta.clone(), snapshot.clone()));
        Ok(super::RaftSnapshot { meta, snapshot })
    }
}
