//! Inbox, grants, versions, hiding, narrowing, withdrawal and a new consent.

use kura_client::{Class, Consent, Date, GetError, InboxEntry, ListError, NewRecord, PutError};

use super::world::{CLINIC, HOSPITAL, OUTSIDER, World, listed, note, number, versions};

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_holds_what_is_addressed_to_a_facility_in_order_and_in_pages() {
    let world = World::start(2, 0).await;
    let (first, second) = (world.enrol(1).await, world.enrol(2).await);
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let mut sent = Vec::new();
    for (nth, number) in [first, second, first, first, second].into_iter().enumerate() {
        let to_clinic = note().addressees([CLINIC]);
        let receipt = hospital.put(&number, to_clinic).bytes(format!("letter {nth}")).await.unwrap();
        sent.push((number, receipt.record(), 1));
        // Not addressed to anybody: in no inbox.
        hospital.put(&number, note()).bytes(format!("note {nth}")).await.unwrap();
    }
    let mut cursor = None;
    let mut found = Vec::new();
    loop {
        let page = clinic.inbox(cursor).limit(2).await.unwrap();
        assert!(page.items.len() <= 2);
        let items = page.items.into_iter().map(|entry| entry.opened().unwrap());
        found.extend(items.map(|item| (item.participant, item.record, item.version)));
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, sent);
    assert_eq!(hospital.inbox(None).await.unwrap().items.len(), 0);
    // From where it was read up to, only what is new; a further version is.
    assert_eq!(clinic.inbox(cursor).await.unwrap().items.len(), 0);
    let version = note().addressees([CLINIC]).version_of(sent[0].1);
    hospital.put(&first, version).bytes("letter 0, corrected").await.unwrap();
    let news = clinic.inbox(cursor).await.unwrap().items;
    let news = news.into_iter().map(|entry| entry.opened().unwrap());
    assert_eq!(news.map(|item| (item.record, item.version)).collect::<Vec<_>>(), [(sent[0].1, 2)]);
    // Who no longer names the clinic is passed over.
    world.person(second).revoke(CLINIC).await.unwrap();
    let left = clinic.inbox(None).await.unwrap().items;
    let of_first = |entry: &InboxEntry| matches!(entry, InboxEntry::Record(item) if item.participant == first);
    assert!(left.len() == 4 && left.iter().all(of_first), "{left:?}");
    // So is what no longer reaches it: hidden, or narrowed to others.
    let inbox = async || {
        let items = clinic.inbox(None).await.unwrap().items;
        items.into_iter().map(|entry| entry.opened().unwrap().record).collect::<Vec<_>>()
    };
    let both = hospital.put(&first, note().addressees([CLINIC, HOSPITAL])).bytes("to both").await.unwrap().record();
    assert_eq!(inbox().await, [sent[0].1, sent[2].1, sent[3].1, sent[0].1, both]);
    hospital.hide(&first, sent[2].1).await.unwrap();
    hospital.narrow(&first, both, [HOSPITAL]).await.unwrap();
    assert_eq!(inbox().await, [sent[0].1, sent[3].1, sent[0].1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facility_lists_who_named_it() {
    let world = World::start(1, 0).await;
    let mut enrolled = Vec::new();
    for nth in 1..=5 {
        enrolled.push(world.enrol(nth).await);
    }
    let granted = async || {
        let granted = world.doctor(CLINIC).granted().take(usize::MAX).await.unwrap();
        let mut numbers: Vec<_> = granted.into_iter().map(|one| one.participant).collect();
        numbers.sort();
        numbers
    };
    assert_eq!(granted().await, enrolled);
    world.person(enrolled[1]).revoke(CLINIC).await.unwrap();
    world.person(enrolled[3]).withdraw().await.unwrap();
    assert_eq!(granted().await, [enrolled[0], enrolled[2], enrolled[4]]);
    world.person(enrolled[1]).grant(CLINIC).await.unwrap();
    assert_eq!(granted().await.len(), 4);
    assert_eq!(world.doctor(OUTSIDER).granted().take(9).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_kept_and_a_reader_can_ask_for_each() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let letter = || NewRecord::new(Class::ReferralLetter, "text/plain", day("2024-05-06")).document_id("letter");
    let record = hospital.put(&number, letter()).bytes("one").await.unwrap().record();
    for (version, body) in [(2, "two"), (3, "three")] {
        let receipt = hospital.put(&number, letter().version_of(record)).bytes(body).await.unwrap();
        assert_eq!((receipt.record(), receipt.version()), (record, version));
    }
    let history = versions(&clinic, &number, record).await;
    assert_eq!(history.iter().map(|one| (one.version, one.bytes)).collect::<Vec<_>>(), [(1, 3), (2, 3), (3, 5)]);
    for (version, body) in [(0, "three"), (1, "one"), (2, "two"), (3, "three")] {
        let read = clinic.get(&number, record).version(version).await.unwrap();
        assert_eq!(read.bytes().await.unwrap(), body);
    }
    assert!(matches!(clinic.get(&number, record).version(4).await, Err(GetError::Denied(_))));
    assert_eq!(listed(&clinic, &number).await.len(), 1);
    // Nobody else continues it.
    let other = clinic.put(&number, letter().document_id("mine").version_of(record)).bytes("four").await.unwrap_err();
    assert!(matches!(other, PutError::Denied(_)), "{other}");

    // Lists are narrowed by class and day.
    hospital.put(&number, note()).bytes("today").await.unwrap();
    let classes = async |class| clinic.list(&number).class(class).stream().take(9).await.unwrap().len();
    assert_eq!((classes(Class::ReferralLetter).await, classes(Class::Image).await), (1, 0));
    let count = async |list: kura_client::List| list.stream().take(9).await.unwrap().len();
    assert_eq!(count(clinic.list(&number).since(day("2024-05-07"))).await, 1);
    assert_eq!(count(clinic.list(&number).until(day("2024-05-06"))).await, 1);
    assert_eq!(count(clinic.list(&number).since(day("1970-01-01"))).await, 2);
    assert_eq!(count(clinic.list(&number).until(day("1970-01-01"))).await, 0);
    assert_eq!(count(clinic.list(&number).author_facility(CLINIC)).await, 0);
    assert_eq!(count(clinic.list(&number).page(1)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_hides_and_narrows_and_never_widens() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic, outsider) = (world.doctor(HOSPITAL), world.doctor(CLINIC), world.doctor(OUTSIDER));
    world.person(number).grant(OUTSIDER).await.unwrap();
    let record = world.put(&number, "seen by three").await;
    let sees = async |acting: &kura_client::ActingClient| {
        let read = acting.get(&number, record).await;
        assert!(read.is_ok() || matches!(read, Err(GetError::Denied(_))), "{read:?}");
        assert_eq!(listed(acting, &number).await.len(), usize::from(read.is_ok()), "list and read agree");
        read.is_ok()
    };
    assert!(sees(&hospital).await && sees(&clinic).await && sees(&outsider).await);
    hospital.hide(&number, record).reason("entered for somebody else").await.unwrap();
    assert!(sees(&hospital).await && !sees(&clinic).await && !sees(&outsider).await);
    hospital.unhide(&number, record).await.unwrap();
    assert!(sees(&hospital).await && sees(&clinic).await && sees(&outsider).await);
    hospital.narrow(&number, record, [HOSPITAL, CLINIC]).await.unwrap();
    assert!(sees(&hospital).await && sees(&clinic).await && !sees(&outsider).await);
    for wider in [vec![OUTSIDER], vec![HOSPITAL, CLINIC, OUTSIDER]] {
        let refused = hospital.narrow(&number, record, wider).await.unwrap_err();
        assert!(matches!(refused, kura_client::ChangeError::Denied(_)), "{refused}");
    }
    assert!(matches!(clinic.hide(&number, record).await, Err(kura_client::ChangeError::Denied(_))));
    // A further version widens nothing either.
    let version = note().version_of(record);
    let refused = hospital.put(&number, version.clone()).bytes("for all").await.unwrap_err();
    assert!(matches!(refused, PutError::Denied(_)), "{refused}");
    hospital.put(&number, version.addressees([CLINIC])).bytes("for the clinic").await.unwrap();
    assert!(sees(&hospital).await && sees(&clinic).await && !sees(&outsider).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consent_after_a_withdrawal_opens_only_what_is_dated_after_it() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    let of = |day: Date| NewRecord::new(Class::CareRecord, "text/plain", day);
    // A new consent is not dated before the withdrawal. Tomorrow stays on the right side of a midnight.
    let tomorrow = Date::from_days(Date::today().days() + 1);
    let early = hospital.put(&number, of(day("2021-03-04"))).bytes("early").await.unwrap().record();
    let late = hospital.put(&number, of(tomorrow)).bytes("late").await.unwrap().record();
    let before = hospital.put(&number, of(day("2019-12-31"))).bytes("too early").await.unwrap_err();
    assert!(matches!(before, PutError::Denied(_)), "{before}");
    let again = hospital.enrol(&number, Consent::signed_on(day("2022-01-01")).evidence("paper 2")).await;
    assert!(matches!(again, Err(kura_client::ConsentError::Denied(_))), "{again:?}");

    world.person(number).withdraw().await.unwrap();
    for acting in [&hospital, &clinic] {
        assert!(matches!(acting.get(&number, late).await, Err(GetError::Denied(_))));
        assert!(matches!(acting.list(&number).stream().take(1).await, Err(ListError::Denied(_))));
        assert!(matches!(acting.put(&number, note()).bytes("late").await, Err(PutError::Denied(_))));
    }
    // The participant still sees who looked, and what they had consented to.
    let consents = world.person(number).consents().await.unwrap();
    assert!(consents.withdrawn_ms.is_some() && consents.consent.signed_on == day("2020-01-01"));
    assert!(!world.person(number).accesses().stream().take(9).await.unwrap().is_empty());

    let backdated = hospital.enrol(&number, Consent::signed_on(day("2023-01-01")).evidence("paper 3")).await;
    assert!(matches!(backdated, Err(kura_client::ConsentError::Denied(_))), "{backdated:?}");
    let today = Date::today();
    hospital.enrol(&number, Consent::signed_on(today).evidence("paper 3")).await.unwrap();
    let consents = world.person(number).consents().await.unwrap();
    assert!(consents.withdrawn_ms.is_none() && consents.consent.signed_on == today);
    for facility in [HOSPITAL, CLINIC] {
        // Whether former grants revive is the participant's to say: they name them anew.
        world.person(number).grant(facility).await.unwrap();
    }
    for acting in [&hospital, &clinic] {
        let seen: Vec<_> = listed(acting, &number).await.into_iter().map(|one| one.record).collect();
        assert_eq!(seen, [late]);
        assert!(acting.get(&number, late).await.is_ok());
        assert!(matches!(acting.get(&number, early).await, Err(GetError::Denied(_))));
    }
    let between = hospital.put(&number, of(day("2022-06-01"))).bytes("between").await.unwrap_err();
    assert!(matches!(between, PutError::Denied(_)), "{between}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facilitys_own_id_leads_to_one_participant_there_and_nowhere_else() {
    let world = World::start(1, 0).await;
    let (first, second) = (world.enrol(1).await, world.enrol(2).await);
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    hospital.link(&first, "00-123-45").await.unwrap();
    hospital.link(&first, "00-123-45").await.unwrap();
    assert_eq!(hospital.resolve("00-123-45").await.unwrap(), first);
    let taken = hospital.link(&second, "00-123-45").await.unwrap_err();
    assert!(matches!(taken, kura_client::ConsentError::Conflict { .. }), "{taken}");
    assert!(matches!(clinic.resolve("00-123-45").await, Err(ListError::NotFound(_))));
    clinic.link(&second, "00-123-45").await.unwrap();
    assert_eq!(clinic.resolve("00-123-45").await.unwrap(), second);
    let refused = hospital.link(&number(9), "00-999-99").await.unwrap_err();
    assert!(matches!(refused, kura_client::ConsentError::Denied(_)), "{refused}");
}
