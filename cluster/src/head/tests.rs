//! Frozen statements and signatures, malformed ones, and what compares with what.

use p256::pkcs8::EncodePublicKey as _;
use proptest::prelude::*;

use super::*;
use crate::command::{Expect, JournalAppend};
use crate::hexadecimal;
use crate::row::{RowKey, StoredRow};
use crate::{Pseudonym, Revision};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn summary() -> Summary {
    let mut summary = Summary { timeline: 2, ..Summary::default() };
    summary.journal.append(crate::tree::leaf_hash(b"entry"), |_| {});
    let row = StoredRow::new(Revision { timeline: 2, index: 9 }, Revision::ABSENT, Bytes::from_static(b"value"));
    let key = RowKey::participant(&Pseudonym([1; 16]));
    let table = &mut summary.tables[Table::Participant.place()];
    table.rows = 1;
    table.digest = Digest::of_row(key.as_bytes(), &row.header);
    summary
}

fn head() -> Head {
    Head::of(CLUSTER, 2048, &summary())
}

fn ecdsa(n: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[n; 32]).unwrap()
}

/// Signed deterministically (RFC 6979).
fn signed_with_ecdsa(head: Head, n: u8) -> SignedHead {
    use p256::ecdsa::signature::Signer as _;
    let signature: p256::ecdsa::DerSignature = ecdsa(n).sign(&head.statement());
    let public_key = ecdsa(n).verifying_key().to_public_key_der().unwrap();
    SignedHead {
        head,
        public_key: Bytes::copy_from_slice(public_key.as_bytes()),
        signature: Bytes::copy_from_slice(signature.as_bytes()),
    }
}

fn signed_with_ed25519(head: Head, n: u8) -> SignedHead {
    use ed25519_dalek::Signer as _;
    let key = ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
    let public_key = ed25519_dalek::pkcs8::EncodePublicKey::to_public_key_der(&key.verifying_key()).unwrap();
    let signature = Bytes::copy_from_slice(&key.sign(&head.statement()).to_bytes());
    SignedHead { head, public_key: Bytes::copy_from_slice(public_key.as_bytes()), signature }
}

#[test]
fn the_statement_is_frozen() {
    let expected = [
        "6b7572612d686561642d31",
        &"07".repeat(16),
        "0000000000000002",
        "0000000000000800",
        "0000000000000001",
        // SHA-256 of a zero byte and `entry`.
        "d9c2d66b522c2522728f539ff9f67b85d40defff095fc8a528c994f4f35bb3de",
        "478de1a20940de7207ccb52971cf3ffd71e043d4fd49d913143e3863b39e93ab",
        "01",
        "08",
        "0000000000000001",
        "fcc4833c97100b91ab8f8e0df65d73ac15367da4d07d5b0ee0720501c05a5079",
    ];
    assert_eq!(hexadecimal(head().statement()), expected.concat());
    assert_eq!(Head::parse(&head().statement()), Ok(head()));
}

#[test]
fn signed_heads_are_frozen() {
    for (signed, expected) in [
        (signed_with_ecdsa(head(), 3), "e316be1ba1aae76677f6cd7a92ae43347bab8be01919cf8f753a91cd98c4c4ed"),
        (signed_with_ed25519(head(), 3), "49e3db1399f9dec1b89de251d6b0147e1e1733a8dc46d33c5387474973d32988"),
    ] {
        let digest: [u8; 32] = Sha256::digest(signed.encode()).into();
        assert_eq!(hexadecimal(digest), expected, "{}", hexadecimal(signed.encode()));
        assert_eq!(SignedHead::decode(&signed.encode()), Ok(signed.clone()));
        assert_eq!(signed.verify(&signed.key_sha256()), Ok(()));
    }
}

#[test]
fn whatever_is_changed_the_signature_does_not_fit() {
    for signed in [signed_with_ecdsa(head(), 3), signed_with_ed25519(head(), 3)] {
        let key = signed.key_sha256();
        let changes: [fn(&mut Head); 8] = [
            |h| h.cluster_id.0[0] ^= 1,
            |h| h.timeline += 1,
            |h| h.index += 1,
            |h| h.journal_size += 1,
            |h| h.journal_root[31] ^= 1,
            |h| h.state_digest[0] ^= 1,
            |h| h.tables[0].rows += 1,
            |h| h.tables.clear(),
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed.head);
            assert_eq!(changed.verify(&key), Err(HeadError::Signature));
        }
        let cut = SignedHead { signature: signed.signature.slice(1..), ..signed.clone() };
        assert_eq!(cut.verify(&key), Err(HeadError::Signature));
        let none = SignedHead { signature: Bytes::new(), ..signed.clone() };
        assert_eq!(none.verify(&key), Err(HeadError::Signature));
        assert_eq!(signed.verify(&[0; 32]), Err(HeadError::OtherKey));
    }
    // Another member's key, with its own good signature, is not this member's.
    let (one, two) = (signed_with_ecdsa(head(), 3), signed_with_ecdsa(head(), 4));
    assert_eq!(two.verify(&one.key_sha256()), Err(HeadError::OtherKey));
    let unknown = SignedHead { public_key: Bytes::from_static(b"rsa, perhaps"), ..one };
    assert_eq!(unknown.verify(&unknown.key_sha256()), Err(HeadError::Kind));
}

#[test]
fn malformed_heads_are_refused() {
    let statement = head().statement();
    for end in 0..statement.len() {
        assert_eq!(Head::parse(&statement[..end]), Err(HeadError::Form), "{end}");
    }
    assert_eq!(Head::parse(&[&statement[..], &[0]].concat()), Err(HeadError::Form));
    let mut twice = head();
    twice.tables.push(twice.tables[0]);
    assert_eq!(Head::parse(&twice.statement()), Err(HeadError::Form));
    let message = |format, statement: Vec<u8>| {
        Signed { format, statement: statement.into(), public_key: Bytes::new(), signature: Bytes::new() }
            .encode_to_vec()
    };
    assert!(SignedHead::decode(&message(1, statement.clone())).is_ok());
    assert_eq!(SignedHead::decode(&message(2, statement.clone())), Err(HeadError::Form));
    assert_eq!(SignedHead::decode(&message(1, statement[1..].to_vec())), Err(HeadError::Form));
    assert_eq!(SignedHead::decode(&vec![0; SIGNED_HEAD_BYTES_MAX + 1]), Err(HeadError::Form));
}

#[test]
fn only_heads_of_one_moment_compare() {
    let own = head();
    assert_eq!(own.compare(&head()), Comparison::Equal);
    for other in [
        Head { index: own.index + 1, ..head() },
        Head { timeline: own.timeline + 1, ..head() },
        Head { cluster_id: ClusterId([8; 16]), ..head() },
    ] {
        assert_eq!(own.compare(&other), Comparison::Incomparable);
    }
    let mut other = head();
    other.tables[0].digest.add(Digest::from_bytes([1; 32]));
    other.tables.push(TableHead { number: Table::Block.number(), rows: 1, digest: Digest::default() });
    assert_eq!(own.compare(&other), Comparison::Different(vec!["participant", "block"]));
    assert_eq!(own.compare(&Head { journal_root: [0; 32], ..head() }), Comparison::Different(vec![]));
}

#[test]
fn empty_tables_are_left_out() {
    // So that a version with more tables says the same of a state that does not use them.
    assert_eq!(Head::of(CLUSTER, 1, &Summary::default()).tables, vec![]);
    assert_eq!(head().tables.len(), 1);
}

#[test]
fn the_log_alone_says_which_entries_make_a_head() {
    let canary: Bytes = Command::new(1_800_000_000_000).encode_to_vec().into();
    assert!(canary.len() <= CANARY_BYTES_MAX && is_due(7, Some(&canary)));
    assert!(is_due(7, None));
    let mut read = Command::new(5);
    read.expects.push(Expect { row: Bytes::from_static(&[3]), timeline: 0, index: 1 });
    let mut journal = Command::new(5);
    journal.journal.push(JournalAppend::default());
    for command in [read, journal, Command { valid_until_ms: 9, ..Command::new(5) }] {
        let encoded: Bytes = command.encode_to_vec().into();
        assert!(!is_due(1023, Some(&encoded)));
        assert!(is_due(1024, Some(&encoded)));
    }
    assert!(!is_due(7, Some(&Bytes::from_static(b"\xff\xff"))));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..400), after in any::<bool>()) {
        let bytes = if after { [TAG, &bytes].concat() } else { bytes };
        if let Ok(head) = Head::parse(&bytes) {
            prop_assert_eq!(head.statement(), bytes);
        }
    }
}
