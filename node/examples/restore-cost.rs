//! What a restore takes beside a plain copy of as many bytes on the same disk:
//! `cargo build --release && cargo run --release -p kura-node --example restore-cost -- DIRECTORY [MB] [BYTES] [s3]`.
//!
//! A cluster of a voter and a backup makes the archive in DIRECTORY: MB (5,000) of noise in bodies of BYTES (16,000,000)
//! each. It is restored as it is then, nearly all in segments, to its end and to a moment halfway; and once it has begun
//! another generation, nearly all in a base. With `s3` that alone, from S3-compatible storage on loopback, which takes its
//! share of the same cores. Each time in turns with the copy. The disk is cold if this runs as root. An archive that
//! DIRECTORY holds already is used again.

use std::fs::{self, File};
use std::future::IntoFuture;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use kura_client::{ActingClient, Class, Consent, Date, NewRecord, ParticipantNumber};
use kura_cluster::archive::ObjectName;
use kura_node::archive::ArchiveStore;
use kura_node::dev::{Cluster, Layout, Options};
use kura_node::samples::Body;
use kura_proto::point::KNOWN;

#[allow(dead_code)]
#[path = "../tests/end_to_end/s3_server.rs"]
mod s3_server;

/// What the server of the tests asks of its surroundings: where its objects lie.
mod world {
    pub fn folder() -> tempfile::TempDir {
        let directory = std::env::args().nth(1).expect("a directory");
        tempfile::tempdir_in(directory).expect("a temporary directory")
    }
}

#[path = "shared/doctor.rs"]
mod doctor;

const MEGABYTES: u64 = 5_000;
const BODY_BYTES: u64 = 16_000_000;
const PARTICIPANTS: u64 = 10;
/// Bytes of bodies that are on their way at a time, and how many bodies at most.
const UNDER_WAY: u64 = 64_000_000;
const AT_ONCE: u64 = 64;
/// The copy and the restore, so often in turns.
const TURNS: usize = 2;
/// Objects at a time, as a restore fetches a base's.
const DOWNLOADS: usize = 4;
const PIECE_BYTES: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (asked, numbers): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word == "s3");
    let mut numbers = numbers.into_iter();
    let directory = PathBuf::from(numbers.next().ok_or("name a directory")?);
    let bytes = 1_000_000 * numbers.next().map_or(Ok(MEGABYTES), |text| text.parse())?;
    let body_bytes = numbers.next().map_or(Ok(BODY_BYTES), |text| text.parse())?;
    let executable = std::env::current_exe()?.with_file_name("../kura").canonicalize()?;
    fs::create_dir_all(&directory)?;
    let directory = directory.canonicalize()?;
    let (segments, base) = (directory.join("segments"), directory.join("base"));
    let cluster = directory.join("cluster");
    if !base.exists() {
        make(&executable, &cluster, bytes, body_bytes, (&segments, &base)).await?;
    }

    let bench = Bench { executable, config: Layout::new(&cluster).node_config("voter-1"), directory };
    println!("| archive | MB | copy, MB/s | restore, MB/s | of the copy | memory, MiB |\n|---|---|---|---|---|---|");
    if asked.is_empty() {
        let plain = |from: &Path, objects: &str| Archive {
            place: from.display().to_string(),
            storage: None,
            objects: from.join(objects),
        };
        bench.measure("in segments", &plain(&segments, "segments"), None)?;
        bench.measure("in segments, as of halfway", &plain(&segments, "segments"), Some(bench.halfway(&segments)?))?;
        bench.measure("in a base", &plain(&base, "files"), None)?;
        return Ok(());
    }
    let server = s3_server::S3Server::start().await;
    let archive = Archive {
        place: s3_server::S3Server::place("rate"),
        storage: Some(server.storage_file()),
        objects: server.objects("rate/files"),
    };
    send(&base, &archive).await?;
    tokio::task::block_in_place(|| bench.measure("in a base, from S3", &archive, None))?;
    println!("\nto download its objects and do nothing with them: {:.0} MB/s", download(&archive).await?);
    Ok(())
}

/// Writes the bodies, and keeps the archive as it is before and after its second generation.
async fn make(
    executable: &Path,
    directory: &Path,
    bytes: u64,
    body_bytes: u64,
    (segments, base): (&Path, &Path),
) -> Result<(), Failure> {
    let options = Options { executable: executable.to_owned(), voters: 1, backups: 1, ..Options::new(directory)? };
    let mut cluster = Cluster::start(options, &|words| eprintln!("{words}")).await?;
    let layout = cluster.layout().clone();
    begin_every(&layout, 1 << 20)?;
    cluster.restart("backup-1").await?;
    let doctor = doctor::doctor(&cluster).await?;
    let began = Instant::now();
    write(&doctor, bytes, body_bytes).await?;
    eprintln!("{} MB written in {:.0} s", bytes / 1_000_000, began.elapsed().as_secs_f64());
    archived(&mut cluster).await?;
    let archive = layout.archive("backup-1");
    link(&archive, segments)?;

    begin_every(&layout, 1)?;
    cluster.restart("backup-1").await?;
    let end = Instant::now() + LIMIT;
    while fs::read_dir(archive.join("manifests"))?.count() < 2 {
        if Instant::now() > end {
            return Err("the archive begins no second generation".into());
        }
        put(&doctor, 0, 1_000).await?;
        archived(&mut cluster).await?;
    }
    cluster.stop().await?;
    link(&archive, base)?;
    for member in ["voter-1", "backup-1"] {
        fs::remove_dir_all(layout.node_data(member))?;
    }
    Ok(fs::remove_dir_all(archive)?)
}

/// Has the backup's archive begin a generation after so much.
fn begin_every(layout: &Layout, mib: i64) -> Result<(), Failure> {
    let path = layout.node_config("backup-1");
    let mut config: toml::Table = fs::read_to_string(&path)?.parse()?;
    let archive = config.get_mut("archive").and_then(toml::Value::as_table_mut).ok_or("a backup without an archive")?;
    archive.insert("base_every_mib".into(), mib.into());
    Ok(fs::write(path, config.to_string())?)
}

async fn write(doctor: &ActingClient, bytes: u64, body_bytes: u64) -> Result<(), Failure> {
    for nth in 0..PARTICIPANTS {
        doctor.enrol(&number(nth)?, Consent::signed_on("2020-01-01".parse()?).evidence("paper")).await?;
        doctor.grant(&number(nth)?, "F1").evidence("paper").await?;
    }
    let at_once = usize::try_from((UNDER_WAY / body_bytes).clamp(1, AT_ONCE))?;
    let puts = (0..bytes.div_ceil(body_bytes)).map(|nth| put(doctor, nth, body_bytes));
    stream::iter(puts).buffer_unordered(at_once).try_for_each(async |()| Ok(())).await
}

fn number(nth: u64) -> Result<ParticipantNumber, Failure> {
    Ok(format!("4300{nth:012}").parse()?)
}

async fn put(doctor: &ActingClient, nth: u64, bytes: u64) -> Result<(), Failure> {
    let mut body = Vec::new();
    Body::new(nth, bytes, false).read_to_end(&mut body)?;
    let record = NewRecord::new(Class::Image, "application/dicom", Date::today());
    doctor.put(&number(nth % PARTICIPANTS)?, record).bytes(body).into_future().await?;
    Ok(())
}

/// Waits until all that is committed is in the archive.
async fn archived(cluster: &mut Cluster) -> Result<(), Failure> {
    let reached = |status: &kura_client::wire::StatusReply| match &status.archive_point {
        Some(point) if point.state == KNOWN && point.index >= status.committed_index => Ok(()),
        other => Err(format!("{other:?}")),
    };
    cluster.wait_until("an archive that has caught up", LIMIT, reached).await?;
    Ok(())
}

/// A copy of an archive by hard links.
fn link(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() { link(&from, &to)? } else { fs::hard_link(&from, &to)? }
    }
    Ok(())
}

/// Sends an archive's objects into storage.
async fn send(from: &Path, to: &Archive) -> Result<(), Failure> {
    let (from, to) =
        (ArchiveStore::open(&from.display().to_string())?, ArchiveStore::open_at(&to.place, to.storage.as_deref())?);
    for folder in ObjectName::FOLDERS {
        let mut objects = from.list(folder);
        while let Some((name, _)) = objects.try_next().await? {
            let (mut pieces, mut target) = (from.stream(&name).await?.1, to.begin(&name));
            while let Some(piece) = pieces.try_next().await? {
                target.put(piece).await?;
            }
            target.finish().await?;
        }
    }
    Ok(())
}

/// Megabytes a second.
async fn download(from: &Archive) -> Result<f64, Failure> {
    let store = ArchiveStore::open_at(&from.place, from.storage.as_deref())?;
    let objects: Vec<_> = store.list("files").try_collect().await?;
    cool();
    let began = Instant::now();
    let downloads = objects.iter().map(async |(name, bytes)| {
        let mut pieces = store.stream(name).await?.1;
        while pieces.try_next().await?.is_some() {}
        Ok::<u64, Failure>(*bytes)
    });
    let bytes: Vec<u64> = stream::iter(downloads).buffer_unordered(DOWNLOADS).try_collect().await?;
    Ok(bytes.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64() / 1e6)
}

/// What is restored, and the folder with nearly all of it.
struct Archive {
    place: String,
    storage: Option<PathBuf>,
    objects: PathBuf,
}

struct Bench {
    executable: PathBuf,
    config: PathBuf,
    directory: PathBuf,
}

impl Bench {
    fn restore(&self, act: &str, archive: &Archive) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(["--json", "restore", act, "--from", &archive.place]);
        if let Some(storage) = &archive.storage {
            command.arg("--storage").arg(storage);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// The entry in the middle of an archive.
    fn halfway(&self, archive: &Path) -> Result<u64, Failure> {
        let archive = Archive { place: archive.display().to_string(), storage: None, objects: PathBuf::new() };
        let plan = told(&self.restore("plan", &archive).output()?)?;
        Ok(plan["newest_index"].as_u64().ok_or("a plan without its end")? / 2)
    }

    /// In turns with a copy, to the archive's end or as of an entry.
    fn measure(&self, what: &str, archive: &Archive, index: Option<u64>) -> Result<(), Failure> {
        for _ in 0..TURNS {
            let (copied, copy) = self.copy(&archive.objects)?;
            let into = self.directory.join("restored");
            cool();
            let began = Instant::now();
            let mut command = self.restore("apply", archive);
            command.args(["--without-head", "a measurement", "--not-fenced", "it is never served"]);
            command.args(index.map(|index| format!("--to-index={index}")));
            let mut child = command.arg("--into").arg(&into).arg("--config").arg(&self.config).spawn()?;
            let mut kib = 0;
            while child.try_wait()?.is_none() {
                kib = kib.max(peak_kib(child.id()));
                std::thread::sleep(LOOK);
            }
            let took = began.elapsed();
            let report = told(&child.wait_with_output()?)?;
            let restored = report["bytes"].as_u64().ok_or("a report without bytes")?;
            fs::remove_dir_all(&into)?;
            let rate = |bytes: u64, took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
            let (copy, restore) = (rate(copied, copy), rate(restored, took));
            println!(
                "| {what} | {} | {copy:.0} | {restore:.0} | {:.0} % | {} |",
                restored / 1_000_000,
                100.0 * restore / copy,
                kib >> 10
            );
        }
        Ok(())
    }

    /// Copies the objects of a folder one after the other, durably.
    fn copy(&self, folder: &Path) -> Result<(u64, Duration), Failure> {
        let path = self.directory.join("copy");
        cool();
        let began = Instant::now();
        let (mut copy, mut copied) = (File::create(&path)?, 0);
        let mut piece = vec![0; PIECE_BYTES];
        for entry in fs::read_dir(folder)? {
            let mut object = File::open(entry?.path())?;
            loop {
                let count = object.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                copy.write_all(&piece[..count])?;
                copied += count as u64;
            }
        }
        copy.sync_all()?;
        let took = began.elapsed();
        fs::remove_file(path)?;
        Ok((copied, took))
    }
}

fn told(output: &Output) -> Result<serde_json::Value, Failure> {
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stdout).into()),
    }
}

/// Writes out what waits for it and empties the cache of files, where this process may.
fn cool() {
    rustix::fs::sync();
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
}

/// The most memory that a process has held.
fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
