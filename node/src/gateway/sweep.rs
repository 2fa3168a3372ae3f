//! Sweeping uploads that nobody finished: mark, delete the blocks, delete the marks.
//!
//! Invariants
//! - The mark comes first and changes the staging row, so whoever still uploads or commits under the old
//!   one gets a conflict; no block of a committed record is ever deleted, since its commit deleted the
//!   staging row that every step here expects.
//! - Each step is one bounded command; a sweep that is cut off goes on at the next look.

use std::time::Instant;

use bytes::Bytes;
use kura_cluster::Outcome;
use kura_cluster::consent::Basis;
use kura_cluster::id::{ContentId, Pseudonym};
use kura_cluster::row::{ActorRow, JournalEntry, RowKey, StagingRow, Table};
use kura_cluster::word::{Action, ActorKind};
use prost::Message;

use super::attempt::{Attempt, broken};
use super::limits::{PROPOSE_TIMEOUT, STAGE_COMMAND_ROWS, STAGING_MS_MAX};
use super::{Gateway, GatewayError};

/// Staging rows (uploads and their parts) looked at in one page.
const SCAN_ROWS: usize = 256;
/// Bytes of an upload's key: table, pseudonym, content id. A part's key has two more.
const UPLOAD_KEY_BYTES: usize = 1 + 16 + 16;

impl Gateway {
    /// Sweeps every upload that was begun longer than [`STAGING_MS_MAX`] ago. Returns how many it finished.
    pub async fn sweep(&self) -> Result<usize, GatewayError> {
        let mut swept = 0;
        let mut after: Option<Bytes> = None;
        loop {
            let rows = {
                let database = self.store.database();
                let prefix = RowKey::whole_table(Table::Staging);
                let rows = database.snapshot().scan(&prefix, after.as_deref(), SCAN_ROWS).map_err(broken)?;
                rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
            };
            let Some(last) = rows.last() else { return Ok(swept) };
            after = Some(last.as_bytes().clone());
            for key in rows.iter().filter(|key| key.as_bytes().len() == UPLOAD_KEY_BYTES) {
                match self.sweep_upload(key).await {
                    Ok(done) => swept += usize::from(done),
                    // It was logged; the others are swept nevertheless.
                    Err(GatewayError::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn sweep_upload(&self, key: &RowKey) -> Result<bool, GatewayError> {
        let bytes = key.as_bytes();
        let malformed = |_| super::attempt::damaged(key);
        let pseudonym = Pseudonym::from_slice(&bytes[1..17]).map_err(malformed)?;
        let content = ContentId::from_slice(&bytes[17..33]).map_err(malformed)?;
        loop {
            let entry = JournalEntry {
                actor: Some(ActorRow {
                    kind: ActorKind::Cluster.number(),
                    name: self.name.clone(),
                    ..ActorRow::default()
                }),
                action: Action::Sweep.number(),
                pseudonym: Bytes::copy_from_slice(&pseudonym.0),
                ..JournalEntry::default()
            };
            let mut attempt = Attempt::begin(self, &entry)?;
            let found = attempt.load_of::<StagingRow>(key, &pseudonym)?;
            let Some(row) = found.value else { return Ok(false) };
            if !row.aborted {
                if attempt.now_ms.saturating_sub(row.begun_ms) < STAGING_MS_MAX {
                    return Ok(false);
                }
                attempt.entry.object = row.facility.clone();
                let data = attempt.data_key(&pseudonym, row.key_version)?;
                attempt.put_with(key, &data, found.revision, &StagingRow { aborted: true, ..(*row).clone() });
                attempt.permit(Basis::Cluster);
            } else if !draft_deletions(&mut attempt, &pseudonym, &content)? {
                attempt.command.delete(key);
                let done = self.propose_sweep(attempt).await?;
                return Ok(done);
            }
            if !self.propose_sweep(attempt).await? {
                return Ok(false);
            }
        }
    }

    /// Whether the step took effect; if not, somebody else was faster.
    async fn propose_sweep(&self, attempt: Attempt<'_>) -> Result<bool, GatewayError> {
        let command = attempt.command.encode_to_vec().into();
        drop(attempt);
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let proposed = self.proposer.propose(command, deadline).await?;
        let applied = self.store.applied(proposed.index, deadline).await;
        Ok(applied && matches!(proposed.outcome, Outcome::Committed(_)))
    }
}

/// Drafts the deletion of some blocks, then of the parts; `false` when nothing is left.
fn draft_deletions(
    attempt: &mut Attempt<'_>,
    pseudonym: &Pseudonym,
    content: &ContentId,
) -> Result<bool, GatewayError> {
    let parts = RowKey::staging(pseudonym, content);
    for prefix in [RowKey::blocks(pseudonym, content), parts.clone()] {
        let keys = attempt.database.snapshot().keys(&prefix, STAGE_COMMAND_ROWS).map_err(broken)?;
        let keys: Vec<RowKey> = keys.into_iter().filter(|key| *key != parts).collect();
        if !keys.is_empty() {
            keys.iter().for_each(|key| attempt.command.delete(key));
            return Ok(true);
        }
    }
    Ok(false)
}
