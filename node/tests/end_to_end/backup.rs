//! The backup member: follows, proves, holds no key, never leads; and what waits for it.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_client::wire::operations_client::OperationsClient;
use kura_client::wire::peer_client::PeerClient;
use kura_client::{GetError, OperationError, Outcome, Reach, wire};
use kura_node::dev::{ClientFile, Signal};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use super::raw;
use super::world::{CLINIC, HOSPITAL, SOON, World, leader_of, until};

/// Several election timeouts, of 1.8 s at most.
const ELECTIONS: Duration = Duration::from_secs(6);
/// How long a restrictive command waits for the backup.
const REACH_LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn it_cannot_be_made_to_lead_and_serves_no_record_when_it_is_alone() {
    let mut world = World::start(2, 1).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "kept").await;
    let layout = world.cluster.layout().clone();

    let status = world.settled().await;
    let backup = status.members.iter().find(|member| member.name == "backup-1").unwrap();
    assert!(backup.role == 2 && !backup.unsealed && backup.reachable, "{backup:?}");
    assert!(status.members.iter().filter(|member| member.role == 1).all(|member| member.unsealed));
    assert!(!layout.root_key("backup-1").exists());
    let keys: Vec<Vec<u8>> = ["voter-1", "voter-2"].map(|name| fs::read(layout.root_key(name)).unwrap()).into();
    assert_eq!(keys[0], keys[1]);

    let refused = world.operator.operations().transfer_leader(Some("backup-1")).await.unwrap_err();
    assert!(matches!(&refused, OperationError::Invalid(why) if why.to_string().contains("backup")), "{refused}");
    assert_ne!(world.leader().await, "backup-1");

    for voter in world.voters() {
        world.cluster.kill(&voter, Signal::KILL).await.unwrap();
    }
    let doctor = world.doctor_at("backup-1", CLINIC).await;
    let operator = world.cluster.client_at(ClientFile::Operator, "backup-1").await.unwrap();
    let end = Instant::now() + ELECTIONS;
    let mut looks = 0;
    while Instant::now() < end {
        let status = operator.operations().status_of("backup-1").await.unwrap();
        assert_ne!(leader_of(&status).as_deref(), Some("backup-1"), "{status:?}");
        let read = doctor.get(&number, record).time_limit(Duration::from_millis(500)).await;
        assert!(matches!(read, Err(GetError::Later(_))), "{read:?}");
        looks += 1;
    }
    assert!(looks >= 3, "only {looks} looks");
}

fn not_from_a_backup(call: &str, status: &Status) {
    assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
    assert!(status.message().contains("not from a backup"), "{call}: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_certificate_can_neither_vote_append_propose_nor_fetch_the_root_key() {
    let world = World::start(1, 1).await;
    let voter = world.member("voter-1");
    let status = world.operator.operations().status().await.unwrap();
    let id = |name: &str| status.members.iter().find(|member| member.name == name).unwrap().raft_id;
    let cluster_id = status.cluster_id.clone();
    let (to, backup) = (id("voter-1"), id("backup-1"));
    let stolen = raw::channel(raw::node_files(world.cluster.layout(), "backup-1"), &voter);
    let mut peer = PeerClient::new(stolen);

    // It may say that it is there: so the certificate is good and the messages are well formed.
    let hello = wire::HelloRequest { from: backup, cluster_id: cluster_id.clone(), ..wire::HelloRequest::default() };
    peer.hello(hello).await.unwrap();

    // Under its own id, and under the leader's.
    for from in [backup, to] {
        let vote = Some(wire::Vote { term: status.term + 10, node_id: from, committed: false });
        let last = Some(wire::LogId { term: status.term + 9, index: 1 << 40 });
        let ask = wire::VoteRequest { from, to, vote, last, cluster_id: cluster_id.clone(), leader_transfer: true };
        not_from_a_backup("vote", &peer.vote(ask.clone()).await.unwrap_err());
        not_from_a_backup("pre-vote", &peer.pre_vote(ask).await.unwrap_err());
        let leads = Some(wire::Vote { term: status.term + 10, node_id: from, committed: true });
        let append = wire::AppendRequest {
            from,
            to,
            vote: leads,
            cluster_id: cluster_id.clone(),
            ..wire::AppendRequest::default()
        };
        let mut replies = peer.append(tokio_stream::iter([append])).await.unwrap().into_inner();
        not_from_a_backup("append", &replies.next().await.unwrap().unwrap_err());
        let transfer =
            wire::TransferRequest { from, to, cluster_id: cluster_id.clone(), vote: leads, successor: backup, last };
        not_from_a_backup("transfer", &peer.transfer_leader(transfer).await.unwrap_err());
        let offer = wire::SnapshotOffer {
            from,
            to,
            cluster_id: cluster_id.clone(),
            vote: leads,
            manifest: Bytes::from_static(b"any"),
            heads: Vec::new(),
        };
        not_from_a_backup("offer", &peer.offer_snapshot(offer).await.unwrap_err());
        let install = wire::InstallRequest {
            from,
            to,
            cluster_id: cluster_id.clone(),
            vote: leads,
            snapshot_id: Bytes::from_static(&[1; 32]),
        };
        not_from_a_backup("install", &peer.install_snapshot(install).await.unwrap_err());
    }
    let propose = wire::ProposeRequest { id: 1, command: Bytes::from_static(b"any"), mac: Bytes::new(), epoch: 1 };
    not_from_a_backup("propose", &peer.propose(tokio_stream::iter([propose])).await.unwrap_err());
    let piece = wire::SnapshotPiece::default();
    not_from_a_backup("pieces", &peer.send_snapshot(tokio_stream::iter([piece])).await.unwrap_err());
    for name in ["backup-1", "voter-1"] {
        let ask = wire::RootKeyRequest { name: name.into(), cluster_id: cluster_id.clone() };
        not_from_a_backup("root key", &peer.hand_root_key(ask).await.unwrap_err());
    }
    // A voter's certificate without an approval gets no key either.
    let authority = raw::authority(&world.cluster);
    let now = time::OffsetDateTime::now_utc();
    let who = (kura_node::certificates::Role::Voter, "voter-9");
    let (files, _) = raw::issue(&world.cluster, &authority, who, 30, now);
    let mut stranger = PeerClient::new(raw::channel(files, &voter));
    let ask = wire::RootKeyRequest { name: "voter-9".into(), cluster_id: cluster_id.clone() };
    let status = stranger.hand_root_key(ask).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("approved"), "{status}");
    let propose = wire::ProposeRequest { id: 1, command: Bytes::from_static(b"any"), mac: Bytes::new(), epoch: 1 };
    let status = stranger.propose(tokio_stream::iter([propose])).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("not a voter"), "{status}");

    // Nothing of it moved the cluster.
    let operator = raw::client_files(world.cluster.layout(), ClientFile::Operator);
    let mut operations = OperationsClient::new(raw::channel(operator, &voter));
    let after = operations.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((after.term, after.leader_id), (status_term(&world).await, to));
}

async fn status_term(world: &World) -> u64 {
    world.operator.operations().status().await.unwrap().term
}

#[tokio::test(flavor = "multi_thread")]
async fn restrictive_commands_say_how_far_they_have_got() {
    let mut world = World::start(1, 1).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "to be hidden").await;
    let (person, hospital) = (world.person(number), world.doctor(HOSPITAL));

    assert_eq!(person.revoke(CLINIC).await.unwrap().reach(), Reach::BeyondPrefecture);
    assert_eq!(hospital.hide(&number, record).await.unwrap().reach(), Reach::BeyondPrefecture);
    assert_eq!(hospital.unhide(&number, record).await.unwrap().reach(), Reach::NotAwaited);
    assert_eq!(person.grant(CLINIC).await.unwrap().reach(), Reach::NotAwaited);
    let put = hospital.put(&number, super::world::note()).bytes("far").beyond_prefecture();
    assert_eq!(put.await.unwrap().reach(), Reach::BeyondPrefecture);
    // A version for fewer is a narrowing; one that says nothing of addressees is not.
    let version = |note: kura_client::NewRecord| hospital.put(&number, note.version_of(record)).bytes("again");
    assert_eq!(version(super::world::note()).await.unwrap().reach(), Reach::NotAwaited);
    let narrower = super::world::note().addressees([HOSPITAL, CLINIC]);
    assert_eq!(version(narrower).await.unwrap().reach(), Reach::BeyondPrefecture);

    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    let began = Instant::now();
    let revoked = person.revoke(CLINIC).await.unwrap();
    assert_eq!(revoked.reach(), Reach::NotYetBeyond);
    assert!(began.elapsed() >= REACH_LIMIT - Duration::from_millis(500), "it waited {:?} only", began.elapsed());
    // It is in force all the same.
    let read = world.doctor(CLINIC).get(&number, record).await;
    assert!(matches!(read, Err(GetError::Denied(_))), "{read:?}");
    let narrowed = hospital.narrow(&number, record, [HOSPITAL]).await.unwrap();
    assert_eq!(narrowed.reach(), Reach::NotYetBeyond);

    world.cluster.restart("backup-1").await.unwrap();
    for earlier in [revoked, narrowed] {
        until("beyond the prefecture", SOON, async || {
            match world.application.outcome(earlier.request()).await.map_err(|error| error.to_string())? {
                Outcome::Committed(later) if later.reach() == Reach::BeyondPrefecture => {
                    assert_eq!((later.index(), later.record()), (earlier.index(), earlier.record()));
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    assert_eq!(person.withdraw().await.unwrap().reach(), Reach::BeyondPrefecture);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_backup_in_the_membership_nobody_waits() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let began = Instant::now();
    assert_eq!(world.person(number).revoke(CLINIC).await.unwrap().reach(), Reach::NoBackup);
    assert_eq!(world.person(number).withdraw().await.unwrap().reach(), Reach::NoBackup);
    assert!(began.elapsed() < REACH_LIMIT, "{:?}", began.elapsed());
}
