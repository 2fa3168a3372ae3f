//! What comes in at the edges: texts that say nothing or hide something, dates nobody could have signed on, more links
//! than one participant has, checks that nobody may ask for.

use std::sync::atomic::Ordering;

use kura_cluster::consent::Denial;
use kura_cluster::row::Facility;

use super::*;
use crate::gateway::denials::BUCKET_DENIALS;
use crate::gateway::limits::{CONSENT_DAY_FIRST, FACILITY_LINKS_MAX};
use crate::signature::Checker;

const ANOTHER: &str = "0043001234567894";

fn field<T>(answer: Result<T, GatewayError>) -> &'static str {
    match answer {
        Err(GatewayError::Invalid { field, .. }) => field,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("taken"),
    }
}

fn enrol(number: &str, signed_day: i32, evidence: &str) -> v1::EnrolRequest {
    let consent = v1::SignedConsent { signed_day, evidence: evidence.into(), ..Default::default() };
    v1::EnrolRequest { actor: None, request: request(), participant: number.into(), consent: Some(consent) }
}

fn link(number: &str, local_id: impl Into<String>) -> v1::LinkRequest {
    v1::LinkRequest { request: request(), participant: number.into(), local_id: local_id.into(), ..Default::default() }
}

fn whole(record: v1::NewRecord) -> v1::PutWholeRequest {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(100), ..Default::default() };
    let (request, participant) = (request(), NUMBER.into());
    v1::PutWholeRequest { request, participant, record: Some(record), parts: vec![part], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_too_old_tells_nobody_who_is_enrolled() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let window_ms = gateway.store.published().summary.request_window_ms;
    for age_ms in [window_ms + 60_000, window_ms] {
        let mut id = crate::clock::now_ms().saturating_sub(age_ms).to_be_bytes()[2..].to_vec();
        id.extend_from_slice(&random::id()[..10]);
        let old = Some(v1::RequestId { id: id.into() });
        for participant in [NUMBER, ANOTHER] {
            let withdraw = v1::WithdrawRequest {
                request: old.clone(),
                participant: participant.into(),
                evidence: "form 7".into(),
                ..Default::default()
            };
            let told = gateway.withdraw(&doctor(), withdraw).await;
            assert!(matches!(told, Err(GatewayError::Expired)), "{participant}, {age_ms}: {told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_say_nothing_or_hide_something_are_refused_by_their_field() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    for evidence in
        [" ", "\u{3000}\t", "\u{a0}\u{2003}", "\u{2800}", "paper\u{200b}7", "\u{202e}7 repap", "\u{feff}paper"]
    {
        let answer = gateway.enrol(&doctor(), enrol(ANOTHER, 18_000, evidence)).await;
        assert_eq!(field(answer), "evidence", "{evidence:?}");
    }
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: " ".into(),
        ..Default::default()
    };
    assert_eq!(field(gateway.revoke(&doctor(), revoke).await), "evidence");
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let facility = |name: &str| v1::PutFacilityRequest {
        request: request(),
        facility: Some(v1::Facility {
            id: "clinic-02".into(),
            name: name.into(),
            kind: 2,
            status: 1,
            access_line: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    for name in ["", " ", "\u{3000}", "Aoi\u{200d} Clinic", "\u{2067}Aoi"] {
        assert_eq!(field(gateway.put_facility(&registrar, facility(name)).await), "name", "{name:?}");
    }
    assert_eq!(field(gateway.link(&doctor(), link(NUMBER, "12\u{200b}3")).await), "local_id");
    // What Japanese names are written with is none of these.
    gateway.put_facility(&registrar, facility("葛\u{e0100}城　診療所（ｱｵｲ）")).await.unwrap();
    gateway.enrol(&doctor(), enrol(ANOTHER, 18_000, "同意書　第７号")).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_is_signed_between_1900_and_today() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    for day in [CONSENT_DAY_FIRST - 1, i32::MIN] {
        assert_eq!(field(gateway.enrol(&doctor(), enrol(ANOTHER, day, "paper 7")).await), "signed_day");
    }
    let tomorrow = kura_cluster::consent::japan_day(crate::clock::now_ms()) + 1;
    let answer = gateway.enrol(&doctor(), enrol(ANOTHER, tomorrow, "paper 7")).await;
    assert!(matches!(answer, Err(GatewayError::Denied { reason: Denial::FutureDate, .. })), "{answer:?}");
    gateway.enrol(&doctor(), enrol(ANOTHER, CONSENT_DAY_FIRST, "paper 7")).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facility_links_so_many_ids_to_a_participant_and_no_more() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    gateway.enrol(&doctor(), enrol(ANOTHER, 18_000, "paper 7")).await.unwrap();
    for nth in 0..FACILITY_LINKS_MAX {
        gateway.link(&doctor(), link(NUMBER, format!("00-{nth}"))).await.unwrap();
    }
    let error = gateway.link(&doctor(), link(NUMBER, "one more")).await.unwrap_err();
    assert!(error.to_string().contains(&FACILITY_LINKS_MAX.to_string()), "{error}");
    assert_eq!(field::<()>(Err(error)), "local_id");
    gateway.link(&doctor(), link(NUMBER, "00-7")).await.unwrap();
    // Neither by linking another's id anew; but one's own can go to another.
    let relink = |number: &str, local_id: &str| v1::RelinkRequest {
        request: request(),
        participant: number.into(),
        local_id: local_id.into(),
        reason: "mistyped".into(),
        ..Default::default()
    };
    gateway.link(&doctor(), link(ANOTHER, "one more")).await.unwrap();
    assert_eq!(field(gateway.relink(&doctor(), relink(NUMBER, "one more")).await), "local_id");
    gateway.relink(&doctor(), relink(ANOTHER, "00-7")).await.unwrap();
    gateway.relink(&doctor(), relink(NUMBER, "one more")).await.unwrap();
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_checked_only_for_who_may_write() {
    let storehouse = Storehouse::new().await;
    let file = storehouse.folder.path().join("signers.pem");
    std::fs::write(&file, include_str!("../../signature/vectors/ca.pem")).unwrap();
    let checker = Checker::load(&file).unwrap();
    let begun = checker.begun.clone();
    let gateway = Arc::new(Arc::into_inner(storehouse.gateway()).unwrap().checking(checker));
    let signed = || v1::NewRecord {
        signature: Bytes::from_static(include_bytes!("../../signature/vectors/sha256.p7s")),
        ..record()
    };
    let too_old = v1::NewRecord { clinical_day: 1, ..signed() };
    let answer = gateway.put_whole(&doctor(), whole(too_old)).await;
    assert!(matches!(answer, Err(GatewayError::Denied { reason: Denial::BeforeConsent, .. })), "{answer:?}");
    assert_eq!(begun.load(Ordering::Relaxed), 0);
    gateway.put_whole(&doctor(), whole(signed())).await.unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    drop(gateway);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_refused_among_others_count_as_denials_and_keep_their_reasons() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let shown = gateway.put_whole(&doctor(), whole(record())).await.unwrap().record_id;
    let made_up = |nth: u8| Bytes::from(vec![nth; 16]);
    let asked = v1::GetSeveralRequest {
        participant: NUMBER.into(),
        record_ids: (1..=63).map(made_up).chain([shown.clone()]).collect(),
        ..Default::default()
    };
    gateway.read_several(&doctor(), asked).await.unwrap();
    let entry = storehouse.journalled().await.pop().unwrap();
    assert_eq!((&entry.record_ids[..], entry.refused_records.len()), (&[shown][..], 63));
    for (refused, nth) in entry.refused_records.iter().zip(1..) {
        assert_eq!((&refused.record_id, &refused.denial[..]), (&made_up(nth), "no-such-record"));
    }
    const { assert!(63 > BUCKET_DENIALS, "so the bucket is spent") };
    let get = v1::GetRequest { participant: NUMBER.into(), record_id: made_up(1), ..Default::default() };
    let denied = gateway.read(&doctor(), get).await.map(|_| ());
    assert!(matches!(denied, Err(GatewayError::Denied { journal_position: 0, .. })), "only counted: {denied:?}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_what_was_never_granted_says_so_and_again_and_rewrites_nothing() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: "paper 9".into(),
        ..Default::default()
    };
    assert!(!gateway.revoke(&doctor(), revoke.clone()).await.unwrap().nothing_to_end);
    let row = || {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        attempt.participant(&super::super::participant::number(NUMBER).unwrap()).unwrap().unwrap().revision
    };
    let before = row();
    let again = v1::RevokeRequest { request: request(), ..revoke };
    let receipt = gateway.revoke(&doctor(), again.clone()).await.unwrap();
    assert!(receipt.nothing_to_end && !receipt.repeated);
    assert_eq!(row(), before, "reads and writes under way would have to decide anew");
    let revocations = storehouse.journalled().await;
    let revocations = revocations.iter().filter(|entry| entry.action == Action::Revoke.number()).count();
    assert_eq!(revocations, 2, "it is journalled");
    let told = gateway.revoke(&doctor(), again).await.unwrap();
    assert!(told.nothing_to_end && told.repeated);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_reaches_nobody_says_whom_it_misses() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    gateway.clock_offset_ms.store(crate::clock::NOT_COMPARED, Ordering::Relaxed);
    assert!(gateway.now_ms().unwrap_err().to_string().contains("just started"));
    *gateway.silent_voters.lock().unwrap() = vec!["voter-2".into(), "voter-3".into()];
    let error = gateway.now_ms().unwrap_err().to_string();
    assert!(error.contains("voter-2, voter-3") && error.contains("more than half"), "{error}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_id_with_a_blank_at_an_end_is_refused_by_its_field() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let facility = |id: &str| v1::Facility {
        id: id.into(),
        name: "clinic".into(),
        kind: 2,
        status: 1,
        access_line: 1,
        ..Default::default()
    };
    let user = |id: &str| v1::User {
        id: id.into(),
        facility: HOSPITAL.into(),
        name: "ueda".into(),
        profession: 1,
        status: 1,
        ..Default::default()
    };
    let application =
        |name: &str| v1::Application { name: name.into(), access_line: 1, status: 1, ..Default::default() };
    for id in [" F0803", "F0803 ", "\u{3000}F0803", "F0803\u{a0}", "F0803\u{2800}", "F0803\n"] {
        let put = v1::PutFacilityRequest { request: request(), facility: Some(facility(id)), ..Default::default() };
        assert_eq!(field(gateway.put_facility(&registrar, put).await), "id", "{id:?}");
        let put = v1::PutUserRequest { request: request(), user: Some(user(id)), ..Default::default() };
        assert_eq!(field(gateway.put_user(&registrar, put).await), "id", "{id:?}");
        let application = Some(application(id));
        let put = v1::PutApplicationRequest { request: request(), application, ..Default::default() };
        assert_eq!(field(gateway.put_application(&registrar, put).await), "name", "{id:?}");
    }
    let put = v1::PutFacilityRequest { request: request(), facility: Some(facility("F 0803")), ..Default::default() };
    gateway.put_facility(&registrar, put).await.unwrap();
    // One of before can still be ended.
    let row = |row: &mut Facility| {
        *row = Facility { id: " F9".into(), name: "clinic".into(), kind: 2, status: 1, access_line: 1, ..row.clone() };
    };
    storehouse.edit_hashed((Table::Facility, Domain::Facility), &[" F9"], row).await;
    let left = v1::Facility { status: 3, ..facility(" F9") };
    let put = v1::PutFacilityRequest {
        request: request(),
        facility: Some(left),
        before: Some(facility(" F9")),
        reason: "mistyped".into(),
    };
    gateway.put_facility(&registrar, put).await.unwrap();
    storehouse.close().await;
}
