//! A voter whose disk went back to an older state must not vote, whoever else answers it first.

use std::fs;
use std::process::{Command, Stdio};

use kura_client::operations::MemberRole;
use kura_client::{Client, ParticipantNumber};
use kura_node::dev::{ClientFile, Signal};
use kura_node::raft::marks::Mark;
use prost::Message;

use super::recovery::copy;
use super::world::{HOSPITAL, KURA, SOON, World, configure, folder, listed, until};

/// The second and third voter acknowledge a write while the first is down. The first knows nothing newer of the second's
/// disk, and would help it to outvote the third.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_disk_asks_everybody_and_an_acknowledged_write_stays() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    noted(&world, &number).await;
    world.settled().await;
    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    let data = world.cluster.layout().node_data("voter-2");
    let kept = folder();
    let older = kept.path().join("data");
    world.cluster.kill("voter-2", Signal::KILL).await.unwrap();
    copy(&data, &older);
    world.cluster.restart("voter-2").await.unwrap();
    // The one that was restarted waits for the silent first before it votes: longer than a client is patient.
    led(&world.operator).await;
    let acknowledged = world.put(&number, "acknowledged by the second and the third").await;
    noted(&world, &number).await;

    world.cluster.kill("voter-2", Signal::KILL).await.unwrap();
    world.cluster.kill("voter-3", Signal::KILL).await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy(&older, &data);
    // The third cannot lead before it has its keys: nothing but its word speaks for the write.
    let mut former = None;
    configure(&world.cluster, "voter-3", |table| {
        let sealed = toml::Table::from_iter([("shares".to_owned(), true.into())]);
        former = table.insert("root_key".into(), sealed.into());
    });
    for voter in ["voter-3", "voter-1", "voter-2"] {
        world.cluster.restart(voter).await.unwrap();
    }
    let config = world.cluster.client_config_at(ClientFile::Operator, "voter-2").unwrap();
    let second = Client::connect_lazily(config).await.unwrap();
    until("a second voter that knows of its disk", SOON, async || {
        let status = second.operations().status().await.map_err(|error| error.to_string())?;
        let own = status.members.iter().find(|member| member.name == "voter-2").ok_or("it is not listed")?;
        if own.trouble.contains("lacks what it once promised") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    world.cluster.kill("voter-3", Signal::KILL).await.unwrap();
    configure(&world.cluster, "voter-3", |table| {
        table.insert("root_key".into(), former.clone().unwrap());
    });
    world.cluster.restart("voter-3").await.unwrap();
    led(&world.operator).await;
    let records = listed(&world.doctor(HOSPITAL), &number).await;
    assert!(records.len() == 3 && records.iter().any(|one| one.record == acknowledged), "{records:?}");
}

async fn led(operator: &Client) {
    until("a leader", SOON, async || {
        let found = operator.operations().status().await.map_err(|error| error.to_string())?;
        if found.leader_id == 0 { Err(format!("{found:?}")) } else { Ok(()) }
    })
    .await;
}

/// The third voter's file of marks, as far as it is read here: docs/formats.md.
#[derive(Clone, PartialEq, prost::Message)]
struct MarksFile {
    #[prost(message, repeated, tag = "2")]
    marks: Vec<KeptMark>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptMark {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(bytes = "vec", tag = "2")]
    mark: Vec<u8>,
}

/// Waits until the third voter has written down that the second promised all that is in the log now.
async fn noted(world: &World, number: &ParticipantNumber) {
    let path = world.cluster.layout().node_data("voter-3").join("peer-marks");
    world.put(number, "a write more").await;
    let status = world.operator.operations().status().await.unwrap();
    let second = status.members.iter().find(|member| member.name == "voter-2").unwrap().raft_id;
    until("a mark of the second voter", SOON, async || {
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let (content, _) = bytes.split_last_chunk::<32>().ok_or("it is short")?;
        let file = MarksFile::decode(content).map_err(|error| error.to_string())?;
        let kept = file.marks.iter().find(|kept| kept.node == second).ok_or("there is none")?;
        let mark = Mark::decode(&kept.mark).map_err(|error| error.to_string())?;
        let last = mark.last.map_or(0, |last| last.index);
        if last >= status.applied_index { Ok(()) } else { Err(format!("{mark}")) }
    })
    .await;
}

/// The disk of a cluster's first days knows no other voter: those who know it tell it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_from_before_the_others_joined_serves_nothing() {
    let mut world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    world.put(&number, "of the first days").await;
    let copied = world.settled().await.applied_index;
    let data = world.cluster.layout().node_data("voter-1");
    let kept = folder();
    let older = kept.path().join("data");
    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    copy(&data, &older);
    world.cluster.restart("voter-1").await.unwrap();
    for voter in ["voter-2", "voter-3"] {
        world.cluster.enlist_voter(voter).await.unwrap();
        let steps = world.operator.operations().add_member(voter, MemberRole::Voter).await.unwrap();
        steps.take(usize::MAX).await.unwrap();
    }
    world.put(&number, "of three").await;
    world.settled().await;
    // The others have what it signed of a later entry.
    for voter in ["voter-2", "voter-3"] {
        let client = world.cluster.client_at(ClientFile::Operator, voter).await.unwrap();
        until("a head of the first voter", SOON, async || {
            let status = client.operations().status_of(voter).await.map_err(|error| error.to_string())?;
            let first = status.members.iter().find(|member| member.name == "voter-1").ok_or("it is not listed")?;
            if first.agreement == 1 && first.agreement_index > copied { Ok(()) } else { Err(format!("{first:?}")) }
        })
        .await;
    }

    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy(&older, &data);
    world.cluster.restart("voter-1").await.unwrap();
    until("its end", SOON, async || match world.cluster.check() {
        Err(_) => Ok(()),
        Ok(()) => Err("it runs".into()),
    })
    .await;
    let log = world.cluster.layout().node_log("voter-1");
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("what this member itself signed") && said.contains("kura member replace"), "{said}");
    assert!(!said.contains("leads"), "{said}");
    // Nor later, when it reaches nobody.
    let mut again = Command::new(KURA);
    again.args(["serve", "--config"]).arg(world.cluster.layout().node_config("voter-1")).stdin(Stdio::null());
    let again = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
    assert_eq!(again.status.code(), Some(7), "what is proven is written down: {again:?}");
    let config = world.cluster.client_config_at(ClientFile::Operator, "voter-2").unwrap();
    led(&Client::connect_lazily(config).await.unwrap()).await;
}
