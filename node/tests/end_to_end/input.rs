//! Malformed requests: each is answered with the field at fault, and nothing becomes visible.

use bytes::Bytes;
use kura_client::wire::audit_client::AuditClient;
use kura_client::wire::consents_client::ConsentsClient;
use kura_client::wire::operations_client::OperationsClient;
use kura_client::wire::records_client::RecordsClient;
use kura_client::wire::registry_client::RegistryClient;
use kura_client::{Class, Date, GetError, NewRecord, PutError, RecordId, now_ms, wire};
use kura_node::dev::ClientFile;
use tonic::{Code, Status};

use super::raw;
use super::world::{CLINIC, DOCTOR, HOSPITAL, World, listed, number};

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Checks that a request was refused for a field, and said so without repeating what was given.
fn names<T: std::fmt::Debug>(what: &str, field: &str, answer: Result<T, Status>) -> Option<String> {
    let status = match answer {
        Ok(reply) => return Some(format!("{what}: taken: {reply:?}")),
        Err(status) => status,
    };
    let detail = raw::detail(&status);
    let sound = status.code() == Code::InvalidArgument
        && (&detail.kind[..], detail.retry, detail.committed) == ("invalid", 3, 1)
        && detail.field == field
        && !status.message().contains("xxxx")
        && status.message().len() < 400;
    (!sound).then(|| format!("{what}: wanted {field}: {status:?} {detail:?}"))
}

/// The field at fault, and what makes it so.
type Case<T> = (&'static str, fn(&mut T));

/// What is wrong, the field at fault, and what makes it so.
type PutCase = (&'static str, &'static str, Box<dyn Fn(&mut wire::PutWholeRequest)>);

fn actor_cases() -> Vec<PutCase> {
    let actor = |field: &'static str, edit: fn(&mut wire::Actor)| -> PutCase {
        (field, field, Box::new(move |put| edit(put.actor.as_mut().unwrap())))
    };
    vec![
        ("no actor", "actor", Box::new(|put| put.actor = None)),
        actor("actor.kind", |actor| actor.kind = 0),
        actor("actor.kind", |actor| actor.kind = 3),
        actor("actor.kind", |actor| actor.kind = 99),
        actor("actor.method", |actor| actor.method = 0),
        actor("actor.method", |actor| actor.method = 77),
        actor("actor.facility", |actor| actor.facility = String::new()),
        actor("actor.facility", |actor| actor.facility = long(129)),
        actor("actor.facility", |actor| actor.facility = "a\u{7}b".into()),
        actor("actor.name", |actor| actor.name = String::new()),
        actor("actor.name", |actor| actor.name = long(129)),
        actor("actor.name", |actor| actor.name = "a\nb".into()),
        actor("actor.credential_sha256", |actor| actor.credential_sha256 = Bytes::from_static(&[1; 31])),
    ]
}

fn put_cases() -> Vec<PutCase> {
    let record = |field: &'static str, edit: fn(&mut wire::NewRecord)| -> PutCase {
        (field, field, Box::new(move |put| edit(put.record.as_mut().unwrap())))
    };
    let part = |field: &'static str, edit: fn(&mut wire::WholePart)| -> PutCase {
        (field, field, Box::new(move |put| edit(&mut put.parts[0])))
    };
    let number = |text: &'static str| -> PutCase {
        ("a number", "participant", Box::new(move |put| put.participant = text.into()))
    };
    vec![
        ("no request", "request", Box::new(|put| put.request = None)),
        ("a short request id", "request", Box::new(|put| put.request.as_mut().unwrap().id = Bytes::from_static(b"1"))),
        number(""),
        number("430000000000001"),
        number("43000000000000011"),
        number("4300 00000000001"),
        number("430000000000000x"),
        number("４３０００００００００００００１"),
        ("no record", "record", Box::new(|put| put.record = None)),
        record("class", |record| record.class = 0),
        record("class", |record| record.class = 12),
        record("class", |record| record.class = u32::MAX),
        record("media_type", |record| record.media_type = String::new()),
        record("media_type", |record| record.media_type = long(513)),
        record("media_type", |record| record.media_type = "text/\u{0}plain".into()),
        record("document_id", |record| record.document_id = long(129)),
        record("document_id", |record| record.document_id = "a\u{1b}[2J".into()),
        record("addressees", |record| record.addressees = vec![String::new()]),
        record("addressees", |record| record.addressees = vec![long(129)]),
        record("addressees", |record| record.addressees = (0..513).map(|nth| nth.to_string()).collect()),
        record("record_id", |record| record.record_id = Bytes::from_static(&[1; 15])),
        record("author_user", |record| record.author_user = long(129)),
        record("author_ms", |record| record.author_ms = u64::MAX),
        record("enterer_user", |record| record.enterer_user = long(129)),
        record("enterer_ms", |record| record.enterer_ms = u64::MAX),
        record("confirmer_user", |record| record.confirmer_user = long(129)),
        record("confirmer_user", |record| record.confirmer_ms = 1),
        record("relation", |record| record.related_record_id = Bytes::from_static(&[1; 16])),
        record("related_record_id", |record| record.relation = 1),
        record("related_record_id", |record| record.related_record_id = Bytes::from_static(&[1; 15])),
        record("signature", |record| record.signature = vec![1; (256 << 10) + 1].into()),
        record("timestamp_token", |record| record.timestamp_token = vec![1; (256 << 10) + 1].into()),
        record("signature_result", |record| record.signature_result = long(513)),
        ("no parts", "parts", Box::new(|put| put.parts.clear())),
        ("too many parts", "parts", Box::new(|put| put.parts = parts(1025))),
        (
            "two parts of a name",
            "parts.name",
            Box::new(|put| put.parts = vec![put.parts[0].clone(), put.parts[0].clone()]),
        ),
        ("a long body", "parts", Box::new(|put| put.parts[0].data = vec![7; (1 << 20) + 1].into())),
        part("parts.name", |part| part.name = String::new()),
        part("parts.name", |part| part.name = long(513)),
        part("parts.media_type", |part| part.media_type = long(513)),
    ]
}

fn parts(count: usize) -> Vec<wire::WholePart> {
    let part = |nth| wire::WholePart { name: format!("part {nth}"), media_type: "a/b".into(), ..Default::default() };
    (0..count).map(part).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_writes_are_refused_by_the_name_of_the_field() {
    let world = World::start(1, 0).await;
    let enrolled = world.enrol(1).await;
    let mut records = RecordsClient::new(raw::application(&world));
    let mut wrong = Vec::new();
    for (what, field, edit) in actor_cases().into_iter().chain(put_cases()) {
        let mut put = raw::put_whole(HOSPITAL, &enrolled);
        edit(&mut put);
        wrong.extend(names(what, field, records.put_whole(put).await));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Larger than any message may be: the node does not even read it.
    let mut put = raw::put_whole(HOSPITAL, &enrolled);
    put.parts[0].data = vec![7; 8 << 20].into();
    let status = records.put_whole(put).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");

    assert_eq!(listed(&world.doctor(HOSPITAL), &enrolled).await, []);
    records.put_whole(raw::put_whole(HOSPITAL, &enrolled)).await.unwrap();
    assert_eq!(listed(&world.doctor(HOSPITAL), &enrolled).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_reads_and_changes_are_refused_by_the_name_of_the_field() {
    let world = World::start(1, 0).await;
    let enrolled = world.enrol(1).await;
    let record = world.put(&enrolled, "short").await;
    let record_id = Bytes::copy_from_slice(record.as_bytes());
    let mut records = RecordsClient::new(raw::application(&world));
    let mut consents = ConsentsClient::new(raw::application(&world));
    let participant = enrolled.reveal().to_owned();
    let actor = || raw::doctor(HOSPITAL);
    let mut wrong = Vec::new();

    let get = || wire::GetRequest {
        actor: actor(),
        participant: participant.clone(),
        record_id: record_id.clone(),
        ..wire::GetRequest::default()
    };
    wrong.extend(names("get", "participant", records.get(wire::GetRequest { participant: "1".into(), ..get() }).await));
    wrong.extend(names("get", "record_id", records.get(wire::GetRequest { record_id: Bytes::new(), ..get() }).await));
    wrong.extend(names("get", "purpose", records.get(wire::GetRequest { purpose: 99, ..get() }).await));
    wrong.extend(names("get", "range_start", records.get(wire::GetRequest { range_start: 6, ..get() }).await));
    wrong.extend(names("get", "range_start", records.get(wire::GetRequest { range_start: u64::MAX, ..get() }).await));
    let part = || "body".to_owned();
    let both = wire::GetRequest { part: part(), range_start: 1, ..get() };
    wrong.extend(names("get", "part", records.get(both).await));
    wrong.extend(names("get", "part", records.get(wire::GetRequest { part: long(513), ..get() }).await));
    let several = |ids: Vec<Bytes>| wire::GetSeveralRequest {
        actor: actor(),
        participant: participant.clone(),
        record_ids: ids,
        purpose: 1,
        ..wire::GetSeveralRequest::default()
    };
    for ids in [vec![], vec![Bytes::new()], vec![record_id.clone(); 2], vec![record_id.clone(); 65]] {
        wrong.extend(names("several", "record_ids", records.get_several(several(ids)).await));
    }
    let no_purpose = wire::GetSeveralRequest { purpose: 99, ..several(vec![record_id.clone()]) };
    wrong.extend(names("several", "purpose", records.get_several(no_purpose).await));
    let endless = records.get(wire::GetRequest { range_start: 1, range_length: u64::MAX, ..get() }).await;
    assert!(endless.is_ok(), "a range may reach beyond the end: {endless:?}");

    let list = || wire::ListRequest { actor: actor(), participant: participant.clone(), ..Default::default() };
    wrong.extend(names("list", "classes", records.list(wire::ListRequest { classes: vec![8, 50], ..list() }).await));
    let after = Bytes::from_static(&[1; 15]);
    wrong.extend(names("list", "after", records.list(wire::ListRequest { after, ..list() }).await));
    let short = || Bytes::from_static(&[1; 15]);
    wrong.extend(names("get", "episode_id", records.get(wire::GetRequest { episode_id: short(), ..get() }).await));
    wrong.extend(names("list", "episode_id", records.list(wire::ListRequest { episode_id: short(), ..list() }).await));
    let plain =
        wire::ListRequest { after: Bytes::from_static(&[1; 16]), episode_id: Bytes::from_static(&[1; 16]), ..list() };
    wrong.extend(names("list", "after", records.list(plain).await));
    let open = |reason: String| wire::OpenEmergencyRequest {
        actor: actor(),
        request: raw::request(),
        participant: participant.clone(),
        reason,
    };
    wrong.extend(names("open_emergency", "reason", records.open_emergency(open(long(513))).await));
    wrong.extend(names("open_emergency", "reason", records.open_emergency(open("a\nb".into())).await));
    let nobody = wire::OpenEmergencyRequest { participant: "1".into(), ..open("why".into()) };
    wrong.extend(names("open_emergency", "participant", records.open_emergency(nobody).await));
    let auditor = raw::client_files(world.cluster.layout(), ClientFile::Auditor);
    let mut audit = AuditClient::new(raw::channel(auditor, &world.cluster.plan().members[0]));
    let queue = wire::ListReviewsRequest { after: short(), ..Default::default() };
    wrong.extend(names("list_reviews", "after", audit.list_reviews(queue).await));
    let queue = wire::ListReviewsRequest { review_id: short(), ..Default::default() };
    wrong.extend(names("list_reviews", "review_id", audit.list_reviews(queue).await));
    let review = |verdict, note: String| wire::ReviewRequest {
        request: raw::request(),
        review_id: Bytes::from_static(&[1; 16]),
        verdict,
        note,
    };
    wrong.extend(names("review", "verdict", audit.review(review(3, String::new())).await));
    wrong.extend(names("review", "note", audit.review(review(1, long(513))).await));
    let inbox = wire::InboxRequest { actor: actor(), since: Bytes::from_static(&[1; 11]), limit: 1 };
    wrong.extend(names("inbox", "since", records.inbox(inbox).await));

    let narrow = |addressees: Vec<String>| wire::NarrowRequest {
        actor: actor(),
        request: raw::request(),
        participant: participant.clone(),
        record_id: record_id.clone(),
        addressees,
    };
    wrong.extend(names("narrow", "addressees", records.narrow(narrow(Vec::new())).await));
    wrong.extend(names("narrow", "addressees", records.narrow(narrow(vec![long(129)])).await));
    let many = (0..513).map(|nth| nth.to_string()).collect();
    wrong.extend(names("narrow", "addressees", records.narrow(narrow(many)).await));
    let hide = wire::HideRequest {
        actor: actor(),
        request: raw::request(),
        participant: participant.clone(),
        record_id: record_id.clone(),
        hidden: true,
        reason: long(513),
    };
    wrong.extend(names("hide", "reason", records.hide(hide).await));
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let long_evidence = registry.hold(&enrolled, record).evidence(long(513)).await.unwrap_err();
    wrong.extend((long_evidence.field() != Some("evidence")).then(|| format!("hold: {long_evidence}")));
    wrong.extend(names("outcome", "request", records.outcome(wire::OutcomeRequest { request: None }).await));

    let enrol = |consent| wire::EnrolRequest {
        actor: actor(),
        request: raw::request(),
        participant: number(2).reveal().to_owned(),
        consent,
    };
    let signed = wire::SignedConsent { signed_day: 1, evidence: "paper".into(), ..Default::default() };
    wrong.extend(names("enrol", "consent", consents.enrol(enrol(None)).await));
    let consent = wire::SignedConsent { evidence: long(513), ..signed.clone() };
    wrong.extend(names("enrol", "evidence", consents.enrol(enrol(Some(consent))).await));
    let consent = wire::SignedConsent { proxy: long(513), ..signed.clone() };
    wrong.extend(names("enrol", "proxy", consents.enrol(enrol(Some(consent))).await));
    let consent = wire::SignedConsent { proxy_relation: long(513), ..signed };
    wrong.extend(names("enrol", "proxy_relation", consents.enrol(enrol(Some(consent))).await));
    let grant = |facility: String, evidence: String| wire::GrantRequest {
        actor: actor(),
        request: raw::request(),
        participant: participant.clone(),
        facility,
        evidence,
    };
    wrong.extend(names("grant", "facility", consents.grant(grant(String::new(), "paper".into())).await));
    wrong.extend(names("grant", "facility", consents.grant(grant("a\tb".into(), "paper".into())).await));
    wrong.extend(names("grant", "evidence", consents.grant(grant(CLINIC.into(), long(513))).await));
    let link = |local_id: String| wire::LinkRequest {
        actor: actor(),
        request: raw::request(),
        participant: participant.clone(),
        local_id,
    };
    for bad in [String::new(), long(129), "a\u{0}".into()] {
        wrong.extend(names("link", "local_id", consents.link(link(bad)).await));
    }
    // A participant acts for nobody else: that is for a decision to say, with its entry.
    let mut other = grant(CLINIC.into(), String::new());
    other.actor = Some(wire::Actor { kind: 2, name: number(3).reveal().into(), ..raw::doctor(HOSPITAL).unwrap() });
    assert_eq!(consents.grant(other).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_registrations_and_approvals_are_refused_by_the_name_of_the_field() {
    let world = World::start(1, 0).await;
    let layout = world.cluster.layout();
    let member = &world.cluster.plan().members[0];
    let registrar = raw::channel(raw::client_files(layout, ClientFile::Registrar1), member);
    let mut registry = RegistryClient::new(registrar);
    let before = registry.list_facilities(wire::ListRegistryRequest::default()).await.unwrap().into_inner();
    let mut wrong = Vec::new();

    let good = before.facilities[0].clone();
    let facilities: [Case<wire::Facility>; 10] = [
        ("id", |one| one.id = String::new()),
        ("id", |one| one.id = long(129)),
        ("id", |one| one.id = "a\rb".into()),
        ("name", |one| one.name = long(513)),
        ("kind", |one| one.kind = 0),
        ("status", |one| one.status = 9),
        ("access_line", |one| one.access_line = 0),
        ("institution_code", |one| one.institution_code = long(513)),
        ("institution_code", |one| one.institution_code = "131100123".into()),
        ("institution_code", |one| one.institution_code = "13110012３2".into()),
    ];
    for (field, edit) in facilities {
        let mut facility = good.clone();
        edit(&mut facility);
        let ask = wire::PutFacilityRequest { request: raw::request(), facility: Some(facility), ..Default::default() };
        wrong.extend(names("facility", field, registry.put_facility(ask).await));
    }
    let ask = wire::PutFacilityRequest { request: raw::request(), ..Default::default() };
    wrong.extend(names("facility", "facility", registry.put_facility(ask).await));

    let good =
        wire::User { id: DOCTOR.into(), facility: HOSPITAL.into(), profession: 1, status: 1, ..Default::default() };
    let users: [Case<wire::User>; 6] = [
        ("id", |one| one.id = String::new()),
        ("facility", |one| one.facility = long(129)),
        ("name", |one| one.name = long(513)),
        ("profession", |one| one.profession = 44),
        ("status", |one| one.status = 0),
        ("credential_sha256", |one| one.credential_sha256 = Bytes::from_static(&[1; 33])),
    ];
    for (field, edit) in users {
        let mut user = good.clone();
        edit(&mut user);
        let ask = wire::PutUserRequest { request: raw::request(), user: Some(user), ..Default::default() };
        wrong.extend(names("user", field, registry.put_user(ask).await));
    }

    let good = wire::Application { name: "another".into(), access_line: 1, status: 1, ..Default::default() };
    let applications: [Case<wire::Application>; 5] = [
        ("name", |one| one.name = String::new()),
        ("access_line", |one| one.access_line = 3),
        ("status", |one| one.status = 4),
        ("facilities", |one| one.facilities = vec![long(129)]),
        ("facilities", |one| one.facilities = (0..513).map(|nth| nth.to_string()).collect()),
    ];
    for (field, edit) in applications {
        let mut application = good.clone();
        edit(&mut application);
        let ask = wire::PutApplicationRequest {
            request: raw::request(),
            application: Some(application),
            ..Default::default()
        };
        wrong.extend(names("application", field, registry.put_application(ask).await));
    }

    let operator = raw::channel(raw::client_files(layout, ClientFile::Operator), member);
    let mut operations = OperationsClient::new(operator);
    let good = wire::ApproveMemberRequest {
        name: "voter-9".into(),
        role: 1,
        key_sha256: Bytes::from_static(&[1; 32]),
        address: "127.0.0.1:1".into(),
        renew_key: false,
        anew: false,
    };
    let approvals: [Case<wire::ApproveMemberRequest>; 6] = [
        ("name", |one| one.name = String::new()),
        ("name", |one| one.name = "voter 9".into()),
        ("role", |one| one.role = 3),
        ("key_sha256", |one| one.key_sha256 = Bytes::new()),
        ("address", |one| one.address = long(513)),
        ("key_sha256", |one| (one.renew_key, one.key_sha256) = (true, Bytes::from_static(&[1; 31]))),
    ];
    for (field, edit) in approvals {
        let mut approval = good.clone();
        edit(&mut approval);
        wrong.extend(names("approval", field, operations.approve_member(approval).await));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let after = registry.list_facilities(wire::ListRegistryRequest::default()).await.unwrap().into_inner();
    assert_eq!(before, after);
    let applications = registry.list_applications(wire::ListRegistryRequest::default()).await.unwrap().into_inner();
    assert_eq!(applications.applications.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_well_formed_and_not_allowed_is_refused_with_a_reason() {
    let world = World::start(1, 0).await;
    let enrolled = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let today = Date::today().days();
    let of = |class, day| NewRecord::new(class, "text/plain", Date::from_days(day));
    let mut records = RecordsClient::new(raw::application(&world));
    for (class, day, reason) in [
        (Class::CareRecord, today + 2, "future-date"),
        (Class::CareRecord, i32::MAX, "future-date"),
        (Class::CareRecord, i32::MIN, "before-consent"),
        (Class::Personal, today, "class-reserved"),
    ] {
        let refused = hospital.put(&enrolled, of(class, day)).bytes("short").await.unwrap_err();
        assert!(matches!(refused, PutError::Denied(_)), "{reason}: {refused}");
        let mut put = raw::put_whole(HOSPITAL, &enrolled);
        let record = put.record.as_mut().unwrap();
        (record.class, record.clinical_day) = (class.number(), day);
        let status = records.put_whole(put).await.unwrap_err();
        assert_eq!((status.code(), raw::detail(&status).field.as_str()), (Code::PermissionDenied, reason));
    }
    hospital.put(&enrolled, of(Class::CareRecord, today + 1)).bytes("a day of grace").await.unwrap();
    let nothing = hospital.get(&enrolled, RecordId::NIL).await.unwrap_err();
    assert!(matches!(&nothing, GetError::Invalid(_)) && nothing.field() == Some("record_id"), "{nothing}");
    // Nobody's clock is so far off; a request id from the future is no reason to remember it for ever.
    let mut id = [9; 16];
    id[..6].copy_from_slice(&(now_ms() + 30 * 86_400_000).to_be_bytes()[2..]);
    let mut put = raw::put_whole(HOSPITAL, &enrolled);
    put.request.as_mut().unwrap().id = Bytes::copy_from_slice(&id);
    let answer = records.put_whole(put).await;
    assert_eq!(names("a request of next month", "request", answer), None);
    assert_eq!(listed(&hospital, &enrolled).await.len(), 1);
}
