//! What a former member's disk, found later, has beyond what was taken over: listed, what restricts first.
//!
//! Invariants
//! - Nothing is applied and nothing is changed: neither the disk nor the cluster.
//! - Where the two logs cannot be shown to be one up to the statement's last entry, that is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kura_cluster::seal::Key;
use kura_cluster::word::Action;
use serde::Serialize;

use super::found::{self, Found, FoundError, Looked, LookedLog, Place};
use super::report::{Report, TAIL_MAX, TailEntry};
use super::take::tail_entry;
use crate::identity::NodeIdentity;
use crate::raft::survey::SurveyError;
use crate::state::{Database, DatabaseError, StateStore};
use crate::vault::{Vault, VaultError};

/// Why nothing was listed.
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
    /// The root key does not open the old state.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Not a former member's data directory.
    #[error("{path} is {why}")]
    Other {
        /// What was named.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
}

/// What is on the old disk.
#[derive(Debug, Clone, Serialize)]
pub struct Salvaged {
    /// The old directory, as a plan would have it.
    pub from: Found,
    /// Whether the old log is one with the taken-over one up to the statement's last entry. If not, everything beyond
    /// the last entry that was known to be committed is listed.
    pub continues: bool,
    /// Entries beyond, all of them.
    pub entries: u64,
    /// Those that wrote something, what restricts first; at most [`TAIL_MAX`]. `outcome`: `committed` if the old member
    /// knew that, else `none`.
    pub listed: Vec<TailEntry>,
    /// How many of them restrict.
    pub restrictive: usize,
}

fn restricts(entry: &TailEntry) -> bool {
    use Action::{ApproveErasure, AskErasure, Erase, Hide, Narrow, Revoke, Withdraw};
    let words = [Revoke, Withdraw, Hide, Narrow, AskErasure, ApproveErasure, Erase].map(Action::word);
    entry.actions.iter().any(|action| words.contains(&&action[..]))
}

/// Lists what lies in `from` beyond the statement. `scratch` is an own directory for mirrors.
///
/// # Errors
/// [`SalvageError`].
pub async fn salvage(from: &Path, report: &Report, root: Arc<Key>, scratch: &Path) -> Result<Salvaged, SalvageError> {
    let other = |why| SalvageError::Other { path: from.to_owned(), why };
    let found = found::look(from, None, scratch).await?;
    if found.is_archive() {
        return Err(other("an archive, not a member's data directory"));
    }
    if found.cluster_id != report.cluster_id {
        return Err(other("another cluster's"));
    }
    if found.timeline >= report.timeline {
        return Err(other("of the new timeline already"));
    }
    let state = Looked::open(from, scratch)?;
    let store = StateStore::at_rest(Database::look(state.directory())?)?;
    let identity = NodeIdentity::read(from).map_err(FoundError::from)?;
    let vault = Vault::unseal(root, identity.cluster_id, &store)?;
    let log = LookedLog::open(from, scratch)?;
    let at_last = log.survey.entries_from(report.last.index)?.first().map(|entry| Place::from(entry.log_id));
    let purged = log.survey.purged().map(Place::from);
    let continues = at_last == Some(report.last) || purged == Some(report.last) || found.last < report.last;
    let mut next = if continues { report.last.index + 1 } else { report.committed.index + 1 };
    let (mut listed, mut count) = (Vec::new(), 0);
    loop {
        let entries = log.survey.entries_from(next)?;
        let Some(end) = entries.last() else { break };
        next = end.log_id.index + 1;
        count += entries.len() as u64;
        for entry in &entries {
            let mut told = tail_entry(entry, None, &vault);
            if told.writes > 0 && listed.len() < TAIL_MAX {
                if told.place <= found.committed {
                    told.outcome = "committed".into();
                }
                listed.push(told);
            }
        }
    }
    listed.sort_by_key(|entry| (!restricts(entry), entry.place));
    let restrictive = listed.iter().filter(|entry| restricts(entry)).count();
    Ok(Salvaged { from: found, continues, entries: count, listed, restrictive })
}
