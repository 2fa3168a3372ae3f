//! The mixed load: applications that write, read, revoke and hide until the prefecture is lost, and tell the witness.
//!
//! Invariants
//! - What a client does follows from the seed and its number; when, does not.
//! - Consents of a participant are changed by one client only, one change after the other.

use std::sync::Arc;
use std::time::Duration;

use kura_client::{
    ActingClient, ChangeError, Class, Client, ConsentError, Date, GetError, NewRecord, PutError, Receipt, RecordId,
    RequestId, Timeouts,
};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::notes::{Acknowledged, Act, Answer, Kind, Witness};
use crate::cluster::{Cluster, ClusterError, Role};
use crate::content;
use crate::load::{Cast, HOME, VISITORS, physician};
use crate::seed::generator;

/// Participants that are erased while the load runs; the first of all.
pub const ERASED: usize = 8;
/// Participants that leave while it runs; the next.
pub const LEAVERS: usize = 4;
/// All participants.
pub const PARTICIPANTS: usize = 28;

/// Time limits: a restrictive command waits some seconds for the backup.
pub const TIMEOUTS: Timeouts = Timeouts { connect_ms: 1_000, attempt_ms: 8_000, call_ms: 20_000, transfer_ms: 30_000 };

/// Clients that write and read.
const WRITERS: usize = 7;
/// Clients that change consents and hide.
const RESTRICTERS: usize = 4;
/// The pause between two acts of a client, in milliseconds.
const PACE_MS: std::ops::RangeInclusive<u64> = 10..=90;
/// Bodies in a hundred that are longer than a block of small ones, and how long, in bytes.
const LONGER: (u32, std::ops::RangeInclusive<usize>) = (4, 20_000..=120_000);
/// Bodies up to this length are handed in whole.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// Somebody who acts and tells the witness.
#[derive(Clone)]
pub struct Session {
    /// The witness.
    pub witness: Arc<Witness>,
    /// Who takes part.
    pub cast: Arc<Cast>,
    /// The connection.
    pub client: Client,
    /// The day of all records.
    pub day: Date,
}

impl Session {
    fn act(kind: Kind, place: usize, facility: &str, record: Option<RecordId>, request: Option<RequestId>) -> Act {
        let text = |id: Option<String>| id.unwrap_or_default();
        Act {
            kind,
            place,
            facility: facility.into(),
            record: text(record.map(|record| record.to_string())),
            request: text(request.map(|request| request.to_string())),
            sha256: String::new(),
        }
    }

    /// Acts for the facility that every participant names.
    pub fn home(&self) -> ActingClient {
        physician(&self.client, HOME)
    }

    /// Writes a record; the record, if it was acknowledged.
    pub async fn put(&self, place: usize, body: Vec<u8>) -> Option<RecordId> {
        let record = NewRecord::new(Class::Document, "application/octet-stream", self.day);
        let put = self.home().put(self.cast.number(place), record);
        let act = Self::act(Kind::Put, place, HOME, None, Some(put.request_id()));
        let number = self.witness.calls(Act { sha256: content::sha256(&body), ..act });
        let put = match body.len() {
            0..=WHOLE_BYTES_MAX => put.bytes(body),
            _ => put.body(std::io::Cursor::new(body)),
        };
        let answer = put.await.map_err(|error| match error {
            PutError::Denied(_) | PutError::NotFound(_) => Answer::Refused,
            other => Answer::Failed(other.to_string()),
        });
        self.told(number, answer).map(|receipt| receipt.record())
    }

    /// Has a participant name a facility, or take it back.
    pub async fn consent(&self, place: usize, facility: &str, grant: bool) {
        let request = RequestId::new();
        let kind = if grant { Kind::Grant } else { Kind::Revoke };
        let number = self.witness.calls(Self::act(kind, place, facility, None, Some(request)));
        let person = self.cast.person(&self.client, place);
        let change = if grant { person.grant(facility) } else { person.revoke(facility) };
        self.told(number, change.request(request).await.map_err(of_consent));
    }

    /// Has a participant leave.
    pub async fn withdraw(&self, place: usize) {
        let request = RequestId::new();
        let number = self.witness.calls(Self::act(Kind::Withdraw, place, "", None, Some(request)));
        let change = self.cast.person(&self.client, place).withdraw();
        self.told(number, change.request(request).await.map_err(of_consent));
    }

    /// Hides a record of the facility's own.
    pub async fn hide(&self, place: usize, record: RecordId) {
        let request = RequestId::new();
        let number = self.witness.calls(Self::act(Kind::Hide, place, HOME, Some(record), Some(request)));
        let change = self.home().hide(self.cast.number(place), record).reason("of another person");
        let answer = change.request(request).await.map_err(|error| match error {
            ChangeError::Denied(_) | ChangeError::NotFound(_) => Answer::Refused,
            other => Answer::Failed(other.to_string()),
        });
        self.told(number, answer);
    }

    /// Reads a record.
    pub async fn read(&self, place: usize, record: RecordId, facility: &str) {
        let number = self.witness.calls(Self::act(Kind::Read, place, facility, Some(record), None));
        let answer = match physician(&self.client, facility).get(self.cast.number(place), record).await {
            Ok(read) => {
                let ((timeline, index), journal) = (read.decided_at(), read.journal_position());
                read.bytes().await.map(|bytes| Acknowledged {
                    timeline,
                    index,
                    journal,
                    record: record.to_string(),
                    sha256: content::sha256(&bytes),
                    reach: String::new(),
                })
            }
            Err(error) => Err(error),
        };
        self.witness.answers(number, answer.map_or_else(of_get, Answer::Acknowledged), None);
    }

    fn told(&self, number: usize, answer: Result<Receipt, Answer>) -> Option<Receipt> {
        match answer {
            Ok(receipt) => {
                let record = receipt.record();
                let acknowledged = Acknowledged {
                    timeline: receipt.timeline(),
                    index: receipt.index(),
                    journal: receipt.journal_position(),
                    record: if record.is_nil() { String::new() } else { record.to_string() },
                    sha256: String::new(),
                    reach: receipt.reach().word().to_owned(),
                };
                self.witness.answers(number, Answer::Acknowledged(acknowledged), Some(receipt));
                Some(receipt)
            }
            Err(answer) => {
                self.witness.answers(number, answer, None);
                None
            }
        }
    }
}

fn of_consent(error: ConsentError) -> Answer {
    match error {
        ConsentError::Denied(_) | ConsentError::NotFound(_) => Answer::Refused,
        other => Answer::Failed(other.to_string()),
    }
}

/// What came of a read that gave nothing.
pub fn of_get(error: GetError) -> Answer {
    match error {
        GetError::Denied(_) | GetError::NotFound(_) => Answer::Refused,
        other => Answer::Failed(other.to_string()),
    }
}

/// Clients at work. Dropping it ends them, in the middle of what they are at.
pub struct Load {
    _clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients. `base` has a record of each participant.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub async fn start(
        cluster: &Cluster,
        seed: u64,
        witness: &Arc<Witness>,
        cast: &Arc<Cast>,
        day: Date,
        base: &[RecordId],
    ) -> Result<Self, ClusterError> {
        let mut clients = JoinSet::new();
        for nth in 0..WRITERS + RESTRICTERS {
            let session = Session {
                witness: Arc::clone(witness),
                cast: Arc::clone(cast),
                client: cluster.client(Role::Application, None, TIMEOUTS).await?,
                day,
            };
            let random = generator(seed, &format!("recovery-{nth}"));
            let one = One { session, seed, nth, random, drafts: 0, own: Vec::new(), base: base.to_vec() };
            clients.spawn(one.run());
        }
        Ok(Self { _clients: clients })
    }
}

struct One {
    session: Session,
    seed: u64,
    nth: usize,
    random: StdRng,
    drafts: u64,
    /// What this client wrote, and where.
    own: Vec<(usize, RecordId)>,
    base: Vec<RecordId>,
}

impl One {
    async fn run(mut self) {
        loop {
            match self.nth.checked_sub(WRITERS) {
                None => self.write_or_read().await,
                Some(nth) => self.restrict(nth).await,
            }
            sleep(Duration::from_millis(self.random.random_range(PACE_MS))).await;
        }
    }

    async fn put(&mut self, place: usize) {
        self.drafts += 1;
        let name = format!("writer-{}", self.nth);
        let mut body = content::small(self.seed, &name, self.drafts);
        if self.random.random_ratio(LONGER.0, 100) {
            body = content::large(self.seed, &name, self.drafts);
            body.truncate(self.random.random_range(LONGER.1));
        }
        if let Some(record) = self.session.put(place, body).await {
            self.own.push((place, record));
        }
    }

    /// Whoever stays and is not erased.
    fn stays(&mut self) -> usize {
        self.random.random_range(ERASED + LEAVERS..PARTICIPANTS)
    }

    async fn write_or_read(&mut self) {
        if self.own.is_empty() || self.random.random_ratio(3, 5) {
            let place = self.stays();
            return self.put(place).await;
        }
        let (place, record) = self.own[self.random.random_range(0..self.own.len())];
        let facility = [HOME, HOME, VISITORS[0], VISITORS[1]][self.random.random_range(0..4)];
        self.session.read(place, record, facility).await;
    }

    /// Of those whose consents this client changes.
    async fn restrict(&mut self, nth: usize) {
        let leaver = ERASED + nth;
        match self.random.random_range(0..40_u32) {
            0 => self.session.withdraw(leaver).await,
            1..=12 => {
                let place = self.stays();
                self.put(place).await;
                if let Some((place, record)) = self.own.pop() {
                    self.session.hide(place, record).await;
                }
            }
            _ => {
                let each = (PARTICIPANTS - ERASED - LEAVERS) / RESTRICTERS;
                let place = ERASED + LEAVERS + nth * each + self.random.random_range(0..each);
                let facility = VISITORS[self.random.random_range(0..VISITORS.len())];
                // Mostly taken back: a grant is given when it was taken back before.
                let grant = self.random.random_ratio(2, 5);
                self.session.consent(place, facility, grant).await;
                let record = self.base[place];
                self.session.read(place, record, facility).await;
            }
        }
    }
}
