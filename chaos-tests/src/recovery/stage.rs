//! What there is before the prefecture is lost: the cluster behind a link, shares in people's hands, participants with
//! records, and erasures whose grace period ends one after the other while the load runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kura_client::{Client, Date, RecordId, now_ms};
use tokio::time::sleep;

use super::RecoveryError;
use super::commands::Commands;
use super::link::Link;
use super::load::{ERASED, PARTICIPANTS, Session, TIMEOUTS};
use super::notes::Witness;
use super::watch::Asked;
use crate::cluster::{Cluster, Role, binary, unsettled};
use crate::content;
use crate::load::Cast;
use crate::site::Site;
use crate::site::network::hub_host;

/// The backup.
pub const BACKUP: &str = "backup-1";
/// The proxy's port, at the run's own address.
const LINK_PORT: u16 = 7900;
/// A node's disk. The image is sparse.
const DISK_MIB: u64 = 1_536;
/// How far back participants' consents and records date, in days.
const PAST_DAYS: i32 = 30;
/// Between two approvals of erasures, and so between the ends of their grace periods.
const ERASURES_EACH: Duration = Duration::from_millis(800);
/// How long before the first of these ends the load begins.
const BEFORE_ERASURES_MS: u64 = 1_500;
/// How long the cluster may take to come to rest.
const SETTLE: Duration = Duration::from_secs(90);
/// Who holds shares.
const HOLDERS: usize = 3;

/// Everything, ready for the load.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// What lies between it and its backup.
    pub link: Link,
    /// The command line.
    pub commands: Commands,
    /// What the holders of shares wrote down.
    pub shares: Vec<String>,
    /// Who takes part.
    pub cast: Arc<Cast>,
    /// The day of all records.
    pub day: Date,
    /// A record of each participant.
    pub base: Vec<RecordId>,
    /// Erasures that were asked for.
    pub asked: Asked,
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::File { path: path.clone(), source }
}

impl Stage {
    /// Sets it. `clock` is the file by which every process of the run tells its time.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn set(directory: &Path, clock: &Path, seed: u64, witness: &Arc<Witness>) -> Result<Self, RecoveryError> {
        let mut site = Site::open(directory, DISK_MIB).await?;
        let front = format!("{}:{LINK_PORT}", hub_host());
        site.front(BACKUP, &front);
        // The fourth node that is made.
        let link = Link::open(&front, "10.77.0.14:7001").await.map_err(file(Path::new(&front)))?;
        let cluster = Cluster::found(directory, site, 3, 1).await?;
        if cluster.site()?.network.address(BACKUP) != "10.77.0.14:7001" {
            return Err(RecoveryError::Setup("the backup stands elsewhere than the link leads".into()));
        }
        let commands = Commands::new(binary()?, directory);
        let shares = people(&commands, directory).await?;

        let day = Date::from_days(Date::today().days() - PAST_DAYS);
        let cast = Arc::new(Cast::new(seed, PARTICIPANTS)?);
        let [registrar, second] = [Role::Registrar, Role::SecondRegistrar];
        let registrar = cluster.client(registrar, None, TIMEOUTS).await?;
        let second = cluster.client(second, None, TIMEOUTS).await?;
        let application = cluster.client(Role::Application, None, TIMEOUTS).await?;
        cast.register([&registrar, &second], &application, day).await?;
        let session =
            Session { witness: Arc::clone(witness), cast: Arc::clone(&cast), client: application.clone(), day };
        let mut base = Vec::new();
        for place in 0..PARTICIPANTS {
            let record = session.put(place, content::small(seed, "base", place as u64)).await;
            base.push(record.ok_or_else(|| RecoveryError::Setup("a first record was not written".into()))?);
        }
        let (asked, first_due_ms) = ask_for_erasures(&session, &registrar, &second).await?;
        let mut stage = Self { cluster, link, commands, shares, cast, day, base, asked };
        stage.settle().await?;
        // To the end of the first grace period, for everybody at once: nodes, clients, the witness.
        let ahead_ms = first_due_ms.saturating_sub(BEFORE_ERASURES_MS).saturating_sub(now_ms());
        let fresh = clock.with_extension("new");
        fs::write(&fresh, ahead_ms.to_string()).and_then(|()| fs::rename(&fresh, clock)).map_err(file(clock))?;
        Ok(stage)
    }

    async fn settle(&mut self) -> Result<(), RecoveryError> {
        let members = self.cluster.nodes().len();
        self.cluster.wait_until("the same digest on every member", SETTLE, |reply| unsettled(reply, members)).await?;
        Ok(())
    }
}

/// Recovery staff with a certificate, everybody's trust in the recovery CA, and shares.
async fn people(commands: &Commands, directory: &Path) -> Result<Vec<String>, RecoveryError> {
    let named = "--role recovery --name recovery";
    let request = "clients/recovery.csr";
    commands
        .run(None, &format!("ca request {named} --cluster chaos --key clients/recovery.key --request {request}"), &[])
        .await?;
    commands.run(None, &format!("ca sign {request} --directory ca {named} --out clients/recovery.pem"), &[]).await?;
    let operator = directory.join("clients/operator.toml");
    let text = fs::read_to_string(&operator).map_err(file(&operator))?;
    let recovery = directory.join("clients/recovery.toml");
    fs::write(&recovery, text.replace("operator", "recovery")).map_err(file(&recovery))?;
    let (authority, bundle) = (directory.join("nodes/voter-1/disk/data/recovery-ca.pem"), directory.join("ca/ca.pem"));
    let mut both = fs::read_to_string(&bundle).map_err(file(&bundle))?;
    both += &fs::read_to_string(&authority).map_err(file(&authority))?;
    fs::write(&bundle, both).map_err(file(&bundle))?;
    let (shares, fingerprint) = commands.split("voter-1", HOLDERS).await?;
    commands.run(None, &format!("key confirm {fingerprint} --client clients/registrar-1.toml"), &[]).await?;
    Ok(shares)
}

/// The first participants leave and are to be erased. Answers the ids, and when the first grace period ends.
async fn ask_for_erasures(session: &Session, first: &Client, second: &Client) -> Result<(Asked, u64), RecoveryError> {
    let failed = |error: &dyn std::fmt::Display| RecoveryError::Setup(format!("an erasure: {error}"));
    let (first, second) = (first.erasures(), second.erasures());
    let (mut asked, mut due_ms) = (Asked::new(), u64::MAX);
    for place in 0..ERASED {
        let number = *session.cast.number(place);
        session.withdraw(place).await;
        first.ask(&number, "form").await.map_err(|error| failed(&error))?;
        second.approve(&number).await.map_err(|error| failed(&error))?;
        let shown = first.show(&number).await.map_err(|error| failed(&error))?;
        asked.insert(shown.erasure.id, (place, number));
        due_ms = due_ms.min(shown.erasure.grace_until_ms);
        sleep(ERASURES_EACH).await;
    }
    Ok((asked, due_ms))
}
