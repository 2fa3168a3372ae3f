//! The errors that callers meet: one enum for each family of operations.
//!
//! Every family answers the same questions: may the same be asked again (`may_retry`), was a write
//! committed (`was_committed`), which field is at fault (`field`). No error repeats an identifier
//! or a body.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::fault::{Broken, Committed, Conflict, Damage, Denial, Fault, Invalid, Later, Missing, Unfit};
use crate::id::{EmergencyId, RequestId};
use crate::journal::JournalRewritten;
use crate::tls;

/// A whole operation that failed, after its last attempt.
#[derive(Debug)]
pub(crate) struct Failed {
    pub fault: Fault,
    /// Whether one of the attempts may have been committed all the same.
    pub in_doubt: bool,
}

/// How a family takes a fault.
pub(crate) trait Family: Sized {
    fn from_fault(fault: Fault) -> Self;

    fn from_invalid(invalid: Invalid) -> Self {
        Self::from_fault(Fault::Invalid(invalid))
    }
}

/// How a family of writes takes a failure.
pub(crate) trait WriteFamily: Family {
    fn from_failed(failed: Failed, request: RequestId) -> Self;
}

macro_rules! error_family {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident { $($(#[$fdoc:meta])* $field:ident : $type:ty),* }
            retry $retry:literal committed $committed:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum $name {
            /// Refused, and journalled as refused.
            #[error("{0}")]
            Denied(Denial),
            /// Something handed in is outside its bounds.
            #[error("{0}")]
            Invalid(Invalid),
            /// What was named is not there for this actor.
            #[error("not found: {0}")]
            NotFound(Missing),
            /// This client's certificate, role or settings do not fit.
            #[error("{0}")]
            Unfit(Unfit),
            /// The cluster cannot do it now.
            #[error("not now: {0}")]
            Later(Later),
            /// What was asked for is stored, and does not open, as every node says that could be asked.
            #[error("damaged: {0}")]
            Damaged(Damage),
            /// A node answered what the protocol does not allow, or failed inside.
            #[error("a node failed: {0}")]
            Broken(Broken),
            $($(#[$vdoc])* $variant { $($(#[$fdoc])* $field: $type),* },)*
        }

        impl $name {
            /// Whether the same may be asked again, as it is, with a fresh request.
            pub fn may_retry(&self) -> bool {
                match self {
                    Self::Later(_) => true,
                    $(Self::$variant { .. } => $retry,)*
                    _ => false,
                }
            }

            /// Whether the operation was committed in spite of the error.
            pub fn was_committed(&self) -> Committed {
                match self {
                    $(Self::$variant { .. } => Committed::$committed,)*
                    _ => Committed::No,
                }
            }
        }
    };
}

macro_rules! read_family {
    ($($name:ident |$conflict:ident| $taken:expr),*) => { $(
        impl $name {
            /// The field at fault, if one is.
            pub fn field(&self) -> Option<&str> {
                match self {
                    Self::Invalid(invalid) => invalid.field(),
                    _ => None,
                }
            }
        }

        impl Family for $name {
            fn from_fault(fault: Fault) -> Self {
                match fault {
                    Fault::Denied(denial) => Self::Denied(denial),
                    Fault::Invalid(invalid) => Self::Invalid(invalid),
                    Fault::Missing(missing) => Self::NotFound(missing),
                    Fault::Unfit(unfit) => Self::Unfit(unfit),
                    Fault::Later(later) => Self::Later(later),
                    Fault::Damaged(damage) => Self::Damaged(damage),
                    Fault::Broken(broken) => Self::Broken(broken),
                    Fault::Conflict($conflict) => $taken,
                    Fault::Expired => Self::Broken(Broken("a read cannot expire".into())),
                }
            }
        }
    )* };
}

macro_rules! write_family {
    ($(#[$doc:meta])* $name:ident { $($extra:tt)* }) => {
        error_family!($(#[$doc])* $name {
            /// Whether it was committed is not known: ask [`crate::Client::outcome`] with this request.
            #[error("whether the write was committed is not known; ask for the outcome of request {request}")]
            Unknown {
                /// The request of the write.
                request: RequestId
            } retry false committed Unknown,
            /// It contradicts what is there already.
            #[error("conflict: {conflict}")]
            Conflict {
                /// What contradicts what.
                conflict: Conflict
            } retry false committed No,
            /// The request id is older than what the cluster remembers, so it was not run.
            #[error("the request id is older than what the cluster remembers: it was not run again")]
            Expired {} retry false committed Unknown,
            $($extra)*
        });

        impl $name {
            /// The field at fault, if one is.
            pub fn field(&self) -> Option<&str> {
                match self {
                    Self::Invalid(invalid) => invalid.field(),
                    Self::Conflict { conflict } => conflict.field(),
                    _ => None,
                }
            }
        }

        impl Family for $name {
            fn from_fault(fault: Fault) -> Self {
                match fault {
                    Fault::Denied(denial) => Self::Denied(denial),
                    Fault::Invalid(invalid) => Self::Invalid(invalid),
                    Fault::Missing(missing) => Self::NotFound(missing),
                    Fault::Unfit(unfit) => Self::Unfit(unfit),
                    Fault::Later(later) => Self::Later(later),
                    Fault::Damaged(damage) => Self::Damaged(damage),
                    Fault::Broken(broken) => Self::Broken(broken),
                    Fault::Conflict(conflict) => Self::Conflict { conflict },
                    Fault::Expired => Self::Expired {},
                }
            }
        }

        impl WriteFamily for $name {
            fn from_failed(failed: Failed, request: RequestId) -> Self {
                match failed.fault {
                    // Not known either, but no outcome will ever tell.
                    Fault::Expired => Self::from_fault(failed.fault),
                    _ if failed.in_doubt => Self::Unknown { request },
                    fault => Self::from_fault(fault),
                }
            }
        }
    };
}

write_family!(
/// Why a record was not written.
PutError {
    /// The body could not be read to its end; nothing was committed.
    #[error("the body could not be read to its end")]
    Body {
        /// What the reader said.
        source: io::Error
    } retry false committed No,
});
write_family!(
    /// Why a record was not hidden, shown again or narrowed.
    ChangeError {});
write_family!(
    /// Why a consent was not changed.
    ConsentError {});
write_family!(
    /// Why an erasure was not asked for, approved, stopped or shown.
    ErasureError {});
write_family!(
    /// Why the registry was not changed or listed.
    RegistryError {});
write_family!(
/// Why an emergency was not opened.
EmergencyError {
    /// It is open, but its records could not be listed: go on with [`crate::ActingClient::emergency`].
    #[error("the emergency {emergency} is open, but its records could not be listed: {source}")]
    NotListed {
        /// The emergency.
        emergency: EmergencyId,
        /// Why they could not be listed.
        source: Box<ListError>
    } retry false committed Yes,
});
write_family!(
    /// Why no verdict was given on something in the review queue.
    ReviewError {});

error_family!(
/// Why a record was not read, or not to its end.
GetError {
    /// The cluster sent fewer bytes than it announced.
    #[error("the body ended after {bytes} of {expected} bytes")]
    EndedEarly {
        /// Bytes that came.
        bytes: u64,
        /// Bytes that were announced.
        expected: u64
    } retry true committed No,
    /// The bytes of a part do not have the SHA-256 that its header names.
    #[error("part {part} does not have the SHA-256 that its header names")]
    WrongHash {
        /// The part, counted from 1.
        part: usize
    } retry true committed No,
});
error_family!(
    /// Why a list (of records, versions, accesses, consents, inbox items, participants) was not read.
    ListError {});
error_family!(
/// Why the journal could not be held to what was seen of it before, or was not read.
JournalError {
    /// An alarm: the journal does not begin with what was seen before.
    #[error("{rewritten}")]
    Rewritten {
        /// What was seen, and what is told.
        rewritten: Box<JournalRewritten>
    } retry false committed No,
    /// An alarm: the journal does not have a receipt's entry at its position.
    #[error(
        "the journal does not hold this receipt's entry at position {position}: keep the receipt, and compare with another member"
    )]
    NotIncluded {
        /// The position that the receipt names.
        position: u64
    } retry false committed No,
    /// The head that was kept is another cluster's.
    #[error("the head that was kept is another cluster's: give each cluster a head file of its own")]
    OtherCluster {} retry false committed No,
    /// The head was seen but could not be kept in its file.
    #[error("{path} could not be written: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error
    } retry true committed No,
});
error_family!(
    /// Why the outcome of a write could not be learnt.
    OutcomeError {});
error_family!(
/// Why an operator's command failed.
OperationError {
    /// It contradicts what is there already.
    #[error("conflict: {conflict}")]
    Conflict {
        /// What contradicts what.
        conflict: Conflict
    } retry false committed No,
    /// Whether it took effect is not known: look at the status.
    #[error("whether the command took effect is not known ({message})")]
    InDoubt {
        /// What happened.
        message: String
    } retry false committed Unknown,
});

read_family!(
    GetError | conflict | Self::Broken(Broken(conflict.to_string())),
    ListError | conflict | Self::Broken(Broken(conflict.to_string())),
    OutcomeError | conflict | Self::Broken(Broken(conflict.to_string())),
    OperationError | conflict | Self::Conflict { conflict },
    JournalError | conflict | Self::Broken(Broken(conflict.to_string()))
);

impl JournalError {
    /// Whether somebody has to be told at once: the journal is not what it was.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Rewritten { .. } | Self::NotIncluded { .. })
    }
}

/// One node that could not be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The node's name in the configuration.
    pub name: String,
    /// Why.
    pub message: String,
    /// Whether it may pass by itself.
    pub may_retry: bool,
}

/// Why a client did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A TLS file is at fault.
    #[error(transparent)]
    Files(#[from] tls::TlsFileError),
    /// An endpoint's name or address is at fault.
    #[error(transparent)]
    Endpoint(#[from] tls::EndpointError),
    /// No node could be connected to.
    #[error("no node could be connected to: {}", each(.nodes))]
    NoNode {
        /// Every node of the configuration.
        nodes: Vec<Unreached>,
    },
}

fn each(nodes: &[Unreached]) -> String {
    nodes.iter().map(|node| node.message.as_str()).collect::<Vec<_>>().join("; ")
}

impl ConnectError {
    /// Whether connecting again later can succeed without anyone changing files or settings.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::NoNode { nodes } if nodes.iter().any(|node| node.may_retry))
    }

    /// Nothing is ever committed by connecting.
    pub fn was_committed(&self) -> Committed {
        Committed::No
    }

    /// The setting at fault, if one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Config(error) => error.key(),
            Self::Files(_) | Self::Endpoint(_) | Self::NoNode { .. } => None,
        }
    }
}
