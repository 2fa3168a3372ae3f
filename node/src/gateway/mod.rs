//! The gateway: on every unsealed voter, everything between a call and the replicated state.
//!
//! A use case (one file each) loads the rows that its decision needs from local applied state, opens
//! them, decides, and proposes a command that expects exactly what it used ([`attempt`]). If any of it
//! changed meanwhile, it decides anew ([`transact`]).
//!
//! Invariants
//! - Nothing leaves before the journal entry of the decision is committed *and* applied here.
//! - A denial is a command too: journalled with what it was decided on.
//! - Plaintext exists only here and above; it never reaches a log line.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub mod accesses;
pub mod acts;
pub mod aliases;
pub mod alike;
mod approval;
pub mod attempt;
pub mod audit;
pub mod body;
pub mod caller;
pub mod cards;
pub mod consent_history;
pub mod consents;
pub mod control;
pub mod denials;
pub mod drill;
pub mod emergency;
pub mod erase;
mod erase_named;
pub mod erasures;
pub mod error;
pub mod group;
pub mod hold;
pub mod inbox;
pub mod journal;
pub mod limits;
pub mod links;
pub mod list;
mod looks;
mod lost;
pub mod members;
pub mod new_record;
pub mod openings;
pub mod outcome;
pub mod own_grants;
pub mod participant;
pub mod proofs;
pub mod propose;
pub mod put;
pub mod read;
mod recheck;
pub mod refused;
pub mod register;
pub mod registry;
pub mod reviews;
pub mod rewrap;
pub mod rotation;
pub mod rows;
pub mod salvage;
pub mod service;
pub mod settings;
pub mod several;
pub mod shares;
pub mod stage;
pub mod stored;
pub mod sweep;
pub mod transact;
pub mod unopened;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use error::GatewayError;

use crate::clock::NOT_COMPARED;
use crate::removed::Removed;
use crate::state::StateStore;
use crate::vault::Vault;

/// Everything that use cases share.
pub struct Gateway {
    /// This node's name, for the journal.
    pub name: String,
    /// Local applied state.
    pub store: StateStore,
    /// The keys, once unsealed.
    pub vault: propose::VaultSlot,
    /// The way to the leader.
    pub proposer: propose::Proposer,
    /// Whether writes would fit on the disk.
    pub space: Arc<crate::space::Space>,
    /// How far this node's clock is off the voters' median, in milliseconds, or
    /// [`NOT_COMPARED`](crate::clock::NOT_COMPARED).
    pub clock_offset_ms: AtomicI64,
    /// The other voters, by name, while none of them was ever heard.
    pub silent_voters: Mutex<Vec<String>>,
    /// Whether it was set since.
    pub steady: crate::clock::Steady,
    /// What it showed before, for when no other voter's can be asked.
    pub lone: crate::leap::Lone,
    /// The backup members' synced positions.
    pub reach: Arc<crate::reach::Reach>,
    /// Checks signatures that come with records.
    pub signatures: crate::signature::Checker,
    /// Calls being decided; none begins once the node drains.
    in_flight: tokio::sync::watch::Sender<usize>,
    draining: AtomicBool,
    lost: AtomicBool,
    stands_back: AtomicBool,
    removed: Mutex<Option<Removed>>,
    /// Why there are no keys yet, for callers.
    pub sealed_because: std::sync::OnceLock<&'static str>,
    served: service::Served,
    rows: rows::RowCache,
    /// What did not open.
    pub unopened: unopened::Unopened,
    denials: denials::Denials,
    looks: looks::Looks,
    /// Held by the check of a download that proposes for all.
    proving: tokio::sync::Mutex<()>,
    /// Held by the one salvage that may apply at a time.
    salvaging: Arc<tokio::sync::Mutex<()>>,
}

impl Gateway {
    /// A gateway over the local state.
    pub fn new(
        name: String,
        store: StateStore,
        vault: propose::VaultSlot,
        proposer: propose::Proposer,
        space: Arc<crate::space::Space>,
        reach: Arc<crate::reach::Reach>,
    ) -> Gateway {
        Gateway {
            name,
            store,
            vault,
            proposer,
            space,
            clock_offset_ms: AtomicI64::new(NOT_COMPARED),
            silent_voters: Mutex::default(),
            steady: crate::clock::Steady::default(),
            lone: crate::leap::Lone::default(),
            reach,
            signatures: crate::signature::Checker::default(),
            in_flight: tokio::sync::watch::Sender::new(0),
            draining: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            stands_back: AtomicBool::new(false),
            removed: Mutex::default(),
            sealed_because: std::sync::OnceLock::new(),
            served: service::Served::default(),
            rows: rows::RowCache::default(),
            unopened: unopened::Unopened::default(),
            denials: denials::Denials::default(),
            looks: looks::Looks::default(),
            proving: tokio::sync::Mutex::default(),
            salvaging: Arc::default(),
        }
    }

    /// The same, checking signatures.
    pub fn checking(self, signatures: crate::signature::Checker) -> Gateway {
        Gateway { signatures, ..self }
    }

    /// The keys, or why there are none.
    pub fn unsealed(&self) -> Result<Arc<Vault>, GatewayError> {
        self.vault.load_full().ok_or_else(|| {
            let why = self.sealed_because.get().unwrap_or(&"it has no root key yet");
            GatewayError::Sealed { why: (*why).into() }
        })
    }

    /// Takes no new calls and waits until those in progress are answered, or the limit has passed.
    pub async fn drain(&self, limit: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let mut in_flight = self.in_flight.subscribe();
        let _ = tokio::time::timeout(limit, in_flight.wait_for(|calls| *calls == 0)).await;
    }

    /// Takes no calls any more: this node's log has lost entries, and no leader will hear it again.
    pub fn give_up(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Takes no calls while this node's files are damaged and another voter can take them.
    pub fn stand_back(&self, does: bool) {
        self.stands_back.store(does, Ordering::Relaxed);
    }

    /// That this node is no member any more, if it knows so.
    pub fn removed(&self) -> Option<Removed> {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was removed, or is a member again.
    pub fn set_removed(&self, removed: Option<Removed>) {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner) = removed;
    }

    /// Refuses what only a member may answer.
    pub fn check_member(&self) -> Result<(), GatewayError> {
        match self.removed() {
            None => Ok(()),
            Some(Removed { since_ms, .. }) => Err(GatewayError::Removed { name: self.name.clone(), since_ms }),
        }
    }

    /// Forgets what was opened of participants who are erased.
    pub fn forget_erased(&self) {
        let database = self.store.database();
        if let Some(vault) = self.vault.load_full() {
            vault.forget_missing(&database);
        }
        self.rows.forget_missing(&database);
    }

    fn begin_call(&self) -> Result<InFlight<'_>, GatewayError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(GatewayError::Unavailable { why: "this node is stopping; ask another".into() });
        }
        if self.lost.load(Ordering::Relaxed) {
            let why = "this node's log lacks what it once promised, so it takes no part any more; ask another";
            return Err(GatewayError::Unavailable { why: why.into() });
        }
        if self.stands_back.load(Ordering::Relaxed) {
            let why = "this node's files are damaged, and another voter's are not; ask another";
            return Err(GatewayError::Unavailable { why: why.into() });
        }
        self.in_flight.send_modify(|calls| *calls += 1);
        Ok(InFlight(&self.in_flight))
    }

    /// This node's clock, if it can be trusted.
    pub fn now_ms(&self) -> Result<u64, GatewayError> {
        let now_ms = crate::clock::now_ms();
        // First: whoever sees the last comparison here sees below what it came to.
        let goes_on = self.steady.goes_on(now_ms, std::time::Instant::now());
        match self.clock_offset_ms.load(Ordering::Relaxed) {
            NOT_COMPARED => Err(GatewayError::Unavailable { why: self.why_not_compared() }),
            _ if self.clock_is_off() => Err(GatewayError::Clock),
            _ if !goes_on => {
                Err(GatewayError::Unavailable { why: "this node's clock was set and is compared first".into() })
            }
            _ => Ok(now_ms),
        }
    }

    fn why_not_compared(&self) -> String {
        let silent = self.silent_voters.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
        match silent.is_empty() {
            true => "this node has just started and not compared its clock with the other voters' yet".into(),
            false => format!(
                "this node has reached no other voter since it started ({silent}), and decides nothing alone: more than \
                 half of the voters have to run and reach each other"
            ),
        }
    }

    /// Whether this node's clock is known to be off by more than the limit.
    pub fn clock_is_off(&self) -> bool {
        let offset_ms = self.clock_offset_ms.load(Ordering::Relaxed);
        offset_ms != NOT_COMPARED && offset_ms.unsigned_abs() > limits::CLOCK_OFFSET_MS_MAX
    }
}

/// A call in progress.
struct InFlight<'g>(&'g tokio::sync::watch::Sender<usize>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}
