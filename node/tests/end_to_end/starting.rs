//! What must not start, says so and harms nothing that runs.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kura_client::{GetError, Reason};
use kura_node::dev::{ClientFile, Cluster, Signal};
use tokio::process::Command;

use super::world::{CLINIC, KURA, World, cluster, configure, folder, listed, until};

/// A node that will not start says so within this.
const GIVES_UP: Duration = Duration::from_secs(20);

/// `kura serve` on a configuration, to its end: its exit code and what it said.
async fn serve(config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(KURA);
    command.args(["serve", "--config"]).arg(config).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(ended) = tokio::time::timeout(GIVES_UP, command.output()).await else {
        return (None, "it went on running".into());
    };
    let ended = ended.unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    (ended.status.code(), words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_gives_up_and_the_first_goes_on() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let process = world.cluster.process_id("voter-1");
    let config = world.cluster.layout().node_config("voter-1");
    let (code, words) = serve(&config).await;
    assert_eq!(code, Some(8), "{words}");
    assert!(words.contains("in use by another process") && words.contains("voter-1"), "{words}");
    // On another port it is no better.
    configure(&world.cluster, "voter-1", |table| {
        table.insert("listen".into(), "127.0.0.1:0".into());
        table.remove("metrics_listen");
    });
    let (code, words) = serve(&config).await;
    assert_eq!(code, Some(8), "{words}");
    assert!(words.contains("in use by another process"), "{words}");
    let record = world.put(&number, "the first goes on").await;
    assert_eq!(listed(&world.doctor(CLINIC), &number).await[0].record, record);
    assert_eq!(world.cluster.process_id("voter-1"), process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_an_unknown_key_or_without_a_directory_is_refused_by_name() {
    let folder = folder();
    let mut cluster = cluster(folder.path(), 1, 0).await;
    cluster.stop().await.unwrap();
    let config = cluster.layout().node_config("voter-1");
    let good = fs::read_to_string(&config).unwrap();
    let table = [
        (format!("replicas = 3\n{good}"), 2, "replicas"),
        (good.replace("low_mib", "low_mb"), 2, "low_mb"),
        (good.replace("listen = \"127.0.0.1:", "listen = \"127.0.0.1-"), 2, "listen"),
        (good.replace("data = \"data\"", "data = \"empty\""), 4, "kura init"),
        (good.replace("certificate = \"node.pem\"", "certificate = \"none.pem\""), 2, "none.pem"),
    ];
    for (text, code, named) in table {
        assert_ne!(text, good, "{named}");
        fs::write(&config, text).unwrap();
        let (ended, words) = serve(&config).await;
        assert_eq!(ended, Some(code), "{named}: {words}");
        assert!(words.contains(named), "{named}: {words}");
    }
    let (ended, words) = serve(&folder.path().join("no-such.toml")).await;
    assert_eq!(ended, Some(2), "{words}");
    assert!(words.contains("no-such.toml"), "{words}");
}

fn exchange(one: &Cluster, other: &Cluster, part: &str) {
    let [here, there] = [one, other].map(|cluster| cluster.layout().node_data("voter-1").join(part));
    let aside = here.with_extension("aside");
    fs::rename(&here, &aside).unwrap();
    fs::rename(&there, &here).unwrap();
    fs::rename(&aside, &there).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_node_or_cluster_is_refused() {
    let (mut ours, theirs_folder) = (World::start(1, 0).await, folder());
    let number = ours.enrol(1).await;
    let record = ours.put(&number, "ours").await;
    let mut theirs = cluster(theirs_folder.path(), 1, 0).await;
    theirs.stop().await.unwrap();
    ours.cluster.stop().await.unwrap();
    let config = ours.cluster.layout().node_config("voter-1");

    // Another name than the directory's.
    configure(&ours.cluster, "voter-1", |table| drop(table.insert("name".into(), "voter-2".into())));
    let (code, words) = serve(&config).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("belongs to voter-1") && words.contains("voter-2"), "{words}");
    configure(&ours.cluster, "voter-1", |table| drop(table.insert("name".into(), "voter-1".into())));

    // Another cluster's log, or state, under our identity.
    for part in ["log", "state"] {
        exchange(&ours.cluster, &theirs, part);
        let (code, words) = serve(&config).await;
        assert_eq!(code, Some(1), "{part}: {words}");
        assert!(words.contains("belongs to") || words.contains("another cluster"), "{part}: {words}");
        exchange(&ours.cluster, &theirs, part);
    }

    // All of it: a whole node of a cluster that has the same name, under our certificates and root key.
    exchange(&ours.cluster, &theirs, "");
    // It stays sealed and says why: for all that it knows, the root key is yet to come.
    ours.cluster.restart("voter-1").await.unwrap();
    let log = ours.cluster.layout().node_log("voter-1");
    until("a sealed node", GIVES_UP, async || match fs::read_to_string(&log).unwrap() {
        words if words.contains("no root key at root.key that opens it") && words.contains("another cluster") => Ok(()),
        words => Err(words),
    })
    .await;
    let read = ours.doctor(CLINIC).get(&number, record).time_limit(Duration::from_secs(1)).await;
    assert!(matches!(read, Err(GetError::Later(_))), "{read:?}");
    ours.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    exchange(&ours.cluster, &theirs, "");

    // None of this harmed ours.
    ours.cluster.restart("voter-1").await.unwrap();
    let doctor = ours.doctor(CLINIC);
    assert_eq!(doctor.get(&number, record).await.unwrap().bytes().await.unwrap(), "ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_does_not_take_part_in_ours() {
    // It keeps our certificate, so that only the cluster's id tells that its data is another's.
    let mut ours = World::start(2, 0).await;
    let number = ours.enrol(1).await;
    let record = ours.put(&number, "ours").await;
    let theirs_folder = folder();
    let mut theirs = cluster(theirs_folder.path(), 2, 0).await;
    theirs.stop().await.unwrap();
    ours.cluster.kill("voter-2", Signal::KILL).await.unwrap();
    let [here, there] = [&ours.cluster, &theirs].map(|cluster| cluster.layout().node_data("voter-2"));
    fs::rename(&here, here.with_extension("aside")).unwrap();
    fs::rename(&there, &here).unwrap();
    // It runs with our certificate on our address, on their data. Whether it ends or stays outside: ours
    // have no majority with it, and it serves nothing.
    let _ = ours.cluster.restart("voter-2").await;
    let doctor = ours.doctor_at("voter-2", CLINIC).await;
    let answer = doctor.get(&number, record).time_limit(Duration::from_secs(8)).await;
    assert!(
        matches!(&answer, Err(GetError::Later(later)) if matches!(later.reason(), Reason::Unavailable | Reason::Deadline)),
        "{answer:?}"
    );
    let operator = ours.cluster.client_at(ClientFile::Operator, "voter-1").await.unwrap();
    let status = operator.operations().status_of("voter-1").await.unwrap();
    let stranger = status.members.iter().find(|member| member.name == "voter-2").unwrap();
    assert!(!stranger.reachable, "{stranger:?}");

    // With its own data it belongs again.
    let _ = ours.cluster.kill("voter-2", Signal::KILL).await;
    let _ = ours.cluster.check();
    fs::remove_dir_all(&here).unwrap();
    fs::rename(here.with_extension("aside"), &here).unwrap();
    ours.cluster.restart("voter-2").await.unwrap();
    until("a read", GIVES_UP, async || {
        let read = doctor.get(&number, record).await.map_err(|error| error.to_string())?;
        read.bytes().await.map_err(|error| error.to_string())
    })
    .await;
}
