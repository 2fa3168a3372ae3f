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

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub mod accesses;
pub mod attempt;
pub mod body;
pub mod caller;
pub mod consents;
pub mod control;
pub mod denials;
pub mod error;
pub mod inbox;
pub mod limits;
pub mod list;
pub mod members;
pub mod outcome;
pub mod participant;
pub mod propose;
pub mod put;
pub mod read;
pub mod registry;
pub mod rows;
pub mod stage;
pub mod sweep;
pub mod transact;

pub use caller::Caller;
pub use error::GatewayError;

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
    /// How far this node's clock is off the voters' median, in milliseconds.
    pub clock_offset_ms: AtomicI64,
    /// The backup members' synced positions.
    pub reach: Arc<crate::reach::Reach>,
    rows: rows::RowCache,
    denials: denials::Denials,
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
            clock_offset_ms: AtomicI64::new(0),
            reach,
            rows: rows::RowCache::default(),
            denials: denials::Denials::default(),
        }
    }

    /// The keys, or why there are none.
    pub fn unsealed(&self) -> Result<Arc<Vault>, GatewayError> {
        self.vault.load_full().ok_or_else(|| GatewayError::Sealed { why: "it has no root key yet".into() })
    }

    /// This node's clock, if it can be trusted.
    pub fn now_ms(&self) -> Result<u64, GatewayError> {
        match self.clock_offset_ms.load(Ordering::Relaxed).unsigned_abs() > limits::CLOCK_OFFSET_MS_MAX {
            true => Err(GatewayError::Clock),
            false => Ok(crate::clock::now_ms()),
        }
    }
}
