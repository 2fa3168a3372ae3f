//! The table: role of the certificate × call × membership.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::raft::types::{Membership, Vote, log_id};

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Each name's approved key; `-stolen` is a certificate of the right name with another key.
fn key(name: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    key
}

fn member(name: &str, role: MemberRole) -> Member {
    Member { name: name.into(), role, key_sha256: key(name), ..Member::default() }
}

/// The members that an entry at an index made, of which the first three vote.
fn stored(index: u64, members: Vec<(NodeId, Member)>) -> StoredMembership {
    let voters = BTreeSet::from_iter(members.iter().map(|(id, _)| *id).take(3));
    let membership = Membership::new(vec![voters], BTreeMap::from_iter(members)).unwrap();
    StoredMembership::new(Some(log_id(1, index)), membership)
}

/// Voters 1, 2 and 3 (`n1`…), the learner 4 (`n4`) that is to vote, the backup 5 (`n5`).
fn membership() -> StoredMembership {
    let members = (1..=5)
        .map(|id| {
            let role = if id == 5 { MemberRole::Backup } else { MemberRole::Voter };
            (id, member(&format!("n{id}"), role))
        })
        .collect();
    stored(10, members)
}

fn caller(name: &str, role: Option<MemberRole>) -> Caller {
    let (name, key) = match name.strip_suffix("-stolen") {
        Some(name) => (name, [0xff; 32]),
        None => (name, key(name)),
    };
    Caller { name: name.into(), role, key_sha256: key, serial: None }
}

fn envelope(from: NodeId) -> Envelope {
    Envelope { from, to: 2, cluster_id: Bytes::from_static(&CLUSTER.0) }
}

fn open(membership: &StoredMembership) -> View<'_> {
    let vouched = Arc::default();
    View { me: 2, cluster_id: Some(CLUSTER), membership, vouched, standing: Standing::Open, space_spent: false }
}

/// A letter for each call, in the order of [`Call::ALL`].
fn row(caller: &Caller, from: NodeId, view: View<'_>) -> String {
    Call::ALL
        .iter()
        .map(|&call| {
            let stated =
                (call.is_leaders() || matches!(call, Call::Hello | Call::Heads | Call::Clear)).then(|| envelope(from));
            match judge(call, caller, stated.as_ref(), view.clone()) {
                Ok(()) => '+',
                Err(Refusal::NotANode) => 'n',
                Err(Refusal::Backup(refused)) if refused == call => 'b',
                Err(Refusal::OtherName { .. }) => 'o',
                Err(Refusal::OtherKey { .. }) => 'k',
                Err(Refusal::Stranger { .. }) => 'u',
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
    let empty = StoredMembership::default();
    let (voter, backup) = (Some(MemberRole::Voter), Some(MemberRole::Backup));
    // certificate, its role, the id it gives, what of membership we know, and the answers to
    // append, heartbeat, vote, pre-vote, transfer, snapshot, propose, hello, timeline, heads, clear, root key, join.
    let table = [
        ("n1", voter, 1, &known, "+++++++++++++"),
        ("n1-stolen", voter, 1, &known, "kkkkkkvk+kk++"), // whether it has the root key is a row of the state
        ("n4", voter, 4, &known, "++++++v+++v++"),        // promoted, perhaps: we may be behind
        ("n9", voter, 9, &known, "uuuuuuv+++v++"),        // added, perhaps: someone has to vouch for it
        ("n1", voter, 3, &known, "oooooo+o+oo++"),        // gives another member's id
        ("n1", voter, 9, &known, "uuuuuu+++++++"),
        ("n1-stolen", voter, 9, &known, "uuuuuuvk+kk++"),
        ("n9", voter, 3, &known, "oooooovo+oo++"),
        ("n5", backup, 5, &known, "bbbbbbb+++bb+"),
        ("n5-stolen", backup, 5, &known, "bbbbbbbk+kbb+"),
        ("n5", backup, 1, &known, "bbbbbbbo+obb+"),
        ("n5", voter, 5, &known, "bbbbbbb+++bb+"), // a voter's certificate in a backup's name
        ("n5", voter, 6, &known, "bbbbbbb+++bb+"),
        ("n1", backup, 1, &known, "bbbbbbb+++bb+"), // a backup's certificate in a voter's name
        ("n9", backup, 9, &known, "bbbbbbb+++bb+"),
        ("n1", None, 1, &known, "nnnnnnnnnnnnn"),
        ("n1", voter, 1, &empty, "++++++v+++v++"),
        ("n5", backup, 5, &empty, "bbbbbbb+++bb+"),
        ("n1", None, 1, &empty, "nnnnnnnnnnnnn"),
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
        (Standing::Open, false, "+++++++++++++"),
        (Standing::Open, true, "s++++s+++++++"),
        (Standing::Closed, false, "cccccc+++++++"),
        (Standing::Closed, true, "cccccc+++++++"),
        (Standing::Lost, false, "llllll+++++++"),
    ];
    for (standing, space_spent, expected) in table {
        assert_eq!(row(&n1, 1, view(standing, space_spent)), expected, "{standing:?} {space_spent}");
    }
    // A refusal for what the caller is comes first: it learns nothing of our state.
    let n5 = caller("n5", Some(MemberRole::Backup));
    assert_eq!(row(&n5, 5, view(Standing::Closed, true)), "bbbbbbb+++bb+");
}

#[test]
fn who_is_vouched_for_is_known() {
    let voter = Some(MemberRole::Voter);
    let known = membership();
    let gate = Gate::new(2, Some(CLUSTER));
    gate.open();
    let answers = |name, from| row(&caller(name, voter), from, gate.view(&known));
    // Since our membership of entry 10: n3 has a new key, n9 has come.
    let changed = |index| {
        let renewed = Member { key_sha256: key("n3-new"), ..member("n3", MemberRole::Voter) };
        stored(index, vec![(1, member("n1", MemberRole::Voter)), (3, renewed), (9, member("n9", MemberRole::Voter))])
    };
    let renewed = Caller { key_sha256: key("n3-new"), ..caller("n3", voter) };
    gate.vouch(changed(9));
    assert_eq!(answers("n9", 9), "uuuuuuv+++v++", "an older membership than ours says nothing");
    assert_eq!(row(&renewed, 3, gate.view(&known)), "kkkkkkvk+kk++");
    gate.vouch(changed(11));
    assert_eq!(answers("n9", 9), "++++++v+++v++");
    assert_eq!(row(&renewed, 3, gate.view(&known)), "++++++v+++v++", "proposals are the leader's to judge");
    assert_eq!(answers("n9-stolen", 9), "kkkkkkvk+kk++");
    assert_eq!(answers("n3", 3), "+++++++++++++", "what our own log says counts until it says otherwise");
    assert_eq!(answers("n8", 8), "uuuuuuv+++v++");
    // An older word does not take the place of a newer one; our own log does.
    gate.vouch(changed(9));
    assert_eq!(answers("n9", 9), "++++++v+++v++");
    let newer = stored(12, vec![(1, member("n1", MemberRole::Voter)), (2, member("n2", MemberRole::Voter))]);
    assert_eq!(row(&caller("n9", voter), 9, gate.view(&newer)), "uuuuuuv+++v++");
}

#[test]
fn while_a_key_changes_both_count() {
    let both = Member { next_key_sha256: Some(Box::new(key("n1-new"))), ..member("n1", MemberRole::Voter) };
    let known = stored(10, vec![(1, both), (2, member("n2", MemberRole::Voter))]);
    let voter = Some(MemberRole::Voter);
    let renewed = Caller { key_sha256: key("n1-new"), ..caller("n1", voter) };
    assert_eq!(row(&caller("n1", voter), 1, open(&known)), "+++++++++++++");
    assert_eq!(row(&renewed, 1, open(&known)), "+++++++++++++");
    assert_eq!(row(&caller("n1-stolen", voter), 1, open(&known)), "kkkkkkvk+kk++");
}

#[test]
fn the_pieces_of_a_snapshot_come_from_a_member() {
    let known = membership();
    let judged = |name| judge(Call::Snapshot, &caller(name, Some(MemberRole::Voter)), None, open(&known));
    assert_eq!(judged("n1"), Ok(()));
    for name in ["n1-stolen", "n9"] {
        assert!(matches!(judged(name), Err(Refusal::Stranger { .. })), "{name}");
    }
    let new = StoredMembership::default();
    let to_a_new_node = judge(Call::Snapshot, &caller("n9", Some(MemberRole::Voter)), None, open(&new));
    assert_eq!(to_a_new_node, Ok(()));
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
