//! Failover, deadlines, timelines, paging, and what is never printed.

use std::time::{Duration, Instant};

use tonic::Status;

use super::cluster::{Cluster, EPISODE, RECORD, Whim, brisk};
use super::{NUMBER, doctor, image, number};
use crate::config::Timeouts;
use crate::word::Method;
use crate::{
    Class, ConnectError, Consent, Date, EmergencyError, GetError, Listed, Participant, PutError, Reason, RecordId,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_fails_over_and_later_calls_begin_where_it_succeeded() {
    let cluster = Cluster::start(3, brisk()).await;
    cluster.nodes[0].die();
    cluster.whims(1, [Whim::Silent]);
    let put = || doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]);
    put().await.unwrap();
    put().await.unwrap();
    let places: Vec<_> = cluster.store().wholes.iter().map(|(node, _)| *node).collect();
    assert_eq!(places, [1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_stop_at_the_deadline() {
    let cluster = Cluster::start(2, brisk()).await;
    let began = Instant::now();
    cluster.nodes.iter().for_each(|node| node.die());
    let error = doctor(&cluster.client).get(&number(), RecordId::from_bytes(RECORD)).await.unwrap_err();
    assert!(matches!(&error, GetError::Later(later) if later.reason() == Reason::Unavailable), "{error}");
    assert!(error.may_retry());
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(1_400), "{took:?}");

    // A limit of the call's own, with a node that answers "later" for ever.
    let cluster = Cluster::start(1, Timeouts::default()).await;
    cluster.whims(0, vec![Whim::Fails(crate::fault::tests::status("overloaded", 2, 1)); 10_000]);
    let began = Instant::now();
    let put = doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]);
    let error = put.time_limit(Duration::from_millis(300)).await.unwrap_err();
    // On a machine so slow that the last attempt is overtaken by the deadline, doubt remains.
    let overloaded = matches!(&error, PutError::Later(later) if later.reason() == Reason::Overloaded);
    assert!(overloaded || matches!(error, PutError::Unknown { .. }), "{error}");
    assert!(began.elapsed() <= Duration::from_millis(600));
    assert!(cluster.store().wholes.len() > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_leader_is_told_sooner_than_the_deadline() {
    let whole = Duration::from_millis(2_400);
    let leaderless = || vec![Whim::Fails(crate::fault::tests::status("no-leader", 2, 1)); 10_000];
    let cluster = Cluster::start(2, Timeouts::default()).await;
    cluster.whims(0, leaderless());
    cluster.whims(1, leaderless());
    let put = || doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]).time_limit(whole);
    let began = Instant::now();
    let error = put().await.unwrap_err();
    let took = began.elapsed();
    assert!(matches!(&error, PutError::Later(later) if later.reason() == Reason::NoLeader), "{error}");
    assert!((whole / 3..whole * 2 / 3).contains(&took), "{took:?}");

    // A leader that comes about in time is found, and calls begin at its gateway.
    cluster.store().whims.clear();
    cluster.whims(0, leaderless());
    put().await.unwrap();
    let found = cluster.store().wholes.last().unwrap().0;
    put().await.unwrap();
    assert_eq!((found, cluster.store().wholes.last().unwrap().0), (1, 1));
    cluster.store().wholes.clear();
    put().await.unwrap();
    assert_eq!(cluster.store().wholes.len(), 1, "nobody is asked again who said that he cannot");

    // What may have been committed before stays in doubt.
    cluster.store().whims.clear();
    cluster.whims(0, leaderless());
    let doubt = [Whim::Fails(crate::fault::tests::status("unknown-outcome", 2, 3))];
    cluster.whims(1, doubt.into_iter().chain(leaderless()));
    assert!(matches!(put().await.unwrap_err(), PutError::Unknown { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_refuses_for_itself_each_is_asked_once() {
    let cluster = Cluster::start(3, Timeouts::default()).await;
    for place in 0..3 {
        cluster.whims(place, vec![Whim::Fails(crate::fault::tests::status("low-space", 2, 1)); 9]);
    }
    let error = doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]).await.unwrap_err();
    assert!(matches!(&error, PutError::Later(later) if later.reason() == Reason::LowSpace), "{error}");
    assert_eq!(cluster.store().wholes.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_is_told_and_not_that_another_is_dead() {
    // The limit lets the dead node be asked last as often as not.
    for limit_ms in [300, 340, 380, 420] {
        for (kind, reason) in [("unavailable", Reason::Unavailable), ("overloaded", Reason::Overloaded)] {
            let cluster = Cluster::start(2, Timeouts::default()).await;
            cluster.whims(0, vec![Whim::Fails(crate::fault::tests::status(kind, 2, 1)); 10_000]);
            cluster.nodes[1].die();
            let get = doctor(&cluster.client).get(&number(), RecordId::from_bytes(RECORD));
            let error = get.time_limit(Duration::from_millis(limit_ms)).await.unwrap_err();
            let GetError::Later(later) = &error else { panic!("{error}") };
            assert_eq!((later.reason(), later.to_string().as_str()), (reason, "told so"), "{kind}, {limit_ms} ms");
        }
    }
    // What only people can change is told at once.
    let cluster = Cluster::start(2, Timeouts::default()).await;
    cluster.nodes[0].die();
    cluster.whims(1, [Whim::Fails(crate::fault::tests::status("not-opened", 2, 1))]);
    let began = Instant::now();
    let error = doctor(&cluster.client).get(&number(), RecordId::from_bytes(RECORD)).await.unwrap_err();
    assert!(matches!(&error, GetError::Later(later) if later.reason() == Reason::NotOpened), "{error}");
    assert!(began.elapsed() < Timeouts::default().call(), "{:?}", began.elapsed());
    assert_eq!(cluster.store().gets.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_a_timeline_that_was_left_are_refused() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.whims(0, [Whim::Timeline(1), Whim::Timeline(0)]);
    cluster.whims(1, [Whim::Timeline(2)]);
    let put = || doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]);
    assert_eq!(put().await.unwrap().timeline(), 1);
    assert_eq!(put().await.unwrap().timeline(), 2, "node 0 told of timeline 0 and was passed over");
    assert_eq!(cluster.client.timeline(), 2);
    let places: Vec<_> = cluster.store().wholes.iter().map(|(node, _)| *node).collect();
    assert_eq!(places, [0, 0, 1]);
    cluster.client.expect_timeline(7);
    assert!(matches!(put().await.unwrap_err(), PutError::Unknown { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_finds_a_node_that_answers_or_names_every_one_that_does_not() {
    let cluster = Cluster::start(3, brisk()).await;
    cluster.nodes[0].die();
    cluster.nodes[1].die();
    cluster.client.reach().await.unwrap();
    assert_eq!(cluster.client.shared.pool.current(), 2);
    cluster.nodes[2].die();
    let error = cluster.client.reach().await.unwrap_err();
    assert!(error.may_retry());
    let ConnectError::NoNode { nodes } = error else { panic!("{error}") };
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["node-2", "node-0", "node-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_page_by_page() {
    let cluster = Cluster::start(1, brisk()).await;
    let since = Date::from_days(100);
    let list = doctor(&cluster.client).list(&number()).class(Class::Image).since(since).page(2);
    let records = list.stream().take(100).await.unwrap();
    let versions: Vec<u32> = records.into_iter().map(|listed| listed.opened().unwrap().version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    let lists = std::mem::take(&mut cluster.store().lists);
    let afters: Vec<_> = lists.iter().map(|list| list.after.first().copied()).collect();
    assert_eq!(afters, [None, Some(2), Some(4)]);
    assert_eq!((lists[0].classes.as_slice(), lists[0].since_day, lists[0].until_day), (&[6][..], 100, i32::MAX));

    // Only what is read is asked for.
    let mut some = doctor(&cluster.client).list(&number()).page(2).stream();
    some.next().await.unwrap().unwrap();
    assert_eq!(cluster.store().lists.len(), 1);
    let error = doctor(&cluster.client).list(&number()).page(0).stream().next().await.unwrap().unwrap_err();
    assert_eq!(error.field(), Some("limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_open_is_told_in_its_place() {
    let cluster = Cluster::start(1, brisk()).await;
    cluster.store().damages = Some(3);
    let records = doctor(&cluster.client).list(&number()).page(2).stream().take(100).await.unwrap();
    let told: Vec<_> = records.iter().map(|listed| (listed.record(), matches!(listed, Listed::Record(_)))).collect();
    let id = |n: u8| RecordId::from_bytes([n; 16]);
    assert_eq!(told, [(id(1), true), (id(2), true), (id(3), false), (id(4), true), (id(5), true)]);
    let json = serde_json::to_value(&records[2]).unwrap();
    assert_eq!((json["damaged"].as_bool(), json["record"].as_str()), (Some(true), Some(&*id(3).to_string())));
    assert!(serde_json::to_value(&records[1]).unwrap()["damaged"].is_null());
    assert_eq!(records[2].clone().opened().unwrap_err().version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_at_one_node_is_asked_of_each_once() {
    let cluster = Cluster::start(3, brisk()).await;
    cluster.store().record = vec![b"sound".to_vec()];
    let damaged = || Whim::Fails(crate::fault::tests::status("damaged", 1, 1));
    cluster.whims(0, [damaged()]);
    let get = || doctor(&cluster.client).get(&number(), RecordId::from_bytes(RECORD));
    assert_eq!(get().await.unwrap().bytes().await.unwrap(), "sound", "another node's copy is");
    (0..3).for_each(|place| cluster.whims(place, [damaged()]));
    let error = get().await.unwrap_err();
    assert!(matches!(error, GetError::Damaged(_)) && !error.may_retry(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_opened_once_and_named_by_all_that_is_read_under_it() {
    let cluster = Cluster::start(2, brisk()).await;
    cluster.store().record = vec![b"penicillin".to_vec()];
    cluster.whims(0, [Whim::Fails(Status::unavailable("gone"))]);
    let doctor = doctor(&cluster.client);
    let (emergency, records) = doctor.open_emergency(&number(), "unconscious").and_list().await.unwrap();
    assert_eq!((emergency.id().as_bytes(), emergency.expires_ms()), (&EPISODE, Some(3_600_000)));
    assert_eq!(records.len(), 5);
    let opened = std::mem::take(&mut cluster.store().emergencies);
    assert_eq!(opened.len(), 2, "one node failed");
    assert_eq!(opened[0], opened[1], "the same request was repeated");
    assert_eq!(emergency.receipt().unwrap().request().as_bytes()[..], opened[0].request.as_ref().unwrap().id);
    let body = emergency.get(RecordId::from_bytes(RECORD)).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, "penicillin");
    // Gone on with later, by its id alone.
    let later = doctor.emergency(&number(), emergency.id());
    later.list().stream().take(1).await.unwrap();
    assert_eq!((later.expires_ms(), later.receipt()), (None, None));
    let store = cluster.store();
    assert!(store.lists.iter().all(|list| list.episode_id[..] == EPISODE) && store.lists.len() == 2);
    assert!(store.gets.iter().all(|(_, get)| get.episode_id[..] == EPISODE) && store.gets.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_without_a_reason_is_not_asked_for_and_a_refused_one_says_why() {
    let cluster = Cluster::start(1, brisk()).await;
    let doctor = doctor(&cluster.client);
    for reason in ["", " \u{3000}\n"] {
        let error = doctor.open_emergency(&number(), reason).await.unwrap_err();
        assert_eq!(error.field(), Some("reason"), "{error}");
    }
    assert!(cluster.store().emergencies.is_empty());
    cluster.whims(0, [Whim::Fails(crate::fault::tests::denied("emergency-cap"))]);
    let error = doctor.open_emergency(&number(), "unconscious").await.unwrap_err();
    let EmergencyError::Denied(denial) = &error else { panic!("{error}") };
    assert_eq!(denial.reason(), Some("emergency-cap"));
    assert!(!error.may_retry());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_names_anyone_is_printed() {
    let cluster = Cluster::start(1, brisk()).await;
    cluster.store().record = vec![b"body words".to_vec()];
    let person = cluster.client.act(Participant::numbered(number()).authenticated(Method::TwoFactor, 1));
    let doctor = doctor(&cluster.client);
    let record = doctor.get(&number(), RecordId::from_bytes(RECORD)).await.unwrap();
    let receipt = doctor.put(&number(), image()).bytes(&b"x"[..]).await.unwrap();
    let new = image().document_id("doc-77").addressees(["F0300"]);
    let consent = Consent::signed_on(Date::from_days(1)).by_proxy("Hanako", "mother").evidence("paper 9");
    cluster.whims(0, vec![Whim::Fails(Status::invalid_argument("a field")); 3]);
    let error = doctor.put(&number(), new.clone()).bytes(&b"body words"[..]).await.unwrap_err();
    let printed = format!(
        "{:?} {:?} {person:?} {doctor:?} {record:?} {receipt:?} {new:?} {consent:?} {error:?} {error} {:?}",
        number(),
        cluster.client,
        crate::registry::Facility::new("F0012", "Central Hospital", crate::FacilityKind::Hospital),
    );
    for planted in
        [NUMBER, "F0012", "F0300", "u-0007", "doc-77", "Hanako", "mother", "paper 9", "words", "Central", "aaaaaa"]
    {
        assert!(!printed.contains(planted), "{planted} in {printed}");
    }
}
