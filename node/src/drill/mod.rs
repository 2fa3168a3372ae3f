//! The drill: from the archive to a state that opens, in a scratch directory, while the cluster runs. Rehearses what a
//! loss of every disk would need, on the machine that would need it, and says how long each step took.
//!
//! Invariants
//! - It writes into its scratch directory, which is deleted, and the report; the archive is only read, and no member
//!   is asked for anything.
//! - It needs no key of the cluster and opens nothing of a participant: a backup can run it. With the drill key it opens
//!   synthetic participants, and nothing else.
//! - A step that failed ends the drill, and the report says which: nothing after it counts as rehearsed. A check that
//!   could not be made has failed.

mod open;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use kura_cluster::archive::{Chain, Manifest, Sha256Hash};
use kura_cluster::head::Head;
use kura_cluster::hexadecimal;
use kura_cluster::row::Table;
use kura_cluster::seal::Key;

use crate::archive::ArchiveStore;
use crate::archive::catalog;
use crate::archive::replay::{Event, Replayed, Tell, put_keys};
use crate::archive::verify::{Level, Request, Witness, goes_on_from, verify};
use crate::clock;
use crate::state::Database;
use crate::state::store::StateStore;

pub use open::open as open_synthetic;
pub use report::{FILE, FORMAT, Report, ReportError, Step};

/// What is rehearsed.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The archive.
    pub store: &'a ArchiveStore,
    /// Keys (SHA-256 of SubjectPublicKeyInfo) that may have signed it; any, if none are named.
    pub trusted: Vec<Sha256Hash>,
    /// A head that somebody kept: the archive must reach it.
    pub witness: Option<Witness>,
    /// An empty directory of the drill's own, with room for a whole state.
    pub scratch: &'a Path,
    /// The drill key: what it opens is opened.
    pub key: Option<Key>,
}

/// How often the key ledger is looked for, each time that of a newer manifest.
const LEDGER_LOOKS: u32 = 10;

/// The steps, in their order.
const CHECK: &str = "check the archive";
const RESTORE: &str = "restore into the scratch directory";
const KEYS: &str = "put the wrapped keys in";
const ROWS: &str = "add up every row";
const START: &str = "open it as a node does";
/// The last step, with a drill key.
pub const OPEN: &str = "open the synthetic participants";

/// One drill on its way.
struct Drill<'a> {
    wanted: Wanted<'a>,
    tell: Tell<'a>,
    report: Report,
}

/// Runs it. What went wrong stands in the report; nothing is an error that a drill is there to find.
pub async fn run(wanted: Wanted<'_>, tell: Tell<'_>) -> Report {
    let report = Report::begun(clock::now_ms(), wanted.witness.is_some());
    let mut drill = Drill { wanted, tell, report };
    let began = Instant::now();
    let failed = drill.steps().await.err();
    drill.report.end(began.elapsed(), failed);
    drill.report
}

impl Drill<'_> {
    async fn steps(&mut self) -> Result<(), String> {
        self.check().await?;
        let newest = self.restore().await?;
        self.open(&newest)
    }

    /// Notes how long a step took and what it found, in words; answers what it made.
    fn step<T>(&mut self, name: &'static str, began: Instant, done: Result<(T, String), String>) -> Result<T, String> {
        let (made, told) =
            done.map_or_else(|why| (Err(format!("{name}: {why}")), why), |(made, told)| (Ok(made), told));
        self.report.steps.push(Step::new(name, began.elapsed(), made.is_ok(), told));
        made
    }

    fn begin(&self, name: &str) -> Instant {
        (self.tell)(Event::Doing(name.to_owned()));
        Instant::now()
    }

    /// Everything in the archive is there, whole, in its place, and reaches the head that somebody kept.
    async fn check(&mut self) -> Result<(), String> {
        let began = self.begin(CHECK);
        let request = Request {
            level: Level::Hash,
            generation: None,
            trusted: self.wanted.trusted.clone(),
            witness: self.wanted.witness,
            scratch: self.wanted.scratch,
        };
        let told = match verify(self.wanted.store, &request, self.tell).await {
            Err(error) => Err(error.to_string()),
            Ok((found, _)) => match found.faults.first() {
                Some(fault) => Err(format!("{} faults, the first: {fault}", found.faults.len())),
                None => {
                    self.report.archive_at_ms = found.at_ms;
                    let holes = match found.holes.len() {
                        0 => String::new(),
                        count => format!(", {count} holes that were never archived"),
                    };
                    Ok(((), format!("{} objects, {} bytes{holes}", found.objects, found.bytes)))
                }
            },
        };
        self.step(CHECK, began, told)
    }

    /// The newest generation, through the members' own `apply`: digests are compared at every manifest.
    async fn restore(&mut self) -> Result<Manifest, String> {
        let began = self.begin(RESTORE);
        let done = self.replay().await.map(|(manifest, replayed)| {
            let told = format!("{} entries replayed, up to entry {}", replayed.entries, manifest.index());
            ((manifest, replayed), told)
        });
        let (manifest, replayed) = self.step(RESTORE, began, done)?;
        self.report.index = manifest.index();
        self.report.journal_size = replayed.summary.journal.size();

        let began = self.begin(KEYS);
        let gone = self.put_keys(&replayed, &manifest).await;
        self.step(KEYS, began, gone.map(|gone| ((), format!("{gone} key rows have none: erased, or replaced since"))))?;

        let began = self.begin(ROWS);
        let witness = self.wanted.witness;
        let done = tokio::task::block_in_place(|| counted(&replayed, witness.as_ref()));
        self.step(ROWS, began, done.map(|told| ((), told)))?;
        Ok(manifest)
    }

    /// The ledger may be replaced by a newer manifest's meanwhile.
    async fn put_keys(&self, replayed: &Replayed, manifest: &Manifest) -> Result<u64, String> {
        let store = self.wanted.store;
        let mut named = manifest.clone();
        let mut looks = 1;
        loop {
            let failed = match put_keys(store, replayed, &named, self.tell).await {
                Ok(gone) => return Ok(gone),
                Err(error) => error.to_string(),
            };
            let found = catalog::newest(store).await.map_err(|error| error.to_string())?;
            match found.map(|found| found.signed.manifest).filter(|newest| newest.sequence > named.sequence) {
                Some(newest) if looks < LEDGER_LOOKS => named = newest,
                _ => return Err(failed),
            }
            looks += 1;
        }
    }

    async fn replay(&self) -> Result<(Manifest, Replayed), String> {
        let store = self.wanted.store;
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let generations = catalog::generations(store).await.map_err(|error| words(&error))?;
        let generation = *generations.last().ok_or("the archive has no generation")?;
        // What comes before it the check has followed.
        let mut chain = Chain::new(None, self.wanted.trusted.clone(), Vec::new()).beginning_anywhere();
        let (mut manifests, mut faults) = (Vec::new(), Vec::new());
        let look = |found: catalog::Found| manifests.push(found.signed.manifest);
        catalog::follow(store, &mut chain, generation, &mut faults, look).await.map_err(|error| words(&error))?;
        if let Some(fault) = faults.first() {
            return Err(fault.to_string());
        }
        let (first, others) = manifests.split_first().ok_or("the newest generation has no manifest")?;
        let base = first.base().ok_or("the newest generation has no base")?;
        let directory = self.wanted.scratch.join("state");
        let mut replayed =
            Replayed::begin(store, first, base, &directory, self.tell).await.map_err(|error| words(&error))?;
        for manifest in others {
            let whole = replayed.go_on(store, manifest, u64::MAX, self.tell).await.map_err(|error| words(&error))?;
            if !whole {
                return Err(format!("{} ends before its own index", manifest.name()));
            }
        }
        let newest = others.last().unwrap_or(first).clone();
        Ok((newest, replayed))
    }

    /// Opened anew from the disk, as a start would: what comes back is what the manifest signed.
    fn open(&mut self, newest: &Manifest) -> Result<(), String> {
        let began = self.begin(START);
        let directory = self.wanted.scratch.join("state");
        let told = tokio::task::block_in_place(|| opened(&directory, newest));
        self.step(START, began, told.map(|told| ((), told)))?;
        if self.wanted.key.is_none() {
            return Ok(());
        }
        let began = self.begin(OPEN);
        let told = tokio::task::block_in_place(|| {
            let database = Database::open(&directory).map_err(|error| error.to_string())?;
            let key = self.wanted.key.as_ref().ok_or("there is no drill key")?;
            open::open(&database, newest.head.cluster_id, key)
        });
        self.report.opened = told.is_ok();
        self.step(OPEN, began, told.map(|told| ((), told)))
    }
}

/// Every row is read and added up, the journal is the one that somebody kept a head of, and all of it is on the disk.
fn counted(replayed: &Replayed, witness: Option<&Witness>) -> Result<String, String> {
    let wrong = replayed.scrub().map_err(|error| error.to_string())?;
    if !wrong.is_empty() {
        return Err(format!("rows of {} are not what their digest counts", wrong.join(", ")));
    }
    if witness.is_some_and(|witness| !goes_on_from(replayed, witness)) {
        return Err("the journal does not begin with the one whose head was kept".into());
    }
    replayed.database.flush().map_err(|error| error.to_string())?;
    let rows: u64 = Table::ALL.iter().map(|table| replayed.summary.table(*table).rows).sum();
    Ok(format!("{rows} rows, digests as the newest manifest names them"))
}

fn opened(directory: &Path, newest: &Manifest) -> Result<String, String> {
    let database = Database::open(directory).map_err(|error| error.to_string())?;
    let state = StateStore::at_rest(database).map_err(|error| error.to_string())?;
    let published = state.published();
    let own = Head::of(newest.head.cluster_id, published.index(), &published.summary);
    if own != newest.head {
        return Err(format!("it opens as the state at entry {}, not at {}", published.index(), newest.index()));
    }
    let cluster = state.database().cluster_row().map_err(|error| error.to_string())?;
    if cluster.is_none() {
        return Err("it has no row of the cluster".into());
    }
    Ok(format!("entry {}, a journal of {} entries", published.index(), published.summary.journal.size()))
}

/// The directory in which a drill works, deleted when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory below `parent`; the system's for temporary files if none is named.
    ///
    /// # Errors
    /// The system's.
    pub fn make(parent: Option<&Path>) -> std::io::Result<Scratch> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("kura-drill-{}", hexadecimal(crate::random::id())));
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the drill's scratch directory could not be deleted");
        }
    }
}
