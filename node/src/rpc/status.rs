//! The one place that maps errors to gRPC statuses.
//!
//! Every status carries a `kura.v1.ErrorDetail`: whether to retry, whether anything was committed, the
//! field and limit at fault, and a word for programs. Callers see the true reason of a denial only where
//! it is about themselves; everything about a participant is one uniform refusal.

use bytes::Bytes;
use kura_cluster::consent::Denial;
use kura_proto::v1::ErrorDetail;
use prost::Message;
use tonic::{Code, Status};

use crate::gateway::GatewayError;
use crate::gateway::consents::told;

const NEVER: u32 = 1;
const SAME_REQUEST: u32 = 2;
const CORRECTED: u32 = 3;
const NOT_COMMITTED: u32 = 1;
const COMMITTED_UNKNOWN: u32 = 3;

/// What every uniform refusal says.
pub const UNIFORM_REFUSAL: &str = "denied: this participant's records are not open to this actor";

impl From<GatewayError> for Status {
    fn from(error: GatewayError) -> Status {
        let text = error.to_string();
        let mut detail = ErrorDetail { retry: NEVER, committed: NOT_COMMITTED, ..ErrorDetail::default() };
        let (code, kind, text) = match &error {
            GatewayError::Denied { reason, journal_position } => {
                detail.journal_position = *journal_position;
                match told(*reason) {
                    Some(word) => {
                        detail.field = word.into();
                        (Code::PermissionDenied, "denied", format!("denied: {word}"))
                    }
                    None => (Code::PermissionDenied, "denied", UNIFORM_REFUSAL.to_owned()),
                }
            }
            GatewayError::Invalid { field, why } => {
                detail.retry = CORRECTED;
                detail.field = (*field).into();
                detail.limit = why.clone();
                (Code::InvalidArgument, "invalid", text)
            }
            GatewayError::NotFound { what } => {
                detail.field = (*what).into();
                (Code::NotFound, "not-found", text)
            }
            GatewayError::Unregistered { .. } => {
                detail.field = Denial::FacilityUnknown.word().into();
                (Code::NotFound, "not-found", text)
            }
            GatewayError::InUse { field, .. } | GatewayError::Contradicts { field, .. } => {
                detail.retry = CORRECTED;
                detail.field = (*field).into();
                (Code::AlreadyExists, "conflict", text)
            }
            GatewayError::ProposedBefore { .. } => {
                detail.retry = CORRECTED;
                detail.field = "act".into();
                (Code::AlreadyExists, "conflict", text)
            }
            GatewayError::Registered { field } => {
                detail.retry = CORRECTED;
                detail.field = (*field).into();
                (Code::AlreadyExists, "conflict", text)
            }
            GatewayError::Changed => {
                detail.retry = CORRECTED;
                detail.field = "before".into();
                (Code::Aborted, "conflict", text)
            }
            GatewayError::Contended => {
                detail.retry = SAME_REQUEST;
                (Code::Aborted, "contended", text)
            }
            GatewayError::NoLeader { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "no-leader", text)
            }
            GatewayError::Unavailable { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "unavailable", text)
            }
            GatewayError::Removed { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "removed", text)
            }
            GatewayError::NotOpened { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "not-opened", text)
            }
            GatewayError::Unknown => {
                detail.retry = SAME_REQUEST;
                detail.committed = COMMITTED_UNKNOWN;
                (Code::Unavailable, "unknown-outcome", text)
            }
            GatewayError::Expired => {
                detail.committed = COMMITTED_UNKNOWN;
                (Code::FailedPrecondition, "expired", text)
            }
            GatewayError::RequestId { .. } => {
                detail.field = "request".into();
                (Code::FailedPrecondition, "conflict", text)
            }
            GatewayError::Overloaded => {
                detail.retry = SAME_REQUEST;
                (Code::ResourceExhausted, "overloaded", text)
            }
            GatewayError::LowSpace { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::ResourceExhausted, "low-space", text)
            }
            GatewayError::Clock => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "clock", text)
            }
            GatewayError::Sealed { .. } => {
                detail.retry = SAME_REQUEST;
                (Code::Unavailable, "unavailable", text)
            }
            GatewayError::Damaged { .. } => (Code::DataLoss, "damaged", text),
            GatewayError::Certificate { .. } => (Code::Unauthenticated, "role", text),
            GatewayError::Role { role, .. } => {
                detail.field = role.clone();
                (Code::PermissionDenied, "role", text)
            }
            GatewayError::KeyDeletionCap => (Code::ResourceExhausted, "cap", text),
        };
        detail.kind = kind.into();
        Status::with_details(code, text, Bytes::from(detail.encode_to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(reason: Denial) -> Status {
        GatewayError::Denied { reason, journal_position: 7 }.into()
    }

    #[test]
    fn whatever_concerns_a_participant_is_one_uniform_refusal() {
        let uniform = denied(Denial::NotEnrolled);
        for reason in
            [Denial::Withdrawn, Denial::NotGranted, Denial::NotAddressee, Denial::Hidden, Denial::NoSuchRecord]
        {
            let status = denied(reason);
            assert_eq!(
                (status.code(), status.message(), status.details()),
                (uniform.code(), uniform.message(), uniform.details())
            );
        }
        assert!(denied(Denial::AccessLineClass).message().contains("access-line-class"));
    }

    #[test]
    fn errors_say_whether_to_retry_and_whether_it_was_committed() {
        let detail = |error: GatewayError| ErrorDetail::decode(Status::from(error).details()).unwrap();
        let unknown = detail(GatewayError::Unknown);
        assert_eq!((unknown.retry, unknown.committed), (SAME_REQUEST, COMMITTED_UNKNOWN));
        let invalid = detail(GatewayError::invalid("class", "12 is not known"));
        assert_eq!((invalid.retry, invalid.committed, &invalid.field[..]), (CORRECTED, NOT_COMMITTED, "class"));
    }
}
