//! Bounds of what can be there of a participant, and that what is allowed can be told and erased.

use kura_cluster::row::{Application, Participant, RecordControl};

use super::*;
use crate::gateway::limits::{CARDS_MAX, VERSIONS_MAX};
use crate::gateway::participant::number;

fn version_of(record_id: &Bytes) -> v1::PutWholeRequest {
    let data = Bytes::copy_from_slice(&random::id());
    let part = v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data, ..Default::default() };
    v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(v1::NewRecord { record_id: record_id.clone(), ..record() }),
        parts: vec![part],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_all_the_versions_that_it_can_have_tells_its_history() {
    let storehouse = Storehouse::new().await;
    let set = (Table::Application, Domain::Application);
    storehouse.edit_hashed(set, &["karte"], |row: &mut Application| row.participants = true).await;
    let gateway = storehouse.gateway();
    let record_id = gateway.put_whole(&doctor(), version_of(&Bytes::new())).await.unwrap().record_id;
    // As if all but the last had been written: those that lie between are passed over.
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    let id = kura_cluster::id::RecordId::from_slice(&record_id).unwrap();
    let key = RowKey::record_control(&known.pseudonym, &id);
    let found = attempt.load_of::<RecordControl>(&key, &known.pseudonym).unwrap();
    let row = RecordControl { version: VERSIONS_MAX - 1, ..(*found.value.unwrap()).clone() };
    let data = attempt.data_key(&known.pseudonym, known.row.key_version).unwrap();
    attempt.put_with(&key, &data, found.revision, &row);
    storehouse.commit(attempt).await;
    let last = gateway.put_whole(&doctor(), version_of(&record_id)).await.unwrap();
    assert_eq!(last.version, VERSIONS_MAX);

    for caller in [doctor(), participant()] {
        let history =
            v1::HistoryRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() };
        let told = gateway.history(&caller, history).await.unwrap();
        assert_eq!(told.versions.iter().map(|one| one.version).collect::<Vec<_>>(), [1, VERSIONS_MAX]);
        assert!(told.journal_position > 0);
    }
    let refused = gateway.put_whole(&doctor(), version_of(&record_id)).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Invalid { field: "record_id", .. }), "{refused}");
    assert!(refused.to_string().contains(&VERSIONS_MAX.to_string()), "{refused}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_can_have_had_so_many_cards() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let issue = |serial: &str| v1::IssueCardRequest {
        request: request(),
        participant: NUMBER.into(),
        serial: serial.into(),
        evidence: "form 3".into(),
        ..Default::default()
    };
    gateway.issue_card(&doctor(), issue("card-1")).await.unwrap();
    let attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let key = {
        let mut attempt = attempt;
        let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
        assert_eq!(known.row.cards, 1);
        RowKey::participant(&known.pseudonym)
    };
    storehouse.edit(&key, |row: &mut Participant| row.cards = CARDS_MAX - 1).await;
    gateway.issue_card(&doctor(), issue("card-2")).await.unwrap();
    let refused = gateway.issue_card(&doctor(), issue("card-3")).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Invalid { field: "serial", .. }), "{refused}");
    assert!(refused.to_string().contains(&CARDS_MAX.to_string()), "{refused}");
    let resolve = v1::ResolveCardRequest { serial: "card-2".into(), ..Default::default() };
    assert_eq!(gateway.resolve_card(&doctor(), resolve).await.unwrap().participant, NUMBER);
    storehouse.close().await;
}
