//! Letting generations expire: which ones, what only they need, and deleting that.
//!
//! Invariants
//! - Nothing is deleted before a manifest is published that says that it has expired.
//! - Nothing is deleted that a generation that stays names; if one of their manifests cannot be read, nothing
//!   is deleted at all.
//! - Only the writer deletes, and nothing is being sent while it does.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use kura_cluster::archive::ObjectName;
use kura_cluster::archive::keep::{Candidate, KeepRules, Reason, keep, with_gap};
use kura_cluster::archive::manifest::Gap;

use super::catalog::{self, CatalogError};
use super::store::{ArchiveStore, StoreError};

/// The folder of holds: an object for each, named like the generation.
pub const HOLDS: &str = "holds";

/// What stays and what goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Generations that stay, and why. The one being begun is not among them.
    pub kept: BTreeMap<u64, Vec<Reason>>,
    /// Generations that expire.
    pub expiring: Vec<u64>,
    /// All manifests that have expired then: for the next base's manifest.
    pub expired: Vec<Gap>,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The generations that somebody holds.
pub async fn holds(store: &ArchiveStore) -> Result<BTreeSet<u64>, StoreError> {
    let (_, objects) = store.entries(HOLDS).await?;
    Ok(objects.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Applies the rules to the generations that are there. `expired` is what has expired so far. If a generation is
/// about to begin, `begins` is it: it counts as the newest.
pub async fn plan(
    store: &ArchiveStore,
    rules: &KeepRules,
    expired: &[Gap],
    begins: Option<Candidate>,
) -> Result<Plan, CatalogError> {
    let held = holds(store).await?;
    let mut plan = Plan { expired: expired.to_vec(), ..Plan::default() };
    let mut candidates = Vec::new();
    for generation in catalog::generations(store).await? {
        // Left over from a sweep that was cut off.
        if plan.expired.iter().any(|gap| (gap.first..=gap.last).contains(&generation)) {
            plan.expiring.push(generation);
            continue;
        }
        match catalog::manifest(store, generation, generation).await {
            Ok(base) => {
                let clock_ms = base.signed.manifest.clock_ms;
                candidates.push(Candidate { generation, clock_ms, is_held: held.contains(&generation) });
            }
            // The writer's check and `kura archive verify` tell of it; it keeps no other from beginning.
            Err(error) if error.is_of_the_object() => drop(plan.kept.insert(generation, vec![Reason::Unreadable])),
            Err(error) => return Err(error),
        }
    }
    let present: Vec<u64> = candidates.iter().map(|candidate| candidate.generation).collect();
    candidates.extend(begins);
    let kept = keep(rules, &candidates);
    plan.kept.extend(kept.into_iter().filter(|(generation, _)| present.contains(generation)));
    for generation in present {
        if plan.kept.contains_key(&generation) {
            continue;
        }
        let sequences = catalog::manifests(store, generation).await?;
        let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else { continue };
        let base = catalog::manifest(store, generation, *first).await?;
        let last_found = match catalog::manifest(store, generation, *last).await {
            Err(error) if error.is_of_the_object() => {
                plan.kept.insert(generation, vec![Reason::Unreadable]);
                continue;
            }
            found => found?,
        };
        let gap = Gap {
            first: *first,
            last: *last,
            previous_sha256: base.signed.manifest.previous_sha256,
            last_sha256: last_found.sha256,
        };
        plan.expired = with_gap(&plan.expired, gap);
        plan.expiring.push(generation);
    }
    Ok(plan)
}

/// The objects that the generations which stay name.
pub async fn needed(store: &ArchiveStore, plan: &Plan) -> Result<BTreeSet<ObjectName>, CatalogError> {
    let mut needed = BTreeSet::new();
    for generation in catalog::generations(store).await? {
        if plan.expiring.contains(&generation) {
            continue;
        }
        for sequence in catalog::manifests(store, generation).await? {
            let manifest = catalog::manifest(store, generation, sequence).await?.signed.manifest;
            needed.extend(manifest.objects().into_iter().map(|(name, _)| name));
            needed.extend(manifest.dictionaries.iter().map(|sha256| ObjectName::Dictionary(*sha256)));
        }
    }
    Ok(needed)
}

/// What nothing that stays needs: names and lengths. Key rows are the ledger's to sweep.
pub async fn garbage(store: &ArchiveStore, plan: &Plan) -> Result<Vec<(String, u64)>, CatalogError> {
    let needed = needed(store, plan).await?;
    let mut garbage = Vec::new();
    for folder in [ObjectName::MANIFESTS, ObjectName::SEGMENTS, ObjectName::FILES, ObjectName::DICTIONARIES] {
        let mut listed = store.list(folder);
        while let Some((text, bytes)) = listed.try_next().await? {
            let goes = match ObjectName::parse(&text) {
                Some(ObjectName::Manifest { generation, .. }) => plan.expiring.contains(&generation),
                Some(name) => !needed.contains(&name),
                // Not ours to judge.
                None => false,
            };
            if goes {
                garbage.push((text, bytes));
            }
        }
    }
    Ok(garbage)
}

/// Deletes what nothing that stays needs: manifests last, so that a sweep that is cut off is gone on with.
pub async fn sweep(store: &ArchiveStore, plan: &Plan) -> Result<Swept, CatalogError> {
    if plan.expiring.is_empty() {
        return Ok(Swept::default());
    }
    let mut garbage = match garbage(store, plan).await {
        Err(error) if error.is_of_the_object() => {
            tracing::warn!(%error, "expired generations are not deleted: what another one needs cannot be told");
            return Ok(Swept::default());
        }
        garbage => garbage?,
    };
    garbage.sort_by_key(|(name, _)| name.starts_with(ObjectName::MANIFESTS));
    let mut swept = Swept::default();
    for (name, bytes) in garbage {
        store.delete(&name).await?;
        swept = Swept { objects: swept.objects + 1, bytes: swept.bytes + bytes };
    }
    Ok(swept)
}
