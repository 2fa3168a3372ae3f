//! Members that are added, removed and come back under their name: nobody is added who is not there, and what is said of
//! each is so.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kura_client::operations::MemberRole;
use kura_client::{Client, Config, wire};
use kura_node::dev::{ClientFile, Signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::agreement::gauge;
use super::world::{KURA, SOON, World, until};

async fn kura(config: &Path, words: &[&str], option: &str) -> Output {
    let mut command = Command::new(KURA);
    command.args(words).arg(option).arg(config).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What the operator's command said, and its code.
async fn operator(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let said = kura(&world.cluster.layout().client(ClientFile::Operator), words, "--client").await;
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    (said.status.code(), out + &String::from_utf8_lossy(&said.stderr))
}

async fn join(world: &World, name: &str) -> (Option<i32>, String) {
    let said = kura(&world.cluster.layout().node_config(name), &["join"], "--config").await;
    (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
}

async fn removed(world: &World, name: &str) {
    let operations = world.operator.operations();
    until("it knows that it was removed", SOON, async || {
        let told = operations.status_of(name).await.map_err(|error| error.to_string())?;
        if told.removed_ms == 0 { Err("it does not".into()) } else { Ok(()) }
    })
    .await;
}

/// A member's key, as it was approved.
fn key_of(status: &wire::StatusReply, name: &str) -> [u8; 32] {
    let member = status.members.iter().find(|member| member.name == name).unwrap();
    member.key_sha256[..].try_into().unwrap()
}

async fn approve(world: &World, name: &str, key: [u8; 32], address: &str) {
    for (office, anew) in [(ClientFile::Operator, true), (ClientFile::Registrar1, false)] {
        let operations = world.cluster.client(office).await.unwrap().operations();
        operations.approve_member(name, MemberRole::Voter, key, address, anew).await.unwrap();
    }
}

/// Forwards the first connection to a node; the others once it is told to.
async fn forward(listener: TcpListener, node: String, open: watch::Receiver<bool>) {
    let mut first = true;
    while let Ok((mut caller, _)) = listener.accept().await {
        let (node, mut open, held) = (node.clone(), open.clone(), !std::mem::take(&mut first));
        tokio::spawn(async move {
            if held && open.wait_for(|open| *open).await.is_err() {
                return;
            }
            if let Ok(mut server) = TcpStream::connect(&node).await {
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_voter_comes_back_under_its_name_only_as_what_it_was_approved_as() {
    let mut world = World::start(3, 1).await;
    let operations = world.operator.operations();
    let before = world.settled().await;
    assert_eq!(before.warnings, Vec::<String>::new());
    let leader = world.leader().await;
    let name = world.voters().into_iter().find(|name| *name != leader).unwrap();
    let (key, data) = (key_of(&before, &name), world.cluster.layout().node_data(&name));
    let address = world.member(&name).address();

    // What gets weaker by it has to be meant.
    let (code, said) = operator(&world, &["member", "remove", &name]).await;
    assert!(code == Some(2) && said.contains("2 voters only") && said.contains(&format!("{name} --yes")), "{said}");
    assert_eq!(operations.status().await.unwrap().members.len(), 4, "nothing was changed");
    let (code, said) = operator(&world, &["member", "remove", &name, "--yes"]).await;
    assert!(code == Some(0) && said.contains("WARNING: 2 voters only"), "{said}");
    let (code, said) = operator(&world, &["status"]).await;
    assert!(code == Some(0) && said.contains("WARNING: 2 voters only"), "{said}");
    assert_eq!(gauge(&world, &leader, "kura_voters").await, Ok(2.0));
    assert_eq!(gauge(&world, &leader, "kura_backups").await, Ok(1.0));
    removed(&world, &name).await;

    // The node goes on running, and is asked only if nobody else is there.
    let mut endpoints = world.cluster.client_config(ClientFile::Operator).unwrap().endpoints;
    endpoints.retain(|endpoint| [&leader, &name].contains(&&endpoint.name));
    let config = Config { endpoints, ..world.cluster.client_config(ClientFile::Operator).unwrap() };
    for _ in 0..12 {
        let told = Client::connect(config.clone()).await.unwrap().operations().status().await.unwrap();
        assert_eq!((told.node, told.removed_ms), (leader.clone(), 0));
    }
    let alone =
        world.cluster.client_at(ClientFile::Operator, &name).await.unwrap().operations().status().await.unwrap();
    assert!(alone.node == name && alone.removed_ms != 0, "{alone:?}");

    // Its data directory is of the approval that has ended.
    let (code, said) = join(&world, &name).await;
    assert!(code == Some(8) && said.contains("which was removed") && said.contains("no member says"), "{said}");
    approve(&world, &name, key, &address).await;
    let (code, said) = join(&world, &name).await;
    assert!(code == Some(8) && said.contains("is approved as member 5 now"), "{said}");
    assert!(said.contains(&format!("move {} away", data.display())) && !said.contains("kura serve"), "{said}");
    let (code, said) = operator(&world, &["member", "add-voter", &name]).await;
    assert!(code == Some(8) && said.contains("approved as member 5") && said.contains("kura join"), "{said}");
    // Nor is it added as what it is not, or before it runs.
    let (code, said) = operator(&world, &["member", "add-backup", &name]).await;
    assert!(
        code == Some(8) && said.contains("as a voter, and not as a backup") && said.contains("add-voter"),
        "{said}"
    );
    world.cluster.kill(&name, Signal::KILL).await.unwrap();
    let (code, said) = operator(&world, &["member", "add-voter", &name]).await;
    assert!(code == Some(5) && said.contains("was not reached") && said.contains("kura serve"), "{said}");
    assert!(said.contains(&format!("waiting: {name}: reaching")), "it says what it waits for: {said}");
    assert_eq!(operations.status().await.unwrap().members.len(), 3, "no member that is not there");

    // Joined anew it is a member; until it votes it is being added.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    approve(&world, &name, key, &listener.local_addr().unwrap().to_string()).await;
    fs::rename(&data, data.with_extension("former")).unwrap();
    assert_eq!(join(&world, &name).await.0, Some(0));
    let (code, said) = join(&world, &name).await;
    assert!(code == Some(8) && said.contains("which is what was approved") && said.contains("kura serve"), "{said}");
    world.cluster.restart(&name).await.unwrap();
    until("its port", SOON, async || TcpStream::connect(&address).await.map_err(|error| error.to_string())).await;
    let (open, opened) = watch::channel(false);
    let forwarding = tokio::spawn(forward(listener, address, opened));
    let mut steps = operations.add_member(&name, MemberRole::Voter).await.unwrap();
    while steps.next().await.unwrap().unwrap().step != "catching up" {}
    let told = operations.status_of(&leader).await.unwrap();
    let member = told.members.iter().find(|member| member.name == name).unwrap();
    assert!(member.being_added && member.reachable && member.raft_id == 6, "{member:?}");
    assert!(told.warnings.iter().any(|words| words.contains("2 voters only")), "it does not vote: {:?}", told.warnings);
    // It knows of no members yet, and is passed over.
    for _ in 0..6 {
        assert_eq!(Client::connect(config.clone()).await.unwrap().operations().status().await.unwrap().node, leader);
    }
    let (_, said) = operator(&world, &["status"]).await;
    assert!(said.contains("voter, being added"), "{said}");
    until("a wait for who is being added", SOON, async || {
        let (code, said) = operator(&world, &["status", "--wait", "--timeout", "2"]).await;
        if code == Some(5) && said.contains("being added") { Ok(()) } else { Err(said) }
    })
    .await;
    open.send_replace(true);
    // Asked again, it goes on where it was, also if leadership has moved meanwhile.
    drop(steps);
    until("a further voter", SOON, async || {
        let steps = operations.add_member(&name, MemberRole::Voter).await.map_err(|error| error.to_string())?;
        steps.take(usize::MAX).await.map_err(|error| error.to_string())
    })
    .await;
    let told = operations.status().await.unwrap();
    assert!(told.members.len() == 4 && told.members.iter().all(|member| !member.being_added), "{told:?}");
    assert_eq!(told.warnings, Vec::<String>::new());
    forwarding.abort();
}
