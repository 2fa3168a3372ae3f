//! What the targets edit: one of each form that they read.

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::apply::Summary;
use crate::archive::manifest::tests::{base, follow, sign};
use crate::archive::{ArchivedEntry, keys::BucketRef};
use crate::command::{Command, Committed, JournalAppend, Refusal, Request};
use crate::consent::Settings;
use crate::id::ClusterId;
use crate::share::split;

pub const CLUSTER: ClusterId = ClusterId([7; 16]);

const REVISION: Revision = Revision { timeline: 1, index: 5 };

fn stored(row: &StoredRow) -> Vec<u8> {
    [&row.prefix()[..], &row.value].concat()
}

pub fn stored_rows() -> Vec<Vec<u8>> {
    let short = StoredRow::new(REVISION, Revision::ABSENT, Bytes::from_static(b"short"));
    let long = StoredRow::new(REVISION, Revision { timeline: 1, index: 3 }, Bytes::from(vec![9; 40]));
    vec![stored(&short), stored(&long), stored(&StoredRow::stripped(REVISION, REVISION, [4; 32]))]
}

pub fn summaries() -> Vec<Vec<u8>> {
    let mut summary = Summary { timeline: 1, clock_ms: 1_000, ..Summary::default() };
    summary.journal.append([1; 32], |_| {});
    vec![Summary::default().encode(), summary.encode()]
}

/// Behind a number that says which row it is, as the target reads it.
pub fn rows() -> Vec<Vec<u8>> {
    let actor = || Some(ActorRow { kind: 4, name: "registrar-1".into(), ..ActorRow::default() });
    let row = |kind: u8, message: Vec<u8>| [&[kind][..], &message].concat();
    let settings = Settings::default().to_row();
    let consent = PresentConsent { signed_day: 20_000, ..PresentConsent::default() };
    let participant = Participant {
        number: "0043001234567890".into(),
        consent: Some(consent),
        grants: vec![PresentGrant { facility: "F0001".into(), ..PresentGrant::default() }],
        ..Participant::default()
    };
    let signed = ParticipationConsent { evidence: "form 1".into(), entered_ms: 1, ..ParticipationConsent::default() };
    let named = Grant { facility: "F0001".into(), revoked_ms: 2, consent_ms: 1, ..Grant::default() };
    let entry = JournalEntry { actor: actor(), action: 3, pseudonym: vec![1; 16].into(), ..JournalEntry::default() };
    let erasure =
        ErasureRow { asked_by: actor(), state: 1, reports: vec![ErasureReport::default()], ..ErasureRow::default() };
    vec![
        row(0, ClusterRow { format: ROWS_FORMAT, name: "c".into(), ..ClusterRow::default() }.encode_to_vec()),
        row(2, settings.encode_to_vec()),
        row(7, participant.encode_to_vec()),
        row(9, entry.encode_to_vec()),
        row(11, erasure.encode_to_vec()),
        row(15, signed.encode_to_vec()),
        row(16, named.encode_to_vec()),
    ]
}

pub fn outcomes() -> Vec<Vec<u8>> {
    let committed = Committed {
        revision: REVISION,
        journal_first: 7,
        journal_count: 1,
        receipt: Bytes::from_static(b"receipt"),
        remembered: true,
    };
    let all =
        [Outcome::Committed(committed), Outcome::Conflict { evaluated_at: 9 }, Outcome::Refused(Refusal::Timeline)];
    all.iter().map(|outcome| OutcomeMessage::from(outcome).encode_to_vec()).collect()
}

pub fn heads() -> Vec<Vec<u8>> {
    let head = Head::of(CLUSTER, 9, &Summary { timeline: 1, ..Summary::default() });
    let signed = sign(base(1, 4, None), 3);
    let kept = SignedHead { head: head.clone(), public_key: signed.public_key, signature: signed.signature };
    vec![head.statement(), kept.encode()]
}

pub fn manifests() -> Vec<Vec<u8>> {
    let first = base(1, 4, None);
    let second = follow(&first, b"before", 9);
    vec![first.statement(), second.statement(), sign(first, 3).encode(), sign(second, 3).encode()]
}

pub fn segments() -> Vec<Vec<u8>> {
    let stripped = Payload::Stripped { command: Bytes::from_static(b"keyless"), value_sha256s: vec![[1; 32], [2; 32]] };
    let payloads =
        [Payload::Blank, Payload::Command(Bytes::from_static(b"command")), stripped, Payload::Refused([3; 32])];
    let mut builder = SegmentBuilder::new(CLUSTER, 1, 5);
    for (index, payload) in (5..).zip(payloads) {
        assert!(builder.push(&ArchivedEntry { term: 2, index, payload }));
    }
    let mut one = SegmentBuilder::new(CLUSTER, 0, u64::MAX - 1);
    assert!(one.push(&ArchivedEntry { term: 2, index: u64::MAX - 1, payload: Payload::Blank }));
    vec![builder.finish().to_vec(), one.finish().to_vec()]
}

pub fn key_ledgers() -> Vec<Vec<u8>> {
    let reference = BucketRef { number: 0xaab, rows: 1, bytes: 9, sha256: [1; 32] };
    let ledger = Ledger { cluster_id: CLUSTER, timeline: 1, index: 9, buckets: vec![reference] };
    let row = StoredRow::new(REVISION, Revision::ABSENT, Bytes::from(vec![5; 89]));
    let key = RowKey::participant_key(&Pseudonym([0xaa; 16]), 1);
    let bucket = Bucket { rows: vec![(key.as_bytes().clone(), row.clone())] };
    let mut headers = KeyHeaders::begin(&CLUSTER, 1);
    KeyHeaders::put(&mut headers, key.as_bytes(), &row.header);
    vec![ledger.encode(), bucket.encode(), headers]
}

pub fn commands() -> Vec<Vec<u8>> {
    let mut plain = Command::new(1_000);
    plain.expect(&RowKey::participant(&Pseudonym([1; 16])), REVISION);
    plain.put(&RowKey::participant(&Pseudonym([1; 16])), &b"row"[..]);
    plain.append(&RowKey::inbox(&[2; 32]), &b"pointer"[..]);
    plain.journal.push(JournalAppend { entry: "entry".into(), index: vec![vec![5; 32].into()] });
    let mut row = vec![Table::Request.number()];
    row.extend_from_slice(&[3; 40]);
    plain.request = Some(Request { row: row.into(), sha256: vec![4; 32].into(), receipt: Bytes::new() });
    let mut keys = Command::new(1_000);
    keys.put(&RowKey::participant_key(&Pseudonym([1; 16]), 1), vec![6; 89]);
    keys.delete(&RowKey::keyring(1));
    vec![plain.encode_to_vec(), keys.encode_to_vec()]
}

pub fn words() -> Vec<Vec<u8>> {
    let hash = "0a".repeat(32);
    let names = [
        ObjectName::Manifest { generation: 1, sequence: 2 }.to_string(),
        format!("segments/{:020}-{hash}", 7),
        format!("keys/{hash}"),
        "0043001234567890".to_owned(),
        "0a".repeat(16),
        "1311001232".to_owned(),
        "F0001".to_owned(),
    ];
    names.map(String::into_bytes).to_vec()
}

pub fn shares() -> Vec<Vec<u8>> {
    let mut drawn = 0_u8;
    let fill = |bytes: &mut [u8]| {
        bytes.fill_with(|| {
            drawn = drawn.wrapping_add(37);
            drawn
        });
    };
    let (_, shares) = split(&key(0x42), &CLUSTER, 2, 3, fill).expect("such a split is possible");
    vec![shares[0].to_bytes().to_vec(), shares[1].to_words().as_bytes().to_vec()]
}
