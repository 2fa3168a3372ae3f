//! What a former member's disk, found later, has beyond the take-over: read here, offered to the cluster, decided there.
//!
//! No key is needed: the old log is replayed on a mirror, blindly, which tells what took effect and where the old journal
//! parts from the cluster's. The commands behind that are sent as they lie in the log, sealed.
//!
//! Invariants
//! - The disk is not changed. Nothing is decided here.
//! - What restricts is offered before anything else, in the order of the old log.
//! - Every entry of the old journal beyond the parting is told of: what became of it, or that it cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kura_client::OperationError;
use kura_client::salvage::Salvage;
use kura_client::wire;
use kura_cluster::row::{RowKey, Table};
use kura_cluster::tree::leaf_hash;
use kura_cluster::word::Action;
use kura_cluster::{ClusterId, Command, hexadecimal};
use prost::Message;
use serde::Serialize;

use super::found::{self, AtRest, Found, FoundError, LookedLog};
use super::mirror::{For, mirror};
use super::report::TAIL_MAX;
use super::take::replay;
use crate::identity::NodeIdentity;
use crate::raft::survey::SurveyError;
use crate::raft::types::{Entry, EntryPayload};
use crate::state::{Database, DatabaseError, current_database};

/// Rounds: what restricts, everything else, what restricts records that came in the second.
const ROUNDS: u32 = 3;

/// Journal rows read at a time.
const SCAN_ROWS: usize = 1_000;

/// Why nothing, or nothing more, was salvaged. What was done stays done, and a further run finds it.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// See [`FoundError`].
    #[error(transparent)]
    Found(#[from] FoundError),
    /// The old log cannot be read.
    #[error(transparent)]
    Log(#[from] SurveyError),
    /// The old state cannot be read.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// Not a former member's data directory.
    #[error("{path} is {why}")]
    Other {
        /// What was named.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] OperationError),
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// It took effect; in a rehearsal: it would.
    Applied,
    /// It had before.
    There,
    /// The rules refuse it now.
    Refused,
    /// It does not open, or parts of it are missing.
    Unreadable,
    /// People have to do it again.
    ByHand,
    /// A read, a denial: nothing to bring back.
    Nothing,
}

impl Became {
    /// For a table.
    pub fn word(self) -> &'static str {
        match self {
            Became::Applied => "applied",
            Became::There => "there",
            Became::Refused => "REFUSED",
            Became::Unreadable => "UNREADABLE",
            Became::ByHand => "BY HAND",
            Became::Nothing => "nothing",
        }
    }

    /// Of an answer; none: it is of a later round.
    fn of(told: &wire::SalvageTold) -> Option<Became> {
        Some(match told.outcome {
            1 => Became::Applied,
            2 => Became::There,
            3 => Became::Refused,
            5 => Became::ByHand,
            6 => Became::Nothing,
            7 => return None,
            // Also of an answer that this version does not know.
            _ => Became::Unreadable,
        })
    }
}

/// An entry of the old log, as it is reported. No participant, facility or record is named.
#[derive(Debug, Clone, Serialize)]
pub struct Salvaged {
    /// Log index on the former timeline.
    pub index: u64,
    /// When it was decided there, in milliseconds since 1970; 0: it could not be read.
    pub at_ms: u64,
    /// What it was; empty: it could not be read.
    pub action: String,
    /// Whether it restricts.
    pub restricts: bool,
    /// The request id, in hexadecimal: applications know it.
    pub request: String,
    /// What became of it.
    pub became: Became,
    /// Why.
    pub why: String,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The old directory.
    pub from: PathBuf,
    /// The member whose it was.
    pub member: String,
    /// Its timeline.
    pub former_timeline: u64,
    /// The cluster's timeline now.
    pub timeline: u64,
    /// Whether it was applied. If not, nothing was written, and what it says is what would be.
    pub applied: bool,
    /// Entries of the old journal that the cluster has as well: beyond them the two part.
    pub common: u64,
    /// Entries of the old log beyond that took effect there.
    pub entries: u64,
    /// How many became what, by its word in `listed`.
    pub counts: BTreeMap<&'static str, u64>,
    /// What restricts first, each in the order of the old log; at most [`TAIL_MAX`]. What had nothing to bring back is
    /// only counted.
    pub listed: Vec<Salvaged>,
    /// What is wrong with the disk, in words: more may have been on it.
    pub faults: Vec<String>,
}

impl Report {
    /// How many became something.
    pub fn count(&self, became: Became) -> u64 {
        self.counts.get(became.word()).copied().unwrap_or(0)
    }
}

/// A former member's disk, looked at.
pub struct OldDisk {
    found: Found,
    identity: NodeIdentity,
    log: LookedLog,
    database: Database,
    faults: Vec<String>,
    _mirror: Mirror,
    _rest: AtRest,
}

/// A directory that goes when it is dropped.
struct Mirror(PathBuf);

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl OldDisk {
    /// Looks at a former member's data directory, and replays its log on a mirror. `scratch` is an own directory, best
    /// on the same file system: tables are linked there then, and copied otherwise.
    ///
    /// # Errors
    /// [`SalvageError`].
    pub async fn open(from: &Path, scratch: &Path) -> Result<OldDisk, SalvageError> {
        let other = |why| SalvageError::Other { path: from.to_owned(), why };
        let rest = AtRest::hold(from)?;
        let found = found::look(from, None, scratch).await?;
        if found.is_archive() {
            return Err(other("an archive, not a member's data directory"));
        }
        let identity = NodeIdentity::read(from).map_err(FoundError::from)?;
        let into = Mirror(scratch.join("replayed"));
        let _ = std::fs::remove_dir_all(&into.0);
        mirror(&current_database(from)?, &into.0, For::Work)
            .map_err(|source| SalvageError::File { path: from.to_owned(), source })?;
        let database = Database::open(&into.0)?;
        database.check(&identity.trust(), database.progress()?.2.timeline)?;
        let log = LookedLog::open(from, scratch)?;
        let mut faults = Vec::new();
        if let Some(torn) = log.survey.torn() {
            faults.push(format!("the end of its log is torn, what lay behind is gone: {torn}"));
        }
        if let Some(mark) = log.survey.lost() {
            faults.push(format!("its log lacks what it once promised: {mark}"));
        }
        if let Err(error) = replay(&database, &log, found.committed) {
            let applied = database.progress()?.0.map_or(0, |id| id.index);
            faults.push(format!("its log cannot be read beyond entry {applied}: {error}"));
        }
        Ok(OldDisk { found, identity, log, database, faults, _mirror: into, _rest: rest })
    }

    /// The name that people type.
    pub fn cluster_name(&self) -> &str {
        &self.identity.cluster_name
    }

    /// Whose it was.
    pub fn cluster_id(&self) -> ClusterId {
        self.identity.cluster_id
    }

    /// Its timeline.
    pub fn timeline(&self) -> u64 {
        self.found.timeline
    }

    fn journal_size(&self) -> Result<u64, SalvageError> {
        Ok(self.database.progress()?.2.journal.size())
    }

    /// Indexes of the log behind the journal's entries from a position on: what took effect there.
    fn written_from(&self, position: u64) -> Result<BTreeSet<u64>, SalvageError> {
        let (mut indexes, mut next) = (BTreeSet::new(), position);
        let size = self.journal_size()?;
        let snapshot = self.database.snapshot();
        while next < size {
            let after = next.checked_sub(1).map(RowKey::journal);
            let after = after.as_ref().map(|key| &key.as_bytes()[..]);
            let rows = snapshot.scan(&RowKey::whole_table(Table::Journal), after, SCAN_ROWS)?;
            if rows.is_empty() {
                break;
            }
            next += rows.len() as u64;
            indexes.extend(rows.iter().map(|(_, row)| row.header.revision.index));
        }
        Ok(indexes)
    }

    /// The value of a block's row; of nothing else.
    fn block(&self, row: Bytes) -> Option<Bytes> {
        let key = RowKey::from_bytes(row);
        (key.table() == Some(Table::Block)).then_some(())?;
        // What cannot be read is missing: the cluster says so of the record.
        Some(self.database.row(&key).ok()??.value)
    }

    /// The next entries of the log from an index on, up to `last`. Where a stretch is missing or cannot be read, what
    /// lies behind it.
    fn entries(&self, from: u64, last: u64) -> Vec<Entry> {
        let from = from.max(self.log.survey.purged().map_or(0, |purged| purged.index + 1));
        match self.log.survey.entries_from(from) {
            Ok(mut entries) if !entries.is_empty() => {
                entries.retain(|entry| entry.log_id.index <= last);
                entries
            }
            _ => (from..=last).find_map(|index| self.log.survey.entry(index).ok().flatten()).into_iter().collect(),
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// From 1.
    pub round: u32,
    /// Entries of this round.
    pub entries: u64,
    /// How many of them were offered.
    pub done: u64,
}

/// Offers what lies on a disk. `line` was begun for it; `applied` says how.
///
/// # Errors
/// [`SalvageError`].
pub async fn run(
    disk: &OldDisk,
    line: &mut Salvage,
    applied: bool,
    mut progress: impl FnMut(Step),
) -> Result<Report, SalvageError> {
    let common = common(disk, line).await?;
    if common == 0 {
        let path = disk.found.path.clone();
        return Err(SalvageError::Other { path, why: "of another history: nothing of its journal is the cluster's" });
    }
    let written = disk.written_from(common)?;
    let mut became: BTreeMap<u64, Salvaged> = BTreeMap::new();
    let mut waiting = written.clone();
    for round in 1..=ROUNDS {
        let (mut step, mut later) = (Step { round, entries: waiting.len() as u64, done: 0 }, BTreeSet::new());
        let (mut next, last) = (waiting.first().copied().unwrap_or(1), waiting.last().copied().unwrap_or(0));
        while next <= last {
            let entries = disk.entries(next, last);
            let Some(end) = entries.last() else { break };
            next = end.log_id.index + 1;
            for entry in entries.into_iter().filter(|entry| waiting.contains(&entry.log_id.index)) {
                let index = entry.log_id.index;
                let told = line.offer(asked(entry, round, common), |row| disk.block(row)).await?;
                match Became::of(&told) {
                    Some(one) => drop(became.insert(index, salvaged(told, one))),
                    None => drop(later.insert(index)),
                }
                step.done += 1;
                progress(step);
            }
        }
        waiting = later;
    }
    for index in written {
        if became.contains_key(&index) {
            continue;
        }
        let why = match disk.log.survey.purged().is_some_and(|purged| purged.index >= index) {
            true => "no longer in its log",
            false => "its log lacks it, or it is damaged there",
        };
        let unread = wire::SalvageTold { index, why: why.into(), ..Default::default() };
        became.insert(index, salvaged(unread, Became::Unreadable));
    }
    let mut counts = BTreeMap::new();
    for one in became.values() {
        *counts.entry(one.became.word()).or_default() += 1;
    }
    let entries = became.len() as u64;
    let mut listed: Vec<Salvaged> = became.into_values().filter(|one| one.became != Became::Nothing).collect();
    listed.sort_by_key(|one| (!one.restricts, one.index));
    listed.truncate(TAIL_MAX);
    Ok(Report {
        from: disk.found.path.clone(),
        member: disk.found.name.clone(),
        former_timeline: disk.found.timeline,
        timeline: line.begun().timeline,
        applied,
        common,
        entries,
        counts,
        listed,
        faults: disk.faults.clone(),
    })
}

/// How many entries both journals begin with. An entry is in one place with one log before it, so one that is the same
/// has the same entries before it.
async fn common(disk: &OldDisk, line: &mut Salvage) -> Result<u64, SalvageError> {
    let mut high = disk.journal_size()?.min(line.begun().journal_size);
    let mut low = 0;
    // The whole first: that is the answer unless the log that was taken over had an end that the others never had.
    let mut next = high;
    while low < high {
        let row = disk.database.row(&RowKey::journal(next - 1))?;
        let leaf = row.map(|row| leaf_hash(&row.value));
        let here = line.leaf(next - 1).await?;
        let is_same = leaf.is_some_and(|leaf| leaf[..] == here[..]);
        if is_same {
            low = next
        } else {
            high = next - 1
        }
        next = low + (high - low).div_ceil(2);
    }
    Ok(low)
}

fn asked(entry: Entry, round: u32, common: u64) -> wire::SalvageEntry {
    let command = match entry.payload {
        EntryPayload::Normal(command) => without_blocks(command.0),
        EntryPayload::Membership(_) | EntryPayload::Blank => Bytes::new(),
    };
    wire::SalvageEntry { index: entry.log_id.index, command, round, common }
}

/// A command without the blocks of bodies, which are asked for when they are needed.
fn without_blocks(bytes: Bytes) -> Bytes {
    let Ok(mut command) = Command::decode(bytes.clone()) else { return bytes };
    command.writes.retain(|write| write.row.first() != Some(&Table::Block.number()));
    command.encode_to_vec().into()
}

fn salvaged(told: wire::SalvageTold, became: Became) -> Salvaged {
    Salvaged {
        index: told.index,
        at_ms: told.at_ms,
        action: Action::from_number(told.action).map_or("", Action::word).into(),
        restricts: told.restricts,
        request: hexadecimal(&told.request_id),
        became,
        why: told.why,
    }
}
