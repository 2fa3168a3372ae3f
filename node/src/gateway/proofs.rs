//! The journal as anybody can check it: heads, proofs, sealed entries. Opens nothing and needs no key.
//!
//! Invariants
//! - Everything is told as it stands on this member. A size that it has not reached yet is no fault of the
//!   caller's: another member may have it.
//! - One call reads a bounded number of rows.

use bytes::Bytes;
use kura_cluster::row::{RowKey, Table};
use kura_cluster::tree::{self, Hash, NODES_READ_MAX, Nodes, ProofError};
use kura_proto::v1;

use super::attempt::{broken, damaged};
use super::{Gateway, GatewayError};
use crate::state::database::Snapshot;

/// Sealed entries of one reply.
pub const SEALED_ENTRIES_MAX: u64 = 4096;
/// Bytes of sealed entries of one reply, unless the first alone has more.
const SEALED_BYTES_MAX: usize = 1 << 20;
/// Sealed entries read at a time.
const SCAN_ROWS: u64 = 256;

impl Gateway {
    /// The newest head that this member knows, and those `signed` by members, which lag behind it.
    pub fn journal_head(&self, cluster_id: &[u8; 16], signed: Vec<Bytes>) -> v1::HeadReply {
        let published = self.store.published();
        let journal = &published.summary.journal;
        let head = v1::JournalHead {
            timeline: published.summary.timeline,
            index: published.index(),
            size: journal.size(),
            root: Bytes::copy_from_slice(&journal.root()),
        };
        v1::HeadReply {
            cluster_id: Bytes::copy_from_slice(cluster_id),
            node: self.name.clone(),
            head: Some(head),
            signed,
        }
    }

    /// Shows that the journal of one size is the beginning of that of another.
    pub fn consistency(&self, request: &v1::ConsistencyRequest) -> Result<v1::ConsistencyReply, GatewayError> {
        if request.from > request.to {
            return Err(GatewayError::invalid("from", "is beyond `to`"));
        }
        self.on_journal_of(request.to, |stored| {
            let proof = tree::consistency(stored, request.from, request.to).map_err(unproven)?;
            let peaks = tree::peaks(stored, request.from).map_err(unproven)?;
            Ok(v1::ConsistencyReply { proof: wire(&proof), peaks: wire(peaks.hashes()) })
        })
    }

    /// Shows that an entry is in the journal.
    pub fn inclusion(&self, request: &v1::InclusionRequest) -> Result<v1::InclusionReply, GatewayError> {
        if request.position >= request.size {
            return Err(GatewayError::invalid("position", "is not below `size`"));
        }
        self.on_journal_of(request.size, |stored| {
            let proof = tree::inclusion(stored, request.position, request.size).map_err(unproven)?;
            let entry = stored.entries(request.position, 1)?.remove(0);
            Ok(v1::InclusionReply { proof: wire(&proof), entry })
        })
    }

    /// Sealed entries from a position on.
    pub fn sealed(&self, request: &v1::SealedRequest) -> Result<v1::SealedReply, GatewayError> {
        if request.from > request.to {
            return Err(GatewayError::invalid("from", "is beyond `to`"));
        }
        self.on_journal_of(request.to, |stored| {
            let end = request.to.min(request.from.saturating_add(SEALED_ENTRIES_MAX));
            let (mut next, mut bytes) = (request.from, 0);
            let mut reply = v1::SealedReply::default();
            while next < end {
                for entry in stored.entries(next, SCAN_ROWS.min(end - next))? {
                    bytes += entry.len();
                    if bytes > SEALED_BYTES_MAX && next > request.from {
                        return Ok(reply);
                    }
                    reply.entries.push(entry);
                    next += 1;
                }
            }
            Ok(reply)
        })
    }

    /// Reads a journal that has at least `size` entries.
    fn on_journal_of<T>(
        &self,
        size: u64,
        read: impl FnOnce(&StoredTree<'_>) -> Result<T, GatewayError>,
    ) -> Result<T, GatewayError> {
        // In this order: the database has at least what was published.
        let present = self.store.published().summary.journal.size();
        let database = self.store.database();
        if size > present {
            return Err(GatewayError::Unavailable { why: "this node's journal is shorter than that".into() });
        }
        tokio::task::block_in_place(|| read(&StoredTree(&database.snapshot())))
    }
}

/// What a member has stored of the tree, at one moment.
struct StoredTree<'s>(&'s Snapshot<'s>);

impl StoredTree<'_> {
    /// Exactly `count` values of neighbouring rows: those of `prefix` after the key `after`, which must be at `at`.
    fn values(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        first: u64,
        count: u64,
        at: impl Fn(u64) -> RowKey,
    ) -> Result<Vec<Bytes>, GatewayError> {
        let rows = usize::try_from(count).unwrap_or(usize::MAX);
        let found = self.0.scan(prefix, after.map(|key| &key.as_bytes()[..]), rows).map_err(broken)?;
        let expected = (first..first + count).map(at);
        if let Some(missing) = (expected.enumerate()).find(|(i, key)| found.get(*i).is_none_or(|(k, _)| k != key)) {
            return Err(damaged(&missing.1));
        }
        Ok(found.into_iter().map(|(_, row)| row.value).collect())
    }

    fn entries(&self, first: u64, count: u64) -> Result<Vec<Bytes>, GatewayError> {
        let after = first.checked_sub(1).map(RowKey::journal);
        self.values(&RowKey::whole_table(Table::Journal), after.as_ref(), first, count, RowKey::journal)
    }
}

impl Nodes for StoredTree<'_> {
    type Error = GatewayError;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, GatewayError> {
        debug_assert!(count <= NODES_READ_MAX);
        if level == 0 {
            return Ok(self.entries(first, count)?.iter().map(|entry| tree::leaf_hash(entry)).collect());
        }
        let at = |index| RowKey::journal_tree(level, index);
        let after = first.checked_sub(1).map_or_else(|| RowKey::journal_tree(level - 1, u64::MAX), at);
        let prefix = RowKey::whole_table(Table::JournalTree);
        let values = self.values(&prefix, Some(&after), first, count, at)?;
        let hash = |value: &Bytes| value[..].try_into().map_err(|_| damaged(&at(first)));
        values.iter().map(hash).collect()
    }
}

fn unproven(error: ProofError<GatewayError>) -> GatewayError {
    match error {
        ProofError::Nodes(error) => error,
        // Sizes and positions were checked.
        ProofError::OutOfRange => GatewayError::Damaged { what: Table::JournalTree.word() },
    }
}

fn wire(hashes: &[Hash]) -> Vec<Bytes> {
    hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}
