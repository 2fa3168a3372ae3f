//! Rows and blocks stay readable under the version of the data key that sealed them.

use kura_cluster::Revision;
use kura_cluster::id::ContentId;
use kura_cluster::row::{Participant, StagingRow};
use kura_proto::v1;

use super::*;
use crate::gateway::limits::STAGING_MS_MAX;
use crate::gateway::participant::number;

/// Gives the participant a further version of the data key, as a rotation will.
async fn rotate(storehouse: &Storehouse) {
    let gateway = storehouse.gateway();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    let version = known.row.key_version + 1;
    attempt.put_data_key(&known.pseudonym, version, &random::key()).unwrap();
    let row = Participant { key_version: version, ..(*known.row).clone() };
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
    storehouse.commit(attempt).await;
}

fn whole(bytes: &Bytes, version_of: &Bytes) -> v1::PutWholeRequest {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "text/plain".into(),
        data: bytes.clone(),
        ..Default::default()
    };
    v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(v1::NewRecord { record_id: version_of.clone(), ..record() }),
        parts: vec![part],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_leaves_everything_readable_and_versions_may_follow() {
    let storehouse = Storehouse::new().await;
    let before = storehouse.gateway();
    let (first, second) = (body(5_000), body(6_000));
    let receipt = before.put_whole(&doctor(), whole(&first, &Bytes::new())).await.unwrap();
    let record_id = receipt.record_id;
    rotate(&storehouse).await;

    // Nothing of it is in this gateway's memory.
    let after = storehouse.gateway();
    assert!(read(&after, &record_id, 0).await.1 == first);
    let list = || v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    assert_eq!(after.list(&doctor(), list()).await.unwrap().records.len(), 1);
    let further = after.put_whole(&doctor(), whole(&second, &record_id)).await.unwrap();
    assert_eq!(further.version, 2);
    let hide = v1::HideRequest {
        request: request(),
        participant: NUMBER.into(),
        record_id: record_id.clone(),
        hidden: true,
        reason: "wrong".into(),
        ..Default::default()
    };
    after.hide(&doctor(), hide).await.unwrap();

    rotate(&storehouse).await;
    let gateway = storehouse.gateway();
    assert!(read(&gateway, &record_id, 1).await.1 == first);
    assert!(read(&gateway, &record_id, 2).await.1 == second);
    let history = v1::HistoryRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() };
    assert_eq!(gateway.history(&doctor(), history).await.unwrap().versions.len(), 2);
    assert!(gateway.list(&doctor(), list()).await.unwrap().records[0].hidden);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_rotation_here_and_elsewhere() {
    let storehouse = Storehouse::new().await;
    let caller = doctor();
    let bytes = body(BLOCK_BYTES + 4_321);
    for cut in [false, true] {
        let gateway = storehouse.gateway();
        let request = request();
        let mut upload = uploading(gateway.begin_upload(&caller, begin(request.clone())).await);
        upload.part(part()).await.unwrap();
        upload.data(bytes.slice(..BLOCK_BYTES + 1)).await.unwrap();
        upload.settle_one().await.unwrap();
        rotate(&storehouse).await;
        let elsewhere = storehouse.gateway();
        let mut going_on = match cut {
            true => {
                let content = Bytes::copy_from_slice(&upload.content_id().0);
                let again = v1::PutBegin { resume_content: content, ..begin(request) };
                let mut resumed = uploading(elsewhere.begin_upload(&caller, again).await);
                assert_eq!(resumed.durable().bytes, BLOCK_BYTES as u64);
                resumed.part(part()).await.unwrap();
                resumed.data(bytes.slice(BLOCK_BYTES..BLOCK_BYTES + 1)).await.unwrap();
                resumed
            }
            false => upload,
        };
        going_on.data(bytes.slice(BLOCK_BYTES + 1..)).await.unwrap();
        let receipt = going_on.finish(v1::PutFinish::default()).await.unwrap();
        assert!(read(&storehouse.gateway(), &receipt.record_id, 0).await.1 == bytes, "cut: {cut}");
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_before_a_rotation_is_swept() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    let data = attempt.data_key(&known.pseudonym, known.row.key_version).unwrap();
    let key = RowKey::staging(&known.pseudonym, &ContentId(random::id()));
    let row = StagingRow {
        pseudonym: Bytes::copy_from_slice(&known.pseudonym.0),
        facility: HOSPITAL.into(),
        begun_ms: attempt.now_ms - STAGING_MS_MAX - 1,
        key_version: data.version,
        ..Default::default()
    };
    attempt.put_with(&key, &data, Revision::ABSENT, &row);
    storehouse.commit(attempt).await;
    rotate(&storehouse).await;
    let gateway = storehouse.gateway();
    assert_eq!(gateway.sweep().await.unwrap(), 1);
    assert!(gateway.store.database().header(&key).unwrap().is_none());
    storehouse.close().await;
}
