//! What goes wrong between client and cluster, and the one place that reads it from a reply.
//!
//! Invariants
//! - A status with details was made by a gateway and means what it says. A status without details,
//!   or one that the transport made, says nothing about whether a write happened, unless no
//!   connection came about at all.
//! - A write is reported as not committed only if that is certain for every attempt made.

use std::fmt;

use kura_proto::v1;
use prost::Message;
use tonic::Code;

use crate::{fork, tls};

/// Whether a write was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Certainly not.
    No,
    /// Certainly.
    Yes,
    /// Not known: ask [`crate::Client::outcome`].
    Unknown,
}

/// A refusal by the participant's consent or the network's rules. The journal has the true reason;
/// callers see one uniform refusal for not enrolled, not granted and withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    journal_position: Option<u64>,
    reason: Option<String>,
}

impl Denial {
    /// Position of the journal entry of this denial, if the cluster told it.
    pub fn journal_position(&self) -> Option<u64> {
        self.journal_position
    }

    /// The reason's word (`before-consent`, `access-line-class`, `user-unknown`), where it is about the
    /// caller or what was handed in; none for the uniform refusal.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "refused: {reason}")?,
            None => f.write_str("refused: no consent covers this")?,
        }
        self.journal_position.map_or(Ok(()), |position| write!(f, " (journal position {position})"))
    }
}

/// Something handed in is outside its bounds or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    field: Option<String>,
    limit: Option<String>,
    message: String,
}

impl Invalid {
    pub(crate) fn because(field: &str, message: impl fmt::Display) -> Self {
        Self { field: Some(field.to_owned()), limit: None, message: format!("{field} {message}") }
    }

    pub(crate) fn bound(field: &str, limit: String, given: usize) -> Self {
        let message = format!("{field}: {limit} allowed, {given} given");
        Self { field: Some(field.to_owned()), limit: Some(limit), message }
    }

    /// The field at fault.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The bound that was passed, in words.
    pub fn limit(&self) -> Option<&str> {
        self.limit.as_deref()
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Two things that cannot both be: a document id in use by another body, a request id by another request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    field: Option<String>,
    message: String,
}

impl Conflict {
    /// The field that is in use already.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why the cluster cannot do it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No node could be reached, or those reached cannot do it at present.
    Unavailable,
    /// The nodes that answer have no leader: the cluster has no majority.
    NoLeader,
    /// The node was removed from the cluster: its members have to be asked.
    Removed,
    /// Two clusters of one id answer on one timeline ([`crate::fork`]): people end one of them, then the client is begun
    /// anew.
    Forked,
    /// After a recovery the cluster does not serve this yet: recovery staff opens it step by step.
    NotOpened,
    /// More is asked of the cluster than it takes.
    Overloaded,
    /// What the decision rested on kept changing.
    Contended,
    /// The nodes are short of disk space.
    LowSpace,
    /// A node's clock is off.
    Clock,
    /// The deadline passed.
    Deadline,
    /// No node that answers has as many journal entries as were seen before.
    JournalBehind,
    /// The cluster no longer holds the beginning of a cut-off upload: send it from the start.
    UploadLost,
}

/// The cluster cannot do it now. The same may be asked again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    reason: Reason,
    message: String,
}

impl Later {
    /// Why not now.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A fault without anything more to ask of it than its text.
macro_rules! plain_fault {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub(crate) String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

plain_fault!(
    /// What was named is not there, or is not there for this actor.
    Missing);
plain_fault!(
    /// This client's certificate, its role or its settings do not fit: nothing will change by asking again.
    Unfit);
plain_fault!(
    /// What is stored does not open. Whoever operates the cluster is told of it, too.
    Damage);
plain_fault!(
    /// A node answered what the protocol does not allow, or failed inside. A bug; the message is for its report.
    Broken);

/// Everything that can go wrong; each family of errors takes what concerns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Denied(Denial),
    Invalid(Invalid),
    Missing(Missing),
    Conflict(Conflict),
    Expired,
    Unfit(Unfit),
    Later(Later),
    Damaged(Damage),
    Broken(Broken),
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    /// Each endpoint once: what one node refuses for reasons of its own, another may do.
    Elsewhere,
    /// Until the deadline.
    Soon,
}

/// One attempt that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub fault: Fault,
    pub again: Again,
    /// Whether a write could have been committed by this attempt.
    pub in_doubt: bool,
    /// Whether the way to the node, not its answer, failed.
    pub transport: bool,
}

impl Failure {
    fn never(fault: Fault) -> Self {
        Self { fault, again: Again::Never, in_doubt: false, transport: false }
    }

    fn later(reason: Reason, message: String, again: Again) -> Self {
        Self { fault: Fault::Later(Later { reason, message }), again, in_doubt: false, transport: false }
    }

    fn cut(message: String) -> Self {
        let lost = Self::later(Reason::Unavailable, message, Again::Soon);
        Self { in_doubt: true, transport: true, ..lost }
    }

    /// A node did not answer in time.
    pub fn silent() -> Self {
        let lost = Self::later(Reason::Deadline, "no answer within the time limit".into(), Again::Soon);
        Self { in_doubt: true, transport: true, ..lost }
    }

    /// The whole operation took too long.
    pub fn overdue() -> Self {
        let message = "not complete within the time limit".into();
        Self { in_doubt: true, ..Self::later(Reason::Deadline, message, Again::Never) }
    }

    /// A reply came from a timeline that has been left.
    pub fn stale(told: u64, known: u64) -> Self {
        Self::cut(format!("a node answered on timeline {told}, but the cluster is on timeline {known}"))
    }

    /// A node has not heard yet of what another told to be committed.
    pub fn behind() -> Self {
        let message = "a node has not heard yet that this was committed".into();
        Self { in_doubt: true, ..Self::later(Reason::Unavailable, message, Again::Soon) }
    }

    /// The upload cannot go on from where it was cut.
    pub fn upload_lost() -> Self {
        let message = "the cluster no longer holds the beginning of this upload: send it from the start".into();
        Self::later(Reason::UploadLost, message, Again::Never)
    }

    /// A node's journal is shorter than what was seen before.
    pub fn journal_behind(told: u64, least: u64) -> Self {
        let message = format!(
            "the journal of the nodes that answer has {told} entries where {least} were seen: they are behind; wait, or \
             ask another member"
        );
        Self::later(Reason::JournalBehind, message, Again::Soon)
    }

    /// A node was removed from the cluster, or not added yet.
    pub fn not_a_member(node: &str) -> Self {
        Self::later(Reason::Removed, format!("{node} is not a member of this cluster"), Again::Elsewhere)
    }

    /// Whether it is that of a cluster without a leader.
    pub fn is_leaderless(&self) -> bool {
        matches!(&self.fault, Fault::Later(later) if later.reason == Reason::NoLeader)
    }

    /// Whether a node said so itself, rather than that none was reached or that time ran out.
    pub fn is_told(&self) -> bool {
        let is_overdue = matches!(&self.fault, Fault::Later(later) if later.reason == Reason::Deadline);
        !self.transport && !is_overdue
    }

    /// Whether it is the node that cannot, so that later calls had better begin at another.
    pub fn is_of_this_node(&self) -> bool {
        matches!(&self.fault, Fault::Later(later) if matches!(later.reason, Reason::Unavailable | Reason::NoLeader | Reason::Clock | Reason::Removed))
    }

    pub fn invalid(invalid: Invalid) -> Self {
        Self::never(Fault::Invalid(invalid))
    }

    /// A reply that the protocol does not allow. A write may have happened.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { in_doubt: true, ..Self::never(Fault::Broken(Broken(message.into()))) }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if let Some(error) = tls::connect_error(&status) {
            return if error.may_retry() {
                Self { transport: true, ..Self::later(Reason::Unavailable, error.to_string(), Again::Soon) }
            } else {
                let unfit = Self::never(Fault::Unfit(Unfit(error.to_string())));
                Self { again: Again::Elsewhere, transport: true, ..unfit }
            };
        }
        match details(&status) {
            Some(detail) => from_detail(detail, status.message()),
            None => without_details(&status),
        }
    }
}

fn details(status: &tonic::Status) -> Option<v1::ErrorDetail> {
    let bytes = status.details();
    if bytes.is_empty() { None } else { v1::ErrorDetail::decode(bytes).ok() }
}

fn from_detail(detail: v1::ErrorDetail, message: &str) -> Failure {
    let message = message.to_owned();
    let field = (!detail.field.is_empty()).then(|| detail.field.clone());
    let limit = (!detail.limit.is_empty()).then(|| detail.limit.clone());
    let failure = match detail.kind.as_str() {
        "denied" => {
            let journal_position = (detail.journal_position != 0).then_some(detail.journal_position);
            Failure::never(Fault::Denied(Denial { journal_position, reason: field }))
        }
        "invalid" => Failure::never(Fault::Invalid(Invalid { field, limit, message })),
        "not-found" => Failure::never(Fault::Missing(Missing(message))),
        "conflict" => Failure::never(Fault::Conflict(Conflict { field, message })),
        "expired" => Failure::never(Fault::Expired),
        "role" => Failure::never(Fault::Unfit(Unfit(message))),
        "contended" => Failure::later(Reason::Contended, message, Again::Soon),
        "overloaded" => Failure::later(Reason::Overloaded, message, Again::Soon),
        "unavailable" | "unknown-outcome" => Failure::later(Reason::Unavailable, message, Again::Soon),
        "no-leader" => Failure::later(Reason::NoLeader, message, Again::Soon),
        "removed" => Failure::later(Reason::Removed, message, Again::Elsewhere),
        fork::KIND => Failure::later(Reason::Forked, message, Again::Never),
        // People have to open it; the nodes all tell the same.
        "not-opened" => Failure::later(Reason::NotOpened, message, Again::Never),
        // Another node's copy may be sound.
        "damaged" => Failure { again: Again::Elsewhere, ..Failure::never(Fault::Damaged(Damage(message))) },
        "low-space" => Failure::later(Reason::LowSpace, message, Again::Elsewhere),
        "clock" => Failure::later(Reason::Clock, message, Again::Elsewhere),
        // Words of later versions: their retry field says what to do.
        _ if detail.retry == 2 => Failure::later(Reason::Unavailable, message, Again::Soon),
        _ if detail.retry == 3 => Failure::never(Fault::Invalid(Invalid { field, limit, message })),
        _ => Failure::never(Fault::Broken(Broken(message))),
    };
    Failure { in_doubt: detail.committed >= 2 || detail.kind == "unknown-outcome", ..failure }
}

fn without_details(status: &tonic::Status) -> Failure {
    let message = status.message().to_owned();
    let made_here = std::error::Error::source(status).is_some();
    match status.code() {
        // What the transport says of it is for programmers.
        _ if made_here => {
            tracing::debug!(message, "a connection was lost");
            Failure::cut("the connection to a node was lost".into())
        }
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
            Failure::never(Fault::Invalid(Invalid { field: None, limit: None, message }))
        }
        Code::NotFound => Failure::never(Fault::Missing(Missing(message))),
        Code::PermissionDenied | Code::Unauthenticated => Failure::never(Fault::Unfit(Unfit(message))),
        Code::Unimplemented => Failure { again: Again::Elsewhere, ..Failure::never(Fault::Broken(Broken(message))) },
        Code::ResourceExhausted => {
            Failure { in_doubt: true, ..Failure::later(Reason::Overloaded, message, Again::Soon) }
        }
        // Also what tonic makes of a stream that ended without a status.
        _ => Failure::cut(message),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The status that a gateway makes.
    pub(crate) fn status(kind: &str, retry: u32, committed: u32) -> tonic::Status {
        let detail = v1::ErrorDetail {
            retry,
            committed,
            kind: kind.into(),
            field: "media_type".into(),
            limit: "255 bytes".into(),
            journal_position: 77,
        };
        tonic::Status::with_details(Code::Unknown, "told so", detail.encode_to_vec().into())
    }

    /// A denial whose reason is told.
    pub(crate) fn denied(reason: &str) -> tonic::Status {
        let detail = v1::ErrorDetail {
            retry: 1,
            committed: 1,
            kind: "denied".into(),
            field: reason.into(),
            ..Default::default()
        };
        tonic::Status::with_details(Code::PermissionDenied, "denied", detail.encode_to_vec().into())
    }

    #[test]
    fn each_word_means_what_it_says() {
        // kind, retry, committed -> fault, when again, in doubt
        let table = [
            ("denied", 1, 1, "Denied", Again::Never, false),
            ("invalid", 3, 1, "Invalid", Again::Never, false),
            ("not-found", 1, 1, "Missing", Again::Never, false),
            ("conflict", 1, 1, "Conflict", Again::Never, false),
            ("expired", 1, 3, "Expired", Again::Never, true),
            ("role", 1, 1, "Unfit", Again::Never, false),
            ("contended", 2, 1, "Later", Again::Soon, false),
            ("overloaded", 2, 1, "Later", Again::Soon, false),
            ("no-leader", 2, 1, "Later", Again::Soon, false),
            ("unavailable", 2, 1, "Later", Again::Soon, false),
            ("unavailable", 2, 3, "Later", Again::Soon, true),
            ("unknown-outcome", 2, 0, "Later", Again::Soon, true),
            ("removed", 2, 1, "Later", Again::Elsewhere, false),
            ("not-opened", 2, 1, "Later", Again::Never, false),
            ("low-space", 2, 1, "Later", Again::Elsewhere, false),
            ("clock", 2, 1, "Later", Again::Elsewhere, false),
            ("of-a-later-version", 2, 1, "Later", Again::Soon, false),
            ("of-a-later-version", 3, 1, "Invalid", Again::Never, false),
            ("of-a-later-version", 1, 1, "Broken", Again::Never, false),
        ];
        for (kind, retry, committed, fault, again, in_doubt) in table {
            let failure = Failure::from(status(kind, retry, committed));
            assert!(format!("{:?}", failure.fault).starts_with(fault), "{kind}: {failure:?}");
            assert_eq!((failure.again, failure.in_doubt, failure.transport), (again, in_doubt, false), "{kind}");
        }
        let Fault::Denied(denial) = Failure::from(status("denied", 1, 1)).fault else { panic!("denied") };
        // The helper names a field whatever the kind; of a denial it is the reason.
        assert_eq!((denial.journal_position(), denial.reason()), (Some(77), Some("media_type")));
        let Fault::Invalid(invalid) = Failure::from(status("invalid", 3, 1)).fault else { panic!("invalid") };
        assert_eq!((invalid.field(), invalid.limit()), (Some("media_type"), Some("255 bytes")));
    }

    #[test]
    fn a_status_without_details_leaves_a_write_in_doubt() {
        for status in [tonic::Status::unavailable("gone"), tonic::Status::unknown("?"), tonic::Status::internal("?")] {
            let failure = Failure::from(status);
            assert!(failure.in_doubt && failure.transport && failure.again == Again::Soon);
        }
        assert!(!Failure::from(tonic::Status::permission_denied("role")).in_doubt);
    }
}
