//! A request id names one request, its body included, whichever way the body comes.

use kura_proto::v1;
use sha2::{Digest, Sha256};

use super::*;
use crate::reach::Reached;

async fn upload(gateway: &Gateway, request: &Option<v1::RequestId>, bytes: &Bytes) -> v1::Receipt {
    let mut upload = uploading(gateway.begin_upload(&doctor(), begin(request.clone())).await);
    upload.part(part()).await.unwrap();
    upload.data(bytes.clone()).await.unwrap();
    upload.finish(v1::PutFinish::default()).await.unwrap()
}

fn hash(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

/// What a used request id is answered for a body of these hashes.
async fn repeat(
    gateway: &Gateway,
    begin: v1::PutBegin,
    hashes: impl IntoIterator<Item = Bytes>,
) -> Result<v1::Receipt, GatewayError> {
    match gateway.begin_upload(&doctor(), begin).await? {
        Begun::Known(repeated) => {
            repeated.finish(gateway, &v1::PutFinish { part_sha256: hashes.into_iter().collect() }).await
        }
        Begun::Upload(_) => panic!("the request is not known"),
    }
}

fn whole(request: &Option<v1::RequestId>, bytes: &Bytes) -> v1::PutWholeRequest {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "application/dicom".into(),
        data: bytes.clone(),
        sha256: Bytes::new(),
    };
    v1::PutWholeRequest {
        request: request.clone(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    }
}

/// Each certificate's name has requests of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_anothers_write_finds_none_and_gives_up_none() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (before, later, bytes) = (request(), request(), body(3_000));
    let receipt = gateway.put_whole(&doctor(), whole(&before, &bytes)).await.unwrap();
    for request in [&before, &later] {
        let ask = v1::OutcomeRequest { request: request.clone() };
        let told = gateway.outcome("another", ask).await.unwrap();
        assert!(told.receipt.is_none() && told.kind == 2, "absent: {told:?}");
    }
    let told = gateway.outcome("karte", v1::OutcomeRequest { request: before }).await.unwrap();
    assert_eq!(told.receipt.unwrap().index, receipt.index);
    gateway.put_whole(&doctor(), whole(&later, &bytes)).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_told_again_for_the_same_body_only() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (request, bytes) = (request(), body(3_000));
    let receipt = upload(&gateway, &request, &bytes).await;

    let again = repeat(&gateway, begin(request.clone()), [hash(&bytes)]).await.unwrap();
    assert!(again.repeated && !receipt.repeated);
    assert_eq!(
        (again.index, &again.record_id, again.journal_position),
        (receipt.index, &receipt.record_id, receipt.journal_position)
    );

    let is_another = |answer: Result<v1::Receipt, GatewayError>| match answer {
        Err(GatewayError::RequestId { why }) => assert_eq!(why, "for a different request"),
        other => panic!("{other:?}"),
    };
    is_another(repeat(&gateway, begin(request.clone()), [hash(b"another")]).await);
    is_another(repeat(&gateway, begin(request.clone()), [hash(&bytes), hash(b"")]).await);
    let mut other_day = begin(request.clone());
    other_day.record.as_mut().unwrap().clinical_day += 1;
    is_another(repeat(&gateway, other_day, [hash(&bytes)]).await);
    for hashes in [vec![], vec![Bytes::from_static(b"short")]] {
        let error = repeat(&gateway, begin(request.clone()), hashes).await.unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { field: "part_sha256", .. }), "{error}");
    }

    // The other way in asks for the same.
    let again = gateway.put_whole(&doctor(), whole(&request, &bytes)).await.unwrap();
    assert!(again.repeated && again.index == receipt.index);
    is_another(gateway.put_whole(&doctor(), whole(&request, &body(3_001))).await);
    storehouse.close().await;
}

/// What takes something away is never told as done without how far it has reached, not by a repetition either.
#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_version_for_fewer_tells_how_far_it_has_reached_each_time() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (first, bytes) = (request(), body(3_000));
    let stored = upload(&gateway, &first, &bytes).await;
    let plain = repeat(&gateway, begin(first), [hash(&bytes)]).await.unwrap();
    assert_eq!((plain.reach, plain.leader_term), (Reached::NotWaited as u32, stored.leader_term));

    let addressees = vec![HOSPITAL.to_owned()];
    let fewer = v1::NewRecord { record_id: stored.record_id.clone(), addressees, ..record() };
    for beyond_prefecture in [false, true] {
        let record = Some(if beyond_prefecture { record() } else { fewer.clone() });
        let asked = v1::PutBegin { record, beyond_prefecture, ..begin(request()) };
        let mut version = uploading(gateway.begin_upload(&doctor(), asked.clone()).await);
        version.part(part()).await.unwrap();
        version.data(bytes.clone()).await.unwrap();
        let told = version.finish(v1::PutFinish::default()).await.unwrap();
        assert_eq!(told.reach, Reached::NoBackup as u32);
        let again = repeat(&gateway, asked, [hash(&bytes)]).await.unwrap();
        assert_eq!(again, v1::Receipt { repeated: true, ..told });
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_different_bodies_under_one_request_commit_one() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let (request, bytes, caller) = (request(), body(3_000), doctor());
    // Begun before anything is known of the request.
    let mut slow = uploading(gateway.begin_upload(&caller, begin(request.clone())).await);
    let receipt = upload(&gateway, &request, &bytes).await;
    slow.part(part()).await.unwrap();
    slow.data(body(3_001)).await.unwrap();
    let error = slow.finish(v1::PutFinish::default()).await.unwrap_err();
    assert!(matches!(error, GatewayError::RequestId { why: "for a different request" }), "{error}");
    assert!(read(&gateway, &receipt.record_id, 0).await.1 == bytes);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_given_up_is_refused_before_its_body_is_sent() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let request = request();
    let told = gateway.outcome("karte", v1::OutcomeRequest { request: request.clone() }).await.unwrap();
    assert!(told.receipt.is_none());
    let error = gateway.begin_upload(&doctor(), begin(request)).await.err().unwrap();
    assert!(matches!(error, GatewayError::RequestId { .. }), "{error}");
    storehouse.close().await;
}
