//! An old disk turns up after a take-over: what was acknowledged beyond the backup comes back by the present rules, what
//! restricts first, and nothing twice.

mod again;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

use kura_client::{Access, Action, Client, Config, Consent, GetError, ParticipantNumber};
use kura_node::dev::{ClientFile, Member, Signal};
use serde_json::Value;

use super::recovery::{Ran, Served, copy, kura, through, write_config};
use super::world::{
    CLINIC, HOSPITAL, OUTSIDER, SOON, World, doctor_through, listed, note, number, person_through, until,
};

const LONG_BYTES: usize = 3 << 20;

fn long_body() -> Vec<u8> {
    (0..LONG_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

async fn enrol(world: &World, nth: u64) -> ParticipantNumber {
    let number = number(nth);
    let consent = Consent::signed_on("2020-01-01".parse().unwrap()).evidence("paper 7");
    world.doctor(HOSPITAL).enrol(&number, consent).await.unwrap();
    number
}

/// Takes the cluster over from the backup's disk with the voter's root key, and starts it. Answers its name, too.
async fn take_over(world: &World, folder: &Path, root_key: &Path) -> (Served, String) {
    let plan = kura(folder, &["recover", "plan", "data", "--out", "plan.json"], "").await.json();
    let config = fs::read_to_string(world.cluster.layout().node_config("backup-1")).unwrap();
    let mut table: toml::Table = config.parse().unwrap();
    table.insert("data".into(), "taken".into());
    table.insert("root_key".into(), "root.key".into());
    table.remove("archive");
    table.get_mut("tls").unwrap().as_table_mut().unwrap().insert("certificate".into(), "voter.pem".into());
    fs::write(folder.join("taken.toml"), table.to_string()).unwrap();
    let name = plan["cluster_name"].as_str().unwrap().to_owned();
    let root_key = root_key.display().to_string();
    let apply = ["recover", "apply", "--plan", "plan.json", "--config", "taken.toml", "--fenced", "burnt"];
    let apply = [&apply[..], &["--root-key", &root_key, "--cluster-name", &name]].concat();
    kura(folder, &apply, "").await.json();
    (Served::start(folder, "taken.toml"), name)
}

fn connected(world: &World, file: ClientFile, backup: &Member) -> Config {
    through(world, file, std::slice::from_ref(backup))
}

fn became<'v>(report: &'v Value, action: &str, became: &str) -> Vec<&'v Value> {
    let listed = report["listed"].as_array().unwrap();
    listed.iter().filter(|one| one["action"] == action && one["became"] == became).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The write-ahead files of a log, the newest last.
fn write_ahead(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(data.join("log/db")).unwrap().map(|one| one.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

/// A cluster that was taken over from the backup's disk, and the disk of the lost prefecture.
struct After {
    folder: PathBuf,
    /// The old data directory.
    old: PathBuf,
    /// The cluster's name.
    name: String,
    /// Recovery staff's client configuration, and its file.
    staff: Config,
    staff_file: String,
    application: Client,
    operator: Client,
    auditor: Client,
    registrar: Client,
    _lone: Served,
}

impl After {
    /// The prefecture is lost: its disk is found, its backup taken over.
    async fn of(world: &mut World, staff: Config) -> After {
        let layout = world.cluster.layout().clone();
        let (backup, folder) = (world.member("backup-1"), layout.node("backup-1"));
        world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
        let old = layout.directory().join("found");
        copy(&layout.node("voter-1").join("data"), &old);
        let root_key = layout.directory().join("kept.key");
        fs::copy(layout.root_key("voter-1"), &root_key).unwrap();
        world.cluster.discard("voter-1").await.unwrap();
        let (lone, name) = take_over(world, &folder, &root_key).await;
        let client = async |file| Client::connect_lazily(connected(world, file, &backup)).await.unwrap();
        let operator = client(ClientFile::Operator).await;
        until("a leader on the new timeline", SOON, async || {
            let status = operator.operations().status().await.map_err(|error| error.to_string())?;
            if status.leader_id != 0 && status.timeline == 1 { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        let staff = Config { endpoints: connected(world, ClientFile::Operator, &backup).endpoints, ..staff };
        After {
            old,
            name,
            staff_file: write_config(&staff, &folder.join("staff.toml")),
            staff,
            application: client(ClientFile::Application).await,
            operator,
            auditor: client(ClientFile::Auditor).await,
            registrar: client(ClientFile::Registrar1).await,
            folder,
            _lone: lone,
        }
    }

    async fn open(&self, steps: &[&str]) {
        for step in steps {
            kura(&self.folder, &["recover", "open", step, "--client", "staff.toml"], "").await.json();
        }
    }

    async fn salvage(&self, more: &[&str], typed: &str) -> Ran {
        let from = self.old.display().to_string();
        let all = [&["recover", "salvage", "--from", &from, "--client", &self.staff_file], more].concat();
        kura(&self.folder, &all, typed).await
    }

    async fn apply(&self) -> Ran {
        self.salvage(&["--apply", "--cluster-name", &self.name], "").await
    }

    async fn journal(&self) -> Vec<Access> {
        self.auditor.journal().list().oldest_first().stream().take(usize::MAX).await.unwrap()
    }
}

/// What a run reported, however it ended.
fn report(ran: &Ran) -> Value {
    serde_json::from_str(ran.out.lines().next().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_brings_back_what_the_backup_never_had() {
    let mut world = World::start(1, 1).await;
    let staff = Config::load(world.recovery("rec-1")).unwrap();
    let hospital = world.doctor(HOSPITAL);

    // What both have.
    let (one, three, four) = (world.enrol(1).await, world.enrol(3).await, world.enrol(4).await);
    let known = world.put(&one, "known to both").await;
    let shown = world.put(&three, "shown to both").await;
    world.put(&four, "of one who leaves").await;
    world.settled().await;

    // What the backup never has. All of it is acknowledged.
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    let short = hospital.put(&one, note()).bytes("beyond the backup").await.unwrap();
    let second = hospital.put(&one, note().version_of(known)).bytes("its second version").await.unwrap();
    let long = hospital.put(&one, note()).bytes(long_body()).await.unwrap().record();
    world.person(one).revoke(CLINIC).await.unwrap();
    hospital.hide(&three, shown).await.unwrap();
    let refused = world.doctor(CLINIC).put(&three, note()).bytes("of one revoked later").await.unwrap();
    world.person(four).withdraw().await.unwrap();
    let two = enrol(&world, 2).await;
    for facility in [HOSPITAL, CLINIC, OUTSIDER] {
        world.person(two).grant(facility).await.unwrap();
    }
    hospital.link(&two, "local-2").await.unwrap();
    let theirs = hospital.put(&two, note().document_id("doc-1")).bytes("of somebody new").await.unwrap().record();
    let hidden = hospital.put(&two, note()).bytes("hidden at once").await.unwrap().record();
    hospital.hide(&two, hidden).await.unwrap();
    world.person(two).revoke(OUTSIDER).await.unwrap();
    hospital.get(&one, short.record()).await.unwrap().bytes().await.unwrap();

    // The prefecture is lost; one disk of it is found later.
    let after = After::of(&mut world, staff).await;
    let After { folder, application, staff_file, .. } = &after;
    let size = async || -> u64 { after.operator.operations().status().await.unwrap().journal_size };

    // A rehearsal says it all, and writes nothing but that it was made: it opens what it decides.
    let before = size().await;
    let rehearsed = after.salvage(&[], "").await.json();
    assert_eq!(size().await, before + 1, "its beginning alone is journalled");
    let told = after.journal().await;
    let entry = told.iter().rfind(|one| one.action == Action::Recover).unwrap();
    assert!(entry.object.contains("salvage from timeline 0, a rehearsal") && entry.actor == "rec-1", "{entry:?}");
    let before = size().await;
    assert_eq!(rehearsed["applied"], false);
    assert_eq!(became(&rehearsed, "put", "applied").len(), 4, "{rehearsed}");
    assert_eq!(became(&rehearsed, "enrol", "by-hand").len(), 1, "nobody is let in by a disk: {rehearsed}");
    assert_eq!(became(&rehearsed, "revoke", "applied").len(), 1, "{rehearsed}");
    assert!(!rehearsed.to_string().contains(one.reveal()), "a report names no participant");
    after.salvage(&["--apply"], "another\n").await.refused(2, "nothing was done");
    assert_eq!(size().await, before);

    // Nothing is open yet, and what restricts is in force nevertheless; the rest waits.
    let typed = format!("{}\n", after.name);
    after.salvage(&["--apply"], &typed).await.refused(5, "opened step by step");
    after.open(&["emergency", "reads", "writes"]).await;
    let clinic = doctor_through(application, CLINIC);
    let denied = clinic.get(&one, known).await.map(drop);
    assert!(matches!(denied, Err(GetError::Denied(_))), "the revocation came back: {denied:?}");
    // Who was enrolled there alone is enrolled again, by people.
    let hospital = doctor_through(application, HOSPITAL);
    let consent = Consent::signed_on("2020-01-01".parse().unwrap()).evidence("form 2 again");
    hospital.enrol(&two, consent).await.unwrap();
    for facility in [HOSPITAL, CLINIC] {
        person_through(application, two).grant(facility).await.unwrap();
    }
    // One more thing changes on the new timeline before the rest comes.
    person_through(application, three).revoke(CLINIC).await.unwrap();

    let applied = after.salvage(&["--apply"], &typed).await;
    applied.refused(9, "2 were refused");
    let told = report(&applied);
    assert_eq!(became(&told, "put", "applied").len(), 5, "{told}");
    assert_eq!(became(&told, "put", "refused").len(), 1, "{told}");
    assert_eq!(became(&told, "put", "refused")[0]["why"], "not-granted");
    assert_eq!(became(&told, "grant", "refused").len(), 1, "the outsider's: {told}");
    for (action, count) in [("revoke", 2), ("withdraw", 1), ("hide", 2)] {
        assert_eq!(became(&told, action, "there").len(), count, "{action}: {told}");
    }

    // Whole, under the ids of then.
    let text = async |number: &ParticipantNumber, record| {
        hospital.get(number, record).await.unwrap().bytes().await.unwrap().to_vec()
    };
    assert_eq!(text(&one, short.record()).await, b"beyond the backup");
    assert_eq!(text(&one, known).await, b"its second version");
    assert_eq!(text(&one, long).await, long_body());
    assert_eq!(text(&two, theirs).await, b"of somebody new");
    assert_eq!(text(&two, hidden).await, b"hidden at once");
    assert_eq!(second.version(), 2);
    assert_eq!(hospital.resolve("local-2").await.unwrap(), two);
    // As restricted as they were, and no more open than the present will.
    let theirs_seen: Vec<_> = listed(&clinic, &two).await.into_iter().map(|one| one.record).collect();
    assert_eq!(theirs_seen, [theirs], "what was hidden came back hidden");
    let gone = hospital.get(&three, refused.record()).await.map(drop);
    assert!(gone.is_err(), "refused");
    let outsider = doctor_through(application, OUTSIDER).get(&two, theirs).await.map(drop);
    assert!(matches!(outsider, Err(GetError::Denied(_))), "{outsider:?}");
    let left = hospital.list(&four).stream().take(1).await;
    assert!(left.is_err(), "who has left has left");

    // The journal has the actor of then, whence it came and who offered it; what restricts stands before all else.
    let journal = after.journal().await;
    let salvaged: Vec<&Access> = journal.iter().filter(|one| one.salvaged.is_some()).collect();
    let at = |action: Action| salvaged.iter().position(|one| one.action == action && one.denial.is_empty()).unwrap();
    for first in [Action::Revoke, Action::Hide, Action::Withdraw] {
        assert!(at(first) < at(Action::Put), "{first}");
    }
    let entry = salvaged.iter().find(|one| one.record == Some(short.record())).unwrap();
    let whence = entry.salvaged.as_ref().unwrap();
    assert_eq!((whence.timeline, whence.index, &whence.by[..]), (0, short.index(), "rec-1"));
    assert_eq!((&entry.facility[..], &entry.actor[..]), (HOSPITAL, super::world::DOCTOR));
    assert_eq!(entry.request, Some(short.request()));

    // Once more: nothing happens twice.
    let again = after.apply().await;
    again.refused(9, "were refused");
    assert_eq!(report(&again)["counts"].get("applied"), None, "{}", again.out);
    assert_eq!(listed(&hospital, &two).await.len(), 2);
    assert_eq!(listed(&hospital, &one).await.len(), 3);

    // A damaged end is named, and nothing of it is made up.
    let damaged = after.old.with_file_name("damaged");
    copy(&after.old, &damaged);
    let wal = write_ahead(&damaged).pop().unwrap();
    flip(&wal, fs::metadata(&wal).unwrap().len() as usize / 2);
    let damaged = damaged.display().to_string();
    let looked = kura(folder, &["recover", "salvage", "--from", &damaged, "--client", staff_file], "").await;
    looked.refused(7, "its log lacks what it once promised");
    assert!(!report(&looked)["faults"].as_array().unwrap().is_empty(), "{}", looked.out);
    // A disk on which a node runs is no old disk.
    let taken = folder.join("taken").display().to_string();
    let own = kura(folder, &["recover", "salvage", "--from", &taken, "--client", staff_file], "").await;
    own.refused(8, "a node runs on this directory");
}
