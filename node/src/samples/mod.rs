//! Made-up medical records, for the demo, the bench, tests and the compression dictionary.
//!
//! Invariants
//! - Everything is made from a seed by algorithms written out here: the same seed gives the same
//!   samples on every machine. No clock, no file and no other source of randomness is asked.
//! - Nobody is described and no published example is copied: names come from short lists, values
//!   from the seed; only field names, addresses of profiles and code systems are those of FHIR,
//!   JP Core, JP-CLINS, HL7 v2, SS-MIX2, CDA and DICOM.
//! - A [`Sample`]'s words are not in the shipped dictionary, so that a search for them in stored
//!   data finds leaks only (a test holds this).

mod body;
mod cda;
mod context;
mod dicom;
mod fhir;
mod hl7;
mod jis;
mod json;
mod note;
mod random;
mod roster;
pub mod training;
mod vocabulary;

use context::Context;
use roster::Words;

pub use body::Body;
pub use random::Random;
pub use roster::{Facility, Participant, Roster, User};

/// First clinical day of samples, 2023-04-01, in days from 1970-01-01.
pub const CLINICAL_DAY_FIRST: i32 = 19_448;
/// Last clinical day of samples, 2026-03-31, in days from 1970-01-01.
pub const CLINICAL_DAY_LAST: i32 = 20_543;

/// Participants whom [`Generator::sample`] writes about, unless told otherwise.
pub const PARTICIPANTS_DEFAULT: u64 = 200_000;
/// Facilities at which [`Generator::sample`] writes, unless told otherwise.
pub const FACILITIES_DEFAULT: u64 = 1_500;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its form.
    pub kind: Kind,
    /// The record class, as in settings: `referral-letter`, `laboratory-result`, …
    pub class_word: &'static str,
    /// The media type, with the character set where it is not UTF-8 by definition.
    pub media_type: &'static str,
    /// Days from 1970-01-01 in Japan time, [`CLINICAL_DAY_FIRST`] to [`CLINICAL_DAY_LAST`] unless
    /// the caller named the day.
    pub clinical_day: i32,
    /// The facility's id for the document, up to 40 ASCII characters, with 64 random bits.
    pub document_id: String,
    /// The record.
    pub bytes: Vec<u8>,
    /// Distinctive words of the body (names of the patient, the facility, the medicines), for a
    /// search for leaked plaintext. Each stands in `bytes`; in ISO-2022-JP bodies it is the raw
    /// form with its escape sequences that does, and the UTF-8 form comes along.
    pub words: Vec<String>,
}

impl Sample {
    /// The words that stand in `bytes` as they are. Never empty.
    pub fn words_in_body(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str).filter(|word| contains(&self.bytes, word))
    }
}

/// The form of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// FHIR `AllergyIntolerance`, 2 to 5 KB.
    FhirAllergy,
    /// FHIR `Condition`, 3 to 6 KB.
    FhirCondition,
    /// FHIR `Observation` of the laboratory, 3 to 7 KB.
    FhirLaboratory,
    /// FHIR `Bundle` of a day's laboratory results, 10 to 45 KB.
    FhirLaboratoryBundle,
    /// FHIR `MedicationRequest`, 4 to 8 KB.
    FhirPrescription,
    /// FHIR `MedicationDispense`, 4 to 7 KB.
    FhirDispensing,
    /// FHIR document `Bundle` of a referral letter (診療情報提供書), 20 to 75 KB.
    FhirReferral,
    /// FHIR document `Bundle` of a discharge summary (退院時サマリー), 20 to 75 KB.
    FhirDischarge,
    /// HL7 v2 ADT^A08: a patient's master data, about 1 KB.
    Hl7Patient,
    /// HL7 v2 RDE^O11: a prescription, 1 to 4 KB.
    Hl7Prescription,
    /// HL7 v2 ORU^R01: laboratory results, 1 to 4 KB.
    Hl7Laboratory,
    /// HL7 v2 PPR^ZD1: diagnoses, 1 to 3 KB.
    Hl7Problem,
    /// A DICOM image, 33 KB to 992 KB.
    DicomImage,
    /// A CDA health checkup, 8 to 16 KB.
    CdaCheckup,
    /// A care note in plain text, 0.3 to 2 KB.
    CareNote,
}

/// Which kinds are drawn, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// FHIR as JP-CLINS gathers it: about 4.2 KB a body on average.
    Clins,
    /// Everything but images: FHIR, HL7 v2, CDA and notes.
    Documents,
    /// [`Mix::Documents`] with one image in twenty.
    All,
}

const HL7: &str = "x-application/hl7-v2+er7; charset=iso-2022-jp";

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 15] = [
        Kind::FhirAllergy,
        Kind::FhirCondition,
        Kind::FhirLaboratory,
        Kind::FhirLaboratoryBundle,
        Kind::FhirPrescription,
        Kind::FhirDispensing,
        Kind::FhirReferral,
        Kind::FhirDischarge,
        Kind::Hl7Patient,
        Kind::Hl7Prescription,
        Kind::Hl7Laboratory,
        Kind::Hl7Problem,
        Kind::DicomImage,
        Kind::CdaCheckup,
        Kind::CareNote,
    ];

    /// The record class, as in settings.
    pub fn class_word(self) -> &'static str {
        match self {
            Kind::FhirAllergy => "allergy",
            Kind::FhirCondition | Kind::Hl7Patient | Kind::Hl7Problem => "document",
            Kind::FhirLaboratory | Kind::FhirLaboratoryBundle | Kind::Hl7Laboratory => "laboratory-result",
            Kind::FhirPrescription | Kind::Hl7Prescription => "prescription",
            Kind::FhirDispensing => "dispensing",
            Kind::FhirReferral => "referral-letter",
            Kind::FhirDischarge => "discharge-summary",
            Kind::DicomImage => "image",
            Kind::CdaCheckup => "checkup",
            Kind::CareNote => "care-record",
        }
    }

    /// The media type of its bodies.
    pub fn media_type(self) -> &'static str {
        match self {
            Kind::Hl7Patient | Kind::Hl7Prescription | Kind::Hl7Laboratory | Kind::Hl7Problem => HL7,
            Kind::DicomImage => "application/dicom",
            Kind::CdaCheckup => "application/xml",
            Kind::CareNote => "text/plain; charset=utf-8",
            _ => "application/fhir+json",
        }
    }

    /// The kinds of a record class; none if the word is not one of the ten.
    pub fn of_class(class_word: &str) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| kind.class_word() == class_word)
    }

    /// Whether such records come from this kind of facility.
    fn written_at(self, facility_kind: &str) -> bool {
        match self {
            Kind::FhirDispensing => facility_kind == "pharmacy",
            Kind::CareNote => matches!(facility_kind, "care" | "home-nursing" | "community-support"),
            Kind::FhirDischarge => facility_kind == "hospital",
            _ => matches!(facility_kind, "hospital" | "clinic"),
        }
    }
}

impl Mix {
    /// Kinds and their weights.
    fn weights(self) -> &'static [(Kind, u64)] {
        const CLINS: &[(Kind, u64)] = &[
            (Kind::FhirAllergy, 350),
            (Kind::FhirCondition, 260),
            (Kind::FhirLaboratory, 230),
            (Kind::FhirPrescription, 110),
            (Kind::FhirDispensing, 45),
            (Kind::FhirLaboratoryBundle, 4),
            (Kind::FhirReferral, 3),
            (Kind::FhirDischarge, 2),
        ];
        const DOCUMENTS: &[(Kind, u64)] = &[
            (Kind::FhirAllergy, 10),
            (Kind::FhirCondition, 10),
            (Kind::FhirLaboratory, 16),
            (Kind::FhirPrescription, 14),
            (Kind::FhirDispensing, 8),
            (Kind::FhirLaboratoryBundle, 2),
            (Kind::FhirReferral, 2),
            (Kind::FhirDischarge, 1),
            (Kind::Hl7Patient, 4),
            (Kind::Hl7Prescription, 8),
            (Kind::Hl7Laboratory, 10),
            (Kind::Hl7Problem, 3),
            (Kind::CdaCheckup, 2),
            (Kind::CareNote, 10),
        ];
        match self {
            Mix::Clins => CLINS,
            Mix::Documents | Mix::All => DOCUMENTS,
        }
    }

    fn draw(self, random: &mut Random) -> Kind {
        if self == Mix::All && random.chance(5) {
            return Kind::DicomImage;
        }
        let weights = self.weights();
        let mut left = random.below(weights.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in weights {
            if left < *weight {
                return *kind;
            }
            left -= weight;
        }
        weights[0].0
    }
}

/// Makes samples, one after the other.
///
/// Two generators with the same seed and population that are asked the same give the same. The
/// samples are stable between versions only as far as [`training`] needs them to be: changing the
/// text of a form changes what a seed gives, and calls for a new dictionary.
#[derive(Debug, Clone)]
pub struct Generator {
    roster: Roster,
    random: Random,
    participants: u64,
    facilities: u64,
}

impl Generator {
    /// A generator over [`PARTICIPANTS_DEFAULT`] and [`FACILITIES_DEFAULT`].
    pub fn new(seed: u64) -> Generator {
        Generator::with_population(seed, PARTICIPANTS_DEFAULT, FACILITIES_DEFAULT)
    }

    /// A generator over so many participants (at least 1) and facilities (at least 20, so that
    /// every kind of record has a place where it is written).
    pub fn with_population(seed: u64, participants: u64, facilities: u64) -> Generator {
        Generator {
            roster: Roster::new(seed),
            random: Random::keyed(seed, 5, 0),
            participants: participants.max(1),
            facilities: facilities.max(20),
        }
    }

    /// A generator for training: see [`Words::Invented`].
    fn inventing(seed: u64) -> Generator {
        let mut generator = Generator::new(seed);
        generator.roster.words = Words::Invented;
        generator
    }

    /// The people and places that the samples speak of.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The next sample of a mix, about anybody.
    pub fn sample(&mut self, mix: Mix) -> Sample {
        let kind = mix.draw(&mut self.random);
        self.sample_of(kind)
    }

    /// The next sample of a record class, or nothing if the word is not one of the ten.
    pub fn sample_of_class(&mut self, class_word: &str) -> Option<Sample> {
        let kinds: Vec<Kind> = Kind::of_class(class_word).collect();
        if kinds.is_empty() {
            return None;
        }
        let kind = *self.random.pick_ref(&kinds);
        Some(self.sample_of(kind))
    }

    /// The next sample of a kind, about anybody, written where such records are written.
    pub fn sample_of(&mut self, kind: Kind) -> Sample {
        let participant = self.random.below(self.participants);
        let mut index = self.random.below(self.facilities);
        let facility = loop {
            let facility = self.roster.facility(index);
            if kind.written_at(facility.kind_word) {
                break facility;
            }
            // Kinds of facility repeat every twenty indexes, and there are at least as many.
            index = (index + 1) % self.facilities;
        };
        let day = self.random.between(CLINICAL_DAY_FIRST.into(), CLINICAL_DAY_LAST.into()) as i32;
        self.sample_about(kind, participant, &facility, day)
    }

    /// The next sample of a kind, about this participant, from this facility, of this day.
    pub fn sample_about(
        &mut self,
        kind: Kind,
        participant_index: u64,
        facility: &Facility,
        clinical_day: i32,
    ) -> Sample {
        let random = Random::new(self.random.bits());
        let participant = self.roster.participant(participant_index);
        let mut context =
            Context::new(&self.roster, random, participant, participant_index, facility.clone(), clinical_day);
        let document_id = format!("{}-{}-{:016x}", facility.id, context.date().replace('-', ""), context.random.bits());
        let bytes = write(kind, &mut context);
        let words = words(kind, &context, &bytes);
        Sample {
            kind,
            class_word: kind.class_word(),
            media_type: kind.media_type(),
            clinical_day,
            document_id,
            bytes,
            words,
        }
    }

    /// A body of any length, made while it is read.
    pub fn body(&mut self, length: u64, compressible: bool) -> Body {
        Body::new(self.random.bits(), length, compressible)
    }
}

fn write(kind: Kind, context: &mut Context) -> Vec<u8> {
    let json = match kind {
        Kind::FhirAllergy => fhir::allergy(context),
        Kind::FhirCondition => fhir::condition(context),
        Kind::FhirLaboratory => fhir::laboratory(context),
        Kind::FhirLaboratoryBundle => fhir::document::laboratory_collection(context),
        Kind::FhirPrescription => fhir::prescription(context),
        Kind::FhirDispensing => fhir::dispensing(context),
        Kind::FhirReferral => fhir::document::referral(context),
        Kind::FhirDischarge => fhir::document::discharge(context),
        Kind::Hl7Patient => return hl7::patient(context),
        Kind::Hl7Prescription => return hl7::prescription(context),
        Kind::Hl7Laboratory => return hl7::laboratory(context),
        Kind::Hl7Problem => return hl7::problem(context),
        Kind::DicomImage => return dicom::image(context),
        Kind::CdaCheckup => return cda::checkup(context),
        Kind::CareNote => return note::care(context),
    };
    // Some systems send FHIR indented, some without any space.
    let indented = context.random.chance(60);
    json.to_text(indented).into_bytes()
}

/// What a search for leaks looks for: see [`Sample::words`].
fn words(kind: Kind, context: &Context, bytes: &[u8]) -> Vec<String> {
    let person = &context.participant;
    let name = person.name();
    let mut forms = vec![(
        name,
        match kind {
            Kind::CdaCheckup => format!("{}</family><given>{}", person.family, person.given),
            Kind::DicomImage => format!("{}^{}", person.family, person.given),
            _ if kind.media_type() == HL7 => format!("{}^{}", jis::encode(&person.family), jis::encode(&person.given)),
            _ => person.name(),
        },
    )];
    for word in std::iter::once(&context.facility.name).chain(&context.drugs) {
        let raw = if kind.media_type() == HL7 { jis::encode(word) } else { word.clone() };
        forms.push((word.clone(), raw));
    }
    let mut words = Vec::new();
    for (plain, raw) in forms {
        if !contains(bytes, &raw) || words.contains(&raw) {
            continue;
        }
        if plain != raw && kind.media_type() == HL7 {
            words.push(plain);
        }
        words.push(raw);
    }
    words
}

/// Whether the word stands in the body: all of it if it is text, its first 4 KB if not.
fn contains(bytes: &[u8], word: &str) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.contains(word),
        Err(_) => bytes[..bytes.len().min(4096)].windows(word.len()).any(|window| window == word.as_bytes()),
    }
}

#[cfg(test)]
mod tests;
