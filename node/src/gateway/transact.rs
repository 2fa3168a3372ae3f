//! Decide, propose, and decide anew if anything changed meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::command::{Committed, Refusal, Request};
use kura_cluster::consent::{Basis, Decision, Denial};
use kura_cluster::id::RequestId;
use kura_cluster::row::{JournalEntry, ReceiptRow, RowKey};
use kura_cluster::seal::{Domain, RowName, index_hash};
use kura_cluster::tree::leaf_hash;
use kura_cluster::{Outcome, Revision};
use kura_proto::v1;
use prost::Message;
use rand::RngExt;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, broken};
use super::limits::{ATTEMPTS_MAX, PROPOSE_TIMEOUT, REQUEST_AHEAD_MS_MAX, REQUEST_BEHIND_MS};
use super::looks::is_look;
use super::propose::Proposed;
use super::service::Doing;
use super::{Caller, Gateway, GatewayError};
use crate::raft::types::MemberRole;

/// How a request id was used before.
pub const ANOTHER_REQUEST: &str = "for a different request";
/// The same, for one that nothing was committed under.
pub const GIVEN_UP: &str = "and given up: its outcome was told to be absent";

/// What a decision came to.
pub enum Verdict<T> {
    /// Permitted: the command holds the writes.
    Permitted {
        /// On which ground.
        basis: Basis,
        /// Past this the command must not take effect any more; 0: nothing that was used expires.
        valid_until_ms: u64,
        /// What the use case hands out.
        value: T,
    },
    /// Denied: what was drafted is dropped, the denial journalled.
    Denied(Denial),
}

impl<T> Verdict<T> {
    /// Turns a decision around: goes on with `permitted` if it permits.
    pub fn of(
        decision: Decision,
        permitted: impl FnOnce(Basis) -> Result<T, GatewayError>,
    ) -> Result<Verdict<T>, GatewayError> {
        match decision {
            Decision::Permit { basis, valid_until_ms } => {
                Ok(Verdict::Permitted { basis, valid_until_ms, value: permitted(basis)? })
            }
            Decision::Deny { reason } => Ok(Verdict::Denied(reason)),
        }
    }

    /// Permitted by an office alone: nothing of it expires.
    pub fn by_office(basis: Basis, value: T) -> Verdict<T> {
        Verdict::Permitted { basis, valid_until_ms: 0, value }
    }

    /// The same verdict over what `further` makes of what was permitted.
    pub fn try_map<U>(self, further: impl FnOnce(T) -> Result<U, GatewayError>) -> Result<Verdict<U>, GatewayError> {
        Ok(match self {
            Verdict::Permitted { basis, valid_until_ms, value } => {
                Verdict::Permitted { basis, valid_until_ms, value: further(value)? }
            }
            Verdict::Denied(reason) => Verdict::Denied(reason),
        })
    }
}

/// A write's identity: its id and the hash of what was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The client's id.
    pub id: RequestId,
    /// SHA-256 of the request.
    pub sha256: [u8; 32],
}

/// What a write asks for, apart from who asks: a repetition may come after a fresh authentication.
pub trait Repeatable: Message + Clone {
    /// The same request without its actor.
    fn without_actor(&self) -> Self;
}

/// Who asks, without how and when they were authenticated: what one actor wrote is told again to nobody else.
fn whom(actor: &v1::Actor) -> v1::Actor {
    v1::Actor { kind: actor.kind, facility: actor.facility.clone(), name: actor.name.clone(), ..v1::Actor::default() }
}

macro_rules! repeatable {
    ($($request:ident),+) => {
        $(impl Repeatable for v1::$request {
            fn without_actor(&self) -> Self {
                Self { actor: self.actor.as_ref().map(whom), ..self.clone() }
            }
        })+
    };
}

repeatable!(
    EnrolRequest,
    LinkRequest,
    RelinkRequest,
    IssueCardRequest,
    GrantRequest,
    RevokeRequest,
    WithdrawRequest,
    HideRequest,
    NarrowRequest,
    OpenEmergencyRequest,
    AskErasureRequest,
    StopErasureRequest,
    PutWholeRequest
);

macro_rules! repeatable_without_actor {
    ($($request:ident),+) => {
        $(impl Repeatable for v1::$request {
            fn without_actor(&self) -> Self {
                self.clone()
            }
        })+
    };
}

repeatable_without_actor!(
    PutFacilityRequest,
    PutUserRequest,
    PutApplicationRequest,
    PutSettingsRequest,
    DeclareDisasterRequest,
    EndDisasterRequest,
    ConfirmActRequest,
    RejectActRequest,
    AliasRequest,
    ReviewRequest,
    ApproveErasureRequest,
    HoldRequest,
    OutcomeRequest
);

impl Asked {
    /// Parses the id and hashes the rest of the request (its encoded fields, without bodies and actor).
    pub fn parse(id: Option<&v1::RequestId>, request: &impl Repeatable) -> Result<Asked, GatewayError> {
        let id = id.ok_or_else(|| GatewayError::invalid("request", "is missing"))?;
        let id = RequestId::from_slice(&id.id).map_err(|e| GatewayError::invalid("request", e))?;
        Ok(Asked { id, sha256: Sha256::digest(request.without_actor().encode_to_vec()).into() })
    }

    /// Its row key: birth time and HMAC(application ‖ id).
    pub fn row(&self, vault: &crate::vault::Vault, application: &str) -> RowKey {
        RowKey::request(&self.id, &self.hash(vault, application))
    }

    /// HMAC(application ‖ id).
    pub fn hash(&self, vault: &crate::vault::Vault, application: &str) -> [u8; 32] {
        let parts: [&[u8]; 2] = [application.as_bytes(), &self.id.0];
        index_hash(&vault.keyring().index, Domain::Request, &parts)
    }
}

/// A decision that took effect.
pub struct Done<T> {
    /// What the use case handed out.
    pub value: Option<T>,
    /// Where.
    pub committed: Committed,
    /// Term of the leader that acknowledged it.
    pub leader_term: u64,
    /// What a remembered request is told again.
    pub receipt: ReceiptRow,
}

impl<T> Done<T> {
    /// Something that was decided and not done.
    fn rehearsed(value: T, receipt: ReceiptRow) -> Done<T> {
        let committed = Committed {
            revision: Revision::ABSENT,
            journal_first: 0,
            journal_count: 0,
            receipt: Bytes::new(),
            remembered: false,
        };
        Done { value: Some(value), committed, leader_term: 0, receipt }
    }

    fn is_rehearsed(&self) -> bool {
        self.committed.revision == Revision::ABSENT
    }
}

impl Gateway {
    /// Decides with `decide` until what it used stands, commits, and waits until it is applied here.
    ///
    /// `decide` runs again for each attempt; it loads rows through the attempt, drafts writes and the
    /// journal entry, and returns its verdict. It does not run for a request that was committed before:
    /// that is told its receipt, and the use case gets no value.
    pub async fn transact<T>(
        &self,
        caller: &Caller,
        doing: impl Into<Doing>,
        asked: Option<&Asked>,
        mut decide: impl FnMut(&mut Attempt<'_>) -> Result<(Verdict<T>, ReceiptRow), GatewayError>,
    ) -> Result<Done<T>, GatewayError> {
        let _in_flight = self.begin_call()?;
        let doing = doing.into();
        let salvaged = caller.salvaged.as_deref();
        // The id of what is salvaged is older than the window: repetitions are found by the journal.
        let asked = asked.filter(|_| salvaged.is_none());
        if let Some(asked) = asked
            && asked.id.born_ms() > self.now_ms()?.saturating_add(REQUEST_AHEAD_MS_MAX)
        {
            let why = format!("was born in the future, by more than {} s", REQUEST_AHEAD_MS_MAX / 1000);
            return Err(GatewayError::invalid("request", why));
        }
        let writes = match salvaged {
            Some(salvaged) => !salvaged.restricts,
            None => asked.is_some() && !doing.passes_low_space(),
        };
        if writes {
            self.space.check_writes().map_err(|why| GatewayError::LowSpace { why })?;
        } else {
            self.space.check_reads().map_err(|why| GatewayError::LowSpace { why })?;
        }
        let entry = JournalEntry {
            actor: Some(caller.journalled()),
            action: doing.action.number(),
            request_id: match salvaged {
                Some(salvaged) => salvaged.request_id.clone(),
                None => asked.map(|a| Bytes::copy_from_slice(&a.id.0)).unwrap_or_default(),
            },
            salvaged: salvaged.map(|salvaged| salvaged.from.clone()),
            ..JournalEntry::default()
        };
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        // One denial, however often it is decided anew.
        let mut has_own_entry = None;
        for number in 0..ATTEMPTS_MAX {
            let mut attempt = Attempt::begin(self, &entry)?;
            let decided = match asked {
                // What it did stands in its own way by now; whether it is the same request, `apply` tells.
                Some(asked) if was_committed(&attempt, caller, asked)? => None,
                // Before anything is decided: of what is permitted only `apply` would see it, and the answer
                // would tell who is enrolled, without a trace.
                Some(asked) if self.is_too_old(&asked.id, attempt.now_ms) => return Err(GatewayError::Expired),
                // Before anything of a participant is loaded, for the same reason.
                _ => {
                    // What only takes something away is salvaged whatever is served yet.
                    if salvaged.is_none_or(|salvaged| !salvaged.restricts && !salvaged.rehearsed) {
                        self.check_service(caller, doing)?;
                    }
                    Some(decide(&mut attempt)?)
                }
            };
            let receipt = decided.as_ref().map(|(_, receipt)| receipt.clone()).unwrap_or_default();
            let (value, denied) = match decided.map(|(verdict, _)| verdict) {
                None => {
                    attempt.journal_as_drafted();
                    if let Some(asked) = asked {
                        identify(&mut attempt, caller, asked, &receipt);
                    }
                    (None, None)
                }
                Some(Verdict::Permitted { value, .. }) if salvaged.is_some_and(|s| s.rehearsed) => {
                    return Ok(Done::rehearsed(value, receipt));
                }
                Some(Verdict::Denied(reason)) if salvaged.is_some_and(|s| s.rehearsed) => {
                    return Err(GatewayError::Denied { reason, journal_position: 0 });
                }
                Some(Verdict::Permitted { basis, valid_until_ms, value }) => {
                    attempt.permit(basis);
                    attempt.command.valid_until_ms = valid_until_ms;
                    if let Some(asked) = asked {
                        identify(&mut attempt, caller, asked, &receipt);
                    }
                    (Some(value), None)
                }
                Some(Verdict::Denied(reason)) => {
                    let ask = || self.denials.has_own_entry(&attempt.entry, reason, Instant::now());
                    if !*has_own_entry.get_or_insert_with(ask) {
                        return Err(GatewayError::Denied { reason, journal_position: 0 });
                    }
                    attempt.deny(reason);
                    (None, Some(reason))
                }
            };
            let vault = attempt.vault.clone();
            let command = std::mem::take(&mut attempt.command);
            drop(attempt);
            let proposed = match number == 0 && is_look(&command) {
                true => self.looks.propose(&self.proposer, command, deadline).await,
                false => self.proposer.propose(command.encode_to_vec().into(), deadline).await,
            };
            let Proposed { outcome, term, index } = proposed?;
            if !self.store.applied(index, deadline).await {
                // The leader has it, this member does not: it may have been cut off or removed.
                return Err(match asked {
                    Some(_) => GatewayError::Unknown,
                    None => GatewayError::Unavailable { why: "this node does not hear from the leader".into() },
                });
            }
            match outcome {
                Outcome::Committed(committed) => {
                    if let Some(reason) = denied {
                        return Err(GatewayError::Denied { reason, journal_position: committed.journal_first });
                    }
                    let (value, receipt) = match (committed.remembered, asked) {
                        (true, Some(asked)) => {
                            (None, open_receipt(&vault, &asked.row(&vault, &caller.identity.name), &committed.receipt)?)
                        }
                        _ => (value, receipt),
                    };
                    return Ok(Done { value, committed, leader_term: term, receipt });
                }
                Outcome::Conflict { .. } => pause(number).await,
                Outcome::Expired => return Err(GatewayError::Expired),
                Outcome::Refused(Refusal::RequestDiffers) => {
                    return Err(GatewayError::RequestId { why: ANOTHER_REQUEST });
                }
                Outcome::Refused(Refusal::RequestGivenUp) | Outcome::Absent => {
                    return Err(GatewayError::RequestId { why: GIVEN_UP });
                }
                Outcome::Refused(Refusal::KeyDeletionCap) => return Err(GatewayError::KeyDeletionCap),
                Outcome::Refused(Refusal::Malformed | Refusal::Timeline) => {
                    tracing::error!("a command of this gateway was refused as malformed");
                    return Err(GatewayError::Damaged { what: "command" });
                }
            }
        }
        Err(GatewayError::Contended)
    }

    /// Whether `apply` may find a request's id older than the window, by a clock that is somewhat ahead of what
    /// is known here.
    fn is_too_old(&self, id: &RequestId, now_ms: u64) -> bool {
        let published = self.store.published();
        let clock_ms = published.summary.clock_ms.max(now_ms).saturating_add(REQUEST_BEHIND_MS);
        id.born_ms() < clock_ms.saturating_sub(published.summary.request_window_ms)
    }

    /// The backup members of the membership applied here.
    pub fn backups(&self) -> BTreeSet<u64> {
        let published = self.store.published();
        let members = published.membership.membership().nodes();
        members.filter(|(_, member)| member.role == MemberRole::Backup).map(|(id, _)| *id).collect()
    }

    /// Builds the receipt of a write, waiting for the backup if it is restrictive or asked for.
    pub async fn receipt<T>(&self, done: &Done<T>, asked: &Asked, beyond_prefecture: bool) -> v1::Receipt {
        let reach = match beyond_prefecture && !done.is_rehearsed() {
            true => self.reach.wait(&self.backups(), done.leader_term, done.committed.revision.index).await,
            false => crate::reach::Reached::NotWaited,
        };
        v1::Receipt {
            timeline: done.committed.revision.timeline,
            leader_term: done.leader_term,
            index: done.committed.revision.index,
            request_id: Bytes::copy_from_slice(&asked.id.0),
            record_id: done.receipt.record_id.clone(),
            version: done.receipt.version,
            journal_position: done.committed.journal_first,
            repeated: done.committed.remembered,
            reach: reach as u32,
            nothing_to_end: done.receipt.nothing_to_end,
            granted_before: done.receipt.granted_before,
            journal_leaf: self.journal_leaf(done.committed.journal_first),
        }
    }

    /// The leaf of a journal entry that was applied here; empty if it cannot be read.
    pub fn journal_leaf(&self, position: u64) -> Bytes {
        let found = self.store.database().row(&RowKey::journal(position)).ok().flatten();
        found.map_or_else(Bytes::new, |row| Bytes::copy_from_slice(&leaf_hash(&row.value)))
    }
}

/// Whether a request was committed before, as far as this member has applied.
fn was_committed(attempt: &Attempt<'_>, caller: &Caller, asked: &Asked) -> Result<bool, GatewayError> {
    let row = asked.row(&attempt.vault, &caller.identity.name);
    Ok(attempt.database.header(&row).map_err(broken)?.is_some())
}

fn identify(attempt: &mut Attempt<'_>, caller: &Caller, asked: &Asked, receipt: &ReceiptRow) {
    let row = asked.row(&attempt.vault, &caller.identity.name);
    let sealed = attempt.seal_registry(RowName::Full(row.as_bytes()), Revision::ABSENT, &receipt.encode_to_vec());
    attempt.command.request = Some(Request {
        row: row.as_bytes().clone(),
        sha256: Bytes::copy_from_slice(&asked.sha256),
        receipt: sealed.into(),
    });
}

/// Opens what a remembered request is told again.
pub fn open_receipt(vault: &crate::vault::Vault, row: &RowKey, sealed: &[u8]) -> Result<ReceiptRow, GatewayError> {
    use kura_cluster::seal::{RowContext, open_row, row as sealed_row};
    let cluster_id = vault.cluster_id();
    let context = RowContext {
        cluster_id: &cluster_id,
        name: RowName::Full(row.as_bytes()),
        supersedes: Revision::ABSENT,
        open_part_sha256: None,
    };
    let opened = sealed_row::peek_header(sealed).ok().and_then(|header| {
        let keyring = vault.epoch(header.key_version)?;
        let plain = open_row(&keyring.registry, keyring.epoch, &context, sealed).ok()?;
        ReceiptRow::decode(&plain[..]).ok()
    });
    opened.ok_or(GatewayError::Damaged { what: "receipt" })
}

/// Lets whoever was faster finish; longer the more often, with jitter.
async fn pause(number: u32) {
    let longest_ms = 1_u64 << number.min(7);
    let ms = rand::rng().random_range(0..=longest_ms);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
