//! Keeping the key ledger: wrapped keys of the newest state, and of no other.
//!
//! Invariants
//! - A bucket is read at the very index of the manifest that will name it.
//! - What the newest manifest's ledger does not name is deleted: at once, and again at each start.

use std::collections::BTreeSet;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use kura_cluster::ClusterId;
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::keys::{Bucket, BucketRef, LEDGER_BYTES_MAX, Ledger, PARTICIPANT_BUCKETS, bucket_range};
use kura_cluster::archive::manifest::LedgerRef;
use sha2::{Digest, Sha256};

use super::store::{ArchiveStore, StoreError};
use crate::state::DatabaseError;
use crate::state::database::Snapshot;

/// Buckets written at the same time: a storage takes several in the time of one.
const BUCKETS_AT_ONCE: usize = 16;

/// Why the ledger could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The state cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which buckets may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Buckets(BTreeSet<u32>),
    /// Any.
    All,
}

/// A ledger and the name of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The ledger.
    pub ledger: Ledger,
    /// As manifests name it.
    pub reference: LedgerRef,
}

/// Reads the ledger that a manifest names; `None` if it is not there, or not what it should be: then it is
/// written anew.
pub async fn read(store: &ArchiveStore, reference: &LedgerRef) -> Result<Option<Kept>, StoreError> {
    let name = ObjectName::Keys(reference.sha256).to_string();
    let bytes = match store.get(&name, LEDGER_BYTES_MAX as u64).await {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. } | StoreError::Long { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let matches = <[u8; 32]>::from(Sha256::digest(&bytes)) == reference.sha256;
    let ledger = Ledger::decode(&bytes).ok().filter(|_| matches);
    Ok(ledger.map(|ledger| Kept { ledger, reference: *reference }))
}

/// The key rows of a bucket, at a view.
pub fn bucket(view: &Snapshot<'_>, number: u32) -> Result<Option<Bucket>, DatabaseError> {
    let Some((from, to)) = bucket_range(number) else { return Ok(None) };
    let mut rows = Vec::new();
    view.walk::<DatabaseError>(&from, &to, |key, row| {
        rows.push((Bytes::copy_from_slice(key), row));
        Ok(())
    })?;
    Ok((!rows.is_empty()).then_some(Bucket { rows }))
}

/// Writes the ledger of a view at `index`: buckets that have changed, then the list of all.
pub async fn write(
    store: &ArchiveStore,
    view: &Snapshot<'_>,
    cluster_id: ClusterId,
    (timeline, index): (u64, u64),
    before: Option<&Kept>,
    changed: &Changed,
) -> Result<Kept, LedgerError> {
    let numbers: Vec<u32> = match (before, changed) {
        (Some(_), Changed::Buckets(numbers)) => numbers.iter().copied().collect(),
        _ => (0..=PARTICIPANT_BUCKETS).collect(),
    };
    if let Some(before) = before
        && numbers.is_empty()
    {
        return Ok(before.clone());
    }
    let mut buckets: Vec<BucketRef> = match before {
        Some(before) => before.ledger.buckets.clone(),
        None => Vec::new(),
    };
    buckets.retain(|bucket| numbers.binary_search(&bucket.number).is_err());
    let written = stream::iter(numbers).map(async |number| {
        let Some(found) = tokio::task::block_in_place(|| bucket(view, number))? else { return Ok(None) };
        let encoded = Bytes::from(found.encode());
        let sha256 = Sha256::digest(&encoded).into();
        let reference = BucketRef { number, rows: found.rows.len() as u64, bytes: encoded.len() as u64, sha256 };
        store.put(&ObjectName::Keys(sha256), encoded).await?;
        Ok::<_, LedgerError>(Some(reference))
    });
    let mut written = pin!(written.buffer_unordered(BUCKETS_AT_ONCE));
    while let Some(reference) = written.try_next().await? {
        buckets.extend(reference);
    }
    buckets.sort_unstable_by_key(|bucket| bucket.number);
    if let Some(before) = before
        && before.ledger.buckets == buckets
    {
        return Ok(before.clone());
    }
    let ledger = Ledger { cluster_id, timeline, index, buckets };
    let encoded = Bytes::from(ledger.encode());
    let reference = LedgerRef { index, bytes: encoded.len() as u64, sha256: Sha256::digest(&encoded).into() };
    store.put(&ObjectName::Keys(reference.sha256), encoded).await?;
    Ok(Kept { ledger, reference })
}

/// The objects of a ledger.
fn objects(kept: &Kept) -> BTreeSet<ObjectName> {
    let buckets = kept.ledger.buckets.iter().map(|bucket| ObjectName::Keys(bucket.sha256));
    buckets.chain([ObjectName::Keys(kept.reference.sha256)]).collect()
}

/// Deletes what a former ledger had and the present one has not.
pub async fn forget(store: &ArchiveStore, former: &Kept, present: &Kept) -> Result<(), StoreError> {
    for name in objects(former).difference(&objects(present)) {
        store.delete(&name.to_string()).await?;
    }
    Ok(())
}

/// Deletes every key that the present ledger has not, also what a writer that was killed left behind.
pub async fn sweep(store: &ArchiveStore, present: &Kept) -> Result<u64, StoreError> {
    let kept = objects(present);
    let mut deleted = 0;
    let mut listed = store.list(ObjectName::KEYS);
    while let Some((name, _)) = listed.try_next().await? {
        if ObjectName::parse(&name).is_some_and(|name| !kept.contains(&name)) {
            store.delete(&name).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
