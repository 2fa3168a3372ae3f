//! A restored copy beside the cluster that lives: it does not end it unasked.

use std::fs;
use std::process::{Command, Output};

use kura_node::dev::Signal;

use super::archive::caught_up;
use super::recovery::Served;
use super::world::{KURA, SOON, World, configure_apart, folder, free_address, quick_segments, until};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_does_not_end_a_living_cluster_and_does_end_what_is_left_of_a_dead_one() {
    let mut world = World::configured(3, 1, quick_segments).await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let operations = world.operator.operations();
    caught_up(&world, operations.status().await.unwrap().committed_index).await;

    // A machine apart, but not apart enough: it has the first voter's certificate and the whole network.
    let layout = world.cluster.layout().clone();
    let apart = folder();
    let config = configure_apart(&layout, apart.path(), &free_address());
    let config = config.to_str().unwrap();
    let archive = layout.archive("backup-1");
    let apply = ["restore", "apply", "--from", archive.to_str().unwrap(), "--config", config];
    let apply = [&apply[..], &["--without-head", "a rehearsal"]].concat();
    let run = |arguments: &[&str]| Command::new(KURA).args(arguments).output().unwrap();
    let unsaid = run(&apply);
    assert!(unsaid.status.code() == Some(2) && said(&unsaid).contains("--fenced"), "{unsaid:?}");
    assert!(!apart.path().join("data").exists());
    let restored = run(&[&apply[..], &["--not-fenced", "it is apart", "--json"]].concat());
    assert!(restored.status.success(), "{}", said(&restored));
    let report: serde_json::Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(report["fenced"], "NOT FENCED, waived: it is apart");

    // It does not start, as often as it is tried, and the cluster never hears of it.
    for _ in 0..2 {
        let spared = run(&["serve", "--config", config]);
        let words = said(&spared);
        assert!(spared.status.code() == Some(8), "{spared:?}");
        assert!(["voter-1, voter-2, voter-3 answer", "--end-former-cluster"].iter().all(|one| words.contains(one)));
    }
    world.cluster.check().unwrap();
    world.put(&number, "the cluster lives").await;

    // A minority that is left decides nothing: the take-over goes on, and ends it.
    for voter in ["voter-1", "voter-2"] {
        world.cluster.kill(voter, Signal::KILL).await.unwrap();
    }
    let lone = Served::start(apart.path(), config);
    until("the end of what is left", SOON, async || {
        match ["voter-3", "backup-1"].iter().all(|member| layout.node_data(member).join("fenced").exists()) {
            true => Ok(()),
            false => {
                fs::read_to_string(apart.path().join("recovered.txt")).map_or_else(|error| Err(error.to_string()), Err)
            }
        }
    })
    .await;
    drop(lone);
}
