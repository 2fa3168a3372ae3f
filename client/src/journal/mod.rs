//! The journal as its users can hold the cluster to it: heads, proofs, sealed entries, lists.
//!
//! ```no_run
//! # async fn example(kura: kura_client::Client, receipt: kura_client::Receipt) -> Result<(), Box<dyn std::error::Error>> {
//! let journal = kura.journal();
//! // Every head is held against the last one that this client has seen.
//! match journal.head().await {
//!     Ok(head) => println!("{} entries, as they were", head.size()),
//!     Err(error) if error.is_alarm() => panic!("tell the auditors: {error}"),
//!     Err(error) => println!("not now: {error}"),
//! }
//! journal.includes(&receipt).await?; // the entry of a write is there, and is the one that was made for it
//! # Ok(())
//! # }
//! ```
//!
//! Invariants
//! - A head replaces the last one seen only with a proof that its journal begins with the other's.
//! - Head and proof come from one node in one attempt.

mod head;
mod list;
mod proof;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kura_proto::v1;

use crate::client::{Client, Shared, audit};
use crate::error::{Failed, Family, JournalError};
use crate::fault::{Failure, Invalid};
use crate::pages::{Listing, Page};
use crate::receipt::Receipt;

pub(crate) use head::Kept;
pub use head::{JournalHead, JournalHeadError};
pub use list::{FacilityAccesses, JournalList};
pub use proof::leaf as journal_leaf;

/// A journal that does not begin with the one that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRewritten {
    /// The head that was seen before.
    pub known: JournalHead,
    /// The head that does not follow from it.
    pub told: JournalHead,
    /// The node that told it, if it was asked for a head.
    pub node: Option<String>,
}

impl fmt::Display for JournalRewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, told, node } = self;
        write!(
            f,
            "the journal was rewritten: the {} entries that {} tells (timeline {}) do not begin with the {} that were \
             seen before (timeline {}). ",
            told.size,
            node.as_deref().unwrap_or("the cluster"),
            told.timeline,
            known.size,
            known.timeline
        )?;
        if told.timeline > known.timeline {
            f.write_str(
                "There was a take-over: ask its operators for the loss statement. If it names these entries, begin \
                 anew with the new head; else ",
            )?;
        }
        write!(
            f,
            "keep both heads, compare with another member, and do not rely on this journal until the difference is explained"
        )
    }
}

/// The journal of a cluster, made by [`Client::journal`]. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Client {
    /// The journal.
    pub fn journal(&self) -> Journal {
        Journal { shared: Arc::clone(&self.shared) }
    }
}

/// What one node says of its journal.
struct Told {
    node: Option<String>,
    head: JournalHead,
}

impl Journal {
    /// The last head that this client has seen: in this process, or in the file of
    /// [`Config::journal_head`](crate::Config::journal_head).
    pub async fn known(&self) -> Option<JournalHead> {
        self.shared.journal.lock().await.known()
    }

    /// The newest head, held against the last one seen, which it replaces. Any certificate of an application,
    /// a registrar, an auditor, an operator or recovery staff will do.
    ///
    /// Ask regularly, or let [`Journal::follow`] do so: what lies between two heads that were seen cannot be
    /// rewritten unnoticed.
    ///
    /// # Errors
    /// [`JournalError::Rewritten`] is an alarm. [`JournalError::Later`] with
    /// [`Reason::JournalBehind`](crate::Reason::JournalBehind) says that no node that answers has as many
    /// entries as were seen before: they lag behind, or the journal was cut.
    pub async fn head(&self) -> Result<JournalHead, JournalError> {
        self.head_of(0).await
    }

    /// Asks for the newest head again and again, a pause of `every` after each answer: for a task that lives as
    /// long as its application. `look` hears each answer; what a retry may mend is tried again at the next turn.
    /// Dropping the future ends it.
    ///
    /// # Errors
    /// It ends with an error only: an alarm, or what no retry mends, as of [`Journal::head`].
    pub async fn follow(
        &self,
        every: Duration,
        mut look: impl FnMut(&Result<JournalHead, JournalError>),
    ) -> JournalError {
        loop {
            let told = self.head().await;
            look(&told);
            match told {
                Err(error) if error.is_alarm() || !error.may_retry() => return error,
                _ => tokio::time::sleep(every).await,
            }
        }
    }

    /// The newest head that each member signed, as far as the node that answers has them, encoded as
    /// docs/formats.md lays down. They lag behind [`Journal::head`], and nothing of them was checked.
    ///
    /// # Errors
    /// [`JournalError`], but for the alarms.
    pub async fn signed_heads(&self) -> Result<Vec<Bytes>, JournalError> {
        let attempt = |channel| async move { Ok(audit(channel).head(v1::HeadRequest {}).await?.into_inner().signed) };
        self.shared.call(None, attempt).await.map_err(failed)
    }

    /// Like [`Journal::head`], of at least so many entries: a node that has fewer is passed over.
    ///
    /// # Errors
    /// As [`Journal::head`].
    pub async fn head_of(&self, least: u64) -> Result<JournalHead, JournalError> {
        self.head_with(least, None).await
    }

    /// The same; a node that has come as far in the log as a write, and has fewer entries all the same, is not
    /// passed over: its head is answered.
    async fn head_with(&self, least: u64, written: Option<&Receipt>) -> Result<JournalHead, JournalError> {
        // Held until it is kept: heads are taken one after the other.
        let mut kept = self.shared.journal.lock().await;
        let path = kept.path().map(PathBuf::from).unwrap_or_default();
        let file = |source| JournalError::File { path: path.clone(), source };
        let known = kept.newest().map_err(file)?;
        let shared = &self.shared;
        let attempt = |channel: crate::fork::Way| async move {
            let told = told(shared, audit(channel.clone()).head(v1::HeadRequest {}).await?.into_inner())?;
            let least = known.map_or(least, |known| least.max(known.size));
            if known.is_some_and(|known| is_cut(&known, &told.head)) {
                // An alarm: no other node makes it good, and nothing can be proved.
                return Ok((told, Vec::new()));
            }
            let is_behind_known = known.is_some_and(|known| told.head.size < known.size);
            let should_have_it = written.is_some_and(|receipt| has_come_as_far(receipt, &told.head));
            if told.head.size < least && (is_behind_known || !should_have_it) {
                return Err(Failure::journal_behind(told.head.size, least));
            }
            let proof = match known {
                Some(known) => consistency(channel, &known, &told.head).await?.proof,
                None => Vec::new(),
            };
            Ok((told, proof))
        };
        let (told, proof) = shared.call(None, attempt).await.map_err(failed)?;
        if let Some(known) = known {
            same_cluster(&known, &told.head)?;
            if !proof::is_consistent(&known, &told.head, &proof) {
                return Err(rewritten(known, told));
            }
        }
        kept.keep(told.head).map_err(file)?;
        Ok(told.head)
    }

    /// Demands that the journal of a head seen before, kept by whomever, is the beginning of that of another.
    /// Answers the complete subtrees of the older one, largest first: from them and the entries since, the
    /// newer root can be computed.
    ///
    /// # Errors
    /// As [`Journal::head`].
    pub async fn continues(&self, older: &JournalHead, newer: &JournalHead) -> Result<Vec<[u8; 32]>, JournalError> {
        same_cluster(older, newer)?;
        if is_cut(older, newer) {
            return Err(rewritten(*older, Told { node: None, head: *newer }));
        }
        if older.size > newer.size {
            return Err(JournalError::from_fault(Failure::journal_behind(newer.size, older.size).fault));
        }
        let attempt = |channel| consistency(channel, older, newer);
        let reply = self.shared.call(None, attempt).await.map_err(failed)?;
        let peaks = proof::peaks_of(older, &reply.peaks);
        match peaks.filter(|_| proof::is_consistent(older, newer, &reply.proof)) {
            Some(peaks) => Ok(peaks),
            None => Err(rewritten(*older, Told { node: None, head: *newer })),
        }
    }

    /// Demands a proof that the entry of a write is in the journal, and is the one that was made for it. Answers
    /// the head, held against the last one seen, in whose journal it is.
    ///
    /// # Errors
    /// [`JournalError::NotIncluded`] is an alarm, also where a node has come as far in the log as the write and has
    /// no entry at that position. [`JournalError::Invalid`] if the receipt does not tell the
    /// entry's leaf: receipts read from texts of version 1 do not.
    pub async fn includes(&self, receipt: &Receipt) -> Result<JournalHead, JournalError> {
        let position = receipt.journal_position();
        let without = || Invalid::because("receipt", "is of a version that does not tell its entry's leaf");
        let leaf = receipt.journal_leaf().ok_or_else(|| JournalError::from_invalid(without()))?;
        let head = self.head_with(position.saturating_add(1), Some(receipt)).await?;
        if head.size <= position {
            return Err(JournalError::NotIncluded { position });
        }
        let attempt = |channel| async move {
            let ask = v1::InclusionRequest { position, size: head.size };
            Ok(audit(channel).inclusion(ask).await?.into_inner())
        };
        let reply = self.shared.call(None, attempt).await.map_err(failed)?;
        let is_the_one = proof::leaf(&reply.entry) == leaf;
        match is_the_one && proof::is_included(&head, position, &reply.entry, &reply.proof) {
            true => Ok(head),
            false => Err(JournalError::NotIncluded { position }),
        }
    }

    /// Sealed entries of positions `from` to `to - 1`, in order, as members store them. Their hashes
    /// ([`journal_leaf`]) are the leaves of the tree.
    pub fn sealed(&self, from: u64, to: u64) -> Listing<Bytes, JournalError> {
        let shared = Arc::clone(&self.shared);
        Listing::paged(from, move |from| {
            let shared = Arc::clone(&shared);
            async move {
                let attempt = |channel| async move {
                    let found = audit(channel).sealed(v1::SealedRequest { from, to }).await?.into_inner().entries;
                    let next = from + found.len() as u64;
                    if next > to || (found.is_empty() && from < to) {
                        return Err(Failure::broken("a page of sealed entries of a wrong length"));
                    }
                    Ok(Page { items: found, next: (next < to).then_some(next) })
                };
                shared.call(None, attempt).await.map_err(failed)
            }
        })
    }

    /// The opened entries; takes an auditor's certificate. The list itself is journalled, page by page.
    pub fn list(&self) -> JournalList {
        JournalList::new(&self.shared)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal(…)")
    }
}

fn told(shared: &Shared, reply: v1::HeadReply) -> Result<Told, Failure> {
    let wrong = || Failure::broken("a malformed head of the journal");
    let head = reply.head.ok_or_else(wrong)?;
    shared.follow(head.timeline)?;
    let head = JournalHead {
        cluster_id: reply.cluster_id[..].try_into().map_err(|_| wrong())?,
        timeline: head.timeline,
        index: head.index,
        size: head.size,
        root: head.root[..].try_into().map_err(|_| wrong())?,
    };
    Ok(Told { node: Some(reply.node), head })
}

async fn consistency(
    channel: crate::fork::Way,
    older: &JournalHead,
    newer: &JournalHead,
) -> Result<v1::ConsistencyReply, Failure> {
    let ask = v1::ConsistencyRequest { from: older.size, to: newer.size };
    Ok(audit(channel).consistency(ask).await?.into_inner())
}

fn same_cluster(known: &JournalHead, told: &JournalHead) -> Result<(), JournalError> {
    if known.cluster_id == told.cluster_id { Ok(()) } else { Err(JournalError::OtherCluster {}) }
}

/// Whether a member has applied what was written, or was taken over since.
fn has_come_as_far(receipt: &Receipt, told: &JournalHead) -> bool {
    told.timeline > receipt.timeline() || told.timeline == receipt.timeline() && told.index >= receipt.index()
}

/// Whether a journal is shorter than what was seen although its node has come as far, or was taken over: then it
/// is not merely behind.
fn is_cut(known: &JournalHead, told: &JournalHead) -> bool {
    let has_come_as_far =
        told.timeline > known.timeline || told.timeline == known.timeline && told.index >= known.index;
    told.size < known.size && has_come_as_far
}

fn rewritten(known: JournalHead, told: Told) -> JournalError {
    let Told { node, head } = told;
    JournalError::Rewritten { rewritten: Box::new(JournalRewritten { known, told: head, node }) }
}

fn failed(failed: Failed) -> JournalError {
    JournalError::from_fault(failed.fault)
}
