use proptest::prelude::*;

use super::super::testing::{document, key, noise, nonce, unhex};
use super::*;
use crate::hexadecimal;

const CONTEXT: BlockContext = BlockContext {
    cluster_id: ClusterId([0xc1; 16]),
    pseudonym: Pseudonym([0x9d; 16]),
    content_id: ContentId([0x3e; 16]),
    part: 3,
    index: 70_000,
    last: true,
};
const VERSION: u32 = 5;

fn dictionary() -> Arc<Dictionary> {
    static ONCE: std::sync::LazyLock<Arc<Dictionary>> = std::sync::LazyLock::new(|| {
        let samples: Vec<Vec<u8>> = (0..300).map(document).collect();
        Arc::new(Dictionary::load(&super::super::dictionary::train(&samples, 4 * 1024).unwrap()).unwrap())
    });
    ONCE.clone()
}

fn seal(dictionary: Option<Arc<Dictionary>>, plaintext: &[u8]) -> SealedBlock {
    BlockSealer::new(dictionary).seal(&key(0x33), VERSION, &CONTEXT, &nonce(7), plaintext).unwrap()
}

fn opener() -> BlockOpener {
    BlockOpener::new([dictionary()])
}

fn open(sealed: &[u8]) -> Result<Vec<u8>, OpenBlockError> {
    opener().open(&key(0x33), VERSION, &CONTEXT, sealed)
}

fn refused<T: std::fmt::Debug + PartialEq>(result: &Result<T, OpenBlockError>) -> bool {
    *result == Err(OpenBlockError::DoesNotOpen(DoesNotOpen))
}

/// The context with its `field`th part changed; `by` picks a bit of it.
fn changed(field: usize, by: usize) -> BlockContext {
    let mut other = CONTEXT;
    match field {
        0 => other.cluster_id.0[by / 8 % 16] ^= 1 << (by % 8),
        1 => other.pseudonym.0[by / 8 % 16] ^= 1 << (by % 8),
        2 => other.content_id.0[by / 8 % 16] ^= 1 << (by % 8),
        3 => other.part ^= 1 << (by % 16),
        4 => other.index ^= 1 << (by % 32),
        5 => other.last = !other.last,
        _ => unreachable!("fields are 0 to 5"),
    }
    other
}

/// Plaintexts that end in each of the codecs.
fn plaintexts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        any::<u64>().prop_map(document),
        (any::<u8>(), 0_usize..5000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

#[test]
fn every_codec_is_reached_and_opens() {
    let (mut sealer, mut opener) = (BlockSealer::new(Some(dictionary())), opener());
    let named = Codec::ZstdDictionary(*dictionary().sha256());
    let mebibyte = BLOCK_PLAINTEXT_BYTES_MAX;
    let text: Vec<u8> = (0..).flat_map(document).take(mebibyte).collect();
    for (plaintext, codec) in [
        (vec![], Codec::Stored),
        (vec![0], Codec::Stored),
        (noise(mebibyte, 1), Codec::Stored),
        (text, Codec::Zstd),
        (vec![0; mebibyte], Codec::Zstd),
        (vec![0; DICTIONARY_PLAINTEXT_BYTES_MAX + 1], Codec::Zstd),
        (vec![0; DICTIONARY_PLAINTEXT_BYTES_MAX], named),
        (document(1_000_000), named),
        // A compressor that was just refused room works again, and small after large.
        (noise(4000, 2), Codec::Stored),
        (document(1_000_001), named),
    ] {
        let sealed = sealer.seal(&key(0x33), VERSION, &CONTEXT, &nonce(7), &plaintext).unwrap();
        let header = BlockHeader { codec, plaintext_bytes: plaintext.len() as u32, key_version: VERSION };
        assert_eq!(peek_header(&sealed.bytes), Ok(header));
        assert_eq!(sealed.sha256.as_slice(), Sha256::digest(&sealed.bytes).as_slice());
        assert!(sealed.bytes.len() <= BLOCK_SEALED_BYTES_MAX);
        assert!(sealed.bytes.capacity() < sealed.bytes.len() + 100, "sealed blocks wait in queues: no slack");
        assert!(opener.open(&key(0x33), VERSION, &CONTEXT, &sealed.bytes).unwrap() == plaintext);
    }
}

#[test]
fn a_dictionary_makes_short_documents_shorter() {
    let plaintext = document(77_777);
    let (with, without) = (seal(Some(dictionary()), &plaintext), seal(None, &plaintext));
    assert!(with.bytes.len() < without.bytes.len(), "{} {}", with.bytes.len(), without.bytes.len());
    assert!(without.bytes.len() < plaintext.len());
}

#[test]
fn what_saves_less_than_a_sixteenth_is_stored() {
    let mut plaintext = noise(16_000, 3);
    plaintext.extend_from_slice(&[0; 900]);
    assert_eq!(peek_header(&seal(None, &plaintext).bytes).unwrap().codec, Codec::Stored);
    plaintext.extend_from_slice(&[0; 300]);
    assert_eq!(peek_header(&seal(None, &plaintext).bytes).unwrap().codec, Codec::Zstd);
}

#[test]
fn more_than_a_mebibyte_is_refused() {
    let length = BLOCK_PLAINTEXT_BYTES_MAX + 1;
    let refused = BlockSealer::default().seal(&key(0x33), VERSION, &CONTEXT, &nonce(7), &vec![0; length]);
    assert_eq!(refused, Err(SealBlockError::Long { length }));
}

#[test]
fn a_missing_dictionary_is_said() {
    let sealed = seal(Some(dictionary()), &document(5)).bytes;
    let missing = BlockOpener::new([]).open(&key(0x33), VERSION, &CONTEXT, &sealed);
    assert_eq!(missing, Err(OpenBlockError::UnknownDictionary));
}

/// An authenticated block whose content is not what its header says: only a faulty writer with the
/// key makes one, and it must neither open nor allocate more than it says.
#[test]
fn content_must_match_the_authenticated_header() {
    let frame = zstd::bulk::compress(&vec![0; 100_000], 3).unwrap();
    let forge = |codec, plaintext_bytes, body: &[u8]| {
        let header = BlockHeader { codec, plaintext_bytes, key_version: VERSION };
        let mut bytes = Vec::new();
        append_header(&mut bytes, &header);
        bytes.extend_from_slice(&nonce(7));
        cipher::append_encrypted(&mut bytes, &key(0x33), &nonce(7), &associated_data(&header, &CONTEXT), body);
        bytes
    };
    assert_eq!(open(&forge(Codec::Zstd, 100_000, &frame)).map(|plaintext| plaintext.len()), Ok(100_000));
    for (codec, length, body) in [
        (Codec::Zstd, 99_999, &frame[..]),
        (Codec::Zstd, 100_001, &frame[..]),
        (Codec::Zstd, 100_000, &frame[..frame.len() - 1]),
        (Codec::Zstd, 100_000, &[]),
        (Codec::Zstd, 100_000, b"not a frame"),
        (Codec::ZstdDictionary(*dictionary().sha256()), 100_000, b"not a frame"),
        (Codec::Stored, 4, b"five!"),
        (Codec::Stored, BLOCK_PLAINTEXT_BYTES_MAX as u32 + 1, &vec![0; BLOCK_PLAINTEXT_BYTES_MAX + 1]),
        (Codec::Zstd, BLOCK_PLAINTEXT_BYTES_MAX as u32 + 1, &frame[..]),
        (Codec::Zstd, u32::MAX, &frame[..]),
    ] {
        assert!(refused(&open(&forge(codec, length, body))), "{codec:?} {length}");
    }
}

#[test]
fn associated_data_is_laid_out_as_documented() {
    let mut header = BlockHeader { codec: Codec::Zstd, plaintext_bytes: 0x0102_0304, key_version: 5 };
    let expected = [
        hexadecimal(b"kura-blk"),
        "01".into(),
        "01".into(),
        "01020304".into(),
        "00000005".into(),
        "c1".repeat(16),
        "9d".repeat(16),
        "3e".repeat(16),
        "0003".into(),
        "00011170".into(),
        "01".into(),
    ]
    .concat();
    assert_eq!(hexadecimal(associated_data(&header, &CONTEXT)), expected);
    header.codec = Codec::ZstdDictionary([0xd1; 32]);
    let with_dictionary = expected.replacen("0101", "0102", 1) + &"d1".repeat(32);
    assert_eq!(hexadecimal(associated_data(&header, &CONTEXT)), with_dictionary);
}

/// Stored blocks are frozen in both directions; compressed ones only for opening, since another
/// version of zstd may compress the same text to other bytes.
#[test]
fn sealed_blocks_are_frozen() {
    const STORED: &str = "010000000004000000050708090a0b0c0d0e0f101112131415161718191a1b1c1d1ea63c25afa06871718dca2a9b0bff\
         122db6f60907";
    const ZSTD: &str = "010100000064000000050708090a0b0c0d0e0f101112131415161718191a1b1c1d1ee5ec7a267b9cd557c2a0ec6991d1\
         f5d361009a40e2ae12ce65b62db0f944434bff9f47ed01";
    assert_eq!(hexadecimal(&seal(None, b"kept").bytes), STORED);
    assert_eq!(open(&unhex(STORED)).as_deref(), Ok(&b"kept"[..]));
    assert_eq!(open(&unhex(ZSTD)).as_deref(), Ok(&b"kept ".repeat(20)[..]));
}

/// A block sealed long ago with the dictionary that stands in `frozen.zdict`.
#[test]
fn a_block_with_a_dictionary_is_frozen() {
    const SEALED: &str = "0102000009d0000000059de0d1acf85d58bfc449441a17ccc52edf1c571b2d7923f202f45fb8f8dcb7ce0708090a0b0c\
         0d0e0f101112131415161718191a1b1c1d1ee5ec7a2638794cb9cd588fb1e3a5e65167937bbacfe88cebe2554c0bd66a\
         a1f7d8e91fe00a4b377f1533358a45b353239df29f2c4da810fcd1bc75b5145c23149365ee47042f4c5d8965933ecd86\
         c263456c60e503de8ccb52b63e30e3371f3425b487ee8dbbb927f56d2f99482a281e68e78b122f";
    let dictionary = Arc::new(Dictionary::load(include_bytes!("frozen.zdict")).unwrap());
    let opened = BlockOpener::new([dictionary]).open(&key(0x33), VERSION, &CONTEXT, &unhex(SEALED));
    assert!(opened.unwrap() == document(4242));
}

#[test]
fn malformed_headers_are_refused() {
    let tail = "00".repeat(NONCE_BYTES + TAG_BYTES);
    for head in [
        "".to_owned(),
        "01".to_owned(),
        "00000000000000000005".to_owned(),
        "02000000000000000005".to_owned(),
        // A codec that does not exist, and lengths that do not fit what follows.
        "01030000000000000005".to_owned(),
        "01000000000100000005".to_owned(),
        "01010000000000000005".to_owned(),
        "01010010000100000005".to_owned(),
        "0101ffffffff00000005".to_owned(),
        // A dictionary's name, cut.
        format!("01020000000100000005{}", "d1".repeat(31)),
        format!("01020000000000000005{}", "d1".repeat(32)),
    ] {
        assert_eq!(peek_header(&unhex(&format!("{head}{tail}"))), Err(DoesNotOpen), "{head}");
    }
    for head in ["01000000000000000005".to_owned(), format!("01020010000000000005{}", "d1".repeat(32))] {
        let shortest = unhex(&format!("{head}{tail}"));
        assert!(peek_header(&shortest).is_ok());
        assert_eq!(peek_header(&shortest[..shortest.len() - 1]), Err(DoesNotOpen));
    }
}

proptest! {
    #[test]
    fn a_block_opens_where_it_was_sealed(plaintext in plaintexts(), with_dictionary: bool) {
        let sealed = seal(with_dictionary.then(dictionary), &plaintext);
        prop_assert!(open(&sealed.bytes).as_ref() == Ok(&plaintext));
        prop_assert!(sealed.bytes.len() <= plaintext.len() + 50);
    }

    #[test]
    fn a_block_opens_nowhere_else(plaintext in plaintexts(), with_dictionary: bool, by in 0_usize..4096) {
        let sealed = seal(with_dictionary.then(dictionary), &plaintext).bytes;
        let mut opener = opener();
        for field in 0..=5 {
            let result = opener.open(&key(0x33), VERSION, &changed(field, by), &sealed);
            prop_assert!(refused(&result), "field {}", field);
        }
        prop_assert!(refused(&opener.open(&key(0x33), VERSION ^ 1 << (by % 32), &CONTEXT, &sealed)));
        prop_assert!(refused(&opener.open(&key(0x33 ^ 1 << (by % 8)), VERSION, &CONTEXT, &sealed)));
    }

    /// Every header field is authenticated, not only compared: an opener who follows an edited header
    /// does not get further.
    #[test]
    fn an_edited_header_does_not_open(by in 0_usize..4096) {
        let version = VERSION ^ 1 << (by % 32);
        let mut sealed = seal(None, &document(1)).bytes;
        sealed[6..10].copy_from_slice(&version.to_be_bytes());
        prop_assert_eq!(peek_header(&sealed).map(|header| header.key_version), Ok(version));
        prop_assert!(refused(&opener().open(&key(0x33), version, &CONTEXT, &sealed)));

        let plaintext = noise(300, by as u64);
        let sealed = seal(None, &plaintext).bytes;
        // The same bytes, said to be a frame of a longer plaintext.
        let mut edited = sealed.clone();
        edited[1] = 1;
        edited[2..6].copy_from_slice(&(301 + by as u32).to_be_bytes());
        prop_assert!(peek_header(&edited).is_ok());
        prop_assert!(refused(&open(&edited)));
        // The same frame, said to need another dictionary, or none.
        let sealed = seal(Some(dictionary()), &document(2)).bytes;
        let other = Arc::new(Dictionary::load_at_level(dictionary().bytes(), 1).unwrap());
        let mut edited = sealed.clone();
        edited[1] = 1;
        edited.drain(10..42);
        prop_assert!(peek_header(&edited).is_ok());
        prop_assert!(refused(&open(&edited)));
        prop_assert!(BlockOpener::new([other]).open(&key(0x33), VERSION, &CONTEXT, &sealed).is_ok());
    }

    #[test]
    fn a_damaged_block_does_not_open(
        plaintext in plaintexts(), with_dictionary: bool, at in any::<prop::sample::Index>(), bit in 0_u8..8,
        tail in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let sealed = seal(with_dictionary.then(dictionary), &plaintext).bytes;
        let at = at.index(sealed.len());
        let mut flipped = sealed.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(open(&flipped).is_err());
        prop_assert!(open(&sealed[..at]).is_err());
        prop_assert!(refused(&open(&[&sealed[..], &tail].concat())));
        prop_assert!(open(&[&tail, &sealed[..]].concat()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), codec in 0_u8..3, length in 0_u32..200) {
        prop_assert!(open(&bytes).is_err());
        if bytes.len() > 10 {
            bytes[..2].copy_from_slice(&[FORMAT, codec]);
            bytes[2..6].copy_from_slice(&length.to_be_bytes());
            bytes[6..10].copy_from_slice(&VERSION.to_be_bytes());
            prop_assert!(open(&bytes).is_err());
        }
    }
}
