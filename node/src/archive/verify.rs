//! Verifying an archive, offline: needs nothing but the archive, and the root key to open anything. That is asked for
//! last, as people with shares may have to be: their sets stand in the replayed state ([`ToOpen`]).
//!
//! Levels, each with all of the ones before it:
//!
//! - *files*: the chain of manifests, and that every object is there with its length
//! - *hash*: every object's content, every segment's frames, the key ledger
//! - *replay*: base and segments through `apply`, digests compared at each manifest's index
//! - *open*: sealed rows opened with the root key
//!
//! Invariant: a check that could not be made is a fault or an error, never a pass.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use kura_client::JournalHead;
use kura_cluster::ClusterId;
use kura_cluster::archive::segment::SEGMENT_BYTES_MAX;
use kura_cluster::archive::{Fault, Manifest, ObjectName, Segment, Sha256Hash};
use kura_cluster::row::RowKey;
use kura_cluster::seal::Key;
use kura_cluster::tree::{self, Hash, Nodes};
use sha2::{Digest, Sha256};

use super::catalog::{self, CatalogError};
use super::open::{self, Opened};
use super::replay::{Event, ReplayError, Replayed, Tell, check_ledger, put_keys, read_ledger};
use super::store::{ArchiveStore, StoreError};
use crate::custody::Known;
use crate::state::DatabaseError;
use crate::state::database::Snapshot;
use crate::state::store::StateStore;
use crate::vault::{Vault, VaultError};

/// How often the ledger is looked for, each time that of a newer manifest.
const LEDGER_LOOKS: usize = 10;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Manifests, names, lengths.
    Files,
    /// Contents.
    Hash,
    /// What they come to.
    Replay,
    /// What is sealed in it.
    Open,
}

/// A journal's head that somebody kept: the archive must reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Log index.
    pub index: u64,
    /// Entries of the journal.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Whether it was kept so short a while ago that an archive which does not reach it may only be behind.
    pub is_fresh: bool,
}

/// How an archive stands to a kept head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFit {
    /// Its journal begins with the one of the head.
    Begins,
    /// It reaches as far; whether it is the same journal was not compared.
    Reaches,
    /// It does not reach it.
    Beyond,
    /// It is another journal.
    Other,
}

impl HeadFit {
    /// For programs.
    pub fn word(self) -> &'static str {
        match self {
            HeadFit::Begins => "begins-with",
            HeadFit::Reaches => "reaches",
            HeadFit::Beyond => "beyond",
            HeadFit::Other => "another-journal",
        }
    }

    /// For people; `size` is the head's.
    pub fn words(self, size: u64) -> String {
        match self {
            HeadFit::Begins => format!("the archived journal begins with the {size} entries of the kept head"),
            HeadFit::Reaches => format!(
                "the archive reaches its {size} entries; that they are the same ones a replay compares (--level replay, or a restore)"
            ),
            HeadFit::Beyond => format!("the archive does not reach its {size} entries"),
            HeadFit::Other => format!("the archived journal does NOT begin with its {size} entries"),
        }
    }
}

impl Witness {
    /// What a kept head says; see [`Witness::is_fresh`].
    pub fn of(head: &JournalHead, is_fresh: bool) -> Witness {
        Witness { index: head.index(), size: head.size(), root: head.root(), is_fresh }
    }

    /// How an archive stands to it by its manifests alone, the newest last; and what is wrong with that.
    pub fn look<'m>(
        &self,
        manifests: impl Iterator<Item = &'m Manifest>,
        newest: &Manifest,
    ) -> (HeadFit, Option<Fault>) {
        let mut same_size = manifests.filter(|manifest| manifest.head.journal_size == self.size).peekable();
        if same_size.peek().is_some() {
            return match same_size.all(|manifest| manifest.head.journal_root == self.root) {
                true => (HeadFit::Begins, None),
                false => (HeadFit::Other, Some(Fault::Journal { size: self.size })),
            };
        }
        let (found, journal) = (newest.index(), newest.head.journal_size);
        if found >= self.index && journal >= self.size {
            return (HeadFit::Reaches, None);
        }
        let witness = format!("a journal of {} entries at entry {}", self.size, self.index);
        let fault = match self.is_fresh {
            true => Fault::Behind { found, journal, witness },
            false => Fault::Short { found, journal, witness },
        };
        (HeadFit::Beyond, Some(fault))
    }
}

/// What is to be verified.
pub struct Request<'a> {
    /// How much.
    pub level: Level,
    /// Which generation's objects; all of them, or only the newest from *replay* on, if none is named.
    pub generation: Option<u64>,
    /// Keys (SHA-256 of SubjectPublicKeyInfo) that may have signed; any, if none are named.
    pub trusted: Vec<Sha256Hash>,
    /// A head that it must reach.
    pub witness: Option<Witness>,
    /// An empty directory for *replay*.
    pub scratch: &'a Path,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Generations that are there.
    pub generations: u64,
    /// Manifests looked at.
    pub manifests: u64,
    /// Other objects looked at.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Last log index in the archive.
    pub index: u64,
    /// Entries of the journal there.
    pub journal_size: u64,
    /// When the newest manifest was written.
    pub at_ms: u64,
    /// Stretches of the log that the writer says were never archived: before these generations.
    pub holes: Vec<(u64, u64, u64)>,
    /// Keys that signed, and how many manifests each.
    pub keys: BTreeMap<Sha256Hash, u64>,
    /// Entries replayed.
    pub replayed: u64,
    /// What was opened, by table.
    pub opened: BTreeMap<&'static str, Opened>,
    /// Key rows of the state that the ledger does not hold.
    pub keys_gone: u64,
    /// How it stands to the head that it must reach.
    pub head: Option<HeadFit>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Why a verification could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replay.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The scratch database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The root key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is nothing.
    #[error("the archive has no manifest")]
    Empty,
    /// There is no such generation.
    #[error("the archive has no generation {0}")]
    NoGeneration(u64),
}

/// Verifies an archive. What is left of the level *open*, which takes the root key, is answered beside the report;
/// nothing of it if the replay found a fault.
///
/// # Errors
/// [`VerifyError`]; what is wrong with the archive stands in the report.
pub async fn verify(
    store: &ArchiveStore,
    request: &Request<'_>,
    tell: Tell<'_>,
) -> Result<(Report, Option<ToOpen>), VerifyError> {
    let generations = catalog::generations(store).await?;
    let Some(newest_generation) = generations.last().copied() else { return Err(VerifyError::Empty) };
    if request.generation.is_some_and(|wanted| !generations.contains(&wanted)) {
        return Err(VerifyError::NoGeneration(request.generation.unwrap_or_default()));
    }
    let replayed_generation = request.generation.unwrap_or(newest_generation);
    let mut report = Report { generations: generations.len() as u64, ..Report::default() };
    let mut chain = catalog::chain(store, None, &request.trusted).await?;
    let mut looked: HashSet<ObjectName> = HashSet::new();
    let mut newest: Option<Manifest> = None;
    let mut to_replay: Vec<Manifest> = Vec::new();
    let mut of_head: Vec<Manifest> = Vec::new();
    for generation in generations {
        tell(Event::Doing(format!("generation {generation}")));
        let mut manifests = Vec::new();
        let mut faults = Vec::new();
        let look = |found: catalog::Found| manifests.push(found.signed.manifest);
        catalog::follow(store, &mut chain, generation, &mut faults, look).await?;
        report.faults.append(&mut faults);
        report.manifests += manifests.len() as u64;
        if let (Some(before), Some(first)) = (&newest, manifests.first())
            && first.base().is_some_and(|base| !base.continues)
            && first.index() > before.index()
        {
            report.holes.push((first.generation, before.index() + 1, first.index()));
        }
        if request.generation.is_none_or(|wanted| wanted == generation) {
            for manifest in &manifests {
                for (name, bytes) in manifest.objects() {
                    if looked.insert(name) {
                        check_object(store, name, bytes, manifest, request.level, &mut report, tell).await?;
                    }
                }
            }
        }
        newest = manifests.last().cloned().or(newest);
        let size = request.witness.map(|witness| witness.size);
        of_head.extend(manifests.iter().filter(|one| Some(one.head.journal_size) == size).take(1).cloned());
        if generation == replayed_generation {
            to_replay = manifests;
        }
    }
    report.keys = chain.keys().clone();
    let Some(newest) = newest else { return Ok((report, None)) };
    (report.index, report.journal_size, report.at_ms) = (newest.index(), newest.head.journal_size, newest.at_ms);
    if let Some(witness) = &request.witness {
        let (fit, fault) = witness.look(of_head.iter(), &newest);
        report.head = Some(fit);
        report.faults.extend(fault);
    }
    let newest = check_others(store, newest, request.level, &mut report, tell).await?;
    let mut to_open = None;
    if request.level >= Level::Replay {
        match replay(store, &to_replay, &newest, request, &mut report, tell).await {
            Err(VerifyError::Replay(ReplayError::Fault(fault))) => {
                // What was found in an object already need not be told again.
                if !report.faults.contains(&fault) {
                    report.faults.push(*fault);
                }
            }
            other => to_open = other?,
        }
    }
    Ok((report, to_open))
}

/// A replayed state with its wrapped keys, to be opened with the root key.
pub struct ToOpen {
    cluster_id: ClusterId,
    state: StateStore,
}

impl ToOpen {
    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The sets of shares that restore the root key, to gather them by.
    ///
    /// # Errors
    /// The database's.
    pub fn known(&self) -> Result<Known, DatabaseError> {
        Known::read(&self.state.database())
    }

    /// Opens about `sample` rows of each table with the blocks of the records among them; adds what is found to the
    /// report.
    ///
    /// # Errors
    /// [`VerifyError::Vault`] if it is not the root key.
    pub fn open(self, root: Key, sample: u64, report: &mut Report, tell: Tell<'_>) -> Result<(), VerifyError> {
        let vault = Vault::unseal(Arc::new(root), self.cluster_id, &self.state)?;
        report.opened = open::check(&self.state.database(), &vault, sample, tell)?;
        report.faults.extend(open::faults(&report.opened));
        Ok(())
    }
}

/// The ledger and the dictionaries of the newest manifest. While the archive is written the ledger may be replaced
/// by that of a newer one, which is answered then.
async fn check_others(
    store: &ArchiveStore,
    newest: Manifest,
    level: Level,
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<Manifest, VerifyError> {
    let mut newest = newest;
    for sha256 in &newest.dictionaries {
        let name = ObjectName::Dictionary(*sha256);
        match store.length(&name.to_string()).await? {
            None => report.faults.push(Fault::Missing { name }),
            Some(bytes) => check_object(store, name, bytes, &newest, level, report, tell).await?,
        }
    }
    for look in 1.. {
        let mut ledger = Report::default();
        check_ledger_of(store, &newest, level, &mut ledger, tell).await?;
        let later = match catalog::newest(store).await {
            Ok(found) => found.map(|found| found.signed.manifest),
            Err(CatalogError::Store(error)) => return Err(error.into()),
            // Told by the chain's check.
            Err(_) => None,
        };
        let is_newer = |later: &Manifest| later.sequence > newest.sequence && look < LEDGER_LOOKS;
        match later.filter(|later| is_newer(later) && !ledger.faults.is_empty()) {
            Some(later) => newest = later,
            None => {
                report.objects += ledger.objects;
                report.bytes += ledger.bytes;
                report.faults.append(&mut ledger.faults);
                break;
            }
        }
    }
    Ok(newest)
}

async fn check_ledger_of(
    store: &ArchiveStore,
    newest: &Manifest,
    level: Level,
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<(), VerifyError> {
    let name = ObjectName::Keys(newest.ledger.sha256);
    check_object(store, name, newest.ledger.bytes, newest, level, report, tell).await?;
    if level < Level::Hash {
        return Ok(());
    }
    let read = read_ledger(store, newest, tell, |_| Ok(())).await;
    let checked = match read {
        Ok(sums) => check_ledger(newest, &sums),
        Err(ReplayError::Fault(fault)) => Err(*fault),
        Err(error) => return Err(error.into()),
    };
    if let Err(fault) = checked
        && !report.faults.contains(&fault)
    {
        report.faults.push(fault);
    }
    Ok(())
}

/// Looks at one object: its length, and from *hash* on its content.
async fn check_object(
    store: &ArchiveStore,
    name: ObjectName,
    expected: u64,
    manifest: &Manifest,
    level: Level,
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<(), VerifyError> {
    let Some(found) = store.length(&name.to_string()).await? else {
        report.faults.push(Fault::Missing { name });
        return Ok(());
    };
    report.objects += 1;
    report.bytes += found;
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => report.faults.push(Fault::CutOff { name, expected, found }),
        std::cmp::Ordering::Greater => report.faults.push(Fault::Longer { name, expected, found }),
        std::cmp::Ordering::Equal => {}
    }
    if level < Level::Hash {
        return Ok(());
    }
    let fault = match name {
        ObjectName::Segment { .. } => segment_fault(store, name, manifest, tell).await?,
        _ if found == expected => content_fault(store, name, tell).await?,
        _ => None,
    };
    report.faults.extend(fault);
    Ok(())
}

async fn content_fault(store: &ArchiveStore, name: ObjectName, tell: Tell<'_>) -> Result<Option<Fault>, VerifyError> {
    let (_, mut pieces) = store.stream(&name.to_string()).await?;
    let mut hash = Sha256::new();
    while let Some(piece) = pieces.try_next().await? {
        tell(Event::Bytes(piece.len() as u64));
        hash.update(&piece);
    }
    let fits = name.sha256() == Some(hash.finalize().into());
    Ok((!fits).then_some(Fault::Altered { name }))
}

/// What is wrong with a segment, as precisely as it can be told.
async fn segment_fault(
    store: &ArchiveStore,
    name: ObjectName,
    manifest: &Manifest,
    tell: Tell<'_>,
) -> Result<Option<Fault>, VerifyError> {
    let bytes = store.get(&name.to_string(), SEGMENT_BYTES_MAX).await?;
    tell(Event::Bytes(bytes.len() as u64));
    let fits = name.sha256() == Some(Sha256::digest(&bytes).into());
    let expected = manifest.segments().iter().find(|segment| segment.name() == name);
    let expected = expected.map(|segment| (segment.first, segment.last));
    let segment = match Segment::open(&bytes) {
        Ok(segment) => segment,
        Err(source) => return Ok(Some(Fault::Segment { name, source })),
    };
    let (first, last) = (segment.first, segment.last_index());
    let is_this = expected == Some((first, last))
        && segment.timeline == manifest.head.timeline
        && segment.cluster_id == manifest.head.cluster_id;
    Ok(match segment.check() {
        _ if !is_this => Some(Fault::Swapped { name, first, last }),
        Err(source) => Some(Fault::Segment { name, source }),
        Ok(()) if !fits => Some(Fault::Altered { name }),
        Ok(()) => None,
    })
}

async fn replay(
    store: &ArchiveStore,
    manifests: &[Manifest],
    newest: &Manifest,
    request: &Request<'_>,
    report: &mut Report,
    tell: Tell<'_>,
) -> Result<Option<ToOpen>, VerifyError> {
    let Some((first, others)) = manifests.split_first() else { return Ok(None) };
    let Some(base) = first.base() else {
        let fault = Fault::Base { name: first.name(), why: "its first manifest is missing".into() };
        report.faults.push(fault);
        return Ok(None);
    };
    let directory = request.scratch.join("replay");
    let mut replayed = Replayed::begin(store, first, base, &directory, tell).await?;
    tell(Event::Doing("rows of the base".into()));
    let tables = tokio::task::block_in_place(|| replayed.scrub())?;
    if !tables.is_empty() {
        report.faults.push(Fault::Rows { name: first.name(), tables });
    }
    for manifest in others {
        replayed.go_on(store, manifest, u64::MAX, tell).await?;
    }
    report.replayed = replayed.entries;
    if let Some(witness) = &request.witness
        && replayed.summary.journal.size() >= witness.size
    {
        let fits = tokio::task::block_in_place(|| goes_on_from(&replayed, witness));
        report.head = Some(if fits { HeadFit::Begins } else { HeadFit::Other });
        let fault = Fault::Journal { size: witness.size };
        if !fits && !report.faults.contains(&fault) {
            report.faults.push(fault);
        }
    }
    if request.level < Level::Open {
        return Ok(None);
    }
    report.keys_gone = put_keys(store, &replayed, newest, tell).await?;
    let state = tokio::task::block_in_place(|| StateStore::at_rest(replayed.database))?;
    Ok(Some(ToOpen { cluster_id: newest.head.cluster_id, state }))
}

/// Whether the journal of a replayed state begins with the one that a head was kept of.
pub fn goes_on_from(replayed: &Replayed, witness: &Witness) -> bool {
    let snapshot = replayed.database.snapshot();
    let is_long = replayed.summary.journal.size() >= witness.size;
    is_long && tree::peaks(&StoredTree(&snapshot), witness.size).map(|peaks| peaks.root()) == Ok(witness.root)
}

/// The journal's tree as a replayed database holds it.
pub(crate) struct StoredTree<'s>(pub(crate) &'s Snapshot<'s>);

impl Nodes for StoredTree<'_> {
    type Error = NotThere;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, NotThere> {
        let read = |at: u64| {
            let key = if level == 0 { RowKey::journal(at) } else { RowKey::journal_tree(level, at) };
            let row = self.0.row(&key).ok().flatten().ok_or(NotThere)?;
            match level {
                0 => Ok(tree::leaf_hash(&row.value)),
                _ => row.value[..].try_into().map_err(|_| NotThere),
            }
        };
        (first..first + count).map(read).collect()
    }
}

/// A node of the tree that is not in the database.
#[derive(Debug, PartialEq)]
pub(crate) struct NotThere;
