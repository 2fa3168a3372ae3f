//! Two registrars on a real cluster, cards, links that were wrong, and duplicates.

use kura_client::registry::{Application, Disaster, Facility, User as RegisteredUser};
use kura_client::{
    ActState, Action, Class, Consent, FacilityKind, GetError, ListError, NewRecord, Profession, RegistryError, now_ms,
    wire,
};
use kura_node::certificates::Role;
use kura_node::dev::ClientFile;
use time::OffsetDateTime;
use wire::registry_client::RegistryClient;

use super::raw;
use super::world::{CLINIC, DOCTOR, HOSPITAL, OUTSIDER, World, confirm, listed, note, number};

async fn registrar(world: &World, file: ClientFile) -> kura_client::registry::Registry {
    world.cluster.client(file).await.unwrap().registry()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, RegistryError>) -> String {
    match answer {
        Err(RegistryError::Denied(denial)) => denial.reason().unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registrar_alone_widens_nothing_for_many() {
    let world = World::start(3, 0).await;
    let (first, second) =
        (registrar(&world, ClientFile::Registrar1).await, registrar(&world, ClientFile::Registrar2).await);
    let lab = Application::new("lab", [HOSPITAL]);
    let act = first.because("form 7").add_application(&lab).await.unwrap().proposed.expect("it takes two");
    let flagged = |facility: &Facility| Facility { emergency: true, ..facility.clone() };
    let hospital = first.facilities().await.unwrap().into_iter().find(|one| one.id == HOSPITAL).unwrap();
    let flag = first.change_facility(&hospital, &flagged(&hospital)).await.unwrap().proposed.expect("it takes two");
    let settings = first.settings().await.unwrap();
    let mut wider = settings.clone();
    wider.set("emergency_user_max", "11").unwrap();
    let widened = first.change_settings(&settings, &wider).await.unwrap().proposed.expect("it takes two");
    // Nothing has happened yet, and an application that is only proposed can do nothing.
    assert!(first.applications().await.unwrap().iter().all(|one| one.name != "lab"));
    assert!(first.facilities().await.unwrap().iter().all(|one| !one.emergency));
    assert_eq!(first.settings().await.unwrap(), settings);
    let authority = raw::authority(&world.cluster);
    let issue = |role, name| raw::issue(&world.cluster, &authority, (role, name), 30, OffsetDateTime::now_utc()).0;
    let member = &world.cluster.plan().members[0];
    let lab_files = issue(Role::Application, "lab");
    let mut records = wire::records_client::RecordsClient::new(raw::channel(lab_files, member));
    let status = records.put_whole(raw::put_whole(HOSPITAL, &number(1))).await.unwrap_err();
    assert_eq!(raw::detail(&status).field, "application-unknown");

    // Who proposed it confirms nothing: not with their certificate, nor with a second one of the same name.
    for id in [act, flag, widened] {
        let shown = first.act(id).await.unwrap();
        assert_eq!(reason(first.confirm(&shown).await), "same-person");
        let twin = issue(Role::Registrar, "registrar-1");
        let mut twin = RegistryClient::new(raw::channel(twin, member));
        let ask = wire::ConfirmActRequest {
            request: raw::request(),
            act_id: bytes::Bytes::copy_from_slice(id.as_bytes()),
            payload_sha256: bytes::Bytes::copy_from_slice(&shown.sha256),
        };
        let status = twin.confirm_act(ask).await.unwrap_err();
        assert_eq!(raw::detail(&status).field, "same-person");
    }
    let open = second.acts(false).take(10).await.unwrap();
    assert_eq!(open.iter().map(|act| act.id).collect::<Vec<_>>(), [act, flag, widened]);
    assert_eq!((&open[0].reason[..], &open[0].proposed_by[..]), ("form 7", "registrar-1"));
    let difference = &second.act(widened).await.unwrap().differences()[0];
    assert_eq!(
        (&difference.field[..], &difference.before[..], &difference.after[..]),
        ("emergency_user_max", "10", "11")
    );
    for act in &open {
        second.confirm(act).await.unwrap();
    }
    assert_eq!(first.settings().await.unwrap(), wider);
    assert!(first.facilities().await.unwrap().contains(&flagged(&hospital)));
    assert!(first.applications().await.unwrap().contains(&lab));
    // Auditors see what was done together.
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap().registry();
    let closed = auditor.acts(true).take(10).await.unwrap();
    // The world's own application is the oldest.
    assert_eq!(closed.len(), 4);
    assert!(closed.iter().all(|act| act.state == ActState::Confirmed && act.closed_by == "registrar-2"));
    assert!(matches!(auditor.reject(act).await, Err(RegistryError::Unfit(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disaster_takes_two_and_ends_by_one() {
    let world = World::start(1, 0).await;
    let (first, second) =
        (registrar(&world, ClientFile::Registrar1).await, registrar(&world, ClientFile::Registrar2).await);
    let flood = |hours: u64| Disaster {
        professions: vec![Profession::Nurse],
        ..Disaster::until("flood", now_ms() + hours * 3_600_000)
    };
    let Err(RegistryError::Invalid(too_long)) = first.declare_disaster(&flood(15 * 24)).await else {
        panic!("15 days")
    };
    assert_eq!(too_long.field(), Some("until_ms"));
    confirm(&world.cluster, first.declare_disaster(&flood(2)).await.unwrap()).await;
    let (disaster, in_force) = second.disaster().await.unwrap().unwrap();
    assert!(in_force);
    assert_eq!(disaster.declared_by, ["registrar-1", "registrar-2"]);
    second.end_disaster().await.unwrap();
    assert!(!first.disaster().await.unwrap().unwrap().1);
    assert_eq!(reason(first.end_disaster().await), "no-disaster");
}

fn list_reason<T: std::fmt::Debug>(answer: Result<T, ListError>) -> String {
    match answer {
        Err(ListError::Denied(denial)) => denial.reason().unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_are_replaced_and_links_corrected() {
    let world = World::start(1, 0).await;
    let (right, wrong) = (world.enrol(1).await, world.enrol(2).await);
    let doctor = world.doctor(HOSPITAL);
    doctor.issue_card(&right, "C-1").evidence("paper").await.unwrap();
    assert_eq!(doctor.resolve_card("C-1").await.unwrap(), right);
    doctor.issue_card(&right, "C-2").evidence("lost").await.unwrap();
    assert_eq!(doctor.resolve_card("C-2").await.unwrap(), right);
    for nothing in ["C-1", "C-3"] {
        assert_eq!(list_reason(doctor.resolve_card(nothing).await), "card-unknown");
    }
    let again = doctor.issue_card(&wrong, "C-1").evidence("paper").await.unwrap_err();
    assert!(again.to_string().contains("card-in-use"), "{again}");
    let none = doctor.issue_card(&wrong, "C-4").await.unwrap_err();
    assert!(none.to_string().contains("no-evidence"), "{none}");
    // A registrar replaces one, too; an auditor does not.
    let office = world.cluster.client(ClientFile::Registrar1).await.unwrap();
    office.act(kura_client::Registrar::named("registrar-1")).issue_card(&right, "C-5").evidence("lost").await.unwrap();
    assert_eq!(doctor.resolve_card("C-5").await.unwrap(), right);

    doctor.link(&wrong, "MRN-7").await.unwrap();
    let taken = doctor.link(&right, "MRN-7").await.unwrap_err();
    assert_eq!(taken.field(), Some("local_id"));
    let unsaid = doctor.relink(&right, "MRN-7", "").await.unwrap_err();
    assert!(unsaid.to_string().contains("no-reason"), "{unsaid}");
    doctor.relink(&right, "MRN-7", "mistyped").await.unwrap();
    assert_eq!(doctor.resolve("MRN-7").await.unwrap(), right);
    let links = doctor.local_ids(&right).await.unwrap();
    assert_eq!((links.len(), &links[0].local_id[..], &links[0].former[0].reason[..]), (1, "MRN-7", "mistyped"));
    assert!(doctor.local_ids(&wrong).await.unwrap().is_empty());
    assert!(world.doctor(CLINIC).local_ids(&right).await.unwrap().is_empty(), "another facility's id");
    assert!(doctor.local_ids(&number(99)).await.unwrap().is_empty(), "nobody's number");
    // Both find it in their lists.
    for person in [right, wrong] {
        let seen = world.person(person).accesses().stream().take(100).await.unwrap();
        assert!(seen.iter().any(|access| access.action == Action::Relink), "{seen:?}");
    }
    assert_eq!(world.person(right).consents().await.unwrap().links[0].former.len(), 1);
}

fn is_refused<T: std::fmt::Debug>(answer: &Result<T, GetError>) -> bool {
    matches!(answer, Err(GetError::Denied(denial)) if denial.reason().is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_becomes_an_alias_and_its_records_stay_within_reach() {
    let mut world = World::start(3, 0).await;
    let (stays, duplicate) = (world.enrol(1).await, number(2));
    let doctor = world.doctor(HOSPITAL);
    let clinic = world.doctor(CLINIC);
    let outsider = world.doctor(OUTSIDER);
    // The duplicate names the hospital and the outsider, not the clinic.
    doctor.enrol(&duplicate, Consent::signed_on("2019-01-01".parse().unwrap()).evidence("form 2")).await.unwrap();
    for facility in [HOSPITAL, OUTSIDER] {
        world.person(duplicate).grant(facility).await.unwrap();
    }
    doctor.link(&duplicate, "MRN-8").await.unwrap();
    doctor.issue_card(&duplicate, "C-8").evidence("form 2").await.unwrap();
    let own = world.put(&stays, "under the number that stays").await;
    let mut before = Vec::new();
    for nth in 0..5 {
        let record = note().document_id(format!("doc-{nth}"));
        before.push(doctor.put(&duplicate, record).bytes("under the duplicate").await.unwrap().record());
    }
    // Older than the consent of the one who stays.
    let old = NewRecord::new(Class::CareRecord, "text/plain", "2019-06-01".parse().unwrap());
    let old = doctor.put(&duplicate, old).bytes("older").await.unwrap().record();
    let addressed = note().addressees([CLINIC.to_owned(), HOSPITAL.to_owned()]);
    assert!(doctor.put(&duplicate, addressed).bytes("x").await.is_err(), "the clinic is not named there");

    let office = registrar(&world, ClientFile::Registrar1).await;
    assert_eq!(reason(office.alias(&stays, &duplicate, "").await), "no-evidence");
    assert_eq!(reason(office.alias(&stays, &stays, "form 9").await), "same-participant");
    assert_eq!(reason(office.alias(&stays, &number(77), "form 9").await), "");
    confirm(&world.cluster, office.alias(&stays, &duplicate, "form 9").await.unwrap()).await;
    assert_eq!(reason(office.alias(&stays, &duplicate, "form 9").await), "same-participant");
    assert_eq!(reason(office.alias(&duplicate, &stays, "form 9").await), "same-participant");

    // Either number shows all that the consent of the one who stays allows.
    for asked in [stays, duplicate] {
        for acting in [&doctor, &clinic] {
            let mut seen: Vec<_> = listed(acting, &asked).await.into_iter().map(|one| one.record).collect();
            let mut all = [&before[..], &[own]].concat();
            seen.sort();
            all.sort();
            assert_eq!(seen, all);
            for record in &all {
                acting.get(&asked, *record).await.unwrap().bytes().await.unwrap();
            }
            assert!(acting.get(&asked, old).await.is_err(), "before the consent that counts");
        }
        // Nobody gains by a number of which the participant does not tell.
        assert!(is_refused(&outsider.get(&asked, before[0]).await.map(|_| ())));
    }
    // In pages of two, none is lost or told twice.
    let mut paged = doctor.list(&duplicate).page(2).stream();
    let mut count = 0;
    while let Some(one) = paged.next().await {
        one.unwrap();
        count += 1;
    }
    assert_eq!(count, 6);
    // What lies under the former number is versioned, hidden and found by its document id as ever.
    let version = doctor.put(&stays, note().version_of(before[0])).bytes("second version").await.unwrap();
    assert_eq!((version.record(), version.version()), (before[0], 2));
    assert_eq!(clinic.get(&stays, before[0]).await.unwrap().bytes().await.unwrap(), "second version");
    let again = doctor.put(&stays, note().document_id("doc-1")).bytes("under the duplicate").await.unwrap();
    assert!(again.repeated() && again.record() == before[1]);
    doctor.hide(&stays, before[2]).reason("wrong").await.unwrap();
    assert!(is_refused(&clinic.get(&stays, before[2]).await.map(|_| ())));

    // Its ids and its card lead to the one who stays; a new card ends both.
    assert_eq!(doctor.resolve("MRN-8").await.unwrap(), stays);
    assert_eq!(doctor.local_ids(&stays).await.unwrap()[0].local_id, "MRN-8");
    assert_eq!(doctor.resolve_card("C-8").await.unwrap(), stays);
    doctor.issue_card(&duplicate, "C-9").evidence("lost").await.unwrap();
    assert_eq!(list_reason(doctor.resolve_card("C-8").await), "card-unknown");
    // The participant speaks under either number, and sees what happened under both.
    let seen = world.person(duplicate).accesses().stream().take(1_000).await.unwrap();
    assert!(seen.iter().filter(|access| access.action == Action::Put).count() >= 8, "{}", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].journal_position > pair[1].journal_position), "in order, none twice");
    assert_eq!(world.person(duplicate).consents().await.unwrap().alias_of, Some(stays));
    world.person(duplicate).revoke(CLINIC).await.unwrap();
    assert!(is_refused(&clinic.get(&stays, before[1]).await.map(|_| ())));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_registered_cannot_be_named() {
    let world = World::start(1, 0).await;
    let office = registrar(&world, ClientFile::Registrar1).await;
    let nobody = RegisteredUser::new("F-9", DOCTOR, "name", Profession::Physician);
    let Err(RegistryError::NotFound(missing)) = office.add_user(&nobody).await else { panic!("a user of no facility") };
    assert!(missing.to_string().contains("F-9"), "{missing}");
    let lab = Application::new("lab", [HOSPITAL, "F-9"]);
    let Err(RegistryError::NotFound(missing)) = office.add_application(&lab).await else { panic!("of no facility") };
    assert!(missing.to_string().contains("F-9"), "{missing}");
    let mut doubtful = Facility::new("F-8", "name", FacilityKind::Clinic);
    doubtful.institution_code = "1311001233".into();
    assert_eq!(office.add_facility(&doubtful).await.unwrap().warnings.len(), 1);
    doubtful.name = "another".into();
    assert!(matches!(office.add_facility(&doubtful).await, Err(RegistryError::Conflict { .. })));
    // Gateways decide by the settings of this moment, on every voter.
    let settings = office.settings().await.unwrap();
    let mut narrower = settings.clone();
    narrower.professions.insert(Profession::Physician, Vec::new());
    let number = world.enrol(1).await;
    let record = world.put(&number, "seen until now").await;
    let doctor = world.doctor(HOSPITAL);
    doctor.get(&number, record).await.unwrap();
    office.change_settings(&settings, &narrower).await.unwrap().done().unwrap();
    let refused = doctor.get(&number, record).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("profession-class"), "{refused}");
}
