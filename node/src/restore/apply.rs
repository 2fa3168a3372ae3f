//! The restore itself: fetch, replay, merge, verify, begin a timeline, put in place.
//!
//! It comes in two halves, as people with key shares may be needed between them: [`replay`] needs no key,
//! [`Replays::finish`] the root key.
//!
//! Invariants
//! - Nothing is fetched twice that lies there whole, and nothing is used before its hash was compared.
//! - Memory holds a few segments and one batch, however large the archive is.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_cluster::archive::{Fault, Manifest, ObjectName};
use kura_cluster::head::Head;
use kura_cluster::keyring::RecoveryKeys;
use kura_cluster::row::{KeyringRow, RowKey, StoredRow, Table};
use kura_cluster::seal::Key;
use kura_cluster::tree;
use kura_cluster::word::ServiceLevel;
use kura_cluster::{ClusterId, hexadecimal};
use prost::Message;

use super::left_out::LeftOut;
use super::merge::{Merged, Merger};
use super::plan::{self, Plan, Stretch, Wanted};
use super::report::{self, Report, TableDigest, TableReport};
use super::work::{Work, WorkError, at, end_of, remove, sync, write_whole};
use crate::archive::catalog::CatalogError;
use crate::archive::replay::{Event, ReplayError, Replayed, Tell, fetch, newest_keyring, put_keys};
use crate::archive::scrub::scrub;
use crate::archive::store::ArchiveStore;
use crate::archive::verify::{StoredTree, Witness};
use crate::custody::Known;
use crate::recovery::membership::{Began, Beginning, RewriteError, begin_timeline, certify};
use crate::state::{Database, DatabaseError, StateStore, first_database};
use crate::vault::{Vault, VaultError};

const NEW: &str = "new";
const OLD: &str = "old";
/// Files of a base that are fetched at the same time.
const FETCHED_AT_ONCE: usize = 4;
/// How often a restore is planned anew because the archive has grown.
const ROUNDS_MAX: u32 = 10;

/// Who the first voter is, and on which grounds.
#[derive(Debug, Clone)]
pub struct Restorer {
    /// Its name, as in its certificate of role voter.
    pub name: String,
    /// Host and port at which others will reach it.
    pub address: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    pub key_sha256: [u8; 32],
    /// What it serves at first.
    pub level: ServiceLevel,
    /// How the former members are known to be fenced, or the waiver, for the journal.
    pub fenced: String,
    /// Why it is restored, for the journal.
    pub reason: String,
}

/// How the archive's end is vouched for.
#[derive(Debug, Clone)]
pub enum Vouched {
    /// A head that somebody kept.
    By(Witness),
    /// By nobody, for this reason, which is journalled.
    Waived(String),
}

/// Why nothing was restored, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The plan has faults.
    #[error("the archive has {} faults, the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Faults(Vec<Fault>),
    /// See [`WorkError`].
    #[error(transparent)]
    Work(#[from] WorkError),
    /// See [`CatalogError`].
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// See [`ReplayError`].
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// See [`RewriteError`].
    #[error(transparent)]
    Begin(#[from] RewriteError),
    /// The root key is not this cluster's present one.
    #[error("the archive's keyring does not open with this root key: it is another cluster's, or was rotated")]
    WrongRootKey,
    /// The result did not pass its verification.
    #[error("the restored state did not pass its verification, and was not installed: {0}")]
    Unsound(String),
}

/// Whether a root key opens the keyring that would be restored; before anything is fetched.
async fn check_root(store: &ArchiveStore, plan: &Plan, root: &Key, tell: Tell<'_>) -> Result<(), ApplyError> {
    let newest = newest(store, plan).await?;
    let row = newest_keyring(store, &newest, tell).await?;
    opens(root, &plan.cluster_id, row)
}

fn opens(root: &Key, cluster_id: &ClusterId, keyring: StoredRow) -> Result<(), ApplyError> {
    let row = KeyringRow::decode(keyring.value).map_err(|_| ApplyError::WrongRootKey)?;
    RecoveryKeys::unwrap(root, cluster_id, &row).map(drop).map_err(|_| ApplyError::WrongRootKey)
}

async fn newest(store: &ArchiveStore, plan: &Plan) -> Result<Manifest, CatalogError> {
    let last = plan.new.manifests.last().ok_or(CatalogError::NoBase(plan.new.generation))?;
    plan::read(store, plan.new.generation, last).await
}

impl ApplyError {
    /// Whether it was an object of the archive that was not what it should be, or not there.
    fn is_of_the_archive(&self) -> bool {
        matches!(
            self,
            ApplyError::Faults(_)
                | ApplyError::Catalog(_)
                | ApplyError::Replay(ReplayError::Fault(_) | ReplayError::Store(_))
        )
    }
}

/// Both states, replayed.
pub struct Replays {
    work: Work,
    from: String,
    plan: Plan,
    vouched: Vouched,
    new: Replayed,
    old: Option<Database>,
    newest: Manifest,
    begun: Instant,
}

/// Carries out a plan by [`replay`], once `root`, if it is at hand, is found to open the keyring. An archive that is still
/// written to has one key ledger, its newest manifest's, and lets generations expire: if what was planned with is
/// gone, the same is planned anew up to where the end is by then, and gone on with.
///
/// # Errors
/// [`ApplyError`]; the target then holds an unfinished restore, and nothing else.
pub async fn follow(
    store: &ArchiveStore,
    (mut plan, wanted): (Plan, &Wanted),
    root: Option<&Key>,
    into: &Path,
    vouched: &Vouched,
    tell: Tell<'_>,
) -> Result<Replays, ApplyError> {
    let mut round = 1;
    loop {
        let checked = match root {
            Some(root) if plan.faults.is_empty() => check_root(store, &plan, root, tell).await,
            _ => Ok(()),
        };
        let failed = match checked {
            Ok(()) => match replay(store, &plan, into, vouched.clone(), tell).await {
                Err(error) => error,
                replayed => return replayed,
            },
            Err(error) => error,
        };
        if round == ROUNDS_MAX || !failed.is_of_the_archive() {
            return Err(failed);
        }
        match plan::plan(store, wanted, tell).await {
            Ok(later) if end_of(&later) != end_of(&plan) => plan = later,
            _ => return Err(failed),
        }
        tell(Event::Doing("the archive has grown meanwhile: going on to where it ends now".into()));
        round += 1;
    }
}

/// Fetches and replays both states into the target. Goes on where an earlier run was cut.
///
/// # Errors
/// [`ApplyError`]; the target then holds an unfinished restore, and nothing else.
pub async fn replay(
    store: &ArchiveStore,
    plan: &Plan,
    into: &Path,
    vouched: Vouched,
    tell: Tell<'_>,
) -> Result<Replays, ApplyError> {
    let begun = Instant::now();
    if !plan.faults.is_empty() {
        return Err(ApplyError::Faults(plan.faults.clone()));
    }
    let mut work = Work::claim(into, plan)?;
    if let Some(words) = work.resumed {
        tell(Event::Doing(words.into()));
    }
    if let Some(merging) = work.merging().cloned() {
        let newest = plan::read(store, merging.generation, &(merging.sequence, merging.sha256)).await?;
        let new = reopen(&work, NEW)?;
        // The run that was cut may have been told another head, or none.
        vouch(&new, &vouched)?;
        let old = if work.has(OLD) { Some(open(&work, OLD)?) } else { None };
        return Ok(Replays { work, from: store.place().into(), plan: plan.clone(), vouched, new, old, newest, begun });
    }
    if !plan.is_newest() && !plan.is_one_generation() && !work.has(OLD) {
        lay_base(store, &work, &plan.old, "old.part", tell).await?;
        let mut replayed = reopen(&work, "old.part")?;
        go_on(store, &plan.old, &mut replayed, plan.target.index, tell).await?;
        replayed.database.flush()?;
        drop(replayed);
        work.rename("old.part", OLD)?;
    }
    lay_base(store, &work, &plan.new, NEW, tell).await?;
    let mut new = reopen(&work, NEW)?;
    if !plan.is_newest() && plan.is_one_generation() && !work.has(OLD) {
        go_on(store, &plan.new, &mut new, plan.target.index, tell).await?;
        new.database.flush()?;
        let part = work.path("old.part");
        remove(&part)?;
        new.database.checkpoint(&part)?;
        work.rename("old.part", OLD)?;
    }
    go_on(store, &plan.new, &mut new, u64::MAX, tell).await?;
    let newest = newest(store, plan).await?;
    vouch(&new, &vouched)?;
    tell(Event::Doing("wrapped keys".into()));
    let gone = put_keys(store, &new, &newest, tell).await?;
    if gone > 0 {
        let name = ObjectName::Keys(newest.ledger.sha256);
        return Err(ReplayError::from(Fault::Ledger { name, why: format!("it lacks {gone} keys") }).into());
    }
    new.database.flush()?;
    remove(&work.path("files"))?;
    work.begin_merging(end_of(plan))?;
    let old = if work.has(OLD) { Some(open(&work, OLD)?) } else { None };
    Ok(Replays { work, from: store.place().into(), plan: plan.clone(), vouched, new, old, newest, begun })
}

fn open(work: &Work, name: &str) -> Result<Database, DatabaseError> {
    tokio::task::block_in_place(|| Database::open_copy(&work.path(name)))
}

fn reopen(work: &Work, name: &str) -> Result<Replayed, ReplayError> {
    tokio::task::block_in_place(|| Replayed::reopen(&work.path(name)))
}

/// Fetches a base's files and makes its database, unless an earlier run did.
async fn lay_base(
    store: &ArchiveStore,
    work: &Work,
    stretch: &Stretch,
    name: &str,
    tell: Tell<'_>,
) -> Result<(), ApplyError> {
    let (manifest, base) = plan::base(store, stretch).await?;
    let told = |bytes| tell(Event::Bytes(bytes));
    if work.has(name) {
        told(base.files.iter().map(|file| file.bytes).sum::<u64>() + base.key_headers_bytes);
        return Ok(());
    }
    tell(Event::Doing(format!("base of generation {}", stretch.generation)));
    let files = work.path("files");
    fs::create_dir_all(&files).map_err(at(&files))?;
    let laid = format!("{name}.base");
    let directory = work.anew(&laid)?;
    let fetched = base.files.iter().map(async |file| {
        let (whole, part) = (files.join(hexadecimal(file.sha256)), files.join(format!("{}.part", file.name)));
        match whole.exists() {
            true => told(file.bytes),
            false => {
                fetch(store, &ObjectName::File(file.sha256), &part, tell).await?;
                fs::rename(&part, &whole).map_err(at(&part))?;
            }
        }
        Ok::<_, ApplyError>((file, whole))
    });
    let mut fetched = pin!(stream::iter(fetched).buffer_unordered(FETCHED_AT_ONCE));
    while let Some((file, whole)) = fetched.try_next().await? {
        let place = directory.join(&file.name);
        // The database appends to its own manifest; tables are never changed.
        let is_immutable = file.name.ends_with(".sst") || file.name.ends_with(".blob");
        match is_immutable {
            true => fs::hard_link(&whole, &place).map_err(at(&place))?,
            false => fs::copy(&whole, &place).map(drop).map_err(at(&place))?,
        }
    }
    sync(&files)?;
    let replayed = Replayed::settle(store, &manifest, &base, &directory, tell).await?;
    tokio::task::block_in_place(|| replayed.database.flush())?;
    drop(replayed);
    work.rename(&laid, name)?;
    Ok(())
}

/// Replays a stretch up to an entry, or to its end.
async fn go_on(
    store: &ArchiveStore,
    stretch: &Stretch,
    replayed: &mut Replayed,
    upto: u64,
    tell: Tell<'_>,
) -> Result<(), ApplyError> {
    let (mut reached, mut last) = (replayed.applied.map_or(0, |id| id.index), None);
    let mut following = None;
    for (place, known) in stretch.manifests.iter().enumerate().skip(1) {
        if reached >= upto {
            break;
        }
        let manifest = match following.take() {
            Some(manifest) => manifest,
            None => plan::read(store, stretch.generation, known).await?,
        };
        if let Some(next) = stretch.manifests.get(place + 1).filter(|_| manifest.index() < upto) {
            let next = plan::read(store, stretch.generation, next).await?;
            if let Some(segment) = next.segments().first() {
                replayed.fetch_ahead(store, &segment.name());
            }
            following = Some(next);
        }
        if manifest.index() > reached {
            replayed.go_on(store, &manifest, upto, tell).await?;
            reached = replayed.applied.map_or(0, |id| id.index);
        } else {
            tell(Event::Bytes(manifest.segments().iter().map(|segment| segment.bytes).sum()));
        }
        last = Some(manifest.index());
    }
    let wanted = last.map_or(reached, |last| last.min(upto));
    if reached != wanted {
        return Err(ApplyError::Unsound(format!("the replay came to entry {reached}, not {wanted}")));
    }
    Ok(())
}

/// Holds a journal against the head that somebody kept, if one did.
fn vouch(new: &Replayed, vouched: &Vouched) -> Result<(), ApplyError> {
    let Vouched::By(witness) = vouched else { return Ok(()) };
    let view = new.database.snapshot();
    let peaks = tokio::task::block_in_place(|| tree::peaks(&StoredTree(&view), witness.size));
    match peaks.map(|peaks| peaks.root()) == Ok(witness.root) {
        true => Ok(()),
        false => Err(ReplayError::from(Fault::Journal { size: witness.size }).into()),
    }
}

impl Replays {
    /// The sets of shares that restore the root key, to gather them by.
    ///
    /// # Errors
    /// The database's.
    pub fn known(&self) -> Result<Known, DatabaseError> {
        Known::read(&self.new.database)
    }

    /// Whether a root key opens the keyring that is restored.
    ///
    /// # Errors
    /// [`ApplyError::WrongRootKey`], or the database's.
    pub fn check_root(&self, root: &Key) -> Result<(), ApplyError> {
        let number = Table::Keyring.number();
        let mut keyring = None;
        let view = self.new.database.snapshot();
        view.walk::<DatabaseError>(&[number], &[number + 1], |_, row| {
            keyring = Some(row);
            Ok(())
        })?;
        opens(root, &self.plan.cluster_id, keyring.ok_or(ApplyError::WrongRootKey)?)
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.plan.cluster_id
    }

    /// Merges, verifies, begins the timeline and puts the result in its place.
    ///
    /// # Errors
    /// [`ApplyError`]; then nothing is in its place, and the same can be tried again.
    pub async fn finish(self, root: Arc<Key>, restorer: &Restorer, tell: Tell<'_>) -> Result<Report, ApplyError> {
        let Replays { work, from, plan, vouched, new, old, newest, begun } = self;
        let applied = new.applied.ok_or(ApplyError::Unsound("the state is empty".into()))?;
        // Merged in a copy by hard links: a merge that is cut begins anew, so that its counts are of all rows.
        let copy = work.path("merged");
        remove(&copy)?;
        new.database.checkpoint(&copy)?;
        drop(new);
        let store = StateStore::at_rest(Database::open_copy(&copy)?)?;
        let vault = Vault::unseal(root.clone(), plan.cluster_id, &store)?;
        let database = store.database();
        let (_, _, summary) = database.progress()?;
        let left_out = LeftOut::default();
        let merger = Merger { new: &database, old: old.as_ref(), vault: &vault, applied, summary, left_out };
        let (summary, merged, left_out) = tokio::task::block_in_place(|| merger.run(tell))?;

        tell(Event::Doing("verifying".into()));
        let own = Head::of(plan.cluster_id, applied.index, &summary);
        let differs = |table: &Table| {
            let find = |head: &Head| head.tables.iter().find(|found| found.number == table.number()).copied();
            !table.goes_back() && *table != Table::Request && find(&own) != find(&newest.head)
        };
        if let Some(table) = Table::ALL.into_iter().find(differs) {
            return Err(ApplyError::Unsound(format!("the table {} is not the archive's newest", table.word())));
        }
        if own.journal_root != newest.head.journal_root {
            return Err(ApplyError::Unsound("the journal is not the archive's newest".into()));
        }
        let wrong = tokio::task::block_in_place(|| scrub(&database, &summary))?;
        if !wrong.is_empty() {
            return Err(ApplyError::Unsound(format!("rows of {} are not those of their digest", wrong.join(", "))));
        }

        tell(Event::Doing("beginning the timeline".into()));
        let data = work.anew("result")?;
        database.checkpoint(&first_database(&data)?)?;
        let keyring = database.row(&RowKey::keyring(vault.keyring().epoch))?.ok_or(VaultError::NoKeyring)?;
        let keyring = KeyringRow::decode(keyring.value).map_err(|_| VaultError::NoKeyring)?;
        let recovery = RecoveryKeys::unwrap(&root, &plan.cluster_id, &keyring).map_err(|_| VaultError::WrongRootKey)?;
        let (head_checked, waiver) = match &vouched {
            Vouched::By(_) => (true, String::new()),
            Vouched::Waived(why) => (false, why.clone()),
        };
        let grounds = [restorer.reason.as_str(), waiver.as_str()];
        let grounds: Vec<&str> = grounds.into_iter().filter(|words| !words.is_empty()).collect();
        let beginning = Beginning {
            name: restorer.name.clone(),
            address: restorer.address.clone(),
            key_sha256: restorer.key_sha256,
            term: applied.committed_leader_id().term,
            level: restorer.level,
            object: format!(
                "restore: records of entry {}, all else of entry {}; former members: {}",
                plan.target.index, applied.index, restorer.fenced
            ),
            reason: grounds.join("; without a witnessed head: "),
            at_ms: crate::clock::now_ms().max(summary.clock_ms),
        };
        drop((vault, database, store, old));
        let database = Database::open_copy(&first_database(&data)?)?;
        let certificate = certify(&database, &recovery.timelines, &beginning)?;
        let began = begin_timeline(&data, database, &root, &certificate, &beginning).await?;

        let database = Database::open_copy(&first_database(&data)?)?;
        let (applied, _, summary) = database.progress()?;
        drop(database);
        let told = Facts { from, plan: &plan, newest: &newest, merged: &merged, began: &began };
        let report = Report {
            head_checked,
            waiver,
            fenced: restorer.fenced.clone(),
            bytes: plan.bytes,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            restricted_left_out: left_out.count,
            restricted: left_out.named,
            ..told.report(applied.map_or(0, |id| id.index), &summary)
        };
        let path = data.join(report::FILE);
        let text = serde_json::to_vec_pretty(&report).map_err(|error| at(&path)(error.into()))?;
        write_whole(&path, &text)?;
        work.install()?;
        Ok(report)
    }
}

struct Facts<'f> {
    from: String,
    plan: &'f Plan,
    newest: &'f Manifest,
    merged: &'f Merged,
    began: &'f Began,
}

impl Facts<'_> {
    fn report(self, applied_index: u64, summary: &kura_cluster::apply::Summary) -> Report {
        let Facts { from, plan, newest, merged, began } = self;
        let tables = Table::ALL.iter().filter(|table| summary.table(**table).rows > 0);
        let tables = tables.map(|table| TableDigest {
            table: table.word().into(),
            rows: summary.table(*table).rows,
            digest: hexadecimal(summary.table(*table).digest.to_bytes()),
        });
        let went_back = merged.iter().map(|(table, counted)| TableReport {
            table: table.word().into(),
            kept: counted.kept,
            newer_left_out: counted.newer,
            came_back: counted.back,
            erased_left_out: counted.erased,
            unfinished_left_out: counted.unfinished,
        });
        Report {
            format: Report::FORMAT,
            at_ms: crate::clock::now_ms(),
            from,
            cluster_id: plan.cluster_id.to_hex(),
            index: plan.target.index,
            clock_ms: plan.target.clock_ms,
            newest_index: newest.index(),
            newest_clock_ms: newest.clock_ms,
            archived_journal_size: newest.head.journal_size,
            archived_journal_root: hexadecimal(newest.head.journal_root),
            head_checked: false,
            waiver: String::new(),
            fenced: String::new(),
            timeline: began.identity.timeline,
            raft_id: began.identity.raft_id,
            voter: began.identity.name.clone(),
            began_index: began.began_index,
            applied_index,
            journal_position: began.journal_position,
            journal_size: summary.journal.size(),
            journal_root: hexadecimal(summary.journal.root()),
            state_digest: hexadecimal(began.state_digest),
            tables: tables.collect(),
            went_back: went_back.collect(),
            kept_newer: plan.kept_newer.iter().map(|change| change.table.word().to_owned()).collect(),
            holes: plan.holes.iter().map(|(_, first, last)| (*first, *last)).collect(),
            bytes: 0,
            elapsed_ms: 0,
            restricted_left_out: 0,
            restricted: Vec::new(),
        }
    }
}
