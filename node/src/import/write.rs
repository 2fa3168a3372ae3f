//! Writing and hiding: which errors end a file, and which the run.

use kura_client::{
    ActingClient, ChangeError, Denial, NewRecord, ParticipantNumber, PutError, Reach, Receipt, RecordId,
};
use tokio::io::AsyncRead;

use super::report::{Line, Outcome, reason};
use crate::cli::Failure;

/// Attempts of a write whose fate is not known or for which no node has time, each with the client's own
/// attempts inside: enough to ride out an election.
const ATTEMPTS_MAX: usize = 3;

/// Denials that are about the caller: every further write would be refused for the same reason.
const ABOUT_CALLER: [&str; 14] = [
    "application-unknown",
    "application-not-active",
    "application-facility",
    "facility-unknown",
    "facility-not-active",
    "access-line",
    "user-unknown",
    "user-not-active",
    "credential",
    "actor-may-not",
    "purpose-reserved",
    "purpose-actor",
    "no-purpose",
    "certificate",
];

/// Why a file was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    outcome: Outcome,
    reason: String,
    detail: Option<String>,
}

impl Refusal {
    /// A person must look at it.
    pub fn set_aside(reason: &str) -> Refusal {
        Refusal { outcome: Outcome::SetAside, reason: reason.to_owned(), detail: None }
    }

    /// It could not be stored.
    pub fn refused(reason: &str) -> Refusal {
        Refusal { outcome: Outcome::Refused, reason: reason.to_owned(), detail: None }
    }

    /// It is none of the records that are imported.
    pub fn skipped(reason: &str) -> Refusal {
        Refusal { outcome: Outcome::Skipped, reason: reason.to_owned(), detail: None }
    }

    fn with(self, detail: impl ToString) -> Refusal {
        Refusal { detail: Some(detail.to_string()), ..self }
    }

    /// The line of the file.
    pub fn line(self, file: &str, bytes: u64) -> Line {
        Line { detail: self.detail, ..Line::because(file, self.outcome, self.reason, bytes) }
    }
}

/// What became of a write, unless the run must stop.
pub type Written = Result<Receipt, Refusal>;

/// Writes a record; `body` opens its body anew for each attempt.
///
/// # Errors
/// Why the run must stop.
pub async fn put<B: AsyncRead + Send + 'static>(
    acting: &ActingClient,
    number: &ParticipantNumber,
    record: &NewRecord,
    mut body: impl AsyncFnMut() -> std::io::Result<B>,
) -> Result<Written, Failure> {
    for attempt in 1.. {
        let body = match body().await {
            Ok(body) => body,
            Err(error) => return Ok(Err(Refusal::refused(reason::UNREADABLE).with(error.kind()))),
        };
        match acting.put(number, record.clone()).body(body).await {
            Ok(receipt) => return Ok(Ok(receipt)),
            // The document id makes a repetition safe.
            Err(PutError::Unknown { .. } | PutError::Later(_)) if attempt < ATTEMPTS_MAX => {}
            Err(error) => return refusal(error).map(Err),
        }
    }
    Err(Failure::failed("no attempt was made"))
}

fn refusal(error: PutError) -> Result<Refusal, Failure> {
    Ok(match &error {
        PutError::Denied(denial) if is_about_caller(denial) => return Err(error.into()),
        PutError::Denied(denial) => Refusal::refused(denial.reason().unwrap_or(reason::NO_CONSENT)),
        PutError::Invalid(invalid) => Refusal::refused(reason::INVALID).with(invalid),
        PutError::Conflict { .. } => Refusal::refused(reason::ID_IN_USE),
        PutError::Body { source } => Refusal::refused(reason::UNREADABLE).with(source.kind()),
        PutError::NotFound(_) | PutError::Broken(_) => Refusal::refused(reason::NODE_FAILED),
        _ => return Err(error.into()),
    })
}

fn is_about_caller(denial: &Denial) -> bool {
    denial.reason().is_some_and(|reason| ABOUT_CALLER.contains(&reason))
}

/// Hides a record, or shows it again. Answers how far that had reached.
///
/// # Errors
/// Why the run must stop.
pub async fn hide(
    acting: &ActingClient,
    number: &ParticipantNumber,
    record: RecordId,
    hidden: bool,
    why: &str,
) -> Result<Result<Reach, Refusal>, Failure> {
    for attempt in 1.. {
        let change = if hidden { acting.hide(number, record) } else { acting.unhide(number, record) };
        match change.reason(why).await {
            Ok(receipt) => return Ok(Ok(receipt.reach())),
            Err(ChangeError::Unknown { .. } | ChangeError::Later(_)) if attempt < ATTEMPTS_MAX => {}
            Err(ChangeError::Denied(denial)) => {
                return Ok(Err(
                    Refusal::refused(reason::NOT_HIDDEN).with(denial.reason().unwrap_or(reason::NO_CONSENT))
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::failed("no attempt was made"))
}
