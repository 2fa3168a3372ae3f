//! What a restore would do: read from the manifests, and from the segment in which the moment lies.
//!
//! Invariants
//! - A fault in the chain, or an object that is needed and not there with its length, is in the plan; nothing is
//!   restored from a plan with a fault.
//! - Memory holds numbers and hashes of manifests, never their contents.

use std::collections::{BTreeMap, HashSet};

use kura_cluster::archive::manifest::{Base, SignedManifest};
use kura_cluster::archive::segment::SEGMENT_BYTES_MAX;
use kura_cluster::archive::{Fault, Manifest, ManifestError, ObjectName, Payload, Segment, Sha256Hash};
use kura_cluster::head::Head;
use kura_cluster::row::Table;
use kura_cluster::{ClusterId, apply};

use crate::archive::catalog::{self, CatalogError, Found};
use crate::archive::replay::{Event, ReplayError, Tell, get, ledger_bytes};
use crate::archive::store::{ArchiveStore, StoreError};
use crate::archive::verify::{HeadFit, Witness};

/// How often an archive that grows meanwhile is looked at.
const LOOKS_MAX: u32 = 10;

/// Up to where records are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Up to the archive's end.
    Newest,
    /// Up to this log index.
    Index(u64),
    /// Up to the last entry whose clock is not after this, in milliseconds since 1970.
    Time(u64),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Up to where.
    pub target: Target,
    /// Keys (SHA-256 of SubjectPublicKeyInfo) that may have signed; any, if none are named.
    pub trusted: Vec<Sha256Hash>,
    /// The cluster that it must be.
    pub cluster_id: Option<ClusterId>,
    /// A head that the archive must reach.
    pub witness: Option<Witness>,
}

/// Manifests of one generation, its base first, as far as they are needed.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// The generation.
    pub generation: u64,
    /// Numbers and hashes of the manifests.
    pub manifests: Vec<(u64, Sha256Hash)>,
}

/// A moment in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Log index.
    pub index: u64,
    /// The cluster's clock at it, milliseconds since 1970.
    pub clock_ms: u64,
}

/// A table before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableChange {
    /// Which.
    pub table: Table,
    /// Rows at the last manifest at or before the target.
    pub rows_then: u64,
    /// Rows at the archive's end.
    pub rows_newest: u64,
}

/// What would be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The timeline that the archive ends on.
    pub timeline: u64,
    /// The entry up to which records are restored.
    pub target: Moment,
    /// Whether that is the archive's end because the end was asked for, wherever it lies.
    pub to_end: bool,
    /// The first entry to which records can be restored.
    pub first: Moment,
    /// The archive's end.
    pub newest: Moment,
    /// The journal's size there.
    pub journal_size: u64,
    /// For records: base and segments up to the target.
    pub old: Stretch,
    /// For all else: newest base and its segments. The same generation as `old` where that is the newest.
    pub new: Stretch,
    /// Segments that are replayed.
    pub segments: u64,
    /// Bytes that are read from the archive.
    pub bytes: u64,
    /// Tables of records that change between the target and the archive's end: their newer rows are left out.
    pub left_out: Vec<TableChange>,
    /// Tables that are restored as they are at the archive's end, and differ from what they were.
    pub kept_newer: Vec<TableChange>,
    /// Entries that were never archived: before which generation, first, last.
    pub holes: Vec<(u64, u64, u64)>,
    /// The keys that signed its manifests, and how many each; none but those that were named, if some were.
    pub signed_by: BTreeMap<Sha256Hash, u64>,
    /// How the archive stands to the head that it must reach, and the entries of that.
    pub head: Option<(HeadFit, u64)>,
    /// What is wrong with the archive.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Whether everything is restored up to the archive's end.
    pub fn is_newest(&self) -> bool {
        self.target.index == self.newest.index
    }

    /// Whether one generation serves both replays.
    pub fn is_one_generation(&self) -> bool {
        self.old.generation == self.new.generation
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifests.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A segment.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// There is nothing.
    #[error("the archive has no manifest")]
    Empty,
    /// What is asked for lies before all that the archive has.
    #[error("the archive begins at entry {} ({}): it cannot restore what was before", .0.index, crate::clock::in_japan(.0.clock_ms))]
    TooEarly(Moment),
    /// What is asked for lies after all that the archive has.
    #[error("the archive ends at entry {} ({}): it has nothing after that", .0.index, crate::clock::in_japan(.0.clock_ms))]
    TooLate(Moment),
    /// What is asked for was never archived.
    #[error("entries {first} to {last} were never archived: ask for one before or after them")]
    Hole {
        /// First that is missing.
        first: u64,
        /// Last that is missing.
        last: u64,
    },
    /// The manifests cannot be followed at all.
    #[error("no base in the archive can be read: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unreadable(Vec<Fault>),
}

/// A manifest, as much as choosing needs.
struct Entry {
    generation: u64,
    sequence: u64,
    sha256: Sha256Hash,
    moment: Moment,
    /// Of a base: whether it continues the manifest before.
    base: Option<bool>,
}

/// Plans a restore. Reads manifests, the segments in which a moment lies, and lengths of objects.
///
/// While an archive is written to, its key ledger is replaced and generations expire: what is missing counts only if the
/// archive still ends where it did when that was looked for.
///
/// # Errors
/// [`PlanError`]; what is wrong with the archive stands in the plan.
pub async fn plan(store: &ArchiveStore, wanted: &Wanted, tell: Tell<'_>) -> Result<Plan, PlanError> {
    let mut planned = look_once(store, wanted, tell).await?;
    for _ in 1..LOOKS_MAX {
        if planned.faults.is_empty() {
            break;
        }
        let before = (planned.new.generation, planned.new.manifests.last().copied());
        planned = look_once(store, wanted, tell).await?;
        if before == (planned.new.generation, planned.new.manifests.last().copied()) {
            break;
        }
    }
    Ok(planned)
}

async fn look_once(store: &ArchiveStore, wanted: &Wanted, tell: Tell<'_>) -> Result<Plan, PlanError> {
    let generations = catalog::generations(store).await?;
    if generations.is_empty() {
        return Err(PlanError::Empty);
    }
    let mut chain = catalog::chain(store, wanted.cluster_id, &wanted.trusted).await?;
    let (mut faults, mut entries, mut newest) = (Vec::new(), Vec::<Entry>::new(), None::<Manifest>);
    let mut of_head: Option<Manifest> = None;
    for generation in generations {
        tell(Event::Doing(format!("manifests of generation {generation}")));
        let look = |Found { signed: SignedManifest { manifest, .. }, sha256 }: Found| {
            entries.push(Entry {
                generation,
                sequence: manifest.sequence,
                sha256,
                moment: Moment { index: manifest.index(), clock_ms: manifest.clock_ms },
                base: manifest.base().map(|base| base.continues),
            });
            if wanted.witness.is_some_and(|witness| witness.size == manifest.head.journal_size) {
                of_head = Some(manifest.clone());
            }
            newest = Some(manifest);
        };
        catalog::follow(store, &mut chain, generation, &mut faults, look).await?;
    }
    let (Some(newest), Some(first)) = (newest, entries.iter().find(|entry| entry.base.is_some())) else {
        return Err(PlanError::Unreadable(faults));
    };
    let first = first.moment;
    let end = Moment { index: newest.index(), clock_ms: newest.clock_ms };
    let of_size = wanted.witness.map_or(0, |witness| witness.size);
    let fit = wanted.witness.as_ref().map(|witness| witness.look(of_head.iter(), &newest));
    let (head, fault) = fit.map_or((None, None), |(fit, fault)| (Some((fit, of_size)), fault));
    faults.extend(fault);
    let target = match wanted.target {
        Target::Newest => end,
        Target::Index(index) => at_index(store, &entries, index, (first, end), tell).await?,
        Target::Time(clock_ms) => at_time(store, &entries, clock_ms, (first, end), tell).await?,
    };
    let mut plan = Plan {
        cluster_id: newest.head.cluster_id,
        timeline: newest.head.timeline,
        target,
        to_end: wanted.target == Target::Newest,
        first,
        newest: end,
        journal_size: newest.head.journal_size,
        old: stretch(&entries, target.index, first)?,
        new: of_generation(&entries, newest.generation, u64::MAX),
        segments: 0,
        bytes: 0,
        left_out: Vec::new(),
        kept_newer: Vec::new(),
        head,
        holes: holes(&entries),
        signed_by: chain.keys().clone(),
        faults,
    };
    look(store, &mut plan, &newest, tell).await?;
    Ok(plan)
}

fn holes(entries: &[Entry]) -> Vec<(u64, u64, u64)> {
    let gap = |pair: &[Entry]| {
        let (before, after) = (&pair[0], &pair[1]);
        let is_gap = after.base == Some(false) && after.moment.index > before.moment.index;
        is_gap.then_some((after.generation, before.moment.index + 1, after.moment.index))
    };
    entries.windows(2).filter_map(gap).collect()
}

/// The manifests of a generation, up to the first that reaches an entry.
fn of_generation(entries: &[Entry], generation: u64, upto: u64) -> Stretch {
    let of = |entry: &&Entry| entry.generation == generation;
    let last = entries.iter().filter(of).position(|entry| entry.moment.index >= upto);
    let count = last.map_or(usize::MAX, |last| last + 1);
    let manifests = entries.iter().filter(of).take(count).map(|entry| (entry.sequence, entry.sha256));
    Stretch { generation, manifests: manifests.collect() }
}

/// The newest generation whose base lies at or before an entry, up to that.
fn stretch(entries: &[Entry], index: u64, first: Moment) -> Result<Stretch, PlanError> {
    let base = entries.iter().rev().find(|entry| entry.base.is_some() && entry.moment.index <= index);
    let generation = base.ok_or(PlanError::TooEarly(first))?.generation;
    if entries.iter().any(|entry| entry.generation == generation && entry.moment.index >= index) {
        return Ok(of_generation(entries, generation, index));
    }
    let missing = holes(entries).into_iter().find(|(_, first, last)| (first..=last).contains(&&index));
    let (_, first, last) = missing.unwrap_or((0, index, index + 1));
    // The base after the hole is the state at its last entry, so that one can be had.
    Err(PlanError::Hole { first, last: last - 1 })
}

async fn at_index(
    store: &ArchiveStore,
    entries: &[Entry],
    index: u64,
    (first, end): (Moment, Moment),
    tell: Tell<'_>,
) -> Result<Moment, PlanError> {
    if index < first.index {
        return Err(PlanError::TooEarly(first));
    }
    let place = entries.iter().position(|entry| entry.moment.index >= index).ok_or(PlanError::TooLate(end))?;
    let found = &entries[place];
    if found.moment.index == index || place == 0 {
        return Ok(Moment { index, ..found.moment });
    }
    match found.base {
        // In a hole, which is told later.
        Some(_) => Ok(Moment { index, ..found.moment }),
        None => within(store, found, entries[place - 1].moment, |entry| entry.index <= index, tell).await,
    }
}

async fn at_time(
    store: &ArchiveStore,
    entries: &[Entry],
    clock_ms: u64,
    (first, end): (Moment, Moment),
    tell: Tell<'_>,
) -> Result<Moment, PlanError> {
    if clock_ms < first.clock_ms {
        return Err(PlanError::TooEarly(first));
    }
    // Up to the end and said to be of later would claim records that the archive never had.
    if clock_ms > end.clock_ms {
        return Err(PlanError::TooLate(end));
    }
    let Some(place) = entries.iter().position(|entry| entry.moment.clock_ms > clock_ms) else { return Ok(end) };
    let from = entries[place.saturating_sub(1)].moment;
    match entries[place].base {
        // Beyond a hole: the last entry before it.
        Some(_) => Ok(from),
        None => within(store, &entries[place], from, |entry| entry.clock_ms <= clock_ms, tell).await,
    }
}

/// The last entry of a manifest's segments, from a moment before them on, up to which all satisfy a condition.
async fn within(
    store: &ArchiveStore,
    entry: &Entry,
    from: Moment,
    is_before: impl Fn(&Moment) -> bool,
    tell: Tell<'_>,
) -> Result<Moment, PlanError> {
    let manifest = read(store, entry.generation, &(entry.sequence, entry.sha256)).await?;
    let mut last = from;
    for reference in manifest.segments() {
        let name = reference.name();
        let bytes = get(store, &name, SEGMENT_BYTES_MAX, tell).await?;
        let segment = Segment::open(&bytes).map_err(|source| ReplayError::from(Fault::Segment { name, source }))?;
        for found in segment {
            let found = found.map_err(|source| ReplayError::from(Fault::Segment { name, source }))?;
            let clock_ms = match &found.payload {
                Payload::Command(command) | Payload::Stripped { command, .. } => apply::clock_of(command),
                _ => None,
            };
            let next = Moment { index: found.index, clock_ms: last.clock_ms.max(clock_ms.unwrap_or_default()) };
            if !is_before(&next) {
                return Ok(last);
            }
            last = next;
        }
    }
    Ok(last)
}

/// A manifest that was followed before, the same bytes.
pub(super) async fn read(
    store: &ArchiveStore,
    generation: u64,
    known: &(u64, Sha256Hash),
) -> Result<Manifest, CatalogError> {
    let found = catalog::manifest(store, generation, known.0).await?;
    let manifest = found.signed.manifest;
    match found.sha256 == known.1 {
        true => Ok(manifest),
        false => Err(CatalogError::Manifest {
            name: manifest.name(),
            source: ManifestError::Content("it was replaced meanwhile"),
        }),
    }
}

/// The base with which a stretch begins, and its manifest.
pub(super) async fn base(store: &ArchiveStore, stretch: &Stretch) -> Result<(Manifest, Base), CatalogError> {
    let first = stretch.manifests.first().ok_or(CatalogError::NoBase(stretch.generation))?;
    let manifest = read(store, stretch.generation, first).await?;
    let base = manifest.base().cloned().ok_or(CatalogError::NoBase(stretch.generation))?;
    Ok((manifest, base))
}

/// Looks whether all that is needed is there with its length, counts it, and compares tables.
async fn look(store: &ArchiveStore, plan: &mut Plan, newest: &Manifest, tell: Tell<'_>) -> Result<(), PlanError> {
    let mut stretches = vec![plan.old.clone(), plan.new.clone()];
    if plan.is_one_generation() {
        stretches.remove(0);
    }
    let mut looked = HashSet::new();
    let mut then: Option<Head> = None;
    for stretch in stretches {
        tell(Event::Doing(format!("objects of generation {}", stretch.generation)));
        for known in &stretch.manifests {
            let manifest = read(store, stretch.generation, known).await?;
            if stretch.generation == plan.old.generation && manifest.index() <= plan.target.index {
                then = Some(manifest.head.clone());
            }
            plan.segments += manifest.segments().len() as u64;
            for (name, expected) in manifest.objects() {
                // Files that two bases share are fetched once.
                if looked.insert(name) {
                    plan.bytes += expected;
                    length(store, name, expected, &mut plan.faults).await?;
                }
            }
        }
    }
    match ledger_bytes(store, newest, tell).await {
        Ok(bytes) => plan.bytes += bytes,
        Err(ReplayError::Fault(fault)) => plan.faults.push(*fault),
        Err(error) => return Err(error.into()),
    }
    let Some(then) = then else { return Ok(()) };
    let find = |head: &Head, table: Table| {
        head.tables.iter().find(|found| found.number == table.number()).map(|found| (found.rows, found.digest))
    };
    for table in Table::ALL {
        let (before, after) = (find(&then, table), find(&newest.head, table));
        if before == after || table == Table::Request {
            continue;
        }
        let [rows_then, rows_newest] = [before, after].map(|found| found.map_or(0, |(rows, _)| rows));
        let change = TableChange { table, rows_then, rows_newest };
        match table.goes_back() {
            true if plan.is_newest() => {}
            true => plan.left_out.push(change),
            false => plan.kept_newer.push(change),
        }
    }
    Ok(())
}

async fn length(
    store: &ArchiveStore,
    name: ObjectName,
    expected: u64,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    match store.length(&name.to_string()).await? {
        None => faults.push(Fault::Missing { name }),
        Some(found) if found < expected => faults.push(Fault::CutOff { name, expected, found }),
        Some(found) if found > expected => faults.push(Fault::Longer { name, expected, found }),
        Some(_) => {}
    }
    Ok(())
}
