//! openraft's conformance suite on the real log, with a state machine in memory beside it.

use std::io;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, TryStreamExt};
use kura_node::raft::log_store::LogStore;
use kura_node::raft::types::{Applied, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftSnapshotBuilder, StorageError};
use tempfile::TempDir;

type MemorySnapshot = Snapshot<
    kura_node::raft::types::CommittedLeaderId,
    kura_node::raft::types::NodeId,
    kura_node::raft::types::Member,
    SnapshotMeta,
>;

#[derive(Clone, Default)]
struct MemoryStateMachine {
    applied: Arc<Mutex<(Option<LogId>, StoredMembership)>>,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryStateMachine {
    type SnapshotData = SnapshotMeta;

    async fn build_snapshot(&mut self) -> Result<MemorySnapshot, io::Error> {
        let (last_log_id, last_membership) = self.applied.lock().unwrap().clone();
        let meta = SnapshotMeta { last_log_id, last_membership };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { snapshot: meta.clone(), meta })
    }
}

impl RaftStateMachine<TypeConfig> for MemoryStateMachine {
    type SnapshotData = SnapshotMeta;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self.applied.lock().unwrap().clone())
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut applied = self.applied.lock().unwrap();
            applied.0 = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                applied.1 = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Applied(None));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotMeta) -> Result<(), io::Error> {
        *self.applied.lock().unwrap() = (meta.last_log_id, meta.last_membership.clone());
        *self.snapshot.lock().unwrap() = Some(snapshot);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<MemorySnapshot>, io::Error> {
        let meta = self.snapshot.lock().unwrap().clone();
        Ok(meta.map(|meta| Snapshot { snapshot: meta.clone(), meta }))
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, MemoryStateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MemoryStateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let store = super::open(directory.path()).unwrap();
        Ok((directory, store, MemoryStateMachine::default()))
    }
}

#[tokio::test]
async fn openraft_suite() {
    Suite::test_all(Builder).await.unwrap();
}
