//! Whoever is no member, and shows a member's certificate: what it is told, and what its claims can do.

use std::fs;

use bytes::Bytes;
use kura_client::wire;
use kura_client::wire::peer_client::PeerClient;
use kura_node::certificates::Role;
use kura_node::dev::{ClientFile, DevError};
use time::OffsetDateTime;

use super::raw;
use super::world::{HOSPITAL, SOON, World, listed, until};

fn hello(from: u64, cluster_id: &Bytes) -> wire::HelloRequest {
    wire::HelloRequest { from, cluster_id: cluster_id.clone(), ..wire::HelloRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_is_told_that_it_is_none_and_nothing_else() {
    let mut world = World::start(1, 1).await;
    let before = world.settled().await;
    let id = before.members.iter().find(|member| member.name == "backup-1").unwrap().raft_id;
    let files = || raw::node_files(world.cluster.layout(), "backup-1");
    let voter = world.member("voter-1");
    let told = PeerClient::new(raw::channel(files(), &voter)).hello(hello(id, &before.cluster_id)).await.unwrap();
    let told = told.into_inner();
    assert!(!told.stranger && told.applied_index > 0 && told.scrub.is_some() && told.disk_bytes > 0, "{told:?}");

    world.operator.operations().remove_member("backup-1", true).await.unwrap();
    let told = until("a reply to a stranger", SOON, async || {
        let asked = PeerClient::new(raw::channel(files(), &voter)).hello(hello(id, &before.cluster_id)).await;
        let told = asked.map_err(|status| status.to_string())?.into_inner();
        if told.stranger { Ok(told) } else { Err("it is told everything".into()) }
    })
    .await;
    assert!(!told.membership.is_empty() && told.node_id != 0 && told.leads == Some(true), "{told:?}");
    let nothing = wire::HelloReply {
        node_id: told.node_id,
        clock_ms: told.clock_ms,
        version: told.version.clone(),
        timeline: told.timeline,
        timeline_certificate: told.timeline_certificate.clone(),
        membership: told.membership.clone(),
        key_sha256: told.key_sha256.clone(),
        term: told.term,
        leads: told.leads,
        stranger: true,
        ..wire::HelloReply::default()
    };
    assert_eq!(told, nothing);

    // It still runs, knows that it was removed, and does not show what it is not told.
    let removed = world.cluster.client_at(ClientFile::Operator, "backup-1").await.unwrap();
    let status = until("it knows", SOON, async || {
        let status = removed.operations().status_of("backup-1").await.map_err(|error| error.to_string())?;
        if status.removed_ms != 0 { Ok(status) } else { Err("it does not".into()) }
    })
    .await;
    let [member] = &status.members[..] else { panic!("{status:?}") };
    assert!(member.leader && member.reachable && member.withheld && member.lag_entries == -1, "{member:?}");
    assert_eq!((member.applied_index, &member.trouble[..]), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_can_check_stops_a_lone_voter_until_people_have_judged_it() {
    let mut world = World::start(1, 0).await;
    let authority = raw::authority(&world.cluster);
    let list = raw::begin_revocation_list(&mut world, "voter-1").await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let cluster_id = world.settled().await.cluster_id;

    // A voter's certificate that people never approved, or do not any more.
    let now = OffsetDateTime::now_utc();
    let (files, issued) = raw::issue(&world.cluster, &authority, (Role::Voter, "voter-9"), 30, now);
    let voter = world.member("voter-1");
    // A mark without a vote, of an entry far beyond the log: term 9, index 2^40.
    let entry = [&[1, 0, 1][..], &9_u64.to_be_bytes(), &(1_u64 << 40).to_be_bytes()].concat();
    let claim = wire::HelloRequest { membership_entry: entry.into(), ..hello(9, &cluster_id) };
    let _ = PeerClient::new(raw::channel(files.clone(), &voter)).hello(claim.clone()).await;
    until("its end", SOON, async || match world.cluster.check() {
        Err(DevError::Ended { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let log = fs::read_to_string(world.cluster.layout().node_log("voter-1")).unwrap();
    for words in ["voter-9, a voter by its certificate", "kura member replace", "kura ca revoke"] {
        assert!(log.contains(words), "{words} is not said: {log}");
    }
    assert!(!world.cluster.layout().node_data("voter-1").join("damaged").exists(), "nothing is proven");

    // People find that it is no voter, and revoke its certificate: the claim is not heard any more.
    authority.update_revocation_list(&list, &[issued.identity.serial.number], 30, now).unwrap();
    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
    assert!(PeerClient::new(raw::channel(files, &voter)).hello(claim).await.is_err());
    assert_eq!(listed(&world.doctor(HOSPITAL), &number).await.len(), 1);
    world.cluster.check().unwrap();
}
