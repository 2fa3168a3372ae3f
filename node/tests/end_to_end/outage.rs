//! An archive whose place is not there: an alarm, a log that is kept up to its cap, a cluster that goes on; and what
//! becomes of it past the cap.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kura_client::{Class, Date, NewRecord, ParticipantNumber, Reach};
use kura_node::raft::codec::decode_log_id;
use rocksdb::{DB, Options};

use super::archive::caught_up;
use super::memory::Made;
use super::world::{CLINIC, HOSPITAL, KURA, SOON, World, folder, quick_segments, set, until};

/// Some snapshots of the log lie below it.
const CAP_MIB: i64 = 24;
const BODY_BYTES: u64 = 1 << 20;

fn kura(arguments: &[&str]) -> Output {
    Command::new(KURA).args(arguments).output().unwrap()
}

fn told(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The last log index that a running node gave up, as far as it is on its disk.
fn purged(data: &Path) -> Result<u64, String> {
    let families = ["default", "meta", "entries"];
    let log = DB::open_cf_for_read_only(&Options::default(), data.join("log/db"), families, false);
    let log = log.map_err(|error| error.to_string())?;
    let meta = log.cf_handle("meta").expect("opened above");
    let found = log.get_cf(meta, b"purged").map_err(|error| error.to_string())?;
    Ok(found.map_or(0, |bytes| decode_log_id(&bytes).unwrap().index))
}

/// Somebody puts a file where the archive was, so that nothing can be written; whoever the tests run as.
fn take_away(archive: &Path) {
    fs::rename(archive, archive.with_extension("away")).unwrap();
    fs::write(archive, "a disk that is not mounted").unwrap();
}

fn put_back(archive: &Path) {
    fs::remove_file(archive).unwrap();
    fs::rename(archive.with_extension("away"), archive).unwrap();
}

async fn write_bodies(world: &World, number: &ParticipantNumber, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
        world.doctor(HOSPITAL).put(number, image).body(Made::noise(seed, BODY_BYTES)).await.unwrap();
    }
}

/// The backup says what is wrong, and whoever asks for the status is alarmed.
async fn is_alarmed(world: &World) {
    let operations = world.operator.operations();
    until("trouble and an alarm", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        let backup = status.members.iter().find(|member| member.name == "backup-1").unwrap();
        let alarmed = status.alarms.iter().any(|alarm| alarm.contains("the archive"));
        match alarmed && backup.trouble.contains("its archive:") {
            true => Ok(()),
            false => Err(format!("{:?} {:?}", status.alarms, backup.trouble)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_up_to_its_cap_nothing_blocks_and_a_gap_is_named() {
    let mut world = World::configured(1, 1, |table| {
        set(table, "retention", "snapshot_every_mib", 1);
        set(table, "retention", "log_max_mib", CAP_MIB);
        set(table, "alarm", "archive_seconds_max", 2);
        quick_segments(table);
    })
    .await;
    let layout = world.cluster.layout().clone();
    let (archive, data) = (layout.archive("backup-1"), layout.node_data("backup-1"));
    let operations = world.operator.operations();
    let committed = async || operations.status().await.unwrap().committed_index;
    let number = world.enrol(1).await;
    caught_up(&world, committed().await).await;

    // Below the cap, with snapshots past the archive's end: nothing is lost.
    take_away(&archive);
    write_bodies(&world, &number, 0..6).await;
    is_alarmed(&world).await;
    // The backup follows as ever: what waits for it is not held up.
    let revoked = world.person(number).revoke(CLINIC).await.unwrap();
    assert_eq!(revoked.reach(), Reach::BeyondPrefecture, "{revoked:?}");
    put_back(&archive);
    caught_up(&world, committed().await).await;
    let scratch = folder();
    let verify = |scratch: &Path| {
        kura(&[
            "archive",
            "verify",
            archive.to_str().unwrap(),
            "--level",
            "replay",
            "--json",
            "--scratch",
            scratch.to_str().unwrap(),
        ])
    };
    let found = told(&verify(scratch.path()));
    assert!(found["holes"].as_array().unwrap().is_empty() && found["generations"] == 1, "{found}");
    until("no alarm", SOON, async || {
        let alarms = operations.status().await.map_err(|error| error.to_string())?.alarms;
        if alarms.iter().any(|alarm| alarm.contains("the archive")) { Err(format!("{alarms:?}")) } else { Ok(()) }
    })
    .await;

    // Past the cap: the log goes on without the archive, and the cluster with it.
    let end = caught_up(&world, committed().await).await.index;
    take_away(&archive);
    let mut seeds = 100..100 + 2 * CAP_MIB as u64;
    let end = until("a log that was given up beyond the archive's end", 4 * SOON, async || {
        let seed = seeds.next().unwrap_or(100);
        write_bodies(&world, &number, seed..seed + 1).await;
        let purged = purged(&data)?;
        if purged > end { Ok(end) } else { Err(format!("purged up to {purged}, archived up to {end}")) }
    })
    .await;
    is_alarmed(&world).await;
    let granted = world.person(number).grant(CLINIC).await;
    assert!(granted.is_ok(), "{granted:?}");
    put_back(&archive);
    caught_up(&world, committed().await).await;
    let said = fs::read_to_string(layout.node_log("backup-1")).unwrap();
    assert!(said.contains("the Raft log is over its cap") && said.contains("has a hole before it"), "nothing was said");
    world.cluster.stop().await.unwrap();

    let verified = verify(scratch.path());
    let found = told(&verified);
    assert!(verified.status.success(), "{found}");
    let holes = found["holes"].as_array().unwrap();
    assert_eq!((holes.len(), &found["generations"]), (1, &2.into()), "{found}");
    // The writer may have sent what lay ready before the place was taken away.
    let (first, last) = (holes[0]["first"].as_u64().unwrap(), holes[0]["last"].as_u64().unwrap());
    assert!(first > end && last > first + CAP_MIB as u64 / 2, "{found} {end}");
    let from = archive.to_str().unwrap();
    let within = kura(&["restore", "plan", "--from", from, "--to-index", &(first + 1).to_string()]);
    let words = String::from_utf8_lossy(&within.stderr).into_owned();
    assert!(within.status.code() == Some(4) && words.contains("were never archived"), "{words}");
    for index in [first - 1, last] {
        let planned = kura(&["restore", "plan", "--from", from, "--to-index", &index.to_string(), "--json"]);
        let plan = told(&planned);
        assert!(planned.status.success() && plan["never_archived"][0][0] == first, "{plan}");
    }
}
