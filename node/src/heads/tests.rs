//! What is equal, what is different, and what is neither.

use std::collections::BTreeSet;

use kura_cluster::ClusterId;
use kura_cluster::apply::Summary;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::certificates::HeadSigner;
use crate::raft::types::Member;

const CLUSTER: ClusterId = ClusterId([7; 16]);

struct Signs {
    signer: HeadSigner,
    key: [u8; 32],
}

fn signs() -> Signs {
    let pair = KeyPair::generate().unwrap();
    let signer = HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap();
    let key = signer.sign(head(1, 0)).unwrap().key_sha256();
    Signs { signer, key }
}

/// States with different `rows` differ in the block table.
fn head(index: u64, rows: u64) -> Head {
    let mut summary = Summary::default();
    summary.tables[kura_cluster::row::Table::Block.place()].rows = rows;
    Head::of(CLUSTER, index, &summary)
}

impl Signs {
    fn encoded(&self, head: Head) -> Bytes {
        self.signer.sign(head).unwrap().encode().into()
    }

    fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        std::iter::once(self.key)
    }
}

fn at(heads: &Heads, id: NodeId) -> Agreement {
    heads.agreement(id, Instant::now())
}

#[test]
fn equal_states_at_equal_indexes_are_equal_until_the_comparison_is_old() {
    let (heads, other) = (Heads::default(), signs());
    assert_eq!(at(&heads, 2), Agreement::Unknown { last_equal: 0 });
    heads.note(head(10, 1), None);
    assert_eq!(heads.take(2, other.keys(), other.encoded(head(11, 1))), Ok(false));
    assert_eq!(at(&heads, 2), Agreement::Unknown { last_equal: 0 }, "the same state, at another index");
    heads.note(head(11, 1), None);
    assert_eq!(at(&heads, 2), Agreement::Equal { index: 11 });
    assert_eq!(heads.agreement(2, Instant::now() + FRESH), Agreement::Unknown { last_equal: 11 });
    assert_eq!(at(&heads, 3), Agreement::Unknown { last_equal: 0 }, "nobody has heard of it");
}

#[test]
fn a_difference_is_found_from_either_side_and_stays() {
    let other = signs();
    for own_first in [true, false] {
        let heads = Heads::default();
        if own_first {
            heads.note(head(10, 1), None);
            assert_eq!(heads.take(2, other.keys(), other.encoded(head(10, 2))), Ok(true));
        } else {
            assert_eq!(heads.take(2, other.keys(), other.encoded(head(10, 2))), Ok(false));
            assert_eq!(heads.note(head(10, 1), None), [2]);
        }
        heads.note(head(20, 1), None);
        assert_eq!(heads.take(2, other.keys(), other.encoded(head(20, 1))), Ok(false));
        assert_eq!(at(&heads, 2), Agreement::Different { index: 10, tables: vec!["block"] });
    }
}

#[test]
fn what_the_member_did_not_sign_is_not_compared() {
    let (heads, other, thief) = (Heads::default(), signs(), signs());
    heads.note(head(10, 1), None);
    assert_eq!(heads.take(2, other.keys(), thief.encoded(head(10, 1))), Err(HeadError::OtherKey));
    let mut forged = other.signer.sign(head(10, 1)).unwrap();
    forged.head.index = 10;
    forged.head.timeline = 1;
    assert_eq!(heads.take(2, other.keys(), forged.encode().into()), Err(HeadError::Signature));
    assert_eq!(heads.take(2, other.keys(), Bytes::from_static(b"?")), Err(HeadError::Form));
    assert_eq!(at(&heads, 2), Agreement::Unknown { last_equal: 0 });
    // While a member changes its key, either of the two is its own.
    assert_eq!(heads.take(2, [other.key, thief.key].into_iter(), thief.encoded(head(10, 1))), Ok(false));
    assert_eq!(at(&heads, 2), Agreement::Equal { index: 10 });
}

#[tokio::test]
async fn an_offer_waits_for_a_witness_and_not_for_ever() {
    let (heads, other) = (std::sync::Arc::new(Heads::default()), signs());
    let soon = || Instant::now() + Duration::from_millis(20);
    let far = Instant::now() + Duration::from_secs(3600);
    heads.wait_for_witness(10, 3, far).await;
    heads.note(head(10, 1), None);
    heads.wait_for_witness(10, 3, soon()).await;
    heads.take(3, other.keys(), other.encoded(head(10, 1))).unwrap();
    heads.wait_for_witness(10, 3, soon()).await;
    assert!(!heads.has_witness(10, 3), "its receiver bears out nothing");
    let waits = tokio::spawn({
        let heads = heads.clone();
        async move { heads.wait_for_witness(10, 3, far).await }
    });
    tokio::task::yield_now().await;
    heads.take(2, other.keys(), other.encoded(head(10, 1))).unwrap();
    waits.await.unwrap();
}

#[test]
fn old_heads_go_but_those_of_the_newest_snapshot_stay() {
    let (heads, own, other) = (Heads::default(), signs(), signs());
    heads.pin(1);
    let last = HEADS_KEPT as u64 + 10;
    for index in 1..=last {
        heads.note(head(index, 1), own.signer.sign(head(index, 1)));
        heads.take(2, other.keys(), other.encoded(head(index, 1))).unwrap();
    }
    assert_eq!((heads.newest(), heads.newest_of(2)), (last, last));
    assert_eq!(heads.at(1).len(), 2);
    let newest: Vec<u64> =
        heads.newest_of_all().iter().map(|head| SignedHead::decode(head).unwrap().head.index).collect();
    assert_eq!(newest, [last, last]);
    assert_eq!(heads.at(2).len(), 0);
    assert_eq!(heads.after(0).len(), HEADS_TOLD_MAX);
    assert_eq!(heads.after(last - 3).len(), 3);
    assert_eq!(SignedHead::decode(&heads.after(last - 1)[0]).unwrap().head.index, last);
    heads.keep_members(|id| id != 2);
    assert_eq!(at(&heads, 2), Agreement::Unknown { last_equal: 0 });
}

#[test]
fn a_snapshot_is_borne_out_by_others_than_its_sender() {
    let all = [signs(), signs(), signs()];
    let members: Vec<(NodeId, Member)> =
        (1..).zip(&all).map(|(id, one)| (id, Member { key_sha256: one.key, ..Member::default() })).collect();
    let claim = |rows| Claim {
        cluster_id: CLUSTER,
        timeline: 0,
        index: 10,
        state_digest: head(10, rows).state_digest,
        sender: 1,
    };
    let said = |who: usize, index, rows| all[who - 1].encoded(head(index, rows));
    let heard =
        |claim, heads: Vec<Bytes>| hear(&claim, heads.into_iter(), members.iter().map(|(id, member)| (*id, member)));
    assert_eq!(heard(claim(1), vec![]), Testimony::Nobody);
    assert_eq!(heard(claim(1), vec![said(1, 10, 1)]), Testimony::Nobody, "the sender's own word");
    assert_eq!(heard(claim(1), vec![said(2, 11, 1)]), Testimony::Nobody, "another index");
    let stranger = signs().encoded(head(10, 1));
    let mut forged = all[1].signer.sign(head(10, 2)).unwrap();
    forged.head = head(10, 1);
    assert_eq!(heard(claim(1), vec![stranger, forged.encode().into()]), Testimony::Nobody);
    let both = vec![said(1, 10, 1), said(2, 10, 1), said(3, 10, 1)];
    assert_eq!(heard(claim(1), both.clone()), Testimony::Confirmed(BTreeSet::from([2, 3])));
    assert_eq!(heard(claim(2), both), Testimony::Contradicted(2));
    let split = vec![said(2, 10, 1), said(3, 10, 2)];
    assert_eq!(heard(claim(1), split), Testimony::Contradicted(3));
}
