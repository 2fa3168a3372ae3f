//! Sending a snapshot to a member that needs it.
//!
//! Invariants
//! - Only what the receiver lacks is sent, in the manifest's order, in pieces of [`PIECE_BYTES`];
//!   reading waits for the connection, so that memory does not grow with the snapshot.
//! - Nothing here has a time limit that a large snapshot on a slow line would pass: a transfer fails
//!   when nothing moves for [`STALL_TIMEOUT`], or the connection breaks.
//! - Dropping the future ends the transfer; the receiver keeps what arrived.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::Stream;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::manifest::{FileName, MANIFEST_BYTES_MAX, SnapshotManifest};
use super::progress::{Phase, Transfers};
use super::{FileHashes, Snapshot, receiver};
use crate::heads::Heads;
use crate::raft::types::{NodeId, Vote};
use crate::raft::wire::{self, Envelope, WireError};

/// Bytes of a piece.
pub const PIECE_BYTES: usize = 512 << 10;
/// How long a transfer may stand still.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an offer waits for another member's signed head at the snapshot's index.
pub const WITNESS_WAIT: Duration = Duration::from_secs(3);
/// How long a receiver may take to look through its own files, hashing some of them.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long a receiver may take to install: to sync, to open the database, to check it.
pub const INSTALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Why a snapshot was not taken over. Trying again continues it.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A local file cannot be read, or is not as long as it was.
    #[error("file {name} of the snapshot cannot be read: {source}")]
    Local {
        /// The file.
        name: FileName,
        /// Why.
        source: io::Error,
    },
    /// The receiver found a file damaged, and here, too, it is not what it was.
    #[error("file {0} of the snapshot has changed on this node's disk, which is damaged")]
    Rotten(FileName),
    /// More files than a manifest can name.
    #[error("the snapshot's manifest has {0} bytes, which is too many to send")]
    Manifest(usize),
    /// The receiver refused, or the connection broke.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(Status),
    /// Nothing moved.
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
    /// The receiver's answer makes no sense.
    #[error("the receiver's answer makes no sense: {0}")]
    Answer(String),
}

impl From<Status> for SendError {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<WireError> for SendError {
    fn from(error: WireError) -> Self {
        Self::Answer(error.to_string())
    }
}

/// What is needed to send a snapshot to one member.
pub struct SnapshotSender {
    /// To the member, over the connection for snapshots.
    pub client: PeerClient<Channel>,
    /// Who speaks to whom.
    pub envelope: Envelope,
    /// The sender's committed vote, as leader.
    pub vote: Vote,
    /// Where progress is shown.
    pub transfers: Arc<Transfers>,
    /// The hashes of this node's files.
    pub hashes: Arc<FileHashes>,
    /// Members' signed heads: those at the snapshot's index go with the offer.
    pub heads: Arc<Heads>,
}

impl SnapshotSender {
    /// Sends a snapshot and has it installed. The receiver's vote: if it is higher, nothing was done.
    ///
    /// # Errors
    /// Any [`SendError`].
    pub async fn send(mut self, snapshot: &Snapshot) -> Result<Vote, SendError> {
        let target = self.envelope.to;
        self.transfers.begin(target, &snapshot.manifest);
        let attempt = Attempt { transfers: Arc::clone(&self.transfers), target };
        let vote = self.transfer(snapshot).await?;
        if vote <= self.vote {
            self.transfers.forget(target);
        }
        drop(attempt);
        Ok(vote)
    }

    async fn transfer(&mut self, snapshot: &Snapshot) -> Result<Vote, SendError> {
        let target = self.envelope.to;
        let manifest = self.hash(snapshot).await?;
        if let Some(last) = manifest.last_log_id {
            // It may have been made just now: the others tell their heads each second.
            self.heads.wait_for_witness(last.index, target, Instant::now() + WITNESS_WAIT).await;
        }
        self.transfers.enter(target, Phase::Offered, 0);
        let wanted = self.offer(&manifest).await?;
        let vote = wire::take_vote(wanted.vote)?;
        if wanted.applied || vote > self.vote {
            return Ok(vote);
        }
        let held = wanted.held;
        let fits = held.len() == manifest.files.len()
            && held.iter().zip(&manifest.files).all(|(held, file)| *held <= file.bytes);
        if !fits {
            return Err(SendError::Answer("it holds other files than were offered".into()));
        }
        self.transfers.enter(target, Phase::Sending, held.iter().sum());
        self.send_pieces(snapshot, &manifest, held).await?;
        self.transfers.enter(target, Phase::Installing, manifest.bytes());
        self.install(&manifest).await
    }

    /// The manifest with all hashes.
    async fn hash(&self, snapshot: &Snapshot) -> Result<SnapshotManifest, SendError> {
        let mut manifest = snapshot.manifest.clone();
        for file in &mut manifest.files {
            let path = snapshot.directory.join(file.name.as_str());
            let hashes = Arc::clone(&self.hashes);
            let hashing = tokio::task::spawn_blocking(move || hashes.of(&path));
            let local = |source| SendError::Local { name: file.name.clone(), source };
            let (bytes, sha256) = hashing.await.map_err(io::Error::other).flatten().map_err(local)?;
            if bytes != file.bytes {
                return Err(local(io::Error::other("its length has changed")));
            }
            file.sha256 = Some(sha256);
            self.transfers.hashed(self.envelope.to, bytes);
        }
        Ok(manifest)
    }

    async fn offer(&mut self, manifest: &SnapshotManifest) -> Result<v1::SnapshotWanted, SendError> {
        let encoded = manifest.encode();
        if encoded.len() > MANIFEST_BYTES_MAX {
            return Err(SendError::Manifest(encoded.len()));
        }
        let offer = v1::SnapshotOffer {
            from: self.envelope.from,
            to: self.envelope.to,
            cluster_id: self.envelope.cluster_id.clone(),
            vote: Some(wire::put_vote(&self.vote)),
            manifest: encoded.into(),
            heads: manifest.last_log_id.map(|last| self.heads.at(last.index)).unwrap_or_default(),
        };
        within(OFFER_TIMEOUT, self.client.offer_snapshot(offer)).await
    }

    async fn install(&mut self, manifest: &SnapshotManifest) -> Result<Vote, SendError> {
        let request = v1::InstallRequest {
            from: self.envelope.from,
            to: self.envelope.to,
            cluster_id: self.envelope.cluster_id.clone(),
            vote: Some(wire::put_vote(&self.vote)),
            snapshot_id: manifest.snapshot_id.to_vec().into(),
        };
        let reply = within(INSTALL_TIMEOUT, self.client.install_snapshot(request)).await?;
        Ok(wire::take_vote(reply.vote)?)
    }

    async fn send_pieces(
        &mut self,
        snapshot: &Snapshot,
        manifest: &SnapshotManifest,
        held: Vec<u64>,
    ) -> Result<(), SendError> {
        if held.iter().zip(&manifest.files).all(|(held, file)| *held == file.bytes) {
            return Ok(());
        }
        let target = self.envelope.to;
        let failure = Arc::new(Mutex::new(None));
        let pieces = Pieces {
            manifest: manifest.clone(),
            directory: snapshot.directory.clone(),
            held,
            position: 0,
            file: None,
            transfers: Arc::clone(&self.transfers),
            target,
            failure: Arc::clone(&failure),
        };
        let mut call = Box::pin(self.client.send_snapshot(pieces.into_stream()));
        let sent = loop {
            let before = self.transfers.get(target).map(|progress| progress.bytes_sent);
            match tokio::time::timeout(STALL_TIMEOUT, &mut call).await {
                Ok(sent) => break sent,
                Err(_) => {
                    if self.transfers.get(target).map(|progress| progress.bytes_sent) == before {
                        return Err(SendError::Stalled(STALL_TIMEOUT));
                    }
                }
            }
        };
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        if let Err(status) = &sent
            && let Some(name) = receiver::damaged_file(status)
        {
            let (hashes, path) = (Arc::clone(&self.hashes), snapshot.directory.join(name.as_str()));
            let checked = tokio::task::spawn_blocking(move || hashes.holds(&path)).await;
            let local = |source| SendError::Local { name: name.clone(), source };
            if !checked.map_err(io::Error::other).flatten().map_err(local)? {
                tracing::error!(file = %name, "a file of this node's state database has changed: its disk is damaged");
                return Err(SendError::Rotten(name));
            }
        }
        Ok(sent.map(drop)?)
    }
}

/// Shows an attempt as interrupted unless its transfer was forgotten before.
struct Attempt {
    transfers: Arc<Transfers>,
    target: NodeId,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.transfers.interrupt(self.target);
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, SendError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(SendError::Stalled(limit)),
    }
}

/// What is still to be read and sent.
struct Pieces {
    manifest: SnapshotManifest,
    directory: PathBuf,
    /// Bytes of each file that the receiver holds or that were sent.
    held: Vec<u64>,
    position: usize,
    file: Option<File>,
    transfers: Arc<Transfers>,
    target: NodeId,
    /// Why the stream ended early, if it did: the stream itself cannot say.
    failure: Arc<Mutex<Option<SendError>>>,
}

impl Pieces {
    fn into_stream(self) -> impl Stream<Item = v1::SnapshotPiece> + Send {
        futures_util::stream::unfold(self, |mut pieces| async {
            match pieces.next().await {
                Ok(piece) => piece.map(|piece| (piece, pieces)),
                Err(source) => {
                    let name = pieces.manifest.files[pieces.position].name.clone();
                    let error = SendError::Local { name, source };
                    *pieces.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> io::Result<Option<v1::SnapshotPiece>> {
        while let Some(entry) = self.manifest.files.get(self.position) {
            let offset = self.held[self.position];
            let left = entry.bytes.saturating_sub(offset);
            if left == 0 {
                self.position += 1;
                self.file = None;
                continue;
            }
            let file = match &mut self.file {
                Some(file) => file,
                none => {
                    let mut opened = File::open(self.directory.join(entry.name.as_str())).await?;
                    opened.seek(io::SeekFrom::Start(offset)).await?;
                    none.insert(opened)
                }
            };
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let mut data = BytesMut::zeroed(length);
            file.read_exact(&mut data).await?;
            self.held[self.position] += length as u64;
            self.transfers.sent(self.target, length as u64);
            return Ok(Some(v1::SnapshotPiece {
                snapshot_id: self.manifest.snapshot_id.to_vec().into(),
                file: u32::try_from(self.position).map_err(io::Error::other)?,
                offset,
                data: data.freeze(),
            }));
        }
        Ok(None)
    }
}
