//! Members approved to join: an operator's approval for a backup, an operator's and a registrar's for a
//! voter, since it will receive the root key.

use std::time::Instant;

use kura_cluster::consent::{Basis, Denial};
use kura_cluster::row::{ActorRow, JournalEntry, MemberRow, ReceiptRow, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, ActorKind};
use kura_proto::v1;
use prost::Message;

use super::attempt::{Attempt, broken};
use super::consents::bounded;
use super::limits::PROPOSE_TIMEOUT;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::{Role, check_name};

const VOTER: u32 = 1;
const BACKUP: u32 = 2;
/// Members that a cluster can ever have approved.
const MEMBERS_MAX: usize = 10_000;

/// Whether every approval that a member needs has been given.
pub fn is_approved(row: &MemberRow) -> bool {
    !row.operator.is_empty() && (row.role == BACKUP || !row.registrar.is_empty())
}

impl Gateway {
    /// Approves a member to join. The first approval assigns the Raft id; approving something else under
    /// the same name begins anew, under a new id.
    pub async fn approve_member(
        &self,
        caller: &Caller,
        request: v1::ApproveMemberRequest,
    ) -> Result<v1::ApproveMemberReply, GatewayError> {
        check_name(&request.name).map_err(|e| GatewayError::invalid("name", e))?;
        bounded("address", &request.address)?;
        if !matches!(request.role, VOTER | BACKUP) {
            return Err(GatewayError::invalid("role", "is 1 (voter) or 2 (backup)"));
        }
        if request.key_sha256.len() != 32 {
            return Err(GatewayError::invalid("key_sha256", "a SHA-256 has 32 bytes"));
        }
        let role = caller.identity.role;
        let done = self
            .transact(caller, Action::Member, None, |attempt| {
                attempt.entry.object = request.name.clone();
                let key = RowKey::member(&attempt.hash(Domain::Member, &[&request.name]));
                // Ids are drawn from all members ever approved.
                attempt.expect_table(Table::Member);
                let found = attempt.look::<MemberRow>(&key)?;
                let same = found.value.as_deref().filter(|row| {
                    row.role == request.role && row.key_sha256 == request.key_sha256 && row.address == request.address
                });
                let mut row = match same {
                    Some(row) => row.clone(),
                    None => MemberRow {
                        name: request.name.clone(),
                        role: request.role,
                        raft_id: next_raft_id(attempt)?,
                        key_sha256: request.key_sha256.clone(),
                        address: request.address.clone(),
                        ..MemberRow::default()
                    },
                };
                row.approved_ms = attempt.now_ms;
                let basis = match role {
                    Role::Operator => {
                        row.operator = caller.identity.name.clone();
                        Basis::Operator
                    }
                    Role::Registrar => {
                        row.registrar = caller.identity.name.clone();
                        Basis::Registrar
                    }
                    _ => return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default())),
                };
                attempt.put(&key, found.revision, &row);
                Ok((Verdict::Permitted(basis, row), ReceiptRow::default()))
            })
            .await?;
        let row = done.value.ok_or(GatewayError::Unknown)?;
        Ok(v1::ApproveMemberReply {
            raft_id: row.raft_id,
            operator_approved: !row.operator.is_empty(),
            registrar_approved: !row.registrar.is_empty(),
            complete: is_approved(&row),
        })
    }

    /// An approved member, by name. Local: the asker proves itself by its certificate.
    pub fn approved_member(&self, name: &str) -> Result<Option<MemberRow>, GatewayError> {
        let attempt = Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
        let key = RowKey::member(&attempt.hash(Domain::Member, &[name]));
        Ok(attempt.look::<MemberRow>(&key)?.value.map(|row| (*row).clone()).filter(is_approved))
    }

    /// Journals that the root key is handed to an approved voter, before it is.
    pub async fn journal_handover(&self, name: &str) -> Result<(), GatewayError> {
        let entry = JournalEntry {
            actor: Some(ActorRow { kind: ActorKind::Cluster.number(), name: self.name.clone(), ..ActorRow::default() }),
            action: Action::Member.number(),
            object: format!("root key to {name}"),
            ..JournalEntry::default()
        };
        let command = {
            let mut attempt = Attempt::begin(self, &entry)?;
            attempt.permit(Basis::Cluster);
            attempt.command.encode_to_vec()
        };
        self.proposer.propose(command.into(), Instant::now() + PROPOSE_TIMEOUT).await.map(|_| ())
    }

    /// Journals a membership change that an operator asked for, before it is made.
    pub async fn journal_membership(&self, caller: &Caller, what: &str) -> Result<(), GatewayError> {
        self.transact(caller, Action::Member, None, |attempt| {
            attempt.entry.object = what.to_owned();
            Ok((Verdict::Permitted(Basis::Operator, ()), ReceiptRow::default()))
        })
        .await
        .map(|_| ())
    }
}

fn next_raft_id(attempt: &Attempt<'_>) -> Result<u64, GatewayError> {
    let prefix = RowKey::whole_table(Table::Member);
    let rows = attempt.database.snapshot().scan(&prefix, None, MEMBERS_MAX).map_err(broken)?;
    let mut highest = 0;
    for (key, stored) in rows {
        let row: MemberRow = attempt.open_scanned(&key, &stored)?;
        highest = highest.max(row.raft_id);
    }
    Ok(highest + 1)
}
