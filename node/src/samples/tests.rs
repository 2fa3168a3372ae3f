use std::collections::BTreeMap;

use super::*;

fn sizes(mix: Mix, count: usize) -> Vec<usize> {
    let mut generator = Generator::new(77);
    (0..count).map(|_| generator.sample(mix).bytes.len()).collect()
}

#[test]
fn the_same_seed_gives_the_same_samples() {
    let draw = |seed| {
        let mut generator = Generator::new(seed);
        (0..60).map(|_| generator.sample(Mix::All)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_clins_body_has_four_kilobytes_on_average() {
    let sizes = sizes(Mix::Clins, 3000);
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((3_900..4_600).contains(&mean), "mean {mean}");
    assert!(
        sizes.iter().all(|size| (1_000..90_000).contains(size)),
        "{:?} to {:?}",
        sizes.iter().min(),
        sizes.iter().max()
    );
}

#[test]
fn every_kind_stays_within_its_bounds() {
    let bounds = |kind| match kind {
        Kind::FhirReferral | Kind::FhirDischarge => 15_000..80_000,
        Kind::FhirLaboratoryBundle => 8_000..50_000,
        Kind::DicomImage => 32_000..1 << 20,
        Kind::CdaCheckup => 6_000..25_000,
        Kind::CareNote => 300..8_000,
        Kind::Hl7Patient | Kind::Hl7Prescription | Kind::Hl7Laboratory | Kind::Hl7Problem => 500..8_000,
        _ => 1_000..10_000,
    };
    let mut generator = Generator::new(8);
    for kind in Kind::ALL {
        for _ in 0..30 {
            let length = generator.sample_of(kind).bytes.len();
            assert!(bounds(kind).contains(&length), "{kind:?}: {length}");
        }
    }
}

#[test]
fn every_mix_draws_what_it_says() {
    let mut generator = Generator::new(3);
    let mut seen: BTreeMap<Kind, usize> = BTreeMap::new();
    for _ in 0..2000 {
        *seen.entry(generator.sample(Mix::All).kind).or_default() += 1;
    }
    assert_eq!(seen.len(), Kind::ALL.len());
    assert!((60..140).contains(&seen[&Kind::DicomImage]));
    assert!((0..500).all(|_| generator.sample(Mix::Documents).kind != Kind::DicomImage));
}

#[test]
fn all_ten_classes_are_made_and_only_those() {
    let mut generator = Generator::new(3);
    let classes = [
        "referral-letter",
        "discharge-summary",
        "laboratory-result",
        "prescription",
        "dispensing",
        "image",
        "allergy",
        "care-record",
        "checkup",
        "document",
    ];
    for class in classes {
        assert_eq!(generator.sample_of_class(class).unwrap().class_word, class);
    }
    assert!(generator.sample_of_class("personal").is_none());
}

#[test]
fn words_stand_in_their_bodies() {
    let mut generator = Generator::new(21);
    for kind in Kind::ALL {
        for _ in 0..40 {
            let sample = generator.sample_of(kind);
            let found = sample.words_in_body().count();
            let expected = if sample.media_type == HL7 { sample.words.len() / 2 } else { sample.words.len() };
            assert_eq!(found, expected, "{kind:?}: {:?}", sample.words);
            assert!(found >= 1, "{kind:?}");
            assert!(sample.words.iter().all(|word| word.len() >= 6));
        }
    }
}

#[test]
fn a_sample_about_someone_names_them() {
    let mut generator = Generator::new(4);
    let facility = generator.roster().facility(0);
    let person = generator.roster().participant(99);
    let sample = generator.sample_about(Kind::FhirReferral, 99, &facility, 20_000);
    let text = String::from_utf8(sample.bytes).unwrap();
    assert!(text.contains(&person.name()) && text.contains(&facility.name));
    assert!(text.contains(&generator.roster().local_id(&facility, 99)));
    assert!(text.contains("2024-10-04"));
    assert_eq!(sample.clinical_day, 20_000);
    assert!(sample.document_id.starts_with("F0000-20241004-"));
}

#[test]
fn fhir_bodies_are_json_of_their_type() {
    let mut generator = Generator::new(6);
    for (kind, name) in [
        (Kind::FhirAllergy, "AllergyIntolerance"),
        (Kind::FhirCondition, "Condition"),
        (Kind::FhirLaboratory, "Observation"),
        (Kind::FhirLaboratoryBundle, "Bundle"),
        (Kind::FhirPrescription, "MedicationRequest"),
        (Kind::FhirDispensing, "MedicationDispense"),
        (Kind::FhirReferral, "Bundle"),
        (Kind::FhirDischarge, "Bundle"),
    ] {
        for _ in 0..20 {
            let json: serde_json::Value = serde_json::from_slice(&generator.sample_of(kind).bytes).unwrap();
            assert_eq!(json["resourceType"], name);
        }
    }
}

#[test]
fn a_documents_references_point_into_it() {
    let mut generator = Generator::new(6);
    let json: serde_json::Value = serde_json::from_slice(&generator.sample_of(Kind::FhirReferral).bytes).unwrap();
    let entries = json["entry"].as_array().unwrap();
    assert_eq!(entries[0]["resource"]["resourceType"], "Composition");
    let text = json.to_string();
    let targets: Vec<&str> = entries.iter().map(|entry| entry["fullUrl"].as_str().unwrap()).collect();
    let references: Vec<&str> = text.split("\"reference\":\"urn:uuid:").skip(1).map(|rest| &rest[..36]).collect();
    assert!(references.len() >= 8);
    assert!(references.iter().all(|uuid| targets.iter().any(|target| target.ends_with(uuid))));
}

/// Walks ISO-2022-JP: escapes alternate, kanji come in pairs of printable bytes, lines end in ASCII.
fn check_iso_2022_jp(bytes: &[u8]) {
    let (mut at, mut kanji, mut runs) = (0, false, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [0x1b, b'$', b'B', ..] => {
                assert!(!kanji, "second escape to kanji at {at}");
                (kanji, at, runs) = (true, at + 3, runs + 1);
            }
            [0x1b, b'(', b'B', ..] => {
                assert!(kanji, "second escape to ASCII at {at}");
                (kanji, at) = (false, at + 3);
            }
            [row @ 0x21..=0x7e, 0x21..=0x7e, ..] if kanji => {
                assert!(*row <= 0x74, "no such row at {at}");
                at += 2;
            }
            [b'\r' | 0x20..=0x7e, ..] if !kanji => at += 1,
            rest => panic!("byte {:#x} at {at}", rest[0]),
        }
    }
    assert!(!kanji && runs > 4);
}

#[test]
fn hl7_bodies_are_iso_2022_jp_in_segments() {
    let mut generator = Generator::new(11);
    for (kind, event) in [
        (Kind::Hl7Patient, "ADT^A08^"),
        (Kind::Hl7Prescription, "RDE^O11^"),
        (Kind::Hl7Laboratory, "ORU^R01^"),
        (Kind::Hl7Problem, "PPR^ZD1^"),
    ] {
        for _ in 0..50 {
            let bytes = generator.sample_of(kind).bytes;
            check_iso_2022_jp(&bytes);
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.starts_with("MSH|^~\\&|") && text.ends_with('\r') && !text.contains('\n'));
            assert!(text.split('|').nth(8).unwrap().starts_with(event));
            // 〓, the stand-in for characters that the table lacks.
            assert!(!text.contains("\"."), "a character is missing in the table");
            let segments: Vec<&str> = text.split_terminator('\r').collect();
            assert!(
                segments.iter().all(|s| s.as_bytes()[..3].iter().all(u8::is_ascii_alphanumeric) && &s[3..4] == "|")
            );
        }
    }
}

#[test]
fn an_image_is_a_dicom_file_to_its_last_byte() {
    let mut generator = Generator::new(12);
    let bytes = generator.sample_of(Kind::DicomImage).bytes;
    assert_eq!(&bytes[128..132], b"DICM");
    let (mut at, mut last, mut tags) = (132, (0, 0), Vec::new());
    while at < bytes.len() {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let tag = (u16_at(at), u16_at(at + 2));
        assert!(tag > last, "{tag:x?} after {last:x?}");
        let (start, length) = match &bytes[at + 4..at + 6] {
            b"OB" | b"OW" => (at + 12, u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize),
            _ => (at + 8, usize::from(u16_at(at + 6))),
        };
        assert_eq!(length % 2, 0);
        tags.push((tag, length));
        (at, last) = (start + length, tag);
    }
    assert_eq!(at, bytes.len());
    assert_eq!(tags.last().unwrap().0, (0x7fe0, 0x10));
    let side =
        u16::from_le_bytes(bytes[bytes.len() - tags.last().unwrap().1 - 12 - 6 * 10 + 8..][..2].try_into().unwrap());
    assert_eq!(usize::from(side).pow(2) * 2, tags.last().unwrap().1);
}

#[test]
fn clinical_days_stay_in_their_range() {
    let mut generator = Generator::new(2);
    assert!(
        (0..300).all(|_| (CLINICAL_DAY_FIRST..=CLINICAL_DAY_LAST).contains(&generator.sample(Mix::Clins).clinical_day))
    );
    assert_eq!(context::date(CLINICAL_DAY_FIRST), "2023-04-01");
    assert_eq!(context::date(CLINICAL_DAY_LAST), "2026-03-31");
}
