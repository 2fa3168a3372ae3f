//! Versions under another clinical day than the ones before: a correction goes, what was of before the consent stays so.

use kura_cluster::consent::Denial;
use kura_cluster::row::Participant;

use super::*;
use crate::gateway::participant::number;

const BEFORE: i32 = 20_000;

fn today() -> i32 {
    kura_cluster::consent::japan_day(crate::clock::now_ms())
}

fn put(record: v1::NewRecord, text: &str) -> v1::PutWholeRequest {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "text/plain".into(),
        data: text.to_owned().into(),
        ..Default::default()
    };
    let (request, participant) = (request(), NUMBER.into());
    v1::PutWholeRequest { request, participant, record: Some(record), parts: vec![part], ..Default::default() }
}

fn of(clinical_day: i32) -> v1::NewRecord {
    v1::NewRecord { clinical_day, ..record() }
}

async fn written(gateway: &Gateway, record: v1::NewRecord, text: &str) -> Bytes {
    gateway.put_whole(&doctor(), put(record, text)).await.unwrap().record_id
}

#[track_caller]
fn denied<T>(answer: Result<T, GatewayError>) -> Denial {
    match answer {
        Err(GatewayError::Denied { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("permitted"),
    }
}

impl Storehouse {
    /// The participant leaves and takes part again from today, naming the hospital.
    async fn leave_and_come_back(&self, gateway: &Gateway) {
        let withdraw = v1::WithdrawRequest {
            request: request(),
            participant: NUMBER.into(),
            evidence: "form 7".into(),
            ..Default::default()
        };
        gateway.withdraw(&doctor(), withdraw).await.unwrap();
        let consent = v1::SignedConsent { signed_day: today(), evidence: "paper 2".into(), ..Default::default() };
        let participant = NUMBER.into();
        let enrol = v1::EnrolRequest { actor: None, request: request(), participant, consent: Some(consent) };
        gateway.enrol(&doctor(), enrol).await.unwrap();
        let grant = v1::GrantRequest {
            actor: None,
            request: request(),
            participant: NUMBER.into(),
            facility: HOSPITAL.into(),
            evidence: "paper 2".into(),
        };
        gateway.grant(&doctor(), grant).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_day_brings_nothing_of_before_the_consent_into_the_network() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = written(&gateway, of(BEFORE), "allergic to penicillin").await;
    let version = |clinical_day| v1::NewRecord { record_id: record_id.clone(), ..of(clinical_day) };
    // Under one consent a date is corrected as often as need be.
    written(&gateway, version(BEFORE + 7), "allergic to penicillin").await;
    written(&gateway, version(BEFORE), "allergic to penicillin, and to nuts").await;
    storehouse.leave_and_come_back(&gateway).await;

    for text in ["allergic to penicillin", "allergic to penicillin, and to nuts"] {
        let same = gateway.put_whole(&doctor(), put(version(today()), text)).await;
        assert_eq!(denied(same), Denial::BeforeConsent, "{text}");
    }
    // Nor in pieces: it is known when all of it has come.
    let asked = v1::PutBegin { record: Some(version(today())), ..begin(request()) };
    let mut upload = uploading(gateway.begin_upload(&doctor(), asked).await);
    upload.part(part()).await.unwrap();
    upload.data(Bytes::from_static(b"allergic to penicillin")).await.unwrap();
    assert_eq!(denied(upload.finish(v1::PutFinish::default()).await), Denial::BeforeConsent);
    // What is told anew is of its own day, as an import of updates brings it; what was before stays closed.
    let update = gateway.put_whole(&doctor(), put(version(today()), "allergic to nuts, too")).await.unwrap();
    assert_eq!(update.version, 4);
    let get = |version| v1::GetRequest {
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        version,
        ..Default::default()
    };
    assert!(gateway.read(&doctor(), get(4)).await.is_ok());
    for earlier in 1..=3 {
        assert_eq!(denied(gateway.read(&doctor(), get(earlier)).await.map(|_| ())), Denial::BeforeConsent);
    }
    // A version that is within the consent does not carry the former bodies over either.
    let again = gateway.put_whole(&doctor(), put(version(today()), "allergic to penicillin")).await;
    assert_eq!(denied(again), Denial::BeforeConsent);
    // Whoever finds the old one misdated states so anew, in a record of its own.
    let anew = v1::NewRecord { related_record_id: record_id.clone(), relation: 1, ..of(today()) };
    written(&gateway, anew, "allergic to penicillin").await;
    drop(gateway);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dated_back_is_of_then_in_every_version() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = written(&gateway, of(BEFORE + 10), "of the tenth, it was thought").await;
    written(&gateway, v1::NewRecord { record_id: record_id.clone(), ..of(BEFORE) }, "of the first").await;
    let get = |version| v1::GetRequest {
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        version,
        ..Default::default()
    };
    assert!(gateway.read(&doctor(), get(1)).await.is_ok());
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let pseudonym = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap().pseudonym;
    drop(attempt);
    let between = |row: &mut Participant| row.consent.as_mut().unwrap().signed_day = BEFORE + 5;
    storehouse.edit(&RowKey::participant(&pseudonym), between).await;
    for version in [0, 1, 2] {
        let reason = denied(gateway.read(&doctor(), get(version)).await.map(|_| ()));
        assert_eq!(reason, Denial::BeforeConsent, "{version}");
    }
    drop(gateway);
    storehouse.close().await;
}
