//! Approvals of members: who is approved already, who was, and what an approval of something else ends.

use super::*;

/// Each office has a key of its own.
fn office(role: Role, name: &str) -> Caller {
    let identity = if role == Role::Registrar { another_identity(role, name) } else { identity(role, name) };
    Caller::parse(identity, None).unwrap()
}

fn voter(key: u8, address: &str) -> v1::ApproveMemberRequest {
    let (name, address, key_sha256) = ("voter-2".into(), address.into(), vec![key; 32].into());
    v1::ApproveMemberRequest { name, role: 1, key_sha256, address, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_of_the_same_key_ends_nobodys_approval_unless_it_is_meant() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (operator, registrar) = (office(Role::Operator, "op-1"), office(Role::Registrar, "reg-1"));
    let first = gateway.approve_member(&operator, voter(1, "127.0.0.1:7102")).await.unwrap();
    assert_eq!(first.replaced, "");

    let mistyped = voter(1, "127.0.0.1:7120");
    let refused = gateway.approve_member(&registrar, mistyped.clone()).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Contradicts { field: "address", .. }), "{refused}");
    for part in ["127.0.0.1:7102", "operator op-1", "--anew"] {
        assert!(refused.to_string().contains(part), "{part}: {refused}");
    }
    let done = gateway.approve_member(&registrar, voter(1, "127.0.0.1:7102")).await.unwrap();
    assert!(done.complete && done.raft_id == first.raft_id, "the operator's approval is there: {done:?}");

    // Begun anew, and with another key, it takes everybody again; and says what counts no more.
    let meant = gateway.approve_member(&registrar, v1::ApproveMemberRequest { anew: true, ..mistyped }).await.unwrap();
    assert!(!meant.operator_approved && !meant.complete && meant.raft_id > done.raft_id, "{meant:?}");
    assert!(meant.replaced.contains("127.0.0.1:7102") && meant.replaced.contains("registrar reg-1"), "{meant:?}");
    let other_key = gateway.approve_member(&operator, voter(2, "127.0.0.1:7120")).await.unwrap();
    assert!(!other_key.complete && other_key.raft_id > meant.raft_id, "{other_key:?}");
    assert!(other_key.replaced.contains("127.0.0.1:7120"), "{other_key:?}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_present_member_is_not_approved_under_another_address() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let operator = Caller::parse(identity(Role::Operator, "op-1"), None).unwrap();
    let approve = |name: &str| v1::ApproveMemberRequest {
        name: name.into(),
        role: 1,
        key_sha256: vec![1; 32].into(),
        address: "127.0.0.1:9".into(),
        ..Default::default()
    };
    let error = gateway.approve_member(&operator, approve("voter-1")).await.unwrap_err();
    assert!(error.to_string().contains("--renew-key"), "{error}");
    gateway.approve_member(&operator, approve("voter-2")).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_goes_is_approved_no_more_and_comes_back_under_another_id() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (operator, registrar) = (office(Role::Operator, "op-1"), office(Role::Registrar, "reg-1"));
    let approve = v1::ApproveMemberRequest {
        name: "voter-2".into(),
        role: 1,
        key_sha256: vec![1; 32].into(),
        address: "127.0.0.1:9".into(),
        ..Default::default()
    };
    gateway.approve_member(&operator, approve.clone()).await.unwrap();
    let first = gateway.approve_member(&registrar, approve.clone()).await.unwrap();
    assert!(first.complete && gateway.approved_member("voter-2").unwrap().is_some());
    gateway.end_approval(&operator, "voter-2", "remove voter-2").await.unwrap();
    assert!(gateway.approved_member("voter-2").unwrap().is_none(), "the root key would be handed to it");
    let again = gateway.approve_member(&operator, approve).await.unwrap();
    assert!(again.raft_id > first.raft_id && !again.complete, "one person alone lets nobody back in");
    storehouse.close().await;
}
