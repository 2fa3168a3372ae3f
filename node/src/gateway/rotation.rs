//! Rotation of the epoch keys and of the root key: what is written. An operator and a registrar ask for the same, as
//! two people and within a while ([`super::approval`]): whoever chooses the keys chooses who can read.
//!
//! Epoch keys change in the command of the second approval. The root key changes in steps, each of which can be
//! repeated: approved; a next key drawn, its check value written ([`Gateway::begin_root_rotation`]); handed to
//! the voters (`serve::rotation`); then the keyring wrapped by it in one command
//! ([`Gateway::finish_root_rotation`]).
//!
//! Invariants
//! - Every row of the keyring is wrapped by one root key, at every log index.
//! - A next root key that was given up can never come into use: finishing expects the row under which it was
//!   handed out, and beginning anew rewrites that row.

use kura_cluster::Revision;
use kura_cluster::consent::{Basis, Denial};
use kura_cluster::keyring::{Keyring, RecoveryKeys};
use kura_cluster::row::{KeyringRow, ReceiptRow, RotationRow, RowKey, Table};
use kura_cluster::seal::Key;
use kura_cluster::word::Action;
use prost::Message;

use super::approval::{Approvals, check_other};
use super::attempt::{Attempt, broken};
use super::shares::wraps;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::Role;
use crate::random;

/// A rotation's kind: the root key.
pub const ROOT: u32 = 1;
/// A rotation's kind: the epoch keys.
pub const EPOCH: u32 = 2;
/// Epochs that a cluster can have. Each is one more row to open when a voter starts.
const EPOCHS_MAX: u32 = 1_000;

/// Where a rotation stands.
#[derive(Debug, Clone)]
pub enum Stands {
    /// A registrar has yet to ask for it.
    WaitsForRegistrar,
    /// An operator has yet to ask for it.
    WaitsForOperator,
    /// Approved; the row, and its revision.
    Approved(Box<RotationRow>, Revision),
    /// Done: the newest epoch.
    Done(u32),
}

impl Attempt<'_> {
    /// The keyring's rows, oldest first; the table is expected whole.
    pub(super) fn keyring_rows(&mut self) -> Result<Vec<KeyringRow>, GatewayError> {
        self.expect_table(Table::Keyring);
        let found = self.database.snapshot().scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX);
        let rows: Result<Vec<_>, _> =
            found.map_err(broken)?.into_iter().map(|(_, row)| KeyringRow::decode(row.value)).collect();
        let rows = rows.map_err(|_| GatewayError::Damaged { what: "keyring" })?;
        match rows.iter().all(|row| wraps(&self.vault, &row.root_check_value)) {
            true => Ok(rows),
            false => Err(GatewayError::Unavailable { why: "this voter is just taking another root key".into() }),
        }
    }

    /// Opens what a row of the keyring wraps.
    fn open_keyring(&self, row: &KeyringRow) -> Result<(Keyring, RecoveryKeys), GatewayError> {
        let (root, cluster) = (self.vault.root(), self.vault.cluster_id());
        let damaged = |_| GatewayError::Damaged { what: "keyring" };
        let keyring = Keyring::unwrap(root, &cluster, row).map_err(damaged)?;
        Ok((keyring, RecoveryKeys::unwrap(root, &cluster, row).map_err(damaged)?))
    }

    fn put_keyring(&mut self, root: &Key, keyring: &Keyring, recovery: &RecoveryKeys) {
        let cluster = self.vault.cluster_id();
        let row = keyring.wrap(root, &cluster, recovery, || self.nonce());
        self.command.put(&RowKey::keyring(keyring.epoch), row.encode_to_vec());
    }
}

/// Writes an approval into the row, unless the same person's counts already; the basis on which.
fn approve(row: &mut RotationRow, approvals: &Approvals, caller: &Caller) -> Result<Basis, Denial> {
    let (name, own, other, basis) = match caller.identity.role {
        Role::Operator => (&mut row.operator, &mut row.operator_approval, &row.registrar_approval, Basis::Operator),
        Role::Registrar => (&mut row.registrar, &mut row.registrar_approval, &row.operator_approval, Basis::Registrar),
        _ => return Err(Denial::ActorMayNot),
    };
    check_other(caller, other.as_ref())?;
    let given = approvals.given(caller);
    // Asking again carries it on, and makes nobody's approval last longer.
    if own.as_ref().is_none_or(|own| own.by != given.by) {
        *name = caller.identity.name.clone();
        *own = Some(given);
    }
    Ok(basis)
}

/// A rotation with the approvals that count; `None` if nothing of it is left.
fn in_time(mut row: RotationRow, approvals: &Approvals) -> Option<RotationRow> {
    approvals.keep(&mut row.operator, &mut row.operator_approval);
    approvals.keep(&mut row.registrar, &mut row.registrar_approval);
    let is_under_way = !(row.operator.is_empty() && row.registrar.is_empty() && row.next_check_value.is_empty());
    is_under_way.then_some(row)
}

/// Whether a rotation names the two people who approved it, and whose keys their approvals came with.
pub fn is_approved(row: &RotationRow) -> bool {
    row.operator_approval.is_some() && row.registrar_approval.is_some()
}

/// On which office somebody carries on what both have approved.
fn office(caller: &Caller) -> Basis {
    if caller.identity.role == Role::Registrar { Basis::Registrar } else { Basis::Operator }
}

fn missing(row: &RotationRow) -> Option<Stands> {
    match (row.operator.is_empty(), row.registrar.is_empty()) {
        (false, false) => None,
        (false, true) => Some(Stands::WaitsForRegistrar),
        (true, _) => Some(Stands::WaitsForOperator),
    }
}

impl Gateway {
    /// Asks for a rotation. The second one's asking for new epoch keys makes them.
    pub async fn ask_rotation(&self, caller: &Caller, kind: u32, without_shares: bool) -> Result<Stands, GatewayError> {
        if !matches!(kind, ROOT | EPOCH) {
            return Err(GatewayError::invalid("kind", "is 1 (root key) or 2 (epoch keys)"));
        }
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object = if kind == ROOT { "new root key" } else { "new epoch keys" }.into();
                let (revision, found) = attempt.load_open::<RotationRow>(&RowKey::rotation())?;
                let approvals = Approvals::of(attempt)?;
                let found = found.and_then(|row| in_time(row, &approvals));
                let new = RotationRow { kind, asked_ms: attempt.now_ms, without_shares, ..RotationRow::default() };
                let mut row = found.unwrap_or(new);
                if row.kind != kind {
                    let what = if kind == ROOT { "a rotation of the epoch keys" } else { "a rotation of the root key" };
                    return Err(GatewayError::InUse { field: "kind", what });
                }
                let before = row.clone();
                let basis = match approve(&mut row, &approvals, caller) {
                    Ok(basis) => basis,
                    Err(reason) => return Ok((Verdict::Denied(reason), ReceiptRow::default())),
                };
                if row.without_shares != without_shares {
                    // Changing how it is done takes both again.
                    row.without_shares = without_shares;
                    match basis {
                        Basis::Operator => (row.registrar, row.registrar_approval) = Default::default(),
                        _ => (row.operator, row.operator_approval) = Default::default(),
                    }
                }
                let stands = match missing(&row) {
                    Some(waits) => waits,
                    None if kind == EPOCH => {
                        let rows = attempt.keyring_rows()?;
                        let newest = rows.last().ok_or(GatewayError::Damaged { what: "keyring" })?;
                        if newest.epoch >= EPOCHS_MAX {
                            return Err(GatewayError::invalid(
                                "kind",
                                format!("there are {EPOCHS_MAX} epochs already"),
                            ));
                        }
                        let (keyring, recovery) = attempt.open_keyring(newest)?;
                        let next = keyring.next(attempt.timeline(), random::key);
                        let root = attempt.vault.root().clone();
                        attempt.put_keyring(&root, &next, &recovery);
                        if !revision.is_absent() {
                            attempt.command.delete(&RowKey::rotation());
                        }
                        return Ok((Verdict::by_office(basis, Stands::Done(next.epoch)), ReceiptRow::default()));
                    }
                    // Absent stands for the revision that this command makes.
                    None if row != before => Stands::Approved(row.clone().into(), Revision::ABSENT),
                    None => Stands::Approved(row.clone().into(), revision),
                };
                if row != before || revision.is_absent() {
                    attempt.command.put(&RowKey::rotation(), row.encode_to_vec());
                }
                Ok((Verdict::by_office(basis, stands), ReceiptRow::default()))
            })
            .await?;
        Ok(match done.value.ok_or(GatewayError::Unknown)? {
            // Written just now, or where it was.
            Stands::Approved(row, revision) if revision.is_absent() => Stands::Approved(row, done.committed.revision),
            other => other,
        })
    }

    /// Writes that a next root key was drawn: from now on an earlier one can no more come into use. The
    /// revision under which it is handed out.
    pub async fn begin_root_rotation(&self, caller: &Caller, next: &Key) -> Result<Revision, GatewayError> {
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object = "new root key drawn".into();
                let (_, row) = attempt.load_open::<RotationRow>(&RowKey::rotation())?;
                let approvals = Approvals::of(attempt)?;
                let row = row.and_then(|row| in_time(row, &approvals));
                let row = row.filter(|row| row.kind == ROOT && missing(row).is_none());
                let mut row = row.ok_or(GatewayError::NotFound { what: "an approved rotation of the root key" })?;
                row.next_check_value = next.check_value().to_vec().into();
                attempt.command.put(&RowKey::rotation(), row.encode_to_vec());
                Ok((Verdict::by_office(office(caller), ()), ReceiptRow::default()))
            })
            .await?;
        Ok(done.committed.revision)
    }

    /// Wraps the whole keyring by the next root key. From the index of this command on it is the present one.
    pub async fn finish_root_rotation(&self, caller: &Caller, next: &Key) -> Result<u32, GatewayError> {
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object = "new root key in use".into();
                let (_, row) = attempt.load_open::<RotationRow>(&RowKey::rotation())?;
                let approvals = Approvals::of(attempt)?;
                let row = row.and_then(|row| in_time(row, &approvals)).filter(|row| missing(row).is_none());
                let is_it = |row: &RotationRow| row.kind == ROOT && row.next_check_value[..] == next.check_value();
                if !row.is_some_and(|row| is_it(&row)) {
                    return Err(GatewayError::NotFound { what: "the rotation of the root key" });
                }
                let rows = attempt.keyring_rows()?;
                for row in &rows {
                    let (keyring, recovery) = attempt.open_keyring(row)?;
                    attempt.put_keyring(next, &keyring, &recovery);
                }
                attempt.command.delete(&RowKey::rotation());
                let epoch = rows.last().map_or(0, |row| row.epoch);
                Ok((Verdict::by_office(office(caller), epoch), ReceiptRow::default()))
            })
            .await?;
        done.value.ok_or(GatewayError::Unknown)
    }
}
