//! The journal's proofs and lists on real rows.

use kura_cluster::tree::{Peaks, leaf_hash};

use super::*;
use crate::certificates::{RefusedCertificate, Why};
use crate::gateway::journal::{SCAN_ENTRIES_MAX, UNIFORM_WORD};

const STRANGER: &str = "0043001234567891";

fn list() -> v1::ListRequest {
    v1::ListRequest { participant: NUMBER.into(), ..Default::default() }
}

/// Everything that a filter lets through, page by page.
async fn all(gateway: &Gateway, request: v1::JournalRequest) -> Vec<v1::Access> {
    let mut page = request.page.unwrap_or_default();
    let mut found = Vec::new();
    loop {
        let reply =
            gateway.list_journal(&auditor(), v1::JournalRequest { page: Some(page), ..request.clone() }).await.unwrap();
        found.extend(reply.accesses);
        if !reply.more {
            return found;
        }
        page.cursor = reply.cursor;
        page.before = if page.before == 0 { reply.journal_position } else { page.before };
    }
}

fn in_order(limit: u32) -> v1::JournalRequest {
    let page = v1::JournalPage { limit, oldest_first: true, ..Default::default() };
    v1::JournalRequest { page: Some(page), ..Default::default() }
}

fn actions(entries: &[v1::Access]) -> Vec<Action> {
    entries.iter().map(|entry| Action::from_number(entry.action).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_entries_make_the_root_and_proofs_are_told_of_every_size() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    for _ in 0..300 {
        gateway.list(&doctor(), list()).await.unwrap();
    }
    let head = gateway.journal_head(&[0; 16], vec![]).head.unwrap();
    assert!(head.size > 300, "{}", head.size);
    let mut peaks = Peaks::default();
    let mut roots = vec![peaks.root()];
    let mut entries = Vec::new();
    while peaks.size() < head.size {
        let reply = gateway.sealed(&v1::SealedRequest { from: peaks.size(), to: head.size }).unwrap();
        for entry in reply.entries {
            peaks.append(leaf_hash(&entry), |_| {});
            roots.push(peaks.root());
            entries.push(entry);
        }
    }
    assert_eq!(peaks.root()[..], head.root);
    // Proofs read the stored nodes; where they fit the roots that were computed from entries, these are right.
    for size in [1, 2, 7, 255, 256, 257, head.size] {
        for position in [0, size / 2, size - 1] {
            let reply = gateway.inclusion(&v1::InclusionRequest { position, size }).unwrap();
            assert_eq!(reply.entry, entries[position as usize]);
            assert_eq!(climb(&reply, position, size), roots[size as usize], "{position} in {size}");
        }
        let reply = gateway.consistency(&v1::ConsistencyRequest { from: size, to: head.size }).unwrap();
        let peaks: Vec<[u8; 32]> = reply.peaks.iter().map(|peak| peak[..].try_into().unwrap()).collect();
        assert_eq!(Peaks::from_parts(size, peaks).unwrap().root(), roots[size as usize]);
    }
    // What this member has not reached yet another one may have; what makes no sense nobody has.
    let beyond = gateway.consistency(&v1::ConsistencyRequest { from: 1, to: head.size + 1 });
    assert!(matches!(beyond, Err(GatewayError::Unavailable { .. })));
    for (position, size) in [(0, 0), (5, 5), (6, 5)] {
        let wrong = gateway.inclusion(&v1::InclusionRequest { position, size });
        assert!(matches!(wrong, Err(GatewayError::Invalid { field: "position", .. })));
    }
    let wrong = gateway.sealed(&v1::SealedRequest { from: 2, to: 1 });
    assert!(matches!(wrong, Err(GatewayError::Invalid { field: "from", .. })));
    storehouse.close().await;
}

/// The root that an inclusion proof makes, by RFC 9162 §2.1.3.2.
fn climb(reply: &v1::InclusionReply, position: u64, size: u64) -> [u8; 32] {
    let (mut place, mut last) = (position, size - 1);
    let mut hash = leaf_hash(&reply.entry);
    for sibling in &reply.proof {
        let sibling: [u8; 32] = sibling[..].try_into().unwrap();
        if place % 2 == 1 || place == last {
            hash = kura_cluster::tree::node_hash(&sibling, &hash);
            while place % 2 == 0 && place != 0 {
                (place, last) = (place / 2, last / 2);
            }
        } else {
            hash = kura_cluster::tree::node_hash(&hash, &sibling);
        }
        (place, last) = (place / 2, last / 2);
    }
    assert_eq!(last, 0, "a proof of the right length");
    hash
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_lists_all_in_pages_that_end_though_each_adds_an_entry() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    for _ in 0..20 {
        gateway.list(&doctor(), list()).await.unwrap();
    }
    let size = gateway.journal_head(&[0; 16], vec![]).head.unwrap().size;
    let whole = all(&gateway, in_order(1_000)).await;
    let positions: Vec<u64> = whole.iter().map(|entry| entry.journal_position).collect();
    assert_eq!(positions, (0..size).collect::<Vec<_>>());
    assert_eq!(actions(&whole)[..4], [Action::Init, Action::Facility, Action::User, Action::Propose]);
    // One entry a page: a list that does not know where it began would never end.
    let single = all(&gateway, in_order(1)).await;
    assert_eq!(single.len() as u64, size + 1, "with the entry of the list before");
    let mut back = all(
        &gateway,
        v1::JournalRequest { page: Some(v1::JournalPage { limit: 7, ..Default::default() }), ..Default::default() },
    )
    .await;
    back.reverse();
    assert_eq!(back[..single.len()], single[..]);
    assert!(
        whole.iter().filter(|entry| entry.action == Action::List.number()).all(|entry| entry.participant == NUMBER)
    );
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_narrows_and_none_looks_at_more_than_its_bound() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    gateway.list(&doctor(), list()).await.unwrap();
    let stranger = v1::ListRequest { participant: STRANGER.into(), ..Default::default() };
    gateway.list(&doctor(), stranger).await.unwrap_err();
    let only = async |narrow: fn(&mut v1::JournalRequest)| {
        let mut request = in_order(0);
        narrow(&mut request);
        let found = all(&gateway, request).await;
        found.into_iter().filter(|entry| entry.action != Action::ListJournal.number()).collect::<Vec<_>>()
    };
    let denied = only(|request| request.denied_only = true).await;
    assert_eq!(denied.iter().map(|entry| entry.denial.as_str()).collect::<Vec<_>>(), ["not-enrolled"]);
    let by_action = only(|request| request.actions = vec![Action::Grant.number(), Action::Enrol.number()]).await;
    assert_eq!(actions(&by_action), [Action::Enrol, Action::Grant]);
    let by_actor = only(|request| request.actor = "ito".into()).await;
    assert_eq!(actions(&by_actor), [Action::Facility, Action::User, Action::Propose]);
    let by_application = only(|request| request.application = "karte".into()).await;
    assert_eq!(actions(&by_application), [Action::Enrol, Action::Grant, Action::List, Action::List]);
    let by_facility = only(|request| request.facility = HOSPITAL.into()).await;
    let expected = [Action::Facility, Action::User, Action::Enrol, Action::Grant, Action::List, Action::List];
    assert_eq!(actions(&by_facility), expected);
    let by_participant = only(|request| request.participant = NUMBER.into()).await;
    assert_eq!(actions(&by_participant), [Action::Enrol, Action::Grant, Action::List]);
    let both = only(|request| {
        request.participant = NUMBER.into();
        request.facility = "elsewhere".into();
    });
    assert_eq!(both.await, []);
    assert_eq!(only(|request| request.participant = STRANGER.into()).await, []);
    assert_eq!(only(|request| request.until_ms = 1).await, []);
    assert_eq!(only(|request| request.since_ms = u64::MAX).await, []);
    let (from, to) = (by_participant[0].at_ms, by_participant[2].at_ms);
    let between = v1::JournalRequest { since_ms: from, until_ms: to, ..in_order(0) };
    let between = all(&gateway, between).await;
    assert!(!between.is_empty() && between.iter().all(|entry| (from..to).contains(&entry.at_ms)));
    // That an auditor looked at a participant is seen by the participant.
    let own = only(|request| request.participant = NUMBER.into()).await;
    assert_eq!(own, by_participant);
    let seen = all(&gateway, v1::JournalRequest { participant: NUMBER.into(), ..in_order(0) }).await;
    assert!(seen.iter().any(|entry| entry.action == Action::ListJournal.number()));

    for (request, field) in [
        (v1::JournalRequest { facility: "F".repeat(129), ..Default::default() }, "facility"),
        (v1::JournalRequest { actor: "F".repeat(129), ..Default::default() }, "actor"),
        (v1::JournalRequest { application: "F".repeat(129), ..Default::default() }, "application"),
        (v1::JournalRequest { participant: "12".into(), ..Default::default() }, "participant"),
        (v1::JournalRequest { actions: vec![9_999], ..Default::default() }, "actions"),
        (v1::JournalRequest { actions: vec![1; 65], ..Default::default() }, "actions"),
    ] {
        let error = gateway.list_journal(&auditor(), request).await.unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { field: found, .. } if found == field), "{field}: {error}");
    }
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let refused = gateway.list_journal(&registrar, v1::JournalRequest::default()).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Denied { .. }), "{refused}");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_finds_nothing_says_how_far_it_looked() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    // Entries in bulk, as one command.
    let entry = kura_cluster::row::JournalEntry { action: Action::Sweep.number(), ..Default::default() };
    let mut written = 0;
    while written < 2 * SCAN_ENTRIES_MAX {
        let mut attempt = Attempt::begin(&gateway, &entry).unwrap();
        (0..2_000).for_each(|_| attempt.journal_as_drafted());
        written += 2_000;
        storehouse.commit(attempt).await;
    }
    let request = v1::JournalRequest { actor: "nobody".into(), ..in_order(0) };
    let first = gateway.list_journal(&auditor(), request.clone()).await.unwrap();
    assert_eq!((first.accesses.len(), first.more, first.cursor), (0, true, SCAN_ENTRIES_MAX));
    assert_eq!(all(&gateway, request).await, []);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facility_lists_its_own_users_and_learns_nothing_of_whom_it_was_refused() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    gateway.list(&doctor(), list()).await.unwrap();
    let stranger = v1::ListRequest { participant: STRANGER.into(), ..Default::default() };
    gateway.list(&doctor(), stranger).await.unwrap_err();
    let ask = v1::FacilityAccessesRequest::default;
    let refused = gateway.facility_accesses(&doctor(), ask()).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Denied { .. }), "without the right: {refused}");
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let user = v1::User {
        id: DOCTOR.into(),
        facility: HOSPITAL.into(),
        name: "doctor".into(),
        profession: 1,
        status: 1,
        lists_accesses: true,
        ..Default::default()
    };
    let before = Some(v1::User { lists_accesses: false, ..user.clone() });
    let put = v1::PutUserRequest { request: request(), user: Some(user), before, ..Default::default() };
    gateway.put_user(&registrar, put).await.unwrap();
    let page = v1::JournalPage { oldest_first: true, ..Default::default() };
    let request = v1::FacilityAccessesRequest { page: Some(page), ..ask() };
    let reply = gateway.facility_accesses(&doctor(), request).await.unwrap();
    let expected = [Action::Enrol, Action::Grant, Action::List, Action::List, Action::FacilityAccesses];
    assert_eq!(actions(&reply.accesses), expected, "not what registrars did");
    let [_, _, permitted, denied, _] = &reply.accesses[..] else { panic!("five entries") };
    assert_eq!((permitted.participant.as_str(), permitted.denial.as_str()), (NUMBER, ""));
    assert_eq!((denied.participant.as_str(), denied.denial.as_str()), ("", UNIFORM_WORD));
    assert!(reply.accesses.iter().all(|entry| entry.gateway.is_empty() && entry.request_id.is_empty()));
    let nobody = v1::FacilityAccessesRequest { user: "else".into(), ..ask() };
    assert_eq!(gateway.facility_accesses(&doctor(), nobody).await.unwrap().accesses, []);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_certificates_of_registered_applications_are_journalled_within_a_bucket() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let refused = |role, name: &str, why| RefusedCertificate { role, name: name.into(), fingerprint: [9; 32], why };
    gateway.journal_refused(&refused(Role::Application, "nobody", Why::Expired)).await.unwrap();
    gateway.journal_refused(&refused(Role::Operator, "karte", Why::Expired)).await.unwrap();
    let attempts = 100;
    gateway.journal_refused(&refused(Role::Application, "karte", Why::Revoked)).await.unwrap();
    for _ in 1..attempts {
        gateway.journal_refused(&refused(Role::Application, "karte", Why::UnknownAuthority)).await.unwrap();
    }
    gateway.journal_counted_denials().await.unwrap();
    let request = v1::JournalRequest { actions: vec![Action::Authenticate.number()], ..in_order(0) };
    let found = all(&gateway, request).await;
    assert!(found.len() < 60, "{} entries for {attempts} attempts", found.len());
    assert_eq!(found.iter().map(|entry| entry.count).sum::<u32>(), attempts);
    assert!(found.iter().all(|entry| (entry.application.as_str(), entry.denial.as_str()) == ("karte", "certificate")));
    assert_eq!(
        (found[0].reason.as_str(), found[1].reason.as_str()),
        (Why::Revoked.words(), Why::UnknownAuthority.words())
    );
    assert_eq!(found[0].actor.as_ref().unwrap().credential_sha256[..], [9; 32]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_the_registry_is_journalled() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    assert_eq!(gateway.list_users(&auditor(), HOSPITAL).await.unwrap().len(), 1);
    assert!(matches!(gateway.list_facilities(&doctor()).await, Err(GatewayError::Denied { .. })));
    let request = v1::JournalRequest { actions: vec![Action::ListRegistry.number()], ..in_order(0) };
    let found = all(&gateway, request).await;
    let told: Vec<_> = found.iter().map(|entry| (entry.object.as_str(), entry.denial.as_str())).collect();
    assert_eq!(told, [("user", ""), ("facility", "actor-may-not")]);
    storehouse.close().await;
}
