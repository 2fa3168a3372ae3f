//! Low disk space: writes are refused by name, reads go on, the leader hands over, all without a restart.

use std::fs::{self, File};
use std::time::Duration;

use kura_client::wire::records_client::RecordsClient;
use kura_client::{PutError, Reason};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tonic::Code;

use super::raw;
use super::world::{CLINIC, DISK, HOSPITAL, SOON, World, configure, listed, note, set, until};

/// Between the mark and the free space at the start: what else uses this disk does not use so much.
const MARGIN_MIB: u64 = 2 << 10;
/// Enough to get below the mark, whatever else is deleted meanwhile.
const FILLING_MIB: u64 = 2 * MARGIN_MIB;

fn free_mib(path: &std::path::Path) -> u64 {
    let stat = statvfs(path).unwrap();
    (stat.f_bavail * stat.f_frsize) >> 20
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_mark_writes_are_refused_and_reads_go_on() {
    let mut world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "written in time").await;
    let mark = i64::try_from(free_mib(world.cluster.layout().directory()) * 2).unwrap();
    configure(&world.cluster, "voter-1", |table| set(table, "space", "low_mib", mark));
    world.cluster.restart("voter-1").await.unwrap();

    // A sole voter without space leads all the same: nobody else can let reads go on.
    let read = until("a read", SOON, async || {
        let read = world.doctor(CLINIC).get(&number, record).await.map_err(|error| error.to_string())?;
        read.bytes().await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(read, "written in time");
    assert_eq!(listed(&world.doctor(CLINIC), &number).await.len(), 1);
    let mut records = RecordsClient::new(raw::application(&world));
    let status = records.put_whole(raw::put_whole(HOSPITAL, &number)).await.unwrap_err();
    let detail = raw::detail(&status);
    assert_eq!((status.code(), detail.kind.as_str(), detail.committed), (Code::ResourceExhausted, "low-space", 1));
    assert!(status.message().contains(&format!("{mark} MiB")), "{status}");
    for put in [
        world.doctor(HOSPITAL).put(&number, note()).bytes("short"),
        world.doctor(HOSPITAL).put(&number, note()).bytes(vec![7; 3 << 20]),
    ] {
        match put.await.unwrap_err() {
            PutError::Later(later) => assert_eq!(later.reason(), Reason::LowSpace),
            other => panic!("{other}"),
        }
    }
    let status = world.operator.operations().status().await.unwrap();
    assert!(status.members[0].trouble.contains("MiB are free"), "{:?}", status.members[0].trouble);
    assert_eq!(listed(&world.doctor(CLINIC), &number).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_runs_short_of_space_hands_over_and_recovers_without_a_restart() {
    let _disk = DISK.lock().await;
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let directory = world.cluster.layout().directory().to_owned();
    let free = free_mib(&directory);
    assert!(free > FILLING_MIB + 1024, "{free} MiB free are too few for this test: it takes {FILLING_MIB}");
    let mark = i64::try_from(free - MARGIN_MIB).unwrap();
    configure(&world.cluster, "voter-1", |table| set(table, "space", "low_mib", mark));
    world.cluster.restart("voter-1").await.unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();
    // It may stand only once it has caught up and looked around.
    until("voter-1 to lead", SOON, async || {
        if world.leader().await == "voter-1" {
            return Ok(());
        }
        let handed = world.operator.operations().transfer_leader(Some("voter-1")).await;
        handed.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let only = world.doctor_at("voter-1", HOSPITAL).await;
    let record = only.put(&number, note()).bytes("while there is space").await.unwrap().record();

    let filling = directory.join("filling");
    let file = File::create(&filling).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, FILLING_MIB << 20).unwrap();
    until("another leader", SOON, async || match world.leader().await {
        leader if leader != "voter-1" => Ok(()),
        leader => Err(format!("{leader} still leads")),
    })
    .await;
    // Through the others everything goes on; the full one lets reads go on.
    world.doctor(HOSPITAL).put(&number, note()).bytes("by way of another").await.unwrap();
    match only.put(&number, note()).bytes("no space").await.unwrap_err() {
        PutError::Later(later) => assert_eq!(later.reason(), Reason::LowSpace),
        other => panic!("{other}"),
    }
    let process = world.cluster.process_id("voter-1");

    drop(file);
    fs::remove_file(&filling).unwrap();
    until("a write through voter-1", SOON, async || {
        let put = only.put(&number, note()).bytes("space again").time_limit(Duration::from_secs(2)).await;
        put.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(only.get(&number, record).await.unwrap().bytes().await.unwrap(), "while there is space");
    assert_eq!(world.cluster.process_id("voter-1"), process, "no restart");
    world.settled().await;
}
