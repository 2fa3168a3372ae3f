//! Fuzz targets of this crate: what an application hands over as text or keeps in files, and every reply of a node.
//!
//! Ordinary tests with some thousands of cases each; `make fuzz` runs them longer. Kept inputs lie in
//! `__fuzz__/TARGET/`.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use kura_fuzz::target;
use kura_proto::v1;
use prost::Message;

use crate::access::Access;
use crate::erasure::Erasure;
use crate::record::{Part, SignatureCheck, Summary};
use crate::registry::{Act, Application, Disaster, Facility, User};
use crate::review::Review;
use crate::{Config, Date, JournalHead, ParticipantNumber, Receipt, RecordId, RequestId};

/// What is read is written again as it was, capitals apart.
fn comes_back<T: FromStr + Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text.to_ascii_lowercase());
    }
}

target!(
    /// Ids, days, receipts and heads as texts.
    texts,
    [
        "00112233445566778899aabbccddeeff",
        "0043001234567890",
        "2024-02-29",
        "kura-head1:000102030405060708090a0b0c0d0e0f:0:7:9:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "kura1:0:3:7:00112233445566778899aabbccddeeff:00112233445566778899aabbccddeeff:1:9:waiting",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec(),
    |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        comes_back::<RecordId>(text);
        comes_back::<RequestId>(text);
        comes_back::<Date>(text);
        if let Ok(receipt) = text.parse::<Receipt>() {
            assert_eq!(receipt.to_string().parse::<Receipt>().map(|again| again.to_string()), Ok(receipt.to_string()));
        }
        if let Ok(head) = text.parse::<JournalHead>() {
            assert_eq!(head.to_string().parse::<JournalHead>(), Ok(head));
        }
        if let Ok(number) = text.parse::<ParticipantNumber>() {
            assert_eq!(number.reveal(), text);
        }
    }
);

target!(
    /// A configuration that is taken is within its bounds, and is read again from what it writes.
    configurations,
    vec![
        b"ca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\nendpoints = [{ name = \"voter-1\", address = \"10.0.0.1:7001\" }]\n\
          [timeouts]\nattempt_ms = 1000\n"
            .to_vec()
    ],
    |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(config) = Config::parse(text, Path::new("")) else { return };
        assert!(config.check().is_ok());
        if let Ok(again) = config.to_toml() {
            assert!(Config::parse(&again, Path::new("")).is_ok());
        }
    }
);

target!(
    /// Whatever a node answers is read or said to be broken.
    replies,
    {
        let actor = v1::Actor { kind: 1, facility: "F0001".into(), name: "d0001".into(), ..v1::Actor::default() };
        let report = v1::ErasureReport { member: "voter-1".into(), ..v1::ErasureReport::default() };
        let erasure = v1::Erasure {
            id: vec![1; 16].into(),
            state: 5,
            asked_by: Some(actor.clone()),
            reports: vec![report],
            ..v1::Erasure::default()
        };
        let summary = v1::RecordSummary { record_id: vec![2; 16].into(), class: 1, version: 1, ..Default::default() };
        let access = v1::Access { actor: Some(actor), action: 1, basis: "grant".into(), ..Default::default() };
        let facility = v1::Facility { id: "F0001".into(), kind: 1, status: 1, access_line: 1, ..Default::default() };
        vec![
            [vec![0], erasure.encode_to_vec()].concat(),
            [vec![1], summary.encode_to_vec()].concat(),
            [vec![2], access.encode_to_vec()].concat(),
            [vec![3], facility.encode_to_vec()].concat(),
        ]
    },
    |bytes| {
        let Some((kind, bytes)) = bytes.split_first() else { return };
        fn read<M: Message + Default, T, E>(bytes: &[u8], take: impl Fn(M) -> Result<T, E>) {
            if let Ok(message) = M::decode(bytes) {
                let _ = take(message);
            }
        }
        match kind % 11 {
            0 => read(bytes, Erasure::from_wire),
            1 => read(bytes, Summary::from_wire),
            2 => read(bytes, Access::from_wire),
            3 => read(bytes, Facility::from_wire),
            4 => read(bytes, User::from_wire),
            5 => read(bytes, Application::from_wire),
            6 => read(bytes, Disaster::from_wire),
            7 => read(bytes, Act::from_wire),
            8 => read(bytes, Review::from_wire),
            9 => read(bytes, Part::from_wire),
            _ => {
                read(bytes, SignatureCheck::from_wire);
                read(bytes, |wire| Receipt::from_wire(wire).ok_or(()));
            }
        }
    }
);
