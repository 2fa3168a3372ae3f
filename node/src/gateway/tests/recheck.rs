//! Downloads that run are decided again, on a state that is known to be current.

use std::sync::atomic::{AtomicUsize, Ordering};

use kura_cluster::consent::Denial;
use kura_cluster::row::{Application, Facility, User};

use super::*;
use crate::gateway::group::Pending;
use crate::gateway::limits::{LEADER_WAIT, RECHECK_INTERVAL, RECHECK_TIMEOUT};
use crate::gateway::propose::Failure;
use crate::gateway::several::Step;

const CLINIC: &str = "clinic-02";

/// What becomes of a proposal, by how many there were before.
enum Way {
    /// To the leader.
    On,
    /// No leader takes it.
    Nowhere,
    /// Nobody answers.
    Silence,
}

/// A proposer whose way to the leader is as the test says, and how many came.
fn on_its_way(storehouse: &Storehouse, way: impl Fn(usize) -> Way + Send + 'static) -> (Proposer, Arc<AtomicUsize>) {
    let (proposer, mut waiting) = Proposer::held();
    let leader = storehouse.proposer.clone();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(Pending { command, answer }) = waiting.recv().await {
            match way(counted.fetch_add(1, Ordering::SeqCst)) {
                Way::On => {
                    let proposed = leader.propose(command, Instant::now() + PATIENCE).await.unwrap();
                    let _ = answer.send(Ok(proposed));
                }
                Way::Nowhere => drop(answer.send(Err(Failure::NotAppended("nobody leads".into())))),
                Way::Silence => kept.push(answer),
            }
        }
    });
    (proposer, count)
}

async fn put(gateway: &Gateway, bytes: usize) -> Bytes {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "application/dicom".into(),
        data: body(bytes),
        ..Default::default()
    };
    let put = v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    };
    gateway.put_whole(&doctor(), put).await.unwrap().record_id
}

pub(super) async fn hide(gateway: &Gateway, record_id: &Bytes) {
    let hide = v1::HideRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        hidden: true,
        reason: "wrong person".into(),
    };
    gateway.hide(&doctor(), hide).await.unwrap();
}

/// A doctor of a clinic that the participant opened everything to.
pub(super) async fn clinic(storehouse: &Storehouse, gateway: &Gateway) -> Caller {
    let facility = |row: &mut Facility| {
        *row = Facility { id: CLINIC.into(), name: "clinic".into(), kind: 2, status: 1, access_line: 1, ..row.clone() };
    };
    storehouse.edit_hashed((Table::Facility, Domain::Facility), &[CLINIC], facility).await;
    let user = |row: &mut User| {
        *row = User { facility: CLINIC.into(), id: "ueda".into(), profession: 1, status: 1, ..row.clone() };
    };
    storehouse.edit_hashed((Table::User, Domain::User), &[CLINIC, "ueda"], user).await;
    let application = |row: &mut Application| row.facilities.push(CLINIC.into());
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    let grant = v1::GrantRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        facility: CLINIC.into(),
        evidence: "paper 2".into(),
    };
    gateway.grant(&doctor(), grant).await.unwrap();
    let actor = v1::Actor {
        kind: 1,
        facility: CLINIC.into(),
        name: "ueda".into(),
        method: 1,
        authenticated_ms: crate::clock::now_ms(),
        ..Default::default()
    };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

pub(super) fn getting(record_id: &Bytes) -> v1::GetRequest {
    v1::GetRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(100)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_ends_its_downloads_although_its_own_state_permits_them() {
    let storehouse = Storehouse::new().await;
    let record = put(&storehouse.gateway(), 200_000).await;
    for lost in [|| Way::Silence, || Way::Nowhere] {
        let way = move |number| if number == 0 { Way::On } else { lost() };
        let (proposer, _) = on_its_way(&storehouse, way);
        let gateway = storehouse.gateway_through(proposer);
        let (_, mut reading) = gateway.read(&doctor(), getting(&record)).await.unwrap();
        // What was proved a moment ago is enough.
        reading.check_again(soon()).await.unwrap();
        gateway.proposer.forget();
        let error = reading.check_again(soon()).await.unwrap_err();
        assert!(matches!(&error, GatewayError::Unavailable { why } if why.contains("another node")), "{error}");
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_downloads_share_one_proof_and_what_else_is_proposed_is_one() {
    let storehouse = Storehouse::new().await;
    let record = put(&storehouse.gateway(), 200_000).await;
    let (proposer, count) = on_its_way(&storehouse, |_| Way::On);
    let gateway = storehouse.gateway_through(proposer);
    let mut readings = Vec::new();
    for _ in 0..8 {
        readings.push(gateway.read(&doctor(), getting(&record)).await.unwrap().1);
    }
    assert_eq!(count.load(Ordering::SeqCst), 8);
    let entries = storehouse.journalled().await.len();
    let check = |readings: Vec<_>| async {
        let checks = readings.into_iter().map(|mut reading: crate::gateway::read::Reading| async move {
            reading.check_again(Instant::now() + PATIENCE).await.unwrap();
            reading
        });
        futures_util::future::join_all(checks).await
    };
    let readings = check(readings).await;
    assert_eq!(count.load(Ordering::SeqCst), 8, "the reads themselves were proposed just now");
    gateway.proposer.forget();
    check(readings).await;
    assert_eq!(count.load(Ordering::SeqCst), 9, "one for all of them");
    assert_eq!(storehouse.journalled().await.len(), entries, "it is the same read");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_missed_for_longer_than_a_call_waits_ends_no_download() {
    let storehouse = Storehouse::new().await;
    let record = put(&storehouse.gateway(), 200_000).await;
    let missed_until = Instant::now() + LEADER_WAIT + Duration::from_secs(1);
    let way = move |number| if number == 0 || Instant::now() > missed_until { Way::On } else { Way::Nowhere };
    let gateway = storehouse.gateway_through(on_its_way(&storehouse, way).0);
    let (_, mut reading) = gateway.read(&doctor(), getting(&record)).await.unwrap();
    gateway.proposer.forget();
    reading.check_again(Instant::now() + RECHECK_TIMEOUT).await.unwrap();
    assert!(Instant::now() > missed_until);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_records_is_decided_anew_when_its_turn_comes_late() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let records = [put(&gateway, 1_000).await, put(&gateway, 1_000).await];
    let asked =
        v1::GetSeveralRequest { participant: NUMBER.into(), record_ids: records.to_vec(), ..Default::default() };
    let reader = clinic(&storehouse, &gateway).await;
    let mut reading = gateway.read_several(&reader, asked).await.unwrap();
    reading.age(RECHECK_INTERVAL + Duration::from_millis(1));
    // The first is checked for itself; that says nothing of the second.
    let Some(Step::Header(header)) = reading.next().await.unwrap() else { panic!("the first is shown") };
    assert_eq!(header.summary.unwrap().record_id, records[0]);
    hide(&gateway, &records[1]).await;
    match reading.next().await {
        Err(GatewayError::Denied { reason, .. }) => assert_eq!(reason, Denial::Hidden),
        _ => panic!("the second was hidden before its turn came"),
    }
    let last = storehouse.journalled().await.pop().unwrap();
    assert_eq!((&last.record_id, &last.denial[..]), (&records[1], "hidden"));
    storehouse.close().await;
}
