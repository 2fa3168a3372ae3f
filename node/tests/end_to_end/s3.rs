//! An archive on S3-compatible storage: as one in a directory, in every command, and missed when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use kura_client::{Class, Date, NewRecord};
use kura_node::dev::Signal;

use super::archive::{caught_up, files};
use super::memory::Made;
use super::s3_server::{KEY_ID, S3Server, SECRET};
use super::world::{HOSPITAL, KURA, SOON, World, folder, set, until};

/// More than three parts of a base's file.
const BIG: u64 = 26 << 20;

async fn kura(arguments: &[&str]) -> Output {
    let mut command = Command::new(KURA);
    command.args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn world(server: &S3Server, prefix: &str) -> World {
    World::configured(1, 1, |table| {
        if table.contains_key("archive") {
            set(table, "archive", "place", S3Server::place(prefix));
            set(table, "archive", "storage", server.storage_file().display().to_string());
            set(table, "archive", "segment_seconds", 1);
            set(table, "archive", "base_every_mib", 8);
        }
    })
    .await
}

async fn committed(world: &World) -> u64 {
    world.operator.operations().status().await.unwrap().committed_index
}

/// What the backup says is wrong with it.
async fn trouble(world: &World) -> String {
    let status = world.operator.operations().status().await.unwrap();
    status.members.iter().find(|member| member.name == "backup-1").unwrap().trouble.clone()
}

fn newest_segment(objects: &Path) -> PathBuf {
    let mut segments = files(&objects.join("segments"));
    segments.sort();
    segments.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_written_checked_copied_and_restored_from_as_one_in_a_directory() {
    let server = S3Server::start().await;
    let mut world = world(&server, "prefecture/one").await;
    let layout = world.cluster.layout().clone();
    let number = world.enrol(1).await;
    let record = world.put(&number, "kept on S3").await;
    let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
    let image = world.doctor(HOSPITAL).put(&number, image).body(Made::noise(3, BIG)).await.unwrap().record();
    caught_up(&world, committed(&world).await).await;
    let (place, storage) = (S3Server::place("prefecture/one"), server.storage_file().display().to_string());
    let (place, storage) = (&place[..], &storage[..]);
    // So much data begins another generation: its base has a file of several parts.
    let generations = async || json(&kura(&["archive", "status", place, "--storage", storage, "--json"]).await);
    until("a second generation", SOON, async || match generations().await["generation"].as_u64() {
        Some(generation) if generation > 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(server.behaviour.in_parts.load(Ordering::Relaxed) > 0, "nothing was sent in parts");
    caught_up(&world, committed(&world).await).await;

    // It is rehearsed while it is written.
    let config = layout.node_config("backup-1");
    let drilled = kura(&["drill", "--config", config.to_str().unwrap()]).await;
    assert!(drilled.status.success(), "{}", said(&drilled));
    world.settled().await;
    let root_key = fs::read(layout.root_key("voter-1")).unwrap();
    world.cluster.stop().await.unwrap();

    let kept = folder();
    let scratch = kept.path().to_str().unwrap();
    for level in ["files", "hash", "replay"] {
        let arguments = ["archive", "verify", place, "--storage", storage, "--level", level, "--scratch", scratch];
        let verified = kura(&arguments).await;
        assert!(verified.status.success(), "{level}: {}", said(&verified));
    }
    let key = layout.root_key("voter-1");
    let open = ["archive", "verify", place, "--storage", storage, "--level", "open", "--scratch", scratch, "--json"];
    let opened = json(&kura(&[&open[..], &["--root-key", key.to_str().unwrap()]].concat()).await);
    assert!(opened["opened_rows"].as_u64().unwrap() > 10, "{opened}");
    let listed = kura(&["archive", "list", place, "--storage", storage, "--config", config.to_str().unwrap()]).await;
    assert!(listed.status.success() && !said(&listed).contains("not continued"), "{}", said(&listed));

    // Torn, altered and missing objects are named.
    let objects = server.objects("prefecture/one");
    let segment = newest_segment(&objects);
    let whole = fs::read(&segment).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let verify = async || kura(&["archive", "verify", place, "--storage", storage, "--level", "hash"]).await;
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    for damaged in [Some(&whole[..whole.len() - 1]), Some(&altered[..]), None] {
        match damaged {
            Some(bytes) => fs::write(&segment, bytes).unwrap(),
            None => fs::remove_file(&segment).unwrap(),
        }
        let found = verify().await;
        assert!(found.status.code() == Some(7) && said(&found).contains(&name), "{}", said(&found));
        fs::write(&segment, &whole).unwrap();
    }
    assert!(verify().await.status.success());

    // A hold, and a copy in a directory, which needs nothing of S3 any more.
    let hold = ["archive", "hold", place, "1", "--storage", storage, "--reason", "request of the court"];
    assert!(kura(&hold).await.status.success());
    assert!(kura(&["archive", "release", place, "1", "--storage", storage]).await.status.success());
    let disk = kept.path().join("disk");
    let disk = disk.to_str().unwrap();
    let exported = kura(&["archive", "export", place, "--storage", storage, "--to", disk]).await;
    assert!(exported.status.success(), "{}", said(&exported));
    assert!(kura(&["archive", "verify", disk, "--level", "replay", "--scratch", scratch]).await.status.success());

    // A plan of a take-over takes it with directories.
    let backup = layout.node_data("backup-1");
    let out = kept.path().join("plan.json");
    let (backup, out) = (backup.to_str().unwrap(), out.to_str().unwrap());
    let planned = kura(&["--json", "recover", "plan", backup, place, "--storage", storage, "--out", out]).await;
    assert!(planned.status.success() && said(&planned).contains(place), "{}", said(&planned));

    // Every directory is lost; what is restored serves.
    fs::remove_dir_all(layout.node_data("voter-1")).unwrap();
    world.cluster.discard("backup-1").await.unwrap();
    fs::write(layout.root_key("voter-1"), root_key).unwrap();
    let config = layout.node_config("voter-1");
    let apply = ["restore", "apply", "--from", place, "--storage", storage, "--config", config.to_str().unwrap()];
    let restored =
        kura(&[&apply[..], &["--without-head", "a test", "--fenced", "discarded", "--open", "writes"]].concat()).await;
    assert!(restored.status.success(), "{}", said(&restored));
    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
    let doctor = world.doctor(HOSPITAL);
    let read = until("a record", SOON, async || {
        let read = doctor.get(&number, record).await.map_err(|error| error.to_string())?;
        read.bytes().await.map_err(|error| error.to_string())
    });
    assert_eq!(read.await, &b"kept on S3"[..]);
    let read = doctor.get(&number, image).await.unwrap().bytes().await.unwrap();
    assert!(read == Made::noise(3, BIG).gather().await, "the image came back otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_does_not_answer_is_told_and_gone_on_from_and_no_key_of_it_is_shown() {
    let mut server = S3Server::start().await;
    let mut world = world(&server, "one").await;
    let number = world.enrol(1).await;
    caught_up(&world, committed(&world).await).await;

    server.stop().await;
    world.put(&number, "while nobody answers").await;
    let told = until("an alarm", SOON, async || match trouble(&world).await {
        told if told.contains("its archive") => Ok(told),
        other => Err(other),
    })
    .await;
    assert!(told.contains("reached"), "{told}");
    let archived = server.objects("one");
    let before = files(&archived).len();
    for _ in 0..3 {
        world.put(&number, "the cluster goes on").await;
    }
    assert_eq!(files(&archived).len(), before);

    server.resume().await;
    let written = committed(&world).await;
    let point = caught_up(&world, written).await;
    assert!(point.index >= written, "{point:?}");
    until("no alarm", SOON, async || match trouble(&world).await {
        told if told.is_empty() => Ok(()),
        other => Err(other),
    })
    .await;
    world.cluster.kill("backup-1", Signal::TERM).await.unwrap();
    let (place, storage) = (S3Server::place("one"), server.storage_file().display().to_string());
    let verified = kura(&["archive", "verify", &place, "--storage", &storage, "--level", "hash"]).await;
    assert!(verified.status.success(), "{}", said(&verified));

    // The key may come from the environment. A wrong one is refused, without a word of it.
    let by_environment = server.storage("environment.toml", "credentials = { environment = true }");
    let status = |secret: &'static str| {
        let mut command = Command::new(KURA);
        command.args(["archive", "status", &place, "--storage"]).arg(&by_environment);
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", secret);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    assert!(status(SECRET).await.unwrap().status.success());
    let refused = status("another-secret-than-it-has").await.unwrap();
    assert!(refused.status.code() == Some(5) && !said(&refused).contains("another-secret"), "{refused:?}");
    let without = kura(&["archive", "status", &place]).await;
    assert!(without.status.code() == Some(2) && said(&without).contains("--storage"), "{}", said(&without));
    // An authority that did not sign its certificate.
    let other = S3Server::start().await;
    fs::copy(other.path().join("storage-ca.pem"), server.path().join("storage-ca.pem")).unwrap();
    let stranger = kura(&["archive", "status", &place, "--storage", &storage]).await;
    assert!(stranger.status.code() == Some(5), "{}", said(&stranger));

    let log = fs::read_to_string(world.cluster.layout().node_log("backup-1")).unwrap();
    assert!(log.contains("could not be written"), "the log tells of it");
    for word in [SECRET, KEY_ID] {
        let told = [&log[..], &said(&refused), &said(&stranger), &said(&verified)];
        assert!(told.iter().all(|text| !text.contains(word)), "{word} is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_without_conditional_writes_is_refused_in_words() {
    let server = S3Server::start().await;
    server.behaviour.unconditional.store(true, Ordering::Relaxed);
    let world = world(&server, "one").await;
    let told = until("a refusal", SOON, async || match trouble(&world).await {
        told if told.contains("conditional writes") => Ok(told),
        other => Err(other),
    })
    .await;
    assert!(told.contains("a name that is taken"), "{told}");
    assert!(files(&server.objects("one")).is_empty(), "nothing is left there");

    // It is noticed once the storage does it.
    server.behaviour.unconditional.store(false, Ordering::Relaxed);
    caught_up(&world, committed(&world).await).await;
}
