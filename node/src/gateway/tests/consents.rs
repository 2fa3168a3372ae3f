//! Consents on real rows: who entered what, own grants, taking part again, and what a participant's list names.

use kura_cluster::consent::Denial;
use kura_cluster::row::{Application, CounterRow, User};

use super::*;

const CLINIC: &str = "clinic-02";
const SECOND: &str = "0043001234567892";

fn consent(signed_day: i32) -> v1::SignedConsent {
    v1::SignedConsent { signed_day, evidence: "paper 7".into(), ..Default::default() }
}

fn enrol(number: &str, consent: v1::SignedConsent) -> v1::EnrolRequest {
    v1::EnrolRequest { actor: None, request: request(), participant: number.into(), consent: Some(consent) }
}

fn grant(facility: &str) -> v1::GrantRequest {
    v1::GrantRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        facility: facility.into(),
        evidence: "paper 8".into(),
    }
}

fn revoke() -> v1::RevokeRequest {
    v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: "paper 9".into(),
        ..Default::default()
    }
}

fn show(as_of_ms: u64) -> v1::ShowRequest {
    v1::ShowRequest { participant: NUMBER.into(), as_of_ms, ..Default::default() }
}

/// A storehouse whose application may state participants, with a clinic.
async fn storehouse() -> Storehouse {
    let storehouse = Storehouse::new().await;
    let application = |row: &mut Application| row.participants = true;
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    let clinic = |row: &mut kura_cluster::row::Facility| {
        *row =
            kura_cluster::row::Facility { id: CLINIC.into(), kind: 2, status: 1, access_line: 1, ..Default::default() }
    };
    storehouse.edit_hashed((Table::Facility, Domain::Facility), &[CLINIC], clinic).await;
    storehouse
}

fn denied<T>(answer: Result<T, GatewayError>) -> Denial {
    match answer {
        Err(GatewayError::Denied { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("permitted"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_by_its_own_beneficiary_is_counted_capped_marked_and_queued() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    let count = || {
        let attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let key = RowKey::counter(&attempt.hash(Domain::OwnGrants, &[HOSPITAL]));
        attempt
            .look::<CounterRow>(&key)
            .unwrap()
            .value
            .map_or(0, |row| row.slices.iter().map(|slice| slice.count).sum())
    };
    let queued = async || gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
    // The storehouse was set up with one.
    assert_eq!((count(), queued().await.len()), (1, 1));
    // What is granted already is no further grant, and one for another facility is not counted.
    gateway.grant(&doctor(), grant(HOSPITAL)).await.unwrap();
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    assert_eq!((count(), queued().await.len()), (1, 1));
    gateway.revoke(&doctor(), revoke()).await.unwrap();
    storehouse.set(|settings| settings.own_grants_max = 2).await;
    gateway.grant(&doctor(), grant(HOSPITAL)).await.unwrap();
    gateway.revoke(&doctor(), revoke()).await.unwrap();
    assert_eq!(denied(gateway.grant(&doctor(), grant(HOSPITAL)).await), Denial::OwnGrants);
    assert_eq!((count(), queued().await.len()), (2, 2));
    // The participant is not held up by it, and no review comes of it.
    gateway.grant(&participant(), grant(HOSPITAL)).await.unwrap();
    assert_eq!((count(), queued().await.len()), (2, 2));

    let shown = gateway.show_consent(&participant(), show(0)).await.unwrap();
    let marks: Vec<_> = shown.grants.iter().map(|g| (&g.facility[..], g.by_beneficiary, &g.entered_by[..])).collect();
    assert_eq!(
        marks,
        [(HOSPITAL, true, HOSPITAL), (CLINIC, false, HOSPITAL), (HOSPITAL, true, HOSPITAL), (HOSPITAL, false, "")]
    );
    assert_eq!((&shown.grants[0].revoked_by[..], &shown.grants[0].revocation_evidence[..]), (HOSPITAL, "paper 9"));
    let review = &queued().await[1];
    assert_eq!((&review.facility[..], &review.reason[..], review.kind), (HOSPITAL, "paper 8", 1));
    let granted = storehouse.journalled().await;
    let named = granted.iter().filter(|entry| entry.act_id == review.review_id).collect::<Vec<_>>();
    assert!(named.len() == 1 && named[0].action == Action::Grant.number(), "{named:?}");
    storehouse.close().await;
}

/// A storehouse in which the clinic has a nurse, whom the application may state.
async fn two_facilities() -> (Storehouse, Caller) {
    let storehouse = storehouse().await;
    let application = |row: &mut Application| row.facilities.push(CLINIC.into());
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    let nurse = |row: &mut User| {
        *row = User { facility: CLINIC.into(), id: "nurse-1".into(), profession: 4, status: 1, ..User::default() }
    };
    storehouse.edit_hashed((Table::User, Domain::User), &[CLINIC, "nurse-1"], nurse).await;
    let actor = v1::Actor { kind: 1, facility: CLINIC.into(), name: "nurse-1".into(), method: 1, ..Default::default() };
    (storehouse, Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn facilities_that_name_one_another_are_counted_and_reviewed_and_so_are_strangers() {
    let (storehouse, nurse) = two_facilities().await;
    let gateway = storehouse.gateway();
    let kinds = async || -> Vec<u32> {
        let queue = gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
        queue.into_iter().map(|review| review.kind).collect()
    };
    // The storehouse was set up with a grant of the hospital for itself.
    assert_eq!(kinds().await, [1]);
    // One whom nobody at the clinic knows: queued, whomever it names, and never as a matter of course.
    gateway.enrol(&doctor(), enrol(SECOND, consent(18_000))).await.unwrap();
    let second = |facility: &str| v1::GrantRequest { participant: SECOND.into(), ..grant(facility) };
    gateway.grant(&nurse, second(HOSPITAL)).await.unwrap();
    next_millisecond();
    assert_eq!(kinds().await, [1, 5]);
    // The hospital returns it, for somebody whom it knows.
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    next_millisecond();
    assert_eq!(kinds().await, [1, 5, 4]);
    let shown = gateway.show_consent(&participant(), show(0)).await.unwrap();
    assert!(!shown.grants[1].by_beneficiary, "by another one's hand, which is the point");
    // Both count against the cap.
    storehouse.set(|settings| settings.own_grants_max = 2).await;
    gateway.grant(&nurse, second(CLINIC)).await.unwrap();
    assert_eq!(denied(gateway.grant(&doctor(), second(CLINIC)).await), Denial::OwnGrants);
    assert_eq!(denied(gateway.grant(&nurse, grant(HOSPITAL)).await), Denial::OwnGrants);
    let nobody = v1::GrantRequest { participant: "0043001234567000".into(), ..grant(HOSPITAL) };
    assert_eq!(denied(gateway.grant(&nurse, nobody).await), Denial::OwnGrants, "as of one who is enrolled");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facilitys_own_list_names_nobody_of_whom_it_was_told_nothing() {
    let (storehouse, nurse) = two_facilities().await;
    let lists = |row: &mut User| row.lists_accesses = true;
    storehouse.edit_hashed((Table::User, Domain::User), &[CLINIC, "nurse-1"], lists).await;
    let gateway = storehouse.gateway();
    let left = kura_cluster::consent::japan_day(crate::clock::now_ms());
    gateway.enrol(&doctor(), enrol(SECOND, consent(18_000))).await.unwrap();
    let withdraw = v1::WithdrawRequest {
        request: request(),
        participant: SECOND.into(),
        evidence: "paper".into(),
        ..Default::default()
    };
    gateway.withdraw(&doctor(), withdraw).await.unwrap();
    for number in [NUMBER, SECOND, "0043001234567000"] {
        let ask = v1::ReverseResolveRequest { participant: number.into(), actor: None };
        assert!(gateway.reverse_resolve(&nurse, ask).await.unwrap().links.is_empty());
        let list = v1::ListRequest { participant: number.into(), ..Default::default() };
        denied(gateway.list(&nurse, list).await);
    }
    // Whoever enrols learns that a number is taken, not that its holder has left.
    for number in [NUMBER, SECOND] {
        assert!(matches!(
            denied(gateway.enrol(&nurse, enrol(number, consent(left - 1))).await),
            Denial::AlreadyEnrolled | Denial::BeforeWithdrawal
        ));
    }
    let page = v1::JournalPage { oldest_first: true, limit: 1_000, ..Default::default() };
    let ask = v1::FacilityAccessesRequest { page: Some(page), ..Default::default() };
    let told = gateway.facility_accesses(&nurse, ask).await.unwrap().accesses;
    let told: Vec<_> = told.iter().map(|a| (a.action, &a.participant[..], &a.basis[..], &a.denial[..])).collect();
    let asked = Action::ReverseResolve.number();
    let each = [(asked, "", "own-facility", ""), (Action::List.number(), "", "", "refused")];
    let enrolling = (Action::Enrol.number(), "", "", "already-enrolled");
    assert_eq!(told, [&each[..], &each, &each, &[enrolling, enrolling]].concat());
    // The journal has whom it was about, and why.
    let entries = storehouse.journalled().await;
    let of = |action: Action| -> Vec<&str> {
        let of_nurse = |entry: &&v1::Access| entry.actor.as_ref().is_some_and(|actor| actor.name == "nurse-1");
        let entries = entries.iter().filter(|entry| entry.action == action.number()).filter(of_nurse);
        entries.map(|entry| if entry.denial.is_empty() { &entry.participant[..] } else { &entry.denial[..] }).collect()
    };
    assert_eq!(of(Action::ReverseResolve), [NUMBER, SECOND, ""]);
    assert_eq!(of(Action::Enrol), ["already-enrolled", "before-withdrawal"]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_part_again_names_facilities_anew_and_the_history_tells_all_of_it() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    let before = gateway.show_consent(&participant(), show(0)).await.unwrap();
    next_millisecond();
    let withdraw = v1::WithdrawRequest {
        request: request(),
        participant: NUMBER.into(),
        evidence: "paper 9".into(),
        ..Default::default()
    };
    gateway.withdraw(&doctor(), withdraw).await.unwrap();
    let left = gateway.show_consent(&participant(), show(0)).await.unwrap();
    assert_eq!((&left.withdrawn_by[..], &left.withdrawal_evidence[..]), (HOSPITAL, "paper 9"));
    assert!(left.grants.iter().all(|grant| grant.revoked_ms == left.withdrawn_ms), "{left:?}");
    next_millisecond();
    let today = kura_cluster::consent::japan_day(crate::clock::now_ms());
    gateway.enrol(&doctor(), enrol(NUMBER, consent(today))).await.unwrap();
    let list = || v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    assert_eq!(denied(gateway.list(&doctor(), list()).await), Denial::NotGranted, "no former grant came back");
    gateway.grant(&doctor(), grant(HOSPITAL)).await.unwrap();
    gateway.list(&doctor(), list()).await.unwrap();

    let now = gateway.show_consent(&participant(), show(0)).await.unwrap();
    assert_eq!((now.consent.unwrap().signed_day, now.withdrawn_ms, now.grants.len()), (today, 0, 3));
    let as_of = async |at_ms| gateway.show_consent(&participant(), show(at_ms)).await;
    let earlier = as_of(before.grants[1].granted_ms).await.unwrap();
    assert_eq!(earlier, v1::ShowReply { journal_position: earlier.journal_position, ..before });
    let later = as_of(left.withdrawn_ms).await.unwrap();
    assert_eq!(later, v1::ShowReply { journal_position: later.journal_position, ..left });
    assert!(matches!(as_of(1).await, Err(GatewayError::NotFound { .. })), "before the first consent");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_names_their_relation_and_reserved_purposes_are_refused() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    for (terms, reason) in [
        (v1::SignedConsent { own_records: true, ..consent(18_000) }, Denial::PurposeReserved),
        (v1::SignedConsent { secondary_use: true, ..consent(18_000) }, Denial::PurposeReserved),
        (v1::SignedConsent { proxy: "Hanako".into(), ..consent(18_000) }, Denial::ProxyRelation),
        (v1::SignedConsent { evidence: String::new(), ..consent(18_000) }, Denial::NoEvidence),
    ] {
        assert_eq!(denied(gateway.enrol(&doctor(), enrol(SECOND, terms)).await), reason);
    }
    let terms = v1::SignedConsent { proxy: "Hanako".into(), proxy_relation: "mother".into(), ..consent(18_000) };
    gateway.enrol(&doctor(), enrol(SECOND, terms.clone())).await.unwrap();
    gateway.grant(&doctor(), v1::GrantRequest { participant: SECOND.into(), ..grant(HOSPITAL) }).await.unwrap();
    let ask = v1::ShowRequest { participant: SECOND.into(), ..Default::default() };
    let shown = gateway.show_consent(&doctor(), ask).await.unwrap();
    assert_eq!((shown.consent, &shown.entered_by[..]), (Some(terms), HOSPITAL));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_says_whether_a_participants_list_names_the_person() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    let list = v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    gateway.list(&doctor(), list).await.unwrap();
    let names = async || {
        let ask = v1::AccessesRequest { participant: NUMBER.into(), ..Default::default() };
        let own = gateway.accesses(&participant(), ask).await.unwrap().accesses;
        let of_users: Vec<_> = own.into_iter().filter_map(|a| a.actor.filter(|actor| actor.kind == 1)).collect();
        assert!(!of_users.is_empty() && of_users.iter().all(|actor| actor.facility == HOSPITAL));
        let mut names: Vec<String> = of_users.into_iter().map(|actor| actor.name).collect();
        names.dedup();
        names
    };
    assert_eq!(names().await, [""]);
    storehouse.set(|settings| settings.accesses_show_person = true).await;
    assert_eq!(names().await, [DOCTOR]);
    // An auditor is always told.
    let entries = storehouse.journalled().await;
    let lists: Vec<_> = entries.iter().filter(|entry| entry.action == Action::List.number()).collect();
    assert_eq!(lists.iter().map(|e| &e.actor.as_ref().unwrap().name[..]).collect::<Vec<_>>(), [DOCTOR]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn granting_what_was_granted_says_so_to_those_who_may_know() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    let granted = async |caller: Caller, request| gateway.grant(&caller, request).await.unwrap().granted_before;
    assert!(!granted(doctor(), grant(CLINIC)).await);
    let again = grant(CLINIC);
    assert!(granted(doctor(), again.clone()).await, "the hospital is named, and sees who else is");
    let told = gateway.grant(&doctor(), again).await.unwrap();
    assert!(told.granted_before && told.repeated);
    // The participant confirms what a facility entered: that is a change, once.
    assert!(!granted(participant(), grant(CLINIC)).await);
    assert!(granted(participant(), grant(CLINIC)).await);
    gateway.revoke(&participant(), revoke()).await.unwrap();
    assert!(!granted(doctor(), grant(CLINIC)).await, "who is not named learns nothing of who is");
    storehouse.close().await;
}
