//! Erasure on a real cluster: by two people, after the grace period, until nothing of it opens anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use kura_client::{
    Action, Consent, ConsentError, ErasureError, ErasureState, ListError, ParticipantNumber, RequestId, ShownErasure,
    now_ms,
};
use kura_cluster::Pseudonym;
use kura_cluster::row::{NumberRow, RowKey, Table};
use kura_cluster::seal::{Domain, RowContext, RowName, index_hash, open_row};
use kura_node::dev::{ClientFile, Signal};
use kura_node::identity::NodeIdentity;
use kura_node::state::{Database, StateStore};
use kura_node::vault::{Vault, read_root_key};
use prost::Message;

use super::clock::Clock;
use super::memory::Made;
use super::world::{HOSPITAL, KURA, SOON, World, folder, listed, note, until};

const DAY_MS: i64 = 86_400_000;
/// One day more than the grace period's default.
const GRACE_OVER_MS: i64 = 31 * DAY_MS;
/// The log is purged once every member has it, and its files rewritten.
const CERTIFIED: Duration = Duration::from_secs(180);

/// A member's files, as someone finds them who opens them with the root key.
struct Found {
    vault: Vault,
    database: Arc<Database>,
}

impl Found {
    fn open(data: &Path, root_key: &Path) -> Found {
        let cluster_id = NodeIdentity::read(data).unwrap().cluster_id;
        let current = fs::read_to_string(data.join("state/CURRENT")).unwrap();
        let database = Database::open(&data.join("state").join(current.trim())).unwrap();
        let store = StateStore::at_rest(database).unwrap();
        let root = Arc::new(read_root_key(root_key).unwrap().unwrap());
        Found { vault: Vault::unseal(root, cluster_id, &store).unwrap(), database: store.database() }
    }

    fn number_key(&self, number: &ParticipantNumber) -> RowKey {
        let index = &self.vault.keyring().index;
        RowKey::hashed(Table::Number, &index_hash(index, Domain::Number, &[number.reveal().as_bytes()]))
    }

    fn pseudonym(&self, number: &ParticipantNumber) -> Option<Pseudonym> {
        let key = self.number_key(number);
        let stored = self.database.row(&key).unwrap()?;
        let (cluster_id, keyring) = (self.vault.cluster_id(), self.vault.keyring());
        let context = RowContext {
            cluster_id: &cluster_id,
            name: RowName::Full(key.as_bytes()),
            supersedes: stored.header.replaced,
            open_part_sha256: None,
        };
        let plain = open_row(&keyring.registry, keyring.epoch, &context, &stored.value).unwrap();
        Pseudonym::from_slice(&NumberRow::decode(&plain[..]).unwrap().pseudonym).ok()
    }

    /// The stored bytes that must go: the wrapped key, the number, the participant.
    fn traces(&self, number: &ParticipantNumber) -> [Vec<u8>; 3] {
        let pseudonym = self.pseudonym(number).unwrap();
        let keys = [RowKey::participant_key(&pseudonym, 1), self.number_key(number), RowKey::participant(&pseudonym)];
        keys.map(|key| self.database.row(&key).unwrap().unwrap().value.to_vec())
    }

    /// How many rows of a table begin with a participant's pseudonym.
    fn rows_of(&self, table: Table, pseudonym: &Pseudonym) -> usize {
        self.database.snapshot().keys(&RowKey::rows_of(table, pseudonym), usize::MAX).unwrap().len()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Which of some byte strings occur in the files of a folder, and where first.
fn found_in(folder: &Path, wanted: &[Vec<u8>]) -> BTreeMap<usize, PathBuf> {
    let search = AhoCorasick::new(wanted).unwrap();
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        for hit in search.find_overlapping_iter(&fs::read(&path).unwrap()) {
            found.entry(hit.pattern().as_usize()).or_insert_with(|| path.clone());
        }
    }
    found
}

fn reason(error: &ErasureError) -> String {
    match error {
        ErasureError::Denied(denial) => denial.reason().unwrap_or("uniform").to_owned(),
        other => panic!("{other}"),
    }
}

/// A request as it is born while the clock is ahead.
fn born_ahead(ahead_ms: i64) -> RequestId {
    let born_ms = now_ms().checked_add_signed(ahead_ms).unwrap();
    format!("{born_ms:012x}{:020x}", u64::MAX / 7).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_two_people_and_can_be_stopped() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let person = world.person(number);
    let first = world.cluster.client(ClientFile::Registrar1).await.unwrap().erasures();
    let second = world.cluster.client(ClientFile::Registrar2).await.unwrap().erasures();
    assert_eq!(reason(&person.ask_erasure().await.unwrap_err()), "still-takes-part");
    assert!(matches!(person.erasure().await.unwrap_err(), ErasureError::NotFound(_)));
    person.withdraw().await.unwrap();
    assert_eq!(reason(&first.ask(&number, "").await.unwrap_err()), "no-evidence");
    assert_eq!(reason(&second.approve(&number).await.unwrap_err()), "erasure-state");

    first.ask(&number, "order 7").await.unwrap();
    assert_eq!(reason(&first.approve(&number).await.unwrap_err()), "same-person");
    second.approve(&number).await.unwrap();
    let shown = person.erasure().await.unwrap();
    assert_eq!((shown.erasure.state, shown.erasure.evidence.as_str()), (ErasureState::Approved, "order 7"));
    assert_eq!(shown.erasure.grace_until_ms, shown.erasure.approved_ms + 30 * DAY_MS as u64);
    let actions = |shown: &ShownErasure| shown.events.iter().map(|event| event.action).collect::<Vec<_>>();
    assert_eq!(actions(&shown), [Action::AskErasure, Action::ApproveErasure]);

    // Nobody comes back while it is on its way; whoever stops it can be enrolled again.
    let consent = || Consent::signed_on(kura_client::Date::today()).evidence("paper 2");
    let refused = world.doctor(HOSPITAL).enrol(&number, consent()).await.unwrap_err();
    assert!(
        matches!(&refused, ConsentError::Denied(denial) if denial.reason() == Some("already-enrolled")),
        "{refused}"
    );
    let stopped = person.stop_erasure("they stay").await.unwrap();
    assert!(stopped.index() > 0);
    assert_eq!(reason(&first.stop(&number, "again").await.unwrap_err()), "erasure-state");
    world.doctor(HOSPITAL).enrol(&number, consent()).await.unwrap();

    person.withdraw().await.unwrap();
    person.ask_erasure().await.unwrap();
    second.approve(&number).await.unwrap();
    first.stop(&number, "by court").await.unwrap();
    let shown = second.show(&number).await.unwrap();
    assert_eq!((shown.erasure.state, shown.erasure.stop_reason.as_str()), (ErasureState::Stopped, "by court"));
    assert_eq!(actions(&shown).len(), 6, "{shown:?}");
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap().erasures();
    let all = auditor.list().stream().take(9).await.unwrap();
    assert_eq!(all.iter().map(|erasure| erasure.participant).collect::<Vec<_>>(), [Some(number)]);
    assert_eq!(auditor.list().state(ErasureState::Pending).stream().take(9).await.unwrap(), []);
    assert!(matches!(auditor.approve(&number).await.unwrap_err(), ErasureError::Unfit(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_opens_afterwards_on_any_member() {
    let clock = Clock::new();
    let mut world = World::run_by(clock.kura("*"), 3, 1).await;
    let (gone, stays) = (world.enrol(1).await, world.enrol(2).await);
    let doctor = world.doctor(HOSPITAL);
    doctor.link(&gone, "local-1").await.unwrap();
    let record = doctor.put(&gone, note().document_id("doc-1")).bytes("first").await.unwrap().record();
    doctor.put(&gone, note()).body(Made::noise(1, 3 << 20)).await.unwrap();
    let kept = world.put(&stays, "stays").await;
    world.person(gone).withdraw().await.unwrap();
    world.person(gone).ask_erasure().await.unwrap();
    let registrar = world.cluster.client(ClientFile::Registrar1).await.unwrap().erasures();
    registrar.approve(&gone).await.unwrap();
    world.settled().await;

    // What is to go lies on every member, and is found there.
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    let layout = world.cluster.layout().clone();
    let members: Vec<String> = world.cluster.plan().members.iter().map(|member| member.name.clone()).collect();
    let root_key = layout.root_key("voter-1");
    let copies = folder();
    let before = copies.path().join("before");
    copy(&layout.node_data("voter-1"), &before);
    let (pseudonym, traces) = {
        let found = Found::open(&before, &root_key);
        let pseudonym = found.pseudonym(&gone).unwrap();
        assert!(found.vault.data_key(&pseudonym, 1, &found.database).unwrap().is_some());
        assert!(found.rows_of(Table::Block, &pseudonym) > 3);
        (pseudonym, [found.traces(&gone), found.traces(&stays)].concat())
    };
    for member in &members {
        let found = found_in(&layout.node_data(member), &traces);
        assert_eq!(found.len(), traces.len(), "{member}: the search finds what is there: {found:?}");
    }

    // The keys go once the grace period is over, not before. A member that is away keeps it pending.
    for member in members.iter().filter(|member| *member != "backup-1") {
        world.cluster.restart(member).await.unwrap();
    }
    world.leader().await;
    let shown = until("an answer", SOON, async || registrar.show(&gone).await.map_err(|e| e.to_string())).await;
    assert_eq!(shown.erasure.state, ErasureState::Approved);
    clock.set(GRACE_OVER_MS);
    let swept = until("the sweep", SOON, async || match registrar.show(&gone).await {
        Ok(shown) if shown.erasure.swept_ms != 0 && !shown.erasure.reports.is_empty() => Ok(shown.erasure),
        Ok(shown) => Err(format!("{shown:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
    assert_eq!((swept.state, swept.participant), (ErasureState::Pending, None));
    let refused = world.doctor(HOSPITAL).get(&gone, record).await.map(drop).unwrap_err();
    assert!(matches!(refused, kura_client::GetError::Denied(_)), "{refused}");
    let refused = world.person(gone).accesses().stream().take(1).await.unwrap_err();
    assert!(matches!(refused, ListError::Denied(_)), "{refused}");
    assert!(matches!(
        registrar.stop(&gone, "too late").request(born_ahead(GRACE_OVER_MS)).await,
        Err(ErasureError::Denied(_))
    ));

    // A voter that is killed meanwhile does it again.
    let leader = world.leader().await;
    world.cluster.kill(&leader, Signal::KILL).await.unwrap();
    world.cluster.restart(&leader).await.unwrap();
    world.cluster.restart("backup-1").await.unwrap();
    let certified = until("the certificate", CERTIFIED, async || match registrar.show(&gone).await {
        Ok(shown) if shown.erasure.state == ErasureState::Certified => Ok(shown),
        Ok(shown) => Err(format!("{shown:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let erasure = &certified.erasure;
    let mut reported: Vec<&str> = erasure.reports.iter().filter(|r| r.complete).map(|r| &r.member[..]).collect();
    reported.sort_unstable();
    assert_eq!(reported, ["backup-1", "voter-1", "voter-2", "voter-3"]);
    assert!(erasure.reports.iter().all(|report| report.purged_index >= erasure.keys_last_index), "{erasure:?}");
    assert_eq!((erasure.exports.len(), erasure.unreported_members.len()), (0, 0), "{erasure:?}");
    // What the backup's archive has: no key, and sealed rows in the generation that began before.
    let archives: Vec<_> = erasure.reports.iter().filter_map(|r| Some((&r.member[..], r.archive.as_ref()?))).collect();
    let [("backup-1", held)] = archives[..] else { panic!("{archives:?}") };
    assert!(held.keys_gone && held.index >= erasure.keys_last_index, "{held:?}");
    assert_eq!(held.generations.first(), Some(&1), "{held:?}");
    let told = Command::new(KURA)
        .args(["erasure", "certificate", gone.reveal(), "--json", "--client"])
        .arg(layout.client(ClientFile::Registrar1))
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let reports = told["reports"].as_array().unwrap();
    let backup = reports.iter().find(|report| report["member"] == "backup-1").unwrap();
    assert_eq!(backup["archive"]["keys_gone"], true, "{told}");
    assert!(reports.iter().all(|report| report["archive"].is_null() != (report["member"] == "backup-1")), "{told}");
    let archived = found_in(&layout.archive("backup-1"), &traces);
    assert!(!archived.contains_key(&0) && archived.contains_key(&3), "{archived:?}");
    let actions: Vec<Action> = certified.events.iter().map(|event| event.action).collect();
    assert_eq!(actions, [Action::AskErasure, Action::ApproveErasure, Action::Erase, Action::CertifyErasure]);
    assert!(certified.events.iter().all(|event| event.journal_leaf.is_some()));

    // The number is not given out again; the journal stays; the others' records are read as ever.
    let consent = Consent::signed_on(kura_client::Date::today()).evidence("paper 2");
    let again = world.doctor(HOSPITAL).enrol(&gone, consent).request(born_ahead(GRACE_OVER_MS + 1)).await.unwrap_err();
    assert!(matches!(&again, ConsentError::Denied(denial) if denial.reason() == Some("already-enrolled")), "{again}");
    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap();
    let entries = auditor.journal().list().participant(&gone).stream().take(usize::MAX).await.unwrap();
    assert!(entries.iter().any(|entry| entry.action == Action::Put), "{entries:?}");
    assert_eq!(world.doctor(HOSPITAL).get(&stays, kept).await.unwrap().bytes().await.unwrap(), "stays");
    assert_eq!(listed(&world.doctor(HOSPITAL), &stays).await.len(), 1);
    world.settled().await;

    // Copies of every member's files, taken now.
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    for member in &members {
        let data = copies.path().join(member);
        copy(&layout.node_data(member), &data);
        let found = found_in(&data, &traces);
        let (left, right): (Vec<usize>, Vec<usize>) = found.keys().partition(|place| **place < 3);
        assert!(left.is_empty(), "{member}: {found:?}");
        assert!(right.contains(&3), "{member}: the other participant's key is there: {found:?}");
        let found = Found::open(&data, &root_key);
        assert_eq!(found.pseudonym(&gone), None, "{member}");
        assert!(found.vault.data_key(&pseudonym, 1, &found.database).unwrap().is_none(), "{member}");
        for table in [Table::Block, Table::Record, Table::RecordControl, Table::Staging, Table::LinkReverse] {
            assert_eq!(found.rows_of(table, &pseudonym), 0, "{member}: {table:?}");
        }
        assert!(found.pseudonym(&stays).is_some(), "{member}");
    }
}
