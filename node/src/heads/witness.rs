//! Whether other members' signed heads bear out what a snapshot claims to hold.

use std::collections::BTreeSet;

use bytes::Bytes;
use kura_cluster::ClusterId;
use kura_cluster::head::SignedHead;

use crate::raft::types::{Member, NodeId};

/// What a snapshot says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its fence number.
    pub timeline: u64,
    /// The last entry applied to it.
    pub index: u64,
    /// The digest of its tables.
    pub state_digest: [u8; 32],
    /// The member that sends it. What it signs proves nothing beyond what it says.
    pub sender: NodeId,
}

/// What the heads at a snapshot's index say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Testimony {
    /// These members, none of them the sender, signed the same digest.
    Confirmed(BTreeSet<NodeId>),
    /// This member signed another digest: one of the two is wrong.
    Contradicted(NodeId),
    /// No member but the sender has signed anything at that index.
    Nobody,
}

/// Holds a claim against encoded signed heads from anywhere. `members` tells whose key is whose; heads of
/// strangers, of other moments and those with a wrong signature are passed over. One contradiction counts
/// more than any number of confirmations.
pub fn hear<'m>(
    claim: &Claim,
    heads: impl Iterator<Item = Bytes>,
    members: impl Iterator<Item = (NodeId, &'m Member)> + Clone,
) -> Testimony {
    let mut confirmed = BTreeSet::new();
    for encoded in heads {
        let Ok(signed) = SignedHead::decode(&encoded) else { continue };
        let head = &signed.head;
        if (head.cluster_id, head.timeline, head.index) != (claim.cluster_id, claim.timeline, claim.index) {
            continue;
        }
        let key = signed.key_sha256();
        let Some((id, _)) = members.clone().find(|(_, member)| member.keys().any(|known| known == key)) else {
            continue;
        };
        if id == claim.sender || signed.verify(&key).is_err() {
            continue;
        }
        if head.state_digest != claim.state_digest {
            return Testimony::Contradicted(id);
        }
        confirmed.insert(id);
    }
    if confirmed.is_empty() { Testimony::Nobody } else { Testimony::Confirmed(confirmed) }
}
