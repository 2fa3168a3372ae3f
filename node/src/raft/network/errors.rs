//! What went wrong with a call, in openraft's words: `Unreachable` waits before the next attempt,
//! the others do not, or only after several.

use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, StreamingError, Timeout, Unreachable};
use openraft::network::RPCTypes;
use tonic::{Code, Status};

use super::CallError;
use crate::raft::types::{NodeId, TypeConfig};
use crate::raft::wire::WireError;
use crate::snapshot::SendError;

/// A call that was refused or never arrived waits; a connection that broke is tried again at once.
pub(super) fn of_status(status: &Status) -> CallError {
    let words = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => {
            RPCError::Network(NetworkError::from_string(words))
        }
        _ => RPCError::Unreachable(Unreachable::from_string(words)),
    }
}

/// The peer speaks another language: asking again at once would not help.
pub(super) fn of_wire(error: WireError) -> CallError {
    RPCError::Unreachable(Unreachable::new(&error))
}

pub(super) fn timeout(action: RPCTypes, id: NodeId, target: NodeId, limit: Duration) -> CallError {
    RPCError::Timeout(Timeout { action, id, target, timeout: limit })
}

/// The stream ended while answers were outstanding.
pub(super) fn ended_early() -> CallError {
    RPCError::Network(NetworkError::from_string("the peer ended the stream before it answered"))
}

pub(super) fn former_connection() -> CallError {
    RPCError::Network(NetworkError::from_string("certificates or revocation lists have changed: connecting anew"))
}

pub(super) fn of_streaming(error: CallError) -> StreamingError<TypeConfig> {
    match error {
        RPCError::Timeout(timeout) => StreamingError::Timeout(timeout),
        RPCError::Unreachable(unreachable) => StreamingError::Unreachable(unreachable),
        RPCError::Network(network) => StreamingError::Network(network),
    }
}

/// A damaged file is sent again at once; openraft waits after some attempts.
pub(super) fn of_snapshot(error: SendError) -> StreamingError<TypeConfig> {
    match error {
        SendError::Refused(status) => of_streaming(of_status(&status)),
        error => StreamingError::Unreachable(Unreachable::new(&error)),
    }
}
