//! Fuzz targets of the log's forms and of Raft's messages: each value has one encoding, and nothing else decodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_fuzz::target;
use kura_proto::v1;
use prost::Message;

use super::codec::*;
use super::marks::{Mark, read_body};
use super::open::decode_identity;
use super::types::{CommandBytes, Entry, EntryPayload, Member, MemberRole, Membership, StoredMembership, Vote, log_id};
use super::wire::*;

fn membership() -> Membership {
    let member = |name: &str, role| Member {
        name: name.into(),
        address: "10.0.0.1:7001".into(),
        role,
        key_sha256: [7; 32],
        next_key_sha256: Some(Box::new([8; 32])),
    };
    let members = [(1, member("voter-1", MemberRole::Voter)), (4, member("backup-1", MemberRole::Backup))];
    Membership::new(vec![BTreeSet::from([1])], BTreeMap::from(members)).expect("its voter is a member")
}

fn entries() -> [Entry; 3] {
    let command = EntryPayload::Normal(CommandBytes(Bytes::from_static(b"command")));
    [
        Entry { log_id: log_id(1, 4), payload: EntryPayload::Blank },
        Entry { log_id: log_id(1, 5), payload: command },
        Entry { log_id: log_id(2, 6), payload: EntryPayload::Membership(membership()) },
    ]
}

fn mark() -> Mark {
    Mark { vote: Some(Vote::new_committed(2, 1)), last: Some(log_id(2, 6)) }
}

target!(
    log_forms,
    {
        let [blank, command, members] = entries().map(|entry| encode_entry(&entry).to_vec());
        let stored = encode_stored_membership(&StoredMembership::new(Some(log_id(2, 6)), membership()));
        let mut slot = vec![FORMAT];
        slot.extend_from_slice(&9_u64.to_be_bytes());
        slot.extend_from_slice(&[7; 32]);
        slot.extend_from_slice(&mark().encode()[1..]);
        vec![
            blank,
            command,
            members,
            stored,
            encode_membership(&membership()),
            encode_vote(&Vote::new(3, 1)),
            encode_log_id(log_id(2, 6)),
            mark().encode(),
            slot,
        ]
    },
    |bytes| {
        let shared = Bytes::copy_from_slice(bytes);
        if let Ok(entry) = decode_entry(&shared) {
            assert_eq!(encode_entry(&entry), shared);
            assert_eq!(entry_log_id(bytes), Ok(entry.log_id));
            assert_eq!(entry_bytes(&entry), bytes.len());
        }
        if let Ok(id) = decode_log_id(bytes) {
            assert_eq!(encode_log_id(id), bytes);
        }
        if let Ok(vote) = decode_vote(bytes) {
            assert_eq!(encode_vote(&vote), bytes);
        }
        if let Ok(membership) = decode_membership(bytes) {
            assert_eq!(encode_membership(&membership), bytes);
        }
        if let Ok(stored) = decode_stored_membership(bytes) {
            assert_eq!(encode_stored_membership(&stored), bytes);
        }
        if let Ok(mark) = Mark::decode(bytes) {
            assert_eq!(mark.encode(), bytes);
        }
        let _ = read_body(0, bytes);
        let _ = decode_identity(bytes);
    }
);

/// What openraft relies on (see [`super::wire`]).
fn holds(append: &Append) {
    assert!(append.vote.committed);
    let term = append.vote.leader_id.term;
    let mut before = append.prev_log_id;
    for entry in &append.entries {
        let id = entry.log_id;
        assert!(id.leader_id.term <= term);
        match before {
            Some(before) => assert!(id.index == before.index + 1 && id.leader_id.term >= before.leader_id.term),
            None => assert_eq!(id.index, 0),
        }
        before = Some(id);
    }
}

target!(
    messages,
    {
        let envelope = || Envelope { from: 1, to: 2, cluster_id: Bytes::from_static(&[7; 16]) };
        let append = Append {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id(1, 3)),
            entries: entries().to_vec(),
            leader_commit: Some(log_id(1, 3)),
        };
        let mark = || Bytes::from(mark().encode());
        let vote = v1::VoteRequest {
            from: 1,
            vote: Some(put_vote(&Vote::new(3, 1))),
            last: Some(put_log_id(log_id(2, 6))),
            ..Default::default()
        };
        let transfer = v1::TransferRequest {
            from: 1,
            vote: Some(put_vote(&Vote::new_committed(3, 1))),
            successor: 2,
            ..Default::default()
        };
        vec![
            [vec![0], put_append(envelope(), &append, mark(), mark()).encode_to_vec()].concat(),
            [vec![1], put_appended(&Ok(Some(log_id(2, 6))), mark()).encode_to_vec()].concat(),
            [vec![2], vote.encode_to_vec()].concat(),
            [vec![3], transfer.encode_to_vec()].concat(),
        ]
    },
    |bytes| {
        let Some((kind, bytes)) = bytes.split_first() else { return };
        let shared = Bytes::copy_from_slice(bytes);
        match kind % 6 {
            0 => {
                let Ok(request) = v1::AppendRequest::decode(shared) else { return };
                if let Ok(append) = take_append(request) {
                    holds(&append);
                }
            }
            1 => drop(v1::AppendReply::decode(shared).map(take_appended)),
            2 => drop(v1::VoteRequest::decode(shared).map(take_vote_request)),
            3 => {
                let Ok(Ok(request)) = v1::TransferRequest::decode(shared).map(take_transfer) else { return };
                let reply = v1::TransferReply { vote_changed: true, ..Default::default() };
                assert!(take_transfer_response(&request, reply).is_err(), "no vote is told");
            }
            4 => drop(v1::VoteReply::decode(shared).map(take_vote_response)),
            _ => {
                let Ok(reply) = v1::ProposeReply::decode(shared) else { return };
                let _ = crate::gateway::propose::read_reply(reply);
            }
        }
    }
);
