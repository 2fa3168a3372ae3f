//! A voter whose own log knows no other one: it has nobody to ask about its disk, and would lead by itself. The disk of a
//! cluster's first days, put back years later, is such a one. But those whom it does not know, know it, and ask it each
//! second: they are listened to, before it may lead and ever after.
//!
//! Invariants
//! - Only a voter of this cluster, by its certificate, is listened to; and what it says is held against this log.
//! - A head that this member signed itself, beyond the end of its log, is a proof, and stops this member for good. An entry
//!   that was promised, and is not there, is a claim that nobody can check: a certificate of a voter that was removed can make
//!   it as well. It stops this member as long as it is told, and people are asked which of the two it is.
//! - What this misses: others that speak only after it has begun to lead, and until they do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::ClusterId;
use kura_cluster::head::{Head, SignedHead};
use kura_proto::v1;
use openraft::async_runtime::WatchReceiver;

use super::fence::Left;
use super::{Node, scrub};
use crate::raft::gate::{Caller, Standing};
use crate::raft::marks::Mark;
use crate::raft::types::{MemberRole, StoredMembership};

/// How long the others have to speak: they ask each second.
const LISTEN: Duration = Duration::from_millis(2500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A directory that was only just made holds no more entries; nothing was ever served from it.
const FRESH_INDEX_MAX: u64 = 4;

/// Whether this node is the only voter that its log knows.
pub fn is_alone(node: &Node, membership: &StoredMembership) -> bool {
    membership.membership().voter_ids().eq([node.id()])
}

/// Waits until the others had their say; `false` if they had any.
pub async fn listen(node: &Node) -> bool {
    let is_fresh = node.log.opened().last.is_none_or(|last| last.index <= FRESH_INDEX_MAX);
    let until = Instant::now() + if is_fresh { Duration::ZERO } else { LISTEN };
    while Instant::now() < until && *node.gate.standing().borrow() == Standing::Closed {
        tokio::time::sleep(LOOK).await;
    }
    *node.gate.standing().borrow() == Standing::Closed
}

/// Hears what somebody says of this node, whose log knows no other voter.
pub fn hear(node: &Node, caller: &Caller, request: &v1::HelloRequest) {
    let membership = node.raft.metrics().borrow_watched().membership_config.clone();
    let is_voter = caller.role == Some(MemberRole::Voter);
    if !is_voter || !is_alone(node, &membership) || node.member(request.from).is_some() {
        return;
    }
    let name = &caller.name;
    if let Some(index) = signed_beyond(node, &request.kept_head) {
        let words = format!(
            "this member's disk is of an earlier time: {name}, a voter that its log does not know, shows what this member \
             itself signed after entry {index}, which is not there"
        );
        stop(
            node,
            &words,
            "It serves nothing. Rebuild it under a new id: `kura member replace`. Keep the directory until \
             that is done",
            true,
        );
        return;
    }
    // What it keeps of this member; and the entry by which it came in: that one took this member's consent.
    let claims = [&request.kept_mark, &request.membership_entry].into_iter();
    let entries = claims.filter_map(|claim| Mark::decode(claim).ok()?.last);
    let lacked = entries.map(|entry| (entry, tokio::task::block_in_place(|| node.log.lacks(entry))));
    let Some((last, lacks)) = lacked.into_iter().find(|(_, lacks)| !matches!(lacks, Ok(false))) else { return };
    if let Err(error) = lacks {
        return tracing::error!(%error, "the log could not be read");
    }
    let words = format!(
        "this member's disk may be of an earlier time: {name}, a voter by its certificate that this member's log does not \
         know, tells of entry {last}, which is not there. It shows nothing that this member signed"
    );
    let next = format!(
        "It serves nothing, and starts again, but not while that is told. If {name} is a voter of this cluster, rebuild \
         this member under a new id: `kura member replace`. If it is none (removed, or never added), revoke its \
         certificate (`kura ca revoke`), give this node the list (tls.revocation_lists), and start it"
    );
    stop(node, &words, &next, false);
}

/// Ends this node; for good, if that is proven.
fn stop(node: &Node, words: &str, next: &str, is_proven: bool) {
    if node.fenced.borrow().is_some() {
        return;
    }
    tracing::error!("{words}");
    node.gateway.give_up();
    node.gate.lose();
    if is_proven {
        scrub::damage::keep(&node.config.data, words);
    }
    node.fenced.send_replace(Some(Left::Earlier(format!("{words}. {next}"))));
}

/// The log index of a head of this member on its present timeline that lies beyond the end of its log.
fn signed_beyond(node: &Node, encoded: &Bytes) -> Option<u64> {
    let last = node.log.synced().borrow().map_or(0, |last| last.index);
    let (cluster, timeline) = (node.identity.cluster_id, node.store.published().summary.timeline);
    beyond(encoded, &node.tls.identity().key_sha256, cluster, timeline, last)
}

/// A head is made of what was applied, and nothing is applied that is not synced in the log: whoever signed one, had it.
fn beyond(encoded: &[u8], key_sha256: &[u8; 32], cluster: ClusterId, timeline: u64, last: u64) -> Option<u64> {
    let signed = SignedHead::decode(encoded).ok()?;
    signed.verify(key_sha256).ok()?;
    let Head { cluster_id, timeline: of, index, .. } = signed.head;
    (cluster_id == cluster && of == timeline && index > last).then_some(index)
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::certificates::HeadSigner;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn signer() -> HeadSigner {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap()
    }

    #[test]
    fn only_an_own_head_of_this_timeline_beyond_the_log_proves_anything() {
        let (own, other) = (signer(), signer());
        let head = |cluster_id, timeline, index| Head {
            cluster_id,
            timeline,
            index,
            journal_size: 0,
            journal_root: Default::default(),
            state_digest: [0; 32],
            tables: Vec::new(),
        };
        let told = |signer: &HeadSigner, head: Head| {
            let encoded = signer.sign(head).unwrap().encode();
            beyond(&encoded, &own.key_sha256(), CLUSTER, 1, 100)
        };
        assert_eq!(told(&own, head(CLUSTER, 1, 101)), Some(101));
        assert_eq!(told(&own, head(CLUSTER, 1, 100)), None, "the log has it");
        assert_eq!(told(&own, head(CLUSTER, 0, 101)), None, "of a timeline that was left behind");
        assert_eq!(told(&own, head(ClusterId([8; 16]), 1, 101)), None);
        assert_eq!(told(&other, head(CLUSTER, 1, 101)), None, "a stranger signs what it likes");
        let mut torn = own.sign(head(CLUSTER, 1, 101)).unwrap().encode();
        let last = torn.len() - 1;
        torn[last] ^= 1;
        assert_eq!(beyond(&torn, &own.key_sha256(), CLUSTER, 1, 100), None);
        assert_eq!(beyond(&[], &own.key_sha256(), CLUSTER, 1, 100), None);
    }
}
