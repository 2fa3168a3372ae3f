//! What a put must not acknowledge: what nobody can read, and what was not done.

use super::aliases::{TWICE, enrol, join, of_day, put};
use super::*;

fn today() -> i32 {
    kura_cluster::consent::japan_day(crate::clock::now_ms())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_participant_became_an_alias_is_sent_again_from_the_start() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    enrol(&gateway, TWICE, 18_000).await;
    let own = put(&gateway, TWICE, of_day(today())).await.unwrap();
    let (caller, bytes) = (doctor(), body(3_000));
    let asked =
        |record: v1::NewRecord| v1::PutBegin { participant: TWICE.into(), record: Some(record), ..begin(request()) };
    let of_own = || v1::NewRecord { record_id: own.clone(), ..of_day(today()) };
    let mut fresh = uploading(gateway.begin_upload(&caller, asked(of_day(today()))).await);
    let mut version = uploading(gateway.begin_upload(&caller, asked(of_own())).await);
    for upload in [&mut fresh, &mut version] {
        upload.part(part()).await.unwrap();
        upload.data(bytes.clone()).await.unwrap();
    }
    join(&gateway, NUMBER, TWICE).await;

    let error = fresh.finish(v1::PutFinish::default()).await.unwrap_err();
    assert!(matches!(error, GatewayError::NotFound { what } if what.starts_with("the upload")), "{error}");
    // A version lies where its record does, and that has not moved.
    let second = version.finish(v1::PutFinish::default()).await.unwrap();
    assert_eq!((second.record_id, second.version), (own.clone(), 2));
    assert!(read(&gateway, &own, 2).await.1 == bytes);
    // Begun anew it lies under the one who stays.
    let mut again = uploading(gateway.begin_upload(&caller, asked(of_day(today()))).await);
    again.part(part()).await.unwrap();
    again.data(bytes.clone()).await.unwrap();
    let receipt = again.finish(v1::PutFinish::default()).await.unwrap();
    assert!(read(&gateway, &receipt.record_id, 0).await.1 == bytes);
    let list = v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    assert_eq!(gateway.list(&caller, list).await.unwrap().records.len(), 2);
    storehouse.close().await;
}
