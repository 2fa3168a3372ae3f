//! Carrying an erasure out: what goes, what waits, what goes on after a cut.

use kura_cluster::consent::Denial;
use kura_cluster::id::{EpisodeId, ReviewId};
use kura_cluster::row::{
    Alias, CardRow, CounterRow, DocumentIdRow, EpisodeRow, ErasedNumberRow, ErasureArchive, ErasureRow, JournalEntry,
    LinkRow, NumberRow, Participant, PresentConsent, ReviewRow, RowKey, Table,
};
use kura_cluster::seal::Domain;
use kura_cluster::word::{ErasureState, ReviewState};
use kura_cluster::{Pseudonym, Revision};
use kura_proto::v1;

use super::*;
use crate::clear::{ArchiveHolds, Cleared};
use crate::gateway::erase::{Step, Told, UnderWay};
use crate::gateway::participant::number;

const DUPLICATE: &str = "0043001234567891";
const CARDS: [&str; 2] = ["card-old", "card-new"];
const ENOUGH: Cleared = Cleared { purged: u64::MAX, log: u64::MAX, keys: u64::MAX, checkpoints: u64::MAX };

pub(super) fn registrar() -> Caller {
    Caller::parse(identity(Role::Registrar, "ito"), None).unwrap()
}

/// Another person: another name, another certificate, another key.
pub(super) fn another_registrar() -> Caller {
    Caller::parse(another_identity(Role::Registrar, "mori"), None).unwrap()
}

/// A record with a document id and blocks, addressed to the hospital.
async fn put(gateway: &Gateway, document_id: &str) -> Bytes {
    let part =
        v1::WholePart { name: "body".into(), media_type: "text/plain".into(), data: body(5_000), ..Default::default() };
    let request = v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(v1::NewRecord { document_id: document_id.into(), addressees: vec![HOSPITAL.into()], ..record() }),
        parts: vec![part],
        ..Default::default()
    };
    gateway.put_whole(&doctor(), request).await.unwrap().record_id
}

pub(super) async fn withdraw(gateway: &Gateway) {
    let request = v1::WithdrawRequest {
        request: request(),
        participant: NUMBER.into(),
        evidence: "paper 2".into(),
        ..Default::default()
    };
    gateway.withdraw(&doctor(), request).await.unwrap();
}

/// Asked for by one registrar, approved by another; then the grace period is made to be over.
pub(super) async fn approve(storehouse: &Storehouse, gateway: &Gateway) -> Pseudonym {
    let ask = v1::AskErasureRequest {
        request: request(),
        participant: NUMBER.into(),
        evidence: "order 7".into(),
        ..Default::default()
    };
    gateway.ask_erasure(&registrar(), ask).await.unwrap();
    let approve = v1::ApproveErasureRequest { request: request(), participant: NUMBER.into() };
    gateway.approve_erasure(&another_registrar(), approve).await.unwrap();
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let pseudonym = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap().pseudonym;
    let key = RowKey::erasure(&pseudonym);
    let found = attempt.load::<ErasureRow>(&key).unwrap();
    let row = (*found.value.unwrap()).clone();
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Waits(Denial::GracePeriod));
    attempt.put(&key, found.revision, &ErasureRow { grace_until_ms: attempt.now_ms, ..row });
    storehouse.commit(attempt).await;
    pseudonym
}

/// A second enrolment with a row of its own in each place, made an alias as a registrar will; and two cards.
async fn add_a_duplicate_and_cards(storehouse: &Storehouse, gateway: &Gateway) -> Pseudonym {
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let duplicate = Pseudonym(random::id());
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    let own = || Bytes::copy_from_slice(&known.pseudonym.0);
    let theirs = || Bytes::copy_from_slice(&duplicate.0);
    let alias = Alias { number: DUPLICATE.into(), pseudonym: theirs(), ..Default::default() };
    let row = Participant { aliases: vec![alias], card_serial: CARDS[1].into(), ..(*known.row).clone() };
    attempt.put(&RowKey::participant(&known.pseudonym), known.revision, &row);
    let row = Participant {
        number: DUPLICATE.into(),
        consent: Some(PresentConsent::default()),
        key_version: 1,
        alias_of: own(),
        ..Default::default()
    };
    attempt.put(&RowKey::participant(&duplicate), Revision::ABSENT, &row);
    let key = attempt.number_key(&number(DUPLICATE).unwrap());
    let row = NumberRow { pseudonym: own(), alias: true, aliased_ms: 1, former_pseudonym: theirs() };
    attempt.put(&key, Revision::ABSENT, &row);
    for serial in CARDS {
        let key = RowKey::hashed(Table::Number, &attempt.hash(Domain::Card, &[serial]));
        let row = CardRow { pseudonym: own(), serial: serial.into(), issued_ms: 1, ..Default::default() };
        attempt.put(&key, Revision::ABSENT, &row);
    }
    attempt.put_data_key(&duplicate, 1, &random::key()).unwrap();
    let key = RowKey::hashed(Table::DocumentId, &attempt.hash(Domain::DocumentId, &[HOSPITAL, "doc-d"]));
    let row = DocumentIdRow { pseudonym: theirs(), ..Default::default() };
    attempt.put(&key, Revision::ABSENT, &row);
    storehouse.commit(attempt).await;
    duplicate
}

/// How many rows there are of each table that an erasure empties.
fn counts(storehouse: &Storehouse) -> Vec<(Table, usize)> {
    let tables = [
        Table::Number,
        Table::Participant,
        Table::ParticipantKey,
        Table::Link,
        Table::LinkReverse,
        Table::RecordControl,
        Table::Record,
        Table::DocumentId,
        Table::Block,
        Table::Staging,
        Table::Inbox,
        Table::GrantIndex,
        Table::ConsentHistory,
    ];
    let database = storehouse.store.database();
    let of = |table| database.snapshot().keys(&RowKey::whole_table(table), usize::MAX).unwrap().len();
    tables.into_iter().map(|table| (table, of(table))).filter(|(_, rows)| *rows > 0).collect()
}

fn erasure(gateway: &Gateway, pseudonym: &Pseudonym) -> ErasureRow {
    let attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let row = attempt.look::<ErasureRow>(&RowKey::erasure(pseudonym)).unwrap().value.unwrap();
    (*row).clone()
}

fn told(cleared: Option<Cleared>) -> Vec<Told> {
    vec![Told { id: 1, name: "voter-1".into(), cleared, archive: None }]
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_participant_goes_and_of_nobody_else() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    put(&gateway, "doc-1").await;
    put(&gateway, "doc-2").await;
    let link = v1::LinkRequest {
        request: request(),
        participant: NUMBER.into(),
        local_id: "A-1".into(),
        ..Default::default()
    };
    gateway.link(&doctor(), link).await.unwrap();
    let mut upload = uploading(gateway.begin_upload(&doctor(), begin(request())).await);
    upload.part(part()).await.unwrap();
    upload.data(body(BLOCK_BYTES + 1)).await.unwrap();
    upload.settle_one().await.unwrap();
    let duplicate = add_a_duplicate_and_cards(&storehouse, &gateway).await;
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    assert_eq!(gateway.erasures_under_way().unwrap().len(), 1);

    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    let row = erasure(&gateway, &pseudonym);
    assert_eq!((row.state, row.duplicates.len()), (ErasureState::Pending.number(), 1));
    assert!(row.keys_last_index > 0 && row.swept_ms == 0, "{row:?}");
    let left = counts(&storehouse);
    for table in [Table::Participant, Table::ParticipantKey] {
        assert!(left.iter().all(|(found, _)| *found != table), "{left:?}");
    }
    assert!(left.contains(&(Table::Number, 1)), "the card that was replaced is swept: {left:?}");
    assert!(left.contains(&(Table::RecordControl, 2)), "the sweep has not begun: {left:?}");
    // What was opened is forgotten as soon as this gateway hears of it.
    let vault = gateway.unsealed().unwrap();
    gateway.forget_erased();
    for enrolment in [&pseudonym, &duplicate] {
        assert!(vault.data_key(enrolment, 1, &storehouse.store.database()).unwrap().is_none());
    }
    assert!(upload.finish(v1::PutFinish::default()).await.is_err());

    // Nobody says before the sweep that nothing is left.
    gateway.report_erasure(&pseudonym, &told(Some(ENOUGH))).await.unwrap();
    assert_eq!(erasure(&gateway, &pseudonym).state, ErasureState::Pending.number());
    gateway.sweep_erased(&[pseudonym]).await.unwrap();
    assert_eq!(counts(&storehouse), []);
    let row = erasure(&gateway, &pseudonym);
    assert!(row.swept_ms > 0 && row.keys_last_index > 0, "{row:?}");
    assert_eq!(gateway.erasures_under_way().unwrap(), [UnderWay::Reporting(pseudonym, row.keys_last_index)]);

    // Numbers and serials are spent, and lead to the erasure.
    let attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let spent = [
        attempt.erased_number_key(NUMBER),
        attempt.erased_number_key(DUPLICATE),
        attempt.erased_card_key(CARDS[0]),
        attempt.erased_card_key(CARDS[1]),
    ];
    for key in spent {
        let row = attempt.look::<ErasedNumberRow>(&key).unwrap().value.unwrap();
        assert_eq!(row.pseudonym[..], pseudonym.0);
    }
    drop(attempt);
    for number in [NUMBER, DUPLICATE] {
        let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 3".into(), ..Default::default() };
        let enrol = v1::EnrolRequest {
            request: request(),
            participant: number.into(),
            consent: Some(consent),
            ..Default::default()
        };
        let refused = gateway.enrol(&doctor(), enrol).await.unwrap_err();
        assert!(matches!(refused, GatewayError::Denied { reason: Denial::ErasureBegun, .. }), "{refused}");
        let show = v1::ShowErasureRequest { participant: number.into(), ..Default::default() };
        let shown = gateway.show_erasure(&registrar(), show).await.unwrap();
        assert_eq!(shown.erasure.unwrap().id[..], pseudonym.0);
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_certified_on_what_every_present_member_says_now() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    put(&gateway, "doc-1").await;
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    gateway.sweep_erased(&[pseudonym]).await.unwrap();
    let last = erasure(&gateway, &pseudonym).keys_last_index;
    let upto = |index| Cleared { purged: index, log: index, keys: index, checkpoints: index };

    // Silence, then something missing each time.
    gateway.report_erasure(&pseudonym, &told(None)).await.unwrap();
    let row = erasure(&gateway, &pseudonym);
    assert_eq!((row.reports.len(), &row.reports[0].member[..], row.reports[0].at_ms), (1, "voter-1", 0));
    for missing in [
        Cleared { purged: last - 1, ..upto(last) },
        Cleared { log: last - 1, ..upto(last) },
        Cleared { keys: last - 1, ..upto(last) },
        Cleared { checkpoints: last - 1, ..upto(last) },
    ] {
        gateway.report_erasure(&pseudonym, &told(Some(missing))).await.unwrap();
        let row = erasure(&gateway, &pseudonym);
        assert_eq!(row.state, ErasureState::Pending.number(), "{missing:?}");
        assert!(!row.reports[0].is_complete(last), "{missing:?}");
    }
    // One that has reported everything, but does not say so now, holds it up; so does one that is new.
    let mut two = told(Some(upto(last)));
    two.push(Told { id: 2, name: "voter-2".into(), cleared: None, archive: None });
    gateway.report_erasure(&pseudonym, &two).await.unwrap();
    let row = erasure(&gateway, &pseudonym);
    assert!(row.reports[0].is_complete(last) && row.certified_ms == 0, "{row:?}");
    gateway.report_erasure(&pseudonym, &told(None)).await.unwrap();
    assert_eq!(erasure(&gateway, &pseudonym).state, ErasureState::Pending.number());
    // Nothing new is not written again.
    let revision = storehouse.store.published().index();
    let same = gateway.report_erasure(&pseudonym, &told(None)).await.unwrap();
    assert_eq!((same, storehouse.store.published().index()), (Step::Waits(Denial::ErasureReports), revision));

    // What its archive has is told with the report; that the archive goes on is nothing new.
    let archives = |index| {
        let mut one = told(Some(Cleared { purged: last - 1, ..upto(last) }));
        one[0].archive = Some(ArchiveHolds { index, ledger_index: 3, generations: vec![(1, 2), (4, last)] });
        one
    };
    gateway.report_erasure(&pseudonym, &archives(last - 2)).await.unwrap();
    let held = ErasureArchive { index: last - 2, ledger_index: 3, generations: vec![1] };
    assert_eq!(erasure(&gateway, &pseudonym).reports[0].archive, Some(held), "one generation began before");
    let revision = storehouse.store.published().index();
    gateway.report_erasure(&pseudonym, &archives(last - 1)).await.unwrap();
    assert_eq!(storehouse.store.published().index(), revision);
    let show = || v1::ShowErasureRequest { participant: NUMBER.into(), ..Default::default() };
    let told_archive = async || {
        let shown = gateway.show_erasure(&registrar(), show()).await.unwrap().erasure.unwrap();
        shown.reports[0].archive.clone().unwrap()
    };
    assert!(!told_archive().await.keys_gone, "its ledger may have them");
    gateway.report_erasure(&pseudonym, &archives(last)).await.unwrap();
    assert!(told_archive().await.keys_gone);

    // The other is removed without having reported: it is named.
    gateway.report_erasure(&pseudonym, &told(Some(upto(last)))).await.unwrap();
    let row = erasure(&gateway, &pseudonym);
    assert_eq!((row.state, row.unreported_members), (ErasureState::Certified.number(), vec!["voter-2".to_owned()]));
    assert_eq!(gateway.erasures_under_way().unwrap(), []);
    let shown = gateway.show_erasure(&registrar(), show()).await.unwrap();
    assert_eq!(shown.events.iter().map(|event| event.action).collect::<Vec<_>>(), [57, 58, 60, 61]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_a_duplicate_and_the_days_cap_keep_it_waiting() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let duplicate = add_a_duplicate_and_cards(&storehouse, &gateway).await;
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    let hold = async |held_records| {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let key = RowKey::participant(&duplicate);
        let found = attempt.load::<Participant>(&key).unwrap();
        let row = Participant { held_records, ..(*found.value.unwrap()).clone() };
        attempt.put(&key, found.revision, &row);
        storehouse.commit(attempt).await;
    };
    hold(1).await;
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Waits(Denial::LegalHold));
    hold(0).await;

    // Somebody else's keys have used up what may be deleted today.
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    for _ in 1..storehouse.store.published().summary.key_deletions_per_day_max {
        attempt.command.delete(&RowKey::participant_key(&Pseudonym(random::id()), 1));
    }
    storehouse.commit(attempt).await;
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Capped, "two keys, and one may go");
    assert!(storehouse.store.database().header(&RowKey::participant_key(&pseudonym, 1)).unwrap().is_some());
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_names_another_by_now_stays() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let link = v1::LinkRequest {
        request: request(),
        participant: NUMBER.into(),
        local_id: "A-1".into(),
        ..Default::default()
    };
    gateway.link(&doctor(), link).await.unwrap();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let key = RowKey::hashed(Table::Link, &attempt.hash(Domain::LinkFacilityLocal, &[HOSPITAL, "A-1"]));
    let found = attempt.load::<LinkRow>(&key).unwrap();
    let other = Bytes::copy_from_slice(&[7; 16]);
    let row = LinkRow { pseudonym: other, ..(*found.value.unwrap()).clone() };
    attempt.put(&key, found.revision, &row);
    storehouse.commit(attempt).await;
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    gateway.sweep_erased(&[pseudonym]).await.unwrap();
    assert_eq!(counts(&storehouse), [(Table::Link, 1)]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_stay_without_naming_the_erased_and_their_emergencies_go() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let auditor = Caller::parse(identity(Role::Auditor, "sato"), None).unwrap();
    let reviews = async |closed| {
        let request = v1::ListReviewsRequest { closed, ..Default::default() };
        gateway.list_reviews(&auditor, request).await.unwrap().reviews
    };
    // The storehouse was set up with a grant that the hospital entered for itself; it has a verdict. Others are open.
    let first = reviews(false).await.remove(0);
    let verdict = v1::ReviewRequest {
        request: request(),
        review_id: first.review_id.clone(),
        verdict: 1,
        note: "asked them".into(),
    };
    gateway.review(&auditor, verdict).await.unwrap();
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    for (nth, named) in [(7_u8, pseudonym), (8, Pseudonym([8; 16]))] {
        let (named, id) = (Bytes::copy_from_slice(&named.0), Bytes::copy_from_slice(&[nth; 16]));
        let (number, reason) = (format!("004300123456789{nth}"), "found on the street".to_owned());
        let review = ReviewRow {
            id: id.clone(),
            kind: 3,
            state: 1,
            pseudonym: named.clone(),
            number: number.clone(),
            reason: reason.clone(),
            facility: HOSPITAL.into(),
            ..Default::default()
        };
        attempt.put(&RowKey::review(ReviewState::Open, &ReviewId([nth; 16])), Revision::ABSENT, &review);
        let episode = EpisodeRow { id, pseudonym: named, number, reason, ..Default::default() };
        attempt.put(&RowKey::episode(&EpisodeId([nth; 16])), Revision::ABSENT, &episode);
    }
    let counter = RowKey::counter(&attempt.hash(Domain::EmergencyFacility, &[HOSPITAL]));
    attempt.put(&counter, Revision::ABSENT, &CounterRow::default());
    storehouse.commit(attempt).await;

    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    gateway.sweep_erased(&[pseudonym]).await.unwrap();
    let (open, closed) = (reviews(false).await, reviews(true).await);
    let told: Vec<_> =
        open.iter().map(|review| (review.review_id[0], &review.participant[..], &review.reason[..])).collect();
    assert_eq!(told, [(7, "", ""), (8, "0043001234567898", "found on the street")]);
    assert!(open.iter().all(|review| review.facility == HOSPITAL && review.kind == 3));
    let [closed] = &closed[..] else { panic!("{closed:?}") };
    assert_eq!((&closed.participant[..], &closed.reason[..], &closed.note[..]), ("", "", ""));
    assert_eq!((closed.verdict, &closed.reviewer[..], closed.review_id.clone()), (1, "sato", first.review_id));
    let database = storehouse.store.database();
    let is_there = |key: &RowKey| database.header(key).unwrap().is_some();
    assert!(!is_there(&RowKey::episode(&EpisodeId([7; 16]))) && is_there(&RowKey::episode(&EpisodeId([8; 16]))));
    assert!(is_there(&counter), "it counts what a facility does, of nobody in particular");
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_cards_than_fit_into_a_command_hold_nothing_up() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    let serials: Vec<String> = (0..4_100).map(|n| format!("card-{n}")).collect();
    for serials in serials.chunks(1_000) {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        for serial in serials {
            let key = RowKey::hashed(Table::Number, &attempt.hash(Domain::Card, &[serial]));
            let row = CardRow {
                pseudonym: Bytes::copy_from_slice(&pseudonym.0),
                serial: serial.clone(),
                replaced_ms: 2,
                ..Default::default()
            };
            attempt.put(&key, Revision::ABSENT, &row);
        }
        storehouse.commit(attempt).await;
    }
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), Step::Done);
    gateway.sweep_erased(&[pseudonym]).await.unwrap();
    assert_eq!(counts(&storehouse), []);
    let attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    let spent = |serial: &String| attempt.look::<ErasedNumberRow>(&attempt.erased_card_key(serial)).unwrap().value;
    assert!(serials.iter().all(|serial| spent(serial).is_some_and(|row| row.pseudonym[..] == pseudonym.0)));
    drop(attempt);

    // A step that can never take effect says so, and is not taken for one that somebody else was faster with.
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    serials.iter().for_each(|serial| {
        let key = attempt.erased_card_key(serial);
        attempt.command.delete(&key);
    });
    let refused = gateway.propose_step(attempt).await;
    assert!(matches!(refused, Err(GatewayError::Damaged { what: "command" })), "{refused:?}");
    storehouse.close().await;
}
