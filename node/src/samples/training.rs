//! The recipe of the shipped compression dictionary (`cluster/dictionaries/records-1.zdict`).
//!
//! Invariants
//! - Samples for training carry invented names, medicines and sentences, each in one sample only:
//!   the dictionary is stored in the clear and holds structure and common terms, nothing else.
//! - The recipe is frozen with the dictionary: stored blocks name it by its SHA-256. Whoever
//!   changes the forms of samples, the recipe or zstd trains `records-2.zdict` and keeps this one.

use super::{Generator, Kind};

/// Longest dictionary. A longer one gains little: on bodies of other origin, nothing.
pub const DICTIONARY_BYTES_MAX: usize = 32 * 1024;

/// SHA-256 of `records-1.zdict`, in hexadecimal.
pub const RECORDS_1_SHA256: &str = "7d1d77338af8a1cf546fdbf45afd4bcbc69472d09e561bb57e585e45c1f0ccc4";

/// How many samples of which kind: much small FHIR and HL7, which gain the most; few of the long
/// documents, which are made of the same resources.
const RECIPE: &[(Kind, usize)] = &[
    (Kind::FhirAllergy, 220),
    (Kind::FhirCondition, 220),
    (Kind::FhirLaboratory, 260),
    (Kind::FhirPrescription, 300),
    (Kind::FhirDispensing, 120),
    (Kind::FhirReferral, 25),
    (Kind::FhirDischarge, 15),
    (Kind::FhirLaboratoryBundle, 10),
    (Kind::Hl7Patient, 90),
    (Kind::Hl7Prescription, 120),
    (Kind::Hl7Laboratory, 120),
    (Kind::Hl7Problem, 80),
    (Kind::CdaCheckup, 40),
];

/// The bodies that the dictionary is trained on, about 9 MB.
pub fn training_set() -> Vec<Vec<u8>> {
    let mut generator = Generator::inventing(1);
    let mut bodies = Vec::new();
    // Round by round, so that the kinds are mixed.
    for round in 0..RECIPE.iter().map(|(_, count)| *count).max().unwrap_or_default() {
        for (kind, count) in RECIPE {
            if round < *count {
                bodies.push(generator.sample_of(*kind).bytes);
            }
        }
    }
    bodies
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::vocabulary::{DRUG_NAMES, FAMILY_NAMES, PLACES};
    use super::*;
    use crate::samples::Mix;

    const SHIPPED: &[u8] = include_bytes!("../../../cluster/dictionaries/records-1.zdict");

    fn compressed(bodies: &[Vec<u8>], dictionary: &[u8]) -> usize {
        let mut compressor = zstd::bulk::Compressor::with_dictionary(3, dictionary).unwrap();
        bodies.iter().map(|body| compressor.compress(body).unwrap().len()).sum()
    }

    #[test]
    fn the_shipped_dictionary_has_its_name() {
        assert_eq!(kura_cluster::hexadecimal(Sha256::digest(SHIPPED)), RECORDS_1_SHA256);
        assert!(SHIPPED.len() <= DICTIONARY_BYTES_MAX);
    }

    #[test]
    fn training_again_gives_the_shipped_dictionary() {
        let trained = zstd::dict::from_samples(&training_set(), DICTIONARY_BYTES_MAX).unwrap();
        assert!(trained == SHIPPED, "forms, recipe or zstd changed: see this module's invariants");
    }

    #[test]
    fn the_dictionary_holds_no_word_of_any_sample() {
        let holds = |word: &str| SHIPPED.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(holds("http://jpfhir.jp/fhir/"), "the search itself finds nothing");
        for word in DRUG_NAMES.iter().chain(PLACES).copied().chain(FAMILY_NAMES.iter().map(|name| name.0)) {
            assert!(!holds(word), "{word}");
        }
        let mut generator = Generator::new(99);
        for _ in 0..300 {
            let sample = generator.sample(Mix::Documents);
            assert!(sample.words.iter().all(|word| !holds(word)), "{:?}: {:?}", sample.kind, sample.words);
        }
    }

    #[test]
    fn the_dictionary_more_than_halves_small_bodies() {
        let mut generator = Generator::new(99);
        let bodies: Vec<Vec<u8>> = (0..300).map(|_| generator.sample(Mix::Clins).bytes).collect();
        let (with, without) = (compressed(&bodies, SHIPPED), compressed(&bodies, b""));
        assert!(with * 2 < without, "{with} against {without}");
    }
}
