//! A new backup that takes its first state from an archive: little comes over the line, and nothing counts that no
//! voter has signed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kura_client::operations::MemberRole;
use kura_client::{Class, Date, NewRecord};
use kura_cluster::archive::SignedManifest;
use kura_cluster::digest::Digest;
use kura_cluster::hexadecimal;
use kura_cluster::row::{StoredRow, Table};
use kura_node::certificates::HeadSigner;
use kura_node::state::Database;
use kura_node::state::database::Progress;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::archive::{caught_up, files};
use super::memory::Made;
use super::recovery::copy;
use super::replace::is_purged;
use super::world::{HOSPITAL, KURA, SOON, World, configure, quick_segments, set, until};

/// Random, so that it is as long on the line.
const BODIES: u64 = 6;
const BODY_BYTES: u64 = 4 << 20;
/// What a member that was seeded may take from the others: hellos, heads, and, as a leader asks from the middle of its log on
/// what a member has, up to half of what is written.
const LITTLE_BYTES: u64 = BODIES * BODY_BYTES * 5 / 8;

/// Counts what other members send to a node.
struct Line {
    /// Where the node itself listens.
    node: String,
    bytes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    async fn lay(from: String, to: String) -> Self {
        let listener = TcpListener::bind(from).await.unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let (count, node) = (bytes.clone(), to.clone());
        let task = tokio::spawn(async move {
            while let Ok((outer, _)) = listener.accept().await {
                let Ok(inner) = TcpStream::connect(&to).await else { continue };
                let (mut outer_read, mut outer_write) = outer.into_split();
                let (mut inner_read, mut inner_write) = inner.into_split();
                let count = count.clone();
                tokio::spawn(async move {
                    let mut counted = tokio_util::io::InspectReader::new(&mut outer_read, |read: &[u8]| {
                        count.fetch_add(read.len() as u64, Ordering::Relaxed);
                    });
                    let _ = tokio::io::copy(&mut counted, &mut inner_write).await;
                    let _ = inner_write.shutdown().await;
                });
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut inner_read, &mut outer_write).await;
                    let _ = outer_write.shutdown().await;
                });
            }
        });
        Self { node, bytes, task }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A prepared backup, behind a line that counts.
async fn prepare(world: &mut World, name: &str) -> Line {
    world.cluster.prepare_backup(name).await.unwrap();
    let own = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port());
    let told = world.member(name).address();
    configure(&world.cluster, name, |table| {
        table.insert("advertise".into(), told.clone().into());
        table.insert("listen".into(), own.clone().into());
    });
    Line::lay(told, own).await
}

async fn join(world: &World, name: &str, seed_from: Option<&Path>) -> Output {
    join_by(world, name, seed_from, &[]).await
}

async fn join_by(world: &World, name: &str, seed_from: Option<&Path>, signed_by: &[&str]) -> Output {
    let mut command = Command::new(KURA);
    command.args(["join", "--config"]).arg(world.cluster.layout().node_config(name)).stdin(Stdio::null());
    seed_from.map(|archive| command.arg("--seed-from").arg(archive));
    for key in signed_by {
        command.args(["--signed-by", key]);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A copy of an archive, signed anew from one end to the other; and with which key.
fn forge(archive: &Path, copied: &Path) -> String {
    copy(archive, copied);
    let pair = KeyPair::generate().unwrap();
    let signer = HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap();
    let mut manifests = files(&copied.join("manifests"));
    manifests.sort();
    let mut previous = None;
    for path in manifests {
        let mut manifest = SignedManifest::decode(&fs::read(&path).unwrap()).unwrap().manifest;
        manifest.previous_sha256 = previous.or(manifest.previous_sha256);
        let forged = signer.sign_manifest(manifest).unwrap().encode();
        previous = Some(Sha256::digest(&forged).into());
        fs::write(path, forged).unwrap();
    }
    hexadecimal(signer.key_sha256())
}

/// Adds a joined member and waits until it has everything.
async fn add(world: &mut World, name: &str, line: &Line) {
    start(world, name, line).await;
    let steps = world.operator.operations().add_member(name, MemberRole::Backup).await.unwrap();
    steps.take(usize::MAX).await.unwrap();
}

async fn start(world: &mut World, name: &str, line: &Line) {
    world.cluster.restart(name).await.unwrap();
    until("its port", SOON, async || TcpStream::connect(&line.node).await.map_err(|error| error.to_string())).await;
}

fn log(world: &World, name: &str) -> String {
    fs::read_to_string(world.cluster.layout().node_log(name)).unwrap()
}

async fn filled() -> World {
    let world = World::configured(1, 1, |table| {
        set(table, "retention", "snapshot_every_mib", 1);
        set(table, "retention", "log_max_mib", 1);
        quick_segments(table);
    })
    .await;
    let number = world.enrol(1).await;
    for nth in 0..BODIES {
        let image = NewRecord::new(Class::Image, "application/dicom", Date::today());
        world.doctor(HOSPITAL).put(&number, image).body(Made::noise(nth, BODY_BYTES)).await.unwrap();
    }
    let written = world.operator.operations().status().await.unwrap().committed_index;
    let data = world.cluster.layout().node_data("voter-1");
    until("a shortened log", SOON, async || match is_purged(&data) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // Whoever has less than the log still holds is sent the snapshot, which takes the place of any seed. What was written
    // while a snapshot was being made brings another one at the next look, before a few entries of the idle cluster. The
    // last entries of the last body may be too few bytes for one.
    let index = until("a last snapshot", SOON, async || {
        let status = world.operator.operations().status().await.map_err(|error| error.to_string())?;
        let (snapshot, index) = (newest_snapshot(&data), status.committed_index);
        match snapshot.filter(|snapshot| snapshot + 3 > written && index >= snapshot + 3) {
            Some(_) => Ok(index),
            None => Err(format!("{snapshot:?} of {index}")),
        }
    })
    .await;
    caught_up(&world, index).await;
    world
}

/// Up to which log index a node's newest snapshot goes.
fn newest_snapshot(data: &Path) -> Option<u64> {
    let folders = fs::read_dir(data.join("snapshots")).unwrap().flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    names.filter_map(|name| name.split('-').next()?.parse().ok()).max()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeded_backup_takes_little_over_the_line_and_counts_once_a_voter_bears_it_out() {
    let mut world = filled().await;
    let layout = world.cluster.layout().clone();
    let archive = layout.archive("backup-1");
    let line = prepare(&mut world, "backup-2").await;

    // What is damaged is named, and nothing is left in its place.
    let mut segments = files(&archive.join("segments"));
    segments.sort();
    let segment = segments.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(segment).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(segment, &altered).unwrap();
    let refused = join(&world, "backup-2", Some(&archive)).await;
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(refused.status.code() == Some(7) && said(&refused).contains(name), "{}", said(&refused));
    let data = layout.node_data("backup-2");
    let nothing_is_left =
        || assert!(["identity", "state", "seed", "seed-work"].iter().all(|name| !data.join(name).exists()), "{data:?}");
    nothing_is_left();
    fs::write(segment, &whole).unwrap();

    // Anybody can sign: it takes a member's key.
    let forged = layout.directory().join("forged");
    let key = forge(&archive, &forged);
    let refused = join(&world, "backup-2", Some(&forged)).await;
    let words = format!("the key {key}, which no member of the cluster has");
    assert!(refused.status.code() == Some(7) && said(&refused).contains(&words), "{}", said(&refused));
    nothing_is_left();

    let joined = join(&world, "backup-2", Some(&archive)).await;
    assert!(joined.status.success() && said(&joined).contains("seeded"), "{}", said(&joined));
    assert!(data.join("seed").exists());
    add(&mut world, "backup-2", &line).await;
    until("a seed that is borne out", SOON, async || match log(&world, "backup-2") {
        log if log.contains("the state that was seeded is the cluster's") => Ok(()),
        log => Err(log),
    })
    .await;
    assert!(!data.join("seed").exists(), "the note goes with it");
    assert!(line.bytes() < LITTLE_BYTES, "{} bytes came over the line", line.bytes());
    let status = world.settled().await;
    let backups: Vec<_> = status.members.iter().filter(|member| member.role == 2).collect();
    assert!(backups.len() == 2 && backups.iter().all(|member| member.trouble.is_empty()), "{status:?}");
    let digests: Vec<_> = status.members.iter().map(|member| member.state_digest.clone()).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{status:?}");

    // As a measure: the same without a seed.
    let line = prepare(&mut world, "backup-3").await;
    assert!(join(&world, "backup-3", None).await.status.success());
    add(&mut world, "backup-3", &line).await;
    assert!(line.bytes() > BODIES * BODY_BYTES, "{} bytes came over the line", line.bytes());

    // A voter takes its state from voters.
    world.cluster.enlist_voter("voter-2").await.unwrap();
    let voter = join(&world, "voter-2", Some(&archive)).await;
    assert!(voter.status.code() == Some(2) && said(&voter).contains("voter"), "{}", said(&voter));
}

/// Takes a row away, and from its table's digest: what is left agrees with itself, as an archive does whose writer
/// lied.
fn falsify(data: &Path) {
    let database = Database::open(&data.join("state/database-0")).unwrap();
    let (applied, _, mut summary) = database.progress().unwrap();
    let table = Table::Record;
    let mut found = None;
    let range = (&[table.number()][..], &[table.number() + 1][..]);
    database
        .snapshot()
        .walk::<kura_node::state::DatabaseError>(range.0, range.1, |key, row| {
            found = Some((Bytes::copy_from_slice(key), row.header));
            Ok(())
        })
        .unwrap();
    let (key, header) = found.unwrap();
    let of_table = &mut summary.tables[table.place()];
    of_table.digest.subtract(Digest::of_row(&key, &header));
    of_table.rows -= 1;
    let rows: BTreeMap<Bytes, Option<StoredRow>> = [(key, None)].into();
    database.write(rows.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
    database.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_no_voter_signed_stops_the_member_for_good() {
    let mut world = filled().await;
    let layout = world.cluster.layout().clone();
    let line = prepare(&mut world, "backup-2").await;
    // A key that people name is believed as a member's; a voter's word counts above it.
    let forged = layout.directory().join("forged");
    let key = forge(&layout.archive("backup-1"), &forged);
    let joined = join_by(&world, "backup-2", Some(&forged), &[&key]).await;
    assert!(joined.status.success() && said(&joined).contains(&key), "{}", said(&joined));
    falsify(&layout.node_data("backup-2"));
    start(&mut world, "backup-2", &line).await;
    let steps = world.operator.operations().add_member("backup-2", MemberRole::Backup).await.unwrap();
    // It may stop before the last step is told.
    let steps = tokio::spawn(steps.take(usize::MAX));
    until("a refusal", SOON, async || match log(&world, "backup-2") {
        log if log.contains("is not the cluster's") => Ok(()),
        log => Err(log),
    })
    .await;
    until("its end", SOON, async || match world.cluster.check() {
        Err(_) => Ok(()),
        Ok(()) => Err("it runs".into()),
    })
    .await;
    steps.abort();
    let mut again = Command::new(KURA);
    again.args(["serve", "--config"]).arg(layout.node_config("backup-2")).stdin(Stdio::null());
    let again = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
    assert!(again.status.code() == Some(7) && said(&again).contains("--seed-from"), "{}", said(&again));
}
