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
        range_start: 0,
        range_length: 0,
        part: String::new(),
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
        let show =
            wire::ShowRequest { actor: raw::doctor(facility), participant: number.reveal().to_owned(), as_of_ms: 0 };
        let mut consents = ConsentsClient::new(raw::application(&world));
        assert_eq!(told(&consents.show(show).await.expect_err("show")), uniform, "show at {facility}");
    }

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
