//! What one registrar may do alone, and what takes another.

use kura_cluster::Revision;
use kura_cluster::consent::Denial;
use kura_cluster::id::ActId;
use kura_cluster::row::{ActRow, DisasterRow, JournalEntry, RowKey};
use sha2::Sha256;

use super::super::limits::ACTS_OPEN_MAX;
use super::*;

fn registrar(name: &str) -> Caller {
    Caller::parse(identity(Role::Registrar, name), None).unwrap()
}

/// Another person: another name, another certificate, another key.
fn second() -> Caller {
    Caller::parse(another_identity(Role::Registrar, "ueda"), None).unwrap()
}

fn application(name: &str) -> v1::Application {
    let facilities = vec![HOSPITAL.into()];
    v1::Application { name: name.into(), access_line: 1, facilities, status: 1, ..Default::default() }
}

fn put(row: v1::Application, before: Option<v1::Application>) -> v1::PutApplicationRequest {
    v1::PutApplicationRequest { request: request(), application: Some(row), before, reason: "form 7".into() }
}

fn denied<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> Denial {
    match answer {
        Err(GatewayError::Denied { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn refused_field<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> &'static str {
    match answer {
        Err(GatewayError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

async fn act(gateway: &Gateway, id: &Bytes) -> v1::Act {
    let asked = v1::ListActsRequest { act_id: id.clone(), ..Default::default() };
    gateway.list_acts(&second(), asked).await.unwrap().acts.remove(0)
}

async fn open(gateway: &Gateway) -> Vec<Bytes> {
    let acts = gateway.list_acts(&second(), v1::ListActsRequest::default()).await.unwrap().acts;
    acts.into_iter().map(|act| act.id).collect()
}

async fn confirm(gateway: &Gateway, by: &Caller, act: &v1::Act) -> Result<v1::Receipt, GatewayError> {
    let payload_sha256 = Bytes::copy_from_slice(&Sha256::digest(&act.payload));
    let ask = v1::ConfirmActRequest { request: request(), act_id: act.id.clone(), payload_sha256 };
    gateway.confirm_act(by, ask).await
}

fn reject(id: &Bytes) -> v1::RejectActRequest {
    v1::RejectActRequest { request: request(), act_id: id.clone(), reason: "wrong".into() }
}

async fn applications(gateway: &Gateway) -> Vec<String> {
    let found = gateway.list_applications(&second()).await.unwrap();
    found.into_iter().map(|application| application.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_an_application_alone_by_whatever_second_certificate() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let ito = registrar("ito");
    let ask = put(application("lab"), None);
    let proposed = gateway.put_application(&ito, ask.clone()).await.unwrap();
    let again = gateway.put_application(&ito, ask).await.unwrap();
    assert_eq!(proposed.act_id.len(), 16);
    assert_eq!((&again.act_id, again.receipt.unwrap().repeated), (&proposed.act_id, true));
    assert_eq!(applications(&gateway).await, ["karte"]);
    assert_eq!(open(&gateway).await, std::slice::from_ref(&proposed.act_id));

    let shown = act(&gateway, &proposed.act_id).await;
    assert_eq!((&shown.reason[..], &shown.object[..], shown.stale, shown.expired), ("form 7", "lab", false, false));
    assert_eq!(v1::Application::decode(shown.payload.clone()).unwrap(), application("lab"));
    assert!(shown.before.is_empty());
    let with = |name: &str, fingerprint, key_sha256| {
        let identity = Identity {
            fingerprint: [fingerprint; 32],
            key_sha256: [key_sha256; 32],
            ..(*identity(Role::Registrar, name)).clone()
        };
        Caller::parse(Arc::new(identity), None).unwrap()
    };
    // The same certificate; a further one of the same name; a further one for the same key under another name.
    for same in [ito.clone(), with("ito", 8, 9), with("ueda", 8, 3)] {
        assert_eq!(denied(confirm(&gateway, &same, &shown).await), Denial::SamePerson);
    }
    let other = v1::Act { payload: Bytes::from_static(b"other"), ..shown.clone() };
    assert_eq!(denied(confirm(&gateway, &second(), &other).await), Denial::ActStale);
    assert_eq!(applications(&gateway).await, ["karte"]);
    confirm(&gateway, &second(), &shown).await.unwrap();
    assert_eq!(applications(&gateway).await, ["karte", "lab"]);
    assert_eq!(open(&gateway).await, Vec::<Bytes>::new());
    assert_eq!(act(&gateway, &proposed.act_id).await.state, 2);
    assert_eq!(denied(confirm(&gateway, &second(), &shown).await), Denial::ActClosed);
    let unknown = v1::Act { id: vec![7; 16].into(), ..shown };
    assert_eq!(denied(confirm(&gateway, &second(), &unknown).await), Denial::ActUnknown);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registrar_narrows_and_a_second_one_widens() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let ito = registrar("ito");
    let karte = application("karte");
    let wider = v1::Application { participants: true, ..karte.clone() };
    let proposed = gateway.put_application(&ito, put(wider.clone(), Some(karte.clone()))).await.unwrap();
    assert_eq!(v1::Application::decode(act(&gateway, &proposed.act_id).await.before).unwrap(), karte);
    // While it waits, nothing else is proposed about the same.
    let back = gateway.put_application(&ito, put(wider.clone(), Some(karte.clone()))).await;
    let Err(GatewayError::ProposedBefore { act: open }) = back else { panic!("{back:?}") };
    assert_eq!(open, kura_cluster::id::ActId::from_slice(&proposed.act_id).unwrap().to_hex());
    // What is narrower is done at once, and makes the proposal stale.
    let suspended = v1::Application { status: 2, ..karte.clone() };
    let done = gateway.put_application(&ito, put(suspended.clone(), Some(karte.clone()))).await.unwrap();
    assert!(done.act_id.is_empty());
    let shown = act(&gateway, &proposed.act_id).await;
    assert!(shown.stale && shown.before.is_empty());
    assert_eq!(denied(confirm(&gateway, &second(), &shown).await), Denial::ActStale);
    gateway.reject_act(&ito, reject(&proposed.act_id)).await.unwrap();
    assert_eq!(denied(gateway.reject_act(&second(), reject(&proposed.act_id)).await), Denial::ActClosed);
    // To come back takes two again.
    let back = gateway.put_application(&ito, put(karte, Some(suspended))).await.unwrap();
    assert!(!back.act_id.is_empty());
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_registered_is_changed_unseen_and_nothing_hangs_in_the_air() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let ito = registrar("ito");
    let known = v1::Facility {
        id: HOSPITAL.into(),
        name: "hospital".into(),
        kind: 1,
        status: 1,
        access_line: 1,
        ..Default::default()
    };
    let put = |row: &v1::Facility, before: Option<&v1::Facility>| v1::PutFacilityRequest {
        request: request(),
        facility: Some(row.clone()),
        before: before.cloned(),
        reason: String::new(),
    };
    let suspended = v1::Facility { status: 2, ..known.clone() };
    let unseen = gateway.put_facility(&ito, put(&suspended, None)).await;
    assert!(matches!(unseen, Err(GatewayError::Registered { field: "id" })), "{unseen:?}");
    gateway.put_facility(&ito, put(&known, None)).await.unwrap();
    let lost = v1::Facility { name: "older".into(), ..known.clone() };
    let overtaken = gateway.put_facility(&ito, put(&suspended, Some(&lost))).await;
    assert!(matches!(overtaken, Err(GatewayError::Changed)), "{overtaken:?}");
    let nobody = v1::Facility { id: "F9".into(), ..known.clone() };
    let nobody = gateway.put_facility(&ito, put(&nobody, Some(&nobody))).await;
    assert!(matches!(nobody, Err(GatewayError::NotFound { .. })), "{nobody:?}");
    // The flag for emergencies takes two.
    let flagged = v1::Facility { emergency: true, ..known.clone() };
    let proposed = gateway.put_facility(&ito, put(&flagged, Some(&known))).await.unwrap();
    assert!(!gateway.list_facilities(&ito).await.unwrap()[0].emergency);
    confirm(&gateway, &second(), &act(&gateway, &proposed.act_id).await).await.unwrap();
    assert!(gateway.list_facilities(&ito).await.unwrap()[0].emergency);
    // A check digit that does not fit is said, not refused.
    for (code, warnings) in [("1311001232", 0), ("1311001233", 1), ("", 0)] {
        let row = v1::Facility { id: format!("F{code}"), institution_code: code.into(), ..known.clone() };
        assert_eq!(gateway.put_facility(&ito, put(&row, None)).await.unwrap().warnings.len(), warnings, "{code}");
    }

    let user = v1::User {
        id: "u".into(),
        name: "u".into(),
        facility: "F9".into(),
        profession: 1,
        status: 1,
        ..Default::default()
    };
    let ask = v1::PutUserRequest { request: request(), user: Some(user), ..Default::default() };
    let unregistered = Err(GatewayError::Unregistered { id: "F9".into() });
    assert_eq!(gateway.put_user(&ito, ask).await.map(drop), unregistered);
    let ask = self::put(v1::Application { facilities: vec![HOSPITAL.into(), "F9".into()], ..application("lab") }, None);
    assert_eq!(gateway.put_application(&ito, ask).await.map(drop), unregistered);
    storehouse.close().await;
}

async fn settings(gateway: &Gateway) -> v1::Settings {
    gateway.show_settings(&second()).await.unwrap().settings.unwrap()
}

async fn set(gateway: &Gateway, change: impl FnOnce(&mut v1::Settings)) -> Result<v1::RegisterReply, GatewayError> {
    let before = settings(gateway).await;
    let mut after = before.clone();
    change(&mut after);
    let ask = v1::PutSettingsRequest {
        request: request(),
        settings: Some(after),
        before: Some(before),
        ..Default::default()
    };
    gateway.put_settings(&registrar("ito"), ask).await
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_become_narrower_by_one_and_wider_by_two() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    assert!(set(&gateway, |s| s.emergency_ms = Some(600_000)).await.unwrap().act_id.is_empty());
    assert_eq!(settings(&gateway).await.emergency_ms, Some(600_000));
    let wider = set(&gateway, |s| s.emergency_ms = Some(700_000)).await.unwrap();
    assert_eq!(settings(&gateway).await.emergency_ms, Some(600_000));
    confirm(&gateway, &second(), &act(&gateway, &wider.act_id).await).await.unwrap();
    assert_eq!(settings(&gateway).await.emergency_ms, Some(700_000));
    assert_eq!(refused_field(set(&gateway, |s| s.emergency_ms = Some(1)).await), "emergency_ms");
    assert_eq!(refused_field(set(&gateway, |s| s.professions[0].classes.push(77)).await), "classes");
    // Decisions use them at once.
    let number = || v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    gateway.list(&doctor(), number()).await.unwrap();
    let classes = |s: &mut v1::Settings| s.professions.iter_mut().for_each(|one| one.classes.clear());
    assert!(set(&gateway, classes).await.unwrap().act_id.is_empty());
    let put = v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![v1::WholePart {
            name: "body".into(),
            media_type: "text/plain".into(),
            data: "x".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let written = gateway.put_whole(&doctor(), put).await.unwrap();
    let get = v1::GetRequest { participant: NUMBER.into(), record_id: written.record_id, ..Default::default() };
    assert_eq!(denied(gateway.read(&doctor(), get).await.map(|_| ())), Denial::ProfessionClass);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disaster_is_declared_by_two_and_ended_by_one() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let declare = |until_ms, facility: &str| v1::DeclareDisasterRequest {
        request: request(),
        disaster: Some(v1::Disaster {
            name: "flood".into(),
            until_ms,
            facilities: vec![facility.into()],
            ..Default::default()
        }),
        reason: "a flood".into(),
    };
    let ito = registrar("ito");
    let end = || v1::EndDisasterRequest { request: request(), reason: String::new() };
    let soon = crate::clock::now_ms() + 3_600_000;
    assert_eq!(refused_field(gateway.declare_disaster(&ito, declare(soon * 2, HOSPITAL)).await), "until_ms");
    let unknown = gateway.declare_disaster(&ito, declare(soon, "F9")).await;
    assert!(matches!(unknown, Err(GatewayError::Unregistered { id }) if id == "F9"));
    let proposed = gateway.declare_disaster(&ito, declare(soon, HOSPITAL)).await.unwrap();
    assert!(gateway.show_settings(&ito).await.unwrap().disaster.is_none());
    assert_eq!(denied(gateway.end_disaster(&ito, end()).await), Denial::NoDisaster);
    confirm(&gateway, &second(), &act(&gateway, &proposed.act_id).await).await.unwrap();
    let shown = gateway.show_settings(&ito).await.unwrap();
    let disaster = shown.disaster.unwrap();
    assert!(shown.disaster_in_force);
    assert_eq!(
        (disaster.proposed_by.unwrap().name, disaster.confirmed_by.unwrap().name),
        ("ito".into(), "ueda".into())
    );
    let ended = end();
    gateway.end_disaster(&ito, ended.clone()).await.unwrap();
    assert!(gateway.end_disaster(&ito, ended).await.unwrap().repeated);
    assert_eq!(denied(gateway.end_disaster(&ito, end()).await), Denial::NoDisaster);
    let shown = gateway.show_settings(&ito).await.unwrap();
    assert_eq!((shown.disaster_in_force, &shown.disaster.unwrap().ended_by.unwrap().name[..]), (false, "ito"));
    storehouse.close().await;
}

/// Writes acts as they never come about by asking.
async fn plant(storehouse: &Storehouse, gateway: &Gateway, count: usize, expires_ms: u64) -> Vec<Bytes> {
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let now_ms = attempt.now_ms;
    let mut ids = Vec::new();
    for nth in 0..count {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[8..].copy_from_slice(&(nth as u64).to_be_bytes());
        let payload = application("lab").encode_to_vec();
        let act = ActRow {
            id: Bytes::copy_from_slice(&id),
            kind: 2,
            state: 1,
            object: format!("lab-{nth}"),
            payload_sha256: Bytes::copy_from_slice(&Sha256::digest(&payload)),
            payload: payload.into(),
            proposed_by: Some(registrar("ito").journalled()),
            proposed_ms: now_ms,
            expires_ms,
            ..ActRow::default()
        };
        attempt.put(&RowKey::act(&ActId(id)), Revision::ABSENT, &act);
        ids.push(act.id);
    }
    storehouse.commit(attempt).await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_acts_are_told_as_such_and_open_ones_are_bounded() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let now_ms = crate::clock::now_ms();
    let expired = plant(&storehouse, &gateway, ACTS_OPEN_MAX, now_ms).await.remove(0);
    assert_eq!(open(&gateway).await, Vec::<Bytes>::new());
    let shown = act(&gateway, &expired).await;
    assert!(shown.expired);
    assert_eq!(denied(confirm(&gateway, &second(), &shown).await), Denial::ActExpired);
    let asked = v1::ListActsRequest { closed: true, limit: 1000, ..Default::default() };
    // The expired, and the one by which the storehouse's own application came about.
    assert_eq!(gateway.list_acts(&second(), asked).await.unwrap().acts.len(), ACTS_OPEN_MAX + 1);
    // Expired ones do not count.
    let own = gateway.put_application(&registrar("ito"), put(application("lab"), None)).await.unwrap();
    gateway.reject_act(&second(), reject(&own.act_id)).await.unwrap();
    drop(gateway);
    storehouse.close().await;

    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    plant(&storehouse, &gateway, ACTS_OPEN_MAX, now_ms + 3_600_000).await;
    assert_eq!(refused_field(gateway.put_application(&registrar("ito"), put(application("lab"), None)).await), "act");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_declared_disaster_newly_lets_in_takes_two() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let now_ms = crate::clock::now_ms();
    let disaster = DisasterRow {
        name: "earthquake".into(),
        from_ms: now_ms,
        until_ms: now_ms + 3_600_000,
        facility_kinds: vec![1],
        ..DisasterRow::default()
    };
    storehouse.edit(&RowKey::setting("disaster"), |row: &mut DisasterRow| *row = disaster).await;
    let facility = |id: &str, kind, status| v1::Facility {
        id: id.into(),
        name: "name".into(),
        kind,
        status,
        access_line: 1,
        ..Default::default()
    };
    let put = async |row: v1::Facility, before: Option<v1::Facility>| {
        let ask = v1::PutFacilityRequest { request: request(), facility: Some(row), before, ..Default::default() };
        !gateway.put_facility(&registrar("ito"), ask).await.unwrap().act_id.is_empty()
    };
    let (clinic, hospital) = (facility("F-1", 2, 1), facility("F-1", 1, 1));
    assert!(!put(clinic.clone(), None).await, "a kind that the disaster does not name");
    assert!(put(hospital, Some(clinic)).await, "becomes of a kind that it names");
    assert!(put(facility("F-2", 1, 1), None).await, "new");
    assert!(!put(facility("F-3", 1, 2), None).await, "suspended");
    assert!(put(facility("F-3", 1, 1), Some(facility("F-3", 1, 2))).await, "comes back");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_takes_two_brings_no_revoked_grant_back_and_is_reviewed() {
    const SECOND: &str = "0043001234567892";
    const CLINIC: &str = "clinic-02";
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let application = |row: &mut kura_cluster::row::Application| row.participants = true;
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    let clinic = |row: &mut kura_cluster::row::Facility| {
        *row =
            kura_cluster::row::Facility { id: CLINIC.into(), kind: 2, status: 1, access_line: 1, ..Default::default() }
    };
    storehouse.edit_hashed((Table::Facility, Domain::Facility), &[CLINIC], clinic).await;
    let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper".into(), ..Default::default() };
    let enrol =
        v1::EnrolRequest { request: request(), participant: SECOND.into(), consent: Some(consent), actor: None };
    gateway.enrol(&doctor(), enrol).await.unwrap();
    let grant = |number: &str, facility: &str| v1::GrantRequest {
        actor: None,
        request: request(),
        participant: number.into(),
        facility: facility.into(),
        evidence: "paper".into(),
    };
    // Under one number the clinic is named; under the other it was, and its grant was taken back.
    gateway.grant(&doctor(), grant(NUMBER, CLINIC)).await.unwrap();
    gateway.grant(&doctor(), grant(SECOND, CLINIC)).await.unwrap();
    gateway.grant(&doctor(), grant(SECOND, HOSPITAL)).await.unwrap();
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: SECOND.into(),
        facility: CLINIC.into(),
        evidence: "paper".into(),
        ..Default::default()
    };
    gateway.revoke(&doctor(), revoke).await.unwrap();

    let alias = |evidence: &str| v1::AliasRequest {
        request: request(),
        participant: NUMBER.into(),
        duplicate: SECOND.into(),
        evidence: evidence.into(),
    };
    let named = async || {
        let ask = v1::ShowRequest { participant: NUMBER.into(), ..Default::default() };
        let shown = gateway.show_consent(&participant(), ask).await.unwrap();
        let now: Vec<String> = shown.grants.into_iter().filter(|g| g.revoked_ms == 0).map(|g| g.facility).collect();
        now
    };
    let ito = registrar("ito");
    assert_eq!(denied(gateway.alias(&ito, alias("")).await), Denial::NoEvidence);
    let proposed = gateway.alias(&ito, alias("form 9")).await.unwrap().act_id;
    assert!(!proposed.is_empty());
    assert!(matches!(gateway.alias(&ito, alias("form 9")).await, Err(GatewayError::ProposedBefore { .. })));
    assert_eq!(named().await, [HOSPITAL, CLINIC], "nothing has happened yet");
    let shown = act(&gateway, &proposed).await;
    assert_eq!((&shown.participant[..], &shown.duplicate[..], shown.kind, shown.stale), (NUMBER, SECOND, 5, false));
    assert!(!shown.object.contains(SECOND), "an act outlives the number");
    assert_eq!(denied(confirm(&gateway, &ito, &shown).await), Denial::SamePerson);
    let other = v1::Act { payload: Bytes::from_static(b"other"), ..shown.clone() };
    assert_eq!(denied(confirm(&gateway, &second(), &other).await), Denial::ActStale);
    confirm(&gateway, &second(), &shown).await.unwrap();
    assert_eq!(denied(confirm(&gateway, &second(), &shown).await), Denial::ActClosed);
    assert_eq!(named().await, [HOSPITAL]);
    assert_eq!(denied(gateway.alias(&ito, alias("form 9")).await), Denial::SameParticipant);
    let queue = gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
    let review = queue.last().unwrap();
    assert_eq!((review.kind, &review.participant[..], &review.duplicate[..]), (3, NUMBER, SECOND));
    assert_eq!((&review.reason[..], &review.actor.as_ref().unwrap().name[..]), ("form 9", "ueda"));
    // Both find it in their journal, and the act in it.
    let entries = storehouse.journalled().await;
    let confirmed =
        entries.iter().rev().find(|entry| entry.action == Action::Confirm.number() && entry.denial.is_empty());
    assert_eq!(confirmed.map(|entry| (&entry.act_id, &entry.participant[..])), Some((&proposed, NUMBER)));
    storehouse.close().await;
}
