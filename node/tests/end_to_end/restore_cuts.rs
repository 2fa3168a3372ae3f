//! `kura restore apply`, killed at each of its steps and gone on with: nothing that lies there whole is fetched twice,
//! and what comes of it is what comes of a restore that nobody disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kura_client::{Class, Date, NewRecord};
use kura_node::dev::Signal;

use super::archive::{caught_up, files};
use super::memory::Made;
use super::world::{HOSPITAL, KURA, SOON, World, folder, set, until};

const BODY_BYTES: u64 = 2 << 20;
const BODIES: u64 = 10;
const LOOK: Duration = Duration::from_micros(200);

fn apply(from: &Path, to: u64, into: &Path, config: &Path) -> Command {
    let mut command = Command::new(KURA);
    command.args(["--json", "restore", "apply", "--without-head", "a test", "--fenced", "killed", "--from"]).arg(from);
    command.args(["--to-index", &to.to_string(), "--into"]).arg(into).arg("--config").arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn told(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Base files that lie fetched and whole, by their hash.
fn fetched(into: &Path) -> Vec<PathBuf> {
    let found = files(&into.join("restore-work/files"));
    found.into_iter().filter(|path| path.file_name().is_some_and(|name| name.len() == 64)).collect()
}

fn has(into: &Path, name: &str) -> bool {
    into.join("restore-work").join(name).exists()
}

/// Starts it and kills it as soon as a condition holds.
fn kill_when(mut command: Command, what: &str, is: &dyn Fn() -> bool) {
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + SOON;
    while !is() {
        if child.try_wait().unwrap().is_some() {
            panic!("it ended before {what}: {:?}", child.wait_with_output());
        }
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(LOOK);
    }
    child.kill().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it had ended by itself at {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_each_step_goes_on_and_comes_to_the_same() {
    let mut world = World::configured(1, 1, |table| {
        if table.contains_key("archive") {
            set(table, "archive", "segment_seconds", 1);
            set(table, "archive", "base_every_mib", 8);
        }
    })
    .await;
    let layout = world.cluster.layout().clone();
    let archive = layout.archive("backup-1");
    let number = world.enrol(1).await;
    let operations = world.operator.operations();
    let generations = || fs::read_dir(archive.join("manifests")).unwrap().count();
    // Written until a generation begins whose base holds some of it.
    let write_until = async |count: usize, seeds: std::ops::Range<u64>| {
        let mut seeds = seeds;
        until("a further generation", 3 * SOON, async || {
            if let Some(seed) = seeds.next() {
                let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
                let put = world.doctor(HOSPITAL).put(&number, image).body(Made::noise(seed, BODY_BYTES));
                put.await.map_err(|error| error.to_string())?;
            } else {
                world.put(&number, "a little more").await;
            }
            if generations() >= count { Ok(()) } else { Err(format!("{} generations", generations())) }
        })
        .await;
    };
    write_until(2, 0..BODIES).await;
    world.put(&number, "in the second generation").await;
    let target = operations.status().await.unwrap().committed_index;
    caught_up(&world, target).await;
    write_until(3, 100..100 + BODIES).await;
    world.put(&number, "after the moment").await;
    caught_up(&world, operations.status().await.unwrap().committed_index).await;
    for member in ["voter-1", "backup-1"] {
        world.cluster.kill(member, Signal::KILL).await.unwrap();
    }

    let kept = folder();
    let (into, undisturbed) = (kept.path().join("cut"), kept.path().join("undisturbed"));
    let config = layout.node_config("voter-1");
    let expected =
        tokio::task::block_in_place(|| told(&apply(&archive, target, &undisturbed, &config).output().unwrap()));
    let command = || apply(&archive, target, &into, &config);
    tokio::task::block_in_place(|| {
        let is_part = |path: &PathBuf| {
            path.extension().is_some_and(|kind| kind == "part") && fs::metadata(path).is_ok_and(|part| part.len() > 0)
        };
        let is_within_a_file =
            || !fetched(&into).is_empty() && files(&into.join("restore-work/files")).iter().any(is_part);
        kill_when(command(), "a file that is half fetched", &is_within_a_file);
        // What lies there whole is not asked for again: the archive would give something else now.
        let whole = fetched(&into);
        let spoilt: Vec<(PathBuf, Vec<u8>)> = whole.iter().map(|path| spoil(&archive, path)).collect();
        kill_when(command(), "an old state", &|| has(&into, "old"));
        spoilt.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        kill_when(command(), "a base of the newest generation", &|| has(&into, "new"));
        let note = into.join("restore-work/note");
        let merges = || fs::read_to_string(&note).is_ok_and(|text| text.contains("\"merging\": {"));
        kill_when(command(), "the merge", &merges);
        kill_when(command(), "the beginning of the timeline", &|| has(&into, "result"));
    });
    assert!(!into.join("identity").exists(), "nothing is in its place");
    let report = tokio::task::block_in_place(|| told(&command().output().unwrap()));
    for field in ["index", "newest_index", "timeline", "went_back", "kept_newer", "archived_journal_root"] {
        assert_eq!(report[field], expected[field], "{field}");
    }
    let table = |report: &serde_json::Value, name: &str| {
        report["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap().clone()
    };
    for name in ["record", "block", "participant", "participant-key", "record-control"] {
        assert_eq!(table(&report, name), table(&expected, name), "{name}");
    }
    assert!(table(&report, "block")["rows"].as_u64().unwrap() > 2, "{report}");
    let verified = Command::new(KURA)
        .args(["restore", "verify", "--json", "--into"])
        .arg(&into)
        .arg("--root-key")
        .arg(layout.root_key("voter-1"))
        .output()
        .unwrap();
    let found = told(&verified);
    assert!(found["faults"].as_array().unwrap().is_empty() && found["opened_rows"].as_u64().unwrap() > 5, "{found}");
    assert!(!has(&into, ""), "nothing stays of the work");
}

/// Changes an object of the archive, of the hash that a fetched file has; answers what it was.
fn spoil(archive: &Path, fetched: &Path) -> (PathBuf, Vec<u8>) {
    let path = files(&archive.join("files")).into_iter().find(|path| path.file_name() == fetched.file_name());
    let path = path.expect("objects are named by their hash");
    let whole = fs::read(&path).unwrap();
    let mut spoilt = whole.clone();
    spoilt[whole.len() / 2] ^= 1;
    fs::write(&path, spoilt).unwrap();
    (path, whole)
}
