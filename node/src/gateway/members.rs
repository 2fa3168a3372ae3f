//! Members approved to join, and the keys to which they may change: an operator's approval for a backup,
//! an operator's and a registrar's for a voter, since it will receive the root key. The two are two people, and what
//! they approved counts for a while ([`super::approval`]); a member that is present stays approved.

use std::time::Instant;

use kura_cluster::consent::{Basis, Denial};
use kura_cluster::row::{ActorRow, JournalEntry, MemberRow, ReceiptRow, RowKey, Table};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Action, ActorKind};
use kura_cluster::{Revision, hexadecimal};
use kura_proto::v1;
use prost::Message;

use super::approval::{Approvals, check_other};
use super::attempt::{Attempt, broken};
use super::consents::bounded;
use super::limits::PROPOSE_TIMEOUT;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::{Role, check_name};
use crate::raft::types::MemberRole;

const VOTER: u32 = 1;
const BACKUP: u32 = 2;
/// Members that a cluster can ever have approved.
const MEMBERS_MAX: usize = 10_000;

/// Whether every approval that a member needs has been given.
pub fn is_approved(row: &MemberRow) -> bool {
    !row.operator.is_empty() && (row.role == BACKUP || !row.registrar.is_empty())
}

/// Which approval a member of a role lacks, in words; `None` if it lacks none.
pub fn missing_approval(row: Option<&MemberRow>, role: MemberRole) -> Option<&'static str> {
    let by_operator = row.is_some_and(|row| !row.operator.is_empty());
    let by_registrar = row.is_some_and(|row| !row.registrar.is_empty());
    match (role, by_operator, by_registrar) {
        (MemberRole::Voter, false, false) => Some("the approvals of an operator and of a registrar are missing"),
        (_, false, _) => Some("an operator's approval is missing"),
        (MemberRole::Voter, true, false) => Some("a registrar's approval is missing"),
        _ => None,
    }
}

/// Whether another key has been given every approval that the member itself needed.
fn is_next_key_approved(row: &MemberRow) -> bool {
    !row.next_key_sha256.is_empty()
        && !row.next_operator.is_empty()
        && (row.role == BACKUP || !row.next_registrar.is_empty())
}

/// Whether somebody has approved it, and it was not ended.
fn is_under_way(row: &MemberRow) -> bool {
    !(row.operator.is_empty() && row.registrar.is_empty())
}

/// The same member without anybody's approval.
fn ended(row: &MemberRow) -> MemberRow {
    MemberRow {
        operator: String::new(),
        registrar: String::new(),
        operator_approval: None,
        registrar_approval: None,
        ..without_next_key(row)
    }
}

/// The same member without a key to change to.
fn without_next_key(row: &MemberRow) -> MemberRow {
    MemberRow {
        next_key_sha256: bytes::Bytes::new(),
        next_operator: String::new(),
        next_registrar: String::new(),
        next_operator_approval: None,
        next_registrar_approval: None,
        ..row.clone()
    }
}

/// The same member with the approvals that count.
fn in_time(row: &MemberRow, approvals: &Approvals, is_present: bool) -> MemberRow {
    let mut row = row.clone();
    if !is_present {
        approvals.keep(&mut row.operator, &mut row.operator_approval);
        approvals.keep(&mut row.registrar, &mut row.registrar_approval);
    }
    approvals.keep(&mut row.next_operator, &mut row.next_operator_approval);
    approvals.keep(&mut row.next_registrar, &mut row.next_registrar_approval);
    row
}

/// What was approved, and by whom.
fn in_words(row: &MemberRow) -> String {
    let role = if row.role == BACKUP { "backup" } else { "voter" };
    let key = hexadecimal(&row.key_sha256[..row.key_sha256.len().min(6)]);
    let people = [("operator", &row.operator), ("registrar", &row.registrar)].into_iter();
    let people: Vec<String> =
        people.filter(|(_, name)| !name.is_empty()).map(|(office, name)| format!("{office} {name}")).collect();
    format!("a {role} at {} with the key {key}…, by {}", row.address, people.join(" and "))
}

fn approved_at(name: &str, words: &str) -> GatewayError {
    GatewayError::Contradicts {
        field: "address",
        why: format!(
            "{name} was approved as {words}, and this is another address. Nothing was changed: give that --address, or, if it \
             is wrong, begin anew with --anew, which ends what they approved: it takes every approval again, and joins under \
             another id"
        ),
    }
}

impl Gateway {
    /// Whether the approvals of a member count: those of before a take-over or a restore do for who went along with it, and
    /// for nobody else. Machines that were left behind may be in anybody's hands.
    fn counts(&self, name: &str, approved: Revision) -> Result<bool, GatewayError> {
        let row = self.store.database().cluster_row().map_err(broken)?.unwrap_or_default();
        let began = row.timelines.last().map_or(0, |timeline| timeline.began_index);
        Ok(self.is_present(name) || approved.index >= began)
    }

    fn is_present(&self, name: &str) -> bool {
        let published = self.store.published();
        published.membership.membership().nodes().any(|(_, member)| member.name == name)
    }

    /// Approves a member to join. The first approval assigns the Raft id; approving something else under
    /// the same name begins anew, under a new id, and tells what counts no more. Only another address of the
    /// same key has to be asked for as such.
    pub async fn approve_member(
        &self,
        caller: &Caller,
        request: v1::ApproveMemberRequest,
    ) -> Result<v1::ApproveMemberReply, GatewayError> {
        check_name(&request.name).map_err(|e| GatewayError::invalid("name", e))?;
        if request.renew_key {
            return self.approve_next_key(caller, request).await;
        }
        bounded("address", &request.address)?;
        if !matches!(request.role, VOTER | BACKUP) {
            return Err(GatewayError::invalid("role", "is 1 (voter) or 2 (backup)"));
        }
        if request.key_sha256.len() != 32 {
            return Err(GatewayError::invalid("key_sha256", "a SHA-256 has 32 bytes"));
        }
        if self.is_present(&request.name) {
            // Its address and key would change for those who join later, and for nobody else.
            return Err(GatewayError::InUse {
                field: "name",
                what: "a present member: give the new one another name, or approve another key of it (--renew-key)",
            });
        }
        let role = caller.identity.role;
        let mut replaced = None;
        let done = self
            .transact(caller, Action::Member, None, |attempt| {
                attempt.entry.object = request.name.clone();
                let key = RowKey::member(&attempt.hash(Domain::Member, &[&request.name]));
                // Ids are drawn from all members ever approved.
                attempt.expect_table(Table::Member);
                let found = attempt.look::<MemberRow>(&key)?;
                let is_alike = |row: &MemberRow| row.role == request.role && row.key_sha256 == request.key_sha256;
                let counts = self.counts(&request.name, found.revision)?;
                let approvals = Approvals::of(attempt)?;
                let before = found.value.as_deref().filter(|row| counts && is_under_way(row));
                let before = before.map(|row| in_time(row, &approvals, false));
                let before = before.as_ref();
                // Also one whose approvals have run out meanwhile: it has its id, and may have joined by it.
                let same = before.filter(|row| is_alike(row) && row.address == request.address);
                replaced = before.filter(|row| same.is_none() && is_under_way(row)).map(in_words);
                // Another key is another machine; another address of the same one may be a slip.
                if let Some(words) = replaced.as_ref().filter(|_| !request.anew && before.is_some_and(is_alike)) {
                    return Err(approved_at(&request.name, words));
                }
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
                let (basis, other) = match role {
                    Role::Operator => {
                        row.operator = caller.identity.name.clone();
                        row.operator_approval = Some(approvals.given(caller));
                        (Basis::Operator, &row.registrar_approval)
                    }
                    Role::Registrar => {
                        row.registrar = caller.identity.name.clone();
                        row.registrar_approval = Some(approvals.given(caller));
                        (Basis::Registrar, &row.operator_approval)
                    }
                    _ => return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default())),
                };
                if let Err(reason) = check_other(caller, other.as_ref()) {
                    return Ok((Verdict::Denied(reason), ReceiptRow::default()));
                }
                attempt.put(&key, found.revision, &row);
                Ok((Verdict::by_office(basis, row), ReceiptRow::default()))
            })
            .await?;
        let row = done.value.ok_or(GatewayError::Unknown)?;
        Ok(v1::ApproveMemberReply {
            raft_id: row.raft_id,
            operator_approved: !row.operator.is_empty(),
            registrar_approved: !row.registrar.is_empty(),
            complete: is_approved(&row),
            replaced: replaced.unwrap_or_default(),
        })
    }

    /// Approves another key for a member that is approved. It takes the same people: whoever has the key is
    /// the member.
    async fn approve_next_key(
        &self,
        caller: &Caller,
        request: v1::ApproveMemberRequest,
    ) -> Result<v1::ApproveMemberReply, GatewayError> {
        if request.key_sha256.len() != 32 {
            return Err(GatewayError::invalid("key_sha256", "a SHA-256 has 32 bytes"));
        }
        let role = caller.identity.role;
        let done = self
            .transact(caller, Action::Member, None, |attempt| {
                attempt.entry.object = format!("next key of {}", request.name);
                let key = RowKey::member(&attempt.hash(Domain::Member, &[&request.name]));
                let found = attempt.look::<MemberRow>(&key)?;
                let counts = self.counts(&request.name, found.revision)?;
                let approvals = Approvals::of(attempt)?;
                let known = found.value.as_deref().map(|row| in_time(row, &approvals, self.is_present(&request.name)));
                let approved = known.filter(|row| counts && is_approved(row) && row.role == request.role);
                let Some(mut row) = approved else {
                    return Err(GatewayError::NotFound { what: "an approved member of this name and role" });
                };
                if row.key_sha256 == request.key_sha256 {
                    return Err(GatewayError::invalid("key_sha256", "is the key that the member has already"));
                }
                if row.next_key_sha256 != request.key_sha256 {
                    row = MemberRow { next_key_sha256: request.key_sha256.clone(), ..without_next_key(&row) };
                }
                let (basis, other) = match role {
                    Role::Operator => {
                        row.next_operator = caller.identity.name.clone();
                        row.next_operator_approval = Some(approvals.given(caller));
                        (Basis::Operator, &row.next_registrar_approval)
                    }
                    Role::Registrar => {
                        row.next_registrar = caller.identity.name.clone();
                        row.next_registrar_approval = Some(approvals.given(caller));
                        (Basis::Registrar, &row.next_operator_approval)
                    }
                    _ => return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default())),
                };
                if let Err(reason) = check_other(caller, other.as_ref()) {
                    return Ok((Verdict::Denied(reason), ReceiptRow::default()));
                }
                row.approved_ms = attempt.now_ms;
                attempt.put(&key, found.revision, &row);
                Ok((Verdict::by_office(basis, row), ReceiptRow::default()))
            })
            .await?;
        let row = done.value.ok_or(GatewayError::Unknown)?;
        Ok(v1::ApproveMemberReply {
            raft_id: row.raft_id,
            operator_approved: !row.next_operator.is_empty(),
            registrar_approved: !row.next_registrar.is_empty(),
            complete: is_next_key_approved(&row),
            replaced: String::new(),
        })
    }

    /// The key to which a member may change: approved, and not its own yet.
    pub fn approved_next_key(&self, name: &str) -> Result<Option<[u8; 32]>, GatewayError> {
        let row = self.approved_member(name)?.filter(is_next_key_approved);
        Ok(row.and_then(|row| row.next_key_sha256[..].try_into().ok()))
    }

    /// Makes the approved next key the member's own: with it the root key is handed over from now on.
    pub async fn take_next_key(&self, caller: &Caller, name: &str, key_sha256: [u8; 32]) -> Result<(), GatewayError> {
        self.transact(caller, Action::Member, None, |attempt| {
            attempt.entry.object = format!("new key of {name}");
            let key = RowKey::member(&attempt.hash(Domain::Member, &[name]));
            let found = attempt.look::<MemberRow>(&key)?;
            let approvals = Approvals::of(attempt)?;
            let known = found.value.as_deref().map(|row| in_time(row, &approvals, self.is_present(name)));
            let approved = known.filter(|row| row.next_key_sha256[..] == key_sha256);
            let Some(row) = approved.filter(is_next_key_approved) else {
                return Err(GatewayError::NotFound { what: "an approved next key" });
            };
            let row = MemberRow {
                key_sha256: row.next_key_sha256.clone(),
                operator: row.next_operator.clone(),
                registrar: row.next_registrar.clone(),
                operator_approval: row.next_operator_approval.clone(),
                registrar_approval: row.next_registrar_approval.clone(),
                ..without_next_key(&row)
            };
            attempt.put(&key, found.revision, &row);
            Ok((Verdict::by_office(Basis::Operator, ()), ReceiptRow::default()))
        })
        .await
        .map(|_| ())
    }

    /// A member, by name, with the approvals that it has and that count. Local: the asker proves itself by its certificate.
    pub fn known_member(&self, name: &str) -> Result<Option<MemberRow>, GatewayError> {
        let mut attempt = Attempt::begin(self, &JournalEntry::default())?;
        let key = RowKey::member(&attempt.hash(Domain::Member, &[name]));
        let found = attempt.look::<MemberRow>(&key)?;
        let counts = self.counts(name, found.revision)?;
        let approvals = Approvals::of(&mut attempt)?;
        let in_time = |row: &MemberRow| in_time(row, &approvals, self.is_present(name));
        Ok(found.value.map(|row| if counts { in_time(&row) } else { ended(&row) }))
    }

    /// The same, of one that has every approval that it needs.
    pub fn approved_member(&self, name: &str) -> Result<Option<MemberRow>, GatewayError> {
        Ok(self.known_member(name)?.filter(is_approved))
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

    /// Journals that a member goes and ends its approval, before the membership changes: whoever has been removed is not
    /// handed the root key again, nor a rotated one. If the change itself fails then, the member is one without approval,
    /// and removing it again is what is left to do.
    pub async fn end_approval(&self, caller: &Caller, name: &str, what: &str) -> Result<(), GatewayError> {
        self.transact(caller, Action::Member, None, |attempt| {
            attempt.entry.object = what.to_owned();
            let key = RowKey::member(&attempt.hash(Domain::Member, &[name]));
            let found = attempt.look::<MemberRow>(&key)?;
            if let Some(row) = found.value.as_deref() {
                attempt.put(&key, found.revision, &ended(row));
            }
            Ok((Verdict::by_office(Basis::Operator, ()), ReceiptRow::default()))
        })
        .await
        .map(|_| ())
    }

    /// Journals a membership change that an operator asked for, before it is made.
    pub async fn journal_membership(&self, caller: &Caller, what: &str) -> Result<(), GatewayError> {
        self.transact(caller, Action::Member, None, |attempt| {
            attempt.entry.object = what.to_owned();
            Ok((Verdict::by_office(Basis::Operator, ()), ReceiptRow::default()))
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
