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

fn named(record: v1::NewRecord) -> v1::NewRecord {
    v1::NewRecord { document_id: "n-1".into(), ..record }
}

async fn write(gateway: &Gateway, record: v1::NewRecord) -> Result<v1::Receipt, GatewayError> {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(9), ..Default::default() };
    let put = v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record),
        parts: vec![part],
        ..Default::default()
    };
    gateway.put_whole(&doctor(), put).await
}

async fn addressees(gateway: &Gateway, record_id: &Bytes) -> Vec<String> {
    use kura_cluster::row::RecordControl;
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&crate::gateway::participant::number(NUMBER).unwrap()).unwrap().unwrap();
    let key = RowKey::record_control(&known.pseudonym, &kura_cluster::id::RecordId::from_slice(record_id).unwrap());
    attempt.look_of::<RecordControl>(&key, &known.pseudonym).unwrap().value.unwrap().addressees.clone()
}

/// A put under a stored document id is acknowledged as its repetition only if nothing that it asks for is lost by that.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_body_under_its_document_id_drops_nothing_that_is_asked_for() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let clinic = v1::Facility {
        id: "clinic".into(),
        name: "clinic".into(),
        kind: 1,
        status: 1,
        access_line: 1,
        ..Default::default()
    };
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let put = v1::PutFacilityRequest { request: request(), facility: Some(clinic), ..Default::default() };
    gateway.put_facility(&registrar, put).await.unwrap();
    let other = write(&gateway, record()).await.unwrap().record_id;
    let stored = write(&gateway, named(record())).await.unwrap();
    let is_it = |again: v1::Receipt| {
        assert!(again.repeated && again.record_id == stored.record_id, "{again:?}");
        again.version
    };
    assert_eq!(is_it(write(&gateway, named(record())).await.unwrap()), 1);

    let to = |record| v1::NewRecord { addressees: vec![HOSPITAL.into()], ..named(record) };
    let replacing = v1::NewRecord { related_record_id: other.clone(), relation: 1, ..record() };
    for asked in [
        to(record()),
        named(v1::NewRecord { class: 10, ..record() }),
        named(v1::NewRecord { clinical_day: record().clinical_day + 1, ..record() }),
        named(v1::NewRecord { media_type: "text/plain".into(), ..record() }),
        named(v1::NewRecord { signature: Bytes::from_static(b"sig"), ..record() }),
        named(v1::NewRecord { timestamp_token: Bytes::from_static(b"token"), ..record() }),
        named(v1::NewRecord { signature_result: "valid".into(), ..record() }),
        named(v1::NewRecord { author_user: "u-0192".into(), ..record() }),
        named(v1::NewRecord { author_ms: 5, ..record() }),
        named(v1::NewRecord { enterer_user: "u-0192".into(), ..record() }),
        named(v1::NewRecord { confirmer_user: "u-0192".into(), ..record() }),
        named(replacing.clone()),
    ] {
        // In one message, and staged.
        let error = write(&gateway, asked.clone()).await.unwrap_err();
        assert!(matches!(error, GatewayError::Contradicts { field: "document_id", .. }), "{error}");
        let caller = doctor();
        let asked = v1::PutBegin { record: Some(asked), ..begin(request()) };
        let mut upload = uploading(gateway.begin_upload(&caller, asked).await);
        upload.part(v1::PutPart { media_type: "text/plain".into(), ..part() }).await.unwrap();
        upload.data(body(9)).await.unwrap();
        let error = upload.finish(v1::PutFinish::default()).await.unwrap_err();
        assert!(matches!(error, GatewayError::Contradicts { field: "document_id", .. }), "{error}");
    }
    // Who is the author without being named is, when they are.
    let stated = v1::NewRecord { author_user: DOCTOR.into(), enterer_user: DOCTOR.into(), ..record() };
    assert_eq!(is_it(write(&gateway, named(stated)).await.unwrap()), 1);
    // Nor does it stand for a version of another record.
    let error = write(&gateway, named(v1::NewRecord { record_id: other, ..record() })).await.unwrap_err();
    assert!(matches!(error, GatewayError::InUse { field: "document_id", .. }), "{error}");

    // As a version it is written, once, and narrows.
    let version = |record| v1::NewRecord { record_id: stored.record_id.clone(), ..record };
    assert!(addressees(&gateway, &stored.record_id).await.is_empty());
    let second = write(&gateway, version(to(record()))).await.unwrap();
    assert_eq!((second.repeated, second.version), (false, 2));
    assert_eq!(addressees(&gateway, &stored.record_id).await, [HOSPITAL]);
    assert_eq!(is_it(write(&gateway, version(to(record()))).await.unwrap()), 2);
    let third = write(&gateway, version(to(replacing.clone()))).await.unwrap();
    assert_eq!((third.repeated, third.version), (false, 3));
    assert_eq!(is_it(write(&gateway, version(to(replacing))).await.unwrap()), 3);
    // What was narrowed since does not keep the first put from being repeated, as by an import.
    assert_eq!(is_it(write(&gateway, named(record())).await.unwrap()), 3);
    storehouse.close().await;
}

/// Who may see a record goes by its class: a version of another one would show it to others without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_of_its_records_class() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let first = write(&gateway, record()).await.unwrap();
    let version = |class| v1::NewRecord { record_id: first.record_id.clone(), class, ..record() };
    let refused = |error| assert!(matches!(error, GatewayError::Contradicts { field: "class", .. }), "{error}");
    refused(write(&gateway, version(10)).await.unwrap_err());
    // An upload is refused before its body is sent.
    let caller = doctor();
    let asked = v1::PutBegin { record: Some(version(10)), ..begin(request()) };
    refused(gateway.begin_upload(&caller, asked).await.err().unwrap());
    let other = v1::NewRecord { media_type: "text/plain".into(), ..version(record().class) };
    assert_eq!(write(&gateway, other).await.unwrap().version, 2, "in another form it is the same record");
    storehouse.close().await;
}
