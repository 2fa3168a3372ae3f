//! What was opened beside the cluster comes into the journal.

use std::time::Instant;

use kura_cluster::Outcome;
use kura_cluster::consent::Basis;
use kura_cluster::row::JournalEntry;
use kura_cluster::word::Action;
use prost::Message;

use super::attempt::Attempt;
use super::erasures::cluster_as_actor;
use super::limits::PROPOSE_TIMEOUT;
use super::{Gateway, GatewayError};

/// What the journal's entries of openings begin with.
pub const OPENED_OFFLINE: &str = "opened offline";

impl Gateway {
    /// Journals one opening that this member's machine has a note of.
    ///
    /// # Errors
    /// [`GatewayError`]: it may be in the journal or not.
    pub async fn journal_opening(&self, words: &str) -> Result<(), GatewayError> {
        let entry = JournalEntry {
            actor: Some(cluster_as_actor(&self.name)),
            action: Action::Recover.number(),
            object: OPENED_OFFLINE.into(),
            reason: words.into(),
            ..JournalEntry::default()
        };
        let command = {
            let mut attempt = Attempt::begin(self, &entry)?;
            attempt.permit(Basis::Cluster);
            attempt.command.encode_to_vec()
        };
        let proposed = self.proposer.propose(command.into(), Instant::now() + PROPOSE_TIMEOUT).await?;
        match proposed.outcome {
            Outcome::Committed(_) => Ok(()),
            _ => Err(GatewayError::Contended),
        }
    }
}
