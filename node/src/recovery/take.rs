//! The take-over, offline: a mirror of the best survivor, its log replayed to the end, made the only member of a new
//! timeline, in a new data directory.
//!
//! Invariants
//! - The survivor stays as it is. What is made lies beside the target until it is whole, then it is renamed there.
//! - Nothing is left of a take-over that failed: neither the state nor a key, certificate or CA that it wrote. The root key
//!   is written last, once the state has its place.
//! - Everything that the survivor's log holds is applied, also what it did not know to be committed: that may have
//!   been acknowledged. It is listed as unconfirmed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kura_cluster::apply::{Batch, Summary};
use kura_cluster::command::Outcome;
use kura_cluster::row::Table;
use kura_cluster::seal::Key;
use kura_cluster::word::{Action, ServiceLevel};
use kura_cluster::{ClusterId, Command, hexadecimal};
use prost::Message;
use time::OffsetDateTime;

use super::found::{AtRest, Found, FoundError, LookedLog, Place};
use super::membership::{Began, Beginning, RewriteError, begin_timeline, certify};
use super::mirror::{For, mirror};
use super::plan::{Plan, PlanError};
use super::report::{Report, ReportError, TAIL_MAX, TableTold, TailEntry};
use crate::certificates::{Approval, Authority, AuthorityError, AuthorityFiles, Role};
use crate::config::{NodeConfig, RootKeyConfig};
use crate::custody::{Known, RecoveryError, unwrap_recovery};
use crate::gateway::attempt::open_journal_entry;
use crate::identity::{IdentityFileError, NodeIdentity, keep_private};
use crate::init::{InitError, own_identity};
use crate::raft::survey::SurveyError;
use crate::raft::types::{Entry, EntryPayload, LogId, StoredMembership};
use crate::state::database::Progress;
use crate::state::{Database, DatabaseError, StateStore, current_database, first_database};
use crate::vault::{Vault, VaultError, put_in_place, read_root_key, write_root_key};

/// What is told of an entry whose outcome is not known.
pub(super) const NO_OUTCOME: &str = "none";

/// Why nothing was taken over. The survivor is as it was; so is the target, and what lies beside it.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`FoundError`].
    #[error(transparent)]
    Found(#[from] FoundError),
    /// There is something where the new data directory is to be.
    #[error("data: {path} is not empty: name a directory that does not exist yet")]
    Target {
        /// The configured data directory.
        path: PathBuf,
    },
    /// A take-over that has come to its end.
    #[error(
        "data: {path} holds a take-over that is whole, of timeline {timeline}: go on with `kura recover verify`. If its root \
         key's file is missing, start it and give it the shares (`kura key submit`)"
    )]
    Done {
        /// The configured data directory.
        path: PathBuf,
        /// The timeline that began there.
        timeline: u64,
    },
    /// The data directory cannot be replaced by what is made beside it.
    #[error("data: {path} {why}: name a directory inside it that does not exist yet")]
    Place {
        /// The configured data directory.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// A root key's file is there, of another cluster or of before a rotation.
    #[error("root_key: {path} is there already and holds another key than this cluster's: it is not overwritten")]
    OtherRootKey {
        /// The configured file.
        path: PathBuf,
    },
    /// The survivor was left behind by a cluster that lives.
    #[error("{path} was fenced off: the cluster has gone on without it on timeline {timeline}")]
    Fenced {
        /// The survivor.
        path: PathBuf,
        /// The timeline whose certificate it was shown.
        timeline: u64,
    },
    /// A backup's configuration.
    #[error("root_key: the configuration is to be a voter's: name a file, a credential or {{ shares = true }}")]
    NoRootKey,
    /// The survivor's log does not begin where its state ends.
    #[error("entries {from} to {to} are neither in the state nor in the log of {path}: take another survivor")]
    Missing {
        /// The survivor.
        path: PathBuf,
        /// First missing one.
        from: u64,
        /// Last missing one.
        to: u64,
    },
    /// The survivor's log cannot be read.
    #[error(transparent)]
    Log(#[from] SurveyError),
    /// The mirror's state.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The survivor's identity.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The keyring does not open.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// See [`RewriteError`].
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// The certificate in the configuration is no voter's of this name.
    #[error(transparent)]
    Certificate(#[from] InitError),
    /// No certificate could be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The root key's file.
    #[error(transparent)]
    RootKey(#[from] VaultError),
    /// The statement.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What people say of a take-over.
#[derive(Debug, Clone)]
pub struct Said {
    /// How the former members are known to be fenced, or that it is not known and who waived it.
    pub fenced: String,
    /// Why the cluster is taken over.
    pub reason: String,
    /// Where the recovery CA goes, if it shall be used for further certificates.
    pub authority: Option<PathBuf>,
    /// Validity of the certificate that is made if there is none, in days.
    pub days: u32,
}

/// A mirror of the survivor, replayed to its log's end.
pub struct Prepared {
    target: PathBuf,
    plan: Plan,
    from: Found,
    identity: NodeIdentity,
    work: PathBuf,
    database: Database,
    replayed: Replayed,
    /// The survivor, until it has a successor: people may take hours to bring their shares.
    rest: AtRest,
}

/// What the replay left beyond the last entry that was known to be committed.
#[derive(Default)]
pub(super) struct Replayed {
    applied: Option<LogId>,
    tail: Vec<(Entry, Option<Outcome>)>,
    unconfirmed: u64,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> TakeError {
    let path = path.to_owned();
    move |source| TakeError::File { path: path.clone(), source }
}

/// The directory that the configuration means, links resolved. It is empty or not there, and can be replaced.
fn target(data: &Path) -> Result<PathBuf, TakeError> {
    match std::fs::symlink_metadata(data) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(data.to_owned()),
        Err(error) => return Err(failed(data)(error)),
    }
    let place = |why| TakeError::Place { path: data.to_owned(), why };
    let target = match data.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(place("is a link to what is not there")),
        Err(error) => return Err(failed(data)(error)),
    };
    if !is_free(&target).map_err(failed(data))? {
        return Err(match Report::read(&target) {
            Ok(report) => TakeError::Done { path: data.to_owned(), timeline: report.timeline },
            Err(_) => TakeError::Target { path: data.to_owned() },
        });
    }
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).map_err(failed(path));
    match target.parent() {
        Some(parent) if device(parent)? == device(&target)? => Ok(target),
        _ => Err(place("is where a disk is mounted")),
    }
}

/// Where it is made before it is whole.
pub fn unfinished(data: &Path) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn is_free(data: &Path) -> io::Result<bool> {
    match std::fs::read_dir(data) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

impl Prepared {
    /// Holds the plan against what is there, and makes the mirror for a node of this configuration.
    ///
    /// # Errors
    /// [`TakeError`].
    pub async fn make(plan: &Plan, config: &NodeConfig) -> Result<Prepared, TakeError> {
        if config.root_key.is_none() {
            return Err(TakeError::NoRootKey);
        }
        let target = target(&config.data)?;
        let rest = AtRest::hold(&plan.best().path).map_err(PlanError::Found)?;
        plan.check().await?;
        let from = plan.best().clone();
        if let Some(certificate) = super::fence::read(&from.path).map_err(failed(&from.path))? {
            return Err(TakeError::Fenced { path: from.path, timeline: certificate.timeline });
        }
        let work = unfinished(&target);
        // What an attempt that was cut has left.
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir_all(&work).map_err(failed(&work))?;
        keep_private(&work).map_err(failed(&work))?;
        let made = Self::mirrored(plan, &from, &work, &target, rest);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&work);
        }
        made
    }

    fn mirrored(plan: &Plan, from: &Found, work: &Path, target: &Path, rest: AtRest) -> Result<Prepared, TakeError> {
        let identity = NodeIdentity::read(&from.path)?;
        let directory = first_database(work)?;
        mirror(&current_database(&from.path)?, &directory, For::Work).map_err(failed(&from.path))?;
        let database = Database::open(&directory)?;
        let log = LookedLog::open(&from.path, &work.join("look"))?;
        let (applied, _, summary) = database.progress()?;
        database.check(&identity.trust(), summary.timeline)?;
        let next = applied.map_or(0, |id| id.index + 1);
        if let Some(purged) = log.survey.purged().filter(|purged| purged.index >= next) {
            return Err(TakeError::Missing { path: from.path.clone(), from: next, to: purged.index });
        }
        let replayed = replay(&database, &log, from.committed)?;
        database.flush()?;
        drop(log);
        let _ = std::fs::remove_dir(work.join("look"));
        let (target, plan, from, work) = (target.to_owned(), plan.clone(), from.clone(), work.to_owned());
        Ok(Prepared { target, plan, from, identity, work, database, replayed, rest })
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.identity.cluster_id
    }

    /// The sets of shares that restore its root key.
    ///
    /// # Errors
    /// [`TakeError::State`].
    pub fn known(&self) -> Result<Known, TakeError> {
        Ok(Known::read(&self.database)?)
    }

    /// Gives it up.
    pub fn discard(self) {
        let work = self.work.clone();
        drop(self);
        let _ = std::fs::remove_dir_all(work);
    }

    /// Makes it the only member of a new timeline.
    ///
    /// # Errors
    /// [`TakeError`]; the target does not exist then.
    pub async fn finish(
        self,
        config: &NodeConfig,
        root: Arc<Key>,
        said: &Said,
        now: OffsetDateTime,
    ) -> Result<Report, TakeError> {
        let work = self.work.clone();
        let made = self.made(config, root, said, now).await;
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&work);
        }
        made
    }

    async fn made(
        self,
        config: &NodeConfig,
        root: Arc<Key>,
        said: &Said,
        now: OffsetDateTime,
    ) -> Result<Report, TakeError> {
        let Prepared { target, plan, from, identity, work, database, replayed, rest: _rest } = self;
        let opened = unwrap_recovery(&database, &identity.trust(), &root)?;
        let root_file = match &config.root_key {
            Some(RootKeyConfig::File(path)) => match read_root_key(path)? {
                Some(there) if there == *root => None,
                Some(_) => return Err(TakeError::OtherRootKey { path: path.clone() }),
                None => Some(path),
            },
            _ => None,
        };
        let mut new = New::default();
        let certificate = voter_certificate(config, &opened.authority, said.days, now, &mut new)?;
        if let Some(directory) = &said.authority {
            let files = AuthorityFiles::in_folder(directory);
            [directory, &files.certificate, &files.private_key].into_iter().for_each(|path| new.expect(path));
            std::fs::create_dir_all(directory).map_err(failed(directory))?;
            opened.authority.write(&files)?;
        }
        let last = replayed.applied.map_or(Place { term: 0, index: 0 }, Place::from);
        let at_ms = crate::clock::now_ms().max(database.progress()?.2.clock_ms);
        let beginning = Beginning {
            name: config.name.clone(),
            address: config.advertised().to_owned(),
            key_sha256: certificate,
            term: from.vote_term,
            level: ServiceLevel::Closed,
            object: format!(
                "take-over from {} {} at entry {}, {} unconfirmed; former members: {}",
                from.kind, from.name, last.index, replayed.unconfirmed, said.fenced
            ),
            reason: said.reason.clone(),
            at_ms,
        };
        let timeline = certify(&database, &opened.timelines, &beginning)?;
        let began = begin_timeline(&work, database, &root, &timeline, &beginning).await?;
        let store = StateStore::at_rest(Database::open(&current_database(&work)?)?)?;
        let vault = Vault::unseal(root.clone(), identity.cluster_id, &store)?;
        let report = statement(&plan, &from, &began, &replayed, &store.published().summary, &vault, said, at_ms);
        drop((store, vault));
        report.write(&work)?;
        // An empty directory may stand there; anything else makes the renaming fail.
        let _ = std::fs::remove_dir(&target);
        put_in_place(&work, &target).map_err(failed(&target))?;
        if let Some(path) = root_file
            && let Err(error) = write_root_key(path, &root)
        {
            // Without it nothing was taken over: back to where it is removed.
            put_in_place(&target, &work).map_err(failed(&target))?;
            return Err(error.into());
        }
        new.keep();
        Ok(report)
    }
}

/// Files and folders that were not there before, removed again unless they are kept.
#[derive(Default)]
struct New(Vec<PathBuf>);

impl New {
    /// This is about to be written. What is there already is somebody's, and stays.
    fn expect(&mut self, path: &Path) {
        if !path.exists() {
            self.0.push(path.to_owned());
        }
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for New {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "this was made by a take-over that failed: remove it");
            }
        }
    }
}

/// Applies what the log holds beyond the state.
pub(super) fn replay(database: &Database, log: &LookedLog, committed: Place) -> Result<Replayed, TakeError> {
    let (mut applied, mut membership, mut summary) = database.progress()?;
    let mut replayed = Replayed::default();
    loop {
        let entries = log.survey.entries_from(applied.map_or(0, |id| id.index + 1))?;
        let Some(end) = entries.last() else { break };
        applied = Some(end.log_id);
        let mut batch = Batch::new(database, summary);
        for entry in entries {
            let outcome = match &entry.payload {
                EntryPayload::Normal(command) => Some(batch.apply(entry.log_id.index, &command.0)?),
                EntryPayload::Membership(new) => {
                    membership = StoredMembership::new(Some(entry.log_id), new.clone());
                    None
                }
                EntryPayload::Blank => None,
            };
            if entry.log_id.index > committed.index {
                replayed.unconfirmed += 1;
                if replayed.tail.len() < TAIL_MAX {
                    replayed.tail.push((entry, outcome));
                }
            }
        }
        let rows;
        (summary, rows) = batch.finish();
        database.write(rows.iter(), &Progress { applied, membership: Some(&membership), summary: &summary })?;
    }
    replayed.applied = applied;
    Ok(replayed)
}

/// SHA-256 of the key of the voter's certificate that the configuration names; made by the recovery CA if there is
/// none, for the key that is there, else for a new one.
fn voter_certificate(
    config: &NodeConfig,
    authority: &Authority,
    days: u32,
    now: OffsetDateTime,
    new: &mut New,
) -> Result<[u8; 32], TakeError> {
    let path = &config.tls.certificate;
    if !path.exists() {
        let approval = Approval {
            role: Role::Voter,
            name: config.name.clone(),
            alternative_names: Vec::new(),
            accept_requested_names: false,
            valid_days: days,
        };
        let files = AuthorityFiles { certificate: path.clone(), private_key: config.tls.private_key.clone() };
        [&files.certificate, &files.private_key].into_iter().for_each(|path| new.expect(path));
        match files.private_key.exists() {
            true => authority.issue_for_key(&files, &approval, now)?,
            false => authority.issue_with_key(&files, &approval, now)?,
        };
    }
    let identity = own_identity(path, &config.name)?;
    if identity.role != Role::Voter {
        let why = format!("has the role {}, the first member must be a voter", identity.role);
        return Err(InitError::Certificate { path: path.clone(), why }.into());
    }
    Ok(identity.key_sha256)
}

#[expect(clippy::too_many_arguments, reason = "a statement is of everything, once")]
fn statement(
    plan: &Plan,
    from: &Found,
    began: &Began,
    replayed: &Replayed,
    summary: &Summary,
    vault: &Vault,
    said: &Said,
    at_ms: u64,
) -> Report {
    let told = |(entry, outcome): &(Entry, Option<Outcome>)| tail_entry(entry, outcome.as_ref(), vault);
    let published_index = plan.published.map(|published| published.index);
    let last = Place::from(began.former);
    Report {
        format: Report::FORMAT,
        cluster_name: plan.cluster_name.clone(),
        cluster_id: plan.cluster_id.clone(),
        at_ms,
        from: from.path.clone(),
        fingerprint: from.fingerprint.clone(),
        from_kind: from.kind.clone(),
        timeline: began.identity.timeline,
        began_index: began.began_index,
        member: began.identity.name.clone(),
        raft_id: began.identity.raft_id,
        last,
        last_at_ms: from.last_at_ms,
        committed: from.committed,
        unconfirmed: replayed.unconfirmed,
        tail: replayed.tail.iter().map(told).collect(),
        published_index,
        missing_below_published: published_index.map(|index| index.saturating_sub(last.index)),
        fenced: said.fenced.clone(),
        former: plan.fence.clone(),
        journal_size: summary.journal.size(),
        journal_root: hexadecimal(summary.journal.root()),
        state_digest: hexadecimal(began.state_digest),
        tables: tables(summary),
    }
}

/// Tables as a statement has them.
pub(super) fn tables(summary: &Summary) -> Vec<TableTold> {
    let told = |table: &Table| {
        let table_summary = summary.table(*table);
        TableTold {
            table: table.word().into(),
            rows: table_summary.rows,
            digest: hexadecimal(table_summary.digest.to_bytes()),
        }
    };
    Table::ALL.iter().map(told).collect()
}

/// An entry as a statement has it.
pub(super) fn tail_entry(entry: &Entry, outcome: Option<&Outcome>, vault: &Vault) -> TailEntry {
    let mut told = TailEntry {
        place: entry.log_id.into(),
        at_ms: 0,
        outcome: match outcome {
            None => NO_OUTCOME,
            Some(Outcome::Committed(_)) => "committed",
            Some(Outcome::Conflict { .. }) => "conflict",
            Some(Outcome::Expired) => "expired",
            Some(Outcome::Absent) => "absent",
            Some(Outcome::Refused(_)) => "refused",
        }
        .into(),
        actions: Vec::new(),
        requests: Vec::new(),
        writes: 0,
    };
    let EntryPayload::Normal(bytes) = &entry.payload else { return told };
    let Ok(command) = Command::decode(bytes.0.clone()) else { return told };
    (told.at_ms, told.writes) = (command.at_ms, command.writes.len());
    for journal in &command.journal {
        let Some(opened) = open_journal_entry(vault, &journal.entry) else { continue };
        let action = Action::from_number(opened.action).map_or("unknown", Action::word);
        told.actions.push(if opened.denial == 0 { action.to_owned() } else { format!("{action} (denied)") });
        if !opened.request_id.is_empty() {
            told.requests.push(hexadecimal(&opened.request_id));
        }
    }
    told
}
