//! This member's heads and the other members', and how they compare.
//!
//! The state machine notes a head at every entry that makes one; it is signed, kept here, told to the
//! others, and compared with theirs at the same log index.
//!
//! Invariants
//! - Only heads of one cluster, timeline and index are compared, and only those whose signature was
//!   verified with the member's key. A comparison that could not be made is [`Agreement::Unknown`], never
//!   equal; an equal one counts for [`FRESH`].
//! - A difference is never forgotten while the process lives, whatever comes later.
//! - At most [`HEADS_KEPT`] heads of each member are kept, and those at the newest snapshot's index.

mod witness;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::head::{Comparison, Head, HeadError, SignedHead};
use tokio::sync::Notify;

use crate::raft::types::NodeId;

pub use witness::{Claim, Testimony, hear};

/// Heads kept of each member: a quarter of a million entries under load, minutes when idle.
pub const HEADS_KEPT: usize = 256;
/// Heads told in one answer.
pub const HEADS_TOLD_MAX: usize = 64;
/// How long an equal comparison counts: four times the longest that a leader lets pass without a head.
pub const FRESH: Duration = Duration::from_secs(60);

/// How another member's state stands to this one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// The same at this log index, as of less than [`FRESH`] ago.
    Equal {
        /// The index.
        index: u64,
    },
    /// Not the same at this log index: one of the two is wrong.
    Different {
        /// The first index at which that was found.
        index: u64,
        /// Words of the tables that differ.
        tables: Vec<&'static str>,
    },
    /// Nothing can be said now.
    Unknown {
        /// The index of the last equal comparison; 0 if there was none.
        last_equal: u64,
    },
}

#[derive(Debug)]
struct Kept {
    head: Head,
    /// As it travels; `None` for an own head that the node's key cannot sign.
    encoded: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Other {
    heads: BTreeMap<u64, Kept>,
    equal: Option<(u64, Instant)>,
    different: Option<(u64, Vec<&'static str>)>,
}

#[derive(Debug, Default)]
struct Inner {
    own: BTreeMap<u64, Kept>,
    others: BTreeMap<NodeId, Other>,
    pinned: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Heads {
    inner: Mutex<Inner>,
    taken: Notify,
}

impl Heads {
    /// Keeps an own head, signed if the node's key can, and compares it with the others' at its index.
    /// Answers the members that turn out to differ.
    pub fn note(&self, head: Head, signed: Option<SignedHead>) -> Vec<NodeId> {
        let mut inner = self.inner();
        let Inner { own, others, pinned } = &mut *inner;
        let differing = others.iter_mut().filter_map(|(id, other)| {
            let theirs = other.heads.get(&head.index)?;
            compare(&head, &theirs.head, &mut other.equal, &mut other.different).then_some(*id)
        });
        let differing = differing.collect();
        keep(own, *pinned, head, signed.map(|signed| signed.encode().into()));
        differing
    }

    /// Verifies and keeps a head of another member, and compares it with the own one at its index.
    /// `keys` are those with which the member may show itself. Answers whether the two turn out to
    /// differ.
    ///
    /// # Errors
    /// Why it proves nothing; then nothing is kept.
    pub fn take(&self, id: NodeId, keys: impl Iterator<Item = [u8; 32]>, encoded: Bytes) -> Result<bool, HeadError> {
        let signed = SignedHead::decode(&encoded)?;
        let shown = signed.key_sha256();
        let key = keys.into_iter().find(|key| *key == shown).ok_or(HeadError::OtherKey)?;
        signed.verify(&key)?;
        let mut inner = self.inner();
        let Inner { own, others, pinned } = &mut *inner;
        let other = others.entry(id).or_default();
        let differs = own
            .get(&signed.head.index)
            .is_some_and(|own| compare(&own.head, &signed.head, &mut other.equal, &mut other.different));
        keep(&mut other.heads, *pinned, signed.head, Some(encoded));
        drop(inner);
        self.taken.notify_waiters();
        Ok(differs)
    }

    /// Own signed heads beyond a log index, the lowest first, at most [`HEADS_TOLD_MAX`].
    pub fn after(&self, index: u64) -> Vec<Bytes> {
        let inner = self.inner();
        let beyond = index.saturating_add(1)..;
        inner.own.range(beyond).filter_map(|(_, kept)| kept.encoded.clone()).take(HEADS_TOLD_MAX).collect()
    }

    /// Index of the newest head of a member; 0 if there is none.
    pub fn newest_of(&self, id: NodeId) -> u64 {
        let inner = self.inner();
        inner.others.get(&id).and_then(|other| other.heads.last_key_value()).map_or(0, |(index, _)| *index)
    }

    /// Index of the newest own head; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.inner().own.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// The newest head of a member, as it signed it.
    pub fn newest_signed_of(&self, id: NodeId) -> Option<Bytes> {
        self.inner().others.get(&id)?.heads.values().rev().find_map(|kept| kept.encoded.clone())
    }

    /// How a member stands to this one at a moment.
    pub fn agreement(&self, id: NodeId, now: Instant) -> Agreement {
        let inner = self.inner();
        let Some(other) = inner.others.get(&id) else { return Agreement::Unknown { last_equal: 0 } };
        match (&other.different, other.equal) {
            (Some((index, tables)), _) => Agreement::Different { index: *index, tables: tables.clone() },
            (None, Some((index, at))) if now.saturating_duration_since(at) < FRESH => Agreement::Equal { index },
            (None, equal) => Agreement::Unknown { last_equal: equal.map_or(0, |(index, _)| index) },
        }
    }

    /// The newest signed head of every member, this one's first.
    pub fn newest_of_all(&self) -> Vec<Bytes> {
        let inner = self.inner();
        let all = std::iter::once(&inner.own).chain(inner.others.values().map(|other| &other.heads));
        all.filter_map(|heads| heads.values().rev().find_map(|kept| kept.encoded.clone())).collect()
    }

    /// Keeps the heads at a snapshot's index as long as it is the newest: they witness it when it is sent.
    pub fn pin(&self, index: u64) {
        self.inner().pinned = Some(index);
    }

    /// Every member's signed head at a log index, this one's first.
    pub fn at(&self, index: u64) -> Vec<Bytes> {
        let inner = self.inner();
        let all = std::iter::once(&inner.own).chain(inner.others.values().map(|other| &other.heads));
        all.filter_map(|heads| heads.get(&index)?.encoded.clone()).collect()
    }

    /// Waits until another member than `but` has told its head at a log index, or until the deadline. Does
    /// not wait where no head was ever made.
    pub async fn wait_for_witness(&self, index: u64, but: NodeId, deadline: Instant) {
        loop {
            let taken = self.taken.notified();
            if self.newest() == 0 || self.has_witness(index, but) {
                return;
            }
            if tokio::time::timeout_at(deadline.into(), taken).await.is_err() {
                return;
            }
        }
    }

    fn has_witness(&self, index: u64, but: NodeId) -> bool {
        self.inner().others.iter().any(|(id, other)| *id != but && other.heads.contains_key(&index))
    }

    /// Forgets members that are no more.
    pub fn keep_members(&self, is_member: impl Fn(NodeId) -> bool) {
        self.inner().others.retain(|id, _| is_member(*id));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes how two heads compare; `true` if a difference is new.
fn compare(
    own: &Head,
    theirs: &Head,
    equal: &mut Option<(u64, Instant)>,
    different: &mut Option<(u64, Vec<&'static str>)>,
) -> bool {
    match own.compare(theirs) {
        Comparison::Equal => *equal = Some((own.index, Instant::now())),
        Comparison::Different(tables) if different.is_none() => {
            *different = Some((own.index, tables));
            return true;
        }
        Comparison::Different(_) | Comparison::Incomparable => {}
    }
    false
}

fn keep(heads: &mut BTreeMap<u64, Kept>, pinned: Option<u64>, head: Head, encoded: Option<Bytes>) {
    heads.insert(head.index, Kept { head, encoded });
    while heads.len() > HEADS_KEPT {
        let Some(oldest) = heads.keys().find(|index| Some(**index) != pinned).copied() else { return };
        heads.remove(&oldest);
    }
}

#[cfg(test)]
mod tests;
