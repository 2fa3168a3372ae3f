//! The receiving side of a snapshot: offer, pieces, installation.
//!
//! Invariants
//! - A snapshot that openraft would panic on, because no honest leader has it, is refused.
//! - An installation that has begun runs to its end, also if the leader hangs up; meanwhile no offer
//!   is looked at.

use std::sync::Arc;

use kura_proto::v1;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::task::spawn_blocking;
use tonic::{Request, Status, Streaming};

use super::{PeerService, stopped};
use crate::raft::gate::{Call, Refusal};
use crate::raft::types::{TypeConfig, Vote};
use crate::raft::wire::{self, Envelope};
use crate::snapshot::{Reception, Snapshot, SnapshotManifest};

impl<S> PeerService<S>
where
    S: RaftStateMachine<TypeConfig, SnapshotData = Snapshot>,
{
    pub(super) async fn take_offer(&self, request: Request<v1::SnapshotOffer>) -> Result<v1::SnapshotWanted, Status> {
        let caller = self.parts.caller(&request)?;
        let offer = request.into_inner();
        let envelope = Envelope { from: offer.from, to: offer.to, cluster_id: offer.cluster_id.clone() };
        self.parts.check(Call::Snapshot, &caller, Some(&envelope))?;
        let vote = self.leader_vote(&envelope, offer.vote)?;
        let manifest =
            SnapshotManifest::decode(&offer.manifest).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if manifest.cluster_id.0 != envelope.cluster_id[..] {
            return Err(Refusal::OtherCluster.into());
        }
        let reply = v1::SnapshotWanted::default();
        if let Some(higher) = self.higher_vote(&vote) {
            return Ok(v1::SnapshotWanted { vote: Some(wire::put_vote(&higher)), ..reply });
        }
        let reply = v1::SnapshotWanted { vote: Some(wire::put_vote(&vote)), ..reply };
        // An installation in progress may be this very snapshot's.
        let guard = Arc::clone(&self.installing).lock_owned().await;
        let applied = self.parts.raft.metrics().borrow_watched().last_applied;
        if applied >= manifest.last_log_id {
            return Ok(v1::SnapshotWanted { applied: true, ..reply });
        }
        self.check_follows(&manifest, &vote).await?;
        self.parts.handlers.admit_snapshot(envelope.from, &manifest, &offer.heads).await?;
        let snapshots = Arc::clone(&self.parts.snapshots);
        let state_directory = self.parts.handlers.state_directory();
        let offered = spawn_blocking(move || {
            let _guard = guard;
            snapshots.offer(&caller.name, manifest, state_directory.as_deref())
        });
        let offered = offered.await.map_err(stopped)??;
        Ok(v1::SnapshotWanted { held: offered.held, ..reply })
    }

    pub(super) async fn take_pieces(
        &self,
        request: Request<Streaming<v1::SnapshotPiece>>,
    ) -> Result<v1::SnapshotPiecesReply, Status> {
        let caller = self.parts.caller(&request)?;
        let mut pieces = request.into_inner();
        let mut reception: Option<Arc<Reception>> = None;
        let mut bytes = 0;
        while let Some(piece) = pieces.message().await? {
            // Each time: space may run out on the way, and the log may turn out to be lost.
            self.parts.check(Call::Snapshot, &caller, None)?;
            let found = match &reception {
                Some(found) if found.manifest().snapshot_id[..] == piece.snapshot_id[..] => found,
                _ => reception.insert(self.parts.snapshots.reception(&caller.name, &piece.snapshot_id)?),
            };
            bytes += piece.data.len() as u64;
            found.take(piece).await?;
        }
        Ok(v1::SnapshotPiecesReply { bytes })
    }

    pub(super) async fn install(&self, request: Request<v1::InstallRequest>) -> Result<v1::InstallReply, Status> {
        let caller = self.parts.caller(&request)?;
        let request = request.into_inner();
        let envelope = Envelope { from: request.from, to: request.to, cluster_id: request.cluster_id };
        self.parts.check(Call::Snapshot, &caller, Some(&envelope))?;
        let vote = self.leader_vote(&envelope, request.vote)?;
        if let Some(higher) = self.higher_vote(&vote) {
            return Ok(v1::InstallReply { vote: Some(wire::put_vote(&higher)) });
        }
        let guard = Arc::clone(&self.installing).lock_owned().await;
        let reception = self.parts.snapshots.reception(&caller.name, &request.snapshot_id)?;
        self.check_follows(reception.manifest(), &vote).await?;
        let parts = Arc::clone(&self.parts);
        let installation = tokio::spawn(async move {
            let _guard = guard;
            let assembled = spawn_blocking(move || reception.assemble());
            let snapshot = assembled.await.map_err(stopped)??;
            let directory = snapshot.directory.clone();
            let meta = snapshot.manifest.meta();
            let snapshot = openraft::storage::Snapshot { meta, snapshot };
            let installed = parts.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
            let snapshots = Arc::clone(&parts.snapshots);
            let done = installed.vote <= vote;
            let cleared = spawn_blocking(move || {
                // The state machine has taken it away, unless openraft had no use for it.
                if directory.exists() {
                    std::fs::remove_dir_all(&directory)?;
                }
                if done { snapshots.clear() } else { Ok(()) }
            });
            if let Err(error) = cleared.await.map_err(stopped)? {
                tracing::warn!(%error, "what is left of an installed snapshot could not be removed");
            }
            Ok::<_, Status>(installed.vote)
        });
        let vote = installation.await.map_err(stopped)??;
        Ok(v1::InstallReply { vote: Some(wire::put_vote(&vote)) })
    }

    fn higher_vote(&self, vote: &Vote) -> Option<Vote> {
        let own = self.parts.own_vote();
        (own > *vote).then_some(own)
    }

    /// What openraft asserts of a snapshot that it is to install.
    async fn check_follows(&self, manifest: &SnapshotManifest, vote: &Vote) -> Result<(), Status> {
        let refused = |words: &str| Err(Status::failed_precondition(words));
        let Some(last) = manifest.last_log_id else {
            return refused("the snapshot is empty");
        };
        if last.leader_id.term > vote.leader_id.term {
            return refused("the snapshot is newer than its sender");
        }
        let committed = self.parts.raft.with_raft_state(|state| state.local_committed().copied()).await;
        match committed.map_err(stopped)? {
            Some(committed) if last > committed && last.index <= committed.index => {
                refused("the snapshot contradicts what this node knows as committed")
            }
            _ => Ok(()),
        }
    }
}
