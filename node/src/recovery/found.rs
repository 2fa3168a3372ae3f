//! What survives: a member's data directory or an archive, looked at without changing a byte of it.
//!
//! Invariants
//! - A directory in which a node runs is refused, and none starts there meanwhile: what is read would not be what is
//!   taken over.
//! - The fingerprint covers every file's name, length and time, and the content of the small ones: whatever a node,
//!   a repair or a copy did meanwhile, it is another one.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kura_cluster::apply::state_digest;
use kura_cluster::command::encoded_at_ms;
use kura_cluster::hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::mirror::{For, mirror};
use super::taken::TakenOver;
use crate::archive::catalog::{self, CatalogError};
use crate::archive::store::{ArchiveStore, StoreError, is_remote};
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::raft::survey::{Survey, SurveyError};
use crate::raft::types::{EntryPayload, LogId, MemberRole, StoredMembership};
use crate::state::{Database, DatabaseError, current_database};

const ARCHIVE: &str = "archive";

/// Files up to this size are part of the fingerprint by their content.
const SMALL_BYTES_MAX: u64 = 64 << 10;

/// Why something that survives could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// A node runs on it.
    #[error("{path}: a node runs on this directory; stop it first, so that what is seen stays as it is")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// Neither a data directory nor an archive.
    #[error("{path} is neither a member's data directory nor an archive")]
    Neither {
        /// What was named.
        path: PathBuf,
    },
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// See [`SurveyError`].
    #[error("the Raft log in {path}: {source}")]
    Log {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        source: SurveyError,
    },
    /// The archive.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive's manifests.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Log index.
    pub index: u64,
}

impl From<LogId> for Place {
    fn from(id: LogId) -> Place {
        Place { term: id.committed_leader_id().term, index: id.index }
    }
}

/// A member, as a membership names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// `voter` or `backup`.
    pub role: String,
}

/// Something that survives, as a plan has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Where it lies: a directory, or an archive's `s3://` URL.
    pub path: PathBuf,
    /// The file that says how that URL is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<PathBuf>,
    /// `voter`, `backup` or `archive`.
    pub kind: String,
    /// The member's name; of an archive nothing.
    pub name: String,
    /// Hexadecimal.
    pub cluster_id: String,
    /// The name that people type; of an archive nothing.
    pub cluster_name: String,
    /// The timeline of its state.
    pub timeline: u64,
    /// The last entry that is there.
    pub last: Place,
    /// The last entry that is known to be committed.
    pub committed: Place,
    /// The last entry that its state has applied; what lies between is replayed from its log.
    pub applied: Place,
    /// Term of its last vote.
    pub vote_term: u64,
    /// The cluster's clock at the last entry, in milliseconds since 1970.
    pub last_at_ms: u64,
    /// Digest of the state at `applied`, in hexadecimal.
    pub state_digest: String,
    /// What is wrong with it, in words.
    pub faults: Vec<String>,
    /// Whether a take-over or a restore can begin from it: not from what was fenced off, is not this cluster's, or lacks
    /// entries in the middle.
    #[serde(default = "usable")]
    pub usable: bool,
    /// Who has taken over from it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<TakenOver>,
    /// Whom it knows as members.
    pub members: Vec<Known>,
    /// SHA-256 over what was seen, in hexadecimal.
    pub fingerprint: String,
}

impl Found {
    /// By what survivors are ranked: whether anything can begin from them, timeline, then the last entry by term and index
    /// as Raft compares logs, then what is applied. A vote says nothing of how much a log holds.
    pub fn rank(&self) -> (bool, u64, Place, u64, bool) {
        (self.usable, self.timeline, self.last, self.applied.index, !self.is_archive())
    }

    /// Whether it is an archive, from which a restore begins, and no take-over.
    pub fn is_archive(&self) -> bool {
        self.kind == ARCHIVE
    }
}

/// What plans of before, which do not say it, were made of.
fn usable() -> bool {
    true
}

fn failed(path: &Path) -> impl Fn(io::Error) -> FoundError {
    let path = path.to_owned();
    move |source| FoundError::File { path: path.clone(), source }
}

/// Looks at what lies in a directory, or in an archive on S3-compatible storage, which `storage` says how to reach.
/// `scratch` is an own directory for mirrors; what is made there is removed again.
///
/// # Errors
/// [`FoundError`].
pub async fn look(path: &Path, storage: Option<&Path>, scratch: &Path) -> Result<Found, FoundError> {
    if NodeIdentity::exists(path) {
        return look_at_member(path, scratch);
    }
    look_at_archive(path, storage).await
}

/// Answers the fingerprint of something that a plan has seen.
///
/// # Errors
/// [`FoundError`].
pub async fn fingerprint(found: &Found) -> Result<String, FoundError> {
    if found.is_archive() {
        return Ok(look_at_archive(&found.path, found.storage.as_deref()).await?.fingerprint);
    }
    let _rest = AtRest::hold(&found.path)?;
    fingerprint_of(&found.path)
}

fn look_at_member(path: &Path, scratch: &Path) -> Result<Found, FoundError> {
    let identity = NodeIdentity::read(path)?;
    let state = Looked::open(path, scratch)?;
    let fingerprint = fingerprint_of(path)?;
    let database = Database::look(state.directory())?;
    let (applied, membership, summary) = database.progress()?;
    let mut faults = Vec::new();
    if let Err(error) = database.check(&identity.trust(), summary.timeline) {
        faults.push(error.to_string());
    }
    if let Some(certificate) = super::fence::read(path).map_err(failed(path))? {
        faults.push(format!("it was fenced off: timeline {} has begun without it", certificate.timeline));
    }
    let mut usable = faults.is_empty();
    let log = LookedLog::open(path, scratch)?;
    let survey = &log.survey;
    if let Some(torn) = survey.torn() {
        faults.push(format!("the end of its log is torn: {torn}"));
    }
    if let Some(mark) = survey.lost() {
        faults.push(format!("its log lacks what it once promised: {mark}"));
    }
    let zero = Place { term: 0, index: 0 };
    let applied = applied.map_or(zero, Place::from);
    let last = survey.last().map_or(zero, Place::from).max(applied);
    let committed = survey.committed().map_or(zero, Place::from).max(applied);
    if survey.purged().is_some_and(|purged| purged.index > applied.index) {
        usable = false;
        faults.push("its log begins after what its state has applied: entries are missing between them".into());
    }
    let (mut last_at_ms, mut membership) = (summary.clock_ms, membership);
    let mut next = applied.index + 1;
    loop {
        let entries = survey.entries_from(next).map_err(|source| FoundError::Log { path: path.into(), source })?;
        let Some(end) = entries.last() else { break };
        next = end.log_id.index + 1;
        for entry in entries {
            match entry.payload {
                EntryPayload::Normal(command) => {
                    last_at_ms = last_at_ms.max(encoded_at_ms(&command.0).unwrap_or(0));
                }
                EntryPayload::Membership(new) => membership = StoredMembership::new(Some(entry.log_id), new),
                EntryPayload::Blank => {}
            }
        }
    }
    let members: Vec<Known> = membership
        .membership()
        .nodes()
        .map(|(_, member)| Known {
            name: member.name.clone(),
            address: member.address.clone(),
            role: member.role.to_string(),
        })
        .collect();
    let own = membership.membership().get_node(&identity.raft_id);
    Ok(Found {
        path: path.canonicalize().map_err(failed(path))?,
        storage: None,
        kind: own.map_or(MemberRole::Backup, |member| member.role).to_string(),
        name: identity.name.clone(),
        cluster_id: hexadecimal(identity.cluster_id.0),
        cluster_name: identity.cluster_name.clone(),
        timeline: summary.timeline,
        last,
        committed,
        applied,
        vote_term: survey.vote().map_or(0, |vote| vote.leader_id().term),
        last_at_ms,
        state_digest: hexadecimal(state_digest(&summary)),
        faults,
        usable,
        taken_over: TakenOver::read(path).map_err(failed(path))?,
        members,
        fingerprint,
    })
}

async fn look_at_archive(path: &Path, storage: Option<&Path>) -> Result<Found, FoundError> {
    let neither = || FoundError::Neither { path: path.to_owned() };
    let shown = path.display().to_string();
    let storage = storage.filter(|_| is_remote(&shown));
    if !is_remote(&shown) && !path.is_dir() {
        return Err(neither());
    }
    let absolute = |path: &Path| path.canonicalize().map_err(failed(path));
    let store = ArchiveStore::open_at(&shown, storage)?;
    let newest = catalog::newest(&store).await?.ok_or_else(neither)?;
    let head = &newest.signed.manifest.head;
    let place = Place { term: newest.signed.manifest.term, index: newest.signed.manifest.index() };
    Ok(Found {
        path: if is_remote(&shown) { path.to_owned() } else { absolute(path)? },
        storage: storage.map(absolute).transpose()?,
        kind: ARCHIVE.into(),
        name: String::new(),
        cluster_id: hexadecimal(head.cluster_id.0),
        cluster_name: String::new(),
        timeline: head.timeline,
        last: place,
        committed: place,
        applied: place,
        vote_term: 0,
        last_at_ms: newest.signed.manifest.clock_ms,
        state_digest: String::new(),
        faults: Vec::new(),
        usable: true,
        taken_over: None,
        members: Vec::new(),
        fingerprint: hexadecimal(Sha256::digest(newest.signed.manifest.name().to_string())),
    })
}

/// A mirror that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn of(from: &Path, scratch: &Path, name: &str) -> Result<Scratch, FoundError> {
        let into = scratch.join(name);
        let _ = std::fs::remove_dir_all(&into);
        mirror(from, &into, For::Look).map_err(failed(from))?;
        Ok(Scratch(into))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A state that is looked at, at rest.
pub(super) struct Looked {
    mirror: Scratch,
    _rest: AtRest,
}

impl Looked {
    /// Mirrors the state of a data directory in which no node runs.
    pub fn open(path: &Path, scratch: &Path) -> Result<Looked, FoundError> {
        let rest = AtRest::hold(path)?;
        Ok(Looked { mirror: Scratch::of(&current_database(path)?, scratch, "state")?, _rest: rest })
    }

    /// Where the mirror lies.
    pub fn directory(&self) -> &Path {
        &self.mirror.0
    }
}

/// A log that is looked at.
pub(super) struct LookedLog {
    /// The log.
    pub survey: Survey,
    _scratch: Scratch,
}

impl LookedLog {
    /// Looks at the log of a data directory.
    pub fn open(path: &Path, scratch: &Path) -> Result<LookedLog, FoundError> {
        let log = path.join("log");
        let scratch = Scratch::of(&log.join("db"), scratch, "log")?;
        let survey = Survey::open(&scratch.0, &log.join("marks"))
            .map_err(|source| FoundError::Log { path: path.to_owned(), source })?;
        Ok(LookedLog { survey, _scratch: scratch })
    }
}

/// No node runs on a data directory, nor starts on it as long as this lives: a node holds its log's lock alone. Others may
/// look as well.
pub(super) struct AtRest {
    _lock: Option<File>,
}

impl AtRest {
    /// Holds a data directory; one without a log has nothing that a node would hold.
    pub fn hold(path: &Path) -> Result<AtRest, FoundError> {
        let lock = path.join("log").join("lock");
        let file = match File::open(&lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AtRest { _lock: None }),
            Err(error) => return Err(failed(&lock)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(AtRest { _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(FoundError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(&lock)(error)),
        }
    }
}

fn fingerprint_of(path: &Path) -> Result<String, FoundError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            let path = entry.path();
            let metadata = std::fs::symlink_metadata(&path).map_err(failed(&path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                files.insert(path, metadata);
            }
        }
    }
    let mut hash = Sha256::new();
    for (file, metadata) in files {
        let name = file.strip_prefix(path).unwrap_or(&file).as_os_str().as_encoded_bytes();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(metadata.len().to_be_bytes());
        hash.update(metadata.mtime().to_be_bytes());
        hash.update(metadata.mtime_nsec().to_be_bytes());
        if metadata.is_file() && metadata.len() <= SMALL_BYTES_MAX {
            hash.update(std::fs::read(&file).map_err(failed(&file))?);
        }
    }
    Ok(hexadecimal(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use kura_cluster::ClusterId;

    use super::*;
    use crate::raft::log_store::LogStore;
    use crate::raft::marks::LogIdentity;
    use crate::raft::open::OpenError;
    use crate::state::{first_database, use_first_database};

    #[test]
    fn no_node_starts_on_what_is_looked_at() {
        let (data, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = LogIdentity { cluster_id: ClusterId([9; 16]), node_id: 2, timeline: 0 };
        let start = || LogStore::open(&data.path().join("log"), identity, &[]);
        drop(Database::open(&first_database(data.path()).unwrap()).unwrap());
        use_first_database(data.path()).unwrap();
        let running = start().unwrap();
        assert!(matches!(Looked::open(data.path(), scratch.path()), Err(FoundError::InUse { .. })));
        drop(running);
        let looked = Looked::open(data.path(), scratch.path()).unwrap();
        assert!(matches!(start(), Err(OpenError::InUse { .. })), "what is read would not be what is taken over");
        assert!(Looked::open(data.path(), &scratch.path().join("other")).is_ok(), "others may look, too");
        drop(looked);
        start().unwrap();
    }
}
