//! A copy of an archive's newest generations on another medium, to be kept apart.
//!
//! The copy is an archive itself, with the same objects and manifests, and can be verified as one. A note
//! ([`Note`]) beside them says with which generation it begins, and until when its keys may be kept.
//!
//! Invariants
//! - All objects come before the first new manifest: a copy that was cut off ends where it did before, and goes on with the
//!   next run, which sends what is not there yet. Manifests are small, and come one after the other.
//! - The copy has one key ledger, its newest manifest's. A run that brings a newer one deletes the former, last of all.
//! - A copy of another archive is not gone on with, be it of the same cluster: it may be the last of what that had.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use kura_cluster::archive::keys::{LEDGER_BYTES_MAX, Ledger};
use kura_cluster::archive::{Fault, Manifest, ObjectName, Sha256Hash};
use prost::Message;
use sha2::{Digest, Sha256};

use super::catalog::{self, CatalogError};
use super::replay::{Event, Tell};
use super::store::{ArchiveStore, StoreError};
use super::unfinished::remove_unfinished;

/// The note's object.
const NOTE: &str = "export";
const NOTE_BYTES_MAX: u64 = 4096;
const FORMAT: u32 = 1;
/// How often a ledger is followed that is replaced while it is copied.
const LEDGER_TRIES: usize = 10;

/// What a copy says of itself. Not signed: what it holds is.
#[derive(Clone, PartialEq, Message)]
pub struct Note {
    /// 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The generation with which it begins.
    #[prost(uint64, tag = "2")]
    pub first_generation: u64,
    /// When it was last brought up to date, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub made_ms: u64,
    /// From then on its keys must not be kept: bring it up to date, or destroy it.
    #[prost(uint64, tag = "4")]
    pub expires_ms: u64,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Either storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive's manifests.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An object of the archive is not what it should be.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// The archive is empty.
    #[error("the archive has no manifest")]
    Empty,
    /// The target is a copy of another archive of this cluster.
    #[error(
        "{0} holds a copy of another archive of this cluster, which may be the last of what that one had: choose an empty \
         directory, and destroy the other copy once it is needed no more"
    )]
    OtherArchive(String),
    /// The target is something else.
    #[error("{0} holds something that is no copy of this archive: choose an empty directory, or the copy made before")]
    Target(String),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Generations in the copy.
    pub generations: u64,
    /// The first of them.
    pub first_generation: u64,
    /// Last log index in it.
    pub index: u64,
    /// Objects sent.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of generations that the copy no longer keeps, of former ledgers, and what an export that was killed left
    /// unfinished: deleted.
    pub deleted: u64,
}

/// The note of a copy; `None` if the archive is none.
pub async fn note(store: &ArchiveStore) -> Result<Option<Note>, StoreError> {
    match store.get(NOTE, NOTE_BYTES_MAX).await {
        Ok(bytes) => Ok(Note::decode(bytes).ok().filter(|note| note.format == FORMAT)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies the newest `generations` of an archive into a directory that is empty or holds an earlier copy.
///
/// # Errors
/// [`ExportError`]. What was copied stays; run it again.
pub async fn export(
    from: &ArchiveStore,
    to: &ArchiveStore,
    generations: usize,
    (now_ms, expires_ms): (u64, u64),
    tell: Tell<'_>,
) -> Result<Exported, ExportError> {
    let all = catalog::generations(from).await?;
    let wanted = &all[all.len().saturating_sub(generations.max(1))..];
    let Some(first_generation) = wanted.first().copied() else { return Err(ExportError::Empty) };
    check_target(from, to).await?;
    let mut exported = Exported { generations: wanted.len() as u64, first_generation, ..Exported::default() };
    let note = Note { format: FORMAT, first_generation, made_ms: now_ms, expires_ms };
    to.replace(NOTE, note.encode_to_vec().into()).await?;

    // The keys before the manifest that names them; those of before go last.
    let (newest, keys) = copy_keys(from, to, &mut exported, tell).await?;
    let mut needed = BTreeSet::new();
    let mut manifests = Vec::new();
    for generation in wanted {
        for sequence in catalog::manifests(from, *generation).await? {
            // Not beyond the ledger that was read.
            if sequence > newest.sequence {
                continue;
            }
            tell(Event::Doing(format!("manifest {sequence}")));
            let bytes = catalog::bytes(from, *generation, sequence).await?;
            let manifest = catalog::manifest(from, *generation, sequence).await?.signed.manifest;
            let dictionaries = manifest.dictionaries.iter().map(|sha256| ObjectName::Dictionary(*sha256));
            for name in manifest.objects().into_iter().map(|(name, _)| name).chain(dictionaries) {
                if needed.insert(name) {
                    copy(from, to, &name, &mut exported, tell).await?;
                }
            }
            manifests.push((manifest.name().to_string(), bytes));
            exported.index = manifest.index();
        }
    }
    for (name, bytes) in manifests {
        match to.put_new(&name, bytes).await {
            Err(StoreError::Exists { .. }) => {}
            put => {
                put?;
                exported.objects += 1;
            }
        }
    }
    for folder in ObjectName::FOLDERS {
        let mut listed = to.list(folder);
        while let Some((text, _)) = listed.try_next().await? {
            let goes = match ObjectName::parse(&text) {
                Some(ObjectName::Manifest { generation, .. }) => !wanted.contains(&generation),
                Some(name @ ObjectName::Keys(_)) => !keys.contains(&name),
                Some(name) => !needed.contains(&name),
                None => false,
            };
            if goes {
                to.delete(&text).await?;
                exported.deleted += 1;
            }
        }
    }
    // The medium may be taken away now: what was deleted is to be gone from it.
    exported.deleted += remove_unfinished(to).await?;
    Ok(exported)
}

/// A target is empty, or a copy of the same cluster's archive.
async fn check_target(from: &ArchiveStore, to: &ArchiveStore) -> Result<(), ExportError> {
    let refused = || ExportError::Target(to.place().to_owned());
    let newest = catalog::newest(from).await?.ok_or(ExportError::Empty)?.signed.manifest;
    if note(to).await?.is_some() {
        return match catalog::newest(to).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) if found.signed.manifest.head.cluster_id == newest.head.cluster_id => {
                check_chain(from, to).await
            }
            _ => Err(refused()),
        };
    }
    let (folders, objects) = to.entries("").await?;
    if folders.is_empty() && objects.is_empty() { Ok(()) } else { Err(refused()) }
}

/// What a copy holds is of this archive: where both have a generation they have the same; a copy with none of them ends
/// with one that has expired here.
async fn check_chain(from: &ArchiveStore, to: &ArchiveStore) -> Result<(), ExportError> {
    let other = || ExportError::OtherArchive(to.place().to_owned());
    let here: BTreeSet<u64> = catalog::generations(from).await?.into_iter().collect();
    let copied = catalog::generations(to).await?;
    for generation in copied.iter().filter(|generation| here.contains(generation)) {
        let ours = catalog::bytes(from, *generation, *generation).await;
        let theirs = catalog::bytes(to, *generation, *generation).await;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours != theirs => return Err(other()),
            _ => {}
        }
    }
    let is_shared = copied.iter().any(|generation| here.contains(generation));
    let ended_before = copied.last().is_none_or(|last| here.first().is_none_or(|first| last < first));
    if is_shared || ended_before { Ok(()) } else { Err(other()) }
}

/// Copies the newest manifest's ledger; answers that manifest and the ledger's objects. A ledger that is replaced
/// meanwhile is followed by the next one, of which less is new.
async fn copy_keys(
    from: &ArchiveStore,
    to: &ArchiveStore,
    exported: &mut Exported,
    tell: Tell<'_>,
) -> Result<(Manifest, BTreeSet<ObjectName>), ExportError> {
    let mut tries = 0;
    loop {
        let newest = catalog::newest(from).await?.ok_or(ExportError::Empty)?.signed.manifest;
        match copy_ledger(from, to, &newest, exported, tell).await {
            Ok(keys) => return Ok((newest, keys)),
            Err(ExportError::Fault(_) | ExportError::Store(StoreError::Missing { .. })) if tries < LEDGER_TRIES => {
                tries += 1;
                let now = catalog::newest(from).await?.ok_or(ExportError::Empty)?.signed.manifest;
                if now.sequence == newest.sequence {
                    tries = LEDGER_TRIES;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn copy_ledger(
    from: &ArchiveStore,
    to: &ArchiveStore,
    newest: &Manifest,
    exported: &mut Exported,
    tell: Tell<'_>,
) -> Result<BTreeSet<ObjectName>, ExportError> {
    let name = ObjectName::Keys(newest.ledger.sha256);
    let encoded = from.get(&name.to_string(), LEDGER_BYTES_MAX as u64).await?;
    let ledger = Ledger::decode(&encoded)
        .map_err(|error| ExportError::Fault(Box::new(Fault::Ledger { name, why: error.to_string() })))?;
    let mut keys = BTreeSet::from([name]);
    keys.extend(ledger.buckets.iter().map(|bucket| ObjectName::Keys(bucket.sha256)));
    for name in &keys {
        copy(from, to, name, exported, tell).await?;
    }
    Ok(keys)
}

/// Copies an object whose name is its hash, unless it is there.
async fn copy(
    from: &ArchiveStore,
    to: &ArchiveStore,
    name: &ObjectName,
    exported: &mut Exported,
    tell: Tell<'_>,
) -> Result<(), ExportError> {
    let text = name.to_string();
    let bytes = match from.length(&text).await? {
        Some(bytes) => bytes,
        None => return Err(ExportError::Fault(Box::new(Fault::Missing { name: *name }))),
    };
    if to.length(&text).await? == Some(bytes) {
        return Ok(());
    }
    let (_, mut pieces) = from.stream(&text).await?;
    let mut hash = Sha256::new();
    let mut target = to.begin(&text);
    while let Some(piece) = pieces.try_next().await? {
        hash.update(&piece);
        tell(Event::Bytes(piece.len() as u64));
        target.put(piece).await?;
    }
    if name.sha256() != Some(Sha256Hash::from(hash.finalize())) {
        target.abort().await;
        return Err(ExportError::Fault(Box::new(Fault::Altered { name: *name })));
    }
    target.finish().await?;
    exported.objects += 1;
    exported.bytes += bytes;
    Ok(())
}
