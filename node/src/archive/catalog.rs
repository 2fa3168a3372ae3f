//! Generations and manifests of an archive.

use kura_cluster::ClusterId;
use kura_cluster::archive::manifest::{Base, Gap, MANIFEST_BYTES_MAX, SignedManifest};
use kura_cluster::archive::{Chain, Fault, ManifestError, ObjectName, Sha256Hash};
use sha2::{Digest, Sha256};

use super::export;
use super::store::{ArchiveStore, StoreError};

/// Why an archive's catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest that has to be used is not usable.
    #[error("{name}: {source}")]
    Manifest {
        /// Its object.
        name: ObjectName,
        /// What is wrong.
        source: ManifestError,
    },
    /// A generation without the manifest of its base.
    #[error("generation {0} has no base: its first manifest is missing")]
    NoBase(u64),
}

impl CatalogError {
    /// Whether a manifest is missing or damaged, rather than the storage out of reach.
    pub fn is_of_the_object(&self) -> bool {
        match self {
            CatalogError::Store(error) => error.is_missing(),
            CatalogError::Manifest { .. } | CatalogError::NoBase(_) => true,
        }
    }
}

/// A manifest as it lies in the archive.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it says.
    pub signed: SignedManifest,
    /// SHA-256 of the object.
    pub sha256: Sha256Hash,
}

/// Numbers of the generations, ascending.
pub async fn generations(store: &ArchiveStore) -> Result<Vec<u64>, StoreError> {
    let (folders, _) = store.entries(ObjectName::MANIFESTS).await?;
    Ok(folders.iter().filter_map(|name| number(name)).collect())
}

/// Numbers of a generation's manifests, ascending.
pub async fn manifests(store: &ArchiveStore, generation: u64) -> Result<Vec<u64>, StoreError> {
    let (_, objects) = store.entries(&ObjectName::generation_folder(generation)).await?;
    Ok(objects.iter().filter_map(|name| number(name)).collect())
}

fn number(name: &str) -> Option<u64> {
    (name.len() == 20).then(|| name.parse().ok())?
}

/// A manifest's bytes.
pub async fn bytes(store: &ArchiveStore, generation: u64, sequence: u64) -> Result<bytes::Bytes, StoreError> {
    let name = ObjectName::Manifest { generation, sequence }.to_string();
    store.get(&name, MANIFEST_BYTES_MAX as u64).await
}

/// A manifest whose signature fits and that stands in its place.
pub async fn manifest(store: &ArchiveStore, generation: u64, sequence: u64) -> Result<Found, CatalogError> {
    let name = ObjectName::Manifest { generation, sequence };
    let bytes = bytes(store, generation, sequence).await?;
    let signed = SignedManifest::decode(&bytes).and_then(|signed| signed.verify().map(|()| signed));
    let signed = signed.map_err(|source| CatalogError::Manifest { name, source })?;
    match signed.manifest.name() == name {
        true => Ok(Found { signed, sha256: Sha256::digest(&bytes).into() }),
        false => Err(CatalogError::Manifest { name, source: ManifestError::Content("its numbers") }),
    }
}

/// The newest manifest; `None` in an empty archive.
pub async fn newest(store: &ArchiveStore) -> Result<Option<Found>, CatalogError> {
    for generation in generations(store).await?.into_iter().rev() {
        if let Some(sequence) = manifests(store, generation).await?.last() {
            return manifest(store, generation, *sequence).await.map(Some);
        }
    }
    Ok(None)
}

/// The base that a generation begins with.
pub async fn base(store: &ArchiveStore, generation: u64) -> Result<Base, CatalogError> {
    let found = manifest(store, generation, generation).await?;
    found.signed.manifest.base().cloned().ok_or(CatalogError::NoBase(generation))
}

/// What has expired, as the newest generation's base says; nothing if that cannot be read, which
/// [`Chain`] will tell.
pub async fn expired(store: &ArchiveStore) -> Result<Vec<Gap>, StoreError> {
    let Some(generation) = generations(store).await?.pop() else { return Ok(Vec::new()) };
    match base(store, generation).await {
        Ok(base) => Ok(base.expired),
        Err(CatalogError::Store(error)) if !error.is_missing() => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// The check of an archive's manifests, from its beginning on, or from where a copy begins.
///
/// # Errors
/// The storage's.
pub async fn chain(
    store: &ArchiveStore,
    cluster_id: Option<ClusterId>,
    trusted: &[Sha256Hash],
) -> Result<Chain, StoreError> {
    let chain = Chain::new(cluster_id, trusted.to_vec(), expired(store).await?);
    // A copy begins where it was told to.
    Ok(if export::note(store).await?.is_some() { chain.beginning_anywhere() } else { chain })
}

/// Reads a generation's manifests in order, checks them, and hands what is usable to `look`.
pub async fn follow(
    store: &ArchiveStore,
    chain: &mut Chain,
    generation: u64,
    faults: &mut Vec<Fault>,
    mut look: impl FnMut(Found),
) -> Result<(), StoreError> {
    for sequence in manifests(store, generation).await? {
        if chain.is_expired(sequence) {
            continue;
        }
        let bytes = bytes(store, generation, sequence).await?;
        if let Some(signed) = chain.push(generation, sequence, &bytes, faults) {
            look(Found { signed, sha256: Sha256::digest(&bytes).into() });
        }
    }
    Ok(())
}
