//! What the search for leaks looks for.
//!
//! Invariant: only what cannot be in a file by chance or by right: at least
//! [`PATTERN_BYTES_MIN`] bytes, and not part of the compression dictionary, which is shipped in the
//! clear and was trained on made-up samples only.

use std::collections::BTreeSet;

use kura_cluster::seal::Dictionary;

use super::leak::{PATTERN_BYTES_MIN, Pattern};

/// Most words taken out of records, so that the search stays fast whatever is written.
const RECORD_WORDS_MAX: usize = 3_000;
/// Most words taken out of one record.
const WORDS_A_RECORD: usize = 6;
/// Shortest run of Japanese characters taken for a word, in characters.
const JAPANESE_CHARACTERS_MIN: usize = 5;
/// Shortest run of letters and digits taken for an identifier, in characters.
const LATIN_CHARACTERS_MIN: usize = 12;
/// Shortest run of two-byte characters in ISO-2022-JP, in bytes.
const JIS_BYTES_MIN: usize = 10;
/// Length of a stretch taken out of the middle of a body.
const STRETCH_BYTES: usize = 24;
/// How many different bytes a stretch must have to be distinctive.
const STRETCH_VARIETY_MIN: usize = 12;

/// Patterns, gathered as they are made.
#[derive(Debug, Default)]
pub(super) struct Words {
    patterns: BTreeSet<Pattern>,
    from_records: usize,
}

impl Words {
    /// An id or a name that was given to the cluster.
    pub fn add(&mut self, what: &'static str, text: impl AsRef<[u8]>) {
        self.patterns.insert(Pattern { what, bytes: text.as_ref().to_vec() });
    }

    /// A word of a record, if it is distinctive.
    pub fn add_word(&mut self, word: &[u8]) {
        if word.len() < PATTERN_BYTES_MIN || self.from_records >= RECORD_WORDS_MAX || in_dictionary(word) {
            return;
        }
        if self.patterns.insert(Pattern { what: "word of a record", bytes: word.to_vec() }) {
            self.from_records += 1;
        }
    }

    /// Distinctive words of any body.
    pub fn add_body(&mut self, body: &[u8]) {
        for word in words(body) {
            self.add_word(&word);
        }
    }

    pub fn into_patterns(self) -> Vec<Pattern> {
        self.patterns.into_iter().collect()
    }
}

fn in_dictionary(word: &[u8]) -> bool {
    Dictionary::shipped().is_some_and(|dictionary| dictionary.bytes().windows(word.len()).any(|window| window == word))
}

/// Words of a text (UTF-8 or ISO-2022-JP), and a stretch out of the middle of anything.
fn words(body: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = match std::str::from_utf8(body) {
        Ok(text) if !text.contains("\u{1b}$B") => runs(text),
        _ => jis_runs(body),
    };
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words.truncate(WORDS_A_RECORD);
    words.extend(stretch(body));
    words
}

fn runs(text: &str) -> Vec<Vec<u8>> {
    let japanese = |c: char| matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
    let long = |run: &&str| run.chars().count() >= JAPANESE_CHARACTERS_MIN;
    let mut found: Vec<Vec<u8>> =
        text.split(|c| !japanese(c)).filter(long).take(200).map(|run| run.as_bytes().to_vec()).collect();
    // Latin words are often those of the format; an identifier mixes letters and digits.
    let identifier = |run: &&str| {
        run.len() >= LATIN_CHARACTERS_MIN
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let latin = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(identifier).take(200);
    found.extend(latin.map(|run| run.as_bytes().to_vec()));
    found
}

fn jis_runs(body: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = body;
    while let Some(start) = position(rest, b"\x1b$B") {
        rest = &rest[start + 3..];
        let end = rest.iter().position(|byte| *byte == 0x1b).unwrap_or(rest.len());
        if end >= JIS_BYTES_MIN && found.len() < 200 {
            found.push(rest[..end].to_vec());
        }
        rest = &rest[end..];
    }
    found
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn stretch(body: &[u8]) -> Option<Vec<u8>> {
    let middle = body.len() / 2;
    let stretch = body.get(middle..middle + STRETCH_BYTES)?;
    let variety: BTreeSet<u8> = stretch.iter().copied().collect();
    (variety.len() >= STRETCH_VARIETY_MIN).then(|| stretch.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_from_texts_of_both_encodings_and_from_noise() {
        let found = words("患者氏名は山本花子, id Abdul218Harris79, short".as_bytes());
        assert!(found.contains(&"患者氏名は山本花子".as_bytes().to_vec()));
        assert!(found.contains(&b"Abdul218Harris79".to_vec()));
        let found = words(b"PID|\x1b$B;3ED B@O:ab\x1b(B|x");
        assert!(found.contains(&b";3ED B@O:ab".to_vec()), "{found:?}");
        let noise: Vec<u8> = (0..=255).collect();
        assert_eq!(words(&noise), [noise[128..152].to_vec()]);
        assert!(words(&[0; 1000]).is_empty() && words(b"").is_empty());
    }

    #[test]
    fn words_of_records_are_bounded_and_short_ones_left_out() {
        let mut all = Words::default();
        for i in 0..RECORD_WORDS_MAX + 10 {
            all.add_word(format!("word-{i:08}").as_bytes());
        }
        all.add_word(b"short");
        assert_eq!(all.into_patterns().len(), RECORD_WORDS_MAX);
    }
}
