//! ISO-2022-JP, as Japanese HL7 v2 messages are written: ASCII and JIS X 0208, each stretch of the
//! latter between `ESC $ B` and `ESC ( B` (RFC 1468).
//!
//! Invariants
//! - What comes out is 7-bit, and ends in ASCII.
//! - Kana, letters and digits are computed; other characters stand in a table, which holds what
//!   the samples' vocabulary uses and no more. A character in neither becomes the geta mark (〓),
//!   the customary stand-in.

mod table;

pub(super) use table::KANJI;

/// The escape sequence that leads to JIS X 0208-1983.
pub const TO_KANJI: &str = "\u{1b}$B";
/// The escape sequence that leads back to ASCII.
pub const TO_ASCII: &str = "\u{1b}(B";
/// 〓
const GETA: u16 = 0x222e;

/// The text in ISO-2022-JP. All of its bytes are below 0x80, so it is a `String` again.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut in_kanji = false;
    for c in text.chars() {
        if c.is_ascii() {
            if std::mem::take(&mut in_kanji) {
                out.push_str(TO_ASCII);
            }
            out.push(c);
        } else {
            if !std::mem::replace(&mut in_kanji, true) {
                out.push_str(TO_KANJI);
            }
            let [row, cell] = code(c).unwrap_or(GETA).to_be_bytes();
            out.push(char::from(row));
            out.push(char::from(cell));
        }
    }
    if in_kanji {
        out.push_str(TO_ASCII);
    }
    out
}

/// The JIS X 0208 code of a character: row and cell, each from 0x21 to 0x7e.
pub(super) fn code(c: char) -> Option<u16> {
    let point = c as u32;
    let computed = match c {
        'ぁ'..='ん' => 0x2421 + point - 'ぁ' as u32,
        'ァ'..='ヶ' => 0x2521 + point - 'ァ' as u32,
        '０'..='９' => 0x2330 + point - '０' as u32,
        'Ａ'..='Ｚ' => 0x2341 + point - 'Ａ' as u32,
        'ａ'..='ｚ' => 0x2361 + point - 'ａ' as u32,
        _ => return KANJI.binary_search_by_key(&c, |entry| entry.0).ok().map(|at| KANJI[at].1),
    };
    u16::try_from(computed).ok()
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::*;
    use super::*;

    #[test]
    fn known_text_has_its_known_bytes() {
        assert_eq!(encode("PID|1||竹内^タケシ|"), "PID|1||\u{1b}$BC]Fb\u{1b}(B^\u{1b}$B%?%1%7\u{1b}(B|");
        assert_eq!(encode("ascii"), "ascii");
        assert_eq!(encode("１"), "\u{1b}$B#1\u{1b}(B");
        assert_eq!(encode("\u{1f600}"), "\u{1b}$B\".\u{1b}(B");
    }

    #[test]
    fn the_table_is_sorted_and_within_the_standard() {
        assert!(KANJI.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(KANJI.iter().all(|(_, code)| code.to_be_bytes().iter().all(|b| (0x21..=0x7e).contains(b))));
    }

    #[test]
    fn the_whole_vocabulary_can_be_written() {
        let mut all: Vec<&str> = Vec::new();
        for names in [FAMILY_NAMES, GIVEN_NAMES_FEMALE, GIVEN_NAMES_MALE, DEPARTMENTS] {
            all.extend(names.iter().flat_map(|pair| [pair.0, pair.1]));
        }
        for list in [PLACES, QUALIFIERS, DRUG_NAMES, CLINICAL_SENTENCES, CARE_SENTENCES] {
            all.extend(list);
        }
        all.extend(FACILITY_KINDS.iter().map(|kind| kind.1));
        all.extend(DRUG_UNITS.iter().map(|unit| unit.1));
        all.extend(USAGES.iter().map(|usage| usage.1));
        all.extend(TESTS.iter().flat_map(|test| [test.1, test.2, test.3]));
        all.extend(CONDITIONS.iter().map(|condition| condition.3));
        all.extend(ALLERGENS.iter().flat_map(|allergen| [allergen.1, allergen.4]));
        let missing: String = all.concat().chars().filter(|c| !c.is_ascii() && code(*c).is_none()).collect();
        assert_eq!(missing, "");
    }
}
