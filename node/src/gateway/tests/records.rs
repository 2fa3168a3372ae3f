//! What reads of several, relations and legal holds expect and write.

use kura_cluster::command::Command;
use kura_cluster::consent::Denial;
use kura_cluster::id::RecordId;
use kura_cluster::row::{JournalEntry, Participant, RecordControl, RefusedRecord, RowKey, Table, User};
use kura_cluster::seal::Domain;
use kura_cluster::word::{Class, Profession, Purpose};

use super::*;
use crate::gateway::participant::number;
use crate::gateway::put::decide_write;
use crate::gateway::several::{Alike, decide_several};
use crate::gateway::transact::Verdict;

fn whole(record: v1::NewRecord) -> v1::PutWholeRequest {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(100), ..Default::default() };
    let (request, participant) = (request(), NUMBER.into());
    v1::PutWholeRequest { request, participant, record: Some(record), parts: vec![part], ..Default::default() }
}

async fn put(gateway: &Gateway, record: v1::NewRecord) -> Bytes {
    gateway.put_whole(&doctor(), whole(record)).await.unwrap().record_id
}

fn expected(command: &Command, key: &RowKey) -> bool {
    command.expects.iter().any(|expect| expect.row == *key.as_bytes())
}

fn control_key(attempt: &mut Attempt<'_>, record: &[u8]) -> RowKey {
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    RowKey::record_control(&known.pseudonym, &RecordId::from_slice(record).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_several_expects_every_record_that_it_asked_for() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (one, other) = (put(&gateway, record()).await, put(&gateway, record()).await);
    let asked: Vec<RecordId> = [&one[..], &[7; 16], &other[..]].map(|id| RecordId::from_slice(id).unwrap()).into();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let alike = Alike { number: number(NUMBER).unwrap(), purpose: Purpose::Care, episode: None };
    let Ok(Verdict::Permitted { value, .. }) = decide_several(&mut attempt, &doctor(), &alike, &asked) else {
        panic!("the hospital is granted");
    };
    assert_eq!(value.iter().map(|(_, answer)| answer.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    for record in &asked {
        let key = control_key(&mut attempt, &record.0);
        assert!(expected(&attempt.command, &key), "also the record that is not there");
    }
    assert_eq!(attempt.entry.record_ids, [one, other]);
    let refused = RefusedRecord { record_id: Bytes::from_static(&[7; 16]), denial: Denial::NoSuchRecord.number() };
    assert_eq!(attempt.entry.refused_records, [refused]);
    drop(attempt);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_refers_to_another_expects_that_one() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let first = put(&gateway, record()).await;
    let related = |relation| v1::NewRecord { related_record_id: first.clone(), relation, ..record() };
    for relation in 1..=3 {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let new = crate::gateway::new_record::NewRecord::parse(NUMBER, Some(&related(relation))).unwrap();
        let verdict = decide_write(&mut attempt, &doctor(), (&new, None), |_, _| Ok(())).unwrap();
        assert!(matches!(verdict, Verdict::Permitted { .. }));
        let key = control_key(&mut attempt, &first);
        assert!(expected(&attempt.command, &key), "relation {relation}");
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_counted_at_the_participant_and_outlasts_what_is_written() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (first, second) = (put(&gateway, record()).await, put(&gateway, record()).await);
    let registrar = |name: char| {
        let identity = Identity {
            fingerprint: [name as u8; 32],
            key_sha256: [name as u8; 32],
            ..(*identity(Role::Registrar, &name.to_string())).clone()
        };
        Caller::parse(Arc::new(identity), None).unwrap()
    };
    let hold = |record: &Bytes, hold| v1::HoldRequest {
        request: request(),
        participant: NUMBER.into(),
        record_id: record.clone(),
        hold,
        evidence: "order 12".into(),
    };
    let held = || {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
        let key = RowKey::record_control(&known.pseudonym, &RecordId::from_slice(&first).unwrap());
        let control = attempt.look_of::<RecordControl>(&key, &known.pseudonym).unwrap();
        (known.row.held_records, control.value.unwrap().hold)
    };
    let reason = |denied: Result<v1::Receipt, GatewayError>| match denied {
        Err(GatewayError::Denied { reason, .. }) => reason.word(),
        other => panic!("{other:?}"),
    };
    assert_eq!(held(), (0, false));
    gateway.hold(&registrar('a'), hold(&first, true)).await.unwrap();
    gateway.hold(&registrar('a'), hold(&second, true)).await.unwrap();
    assert_eq!(held(), (2, true));
    assert_eq!(reason(gateway.hold(&registrar('b'), hold(&first, true)).await), "hold-state");
    assert_eq!(reason(gateway.hold(&registrar('a'), hold(&first, false)).await), "same-person");
    // A further version does not end it.
    put(&gateway, v1::NewRecord { record_id: first.clone(), ..record() }).await;
    assert_eq!(held(), (2, true));
    let empty = v1::HoldRequest { evidence: String::new(), ..hold(&first, false) };
    assert_eq!(reason(gateway.hold(&registrar('b'), empty).await), "no-evidence");
    gateway.hold(&registrar('b'), hold(&first, false)).await.unwrap();
    assert_eq!(held(), (1, false));
    assert_eq!(reason(gateway.hold(&registrar('b'), hold(&first, false)).await), "hold-state");
    assert_eq!(reason(gateway.hold(&doctor(), hold(&first, true)).await), "actor-may-not");

    // What an erasure expects: whoever decided on the participant before a hold was put has a conflict.
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &Participant::clone(&known.row));
    let command = attempt.command.encode_to_vec().into();
    drop(attempt);
    gateway.hold(&registrar('a'), hold(&first, true)).await.unwrap();
    let proposed = storehouse.proposer.propose(command, Instant::now() + PATIENCE).await.unwrap();
    assert!(matches!(proposed.outcome, Outcome::Conflict { .. }), "{proposed:?}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_checked_over_all_parts_however_they_come() {
    const BODY: &[u8] = include_bytes!("../../signature/vectors/body");
    let storehouse = Storehouse::new().await;
    let file = storehouse.folder.path().join("signers.pem");
    std::fs::write(&file, include_str!("../../signature/vectors/ca.pem")).unwrap();
    let plain = storehouse.gateway();
    let gateway = Arc::into_inner(storehouse.gateway()).unwrap();
    let gateway = Arc::new(gateway.checking(crate::signature::Checker::load(&file).unwrap()));
    let signed = || v1::NewRecord {
        signature: Bytes::from_static(include_bytes!("../../signature/vectors/sha256.p7s")),
        timestamp_token: Bytes::from_static(include_bytes!("../../signature/vectors/token.tst")),
        signature_result: "valid, says the application".into(),
        ..record()
    };
    let part = |name: &str, data: &'static [u8]| v1::WholePart {
        name: name.into(),
        media_type: "text/plain".into(),
        data: data.into(),
        ..Default::default()
    };
    let put = |parts| v1::PutWholeRequest { parts, ..whole(signed()) };
    let told = async |record_id: &Bytes| read(&gateway, record_id, 0).await.0;

    // In one message, of two parts.
    let parts = vec![part("a", &BODY[..7]), part("b", &BODY[7..])];
    let receipt = gateway.put_whole(&doctor(), put(parts.clone())).await.unwrap();
    let header = told(&receipt.record_id).await;
    let check = header.signature_check.unwrap();
    assert_eq!((check.result, &check.why[..], &check.timestamp_why[..]), (1, "", ""));
    assert!(check.timestamp_ms > 0 && check.signer_sha256.len() == 32);
    let summary = header.summary.unwrap();
    assert_eq!((summary.signed, summary.signature_check), (true, 1));
    assert_eq!(header.signature_result, "valid, says the application");
    // Parts in another order are other bytes: kept all the same, and said so.
    let receipt = gateway.put_whole(&doctor(), put(parts.iter().rev().cloned().collect())).await.unwrap();
    let check = told(&receipt.record_id).await.signature_check.unwrap();
    assert_eq!((check.result, &check.why[..]), (2, "is over other bytes"));
    // Without authorities nothing is checked.
    let receipt = plain.put_whole(&doctor(), put(parts)).await.unwrap();
    let header = told(&receipt.record_id).await;
    assert!(header.signature_check.is_none() && header.summary.unwrap().signed);

    // Staged, and taken up again by another gateway: what had passed before counts.
    let asked = v1::PutBegin { record: Some(signed()), ..begin(request()) };
    let mut upload = uploading(gateway.begin_upload(&doctor(), asked.clone()).await);
    let content = Bytes::copy_from_slice(&upload.content_id().0);
    upload.part(v1::PutPart { name: "a".into(), ..super::part() }).await.unwrap();
    upload.data(Bytes::from_static(&BODY[..7])).await.unwrap();
    upload.part(v1::PutPart { name: "b".into(), ..super::part() }).await.unwrap();
    upload.send().await.unwrap();
    while upload.is_in_flight() {
        upload.settle_one().await.unwrap();
    }
    drop(upload);
    let again = v1::PutBegin { resume_content: content, ..asked };
    let mut upload = uploading(gateway.begin_upload(&doctor(), again).await);
    assert_eq!((upload.durable().parts, upload.durable().bytes_total), (2, 7));
    upload.part(v1::PutPart { name: "b".into(), ..super::part() }).await.unwrap();
    upload.data(Bytes::from_static(&BODY[7..])).await.unwrap();
    let receipt = upload.finish(v1::PutFinish::default()).await.unwrap();
    assert_eq!(told(&receipt.record_id).await.signature_check.unwrap().result, 1);
    drop((plain, gateway));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_is_decided_on_by_its_own_class() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let image = put(&gateway, record()).await;
    // As versions were written before they kept their record's class.
    let document = Class::Document.number();
    storehouse.edit_control(&image, |control| control.class = document).await;
    put(&gateway, v1::NewRecord { record_id: image.clone(), class: document, ..record() }).await;
    let care_worker = |user: &mut User| user.profession = Profession::CareWorker.number();
    storehouse.edit_hashed((Table::User, Domain::User), &[HOSPITAL, DOCTOR], care_worker).await;

    let version = |version| v1::GetRequest {
        participant: NUMBER.into(),
        record_id: image.clone(),
        version,
        ..v1::GetRequest::default()
    };
    assert!(gateway.read(&doctor(), version(2)).await.is_ok(), "care workers see documents");
    match gateway.read(&doctor(), version(1)).await {
        Err(GatewayError::Denied { reason, .. }) => assert_eq!(reason, Denial::ProfessionClass),
        other => panic!("they see no images: {:?}", other.map(|(header, _)| header)),
    }
    let last = storehouse.journalled().await.pop().unwrap();
    assert_eq!((last.class, last.version), (Class::Image.number(), 1));
    let asked = v1::HistoryRequest { participant: NUMBER.into(), record_id: image, ..Default::default() };
    let told = gateway.history(&doctor(), asked).await.unwrap().versions;
    assert_eq!(told.iter().map(|told| told.version).collect::<Vec<_>>(), [2]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_wrote_is_told_again_to_nobody_else() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let asked = whole(record());
    gateway.put_whole(&doctor(), asked.clone()).await.unwrap();
    let stranger = v1::Actor { name: "nobody".into(), ..asked.actor.clone().unwrap_or_default() };
    let other = v1::PutWholeRequest { actor: Some(stranger), ..asked };
    assert!(gateway.put_whole(&participant(), other).await.is_err());
    storehouse.close().await;
}
