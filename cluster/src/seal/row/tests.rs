use proptest::prelude::*;

use super::super::testing::{key, nonce, unhex};
use super::*;
use crate::hexadecimal;

/// Everything that a sealed row is bound to, owned, so that tests can change one field at a time.
#[derive(Clone, Debug)]
struct Binding {
    key_byte: u8,
    key_version: u32,
    cluster_id: [u8; 16],
    full: bool,
    name: Vec<u8>,
    supersedes: Revision,
    open_part: Option<[u8; 32]>,
}

impl Binding {
    fn context<T>(&self, with: impl FnOnce(&Key, u32, &RowContext<'_>) -> T) -> T {
        let cluster_id = ClusterId(self.cluster_id);
        let name = if self.full { RowName::Full(&self.name) } else { RowName::Prefix(&self.name) };
        let context = RowContext {
            cluster_id: &cluster_id,
            name,
            supersedes: self.supersedes,
            open_part_sha256: self.open_part.as_ref(),
        };
        with(&key(self.key_byte), self.key_version, &context)
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        self.context(|key, version, context| seal_row(key, version, context, &nonce(40), plaintext))
    }

    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        self.context(|key, version, context| open_row(key, version, context, sealed))
    }

    /// The binding with its `field`th part changed; `by` picks a bit or a byte of it.
    fn changed(&self, field: usize, by: usize) -> Binding {
        let mut other = self.clone();
        match field {
            0 => other.key_byte ^= 1 << (by % 8),
            1 => other.key_version ^= 1 << (by % 32),
            2 => other.cluster_id[by / 8 % 16] ^= 1 << (by % 8),
            3 => other.full = !other.full,
            4 => match other.name.len() {
                0 => other.name.push(by as u8),
                length => other.name[by / 8 % length] ^= 1 << (by % 8),
            },
            5 => other.name.push(by as u8),
            6 => other.name = other.name.split_last().map_or(vec![0], |(_, rest)| rest.to_vec()),
            7 => other.supersedes.timeline ^= 1 << (by % 64),
            8 => other.supersedes.index ^= 1 << (by % 64),
            9 => {
                other.supersedes = match other.supersedes.is_absent() {
                    true => Revision { timeline: 0, index: 1 },
                    false => Revision::ABSENT,
                }
            }
            10 => match &mut other.open_part {
                Some(hash) => hash[by / 8 % 32] ^= 1 << (by % 8),
                None => other.open_part = Some([0; 32]),
            },
            11 => other.open_part = if other.open_part.is_some() { None } else { Some([by as u8; 32]) },
            _ => unreachable!("fields are 0 to 11"),
        }
        other
    }
}

const FIELDS: usize = 12;

fn bindings() -> impl Strategy<Value = Binding> {
    (
        any::<u8>(),
        any::<u32>(),
        any::<[u8; 16]>(),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..100),
        prop_oneof![
            Just(Revision::ABSENT),
            (any::<u64>(), 2..u64::MAX).prop_map(|(timeline, index)| Revision { timeline, index }),
        ],
        any::<Option<[u8; 32]>>(),
    )
        .prop_map(|(key_byte, key_version, cluster_id, full, name, supersedes, open_part)| Binding {
            key_byte,
            key_version,
            cluster_id,
            full,
            name,
            supersedes,
            open_part,
        })
}

fn plaintexts() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

proptest! {
    #[test]
    fn a_row_opens_where_it_was_sealed(binding in bindings(), plaintext in plaintexts()) {
        let sealed = binding.seal(&plaintext);
        prop_assert!(binding.open(&sealed).as_ref() == Ok(&plaintext));
        let header = RowHeader { key_version: binding.key_version, supersedes: binding.supersedes };
        prop_assert_eq!(peek_header(&sealed), Ok(header));
        let overhead = if binding.supersedes.is_absent() { 46 } else { 62 };
        prop_assert_eq!(sealed.len(), plaintext.len() + overhead);
    }

    #[test]
    fn a_row_opens_nowhere_else(binding in bindings(), plaintext in plaintexts(), by in 0_usize..4096) {
        let sealed = binding.seal(&plaintext);
        for field in 0..FIELDS {
            let other = binding.changed(field, by);
            // A timeline without an index is no revision at all: both say "absent".
            if field == 7 && binding.supersedes.is_absent() {
                prop_assert!(other.open(&sealed).as_ref() == Ok(&plaintext));
                continue;
            }
            prop_assert_eq!(other.open(&sealed), Err(DoesNotOpen), "field {} {:?}", field, other);
        }
    }

    /// The opener's own lookup must not help an intruder who edits the header to match the place.
    #[test]
    fn a_header_edited_to_match_does_not_open(binding in bindings(), plaintext in plaintexts(), by in 0_usize..4096) {
        for field in [1, 8, 9] {
            let other = binding.changed(field, by);
            let (mut edited, sealed) = (other.seal(&[]), binding.seal(&plaintext));
            edited.truncate(edited.len() - TAG_BYTES);
            edited.extend_from_slice(&sealed[sealed.len() - plaintext.len() - TAG_BYTES..]);
            prop_assert!(peek_header(&edited).is_ok());
            prop_assert_eq!(other.open(&edited), Err(DoesNotOpen), "field {}", field);
        }
    }

    #[test]
    fn a_damaged_row_does_not_open(
        binding in bindings(), plaintext in plaintexts(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        tail in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let sealed = binding.seal(&plaintext);
        let at = at.index(sealed.len());
        let mut flipped = sealed.clone();
        flipped[at] ^= 1 << bit;
        prop_assert_eq!(binding.open(&flipped), Err(DoesNotOpen));
        prop_assert_eq!(binding.open(&sealed[..at]), Err(DoesNotOpen));
        prop_assert_eq!(binding.open(&[&sealed[..], &tail].concat()), Err(DoesNotOpen));
        prop_assert_eq!(binding.open(&[&tail, &sealed[..]].concat()), Err(DoesNotOpen));
    }

    #[test]
    fn arbitrary_bytes_are_refused(binding in bindings(), mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = peek_header(&bytes);
        prop_assert_eq!(binding.open(&bytes), Err(DoesNotOpen));
        if let Some(format) = bytes.first_mut() {
            *format = FORMAT;
        }
        let _ = peek_header(&bytes);
        prop_assert_eq!(binding.open(&bytes), Err(DoesNotOpen));
    }
}

fn frozen(supersedes: Revision, full: bool, open_part: Option<[u8; 32]>) -> Binding {
    Binding {
        key_byte: 0x11,
        key_version: 7,
        cluster_id: [0xc1; 16],
        full,
        name: b"\x08participant".to_vec(),
        supersedes,
        open_part,
    }
}

#[test]
fn sealed_rows_are_frozen() {
    for (binding, expected) in [
        (
            frozen(Revision { timeline: 2, index: 1_000_003 }, true, None),
            "010000000701000000000000000200000000000f424328292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f16cd\
         cbade40eee4127132ef0c10363786591fd28",
        ),
        (
            frozen(Revision::ABSENT, false, Some([0x5a; 32])),
            "01000000070028292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f16cdcbad1f739f2bb947ebb42a6e607a62bbe88d",
        ),
    ] {
        assert_eq!(hexadecimal(binding.seal(b"kept")), expected);
        assert_eq!(binding.open(&unhex(expected)).as_deref(), Ok(&b"kept"[..]));
    }
}

#[test]
fn associated_data_is_laid_out_as_documented() {
    let binding = frozen(Revision { timeline: 2, index: 0x0f_42 }, true, Some([0x5a; 32]));
    let expected = [
        hexadecimal(b"kura-row"),
        "01".into(),
        "c1".repeat(16),
        "00000007".into(),
        "0000000000000002".into(),
        "0000000000000f42".into(),
        "01".into(),
        "01".into(),
        "5a".repeat(32),
        "0000000c".into(),
        hexadecimal(b"\x08participant"),
    ];
    assert_eq!(
        binding.context(|_, version, context| hexadecimal(associated_data(version, context))),
        expected.concat()
    );
}

#[test]
fn malformed_headers_are_refused() {
    let tail = "00".repeat(NONCE_BYTES + TAG_BYTES);
    for head in [
        "",
        "01",
        "0000000007",
        "000000000700",
        "020000000700",
        "010000000702",
        "0100000007ff",
        // A superseded revision that says "absent".
        "01000000070100000000000000020000000000000000",
    ] {
        assert_eq!(peek_header(&unhex(&format!("{head}{tail}"))), Err(DoesNotOpen), "{head}");
    }
    let shortest = unhex(&format!("010000000700{tail}"));
    assert!(peek_header(&shortest).is_ok());
    assert_eq!(peek_header(&shortest[1..]), Err(DoesNotOpen));
    assert_eq!(peek_header(&shortest[..shortest.len() - 1]), Err(DoesNotOpen));
}
