//! Re-wrapping participants' data keys under the newest epoch, as the cluster: batch after batch, while everything else
//! goes on; then the end of the old epochs. The rules are [`kura_cluster::rewrap`]'s.
//!
//! Invariants
//! - How far it has come is read from the rows alone: whoever leads next goes on, and a step that was made twice does
//!   nothing the second time.
//! - Each step is one bounded command. It needs no journal entry, as nobody's access changes; the end of an epoch has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::consent::Basis;
use kura_cluster::keyring::Keyring;
use kura_cluster::rewrap::{draft, draft_end, expect_newest, may_end};
use kura_cluster::row::{JournalEntry, RowKey, Table};
use kura_cluster::seal::Key;
use kura_cluster::word::Action;
use kura_cluster::{Outcome, Pseudonym};
use prost::Message;

use super::attempt::{Attempt, broken};
use super::erasures::cluster_as_actor;
use super::{Gateway, GatewayError};

/// Rows of data keys that one step looks at, and at most puts.
const STEP_ROWS: usize = 512;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the next one begins; `None`: all rows were looked at.
    pub after: Option<Bytes>,
    /// Rows that are wrapped under the newest epoch now.
    pub rewrapped: usize,
    /// Rows that do not open.
    pub closed: usize,
    /// Something changed meanwhile: the same step has to be made again.
    pub overtaken: bool,
}

impl Attempt<'_> {
    /// The newest epoch that is applied here, to wrap under.
    fn newest(&self) -> Result<Arc<Keyring>, GatewayError> {
        let found = self.vault.newest().filter(|newest| newest.wrapping.is_some());
        found.ok_or_else(|| GatewayError::Unavailable { why: "this voter is just taking other keys".into() })
    }

    /// Puts a participant's data key, wrapped under the newest epoch.
    pub fn put_data_key(&mut self, pseudonym: &Pseudonym, version: u32, key: &Key) -> Result<(), GatewayError> {
        let (nonce, keyring) = (self.nonce(), self.newest()?);
        let wrapped = keyring.wrap_data_key(&self.vault.cluster_id(), pseudonym, version, key, &nonce);
        let wrapped = wrapped.map_err(|_| GatewayError::Damaged { what: "keyring" })?;
        expect_newest(&mut self.command, keyring.epoch);
        self.command.put(&RowKey::participant_key(pseudonym, version), wrapped.encode_to_vec());
        Ok(())
    }
}

impl Gateway {
    /// Re-wraps what is wrapped under an older epoch among the next rows behind `after`.
    ///
    /// # Errors
    /// [`GatewayError`]; what was put before stays.
    pub async fn rewrap_step(&self, after: Option<Bytes>) -> Result<Step, GatewayError> {
        self.space.check_writes().map_err(|why| GatewayError::LowSpace { why })?;
        let (attempt, step) = tokio::task::block_in_place(|| self.draft_step(after.as_deref()))?;
        if step.rewrapped == 0 {
            return Ok(step);
        }
        match self.propose_step(attempt).await? {
            Outcome::Committed(_) => Ok(step),
            _ => Ok(Step { after, rewrapped: 0, closed: 0, overtaken: true }),
        }
    }

    fn draft_step(&self, after: Option<&[u8]>) -> Result<(Attempt<'_>, Step), GatewayError> {
        let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
        let prefix = RowKey::whole_table(Table::ParticipantKey);
        let rows = attempt.database.snapshot().scan(&prefix, after, STEP_ROWS).map_err(broken)?;
        let next = rows.last().filter(|_| rows.len() == STEP_ROWS).map(|(key, _)| key.as_bytes().clone());
        let (vault, newest) = (attempt.vault.clone(), attempt.newest()?);
        let mut nonces = crate::random::Nonces::new();
        let mut former: BTreeMap<u32, Option<Arc<Keyring>>> = BTreeMap::new();
        let drafted = draft(
            &mut attempt.command,
            &vault.cluster_id(),
            &newest,
            &rows,
            |epoch| former.entry(epoch).or_insert_with(|| vault.epoch(epoch)).clone(),
            || nonces.take(),
        );
        let step = Step { after: next, rewrapped: drafted.rewrapped, closed: drafted.closed, overtaken: false };
        Ok((attempt, step))
    }

    /// Ends the epochs before `newest` that can end, after a look at every data key has found none under them in a state
    /// that has `newest`. Answers which; none, if the keyring has changed.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn end_epochs(&self, newest: u32) -> Result<Vec<u32>, GatewayError> {
        let entry = JournalEntry {
            actor: Some(cluster_as_actor(&self.name)),
            action: Action::Key.number(),
            ..JournalEntry::default()
        };
        let mut attempt = Attempt::begin(self, &entry)?;
        let (rows, timeline) = (attempt.keyring_rows()?, attempt.timeline());
        if rows.last().is_none_or(|row| row.epoch != newest) {
            return Ok(Vec::new());
        }
        let ending: Vec<_> = rows.iter().filter(|row| row.epoch < newest && may_end(row, timeline)).collect();
        let epochs: Vec<u32> = ending.iter().map(|row| row.epoch).collect();
        if epochs.is_empty() {
            return Ok(epochs);
        }
        ending.iter().for_each(|row| draft_end(&mut attempt.command, row, newest));
        let words: Vec<String> = epochs.iter().map(u32::to_string).collect();
        attempt.entry.object = format!("end of epoch {}", words.join(", "));
        attempt.permit(Basis::Cluster);
        match self.propose_step(attempt).await? {
            Outcome::Committed(_) => Ok(epochs),
            _ => Ok(Vec::new()),
        }
    }
}
