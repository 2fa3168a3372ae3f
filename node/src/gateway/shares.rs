//! Sets of shares of the root key: recorded by an operator, confirmed by a registrar. Making them hands the root
//! key to people, as approving a voter hands it to a machine; so it takes the same two, and the same while
//! ([`super::approval`]).
//!
//! Invariant: only a set is recorded whose description was made with the root key itself; an operator alone can
//! neither make one up nor silence the alarm.

use std::time::Instant;

use kura_cluster::consent::{Basis, Denial};
use kura_cluster::row::{ActorRow, JournalEntry, ReceiptRow, RotationRow, RowKey, ShareSetRow, ShareSetsRow, Table};
use kura_cluster::seal::Key;
use kura_cluster::share::{HOLDERS_MAX, ShareSet, THRESHOLD_MIN};
use kura_cluster::word::{Action, ActorKind};
use kura_cluster::{ClusterId, Revision, hexadecimal};
use kura_proto::v1;
use prost::Message;

use super::approval::{Approvals, check_other};
use super::attempt::{Attempt, broken};
use super::limits::PROPOSE_TIMEOUT;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::Role;
use crate::vault::Vault;

impl Attempt<'_> {
    /// Reads an open row of the custody and expects it as it is.
    pub(super) fn load_open<T: Message + Default>(
        &mut self,
        key: &RowKey,
    ) -> Result<(Revision, Option<T>), GatewayError> {
        let found = self.database.row(key).map_err(broken)?;
        let revision = found.as_ref().map_or(Revision::ABSENT, |row| row.header.revision);
        self.command.expect(key, revision);
        let damaged = |_| GatewayError::Damaged { what: "setting" };
        Ok((revision, found.map(|row| T::decode(row.value).map_err(damaged)).transpose()?))
    }
}

/// Whether the set of a row leads to a root key.
fn is_of(row: &ShareSetRow, root: &[u8]) -> bool {
    row.root_check_value[..] == *root
}

impl Gateway {
    /// Records a split, of which the caller says that every holder has read the share back. `next` is the next
    /// root key, if this node has it: its shares are made before it comes into use.
    pub async fn record_shares(
        &self,
        caller: &Caller,
        request: v1::RecordSharesRequest,
        next: Option<&Key>,
    ) -> Result<v1::RecordSharesReply, GatewayError> {
        let set = ShareSet::read(request.threshold, &request.root_check_value, &request.share_check_values);
        let set = set.ok_or_else(|| {
            let why =
                format!("2 to {HOLDERS_MAX} check values of 8 bytes, a threshold of {THRESHOLD_MIN} to all of them");
            GatewayError::invalid("share_check_values", why)
        })?;
        let cluster = self.unsealed()?.cluster_id();
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object = describe(&set, &cluster);
                if caller.identity.role != Role::Operator {
                    return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default()));
                }
                // The present root key must still be it when this is applied.
                attempt.expect_table(Table::Keyring);
                let (_, rotation) = attempt.load_open::<RotationRow>(&RowKey::rotation())?;
                let (_, row) = attempt.load_open::<ShareSetsRow>(&RowKey::share_sets())?;
                let prepared = rotation.map(|rotation| rotation.next_check_value).unwrap_or_default();
                let present = attempt.vault.root().clone();
                let next = next.filter(|next| prepared[..] == next.check_value());
                let root = [Some(&*present), next].into_iter().flatten().find(|root| {
                    set.root_check_value == root.check_value() && set.is_proved(&cluster, root, &request.proof)
                });
                if root.is_none() {
                    return Err(GatewayError::invalid("proof", "was not made with the present or the next root key"));
                }
                let given = Approvals::of(attempt)?.given(caller);
                let mut row = row.unwrap_or_default();
                row.sets.retain(|old| is_of(old, &present.check_value()) || is_of(old, &prepared));
                row.sets.retain(|old| !(is_of(old, &set.root_check_value) && old.registrar.is_empty()));
                row.sets.push(ShareSetRow {
                    threshold: request.threshold,
                    root_check_value: request.root_check_value.clone(),
                    share_check_values: request.share_check_values.clone(),
                    split_ms: attempt.now_ms,
                    operator: caller.identity.name.clone(),
                    operator_approval: Some(given),
                    ..ShareSetRow::default()
                });
                attempt.command.put(&RowKey::share_sets(), row.encode_to_vec());
                Ok((Verdict::by_office(Basis::Operator, ()), ReceiptRow::default()))
            })
            .await;
        done?;
        Ok(v1::RecordSharesReply { fingerprint: set.fingerprint(&cluster).to_vec().into() })
    }

    /// Confirms a recorded set: it counts from then on, in the place of an older one of the same root key.
    pub async fn confirm_shares(
        &self,
        caller: &Caller,
        request: v1::ConfirmSharesRequest,
    ) -> Result<v1::ConfirmSharesReply, GatewayError> {
        let cluster = self.unsealed()?.cluster_id();
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object =
                    format!("shares {}", hexadecimal(&request.fingerprint[..request.fingerprint.len().min(5)]));
                if caller.identity.role != Role::Registrar {
                    return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default()));
                }
                attempt.expect_table(Table::Keyring);
                let (_, row) = attempt.load_open::<ShareSetsRow>(&RowKey::share_sets())?;
                let mut row = row.unwrap_or_default();
                let is_meant = |row: &ShareSetRow| {
                    ShareSet::from_row(row).is_some_and(|set| set.fingerprint(&cluster)[..] == request.fingerprint[..])
                };
                let Some(at) = row.sets.iter().position(is_meant) else {
                    return Err(GatewayError::NotFound { what: "a recorded set of shares of this fingerprint" });
                };
                let present = is_of(&row.sets[at], &attempt.vault.root().check_value());
                if row.sets[at].registrar.is_empty() {
                    let recorded = row.sets[at].operator_approval.as_ref();
                    if !Approvals::of(attempt)?.count(recorded) {
                        return Ok((Verdict::Denied(Denial::ActExpired), ReceiptRow::default()));
                    }
                    if let Err(reason) = check_other(caller, recorded) {
                        return Ok((Verdict::Denied(reason), ReceiptRow::default()));
                    }
                    let mut confirmed = row.sets.remove(at);
                    confirmed.registrar = caller.identity.name.clone();
                    confirmed.confirmed_ms = attempt.now_ms;
                    row.sets.retain(|old| !is_of(old, &confirmed.root_check_value));
                    row.sets.push(confirmed);
                    attempt.command.put(&RowKey::share_sets(), row.encode_to_vec());
                }
                Ok((Verdict::by_office(Basis::Registrar, present), ReceiptRow::default()))
            })
            .await?;
        Ok(v1::ConfirmSharesReply { present: done.value.ok_or(GatewayError::Unknown)? })
    }

    /// Journals that this node was unsealed by shares, and whose certificates submitted them.
    pub async fn journal_unsealing(&self, names: &[String]) -> Result<(), GatewayError> {
        let entry = JournalEntry {
            actor: Some(ActorRow { kind: ActorKind::Cluster.number(), name: self.name.clone(), ..ActorRow::default() }),
            action: Action::Key.number(),
            object: format!("unsealed by shares of {}", names.join(", ")),
            ..JournalEntry::default()
        };
        let command = {
            let mut attempt = Attempt::begin(self, &entry)?;
            attempt.permit(Basis::Cluster);
            attempt.command.encode_to_vec()
        };
        self.proposer.propose(command.into(), Instant::now() + PROPOSE_TIMEOUT).await.map(|_| ())
    }
}

fn describe(set: &ShareSet, cluster: &ClusterId) -> String {
    format!("shares {}, {} of {}", hexadecimal(set.fingerprint(cluster)), set.threshold, set.holders())
}

/// Whether a vault's root key is the one that wraps the keyring.
pub(super) fn wraps(vault: &Vault, root_check_value: &[u8]) -> bool {
    vault.root().check_value() == *root_check_value
}
