//! Records that are stored whole and do not open: each is told in its place, and hides no other.

use std::collections::BTreeMap;

use kura_cluster::Pseudonym;
use kura_cluster::consent::Denial;
use kura_cluster::id::{ContentId, RecordId};
use kura_cluster::word::Class;

use super::emergency::physician;
use super::*;
use crate::gateway::participant::number;
use crate::gateway::read::load_manifest;
use crate::gateway::several::Step;

async fn put(gateway: &Gateway, class: Class, length: usize, addressees: &[&str]) -> Bytes {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "text/plain".into(),
        data: body(length),
        ..Default::default()
    };
    let record = v1::NewRecord {
        class: class.number(),
        addressees: addressees.iter().map(|id| (*id).to_owned()).collect(),
        ..record()
    };
    let (request, participant) = (request(), NUMBER.into());
    let put =
        v1::PutWholeRequest { request, participant, record: Some(record), parts: vec![part], ..Default::default() };
    gateway.put_whole(&doctor(), put).await.unwrap().record_id
}

fn pseudonym(gateway: &Gateway) -> Pseudonym {
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap().pseudonym
}

fn id(record: &Bytes) -> RecordId {
    RecordId::from_slice(record).unwrap()
}

impl Storehouse {
    /// Changes one bit of a stored row on every member: it is whole for whoever does not open it.
    async fn damage(&self, key: &RowKey) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let stored = attempt.database.row(key).unwrap().unwrap();
        let mut value = stored.value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        attempt.command.expect(key, stored.header.revision);
        attempt.command.put(key, value);
        self.commit(attempt).await;
    }

    async fn damage_control(&self, gateway: &Gateway, record: &Bytes) {
        self.damage(&RowKey::record_control(&pseudonym(gateway), &id(record))).await;
    }

    async fn damage_manifest(&self, gateway: &Gateway, record: &Bytes, version: u32) {
        self.damage(&RowKey::record(&pseudonym(gateway), &id(record), version)).await;
    }
}

fn list() -> v1::ListRequest {
    v1::ListRequest { participant: NUMBER.into(), ..Default::default() }
}

fn getting(record_id: &Bytes) -> v1::GetRequest {
    v1::GetRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() }
}

fn of(records: &[v1::RecordSummary], wanted: &Bytes) -> v1::RecordSummary {
    let found: Vec<_> = records.iter().filter(|record| record.record_id == wanted).collect();
    assert_eq!(found.len(), 1, "each once");
    found[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_does_not_open_hides_no_other() {
    let storehouse = Storehouse::new().await;
    let writer = storehouse.gateway();
    let mut records = Vec::new();
    for class in [Class::Document, Class::Image, Class::Document, Class::LaboratoryResult] {
        records.push(put(&writer, class, 100, &[]).await);
    }
    let [sound, no_control, no_manifest, other] = &records[..] else { panic!("four were written") };
    storehouse.damage_control(&writer, no_control).await;
    storehouse.damage_manifest(&writer, no_manifest, 1).await;
    // Without anything opened before.
    let gateway = storehouse.gateway();

    let told = gateway.list(&doctor(), list()).await.unwrap().records;
    assert_eq!(told.len(), 4);
    assert!(of(&told, sound).damaged.is_none() && of(&told, other).damaged.is_none());
    let unknown = v1::RecordSummary {
        record_id: no_control.clone(),
        damaged: Some(v1::DamagedRecord::default()),
        ..Default::default()
    };
    assert_eq!(of(&told, no_control), unknown, "nothing but its id");
    let damaged = v1::DamagedRecord {
        version: 1,
        class: Class::Document.number(),
        clinical_day: Some(20_000),
        author_facility: HOSPITAL.into(),
    };
    let known =
        v1::RecordSummary { record_id: no_manifest.clone(), damaged: Some(damaged.clone()), ..Default::default() };
    assert_eq!(of(&told, no_manifest), known);
    let (mut paged, mut after) = (Vec::new(), Bytes::new());
    loop {
        let reply = gateway.list(&doctor(), v1::ListRequest { after, limit: 1, ..list() }).await.unwrap();
        paged.extend(reply.records);
        if !reply.more {
            break;
        }
        after = reply.last;
    }
    assert_eq!(paged, told, "page by page the same");
    // What is known of one is filtered by; of what nobody knows anything it may be what is looked for.
    let images = v1::ListRequest { classes: vec![Class::Image.number()], ..list() };
    let images = gateway.list(&doctor(), images).await.unwrap().records;
    assert_eq!(images, std::slice::from_ref(&unknown));

    // Alone: a read that was let in, of which nothing was handed out.
    for record in [no_control, no_manifest] {
        let alone = gateway.read(&doctor(), getting(record)).await.map(|_| ());
        assert!(matches!(alone, Err(GatewayError::Damaged { what: "record" })), "{alone:?}");
        let entry = storehouse.journalled().await.pop().unwrap();
        assert_eq!((&entry.denial[..], &entry.damaged_record_ids), ("", &vec![record.clone()]));
    }
    let history = |record: &Bytes| v1::HistoryRequest {
        participant: NUMBER.into(),
        record_id: record.clone(),
        ..Default::default()
    };
    assert_eq!(gateway.history(&doctor(), history(no_control)).await.unwrap().versions, [unknown]);
    assert_eq!(gateway.history(&doctor(), history(no_manifest)).await.unwrap().versions, [known]);

    // Of several each in its place, under one entry that tells which were handed out.
    let several =
        v1::GetSeveralRequest { participant: NUMBER.into(), record_ids: records.clone(), ..Default::default() };
    let mut reading = gateway.read_several(&doctor(), several).await.unwrap();
    let mut steps = Vec::new();
    while let Some(step) = reading.next().await.unwrap() {
        steps.push(match step {
            Step::Header(header) => (header.summary.unwrap().record_id, true),
            Step::Damaged(damaged) => (damaged.record_id, false),
            Step::Data(_) | Step::Refused(_) => panic!("a short body, of what may be seen"),
        });
    }
    let handed_out = [true, false, false, true];
    assert_eq!(steps, records.iter().cloned().zip(handed_out).collect::<Vec<_>>());
    let entry = storehouse.journalled().await.pop().unwrap();
    assert_eq!(entry.record_ids, [sound.clone(), other.clone()]);
    assert_eq!(entry.damaged_record_ids, [no_control.clone(), no_manifest.clone()]);
    assert!(entry.refused_records.is_empty());

    // Operators hear of each once, however often it was asked for.
    let database = storehouse.store.database();
    assert_eq!(gateway.unopened.count(&database), BTreeMap::from([("record", 1), ("record-control", 1)]));
    let words = gateway.unopened.trouble(&database).unwrap();
    assert!(words.starts_with("2 stored rows do not open (record 1, record-control 1)"), "{words}");
    drop((database, reading, writer, gateway));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_learns_nothing_of_what_does_not_open() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record = put(&gateway, Class::Document, 100, &[]).await;
    storehouse.damage_control(&gateway, &record).await;
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: "form 7".into(),
        ..Default::default()
    };
    gateway.revoke(&doctor(), revoke).await.unwrap();
    for wanted in [record, Bytes::from_static(&[9; 16])] {
        match gateway.read(&doctor(), getting(&wanted)).await {
            Err(GatewayError::Denied { reason, .. }) => assert_eq!(reason, Denial::NotGranted),
            other => panic!("{:?}", other.map(|(header, _)| header)),
        }
    }
    assert_eq!(storehouse.journalled().await.pop().unwrap().denial, "not-granted");
    drop(gateway);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_open_leaves_the_others() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = put(&gateway, Class::Document, 100, &[]).await;
    for _ in 0..2 {
        let part = v1::WholePart { name: "body".into(), media_type: "text/plain".into(), ..Default::default() };
        let class = Class::Document.number();
        let version = v1::NewRecord { record_id: record_id.clone(), class, ..record() };
        let put = v1::PutWholeRequest {
            request: request(),
            participant: NUMBER.into(),
            record: Some(version),
            parts: vec![part],
            ..Default::default()
        };
        gateway.put_whole(&doctor(), put).await.unwrap();
    }
    storehouse.damage_manifest(&gateway, &record_id, 2).await;
    let history = v1::HistoryRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() };
    let told = gateway.history(&doctor(), history).await.unwrap().versions;
    let versions: Vec<_> = told.iter().map(|one| (one.version, one.damaged.as_ref().map(|d| d.version))).collect();
    assert_eq!(versions, [(1, None), (0, Some(2)), (3, None)]);
    assert_eq!(told[1].damaged.as_ref().unwrap().class, 0, "an earlier version's class is its own");
    read(&gateway, &record_id, 1).await;
    read(&gateway, &record_id, 3).await;
    drop(gateway);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_open_ends_its_record_and_no_other() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (first, second) =
        (put(&gateway, Class::Image, 900_000, &[]).await, put(&gateway, Class::Image, 100, &[]).await);
    let attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let (open, _) = load_manifest(&attempt, &pseudonym(&gateway), &id(&first), 1).unwrap();
    let content = ContentId::from_slice(&open.content_id).unwrap();
    drop(attempt);
    storehouse.damage(&RowKey::block(&pseudonym(&gateway), &content, 0, 0)).await;
    let record_ids = vec![first.clone(), second.clone()];
    let several = v1::GetSeveralRequest { participant: NUMBER.into(), record_ids, ..Default::default() };
    let mut reading = gateway.read_several(&doctor(), several).await.unwrap();
    let header = |step: Option<Step>| match step {
        Some(Step::Header(header)) => header.summary.unwrap().record_id,
        _ => panic!("a record begins"),
    };
    assert_eq!(header(reading.next().await.unwrap()), first);
    assert!(matches!(reading.next().await.unwrap(), Some(Step::Damaged(damaged)) if damaged.record_id == first));
    assert_eq!(header(reading.next().await.unwrap()), second);
    assert!(reading.next().await.unwrap().is_none());
    drop((reading, gateway));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_emergency_what_does_not_open_comes_first_as_it_may_be_urgent() {
    let storehouse = Storehouse::new().await;
    storehouse.prepare_emergencies().await;
    let physician = physician();
    let gateway = storehouse.gateway();
    let mut records = Vec::new();
    for class in [Class::Document, Class::Allergy, Class::CareRecord] {
        let part = v1::WholePart { name: "body".into(), media_type: "text/plain".into(), ..Default::default() };
        let record = v1::NewRecord { class: class.number(), ..record() };
        let put = v1::PutWholeRequest {
            request: request(),
            participant: NUMBER.into(),
            record: Some(record),
            parts: vec![part],
            ..Default::default()
        };
        records.push(gateway.put_whole(&physician, put).await.unwrap().record_id);
    }
    storehouse.damage_control(&gateway, &records[2]).await;
    let opening = v1::OpenEmergencyRequest {
        request: request(),
        participant: NUMBER.into(),
        reason: "unconscious".into(),
        ..Default::default()
    };
    let episode_id = gateway.open_emergency(&physician, opening).await.unwrap().episode_id;
    let told = gateway.list(&physician, v1::ListRequest { episode_id, ..list() }).await.unwrap().records;
    assert_eq!(told.len(), 3);
    let before_others: Vec<_> = told[..2].iter().map(|one| &one.record_id).collect();
    assert!(before_others.contains(&&records[1]) && before_others.contains(&&records[2]), "{told:?}");
    drop(gateway);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_the_inbox_that_does_not_open_is_told_beside_the_others() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let first = put(&gateway, Class::Document, 10, &[HOSPITAL]).await;
    // Rows of an inbox are appended and never put: this one is sealed by nobody.
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let prefix = RowKey::inbox(&attempt.hash(Domain::InboxFacility, &[HOSPITAL]));
    attempt.command.append(&prefix, vec![7; 100]);
    storehouse.commit(attempt).await;
    let second = put(&gateway, Class::Document, 10, &[HOSPITAL]).await;
    let told = gateway.inbox(&doctor(), v1::InboxRequest::default()).await.unwrap().items;
    let places: Vec<_> = told.iter().map(|item| (!item.damaged_at.is_empty(), item.record_id.clone())).collect();
    assert_eq!(places, [(false, first), (true, Bytes::new()), (false, second)]);
    let on = v1::InboxRequest { since: told[1].damaged_at.clone(), ..Default::default() };
    assert_eq!(gateway.inbox(&doctor(), on).await.unwrap().items, told[2..]);
    drop(gateway);
    storehouse.close().await;
}
