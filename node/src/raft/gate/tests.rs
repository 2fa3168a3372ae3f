//! The table: role of the certificate × call × membership.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::raft::types::{Member, Vote, log_id};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn member(name: &str, role: MemberRole) -> Member {
    Member { name: name.into(), role, ..Member::default() }
}

/// Voters 1, 2 and 3 (`n1`…), the learner 4 (`n4`) that is to vote, the backup 5 (`n5`).
fn membership() -> Membership {
    let members: BTreeMap<NodeId, Member> = (1..=5)
        .map(|id| {
            let role = if id == 5 { MemberRole::Backup } else { MemberRole::Voter };
            (id, member(&format!("n{id}"), role))
        })
        .collect();
    Membership::new(vec![BTreeSet::from([1, 2, 3])], members).unwrap()
}

fn caller(name: &str, role: Option<MemberRole>) -> Caller {
    Caller { name: name.into(), role, key_sha256: [0; 32], serial: None }
}

fn envelope(from: NodeId) -> Envelope {
    Envelope { from, to: 2, cluster_id: Bytes::from_static(&CLUSTER.0) }
}

fn open(membership: &Membership) -> View<'_> {
    View { me: 2, cluster_id: Some(CLUSTER), membership, standing: Standing::Open, space_spent: false }
}

/// A letter for each call, in the order of [`Call::ALL`].
fn row(caller: &Caller, from: NodeId, view: View<'_>) -> String {
    Call::ALL
        .iter()
        .map(|&call| {
            let stated = (call.is_leaders() || call == Call::Hello).then(|| envelope(from));
            match judge(call, caller, stated.as_ref(), view) {
                Ok(()) => '+',
                Err(Refusal::NotANode) => 'n',
                Err(Refusal::Backup(refused)) if refused == call => 'b',
                Err(Refusal::OtherName { .. }) => 'o',
                Err(Refusal::NotAVoter(_)) => 'v',
                Err(Refusal::Closed) => 'c',
                Err(Refusal::Lost) => 'l',
                Err(Refusal::SpaceSpent(_)) => 's',
                Err(other) => panic!("{other}"),
            }
        })
        .collect()
}

#[test]
fn the_table() {
    let known = membership();
    let empty = Membership::default();
    let (voter, backup) = (Some(MemberRole::Voter), Some(MemberRole::Backup));
    // certificate, its role, the id it gives, what of membership we know, and the answers to
    // append, heartbeat, vote, pre-vote, transfer, snapshot, propose, hello, root key, join.
    let table = [
        ("n1", voter, 1, &known, "++++++++++"),
        ("n4", voter, 4, &known, "++++++v+++"), // promoted, perhaps: we may be behind
        ("n9", voter, 9, &known, "++++++v+++"), // added, perhaps: we may be behind
        ("n1", voter, 3, &known, "oooooo+o++"), // gives another member's id
        ("n9", voter, 3, &known, "oooooovo++"),
        ("n5", backup, 5, &known, "bbbbbbb+b+"),
        ("n5", backup, 1, &known, "bbbbbbbob+"),
        ("n5", voter, 5, &known, "bbbbbbb+b+"), // a voter's certificate in a backup's name
        ("n5", voter, 6, &known, "bbbbbbb+b+"),
        ("n1", backup, 1, &known, "bbbbbbb+b+"), // a backup's certificate in a voter's name
        ("n9", backup, 9, &known, "bbbbbbb+b+"),
        ("n1", None, 1, &known, "nnnnnnnnnn"),
        ("n1", voter, 1, &empty, "++++++v+++"),
        ("n5", backup, 5, &empty, "bbbbbbb+b+"),
        ("n1", None, 1, &empty, "nnnnnnnnnn"),
    ];
    for (name, role, from, membership, expected) in table {
        let found = row(&caller(name, role), from, open(membership));
        assert_eq!(found, expected, "{name} as {role:?} under id {from}");
    }
}

#[test]
fn what_the_node_itself_is_ready_for() {
    let known = membership();
    let n1 = caller("n1", Some(MemberRole::Voter));
    let view = |standing, space_spent| View { standing, space_spent, ..open(&known) };
    let table = [
        (Standing::Open, false, "++++++++++"),
        (Standing::Open, true, "s++++s++++"),
        (Standing::Closed, false, "cccccc++++"),
        (Standing::Closed, true, "cccccc++++"),
        (Standing::Lost, false, "llllll++++"),
    ];
    for (standing, space_spent, expected) in table {
        assert_eq!(row(&n1, 1, view(standing, space_spent)), expected, "{standing:?} {space_spent}");
    }
    // A refusal for what the caller is comes first: it learns nothing of our state.
    let n5 = caller("n5", Some(MemberRole::Backup));
    assert_eq!(row(&n5, 5, view(Standing::Closed, true)), "bbbbbbb+b+");
}

#[test]
fn other_clusters_and_other_receivers_are_refused() {
    let known = membership();
    let n1 = caller("n1", Some(MemberRole::Voter));
    for call in Call::ALL {
        let strange = Envelope { cluster_id: Bytes::from_static(&[8; 16]), ..envelope(1) };
        assert_eq!(judge(call, &n1, Some(&strange), open(&known)), Err(Refusal::OtherCluster));
        let cut = Envelope { cluster_id: Bytes::from_static(&[7; 15]), ..envelope(1) };
        assert_eq!(judge(call, &n1, Some(&cut), open(&known)), Err(Refusal::OtherCluster));
        let elsewhere = Envelope { to: 3, ..envelope(1) };
        let refused = judge(call, &n1, Some(&elsewhere), open(&known));
        assert_eq!(refused, Err(Refusal::OtherReceiver { to: 3, me: 2 }));
        let unknowing = View { cluster_id: None, ..open(&known) };
        assert_eq!(judge(call, &n1, Some(&strange), unknowing), Ok(()));
    }
}

#[test]
fn a_kept_mark_beyond_our_own_means_a_loss() {
    let mark =
        |term, index| Mark { vote: Some(Vote::new_committed(term, 1)), last: Some(log_id(term, index)) }.encode();
    assert_eq!(has_lost(&mark(4, 9), &mark(4, 9)), Ok(false));
    assert_eq!(has_lost(&mark(4, 9), &mark(4, 8)), Ok(false));
    assert_eq!(has_lost(&mark(4, 9), &[]), Ok(false));
    assert_eq!(has_lost(&mark(4, 9), &mark(4, 10)), Ok(true));
    assert_eq!(has_lost(&mark(4, 9), &mark(5, 1)), Ok(true));
    assert_eq!(has_lost(&[], &mark(4, 9)), Ok(true));
    assert!(has_lost(&mark(4, 9), b"?").is_err());
}

#[test]
fn a_lost_log_stays_lost() {
    let gate = Gate::new(2, None);
    let known = membership();
    assert_eq!(gate.view(&known).standing, Standing::Closed);
    gate.open();
    assert_eq!(gate.view(&known).standing, Standing::Open);
    gate.set_space_spent(true);
    gate.set_cluster_id(CLUSTER);
    assert!(gate.view(&known).space_spent);
    assert_eq!(gate.view(&known).cluster_id, Some(CLUSTER));
    gate.lose();
    gate.open();
    assert_eq!(*gate.standing().borrow(), Standing::Lost);
}
