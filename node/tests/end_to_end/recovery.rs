//! A prefecture is lost: the backup's disk and two people with shares bring the cluster back (docs/recovery.md).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kura_client::{ActingClient, Client, Config, Endpoint, GetError, PutError, wire};
use kura_node::dev::{ClientFile, Member, Signal};
use serde_json::Value;

use super::custody::told;
use super::world::{CLINIC, HOSPITAL, KURA, SOON, World, doctor_through, note, until};

const RECORDS: usize = 40;
/// Longer than a refusal takes, shorter than a client goes on asking.
const SHORT: Duration = Duration::from_millis(700);

/// A command of the program, run to its end.
pub(super) struct Ran {
    code: Option<i32>,
    text: String,
    pub(super) out: String,
}

impl Ran {
    pub(super) fn refused(&self, code: i32, words: &str) {
        assert!(self.code == Some(code) && self.text.contains(words), "{:?}: {}", self.code, self.text);
    }

    /// Whether it ended with these words.
    pub(super) fn is(&self, words: &str) -> bool {
        self.code != Some(0) && self.text.contains(words)
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.text);
        serde_json::from_str(self.out.lines().next().unwrap()).unwrap()
    }
}

pub(super) async fn kura(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(KURA);
    command.args(["--json"]).args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child = command.spawn().unwrap();
        // One that refuses early does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    Ran { code: output.status.code(), text: told(&output), out }
}

/// A node that was started here; killed when dropped.
pub(super) struct Served(std::process::Child);

impl Served {
    pub(super) fn start(folder: &Path, config: &str) -> Served {
        Served::start_with(folder, config, &[])
    }

    pub(super) fn start_with(folder: &Path, config: &str, more: &[&str]) -> Served {
        let log = fs::File::options().create(true).append(true).open(folder.join("recovered.txt")).unwrap();
        let again = log.try_clone().unwrap();
        let mut command = Command::new(KURA);
        command.args(["serve", "--config", config]).args(more).current_dir(folder);
        Served(command.stdin(Stdio::null()).stdout(log).stderr(again).spawn().unwrap())
    }

    /// Waits until it has ended by itself, and answers its exit code.
    pub(super) async fn ended(mut self) -> Option<i32> {
        until("its end", SOON, async || match self.0.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err("it runs".into()),
        })
        .await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn body(nth: usize) -> Vec<u8> {
    (0..1 + nth * 977).map(|at| (at * 31 + nth) as u8).collect()
}

/// A client configuration that names these nodes.
pub(super) fn through(world: &World, file: ClientFile, members: &[Member]) -> Config {
    let endpoints = members.iter().map(|one| Endpoint { name: one.name.clone(), address: one.address() }).collect();
    Config { endpoints, ..world.cluster.client_config(file).unwrap() }
}

pub(super) fn write_config(config: &Config, path: &Path) -> String {
    fs::write(path, config.to_toml().unwrap()).unwrap();
    path.display().to_string()
}

async fn reads_all(doctor: &ActingClient, number: &kura_client::ParticipantNumber, records: &[kura_client::RecordId]) {
    for (nth, record) in records.iter().enumerate() {
        let read = doctor.get(number, *record).await.unwrap().bytes().await.unwrap();
        assert!(read[..] == body(nth)[..], "record {nth} is byte-exact");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backups_disk_and_shares_bring_a_lost_prefecture_back() {
    let mut world = World::start(3, 1).await;
    let layout = world.cluster.layout().clone();
    let (backup, directory) = (world.member("backup-1"), layout.directory().to_owned());
    let (former, _) = world.split("voter-1", "2", "2").await;
    let (shares, fingerprint) = world.split("voter-1", "2", "3").await;
    world.confirm(&fingerprint).await;
    let staff = world.recovery("rec-1");
    // What an application server has from its first day: every voter, and the backup besides.
    let mut members: Vec<Member> = world.cluster.plan().voters().cloned().collect();
    members.push(backup.clone());
    let everywhere = through(&world, ClientFile::Application, &members);
    let old_client = Client::connect(everywhere).await.unwrap();
    let doctor = doctor_through(&old_client, HOSPITAL);

    let number = world.enrol(1).await;
    let mut records = Vec::new();
    for nth in 0..RECORDS {
        records.push(doctor.put(&number, note()).bytes(body(nth)).await.unwrap().record());
    }
    let before = world.settled().await;
    // Beyond what the backup's state has on its disk, and what it knows to be committed.
    for nth in RECORDS..2 * RECORDS {
        records.push(doctor.put(&number, note()).bytes(body(nth)).await.unwrap().record());
    }
    let index = |status: &wire::StatusReply, name: &str| {
        status.members.iter().find(|member| member.name == name).unwrap().synced_index
    };
    let operations = world.operator.operations();
    let last = operations.status().await.unwrap();
    let end = last.members.iter().map(|member| member.synced_index).max().unwrap();
    until("the backup has all of it", SOON, async || {
        let status = operations.status().await.map_err(|error| error.to_string())?;
        if index(&status, "backup-1") >= end { Ok(()) } else { Err("not yet".into()) }
    })
    .await;

    // A node runs: nothing is planned.
    let folder = layout.node("backup-1");
    let plan = |out: &'static str| ["recover", "plan", "data", "--out", out];
    kura(&folder, &plan("plan.json"), "").await.refused(8, "a node runs on this directory");

    // The prefecture is lost, with its CA's key. Only a disk of it turns up later.
    let old_voter = directory.join("found-later");
    for voter in ["voter-1", "voter-2", "voter-3", "backup-1"] {
        world.cluster.kill(voter, Signal::KILL).await.unwrap();
    }
    copy(&layout.node("voter-1"), &old_voter);
    let old_config = fs::read_to_string(old_voter.join("config.toml")).unwrap();
    fs::write(old_voter.join("config.toml"), old_config.replace("../../ca/", "../ca/")).unwrap();
    for voter in ["voter-1", "voter-2", "voter-3"] {
        world.cluster.discard(voter).await.unwrap();
    }
    fs::remove_file(layout.authority().join("ca.key")).unwrap();

    let planned = kura(&folder, &plan("plan.json"), "").await.json();
    let best = &planned["found"][0];
    assert_eq!((&best["kind"], &best["name"]), (&Value::from("backup"), &Value::from("backup-1")));
    assert!(best["last"]["index"].as_u64().unwrap() >= end, "{best}");
    assert!(best["last_at_ms"].as_u64().unwrap() > 0);
    assert_eq!(planned["published"], Value::Null, "UNKNOWN, not made up");
    let fence: Vec<&str> =
        planned["fence"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(fence, ["voter-1", "voter-2", "voter-3"]);

    // The backup's configuration, as a voter's: another data directory, certificate and a root key.
    let config = fs::read_to_string(layout.node_config("backup-1")).unwrap();
    fs::write(folder.join("taken.toml"), config).unwrap();
    let taken = folder.join("taken.toml");
    let mut table: toml::Table = fs::read_to_string(&taken).unwrap().parse().unwrap();
    table.insert("data".into(), "taken".into());
    table.insert("root_key".into(), "root.key".into());
    table.remove("archive");
    table.get_mut("tls").unwrap().as_table_mut().unwrap().insert("certificate".into(), "voter.pem".into());
    fs::write(&taken, table.to_string()).unwrap();
    let cluster = planned["cluster_name"].as_str().unwrap().to_owned();
    let apply = |plan: &'static str| {
        ["recover", "apply", "--plan", plan, "--config", "taken.toml", "--fenced", "the site is gone", "--ca", "new-ca"]
    };
    let typed = |name: &str, shares: &[&String]| {
        let shares: String = shares.iter().map(|share| format!("{share}\n")).collect();
        format!("{name}\n{shares}")
    };

    // Refused, each without a trace: another name, too few shares, a damaged one, one of another set.
    let untouched = |what: &str| {
        for made in ["taken", "taken.unfinished", "voter.pem", "root.key", "new-ca"] {
            assert!(!folder.join(made).exists(), "{what}: {made}");
        }
    };
    let all = [&shares[0], &shares[2]];
    kura(&folder, &apply("plan.json"), &typed("another", &all)).await.refused(2, "nothing was done");
    untouched("another name");
    kura(&folder, &apply("plan.json"), &typed(&cluster, &all[..1])).await.refused(2, "1 of 2 shares");
    untouched("too few shares");
    let wrong = shares[0].rsplit_once(' ').unwrap().0.to_owned() + " storehouse";
    kura(&folder, &apply("plan.json"), &typed(&cluster, &[&wrong, all[1]])).await.refused(2, "word 32");
    untouched("a damaged share");
    kura(&folder, &apply("plan.json"), &typed(&cluster, &[&former[0], all[1]])).await.refused(7, &fingerprint);
    untouched("a share of another set");
    // A CA that is there is found before anybody types anything.
    fs::create_dir(folder.join("old-ca")).unwrap();
    fs::write(folder.join("old-ca/ca.key"), "somebody's").unwrap();
    let onto = [&apply("plan.json")[..9], &["old-ca"]].concat();
    kura(&folder, &onto, "").await.refused(8, "ca.key is there already");
    assert_eq!(fs::read(folder.join("old-ca/ca.key")).unwrap(), b"somebody's");
    let without = ["recover", "apply", "--plan", "plan.json", "--config", "taken.toml"];
    kura(&folder, &without, "").await.refused(2, "--fenced");

    // A root key of somebody else's is not taken for this cluster's, nor overwritten.
    let foreign = format!("{}\n", "5a".repeat(32));
    fs::write(folder.join("root.key"), &foreign).unwrap();
    fs::set_permissions(folder.join("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
    kura(&folder, &apply("plan.json"), &typed(&cluster, &all)).await.refused(8, "holds another key");
    assert_eq!(fs::read_to_string(folder.join("root.key")).unwrap(), foreign);
    fs::remove_file(folder.join("root.key")).unwrap();
    untouched("somebody else's root key");
    // What fails at the very end leaves nothing either: no CA, no certificate, no key.
    let mut nowhere = table.clone();
    nowhere.insert("root_key".into(), "nowhere/root.key".into());
    fs::write(folder.join("nowhere.toml"), nowhere.to_string()).unwrap();
    let onto: Vec<&str> =
        apply("plan.json").iter().map(|one| if *one == "taken.toml" { "nowhere.toml" } else { *one }).collect();
    kura(&folder, &onto, &typed(&cluster, &all)).await.refused(7, "nowhere/root.key");
    untouched("a root key that cannot be written");
    // A link to nowhere is found before anybody types a share.
    symlink("not-there", folder.join("taken")).unwrap();
    kura(&folder, &apply("plan.json"), &format!("{cluster}\n")).await.refused(2, "is a link to what is not there");
    fs::remove_file(folder.join("taken")).unwrap();
    untouched("a link to nowhere");

    // Something touched the disk since the plan was made.
    let marks = folder.join("data/log/marks");
    let bytes = fs::read(&marks).unwrap();
    fs::write(&marks, &bytes).unwrap();
    kura(&folder, &apply("plan.json"), &typed(&cluster, &all)).await.refused(8, "has changed since the plan");
    untouched("changed");
    kura(&folder, &plan("plan-2.json"), "").await.json();

    // The data directory may be a link to an empty one.
    fs::create_dir(folder.join("on-another-disk")).unwrap();
    symlink("on-another-disk", folder.join("taken")).unwrap();
    let report = kura(&folder, &apply("plan-2.json"), &typed(&cluster, &all)).await.json();
    assert!(folder.join("on-another-disk/identity").exists() && folder.join("root.key").exists());
    assert_eq!(report["timeline"], 1);
    assert_eq!(report["missing_below_published"], Value::Null);
    let unconfirmed = report["unconfirmed"].as_u64().unwrap();
    assert_eq!(report["tail"].as_array().unwrap().len() as u64, unconfirmed);
    assert_eq!(report["last"]["index"].as_u64().unwrap() - report["committed"]["index"].as_u64().unwrap(), unconfirmed);
    let numbers = report.to_string();
    assert!(!numbers.contains(number.reveal()), "a statement names no participant");
    // Whoever plans a second one from the same disk is told.
    let second = kura(&folder, &plan("plan-3.json"), "").await.json();
    let taken_over = &second["found"][0]["taken_over"];
    assert_eq!((&taken_over["timeline"], &taken_over["member"]), (&Value::from(1), &report["member"]), "{second}");
    let again = [&apply("plan-3.json")[..9], &["newer-ca"]].concat();
    let again = kura(&folder, &again, &typed(&cluster, &all)).await;
    again.refused(8, "holds a take-over that is whole, of timeline 1");
    let verified = kura(&folder, &["recover", "verify", "--config", "taken.toml"], "").await.json();
    assert_eq!((&verified["sound"], &verified["has_run"]), (&Value::from(true), &Value::from(false)));
    assert!(verified["opened"].as_u64().unwrap() > 50, "{verified}");
    assert!(verified["journal_size"].as_u64().unwrap() > before.journal_size);

    // It starts as the only member; nothing is served yet, then more and more.
    let lone = Served::start(&folder, "taken.toml");
    let clients = std::slice::from_ref(&backup);
    let operator = Client::connect_lazily(through(&world, ClientFile::Operator, clients)).await.unwrap();
    let alone = until("a leader on the new timeline", SOON, async || {
        let status = operator.operations().status().await.map_err(|error| error.to_string())?;
        match status.members.len() == 1 && status.leader_id != 0 && status.members[0].unsealed {
            true => Ok(status),
            false => Err(format!("{status:?}")),
        }
    })
    .await;
    assert_eq!((alone.timeline, alone.members[0].role), (1, 1));
    assert!(alone.alarms.iter().any(|alarm| alarm.contains("open emergency")), "{:?}", alone.alarms);
    let clinic = doctor_through(&old_client, CLINIC);
    let read = clinic.get(&number, records[0]).time_limit(SHORT).await;
    assert!(matches!(&read, Err(GetError::Later(_))), "{read:?}");
    let staffs =
        Config { endpoints: through(&world, ClientFile::Operator, clients).endpoints, ..Config::load(&staff).unwrap() };
    let staffs = write_config(&staffs, &folder.join("staff.toml"));
    let open = |step: &'static str| ["recover", "open", step, "--client", "staff.toml"];
    assert!(staffs.ends_with("staff.toml"));
    kura(&folder, &open("reads"), "").await.refused(2, "open emergency first");
    let operators = write_config(&through(&world, ClientFile::Operator, clients), &folder.join("operator.toml"));
    kura(&folder, &["recover", "open", "emergency", "--client", &operators], "").await.refused(3, "");
    kura(&folder, &open("emergency"), "").await.json();
    let read = clinic.get(&number, records[0]).time_limit(SHORT).await;
    assert!(matches!(&read, Err(GetError::Later(_))), "{read:?}");
    kura(&folder, &open("reads"), "").await.json();
    reads_all(&clinic, &number, &records).await;
    let put = doctor.put(&number, note()).bytes("too early").time_limit(SHORT).await;
    assert!(matches!(&put, Err(PutError::Later(_))), "{put:?}");
    kura(&folder, &open("writes"), "").await.json();
    // The client of before the loss follows, with its old configuration.
    let receipt = doctor.put(&number, note()).bytes("after").await.unwrap();
    assert_eq!(receipt.timeline(), 1);

    // Three voters join, with certificates of the recovery CA.
    let registrars = write_config(&through(&world, ClientFile::Registrar1, clients), &folder.join("registrar.toml"));
    let mut voters = Vec::new();
    for name in ["voter-4", "voter-5", "voter-6"] {
        voters.push(join(&folder, &directory, &backup, name, &cluster, &operators, &registrars).await);
    }
    let status = until("four unsealed voters", SOON, async || {
        let status = operator.operations().status().await.map_err(|error| error.to_string())?;
        let ready = status.members.iter().filter(|one| one.role == 1 && one.unsealed && one.reachable).count();
        let same = status.members.iter().all(|one| one.agreement != 2);
        if ready == 4 && same { Ok(status) } else { Err(format!("{ready} of 4")) }
    })
    .await;
    assert_eq!(status.timeline, 1);
    doctor.put(&number, note()).bytes("on four").await.unwrap();

    // The old disk turns up. Nothing is on it that the backup lacks; then somebody starts it.
    let old_data = old_voter.join("data").display().to_string();
    let salvage = ["recover", "salvage", "--from", &old_data, "--client", "staff.toml"];
    let salvaged = kura(&folder, &salvage, "").await.json();
    assert_eq!(
        (&salvaged["counts"], &salvaged["faults"]),
        (&serde_json::json!({}), &serde_json::json!([])),
        "{salvaged}"
    );
    let own = folder.join("data").display().to_string();
    let salvage = ["recover", "salvage", "--from", &own, "--client", "staff.toml"];
    assert_eq!(kura(&folder, &salvage, "").await.json()["entries"], 0, "it was taken over whole");
    let old = Served::start(&old_voter, "config.toml");
    assert_eq!(old.ended().await, Some(8), "a supervisor leaves it");
    let said = fs::read_to_string(old_voter.join("recovered.txt")).unwrap();
    assert!(said.contains("the cluster has gone on without it on timeline 1"), "{said}");
    assert!(old_voter.join("data/fenced").exists());
    // It refuses itself from now on, also where it reaches nobody.
    configure_away(&old_voter);
    let old = Served::start(&old_voter, "config.toml");
    assert_eq!(old.ended().await, Some(8), "a supervisor leaves it");
    let said = fs::read_to_string(old_voter.join("recovered.txt")).unwrap();
    assert_eq!(said.matches("kura: this node is of timeline 0").count(), 2, "{said}");

    // Nor does its former approval get it the root key, on a new directory: whoever has the disk has the certificate.
    join_again(&old_voter, &backup);
    kura(&old_voter, &["join", "--config", "again.toml"], "").await.refused(3, "approval");
    assert!(!old_voter.join("again.key").exists());

    // No second cluster is made of it.
    let alone = ["recover", "plan", &old_data, "--out", "plan-4.json"];
    kura(&folder, &alone, "").await.refused(7, "it was fenced off");
    assert!(!folder.join("plan-4.json").exists());
    // Beside another it is the last, however far it got.
    let ranked = kura(&folder, &["recover", "plan", &old_data, &own, "--out", "plan-5.json"], "").await.json();
    let usable: Vec<_> = ranked["found"].as_array().unwrap().iter().map(|one| one["usable"].clone()).collect();
    assert_eq!(usable, [true, false], "{ranked}");

    // All of it outlives a restart of the one that took over.
    drop(lone);
    let _lone = Served::start(&folder, "taken.toml");
    reads_all(&clinic, &number, &records).await;
    drop(voters);
}

fn configure_away(node: &Path) {
    let path = node.join("config.toml");
    let mut table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    table.insert("listen".into(), "127.0.0.1:0".into());
    fs::write(&path, table.to_string()).unwrap();
}

/// A configuration of the same node, with a directory where it has never been.
fn join_again(node: &Path, member: &Member) {
    let mut table: toml::Table = fs::read_to_string(node.join("config.toml")).unwrap().parse().unwrap();
    table.insert("data".into(), "again".into());
    table.insert("root_key".into(), "again.key".into());
    table.insert("peers".into(), vec![peer(member)].into());
    fs::write(node.join("again.toml"), table.to_string()).unwrap();
}

fn peer(member: &Member) -> toml::Value {
    let name = member.name.clone().into();
    toml::Table::from_iter([("name".to_owned(), name), ("address".to_owned(), member.address().into())]).into()
}

/// A voter on the documented path: key and request, certificate, both approvals, join, serve, add.
async fn join(
    taken: &Path,
    directory: &Path,
    lone: &Member,
    name: &str,
    cluster: &str,
    operators: &str,
    registrars: &str,
) -> Served {
    let folder: PathBuf = directory.join("nodes").join(name);
    fs::create_dir_all(&folder).unwrap();
    let request = [
        "node",
        "request",
        "--role",
        "voter",
        "--name",
        name,
        "--cluster",
        cluster,
        "--key",
        "node.key",
        "--request",
        "node.csr",
    ];
    kura(&folder, &request, "").await.json();
    let ca = taken.join("new-ca").display().to_string();
    let sign = ["ca", "sign", "node.csr", "--directory", &ca, "--role", "voter", "--name", name, "--out", "node.pem"];
    kura(&folder, &sign, "").await.json();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let text = fs::read_to_string(taken.join("taken.toml")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    for (key, value) in [("name", name), ("data", "data"), ("listen", &address), ("advertise", &address)] {
        table.insert(key.into(), value.into());
    }
    table.remove("metrics_listen");
    table.get_mut("tls").unwrap().as_table_mut().unwrap().insert("certificate".into(), "node.pem".into());
    table.insert("peers".into(), vec![peer(lone)].into());
    fs::write(folder.join("config.toml"), table.to_string()).unwrap();
    for client in [operators, registrars] {
        let approve = ["member", "approve", "node.csr", "--address", &address, "--client", client];
        let approved = kura(&folder, &approve, "").await;
        assert!(matches!(approved.code, Some(0 | 10)), "{}", approved.text);
    }
    // A root key that is somebody else's is neither used nor overwritten.
    let foreign = format!("{}\n", "5a".repeat(32));
    fs::write(folder.join("root.key"), &foreign).unwrap();
    fs::set_permissions(folder.join("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
    kura(&folder, &["join", "--config", "config.toml"], "").await.refused(8, "holds another key");
    assert_eq!(fs::read_to_string(folder.join("root.key")).unwrap(), foreign);
    fs::remove_file(folder.join("root.key")).unwrap();
    kura(&folder, &["join", "--config", "config.toml"], "").await.json();
    let served = Served::start(&folder, "config.toml");
    until("its port", SOON, async || {
        std::net::TcpStream::connect(&address).map(drop).map_err(|error| error.to_string())
    })
    .await;
    let added = kura(&folder, &["member", "add-voter", name, "--client", operators], "").await;
    assert_eq!(added.code, Some(0), "{}", added.text);
    served
}
