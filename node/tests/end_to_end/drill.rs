//! The drill beside a running cluster: what it finds, and that everybody hears of it.

use std::fs;
use std::process::{Command, Output};

use kura_client::wire;
use kura_node::dev::ClientFile;

use super::archive::{caught_up, files};
use super::world::{KURA, World, folder, quick_segments};

fn run(world: &World, scratch: &str, more: &[&str]) -> Output {
    let config = world.cluster.layout().node_config("backup-1");
    let mut command = Command::new(KURA);
    command.args(["drill", "--json", "--scratch", scratch, "--config"]).arg(config).args(more).output().unwrap()
}

/// The last drill as the status tells it: at once, not after a while.
async fn told(world: &World) -> wire::DrillPoint {
    let drill = world.operator.operations().status().await.unwrap().drill.unwrap();
    assert_eq!(drill.state, 1, "{drill:?}");
    drill
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_restores_while_the_cluster_runs_and_a_failed_one_is_an_alarm() {
    let world = World::configured(1, 1, quick_segments).await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let status = world.operator.operations().status().await.unwrap();
    assert_eq!(status.drill.unwrap().state, 3, "there was none");
    let kept = folder();
    let head = kept.path().join("head");
    let client = world.cluster.layout().client(ClientFile::Auditor);
    let took = Command::new(KURA).args(["audit", "head", "--file"]).arg(&head).arg("--client").arg(&client).output();
    assert!(took.unwrap().status.success());
    let written = world.operator.operations().status().await.unwrap().committed_index;
    caught_up(&world, written).await;

    let scratch = kept.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let (scratch, head) = (scratch.to_str().unwrap(), head.to_str().unwrap());
    let good = run(&world, scratch, &["--head", head]);
    let report: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert!(good.status.success(), "{report}");
    assert!(report["index"].as_u64().unwrap() >= written && report["head"] == true, "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() == 5 && steps.iter().all(|step| step["ok"] == true), "{report}");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0, "nothing stays of it");
    let point = told(&world).await;
    assert_eq!(
        (point.index, &point.failed[..], &point.member[..]),
        (report["index"].as_u64().unwrap(), "", "backup-1")
    );

    // A head that the archive does not begin with: of another journal, as long.
    let text = fs::read_to_string(head).unwrap();
    let root = text.trim_end().rsplit(':').next().unwrap();
    let other = kept.path().join("other");
    fs::write(&other, text.replace(root, &"5a".repeat(32))).unwrap();
    let forged = run(&world, scratch, &["--head", other.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&forged.stdout).into_owned();
    assert!(forged.status.code() == Some(7) && said.contains("another journal"), "{said}");
    let failed = told(&world).await;
    assert!(failed.failed.contains("another journal") && failed.at_ms > point.at_ms, "{failed:?}");

    // What was wrongly asked for is no drill: the last one stays.
    let empty = folder();
    let cluster = text.split(':').nth(1).unwrap();
    fs::write(&other, text.replace(cluster, &"5a".repeat(16))).unwrap();
    for (code, wrong) in [
        (4, ["--from", empty.path().to_str().unwrap()]),
        (2, ["--from", "nowhere"]),
        (2, ["--head", other.to_str().unwrap()]),
        (2, ["--head", "nowhere"]),
        (2, ["--drill-key", "nowhere"]),
    ] {
        let refused = run(&world, scratch, &wrong);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(code) && said.contains(wrong[0]), "{wrong:?}: {said}");
        assert_eq!(told(&world).await, failed, "{wrong:?} was recorded");
    }

    // A damaged object.
    let segments = world.cluster.layout().archive("backup-1").join("segments");
    let segment = files(&segments).into_iter().next().unwrap();
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    let bad = run(&world, scratch, &[]);
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(7), "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() == 1 && steps[0]["ok"] == false && report["index"] == 0, "{report}");
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let point = told(&world).await;
    assert!(point.failed.contains(&name), "{point:?}");
    let status = Command::new(KURA)
        .args(["status", "--client"])
        .arg(world.cluster.layout().client(ClientFile::Operator))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&status.stdout), String::from_utf8_lossy(&status.stderr));
    assert!(said.contains("ALARM: the last drill at backup-1 failed") && said.contains("FAILED"), "{said}");
}
