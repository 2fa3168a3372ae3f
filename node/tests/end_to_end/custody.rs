//! Custody of the root key: a cluster that only people with shares can unseal; keys that change under load.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kura_client::keys::Rotation;
use kura_client::tls::TlsFiles;
use kura_client::{Config, Endpoint, RecordId, wire};
use kura_cluster::seal::Key;
use kura_cluster::share::Fingerprint;
use kura_cluster::{from_hexadecimal, hexadecimal};
use kura_node::certificates::{Authority, Role};
use kura_node::custody::open_recovery;
use kura_node::dev::{ClientFile, Signal};
use kura_node::vault::read_root_key;
use time::OffsetDateTime;
use toml::{Table, Value};

use super::raw;
use super::world::{HOSPITAL, KURA, SOON, World, configure, until};

/// A start, an election, and a voter that asks another one for its root key.
const UNSEALED: Duration = Duration::from_secs(60);

impl World {
    /// A configuration of recovery staff, in a file.
    pub(super) fn recovery(&self, name: &str) -> PathBuf {
        let authority = raw::authority(&self.cluster);
        let (files, _) = raw::issue(&self.cluster, &authority, (Role::Recovery, name), 30, OffsetDateTime::now_utc());
        let TlsFiles { certificate, private_key, authorities, .. } = files;
        let voters = self.cluster.plan().voters();
        let config = Config {
            application: None,
            ca: authorities,
            certificate,
            key: private_key,
            revocation_lists: Vec::new(),
            journal_head: None,
            endpoints: voters.map(|voter| Endpoint { name: voter.name.clone(), address: voter.address() }).collect(),
            timeouts: Default::default(),
        };
        let path = self.cluster.layout().directory().join(format!("{name}.toml"));
        fs::write(&path, config.to_toml().unwrap()).unwrap();
        path
    }

    /// `kura key …` with a client configuration.
    pub(super) fn key(&self, client: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(KURA);
        command.args(["--json", "key"]).args(arguments).arg("--client").arg(client);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Splits the root key on a voter's machine and answers what each holder wrote down, and the fingerprint.
    pub(super) async fn split(&self, voter: &str, threshold: &str, holders: &str) -> (Vec<String>, String) {
        let config = self.cluster.layout().node_config(voter);
        let operator = self.cluster.layout().client(ClientFile::Operator);
        let mut command = self.key(&operator, &["split", "--threshold", threshold, "--holders", holders]);
        command.arg("--config").arg(config);
        let holders: usize = holders.parse().unwrap();
        tokio::task::spawn_blocking(move || ceremony(command.spawn().unwrap(), holders)).await.unwrap()
    }

    pub(super) async fn confirm(&self, fingerprint: &str) {
        let registrar = self.cluster.client(ClientFile::Registrar1).await.unwrap();
        let bytes: Fingerprint = from_hexadecimal(fingerprint).unwrap();
        registrar.keys().confirm_shares(&bytes).await.unwrap();
    }

    async fn alarms(&self) -> Vec<String> {
        self.operator.operations().status().await.unwrap().alarms
    }

    /// Asks for a rotation as both people.
    pub(super) async fn rotate(&self, what: Rotation) -> wire::RotateKeysReply {
        let asked = self.operator.keys().rotate(what).await.unwrap();
        assert_eq!(asked.state, 1, "{asked:?}");
        let registrar = self.cluster.client(ClientFile::Registrar1).await.unwrap();
        registrar.keys().rotate(what).await.unwrap()
    }

    async fn all_unsealed(&self, voters: usize) -> wire::StatusReply {
        let operations = self.operator.operations();
        until("every voter unsealed", UNSEALED, async || {
            let status = operations.status().await.map_err(|error| error.to_string())?;
            let unsealed = status.members.iter().filter(|member| member.unsealed).count();
            match unsealed == voters && status.leader_id != 0 {
                true => Ok(status),
                false => Err(format!("{unsealed} are unsealed, leader {}", status.leader_id)),
            }
        })
        .await
    }

    fn root_key(&self, voter: &str) -> Key {
        read_root_key(&self.cluster.layout().root_key(voter)).unwrap().unwrap()
    }

    /// Every file of every node and client that holds one of the patterns.
    fn files_with(&self, patterns: &[Vec<u8>]) -> Vec<PathBuf> {
        let search = aho_corasick::AhoCorasick::new(patterns).unwrap();
        let mut folders = vec![self.cluster.layout().directory().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                match fs::read(&path) {
                    _ if path.is_dir() => folders.push(path),
                    Ok(bytes) if search.is_match(&bytes) => found.push(path),
                    _ => {}
                }
            }
        }
        found
    }
}

/// What would tell the key, or a share: in each form in which it could have been written.
fn patterns(keys: &[Key], shares: &[String]) -> Vec<Vec<u8>> {
    let mut patterns: Vec<Vec<u8>> = Vec::new();
    for key in keys {
        let bytes = key.expose_bytes();
        patterns.extend([
            bytes.to_vec(),
            hexadecimal(bytes).into_bytes(),
            hexadecimal(bytes).to_uppercase().into_bytes(),
        ]);
    }
    for share in shares {
        let words: Vec<&str> = share.split(' ').collect();
        patterns.extend(words[8..].chunks(4).map(|four| four.join(" ").into_bytes()));
        let share = kura_cluster::share::Share::from_words(share).unwrap();
        patterns.push(share.to_bytes()[8..].to_vec());
        patterns.push(hexadecimal(&share.to_bytes()[8..]).into_bytes());
    }
    patterns
}

/// Plays every holder: reads the share that is shown and types it back; the first one first with a wrong word.
fn ceremony(mut child: Child, holders: usize) -> (Vec<String>, String) {
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shares = Vec::new();
    for holder in 1..=holders {
        let line = lines.next().unwrap_or_else(|| panic!("no share {holder}")).unwrap();
        let share = line.strip_prefix(&format!("share {holder} of {holders}: ")).unwrap_or_else(|| panic!("{line}"));
        if holder == 1 {
            let wrong = share.rsplit_once(' ').unwrap().0.to_owned() + " storehouse";
            writeln!(stdin, "{wrong}").unwrap();
        }
        // Over two lines, as people write.
        let (first, second) = share.split_at(share.match_indices(' ').nth(15).unwrap().0);
        writeln!(stdin, "{first}\n{second}").unwrap();
        shares.push(share.to_owned());
    }
    let told: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("word 32 is not in the word list"), "{said}");
    (shares, told["fingerprint"].as_str().unwrap().to_owned())
}

/// Runs a command that asks for a share.
pub(super) async fn with_share(mut command: Command, share: &str) -> Output {
    let share = share.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{share}").unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

pub(super) fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn by_shares(table: &mut Table) {
    table.insert("root_key".into(), Value::Table([("shares".to_owned(), Value::Boolean(true))].into_iter().collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_root_key_files_is_unsealed_by_its_holders() {
    let mut world = World::start(3, 1).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "before").await;
    assert!(world.alarms().await[0].contains("no verified shares"), "{:?}", world.alarms().await);
    let (former, _) = world.split("voter-1", "2", "2").await;
    let (shares, fingerprint) = world.split("voter-2", "2", "3").await;
    assert!(world.alarms().await[0].contains("wait for a registrar"), "{:?}", world.alarms().await);
    world.confirm(&fingerprint).await;
    assert_eq!(world.alarms().await, Vec::<String>::new());
    let key = world.root_key("voter-1");

    // Nothing on the voters' disks opens anything any more.
    world.settled().await;
    let holders = ["rec-1", "rec-2", "rec-3"].map(|name| world.recovery(name));
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    for voter in world.voters() {
        configure(&world.cluster, &voter, by_shares);
        fs::remove_file(world.cluster.layout().root_key(&voter)).unwrap();
    }
    for member in world.cluster.plan().members.clone() {
        world.cluster.restart(&member.name).await.unwrap();
    }
    let sealed = |status: &wire::StatusReply| {
        let voters = status.members.iter().filter(|member| member.role == 1);
        voters.filter(|member| member.reachable && !member.unsealed).count() == 3 && status.leader_id == 0
    };
    let operations = world.operator.operations();
    until("three sealed voters", SOON, async || match operations.status().await {
        Ok(status) if sealed(&status) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // Each answers why it does nothing; nothing of it is a leak.
    for voter in world.voters() {
        let channel =
            raw::channel(raw::client_files(world.cluster.layout(), ClientFile::Application), &world.member(&voter));
        let mut records = wire::records_client::RecordsClient::new(channel);
        let refused = until("the reason", SOON, async || {
            let refused = records.put_whole(raw::put_whole(HOSPITAL, &number)).await.unwrap_err();
            match refused.message().contains("waits for key shares") {
                true => Ok(refused),
                false => Err(refused.to_string()),
            }
        })
        .await;
        assert!(refused.message().contains("sealed"), "{refused}");
    }

    // A typing error, a share of another set, an operator's certificate: refused at once, and by name.
    let submit = |holder: &Path| world.key(holder, &["submit"]);
    let words: Vec<&str> = shares[0].split(' ').collect();
    let mut swapped = words.clone();
    let differ = (8..31).find(|at| words[*at] != words[at + 1]).unwrap();
    swapped.swap(differ, differ + 1);
    let output = with_share(submit(&holders[0]), &swapped.join(" ")).await;
    assert!(output.status.code() == Some(2) && told(&output).contains("checksum"), "{}", told(&output));
    let output = with_share(submit(&holders[0]), &former[1]).await;
    // The former set was never confirmed and gave way to the one that was.
    assert!(output.status.code() == Some(7) && told(&output).contains(&fingerprint), "{}", told(&output));
    let operator = world.cluster.layout().client(ClientFile::Operator);
    let output = with_share(submit(&operator), &shares[0]).await;
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let verified = with_share(world.key(&holders[0], &["verify-share"]), &shares[2]).await;
    assert!(verified.status.success() && told(&verified).contains("the present root key"), "{}", told(&verified));

    // One share is not enough, however often; the second one is.
    for _ in 0..2 {
        let output = with_share(submit(&holders[0]), &shares[0]).await;
        assert!(output.status.success() && told(&output).contains("\"held\":1"), "{}", told(&output));
    }
    assert!(sealed(&operations.status().await.unwrap()));
    let output = with_share(submit(&holders[2]), &shares[2]).await;
    assert!(output.status.success() && told(&output).contains("enough to unseal"), "{}", told(&output));
    world.all_unsealed(3).await;
    let read = world.doctor(HOSPITAL).get(&number, record).await.unwrap().bytes().await.unwrap();
    assert_eq!(&read[..], b"before");
    world.put(&number, "after").await;

    // One voter restarts without people: another one hands it the key.
    let (leader, voters) = (world.leader().await, world.voters());
    world.cluster.kill(&leader, Signal::KILL).await.unwrap();
    world.cluster.restart(&leader).await.unwrap();
    world.all_unsealed(3).await;
    world.settled().await;

    // The key and the shares are nowhere: not in a data directory, not in a log. The search would find them.
    let secret = patterns(std::slice::from_ref(&key), &shares);
    assert_eq!(world.files_with(&secret), Vec::<PathBuf>::new());
    let planted = world.cluster.layout().node_data(&voters[0]).join("planted");
    fs::write(&planted, format!("so it would be found: {}", shares[1])).unwrap();
    assert_eq!(world.files_with(&secret), vec![planted]);
}

/// Writes and reads until it is told to stop; every one must succeed.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    writers: Vec<tokio::task::JoinHandle<Vec<RecordId>>>,
}

impl Load {
    pub(super) async fn start(world: &World, writers: u64) -> Load {
        let (stop, done): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let mut tasks = Vec::new();
        for nth in 0..writers {
            let number = world.enrol(100 + nth).await;
            let (stop, done, doctor) = (stop.clone(), done.clone(), world.doctor(HOSPITAL));
            tasks.push(tokio::spawn(async move {
                let mut written = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let put = doctor.put(&number, super::world::note()).bytes("under load").await;
                    written.push(put.expect("no write fails").record());
                    let at = written[written.len() / 2];
                    let read = doctor.get(&number, at).await.expect("no read fails").bytes().await;
                    assert_eq!(&read.expect("no read fails")[..], b"under load");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                written
            }));
        }
        Load { stop, done, writers: tasks }
    }

    /// Waits for so many more.
    pub(super) async fn more(&self, count: usize) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        until("more writes", UNSEALED, async || match self.done.load(Ordering::Relaxed) {
            done if done >= goal => Ok(()),
            done => Err(format!("{done} of {goal}")),
        })
        .await;
        assert!(self.writers.iter().all(|writer| !writer.is_finished()), "a writer has failed");
    }

    pub(super) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for writer in self.writers {
            count += writer.await.unwrap().len();
        }
        count
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_under_load_and_a_voter_that_was_away_gets_them() {
    let mut world = World::start(3, 1).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "before").await;
    let before = world.root_key("voter-1");
    let away = world.voters().into_iter().find(|name| *name != "voter-1").unwrap();
    let load = Load::start(&world, 3).await;
    load.more(20).await;
    world.cluster.kill(&away, Signal::KILL).await.unwrap();
    load.more(20).await;
    let reply = world.rotate(Rotation::Epoch).await;
    assert_eq!((reply.state, reply.epoch), (4, 2), "{reply:?}");
    load.more(20).await;
    let reply = world.rotate(Rotation::Root { without_shares: false }).await;
    assert_eq!(reply.state, 4, "no shares are in use: {reply:?}");
    assert_eq!((reply.voters_ready.len(), reply.voters_missing), (2, vec![away.clone()]));
    load.more(20).await;
    let reply = world.rotate(Rotation::Epoch).await;
    assert_eq!(reply.epoch, 3);
    load.more(20).await;
    // It comes back with the former root key in its file, and nobody helps it.
    world.cluster.restart(&away).await.unwrap();
    world.all_unsealed(3).await;
    load.more(20).await;
    let files: Vec<String> = world.voters();
    until("the new root key in every file", UNSEALED, async || {
        let keys: Vec<Key> = files.iter().map(|name| world.root_key(name)).collect();
        match keys.iter().all(|key| *key == keys[0] && *key != before) {
            true => Ok(()),
            false => Err("not yet".into()),
        }
    })
    .await;
    assert!(load.end().await > 100);
    for name in &files {
        assert!(!world.cluster.layout().node_data(name).join("root-key.next").exists());
    }
    // The whole cluster starts with what lies in the files, and reads what was sealed before.
    world.settled().await;
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    let recovered = open_recovery(&world.cluster.layout().node_data("voter-1"), &world.root_key("voter-1")).unwrap();
    assert_eq!(recovered.identity.name, "voter-1");
    assert!(open_recovery(&world.cluster.layout().node_data("voter-1"), &before).is_err());
    can_sign(&world, &recovered.authority);
    // Nobody added the recovery CA to a bundle; one member lost its copy, another's is empty since a power cut.
    let bundle = world.cluster.layout().authority_certificate();
    let both = fs::read_to_string(&bundle).unwrap();
    fs::write(&bundle, &both[..both.rfind("-----BEGIN").unwrap()]).unwrap();
    fs::remove_file(world.cluster.layout().node_data("voter-2").join("recovery-ca.pem")).unwrap();
    fs::write(world.cluster.layout().node_data("voter-3").join("recovery-ca.pem"), "").unwrap();
    for member in world.cluster.plan().members.clone() {
        world.cluster.restart(&member.name).await.unwrap();
    }
    world.all_unsealed(3).await;
    let read = world.doctor(HOSPITAL).get(&number, record).await.unwrap().bytes().await.unwrap();
    assert_eq!(&read[..], b"before");
    assert!(world.alarms().await[0].contains("kura key split"));
    // A certificate by the recovery CA opens the door, as from the first day.
    let (files, _) = raw::issue(
        &world.cluster,
        &recovered.authority,
        (Role::Operator, "from-the-recovery-ca"),
        30,
        OffsetDateTime::now_utc(),
    );
    for member in &world.cluster.plan().members {
        let channel = raw::channel(files.clone(), member);
        let mut operations = wire::operations_client::OperationsClient::new(channel);
        until("a certificate by the recovery CA is taken", SOON, async || {
            operations
                .status(wire::StatusRequest {})
                .await
                .map(drop)
                .map_err(|error| format!("{}: {error}", member.name))
        })
        .await;
    }
}

fn can_sign(world: &World, authority: &Authority) {
    let own = fs::read_to_string(world.cluster.layout().authority_certificate()).unwrap();
    assert_eq!(own.matches("BEGIN CERTIFICATE").count(), 2, "the CA and the recovery CA");
    assert!(authority.not_after() > OffsetDateTime::now_utc().unix_timestamp());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_shares_are_in_use_a_new_root_key_waits_for_its_own() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "before").await;
    let (_, fingerprint) = world.split("voter-1", "2", "3").await;
    world.confirm(&fingerprint).await;
    let before = world.root_key("voter-1");
    let what = Rotation::Root { without_shares: false };
    let reply = world.rotate(what).await;
    assert_eq!((reply.state, reply.voters_ready.len()), (3, 3), "{reply:?}");
    assert!(world.alarms().await.iter().any(|alarm| alarm.contains("waits for its shares")));
    assert!(world.root_key("voter-1") == before, "not in use yet");
    // It outlives a restart of everybody, and another one who asks for the same.
    world.settled().await;
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    for voter in world.voters() {
        world.cluster.restart(&voter).await.unwrap();
    }
    world.all_unsealed(3).await;
    let reply = world.operator.keys().rotate(what).await.unwrap();
    assert_eq!((reply.state, reply.voters_ready.len()), (3, 3), "{reply:?}");
    let (shares, fingerprint) = world.split("voter-3", "2", "2").await;
    world.confirm(&fingerprint).await;
    let reply = world.operator.keys().rotate(what).await.unwrap();
    assert_eq!(reply.state, 4, "{reply:?}");
    assert_eq!(world.alarms().await, Vec::<String>::new(), "at no moment is there a root key without shares");
    until("the new root key in every file", UNSEALED, async || {
        match world.voters().iter().all(|voter| world.root_key(voter) != before) {
            true => Ok(()),
            false => Err("not yet".into()),
        }
    })
    .await;
    // These very shares are what unseals it.
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    let holder = world.recovery("rec-1");
    for voter in world.voters() {
        configure(&world.cluster, &voter, by_shares);
        fs::remove_file(world.cluster.layout().root_key(&voter)).unwrap();
        world.cluster.restart(&voter).await.unwrap();
    }
    for share in &shares {
        let output = with_share(world.key(&holder, &["submit"]), share).await;
        assert!(output.status.success(), "{}", told(&output));
    }
    world.all_unsealed(3).await;
    let read = world.doctor(HOSPITAL).get(&number, record).await.unwrap().bytes().await.unwrap();
    assert_eq!(&read[..], b"before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_unseals_a_voter_that_has_no_file_and_is_neither_argument_nor_variable() {
    let mut world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "before").await;
    let key = world.root_key("voter-1");
    world.cluster.stop().await.unwrap();
    // As systemd hands it over: a file in a directory that a variable names.
    let layout = world.cluster.layout().clone();
    let credentials = super::world::folder();
    fs::rename(layout.root_key("voter-1"), credentials.path().join("the-key")).unwrap();
    configure(&world.cluster, "voter-1", |table| {
        let credential =
            Value::Table([("credential".to_owned(), Value::String("the-key".into()))].into_iter().collect());
        table.insert("root_key".into(), credential);
    });
    let serve = |directory: Option<&Path>| {
        let mut command = Command::new(KURA);
        command.args(["serve", "--config"]).arg(layout.node_config("voter-1"));
        command.args(["--exit-with-parent", &std::process::id().to_string()]);
        command.env_remove("CREDENTIALS_DIRECTORY");
        if let Some(directory) = directory {
            command.env("CREDENTIALS_DIRECTORY", directory);
        }
        Serving(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let operations = world.operator.operations();
    let without = serve(None);
    until("a voter without its credential", SOON, async || match world.operator.keys().status().await {
        Ok(status) if !status.unsealed && status.provider == "credential" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    drop(without);
    let with = serve(Some(credentials.path()));
    until("a voter with it", UNSEALED, async || match operations.status().await {
        Ok(status) if status.leader_id != 0 && status.members[0].unsealed => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let read = world.doctor(HOSPITAL).get(&number, record).await.unwrap().bytes().await.unwrap();
    assert_eq!(&read[..], b"before");
    let hexadecimal = hexadecimal(key.expose_bytes());
    for file in ["cmdline", "environ"] {
        // The process lets nobody look in, which is as good.
        let seen = fs::read(format!("/proc/{}/{file}", with.0.id())).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&seen).contains(&hexadecimal), "{file}");
    }
    assert_eq!(world.files_with(&patterns(&[key], &[])), Vec::<PathBuf>::new(), "not on the voter's disk");
}

/// A process of a test's own, killed when it goes.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
