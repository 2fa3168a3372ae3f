//! Seeding a new backup member: its first state comes from an archive rather than over the line. What came after
//! it, the leader's log has.
//!
//! Invariants
//! - An archive is not trusted for what the state is. Only who is known to the cluster that is joined, or is named, may have
//!   signed it. It is checked whole as it is read, every row of what comes out
//!   is counted, and the member that was seeded counts for nothing (its hello says that nothing is synced, it
//!   writes no archive) until its own state, after entries of the leader's log, has the digest that a voter has
//!   signed at the same log index. If it has another, the member stops and does not start again.
//! - The identity is written last: a directory whose seeding was cut belongs to no member.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use kura_cluster::archive::manifest::Manifest;
use kura_cluster::archive::{Chain, Fault, Sha256Hash};
use kura_cluster::timeline::Trust;
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveStore;
use crate::archive::catalog::{self, CatalogError};
use crate::archive::replay::{Event, ReplayError, Replayed, Tell, put_keys};
use crate::archive::store::StoreError;
use crate::state::{DatabaseError, first_database, use_first_database};

/// The note of a seed that is not borne out yet, in the data directory.
pub const FILE: &str = "seed";
/// Where the state is made, in the data directory.
const WORK: &str = "seed-work";
const FORMAT: u32 = 1;
/// How often the archive is looked at again because its keys went on meanwhile.
const ROUNDS_MAX: u32 = 20;

/// Why a member was not seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`CatalogError`].
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// See [`ReplayError`].
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is nothing in it.
    #[error("the archive has no generation")]
    Empty,
    /// The archive is at fault.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// Somebody else's archive, or a former backup's.
    #[error("the archive is signed with the key {0}, which no member of the cluster has and --signed-by does not name")]
    Signer(String),
    /// Another timeline's: the log of this one does not go on from it.
    #[error("the archive is of timeline {found}, the cluster of {wanted}: take one that was written since")]
    Timeline {
        /// The archive's.
        found: u64,
        /// The cluster's.
        wanted: u64,
    },
    /// Its keys went on faster than they were read.
    #[error("the archive's key ledger was replaced each time it was to be read: {0}")]
    Ledger(String),
    /// Rows are not what the digests count.
    #[error("rows of {0} are not what their digest counts")]
    Unsound(String),
    /// The data directory holds a state that nobody seeded.
    #[error("{0} holds a state already: seed into an empty data directory")]
    NotEmpty(PathBuf),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SeedError + use<> {
    let path = path.to_owned();
    move |source| SeedError::File { path, source }
}

/// A seed, as its note has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    format: u32,
    /// The last log entry in it.
    pub index: u64,
    /// The archive.
    pub from: String,
    /// What it turned out to be, if a voter signed otherwise.
    pub refused: Option<String>,
}

impl Seed {
    /// The note of a data directory, if its member was seeded and that is not borne out yet.
    ///
    /// # Errors
    /// The system's; `InvalidData` if it is not in a known form.
    pub fn read(data: &Path) -> io::Result<Option<Seed>> {
        let text = match std::fs::read(data.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let seed: Seed = serde_json::from_slice(&text)?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "not in a known form");
        if seed.format == FORMAT { Ok(Some(seed)) } else { Err(unknown()) }
    }

    /// The same seed, once a voter has signed otherwise.
    #[must_use]
    pub fn refuted(self, why: String) -> Seed {
        Seed { refused: Some(why), ..self }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let (path, aside) = (data.join(FILE), data.join("seed.new"));
        let mut file = std::fs::File::create(&aside)?;
        io::Write::write_all(&mut file, &serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        std::fs::File::open(data)?.sync_all()
    }

    /// Removes the note: the seed is borne out.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(data: &Path) -> io::Result<()> {
        std::fs::remove_file(data.join(FILE))?;
        std::fs::File::open(data)?.sync_all()
    }
}

/// Whose state is made, and whose word counts for it.
pub struct Grounds<'a> {
    /// The cluster.
    pub trust: &'a Trust,
    /// Its timeline.
    pub timeline: u64,
    /// The keys (SHA-256 of SubjectPublicKeyInfo) that may have signed the archive.
    pub signers: Vec<Sha256Hash>,
}

/// Makes the state of an archive's newest entry in a data directory that has no member yet, and leaves the note. Answers
/// who signed what was used, too.
///
/// # Errors
/// [`SeedError`]; then the directory holds no state.
pub async fn sow(
    store: &ArchiveStore,
    data: &Path,
    grounds: &Grounds<'_>,
    tell: Tell<'_>,
) -> Result<(Seed, BTreeSet<Sha256Hash>), SeedError> {
    let work = data.join(WORK);
    clear(data)?;
    let mut signed_by = BTreeSet::new();
    let made = replay(store, &work, grounds, &mut signed_by, tell).await;
    let seed = match made.and_then(|index| install(store, data, index)) {
        Ok(seed) => seed,
        Err(error) => {
            let _ = std::fs::remove_dir_all(&work);
            return Err(error);
        }
    };
    std::fs::remove_dir_all(&work).map_err(at(&work))?;
    Ok((seed, signed_by))
}

/// Removes what a seeding that was cut left behind, and nothing else.
fn clear(data: &Path) -> Result<(), SeedError> {
    let remove = |path: PathBuf| match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
        _ => Ok(()),
    };
    remove(data.join(WORK))?;
    let state = data.join("state");
    if !state.exists() {
        return Ok(());
    }
    match Seed::read(data).map_err(at(&data.join(FILE)))? {
        Some(_) => remove(state),
        None => Err(SeedError::NotEmpty(data.to_owned())),
    }
}

/// Replays the newest generation, and what is written after it meanwhile, until the keys are those of the same entry.
/// Answers the last entry's index.
async fn replay(
    store: &ArchiveStore,
    work: &Path,
    grounds: &Grounds<'_>,
    signed_by: &mut BTreeSet<Sha256Hash>,
    tell: Tell<'_>,
) -> Result<u64, SeedError> {
    let Grounds { trust, timeline, .. } = *grounds;
    let first = *catalog::generations(store).await?.last().ok_or(SeedError::Empty)?;
    let mut replayed: Option<(Replayed, u64)> = None;
    let mut why = String::new();
    for _ in 0..ROUNDS_MAX {
        let manifests = manifests(store, grounds, first, signed_by).await?;
        let newest = manifests.last().ok_or(SeedError::Empty)?;
        if newest.head.timeline != timeline {
            return Err(SeedError::Timeline { found: newest.head.timeline, wanted: timeline });
        }
        for manifest in &manifests {
            replayed = Some(match replayed {
                Some((state, seen)) if manifest.sequence <= seen => (state, seen),
                Some((mut state, _)) => {
                    go_on(store, &mut state, manifest, tell).await?;
                    (state, manifest.sequence)
                }
                None => {
                    let base = manifest.base().ok_or(CatalogError::NoBase(manifest.generation))?;
                    let begun = Replayed::begin(store, manifest, base, &work.join("state"), tell).await?;
                    (begun, manifest.sequence)
                }
            });
        }
        let Some((state, _)) = &replayed else { return Err(SeedError::Empty) };
        tell(Event::Doing("wrapped keys".into()));
        why = match put_keys(store, state, newest, tell).await {
            Ok(0) => return count(state, trust, tell),
            Ok(gone) => format!("it lacks {gone} keys"),
            Err(ReplayError::Fault(fault)) => fault.to_string(),
            Err(error) => return Err(error.into()),
        };
        // Whoever writes the archive replaces the ledger with each change of a key; then there is a newer manifest.
        let now = catalog::newest(store).await?;
        if now.is_none_or(|now| now.signed.manifest.sequence <= newest.sequence) {
            break;
        }
    }
    Err(SeedError::Ledger(why))
}

/// The manifests of a generation and of those after it, checked.
async fn manifests(
    store: &ArchiveStore,
    grounds: &Grounds<'_>,
    first: u64,
    signed_by: &mut BTreeSet<Sha256Hash>,
) -> Result<Vec<Manifest>, SeedError> {
    let expired = catalog::expired(store).await?;
    let mut chain = Chain::new(Some(grounds.trust.cluster_id), grounds.signers.clone(), expired).beginning_anywhere();
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    for generation in catalog::generations(store).await?.into_iter().filter(|generation| *generation >= first) {
        let look = |found: catalog::Found| manifests.push(found.signed.manifest);
        catalog::follow(store, &mut chain, generation, &mut faults, look).await?;
    }
    signed_by.extend(chain.keys().keys());
    match faults.into_iter().next() {
        Some(Fault::OtherKey { key, .. }) => Err(SeedError::Signer(key)),
        Some(fault) => Err(SeedError::Fault(Box::new(fault))),
        None => Ok(manifests),
    }
}

async fn go_on(
    store: &ArchiveStore,
    state: &mut Replayed,
    manifest: &Manifest,
    tell: Tell<'_>,
) -> Result<(), SeedError> {
    let reached = state.applied.map_or(0, |id| id.index);
    if state.go_on(store, manifest, u64::MAX, tell).await? {
        return Ok(());
    }
    let fault = Fault::Hole { name: manifest.name(), first: reached + 1, last: manifest.index() };
    Err(SeedError::Fault(Box::new(fault)))
}

/// Reads every row, and holds the state against what the cluster's members told.
fn count(state: &Replayed, trust: &Trust, tell: Tell<'_>) -> Result<u64, SeedError> {
    tell(Event::Doing("counting every row".into()));
    tokio::task::block_in_place(|| {
        let wrong = state.scrub()?;
        if !wrong.is_empty() {
            return Err(SeedError::Unsound(wrong.join(", ")));
        }
        state.database.check(trust, state.summary.timeline)?;
        state.database.flush()?;
        Ok(state.applied.map_or(0, |id| id.index))
    })
}

/// Puts the finished state where the member will look for it. The database is closed by now.
fn install(store: &ArchiveStore, data: &Path, index: u64) -> Result<Seed, SeedError> {
    let seed = Seed { format: FORMAT, index, from: store.place().to_owned(), refused: None };
    // Before the state: what lies there without an identity is a cut seeding's as long as there is the note.
    seed.write(data).map_err(at(data))?;
    let (from, to) = (data.join(WORK).join("state"), first_database(data)?);
    std::fs::rename(&from, &to).map_err(at(&from))?;
    use_first_database(data)?;
    Ok(seed)
}
