//! Frozen bytes of the log's forms, malformed ones, and round trips.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_cluster::from_hexadecimal;
use kura_node::raft::codec::{
    CodecError, decode_entry, decode_log_id, decode_membership, decode_stored_membership, decode_vote, encode_entry,
    encode_log_id, encode_membership, encode_stored_membership, encode_vote, entry_bytes, entry_log_id,
};
use kura_node::raft::types::{
    CommandBytes, Entry, EntryPayload, Member, MemberRole, Membership, StoredMembership, Vote, log_id,
};
use proptest::prelude::*;

fn member(name: &str, role: MemberRole) -> Member {
    Member { name: name.into(), address: "h:1".into(), role, key_sha256: [0xab; 32], next_key_sha256: None }
}

fn membership() -> Membership {
    let members = BTreeMap::from([(1, member("a", MemberRole::Voter)), (300, member("b", MemberRole::Backup))]);
    Membership::new(vec![BTreeSet::from([1])], members).unwrap()
}

/// `membership()`, without a format version.
fn membership_bytes() -> Vec<u8> {
    let fingerprint = "ab".repeat(32);
    hex(&format!(
        "0a03 0a0101 \
         122e 0801 120161 1a03683a31 2001 2a20{fingerprint} \
         122f 08ac02 120162 1a03683a31 2002 2a20{fingerprint}"
    ))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).flat_map(|at| from_hexadecimal::<1>(&digits[at..at + 2]).unwrap()).collect()
}

fn frozen_entries() -> Vec<(Entry, Vec<u8>)> {
    let entry = |payload| Entry { log_id: log_id(5, 258), payload };
    let header = |kind: &str| hex(&format!("01 {kind} 0000000000000005 0000000000000102"));
    vec![
        (entry(EntryPayload::Blank), header("00")),
        (
            entry(EntryPayload::Normal(CommandBytes(Bytes::from_static(b"\x00\xff")))),
            [header("01"), vec![0, 0xff]].concat(),
        ),
        (entry(EntryPayload::Normal(CommandBytes::default())), header("01")),
        (entry(EntryPayload::Membership(membership())), [header("02"), membership_bytes()].concat()),
    ]
}

#[test]
fn entries_have_frozen_bytes() {
    for (entry, bytes) in frozen_entries() {
        assert_eq!(encode_entry(&entry), bytes, "{entry}");
        assert_eq!(entry_bytes(&entry), bytes.len());
        assert_eq!(entry_log_id(&bytes), Ok(entry.log_id));
        assert_eq!(decode_entry(&Bytes::from(bytes)), Ok(entry));
    }
}

#[test]
fn a_decoded_command_is_not_copied() {
    let bytes = encode_entry(&super::entry(1, 2, 100));
    let EntryPayload::Normal(command) = decode_entry(&bytes).unwrap().payload else { panic!() };
    assert_eq!(command.0.as_ptr(), bytes[18..].as_ptr());
}

#[test]
fn votes_and_log_ids_have_frozen_bytes() {
    let vote = Vote::new(7, 3);
    assert_eq!(encode_vote(&vote), hex("01 0000000000000007 0000000000000003 00"));
    assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
    let vote = Vote::new_committed(7, 3);
    assert_eq!(encode_vote(&vote), hex("01 0000000000000007 0000000000000003 01"));
    assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
    let id = log_id(7, 258);
    assert_eq!(encode_log_id(id), hex("01 0000000000000007 0000000000000102"));
    assert_eq!(decode_log_id(&encode_log_id(id)), Ok(id));
}

#[test]
fn memberships_have_frozen_bytes() {
    let bytes = [vec![1], membership_bytes()].concat();
    assert_eq!(encode_membership(&membership()), bytes);
    assert_eq!(decode_membership(&bytes), Ok(membership()));
    assert_eq!(encode_membership(&Membership::default()), [1]);
    assert_eq!(decode_membership(&[1]), Ok(Membership::default()));

    let stored = StoredMembership::new(Some(log_id(1, 2)), membership());
    let bytes = [hex("01 01 0000000000000001 0000000000000002"), membership_bytes()].concat();
    assert_eq!(encode_stored_membership(&stored), bytes);
    assert_eq!(decode_stored_membership(&bytes), Ok(stored));
    assert_eq!(encode_stored_membership(&StoredMembership::default()), [1, 0]);
    assert_eq!(decode_stored_membership(&[1, 0]), Ok(StoredMembership::default()));
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    for (entry, bytes) in frozen_entries() {
        let commands_end_anywhere = matches!(entry.payload, EntryPayload::Normal(_));
        for end in 0..bytes.len() {
            let cut = decode_entry(&Bytes::copy_from_slice(&bytes[..end]));
            if end < 18 {
                assert!(matches!(cut, Err(CodecError::Short { .. })), "{entry} cut at {end}: {cut:?}");
            } else if end > 18 && !commands_end_anywhere {
                assert!(cut != Ok(entry.clone()), "{entry} cut at {end}");
            }
        }
        if !commands_end_anywhere {
            assert!(decode_entry(&Bytes::from([&bytes[..], &[0]].concat())).is_err());
        }
    }
    let vote = encode_vote(&Vote::new(1, 2));
    let id = encode_log_id(log_id(1, 2));
    for end in 0..vote.len() {
        assert!(decode_vote(&vote[..end]).is_err());
    }
    for end in 0..id.len() {
        assert!(decode_log_id(&id[..end]).is_err());
    }
    assert_eq!(decode_vote(&[&vote[..], &[0]].concat()), Err(CodecError::Trailing { form: "vote" }));
    assert_eq!(decode_log_id(&[&id[..], &[0]].concat()), Err(CodecError::Trailing { form: "log id" }));
}

#[test]
fn unknown_versions_kinds_and_flags_are_refused() {
    let decode = |text: &str| decode_entry(&Bytes::from(hex(text)));
    let ids = "0000000000000005 0000000000000102";
    assert!(matches!(decode(&format!("02 00 {ids}")), Err(CodecError::Version { version: 2, .. })));
    assert!(matches!(decode(&format!("00 00 {ids}")), Err(CodecError::Version { version: 0, .. })));
    assert!(matches!(decode(&format!("01 03 {ids}")), Err(CodecError::Choice { value: 3, .. })));
    let vote = hex("01 0000000000000007 0000000000000003 02");
    assert!(matches!(decode_vote(&vote), Err(CodecError::Choice { value: 2, .. })));
    assert!(decode_stored_membership(&[1, 2]).is_err());
}

#[test]
fn memberships_that_nobody_writes_are_refused() {
    let refused = |text: &str| decode_membership(&hex(text)).unwrap_err().to_string();
    let fingerprint = "ab".repeat(32);
    assert!(refused("01 0a").contains("membership"), "cut");
    // An empty set of voters; a voter that is no member; voters that do not ascend.
    refused("01 0a00");
    refused("01 0a030a0101");
    assert!(refused("01 0a040a020201").contains("ascending"));
    // An unknown field; a number that is longer than needed; the members before the voters.
    assert!(refused("01 1801").contains("canonical"));
    assert!(refused("01 0a040a028100").contains("canonical"));
    let member = format!("122e 0801 120161 1a03683a31 2001 2a20{fingerprint}");
    assert!(refused(&format!("01 {member} 0a030a0101")).contains("canonical"));
    assert!(refused(&format!("01 {member} {member}")).contains("ascending"));
    // Roles that do not exist; a fingerprint of the wrong length.
    assert!(refused(&format!("01 122e 0801 120161 1a03683a31 2003 2a20{fingerprint}")).contains('3'));
    assert!(refused(&format!("01 122c 0801 120161 1a03683a31 2a20{fingerprint}")).contains('0'));
    assert!(refused("01 120f 0801 120161 1a03683a31 2001 2a01ab").contains("32 bytes"));
    let next = format!("1231 0801 120161 1a03683a31 2001 2a20{fingerprint} 3201ab");
    assert!(refused(&format!("01 {next}")).contains("32 bytes"));
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let member = (".{0,20}", ".{0,30}", any::<bool>(), any::<[u8; 32]>(), any::<Option<[u8; 32]>>()).prop_map(
        |(name, address, backup, key_sha256, next_key_sha256)| {
            let role = if backup { MemberRole::Backup } else { MemberRole::Voter };
            Member { name, address, role, key_sha256, next_key_sha256: next_key_sha256.map(Box::new) }
        },
    );
    let members = prop::collection::btree_map(any::<u64>(), member, 1..6);
    (members, any::<prop::sample::Selector>(), 1..3_usize).prop_map(|(members, pick, sets)| {
        let voters = BTreeSet::from([*pick.select(members.keys())]);
        Membership::new(vec![voters; sets], members).unwrap()
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|body| EntryPayload::Normal(CommandBytes(body.into()))),
        any_membership().prop_map(EntryPayload::Membership),
    ];
    (any::<u64>(), any::<u64>(), payload)
        .prop_map(|(term, index, payload)| Entry { log_id: log_id(term, index), payload })
}

proptest! {
    #[test]
    fn entries_come_back(entry in any_entry()) {
        let bytes = encode_entry(&entry);
        prop_assert_eq!(bytes.len(), entry_bytes(&entry));
        prop_assert_eq!(decode_entry(&bytes), Ok(entry));
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = bytes;
        for version in [None, Some(1)] {
            if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            if let Ok(entry) = decode_entry(&Bytes::copy_from_slice(&bytes)) {
                prop_assert_eq!(encode_entry(&entry), bytes.clone());
            }
            if let Ok(vote) = decode_vote(&bytes) {
                prop_assert_eq!(encode_vote(&vote), bytes.clone());
            }
            if let Ok(membership) = decode_membership(&bytes) {
                prop_assert_eq!(encode_membership(&membership), bytes.clone());
            }
        }
    }
}
