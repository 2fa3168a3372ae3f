//! What was hidden or narrowed stays so when its application, which lost it by a restore, writes it again.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_again_after_a_restore_is_as_hidden_and_narrowed_as_it_was() {
    let mut world = World::start(1, 1).await;
    let layout = world.cluster.layout().clone();
    let number = world.enrol(1).await;
    let before = world.put(&number, "before").await;
    let operations = world.operator.operations();
    let target = operations.status().await.unwrap().committed_index;

    // After the moment: documents that are restricted, one that is not, one without an id.
    let doctor = world.doctor(HOSPITAL);
    let put = async |id: &str| {
        let record = if id.is_empty() { note() } else { note().document_id(id) };
        doctor.put(&number, record).bytes(format!("document {id}")).await.unwrap()
    };
    let (hidden, narrowed, open, nameless) = (put("d-1").await, put("d-2").await, put("d-3").await, put("").await);
    doctor.hide(&number, hidden.record()).await.unwrap();
    doctor.narrow(&number, narrowed.record(), [HOSPITAL]).await.unwrap();
    doctor.hide(&number, nameless.record()).await.unwrap();
    let last = operations.status().await.unwrap().committed_index;
    until("an archive that has caught up", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let point = status.archive_point.clone().ok_or("no archive point is told")?;
        if point.state == 1 && point.index >= last { Ok(()) } else { Err(format!("{point:?}")) }
    })
    .await;
    for member in ["voter-1", "backup-1"] {
        world.cluster.kill(member, Signal::KILL).await.unwrap();
    }
    fs::remove_dir_all(layout.node_data("voter-1")).unwrap();
    world.cluster.discard("backup-1").await.unwrap();
    let (archive, data, config) =
        (layout.archive("backup-1"), layout.node_data("voter-1"), layout.node_config("voter-1"));
    let (from, into, config) = (archive.to_str().unwrap(), data.to_str().unwrap(), config.to_str().unwrap());
    let index = target.to_string();
    let apply = ["apply", "--from", from, "--to-index", &index, "--into", into, "--config", config];
    let why = ["--without-head", "a test", "--open", "writes", "--reason", "fire", "--fenced", "burnt"];
    let restored = run(&[&apply[..], &why].concat());
    assert!(restored.status.success(), "{}", said(&restored));
    let report = told(&restored);
    assert_eq!(report["restricted_left_out"], 3, "{report}");
    let of = |record: kura_client::RecordId| {
        let named = report["restricted"].as_array().unwrap().iter();
        named.clone().find(|one| one["record"] == record.to_string()).cloned().unwrap_or_default()
    };
    assert_eq!((&of(hidden.record())["hidden"], &of(narrowed.record())["narrowed"]), (&true.into(), &true.into()));
    assert_eq!((&of(nameless.record())["hidden"], of(open.record()).is_null()), (&true.into(), true));

    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
    let clinic = world.doctor(CLINIC);
    let seen = async || {
        let mut seen: Vec<_> = listed(&clinic, &number).await.into_iter().map(|one| one.record).collect();
        seen.sort();
        seen
    };
    until("what was before", SOON, async || {
        let listed = clinic.list(&number).stream().take(9).await.map_err(|error| error.to_string())?;
        if listed.len() == 1 { Ok(()) } else { Err(format!("{listed:?}")) }
    })
    .await;
    assert_eq!(seen().await, [before]);

    // Sent again, by the same document ids: the same records, as they were restricted, each once.
    for (id, former) in [("d-1", &hidden), ("d-2", &narrowed), ("d-3", &open)] {
        let again = put(id).await;
        assert_eq!((again.record(), again.version(), again.repeated()), (former.record(), 2, false), "{id}");
        let once_more = put(id).await;
        assert_eq!((once_more.record(), once_more.version(), once_more.repeated()), (former.record(), 2, true), "{id}");
    }
    let mut both = [before, open.record()];
    both.sort();
    assert_eq!(seen().await, both);
    assert_eq!(listed(&world.doctor(HOSPITAL), &number).await.len(), 4);
    // Nobody but its author's facility writes under that id, and another body is another document once it is back.
    let other = doctor.put(&number, note().document_id("d-1")).bytes("another").await;
    assert!(matches!(other, Err(kura_client::PutError::Conflict { .. })), "{other:?}");
}
