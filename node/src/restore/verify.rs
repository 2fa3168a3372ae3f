//! A restored data directory, at rest, held against itself and its report. Changes nothing in it; whoever gives the root
//! key notes that there first ([`crate::openings`]).

use std::path::Path;
use std::sync::Arc;

use kura_cluster::apply::state_digest;
use kura_cluster::hexadecimal;
use kura_cluster::row::{StoredRow, Table};
use kura_cluster::seal::Key;
use kura_cluster::tree::{self, Peaks};

use super::report::Report;
use crate::archive::open::{self, Opened};
use crate::archive::replay::{Event, Tell};
use crate::archive::scrub::scrub;
use crate::archive::verify::StoredTree;
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::state::{Database, DatabaseError, StateStore, current_database};
use crate::vault::{Vault, VaultError};

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Last applied entry.
    pub index: u64,
    /// Timeline of the state.
    pub timeline: u64,
    /// Whether entries were applied since the restore; then the report's digests are of the past.
    pub served_since: bool,
    /// Rows looked at.
    pub rows: u64,
    /// Entries of the journal.
    pub journal_size: u64,
    /// What was opened, by table; empty without the root key.
    pub opened: Vec<(&'static str, Opened)>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory holds no restored member.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The report.
    #[error("{directory}: the report of its restore: {why}")]
    Report {
        /// Where.
        directory: String,
        /// What is wrong.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The root key.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Verifies a restored directory. `root` opens about `sample` rows of each table.
///
/// # Errors
/// [`VerifyError`]; what is wrong stands in what was found.
pub fn verify(data: &Path, root: Option<Key>, sample: u64, tell: Tell<'_>) -> Result<Verified, VerifyError> {
    let failed = |why: String| VerifyError::Report { directory: data.display().to_string(), why };
    let identity = NodeIdentity::read(data)?;
    let report = Report::read(data).map_err(|error| failed(error.to_string()))?;
    let report = report.ok_or_else(|| failed("there is none: it was not restored".into()))?;
    let database = Database::look(&current_database(data)?)?;
    let (applied, membership, summary) = database.progress()?;
    let index = applied.map_or(0, |id| id.index);
    let mut found = Verified {
        index,
        timeline: summary.timeline,
        served_since: index != report.applied_index,
        journal_size: summary.journal.size(),
        rows: Table::ALL.iter().map(|table| summary.table(*table).rows).sum(),
        ..Verified::default()
    };
    if let Err(error) = database.check(&identity.trust(), summary.timeline) {
        found.faults.push(error.to_string());
    }
    if identity.cluster_id.to_hex() != report.cluster_id || identity.timeline != report.timeline {
        found.faults.push("the identity is of another cluster or timeline than the report".into());
    }
    let voters: Vec<u64> = membership.membership().voter_ids().collect();
    if !found.served_since && voters != [identity.raft_id] {
        found.faults.push("the membership is not that of this member alone".into());
    }

    tell(Event::Doing("rows".into()));
    for table in scrub(&database, &summary)? {
        found.faults.push(format!("rows of {table} are not those of their digest"));
    }
    match found.served_since {
        true => found.unchecked.push("the report's digests: entries were applied since".into()),
        false => {
            if hexadecimal(state_digest(&summary)) != report.state_digest {
                found.faults.push("the state's digest is not the report's".into());
            }
        }
    }
    tell(Event::Doing("journal".into()));
    journal(&database, &report, &summary.journal, &mut found)?;

    match root {
        None => found.unchecked.push("whether sealed rows open: that takes the root key (--root-key)".into()),
        Some(root) => {
            let state = StateStore::at_rest(database)?;
            let vault = Vault::unseal(Arc::new(root), identity.cluster_id, &state)?;
            let opened = open::check(&state.database(), &vault, sample, tell)?;
            found.faults.extend(open::faults(&opened).iter().map(ToString::to_string));
            found.opened = opened.into_iter().collect();
        }
    }
    Ok(found)
}

/// The tree anew from every entry; and that it goes on from the last archived head.
fn journal(database: &Database, report: &Report, known: &Peaks, found: &mut Verified) -> Result<(), DatabaseError> {
    let view = database.snapshot();
    let number = Table::Journal.number();
    let mut peaks = Peaks::default();
    view.walk::<DatabaseError>(&[number], &[number + 1], |_, row: StoredRow| {
        peaks.append(tree::leaf_hash(&row.value), |_| {});
        Ok(())
    })?;
    if (peaks.size(), peaks.root()) != (known.size(), known.root()) {
        found.faults.push("the journal's entries do not come to its root".into());
    }
    let archived = tree::peaks(&StoredTree(&view), report.archived_journal_size);
    if archived.ok().map(|peaks| hexadecimal(peaks.root())).as_ref() != Some(&report.archived_journal_root) {
        found.faults.push("the journal does not go on from the last archived head".into());
    }
    Ok(())
}
