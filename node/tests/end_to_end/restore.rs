//! A cluster that is gone, every member's directory with it, from its archive: records as they were, everything that
//! restricts as it was last.

mod lost;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use kura_client::keys::Rotation;
use kura_client::operations::MemberRole;
use kura_client::{Class, Date, ErasureState, GetError, NewRecord, RequestId, now_ms};
use kura_node::dev::{ClientFile, Signal};

use super::clock::Clock;
use super::memory::Made;
use super::world::{CLINIC, HOSPITAL, KURA, SOON, World, folder, listed, note, until, versions};

/// One day more than the grace period's default.
const GRACE_OVER_MS: i64 = 31 * 86_400_000;
const BIG: u64 = 3 << 20;

fn restore(arguments: &[&str]) -> Command {
    let mut command = Command::new(KURA);
    command.args(["--json", "restore"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    restore(arguments).stdin(Stdio::null()).output().unwrap()
}

fn told(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

fn request(nth: u64) -> RequestId {
    let born_ms = now_ms().checked_add_signed(GRACE_OVER_MS).unwrap();
    format!("{born_ms:012x}{nth:020x}").parse().unwrap()
}

/// Waits until a restore has replayed everything and asks for shares.
async fn asks_for_shares(child: &mut Child, into: &Path) {
    let note = into.join("restore-work/note");
    until("a replayed state", SOON, async || {
        if let Some(ended) = child.try_wait().unwrap() {
            panic!("it ended: {ended}");
        }
        let text = fs::read_to_string(&note).map_err(|error| error.to_string())?;
        if text.contains("\"merging\": {") { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_any_directory_comes_back_from_its_archive() {
    let clock = Clock::new();
    let mut world = World::run_by(clock.kura("*"), 1, 1).await;
    let layout = world.cluster.layout().clone();
    let (stays, erased, revokes) = (world.enrol(1).await, world.enrol(2).await, world.enrol(3).await);
    let doctor = world.doctor(HOSPITAL);
    let record = world.put(&stays, "first version").await;
    let big = NewRecord::new(Class::Image, "application/dicom", Date::today());
    let big = doctor.put(&stays, big).body(Made::noise(7, BIG)).await.unwrap().record();
    let gone = doctor.put(&erased, note().document_id("doc-1")).bytes("to be erased").await.unwrap().record();
    let seen = world.put(&revokes, "seen until revoked").await;
    world.person(erased).withdraw().await.unwrap();
    world.person(erased).ask_erasure().await.unwrap();
    let registrar = world.cluster.client(ClientFile::Registrar1).await.unwrap().erasures();
    registrar.approve(&erased).await.unwrap();
    let (shares, fingerprint) = world.split("voter-1", "2", "2").await;
    world.confirm(&fingerprint).await;
    let operations = world.operator.operations();
    let target = operations.status().await.unwrap().committed_index;
    let caught_up = async |index: u64| {
        until("an archive that has caught up", SOON, async || {
            let status = operations.status().await.map_err(|error| error.to_string())?;
            let point = status.archive_point.clone().ok_or("no archive point is told")?;
            if point.state == 1 && point.index >= index { Ok(()) } else { Err(format!("{point:?}")) }
        })
        .await;
    };
    caught_up(target).await;

    // What comes after that moment: records, a revocation, new epoch keys, an erasure.
    assert_eq!(doctor.put(&stays, note().version_of(record)).bytes("second version").await.unwrap().version(), 2);
    let later = world.put(&stays, "written later").await;
    world.person(revokes).revoke(CLINIC).await.unwrap();
    // The wrapped keys of then are not those of now: what is restored takes the newest.
    world.rotate(Rotation::Epoch).await;
    world.swept(2, &[1]).await;
    clock.set(GRACE_OVER_MS);
    clock.say_right(&layout, "voter-1");
    until("the sweep", SOON, async || match registrar.show(&erased).await {
        Ok(shown) if shown.erasure.swept_ms != 0 => Ok(()),
        Ok(shown) => Err(format!("{shown:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let kept = folder();
    let head = kept.path().join("head");
    let client = layout.client(ClientFile::Auditor);
    let audit_head = || {
        let ran = Command::new(KURA).args(["audit", "head", "--file"]).arg(&head).arg("--client").arg(&client).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{}", said(&ran));
    };
    audit_head();
    caught_up(operations.status().await.unwrap().committed_index).await;

    // Everything is killed, and every member's directory deleted; what is left of the voter is what a new machine
    // is given: a certificate and a configuration.
    for member in ["voter-1", "backup-1"] {
        world.cluster.kill(member, Signal::KILL).await.unwrap();
    }
    let archive = layout.archive("backup-1");
    let root_key = kept.path().join("root.key");
    fs::rename(layout.root_key("voter-1"), &root_key).unwrap();
    fs::remove_dir_all(layout.node_data("voter-1")).unwrap();
    world.cluster.discard("backup-1").await.unwrap();
    let from = archive.to_str().unwrap();
    let data = layout.node_data("voter-1");
    let into = data.to_str().unwrap();
    let config = layout.node_config("voter-1");
    let config = config.to_str().unwrap();
    let (to, head_file) = (target.to_string(), head.to_str().unwrap());

    let planned = run(&["plan", "--from", from, "--to-index", &to, "--head", head_file, "--into", into]);
    let plan = told(&planned);
    assert!(planned.status.success(), "{}", said(&planned));
    assert_eq!((&plan["index"], &plan["target"]), (&target.into(), &"can be used".into()), "{plan}");
    assert!(plan["newest_index"].as_u64().unwrap() > target && plan["left_out"][0]["table"] == "record", "{plan}");
    assert!(plan["kept_newer"].as_array().unwrap().iter().any(|table| table["table"] == "participant-key"), "{plan}");
    assert!(!data.exists(), "nothing is written");
    // The moment of an entry is that entry.
    let clock_ms = plan["clock_ms"].as_u64().unwrap();
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(clock_ms) * 1_000_000).unwrap();
    let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let by_time = told(&run(&["plan", "--from", from, "--to-time", &at]));
    assert!(by_time["index"].as_u64().unwrap() >= target && by_time["clock_ms"] == clock_ms, "{by_time}");
    assert_eq!(run(&["plan", "--from", from, "--to-index", "0"]).status.code(), Some(4), "before the first base");
    assert_eq!(run(&["plan", "--from", from, "--to-index", "99999999"]).status.code(), Some(4), "after the end");
    let other = run(&["plan", "--from", from, "--cluster", &"5a".repeat(16)]);
    assert!(
        other.status.code() == Some(7) && told(&other)["faults"][0].as_str().unwrap().contains("another cluster's")
    );
    assert_eq!(run(&["apply", "--from", from, "--config", config]).status.code(), Some(2), "neither head nor waiver");

    // Whatever is wrong with an object is named, and nothing is installed.
    let apply = ["apply", "--from", from, "--to-index", &to, "--head", head_file, "--into", into, "--config", config];
    let apply = [&apply[..], &["--open", "writes", "--reason", "fire"]].concat();
    assert!(said(&run(&apply)).contains("--fenced"), "nothing is said of the former members");
    let apply = [&apply[..], &["--fenced", "their disks are gone"]].concat();
    // This machine's clock is a month behind the archive's end.
    let behind = run(&apply);
    assert!(behind.status.code() == Some(2) && said(&behind).contains("--time-is-right"), "{behind:?}");
    let apply = [&apply[..], &["--time-is-right"]].concat();
    let segment = files(&archive.join("segments")).into_iter().next_back().unwrap();
    let whole = fs::read(&segment).unwrap();
    let named = |output: &Output| said(output).contains(segment.file_name().unwrap().to_str().unwrap());
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    let torn = run(&apply);
    assert!(torn.status.code() == Some(7) && named(&torn) && !data.exists(), "{torn:?}");
    fs::remove_file(&segment).unwrap();
    let missing = run(&apply);
    assert!(missing.status.code() == Some(7) && named(&missing) && !data.exists(), "{missing:?}");
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    fs::write(&segment, altered).unwrap();
    // A plan reads no contents, and says so.
    let unread = run(&["plan", "--from", from]);
    assert!(unread.status.success() && told(&unread)["contents_read"] == false, "{unread:?}");
    let shown = Command::new(KURA).args(["restore", "plan", "--from", from]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("what is in the objects: kura archive verify does"),
        "{shown:?}"
    );
    let altered = run(&apply);
    assert!(altered.status.code() == Some(7) && named(&altered), "{altered:?}");
    assert!(!data.join("identity").exists() && !data.join("state").exists(), "nothing is in its place");
    fs::write(&segment, &whole).unwrap();
    let full = run(&[&apply[..7], &["--into", kept.path().to_str().unwrap()], &apply[9..]].concat());
    assert!(full.status.code() == Some(8) && said(&full).contains("not empty"), "{full:?}");
    // Another moment is another restore.
    let newest = [&["apply", "--from", from][..], &apply[5..]].concat();
    assert_eq!(run(&newest).status.code(), Some(8));

    // It goes on from there without a root key file, is killed while people are asked for their shares, and goes on.
    let mut child = restore(&apply).spawn().unwrap();
    asks_for_shares(&mut child, &data).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!data.join("identity").exists(), "nothing is in its place");
    let mut child = restore(&apply).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    shares.iter().for_each(|share| writeln!(stdin, "{share}").unwrap());
    drop(stdin);
    let restored = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert!(restored.status.success(), "{}", said(&restored));
    let report = told(&restored);
    assert_eq!(
        (&report["index"], &report["timeline"], &report["head_checked"]),
        (&target.into(), &1.into(), &true.into())
    );
    let of = |table: &str| {
        let found = report["went_back"].as_array().unwrap().iter().find(|found| found["table"] == table);
        found.unwrap().clone()
    };
    assert_eq!((&of("record")["newer_left_out"], &of("record")["erased_left_out"]), (&2.into(), &1.into()), "{report}");
    assert_eq!(of("document-id")["erased_left_out"], 1, "{report}");
    assert_eq!(
        fs::read(&root_key).unwrap(),
        fs::read(layout.root_key("voter-1")).unwrap(),
        "put where it is looked for"
    );
    assert!(!data.join("restore-work").exists());
    assert_eq!(run(&apply).status.code(), Some(8), "a member's directory is never restored over");

    // The newest state of all, by the root key's file, from a copy of the archive.
    let disk = kept.path().join("disk");
    let exported = Command::new(KURA).args(["archive", "export", from, "--to"]).arg(&disk).output().unwrap();
    assert!(exported.status.success(), "{}", said(&exported));
    let aside = kept.path().join("aside");
    let newest = ["apply", "--from", disk.to_str().unwrap(), "--into", aside.to_str().unwrap(), "--config", config];
    let newest = [&newest[..], &["--time-is-right", "--not-fenced", "it is never served"]].concat();
    let wrong = kept.path().join("wrong.key");
    fs::write(&wrong, format!("{}\n", "5a".repeat(32))).unwrap();
    fs::rename(&wrong, layout.root_key("voter-1")).unwrap();
    let refused = run(&[&newest[..], &["--without-head", "a rehearsal"]].concat());
    assert!(refused.status.code() == Some(3) && !aside.exists(), "{refused:?}");
    fs::copy(&root_key, layout.root_key("voter-1")).unwrap();
    let rehearsed = run(&[&newest[..], &["--without-head", "a rehearsal"]].concat());
    assert!(rehearsed.status.success(), "{}", said(&rehearsed));
    assert_eq!(told(&rehearsed)["waiver"], "a rehearsal");

    for directory in [into, aside.to_str().unwrap()] {
        let verified = run(&["verify", "--into", directory, "--root-key", root_key.to_str().unwrap()]);
        let found = told(&verified);
        assert!(verified.status.success() && found["opened_rows"].as_u64().unwrap() > 10, "{found} {verified:?}");
    }
    let sealed = told(&run(&["verify", "--into", into]));
    assert!(sealed["unchecked"][0].as_str().unwrap().contains("root key"), "{sealed}");

    // It serves, as a cluster of one; records are as they were, what restricts is as it was last.
    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
    let body = async |record, through: &str| {
        let read = world.doctor(through).get(&stays, record).await.map_err(|error| error.to_string())?;
        read.bytes().await.map_err(|error| error.to_string())
    };
    assert_eq!(until("a record", SOON, async || body(record, HOSPITAL).await).await, &b"first version"[..]);
    assert_eq!(body(big, CLINIC).await.unwrap(), &Made::noise(7, BIG).gather().await[..]);
    let mut records: Vec<_> = listed(&doctor, &stays).await.into_iter().map(|one| (one.record, one.version)).collect();
    records.sort_by_key(|(found, _)| *found != record);
    assert_eq!(records, [(record, 1), (big, 1)]);
    assert!(matches!(doctor.get(&stays, later).await, Err(GetError::Denied(_))));
    assert_eq!(doctor.history(&stays, record).await.unwrap().len(), 1);
    assert!(matches!(doctor.get(&erased, gone).await, Err(GetError::Denied(_))), "erased stays erased");
    let registrar = world.cluster.client(ClientFile::Registrar1).await.unwrap().erasures();
    let state = registrar.show(&erased).await.unwrap().erasure.state;
    assert!(matches!(state, ErasureState::Pending | ErasureState::Certified), "{state:?}");
    let clinic = world.doctor(CLINIC);
    assert!(matches!(clinic.get(&revokes, seen).await, Err(GetError::Denied(_))), "a later revocation stays");
    assert_eq!(doctor.get(&revokes, seen).await.unwrap().bytes().await.unwrap(), &b"seen until revoked"[..]);
    audit_head();

    // A version number is never issued twice, and what was taken away in between is no version.
    let third = doctor.put(&stays, note().version_of(record)).request(request(1)).bytes("third version").await.unwrap();
    assert_eq!(third.version(), 3);
    assert_eq!(body(record, HOSPITAL).await.unwrap(), &b"third version"[..]);
    let versions: Vec<u32> = versions(&doctor, &stays, record).await.iter().map(|one| one.version).collect();
    assert_eq!(versions, [1, 3]);

    // Others join it by the documented way.
    world.cluster.enlist_voter("voter-2").await.unwrap();
    let steps = world.operator.operations().add_member("voter-2", MemberRole::Voter).await.unwrap();
    steps.take(usize::MAX).await.unwrap();
    let status = world.settled().await;
    assert_eq!(status.members.len(), 2, "{status:?}");
    let through = world.doctor_at("voter-2", CLINIC).await;
    assert_eq!(through.get(&stays, big).await.unwrap().bytes().await.unwrap().len() as u64, BIG);
    assert!(matches!(through.get(&revokes, seen).await, Err(GetError::Denied(_))));
}
