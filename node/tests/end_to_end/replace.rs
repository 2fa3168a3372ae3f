//! A voter whose disk is gone is replaced by a new one, which needs a real snapshot.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{Class, Date, NewRecord};
use kura_node::dev::{ClientFile, Signal};

use rocksdb::{DB, Options};

use super::memory::Made;
use super::world::{CLINIC, HOSPITAL, OUTSIDER, World, note, set, until};

const RECORDS: usize = 3_500;
const AT_ONCE: usize = 48;
const BODY_BYTES: u64 = 2_000;
const IMAGE_BYTES: u64 = 6 << 20;
/// Catching up, with a snapshot.
const REPLACED: Duration = Duration::from_secs(60);

fn database(data: &Path) -> String {
    fs::read_to_string(data.join("state/CURRENT")).unwrap()
}

/// Whether the beginning of a running node's log is gone, so that only a snapshot leads to its state.
pub fn is_purged(data: &Path) -> Result<bool, rocksdb::Error> {
    let families = ["default", "meta", "entries"];
    let log = DB::open_cf_for_read_only(&Options::default(), data.join("log/db"), families, false)?;
    let meta = log.cf_handle("meta").expect("opened above");
    Ok(log.get_cf(meta, b"purged")?.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_without_its_disk_is_replaced_by_one_that_takes_a_snapshot() {
    let tiny = |table: &mut toml::Table| {
        set(table, "retention", "snapshot_every_mib", 1);
        set(table, "retention", "log_max_mib", 1);
    };
    let mut world = World::configured(3, 0, tiny).await;
    let number = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
    let image = hospital.put(&number, image).body(Made::noise(1, IMAGE_BYTES)).await.unwrap().record();
    let records: Vec<_> = stream::iter(0..RECORDS as u64)
        .map(|nth| hospital.put(&number, note()).body(Made::noise(nth, BODY_BYTES)).into_future())
        .buffered(AT_ONCE)
        .map_ok(|receipt| receipt.record())
        .try_collect()
        .await
        .unwrap();
    let leader = world.leader().await;
    let dead = world.voters().into_iter().find(|name| *name != leader).unwrap();
    world.cluster.kill(&dead, Signal::KILL).await.unwrap();
    world.cluster.discard(&dead).await.unwrap();
    let data = world.cluster.layout().node_data(&leader);
    until("a shortened log at the leader", REPLACED, async || match is_purged(&data) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    world.cluster.enlist_voter("voter-4").await.unwrap();
    let operations = world.operator.operations();
    let before = operations.status().await.unwrap();
    let steps = operations.replace_member(&dead, "voter-4").await.unwrap();
    let steps: Vec<_> = tokio::time::timeout(REPLACED, steps.take(usize::MAX)).await.expect("it hangs").unwrap();
    let words: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
    assert!(words.contains(&"catching up") && words.last() == Some(&"done"), "{words:?}");

    // The key comes by a call of its own, from a voter that has seen it approved.
    until("an unsealed voter", REPLACED, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let new = status.members.iter().find(|member| member.name == "voter-4");
        if new.is_some_and(|member| member.unsealed) { Ok(()) } else { Err(format!("{new:?}")) }
    })
    .await;
    // Nobody goes for one that is there already.
    let others: Vec<String> = world.voters().into_iter().filter(|name| name != "voter-4").collect();
    for (old, new) in [("voter-4", "voter-4"), (&others[0][..], &others[1][..])] {
        let steps = operations.replace_member(old, new).await.unwrap();
        let refused = steps.take(usize::MAX).await;
        assert!(refused.is_err(), "{old} by {new}: {refused:?}");
    }
    let status = world.settled().await;
    let mut names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    let mut expected = world.voters();
    expected.sort();
    assert_eq!(names, expected, "the new one is there and the old one gone");
    let new = status.members.iter().find(|member| member.name == "voter-4").unwrap();
    assert!(new.role == 1 && new.unsealed, "{new:?}");
    assert!(before.members.iter().all(|member| member.raft_id != new.raft_id), "an id is used once");
    let installed = database(&world.cluster.layout().node_data("voter-4"));
    // A member begins with the first database, and each snapshot that it installs is the next one.
    assert_ne!(installed.trim(), "database-0", "it took the log alone, no snapshot");
    let told = fs::read_to_string(world.cluster.layout().node_log("voter-4")).unwrap();
    assert!(told.contains("borne out by other members' signed heads"), "the snapshot was taken on the leader's word");

    // It is a voter like any other: it serves, and with one more down the two are a majority.
    let clinic = world.doctor_at("voter-4", CLINIC).await;
    let read = clinic.get(&number, image).await.unwrap().bytes().await.unwrap();
    assert!(read == Made::noise(1, IMAGE_BYTES).gather().await);
    world.cluster.kill(&leader, Signal::KILL).await.unwrap();
    for nth in (0..RECORDS).step_by(RECORDS / 20) {
        let read = clinic.get(&number, records[nth]).await.unwrap().bytes().await.unwrap();
        assert!(read == Made::noise(nth as u64, BODY_BYTES).gather().await, "record {nth}");
    }
    let config = world.cluster.client_config_at(ClientFile::Application, "voter-4").unwrap();
    let only = kura_client::Client::connect(config).await.unwrap();
    super::world::person_through(&only, number).grant(OUTSIDER).await.unwrap();
}
