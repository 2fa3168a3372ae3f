//! What takes an operator and a registrar: two keys, on this timeline, within the time that an act waits.

use kura_cluster::consent::Denial;
use kura_cluster::row::{Approval, MemberRow, RotationRow, ShareSetsRow};
use kura_cluster::share::{ShareSet, split};

use super::*;
use crate::gateway::rotation::{EPOCH, ROOT, Stands};

const SAME: u8 = 3;
const OTHER: u8 = 7;
const LONG_AGO_MS: u64 = 31 * 86_400_000;

/// Somebody with a certificate for a key.
fn with_key(role: Role, name: &str, key: u8) -> Caller {
    let certificate = if role == Role::Operator { 20 } else { 21 };
    let known = identity(role, name);
    let identity = Identity { fingerprint: [certificate; 32], key_sha256: [key; 32], ..(*known).clone() };
    Caller::parse(Arc::new(identity), None).unwrap()
}

fn operator() -> Caller {
    with_key(Role::Operator, "op-1", SAME)
}

fn registrar(key: u8) -> Caller {
    with_key(Role::Registrar, "ichiro", key)
}

fn voter(name: &str) -> v1::ApproveMemberRequest {
    v1::ApproveMemberRequest {
        name: name.into(),
        role: 1,
        key_sha256: vec![9; 32].into(),
        address: "127.0.0.1:7109".into(),
        ..Default::default()
    }
}

fn next_key(name: &str) -> v1::ApproveMemberRequest {
    v1::ApproveMemberRequest { key_sha256: vec![8; 32].into(), renew_key: true, ..voter(name) }
}

fn is_same_person<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> bool {
    matches!(answer, Err(GatewayError::Denied { reason: Denial::SamePerson, .. }))
}

fn shares(storehouse: &Storehouse) -> (ShareSet, v1::RecordSharesRequest) {
    let (root, cluster) = (storehouse.root(), storehouse.vault.load_full().unwrap().cluster_id());
    let (set, _) = split(&root, &cluster, 2, 3, random::fill).unwrap();
    let request = v1::RecordSharesRequest {
        threshold: 2,
        root_check_value: set.root_check_value.to_vec().into(),
        share_check_values: set.share_check_values.iter().map(|value| value.to_vec().into()).collect(),
        proof: set.proof(&cluster, &root).to_vec().into(),
    };
    (set, request)
}

impl Storehouse {
    /// Changes an open row of the custody.
    async fn edit_open<T: Message + Default>(&self, key: &RowKey, change: impl FnOnce(&mut T)) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let mut row: T = attempt.load_open(key).unwrap().1.unwrap();
        change(&mut row);
        attempt.command.put(key, row.encode_to_vec());
        self.commit(attempt).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_under_two_names_and_offices_is_one_person() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    // In either order, of every approval.
    for (first, second) in [(operator(), registrar(SAME)), (registrar(SAME), operator())] {
        let name = if matches!(first.identity.role, Role::Operator) { "voter-2" } else { "voter-3" };
        assert!(!gateway.approve_member(&first, voter(name)).await.unwrap().complete);
        assert!(is_same_person(gateway.approve_member(&second, voter(name)).await));
        assert!(gateway.approved_member(name).unwrap().is_none(), "the root key would be handed to it");
        gateway.ask_rotation(&first, EPOCH, false).await.unwrap();
        assert!(is_same_person(gateway.ask_rotation(&second, EPOCH, false).await));
        let third = if first.identity.role == Role::Operator {
            registrar(OTHER)
        } else {
            with_key(Role::Operator, "op-2", OTHER)
        };
        assert!(gateway.approve_member(&third, voter(name)).await.unwrap().complete);
        assert!(matches!(gateway.ask_rotation(&third, EPOCH, false).await.unwrap(), Stands::Done(_)));
    }
    // Another key of a present member.
    assert!(!gateway.approve_member(&operator(), next_key("voter-1")).await.unwrap().complete);
    assert!(is_same_person(gateway.approve_member(&registrar(SAME), next_key("voter-1")).await));
    assert!(gateway.approved_next_key("voter-1").unwrap().is_none());
    assert!(gateway.approve_member(&registrar(OTHER), next_key("voter-1")).await.unwrap().complete);
    assert!(gateway.approved_next_key("voter-1").unwrap().is_some());
    // Shares.
    let (_, request) = shares(&storehouse);
    let fingerprint = gateway.record_shares(&operator(), request, None).await.unwrap().fingerprint;
    let confirm = || v1::ConfirmSharesRequest { fingerprint: fingerprint.clone() };
    assert!(is_same_person(gateway.confirm_shares(&registrar(SAME), confirm()).await));
    assert!(gateway.confirm_shares(&registrar(OTHER), confirm()).await.unwrap().present);
    storehouse.close().await;
}

/// What an approval can lack.
fn spoiled(how: &str, approval: &mut Option<Approval>) {
    match how {
        "of long ago" => approval.as_mut().unwrap().at_ms -= LONG_AGO_MS,
        "of another timeline" => approval.as_mut().unwrap().timeline += 1,
        "without a key" => approval.as_mut().unwrap().by.as_mut().unwrap().key_sha256 = Bytes::new(),
        _ => *approval = None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_counts_for_a_while_on_its_timeline_and_with_its_key() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let set_of = (Table::Member, Domain::Member);
    for how in ["of long ago", "of another timeline", "without a key", "of before there was this"] {
        // A member: also one that both have approved and that has not come.
        let first = gateway.approve_member(&operator(), voter("voter-2")).await.unwrap();
        assert!(gateway.approve_member(&registrar(OTHER), voter("voter-2")).await.unwrap().complete);
        let spoil = |row: &mut MemberRow| spoiled(how, &mut row.operator_approval);
        storehouse.edit_hashed(set_of, &["voter-2"], spoil).await;
        assert!(gateway.approved_member("voter-2").unwrap().is_none(), "{how}");
        let again = gateway.approve_member(&registrar(OTHER), voter("voter-2")).await.unwrap();
        assert!(!again.operator_approved && again.registrar_approved && !again.complete, "{how}");
        let anew = gateway.approve_member(&operator(), voter("voter-2")).await.unwrap();
        assert!(anew.complete && anew.raft_id == first.raft_id, "{how}: it may have joined by its id");
        // A rotation.
        gateway.ask_rotation(&operator(), EPOCH, false).await.unwrap();
        let spoil = |row: &mut RotationRow| spoiled(how, &mut row.operator_approval);
        storehouse.edit_open(&RowKey::rotation(), spoil).await;
        let alone = gateway.ask_rotation(&registrar(OTHER), EPOCH, false).await.unwrap();
        assert!(matches!(alone, Stands::WaitsForOperator), "{how}: {alone:?}");
        assert!(matches!(gateway.ask_rotation(&operator(), EPOCH, false).await.unwrap(), Stands::Done(_)));
        // A rotation of the root key that both have approved: neither drawn nor ended by one of them.
        for caller in [operator(), registrar(OTHER)] {
            gateway.ask_rotation(&caller, ROOT, false).await.unwrap();
        }
        storehouse.edit_open(&RowKey::rotation(), spoil).await;
        assert!(gateway.begin_root_rotation(&registrar(OTHER), &random::key()).await.is_err(), "{how}");
        gateway.ask_rotation(&operator(), ROOT, false).await.unwrap();
        let next = random::key();
        gateway.begin_root_rotation(&registrar(OTHER), &next).await.unwrap();
        storehouse.edit_open(&RowKey::rotation(), spoil).await;
        assert!(gateway.finish_root_rotation(&registrar(OTHER), &next).await.is_err(), "{how}");
        let both = |row: &mut RotationRow| {
            spoiled(how, &mut row.registrar_approval);
            row.next_check_value = Bytes::new();
        };
        storehouse.edit_open(&RowKey::rotation(), both).await;
        // Shares.
        let (set, request) = shares(&storehouse);
        let fingerprint = gateway.record_shares(&operator(), request, None).await.unwrap().fingerprint;
        let spoil = |row: &mut ShareSetsRow| {
            let own = |row: &&mut kura_cluster::row::ShareSetRow| {
                ShareSet::from_row(row).is_some_and(|known| known.share_check_values == set.share_check_values)
            };
            spoiled(how, &mut row.sets.iter_mut().find(own).unwrap().operator_approval);
        };
        storehouse.edit_open(&RowKey::share_sets(), spoil).await;
        let late = gateway.confirm_shares(&registrar(OTHER), v1::ConfirmSharesRequest { fingerprint }).await;
        assert!(matches!(late, Err(GatewayError::Denied { reason: Denial::ActExpired, .. })), "{how}: {late:?}");
    }
    // A present member stays approved, whenever that was; its next key does not.
    let past = |row: &mut MemberRow| {
        row.next_key_sha256 = vec![8; 32].into();
        (row.next_operator, row.next_registrar) = ("op-1".into(), "ichiro".into());
    };
    storehouse.edit_hashed(set_of, &["voter-1"], past).await;
    assert!(gateway.approved_member("voter-1").unwrap().is_some());
    assert!(gateway.approved_next_key("voter-1").unwrap().is_none(), "two names without keys");
    storehouse.close().await;
}
