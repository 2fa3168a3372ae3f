//! Below the low-water mark of free space: what people take away or stop is done, nothing is destroyed.

use kura_cluster::row::{Application, Facility};
use kura_cluster::word::Status;

use super::erasure::{another_registrar, approve, registrar, withdraw};
use super::*;
use crate::gateway::erase::Step;

impl Storehouse {
    /// A gateway whose disk is below the mark, and above the last of it.
    fn gateway_low(&self) -> Arc<Gateway> {
        let marks = Marks { low_bytes: u64::MAX, reserve_bytes: 0 };
        let space = Arc::new(Space::new(self.folder.path(), marks));
        assert_eq!(space.level(), crate::space::Level::Low);
        let (store, vault, proposer) = (self.store.clone(), self.vault.clone(), self.proposer.clone());
        let gateway = Gateway::new("voter-1".into(), store, vault, proposer, space, Arc::new(Reach::default()));
        gateway.clock_offset_ms.store(0, std::sync::atomic::Ordering::Relaxed);
        Arc::new(gateway)
    }
}

fn whole() -> v1::PutWholeRequest {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(2_000), ..Default::default() };
    v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    }
}

fn user(status: Status) -> v1::PutUserRequest {
    let row = v1::User {
        id: DOCTOR.into(),
        facility: HOSPITAL.into(),
        name: "doctor".into(),
        profession: 1,
        status: Status::Active.number(),
        ..Default::default()
    };
    let after = v1::User { status: status.number(), ..row.clone() };
    v1::PutUserRequest { request: request(), user: Some(after), before: Some(row), ..Default::default() }
}

#[track_caller]
fn refused<T>(answer: Result<T, GatewayError>) {
    let Err(error) = answer else { panic!("done") };
    assert!(matches!(error, GatewayError::LowSpace { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_away_or_stops_is_done_and_what_adds_waits() {
    let storehouse = Storehouse::new().await;
    let set = (Table::Facility, Domain::Facility);
    storehouse.edit_hashed(set, &[HOSPITAL], |row: &mut Facility| row.emergency = true).await;
    let set = (Table::Application, Domain::Application);
    storehouse.edit_hashed(set, &["karte"], |row: &mut Application| row.participants = true).await;
    storehouse.set(|settings| settings.emergency_credential = false).await;
    let record_id = storehouse.gateway().put_whole(&doctor(), whole()).await.unwrap().record_id;
    let gateway = storehouse.gateway_low();

    refused(gateway.put_whole(&doctor(), whole()).await);
    let grant = |facility: &str| v1::GrantRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: facility.into(),
        evidence: "paper 2".into(),
        ..Default::default()
    };
    refused(gateway.grant(&doctor(), grant(HOSPITAL)).await);
    refused(gateway.put_user(&registrar(), user(Status::Active)).await);
    let hide = |hidden| v1::HideRequest {
        request: request(),
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        hidden,
        reason: "wrong".into(),
        ..Default::default()
    };
    gateway.hide(&doctor(), hide(true)).await.unwrap();
    refused(gateway.hide(&doctor(), hide(false)).await);
    let narrow = v1::NarrowRequest {
        request: request(),
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        addressees: vec![HOSPITAL.into()],
        ..Default::default()
    };
    gateway.narrow(&doctor(), narrow).await.unwrap();
    let hold = v1::HoldRequest {
        request: request(),
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        hold: true,
        evidence: "order 4".into(),
    };
    gateway.hold(&registrar(), hold.clone()).await.unwrap();
    let release = v1::HoldRequest { request: request(), hold: false, ..hold };
    refused(gateway.hold(&another_registrar(), release).await);
    let open = v1::OpenEmergencyRequest {
        request: request(),
        participant: NUMBER.into(),
        reason: "ambulance".into(),
        ..Default::default()
    };
    gateway.open_emergency(&doctor(), open).await.unwrap();
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        ..Default::default()
    };
    gateway.revoke(&participant(), revoke).await.unwrap();
    let leave = v1::WithdrawRequest { request: request(), participant: NUMBER.into(), ..Default::default() };
    gateway.withdraw(&participant(), leave).await.unwrap();
    gateway.put_user(&registrar(), user(Status::Suspended)).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_keys_are_destroyed_and_an_erasure_is_stopped() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    let low = storehouse.gateway_low();
    refused(low.erase(&pseudonym).await);
    let stop = v1::StopErasureRequest {
        request: request(),
        participant: NUMBER.into(),
        reason: "asked by mistake".into(),
        ..Default::default()
    };
    low.stop_erasure(&registrar(), stop).await.unwrap();
    assert!(matches!(gateway.erase(&pseudonym).await.unwrap(), Step::Waits(_)));
    storehouse.close().await;
}
