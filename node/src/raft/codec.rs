//! Bytes of the Raft log: on disk, and on the wire between peers.
//!
//! Layouts, integers big-endian, the first byte always the format version (now [`FORMAT`]):
//!
//! | Form       | Bytes |
//! |------------|-------|
//! | log id     | version, term u64, index u64 |
//! | vote       | version, term u64, node id u64, committed u8 (0 or 1) |
//! | entry      | version, kind u8 (0 blank, 1 command, 2 membership), term u64, index u64, payload |
//! | membership | version, prost message [`MembershipMessage`] |
//! | stored membership | version, 0 or 1 and a term and an index, prost message |
//!
//! An entry's payload is nothing, the command's bytes, or the prost message of a membership.
//!
//! Invariants
//! - Each value has one encoding, and nothing else decodes to it: voters and members are ascending,
//!   nothing trails, unused fields do not exist.
//! - Decoding never panics, and a decoded command is a slice of the input, not a copy.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::entry::RaftEntry;
use prost::Message;

use super::types::{
    CommandBytes, Entry, EntryPayload, LogId, Member, MemberRole, Membership, NodeId, StoredMembership, Vote, log_id,
};

/// The format version that this program writes, and the only one it reads.
pub const FORMAT: u8 = 1;
/// Bytes of an encoded entry before its payload.
pub const ENTRY_HEADER_BYTES: usize = 18;
/// Bytes of an encoded log id.
pub const LOG_ID_BYTES: usize = 17;
/// Bytes of an encoded vote.
pub const VOTE_BYTES: usize = 18;

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Too few bytes.
    #[error("{form} is cut short: {length} bytes")]
    Short {
        /// What was being read.
        form: &'static str,
        /// Bytes given.
        length: usize,
    },
    /// More bytes than the form has.
    #[error("{form} has bytes after its end")]
    Trailing {
        /// What was being read.
        form: &'static str,
    },
    /// Written by another version of this program.
    #[error("{form} has format version {version}, this program reads version {FORMAT}")]
    Version {
        /// What was being read.
        form: &'static str,
        /// The version found.
        version: u8,
    },
    /// A byte that chooses between alternatives has a value without a meaning.
    #[error("{form} has the unknown value {value} where it says what it is")]
    Choice {
        /// What was being read.
        form: &'static str,
        /// The value found.
        value: u32,
    },
    /// A membership that no member would have written.
    #[error("membership: {0}")]
    Membership(String),
}

/// One set of voters. More than one of them: a change of membership is under way.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VotersMessage {
    /// Raft ids, ascending.
    #[prost(uint64, repeated, tag = "1")]
    pub node_ids: Vec<u64>,
}

/// One member, voting or not.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberMessage {
    /// Raft id.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// The node's name, as in its certificate.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Host and port of its peer service.
    #[prost(string, tag = "3")]
    pub address: String,
    /// 1 voter, 2 backup.
    #[prost(uint32, tag = "4")]
    pub role: u32,
    /// 32 bytes: SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    #[prost(bytes = "vec", tag = "5")]
    pub key_sha256: Vec<u8>,
    /// 32 bytes: SHA-256 of the public key to which it changes; empty if to none.
    #[prost(bytes = "vec", tag = "6")]
    pub next_key_sha256: Vec<u8>,
}

/// A membership as it is written.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MembershipMessage {
    /// The voters: one set, or two during a change.
    #[prost(message, repeated, tag = "1")]
    pub voters: Vec<VotersMessage>,
    /// All members, ascending by Raft id.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberMessage>,
}

/// Encodes one entry; the command is copied once.
pub fn encode_entry(entry: &Entry) -> Bytes {
    let mut out = BytesMut::with_capacity(entry_bytes(entry));
    put_entry(entry, &mut out);
    out.freeze()
}

/// Appends one encoded entry to `out`; the command is copied once.
pub fn put_entry(entry: &Entry, out: &mut impl BufMut) {
    out.put_u8(FORMAT);
    match &entry.payload {
        EntryPayload::Blank => {
            out.put_u8(KIND_BLANK);
            put_log_id_fields(entry.log_id, out);
        }
        EntryPayload::Normal(command) => {
            out.put_u8(KIND_COMMAND);
            put_log_id_fields(entry.log_id, out);
            out.put_slice(&command.0);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(KIND_MEMBERSHIP);
            put_log_id_fields(entry.log_id, out);
            out.put_slice(&membership_message(membership).encode_to_vec());
        }
    }
}

/// Bytes that [`put_entry`] will write.
pub fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Membership(membership) => membership_message(membership).encoded_len(),
        }
}

/// Decodes one entry. A command shares the memory of `bytes`.
///
/// # Errors
/// Anything but exactly one entry of this format version.
pub fn decode_entry(bytes: &Bytes) -> Result<Entry, CodecError> {
    let id = entry_log_id(bytes)?;
    let payload = match bytes[1] {
        KIND_BLANK if bytes.len() > ENTRY_HEADER_BYTES => {
            return Err(CodecError::Trailing { form: "blank entry" });
        }
        KIND_BLANK => EntryPayload::Blank,
        KIND_COMMAND => EntryPayload::Normal(CommandBytes(bytes.slice(ENTRY_HEADER_BYTES..))),
        KIND_MEMBERSHIP => EntryPayload::Membership(read_membership(&bytes[ENTRY_HEADER_BYTES..])?),
        kind => return Err(CodecError::Choice { form: "entry", value: u32::from(kind) }),
    };
    Ok(Entry::new(id, payload))
}

/// The log id of an encoded entry, read from its first [`ENTRY_HEADER_BYTES`] bytes.
///
/// # Errors
/// Too short, or another format version.
pub fn entry_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    let fields = body("entry", bytes)?;
    let short = CodecError::Short { form: "entry", length: bytes.len() };
    let (_kind, fields) = fields.split_first().ok_or(short)?;
    Ok(take_log_id("entry", fields)?.0)
}

/// Encodes a log id.
pub fn encode_log_id(id: LogId) -> Vec<u8> {
    let mut out = Vec::with_capacity(LOG_ID_BYTES);
    out.put_u8(FORMAT);
    put_log_id_fields(id, &mut out);
    out
}

/// Decodes a log id.
///
/// # Errors
/// Anything but exactly one log id of this format version.
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    let (id, rest) = take_log_id("log id", body("log id", bytes)?)?;
    ended("log id", rest)?;
    Ok(id)
}

/// Encodes a vote.
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Vec::with_capacity(VOTE_BYTES);
    out.put_u8(FORMAT);
    put_vote_fields(vote, &mut out);
    out
}

/// Decodes a vote.
///
/// # Errors
/// Anything but exactly one vote of this format version.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    let (vote, rest) = take_vote("vote", body("vote", bytes)?)?;
    ended("vote", rest)?;
    Ok(vote)
}

/// Encodes a membership.
pub fn encode_membership(membership: &Membership) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend(membership_message(membership).encode_to_vec());
    out
}

/// Decodes a membership.
///
/// # Errors
/// Anything but the one encoding of a valid membership.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    read_membership(body("membership", bytes)?)
}

/// Encodes a membership with the entry that it came from.
pub fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_optional_log_id_fields(*stored.log_id(), &mut out);
    out.extend(membership_message(stored.membership()).encode_to_vec());
    out
}

/// Decodes a membership with the entry that it came from.
///
/// # Errors
/// Anything but the one encoding of a valid membership.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    let form = "stored membership";
    let (id, rest) = take_optional_log_id(form, body(form, bytes)?)?;
    Ok(StoredMembership::new(id, read_membership(rest)?))
}

/// Checks the format version and returns what follows it.
pub(super) fn body<'a>(form: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short { form, length: 0 }),
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&version, _)) => Err(CodecError::Version { form, version }),
    }
}

/// Checks that nothing follows.
pub(super) fn ended(form: &'static str, rest: &[u8]) -> Result<(), CodecError> {
    if rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing { form }) }
}

fn put_log_id_fields(id: LogId, out: &mut impl BufMut) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.index);
}

fn put_vote_fields(vote: &Vote, out: &mut impl BufMut) {
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
}

pub(super) fn put_optional_log_id_fields(id: Option<LogId>, out: &mut impl BufMut) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id_fields(id, out);
    }
}

pub(super) fn put_optional_vote_fields(vote: Option<&Vote>, out: &mut impl BufMut) {
    out.put_u8(u8::from(vote.is_some()));
    if let Some(vote) = vote {
        put_vote_fields(vote, out);
    }
}

fn take<'a, const N: usize>(form: &'static str, bytes: &'a [u8]) -> Result<([u8; N], &'a [u8]), CodecError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(CodecError::Short { form, length: bytes.len() })?;
    Ok((*taken, rest))
}

pub(super) fn take_u64<'a>(form: &'static str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), CodecError> {
    let (taken, rest) = take::<8>(form, bytes)?;
    Ok((u64::from_be_bytes(taken), rest))
}

fn take_bool<'a>(form: &'static str, bytes: &'a [u8]) -> Result<(bool, &'a [u8]), CodecError> {
    let ([value], rest) = take::<1>(form, bytes)?;
    match value {
        0 => Ok((false, rest)),
        1 => Ok((true, rest)),
        value => Err(CodecError::Choice { form, value: u32::from(value) }),
    }
}

fn take_log_id<'a>(form: &'static str, bytes: &'a [u8]) -> Result<(LogId, &'a [u8]), CodecError> {
    let (term, rest) = take_u64(form, bytes)?;
    let (index, rest) = take_u64(form, rest)?;
    Ok((log_id(term, index), rest))
}

fn take_vote<'a>(form: &'static str, bytes: &'a [u8]) -> Result<(Vote, &'a [u8]), CodecError> {
    let (term, rest) = take_u64(form, bytes)?;
    let (node_id, rest) = take_u64(form, rest)?;
    let (committed, rest) = take_bool(form, rest)?;
    let vote = if committed { Vote::new_committed(term, node_id) } else { Vote::new(term, node_id) };
    Ok((vote, rest))
}

pub(super) fn take_optional_log_id<'a>(
    form: &'static str,
    bytes: &'a [u8],
) -> Result<(Option<LogId>, &'a [u8]), CodecError> {
    let (present, rest) = take_bool(form, bytes)?;
    if !present {
        return Ok((None, rest));
    }
    let (id, rest) = take_log_id(form, rest)?;
    Ok((Some(id), rest))
}

pub(super) fn take_optional_vote<'a>(
    form: &'static str,
    bytes: &'a [u8],
) -> Result<(Option<Vote>, &'a [u8]), CodecError> {
    let (present, rest) = take_bool(form, bytes)?;
    if !present {
        return Ok((None, rest));
    }
    let (vote, rest) = take_vote(form, rest)?;
    Ok((Some(vote), rest))
}

fn membership_message(membership: &Membership) -> MembershipMessage {
    MembershipMessage {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|voters| VotersMessage { node_ids: voters.iter().copied().collect() })
            .collect(),
        members: membership
            .nodes()
            .map(|(&node_id, member)| MemberMessage {
                node_id,
                name: member.name.clone(),
                address: member.address.clone(),
                role: match member.role {
                    MemberRole::Voter => 1,
                    MemberRole::Backup => 2,
                },
                key_sha256: member.key_sha256.to_vec(),
                next_key_sha256: member.next_key_sha256.as_deref().map(Vec::from).unwrap_or_default(),
            })
            .collect(),
    }
}

fn read_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    let refused = CodecError::Membership;
    let message = MembershipMessage::decode(bytes).map_err(|error| refused(error.to_string()))?;
    // Unknown fields, fields out of order and long integers decode, but are nobody's encoding.
    if message.encode_to_vec() != bytes {
        return Err(refused("not in its canonical encoding".into()));
    }
    let voters: Vec<BTreeSet<NodeId>> = message
        .voters
        .iter()
        .map(|voters| {
            if !voters.node_ids.is_sorted_by(|a, b| a < b) {
                return Err(refused("voters are not ascending".into()));
            }
            Ok(voters.node_ids.iter().copied().collect())
        })
        .collect::<Result<_, _>>()?;
    if !message.members.is_sorted_by(|a, b| a.node_id < b.node_id) {
        return Err(refused("members are not ascending".into()));
    }
    let members: BTreeMap<NodeId, Member> = message
        .members
        .into_iter()
        .map(|member| {
            let role = match member.role {
                1 => MemberRole::Voter,
                2 => MemberRole::Backup,
                value => return Err(CodecError::Choice { form: "member's role", value }),
            };
            let fingerprint = |bytes: &[u8]| {
                <[u8; 32]>::try_from(bytes).map_err(|_| refused("a key's fingerprint is not 32 bytes".into()))
            };
            let key_sha256 = fingerprint(&member.key_sha256)?;
            let next_key_sha256 = match &member.next_key_sha256[..] {
                [] => None,
                bytes => Some(Box::new(fingerprint(bytes)?)),
            };
            let MemberMessage { node_id, name, address, .. } = member;
            Ok((node_id, Member { name, address, role, key_sha256, next_key_sha256 }))
        })
        .collect::<Result<_, _>>()?;
    Membership::new(voters, members).map_err(|error| refused(error.to_string()))
}
