//! Custody of the root key on one voter: where it comes from, shares that are being gathered, and the next one
//! while a rotation is under way.
//!
//! Invariants
//! - Nothing here prints or logs a key or a share; what is gathered lies in memory alone, bounded, and is
//!   forgotten after a while.
//! - A next root key is durable here before anybody is told that it is: wrapped by the present one, so that it
//!   is no more open than the keyring itself.
//! - A file's key that is not known to be this cluster's is never destroyed: it may be another's only copy.
//! - The root key that a file holds is replaced only after the state that it opens is durable: whatever a
//!   restart finds, the provider's key or the next one opens it.

mod next;
mod provider;
mod recovery;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kura_cluster::seal::Key;
use kura_cluster::share::{CheckValue, Fingerprint, Gathered, Gathering, Share};
use kura_cluster::{ClusterId, Revision, hexadecimal};
use tokio::sync::Notify;

use crate::config::RootKeyConfig;
use crate::state::{Database, DatabaseError};
use crate::vault::VaultError;

pub use next::Next;
pub use provider::Provider;
pub use recovery::{Recovery, RecoveryError, Unwrapped, open_recovery, unwrap_recovery};
pub use rows::{Known, KnownEpoch, KnownSet, data_keys_by_epoch};

/// How long shares wait for further ones.
const GATHER_TIME: Duration = Duration::from_secs(60 * 60);

/// Why a share was not taken by this node.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Not a share, or one with a wrong word.
    #[error(transparent)]
    Share(#[from] kura_cluster::share::ShareError),
    /// Not one of the set, or not as it was given out.
    #[error(transparent)]
    Gather(#[from] kura_cluster::share::GatherError),
    /// A share of a set that this cluster does not have, or no longer has.
    #[error("this share is of the set {found}; wanted is one of {wanted}")]
    OtherSet {
        /// Its set.
        found: String,
        /// Those that this node knows of.
        wanted: String,
    },
    /// The node needs none.
    #[error("this node needs no shares: {0}")]
    NotNeeded(&'static str),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
}

/// How far the shares have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Different shares that are held.
    pub held: u8,
    /// How many restore the key.
    pub threshold: u8,
    /// Whether they came to the key.
    pub complete: bool,
}

/// See the module.
pub struct Custody {
    cluster_id: ClusterId,
    provider: Option<Provider>,
    next_file: PathBuf,
    held: Mutex<Held>,
    /// Wakes whoever unseals.
    wake: Notify,
}

#[derive(Default)]
struct Held {
    gathering: BTreeMap<Fingerprint, Gatherer>,
    /// The key that shares came to, and who submitted them.
    combined: Option<(Arc<Key>, Vec<String>)>,
    next: Option<Next>,
    /// The keyring's revision that is opened.
    opened: Option<Revision>,
    /// Check values of keys that were this cluster's root key.
    own: BTreeSet<CheckValue>,
    trouble: Option<&'static str>,
}

struct Gatherer {
    gathering: Gathering,
    /// Names of the certificates.
    submitters: Vec<String>,
    last: Instant,
}

impl std::fmt::Debug for Custody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Custody(…)")
    }
}

impl Custody {
    /// Custody on a node with this configuration and data directory.
    pub fn new(cluster_id: ClusterId, config: Option<&RootKeyConfig>, data: &Path) -> Custody {
        Custody {
            cluster_id,
            provider: config.map(Provider::new),
            next_file: data.join(next::FILE),
            held: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the root key comes from; `None` on a backup member, which has none.
    pub fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    /// The keyring's revision that is opened here.
    pub fn opened(&self) -> Option<Revision> {
        self.held().opened
    }

    /// Notes which revision of the keyring is opened, and by which key; what was gathered is not needed any more.
    pub fn note_opened(&self, revision: Revision, key: &Key) {
        let mut held = self.held();
        held.own.insert(key.check_value());
        held.opened = Some(revision);
        held.gathering.clear();
    }

    /// Waits until a share or a key has come.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The next root key, while a rotation is under way here.
    pub fn next(&self) -> Option<Next> {
        self.held().next.clone()
    }

    /// Whether there is a next root key, in memory or on the disk.
    pub fn has_next(&self) -> bool {
        self.held().next.is_some() || self.next_file.exists()
    }

    /// What is wrong with this node's provider, for the status.
    pub fn trouble(&self) -> Option<&'static str> {
        self.held().trouble
    }

    /// Takes the next root key: durable, wrapped by the present one, then in memory. Replaces an earlier one,
    /// of which the caller knows that it never came into use.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn take_next(&self, present: &Key, next: Next) -> Result<(), VaultError> {
        let mut held = self.held();
        next.write(&self.next_file, &self.cluster_id, present)?;
        held.next = Some(next);
        Ok(())
    }

    /// The next root key on the disk, if this root key wraps it.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn next_under(&self, present: &Key) -> Result<Option<Next>, VaultError> {
        Next::read(&self.next_file, &self.cluster_id, present)
    }

    /// Root keys that may open the keyring, best first. Reads files.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`] if the provider's or the next key's file is not in a known form.
    pub fn candidates(&self) -> Result<Vec<Arc<Key>>, VaultError> {
        let (combined, next) = {
            let held = self.held();
            (held.combined.as_ref().map(|(key, _)| key.clone()), held.next.clone())
        };
        let given = self.provider.as_ref().map_or(Ok(None), Provider::read)?.map(Arc::new);
        let mut keys: Vec<Arc<Key>> = combined.into_iter().chain(given).collect();
        let next = match next {
            Some(next) => Some(next),
            None => keys
                .iter()
                .find_map(|key| Next::read(&self.next_file, &self.cluster_id, key).transpose())
                .transpose()?,
        };
        if let Some(next) = next {
            keys.push(next.key.clone());
            self.held().next = Some(next);
        }
        Ok(keys)
    }

    /// Who submitted the shares that the keyring was opened with; told once.
    pub fn take_submitters(&self) -> Option<Vec<String>> {
        self.held().combined.take().map(|(_, names)| names)
    }

    /// Puts in order what lies on the disk, once the present root key has opened the keyring: a file is
    /// replaced, after the state was made durable; the next key goes when it is not needed any more. Blocks.
    ///
    /// # Errors
    /// [`VaultError`]; nothing that a restart needs is lost.
    pub fn settle(&self, present: &Key, database: &Database) -> Result<(), VaultError> {
        let Some(provider) = &self.provider else { return Ok(()) };
        // In this order: a next key that comes after the look at the state is not the one that may go.
        let before = self.next().map(|next| next.revision);
        let known = Known::read(database)?;
        if known.root_check_value != Some(present.check_value()) {
            // The keyring has just changed: first it is opened.
            return Ok(());
        }
        let there = provider.read()?;
        if provider.is_file() && there.as_ref() != Some(present) {
            database.flush()?;
            if let Some(there) = there.filter(|there| !self.was_own(there)) {
                let kept = provider.keep_aside(&there)?;
                tracing::warn!(
                    path = %kept.display(),
                    "the root key's file held a key that never opened this cluster's keyring here: it is kept in this file. Put \
                     it back where it belongs if it is another cluster's; delete it if it is a former one of this cluster"
                );
            }
            provider.replace(present)?;
            tracing::info!("the root key's file holds the present root key");
        }
        let given = provider.gives(present, &known)?;
        let mut held = self.held();
        held.trouble = match provider {
            Provider::Credential(_) if !given => Some("its credential is not the present root key: replace it"),
            _ => None,
        };
        let now = held.next.as_ref();
        let is_prepared = now.is_some_and(|next| known.prepared_check_value() == Some(next.key.check_value()));
        if is_prepared || now.map(|next| next.revision) != before {
            return Ok(());
        }
        // Not needed in memory: it is the present one by now, or can never come into use.
        held.next = None;
        if given && self.next_file.exists() {
            crate::vault::remove_if_there(&self.next_file)
                .map_err(|error| VaultError::RootKeyFile { path: self.next_file.clone(), why: error.to_string() })?;
        }
        Ok(())
    }

    /// Whether a key was this cluster's root key, as far as this node has seen: it opened the keyring, or it wraps the next
    /// key.
    fn was_own(&self, key: &Key) -> bool {
        self.held().own.contains(&key.check_value()) || matches!(self.next_under(key), Ok(Some(_)))
    }

    /// Takes a share that a holder submitted, by the name of the certificate. Answers how far it has come.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&self, bytes: &[u8], submitter: &str, database: &Database) -> Result<Submitted, SubmitError> {
        if self.provider.is_none() {
            return Err(SubmitError::NotNeeded("a backup member holds no keys"));
        }
        let share = Share::from_bytes(bytes)?;
        let known = Known::read(database)?;
        let base = next::base_check_value(&self.next_file);
        let mut held = self.held();
        if held.opened.is_some() {
            return Err(SubmitError::NotNeeded("it is unsealed"));
        }
        forget_old(&mut held);
        let sets = known.usable(base);
        let Some(found) = sets.iter().find(|set| set.fingerprint(&self.cluster_id) == share.set) else {
            let names: Vec<String> = sets.iter().map(|set| hexadecimal(set.fingerprint(&self.cluster_id))).collect();
            let wanted = if names.is_empty() { "no set that this node knows of".into() } else { names.join(", ") };
            return Err(SubmitError::OtherSet { found: hexadecimal(share.set), wanted });
        };
        let gatherer = held.gathering.entry(share.set).or_insert_with(|| Gatherer {
            gathering: Gathering::new(&self.cluster_id, found.clone()),
            submitters: Vec::new(),
            last: Instant::now(),
        });
        let gathered = gatherer.gathering.add(share)?;
        gatherer.last = Instant::now();
        if !gatherer.submitters.iter().any(|name| name == submitter) {
            gatherer.submitters.push(submitter.to_owned());
        }
        match gathered {
            Gathered::Waiting { held, threshold } => Ok(Submitted { held, threshold, complete: false }),
            Gathered::Key(key) => {
                let threshold = gatherer.gathering.threshold();
                let submitters = std::mem::take(&mut gatherer.submitters);
                held.gathering.clear();
                held.combined = Some((Arc::new(key), submitters));
                drop(held);
                self.wake.notify_one();
                Ok(Submitted { held: threshold, threshold, complete: true })
            }
        }
    }

    /// The most shares that are held of one set, and how many it takes; `None` if none are.
    pub fn gathered(&self) -> Option<(u8, u8)> {
        let mut held = self.held();
        forget_old(&mut held);
        held.gathering.values().map(|one| (one.gathering.held(), one.gathering.threshold())).max()
    }
}

fn forget_old(held: &mut Held) {
    held.gathering.retain(|_, one| one.last.elapsed() < GATHER_TIME);
}
