//! Records of a duplicate enrolment that became an alias.

use kura_cluster::consent::{Denial, japan_day};
use kura_cluster::row::Participant;
use sha2::Sha256;

use super::*;
use crate::gateway::participant::number;

pub(super) const TWICE: &str = "0043001234567892";
const THRICE: &str = "0043001234567893";
/// The first consents; those of everybody else are later.
const EARLY: i32 = 18_000;

fn registrar() -> Caller {
    Caller::parse(identity(Role::Registrar, "ito"), None).unwrap()
}

fn second() -> Caller {
    Caller::parse(another_identity(Role::Registrar, "ueda"), None).unwrap()
}

fn today() -> i32 {
    japan_day(crate::clock::now_ms())
}

pub(super) async fn enrol(gateway: &Gateway, participant: &str, signed_day: i32) {
    let consent = v1::SignedConsent { signed_day, evidence: "paper".into(), ..Default::default() };
    let enrol =
        v1::EnrolRequest { request: request(), participant: participant.into(), consent: Some(consent), actor: None };
    gateway.enrol(&doctor(), enrol).await.unwrap();
    let grant = v1::GrantRequest {
        actor: None,
        request: request(),
        participant: participant.into(),
        facility: HOSPITAL.into(),
        evidence: "paper".into(),
    };
    gateway.grant(&doctor(), grant).await.unwrap();
}

pub(super) async fn put(gateway: &Gateway, participant: &str, record: v1::NewRecord) -> Result<Bytes, GatewayError> {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(10), ..Default::default() };
    let put = v1::PutWholeRequest {
        request: request(),
        participant: participant.into(),
        record: Some(record),
        parts: vec![part],
        ..Default::default()
    };
    gateway.put_whole(&doctor(), put).await.map(|receipt| receipt.record_id)
}

pub(super) fn of_day(clinical_day: i32) -> v1::NewRecord {
    v1::NewRecord { clinical_day, ..record() }
}

/// Makes a duplicate an alias, by two.
pub(super) async fn join(gateway: &Gateway, stays: &str, duplicate: &str) {
    let alias = v1::AliasRequest {
        request: request(),
        participant: stays.into(),
        duplicate: duplicate.into(),
        evidence: "form 9".into(),
    };
    let act_id = gateway.alias(&registrar(), alias).await.unwrap().act_id;
    let asked = v1::ListActsRequest { act_id: act_id.clone(), ..Default::default() };
    let act = gateway.list_acts(&second(), asked).await.unwrap().acts.remove(0);
    let payload_sha256 = Bytes::copy_from_slice(&Sha256::digest(&act.payload));
    let confirm = v1::ConfirmActRequest { request: request(), act_id, payload_sha256 };
    gateway.confirm_act(&second(), confirm).await.unwrap();
}

async fn reads(gateway: &Arc<Gateway>, record_id: &Bytes) -> Result<(), Denial> {
    let get = v1::GetRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() };
    match gateway.read(&doctor(), get).await {
        Ok(_) => Ok(()),
        Err(GatewayError::Denied { reason, .. }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

async fn lists(gateway: &Gateway, caller: &Caller) -> Vec<Bytes> {
    let list = v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    gateway.list(caller, list).await.unwrap().records.into_iter().map(|record| record.record_id).collect()
}

/// Somebody took part under a second number, left, and came back with a later consent: what was written before that
/// is not shown there. Under the other number, whose consent is as early as the first, it would be.
#[tokio::test(flavor = "multi_thread")]
async fn joining_two_numbers_shows_nothing_of_before_either_consent() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let application = |row: &mut kura_cluster::row::Application| row.participants = true;
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    enrol(&gateway, TWICE, EARLY).await;
    let before = put(&gateway, TWICE, of_day(EARLY + 100)).await.unwrap();
    let withdraw = v1::WithdrawRequest {
        request: request(),
        participant: TWICE.into(),
        evidence: "paper 2".into(),
        ..Default::default()
    };
    gateway.withdraw(&doctor(), withdraw).await.unwrap();
    enrol(&gateway, TWICE, today()).await;
    let since = put(&gateway, TWICE, of_day(today())).await.unwrap();
    // What lies under the number that stays has its consent alone.
    let own = put(&gateway, NUMBER, of_day(EARLY + 100)).await.unwrap();
    join(&gateway, NUMBER, TWICE).await;

    assert_eq!(reads(&gateway, &before).await, Err(Denial::BeforeConsent));
    assert_eq!((reads(&gateway, &since).await, reads(&gateway, &own).await), (Ok(()), Ok(())));
    for caller in [doctor(), participant()] {
        let listed = lists(&gateway, &caller).await;
        assert!(listed.len() == 2 && !listed.contains(&before), "{listed:?}");
    }
    let several = v1::GetSeveralRequest {
        participant: NUMBER.into(),
        record_ids: vec![before.clone(), since.clone()],
        ..Default::default()
    };
    let mut reading = gateway.read_several(&doctor(), several).await.unwrap();
    let mut refused = Vec::new();
    while let Some(step) = reading.next().await.unwrap() {
        if let crate::gateway::several::Step::Refused(one) = step {
            refused.push((one.record_id, one.reason));
        }
    }
    assert_eq!(refused, [(before.clone(), "before-consent".to_owned())]);
    // Nor is a version written there that nobody would be shown.
    let version = |of: &Bytes, day| v1::NewRecord { record_id: of.clone(), ..of_day(day) };
    let refused = put(&gateway, NUMBER, version(&since, EARLY + 100)).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Denied { reason: Denial::BeforeConsent, .. }), "{refused}");
    put(&gateway, NUMBER, version(&own, EARLY + 101)).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_an_alias_keeps_the_latest_of_the_days() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    enrol(&gateway, TWICE, EARLY + 50).await;
    enrol(&gateway, THRICE, EARLY + 20).await;
    let written = put(&gateway, THRICE, of_day(EARLY + 30)).await.unwrap();
    join(&gateway, TWICE, THRICE).await;
    join(&gateway, NUMBER, TWICE).await;
    assert_eq!(reads(&gateway, &written).await, Err(Denial::BeforeConsent), "as under the one between");
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let stays = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    let row: &Participant = &stays.row;
    let days: Vec<_> = row.aliases.iter().map(|alias| (&alias.number[..], alias.consent_day)).collect();
    assert_eq!(days, [(THRICE, Some(EARLY + 50)), (TWICE, Some(EARLY + 50))]);
    drop(attempt);
    storehouse.close().await;
}
