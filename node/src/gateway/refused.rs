//! Failed authentications: a refused certificate that names a registered application has an entry.
//!
//! Invariants
//! - Only names in the registry are journalled, and each within the bucket of denials: whoever makes
//!   certificates of their own cannot fill the journal.
//! - An entry says what the certificate claims; nobody has proved to be that application.

use std::time::Instant;

use bytes::Bytes;
use kura_cluster::consent::Denial;
use kura_cluster::row::{ActorRow, Application, JournalEntry, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, ActorKind, Method};
use prost::Message;

use super::attempt::Attempt;
use super::limits::PROPOSE_TIMEOUT;
use super::{Gateway, GatewayError};
use crate::certificates::{RefusedCertificate, Role};

impl Gateway {
    /// Journals a refused certificate if it names a registered application. Of a sealed node nothing is
    /// journalled: it cannot know who is registered.
    pub async fn journal_refused(&self, refused: &RefusedCertificate) -> Result<(), GatewayError> {
        if refused.role != Role::Application || self.vault.load().is_none() {
            return Ok(());
        }
        let actor = ActorRow {
            kind: ActorKind::Application.number(),
            name: refused.name.clone(),
            method: Method::Certificate.number(),
            credential_sha256: Bytes::copy_from_slice(&refused.fingerprint),
            application: refused.name.clone(),
            ..ActorRow::default()
        };
        let entry = JournalEntry {
            actor: Some(actor),
            action: Action::Authenticate.number(),
            reason: refused.why.words().into(),
            ..JournalEntry::default()
        };
        let command = {
            let mut attempt = Attempt::begin(self, &entry)?;
            let key = RowKey::hashed(Table::Application, &attempt.hash(Domain::Application, &[&refused.name]));
            if attempt.look::<Application>(&key)?.value.is_none() {
                return Ok(());
            }
            if !self.denials.has_own_entry(&attempt.entry, Denial::Certificate, Instant::now()) {
                return Ok(());
            }
            attempt.deny(Denial::Certificate);
            attempt.command.encode_to_vec()
        };
        self.proposer.propose(command.into(), Instant::now() + PROPOSE_TIMEOUT).await.map(|_| ())
    }
}
