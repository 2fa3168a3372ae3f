//! Who and where: participants, facilities, users and facilities' own patient ids, each made from a
//! number. Nothing is kept, so a roster of a million people costs nothing.
//!
//! Invariants
//! - The same seed and index give the same person or place, in whatever order they are asked for.
//! - Different indexes give different participant numbers, and within one facility different local
//!   ids: both are permutations of the index.

use super::random::Random;
use super::vocabulary::{
    DRUG_NAMES, DRUG_UNITS, Drug, FACILITY_KINDS, FAMILY_NAMES, GIVEN_NAMES_FEMALE, GIVEN_NAMES_MALE, PLACES,
    QUALIFIERS,
};

/// Where the names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// From the vocabulary, as a reader expects.
    Listed,
    /// Strung together from random characters. What a dictionary is trained on: a name that stands
    /// in no other sample cannot become part of the dictionary, which is stored in the clear.
    Invented,
}

/// Draws people, places and local ids from indexes.
#[derive(Debug, Clone)]
pub struct Roster {
    pub(super) seed: u64,
    pub(super) words: Words,
}

/// A person whose records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// 16 digits, the last a check digit. The first fifteen are a permutation of the index.
    pub number: String,
    /// Family name.
    pub family: String,
    /// Given name.
    pub given: String,
    /// Family name in katakana.
    pub family_kana: String,
    /// Given name in katakana.
    pub given_kana: String,
    /// Days from 1970-01-01 to the day of birth.
    pub birth_day: i32,
    /// Whether a woman.
    pub female: bool,
}

impl Participant {
    /// Family and given name, one space between.
    pub fn name(&self) -> String {
        format!("{} {}", self.family, self.given)
    }
}

/// A place of care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facility {
    /// Its position in the roster.
    pub index: u64,
    /// `F` and the index, at least four digits: `F0012`.
    pub id: String,
    /// Japanese name; two facilities can have the same one, as outside.
    pub name: String,
    /// Kind of facility, as in settings.
    pub kind_word: &'static str,
    /// Access line, as in settings.
    pub access_line_word: &'static str,
    /// 10 digits: prefecture, fee table, number.
    pub institution_number: String,
    /// Japanese address.
    pub address: String,
}

/// Someone who works at a facility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The facility's id, `U`, two digits at least: `F0012-U03`.
    pub id: String,
    /// Family name.
    pub family: String,
    /// Given name.
    pub given: String,
    /// Profession, as in settings.
    pub profession_word: &'static str,
}

impl User {
    /// Family and given name, one space between.
    pub fn name(&self) -> String {
        format!("{} {}", self.family, self.given)
    }
}

/// Purposes of keyed random streams.
const PARTICIPANT: u64 = 1;
const FACILITY: u64 = 2;
const USER: u64 = 3;

/// Steps from one index's number to the next one's. Prime to 10, so that they permute; large, so
/// that neighbours spread over the whole span.
const PARTICIPANT_STEP: u128 = 618_033_988_749_897;
const LOCAL_ID_STEP: u128 = 48_271_003;

/// How kinds of facility follow each other: the first eight indexes show all seven kinds.
const KIND_CYCLE: [usize; 20] = [0, 1, 2, 4, 5, 3, 6, 1, 2, 1, 1, 2, 1, 4, 1, 2, 1, 3, 1, 2];

impl Roster {
    /// The roster of a seed.
    pub fn new(seed: u64) -> Roster {
        Roster { seed, words: Words::Listed }
    }

    /// The participant of an index below 10^15.
    pub fn participant(&self, index: u64) -> Participant {
        let mut random = Random::keyed(self.seed, PARTICIPANT, index);
        let female = random.chance(52);
        let (family, given, family_kana, given_kana) = self.person(&mut random, female);
        Participant {
            number: participant_number(self.seed, index),
            family,
            given,
            family_kana,
            given_kana,
            // 1928 to 2018, the old more often than the young.
            birth_day: random.between(-15_300, 17_500).min(random.between(-15_300, 17_500)) as i32,
            female,
        }
    }

    /// The facility of an index.
    pub fn facility(&self, index: u64) -> Facility {
        let mut random = Random::keyed(self.seed, FACILITY, index);
        let kind = KIND_CYCLE[(index % KIND_CYCLE.len() as u64) as usize];
        let (kind_word, ending, access_line_word) = FACILITY_KINDS[kind];
        let (place, qualifier) = match self.words {
            Words::Listed => (random.pick(PLACES).to_owned(), random.pick(QUALIFIERS).to_owned()),
            Words::Invented => (invented_kanji(&mut random, 3), invented_kanji(&mut random, 2)),
        };
        let fee_table = match kind_word {
            "dental-clinic" => 3,
            "pharmacy" => 4,
            _ => 1,
        };
        Facility {
            index,
            id: format!("F{index:04}"),
            address: format!(
                "{place}市{qualifier}{}丁目{}番{}号",
                random.between(1, 6),
                random.between(1, 30),
                random.between(1, 20)
            ),
            name: format!("{place}{qualifier}{ending}"),
            kind_word,
            access_line_word,
            institution_number: format!("13{fee_table}{:07}", random.below(10_000_000)),
        }
    }

    /// The user of an index at a facility. User 0 is one who writes records there: a physician, a
    /// dentist, a pharmacist, a nurse or a care worker, by the kind of the facility.
    pub fn user(&self, facility: &Facility, index: u64) -> User {
        let mut random = Random::keyed(self.seed, USER, facility.index.wrapping_mul(1_000_003).wrapping_add(index));
        let professions: &[&'static str] = match facility.kind_word {
            "hospital" => &["physician", "nurse", "pharmacist", "technician", "therapist", "physician", "clerk"],
            "clinic" => &["physician", "nurse", "clerk"],
            "dental-clinic" => &["dentist", "clerk"],
            "pharmacy" => &["pharmacist", "clerk"],
            "home-nursing" => &["nurse", "therapist", "clerk"],
            _ => &["care-worker", "nurse", "clerk"],
        };
        let female = random.chance(50);
        let (family, given, ..) = self.person(&mut random, female);
        User {
            id: format!("{}-U{index:02}", facility.id),
            family,
            given,
            profession_word: professions[(index % professions.len() as u64) as usize],
        }
    }

    /// A facility's own id of a participant: 8 digits, different for different participants
    /// (indexes below 10^8).
    pub fn local_id(&self, facility: &Facility, participant_index: u64) -> String {
        let offset = Random::keyed(self.seed, FACILITY, facility.index).bits() % 100_000_000;
        format!("{:08}", (u128::from(participant_index) * LOCAL_ID_STEP + u128::from(offset)) % 100_000_000)
    }

    fn person(&self, random: &mut Random, female: bool) -> (String, String, String, String) {
        if self.words == Words::Invented {
            let kana = (invented_katakana(random, 4), invented_katakana(random, 3));
            return (invented_kanji(random, 2), invented_kanji(random, 2), kana.0, kana.1);
        }
        let family = random.pick_ref(FAMILY_NAMES);
        let given = random.pick_ref(if female { GIVEN_NAMES_FEMALE } else { GIVEN_NAMES_MALE });
        (family.0.into(), given.0.into(), family.1.into(), given.1.into())
    }

    /// A medicine, the same one for the same draw.
    pub(super) fn drug(&self, random: &mut Random) -> Drug {
        if self.words == Words::Invented {
            return Drug {
                name: format!(
                    "{}錠{}ｍｇ",
                    invented_katakana(random, 7),
                    random.pick(&["１", "５", "１０", "２５", "１００"])
                ),
                yj: format!("{}F{}", random.digits(7), random.digits(4)),
                hot9: random.digits(9),
                unit: DRUG_UNITS[0],
            };
        }
        let index = random.below(DRUG_NAMES.len() as u64);
        let unit = if DRUG_NAMES[index as usize].contains("カプセル") { DRUG_UNITS[1] } else { DRUG_UNITS[0] };
        // The codes belong to the medicine, not to the roster.
        let mut codes = Random::keyed(0, 4, index);
        Drug {
            name: DRUG_NAMES[index as usize].into(),
            yj: format!("{}F{}", codes.digits(7), codes.digits(4)),
            hot9: format!("1{}", codes.digits(8)),
            unit,
        }
    }

    /// A few sentences out of a list; `#` in them becomes a number of one digit.
    pub(super) fn sentences(&self, random: &mut Random, list: &[&str], count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            if self.words == Words::Invented {
                for _ in 0..random.between(6, 14) {
                    let (kanji, kana) = (random.between(1, 3), random.between(1, 4));
                    text += &invented_kanji(random, kanji as usize);
                    text.extend((0..kana).map(|_| char::from_u32(0x3042 + random.below(80) as u32).unwrap_or('の')));
                }
                text.push('。');
                continue;
            }
            for c in random.pick(list).chars() {
                match c {
                    '#' => text.push(char::from_u32('１' as u32 + random.below(9) as u32).unwrap_or('１')),
                    c => text.push(c),
                }
            }
        }
        text
    }
}

/// Fifteen digits that permute the index, and a check digit (weights 1 and 2 alternately, mod 10).
fn participant_number(seed: u64, index: u64) -> String {
    const SPAN: u128 = 1_000_000_000_000_000;
    let body = (u128::from(index) * PARTICIPANT_STEP + u128::from(Random::new(seed).bits())) % SPAN;
    let digits = format!("{body:015}");
    let sum: u32 = digits.bytes().enumerate().map(|(i, b)| u32::from(b - b'0') * (1 + i as u32 % 2)).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

fn invented_kanji(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| super::jis::KANJI[random.below(super::jis::KANJI.len() as u64) as usize].0).collect()
}

fn invented_katakana(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from_u32(0x30a2 + random.below(80) as u32).unwrap_or('ア')).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_sixteen_digits_and_never_repeat() {
        let roster = Roster::new(5);
        let numbers: BTreeSet<String> = (0..20_000).map(|i| roster.participant(i).number).collect();
        assert_eq!(numbers.len(), 20_000);
        assert!(numbers.iter().all(|n| n.len() == 16 && n.bytes().all(|b| b.is_ascii_digit())));
    }

    #[test]
    fn steps_are_prime_to_ten() {
        assert!([PARTICIPANT_STEP, LOCAL_ID_STEP].iter().all(|step| step % 2 != 0 && step % 5 != 0));
    }

    #[test]
    fn local_ids_never_repeat_within_a_facility() {
        let roster = Roster::new(5);
        let facility = roster.facility(12);
        let ids: BTreeSet<String> = (0..20_000).map(|i| roster.local_id(&facility, i)).collect();
        assert_eq!(ids.len(), 20_000);
        assert!(ids.iter().all(|id| id.len() == 8));
        assert_ne!(roster.local_id(&facility, 1), roster.local_id(&roster.facility(13), 1));
    }

    #[test]
    fn the_first_facilities_show_every_kind() {
        let roster = Roster::new(9);
        let kinds: BTreeSet<&str> = (0..8).map(|i| roster.facility(i).kind_word).collect();
        assert_eq!(kinds.len(), FACILITY_KINDS.len());
        assert_eq!(roster.facility(12).id, "F0012");
        assert_eq!(roster.facility(0).kind_word, "hospital");
        assert_eq!(roster.user(&roster.facility(0), 0).profession_word, "physician");
    }

    #[test]
    fn the_same_index_is_the_same_person() {
        let (a, b) = (Roster::new(1), Roster::new(1));
        a.participant(3);
        assert_eq!(a.participant(7), b.participant(7));
        assert_ne!(a.participant(7), Roster::new(2).participant(7));
        assert_eq!(a.user(&a.facility(4), 2), b.user(&b.facility(4), 2));
    }
}
