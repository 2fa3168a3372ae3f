//! Taking over a snapshot that a leader sends.
//!
//! Invariants
//! - One [`Reception`] at a time: a new offer replaces the earlier one, whose stream then fails at
//!   its next piece. What had arrived stays.
//! - Nothing is asked for that this machine has: not what arrived earlier, nor a finished file of
//!   its own state database that has the same name and hash.
//! - An offer that does not fit on the disk beside the reserve is refused before it begins.
//! - Memory does not grow with the snapshot: one piece at a time, one file open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kura_proto::v1;
use prost::Message;
use tokio::sync::Mutex as AsyncMutex;
use tonic::{Code, Status};

use super::Snapshot;
use super::incoming::{Content, FinishError, IncomingFiles, PieceWriter, contents};
use super::manifest::{FileName, SnapshotManifest};

/// The word for a damaged file in a status's details.
const DAMAGED: &str = "damaged";
/// Space for the files that are copied rather than linked, and for directories.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// Why a snapshot, or a piece of it, is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The offer lacks a file's hash.
    #[error("the offer does not say what the file {0} holds")]
    Unnamed(FileName),
    /// Too little free space.
    #[error("the snapshot needs {needed} bytes of disk beside the reserve, and {free} are free")]
    Space {
        /// Bytes to come, and the reserve.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// There is no such offer, or another one has replaced it.
    #[error("this snapshot has not been offered, or another offer has replaced it")]
    Replaced,
    /// A piece that does not continue what is held.
    #[error("piece of file {file} at {offset}: {held} bytes are held of {bytes}")]
    Piece {
        /// Position in the manifest.
        file: u32,
        /// Where it begins.
        offset: u64,
        /// Bytes held.
        held: u64,
        /// Length of the file.
        bytes: u64,
    },
    /// A file is not what its hash says. It was deleted and can be sent again.
    #[error("the file {0} arrived damaged and was deleted")]
    Damaged(FileName),
    /// A file has not arrived.
    #[error("the file {0} is not complete")]
    Incomplete(FileName),
    /// The file system failed.
    #[error("the snapshot cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl From<ReceiveError> for Status {
    fn from(error: ReceiveError) -> Self {
        let code = match &error {
            ReceiveError::Unnamed(_) | ReceiveError::Piece { .. } => Code::InvalidArgument,
            ReceiveError::Space { .. } => Code::ResourceExhausted,
            ReceiveError::Replaced => Code::Aborted,
            ReceiveError::Damaged(_) => Code::DataLoss,
            ReceiveError::Incomplete(_) => Code::FailedPrecondition,
            // Lack of space in between, most often.
            ReceiveError::Io(_) => Code::ResourceExhausted,
        };
        let detail = match &error {
            ReceiveError::Damaged(name) => {
                let field = name.as_str().into();
                v1::ErrorDetail { retry: 2, committed: 1, field, kind: DAMAGED.into(), ..Default::default() }
            }
            _ => return Status::new(code, error.to_string()),
        };
        Status::with_details(code, error.to_string(), detail.encode_to_vec().into())
    }
}

/// The file that a receiver found damaged, if that is what a status says.
pub(super) fn damaged_file(status: &Status) -> Option<FileName> {
    let detail = v1::ErrorDetail::decode(status.details()).ok()?;
    let says_so = status.code() == Code::DataLoss && detail.kind == DAMAGED;
    says_so.then(|| FileName::parse(&detail.field).ok()).flatten()
}

/// An offer that was accepted, and what is there already.
#[derive(Debug)]
pub struct Offered {
    /// To hand pieces to.
    pub reception: Arc<Reception>,
    /// Bytes of each file that are held; a whole file is verified.
    pub held: Vec<u64>,
}

/// Where snapshots arrive. One per node.
#[derive(Debug)]
pub struct SnapshotReceiver {
    files: Arc<IncomingFiles>,
    reserve_bytes: u64,
    current: Mutex<Option<Arc<Reception>>>,
}

impl SnapshotReceiver {
    /// Opens `<data>/snapshots/incoming`, or makes it; on the file system of the state database.
    /// Blocking. `reserve_bytes` of disk stay free of snapshots.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(directory: PathBuf, reserve_bytes: u64) -> io::Result<Self> {
        let files = Arc::new(IncomingFiles::open(directory)?);
        Ok(Self { files, reserve_bytes, current: Mutex::new(None) })
    }

    /// Takes an offer from the node named `sender`. Blocking: it may hash files of `state_directory`,
    /// the node's own state database, from which finished files are taken if they are the same.
    ///
    /// # Errors
    /// [`ReceiveError::Unnamed`], [`ReceiveError::Space`] or [`ReceiveError::Io`].
    pub fn offer(
        &self,
        sender: &str,
        manifest: SnapshotManifest,
        state_directory: Option<&Path>,
    ) -> Result<Offered, ReceiveError> {
        let wanted = named(&manifest)?;
        self.end();
        self.files.remove_others(&wanted, false)?;
        for (file, content) in manifest.files.iter().zip(&wanted) {
            if content.bytes == 0 {
                // Nothing will be sent of it.
                finished(self.files.writer(*content)?.finish(), &file.name)?;
            } else if let Some(directory) = state_directory
                && file.name.is_immutable()
                && self.files.held(content)? < content.bytes
            {
                self.files.adopt(content, &directory.join(file.name.as_str()))?;
            }
        }
        self.make_room(&wanted)?;
        let held = wanted.iter().map(|content| self.files.held(content)).collect::<io::Result<_>>()?;
        let reception = Arc::new(Reception {
            sender: sender.into(),
            manifest,
            wanted,
            files: Arc::clone(&self.files),
            replaced: AtomicBool::new(false),
            received_bytes: AtomicU64::new(0),
            open: Arc::new(AsyncMutex::new(None)),
        });
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&reception));
        Ok(Offered { reception, held })
    }

    /// The reception of a snapshot that this sender has offered.
    ///
    /// # Errors
    /// [`ReceiveError::Replaced`].
    pub fn reception(&self, sender: &str, snapshot_id: &[u8]) -> Result<Arc<Reception>, ReceiveError> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|found| found.sender == sender && found.manifest.snapshot_id[..] == *snapshot_id)
            .cloned()
            .ok_or(ReceiveError::Replaced)
    }

    /// Forgets the present offer and everything that arrived: it is installed. Blocking.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&self) -> io::Result<()> {
        self.end();
        self.files.remove_others(&[], true)
    }

    /// Ends the present reception. Returns once no piece of it is being written.
    fn end(&self) {
        let ended = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reception) = ended {
            reception.replaced.store(true, Ordering::Release);
            drop(reception.open.blocking_lock());
        }
    }

    fn make_room(&self, wanted: &[Content]) -> Result<(), ReceiveError> {
        let lacking = self.files.lacking(wanted)?;
        if lacking == 0 {
            return Ok(());
        }
        let needed = lacking.saturating_add(OVERHEAD_BYTES).saturating_add(self.reserve_bytes);
        if free_bytes(self.files.directory())? < needed {
            self.files.remove_others(wanted, true)?;
        }
        let free = free_bytes(self.files.directory())?;
        if free < needed { Err(ReceiveError::Space { needed, free }) } else { Ok(()) }
    }
}

fn named(manifest: &SnapshotManifest) -> Result<Vec<Content>, ReceiveError> {
    let unnamed = manifest.files.iter().find(|file| file.sha256.is_none());
    match (unnamed, contents(manifest)) {
        (None, Some(contents)) => Ok(contents),
        (Some(file), _) => Err(ReceiveError::Unnamed(file.name.clone())),
        (None, None) => Ok(Vec::new()),
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn finished(result: Result<(), FinishError>, name: &FileName) -> Result<(), ReceiveError> {
    result.map_err(|error| match error {
        FinishError::Damaged => ReceiveError::Damaged(name.clone()),
        FinishError::Io(error) => ReceiveError::Io(error),
    })
}

#[derive(Debug)]
struct Open {
    file: u32,
    writer: PieceWriter,
}

/// One offered snapshot on its way in.
#[derive(Debug)]
pub struct Reception {
    sender: String,
    manifest: SnapshotManifest,
    wanted: Vec<Content>,
    files: Arc<IncomingFiles>,
    replaced: AtomicBool,
    received_bytes: AtomicU64,
    open: Arc<AsyncMutex<Option<Open>>>,
}

impl Reception {
    /// What was offered.
    pub fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    /// Bytes received since the offer.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Writes a piece. The last one of a file has it verified and synced.
    ///
    /// # Errors
    /// Any [`ReceiveError`] but those of offers.
    pub async fn take(self: &Arc<Self>, piece: v1::SnapshotPiece) -> Result<(), ReceiveError> {
        let open = Arc::clone(&self.open).lock_owned().await;
        let this = Arc::clone(self);
        // The guard goes along: if the caller is dropped, the piece is still written before the next.
        let written = tokio::task::spawn_blocking(move || {
            let mut open = open;
            let result = this.write(&mut open, &piece);
            if result.is_err() {
                *open = None;
            }
            result
        });
        written.await.map_err(|error| ReceiveError::Io(io::Error::other(error)))?
    }

    fn write(&self, open: &mut Option<Open>, piece: &v1::SnapshotPiece) -> Result<(), ReceiveError> {
        if self.replaced.load(Ordering::Acquire) {
            return Err(ReceiveError::Replaced);
        }
        let position = usize::try_from(piece.file).unwrap_or(usize::MAX);
        let wrong = |held, bytes| ReceiveError::Piece { file: piece.file, offset: piece.offset, held, bytes };
        let content = *self.wanted.get(position).ok_or_else(|| wrong(0, 0))?;
        if open.as_ref().is_none_or(|open| open.file != piece.file) {
            *open = None;
            if self.files.held(&content)? == content.bytes {
                // Another file of the snapshot has the same content, and it has just arrived.
                return Ok(());
            }
            *open = Some(Open { file: piece.file, writer: self.files.writer(content)? });
        }
        let Some(Open { writer, .. }) = open.as_mut() else { return Ok(()) };
        let room = content.bytes.saturating_sub(writer.held());
        if piece.offset != writer.held() || piece.data.len() as u64 > room {
            return Err(wrong(writer.held(), content.bytes));
        }
        writer.write(&piece.data)?;
        self.received_bytes.fetch_add(piece.data.len() as u64, Ordering::Relaxed);
        if writer.is_complete() {
            finished(writer.finish(), &self.manifest.files[position].name)?;
            *open = None;
        }
        Ok(())
    }

    /// Puts the files together for the state machine, which takes the directory away. Blocking.
    ///
    /// # Errors
    /// [`ReceiveError::Incomplete`], [`ReceiveError::Replaced`] or [`ReceiveError::Io`].
    pub fn assemble(&self) -> Result<Snapshot, ReceiveError> {
        if self.replaced.load(Ordering::Acquire) {
            return Err(ReceiveError::Replaced);
        }
        for (file, content) in self.manifest.files.iter().zip(&self.wanted) {
            if self.files.held(content)? < content.bytes {
                return Err(ReceiveError::Incomplete(file.name.clone()));
            }
        }
        Ok(self.files.assemble(&self.manifest)?)
    }
}
