//! The load: clients that write, read, and change consents until they are told to stop.
//!
//! Invariants
//! - Each client does one thing at a time; what it does follows from the seed and its name.
//! - Consents of a participant are changed by one client only, and a change whose outcome is unknown
//!   is resolved before the next one, so that the checker always knows what holds.
//! - A paused client has nothing under way and no unknown outcome that the cluster could tell.

mod cast;
mod client;
mod session;

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kura_client::{Client, Date, RecordId, Timeouts};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{Cluster, ClusterError, Role};
use crate::history::{Line, Recorder};

pub use cast::{Cast, HOME, VISITORS, physician};
pub use session::Session;

/// How large a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Clients, a multiple of the groups.
    pub clients: usize,
    /// Participants, a multiple of the clients; each client changes the consents of its share.
    pub participants: usize,
    /// A client deals with the participants of its group only: a group's clients bound how many deal with one.
    pub groups: usize,
    /// The longest pause between two operations of a client, in milliseconds.
    pub pace_ms: u64,
    /// Large bodies in a thousand operations.
    pub large: u32,
    /// Operations that deal with one participant between two rests, at most.
    pub each_max: u32,
}

impl Scale {
    /// Few participants and many large bodies: what the crash rounds use.
    pub const CRASH: Self =
        Self { clients: 10, participants: 20, groups: 1, pace_ms: 60, large: 50, each_max: u32::MAX };
}

/// The shortest pause between two operations of a client, in milliseconds.
const PACE_MS: u64 = 5;

/// How far back participants' consents and records date, in days.
const PAST_DAYS: i32 = 30;

/// Time limits of a client that sees most failures through.
pub const PATIENT: Timeouts = Timeouts { connect_ms: 1_000, attempt_ms: 3_000, call_ms: 12_000, transfer_ms: 30_000 };

/// Time limits that see failures through, too, but soon ask another node: what the first was asked is
/// then often still on its way.
const RESTLESS: Timeouts = Timeouts { attempt_ms: 600, ..PATIENT };

/// Time limits shorter than an election, so that some writes end without an answer.
const HASTY: Timeouts = Timeouts { connect_ms: 300, attempt_ms: 400, call_ms: 700, transfer_ms: 4_000 };

/// How long all clients may take to finish what they are at and to resolve what is unknown.
const PAUSE: Duration = Duration::from_secs(160);

/// Why the load failed; not what the cluster answered, which is in the history.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something that everything rests on could not be set up.
    #[error("{what} could not be set up: {message}")]
    Setup {
        /// What.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// A client did not come to rest.
    #[error("after {} s {resting} of {clients} clients are at rest", PAUSE.as_secs())]
    Restless {
        /// How many did.
        resting: usize,
        /// How many there are.
        clients: usize,
    },
    /// A client's task failed.
    #[error("a client failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// No client came about.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl LoadError {
    pub(crate) fn setup(what: &'static str, error: impl Display) -> Self {
        Self::Setup { what, message: error.to_string() }
    }
}

/// A record that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The participant.
    pub place: usize,
    /// The record.
    pub record: RecordId,
}

/// In the order in which they became known, each once.
#[derive(Debug, Default)]
struct AllKnown {
    list: Vec<Known>,
    records: HashSet<RecordId>,
}

/// What all clients share.
pub struct Shared {
    /// Where everything is recorded.
    pub recorder: Recorder,
    /// Who takes part.
    pub cast: Cast,
    known: Mutex<AllKnown>,
    writes_under_way: AtomicU64,
    written_bytes: AtomicU64,
    answered: AtomicU64,
    /// Operations that dealt with each participant since the last rest.
    dealt: Vec<AtomicU32>,
    /// Who waits for much to be written.
    heavy: AtomicU32,
}

impl Shared {
    /// Nothing known yet.
    pub fn new(recorder: Recorder, cast: Cast) -> Self {
        let dealt = (0..cast.participants()).map(|_| AtomicU32::new(0)).collect();
        Self {
            recorder,
            cast,
            known: Mutex::default(),
            writes_under_way: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            dealt,
            heavy: AtomicU32::new(0),
        }
    }

    /// Counts an operation that is to deal with a participant, if there may be one more.
    fn deals(&self, place: usize, most: u32) -> bool {
        self.dealt[place].fetch_add(1, Ordering::Relaxed) < most
    }

    /// The most operations that dealt with one participant since the last rest.
    pub fn busiest(&self) -> u32 {
        self.dealt.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Begins to count anew. The load must be at rest.
    fn deal_anew(&self) {
        self.dealt.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn known(&self) -> MutexGuard<'_, AllKnown> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All acknowledged records from a place in their order on.
    pub fn known_from(&self, first: usize) -> Vec<Known> {
        self.known().list.get(first..).unwrap_or_default().to_vec()
    }

    fn learn(&self, known: Known) {
        let mut all = self.known();
        if all.records.insert(known.record) {
            all.list.push(known);
        }
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.known().list.len() as u64
    }

    /// Bytes of acknowledged bodies so far, repeated ones counted again.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Operations that were answered so far, be it by a refusal.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Many documents are bulky until what is answered is dropped.
    pub fn heavy(self: &Arc<Self>) -> Heavy {
        self.heavy.fetch_add(1, Ordering::Relaxed);
        Heavy(Arc::clone(self))
    }

    fn is_heavy(&self) -> bool {
        self.heavy.load(Ordering::Relaxed) > 0
    }

    /// Writes under way now.
    pub fn writes_under_way(&self) -> u64 {
        self.writes_under_way.load(Ordering::Relaxed)
    }
}

/// Somebody waits for what comes about only when much is written.
pub struct Heavy(Arc<Shared>);

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.heavy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Run,
    Pause,
    Stop,
}

/// Clients at work. Dropping it ends them.
pub struct Load {
    shared: Arc<Shared>,
    mode: watch::Sender<Mode>,
    resting: watch::Receiver<usize>,
    connections: Vec<watch::Sender<Client>>,
    /// What all of them ask with when they must know.
    patient: watch::Sender<Client>,
    tasks: JoinSet<()>,
}

/// The time limits of a client.
fn timeouts(nth: usize) -> Timeouts {
    [PATIENT, RESTLESS, HASTY][nth % 3]
}

impl Load {
    /// Registers everybody.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn set_up(cluster: &Cluster, seed: u64, participants: usize) -> Result<Cast, LoadError> {
        let cast = Cast::new(seed, participants)?;
        let registrar = cluster.client(Role::Registrar, None, PATIENT).await?;
        let second = cluster.client(Role::SecondRegistrar, None, PATIENT).await?;
        let application = cluster.client(Role::Application, None, PATIENT).await?;
        cast.register([&registrar, &second], &application, past()).await?;
        Ok(cast)
    }

    /// Starts the clients.
    ///
    /// # Errors
    /// [`LoadError::Cluster`].
    pub async fn start(cluster: &Cluster, shared: &Arc<Shared>, seed: u64, scale: Scale) -> Result<Self, LoadError> {
        let (mode, modes) = watch::channel(Mode::Run);
        let (rest, resting) = watch::channel(0);
        let rest = Arc::new(rest);
        let (patient, asks) = watch::channel(cluster.client(Role::Application, None, PATIENT).await?);
        let (shared, tasks) = (Arc::clone(shared), JoinSet::new());
        let mut load = Self { shared, mode, resting, connections: Vec::new(), patient, tasks };
        for nth in 0..scale.clients {
            let connection = cluster.client(Role::Application, None, timeouts(nth)).await?;
            let (connect, connection) = watch::channel(connection);
            load.connections.push(connect);
            let name = format!("client-{nth}");
            let session = Session::new(Arc::clone(&load.shared), name, None, connection, asks.clone());
            let client = client::LoadClient::new(session, seed, nth, scale);
            load.tasks.spawn(client.run(modes.clone(), Arc::clone(&rest)));
        }
        Ok(load)
    }

    /// Has all clients connect anew, to the voters that there are now.
    ///
    /// # Errors
    /// [`LoadError::Cluster`].
    pub async fn reconnect(&self, cluster: &Cluster) -> Result<(), LoadError> {
        for (nth, connection) in self.connections.iter().enumerate() {
            connection.send_replace(cluster.client(Role::Application, None, timeouts(nth)).await?);
        }
        self.patient.send_replace(cluster.client(Role::Application, None, PATIENT).await?);
        Ok(())
    }

    /// Brings all clients to rest.
    ///
    /// # Errors
    /// [`LoadError::Restless`].
    pub async fn pause(&mut self) -> Result<(), LoadError> {
        self.mode.send_replace(Mode::Pause);
        let clients = self.connections.len();
        let all = self.resting.wait_for(|resting| *resting == clients);
        let rested = timeout(PAUSE, all).await.is_ok_and(|rested| rested.is_ok());
        if !rested {
            return Err(LoadError::Restless { resting: *self.resting.borrow(), clients });
        }
        self.shared.deal_anew();
        self.shared.recorder.write(&Line::Rest { at_us: self.shared.recorder.now_us() });
        Ok(())
    }

    /// Lets them go on.
    pub fn go_on(&mut self) {
        self.shared.recorder.write(&Line::Work { at_us: self.shared.recorder.now_us() });
        self.mode.send_replace(Mode::Run);
    }

    /// Ends them.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn stop(mut self) -> Result<(), LoadError> {
        self.pause().await?;
        self.mode.send_replace(Mode::Stop);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// The day on which everybody signed, and of which all records are: one for the whole run, as a write that is repeated after
/// midnight is to be the same write.
fn past() -> Date {
    static DAY: LazyLock<Date> = LazyLock::new(|| Date::from_days(Date::today().days() - PAST_DAYS));
    *DAY
}
