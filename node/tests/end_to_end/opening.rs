//! A recovered cluster is opened step by step: what is not served yet tells nobody who is enrolled.

use std::collections::BTreeSet;
use std::process::Command;

use kura_client::{Client, Config};
use kura_node::dev::{ClientFile, Signal};

use super::enrolled::{ask_everything, enrol_some};
use super::world::{KURA, OUTSIDER, SOON, World, configure, until};

/// Takes the cluster over from its only voter's directory: the same node goes on, and serves nothing yet.
async fn take_over(world: &mut World) {
    let layout = world.cluster.layout().clone();
    let folder = layout.node("voter-1");
    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    let data = layout.node_data("voter-1");
    let ran = |arguments: &[&str]| {
        let ran = Command::new(KURA).args(arguments).current_dir(&folder).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    };
    ran(&["recover", "plan", data.to_str().unwrap(), "--out", "plan.json"]);
    let plan: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("plan.json")).unwrap()).unwrap();
    configure(&world.cluster, "voter-1", |table| drop(table.insert("data".into(), "taken".into())));
    let (config, key) = (layout.node_config("voter-1"), layout.root_key("voter-1"));
    let said =
        ["--config", config.to_str().unwrap(), "--root-key", key.to_str().unwrap(), "--fenced", "it is this one"];
    let name = ["--cluster-name", plan["cluster_name"].as_str().unwrap()];
    ran(&[&["recover", "apply", "--plan", "plan.json"], &said[..], &name].concat());
    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_recovered_cluster_is_opened_no_call_tells_who_is_enrolled() {
    let mut world = World::start(1, 0).await;
    world.enrol(1).await;
    world.emergency_room(OUTSIDER, [7; 32]).await;
    let staff = world.recovery("rec-1");
    let mut levels = Vec::new();
    for first in [10, 40, 70, 100] {
        levels.push(enrol_some(&world, first).await);
    }
    take_over(&mut world).await;
    let endpoints = world.cluster.client_config(ClientFile::Operator).unwrap().endpoints;
    let staff = Client::connect(Config { endpoints, ..Config::load(&staff).unwrap() }).await.unwrap().operations();
    // The gateway has opened its keys.
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap();
    until("a gateway", SOON, async || auditor.reviews().open().next().await.transpose().map_err(|e| e.to_string()))
        .await;

    let by = |not_yet: &BTreeSet<String>, words: &str| not_yet.iter().filter(|one| one.contains(words)).count();
    let mut before = None;
    for (nth, mut some) in levels.into_iter().enumerate() {
        let level = 1 + u32::try_from(nth).unwrap();
        if level > 1 {
            staff.open_service(level).await.unwrap();
        }
        let not_yet = ask_everything(&world, &mut some, 1_000 * u64::from(level)).await;
        // Each step opens something and closes nothing.
        assert!(before.as_ref().is_none_or(|before: &BTreeSet<String>| not_yet.is_subset(before)), "{level}");
        assert!(before.as_ref().is_none_or(|before| *before != not_yet), "{level}: {not_yet:?}");
        let is_closed = |words: &str| by(&not_yet, words) > 0;
        let expected = [
            ("OpenEmergency by application, with a reason", 2),
            ("Get by application, under an emergency", 2),
            ("Get by application, plain", 3),
            ("Revoke by application, of one that is named", 3),
            ("Withdraw by application, with evidence", 3),
            ("Hide by application, plain", 3),
            ("Erasures/Stop by application", 3),
            ("Hide by application, show", 4),
            ("Grant by application, with evidence", 4),
            ("Enrol by application, with evidence", 4),
            ("PutWhole by application, plain", 4),
            ("IssueCard by registrar, with evidence", 4),
            ("Hold by registrar, release", 4),
            ("Alias by registrar, with evidence", 4),
            ("Erasures/Approve by registrar", 4),
            ("Hold by registrar, hold", 1),
            ("Erasures/Stop by registrar", 1),
            ("Audit/List by auditor", 1),
        ];
        for (words, from) in expected {
            assert_eq!(is_closed(words), level < from, "at level {level}: {words}: {not_yet:#?}");
        }
        before = Some(not_yet);
    }
    assert_eq!(before, Some(BTreeSet::new()), "everything is served");
}
