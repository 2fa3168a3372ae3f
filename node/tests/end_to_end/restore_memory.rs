//! A restore takes the same memory for a small archive as for one four times its size.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kura_client::{Class, Date, NewRecord, ParticipantNumber};

use super::archive::caught_up;
use super::memory::Made;
use super::world::{DISK, HOSPITAL, KURA, World, folder, quick_segments};

/// Size of the small archive in MiB, if not told by [`SIZE`].
const SMALL_MIB: u64 = 24;
/// Environment variable that tells another size: 100 for the figures in the documentation.
const SIZE: &str = "KURA_RESTORE_MIB";
const LARGER: u64 = 4;
/// What the larger restore may take more, in KiB: caches that the small one does not fill.
const SLACK_KIB: u64 = 48 << 10;
const BODY_BYTES: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(2);

async fn write(world: &World, number: &ParticipantNumber, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
        world.doctor(HOSPITAL).put(number, image).body(Made::noise(seed, BODY_BYTES)).await.unwrap();
    }
    caught_up(world, world.operator.operations().status().await.unwrap().committed_index).await;
}

/// The most memory that a restore took, in KiB, the bytes that it read, and the time.
fn restore(world: &World) -> (u64, u64, Duration) {
    let layout = world.cluster.layout();
    let into = folder();
    let began = Instant::now();
    let mut child = Command::new(KURA)
        .args(["--json", "restore", "apply", "--without-head", "a measurement"])
        .args(["--not-fenced", "it is never served", "--from"])
        .arg(layout.archive("backup-1"))
        .arg("--into")
        .arg(into.path().join("data"))
        .arg("--config")
        .arg(layout.node_config("voter-1"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        // Of a process that has just ended there is no figure any more.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let found = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak_kib = found.unwrap_or(0).max(peak_kib);
        std::thread::sleep(LOOK);
    }
    let took = began.elapsed();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (peak_kib, report["bytes"].as_u64().unwrap(), took)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_times_the_archive_takes_no_more_memory() {
    let _disk = DISK.lock().await;
    let small_mib = std::env::var(SIZE).map_or(SMALL_MIB, |text| text.parse().unwrap());
    let world = World::configured(1, 1, quick_segments).await;
    let number = world.enrol(1).await;
    write(&world, &number, 0..small_mib).await;
    let (small_kib, small_bytes, small_took) = tokio::task::block_in_place(|| restore(&world));
    write(&world, &number, small_mib..LARGER * small_mib).await;
    let (large_kib, large_bytes, large_took) = tokio::task::block_in_place(|| restore(&world));
    for (kib, bytes, took) in [(small_kib, small_bytes, small_took), (large_kib, large_bytes, large_took)] {
        println!("{} MiB restored in {took:.1?}, {} MiB of memory at most", bytes >> 20, kib >> 10);
    }
    assert!(large_bytes > (LARGER - 1) * small_bytes && small_kib > 0, "{small_bytes} {large_bytes}");
    assert!(large_kib < small_kib + SLACK_KIB, "{small_kib} KiB, and {large_kib} KiB for {LARGER} times as much");
}
