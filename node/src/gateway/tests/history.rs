//! Consents and grants, now and before: every time tells what held then, page by page, and whatever the rows hold, what
//! takes access away fits.

use kura_cluster::command::COMMAND_BYTES_MAX;
use kura_cluster::id::{OUTSIDE_ID_BYTES_MAX, ReviewId};
use kura_cluster::row::{Alias, Application, Facility, Grant, Participant, User};
use kura_cluster::word::{HistoryKind, ReviewVerdict};
use kura_cluster::{Pseudonym, Revision};

use super::super::limits::{ALIASES_MAX, FACILITIES_MAX, TEXT_BYTES_MAX};
use super::super::participant::{Known, number};
use super::*;

const CLINIC: &str = "clinic-02";
const PHARMACY: &str = "pharmacy-03";
const SECOND: &str = "0043001234567892";
/// More than any row of a participant takes: 512 grants of 128 bytes each and a little, 16 aliases with their evidence.
const ROW_BYTES_MAX: usize = 128 << 10;

fn enrol(number: &str, signed_day: i32) -> v1::EnrolRequest {
    let consent = v1::SignedConsent { signed_day, evidence: format!("form of day {signed_day}"), ..Default::default() };
    v1::EnrolRequest { actor: None, request: request(), participant: number.into(), consent: Some(consent) }
}

fn grant_of(number: &str, facility: &str) -> v1::GrantRequest {
    v1::GrantRequest {
        actor: None,
        request: request(),
        participant: number.into(),
        facility: facility.into(),
        evidence: "paper 8".into(),
    }
}

fn grant(facility: &str) -> v1::GrantRequest {
    grant_of(NUMBER, facility)
}

fn revoke(facility: &str) -> v1::RevokeRequest {
    v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: facility.into(),
        evidence: "paper 9".into(),
        ..Default::default()
    }
}

fn withdraw() -> v1::WithdrawRequest {
    v1::WithdrawRequest {
        request: request(),
        participant: NUMBER.into(),
        evidence: "paper 10".into(),
        ..Default::default()
    }
}

fn today() -> i32 {
    kura_cluster::consent::japan_day(crate::clock::now_ms())
}

/// A storehouse with a hospital, a clinic and a pharmacy, a user at each, and an application that states them all.
async fn storehouse() -> Storehouse {
    let storehouse = Storehouse::new().await;
    let application = |row: &mut Application| {
        row.participants = true;
        row.facilities.extend([CLINIC.into(), PHARMACY.into()]);
    };
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    for (id, kind) in [(CLINIC, 2), (PHARMACY, 4)] {
        let facility = |row: &mut Facility| {
            *row = Facility { id: id.into(), kind, status: 1, access_line: 1, ..Default::default() };
        };
        storehouse.edit_hashed((Table::Facility, Domain::Facility), &[id], facility).await;
        let user = |row: &mut User| {
            *row = User { facility: id.into(), id: "user-1".into(), profession: 4, status: 1, ..Default::default() };
        };
        storehouse.edit_hashed((Table::User, Domain::User), &[id, "user-1"], user).await;
    }
    storehouse
}

fn user_of(facility: &str) -> Caller {
    let actor =
        v1::Actor { kind: 1, facility: facility.into(), name: "user-1".into(), method: 1, ..Default::default() };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

fn known(gateway: &Gateway, digits: &str) -> Known {
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    attempt.participant(&number(digits).unwrap()).unwrap().unwrap()
}

async fn show(gateway: &Gateway, ask: v1::ShowRequest) -> Result<v1::ShowReply, GatewayError> {
    gateway.show_consent(&participant(), v1::ShowRequest { participant: NUMBER.into(), ..ask }).await
}

async fn kinds(gateway: &Gateway) -> Vec<u32> {
    next_millisecond();
    let queue = gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
    queue.into_iter().map(|review| review.kind).collect()
}

async fn judge(gateway: &Gateway, kind: u32, verdict: ReviewVerdict) {
    let queue = gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
    let review_id = queue.into_iter().find(|review| review.kind == kind).unwrap().review_id;
    let close = v1::ReviewRequest { request: request(), review_id, verdict: verdict.number(), ..Default::default() };
    gateway.review(&auditor(), close).await.unwrap();
}

fn denied<T>(answer: Result<T, GatewayError>) -> kura_cluster::consent::Denial {
    match answer {
        Err(GatewayError::Denied { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("permitted"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_shows_what_held_then_and_pages_show_all_of_it() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    let day = today();
    let mut moments = vec![(18_000, false, vec![HOSPITAL])];
    let mut times = vec![crate::clock::now_ms()];
    let mut then = |day: i32, left: bool, named: &[&'static str]| {
        times.push(crate::clock::now_ms());
        moments.push((day, left, named.to_vec()));
        next_millisecond();
    };
    next_millisecond();
    gateway.revoke(&doctor(), revoke(HOSPITAL)).await.unwrap();
    then(18_000, false, &[]);
    gateway.grant(&participant(), grant(HOSPITAL)).await.unwrap();
    then(18_000, false, &[HOSPITAL]);
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    then(18_000, false, &[HOSPITAL, CLINIC]);
    gateway.withdraw(&doctor(), withdraw()).await.unwrap();
    then(18_000, true, &[]);
    gateway.enrol(&doctor(), enrol(NUMBER, day)).await.unwrap();
    then(day, false, &[]);
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    then(day, false, &[CLINIC]);

    let ask = |as_of_ms| v1::ShowRequest { as_of_ms, ..Default::default() };
    for (at_ms, (day, left, named)) in times.iter().zip(&moments).chain([(&0, moments.last().unwrap())]) {
        let shown = show(&gateway, ask(*at_ms)).await.unwrap();
        assert_eq!(shown.consent.as_ref().unwrap().signed_day, *day, "at {at_ms}");
        assert_eq!(
            (shown.withdrawn_ms != 0, &shown.withdrawal_evidence[..]),
            (*left, if *left { "paper 10" } else { "" })
        );
        let now: Vec<&str> = shown.grants.iter().filter(|g| g.revoked_ms == 0).map(|g| &g.facility[..]).collect();
        assert_eq!(now, *named, "at {at_ms}");
        assert!(shown.grants.iter().all(|g| g.granted_ms <= *at_ms || *at_ms == 0));
        assert!(shown.grants.iter().all(|g| g.revoked_ms == 0 || g.revocation_evidence.starts_with("paper")));
    }
    assert!(matches!(show(&gateway, ask(1)).await, Err(GatewayError::NotFound { .. })), "before the first consent");

    // Page by page the same, now and then, and each page is journalled.
    for as_of_ms in [0, times[4]] {
        let whole = show(&gateway, ask(as_of_ms)).await.unwrap();
        assert!(!whole.more && whole.grants.len() >= 3);
        let (mut paged, mut after) = (Vec::new(), Bytes::new());
        loop {
            let page = show(&gateway, v1::ShowRequest { after, limit: 1, ..ask(as_of_ms) }).await.unwrap();
            assert_eq!((page.grants.len(), &page.consent), (1, &whole.consent));
            paged.extend(page.grants);
            after = page.last;
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, whole.grants);
    }
    for bad in [&[0][..], &[0; 12], &[0; 14]] {
        let page = v1::ShowRequest { after: Bytes::copy_from_slice(bad), ..Default::default() };
        assert!(matches!(show(&gateway, page).await, Err(GatewayError::Invalid { field: "after", .. })));
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_and_takes_back_again_and_again_leaves_the_row_as_small_as_it_was() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    let size = || {
        let row = known(&gateway, NUMBER).row;
        // Numbers and times take a few bytes more as they grow.
        (row.grants.len(), row.encoded_len() / 64)
    };
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    let before = size();
    for _ in 0..15 {
        gateway.revoke(&doctor(), revoke(CLINIC)).await.unwrap();
        gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    }
    assert_eq!(size(), before);
    gateway.withdraw(&doctor(), withdraw()).await.unwrap();
    for _ in 0..5 {
        gateway.enrol(&doctor(), enrol(NUMBER, today())).await.unwrap();
        gateway.withdraw(&doctor(), withdraw()).await.unwrap();
    }
    assert!(size() <= before, "{:?}", size());
    let shown = show(&gateway, v1::ShowRequest { limit: 1_000, ..Default::default() }).await.unwrap();
    assert_eq!(shown.grants.len(), 17);
    storehouse.close().await;
}

/// Texts and ids as long as they may be.
fn long(nth: usize) -> String {
    format!("{nth:0>OUTSIDE_ID_BYTES_MAX$}")
}

/// Gives a participant as much as the bounds allow: `named` further facilities, or former grants of them.
async fn fill(storehouse: &Storehouse, digits: &str, named: usize, ended: bool) {
    let gateway = storehouse.gateway();
    let known = known(&gateway, digits);
    let mut row = (*known.row).clone();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let consent = row.consent.clone().unwrap();
    for nth in 0..named {
        let history_number = row.history_rows;
        row.history_rows += 1;
        let grant = Grant {
            facility: long(nth),
            granted_ms: row.changed_ms,
            entered_by: long(nth),
            entered_by_user: long(nth),
            evidence: "e".repeat(TEXT_BYTES_MAX),
            review_id: vec![1; 16].into(),
            consent_ms: consent.entered_ms,
            consent_number: consent.history_number,
            revoked_ms: if ended { row.changed_ms } else { 0 },
            ..Default::default()
        };
        let key = RowKey::history(&known.pseudonym, HistoryKind::Grant, row.changed_ms, history_number);
        attempt.put(&key, Revision::ABSENT, &grant);
        if !ended {
            row.grants.push(kura_cluster::row::PresentGrant {
                facility: grant.facility,
                granted_ms: row.changed_ms,
                history_number,
                by_participant: true,
                review_id: grant.review_id,
            });
        }
    }
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
    storehouse.commit(attempt).await;
}

/// As many aliases, with as long evidence, as there may be beside one more.
async fn fill_aliases(storehouse: &Storehouse) {
    let key = RowKey::participant(&known(&storehouse.gateway(), NUMBER).pseudonym);
    let aliases = |row: &mut Participant| {
        row.aliases = (1..ALIASES_MAX as u8)
            .map(|nth| Alias {
                number: format!("00430099{nth:0>8}"),
                pseudonym: Bytes::copy_from_slice(&Pseudonym([nth; 16]).0),
                at_ms: u64::MAX,
                registrar: long(1),
                evidence: "e".repeat(TEXT_BYTES_MAX),
                consent_day: Some(i32::MAX),
            })
            .collect();
    };
    storehouse.edit(&key, aliases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_access_away_fits_whatever_the_rows_hold() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    fill(&storehouse, NUMBER, FACILITIES_MAX - 1, false).await;
    fill_aliases(&storehouse).await;
    let row = known(&gateway, NUMBER).row;
    assert_eq!((row.grants.len(), row.aliases.len()), (FACILITIES_MAX, ALIASES_MAX - 1));
    assert!(row.encoded_len() <= ROW_BYTES_MAX && 8 * ROW_BYTES_MAX <= COMMAND_BYTES_MAX, "{}", row.encoded_len());

    // One more than may be is told what to do.
    let refused = gateway.grant(&doctor(), grant(CLINIC)).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Invalid { field: "facility", .. }));
    assert!(refused.to_string().contains("512 facilities, the limit; take a grant back first"), "{refused}");
    let evidence = "e".repeat(TEXT_BYTES_MAX);
    let facility = long(3);
    let registered = |row: &mut Facility| *row = Facility { id: facility.clone(), status: 1, ..Default::default() };
    storehouse.edit_hashed((Table::Facility, Domain::Facility), &[&facility], registered).await;
    gateway.revoke(&doctor(), v1::RevokeRequest { facility, evidence: evidence.clone(), ..revoke("") }).await.unwrap();
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();

    // The most that one command takes back: everyone who is named was taken back under the duplicate.
    gateway.enrol(&doctor(), enrol(SECOND, 18_000)).await.unwrap();
    fill(&storehouse, SECOND, FACILITIES_MAX, true).await;
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let alias = v1::AliasRequest {
        request: request(),
        participant: NUMBER.into(),
        duplicate: SECOND.into(),
        evidence: evidence.clone(),
    };
    let act_id = gateway.alias(&registrar, alias).await.unwrap().act_id;
    let second = Caller::parse(another_identity(Role::Registrar, "ueda"), None).unwrap();
    let asked = v1::ListActsRequest { act_id: act_id.clone(), ..Default::default() };
    let payload = gateway.list_acts(&second, asked).await.unwrap().acts.remove(0).payload;
    let payload_sha256 = Bytes::copy_from_slice(&sha2::Sha256::digest(&payload));
    gateway.confirm_act(&second, v1::ConfirmActRequest { request: request(), act_id, payload_sha256 }).await.unwrap();
    let row = known(&gateway, NUMBER).row;
    let named: Vec<&str> = row.grants.iter().map(|grant| &grant.facility[..]).collect();
    assert_eq!((&named[..], row.aliases.len()), (&[HOSPITAL, CLINIC][..], ALIASES_MAX));

    // And all of them at once, by leaving.
    fill(&storehouse, NUMBER, FACILITIES_MAX - 2, false).await;
    gateway.withdraw(&doctor(), v1::WithdrawRequest { evidence, ..withdraw() }).await.unwrap();
    let row = known(&gateway, NUMBER).row;
    assert!(row.grants.is_empty() && row.consent.as_ref().unwrap().withdrawn_ms != 0);
    let page = v1::ShowRequest { limit: 1_000, ..Default::default() };
    let shown = show(&gateway, page.clone()).await.unwrap();
    assert!(shown.more && shown.grants.len() == 1_000 && shown.grants.iter().all(|grant| grant.revoked_ms != 0));
    let rest = show(&gateway, v1::ShowRequest { after: shown.last, ..page }).await.unwrap();
    // 512 and one of before the alias, 510 after it, and those of the duplicate under its own number.
    assert_eq!(rest.grants.len(), 513 + 510 + 512 - 1_000);
    assert!(rest.grants.iter().filter(|grant| !grant.number.is_empty()).all(|grant| grant.number == SECOND));
    assert_eq!(rest.grants.iter().filter(|grant| grant.number == SECOND).count(), 512);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_tells_the_grants_of_both_numbers() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    gateway.enrol(&doctor(), enrol(SECOND, 18_000)).await.unwrap();
    gateway.grant(&doctor(), grant_of(SECOND, CLINIC)).await.unwrap();
    gateway.grant(&doctor(), grant_of(SECOND, PHARMACY)).await.unwrap();
    let revoked = v1::RevokeRequest { participant: SECOND.into(), ..revoke(PHARMACY) };
    gateway.revoke(&doctor(), revoked).await.unwrap();
    next_millisecond();
    let alias = v1::AliasRequest {
        request: request(),
        participant: NUMBER.into(),
        duplicate: SECOND.into(),
        evidence: "one person".into(),
    };
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let act_id = gateway.alias(&registrar, alias).await.unwrap().act_id;
    let second = Caller::parse(another_identity(Role::Registrar, "ueda"), None).unwrap();
    let asked = v1::ListActsRequest { act_id: act_id.clone(), ..Default::default() };
    let payload = gateway.list_acts(&second, asked).await.unwrap().acts.remove(0).payload;
    let payload_sha256 = Bytes::copy_from_slice(&sha2::Sha256::digest(&payload));
    gateway.confirm_act(&second, v1::ConfirmActRequest { request: request(), act_id, payload_sha256 }).await.unwrap();
    let at_ms = known(&gateway, NUMBER).row.aliases[0].at_ms;
    for (as_of_ms, clinic) in [(at_ms - 1, (0, "")), (at_ms, (at_ms, "one person")), (0, (at_ms, "one person"))] {
        let shown = show(&gateway, v1::ShowRequest { as_of_ms, ..Default::default() }).await.unwrap();
        let told: Vec<_> = shown
            .grants
            .iter()
            .map(|g| (&g.facility[..], &g.number[..], g.revoked_ms, &g.revocation_evidence[..]))
            .collect();
        let (pharmacy_ended, evidence) = (told[2].2, "paper 9");
        assert!(pharmacy_ended != 0 && pharmacy_ended < at_ms);
        let expected =
            [(HOSPITAL, "", 0, ""), (CLINIC, SECOND, clinic.0, clinic.1), (PHARMACY, SECOND, pharmacy_ended, evidence)];
        assert_eq!(told, expected, "at {as_of_ms}");
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_somebody_back_is_reviewed_and_so_is_what_rests_on_it() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    // The storehouse was set up with a grant of the hospital for itself.
    assert_eq!(kinds(&gateway).await, [1]);
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    gateway.enrol(&doctor(), enrol(SECOND, 18_000)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1], "who was enrolled first knows them; nobody knew the second one before");
    gateway.withdraw(&doctor(), withdraw()).await.unwrap();
    gateway.enrol(&doctor(), enrol(NUMBER, today())).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 7]);
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 7, 6]);
    // A verdict against it changes nothing; one for it does.
    judge(&gateway, 6, ReviewVerdict::Justified).await;
    gateway.grant(&doctor(), grant(PHARMACY)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 7, 6], "of another facility's grant nothing follows for this one");
    judge(&gateway, 7, ReviewVerdict::Justified).await;
    gateway.revoke(&doctor(), revoke(PHARMACY)).await.unwrap();
    gateway.grant(&doctor(), grant(PHARMACY)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 6]);
    let row = known(&gateway, NUMBER).row;
    assert!(ReviewId::from_slice(&row.consent.as_ref().unwrap().review_id).is_ok());
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_facilities_is_reviewed_until_the_participant_names_them() {
    let storehouse = storehouse().await;
    let gateway = storehouse.gateway();
    gateway.revoke(&doctor(), revoke(HOSPITAL)).await.unwrap();
    // The hospital enrolled the participant; whom it names has it at second hand, and so on around.
    gateway.grant(&doctor(), grant(CLINIC)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1]);
    gateway.grant(&user_of(CLINIC), grant(PHARMACY)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 6]);
    gateway.grant(&user_of(PHARMACY), grant(HOSPITAL)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 6, 6]);
    let evidence = |review: &v1::ReviewItem| (review.facility.clone(), review.actor.clone().unwrap().facility);
    let queue = gateway.list_reviews(&auditor(), Default::default()).await.unwrap().reviews;
    assert_eq!(evidence(&queue[2]), (HOSPITAL.into(), PHARMACY.into()));
    // It counts against the cap, too.
    storehouse.set(|settings| settings.own_grants_max = 1).await;
    gateway.revoke(&doctor(), revoke(PHARMACY)).await.unwrap();
    let again = gateway.grant(&user_of(CLINIC), grant(PHARMACY)).await;
    assert_eq!(denied(again), kura_cluster::consent::Denial::OwnGrants);
    // Whom the participant names, or confirms, needs nobody to look.
    gateway.grant(&participant(), grant(CLINIC)).await.unwrap();
    gateway.grant(&user_of(CLINIC), grant(PHARMACY)).await.unwrap();
    assert_eq!(kinds(&gateway).await, [1, 6, 6]);
    let shown = show(&gateway, Default::default()).await.unwrap();
    let clinic = shown.grants.iter().find(|grant| grant.facility == CLINIC).unwrap();
    assert!(clinic.confirmed_ms >= clinic.granted_ms && clinic.entered_by == HOSPITAL, "{clinic:?}");
    storehouse.close().await;
}
