//! A cluster with two facilities that participants name, one that they do not, and their users.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kura_client::registry::{Application, Facility, Registered, User as RegisteredUser};
use kura_client::{
    ActingClient, Class, Client, Consent, Date, FacilityKind, Method, NewRecord, Participant, ParticipantNumber,
    Person, Profession, RecordId, Summary, User, now_ms, wire,
};
use kura_node::dev::{ClientFile, Cluster, Layout, Member, Options};
use tempfile::TempDir;
use tokio::sync::Mutex;
use toml::Table;

/// Participants name it.
pub const HOSPITAL: &str = "hospital-01";
/// Participants name it.
pub const CLINIC: &str = "clinic-02";
/// Registered, but nobody names it.
pub const OUTSIDER: &str = "clinic-03";
/// A physician, at each facility.
pub const DOCTOR: &str = "doctor-1";

/// How long anything that should come about may take.
pub const SOON: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Held by tests that write gigabytes, and by those that watch the free space of the disk.
pub static DISK: Mutex<()> = Mutex::const_new(());

/// The program under test.
pub const KURA: &str = env!("CARGO_BIN_EXE_kura");

/// The cluster, its people and its connections. Dropping it kills the nodes and deletes their files.
pub struct World {
    pub cluster: Cluster,
    /// An application on the IP-VPN that may state everybody, through any voter.
    pub application: Client,
    pub operator: Client,
    _folder: Folder,
}

/// Deleted when dropped, even if a killed process still holds a file for a moment; kept if the test fails.
struct Folder(TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            return eprintln!("the nodes' files are kept in {}", self.0.path().display());
        }
        let end = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir_all(self.0.path()).is_err() && self.0.path().exists() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
    }
}

/// A directory on the disk of the build, not in memory.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn options(directory: &Path, voters: u32, backups: u32) -> Options {
    Options { executable: KURA.into(), voters, backups, ..Options::new(directory).unwrap() }
}

/// A bare cluster: nothing is registered.
pub async fn cluster(directory: &Path, voters: u32, backups: u32) -> Cluster {
    Cluster::start(options(directory, voters, backups), &|_| {}).await.unwrap()
}

/// Changes a node's configuration file.
pub fn configure(cluster: &Cluster, node: &str, edit: impl FnOnce(&mut Table)) {
    let path = cluster.layout().node_config(node);
    let mut table: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    edit(&mut table);
    fs::write(&path, table.to_string()).unwrap();
}

/// Sets a key of a section of a node's configuration.
pub fn set(table: &mut Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = table.entry(section).or_insert_with(|| Table::new().into());
    section.as_table_mut().unwrap().insert(key.to_owned(), value.into());
}

/// Writes the configuration of a node apart in a folder: under the first voter's name, certificate and root key, but with
/// data and an address of its own.
pub fn configure_apart(layout: &Layout, folder: &Path, address: &str) -> PathBuf {
    let mut table: Table = fs::read_to_string(layout.node_config("voter-1")).unwrap().parse().unwrap();
    table.insert("data".into(), folder.join("data").display().to_string().into());
    table.insert("listen".into(), address.into());
    table.remove("advertise");
    table.remove("metrics_listen");
    let from_node = |path: &toml::Value| layout.node("voter-1").join(path.as_str().unwrap()).display().to_string();
    let key = from_node(&table["root_key"]);
    table.insert("root_key".into(), key.into());
    for (_, path) in table["tls"].as_table_mut().unwrap() {
        *path = from_node(path).into();
    }
    let config = folder.join("node.toml");
    fs::write(&config, table.to_string()).unwrap();
    config
}

/// An address on loopback at which nobody serves.
pub fn free_address() -> String {
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.local_addr().unwrap().to_string()
}

/// Has a backup close a segment of its archive each second: no test waits longer for it. Other nodes write none.
pub fn quick_segments(table: &mut Table) {
    if table.contains_key("archive") {
        set(table, "archive", "segment_seconds", 1);
    }
}

/// Has the second registrar confirm what the first one proposed; what took one is done already.
pub async fn confirm(cluster: &Cluster, registered: Registered) {
    if let Some(act) = registered.proposed {
        let second = cluster.client(ClientFile::Registrar2).await.unwrap().registry();
        second.confirm(&second.act(act).await.unwrap()).await.unwrap();
    }
}

impl World {
    /// Starts a cluster and registers everybody.
    pub async fn start(voters: u32, backups: u32) -> Self {
        let folder = Folder(folder());
        let cluster = cluster(folder.0.path(), voters, backups).await;
        Self::settle(cluster, folder).await
    }

    /// The same, by another executable.
    pub async fn run_by(executable: PathBuf, voters: u32, backups: u32) -> Self {
        let folder = Folder(folder());
        let options = Options { executable, ..options(folder.0.path(), voters, backups) };
        let cluster = Cluster::start(options, &|_| {}).await.unwrap();
        Self::settle(cluster, folder).await
    }

    /// The same, on nodes whose configurations were edited.
    pub async fn configured(voters: u32, backups: u32, edit: impl Fn(&mut Table)) -> Self {
        let folder = Folder(folder());
        let mut first = cluster(folder.0.path(), voters, backups).await;
        assert_eq!(first.stop().await.unwrap(), Vec::<String>::new(), "every node stops in order");
        for member in first.plan().members.clone() {
            configure(&first, &member.name, &edit);
        }
        drop(first);
        let cluster = cluster(folder.0.path(), voters, backups).await;
        Self::settle(cluster, folder).await
    }

    async fn settle(cluster: Cluster, folder: Folder) -> Self {
        let registry = cluster.client(ClientFile::Registrar1).await.unwrap().registry();
        let kinds =
            [(HOSPITAL, FacilityKind::Hospital), (CLINIC, FacilityKind::Clinic), (OUTSIDER, FacilityKind::Clinic)];
        for (id, kind) in kinds {
            let facility = Facility::new(id, format!("name of {id}"), kind);
            registry.add_facility(&facility).await.unwrap().done().unwrap();
            let doctor = RegisteredUser::new(id, DOCTOR, "name of the doctor", Profession::Physician);
            registry.add_user(&doctor).await.unwrap().done().unwrap();
        }
        let mut application = Application::new("application", kinds.map(|(id, _)| id));
        application.participants = true;
        confirm(&cluster, registry.add_application(&application).await.unwrap()).await;
        let application = cluster.client(ClientFile::Application).await.unwrap();
        let operator = cluster.client(ClientFile::Operator).await.unwrap();
        Self { cluster, application, operator, _folder: folder }
    }

    /// Makes a facility one for emergencies, and its doctor one with a credential who may list accesses.
    pub async fn emergency_room(&self, facility: &str, credential_sha256: [u8; 32]) {
        let registry = self.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
        let before = registry.facilities().await.unwrap().into_iter().find(|one| one.id == facility).unwrap();
        let flagged = Facility { emergency: true, ..before.clone() };
        confirm(&self.cluster, registry.change_facility(&before, &flagged).await.unwrap()).await;
        let before = registry.users(facility).await.unwrap().remove(0);
        let credential_sha256 = Some(credential_sha256);
        let doctor = RegisteredUser { credential_sha256, lists_accesses: true, ..before.clone() };
        registry.change_user(&before, &doctor).await.unwrap().done().unwrap();
    }

    /// A facility's doctor, through any voter.
    pub fn doctor(&self, facility: &str) -> ActingClient {
        doctor_through(&self.application, facility)
    }

    /// A facility's doctor, through one member only.
    pub async fn doctor_at(&self, node: &str, facility: &str) -> ActingClient {
        let config = self.cluster.client_config_at(ClientFile::Application, node).unwrap();
        doctor_through(&Client::connect_lazily(config).await.unwrap(), facility)
    }

    /// A participant, through any voter.
    pub fn person(&self, number: ParticipantNumber) -> Person {
        person_through(&self.application, number)
    }

    /// Enrols a participant with a consent of 2020, who names the hospital and the clinic.
    pub async fn enrol(&self, nth: u64) -> ParticipantNumber {
        let number = number(nth);
        let consent = Consent::signed_on("2020-01-01".parse().unwrap()).evidence("paper 1");
        self.doctor(HOSPITAL).enrol(&number, consent).await.unwrap();
        for facility in [HOSPITAL, CLINIC] {
            self.person(number).grant(facility).await.unwrap();
        }
        number
    }

    /// Writes a small record from the hospital.
    pub async fn put(&self, number: &ParticipantNumber, body: &'static str) -> RecordId {
        self.doctor(HOSPITAL).put(number, note()).bytes(body).await.unwrap().record()
    }

    /// The names of the voters.
    pub fn voters(&self) -> Vec<String> {
        self.cluster.plan().voters().map(|member| member.name.clone()).collect()
    }

    /// A member of the plan.
    pub fn member(&self, name: &str) -> Member {
        self.cluster.plan().members.iter().find(|member| member.name == name).unwrap().clone()
    }

    /// The name of the leader, once there is one.
    pub async fn leader(&self) -> String {
        let operations = self.operator.operations();
        until("a leader", SOON, async || {
            let status = operations.status().await.map_err(|error| error.to_string())?;
            leader_of(&status).ok_or_else(|| "none is known".into())
        })
        .await
    }

    /// Waits until every member of the membership tells the same digest at the same index.
    pub async fn settled(&mut self) -> wire::StatusReply {
        let equal = |reply: &wire::StatusReply| {
            let first = reply.members.first().ok_or("there are no members")?;
            match reply.members.iter().find(|member| {
                !member.reachable
                    || (member.digest_index, &member.state_digest) != (first.digest_index, &first.state_digest)
            }) {
                Some(other) => Err(format!("{} is not where {} is", other.name, first.name)),
                None => Ok(()),
            }
        };
        self.cluster.wait_until("equal digests", SOON, equal).await.unwrap()
    }
}

/// Who leads, by a status.
pub fn leader_of(status: &wire::StatusReply) -> Option<String> {
    let leader = status.members.iter().find(|member| member.raft_id == status.leader_id)?;
    (status.leader_id != 0).then(|| leader.name.clone())
}

/// A facility's doctor through a connection.
pub fn doctor_through(client: &Client, facility: &str) -> ActingClient {
    client.act(User::at(facility, DOCTOR).authenticated(Method::Card, now_ms()))
}

/// A participant through a connection.
pub fn person_through(client: &Client, number: ParticipantNumber) -> Person {
    client.act(Participant::numbered(number).authenticated(Method::TwoFactor, now_ms()))
}

/// A participant's number.
pub fn number(nth: u64) -> ParticipantNumber {
    format!("4300{nth:012}").parse().unwrap()
}

/// A short note of today.
pub fn note() -> NewRecord {
    NewRecord::new(Class::CareRecord, "text/plain", Date::today())
}

/// All that an actor sees of a participant.
pub async fn listed(acting: &ActingClient, number: &ParticipantNumber) -> Vec<Summary> {
    let listed = acting.list(number).stream().take(usize::MAX).await.unwrap();
    listed.into_iter().map(|one| one.opened().unwrap()).collect()
}

/// All versions of a record that an actor sees.
pub async fn versions(acting: &ActingClient, number: &ParticipantNumber, record: RecordId) -> Vec<Summary> {
    let versions = acting.history(number, record).await.unwrap();
    versions.into_iter().map(|one| one.opened().unwrap()).collect()
}

/// Polls until there is an answer; panics with what was missing last.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) if Instant::now() > end => panic!("{what} did not come about: {missing}"),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
