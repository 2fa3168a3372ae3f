//! Emergency access on real rows.

use kura_cluster::consent::Denial;
use kura_cluster::id::{ContentId, EpisodeId, ReviewId};
use kura_cluster::row::{Application, CounterRow, DisasterRow, EpisodeRow, Facility, User};
use kura_cluster::word::{Class, Profession};

use super::*;
use crate::clock::now_ms;
use crate::gateway::emergency::Episode;
use crate::gateway::several::Step;

const REASON: &str = "unconscious, ambulance 3";
const CREDENTIAL: [u8; 32] = [0xaa; 32];
const OTHER: &str = "0043001234567899";

/// A user of the hospital with a credential.
fn with_credential(user: &str, credential: [u8; 32]) -> Caller {
    let actor = v1::Actor {
        kind: 1,
        facility: HOSPITAL.into(),
        name: user.into(),
        method: 1,
        authenticated_ms: now_ms(),
        credential_sha256: Bytes::copy_from_slice(&credential),
    };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

pub(super) fn physician() -> Caller {
    with_credential(DOCTOR, CREDENTIAL)
}

impl Storehouse {
    /// The hospital is one for emergencies, its physician has a credential, and the application acts for participants.
    pub(super) async fn prepare_emergencies(&self) {
        self.edit_hashed((Table::Facility, Domain::Facility), &[HOSPITAL], |row: &mut Facility| row.emergency = true)
            .await;
        let user = |row: &mut User| row.credential_sha256 = Bytes::copy_from_slice(&CREDENTIAL);
        self.edit_hashed((Table::User, Domain::User), &[HOSPITAL, DOCTOR], user).await;
        let application = |row: &mut Application| row.participants = true;
        self.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    }
}

fn opening(reason: &str) -> v1::OpenEmergencyRequest {
    v1::OpenEmergencyRequest { actor: None, request: request(), participant: NUMBER.into(), reason: reason.into() }
}

fn listing(episode: &Bytes) -> v1::ListRequest {
    v1::ListRequest { participant: NUMBER.into(), episode_id: episode.clone(), ..Default::default() }
}

fn getting(record: &Bytes, episode: &Bytes) -> v1::GetRequest {
    let (record_id, episode_id) = (record.clone(), episode.clone());
    v1::GetRequest { participant: NUMBER.into(), record_id, episode_id, ..Default::default() }
}

#[track_caller]
fn denied<T>(answer: Result<T, GatewayError>) -> Denial {
    match answer {
        Err(GatewayError::Denied { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("permitted"),
    }
}

struct Scene {
    storehouse: Storehouse,
    gateway: Arc<Gateway>,
    /// Records of the hospital, an allergy among them, in the order in which they were written.
    records: Vec<(Class, Bytes)>,
}

impl Scene {
    /// The hospital is one for emergencies and wrote some records; then the participant took its grant back.
    async fn new() -> Scene {
        let storehouse = Storehouse::new().await;
        storehouse.prepare_emergencies().await;
        let gateway = storehouse.gateway();
        let mut records = Vec::new();
        for class in [Class::Document, Class::Prescription, Class::Allergy, Class::CareRecord, Class::Allergy] {
            let part = v1::WholePart {
                name: "body".into(),
                media_type: "text/plain".into(),
                data: body(2_000),
                ..Default::default()
            };
            let put = v1::PutWholeRequest {
                request: request(),
                participant: NUMBER.into(),
                record: Some(v1::NewRecord { class: class.number(), media_type: "text/plain".into(), ..record() }),
                parts: vec![part],
                ..Default::default()
            };
            records.push((class, gateway.put_whole(&physician(), put).await.unwrap().record_id));
        }
        let revoke = v1::RevokeRequest {
            request: request(),
            participant: NUMBER.into(),
            facility: HOSPITAL.into(),
            ..Default::default()
        };
        gateway.revoke(&participant(), revoke).await.unwrap();
        Scene { storehouse, gateway, records }
    }

    async fn open(&self) -> v1::OpenEmergencyReply {
        self.gateway.open_emergency(&physician(), opening(REASON)).await.unwrap()
    }

    fn counter(&self, domain: Domain, parts: &[&str]) -> u32 {
        let attempt = Attempt::begin(&self.gateway, &JournalEntry::default()).unwrap();
        let key = RowKey::counter(&attempt.hash(domain, parts));
        attempt
            .look::<CounterRow>(&key)
            .unwrap()
            .value
            .map_or(0, |row| row.slices.iter().map(|slice| slice.count).sum())
    }

    fn counters(&self) -> [u32; 3] {
        [
            self.counter(Domain::EmergencyUser, &[HOSPITAL, DOCTOR]),
            self.counter(Domain::EmergencyFacility, &[HOSPITAL]),
            self.counter(Domain::EmergencyApplication, &["karte"]),
        ]
    }

    async fn edit_episode(&self, episode: &Bytes, change: impl FnOnce(&mut EpisodeRow)) {
        self.storehouse.edit(&RowKey::episode(&EpisodeId::from_slice(episode).unwrap()), change).await;
    }

    async fn disaster(&self, row: DisasterRow) {
        self.storehouse.edit(&RowKey::setting("disaster"), |kept: &mut DisasterRow| *kept = row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_nobody_named_allergies_first_and_every_access_is_marked() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    assert_eq!(denied(gateway.list(&physician(), listing(&Bytes::new())).await), Denial::NotGranted);
    let opened = scene.open().await;
    let episode = &opened.episode_id;
    assert!(opened.expires_ms.abs_diff(now_ms() + 3_600_000) < 60_000);

    let whole = gateway.list(&physician(), listing(episode)).await.unwrap();
    let classes: Vec<u32> = whole.records.iter().map(|record| record.class).collect();
    assert_eq!(classes.len(), scene.records.len());
    assert_eq!(classes[..2], [Class::Allergy.number(); 2], "{classes:?}");
    // Page by page the same.
    let (mut paged, mut after) = (Vec::new(), Bytes::new());
    loop {
        let page = v1::ListRequest { after, limit: 1, ..listing(episode) };
        let reply = gateway.list(&physician(), page).await.unwrap();
        paged.extend(reply.records);
        if !reply.more {
            break;
        }
        after = reply.last;
    }
    assert_eq!(paged, whole.records);
    let of_class = v1::ListRequest { classes: vec![Class::Document.number()], ..listing(episode) };
    assert_eq!(gateway.list(&physician(), of_class).await.unwrap().records.len(), 1);

    let (_, allergy) = scene.records.iter().find(|(class, _)| *class == Class::Allergy).unwrap();
    let (header, _) = gateway.read(&physician(), getting(allergy, episode)).await.unwrap();
    assert!(header.data[..] == body(2_000)[..]);
    let history = v1::HistoryRequest {
        participant: NUMBER.into(),
        record_id: allergy.clone(),
        episode_id: episode.clone(),
        ..Default::default()
    };
    assert_eq!(gateway.history(&physician(), history).await.unwrap().versions.len(), 1);

    let several = v1::GetSeveralRequest {
        participant: NUMBER.into(),
        record_ids: scene.records.iter().map(|(_, id)| id.clone()).chain([Bytes::from_static(&[7; 16])]).collect(),
        episode_id: episode.clone(),
        ..Default::default()
    };
    let without = v1::GetSeveralRequest { episode_id: Bytes::new(), ..several.clone() };
    assert_eq!(denied(gateway.read_several(&physician(), without).await), Denial::NotGranted);
    let mut reading = gateway.read_several(&physician(), several).await.unwrap();
    let (mut shown, mut refused) = (0, 0);
    while let Some(step) = reading.next().await.unwrap() {
        match step {
            Step::Header(_) => shown += 1,
            Step::Data(_) => {}
            Step::Refused(_) => refused += 1,
            Step::Damaged(damaged) => panic!("{damaged:?}"),
        }
    }
    assert_eq!((shown, refused), (scene.records.len(), 1));

    let entries = scene.storehouse.journalled().await;
    let under: Vec<&v1::Access> = entries.iter().filter(|entry| entry.episode_id == episode).collect();
    let actions: Vec<Action> = under.iter().map(|entry| Action::from_number(entry.action).unwrap()).collect();
    assert_eq!(actions[..2], [Action::Emergency, Action::List]);
    assert_eq!(actions[actions.len() - 3..], [Action::Get, Action::History, Action::GetSeveral]);
    assert_eq!(under.last().unwrap().record_ids.len(), scene.records.len());
    for entry in &under {
        assert_eq!((&entry.basis[..], &entry.reason[..], entry.purpose), ("emergency", REASON, 1));
        assert_eq!(entry.participant, NUMBER);
    }
    assert_eq!(under[0].act_id.len(), 16, "the opening names its review");
    // The participant's own list marks them as well.
    let ask = v1::AccessesRequest { participant: NUMBER.into(), limit: 1_000, ..Default::default() };
    let own = gateway.accesses(&participant(), ask).await.unwrap().accesses;
    assert_eq!(own.iter().filter(|a| (&a.basis[..], &a.reason[..]) == ("emergency", REASON)).count(), under.len());
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_counts_reading_does_not_and_a_repetition_is_the_same_emergency() {
    let scene = Scene::new().await;
    let asked = opening(REASON);
    assert_eq!(scene.counters(), [0, 0, 0]);
    let first = scene.gateway.open_emergency(&physician(), asked.clone()).await.unwrap();
    let again = scene.gateway.open_emergency(&physician(), asked.clone()).await.unwrap();
    assert_eq!((again.episode_id, again.expires_ms), (first.episode_id.clone(), first.expires_ms));
    assert!(again.receipt.unwrap().repeated);
    scene.gateway.list(&physician(), listing(&first.episode_id)).await.unwrap();
    assert_eq!(scene.counters(), [1, 1, 1]);
    let other = v1::OpenEmergencyRequest { reason: "another".into(), ..asked.clone() };
    assert!(matches!(scene.gateway.open_emergency(&physician(), other).await, Err(GatewayError::RequestId { .. })));
    assert_ne!(scene.open().await.episode_id, first.episode_id);
    assert_eq!(scene.counters(), [2, 2, 2]);
    // At once: none is lost, and the cap lets none too many through.
    scene.storehouse.set(|settings| settings.emergency_user_max = 6).await;
    let caller = physician();
    let opened = futures_util::future::join_all((0..8).map(|_| scene.gateway.open_emergency(&caller, opening(REASON))));
    let opened = opened.await;
    assert_eq!(opened.iter().filter(|one| one.is_ok()).count(), 4);
    assert!(opened.into_iter().filter(Result::is_err).all(|one| denied(one) == Denial::EmergencyCap));
    assert_eq!(scene.counters(), [6, 6, 6]);
    // What was opened is told again, though no more can be opened now.
    let again = scene.gateway.open_emergency(&physician(), asked).await.unwrap();
    assert_eq!(again.episode_id, first.episode_id);
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_credential_is_one_person_under_whatever_user_ids() {
    let scene = Scene::new().await;
    scene.storehouse.set(|settings| settings.emergency_user_max = 3).await;
    for id in ["doctor-2", "doctor-3"] {
        let same = |row: &mut User| {
            *row = User {
                facility: HOSPITAL.into(),
                id: id.into(),
                profession: Profession::Physician.number(),
                status: 1,
                credential_sha256: Bytes::copy_from_slice(&CREDENTIAL),
                ..User::default()
            }
        };
        scene.storehouse.edit_hashed((Table::User, Domain::User), &[HOSPITAL, id], same).await;
    }
    for id in [DOCTOR, "doctor-2", "doctor-3"] {
        scene.gateway.open_emergency(&with_credential(id, CREDENTIAL), opening(REASON)).await.unwrap();
    }
    for id in [DOCTOR, "doctor-2", "doctor-3"] {
        let refused = scene.gateway.open_emergency(&with_credential(id, CREDENTIAL), opening(REASON)).await;
        assert_eq!(denied(refused), Denial::EmergencyCap, "{id}");
    }
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_ends_with_the_consent_under_which_it_was_opened() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    let episode = scene.open().await.episode_id;
    gateway.list(&physician(), listing(&episode)).await.unwrap();
    let withdraw = v1::WithdrawRequest { request: request(), participant: NUMBER.into(), ..Default::default() };
    gateway.withdraw(&participant(), withdraw).await.unwrap();
    next_millisecond();
    let signed_day = kura_cluster::consent::japan_day(now_ms());
    let consent = v1::SignedConsent { signed_day, evidence: "paper 2".into(), ..Default::default() };
    let enrol =
        v1::EnrolRequest { request: request(), participant: NUMBER.into(), consent: Some(consent), actor: None };
    gateway.enrol(&physician(), enrol).await.unwrap();
    let record = &scene.records[0].1;
    // Whatever the clock showed of the gateway that opened it.
    scene.edit_episode(&episode, |row| row.opened_ms = now_ms() + 5_000).await;
    assert_eq!(denied(gateway.list(&physician(), listing(&episode)).await), Denial::Withdrawn);
    assert_eq!(denied(gateway.read(&physician(), getting(record, &episode)).await), Denial::Withdrawn);
    // One that is opened now is of use, also if the consent was entered by a clock that is ahead.
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&crate::gateway::participant::number(NUMBER).unwrap()).unwrap().unwrap();
    let mut row = (*known.row).clone();
    row.consent.as_mut().unwrap().entered_ms = now_ms() + 5_000;
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
    scene.storehouse.commit(attempt).await;
    let anew = scene.open().await.episode_id;
    gateway.list(&physician(), listing(&anew)).await.unwrap();
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_for_a_physician_with_the_registered_credential_a_reason_and_whoever_takes_part() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    assert_eq!(denied(gateway.open_emergency(&doctor(), opening(REASON)).await), Denial::Credential);
    assert_eq!(denied(gateway.open_emergency(&physician(), opening(" \u{3000}")).await), Denial::NoReason);
    assert_eq!(denied(gateway.open_emergency(&participant(), opening(REASON)).await), Denial::ActorMayNot);
    let stranger = v1::OpenEmergencyRequest { participant: OTHER.into(), ..opening(REASON) };
    assert_eq!(denied(gateway.open_emergency(&physician(), stranger).await), Denial::NotEnrolled);
    for (request, field) in [
        (v1::OpenEmergencyRequest { reason: "x".repeat(513), ..opening("") }, "reason"),
        (v1::OpenEmergencyRequest { reason: "a\nb".into(), ..opening("") }, "reason"),
        (v1::OpenEmergencyRequest { participant: "1".into(), ..opening(REASON) }, "participant"),
        (v1::OpenEmergencyRequest { request: None, ..opening(REASON) }, "request"),
    ] {
        let error = gateway.open_emergency(&physician(), request).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { field: found, .. } if found == field), "{field}: {error}");
    }
    for request in [
        v1::ListRequest { episode_id: Bytes::from_static(&[1; 15]), ..listing(&Bytes::new()) },
        v1::ListRequest { after: Bytes::from_static(&[1; 16]), ..listing(&Bytes::from_static(&[1; 16])) },
    ] {
        let error = gateway.list(&physician(), request).await.unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { field: "episode_id" | "after", .. }), "{error}");
    }
    // A refused opening is journalled with its reason, and queues nothing.
    let refused: Vec<_> = scene.storehouse.journalled().await;
    let refused: Vec<_> = refused.iter().filter(|entry| entry.action == Action::Emergency.number()).collect();
    let denials: Vec<&str> = refused.iter().map(|entry| &entry.denial[..]).collect();
    assert_eq!(denials, ["credential", "no-reason", "actor-may-not", "not-enrolled"]);
    assert!(refused.iter().all(|entry| entry.basis.is_empty()) && refused[0].reason == REASON);
    let reviews = gateway.list_reviews(&auditor(), v1::ListReviewsRequest::default()).await.unwrap().reviews;
    assert!(reviews.iter().all(|review| review.kind != 2), "{reviews:?}");
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_of_use_until_it_expires_to_the_user_and_for_the_participant_of_it_alone() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    let episode = scene.open().await.episode_id;
    let colleague = |row: &mut User| {
        *row = User {
            facility: HOSPITAL.into(),
            id: "doctor-2".into(),
            profession: Profession::Physician.number(),
            status: 1,
            credential_sha256: Bytes::copy_from_slice(&[0xbb; 32]),
            ..User::default()
        }
    };
    scene.storehouse.edit_hashed((Table::User, Domain::User), &[HOSPITAL, "doctor-2"], colleague).await;
    let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 2".into(), ..Default::default() };
    let enrol = v1::EnrolRequest { request: request(), participant: OTHER.into(), consent: Some(consent), actor: None };
    gateway.enrol(&physician(), enrol).await.unwrap();

    let colleague = with_credential("doctor-2", [0xbb; 32]);
    assert_eq!(denied(gateway.list(&colleague, listing(&episode)).await), Denial::EmergencyUnknown);
    let nothing = Bytes::from_static(&[7; 16]);
    assert_eq!(denied(gateway.list(&physician(), listing(&nothing)).await), Denial::EmergencyUnknown);
    // Nor does it tell who else is enrolled.
    for number in [OTHER, "0043001234567000"] {
        let list = v1::ListRequest { participant: number.into(), ..listing(&episode) };
        assert_eq!(denied(gateway.list(&physician(), list).await), Denial::EmergencyUnknown, "{number}");
    }
    assert_eq!(denied(gateway.list(&participant(), listing(&episode)).await), Denial::ActorMayNot);
    let record = &scene.records[0].1;
    let (_, mut reading) = gateway.read(&physician(), getting(record, &episode)).await.unwrap();
    reading.check_again(Instant::now() + PATIENCE).await.unwrap();

    scene.edit_episode(&episode, |row| row.expires_ms = now_ms()).await;
    assert_eq!(denied(gateway.list(&physician(), listing(&episode)).await), Denial::EmergencyExpired);
    assert_eq!(denied(gateway.read(&physician(), getting(record, &episode)).await), Denial::EmergencyExpired);
    // A download that has begun is decided under the episode again, and its end is journalled.
    assert_eq!(denied(reading.check_again(Instant::now() + PATIENCE).await), Denial::EmergencyExpired);
    let entries = scene.storehouse.journalled().await;
    let last = entries.last().unwrap();
    assert_eq!((&last.denial[..], &last.episode_id), ("emergency-expired", &episode));
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_records_stay_hidden_and_whoever_left_is_not_shown() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    let episode = scene.open().await.episode_id;
    // The record becomes another facility's, hidden by it.
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&crate::gateway::participant::number(NUMBER).unwrap()).unwrap().unwrap();
    let id = kura_cluster::id::RecordId::from_slice(&scene.records[2].1).unwrap();
    let key = RowKey::record_control(&known.pseudonym, &id);
    let loaded = attempt.load_of::<kura_cluster::row::RecordControl>(&key, &known.pseudonym).unwrap();
    let mut control = (*loaded.value.unwrap()).clone();
    (control.author_facility, control.hidden) = ("elsewhere".into(), true);
    let data = attempt.data_key(&known.pseudonym, known.row.key_version).unwrap();
    attempt.put_with(&key, &data, loaded.revision, &control);
    scene.storehouse.commit(attempt).await;
    let listed = gateway.list(&physician(), listing(&episode)).await.unwrap().records;
    assert_eq!(listed.len(), scene.records.len() - 1);
    assert_eq!(denied(gateway.read(&physician(), getting(&scene.records[2].1, &episode)).await), Denial::Hidden);

    let withdraw = v1::WithdrawRequest { request: request(), participant: NUMBER.into(), ..Default::default() };
    gateway.withdraw(&participant(), withdraw).await.unwrap();
    assert_eq!(denied(gateway.list(&physician(), listing(&episode)).await), Denial::Withdrawn);
    assert_eq!(denied(gateway.open_emergency(&physician(), opening(REASON)).await), Denial::Withdrawn);
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_disaster_lets_others_in_until_it_ends() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    let nurse = |row: &mut User| {
        *row = User {
            facility: HOSPITAL.into(),
            id: "nurse-1".into(),
            profession: Profession::Nurse.number(),
            status: 1,
            ..User::default()
        }
    };
    scene.storehouse.edit_hashed((Table::User, Domain::User), &[HOSPITAL, "nurse-1"], nurse).await;
    let nurse = with_credential("nurse-1", [0xcc; 32]);
    assert_eq!(denied(gateway.open_emergency(&nurse, opening(REASON)).await), Denial::EmergencyProfession);
    let until_ms = now_ms() + 3_600_000;
    let disaster = DisasterRow {
        name: "earthquake".into(),
        from_ms: 1,
        until_ms,
        professions: vec![Profession::Nurse.number()],
        ..DisasterRow::default()
    };
    scene.disaster(disaster.clone()).await;
    let episode = gateway.open_emergency(&nurse, opening(REASON)).await.unwrap().episode_id;
    assert_eq!(gateway.list(&nurse, listing(&episode)).await.unwrap().records.len(), scene.records.len());
    // It ends, and what was opened under it with it.
    scene.disaster(DisasterRow { ended_by: Some(Default::default()), ..disaster }).await;
    assert_eq!(denied(gateway.list(&nurse, listing(&episode)).await), Denial::EmergencyProfession);
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_read_under_an_episode_expects_its_row() {
    let scene = Scene::new().await;
    let episode = EpisodeId::from_slice(&scene.open().await.episode_id).unwrap();
    let nothing = EpisodeId(ContentId([7; 16]).0);
    for (id, is_there) in [(episode, true), (nothing, false)] {
        let mut attempt = Attempt::begin(&scene.gateway, &JournalEntry::default()).unwrap();
        let loaded = Episode::load(&mut attempt, &id).unwrap();
        assert_eq!(loaded.facts().episode.is_some(), is_there);
        let expects = attempt.command.expects.iter().find(|e| e.row == RowKey::episode(&id).as_bytes()).unwrap();
        assert_eq!(expects.index != 0, is_there);
        assert!(loaded.holds(&attempt.database.snapshot()).unwrap());
        drop(attempt);
        scene.edit_episode(&Bytes::copy_from_slice(&id.0), |row| row.expires_ms += 1).await;
        let database = scene.gateway.store.database();
        assert!(!loaded.holds(&database.snapshot()).unwrap(), "it has changed");
    }
    scene.storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auditors_review_each_once_and_the_participant_sees_the_verdict_without_the_note() {
    let scene = Scene::new().await;
    let gateway = &scene.gateway;
    let first = scene.open().await;
    next_millisecond();
    let opened = [first, scene.open().await];
    let open = |after| v1::ListReviewsRequest { after, limit: 1, ..Default::default() };
    // The grant with which the scene was set comes first, in pages of one.
    let (mut queue, mut after) = (Vec::new(), Bytes::new());
    loop {
        let reply = gateway.list_reviews(&auditor(), open(after)).await.unwrap();
        queue.extend(reply.reviews);
        if !reply.more {
            break;
        }
        after = reply.last;
    }
    let told: Vec<_> = queue.iter().map(|r| (r.kind, &r.reason[..], &r.facility[..], &r.episode_id[..])).collect();
    let [first, second] = [&opened[0].episode_id[..], &opened[1].episode_id[..]];
    assert_eq!(told, [(1, "paper 1", HOSPITAL, &[][..]), (2, REASON, "", first), (2, REASON, "", second)]);
    assert!(queue.iter().all(|r| r.participant == NUMBER && r.actor.as_ref().unwrap().name == DOCTOR));

    let id = queue[1].review_id.clone();
    let verdict = |verdict, note: &str| v1::ReviewRequest {
        request: request(),
        review_id: id.clone(),
        verdict,
        note: note.into(),
    };
    for (request, field) in [
        (verdict(0, ""), "verdict"),
        (verdict(3, ""), "verdict"),
        (verdict(1, &"x".repeat(513)), "note"),
        (v1::ReviewRequest { review_id: Bytes::from_static(&[1; 15]), ..verdict(1, "") }, "review_id"),
    ] {
        let error = gateway.review(&auditor(), request).await.unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { field: found, .. } if found == field), "{field}: {error}");
    }
    let closing = verdict(2, "no ambulance came");
    gateway.review(&auditor(), closing.clone()).await.unwrap();
    assert!(gateway.review(&auditor(), closing).await.unwrap().repeated);
    assert_eq!(denied(gateway.review(&auditor(), verdict(1, "")).await), Denial::ReviewState);
    let unknown = v1::ReviewRequest { review_id: Bytes::copy_from_slice(&ReviewId([9; 16]).0), ..verdict(1, "") };
    assert_eq!(denied(gateway.review(&auditor(), unknown).await), Denial::ReviewState);
    let left = gateway.list_reviews(&auditor(), v1::ListReviewsRequest::default()).await.unwrap().reviews;
    assert_eq!(left, [queue[0].clone(), queue[2].clone()]);
    let closed = v1::ListReviewsRequest { closed: true, ..Default::default() };
    let closed = gateway.list_reviews(&auditor(), closed).await.unwrap().reviews;
    let [done] = &closed[..] else { panic!("{closed:?}") };
    assert_eq!((&done.reviewer[..], done.verdict, &done.note[..]), ("goto", 2, "no ambulance came"));
    assert!(done.state == 2 && done.reviewed_ms > 0 && done.episode_id == opened[0].episode_id);
    let find = |review_id: &Bytes| v1::ListReviewsRequest { review_id: review_id.clone(), ..Default::default() };
    for (id, state) in [(&id, 2), (&queue[0].review_id, 1)] {
        let found = gateway.list_reviews(&auditor(), find(id)).await.unwrap().reviews;
        assert_eq!(found.iter().map(|r| (r.review_id.clone(), r.state)).collect::<Vec<_>>(), [(id.clone(), state)]);
    }
    let missing = gateway.list_reviews(&auditor(), find(&Bytes::from_static(&[9; 16]))).await;
    assert!(matches!(missing, Err(GatewayError::NotFound { .. })));

    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    assert_eq!(denied(gateway.review(&registrar, verdict(1, "")).await), Denial::ActorMayNot);
    let all = v1::ListReviewsRequest::default;
    assert_eq!(denied(gateway.list_reviews(&physician(), all()).await), Denial::ActorMayNot);
    // The journal has the verdict and the note; the participant is told the verdict.
    let reviewed = |entries: &[v1::Access]| {
        let of = |entry: &&v1::Access| entry.action == Action::Review.number() && entry.denial.is_empty();
        let told = |e: &v1::Access| (e.object.clone(), e.reason.clone(), e.basis.clone());
        entries.iter().filter(of).map(told).collect::<Vec<_>>()
    };
    let entries = scene.storehouse.journalled().await;
    assert_eq!(reviewed(&entries), [("unjustified".into(), "no ambulance came".into(), "auditor".into())]);
    let ask = v1::AccessesRequest { participant: NUMBER.into(), limit: 1_000, ..Default::default() };
    let own = gateway.accesses(&participant(), ask).await.unwrap().accesses;
    assert_eq!(reviewed(&own), [("unjustified".into(), String::new(), "auditor".into())]);
    let looked = own.iter().filter(|a| a.action == Action::ListReviews.number()).count();
    assert_eq!(looked, 2, "that one review was looked at is about the participant, the queue is not");
    scene.storehouse.close().await;
}
