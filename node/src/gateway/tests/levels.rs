//! What a recovered cluster serves, step by step. That no call tells who is enrolled meanwhile is held end to end.

use kura_cluster::row::{ErasureRow, ServiceRow};
use kura_cluster::word::{ErasureState, ServiceLevel};
use kura_proto::v1;

use super::erasure::{another_registrar, approve, registrar, withdraw};
use super::*;
use crate::gateway::erase::Step;
use crate::reach::Reached;

async fn serve(storehouse: &Storehouse, level: ServiceLevel) {
    let gateway = storehouse.gateway();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let row = ServiceRow { level: level.number(), ..Default::default() };
    attempt.command.put(&RowKey::service(), row.encode_to_vec());
    storehouse.commit(attempt).await;
}

fn is_not_served<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> bool {
    match answer {
        Err(GatewayError::NotOpened { why }) => why.contains("opened step by step"),
        _ => false,
    }
}

/// Has the application speak for participants.
async fn speaks_for_participants(storehouse: &Storehouse) {
    let application = |row: &mut kura_cluster::row::Application| row.participants = true;
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_refused_before_anybody_is_looked_for_and_leaves_no_entry() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    serve(&storehouse, ServiceLevel::Reads).await;
    let before = storehouse.journalled().await.len();
    let refused = gateway.transact::<()>(&doctor(), Action::Grant, None, |_| panic!("it is decided on")).await;
    assert!(is_not_served(refused.map(drop)));
    assert_eq!(storehouse.journalled().await.len(), before);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hiding_is_served_with_reads_and_showing_again_with_writes() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(10), ..Default::default() };
    let put = v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    };
    let record_id = gateway.put_whole(&doctor(), put).await.unwrap().record_id;
    let hide = async |hidden| {
        let participant = NUMBER.into();
        let (record_id, reason) = (record_id.clone(), "wrong person".into());
        let ask = v1::HideRequest { actor: None, request: request(), participant, record_id, hidden, reason };
        gateway.hide(&doctor(), ask).await
    };
    serve(&storehouse, ServiceLevel::Reads).await;
    assert_eq!(hide(true).await.unwrap().reach, Reached::NoBackup as u32, "it asked whether a backup has it");
    assert!(is_not_served(hide(false).await));
    serve(&storehouse, ServiceLevel::Writes).await;
    assert_eq!(hide(false).await.unwrap().reach, Reached::NotWaited as u32);
    let told: Vec<u32> = storehouse.journalled().await.iter().rev().take(2).map(|entry| entry.action).collect();
    assert_eq!(told, [Action::Unhide.number(), Action::Hide.number()]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_erased_before_everything_is_served() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    let key = RowKey::participant_key(&pseudonym, 1);
    for level in [ServiceLevel::Closed, ServiceLevel::Emergency, ServiceLevel::Reads] {
        serve(&storehouse, level).await;
        assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::NotServed, "{level:?}");
        assert!(storehouse.store.database().header(&key).unwrap().is_some());
    }
    serve(&storehouse, ServiceLevel::Writes).await;
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    assert!(storehouse.store.database().header(&key).unwrap().is_none());
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_stopped_before_writes_are_served_and_each_step_of_one_waits_for_the_backup() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    speaks_for_participants(&storehouse).await;
    withdraw(&gateway).await;
    let ask = async |caller: &Caller| {
        let ask = v1::AskErasureRequest {
            request: request(),
            participant: NUMBER.into(),
            evidence: "order 7".into(),
            ..Default::default()
        };
        gateway.ask_erasure(caller, ask).await
    };
    let stop = async |caller: &Caller| {
        let stop = v1::StopErasureRequest {
            request: request(),
            participant: NUMBER.into(),
            reason: "stays".into(),
            ..Default::default()
        };
        gateway.stop_erasure(caller, stop).await
    };
    let approve = async || {
        let approve = v1::ApproveErasureRequest { request: request(), participant: NUMBER.into() };
        gateway.approve_erasure(&another_registrar(), approve).await
    };
    // There is no backup in the membership, which only those are told that would wait for it.
    let waited = |receipt: Result<v1::Receipt, GatewayError>| receipt.unwrap().reach == Reached::NoBackup as u32;
    assert!(waited(ask(&participant()).await));
    assert!(waited(approve().await));

    serve(&storehouse, ServiceLevel::Emergency).await;
    assert!(is_not_served(stop(&participant()).await));
    serve(&storehouse, ServiceLevel::Reads).await;
    assert!(waited(stop(&participant()).await));
    assert!(waited(ask(&registrar()).await));
    assert!(is_not_served(approve().await), "it destroys");
    // A registrar may know of a stop that was lost with the prefecture.
    serve(&storehouse, ServiceLevel::Closed).await;
    assert!(is_not_served(ask(&registrar()).await));
    assert!(waited(stop(&registrar()).await));
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let number = super::super::participant::number(NUMBER).unwrap();
    let pseudonym = attempt.participant(&number).unwrap().unwrap().pseudonym;
    let row = attempt.look::<ErasureRow>(&RowKey::erasure(&pseudonym)).unwrap().value.unwrap();
    assert_eq!(row.state, ErasureState::Stopped.number());
    drop(attempt);
    storehouse.close().await;
}
