//! The check of an archive by its writer: every manifest, and every object's content held against the hash in its name.
//! What is damaged is made again by the writer, if it still has what it takes ([`Mends`]); all else is named.
//!
//! Invariants
//! - Memory does not grow with the archive: one manifest at a time, and the hashes of one base's files. Findings that
//!   are told in words are the first [`TOLD_MAX`], the rest is counted.
//! - It reads at a pace that the caller sets, and writes nothing itself: the writer is the only one that does, so
//!   that nothing is put back that it has just deleted.
//! - A check that could not be carried through is an error, never whole.
//! - What expires while it is looked at is no finding.
//! - The newest manifest's signer is one whom the cluster knows, and vouches for all before it; else that is the finding.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use kura_cluster::archive::keys::{LEDGER_BYTES_MAX, Ledger};
use kura_cluster::archive::manifest::{MANIFEST_BYTES_MAX, SegmentRef};
use kura_cluster::archive::{Fault, Manifest, ObjectName, Sha256Hash};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::catalog::{self, CatalogError};
use super::signers::Signers;
use super::store::{ArchiveStore, StoreError};

/// The object in which the writer leaves what it found last: in the form of the file beside its data, and not signed.
pub const NOTE: &str = "checked";
/// Findings that are told in words.
pub const TOLD_MAX: usize = 20;
/// How often manifests are read anew because a generation began meanwhile.
const CHAIN_TRIES: usize = 5;
/// How often the ledger is looked for, each time that of a newer manifest.
const LEDGER_LOOKS: usize = 10;
/// Objects in a row that cannot be read: then it is the storage that fails, not they.
const UNREADABLE_MAX: usize = 3;
/// Objects that wait to be made again; the check waits for each.
const MENDS_WAITING: usize = 1;
/// How long the writer may take over one.
const MEND_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Why a check was not carried through.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing yet.
    #[error("the archive has no manifest")]
    Empty,
    /// Generations began faster than their manifests could be read.
    #[error("generations begin faster than their manifests are read")]
    Moving,
}

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub bytes: u64,
    /// Of a segment: its timeline, and what its manifest says of it.
    pub segment: Option<(u64, SegmentRef)>,
}

/// A request to the writer to make an object again. The answer: why it cannot.
#[derive(Debug)]
pub struct Mend {
    /// Which object.
    pub damaged: Damaged,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct Mends(mpsc::Sender<Mend>);

impl Mends {
    /// A way, and where the writer takes requests from.
    pub fn channel() -> (Mends, mpsc::Receiver<Mend>) {
        let (sender, receiver) = mpsc::channel(MENDS_WAITING);
        (Mends(sender), receiver)
    }

    async fn ask(&self, damaged: Damaged) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.send(Mend { damaged, answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(MEND_TIMEOUT, asked).await {
            Ok(Some(done)) => done,
            Ok(None) => Err("the archive's writer has ended: see its trouble".into()),
            Err(_) => Err("the archive's writer does not get to it: see its trouble".into()),
        }
    }
}

/// Keeps a check to a rate, and tells how far it is.
pub struct Pace<'t> {
    bytes_per_second: u64,
    began: Instant,
    done: u64,
    tell: &'t (dyn Fn(u64) + Sync),
}

impl<'t> Pace<'t> {
    /// `tell` hears how many bytes were read so far.
    pub fn new(bytes_per_second: u64, tell: &'t (dyn Fn(u64) + Sync)) -> Pace<'t> {
        Pace { bytes_per_second: bytes_per_second.max(1), began: Instant::now(), done: 0, tell }
    }

    async fn read(&mut self, bytes: u64) {
        self.done += bytes;
        (self.tell)(self.done);
        let due = Duration::from_millis(self.done.saturating_mul(1000) / self.bytes_per_second);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Log index of the newest manifest when it began.
    pub index: u64,
    /// Objects looked at, manifests among them.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What was damaged or missing, and was made again.
    pub mended: u64,
    /// What is still wrong.
    pub faults: u64,
    /// Both in words, what is still wrong first; at most [`TOLD_MAX`].
    pub words: Vec<String>,
}

/// One check on its way.
struct Check<'a, 't> {
    store: &'a ArchiveStore,
    mends: &'a Mends,
    pace: Pace<'t>,
    found: Found,
    mended: Vec<String>,
    unreadable: usize,
    /// The writer did not answer once; it is not waited for again.
    gave_up: bool,
}

/// Checks an archive.
///
/// # Errors
/// [`CheckError`]; what is wrong with the archive stands in what was found.
pub async fn check(
    store: &ArchiveStore,
    signers: &Signers,
    mends: &Mends,
    pace: Pace<'_>,
) -> Result<Found, CheckError> {
    let (newest, unknown) = match catalog::newest(store).await {
        Ok(found) => {
            let signed = found.ok_or(CheckError::Empty)?.signed;
            (signed.manifest.index(), signers.check(&signed).err())
        }
        Err(CatalogError::Store(error)) => return Err(error.into()),
        // The chain tells.
        Err(_) => (0, None),
    };
    let found = Found { index: newest, ..Found::default() };
    let mut check = Check { store, mends, pace, found, mended: Vec::new(), unreadable: 0, gave_up: false };
    match unknown {
        None => {
            check.chain().await?;
            check.contents().await?;
            check.ledger().await?;
        }
        // What it names is nobody's whom the cluster knows: nothing of it is made again.
        Some(unknown) => check.fault(format!("{unknown}. What the archive holds was not looked at")),
    }
    let Check { mut found, mended, pace, .. } = check;
    found.bytes = pace.done;
    found.words.extend(mended);
    found.words.truncate(TOLD_MAX);
    Ok(found)
}

impl Check<'_, '_> {
    fn fault(&mut self, words: String) {
        tracing::error!("the archive: {words}");
        self.found.faults += 1;
        if self.found.words.len() < TOLD_MAX {
            self.found.words.push(words);
        }
    }

    /// All manifests, each the one that the next names.
    async fn chain(&mut self) -> Result<(), CheckError> {
        for _ in 0..CHAIN_TRIES {
            let generations = catalog::generations(self.store).await?;
            let mut chain = catalog::chain(self.store, None, &[]).await?;
            let (mut faults, mut objects) = (Vec::new(), 0);
            for generation in &generations {
                for sequence in catalog::manifests(self.store, *generation).await? {
                    if chain.is_expired(sequence) {
                        continue;
                    }
                    match catalog::bytes(self.store, *generation, sequence).await {
                        Ok(bytes) => {
                            chain.push(*generation, sequence, &bytes, &mut faults);
                            objects += 1;
                            self.pace.read(bytes.len() as u64).await;
                        }
                        // The next one tells that it is missing.
                        Err(error) if error.is_missing() => {}
                        Err(StoreError::Long { bytes: found, .. }) => {
                            let name = ObjectName::Manifest { generation: *generation, sequence };
                            faults.push(Fault::Longer { name, expected: MANIFEST_BYTES_MAX as u64, found });
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            // What began meanwhile may have let others expire.
            if faults.is_empty() || catalog::generations(self.store).await? == generations {
                self.found.objects += objects;
                for fault in faults {
                    self.fault(format!(
                        "{fault}; a manifest is made once: bring it back under its name from a copy of the archive, \
                         if there is one"
                    ));
                }
                return Ok(());
            }
        }
        Err(CheckError::Moving)
    }

    /// What the manifests name.
    async fn contents(&mut self) -> Result<(), CheckError> {
        // A file that two bases share, all between them share, too.
        let mut former: HashSet<Sha256Hash> = HashSet::new();
        for generation in catalog::generations(self.store).await? {
            for sequence in catalog::manifests(self.store, generation).await? {
                let manifest = match catalog::manifest(self.store, generation, sequence).await {
                    Ok(found) => found.signed.manifest,
                    Err(CatalogError::Store(error)) if !error.is_missing() => return Err(error.into()),
                    // Told by the chain, or expired since.
                    Err(_) => continue,
                };
                for segment in manifest.segments() {
                    let damaged = Damaged {
                        name: segment.name(),
                        bytes: segment.bytes,
                        segment: Some((manifest.head.timeline, *segment)),
                    };
                    self.look(damaged, Some(&manifest)).await?;
                }
                let Some(base) = manifest.base() else { continue };
                let mut files = HashSet::new();
                let headers = (base.key_headers_sha256, base.key_headers_bytes);
                for (sha256, bytes) in base.files.iter().map(|file| (file.sha256, file.bytes)).chain([headers]) {
                    if files.insert(sha256) && !former.contains(&sha256) {
                        let damaged = Damaged { name: ObjectName::File(sha256), bytes, segment: None };
                        self.look(damaged, Some(&manifest)).await?;
                    }
                }
                for sha256 in &manifest.dictionaries {
                    let name = ObjectName::Dictionary(*sha256);
                    // Manifests do not say how long they are.
                    let bytes = self.store.length(&name.to_string()).await?.unwrap_or(0);
                    self.look(Damaged { name, bytes, segment: None }, Some(&manifest)).await?;
                }
                former = files;
            }
        }
        Ok(())
    }

    /// The newest manifest's keys. A ledger that is replaced meanwhile is followed by the next one.
    async fn ledger(&mut self) -> Result<(), CheckError> {
        for look in 1.. {
            let newest = match catalog::newest(self.store).await {
                Ok(Some(found)) => found.signed.manifest,
                Err(CatalogError::Store(error)) => return Err(error.into()),
                // Told by the chain.
                _ => return Ok(()),
            };
            let name = ObjectName::Keys(newest.ledger.sha256);
            let list = Damaged { name, bytes: newest.ledger.bytes, segment: None };
            let mut wrong = Vec::new();
            match self.wrong(&list).await? {
                Some(words) => wrong.push((list, words)),
                None => {
                    let encoded = self.store.get(&name.to_string(), LEDGER_BYTES_MAX as u64).await?;
                    let buckets = match Ledger::decode(&encoded) {
                        Ok(ledger) => ledger.buckets,
                        Err(error) => {
                            wrong.push((list, format!("{name}: the key ledger: {error}")));
                            Vec::new()
                        }
                    };
                    for bucket in buckets {
                        let name = ObjectName::Keys(bucket.sha256);
                        let damaged = Damaged { name, bytes: bucket.bytes, segment: None };
                        if let Some(words) = self.wrong(&damaged).await? {
                            wrong.push((damaged, words));
                        }
                    }
                }
            }
            let is_replaced = !wrong.is_empty()
                && look < LEDGER_LOOKS
                && catalog::newest(self.store).await.ok().flatten().is_some_and(|later| {
                    let later = later.signed.manifest;
                    later.sequence > newest.sequence && later.ledger.sha256 != newest.ledger.sha256
                });
            if is_replaced {
                continue;
            }
            for (damaged, words) in wrong {
                self.mend(damaged, words, None).await?;
            }
            return Ok(());
        }
        Ok(())
    }

    async fn look(&mut self, damaged: Damaged, manifest: Option<&Manifest>) -> Result<(), CheckError> {
        match self.wrong(&damaged).await? {
            None => Ok(()),
            Some(words) => self.mend(damaged, words, manifest).await,
        }
    }

    /// Has an object made again, and looks whether it is.
    async fn mend(&mut self, damaged: Damaged, words: String, manifest: Option<&Manifest>) -> Result<(), CheckError> {
        if let Some(manifest) = manifest
            && catalog::expired(self.store).await?.iter().any(|gap| (gap.first..=gap.last).contains(&manifest.sequence))
        {
            return Ok(());
        }
        let made = match self.gave_up {
            true => Err("the archive's writer did not answer before".into()),
            false => self.mends.ask(damaged.clone()).await,
        };
        let why = match made {
            Ok(()) => match self.wrong(&damaged).await? {
                None => {
                    tracing::error!(
                        "the archive: {words}; it was made again. Look at its storage: what has changed it?"
                    );
                    self.found.mended += 1;
                    if self.mended.len() < TOLD_MAX {
                        self.mended.push(format!("{words}; made again"));
                    }
                    return Ok(());
                }
                Some(still) => format!("it was made again, and then: {still}: the storage does not keep it"),
            },
            Err(why) => {
                self.gave_up |= why.contains("writer does not get to it");
                why
            }
        };
        let generation = manifest.map_or(String::new(), |manifest| format!(" of generation {}", manifest.generation));
        self.fault(format!("{words}{generation}; {why}"));
        Ok(())
    }

    /// What is wrong with an object, if anything is.
    async fn wrong(&mut self, object: &Damaged) -> Result<Option<String>, CheckError> {
        self.found.objects += 1;
        match self.read(object).await {
            Ok(fault) => {
                self.unreadable = 0;
                Ok(fault.map(|fault| fault.to_string()))
            }
            Err(error) => {
                self.unreadable += 1;
                if self.unreadable >= UNREADABLE_MAX { Err(error.into()) } else { Ok(Some(error.to_string())) }
            }
        }
    }

    async fn read(&mut self, object: &Damaged) -> Result<Option<Fault>, StoreError> {
        let (name, expected) = (object.name, object.bytes);
        let (found, mut pieces) = match self.store.stream(&name.to_string()).await {
            Err(error) if error.is_missing() => return Ok(Some(Fault::Missing { name })),
            other => other?,
        };
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => return Ok(Some(Fault::CutOff { name, expected, found })),
            std::cmp::Ordering::Greater => return Ok(Some(Fault::Longer { name, expected, found })),
            std::cmp::Ordering::Equal => {}
        }
        let mut hash = Sha256::new();
        while let Some(piece) = pieces.try_next().await? {
            hash.update(&piece);
            self.pace.read(piece.len() as u64).await;
        }
        let fits = name.sha256() == Some(hash.finalize().into());
        Ok((!fits).then_some(Fault::Altered { name }))
    }
}
