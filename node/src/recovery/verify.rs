//! Holds a taken-over directory against its statement: every row read, every digest added up.
//!
//! Invariant: a check that could not run is told as a fault, never passed over.

use std::path::Path;
use std::sync::Arc;

use kura_cluster::hexadecimal;
use kura_cluster::row::Table;
use kura_cluster::seal::Key;
use serde::Serialize;

use super::found::FoundError;
use super::report::{Report, ReportError};
use super::{found, take};
use crate::archive::scrub::scrub;
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::state::{Database, DatabaseError, StateStore};
use crate::vault::{Vault, VaultError};

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// See [`FoundError`].
    #[error(transparent)]
    Found(#[from] FoundError),
    /// See [`ReportError`].
    #[error(transparent)]
    Report(#[from] ReportError),
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// Whether everything is as stated.
    pub sound: bool,
    /// Whether the node has run since: then tables have grown, and only their own sums are checked.
    pub has_run: bool,
    /// The state's timeline.
    pub timeline: u64,
    /// Its last applied index.
    pub applied: u64,
    /// Digest of the whole state, in hexadecimal.
    pub state_digest: String,
    /// Entries in the journal.
    pub journal_size: u64,
    /// Root of the tree over them, in hexadecimal.
    pub journal_root: String,
    /// Rows read.
    pub rows: u64,
    /// Rows opened with the root key; `None`: no key was at hand.
    pub opened: Option<u64>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Verifies the directory at rest. With `root`, up to `sample` rows of each table are opened, too.
///
/// # Errors
/// [`VerifyError`]; what is found wrong is in the answer.
pub fn verify(data: &Path, scratch: &Path, root: Option<Arc<Key>>, sample: u64) -> Result<Verified, VerifyError> {
    let report = Report::read(data)?;
    let identity = NodeIdentity::read(data)?;
    let looked = found::Looked::open(data, scratch)?;
    let database = Database::look(looked.directory())?;
    let (applied, membership, summary) = database.progress()?;
    let mut faults = Vec::new();
    if let Err(error) = database.check(&identity.trust(), summary.timeline) {
        faults.push(error.to_string());
    }
    if summary.timeline != report.timeline || identity.timeline != report.timeline {
        faults.push(format!("the state is of timeline {}, the statement of {}", summary.timeline, report.timeline));
    }
    let applied = applied.map_or(0, |id| id.index);
    let has_run = applied != report.began_index + 1;
    if !has_run {
        let voters: Vec<u64> = membership.membership().voter_ids().collect();
        if voters != [report.raft_id] || membership.membership().nodes().count() != 1 {
            faults.push("the membership is not the one member of the statement".into());
        }
        for (now, stated) in take::tables(&summary).iter().zip(&report.tables) {
            if now != stated {
                faults.push(format!("the table {} is not as stated", stated.table));
            }
        }
        if hexadecimal(summary.journal.root()) != report.journal_root {
            faults.push("the journal is not as stated".into());
        }
    } else if summary.journal.size() < report.journal_size {
        faults.push("the journal is shorter than stated".into());
    }
    faults.extend(scrub(&database, &summary)?.into_iter().map(|table| format!("rows of {table} do not add up")));
    let rows = Table::ALL.iter().map(|table| summary.table(*table).rows).sum();
    let digest = kura_cluster::apply::state_digest(&summary);
    let mut opened = None;
    if let Some(root) = root {
        let store = StateStore::at_rest(database)?;
        let vault = Vault::unseal(root, identity.cluster_id, &store)?;
        let tables = crate::archive::open::check(&store.database(), &vault, sample, &|_| {})?;
        faults.extend(crate::archive::open::faults(&tables).iter().map(ToString::to_string));
        opened = Some(tables.values().map(|one| one.opened).sum());
    }
    Ok(Verified {
        sound: faults.is_empty(),
        has_run,
        timeline: summary.timeline,
        applied,
        state_digest: hexadecimal(digest),
        journal_size: summary.journal.size(),
        journal_root: hexadecimal(summary.journal.root()),
        rows,
        opened,
        faults,
    })
}
