//! What is found after the recovery, by asking: every list, every record, every entry of the journal, proofs, erasures.
//!
//! Invariant: what could not be asked is told as such, and is no finding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kura_client::{Client, Consent, ConsentError, ErasureError, ErasureState, RecordId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::{PARTICIPANTS, Session, TIMEOUTS, of_get};
use super::notes::{Answer, Kind, Notes, Witness};
use super::runbook::{AtReads, Statement, Times};
use super::{RecoveryError, watch::Asked};
use crate::cluster::{Cluster, Role};
use crate::content;
use crate::load::{Cast, HOME, physician};

/// Readers at a time.
const READERS: usize = 6;
/// Attempts at one question.
const ATTEMPTS: u32 = 4;
/// Receipts that are held against proofs.
const PROVED_MAX: usize = 60;
/// How long erasures that were due may take.
const ERASED_AGAIN: Duration = Duration::from_secs(90);

/// What reading gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A body of this SHA-256, in hexadecimal.
    Body(String),
    /// A refusal.
    Refused,
    /// Neither.
    Failed(String),
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The statement.
    pub statement: Statement,
    /// When what was served again.
    pub times: Times,
    /// What the facility of all reads of each record that is listed or was acknowledged: participant, record.
    pub records: BTreeMap<(usize, String), Read>,
    /// What reading with a right that was taken away gives, by the number of the restrictive act.
    pub probes: BTreeMap<usize, Read>,
    /// Entries of the journal: the participant whom each is about, if it tells.
    pub journal: BTreeMap<u64, Option<usize>>,
    /// Of each witnessed head that the statement covers, what is wrong with its proof; nothing: it was proved.
    pub heads: Vec<Option<String>>,
    /// Of some receipts that the statement covers.
    pub receipts: Vec<Option<String>>,
    /// What was seen when nothing but reads was served.
    pub at_reads: AtReads,
    /// What still opens of participants whose erasure was told, or lets them come back.
    pub erased_opens: Vec<String>,
    /// Participants whose erasure was told, and that are not erased again although everything is served.
    pub not_erased_again: Vec<usize>,
    /// What could not be asked.
    pub unasked: Vec<String>,
}

/// Asks for everything.
///
/// # Errors
/// [`RecoveryError`] if no client came about.
pub async fn gather(
    cluster: &Cluster,
    session: &Session,
    notes: &Notes,
    asked: &Asked,
    base: &[RecordId],
    (statement, times, at_reads): (Statement, Times, AtReads),
) -> Result<Findings, RecoveryError> {
    let client = cluster.client(Role::Application, None, TIMEOUTS).await?;
    let session = Session { client, witness: Arc::new(Witness::default()), ..session.clone() };
    let mut found = Findings { statement, times, at_reads, ..Findings::default() };
    read_all(&session, notes, &mut found).await;
    probe(&session, notes, base, &mut found).await;
    erasures(cluster, &session, notes, asked, base, &mut found).await?;
    journal(cluster, &session.cast, notes, &mut found).await?;
    Ok(found)
}

async fn read(client: &Client, cast: &Cast, place: usize, record: RecordId) -> Read {
    let mut last = Read::Refused;
    for _ in 0..ATTEMPTS {
        last = match physician(client, HOME).get(cast.number(place), record).await {
            Ok(record) => match record.bytes().await {
                Ok(bytes) => Read::Body(content::sha256(&bytes)),
                Err(error) => Read::Failed(error.to_string()),
            },
            Err(error) => of_error(error),
        };
        if !matches!(last, Read::Failed(_)) {
            break;
        }
    }
    last
}

fn of_error(error: kura_client::GetError) -> Read {
    match of_get(error) {
        Answer::Failed(why) => Read::Failed(why),
        _ => Read::Refused,
    }
}

/// Whatever is listed, and whatever was acknowledged within the statement.
async fn read_all(session: &Session, notes: &Notes, found: &mut Findings) {
    let last = found.statement.last.index;
    let mut wanted: BTreeMap<(usize, String), RecordId> = BTreeMap::new();
    for deed in notes.deeds.iter().filter(|deed| deed.act.kind == Kind::Put) {
        if let Some(told) = deed.acknowledged().filter(|told| told.index <= last)
            && let Ok(record) = told.record.parse()
        {
            wanted.insert((deed.act.place, told.record.clone()), record);
        }
    }
    for place in 0..PARTICIPANTS {
        let mut list = session.home().list(session.cast.number(place)).stream();
        while let Some(listed) = list.next().await {
            match listed {
                // Reading one that does not open tells so below.
                Ok(listed) => drop(wanted.insert((place, listed.record().to_string()), listed.record())),
                Err(kura_client::ListError::Denied(_) | kura_client::ListError::NotFound(_)) => break,
                Err(error) => {
                    found.unasked.push(format!("the list of participant {place}: {error}"));
                    break;
                }
            }
        }
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let mut readers = JoinSet::new();
    for nth in 0..READERS {
        let part: Vec<_> = wanted.iter().skip(nth).step_by(READERS).cloned().collect();
        let (client, cast) = (session.client.clone(), Arc::clone(&session.cast));
        readers.spawn(async move {
            let mut read_here = Vec::new();
            for (key, record) in part {
                let result = read(&client, &cast, key.0, record).await;
                read_here.push((key, result));
            }
            read_here
        });
    }
    while let Some(ended) = readers.join_next().await {
        match ended {
            Ok(read_here) => found.records.extend(read_here),
            Err(error) => found.unasked.push(error.to_string()),
        }
    }
}

/// Reads with each right that was taken away.
async fn probe(session: &Session, notes: &Notes, base: &[RecordId], found: &mut Findings) {
    for (number, deed) in notes.deeds.iter().enumerate() {
        if !deed.act.kind.restricts() || deed.acknowledged().is_none() {
            continue;
        }
        let place = deed.act.place;
        let hidden: Option<RecordId> = deed.act.record.parse().ok();
        let person = session.cast.person(&session.client, place);
        let get = match (deed.act.kind, hidden) {
            // Its author's facility goes on seeing it; the participant does not.
            (Kind::Hide, Some(record)) => person.get(record),
            (Kind::Revoke, _) => {
                physician(&session.client, &deed.act.facility).get(session.cast.number(place), base[place])
            }
            _ => session.home().get(session.cast.number(place), base[place]),
        };
        let result = match get.await {
            Ok(_) => Read::Body(String::new()),
            Err(error) => of_error(error),
        };
        found.probes.insert(number, result);
    }
}

/// Nothing of who was erased opens; nobody of them comes back.
async fn erasures(
    cluster: &Cluster,
    session: &Session,
    notes: &Notes,
    asked: &Asked,
    base: &[RecordId],
    found: &mut Findings,
) -> Result<(), RecoveryError> {
    let registrar = cluster.client(Role::Registrar, None, TIMEOUTS).await?.erasures();
    let told: Vec<usize> = notes.erased.iter().map(|erased| erased.place).collect();
    let end = Instant::now() + ERASED_AGAIN;
    loop {
        let list = registrar.list().stream().take(asked.len() + 100).await.unwrap_or_default();
        let gone = |state| matches!(state, ErasureState::Pending | ErasureState::Certified);
        let gone: Vec<usize> = list
            .iter()
            .filter(|erasure| gone(erasure.state))
            .filter_map(|erasure| asked.get(&erasure.id).map(|(place, _)| *place))
            .collect();
        found.not_erased_again = told.iter().copied().filter(|place| !gone.contains(place)).collect();
        if found.not_erased_again.is_empty() || Instant::now() >= end {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    for place in told {
        let number = session.cast.number(place);
        if let Read::Body(_) = read(&session.client, &session.cast, place, base[place]).await {
            found.erased_opens.push(format!("a record of participant {place} is read"));
        }
        match registrar.stop(number, "a test of what is final").await {
            Ok(_) => found.erased_opens.push(format!("the erasure of participant {place} was stopped afterwards")),
            Err(ErasureError::Denied(_) | ErasureError::NotFound(_)) => {}
            Err(error) => found.unasked.push(format!("a stop of the erasure of participant {place}: {error}")),
        }
        let consent = Consent::signed_on(session.day).evidence("form");
        match session.home().enrol(number, consent).await {
            Ok(_) => found.erased_opens.push(format!("participant {place} was enrolled again")),
            Err(ConsentError::Denied(_) | ConsentError::NotFound(_)) => {}
            Err(error) => found.unasked.push(format!("an enrolment of participant {place}: {error}")),
        }
    }
    Ok(())
}

/// The journal is the one that was witnessed, and goes on.
async fn journal(cluster: &Cluster, cast: &Cast, notes: &Notes, found: &mut Findings) -> Result<(), RecoveryError> {
    let last = found.statement.last.index;
    let auditor = cluster.client(Role::Auditor, None, TIMEOUTS).await?;
    let journal = auditor.journal();
    match journal.head().await {
        Err(error) => found.unasked.push(format!("the journal's head: {error}")),
        Ok(newest) => {
            let covered = notes.heads.iter().filter(|one| one.head.index() <= last);
            // The last ones, and some of before.
            for one in covered.rev().take(20) {
                found.heads.push(journal.continues(&one.head, &newest).await.err().map(|error| error.to_string()));
            }
        }
    }
    let covered: Vec<_> = notes.receipts.iter().filter(|receipt| receipt.index() <= last).collect();
    let each = covered.len().div_ceil(PROVED_MAX).max(1);
    for receipt in covered.into_iter().rev().step_by(each) {
        found.receipts.push(journal.includes(receipt).await.err().map(|error| error.to_string()));
    }
    let mut list = journal.list().stream();
    while let Some(entry) = list.next().await {
        match entry {
            Ok(entry) => {
                let place =
                    entry.participant.and_then(|number| (0..PARTICIPANTS).find(|at| *cast.number(*at) == number));
                found.journal.insert(entry.journal_position, place);
            }
            Err(error) => {
                found.unasked.push(format!("the journal's entries: {error}"));
                break;
            }
        }
    }
    Ok(())
}
