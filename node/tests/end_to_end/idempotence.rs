//! A write happens once, and what became of it can be learnt.

use kura_client::{
    ChangeError, Class, Committed, ConsentError, Date, NewRecord, Outcome, PutError, Receipt, RecordId, RequestId,
    now_ms,
};

use super::memory::Made;
use super::world::{CLINIC, HOSPITAL, OUTSIDER, World, listed, note, number};

const MIB: u64 = 1 << 20;

/// What two answers to one write have in common.
fn place(receipt: &Receipt) -> (u64, u64, RecordId, u32, u64) {
    (receipt.timeline(), receipt.index(), receipt.record(), receipt.version(), receipt.journal_position())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_id_names_one_body_for_ever() {
    let world = World::start(2, 0).await;
    let number = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let letter = || NewRecord::new(Class::ReferralLetter, "text/plain", Date::today()).document_id("letter 1");
    let first = hospital.put(&number, letter()).bytes("dear colleague").await.unwrap();
    assert!(!first.repeated());
    // Another request with the same document: at another voter, and streamed, too.
    for voter in world.voters() {
        let again =
            world.doctor_at(&voter, HOSPITAL).await.put(&number, letter()).bytes("dear colleague").await.unwrap();
        assert!(again.repeated());
        assert_eq!((again.record(), again.version()), (first.record(), first.version()));
    }
    let other = hospital.put(&number, letter()).bytes("dear other").await.unwrap_err();
    assert!(matches!(other, PutError::Conflict { .. }), "{other}");
    assert_eq!((other.field(), other.was_committed(), other.may_retry()), (Some("document_id"), Committed::No, false));

    let long = || letter().document_id("letter 2");
    let first = hospital.put(&number, long()).body(Made::noise(1, 3 * MIB)).await.unwrap();
    let again = hospital.put(&number, long()).body(Made::noise(1, 3 * MIB)).await.unwrap();
    assert!(again.repeated() && again.record() == first.record());
    let other = hospital.put(&number, long()).body(Made::noise(2, 3 * MIB)).await.unwrap_err();
    assert!(matches!(other, PutError::Conflict { .. }), "{other}");

    // The same id at another facility is another document, and for another participant a conflict.
    let elsewhere = world.doctor(CLINIC).put(&number, letter()).bytes("from the clinic").await.unwrap();
    assert_ne!(elsewhere.record(), first.record());
    let somebody = world.enrol(2).await;
    let other = hospital.put(&somebody, letter()).bytes("dear colleague").await.unwrap_err();
    assert!(matches!(other, PutError::Conflict { .. }), "{other}");
    assert_eq!(listed(&hospital, &number).await.len(), 3);
    assert_eq!(listed(&hospital, &somebody).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_with_the_same_receipt() {
    let world = World::start(2, 0).await;
    let number = world.enrol(1).await;
    let id = RequestId::new();
    let mut receipts = Vec::new();
    for voter in world.voters() {
        let hospital = world.doctor_at(&voter, HOSPITAL).await;
        receipts.push(hospital.put(&number, note()).bytes("once").request(id).await.unwrap());
    }
    assert_eq!(place(&receipts[0]), place(&receipts[1]));
    assert_eq!((receipts[0].repeated(), receipts[1].repeated()), (false, true));
    assert_eq!(receipts[0].request(), id);

    let hospital = world.doctor(HOSPITAL);
    let other = hospital.put(&number, note()).bytes("twice").request(id).await.unwrap_err();
    assert!(matches!(other, PutError::Conflict { .. }), "{other}");
    let other = hospital.hide(&number, receipts[0].record()).request(id).await.unwrap_err();
    assert!(matches!(other, ChangeError::Conflict { .. }), "{other}");

    let (long, body) = (RequestId::new(), || Made::noise(1, 3 * MIB));
    let first = hospital.put(&number, note()).body(body()).request(long).await.unwrap();
    let again = hospital.put(&number, note()).body(body()).request(long).await.unwrap();
    assert_eq!((place(&first), again.repeated()), (place(&again), true));
    for voter in world.voters() {
        let hospital = world.doctor_at(&voter, HOSPITAL).await;
        let other = hospital.put(&number, note()).body(Made::noise(2, 3 * MIB)).request(long).await.unwrap_err();
        assert!(matches!(other, PutError::Conflict { .. }), "{other}");
        assert_eq!((other.field(), other.was_committed()), (Some("request"), Committed::No));
    }

    let grant = RequestId::new();
    let first = world.person(number).grant(OUTSIDER).request(grant).await.unwrap();
    // Its effect is taken back; repeating the request does not bring it again.
    world.person(number).revoke(OUTSIDER).await.unwrap();
    let again = world.person(number).grant(OUTSIDER).request(grant).await.unwrap();
    assert_eq!((place(&first), again.repeated()), (place(&again), true));
    assert!(world.doctor(OUTSIDER).list(&number).stream().take(1).await.is_err());
    let other = world.person(number).grant(CLINIC).request(grant).await.unwrap_err();
    assert!(matches!(other, ConsentError::Conflict { .. }), "{other}");

    assert_eq!(listed(&hospital, &number).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_final() {
    let world = World::start(2, 0).await;
    let enrolled = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let receipt = hospital.put(&enrolled, note()).bytes("there").await.unwrap();
    for voter in world.voters() {
        let config = world.cluster.client_config_at(kura_node::dev::ClientFile::Application, &voter).unwrap();
        let client = kura_client::Client::connect(config).await.unwrap();
        match client.outcome(receipt.request()).await.unwrap() {
            Outcome::Committed(told) => assert_eq!(place(&told), place(&receipt)),
            other => panic!("{other:?}"),
        }
    }

    // Asked for before it came: then it never will.
    let late = RequestId::new();
    assert_eq!(world.application.outcome(late).await.unwrap(), Outcome::Absent);
    let refused = hospital.put(&enrolled, note()).bytes("late").request(late).await.unwrap_err();
    assert!(matches!(refused, PutError::Conflict { .. }), "{refused}");
    let refused = hospital.put(&enrolled, note()).body(Made::noise(1, 3 * MIB)).request(late).await.unwrap_err();
    assert!(matches!(refused, PutError::Conflict { .. }), "{refused}");
    assert_eq!(world.application.outcome(late).await.unwrap(), Outcome::Absent);

    // Older than any window.
    let mut bytes = [3; 16];
    bytes[..6].copy_from_slice(&(now_ms() - 400 * 86_400_000).to_be_bytes()[2..]);
    let old = RequestId::from_bytes(bytes);
    assert_eq!(world.application.outcome(old).await.unwrap(), Outcome::Forgotten);
    let refused = hospital.put(&enrolled, note()).bytes("old").request(old).await.unwrap_err();
    assert!(matches!(refused, PutError::Expired {}), "{refused}");
    let refused = world.person(enrolled).grant(OUTSIDER).request(old).await.unwrap_err();
    assert!(matches!(refused, ConsentError::Expired {}), "{refused}");

    assert_eq!(listed(&hospital, &enrolled).await.len(), 1);
    // A refused write is no write: it is told to be absent.
    let denied = hospital.put(&number(9), note()).bytes("nobody").await;
    assert!(matches!(denied, Err(PutError::Denied(_))));
}
