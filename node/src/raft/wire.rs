//! Raft's messages between peers: plain conversions between protobuf and openraft's types.
//!
//! Invariants
//! - openraft trusts its input and panics on some of what no honest peer sends. What comes out of
//!   here cannot trip it: a leader speaks under its own committed vote, a candidate under its own
//!   vote that nobody committed, entries follow each other without a gap and in the order of their
//!   terms, none is newer than its leader.
//! - Conversion never panics, and commands are not copied on their way in.

use kura_proto::v1;
use openraft::raft::{StreamAppendError, TransferLeaderError};

use super::codec::{self, CodecError};
use super::types::{LogId, NodeId, TypeConfig, Vote, log_id};

/// openraft's append, of this cluster's types.
pub type Append = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// What one append of a stream came to: accepted up to, or refused.
pub type Appended = openraft::raft::StreamAppendResult<TypeConfig>;
/// openraft's request for a vote.
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
/// openraft's answer to it.
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
/// openraft's request to stand for election.
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
/// openraft's answer to it.
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;

const ACCEPTED: u32 = 1;
const CONFLICT: u32 = 2;
const HIGHER_VOTE: u32 = 3;

/// Why a peer's message makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that every peer fills is absent.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// The vote is another node's, or is committed where it must not be or the reverse.
    #[error("the vote {0} is not one that the sender can use here")]
    Vote(Vote),
    /// An entry cannot be read.
    #[error(transparent)]
    Entry(#[from] CodecError),
    /// Log ids do not follow each other, or one is newer than the leader.
    #[error("the entry {found} cannot follow {previous} under the term {term}")]
    Order {
        /// The entry.
        found: LogId,
        /// What it should follow; 0.0 stands for the log's beginning.
        previous: LogId,
        /// The leader's term.
        term: u64,
    },
    /// A number that says what the message is has no meaning.
    #[error("{field} is {value}, which has no meaning")]
    Choice {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// Who speaks to whom, in which cluster; part of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's Raft id, as it says.
    pub from: NodeId,
    /// The receiver's Raft id, as the sender believes.
    pub to: NodeId,
    /// The sender's cluster, 16 bytes.
    pub cluster_id: bytes::Bytes,
}

/// A vote to the wire.
pub fn put_vote(vote: &Vote) -> v1::Vote {
    v1::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}

/// A vote from the wire.
///
/// # Errors
/// [`WireError::Missing`].
pub fn take_vote(vote: Option<v1::Vote>) -> Result<Vote, WireError> {
    let v1::Vote { term, node_id, committed } = vote.ok_or(WireError::Missing("vote"))?;
    Ok(if committed { Vote::new_committed(term, node_id) } else { Vote::new(term, node_id) })
}

/// The committed vote under which `from` leads.
///
/// # Errors
/// [`WireError::Missing`], or [`WireError::Vote`] if it is anything else.
pub fn take_leader_vote(from: NodeId, vote: Option<v1::Vote>) -> Result<Vote, WireError> {
    let vote = take_vote(vote)?;
    let leads = vote.committed && vote.leader_id.voted_for == from;
    if leads { Ok(vote) } else { Err(WireError::Vote(vote)) }
}

/// A log id to the wire.
pub fn put_log_id(id: LogId) -> v1::LogId {
    v1::LogId { term: id.leader_id.term, index: id.index }
}

/// A log id from the wire.
pub fn take_log_id(id: v1::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// An append to the wire. Commands are copied once.
pub fn put_append(
    envelope: Envelope,
    append: &Append,
    kept_mark: bytes::Bytes,
    own_mark: bytes::Bytes,
) -> v1::AppendRequest {
    v1::AppendRequest {
        from: envelope.from,
        to: envelope.to,
        cluster_id: envelope.cluster_id,
        vote: Some(put_vote(&append.vote)),
        previous: append.prev_log_id.map(put_log_id),
        entries: append.entries.iter().map(codec::encode_entry).collect(),
        commit: append.leader_commit.map(put_log_id),
        kept_mark,
        own_mark,
    }
}

/// An append from the wire.
///
/// # Errors
/// Any [`WireError`]; see the module's invariants.
pub fn take_append(request: v1::AppendRequest) -> Result<Append, WireError> {
    let vote = take_leader_vote(request.from, request.vote)?;
    let term = vote.leader_id.term;
    let not_newer = |id: LogId| {
        let previous = log_id(0, 0);
        if id.leader_id.term <= term { Ok(id) } else { Err(WireError::Order { found: id, previous, term }) }
    };
    let prev_log_id = request.previous.map(take_log_id).map(not_newer).transpose()?;
    let leader_commit = request.commit.map(take_log_id).map(not_newer).transpose()?;
    let mut previous = prev_log_id;
    let mut entries = Vec::with_capacity(request.entries.len());
    for bytes in &request.entries {
        let entry = codec::decode_entry(bytes)?;
        let found = not_newer(entry.log_id)?;
        let follows = match previous {
            Some(before) => {
                Some(found.index) == before.index.checked_add(1) && found.leader_id.term >= before.leader_id.term
            }
            None => found.index == 0,
        };
        if !follows {
            let previous = previous.unwrap_or(log_id(0, 0));
            return Err(WireError::Order { found, previous, term });
        }
        previous = Some(found);
        entries.push(entry);
    }
    Ok(Append { vote, prev_log_id, entries, leader_commit })
}

/// An append's result to the wire.
pub fn put_appended(appended: &Appended, own_mark: bytes::Bytes) -> v1::AppendReply {
    let mut reply = v1::AppendReply { own_mark, ..Default::default() };
    match appended {
        Ok(up_to) => {
            reply.kind = ACCEPTED;
            reply.log_id = up_to.map(put_log_id);
        }
        Err(StreamAppendError::Conflict(at)) => {
            reply.kind = CONFLICT;
            reply.log_id = Some(put_log_id(*at));
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            reply.kind = HIGHER_VOTE;
            reply.vote = Some(put_vote(vote));
        }
    }
    reply
}

/// An append's result from the wire.
///
/// # Errors
/// [`WireError::Missing`] or [`WireError::Choice`].
pub fn take_appended(reply: v1::AppendReply) -> Result<Appended, WireError> {
    match reply.kind {
        ACCEPTED => Ok(Ok(reply.log_id.map(take_log_id))),
        CONFLICT => {
            let at = reply.log_id.ok_or(WireError::Missing("log id"))?;
            Ok(Err(StreamAppendError::Conflict(take_log_id(at))))
        }
        HIGHER_VOTE => Ok(Err(StreamAppendError::HigherVote(take_vote(reply.vote)?))),
        value => Err(WireError::Choice { field: "an append's result", value }),
    }
}

/// A request for a vote, or whether one would be given, to the wire.
pub fn put_vote_request(envelope: Envelope, request: &VoteRequest) -> v1::VoteRequest {
    v1::VoteRequest {
        from: envelope.from,
        to: envelope.to,
        cluster_id: envelope.cluster_id,
        vote: Some(put_vote(&request.vote)),
        last: request.last_log_id.map(put_log_id),
        leader_transfer: request.leadership_transfer,
    }
}

/// A request for a vote from the wire.
///
/// # Errors
/// [`WireError::Missing`], or [`WireError::Vote`] if the sender asks for another or already leads.
pub fn take_vote_request(request: v1::VoteRequest) -> Result<VoteRequest, WireError> {
    let vote = take_vote(request.vote)?;
    if vote.committed || vote.leader_id.voted_for != request.from {
        return Err(WireError::Vote(vote));
    }
    let mut converted = VoteRequest::new(vote, request.last.map(take_log_id));
    converted.leadership_transfer = request.leader_transfer;
    Ok(converted)
}

/// An answer to a candidate to the wire.
pub fn put_vote_response(response: &VoteResponse) -> v1::VoteReply {
    v1::VoteReply {
        vote: Some(put_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(put_log_id),
    }
}

/// An answer to a candidate from the wire.
///
/// # Errors
/// [`WireError::Missing`].
pub fn take_vote_response(reply: v1::VoteReply) -> Result<VoteResponse, WireError> {
    Ok(VoteResponse::new(take_vote(reply.vote)?, reply.last.map(take_log_id), reply.granted))
}

/// A handover to the wire.
pub fn put_transfer(envelope: Envelope, request: &TransferRequest) -> v1::TransferRequest {
    v1::TransferRequest {
        from: envelope.from,
        to: envelope.to,
        cluster_id: envelope.cluster_id,
        vote: Some(put_vote(request.from_leader())),
        successor: *request.to_node_id(),
        last: request.last_log_id().copied().map(put_log_id),
    }
}

/// A handover from the wire.
///
/// # Errors
/// [`WireError::Missing`], or [`WireError::Vote`] if the sender does not lead.
pub fn take_transfer(request: v1::TransferRequest) -> Result<TransferRequest, WireError> {
    let vote = take_leader_vote(request.from, request.vote)?;
    Ok(TransferRequest::new(vote, request.successor, request.last.map(take_log_id)))
}

/// An answer to a handover to the wire.
pub fn put_transfer_response(response: &TransferResponse) -> v1::TransferReply {
    match response {
        Ok(()) => v1::TransferReply { accepted: true, ..Default::default() },
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            v1::TransferReply { vote_changed: true, vote: Some(put_vote(actual)), ..Default::default() }
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            v1::TransferReply { last: actual.map(put_log_id), ..Default::default() }
        }
    }
}

/// An answer to a handover from the wire; `request` is what it answers.
///
/// # Errors
/// [`WireError::Missing`].
pub fn take_transfer_response(
    request: &TransferRequest,
    reply: v1::TransferReply,
) -> Result<TransferResponse, WireError> {
    Ok(if reply.accepted {
        Ok(())
    } else if reply.vote_changed {
        let actual = take_vote(reply.vote)?;
        Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual })
    } else {
        let expected = request.last_log_id().copied();
        Err(TransferLeaderError::LogNotFlushed { expected, actual: reply.last.map(take_log_id) })
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::types::{CommandBytes, Entry, EntryPayload};

    fn envelope() -> Envelope {
        Envelope { from: 1, to: 2, cluster_id: Bytes::from_static(&[7; 16]) }
    }

    fn entry(term: u64, index: u64) -> Entry {
        let payload = EntryPayload::Normal(CommandBytes(Bytes::from_static(b"command")));
        Entry { log_id: log_id(term, index), payload }
    }

    fn append(previous: Option<LogId>, entries: Vec<Entry>) -> v1::AppendRequest {
        let append = Append {
            vote: Vote::new_committed(3, 1),
            prev_log_id: previous,
            entries,
            leader_commit: Some(log_id(2, 4)),
        };
        put_append(envelope(), &append, Bytes::from_static(b"kept"), Bytes::from_static(b"own"))
    }

    #[test]
    fn an_append_comes_back_as_it_was() {
        let sent = append(Some(log_id(2, 4)), vec![entry(2, 5), entry(3, 6)]);
        assert_eq!((sent.from, sent.to, &sent.kept_mark[..], &sent.own_mark[..]), (1, 2, &b"kept"[..], &b"own"[..]));
        let taken = take_append(sent).unwrap();
        assert_eq!(taken.vote, Vote::new_committed(3, 1));
        assert_eq!(taken.prev_log_id, Some(log_id(2, 4)));
        assert_eq!(taken.leader_commit, Some(log_id(2, 4)));
        assert_eq!(taken.entries, vec![entry(2, 5), entry(3, 6)]);
        assert!(take_append(append(None, vec![entry(1, 0), entry(1, 1)])).is_ok());
        assert!(take_append(append(None, Vec::new())).is_ok());
    }

    #[test]
    fn appends_that_no_leader_sends_are_refused() {
        let order = |request| assert!(matches!(take_append(request), Err(WireError::Order { .. })));
        order(append(Some(log_id(2, 4)), vec![entry(2, 6)]));
        order(append(Some(log_id(2, 4)), vec![entry(1, 5)]));
        order(append(Some(log_id(2, 4)), vec![entry(2, 5), entry(2, 5)]));
        order(append(Some(log_id(2, 4)), vec![entry(4, 5)]));
        order(append(Some(log_id(4, 4)), Vec::new()));
        order(append(None, vec![entry(1, 1)]));
        order(append(Some(log_id(2, u64::MAX)), vec![entry(2, 0)]));

        let good = || append(Some(log_id(2, 4)), vec![entry(2, 5)]);
        assert!(take_append(good()).is_ok());
        let vote = |vote| take_append(v1::AppendRequest { vote, ..good() });
        assert_eq!(vote(None).unwrap_err(), WireError::Missing("vote"));
        for other in [Vote::new(3, 1), Vote::new_committed(3, 2)] {
            assert_eq!(vote(Some(put_vote(&other))).unwrap_err(), WireError::Vote(other));
        }
        let cut = good().entries[0].slice(..10);
        let refused = take_append(v1::AppendRequest { entries: vec![cut], ..good() });
        assert!(matches!(refused, Err(WireError::Entry(_))));
    }

    #[test]
    fn results_come_back_as_they_were() {
        let results: [Appended; 4] = [
            Ok(None),
            Ok(Some(log_id(3, 9))),
            Err(StreamAppendError::Conflict(log_id(2, 4))),
            Err(StreamAppendError::HigherVote(Vote::new(5, 3))),
        ];
        for result in results {
            let reply = put_appended(&result, Bytes::from_static(b"mark"));
            assert_eq!(&reply.own_mark[..], b"mark");
            assert_eq!(take_appended(reply), Ok(result));
        }
        assert_eq!(take_appended(v1::AppendReply { kind: 2, ..Default::default() }), Err(WireError::Missing("log id")));
        assert_eq!(take_appended(v1::AppendReply { kind: 3, ..Default::default() }), Err(WireError::Missing("vote")));
        assert!(matches!(take_appended(v1::AppendReply::default()), Err(WireError::Choice { value: 0, .. })));
    }

    #[test]
    fn votes_come_back_as_they_were() {
        let mut request = VoteRequest::new(Vote::new(4, 1), Some(log_id(3, 9)));
        request.leadership_transfer = true;
        let sent = put_vote_request(envelope(), &request);
        assert_eq!(take_vote_request(sent.clone()), Ok(request));
        for other in [Vote::new(4, 2), Vote::new_committed(4, 1)] {
            let refused = take_vote_request(v1::VoteRequest { vote: Some(put_vote(&other)), ..sent.clone() });
            assert_eq!(refused, Err(WireError::Vote(other)));
        }
        let response = VoteResponse::new(Vote::new(4, 1), None, true);
        assert_eq!(take_vote_response(put_vote_response(&response)), Ok(response));
        assert_eq!(take_vote_response(v1::VoteReply::default()), Err(WireError::Missing("vote")));
    }

    #[test]
    fn handovers_come_back_as_they_were() {
        let request = TransferRequest::new(Vote::new_committed(4, 1), 3, Some(log_id(4, 9)));
        let sent = put_transfer(envelope(), &request);
        assert_eq!(take_transfer(sent.clone()), Ok(request.clone()));
        let other = v1::TransferRequest { from: 3, ..sent };
        assert!(matches!(take_transfer(other), Err(WireError::Vote(_))));
        let responses: [TransferResponse; 3] = [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual: Vote::new(5, 2) }),
            Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(4, 9)), actual: None }),
        ];
        for response in responses {
            assert_eq!(take_transfer_response(&request, put_transfer_response(&response)), Ok(response));
        }
    }
}
