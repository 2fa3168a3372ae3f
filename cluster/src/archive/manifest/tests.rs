//! Frozen statements, malformed ones, and a maker of signed chains for the tests of this room.

use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use proptest::prelude::*;

use super::*;
use crate::apply::Summary;
use crate::hexadecimal;
use crate::id::ClusterId;

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Signs as a backup does, deterministically (RFC 6979).
pub(crate) fn sign(manifest: Manifest, n: u8) -> SignedManifest {
    let key = p256::ecdsa::SigningKey::from_slice(&[n; 32]).unwrap();
    let signature: p256::ecdsa::DerSignature = key.sign(&manifest.statement());
    let public_key = key.verifying_key().to_public_key_der().unwrap();
    SignedManifest {
        manifest,
        public_key: Bytes::copy_from_slice(public_key.as_bytes()),
        signature: Bytes::copy_from_slice(signature.as_bytes()),
    }
}

fn head(timeline: u64, index: u64) -> Head {
    Head::of(CLUSTER, index, &Summary { timeline, ..Summary::default() })
}

/// A base at `index`.
pub(crate) fn base(sequence: u64, index: u64, previous: Option<&[u8]>) -> Manifest {
    Manifest {
        sequence,
        generation: sequence,
        previous_sha256: previous.map(|bytes| Sha256::digest(bytes).into()),
        head: head(0, index),
        term: 1,
        parent: None,
        at_ms: 1_000 * sequence,
        clock_ms: 1_000 * sequence,
        content: Content::Base(Base {
            files: vec![BaseFile { name: "000007.sst".into(), bytes: 3, sha256: [7; 32] }],
            key_headers_bytes: 42,
            key_headers_sha256: [8; 32],
            continues: sequence > 1,
            expired: vec![],
        }),
        ledger: LedgerRef { index, bytes: 5, sha256: [9; 32] },
        dictionaries: vec![[1; 32]],
        writer: "backup-1".into(),
    }
}

/// One segment after `previous`.
pub(crate) fn follow(previous: &Manifest, bytes: &[u8], last: u64) -> Manifest {
    let (sequence, first) = (previous.sequence + 1, previous.index() + 1);
    Manifest {
        sequence,
        generation: previous.generation,
        previous_sha256: Some(Sha256::digest(bytes).into()),
        head: head(previous.head.timeline, last),
        at_ms: 1_000 * sequence,
        clock_ms: 1_000 * sequence,
        content: Content::Segments(vec![SegmentRef { first, last, bytes: 100, sha256: [sequence as u8; 32] }]),
        ..previous.clone()
    }
}

#[test]
fn statements_are_frozen() {
    let first = base(1, 4, None);
    let statement = hexadecimal(first.statement());
    let expected = [
        "6b7572612d6d616e69666573742d31",
        "08011001",
        &format!("2274{}", hexadecimal(first.head.statement())),
        "2801",
        "38e807",
        "40e807",
        "4a56",
        &format!("0a300a0a3030303030372e73737410031a20{}", "07".repeat(32)),
        &format!("102a1a20{}", "08".repeat(32)),
        &format!("5a26080410051a20{}", "09".repeat(32)),
        &format!("6220{}", "01".repeat(32)),
        "6a086261636b75702d31",
    ];
    assert_eq!(statement, expected.concat());
    assert_eq!(Manifest::parse(&first.statement()), Ok(first.clone()));
    let bytes = sign(first.clone(), 3).encode();
    let second = follow(&first, &bytes, 9);
    assert_eq!(Manifest::parse(&second.statement()), Ok(second.clone()));
    let segment = format!("520c0805100918642220{}", "02".repeat(32));
    assert!(hexadecimal(second.statement()).contains(&segment[4..]), "{}", hexadecimal(second.statement()));
    // A manifest that has everything.
    let mut third = base(9, 40, Some(b"before"));
    third.parent = Some(Parent { timeline: 1, began_index: 2 });
    third.head = head(2, 40);
    let Content::Base(with) = &mut third.content else { panic!() };
    with.expired = vec![Gap { first: 2, last: 3, previous_sha256: Some([1; 32]), last_sha256: [2; 32] }];
    assert!(hexadecimal(third.statement()).contains("320408011002"));
    let gap = format!("2a48080210031a20{}2220{}", "01".repeat(32), "02".repeat(32));
    assert!(hexadecimal(third.statement()).contains(&gap));
    assert_eq!(Manifest::parse(&third.statement()), Ok(third));
}

#[test]
fn what_a_backup_signs_verifies_and_nothing_else_does() {
    let signed = sign(base(1, 4, None), 3);
    assert_eq!(signed.verify(), Ok(()));
    assert_eq!(SignedManifest::decode(&signed.encode()), Ok(signed.clone()));
    let mut altered = signed.clone();
    altered.manifest.at_ms += 1;
    assert_eq!(altered.verify(), Err(ManifestError::Signature));
    let mut other = signed.clone();
    other.public_key = sign(base(1, 4, None), 4).public_key;
    assert_eq!(other.verify(), Err(ManifestError::Signature));
    other.public_key = Bytes::from_static(b"no key");
    assert_eq!(other.verify(), Err(ManifestError::Kind));
    let whole = signed.encode();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let found = SignedManifest::decode(&changed).and_then(|signed| signed.verify());
        assert!(found.is_err(), "byte {at}");
        assert!(SignedManifest::decode(&whole[..at]).and_then(|signed| signed.verify()).is_err(), "cut at {at}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let first = base(1, 4, None);
    let second = follow(&first, b"", 9);
    let changes: Vec<(&str, Manifest)> = vec![
        ("numbers", Manifest { sequence: 0, ..first.clone() }),
        ("numbers", Manifest { generation: 3, ..second.clone() }),
        ("follows", Manifest { previous_sha256: Some([1; 32]), ..first.clone() }),
        ("follows", Manifest { previous_sha256: None, ..second.clone() }),
        ("timeline", Manifest { parent: Some(Parent { timeline: 0, began_index: 1 }), ..first.clone() }),
        ("generation", Manifest { generation: 2, ..second.clone() }),
        ("segments", Manifest { head: head(0, 8), ..second.clone() }),
    ];
    for (word, manifest) in changes {
        let error = Manifest::parse(&manifest.statement()).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let with_segments = |segments: &[(u64, u64)]| {
        let segment = |&(first, last): &(u64, u64)| SegmentRef { first, last, bytes: 1, sha256: [1; 32] };
        let content = Content::Segments(segments.iter().map(segment).collect());
        Manifest::parse(&Manifest { content, ..second.clone() }.statement()).is_ok()
    };
    assert!(with_segments(&[(5, 6), (7, 9)]));
    for wrong in [&[(5, 6), (8, 9)][..], &[(5, 7), (7, 9)], &[(7, 9), (5, 6)], &[(10, 9)], &[]] {
        assert!(!with_segments(wrong), "{wrong:?}");
    }
    let with_files = |names: &[&str]| {
        let mut manifest = first.clone();
        let Content::Base(base) = &mut manifest.content else { panic!() };
        base.files = names.iter().map(|name| BaseFile { name: (*name).into(), bytes: 1, sha256: [1; 32] }).collect();
        Manifest::parse(&manifest.statement()).is_ok()
    };
    assert!(with_files(&["000001.sst", "CURRENT"]));
    for wrong in [&["../x"][..], &["."], &[""], &["b", "a"], &["a", "a"]] {
        assert!(!with_files(wrong), "{wrong:?}");
    }
    let gap = |first, last| Gap { first, last, previous_sha256: (first > 1).then_some([1; 32]), last_sha256: [2; 32] };
    let with_gaps = |gaps: &[Gap]| {
        let mut manifest = base(9, 40, Some(b"before"));
        let Content::Base(base) = &mut manifest.content else { panic!() };
        base.expired = gaps.to_vec();
        Manifest::parse(&manifest.statement()).is_ok()
    };
    assert!(with_gaps(&[gap(1, 2), gap(4, 8)]));
    for wrong in [&[gap(1, 2), gap(3, 4)][..], &[gap(4, 8), gap(1, 2)], &[gap(3, 2)], &[gap(2, 9)], &[gap(0, 1)]] {
        assert!(!with_gaps(wrong), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag: bool) {
        let statement = if tag { [TAG, &bytes].concat() } else { bytes.clone() };
        let _ = Manifest::parse(&statement);
        let _ = SignedManifest::decode(&bytes);
    }
}
