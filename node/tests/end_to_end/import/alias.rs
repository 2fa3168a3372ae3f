//! A duplicate enrolment becomes an alias between two runs: what was imported for it stays what it is.

use super::super::world::confirm;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_under_a_number_that_became_an_alias_is_repeated_and_stays_hidden() {
    let world = World::start(1, 0).await;
    let (duplicate, stays) = (linked(&world, 1).await, world.enrol(2).await);
    let office = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    // A profession that may not see the class imports it all the same, and sees nothing listed.
    const CLERK: &str = "clerk-1";
    let clerk = RegisteredUser::new(HOSPITAL, CLERK, "name of the clerk", Profession::Clerk);
    office.add_user(&clerk).await.unwrap().done().unwrap();
    let files = folder();
    let root = files.path();
    put(root, "condition.json", condition(PATIENT, "without an identifier"));
    for (outcome, user) in [("stored", DOCTOR), ("repeated", DOCTOR), ("repeated", CLERK)] {
        let (code, totals) = run(import(&world, "files", root, user, &[])).await;
        assert_eq!((code, totals.of(outcome, "")), (0, 1), "{outcome} {user}");
    }
    let record = listed(&world.doctor(HOSPITAL), &duplicate).await.remove(0).record;
    world.doctor(HOSPITAL).hide(&duplicate, record).await.unwrap();

    confirm(&world.cluster, office.alias(&stays, &duplicate, "form 9").await.unwrap()).await;
    // By the link, which leads to the number that stays now, and by a table that names the former one.
    let table = root.with_extension("csv");
    fs::write(&table, format!("file,participant\ncondition.json,{}\n", duplicate.reveal())).unwrap();
    let named = ["--participants", table.to_str().unwrap()];
    for options in [&[][..], &named[..]] {
        for user in [DOCTOR, CLERK] {
            let (code, totals) = run(import(&world, "files", root, user, options)).await;
            assert_eq!((code, totals.of("repeated", "")), (0, 1), "{user} {}", totals.0);
        }
    }
    assert_eq!(listed(&world.doctor(CLINIC), &stays).await, []);
    assert_eq!(listed(&world.doctor(HOSPITAL), &stays).await.len(), 1);

    // What is new comes under the number that stays, once.
    put(root, "second.json", condition(PATIENT, "new"));
    for outcome in ["stored", "repeated"] {
        let (code, totals) = run(import(&world, "files", root, CLERK, &[])).await;
        assert_eq!((code, totals.files()), (0, 2));
        assert!(totals.of(outcome, "") >= 1, "{outcome} {}", totals.0);
    }
    assert_eq!(listed(&world.doctor(CLINIC), &stays).await.len(), 1);
    fs::remove_file(table).unwrap();
}
