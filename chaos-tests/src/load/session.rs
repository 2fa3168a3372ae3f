//! A recorded client: does one thing, writes what came of it to the history, and tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kura_client::{
    Class, Client, ConsentError, Denial, GetError, ListError, Listed, NewRecord, Outcome as Found, OutcomeError,
    PutError, Receipt, Record, RecordId, RequestId,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::cast::{Cast, HOME, physician};
use super::{Known, Shared, past};
use crate::content::{hexadecimal, sha256};
use crate::history::{Action, Committed, ListedRecord, Operation, Outcome, Revision};

/// A body and how it is handed in.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The bytes.
    pub body: Vec<u8>,
    /// The author's document id.
    pub document: Option<String>,
    /// The participant.
    pub place: usize,
}

/// Bodies up to this length are handed in whole, longer ones as a stream of unknown length.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// A client that records.
pub struct Session {
    shared: Arc<Shared>,
    name: String,
    node: Option<String>,
    client: watch::Receiver<Client>,
    patient: watch::Receiver<Client>,
}

/// How long a question about a write may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as anything else that the client does.
    Own,
    /// As long as somebody waits who must know.
    Must,
}

impl Session {
    /// A client of a name; with a node, if it can ask no other. `patient` is a connection to the same nodes.
    pub fn new(
        shared: Arc<Shared>,
        name: String,
        node: Option<String>,
        client: watch::Receiver<Client>,
        patient: watch::Receiver<Client>,
    ) -> Self {
        Self { shared, name, node, client, patient }
    }

    fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// What all clients share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The client's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a record, on behalf of the facility that every participant always names.
    pub async fn put(&self, draft: &Draft) -> (RequestId, Outcome) {
        let mut record = NewRecord::new(Class::Document, "application/octet-stream", past());
        if let Some(document) = &draft.document {
            record = record.document_id(document);
        }
        let number = self.shared.cast.number(draft.place);
        let put = physician(&self.client(), HOME).put(number, record);
        let request = put.request_id();
        let put = match draft.body.len() {
            0..=WHOLE_BYTES_MAX => put.bytes(draft.body.clone()),
            _ => put.body(std::io::Cursor::new(draft.body.clone())),
        };
        let action = Action::Put {
            request: request.to_string(),
            document: draft.document.clone(),
            body_sha256: sha256(&draft.body),
            body_bytes: draft.body.len() as u64,
        };
        let call_us = self.shared.recorder.now_us();
        self.shared.writes_under_way.fetch_add(1, Ordering::Relaxed);
        let answer = put.await;
        self.shared.writes_under_way.fetch_sub(1, Ordering::Relaxed);
        if let Ok(receipt) = &answer {
            self.shared.written_bytes.fetch_add(draft.body.len() as u64, Ordering::Relaxed);
            self.acknowledged(draft.place, receipt);
        }
        let outcome = answer.map_or_else(of_put, |receipt| committed(&receipt));
        self.record(call_us, draft.place, HOME, action, outcome.clone());
        (request, outcome)
    }

    fn acknowledged(&self, place: usize, receipt: &Receipt) {
        if !receipt.record().is_nil() {
            self.shared.learn(Known { place, record: receipt.record() });
        }
    }

    /// Reads a record, on behalf of a facility, to its end.
    pub async fn get(&self, place: usize, record: RecordId, facility: &str) -> Outcome {
        let call_us = self.shared.recorder.now_us();
        let get = physician(&self.client(), facility).get(self.shared.cast.number(place), record);
        let outcome = match get.await {
            Ok(record) => drain(record).await.unwrap_or_else(of_get),
            Err(error) => of_get(error),
        };
        self.record(call_us, place, facility, Action::Get { record: record.to_string() }, outcome.clone());
        outcome
    }

    /// Lists a participant's records, all pages.
    pub async fn list(&self, place: usize) -> Outcome {
        let call_us = self.shared.recorder.now_us();
        let mut stream = physician(&self.client(), HOME).list(self.shared.cast.number(place)).stream();
        let mut records = Vec::new();
        let outcome = loop {
            match stream.next().await {
                Some(Ok(Listed::Record(summary))) => records.push(ListedRecord {
                    record: summary.record.to_string(),
                    version: summary.version,
                    document: summary.document_id,
                }),
                Some(Ok(Listed::Damaged(damaged))) => {
                    break Outcome::Failed { passing: false, error: damaged.to_string() };
                }
                Some(Err(error)) => break of_list(error),
                None => break Outcome::Listed { records },
            }
        };
        self.record(call_us, place, HOME, Action::List, outcome.clone());
        outcome
    }

    /// Has a participant name a facility, or take it back.
    pub async fn consent(&self, place: usize, facility: &str, grant: bool) -> (RequestId, Outcome) {
        let person = self.shared.cast.person(&self.client(), place);
        let request = RequestId::new();
        let change = if grant { person.grant(facility) } else { person.revoke(facility) };
        let named = request.to_string();
        let action = if grant { Action::Grant { request: named } } else { Action::Revoke { request: named } };
        let call_us = self.shared.recorder.now_us();
        let outcome = change.request(request).await.map_or_else(of_consent, |receipt| committed(&receipt));
        self.record(call_us, place, facility, action, outcome.clone());
        (request, outcome)
    }

    /// Asks what became of a write.
    pub async fn resolve(&self, place: usize, facility: &str, request: RequestId, patience: Patience) -> Outcome {
        let client = if patience == Patience::Must { &self.patient } else { &self.client }.borrow().clone();
        let call_us = self.shared.recorder.now_us();
        let outcome = match client.outcome(request).await {
            Ok(Found::Committed(receipt)) => {
                self.acknowledged(place, &receipt);
                committed(&receipt)
            }
            Ok(Found::Absent) => Outcome::Absent,
            Ok(Found::Forgotten) => Outcome::Forgotten,
            Err(error) => of_outcome(error),
        };
        self.record(call_us, place, facility, Action::Resolve { of: request.to_string() }, outcome.clone());
        outcome
    }

    fn record(&self, call_us: u64, place: usize, facility: &str, action: Action, outcome: Outcome) {
        // What is asked of one node is a scan's.
        if self.node.is_none() && !matches!(outcome, Outcome::Unknown { .. } | Outcome::Failed { .. }) {
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        let recorder = &self.shared.recorder;
        recorder.operation(Operation {
            id: 0,
            client: self.name.clone(),
            node: self.node.clone(),
            participant: Cast::label(place),
            facility: facility.to_owned(),
            call_us,
            return_us: recorder.now_us(),
            action,
            outcome,
        });
    }
}

async fn drain(record: Record) -> Result<Outcome, GetError> {
    let (timeline, index) = record.decided_at();
    let (journal, version) = (record.journal_position(), record.summary().version);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut stream = record.into_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        hash.update(&chunk);
        bytes += chunk.len() as u64;
    }
    let at = Revision { timeline, index };
    Ok(Outcome::Read { sha256: hexadecimal(&hash.finalize()), bytes, version, at, journal })
}

fn committed(receipt: &Receipt) -> Outcome {
    let record = receipt.record();
    Outcome::Committed(Committed {
        record: if record.is_nil() { String::new() } else { record.to_string() },
        version: receipt.version(),
        at: Revision { timeline: receipt.timeline(), index: receipt.index() },
        term: receipt.leader_term(),
        journal: receipt.journal_position(),
        reach: receipt.reach().word().to_owned(),
        repeated: receipt.repeated(),
    })
}

fn denied(denial: &Denial) -> Outcome {
    Outcome::Denied { entry: denial.journal_position() }
}

fn of_put(error: PutError) -> Outcome {
    match error {
        PutError::Denied(denial) => denied(&denial),
        PutError::NotFound(_) => Outcome::Missing,
        PutError::Unknown { .. } => Outcome::Unknown { error: error.to_string() },
        other => Outcome::Failed { passing: other.may_retry(), error: other.to_string() },
    }
}

fn of_consent(error: ConsentError) -> Outcome {
    match error {
        ConsentError::Denied(denial) => denied(&denial),
        ConsentError::NotFound(_) => Outcome::Missing,
        ConsentError::Unknown { .. } => Outcome::Unknown { error: error.to_string() },
        other => Outcome::Failed { passing: other.may_retry(), error: other.to_string() },
    }
}

fn of_get(error: GetError) -> Outcome {
    match error {
        GetError::Denied(denial) => denied(&denial),
        GetError::NotFound(_) => Outcome::Missing,
        // Reading again may help, but a node sent something else than it said.
        damaged @ (GetError::WrongHash { .. } | GetError::EndedEarly { .. } | GetError::Damaged(_)) => {
            Outcome::Failed { passing: false, error: damaged.to_string() }
        }
        other => Outcome::Failed { passing: other.may_retry(), error: other.to_string() },
    }
}

fn of_list(error: ListError) -> Outcome {
    match error {
        ListError::Denied(denial) => denied(&denial),
        ListError::NotFound(_) => Outcome::Missing,
        other => Outcome::Failed { passing: other.may_retry(), error: other.to_string() },
    }
}

fn of_outcome(error: OutcomeError) -> Outcome {
    Outcome::Failed { passing: error.may_retry(), error: error.to_string() }
}
