//! A member is known by its approved key, not by its name; and may change it, if its people approve.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use kura_client::operations::MemberRole;
use kura_client::tls::TlsFiles;
use kura_client::wire;
use kura_client::wire::peer_client::PeerClient;
use kura_node::certificates::{Identity, Issued, Role};
use kura_node::dev::{ClientFile, Signal};
use time::OffsetDateTime;
use tonic::{Code, Status};

use super::raw;
use super::world::{SOON, World, until};

/// Nodes look at their files every five seconds, and a change takes two rounds of the log.
const RENEWED: Duration = Duration::from_secs(40);

fn new_key(world: &World, role: Role, name: &str) -> (TlsFiles, Issued) {
    let authority = raw::authority(&world.cluster);
    raw::issue(&world.cluster, &authority, (role, name), 30, OffsetDateTime::now_utc())
}

/// Puts a certificate and its key in place of a node's.
fn put_in_place(world: &World, name: &str, files: &TlsFiles) {
    let own = raw::node_files(world.cluster.layout(), name);
    for (from, to) in [(&files.private_key, own.private_key), (&files.certificate, own.certificate)] {
        let aside = to.with_extension("new");
        fs::copy(from, &aside).unwrap();
        fs::rename(aside, to).unwrap();
    }
}

fn keep(world: &World, name: &str) -> TlsFiles {
    let own = raw::node_files(world.cluster.layout(), name);
    let aside = world.cluster.layout().directory().join(format!("kept-{name}"));
    fs::create_dir(&aside).unwrap();
    let kept = TlsFiles {
        certificate: aside.join("node.pem"),
        private_key: aside.join("node.key"),
        authorities: own.authorities.clone(),
        authorities_more: None,
        revocation_lists: Vec::new(),
    };
    fs::copy(&own.certificate, &kept.certificate).unwrap();
    fs::copy(&own.private_key, &kept.private_key).unwrap();
    kept
}

/// What a member answers to someone who says that it is the member `from`.
async fn hello_as(world: &World, files: TlsFiles, from: &str, to: &str) -> Result<(), Status> {
    let status = world.operator.operations().status().await.unwrap();
    let from = status.members.iter().find(|member| member.name == from).unwrap().raft_id;
    let mut peer = PeerClient::new(raw::channel(files, &world.member(to)));
    let hello = wire::HelloRequest { from, cluster_id: status.cluster_id, ..wire::HelloRequest::default() };
    peer.hello(hello).await.map(drop)
}

async fn answers(world: &World, asked: &str, member: &str) -> Result<bool, String> {
    let operator = world.cluster.client_at(ClientFile::Operator, asked).await.map_err(|error| error.to_string())?;
    let status = operator.operations().status_of(asked).await.map_err(|error| error.to_string())?;
    Ok(status.members.iter().any(|one| one.name == member && one.reachable))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_right_name_with_another_key_is_nobody() {
    let mut world = World::start(2, 1).await;
    let status = world.operator.operations().status().await.unwrap();
    let id = |name: &str| status.members.iter().find(|member| member.name == name).unwrap().raft_id;
    let cluster_id = status.cluster_id.clone();
    let (from, to) = (id("voter-2"), id("voter-1"));
    // The cluster's own CA signed it: for the right name and role, but for a thief's key.
    let (stolen, _) = new_key(&world, Role::Voter, "voter-2");
    let mut peer = PeerClient::new(raw::channel(stolen.clone(), &world.member("voter-1")));
    let refused = |call: &str, status: Status| {
        assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
        assert!(status.message().contains("another key"), "{call}: {status}");
    };
    let hello = wire::HelloRequest { from, cluster_id: cluster_id.clone(), ..wire::HelloRequest::default() };
    refused("hello", peer.hello(hello).await.unwrap_err());
    let heads = wire::HeadsRequest { from, cluster_id: cluster_id.clone(), after_index: 0 };
    refused("heads", peer.heads(heads).await.unwrap_err());
    let vote = Some(wire::Vote { term: status.term + 10, node_id: from, committed: false });
    let last = Some(wire::LogId { term: status.term + 9, index: 1 << 40 });
    let ask = wire::VoteRequest { from, to, vote, last, cluster_id: cluster_id.clone(), leader_transfer: true };
    refused("vote", peer.vote(ask.clone()).await.unwrap_err());
    let unknown = wire::VoteRequest { from: 99, ..ask };
    let status = peer.vote(unknown).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("no member"), "{status}");
    let ask = wire::RootKeyRequest { name: "voter-2".into(), cluster_id: cluster_id.clone() };
    let status = peer.hand_root_key(ask).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("approved"), "{status}");
    let propose = wire::ProposeRequest { id: 1, command: Bytes::from_static(b"any"), mac: Bytes::new(), epoch: 1 };
    let status = peer.propose(tokio_stream::iter([propose])).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("not a voter"), "{status}");
    // With the approved key the same call is answered.
    let own = raw::node_files(world.cluster.layout(), "voter-2");
    hello_as(&world, own, "voter-2", "voter-1").await.unwrap();

    // Nor is it spoken to: a machine that serves with it stands alone.
    let kept = keep(&world, "voter-2");
    world.cluster.kill("voter-2", Signal::TERM).await.unwrap();
    put_in_place(&world, "voter-2", &stolen);
    world.cluster.restart("voter-2").await.unwrap();
    until("what the impostor says of itself", SOON, async || {
        let operator = world.cluster.client_at(ClientFile::Operator, "voter-2").await.map_err(|e| e.to_string())?;
        let status = operator.operations().status_of("voter-2").await.map_err(|error| error.to_string())?;
        let own = status.members.iter().find(|member| member.name == "voter-2").ok_or("it does not know itself")?;
        let alone = status.members.iter().all(|member| member.name == "voter-2" || !member.reachable);
        match own.trouble.contains("not the one that was approved") && alone {
            true => Ok(()),
            false => Err(format!("alone: {alone}, trouble: {}", own.trouble)),
        }
    })
    .await;
    for other in ["voter-1", "backup-1"] {
        assert_eq!(answers(&world, other, "voter-2").await, Ok(false), "{other} speaks to it");
    }
    world.cluster.kill("voter-2", Signal::TERM).await.unwrap();
    put_in_place(&world, "voter-2", &kept);
    world.cluster.restart("voter-2").await.unwrap();
    world.settled().await;
}

/// Moves a member to a new key; the old files.
async fn renew(world: &World, role: Role, name: &str) -> TlsFiles {
    let kept = keep(world, name);
    let (files, issued) = new_key(world, role, name);
    let Identity { key_sha256, .. } = issued.identity;
    let wanted = if role == Role::Voter { MemberRole::Voter } else { MemberRole::Backup };
    let operations = world.operator.operations();
    let first = operations.approve_next_key(name, wanted, key_sha256).await.unwrap();
    assert_eq!(first.complete, role == Role::Backup, "{first:?}");
    if role == Role::Voter {
        let alone = operations.renew_key(name).await.unwrap().take(usize::MAX).await.unwrap_err();
        assert!(alone.to_string().contains("approved"), "an operator alone is not enough: {alone}");
        let registrar = world.cluster.client(ClientFile::Registrar1).await.unwrap().operations();
        assert!(registrar.approve_next_key(name, wanted, key_sha256).await.unwrap().complete);
    }
    let mut steps = operations.renew_key(name).await.unwrap();
    let mut words = Vec::new();
    let all = async {
        while let Some(step) = steps.next().await {
            let step = step.unwrap().step;
            if step == "waiting for the new key" && !words.contains(&step) {
                // Both keys count now.
                hello_as(world, kept.clone(), name, "voter-2").await.unwrap();
                hello_as(world, files.clone(), name, "voter-2").await.unwrap();
                put_in_place(world, name, &files);
            }
            words.push(step);
        }
    };
    tokio::time::timeout(RENEWED, all).await.unwrap_or_else(|_| panic!("the key of {name} is not renewed"));
    assert_eq!(words.last().map(String::as_str), Some("done"), "{words:?}");
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_its_key_with_its_peoples_approval_and_the_old_key_is_nobodys() {
    let mut world = World::start(3, 1).await;
    let number = world.enrol(1).await;
    world.put(&number, "before").await;
    world.operator.operations().transfer_leader(Some("voter-1")).await.ok();
    until("voter-1 leads", SOON, async || match world.leader().await {
        leader if leader == "voter-1" => Ok(()),
        other => {
            let _ = world.operator.operations().transfer_leader(Some("voter-1")).await;
            Err(format!("{other} leads"))
        }
    })
    .await;
    // One member is away while the leader gets a new key.
    world.cluster.kill("voter-3", Signal::KILL).await.unwrap();
    let process = world.cluster.process_id("voter-1");
    for (role, name) in [(Role::Voter, "voter-1"), (Role::Backup, "backup-1")] {
        let old = renew(&world, role, name).await;
        until("the old key is refused", SOON, async || match hello_as(&world, old.clone(), name, "voter-2").await {
            Err(status) if status.code() == Code::PermissionDenied && status.message().contains("another key") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    world.put(&number, "after").await;
    assert_eq!(world.cluster.process_id("voter-1"), process, "no restart");
    // It meets a leader whose key it has never heard of, and hears of it from a voter that it knows.
    world.cluster.restart("voter-3").await.unwrap();
    world.settled().await;
    // With new connections all around, too.
    for name in ["voter-1", "backup-1"] {
        world.cluster.kill(name, Signal::TERM).await.unwrap();
        world.cluster.restart(name).await.unwrap();
        world.settled().await;
    }
}
