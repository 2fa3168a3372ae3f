//! Fuzz targets of this crate: what members, operators and importers hand over. The log's forms are in [`crate::raft`],
//! clients' requests in [`crate::gateway`], snapshots and signatures beside what they try.
//!
//! Ordinary tests with some thousands of cases each; `make fuzz` runs them longer. Kept inputs lie in
//! `__fuzz__/TARGET/`.

use std::path::Path;

use bytes::Bytes;
use clap::Parser;
use kura_fuzz::{Bound, CASES, DRAWN_BYTES_MAX, decode_within, target};

use crate::cli::Cli;
use crate::config::NodeConfig;
use crate::folder::recognize::content;
use crate::import::participants::Table;
use crate::import::ssmix2::message::check;
use crate::import::ssmix2::name::Name;
use crate::samples::{Generator, Kind};

/// Samples are documents of some kilobytes; trees of what they hold are some times larger.
const DOCUMENTS: Bound = Bound { each: 256, once: 256 << 10 };

fn documents() -> Vec<Vec<u8>> {
    let mut generator = Generator::new(7);
    Kind::ALL.map(|kind| generator.sample_of(kind).bytes).to_vec()
}

/// A file of an import: something is said of it, within the bounds of what is written into a record.
#[test]
fn files() {
    let samples = documents();
    bolero::check!().with_iterations(CASES / 2).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        decode_within(DOCUMENTS, drawn, &samples, |bytes| {
            let seen = content(bytes, "name");
            assert!(seen.class_word.parse::<kura_client::Class>().is_ok(), "{}", seen.class_word);
            if let Some(id) = &seen.document_id {
                assert!((1..=128).contains(&id.len()) && !id.chars().any(char::is_control));
            }
        });
    });
}

/// A message of the standard storage is taken for the patient of its path, byte by byte, or set aside.
#[test]
fn messages() {
    let head = "MSH|^~\\&|HIS|S|G|R|20240301120000||RDE^O11|1|P|2.5||||||~ISO IR87\rPID|||0001234^^^^PI||x\r";
    let samples = vec![head.as_bytes().to_vec()];
    bolero::check!().with_iterations(CASES).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        decode_within(DOCUMENTS, drawn, &samples, |bytes| {
            if let Ok(checked) = check(Bytes::copy_from_slice(bytes), "0001234") {
                assert_eq!(checked.bytes, bytes);
                assert!(bytes.windows(7).any(|window| window == b"0001234"));
            }
        });
    });
}

target!(
    /// Names of files of the standard storage.
    names,
    vec![b"0001234_20240301_OMP-01_123456789012345_20240301120000000_01_1".to_vec()],
    |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Some(name) = Name::parse(text) else { return };
        let _ = name.day();
        assert!(name.chain().len() <= 128 - 17 && name.chain().starts_with("ssmix2/"));
    }
);

/// The importer's table of participants.
#[test]
fn tables() {
    let samples = vec![
        b"participant,patient,file,date\n4300000000000001,7,,\n4300000000000002,,x/y.pdf,2024-02-29\n".to_vec(),
        b"\"participant\",patient\r\n4300000000000001,\"0,1\"\r\n".to_vec(),
    ];
    // The reader's own buffers.
    let bound = Bound { each: 512, once: 64 << 10 };
    bolero::check!().with_iterations(CASES).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        decode_within(bound, drawn, &samples, |bytes| {
            if let Err(error) = Table::read(bytes) {
                assert!(!error.to_string().contains("43000000000000"), "numbers stay out of errors");
            }
        });
    });
}

target!(
    /// What a node kept of the others' marks.
    kept_marks,
    vec![vec![8, 1], vec![8, 2, 18, 2, 8, 1]],
    |bytes| drop(crate::serve::marks::read_marks(bytes))
);

/// A node's configuration.
#[test]
fn configurations() {
    let samples = vec![
        b"name = \"voter-1\"\nrole = \"voter\"\ndata = \"data\"\nroot_key = { shares = true }\n\
          [listen]\npeers = \"127.0.0.1:7001\"\n[tls]\ncertificate = \"a\"\nprivate_key = \"b\"\nauthorities = \"c\"\n"
            .to_vec(),
        b"root_key = { credential = \"x/y\" }\n[archive]\nplace = \"file:///a\"\nsegment_mib = 0\n".to_vec(),
    ];
    // The parser keeps a description of each key.
    let bound = Bound { each: 2_048, once: 64 << 10 };
    bolero::check!().with_iterations(CASES / 2).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        decode_within(bound, drawn, &samples, |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Err(error) = NodeConfig::parse(text, Path::new("node/config.toml")) {
                assert!(!error.to_string().is_empty());
            }
        });
    });
}

/// What people type: each of these commands with any text in the place of `?`. It is taken or refused.
const TYPED: [&str; 10] = [
    "record put 0043001234567890 ? --class document --as ?",
    "record put 0043001234567890 x --class ? --date ?",
    "record put 0043001234567890 --class document --part ? --authored-at ? --request ?",
    "record get 0043001234567890 ?",
    "record list 0043001234567890 --since ? --until ? --purpose ?",
    "record inbox --since ?",
    "participant show ? --as ?",
    "audit list --since ? --limit ?",
    "erasure list --state ?",
    "?",
];

#[test]
fn arguments() {
    let texts = ["2024-02-29", "2026-04-01T09:30:00+09:00", "body=a,b/c", "00112233445566778899aabbccddeeff", "1h30m"];
    let samples: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).to_vec();
    bolero::check!().with_iterations(CASES / 16).with_max_len(64).for_each(|drawn: &[u8]| {
        let Some((which, drawn)) = drawn.split_first() else { return };
        let text = String::from_utf8_lossy(&kura_fuzz::shaped(drawn, &samples)).into_owned();
        let typed = TYPED[usize::from(*which) % TYPED.len()];
        let words = typed.split(' ').map(|word| if word == "?" { text.clone() } else { word.to_owned() });
        let _ = Cli::try_parse_from(std::iter::once("kura".to_owned()).chain(words));
    });
}

target!(
    /// Times that a node tells are shown, whatever they are.
    moments,
    // Now, and the last hours of the last year that the calendar holds.
    vec![1_711_897_200_000_u64.to_be_bytes().to_vec(), 253_402_300_799_000_u64.to_be_bytes().to_vec()],
    |bytes| {
        let Some(bytes) = bytes.first_chunk() else { return };
        let at_ms = u64::from_be_bytes(*bytes);
        assert_eq!(crate::clock::in_japan(at_ms).is_empty(), at_ms == 0);
    }
);
