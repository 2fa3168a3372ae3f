//! Fuzz targets of this crate: everything that reads bytes from a disk, a peer or a person, and `apply`.
//!
//! Ordinary tests with some thousands of cases each; `make fuzz` runs them longer (docs/testing.md). Kept inputs
//! lie in `__fuzz__/TARGET/`.

use bolero::check;
use bytes::Bytes;
use kura_fuzz::{Bound, CASES, DRAWN_BYTES_MAX, decode_within, target};
use prost::Message;

use crate::archive::keys::{Bucket, KeyHeaders, Ledger, bucket_of};
use crate::archive::{Manifest, ObjectName, Payload, Segment, SegmentBuilder, SignedManifest};
use crate::command::{Outcome, OutcomeMessage};
use crate::head::{Head, SignedHead};
use crate::id::{ContentId, InstitutionCode, ParticipantNumber, Pseudonym, RecordId, Revision};
use crate::row::*;
use crate::seal::testing::{document, key, nonce};
use crate::seal::{
    BlockContext, BlockOpener, BlockSealer, RowContext, RowName, open_row, seal_row, unwrap_key, wrap_key,
};
use crate::share::Share;

mod samples;

target!(
    /// What is read is written again byte by byte, and its header is read alone alike.
    stored_rows,
    samples::stored_rows(),
    |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        let row = StoredRow::decode(&bytes);
        assert_eq!(StoredRow::decode_header(&bytes).ok(), row.as_ref().ok().map(|row| row.header));
        if let Ok(row) = row {
            assert_eq!([&row.prefix()[..], &row.value].concat(), bytes);
        }
    }
);

target!(summaries, samples::summaries(), |bytes| {
    if let Ok(summary) = crate::apply::Summary::decode(bytes) {
        assert_eq!(crate::apply::Summary::decode(&summary.encode()).as_ref(), Ok(&summary));
    }
});

/// Reads a row's message; whatever is read is read again from what it writes.
fn message<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(read) = M::decode(bytes) {
        assert_eq!(M::decode(&read.encode_to_vec()[..]).as_ref(), Ok(&read));
    }
}

/// Rows are read, written and read again: two are held at a time.
const TWICE: Bound = Bound { each: 2 * Bound::USUAL.each, ..Bound::USUAL };

target!(rows, within TWICE, samples::rows(), |bytes| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 18 {
        0 => message::<ClusterRow>(bytes),
        1 => message::<KeyringRow>(bytes),
        2 => message::<SettingsRow>(bytes),
        3 => message::<DisasterRow>(bytes),
        4 => message::<Facility>(bytes),
        5 => message::<User>(bytes),
        6 => message::<Application>(bytes),
        7 => message::<Participant>(bytes),
        8 => message::<RecordControl>(bytes),
        9 => message::<JournalEntry>(bytes),
        10 => message::<ActRow>(bytes),
        11 => message::<ErasureRow>(bytes),
        12 => message::<EpisodeRow>(bytes),
        13 => message::<ReviewRow>(bytes),
        14 => message::<ShareSetsRow>(bytes),
        15 => message::<ParticipationConsent>(bytes),
        16 => message::<Grant>(bytes),
        _ => message::<LinkRow>(bytes),
    }
});

target!(outcomes, samples::outcomes(), |bytes| {
    let Ok(message) = OutcomeMessage::decode(bytes) else { return };
    if let Ok(outcome) = Outcome::try_from(message) {
        assert_eq!(Outcome::try_from(OutcomeMessage::from(&outcome)), Ok(outcome));
    }
});

target!(
    /// Only the one encoding of a head is taken.
    heads,
    samples::heads(),
    |bytes| {
        if let Ok(head) = Head::parse(bytes) {
            assert_eq!(head.statement(), bytes);
        }
        if let Ok(signed) = SignedHead::decode(bytes) {
            assert_eq!(SignedHead::decode(&signed.encode()).as_ref(), Ok(&signed));
            let _ = signed.verify(&signed.key_sha256());
        }
    }
);

target!(
    /// Only the one encoding of a manifest is taken.
    manifests,
    samples::manifests(),
    |bytes| {
        if let Ok(manifest) = Manifest::parse(bytes) {
            assert_eq!(manifest.statement(), bytes);
        }
        if let Ok(signed) = SignedManifest::decode(bytes) {
            assert_eq!(SignedManifest::decode(&signed.encode()).as_ref(), Ok(&signed));
            let _ = signed.verify();
        }
    }
);

target!(
    /// What is read is what a writer of these entries would have written.
    segments,
    // The builder that writes it again begins with 64 KiB.
    within Bound { once: 128 << 10, ..Bound::USUAL },
    samples::segments(),
    |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        let Ok(segment) = Segment::open(&bytes) else { return };
        let mut builder = SegmentBuilder::new(segment.cluster_id, segment.timeline, segment.first);
        let last = segment.last_index();
        assert!(last >= segment.first);
        let Ok(entries) = segment.collect::<Result<Vec<_>, _>>() else { return };
        assert!(entries.iter().all(|entry| builder.push(entry)));
        assert_eq!(builder.finish(), bytes);
    }
);

target!(
    /// Ledger and buckets have one encoding; headers are read to their end or refused.
    key_ledgers,
    samples::key_ledgers(),
    |bytes| {
        if let Ok(ledger) = Ledger::decode(bytes) {
            assert_eq!(ledger.encode(), bytes);
        }
        for number in [0, 1, 0xaab] {
            if let Ok(bucket) = Bucket::decode(bytes, number) {
                assert_eq!(Bucket::decode(&bucket.encode(), number), Ok(bucket));
            }
        }
        let Some((begin, mut rest)) = bytes.split_at_checked(KeyHeaders::BEGIN_BYTES) else { return };
        let _ = KeyHeaders::read_begin(begin, &samples::CLUSTER);
        while let Ok(Some(header)) = KeyHeaders::read(&mut rest) {
            assert!(bucket_of(&header.row_key).is_some());
            let mut again = Vec::new();
            KeyHeaders::put(&mut again, &header.row_key, &header.header);
            assert!(again.len() <= KeyHeaders::ROW_BYTES_MAX);
        }
    }
);

target!(
    /// Commands as they come from a peer or the log, stripped for the archive: the same command without keys.
    commands,
    samples::commands(),
    |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        let decoded = crate::apply::decode(&bytes);
        let _ = crate::command::encoded_at_ms(&bytes);
        match (crate::archive::strip(&bytes), decoded) {
            (Payload::Refused(_), None) => {}
            (Payload::Command(same), Some(_)) => assert_eq!(same, bytes),
            (Payload::Stripped { command, value_sha256s }, Some(whole)) => {
                let stripped = crate::apply::decode(&command).expect("a command without values is a command");
                assert_eq!((stripped.writes.len(), stripped.at_ms), (whole.writes.len(), whole.at_ms));
                assert!(!value_sha256s.is_empty());
            }
            (payload, decoded) => panic!("{payload:?} of {decoded:?}"),
        }
    }
);

target!(
    /// Names, ids and words, from objects of an archive, from people and from clients.
    words,
    samples::words(),
    |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Some(name) = ObjectName::parse(text) {
            assert_eq!(name.to_string(), text);
        }
        if let Ok(number) = ParticipantNumber::parse(text) {
            assert_eq!(number.reveal(), text);
        }
        if let Ok(record) = RecordId::from_hex(text) {
            assert_eq!(record.to_hex(), text.to_ascii_lowercase());
        }
        if let Ok(code) = InstitutionCode::parse(text) {
            let _ = code.check_digit_fits();
        }
        if let Ok(facility) = crate::id::FacilityId::parse(text) {
            assert_eq!(facility.reveal(), text);
        }
    }
);

target!(
    /// Shares of the root key, as words and as bytes.
    shares,
    samples::shares(),
    |bytes| {
        if let Ok(share) = Share::from_bytes(bytes) {
            assert_eq!(&share.to_bytes()[..], bytes);
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(share) = Share::from_words(text) {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
            assert_eq!(*share.to_words(), words);
        }
    }
);

/// What was sealed opens as it was; nothing else opens at all.
#[test]
fn sealed_bytes() {
    let context = BlockContext {
        cluster_id: samples::CLUSTER,
        pseudonym: Pseudonym([1; 16]),
        content_id: ContentId([2; 16]),
        part: 0,
        index: 3,
        last: true,
    };
    let name = RowKey::participant(&context.pseudonym);
    let row_context = RowContext {
        cluster_id: &samples::CLUSTER,
        name: RowName::Full(name.as_bytes()),
        supersedes: Revision { timeline: 1, index: 7 },
        open_part_sha256: None,
    };
    let text = document(5);
    let blocks = [&text[..], b"short", b""].map(|plaintext| {
        let sealed = BlockSealer::default().seal(&key(1), 4, &context, &nonce(9), plaintext).expect("it is short");
        (sealed.bytes.to_vec(), plaintext.to_vec())
    });
    let row = seal_row(&key(2), 5, &row_context, &nonce(8), b"a row");
    let wrapped = wrap_key(&key(3), &nonce(7), b"which", &key(6));
    let samples =
        [blocks.iter().map(|(sealed, _)| sealed.clone()).collect(), vec![row.clone(), wrapped.clone()]].concat();
    // A block is opened into as much memory as its header says, at most the longest block and zstd's own.
    let bound = Bound { each: 16, once: 4 << 20 };
    check!().with_iterations(CASES).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        decode_within(bound, drawn, &samples, |bytes| {
            let plaintext = blocks.iter().find(|(sealed, _)| sealed == bytes).map(|(_, plaintext)| plaintext.clone());
            assert_eq!(BlockOpener::default().open(&key(1), 4, &context, bytes).ok(), plaintext);
            assert_eq!(open_row(&key(2), 5, &row_context, bytes).is_ok(), row == bytes);
            assert_eq!(unwrap_key(&key(3), b"which", bytes).is_ok(), wrapped == bytes);
        });
    });
}
