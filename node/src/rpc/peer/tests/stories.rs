//! What must come out well.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::cluster::{CLUSTER_ID, Channels, Node, PATIENCE, mark, strangers, three, unite};
use super::line::Line;
use super::storage::FILE_BYTES;
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::gate::Standing;
use crate::raft::types::{LogId, Member, Vote};
use crate::raft::wire::{self, Envelope};
use crate::snapshot::{PIECE_BYTES, Phase, SendError, SnapshotSender};

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_reach_everyone_in_order_and_marks_ride_along() {
    let nodes = three().await;
    let mut expected = Vec::new();
    let mut last = 0;
    for number in 0..40 {
        // More than may be in flight, and commands of very different sizes.
        let bytes = if number % 4 == 0 { 1 << 20 } else { 10 };
        let mut command = format!("command {number} ").into_bytes();
        command.resize(bytes.max(command.len()), b'.');
        expected.push(Bytes::copy_from_slice(&command[..command.len().min(100)]));
        last = nodes[0].write(command).await;
    }
    for node in &nodes {
        node.applied(last).await;
        assert!(node.commands() == expected, "node {}", node.id);
    }
    let leaders = nodes[0].marks.kept.lock().unwrap().clone();
    assert_eq!(leaders, BTreeMap::from([(2, mark(2)), (3, mark(3))]));
    assert_eq!(*nodes[1].marks.kept.lock().unwrap(), BTreeMap::from([(1, mark(1))]));

    nodes[0].raft.trigger().transfer_leader(2).await.unwrap();
    nodes[1].raft.wait(Some(PATIENCE)).current_leader(2, "handed over").await.unwrap();
    let last = nodes[1].write("after").await;
    for node in &nodes {
        node.applied(last).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_line_is_mended_and_nothing_is_lost() {
    let nodes = strangers().await;
    let line = Line::to(nodes[1].address).await;
    nodes[0].channels.detours.lock().unwrap().insert(("n2".into(), Lane::Append), line.address);
    // Without the third, every write needs the second.
    nodes[2].gate.set_space_spent(true);
    unite(&nodes).await;
    for round in 0..5 {
        line.budget.store(100_000, Ordering::SeqCst);
        for number in 0..10 {
            let mut command = format!("{round} {number} ").into_bytes();
            command.resize(30_000, b'.');
            nodes[0].write(command).await;
        }
        assert_eq!(line.cuts.load(Ordering::SeqCst), round + 1);
    }
    let last = nodes[0].write("end").await;
    nodes[1].applied(last).await;
    assert!(nodes[1].commands() == nodes[0].commands());
    assert_eq!(nodes[0].commands().len(), 51);
    assert!(nodes[2].commands().is_empty());
    nodes[2].gate.set_space_spent(false);
    nodes[2].applied(last).await;
}

/// Has the leader build a snapshot and drop the log that it covers. The index of its last entry.
async fn only_a_snapshot_is_left(leader: &Node) -> u64 {
    for number in 0..20 {
        leader.write(format!("command {number}")).await;
    }
    let last = leader.write("last").await;
    leader.applied(last).await;
    leader.raft.trigger().snapshot().await.unwrap();
    let covers = |id: Option<LogId>| id.is_some_and(|id| id.index >= last);
    let wait = || leader.raft.wait(Some(PATIENCE));
    wait().metrics(|m| covers(m.snapshot), "built").await.unwrap();
    leader.raft.trigger().purge_log(last).await.unwrap();
    wait().metrics(|m| covers(m.purged), "purged").await.unwrap();
    last
}

fn add_learner(leader: &Node, learner: &Node) -> JoinHandle<()> {
    let (raft, id, member) = (leader.raft.clone(), learner.id, learner.member());
    tokio::spawn(async move { raft.add_learner(id, member, true).await.map(drop).unwrap() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_where_it_was_cut() {
    let nodes = three().await;
    let leader = &nodes[0];
    let last = only_a_snapshot_is_left(leader).await;
    let learner = Node::start(4).await;
    let line = Line::to(learner.address).await;
    let bulk = ("n4".to_owned(), Lane::Bulk);
    leader.channels.detours.lock().unwrap().insert(bulk, line.address);
    line.budget.store(2_000_000, Ordering::SeqCst);
    let adding = add_learner(leader, &learner);
    until("the first cut", || line.cuts.load(Ordering::SeqCst) == 1).await;
    line.budget.store(2_500_000, Ordering::SeqCst);
    until("the second cut", || line.cuts.load(Ordering::SeqCst) == 2).await;
    adding.await.unwrap();
    learner.applied(last).await;

    assert!(learner.commands() == leader.commands());
    let state = learner.state.lock().unwrap().clone();
    assert_eq!(state.installed, 1);
    // What was on its way when the line broke is sent again: for each cut a piece that had not wholly
    // arrived, and what lay in the sockets.
    let carried = line.carried.load(Ordering::SeqCst);
    let whole = 2 * FILE_BYTES as u64;
    let most = whole + 2 * (PIECE_BYTES as u64 + (512 << 10));
    assert!((whole..most).contains(&carried), "{carried} bytes for {whole}");
    until("nothing is under way", || leader.transfers.all().is_empty()).await;
    let incoming = learner.directory.path().join("incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
    let after = leader.write("after").await;
    learner.applied(after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_rots_after_it_was_hashed_is_not_taken_over() {
    let nodes = three().await;
    let leader = &nodes[0];
    let last = only_a_snapshot_is_left(leader).await;
    let file = leader.directory.path().join(format!("built-{last}")).join("000002.sst");
    leader.hashes.of(&file).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let good = std::fs::read(&file).unwrap();
    let put = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    };
    let mut bad = good.clone();
    bad[FILE_BYTES - 1] ^= 1;
    put(&bad);
    let learner = Node::start(4).await;
    let snapshot = leader.raft.get_snapshot().await.unwrap().unwrap().snapshot;
    let sender = SnapshotSender {
        client: client("n1/voter", &learner.member()),
        envelope: Envelope { from: 1, to: 4, cluster_id: Bytes::from_static(&CLUSTER_ID) },
        vote: leader.raft.metrics().borrow_watched().vote,
        transfers: leader.transfers.clone(),
        hashes: leader.hashes.clone(),
        heads: Default::default(),
    };
    // The receiver finds it, and the sender finds that it is its own disk's fault.
    let refused = sender.send(&snapshot).await.unwrap_err();
    assert!(matches!(&refused, SendError::Rotten(name) if name.as_str() == "000002.sst"), "{refused}");
    assert_eq!(leader.transfers.all()[&4].phase, Phase::Interrupted);
    assert_eq!(learner.state.lock().unwrap().installed, 0);
    put(&good);
    add_learner(leader, &learner).await.unwrap();
    learner.applied(last).await;
    assert_eq!(learner.state.lock().unwrap().installed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_noticed_and_takes_no_part_any_more() {
    let nodes = three().await;
    let last = nodes[0].write("before").await;
    nodes[1].applied(last).await;
    // As if the second node's disk had gone back to an older state.
    nodes[0].marks.kept.lock().unwrap().insert(2, mark(2));
    *nodes[1].marks.own.lock().unwrap() = mark(1);
    let mut standing = nodes[1].gate.standing();
    nodes[0].write("noticed").await;
    let lost = standing.wait_for(|standing| *standing == Standing::Lost);
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    let last = nodes[0].write("without it").await;
    nodes[2].applied(last).await;
    assert!(nodes[1].commands().len() < 3);
}

/// After a power cut the file of the marks is up to a second older than the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_held_what_was_promised_when_it_was_opened_lost_nothing() {
    let nodes = three().await;
    let last = nodes[0].write("before").await;
    nodes[1].applied(last).await;
    nodes[0].marks.kept.lock().unwrap().insert(2, mark(9));
    *nodes[1].marks.opened.lock().unwrap() = mark(9);
    *nodes[1].marks.own.lock().unwrap() = mark(1);
    let last = nodes[0].write("after").await;
    nodes[1].applied(last).await;
    assert_eq!(*nodes[1].gate.standing().borrow(), Standing::Open);
}

fn client(agent: &str, member: &Member) -> PeerClient<Channel> {
    PeerClient::new(Channels::of(agent).channel(member, Lane::Control).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_stands_before_every_call() {
    let nodes = three().await;
    let member = nodes[1].member();
    let cluster_id = Bytes::from_static(&CLUSTER_ID);
    let vote = Some(wire::put_vote(&Vote::new_committed(99, 3)));
    let append = v1::AppendRequest { from: 3, to: 2, cluster_id: cluster_id.clone(), vote, ..Default::default() };
    let candidate = v1::VoteRequest {
        from: 3,
        to: 2,
        cluster_id: cluster_id.clone(),
        vote: Some(wire::put_vote(&Vote::new(99, 3))),
        ..Default::default()
    };
    let offer = v1::SnapshotOffer { from: 3, to: 2, cluster_id: cluster_id.clone(), vote, ..Default::default() };
    let install = v1::InstallRequest { from: 3, to: 2, cluster_id: cluster_id.clone(), vote, ..Default::default() };
    let transfer = v1::TransferRequest {
        from: 3,
        to: 2,
        cluster_id: cluster_id.clone(),
        vote,
        successor: 2,
        ..Default::default()
    };
    let hello = v1::HelloRequest { from: 3, cluster_id: cluster_id.clone(), ..Default::default() };
    let key = v1::RootKeyRequest { name: "n3".into(), cluster_id: cluster_id.clone() };
    let join = v1::JoinRequest { name: "n3".into() };

    // Every call, as a stranger, an application, a revoked node and a backup makes it.
    for (agent, expected) in [
        ("tonic", Code::Unauthenticated),
        ("n3/application", Code::PermissionDenied),
        ("revoked/voter", Code::Unauthenticated),
        ("n3/backup", Code::PermissionDenied),
    ] {
        let mut client = client(agent, &member);
        let stream = |message: v1::AppendRequest| tokio_stream::iter([message]);
        let mut codes: Vec<(&str, Result<(), Status>)> = Vec::new();
        let appended = match client.append(stream(append.clone())).await {
            Ok(replies) => replies.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        codes.push(("append", appended));
        codes.push(("vote", client.vote(candidate.clone()).await.map(drop)));
        codes.push(("pre-vote", client.pre_vote(candidate.clone()).await.map(drop)));
        codes.push(("transfer", client.transfer_leader(transfer.clone()).await.map(drop)));
        codes.push(("offer", client.offer_snapshot(offer.clone()).await.map(drop)));
        let piece = tokio_stream::iter([v1::SnapshotPiece::default()]);
        codes.push(("pieces", client.send_snapshot(piece).await.map(drop)));
        codes.push(("install", client.install_snapshot(install.clone()).await.map(drop)));
        codes.push(("propose", client.propose(tokio_stream::iter([])).await.map(drop)));
        codes.push(("key", client.hand_root_key(key.clone()).await.map(drop)));
        if !agent.ends_with("backup") {
            codes.push(("hello", client.hello(hello.clone()).await.map(drop)));
            codes.push(("join", client.join(join.clone()).await.map(drop)));
        }
        for (call, result) in codes {
            assert_eq!(result.unwrap_err().code(), expected, "{call} as {agent}");
        }
    }
    assert!(nodes[1].raft.metrics().borrow_watched().current_term < 99);

    // The same calls as the voter that it says it is.
    let mut voter = client("n3/voter", &member);
    assert_eq!(voter.hello(hello).await.unwrap().into_inner().node_id, 3);
    assert!(voter.hand_root_key(key).await.is_ok());
    let other = v1::RootKeyRequest { name: "n1".into(), cluster_id: cluster_id.clone() };
    assert_eq!(voter.hand_root_key(other).await.unwrap_err().code(), Code::PermissionDenied);
    let elsewhere = v1::RootKeyRequest { name: "n3".into(), cluster_id: Bytes::from_static(&[8; 16]) };
    assert_eq!(voter.hand_root_key(elsewhere).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(voter.join(join).await.unwrap().into_inner().raft_id, 9);
    let mut proposals = voter.propose(tokio_stream::iter([])).await.unwrap().into_inner();
    assert_eq!(proposals.message().await.unwrap().unwrap().id, 3);
    // A message that makes no sense is refused, and not openraft's assertion.
    assert_eq!(voter.offer_snapshot(offer).await.unwrap_err().code(), Code::InvalidArgument);
    let own_vote = v1::VoteRequest { vote, ..candidate };
    assert_eq!(voter.vote(own_vote).await.unwrap_err().code(), Code::InvalidArgument);
    let nobody = v1::AppendRequest { vote: None, ..append };
    let mut replies = voter.append(tokio_stream::iter([nobody])).await.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap_err().code(), Code::InvalidArgument);
}
