//! One uniform refusal, and its true reasons in the participant's own list.

use bytes::Bytes;
use kura_client::wire::consents_client::ConsentsClient;
use kura_client::wire::records_client::RecordsClient;
use kura_client::{Action, ParticipantNumber, RecordId, wire};
use prost::Message;
use tonic::Status;

use super::raw;
use super::world::{CLINIC, HOSPITAL, OUTSIDER, World, note, number};

/// All that a client is told, but where the journal has it: every entry has another position.
fn told(status: &Status) -> (i32, String, Vec<u8>, Vec<String>) {
    let detail = wire::ErrorDetail { journal_position: 0, ..raw::detail(status) };
    let metadata = status.metadata().clone().into_headers();
    let mut names: Vec<String> = metadata.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    (status.code().into(), status.message().to_owned(), detail.encode_to_vec(), names)
}

fn get(facility: &str, number: &ParticipantNumber, record: RecordId, version: u32) -> wire::GetRequest {
    wire::GetRequest {
        actor: raw::doctor(facility),
        participant: number.reveal().to_owned(),
        record_id: Bytes::copy_from_slice(record.as_bytes()),
        version,
        purpose: 1,
        ..wire::GetRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_the_same_bytes_whatever_the_reason_and_the_list_has_the_reason() {
    let world = World::start(1, 0).await;
    let (here, gone, nobody) = (world.enrol(1).await, world.enrol(2).await, number(3));
    let open = world.put(&here, "open").await;
    let hidden = world.put(&here, "hidden").await;
    let narrowed = world.put(&here, "narrowed").await;
    let of_gone = world.put(&gone, "of one who leaves").await;
    let hospital = world.doctor(HOSPITAL);
    hospital.hide(&here, hidden).await.unwrap();
    hospital.narrow(&here, narrowed, [HOSPITAL]).await.unwrap();
    world.person(gone).withdraw().await.unwrap();
    let no_record = RecordId::from_bytes([7; 16]);

    let mut records = RecordsClient::new(raw::application(&world));
    records.get(get(CLINIC, &here, open, 0)).await.expect("what is open is read");
    let cases = [
        ("not enrolled", get(CLINIC, &nobody, open, 0)),
        ("not-granted", get(OUTSIDER, &here, open, 0)),
        ("not-granted", get(OUTSIDER, &here, no_record, 0)),
        ("withdrawn", get(CLINIC, &gone, of_gone, 0)),
        ("hidden", get(CLINIC, &here, hidden, 0)),
        ("not-addressee", get(CLINIC, &here, narrowed, 0)),
        ("no-such-record", get(CLINIC, &here, no_record, 0)),
        ("no-such-record", get(CLINIC, &here, open, 9)),
        ("no-such-record", get(CLINIC, &here, of_gone, 0)),
    ];
    let mut first = None;
    for (reason, request) in &cases {
        let got = told(&records.get(request.clone()).await.expect_err(reason));
        let history = wire::HistoryRequest {
            actor: request.actor.clone(),
            participant: request.participant.clone(),
            record_id: request.record_id.clone(),
            purpose: 1,
            ..wire::HistoryRequest::default()
        };
        if request.version == 0 {
            assert_eq!(told(&records.history(history).await.expect_err(reason)), got, "history: {reason}");
        }
        assert_eq!(first.get_or_insert(got.clone()), &got, "{reason}");
    }
    let uniform = first.unwrap();
    // The same for whole lists, for writing and for looking at consents.
    for (facility, number) in [(CLINIC, nobody), (OUTSIDER, here), (CLINIC, gone)] {
        let list = wire::ListRequest {
            actor: raw::doctor(facility),
            participant: number.reveal().to_owned(),
            ..wire::ListRequest::default()
        };
        assert_eq!(told(&records.list(list).await.expect_err("list")), uniform, "list at {facility}");
        let put = raw::put_whole(facility, &number);
        assert_eq!(told(&records.put_whole(put).await.expect_err("put")), uniform, "put at {facility}");
        let show = wire::ShowRequest {
            actor: raw::doctor(facility),
            participant: number.reveal().to_owned(),
            ..Default::default()
        };
        let mut consents = ConsentsClient::new(raw::application(&world));
        assert_eq!(told(&consents.show(show).await.expect_err("show")), uniform, "show at {facility}");
    }

    // The same in an emergency: for opening one, and for what it does not show either.
    let credential = Bytes::from_static(&[7; 32]);
    world.emergency_room(OUTSIDER, [7; 32]).await;
    let physician =
        || raw::doctor(OUTSIDER).map(|actor| wire::Actor { credential_sha256: credential.clone(), ..actor });
    let opening = |number: &ParticipantNumber| wire::OpenEmergencyRequest {
        actor: physician(),
        request: raw::request(),
        participant: number.reveal().to_owned(),
        reason: "unconscious".into(),
    };
    for number in [nobody, gone] {
        let refused = records.open_emergency(opening(&number)).await.expect_err("opening");
        assert_eq!(told(&refused), uniform, "opening an emergency");
    }
    let leaves = world.enrol(4).await;
    let of_leaves = world.put(&leaves, "of one who leaves later").await;
    let mut opened = Vec::new();
    for number in [here, leaves] {
        opened.push(records.open_emergency(opening(&number)).await.unwrap().into_inner().episode_id);
    }
    world.person(leaves).withdraw().await.unwrap();
    for (reason, number, record, episode_id) in [
        ("hidden", here, hidden, &opened[0]),
        ("no-such-record", here, no_record, &opened[0]),
        ("no-such-record", here, of_gone, &opened[0]),
        ("withdrawn", leaves, of_leaves, &opened[1]),
    ] {
        let get = wire::GetRequest {
            actor: physician(),
            episode_id: episode_id.clone(),
            ..get(OUTSIDER, &number, record, 0)
        };
        let history = wire::HistoryRequest {
            actor: physician(),
            participant: number.reveal().to_owned(),
            record_id: get.record_id.clone(),
            episode_id: episode_id.clone(),
            ..wire::HistoryRequest::default()
        };
        assert_eq!(told(&records.get(get).await.expect_err(reason)), uniform, "get in an emergency: {reason}");
        assert_eq!(told(&records.history(history).await.expect_err(reason)), uniform, "history: {reason}");
    }
    let list = wire::ListRequest {
        actor: physician(),
        participant: leaves.reveal().to_owned(),
        episode_id: opened[1].clone(),
        ..wire::ListRequest::default()
    };
    assert_eq!(told(&records.list(list.clone()).await.expect_err("list")), uniform, "list in an emergency");
    // For anybody but its participant an emergency is unknown, whether they are enrolled or not.
    let of = |number: ParticipantNumber| wire::ListRequest { participant: number.reveal().to_owned(), ..list.clone() };
    let mut unknown = Vec::new();
    for number in [here, nobody, gone] {
        unknown.push(told(&records.list(of(number)).await.expect_err("another's emergency")));
    }
    assert!(unknown.iter().all(|answer| *answer == unknown[0]) && unknown[0].1.contains("emergency-unknown"));

    // What the participants themselves see.
    for number in [here, gone] {
        let accesses = world.person(number).accesses().stream().take(usize::MAX).await.unwrap();
        for (reason, request) in &cases {
            if request.participant != number.reveal() {
                continue;
            }
            let facility = &request.actor.as_ref().unwrap().facility;
            let found = accesses.iter().any(|access| {
                let record = access.record.is_some_and(|record| record.as_bytes()[..] == request.record_id[..]);
                access.action == Action::Get && record && access.denial == *reason && access.facility == *facility
            });
            assert!(found, "{reason} by {facility}: {accesses:?}");
        }
        let permitted = accesses.iter().filter(|a| a.action == Action::Get && a.denial.is_empty()).count();
        assert_eq!(permitted, usize::from(number == here), "{accesses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_record_cannot_be_told_from_one_that_is_not_there_by_writing() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let hidden = world.put(&number, "hidden").await;
    world.doctor(HOSPITAL).hide(&number, hidden).await.unwrap();
    let mut records = RecordsClient::new(raw::application(&world));
    let mut answers = Vec::new();
    for record in [hidden, RecordId::from_bytes([7; 16])] {
        let record_id = Bytes::copy_from_slice(record.as_bytes());
        let hide = wire::HideRequest {
            actor: raw::doctor(CLINIC),
            request: raw::request(),
            participant: number.reveal().to_owned(),
            record_id: record_id.clone(),
            hidden: true,
            reason: String::new(),
        };
        let hide = told(&records.hide(hide).await.expect_err("not the author's"));
        let mut put = raw::put_whole(CLINIC, &number);
        put.record.as_mut().unwrap().record_id = record_id;
        let put = told(&records.put_whole(put).await.expect_err("not the author's"));
        answers.push((hide, put));
    }
    assert_eq!(answers[0], answers[1]);
    // The author itself sees what it did.
    assert!(world.doctor(HOSPITAL).put(&number, note().version_of(hidden)).bytes("second").await.is_ok());
}
